"""jaxalloc as a side of a race: what `run_study` computes chunk by chunk, without its summaries and files."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import numpy as np

from jaxalloc.engine.scheduler import Chunk, Engine
from jaxalloc.engine.stages import Items
from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.portfolios.result import Allocation
from jaxalloc.rivals.common import Array, Ints
from jaxalloc.settings.config import AllocationConfig
from jaxalloc.universes.bootstrap import Bootstrap
from jaxalloc.universes.samplers import Product, steps
from jaxalloc.universes.universe import MOST_UNIVERSES, seed_key

_SEED = 0
_FEW = 512  # universes of a first run
_BOOTSTRAP = Bootstrap(MOST_UNIVERSES)


def engine_of(panel: Array) -> Engine:
    """Return an engine that draws resamples of a panel (T, N), in the precision that JAX is set to."""
    draws = steps(Product((_BOOTSTRAP,)), len(panel))
    return Engine(panel.shape, AllocationConfig(), panel=np.asarray(panel), draws=draws, key=seed_key(_SEED))


def allocations(engine: Engine, first: int, n: int) -> Iterator[Allocation]:
    """Allocate ``n`` universes from ``first`` on; the devices have the next chunk before this one is waited for."""
    pending: Chunk | None = None
    for start in range(first, first + n, engine.chunk_size):
        chunk = engine.start(Items(index=np.arange(start, min(start + engine.chunk_size, first + n))))
        if pending is not None:
            yield from pending.allocations()
        pending = chunk
    if pending is not None:
        yield from pending.allocations()


class Jaxalloc:
    """The batch engine with an iid bootstrap at its default settings, on all local devices.

    A CPU's cores share each chunk. Everything of an `Allocation` comes to the host, as it does for a study, of which
    weights and lead assets are a part.

    Attributes:
        engine: the engine.
        quantum: universes of a chunk.
    """

    def __init__(self, panel: Array, precision: int = 64) -> None:
        """Put the panel (T, N) on the devices, and compile."""
        self._n_rows = len(panel)
        with jax.enable_x64(precision == 64):
            self.engine = engine_of(panel)
            self.quantum = self.engine.chunk_size
            self._compile()

    def _compile(self) -> None:
        """Meet every number of clusters: each size that clusters are padded to is a program of its own.

        An accelerator, which takes long to compile, meets those of a whole chunk, hundreds of thousands of universes.
        """
        if self.engine.backend is Backend.ACCELERATOR:
            self.engine.start(Items(index=np.arange(self.quantum))).allocation()
            return
        few = min(self.quantum, _FEW)
        heights = np.linspace(0, 1, few)  # of the cut: from a cluster an asset to one in all
        self.engine.start(Items(index=np.arange(few)), {"distance_threshold": heights}).allocation()

    def stream(self, n: int, seed: int) -> Iterator[tuple[Array, Ints]]:
        """Draw ``n`` universes and allocate; weights and lead assets (b, 4, N) come chunk by chunk."""
        first = seed * n % (MOST_UNIVERSES - n)  # other universes for another seed
        for found in allocations(self.engine, first, n):
            yield found.weights, found.lead_assets

    def counts(self, n: int) -> Array:
        """Counts (n, T) of the first ``n`` universes."""
        return _BOOTSTRAP.counts(self._n_rows, _SEED, 0, n).astype(float)

    def first(self, n: int) -> tuple[Array, Ints, Ints]:
        """Weights (n, 4, N), labels (n, N) and lead assets (n, 4, N) of the first ``n`` universes, as `stream` does."""
        parts = [(found.weights, found.cluster_labels, found.lead_assets) for found in allocations(self.engine, 0, n)]
        weights, labels, leads = zip(*parts, strict=True)
        return np.concatenate(weights), np.concatenate(labels), np.concatenate(leads)
