"""A function of one universe, made of a kernel over many: universes become lanes, whatever `jax.vmap` is around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_batching import custom_vmap


def lanes_last(kernel: Callable[..., Any], shared: int = 0) -> Callable[..., Any]:
    """Make a function of one universe of a kernel over lanes.

    Args:
        kernel: takes arrays with lanes as their last axis, and returns a pytree of such. What it computes in a lane
            may not depend on the others.
        shared: how many of its first arguments are of all universes, and have no lanes.

    Returns:
        The function: the same arrays without that axis. Under `jax.vmap` universes become lanes, whatever vmaps are
        around it.
    """

    def lanes_first(*arguments: Array) -> Any:
        moved = (jnp.moveaxis(argument, 0, -1) for argument in arguments[shared:])
        result = kernel(*arguments[:shared], *moved)
        return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, -1, 0), result)

    return all_at_once(lanes_first, shared)


def all_at_once(kernel: Callable[..., Any], shared: int = 0) -> Callable[..., Any]:
    """Make a function of one universe of a kernel over many; as `lanes_last`, but universes are the first axis."""

    @custom_vmap
    def many(*arguments: Array) -> Any:
        with jax.numpy_rank_promotion("allow"):  # numbers (L,) meet vectors (K, L) at every step
            return kernel(*arguments)

    @many.def_vmap
    def _(axis_size: int, batched: list[bool], *arguments: Array) -> tuple[Any, Any]:
        def with_axis(arguments: Sequence[Array], batched: list[bool]) -> list[Array]:
            return [
                argument if is_batched else jnp.broadcast_to(argument[None], (axis_size, *argument.shape))
                for argument, is_batched in zip(arguments, batched, strict=True)
            ]

        universes = with_axis(arguments[shared:], batched[shared:])
        if any(batched[:shared]):  # nothing is shared after all
            common = with_axis(arguments[:shared], batched[:shared])
            result = lax.map(lambda each: many(*each), (*common, *universes))
        else:
            result = many(*arguments[:shared], *(values.reshape(-1, *values.shape[2:]) for values in universes))
            result = jax.tree.map(lambda leaf: leaf.reshape(axis_size, -1, *leaf.shape[1:]), result)
        return result, jax.tree.map(lambda leaf: True, result)

    def one(*arguments: Array) -> Any:
        universe = (jnp.asarray(argument)[None] for argument in arguments[shared:])
        return jax.tree.map(lambda leaf: leaf[0], many(*arguments[:shared], *universe))

    return one
