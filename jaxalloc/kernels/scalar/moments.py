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
from jaxalloc.kernels.scalar.compiling import inner, inner_sums, making, scalar

Array = np.ndarray

_ROWS = 3  # of the panel whose products are added together: with four assets they fill the registers
_ASSETS = 4
ROWS = 240  # that are copied side by side, a multiple of `_ROWS`
_SQUARE = 16  # of a matrix


class Panel(NamedTuple):
    """What universes have in common, in float32 or float64; see `jaxalloc.kernels.moments.panel.SharedPanel`.

    Attributes:
        centred: (T, A).
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


@making
def _decayed(weights: Array, rows: Array, decay: float) -> tuple[Array, bool]:
    """Weights c lambda^age of the rows in use, rescaled to their sum; and whether one row has nearly all of it."""
    recent, total, plain, largest = np.empty(len(rows)), 0.0, 0.0, 0.0
    for r in range(len(rows)):
        c = np.float64(weights[rows[r]])
        recent[r] = c * decay ** (rows[-1] - rows[r])
        total += recent[r]
        plain += c
        largest = max(largest, recent[r])
    alone = total - largest <= 16 * 2.0**-52 * total
    for r in range(len(rows)):
        recent[r] *= plain / total
    return recent, alone


class _Scaling(NamedTuple):
    """How sums of products become covariances.

    Attributes:
        first: (N,) means of what the products are of.
        keep: (N,) bool, whether an asset is active.
        count: the sum of the weights.
        factor: what covariances are multiplied by.
    """

    first: Any
    keep: Any
    count: float
    factor: float


@inner_sums
def _to_covariances(line: Array, scaling: _Scaling, k: int) -> None:
    """From sums of products to covariances of asset k, in place; 0 of an inactive asset."""
    first, keep = scaling.first, scaling.keep
    shift, factor = scaling.count * first[k], scaling.factor if keep[k] else 0.0
    for j in range(k + 1):
        value = factor * (line[j] - shift * first[j])
        line[j] = value if keep[j] else 0.0


@inner_sums
def _add_products(z: Array, n_rows: int, is_first: bool, is_last: bool, scaling: _Scaling, out: Array) -> None:
    """Add z'z of some rows to the lower triangle: three of the panel's rows at a time to the rows of four assets.

    The last time each of the four is scaled to covariances, while it is in the near cache.
    """
    for i in range(0, len(scaling.first), _ASSETS):
        size = i + _ASSETS
        out0, out1, out2, out3 = out[i, :size], out[i + 1, :size], out[i + 2, :size], out[i + 3, :size]
        if is_first:
            for j in range(size):
                out0[j] = out1[j] = out2[j] = out3[j] = 0
        for t in range(0, n_rows, _ROWS):
            z0, z1, z2 = z[t, :size], z[t + 1, :size], z[t + 2, :size]
            a0, a1, a2 = z0[i], z1[i], z2[i]
            b0, b1, b2 = z0[i + 1], z1[i + 1], z2[i + 1]
            c0, c1, c2 = z0[i + 2], z1[i + 2], z2[i + 2]
            d0, d1, d2 = z0[i + 3], z1[i + 3], z2[i + 3]
            for j in range(size):
                x, y, w = z0[j], z1[j], z2[j]
                out0[j] += a0 * x + a1 * y + a2 * w
                out1[j] += b0 * x + b1 * y + b2 * w
                out2[j] += c0 * x + c1 * y + c2 * w
                out3[j] += d0 * x + d1 * y + d2 * w
        if is_last:
            for k in range(i, size):
                _to_covariances(out[k], scaling, k)


@inner_sums
def _copy_rows(centred: Array, rows: Array, weights: Array, begin: int, count: int, z: Array) -> None:
    """Copy some of the rows in use, each times the root of its weight, and rows of 0 up to a multiple of three."""
    n = z.shape[1]
    for r in range(-(-count // _ROWS) * _ROWS):
        into = z[r]
        if r < count:
            root, source = math.sqrt(weights[begin + r]), centred[rows[begin + r]]
            for j in range(n):
                into[j] = root * source[j]
        else:
            for j in range(n):
                into[j] = 0


@inner
def _covariance(centred: Array, rows: Array, weights: Array, scaling: _Scaling, z: Array, out: Array) -> None:
    """Covariances of the rows in use, the lower triangle in place; ``z`` is room for some of them."""
    for begin in range(0, len(rows), ROWS):
        size = min(ROWS, len(rows) - begin)
        _copy_rows(centred, rows, weights, begin, size, z)
        is_last = begin + ROWS >= len(rows)
        _add_products(z, -(-size // _ROWS) * _ROWS, begin == 0, is_last, scaling, out)


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
def _first_and_third(
    centred: Array, rows: Array, weights: Array, scale: Array, first: Array, second: Array, third: Array
) -> None:
    """Sums of c z, c (scale z)^2 and c (scale z)^3 over the rows in use, (N,) float64, in place."""
    for j in range(len(first)):
        first[j] = second[j] = third[j] = 0
    for r in range(len(rows)):
        c, line = weights[r], centred[rows[r]]
        for j in range(len(first)):
            value = np.float64(line[j])
            scaled = value * scale[j]
            square = c * scaled * scaled
            first[j] += c * value
            second[j] += square
            third[j] += square * scaled


@inner
def _tail_gain(order: Array, descending: Array, weights: Array, count: float) -> float:
    """Mean of the returns strictly above the 95 % quantile, 0 if there is none: from the largest down."""
    h = TAIL_QUANTILE * max(count - 1, 0.0)
    k = math.floor(h)
    above, r, n_rows = 0.0, 0, len(order)
    low = high = np.float64(descending[0])
    while above < count - k and r < n_rows:
        c = np.float64(weights[order[r]])
        if c > 0:
            low = np.float64(descending[r])
            if above < count - k - 1:
                high = low
            above += c
        r += 1
    quantile = low + (h - k) * (high - low)
    weight, total = 0.0, 0.0
    for place in range(r):
        value = np.float64(descending[place])
        if not value > quantile:
            break
        c = np.float64(weights[order[place]])
        if c > 0:
            weight += c
            total += c * value
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
def _is_constant(returns: Array, rows: Array, column: int) -> bool:
    """Whether a column holds one value in the rows in use."""
    same = True
    for row in rows:
        same = same and returns[row, column] == returns[rows[0], column]
    return same


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
    scratch: Array,
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
        scratch: (240, A) in the panel's precision, for rows.
        made: written; entries past N are 0 or False.
    """
    n_rows, size = panel.centred.shape[0], made.active.shape[1]
    whole = -(-n_assets // _ASSETS) * _ASSETS  # A is a multiple, too
    first, second, third = np.empty(n_assets), np.empty(n_assets), np.empty(n_assets)
    recent_first, keep = np.zeros(whole), np.zeros(whole, np.bool_)
    skewness, gains, idle = np.empty(n_assets), np.empty(n_assets), np.empty(n_assets)
    for b in range(count):
        c, mask, active, covariance = weights[b], masks[b], made.active[b], made.covariance[b]
        good, n, n_used = True, 0.0, 0
        for t in range(n_rows):
            good = good and c[t] >= 0 and np.isfinite(c[t])
            n_used += c[t] > 0
        rows = np.empty(n_used if good else 0, np.intp)
        own = np.empty(len(rows))
        place = 0
        for t in range(n_rows):
            if good and c[t] > 0:
                rows[place], own[place] = t, c[t]
                place += 1
                n += c[t]
        good = good and n >= 2
        if good and len(panel.missing):
            for row in rows:
                for i in range(n_assets):
                    if panel.missing[row, i] > 0 and mask[i]:
                        good = False
        made.dropped[b] = False
        doubtful, there = n_used <= panel.most_repeated, False
        for i in range(size):
            active[i] = i < n_assets and mask[i]
            if good and active[i] and doubtful and _is_constant(panel.returns, rows, i):
                active[i], made.dropped[b] = False, True
            there = there or active[i]
        if not (good and there):
            _give_up(made, b)
            continue
        _first_and_third(panel.centred, rows, own, panel.inverse_scale, first, second, third)
        recent = own
        if decays:
            recent, alone = _decayed(c, rows, decay[b])
            good = good and not alone
            _first_and_third(panel.centred, rows, recent, panel.inverse_scale, recent_first[:n_assets], idle, gains)
        else:
            for i in range(n_assets):
                recent_first[i] = first[i]
        for i in range(n_assets):
            first[i] /= n
            recent_first[i] /= n
            keep[i] = active[i]
        scaling = _Scaling(first=recent_first, keep=keep, count=n, factor=periods[b] / (n - 1))
        _covariance(panel.centred, rows, recent, scaling, scratch, covariance)
        for i in range(n_assets):
            made.antifragility[b, i] = skewness[i] = gains[i] = 0
            made.mean[b, i] = periods[b] * (recent_first[i] + panel.centre[i]) if active[i] else 0.0
            if not active[i]:
                continue
            centre, square = first[i] * panel.inverse_scale[i], second[i] / n
            variance, cube = square - centre * centre, third[i] / n - 3 * centre * square + 2 * centre**3
            annual = np.float64(covariance[i, i])
            good = good and np.isfinite(cube) and least <= annual / periods[b] <= most and least <= annual <= most
            if n >= 3 and variance > 0:
                skewness[i] = math.sqrt(n * (n - 1)) / (n - 2) * cube / (variance * math.sqrt(variance))
            gains[i] = _tail_gain(panel.order[i], panel.descending[i], c, n)
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
