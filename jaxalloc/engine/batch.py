"""allocate_batch(): many universes. This is how they share programs and devices.

A universe passes through *stages*, each a small program (`jaxalloc.engine.stages`). The first ones draw and observe it,
make its clusters, and pose the problems across them. They take a *group* of universes, padded to a canonical number of
assets, and go through it a few universes at a time. Then the host reads how many clusters each universe has, and sorts
the problems of many groups (`jaxalloc.engine.problems`): those of the same solver and of about as many clusters fill
dense *tiles*, so that a universe with 8 clusters does not pay for 100. After each step of a solver the host sorts
again: problems that want the same next step go on together (`jaxalloc.engine.solving`). At last the groups are
described with their solutions. Groups and tiles that are not full are padded.

The shapes of the programs depend on the canonical sizes, the precision, the kind of device and the choices that a stage
reads, and on nothing else (`jaxalloc.engine.shapes`). So the same programs compute a universe whatever its company, and
its bits are the same. (An accelerator's groups are as large as its memory allows.) For the same reason a new number of
assets, rows or clusters mostly compiles nothing, and neither does another set of profiles.

A chunk is as many groups as memory is given for. Several devices, or the cores of a CPU, share the chunk's universes
out in parts (`jaxalloc.engine.flow`). Each device has separate buffers, runs the same programs, and exchanges nothing
with the others. (A single program over all devices, by `jax.shard_map`, is compiled differently for each number of
devices, and then rounds differently: measured on CPUs.) A thread for each device works on one part after the other, of
this chunk or the next.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxalloc.arguments.arrays import as_array, cast
from jaxalloc.arguments.errors import AllocationWarning, InputError
from jaxalloc.arguments.processes import check_process
from jaxalloc.arguments.words import lowered
from jaxalloc.engine.scheduler import Engine
from jaxalloc.engine.stages import Items
from jaxalloc.markets.holes import MAX_MISSING, weigh_gaps
from jaxalloc.markets.periods import periods_of_rows
from jaxalloc.portfolios.advice import why_invalid
from jaxalloc.portfolios.inputs import leave_out, panel_of
from jaxalloc.portfolios.result import RESULT_FIELDS, Allocation, valid_universes
from jaxalloc.settings.config import AllocationConfig, check_config


def allocate_batch(
    returns: Any,
    config: AllocationConfig | None = None,
    observation_weights: Any = None,
    asset_mask: Any = None,
    chunk_size: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Allocation:
    """Allocate many universes; a host function (it cannot be traced) that bounds memory by the chunk.

    It computes in float64 if and only if JAX's x64 mode is on, on all local devices (or the one that
    `jax.default_device` chooses). A universe whose data is bad gets the status `Status.INVALID` and NaN weights; the
    others' bits do not notice, nor does the chunk size change them, nor the number of devices.

    A frame is read as `read_returns` reads returns, and a frame of prices is refused. Of a frame or a `Panel` an asset
    that lacks a return in a row of a universe is left out of that universe, and an `AllocationWarning` says so.

    Args:
        returns: (B, T, N) simple returns per period, a panel for each universe; or (T, N), one panel that all share,
            as an array, a frame or a `Panel`.
        config: settings; `AllocationConfig()` by default. Of a frame or a `Panel`, ``periods_per_year="auto"`` reads
            the dates.
        observation_weights: (B, T) frequency of each row in each universe, at least 0; ones by default.
        asset_mask: (B, N) bool, the assets of each universe; all by default.
        chunk_size: universes whose results are held at once, rounded up to whole groups; by default what keeps their
            covariances within 256 MiB for each of up to four parts (on a GPU, within an eighth of its memory).
        progress: called with the number of universes done since the last call.

    Returns:
        `Allocation` of NumPy arrays with a leading batch axis B, with the names of a frame's or a panel's assets.

    Raises:
        InputError: a setting is out of range, shapes do not match, a frame is not one of returns, or this process was
            forked after JAX had run.
    """
    check_process()
    panel = panel_of(returns, observation_weights is not None)
    gaps = None if panel is None else weigh_gaps(panel.values, MAX_MISSING)
    x, weights, masks = _check_inputs(returns if gaps is None else gaps.returns, observation_weights, asset_mask)
    config = check_config(AllocationConfig() if config is None else config)
    symbols = None
    if panel is not None and gaps is not None:
        config = periods_of_rows(config, panel.returns)
        symbols, masks = tuple(panel.symbols), leave_out(panel, gaps, weights, masks)
    engine = Engine(x.shape[-2:], config, chunk_size, panel=x if x.ndim == 2 else None)
    if len(masks) == 0:
        none = np.zeros((1, *x.shape[1:]), x.dtype) if x.ndim == 3 else None
        chunk = engine.start(Items(weights=np.zeros((1, x.shape[-2])), mask=np.zeros((1, x.shape[-1])), returns=none))
        return _named(jax.tree.map(lambda leaf: leaf[:0], chunk.allocation()), symbols, config)
    chunks = [slice(start, start + engine.chunk_size) for start in range(0, len(masks), engine.chunk_size)]
    whole: Allocation | None = None
    for chunk in chunks:
        items = Items(weights=weights[chunk], mask=masks[chunk], returns=x[chunk] if x.ndim == 3 else None)
        allocation = engine.finish(items, progress=progress)
        if whole is None:
            whole = allocation if len(chunks) == 1 else _room_like(allocation, len(masks))
        if len(chunks) > 1:
            for name in RESULT_FIELDS:
                getattr(whole, name)[chunk] = getattr(allocation, name)
    engine.leave()
    assert whole is not None
    result = _named(whole, symbols, config)
    if panel is not None and not valid_universes(result.status).any():
        why = why_invalid(panel, config, x.dtype, weights[0], masks[0])
        warnings.warn(f"nothing was allocated; in the first universe: {lowered(why)}", AllocationWarning, stacklevel=2)
    return result


def _room_like(allocation: Allocation, count: int) -> Allocation:
    """Room for the results of so many universes."""
    return jax.tree.map(lambda values: np.empty((count, *values.shape[1:]), values.dtype), allocation)


def _named(result: Allocation, symbols: tuple[str, ...] | None, config: AllocationConfig) -> Allocation:
    return dataclasses.replace(result, symbols=symbols, profiles=tuple(config.profiles))


# ---- arguments ------------------------------------------------------------------------------------------------------


def _check_inputs(returns: Any, observation_weights: Any, asset_mask: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Arrays of matching shapes: returns, weights (B, T), masks (B, N)."""
    x = cast(as_array("returns", returns), float)
    if x.ndim not in (2, 3):
        raise InputError(f"returns must have shape (B, T, N), or (T, N) for one shared panel, not {x.shape}")
    if 0 in x.shape[-2:]:
        raise InputError(f"returns must have at least one observation and one asset, not shape {x.shape}")
    weights, masks = observation_weights, asset_mask
    weights = None if weights is None else cast(as_array("observation_weights", weights), float)
    masks = None if masks is None else cast(as_array("asset_mask", masks), bool)
    if x.ndim == 2 and weights is None and masks is None:
        raise InputError("returns (T, N) are one panel: give observation_weights (B, T) or asset_mask (B, N) with it")
    count = next(len(array) for array in (x if x.ndim == 3 else None, weights, masks) if array is not None)
    weights = np.ones((count, x.shape[-2]), x.dtype) if weights is None else weights
    masks = np.ones((count, x.shape[-1]), bool) if masks is None else masks
    for name, array, length in (("observation_weights", weights, x.shape[-2]), ("asset_mask", masks, x.shape[-1])):
        if array.shape != (count, length):
            raise InputError(f"{name} must have shape {(count, length)} to match the rest, not {array.shape}")
    return x, weights, masks
