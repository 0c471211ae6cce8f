"""What a universe looks like across its clusters, compiled by numba: weights within them, correlations, bounds, sleeve.

The scalar twin of `jaxalloc.portfolios.posing`, `jaxalloc.kernels.clusters.within`, and of the choice of a sleeve in
`jaxalloc.portfolios.barbell`. Symbols are those of `jaxalloc.kernels.scalar.across`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from jaxalloc.kernels.scalar.compiling import inner, inner_sums

Array = np.ndarray

_BLOCK = 16  # rows of a square of a matrix
_MOST_STEPS = 200  # of the search for the asset bound, which ends after a handful


@inner
def bounds(sizes: Array, cluster_cap: float, asset_cap: float, slack: float, upper: Array) -> tuple[Any, ...]:
    """Bounds u, see `jaxalloc.kernels.solvers.capped_simplex.bounds`.

    Args:
        sizes: (K,) float64 number of assets of each cluster; 0 where a cluster takes no part.
        cluster_cap: as in `Settings`.
        asset_cap: likewise.
        slack: likewise.
        upper: (K,) written.

    Returns:
        Cluster cap and asset bound in force, whether the cap is relaxed, and whether the asset bound rose.
    """
    n_clusters, n_assets, held = 0.0, 0.0, 0.0
    for size in sizes:
        n_clusters += size > 0
        n_assets += size
    kappa = max(cluster_cap, slack / max(n_clusters, 1.0))
    beta = max(asset_cap, slack / max(n_assets, 1.0))
    for size in sizes:
        held += min(kappa, size * beta)
    raised = held < 1
    if raised:  # Newton's method from the left, on a concave piecewise linear function
        for _ in range(_MOST_STEPS):
            free, capped = 0.0, 0.0
            for size in sizes:
                if size * beta >= kappa:
                    capped += size > 0
                else:
                    free += size
            target = (slack - kappa * capped) / max(free, 1.0)
            if free == 0 or not target > beta:
                break
            beta = target
    for k in range(len(sizes)):
        upper[k] = min(kappa, sizes[k] * beta)
    return kappa, beta, kappa > cluster_cap, raised


@inner
def by_cluster(labels: Array, n_clusters: int) -> tuple[Array, Array]:
    """Assets in the order of their clusters, (n,), and where each cluster begins, (K + 1,)."""
    start = np.zeros(n_clusters + 1, np.intp)
    for label in labels:
        if label >= 0:
            start[label + 1] += 1
    for k in range(n_clusters):
        start[k + 1] += start[k]
    assets, place = np.empty(start[-1], np.intp), start[:-1].copy()
    for i in range(len(labels)):
        if labels[i] >= 0:
            assets[place[labels[i]]] = i
            place[labels[i]] += 1
    return assets, start


@inner
def within(
    covariance: Array, assets: Array, start: Array, negligible: float, jitter: float, inner: Array, riskless: Array
) -> tuple[Array, Array]:
    """Weights inside the clusters, in place, and the clusters' volatilities (K,) and those weights by place (n,)."""
    n_clusters = len(start) - 1
    sigma, v = np.empty(n_clusters), np.empty(len(assets))
    for k in range(n_clusters):
        smallest, total = np.inf, 0.0
        for p in range(start[k], start[k + 1]):
            smallest = min(smallest, np.float64(covariance[assets[p], assets[p]]))
        for p in range(start[k], start[k + 1]):
            v[p] = smallest / covariance[assets[p], assets[p]]
            total += v[p]
        members, variance = 0.0, 0.0
        for p in range(start[k], start[k + 1]):
            v[p] /= total
            inner[assets[p]] = v[p]
            own = v[p] * v[p] * covariance[assets[p], assets[p]]
            members += own
            variance += own
            for q in range(start[k], p):
                variance += 2 * v[p] * v[q] * covariance[assets[p], assets[q]]
        # an opposed pair may leave its cluster no variance
        riskless[k] = variance <= negligible * members
        sigma[k] = math.sqrt(jitter * members if riskless[k] else variance)
    return sigma, v


@inner_sums
def correlate(covariance: Array, labels: Array, inner: Array, sigma: Array, C: Array, float32_C: Array) -> None:
    """Correlations of the clusters, in place: what assets below the diagonal add up to, and then both triangles."""
    n_clusters, n_assets = len(sigma), len(labels)
    own, v, inverse = np.zeros(n_assets, np.uintp), np.zeros(n_assets), 1 / sigma
    for i in range(n_assets):
        if labels[i] >= 0:  # others have no covariance
            own[i], v[i] = labels[i], inner[i] * inverse[labels[i]]
    for k in range(n_clusters):
        for j in range(n_clusters):
            C[k, j] = 0
    for i in range(n_assets):
        if v[i] == 0:
            continue
        row, line, factor = C[own[i]], covariance[i], v[i]
        for j in range(i):
            row[own[j]] += factor * v[j] * line[j]
    for above in range(0, n_clusters, _BLOCK):  # in squares that the near cache holds
        for left in range(0, above + 1, _BLOCK):
            for k in range(above, min(above + _BLOCK, n_clusters)):
                for j in range(left, min(left + _BLOCK, k)):
                    rho = C[k, j] + C[j, k]
                    C[k, j], C[j, k] = rho, rho
                    float32_C[k, j], float32_C[j, k] = rho, rho
    for k in range(n_clusters):
        C[k, k] = 1
        float32_C[k, k] = 1


@inner
def choose_sleeve(scores: Array, labels: Array, n_clusters: int, wanted: int, clusters: Array, assets: Array) -> int:
    """Mark the aggressor clusters and assets, and return their number; ties: first asset, then first cluster."""
    best = np.full(n_clusters, -1, np.intp)
    for i in range(len(labels)):
        k = labels[i]
        if k >= 0 and (best[k] < 0 or scores[i] > scores[best[k]]):
            best[k] = i
    size = min(wanted, max(1, n_clusters - 4), n_clusters - 1)
    for _ in range(size):
        highest = -1
        for k in range(n_clusters):
            if not clusters[k] and (highest < 0 or scores[best[k]] > scores[best[highest]]):
                highest = k
        clusters[highest] = True
        assets[best[highest]] = True
    return size
