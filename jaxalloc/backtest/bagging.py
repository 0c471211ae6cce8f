"""Bagged portfolios of a walk-forward: of each window the mean of the portfolios of its resamples.

The window's own clusters say which assets lead, what the effective number of bets is, and whether the mean, which is
within the caps of every resample's clusters, exceeds the cap of these.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from jaxalloc.backtest.plan import WalkPlan
from jaxalloc.backtest.schedule import Schedule
from jaxalloc.portfolios.means import over_cap
from jaxalloc.studies.bags import Bags
from jaxalloc.studies.measures import effective_bets
from jaxalloc.studies.risk import Universe, risks_of


class Bagged(NamedTuple):
    """The bagged portfolios of the windows of the panel as it happened: G points, P profiles, J windows, N assets.

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


def bagged_of(plan: WalkPlan, bags: Bags, labels: np.ndarray) -> Bagged:
    """Return the bagged portfolios of a walk-forward's windows.

    Args:
        plan: of the walk-forward.
        bags: of the panel's windows.
        labels: (G, J, N) the windows' own clusters; -1 for an inactive asset.
    """
    g, j, n = labels.shape
    p = len(plan.profiles)
    mean, deviation = (np.moveaxis(each.reshape(g, j, p, n), 2, 1) for each in (bags.mean(), bags.deviation()))
    active: Any = np.any(labels >= 0, axis=2)
    mean = np.where(active[:, None, :, None], mean, np.nan)
    over = np.zeros((g, p, j), bool)
    for point, window in np.ndindex(g, j):
        over[point, :, window] = over_cap(mean[point, :, window], labels[point, window], plan.settings.at(point))
    return Bagged(mean=mean, deviation=deviation, valid=bags.count.reshape(g, j), over_cap=over)


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

    def universes(paths: list[int]) -> Iterator[Universe]:
        for b, j in itertools.product(paths, range(n_windows)):
            last = schedule.decided(j)
            first = 0 if schedule.expanding else last - schedule.window + 1
            seen = returns[rows[b, first : last + 1]]
            yield Universe(returns=seen, mask=labels[b, j] >= 0, weights=weights[b, j])

    for point, paths in itertools.groupby(range(len(rows)), key=lambda b: int(points[b])):
        some = list(paths)
        risks = risks_of(universes(some), plan.settings.at(point), plan.precision)
        for (b, j), risk in zip(itertools.product(some, range(n_windows)), risks, strict=True):
            active = labels[b, j] >= 0
            found.append(effective_bets(labels[b, j][active], np.nan_to_num(risk.contributions[:, active])))
    return np.stack(found).reshape(len(rows), n_windows, -1).swapaxes(1, 2)
