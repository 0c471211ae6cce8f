"""Systems of linear equations in plain lax: a solver that calls no LAPACK.

On the CPU jaxlib spreads batched LAPACK calls over a thread pool, where two concurrent programs can wait for each other
for ever; and a batched call's bits depend on the batch. The elimination below has neither problem.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.lanes.control import over_steps
from jaxalloc.kernels.lanes.products import diagonal, positions


@functools.partial(jax.jit, static_argnums=2)
def solve_positive_definite(matrix: Array, rhs: Array, backend: Backend, rows: Array | None = None) -> Array:
    """Solve matrix X = rhs by elimination without pivoting.

    Without pivoting the elimination is stable for a symmetric positive definite matrix. A column that depends on the
    ones before it, up to rounding, gets 0 in the solution: of the many solutions of a consistent singular system this
    is a basic one.

    Shapes are static, so that each step goes through the whole table. Therefore the rows are eliminated in blocks, by
    Gauss-Jordan; after each block the table is cut down to what is left, and back substitution follows. That is about
    half the work of eliminating all rows at once.

    Args:
        matrix: (K, K) symmetric positive semidefinite, unit scale on its diagonal; lanes may follow, (K, K, L).
        rhs: (K, R) right-hand sides; (K, R, L).
        backend: static.
        rows: () or (L,) int32, the rows from this one on are the identity's, with right-hand sides of 0; by default all
            count.

    Returns:
        (K, R) the solution; (K, R, L).
    """
    size, n_rhs = matrix.shape[0], rhs.shape[1]
    tiny = smallest_pivot(size, matrix.dtype)
    scale = diagonal(matrix)
    table = jnp.concatenate([matrix, rhs], axis=1)
    blocks = []
    for low, high in itertools.pairwise(_edges(size)):
        left = None if rows is None else rows - low
        table = _eliminate(table, tiny * scale[low:], high - low, left, backend)
        blocks.append(table[: high - low])
        table = table[high - low :, high - low :]
    solution = jnp.zeros((0, *rhs.shape[1:]), rhs.dtype)
    for block in reversed(blocks):
        pivots = block.shape[0]
        known = jnp.sum(block[:, pivots:-n_rhs, None] * solution[None], axis=1)
        solution = jnp.concatenate([block[:, -n_rhs:] - known, solution])
    return solution


def smallest_pivot(size: int, dtype: Any) -> float:
    """Largest pivot, relative to a unit diagonal, that counts as rounding in a system of so many equations."""
    return 4 * size * float(jnp.finfo(dtype).eps)


def _edges(size: int) -> list[int]:
    """Where the blocks of an elimination begin and end."""
    n_blocks = max(1, min(4, size // 12))
    return [size * b // n_blocks for b in range(n_blocks + 1)]


def _eliminate(table: Array, tiny: Array, pivots: int, rows: Array | None, backend: Backend) -> Array:
    """Gauss-Jordan over the first ``pivots`` columns of a table (n, columns, ...), which are left as they are.

    Of these columns those from ``rows`` on are the identity's, and once no lane has another the elimination ends.
    """
    index = positions(table.shape[0], table)

    def step(k: Array, table: Array) -> Array:
        row = lax.dynamic_index_in_dim(table, k, 0, keepdims=False)
        column = lax.dynamic_index_in_dim(table, k, 1, keepdims=False)
        pivot = lax.dynamic_index_in_dim(row, k, 0, keepdims=False)
        dependent = pivot <= lax.dynamic_index_in_dim(tiny, k, 0, keepdims=False)
        row = row * jnp.where(dependent, 0, 1 / jnp.where(dependent, 1, pivot))
        return jnp.where(index == k, row[None], table - column[:, None] * row[None])

    return over_steps(pivots, step, table, backend, rows)
