"""What a universe is before anything is estimated from it, and how one is drawn: traced code, for one universe.

A universe starts as the whole panel. Each `Draw` of a study changes it in turn: which rows it holds and in what order,
which assets, returns of its own, a shock. What is drawn for universe i depends on the seed and i alone: the key is the
seed's with i folded in, and every draw names its integer or float type, so that neither the precision nor the chunk
nor the device changes it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxalloc.kernels.lanes.products import dot
from jaxalloc.kernels.moments.shock import Shock

MOST_UNIVERSES = 2**31 - 1  # they are numbered in int32
WHOLE_PANEL = -1  # the number of the universe that nothing is drawn for


class Universe(NamedTuple):
    """A universe in the making.

    Attributes:
        rows: (T,) int32, its observations in the order of time, as rows of the panel.
        length: () int32, how many of them count; the rest is padding.
        mask: (N,) bool, its assets.
        returns: (T, N) returns of its own in place of the panel's, whose rows are then meant; or None.
        shock: what its moments are put through, or None.
    """

    rows: Array
    length: Array
    mask: Array
    returns: Array | None
    shock: Shock | None


# takes the numbers of a draw, a key, the index and the universe so far
Kernel = Callable[[Any, Array, Array, Universe], Universe]


@dataclasses.dataclass(frozen=True)
class Draw:
    """One step in drawing a universe; a JAX pytree whose kernel is static.

    Attributes:
        kernel: what it does: a function of the numbers, a key, the index and the universe so far.
        numbers: pytree of arrays that the kernel wants.
        stride: () int32, how many universes in a row have the same index here.
        size: () int32, number of indices, which come round again and again; 0 where there is no end to them.
    """

    kernel: Kernel
    numbers: Any
    stride: Any
    size: Any


jax.tree_util.register_dataclass(Draw, data_fields=("numbers", "stride", "size"), meta_fields=("kernel",))


class Drawn(NamedTuple):
    """A universe as the engine takes it.

    Attributes:
        weights: (T,) observation weights: how often it holds each row.
        mask: (N,) bool, its assets that have a return in every row it holds.
        returns: (T, N) or None, as in `Universe`.
        shock: or None, as in `Universe`.
    """

    weights: Array
    mask: Array
    returns: Array | None
    shock: Shock | None


def seed_key(seed: int) -> Array:
    """Return the key of a seed, whatever generator JAX's settings name."""
    return jax.random.key(seed, impl="threefry2x32")


def draw_universe(draws: tuple[Draw, ...], seed_key: Array, index: Array, gaps: Array) -> Drawn:
    """Draw one universe.

    Args:
        draws: the steps, in order.
        seed_key: () key of the seed.
        index: () int32, the universe's number, or `WHOLE_PANEL`, for which the draws do nothing (a draw that gives
            universes their own returns cannot be left out).
        gaps: (T, N) 1.0 where the panel has no return, else 0.

    Returns:
        `Drawn`, its weights in the dtype of ``gaps``.
    """
    n_rows, n_assets = gaps.shape
    panel = whole_panel(n_rows, n_assets)
    universe = panel
    for step, draw in enumerate(draws):
        # the first draws from the seed's key as it does alone, so that a product holds the same resamples
        key = seed_key if step == 0 else jax.random.fold_in(seed_key, np.uint32(2**32 - step))
        own = jnp.maximum(index, 0) // draw.stride
        own = jnp.where(draw.size > 0, own % jnp.maximum(draw.size, 1), own)
        universe = draw.kernel(draw.numbers, jax.random.fold_in(key, own), own, universe)
    if universe.returns is None:
        universe = _unless(index == WHOLE_PANEL, universe, panel)
        gaps_held = gaps
    else:
        gaps_held = jnp.zeros(universe.returns.shape, gaps.dtype)
    position = jnp.arange(universe.rows.shape[0], dtype=jnp.int32)
    held = (position < universe.length).astype(gaps.dtype)
    weights = jnp.zeros(gaps_held.shape[0], gaps.dtype).at[universe.rows].add(held)
    complete = dot((weights > 0).astype(gaps.dtype), gaps_held) == 0
    return Drawn(weights=weights, mask=universe.mask & complete, returns=universe.returns, shock=universe.shock)


def whole_panel(n_rows: int, n_assets: int) -> Universe:
    """Return the universe that every draw starts from: all rows in order, all assets."""
    return Universe(
        rows=jnp.arange(n_rows, dtype=jnp.int32),
        length=jnp.int32(n_rows),
        mask=jnp.ones(n_assets, bool),
        returns=None,
        shock=None,
    )


def _unless(condition: Array, drawn: Universe, panel: Universe) -> Universe:
    """``drawn``, or the whole panel where ``condition`` holds."""
    if drawn.shock is not None:
        zeros = jnp.zeros_like(drawn.shock.mean)
        nothing = Shock(volatility=zeros + 1, correlation=jnp.zeros_like(drawn.shock.correlation), mean=zeros)
        panel = panel._replace(shock=nothing)
    return jax.tree.map(lambda a, b: jnp.where(condition, b, a), drawn, panel)
