"""Universes as lanes: the last axis of every array, where a processor's vector units run.

`jax.vmap` puts the axis of universes first, and a CPU then works on short rows of one universe after the other. The
kernels here put lanes last instead: the same step for many universes side by side, each reduction over a leading axis.
That also keeps a universe's bits from depending on its lane. (With universes first and few clusters the compiler
vectorises over universes with strided loads, and leaves the last lanes to scalar code that rounds differently:
measured.)

No kernel reduces across lanes, with two exceptions, both in this module: a loop asks whether any lane wants another
turn, and `in_groups` and `in_turns` pack the lanes that want the same work. (What needs the number of its turn gets it
from the loop.)

Arrays have shape (K, ..., L), numbers (L,); without lanes the same code serves one universe, (K, ...) and ().
`jaxalloc.kernels.lanes.backend` explains what the compiler makes of a loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxalloc.kernels.lanes.backend import Backend, if_any

State = TypeVar("State")
Problem = TypeVar("Problem")

PACKING = "packing"  # scope of the code that packs lanes, which may reduce across them
_FEWEST = 8  # lanes of a group: a processor's vector of float64
_SHARE = 8  # a group has at least one in so many of the lanes


def while_any(
    more: Callable[[Array, State], Array], body: Callable[[Array, State], State], state: State, first: int = 0
) -> State:
    """`lax.while_loop` for every lane by itself: it runs as long as any lane wants more, and the others stay put.

    Args:
        more: from the number of the turn to come, () int32, and the state to (L,) bool. All lanes that want more have
            had as many turns.
        body: from the number of the turn and the state to the next state.
        state: pytree of arrays (..., L).
        first: number of the first turn.
    """

    def step(carry: tuple[Array, State, Array]) -> tuple[Array, State, Array]:
        turn, state, on = carry
        state = choose(on, body(turn, state), state)
        return turn + 1, state, on & more(turn + 1, state)

    turn = jnp.int32(first)
    return lax.while_loop(lambda carry: jnp.any(carry[2]), step, (turn, state, more(turn, state)))[1]


def in_groups(
    wanted: Array,
    work: Callable[[Problem, State, Array], State],
    problem: Problem,
    state: State,
    backend: Backend,
    share: int = _SHARE,
) -> State:
    """``work`` in the lanes that want it, packed into groups of few lanes; where none wants it no work is done.

    For what few lanes of a tile need, and what takes as long for one lane as for all.

    Args:
        wanted: (L,) bool.
        work: from the problem and the state of a group's lanes, and which of them count, to their next state.
        problem: pytree of arrays (..., L) that stay as they are; or (..., L / P), where P lanes of the state, L / P
            apart, have the same problem.
        state: pytree of arrays (..., L).
        backend: static.
        share: on an accelerator a group has one in so many of the lanes: more where fewer lanes want it.
    """
    lanes = wanted.shape[0]
    if is_one_group(lanes):
        problem = jax.tree.map(lambda leaf: jnp.concatenate([leaf] * (lanes // leaf.shape[-1]), axis=-1), problem)
        return if_any(wanted, lambda state, wanted: work(problem, state, wanted), state)

    width = max(_FEWEST, lanes // (_SHARE if backend is Backend.CPU else share))

    def turn(carry: tuple[State, Array]) -> tuple[State, Array]:
        state, left = carry
        chosen = _first_lanes(left, width, backend)

        def gather(values: Any) -> Any:
            lane = jnp.minimum(chosen, lanes - 1)
            return jax.tree.map(lambda leaf: jnp.take(leaf, lane % leaf.shape[-1], axis=-1, mode="clip"), values)

        done = work(gather(problem), gather(state), chosen < lanes)
        state = jax.tree.map(lambda leaf, new: leaf.at[..., chosen].set(new, mode="drop"), state, done)
        return state, left.at[chosen].set(False, mode="drop")

    return lax.while_loop(lambda carry: jnp.any(carry[1]), turn, (state, wanted))[0]


def is_one_group(lanes: int) -> bool:
    """Whether `in_groups` takes so many lanes together."""
    return lanes <= _FEWEST


def _first_lanes(wanted: Array, width: int, backend: Backend) -> Array:
    """(width,) int32, the first lanes that are wanted (L,), in order; then L, or more, where there are no more."""
    with jax.named_scope(PACKING):
        place = jnp.cumsum(wanted, dtype=jnp.int32)
        if backend is Backend.CPU:  # of an accelerator's many lanes comparisons would be the square
            return jnp.sum(place[:, None] <= jnp.arange(width, dtype=jnp.int32), axis=0, dtype=jnp.int32)
        return _numbers(wanted, place, width)


def in_turns(wanted: Array, width: int, work: Callable[[Array, State], State], state: State) -> State:
    """``work`` on the items that are wanted, some at a time.

    Args:
        wanted: (M,) bool.
        width: items of a turn.
        work: from the numbers (width,) int32 of a turn's items, in order and M where there are no more, and the state
            to the next state.
        state: pytree of arrays.
    """
    items = wanted.shape[0]
    # room for one turn more than all items take: otherwise the work of a single turn is hoisted out of the loop
    room = width * (1 + -(-items // width))
    with jax.named_scope(PACKING):
        place = jnp.cumsum(wanted, dtype=jnp.int32)
        numbers = _numbers(wanted, place, room)

    def turn(carry: tuple[State, Array]) -> tuple[State, Array]:
        state, done = carry
        return work(lax.dynamic_slice_in_dim(numbers, done, width), state), done + width

    return lax.while_loop(lambda carry: carry[1] < place[-1], turn, (state, jnp.int32(0)))[0]


def _numbers(wanted: Array, place: Array, room: int) -> Array:
    """(room,) int32 numbers of the items that are wanted (M,), in order, and M where there are no more.

    ``place`` is how many are wanted up to each.
    """
    items = wanted.shape[0]
    number = jnp.arange(items, dtype=jnp.int32)
    return jnp.full(room, items, jnp.int32).at[jnp.where(wanted, place - 1, room)].set(number, mode="drop")


def choose(condition: Array, yes: State, no: State) -> State:
    """`jnp.where` lane by lane, for pytrees of arrays (..., L) and a condition (L,)."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def over_pairs(count: int, step: Callable[[Array, State], State], state: State) -> State:
    """`lax.fori_loop` from 0 to ``count``, two steps a turn: half as many kernels to start."""
    state = lax.fori_loop(0, count // 2, lambda j, now: step(2 * j + 1, step(2 * j, now)), state)
    return step(jnp.int32(count - 1), state) if count % 2 else state


def over_steps(count: int, step: Callable[[Array, State], State], state: State, backend: Backend) -> State:
    """`lax.fori_loop` from 0 to ``count`` for a step that reads all over what it changes.

    On an accelerator it goes two steps a turn, of which the second writes where the state was before the first: no
    state is copied.

    Args:
        count: of steps.
        step: from its number and the state to the next state.
        state: pytree of arrays.
        backend: static.
    """
    if backend is Backend.CPU:
        return lax.fori_loop(0, count, step, state)
    return over_pairs(count, step, state)


def over_short_steps(count: int, step: Callable[[Array, State], State], state: State, backend: Backend) -> State:
    """`over_steps` for very short steps: on a CPU their number has no sign, so that indices need no check."""
    if backend is not Backend.CPU:
        return over_pairs(count, step, state)

    def turn(carry: tuple[Array, State]) -> tuple[Array, State]:
        number, state = carry
        return number + 1, step(number, state)

    most = jnp.uint32(count)
    return lax.while_loop(lambda carry: carry[0] < most, turn, (jnp.uint32(0), state))[1]
