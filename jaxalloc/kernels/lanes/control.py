"""Universes as lanes: the last axis of every array, where a processor's vector units run.

`jax.vmap` puts the axis of universes first, and XLA's CPU backend then works on short rows of one universe after the
other. The solvers of Layer 1 are written with lanes last instead: the same step for many universes side by side, each
reduction over a leading axis. That is also what keeps a universe's bits from hanging on its lane. (With universes first
and few clusters LLVM vectorises over universes with strided loads, and leaves the last lanes to scalar code that rounds
otherwise: measured.)

Arrays here have shape (K, ..., L), numbers (L,); without lanes the same code serves one universe, (K, ...) and ().
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import Array, lax

State = TypeVar("State")
Problem = TypeVar("Problem")

_WIDE = 512  # lanes: no tile of a CPU has as many, also where several problems' are put side by side
_GROUP = 8  # lanes of a group at least, a processor's vector of float64; where this part of all is more, as many:
_SHARE = 8


def while_any(more: Callable[[State], Array], body: Callable[[State], State], state: State) -> State:
    """`lax.while_loop` for every lane by itself: it runs as long as any lane wants more, and the others stay put.

    Args:
        more: from the state to (L,) bool.
        body: from the state to the next.
        state: pytree of arrays (..., L).
    """

    def step(carry: tuple[State, Array]) -> tuple[State, Array]:
        state, on = carry
        state = choose(on, body(state), state)
        return state, on & more(state)

    return lax.while_loop(lambda carry: jnp.any(carry[1]), step, (state, more(state)))[0]


def change_where(wanted: Array, change: Callable[[State, Array], State], state: State) -> State:
    """``change`` in the lanes where it is wanted: a loop of at most one turn, and of none where no lane wants it.

    Args:
        wanted: (L,) bool.
        change: from the state and ``wanted`` to the next state. It must use one of them: XLA would take what depends on
            neither for a constant, and compute it before the loop, for all.
        state: pytree of arrays (..., L).
    """

    def turn(carry: tuple[State, Array]) -> tuple[State, Array]:
        return change(*carry), jnp.zeros_like(carry[1])

    return while_any(lambda carry: carry[1], turn, (state, wanted))[0]


def in_groups(
    wanted: Array,
    work: Callable[[Problem, State, Array], State],
    problem: Problem,
    state: State,
    share: int = _SHARE,
) -> State:
    """``work`` in the lanes where it is wanted, gathered into groups of few lanes; where none wants it it is not done.

    For what few lanes of a tile need, and what would take as long for one of them as for all.

    Args:
        wanted: (L,) bool.
        work: from the problem and the state of a group's lanes, and which of them count, to their next state.
        problem: pytree of arrays (..., L) that stay as they are; or (..., L / P), the same for P lanes of the state, as
            many lanes apart.
        state: pytree of arrays (..., L).
        share: a group has one in so many of the lanes, if they are an accelerator's: more where fewer want it.
    """
    lanes = wanted.shape[0]
    if one_group(lanes):
        problem = jax.tree.map(lambda leaf: jnp.concatenate([leaf] * (lanes // leaf.shape[-1]), axis=-1), problem)
        return change_where(wanted, lambda state, wanted: work(problem, state, wanted), state)

    width = max(_GROUP, lanes // (share if is_wide(lanes) else _SHARE))

    def turn(carry: tuple[State, Array]) -> tuple[State, Array]:
        state, left = carry
        place = jnp.cumsum(left, dtype=jnp.int32)
        # the lane that is the j-th of those left, or one past the last
        if is_wide(lanes):  # of many, comparisons would be the square
            chosen = _numbers(left, place, width)
        else:
            chosen = jnp.sum(place[:, None] <= jnp.arange(width, dtype=jnp.int32), axis=0, dtype=jnp.int32)

        def gather(values: Any) -> Any:
            some = jnp.minimum(chosen, lanes - 1)
            return jax.tree.map(lambda leaf: jnp.take(leaf, some % leaf.shape[-1], axis=-1, mode="clip"), values)

        done = work(gather(problem), gather(state), chosen < lanes)
        state = jax.tree.map(lambda leaf, new: leaf.at[..., chosen].set(new, mode="drop"), state, done)
        return state, left.at[chosen].set(False, mode="drop")

    return lax.while_loop(lambda carry: jnp.any(carry[1]), turn, (state, wanted))[0]


def one_group(lanes: int) -> bool:
    """Whether `in_groups` would take so many lanes together."""
    return lanes <= _GROUP


def is_wide(lanes: int) -> bool:
    """Whether a tile is an accelerator's: so wide that some of its lanes want whatever lanes may want."""
    return lanes >= _WIDE


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
    # more than one turn takes: where one takes all, XLA would take the work for a constant and do it before the loop
    room = width * (1 + -(-items // width))
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
    """`lax.fori_loop` from 0 to ``count``, two steps a turn: half as many kernels for a CPU to start."""
    state = lax.fori_loop(0, count // 2, lambda j, now: step(2 * j + 1, step(2 * j, now)), state)
    return step(jnp.int32(count - 1), state) if count % 2 else state


def over_steps(count: int, step: Callable[[Array, State], State], state: State, wide: bool) -> State:
    """`lax.fori_loop` from 0 to ``count`` for a step that reads all over what it changes.

    Args:
        count: of steps.
        step: from its number and the state to the next state.
        state: pytree of arrays.
        wide: whether they are of an accelerator's tile. XLA copies there each new state to where the last one was; of
            two steps a turn the second one writes there.
    """
    return over_pairs(count, step, state) if wide else lax.fori_loop(0, count, step, state)
