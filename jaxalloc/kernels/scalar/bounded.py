"""Risk parity with the bounds on, compiled by numba: Newton's method with a primal-dual active set.

Symbols are those of `jaxalloc.kernels.scalar.risk_parity`.
"""

from __future__ import annotations

import math

import numpy as np

from jaxalloc.kernels.scalar.compiling import inner_sums
from jaxalloc.kernels.scalar.log_newton import (
    NEAR,
    TOLERANCE,
    Float32,
    Matrix,
    Vector,
    grow,
    multiply,
    reduction,
    solve,
    spread,
)

_BOUNDED_STEPS = 30  # of Newton's method at most
_PATIENCE = 3  # steps after which the clusters at their bounds should be known, or else be swept for
_SWEEPS, _MOST_SWEEPS = 5, 30  # so many, and more from time to time


@inner_sums
def _sweep(C: Matrix, a: Vector, u: Vector, s: float, z: Vector, product: Vector, held: Vector) -> None:
    """Minimise over one coordinate after another below its bound; ``product`` is C z, before and after."""
    n = len(z)
    for i in range(n):
        if u[i] > 0:
            slope = product[i] - z[i]
            root = math.sqrt(slope * slope + 4)
            best = 2 / (slope + root) if slope > 0 else 0.5 * (root - slope)
            bound = u[i] * s / a[i]
            held[i] = 1.0 if best >= bound else 0.0
            change = min(best, bound) - z[i]
            z[i] += change
            row = C[i]
            for k in range(n):
                product[k] += change * row[k]


@inner_sums
def _hold(a: Vector, u: Vector, z: Vector, held: Vector) -> float:
    """Make a . z = s, the clusters ``held`` at their bounds, and those that cross them there, too.

    Returns:
        s; 0 where those at their bounds are too many.
    """
    fixed, moving = 0.0, 0.0
    for i in range(len(z)):
        fixed += u[i] * held[i]
        moving += a[i] * z[i] * (1 - held[i])
    if not (fixed < 1 and moving > 0):
        return 0.0
    s = moving / (1 - fixed)
    for i in range(len(z)):
        if u[i] > 0 and (held[i] > 0 or a[i] * z[i] >= u[i] * s):
            held[i] = 1.0
            z[i] = u[i] * s / a[i]
    return s


@inner_sums
def _release(C: Matrix, a: Vector, u: Vector, z: Vector, product: Vector, held: Vector) -> float:
    """From all clusters at their bounds, those of the largest contributions give way until sum w = 1; s."""
    n = len(z)
    fixed = 0.0
    for i in range(n):
        z[i] = u[i] / a[i] if u[i] > 0 else 0.0
        held[i] = 1.0 if u[i] > 0 else 0.0
        fixed += u[i]
    multiply(C, z, product)
    largest, released = 0.0, 0.0
    for turn in range(n):
        best = -1
        for i in range(n):
            if held[i] > 0 and (best < 0 or z[i] * product[i] > z[best] * product[best]):
                best = i
        if turn == 0:
            largest = z[best] * product[best]
        held[best] = 0.0
        fixed -= u[best]
        released += u[best]
        if fixed < 1:
            break
    s = 1 / math.sqrt(largest) if largest > 0 else 1.0
    for i in range(n):
        z[i] *= s if held[i] > 0 else s * (1 - fixed) / released
    return s


@inner_sums
def _step(
    C: Matrix, C32: Float32, a: Vector, s: float, fixed: float, worst: float, work: Matrix, work32: Float32
) -> bool:
    """A Newton step for z below the bounds and for s together, whose equations are (C z)_i = 1 / z_i and a . z = s.

    Returns:
        False where the sum of the weights falls as lambda grows, so that this is not the smallest lambda; nothing is
        changed then.
    """
    n = len(a)
    z, error, change, loose = work[0], work[2], work[3], work[5]
    pull, response, below = work[6], work[7], work[8]
    multiply(C, change, pull)
    for i in range(n):
        pull[i] *= -loose[i]
    share = reduction(max(worst, 1e-12), 0.1)
    solve(C32, loose, error, change, work32, share)
    solve(C32, loose, pull, response, work32, max(share, 1e-4))
    owned, along, across = 0.0, 0.0, 0.0
    for i in range(n):
        own = a[i] * loose[i]
        owned += own
        along += own * change[i]
        across += own * response[i]
    room = 1 - fixed - across
    if not room > 0:
        return False
    ds = (owned + along - (1 - fixed) * s) / room
    for i in range(n):
        z[i] *= grow(below[i] * (change[i] + ds * response[i]))
    return True


@inner_sums
def minimise_bounded(
    C: Matrix, C32: Float32, a: Vector, u: Vector, member: Vector, work: Matrix, work32: Float32
) -> tuple[float, int]:
    """With the bounds on, from ``work[0]`` and into it, the clusters at their bounds into ``work[4]``: (gap, steps)."""
    n = len(u)
    z, product, error, change, held = work[0], work[1], work[2], work[3], work[4]
    loose, below = work[5], work[8]
    s = 0.0
    for i in range(n):
        s += a[i] * z[i]
    for i in range(n):
        held[i] = 1.0 if a[i] * z[i] > u[i] * s else 0.0
    gap, before = np.inf, np.inf
    changes, sweeps = 0, 0
    for steps in range(_BOUNDED_STEPS):
        s = _hold(a, u, z, held)
        if s == 0:
            s = _release(C, a, u, z, product, held)
        multiply(C, z, product)
        if changes > 0 and steps > _PATIENCE:
            sweeps = min(sweeps + _SWEEPS, _MOST_SWEEPS)  # more each time, to end a cycle of the steps in between
            for _ in range(sweeps):
                _sweep(C, a, u, s, z, product, held)
                s = _hold(a, u, z, held)
                if s == 0:
                    s = _release(C, a, u, z, product, held)
                multiply(C, z, product)
        spent, fixed, worst, changes = 0.0, 0.0, 0.0, 0
        for i in range(n):
            if held[i] > 0 and z[i] * product[i] > 1:
                held[i] = 0.0
                changes += 1
            spent += a[i] * z[i]
            fixed += u[i] * held[i]
            below[i] = member[i] - held[i]
            loose[i] = z[i] * below[i]
            error[i] = below[i] * (1 - z[i] * product[i])
            worst = max(worst, abs(error[i]))
            change[i] = held[i] * u[i] / a[i] if u[i] > 0 else 0.0  # by how much they move with s
        off = abs(spent / s - 1)
        _, gap = spread(z, product, below)
        settled = changes == 0 and off <= 1e-13
        if (settled and gap <= TOLERANCE) or not worst < np.inf:
            return gap, steps
        if settled and max(gap, worst) < NEAR and gap > 0.5 * before:
            return gap, steps
        before = gap if settled else np.inf
        if not _step(C, C32, a, s, fixed, max(worst, off), work, work32):
            return np.inf, steps
    return np.inf, _BOUNDED_STEPS
