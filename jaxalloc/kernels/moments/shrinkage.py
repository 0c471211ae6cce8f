"""Shrinkage of the sample correlations towards zero: Ledoit-Wolf and the oracle approximating estimator.

Both shrink the covariance S of the *standardised* returns, the correlation matrix, towards tr(S)/N I, the identity:
(1 - delta) S + delta I. Then the sample variances come back, so that covariances are multiplied by 1 - delta and
variances stay. (Of the raw returns the target would be the mean variance, which triples the volatility of an asset at
4 % that stands beside one at 120 %.) Neither delta depends on a common factor of the returns, so that divisors n and
n - 1 give the same.

Symbols: c observation weights, frequencies; n = sum c; p the number of active assets; z the standardised returns of
the active assets; R their correlation matrix.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxalloc.kernels.lanes.products import dot
from jaxalloc.kernels.moments.panel import SharedPanel
from jaxalloc.kernels.moments.sample import Moments


def shrink_sample(moments: Moments, returns: Array, weights: Array, choice: str) -> Moments:
    """Shrink the covariance of one universe with its own returns.

    Args:
        moments: from `sample_moments`, without a decay.
        returns: (T, N) simple returns per period.
        weights: (T,) observation weights c.
        choice: one of `jaxalloc.settings.config.COVARIANCES`; but for ``"ledoit_wolf"`` and ``"oas"`` nothing is done.

    Returns:
        `Moments` with another covariance.
    """
    if choice == "ledoit_wolf":
        inverse = _inverse_deviation(moments)
        inside = (weights > 0)[:, None] & moments.active[None, :] & jnp.isfinite(returns)
        z = jnp.where(inside, (returns - moments.mean[None, :]) * inverse[None, :], 0)
        return _shrink(moments, ledoit_wolf(moments, weights, jnp.sum(z**2, axis=1)))
    return _shrink(moments, oas(moments)) if choice == "oas" else moments


def shrink_panel(moments: Moments, panel: SharedPanel, weights: Array, choice: str) -> Moments:
    """`shrink_sample` for a universe of a shared panel, with ``moments`` from `panel_moments`."""
    if choice == "ledoit_wolf":
        return _shrink(moments, ledoit_wolf(moments, weights, _panel_lengths(moments, panel)))
    return _shrink(moments, oas(moments)) if choice == "oas" else moments


def ledoit_wolf(moments: Moments, weights: Array, lengths: Array) -> Array:
    """Ledoit and Wolf's delta (2004, J. Multivariate Analysis 88): b^2 / d^2, as scikit-learn computes it.

    d^2 = |R - I|^2 / p and b^2 = min(d^2, (sum c |z|^4 / n - |R|^2) / (n p)), squared Frobenius norms, with
    sum c z^2 = n. 0 where the assets are uncorrelated: there is nothing to shrink.

    Args:
        moments: of the universe.
        weights: (T,) observation weights c.
        lengths: (T,) |z|^2 of each row, z as the variances have it: with sum c z^2 = n - 1. Rows of weight 0 may hold
            anything.

    Returns:
        () delta in [0, 1].
    """
    n, p, off = _sizes(moments)
    used = weights > 0
    lengths = jnp.where(used, lengths, 0) * (n / jnp.where(n > 1, n - 1, 1))
    fourth = dot(jnp.where(used, weights, 0), lengths**2)
    b = (fourth / n - (p + off)) / n
    return jnp.where(off > 0, jnp.clip(b, 0, off) / jnp.where(off > 0, off, 1), 0)


def oas(moments: Moments) -> Array:
    """Oracle approximating shrinkage (Chen, Wiesel, Eldar & Hero 2010, eq. 23, arXiv 0907.4698), as scikit-learn.

    delta = min(1, (|R|^2 + p^2) / ((n + 1) (|R|^2 - p))), squared Frobenius norms, without the terms in 2 / p of the
    paper. 1 where the assets are uncorrelated.
    """
    n, p, off = _sizes(moments)
    return jnp.where(off > 0, jnp.minimum((p + off + p**2) / ((n + 1) * jnp.where(off > 0, off, 1)), 1), 1)


def _sizes(moments: Moments) -> tuple[Array, Array, Array]:
    """(n, p, |R - I|^2): the last is |R|^2 - p, which as a difference loses its digits where little is correlated."""
    n = jnp.where(moments.count > 0, moments.count, 1)
    p = jnp.sum(moments.active, dtype=jnp.int32).astype(moments.covariance.dtype)
    inverse = _inverse_deviation(moments)
    correlation = moments.covariance * (inverse[:, None] * inverse[None, :])
    return n, p, jnp.sum(jnp.where(_diagonal(moments), 0, correlation**2))


def _inverse_deviation(moments: Moments) -> Array:
    """(N,) 1 / sigma, 0 for an inactive asset."""
    variance = jnp.diagonal(moments.covariance)
    usable = moments.active & (variance > 0)
    return jnp.where(usable, 1 / jnp.sqrt(jnp.where(usable, variance, 1)), 0)


def _panel_lengths(moments: Moments, panel: SharedPanel) -> Array:
    """|z|^2 (T,) by two products with the panel's columns, of which no universe needs a copy.

    With y the returns less the panel's centre and d the universe's mean less it, |z|^2 = sum (y^2 - 2 y d + d^2) /
    sigma^2. Like the variances themselves it loses digits only where d is many times sigma.
    """
    inverse = _inverse_deviation(moments)
    precision = inverse**2
    away = jnp.where(moments.active, moments.mean - panel.centre, 0) * inverse
    lengths = dot(panel.centred**2, precision) - 2 * dot(panel.centred, away * inverse) + jnp.sum(away**2)
    return jnp.maximum(lengths, 0)


def _shrink(moments: Moments, delta: Array) -> Moments:
    covariance = jnp.where(_diagonal(moments), moments.covariance, (1 - delta) * moments.covariance)
    return moments._replace(covariance=covariance, valid=moments.valid & jnp.isfinite(delta))


def _diagonal(moments: Moments) -> Array:
    index = jnp.arange(moments.active.shape[0], dtype=jnp.int32)
    return index[:, None] == index[None, :]
