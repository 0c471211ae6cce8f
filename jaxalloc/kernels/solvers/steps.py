"""TEMPORARY stand-in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.solvers.mean_variance import mean_variance_lanes
from jaxalloc.kernels.solvers.problem import Solution, correlate
from jaxalloc.kernels.solvers.risk_parity.solve import risk_parity_lanes


class Problem(NamedTuple):
    covariance: Array
    excess: Array
    upper: Array
    rows: Array


class State(NamedTuple):
    wants: Array
    solution: Solution
    memory: Any


class Step(NamedTuple):
    name: str
    kernel: Callable[[Problem, State | None, Backend], State]
    width: int


class Solver(NamedTuple):
    name: str
    steps: Callable[[int], tuple[Step, ...]]


def _width(k: int) -> int:
    return 128 if k <= 24 else 64 if k <= 49 else 32 if k <= 100 else 8


def _mv(problem: Problem, state: State | None, backend: Backend) -> State:
    s = mean_variance_lanes(correlate(problem.covariance), problem.excess[None], problem.upper[None], backend)
    s = jax.tree.map(lambda leaf: leaf[0], s)
    return State(wants=jnp.zeros(s.gap.shape, jnp.int32), solution=s, memory=())


def _rp(problem: Problem, state: State | None, backend: Backend) -> State:
    s = risk_parity_lanes(correlate(problem.covariance), problem.upper[None], backend)
    s = jax.tree.map(lambda leaf: leaf[0], s)
    return State(wants=jnp.zeros(s.gap.shape, jnp.int32), solution=s, memory=())


MEAN_VARIANCE = Solver("mean_variance", lambda k: (Step("start", _mv, _width(k)),))
RISK_PARITY = Solver("risk_parity", lambda k: (Step("start", _rp, _width(k)),))


def solve_all(solver: Solver, problem: Problem, backend: Backend) -> Solution:
    return solver.steps(problem.upper.shape[0])[0].kernel(problem, None, backend).solution
