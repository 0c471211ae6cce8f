"""cross_validate(): complete histories out of sample, put together from splits of the rows.

The portfolios of all splits, at every point of the settings, are one study (`jaxalloc.universes.splits`). Where
portfolios are bagged, sums over the resamples of the splits' training rows follow. Then every path holds the
portfolios through its groups of rows (`jaxalloc.backtest.simulation`). `out` is the folder of the study, and ``bags``
in it that of the sums; what was held follows from them, and is in memory alone.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from jaxalloc.arguments.errors import InputError
from jaxalloc.backtest.bagging import Bagged, bagged_of, bets_of
from jaxalloc.backtest.folder import BAGS, remove_study
from jaxalloc.backtest.performance import performance
from jaxalloc.backtest.plan import check_bagging
from jaxalloc.backtest.points import WalkSettings, walk_settings
from jaxalloc.backtest.simulation import Held, Market, after_costs, hold
from jaxalloc.backtest.validation import MEASURED, CrossValidation
from jaxalloc.markets.holes import MAX_MISSING, weigh_gaps
from jaxalloc.markets.panel import Panel, as_panel, panel_of_frame
from jaxalloc.markets.periods import resolve_periods
from jaxalloc.markets.source import Source, source_of
from jaxalloc.settings.config import AllocationConfig
from jaxalloc.settings.measures import FIGURES
from jaxalloc.settings.sweep import Sweep, as_sweep
from jaxalloc.studies.compute import RunOptions, compute_bags
from jaxalloc.studies.plan import Plan, make_plan
from jaxalloc.studies.run import run_study
from jaxalloc.studies.study import Study
from jaxalloc.universes.bootstrap import Bootstrap
from jaxalloc.universes.samplers import Product
from jaxalloc.universes.splits import CombinatorialSplits

_MOST_RETURNS = 2**32  # bytes of the returns of all paths
_BLOCK_BYTES = 2**27  # of the paths that are held at once


@dataclasses.dataclass(frozen=True)
class GroupPeriods:
    """The groups as periods of holding, which follow each other over all T rows.

    Attributes:
        bounds: the first row of each group, and T.
    """

    bounds: tuple[int, ...]
    first_held = 0

    @property
    def n_held(self) -> int:
        """Number of groups."""
        return len(self.bounds) - 1

    @property
    def n_days(self) -> int:
        """T."""
        return self.bounds[-1]

    def held(self, j: int) -> tuple[int, int]:
        """Return the rows of a group: the first, and one past the last."""
        return self.bounds[j], self.bounds[j + 1]


def cross_validate(
    panel: Panel | pd.DataFrame,
    config: AllocationConfig | Sweep | None = None,
    *,
    groups: int = 10,
    test_groups: int = 2,
    purge: int = 0,
    embargo: int | None = None,
    band: float | Sequence[float] = 0.0,
    max_turnover: float | None = None,
    costs_bps: float | Sequence[float] = 0.0,
    bagging: Bootstrap | None = None,
    max_missing: float = MAX_MISSING,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    precision: int = 64,
    chunk_size: int | Literal["auto"] | None = "auto",
    resume: bool = False,
    fresh: bool = False,
    dask: Any = None,
    profile_dir: str | os.PathLike[str] | None = None,
    command: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> CrossValidation:
    """Decide portfolios on the rows around groups that are held out, and hold them there, in every combination.

    Combinatorial purged cross-validation (Lopez de Prado, 2018, chapter 12). The T rows are cut into contiguous groups.
    Each choice of ``test_groups`` of them is a split: its portfolio is decided on the rows of the other groups, less
    purged and embargoed ones, and held on the rows of its test groups. `CombinatorialSplits` has the exact rule. The
    splits make C(groups, test_groups) test_groups / groups paths. A path is a complete history: every group is held
    once, in the order of time, each by another split's portfolio. So a profile has a distribution of returns and Sharpe
    ratios in place of one number.

    Unlike in `walk_forward`, most splits decide with rows that come after those they are held on: paths are no history
    that could have been lived through. They also share rows and portfolios, and are far from independent.

    On a path portfolios are traded at the first row of each group, from cash at the first; in between weights drift
    with the returns. Trades and costs are those of `walk_forward`, and so is what counts as missing: an asset is active
    in a split where all its training rows lie in the asset's life, and it has a return on all but a share of them.
    Where a split has no portfolio, the weights held before (or cash) are kept.

    Args:
        panel: returns per period, as `read_returns` makes them (``missing="mask"`` keeps gaps); or a frame of them, in
            which gaps are kept too.
        config: settings, or a grid of them from `sweep`; `AllocationConfig()` by default.
        groups: number of groups, 2 to T.
        test_groups: number of groups held out by a split, 1 to ``groups`` - 1. With 1 there is one path.
        purge: rows left out of a decision on either side of each test group, 0 by default: rows are returns over one
            period each. Where they are over k periods that overlap, give k - 1.
        embargo: rows left out after those that follow a test group; by default one in a hundred, rounded up.
        band: as `walk_forward` takes it, like ``max_turnover`` and ``costs_bps``.
        max_turnover: likewise.
        costs_bps: likewise.
        bagging: a `Bootstrap` of each split's training rows: the portfolio decided on them is the mean of the
            portfolios of their resamples, drawn anew for each split. Training rows are resampled as if they followed
            each other: a block may reach over a test group. Clusters are the split's own.
        max_missing: as `run_study` takes it, like all that follow.
        seed: of the resamples of ``bagging``; nothing else is drawn.
        out: folder of the study of the splits; resuming it holds its portfolios again.
        precision: likewise.
        chunk_size: likewise.
        resume: likewise.
        fresh: likewise.
        dask: likewise.
        profile_dir: likewise.
        command: likewise.
        progress: called with the number of universes done since the last call; there are ``len(sweep)`` times the
            splits, and with bagging as many times ``bagging.n`` on top.

    Returns:
        `CrossValidation`.

    Raises:
        InputError: an argument, the data or the folder is at fault; raised before anything is computed.
        OSError: the study could not be written; what was finished is kept.

    Example:
        >>> import jaxalloc as ja
        >>> market = ja.datasets.synthetic_market(n_assets=12, n_observations=240)
        >>> config = ja.AllocationConfig(profiles=("risk_parity", "equal_weight"))
        >>> validation = ja.cross_validate(market, config, groups=6, test_groups=2)
        >>> validation.study.n, validation.n_paths, validation.returns.shape
        (15, 5, (240, 10))
    """
    panel = panel_of_frame(panel, missing="mask") if isinstance(panel, pd.DataFrame) else as_panel(panel)
    settings, _ = resolve_periods(as_sweep(config), panel.dates)
    n_rows, years = panel.n_observations, settings.config.periods_per_year
    splits = CombinatorialSplits(groups=groups, test_groups=test_groups, purge=purge, embargo=embargo).prepare(
        panel, n_rows, years
    )
    points = walk_settings(settings, band=band, max_turnover=max_turnover, costs_bps=costs_bps)
    _check_room(points, splits, n_rows)
    numbers: dict[str, Any] = {
        "seed": seed,
        "precision": precision,
        "chunk_size": chunk_size,
        "max_missing": max_missing,
    }
    plan = None
    if bagging is not None:
        plan = make_plan(panel, Product((splits, check_bagging(bagging))), settings, **numbers)
    options = RunOptions(out=out, resume=resume, fresh=fresh, dask=dask, profile_dir=profile_dir, progress=progress)
    running = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    study = run_study(panel, splits, config, command=command, **numbers, **running)
    bagged = None if plan is None else _bag(plan, study, source_of(panel), options)
    if plan is None and out is not None and fresh:
        remove_study(Path(out) / BAGS)
    net, figures = _hold_paths(study, points, splits, panel.values, bagged)
    return CrossValidation(
        dates=source_of(panel).dates,
        settings=points,
        splits=splits,
        study=study,
        net=net,
        path_figures=figures,
        bagging=None if plan is None else plan.sampler.parts[-1].settings(),
        bagged=bagged,
    )


def _check_room(points: WalkSettings, splits: CombinatorialSplits, n_rows: int) -> None:
    n_paths = len(splits.path_splits())
    room = 8 * len(points) * n_paths * len(points.config.profiles) * n_rows
    if room > _MOST_RETURNS:
        raise InputError(
            f"the returns of {len(points):,} points on {n_paths:,} paths take about {room / 2**30:.0f} GiB of memory; "
            "take fewer groups, or sweep over fewer values at a time"
        )


def _bag(plan: Plan, study: Study, source: Source, options: RunOptions) -> Bagged:
    """Compute the bagged portfolios of the splits, whose own are in the study; their sums go into a folder of its."""
    options = dataclasses.replace(options, out=None if options.out is None else Path(options.out) / BAGS)
    bags = compute_bags(plan, source, options)
    labels = study.columns("cluster_labels")["cluster_labels"]
    return bagged_of(plan.settings, bags, labels.reshape(len(plan.settings), study.n, -1))


def _hold_paths(
    study: Study, points: WalkSettings, splits: CombinatorialSplits, returns: np.ndarray, bagged: Bagged | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Hold the portfolios through every path: returns (G, paths, P, T) after costs, and `FIGURES` (paths, G, P, F)."""
    n_rows, n_assets = returns.shape
    profiles, rules, costs = points.config.profiles, points.rules, points.costs
    periods = GroupPeriods(bounds=tuple(splits.bounds(n_rows).tolist()))
    market, rows = Market.of(returns), np.arange(n_rows)[None, :]
    cash, path_splits = np.zeros((len(profiles), n_assets)), splits.path_splits()
    net = np.empty((len(points), len(path_splits), len(profiles), n_rows))
    figures = np.empty((len(path_splits), len(points), len(profiles), len(FIGURES)))
    size = max(1, _BLOCK_BYTES // (8 * len(profiles) * (2 * periods.n_held * n_assets + 8 * n_rows)))
    for decided in range(len(points.allocations)):
        weights, bets = _decisions(study, decided)
        if bagged is not None:
            weights = bagged.mean[decided].swapaxes(0, 1)
            bets = _bagged_bets(study, decided, weights, splits, returns)
        for first in range(0, len(path_splits), size):
            block = slice(first, first + size)
            chosen = path_splits[block]
            for k, rule in enumerate(rules):
                held = hold(market, rows, weights[chosen], cash, periods, rule)
                for c, cost in enumerate(costs):
                    point = (decided * len(rules) + k) * len(costs) + c
                    net[point, block] = after_costs(held, periods, cost * 1e-4)
                    figures[block, point] = _figures(
                        net[point, block], held, cost, bets[chosen].swapaxes(1, 2), points.at(point)
                    )
    return net, figures


def _decisions(study: Study, point: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights (S, P, N) of the splits, sum 1, and effective numbers of bets (S, P); NaN where there is no portfolio."""
    names = [f"{profile}.{name}" for name in ("weights", "effective_bets") for profile in study.profiles]
    columns = [column.astype(float) for column in study.columns(*names, at=point).values()]
    weights, bets = (np.stack(each, axis=1) for each in (columns[: len(names) // 2], columns[len(names) // 2 :]))
    return weights / weights.sum(axis=2, keepdims=True), bets  # those of float32 sum to 1 nearly


def _bagged_bets(
    study: Study, point: int, weights: np.ndarray, splits: CombinatorialSplits, returns: np.ndarray
) -> np.ndarray:
    """(S, P) effective numbers of bets of (S, P, N) bagged portfolios, by the splits' own moments and clusters."""
    labels = study.columns("cluster_labels", at=point)["cluster_labels"]
    filled = weigh_gaps(returns, study.record["max_missing"]).returns
    seen = (filled[rows] for rows in splits.training(len(returns)))
    return bets_of(seen, weights, labels, study.settings.at(point), study.precision)


def _figures(net: np.ndarray, held: Held, cost: float, bets: np.ndarray, config: AllocationConfig) -> np.ndarray:
    """(B, P, F) `FIGURES` of some paths at one point; NaN for those that are not `MEASURED`."""
    years, n_days = config.periods_per_year, net.shape[2]
    assert not isinstance(years, str)
    turnover, traded = (each.sum(axis=2) * (years / n_days) for each in (held.turnover, held.traded))
    some = np.isfinite(bets).sum(axis=2)
    figures = performance(net, years, config.risk_free_rate) | {
        "turnover": turnover,
        "traded": traded,
        "cost": traded * cost * 1e-4,
        "effective_bets": np.where(some > 0, np.nansum(bets, axis=2) / np.maximum(some, 1), np.nan),
        "concentration": held.concentration.mean(axis=2),
        "kept": held.kept.sum(axis=2),
        "missing": held.missing.sum(axis=2),
    }
    result = np.full((*net.shape[:2], len(FIGURES)), np.nan)
    for name in MEASURED:
        result[..., FIGURES.index(name)] = figures[name]
    return result
