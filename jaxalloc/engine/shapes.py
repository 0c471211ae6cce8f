"""Canonical sizes, and how many universes a stage computes together on each kind of device.

A program is compiled for sizes of a fixed grid, so that a new number of assets, clusters or rows mostly finds its
programs compiled. What is padded is never read: assets are masked, clusters have a bound of 0, rows a weight of 0.
"""

from __future__ import annotations

import bisect
import functools
from typing import Any, NamedTuple

import numpy as np

from jaxalloc.kernels.lanes.backend import Backend

# From 32 on steps of at most 1.34, since a covariance has the square of N, above 200 of at most 1.15. All are multiples
# of 4, a vector of float64. Few assets take no time to speak of, whatever they are padded to. Of many none is a power
# of 2: columns of such a matrix share their places in a cache, and to transpose it takes two to three times as long.
ASSETS = (
    *(20, 32, 40, 52, 64, 80, 100, 128, 160, 200),
    *(228, 252, 284, 324, 364, 404, 452, 508, 572, 644, 724, 812, 908, 1004),
)
# From 20 on steps of at most 1.5: the solvers loop over the clusters that there are, so that one dimension is padded.
CLUSTERS = (12, 20, 28, 40, 60, 88, 128, 192, 256, 320, 384, 448, 512, 640, 768, 896, 1024)
LINKED = (16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024)  # assets of large components
# of a shared panel: its products are of whole columns
ROWS = tuple(64 * 2**k // 2 * step for k in range(8) for step in (2, 3))  # 64, 96, 128, 192, ...

# of returns of a universe's own, which are gone through as far as there are any
OWN_ROWS = tuple(2048 * 16**k for k in range(4))  # on a CPU, where rows that are not there take no memory
MOVED_ROWS = tuple(256 * 4**k for k in range(8))  # where they are drawn, or go to an accelerator

# of the table of a shared panel's outer products: N = 250 and two years fit, N = 431 and ten years do not
MAX_OUTER_BYTES = 2**29
PORTFOLIOS = 4  # of a universe, described together

# on a CPU
CHUNK_BYTES = 2**28  # of the covariances of a part of a chunk
_MOST_UNIVERSES = 2048  # of a part of a chunk
_GROUPS = ((20, 512), (52, 256), (160, 128), (508, 64), (1004, 16))  # universes of a group, by the most assets
_SCALAR_GROUPS = (*_GROUPS[:3], (252, 16))  # their stages then find the covariances in the cache that cores share
_LEAST_GROUP = 8
WEIGHTS_BYTES = 2**26  # of the weights of the rows in a group's universes: at N = 20, up to 16,384 rows in float64
_MEASURED_BYTES = 2**26  # of the returns of portfolios that are measured at once
_SIMULATED_BYTES = 2**27  # of the returns of a group's universes, where they are drawn
_OWN_FEW = 4  # universes with returns of their own that are observed at once
# a universe whose rows are no more than such a share of its panel is observed by these rows, where they can be fewer
# than the smallest size of a program: 252 rows of 1,100 took 0.7 of the time at 20 assets, and 0.4 at 100
_WINDOW_SHARE = 4
_WINDOW_BYTES = 2**18  # of the returns of windows that are observed at once, where they are copied and cubed

# on an accelerator
_FEWEST_LANES = 512
_MOST_LANES = 2**18
_MOST_TILES = 8  # groups of a part
_FEWER_TABLES = 8  # of large components are merged at once than a group has universes
_OWN_BYTES = 2**24  # of the returns of universes that are observed at once, where each has its own
_HOST_BYTES = 2**31  # of a part's results, on their way to the host


def canonical(size: int, grid: tuple[int, ...]) -> int:
    """The least size of a grid that holds ``size``; past its end the grid goes on by its last two octaves' steps.

    Example:
        >>> canonical(7, ASSETS), canonical(431, ASSETS), canonical(26, CLUSTERS), canonical(3000, CLUSTERS)
        (20, 452, 28, 3072)
    """
    scale = 1
    while size > grid[-1] * scale:
        scale *= 2
    return grid[bisect.bisect_left(grid, -(-size // scale))] * scale


def canonical_each(sizes: np.ndarray, grid: tuple[int, ...]) -> np.ndarray:
    """`canonical` of many sizes, of which few are different."""
    different, which = np.unique(sizes, return_inverse=True)
    return np.array([canonical(size, grid) for size in different.tolist()], int)[which]


class Sizes(NamedTuple):
    """The sizes of a part of a chunk, on one device.

    Attributes:
        rows: canonical T.
        assets: canonical N.
        group: universes that pass through the stages of assets together.
        few: of those, how many a step of such a stage takes at once; a divisor of ``group``.
        own: universes with returns of their own that are observed at once; a divisor of ``few``.
        window: rows up to which a universe's are a small piece of a shared panel; 0 where they never are.
        capacity: universes of a part, a multiple of ``group``.
    """

    rows: int
    assets: int
    group: int
    few: int
    own: int
    window: int
    capacity: int


@functools.lru_cache(maxsize=256)
def sizes_of(
    shape: tuple[int, int],
    dtype: Any,
    backend: Backend = Backend.CPU,
    memory: int | None = None,
    own_returns: bool = False,
    simulated: bool = False,
    scalar: bool = False,
) -> Sizes:
    """Choose the sizes: groups large enough for a matrix product, steps small enough for the cache.

    A part of a chunk holds as many groups as keep its covariances, N^2 numbers a universe, within 256 MiB, and at most
    2,048 universes; of more rows than N^2 numbers have bytes, as few as keep a byte for each row within it. A group of
    very many rows has as few universes as keep the weights of these within 64 MiB. On an accelerator a group has as
    many universes as keep its covariances, and its weights, within a 64th of the memory, a power of two.

    Args:
        shape: (T, N).
        dtype: float32 or float64.
        backend: the kind of device.
        memory: bytes of the device's memory, if known.
        own_returns: whether every universe has returns of its own.
        simulated: whether those are drawn, a group's at once, and so are on the device together.
        scalar: whether scalar kernels compute what they can.
    """
    on_cpu = backend is Backend.CPU
    of_rows = ROWS if not own_returns else OWN_ROWS if on_cpu and not simulated else MOVED_ROWS
    rows, assets = canonical(shape[0], of_rows), canonical(shape[1], ASSETS)
    size = np.dtype(dtype).itemsize
    each = assets**2 * size
    if on_cpu:
        # few covariances fit the cache, so that moments and clusters are computed for few universes at once; a panel's
        # table of outer products hardly does, and is fetched and packed anew for the products of each group
        few = 64 if assets <= 52 else 16 if assets <= 128 else 8 if assets <= 252 else 4 if assets <= 508 else 2
        groups = _SCALAR_GROUPS if scalar else _GROUPS
        group = next((universes for most, universes in groups if assets <= most), _LEAST_GROUP)
        # returns of their own are padded by memory that nobody touches, unless they are drawn
        weighed = shape[0] if own_returns and not simulated else rows
        group = _power_of_two(WEIGHTS_BYTES // (weighed * size), 1, group)
        if simulated:
            group = _power_of_two(_SIMULATED_BYTES // (rows * assets * size), 1, group)
        few = min(few, group)
        capacity = group * int(np.clip(CHUNK_BYTES // (group * max(each, weighed)), 1, _MOST_UNIVERSES // group))
    else:
        budget = 2**30 if memory is None else memory // 8
        few = group = _power_of_two(budget // (8 * max(each, rows * size)), _FEWEST_LANES, _MOST_LANES)
        results = 16 * assets * size  # of a universe with four profiles, about
        capacity = group * int(np.clip(min(budget // each, _HOST_BYTES // results) // group, 1, _MOST_TILES))
    most, held = (min(few, _OWN_FEW), shape[0]) if on_cpu else (few, rows)
    own = _power_of_two(_OWN_BYTES // (held * assets * size), 1, most)
    window = shape[0] // _WINDOW_SHARE if on_cpu and not own_returns else 0
    return Sizes(
        rows=rows,
        assets=assets,
        group=group,
        few=few,
        own=own,
        window=window if window >= ROWS[0] else 0,
        capacity=capacity,
    )


def windows_at_once(sizes: Sizes, rows: int, dtype: Any) -> int:
    """Windows of so many rows that are observed at once; a divisor of a group."""
    return _power_of_two(_WINDOW_BYTES // (rows * sizes.assets * np.dtype(dtype).itemsize), 1, sizes.few)


def lanes_of(width: int, backend: Backend, sizes: Sizes, fewer: int = 1) -> int:
    """Problems of a tile of a solver's step that likes ``width`` on a CPU.

    On an accelerator a tile takes as long however few it holds. All of a group's problems begin, and few want another
    step, whose tiles are smaller by ``fewer``. A problem's tiles follow from its steps, never from its company.
    """
    return width if backend is Backend.CPU else sizes.group // fewer


def turns_of(clusters: int, backend: Backend) -> int:
    """Tiles of a call: many where they take no time, few where an interruption would have to wait for them."""
    return 1 if backend is not Backend.CPU else int(np.clip(1000 // clusters, 1, 8))


def measured_at_once(sizes: Sizes, n_profiles: int, n_rows: int, dtype: Any) -> int:
    """Universes whose P portfolios are held over T rows at once, to be measured; a divisor of a group."""
    each = max(n_profiles * n_rows, 1) * np.dtype(dtype).itemsize
    return _power_of_two(_MEASURED_BYTES // each, 1, sizes.group)


def link_few(rows: int, backend: Backend, sizes: Sizes) -> int:
    """Tables of large components that are merged at once."""
    return max(2, 512 // rows) if backend is Backend.CPU else sizes.group // _FEWER_TABLES


def link_turns(backend: Backend) -> int:
    """How many times so many tables a call takes."""
    return 4 if backend is Backend.CPU else 1


def lengthened(values: np.ndarray, length: int) -> np.ndarray:
    """An array of so many rows, the last one repeated: what is padded so computes what is harmless."""
    return values[np.minimum(np.arange(length), len(values) - 1)]


def _power_of_two(number: int, least: int, most: int) -> int:
    """The largest power of two up to ``number``, but within two others."""
    return int(np.clip(2 ** (max(number, 1).bit_length() - 1), least, most))


def chunk_bytes(n_assets: int, n_profiles: int, dtype: Any, n_rows: int = 0, scalar: bool = False) -> int:
    """Memory that a universe of a chunk takes between its first stage and the host, in bytes, about.

    Two covariances of canonical size, of assets and of as many clusters, are nearly all of it. Where scalar kernels
    compute, only the universes of one group of a part have the first, and none has the second: they are not counted.

    Args:
        n_assets: N.
        n_profiles: P.
        dtype: float32 or float64.
        n_rows: T where left-out rows are kept.
        scalar: whether scalar kernels compute.

    Example:
        >>> chunk_bytes(100, 4, "float64"), chunk_bytes(100, 4, "float64", scalar=True)
        (230770, 19698)
    """
    assets, clusters = canonical(n_assets, ASSETS), canonical(n_assets, CLUSTERS)
    squares = 0 if scalar else assets**2 + clusters**2
    numbers = squares + 4 * (assets + clusters) + n_profiles * (3 * n_assets + 5)
    integers = 2 * n_assets + n_profiles * (n_assets + 2) + 2
    return numbers * np.dtype(dtype).itemsize + 4 * integers + 2 * n_assets + 2 + n_rows
