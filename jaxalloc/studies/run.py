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
import functools
import hashlib
import io
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import jax
import numpy as np
import pandas as pd

from jaxalloc._version import __version__
from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.numbers import check_seed
from jaxalloc.markets.files import label_text
from jaxalloc.markets.panel import Panel, as_panel
from jaxalloc.portfolios.allocation import RESULT_FIELDS, Allocation, valid_universes
from jaxalloc.settings.config import AllocationConfig, check_config
from jaxalloc.settings.status import Status
from jaxalloc.settings.sweep import Sweep, plain_config
from jaxalloc.storage.reader import StoredStudy, read_manifest
from jaxalloc.storage.writer import Store
from jaxalloc.studies.chunks import ChunkResult, Pending, Plan, Runner, device_name
from jaxalloc.studies.measures import Totals
from jaxalloc.studies.study import Study, in_memory
from jaxalloc.studies.tables import ASSET_COLUMNS, CLUSTER_COLUMNS, asset_table, cluster_table, universe_of, write_csv
from jaxalloc.universes.samplers import Product, Sampler

if TYPE_CHECKING:
    import pyarrow as pa

RECORD, CORRELATION = "study.json", "correlation.parquet"
Keep = Literal["weights", "summary"]

_SECONDS_BETWEEN_STATES = 10.0  # what a crash costs, beside the chunk in work; more where saving takes long:
_SHARE_OF_SAVING = 0.05  # of the time, at most
_MOST_SUMMARIES = 2**33  # bytes that the summaries of a sweep's points may take

Consume = Callable[[int, ChunkResult], None]


class Computer(Protocol):
    """Who computes the chunks: this process, or workers elsewhere."""

    chunk_size: int
    device: str

    def estimate(self) -> Allocation:
        """Return the point estimates."""
        ...

    def correlation(self) -> np.ndarray:
        """Return the whole panel's correlations."""
        ...

    def run(self, numbers: list[int], consume: Consume, progress: Callable[[int], None]) -> None:
        """Compute chunks and hand them over, in this order."""
        ...


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
        identity = _identity(panel, plan, computer.device)
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
                _write_results(study, store)
    return study


def load_study(folder: str | os.PathLike[str]) -> Study:
    """Load a finished study from its folder; universes are read from there when they are asked for.

    Raises:
        InputError: there is no study, it is not finished, or a file of it is damaged.
    """
    stored = StoredStudy.open(folder)
    if stored.manifest.identity.get("kind") == "walk-forward":
        raise InputError(f"{_name(folder)} holds a walk-forward; load it with load_walk_forward")
    state = stored.state()
    if not stored.manifest.finished:
        raise InputError(f"the study in {_name(folder)} is not finished; run it again with resume=True")
    if state is None:
        raise InputError(f"the summary in {_name(folder)} is damaged; run the study again with resume=True to redo it")
    record = json.loads(stored.result(RECORD))
    names = record.pop("symbols")
    del record["status_counts"], record["point_status"]
    identity = stored.manifest.identity
    settings = identity["settings"]
    base = settings["config"] | {"profiles": tuple(settings["config"]["profiles"])}
    grid = tuple((name, tuple(values)) for name, values in settings["grid"].items())
    estimates, totals = _unpack(state[1])
    return Study(
        symbols=names,
        settings=Sweep(AllocationConfig(**base), grid),
        n=identity["n"],
        seed=identity["seed"],
        precision=identity["precision"],
        estimates=estimates,
        totals=totals,
        record=record,
        tables=_reader(stored) if identity["keep"] == "weights" else None,
        correlation=_read_correlation(stored),
    )


# ---- computing ------------------------------------------------------------------------------------------------------


class _Local:
    """This process computes: a chunk is fetched and written while the devices work on the next."""

    def __init__(self, plan: Plan) -> None:
        self.runner = Runner(plan)
        self.chunk_size = self.runner.chunk_size
        self.device = device_name()

    def estimate(self) -> Allocation:
        """Return the point estimates."""
        return self.runner.estimate

    def correlation(self) -> np.ndarray:
        """Return the whole panel's correlations."""
        return self.runner.correlation

    def run(self, numbers: list[int], consume: Consume, progress: Callable[[int], None]) -> None:
        """Compute chunks and hand them over, in this order."""
        behind: Future[None] | None = None
        begun: deque[Pending] = deque(maxlen=2)  # the chunk that is waited for, and the next
        with ThreadPoolExecutor(1) as pool:
            try:
                for number in numbers:
                    begun.append(self.runner.start(number, progress))
                    if behind is not None:
                        behind.result()
                    behind = pool.submit(lambda n, p: consume(n, self.runner.finish(p)), number, begun[-1])
                if behind is not None:
                    behind.result()
            except BaseException:
                for pending in begun:
                    pending.chunk.cancel()
                if behind is not None:  # a chunk that is computed is kept
                    behind.exception()
                raise


@contextlib.contextmanager
def _computer(plan: Plan, dask: Any) -> Iterator[Computer]:
    if dask is None:
        yield _Local(plan)
        return
    from jaxalloc.studies.dask import on_cluster

    with on_cluster(plan, dask) as computer:
        yield computer


@contextlib.contextmanager
def _trace(profile_dir: str | os.PathLike[str] | None) -> Iterator[None]:
    if profile_dir is None:
        yield
        return
    try:
        Path(profile_dir).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{_name(profile_dir)}: cannot write there ({error.strerror}); choose another folder"
        ) from None
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
            self.estimates, self.totals = _unpack(state[1])
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
            tables = in_memory(self.tables) if self.store is None else _reader(self.store.stored)
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
        self.store.save_state(self.covered, _pack(self.estimates, self.totals))
        end = time.monotonic()
        self._save_at = end + max(_SECONDS_BETWEEN_STATES, (end - start) / _SHARE_OF_SAVING)


def _pack(estimates: Allocation, totals: list[Totals]) -> dict[str, np.ndarray]:
    """Point estimates and totals as named arrays."""
    arrays = {f"estimate.{name}": np.asarray(getattr(estimates, name)) for name in RESULT_FIELDS}
    for point, total in enumerate(totals):
        arrays |= {f"{point}.{name}": array for name, array in total.arrays().items()}
    return arrays


def _unpack(arrays: dict[str, np.ndarray]) -> tuple[Allocation, list[Totals]]:
    estimates = Allocation(**{name: arrays[f"estimate.{name}"] for name in RESULT_FIELDS})
    totals = []
    for point in range(len(estimates.status)):
        prefix = f"{point}."
        mine = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
        totals.append(Totals.from_arrays(mine))
    return estimates, totals


def _reader(stored: StoredStudy) -> Callable[..., Iterator[pa.Table]]:
    return lambda names: (table for _, table in stored.chunks(names))


def _read_correlation(stored: StoredStudy) -> np.ndarray | None:
    """The panel's correlations; None if the study was stored before they were."""
    if CORRELATION not in stored.manifest.results:
        return None
    return pd.read_parquet(io.BytesIO(stored.result(CORRELATION)), engine="pyarrow").to_numpy()


# ---- the record -----------------------------------------------------------------------------------------------------


def _identity(panel: Panel, plan: Plan, device: str) -> dict[str, Any]:
    """What a study's numbers depend on; one that is resumed must agree in all of it."""
    import jaxlib.version

    return {
        "data": {
            "sha256": data_hash(panel),
            "n_observations": panel.n_observations,
            "n_assets": panel.n_assets,
            "first": label_text(panel.dates[0]),
            "last": label_text(panel.dates[-1]),
        },
        "settings": {
            "config": dataclasses.asdict(plan.settings.config),
            "grid": {name: list(values) for name, values in plan.settings.grid},
        },
        "sampler": plan.sampler.settings(),
        "n": plan.n_draws,
        "seed": plan.seed,
        "precision": plan.precision,
        "keep": plan.keep,
        "chunk_size": plan.chunk_size,
        "versions": {
            "jaxalloc": __version__,
            "jax": jax.__version__,
            "jaxlib": jaxlib.version.__version__,
            "numpy": np.__version__,
        },
        "device": device,
    }


def data_hash(panel: Panel) -> str:
    """SHA-256 of a panel's symbols, dates and returns (all gaps are alike), in hexadecimal."""
    values = np.where(np.isnan(panel.values), np.nan, panel.values)
    labels = json.dumps([panel.symbols, [str(date) for date in panel.dates]])
    return hashlib.sha256(labels.encode() + np.ascontiguousarray(values, "<f8").tobytes()).hexdigest()


def _name(path: str | os.PathLike[str]) -> str:
    return repr(os.fspath(path))[1:-1]  # escapes what could break a message's single line


# ---- the results' files ---------------------------------------------------------------------------------------------


def put_frame(store: Store, name: str, frame: pd.DataFrame) -> None:
    """Write a frame as one of a store's results, as CSV or Parquet by the name's ending."""
    if name.endswith(".csv"):
        store.write_result(name, lambda path: write_csv(frame, path))
    else:
        store.write_result(name, lambda path: frame.to_parquet(path, engine="pyarrow"))


def put_record(store: Store, name: str, record: dict[str, Any]) -> None:
    """Write plain values as one of a store's results, in JSON."""
    text = json.dumps(record, ensure_ascii=False, indent=2) + "\n"
    store.write_result(name, lambda path: path.write_text(text, encoding="utf-8"))


def _write_results(study: Study, store: Store) -> None:
    """Write the files that the module's docstring lists, the record last."""
    put = functools.partial(put_frame, store)
    put("summary.csv", study.summary())
    put("profiles.csv", study.profile_summary())
    if not study.settings.names:
        put("stability.csv", study.cluster_stability())
        put("co_association.parquet", study.co_association())
    if study.correlation is not None:
        names = pd.Index(study.symbols, name="symbol")
        put(CORRELATION, pd.DataFrame(study.correlation, index=names, columns=names.rename(None)))
    put("point_assets.csv", _point_tables(study, asset_table, ASSET_COLUMNS))
    put("point_clusters.csv", _point_tables(study, cluster_table, CLUSTER_COLUMNS))
    record = study.record | {
        "symbols": study.symbols,
        "status_counts": study.status_counts().reset_index().to_dict(orient="records"),
        "point_status": [
            {
                profile: [bit.name for bit in Status(int(status))]
                for profile, status in zip(study.profiles, statuses, strict=True)
            }
            for statuses in study.estimates.status
        ],
    }
    put_record(store, RECORD, record)
    store.finish()


def _point_tables(study: Study, table: Callable[..., pd.DataFrame], columns: tuple[str, ...]) -> pd.DataFrame:
    """The point estimate's table of every profile, index "profile"; empty if the whole panel is no valid universe."""

    def one(point: int) -> pd.DataFrame:
        estimate, config = universe_of(study.estimates, point), study.settings.at(point)
        if not valid_universes(estimate.status):
            return pd.DataFrame(columns=columns, index=pd.Index([], name="profile"))
        tables = [table(estimate, profile, config, study.symbols) for profile in study.profiles]
        return pd.concat(tables, keys=study.profiles, names=["profile", "row"]).droplevel("row")

    return study.over_points(one, None)
