"""Distances and silhouettes of one panel on the host, for what is shown of its clusters."""

from __future__ import annotations

import jax
import numpy as np

from jaxalloc.kernels.clusters.detoned import detoned
from jaxalloc.settings.config import AllocationConfig


def distances(correlation: np.ndarray, config: AllocationConfig) -> np.ndarray:
    """(N, N) float64 distances that ``config`` makes clusters of, from the correlations of N assets, all finite."""
    rho = np.asarray(correlation, float)
    if config.detone:
        with jax.enable_x64(True):
            rest = np.asarray(jax.jit(detoned)(rho, np.ones(len(rho), bool)))
        left = np.diagonal(rest)
        deviation = np.sqrt(np.where(left > 0, left, 1))
        rho = np.clip(rest / (deviation[:, None] * deviation[None, :]), -1, 1)
    made = np.sqrt((1 - (np.abs(rho) if config.distance == "absolute" else rho)) / 2)
    np.fill_diagonal(made, 0)
    return made


def mean_silhouette(distance: np.ndarray, labels: np.ndarray) -> float:
    """Mean silhouette of a partition (Rousseeuw 1987), that of an asset alone 0.

    Args:
        distance: (N, N).
        labels: (N,) 0..K-1, K at least 2.
    """
    n = len(labels)
    member = np.zeros((n, labels.max() + 1))
    member[np.arange(n), labels] = 1
    sums, sizes = distance @ member, member.sum(axis=0)
    own = sizes[labels]
    inside = sums[np.arange(n), labels] / np.maximum(own - 1, 1)
    means = sums / sizes
    means[np.arange(n), labels] = np.inf
    nearest = means.min(axis=1)
    larger = np.maximum(inside, nearest)
    usable = (own > 1) & (larger > 0)
    return float(np.where(usable, (nearest - inside) / np.where(usable, larger, 1), 0).mean())
