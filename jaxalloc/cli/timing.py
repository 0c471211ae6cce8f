"""The engine on a clock: what `run_study` computes chunk by chunk, without its summaries and files.

Whoever races other libraries beside jaxalloc times them by the same functions: see ``benchmarks/`` in the repository.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import jax
import numpy as np

from jaxalloc.engine.scheduler import Chunk, Engine
from jaxalloc.engine.stages import Items
from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.portfolios.result import Allocation
from jaxalloc.settings.config import AllocationConfig
from jaxalloc.universes.bootstrap import Bootstrap
from jaxalloc.universes.samplers import Product, steps
from jaxalloc.universes.universe import MOST_UNIVERSES, seed_key

SEED = 0
RESAMPLES = Bootstrap(MOST_UNIVERSES)  # what every run draws from
_FEW = 512  # universes of a first run
_MARGIN = 1.3  # of the time wanted that a run is laid out for
_MOST_GROWTH = 64  # of the universes of a run, where the last one was far too short


def engine_of(panel: np.ndarray) -> Engine:
    """Return an engine that draws resamples of a panel (T, N), in the precision that JAX is set to."""
    draws = steps(Product((RESAMPLES,)), len(panel))
    return Engine(panel.shape, AllocationConfig(), panel=np.asarray(panel), draws=draws, key=seed_key(SEED))


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


class TimedEngine:
    """The batch engine with an iid bootstrap at its default settings, on all local devices, ready to run.

    A CPU's cores share each chunk. Everything of an `Allocation` comes to the host, as it does for a study.

    Attributes:
        engine: the engine.
        quantum: universes of a chunk.
        compile_seconds: how long it took to compile, or to read what an earlier process had compiled.
    """

    def __init__(self, panel: np.ndarray, precision: int = 64) -> None:
        """Put the panel (T, N) on the devices, and compile."""
        start = time.perf_counter()
        with jax.enable_x64(precision == 64):
            self.engine = engine_of(panel)
            self.quantum = self.engine.chunk_size
            self._compile()
        self.compile_seconds = time.perf_counter() - start

    def _compile(self) -> None:
        """Meet every number of clusters: each size that clusters are padded to is a program of its own.

        An accelerator, which takes long to compile, meets those of a whole chunk, hundreds of thousands of universes.
        """
        if self.engine.backend is Backend.ACCELERATOR:
            self.engine.start(Items(index=np.arange(self.quantum))).allocation()
            return
        few = min(self.quantum, _FEW)
        heights = np.linspace(0, 1, few)  # of the cut: from a cluster for each asset to one in all
        self.engine.start(Items(index=np.arange(few)), {"distance_threshold": heights}).allocation()

    def stream(self, n: int, seed: int) -> Iterator[Allocation]:
        """Draw ``n`` universes and allocate; another seed draws others."""
        return allocations(self.engine, seed * n % (MOST_UNIVERSES - n), n)


class Timed(Protocol):
    """What can be timed.

    Attributes:
        quantum: universes that it works on at once; fewer would leave cores idle, so that a run to be timed takes a
            multiple of them.
    """

    quantum: int

    def stream(self, n: int, seed: int) -> Iterator[Any]:
        """Draw ``n`` universes and allocate; results come part by part."""
        ...


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that was timed: its universes, and its wall time in seconds."""

    universes: int
    seconds: float

    @property
    def universes_per_second(self) -> float:
        """The rate."""
        return self.universes / self.seconds

    def record(self) -> dict[str, Any]:
        """Return it as plain values, with the rate."""
        return dataclasses.asdict(self) | {"universes_per_second": self.universes_per_second}


def time_run(side: Timed, n: int, seeds: Iterator[int], look: Callable[[Any], object] = lambda _: None) -> Run:
    """Time ``n`` new universes, from the draw to the results in this process.

    Args:
        side: what is timed.
        n: universes.
        seeds: the next one is taken.
        look: is given each part of the results, while the clock runs.
    """
    seed = next(seeds)
    start = time.perf_counter()
    for part in side.stream(n, seed):
        look(part)
    return Run(universes=n, seconds=time.perf_counter() - start)


def universes_for(side: Timed, seconds: float, seeds: Iterator[int]) -> int:
    """How many universes keep a side busy for the time wanted."""
    run = time_run(side, side.quantum, seeds)
    while run.seconds < seconds:
        run = time_run(side, enough(side, run, seconds), seeds)
    return run.universes


def enough(side: Timed, run: Run, seconds: float) -> int:
    """More universes than the run's if those took less than the time wanted, else as many."""
    if run.seconds >= seconds:
        return run.universes
    growth = min(_MARGIN * seconds / max(run.seconds, 1e-9), _MOST_GROWTH)
    return side.quantum * math.ceil(run.universes * growth / side.quantum)


def time_runs(
    side: Timed,
    n_runs: int,
    seconds: float,
    seeds: Iterator[int],
    look: Callable[[Any], object] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
) -> list[Run]:
    """Time runs that take at least the time wanted each.

    Args:
        side: what is timed.
        n_runs: how many runs.
        seconds: that a run takes at least.
        seeds: one is taken for each run.
        look: is given each part of the results of every run, while the clock runs.
        say: is told what is going on, in a few words.
    """
    n = universes_for(side, seconds, seeds)
    runs: list[Run] = []
    while len(runs) < n_runs:
        say(f"run {len(runs) + 1} of {n_runs}")
        run = time_run(side, n, seeds, look)
        if run.seconds >= seconds:
            runs.append(run)
        else:  # the machine has become faster: again, with more universes
            n = enough(side, run, seconds)
    return runs
