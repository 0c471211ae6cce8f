"""Skewness, and the mean of the returns above the 95 % quantile."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from jaxalloc.kernels.lanes.adapter import lanes_last
from jaxalloc.kernels.lanes.products import divisor
from jaxalloc.kernels.moments.panel import SharedPanel
from jaxalloc.kernels.moments.sample import Moments
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


def tail_gain(values: Array, weights: Array, count: Array) -> Tail:
    """Mean of the returns strictly above the 95 % quantile, 0 if there is none.

    With h = 0.95 (n - 1) and k = floor(h) the quantile is x(k) + (h - k) (x(k+1) - x(k)), where x(k) is the smallest
    value whose cumulative weight exceeds k; for counts, pandas'. In this form a repeated value stays exactly itself.

    Args:
        values: (T, N) returns, each column from its largest to its smallest value.
        weights: (T, N) their observation weights.
        count: () n, the weight of all observations.

    Returns:
        `Tail`.
    """
    h = TAIL_QUANTILE * jnp.maximum(count - 1, 0)
    k = jnp.floor(h)

    # x(k) is the last value with less than n - k of weight above it
    def row(carry: tuple[Array, Array, Array], now: tuple[Array, Array]) -> tuple[tuple[Array, Array, Array], None]:
        above, low, high = carry
        value, weight = now
        low = jnp.where(above < count - k, value, low)
        high = jnp.where(above < count - k - 1, value, high)
        return (above + weight, low, high), None

    start = (jnp.zeros_like(values[0]), values[0], values[0])
    (_, low, high), _ = lax.scan(row, start, (values, weights))
    quantile = low + (h - k) * (high - low)
    tail = jnp.where(values > quantile[None, :], weights, 0)
    weight = jnp.sum(tail, axis=0)
    exists = weight > 0
    mean = jnp.where(exists, jnp.sum(tail * values, axis=0) / jnp.where(exists, weight, 1), 0)
    return Tail(mean=mean, exists=exists)


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


def sample_tail_gain(returns: Array, weights: Array, mask: Array) -> Tail:
    """`tail_gain` of one universe's own returns (T, N); what is masked or has no weight is never read."""
    read = (weights > 0)[:, None] & mask[None, :] & jnp.isfinite(returns)
    x = jnp.where(read, returns, 0)
    order = jnp.argsort(x, axis=0, descending=True)
    c = jnp.where(weights > 0, weights, 0)
    return tail_gain(jnp.take_along_axis(x, order, axis=0), c[order], jnp.sum(c))


def panel_tail_gain(panel: SharedPanel, weights: Array) -> Tail:
    """`tail_gain` of one universe of a shared panel, by the panel's one-time sort.

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
