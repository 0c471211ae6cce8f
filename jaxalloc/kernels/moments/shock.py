"""Stress: what changes in the moments of a universe."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array


class Shock(NamedTuple):
    """What changes in the moments of a stressed universe. Volatility 1, correlation 0 and mean 0 change no bit.

    It stands for an affine change of each asset's returns, x' = m + v (x - m) + s / periods per year with m the mean
    per period, and for a move of all correlations at once. Skewness has no unit and stays as it is.

    Attributes:
        volatility: (N,) factor on each asset's volatility, greater than 0.
        correlation: () c in [-1, 1]. Above 0 every correlation moves the fraction c of the way to 1, to
            (1 - c) R + c 11'; below 0 the fraction -c of the way to 0, to (1 + c) R - c I. Both are convex combinations
            of correlation matrices, so that R stays positive semidefinite.
        mean: (N,) added to each asset's annual mean return.
    """

    volatility: Array
    correlation: Array
    mean: Array


def shocked_moments(mean: Array, covariance: Array, active: Array, shock: Shock) -> tuple[Array, Array]:
    """Annual mean and covariance after a shock.

    Args:
        mean: (N,) annual mean.
        covariance: (N, N) annual covariance.
        active: (N,) bool.
        shock: what changes; never read where an asset is inactive.

    Returns:
        (N,) and (N, N), 0 for an inactive asset.
    """
    c = shock.correlation
    v = jnp.where(active, shock.volatility, 1)
    variance = jnp.diagonal(covariance)
    deviation = jnp.sqrt(jnp.maximum(variance, 0))
    joined = (1 - c) * covariance + c * (deviation[:, None] * deviation[None, :])
    moved = jnp.where(c > 0, joined, jnp.where(c < 0, (1 + c) * covariance, covariance))
    index = jnp.arange(active.shape[0], dtype=jnp.int32)
    diagonal = index[:, None] == index[None, :]
    # a variance takes its factor v^2 and nothing else: the square of a root is not quite what the root was taken of
    covariance = (v[:, None] * v[None, :]) * jnp.where(diagonal, covariance, moved)
    # a correlation that is not a number must make the universe INVALID, not pass for no shock
    covariance = jnp.where(jnp.isnan(c), jnp.nan, covariance)
    both = active[:, None] & active[None, :]
    return jnp.where(active, mean + shock.mean, 0), jnp.where(both, covariance, 0)
