"""Risk parity with the bounds on, compiled by numba: Newton's method with a primal-dual active set.

Symbols are those of `jaxalloc.kernels.scalar.risk_parity`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import float32, float64, int64, types

from jaxalloc.kernels.scalar.compiling import inner_sums
from jaxalloc.kernels.scalar.log_newton import (
    BELOW,
    CHANGE,
    ERROR,
    HELD,
    INVERSE,
    LOOSE,
    MEMBER,
    NEAR,
    PRODUCT,
    PULL,
    RESPONSE,
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

_BOUNDED_STEPS = 30  # of Newton's method at most
_PATIENCE = 3  # steps after which the clusters at their bounds should be known, or else be swept for
_SWEEPS, _MOST_SWEEPS = 5, 30  # so many, and more from time to time


@inner_sums
def _sweep(C: Matrix, u: Vector, s: float, work: Matrix) -> None:
    """Minimise over one coordinate after another below its bound; ``PRODUCT`` is C z, before and after."""
    n = len(u)
    for i in range(n):
        if u[i] > 0:
            slope = work[PRODUCT, i] - work[Z, i]
            root = math.sqrt(slope * slope + 4)
            best = 2 / (slope + root) if slope > 0 else 0.5 * (root - slope)
            bound = u[i] * s / work[INVERSE, i]
            work[HELD, i] = 1.0 if best >= bound else 0.0
            change = min(best, bound) - work[Z, i]
            work[Z, i] += change
            for k in range(n):
                work[PRODUCT, k] += change * C[i, k]


@inner_sums
def _hold(u: Vector, work: Matrix) -> float:
    """Make a . z = s, the clusters that are ``HELD`` at their bounds, and those that cross them there, too.

    Returns:
        s; 0 where those at their bounds are too many.
    """
    fixed, moving = 0.0, 0.0
    for i in range(len(u)):
        fixed += u[i] * work[HELD, i]
        moving += work[INVERSE, i] * work[Z, i] * (1 - work[HELD, i])
    if not (fixed < 1 and moving > 0):
        return 0.0
    s = moving / (1 - fixed)
    for i in range(len(u)):
        if u[i] > 0 and (work[HELD, i] > 0 or work[INVERSE, i] * work[Z, i] >= u[i] * s):
            work[HELD, i] = 1.0
            work[Z, i] = u[i] * s / work[INVERSE, i]
    return s


@inner_sums
def _release(C: Matrix, u: Vector, work: Matrix) -> float:
    """From all clusters at their bounds, those of the largest contributions give way until sum w = 1; s."""
    n = len(u)
    fixed = 0.0
    for i in range(n):
        work[Z, i] = u[i] / work[INVERSE, i] if u[i] > 0 else 0.0
        work[HELD, i] = 1.0 if u[i] > 0 else 0.0
        fixed += u[i]
    multiply(C, n, work, Z, PRODUCT)
    largest, released = 0.0, 0.0
    for turn in range(n):
        best = -1
        for i in range(n):
            if work[HELD, i] > 0 and (best < 0 or work[Z, i] * work[PRODUCT, i] > work[Z, best] * work[PRODUCT, best]):
                best = i
        if turn == 0:
            largest = work[Z, best] * work[PRODUCT, best]
        work[HELD, best] = 0.0
        fixed -= u[best]
        released += u[best]
        if fixed < 1:
            break
    s = 1 / math.sqrt(largest) if largest > 0 else 1.0
    for i in range(n):
        work[Z, i] *= s if work[HELD, i] > 0 else s * (1 - fixed) / released
    return s


@inner_sums
def _step(C: Matrix, C32: Float32, n: int, s: float, fixed: float, worst: float, work: Matrix, work32: Float32) -> bool:
    """A Newton step for z below the bounds and for s together, whose equations are (C z)_i = 1 / z_i and a . z = s.

    Returns:
        False where the sum of the weights falls as lambda grows, so that this is not the smallest lambda; nothing is
        changed then.
    """
    multiply(C, n, work, CHANGE, PULL)
    for i in range(n):
        work[PULL, i] *= -work[LOOSE, i]
    share = reduction(max(worst, 1e-12), 0.1)
    solve(C32, n, work, work32, LOOSE, ERROR, CHANGE, share)
    solve(C32, n, work, work32, LOOSE, PULL, RESPONSE, max(share, 1e-4))
    owned, along, across = 0.0, 0.0, 0.0
    for i in range(n):
        own = work[INVERSE, i] * work[LOOSE, i]
        owned += own
        along += own * work[CHANGE, i]
        across += own * work[RESPONSE, i]
    room = 1 - fixed - across
    if not room > 0:
        return False
    ds = (owned + along - (1 - fixed) * s) / room
    for i in range(n):
        work[Z, i] *= grow(work[BELOW, i] * (work[CHANGE, i] + ds * work[RESPONSE, i]))
    return True


def _signature(kind: Any) -> Any:
    vector, matrix, matrix32 = float64[::1], float64[:, ::1], float32[:, ::1]
    return types.Tuple((float64, int64))(kind[:, ::1], matrix32, vector, matrix, matrix32)


@separate(_signature, sums=True)
def minimise_bounded(C: Matrix, C32: Float32, u: Vector, work: Matrix, work32: Float32) -> tuple[float, int]:
    """With the bounds on, from row ``Z`` and into it, the clusters at their bounds into ``HELD``: (gap, steps).

    Half of risk parity's code, and most portfolios do without it.
    """
    n = len(u)
    s = 0.0
    for i in range(n):
        s += work[INVERSE, i] * work[Z, i]
    for i in range(n):
        work[HELD, i] = 1.0 if work[INVERSE, i] * work[Z, i] > u[i] * s else 0.0
    gap, before = np.inf, np.inf
    changes, sweeps = 0, 0
    for steps in range(_BOUNDED_STEPS):
        s = _hold(u, work)
        if s == 0:
            s = _release(C, u, work)
        multiply(C, n, work, Z, PRODUCT)
        if changes > 0 and steps > _PATIENCE:
            sweeps = min(sweeps + _SWEEPS, _MOST_SWEEPS)  # more each time, to end a cycle of the steps in between
            for _ in range(sweeps):
                _sweep(C, u, s, work)
                s = _hold(u, work)
                if s == 0:
                    s = _release(C, u, work)
                multiply(C, n, work, Z, PRODUCT)
        spent, fixed, worst, changes = 0.0, 0.0, 0.0, 0
        for i in range(n):
            if work[HELD, i] > 0 and work[Z, i] * work[PRODUCT, i] > 1:
                work[HELD, i] = 0.0
                changes += 1
            spent += work[INVERSE, i] * work[Z, i]
            fixed += u[i] * work[HELD, i]
            work[BELOW, i] = work[MEMBER, i] - work[HELD, i]
            work[LOOSE, i] = work[Z, i] * work[BELOW, i]
            work[ERROR, i] = work[BELOW, i] * (1 - work[Z, i] * work[PRODUCT, i])
            worst = max(worst, abs(work[ERROR, i]))
            work[CHANGE, i] = (
                work[HELD, i] * u[i] / work[INVERSE, i] if u[i] > 0 else 0.0
            )  # by how much they move with s
        off = abs(spent / s - 1)
        _, gap = spread(n, work, BELOW)
        settled = changes == 0 and off <= 1e-13
        if (settled and gap <= TOLERANCE) or not worst < np.inf:
            return gap, steps
        if settled and max(gap, worst) < NEAR and gap > 0.5 * before:
            return gap, steps
        before = gap if settled else np.inf
        if not _step(C, C32, n, s, fixed, max(worst, off), work, work32):
            return np.inf, steps
    return np.inf, _BOUNDED_STEPS
