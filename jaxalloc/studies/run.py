"""run_study(): how an allocation moves when its data or its settings do, universe by universe, chunk by chunk.

A study's folder is a store (`jaxalloc.storage.writer`): chunks, running summary and a manifest while it runs, and at
the end

- ``summary.csv``, ``profiles.csv``: `Study.summary` and `Study.profile_summary`;
- ``stability.csv``: `Study.cluster_stability`; ``co_association.parquet``: `Study.co_association` (of a sweep neither);
- ``correlation.parquet``: `Study.correlation`, with the symbols;
- ``point_assets.csv``, ``point_clusters.csv``: the point estimate's `asset_table` and `cluster_table` for each profile,
  after the settings swept; without rows if the whole panel is no valid universe;
- ``study.json``: `Study.record`, the symbols, and each status: how often, and of the point estimate.

In the CSV files a symbol that would be taken for a formula has an apostrophe in front; elsewhere it is as it was.

A chunk's table has a row a universe: point (of the grid), universe (number of the draw), n_clusters, cluster_labels and
aggressors (lists, one entry an asset in the order of the symbols), and for each profile PROFILE.weights and
PROFILE.leads (lists), PROFILE.volatility and the other `jaxalloc.studies.measures.MEASURES`, PROFILE.optimality_gap and
PROFILE.status.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, get_args

import jax
import numpy as np
import pandas as pd

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.numbers import check_seed
from jaxalloc.arguments.paths import make_folder
from jaxalloc.markets.panel import Panel, as_panel
from jaxalloc.portfolios.result import Allocation
from jaxalloc.settings.config import AllocationConfig, check_config
from jaxalloc.settings.sweep import Sweep, plain_config
from jaxalloc.storage.manifest import read_manifest
from jaxalloc.storage.writer import Store
from jaxalloc.studies.chunks import ChunkResult, Computer
from jaxalloc.studies.folder import identity_of, pack, reader_of, unpack, write_results
from jaxalloc.studies.local import Local
from jaxalloc.studies.plan import Plan
from jaxalloc.studies.study import Study, in_memory
from jaxalloc.studies.totals import Totals
from jaxalloc.universes.samplers import Product, Sampler

if TYPE_CHECKING:
    import pyarrow as pa

Keep = Literal["weights", "summary"]

_SECONDS_BETWEEN_STATES = 10.0  # what a crash costs, beside the chunk in work; more where saving takes long:
_SHARE_OF_SAVING = 0.05  # of the time, at most
_MOST_SUMMARIES = 2**33  # bytes that the summaries of a sweep's points may take


def run_study(
    panel: Panel | pd.DataFrame,
    sampler: Sampler | None = None,
    config: AllocationConfig | Sweep | None = None,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    *,
    keep: Keep = "weights",
    precision: int = 64,
    chunk_size: int | Literal["auto"] | None = "auto",
    resume: bool = False,
    fresh: bool = False,
    dask: Any = None,
    profile_dir: str | os.PathLike[str] | None = None,
    command: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> Study:
    """Allocate every universe that a sampler draws from a panel, and the panel itself (the point estimate).

    A universe's portfolios depend on the panel, the settings, the precision, the seed and its number alone: another
    chunk size, an interruption, or another number of devices gives the same bits. An asset is active in a universe if
    it has a return in every row that it holds. Memory does not grow with the number of universes, if ``out`` is given
    or ``keep`` is ``"summary"``.

    Args:
        panel: returns per period, as `read_returns` makes them; or a frame of them without gaps.
        sampler: such as `Bootstrap(n=1000)`, or a product of samplers; by default the panel itself is the one universe.
        config: settings, or a grid of them from `sweep`; `AllocationConfig()` by default.
        seed: 0 to 2**32 - 1; the same one draws the same universes anywhere.
        out: folder to write to, chunk by chunk; the module's docstring lists its files. By default nothing is written.
        keep: ``"weights"`` keeps every universe's weights and clusters; ``"summary"`` only what they add up to.
        precision: 64 or 32 bits.
        chunk_size: universes computed at once, rounded up to whole tiles; ``"auto"`` is what suits the device's memory.
        resume: go on with the study in ``out``, if there is one: finished chunks are not computed again.
        fresh: throw away the study in ``out``, if there is one, and start again.
        dask: a `distributed.Client`, or the address of a scheduler: its workers compute, this process writes.
        profile_dir: folder for a trace of JAX's profiler.
        command: the command line that makes this study, for its record.
        progress: called with the number of universes done since the last call.

    Returns:
        `Study`.

    Raises:
        InputError: an argument, the data or the folder is at fault; raised before anything is computed.
        OSError: the results could not be written; what was finished is kept.

    Example:
        >>> import jaxalloc as ja
        >>> market = ja.datasets.synthetic_market(n_assets=12, n_observations=252)
        >>> config = ja.AllocationConfig(profiles=("risk_parity",))
        >>> study = run_study(market, ja.Bootstrap(n=100, method="circular", block_length=21), config)
        >>> study.weights("risk_parity").shape
        (100, 12)
    """
    panel = as_panel(panel)
    settings = config if isinstance(config, Sweep) else Sweep(plain_config(check_config(config or AllocationConfig())))
    if sampler is not None and not isinstance(sampler, Sampler):
        raise InputError(f"sampler must draw universes, such as Bootstrap(n=1000), not be {sampler!r}")
    years = settings.config.periods_per_year
    product = Product(() if sampler is None else sampler.parts).prepare(panel, panel.n_observations, years)
    if "periods_per_year" in settings.names and any(part.first for part in product.parts):
        raise InputError("periods_per_year cannot be swept over simulated returns, whose moments it scales")
    # of a point: co-association and both-active counts, and what the histograms hold
    room = len(settings) * panel.n_assets * (16 * panel.n_assets + 2**13 * len(settings.config.profiles))
    if room > _MOST_SUMMARIES:
        raise InputError(
            f"the summaries of {len(settings):,} points for {panel.n_assets} assets take about {room / 2**30:.0f} GiB "
            "of memory; sweep over fewer values at a time"
        )
    if precision not in (32, 64):
        raise InputError(f"precision must be 32 or 64 bits, not {precision!r}")
    if keep not in get_args(Keep):
        raise InputError(f"keep must be one of {', '.join(get_args(Keep))}, not {keep!r}")
    if out is None and (resume or fresh):
        raise InputError("resume and fresh are about a study in a folder: give out")
    size = None if chunk_size == "auto" else chunk_size
    stored = None if out is None or not resume else read_manifest(out)
    if size is None and stored is not None:
        size = stored.identity.get("chunk_size")
    plan = Plan(panel.values, product, settings, check_seed(seed), precision, keep, size)
    with jax.enable_x64(precision == 64), _computer(plan, dask) as computer, _trace(profile_dir):
        started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        clock = time.monotonic()
        plan = dataclasses.replace(plan, chunk_size=computer.chunk_size)
        identity = identity_of(panel, plan, computer.device)
        with (
            contextlib.nullcontext() if out is None else Store.open(out, identity, resume=resume, fresh=fresh) as store
        ):
            run = _Run(plan, computer, store)
            run.go(progress or (lambda count: None))
            seconds = round(time.monotonic() - clock, 3)
            record = identity | {"notes": list(panel.notes), "started": started, "seconds": seconds}
            record |= {} if command is None else {"command": command}
            study = run.study(panel.symbols, record)
            if store is not None:
                write_results(study, store)
    return study


# ---- computing ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _computer(plan: Plan, dask: Any) -> Iterator[Computer]:
    if dask is None:
        yield Local(plan)
        return
    from jaxalloc.studies.dask import on_cluster

    with on_cluster(plan, dask) as computer:
        yield computer


@contextlib.contextmanager
def _trace(profile_dir: str | os.PathLike[str] | None) -> Iterator[None]:
    if profile_dir is None:
        yield
        return
    make_folder(profile_dir)
    with jax.profiler.trace(os.fspath(profile_dir)):
        yield


class _Run:
    """A study on its way: which chunks are to do, what the finished ones add up to, where they go."""

    def __init__(self, plan: Plan, computer: Computer, store: Store | None) -> None:
        self.plan, self.computer, self.store = plan, computer, store
        self.n_chunks = -(-plan.n_universes // computer.chunk_size)
        self.covered = 0  # chunks in the totals, from the first on
        self.tables: list[pa.Table] = []
        self.estimates: Allocation | None = None
        self.correlation: np.ndarray | None = None
        n_profiles = len(plan.settings.config.profiles)
        self.totals = [Totals(n_profiles, plan.returns.shape[1]) for _ in range(len(plan.settings))]
        state = None if store is None else store.load_state()
        if state is not None:
            self.covered = state[0]
            self.estimates, self.totals = unpack(state[1])
        self._save_at = time.monotonic() + _SECONDS_BETWEEN_STATES

    def go(self, progress: Callable[[int], None]) -> None:
        """Compute what is missing; whatever stops it, finished chunks are kept."""
        keeps = self.store is not None and self.plan.keep == "weights"
        done = self.store.done if keeps and self.store is not None else frozenset()
        # beyond the running summary a chunk is computed again even if it is written: its sums are wanted
        missing = [number for number in range(self.covered) if keeps and number not in done]
        numbers = missing + list(range(self.covered, self.n_chunks))
        skipped = set(range(self.n_chunks)) - set(numbers)
        if skipped:
            progress(sum(self._size(number) for number in skipped))
        if self.estimates is None:
            self.estimates = self.computer.estimate()
        self.correlation = self.computer.correlation()
        covered = self.covered
        try:
            self.computer.run(numbers, self._consume, progress)
        finally:
            # where writing failed, it would only fail again and hide the first error
            if self.store is not None and self.covered > covered:
                with contextlib.suppress(OSError) if self.covered < self.n_chunks else contextlib.nullcontext():
                    self._save()

    def study(self, symbols: list[str], record: dict[str, Any]) -> Study:
        """Return what it came to."""
        assert self.estimates is not None
        tables = None
        if self.plan.keep == "weights":
            tables = in_memory(self.tables) if self.store is None else reader_of(self.store.stored)
        plan = self.plan
        return Study(
            *(symbols, plan.settings, plan.n_draws, plan.seed, plan.precision),
            *(self.estimates, self.totals, record, tables, self.correlation),
        )

    def _size(self, number: int) -> int:
        size = self.computer.chunk_size
        return min(size, self.plan.n_universes - number * size)

    def _consume(self, number: int, result: ChunkResult) -> None:
        """Write a chunk, then add it to the totals."""
        if result.table is not None:
            if self.store is None:
                self.tables.append(result.table)
            elif number not in self.store.done:
                self.store.write_chunk(number, result.table)
        if number < self.covered:
            return
        for point, partial in result.partials:
            self.totals[point].add(partial)
        self.covered = number + 1
        if self.store is not None and time.monotonic() > self._save_at:
            self._save()

    def _save(self) -> None:
        assert self.store is not None
        assert self.estimates is not None
        start = time.monotonic()
        self.store.save_state(self.covered, pack(self.estimates, self.totals))
        end = time.monotonic()
        self._save_at = end + max(_SECONDS_BETWEEN_STATES, (end - start) / _SHARE_OF_SAVING)


# ---- the record -----------------------------------------------------------------------------------------------------


# ---- the results' files ---------------------------------------------------------------------------------------------
