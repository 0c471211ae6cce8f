"""Minimum variance and maximum Sharpe of few clusters: principal pivots of one small table.

The problem, its conditions, and F and U are those of `jaxalloc.kernels.scalar.faces`. The table is C with three rows
more: a, e, and r = C b on U. Swept on F (Goodnight 1979) each of these rows v is C_FF^-1 v on F, and v - C_NF C_FF^-1 v
elsewhere. So alpha e - beta a - r, of the swept rows, is y on F, and minus the multipliers elsewhere. An entry that
joins F or leaves it is one sweep; one that goes to its upper bound or leaves it is one row added to r.

Entries change sides in blocks, those of F and the others alike (principal pivoting; Cottle, Pang and Stone 1992): all
whose change is worth a good share of the one that is worth most. Nothing says that this comes to an end, but it nearly
always does, in a few turns. What it does not solve is left to the faces that `mean_variance` keeps.

Rows are padded with zeros to a multiple of 8, so that loops over them vectorise without a remainder, which of 20
clusters would take most of the time.
"""

from __future__ import annotations

import math

import numpy as np

from jaxalloc.kernels.scalar.compiling import inlined_sums, inner_sums
from jaxalloc.kernels.scalar.faces import EPS, FREE, FULL, ROUNDING, ZERO, Array
from jaxalloc.kernels.scalar.measuring import TOLERANCE, signature
from jaxalloc.kernels.scalar.separate import separate

FEW = 40  # clusters up to which a table of all of them costs less than faces
_LANES = 8  # numbers that a vector of AVX-512 holds

# Rows of ``vectors``
_SIGMA, _U, _A, _B, _E = 0, 1, 2, 3, 4  # the problem: volatilities, bounds; a, b and e in the variance metric
_SIDE, _GOES, _PIVOT = 5, 6, 7  # where entries are, where they go next; the diagonal of the table
_Y, _Z, _WORTH, _WEIGHT = 8, 9, 10, 11  # the point, alpha e - beta a - r, what a change is worth, weights
_KEY, _ROW, _KEEP = 12, 13, 14  # what entries are sorted by; scratch for a sweep
_VECTORS = 15
# Rows of the table past those of C, counted from the number of clusters; their products with one another
_OF_A, _OF_E, _OF_R, _ROWS = 0, 1, 2, 3
_AA, _AE, _EE, _AR, _ER, _RR, _PRODUCTS = 0, 1, 2, 3, 4, 5, 6

_LEAST_PIVOT = 1e-7  # of an entry that the others on the face all but span: a sweep would cost too many digits
_LEAST_GAP = 1e-13  # that an entry at the wrong bound may be worth
_ACCEPTED = TOLERANCE / 10  # gap that counts as solved: what took more digits is better done anew
_REST = 1e-10  # of its bound that an entry alone in F may be off: it has what the others leave, in the end to the bit
_HELD, _ROOM = 0.75, 1.2  # sum of the bounds of the first U at most, and of the first U and F at least
_SHARE = 0.25  # of what the best change is worth, for those at the same time
_BLOCKS, _TURNS = 16, 60  # turns until only one entry changes at a time; at most


@inlined_sums
def _lay_out(C: Array, sigma: Array, e: Array, u: Array, table: Array, kept: Array, vectors: Array) -> float:
    """Pad the problem. The sum of what must be finite."""
    size, width, checked = len(u), vectors.shape[1], 0.0
    for k in range(size):
        vectors[_SIGMA, k], vectors[_U, k], vectors[_E, k] = sigma[k], u[k], e[k]
    for k in range(size, width):
        vectors[_SIGMA, k], vectors[_U, k], vectors[_E, k] = 1.0, 0.0, 0.0
    for i in range(size):
        for k in range(width):
            value = C[i, k] if k < size else 0.0
            kept[i, k] = value
            table[i, k] = value
    for k in range(width):
        a = 1 / vectors[_SIGMA, k]
        checked += abs(vectors[_E, k]) + abs(vectors[_U, k]) + vectors[_SIGMA, k] + a
        e_k = vectors[_E, k] * a if vectors[_U, k] > 0 else 0.0
        vectors[_A, k] = a
        vectors[_B, k] = vectors[_U, k] * vectors[_SIGMA, k]
        vectors[_E, k] = e_k
        vectors[_SIDE, k] = ZERO
        vectors[_GOES, k] = ZERO
        vectors[_PIVOT, k] = 1.0
        table[size + _OF_A, k] = a if k < size else 0.0
        table[size + _OF_E, k] = e_k
        table[size + _OF_R, k] = 0.0
    return float(checked)


@inlined_sums
def _before(vectors: Array, i: int) -> float:
    """Sum of the bounds of the entries whose key is less than that of i."""
    key, before = vectors[_KEY, i], 0.0
    for k in range(vectors.shape[1]):
        ahead = vectors[_KEY, k] < key or (vectors[_KEY, k] == key and k < i)
        before += vectors[_U, k] if ahead else 0.0
    return before


@inlined_sums
def _begin(kept: Array, vectors: Array, size: int, sharpe: bool) -> None:
    """Entries of least covariance with the market, for a reward of most reward for it, go to U, the next ones to F."""
    for i in range(size):
        covariance = 0.0
        for k in range(vectors.shape[1]):
            covariance += kept[i, k] if vectors[_U, k] > 0 else 0.0
        if sharpe:
            vectors[_KEY, i] = -vectors[_E, i] / abs(covariance)
        else:
            vectors[_KEY, i] = covariance * vectors[_SIGMA, i]
    for i in range(size):
        if vectors[_U, i] > 0:
            before = _before(vectors, i)
            if before + vectors[_U, i] <= _HELD:
                vectors[_GOES, i] = FULL
            elif before < _ROOM:
                vectors[_GOES, i] = FREE


@inlined_sums
def _sweep(table: Array, vectors: Array, products: Array, size: int, k: int) -> None:
    """Entry k joins F, or leaves it."""
    width, pivot = vectors.shape[1], table[k, k]
    scale, sign = 1 / pivot, 1.0 if pivot > 0 else -1.0
    of_a, of_e, of_r = table[size + _OF_A, k], table[size + _OF_E, k], table[size + _OF_R, k]
    products[_AA] -= scale * of_a * of_a
    products[_AE] -= scale * of_a * of_e
    products[_EE] -= scale * of_e * of_e
    products[_AR] -= scale * of_a * of_r
    products[_ER] -= scale * of_e * of_r
    products[_RR] -= scale * of_r * of_r
    for j in range(width):
        value = table[k, j]
        vectors[_PIVOT, j] = vectors[_PIVOT, j] - scale * value * value if j != k else -scale
        vectors[_ROW, j] = value if j != k else -sign
        vectors[_KEEP, j] = 1.0 if j != k else 0.0
    for i in range(size + _ROWS):
        share = scale * table[i, k]
        for j in range(width):
            table[i, j] = table[i, j] * vectors[_KEEP, j] - share * vectors[_ROW, j]
    for j in range(width):
        table[k, j] = sign * scale * vectors[_ROW, j]


@inlined_sums
def _hold(table: Array, products: Array, size: int, k: int, y: float) -> None:
    """Entry k, not in F, is held at so much more than before."""
    products[_AR] += y * table[size + _OF_A, k]
    products[_ER] += y * table[size + _OF_E, k]
    products[_RR] += y * (2 * table[size + _OF_R, k] + y * table[k, k])
    for j in range(table.shape[1]):
        table[size + _OF_R, j] += y * table[k, j]


@inlined_sums
def _move(table: Array, vectors: Array, products: Array, size: int) -> int:
    """Entries go where they should, but for those that the others on the face span; what F has gained."""
    gained = 0
    for k in range(size):
        side, goes = vectors[_SIDE, k], vectors[_GOES, k]
        if side == goes or (goes == FREE and not vectors[_PIVOT, k] > _LEAST_PIVOT):
            continue
        for turn in range(2):  # what it leaves, and what it goes to; the table is swept in one place: less to compile
            at = side if turn == 0 else goes
            if at == FREE:
                _sweep(table, vectors, products, size, k)
                gained += 2 * turn - 1
            elif at == FULL:
                _hold(table, products, size, k, (2 * turn - 1) * vectors[_B, k])
        vectors[_SIDE, k] = goes
    return gained


@inlined_sums
def _multipliers(products: Array, sharpe: bool) -> tuple[float, float]:
    """Alpha and beta, as in `jaxalloc.kernels.scalar.faces.solve`."""
    missing = 1 - products[_AR]
    if not sharpe:
        return 0.0, missing / products[_AA]
    determinant = products[_AA] * products[_ER] + products[_AE] * missing
    alpha = (products[_AA] * products[_RR] - missing * missing) / determinant
    return alpha, (products[_AE] * products[_RR] + missing * products[_ER]) / determinant


@inlined_sums
def _price(
    table: Array, vectors: Array, size: int, alpha: float, beta: float, alone: bool
) -> tuple[float, float, float]:
    """What the change of each entry is worth, where it is more than rounding: the most. y'Cy and e'y."""
    width, total, reward, cost = vectors.shape[1], 0.0, 0.0, 0.0
    for k in range(width):
        z = alpha * table[size + _OF_E, k] - beta * table[size + _OF_A, k] - table[size + _OF_R, k]
        held = vectors[_B, k] if vectors[_SIDE, k] == FULL else 0.0
        y = z if vectors[_SIDE, k] == FREE else held
        vectors[_Z, k], vectors[_Y, k] = z, y
        total += abs(y)
        reward += vectors[_E, k] * y
        cost += held * z
    risk = alpha * reward - beta - cost
    margin, rest, least = ROUNDING * total, _REST if alone else 0.0, _LEAST_GAP * risk
    for k in range(width):
        z, b, side, pivot = vectors[_Z, k], vectors[_B, k], vectors[_SIDE, k], vectors[_PIVOT, k]
        wrong = (z - b if z - b > -z else -z) if side == FREE else -side * z
        of_free, of_others = wrong > margin + rest * b, wrong * b > least and pivot > _LEAST_PIVOT
        counts = of_free if side == FREE else of_others
        vectors[_WORTH, k] = wrong * wrong / abs(pivot) if counts else 0.0
    most = 0.0
    for k in range(size):
        most = max(most, vectors[_WORTH, k])
    return most, float(risk), float(reward)


@inner_sums
def _richest(kept: Array, vectors: Array, size: int) -> float:
    """Variance over reward of the feasible point of most reward; 0 where that is not positive.

    No point of the greatest Sharpe ratio has more variance for its reward.
    """
    width, reward, variance = vectors.shape[1], 0.0, 0.0
    for k in range(width):
        vectors[_KEY, k] = -vectors[_E, k] * vectors[_SIGMA, k]
        vectors[_Y, k] = 0.0
    for i in range(size):
        y = min(max(1 - _before(vectors, i), 0.0), vectors[_U, i]) * vectors[_SIGMA, i]
        vectors[_Y, i] = y
        reward += vectors[_E, i] * y
    if not reward > 0:
        return 0.0
    for i in range(size):
        slope = 0.0
        for k in range(width):
            slope += kept[i, k] * vectors[_Y, k]
        variance += slope * vectors[_Y, i]
    return float(variance / reward)


@inner_sums
def _refill(table: Array, vectors: Array, products: Array, size: int, alpha: float) -> None:
    """With F empty: the entry that is best to change shall join it."""
    over, chosen, best = products[_AR] > 1 - 1e-12, -1, -math.inf
    for k in range(size):
        if (vectors[_SIDE, k] == FULL) if over else (vectors[_SIDE, k] == ZERO and vectors[_U, k] > 0):
            cost = (table[size + _OF_R, k] - alpha * vectors[_E, k]) * vectors[_SIGMA, k]
            value = cost if over else -cost
            if value > best:
                chosen, best = k, value
    if chosen >= 0:
        vectors[_GOES, chosen] = FREE


@inner_sums
def _pivot(
    table: Array, kept: Array, vectors: Array, products: Array, size: int, sharpe: bool
) -> tuple[int, bool, bool]:
    """Change sides until nothing is gained: how many faces were solved, whether it came to an end, and ``sharpe``.

    The latter becomes False where no feasible point has a positive reward. A face without a point of positive reward
    and the greatest Sharpe ratio is solved for a given alpha: that of the richest point, and where nothing is gained
    any more, that of the point so found (Dinkelbach 1967).
    """
    free, ratio = 0, 0.0
    for turn in range(_TURNS):
        free += _move(table, vectors, products, size)
        if free == 0:
            _refill(table, vectors, products, size, ratio)
            continue
        alpha, beta = _multipliers(products, sharpe)
        best = not sharpe or 0 < alpha < math.inf
        if not best:
            if ratio == 0:
                ratio = _richest(kept, vectors, size)
                sharpe = ratio > 0
            alpha = ratio
            beta = (1 - products[_AR] + alpha * products[_AE]) / products[_AA]
        if not abs(beta) < math.inf:
            return turn + 1, False, sharpe
        most, risk, reward = _price(table, vectors, size, alpha, beta, free == 1)
        if not most > 0:
            if best or not sharpe or abs(risk - ratio * reward) <= 8 * EPS * risk:
                return turn + 1, True, sharpe
            if not reward > 0:
                return turn + 1, False, sharpe
            ratio = risk / reward
            continue
        least = most * (_SHARE if turn < _BLOCKS else 1.0)
        for k in range(vectors.shape[1]):
            side = vectors[_SIDE, k]
            bound = ZERO if vectors[_Z, k] < 0 else FULL
            goes = bound if side == FREE else FREE
            vectors[_GOES, k] = goes if vectors[_WORTH, k] >= least else side
    return _TURNS, False, sharpe


@inner_sums
def _weigh(vectors: Array, size: int) -> None:
    """As `jaxalloc.kernels.scalar.measuring.weigh`, but what rounding alone keeps from a bound is there."""
    width, largest, between = vectors.shape[1], 0.0, 0
    for k in range(size):
        largest = max(largest, vectors[_Y, k])
    negligible = ROUNDING * largest
    for k in range(width):
        y = vectors[_Y, k]
        between += 1 if y > negligible and y < vectors[_B, k] else 0
    least = negligible if between > 0 else 0.0
    for k in range(width):
        y, u = vectors[_Y, k], vectors[_U, k]
        w = vectors[_A, k] * y
        w = u if y >= vectors[_B, k] or w > u else w
        vectors[_WEIGHT, k] = w if y > least else 0.0
    for _ in range(2):
        fixed, moving = 0.0, 0.0
        for k in range(width):
            w = vectors[_WEIGHT, k]
            inside = w > 0 and w < vectors[_U, k]
            moving += w if inside else 0.0
            fixed += 0.0 if inside else w
        scale = max((1 - fixed) / moving, 0.0) if moving > 0 else 1.0
        for k in range(width):
            w, u = vectors[_WEIGHT, k], vectors[_U, k]
            scaled, rounding = w * scale, ROUNDING * u
            scaled = u if scaled > u - rounding else scaled
            vectors[_WEIGHT, k] = (scaled if scaled > rounding else 0.0) if w > 0 and w < u else w


@inner_sums
def _measure(kept: Array, vectors: Array, size: int, sharpe: bool) -> tuple[float, bool]:
    """As `jaxalloc.kernels.scalar.measuring.measure`, but for gaps above their rounding floor alone."""
    width, total, simple, reward, variance = vectors.shape[1], 0.0, 0.0, 0.0, 0.0
    for k in range(width):
        y = vectors[_WEIGHT, k] * vectors[_SIGMA, k]
        vectors[_Y, k] = y
        total += vectors[_WEIGHT, k]
        simple += y
        reward += vectors[_E, k] * y
    for i in range(size):
        slope = 0.0
        for k in range(width):
            slope += kept[i, k] * vectors[_Y, k]
        vectors[_Z, i] = slope
        variance += vectors[_Y, i] * slope
    ratio = variance / reward if sharpe else 0.0
    for k in range(width):
        vectors[_KEY, k] = (vectors[_Z, k] - ratio * vectors[_E, k]) * vectors[_SIGMA, k]
    nu, highest = math.inf, -math.inf
    for i in range(size):
        if vectors[_U, i] > 0:
            key = vectors[_KEY, i]
            if _before(vectors, i) + vectors[_U, i] >= 1:
                nu = min(nu, key)
            highest = max(highest, key)
    nu, slack = min(nu, highest), 0.0
    for k in range(width):
        over, w = vectors[_KEY, k] - nu, vectors[_WEIGHT, k]
        slack += over * w if over > 0 else -over * (vectors[_U, k] - w)
    gap = float(slack / variance)
    right = abs(total - 1) <= 8 * EPS and (reward > 0 or not sharpe) and variance > 4 * EPS * simple * simple
    return gap, bool(right and gap <= _ACCEPTED)


@separate(signature, sums=True)
def solve_few(C: Array, sigma: Array, e: Array, u: Array, weights: Array) -> tuple[float, int, bool, bool]:
    """`jaxalloc.kernels.scalar.mean_variance.by_faces` for few clusters, where these pivots solve the problem.

    Arguments and results are the same; ``weights``, and whether there is a reward, mean nothing where it is not solved.
    """
    size = len(u)
    width = (size + _LANES - 1) // _LANES * _LANES
    room = np.empty((2 * size + _ROWS + _VECTORS, width))
    table, kept, vectors = room[: size + _ROWS], room[size + _ROWS : 2 * size + _ROWS], room[2 * size + _ROWS :]
    products = np.zeros(_PRODUCTS)
    if not _lay_out(C, sigma, e, u, table, kept, vectors) < math.inf:
        return math.inf, 0, False, False
    most = 0.0
    for k in range(size):
        most = max(most, vectors[_E, k])
    sharpe = bool(most > 0)
    _begin(kept, vectors, size, sharpe)
    faces, ended, sharpe = _pivot(table, kept, vectors, products, size, sharpe)
    if not ended:
        return math.inf, faces, not sharpe, False
    _weigh(vectors, size)
    gap, solved = _measure(kept, vectors, size, sharpe)
    for k in range(size):
        weights[k] = vectors[_WEIGHT, k]
    return gap, faces, not sharpe, solved
