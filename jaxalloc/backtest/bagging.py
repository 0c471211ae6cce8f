"""Bagged portfolios of a backtest: of each window or split the mean of the portfolios of its resamples.

The window's own clusters say which assets lead, what the effective number of bets is, and whether the mean, which is
within the caps of every resample's clusters, exceeds the cap of these.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from jaxalloc.arguments.words import counted
from jaxalloc.backtest.plan import WalkPlan
from jaxalloc.backtest.schedule import Schedule
from jaxalloc.portfolios.means import over_cap
from jaxalloc.settings.config import AllocationConfig
from jaxalloc.settings.sweep import Sweep
from jaxalloc.studies.bags import Bags
from jaxalloc.studies.measures import effective_bets
from jaxalloc.studies.risk import Universe, risks_of


class Bagged(NamedTuple):
    """The bagged portfolios of the windows of the panel as it happened, or of the splits of a cross-validation.

    There are G points, P profiles, J windows or splits, N assets.

    Attributes:
        mean: (G, P, J, N) mean weights over the valid resamples; NaN where no resample, or not the window, is valid.
        deviation: (G, P, J, N) their standard deviation over the resamples (divisor n - 1).
        valid: (G, J) valid resamples.
        over_cap: (G, P, J) bool, whether a cluster of the window's own has more than its cap.
    """

    mean: np.ndarray
    deviation: np.ndarray
    valid: np.ndarray
    over_cap: np.ndarray


def bagged_of(settings: Sweep, bags: Bags, labels: np.ndarray) -> Bagged:
    """Return the bagged portfolios of windows or splits.

    Args:
        settings: the G points.
        bags: of the windows.
        labels: (G, J, N) the windows' own clusters; -1 for an inactive asset.
    """
    g, j, n = labels.shape
    p = len(settings.config.profiles)
    mean, deviation = (np.moveaxis(each.reshape(g, j, p, n), 2, 1) for each in (bags.mean(), bags.deviation()))
    active: Any = np.any(labels >= 0, axis=2)
    mean = np.where(active[:, None, :, None], mean, np.nan)
    over = np.zeros((g, p, j), bool)
    for point, window in np.ndindex(g, j):
        over[point, :, window] = over_cap(mean[point, :, window], labels[point, window], settings.at(point))
    return Bagged(mean=mean, deviation=deviation, valid=bags.count.reshape(g, j), over_cap=over)


def bagging_words(settings: dict[str, Any] | None, of: str) -> str:
    """Say how portfolios are bagged; empty where they are not.

    Args:
        settings: of the `jaxalloc.universes.bootstrap.Bags`, plain values.
        of: what is resampled, such as ``"its window"``.
    """
    if settings is None:
        return ""
    how = "drawn one by one" if settings["method"] == "iid" else f"in blocks of {settings['block_length']:g} rows"
    return f"each portfolio is the mean of those of {counted(settings['n'], 'resample')} of {of}, {how}"


def bagged_bets(
    plan: WalkPlan,
    schedule: Schedule,
    rows: np.ndarray,
    returns: np.ndarray,
    weights: np.ndarray,
    labels: np.ndarray,
    points: np.ndarray,
) -> np.ndarray:
    """Return the effective numbers of bets of the bagged portfolios of some paths.

    Args:
        plan: of the walk-forward.
        schedule: of the paths.
        rows: (B, T) the panel's row on each of a path's days.
        returns: (T, N) the panel, 0 where a missing return counts as 0.
        weights: (B, J, P, N) bagged portfolios.
        labels: (B, J, N) the windows' own clusters.
        points: (B,) the point of the settings of each path.

    Returns:
        (B, P, J); NaN where there is no portfolio.
    """
    n_windows, found = schedule.n_windows, []

    def seen(paths: list[int]) -> Iterator[np.ndarray]:
        for b, j in itertools.product(paths, range(n_windows)):
            last = schedule.decided(j)
            first = 0 if schedule.expanding else last - schedule.window + 1
            yield returns[rows[b, first : last + 1]]

    for point, paths in itertools.groupby(range(len(rows)), key=lambda b: int(points[b])):
        some = list(paths)
        own, held = (np.concatenate([each[b] for b in some]) for each in (labels, weights))
        found.append(bets_of(seen(some), held, own, plan.settings.at(point), plan.precision))
    return np.concatenate(found).reshape(len(rows), n_windows, -1).swapaxes(1, 2)


def bets_of(
    seen: Iterable[np.ndarray], weights: np.ndarray, labels: np.ndarray, config: AllocationConfig, precision: int
) -> np.ndarray:
    """Return the effective numbers of bets of bagged portfolios, by their own moments and clusters.

    Args:
        seen: (rows, N) returns that each of U decisions sees, 0 where a missing return counts as 0.
        weights: (U, P, N) bagged portfolios.
        labels: (U, N) the decisions' own clusters; -1 for an inactive asset.
        config: the settings.
        precision: 64 or 32, the bits that are computed in.

    Returns:
        (U, P); NaN where there is no portfolio.
    """
    universes = (
        Universe(returns=returns, mask=own >= 0, weights=held)
        for returns, held, own in zip(seen, weights, labels, strict=True)
    )
    found = []
    for own, risk in zip(labels, risks_of(universes, config, precision), strict=True):
        active = own >= 0
        found.append(effective_bets(own[active], np.nan_to_num(risk.contributions[:, active])))
    return np.stack(found)
