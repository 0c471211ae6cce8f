"""Across clusters, the expert's loop, compiled: quadratic programs by columns, risk parity by coordinate descent.

S, m: moments of the clusters' synthetic returns; e excess mean; u bounds on the cluster weights w. The *variance
metric* scales w_i by sigma_i = sqrt(S_ii): z = sigma w has the correlation matrix C for its Hessian, and 1'w = a'z with
a = 1 / sigma.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

PRICE_TOLERANCE = 1e-12  # gap that a cluster outside the program may be worth
RISK_TOLERANCE = 1e-11  # of the risk contributions' spread: the optimality gap of risk parity
SUM_TOLERANCE = 1e-13
MAX_SWEEPS = 20_000
DELTA = 1e-10  # S + delta diag(S), where the sweeps find no solution

# Sums may be reordered, so that they vectorise; infinities and NaN keep their meaning.
_fast = {"reassoc", "contract", "nsz"}


# ---------------------------------------------------------------------------------------------------------------------
# Quadratic programs by columns: only a few clusters are held, so a program of those, enlarged until no other one would
# join, is far smaller than the whole, and not singular where there are more clusters than distinct rows
# ---------------------------------------------------------------------------------------------------------------------


@njit(cache=True)
def smallest(key: Array, count: int) -> Ints:
    """Indices of the ``count`` smallest."""
    return np.argsort(key)[:count]


@njit(cache=True, error_model="numpy", fastmath=_fast)
def times(C: Array, index: Ints, z: Array) -> Array:
    """C z for z given on ``index`` alone."""
    g = np.zeros(len(C))
    for p in range(len(index)):
        if z[p] != 0:
            row = C[index[p]]
            for k in range(len(C)):
                g[k] += z[p] * row[k]
    return g


@njit(cache=True, error_model="numpy", fastmath=_fast)
def market_covariance(C: Array, sigma: Array) -> Array:
    """Correlation of each cluster with equal risk in all, times its sigma: what a low minimum variance avoids."""
    g = np.zeros(len(C))
    for i in range(len(C)):
        for j in range(len(C)):
            g[i] += C[i, j]
    return g * sigma


@njit(cache=True, error_model="numpy")
def variance_program(
    C: Array, sigma: Array, u: Array, index: Ints
) -> tuple[Array, Array, Array, Array, Array, NDArray[np.int32]]:
    """(H, f, A, upper, lower, sense) of minimum variance over the clusters ``index``, in the variance metric."""
    size = len(index)
    H, A = np.empty((size, size)), np.empty((1, size))
    upper, lower, sense = np.ones(size + 1), np.zeros(size + 1), np.zeros(size + 1, np.int32)
    scale = sigma[index].min()
    for p in range(size):
        i = index[p]
        for q in range(size):
            H[p, q] = C[i, index[q]]
        A[0, p] = scale / sigma[i]
        upper[p] = u[i] * sigma[i] / scale
    lower[size], sense[size] = 1.0, 5
    return H, np.zeros(size), A, upper, lower, sense


@njit(cache=True, error_model="numpy")
def add_columns(index: Ints, wrong: Array, count: int) -> Ints:
    """``index`` and the (at most ``count``) clusters where ``wrong`` is largest and positive."""
    wrong[index] = 0.0
    order = np.argsort(-wrong)[:count]
    return np.concatenate((index, order[wrong[order] > 0]))


@njit(cache=True, error_model="numpy")
def price(w: Array, g: Array, u: Array, index: Ints) -> float:
    """The gradient g on the clusters between their bounds (rounding aside); all at a bound: the highest held."""
    level, free, highest = 0.0, 0.0, -np.inf
    for i in index:
        if 1e-12 < w[i] < u[i] * (1 - 1e-9):
            level += w[i] * g[i]
            free += w[i]
        if w[i] > 1e-12:
            highest = max(highest, g[i])
    return level / free if free > 0 else highest


@njit(cache=True, error_model="numpy")
def variance_answer(C: Array, sigma: Array, u: Array, index: Ints, z: Array, count: int) -> tuple[Array, Ints]:
    """(w, the clusters of the next program): as many as now where w is optimal among all."""
    scale = sigma[index].min()
    z = np.minimum(np.maximum(z * scale, 0.0), u[index] * sigma[index])
    g = times(C, index, z) * sigma
    w = np.zeros(len(C))
    w[index] = z / sigma[index]
    variance = 0.0
    for i in index:
        variance += w[i] * g[i]
    level = price(w, g, u, index)
    return w, add_columns(index, (level - g) * u - PRICE_TOLERANCE * variance, count)


@njit(cache=True, error_model="numpy")
def sharpe_program(
    C: Array, sigma: Array, e: Array, u: Array, index: Ints, capped: Ints
) -> tuple[Array, Array, Array, Array, Array, NDArray[np.int32]]:
    """Maximum Sharpe ratio in its homogeneous form: min y'Cy, e'y = 1, y >= 0, and y_i <= u_i 1'y for ``capped``."""
    size, rows = len(index), 1 + len(capped)
    H, A = np.empty((size, size)), np.empty((rows, size))
    upper, lower = np.full(size + rows, 1e30), np.zeros(size + rows)
    sense = np.zeros(size + rows, np.int32)
    scale = np.abs(e[index] / sigma[index]).max()
    smallest_sigma = sigma[index].min()
    for p in range(size):
        i = index[p]
        for q in range(size):
            H[p, q] = C[i, index[q]]
        A[0, p] = e[i] / (sigma[i] * scale)
        for r in range(1, rows):
            k = capped[r - 1]
            A[r, p] = (u[k] - (1.0 if k == i else 0.0)) * smallest_sigma / sigma[i]
    upper[size] = lower[size] = 1.0
    sense[size] = 5
    return H, np.zeros(size), A, upper, lower, sense


@njit(cache=True, error_model="numpy")
def sharpe_answer(
    C: Array, sigma: Array, e: Array, u: Array, index: Ints, capped: Ints, z: Array, count: int
) -> tuple[Array, Ints, Ints]:
    """(w, clusters and caps of the next program): as many as now where w is optimal among all."""
    z = np.maximum(z, 0.0)
    w = np.zeros(len(C))
    w[index] = z / sigma[index]
    total = w.sum()
    w /= total
    z /= total
    over = w - u
    over[over <= 1e-12] = 0.0
    more = add_columns(capped, over, count)
    if len(more) > len(capped):
        return w, index, more
    # e'w = ret and w'Sw = var: S w / var - e / ret is the same on the free clusters, higher at 0
    g = times(C, index, z) * sigma
    w = np.minimum(w, u)
    ret, variance = 0.0, 0.0
    for i in index:
        ret += w[i] * e[i]
        variance += w[i] * g[i]
    g = g / variance - e / ret
    level = price(w, g, u, index)
    return w, add_columns(index, (level - g) * u - PRICE_TOLERANCE, count), capped


@njit(cache=True)
def close_sum(w: Array, u: Array) -> Array:
    """Zeros to rounding become 0; what is left of 1 - sum w goes to the clusters between their bounds, by weight."""
    w[w < 1e-13] = 0.0
    for _ in range(3):
        gap = 1 - w.sum()
        free = 0.0
        for i in range(len(w)):
            if 0 < w[i] < u[i]:
                free += w[i]
        if gap == 0 or free == 0:
            break
        for i in range(len(w)):
            if 0 < w[i] < u[i]:
                w[i] = min(w[i] * (1 + gap / free), u[i])
    return w


@njit(cache=True)
def rich_clusters(e: Array, u: Array) -> tuple[Ints, float]:
    """Support of the w in P of highest e'w, and that e'w."""
    order = np.argsort(-e)
    rest, best, held = 1.0, 0.0, 0
    while rest > 0 and held < len(e):
        i = order[held]
        best += min(u[i], rest) * e[i]
        rest -= u[i]
        held += 1
    return order[:held], best


# ---------------------------------------------------------------------------------------------------------------------
# Risk parity with bounds (Richard and Roncalli 2019): cyclical coordinate descent
# ---------------------------------------------------------------------------------------------------------------------


@njit(cache=True, error_model="numpy", fastmath=_fast)
def sweep(C: Array, z: Array, g: Array, cap: Array, lam: float) -> float:
    """One cycle of coordinate descent on ½z'Cz - lam sum log z over z <= cap; g = Cz. The largest relative change."""
    change = 0.0
    for i in range(len(z)):
        b = g[i] - z[i]
        root = math.sqrt(b * b + 4 * lam)
        new = 2 * lam / (b + root) if b > 0 else 0.5 * (root - b)
        new = min(new, cap[i])
        step = new - z[i]
        if step != 0:
            change = max(change, abs(step) / new)
            z[i] = new
            row = C[i]
            for k in range(len(z)):
                g[k] += step * row[k]
    return change


@njit(cache=True, error_model="numpy", fastmath=_fast)
def risk_spread(z: Array, g: Array, cap: Array) -> float:
    """Gap of risk parity: how far the least risk contribution below a cap is under the largest of all, as a share."""
    lowest, highest = np.inf, 0.0
    for i in range(len(z)):
        risk = z[i] * g[i]
        highest = max(highest, risk)
        if z[i] < cap[i]:
            lowest = min(lowest, risk)
    return 1 - lowest / highest if lowest < np.inf else 0.0


@njit(cache=True, error_model="numpy", fastmath=_fast)
def factor(A: Array) -> bool:
    """Cholesky factor in the lower triangle, in place; False where A is not positive definite."""
    for i in range(len(A)):
        for j in range(i):
            dot = 0.0
            for k in range(j):
                dot += A[i, k] * A[j, k]
            A[i, j] = (A[i, j] - dot) / A[j, j]
        dot = 0.0
        for k in range(i):
            dot += A[i, k] * A[i, k]
        pivot = A[i, i] - dot
        if not pivot > 0:
            return False
        A[i, i] = math.sqrt(pivot)
    return True


@njit(cache=True, error_model="numpy", fastmath=_fast)
def substitute(L: Array, b: Array) -> None:
    """Solve LL'x = b, in place."""
    for i in range(len(b)):
        dot = 0.0
        for k in range(i):
            dot += L[i, k] * b[k]
        b[i] = (b[i] - dot) / L[i, i]
    for i in range(len(b) - 1, -1, -1):
        b[i] /= L[i, i]
        for k in range(i):
            b[k] -= L[i, k] * b[i]


@njit(cache=True, error_model="numpy")
def newton(C: Array, z: Array, g: Array, cap: Array, a: Array, lam: float, bound: bool) -> float:
    """One damped Newton step on the clusters below their caps, in place, and the new lambda.

    Relative steps s solve (ZCZ + lambda I) s = lambda - z(Cz); with ``bound``, lambda changes so that a'z becomes 1.
    """
    free = np.flatnonzero(z < cap)
    size = len(free)
    A = np.empty((size, size))
    residual, unit = np.empty(size), np.ones(size)
    for p in range(size):
        i = free[p]
        for q in range(p):
            A[p, q] = z[i] * z[free[q]] * C[i, free[q]]
        A[p, p] = z[i] * z[i] + lam
        residual[p] = lam - z[i] * g[i]
    if size == 0 or not factor(A):
        return lam
    step = residual.copy()
    substitute(A, step)
    change = 0.0
    if bound:
        substitute(A, unit)
        along, across = 0.0, 0.0
        for p in range(size):
            along += a[free[p]] * z[free[p]] * step[p]
            across += a[free[p]] * z[free[p]] * unit[p]
        if across > 0:
            change = min(3 * lam, max(-0.75 * lam, (1 - a @ z - along) / across))
            step += change * unit
    decrement = math.sqrt(max(0.0, step @ (residual + change)) / lam)
    damping = 1.0 if decrement < 0.25 else 1 / (1 + decrement)
    for p in range(size):
        i = free[p]
        z[i] = min(z[i] * max(1 + damping * step[p], 0.1), cap[i])
    g[:] = C @ z
    return lam + damping * change


@njit(cache=True, error_model="numpy")
def risk_parity(C: Array, sigma: Array, u: Array) -> tuple[Array, int]:
    """(w, sweeps): equal risk contributions below the caps, at the lambda with sum w = 1.

    As long as no cap binds lambda is only a scale. Where one does, lambda moves with every sweep: the sum grows about
    as lambda^s with s between a half and one times the share of the clusters below their caps. Hedges slow the descent
    down; what is not there after some sweeps gets Newton steps in between.
    """
    n = len(u)
    if u.sum() <= 1 + 1e-12:
        return u.copy(), 0
    a = 1 / sigma
    cap = np.full(n, np.inf)
    lam = 1.0
    z = np.full(n, 1 / math.sqrt(max(C.sum() / n, 1e-3)))
    g = C @ z
    sweeps, bound, patience = 0, False, 12 + n // 8
    while sweeps < MAX_SWEEPS:
        if patience <= sweeps < 20 * patience:
            lam = newton(C, z, g, cap, a, lam, bound)
        change = sweep(C, z, g, cap, lam)
        sweeps += 1
        if bound:
            total, free = 0.0, 0.0
            for i in range(n):
                total += z[i] * a[i]
                if z[i] < cap[i]:
                    free += z[i] * a[i]
            if abs(total - 1) < SUM_TOLERANCE and risk_spread(z, g, cap) < RISK_TOLERANCE:
                break
            if not patience <= sweeps < 20 * patience:
                power = min(8.0, 1.4 * total / max(free, 1e-3))
                lam *= min(4.0, max(0.25, (1 / total) ** power))
        elif change < 1e-4:
            total = a @ z
            bound = np.any(z * a > u * total * (1 + 2 * change))
            if bound:
                scale = np.min(u / (z * a))
                lam *= scale * scale
                z *= scale
                g *= scale
                cap = u * sigma
            elif change < 1e-9:
                g = C @ z
                if risk_spread(z, g, cap) < RISK_TOLERANCE:
                    break
    w = z * a
    return (w if bound else w / w.sum()), sweeps


@njit(cache=True)
def bounded_risk_parity(C: Array, sigma: Array, u: Array) -> tuple[Array, int]:
    """`risk_parity`; of C + delta I where it finds nothing (two clusters that cancel each other)."""
    w, sweeps = risk_parity(C, sigma, u)
    if sweeps >= MAX_SWEEPS:
        regular = C + DELTA * np.eye(len(C))
        w, sweeps = risk_parity(regular / (1 + DELTA), sigma, u)
        sweeps = -sweeps
    return np.minimum(w, u), sweeps
