"""Portfolios without bounds, whose weights may be negative: one linear system, and NCO's three.

They stand in the published comparisons, not in the package: its portfolios are long-only.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxalloc.kernels.clusters.distance import correlation_distance
from jaxalloc.kernels.clusters.linkage import maxclust_height, merge_tree
from jaxalloc.kernels.clusters.partition import cut
from jaxalloc.kernels.lanes.backend import backend_in_use
from jaxalloc.kernels.lanes.elimination import solve_positive_definite
from jaxalloc.kernels.lanes.products import dot


def closed_form(covariance: Array, reward: Array) -> Array:
    """Return w proportional to covariance^-1 reward, sum 1: minimum variance for ones, maximum Sharpe for means.

    Args:
        covariance: (N, N) positive definite.
        reward: (N,).

    Returns:
        (N,) weights.
    """
    direction = _direction(covariance, reward)
    return direction / jnp.sum(direction)


def _direction(covariance: Array, reward: Array) -> Array:
    sigma = jnp.sqrt(jnp.diagonal(covariance))
    scaled = covariance / (sigma[:, None] * sigma[None, :])
    return solve_positive_definite(scaled, (reward / sigma)[:, None], backend_in_use())[:, 0] / sigma


def minimum_norm(returns: Array) -> Array:
    """Return minimum variance weights by the pseudo-inverse of a sample covariance of rank T - 1 < N.

    With Y the centred returns and G = YY', pinv(Y'Y) 1 = Y' G+ G+ Y 1. A solution of G x = b for a b that sums to 0 is
    G+ b up to a constant, for G's null space is that of the constant vectors.

    Args:
        returns: (T, N), T <= N.

    Returns:
        (N,) weights, sum 1.
    """
    centred = returns - jnp.mean(returns, axis=0)[None, :]
    gram = dot(centred, centred.T)
    scale = jnp.mean(jnp.diagonal(gram))
    # a multiple of 11' makes it positive definite and leaves G+ b, for b that sum to 0, as it is
    gram = gram / scale + 1 / gram.shape[0]

    def solve(b: Array) -> Array:
        x = solve_positive_definite(gram, b[:, None], backend_in_use())[:, 0]
        return x - jnp.mean(x)

    direction = dot(centred.T, solve(solve(jnp.sum(centred, axis=1))))
    return direction / jnp.sum(direction)


def nested(covariance: Array, reward: Array, n_clusters: int) -> Array:
    """Nested clustered optimisation (Lopez de Prado 2019): `closed_form` inside the clusters, then across them.

    Args:
        covariance: (N, N) positive definite.
        reward: (N,) ones, or means.
        n_clusters: static; average linkage of sqrt((1 - rho) / 2) is cut so that this many are left.

    Returns:
        (N,) weights, sum 1.
    """
    active = jnp.ones(len(reward), bool)
    tree = merge_tree(correlation_distance(covariance), active, "average")
    labels = cut(tree, active, maxclust_height(tree, active, jnp.int32(n_clusters))).labels
    # all clusters at once: of a block diagonal matrix each block is solved by itself
    inside = _direction(jnp.where(labels[:, None] == labels[None, :], covariance, 0), reward)
    member = (labels[:, None] == jnp.arange(n_clusters, dtype=jnp.int32)[None, :]).astype(covariance.dtype)
    inside = inside / dot(member, dot(inside, member))
    mixed = member * inside[:, None]
    across = dot(mixed.T, dot(covariance, mixed))
    missing = jnp.sum(member, axis=0) == 0  # ties may leave fewer clusters
    rows = jnp.arange(n_clusters, dtype=jnp.int32)
    across = jnp.where((rows[:, None] == rows[None, :]) & missing[:, None], 1, across)
    return inside * dot(member, closed_form(across, jnp.where(missing, 0, dot(reward, mixed))))
