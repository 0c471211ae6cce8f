"""Portfolios from a merge tree: hierarchical risk parity by its leaves, equal risk contribution by its branches.

Lopez de Prado (2016), Building Diversified Portfolios that Outperform Out of Sample, Journal of Portfolio Management
42(4): assets are ordered as the leaves of a tree, so that similar ones are neighbours, and the ordered list is halved
again and again, the weight of a list going to its halves in inverse proportion to their variances.

Raffinot (2018), The Hierarchical Equal Risk Contribution Portfolio, SSRN 3237540: the tree is cut into clusters, and
what is above the cut is split branch by branch, in inverse proportion to the branches' risks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from jaxalloc.kernels.clusters.linkage import MergeTree
from jaxalloc.kernels.clusters.within import sum_by_pair
from jaxalloc.kernels.lanes.adapter import lanes_last
from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.lanes.precision import is_negligible, jitter
from jaxalloc.kernels.lanes.products import dot


def leaf_order(tree: Array) -> Array:
    """Leaves of a tree from left to right: `scipy.cluster.hierarchy.leaves_list`.

    Args:
        tree: (N - 1, 4) from `jaxalloc.kernels.clusters.linkage.linkage_matrix`; the first column of a row is its left
            branch.

    Returns:
        (N,) int32, the leaves' numbers, each once.

    Example:
        >>> import jax.numpy as jnp
        >>> tree = jnp.array([[1.0, 3.0, 0.1, 2.0], [0.0, 2.0, 0.2, 2.0], [4.0, 5.0, 0.6, 4.0]])
        >>> leaf_order(tree).tolist()
        [1, 3, 0, 2]
    """
    n = tree.shape[0] + 1
    index = jnp.arange(n, dtype=jnp.int32)
    if n == 1:
        return index
    left, right = tree[:, 0].astype(jnp.int32), tree[:, 1].astype(jnp.int32)
    # leaves of each node by its id: a leaf's is 1, and the node of row m has id n + m
    leaves = jnp.concatenate([jnp.ones(n, jnp.int32), tree[:, 3].astype(jnp.int32)])
    of_left = leaves[left]

    def descend(step: Array, first: Array) -> Array:
        # `first` of a node is the place of its leftmost leaf; a row comes before the rows that it is part of
        row = n - 2 - step
        place = first[n + row]
        return first.at[left[row]].set(place).at[right[row]].set(place + of_left[row])

    places = lax.fori_loop(0, n - 1, descend, jnp.zeros(2 * n - 1, jnp.int32))[:n]
    return jnp.zeros(n, jnp.int32).at[places].set(index)


def column_distance(distance: Array) -> Array:
    """Euclidean distances between the columns of a distance matrix, on which Lopez de Prado (2016) builds his tree.

    Args:
        distance: (N, N) symmetric, finite.

    Returns:
        (N, N) sqrt(sum over k of (d_ki - d_kj)^2), symmetric, zero on the diagonal.

    Example:
        >>> import jax.numpy as jnp
        >>> print(column_distance(jnp.array([[0.0, 4.0, 1.0], [4.0, 0.0, 1.0], [1.0, 1.0, 0.0]])).round(2))
        [[0.   5.66 3.32]
         [5.66 0.   3.32]
         [3.32 3.32 0.  ]]
    """

    # row by row: the products of a matrix product would cancel where two columns are nearly the same
    def add(total: Array, row: Array) -> tuple[Array, None]:
        return total + (row[:, None] - row[None, :]) ** 2, None

    return jnp.sqrt(lax.scan(add, jnp.zeros_like(distance), distance)[0])


def hrp_weights(covariance: Array, order: Array, active: Array | None = None) -> Array:
    """Weights of hierarchical risk parity: recursive bisection of the ordered assets.

    A list of m assets is split into its first m // 2 and the rest. The variance v of a half is that of its inverse
    variance portfolio, and the first half gets the share 1 - v_1 / (v_1 + v_2) of the list's weight. A half whose
    portfolio has no variance is given the `jitter` of its members'.

    All lists of a level are split at once, and what the halves' variances add up is added up once: about 2 N^2 steps.

    Args:
        covariance: (N, N), positive diagonal where active.
        order: (N,) int, assets in order, those active first; `leaf_order`'s for hierarchical risk parity.
        active: (N,) bool; all by default.

    Returns:
        (N,) weights, at least 0, sum 1; 0 for an inactive asset.

    Example:
        >>> import jax.numpy as jnp
        >>> hrp_weights(jnp.diag(jnp.array([1.0, 2.0, 2.0])), jnp.array([0, 1, 2])).tolist()
        [0.5, 0.25, 0.25]
    """
    return _bisect_by(covariance, order, active, _bisect)


def bisection_near(covariance: Array, order: Array, active: Array) -> Array:
    """`hrp_weights` in plain operations, for derivatives with respect to the covariance; its gradients are finite."""
    return _bisect_by(covariance, order, active, _bisect_lanes)


def _bisect_by(covariance: Array, order: Array, active: Array | None, bisect: Callable[[Array], Array]) -> Array:
    n = covariance.shape[0]
    depth = (n - 1).bit_length()
    count = jnp.int32(n) if active is None else jnp.sum(active, dtype=jnp.int32)
    # a table with a place for each path through the halves, so that those of a level are neighbours in it
    path = jnp.arange(1 << depth, dtype=jnp.int32)

    def halve(step: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = low + (high - low) // 2
        second = (path >> (depth - 1 - step)) % 2 == 1
        return jnp.where(second, middle, low), jnp.where(second, high, middle)

    low, high = lax.fori_loop(0, depth, halve, (jnp.zeros_like(path), jnp.full_like(path, count)))
    used = high > low  # one asset, or none
    asset = order.astype(jnp.int32)[jnp.minimum(low, n - 1)]
    # row by row, which materialises the table and takes less time than to gather it at once
    table = lax.map(lambda row: jnp.where(row[1] & used, covariance[row[0]][asset], 0), (asset, used))
    return jnp.zeros(n, covariance.dtype).at[jnp.where(used, asset, n)].set(bisect(table), mode="drop")


def _bisect_lanes(covariance: Array) -> Array:
    """Weights (M, L) of the bisection of a table (M, M, L), M a power of 2; 0 where its diagonal is."""
    dtype = covariance.dtype
    variance = _diagonal(covariance)
    used = variance > 0
    smallest = jnp.min(jnp.where(used, variance, jnp.inf), axis=0)
    inverse = jnp.where(used, smallest / jnp.where(used, variance, 1), 0)
    # sums over the lists of a level: of inverse variances, and of covariances and variances times their weights
    total, table, members = inverse, covariance * inverse[:, None] * inverse[None], inverse * inverse * variance
    shares = []
    while total.shape[0] > 1:
        spread = _diagonal(table)
        spread = jnp.where(is_negligible(spread, members), jitter(dtype) * members, spread)
        exists = total > 0
        spread = jnp.where(exists, spread / jnp.where(exists, total, 1) / jnp.where(exists, total, 1), 0)
        first, second = spread[::2], spread[1::2]
        both = first + second
        shares.append(jnp.stack([second, first], axis=1) / jnp.where(both > 0, both, 1)[:, None])
        # beside an empty half, which has no variance, the formula would give the other nothing
        alone = jnp.stack([exists[::2] & ~exists[1::2], exists[1::2] & ~exists[::2]], axis=1)
        shares[-1] = jnp.where(alone, 1, jnp.where((exists[::2] & exists[1::2])[:, None], shares[-1], 0))
        half, lanes = total.shape[0] // 2, total.shape[1:]
        total, members = (jnp.sum(x.reshape(half, 2, *lanes), axis=1) for x in (total, members))
        table = jnp.sum(table.reshape(half, 2, half, 2, *lanes), axis=(1, 3))
    weights = jnp.ones_like(total)
    for share in reversed(shares):
        weights = (weights[:, None] * share).reshape(-1, *weights.shape[1:])
    together = jnp.sum(weights, axis=0)
    return weights / jnp.where(together > 0, together, 1)


_bisect = lanes_last(_bisect_lanes)


def _diagonal(table: Array) -> Array:
    return jnp.moveaxis(jnp.diagonal(table), -1, 0)


def cluster_distance(distance: Array, labels: Array, sizes: Array, linkage: str, backend: Backend) -> Array:
    """Distances between clusters as a linkage has them: what its merges inside the clusters leave to those above.

    Args:
        distance: (N, N) symmetric, finite, between assets.
        labels: (N,) int32, -1 for an asset without a cluster.
        sizes: (K,) number of assets of each cluster, 0 where there is none.
        linkage: ``"average"``, ``"single"``, ``"complete"`` or ``"ward"``.
        backend: static.

    Returns:
        (K, K) symmetric; of no meaning on the diagonal and where there is no cluster.
    """
    n, k = labels.shape[0], sizes.shape[0]
    if linkage in ("single", "complete"):
        place = jnp.where(labels >= 0, labels, k)  # past the end: dropped
        sign = 1 if linkage == "single" else -1
        rows = jnp.full((k, n), jnp.inf, distance.dtype).at[place].min(sign * distance, mode="drop")
        return sign * jnp.full((k, k), jnp.inf, distance.dtype).at[place].min(rows.T, mode="drop").T
    pairs, ones = jnp.maximum(sizes[:, None] * sizes[None, :], 1), jnp.ones(n, distance.dtype)
    if linkage == "average":
        return sum_by_pair(distance, ones, labels, k, backend) / pairs
    # Ward's height is the distance of the centres, which follows from mean squared distances, times a size
    mean = sum_by_pair(distance**2, ones, labels, k, backend) / pairs
    inside = jnp.diagonal(mean) / 2
    both = jnp.maximum(sizes[:, None] + sizes[None, :], 1)
    return jnp.sqrt(jnp.maximum(2 * pairs / both * (mean - inside[:, None] - inside[None, :]), 0))


def herc_weights(tree: MergeTree, risk: Array) -> Array:
    """Split a portfolio down a tree of clusters, at each branching in inverse proportion to the risks of the sides.

    The risk of a side is the sum of its clusters' risks.

    Args:
        tree: of K clusters, from `merge_tree`; cluster 0 is its root.
        risk: (K,) of each cluster, positive.

    Returns:
        (K,) weights, sum 1; 0 where the tree has no cluster.
    """
    index = jnp.arange(risk.shape[0], dtype=jnp.int32)
    merged = tree.parent != index
    rounds = jnp.max(jnp.where(merged, tree.round, 0)) + 1  # no two merges of a round have a cluster in common

    def of_round(number: Array) -> tuple[Array, Array]:
        """The clusters that a round absorbs, and into which."""
        now = merged & (tree.round == number)
        return now, jnp.where(now, tree.parent, risk.shape[0])

    def climb(number: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        risk, goes, stays = state
        now, into = of_round(number)
        beside = risk[tree.parent]
        both = beside + risk
        goes, stays = jnp.where(now, beside / both, goes), jnp.where(now, risk / both, stays)
        return risk.at[into].add(risk, mode="drop"), goes, stays

    _, goes, stays = lax.fori_loop(0, rounds, climb, (risk, jnp.zeros_like(risk), jnp.ones_like(risk)))

    def descend(step: Array, weights: Array) -> Array:
        now, into = of_round(rounds - 1 - step)
        kept = jnp.ones_like(weights).at[into].set(stays, mode="drop")
        return jnp.where(now, weights[tree.parent] * goes, weights * kept)

    return lax.fori_loop(0, rounds, descend, (index == 0).astype(risk.dtype))


class Branches(NamedTuple):
    """The branchings of a tree of K clusters, each known by the cluster that it absorbs.

    Attributes:
        goes: (K, K) 1 where a branching absorbs a cluster with others, else 0.
        stays: (K, K) likewise, on the side that absorbs.
    """

    goes: Array
    stays: Array


def branches_of(tree: MergeTree) -> Branches:
    """The branchings of a tree, from `merge_tree`."""
    size = tree.parent.shape[0]
    index = jnp.arange(size, dtype=jnp.int32)
    merged = tree.parent != index
    rounds = jnp.max(jnp.where(merged, tree.round, 0)) + 1

    def climb(number: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        held, goes, stays = state  # held: which clusters each one's is made of by now
        now = merged & (tree.round == number)
        goes = jnp.where(now[:, None], held, goes)
        stays = jnp.where(now[:, None], held[tree.parent], stays)
        into = jnp.where(now, tree.parent, size)
        return held.at[into].max(held, mode="drop"), goes, stays

    nothing = jnp.zeros((size, size), bool)
    _, goes, stays = lax.fori_loop(0, rounds, climb, (index[:, None] == index[None, :], nothing, nothing))
    dtype = tree.height.dtype
    return Branches(goes=goes.astype(dtype), stays=stays.astype(dtype))


def split_by_branches(branches: Branches, risk: Array) -> Array:
    """`herc_weights` in plain operations, for derivatives with respect to the risks (K,)."""
    goes, stays = (dot(side, risk) for side in branches)
    merges = goes > 0
    both = jnp.where(merges, goes + stays, 1)
    # a side gets the share of the other's risk; logarithms turn the products along a cluster's path into sums
    share_goes, share_stays = (jnp.log(jnp.where(merges, other / both, 1)) for other in (stays, goes))
    path = dot(share_goes, branches.goes) + dot(share_stays, branches.stays)
    in_tree = jnp.any(branches.goes + branches.stays > 0, axis=0)
    alone = ~jnp.any(in_tree) & (jnp.arange(risk.shape[0], dtype=jnp.int32) == 0)
    return jnp.where(in_tree | alone, jnp.exp(path), 0)
