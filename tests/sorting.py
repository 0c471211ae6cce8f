"""A host that sorts, as the engine does: lanes that want the same step of a solver, packed into tiles of its width."""

from __future__ import annotations

import functools
from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from helpers import Array, compiled

from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.solvers.problem import Solution
from jaxalloc.kernels.solvers.steps import Problem, Solver, Step, blank

MOST_ROUNDS = 100


@functools.cache
def program(step: Step, backend: Backend, optimised: bool) -> Any:
    """A step, compiled with the package's options; the engine's later steps have this emitter too."""
    return compiled(lambda problem, state: step.kernel(problem, state, backend), optimised)


def solve_sorted(
    solver: Solver,
    S: Array,
    e: Array,
    u: Array,
    backend: Backend = Backend.CPU,
    rows: int | None = None,
    optimised: bool = False,
) -> tuple[Solution, Counter[str]]:
    """Solutions of n problems, problems first, and how many lanes took each step.

    Args:
        solver: its steps are taken as lanes want them.
        S: (n, K, K).
        e: (n, K).
        u: (n, K).
        backend: static.
        rows: how many rows each tile counts; as many as it has to by default.
        optimised: as of `helpers.compiled`.
    """
    n, size = u.shape
    steps = solver.steps(size)
    lasts = np.max(np.where(u > 0, np.arange(size) + 1, 0), axis=1)
    state = jax.tree.map(lambda leaf: np.array(leaf), blank(solver, size, n, S.dtype))
    taken: Counter[str] = Counter()
    for _ in range(MOST_ROUNDS):
        for number, step in enumerate(steps, 1):
            lanes = np.flatnonzero(state.wants == number)
            taken[step.name] += len(lanes)
            for start in range(0, len(lanes), step.width):
                own = lanes[start : start + step.width]
                filled = np.resize(own, step.width)
                most = int(lasts[own].max()) if rows is None else rows
                tile = Problem(*(np.moveaxis(x[filled], 0, -1) for x in (S, e, u)), rows=jnp.int32(most))
                before = jax.tree.map(lambda leaf, lanes=filled: leaf[..., lanes], state)
                with jax.numpy_rank_promotion("allow"):
                    after = program(step, backend, optimised)(tile, before)
                for whole, part in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
                    assert whole.dtype == part.dtype
                    assert whole.shape[:-1] == part.shape[:-1]
                    whole[..., own] = part[..., : len(own)]
        if not state.wants.any():
            return jax.tree.map(lambda leaf: np.moveaxis(leaf, -1, 0), state.solution), taken
    raise AssertionError("steps are wanted for ever")
