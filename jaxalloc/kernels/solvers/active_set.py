"""The optimality conditions on a face, and the exchanges between it and the next.

Of minimum variance and maximum Sharpe in the variance metric, all in lanes: vectors (K, L), numbers (L,). An exchange
solves one linear system for the free clusters. These are few at an optimum, whatever K, so that a small table holds
them. A face with more of them waits until its lane is given a larger table.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.lanes.control import over_pairs, while_any
from jaxalloc.kernels.lanes.elimination import smallest_pivot, solve_positive_definite
from jaxalloc.kernels.lanes.products import divisor, dot, matvec, positions, totals, two_products
from jaxalloc.kernels.solvers.problem import MeanVarianceProblem, rounding

_EXCHANGES = 12  # at most, from one start
_RELEASE = 0.2  # the entries whose multiplier is at least this share of the worst one leave their bound together


class Face(NamedTuple):
    """State of the active set.

    Attributes:
        y: (K, L) the point, which may lie outside the feasible set.
        at_zero: (K, L) bool, the entries held at 0.
        at_upper: (K, L) bool, the entries held at their bound.
        changed: (L,) bool, whether the last exchange changed either set.
        exchanges: (L,) int32, exchanges so far.
    """

    y: Array
    at_zero: Array
    at_upper: Array
    changed: Array
    exchanges: Array


def face_of(problem: MeanVarianceProblem, y: Array) -> Face:
    """The face on which a point (K, L) between the bounds lies."""
    lanes = y.shape[1:]
    return Face(
        y=y,
        at_zero=y <= 0,
        at_upper=(y >= problem.upper) & (problem.upper > 0),
        changed=jnp.ones(lanes, bool),
        exchanges=jnp.zeros(lanes, jnp.int32),
    )


def free_on(face: Face) -> Array:
    """(L,) int32, how many entries are between their bounds."""
    return jnp.sum(~(face.at_zero | face.at_upper), axis=0, dtype=jnp.int32)


def is_open(face: Face) -> Array:
    """(L,) bool, whether another exchange is due: the last one changed the face, and there were not too many."""
    return face.changed & (face.exchanges < _EXCHANGES)


def exchange(
    problem: MeanVarianceProblem,
    face: Face,
    wanted: Array,
    proximal: Array,
    table: int,
    backend: Backend,
    most: int = _EXCHANGES,
) -> Face:
    """Solve the optimality conditions on a face, exchanging bounds until their signs agree.

    On the free entries F the optimum has C y = alpha e - beta a; entries at a bound stay there unless the sign of
    their multiplier lets them go (only the worst at once, so that the face stays small), and a free entry that leaves
    its range goes to the bound it crossed (the primal-dual active set of Hintermueller, Ito & Kunisch 2002). Unknown
    are y on F, beta, and where there is a reward alpha = y'Cy / e'y, which turns into a linear equation once C y on F
    is inserted. The step from ``y`` is solved for, not the point, so that each further solve refines the last.

    Args:
        problem: with lanes.
        face: where to start.
        wanted: (L,) bool.
        proximal: (L,) what is added to C's diagonal where a step is solved for: it bounds the step, and moves no
            optimum.
        table: rows of the table, at most K; a lane whose face has more free entries stays where it is.
        backend: static.
        most: exchanges at most.

    Returns:
        The last face; still open where it does not fit the table, or where ``most`` were not enough.
    """

    def more(turn: Array, face: Face) -> Array:
        return wanted & is_open(face) & (free_on(face) <= table) & (turn < most)

    return while_any(more, lambda _, face: _solve_face(problem, face, proximal, table, backend), face)


def _solve_face(problem: MeanVarianceProblem, face: Face, proximal: Array, table: int, backend: Backend) -> Face:
    """One exchange."""
    c, a, b, e, rows = problem
    zero, full = face.at_zero, face.at_upper
    free = ~(zero | full)
    held = jnp.where(full, b, 0)
    y = jnp.where(free, face.y, held)
    gradient, pull = two_products(c, y, held, backend, False, rows)
    step, alpha, beta = _face_step(problem, y, gradient, jnp.where(free, pull, 0), free, full, proximal, table, backend)
    y = y + step
    gradient = gradient + matvec(c, step, backend, rows)
    multiplier = gradient - alpha * e + beta * a
    wrong = jnp.where(b > 0, jnp.where(zero, -multiplier, jnp.where(full, multiplier, 0)), 0)
    # a multiplier that is all rounding keeps its entry at the bound, which it would otherwise leave and reach for ever
    noise = rounding(y.dtype) * (jnp.abs(gradient) + jnp.abs(alpha * e) + jnp.abs(beta * a))
    let_go = (wrong > noise) & (wrong >= _RELEASE * jnp.max(wrong, axis=0))
    new_zero = (zero & ~let_go) | (free & (y < 0))
    new_full = (full & ~let_go) | (free & (y > b))
    changed = jnp.any((new_zero != zero) | (new_full != full), axis=0)
    return Face(y=y, at_zero=new_zero, at_upper=new_full, changed=changed, exchanges=face.exchanges + 1)


def _face_step(
    problem: MeanVarianceProblem,
    y: Array,
    gradient: Array,
    pull: Array,
    free: Array,
    full: Array,
    proximal: Array,
    table: int,
    backend: Backend,
) -> tuple[Array, Array, Array]:
    """Step on the free entries to the optimum of the face, with the multipliers alpha and beta.

    The step is alpha p - beta q - r with C_FF [p, q, r] = [e, a, Cy]_F. Two equations fix the multipliers: the new
    point has a . y = 1, and its variance is alpha times its reward. Without a reward alpha is 0; an empty face has no
    step, and beta is then the multiplier that keeps every entry at its upper bound there. ``pull`` is what the full
    entries add to Cy.
    """
    c, a, _, e, rows = problem

    rhs = jnp.where(free[:, None], jnp.stack([gradient, a, e], axis=1), 0)
    solved = _solve_free(c, rhs, free, proximal, table, rows, backend)
    r, q, p = solved[:, 0], solved[:, 1], solved[:, 2]
    held = jnp.where(full, y, 0)
    ap, aq, ar, ay, a_held, pull_p, pull_q, pull_r, e_held, own, reward, risk = totals(
        *(a * p, a * q, a * r, a * y, a * held),
        *(pull * p, pull * q, pull * r, e * held, held * gradient),
        *(e * y, y * gradient),
    )
    # rows of the two equations: coefficients of alpha and of -beta, and the right-hand side
    sum_alpha, sum_beta, sum_value = ap, aq, 1 - ay + ar
    own_alpha, own_beta, own_value = pull_p - e_held, pull_q + 1 - a_held, pull_r - own
    determinant = sum_beta * own_alpha - sum_alpha * own_beta
    regular = jnp.any(e != 0, axis=0) & (jnp.abs(determinant) > 0)
    safe = jnp.where(regular, determinant, 1)
    alpha = (sum_beta * own_value - sum_value * own_beta) / safe
    beta = (sum_alpha * own_value - sum_value * own_alpha) / safe

    alpha_now = jnp.where(reward > 0, risk / divisor(reward), 0)
    vertex = jnp.max(jnp.where(full, (gradient - alpha_now * e) / a, -jnp.inf), axis=0)
    beta_now = jnp.where(
        sum_beta > 0,
        (alpha_now * sum_alpha - sum_value) / divisor(sum_beta),
        jnp.where(jnp.any(full, axis=0), -vertex, 0),
    )
    alpha, beta = jnp.where(regular, alpha, alpha_now), jnp.where(regular, beta, beta_now)
    return alpha * p - beta * q - r, alpha, beta


def _solve_free(
    matrix: Array, rhs: Array, free: Array, proximal: Array, table: int, rows: Array, backend: Backend
) -> Array:
    """Solve (matrix_FF + proximal) X_F = rhs_F for the free entries F; X is 0 elsewhere.

    The free entries are gathered into a table of so many rows, and what has no room there is lost.
    """
    size, *lanes = free.shape
    if table == size:
        return _solve_masked(matrix, rhs, free, proximal, rows, backend)
    slot, entry, count = _slots(free, table, rows, backend)
    places = (entry[:, None] * size + entry[None]).reshape(table * table, *lanes)
    flat = matrix.reshape(size * size, *lanes)
    small = jnp.take_along_axis(flat, places, axis=0, mode="clip").reshape(table, table, *lanes)
    small_rhs = jnp.take_along_axis(rhs, entry[:, None], axis=0, mode="clip")
    solved = _solve_masked(small, small_rhs, positions(table, free) < count, proximal, count, backend)
    back = jnp.take_along_axis(solved, jnp.minimum(slot, table - 1)[:, None], axis=0, mode="clip")
    return jnp.where(free[:, None], back, 0)


def _slots(free: Array, table: int, rows: Array, backend: Backend) -> tuple[Array, Array, Array]:
    """Where the free entries go in a table: (K, L) each one's row, (table, L) each row's entry, (L,) how many."""
    size, *lanes = free.shape
    row = positions(table, free)
    if backend is not Backend.CPU:
        # how many free ones come before each: a product, which an accelerator is made for, exact for small numbers
        before = dot(jnp.tri(size, k=-1, dtype=jnp.float32), free.astype(jnp.float32)).astype(jnp.int32)
        taken = row[:, None] == jnp.where(free, before, table)[None]  # (table, K, L)
        entry = jnp.sum(jnp.where(taken, positions(size, free)[None], 0), axis=1, dtype=jnp.int32)
        return before, entry, jnp.sum(free, axis=0, dtype=jnp.int32)

    def add(i: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        slot, entry, count = carry
        own = free[i]
        slot = slot.at[i].set(count)
        return slot, jnp.where((row == count) & own, i, entry), count + own

    nothing = jnp.zeros((size, *lanes), jnp.int32), jnp.zeros((table, *lanes), jnp.int32), jnp.zeros(lanes, jnp.int32)
    return over_pairs(size, add, nothing, rows)


def _solve_masked(
    matrix: Array, rhs: Array, free: Array, proximal: Array, rows: Array, backend: Backend
) -> Array:
    same = positions(free.shape[0], matrix) == jnp.swapaxes(positions(free.shape[0], matrix), 0, 1)
    block = jnp.where(free[:, None] & free[None], matrix, 0)
    # at least of rounding size, which bounds the step where the face is singular
    least = smallest_pivot(free.shape[0], matrix.dtype)
    diagonal = jnp.where(free, 1 + jnp.maximum(least, proximal.astype(matrix.dtype)), 1)
    block = jnp.where(same, diagonal[:, None], block)
    return solve_positive_definite(block, jnp.where(free[:, None], rhs, 0), backend, rows)
