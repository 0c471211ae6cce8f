"""Moments of the universes that share one panel: what they have in common is computed once."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxalloc.kernels.lanes.backend import if_any
from jaxalloc.kernels.lanes.products import divisor, dot
from jaxalloc.kernels.moments.sample import (
    Moments,
    clean_weights,
    decayed_weights,
    in_one_row,
    is_constant,
    judged_moments,
)

_BLOCK = 64  # rows whose outer products are made together


class SharedPanel(NamedTuple):
    """What universes that share one panel have in common, computed once.

    Attributes:
        centred: (T, N) returns minus ``centre``; 0 where missing.
        centre: (N,) the median of each column. Sums of squares are taken about it; unlike the mean it cannot be
            dragged so far by one wild row that a universe without that row loses its digits.
        inverse_scale: (N,) a power of 2, 1 over about the usual size of each column.
        cubed: (T, N) the cubes of the centred returns times ``inverse_scale``.
        missing: (T, N) 1.0 where a return is not finite, or too large to compute with, else 0; None where none is.
        outer: (T, N (N + 1) / 2) products of the centred columns, upper triangle by rows; or (T, 0) where that table
            would not fit its memory budget, and the covariance is then computed from ``centred``.
        returns: (T, N) the returns themselves; 0 where missing.
        order: (T, N) int32, rows of each column from the largest value to the smallest.
        descending: (T, N) the values in that order.
        most_repeated: () int32, how many rows of a column hold one and the same value, at most.
    """

    centred: Any
    centre: Any
    inverse_scale: Any
    cubed: Any
    missing: Any
    outer: Any
    returns: Any
    order: Any
    descending: Any
    most_repeated: Any


def share_panel(
    returns: np.ndarray, max_outer_bytes: int, n_rows: int | None = None, n_assets: int | None = None
) -> SharedPanel:
    """Compute once what every universe of a shared panel needs; on the host, for any shape.

    Args:
        returns: (T, N) simple returns per period, float32 or float64; NaN where missing.
        max_outer_bytes: memory that the table of outer products may take.
        n_rows: what T is padded to. The padding may be given no weight.
        n_assets: what N is padded to. The padding may be in no universe's mask.

    Returns:
        `SharedPanel` of NumPy arrays.
    """
    (length, count), dtype = returns.shape, returns.dtype
    rows, assets = n_rows or length, n_assets or count
    finite = computable(returns)
    centre = medians(returns, finite)
    filled = np.where(finite, returns, 0)

    def padded(values: np.ndarray) -> np.ndarray:
        table = np.zeros((rows, assets), values.dtype)
        table[:length, :count] = values
        return table

    centred = padded(np.where(finite, filled - centre[None, :], 0))
    inverse_scale = inverse_scales(centred)
    order = np.empty((rows, assets), np.int32)
    order[:] = np.arange(rows, dtype=np.int32)[:, None]
    order[:length, :count] = np.argsort(-filled, axis=0, kind="stable")
    descending = np.take_along_axis(filled, order[:length, :count], axis=0)
    return SharedPanel(
        centred=centred,
        centre=np.pad(centre, (0, assets - count)),
        inverse_scale=inverse_scale,
        cubed=(centred * inverse_scale) ** 3,
        missing=padded((~finite).astype(dtype)),
        outer=_outer_products(centred, max_outer_bytes),
        returns=padded(filled),
        order=order,
        descending=padded(descending),
        most_repeated=_longest_run(descending),
    )


def in_groups(table: np.ndarray, size: int) -> np.ndarray:
    """(G, T, ``size``) the columns of a table (T, N) in groups; 0 past the last column."""
    n_groups = -(-table.shape[1] // size)
    grouped = np.zeros((n_groups, len(table), size), table.dtype)
    for g in range(n_groups):
        columns = table[:, g * size : (g + 1) * size]
        grouped[g, :, : columns.shape[1]] = columns
    return grouped


def computable(returns: np.ndarray) -> np.ndarray:
    """Where returns are finite, and not too large to compute with.

    A finite return whose square overflows would spoil the universes that do not even use it, as 0 times infinity is
    NaN; in those that do it makes the moments infinite, which is as bad as missing.
    """
    with np.errstate(invalid="ignore"):
        return np.abs(returns) < 0.25 * float(np.finfo(returns.dtype).max) ** 0.5


def medians(returns: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """(N,) median of each column's usable values; 0 where it has none."""
    ordered, count = _sorted_columns(np.where(usable, returns, np.inf)), np.sum(usable, axis=0)
    column, some = np.arange(returns.shape[1]), count > 0
    low = ordered[column, np.maximum(count - 1, 0) // 2]
    high = ordered[column, np.minimum(count // 2, len(returns) - 1)]
    return np.where(some, np.where(some, low, 0) / 2 + np.where(some, high, 0) / 2, 0).astype(returns.dtype)


def inverse_scales(centred: np.ndarray) -> np.ndarray:
    """(N,) powers of 2, times which a column's cubes are numbers and, but for its smallest values, not 0.

    That is 1 over about the median size of what is not 0, so that a universe without a column's wild rows keeps its
    digits; or less, where the wildest row needs it.
    """
    limits, ordered = np.finfo(centred.dtype), _sorted_columns(np.abs(centred))
    zeros, length = np.sum(ordered == 0, axis=1), len(centred)
    middle = ordered[np.arange(len(ordered)), np.minimum((length + zeros) // 2, length - 1)]
    wanted = np.maximum(middle, ordered[:, -1] / (float(limits.max) ** (1 / 3) / 4))
    _, exponent = np.frexp(wanted)
    return np.ldexp(np.ones_like(wanted), -np.maximum(exponent, limits.minexp + 1))


def _sorted_columns(values: np.ndarray) -> np.ndarray:
    """(N, T) the columns of (T, N), each in ascending order: side by side they are sorted in a fraction of the time."""
    ordered = np.ascontiguousarray(values.T)
    ordered.sort(axis=1)
    return ordered


def _outer_products(centred: np.ndarray, max_bytes: int) -> np.ndarray:
    """(T, N (N + 1) / 2) products of the columns, upper triangle by rows; or (T, 0) where that is too large."""
    n_rows, n_assets = centred.shape
    if not fits_outer(n_rows, n_assets, centred.dtype, max_bytes):
        return np.zeros((n_rows, 0), centred.dtype)
    outer = np.empty((n_rows, n_assets * (n_assets + 1) // 2), centred.dtype)
    for first in range(0, n_rows, _BLOCK):  # whose products fit a cache: the table is written a page after the other
        z, into, start = centred[first : first + _BLOCK], outer[first : first + _BLOCK], 0
        for i in range(n_assets):
            np.multiply(z[:, i : i + 1], z[:, i:], out=into[:, start : start + n_assets - i])
            start += n_assets - i
    return outer


def _longest_run(ordered: np.ndarray) -> np.ndarray:
    """() int32, the most neighbours in a column of an ordered table (T, N) that hold one value."""
    row = np.arange(len(ordered), dtype=np.int32)[:, None]
    new = np.concatenate([np.ones_like(ordered[:1], bool), ordered[1:] != ordered[:-1]])
    first = np.maximum.accumulate(np.where(new, row, 0), axis=0)
    return np.int32(np.max(row - first) + 1)  # type: ignore[return-value]


def fits_outer(n_rows: int, n_assets: int, dtype: Any, max_outer_bytes: int) -> bool:
    """Tell whether the table of outer products, T N (N + 1) / 2 numbers, fits ``max_outer_bytes``."""
    return n_rows * n_assets * (n_assets + 1) // 2 * np.dtype(dtype).itemsize <= max_outer_bytes


def weighted_products(panel: SharedPanel, weights: Array, decay: Array | None = None) -> Array:
    """Sum over the rows of weight times outer product: under `jax.vmap` one matrix product for all universes.

    Args:
        panel: from `share_panel`.
        weights: (T,) observation weights c, at least 0.
        decay: () lambda of `decayed_weights`, or None.

    Returns:
        (N (N + 1) / 2,) upper triangle by rows; (0,) where the panel has no table of outer products.
    """
    c, _ = clean_weights(weights)
    return dot(c if decay is None else decayed_weights(c, decay), panel.outer)


def panel_moments(
    panel: SharedPanel,
    weights: Array,
    mask: Array,
    decay: Array | None = None,
    products: Array | None = None,
    constant: Array | None = None,
) -> Moments:
    """Moments of one universe of a shared panel: the same quantities as `sample_moments`, in one pass.

    Args:
        panel: from `share_panel`.
        weights: (T,) observation weights c, at least 0.
        mask: (N,) bool, the assets of the universe.
        decay: () lambda of `decayed_weights`, or None.
        products: `weighted_products` of the same arguments, if they are at hand.
        constant: (N,) bool, the columns whose rows of positive weight all hold one value, if they are at hand.

    Returns:
        `Moments`, as `sample_moments`.
    """
    c, weights_ok = clean_weights(weights)
    n = jnp.sum(c)
    missing = jnp.bool_(False) if panel.missing is None else jnp.any(mask & (dot(c, panel.missing) > 0))
    # A masked column or an unused row may hold anything. Both count for nothing here: they were set to 0 or meet a
    # weight of 0, and the columns' sums do not mix.
    active = mask & ~(_constant_columns(panel, c > 0) if constant is None else constant)
    z = panel.centred
    both = active[:, None] & active[None, :]

    def sums(c: Array) -> tuple[Array, Array, Array]:
        first = jnp.where(active, dot(c, z) / divisor(n), 0)
        second = _second_moments(panel, c, products)
        # in this order symmetric to the bit
        covariance = jnp.where(both, (second - n * (first[:, None] * first[None, :])) / divisor(n - 1), 0)
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
        first = jnp.where(active, dot(c, z) / divisor(n), 0)
        squares = dot(c, z**2)
        mean, plain_mean = mean_of(recent_first), mean_of(first)
        plain_variance = jnp.where(active, (squares - n * first**2) / divisor(n - 1), 0)
        weights_ok = weights_ok & ~in_one_row(recent)
    raw_third = dot(c, panel.cubed) / divisor(n)
    centre = first * panel.inverse_scale
    raw_second = squares / divisor(n) * panel.inverse_scale * panel.inverse_scale
    third = jnp.where(active, raw_third - 3 * centre * raw_second + 2 * centre**3, 0)
    return judged_moments(
        weights_ok & ~missing,
        mask,
        count=n,
        mean=mean,
        covariance=covariance,
        plain_mean=plain_mean,
        plain_variance=plain_variance,
        third=third,
        inverse_scale=panel.inverse_scale,
        active=active,
    )


def _second_moments(panel: SharedPanel, c: Array, products: Array | None) -> Array:
    if panel.outer.shape[1] == 0:
        return dot((c[:, None] * panel.centred).T, panel.centred)
    packed = dot(c, panel.outer) if products is None else products
    return _unpack(packed, panel.centred.shape[1])


def _unpack(packed: Array, n: int) -> Array:
    """(N, N) symmetric matrix of its upper triangle laid out by rows.

    Row i is the slice of N entries that ends where row i of the triangle ends: whole rows are read in a fraction of the
    time that N^2 entries by their places take.
    """
    i = jnp.arange(n, dtype=jnp.int32)
    starts = i * n - i * (i + 1) // 2
    rows = jax.vmap(lambda start: lax.dynamic_slice_in_dim(packed, start, n))(starts)
    return jnp.where(i[:, None] <= i[None, :], rows, rows.T)


def _constant_columns(panel: SharedPanel, used: Array) -> Array:
    """`is_constant` for a shared panel.

    A universe that uses more rows than hold one and the same value in any column has no constant column. The others,
    windows and universes of a panel with many gaps, are looked at.
    """
    doubtful = jnp.sum(used, dtype=jnp.int32) <= panel.most_repeated
    none = jnp.zeros(panel.returns.shape[1], bool)
    return if_any(doubtful, lambda _, doubtful: is_constant(panel.returns, used & doubtful), none)
