"""What a universe is before anything is estimated from it, and how one is drawn: traced code, for one universe.

A universe starts as the whole panel. Each `Draw` of a study changes it in turn: which rows it holds and in what order,
which assets it has, returns of its own, or a shock. What is drawn for universe i depends on nothing but the seed and i:
its key is the seed's key with i folded in, and every draw names its integer or float type. So neither the precision nor
the chunk nor the device changes a draw.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxalloc.arguments.numbers import MOST_COUNT
from jaxalloc.kernels.lanes.products import dot
from jaxalloc.kernels.moments.shock import Shock
from jaxalloc.markets.holes import most_holes

MOST_UNIVERSES = MOST_COUNT  # universes are numbered in int32
WHOLE_PANEL = -1  # the number of the universe for which nothing is drawn


class Universe(NamedTuple):
    """A universe in the making.

    Attributes:
        rows: (T,) int32, its observations in the order of time, as rows of the panel or of ``returns``.
        length: () int32, how many of the rows count; the rest is padding.
        mask: (N,) bool, its assets.
        returns: (T, N) returns of its own in place of the panel's; None if it has none.
        shock: the shock to its moments; None if there is none.
    """

    rows: Array
    length: Array
    mask: Array
    returns: Array | None
    shock: Shock | None


# a function of the numbers of a draw, a key, the index and the universe so far
Kernel = Callable[[Any, Array, Array, Universe], Universe]


@dataclasses.dataclass(frozen=True)
class Draw:
    """One step in drawing a universe; a JAX pytree whose kernel is static.

    Attributes:
        kernel: the function that draws.
        numbers: pytree of arrays, the kernel's first argument.
        stride: () int32, how many consecutive universes have the same index in this step.
        size: () int32, number of indices, after which they start again from 0; 0 if they are unlimited.
        anew: () int32, after how many consecutive universes the same indices draw something else; None if never.
    """

    kernel: Kernel
    numbers: Any
    stride: Any
    size: Any
    anew: Any = None


jax.tree_util.register_dataclass(Draw, data_fields=("numbers", "stride", "size", "anew"), meta_fields=("kernel",))


class Drawn(NamedTuple):
    """A universe as the engine takes it.

    Attributes:
        weights: (T,) observation weights: how often the universe holds each row.
        mask: (N,) bool, those of its assets that have a return in every row that it holds, but for a share of them.
        returns: (T, N) or None, as in `Universe`.
        shock: as in `Universe`.
    """

    weights: Array
    mask: Array
    returns: Array | None
    shock: Shock | None


def seed_key(seed: int) -> Array:
    """Return the key of a seed; JAX's settings do not change its generator."""
    return jax.random.key(seed, impl="threefry2x32")


def draw_universe(
    draws: tuple[Draw, ...], seed_key: Array, index: Array, gaps: Array, max_missing: Array | float = 0.0
) -> Drawn:
    """Draw one universe.

    Args:
        draws: the steps, in order.
        seed_key: () key of the seed.
        index: () int32, the universe's number, or `WHOLE_PANEL`, for which the draws change nothing. (A draw that gives
            universes returns of their own always applies.)
        gaps: (T, N) weight of a missing return, 0 where the panel has one (see `jaxalloc.markets.holes.Gaps`).
        max_missing: () share of a universe's rows that an asset's gaps may weigh.

    Returns:
        `Drawn`, its weights in the dtype of ``gaps``.
    """
    n_rows, n_assets = gaps.shape
    panel = whole_panel(n_rows, n_assets)
    universe = panel
    for step, draw in enumerate(draws):
        # the first step draws from the seed's own key, so that a product has the same resamples as its first factor
        key = seed_key if step == 0 else jax.random.fold_in(seed_key, np.uint32(2**32 - step))
        if draw.anew is not None:
            key = jax.random.fold_in(key, jnp.maximum(index, 0) // draw.anew)
        turn = jnp.maximum(index, 0) // draw.stride
        turn = jnp.where(draw.size > 0, turn % jnp.maximum(draw.size, 1), turn)
        universe = draw.kernel(draw.numbers, jax.random.fold_in(key, turn), turn, universe)
    if universe.returns is None:
        universe = _unless(index == WHOLE_PANEL, universe, panel)
        gaps_held = gaps
    else:
        gaps_held = jnp.zeros(universe.returns.shape, gaps.dtype)
    position = jnp.arange(universe.rows.shape[0], dtype=jnp.int32)
    held = (position < universe.length).astype(gaps.dtype)
    weights = jnp.zeros(gaps_held.shape[0], gaps.dtype).at[universe.rows].add(held)
    most = most_holes(max_missing, jnp.sum(weights), float(jnp.finfo(gaps.dtype).eps))
    complete = dot(weights, gaps_held) <= most
    return Drawn(weights=weights, mask=universe.mask & complete, returns=universe.returns, shock=universe.shock)


def whole_panel(n_rows: int, n_assets: int) -> Universe:
    """Return the universe that every draw starts from: all rows of the panel, in order, and all assets."""
    rows = jnp.arange(n_rows, dtype=jnp.int32)
    return Universe(rows=rows, length=jnp.int32(n_rows), mask=jnp.ones(n_assets, bool), returns=None, shock=None)


def _unless(condition: Array, drawn: Universe, panel: Universe) -> Universe:
    """``drawn``, or the whole panel where ``condition`` holds."""
    if drawn.shock is not None:
        zeros = jnp.zeros_like(drawn.shock.mean)
        correlation = jnp.zeros_like(drawn.shock.correlation)
        panel = panel._replace(shock=Shock(volatility=zeros + 1, correlation=correlation, mean=zeros))
    return jax.tree.map(lambda a, b: jnp.where(condition, b, a), drawn, panel)
