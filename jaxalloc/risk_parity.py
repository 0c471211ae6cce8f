"""Risk parity with upper bounds: equal risk contributions in the sense of Richard & Roncalli (2019, arXiv 1902.05710).

w(lambda) minimises w'Sw / 2 - lambda sum log w over 0 < w <= u, and lambda is the smallest with sum w(lambda) = 1. In
the scale z = sigma w / sqrt(lambda) the problem reads: minimise z'Cz / 2 - sum log z over 0 < z <= b s, with C the
correlation matrix, b = sigma u, a = 1 / sigma, and s = 1 / sqrt(lambda) the largest number with a . z = s. Without
bounds z does not depend on s. So it is solved twice: unbounded first, which is the answer where it respects the bounds,
then from there with the bounds on. Cyclical coordinate descent (Griveau-Billion, Richard & Roncalli 2013) goes most of
the way, and Newton's method finishes what it leaves.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxalloc.feasible import settle
from jaxalloc.linalg import dot, solve_positive_definite
from jaxalloc.quadratic import Solution, accepted, tolerance

_SWEEPS = 20  # of coordinate descent, before Newton's method takes over
_NEWTON_STEPS = 80


class _Problem(NamedTuple):
    """C, a, b, and which clusters take part; a and b are 0 for the others."""

    correlation: Array
    normal: Array
    upper: Array
    member: Array


class _State(NamedTuple):
    """z, s, what is added to C's diagonal, the gap with its rounding floor, and the steps done."""

    z: Array
    s: Array
    ridge: Array
    gap: Array
    floor: Array
    steps: Array


def risk_parity(covariance: Array, upper: Array) -> Solution:
    """Equal risk contributions over {0 < w <= u, sum w = 1}: every cluster below its bound contributes the same.

    Where the bounds leave no choice (sum u <= 1 + 1e-12) w = u. Where some long-only mix has no variance the solution
    need not exist: then S + delta diag(S) is solved, delta = 1e-10 in float64 and 1e-5 in float32, and ``altered`` set.

    Args:
        covariance: (K, K) S, symmetric positive semidefinite, positive diagonal.
        upper: (K,) u with sum u >= 1; 0 for a cluster that takes no part.

    Returns:
        `Solution`; ``iterations`` counts sweeps and Newton steps.
    """
    problem = _scale(covariance, upper)
    forced = jnp.sum(upper) <= 1 + 1e-12

    def phase(i: Array, state: _State) -> _State:
        bounded = i == 1
        total = jnp.sum(problem.normal * state.z)
        start = ~forced & jnp.where(bounded, jnp.any(state.z > problem.upper * total), True)
        gap = jnp.where(start, jnp.inf, state.gap)
        state = state._replace(s=jnp.where(bounded, total, state.s), gap=gap)
        return _newton(problem, bounded, _coordinate_descent(problem, bounded, state))

    state = lax.fori_loop(0, 2, phase, _start(problem))
    full = state.z >= problem.upper * state.s  # exactly at the bound, not a rounding below it
    weights = jnp.where(full, upper, jnp.minimum(problem.normal * state.z / state.s, upper))
    weights = jnp.where(forced, upper, settle(weights, upper))
    gap = _spread(problem, state.ridge, upper, weights)
    converged = gap <= jnp.maximum(accepted(gap.dtype), 4 * state.floor)
    return Solution(weights, gap, state.steps, (state.ridge > 0) & ~forced, converged)


def contribution_gap(covariance: Array, upper: Array, weights: Array) -> Array:
    """How unequal the risk contributions r_i = w_i (Sw)_i are: max of 1 - r_i / max r over clusters below their bound.

    Args:
        covariance: (K, K) S.
        upper: (K,) u; 0 for a cluster that takes no part.
        weights: (K,) w.

    Returns:
        () the gap, 0 where no cluster is below its bound.
    """
    return _spread(_scale(covariance, upper), jnp.zeros_like(weights[0]), upper, weights)


def _spread(problem: _Problem, ridge: Array, upper: Array, weights: Array) -> Array:
    y = jnp.where(problem.member, weights / jnp.where(problem.member, problem.normal, 1), 0)
    contribution = y * (dot(problem.correlation, y) + ridge * y)
    largest = jnp.max(contribution)
    lowest = jnp.min(jnp.where((upper > 0) & (weights < upper), contribution, largest))
    return jnp.where(largest > 0, 1 - lowest / jnp.where(largest > 0, largest, 1), 0)


def _scale(covariance: Array, upper: Array) -> _Problem:
    member = upper > 0
    sigma = jnp.sqrt(jnp.where(member, jnp.diagonal(covariance), 1))
    index = jnp.arange(upper.shape[0], dtype=jnp.int32)
    correlation = covariance / sigma[:, None] / sigma[None, :]
    correlation = jnp.where(member[:, None] & member[None, :], correlation, 0)
    correlation = jnp.where(index[:, None] == index[None, :], 1, correlation)
    return _Problem(correlation, jnp.where(member, 1 / sigma, 0), sigma * upper, member)


def _start(problem: _Problem) -> _State:
    member = problem.member
    total = jnp.sum(jnp.where(member[:, None] & member[None, :], problem.correlation, 0))
    size = jnp.sum(member, dtype=total.dtype)
    length = jnp.sqrt(size / jnp.maximum(total, 1))  # sum z_i (Cz)_i = K at the solution
    z = jnp.where(member, length, 0)
    zero = jnp.zeros_like(total)
    return _State(z, jnp.sum(problem.normal * z), zero, zero, zero, jnp.int32(0))


def _cap(problem: _Problem, bounded: Array, s: Array) -> Array:
    return jnp.where(bounded, problem.upper * s, jnp.inf)


def _measure(problem: _Problem, bounded: Array, state: _State) -> _State:
    """Fill in how far z_i (Cz)_i = 1 and a . z = s are from holding, and how near this precision can bring them."""
    z, ridge = state.z, state.ridge
    gross = z * (dot(jnp.abs(problem.correlation), z) + ridge * z)
    error = z * (dot(problem.correlation, z) + ridge * z) - 1
    below = z < _cap(problem, bounded, state.s)
    gap = jnp.max(jnp.where(problem.member, jnp.where(below, jnp.abs(error), error), 0))
    unspent = jnp.abs(jnp.sum(problem.normal * z) / state.s - 1)
    gap = jnp.where(bounded, jnp.maximum(gap, unspent), gap)
    floor = jnp.finfo(z.dtype).eps * jnp.max(gross)
    return state._replace(gap=gap, floor=floor, steps=state.steps + 1)


def _unfinished(state: _State) -> Array:
    # errors of both signs make a gap of twice their size; and one hedged cluster's floor may be far above the
    # others', so that it ends a search only when the goal is met
    dtype = state.gap.dtype
    return 2 * state.gap > jnp.maximum(tolerance(dtype), jnp.minimum(state.floor / 2, accepted(dtype)))


def _rescale(problem: _Problem, bounded: Array, z: Array, s: Array) -> tuple[Array, Array]:
    """Make a . z = s, the clusters at their bound keeping their weight."""
    full = problem.member & (z >= _cap(problem, bounded, s))
    held = jnp.sum(jnp.where(full, problem.normal * problem.upper, 0))
    free = jnp.sum(jnp.where(full, 0, problem.normal * z))
    regular = (held < 1) & (free > 0)
    new = jnp.where(regular, free / jnp.where(held < 1, 1 - held, 1), jnp.sum(problem.normal * z))
    return jnp.where(full & regular, problem.upper * new, jnp.minimum(z, _cap(problem, bounded, new))), new


def _sweep(problem: _Problem, bounded: Array, state: _State) -> _State:
    """Minimise over one coordinate after another, then rescale."""
    index = jnp.arange(problem.upper.shape[0], dtype=jnp.int32)
    cap = _cap(problem, bounded, state.s)
    diagonal = 1 + state.ridge

    def coordinate(i: Array, z: Array) -> Array:
        row = lax.dynamic_index_in_dim(problem.correlation, i, 0, keepdims=False)
        slope = jnp.sum(row * z) - lax.dynamic_index_in_dim(z, i, 0, keepdims=False)
        root = jnp.sqrt(slope * slope + 4 * diagonal)
        best = jnp.where(slope > 0, 2 / (slope + root), (root - slope) / (2 * diagonal))
        return jnp.where((index == i) & problem.member, jnp.minimum(best, cap), z)

    z = lax.fori_loop(0, index.shape[0], coordinate, state.z)
    z, s = _rescale(problem, bounded, z, state.s)
    return state._replace(z=z, s=s)


def _coordinate_descent(problem: _Problem, bounded: Array, state: _State) -> _State:
    def body(carry: tuple[_State, Array]) -> tuple[_State, Array]:
        state, i = carry
        return _measure(problem, bounded, _sweep(problem, bounded, state)), i + 1

    def more(carry: tuple[_State, Array]) -> Array:
        return _unfinished(carry[0]) & (carry[1] < _SWEEPS)

    return lax.while_loop(more, body, (state, jnp.int32(0)))[0]


def _newton(problem: _Problem, bounded: Array, state: _State) -> _State:
    """Newton's method, damped as a self-concordant function asks.

    With the bounds on, a step is tried from the last point and from the sweep after it, and the best of the three
    stays: near a bound a sweep may put a cluster on it that belongs below, and far from the solution it is what finds
    the bounds. With the bounds off the iterates of a problem without a solution run away, and get the ridge.
    """
    eps = jnp.finfo(state.z.dtype).eps
    delta = 1e-10 if state.z.dtype == jnp.float64 else 1e-5
    vanishing = 16 * eps * problem.upper.shape[0]  # where rounding, and the solver of the step, stop the flight

    def step(state: _State) -> _State:
        return _measure(problem, bounded, _newton_step(problem, bounded, state))

    def body(carry: tuple[_State, Array]) -> tuple[_State, Array]:
        state, i = carry
        swept = _measure(problem, bounded, _sweep(problem, bounded, state))
        bases = jax.tree.map(lambda *leaves: jnp.stack(leaves), swept, state)
        stepped = jax.vmap(step)(bases)
        trials = jax.tree.map(lambda new, old: jnp.concatenate([new, old[None]]), stepped, swept)
        gaps = jnp.where(jnp.isfinite(trials.gap), trials.gap, jnp.inf)
        best = jnp.where(bounded | ~jnp.isfinite(gaps[0]), jnp.argmin(gaps), 0)
        new = jax.tree.map(lambda leaf: leaf[best], trials)._replace(steps=swept.steps)
        variance = jnp.sum(new.z * dot(problem.correlation, new.z))
        singular = ~bounded & (variance <= vanishing * jnp.sum(new.z * new.z))
        again = singular & (new.ridge == 0)  # start over, with the ridge: from far out the way back is long
        new = new._replace(
            z=jnp.where(again, _start(problem).z, new.z),
            ridge=jnp.where(again, delta, new.ridge),
            gap=jnp.where(again, jnp.inf, new.gap),
        )
        return new, jnp.where(again, 0, i + 1)

    def more(carry: tuple[_State, Array]) -> Array:
        state, i = carry
        # a few steps from near the goal reach what the precision allows; more would only wander in the rounding
        wandering = (i >= 4) & (state.gap <= jnp.minimum(4 * state.floor, 1e-2))
        return _unfinished(state) & (i < _NEWTON_STEPS) & ~wandering

    return lax.while_loop(more, body, (state, jnp.int32(0)))[0]


def _newton_step(problem: _Problem, bounded: Array, state: _State) -> _State:
    """Solve for z on the clusters below their bound, and for s, together.

    The equations are (C z)_i = 1 / z_i below the bound, with z = b s at it, and a . z = s.
    """
    z, s = state.z, state.s
    index = jnp.arange(z.shape[0], dtype=jnp.int32)
    full = problem.member & (z >= _cap(problem, bounded, s))
    free = problem.member & ~full
    inverse = jnp.where(free, 1 / jnp.where(free, z, 1), 0)
    residual = jnp.where(free, dot(problem.correlation, z) + state.ridge * z - inverse, 0)
    pull = jnp.where(free, dot(problem.correlation, jnp.where(full, problem.upper, 0)), 0)
    hessian = jnp.where(free[:, None] & free[None, :], problem.correlation, 0)
    # scaled by z on both sides its diagonal is 1 + z^2, and small entries do not look dependent beside large ones
    size = jnp.where(free, z, 1)
    norm = jnp.sqrt(jnp.where(free, 1 + (1 + state.ridge) * z * z, 1))
    scaled = hessian * (size / norm)[:, None] * (size / norm)[None, :]
    scaled = jnp.where(index[:, None] == index[None, :], 1, scaled)
    rhs = jnp.stack([residual, pull], axis=1) * (size / norm)[:, None]
    solved = solve_positive_definite(scaled, rhs) * (size / norm)[:, None]
    along_residual, along_pull = solved[:, 0], solved[:, 1]
    room = 1 - jnp.sum(jnp.where(full, problem.normal * problem.upper, 0))
    excess = jnp.sum(jnp.where(free, problem.normal * z, 0)) - room * s
    denominator = room + jnp.sum(problem.normal * along_pull)
    ds = (excess - jnp.sum(problem.normal * along_residual)) / jnp.where(denominator > 0, denominator, 1)
    ds = jnp.where((denominator > 0) & bounded, ds, 0)
    dz = -along_residual - along_pull * ds
    decrement = jnp.sqrt(jnp.maximum(-jnp.sum(dz * (residual + pull * ds)), 0))
    damping = jnp.where(decrement < 0.25, 1, 1 / (1 + decrement))
    new_s = jnp.maximum(s + damping * ds, s / 4)
    new_z = jnp.where(full, problem.upper * new_s, jnp.where(free, z + damping * dz, 0))
    new_z = jnp.minimum(new_z, _cap(problem, bounded, new_s))
    new_z, new_s = _rescale(problem, bounded, new_z, new_s)
    return state._replace(z=new_z, s=new_s)
