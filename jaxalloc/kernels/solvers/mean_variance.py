"""Minimum variance and maximum Sharpe over the capped simplex: projected gradient, finished by an active set.

Both are solved in the *variance metric*, y = sigma w: the Hessian becomes the correlation matrix C, and the feasible
set {0 <= y <= b, a . y = 1} with a = 1 / sigma, b = sigma u. Their gradient has one form, C y - ratio e, where ratio is
0 for minimum variance and y'Cy / e'y for maximum Sharpe: with the ratio held fixed, a step that lowers
y'Cy / 2 - ratio e'y raises the Sharpe ratio (by the inequality of the arithmetic and geometric means). A block of
accelerated projected gradient steps finds which bounds hold; an active set then solves for the face exactly, ratio and
all, and goes on exchanging bounds while their multipliers ask for it. Such exchanges can cycle, so the better of the
two points is kept, and the next block starts from it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from jaxalloc.kernels.lanes.adapter import lanes_last
from jaxalloc.kernels.lanes.backend import Backend, if_any
from jaxalloc.kernels.lanes.control import choose, in_groups, while_any
from jaxalloc.kernels.lanes.products import divisor, matvec
from jaxalloc.kernels.solvers.active_set import active_set
from jaxalloc.kernels.solvers.capped_simplex import linear_minimum, linear_slack, project, settle
from jaxalloc.kernels.solvers.gradient import curvature_of, projected_gradient
from jaxalloc.kernels.solvers.problem import (
    Correlation,
    MeanVarianceProblem,
    Solution,
    accepted,
    correlate,
    rounding,
    tolerance,
    variance_of,
)

_FIRST_STEPS = 10  # of projected gradient in the first block
_FURTHER_STEPS = 30  # of projected gradient in a further block, as a rule
_BLOCKS = 30  # at most
_PLAIN_BLOCKS = 3  # without a proximal term; where they fail, the face is likely singular, and exchanges cycle on it


class _Measured(NamedTuple):
    """What is known of a point.

    Attributes:
        gap: (L,) optimality gap.
        floor: (L,) the part of the gap that is rounding.
        value: (L,) variance; over the reward's square where there is a reward.
    """

    gap: Array
    floor: Array
    value: Array


def min_variance(covariance: Array, upper: Array, backend: Backend) -> Solution:
    """Minimise w'Sw over {0 <= w <= u, sum w = 1}.

    Args:
        covariance: (K, K) S, symmetric positive semidefinite, positive diagonal.
        upper: (K,) u with sum u >= 1; 0 for a cluster that takes no part.
        backend: static.

    Returns:
        `Solution`; ``altered`` is False.
    """
    solution = mean_variance(covariance, jnp.zeros_like(upper), upper, backend)
    return solution._replace(altered=jnp.bool_(False))


def max_sharpe(covariance: Array, excess: Array, upper: Array, backend: Backend) -> Solution:
    """Maximise e'w / sqrt(w'Sw) over {0 <= w <= u, sum w = 1}.

    Where no such w has e'w > 0 the ratio is meaningless: minimum variance is solved in its place, and ``altered`` set.

    Args:
        covariance: (K, K) S, symmetric positive semidefinite, positive diagonal.
        excess: (K,) e, mean return less the risk-free rate.
        upper: (K,) u with sum u >= 1; 0 for a cluster that takes no part.
        backend: static.

    Returns:
        `Solution`.
    """
    return mean_variance(covariance, excess, upper, backend)


def mean_variance(covariance: Array, excess: Array, upper: Array, backend: Backend) -> Solution:
    """`max_sharpe`, or `min_variance` where no feasible w has e'w > 0 (e = 0 among them): one kernel for both."""
    return _in_lanes(backend)(covariance, excess, upper)


def optimality_gap(covariance: Array, excess: Array, upper: Array, weights: Array, backend: Backend) -> Array:
    """How far weights are from optimal, scale-free: (g'w - min over feasible s of g's) / w'Sw, g = Sw - ratio e.

    With e = 0 this is 1 - min s'Sw / w'Sw, which bounds the relative excess volatility of minimum variance; otherwise
    max e's / e'w - s'Sw / w'Sw, which to first order bounds the relative shortfall of the Sharpe ratio. 0 where w'Sw
    is 0 up to rounding.

    Args:
        covariance: (K, K) S.
        excess: (K,) e; zeros for minimum variance.
        upper: (K,) u.
        weights: (K,) feasible w.
        backend: static.

    Returns:
        () the gap, at least 0.
    """
    risk = correlate(covariance)
    return _measure(_scale(risk, excess, upper), upper, risk.sigma * weights, backend).gap


# ---- with lanes: vectors (K, L), numbers (L,) ------------------------------------------------------------------------


def mean_variance_lanes(risk: Correlation, excesses: Array, uppers: Array, backend: Backend) -> Solution:
    """`mean_variance` with lanes, for P problems of one covariance: (K, K, L), (P, K, L) and (P, K, L)."""
    # one after the other: side by side they would want the correlations twice, and outgrow the cache
    return lax.map(lambda problem: _solve_one(risk, *problem, backend=backend), (excesses, uppers))


def _solve_one(risk: Correlation, excess: Array, upper: Array, backend: Backend) -> Solution:
    richest = linear_minimum(-excess, upper)
    rewarding = jnp.sum(richest * excess, axis=0) > 0
    excess = jnp.where(rewarding, excess, 0)
    problem = _scale(risk, excess, upper)
    return _solve(problem, risk, upper, risk.sigma * richest, backend)._replace(altered=~rewarding)


@functools.cache
def _in_lanes(backend: Backend) -> Callable[[Array, Array, Array], Solution]:
    return lanes_last(lambda covariance, *rest: _solve_one(correlate(covariance), *rest, backend=backend))


def _scale(risk: Correlation, excess: Array, upper: Array) -> MeanVarianceProblem:
    normal = 1 / risk.sigma
    return MeanVarianceProblem(
        correlation=risk.matrix,
        normal=normal,
        upper=risk.sigma * upper,
        excess=jnp.where(upper > 0, excess * normal, 0),
    )


def _start(problem: MeanVarianceProblem, richest: Array, backend: Backend) -> Array:
    """The best of three portfolios: inverse variance, rewards over variance, and the richest, a vertex."""
    a = jnp.where(problem.upper > 0, problem.normal, 0)
    tilted = jnp.maximum(problem.excess, 0)

    def value(y: Array) -> Array:
        reward = jnp.sum(y * problem.excess, axis=0)
        return jnp.where(reward > 0, reward / jnp.sqrt(divisor(variance_of(problem, y, backend))), 0)

    # without a reward every value is 0, and inverse variance is the place to start
    best = project(a / divisor(jnp.sum(a * a, axis=0)), problem.upper, problem.normal)
    highest = value(best)
    for point in (project(tilted / divisor(jnp.sum(tilted * a, axis=0)), problem.upper, problem.normal), richest):
        other = value(point)
        best = jnp.where(other > highest, point, best)
        highest = jnp.maximum(other, highest)
    return best


class _Best(NamedTuple):
    """The best point so far.

    Attributes:
        y: (K, L) the point.
        measured: what `_measure` says of it.
        blocks: (L,) int32, blocks done.
    """

    y: Array
    measured: _Measured
    blocks: Array


class _Prepared(NamedTuple):
    """A problem with what all its blocks need.

    Attributes:
        problem: in the variance metric.
        upper: (K, L) bounds of the weights.
        curvature: (L,) of `curvature_of`.
    """

    problem: MeanVarianceProblem
    upper: Array
    curvature: Array


def _solve(problem: MeanVarianceProblem, risk: Correlation, upper: Array, richest: Array, backend: Backend) -> Solution:
    """Blocks of projected gradient and active set until the gap is small; the best point is kept throughout."""
    # The gradient only has to find out which bounds hold. For that float32 and a few steps nearly always do: what the
    # active set then solves does not depend on how exactly its start was known. Where the active set cycles, on faces
    # that are singular, further blocks are in full precision.
    float32_problem = MeanVarianceProblem(
        correlation=risk.float32_matrix,
        normal=problem.normal.astype(jnp.float32),
        upper=problem.upper.astype(jnp.float32),
        excess=problem.excess.astype(jnp.float32),
    )
    curvature = curvature_of(float32_problem, backend)
    start = _start(float32_problem, richest.astype(jnp.float32), backend)
    prepared = _Prepared(problem=problem, upper=upper, curvature=curvature.astype(upper.dtype))

    def first_walk(_: Array) -> Array:
        walked = projected_gradient(float32_problem, curvature, start, _FIRST_STEPS, backend)
        return jnp.where(walked >= float32_problem.upper, problem.upper, walked.astype(upper.dtype))

    def block(turn: Array, best: _Best) -> _Best:
        first = turn == 0
        if upper.dtype == jnp.float32:  # one program for both
            steps = jnp.where(first, _FIRST_STEPS, _further_steps(turn, upper.dtype))
            walked = projected_gradient(problem, curvature, jnp.where(first, start, best.y), steps, backend)
        else:
            walked = lax.cond(first, first_walk, lambda _: _walk(prepared, turn, best, backend), best.y)
        return _advance(prepared, turn, best, walked, backend)

    infinite = jnp.full(upper.shape[1:], jnp.inf, upper.dtype)
    worst = _Measured(gap=infinite, floor=jnp.zeros_like(infinite), value=infinite)
    best = _Best(y=richest, measured=worst, blocks=jnp.zeros(upper.shape[1:], jnp.int32))
    if backend is Backend.CPU:
        best = while_any(lambda _, best: _unfinished(best), block, best)
    else:
        # of an accelerator's many lanes some always want a second block, which would take as long for all of them
        best = _advance(prepared, jnp.int32(0), best, first_walk(best.y), backend)
        further = functools.partial(_further_blocks, backend=backend)
        best = in_groups(_unfinished(best), further, prepared, best, backend)
    full = best.y >= problem.upper  # exactly at the bound, not a rounding below it
    weights = jnp.where(full, upper, jnp.minimum(problem.normal * best.y, upper))
    # An entry of y that is a few roundings above 0 counts as 0: which clusters are held, and which asset leads them,
    # should not depend on rounding. An entry of w would not do: beside a cluster of hardly any risk tiny weights count.
    small = best.y <= rounding(weights.dtype) * jnp.max(best.y, axis=0)
    weights = settle(jnp.where(small, 0, weights), upper)
    gap, floor, _ = _measure(problem, upper, risk.sigma * weights, backend)
    return Solution(
        weights=weights,
        gap=gap,
        iterations=best.blocks,
        altered=jnp.zeros(gap.shape, bool),
        converged=gap <= jnp.maximum(accepted(gap.dtype), 2 * floor),
    )


def _advance(prepared: _Prepared, turn: Array, best: _Best, walked: Array, backend: Backend) -> _Best:
    """Finish a block, of number ``turn``, from where the gradient has led: by the active set.

    The best point so far, the active set's end and its start are compared, and the best of them stays.
    """
    problem, upper, _ = prepared
    start = jnp.clip(walked, 0, problem.upper)
    exact = active_set(problem, start, _proximal(turn), backend)
    exact = jnp.where(jnp.all(jnp.isfinite(exact), axis=0), exact, start)

    def compare(i: Array, best: _Best) -> _Best:
        point = _make_feasible(problem, jnp.where(i == 0, exact, start))
        return _better(problem, upper, best, point, backend)

    def doubtful(i: Array, best: _Best) -> Array:  # where the active set has cycled, its start may be better
        return (i == 0) | ((i == 1) & _unsolved(best))

    return while_any(doubtful, compare, best)._replace(blocks=best.blocks + 1)


def _further_blocks(prepared: _Prepared, best: _Best, wanted: Array, backend: Backend) -> _Best:
    """Blocks after the first in the lanes of a group that count."""

    def block(turn: Array, best: _Best) -> _Best:
        return _advance(prepared, turn, best, _walk(prepared, turn, best, backend), backend)

    return while_any(lambda _, best: wanted & _unfinished(best), block, best, first=1)


def _walk(prepared: _Prepared, turn: Array, best: _Best, backend: Backend) -> Array:
    problem, _, curvature = prepared
    return projected_gradient(problem, curvature, best.y, _further_steps(turn, best.y.dtype), backend)


def _further_steps(turn: Array, dtype: Any) -> Array | int:
    """Gradient steps of a block that is not the first: in float32 none in the second.

    In float32 it is mostly rounding that keeps a universe from being solved, and a second solve on the same face mends
    that.
    """
    return _FURTHER_STEPS if dtype == jnp.float64 else jnp.where(turn == 1, 0, _FURTHER_STEPS)


def _unfinished(best: _Best) -> Array:
    return _unsolved(best) & (best.blocks < _BLOCKS)


def _unsolved(best: _Best) -> Array:
    gap, floor, _ = best.measured
    return gap > jnp.maximum(tolerance(gap.dtype), floor)


def _better(problem: MeanVarianceProblem, upper: Array, best: _Best, y: Array, backend: Backend) -> _Best:
    """Keep the better of two points: of lower variance (for its reward), or of lower gap where that is no higher.

    Far from the optimum the gap alone would not do: it is relative to the variance, and may grow as that falls.
    """
    new, old = _measure(problem, upper, y, backend), best.measured
    # where hardly any cluster earns, a step may lose the reward, and the problem with it
    lost = jnp.any(problem.excess != 0, axis=0) & (jnp.sum(problem.excess * y, axis=0) <= 0)
    margin = 1e-3  # a smaller difference may be rounding, in float32
    lower, no_higher = new.value < (1 - margin) * old.value, new.value <= (1 + margin) * old.value
    better = ~lost & (lower | (no_higher & (new.gap < old.gap)))
    return choose(better, _Best(y=y, measured=new, blocks=best.blocks), best)


def _make_feasible(problem: MeanVarianceProblem, y: Array) -> Array:
    """Clip ``y``, and project it only where that is not enough: a projection turns zeros into rounding errors."""
    clipped = jnp.clip(y, 0, problem.upper)
    error = jnp.abs(jnp.sum(problem.normal * clipped, axis=0) - 1)

    far = error > y.shape[0] * jnp.finfo(y.dtype).eps
    nearest = jnp.where(far, y, clipped)
    return if_any(far, lambda point, _: project(point, problem.upper, problem.normal), nearest)


def _measure(problem: MeanVarianceProblem, upper: Array, y: Array, backend: Backend) -> _Measured:
    """Optimality gap of ``y``, the part of it that no arithmetic of this precision can remove, and the objective."""
    gradient = matvec(problem.correlation, y, backend)
    variance = jnp.sum(y * gradient, axis=0)
    reward = jnp.sum(problem.excess * y, axis=0)
    ratio = jnp.where(reward > 0, variance / divisor(reward), 0)
    cost = (gradient - ratio * problem.excess) / problem.normal
    slack = linear_slack(cost, problem.normal * y, upper)
    unhedged = jnp.sum(y * matvec(problem.correlation, y, backend, absolute=True), axis=0)
    earned = jnp.sum(jnp.abs(problem.excess) * y, axis=0)
    gross_reward = jnp.where(reward > 0, earned / divisor(reward), 0)
    floor = 4 * jnp.finfo(y.dtype).eps * jnp.maximum(unhedged / divisor(variance), gross_reward)
    risky = variance > 4 * jnp.finfo(y.dtype).eps * unhedged  # else it is 0 but for rounding
    value = jnp.where(reward > 0, variance / divisor(reward * reward), variance)
    return _Measured(gap=jnp.where(risky, slack / divisor(variance), 0), floor=floor, value=value)


def _proximal(block: Array) -> Array:
    """What is added to C's diagonal where a step on a face is solved for: (proximal / 2) |step|^2 in the objective.

    As a step is what is solved for, the term does not move the optimum (Rockafellar 1976). The first blocks have none.
    Later blocks take one of three sizes by turns, and each of their solves moves less.

    Args:
        block: () int32, number of the block.
    """
    turn = block % 3
    larger = jnp.where(turn == 0, 1e-4, jnp.where(turn == 1, 1e-3, 1e-2))
    return jnp.where(block < _PLAIN_BLOCKS, 0, larger)
