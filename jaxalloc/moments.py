"""Frequency-weighted moments of one universe, from its own returns or from a panel that many universes share."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxalloc.linalg import dot


class Moments(NamedTuple):
    """Moments of one universe, per period. Entries of an inactive asset are 0.

    Attributes:
        count: () n, the sum of the observation weights.
        mean: (N,) weighted mean.
        covariance: (N, N) weighted covariance with divisor n - 1.
        third: (N,) mean cubed deviation from the mean, divisor n.
        active: (N,) bool, the assets that take part.
        dropped: () bool, an asset of the mask left because its returns are all equal.
        valid: () bool, False where the universe has no moments (see `Status.INVALID`).
    """

    count: Array
    mean: Array
    covariance: Array
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
    """

    centred: Array
    centre: Array
    cubed: Array
    missing: Array
    outer: Array
    returns: Array
    order: Array
    descending: Array


def sample_moments(returns: Array, weights: Array, mask: Array) -> Moments:
    """Moments of one universe from its own returns, in two passes (mean, then deviations from it).

    mean = sum c x / n and covariance = sum c (x - mean)(x - mean)' / (n - 1), with n = sum c: the weights are
    frequencies, so that counts give what the rows repeated count times give.

    Args:
        returns: (T, N) simple returns per period. Never read where the mask is False or the weight is 0.
        weights: (T,) observation weights c, at least 0.
        mask: (N,) bool, the assets of the universe.

    Returns:
        `Moments`; ``valid`` is False where a return in use is not finite, a weight is negative or not finite, n < 2,
        or no asset is left.
    """
    c, weights_ok = _clean_weights(weights)
    used = c > 0
    read = used[:, None] & mask[None, :]
    missing = jnp.any(read & ~jnp.isfinite(returns))
    x = jnp.where(read & jnp.isfinite(returns), returns, 0)
    n = jnp.sum(c)
    constant = _constant(x, used)
    active = mask & ~constant
    mean = jnp.where(active, dot(c, x) / _positive(n), 0)
    deviation = jnp.where(used[:, None] & active[None, :], x - mean[None, :], 0)
    weighted = c[:, None] * deviation
    covariance = dot(weighted.T, deviation) / _positive(n - 1)
    covariance = (covariance + covariance.T) / 2  # a product of two matrices is symmetric up to rounding only
    third = dot(c, deviation**3) / _positive(n)
    valid = weights_ok & ~missing & (n >= 2) & jnp.any(active)
    return _finish(n, mean, covariance, third, active, mask, valid)


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
    return SharedPanel(centred, centre, centred**3, missing, outer, filled, order, descending)


def fits_outer(n_rows: int, n_assets: int, dtype: jnp.dtype, max_outer_bytes: int) -> bool:
    """Tell whether the table of outer products, T N (N + 1) / 2 numbers, fits ``max_outer_bytes``."""
    return n_rows * n_assets * (n_assets + 1) // 2 * jnp.dtype(dtype).itemsize <= max_outer_bytes


def panel_moments(panel: SharedPanel, weights: Array, mask: Array) -> Moments:
    """Moments of one universe of a shared panel: the same quantities as `sample_moments`, in one pass.

    Under `jax.vmap` over weights and masks each line below is one matrix product for all universes.

    Args:
        panel: from `share_panel`.
        weights: (T,) observation weights c, at least 0.
        mask: (N,) bool, the assets of the universe.

    Returns:
        `Moments`, as `sample_moments`.
    """
    c, weights_ok = _clean_weights(weights)
    n = jnp.sum(c)
    missing = jnp.any(mask & (dot(c, panel.missing) > 0))
    # A masked column or an unused row may hold anything; both count for nothing here, for they were set to 0
    # or meet a weight of 0, and the columns' sums do not mix.
    active = mask & ~_constant(panel.returns, c > 0)
    z = panel.centred
    first = jnp.where(active, dot(c, z) / _positive(n), 0)
    second = _panel_second_moments(panel, c)
    both = active[:, None] & active[None, :]
    covariance = jnp.where(both, (second - n * first[:, None] * first[None, :]) / _positive(n - 1), 0)
    raw_second = jnp.diagonal(second) / _positive(n)
    raw_third = dot(c, panel.cubed) / _positive(n)
    third = jnp.where(active, raw_third - 3 * first * raw_second + 2 * first**3, 0)
    mean = jnp.where(active, first + panel.centre, 0)
    valid = weights_ok & ~missing & (n >= 2) & jnp.any(active)
    return _finish(n, mean, covariance, third, active, mask, valid)


def _panel_second_moments(panel: SharedPanel, c: Array) -> Array:
    n_assets = panel.centred.shape[1]
    if panel.outer.shape[1] == 0:
        return dot((c[:, None] * panel.centred).T, panel.centred)
    packed = dot(c, panel.outer)
    return packed[_packed_index(n_assets)]


def _packed_index(n: int) -> Array:
    """(N, N) position of each pair in the upper triangle laid out by rows."""
    i = jnp.arange(n, dtype=jnp.int32)
    low, high = jnp.minimum(i[:, None], i[None, :]), jnp.maximum(i[:, None], i[None, :])
    return low * n - low * (low + 1) // 2 + high


def _finish(
    n: Array, mean: Array, covariance: Array, third: Array, active: Array, mask: Array, valid: Array
) -> Moments:
    """Reject a universe whose moments underflowed or overflowed: nothing can be computed with them."""
    variance = jnp.diagonal(covariance)
    usable = jnp.all(jnp.where(active, (variance > 0) & jnp.isfinite(variance), True))
    usable = usable & jnp.all(jnp.isfinite(covariance)) & jnp.all(jnp.isfinite(third))
    dropped = jnp.any(mask & ~active)
    return Moments(n, mean, covariance, third, active, dropped, valid & usable)


def _clean_weights(weights: Array) -> tuple[Array, Array]:
    good = jnp.isfinite(weights) & (weights >= 0)
    return jnp.where(good, weights, 0), jnp.all(good)


def _constant(x: Array, used: Array) -> Array:
    """(N,) True where the used rows of a column all hold one value; never judged by a computed variance."""
    highest = jnp.max(jnp.where(used[:, None], x, -jnp.inf), axis=0)
    lowest = jnp.min(jnp.where(used[:, None], x, jnp.inf), axis=0)
    return highest <= lowest


def _positive(x: Array) -> Array:
    return jnp.where(x > 0, x, 1)
