"""A host that sorts, as the engine does: lanes that want the same step of a solver, packed into tiles of its width."""

from __future__ import annotations

import functools
from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from helpers import Array

from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.solvers.problem import Solution
from jaxalloc.kernels.solvers.steps import Problem, Solver, Step


@functools.cache
def program(step: Step, backend: Backend) -> Any:
    """A step, compiled."""
    return jax.jit(functools.partial(step.kernel, backend=backend))


def solve_sorted(
    solver: Solver, S: Array, e: Array, u: Array, backend: Backend = Backend.CPU, rows: int | None = None
) -> tuple[Solution, Counter[str]]:
    """Solutions of n problems, problems first, and how many lanes took each step.

    Args:
        solver: its steps are taken one after the other.
        S: (n, K, K).
        e: (n, K).
        u: (n, K).
        backend: static.
        rows: how many rows a tile counts; as many as it has to by default.
    """
    n, size = u.shape
    steps, taken = solver.steps(size), Counter[str]()
    wants, state = np.zeros(n, np.int32), None
    last = np.max(np.where(u > 0, np.arange(size) + 1, 0), axis=1)
    for number, step in enumerate([*steps, *steps[1:]]):
        at = number if number < len(steps) else number - len(steps) + 1
        chosen = np.flatnonzero(wants == at) if number else np.arange(n)
        for start in range(0, len(chosen), step.width):
            lanes = chosen[start : start + step.width]
            filled = np.resize(lanes, step.width)
            most = int(last[lanes].max()) if rows is None else rows
            tile = Problem(*(np.moveaxis(x[filled], 0, -1) for x in (S, e, u)), rows=jnp.int32(most))
            before = None if state is None else jax.tree.map(lambda leaf, i=filled: leaf[..., i], state)
            with jax.numpy_rank_promotion("allow"):
                after = jax.tree.map(np.asarray, program(step, backend)(tile, before))
            if state is None:
                blank = jax.tree.map(lambda leaf: np.zeros((*leaf.shape[:-1], n), leaf.dtype), after)
                state = blank
            elif number == 0:
                pass
            for whole, part in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
                whole[..., lanes] = part[..., : len(lanes)]
            taken[step.name] += len(lanes)
        assert state is not None
        wants = state.wants
    assert not wants.any()
    return jax.tree.map(lambda leaf: np.moveaxis(leaf, -1, 0), state.solution), taken
