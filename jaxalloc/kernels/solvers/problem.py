"""What the solvers across clusters share: correlations and volatilities, a problem, a solution."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxalloc.kernels.lanes.products import diagonal, positions


class Correlation(NamedTuple):
    """S = diag(sigma) C diag(sigma), with or without lanes.

    Attributes:
        matrix: (K, K, L) C, unit diagonal.
        float32_matrix: (K, K, L) C in float32.
        sigma: (K, L) volatilities; 1 where S has no variance.
    """

    matrix: Array
    float32_matrix: Array
    sigma: Array


def correlate(covariance: Array) -> Correlation:
    """Split S (K, K, L), or (K, K), into correlations and volatilities."""
    rows = positions(covariance.shape[0], covariance)
    same = rows == jnp.swapaxes(rows, 0, 1)
    variance = diagonal(covariance)
    sigma = jnp.sqrt(jnp.where(variance > 0, variance, 1))
    inverse = 1 / sigma
    matrix = jnp.where(same, 1, covariance * inverse[:, None] * inverse[None])
    return Correlation(matrix=matrix, float32_matrix=matrix.astype(jnp.float32), sigma=sigma)


class Solution(NamedTuple):
    """A portfolio of clusters.

    Attributes:
        weights: (K,) at least 0, sum 1, within the bounds.
        gap: () optimality gap, see `optimality_gap`.
        iterations: () int32, blocks of projected gradient steps (or sweeps, for risk parity).
        altered: () bool: the problem had no answer as posed and a stated substitute was solved.
        converged: () bool: the gap is within the tolerance of the precision, or at its rounding floor.
    """

    weights: Array
    gap: Array
    iterations: Array
    altered: Array
    converged: Array


class MeanVarianceProblem(NamedTuple):
    """A problem in the variance metric, y = sigma w, with lanes.

    Minimise y'Cy, or y'Cy over the square of e'y, over {0 <= y <= b, a . y = 1}.

    Attributes:
        correlation: (K, K, L) C.
        normal: (K, L) a = 1 / sigma.
        upper: (K, L) b = sigma u.
        excess: (K, L) e, excess returns over volatilities; 0 for minimum variance.
        rows: () int32, no cluster from this one on takes part in any lane.
    """

    correlation: Array
    normal: Array
    upper: Array
    excess: Array
    rows: Array
