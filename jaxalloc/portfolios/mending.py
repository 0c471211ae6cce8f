"""Solutions that arithmetic broke: feasible weights in their place, so that every valid portfolio is one."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxalloc.kernels.lanes.precision import sum_tolerance
from jaxalloc.kernels.solvers.problem import Solution


def mended(solutions: Solution, variance: Array, upper: Array) -> Solution:
    """Return P solutions of one universe, of which those are replaced that are no portfolios.

    Where variances are very many powers of ten apart, what a solver adds up may lose all its digits or become no
    number. Such a solution gives way to weights in inverse proportion to the variances, of which each bound cuts off
    what exceeds it; that goes to the others in proportion to their room. Nothing is known of how good these weights
    are: they have not converged, and their gap is 1.

    Args:
        solutions: leading axis P, weights (P, M).
        variance: (P, M) of each cluster or asset; where there is none, anything.
        upper: (P, M) bounds, 0 where there is no cluster or asset; each row sums to at least 1.
    """
    weights, gap = solutions.weights, solutions.gap
    dtype = weights.dtype
    off = jnp.abs(jnp.sum(weights, axis=1) - 1) > sum_tolerance(dtype)
    broken = off | ~jnp.all(weights >= 0, axis=1)  # what is no number is not at least 0
    held = upper > 0
    safe = jnp.where(held, jnp.maximum(variance, jnp.finfo(dtype).tiny), jnp.inf)
    relative = jnp.min(safe, axis=1, keepdims=True) / safe  # 0 where nothing is held
    share = jnp.minimum(_to_one(relative), upper)
    room = upper - share
    rest = jnp.maximum(1 - jnp.sum(share, axis=1, keepdims=True), 0)
    feasible = _to_one(share + rest * _to_one(room))
    unsure = broken | ~jnp.isfinite(gap)
    return solutions._replace(
        weights=jnp.where(broken[:, None], feasible, weights),
        gap=jnp.where(unsure, 1, gap),
        converged=solutions.converged & ~unsure,
    )


def _to_one(values: Array) -> Array:
    """Rows (P, M) scaled to sum 1, where they sum to anything."""
    total = jnp.sum(values, axis=1, keepdims=True)
    return values / jnp.where(total > 0, total, 1)
