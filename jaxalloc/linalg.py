"""Linear algebra in plain lax: products at full precision, and a solver that calls no LAPACK.

On the CPU, jaxlib spreads batched LAPACK calls over XLA's thread pool, where two concurrent programs can wait for each
other for ever; and a batched call's bits depend on the batch. The elimination below has neither problem.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax

HIGHEST = lax.Precision.HIGHEST  # JAX's float32 products may run in TF32 on a GPU; every product here says no


def dot(a: Array, b: Array) -> Array:
    """Matrix product of two arrays at full precision, `jax.numpy.matmul`'s shapes."""
    return jnp.matmul(a, b, precision=HIGHEST)


def quadratic_form(matrix: Array, x: Array) -> Array:
    """X' matrix x of a (K, K) matrix and a (K,) vector."""
    return dot(x, dot(matrix, x))


def solve_positive_definite(matrix: Array, rhs: Array) -> Array:
    """Solve matrix X = rhs by Gauss-Jordan elimination without pivoting.

    Without pivoting the elimination is stable for a symmetric positive definite matrix. A column that depends on the
    ones before it, up to rounding, gets 0 in the solution: of the many solutions of a consistent singular system this
    is a basic one.

    Args:
        matrix: (K, K) symmetric positive semidefinite, unit scale on its diagonal.
        rhs: (K, R) right-hand sides.

    Returns:
        (K, R) the solution.
    """
    k_size = matrix.shape[0]
    tiny = 4 * k_size * jnp.finfo(matrix.dtype).eps
    index = jnp.arange(k_size, dtype=jnp.int32)
    scale = jnp.diagonal(matrix)

    def eliminate(k: Array, table: Array) -> Array:
        row = lax.dynamic_index_in_dim(table, k, 0, keepdims=False)
        column = lax.dynamic_index_in_dim(table, k, 1, keepdims=False)
        pivot = lax.dynamic_index_in_dim(row, k, 0, keepdims=False)
        dependent = pivot <= tiny * lax.dynamic_index_in_dim(scale, k, 0, keepdims=False)
        row = jnp.where(dependent, 0, row / jnp.where(dependent, 1, pivot))
        is_pivot = index == k
        return jnp.where(is_pivot[:, None], row[None, :], table - column[:, None] * row[None, :])

    table = jnp.concatenate([matrix, rhs], axis=1)
    table = lax.fori_loop(0, k_size, eliminate, table)
    return table[:, k_size:]
