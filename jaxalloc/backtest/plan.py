"""WalkPlan: all that a walk-forward's numbers depend on, checked."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal, get_args

import numpy as np

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.numbers import whole_number
from jaxalloc.backtest.benchmark import Benchmark
from jaxalloc.backtest.points import WalkSettings, walk_settings
from jaxalloc.backtest.previous import previous_weights as held_before
from jaxalloc.backtest.schedule import Schedule
from jaxalloc.markets.holes import weigh_gaps
from jaxalloc.markets.panel import Panel
from jaxalloc.settings.sweep import Sweep
from jaxalloc.studies.plan import Plan, make_plan
from jaxalloc.universes.bootstrap import Bags, Bootstrap
from jaxalloc.universes.samplers import Product, RollingWindows

Execution = Literal["portfolio", "lead"]

_MOST_WEIGHTS = 2**33  # bytes of the weights bought at the rebalances of the panel as it happened


@dataclasses.dataclass(frozen=True, eq=False)
class WalkPlan:
    """All that a walk-forward's numbers depend on: P profiles, J windows, N assets.

    Attributes:
        windows: the study of the windows of the panel as it happened.
        path_windows: the study of the windows of the resampled paths; None without paths.
        paths: the resampled paths, prepared for the panel; None without paths.
        bags: the resamples of each window of the panel as it happened; None where portfolios are not bagged.
        path_bags: those of each window of the resampled paths; None without paths, too.
        schedule: when portfolios are decided and held.
        path_schedule: likewise on the paths, which need no live portfolio.
        points: settings of the allocations, bands and costs.
        execution: whether whole portfolios are bought or each cluster's lead asset alone.
        previous: (P, N) weights before the first rebalance.
        benchmark: what portfolios are compared with; None without one.
    """

    windows: Plan
    path_windows: Plan | None
    paths: Bootstrap | None
    bags: Plan | None
    path_bags: Plan | None
    schedule: Schedule
    path_schedule: Schedule
    points: WalkSettings
    execution: Execution
    previous: np.ndarray
    benchmark: Benchmark | None = None

    @property
    def settings(self) -> Sweep:
        """The grid of settings of the allocations."""
        return self.windows.settings

    @property
    def profiles(self) -> tuple[str, ...]:
        """The P profiles."""
        return self.settings.config.profiles

    @functools.cached_property
    def filled(self) -> np.ndarray:
        """(T, N) the panel, 0 where a missing return counts as 0."""
        return weigh_gaps(self.windows.returns, self.windows.max_missing).returns

    @property
    def bagging(self) -> Bags | None:
        """How each window is resampled, prepared for the panel; None where portfolios are not bagged."""
        if self.bags is None:
            return None
        last = self.bags.sampler.parts[-1]
        assert isinstance(last, Bags)
        return last

    @property
    def seed(self) -> int:
        """The seed of the paths."""
        return self.windows.seed

    @property
    def precision(self) -> int:
        """Bits of the allocations."""
        return self.windows.precision


def make_walk_plan(
    panel: Panel,
    symbols: list[str],
    settings: Sweep,
    windows: RollingWindows,
    *,
    gap: Any,
    band: Any,
    max_turnover: Any,
    costs_bps: Any,
    execution: Any,
    paths: Any,
    bagging: Any,
    previous_weights: Any,
    seed: Any,
    precision: Any,
    chunk_size: Any,
    max_missing: Any,
    benchmark: Benchmark | None = None,
) -> WalkPlan:
    """Check a walk-forward's arguments, and make its plan of them.

    Args:
        panel: returns per period.
        symbols: its N assets.
        settings: one point or more.
        windows: on which portfolios are decided.
        gap: as `walk_forward` takes it, like all that follow.
        band: likewise.
        max_turnover: likewise.
        costs_bps: likewise.
        execution: likewise.
        paths: likewise.
        bagging: likewise.
        previous_weights: likewise.
        seed: likewise.
        precision: likewise.
        chunk_size: likewise.
        max_missing: likewise.
        benchmark: split off the panel; None without one.

    Raises:
        InputError: an argument is out of range, or does not fit the panel.
    """
    if paths is not None:
        _check_paths(paths)
    own = None if bagging is None else check_bagging(bagging)
    plan = make_plan(
        panel,
        windows,
        settings,
        seed=seed,
        precision=precision,
        chunk_size=chunk_size,
        max_missing=max_missing,
    )
    (rolling,) = plan.sampler.parts
    assert isinstance(rolling, RollingWindows)
    n_rows, n_assets = plan.returns.shape
    calendar = isinstance(rolling.step, str)
    schedule = Schedule(
        n_rows=n_rows,
        window=rolling.window,
        step=rolling.step if isinstance(rolling.step, str) else whole_number("step", rolling.step, 1),
        expanding=rolling.expanding,
        gap=gap,
        live=rolling.live,
        ends=tuple(rolling.ends(n_rows).tolist()) if calendar else None,
    ).check()
    points = walk_settings(settings, band=band, max_turnover=max_turnover, costs_bps=costs_bps)
    _check_room(points, schedule, n_assets)
    if execution not in get_args(Execution):
        raise InputError(f"execution must be one of {', '.join(get_args(Execution))}, not {execution!r}")
    years = settings.config.periods_per_year
    path_windows, prepared, bags, path_bags = None, None, None, None
    if own is not None:
        bags = dataclasses.replace(plan, sampler=Product((rolling, own)).prepare(panel, n_rows, years))
    if paths is not None:
        product = Product((paths, dataclasses.replace(rolling, live=False))).prepare(panel, n_rows, years)
        path_windows, prepared = dataclasses.replace(plan, sampler=product), product.parts[0]
        assert isinstance(prepared, Bootstrap)
        if own is not None:
            of_paths = Product((*product.parts, own)).prepare(panel, n_rows, years)
            path_bags = dataclasses.replace(plan, sampler=of_paths)
    return WalkPlan(
        windows=plan,
        path_windows=path_windows,
        paths=prepared,
        bags=bags,
        path_bags=path_bags,
        schedule=schedule,
        path_schedule=dataclasses.replace(schedule, live=False),
        points=points,
        execution=execution,
        previous=held_before(previous_weights, symbols, settings.config.profiles),
        benchmark=None if benchmark is None else benchmark.check(panel.dates, schedule, paths is not None),
    )


def _check_paths(paths: Any) -> None:
    if not isinstance(paths, Bootstrap):
        raise InputError(f"paths must be a Bootstrap, such as Bootstrap(1000, 'stationary', 21), not {paths!r}")
    if paths.n is None:
        raise InputError("paths need n, their number, such as Bootstrap(n=1000, ...)")


def check_bagging(bagging: Any) -> Bags:
    """Return the resamples of each window; raise `InputError` unless they are a `Bootstrap` with a number."""
    if not isinstance(bagging, Bootstrap):
        raise InputError(f"bagging must be a Bootstrap, such as Bootstrap(100, 'circular', 21), not {bagging!r}")
    if bagging.n is None:
        raise InputError("bagging needs n, the number of resamples, such as Bootstrap(n=100, ...)")
    return Bags(n=bagging.n, method=bagging.method, block_length=bagging.block_length)


def _check_room(points: WalkSettings, schedule: Schedule, n_assets: int) -> None:
    room = 8 * len(points) * len(points.config.profiles) * schedule.n_held * n_assets
    if room > _MOST_WEIGHTS:
        raise InputError(
            f"the weights of {len(points):,} points on {schedule.n_held:,} rebalances take about "
            f"{room / 2**30:.0f} GiB of memory; sweep over fewer values at a time, or take a longer step"
        )
