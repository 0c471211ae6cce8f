"""Newton's method in log z, without bounds, its steps by conjugate gradients; with lanes.

In log z the Hessian at the solution is I + diag(z) C diag(z), whose eigenvalues lie between 1 and 2 but for the few
that hedges make larger: so few conjugate gradients do.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.lanes.control import choose, while_any
from jaxalloc.kernels.lanes.products import matvec
from jaxalloc.kernels.solvers.risk_parity.problem import (
    Iterate,
    RiskParityProblem,
    evaluate,
    noise_of,
    total,
    unfinished,
)

CONJUGATE_GRADIENTS = 10  # of a Newton step at most, in float32
_REDUCTION = 1e-3  # share of its residual at which a step's system counts as solved
_NEWTON_STEPS = 14  # at most
_LONGEST = 2.0  # change of log z in a step
_NEAR = 0.1  # largest gap of an iterate that counts as near the solution
_LARGEST_SHARE = 0.25  # near the solution a step pays if it leaves at most this share of the gap


def minimise_in_log(
    problem: RiskParityProblem, float32_matrix: Array, wanted: Array, iterate: Iterate, backend: Backend
) -> Iterate:
    """Newton steps in log z as long as they pay.

    Args:
        problem: with lanes; its bounds are not looked at.
        float32_matrix: (K, K, L) C in float32, for the steps' directions.
        wanted: (L,) bool.
        iterate: where to start, not measured.
        backend: static.

    Returns:
        The best iterate, measured.
    """
    noise = noise_of(problem, iterate, backend)  # at the start: later iterates' noise is not far from it

    def turn(number: Array, carry: tuple[Iterate, Array, Array]) -> tuple[Iterate, Array, Array]:
        best, z, _ = carry
        new = best._replace(z=z, s=total(problem.normal * z), steps=best.steps + jnp.where(number > 0, 1, 0))
        new = evaluate(problem, False, new, noise, backend)
        # far from the solution the gap may grow before it falls
        pays = jnp.isfinite(new.gap) & ((new.gap <= _LARGEST_SHARE * best.gap) | (best.gap > _NEAR))
        best = choose(pays | (new.gap < best.gap), new, best)
        going = pays & unfinished(best) & (number < _NEWTON_STEPS)
        error = jnp.where(problem.member, best.z * best.product - 1, 0)
        change = _log_step(best.z, error, float32_matrix, wanted & going, problem.rows, backend)
        return best, best.z * jnp.exp(jnp.clip(change, -_LONGEST, _LONGEST)), going

    def more(_: Array, carry: tuple[Iterate, Array, Array]) -> Array:
        return wanted & carry[2]

    return while_any(more, turn, (iterate, iterate.z, wanted))[0]


def _log_step(z: Array, error: Array, float32_matrix: Array, wanted: Array, rows: Array, backend: Backend) -> Array:
    """Solve (I + diag(z) C diag(z)) x = -error by conjugate gradients in float32, its diagonal scaled to 1."""
    root = jnp.sqrt(1 + z * z)
    rhs = -error / root
    size = jnp.max(jnp.abs(rhs), axis=0)
    size = jnp.where(size > 0, size, 1)  # float32 has digits enough, but no range
    rhs = (rhs / size).astype(jnp.float32)
    identity, scale = (1 / (root * root)).astype(jnp.float32), (z / root).astype(jnp.float32)
    enough = _REDUCTION**2 * total(rhs * rhs)

    def gradient(_: Array, carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        x, residual, direction, squares = carry
        image = identity * direction + scale * matvec(float32_matrix, scale * direction, backend, rows)
        curvature = total(direction * image)
        length = jnp.where(curvature > 0, squares / jnp.where(curvature > 0, curvature, 1), 0)
        x, residual = x + length * direction, residual - length * image
        left = total(residual * residual)
        direction = residual + left / jnp.where(squares > 0, squares, 1) * direction
        return x, residual, direction, left

    def more(turn: Array, carry: tuple[Array, Array, Array, Array]) -> Array:
        return wanted & (carry[3] > enough) & (turn < CONJUGATE_GRADIENTS)

    x = while_any(more, gradient, (jnp.zeros_like(rhs), rhs, rhs, total(rhs * rhs)))[0]
    return x.astype(z.dtype) * size / root
