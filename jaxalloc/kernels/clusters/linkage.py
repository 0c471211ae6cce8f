"""Correlation distance, and agglomerative linkage by reciprocal nearest neighbours.

None of the four linkages inverts and all are reducible: merging two clusters that are each other's nearest neighbour
never brings a third one nearer than it was. So every pair of reciprocal nearest neighbours can merge in the same round,
and the tree is the one that merging a pair at a time gives (Bruynooghe 1977; Murtagh 1983). A round costs O(N^2) of
dense, branch-free work, and about 8 to 32 rounds replace N - 1 steps.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax


class MergeTree(NamedTuple):
    """A merge tree. A cluster is known by its first asset, and a merge by the asset that it absorbs.

    Attributes:
        parent: (N,) int32, the first asset of the cluster that absorbed asset j's cluster; j itself where none did.
        height: (N,) the distance at which that happened; infinity where it did not.
        round: (N,) int32, the round in which it happened.
    """

    parent: Array
    height: Array
    round: Array


def merge_tree(
    distance: Array,
    active: Array,
    linkage: str,
    stop: Array | float = jnp.inf,
    sizes: Array | None = None,
    compacting: bool = True,
) -> MergeTree:
    """Merge tree of the active assets, up to height ``stop``.

    Args:
        distance: (N, N) symmetric, finite where both assets are active.
        active: (N,) bool.
        linkage: ``"average"``, ``"single"``, ``"complete"`` or ``"ward"``.
        stop: () no merge above this height is made; infinity gives the whole tree.
        sizes: (N,) how many assets each stands for, where they are clusters already; ones by default.
        compacting: whether the clusters that can still merge move into smaller tables as they get fewer. That saves
            steps, but each of the tables is compiled.

    Returns:
        `MergeTree`. Ties are broken by the first indices.
    """
    n = distance.shape[0]
    index = jnp.arange(n, dtype=jnp.int32)
    pair = active[:, None] & active[None, :] & (index[:, None] != index[None, :])
    # a table that is not symmetric to the bit could leave no reciprocal pair
    table = jnp.where(pair, jnp.maximum(distance, distance.T), jnp.inf)
    tree = MergeTree(parent=index, height=jnp.full(n, jnp.inf, distance.dtype), round=jnp.zeros(n, jnp.int32))
    counts = jnp.ones(n, distance.dtype) if sizes is None else sizes
    state = _Stage(table=table, sizes=counts, assets=index, tree=tree, rounds=jnp.int32(0))
    rows = _stage_sizes(n) if compacting else (n,)
    for size, smaller in zip(rows, (*rows[1:], 0), strict=True):
        state = _stage(state, size, smaller, linkage, jnp.asarray(stop, distance.dtype))
    return state.tree


class _Stage(NamedTuple):
    """The clusters that can still merge: distances (M, M), sizes (M,), first assets (M,); the tree, rounds so far."""

    table: Array
    sizes: Array
    assets: Array
    tree: MergeTree
    rounds: Array


def _stage_sizes(n: int) -> tuple[int, ...]:
    """Rows of the table from one stage to the next: N, then a third fewer each time, below 128 a half, down to 32.

    Example:
        >>> _stage_sizes(250)
        (250, 168, 112, 56, 32)
    """
    sizes = [n]
    while sizes[-1] > 32:
        sizes.append(max(32, 8 * math.ceil(sizes[-1] / (12 if sizes[-1] > 128 else 16))))
    return tuple(sizes)


def _stage(state: _Stage, size: int, smaller: int, linkage: str, stop: Array) -> _Stage:
    """Merge until no more than ``smaller`` clusters can go on, or nothing is left to merge.

    A cluster whose nearest neighbour is above the stop is complete: what the others become is no nearer. The rest, if
    they are few enough, move into a table of ``size`` rows first.
    """
    if size < state.table.shape[0]:
        state = _compact(state, _alive(state.table, stop), size)
    rows = jnp.arange(size, dtype=jnp.int32)
    height = jnp.full(size, jnp.inf, state.table.dtype)
    grown = MergeTree(parent=rows, height=height, round=jnp.zeros(size, jnp.int32))

    def merge_round(
        carry: tuple[Array, Array, MergeTree, Array, Array],
    ) -> tuple[Array, Array, MergeTree, Array, Array]:
        table, sizes, tree, number, _ = carry
        nearest = jnp.min(table, axis=1)
        # a minimum and a comparison, since an argmin is dear
        neighbour = jnp.min(jnp.where(table == nearest[:, None], rows[None, :], size - 1), axis=1)
        mutual = (neighbour[neighbour] == rows) & (nearest <= stop) & jnp.isfinite(nearest)
        keeps, goes = mutual & (rows < neighbour), mutual & (rows > neighbour)
        tree = MergeTree(
            parent=jnp.where(goes, neighbour, tree.parent),
            height=jnp.where(goes, nearest, tree.height),
            round=jnp.where(goes, number, tree.round),
        )
        table, sizes = _merge(table, sizes, keeps, goes, neighbour, nearest, linkage)
        return table, sizes, tree, number + 1, jnp.sum(_alive(table, stop), dtype=jnp.int32)

    def merging(carry: tuple[Array, Array, MergeTree, Array, Array]) -> Array:
        return carry[4] > smaller

    alive = jnp.sum(_alive(state.table, stop), dtype=jnp.int32)
    start = (state.table, state.sizes, grown, state.rounds, alive)
    table, sizes, grown, rounds, _ = lax.while_loop(merging, merge_round, start)
    merged = jnp.where(grown.parent != rows, state.assets, state.tree.parent.shape[0])  # others are dropped
    tree = MergeTree(
        parent=state.tree.parent.at[merged].set(state.assets[grown.parent], mode="drop"),
        height=state.tree.height.at[merged].set(grown.height, mode="drop"),
        round=state.tree.round.at[merged].set(grown.round, mode="drop"),
    )
    return _Stage(table=table, sizes=sizes, assets=state.assets, tree=tree, rounds=rounds)


def _alive(table: Array, stop: Array) -> Array:
    """(M,) clusters with a neighbour near enough to merge with."""
    nearest = jnp.min(table, axis=1)
    return (nearest <= stop) & jnp.isfinite(nearest)


def _compact(state: _Stage, alive: Array, size: int) -> _Stage:
    """Move the clusters that can go on, at most ``size``, into a smaller table, in their order."""
    rows = jnp.arange(alive.shape[0], dtype=jnp.int32)
    slot = jnp.where(alive, jnp.cumsum(alive, dtype=jnp.int32) - 1, size)
    chosen = jnp.zeros(size, jnp.int32).at[slot].set(rows, mode="drop")
    used = jnp.arange(size, dtype=jnp.int32) < jnp.sum(alive, dtype=jnp.int32)
    both = used[:, None] & used[None, :]
    table = jnp.where(both, state.table[chosen][:, chosen], jnp.inf)
    return state._replace(table=table, sizes=state.sizes[chosen], assets=state.assets[chosen])


def _merge(
    table: Array, sizes: Array, keeps: Array, goes: Array, neighbour: Array, height: Array, linkage: str
) -> tuple[Array, Array]:
    """Update the distances and sizes for all pairs of one round.

    The rows are merged, the table is transposed, and the same again: once for rows, once for columns. A loop of the two
    materialises the first half before the second.
    """
    index = jnp.arange(keeps.shape[0], dtype=jnp.int32)
    partner = jnp.where(keeps, neighbour, index)
    partner_sizes = sizes[partner]
    merged_sizes = jnp.where(keeps, sizes + partner_sizes, sizes)

    def half(i: Array, table: Array) -> Array:
        others = jnp.where(i == 0, sizes, merged_sizes)
        counts = sizes[:, None], partner_sizes[:, None], others[None]
        both = lance_williams(table, table[partner], *counts, height[:, None], linkage)
        return jnp.where(keeps[:, None], both, table).T

    table = lax.fori_loop(0, 2, half, table)
    gone = goes[:, None] | goes[None, :] | (index[:, None] == index[None, :])
    # the two orders of merging differ in the last bit, and an unsymmetric table could leave no reciprocal pair
    table = jnp.where(gone, jnp.inf, jnp.maximum(table, table.T))
    return table, merged_sizes


def lance_williams(
    first: Array, second: Array, n_first: Array, n_second: Array, n_other: Array, height: Array, linkage: str
) -> Array:
    """Distance from the union of two clusters to a third (Lance & Williams 1967).

    Args:
        first: distance of the first from the third.
        second: of the second from the third.
        n_first: assets of the first.
        n_second: of the second.
        n_other: of the third.
        height: distance of the first from the second.
        linkage: ``"average"``, ``"single"``, ``"complete"`` or ``"ward"``.

    Returns:
        What these arrays broadcast to; infinite where ``first`` or ``second`` is, but for ``"single"``.
    """
    if linkage == "single":
        return jnp.minimum(first, second)
    if linkage == "complete":
        return jnp.maximum(first, second)
    a, b, c = n_first, n_second, n_other
    if linkage == "average":
        return (a * first + b * second) / (a + b)
    h = jnp.where(jnp.isfinite(height), height, 0)
    squared = ((a + c) * first**2 + (b + c) * second**2 - c * h**2) / (a + b + c)
    return jnp.sqrt(jnp.maximum(squared, 0))


def roots(tree: MergeTree, height: Array) -> Array:
    """First asset (N,) int32 of each asset's cluster, once the merges at or below ``height`` () are made."""
    n = tree.parent.shape[0]
    root = jnp.where(tree.height <= height, tree.parent, jnp.arange(n, dtype=jnp.int32))
    for _ in range(max(n - 1, 1).bit_length()):  # pointer jumping: the path to the root halves each time
        root = root[root]
    return root


def maxclust_height(tree: MergeTree, active: Array, max_clusters: Array) -> Array:
    """Smallest height of the tree that leaves at most ``max_clusters`` clusters; below every merge if none is needed.

    Args:
        tree: a whole tree, from `merge_tree` without ``stop``.
        active: (N,) bool.
        max_clusters: () int, at least 1.

    Returns:
        () the height at which to `cut`.
    """
    merges = jnp.sum(active, dtype=jnp.int32) - jnp.maximum(max_clusters, 1)
    heights = jnp.sort(tree.height)
    return jnp.where(merges > 0, heights[jnp.clip(merges - 1, 0, heights.shape[0] - 1)], -1)


def linkage_matrix(distance: Array, linkage: str = "average", active: Array | None = None) -> Array:
    """Full merge tree in the form of `scipy.cluster.hierarchy.linkage`, for dendrograms.

    Args:
        distance: (N, N) symmetric, finite where both assets are active.
        linkage: ``"average"``, ``"single"``, ``"complete"`` or ``"ward"``.
        active: (N,) bool; all by default. The others join last, one by one at infinite height, as the second branch.

    Returns:
        (N - 1, 4), a row a merge by growing height: the two clusters' ids (a merge of row m has id N + m), the
        height, and the number of assets.
    """
    n = distance.shape[0]
    index = jnp.arange(n, dtype=jnp.int32)
    active = jnp.ones(n, bool) if active is None else active
    tree = merge_tree(distance, active, linkage)
    if n == 1:
        return jnp.zeros((0, 4), distance.dtype)
    # A merge never comes before the ones inside it; rounding may put its height a bit below theirs, so that they are
    # raised to a running maximum along rounds before sorting. The root, the first active asset, is never absorbed and
    # comes last.
    height = monotone(tree)
    root = jnp.min(jnp.where(active, index, n - 1))
    order = jnp.lexsort((jnp.where(index == root, n, tree.round), height))[: n - 1]
    parent = jnp.where(active, tree.parent, root)

    def merge(m: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        rows, ids, sizes = state
        j = order[m]
        i = parent[j]
        size = sizes[i] + sizes[j]
        ordered = (ids[i] < ids[j]) | ~active[j]
        first, second = jnp.where(ordered, ids[i], ids[j]), jnp.where(ordered, ids[j], ids[i])
        row = jnp.stack([first.astype(distance.dtype), second.astype(distance.dtype), height[j], size])
        return rows.at[m].set(row), ids.at[i].set(n + m), sizes.at[i].set(size)

    rows = jnp.zeros((n - 1, 4), distance.dtype)
    state = (rows, index, jnp.ones(n, distance.dtype))
    return lax.fori_loop(0, n - 1, merge, state)[0]


def monotone(tree: MergeTree) -> Array:
    """Heights (N,) raised so that no merge lies below a merge inside it."""
    n = tree.height.shape[0]
    index = jnp.arange(n, dtype=jnp.int32)

    def raise_round(number: Array, height: Array) -> Array:
        # the highest merge so far on both sides of each merge of this round
        now = jnp.isfinite(tree.height) & (tree.round == number)
        tops = jnp.where(jnp.isfinite(tree.height) & (tree.round < number), height, 0)
        top_of = jnp.zeros(n, height.dtype).at[tree.parent].max(jnp.where(tree.parent == index, 0, tops))
        floor = jnp.maximum(top_of, top_of[tree.parent])
        return jnp.where(now, jnp.maximum(height, floor), height)

    return lax.fori_loop(0, jnp.max(tree.round) + 1, raise_round, tree.height)
