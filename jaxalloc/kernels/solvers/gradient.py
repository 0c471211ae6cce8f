"""Projected gradient over {0 <= y <= b, a . y = 1}, accelerated: which bounds hold is found in a few steps."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.lanes.control import choose
from jaxalloc.kernels.lanes.products import divisor, matvec, positions
from jaxalloc.kernels.solvers.capped_simplex import project
from jaxalloc.kernels.solvers.problem import MeanVarianceProblem


def curvature_of(problem: MeanVarianceProblem, backend: Backend, steps: int) -> Array:
    """Largest eigenvalue of C along the plane a . y = 0, in which every step moves; by power iteration, rounded up.

    A market's common factor is the largest eigenvalue of C by far, and it is nearly orthogonal to that plane.

    Args:
        problem: with lanes.
        backend: static.
        steps: static, of the iteration; after few of them the result may be less than the eigenvalue.
    """
    movable = problem.upper > 0
    a = jnp.where(movable, problem.normal, 0)
    a = a / jnp.sqrt(divisor(jnp.sum(a * a, axis=0)))

    def unit_tangent(x: Array) -> Array:
        x = jnp.where(movable, x - jnp.sum(a * x, axis=0) * a, 0)
        return x / jnp.sqrt(divisor(jnp.sum(x * x, axis=0)))

    def power(_: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        x, _ = carry
        image = matvec(problem.correlation, x, backend, problem.rows)
        return unit_tangent(image), jnp.sum(x * image, axis=0)

    general = jnp.sin(1 + 2.4 * positions(a.shape[0], a).astype(a.dtype))  # in general position
    x = unit_tangent(jnp.broadcast_to(general, a.shape))
    _, quotient = lax.fori_loop(0, steps + 1, power, (x, jnp.zeros_like(x[0])))
    return jnp.maximum(1.2 * quotient, 1)


def projected_gradient(
    problem: MeanVarianceProblem,
    curvature: Array,
    y: Array,
    ratio: Array,
    steps: int,
    wanted: Array,
    backend: Backend,
) -> Array:
    """So many accelerated projected gradient steps (Beck & Teboulle 2009), by jaxopt, in the lanes that want them.

    The objective is divided by its curvature so that the step size is the constant 1, which spares jaxopt's line
    search; a new block restarts the momentum. To jaxopt all lanes are one problem, and every lane takes every step.
    (jaxopt's own loop would have the step twice in the program, and a fixed number of steps.)

    Args:
        problem: with lanes.
        curvature: (L,) of `curvature_of`.
        y: (K, L) where to start.
        ratio: (L,) variance over reward of ``y``; 0 without a positive reward.
        steps: how many.
        wanted: (L,) bool; where no lane wants any, none is taken.
        backend: static.
    """
    solver = _solver(backend)
    bounds = problem.upper, problem.normal
    posed = problem.correlation, problem.excess, curvature, ratio, problem.rows
    start = y, solver.init_state(y, bounds, *posed)

    def more(carry: tuple[Array, Any]) -> Array:
        turn, _ = carry
        return (turn < steps) & jnp.any(wanted)

    def step(carry: tuple[Array, Any]) -> tuple[Array, Any]:
        turn, now = carry
        return turn + 1, tuple(solver.update(*now, bounds, *posed))

    _, (end, _) = lax.while_loop(more, step, (jnp.int32(0), start))
    return choose(wanted, end, y)


def _value_and_gradient(
    y: Array, correlation: Array, excess: Array, curvature: Array, ratio: Array, rows: Array, *, backend: Backend
) -> tuple[Array, Array]:
    """(Cy - ratio e) / curvature at the ratio of ``y`` itself, or at the given one where the momentum left no reward.

    With the ratio of ``y`` this is the gradient of log(y'Cy) / 2 - log(e'y) times the variance. With a constant step
    jaxopt does not use the value.
    """
    product = matvec(correlation, y, backend, rows)
    variance, reward = jnp.sum(y * product, axis=0), jnp.sum(y * excess, axis=0)
    now = jnp.where(reward > 0, variance / divisor(reward), ratio)
    return jnp.zeros((), y.dtype), (product - now * excess) / curvature


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
