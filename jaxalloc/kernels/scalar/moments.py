"""Moments and scores of universes of a shared panel, one after the other, compiled by numba.

What `jaxalloc.kernels.moments.panel`, `jaxalloc.kernels.moments.tails` and `jaxalloc.portfolios.estimates` do in lanes,
with the same definitions, but from the rows that a universe holds: a bootstrap resample holds two thirds of its panel's
rows, and a window of a year a tenth of ten years'. No table of outer products is needed.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from jaxalloc.kernels.moments.tails import TAIL_QUANTILE
from jaxalloc.kernels.scalar.compiling import inner, inner_sums, scalar
from jaxalloc.kernels.scalar.vectors import LEFT, RIGHT, add_products, lanes, take_rows, trailing_zeros

Array = np.ndarray

_ROWS = 256  # of the panel that are copied side by side, and multiplied together
_NEAR = 32  # groups of columns that the near cache holds, 16 KiB each; an even number
_SQUARE = 16  # of a matrix
# times as long a panel is as a piece of it, whose largest returns are found by looking for its rows, 64 at once
_NARROW = 4
# Indices without a sign spare the compiler the case of those that count from the end, in which it does not vectorise.
_0, _1, _WORD = np.uint64(0), np.uint64(1), np.uint64(64)


class Panel(NamedTuple):
    """What universes have in common, in float32 or float64; see `jaxalloc.kernels.moments.panel.SharedPanel`.

    Attributes:
        centred: (G, T, L) its columns in groups, see `jaxalloc.kernels.moments.panel.in_groups`.
        centre: (A,).
        inverse_scale: (A,).
        missing: (T, A), or (0, A) where no return is missing.
        returns: (T, A).
        order: (A, T) int32.
        descending: (A, T).
        most_repeated: whole number.
    """

    centred: Any
    centre: Any
    inverse_scale: Any
    missing: Any
    returns: Any
    order: Any
    descending: Any
    most_repeated: int


class Observed(NamedTuple):
    """Estimates of U universes, padded to A assets, written here; see `jaxalloc.portfolios.estimates.Estimates`.

    Attributes:
        mean: (U, A).
        covariance: (U, A, A), the lower triangle.
        active: (U, A) bool.
        antifragility: (U, A).
        dropped: (U,) bool.
        valid: (U,) bool.
    """

    mean: Any
    covariance: Any
    active: Any
    antifragility: Any
    dropped: Any
    valid: Any


@inner_sums
def _in_use(c: Array, rows: Array, weights: Array) -> tuple[int, float, bool]:
    """Which rows hold a weight, and their weights, in place; how many they are, their sum, and whether all is well."""
    wrong, used, n = 0, 0, 0.0
    for t in range(len(c)):
        wrong += not 0 <= c[t] < np.inf
        n += np.float64(c[t])
    if wrong > 0:
        return 0, 0.0, False
    for t in range(len(c)):
        rows[used], weights[0, used] = t, c[t]
        used += c[t] > 0
    return used, n, n >= 2


@inner_sums
def _take_roots(weights: Array, used: int) -> None:
    for r in range(used):
        weights[1, r] = math.sqrt(weights[0, r])


@inner
def _decay(rows: Array, weights: Array, used: int, decay: float) -> bool:
    """Make of the weights c lambda^age, rescaled to their sum, in place; whether one row has nearly all of it."""
    total, plain, largest = 0.0, 0.0, 0.0
    for r in range(used):
        plain += weights[0, r]
        weights[0, r] *= decay ** (rows[used - 1] - rows[r])
        total += weights[0, r]
        largest = max(largest, weights[0, r])
    for r in range(used):
        weights[0, r] *= plain / total
    return total - largest <= 16 * 2.0**-52 * total


class _Sums(NamedTuple):
    """Sums of a universe's rows, in groups of L columns; what is past the last column is 0.

    Attributes:
        powers: (3, L G) float64 sums of c x, c (scale x)^2 and c (scale x)^3.
        scale: (L G,) of the columns.
        means: (L (G + `RIGHT` - 1),) of what the covariances are of.
        keep: likewise 1 for an active asset.
        stage: (2,) bool, see `add_products`.
        scaling: (2,) n and the factor, likewise.
        rest: (B, `LEFT`, `RIGHT` L), likewise.
    """

    powers: Any
    scale: Any
    means: Any
    keep: Any
    stage: Any
    scaling: Any
    rest: Any


@inner
def _add_powers(panel: Panel, rows: Array, weights: Array, begin: int, count: int, sums: _Sums, z: Array) -> None:
    """Take so many of the rows in use from number ``begin`` on; with the first ones the sums begin anew."""
    for g in range(len(panel.centred)):
        if begin == 0:
            for power in range(3):
                for i in range(g * z.shape[2], (g + 1) * z.shape[2]):
                    sums.powers[power, i] = 0
        take_rows(panel.centred, g, rows, weights, begin, count, sums.scale, sums.powers, z)


@inner
def _covariance(
    panel: Panel, rows: Array, weights: Array, used: int, n_assets: int, sums: _Sums, z: Array, covariance: Array
) -> None:
    """Sums of the powers of the columns, and their covariances, the lower triangle in place."""
    n_blocks, per_group = -(-n_assets // LEFT), z.shape[2] // LEFT
    for begin in range(0, used, _ROWS):
        count = min(_ROWS, used - begin)
        _add_powers(panel, rows, weights, begin, count, sums, z)
        sums.stage[0], sums.stage[1] = begin > 0, begin + _ROWS >= used
        for i in range(n_assets):
            sums.means[i] = sums.powers[0, i] / sums.scaling[0]
        for near in range(0, len(panel.centred), _NEAR):
            for block in range(near * per_group, n_blocks):
                for group in range(near, min(near + _NEAR, block // per_group + 1), RIGHT):
                    add_products(
                        z,
                        block,
                        group,
                        count,
                        sums.stage,
                        sums.scaling,
                        sums.means,
                        sums.keep,
                        n_assets,
                        covariance,
                        sums.rest,
                    )
    for i in range(n_assets):  # what is in the diagonal's groups
        first = i // z.shape[2] * z.shape[2]
        skipped = first // z.shape[2] % RIGHT * z.shape[2]
        for j in range(first, i + 1):
            covariance[i, j] = sums.rest[i // LEFT, i % LEFT, skipped + j - first]


@scalar
def mirror(covariances: Array, count: int) -> None:
    """Copy the lower triangles of the first ``count`` of (U, A, A) matrices to the upper ones."""
    n = covariances.shape[1]
    for b in range(count):
        out = covariances[b]
        for above in range(0, n, _SQUARE):  # in squares that the near cache holds
            for left in range(0, above + 1, _SQUARE):
                for j in range(left, min(left + _SQUARE, n)):
                    for i in range(max(above, j + 1), min(above + _SQUARE, n)):
                        out[j, i] = out[i, j]


@inner_sums
def _largest(order: Array, descending: Array, i: int, weights: Array, wanted: float, held: Array) -> int:
    """Put asset i's largest returns into the room until they weigh enough; how many a universe holds of them."""
    weight, r, n = 0.0, 0, 0
    while weight < wanted and r < order.shape[1]:  # no branch within: which rows are held cannot be foreseen
        c = np.float64(weights[order[i, r]])
        held[0, n], held[1, n], held[2, n] = descending[i, r], c, weight
        n += c > 0
        weight += c
        r += 1
    return n


@inner_sums
def _largest_between(
    order: Array, descending: Array, i: int, first: int, last: int, weights: Array, wanted: float, held: Array
) -> int:
    """`_largest` for a universe that holds no row before ``first`` or after ``last``: few of the panel's largest.

    64 of them are looked through at once, a bit each of a word; there are as many at least.
    """
    weight, n, begin, end = 0.0, 0, _0, np.uint64(order.shape[1])
    lowest, highest = np.int32(first), np.int32(last)
    while weight < wanted and begin < end:
        start, within = min(begin, end - _WORD), _0  # always whole words: the last one goes over some once more
        for j in range(_WORD):
            row = order[i, start + j]
            within |= np.uint64((row >= lowest) & (row <= highest)) << j
        within >>= begin - start
        while within != _0 and weight < wanted:
            r = np.int64(begin) + trailing_zeros(within)
            within &= within - _1
            c = np.float64(weights[order[i, r]])
            held[0, n], held[1, n], held[2, n] = descending[i, r], c, weight
            n += c > 0
            weight += c
        begin += _WORD
    return n


@inner_sums
def _tail_gain(
    order: Array, descending: Array, i: int, first: int, last: int, weights: Array, count: float, held: Array
) -> float:
    """Mean of asset i's returns strictly above the 95 % quantile, 0 if there is none: from the largest down.

    ``held`` (3, T + 1) is room for values that the universe holds, their weights, and the weight before each.
    """
    h = TAIL_QUANTILE * max(count - 1, 0.0)
    k = math.floor(h)
    wanted, n_rows = count - k, order.shape[1]
    if n_rows >= _WORD and _NARROW * (last - first) < n_rows:
        n = _largest_between(order, descending, i, first, last, weights, wanted, held)
    else:
        n = _largest(order, descending, i, weights, wanted, held)
    low, place = held[0, n - 1], n - 1
    while place > 0 and held[2, place] >= wanted - 1:
        place -= 1
    quantile = low + (h - k) * (held[0, place] - low)
    while n > 0 and held[0, n - 1] <= quantile:
        n -= 1
    weight, total = 0.0, 0.0
    for place in range(n):
        weight += held[1, place]
        total += held[1, place] * held[0, place]
    return total / weight if weight > 0 else 0.0


@inner
def _add_minmax(values: Array, active: Array, scores: Array) -> None:
    """Add (z - min) / (max - min) over the active assets, exactly 0 and 1 at the ends; nothing where max = min."""
    lowest, highest = -1, -1
    for i in range(len(values)):
        if active[i]:
            if lowest < 0 or values[i] < values[lowest]:
                lowest = i
            if highest < 0 or values[i] > values[highest]:
                highest = i
    if highest < 0 or not values[highest] > values[lowest]:
        return
    spread = values[highest] - values[lowest]
    for i in range(len(values)):
        if active[i]:
            scores[i] += 1.0 if i == highest else min(max((values[i] - values[lowest]) / spread, 0.0), 1.0)


@inner
def _is_constant(returns: Array, rows: Array, used: int, column: int) -> bool:
    """Whether a column holds one value in the rows in use."""
    r = 1
    while r < used and returns[rows[r], column] == returns[rows[0], column]:
        r += 1
    return r >= used


@inner
def _give_up(made: Observed, b: int) -> None:
    """An invalid universe: a trivial covariance, so that nothing later meets what is no number."""
    size = made.active.shape[1]
    made.valid[b] = False
    for i in range(size):
        made.mean[b, i], made.antifragility[b, i], made.active[b, i] = 0, 0, True
        for j in range(size):
            made.covariance[b, i, j] = i == j


@scalar
def observe(
    panel: Panel,
    weights: Array,
    masks: Array,
    periods: Array,
    decay: Array,
    decays: bool,
    least: float,
    most: float,
    count: int,
    n_assets: int,
    z: Array,
    made: Observed,
) -> None:
    """Observe the first ``count`` universes of a shared panel.

    Args:
        panel: T rows, A assets.
        weights: (U, T) observation weights; what is not finite, or negative, makes a universe invalid.
        masks: (U, A) bool, assets.
        periods: (U,) float64, observations a year.
        decay: (U,) float64, lambda of mean and covariance.
        decays: whether it counts.
        least: variance below which nothing can be computed.
        most: likewise above.
        count: how many universes.
        n_assets: N, those that are no padding.
        z: (G + `RIGHT` - 1, 256, L) in the panel's precision, room for rows.
        made: written; entries past N are 0 or False.
    """
    n_rows, size = panel.returns.shape[0], made.active.shape[1]
    rows, weights_used = np.empty(n_rows + 1, np.intp), np.empty((2, n_rows + 1))
    columns = len(panel.centred) * z.shape[2]
    sums = _Sums(
        powers=np.empty((3, columns)),
        scale=np.zeros(columns),
        means=np.zeros(columns + (RIGHT - 1) * z.shape[2]),
        keep=np.zeros(columns + (RIGHT - 1) * z.shape[2]),
        stage=np.empty(2, np.bool_),
        scaling=np.empty(2),
        rest=np.empty((columns // LEFT, LEFT, RIGHT * z.shape[2]), z.dtype),
    )
    for i in range(n_assets):
        sums.scale[i] = panel.inverse_scale[i]
    own, held = np.empty((3, columns)), np.empty((3, n_rows + 1))
    skewness, gains = np.empty(n_assets), np.empty(n_assets)
    for b in range(count):
        c, mask, active, covariance = weights[b, :n_rows], masks[b], made.active[b], made.covariance[b]
        used, n, good = _in_use(c, rows, weights_used)
        if good and len(panel.missing):
            for r in range(used):
                for i in range(n_assets):
                    if panel.missing[rows[r], i] > 0 and mask[i]:
                        good = False
        made.dropped[b] = False
        doubtful, there = used <= panel.most_repeated, False
        for i in range(size):
            active[i] = i < n_assets and mask[i]
            if good and active[i] and doubtful and _is_constant(panel.returns, rows, used, i):
                active[i], made.dropped[b] = False, True
            there = there or active[i]
        if not (good and there):
            _give_up(made, b)
            continue
        for i in range(n_assets):
            sums.keep[i] = active[i]
        sums.scaling[0], sums.scaling[1] = n, periods[b] / (n - 1)
        powers = sums.powers
        if decays:  # the third moments are those of the weights as they are
            for begin in range(0, used, _ROWS):
                _add_powers(panel, rows, weights_used, begin, min(_ROWS, used - begin), sums, z)
            for power in range(3):
                for i in range(n_assets):
                    own[power, i] = sums.powers[power, i]
            good, powers = not _decay(rows, weights_used, used, decay[b]), own
        _take_roots(weights_used, used)
        _covariance(panel, rows, weights_used, used, n_assets, sums, z, covariance)
        for i in range(n_assets):
            made.antifragility[b, i] = skewness[i] = gains[i] = 0
            made.mean[b, i] = periods[b] * (sums.means[i] + panel.centre[i]) if active[i] else 0.0
            if not active[i]:
                continue
            centre, square = powers[0, i] / n * panel.inverse_scale[i], powers[1, i] / n
            variance, cube = square - centre * centre, powers[2, i] / n - 3 * centre * square + 2 * centre**3
            annual = np.float64(covariance[i, i])
            good = good and np.isfinite(cube) and least <= annual / periods[b] <= most and least <= annual <= most
            if n >= 3 and variance > 0:
                skewness[i] = math.sqrt(n * (n - 1)) / (n - 2) * cube / (variance * math.sqrt(variance))
            gains[i] = _tail_gain(panel.order, panel.descending, i, rows[0], rows[used - 1], c, n, held)
        for i in range(n_assets, size):
            made.mean[b, i] = made.antifragility[b, i] = 0
            for j in range(i + 1):
                covariance[i, j] = 0
        made.valid[b] = good
        if not good:
            _give_up(made, b)
            continue
        _add_minmax(skewness, active, made.antifragility[b])
        _add_minmax(gains, active, made.antifragility[b])


def room(n_assets: int, dtype: Any) -> tuple[int, int, int]:
    """The shape of the room that `observe` wants for rows of so many assets."""
    return -(-n_assets // lanes(dtype)) + RIGHT - 1, _ROWS, lanes(dtype)
