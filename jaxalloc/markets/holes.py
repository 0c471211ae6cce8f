"""Missing returns: holes inside an asset's life, which may count as 0, and the time before and after it.

An asset's life in a panel is from its first to its last return. Where a price is missing inside it, the next return
brings the whole move, so that a return of 0 on the day without a price is what holding the asset earned.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.numbers import one_number
from jaxalloc.markets.gaps import inside_life

MAX_MISSING = 0.05  # share of a universe's rows


class Gaps(NamedTuple):
    """A panel's missing returns, weighed.

    A universe that holds row t c_t times has an asset if sum c_t ``weight`` is at most ``max_missing`` sum c_t.

    Attributes:
        returns: (T, N) the panel, 0 in holes that may count as 0; else NaN where missing.
        weight: (T, N) 0 where there is a return, 1 in a hole, more than T outside the asset's life.
        max_missing: share of a universe's rows that may be holes.
    """

    returns: np.ndarray
    weight: np.ndarray
    max_missing: float

    @property
    def whole(self) -> np.ndarray:
        """(N,) bool, the assets that the universe of all rows has."""
        n_rows = len(self.weight)
        return self.weight.sum(axis=0) <= most_holes(self.max_missing, n_rows, np.finfo(float).eps)


def most_holes(max_missing: Any, count: Any, eps: float) -> Any:
    """Return how many of ``count`` rows may be holes: their share, and a few roundings more."""
    return max_missing * count * (1 + 4 * eps)


def holes(returns: np.ndarray) -> np.ndarray:
    """(T, N) bool, where an asset's return is missing between its first and its last one."""
    return ~np.isfinite(returns) & inside_life(returns)


def weigh_gaps(returns: np.ndarray, max_missing: float) -> Gaps:
    """Fill a panel's holes with 0 where they may count as 0, and weigh what is missing.

    Args:
        returns: (T, N), NaN where missing.
        max_missing: share of a universe's rows that may be holes; 0 fills nothing.
    """
    inside = holes(returns)
    weight = np.where(inside, 1.0, np.where(np.isfinite(returns), 0.0, len(returns) + 1.0))
    filled = np.where(inside, 0.0, returns) if max_missing and inside.any() else returns
    return Gaps(returns=filled, weight=weight, max_missing=max_missing)


def check_max_missing(value: object) -> float:
    """Return ``max_missing`` as a float; raise `InputError` unless it is at least 0 and less than 1."""
    share = one_number("max_missing", value)
    if not 0 <= share < 1:
        raise InputError(f"max_missing must be a share of the rows, at least 0 and less than 1, not {value!r}")
    return share
