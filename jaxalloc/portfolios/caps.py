"""Whether portfolios that no solver made, such as means of others, keep to the cap of some clusters."""

from __future__ import annotations

import numpy as np

from jaxalloc.portfolios.profiles import PROFILES
from jaxalloc.settings.config import AllocationConfig

_ROUNDING = 1e-6  # a cluster that has so much more than its cap is at it


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
    held = np.array([np.bincount(labels[active], np.nan_to_num(each[active])).max() for each in weights])
    return capped & (held > cap + _ROUNDING)
