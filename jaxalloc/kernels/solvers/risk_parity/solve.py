"""Equal risk contributions under bounds: entry points, and the steps of the solver.

Without bounds, a few sweeps of coordinate descent in float32 come near the solution, and Newton's method in log z goes
on from there. That is the first step (`jaxalloc.kernels.solvers.steps`). What does not converge so, and what meets a
bound, wants the second, more sweeps and then Newton's method by elimination: once without bounds if it has not
converged, and once with the bounds on if it crosses one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxalloc.kernels.lanes.adapter import lanes_last
from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.solvers.capped_simplex import even_out, settle
from jaxalloc.kernels.solvers.problem import Solution, correlate
from jaxalloc.kernels.solvers.risk_parity.bounded import minimise
from jaxalloc.kernels.solvers.risk_parity.descent import descend
from jaxalloc.kernels.solvers.risk_parity.log_newton import minimise_in_log
from jaxalloc.kernels.solvers.risk_parity.problem import (
    Iterate,
    RiskParityProblem,
    contribution_spread,
    equal,
    iterate_at,
    scale,
    total,
    unfinished,
)
from jaxalloc.kernels.solvers.steps import Problem, Solver, State, Step, narrow, solve_all, whole, wide
from jaxalloc.kernels.solvers.tolerances import accepted

FLOAT32_SWEEPS = 2


def risk_parity(covariance: Array, upper: Array, backend: Backend) -> Solution:
    """Equal risk contributions over {0 < w <= u, sum w = 1}: every cluster below its bound contributes the same.

    Where the bounds leave no choice (sum u <= 1 + 1e-12) w = u. Where some long-only mix has no variance the solution
    need not exist: then S + delta diag(S) is solved, delta = 1e-10 in float64 and 1e-5 in float32, and ``altered`` set.

    Args:
        covariance: (K, K) S, symmetric positive semidefinite, positive diagonal.
        upper: (K,) u with sum u >= 1; 0 for a cluster that takes no part.
        backend: static.

    Returns:
        `Solution`; ``iterations`` counts sweeps and Newton steps.
    """
    return _in_lanes(backend)(covariance, upper)


@functools.cache
def _in_lanes(backend: Backend) -> Callable[[Array, Array], Solution]:
    def solve(covariance: Array, upper: Array) -> Solution:
        return solve_all(RISK_PARITY, whole(covariance, jnp.zeros_like(upper), upper), backend)

    return lanes_last(solve)


def contribution_gap(covariance: Array, upper: Array, weights: Array, backend: Backend) -> Array:
    """How unequal the risk contributions r_i = w_i (Sw)_i are: max of 1 - r_i / max r over clusters below their bound.

    Args:
        covariance: (K, K) S.
        upper: (K,) u; 0 for a cluster that takes no part.
        weights: (K,) w.
        backend: static.

    Returns:
        () the gap, 0 where no cluster is below its bound.
    """
    problem = scale(correlate(covariance), upper, jnp.int32(len(upper)))
    return contribution_spread(problem, jnp.zeros_like(weights[0]), upper, weights, backend)


# ---- with lanes: vectors (K, L), numbers (L,) ------------------------------------------------------------------------


class _Memory(NamedTuple):
    """Where a lane is.

    Attributes:
        iterate: the last one.
        bounded: (L,) bool, whether the bounds are on.
    """

    iterate: Iterate
    bounded: Array


def _memory(size: int, lanes: int, dtype: Any) -> _Memory:
    vector, numbers = jnp.zeros((size, lanes), dtype), jnp.zeros(lanes, dtype)
    steps, bounded = jnp.zeros(lanes, jnp.int32), jnp.zeros(lanes, bool)
    return _Memory(
        iterate=Iterate(z=vector, s=numbers, ridge=numbers, product=vector, gap=numbers, floor=numbers, steps=steps),
        bounded=bounded,
    )


@functools.cache
def _steps(size: int) -> tuple[Step, ...]:
    return (
        Step(name="risk parity, start", kernel=_start, width=wide(size)),
        Step(name="risk parity, elimination", kernel=_eliminate, width=narrow(size), fewer=4),
    )


def _together(size: int, _: int) -> tuple[Step, ...]:
    return _steps(size)


RISK_PARITY = Solver(name="risk parity", steps=_steps, together=_together, memory=_memory)


def _is_forced(upper: Array) -> Array:
    """Whether the bounds leave no choice."""
    return total(upper) <= 1 + 1e-12


def _start(problem: Problem, state: State, backend: Backend) -> State:
    """Without bounds: sweeps in float32, and Newton's method in log z."""
    risk, forced = correlate(problem.covariance), _is_forced(problem.upper)
    wanted = (state.wants == 1) & ~forced
    posed = scale(risk, problem.upper, problem.rows)
    # float32 is enough to come near; only the point is kept of it
    near = RiskParityProblem(
        correlation=risk.matrix.astype(jnp.float32),
        normal=posed.normal.astype(jnp.float32),
        upper=posed.upper.astype(jnp.float32),
        member=posed.member,
        rows=posed.rows,
    )
    swept = iterate_at(near, equal(near, backend), jnp.zeros_like(state.wants))
    swept = descend(near, False, wanted, swept, FLOAT32_SWEEPS, backend)
    iterate = iterate_at(posed, swept.z.astype(posed.normal.dtype), swept.steps)
    iterate = minimise_in_log(posed, near.correlation, wanted, iterate, backend)
    crossing = _crosses(posed, iterate)
    wants = jnp.where(~forced & (unfinished(iterate) | crossing), 2, 0)
    memory = _Memory(iterate=iterate, bounded=~unfinished(iterate))
    weights = even_out(_weights(posed, problem.upper, iterate), problem.upper)
    return _state(posed, problem.upper, wants, memory, weights, backend)


def _eliminate(problem: Problem, state: State, backend: Backend) -> State:
    """Sweeps, and Newton's method by elimination: first without bounds if they are not on, then with them on."""
    iterate, bounded = state.memory
    posed = scale(correlate(problem.covariance), problem.upper, problem.rows)
    infinite = jnp.where(posed.member, jnp.inf, posed.upper)
    chosen = posed._replace(upper=jnp.where(bounded, posed.upper, infinite))
    iterate = minimise(chosen, bounded, state.wants == 2, iterate, backend)
    wants = jnp.where(~bounded & _crosses(posed, iterate), 2, 0)
    memory = _Memory(iterate=iterate, bounded=jnp.ones_like(bounded))
    weights = settle(_weights(posed, problem.upper, iterate), problem.upper)
    return _state(posed, problem.upper, wants, memory, weights, backend)


def _crosses(problem: RiskParityProblem, iterate: Iterate) -> Array:
    return jnp.any(iterate.z > problem.upper * iterate.s, axis=0)


def _weights(problem: RiskParityProblem, upper: Array, iterate: Iterate) -> Array:
    full = iterate.z >= problem.upper * iterate.s  # exactly at the bound, not a rounding below it
    return jnp.where(full, upper, jnp.minimum(problem.normal * iterate.z / iterate.s, upper))


def _state(
    problem: RiskParityProblem, upper: Array, wants: Array, memory: _Memory, weights: Array, backend: Backend
) -> State:
    iterate, forced = memory.iterate, _is_forced(upper)
    weights = jnp.where(forced, upper, weights)
    gap = contribution_spread(problem, iterate.ridge, upper, weights, backend)
    solution = Solution(
        weights=weights,
        gap=gap,
        iterations=iterate.steps,
        altered=(iterate.ridge > 0) & ~forced,
        converged=gap <= jnp.maximum(accepted(gap.dtype), 4 * iterate.floor),
    )
    return State(wants=wants.astype(jnp.int32), solution=solution, memory=memory)
