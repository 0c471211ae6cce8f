"""A covariance matrix as correlations and volatilities: what the solvers of Layer 1 work with, made once for all."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxalloc.kernels.lanes.control import positions


class Correlation(NamedTuple):
    """S = diag(sigma) C diag(sigma), with or without lanes.

    Attributes:
        matrix: (K, K, L) C, unit diagonal.
        rough: (K, K, L) C in float32.
        sigma: (K, L) volatilities; 1 where S has no variance.
    """

    matrix: Array
    rough: Array
    sigma: Array


def correlate(covariance: Array) -> Correlation:
    """Split S (K, K, L), or (K, K), into correlations and volatilities."""
    rows = positions(covariance.shape[0], covariance)
    same = rows == jnp.swapaxes(rows, 0, 1)
    variance = jnp.sum(jnp.where(same, covariance, 0), axis=1)
    sigma = jnp.sqrt(jnp.where(variance > 0, variance, 1))
    inverse = 1 / sigma
    matrix = jnp.where(same, 1, covariance * inverse[:, None] * inverse[None])
    return Correlation(matrix, matrix.astype(jnp.float32), sigma)
