"""A study's chunks, computed by this process."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from jaxalloc.portfolios.result import Allocation
from jaxalloc.studies.chunks import Consume, Pending, Runner, device_name
from jaxalloc.studies.plan import Plan


class LocalDevices:
    """Computes a plan's chunks on this process's devices.

    A chunk is fetched and written while the devices compute the next one.

    Attributes:
        chunk_size: universes of a chunk.
        device: what computes.
    """

    def __init__(self, plan: Plan) -> None:
        """Put the panel on the devices."""
        self.runner = Runner(plan)
        self.chunk_size = self.runner.chunk_size
        self.device = device_name()

    def estimate(self) -> Allocation:
        """Return the panel's own portfolios, leading axis G."""
        return self.runner.estimate

    def correlation(self) -> np.ndarray:
        """Return the whole panel's correlations."""
        return self.runner.correlation

    def run(self, numbers: list[int], consume: Consume, progress: Callable[[int], None]) -> None:
        """Compute chunks and hand them over, in this order."""
        writing: Future[None] | None = None  # of the chunk before the last one begun
        begun: deque[Pending] = deque(maxlen=2)
        with ThreadPoolExecutor(1) as pool:
            try:
                for number in numbers:
                    begun.append(self.runner.start(number, progress))
                    if writing is not None:
                        writing.result()
                    writing = pool.submit(lambda n, p: consume(n, self.runner.finish(p)), number, begun[-1])
                if writing is not None:
                    writing.result()
            except BaseException:
                for pending in begun:
                    pending.chunk.cancel()
                if writing is not None:  # a computed chunk is kept
                    writing.exception()
                raise
