"""Profiles by formula over the assets: what a clustered allocation has to be better than.

Each is a function of `Assets` that returns its weights, as a `Solution`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxalloc.kernels.clusters.distance import correlation_distance
from jaxalloc.kernels.clusters.hierarchy import cluster_distance, herc_weights, hrp_weights, leaf_order
from jaxalloc.kernels.clusters.linkage import MergeTree, linkage_matrix, merge_tree
from jaxalloc.kernels.clusters.partition import distance_of
from jaxalloc.kernels.clusters.within import Synthetic, synthesize
from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.solvers.problem import Solution
from jaxalloc.settings.config import AllocationConfig


class Assets(NamedTuple):
    """One universe seen by assets. Annual units.

    Attributes:
        covariance: (N, N); unit diagonal where inactive.
        mean: (N,) mean return; 0 where inactive.
        excess: (N,) mean return less the risk-free rate; 0 where inactive.
        active: (N,) bool.
        labels: (N,) int32, clusters; -1 where inactive.
        upper: (N,) the asset bound; 0 where inactive.
        config: settings with cast numbers.
        backend: static.
    """

    covariance: Array
    mean: Array
    excess: Array
    active: Array
    labels: Array
    upper: Array
    config: AllocationConfig
    backend: Backend


def equal_weight(assets: Assets) -> Solution:
    """1 / N each."""
    return _by_formula(assets.active.astype(assets.mean.dtype))


def inverse_variance(assets: Assets) -> Solution:
    """w_i proportional to 1 / sigma_i^2, minimum variance of uncorrelated assets."""
    return _by_formula(_in_inverse_proportion(assets, jnp.diagonal(assets.covariance)))


def inverse_volatility(assets: Assets) -> Solution:
    """w_i proportional to 1 / sigma_i, equal risk contributions of equally correlated assets."""
    return _by_formula(_in_inverse_proportion(assets, jnp.sqrt(jnp.diagonal(assets.covariance))))


def hrp(assets: Assets) -> Solution:
    """Hierarchical risk parity (Lopez de Prado 2016): recursive bisection of the whole tree's leaves.

    The tree is ``config.linkage``'s on ``config.distance`` itself. His own, single linkage on the distances between its
    columns, is `jaxalloc.kernels.clusters.hierarchy.column_distance`.
    """
    distance = correlation_distance(assets.covariance, assets.config.distance)
    order = leaf_order(linkage_matrix(distance, assets.config.linkage, assets.active))
    return _by_formula(hrp_weights(assets.covariance, order, assets.active))


def herc(assets: Assets) -> Solution:
    """Hierarchical equal risk contribution (Raffinot 2018), with the variance for risk.

    Inverse variance inside the clusters; above the cut each branching splits the weight in inverse proportion to the
    sum of its sides' cluster variances, as skfolio and Riskfolio-Lib have it. Clusters that a caller gives are joined
    by ``config.linkage`` from where they are.
    """
    n, clusters = assets.active.shape[0], synthetic_clusters(assets)
    of_cluster = herc_weights(tree_above(assets, clusters.sizes), jnp.diagonal(clusters.covariance))
    weights = clusters.inner * of_cluster[jnp.clip(assets.labels, 0, n - 1)]
    return _by_formula(weights)._replace(altered=jnp.any(clusters.riskless))


def tree_above(assets: Assets, sizes: Array) -> MergeTree:
    """The merges of the clusters, of so many assets (N,) each, 0 where there is none."""
    config = assets.config
    distance = distance_of(assets.covariance, assets.active, config)
    between = cluster_distance(distance, assets.labels, sizes, config.linkage, assets.backend)
    return merge_tree(between, sizes > 0, config.linkage, sizes=jnp.maximum(sizes, 1))


def _in_inverse_proportion(assets: Assets, risk: Array) -> Array:
    """Weights in inverse proportion to risks, of any sum; scale-free, so that nothing overflows."""
    safe = jnp.where(assets.active, risk, jnp.inf)
    return jnp.where(assets.active, jnp.min(safe) / safe, 0)


def _by_formula(weights: Array) -> Solution:
    """A solution by formula, given weights of any sum: it has nothing to converge, and no gap."""
    total = jnp.sum(weights)
    return Solution(
        weights=weights / jnp.where(total > 0, total, 1),
        gap=jnp.zeros((), weights.dtype),
        iterations=jnp.int32(0),
        altered=jnp.bool_(False),
        converged=jnp.bool_(True),
    )


def synthetic_clusters(assets: Assets) -> Synthetic:
    """Clusters by inverse variance, padded to N."""
    n, rate = assets.active.shape[0], assets.config.risk_free_rate
    return synthesize(assets.mean, assets.covariance, assets.active, assets.labels, rate, n, assets.backend)
