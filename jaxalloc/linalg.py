"""Linear algebra in plain lax: products at full precision, and a solver that calls no LAPACK.

On the CPU, jaxlib spreads batched LAPACK calls over XLA's thread pool, where two concurrent programs can wait for each
other for ever; and a batched call's bits depend on the batch. The elimination below has neither problem.
"""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxalloc.lanes import positions

HIGHEST = lax.Precision.HIGHEST  # JAX's float32 products may run in TF32 on a GPU; every product here says no


def dot(a: Array, b: Array) -> Array:
    """Matrix product of two arrays at full precision, `jax.numpy.matmul`'s shapes."""
    return jnp.matmul(a, b, precision=HIGHEST)


# A symmetric positive definite matrix in blocks of rows (p, n, ...), ready for right-hand sides: the inverse of its
# own p columns, and that times the n - p columns after it
Factor = tuple[Array, ...]


@jax.jit
def solve_positive_definite(matrix: Array, rhs: Array) -> Array:
    """Solve matrix X = rhs by elimination without pivoting.

    Without pivoting the elimination is stable for a symmetric positive definite matrix. A column that depends on the
    ones before it, up to rounding, gets 0 in the solution: of the many solutions of a consistent singular system this
    is a basic one.

    Each step of an elimination goes through the whole table, for shapes are static. So this is Gauss-Jordan on one
    block of rows after the other, the table cut down to what is left after each, and then back substitution: about half
    the work.

    Args:
        matrix: (K, K) symmetric positive semidefinite, unit scale on its diagonal; lanes may follow, (K, K, L).
        rhs: (K, R) right-hand sides; (K, R, L).

    Returns:
        (K, R) the solution; (K, R, L).
    """
    size, n_rhs = matrix.shape[0], rhs.shape[1]
    tiny = 4 * size * jnp.finfo(matrix.dtype).eps
    scale = jnp.moveaxis(jnp.diagonal(matrix), -1, 0)
    table = jnp.concatenate([matrix, rhs], axis=1)
    blocks = []
    for low, high in itertools.pairwise(_edges(size)):
        table = _eliminate(table, tiny * scale[low:], high - low)
        blocks.append(table[: high - low])
        table = table[high - low :, high - low :]
    solution = jnp.zeros((0, *rhs.shape[1:]), rhs.dtype)
    for block in reversed(blocks):
        pivots = block.shape[0]
        known = jnp.sum(block[:, pivots:-n_rhs, None] * solution[None], axis=1)
        solution = jnp.concatenate([block[:, -n_rhs:] - known, solution])
    return solution


@jax.jit
def factorize(matrix: Array) -> Factor:
    """Do the part of `solve_positive_definite` that no right-hand side is needed for, in the same steps.

    Args:
        matrix: (K, K), as there; or (K, K, L).
    """
    size = matrix.shape[0]
    tiny = 4 * size * jnp.finfo(matrix.dtype).eps * jnp.moveaxis(jnp.diagonal(matrix), -1, 0)
    table, blocks = matrix, []
    for low, high in itertools.pairwise(_edges(size)):
        table = _eliminate(table, tiny[low:], high - low, inverse=True)
        blocks.append(table[: high - low])
        table = table[high - low :, high - low :]
    return tuple(blocks)


@jax.jit
def solve_factorized(factor: Factor, rhs: Array) -> Array:
    """Solve for further right-hand sides: some K^2 steps each, where `factorize` took K^3 / 2.

    Args:
        factor: from `factorize`.
        rhs: (K, R); or (K, R, L).

    Returns:
        (K, R) the solution; (K, R, L).
    """
    own = []
    for block in factor:
        pivots = block.shape[0]
        own.append(_times(block[:, :pivots], rhs[:pivots]))
        # what is below a block is its transpose
        rhs = rhs[pivots:] - _times(jnp.swapaxes(block[:, pivots:], 0, 1), rhs[:pivots])
    solution = rhs
    for block, part in zip(reversed(factor), reversed(own), strict=True):
        solution = jnp.concatenate([part - _times(block[:, block.shape[0] :], solution), solution])
    return solution


def _times(matrix: Array, x: Array) -> Array:
    """Product of (M, K, ...) and (K, R, ...), column after column: see `jaxalloc.lanes.matvec`."""
    if 0 in matrix.shape[:2]:
        return jnp.zeros((matrix.shape[0], *x.shape[1:]), x.dtype)

    def add(j: Array, total: Array) -> Array:
        column = lax.dynamic_index_in_dim(matrix, j, 1, keepdims=True)
        return total + column * lax.dynamic_index_in_dim(x, j, 0, keepdims=True)

    return lax.fori_loop(0, x.shape[0], add, jnp.zeros((matrix.shape[0], *x.shape[1:]), x.dtype))


def _edges(size: int) -> list[int]:
    """Where the blocks of an elimination begin and end."""
    n_blocks = max(1, min(4, size // 12))
    return [size * b // n_blocks for b in range(n_blocks + 1)]


def _eliminate(table: Array, tiny: Array, pivots: int, inverse: bool = False) -> Array:
    """Gauss-Jordan over the first ``pivots`` columns of a table (n, columns, ...).

    They are left as they are, to be read no more; with ``inverse`` they become those of the inverse.
    """
    index = positions(table.shape[0], table)
    columns = positions(table.shape[1], table[0])

    def step(k: Array, table: Array) -> Array:
        row = lax.dynamic_index_in_dim(table, k, 0, keepdims=False)
        column = lax.dynamic_index_in_dim(table, k, 1, keepdims=False)
        pivot = lax.dynamic_index_in_dim(row, k, 0, keepdims=False)
        dependent = pivot <= lax.dynamic_index_in_dim(tiny, k, 0, keepdims=False)
        reciprocal = jnp.where(dependent, 0, 1 / jnp.where(dependent, 1, pivot))
        row = row * reciprocal
        taken = row
        if inverse:
            # by products, for which every entry is read: with a choice LLVM leaves the last lane to code that rounds
            # otherwise
            own = (columns == k).astype(row.dtype)
            row = row * (1 - own) + reciprocal * own
            taken = row + own  # leaves -column / pivot in the pivot's own column
        return jnp.where(index == k, row[None], table - column[:, None] * taken[None])

    return lax.fori_loop(0, pivots, step, table)
