"""Portfolios that no solver made, such as means of others, seen by the clusters of a universe."""

from __future__ import annotations

import numpy as np

from jaxalloc.portfolios.profiles import PROFILES
from jaxalloc.settings.config import AllocationConfig

_ROUNDING = 1e-6  # a cluster that has no more than this above its cap is at it


def over_cap(weights: np.ndarray, labels: np.ndarray, config: AllocationConfig) -> np.ndarray:
    """(P,) bool, whether a cluster has more than the cap in force, max(cluster_cap, slack / K).

    Args:
        weights: (P, N) in the order of ``config.profiles``; NaN where there is no portfolio.
        labels: (N,) clusters from 0; -1 for an inactive asset.
        config: the settings. Profiles over the assets have no cap.
    """
    active = labels >= 0
    if not active.any():
        return np.zeros(len(weights), bool)
    cap = max(config.cluster_cap, config.slack / (labels.max() + 1))
    capped = np.array([PROFILES[profile].clustered for profile in config.profiles])
    held = by_cluster(np.nan_to_num(weights), labels)
    return capped & (held.max(axis=1) > cap + _ROUNDING)


def by_cluster(weights: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the (P, N) weights of the clusters, padded with 0, of weights (P, N) of the assets."""
    active = labels >= 0
    return np.stack([np.bincount(labels[active], each[active], minlength=len(labels)) for each in weights])


def lead_assets(weights: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return each cluster's asset of highest weight, the first of equals.

    Args:
        weights: (P, N).
        labels: (N,) clusters from 0; -1 for an inactive asset.

    Returns:
        (P, N) column numbers by cluster, -1 past the last.

    Example:
        >>> lead_assets(np.array([[0.1, 0.5, 0.2, 0.2]]), np.array([0, 1, 1, 0]))
        array([[ 3,  1, -1, -1]])
    """
    leads = np.full(weights.shape, -1)
    active = np.flatnonzero(labels >= 0)
    for p, each in enumerate(weights):
        order = active[np.lexsort((active, -np.nan_to_num(each[active]), labels[active]))]
        clusters, first = np.unique(labels[order], return_index=True)
        leads[p, clusters] = order[first]
    return leads
