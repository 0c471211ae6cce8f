"""A plan computed, chunk by chunk, and its results: what `run_study` and `walk_forward` do with a checked plan."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import jax
import numpy as np

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.paths import as_path, make_folder
from jaxalloc.arguments.words import unquoted
from jaxalloc.markets.source import Source
from jaxalloc.portfolios.result import Allocation
from jaxalloc.storage.recovery import manifest_of, read_manifest
from jaxalloc.storage.writer import Store
from jaxalloc.studies.bags import Bags
from jaxalloc.studies.chunks import ChunkResult, Computer
from jaxalloc.studies.dask import SchedulerLostError, dask_workers
from jaxalloc.studies.folder import BAGS, InFolder, pack, unpack, write_results
from jaxalloc.studies.identity import identity_of
from jaxalloc.studies.local import LocalDevices
from jaxalloc.studies.missing import note_of_gaps
from jaxalloc.studies.plan import Plan
from jaxalloc.studies.study import InMemory, Study, Tables
from jaxalloc.studies.totals import Totals
from jaxalloc.universes.scenarios import Parametric, Truth

if TYPE_CHECKING:
    import pyarrow as pa

_SHARE_OF_SAVING = 0.05  # of the time, at most, goes into saving states; a crash costs the work since the last one


_AGAIN = "start a scheduler and workers, and run it again with resume=True"


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """How a study is computed, and where it is written: no number depends on it.

    Attributes:
        out: folder to write to, or None.
        resume: whether to go on with the study in ``out``, if there is one.
        fresh: whether to throw away the study in ``out``, if there is one.
        dask: a `distributed.Client`, the address of a scheduler, or None for this process.
        profile_dir: folder for a trace of JAX's profiler, or None.
        progress: called with the number of universes done since the last call, or None.
        sensitivity: whether what the panel's own portfolios hang on is measured, too.
        inside: whether ``out`` lies in a folder of ours, where it must be no link.
    """

    out: str | os.PathLike[str] | None = None
    resume: bool = False
    fresh: bool = False
    dask: Any = None
    profile_dir: str | os.PathLike[str] | None = None
    progress: Callable[[int], None] | None = None
    sensitivity: bool = False
    inside: bool = False

    def check(self, kind: str) -> RunOptions:
        """Return itself; raise `InputError` where a choice is about a folder that is not given."""
        if self.out is None and (self.resume or self.fresh):
            raise InputError(f"resume and fresh need the folder of a {kind}: give out")
        return self


def compute_study(
    plan: Plan,
    source: Source,
    options: RunOptions,
    command: str | None = None,
    notes_on: Callable[[Study], list[str]] = lambda study: [],
) -> Study:
    """Compute a plan, write its folder if there is one, and return the results.

    Args:
        plan: of the study.
        source: of the plan's panel.
        options: where and how to compute.
        command: the command line that makes this study, for its record.
        notes_on: what is to be said of the results, for the record after the notes of the panel.

    Raises:
        InputError: the folder, the cluster or the chunk size is at fault; raised before anything is computed.
        OSError: the results could not be written; what was finished is kept.
    """
    with _started(plan, source, options) as (plan, computer, store, identity):
        started, clock = timestamp(), time.monotonic()
        sums = _Summaries(plan, computer)
        run = _Run(plan, computer, store, sums)
        run.go(options.progress or (lambda count: None))
        seconds = round(time.monotonic() - clock, 3)
        notes = [*source.notes, *note_of_gaps(source.symbols, plan, sums.totals[0].tallies)]
        record = identity | {"notes": notes, "started": started, "seconds": seconds}
        record |= {} if command is None else {"command": command}
        study = sums.study(source.symbols, record, run.tables)
        if options.sensitivity:
            study = dataclasses.replace(study, sensitivities=study.sensitivity(None))
        record["notes"] = [*notes, *notes_on(study)]
        if store is not None:
            write_results(study, store)
    return study


def compute_bags(plan: Plan, source: Source, options: RunOptions) -> Bags:
    """Compute a plan of groups of universes; its folder, if there is one, holds nothing but the sums.

    Args:
        plan: whose sampler ends in `jaxalloc.universes.bootstrap.Bags`.
        source: of the plan's panel.
        options: where and how to compute.

    Raises:
        InputError: the folder, the cluster or the chunk size is at fault, or memory would not do; raised before
            anything is computed.
        OSError: the sums could not be written.
    """
    plan = dataclasses.replace(plan, keep="means")
    sums = Bags.of(plan)
    with _started(plan, source, options, {"kind": BAGS}) as (plan, computer, store, _):
        run = _Run(plan, computer, store, sums)
        run.go(options.progress or (lambda count: None))
        if store is not None:
            store.finish()
    return sums


@contextlib.contextmanager
def _started(
    plan: Plan, source: Source, options: RunOptions, kind: dict[str, str] | None = None
) -> Iterator[tuple[Plan, Computer, Store | None, dict[str, Any]]]:
    """Yield the plan with its chunk size, what computes it, where it is written, and its identity."""
    plan = _with_size_of_store(plan, options)
    with (
        jax.enable_x64(plan.precision == 64),
        _computer(plan, options.dask) as computer,
        _trace(options.profile_dir),
    ):
        plan = dataclasses.replace(plan, chunk_size=computer.chunk_size)
        identity = (kind or {}) | identity_of(plan, source, computer.device)
        with _store(identity, options) as store:
            yield plan, computer, store, identity


def timestamp() -> str:
    """Return the time as a record has it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _with_size_of_store(plan: Plan, options: RunOptions) -> Plan:
    """The plan, with the chunk size of the study that is resumed where it names none."""
    if plan.chunk_size is not None or options.out is None or not options.resume:
        return plan
    stored = manifest_of(as_path(options.out)) if options.inside else read_manifest(options.out)
    size = None if stored is None else stored.identity.get("chunk_size")
    possible = isinstance(size, int) and 1 <= size < 2**31  # `check_identity` says what is wrong with another one
    return dataclasses.replace(plan, chunk_size=size) if possible else plan


def _store(identity: dict[str, Any], options: RunOptions) -> contextlib.AbstractContextManager[Store | None]:
    if options.out is None:
        return contextlib.nullcontext()
    return Store.open(options.out, identity, resume=options.resume, fresh=options.fresh, inside=options.inside)


@contextlib.contextmanager
def _computer(plan: Plan, dask: Any) -> Iterator[Computer]:
    if dask is None:
        yield LocalDevices(plan)
        return
    with dask_workers(plan, dask) as computer:
        yield computer


@contextlib.contextmanager
def _trace(profile_dir: str | os.PathLike[str] | None) -> Iterator[None]:
    if profile_dir is None:
        yield
        return
    make_folder(profile_dir)
    with jax.profiler.trace(os.fspath(profile_dir)):
        yield


def _truth_of(plan: Plan) -> Truth | None:
    """The distribution of the universes' returns, where they are simulated."""
    first = plan.sampler.parts[:1]
    simulated = [part for part in first if isinstance(part, Parametric)]
    return simulated[0].truth(plan.settings.config.periods_per_year) if simulated else None


class _Sums(Protocol):
    """What the chunks of a run add up to."""

    def begin(self) -> None:
        """Get ready to add the first chunk."""
        ...

    def take(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on from what `arrays` gave."""
        ...

    def add_chunk(self, start: int, result: ChunkResult) -> None:
        """Add the next chunk, whose first universe has this number."""
        ...

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all of it as named arrays."""
        ...


class _Summaries:
    """The panel's own portfolios, and the totals of the universes at each point."""

    def __init__(self, plan: Plan, computer: Computer) -> None:
        self.plan, self.computer = plan, computer
        self.estimates: Allocation | None = None
        self.correlation: np.ndarray | None = None
        n_profiles = len(plan.settings.config.profiles)
        self.totals = [Totals(n_profiles, plan.returns.shape[1]) for _ in range(len(plan.settings))]

    def begin(self) -> None:
        if self.estimates is None:
            self.estimates = self.computer.estimate()
        self.correlation = self.computer.correlation()

    def take(self, arrays: dict[str, np.ndarray]) -> None:
        sizes = (len(self.plan.settings), len(self.plan.settings.config.profiles), self.plan.returns.shape[1])
        self.estimates, self.totals = unpack(arrays, sizes, "the study")

    def add_chunk(self, start: int, result: ChunkResult) -> None:
        for point, partial in result.partials:
            self.totals[point].add(partial)

    def arrays(self) -> dict[str, np.ndarray]:
        assert self.estimates is not None
        return pack(self.estimates, self.totals)

    def study(self, symbols: list[str], record: dict[str, Any], tables: Tables | None) -> Study:
        """Return the results."""
        assert self.estimates is not None
        assert self.correlation is not None
        return Study(
            symbols=symbols,
            settings=self.plan.settings,
            n=self.plan.n_draws,
            seed=self.plan.seed,
            precision=self.plan.precision,
            estimates=self.estimates,
            totals=self.totals,
            record=record,
            tables=tables,
            correlation=self.correlation,
            truth=_truth_of(self.plan),
            plan=self.plan,
        )


class _Run:
    """A study in progress: which chunks are missing, the sums of the finished ones, and where they are written."""

    def __init__(self, plan: Plan, computer: Computer, store: Store | None, sums: _Sums) -> None:
        self.plan, self.computer, self.store, self.sums = plan, computer, store, sums
        self.n_chunks = -(-plan.n_universes // computer.chunk_size)
        self.covered = 0  # chunks in the sums, from the first on
        self._tables: list[pa.Table] = []
        state = None if store is None else store.load_state()
        if state is not None:
            self.covered = state[0]
            sums.take(state[1])
        self._saved = self.covered  # chunks in the last state
        self._save_at = time.monotonic()  # after the first chunk already: the run may be killed before the next

    @property
    def tables(self) -> Tables | None:
        """What reads the chunks' tables; None if universes are not kept."""
        if self.plan.keep != "weights":
            return None
        return InMemory(self._tables) if self.store is None else InFolder(self.store.stored)

    def go(self, progress: Callable[[int], None]) -> None:
        """Compute what is missing; finished chunks are kept, whatever stops it."""
        keeps = self.store is not None and self.plan.keep == "weights"
        done = self.store.done if keeps and self.store is not None else frozenset()
        # a chunk beyond the running summary is computed again even if it is written, because its sums are missing
        missing = [number for number in range(self.covered) if keeps and number not in done]
        numbers = missing + list(range(self.covered, self.n_chunks))
        skipped = set(range(self.n_chunks)) - set(numbers)
        if skipped:
            progress(sum(self._size(number) for number in skipped))
        try:
            self.sums.begin()
            self.computer.run(numbers, self._consume, progress)
        except SchedulerLostError as error:
            raise SchedulerLostError(f"{error}; {self._what_is_kept()}") from None
        finally:
            # after a failed write another attempt would fail too, and hide the first error
            if self.store is not None and self.covered > self._saved:
                with contextlib.suppress(OSError) if self.covered < self.n_chunks else contextlib.nullcontext():
                    self._save()

    def _what_is_kept(self) -> str:
        """What a run that stops here leaves, and how to go on with it."""
        if self.store is None:
            return "nothing is kept; give a folder as out to be able to resume"
        done = self.store.done if self.plan.keep == "weights" else range(self.covered)
        kept = sum(map(self._size, done))
        return f"{kept:,} of {self.plan.n_universes:,} universes are kept in {unquoted(self.store.folder)}; {_AGAIN}"

    def _size(self, number: int) -> int:
        size = self.computer.chunk_size
        return min(size, self.plan.n_universes - number * size)

    def _consume(self, number: int, result: ChunkResult) -> None:
        """Write a chunk, then add it to the sums."""
        if result.table is not None:
            if self.store is None:
                self._tables.append(result.table)
            elif number not in self.store.done:
                self.store.write_chunk(number, result.table)
        if number < self.covered:
            return
        self.sums.add_chunk(number * self.computer.chunk_size, result)
        self.covered = number + 1
        if self.store is not None and time.monotonic() >= self._save_at:
            self._save()

    def _save(self) -> None:
        assert self.store is not None
        start = time.monotonic()
        self.store.save_state(self.covered, self.sums.arrays())
        self._saved = self.covered
        end = time.monotonic()
        self._save_at = end + (end - start) / _SHARE_OF_SAVING
