"""How far two partitions of the same assets agree."""

from __future__ import annotations

import numpy as np


def adjusted_rand(one: np.ndarray, other: np.ndarray) -> float:
    """Adjusted Rand index of two partitions: 1 where they are the same, 0 where they agree by chance alone.

    Hubert and Arabie (1985), Comparing partitions, Journal of Classification 2.

    Args:
        one: (N,) labels; an asset with a negative label in either partition is left out.
        other: (N,) likewise.

    Returns:
        At most 1. Two partitions that are both one cluster, or both all assets alone, are the same.

    Example:
        >>> import numpy as np
        >>> adjusted_rand(np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0]))
        1.0
    """
    both = (one >= 0) & (other >= 0)
    one, other = one[both], other[both]
    if len(one) == 0:
        return 1.0
    table = np.zeros((one.max() + 1, other.max() + 1))
    np.add.at(table, (one, other), 1)

    def pairs(counts: np.ndarray) -> float:
        return float((counts * (counts - 1) / 2).sum())

    together, first, second = pairs(table), pairs(table.sum(axis=1)), pairs(table.sum(axis=0))
    every = len(one) * (len(one) - 1) / 2
    expected = first * second / every if every else 0.0
    most = (first + second) / 2
    return 1.0 if most == expected else (together - expected) / (most - expected)
