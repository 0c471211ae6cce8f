"""Frequency-weighted moments of one universe, from its own returns or from a panel that many universes share."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxalloc.kernels.lanes.products import divisor, dot


class Moments(NamedTuple):
    """Moments of one universe, per period. Entries of an inactive asset are 0.

    Attributes:
        count: () n, the sum of the observation weights.
        mean: (N,) weighted mean; of decayed weights where a decay was given.
        covariance: (N, N) weighted covariance with divisor n - 1; likewise.
        plain_mean: (N,) mean of the observation weights themselves, whatever the decay.
        plain_variance: (N,) variance of those, divisor n - 1.
        third: (N,) mean cubed deviation of those from ``plain_mean``, divisor n.
        active: (N,) bool, the assets that take part.
        dropped: () bool, an asset of the mask left because its returns are all equal.
        valid: () bool, False where the universe has no moments (see `Status.INVALID`).
    """

    count: Array
    mean: Array
    covariance: Array
    plain_mean: Array
    plain_variance: Array
    third: Array
    active: Array
    dropped: Array
    valid: Array


def sample_moments(returns: Array, weights: Array, mask: Array, decay: Array | None = None) -> Moments:
    """Moments of one universe from its own returns, in two passes (mean, then deviations from it).

    mean = sum c x / n and covariance = sum c (x - mean)(x - mean)' / (n - 1), with n = sum c: the weights are
    frequencies, so that counts give what the rows repeated count times give.

    Args:
        returns: (T, N) simple returns per period. Never read where the mask is False or the weight is 0.
        weights: (T,) observation weights c, at least 0.
        mask: (N,) bool, the assets of the universe.
        decay: () lambda in (0, 1] of `decayed_weights`, which then make the mean and the covariance; or None.

    Returns:
        `Moments`; ``valid`` is False where a return in use is not finite, a weight is negative or not finite, n < 2,
        no asset is left, or the decay leaves a single row.
    """
    c, weights_ok = clean_weights(weights)
    used = c > 0
    read = used[:, None] & mask[None, :]
    missing = jnp.any(read & ~jnp.isfinite(returns))
    x = jnp.where(read & jnp.isfinite(returns), returns, 0)
    n = jnp.sum(c)
    constant = is_constant(x, used)
    active = mask & ~constant
    inside = used[:, None] & active[None, :]

    def centre(c: Array) -> tuple[Array, Array]:
        mean = jnp.where(active, dot(c, x) / divisor(n), 0)
        return mean, jnp.where(inside, x - mean[None, :], 0)

    def spread(c: Array, deviation: Array) -> Array:
        weighted = c[:, None] * deviation
        covariance = dot(weighted.T, deviation) / divisor(n - 1)
        return (covariance + covariance.T) / 2  # a product of two matrices is symmetric up to rounding only

    plain_mean, deviation = centre(c)
    third = dot(c, deviation**3) / divisor(n)
    if decay is None:
        mean, covariance = plain_mean, spread(c, deviation)
        plain_variance = jnp.diagonal(covariance)
    else:
        recent = decayed_weights(c, decay)
        mean, recent_deviation = centre(recent)
        covariance = spread(recent, recent_deviation)
        plain_variance = dot(c, deviation**2) / divisor(n - 1)
        weights_ok = weights_ok & ~in_one_row(recent)
    return judged_moments(
        weights_ok & ~missing,
        mask,
        count=n,
        mean=mean,
        covariance=covariance,
        plain_mean=plain_mean,
        plain_variance=plain_variance,
        third=third,
        active=active,
    )


def decayed_weights(weights: Array, decay: Array) -> Array:
    """Weights c lambda^age, rescaled to the sum of c; RiskMetrics' for a plain sample (J.P. Morgan/Reuters 1996).

    The age of row t is T - 1 - t. Since the scale is free it is counted from the last row in use instead, so that the
    powers of a window far from the panel's end do not all underflow.

    Args:
        weights: (T,) observation weights c, at least 0.
        decay: () lambda, in (0, 1].

    Returns:
        (T,) weights.
    """
    row = jnp.arange(weights.shape[0], dtype=jnp.int32)
    last = jnp.max(jnp.where(weights > 0, row, 0))
    age = jnp.maximum(last - row, 0).astype(weights.dtype)  # a row past the last has weight 0
    decayed = weights * decay**age
    return decayed * (jnp.sum(weights) / divisor(jnp.sum(decayed)))


def judged_moments(readable: Array, mask: Array, **moments: Array) -> Moments:
    """Moments of one universe, with what they say of it: whether an asset was dropped, and whether they can be used.

    A universe is rejected whose moments underflowed or overflowed: nothing can be computed with them. By Cauchy and
    Schwarz no sum of products is larger than the larger of the two sums of squares. So where all variances are finite,
    all covariances are, and they need not be looked at.

    Args:
        readable: () bool, whether every weight is good and no return in use is missing.
        mask: (N,) bool, the assets of the universe.
        moments: the other fields of `Moments`, by name.
    """
    active, variance = moments["active"], jnp.diagonal(moments["covariance"])
    usable = jnp.all(jnp.where(active, (variance > 0) & jnp.isfinite(variance), True))
    usable = usable & jnp.all(jnp.isfinite(moments["third"]))
    valid = readable & (moments["count"] >= 2) & jnp.any(active) & usable
    return Moments(**moments, dropped=jnp.any(mask & ~active), valid=valid)


def clean_weights(weights: Array) -> tuple[Array, Array]:
    """Observation weights (T,), 0 where one is negative or not finite; and () bool, whether none is."""
    good = jnp.isfinite(weights) & (weights >= 0)
    return jnp.where(good, weights, 0), jnp.all(good)


def in_one_row(weights: Array) -> Array:
    """True where one row has all the weight, to rounding; what variance is left is that of rounding errors."""
    total = jnp.sum(weights)
    return total - jnp.max(weights) <= 16 * jnp.finfo(weights.dtype).eps * total


def is_constant(x: Array, used: Array) -> Array:
    """(N,) True where the used rows of a column all hold one value; never judged by a computed variance."""
    highest = jnp.max(jnp.where(used[:, None], x, -jnp.inf), axis=0)
    lowest = jnp.min(jnp.where(used[:, None], x, jnp.inf), axis=0)
    return highest <= lowest
