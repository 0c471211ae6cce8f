"""Kernels in which universes are lanes: the last axis of every array, where a processor's vector units run.

`jax.vmap` puts the axis of universes first, and XLA's CPU backend then works on short rows of one universe after the
other. A kernel written with lanes last does the same step for many universes side by side. `lanes_last` turns one into
a function of one universe whose vmap is that kernel, whatever vmaps are around it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_batching import custom_vmap


def lanes_last(kernel: Callable[..., Any], group: int | None = None) -> Callable[..., Any]:
    """Make a function of one universe of a kernel over lanes.

    Args:
        kernel: takes arrays with lanes as their last axis, and returns a pytree of such. What it computes in a lane
            may not depend on the others.
        group: lanes to work on at once, so that they stay in the cache; all by default, and where they are no multiple.

    Returns:
        The function: the same arrays without that axis. Under `jax.vmap` universes become lanes.
    """

    @custom_vmap
    def many(*arguments: Array) -> Any:  # lanes first
        lanes = arguments[0].shape[0]
        if group is None or lanes <= group or lanes % group:
            return one_group(arguments)
        parts = tuple(a.reshape(lanes // group, group, *a.shape[1:]) for a in arguments)
        found = lax.map(one_group, parts)
        return jax.tree.map(lambda leaf: leaf.reshape(lanes, *leaf.shape[2:]), found)

    def one_group(arguments: tuple[Array, ...]) -> Any:
        found = kernel(*(jnp.moveaxis(argument, 0, -1) for argument in arguments))
        return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, -1, 0), found)

    @many.def_vmap
    def _(axis_size: int, batched: list[bool], *arguments: Array) -> tuple[Any, Any]:
        lanes = next(a.shape[1] for a, is_batched in zip(arguments, batched, strict=True) if is_batched)

        def flat(argument: Array, is_batched: bool) -> Array:
            whole = argument if is_batched else jnp.broadcast_to(argument[None], (axis_size, *argument.shape))
            return whole.reshape(axis_size * lanes, *whole.shape[2:])

        found = many(*(flat(a, is_batched) for a, is_batched in zip(arguments, batched, strict=True)))
        found = jax.tree.map(lambda leaf: leaf.reshape(axis_size, lanes, *leaf.shape[1:]), found)
        return found, jax.tree.map(lambda leaf: True, found)

    def one(*arguments: Array) -> Any:
        return jax.tree.map(lambda leaf: leaf[0], many(*(jnp.asarray(argument)[None] for argument in arguments)))

    return one
