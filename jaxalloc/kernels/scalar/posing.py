"""What a universe looks like across its clusters, compiled by numba: weights within them, correlations, bounds, sleeve.

The scalar twin of `jaxalloc.portfolios.posing`, `jaxalloc.kernels.clusters.within`, and of the choice of a sleeve in
`jaxalloc.portfolios.barbell`. Symbols are those of `jaxalloc.kernels.scalar.across`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from jaxalloc.kernels.scalar.compiling import inner, inner_sums
from jaxalloc.kernels.scalar.log_newton import ROOM
from jaxalloc.kernels.scalar.vectors import SIDE, add_transposed

Array = np.ndarray

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


class Room(NamedTuple):
    """Room for the vectors of one universe of up to N clusters or assets, in float64 if nothing else is said.

    Attributes:
        start: (N + 1,) integers, where each cluster begins among the assets in the order of their clusters.
        assets: (N,) integers, the assets in that order.
        place: (N,) integers.
        own: (N,) integers without a sign.
        inner: (N,) weights inside the clusters in that order.
        scaled: (N,)
        sigma: (N,) volatilities.
        inverse: (N,)
        sizes: (N,)
        uppers: (2, N) bounds.
        rewards: (2, N)
        weights: (N,)
        cost: (N,)
        nothing: (N,) zeros.
        solving: (`log_newton.ROOM`, N) of risk parity.
    """

    start: Any
    assets: Any
    place: Any
    own: Any
    inner: Any
    scaled: Any
    sigma: Any
    inverse: Any
    sizes: Any
    uppers: Any
    rewards: Any
    weights: Any
    cost: Any
    nothing: Any
    solving: Any


def make_room(n: int) -> Room:
    """Room for up to ``n`` clusters or assets; only the zeros are filled in. Python calls it."""
    return Room(
        start=np.empty(n + 1, np.intp),
        assets=np.empty(n, np.intp),
        place=np.empty(n, np.intp),
        own=np.empty(n, np.uintp),
        inner=np.empty(n),
        scaled=np.empty(n),
        sigma=np.empty(n),
        inverse=np.empty(n),
        sizes=np.empty(n),
        uppers=np.empty((2, n)),
        rewards=np.empty((2, n)),
        weights=np.empty(n),
        cost=np.empty(n),
        nothing=np.zeros(n),
        solving=np.empty((ROOM, n)),
    )


@inner
def by_cluster(labels: Array, n_clusters: int, room: Room) -> None:
    """Put the assets in the order of their clusters, and where each cluster begins, into the room."""
    start, assets, place = room.start, room.assets, room.place
    for k in range(n_clusters + 1):
        start[k] = 0
    for label in labels:
        if label >= 0:
            start[label + 1] += 1
    for k in range(n_clusters):
        place[k] = start[k]
        start[k + 1] += start[k]
    for i in range(len(labels)):
        if labels[i] >= 0:
            assets[place[labels[i]]] = i
            place[labels[i]] += 1


@inner
def within(
    covariance: Array, n_clusters: int, negligible: float, jitter: float, inner: Array, riskless: Array, room: Room
) -> None:
    """Weights inside the clusters, in place, and in the room; and there the clusters' volatilities."""
    start, assets, sigma, v = room.start, room.assets, room.sigma, room.inner
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


@inner_sums
def correlate(covariance: Array, labels: Array, inner: Array, C: Array, float32_C: Array, room: Room) -> None:
    """Correlations of the clusters, in place: what assets below the diagonal add up to, and then both triangles."""
    n_clusters, n_assets = len(C), len(labels)
    own, v, inverse = room.own, room.scaled, room.inverse
    alone = room.start[n_clusters] == n_clusters
    for k in range(n_clusters):
        inverse[k] = 1 / room.sigma[k]
        alone = alone and labels[k] == k
    for i in range(n_assets):
        own[i], v[i] = 0, 0.0
        if labels[i] >= 0:  # others have no covariance
            own[i], v[i] = labels[i], inner[i] * inverse[labels[i]]
    for k in range(n_clusters):
        for j in range(n_clusters):
            C[k, j] = 0
    for i in range(n_assets):
        if v[i] == 0:
            continue
        row, line, factor = C[own[i]], covariance[i], v[i]
        if alone:  # every asset is a cluster, which has its number
            for j in range(i):
                row[j] = factor * v[j] * line[j]
        else:
            for j in range(i):
                row[own[j]] += factor * v[j] * line[j]
    whole = n_clusters // SIDE * SIDE
    for above in range(0, whole, SIDE):
        for left in range(0, above + 1, SIDE):
            add_transposed(C, float32_C, above, left)
    for k in range(whole, n_clusters):
        for j in range(k):
            rho = C[k, j] + C[j, k]
            C[k, j], C[j, k] = rho, rho
            float32_C[k, j], float32_C[j, k] = rho, rho
    for k in range(n_clusters):
        C[k, k] = 1
        float32_C[k, k] = 1


@inner
def choose_sleeve(
    scores: Array, labels: Array, n_clusters: int, wanted: int, clusters: Array, assets: Array, best: Array
) -> int:
    """Mark the aggressor clusters and assets, and return their number; ties: first asset, then first cluster.

    ``best`` is room for an integer of each cluster.
    """
    for k in range(n_clusters):
        best[k], clusters[k] = -1, False
    for i in range(len(labels)):
        k = labels[i]
        assets[i] = False
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
