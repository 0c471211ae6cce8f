"""How far the clusters of consecutive windows agree."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd

from jaxalloc.studies.agreement import adjusted_rand

_FEWEST = 2  # assets of which there is a pair to agree on


def consecutive_agreement(labels: np.ndarray) -> np.ndarray:
    """Return the adjusted Rand index of each window's clusters with those of the window before.

    Hubert and Arabie (1985), over the assets that are active in both: 1 where these are grouped in the same way, 0
    where the two partitions agree as by chance.

    Args:
        labels: (J, N) clusters from 0; -1 for an inactive asset.

    Returns:
        (J,) at most 1; NaN for the first window, and where fewer than two assets are active in both.

    Example:
        >>> consecutive_agreement(np.array([[0, 0, 1, 1], [1, 1, 0, 0], [-1, 0, 1, 1]])).tolist()
        [nan, 1.0, 1.0]
    """
    found = [math.nan]
    for one, other in itertools.pairwise(labels):
        both = np.count_nonzero((one >= 0) & (other >= 0))
        found.append(adjusted_rand(one, other) if both >= _FEWEST else math.nan)
    return np.array(found[: len(labels)])


def agreement_words(table: pd.DataFrame) -> str:
    """Say how far clusters agree from one window to the next, on average; empty where no two windows have any.

    Args:
        table: what `WalkForward.cluster_agreement` returns of a point.
    """
    mean = float(pd.Series(table["agreement"]).mean())
    if not math.isfinite(mean):
        return ""
    return (
        f"from one window to the next, clusters agree by {mean:z.2f} on average (adjusted Rand index: 1 the same, 0 as "
        "by chance)"
    )
