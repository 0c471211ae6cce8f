"""Layer 2: inside the clusters. Inverse variance, the clusters' synthetic moments, asset weights and lead assets."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from jaxalloc.kernels.lanes.products import dot

_RAISE_STEPS = 200  # of the search for a cluster's theta, which ends in a handful


class Synthetic(NamedTuple):
    """One universe seen by clusters.

    Attributes:
        inner: (N,) v, inverse-variance weights, sum 1 in each cluster.
        sizes: (K,) number of assets of each cluster, 0 where there is none.
        covariance: (K, K) S, annual; unit diagonal where there is no cluster.
        excess: (K,) e = m - risk-free rate, annual; 0 where there is no cluster.
        riskless: (K,) bool, the cluster has no variance, and a hair of its members' was put in its place.
    """

    inner: Array
    sizes: Array
    covariance: Array
    excess: Array
    riskless: Array


def sum_by_cluster(values: Array, labels: Array, size: int) -> Array:
    """(K,) sums of (N,) values over the assets of each cluster.

    On a CPU by scattering, which adds up in the order of the assets and takes a fraction of the time. On a GPU a
    scatter adds in any order, and a universe would not have the same bits twice: there by products with the membership.

    Args:
        values: (N,); what has no cluster counts for nothing.
        labels: (N,) int32, -1 for an asset without a cluster.
        size: static K.
    """

    def scatter(values: Array, place: Array) -> Array:
        return jnp.zeros(size, values.dtype).at[place].add(values, mode="drop")

    def multiply(values: Array, place: Array) -> Array:
        return dot(values, _membership(place, size, values.dtype))

    return lax.platform_dependent(values, _places(labels, size), cpu=scatter, default=multiply)


def sum_by_pair(values: Array, factors: Array, labels: Array, size: int) -> Array:
    """(K, K) sums of v_i A_ij v_j over the assets i of one cluster and j of another, as `sum_by_cluster` does it.

    Args:
        values: (N, N) A.
        factors: (N,) v.
        labels: (N,) int32, -1 for an asset without a cluster.
        size: static K.
    """

    def scatter(values: Array, factors: Array, place: Array) -> Array:
        # by rows both times: a factor of a whole row is not computed anew for each of its entries
        rows = jnp.zeros((size, len(place)), values.dtype).at[place].add(values * factors[:, None], mode="drop")
        return jnp.zeros((size, size), values.dtype).at[place].add(rows.T * factors[:, None], mode="drop").T

    def multiply(values: Array, factors: Array, place: Array) -> Array:
        columns = _membership(place, size, values.dtype) * factors[:, None]
        return dot(columns.T, dot(values, columns))

    return lax.platform_dependent(values, factors, _places(labels, size), cpu=scatter, default=multiply)


def _membership(place: Array, size: int, dtype: Any) -> Array:
    return (place[:, None] == jnp.arange(size, dtype=jnp.int32)[None, :]).astype(dtype)


def _places(labels: Array, size: int) -> Array:
    return jnp.where(labels >= 0, labels, size)  # past the end: dropped


def synthesize(
    mean: Array, covariance: Array, active: Array, labels: Array, risk_free_rate: Array, n_clusters: int
) -> Synthetic:
    """Inverse-variance weights inside the clusters, and their synthetic moments S = V'Sigma V, m = V'mu.

    Args:
        mean: (N,) annual mean return; 0 for an inactive asset.
        covariance: (N, N) annual covariance; 0 for an inactive asset.
        active: (N,) bool.
        labels: (N,) int32, -1 for an inactive asset.
        risk_free_rate: () annual.
        n_clusters: static size that clusters are padded to.

    Returns:
        `Synthetic`.
    """
    dtype = covariance.dtype
    index = jnp.arange(n_clusters, dtype=jnp.int32)
    variance = jnp.diagonal(covariance)
    safe = jnp.where(active, variance, 1)
    smallest = jnp.full(n_clusters, jnp.inf, dtype)  # of each cluster: v is scale-free in it
    smallest = smallest.at[_places(labels, n_clusters)].min(safe, mode="drop")
    of_asset = jnp.clip(labels, 0, n_clusters - 1)
    raw = jnp.where(active, smallest[of_asset] / safe, 0)
    total = sum_by_cluster(raw, labels, n_clusters)
    inner = jnp.where(active, raw / jnp.where(total > 0, total, 1)[of_asset], 0)
    synthetic = sum_by_pair(covariance, inner, labels, n_clusters)
    synthetic = (synthetic + synthetic.T) / 2
    sizes = sum_by_cluster((labels >= 0).astype(dtype), labels, n_clusters)
    exists = sizes > 0
    # An opposed pair inside one cluster leaves it no variance. A hair of its members' own is put in its place, so that
    # it can be divided by; the reader is told where that matters.
    members = sum_by_cluster(inner**2 * variance, labels, n_clusters)
    hair = (1e-10 if dtype == jnp.float64 else 1e-5) * members
    diagonal = jnp.diagonal(synthetic)
    riskless = exists & (diagonal <= 32 * jnp.finfo(dtype).eps * members)
    diagonal = jnp.where(exists, jnp.where(riskless, hair, diagonal), 1)
    synthetic = jnp.where(index[:, None] == index[None, :], diagonal[None, :], synthetic)
    excess = jnp.where(exists, sum_by_cluster(inner * mean, labels, n_clusters) - risk_free_rate, 0)
    return Synthetic(inner, sizes, synthetic, excess, riskless)


def share_out(cluster_weights: Array, inner: Array, labels: Array, asset_bound: Array) -> Array:
    """Share each cluster's weight W out: x_i = min(beta, theta v_i) with theta such that the members sum to W.

    This is the entropy projection: members below the bound keep their inverse-variance proportions.

    Args:
        cluster_weights: (K,) W, at most p beta for a cluster of p assets.
        inner: (N,) v, sum 1 in each cluster.
        labels: (N,) int32; -1 for an asset without a cluster.
        asset_bound: () beta.

    Returns:
        (N,) asset weights.
    """
    of_asset = jnp.clip(labels, 0, cluster_weights.shape[0] - 1)
    member = labels >= 0
    proportional = cluster_weights[of_asset] * inner
    # hardly ever is a member's proportional share above the bound: a loop of at most one turn, which costs nothing
    # where no universe of the tile needs it
    crowded = jnp.any(member & (proportional > asset_bound))

    def redistribute(state: tuple[Array, Array]) -> tuple[Array, Array]:
        # `state[1]` is True here; without it XLA would see a constant and compute it before the loop, for all
        weights = jnp.where(state[1], cluster_weights, 0)
        return _share_out_bounded(weights, inner, labels, asset_bound), jnp.bool_(False)

    shared = jnp.where(member, proportional, 0)
    return lax.while_loop(lambda state: state[1], redistribute, (shared, crowded))[0]


def _share_out_bounded(cluster_weights: Array, inner: Array, labels: Array, asset_bound: Array) -> Array:
    """`share_out` where some member reaches the bound: the set of those grows until theta is right for the rest."""
    of_asset = jnp.clip(labels, 0, cluster_weights.shape[0] - 1)
    member = labels >= 0

    def by_cluster(values: Array) -> Array:
        return sum_by_cluster(values, labels, cluster_weights.shape[0])

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
        return state[1] & (state[2] < _RAISE_STEPS)

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
        ranking: (N,) weights, at least 0, out of a loop: numbers that exist. (XLA may compute others anew for each use,
            with another last bit, and then none would equal the highest.)
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
