"""Correlation distance."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array


def correlation_distance(covariance: Array, kind: str = "correlation") -> Array:
    """Distance between assets: sqrt((1 - rho) / 2), or sqrt((1 - |rho|) / 2) for ``kind="absolute"``.

    Args:
        covariance: (N, N). An entry whose variance is 0 is treated as uncorrelated with the rest.
        kind: ``"correlation"`` or ``"absolute"``, which puts an inverse fund beside its underlying.

    Returns:
        (N, N) in [0, 1], zero on the diagonal.
    """
    rho = likeness(covariance, inverse_volatility(covariance), kind)
    index = jnp.arange(rho.shape[0], dtype=jnp.int32)
    return jnp.where(index[:, None] == index[None, :], 0, to_distance(rho))


def inverse_volatility(covariance: Array) -> Array:
    """(N,) 1 / sigma, and 0 where an asset has no variance."""
    variance = jnp.diagonal(covariance)
    return jnp.where(variance > 0, 1 / jnp.sqrt(jnp.where(variance > 0, variance, 1)), 0)


def likeness(covariance: Array, inverse: Array, kind: str) -> Array:
    """The correlations, or their absolute values, that a kind of distance is made of.

    Args:
        covariance: (M, M, ...) of some of the assets.
        inverse: (M, ...) their `inverse_volatility`.
        kind: ``"correlation"`` or ``"absolute"``.
    """
    return scaled(covariance, inverse[:, None], inverse[None], kind)


def scaled(covariance: Array, first: Array, second: Array, kind: str) -> Array:
    """`likeness` of pairs of assets, from their covariances and the `inverse_volatility` of each of the two."""
    rho = jnp.clip(covariance * (first * second), -1, 1)  # in this order symmetric to the bit
    return jnp.abs(rho) if kind == "absolute" else rho


def to_distance(rho: Array) -> Array:
    """Distance from `likeness`."""
    return jnp.sqrt((1 - rho) / 2)
