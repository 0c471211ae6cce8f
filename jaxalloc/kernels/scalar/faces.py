"""Faces of a mean variance problem: which entries are free, the inverse on them, and the optimality conditions.

In the variance metric y = sigma w: entries F of y lie between their bounds, U at the upper one, the rest at 0, and
C y = alpha e - beta a on F. The inverse of C on F is kept, and changes with each entry that joins or leaves it in
|F|^2 steps (bordering, and its reverse), whatever K.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxalloc.kernels.scalar.compiling import inlined_sums, inner, inner_sums
from jaxalloc.kernels.solvers.tolerances import rounding

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

EPS = float(np.finfo(np.float64).eps)
ROUNDING = rounding(np.float64)  # relative error that an entry of y may have
ZERO, FREE, FULL = -1.0, 0.0, 1.0  # sides: the sign with which a multiplier asks for a change
LEAST_PIVOT = 1e-10  # of an entry that the others on the face span: what is added to C there bounds the steps
TABLE_ROWS, STEP, GOES = 8, 2, 0  # rows of scratch for vectors on F; the row of the step, and of where entries go


class Problem(NamedTuple):
    """In the variance metric.

    Attributes:
        C: (K, K) correlations.
        a: (K,) 1 / sigma.
        b: (K,) largest y.
        e: (K,) excess returns over volatilities; 0 for minimum variance, and where ``b`` is 0.
    """

    C: Array
    a: Array
    b: Array
    e: Array


class Face(NamedTuple):
    """The active set. Entries of ``count`` say how many of ``free`` and of ``full`` there are, and count solves.

    Attributes:
        count: (3,) |F|, |U|, solves so far.
        side: (K,) -1 at 0, 0 in F, 1 in U.
        free: (K,) F, in the order of the rows of ``inverse``.
        full: (K,) U.
        y: (K,) the point; 0 outside of F and U.
        gradient: (K,) C y, where it was last computed.
        inverse: (K, width) of C on F.
        table: (8, width) scratch for vectors on F.
    """

    count: Ints
    side: Array
    free: Ints
    full: Ints
    y: Array
    gradient: Array
    inverse: Array
    table: Array


@inlined_sums
def _append(C: Array, face: Face, k: int, forced: bool) -> bool:
    """Entry k joins F; one that the others span only if ``forced``. Whether it has."""
    n, inverse, c, v = face.count[0], face.inverse, face.table[0], face.table[1]
    for j in range(n):
        c[j] = C[k, face.free[j]]
    pivot = 1.0
    for i in range(n):
        dot = 0.0
        for j in range(n):
            dot += inverse[i, j] * c[j]
        v[i] = dot
        pivot -= dot * c[i]
    if not (forced or pivot > LEAST_PIVOT):
        return False
    scale = 1 / max(pivot, LEAST_PIVOT)
    for i in range(n):
        share = scale * v[i]
        for j in range(n):
            inverse[i, j] += share * v[j]
        inverse[i, n] = -share
        inverse[n, i] = -share
    inverse[n, n] = scale
    face.free[n] = k
    face.side[k] = FREE
    face.count[0] = n + 1
    return True


@inlined_sums
def _remove(face: Face, place: int) -> None:
    """The entry in this row leaves F; the last row takes its place."""
    last, inverse, v = face.count[0] - 1, face.inverse, face.table[1]
    scale = -1 / inverse[place, place]
    for j in range(last):
        v[j] = inverse[place, j]
    v[place] = inverse[place, last]
    for j in range(last):
        inverse[place, j] = inverse[last, j]
        inverse[j, place] = inverse[last, j]
    inverse[place, place] = inverse[last, last]
    for i in range(last):
        share = scale * v[i]
        for j in range(last):
            inverse[i, j] += share * v[j]
    face.free[place] = face.free[last]
    face.count[0] = last


@inner
def _release(face: Face, k: int) -> None:
    """Entry k leaves U."""
    last = face.count[1] - 1
    for i in range(last):
        if face.full[i] == k:
            face.full[i] = face.full[last]
            break
    face.count[1] = last


@inner
def join(problem: Problem, face: Face, order: Ints, count: int, forced: bool) -> int:
    """The first entries of ``order``, at their bounds, join F, if they may (see `_append`); how many have."""
    joined = 0
    for i in range(count):
        k = order[i]
        full = face.side[k] == FULL
        if _append(problem.C, face, k, forced):
            joined += 1
            if full:
                _release(face, k)
    return joined


@inner
def leave(problem: Problem, face: Face) -> None:
    """The entries of F that are marked in row 0 of the table go to their bounds: -1 to 0, 1 to the upper one."""
    goes = face.table[GOES]
    for f in range(face.count[0] - 1, -1, -1):
        if goes[f] != 0:
            k = face.free[f]
            _remove(face, f)
            face.side[k] = goes[f]
            face.y[k] = problem.b[k] if goes[f] > 0 else 0.0
            if goes[f] > 0:
                face.full[face.count[1]] = k
                face.count[1] += 1


@inner
def invert(problem: Problem, face: Face) -> None:
    """The inverse anew."""
    n = face.count[0]
    face.count[0] = 0
    join(problem, face, face.free, n, np.bool_(True))


@inner
def place(problem: Problem, face: Face, y: Array, order: Ints) -> None:
    """The face on which a feasible point lies."""
    face.count[0] = face.count[1] = between = 0
    for k in range(len(y)):
        face.side[k] = ZERO
        face.y[k] = 0.0
        if problem.b[k] > 0 and y[k] >= problem.b[k] * (1 - ROUNDING):
            face.side[k] = FULL
            face.y[k] = problem.b[k]
            face.full[face.count[1]] = k
            face.count[1] += 1
        elif y[k] > 0:
            face.y[k] = y[k]
            order[between] = k
            between += 1
    join(problem, face, order, between, np.bool_(True))


@inner_sums
def product(C: Array, y: Array, index: Ints, count: int, out: Array) -> None:
    """Add C y, for y on ``index`` alone, by rows of C."""
    size = len(out)
    pairs = count // 2 * 2
    for f in range(0, pairs, 2):
        i, j = index[f], index[f + 1]
        first, second, y_i, y_j = C[i], C[j], y[i], y[j]
        for k in range(size):
            out[k] += y_i * first[k] + y_j * second[k]
    if pairs < count:
        i = index[pairs]
        first, y_i = C[i], y[i]
        for k in range(size):
            out[k] += y_i * first[k]


@inner_sums
def gradient(problem: Problem, face: Face) -> None:
    """C y, from F and U."""
    for k in range(len(face.gradient)):
        face.gradient[k] = 0.0
    product(problem.C, face.y, face.free, face.count[0], face.gradient)
    product(problem.C, face.y, face.full, face.count[1], face.gradient)


@inner_sums
def sums(problem: Problem, face: Face) -> tuple[float, float, float]:
    """a'y, e'y and y'Cy; the gradient must be at hand."""
    total, reward, risk = 0.0, 0.0, 0.0
    for f in range(face.count[0]):
        i = face.free[f]
        total += problem.a[i] * face.y[i]
        reward += problem.e[i] * face.y[i]
        risk += face.gradient[i] * face.y[i]
    for h in range(face.count[1]):
        i = face.full[h]
        total += problem.a[i] * face.y[i]
        reward += problem.e[i] * face.y[i]
        risk += face.gradient[i] * face.y[i]
    return float(total), float(reward), float(risk)


@inner_sums
def solve(problem: Problem, face: Face, sharpe: bool, refine: bool, ratio: float) -> tuple[float, float, float, bool]:
    """The step to the optimum of the face, in row 2 of the table.

    Returns alpha, beta, how large what cancels in the step is, and whether it leads to the best of the face.

    As `jaxalloc.kernels.solvers.active_set` has it: the step is alpha p - beta q - r with C_FF [p, q, r] =
    [e, a, gradient]_F; the new point has a'y = 1, and its variance is alpha times its reward. Without ``refine`` the
    step starts from 0 on F, whatever y is there; with it, from y, whose gradient must be at hand. Where no point of
    the face has a positive reward and the greatest Sharpe ratio, alpha is what it is at y (with ``refine``), or not
    positive.
    """
    C, a, b, e = problem
    face.count[2] += 1
    n, inverse, table, free = face.count[0], face.inverse, face.table, face.free
    step, own_a, own_e, start, pull = table[2], table[3], table[4], table[5], table[6]
    a_held, e_held, risk_held = 0.0, 0.0, 0.0
    held = face.count[1]
    for f in range(n):
        i = free[f]
        own_a[f], own_e[f], pull[f] = a[i], e[i], 0.0
    for h in range(held):
        i = face.full[h]
        row, y_i = C[i], b[i]
        a_held += a[i] * y_i
        e_held += e[i] * y_i
        for f in range(n):
            pull[f] += y_i * row[free[f]]
        if refine:
            risk_held += face.gradient[i] * y_i
        else:
            for g in range(held):
                risk_held += y_i * row[face.full[g]] * b[face.full[g]]
    total = a_held
    for f in range(n):
        start[f] = pull[f]
    if refine:
        for f in range(n):
            i = free[f]
            start[f] = face.gradient[i]
            total += a[i] * face.y[i]
    ap, aq, ar, pull_p, pull_q, pull_r = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    p, q = table[7], table[0]
    for f in range(n):
        p_f, q_f, r_f = 0.0, 0.0, 0.0
        for g in range(n):
            p_f += inverse[f, g] * own_e[g]
            q_f += inverse[f, g] * own_a[g]
            r_f += inverse[f, g] * start[g]
        p[f], q[f], step[f] = p_f, q_f, r_f
        ap += own_a[f] * p_f
        aq += own_a[f] * q_f
        ar += own_a[f] * r_f
        pull_p += pull[f] * p_f
        pull_q += pull[f] * q_f
        pull_r += pull[f] * r_f
    missing = 1 - total + ar
    alpha, beta, best = 0.0, -missing / aq, True
    if sharpe:
        of_alpha, of_beta, value = pull_p - e_held, pull_q + 1 - a_held, pull_r - risk_held
        determinant = aq * of_alpha - ap * of_beta
        alpha = (aq * value - missing * of_beta) / determinant
        beta = (ap * value - missing * of_alpha) / determinant
        if not 0 < alpha < math.inf:
            alpha, best = ratio, False
            beta = (alpha * ap - missing) / aq
    largest = 0.0
    for f in range(n):
        largest = max(largest, abs(alpha * p[f]) + abs(beta * q[f]) + abs(step[f]))
        step[f] = alpha * p[f] - beta * q[f] - step[f]
    return float(alpha), float(beta), largest, best
