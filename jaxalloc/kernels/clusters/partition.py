"""Flat clusters: a partition of the assets, from a merge tree or as a caller gives it."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxalloc.kernels.clusters.components import Pieces, small_components, threshold_roots
from jaxalloc.kernels.clusters.detoned import detoned
from jaxalloc.kernels.clusters.distance import correlation_distance
from jaxalloc.kernels.clusters.linkage import MergeTree, maxclust_height, merge_tree, roots
from jaxalloc.kernels.clusters.silhouette import silhouette_height
from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.settings.config import AllocationConfig

_ONE_TABLE = 32  # at most so many assets are merged in one table, which takes hardly longer and compiles less


class Clusters(NamedTuple):
    """A partition: labels (N,) int32, 0..K-1 in order of each cluster's first asset, -1 if inactive; count () K."""

    labels: Array
    count: Array


def cut(tree: MergeTree, active: Array, height: Array) -> Clusters:
    """Flat clusters: the partition that the merges at or below ``height`` leave.

    Args:
        tree: from `merge_tree`.
        active: (N,) bool.
        height: () the cut.

    Returns:
        `Clusters`, exactly scipy's ``fcluster(Z, height, "distance")`` renumbered by first asset.
    """
    return label_by_first(roots(tree, height), active)


def label_by_first(root: Array, active: Array) -> Clusters:
    """Number the clusters 0..K-1 by their first asset, given each asset's first asset ``root`` (N,)."""
    index = jnp.arange(root.shape[0], dtype=jnp.int32)
    first = active & (root == index)
    number = jnp.cumsum(first, dtype=jnp.int32) - 1
    return Clusters(labels=jnp.where(active, number[root], -1), count=jnp.sum(first, dtype=jnp.int32))


def cluster_assets(covariance: Array, active: Array, config: AllocationConfig, backend: Backend) -> Clusters:
    """Cluster the active assets as ``config`` says: distance, linkage, criterion and its threshold.

    Args:
        covariance: (N, N), symmetric up to rounding.
        active: (N,) bool.
        config: distance, detone, linkage, criterion, distance_threshold, max_clusters.
        backend: static.

    Returns:
        `Clusters`.
    """
    if is_by_components(active.shape[0], config):
        threshold = jnp.asarray(config.distance_threshold, covariance.dtype)
        root = threshold_roots(covariance, active, threshold, config.linkage, config.distance, backend=backend)
        return label_by_first(root, active)
    return label_by_first(begin_clusters(covariance, active, config, backend).root, active)


def begin_clusters(covariance: Array, active: Array, config: AllocationConfig, backend: Backend) -> Pieces:
    """`cluster_assets` but for the merges inside large components; where there are none, it is all."""
    nothing = jnp.zeros_like(active)
    threshold = jnp.asarray(config.distance_threshold, covariance.dtype)
    if is_by_components(active.shape[0], config):
        return small_components(covariance, active, threshold, config.linkage, config.distance, backend=backend)
    distance = distance_of(covariance, active, config)
    if config.criterion == "distance":
        tree = merge_tree(distance, active, config.linkage, threshold)
        return Pieces(root=roots(tree, threshold), large=nothing)
    tree = merge_tree(distance, active, config.linkage)
    if config.criterion == "maxclust":
        height = maxclust_height(tree, active, config.max_clusters)
    else:
        height = silhouette_height(distance, active, tree, config.max_clusters, threshold, backend)
    return Pieces(root=roots(tree, height), large=nothing)


def distance_of(covariance: Array, active: Array, config: AllocationConfig) -> Array:
    """(N, N) the distances that clusters are made of: ``config`` says which, and whether they are detoned."""
    return correlation_distance(detoned(covariance, active) if config.detone else covariance, config.distance)


def is_by_components(n_assets: int, config: AllocationConfig) -> bool:
    """Whether so many assets are clustered one connected component after the other."""
    return config.criterion == "distance" and not config.detone and n_assets > _ONE_TABLE


def given_clusters(labels: Array, active: Array) -> tuple[Clusters, Array]:
    """Renumber a caller's labels (N,) 0..K-1 by first asset; the second value is False where an active one is < 0."""
    same = (labels[:, None] == labels[None, :]) & active[None, :]
    index = jnp.arange(labels.shape[0], dtype=jnp.int32)
    root = jnp.min(jnp.where(same, index[None, :], labels.shape[0] - 1), axis=1)
    return label_by_first(root, active), jnp.all(jnp.where(active, labels >= 0, True))
