"""This process computes a study's chunks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from jaxalloc.portfolios.result import Allocation
from jaxalloc.studies.chunks import Consume, Pending, Runner, device_name
from jaxalloc.studies.plan import Plan


class Local:
    """This process computes: a chunk is fetched and written while the devices work on the next."""

    def __init__(self, plan: Plan) -> None:
        """Put the panel on the devices."""
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
