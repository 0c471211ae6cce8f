"""Weights of clusters at a point, their optimality gap, and the linear programs of the capped simplex; one by one.

The scalar twin of `jaxalloc.kernels.solvers.candidates` and of `jaxalloc.kernels.solvers.capped_simplex`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import boolean, float64, int64, types

from jaxalloc.kernels.scalar.compiling import inner, inner_sums
from jaxalloc.kernels.scalar.faces import EPS, ROUNDING, Array, Face, Ints, Problem, product
from jaxalloc.kernels.solvers.tolerances import tolerance

TOLERANCE = tolerance(np.float64)  # optimality gap at which a problem is solved
_VECTOR = float64[::1]


def signature(kind: Any) -> Any:
    """Of solvers of minimum variance and maximum Sharpe for correlations of this type; see `mean_variance.by_faces`."""
    return types.Tuple((float64, int64, boolean, boolean))(kind[:, ::1], _VECTOR, _VECTOR, _VECTOR, _VECTOR)


@inner
def _marginal_cost(cost: Array, upper: Array) -> float:
    """The cost at which the entries up to it hold 1; the highest where they never do."""
    held, nu = 0.0, -math.inf
    for _ in range(len(cost)):
        least, room = math.inf, 0.0
        for i in range(len(cost)):
            if upper[i] > 0 and nu < cost[i] <= least:
                room = room + upper[i] if cost[i] == least else upper[i]
                least = cost[i]
        if not least < math.inf:
            break
        nu = least
        held += room
        if held >= 1:
            break
    return nu


@inner
def fill(cost: Array, upper: Array, weights: Array) -> float:
    """The feasible w of least cost: the cheapest entries first, one after the other. That cost."""
    rest, total = 1.0, 0.0
    for k in range(len(cost)):
        weights[k] = 0.0
    for _ in range(len(cost)):
        least, best = math.inf, -1
        for k in range(len(cost)):
            if upper[k] > 0 and weights[k] == 0 and cost[k] < least:
                least, best = cost[k], k
        if best < 0:
            break
        weights[best] = min(upper[best], rest)
        total += weights[best] * least
        rest -= upper[best]
        if not rest > 4 * EPS:
            break
    return total


@inner
def smallest(key: Array, most: float, count: int, out: Ints) -> int:
    """The at most ``count`` smallest entries of a key below ``most``, in order, and how many there are."""
    found = 0
    for i in range(len(key)):
        value = key[i]
        if value < most and (found < count or value < key[out[found - 1]]):
            place = found if found < count else count - 1
            while place > 0 and value < key[out[place - 1]]:
                out[place] = out[place - 1]
                place -= 1
            out[place] = i
            found = min(found + 1, count)
    return found


@inner
def weigh(problem: Problem, u: Array, y: Array, weights: Array) -> None:
    """Weights at a point: bounds to the bit, rounding counts as 0, and what is left of the sum is evened out."""
    largest = 0.0
    for k in range(len(y)):
        largest = max(largest, y[k])
    heir = False
    for k in range(len(y)):
        heir = heir or ROUNDING * largest < y[k] < problem.b[k]
    for k in range(len(y)):
        if heir and y[k] <= ROUNDING * largest:
            weights[k] = 0.0
        else:
            weights[k] = u[k] if y[k] >= problem.b[k] else min(problem.a[k] * y[k], u[k])
    for _ in range(2):
        fixed, moving = 0.0, 0.0
        for k in range(len(y)):
            if 0 < weights[k] < u[k]:
                moving += weights[k]
            else:
                fixed += weights[k]
        if moving > 0:
            scale = max((1 - fixed) / moving, 0.0)
            for k in range(len(y)):
                if 0 < weights[k] < u[k]:
                    weights[k] = min(weights[k] * scale, u[k])


@inner
def measure(
    problem: Problem, face: Face, sharpe: bool, u: Array, weights: Array, key: Array, order: Ints
) -> tuple[float, bool]:
    """The optimality gap of weights, and whether they solve the problem; as `jaxalloc.kernels.solvers.candidates`."""
    C, a, _, e = problem
    y, gradient, size, held = face.y, face.gradient, len(u), 0
    for k in range(size):
        y[k] = weights[k] / a[k]
        if weights[k] > 0:
            order[held] = k
            held += 1
    for k in range(size):
        gradient[k] = 0.0
    product(C, y, order, held, gradient)
    total, variance, reward, earned, simple = 0.0, 0.0, 0.0, 0.0, 0.0
    for h in range(held):
        k = order[h]
        total += weights[k]
        simple += y[k]
        variance += y[k] * gradient[k]
        reward += e[k] * y[k]
        earned += abs(e[k]) * y[k]
    ratio = variance / reward if reward > 0 else 0.0
    for k in range(size):
        key[k] = (gradient[k] - ratio * e[k]) / a[k]
    nu = _marginal_cost(key, u)
    slack = 0.0
    for k in range(size):
        if u[k] > 0:
            slack += max(key[k] - nu, 0.0) * weights[k] + max(nu - key[k], 0.0) * max(u[k] - weights[k], 0.0)
    gap = float(slack / variance)
    # a point that has lost the reward solves nothing, however low its variance
    feasible = bool(abs(total - 1) <= 8 * EPS and (reward > 0 or not sharpe))
    if gap <= TOLERANCE and variance > 4 * EPS * simple * simple:
        return gap, feasible
    gross = 0.0
    for h in range(held):
        row = C[order[h]]
        for g in range(held):
            gross += y[order[h]] * abs(row[order[g]]) * y[order[g]]
    if not variance > 4 * EPS * gross:
        return (0.0 if gross < math.inf else math.inf), feasible and bool(gross < math.inf)
    floor = 4 * EPS * max(gross / variance, earned / reward if reward > 0 else 0.0)
    return gap, feasible and gap <= max(TOLERANCE, float(floor))


@inner_sums
def gap_of(C: Array, sigma: Array, e: Array, u: Array, weights: Array, equal: bool, cost: Array) -> float:
    """The optimality gap of weights that were rounded after they were found.

    Args:
        C: (K, K) correlations.
        sigma: (K,) volatilities.
        e: (K,) excess returns; 0 for minimum variance.
        u: (K,) bounds.
        weights: (K,).
        equal: whether the weights are those of risk parity.
        cost: (K,) room.
    """
    size = len(u)
    variance, reward, largest = 0.0, 0.0, 0.0
    for k in range(size):
        row, total = C[k], 0.0
        for i in range(size):
            total += row[i] * (sigma[i] * weights[i])
        cost[k] = sigma[k] * total
        variance += weights[k] * cost[k]
        reward += weights[k] * e[k]
        largest = max(largest, weights[k] * cost[k])
    if equal:
        lowest = largest
        for k in range(size):
            if u[k] > 0 and weights[k] < u[k]:
                lowest = min(lowest, weights[k] * cost[k])
        return 1 - lowest / largest if largest > 0 else 0.0
    if not variance > 0:
        return 0.0
    for k in range(size):
        cost[k] -= variance / reward * e[k] if reward > 0 else 0.0
    nu, slack = _marginal_cost(cost[:size], u), 0.0
    for k in range(size):
        if u[k] > 0:
            slack += max(cost[k] - nu, 0.0) * weights[k] + max(nu - cost[k], 0.0) * max(u[k] - weights[k], 0.0)
    return slack / variance


@inner_sums
def hedging(C: Array, sigma: Array, e: Array, weights: Array, equal: bool) -> float:
    """How much of weights' risk or reward hedges cancel, at least 1: by so much rounding counts for more in their gap.

    The arguments are those of `gap_of`. For risk parity it is that of the cluster where it is most.
    """
    size = len(weights)
    variance, gross, reward, earned, largest, most = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(size):
        row, total, unhedged = C[k], 0.0, 0.0
        for i in range(size):
            risk = row[i] * (sigma[i] * weights[i])
            total += risk
            unhedged += abs(risk)
        own = sigma[k] * weights[k]
        variance += own * total
        gross += own * unhedged
        largest, most = max(largest, own * total), max(most, own * unhedged)
        reward += e[k] * weights[k]
        earned += abs(e[k]) * weights[k]
    if equal:
        return most / largest if largest > 0 else 1.0
    of_risk = gross / variance if variance > 0 else 1.0
    return max(of_risk, earned / reward if reward > 0 else 1.0)
