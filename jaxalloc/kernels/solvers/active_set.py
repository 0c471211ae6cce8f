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
from jaxalloc.kernels.lanes.control import over_steps, while_any
from jaxalloc.kernels.lanes.elimination import smallest_pivot, solve_positive_definite
from jaxalloc.kernels.lanes.products import divisor, dot, matvec, positions, totals, two_products
from jaxalloc.kernels.solvers.problem import MeanVarianceProblem
from jaxalloc.kernels.solvers.tolerances import rounding

MOST_EXCHANGES = 12  # from one start
_RELEASE = 0.2  # the entries whose multiplier is at least this share of the worst one leave their bound together
_AT_ZERO, _FREE, _AT_UPPER = -1, 0, 1


class Face(NamedTuple):
    """State of the active set.

    Attributes:
        y: (K, L) the point, which may lie outside the feasible set.
        side: (K, L) int32, whether an entry is held at 0 (-1), is free (0), or is held at its upper bound (1).
        changed: (L,) bool, whether the last exchange changed a side.
        exchanges: (L,) int32, exchanges so far.
    """

    y: Array
    side: Array
    changed: Array
    exchanges: Array


def face_of(problem: MeanVarianceProblem, y: Array) -> Face:
    """The face on which a point (K, L) between the bounds lies."""
    lanes = y.shape[1:]
    side = jnp.where(y <= 0, _AT_ZERO, jnp.where(y >= problem.upper, _AT_UPPER, _FREE))
    return Face(y=y, side=side.astype(jnp.int32), changed=jnp.ones(lanes, bool), exchanges=jnp.zeros(lanes, jnp.int32))


def free_on(face: Face) -> Array:
    """(L,) int32, how many entries are between their bounds."""
    return jnp.sum(face.side == _FREE, axis=0, dtype=jnp.int32)


def is_open(face: Face) -> Array:
    """(L,) bool, whether another exchange is due: the last one changed the face, and there were not too many."""
    return face.changed & (face.exchanges < MOST_EXCHANGES)


def exchange(
    problem: MeanVarianceProblem,
    face: Face,
    wanted: Array,
    proximal: Array,
    table: int,
    most: Array,
    backend: Backend,
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
        most: (L,) int32, exchanges at most since the face's start.
        backend: static.

    Returns:
        The last face; still open where it does not fit the table, or where ``most`` were not enough.
    """

    def more(_: Array, face: Face) -> Array:
        return wanted & is_open(face) & (free_on(face) <= table) & (face.exchanges < most)

    return while_any(more, lambda _, face: _solve_face(problem, face, proximal, table, backend), face)


def _solve_face(problem: MeanVarianceProblem, face: Face, proximal: Array, table: int, backend: Backend) -> Face:
    """One exchange."""
    c, a, b, e, rows = problem
    free, held = face.side == _FREE, jnp.where(face.side == _AT_UPPER, b, 0)
    y = jnp.where(free, face.y, held)
    gradient, pull = two_products(c, y, held, backend, False, rows)
    step, alpha, beta = _face_step(problem, y, gradient, held, pull, free, proximal, table, backend)
    y = y + step
    gradient = gradient + matvec(c, step, backend, rows)
    multiplier = gradient - alpha * e + beta * a
    wrong = jnp.where((b > 0) & ~free, multiplier * face.side, 0)
    # a multiplier that is all rounding keeps its entry at the bound, which it would otherwise leave and reach for ever
    noise = rounding(y.dtype) * (jnp.abs(gradient) + jnp.abs(alpha * e) + jnp.abs(beta * a))
    let_go = (wrong > noise) & (wrong >= _RELEASE * jnp.max(wrong, axis=0))
    crossed = jnp.where(y < 0, _AT_ZERO, jnp.where(y > b, _AT_UPPER, _FREE))
    side = jnp.where(free, crossed, jnp.where(let_go, _FREE, face.side)).astype(jnp.int32)
    return Face(y=y, side=side, changed=jnp.any(side != face.side, axis=0), exchanges=face.exchanges + 1)


def _face_step(
    problem: MeanVarianceProblem,
    y: Array,
    gradient: Array,
    held: Array,
    pull: Array,
    free: Array,
    proximal: Array,
    table: int,
    backend: Backend,
) -> tuple[Array, Array, Array]:
    """Step on the free entries to the optimum of the face, with the multipliers alpha and beta.

    The step is alpha p - beta q - r with C_FF [p, q, r] = [e, a, Cy]_F. Two equations fix the multipliers: the new
    point has a . y = 1, and its variance is alpha times its reward. Without a reward alpha is 0; an empty face has no
    step, and beta is then the multiplier that keeps every entry at its upper bound there.

    Args:
        problem: with lanes.
        y: (K, L) the point.
        gradient: (K, L) Cy.
        held: (K, L) the part of ``y`` that is held at upper bounds.
        pull: (K, L) C times that part.
        free: (K, L) bool, F.
        proximal: as in `exchange`.
        table: likewise.
        backend: static.
    """
    c, a, _, e, rows = problem
    block, vectors, entry, used = _in_table(c, jnp.stack([gradient, a, e, pull], axis=1), free, table, rows, backend)
    solved = _solve_masked(block, vectors[:, :3], used, proximal, backend)
    (r, q, p), own_a, own_pull = (solved[:, i] for i in range(3)), vectors[:, 1], vectors[:, 3]
    ap, aq, ar, pull_p, pull_q, pull_r = totals(
        own_a * p, own_a * q, own_a * r, own_pull * p, own_pull * q, own_pull * r
    )
    ay, a_held, e_held, risk_held, reward, risk = totals(
        a * y, a * held, e * held, gradient * held, e * y, gradient * y
    )
    # rows of the two equations: coefficients of alpha and of -beta, and the right-hand side
    sum_value = 1 - ay + ar
    own_alpha, own_beta, own_value = pull_p - e_held, pull_q + 1 - a_held, pull_r - risk_held
    determinant = aq * own_alpha - ap * own_beta
    regular = jnp.any(e != 0, axis=0) & (jnp.abs(determinant) > 0)
    safe = jnp.where(regular, determinant, 1)
    alpha = (aq * own_value - sum_value * own_beta) / safe
    beta = (ap * own_value - sum_value * own_alpha) / safe

    alpha_now = jnp.where(reward > 0, risk / divisor(reward), 0)
    vertex = jnp.max(jnp.where(held > 0, (gradient - alpha_now * e) / a, -jnp.inf), axis=0)
    beta_now = jnp.where(
        aq > 0, (alpha_now * ap - sum_value) / divisor(aq), jnp.where(jnp.isfinite(vertex), -vertex, 0)
    )
    alpha, beta = jnp.where(regular, alpha, alpha_now), jnp.where(regular, beta, beta_now)
    return _from_table(alpha * p - beta * q - r, entry, used, free, backend), alpha, beta


def _in_table(
    matrix: Array, vectors: Array, free: Array, table: int, rows: Array, backend: Backend
) -> tuple[Array, Array, Array, Array]:
    """The free entries of a matrix (K, K, L) and of vectors (K, R, L), gathered in the leading rows of a table.

    Returns:
        The matrix (table, table, L) and the vectors (table, R, L); (table, L) int32 which entry a row holds, and
        whether it holds one. Entries for which there is no row are lost.
    """
    size, *lanes = free.shape
    if table == size:
        return matrix, vectors, positions(size, free), free
    entry, used = _entries(free, table, rows, backend)
    places = (entry[:, None] * size + entry[None]).reshape(table * table, *lanes)
    block = jnp.take_along_axis(matrix.reshape(size * size, *lanes), places, axis=0, mode="clip")
    own = jnp.take_along_axis(vectors, entry[:, None], axis=0, mode="clip")
    return block.reshape(table, table, *lanes), own, entry, used


def _from_table(values: Array, entry: Array, used: Array, free: Array, backend: Backend) -> Array:
    """Values (table, L) at the entries that have rows in a table, (K, L); 0 elsewhere."""
    table, size = len(values), len(free)
    if table == size:
        return values
    index = positions(size, free)

    def put(row: Array, all_: Array) -> Array:
        return jnp.where((index == entry[row]) & used[row], values[row], all_)

    return over_steps(table, put, jnp.zeros(free.shape, values.dtype), backend)


def _entries(free: Array, table: int, rows: Array, backend: Backend) -> tuple[Array, Array]:
    """(table, L) int32, the first free entries in order, one for each row of a table; and bool, which rows have one."""
    size, *lanes = free.shape
    row = positions(table, free)
    if backend is not Backend.CPU:
        # how many free ones come before each: a product, which an accelerator is made for, exact for small numbers
        before = dot(jnp.tri(size, k=-1, dtype=jnp.float32), free.astype(jnp.float32)).astype(jnp.int32)
        taken = (row[:, None] == before[None]) & free[None]  # (table, K, L)
        entry = jnp.sum(jnp.where(taken, positions(size, free)[None], 0), axis=1, dtype=jnp.int32)
        return entry, row < jnp.sum(free, axis=0, dtype=jnp.int32)

    def add(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        entry, count = carry
        return jnp.where((row == count) & free[i], i, entry), count + free[i]

    nothing = jnp.zeros((table, *lanes), jnp.int32), jnp.zeros(lanes, jnp.int32)
    entry, count = over_steps(size, add, nothing, backend, rows)
    return entry, row < count


def _solve_masked(matrix: Array, rhs: Array, used: Array, proximal: Array, backend: Backend) -> Array:
    """Solve (matrix + proximal) X = rhs on the rows that are used; X is 0 elsewhere."""
    row = positions(used.shape[0], matrix)
    block = jnp.where(used[:, None] & used[None], matrix, 0)
    # at least of rounding size, which bounds the step where the face is singular
    least = smallest_pivot(used.shape[0], matrix.dtype)
    diagonal = jnp.where(used, 1 + jnp.maximum(least, proximal.astype(matrix.dtype)), 1)
    block = jnp.where(row == jnp.swapaxes(row, 0, 1), diagonal[:, None], block)
    end = jnp.max(jnp.where(used, row[:, 0] + 1, 0), axis=0)
    return solve_positive_definite(block, jnp.where(used[:, None], rhs, 0), backend, end)
