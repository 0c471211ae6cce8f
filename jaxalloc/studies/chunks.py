"""One chunk of a study, computed: by the process that runs the study, or by a worker elsewhere."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxalloc.engine.scheduler import Chunk, Device, Engine, compute_devices
from jaxalloc.engine.shapes import measured_at_once
from jaxalloc.engine.stages import Items
from jaxalloc.kernels.moments.sample import Moments
from jaxalloc.markets.holes import weigh_gaps
from jaxalloc.portfolios.estimates import Given, observe
from jaxalloc.portfolios.profiles import PROFILES
from jaxalloc.portfolios.result import Allocation, valid_universes
from jaxalloc.settings.config import AllocationConfig, cast_config
from jaxalloc.settings.measures import MEASURES
from jaxalloc.settings.sweep import SWEPT_CHOICES
from jaxalloc.studies.measures import Reference, measure_universes
from jaxalloc.studies.plan import Plan
from jaxalloc.studies.totals import Partial, reduce_universes, to_host
from jaxalloc.universes.samplers import holds_out, steps
from jaxalloc.universes.universe import WHOLE_PANEL, seed_key

if TYPE_CHECKING:
    import pyarrow as pa

_FEW_POINTS = 4  # of a sweep's grid, whose partials may stay on the device until the chunk is done


class ChunkResult(NamedTuple):
    """The results of a chunk, on the host.

    Attributes:
        table: a row a universe, or None if the study keeps no universes.
        partials: (point of the grid, `Partial`) in the order of the universes.
        weights: (C, P, N) of the universes, where the plan keeps means of them.
        valid: (C,) bool, likewise.
    """

    table: pa.Table | None
    partials: list[tuple[int, Partial]]
    weights: np.ndarray | None = None
    valid: np.ndarray | None = None


class Pending(NamedTuple):
    """A chunk in work on the devices.

    Attributes:
        start: its first universe.
        stop: one past its last.
        chunk: the engine's.
    """

    start: int
    stop: int
    chunk: Chunk


class Runner:
    """Computes a plan's chunks, with its programs and panel on the devices.

    Use it where JAX's x64 mode is on if and only if the plan's precision is 64.
    """

    def __init__(self, plan: Plan) -> None:
        """Put the panel on the devices."""
        self.plan = plan
        n_rows, n_assets = plan.returns.shape
        draws = steps(plan.sampler, n_rows)
        simulated = any(part.first for part in plan.sampler.parts)
        self._gaps = weigh_gaps(plan.returns, plan.max_missing)
        # simulated universes read nothing of the panel
        panel = np.zeros((1, n_assets)) if simulated else self._gaps.returns
        config = plan.settings.config
        self.engine = Engine(
            panel.shape,
            config,
            plan.chunk_size,
            panel=panel,
            draws=draws,
            key=seed_key(plan.seed),
            gaps=None if simulated else self._gaps,
            keep_left_out=holds_out(plan.sampler),
        )
        self._by_choices: dict[tuple[Any, ...], tuple[Engine, Engine]] = {}
        self._sleeves = tuple(PROFILES[profile].sleeve for profile in config.profiles)
        self._whole = self.engine
        if simulated:  # the panel's own portfolios still need the panel
            whole = self._gaps.returns
            self._whole = Engine(whole.shape, config, panel=whole, draws=(), key=seed_key(plan.seed), gaps=self._gaps)
        self._references: dict[Device, Reference] = {}

    @property
    def chunk_size(self) -> int:
        """Universes of a chunk."""
        return self.engine.chunk_size

    @property
    def n_chunks(self) -> int:
        """Chunks of the study."""
        return -(-self.plan.n_universes // self.chunk_size)

    @functools.cached_property
    def estimate(self) -> Allocation:
        """The panel's own portfolios at every point of the grid, leading axis G."""
        size, parts = self._whole.chunk_size, []
        for start in range(0, len(self.plan.settings), size):
            points = np.arange(start, min(start + size, len(self.plan.settings)))
            parts.append(self._begin(np.full(len(points), WHOLE_PANEL), points, whole=True).allocation())
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)

    @functools.cached_property
    def correlation(self) -> np.ndarray:
        """(N, N) correlations of the whole panel at the point `Sweep.home`; NaN for an asset put out of it."""
        config = self.plan.settings.at(self.plan.settings.home)
        dtype = self.engine.dtype
        moments = _moments(self._gaps.returns.astype(dtype), cast_config(config, dtype), self._gaps.whole)
        active, covariance = np.asarray(moments.active), np.asarray(moments.covariance)
        variance = np.where(active & np.asarray(moments.valid), np.diagonal(covariance), np.nan)
        scale = 1 / np.sqrt(np.where(variance > 0, variance, np.nan))
        return np.clip(covariance * (scale[:, None] * scale[None, :]), -1, 1)

    def start(self, number: int, progress: Callable[[int], None] | None = None) -> Pending:
        """Begin to compute chunk ``number``, after those begun before; return at once."""
        plan = self.plan
        if plan.keep != "means":
            self._references = self._references or self._make_references()
        start = number * self.chunk_size
        stop = min(start + self.chunk_size, plan.n_universes)
        points, index = np.divmod(np.arange(start, stop), plan.n_draws)
        return Pending(start=start, stop=stop, chunk=self._begin(index, points, progress))

    def _begin(
        self,
        index: np.ndarray,
        points: np.ndarray,
        progress: Callable[[int], None] | None = None,
        *,
        whole: bool = False,
    ) -> Chunk:
        """Begin to allocate universes at points of the grid, those of the same choices by one engine.

        Args:
            index: (C,) numbers of the universes.
            points: (C,) ascending.
            progress: as `Engine.start` takes it.
            whole: whether the universes are the panel itself.
        """
        settings = self.plan.settings
        numbers = settings.numbers(points)
        choices = {name: numbers.pop(name) for name in SWEPT_CHOICES if name in numbers}
        changes = np.any([values[1:] != values[:-1] for values in choices.values()], axis=0) if choices else []
        edges = [0, *(np.flatnonzero(changes) + 1).tolist(), len(points)]
        chunks = []
        for first, end in itertools.pairwise(edges):
            run = slice(first, end)
            engine = self._engines(settings.at(int(points[first])))[whole]
            own = {name: values[run] for name, values in numbers.items()}
            chunks.append(engine.start(Items(index=index[run]), own, progress))
        return Chunk.of(chunks)

    def _engines(self, config: AllocationConfig) -> tuple[Engine, Engine]:
        """The engines of the universes and of the panel itself, one of each for all settings with the same choices."""
        choices = tuple(getattr(config, name) for name in SWEPT_CHOICES)
        if choices not in self._by_choices:
            self._by_choices[choices] = self.engine.with_choices(config), self._whole.with_choices(config)
        return self._by_choices[choices]

    def finish(self, pending: Pending) -> ChunkResult:
        """Wait for a chunk, measure its universes, and bring it to the host."""
        if self.plan.keep == "means":
            return _weights_of(pending.chunk)
        with jax.enable_x64(self.plan.precision == 64):  # the mode belongs to the thread, and this may be another one
            measures, partials = self._measure(pending)
        partials = [(point, to_host(partial)) for point, partial in partials]
        if self.plan.keep != "weights":
            return ChunkResult(table=None, partials=partials)
        parts = zip(pending.chunk.parts, measures, strict=True)
        on_host = np.concatenate([np.asarray(array)[: part.count] for part, array in parts])
        return ChunkResult(table=self._table(pending, pending.chunk.allocation(), on_host), partials=partials)

    def _measure(self, pending: Pending) -> tuple[list[jax.Array], list[tuple[int, Partial]]]:
        """Each part's measures (capacity, P, M), and what its universes add to the totals, on the devices."""
        plan, block, backend = self.plan, self.engine.sizes.group, self.engine.backend
        all_points = np.arange(pending.start, pending.stop) // plan.n_draws
        measures, partials, first = [], [], 0
        for part in pending.chunk.parts:
            points = np.resize(all_points[first : first + part.count], self.engine.sizes.capacity).astype(np.int32)
            reference, n_rows = self._references[part.device], part.left_out.shape[1]
            at_once = measured_at_once(self.engine.sizes, len(self._sleeves), n_rows, self.engine.dtype)
            measured = measure_universes(at_once, part.results, part.left_out, points, reference, backend)
            for point in np.unique(points[: part.count]):
                low, high = np.searchsorted(points[: part.count], [point, point + 1]).astype(np.int32)
                partial = reduce_universes(block, self._sleeves, part.results, measured, low, high)
                # its whole histograms are large, so those of many points are fetched at once and kept sparse
                partials.append((int(point), to_host(partial) if len(plan.settings) > _FEW_POINTS else partial))
            measures.append(measured)
            first += part.count
        return measures, partials

    def _make_references(self) -> dict[Device, Reference]:
        """What universes are compared with, on each device."""
        plan, dtype = self.plan, self.engine.dtype
        returns = self._gaps.returns if holds_out(plan.sampler) else self._gaps.returns[:0]
        missing = ~np.isfinite(returns)
        configs = [plan.settings.at(point) for point in range(len(plan.settings))]
        reference = Reference(
            weights=self.estimate.weights.astype(dtype),
            returns=np.where(missing, 0, returns).astype(dtype),
            missing=missing.astype(dtype),
            periods_per_year=np.array([config.periods_per_year for config in configs], dtype),
            risk_free_rate=np.array([config.risk_free_rate for config in configs], dtype),
        )
        return {device: jax.device_put(reference, device) for device in self.engine.devices}

    def _table(self, pending: Pending, result: Allocation, measures: np.ndarray) -> pa.Table:
        """The chunk's table; `jaxalloc.studies.run` lists its columns."""
        import pyarrow as pa

        points, index = np.divmod(np.arange(pending.start, pending.stop), self.plan.n_draws)
        n_assets = result.weights.shape[2]
        leads = np.zeros(result.weights.shape, bool)
        universe, profile, cluster = np.nonzero(result.lead_assets >= 0)
        leads[universe, profile, result.lead_assets[universe, profile, cluster]] = True

        def listed(values: np.ndarray) -> pa.Array:
            flat = pa.array(np.ascontiguousarray(values).reshape(-1))
            return pa.FixedSizeListArray.from_arrays(flat, n_assets)

        columns: dict[str, Any] = {
            "point": points.astype(np.int32),
            "universe": index,
            "n_clusters": result.n_clusters,
            "cluster_labels": listed(result.cluster_labels),
            "aggressors": listed(result.aggressors),
        }
        for p, name in enumerate(self.plan.settings.config.profiles):
            columns[f"{name}.weights"] = listed(result.weights[:, p])
            columns[f"{name}.leads"] = listed(leads[:, p])
            columns |= {f"{name}.{measure}": measures[:, p, m] for m, measure in enumerate(MEASURES)}
            columns[f"{name}.optimality_gap"] = result.optimality_gap[:, p]
            columns[f"{name}.status"] = result.status[:, p]
        return pa.table(
            {
                name: np.ascontiguousarray(column) if isinstance(column, np.ndarray) else column
                for name, column in columns.items()
            }
        )


def _weights_of(chunk: Chunk) -> ChunkResult:
    """The weights of a chunk's universes, and which are valid."""
    weights, status = (
        np.concatenate([np.asarray(getattr(part.results, name)[: part.count]) for part in chunk.parts])
        for name in ("weights", "status")
    )
    return ChunkResult(table=None, partials=[], weights=weights, valid=valid_universes(status))


@jax.jit
def _moments(returns: jax.Array, config: AllocationConfig, mask: jax.Array) -> Moments:
    weights = jnp.ones(returns.shape[0], returns.dtype)
    return observe(returns, config, weights, mask, Given()).moments


def device_name() -> str:
    """Name the device that this process computes on."""
    device = compute_devices()[0]
    return f"{device.platform} ({device.device_kind})"


Consume = Callable[[int, ChunkResult], None]


class Computer(Protocol):
    """What computes a plan's chunks: this process's devices, or workers elsewhere.

    Attributes:
        chunk_size: universes of a chunk.
        device: what computes.
    """

    chunk_size: int
    device: str

    def estimate(self) -> Allocation:
        """Return the panel's own portfolios, leading axis G."""
        ...

    def correlation(self) -> np.ndarray:
        """Return the whole panel's correlations."""
        ...

    def run(self, numbers: list[int], consume: Consume, progress: Callable[[int], None]) -> None:
        """Compute chunks and hand them over, in this order."""
        ...
