"""Profiles by formula as smooth functions of the universe, with what is discrete in them kept.

A function here takes the universe as it is, and the weights of the profile there; it returns the weights (N,) as a
function of `Assets` near it. Whatever it computes beforehand (the order of a tree's leaves, who holds what) is kept.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from jaxalloc.kernels.clusters.distance import correlation_distance
from jaxalloc.kernels.clusters.hierarchy import bisection_near, branches_of, leaf_order, split_by_branches
from jaxalloc.kernels.clusters.linkage import linkage_matrix
from jaxalloc.kernels.clusters.within import sum_by_cluster
from jaxalloc.kernels.lanes.products import divisor, dot
from jaxalloc.kernels.solvers.implicit import block_variance_near, mean_variance_face, mean_variance_near
from jaxalloc.portfolios import baselines
from jaxalloc.portfolios.baselines import Assets
from jaxalloc.portfolios.nco import mixed_portfolios

Near = Callable[[Assets], Array]


def equal_weight(assets: Assets, weights: Array) -> Near:
    """1 / N each, whatever the returns."""
    return lambda _: weights


def inverse_variance(assets: Assets, weights: Array) -> Near:
    """As it is."""
    return lambda assets: baselines.inverse_variance(assets).weights


def inverse_volatility(assets: Assets, weights: Array) -> Near:
    """As it is."""
    return lambda assets: baselines.inverse_volatility(assets).weights


def hrp(assets: Assets, weights: Array) -> Near:
    """The variances of the halves change; the order of the leaves stays."""
    fixed = jax.lax.stop_gradient(assets.covariance)
    distance = correlation_distance(fixed, assets.config.distance)
    order = leaf_order(linkage_matrix(distance, assets.config.linkage, assets.active))
    return lambda assets: bisection_near(assets.covariance, order, assets.active)


def herc(assets: Assets, weights: Array) -> Near:
    """The risks of the branches change; the branches stay."""
    sizes = sum_by_cluster(assets.active.astype(weights.dtype), assets.labels, len(weights), assets.backend)
    fixed = assets._replace(covariance=jax.lax.stop_gradient(assets.covariance))
    branches = branches_of(baselines.tree_above(fixed, sizes))

    def near(assets: Assets) -> Array:
        clusters = baselines.synthetic_clusters(assets)
        of_cluster = split_by_branches(branches, jnp.diagonal(clusters.covariance))
        return clusters.inner * of_cluster[jnp.clip(assets.labels, 0, len(of_cluster) - 1)]

    return near


def nco(assets: Assets, weights: Array) -> Near:
    """Who is held inside the clusters, and which clusters are, stays. A cluster that is not held has no derivative."""
    n, labels, backend = len(weights), assets.labels, assets.backend
    of_asset = jnp.clip(labels, 0, n - 1)

    def by_cluster(values: Array) -> Array:
        return sum_by_cluster(values, labels, n, backend)

    across = by_cluster(weights)
    inner = weights / divisor(across)[of_asset]
    inside = block_variance_near(assets.covariance, inner, labels, backend)
    mixed, sizes, _ = mixed_portfolios(assets, inner)
    upper, nothing = (sizes > 0).astype(weights.dtype), jnp.zeros_like(weights)
    face = mean_variance_face(mixed, nothing, upper, across, jnp.bool_(False), backend)

    def near(assets: Assets) -> Array:
        inner = inside(assets.covariance)
        mixed, _, _ = mixed_portfolios(assets, inner)
        return mean_variance_near(functools.partial(dot, mixed), nothing, upper, face)[of_asset] * inner

    return near


SMOOTH_FORMULAS: dict[str, Callable[[Assets, Array], Near]] = {
    "equal_weight": equal_weight,
    "inverse_variance": inverse_variance,
    "inverse_volatility": inverse_volatility,
    "hrp": hrp,
    "herc": herc,
    "nco": nco,
}
