"""What the rivals share: their interface, the draw of universes, and a pool of one process a core."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

PROFILES = ("min_variance", "risk_parity", "max_sharpe", "barbell")
START_SECONDS = 300  # until a pool that is not up counts as lost: every worker imports and compiles


def draw(n: int, n_rows: int, seed: int, chunk: int) -> Array:
    """Counts (n, n_rows) of iid bootstrap resamples; those of a chunk depend on the seed and its number alone."""
    rows = np.random.default_rng((seed, chunk)).integers(n_rows, size=(n, n_rows), dtype=np.uint16)
    counts = np.zeros((n, n_rows))
    for b in range(n):
        counts[b] = np.bincount(rows[b], minlength=n_rows)
    return counts


def relabel(labels: Ints) -> Ints:
    """The same partition with labels 0..K-1 in the order of each cluster's first asset."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def lead_assets(weights: Array, labels: Ints) -> Ints:
    """Each cluster's member of highest weight (first of several) in every profile: (P, N), -1 where there is none."""
    leads = np.full(weights.shape, -1)
    for k in range(labels.max() + 1):
        members = np.flatnonzero(labels == k)
        leads[:, k] = members[np.argmax(weights[:, members], axis=1)]
    return leads


class Side(Protocol):
    """One side of a race, ready to run: on a panel (T, N), with B universes of four profiles.

    Attributes:
        quantum: universes that it works on at once; fewer would leave cores idle, so that a run to be timed takes a
            multiple of them.
    """

    quantum: int

    def stream(self, n: int, seed: int) -> Iterator[tuple[Array, Ints]]:
        """Draw ``n`` universes and allocate; weights and lead assets (b, 4, N) come part by part."""
        ...

    def allocate(self, counts: Array) -> tuple[Array, Ints, Ints]:
        """Weights (B, 4, N), labels (B, N) and lead assets (B, 4, N) by cluster, -1 where there is none."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


class Engine(Protocol):
    """What a worker holds: made of one panel (T, N), it allocates its universes."""

    def allocate(self, counts: Array) -> tuple[Array, Ints, Ints]:
        """Weights (B, 4, N), labels (B, N) and lead assets (B, 4, N) by cluster, -1 where there is none."""
        ...


_held: dict[str, Any] = {}


def _start(engine: Callable[..., Engine], panel: Array, options: dict[str, Any], barrier: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer: it stops the pool
    _held["engine"] = engine(panel, **options)
    _held["engine"].allocate(draw(2, len(panel), 0, 0))
    _held["n_rows"], _held["barrier"] = len(panel), barrier


def _ready(_: int) -> None:
    """Return once every worker is at this point, so that all of them have started."""
    _held["barrier"].wait(START_SECONDS)


def _run(job: tuple[int, int, int]) -> tuple[Array, Ints]:
    n, seed, chunk = job
    weights, _, leads = _held["engine"].allocate(draw(n, _held["n_rows"], seed, chunk))
    return weights, leads


def _allocate(counts: Array) -> tuple[Array, Ints, Ints]:
    return _held["engine"].allocate(counts)


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class Pooled:
    """A rival that runs an engine in ``n_workers`` processes with one BLAS thread each, started here, by ``spawn``."""

    engine: Callable[..., Engine]
    chunk: ClassVar[int] = 64  # universes a task

    def __init__(self, panel: Array, n_workers: int, **options: Any) -> None:
        """Start the workers and let each allocate two universes, so that all is imported and compiled."""
        self.panel = np.ascontiguousarray(panel, dtype=np.float64)
        self.quantum = self.chunk * n_workers
        context = multiprocessing.get_context("spawn")
        barrier = context.Barrier(n_workers)
        self._pool = ProcessPoolExecutor(
            n_workers, context, initializer=_start, initargs=(self.engine, self.panel, options, barrier)
        )
        threads = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
        try:
            with _environment(**dict.fromkeys(threads, "1")):
                list(self._pool.map(_ready, range(n_workers)))
        except BaseException:
            self.close()
            raise

    def stream(self, n: int, seed: int) -> Iterator[tuple[Array, Ints]]:
        """Draw ``n`` universes and allocate; weights and lead assets (b, 4, N) come part by part."""
        sizes = [min(self.chunk, n - start) for start in range(0, n, self.chunk)]
        yield from self._pool.map(_run, [(size, seed, number) for number, size in enumerate(sizes)])

    def allocate(self, counts: Array) -> tuple[Array, Ints, Ints]:
        """Weights (B, 4, N), labels (B, N) and lead assets (B, 4, N) of the universes with these counts (B, T)."""
        counts = np.ascontiguousarray(counts, dtype=np.float64)
        chunks = [counts[start : start + self.chunk] for start in range(0, len(counts), self.chunk)]
        weights, labels, leads = zip(*self._pool.map(_allocate, chunks), strict=True)
        return np.concatenate(weights), np.concatenate(labels), np.concatenate(leads)

    def close(self) -> None:
        """Stop the workers."""
        self._pool.shutdown(cancel_futures=True)
