"""Flat clusters below a threshold, one connected component after the other.

Join every two assets that are no farther apart than the threshold. No linkage merges below the threshold what is not
connected then: all four are reducible, so that a cluster is never nearer to a third than the nearer of its two parts
was. Each connected component therefore has a separate tree. A market of many groups falls into small components, and a
hundred tables of four rows are less work than one of four hundred.

The components of all universes that are clustered together are merged together. Components of up to 8 assets are
lanes, each with a small table. The assets of a universe's larger components go through one table, by
`jaxalloc.kernels.clusters.linkage.merge_tree`: few markets have any, and a batch does this apart for those that do.
"""

from __future__ import annotations

import functools
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxalloc.kernels.clusters.distance import inverse_volatility, likeness, scaled, to_distance
from jaxalloc.kernels.clusters.linkage import lance_williams, merge_tree, roots
from jaxalloc.kernels.lanes.adapter import all_at_once
from jaxalloc.kernels.lanes.backend import Backend, if_any
from jaxalloc.kernels.lanes.control import in_turns, over_steps

_WORD = 32
_SMALL = (4, 8)  # rows of the lanes' tables
_LEAST_LANES = 64  # with fewer lanes a step takes hardly less time
_ASSETS_A_LANE = 26  # a tile has a lane for so many assets; markets of many components take some turns a table
_FEW = 64  # rows of a large component's table up to which it stays in one place, which compiles faster


class Components(NamedTuple):
    """Connected components of U graphs of N assets.

    Attributes:
        first: (U, N) int32, the first asset of each asset's component.
        place: (U, N) int32, how many assets of the component come before it.
        size: (U, N) int32, how many assets the component has.
    """

    first: Array
    place: Array
    size: Array


class Pieces(NamedTuple):
    """A partition in the making.

    Attributes:
        root: (N,) int32, the first asset of each asset's cluster so far.
        large: (N,) bool, the assets of components too large for a lane's table, which `link` is left to merge.
    """

    root: Array
    large: Array


def threshold_roots(
    covariance: Array, active: Array, stop: Array, linkage: str, kind: str = "correlation", *, backend: Backend
) -> Array:
    """Clusters that merging at or below a height leaves, each known by its first asset.

    Args:
        covariance: (N, N), symmetric up to rounding.
        active: (N,) bool; the others stay alone.
        stop: () the height.
        linkage: ``"average"``, ``"single"``, ``"complete"`` or ``"ward"``.
        kind: of `jaxalloc.kernels.clusters.distance.correlation_distance`.
        backend: static.

    Returns:
        (N,) int32, the first asset of each asset's cluster. Ties are broken by the first indices.
    """
    pieces = small_components(covariance, active, stop, linkage, kind, backend=backend)
    return link_pieces(covariance, pieces, stop, linkage, kind)


def link_pieces(covariance: Array, pieces: Pieces, stop: Array, linkage: str, kind: str) -> Array:
    """(N,) roots once a universe's large components are merged, too, in one table of all assets; as part of a program.

    Args:
        covariance: (N, N).
        pieces: from `small_components`.
        stop: () the height.
        linkage: as in `threshold_roots`.
        kind: likewise.
    """

    def merge(root: Array, wanted: Array) -> Array:
        linked = link(covariance, pieces.large & wanted, stop, linkage, kind)
        return jnp.where(pieces.large, linked, root)

    return if_any(jnp.any(pieces.large), merge, pieces.root)


def small_components(
    covariance: Array, active: Array, stop: Array, linkage: str, kind: str = "correlation", *, backend: Backend
) -> Pieces:
    """`threshold_roots` but for the merges inside large components."""
    kernel = functools.partial(_small_components, linkage=linkage, kind=kind, backend=backend)
    return all_at_once(kernel)(covariance, active, stop)


def link(covariance: Array, there: Array, stop: Array, linkage: str, kind: str) -> Array:
    """Merge assets in one table of all of them.

    Args:
        covariance: (M, M) of the assets.
        there: (M,) bool; the others stay alone.
        stop: () the height.
        linkage: as in `threshold_roots`.
        kind: likewise.

    Returns:
        (M,) int32, the first asset of each asset's cluster.
    """
    distance = to_distance(likeness(covariance, inverse_volatility(covariance), kind))
    tree = merge_tree(distance, there, linkage, stop, compacting=len(there) > _FEW)
    return roots(tree, stop)


def _small_components(
    covariance: Array, active: Array, stop: Array, linkage: str, kind: str, backend: Backend
) -> Pieces:
    """`small_components` for U universes, the first axis of every array."""
    universes, n = active.shape
    inverse = jax.vmap(inverse_volatility)(covariance)
    neighbours = jax.vmap(functools.partial(_neighbours, kind=kind))(covariance, inverse, active, stop)
    parts = _components(neighbours, backend)
    root = jnp.broadcast_to(jnp.arange(n, dtype=jnp.int32), (universes, n))
    lanes = max(_LEAST_LANES, universes * n // _ASSETS_A_LANE)
    for fewer, rows in pairwise((1, *_SMALL)):
        chosen = (parts.size > fewer) & (parts.size <= rows)
        root = _merge_small(covariance, inverse, stop, parts, chosen, root, rows, lanes, linkage, kind)
    return Pieces(root=root, large=parts.size > _SMALL[-1])


def _neighbours(covariance: Array, inverse: Array, active: Array, stop: Array, kind: str) -> Array:
    """The active assets within the threshold of each asset, and itself, as bits (W, N)."""
    # Correlations tell which pairs those are without N^2 roots. A pair too many, by rounding, does no harm: distances
    # decide what merges.
    near = _bits(likeness(covariance, inverse, kind) >= 1 - 2 * stop**2 - 16 * jnp.finfo(stop.dtype).eps)
    itself = _bits(jnp.eye(active.shape[0], dtype=bool))
    both = jnp.where(active[None], _bits(active[:, None]), jnp.uint32(0))
    return (near | _transposed(near)) & both | itself


def _bits(table: Array) -> Array:
    """(W, M) uint32 of (N, M) bool: row j is bit j % 32 of word j // 32."""
    words = []
    for start in range(0, table.shape[0], _WORD):
        rows = table[start : start + _WORD]
        bit = jnp.uint32(1) << jnp.arange(rows.shape[0], dtype=jnp.uint32)
        words.append(jnp.sum(jnp.where(rows, bit[:, None], jnp.uint32(0)), axis=0, dtype=jnp.uint32))
    return jnp.stack(words)


def _transposed(bits: Array) -> Array:
    """`_bits` (W, N) of the transpose of a square table: words in squares of 32, halves swapped, then quarters, ..."""
    words, n = bits.shape
    square = jnp.pad(bits, ((0, 0), (0, _WORD * words - n))).reshape(words, words, _WORD)
    square = jnp.swapaxes(square, 0, 1)
    for width, mask in ((16, 0x0000FFFF), (8, 0x00FF00FF), (4, 0x0F0F0F0F), (2, 0x33333333), (1, 0x55555555)):
        low, high = jnp.moveaxis(square.reshape(words, words, -1, 2, width), 3, 0)
        moved = ((low >> width) ^ high) & jnp.uint32(mask)
        square = jnp.stack([low ^ (moved << width), high ^ moved], axis=3)
    return square.reshape(words, -1)[:, :n]


def _components(neighbours: Array, backend: Backend) -> Components:
    """Components of graphs, given each asset's neighbours, and itself, as bits (U, W, N); symmetric.

    The universes are an axis of it: of a `jax.vmap` JAX makes a gather for each slice, which takes most of the time.
    """
    _, words, n = neighbours.shape

    def through(k: Array, reached: Array) -> Array:  # Warshall (1962): who reaches k reaches what k does
        word, bit = k // _WORD, (k % _WORD).astype(jnp.uint32)
        reaches = (lax.dynamic_index_in_dim(reached, word, 1) >> bit) & 1 == 1
        return reached | jnp.where(reaches, lax.dynamic_index_in_dim(reached, k, 2), jnp.uint32(0))

    reached = over_steps(n, through, neighbours, backend)
    index = jnp.arange(n, dtype=jnp.int32)
    word = jnp.arange(words, dtype=jnp.int32)[:, None]
    own_word, own_bit = index[None] // _WORD, jnp.uint32(1) << (index[None] % _WORD).astype(jnp.uint32)
    inside = jnp.where(word == own_word, own_bit - 1, jnp.uint32(0))
    before = reached & jnp.where(word < own_word, ~jnp.uint32(0), inside)[None]
    lowest = _WORD - 1 - lax.clz(reached & (~reached + 1)).astype(jnp.int32)
    first = jnp.min(jnp.where(reached > 0, _WORD * word[None] + lowest, n), axis=1)
    return Components(first=first, place=_count(before), size=_count(reached))


def _count(bits: Array) -> Array:
    """(U, N) int32, how many bits (U, W, N) are set."""
    return jnp.sum(lax.population_count(bits).astype(jnp.int32), axis=1)


def _merge_small(
    covariance: Array,
    inverse: Array,
    stop: Array,
    parts: Components,
    chosen: Array,
    root: Array,
    rows: int,
    lanes: int,
    linkage: str,
    kind: str,
) -> Array:
    """Merge the components of at most ``rows`` assets that are ``chosen`` (U, N), as lanes."""
    universes, n = chosen.shape
    asset = jnp.broadcast_to(jnp.arange(n, dtype=jnp.int32), chosen.shape)
    universe = jnp.broadcast_to(jnp.arange(universes, dtype=jnp.int32)[:, None], chosen.shape)
    members = jnp.full((universes, n, rows), n, jnp.int32)  # by first asset; n where there is none
    place = jnp.where(chosen, parts.place, rows)
    members = members.at[universe, parts.first, place].set(asset, mode="drop").reshape(-1, rows)
    # each pair is read once: a covariance is seldom in the near cache, and reading it takes most of a table's time
    one, other = (index.astype(np.int32) for index in np.triu_indices(rows, 1))
    lines, scales = covariance.reshape(-1, n), inverse.reshape(-1)

    def merge(which: Array, root: Array) -> Array:
        member = jnp.take(members, which, axis=0, mode="fill", fill_value=n).T
        there, member = member < n, jnp.minimum(member, n - 1)
        owner = jnp.minimum(which // n, universes - 1)
        line = owner * n + member
        values = lines.at[line[one], member[other]].get(mode="promise_in_bounds")
        scale = scales.at[line].get(mode="promise_in_bounds")
        rho = scaled(values, scale[one], scale[other], kind)
        distance = jnp.where(there[one] & there[other], to_distance(rho), jnp.inf)
        table = jnp.full((rows, rows, lanes), jnp.inf, distance.dtype)
        for pair in ((one, other), (other, one)):
            table = table.at[pair].set(distance, mode="promise_in_bounds", unique_indices=True)
        into = _merge_lanes(table, stop[owner], linkage)
        into = jnp.take_along_axis(member, into, axis=0)
        return root.at[owner, jnp.where(there, member, n)].set(into, mode="drop")

    return in_turns((chosen & (parts.first == asset)).reshape(-1), lanes, merge, root)


class _Lanes(NamedTuple):
    """What `_merge_lanes` goes through.

    Attributes:
        table: (M, M, L) distances, infinite where there is no cluster.
        sizes: (M, L) assets of each cluster.
        root: (M, L) first row of each row's cluster.
        keeps: (L,) the first row of the last merge, M if there was none. The table is the one before that merge, so
            that the loop materialises the union's distances before they go to the table's entries.
        goes: (L,) the row that it absorbed.
        union: (M, L) distances from their union.
        on: (L,) whether there was a merge.
    """

    table: Array
    sizes: Array
    root: Array
    keeps: Array
    goes: Array
    union: Array
    on: Array


def _merge_lanes(table: Array, stop: Array, linkage: str) -> Array:
    """Merge the nearest two clusters until they are farther apart than ``stop`` (L,).

    Args:
        table: (M, M, L) distances, symmetric up to rounding; infinite on the diagonal and where there is no asset.
        stop: (L,).
        linkage: as in `threshold_roots`.

    Returns:
        (M, L) int32, the first row of each row's cluster.
    """
    rows, _, lanes = table.shape
    row = jnp.arange(rows, dtype=jnp.int32)[:, None]

    def first(holds: Array) -> Array:
        return jnp.min(jnp.where(holds, row, rows - 1), axis=0)

    def pick(holds: Array, table: Array) -> Array:
        return jnp.min(jnp.where(holds[:, None], table, jnp.inf), axis=0)

    def merge(state: _Lanes) -> _Lanes:
        kept, gone = row == state.keeps, row == state.goes
        table = jnp.where(kept[:, None], state.union[None], jnp.where(kept[None], state.union[:, None], state.table))
        table = jnp.where(gone[:, None] | gone[None], jnp.inf, table)
        nearest = jnp.min(table, axis=0)
        height = jnp.min(nearest, axis=0)
        on = height <= stop
        one = first(nearest == height)
        from_one = pick(row == one, table)
        two = first(from_one == jnp.min(from_one, axis=0))  # `height`, up to rounding
        from_two = pick(row == two, table)
        n_one, n_two = (jnp.sum(jnp.where(row == which, state.sizes, 0), axis=0) for which in (one, two))
        union = lance_williams(from_one, from_two, n_one, n_two, state.sizes, height, linkage)
        keeps, goes = jnp.minimum(one, two), jnp.maximum(one, two)
        return _Lanes(
            table=table,
            sizes=jnp.where((row == keeps) & on, n_one + n_two, state.sizes),
            root=jnp.where(on & (state.root == goes), keeps, state.root),
            keeps=jnp.where(on, keeps, rows),
            goes=jnp.where(on, goes, rows),
            union=jnp.where(row == keeps, jnp.inf, union),
            on=on,
        )

    everywhere = jnp.ones((rows, lanes), table.dtype)
    nothing = jnp.full(lanes, rows, jnp.int32)
    root = jnp.broadcast_to(row, (rows, lanes))
    start = _Lanes(
        table=table,
        sizes=everywhere,
        root=root,
        keeps=nothing,
        goes=nothing,
        union=everywhere,
        on=jnp.ones(lanes, bool),
    )
    return lax.while_loop(lambda state: jnp.any(state.on), merge, start).root
