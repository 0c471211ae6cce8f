"""Solvers as short lists of steps, between which lanes can be sorted.

Most problems are solved by what nearly all need, and a few need more: further blocks, larger eliminations, bounds that
bind. A program that can do all of it is slow to compile, and each tile of lanes waits for its slowest. So a solver is a
short list of *steps*, each a small program of its own. The first one starts every problem, and may be wanted again.
After a step every lane says which one it wants next, and the host packs the lanes that want the same one into dense
tiles; lanes that have not begun may share them with others that want the first step again. What a lane gets depends on
nothing but its own problem: neither on its neighbours, nor on how many rows its tile counts. (Tiles of another width
are another program, which may round otherwise, so that a step has one width for each K.)

Where no host can sort, under a caller's own `jax.jit`, `solve_all` is the same steps composed into one program.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from jaxalloc.kernels.lanes.backend import Backend, if_any
from jaxalloc.kernels.solvers.problem import Solution


class Problem(NamedTuple):
    """One problem a lane.

    Attributes:
        covariance: (K, K, L) S, symmetric positive semidefinite, positive diagonal. A row of padding has 1 on the
            diagonal and 0 elsewhere.
        excess: (K, L) e, mean return less the risk-free rate; 0 for minimum variance.
        upper: (K, L) u, of sum at least 1; 0 for a cluster that takes no part, and for padding. A lane that is 0
            altogether holds no problem and costs nothing.
        rows: () int32, how many leading rows can matter in any of the lanes; the others are padding in all of them.
    """

    covariance: Array
    excess: Array
    upper: Array
    rows: Array


class State(NamedTuple):
    """Where the solver is in every lane. Its structure, shapes and dtypes are the same after every step.

    Attributes:
        wants: (L,) int32, the number of the step that a lane wants next, from 1; 0 where it is solved.
        solution: `Solution`, (K, L) and (L,); final where nothing more is wanted.
        memory: pytree of arrays (..., L): what a later step has to know.
    """

    wants: Array
    solution: Solution
    memory: Any


class Step(NamedTuple):
    """A step of a solver at a number of clusters.

    Attributes:
        name: of the solver and the step.
        kernel: from the problem, the state and the backend, which is static, to the next state. Lanes that want another
            step, or none, cost nothing, and what comes out for them means nothing. Numbers (L,) meet vectors (K, L): it
            is traced under ``jax.numpy_rank_promotion("allow")``.
        width: lanes of a tile on a CPU: many while their matrices fit the cache, few where they wait for the slowest.
        fewer: by how much fewer lanes than problems that begin a tile has on an accelerator, once these have begun and
            few of them want the step. (Chosen by the kernels and bytes of `make gpu-ahead`.)
    """

    name: str
    kernel: Callable[[Problem, State, Backend], State]
    width: int
    fewer: int = 8


class Solver(NamedTuple):
    """A solver.

    Attributes:
        name: in words.
        steps: from K to the steps, the first of which has number 1; the same objects for the same K.
        together: from K and the number of lanes to steps for one program of all: fewer, as each takes time to compile.
        memory: from K, the number of lanes and a dtype to the memory of lanes that have not begun, all 0.
    """

    name: str
    steps: Callable[[int], tuple[Step, ...]]
    together: Callable[[int, int], tuple[Step, ...]]
    memory: Callable[[int, int, Any], Any]


def wide(size: int) -> int:
    """Lanes of a tile of what every problem needs, mostly products with its matrix (measured on a CPU)."""
    return 128 if size <= 24 else 64 if size <= 49 else 32 if size <= 100 else 4


def narrow(size: int) -> int:
    """Lanes of a tile of what few problems need, mostly eliminations (measured on a CPU)."""
    return 32 if size <= 24 else 8 if size <= 100 else 4


def blank(solver: Solver, size: int, lanes: int, dtype: Any) -> State:
    """The state of lanes that have not begun: they want the first step, and everything else is 0."""
    numbers, no = jnp.zeros(lanes, dtype), jnp.zeros(lanes, bool)
    solution = Solution(
        weights=jnp.zeros((size, lanes), dtype),
        gap=numbers,
        iterations=jnp.zeros(lanes, jnp.int32),
        altered=no,
        converged=no,
    )
    return State(wants=jnp.ones(lanes, jnp.int32), solution=solution, memory=solver.memory(size, lanes, dtype))


def whole(covariance: Array, excess: Array, upper: Array) -> Problem:
    """A problem all of whose rows count."""
    return Problem(covariance=covariance, excess=excess, upper=upper, rows=jnp.int32(upper.shape[0]))


def solve_all(solver: Solver, problem: Problem, backend: Backend) -> Solution:
    """All steps in one program: each as long as any lane wants it, and in those lanes only."""
    size, lanes = problem.upper.shape
    steps = solver.together(size, lanes)

    def turn(state: State) -> State:
        for number, step in enumerate(steps, 1):

            def change(state: State, _: Array, step: Step = step) -> State:
                return step.kernel(problem, state, backend)

            state = if_any(state.wants == number, change, state)
        return state

    start = blank(solver, size, lanes, problem.upper.dtype)
    return lax.while_loop(lambda state: jnp.any(state.wants > 0), turn, start).solution
