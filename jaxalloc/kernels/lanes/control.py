"""Universes as lanes: the last axis of every array, where a processor's vector units run.

`jax.vmap` puts the axis of universes first, and a CPU then works on short rows of one universe after the other. The
kernels here put lanes last instead: the same step for many universes side by side, each reduction over a leading axis.
That also keeps a universe's bits from depending on its lane. (With universes first and few clusters the compiler
vectorises over universes with strided loads, and leaves the last lanes to scalar code that rounds differently:
measured.)

No kernel reduces across lanes, with two exceptions: a loop asks whether any lane wants another turn, and `in_turns`
packs items that want the same work. (What needs the number of its turn gets it from the loop.) Nor does a kernel gather
lanes for itself: where some of them need what others do not, that is a program of its own, and the host packs the lanes
that want it (`jaxalloc.kernels.solvers.steps`).

A matrix of K rows may hold fewer that count. How many of the leading ones do is a number that a program is given, not
part of it, and its loops over rows end there.

Arrays have shape (K, ..., L), numbers (L,); without lanes the same code serves one universe, (K, ...) and ().
`jaxalloc.kernels.lanes.backend` explains what the compiler makes of a loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxalloc.kernels.lanes.backend import Backend

State = TypeVar("State")

PACKING = "packing"  # scope of the code that packs items, which may reduce across them


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


def over_pairs(count: int, step: Callable[[Array, State], State], state: State, rows: Array | None = None) -> State:
    """`lax.fori_loop` from 0 to ``count``, two steps a turn: half as many kernels to start.

    Args:
        count: of steps.
        step: from its number and the state to the next state.
        state: pytree of arrays.
        rows: () int32, or (L,), of each lane: steps from this number on change nothing, and the loop ends where that is
            so in every lane. By default all steps count.
    """

    def pair(j: Array, state: State) -> State:
        return step(2 * j + 1, step(2 * j, state))

    state = _counted(count // 2, pair, state, None if rows is None else (rows + 1) // 2)
    return step(jnp.int32(count - 1), state) if count % 2 else state


def over_steps(
    count: int, step: Callable[[Array, State], State], state: State, backend: Backend, rows: Array | None = None
) -> State:
    """`over_pairs` for a step that reads all over what it changes.

    On an accelerator it goes two steps a turn, of which the second writes where the state was before the first: no
    state is copied. On a CPU it goes one.
    """
    if backend is Backend.CPU:
        return _counted(count, step, state, rows)
    return over_pairs(count, step, state, rows)


def over_short_steps(
    count: int, step: Callable[[Array, State], State], state: State, backend: Backend, rows: Array | None = None
) -> State:
    """`over_steps` for very short steps: on a CPU their number has no sign, so that indices need no check."""
    if backend is Backend.CPU:
        return _counted(count, step, state, rows, jnp.uint32)
    return over_pairs(count, step, state, rows)


def _counted(
    count: int, step: Callable[[Array, State], State], state: State, rows: Array | None, dtype: Any = jnp.int32
) -> State:
    """`lax.fori_loop` from 0 to ``count``, or to the largest of ``rows`` if that is less."""
    end = jnp.int32(count) if rows is None else rows

    def more(carry: tuple[Array, State]) -> Array:
        number, _ = carry
        return (number < count) & jnp.any(number.astype(jnp.int32) < end)

    def turn(carry: tuple[Array, State]) -> tuple[Array, State]:
        number, state = carry
        return number + 1, step(number, state)

    return lax.while_loop(more, turn, (dtype(0), state))[1]
