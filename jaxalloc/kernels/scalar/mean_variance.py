"""Minimum variance and maximum Sharpe of one universe: an active set with columns, exact on its face.

The problem and its conditions are those of `jaxalloc.kernels.solvers.mean_variance`. Only few clusters are held, so
that the work is that of small tables (`jaxalloc.kernels.scalar.faces`), and of pricing all K against them.

Two ways through. *Blocks* are fast: from the clusters that look best, all entries that leave their range on a face go
to the bound they crossed at once, until none does (block principal pivoting, Judice and Pires 1994); then all K
clusters are priced, and the worst join. Each such point is feasible, and its objective has to fall. Where it does not,
or where a face is singular, *single exchanges* go on from the best point so far: a primal active set (Nocedal and
Wright 2006, 16.5), whose steps end at the first bound they meet. Its steps solve for what is left of the conditions,
so that they refine the last digits as well.

Where all clusters are few, one table of them all takes a fraction of the time (`jaxalloc.kernels.scalar.tableau`), and
faces are for what it does not solve.
"""

from __future__ import annotations

import math

import numpy as np

from jaxalloc.kernels.scalar.compiling import inner, inner_sums, scalar
from jaxalloc.kernels.scalar.faces import (
    EPS,
    FULL,
    GOES,
    LEAST_PIVOT,
    ROUNDING,
    STEP,
    TABLE_ROWS,
    ZERO,
    Array,
    Face,
    Ints,
    Problem,
    gradient,
    invert,
    join,
    leave,
    place,
    solve,
    sums,
)
from jaxalloc.kernels.scalar.measuring import fill, measure, signature, smallest, weigh
from jaxalloc.kernels.scalar.separate import separate
from jaxalloc.kernels.scalar.tableau import FEW, solve_few

_WORTH = 1e-13  # gap that an entry at the wrong bound may be worth
_VARIANCE_START, _SHARPE_START = 20, 10  # entries of the first face, at most
_JOINING = 8  # at most so many join at a time, or half as many as are free
_RELEASE = 0.1  # at least so wrong they are, as a share of the worst
_ROOM = 1.5  # what the first face can hold, if the bounds are so wide
_FAR = 1e6  # so much longer a step is where nothing ends it but a bound
_MOST_BLOCKS, _MOST_SINGLES = 40, 100


@inner_sums
def _market_covariance(C: Array, b: Array, out: Array) -> None:
    """Correlation of each entry with some that take part, in equal risk: all of them if they are few."""
    size = len(b)
    for k in range(size):
        out[k] = 0.0
    apart = 1 + size // 64
    for i in range(0, size, apart):
        if b[i] > 0:
            row = C[i]
            for k in range(size):
                out[k] += row[k]


@inner_sums
def _price(problem: Problem, face: Face, alpha: float, beta: float, risk: float, key: Array) -> float:
    """The least of ``key``: minus the multiplier of an entry that asks to leave its bound, where more than rounding."""
    least, worth = 0.0, _WORTH * risk
    for k in range(len(key)):
        gradient, reward, price = face.gradient[k], alpha * problem.e[k], beta * problem.a[k]
        wrong = (gradient - reward + price) * face.side[k]
        noise = 8 * EPS * (abs(gradient) + abs(reward) + abs(price))
        key[k] = -wrong if wrong * problem.b[k] > worth and wrong > noise else 0.0
        least = min(least, key[k])
    return least


@inner
def _refill(problem: Problem, face: Face, sharpe: bool, order: Ints) -> int:
    """With F empty: the entry that is best to change joins it. 2 at a vertex, 1 where U is not one, 0 if none can."""
    gradient(problem, face)
    total, reward, risk = sums(problem, face)
    if sharpe and not reward > 0:
        return 0
    alpha = risk / reward if sharpe else 0.0
    over = total > 1 - 1e-12
    chosen, best = -1, -math.inf
    for k in range(len(face.y)):
        if (face.side[k] == FULL) if over else (face.side[k] == ZERO and problem.b[k] > 0):
            cost = (face.gradient[k] - alpha * problem.e[k]) / problem.a[k]
            value = cost if over else -cost
            if value > best:
                chosen, best = k, value
    if chosen < 0:
        return 0
    order[0] = chosen
    join(problem, face, order, np.intp(1), np.bool_(True))
    return 2 if abs(total - 1) <= 1e-12 else 1


@inner
def _settle(problem: Problem, face: Face, sharpe: bool, ratio: float, order: Ints) -> tuple[bool, float, float]:
    """From the face at hand, entries leave until all are within their range: whether they are, alpha and beta."""
    step, vertex = face.table[STEP], False
    for _ in range(2 * len(face.y) + 8):
        if face.count[0] == 0:
            found = _refill(problem, face, sharpe, order)
            if found == 0:
                break
            vertex = found == 2
        alpha, beta, terms, _ = solve(problem, face, sharpe, np.bool_(False), ratio)
        if not (abs(beta) < math.inf and (not sharpe or 0 < alpha < math.inf)):
            break
        ratio = alpha
        n = face.count[0]
        largest = 0.0
        for f in range(n):
            largest = max(largest, abs(step[f]))
        # a lone entry at its bound is a vertex, where another one may have to stand for the face
        alone = n == 1 and not vertex
        margin = ROUNDING * largest
        if n == 1:  # it has what the others leave, but for rounding
            margin += 8 * EPS * terms
        if alone:
            margin = -margin - ROUNDING * problem.b[face.full[0]] if face.count[1] > 0 else -margin
        below, above, goes = 0, 0, face.table[GOES]
        for f in range(n):
            k = face.free[f]
            face.y[k] = step[f]
            goes[f] = 0.0
            if step[f] < -margin:
                goes[f] = ZERO
                below += 1
            elif step[f] > problem.b[k] + margin:
                goes[f] = FULL
                above += 1
        if below + above == 0:
            return True, alpha, beta
        if sharpe and below > 0:  # these first: without them fewer are above their bounds, or none
            for f in range(n):
                goes[f] = min(goes[f], 0.0)
        leave(problem, face)
        vertex = False
    return False, 0.0, 0.0


@inner
def _blocks(problem: Problem, face: Face, sharpe: bool, ratio: float, key: Array, order: Ints, best: Array) -> bool:
    """Blocks of exchanges from the face at hand, as long as they lower the objective; the best point, if any."""
    least = math.inf
    for _ in range(_MOST_BLOCKS):
        settled, alpha, beta = _settle(problem, face, sharpe, ratio, order)
        if not settled:
            return False
        gradient(problem, face)
        _, reward, risk = sums(problem, face)
        if sharpe and not reward > 0:
            return False
        ratio = risk / reward if sharpe else 0.0
        value = risk / (reward * reward) if sharpe else risk
        if not value < least:
            return False
        least = value
        for k in range(len(best)):
            best[k] = face.y[k]
        worst = _price(problem, face, alpha, beta, risk, key)
        if not worst < 0:
            return True
        joining = smallest(key, _RELEASE * worst, max(_JOINING, face.count[0] // 2), order)
        if join(problem, face, order, joining, np.bool_(False)) == 0:
            return False
    return False


@inner
def _first_bound(problem: Problem, face: Face, terms: float) -> tuple[float, int, bool]:
    """How much of the step fits, at most 1; in which row of F it ends first, and whether at the upper bound."""
    step, share, place, full, largest = face.table[STEP], 1.0, -1, False, 0.0
    for k in range(len(face.y)):
        largest = max(largest, face.y[k])
    margin = ROUNDING * largest
    if face.count[0] == 1:  # it has what the others leave, but for rounding
        margin += 8 * EPS * terms
    for f in range(face.count[0]):
        k = face.free[f]
        room = face.y[k] if step[f] < 0 else problem.b[k] - face.y[k]
        if abs(step[f]) > room + margin and room < share * abs(step[f]):
            share, place, full = room / abs(step[f]), f, step[f] > 0
    return share, place, full


@inner_sums
def _stretch(problem: Problem, face: Face, reward: float, risk: float) -> None:
    """Scale a step that is not to the best of a face, so that it ends where the Sharpe ratio does not rise any more."""
    step, n, more, slope, curvature = face.table[STEP], face.count[0], 0.0, 0.0, 0.0
    for f in range(n):
        k = face.free[f]
        more += problem.e[k] * step[f]
        slope += face.gradient[k] * step[f]
        for g in range(n):
            curvature += step[f] * problem.C[k, face.free[g]] * step[g]
    gain, cost = more * risk - reward * slope, reward * curvature - more * slope
    scale = gain / cost if cost * _FAR > gain else _FAR
    if scale > 1:
        for f in range(n):
            step[f] *= scale


@inner
def _singles(problem: Problem, face: Face, sharpe: bool, key: Array, order: Ints) -> None:
    """Exchanges of one entry at a time, each from a feasible point to one that is no worse."""
    step, rest = face.table[STEP], 3
    for _ in range(_MOST_SINGLES + 2 * len(key)):
        if face.count[0] == 0 and _refill(problem, face, sharpe, order) == 0:
            break
        gradient(problem, face)
        _, reward, risk = sums(problem, face)
        alpha, beta, terms, to_best = solve(problem, face, sharpe, np.bool_(True), risk / reward)
        if not abs(alpha) + abs(beta) < math.inf:
            break
        if not to_best:
            _stretch(problem, face, reward, risk)
        share, place, full = _first_bound(problem, face, terms)
        for f in range(face.count[0]):
            k = face.free[f]
            face.y[k] = min(max(face.y[k] + share * step[f], 0.0), problem.b[k])
        if place >= 0:
            singular = face.inverse[place, place] > 1e-3 / LEAST_PIVOT
            for f in range(face.count[0]):
                face.table[GOES, f] = 0.0
            face.table[GOES, place] = FULL if full else ZERO
            leave(problem, face)
            if singular:  # the inverse has lost most of its digits
                invert(problem, face)
            continue
        gradient(problem, face)
        _, _, risk = sums(problem, face)
        worst = _price(problem, face, alpha, beta, risk, key)
        if worst < 0:
            for k in range(len(key)):
                if key[k] == worst:
                    order[0] = k
                    break
            join(problem, face, order, np.intp(1), np.bool_(True))
            continue
        rest -= 1
        if rest == 0:
            break


@inner
def _begin(problem: Problem, face: Face, sharpe: bool, richest: Array, key: Array, order: Ints) -> None:
    """The first face: entries of least covariance with the market, for a reward of most reward for it; all free."""
    C, a, b, e = problem
    size = len(b)
    _market_covariance(C, b, key)
    for k in range(size):
        if not b[k] > 0:
            key[k] = math.inf
        elif sharpe:
            key[k] = -e[k] / abs(key[k])
        else:
            key[k] = key[k] / a[k]
    first = 0
    if sharpe:
        for k in range(size):
            if richest[k] > 0:
                order[first] = k
                first += 1
                key[k] = math.inf
    rest = order[first:]
    most, count, room = (_SHARPE_START if sharpe else min(_VARIANCE_START, 2 + size // 2)), 0, 0.0
    while room < _ROOM and count < size - first:
        count = smallest(key, math.inf, min(most, size - first), rest)
        room = 0.0
        for i in range(first + count):
            room += a[order[i]] * b[order[i]]
        if count < most:
            break
        most *= 2
    join(problem, face, order, first + count, np.bool_(False))


@separate(signature)
def by_faces(C: Array, sigma: Array, e: Array, u: Array, weights: Array) -> tuple[float, int, bool, bool]:
    """Maximise e'w / sqrt(w'Sw) over {0 <= w <= u, sum w = 1}; where no such w has e'w > 0, minimise w'Sw.

    Args:
        C: (K, K) correlations, unit diagonal, by rows.
        sigma: (K,) volatilities, positive; S = diag(sigma) C diag(sigma).
        e: (K,) excess returns; 0 for minimum variance.
        u: (K,) upper bounds with sum u >= 1; 0 for a cluster that takes no part.
        weights: (K,) the result; 0 where there is none.

    Returns:
        The optimality gap (see `jaxalloc.kernels.solvers.mean_variance.optimality_gap`); how many faces were solved;
        whether minimum variance was solved for want of a reward (also with e = 0); and whether the problem is solved:
        a gap within 1e-11, or at its rounding floor. False, with what was found, where the exchanges come to no end,
        and with a gap of infinity where a number is NaN or infinite.
    """
    size = len(u)
    vectors, orders = np.zeros((9, size)), np.zeros((4, max(size, 3)), np.int64)
    a, b, excess, key, best, richest = vectors[0], vectors[1], vectors[2], vectors[3], vectors[4], vectors[5]
    checked = 0.0
    for k in range(size):
        weights[k] = 0.0
        checked += abs(e[k]) + abs(u[k]) + sigma[k] + 1 / sigma[k]
        key[k] = -e[k]
    if not checked < math.inf:
        return math.inf, 0, False, False
    reward = -fill(key, u, richest)
    sharpe = reward > 0
    for k in range(size):
        a[k] = 1 / sigma[k]
        b[k] = u[k] * sigma[k]
        excess[k] = e[k] * a[k] if sharpe and u[k] > 0 else 0.0
        vectors[8, k] = ZERO
    problem = Problem(C=C, a=a, b=b, e=excess)
    face = Face(
        count=orders[3],
        side=vectors[8],
        free=orders[0],
        full=orders[1],
        y=vectors[6],
        gradient=vectors[7],
        inverse=np.empty((size, 8 * ((size // 8 + 1) | 1))),  # rows an odd number of cache lines apart
        table=np.empty((TABLE_ROWS, size)),
    )
    _begin(problem, face, sharpe, richest, key, orders[2])
    best[0] = -1.0
    gap, solved = math.inf, False
    ratio = 0.0
    if sharpe:
        for k in range(size):
            for i in range(size):
                if richest[k] > 0 and richest[i] > 0:
                    ratio += richest[k] * sigma[k] * C[k, i] * sigma[i] * richest[i] / reward
    if _blocks(problem, face, sharpe, ratio, key, orders[2], best):
        weigh(problem, u, best, weights)
        gap, solved = measure(problem, face, sharpe, u, weights, key, orders[2])
    if not solved:
        if best[0] < 0:
            if not sharpe:
                fill(sigma, u, richest)
            for k in range(size):
                best[k] = richest[k] * sigma[k]
        place(problem, face, best, orders[2])
        _singles(problem, face, sharpe, key, orders[2])
        weigh(problem, u, face.y, weights)
        gap, solved = measure(problem, face, sharpe, u, weights, key, orders[2])
    return gap, face.count[2], not sharpe, solved


_solve_few_at, _by_faces_at = solve_few.at, by_faces.at


@scalar
def mean_variance(
    few: int, faces: int, C: Array, sigma: Array, e: Array, u: Array, weights: Array
) -> tuple[float, int, bool, bool]:
    """`by_faces`, but few clusters as `solve_few` does, if it can.

    Args:
        few: address of `solve_few`.
        faces: address of `by_faces`; 0 where nobody wants to wait for it, and what is left is not solved.
        C: these and the results are as of `by_faces`.
        sigma: likewise.
        e: likewise.
        u: likewise.
        weights: likewise.
    """
    turns = 0
    if len(u) <= FEW:
        gap, turns, altered, solved = _solve_few_at(few, (C, sigma, e, u, weights))
        if solved:
            return gap, turns, altered, True
    if faces == 0:
        return math.inf, turns, False, False
    gap, more, altered, solved = _by_faces_at(faces, (C, sigma, e, u, weights))
    return gap, turns + more, altered, solved
