"""Products at full precision, with and without lanes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.lanes.control import over_pairs

_SPARSE = 128  # entries of a vector from which products look for those that are 0
HIGHEST = lax.Precision.HIGHEST  # JAX's float32 products may run in TF32 on a GPU; every product here says no


def dot(a: Array, b: Array) -> Array:
    """Matrix product of two arrays at full precision, `jax.numpy.matmul`'s shapes."""
    return jnp.matmul(a, b, precision=HIGHEST)


@functools.partial(jax.jit, static_argnames=("backend", "absolute"))  # traced once a shape, not at each of its uses
def matvec(matrix: Array, x: Array, backend: Backend, rows: Array | None = None, absolute: bool = False) -> Array:
    """Product of a symmetric (K, K, L), or of its absolute values, and (K, L).

    On a CPU the rows, each multiplied by an entry of the vector, are added up two at a time, and the sum stays in the
    nearest cache. (One row a step takes up to seven times as long where lanes are few.)

    Args:
        matrix: (K, K, L).
        x: (K, L).
        backend: static.
        rows: () int32, the entries of ``x`` from this one on are 0; by default all K count.
        absolute: static.
    """
    size = jnp.abs if absolute else lambda values: values
    if backend is not Backend.CPU:
        return jnp.sum(size(matrix) * x[None], axis=1)

    def add(sum_: Array, row: Array, entry: Array) -> Array:
        return sum_ + size(row) * entry[None]

    return _over_rows(add, jnp.zeros_like(x), matrix, (x,), rows)


@functools.partial(jax.jit, static_argnums=(3, 4))
def two_products(
    matrix: Array, x: Array, y: Array, backend: Backend, absolute: bool, rows: Array | None = None
) -> tuple[Array, Array]:
    """`matvec` of a matrix and each of two vectors, with one pass over the matrix.

    Args:
        matrix: (K, K, L).
        x: (K, L).
        y: (K, L).
        backend: static.
        absolute: whether ``y`` is multiplied by the absolute values of the matrix.
        rows: as in `matvec`.
    """
    size = jnp.abs if absolute else lambda values: values
    if backend is not Backend.CPU:
        return jnp.sum(matrix * x[None], axis=1), jnp.sum(size(matrix) * y[None], axis=1)

    def add(sums: tuple[Array, Array], row: Array, first: Array, second: Array) -> tuple[Array, Array]:
        return sums[0] + row * first[None], sums[1] + size(row) * second[None]

    return _over_rows(add, (jnp.zeros_like(x), jnp.zeros_like(y)), matrix, (x, y), rows)


def _over_rows(
    add: Callable[..., Any], start: Any, matrix: Array, vectors: tuple[Array, ...], rows: Array | None
) -> Any:
    """Add up over the rows of a matrix what they are with the entries of vectors; a row whose entries are 0 adds none.

    Of a large matrix only those are read for which any lane has an entry: portfolios hold few of many clusters.
    """
    size = len(matrix)

    def step(j: Array, sum_: Any) -> Any:
        row, *entries = (lax.dynamic_index_in_dim(values, j, 0, keepdims=False) for values in (matrix, *vectors))
        return add(sum_, row, *entries)

    if size < _SPARSE or matrix.ndim == 2:
        return over_pairs(size, step, start, rows)
    used = functools.reduce(jnp.logical_or, (jnp.any(x != 0, axis=1) for x in vectors))
    place = jnp.arange(size, dtype=jnp.int32)
    count = jnp.sum(used, dtype=jnp.int32)
    order = jnp.sort(jnp.where(used, place, place + size)) % size  # past the last that is used come those that add 0
    return over_pairs(size, lambda j, sum_: step(order[j], sum_), start, count)


def totals(*values: Array) -> tuple[Array, ...]:
    """Sums over the first axis of arrays of one shape and dtype, by one kernel.

    It takes longer to run than a kernel for each sum, and a fraction of the time to compile.
    """

    def add(sums: tuple[Array, ...], others: tuple[Array, ...]) -> tuple[Array, ...]:
        return tuple(one + other for one, other in zip(sums, others, strict=True))

    zeros = tuple(jnp.zeros((), each.dtype) for each in values)
    return lax.reduce(values, zeros, add, (0,))


def diagonal(matrix: Array) -> Array:
    """Diagonal (K, L) of a matrix (K, K, L)."""
    size = matrix.shape[0]
    return matrix.reshape(size * size, *matrix.shape[2:])[:: size + 1]


def positions(size: int, like: Array) -> Array:
    """0 to ``size`` - 1 along the first axis, int32, to broadcast against ``like`` (size, ..., L)."""
    return lax.broadcasted_iota(jnp.int32, (size, *[1] * (like.ndim - 1)), 0)


def divisor(x: Array) -> Array:
    """``x`` where it is positive and can be divided by, else 1."""
    return jnp.where(x > 0, x, 1)
