"""How many clusters to cut a tree into: the number whose clusters have the highest mean silhouette.

Rousseeuw (1987), Silhouettes: a graphical aid to the interpretation and validation of cluster analysis, Journal of
Computational and Applied Mathematics 20. An asset's silhouette is (b - a) / max(a, b): a is its mean distance from the
other members of its cluster, b that from the members of the nearest other cluster. That of an asset alone is 0.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from jaxalloc.kernels.clusters.linkage import MergeTree, monotone
from jaxalloc.kernels.lanes.adapter import lanes_last
from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.lanes.control import over_steps

NO_CUT = -jnp.inf  # the score of a number of clusters that no height leaves


class Silhouettes(NamedTuple):
    """Mean silhouettes of the partitions of a tree.

    Attributes:
        score: (N,) by number of clusters k = 0..N-1; `NO_CUT` where no height leaves so many, or k is not looked at.
        height: (N,) the height that leaves k clusters.
    """

    score: Array
    height: Array


def silhouettes(distance: Array, active: Array, tree: MergeTree, most: Array, backend: Backend) -> Silhouettes:
    """Mean silhouettes of the partitions with 2..min(N - 1, ``most``) clusters, N the number of active assets.

    Each cluster's sums of distances are made once, for the most clusters. Each merge adds two of them.

    Args:
        distance: (N, N) symmetric, 0 on the diagonal.
        active: (N,) bool.
        tree: of them, whole, from `jaxalloc.kernels.clusters.linkage.merge_tree`.
        most: () int32, the largest number of clusters.
        backend: static.

    Returns:
        `Silhouettes`.
    """
    n = active.shape[0]
    index = jnp.arange(n, dtype=jnp.int32)
    n_active = jnp.sum(active, dtype=jnp.int32)
    height = monotone(tree)
    root = jnp.min(jnp.where(active, index, n - 1))
    # Clusters are known by the merge that absorbs them, counted from the last one: the whole tree's root is 0, and of
    # k clusters the numbers are 0..k-1. The next merge puts k - 1 into a cluster of a lower number.
    key = jnp.where(active, jnp.where(index == root, -jnp.inf, -height), jnp.inf)
    order = jnp.lexsort((-tree.round, key)).astype(jnp.int32)
    number = jnp.zeros(n, jnp.int32).at[order].set(index)
    parent = number[tree.parent[order]]
    heights = jnp.where(index == 0, jnp.inf, height[order])
    first = jnp.minimum(n_active - 1, most)
    owner = jnp.where(index < first, index, parent)
    for _ in range(max(n - 1, 1).bit_length()):  # pointer jumping, up to the clusters that there are at first
        owner = owner[owner]
    own = jnp.where(active, owner[number], n)
    sums = jnp.zeros((n, n), distance.dtype).at[own].add(jnp.where(active[None, :], distance, 0), mode="drop")
    sizes = jnp.zeros(n, distance.dtype).at[own].add(1, mode="drop")
    score = _scores(backend)(sums, sizes, own, parent, heights, active, first, n_active)
    return Silhouettes(score=score, height=heights)


class _State(NamedTuple):
    """Where `_scores` is, with lanes.

    Attributes:
        sums: (N, N, L) by cluster and asset: the sum of the asset's distances from the cluster's members.
        sizes: (N, L) members of each cluster.
        own: (N, L) each asset's cluster; N where it has none.
        score: (N, L) by number of clusters.
    """

    sums: Array
    sizes: Array
    own: Array
    score: Array


def _score_lanes(
    sums: Array,
    sizes: Array,
    own: Array,
    parent: Array,
    heights: Array,
    active: Array,
    first: Array,
    n_active: Array,
    backend: Backend,
) -> Array:
    """(N, L) mean silhouettes by number of clusters, from ``first`` (L,) of them downwards; as `silhouettes`."""
    n, lanes = own.shape
    nothing = jnp.zeros_like(own, sums.dtype)

    def with_clusters(turn: Array, state: _State) -> _State:
        k = n - 1 - turn
        on = k <= first  # some lanes begin later
        merging = k < first
        into, gone = jnp.where(merging, parent[k], n), jnp.where(merging, state.sums[k], 0)
        more = jnp.where(merging, state.sizes[k], 0)
        own = jnp.where((state.own == k) & merging, into, state.own)

        count = jnp.where(on, k, 0)

        # what changes the sums reads nothing else, and what reads them changes nothing: so they are never copied
        def grow(j: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
            sums, sizes = carry
            grows = into == j
            return (
                sums.at[j].set(sums[j] + jnp.where(grows, gone, 0)),
                sizes.at[j].set(sizes[j] + jnp.where(grows, more, 0)),
            )

        sums, sizes = over_steps(n, grow, (state.sums, state.sizes), backend, rows=count)

        def measure(j: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            inside, members, nearest = carry
            mine, size = own == j, sizes[j]
            mean = sums[j] / jnp.maximum(size, 1)
            return (
                jnp.where(mine, sums[j], inside),
                jnp.where(mine, size, members),
                jnp.where(mine, nearest, jnp.minimum(nearest, mean)),
            )

        start = nothing, nothing, jnp.full_like(nothing, jnp.inf)
        inside, members, nearest = over_steps(n, measure, start, backend, rows=count)
        inside = inside / jnp.maximum(members - 1, 1)
        larger = jnp.maximum(inside, nearest)
        usable = active & (members > 1) & (larger > 0)
        each = jnp.where(usable, (nearest - inside) / jnp.where(usable, larger, 1), 0)
        score = jnp.sum(each, axis=0) / jnp.maximum(n_active, 1)
        is_cut = on & (heights[k - 1] > heights[k])
        return _State(
            sums=sums,
            sizes=sizes,
            own=own,
            score=state.score.at[k].set(jnp.where(is_cut, score, NO_CUT)),
        )

    state = _State(sums=sums, sizes=sizes, own=own, score=jnp.full((n, lanes), NO_CUT, sums.dtype))
    return lax.fori_loop(0, max(n - 2, 0), with_clusters, state).score


@functools.cache
def _scores(backend: Backend) -> Callable[..., Array]:
    return lanes_last(functools.partial(_score_lanes, backend=backend))


def silhouette_height(
    distance: Array, active: Array, tree: MergeTree, most: Array, otherwise: Array, backend: Backend
) -> Array:
    """() the height that leaves the clusters of highest mean silhouette, the fewest where several have it.

    Args:
        distance: as in `silhouettes`.
        active: likewise.
        tree: likewise.
        most: likewise.
        otherwise: () the height where no number of clusters can be judged, as of up to two assets.
        backend: static.
    """
    found = silhouettes(distance, active, tree, most, backend)
    best = jnp.argmax(found.score)
    return jnp.where(found.score[best] > NO_CUT, found.height[best], otherwise)
