"""Risk parity with bounds for one universe: equal risk contributions in the sense of Richard & Roncalli (2019).

w(lambda) minimises w'Sw / 2 - lambda sum log w over 0 < w <= u, and lambda is such that sum w(lambda) = 1 (arXiv
1902.05710). In the scale z = sigma w / sqrt(lambda) the problem reads: minimise z'Cz / 2 - sum log z over 0 < z <= b s,
with C the correlation matrix, b = sigma u, a = 1 / sigma, and s = 1 / sqrt(lambda) such that a . z = s. Without bounds
z does not depend on s.

Newton's method in log z takes few steps, and in each of them its Hessian, I + diag(z) C diag(z), has eigenvalues
between 1 and 2 but for the few that hedges make larger. So conjugate gradients in float32 (Hestenes & Stiefel 1952)
find a step, at half the traffic in memory; its error shows in the next step's residual, which float64 measures. Where
the solution without bounds crosses one, the clusters at their bound are fixed, lambda moves with the others, and a
cluster leaves its bound when it contributes more than those below (a primal-dual active set, Hintermueller, Ito &
Kunisch 2003).

What does not converge so is not solved, and says so: `jaxalloc.kernels.solvers.risk_parity` has slower steps for it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import boolean, float32, float64, int64, types

from jaxalloc.kernels.scalar.bounded import minimise_bounded
from jaxalloc.kernels.scalar.compiling import inner, inner_sums
from jaxalloc.kernels.scalar.log_newton import (
    BELOW,
    CHANGE,
    ERROR,
    HELD,
    IMAGE,
    INVERSE,
    MEMBER,
    NEAR,
    PRODUCT,
    RESIDUAL,
    TOLERANCE,
    Float32,
    Matrix,
    Vector,
    Z,
    grow,
    multiply,
    reduction,
    solve,
    spread,
)
from jaxalloc.kernels.scalar.separate import separate
from jaxalloc.kernels.solvers.tolerances import accepted

_ACCEPTED = accepted(np.float64)  # largest gap where Newton's method gains nothing more, as lanes accept it
_EPS = 2.0**-52
# z'Cz of a portfolio in which the entries of z sum to 1, up to which it counts as riskless, by the precision of C
_RISKLESS, _FLOAT32_RISKLESS = 1e-12, 2.0**-19
_STEPS = 80  # of Newton's method at most
_EARLY = 8  # steps, for which a coarse direction does

_minimise_bounded_at = minimise_bounded.at


def _signature(kind: Any) -> Any:
    result, vector, matrix = types.Tuple((float64, int64, boolean)), float64[::1], float64[:, ::1]
    return result(int64, kind[:, ::1], float32[:, ::1], vector, vector, vector, matrix)


@inner_sums
def _start(C32: Float32, n: int, work: Matrix, work32: Float32) -> None:
    """Near the solution: each entry's best one while the others are equal, as large as the solution's on average."""
    for i in range(n):
        work32[RESIDUAL, i] = work[MEMBER, i]
    multiply(C32, n, work32, RESIDUAL, IMAGE)
    count, together = 0.0, 0.0
    for i in range(n):
        count += work[MEMBER, i]
        together += work[MEMBER, i] * work32[IMAGE, i]
    level = math.sqrt(count / max(together, 1.0))
    for i in range(n):
        slope = level * (work32[IMAGE, i] - 1)
        root = math.sqrt(slope * slope + 4)
        work[Z, i] = work[MEMBER, i] * (2 / (slope + root) if slope > 0 else 0.5 * (root - slope))


@inner_sums
def _free(C: Matrix, C32: Float32, u: Vector, work: Matrix, work32: Float32) -> tuple[float, int, bool]:
    """Without bounds, from `_start`.

    Returns:
        The gap, infinite where no solution is found; the steps; and whether a bound is certainly crossed, so that the
        solution is near, and of no more use.
    """
    n = len(u)
    riskless = _FLOAT32_RISKLESS if C.itemsize == 4 else _RISKLESS
    _start(C32, n, work, work32)
    before = np.inf
    gap, steps = np.inf, 1
    while True:
        multiply(C, n, work, Z, PRODUCT)
        _, gap = spread(n, work, MEMBER)
        count, together, length = 0.0, 0.0, 0.0
        for i in range(n):
            count += work[MEMBER, i]
            together += work[Z, i] * work[PRODUCT, i]
            length += work[Z, i]
        if not (gap < np.inf and steps <= _STEPS and together > riskless * length * length):
            return np.inf, steps, False
        if gap <= TOLERANCE or (gap < NEAR and gap > 0.5 * before):
            return gap, steps, False
        before = gap
        level = math.sqrt(count / together)
        squares, worst, s = 0.0, 0.0, 0.0
        for i in range(n):
            work[Z, i] *= level
            work[ERROR, i] = work[MEMBER, i] - work[Z, i] * work[PRODUCT, i] * level
            squares += work[ERROR, i] * work[ERROR, i]
            worst = max(worst, abs(work[ERROR, i]))
            s += work[INVERSE, i] * work[Z, i]
        # the Hessian is at least 1, so that no entry of log z is farther from the solution's than the error is long
        if squares < 0.01:
            margin = s * (1 + 4 * math.sqrt(squares))
            crossed = 0.0
            for i in range(n):
                crossed = max(crossed, work[INVERSE, i] * work[Z, i] - u[i] * margin)
            if crossed > 0:
                return gap, steps, True
        solve(C32, n, work, work32, Z, ERROR, CHANGE, reduction(worst, 0.1 if steps < _EARLY else 0.01))
        for i in range(n):
            work[Z, i] *= grow(work[CHANGE, i])
        steps += 1


@inner_sums
def _noise(C: Matrix, n: int, work: Matrix) -> float:
    """The largest of what z_i (Cz)_i is off by rounding: much where hedges cancel."""
    largest = 0.0
    for i in range(n):
        total = 0.0
        for k in range(n):
            total += abs(C[i, k]) * work[Z, k]
        largest = max(largest, work[Z, i] * total)
    return 2 * _EPS * largest


@inner
def _is_solved(C: Matrix, n: int, work: Matrix, gap: float) -> bool:
    """Whether the gap is within the tolerance, or rounding keeps Newton's method from that."""
    if gap <= _ACCEPTED:
        return True
    return gap <= NEAR and gap <= 4 * _noise(C, n, work)


@inner
def _even_out(weights: Vector, u: Vector) -> None:
    """Give the rounding left in sum w - 1 to the weights strictly between their bounds, in proportion.

    The sums carry their own rounding along (Knuth 1969), for that of a thousand weights is what there is to give.
    """
    for _ in range(2):  # the first time a weight just below its bound may reach it, and leave the rest to the others
        left, moving, lost, moving_lost = 1.0, 0.0, 0.0, 0.0
        for i in range(len(u)):
            if 0 < weights[i] < u[i]:
                total = moving + weights[i]
                part = total - moving
                moving_lost += (moving - (total - part)) + (weights[i] - part)
                moving = total
            else:
                total = left - weights[i]
                part = total - left
                lost += (left - (total - part)) - (weights[i] + part)
                left = total
        left, moving = left + lost, moving + moving_lost
        scale = left / moving if moving > 0 and left > 0 else 1.0
        for i in range(len(u)):
            if weights[i] < u[i]:
                weights[i] = min(weights[i] * scale, u[i])


@separate(_signature)
def risk_parity(
    bounded: int, C: Matrix, C32: Float32, sigma: Vector, u: Vector, weights: Vector, work: Matrix
) -> tuple[float, int, bool]:
    """Equal risk contributions over {0 < w <= u, sum w = 1}: every cluster below its bound contributes the same.

    Where the bounds leave no choice (sum u <= 1 + 1e-12) w = u.

    Args:
        bounded: address of `minimise_bounded`; 0 where nobody wants to wait for it, and what wants it is not solved.
        C: (K, K) correlations, unit diagonal, C-contiguous.
        C32: (K, K) the same, for directions.
        sigma: (K,) volatilities, positive.
        u: (K,) bounds with sum u >= 1; 0 for a cluster that takes no part.
        weights: (K,) receives w: at least 0, within the bounds, sum 1.
        work: (`ROOM`, K or more) for vectors.

    Returns:
        The gap, max of 1 - r_i / max r over the clusters below their bound with r_i = w_i (Sw)_i. The sweeps and Newton
        steps. And whether it is solved: the gap is within 1e-11, or where rounding keeps it from that within 5e-10 or
        its floor. Where some long-only mix has no variance, Newton's method does not converge, or there are NaN or
        infinities, it is not: the gap is infinite, and w in proportion to the bounds.
    """
    n = len(u)
    work32 = work.view(np.float32)
    room = 0.0
    for i in range(n):
        room += u[i]
        work[MEMBER, i] = 1.0 if u[i] > 0 else 0.0
        work[INVERSE, i] = 1 / sigma[i] if u[i] > 0 else 0.0
        work[HELD, i] = 0.0
    if room <= 1 + 1e-12:
        for i in range(n):
            weights[i] = u[i]
        return 0.0, 0, True
    gap, steps, crossed = _free(C, C32, u, work, work32)
    s = 0.0
    for i in range(n):
        s += work[INVERSE, i] * work[Z, i]
    for i in range(n):
        crossed |= work[INVERSE, i] * work[Z, i] > u[i] * s
    if crossed and bounded == 0:
        gap = np.inf
    if crossed and gap < np.inf:
        gap, more = _minimise_bounded_at(bounded, (C, C32, u, work, work32))
        steps += more
        s = 0.0
        for i in range(n):
            s += work[INVERSE, i] * work[Z, i]
    if not gap < np.inf:
        for i in range(n):
            weights[i] = u[i] / room
        return np.inf, steps, False
    for i in range(n):
        weights[i] = u[i] if work[HELD, i] > 0 else min(work[INVERSE, i] * work[Z, i] / s, u[i])
    _even_out(weights, u)
    for i in range(n):
        work[BELOW, i] = work[MEMBER, i] if weights[i] < u[i] else 0.0
    _, gap = spread(n, work, BELOW)
    return gap, steps, _is_solved(C, n, work, gap)
