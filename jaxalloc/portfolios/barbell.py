"""The antifragile barbell: which assets gain from disorder, and which clusters make up the sleeve.

An asset's antifragility score is minmax(skewness) + minmax(tail gain) over the universe's active assets; a cluster's
score is its best member's.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from jaxalloc.kernels.lanes.control import lanes_last, over_pairs
from jaxalloc.kernels.moments.sample import Moments, SharedPanel, Shock

TAIL_QUANTILE = 0.95


class Sleeve(NamedTuple):
    """The aggressive side of a barbell.

    Attributes:
        clusters: (K,) bool, the aggressor clusters.
        assets: (N,) bool, the aggressors: the best-scoring asset of each of those clusters.
        size: () number of aggressors, 0 where there is one cluster only.
        fewer: () bool, fewer than asked for.
    """

    clusters: Array
    assets: Array
    size: Array
    fewer: Array


class Tail(NamedTuple):
    """The upper tail of each asset's returns: mean (N,) of those above the 95 % quantile, and found (N,) bool.

    Where there is no return above it, the mean is 0 and ``found`` False.
    """

    mean: Array
    found: Array


def skewness(moments: Moments) -> Array:
    """Bias-corrected sample skewness (N,), pandas' ``Series.skew``: sqrt(n (n - 1)) / (n - 2) m3 / m2^1.5.

    m2 and m3 are the mean squared and cubed deviations. 0 where n < 3 or the asset is inactive.
    """
    n = moments.count
    second = moments.plain_variance * (n - 1) / jnp.where(n > 0, n, 1)
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
    found = weight > 0
    return Tail(jnp.where(found, jnp.sum(tail * values, axis=0) / jnp.where(found, weight, 1), 0), found)


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
    return tail._replace(mean=jnp.where(tail.found, gain, 0))


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
    found = weight > 0
    return Tail(jnp.where(found, total / jnp.where(found, weight, 1), 0), found)


_panel_tail_gain = lanes_last(_panel_tail_lanes, shared=2)


def antifragility(skew: Array, gain: Array, active: Array) -> Array:
    """Score (N,) of each asset: minmax(skewness) + minmax(tail gain) over the active ones; 0 for the others."""
    return jnp.where(active, _minmax(skew, active) + _minmax(gain, active), 0)


def _minmax(z: Array, active: Array) -> Array:
    """(z - min) / (max - min): exactly 1 and 0 at the ends, which two scores' ties hang on, whatever XLA fuses."""
    index = jnp.arange(z.shape[0], dtype=jnp.int32)
    lowest = jnp.argmin(jnp.where(active, z, jnp.inf)).astype(jnp.int32)
    highest = jnp.argmax(jnp.where(active, z, -jnp.inf)).astype(jnp.int32)
    spread = z[highest] - z[lowest]
    between = jnp.clip((z - z[lowest]) / jnp.where(spread > 0, spread, 1), 0, 1)
    ends = jnp.where(index == highest, 1, jnp.where(index == lowest, 0, between))
    return jnp.where(spread > 0, ends, 0)


def choose_sleeve(score: Array, labels: Array, n_clusters: Array, n_aggressors: Array, size: int) -> Sleeve:
    """Pick the clusters of highest score, min(n_aggressors, max(1, K - 4), K - 1) of them, and their best assets.

    From K = 9 up that is all that were asked for (5); below, the core keeps the four clusters that a cap of 25 % needs.
    Ties: first asset, then first cluster.

    Args:
        score: (N,) from `antifragility`.
        labels: (N,) int32; -1 for an asset without a cluster.
        n_clusters: () int32 K.
        n_aggressors: () int32, how many are wanted.
        size: static, what K is padded to.

    Returns:
        `Sleeve`.
    """
    n_assets = score.shape[0]
    asset = jnp.arange(n_assets, dtype=jnp.int32)
    cluster = jnp.arange(size, dtype=jnp.int32)

    # By ranks, not by comparison with a maximum: XLA may compute a score anew for each use of it, with another last
    # bit, and then nothing equals the maximum.
    rank = _ranks(score)
    by_score = jnp.zeros(n_assets, jnp.int32).at[rank].set(asset, unique_indices=True)
    place = jnp.where(labels >= 0, labels, size)
    best_rank = jnp.full(size, n_assets, jnp.int32).at[place].min(rank, mode="drop")
    best_asset = by_score[jnp.minimum(best_rank, n_assets - 1)]
    best_score = jnp.where(best_rank < n_assets, score[best_asset], -jnp.inf)
    count = jnp.minimum(n_aggressors, jnp.minimum(jnp.maximum(1, n_clusters - 4), n_clusters - 1))
    clusters = (_ranks(best_score) < count) & (cluster < n_clusters)
    assets = jnp.zeros(n_assets, bool).at[jnp.where(clusters, best_asset, n_assets)].set(True, mode="drop")
    return Sleeve(clusters, assets, count, count < n_aggressors)


def _ranks(values: Array) -> Array:
    """(M,) int32 place of each value, none of them NaN, from the largest down; equal ones in their order.

    On a CPU, where a sort of many short rows takes five times as long, each is compared with one after the other, in a
    loop, so that what is compared exists.
    """
    index = jnp.arange(values.shape[0], dtype=jnp.int32)

    def compare(values: Array) -> Array:
        def count(j: Array, before: Array) -> Array:
            other = lax.dynamic_index_in_dim(values, j, 0)
            return before + ((other > values) | ((other == values) & (j < index))).astype(jnp.int32)

        return over_pairs(values.shape[0], count, jnp.zeros_like(index))

    def sort(values: Array) -> Array:
        order = jnp.argsort(values, descending=True, stable=True)
        return jnp.zeros_like(index).at[order].set(index, unique_indices=True)

    return lax.platform_dependent(values, cpu=compare, default=sort)
