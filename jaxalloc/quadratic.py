"""Minimum variance and maximum Sharpe over the capped simplex: projected gradient, finished by an active set.

Both are solved in the *variance metric*, y = sigma w: the Hessian becomes the correlation matrix C, and the feasible
set {0 <= y <= b, a . y = 1} with a = 1 / sigma, b = sigma u. Their gradient has one form, C y - ratio e, where ratio is
0 for minimum variance and y'Cy / e'y for maximum Sharpe: with the ratio held fixed, a step that lowers
y'Cy / 2 - ratio e'y raises the Sharpe ratio (by the inequality of the arithmetic and geometric means). A block of
accelerated projected gradient steps finds which bounds hold; an active set then solves for the face exactly, ratio and
all, and goes on exchanging bounds while their multipliers ask for it. Such exchanges can cycle, so the better of the
two points is kept, by its optimality gap, and the next block starts from it.
"""

from __future__ import annotations

import itertools
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxalloc.feasible import linear_minimum, linear_slack, project, settle
from jaxalloc.linalg import dot, quadratic_form, solve_positive_definite

_GRADIENT_STEPS = 30  # of one block
_EXCHANGES = 8  # active-set solves after each block
_BLOCKS = 30
_RELEASE = 0.2  # entries leave a bound together whose multipliers are at least this share of the worst
_FREE = (24, 48)  # rows of the tables in which a face is solved, before all
_POWER_STEPS = 8


class Solution(NamedTuple):
    """A portfolio of clusters.

    Attributes:
        weights: (K,) at least 0, sum 1, within the bounds.
        gap: () optimality gap, see `optimality_gap`.
        iterations: () int32, blocks of projected gradient steps (or sweeps, for risk parity).
        altered: () bool: the problem had no answer as posed and a stated substitute was solved.
        converged: () bool: the gap is within the tolerance of the precision, or at its rounding floor.
    """

    weights: Array
    gap: Array
    iterations: Array
    altered: Array
    converged: Array


class _Scaled(NamedTuple):
    """A problem in the variance metric: correlation C, normal a = 1 / sigma, upper bounds b, excess return e."""

    correlation: Array
    normal: Array
    upper: Array
    excess: Array


def tolerance(dtype: Any) -> float:
    """Optimality gap at which a solver stops: 1e-11 in float64, 3e-6 in float32."""
    return 1e-11 if jnp.dtype(dtype) == jnp.float64 else 3e-6


def accepted(dtype: Any) -> float:
    """Optimality gap that counts as solved: 5e-10 in float64, 8e-6 in float32."""
    return 5e-10 if jnp.dtype(dtype) == jnp.float64 else 8e-6


def min_variance(covariance: Array, upper: Array) -> Solution:
    """Minimise w'Sw over {0 <= w <= u, sum w = 1}.

    Args:
        covariance: (K, K) S, symmetric positive semidefinite, positive diagonal.
        upper: (K,) u with sum u >= 1; 0 for a cluster that takes no part.

    Returns:
        `Solution`; ``altered`` is False.
    """
    solution = mean_variance(covariance, jnp.zeros_like(upper), upper)
    return solution._replace(altered=jnp.bool_(False))


def max_sharpe(covariance: Array, excess: Array, upper: Array) -> Solution:
    """Maximise e'w / sqrt(w'Sw) over {0 <= w <= u, sum w = 1}.

    Where no such w has e'w > 0 the ratio is meaningless: minimum variance is solved in its place, and ``altered`` set.

    Args:
        covariance: (K, K) S, symmetric positive semidefinite, positive diagonal.
        excess: (K,) e, mean return less the risk-free rate.
        upper: (K,) u with sum u >= 1; 0 for a cluster that takes no part.

    Returns:
        `Solution`.
    """
    return mean_variance(covariance, excess, upper)


def mean_variance(covariance: Array, excess: Array, upper: Array) -> Solution:
    """`max_sharpe`, or `min_variance` where no feasible w has e'w > 0 (e = 0 among them): one kernel for both."""
    richest = linear_minimum(-excess, upper)
    rewarding = jnp.sum(richest * excess) > 0
    excess = jnp.where(rewarding, excess, 0)
    problem, sigma = _scale(covariance, excess, upper)
    return _solve(problem, sigma, upper, _start(problem, sigma * richest))._replace(altered=~rewarding)


def optimality_gap(covariance: Array, excess: Array, upper: Array, weights: Array) -> Array:
    """How far weights are from optimal, scale-free: (g'w - min over feasible s of g's) / w'Sw, g = Sw - ratio e.

    With e = 0 this is 1 - min s'Sw / w'Sw, which bounds the relative excess volatility of minimum variance; otherwise
    max e's / e'w - s'Sw / w'Sw, which to first order bounds the relative shortfall of the Sharpe ratio. 0 where w'Sw
    is 0.

    Args:
        covariance: (K, K) S.
        excess: (K,) e; zeros for minimum variance.
        upper: (K,) u.
        weights: (K,) feasible w.

    Returns:
        () the gap, at least 0.
    """
    problem, sigma = _scale(covariance, excess, upper)
    return _gap(problem, upper, sigma * weights)[0]


def _scale(covariance: Array, excess: Array, upper: Array) -> tuple[_Scaled, Array]:
    index = jnp.arange(upper.shape[0], dtype=jnp.int32)
    sigma = jnp.sqrt(jnp.where(upper > 0, jnp.diagonal(covariance), 1))
    apart = (upper > 0)[:, None] & (upper > 0)[None, :]
    normal = 1 / sigma
    correlation = jnp.where(apart, covariance * normal[:, None] * normal[None, :], 0)
    correlation = jnp.where(index[:, None] == index[None, :], 1, correlation)
    return _Scaled(correlation, normal, sigma * upper, jnp.where(upper > 0, excess * normal, 0)), sigma


def _ratio(problem: _Scaled, y: Array) -> Array:
    reward = jnp.sum(problem.excess * y)
    return jnp.where(reward > 0, quadratic_form(problem.correlation, y) / _positive(reward), 0)


def _start(problem: _Scaled, richest: Array) -> Array:
    """The best of three portfolios: inverse variance, rewards over variance, and the richest, a vertex."""
    a = jnp.where(problem.upper > 0, problem.normal, 0)
    tilted = jnp.maximum(problem.excess, 0)
    points = jnp.stack([a / _positive(jnp.sum(a * a)), tilted / _positive(jnp.sum(tilted * a))])
    points = jax.vmap(project, in_axes=(0, None, None))(points, problem.upper, problem.normal)
    candidates = jnp.concatenate([points, richest[None, :]])
    reward = dot(candidates, problem.excess)
    variance = jnp.sum(candidates * dot(candidates, problem.correlation), axis=1)
    value = jnp.where(reward > 0, reward / jnp.sqrt(_positive(variance)), 0)
    # without a reward every value is 0, and inverse variance is the place to start
    return candidates[jnp.argmax(value)]


def _solve(problem: _Scaled, sigma: Array, upper: Array, start: Array) -> Solution:
    """Blocks of projected gradient and active set until the gap is small; the best point is kept throughout."""
    curvature = _curvature(problem)

    def block(state: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        y, gap, floor, i = state
        walked = _projected_gradient(problem, curvature, y)
        exact = _active_set(problem, walked)
        exact = _make_feasible(problem, jnp.where(jnp.isfinite(exact), exact, walked))
        points = jnp.stack([exact, walked])
        gaps, floors = jax.vmap(_gap, in_axes=(None, None, 0))(problem, upper, points)
        # where hardly anything earns, a step may lose the reward, and with it the problem
        lost = jnp.any(problem.excess != 0) & (dot(points, problem.excess) <= 0)
        best = jnp.argmin(jnp.where(lost, jnp.inf, gaps))
        new = points[best], gaps[best], floors[best]
        return *jax.tree.map(lambda new, old: jnp.where(jnp.all(lost), old, new), new, (y, gap, floor)), i + 1

    def unfinished(state: tuple[Array, Array, Array, Array]) -> Array:
        _, gap, floor, i = state
        return (gap > jnp.maximum(tolerance(gap.dtype), floor)) & (i < _BLOCKS)

    infinite = jnp.full((), jnp.inf, start.dtype)
    y, gap, floor, blocks = lax.while_loop(unfinished, block, (start, infinite, jnp.zeros_like(infinite), jnp.int32(0)))
    weights = jnp.minimum(problem.normal * y, upper)
    # a rounding above 0 is 0: which clusters are held, and who leads them, should not hang on it
    weights = settle(jnp.where(weights <= jnp.finfo(weights.dtype).eps, 0, weights), upper)
    gap, floor = _gap(problem, upper, sigma * weights)
    converged = gap <= jnp.maximum(accepted(gap.dtype), 2 * floor)
    return Solution(weights, gap, blocks, jnp.bool_(False), converged)


def _make_feasible(problem: _Scaled, y: Array) -> Array:
    """Clip ``y``, and project it where that is not enough: a projection would turn the zeros into rounding errors."""
    clipped = jnp.clip(y, 0, problem.upper)
    error = jnp.abs(jnp.sum(problem.normal * clipped) - 1)
    rounding = y.shape[0] * jnp.finfo(y.dtype).eps
    return jnp.where(error <= rounding, clipped, project(y, problem.upper, problem.normal))


def _gap(problem: _Scaled, upper: Array, y: Array) -> tuple[Array, Array]:
    """Optimality gap of ``y``, and the part of it that no arithmetic of this precision can remove."""
    gradient = dot(problem.correlation, y)
    variance = jnp.sum(y * gradient)
    reward = jnp.sum(problem.excess * y)
    ratio = jnp.where(reward > 0, variance / _positive(reward), 0)
    cost = (gradient - ratio * problem.excess) / problem.normal
    slack = linear_slack(cost, problem.normal * y, upper)
    gross = quadratic_form(jnp.abs(problem.correlation), y) / _positive(variance)
    gross_reward = jnp.where(reward > 0, jnp.sum(jnp.abs(problem.excess) * y) / _positive(reward), 0)
    floor = 4 * jnp.finfo(y.dtype).eps * jnp.maximum(gross, gross_reward)
    return jnp.where(variance > 0, slack / _positive(variance), 0), floor


def _curvature(problem: _Scaled) -> Array:
    """Largest eigenvalue of C along the plane a . y = 0, in which every step moves; by power iteration, rounded up.

    A market's common factor is the largest eigenvalue of C by far, and it is nearly orthogonal to that plane.
    """
    movable = problem.upper > 0
    a = jnp.where(movable, problem.normal, 0)
    a = a / jnp.sqrt(_positive(jnp.sum(a * a)))

    def tangent(x: Array) -> Array:
        return jnp.where(movable, x - jnp.sum(a * x) * a, 0)

    def power(_: Array, x: Array) -> Array:
        x = tangent(dot(problem.correlation, x))
        return x / jnp.sqrt(_positive(jnp.sum(x * x)))

    x = tangent(jnp.sin(1 + 2.4 * jnp.arange(a.shape[0], dtype=a.dtype)))  # in general position
    x = lax.fori_loop(0, _POWER_STEPS, power, x / jnp.sqrt(_positive(jnp.sum(x * x))))
    estimate = 1.2 * quadratic_form(problem.correlation, x)
    row_sums = jnp.max(jnp.sum(jnp.abs(problem.correlation), axis=1))  # a bound that always holds
    return jnp.clip(estimate, 1, row_sums)


def _projected_gradient(problem: _Scaled, curvature: Array, y: Array) -> Array:
    """One block of accelerated projected gradient steps (Beck & Teboulle 2009), by jaxopt.

    The objective is divided by its curvature so that the step size is the constant 1, which spares jaxopt's line
    search; a new block restarts the momentum.
    """
    solver = _jaxopt().ProjectedGradient(
        fun=_value_and_gradient,
        projection=_projection,
        value_and_grad=True,
        stepsize=1.0,
        maxiter=_GRADIENT_STEPS,
        tol=float(jnp.finfo(y.dtype).eps),
        acceleration=True,
        implicit_diff=False,
    )
    scaled = (problem.correlation / curvature, problem.excess / curvature, _ratio(problem, y))
    return solver.run(y, (problem.upper, problem.normal), *scaled).params


def _value_and_gradient(y: Array, correlation: Array, excess: Array, ratio: Array) -> tuple[Array, Array]:
    """Cy - ratio e at the ratio of ``y`` itself, or at the given one where the momentum left no reward.

    With the ratio of ``y`` this is the gradient of log(y'Cy) / 2 - log(e'y) times the variance. The value is
    variance / 2; with a constant step jaxopt does not use it.
    """
    product = dot(correlation, y)
    variance, reward = jnp.sum(y * product), jnp.sum(y * excess)
    now = jnp.where(reward > 0, variance / _positive(reward), ratio)
    return variance / 2, product - now * excess


def _projection(y: Array, hyperparams: tuple[Array, Array]) -> Array:
    return project(y, *hyperparams)


def _jaxopt() -> Any:
    """The one place that imports jaxopt, when a solver is first traced, and silences its end-of-life notice."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        import jaxopt
    return jaxopt


class _Face(NamedTuple):
    """State of the active set: the point, which entries sit at 0 and at their bound, and whether that changed."""

    y: Array
    at_zero: Array
    at_upper: Array
    changed: Array
    step: Array


def _active_set(problem: _Scaled, y: Array) -> Array:
    """Solve the optimality conditions on the face of ``y``, exchanging bounds until their signs agree.

    On the free entries F the optimum has C y = alpha e - beta a; entries at a bound stay there unless the sign of
    their multiplier lets them go (only the worst at once, so that the face stays small), and a free entry that leaves
    its range goes to the bound it crossed (the primal-dual active set of Hintermueller, Ito & Kunisch 2002). Unknown
    are y on F, beta, and where there is a reward alpha = y'Cy / e'y, which turns into a linear equation once C y on F
    is inserted. The step from ``y`` is solved for, not the point, so that each further solve refines the last.

    Returns:
        (K,) the last point, which may lie outside the feasible set.
    """
    c, a, b, e = problem

    def solve_face(state: _Face) -> _Face:
        zero, full = state.at_zero, state.at_upper
        free = ~(zero | full)
        y = jnp.where(zero, 0, jnp.where(full, b, state.y))
        gradient = dot(c, y)
        step, alpha, beta = _face_step(problem, y, gradient, free, full)
        y = y + step
        multiplier = gradient + dot(c, step) - alpha * e + beta * a
        wrong = jnp.where(b > 0, jnp.where(zero, -multiplier, jnp.where(full, multiplier, 0)), 0)
        let_go = (wrong > 0) & (wrong >= _RELEASE * jnp.max(wrong))
        new_zero = (zero & ~let_go) | (free & (y < 0))
        new_full = (full & ~let_go) | (free & (y > b))
        changed = jnp.any((new_zero != zero) | (new_full != full))
        return _Face(y, new_zero, new_full, changed, state.step + 1)

    def exchanging(state: _Face) -> Array:
        return state.changed & (state.step < _EXCHANGES)

    start = _Face(y, y <= 0, (y >= b) & (b > 0), jnp.bool_(True), jnp.int32(0))
    return lax.while_loop(exchanging, solve_face, start).y


def _face_step(problem: _Scaled, y: Array, gradient: Array, free: Array, full: Array) -> tuple[Array, Array, Array]:
    """Step on the free entries to the optimum of the face, with the multipliers alpha and beta.

    The step is alpha p - beta q - r with C_FF [p, q, r] = [e, a, Cy]_F. Two equations fix the multipliers: the new
    point has a . y = 1, and its variance is alpha times its reward. Without a reward alpha is 0; an empty face has no
    step, and beta is then the multiplier that keeps every entry at its upper bound there.
    """
    c, a, _, e = problem
    rhs = jnp.where(free[:, None], jnp.stack([gradient, a, e], axis=1), 0)
    solved = _solve_free(c, rhs, free)
    r, q, p = solved[:, 0], solved[:, 1], solved[:, 2]
    pull = jnp.where(free, dot(c, jnp.where(full, y, 0)), 0)
    held = jnp.sum(jnp.where(full, a * y, 0))
    # rows of the two equations: coefficients of alpha and of -beta, and the right-hand side
    sum_alpha, sum_beta, sum_value = jnp.sum(a * p), jnp.sum(a * q), 1 - jnp.sum(a * y) + jnp.sum(a * r)
    own_alpha = jnp.sum(pull * p) - jnp.sum(jnp.where(full, e * y, 0))
    own_beta = jnp.sum(pull * q) + 1 - held
    own_value = jnp.sum(pull * r) - jnp.sum(jnp.where(full, y * gradient, 0))
    determinant = sum_beta * own_alpha - sum_alpha * own_beta
    regular = jnp.any(e != 0) & (jnp.abs(determinant) > 0)
    safe = jnp.where(regular, determinant, 1)
    alpha = (sum_beta * own_value - sum_value * own_beta) / safe
    beta = (sum_alpha * own_value - sum_value * own_alpha) / safe

    reward = jnp.sum(e * y)
    alpha_now = jnp.where(reward > 0, jnp.sum(y * gradient) / _positive(reward), 0)
    vertex = jnp.max(jnp.where(full, (gradient - alpha_now * e) / a, -jnp.inf))
    beta_now = jnp.where(
        sum_beta > 0,
        (alpha_now * sum_alpha - sum_value) / _positive(sum_beta),
        jnp.where(jnp.any(full), -vertex, 0),
    )
    alpha, beta = jnp.where(regular, alpha, alpha_now), jnp.where(regular, beta, beta_now)
    return alpha * p - beta * q - r, alpha, beta


def _solve_free(matrix: Array, rhs: Array, free: Array) -> Array:
    """Solve matrix_FF X_F = rhs_F for the free entries F; X is 0 elsewhere.

    Few clusters are free at an optimum, whatever K. So they are gathered into a small table and solved there; a
    universe with more of them takes a larger one, in a loop of at most one turn, which costs nothing where no universe
    of the tile needs it (a `lax.cond` would be computed for all).
    """
    size = free.shape[0]
    slot = jnp.cumsum(free, dtype=jnp.int32) - 1
    tables = [*(rows for rows in _FREE if rows < size), size]
    solution = _solve_in_table(matrix, rhs, free, slot, tables[0])
    for smaller, rows in itertools.pairwise(tables):

        def larger(state: tuple[Array, Array], rows: int = rows) -> tuple[Array, Array]:
            # `state[1]` is True here; without it XLA would see a constant and compute it before the loop, for all
            return _solve_in_table(matrix, rhs, free & state[1], slot, rows), jnp.bool_(False)

        solution, _ = lax.while_loop(lambda state: state[1], larger, (solution, slot[-1] >= smaller))
    return solution


def _solve_in_table(matrix: Array, rhs: Array, free: Array, slot: Array, rows: int) -> Array:
    """`_solve_free` in a table of so many rows, which must be enough; entry i has row ``slot[i]``."""
    size = free.shape[0]
    if rows == size:
        return _solve_masked(matrix, rhs, free)
    index = jnp.arange(size, dtype=jnp.int32)
    chosen = jnp.zeros(rows, jnp.int32).at[jnp.where(free, slot, rows)].set(index, mode="drop")
    used = jnp.arange(rows, dtype=jnp.int32) <= slot[-1]
    small = _solve_masked(matrix[chosen[:, None], chosen[None, :]], rhs[chosen], used)
    return jnp.where(free[:, None], small[jnp.clip(slot, 0, rows - 1)], 0)


def _solve_masked(matrix: Array, rhs: Array, free: Array) -> Array:
    index = jnp.arange(free.shape[0], dtype=jnp.int32)
    block = jnp.where(free[:, None] & free[None, :], matrix, 0)
    # A proximal term of rounding size: it bounds the step where the face is singular, and as a step is what is solved
    # for it does not move the optimum.
    ridge = 4 * free.shape[0] * jnp.finfo(matrix.dtype).eps
    block = jnp.where(index[:, None] == index[None, :], jnp.where(free[:, None], 1 + ridge, 1), block)
    return solve_positive_definite(block, jnp.where(free[:, None], rhs, 0))


def _positive(x: Array) -> Array:
    return jnp.where(x > 0, x, 1)
