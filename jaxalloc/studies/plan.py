"""Plan: all that a study's numbers depend on."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxalloc.settings.sweep import Sweep
from jaxalloc.universes.samplers import Product


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """All that a study's numbers depend on; plain values and NumPy arrays, to be sent to workers.

    Attributes:
        returns: (T, N) panel, NaN where missing.
        sampler: prepared for the panel.
        settings: the grid of settings, G points.
        seed: of the draws.
        precision: 64 or 32.
        keep: whether chunks hold each universe ("weights") or only add to the totals ("summary").
        chunk_size: universes of a chunk; None for what suits the device.
    """

    returns: np.ndarray
    sampler: Product
    settings: Sweep
    seed: int
    precision: int
    keep: str
    chunk_size: int | None

    @property
    def n_draws(self) -> int:
        """Universes that are drawn, each allocated at every point of the grid."""
        return self.sampler.count(len(self.returns))

    @property
    def n_universes(self) -> int:
        """All of them: universe i is draw i % n_draws at point i // n_draws."""
        return self.n_draws * len(self.settings)
