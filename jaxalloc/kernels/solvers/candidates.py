"""Points that may solve a mean variance problem: what is known of one, and the better of two; with lanes."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxalloc.kernels.lanes.backend import Backend, if_any
from jaxalloc.kernels.lanes.control import choose
from jaxalloc.kernels.lanes.precision import is_off
from jaxalloc.kernels.lanes.products import divisor, totals, two_products
from jaxalloc.kernels.solvers.capped_simplex import even_out, linear_slack, project
from jaxalloc.kernels.solvers.problem import MeanVarianceProblem
from jaxalloc.kernels.solvers.tolerances import rounding, tolerance


class Candidate(NamedTuple):
    """A feasible point, and what is known of it.

    Attributes:
        weights: (K, L) w.
        gap: (L,) optimality gap.
        floor: (L,) the part of the gap that is rounding.
        value: (L,) variance; over the reward's square where there is a reward.
    """

    weights: Array
    gap: Array
    floor: Array
    value: Array


def unmeasured(weights: Array) -> Candidate:
    """A point of which nothing is known: any that is measured is better."""
    infinite = jnp.full(weights.shape[1:], jnp.inf, weights.dtype)
    return Candidate(weights=weights, gap=infinite, floor=jnp.zeros_like(infinite), value=infinite)


def is_solved(best: Candidate) -> Array:
    """(L,) bool, whether the gap is within the tolerance of the precision, or at its rounding floor."""
    return best.gap <= jnp.maximum(tolerance(best.gap.dtype), best.floor)


def better(
    problem: MeanVarianceProblem, upper: Array, best: Candidate, y: Array, backend: Backend, any_y: bool = True
) -> Candidate:
    """The better of two points: of lower variance (for its reward), or of lower gap where that is no higher.

    Far from the optimum the gap alone would not do: it is relative to the variance, and may grow as that falls.

    Args:
        problem: with lanes.
        upper: (K, L) u.
        best: the best so far.
        y: (K, L) the other, which may lie outside of the feasible set.
        backend: static.
        any_y: static; whether a ``y`` that is off by more than rounding is projected; else it counts for nothing.
    """
    weights, off = _feasible_weights(problem, upper, y, any_y)
    new = measure(problem, upper, weights, backend)
    # where hardly any cluster earns, a step may lose the reward, and the problem with it
    earned = jnp.sum(problem.excess * new.weights / problem.normal, axis=0)
    lost = off | (jnp.any(problem.excess != 0, axis=0) & (earned <= 0))
    margin = 1e-3  # a smaller difference may be rounding, in float32
    lower, no_higher = new.value < (1 - margin) * best.value, new.value <= (1 + margin) * best.value
    return choose(~lost & (lower | (no_higher & (new.gap < best.gap))), new, best)


def _feasible_weights(problem: MeanVarianceProblem, upper: Array, y: Array, any_y: bool) -> tuple[Array, Array]:
    """Weights at ``y``, or, if ``any_y``, at the nearest feasible point; and (L,) bool, whether they are infeasible."""
    clipped = jnp.clip(y, 0, problem.upper)
    free = (clipped > 0) & (clipped < problem.upper)
    error = jnp.abs(jnp.sum(problem.normal * clipped, axis=0) - 1)
    # What is near enough, and has entries that can take the rest, stays: a projection turns zeros into rounding errors.
    far = (error > y.shape[0] * jnp.finfo(y.dtype).eps) | (is_off(1 + error) & ~jnp.any(free, axis=0))
    point = clipped
    if any_y:
        nearest = jnp.where(far, y, clipped)
        point = if_any(far, lambda point, _: project(point, problem.upper, problem.normal), nearest)
    full = point >= problem.upper  # exactly at the bound, not a rounding below it
    # An entry of y that is a few roundings above 0 counts as 0: which clusters are held, and which asset leads them,
    # should not depend on rounding. An entry of w would not do: beside a cluster of hardly any risk tiny weights count.
    small = point <= rounding(y.dtype) * jnp.max(point, axis=0)
    heir = jnp.any(~(small | full), axis=0)  # there is an entry that can take what they held
    weights = jnp.where(full, upper, jnp.minimum(problem.normal * point, upper))
    return even_out(jnp.where(small & heir, 0, weights), upper), far & (not any_y)


def measure(problem: MeanVarianceProblem, upper: Array, weights: Array, backend: Backend) -> Candidate:
    """Optimality gap of weights, the part of it that no arithmetic of this precision can remove, and the objective."""
    y = weights / problem.normal
    gradient, unhedged = two_products(problem.correlation, y, y, backend, True, problem.rows)
    variance, gross, reward, earned = totals(
        y * gradient, y * unhedged, problem.excess * y, jnp.abs(problem.excess) * y
    )
    ratio = jnp.where(reward > 0, variance / divisor(reward), 0)
    cost = (gradient - ratio * problem.excess) / problem.normal
    slack = linear_slack(cost, weights, upper, problem.rows)
    gross_reward = jnp.where(reward > 0, earned / divisor(reward), 0)
    eps = jnp.finfo(y.dtype).eps
    floor = 4 * eps * jnp.maximum(gross / divisor(variance), gross_reward)
    risky = variance > 4 * eps * gross  # else it is 0 but for rounding
    value = jnp.where(reward > 0, variance / divisor(reward * reward), variance)
    return Candidate(weights=weights, gap=jnp.where(risky, slack / divisor(variance), 0), floor=floor, value=value)
