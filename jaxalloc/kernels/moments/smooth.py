"""Moments and upper tails of one universe as smooth functions of its returns and weights.

What is discrete is given: which rows and assets are used, and which returns lie above the quantile. The formulas are
those of `jaxalloc.kernels.moments.sample` and `tails`, in whole arrays and without loops, so that they can be
differentiated in both directions.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from jaxalloc.kernels.lanes.precision import inverse_power_of_two
from jaxalloc.kernels.lanes.products import divisor, dot
from jaxalloc.kernels.moments.sample import Moments, decayed_weights
from jaxalloc.kernels.moments.shrinkage import shrink_sample
from jaxalloc.kernels.moments.tails import Tail, sample_tail


def smooth_moments(returns: Array, weights: Array, active: Array, decay: Array | None, choice: str) -> Moments:
    """Moments of a valid universe, the covariance as chosen.

    Args:
        returns: (T, N) simple returns per period. A row of weight 0 and an inactive asset are not read: their
            derivatives are 0.
        weights: (T,) observation weights c.
        active: (N,) bool, the assets that take part.
        decay: () lambda of decayed weights, or None.
        choice: one of `jaxalloc.settings.config.COVARIANCES`.
    """
    c, x, used = _read(returns, weights, active)
    n = jnp.sum(c)
    recent = c if decay is None else decayed_weights(c, decay)
    plain_mean, mean = (dot(own, x) / divisor(n) for own in (c, recent))
    deviation = jnp.where(used, x - plain_mean[None, :], 0)
    about_mean = jnp.where(used, x - mean[None, :], 0)
    covariance = dot((recent[:, None] * about_mean).T, about_mean) / divisor(n - 1)
    inverse_scale = inverse_power_of_two(jnp.max(jnp.abs(deviation), axis=0))
    true = jnp.bool_(True)
    moments = Moments(
        count=n,
        mean=mean,
        covariance=(covariance + covariance.T) / 2,
        plain_mean=plain_mean,
        plain_variance=dot(c, deviation**2) / divisor(n - 1),
        third=dot(c, (deviation * inverse_scale[None, :]) ** 3) / divisor(n),
        inverse_scale=inverse_scale,
        active=active,
        dropped=~true,
        valid=true,
    )
    return shrink_sample(moments, x, c, choice)


def smooth_tail(returns: Array, weights: Array, active: Array) -> Tail:
    """Upper tails of a valid universe, with the returns above the quantile as they are now."""
    c, x, used = _read(returns, weights, active)
    constant = jax.lax.stop_gradient
    _, quantile = sample_tail(constant(x), constant(c), active)
    tail = jnp.where(used & (x > quantile[None, :]), c[:, None], 0)
    weight = jnp.sum(tail, axis=0)
    exists = weight > 0
    return Tail(mean=jnp.where(exists, jnp.sum(tail * x, axis=0) / jnp.where(exists, weight, 1), 0), exists=exists)


def _read(returns: Array, weights: Array, active: Array) -> tuple[Array, Array, Array]:
    """Weights (T,) and returns (T, N), 0 where they are not read; and (T, N) bool, where they are."""
    c = jnp.where(weights > 0, weights, 0)
    used = (weights > 0)[:, None] & active[None, :]
    return c, jnp.where(used, returns, 0), used
