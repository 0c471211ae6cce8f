"""The antifragile barbell: which assets gain from disorder, and which clusters make up the sleeve.

An asset's antifragility score is minmax(skewness) + minmax(tail gain) over the universe's active assets; a cluster's
score is its best member's.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from jaxalloc.kernels.lanes.backend import materialise


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


def choose_sleeve(score: Array, labels: Array, n_clusters: Array, n_aggressors: Array, size: int) -> Sleeve:
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

    Returns:
        `Sleeve`.
    """
    n_assets = score.shape[0]
    asset = jnp.arange(n_assets, dtype=jnp.int32)
    cluster = jnp.arange(size, dtype=jnp.int32)

    score = materialise(score)  # computed anew, it might not equal a maximum of it
    place = jnp.where(labels >= 0, labels, size)
    best_score = jnp.full(size, -jnp.inf, score.dtype).at[place].max(score, mode="drop")
    is_best = (labels >= 0) & (score == best_score[jnp.maximum(labels, 0)])
    best_asset = jnp.full(size, n_assets, jnp.int32).at[jnp.where(is_best, labels, size)].min(asset, mode="drop")
    count = jnp.minimum(n_aggressors, jnp.minimum(jnp.maximum(1, n_clusters - 4), n_clusters - 1))

    def add(_: Array, chosen: Array) -> Array:
        best = jnp.argmax(jnp.where(chosen, -jnp.inf, best_score)).astype(jnp.int32)
        return chosen | (cluster == best)

    clusters = lax.fori_loop(0, count, add, cluster >= n_clusters) & (cluster < n_clusters)
    assets = jnp.zeros(n_assets, bool).at[jnp.where(clusters, best_asset, n_assets)].set(True, mode="drop")
    return Sleeve(clusters=clusters, assets=assets, size=count, fewer=count < n_aggressors)
