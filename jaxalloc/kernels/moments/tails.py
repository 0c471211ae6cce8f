"""Skewness, and the mean of the returns above the 95 % quantile."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from jaxalloc.kernels.lanes.adapter import lanes_last
from jaxalloc.kernels.lanes.products import divisor
from jaxalloc.kernels.moments.panel import SharedPanel
from jaxalloc.kernels.moments.sample import Moments, along_rows, over_rows
from jaxalloc.kernels.moments.shock import Shock

TAIL_QUANTILE = 0.95
# A bisection by value halves the returns as long as they are spread out, and ends at a few of them. More that are left
# after so many turns may be equal, or far from the others: a bisection by bits ends whatever they are.
_BY_VALUE, _FEW, _MANY = 12, 4, 16


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
    deviation = jnp.sqrt(jnp.where(usable, second, 1)) * moments.inverse_scale
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
    """Upper tail of each asset's returns, of one universe's own returns; see `sample_tail`."""
    return sample_tail(returns, weights, mask, n_rows)[0]


def sample_tail(returns: Array, weights: Array, mask: Array, n_rows: Array | int | None = None) -> tuple[Tail, Array]:
    """Mean of each asset's returns strictly above its 95 % quantile, 0 if there is none; of one universe's own returns.

    With h = 0.95 (n - 1) and k = floor(h) the quantile is x(k) + (h - k) (x(k+1) - x(k)), where x(k) is the smallest
    value whose cumulative weight exceeds k; for counts, pandas'. In this form a repeated value stays exactly itself.

    The quantile is bisected until it lies among a few returns, which are then gone through one after the other. That
    takes less time than a sort of every column.

    Args:
        returns: (T, N); what is masked or has no weight is never read.
        weights: (T,) observation weights c.
        mask: (N,) bool.
        n_rows: as in `jaxalloc.kernels.moments.sample.over_rows`.

    Returns:
        `Tail`, and (N,) the quantiles.
    """
    c = jnp.where(weights > 0, weights, 0)
    dtype = returns.dtype
    count = jnp.sum(c)
    h = TAIL_QUANTILE * jnp.maximum(count - 1, 0)
    k = jnp.floor(h)

    def readable(x: Array, c: Array) -> tuple[Array, Array, Array]:
        """Returns, 0 where they are not read; where they are; and the weights (T, 1)."""
        read = (c > 0)[:, None] & mask[None, :] & jnp.isfinite(x)
        return jnp.where(read, x, 0), read, c[:, None]

    def extremes(ends: tuple[Array, Array, Array], x: Array, c: Array) -> tuple[Array, Array, Array]:
        values, read, _ = readable(x, c)
        low, high = jnp.where(read, values, jnp.inf), jnp.where(read, values, -jnp.inf)
        rows = ends[2] + along_rows(jnp.add, read.astype(jnp.int32))
        return (
            jnp.minimum(ends[0], along_rows(jnp.minimum, low)),
            jnp.maximum(ends[1], along_rows(jnp.maximum, high)),
            rows,
        )

    infinite, none = jnp.full(mask.shape, jnp.inf, dtype), jnp.zeros(mask.shape, jnp.int32)
    lowest, highest, rows = over_rows(extremes, (infinite, -infinite, none), n_rows, returns, c)
    exists = rows > 0

    # x(k) is one of the returns above the floor and up to high
    def bisect(state: _Bracket) -> _Bracket:
        low, high = state.low, state.high
        value = _to_order(_from_order(low, dtype) / 2 + _from_order(high, dtype) / 2)
        bits = (low & high) + ((low ^ high) >> 1)  # rounded down, whatever the signs
        middle = jnp.where(state.turn < _BY_VALUE, jnp.clip(value, low, high - 1), bits)
        level = _from_order(middle, dtype)

        def up_to(sums: tuple[Array, Array], x: Array, c: Array) -> tuple[Array, Array]:
            values, read, c = readable(x, c)
            there = read & (values <= level[None, :])
            weight = along_rows(jnp.add, jnp.where(there, c, 0))
            return sums[0] + weight, sums[1] + along_rows(jnp.add, there.astype(jnp.int32))

        weight, count = over_rows(up_to, (jnp.zeros(mask.shape, dtype), none), n_rows, returns, c)
        wide = _is_wide(state)
        down = wide & (weight > k)
        up = wide & ~down
        return _Bracket(
            turn=state.turn + 1,
            low=jnp.where(up, middle + 1, low),
            high=jnp.where(down, middle, high),
            floor=jnp.where(up, level, state.floor),
            below=jnp.where(up, weight, state.below),
            rows_below=jnp.where(up, count, state.rows_below),
            rows_up_to=jnp.where(down, count, state.rows_up_to),
        )

    bracket = lax.while_loop(
        lambda state: jnp.any(_is_wide(state)),
        bisect,
        _Bracket(
            turn=jnp.int32(0),
            low=_to_order(jnp.where(exists, lowest, 0)),
            high=_to_order(jnp.where(exists, highest, 0)),
            floor=-infinite,
            below=jnp.zeros(mask.shape, dtype),
            rows_below=none,
            rows_up_to=rows,
        ),
    )

    def look(level: Array) -> tuple[Array, Array]:
        """The weight of the returns that are a level (N,), and the least return above it, infinite if there is none."""

        def add(sums: tuple[Array, Array], x: Array, c: Array) -> tuple[Array, Array]:
            values, read, c = readable(x, c)
            here = along_rows(jnp.add, jnp.where(read & (values == level[None, :]), c, 0))
            above = along_rows(jnp.minimum, jnp.where(read & (values > level[None, :]), values, jnp.inf))
            return sums[0] + here, jnp.minimum(sums[1], above)

        return over_rows(add, (jnp.zeros(mask.shape, dtype), infinite), n_rows, returns, c)

    # upwards: x(k), and x(k+1), which is the same or the next, or with fractions a later one
    def climb(state: tuple[Array, ...]) -> tuple[Array, ...]:
        level, weight, low, high, goes_on = state
        here, above = look(level)
        low = jnp.where(goes_on & (weight <= k), level, low)
        high = jnp.where(goes_on, level, high)
        weight = weight + here
        goes_on = goes_on & (weight <= k + 1) & jnp.isfinite(above)
        return jnp.where(goes_on, above, level), weight, low, high, goes_on

    first = jnp.where(exists, look(bracket.floor)[1], 0)
    _, _, low, high, _ = lax.while_loop(
        lambda state: jnp.any(state[-1]), climb, (first, bracket.below, first, first, exists)
    )
    quantile = low + (h - k) * (high - low)

    def add(sums: tuple[Array, Array], x: Array, c: Array) -> tuple[Array, Array]:
        values, read, c = readable(x, c)
        tail = jnp.where(read & (values > quantile[None, :]), c, 0)
        return sums[0] + along_rows(jnp.add, tail), sums[1] + along_rows(jnp.add, tail * values)

    nothing = jnp.zeros(mask.shape, dtype)
    weight, total = over_rows(add, (nothing, nothing), n_rows, returns, c)
    exists = weight > 0
    return Tail(mean=jnp.where(exists, total / jnp.where(exists, weight, 1), 0), exists=exists), quantile


class _Bracket(NamedTuple):
    """Between which levels a quantile is.

    Attributes:
        turn: () turns of the bisection so far.
        low: (N,) `_to_order` of the least level that is possible.
        high: (N,) of the highest.
        floor: (N,) the highest level that is too low; a value, as those next to 0 count as 0 in comparisons.
        below: (N,) weight of the returns up to the floor.
        rows_below: (N,) int32, their number.
        rows_up_to: (N,) int32, the number of returns up to ``high``.
    """

    turn: Array
    low: Array
    high: Array
    floor: Array
    below: Array
    rows_below: Array
    rows_up_to: Array


def _is_wide(state: _Bracket) -> Array:
    """(N,) Whether to bisect once more: among so few returns that is slower than to go through them."""
    most = jnp.where(state.turn < _BY_VALUE, _FEW, _MANY)
    return (state.low < state.high) & (state.rows_up_to - state.rows_below > most)


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
