"""Projected gradient over {0 <= y <= b, a . y = 1}, accelerated: which bounds hold is found in a few steps."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.lanes.products import divisor, matvec, positions
from jaxalloc.kernels.solvers.capped_simplex import project
from jaxalloc.kernels.solvers.problem import MeanVarianceProblem, ratio_of, variance_of

_POWER_STEPS = 8


def curvature_of(problem: MeanVarianceProblem, backend: Backend) -> Array:
    """Largest eigenvalue of C along the plane a . y = 0, in which every step moves; by power iteration, rounded up.

    A market's common factor is the largest eigenvalue of C by far, and it is nearly orthogonal to that plane.
    """
    movable = problem.upper > 0
    a = jnp.where(movable, problem.normal, 0)
    a = a / jnp.sqrt(divisor(jnp.sum(a * a, axis=0)))

    def tangent(x: Array) -> Array:
        return jnp.where(movable, x - jnp.sum(a * x, axis=0) * a, 0)

    def unit(x: Array) -> Array:
        return x / jnp.sqrt(divisor(jnp.sum(x * x, axis=0)))

    def power(_: Array, x: Array) -> Array:
        return unit(tangent(matvec(problem.correlation, x, backend)))

    general = jnp.sin(1 + 2.4 * positions(a.shape[0], a).astype(a.dtype))  # in general position
    x = lax.fori_loop(0, _POWER_STEPS, power, unit(tangent(jnp.broadcast_to(general, a.shape))))
    estimate = 1.2 * variance_of(problem, x, backend)
    row_sums = jnp.max(jnp.sum(jnp.abs(problem.correlation), axis=1), axis=0)  # a bound that always holds
    return jnp.clip(estimate, 1, row_sums)


def projected_gradient(
    problem: MeanVarianceProblem, curvature: Array, y: Array, steps: Array | int, backend: Backend
) -> Array:
    """So many accelerated projected gradient steps (Beck & Teboulle 2009), by jaxopt.

    The objective is divided by its curvature so that the step size is the constant 1, which spares jaxopt's line
    search; a new block restarts the momentum. To jaxopt all lanes are one problem, and every lane takes every step.
    (jaxopt's own loop would have the step twice in the program, and a fixed number of steps.)
    """
    solver = _solver(backend)
    bounds = problem.upper, problem.normal
    scaled = problem.correlation / curvature, problem.excess / curvature, ratio_of(problem, y, backend)
    start = y, solver.init_state(y, bounds, *scaled)
    return lax.fori_loop(0, steps, lambda _, now: tuple(solver.update(*now, bounds, *scaled)), start)[0]


def _value_and_gradient(
    y: Array, correlation: Array, excess: Array, ratio: Array, *, backend: Backend
) -> tuple[Array, Array]:
    """Cy - ratio e at the ratio of ``y`` itself, or at the given one where the momentum left no reward.

    With the ratio of ``y`` this is the gradient of log(y'Cy) / 2 - log(e'y) times the variance. With a constant step
    jaxopt does not use the value.
    """
    product = matvec(correlation, y, backend)
    variance, reward = jnp.sum(y * product, axis=0), jnp.sum(y * excess, axis=0)
    now = jnp.where(reward > 0, variance / divisor(reward), ratio)
    return jnp.zeros((), y.dtype), product - now * excess


def _projection(y: Array, bounds: tuple[Array, Array], _: Any) -> Array:
    return project(y, *bounds)


@functools.cache
def _solver(backend: Backend) -> Any:
    """Make jaxopt's solver. This is the one place that imports jaxopt, when a problem is first traced.

    jaxopt measures how far a step went by a norm over all entries, which would be across lanes, and which nothing here
    reads. The import's notice that jaxopt has come to its end of life is silenced.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        import jaxopt

    class WithoutError(jaxopt.ProximalGradient):
        def _error(self, diff_x: Array, stepsize: Any) -> Array:
            return jnp.zeros((), diff_x.dtype)

    return WithoutError(
        fun=functools.partial(_value_and_gradient, backend=backend),
        prox=_projection,
        value_and_grad=True,
        stepsize=1.0,
        acceleration=True,
    )
