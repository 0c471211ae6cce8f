"""walk_forward(): what portfolios would have returned on data that they were not decided on.

Every window at every point of the settings is one universe. All universes are allocated together, as a study in the
folder ``allocations``; those of the resampled paths are a study in the folder ``paths``. Where portfolios are bagged
the folders ``bags`` and ``path-bags`` hold sums over the resamples of either's windows. Then the portfolios are held
through the rows after their windows (`jaxalloc.backtest.simulation`), path by path as the study's chunks are read.

A walk-forward's folder holds these studies, the store's manifest, and at the end

- ``summary.csv``, ``rebalances.csv``, ``returns.csv``, ``target.csv``: `WalkForward.summary`, `rebalances`, `returns`
  and `target` of every profile; with paths ``paths.csv``: `WalkForward.paths`; with a benchmark ``benchmark.csv``:
  `WalkForward.benchmark_returns`;
- ``weights.parquet``: `WalkForward.weights` of every profile;
- ``dates.parquet`` (the panel's row labels), ``history.parquet`` (arrays) and ``walk_forward.json`` (settings, data,
  versions, symbols): what `load_walk_forward` reads.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

import pandas as pd

from jaxalloc.arguments.errors import AllocationWarning, InputError
from jaxalloc.arguments.processes import check_process
from jaxalloc.arguments.words import counted
from jaxalloc.backtest.advice import bagging_notes, walk_notes
from jaxalloc.backtest.bagging import bagged_of
from jaxalloc.backtest.benchmark import split_off
from jaxalloc.backtest.folder import (
    ALLOCATIONS,
    BAGS,
    PATH_BAGS,
    PATHS,
    has_allocations,
    identity_of,
    open_store,
    write_results,
)
from jaxalloc.backtest.holding import hold_history, hold_paths
from jaxalloc.backtest.plan import Execution, WalkPlan, make_walk_plan
from jaxalloc.backtest.simulation import Market
from jaxalloc.backtest.walk import WalkForward
from jaxalloc.markets.holes import MAX_MISSING
from jaxalloc.markets.panel import Panel, as_panel, panel_of_frame
from jaxalloc.markets.periods import count_text, resolve_periods, rows_a_year
from jaxalloc.markets.source import Source, source_of
from jaxalloc.settings.config import AllocationConfig
from jaxalloc.settings.sweep import Sweep, as_sweep
from jaxalloc.storage.writer import Store
from jaxalloc.studies.bags import Bags
from jaxalloc.studies.compute import RunOptions, compute_bags, compute_study, timestamp
from jaxalloc.studies.plan import Plan
from jaxalloc.studies.study import Study
from jaxalloc.universes.bootstrap import Bootstrap
from jaxalloc.universes.samplers import MONTH, YEAR, RollingWindows, month_of_rows

Result = TypeVar("Result")


def walk_forward(
    panel: Panel | pd.DataFrame,
    config: AllocationConfig | Sweep | None = None,
    window: int | None = None,
    step: int | str | None = None,
    *,
    expanding: bool = False,
    gap: int = 0,
    band: float | Sequence[float] = 0.0,
    max_turnover: float | None = None,
    costs_bps: float | Sequence[float] = 0.0,
    execution: Execution = "portfolio",
    paths: Bootstrap | None = None,
    bagging: Bootstrap | None = None,
    benchmark: str | None = None,
    max_missing: float = MAX_MISSING,
    previous_weights: Any = None,
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
) -> WalkForward:
    """Decide portfolios on rolling windows, hold each on the rows after its window, and measure the returns.

    Window j sees rows j step to j step + window - 1. Its portfolio is held from row j step + window + gap on, until the
    next one's first row; in between weights drift with the returns. At a rebalance the drifted weights d are traded
    towards the target, as far as ``band`` and ``max_turnover`` say. What is traded is the sum of |change| over the
    assets; it costs the fraction ``costs_bps`` / 10,000 of that, paid out of wealth on the first day held:
    net = (1 - cost)(1 + gross) - 1. The turnover is one-way: half of the sum of |change|, with cash as an asset. The
    first purchase is out of cash (turnover 1) or of ``previous_weights``.

    One more window ends on the last row, if the steps bring none there. Its portfolio is held on no row: it is the
    *live* target, and `WalkForward.target` says what to trade for it now.

    An asset is active in a window if the window lies in its life, from its first to its last return in the panel, and
    it has a return on all rows but for the share ``max_missing``; those that are missing count as 0. So a late listing
    enters once its window is complete. A return that is missing while its asset is held counts as 0, too; the result
    says how many are.
    Where a window has no portfolio (`Status.INVALID`), the weights held before (or cash) are kept; the result says how
    often.

    `cross_validate` makes several histories out of sample instead of one (combinatorial purged cross-validation).

    Args:
        panel: returns per period, as `read_returns` makes them (``missing="mask"`` keeps gaps); or a frame of them, in
            which gaps are kept too.
        config: settings, or a grid of them from `sweep`; `AllocationConfig()` by default.
        window: rows of a window, of an expanding one of the first. By default a year of rows: 252 of business days, 365
            where weekends have rows, 52 of weeks, 12 of months.
        step: rows from one rebalance to the next, by default a month of rows: 21 of business days, 1 of months. Or
            ``"week"``, ``"month-end"``, ``"quarter-end"`` or ``"year-end"`` (also ``"month"``, ``"quarter"``,
            ``"year"``): portfolios are decided on the last row of each such period of the calendar.
        expanding: whether windows grow from the first row on.
        gap: rows between a window and the first row its portfolio is held: 1 if a decision takes a day to execute.
        band: distance in weight, at least 0 and less than 1, that a holding may keep from the target: an asset within
            the band is not traded, another is traded to the band's edge (`jaxalloc.backtest.trading.within_band`).
            Cash is spent in any case. A list of bands varies it: each is one more point, on the same allocations.
        max_turnover: largest turnover of a rebalance, greater than 0 and at most 1: trades that come to more are all
            scaled down to it. What is bought out of cash is not held back: the limit is the larger of this and the
            cash, so that the first purchase is whole. By default there is none.
        costs_bps: cost of trading, basis points of what is traded, 0 to less than 5,000. A list varies it, like
            ``band``.
        execution: ``"portfolio"`` buys every asset; ``"lead"`` puts each cluster's weight on its lead asset alone, and
            measures the tracking error against the whole portfolio.
        paths: a `Bootstrap` whose resamples of the panel's rows, each in its order, are walked through as well as the
            panel as it happened. They are kept in memory, 4 bytes a row and path. A gap may then fall into any window:
            give a panel with few.
        bagging: a `Bootstrap` of each window's rows: the portfolio decided on a window is the mean of the portfolios of
            its resamples (Breiman, 1996; Michaud, 1998), drawn anew for each window. Clusters and leads are the
            window's own. An expanding window's blocks are as long as the others'.
        benchmark: name of a column of the panel that is no asset of the portfolios, and takes no part in windows,
            clusters and weights: its returns on the days held are what the net returns are compared with. It must have
            one on each of these days; with paths, on every row.
        max_missing: largest share of a window's rows that an active asset may miss inside its life, at least 0 and less
            than 1.
        previous_weights: weights held before the first rebalance: a mapping or Series by symbol, or a mapping or frame
            of these by profile; the rest, up to 1, is cash.
        seed: of the paths, 0 to 2**32 - 1.
        out: folder to write to; the module's docstring lists its files. By default nothing is written.
        precision: 64 or 32 bits of the allocations; holding and measuring is in 64.
        chunk_size: as `run_study` takes it.
        resume: go on with the walk-forward in ``out``, if there is one.
        fresh: throw away the one in ``out``, if there is one, and start again. Where what differs from it is how
            targets are held alone (``band``, ``max_turnover``, ``costs_bps``, ``execution``, ``previous_weights``),
            or the ``benchmark``, its allocations are kept.
        dask: as `run_study` takes it.
        profile_dir: as `run_study` takes it.
        command: the command line that makes this, for its record.
        progress: called with the number of universes done since the last call; there are
            ``len(sweep)`` times the windows of the panel and of each path, which has no live one; with bagging, and
            as many times ``bagging.n`` on top.

    Returns:
        `WalkForward`. What is to be said of its settings, data and clusters is in ``record["notes"]``; an
        `AllocationWarning` says why, where no window has portfolios.

    Raises:
        InputError: an argument, the data or the folder is at fault, or this process was forked after JAX had run;
            raised before anything is computed.
        OSError: the results could not be written; what was finished is kept.

    Example:
        >>> import jaxalloc as ja
        >>> market = ja.datasets.synthetic_market(n_assets=12, n_observations=252)
        >>> config = ja.AllocationConfig(profiles=("risk_parity",))
        >>> walk = ja.walk_forward(market, config, window=126, step=21, costs_bps=5)
        >>> walk.returns.shape, walk.turnover.shape
        ((126, 1), (6, 1))
    """
    check_process()
    panel = panel_of_frame(panel, missing="mask") if isinstance(panel, pd.DataFrame) else as_panel(panel)
    panel, compared = (panel, None) if benchmark is None else split_off(panel, benchmark)
    settings, notes = resolve_periods(as_sweep(config), panel.dates)
    source = source_of(panel)
    source.notes.extend(notes)
    windows, notes = live_windows(source.dates, settings, window, step, expanding)
    source.notes.extend(notes)
    plan = make_walk_plan(
        panel,
        source.symbols,
        settings,
        windows,
        gap=gap,
        band=band,
        max_turnover=max_turnover,
        costs_bps=costs_bps,
        execution=execution,
        paths=paths,
        bagging=bagging,
        previous_weights=previous_weights,
        seed=seed,
        precision=precision,
        chunk_size=chunk_size,
        max_missing=max_missing,
        benchmark=compared,
    )
    options = RunOptions(
        out=out, resume=resume, fresh=fresh, dask=dask, profile_dir=profile_dir, progress=progress
    ).check("walk-forward")
    walk = _compute_walk(plan, source, options, command, lambda allocations: walk_notes(panel, plan, allocations))
    if not walk.allocations.n_valid:
        warnings.warn(walk.record["notes"][-1], AllocationWarning, stacklevel=2)
    return walk


def live_windows(
    labels: pd.Index, settings: Sweep, window: int | None, step: int | str | None, expanding: bool
) -> tuple[RollingWindows, tuple[str, ...]]:
    """Return the windows of a walk-forward, and a note where the dates decided how long they or their steps are.

    Args:
        labels: of the panel's rows.
        settings: with a number of periods a year.
        window: as `walk_forward` takes it, like all that follow.
        step: likewise.
        expanding: likewise.

    Raises:
        InputError: the panel is shorter than a year, and no window is given.
    """
    rows = rows_a_year(settings.config.periods_per_year, labels)
    year, month = max(2, round(rows)), month_of_rows(rows)
    if window is None and year > len(labels):
        raise InputError(
            f"window is by default a year of rows, {year:,}, and the panel has {len(labels):,}; give the rows "
            "of a shorter window, or a longer panel"
        )
    taken = []
    if window is None and year != YEAR:
        taken.append(f"a window of {counted(year, 'row')}")
    if step is None and month != MONTH:
        taken.append(f"a step of {counted(month, 'row')}")
    windows = RollingWindows(
        window=year if window is None else window,
        step=month if step is None else step,
        expanding=expanding,
        live=True,
    )
    told = f"At {count_text(rows)} rows a year the walk-forward has {' and '.join(taken)}."
    return windows, ((told,) if taken else ())


def _compute_walk(
    plan: WalkPlan,
    source: Source,
    options: RunOptions,
    command: str | None,
    notes_on: Callable[[Study], list[str]],
) -> WalkForward:
    """Compute a plan, write its folder if there is one, and return the results."""
    identity = identity_of(plan, source)
    started, clock = timestamp(), time.monotonic()
    with contextlib.ExitStack() as stack:
        store = None
        if options.out is not None:
            wanted = {PATHS: plan.path_windows, BAGS: plan.bags, PATH_BAGS: plan.path_bags}
            studies = [name for name, each in wanted.items() if each is not None]
            again = options.fresh and has_allocations(options.out, identity)
            store = stack.enter_context(open_store(options.out, identity, options.resume, options.fresh, studies))
            options = dataclasses.replace(options, resume=options.resume or again)
        allocations = _allocate(plan.windows, source, options, store, ALLOCATIONS)
        bags = _bag(plan.bags, source, options, store, BAGS)
        resampled = None
        if plan.path_windows is not None:
            resampled = _allocate(plan.path_windows, source, options, store, PATHS)
        path_bags = _bag(plan.path_bags, source, options, store, PATH_BAGS)
        market = Market.of(plan.windows.returns)
        history, path_figures = hold_history(plan, market, allocations, bags), None
        if plan.paths is not None and resampled is not None:
            path_figures = hold_paths(plan, plan.paths, market, resampled, path_bags)
        bagged = None
        if bags is not None:
            labels = allocations.columns("cluster_labels")["cluster_labels"]
            bagged = bagged_of(plan.settings, bags, labels.reshape(len(plan.settings), plan.schedule.n_windows, -1))
        # those of the study of the windows say which assets these put out
        notes = [*allocations.record["notes"], *bagging_notes(bagged, plan.profiles), *notes_on(allocations)]
        record = identity | {"notes": notes, "started": started}
        record |= {} if command is None else {"command": command}
        record["seconds"] = round(time.monotonic() - clock, 3)
        walk = WalkForward(
            symbols=source.symbols,
            dates=source.dates,
            settings=plan.points,
            schedule=plan.schedule,
            execution=plan.execution,
            seed=plan.seed,
            precision=plan.precision,
            history=history,
            path_figures=path_figures,
            bagged=bagged,
            allocations=allocations,
            path_allocations=resampled,
            record=record,
            benchmark=plan.benchmark,
        )
        if store is not None:
            write_results(walk, store)
    return walk


def _allocate(plan: Plan, source: Source, options: RunOptions, store: Store | None, name: str) -> Study:
    """Compute the study of some windows, in a folder of that name within the walk-forward's."""
    return _inside(options, store, name, lambda own: compute_study(plan, source, own))


def _bag(plan: Plan | None, source: Source, options: RunOptions, store: Store | None, name: str) -> Bags | None:
    """Compute the mean portfolios of some windows' resamples, likewise; None if there are to be none."""
    if plan is None:
        return None
    return _inside(options, store, name, lambda own: compute_bags(plan, source, own))


def _inside(options: RunOptions, store: Store | None, name: str, compute: Callable[[RunOptions], Result]) -> Result:
    """Compute a study in a folder of that name within the walk-forward's."""
    out = None if store is None else store.folder / name
    options = dataclasses.replace(options, out=out, inside=True)
    if options.resume and options.fresh:  # go on with the study that is there; start again where that cannot be
        with contextlib.suppress(InputError):
            return compute(dataclasses.replace(options, fresh=False))
        options = dataclasses.replace(options, resume=False)
    try:
        return compute(options)
    except InputError:
        if store is not None and not any((store.folder / study).exists() for study in (ALLOCATIONS, PATHS)):
            store.remove()  # it holds no result
        raise
