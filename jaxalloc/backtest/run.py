"""walk_forward(): what the portfolios would have earned on data that they had not seen.

Every window of every path at every setting is one universe, and all are allocated in one batch, as a study in the
folder ``allocations`` (those of resampled paths in ``paths``). Then the portfolios are held through the rows after
their windows (`jaxalloc.backtest.simulation`), path by path as the study's chunks are read.

A walk-forward's folder holds these studies, the store's manifest, and at the end

- ``summary.csv``, ``rebalances.csv``, ``returns.csv``, ``target.csv``: `WalkForward.summary`, `rebalances`, `returns`
  and `target` of every profile; with paths ``paths.csv``: `WalkForward.paths`;
- ``weights.parquet``: `WalkForward.weights` of every profile;
- ``dates.parquet`` (the panel's row labels), ``history.parquet`` (arrays) and ``walk_forward.json`` (settings, data,
  versions, symbols): what `load_walk_forward` reads.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.numbers import check_seed, one_number, whole_number
from jaxalloc.backtest.folder import ALLOCATIONS, PATHS, identity_of, open_store, remove_study, write_results
from jaxalloc.backtest.performance import RETURN_MEASURES, performance, tracking_error
from jaxalloc.backtest.previous import previous_weights as held_before
from jaxalloc.backtest.schedule import Schedule
from jaxalloc.backtest.simulation import Held, Market, concentrate, hold
from jaxalloc.backtest.walk import FIGURES, History, WalkForward
from jaxalloc.markets.panel import Panel, as_panel, read_returns
from jaxalloc.settings.config import AllocationConfig, check_config
from jaxalloc.settings.sweep import Sweep, plain_config
from jaxalloc.studies.run import run_study
from jaxalloc.studies.study import Study, column_values
from jaxalloc.universes.bootstrap import Bootstrap
from jaxalloc.universes.samplers import RollingWindows

Execution = Literal["portfolio", "lead"]

_MOST_BPS = 5000  # a turnover of 2 would then cost everything
_MOST_WEIGHTS = 2**33  # bytes of what is bought at the rebalances of the panel as it happened
_BLOCK_BYTES = 2**27  # of the paths that are held at once


def walk_forward(
    panel: Panel | pd.DataFrame,
    config: AllocationConfig | Sweep | None = None,
    window: int = 252,
    step: int = 21,
    *,
    expanding: bool = False,
    gap: int = 0,
    costs_bps: float = 0.0,
    execution: Execution = "portfolio",
    paths: Bootstrap | None = None,
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
    """Decide portfolios on rolling windows, hold each on the rows after its window, and measure what that returned.

    Window j sees rows j step to j step + window - 1; its portfolio is held from row j step + window + gap on, until the
    next one's first row. In between weights drift with the returns. At a rebalance the turnover sum |target - drifted|
    costs ``costs_bps`` / 10,000 of it, paid out of wealth on the first day held: net = (1 - cost)(1 + gross) - 1. The
    first purchase is out of cash (turnover 1) or of ``previous_weights``. The last window's portfolio is also the
    *live* target: `WalkForward.target` says what to trade now.

    An asset is active in a window if it has a return on every row of it, so late listings enter once their window is
    complete. A return that is missing while its asset is held counts as 0, and is counted. Where a window has no
    portfolio (`Status.INVALID`), what was held is kept (cash, if nothing was), and that is counted.

    Args:
        panel: returns per period, as `read_returns` makes them (``missing="mask"`` keeps gaps); or a frame of them, in
            which gaps are kept too.
        config: settings, or a grid of them from `sweep`; `AllocationConfig()` by default.
        window: rows of a window, of an expanding one of the first.
        step: rows from one rebalance to the next.
        expanding: whether windows grow from the first row on.
        gap: rows between a window and the first row its portfolio is held: 1 if a decision takes a day to execute.
        costs_bps: cost of trading, basis points of what is traded, 0 to less than 5,000.
        execution: ``"portfolio"`` buys every asset; ``"lead"`` each cluster's weight of its lead asset alone, and
            tells the tracking error against the other.
        paths: a `Bootstrap` whose resamples of the panel's rows, each in its order, are walked through as well as the
            panel as it happened. A gap then may fall into any window: give a panel with few.
        previous_weights: weights held before the first rebalance: a mapping or Series by symbol, or a mapping or frame
            of these by profile; what they lack to 1 is cash.
        seed: of the paths, 0 to 2**32 - 1.
        out: folder to write to; the module's docstring lists its files. By default nothing is written.
        precision: 64 or 32 bits of the allocations; holding and measuring is in 64.
        chunk_size: as `run_study` takes it.
        resume: go on with the walk-forward in ``out``, if there is one.
        fresh: throw away the one in ``out``, if there is one, and start again.
        dask: as `run_study` takes it.
        profile_dir: as `run_study` takes it.
        command: the command line that makes this, for its record.
        progress: called with the number of universes done since the last call; there are
            ``len(sweep) * windows * (1 + paths.n)``.

    Returns:
        `WalkForward`.

    Raises:
        InputError: an argument, the data or the folder is at fault; raised before anything is computed.
        OSError: the results could not be written; what was finished is kept.

    Example:
        >>> import jaxalloc as ja
        >>> market = ja.datasets.synthetic_market(n_assets=12, n_observations=252)
        >>> config = ja.AllocationConfig(profiles=("risk_parity",))
        >>> walk = ja.walk_forward(market, config, window=126, step=21, costs_bps=5)
        >>> walk.returns.shape, walk.turnover.shape
        ((126, 1), (6, 1))
    """
    panel = read_returns(panel, missing="mask") if isinstance(panel, pd.DataFrame) else as_panel(panel)
    settings = config if isinstance(config, Sweep) else Sweep(plain_config(check_config(config or AllocationConfig())))
    windows = RollingWindows(window, step, expanding)
    windows.prepare(panel, panel.n_observations, settings.config.periods_per_year)
    schedule = Schedule(panel.n_observations, window, step, expanding, gap).check()
    seed = check_seed(seed)
    room = 8 * len(settings) * len(settings.config.profiles) * schedule.n_held * panel.n_assets
    if room > _MOST_WEIGHTS:
        raise InputError(
            f"the weights of {len(settings):,} points on {schedule.n_held:,} rebalances take about "
            f"{room / 2**30:.0f} GiB of memory; sweep over fewer values at a time, or take a longer step"
        )
    if paths is not None:
        paths = _paths(paths, panel)
    if execution not in get_args(Execution):
        raise InputError(f"execution must be one of {', '.join(get_args(Execution))}, not {execution!r}")
    bps = one_number("costs_bps", costs_bps)
    if not 0 <= bps < _MOST_BPS:
        raise InputError(f"costs_bps must be at least 0 and less than {_MOST_BPS:,}, not {costs_bps!r}")
    previous = held_before(previous_weights, panel.symbols, settings.config.profiles)
    if precision not in (32, 64):
        raise InputError(f"precision must be 32 or 64 bits, not {precision!r}")
    if chunk_size not in ("auto", None):
        chunk_size = whole_number("chunk_size", chunk_size, 1)
    if out is None and (resume or fresh):
        raise InputError("resume and fresh are about a walk-forward in a folder: give out")
    job = _Job(panel, settings, schedule, execution, bps, previous, seed)
    studies: dict[str, Any] = {"seed": seed, "precision": precision, "chunk_size": chunk_size, "dask": dask}
    studies |= {"resume": resume, "fresh": fresh, "profile_dir": profile_dir, "progress": progress}
    identity = identity_of(panel, settings, schedule, bps, execution, paths, previous, seed, precision)
    started, clock = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), time.monotonic()
    with contextlib.ExitStack() as stack:
        store = None if out is None else stack.enter_context(open_store(out, identity, resume, fresh, paths is None))

        def allocate(sampler: Any, name: str) -> Study:
            folder = None if store is None else store.folder / name
            try:
                return run_study(panel, sampler, settings, out=folder, **studies)
            except InputError:
                if store is not None and not any((store.folder / study).exists() for study in (ALLOCATIONS, PATHS)):
                    store.close()
                    remove_study(store.folder)  # nothing came of it
                raise

        allocations = allocate(windows, ALLOCATIONS)
        resampled = None if paths is None else allocate(paths * windows, PATHS)
        record = identity | {"notes": list(panel.notes), "started": started}
        record |= {} if command is None else {"command": command}
        walk = WalkForward(
            *(panel.symbols, panel.dates, settings, schedule, bps, execution, seed, precision),
            history=job.history(allocations),
            path_figures=None if resampled is None or paths is None else job.path_figures(resampled, paths),
            allocations=allocations,
            path_allocations=resampled,
            record=record,
        )
        walk.record["seconds"] = round(time.monotonic() - clock, 3)
        if store is not None:
            write_results(walk, store)
    return walk


def _paths(paths: Any, panel: Panel) -> Bootstrap:
    """The paths' bootstrap, made ready for the panel."""
    if not isinstance(paths, Bootstrap):
        raise InputError(f"paths must be a Bootstrap, such as Bootstrap(1000, 'stationary', 21), not {paths!r}")
    if paths.n is None:
        raise InputError("paths need n, their number, such as Bootstrap(n=1000, ...)")
    return paths.prepare(panel, panel.n_observations, 1.0)


@dataclasses.dataclass(frozen=True, eq=False)
class _Job:
    """Portfolios of a study of windows, held through the rows after them.

    Attributes:
        panel: T rows, N assets.
        settings: G points, P profiles.
        schedule: J windows, R of them held, D days.
        execution: what is bought of a portfolio.
        bps: cost of trading.
        previous: (P, N) weights before the first rebalance.
        seed: of the paths.
    """

    panel: Panel
    settings: Sweep
    schedule: Schedule
    execution: Execution
    bps: float
    previous: np.ndarray
    seed: int

    @property
    def profiles(self) -> tuple[str, ...]:
        """The P profiles."""
        return self.settings.config.profiles

    @functools.cached_property
    def market(self) -> Market:
        """The panel as a holder sees it."""
        return Market.of(self.panel.values)

    def history(self, study: Study) -> History:
        """Walk through the panel as it happened, at every point of the settings."""
        rows, parts = np.arange(self.schedule.n_rows)[None, :], []
        p, r = len(self.profiles), self.schedule.n_held
        for first, targets, bets in self._portfolios(study):
            held = self._hold(np.broadcast_to(rows, (len(targets), rows.shape[1])), targets, keep_weights=True)
            figures = self._figures(held, bets, first + np.arange(len(targets)))
            own, last = held.last[:, :p], targets[:, -1, :p]
            undecided = np.isnan(last[..., 0])
            assert held.weights is not None
            parts.append(
                History(
                    *(held.gross[:, :p], held.net[:, :p], held.net[:, p:]),
                    *(held.turnover[:, :p], held.kept[:, :p], held.missing[:, :p], bets[:, :, :r]),
                    *(held.weights[:, :p], np.where(undecided[..., None], own, last), own, undecided, figures),
                )
            )
        return History(*(np.concatenate(leaves) for leaves in zip(*parts, strict=True)))

    def path_figures(self, study: Study, paths: Bootstrap) -> np.ndarray:
        """(paths, G, P, FIGURES) figures of every resampled path."""
        n = study.n // self.schedule.n_windows
        found = np.empty((len(self.settings) * n, len(self.profiles), len(FIGURES)))
        for first, targets, bets in self._portfolios(study):
            points, index = np.divmod(np.arange(first, first + len(targets)), n)
            rows = np.empty((len(index), self.schedule.n_rows), np.int32)
            for point in np.unique(points):
                mine = points == point
                rows[mine] = paths.rows(self.schedule.n_rows, self.seed, int(index[mine][0]), int(index[mine][-1]) + 1)
            found[first : first + len(targets)] = self._figures(self._hold(rows, targets), bets, points)
        return found.reshape(len(self.settings), n, *found.shape[1:]).swapaxes(0, 1)

    def _portfolios(self, study: Study) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Blocks of paths: the first one's number, targets (B, J, M, N), effective bets (B, P, J).

        Paths are numbered over all points: path b at point g is g * paths + b. M is P; where leads are executed 2 P,
        the leads' portfolios and then the whole ones.
        """
        lead, n_windows = self.execution == "lead", self.schedule.n_windows
        names = [f"{profile}.{name}" for profile in self.profiles for name in ("weights", "effective_bets")]
        if lead:
            names += ["cluster_labels", *(f"{profile}.leads" for profile in self.profiles)]
        for first, columns in _by_path(study, names, n_windows, self._most()):
            whole = [columns[f"{profile}.weights"].astype(float) for profile in self.profiles]
            whole = [weights / weights.sum(axis=1, keepdims=True) for weights in whole]  # float32's sum to 1 nearly
            if lead:
                labels = columns["cluster_labels"]
                leads = [columns[f"{profile}.leads"] for profile in self.profiles]
                whole = [concentrate(w, labels, own) for w, own in zip(whole, leads, strict=True)] + whole
            targets = np.stack(whole, axis=1)
            bets = np.stack([columns[f"{profile}.effective_bets"].astype(float) for profile in self.profiles], axis=1)
            yield (
                first,
                targets.reshape(-1, n_windows, *targets.shape[1:]),
                bets.reshape(-1, n_windows, len(self.profiles)).swapaxes(1, 2),
            )

    def _most(self) -> int:
        """Paths of a block."""
        s, n, m = self.schedule, self.panel.n_assets, len(self.profiles) * (2 if self.execution == "lead" else 1)
        numbers = 3 * s.n_windows * m * n + 4 * s.step * n + 8 * s.n_days * m + s.n_rows
        return max(1, _BLOCK_BYTES // (8 * numbers))

    def _hold(self, rows: np.ndarray, targets: np.ndarray, keep_weights: bool = False) -> Held:
        previous = np.tile(self.previous, (targets.shape[2] // len(self.previous), 1))
        return hold(self.market, rows, targets, previous, self.schedule, self.bps * 1e-4, keep_weights)

    def _figures(self, held: Held, bets: np.ndarray, points: np.ndarray) -> np.ndarray:
        """(B, P, FIGURES) of paths at these points of the settings."""
        p, n_days = len(self.profiles), self.schedule.n_days
        configs = [self.settings.at(int(point)) for point in points]
        years = np.array([[config.periods_per_year] for config in configs], float)
        rates = np.array([[config.risk_free_rate] for config in configs], float)
        net, whole = held.net[:, :p], held.net[:, p:]
        found = performance(net, years, rates)
        yearly = years / n_days if n_days else np.full_like(years, np.nan)
        turnover = held.turnover[:, :p].sum(axis=2) * yearly
        bets = bets[:, :, : self.schedule.n_held]
        some = np.isfinite(bets).sum(axis=2)
        mean_bets = np.where(some > 0, np.nansum(bets, axis=2) / np.maximum(some, 1), np.nan)
        apart = tracking_error(net - whole, years) if whole.shape[1] else np.full(turnover.shape, np.nan)
        counts = held.kept[:, :p].sum(axis=2), held.missing[:, :p].sum(axis=2)
        rest = turnover, turnover * self.bps * 1e-4, mean_bets, apart, *counts
        return np.stack([*(found[name] for name in RETURN_MEASURES), *rest], axis=2)


def _by_path(study: Study, names: list[str], n_windows: int, most: int) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Columns of the study's universes, whole paths at a time, ``most`` at most; with the number of the first one."""
    assert study.tables is not None
    first, waiting = 0, {name: np.empty(0) for name in names}
    for table in study.tables(names):
        for name, rows in waiting.items():
            new = column_values(table[name])
            waiting[name] = np.concatenate([rows, new]) if len(rows) else new
        while (whole := min(most, len(waiting[names[0]]) // n_windows)) == most:
            yield first, {name: rows[: whole * n_windows] for name, rows in waiting.items()}
            waiting = {name: rows[whole * n_windows :] for name, rows in waiting.items()}
            first += whole
    if len(waiting[names[0]]):
        yield first, waiting
