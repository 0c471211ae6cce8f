"""Equal risk contributions under bounds: entry points, and the order of the steps.

Without bounds, a few sweeps of coordinate descent in float32 come near the solution, and Newton's method in log z goes
on from there. What does not converge so, and what meets a bound, takes more sweeps and then Newton steps by
elimination, in groups of few universes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxalloc.kernels.lanes.adapter import lanes_last
from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.lanes.control import in_groups
from jaxalloc.kernels.solvers.capped_simplex import settle
from jaxalloc.kernels.solvers.problem import Correlation, Solution, accepted, correlate
from jaxalloc.kernels.solvers.risk_parity.bounded import minimise
from jaxalloc.kernels.solvers.risk_parity.descent import descend
from jaxalloc.kernels.solvers.risk_parity.log_newton import minimise_in_log
from jaxalloc.kernels.solvers.risk_parity.problem import (
    Iterate,
    RiskParityProblem,
    contribution_spread,
    scale,
    start,
    total,
    unfinished,
)

FLOAT32_SWEEPS = 2
_SHARE = 32  # a group has one in so many of an accelerator's lanes: 1 to 3 % want bounds or eliminations


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
        solutions = risk_parity_lanes(correlate(covariance), upper[None], backend)
        return jax.tree.map(lambda leaf: leaf[0], solutions)

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
    problem = scale(correlate(covariance), upper)
    return contribution_spread(problem, jnp.zeros_like(weights[0]), upper, weights, backend)


# ---- with lanes: vectors (K, L), numbers (L,) ------------------------------------------------------------------------


def risk_parity_lanes(risk: Correlation, uppers: Array, backend: Backend) -> Solution:
    """`risk_parity` with lanes, for P problems of one covariance: (K, K, L) and (P, K, L)."""
    # one after the other: side by side they would want the correlations twice, and outgrow the cache
    iterates = lax.map(lambda upper: _unbounded(risk, upper, backend), uppers)
    iterates = _finish(risk, uppers, iterates, backend)
    return lax.map(lambda problem: _solution(risk, *problem, backend=backend), (uppers, iterates))


def _is_forced(upper: Array) -> Array:
    """Whether the bounds leave no choice."""
    return total(upper) <= 1 + 1e-12


def _unbounded(risk: Correlation, upper: Array, backend: Backend) -> Iterate:
    problem, wanted = scale(risk, upper), ~_is_forced(upper)
    # float32 is enough to come near; only the point is kept of it
    float32_problem = RiskParityProblem(
        correlation=risk.float32_matrix,
        normal=problem.normal.astype(jnp.float32),
        upper=problem.upper.astype(jnp.float32),
        member=problem.member,
    )
    near = descend(float32_problem, False, wanted, start(float32_problem, backend), FLOAT32_SWEEPS, backend)
    iterate = start(problem, backend)._replace(z=near.z.astype(upper.dtype), steps=near.steps)
    iterate = minimise_in_log(problem, risk.float32_matrix, wanted, iterate, backend)
    return iterate._replace(s=total(problem.normal * iterate.z))


def _finish(risk: Correlation, uppers: Array, iterates: Iterate, backend: Backend) -> Iterate:
    """Solve what is not solved, still without bounds; then, with the bounds on, what does not respect them: few do."""

    def to_lanes(values: Array) -> Array:  # (P, ..., L) to (..., P L)
        return jnp.moveaxis(values, 0, -2).reshape(*values.shape[1:-1], -1)

    def from_lanes(values: Array) -> Array:
        return jnp.moveaxis(values.reshape(*values.shape[:-1], len(uppers), -1), -2, 0)

    problems = jax.vmap(scale, in_axes=(None, 0))(risk, uppers)
    problem = RiskParityProblem(
        correlation=risk.matrix,
        normal=to_lanes(problems.normal),
        upper=to_lanes(problems.upper),
        member=to_lanes(problems.member),
    )
    infinite = jnp.where(problem.member, jnp.inf, problem.upper)
    free = ~_is_forced(to_lanes(uppers))

    def stage(i: Array, iterate: Iterate) -> Iterate:
        bounded = i > 0
        crossing = jnp.any(iterate.z > problem.upper * iterate.s, axis=0)
        wanted = free & jnp.where(bounded, crossing, unfinished(iterate))
        chosen = problem._replace(upper=jnp.where(bounded, problem.upper, infinite))
        work = functools.partial(minimise, bounded, backend=backend)
        # all problems' lanes together: by themselves they would hardly fill a group
        return in_groups(wanted, work, chosen, iterate, backend, share=_SHARE)

    # a loop, so that there is one program for both
    return jax.tree.map(from_lanes, lax.fori_loop(0, 2, stage, jax.tree.map(to_lanes, iterates)))


def _solution(risk: Correlation, upper: Array, iterate: Iterate, backend: Backend) -> Solution:
    problem, forced = scale(risk, upper), _is_forced(upper)
    full = iterate.z >= problem.upper * iterate.s  # exactly at the bound, not a rounding below it
    weights = jnp.where(full, upper, jnp.minimum(problem.normal * iterate.z / iterate.s, upper))
    weights = jnp.where(forced, upper, settle(weights, upper))
    gap = contribution_spread(problem, iterate.ridge, upper, weights, backend)
    return Solution(
        weights=weights,
        gap=gap,
        iterations=iterate.steps,
        altered=(iterate.ridge > 0) & ~forced,
        converged=gap <= jnp.maximum(accepted(gap.dtype), 4 * iterate.floor),
    )
