"""Cyclical coordinate descent (Griveau-Billion, Richard & Roncalli 2013), with lanes."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax

from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.lanes.control import over_short_steps, while_any
from jaxalloc.kernels.lanes.products import totals
from jaxalloc.kernels.solvers.risk_parity.problem import Iterate, RiskParityProblem, cap, total
from jaxalloc.kernels.solvers.tolerances import tolerance


def descend(
    problem: RiskParityProblem,
    bounded: bool,
    wanted: Array,
    iterate: Iterate,
    most: Array | int,
    backend: Backend,
    patient: Array | bool = True,
) -> Iterate:
    """Coordinate descent until a sweep finds every condition in order.

    Args:
        problem: with lanes.
        bounded: whether the bounds hold.
        wanted: (L,) bool.
        iterate: where to start.
        most: sweeps at most.
        backend: static.
        patient: (L,) bool. Where it is False the descent also ends where a sweep does not halve the error: what is left
            takes Newton's method less time.

    Returns:
        The last iterate, without C z and its gap.
    """
    goal = tolerance(iterate.gap.dtype) / 4  # what the last sweep changed is smaller than what it found

    def body(_: Array, carry: tuple[Iterate, Array, Array]) -> tuple[Iterate, Array, Array]:
        iterate, worst, _ = carry
        return *sweep(problem, bounded, iterate, backend), worst

    def more(turn: Array, carry: tuple[Iterate, Array, Array]) -> Array:
        _, worst, before = carry
        going = wanted & (worst > goal) & (turn < most)
        return going & (patient | (worst <= before / 2))

    infinite = jnp.full_like(iterate.gap, jnp.inf)
    return while_any(more, body, (iterate, infinite, infinite))[0]


def sweep(problem: RiskParityProblem, bounded: bool, iterate: Iterate, backend: Backend) -> tuple[Iterate, Array]:
    """Minimise over one coordinate after another, then rescale.

    Returns:
        The iterate without C z and its gap. And (L,) the largest of two errors: how far a coordinate's condition was
        from holding before its turn, and a . z = s before the rescaling.
    """
    diagonal = 1 + iterate.ridge
    bound = cap(problem, bounded, iterate.s)

    def at(values: Array, i: Array) -> Array:
        return lax.dynamic_index_in_dim(values, i, 0, keepdims=False)

    def coordinate(i: Array, z: Array) -> Array:
        now = at(z, i)
        slope = total(at(problem.correlation, i) * z) - now
        root = jnp.sqrt(slope * slope + 4 * diagonal)
        best = jnp.where(slope > 0, 2 / (slope + root), (root - slope) / (2 * diagonal))
        best = jnp.minimum(best, at(bound, i))
        return lax.dynamic_update_index_in_dim(z, jnp.where(at(problem.member, i), best, now), i, 0)

    z = over_short_steps(iterate.z.shape[0], coordinate, iterate.z, backend, problem.rows)
    # a coordinate's new value tells what the sum of the others was at its turn, so that no sum needs to be kept
    error = (iterate.z - z) * (1 / jnp.where(problem.member, z, 1) + diagonal * iterate.z)
    worst = jnp.max(jnp.where(problem.member, jnp.abs(error), 0), axis=0)
    if bounded:
        z, s = rescale(problem, z, iterate.s)
        worst = jnp.maximum(worst, jnp.abs(s / iterate.s - 1))
    else:
        s = total(problem.normal * z)
    return iterate._replace(z=z, s=s, steps=iterate.steps + 1), worst


def rescale(problem: RiskParityProblem, z: Array, s: Array) -> tuple[Array, Array]:
    """Make a . z = s. The clusters at their bound keep their weight."""
    full = problem.member & (z >= problem.upper * s)
    at_bound, own = jnp.where(full, problem.normal * problem.upper, 0), problem.normal * z
    held, free, all_ = totals(at_bound, jnp.where(full, 0, own), own)
    regular = (held < 1) & (free > 0)
    new = jnp.where(regular, free / jnp.where(held < 1, 1 - held, 1), all_)
    return jnp.where(full & regular, problem.upper * new, jnp.minimum(z, problem.upper * new)), new
