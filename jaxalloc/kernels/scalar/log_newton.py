"""Newton's method in log z for risk parity, compiled by numba: its steps by conjugate gradients, and its gap.

Symbols are those of `jaxalloc.kernels.scalar.risk_parity`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxalloc.kernels.scalar.compiling import inner_sums
from jaxalloc.kernels.solvers.tolerances import tolerance

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Float32 = NDArray[np.float32]

TOLERANCE = tolerance(np.float64)  # gap at which a problem is solved
NEAR = 1e-6  # largest error from which Newton's method converges fast, or rounding stops it

# Rows of the room for vectors: those of risk parity, and after them those of `solve`, which are in float32. They are
# gone through by two indices, for to slice a row takes longer than to add up a few dozen entries.
Z, PRODUCT, ERROR, CHANGE, HELD, LOOSE, PULL, RESPONSE, BELOW, INVERSE, MEMBER = range(11)
_STEP, RESIDUAL, _DIRECTION, _SCALED, IMAGE, _IDENTITY, _SCALE = range(11, 18)
ROOM = 18  # rows

_GRADIENTS = 80  # of a Newton step at most
_LONGEST = 2.0  # change of log z in a step
_TWELFTH = 1 / 12
_ROWS = 4  # of a matrix, multiplied together: each entry of the vector is read once for all of them


@inner_sums
def multiply(matrix: NDArray[Any], n: int, work: NDArray[Any], x: int, out: int) -> None:
    """``matrix`` (K, K) times the first ``n`` = K entries of row ``x``, into row ``out``; all of one precision."""
    zero = matrix.dtype.type(0)
    whole = n - n % _ROWS
    for i in range(0, whole, _ROWS):
        sum_0, sum_1, sum_2, sum_3 = zero, zero, zero, zero
        for k in range(n):
            entry = work[x, k]
            sum_0 += matrix[i, k] * entry
            sum_1 += matrix[i + 1, k] * entry
            sum_2 += matrix[i + 2, k] * entry
            sum_3 += matrix[i + 3, k] * entry
        work[out, i], work[out, i + 1], work[out, i + 2], work[out, i + 3] = sum_0, sum_1, sum_2, sum_3
    for i in range(whole, n):
        total = zero
        for k in range(n):
            total += matrix[i, k] * work[x, k]
        work[out, i] = total


@inner_sums
def solve(C32: Float32, n: int, work: Matrix, work32: Float32, z: int, rhs: int, x: int, reduction: float) -> int:
    """Solve (I + diag(z) C diag(z)) x = rhs by conjugate gradients, its diagonal scaled to 1.

    Args:
        C32: (K, K) C.
        n: K.
        work: room, with z, rhs and x in the rows of these numbers. Where z is 0, x is rhs.
        work32: the same memory in float32.
        z: row.
        rhs: row.
        x: row that receives the solution.
        reduction: share of the residual at which the system counts as solved.

    Returns:
        Products with C.
    """
    squares = np.float32(0)
    for i in range(n):
        inverse = 1 / math.sqrt(1 + work[z, i] * work[z, i])
        scale, entry = np.float32(work[z, i] * inverse), np.float32(work[rhs, i] * inverse)
        work[x, i] = inverse
        work32[_IDENTITY, i] = inverse * inverse
        work32[_SCALE, i] = scale
        work32[_STEP, i] = 0
        work32[RESIDUAL, i] = entry
        work32[_DIRECTION, i] = entry
        work32[_SCALED, i] = scale * entry
        squares += entry * entry
    enough = np.float32(reduction * reduction) * squares
    turn = 0
    while squares > enough and turn < _GRADIENTS:
        multiply(C32, n, work32, _SCALED, IMAGE)
        curvature = np.float32(0)
        for i in range(n):
            entry = work32[_IDENTITY, i] * work32[_DIRECTION, i] + work32[_SCALE, i] * work32[IMAGE, i]
            work32[IMAGE, i] = entry
            curvature += work32[_DIRECTION, i] * entry
        length = squares / curvature if curvature > 0 else np.float32(0)
        left = np.float32(0)
        for i in range(n):
            work32[_STEP, i] += length * work32[_DIRECTION, i]
            entry = work32[RESIDUAL, i] - length * work32[IMAGE, i]
            work32[RESIDUAL, i] = entry
            left += entry * entry
        ratio = left / squares
        for i in range(n):
            entry = work32[RESIDUAL, i] + ratio * work32[_DIRECTION, i]
            work32[_DIRECTION, i] = entry
            work32[_SCALED, i] = work32[_SCALE, i] * entry
        squares = left
        turn += 1
    for i in range(n):
        work[x, i] *= work32[_STEP, i]
    return turn


@inner_sums
def reduction(worst: float, most: float) -> float:
    """To what share the residual of a step's system must fall: what the step leaves of its error, or what is asked."""
    return min(max(0.3 * worst, 1e-12 / worst, 1e-5), most)


@inner_sums
def grow(change: float) -> float:
    """exp(change), nearly (Pade), of a change that is cut to the longest; it vectorises."""
    change = min(max(change, -_LONGEST), _LONGEST)
    even, odd = 1 + change * change * _TWELFTH, 0.5 * change
    return (even + odd) / (even - odd)


@inner_sums
def spread(n: int, work: Matrix, below: int) -> tuple[float, float]:
    """(the largest risk contribution, 1 less the smallest ``below`` a bound over it); the latter is NaN for NaN."""
    largest, total = 0.0, 0.0
    for i in range(n):
        contribution = work[Z, i] * work[PRODUCT, i]
        largest = max(largest, contribution)
        total += contribution
    lowest = largest
    for i in range(n):
        if work[below, i] > 0:
            lowest = min(lowest, work[Z, i] * work[PRODUCT, i])
    return largest, 1 - lowest / largest + 0 * total
