"""Skewness, and the mean of the returns above the 95 % quantile."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from jaxalloc.kernels.lanes.adapter import lanes_last
from jaxalloc.kernels.lanes.products import divisor
from jaxalloc.kernels.moments.panel import SharedPanel
from jaxalloc.kernels.moments.sample import Moments, over_rows
from jaxalloc.kernels.moments.shock import Shock

TAIL_QUANTILE = 0.95


class Tail(NamedTuple):
    """The upper tail of each asset's returns.

    Attributes:
        mean: (N,) mean of the returns above the 95 % quantile; 0 if there is none.
        exists: (N,) bool, whether there is a return above it.
    """

    mean: Array
    exists: Array


def skewness(moments: Moments) -> Array:
    """Bias-corrected sample skewness (N,), pandas' ``Series.skew``: sqrt(n (n - 1)) / (n - 2) m3 / m2^1.5.

    m2 and m3 are the mean squared and cubed deviations. 0 where n < 3 or the asset is inactive.
    """
    n = moments.count
    second = moments.plain_variance * (n - 1) / divisor(n)
    usable = moments.active & (second > 0) & (n >= 3)
    deviation = jnp.sqrt(jnp.where(usable, second, 1))
    # divided one factor at a time: the cube of a small deviation would underflow in float32
    standardised = moments.third / deviation / deviation / deviation
    correction = jnp.sqrt(jnp.maximum(n * (n - 1), 0)) / jnp.where(n > 2, n - 2, 1)
    return jnp.where(usable, correction * standardised, 0)


def shocked_tail(tail: Tail, mean: Array, periods_per_year: Array, shock: Shock) -> Tail:
    """Upper tail of the changed returns, m + v (g - m) + s / periods of the tail gain g; still 0 where there is none.

    Args:
        tail: of the returns as they were.
        mean: (N,) m, plain mean per period.
        periods_per_year: () observations a year.
        shock: what changes.

    Returns:
        `Tail`.
    """
    gain = tail.mean + (shock.volatility - 1) * (tail.mean - mean) + shock.mean / periods_per_year
    return tail._replace(mean=jnp.where(tail.exists, gain, 0))


def sample_tail_gain(returns: Array, weights: Array, mask: Array, n_rows: Array | int | None = None) -> Tail:
    """Mean of each asset's returns strictly above its 95 % quantile, 0 if there is none; of one universe's own returns.

    With h = 0.95 (n - 1) and k = floor(h) the quantile is x(k) + (h - k) (x(k+1) - x(k)), where x(k) is the smallest
    value whose cumulative weight exceeds k; for counts, pandas'. In this form a repeated value stays exactly itself.

    Numbers of one sign are in the order of their bits, so that x(k) is bisected bit by bit, whatever the values: that
    takes less time than a sort of every column.

    Args:
        returns: (T, N); what is masked or has no weight is never read.
        weights: (T,) observation weights c.
        mask: (N,) bool.
        n_rows: as in `jaxalloc.kernels.moments.sample.over_rows`.

    Returns:
        `Tail`.
    """
    c = jnp.where(weights > 0, weights, 0)
    dtype = returns.dtype
    count = jnp.sum(c)
    h = TAIL_QUANTILE * jnp.maximum(count - 1, 0)
    k = jnp.floor(h)

    def readable(x: Array, c: Array) -> tuple[Array, Array]:
        read = (c > 0)[:, None] & mask[None, :] & jnp.isfinite(x)
        return jnp.where(read, x, 0), jnp.where(c > 0, c, 0)[:, None]

    def up_to(level: Array) -> Array:
        """(N,) weight of the returns up to a level (N,)."""

        def add(total: Array, x: Array, c: Array) -> Array:
            values, c = readable(x, c)
            return total + jnp.sum(jnp.where(values <= level[None, :], c, 0), axis=0)

        return over_rows(add, jnp.zeros(mask.shape, dtype), n_rows, returns, c)

    def extremes(ends: tuple[Array, Array], x: Array, c: Array) -> tuple[Array, Array]:
        values, c = readable(x, c)
        there = (c > 0) & mask[None, :]
        low, high = jnp.where(there, values, jnp.inf), jnp.where(there, values, -jnp.inf)
        return jnp.minimum(ends[0], jnp.min(low, axis=0)), jnp.maximum(ends[1], jnp.max(high, axis=0))

    infinite = jnp.full(mask.shape, jnp.inf, dtype)
    lowest, highest = over_rows(extremes, (infinite, -infinite), n_rows, returns, c)
    exists = lowest <= highest
    ends = _to_order(jnp.where(exists, lowest, 0)), _to_order(jnp.where(exists, highest, 0))

    def halve(ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends  # x(k) is in between, or one of them
        middle = (low & high) + ((low ^ high) >> 1)  # rounded down, whatever the signs
        enough = up_to(_from_order(middle, dtype)) > k
        return jnp.where(enough, low, jnp.minimum(middle + 1, high)), jnp.where(enough, middle, high)

    reached, _ = lax.while_loop(lambda ends: jnp.any(ends[0] < ends[1]), halve, ends)
    low = _from_order(reached, dtype)

    def next_above(level: Array) -> Array:
        """The least return above a level, infinite if there is none."""

        def add(least: Array, x: Array, c: Array) -> Array:
            values, c = readable(x, c)
            above = jnp.where((c > 0) & mask[None, :] & (values > level[None, :]), values, jnp.inf)
            return jnp.minimum(least, jnp.min(above, axis=0))

        return over_rows(add, infinite, n_rows, returns, c)

    # x(k+1) is the same or the next one, or where weights are fractions one of the next
    def climb(state: tuple[Array, Array]) -> tuple[Array, Array]:
        high, short = state
        above = next_above(high)
        high = jnp.where(short & jnp.isfinite(above), above, high)
        return high, short & jnp.isfinite(above) & (up_to(high) <= k + 1)

    high, _ = lax.while_loop(lambda state: jnp.any(state[1]), climb, (low, up_to(low) <= k + 1))
    quantile = low + (h - k) * (high - low)

    def add(sums: tuple[Array, Array], x: Array, c: Array) -> tuple[Array, Array]:
        values, c = readable(x, c)
        tail = jnp.where(values > quantile[None, :], c, 0)
        return sums[0] + jnp.sum(tail, axis=0), sums[1] + jnp.sum(tail * values, axis=0)

    nothing = jnp.zeros(mask.shape, dtype)
    weight, total = over_rows(add, (nothing, nothing), n_rows, returns, c)
    exists = weight > 0
    return Tail(mean=jnp.where(exists, total / jnp.where(exists, weight, 1), 0), exists=exists)


def _to_order(values: Array) -> Array:
    """Whole numbers in the order of the values."""
    width = jnp.int64 if values.dtype == jnp.float64 else jnp.int32
    bits = lax.bitcast_convert_type(values + 0, width)  # -0 becomes 0
    return jnp.where(bits < 0, bits ^ jnp.iinfo(width).max, bits)


def _from_order(order: Array, dtype: Any) -> Array:
    """The values of `_to_order`'s whole numbers."""
    bits = jnp.where(order < 0, order ^ jnp.iinfo(order.dtype).max, order)
    return lax.bitcast_convert_type(bits, dtype)


def panel_tail_gain(panel: SharedPanel, weights: Array) -> Tail:
    """`sample_tail_gain` of one universe of a shared panel, by the panel's one-time sort.

    The rows of each column are gone through from the largest value down, no further than a universe's tail reaches.
    """
    return _panel_tail_gain(panel.order, panel.descending, weights)


def _panel_tail_lanes(order: Array, descending: Array, weights: Array) -> Tail:
    """`panel_tail_gain` with lanes: weights (T, L); order and values (T, N) are of all."""
    n_rows = order.shape[0]
    c = jnp.where(weights > 0, weights, 0)
    count = jnp.sum(c, axis=0)
    h = TAIL_QUANTILE * jnp.maximum(count - 1, 0)
    k = jnp.floor(h)

    def row(r: Array) -> tuple[Array, Array]:
        """Values (N, 1) of the r-th largest in each column, and what the universes hold of them (N, L)."""
        value = lax.dynamic_index_in_dim(descending, r, 0, keepdims=False)
        return value[:, None], c[lax.dynamic_index_in_dim(order, r, 0, keepdims=False)]

    # x(k) is the last value with less than n - k of weight above it
    def down(state: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        r, above, low, high = state
        value, weight = row(r)
        low = jnp.where(above < count - k, value, low)
        high = jnp.where(above < count - k - 1, value, high)
        return r + 1, above + weight, low, high

    def inside(state: tuple[Array, Array, Array, Array]) -> Array:
        return (state[0] < n_rows) & jnp.any(state[1] < count - k)

    above = jnp.zeros((order.shape[1], c.shape[1]), c.dtype)
    top = above + descending[0][:, None]
    n_seen, _, low, high = lax.while_loop(inside, down, (jnp.int32(0), above, top, top))
    quantile = low + (h - k) * (high - low)

    def add(r: Array, sums: tuple[Array, Array]) -> tuple[Array, Array]:
        value, weight = row(r)
        tail = jnp.where(value > quantile, weight, 0)
        return sums[0] + tail, sums[1] + tail * value

    weight, total = lax.fori_loop(0, n_seen, add, (above, above))
    exists = weight > 0
    return Tail(mean=jnp.where(exists, total / jnp.where(exists, weight, 1), 0), exists=exists)


_panel_tail_gain = lanes_last(_panel_tail_lanes, shared=2)
