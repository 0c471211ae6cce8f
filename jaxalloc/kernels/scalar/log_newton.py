"""Newton's method in log z for risk parity, compiled by numba: its steps by conjugate gradients, and its gap.

Symbols are those of `jaxalloc.kernels.scalar.risk_parity`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxalloc.kernels.scalar.compiling import inner_sums
from jaxalloc.kernels.solvers.problem import tolerance

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Float32 = NDArray[np.float32]

TOLERANCE = tolerance(np.float64)  # gap at which a problem is solved
NEAR = 1e-6  # largest error from which Newton's method converges fast, or rounding stops it

_GRADIENTS = 80  # of a Newton step at most
_LONGEST = 2.0  # change of log z in a step
_ROWS = 4  # of a matrix, multiplied together: each entry of the vector is read once for all of them


@inner_sums
def multiply(matrix: NDArray[Any], x: NDArray[Any], out: NDArray[Any]) -> None:
    """``matrix`` (K, K) times x, into ``out``; all of one precision."""
    n = len(x)
    zero = matrix.dtype.type(0)
    i = 0
    while i + _ROWS <= n:
        row_0, row_1, row_2, row_3 = matrix[i], matrix[i + 1], matrix[i + 2], matrix[i + 3]
        sum_0, sum_1, sum_2, sum_3 = zero, zero, zero, zero
        for k in range(n):
            entry = x[k]
            sum_0 += row_0[k] * entry
            sum_1 += row_1[k] * entry
            sum_2 += row_2[k] * entry
            sum_3 += row_3[k] * entry
        out[i], out[i + 1], out[i + 2], out[i + 3] = sum_0, sum_1, sum_2, sum_3
        i += _ROWS
    while i < n:
        row, total = matrix[i], zero
        for k in range(n):
            total += row[k] * x[k]
        out[i] = total
        i += 1


@inner_sums
def solve(C32: Float32, z: Vector, rhs: Vector, x: Vector, work: Float32, reduction: float) -> int:
    """Solve (I + diag(z) C diag(z)) x = rhs by conjugate gradients, its diagonal scaled to 1.

    Args:
        C32: (K, K) C.
        z: (K,) 0 where x is rhs.
        rhs: (K,).
        x: (K,) receives the solution.
        work: (7, K).
        reduction: share of the residual at which the system counts as solved.

    Returns:
        Products with C.
    """
    n = len(z)
    step, residual, direction, scaled = work[0], work[1], work[2], work[3]
    image, identity, scale = work[4], work[5], work[6]
    squares = np.float32(0)
    for i in range(n):
        inverse = 1 / math.sqrt(1 + z[i] * z[i])
        entry = np.float32(rhs[i] * inverse)
        scale[i] = z[i] * inverse
        identity[i] = inverse * inverse
        x[i] = inverse
        step[i] = 0
        residual[i] = entry
        direction[i] = entry
        scaled[i] = scale[i] * entry
        squares += entry * entry
    enough = np.float32(reduction * reduction) * squares
    turn = 0
    while squares > enough and turn < _GRADIENTS:
        multiply(C32, scaled, image)
        curvature = np.float32(0)
        for i in range(n):
            entry = identity[i] * direction[i] + scale[i] * image[i]
            image[i] = entry
            curvature += direction[i] * entry
        length = squares / curvature if curvature > 0 else np.float32(0)
        left = np.float32(0)
        for i in range(n):
            step[i] += length * direction[i]
            entry = residual[i] - length * image[i]
            residual[i] = entry
            left += entry * entry
        ratio = left / squares
        for i in range(n):
            entry = residual[i] + ratio * direction[i]
            direction[i] = entry
            scaled[i] = scale[i] * entry
        squares = left
        turn += 1
    for i in range(n):
        x[i] *= step[i]
    return turn


@inner_sums
def reduction(worst: float, most: float) -> float:
    """To what share the residual of a step's system must fall: what the step leaves of its error, or what is asked."""
    return min(max(0.3 * worst, 1e-12 / worst, 1e-5), most)


@inner_sums
def grow(change: float) -> float:
    """exp(change), nearly (Pade), of a change that is cut to the longest; it vectorises."""
    change = min(max(change, -_LONGEST), _LONGEST)
    even, odd = 1 + change * change / 12, change / 2
    return (even + odd) / (even - odd)


@inner_sums
def spread(z: Vector, product: Vector, below: Vector) -> tuple[float, float]:
    """(the largest risk contribution, 1 less the smallest ``below`` a bound over it); the latter is NaN for NaN."""
    largest, total = 0.0, 0.0
    for i in range(len(z)):
        contribution = z[i] * product[i]
        largest = max(largest, contribution)
        total += contribution
    lowest = largest
    for i in range(len(z)):
        if below[i] > 0:
            lowest = min(lowest, z[i] * product[i])
    return largest, 1 - lowest / largest + 0 * total
