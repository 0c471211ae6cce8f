"""Active set over {0 <= y <= b, a . y = 1}: solve on a face, exchange bounds by their multipliers' signs, and again.

For minimum variance and maximum Sharpe in the variance metric, all in lanes: vectors (K, L), numbers (L,). An exchange
solves one linear system for the free clusters. These are few at an optimum, whatever K, so that a small table holds
them. Universes with more of them go into larger tables, in groups.
"""

from __future__ import annotations

import functools
import itertools
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.lanes.control import in_groups, is_one_group, while_any
from jaxalloc.kernels.lanes.elimination import smallest_pivot, solve_positive_definite
from jaxalloc.kernels.lanes.products import divisor, dot, matvec, positions
from jaxalloc.kernels.solvers.problem import MeanVarianceProblem, rounding

_EXCHANGES = 12  # at most
_RELEASE = 0.2  # the entries whose multiplier is at least this share of the worst one leave their bound together
_SMALL = 24  # at most so many clusters count as few, and get fewer exchanges in common and fewer tables


class _Face(NamedTuple):
    """State of the active set.

    Attributes:
        y: (K, L) the point.
        at_zero: (K, L) bool, the entries held at 0.
        at_upper: (K, L) bool, the entries held at their bound.
        changed: (L,) bool, whether the last exchange changed either set.
    """

    y: Array
    at_zero: Array
    at_upper: Array
    changed: Array


def active_set(problem: MeanVarianceProblem, y: Array, proximal: Array, backend: Backend) -> Array:
    """Solve the optimality conditions on the face of ``y``, exchanging bounds until their signs agree.

    On the free entries F the optimum has C y = alpha e - beta a; entries at a bound stay there unless the sign of
    their multiplier lets them go (only the worst at once, so that the face stays small), and a free entry that leaves
    its range goes to the bound it crossed (the primal-dual active set of Hintermueller, Ito & Kunisch 2002). Unknown
    are y on F, beta, and where there is a reward alpha = y'Cy / e'y, which turns into a linear equation once C y on F
    is inserted. The step from ``y`` is solved for, not the point, so that each further solve refines the last.

    Args:
        problem: with lanes.
        y: (K, L) where to start.
        proximal: () what is added to C's diagonal where a step is solved for: it bounds the step, and moves no optimum.
        backend: static.

    Returns:
        (K, L) the last point, which may lie outside the feasible set.
    """
    at_upper = (y >= problem.upper) & (problem.upper > 0)
    start = _Face(y=y, at_zero=y <= 0, at_upper=at_upper, changed=jnp.ones(y.shape[1:], bool))

    def exchange(problem: MeanVarianceProblem, face: _Face, wanted: Array, first: int, most: int) -> _Face:
        def more(turn: Array, face: _Face) -> Array:
            return wanted & face.changed & (turn < most)

        return while_any(more, lambda _, face: _solve_face(problem, face, proximal, backend), face, first)

    if is_one_group(y.shape[1]):
        return exchange(problem, start, start.changed, 0, _EXCHANGES).y
    common = 1 if len(y) <= _SMALL else 3  # exchanges that most universes need
    face = exchange(problem, start, start.changed, 0, common)
    further = functools.partial(exchange, first=common, most=_EXCHANGES)
    return in_groups(face.changed, further, problem, face, backend).y


def _solve_face(problem: MeanVarianceProblem, face: _Face, proximal: Array, backend: Backend) -> _Face:
    """One exchange."""
    c, a, b, e = problem
    zero, full = face.at_zero, face.at_upper
    free = ~(zero | full)
    y = jnp.where(zero, 0, jnp.where(full, b, face.y))
    gradient = matvec(c, y, backend)
    step, alpha, beta = _face_step(problem, y, gradient, free, full, proximal, backend)
    y = y + step
    gradient = gradient + matvec(c, step, backend)
    multiplier = gradient - alpha * e + beta * a
    wrong = jnp.where(b > 0, jnp.where(zero, -multiplier, jnp.where(full, multiplier, 0)), 0)
    # a multiplier that is all rounding keeps its entry at the bound, which it would otherwise leave and reach for ever
    noise = rounding(y.dtype) * (jnp.abs(gradient) + jnp.abs(alpha * e) + jnp.abs(beta * a))
    let_go = (wrong > noise) & (wrong >= _RELEASE * jnp.max(wrong, axis=0))
    new_zero = (zero & ~let_go) | (free & (y < 0))
    new_full = (full & ~let_go) | (free & (y > b))
    changed = jnp.any((new_zero != zero) | (new_full != full), axis=0)
    return _Face(y=y, at_zero=new_zero, at_upper=new_full, changed=changed)


def _face_step(
    problem: MeanVarianceProblem, y: Array, gradient: Array, free: Array, full: Array, proximal: Array, backend: Backend
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
    solved = _solve_free(c, rhs, free, proximal, backend)
    r, q, p = solved[:, 0], solved[:, 1], solved[:, 2]
    pull = jnp.where(free, matvec(c, jnp.where(full, y, 0), backend), 0)
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
    alpha_now = jnp.where(reward > 0, total(y * gradient) / divisor(reward), 0)
    vertex = jnp.max(jnp.where(full, (gradient - alpha_now * e) / a, -jnp.inf), axis=0)
    beta_now = jnp.where(
        sum_beta > 0,
        (alpha_now * sum_alpha - sum_value) / divisor(sum_beta),
        jnp.where(jnp.any(full, axis=0), -vertex, 0),
    )
    alpha, beta = jnp.where(regular, alpha, alpha_now), jnp.where(regular, beta, beta_now)
    return alpha * p - beta * q - r, alpha, beta


def _solve_free(matrix: Array, rhs: Array, free: Array, proximal: Array, backend: Backend) -> Array:
    """Solve (matrix_FF + proximal) X_F = rhs_F for the free entries F; X is 0 elsewhere.

    The free entries are gathered into a small table and solved there. Universes with more of them are packed into
    groups, with larger tables.
    """
    size, lanes = free.shape
    tables = _tables(size)
    if len(tables) == 1 or (lanes == 1 and size <= _SMALL):
        return _solve_masked(matrix, rhs, free, proximal, backend)
    count = jnp.sum(free, axis=0, dtype=jnp.int32)
    slot = _earlier(free, backend)
    solution = _solve_in_table(matrix, rhs, free, slot, count, proximal, tables[0], backend)
    for smaller, rows in itertools.pairwise(tables):

        def larger(problem: tuple[Array, ...], _: Array, wanted: Array, rows: int = rows) -> Array:
            matrix, rhs, free, slot, count = problem
            return _solve_in_table(matrix, rhs, free & wanted, slot, count, proximal, rows, backend)

        fits = (count > smaller) & (count <= rows)
        solution = in_groups(fits, larger, (matrix, rhs, free, slot, count), solution, backend)
    return solution


def _earlier(free: Array, backend: Backend) -> Array:
    """(K, L) int32, how many free entries come before each."""
    size = free.shape[0]
    if backend is not Backend.CPU:  # as a product, which an accelerator is made for; it is exact for small numbers
        return dot(jnp.tri(size, k=-1, dtype=jnp.float32), free.astype(jnp.float32)).astype(jnp.int32)
    row = positions(size, free[None])
    return jnp.sum(jnp.where((row > jnp.swapaxes(row, 0, 1)) & free[None], 1, 0), axis=1, dtype=jnp.int32)


def _tables(size: int) -> tuple[int, ...]:
    """Numbers of rows of the tables for the free ones of so many clusters. The first is enough for most universes.

    Example:
        >>> _tables(8), _tables(20), _tables(34), _tables(84)
        ((8,), (12, 20), (16, 24, 34), (24, 48, 84))
    """
    few = (12,) if size <= _SMALL else (16, 24) if size <= 49 else (24, 48)
    return (*(rows for rows in few if rows < size), size)


def _solve_in_table(
    matrix: Array, rhs: Array, free: Array, slot: Array, count: Array, proximal: Array, rows: int, backend: Backend
) -> Array:
    """`_solve_free` in a table of so many rows, which must be enough; entry i has row ``slot[i]``."""
    if rows == free.shape[0]:
        return _solve_masked(matrix, rhs, free, proximal, backend)
    taken = positions(rows, matrix) == jnp.where(free, slot, rows)[None]  # (rows, K, L): table row r holds entry i
    chosen = jnp.sum(jnp.where(taken, jnp.swapaxes(positions(free.shape[0], matrix), 0, 1), 0), axis=1)
    used = positions(rows, free) < count
    size = free.shape[0]
    places = (chosen[:, None] * size + chosen[None]).reshape(rows * rows, *free.shape[1:])
    flat = matrix.reshape(size * size, *free.shape[1:])
    table = jnp.take_along_axis(flat, places, axis=0, mode="clip").reshape(rows, rows, *free.shape[1:])
    table_rhs = jnp.take_along_axis(rhs, chosen[:, None], axis=0, mode="clip")
    small = _solve_masked(table, table_rhs, used, proximal, backend)
    back = jnp.take_along_axis(small, jnp.minimum(slot, rows - 1)[:, None], axis=0, mode="clip")
    return jnp.where(free[:, None], back, 0)


def _solve_masked(matrix: Array, rhs: Array, free: Array, proximal: Array, backend: Backend) -> Array:
    rows = positions(free.shape[0], matrix)
    block = jnp.where(free[:, None] & free[None], matrix, 0)
    # at least of rounding size, which bounds the step where the face is singular
    least = smallest_pivot(free.shape[0], matrix.dtype)
    diagonal = jnp.where(free, 1 + jnp.maximum(least, proximal.astype(matrix.dtype)), 1)
    block = jnp.where(rows == jnp.swapaxes(rows, 0, 1), diagonal[:, None], block)
    return solve_positive_definite(block, jnp.where(free[:, None], rhs, 0), backend)
