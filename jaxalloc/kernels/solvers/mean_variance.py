"""Minimum variance and maximum Sharpe over the capped simplex: projected gradient, finished by an active set.

Both are solved in the *variance metric*, y = sigma w: the Hessian becomes the correlation matrix C, and the feasible
set {0 <= y <= b, a . y = 1} with a = 1 / sigma, b = sigma u. Their gradient has one form, C y - ratio e, where ratio is
0 for minimum variance and y'Cy / e'y for maximum Sharpe: with the ratio held fixed, a step that lowers
y'Cy / 2 - ratio e'y raises the Sharpe ratio (by the inequality of the arithmetic and geometric means). A block of
accelerated projected gradient steps finds which bounds hold; an active set then solves for the face exactly, ratio and
all, and goes on exchanging bounds while their multipliers ask for it. Such exchanges can cycle, so the better of the
two points is kept, and the next block starts from it.

The steps of the solver (`jaxalloc.kernels.solvers.steps`): one for each size of the table in which an exchange is
solved, and one that begins a further block. The first, of the smallest table, also begins the first block, with
gradient steps in float32, and a few exchanges then solve most problems. The others want the first step again, or that
of a larger table once their face has outgrown the table. Where the exchanges have ended without the problem solved, the
last step compares the points and begins another block.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxalloc.kernels.lanes.adapter import lanes_last
from jaxalloc.kernels.lanes.backend import Backend, if_any
from jaxalloc.kernels.lanes.control import choose, while_any
from jaxalloc.kernels.lanes.products import divisor, totals
from jaxalloc.kernels.solvers.active_set import MOST_EXCHANGES, Face, exchange, face_of, free_on, is_open
from jaxalloc.kernels.solvers.candidates import Candidate, better, is_solved, measure, unmeasured
from jaxalloc.kernels.solvers.capped_simplex import linear_minimum
from jaxalloc.kernels.solvers.gradient import curvature_of, projected_gradient
from jaxalloc.kernels.solvers.problem import MeanVarianceProblem, Solution, correlate
from jaxalloc.kernels.solvers.steps import Problem, Solver, State, Step, narrow, solve_all, whole, wide
from jaxalloc.kernels.solvers.tolerances import accepted

_POWER_STEPS = 8  # of the power iteration, as a rule
_FIRST_STEPS = 10  # of projected gradient in the first block, of few clusters
_FURTHER_STEPS = 30  # of projected gradient in a further block, as a rule
# Among many clusters few are held. So a gradient step, which reads their rows alone, takes a fraction of a step of the
# power iteration; and with too small a curvature the first block's steps are longer, and find the face in fewer.
_MANY, _MANY_POWER_STEPS, _MANY_FIRST_STEPS = 61, 3, 18
_BLOCKS = 30  # at most
_PLAIN_BLOCKS = 3  # without a proximal term; where they fail, the face is likely singular, and exchanges cycle on it
_FEW = 24  # at most so many clusters count as few, and get fewer exchanges in the first step


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
    problem = _pose(whole(covariance, excess, upper))
    return measure(problem, upper, weights, backend).gap


# ---- with lanes: vectors (K, L), numbers (L,) ------------------------------------------------------------------------


@functools.cache
def _in_lanes(backend: Backend) -> Callable[[Array, Array, Array], Solution]:
    return lanes_last(lambda *arguments: solve_all(MEAN_VARIANCE, whole(*arguments), backend))


class _Memory(NamedTuple):
    """Where a lane's block is.

    Attributes:
        face: the active set, where its exchanges have led.
        start: (K, L) where they began.
        best: the best point so far.
        blocks: (L,) int32, number of the block, from 1; 0 before the first.
    """

    face: Face
    start: Array
    best: Candidate
    blocks: Array


def _memory(size: int, lanes: int, dtype: Any) -> _Memory:
    vector, numbers, counts = jnp.zeros((size, lanes), dtype), jnp.zeros(lanes, dtype), jnp.zeros(lanes, jnp.int32)
    side, changed = jnp.zeros((size, lanes), jnp.int32), jnp.zeros(lanes, bool)
    return _Memory(
        face=Face(y=vector, side=side, changed=changed, exchanges=counts),
        start=vector,
        best=Candidate(weights=vector, gap=numbers, floor=numbers, value=numbers),
        blocks=counts,
    )


@functools.cache
def _steps(size: int) -> tuple[Step, ...]:
    return _steps_of(size, _tables(size))


def _together(size: int, lanes: int) -> tuple[Step, ...]:
    small, *larger = _tables(size)
    return _steps_of(size, (small, size) if larger and (lanes > 1 or size > _FEW) else (size,))


def _steps_of(size: int, tables: tuple[int, ...]) -> tuple[Step, ...]:
    faces = []
    for i in range(len(tables)):
        kernel = functools.partial(_exchange, tables, i)
        width, fewer = (narrow(size), 32) if i else (wide(size), 8)
        faces.append(Step(name=f"mean variance, face of {tables[i]}", kernel=kernel, width=width, fewer=fewer))
    begin_again = functools.partial(_begin_again, tables)
    return *faces, Step(name="mean variance, further block", kernel=begin_again, width=narrow(size))


def _tables(size: int) -> tuple[int, ...]:
    """Numbers of rows of the tables for the free ones of so many clusters. The first is enough for most problems.

    Example:
        >>> _tables(8), _tables(16), _tables(32), _tables(96), _tables(256)
        ((8,), (12, 16), (20, 32), (28, 48, 96), (48, 96, 256))
    """
    least = 12 if size <= 24 else 20 if size <= 49 else 28 if size <= 100 else 48
    further = (rows for rows in (48, 96, 192, 384) if least < rows and 1.5 * rows < size)
    return (*((least,) if least < size else ()), *further, size)


MEAN_VARIANCE = Solver(name="mean variance", steps=_steps, together=_together, memory=_memory)


def _pose(problem: Problem) -> MeanVarianceProblem:
    """The problem in the variance metric."""
    risk = correlate(problem.covariance)
    normal = 1 / risk.sigma
    return MeanVarianceProblem(
        correlation=risk.matrix,
        normal=normal,
        upper=problem.upper / normal,
        excess=jnp.where(problem.upper > 0, problem.excess * normal, 0),
        rows=problem.rows,
    )


def _without_rewards(problem: MeanVarianceProblem, where: Array) -> MeanVarianceProblem:
    return problem._replace(excess=jnp.where(where, 0, problem.excess))


def _exchange(tables: tuple[int, ...], place: int, problem: Problem, state: State, backend: Backend) -> State:
    """Exchanges on faces that fit a table. The first step begins the first block, and starts with few of them."""
    wanted, posed = state.wants == 1 + place, _pose(problem)
    memory, altered, most = state.memory, state.solution.altered, jnp.full(wanted.shape, MOST_EXCHANGES, jnp.int32)
    if place == 0:
        fresh = wanted & (memory.blocks == 0)

        def begin(_: tuple[_Memory, Array], __: Array) -> tuple[_Memory, Array]:
            return _begin(problem, posed, fresh, backend)

        memory, altered = if_any(fresh, begin, (memory, altered))
        most = jnp.where(fresh, 1 if len(posed.upper) <= _FEW else 3, most)

    posed = _without_rewards(posed, altered)
    face = exchange(posed, memory.face, wanted, _proximal(memory.blocks), tables[place], most, backend)
    best = better(posed, problem.upper, memory.best, _end(face, memory.start), backend, any_y=False)
    wants = jnp.where(is_open(face), _next(tables, face, place), 1 + len(tables))
    solved = is_solved(best) | ~jnp.any(problem.upper > 0, axis=0)
    return _state(jnp.where(solved, 0, wants), memory._replace(face=face, best=best), altered)


def _begin(problem: Problem, posed: MeanVarianceProblem, fresh: Array, backend: Backend) -> tuple[_Memory, Array]:
    """Begin the first block, by gradient steps in float32; and whether no portfolio earns anything."""
    richest = linear_minimum(-problem.excess, problem.upper, problem.rows)
    altered = ~(jnp.sum(richest * problem.excess, axis=0) > 0)
    # The gradient only has to find out which bounds hold. For that float32 and a few steps nearly always do: what the
    # active set then solves does not depend on how exactly its start was known. Where the active set cycles, on faces
    # that are singular, further blocks are in full precision.
    near = MeanVarianceProblem(
        correlation=posed.correlation.astype(jnp.float32),
        normal=posed.normal.astype(jnp.float32),
        upper=posed.upper.astype(jnp.float32),
        excess=posed.excess.astype(jnp.float32),
        rows=posed.rows,
    )
    near, dtype = _without_rewards(near, altered), richest.dtype
    many = len(near.upper) >= _MANY
    curvature = curvature_of(near, backend, _MANY_POWER_STEPS if many else _POWER_STEPS)
    steps = _MANY_FIRST_STEPS if many else _FIRST_STEPS
    y, ratio = _place_to_start(near)
    walked = projected_gradient(near, curvature, y, ratio, steps, fresh, backend)
    start = jnp.where(walked >= near.upper, posed.upper, jnp.clip(walked.astype(dtype), 0, posed.upper))
    memory = _Memory(
        face=face_of(posed, start),
        start=start,
        best=unmeasured(richest),
        blocks=jnp.ones(fresh.shape, jnp.int32),
    )
    return memory, altered


def _begin_again(tables: tuple[int, ...], problem: Problem, state: State, backend: Backend) -> State:
    """Finish a block that has not solved the problem, and begin another from the best point, in full precision."""
    wanted = state.wants == 1 + len(tables)
    face, start, best, blocks = memory = state.memory
    posed = _without_rewards(_pose(problem), state.solution.altered)

    def compare(i: Array, best: Candidate) -> Candidate:
        return better(posed, problem.upper, best, jnp.where(i == 0, _end(face, start), start), backend)

    def doubtful(i: Array, best: Candidate) -> Array:  # where the active set has cycled, its start may be better
        return wanted & (i < 2) & ~is_solved(best)

    best = while_any(doubtful, compare, best)
    finished = is_solved(best) | (blocks >= _BLOCKS)
    y = best.weights / posed.normal
    reward = jnp.sum(y * posed.excess, axis=0)
    ratio = jnp.where(reward > 0, best.value * reward, 0)
    # In float32 it is mostly rounding that keeps a problem from being solved, and a second solve on the same face
    # mends that.
    walking = wanted & ~finished & ((y.dtype == jnp.float64) | (blocks > 1))
    curvature = curvature_of(posed, backend, _POWER_STEPS)
    start = jnp.clip(projected_gradient(posed, curvature, y, ratio, _FURTHER_STEPS, walking, backend), 0, posed.upper)
    begun = _Memory(face=face_of(posed, start), start=start, best=best, blocks=blocks + 1)
    memory = choose(finished, memory._replace(best=best), begun)
    return _state(jnp.where(finished, 0, _next(tables, begun.face, 0)), memory, state.solution.altered)


def _next(tables: tuple[int, ...], face: Face, least: int) -> Array:
    """(L,) int32, the step of the first table that holds a face, and none before ``least``."""
    free = free_on(face)
    number = jnp.full(free.shape, 1 + least, jnp.int32)
    for rows in tables[least:-1]:
        number = number + (free > rows)
    return number


def _state(wants: Array, memory: _Memory, altered: Array) -> State:
    best = memory.best
    solution = Solution(
        weights=best.weights,
        gap=best.gap,
        iterations=memory.blocks,
        altered=altered,
        converged=best.gap <= jnp.maximum(accepted(best.gap.dtype), 2 * best.floor),
    )
    return State(wants=wants, solution=solution, memory=memory)


def _end(face: Face, start: Array) -> Array:
    return jnp.where(jnp.all(jnp.isfinite(face.y), axis=0), face.y, start)


def _place_to_start(problem: MeanVarianceProblem) -> tuple[Array, Array]:
    """Rewards over variance, or without a reward inverse variance; and about its variance over reward.

    Both are optimal without correlations and upper bounds, and the first projected gradient step meets the bounds.
    """
    a = jnp.where(problem.upper > 0, problem.normal, 0)
    tilted = jnp.maximum(problem.excess, 0)
    tilted = jnp.where(jnp.any(tilted > 0, axis=0), tilted, a)
    held, squares, reward = totals(tilted * a, tilted * tilted, tilted * problem.excess)
    share = 1 / divisor(held)
    return share * tilted, jnp.where(reward > 0, share * squares / divisor(reward), 0)


def _proximal(block: Array) -> Array:
    """What is added to C's diagonal where a step on a face is solved for: (proximal / 2) |step|^2 in the objective.

    As a step is what is solved for, the term does not move the optimum (Rockafellar 1976). The first blocks have none.
    Later blocks take one of three sizes by turns, and each of their solves moves less.

    Args:
        block: (L,) int32, number of the block, from 1.
    """
    turn = block % 3
    larger = jnp.where(turn == 1, 1e-4, jnp.where(turn == 2, 1e-3, 1e-2))
    return jnp.where(block <= _PLAIN_BLOCKS, 0, larger)
