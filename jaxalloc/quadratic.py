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

import jax.numpy as jnp
from jax import Array, lax

from jaxalloc.correlation import Correlation, correlate
from jaxalloc.feasible import linear_minimum, linear_slack, project, settle
from jaxalloc.lanes import change_where, choose, in_groups, lanes_last, matvec, one_group, positions, while_any
from jaxalloc.linalg import solve_positive_definite

_FIRST_STEPS = 10  # of projected gradient in the first block, and
_GRADIENT_STEPS = 30  # in each further one
_EXCHANGES = 12  # active-set solves after each block
_BLOCKS = 30
_PATIENCE = 3  # blocks before faces that are singular, on which exchanges cycle, get a larger proximal term
_RELEASE = 0.2  # entries leave a bound together whose multipliers are at least this share of the worst
_POWER_STEPS = 8
_SMALL = 24  # clusters at most that count as few: they want fewer exchanges together, and fewer tables


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


class _Measured(NamedTuple):
    """Optimality gap of a point, the part of it that is rounding, and its variance, over its reward's square if any."""

    gap: Array
    floor: Array
    value: Array


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


def _rounding(dtype: Any) -> float:
    """What a multiplier, or an entry of y, may be off: 64 units in the last place, 8 in float32, which has fewer."""
    return (64 if jnp.dtype(dtype) == jnp.float64 else 8) * float(jnp.finfo(dtype).eps)


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
    return _mean_variance(covariance, excess, upper)


def optimality_gap(covariance: Array, excess: Array, upper: Array, weights: Array) -> Array:
    """How far weights are from optimal, scale-free: (g'w - min over feasible s of g's) / w'Sw, g = Sw - ratio e.

    With e = 0 this is 1 - min s'Sw / w'Sw, which bounds the relative excess volatility of minimum variance; otherwise
    max e's / e'w - s'Sw / w'Sw, which to first order bounds the relative shortfall of the Sharpe ratio. 0 where w'Sw
    is 0 up to rounding.

    Args:
        covariance: (K, K) S.
        excess: (K,) e; zeros for minimum variance.
        upper: (K,) u.
        weights: (K,) feasible w.

    Returns:
        () the gap, at least 0.
    """
    risk = correlate(covariance)
    return _measure(_scale(risk, excess, upper), upper, risk.sigma * weights).gap


# ---- with lanes: vectors (K, L), numbers (L,) ------------------------------------------------------------------------


def mean_variance_lanes(risk: Correlation, excesses: Array, uppers: Array) -> Solution:
    """`mean_variance` with lanes, for P problems of one covariance: (K, K, L), (P, K, L) and (P, K, L)."""
    # one after the other: side by side they would want the correlations twice, and outgrow the cache
    return lax.map(lambda problem: _one(risk, *problem), (excesses, uppers))


def _one(risk: Correlation, excess: Array, upper: Array) -> Solution:
    richest = linear_minimum(-excess, upper)
    rewarding = jnp.sum(richest * excess, axis=0) > 0
    excess = jnp.where(rewarding, excess, 0)
    return _solve(_scale(risk, excess, upper), risk, upper, risk.sigma * richest)._replace(altered=~rewarding)


_mean_variance = lanes_last(lambda covariance, *rest: _one(correlate(covariance), *rest))


def _scale(risk: Correlation, excess: Array, upper: Array) -> _Scaled:
    normal = 1 / risk.sigma
    return _Scaled(risk.matrix, normal, risk.sigma * upper, jnp.where(upper > 0, excess * normal, 0))


def _variance(problem: _Scaled, y: Array) -> Array:
    return jnp.sum(y * matvec(problem.correlation, y), axis=0)


def _ratio(problem: _Scaled, y: Array) -> Array:
    reward = jnp.sum(problem.excess * y, axis=0)
    return jnp.where(reward > 0, _variance(problem, y) / _positive(reward), 0)


def _start(problem: _Scaled, richest: Array) -> Array:
    """The best of three portfolios: inverse variance, rewards over variance, and the richest, a vertex."""
    a = jnp.where(problem.upper > 0, problem.normal, 0)
    tilted = jnp.maximum(problem.excess, 0)

    def value(y: Array) -> Array:
        reward = jnp.sum(y * problem.excess, axis=0)
        return jnp.where(reward > 0, reward / jnp.sqrt(_positive(_variance(problem, y))), 0)

    # without a reward every value is 0, and inverse variance is the place to start
    best = project(a / _positive(jnp.sum(a * a, axis=0)), problem.upper, problem.normal)
    highest = value(best)
    for point in (project(tilted / _positive(jnp.sum(tilted * a, axis=0)), problem.upper, problem.normal), richest):
        other = value(point)
        best = jnp.where(other > highest, point, best)
        highest = jnp.maximum(other, highest)
    return best


class _Best(NamedTuple):
    """The best point so far, what `_measure` says of it, and the blocks done."""

    y: Array
    measured: _Measured
    blocks: Array


def _solve(problem: _Scaled, risk: Correlation, upper: Array, richest: Array) -> Solution:
    """Blocks of projected gradient and active set until the gap is small; the best point is kept throughout."""
    # The gradient only has to find out which bounds hold, for which float32 and a few steps nearly always will do: what
    # the active set then solves does not depend on how exactly its start was known. Where it cycles, on faces that are
    # singular, further blocks are in full precision.
    rough = _Scaled(risk.rough, *(leaf.astype(jnp.float32) for leaf in problem[1:]))
    curvature = _curvature(rough)
    first = _start(rough, richest.astype(jnp.float32))

    def stroll(_: Array) -> Array:
        walked = _projected_gradient(rough, curvature, first, _FIRST_STEPS)
        return jnp.where(walked >= rough.upper, problem.upper, walked.astype(upper.dtype))

    def walk(y: Array) -> Array:
        return _projected_gradient(problem, curvature.astype(y.dtype), y, _GRADIENT_STEPS)

    def block(best: _Best) -> _Best:
        fresh = jnp.max(best.blocks) == 0  # lanes that are still at it have all done as many blocks
        if upper.dtype == jnp.float32:  # one program for both
            steps = jnp.where(fresh, _FIRST_STEPS, _GRADIENT_STEPS)
            walked = _projected_gradient(problem, curvature, jnp.where(fresh, first, best.y), steps)
        else:
            walked = lax.cond(fresh, stroll, walk, best.y)
        start = jnp.clip(walked, 0, problem.upper)
        exact = _active_set(problem, start, _proximal(jnp.max(best.blocks)))
        exact = jnp.where(jnp.all(jnp.isfinite(exact), axis=0), exact, start)

        def judge(carry: tuple[_Best, Array]) -> tuple[_Best, Array]:
            found, i = carry
            point = _make_feasible(problem, jnp.where(i == 0, exact, start))
            return _judge(problem, upper, found, point), i + 1

        def doubtful(carry: tuple[_Best, Array]) -> Array:  # where the active set has cycled, its start may be better
            found, i = carry
            return (i == 0) | ((i == 1) & _unsolved(found))

        found, _ = while_any(doubtful, judge, (best, jnp.zeros_like(best.blocks)))
        return found._replace(blocks=best.blocks + 1)

    def unfinished(best: _Best) -> Array:
        return _unsolved(best) & (best.blocks < _BLOCKS)

    infinite = jnp.full(upper.shape[1:], jnp.inf, upper.dtype)
    worst = _Measured(infinite, jnp.zeros_like(infinite), infinite)
    best = while_any(unfinished, block, _Best(richest, worst, jnp.zeros(upper.shape[1:], jnp.int32)))
    full = best.y >= problem.upper  # exactly at the bound, not a rounding below it
    weights = jnp.where(full, upper, jnp.minimum(problem.normal * best.y, upper))
    # a few roundings above 0 are 0: which clusters are held, and who leads them, should not hang on them. Roundings of
    # y, not of w: beside a cluster of hardly any risk the others' tiny weights count.
    small = best.y <= _rounding(weights.dtype) * jnp.max(best.y, axis=0)
    weights = settle(jnp.where(small, 0, weights), upper)
    gap, floor, _ = _measure(problem, upper, risk.sigma * weights)
    converged = gap <= jnp.maximum(accepted(gap.dtype), 2 * floor)
    return Solution(weights, gap, best.blocks, jnp.zeros(gap.shape, bool), converged)


def _unsolved(best: _Best) -> Array:
    gap, floor, _ = best.measured
    return gap > jnp.maximum(tolerance(gap.dtype), floor)


def _judge(problem: _Scaled, upper: Array, best: _Best, y: Array) -> _Best:
    """Keep the better of two points: of lower variance (for its reward), or of lower gap where that is no higher.

    Far from the optimum the gap alone would not do: it is relative to the variance, and may grow as that falls.
    """
    new, old = _measure(problem, upper, y), best.measured
    # where hardly anything earns, a step may lose the reward, and with it the problem
    lost = jnp.any(problem.excess != 0, axis=0) & (jnp.sum(problem.excess * y, axis=0) <= 0)
    margin = 1e-3  # float32 may see less of a difference than this where there is none
    lower, no_higher = new.value < (1 - margin) * old.value, new.value <= (1 + margin) * old.value
    better = ~lost & (lower | (no_higher & (new.gap < old.gap)))
    return choose(better, _Best(y, new, best.blocks), best)


def _make_feasible(problem: _Scaled, y: Array) -> Array:
    """Clip ``y``, and project it where that is not enough: a projection would turn the zeros into rounding errors."""
    clipped = jnp.clip(y, 0, problem.upper)
    error = jnp.abs(jnp.sum(problem.normal * clipped, axis=0) - 1)

    far = error > y.shape[0] * jnp.finfo(y.dtype).eps
    nearest = jnp.where(far, y, clipped)
    return change_where(far, lambda point, _: project(point, problem.upper, problem.normal), nearest)


def _measure(problem: _Scaled, upper: Array, y: Array) -> _Measured:
    """Optimality gap of ``y``, the part of it that no arithmetic of this precision can remove, and the objective."""
    gradient = matvec(problem.correlation, y)
    variance = jnp.sum(y * gradient, axis=0)
    reward = jnp.sum(problem.excess * y, axis=0)
    ratio = jnp.where(reward > 0, variance / _positive(reward), 0)
    cost = (gradient - ratio * problem.excess) / problem.normal
    slack = linear_slack(cost, problem.normal * y, upper)
    unhedged = jnp.sum(y * matvec(problem.correlation, y, absolute=True), axis=0)
    earned = jnp.sum(jnp.abs(problem.excess) * y, axis=0)
    gross_reward = jnp.where(reward > 0, earned / _positive(reward), 0)
    floor = 4 * jnp.finfo(y.dtype).eps * jnp.maximum(unhedged / _positive(variance), gross_reward)
    risky = variance > 4 * jnp.finfo(y.dtype).eps * unhedged  # else it is 0 but for rounding
    value = jnp.where(reward > 0, variance / _positive(reward * reward), variance)
    return _Measured(jnp.where(risky, slack / _positive(variance), 0), floor, value)


def _curvature(problem: _Scaled) -> Array:
    """Largest eigenvalue of C along the plane a . y = 0, in which every step moves; by power iteration, rounded up.

    A market's common factor is the largest eigenvalue of C by far, and it is nearly orthogonal to that plane.
    """
    movable = problem.upper > 0
    a = jnp.where(movable, problem.normal, 0)
    a = a / jnp.sqrt(_positive(jnp.sum(a * a, axis=0)))

    def tangent(x: Array) -> Array:
        return jnp.where(movable, x - jnp.sum(a * x, axis=0) * a, 0)

    def unit(x: Array) -> Array:
        return x / jnp.sqrt(_positive(jnp.sum(x * x, axis=0)))

    def power(_: Array, x: Array) -> Array:
        return unit(tangent(matvec(problem.correlation, x)))

    general = jnp.sin(1 + 2.4 * positions(a.shape[0], a).astype(a.dtype))  # in general position
    x = lax.fori_loop(0, _POWER_STEPS, power, unit(tangent(jnp.broadcast_to(general, a.shape))))
    estimate = 1.2 * _variance(problem, x)
    row_sums = jnp.max(jnp.sum(jnp.abs(problem.correlation), axis=1), axis=0)  # a bound that always holds
    return jnp.clip(estimate, 1, row_sums)


def _projected_gradient(problem: _Scaled, curvature: Array, y: Array, steps: Array | int) -> Array:
    """So many accelerated projected gradient steps (Beck & Teboulle 2009), by jaxopt.

    The objective is divided by its curvature so that the step size is the constant 1, which spares jaxopt's line
    search; a new block restarts the momentum. To jaxopt all lanes are one problem, and every one takes every step.
    (jaxopt's own loop would have the step twice in the program, and its number fixed.)
    """
    solver = _jaxopt().ProjectedGradient(
        fun=_value_and_gradient, projection=_projection, value_and_grad=True, stepsize=1.0, acceleration=True
    )
    bounds = problem.upper, problem.normal
    scaled = problem.correlation / curvature, problem.excess / curvature, _ratio(problem, y)
    start = y, solver.init_state(y, bounds, *scaled)
    return lax.fori_loop(0, steps, lambda _, now: tuple(solver.update(*now, bounds, *scaled)), start)[0]


def _value_and_gradient(y: Array, correlation: Array, excess: Array, ratio: Array) -> tuple[Array, Array]:
    """Cy - ratio e at the ratio of ``y`` itself, or at the given one where the momentum left no reward.

    With the ratio of ``y`` this is the gradient of log(y'Cy) / 2 - log(e'y) times the variance. The value is
    that of all lanes together; with a constant step jaxopt does not use it.
    """
    product = matvec(correlation, y)
    variance, reward = jnp.sum(y * product, axis=0), jnp.sum(y * excess, axis=0)
    now = jnp.where(reward > 0, variance / _positive(reward), ratio)
    return jnp.sum(variance) / 2, product - now * excess


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


def _proximal(blocks: Array) -> Array:
    """What is added to C's diagonal where a step on a face is solved for: (proximal / 2) |step|^2 in the objective.

    As a step is what is solved for, it does not move the optimum (Rockafellar 1976). None at first; where blocks have
    come to nothing it is larger, by turns, and each solve moves less.
    """
    turn = blocks % 3
    larger = jnp.where(turn == 0, 1e-4, jnp.where(turn == 1, 1e-3, 1e-2))
    return jnp.where(blocks < _PATIENCE, 0, larger)


def _active_set(problem: _Scaled, y: Array, proximal: Array) -> Array:
    """Solve the optimality conditions on the face of ``y``, exchanging bounds until their signs agree.

    On the free entries F the optimum has C y = alpha e - beta a; entries at a bound stay there unless the sign of
    their multiplier lets them go (only the worst at once, so that the face stays small), and a free entry that leaves
    its range goes to the bound it crossed (the primal-dual active set of Hintermueller, Ito & Kunisch 2002). Unknown
    are y on F, beta, and where there is a reward alpha = y'Cy / e'y, which turns into a linear equation once C y on F
    is inserted. The step from ``y`` is solved for, not the point, so that each further solve refines the last.

    Returns:
        (K, L) the last point, which may lie outside the feasible set.
    """
    lanes = jnp.zeros(y.shape[1:], jnp.int32)
    start = _Face(y, y <= 0, (y >= problem.upper) & (problem.upper > 0), lanes == 0, lanes)

    def exchange(problem: _Scaled, face: _Face, wanted: Array, most: int = _EXCHANGES) -> _Face:
        def more(face: _Face) -> Array:
            return wanted & face.changed & (face.step < most)

        return while_any(more, lambda face: _solve_face(problem, face, proximal), face)

    if one_group(len(lanes)):
        return exchange(problem, start, start.changed).y
    face = exchange(problem, start, start.changed, most=1 if len(y) <= _SMALL else 3)  # those that most universes need
    return in_groups(face.changed, exchange, problem, face).y


def _solve_face(problem: _Scaled, face: _Face, proximal: Array) -> _Face:
    """One exchange."""
    c, a, b, e = problem
    zero, full = face.at_zero, face.at_upper
    free = ~(zero | full)
    y = jnp.where(zero, 0, jnp.where(full, b, face.y))
    gradient = matvec(c, y)
    step, alpha, beta = _face_step(problem, y, gradient, free, full, proximal)
    y = y + step
    gradient = gradient + matvec(c, step)
    multiplier = gradient - alpha * e + beta * a
    wrong = jnp.where(b > 0, jnp.where(zero, -multiplier, jnp.where(full, multiplier, 0)), 0)
    # a multiplier that is 0 but for rounding holds its bound: let go, it would come and go for ever
    rounding = _rounding(y.dtype) * (jnp.abs(gradient) + jnp.abs(alpha * e) + jnp.abs(beta * a))
    let_go = (wrong > rounding) & (wrong >= _RELEASE * jnp.max(wrong, axis=0))
    new_zero = (zero & ~let_go) | (free & (y < 0))
    new_full = (full & ~let_go) | (free & (y > b))
    changed = jnp.any((new_zero != zero) | (new_full != full), axis=0)
    return _Face(y, new_zero, new_full, changed, face.step + 1)


def _face_step(
    problem: _Scaled, y: Array, gradient: Array, free: Array, full: Array, proximal: Array
) -> tuple[Array, Array, Array]:
    """Step on the free entries to the optimum of the face, with the multipliers alpha and beta.

    The step is alpha p - beta q - r with C_FF [p, q, r] = [e, a, Cy]_F. Two equations fix the multipliers: the new
    point has a . y = 1, and its variance is alpha times its reward. Without a reward alpha is 0; an empty face has no
    step, and beta is then the multiplier that keeps every entry at its upper bound there.
    """
    c, a, _, e = problem

    def total(x: Array) -> Array:
        return jnp.sum(x, axis=0)

    rhs = jnp.where(free[:, None], jnp.stack([gradient, a, e], axis=1), 0)
    solved = _solve_free(c, rhs, free, proximal)
    r, q, p = solved[:, 0], solved[:, 1], solved[:, 2]
    pull = jnp.where(free, matvec(c, jnp.where(full, y, 0)), 0)
    held = total(jnp.where(full, a * y, 0))
    # rows of the two equations: coefficients of alpha and of -beta, and the right-hand side
    sum_alpha, sum_beta, sum_value = total(a * p), total(a * q), 1 - total(a * y) + total(a * r)
    own_alpha = total(pull * p) - total(jnp.where(full, e * y, 0))
    own_beta = total(pull * q) + 1 - held
    own_value = total(pull * r) - total(jnp.where(full, y * gradient, 0))
    determinant = sum_beta * own_alpha - sum_alpha * own_beta
    regular = jnp.any(e != 0, axis=0) & (jnp.abs(determinant) > 0)
    safe = jnp.where(regular, determinant, 1)
    alpha = (sum_beta * own_value - sum_value * own_beta) / safe
    beta = (sum_alpha * own_value - sum_value * own_alpha) / safe

    reward = total(e * y)
    alpha_now = jnp.where(reward > 0, total(y * gradient) / _positive(reward), 0)
    vertex = jnp.max(jnp.where(full, (gradient - alpha_now * e) / a, -jnp.inf), axis=0)
    beta_now = jnp.where(
        sum_beta > 0,
        (alpha_now * sum_alpha - sum_value) / _positive(sum_beta),
        jnp.where(jnp.any(full, axis=0), -vertex, 0),
    )
    alpha, beta = jnp.where(regular, alpha, alpha_now), jnp.where(regular, beta, beta_now)
    return alpha * p - beta * q - r, alpha, beta


def _solve_free(matrix: Array, rhs: Array, free: Array, proximal: Array) -> Array:
    """Solve (matrix_FF + proximal) X_F = rhs_F for the free entries F; X is 0 elsewhere.

    Few clusters are free at an optimum, whatever K. So they are gathered into a small table and solved there; the
    universes with more of them are gathered into groups, with larger tables.
    """
    size, lanes = free.shape
    tables = _tables(size)
    if len(tables) == 1 or (lanes == 1 and size <= _SMALL):
        return _solve_masked(matrix, rhs, free, proximal)
    count = jnp.sum(free, axis=0, dtype=jnp.int32)
    earlier = positions(size, matrix) > jnp.swapaxes(positions(size, matrix), 0, 1)  # row i, column j: j < i
    slot = jnp.sum(jnp.where(earlier & free[None], 1, 0), axis=1, dtype=jnp.int32)
    solution = _solve_in_table(matrix, rhs, free, slot, count, proximal, tables[0])
    for smaller, rows in itertools.pairwise(tables):

        def larger(problem: tuple[Array, ...], _: Array, wanted: Array, rows: int = rows) -> Array:
            matrix, rhs, free, slot, count = problem
            return _solve_in_table(matrix, rhs, free & wanted, slot, count, proximal, rows)

        fits = (count > smaller) & (count <= rows)
        solution = in_groups(fits, larger, (matrix, rhs, free, slot, count), solution)
    return solution


def _tables(size: int) -> tuple[int, ...]:
    """Rows of the tables for the free ones of so many clusters, the first large enough for most universes.

    Example:
        >>> _tables(8), _tables(20), _tables(34), _tables(84)
        ((8,), (12, 20), (16, 24, 34), (24, 48, 84))
    """
    few = (12,) if size <= _SMALL else (16, 24) if size <= 49 else (24, 48)
    return (*(rows for rows in few if rows < size), size)


def _solve_in_table(
    matrix: Array, rhs: Array, free: Array, slot: Array, count: Array, proximal: Array, rows: int
) -> Array:
    """`_solve_free` in a table of so many rows, which must be enough; entry i has row ``slot[i]``."""
    if rows == free.shape[0]:
        return _solve_masked(matrix, rhs, free, proximal)
    taken = positions(rows, matrix) == jnp.where(free, slot, rows)[None]  # (rows, K, L): table row r holds entry i
    chosen = jnp.sum(jnp.where(taken, jnp.swapaxes(positions(free.shape[0], matrix), 0, 1), 0), axis=1)
    used = positions(rows, free) < count
    size = free.shape[0]
    places = (chosen[:, None] * size + chosen[None]).reshape(rows * rows, *free.shape[1:])
    flat = matrix.reshape(size * size, *free.shape[1:])
    table = jnp.take_along_axis(flat, places, axis=0, mode="clip").reshape(rows, rows, *free.shape[1:])
    own = jnp.take_along_axis(rhs, chosen[:, None], axis=0, mode="clip")
    small = _solve_masked(table, own, used, proximal)
    back = jnp.take_along_axis(small, jnp.minimum(slot, rows - 1)[:, None], axis=0, mode="clip")
    return jnp.where(free[:, None], back, 0)


def _solve_masked(matrix: Array, rhs: Array, free: Array, proximal: Array) -> Array:
    rows = positions(free.shape[0], matrix)
    block = jnp.where(free[:, None] & free[None], matrix, 0)
    # at least of rounding size, which bounds the step where the face is singular
    least = 4 * free.shape[0] * float(jnp.finfo(matrix.dtype).eps)
    diagonal = jnp.where(free, 1 + jnp.maximum(least, proximal.astype(matrix.dtype)), 1)
    block = jnp.where(rows == jnp.swapaxes(rows, 0, 1), diagonal[:, None], block)
    return solve_positive_definite(block, jnp.where(free[:, None], rhs, 0))


def _positive(x: Array) -> Array:
    return jnp.where(x > 0, x, 1)
