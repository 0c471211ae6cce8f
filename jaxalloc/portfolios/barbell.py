"""The antifragile barbell: which assets gain from disorder, and which clusters make up the sleeve.

An asset's antifragility score is minmax(skewness) + minmax(tail gain) over the universe's active assets; a cluster's
score is its best member's.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.lanes.control import over_pairs


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


def antifragility(skew: Array, gain: Array, active: Array) -> Array:
    """Score (N,) of each asset: minmax(skewness) + minmax(tail gain) over the active ones; 0 for the others."""
    return jnp.where(active, _minmax(skew, active) + _minmax(gain, active), 0)


def _minmax(z: Array, active: Array) -> Array:
    """(z - min) / (max - min): exactly 1 and 0 at the ends, however it is compiled: ties depend on them."""
    index = jnp.arange(z.shape[0], dtype=jnp.int32)
    lowest = jnp.argmin(jnp.where(active, z, jnp.inf)).astype(jnp.int32)
    highest = jnp.argmax(jnp.where(active, z, -jnp.inf)).astype(jnp.int32)
    spread = z[highest] - z[lowest]
    between = jnp.clip((z - z[lowest]) / jnp.where(spread > 0, spread, 1), 0, 1)
    ends = jnp.where(index == highest, 1, jnp.where(index == lowest, 0, between))
    return jnp.where(spread > 0, ends, 0)


def choose_sleeve(
    score: Array, labels: Array, n_clusters: Array, n_aggressors: Array, size: int, backend: Backend
) -> Sleeve:
    """Pick the clusters of highest score, min(n_aggressors, max(1, K - 4), K - 1) of them, and their best assets.

    From K = 9 up these are as many as wanted (5). Below, there are fewer, and the core keeps the four clusters that a
    cap of 25 % needs.
    Ties: first asset, then first cluster.

    Args:
        score: (N,) from `antifragility`.
        labels: (N,) int32; -1 for an asset without a cluster.
        n_clusters: () int32 K.
        n_aggressors: () int32, how many are wanted.
        size: static, what K is padded to.
        backend: static.

    Returns:
        `Sleeve`.
    """
    n_assets = score.shape[0]
    asset = jnp.arange(n_assets, dtype=jnp.int32)
    cluster = jnp.arange(size, dtype=jnp.int32)

    # by ranks, not by comparison with a maximum, which a score that is computed anew might not equal
    rank = _ranks(score, backend)
    by_score = jnp.zeros(n_assets, jnp.int32).at[rank].set(asset, unique_indices=True)
    place = jnp.where(labels >= 0, labels, size)
    best_rank = jnp.full(size, n_assets, jnp.int32).at[place].min(rank, mode="drop")
    best_asset = by_score[jnp.minimum(best_rank, n_assets - 1)]
    best_score = jnp.where(best_rank < n_assets, score[best_asset], -jnp.inf)
    count = jnp.minimum(n_aggressors, jnp.minimum(jnp.maximum(1, n_clusters - 4), n_clusters - 1))
    clusters = (_ranks(best_score, backend) < count) & (cluster < n_clusters)
    assets = jnp.zeros(n_assets, bool).at[jnp.where(clusters, best_asset, n_assets)].set(True, mode="drop")
    return Sleeve(clusters=clusters, assets=assets, size=count, fewer=count < n_aggressors)


def _ranks(values: Array, backend: Backend) -> Array:
    """(M,) int32 place of each value, none of them NaN, from the largest down; equal ones in their order.

    On a CPU each value is compared with one after the other, in a loop, which materialises what is compared. A sort of
    many short rows would take five times as long.
    """
    index = jnp.arange(values.shape[0], dtype=jnp.int32)
    if backend is not Backend.CPU:
        order = jnp.argsort(values, descending=True, stable=True)
        return jnp.zeros_like(index).at[order].set(index, unique_indices=True)

    def count(j: Array, before: Array) -> Array:
        other = lax.dynamic_index_in_dim(values, j, 0)
        return before + ((other > values) | ((other == values) & (j < index))).astype(jnp.int32)

    return over_pairs(values.shape[0], count, jnp.zeros_like(index))
