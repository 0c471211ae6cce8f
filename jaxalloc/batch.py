"""allocate_batch(): the one place that chunks, pads and sorts universes into tiles.

A universe passes through two tiles of fixed shape. In the first (estimate) its moments and clusters are found. Then its
number of clusters K is read on the host, and it goes with others of its *K bucket* into a second tile (solve), of that
bucket's size, so that a universe with 8 clusters does not pay for 100. A part tile is padded. A tile's shape depends on
N, T, precision, the static settings and the bucket alone: the same program computes a universe whatever its company,
and its bits are the same.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxalloc.allocation import RESULT_FIELDS, Allocation, Estimates, Given, estimate, estimate_shared, solve
from jaxalloc.arrays import as_array
from jaxalloc.config import AllocationConfig, cast_config, check_config
from jaxalloc.errors import InputError
from jaxalloc.moments import SharedPanel, share_panel

MAX_BUCKETS = 8
MAX_OUTER_BYTES = (
    2**29
)  # the table of a shared panel's outer products: N = 250 and two years fit, N = 431 and ten do not
CHUNK_BYTES = 2**28  # the covariances held between the two tiles
_SOLVE_TILE = 32


def estimate_tile(n_assets: int) -> int:
    """Number of universes in an estimate tile: large enough for a matrix product, small enough for the cache."""
    return 64 if n_assets <= 128 else 32


def cluster_buckets(n_assets: int) -> tuple[int, ...]:
    """At most 8 growing sizes, the last N: a universe's clusters are padded to the smallest that holds them.

    From 8 clusters up the sizes grow by a constant factor, so that no universe pays for many times its K.

    Example:
        >>> cluster_buckets(100)
        (8, 11, 16, 24, 34, 49, 70, 100)
        >>> cluster_buckets(5)
        (5,)
    """
    if n_assets <= 8:
        return (n_assets,)
    steps = min(MAX_BUCKETS - 1, max(1, round(math.log(n_assets / 8, 1.4))))
    factor = (n_assets / 8) ** (1 / steps)
    return (*(round(8 * factor**i) for i in range(steps)), n_assets)


def default_chunk_size(n_assets: int, dtype: Any) -> int:
    """Universes in a chunk: as many tiles as keep their covariances, N^2 numbers each, within 256 MiB; 1 to 16."""
    tile = estimate_tile(n_assets)
    tile_bytes = tile * n_assets**2 * np.dtype(dtype).itemsize
    return tile * int(np.clip(CHUNK_BYTES // tile_bytes, 1, 16))


def allocate_batch(
    returns: Any,
    config: AllocationConfig | None = None,
    observation_weights: Any = None,
    asset_mask: Any = None,
    chunk_size: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Allocation:
    """Allocate many universes; a host function (it cannot be traced) that bounds memory by the chunk.

    It computes in float64 if and only if JAX's x64 mode is on. A universe whose data is bad gets the status
    `Status.INVALID` and NaN weights; the others' bits do not notice, nor does the chunk size change them.

    Args:
        returns: (B, T, N) simple returns per period, a panel for each universe; or (T, N), one panel that all share.
        config: settings; `AllocationConfig()` by default.
        observation_weights: (B, T) frequency of each row in each universe, at least 0; ones by default.
        asset_mask: (B, N) bool, the assets of each universe; all by default.
        chunk_size: universes in work at once, rounded up to whole tiles; at most, and by default, what keeps their
            covariances within 256 MiB.
        progress: called with the number of universes done since the last call.

    Returns:
        `Allocation` of NumPy arrays with a leading batch axis B.

    Raises:
        InputError: a setting is out of range, or shapes do not match.
    """
    x, weights, masks = _check_inputs(returns, observation_weights, asset_mask)
    engine = Engine(x, config, chunk_size)
    results = _empty(len(masks), engine.config, x.shape[-1], x.dtype)
    for start in range(0, len(masks), engine.chunk_size):
        part = slice(start, min(start + engine.chunk_size, len(masks)))
        own = x[part] if x.ndim == 3 else None
        for index, allocation in engine.run(weights[part], masks[part], own):
            for name in RESULT_FIELDS:
                results[name][start + index] = getattr(allocation, name)
            if progress is not None:
                progress(len(index))
    return Allocation(**results)


class Engine:
    """Settings and shared panel on the device, ready for chunk after chunk of universes.

    Attributes:
        config: settings with cast numbers.
        chunk_size: universes of a chunk, a multiple of the estimate tile.
        buckets: the sizes that clusters are padded to.
    """

    def __init__(self, returns: np.ndarray, config: AllocationConfig | None, chunk_size: int | None = None) -> None:
        """Take a shared panel (T, N), or an example (B, T, N) of the universes' own panels for its shape and dtype."""
        self.dtype = jnp.asarray(0.0).dtype
        self.config = cast_config(check_config(AllocationConfig() if config is None else config), self.dtype)
        self.n_assets = returns.shape[-1]
        self.tile = estimate_tile(self.n_assets)
        most = default_chunk_size(self.n_assets, self.dtype)
        wanted = most if chunk_size is None else chunk_size
        if not isinstance(wanted, (int, np.integer)) or isinstance(wanted, bool) or wanted < 1:
            raise InputError(f"chunk_size must be a whole number, at least 1, not {chunk_size!r}")
        self.chunk_size = min(self.tile * -(-int(wanted) // self.tile), most)
        self._capacity = most // self.tile  # tiles that are joined, whatever the chunk: see `run`
        self.buckets = cluster_buckets(self.n_assets)
        self._panel: SharedPanel | None = None
        if returns.ndim == 2:
            self._panel = _share_panel(jnp.asarray(returns, self.dtype), MAX_OUTER_BYTES)

    def run(
        self, weights: np.ndarray, masks: np.ndarray, own: np.ndarray | None = None
    ) -> Iterator[tuple[np.ndarray, Allocation]]:
        """Allocate one chunk of universes, yielding (indices, results) as tiles finish.

        Args:
            weights: (C, T) observation weights.
            masks: (C, N) bool.
            own: (C, T, N) the universes' own panels, if they share none.

        Yields:
            The positions of some universes in the chunk, and their `Allocation` of NumPy arrays.
        """
        count = len(masks)
        tiles = [self._estimate(weights, masks, own, start) for start in range(0, count, self.tile)]
        sizes = np.concatenate([np.asarray(tile.n_clusters) for tile in tiles])[:count]
        # always as many, however many there are: another number of tiles would compile another program
        chunk = _join(tuple(tiles + [tiles[0]] * (self._capacity - len(tiles))))
        del tiles
        bucket_of = np.searchsorted(self.buckets, sizes)
        pending: tuple[np.ndarray, Allocation] | None = None
        for bucket, size in enumerate(self.buckets):
            members = np.flatnonzero(bucket_of == bucket)
            for start in range(0, len(members), _SOLVE_TILE):
                index = members[start : start + _SOLVE_TILE]
                padded = np.resize(index, _SOLVE_TILE).astype(np.int32)
                solved = _solve_tile(_take(chunk, padded), self.config, size)
                if pending is not None:  # the device works on this tile while the last one is fetched
                    yield _fetch(*pending)
                pending = (index, solved)
        if pending is not None:
            yield _fetch(*pending)

    def _estimate(self, weights: np.ndarray, masks: np.ndarray, own: np.ndarray | None, start: int) -> Estimates:
        rows = np.minimum(np.arange(start, start + self.tile), len(masks) - 1)
        c, a = jnp.asarray(weights[rows], self.dtype), jnp.asarray(masks[rows])
        if self._panel is not None:
            return _estimate_shared_tile(self._panel, self.config, c, a)
        assert own is not None
        return _estimate_own_tile(jnp.asarray(own[rows], self.dtype), self.config, c, a)


@functools.partial(jax.jit, static_argnums=1)
def _share_panel(returns: jax.Array, max_outer_bytes: int) -> SharedPanel:
    return share_panel(returns, max_outer_bytes)


@jax.jit
def _estimate_shared_tile(
    panel: SharedPanel, config: AllocationConfig, weights: jax.Array, masks: jax.Array
) -> Estimates:
    return jax.vmap(estimate_shared, in_axes=(None, None, 0, 0))(panel, config, weights, masks)


@jax.jit
def _estimate_own_tile(returns: jax.Array, config: AllocationConfig, weights: jax.Array, masks: jax.Array) -> Estimates:
    return jax.vmap(estimate, in_axes=(0, None, 0, 0, None))(returns, config, weights, masks, Given())


@jax.jit
def _join(tiles: tuple[Estimates, ...]) -> Estimates:
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *tiles)


@jax.jit
def _take(chunk: Estimates, index: jax.Array) -> Estimates:
    return jax.tree.map(lambda leaf: leaf[index], chunk)


@functools.partial(jax.jit, static_argnums=2)
def _solve_tile(estimates: Estimates, config: AllocationConfig, n_clusters: int) -> Allocation:
    return jax.vmap(solve, in_axes=(0, None, None))(estimates, config, n_clusters)


def _fetch(index: np.ndarray, allocation: Allocation) -> tuple[np.ndarray, Allocation]:
    return index, jax.tree.map(lambda leaf: np.asarray(leaf)[: len(index)], allocation)


def _check_inputs(returns: Any, observation_weights: Any, asset_mask: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Arrays of matching shapes: returns, weights (B, T), masks (B, N)."""
    dtype = jnp.asarray(0.0).dtype
    x = np.asarray(as_array("returns", returns), dtype)
    if x.ndim not in (2, 3):
        raise InputError(f"returns must have shape (B, T, N), or (T, N) for one shared panel, not {x.shape}")
    if 0 in x.shape[-2:]:
        raise InputError(f"returns must have at least one observation and one asset, not shape {x.shape}")
    weights, masks = observation_weights, asset_mask
    weights = None if weights is None else np.asarray(as_array("observation_weights", weights), dtype)
    masks = None if masks is None else np.asarray(as_array("asset_mask", masks), bool)
    if x.ndim == 2 and weights is None and masks is None:
        raise InputError("returns (T, N) are one panel: give observation_weights (B, T) or asset_mask (B, N) with it")
    count = next(len(array) for array in (x if x.ndim == 3 else None, weights, masks) if array is not None)
    weights = np.ones((count, x.shape[-2]), dtype) if weights is None else weights
    masks = np.ones((count, x.shape[-1]), bool) if masks is None else masks
    for name, array, length in (("observation_weights", weights, x.shape[-2]), ("asset_mask", masks, x.shape[-1])):
        if array.shape != (count, length):
            raise InputError(f"{name} must have shape {(count, length)} to match the rest, not {array.shape}")
    return x, weights, masks


def _empty(count: int, config: AllocationConfig, n_assets: int, dtype: Any) -> dict[str, np.ndarray]:
    """Arrays for ``count`` results."""
    n_profiles = len(config.profiles)
    shapes = {
        "cluster_labels": ((n_assets,), np.int32),
        "n_clusters": ((), np.int32),
        "lead_assets": ((n_profiles, n_assets), np.int32),
        "aggressors": ((n_assets,), bool),
        "antifragility": ((n_assets,), dtype),
        "iterations": ((n_profiles,), np.int32),
        "status": ((n_profiles,), np.int32),
    }
    by_asset = ("weights", "cluster_weights", "risk_contributions")
    for name in RESULT_FIELDS:
        shape = (n_profiles, n_assets) if name in by_asset else (n_profiles,)
        shapes.setdefault(name, (shape, dtype))
    return {name: np.empty((count, *shape), kind) for name, (shape, kind) in shapes.items()}
