"""Frequency-weighted moments of one universe, from its own returns or from a panel that many universes share."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxalloc.kernels.lanes.elimination import dot


class Moments(NamedTuple):
    """Moments of one universe, per period. Entries of an inactive asset are 0.

    Attributes:
        count: () n, the sum of the observation weights.
        mean: (N,) weighted mean; of decayed weights where a decay was given.
        covariance: (N, N) weighted covariance with divisor n - 1; likewise.
        plain_mean: (N,) mean of the observation weights themselves, whatever the decay.
        plain_variance: (N,) variance of those, divisor n - 1.
        third: (N,) mean cubed deviation of those from ``plain_mean``, divisor n.
        active: (N,) bool, the assets that take part.
        dropped: () bool, an asset of the mask left because its returns are all equal.
        valid: () bool, False where the universe has no moments (see `Status.INVALID`).
    """

    count: Array
    mean: Array
    covariance: Array
    plain_mean: Array
    plain_variance: Array
    third: Array
    active: Array
    dropped: Array
    valid: Array


class SharedPanel(NamedTuple):
    """What universes that share one panel have in common, computed once.

    Attributes:
        centred: (T, N) returns minus ``centre``; 0 where missing.
        centre: (N,) the median of each column. Sums of squares are taken about it; unlike the mean it cannot be
            dragged so far by one wild row that a universe without that row loses its digits.
        cubed: (T, N) their cubes.
        missing: (T, N) 1.0 where a return is not finite, or too large to compute with, else 0.
        outer: (T, N (N + 1) / 2) products of the centred columns, upper triangle by rows; or (T, 0) where that table
            would not fit its memory budget, and the covariance is then computed from ``centred``.
        returns: (T, N) the returns themselves; 0 where missing.
        order: (T, N) int32, rows of each column from the largest value to the smallest.
        descending: (T, N) the values in that order.
        most_repeated: () int32, how many rows of a column hold one and the same value, at most.
    """

    centred: Array
    centre: Array
    cubed: Array
    missing: Array
    outer: Array
    returns: Array
    order: Array
    descending: Array
    most_repeated: Array


class Shock(NamedTuple):
    """What changes in the moments of a stressed universe. Volatility 1, correlation 0 and mean 0 change no bit.

    It stands for an affine change of each asset's returns, x' = m + v (x - m) + s / periods per year with m the mean
    per period, and for a move of all correlations at once. Skewness has no unit and stays as it is.

    Attributes:
        volatility: (N,) factor on each asset's volatility, greater than 0.
        correlation: () c in [-1, 1]. Above 0 every correlation moves the fraction c of the way to 1, to
            (1 - c) R + c 11'; below 0 the fraction -c of the way to 0, to (1 + c) R - c I. Both are convex combinations
            of correlation matrices, so that R stays positive semidefinite.
        mean: (N,) added to each asset's annual mean return.
    """

    volatility: Array
    correlation: Array
    mean: Array


def sample_moments(returns: Array, weights: Array, mask: Array, decay: Array | None = None) -> Moments:
    """Moments of one universe from its own returns, in two passes (mean, then deviations from it).

    mean = sum c x / n and covariance = sum c (x - mean)(x - mean)' / (n - 1), with n = sum c: the weights are
    frequencies, so that counts give what the rows repeated count times give.

    Args:
        returns: (T, N) simple returns per period. Never read where the mask is False or the weight is 0.
        weights: (T,) observation weights c, at least 0.
        mask: (N,) bool, the assets of the universe.
        decay: () lambda in (0, 1] of `decayed_weights`, which then make the mean and the covariance; or None.

    Returns:
        `Moments`; ``valid`` is False where a return in use is not finite, a weight is negative or not finite, n < 2,
        no asset is left, or the decay leaves a single row.
    """
    c, weights_ok = _clean_weights(weights)
    used = c > 0
    read = used[:, None] & mask[None, :]
    missing = jnp.any(read & ~jnp.isfinite(returns))
    x = jnp.where(read & jnp.isfinite(returns), returns, 0)
    n = jnp.sum(c)
    constant = _constant(x, used)
    active = mask & ~constant
    inside = used[:, None] & active[None, :]

    def centre(c: Array) -> tuple[Array, Array]:
        mean = jnp.where(active, dot(c, x) / _positive(n), 0)
        return mean, jnp.where(inside, x - mean[None, :], 0)

    def spread(c: Array, deviation: Array) -> Array:
        weighted = c[:, None] * deviation
        covariance = dot(weighted.T, deviation) / _positive(n - 1)
        return (covariance + covariance.T) / 2  # a product of two matrices is symmetric up to rounding only

    plain_mean, deviation = centre(c)
    third = dot(c, deviation**3) / _positive(n)
    if decay is None:
        mean, covariance = plain_mean, spread(c, deviation)
        plain_variance = jnp.diagonal(covariance)
    else:
        recent = decayed_weights(c, decay)
        mean, recent_deviation = centre(recent)
        covariance = spread(recent, recent_deviation)
        plain_variance = dot(c, deviation**2) / _positive(n - 1)
        weights_ok = weights_ok & ~_one_row(recent)
    valid = weights_ok & ~missing & (n >= 2) & jnp.any(active)
    dropped = jnp.any(mask & ~active)
    return _finish(Moments(n, mean, covariance, plain_mean, plain_variance, third, active, dropped, valid))


def decayed_weights(weights: Array, decay: Array) -> Array:
    """Weights c lambda^age, rescaled to the sum of c; RiskMetrics' for a plain sample (J.P. Morgan/Reuters 1996).

    The age of row t is T - 1 - t. Since the scale is free it is counted from the last row in use instead, so that the
    powers of a window far from the panel's end do not all underflow.

    Args:
        weights: (T,) observation weights c, at least 0.
        decay: () lambda, in (0, 1].

    Returns:
        (T,) weights.
    """
    row = jnp.arange(weights.shape[0], dtype=jnp.int32)
    last = jnp.max(jnp.where(weights > 0, row, 0))
    age = jnp.maximum(last - row, 0).astype(weights.dtype)  # a row past the last has weight 0
    decayed = weights * decay**age
    return decayed * (jnp.sum(weights) / _positive(jnp.sum(decayed)))


def share_panel(returns: Array, max_outer_bytes: int) -> SharedPanel:
    """Compute once what every universe of a shared panel needs.

    Args:
        returns: (T, N) simple returns per period; NaN where missing.
        max_outer_bytes: memory that the table of outer products may take.

    Returns:
        `SharedPanel`.
    """
    n_rows, n_assets = returns.shape
    # A finite return whose cube overflows would spoil the universes that do not even use it, as 0 times infinity is
    # NaN; in those that do it makes the moments infinite, which is as bad as missing.
    finite = jnp.abs(returns) < 0.25 * float(jnp.finfo(returns.dtype).max) ** (1 / 3)
    centre = jnp.nan_to_num(jnp.nanmedian(jnp.where(finite, returns, jnp.nan), axis=0))
    filled = jnp.where(finite, returns, 0)
    centred = jnp.where(finite, returns - centre[None, :], 0)
    if fits_outer(n_rows, n_assets, returns.dtype, max_outer_bytes):
        rows, columns = jnp.triu_indices(n_assets)
        outer = centred[:, rows] * centred[:, columns]
    else:
        outer = jnp.zeros((n_rows, 0), returns.dtype)
    order = jnp.argsort(filled, axis=0, descending=True).astype(jnp.int32)
    descending = jnp.take_along_axis(filled, order, axis=0)
    missing = (~finite).astype(returns.dtype)
    return SharedPanel(
        *(centred, centre, centred**3, missing, outer, filled, order, descending), _longest_run(descending)
    )


def _longest_run(ordered: Array) -> Array:
    """() int32, the most neighbours in a column of an ordered table (T, N) that hold one value."""
    row = jnp.arange(ordered.shape[0], dtype=jnp.int32)[:, None]
    new = jnp.concatenate([jnp.ones_like(ordered[:1], bool), ordered[1:] != ordered[:-1]])
    first = lax.cummax(jnp.where(new, row, 0))
    return jnp.max(row - first) + 1


def fits_outer(n_rows: int, n_assets: int, dtype: jnp.dtype, max_outer_bytes: int) -> bool:
    """Tell whether the table of outer products, T N (N + 1) / 2 numbers, fits ``max_outer_bytes``."""
    return n_rows * n_assets * (n_assets + 1) // 2 * jnp.dtype(dtype).itemsize <= max_outer_bytes


def weighted_products(panel: SharedPanel, weights: Array, decay: Array | None = None) -> Array:
    """Sum over the rows of weight times outer product: under `jax.vmap` one matrix product for all universes.

    Args:
        panel: from `share_panel`.
        weights: (T,) observation weights c, at least 0.
        decay: () lambda of `decayed_weights`, or None.

    Returns:
        (N (N + 1) / 2,) upper triangle by rows; (0,) where the panel has no table of outer products.
    """
    c, _ = _clean_weights(weights)
    return dot(c if decay is None else decayed_weights(c, decay), panel.outer)


def panel_moments(
    panel: SharedPanel, weights: Array, mask: Array, decay: Array | None = None, products: Array | None = None
) -> Moments:
    """Moments of one universe of a shared panel: the same quantities as `sample_moments`, in one pass.

    Args:
        panel: from `share_panel`.
        weights: (T,) observation weights c, at least 0.
        mask: (N,) bool, the assets of the universe.
        decay: () lambda of `decayed_weights`, or None.
        products: `weighted_products` of the same arguments, if they are at hand.

    Returns:
        `Moments`, as `sample_moments`.
    """
    c, weights_ok = _clean_weights(weights)
    n = jnp.sum(c)
    missing = jnp.any(mask & (dot(c, panel.missing) > 0))
    # A masked column or an unused row may hold anything; both count for nothing here, for they were set to 0
    # or meet a weight of 0, and the columns' sums do not mix.
    active = mask & ~_constant_columns(panel, c > 0)
    z = panel.centred
    both = active[:, None] & active[None, :]

    def sums(c: Array) -> tuple[Array, Array, Array]:
        first = jnp.where(active, dot(c, z) / _positive(n), 0)
        second = _second_moments(panel, c, products)
        # in this order symmetric to the bit
        covariance = jnp.where(both, (second - n * (first[:, None] * first[None, :])) / _positive(n - 1), 0)
        return first, jnp.diagonal(second), covariance

    def mean_of(first: Array) -> Array:
        return jnp.where(active, first + panel.centre, 0)

    if decay is None:
        first, squares, covariance = sums(c)
        mean = plain_mean = mean_of(first)
        plain_variance = jnp.diagonal(covariance)
    else:
        recent = decayed_weights(c, decay)
        recent_first, _, covariance = sums(recent)
        first = jnp.where(active, dot(c, z) / _positive(n), 0)
        squares = dot(c, z**2)
        mean, plain_mean = mean_of(recent_first), mean_of(first)
        plain_variance = jnp.where(active, (squares - n * first**2) / _positive(n - 1), 0)
        weights_ok = weights_ok & ~_one_row(recent)
    raw_second = squares / _positive(n)
    raw_third = dot(c, panel.cubed) / _positive(n)
    third = jnp.where(active, raw_third - 3 * first * raw_second + 2 * first**3, 0)
    valid = weights_ok & ~missing & (n >= 2) & jnp.any(active)
    dropped = jnp.any(mask & ~active)
    return _finish(Moments(n, mean, covariance, plain_mean, plain_variance, third, active, dropped, valid))


def shocked_moments(mean: Array, covariance: Array, active: Array, shock: Shock) -> tuple[Array, Array]:
    """Annual mean and covariance after a shock.

    Args:
        mean: (N,) annual mean.
        covariance: (N, N) annual covariance.
        active: (N,) bool.
        shock: what changes; never read where an asset is inactive.

    Returns:
        (N,) and (N, N), 0 for an inactive asset.
    """
    c = shock.correlation
    v = jnp.where(active, shock.volatility, 1)
    variance = jnp.diagonal(covariance)
    deviation = jnp.sqrt(jnp.maximum(variance, 0))
    joined = (1 - c) * covariance + c * (deviation[:, None] * deviation[None, :])
    moved = jnp.where(c > 0, joined, jnp.where(c < 0, (1 + c) * covariance, covariance))
    index = jnp.arange(active.shape[0], dtype=jnp.int32)
    diagonal = index[:, None] == index[None, :]
    # a variance takes its factor v^2 and nothing else: the square of a root is not quite what the root was taken of
    covariance = (v[:, None] * v[None, :]) * jnp.where(diagonal, covariance, moved)
    # a correlation that is not a number must make the universe INVALID, not pass for no shock
    covariance = jnp.where(jnp.isnan(c), jnp.nan, covariance)
    both = active[:, None] & active[None, :]
    return jnp.where(active, mean + shock.mean, 0), jnp.where(both, covariance, 0)


def _second_moments(panel: SharedPanel, c: Array, products: Array | None) -> Array:
    if panel.outer.shape[1] == 0:
        return dot((c[:, None] * panel.centred).T, panel.centred)
    packed = dot(c, panel.outer) if products is None else products
    return _unpack(packed, panel.centred.shape[1])


def _unpack(packed: Array, n: int) -> Array:
    """(N, N) symmetric matrix of its upper triangle laid out by rows.

    Row by row, each from its place less what the rows' shrinking has moved it: whole rows are read in a fraction of the
    time of N^2 entries by their places.
    """
    i = jnp.arange(n, dtype=jnp.int32)
    starts = i * n - i * (i + 1) // 2
    rows = jax.vmap(lambda start: lax.dynamic_slice_in_dim(packed, start, n))(starts)
    return jnp.where(i[:, None] <= i[None, :], rows, rows.T)


def _finish(moments: Moments) -> Moments:
    """Reject a universe whose moments underflowed or overflowed: nothing can be computed with them.

    By Cauchy and Schwarz no sum of products is larger than the larger of the two sums of squares: where all variances
    are finite, all covariances are, and nobody has to go through them.
    """
    variance = jnp.diagonal(moments.covariance)
    usable = jnp.all(jnp.where(moments.active, (variance > 0) & jnp.isfinite(variance), True))
    usable = usable & jnp.all(jnp.isfinite(moments.third))
    return moments._replace(valid=moments.valid & usable)


def _clean_weights(weights: Array) -> tuple[Array, Array]:
    good = jnp.isfinite(weights) & (weights >= 0)
    return jnp.where(good, weights, 0), jnp.all(good)


def _one_row(weights: Array) -> Array:
    """True where one row has all the weight, to rounding; what variance is left is that of rounding errors."""
    total = jnp.sum(weights)
    return total - jnp.max(weights) <= 16 * jnp.finfo(weights.dtype).eps * total


def _constant_columns(panel: SharedPanel, used: Array) -> Array:
    """`_constant` for a shared panel.

    A universe with more different rows than any value has in any column has no constant column; the others, a window
    or a panel with many gaps, are looked at, in a loop of at most one turn.
    """

    def look(state: tuple[Array, Array]) -> tuple[Array, Array]:
        # `state[1]` is True here; without it XLA would see a constant and compute it before the loop, for all
        return _constant(panel.returns, used & state[1]), jnp.bool_(False)

    doubtful = jnp.sum(used, dtype=jnp.int32) <= panel.most_repeated
    none = jnp.zeros(panel.returns.shape[1], bool)
    return lax.while_loop(lambda state: state[1], look, (none, doubtful))[0]


def _constant(x: Array, used: Array) -> Array:
    """(N,) True where the used rows of a column all hold one value; never judged by a computed variance."""
    highest = jnp.max(jnp.where(used[:, None], x, -jnp.inf), axis=0)
    lowest = jnp.min(jnp.where(used[:, None], x, jnp.inf), axis=0)
    return highest <= lowest


def _positive(x: Array) -> Array:
    return jnp.where(x > 0, x, 1)
