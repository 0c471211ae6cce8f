"""What XLA makes of a program, and the words with which kernels answer it.

This is the one page that explains the compiler. The kernels name `Backend`, `materialise`, `if_any` and the habits
below; they do not explain them again.

Computed anew
    XLA fuses a value into each place that uses it, and computes it there again. That costs time where the value is
    dear, and the copies may round differently: a maximum then equals none of the values that it was taken of. What a
    loop carries is computed once. `materialise` makes a value exist; so does any loop that carries it.
Both sides of a choice
    Under `jax.vmap` a `lax.cond` computes both branches for every universe. A loop of at most one turn computes its
    body for nobody where nobody wants it: `if_any`.
Hoisting
    XLA moves what does not depend on a loop's state out of the loop, where it is computed whether or not the loop has
    a turn. A body that must not run for nothing therefore reads its state.
Dear to compile
    Each kernel takes 10 to 20 ms to compile, and each use of a function is compiled by itself: a projection has 17
    kernels. What a program needs at several places it has at one, in a loop; sums that are not in the innermost loops
    are taken by one kernel (`jaxalloc.kernels.lanes.products.totals`).
Dear on a CPU
    An argmin or a sort of short rows costs many times a minimum and a comparison. A sum over a middle axis costs two
    to four times a loop that adds rows up. Each kernel takes time to start, so that loops go two steps a turn.
Signed indices
    JAX checks a signed index for being negative, which would count from the end. Loops whose steps are very short
    count without a sign.
Dear on an accelerator
    The start of a kernel takes microseconds whatever the number of lanes, so that groups are large. A scatter adds in
    any order, and the same universe would not have the same bits twice. A loop whose step reads all over what it
    changes copies its state each turn, unless it goes two steps a turn.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import Array, lax

State = TypeVar("State")


class Backend(enum.Enum):
    """The kind of device that a program is compiled for: a static choice.

    The entry points determine it once, the engine by its devices, `jaxalloc.allocate` under a caller's `jax.jit` by
    `backend_in_use`, and hand it down. Both kinds run anywhere and give the same portfolios to rounding, so that tests
    run an accelerator's programs on a CPU.
    """

    CPU = "cpu"
    ACCELERATOR = "accelerator"


def backend_of(platform: str) -> Backend:
    """The kind of a platform by JAX's name of it, such as ``"cpu"`` or ``"gpu"``."""
    return Backend.CPU if platform == "cpu" else Backend.ACCELERATOR


def setting(name: str) -> Any:
    """One of JAX's settings, as it is in this thread; `jax.config.values` reads all of them each time."""
    return getattr(jax.config, name)


def backend_in_use() -> Backend:
    """The kind of device on which JAX computes now: `jax.default_device`'s, or that of the default backend."""
    device = setting("jax_default_device")
    if device is None:
        return backend_of(jax.default_backend())
    return backend_of(device.split(":")[0] if isinstance(device, str) else device.platform)


def if_any(wanted: Array, change: Callable[[State, Array], State], state: State) -> State:
    """``change`` in the lanes that want it; it costs nothing where no lane does. The result is materialised.

    Args:
        wanted: (L,) bool, or what broadcasts against every leaf of the state: () for one universe.
        change: from the state and ``wanted`` to the next state. It must read one of the two (see Hoisting).
        state: pytree of arrays (..., L).
    """

    def turn(carry: tuple[State, Array]) -> tuple[State, Array]:
        state, wanted = carry
        changed = change(state, wanted)
        kept = jax.tree.map(lambda new, old: jnp.where(wanted, new, old), changed, state)
        return kept, jnp.zeros_like(wanted)

    return lax.while_loop(lambda carry: jnp.any(carry[1]), turn, (state, wanted))[0]


def materialise(values: Any) -> Any:
    """Values that are computed once, not anew for each use.

    They are carried through a loop that has no turn. XLA does not know that, because it depends on a value.

    Args:
        values: pytree of arrays, one of them of floating-point numbers.
    """
    number = next(leaf for leaf in jax.tree.leaves(values) if jnp.issubdtype(leaf.dtype, jnp.floating)).ravel()[0]

    def turn(carry: tuple[Any, Array]) -> tuple[Any, Array]:
        values, on = carry
        return jax.tree.map(lambda leaf: jnp.where(on, jnp.zeros_like(leaf), leaf), values), jnp.zeros_like(on)

    return lax.while_loop(lambda carry: carry[1], turn, (values, (number < 0) & (number > 0)))[0]
