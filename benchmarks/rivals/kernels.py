"""Within clusters, the expert's loop, compiled: scores, clusters, their moments and bounds, weights of the assets.

Symbols as in the engine's contract: c counts, n their sum; v weights inside the clusters; S, m moments of the clusters'
synthetic returns; u bounds on the cluster weights w; kappa cluster cap, beta asset bound; C and sigma: S in the
variance metric.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rivals.solvers import Array, Ints, bounded_risk_parity

THRESHOLD = 0.4
CLUSTER_CAP, ASSET_CAP, SLACK = 0.25, 0.2, 1.1
TAIL_QUANTILE = 0.95
N_AGGRESSORS, AGGRESSOR_WEIGHT = 5, 0.1


# Sums may be reordered, so that they vectorise; infinities and NaN keep their meaning.
_fast = {"reassoc", "contract", "nsz"}


# ---------------------------------------------------------------------------------------------------------------------
# The draw and the tail
# ---------------------------------------------------------------------------------------------------------------------


@njit(cache=True, error_model="numpy")
def scale_rows(returns: Array, counts: Array, out: Array) -> int:
    """sqrt(c) x of the rows with c > 0, into ``out``; how many there are."""
    used = 0
    for t in range(len(counts)):
        if counts[t] > 0:
            root = math.sqrt(counts[t])
            for i in range(returns.shape[1]):
                out[used, i] = root * returns[t, i]
            used += 1
    return used


@njit(cache=True, error_model="numpy")
def tail_gain(descending: Array, order: NDArray[np.uint16], counts: Array, n: float) -> Array:
    """Mean of each asset's returns strictly above the 95 % quantile, from the panel's one-time sort (N, T)."""
    n_assets, n_rows = descending.shape
    h = TAIL_QUANTILE * (n - 1)
    k = math.floor(h)
    gains = np.zeros(n_assets)
    for i in range(n_assets):
        weight, j = 0.0, 0
        while weight < n - k - 1:
            weight += counts[order[i, j]]
            j += 1
        high = descending[i, j - 1]
        while weight < n - k and j < n_rows:
            weight += counts[order[i, j]]
            j += 1
        low = descending[i, j - 1]
        quantile = low + (h - k) * (high - low)
        weight, total, j = 0.0, 0.0, 0
        while j < n_rows and descending[i, j] > quantile:
            weight += counts[order[i, j]]
            total += counts[order[i, j]] * descending[i, j]
            j += 1
        if weight > 0:
            gains[i] = total / weight
    return gains


@njit(cache=True)
def minmax(z: Array) -> Array:
    """(z - min) / (max - min), 0 where max = min."""
    spread = z.max() - z.min()
    return (z - z.min()) / spread if spread > 0 else np.zeros_like(z)


@njit(cache=True, error_model="numpy")
def antifragility(first: Array, second: Array, third: Array, gains: Array, n: float) -> Array:
    """Minmax(skewness) + minmax(tail gain), from the sums of c x, c x² and c x³ about any fixed origin."""
    skewness = np.zeros(len(first))
    if n >= 3:
        factor = math.sqrt(n * (n - 1)) / (n - 2)
        for i in range(len(first)):
            mean, square = first[i] / n, second[i] / n
            variance = square - mean * mean
            cube = third[i] / n - 3 * mean * square + 2 * mean**3
            skewness[i] = factor * cube / (variance * math.sqrt(variance))
    return minmax(skewness) + minmax(gains)


# ---------------------------------------------------------------------------------------------------------------------
# Clusters
# ---------------------------------------------------------------------------------------------------------------------


@njit(cache=True, error_model="numpy", fastmath=_fast)
def covariance_of(gram: Array, first: Array, n: float) -> Array:
    """Covariance (N, N) in place of the sums of squares and products ``gram``, its lower triangle alone."""
    for i in range(len(first)):
        shift = first[i] / n
        for j in range(i + 1):
            gram[i, j] = (gram[i, j] - shift * first[j]) / (n - 1)
    return gram


@njit(cache=True, error_model="numpy")
def average_linkage(distance: Array, threshold: float) -> Ints:
    """Flat clusters of average linkage at a threshold, each named by one of its members; ``distance`` is overwritten.

    The closest pair merges until none is within the threshold, so the tree above is never built. The nearest neighbour
    of a cluster is known as a lower bound: average linkage does not invert, so a merger brings nothing closer, and what
    went stale is searched anew only when its turn comes (Müllner's generic algorithm).
    """
    n = len(distance)
    name = np.arange(n)
    size = np.ones(n)
    nearest = np.empty(n, np.int64)
    bound = np.empty(n)
    live = np.arange(n)
    for i in range(n):
        distance[i, i] = np.inf
        nearest[i] = np.argmin(distance[i])
        bound[i] = distance[i, nearest[i]]
    n_live = n
    while n_live > 1:
        i = live[0]
        for k in live[:n_live]:
            if bound[k] < bound[i]:
                i = k
        if bound[i] > threshold:
            break
        j = nearest[i]
        if j < 0 or distance[i, j] != bound[i]:
            j = i
            for k in live[:n_live]:
                if k != i and (j == i or distance[i, k] < distance[i, j]):
                    j = k
            nearest[i], bound[i] = j, distance[i, j]
            continue
        position = 0
        for place in range(n_live):
            k = live[place]
            if k == j:
                continue
            live[position] = k
            position += 1
            if k != i:
                merged = (size[i] * distance[i, k] + size[j] * distance[j, k]) / (size[i] + size[j])
                distance[i, k] = distance[k, i] = merged
                if nearest[k] == i or nearest[k] == j:
                    nearest[k] = -1
        n_live = position
        size[i] += size[j]
        nearest[i] = -1
        for k in range(n):
            if name[k] == j:
                name[k] = i
    return name


@njit(cache=True, error_model="numpy", fastmath=_fast)
def find_clusters(covariance: Array, threshold: float) -> Ints:
    """Labels 0..K-1, by first asset, of average linkage on sqrt((1 - rho) / 2).

    Only the distances of assets with a neighbour near enough are ever taken: the others stay alone.
    """
    n = len(covariance)
    inverse = np.empty(n)
    for i in range(n):
        inverse[i] = 1 / math.sqrt(covariance[i, i])
    enough = 1 - 2 * threshold**2 - 1e-9
    near = np.zeros(n, np.bool_)
    for i in range(n):
        highest, limit = 0.0, enough / inverse[i]
        for j in range(i):
            highest = max(highest, covariance[i, j] * inverse[j])
        if highest >= limit:
            near[i] = True
            for j in range(i):
                near[j] |= covariance[i, j] * inverse[j] >= limit
    index = np.flatnonzero(near)
    distance = np.empty((len(index), len(index)))
    for p in range(len(index)):
        i = index[p]
        for q in range(p):
            j = index[q]
            rho = covariance[i, j] * inverse[i] * inverse[j]
            distance[p, q] = math.sqrt(max(0.0, 0.5 - 0.5 * rho))
            distance[q, p] = distance[p, q]
    name = np.arange(n)
    if len(index):
        for p, q in enumerate(average_linkage(distance, threshold)):
            name[index[p]] = index[q]
    rank = np.full(n, -1)
    labels = np.empty(n, np.int64)
    n_clusters = 0
    for i in range(n):
        if rank[name[i]] < 0:
            rank[name[i]] = n_clusters
            n_clusters += 1
        labels[i] = rank[name[i]]
    return labels


@njit(cache=True, error_model="numpy")
def condensed_distance(covariance: Array) -> Array:
    """sqrt((1 - rho) / 2) of every pair of assets, in SciPy's order."""
    n = len(covariance)
    distance = np.empty(n * (n - 1) // 2)
    inverse = 1 / np.sqrt(np.diag(covariance))
    position = 0
    for i in range(n):
        for j in range(i + 1, n):
            rho = covariance[j, i] * inverse[i] * inverse[j]
            distance[position] = math.sqrt(max(0.0, 0.5 - 0.5 * rho))
            position += 1
    return distance


@njit(cache=True, error_model="numpy", fastmath=_fast)
def inside(covariance: Array, mean: Array, labels: Ints) -> tuple[Array, Array, Array]:
    """(v, S, m): inverse variance inside the clusters and the moments of the synthetic returns."""
    n_assets, n_clusters = len(labels), labels.max() + 1
    v = np.empty(n_assets)
    total = np.zeros(n_clusters)
    for i in range(n_assets):
        v[i] = 1 / covariance[i, i]
        total[labels[i]] += v[i]
    S = np.zeros((n_clusters, n_clusters))
    m = np.zeros(n_clusters)
    for i in range(n_assets):
        k = labels[i]
        v[i] /= total[k]
        m[k] += v[i] * mean[i]
        row = S[k]
        for j in range(i):
            row[labels[j]] += v[i] * v[j] * covariance[i, j]
        row[k] += 0.5 * v[i] * v[i] * covariance[i, i]
    for k in range(n_clusters):
        for j in range(k):
            S[k, j] += S[j, k]
            S[j, k] = S[k, j]
        S[k, k] *= 2
    return v, S, m


@njit(cache=True)
def bounds(sizes: Ints) -> tuple[Array, float]:
    """(u, beta): u = min(kappa, p beta); beta rises to the smallest value with sum u = slack where sum u < 1."""
    n_clusters = len(sizes)
    kappa = max(CLUSTER_CAP, SLACK / n_clusters)
    beta = max(ASSET_CAP, SLACK / sizes.sum())
    u = np.minimum(kappa, sizes * beta)
    if u.sum() < 1:
        descending = np.sort(sizes)[::-1]
        beta = kappa / descending[-1]
        for n_full in range(n_clusters):
            candidate = (SLACK - n_full * kappa) / descending[n_full:].sum()
            if candidate * descending[n_full] <= kappa:
                beta = candidate
                break
        u = np.minimum(kappa, sizes * beta)
    return u, beta


@njit(cache=True, error_model="numpy")
def moments(
    gram: Array, origin: Array, first: Array, third: Array, gains: Array, n: float
) -> tuple[Array, Array, Array]:
    """(covariance in place of ``gram``, its lower triangle; mean; scores), from sums of deviations from ``origin``."""
    scores = antifragility(first, np.diag(gram).copy(), third, gains, n)
    return covariance_of(gram, first, n), origin + first / n, scores


@njit(cache=True, error_model="numpy", fastmath=_fast)
def layer_two(covariance: Array, mean: Array, labels: Ints) -> tuple[Array, Array, Array, Array, Array, Ints, float]:
    """(v, C, sigma, m, u, sizes, beta): the clusters' moments in the variance metric, and their bounds."""
    v, C, m = inside(covariance, mean, labels)
    sizes = np.bincount(labels)
    u, beta = bounds(sizes)
    sigma = np.sqrt(np.diag(C))
    for i in range(len(C)):
        for j in range(len(C)):
            C[i, j] /= sigma[i] * sigma[j]
        C[i, i] = 1.0
    return v, C, sigma, m, u, sizes, beta


# ---------------------------------------------------------------------------------------------------------------------
# Assets
# ---------------------------------------------------------------------------------------------------------------------


@njit(cache=True, error_model="numpy")
def spread(w: Array, v: Array, labels: Ints, beta: float, x: Array) -> None:
    """x_i = min(beta, theta v_i), theta such that each cluster's x sum to its weight w."""
    n_clusters = len(w)
    tight = np.zeros(n_clusters, np.bool_)
    for i in range(len(v)):
        k = labels[i]
        x[i] = w[k] * v[i]
        if x[i] > beta:
            tight[k] = True
    for k in range(n_clusters):
        if not tight[k]:
            continue
        members = np.flatnonzero(labels == k)
        members = members[np.argsort(-v[members], kind="mergesort")]
        x[members] = beta
        rest = v[members].sum()
        for n_bounded in range(len(members)):
            theta = (w[k] - n_bounded * beta) / rest
            if theta * v[members[n_bounded]] <= beta:
                for i in members[n_bounded:]:
                    x[i] = theta * v[i]
                break
            rest -= v[members[n_bounded]]


@njit(cache=True)
def leads_of(x: Array, labels: Ints, leads: Ints) -> None:
    """Index of each cluster's member of highest weight, the first of several; ``leads`` is -1 on entry."""
    for i in range(len(x)):
        k = labels[i]
        if leads[k] < 0 or x[i] > x[leads[k]]:
            leads[k] = i


@njit(cache=True)
def sleeve(scores: Array, labels: Ints, n_clusters: int) -> tuple[Ints, Ints]:
    """(assets, their clusters) of the aggressors: the best of the clusters of highest score."""
    best = np.full(n_clusters, -1)
    leads_of(scores, labels, best)
    count = min(N_AGGRESSORS, max(1, n_clusters - 4), n_clusters - 1)
    chosen = np.argsort(-scores[best], kind="mergesort")[:count]
    return best[chosen], chosen


@njit(cache=True, error_model="numpy")
def last_part(
    labels: Ints,
    scores: Array,
    v: Array,
    C: Array,
    sigma: Array,
    u: Array,
    sizes: Ints,
    beta: float,
    w_variance: Array,
    w_sharpe: Array,
    weights: Array,
    leads: Ints,
) -> tuple[int, int]:
    """Risk parity, the barbell, asset weights (4, N) and leads (4, N) in place; the sweeps of both risk parities."""
    n_clusters = len(u)
    w_risk, sweeps = bounded_risk_parity(C, sigma, u)
    spread(w_variance, v, labels, beta, weights[0])
    spread(w_risk, v, labels, beta, weights[1])
    spread(w_sharpe, v, labels, beta, weights[2])

    best, chosen = sleeve(scores, labels, n_clusters)
    in_core = np.ones(n_clusters, np.bool_)
    in_core[chosen] = False
    core = np.flatnonzero(in_core)
    u_core, beta_core = bounds(sizes[core])
    C_core = np.empty((len(core), len(core)))
    for p in range(len(core)):
        for q in range(len(core)):
            C_core[p, q] = C[core[p], core[q]]
    w_core, core_sweeps = bounded_risk_parity(C_core, sigma[core], u_core)
    share = 1 - AGGRESSOR_WEIGHT if len(best) else 1.0
    w = np.zeros(n_clusters)
    w[core] = w_core
    spread(w, v, labels, beta_core, weights[3])
    weights[3] *= share
    weights[3][best] = AGGRESSOR_WEIGHT / max(1, len(best))
    for p in range(4):
        leads_of(weights[p], labels, leads[p])
    return sweeps, core_sweeps
