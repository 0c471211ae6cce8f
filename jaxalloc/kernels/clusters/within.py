"""Inside the clusters: inverse variance, the clusters' synthetic moments, asset weights and lead assets."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from jaxalloc.kernels.lanes.backend import Backend, if_any
from jaxalloc.kernels.lanes.precision import is_negligible, jitter
from jaxalloc.kernels.lanes.products import dot

_MOST_STEPS = 200  # of the search for a cluster's theta, which ends after a handful


class Synthetic(NamedTuple):
    """One universe seen by clusters.

    Attributes:
        inner: (N,) v, inverse-variance weights, sum 1 in each cluster.
        sizes: (K,) number of assets of each cluster, 0 where there is none.
        covariance: (K, K) S, annual; unit diagonal where there is no cluster.
        excess: (K,) e = m - risk-free rate, annual; 0 where there is no cluster.
        riskless: (K,) bool, the cluster has no variance, and was given the `jitter` of its members' instead.
    """

    inner: Array
    sizes: Array
    covariance: Array
    excess: Array
    riskless: Array


def sum_by_cluster(values: Array, labels: Array, size: int, backend: Backend) -> Array:
    """(K,) sums of (N,) values over the assets of each cluster.

    On a CPU they are scattered, which takes a fraction of the time. An accelerator multiplies by the membership, since
    its scatter would not give the same bits twice.

    Args:
        values: (N,); what has no cluster counts for nothing.
        labels: (N,) int32, -1 for an asset without a cluster.
        size: static K.
        backend: static.
    """
    place = _places(labels, size)
    if backend is Backend.CPU:
        return jnp.zeros(size, values.dtype).at[place].add(values, mode="drop")
    return dot(values, _membership(place, size, values.dtype))


def sum_by_pair(values: Array, factors: Array, labels: Array, size: int, backend: Backend) -> Array:
    """(K, K) sums of v_i A_ij v_j over the assets i of one cluster and j of another, as `sum_by_cluster` does it.

    Args:
        values: (N, N) A.
        factors: (N,) v.
        labels: (N,) int32, -1 for an asset without a cluster.
        size: static K.
        backend: static.
    """
    place = _places(labels, size)
    if backend is Backend.CPU:
        # by rows both times, so that the factor of a whole row is not computed anew for each of its entries
        rows = jnp.zeros((size, len(place)), values.dtype).at[place].add(values * factors[:, None], mode="drop")
        return jnp.zeros((size, size), values.dtype).at[place].add(rows.T * factors[:, None], mode="drop").T
    columns = _membership(place, size, values.dtype) * factors[:, None]
    return dot(columns.T, dot(values, columns))


def _membership(place: Array, size: int, dtype: Any) -> Array:
    return (place[:, None] == jnp.arange(size, dtype=jnp.int32)[None, :]).astype(dtype)


def _places(labels: Array, size: int) -> Array:
    return jnp.where(labels >= 0, labels, size)  # past the end: dropped


def synthesize(
    mean: Array,
    covariance: Array,
    active: Array,
    labels: Array,
    risk_free_rate: Array,
    n_clusters: int,
    backend: Backend,
) -> Synthetic:
    """Inverse-variance weights inside the clusters, and their synthetic moments S = V'Sigma V, m = V'mu.

    Args:
        mean: (N,) annual mean return; 0 for an inactive asset.
        covariance: (N, N) annual covariance; 0 for an inactive asset.
        active: (N,) bool.
        labels: (N,) int32, -1 for an inactive asset.
        risk_free_rate: () annual.
        n_clusters: static size that clusters are padded to.
        backend: static.

    Returns:
        `Synthetic`.
    """
    dtype = covariance.dtype
    index = jnp.arange(n_clusters, dtype=jnp.int32)
    variance = jnp.diagonal(covariance)
    inner = weights_within(variance, active, labels, n_clusters, backend)
    synthetic = sum_by_pair(covariance, inner, labels, n_clusters, backend)
    synthetic = (synthetic + synthetic.T) / 2
    sizes = sum_by_cluster((labels >= 0).astype(dtype), labels, n_clusters, backend)
    exists = sizes > 0
    # an opposed pair may leave its cluster no variance
    members = sum_by_cluster(inner**2 * variance, labels, n_clusters, backend)
    diagonal = jnp.diagonal(synthetic)
    riskless = exists & is_negligible(diagonal, members)
    diagonal = jnp.where(exists, jnp.where(riskless, jitter(dtype) * members, diagonal), 1)
    synthetic = jnp.where(index[:, None] == index[None, :], diagonal[None, :], synthetic)
    means = sum_by_cluster(inner * mean, labels, n_clusters, backend)
    return Synthetic(
        inner=inner,
        sizes=sizes,
        covariance=synthetic,
        excess=jnp.where(exists, means - risk_free_rate, 0),
        riskless=riskless,
    )


def weights_within(variance: Array, active: Array, labels: Array, n_clusters: int, backend: Backend) -> Array:
    """(N,) inverse-variance weights, sum 1 in each cluster; 0 for an inactive asset.

    Args:
        variance: (N,).
        active: (N,) bool.
        labels: (N,) int32, -1 for an inactive asset.
        n_clusters: static size that clusters are padded to.
        backend: static.
    """
    safe = jnp.where(active, variance, 1)
    # of each cluster; the weights do not depend on it, and neither does their derivative
    smallest = jnp.full(n_clusters, jnp.inf, variance.dtype)
    smallest = smallest.at[_places(labels, n_clusters)].min(lax.stop_gradient(safe), mode="drop")
    of_asset = jnp.clip(labels, 0, n_clusters - 1)
    raw = jnp.where(active, smallest[of_asset] / safe, 0)
    total = sum_by_cluster(raw, labels, n_clusters, backend)
    return jnp.where(active, raw / jnp.where(total > 0, total, 1)[of_asset], 0)


def share_out(cluster_weights: Array, inner: Array, labels: Array, asset_bound: Array, backend: Backend) -> Array:
    """Share each cluster's weight W out: x_i = min(beta, theta v_i) with theta such that the members sum to W.

    This is the entropy projection: members below the bound keep their inverse-variance proportions.

    Args:
        cluster_weights: (K,) W, at most p beta for a cluster of p assets.
        inner: (N,) v, sum 1 in each cluster.
        labels: (N,) int32; -1 for an asset without a cluster.
        asset_bound: () beta.
        backend: static.

    Returns:
        (N,) asset weights, materialised.
    """
    of_asset = jnp.clip(labels, 0, cluster_weights.shape[0] - 1)
    member = labels >= 0
    proportional = cluster_weights[of_asset] * inner

    def redistribute(_: Array, crowded: Array) -> Array:
        weights = jnp.where(crowded, cluster_weights, 0)
        return _share_out_bounded(weights, inner, labels, asset_bound, backend)

    # a member's proportional share is hardly ever above the bound
    crowded = jnp.any(member & (proportional > asset_bound))
    return if_any(crowded, redistribute, jnp.where(member, proportional, 0))


def _share_out_bounded(
    cluster_weights: Array, inner: Array, labels: Array, asset_bound: Array, backend: Backend
) -> Array:
    """`share_out` where some member reaches the bound: the set of those grows until theta is right for the rest."""
    of_asset = jnp.clip(labels, 0, cluster_weights.shape[0] - 1)
    member = labels >= 0
    # of members whose share has underflowed beside a full one's, each can still be given some
    inner = jnp.maximum(inner, jnp.finfo(inner.dtype).tiny / jnp.finfo(inner.dtype).eps)

    def by_cluster(values: Array) -> Array:
        return sum_by_cluster(values, labels, cluster_weights.shape[0], backend)

    def theta_of(full: Array) -> Array:
        held = asset_bound * by_cluster(full.astype(inner.dtype))
        free = by_cluster(jnp.where(full, 0, inner))
        return jnp.where(free > 0, (cluster_weights - held) / jnp.where(free > 0, free, 1), 0)

    # theta only grows as members reach the bound, so that the set of full members only grows too
    def step(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        full, _, i = state
        new = full | (member & (theta_of(full)[of_asset] * inner > asset_bound))
        return new, jnp.any(new != full), i + 1

    def growing(state: tuple[Array, Array, Array]) -> Array:
        return state[1] & (state[2] < _MOST_STEPS)

    # a cluster that holds all it can has every member at the bound, to the bit
    most = asset_bound * by_cluster(member.astype(inner.dtype))
    saturated = cluster_weights >= most * (1 - 8 * jnp.finfo(inner.dtype).eps)
    start = member & saturated[of_asset]
    full, _, _ = lax.while_loop(growing, step, (start, jnp.bool_(True), jnp.int32(0)))
    shared = jnp.minimum(theta_of(full)[of_asset] * inner, asset_bound)
    return jnp.where(member, jnp.where(full, asset_bound, jnp.maximum(shared, 0)), 0)


def lead_assets(ranking: Array, labels: Array, n_clusters: int) -> Array:
    """(K,) each cluster's asset of highest weight, the first of equals; -1 where there is no cluster.

    Args:
        ranking: (N,) weights, at least 0, materialised: computed anew, none might equal the highest.
        labels: (N,) int32; -1 for an asset without a cluster.
        n_clusters: static K.
    """
    place = _places(labels, n_clusters)
    highest = jnp.full(n_clusters, -1, ranking.dtype).at[place].max(ranking, mode="drop")
    index = jnp.arange(ranking.shape[0], dtype=jnp.int32)
    leads = ranking == highest[jnp.clip(labels, 0, n_clusters - 1)]
    none = jnp.full(n_clusters, ranking.shape[0], jnp.int32)
    first = none.at[jnp.where(leads, place, n_clusters)].min(index, mode="drop")
    return jnp.where(highest >= 0, first, -1)
