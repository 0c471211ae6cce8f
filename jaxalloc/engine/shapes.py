"""How many universes are computed together: tiles, parts of a chunk, and the sizes that clusters are padded to."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from jaxalloc.kernels.lanes.backend import Backend

MAX_BUCKETS = 8
# of the table of a shared panel's outer products: N = 250 and two years fit, N = 431 and ten years do not
MAX_OUTER_BYTES = 2**29

# on a CPU
CHUNK_BYTES = 2**28  # of the covariances held between estimate and solve tiles
_MOST_UNIVERSES = 2048  # of a part of a chunk
_NEAR_BYTES = 2**20  # a larger table of outer products does not stay in the near cache: then more are drawn at once
_MOST_DRAWN = 128  # universes drawn at once
_PRODUCT_BYTES = 2**24  # of the products of the universes drawn at once

# on an accelerator
_FEWEST_LANES = 512
_MOST_LANES = 2**18
_MOST_TILES = 8  # solve tiles of a part
_HOST_BYTES = 2**31  # of a part's results, on their way to the host


class Tiles(NamedTuple):
    """How many universes are computed together, on each device.

    Attributes:
        draw: universes drawn at once, whose products are one matrix product; a multiple of ``estimate``.
        estimate: universes that a part of a chunk is filled up to a multiple of.
        observe: universes of which moments and clusters are found at once, a divisor of ``estimate``.
        capacity: universes of a part of a chunk, a multiple of ``draw``.
        solve: universes of a solve tile, by the size that clusters are padded to.
        turns: solve tiles that a program goes through in a call, by that size.
    """

    draw: int
    estimate: int
    observe: int
    capacity: int
    solve: dict[int, int]
    turns: dict[int, int]


def tiles(
    n_assets: int,
    dtype: Any,
    backend: Backend = Backend.CPU,
    memory: int | None = None,
    table_bytes: int = 0,
) -> Tiles:
    """Choose the tiles: large enough for a matrix product, small enough for the cache.

    A part of a chunk holds as many tiles as keep its covariances, N^2 numbers each, within 256 MiB, and at most 2,048
    universes. On an accelerator a solve tile has as many lanes as keep its covariances within a 32nd of the memory, a
    power of two up to 2^18; a part has up to eight of them, within an eighth of the memory, and as many as keep
    the results of four profiles within about 2 GiB on the host.

    Args:
        n_assets: N.
        dtype: float32 or float64.
        backend: the kind of device.
        memory: bytes of the device's memory, if known.
        table_bytes: size of a shared panel's table of outer products.
    """
    each = n_assets**2 * np.dtype(dtype).itemsize
    buckets = cluster_buckets(n_assets)
    turns = {k: _turns(k) for k in buckets}
    if backend is Backend.CPU:
        # few covariances fit the cache, so that moments and clusters are computed for few universes at once
        tile, few = (64, 64) if n_assets <= 48 else (64, 16) if n_assets <= 128 else (32, 8)
        capacity = tile * int(np.clip(CHUNK_BYTES // (tile * each), 1, _MOST_UNIVERSES // tile))
        # a table that does not fit is fetched and packed for each product: the more universes share that, the better
        shared = min(_PRODUCT_BYTES // (each // 2), capacity, _MOST_DRAWN) if table_bytes > _NEAR_BYTES else tile
        draw = tile << max((shared // tile).bit_length() - 1, 0)
        return Tiles(
            draw=draw,
            estimate=tile,
            observe=few,
            capacity=capacity // draw * draw,
            solve={k: _lanes(k) for k in buckets},
            turns=turns,
        )
    budget = 2**30 if memory is None else memory // 8
    lanes = _power_of_two(budget // (4 * each), _FEWEST_LANES, _MOST_LANES)
    tile = lanes // 4
    results = 16 * n_assets * np.dtype(dtype).itemsize  # of a universe with four profiles, about
    capacity = lanes * int(np.clip(min(budget // each, _HOST_BYTES // results) // lanes, 1, _MOST_TILES))
    return Tiles(
        draw=tile,
        estimate=tile,
        observe=tile,
        capacity=capacity,
        solve=dict.fromkeys(buckets, lanes),
        turns=dict.fromkeys(buckets, 1),
    )


def _power_of_two(number: int, least: int, most: int) -> int:
    """The largest power of two up to ``number``, but within two others."""
    return int(np.clip(2 ** (max(number, 1).bit_length() - 1), least, most))


def _lanes(n_clusters: int) -> int:
    """Universes of a solve tile on a CPU, where they are lanes.

    The fewer the clusters, the more universes it takes to pay for the start of a step, and the more matrices a cache
    holds.
    """
    if n_clusters <= 24:
        return 128
    return 64 if n_clusters <= 49 else 32 if n_clusters <= 100 else 8


def _turns(n_clusters: int) -> int:
    """Solve tiles of a call: many where they take no time, few where an interruption would have to wait for them."""
    return int(np.clip(1000 // n_clusters, 1, 8))


def chunk_bytes(n_assets: int, n_profiles: int, dtype: Any, n_rows: int = 0) -> int:
    """Memory that a universe of a chunk takes between its first tile and the host: estimates and results, in bytes.

    The covariance, N^2 numbers, is nearly all of it. With P profiles: N^2 + 3 N + P (3 N + 5) numbers of the dtype,
    2 N + P (N + 2) + 2 of 4 bytes, 2 N + 2 of one; and T of one for studies that ask which rows were left out.

    Args:
        n_assets: N.
        n_profiles: P.
        dtype: float32 or float64.
        n_rows: T where left-out rows are kept.

    Example:
        >>> chunk_bytes(100, 4, "float64")
        94802
    """
    numbers = n_assets**2 + 3 * n_assets + n_profiles * (3 * n_assets + 5)
    integers = 2 * n_assets + n_profiles * (n_assets + 2) + 2
    return numbers * np.dtype(dtype).itemsize + 4 * integers + 2 * n_assets + 2 + n_rows


def cluster_buckets(n_assets: int) -> tuple[int, ...]:
    """At most 8 growing sizes, the last N: a universe's clusters are padded to the smallest that holds them.

    From 8 clusters up their steps grow, slowly enough that neither the few clusters of a market of groups nor the many
    of single stocks are padded to many times their number.

    Example:
        >>> cluster_buckets(100)
        (8, 13, 22, 34, 48, 64, 81, 100)
        >>> cluster_buckets(5)
        (5,)
    """
    if n_assets <= 8:
        return (n_assets,)
    steps = min(MAX_BUCKETS - 1, max(1, round(math.log(n_assets / 8, 1.4))))
    return tuple(round(8 + (n_assets - 8) * (i / steps) ** 1.5) for i in range(steps + 1))
