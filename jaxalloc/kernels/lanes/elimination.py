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
from jaxalloc.kernels.lanes.products import diagonal, dot, positions

_LARGE = 64  # equations of a system that is eliminated by blocks, and
_BLOCK = 16  # rows of such a block (measured on a CPU)


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
    if backend is Backend.CPU and matrix.ndim == 3 and size >= _LARGE:
        return _solve_in_blocks(matrix, rhs, rows)
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


def _solve_in_blocks(matrix: Array, rhs: Array, rows: Array | None) -> Array:
    """`solve_positive_definite` for large systems on a CPU: so many rows at once, by matrix products.

    Eliminated row by row, a table that no cache holds is gone through once for each of its rows. Here lanes come first,
    so that each one's products are of whole matrices.
    """
    size, n_rhs, lanes = *rhs.shape[:2], rhs.shape[2]
    short = -size % _BLOCK  # rows of the identity, with right-hand sides of 0
    tiny = jnp.pad(smallest_pivot(size, matrix.dtype) * diagonal(matrix), ((0, short), (0, 0)))
    table = jnp.moveaxis(jnp.concatenate([matrix, rhs], axis=1), -1, 0)
    if short:
        table = jnp.concatenate([table[..., :size], jnp.zeros((lanes, size, short), table.dtype), table[..., size:]], 2)
        own = jnp.eye(size + short, size + short + n_rhs, dtype=table.dtype)[size:]
        table = jnp.concatenate([table, jnp.broadcast_to(own, (lanes, *own.shape))], axis=1)
    used = jnp.int32(size) if rows is None else jnp.max(rows)
    parts = []
    edges = [_BLOCK * edge for edge in _edges((size + short) // _BLOCK, 1)]
    for low, high in itertools.pairwise(edges):
        blocks = jnp.clip(-(-(used - low) // _BLOCK), 0, (high - low) // _BLOCK)
        table = lax.fori_loop(0, blocks, functools.partial(_eliminate_block, tiny[low:]), table)
        parts.append(table[:, : high - low])
        table = table[:, high - low :, high - low :]
    solution = jnp.zeros((lanes, 0, n_rhs), rhs.dtype)
    for part in reversed(parts):
        known = dot(part[:, :, part.shape[1] : -n_rhs], solution)
        solution = jnp.concatenate([part[:, :, -n_rhs:] - known, solution], axis=1)
    return jnp.moveaxis(solution[:, :size], 0, -1)


def _eliminate_block(tiny: Array, number: Array, table: Array) -> Array:
    """One step of Gauss-Jordan over a table (L, n, columns): the rows and columns of a block."""
    (lanes, n_rows, _), start = table.shape, _BLOCK * number
    rows = lax.dynamic_slice_in_dim(table, start, _BLOCK, axis=1)
    pivots = jnp.moveaxis(lax.dynamic_slice_in_dim(rows, start, _BLOCK, axis=2), 0, -1)
    identity = jnp.broadcast_to(jnp.eye(_BLOCK, dtype=table.dtype)[..., None], (_BLOCK, _BLOCK, lanes))
    own = lax.dynamic_slice_in_dim(tiny, start, _BLOCK)
    inverse = _eliminate(jnp.concatenate([pivots, identity], axis=1), own, _BLOCK, None, Backend.CPU)[:, _BLOCK:]
    rows = dot(jnp.moveaxis(inverse, -1, 0), rows)
    place = jnp.arange(n_rows, dtype=jnp.int32)[:, None]
    columns = lax.dynamic_slice_in_dim(table, start, _BLOCK, axis=2)
    columns = jnp.where((place >= start) & (place < start + _BLOCK), 0, columns)
    return lax.dynamic_update_slice_in_dim(table - dot(columns, rows), rows, start, axis=1)


def smallest_pivot(size: int, dtype: Any) -> float:
    """Largest pivot, relative to a unit diagonal, that counts as rounding in a system of so many equations."""
    return 4 * size * float(jnp.finfo(dtype).eps)


def _edges(size: int, least: int = 12) -> list[int]:
    """Where the blocks of an elimination begin and end, each of at least so many rows."""
    n_blocks = max(1, min(4, size // least))
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
