"""jaxalloc as a side of a race: the engine on a clock, and the universes that the oracle judges."""

from __future__ import annotations

import numpy as np

from jaxalloc.cli.timing import RESAMPLES, SEED, TimedEngine, allocations
from rivals.common import Array, Ints


class Jaxalloc(TimedEngine):
    """The batch engine, whose first universes can be handed to the oracle."""

    def __init__(self, panel: Array, precision: int = 64) -> None:
        """Put the panel (T, N) on the devices, and compile."""
        super().__init__(panel, precision)
        self._n_rows = len(panel)

    def counts(self, n: int) -> np.ndarray:
        """Counts (n, T) of the first ``n`` universes."""
        return RESAMPLES.counts(self._n_rows, SEED, 0, n).astype(float)

    def first(self, n: int) -> tuple[Array, Ints, Ints]:
        """Weights (n, 4, N), labels (n, N) and lead assets (n, 4, N) of the first ``n`` universes, as `stream` does."""
        parts = [(part.weights, part.cluster_labels, part.lead_assets) for part in allocations(self.engine, 0, n)]
        weights, labels, leads = zip(*parts, strict=True)
        return np.concatenate(weights), np.concatenate(labels), np.concatenate(leads)
