"""Products at full precision, with and without lanes."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.lanes.control import over_pairs

HIGHEST = lax.Precision.HIGHEST  # JAX's float32 products may run in TF32 on a GPU; every product here says no


def dot(a: Array, b: Array) -> Array:
    """Matrix product of two arrays at full precision, `jax.numpy.matmul`'s shapes."""
    return jnp.matmul(a, b, precision=HIGHEST)


@functools.partial(jax.jit, static_argnums=(2, 3))  # traced once a shape, not at each of its many uses
def matvec(matrix: Array, x: Array, backend: Backend, absolute: bool = False) -> Array:
    """Product of a symmetric (K, K, L), or of its absolute values, and (K, L).

    On a CPU the rows, each multiplied by an entry of the vector, are added up two at a time, and the sum stays in the
    nearest cache. (One row a step takes up to seven times as long where lanes are few.)
    """
    size = jnp.abs if absolute else lambda values: values

    if backend is not Backend.CPU:
        return jnp.sum(size(matrix) * x[None], axis=1)

    def add(j: Array, total: Array) -> Array:
        row, entry = (lax.dynamic_index_in_dim(values, j, 0, keepdims=False) for values in (matrix, x))
        return total + size(row) * entry[None]

    return over_pairs(x.shape[0], add, jnp.zeros_like(x))


def positions(size: int, like: Array) -> Array:
    """0 to ``size`` - 1 along the first axis, int32, to broadcast against ``like`` (size, ..., L)."""
    return lax.broadcasted_iota(jnp.int32, (size, *[1] * (like.ndim - 1)), 0)


def divisor(x: Array) -> Array:
    """``x`` where it is positive and can be divided by, else 1."""
    return jnp.where(x > 0, x, 1)
