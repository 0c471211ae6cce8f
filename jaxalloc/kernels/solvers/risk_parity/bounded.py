"""Newton's method by elimination, with bounds, for what is not solved more cheaply; with lanes."""

from __future__ import annotations

import functools

import jax.numpy as jnp
from jax import Array, lax

from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.lanes.control import choose, while_any
from jaxalloc.kernels.lanes.elimination import solve_positive_definite
from jaxalloc.kernels.lanes.precision import jitter
from jaxalloc.kernels.lanes.products import positions, totals, two_products
from jaxalloc.kernels.solvers.risk_parity.descent import descend, rescale
from jaxalloc.kernels.solvers.risk_parity.problem import (
    Iterate,
    RiskParityProblem,
    equal,
    measure,
    total,
    unfinished,
)

_SWEEPS = 20  # of coordinate descent, before Newton's method
_NEWTON_STEPS = 80  # at most
# The ridge of a problem without a solution begins large, and is lowered once the gap is near 0. The solutions of two
# ridges are about as far apart as the roots of the ridges, and a step from far away covers little of that distance.
_FIRST_RIDGE, _LOWER, _NEAR = 1e-2, 0.1, 0.1


def minimise(problem: RiskParityProblem, bounded: Array, wanted: Array, iterate: Iterate, backend: Backend) -> Iterate:
    """Coordinate descent from ``iterate``, and Newton's method from there, damped as a self-concordant function asks.

    A step is tried from the sweep after the last iterate, and from that iterate itself, and the best of the three
    stays: near a bound a sweep may put a cluster on it that belongs below; far from the solution the sweep is what
    finds the bounds. Without bounds the first step stays whatever it does to the gap, which may grow before it falls.
    The iterates of a problem without a solution run away, and start over with a ridge on C's diagonal, which is lowered
    to `jitter` from solution to solution.

    Args:
        problem: with lanes.
        bounded: (L,) bool; where it is False the problem's bounds are infinite.
        wanted: (L,) bool.
        iterate: where to start.
        backend: static.
    """
    eps = jnp.finfo(iterate.z.dtype).eps
    vanishing = 16 * eps * problem.upper.shape[0]  # where rounding, and the solver of the step, stop the flight
    restart = equal(problem, backend)

    def body(turn: Array, carry: tuple[Iterate, Array]) -> tuple[Iterate, Array]:
        iterate, since_restart = carry
        on = more(turn, carry)

        def attempt(j: Array, best: Iterate) -> Iterate:
            """The first is the sweep, or many of them in the first turn, and stays."""

            def sweep(_: Iterate) -> Iterate:
                sweeps = jnp.where(turn == 0, _SWEEPS, 1)
                return descend(problem, True, on, iterate, sweeps, backend, patient=bounded)

            origin = choose(j == 1, best, iterate)
            trial = lax.cond(j == 0, sweep, functools.partial(_step, problem, backend), origin)
            trial = measure(problem, True, trial, backend)
            better = ~(trial.gap >= best.gap) | (~bounded & (j == 1))
            return choose((j == 0) | (jnp.isfinite(trial.gap) & better), trial, best)._replace(
                steps=jnp.where(j == 0, trial.steps, best.steps)
            )

        def doubtful(j: Array, best: Iterate) -> Array:
            return on & ((j == 0) | ((j < 3) & unfinished(best)))

        new = while_any(doubtful, attempt, iterate)
        singular = total(new.z * new.product) <= vanishing * total(new.z * new.z)
        # from where the iterates have run to, the way back would be long
        again = ~bounded & singular & (new.ridge == 0)
        least = jitter(iterate.z.dtype)
        lower = ~again & (new.ridge > least) & (new.gap <= _NEAR)
        ridge = jnp.maximum(new.ridge * _LOWER, least)
        grown = jnp.where(lower, jnp.sqrt(jnp.where(lower, new.ridge, 1) / jnp.where(lower, ridge, 1)), 1)
        new = new._replace(
            z=jnp.where(again, restart, new.z * grown),
            s=new.s * grown,
            ridge=jnp.where(again, _FIRST_RIDGE, jnp.where(lower, ridge, new.ridge)),
            gap=jnp.where(again | lower, jnp.inf, new.gap),
        )
        return new, jnp.where(again | lower, 0, since_restart + 1)

    def more(_: Array, carry: tuple[Iterate, Array]) -> Array:
        return wanted & _is_worthwhile(*carry)

    # the bounds move the solution, so that a ridge begins large for them, too
    raised = bounded & (iterate.ridge > 0)
    shrunk = jnp.where(raised, jnp.sqrt(iterate.ridge / _FIRST_RIDGE), 1)
    fresh = iterate._replace(
        z=iterate.z * shrunk,
        s=iterate.s * shrunk,
        ridge=jnp.where(raised, _FIRST_RIDGE, iterate.ridge),
        gap=jnp.full_like(iterate.gap, jnp.inf),
    )
    return while_any(more, body, (fresh, jnp.zeros_like(iterate.steps)))[0]


def _is_worthwhile(iterate: Iterate, since_restart: Array) -> Array:
    """(L,) bool, whether to take another step: near the goal few steps reach what the precision allows."""
    in_rounding = (since_restart >= 4) & (iterate.gap <= jnp.minimum(4 * iterate.floor, 1e-2))
    return unfinished(iterate) & (since_restart < _NEWTON_STEPS) & ~in_rounding


def _damping(dz: Array, gradient: Array) -> Array:
    """Length of a Newton step ``dz``, by its decrement: what a self-concordant function asks."""
    decrement = jnp.sqrt(jnp.maximum(-total(dz * gradient), 0))
    return jnp.where(decrement < 0.25, 1, 1 / (1 + decrement))


def _solve_hessian(problem: RiskParityProblem, iterate: Iterate, free: Array, rhs: Array, backend: Backend) -> Array:
    """Solve (C + ridge + 1 / z^2) X = rhs, (K, R, L), on the free entries.

    Scaled by z on both sides the diagonal is 1 + z^2, and small entries do not look dependent beside large ones.
    """
    z = iterate.z
    rows = positions(z.shape[0], problem.correlation)
    norm = jnp.sqrt(jnp.where(free, 1 + (1 + iterate.ridge) * z * z, 1))
    scale = jnp.where(free, z, 1) / norm
    narrow = jnp.where(free, scale, 0)
    scaled = problem.correlation * narrow[:, None] * narrow[None]
    scaled = jnp.where(rows == jnp.swapaxes(rows, 0, 1), 1, scaled)
    return solve_positive_definite(scaled, rhs * scale[:, None], backend, problem.rows) * scale[:, None]


def _step(problem: RiskParityProblem, backend: Backend, iterate: Iterate) -> Iterate:
    """Solve for z on the clusters below their bound, and for s, together.

    The equations are (C z)_i = 1 / z_i below the bound, with z = b s at it, and a . z = s.
    """
    z, s = iterate.z, iterate.s
    full = problem.member & (z >= problem.upper * s)
    free = problem.member & ~full
    held = jnp.where(full, problem.upper, 0)
    product, pull = two_products(problem.correlation, z, held, backend, False, problem.rows)
    inverse = jnp.where(free, 1 / jnp.where(free, z, 1), 0)
    residual = jnp.where(free, product + iterate.ridge * z - inverse, 0)
    pull = jnp.where(free, pull, 0)
    solved = _solve_hessian(problem, iterate, free, jnp.stack([residual, pull], axis=1), backend)
    along_residual, along_pull = solved[:, 0], solved[:, 1]
    a = problem.normal
    taken, owned, by_pull, by_residual = totals(a * held, jnp.where(free, a * z, 0), a * along_pull, a * along_residual)
    room = 1 - taken
    excess, denominator = owned - room * s, room + by_pull
    ds = (excess - by_residual) / jnp.where(denominator > 0, denominator, 1)
    ds = jnp.where(denominator > 0, ds, 0)
    dz = -along_residual - along_pull * ds
    damping = _damping(dz, residual + pull * ds)
    new_s = jnp.maximum(s + damping * ds, s / 4)
    new_z = jnp.where(full, problem.upper * new_s, jnp.where(free, z + damping * dz, 0))
    new_z = jnp.minimum(new_z, problem.upper * new_s)
    new_z, new_s = rescale(problem, new_z, new_s)
    return iterate._replace(z=new_z, s=new_s)
