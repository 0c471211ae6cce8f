"""The two-layer engine of one universe in plain NumPy and SciPy: the oracle of the tests and of the accuracy script.

It is written from the definitions, in float64, one universe at a time, and imports nothing of the package. Where a
solver is not obviously right by reading, its answer carries a certificate: every profile's weights are checked against
the linear programs of the optimality gap before they are returned (`OracleError` otherwise).

Symbols: X returns (T, N); c observation weights (T,), frequencies; n = sum c; a asset mask (N,); v weights inside the
clusters; S, m the annual covariance and mean of the clusters' synthetic returns; e = m - risk-free rate; u bounds on
the cluster weights w; P = {0 <= w <= u, sum w = 1}; kappa cluster cap; beta asset bound; x asset weights.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.linalg
import scipy.optimize
from numpy.typing import NDArray
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

Array = NDArray[Any]

EPS = float(np.finfo(np.float64).eps)
RISK_PARITY_DELTA = 1e-10  # float64's delta in S + delta diag(S)
NULL_TOLERANCE = 1e-13  # zᵀCz below which a long-only portfolio counts as riskless; test data should keep away from it
CERTIFIED_GAP = 1e-10

SETTINGS: dict[str, Any] = {
    "profiles": ("min_variance", "risk_parity", "max_sharpe", "barbell"),
    "linkage": "average",
    "criterion": "distance",
    "distance_threshold": 0.4,
    "max_clusters": "auto",
    "distance": "correlation",
    "detone": False,
    "covariance": "sample",
    "ewma_decay": 0.94,
    "cluster_cap": 0.25,
    "asset_cap": 0.2,
    "slack": 1.1,
    "risk_free_rate": 0.0,
    "periods_per_year": 252.0,
    "n_aggressors": 5,
    "aggressor_weight": 0.1,
}


class OracleError(RuntimeError):
    """The oracle could not certify its own answer: a defect of the oracle, not of what it is compared with."""


# ---------------------------------------------------------------------------------------------------------------------
# Moments and order statistics of a weighted sample
# ---------------------------------------------------------------------------------------------------------------------


def expand(counts: Array) -> Array:
    """Row indices of the materialised sample: row t repeated counts[t] times, in order."""
    return np.repeat(np.arange(len(counts)), counts)


def used(returns: Array, weights: Array | None) -> tuple[Array, Array]:
    """The rows of positive weight and their weights; a row of weight 0 may hold NaN and is never read."""
    returns = np.asarray(returns, float)
    weights = np.ones(len(returns)) if weights is None else np.asarray(weights, float)
    rows = weights > 0
    return returns[rows], weights[rows]


def moments(returns: Array, weights: Array | None = None) -> tuple[Array, Array]:
    """Mean and covariance per period: mu = sum c x / n, Sigma = sum c (x - mu)(x - mu)ᵀ / (n - 1)."""
    x, c = used(returns, weights)
    n = c.sum()
    mean = c @ x / n
    centred = x - mean
    covariance = (centred * c[:, None]).T @ centred / (n - 1)
    return mean, (covariance + covariance.T) / 2  # BLAS leaves an asymmetry of one rounding


def ewma_weights(weights: Array, decay: float) -> Array:
    """c lambda^(T - 1 - t), rescaled to the sum of c."""
    weights = np.asarray(weights, float)
    decayed = weights * float(decay) ** np.arange(len(weights))[::-1]
    return decayed * weights.sum() / decayed.sum()


def ledoit_wolf_delta(returns: Array, weights: Array | None = None) -> float:
    """Ledoit and Wolf's (2004) shrinkage intensity of the standardised returns, with frequency weights.

    As in the paper, with <A, B> = tr(ABᵀ) / p: m = <S, I>, d² = |S - mI|², b̄² = sum c |zzᵀ - S|² / n², b² =
    min(b̄², d²), and the intensity is b² / d². (scikit-learn writes b̄² as a difference.)
    """
    x, c = used(returns, weights)
    n, p = c.sum(), x.shape[1]
    centred = x - c @ x / n
    z = centred / np.sqrt(c @ centred**2 / n)
    S = (z * c[:, None]).T @ z / n
    d = np.sum((S - np.trace(S) / p * np.eye(p)) ** 2) / p
    b = sum(weight * np.sum((np.outer(row, row) - S) ** 2) / p for row, weight in zip(z, c, strict=True)) / n**2
    return 0.0 if d < 1e-28 else float(min(b, d) / d)


def oas_delta(returns: Array, weights: Array | None = None) -> float:
    """Chen, Wiesel, Eldar and Hero's (2010) intensity for the standardised returns, eq. 23 without terms in 2 / p."""
    n = used(returns, weights)[1].sum()
    covariance = moments(returns, weights)[1]
    deviation = np.sqrt(np.diag(covariance))
    S = covariance / np.outer(deviation, deviation)
    p = len(S)
    squared, trace = np.trace(S @ S), np.trace(S)
    denominator = (n + 1) * (squared - trace**2 / p)
    return 1.0 if denominator < 1e-28 else float(min(1, (squared + trace**2) / denominator))


def estimates(
    returns: Array, weights: Array | None = None, covariance: str = "sample", decay: float = 0.94
) -> tuple[Array, Array]:
    """Mean and covariance per period by one of the choices."""
    weights = np.ones(len(returns)) if weights is None else np.asarray(weights, float)
    if covariance == "ewma":
        recent = ewma_weights(weights, decay)
        x, c = np.asarray(returns, float)[weights > 0], recent[weights > 0]
        mean = c @ x / c.sum()
        return mean, (c[:, None] * (x - mean)).T @ (x - mean) / (weights.sum() - 1)
    mean, sample = moments(returns, weights)
    if covariance == "sample":
        return mean, sample
    delta = {"ledoit_wolf": ledoit_wolf_delta, "oas": oas_delta}[covariance](returns, weights)
    return mean, np.where(np.eye(len(sample), dtype=bool), sample, (1 - delta) * sample)


def shocked(mean: Array, covariance: Array, volatility: Array, correlation: float, shift: Array) -> tuple[Array, Array]:
    """Annual mean and covariance with shocked volatilities, correlations and means."""
    deviation = np.sqrt(np.diag(covariance))
    R = covariance / np.outer(deviation, deviation)
    target = np.ones_like(R) if correlation > 0 else np.eye(len(R))
    R = (1 - abs(correlation)) * R + abs(correlation) * target
    return mean + shift, R * np.outer(volatility * deviation, volatility * deviation)


def skewness(returns: Array, weights: Array | None = None) -> Array:
    """Bias-corrected skewness, n sqrt(n - 1) / (n - 2) * M3 / M2^1.5 with Mk = sum c (x - mean)^k; 0 where n < 3."""
    x, c = used(returns, weights)
    n = c.sum()
    if n < 3:
        return np.zeros(x.shape[1])
    centred = x - c @ x / n
    second, third = c @ centred**2, c @ centred**3
    return n * np.sqrt(n - 1) / (n - 2) * third / second**1.5


def quantile(x: Array, weights: Array | None = None, q: float = 0.95) -> float:
    """Linear quantile: h = q (n - 1), k = floor(h), x_(k) + (h - k)(x_(k+1) - x_(k)).

    x_(k) is the smallest value whose cumulative weight exceeds k: for counts, the k-th order statistic from 0. It
    exists for k + 1 as well, since k + 1 <= q (n - 1) + 1 < n where n > 1.
    """
    values, c = used(np.asarray(x, float)[:, None], weights)
    order = np.argsort(values[:, 0], kind="stable")
    values, cumulative = values[order, 0], np.cumsum(c[order])
    h = q * (cumulative[-1] - 1)
    k = np.floor(h)
    low = values[np.searchsorted(cumulative, k, side="right")]
    # The clip matters for q = 1 only, where k + 1 = n and h - k = 0.
    high = values[min(np.searchsorted(cumulative, k + 1, side="right"), len(values) - 1)]
    return float(low + (h - k) * (high - low))


def tail_gain(returns: Array, weights: Array | None = None) -> Array:
    """Mean of each column's returns strictly above its 95 % quantile, 0 if there is none."""
    x, c = used(returns, weights)
    gains = np.zeros(x.shape[1])
    for i, column in enumerate(x.T):
        above = column > quantile(column, c, 0.95)
        if above.any():
            gains[i] = c[above] @ column[above] / c[above].sum()
    return gains


# ---------------------------------------------------------------------------------------------------------------------
# Clusters
# ---------------------------------------------------------------------------------------------------------------------


def correlation_distance(covariance: Array, kind: str = "correlation") -> Array:
    """d = sqrt((1 - rho) / 2) with rho clipped to [-1, 1]; `absolute`: sqrt((1 - |rho|) / 2)."""
    deviation = np.sqrt(np.diag(covariance))
    rho = np.clip(covariance / np.outer(deviation, deviation), -1.0, 1.0)
    if kind == "absolute":
        rho = np.abs(rho)
    elif kind != "correlation":
        raise ValueError(f"distance must be correlation or absolute, not {kind!r}")
    distance = np.sqrt((1 - rho) / 2)
    np.fill_diagonal(distance, 0.0)
    return distance


def relabel(labels: Array) -> Array:
    """The same partition with labels 0..K-1 in the order of each cluster's first asset."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), int)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def _cut(distance: Array, linkage: str, level: float, criterion: str) -> Array:
    """Labels of SciPy's flat clusters; one asset is one cluster."""
    if len(distance) == 1:
        return np.zeros(1, int)
    tree = hierarchy.linkage(squareform(distance, checks=False), method=linkage)
    return relabel(hierarchy.fcluster(tree, level, criterion))


def clusters(distance: Array, linkage: str = "average", threshold: float = 0.4) -> Array:
    """Labels of the flat clusters whose cophenetic distances are at most the threshold."""
    return _cut(distance, linkage, threshold, "distance")


def clusters_maxclust(distance: Array, linkage: str = "average", max_clusters: int = 10) -> Array:
    """Labels of the flat clusters at the smallest height that leaves at most `max_clusters`."""
    return _cut(distance, linkage, max_clusters, "maxclust")


def detoned(correlation: Array) -> Array:
    """The correlation matrix without its first principal component, rescaled to a unit diagonal.

    Assets of which nothing is left keep their correlations with each other, and have none with the rest.
    """
    values, vectors = np.linalg.eigh(correlation)
    rest = correlation - values[-1] * np.outer(vectors[:, -1], vectors[:, -1])
    left = np.diag(rest) > 32 * EPS
    deviation = np.sqrt(np.where(left, np.diag(rest), 1))
    scaled = np.where(np.outer(left, left), rest / np.outer(deviation, deviation), 0.0)
    scaled = np.where(np.outer(~left, ~left), correlation, scaled)
    np.fill_diagonal(scaled, 1.0)
    return scaled


def silhouette_scores(distance: Array, linkage: str = "average", most: int = 40) -> dict[int, float]:
    """Mean silhouette, by scikit-learn, of SciPy's partitions with 2..min(N - 1, most) clusters, by their number."""
    from sklearn.metrics import silhouette_score

    scores = {}
    for k in range(2, min(len(distance) - 1, most) + 1):
        labels = clusters_maxclust(distance, linkage, k)
        if labels.max() + 1 == k:
            scores[k] = float(silhouette_score(distance, labels, metric="precomputed"))
    return scores


def clusters_silhouette(
    distance: Array,
    linkage: str = "average",
    most: int = 40,
    threshold: float = 0.4,
    scores: dict[int, float] | None = None,
) -> Array:
    """Labels of the partition of highest mean silhouette, the fewest on ties; of the threshold where there is none.

    The scores are those of `silhouette_scores`, for a caller that has them already.
    """
    scores = silhouette_scores(distance, linkage, most) if scores is None else scores
    if not scores:
        return clusters(distance, linkage, threshold)
    best = max(scores.values())
    return clusters_maxclust(distance, linkage, min(k for k, score in scores.items() if score == best))


# ---------------------------------------------------------------------------------------------------------------------
# Layer 2: inside the clusters
# ---------------------------------------------------------------------------------------------------------------------


def inverse_variance(variances: Array, labels: Array) -> Array:
    """v_i proportional to 1 / sigma_i² within each cluster, summing to 1 there."""
    inverse = 1 / np.asarray(variances, float)
    return inverse / np.bincount(labels, inverse)[labels]


def synthetic(covariance: Array, mean: Array, v: Array, labels: Array) -> tuple[Array, Array]:
    """Covariance and mean of the clusters' synthetic returns, S = VᵀΣV and m = Vᵀmu with V_ik = v_i if i is in k."""
    membership = np.zeros((len(v), int(labels.max()) + 1))
    membership[np.arange(len(v)), labels] = v
    s = membership.T @ covariance @ membership
    return (s + s.T) / 2, membership.T @ mean


def asset_weights(cluster_weights: Array, v: Array, labels: Array, beta: float) -> Array:
    """x_i = min(beta, theta v_i) in each cluster, theta such that the cluster's x sum to its weight."""
    x = np.zeros(len(v))
    for k, total in enumerate(cluster_weights):
        members = np.flatnonzero(labels == k)
        x[members] = _capped_share(float(total), v[members], beta)
    return x


def _capped_share(total: float, v: Array, beta: float) -> Array:
    """min(beta, theta v) with sum `total`: the members of highest v meet the bound first."""
    order = np.argsort(-v, kind="stable")
    share = np.full(len(v), beta)  # where total = len(v) * beta, every member is at the bound
    for n_bounded in range(len(v)):
        rest = order[n_bounded:]
        theta = (total - n_bounded * beta) / v[rest].sum()
        if theta * v[rest[0]] <= beta:
            share[rest] = theta * v[rest]
            break
    return share


def lead_assets(x: Array, labels: Array, n_clusters: int) -> Array:
    """Index of each cluster's member of highest weight, the first where several share it."""
    return np.array([members[np.argmax(x[members])] for members in _members(labels, n_clusters)], int)


def _members(labels: Array, n_clusters: int) -> list[Array]:
    return [np.flatnonzero(labels == k) for k in range(n_clusters)]


# ---------------------------------------------------------------------------------------------------------------------
# Bounds
# ---------------------------------------------------------------------------------------------------------------------


def bounds(
    cluster_sizes: Array, n_active: int, cluster_cap: float = 0.25, asset_cap: float = 0.2, slack: float = 1.1
) -> tuple[Array, float, float, dict[str, bool]]:
    """(u, beta, kappa, flags): u = min(kappa, p beta), kappa = max(cap, slack / K), beta = max(asset_cap, slack / N).

    Where sum u < 1, beta rises to the smallest value that gives sum u = slack. The K and N are those of the problem
    (the barbell's core has its own). beta > asset_cap because slack / N exceeds it is not flagged: the contract flags
    the rise alone.
    """
    sizes = np.asarray(cluster_sizes, float)
    kappa = max(cluster_cap, slack / len(sizes))
    beta = max(asset_cap, slack / n_active)
    raised = bool(np.minimum(kappa, sizes * beta).sum() < 1)
    if raised:
        beta = _raised_bound(sizes, kappa, slack)
    flags = {"cluster_cap_relaxed": kappa > cluster_cap, "asset_bound_raised": raised}
    return np.minimum(kappa, sizes * beta), beta, kappa, flags


def _raised_bound(sizes: Array, kappa: float, total: float) -> float:
    """Smallest beta with sum min(kappa, p beta) = total: the largest clusters reach kappa first."""
    descending = np.sort(sizes)[::-1]
    for n_full in range(len(sizes)):
        beta = (total - n_full * kappa) / descending[n_full:].sum()
        if beta * descending[n_full] <= kappa:
            return float(beta)
    return float(kappa / descending[-1])  # K kappa = slack, to rounding: every cluster is full


# ---------------------------------------------------------------------------------------------------------------------
# Optimality gaps
# ---------------------------------------------------------------------------------------------------------------------


def lp_vertex(cost: Array, u: Array) -> Array:
    """argmin of costᵀs over P: fill the cheapest first."""
    order = np.argsort(cost, kind="stable")
    cap = u[order]
    s = np.empty(len(u))
    s[order] = np.clip(1 - (np.cumsum(cap) - cap), 0, cap)
    return s


def lp_minimum(cost: Array, u: Array) -> float:
    """min of costᵀs over P."""
    return float(cost @ lp_vertex(cost, u))


def gap_min_variance(S: Array, u: Array, w: Array) -> float:
    """1 - min over s in P of sᵀSw / wᵀSw."""
    gradient = S @ w
    with np.errstate(divide="ignore", invalid="ignore"):  # wᵀSw = 0: nan, no gap is defined
        return float(1 - lp_minimum(gradient, u) / (w @ gradient))


def gap_max_sharpe(S: Array, e: Array, u: Array, w: Array) -> float:
    """max over s in P of eᵀs / eᵀw - sᵀSw / wᵀSw."""
    gradient = S @ w
    with np.errstate(divide="ignore", invalid="ignore"):
        return -lp_minimum(gradient / (w @ gradient) - e / (e @ w), u)


def gap_risk_parity(S: Array, u: Array, w: Array, eps: float = EPS) -> float:
    """max over clusters below their cap of 1 - r_i / max_j r_j with r_i = w_i (Sw)_i, 0 if there is none.

    A cluster within 4 eps of its cap counts as being at it: the accuracy table allows 4 ulp there.
    """
    risk = w * (S @ w)
    below = w < u * (1 - 4 * eps)
    return float(np.max(1 - risk[below] / risk.max())) if below.any() else 0.0


def rounding_floor(S: Array, m: Array | None, e: Array | None, w: Array, eps: float = EPS) -> float:
    """8 eps max(wᵀ|S|w / wᵀSw, |m|ᵀw / eᵀw); the second term only where m and e are given and eᵀw > 0."""
    variance = float(w @ S @ w)
    if variance <= 0:
        return np.inf
    floor = float(w @ np.abs(S) @ w) / variance
    if m is not None and e is not None and e @ w > 0:
        floor = max(floor, float(np.abs(m) @ w / (e @ w)))
    return 8 * eps * floor


def _certify(w: Array, u: Array, gap: float, floor: float, what: str) -> None:
    """Raise unless w is in P and the gap is at most 1e-10 or within a few rounding floors.

    From a floor of 1e-3 on the portfolio is riskless (or returnless) to rounding, and its gap says nothing.
    """
    if not (np.all(w >= 0) and np.all(w <= u) and abs(w.sum() - 1) <= 1e-13):
        raise OracleError(f"{what}: not in P, sum - 1 = {w.sum() - 1:.3g}")
    if floor < 1e-3 and not gap <= max(CERTIFIED_GAP, 10 * floor):
        raise OracleError(f"{what}: optimality gap {gap:.3g}, rounding floor {floor:.3g}")


# ---------------------------------------------------------------------------------------------------------------------
# Layer 1: minimum variance and maximum Sharpe ratio
# ---------------------------------------------------------------------------------------------------------------------


def _deviations(S: Array) -> Array:
    """sqrt(diag S), with a floor for a cluster of no variance: the scale of the variance metric."""
    deviation = np.sqrt(np.maximum(np.diag(S), 0))
    return np.maximum(deviation, 1e-8 * deviation.max()) if deviation.max() > 0 else np.ones(len(S))


PROXIMAL = 1e-11  # on the diagonal of a face's correlation matrix


def _face_step(S: Array, gradient: Array, free: Array, deviation: Array) -> tuple[Array, float]:
    """Newton step on a face, argmin of ½pᵀSp + gᵀp over sum p = 0 and p = 0 off the face: (step, multiplier).

    In the variance metric the Hessian is the correlation matrix; 1e-11 on its diagonal keeps the factor alive where S
    is singular. Steps then become proximal, long along null directions (the ratio test cuts them), and still converge.
    The sum is eliminated by a reflection (columns 1.. of H span sum p = 0), for a multiplier solved with a nearly
    singular factor would lose it to cancellation.
    """
    step = np.zeros(len(S))
    index = np.flatnonzero(free)
    if len(index) < 2:
        return step, float(gradient[index[0]]) if len(index) else 0.0
    ones = 1 / deviation[index]
    hessian = S[np.ix_(index, index)] * np.outer(ones, ones)
    slope = gradient[index] * ones
    normal = ones / np.linalg.norm(ones)
    normal[0] += 1.0  # H = I - n nᵀ / n_0
    half = np.outer(normal, normal @ hessian) / normal[0]
    reflected = hessian - half - half.T + np.outer(normal, normal) * (normal @ hessian @ normal) / normal[0] ** 2
    factor = scipy.linalg.cho_factor(reflected[1:, 1:] + PROXIMAL * np.eye(len(index) - 1))
    inner = (slope - normal * (normal @ slope) / normal[0])[1:]
    move = np.append(0.0, -scipy.linalg.cho_solve(factor, inner))
    move -= normal * (normal @ move) / normal[0]
    multiplier = float(ones @ (slope + hessian @ move) / (ones @ ones))
    step[index] = move * ones
    return step, multiplier


def quadratic_over_capped_simplex(S: Array, q: Array, u: Array, start: Array | None = None) -> Array:
    """argmin of ½wᵀSw - qᵀw over P, S positive semidefinite, by a primal active set.

    Every step lowers the objective: Newton on the face to its minimum or to the first bound; at a face's minimum one
    cluster with a multiplier of the wrong sign is released (two from a vertex). It ends at rounding of the gradient.
    """
    deviation = _deviations(S)
    w = lp_vertex(np.diag(S) - q, u) if start is None else start.copy()
    side = np.where(w <= 0, -1, np.where(w >= u, 1, 0))  # -1 at zero, 0 free, 1 at the cap
    barred = np.zeros(len(u), bool)  # released in vain (rounding): not again before a step has moved
    for _ in range(100 * len(u) + 1000):
        gradient = S @ w - q
        noise = 8 * EPS * (np.abs(S) @ w + np.abs(q))
        free = side == 0
        step, multiplier = _face_step(S, gradient, free, deviation)
        if np.abs(step).max() > EPS * w.max() and -((gradient - multiplier) @ step) > noise @ np.abs(step):
            moved = _step_to_bound(w, side, step, u)
            barred = np.zeros(len(u), bool) if moved else barred | (free & (side != 0))
            continue
        if not _release(side, gradient, multiplier, noise, deviation, barred):
            break
    return _close_sum(w, u, side)


def _step_to_bound(w: Array, side: Array, step: Array, u: Array) -> bool:
    """w += alpha step up to the first bound, in place; those that meet it leave the face. False where alpha = 0."""
    room = np.full(len(w), np.inf)
    up, down = step > 0, step < 0
    room[up] = (u - w)[up] / step[up]
    room[down] = -w[down] / step[down]
    alpha = min(1.0, float(room.min()))
    w[:] = np.clip(w + alpha * step, 0, u)
    hit = room <= alpha if alpha < 1 else (w <= 0) & down | (w >= u) & up
    side[hit & up], side[hit & down] = 1, -1
    w[hit & up], w[hit & down] = u[hit & up], 0.0
    return alpha > 0


def _release(side: Array, gradient: Array, multiplier: float, noise: Array, deviation: Array, barred: Array) -> bool:
    """Free the bound whose multiplier is most wrong in the variance metric, in place; False where all are right."""
    low, high = (side == -1) & ~barred, (side == 1) & ~barred
    free = side == 0
    if free.any():
        wrong = np.where(low, multiplier - gradient, np.where(high, gradient - multiplier, -np.inf))
        wrong = (wrong - noise - noise[free].mean()) / deviation
        if wrong.max() <= 0:
            return False
        side[np.argmax(wrong)] = 0
        return True
    if not (low.any() and high.any()):
        return False
    # A vertex: the multiplier is free, and only a pair can move.
    i = np.argmin(np.where(low, gradient, np.inf))
    j = np.argmax(np.where(high, gradient, -np.inf))
    if gradient[j] - gradient[i] <= noise[i] + noise[j]:
        return False
    side[i] = side[j] = 0
    return True


def _close_sum(w: Array, u: Array, side: Array) -> Array:
    """Put the rounding error of the sum on the free cluster with the most room."""
    room = np.where(side == 0, np.minimum(w, u - w), -1.0)
    i = int(np.argmax(room))
    if room[i] > 0:
        w[i] = np.clip(w[i] + 1 - w.sum(), 0, u[i])
    return w


def min_variance(S: Array, u: Array) -> Array:
    """argmin of wᵀSw over P, certified by `gap_min_variance`."""
    w = quadratic_over_capped_simplex(S, np.zeros(len(u)), u)
    _certify(w, u, gap_min_variance(S, u, w), rounding_floor(S, None, None, w), "min_variance")
    return w


def max_sharpe(S: Array, e: Array, u: Array) -> tuple[Array, bool]:
    """(argmax of eᵀw / sqrt(wᵀSw) over P, False), or (min_variance, True) where no w in P has eᵀw > 0.

    On the frontier w(tau) = argmin of ½wᵀSw - tau eᵀw the Sharpe ratio rises exactly where h = wᵀSw - tau eᵀw > 0, so
    its maximum is the one root of h, which is linear in tau on each face: Newton inside a bracket ends in a few steps.
    (The homogeneous form is `max_sharpe_cvxpy`, so the two opinions share nothing.)
    """
    if lp_minimum(-e, u) >= 0:
        return min_variance(S, u), True
    deviation = _deviations(S)
    w = quadratic_over_capped_simplex(S, np.zeros(len(u)), u)
    rich = lp_vertex(-e, u)
    tau = float(w @ S @ w / (e @ w)) if e @ w > 0 else float(rich @ S @ rich / (e @ rich))
    low, high = 0.0, np.inf
    for _ in range(200):
        w = quadratic_over_capped_simplex(S, tau * e, u, start=w)
        h = float(w @ S @ w - tau * (e @ w))
        if abs(h) <= 4 * EPS * float(w @ np.abs(S) @ w + tau * (np.abs(e) @ w)) or high - low <= 4 * EPS * tau:
            break
        low, high = (tau, high) if h > 0 else (low, tau)
        direction, _ = _face_step(S, -e, (w > 0) & (w < u), deviation)  # dw / dtau
        slope = float(tau * (e @ direction) - e @ w)
        newton = tau - h / slope if slope < 0 else np.nan
        middle = (low + high) / 2 if np.isfinite(high) else 2 * tau
        tau = newton if low < newton < high else middle
    _certify(w, u, gap_max_sharpe(S, e, u, w), rounding_floor(S, e, e, w), "max_sharpe")
    return w, False


def min_variance_cvxpy(S: Array, u: Array) -> Array:
    """Second opinion on `min_variance`: cvxpy with Clarabel."""
    import cvxpy as cp

    w = cp.Variable(len(u))
    objective = cp.quad_form(w, cp.psd_wrap(S / np.diag(S).max()))
    _solve_cvxpy(cp.Problem(cp.Minimize(objective), [cp.sum(w) == 1, w >= 0, w <= u]))
    return np.asarray(w.value)


def max_sharpe_cvxpy(S: Array, e: Array, u: Array) -> Array:
    """Second opinion on `max_sharpe`, homogeneous: min yᵀSy over eᵀy = 1, 0 <= y <= u 1ᵀy; w = y / 1ᵀy."""
    import cvxpy as cp

    y = cp.Variable(len(u))
    objective = cp.quad_form(y, cp.psd_wrap(S / np.diag(S).max()))
    excess = e / np.abs(e).max()
    _solve_cvxpy(cp.Problem(cp.Minimize(objective), [excess @ y == 1, y >= 0, y <= u * cp.sum(y)]))
    return np.asarray(y.value) / np.sum(y.value)


def _solve_cvxpy(problem: Any) -> None:
    """Clarabel at tight tolerances."""
    tight = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas", "tol_ktratio"), 1e-12)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Solution may be inaccurate")  # at 1e-12 it often is not quite there
        problem.solve(solver="CLARABEL", **tight)
    if problem.status not in ("optimal", "optimal_inaccurate"):
        raise OracleError(f"Clarabel: {problem.status}")


# ---------------------------------------------------------------------------------------------------------------------
# Layer 1: risk parity with bounds (Richard & Roncalli 2019)
# ---------------------------------------------------------------------------------------------------------------------


def riskless(S: Array) -> Array:
    """Clusters whose variance is 0 to rounding: opposed assets in one cluster, which `distance="absolute"` makes."""
    variance = np.diag(S)
    return variance <= 1e-14 * variance.max()


def has_nonnegative_null_vector(S: Array, tolerance: float = NULL_TOLERANCE) -> bool:
    """Whether some z >= 0, z != 0 has Sz = 0: min of zᵀCz over the simplex is 0 to rounding, C the correlation."""
    variance = np.diag(S)
    if riskless(S).any():
        return True
    deviation = np.sqrt(variance)
    correlation = S / np.outer(deviation, deviation)
    if len(S) == 1 or correlation.min() >= 0:
        return False
    if scipy.linalg.eigvalsh(correlation, subset_by_index=[0, 0])[0] > len(S) * tolerance:
        return False  # zᵀCz >= lambda_min zᵀz >= lambda_min / K
    z = quadratic_over_capped_simplex(correlation, np.zeros(len(S)), np.ones(len(S)))
    return bool(z @ correlation @ z <= tolerance)


def barrier_weights(S: Array, u: Array, lam: float, start: Array) -> Array:
    """w(lambda) = argmin of ½wᵀSw - lambda sum log w over 0 < w <= u, by Newton on a face and a primal active set.

    In the metric of w itself the system is (WSW + lambda I) z = lambda - w(Sw): well conditioned for singular S too.
    The objective over lambda is self-concordant, so the damped step 1 / (1 + decrement) stays inside w > 0.
    """
    w = np.minimum(start, u)
    capped = w >= u
    previous = np.inf
    for _ in range(100 * len(u) + 1000):
        risk = w * (S @ w)
        noise = 8 * EPS * (w * (np.abs(S) @ w) + lam)
        free = np.flatnonzero(~capped)
        step, decrement = np.zeros(len(u)), 0.0
        if len(free):
            system = S[np.ix_(free, free)] * np.outer(w[free], w[free]) + lam * np.eye(len(free))
            step[free] = scipy.linalg.solve(system, lam - risk[free], assume_a="pos")
            decrement = float(np.sqrt(max(0.0, step[free] @ (lam - risk[free])) / lam))
        # Newton's decrement falls quadratically until rounding stops it, or a bound changes the face.
        stalled = decrement < 1e-3 and decrement >= previous / 2
        if stalled or decrement <= EPS:
            wrong = np.where(capped, risk - lam - noise, -np.inf)  # a capped cluster whose risk exceeds the others'
            if wrong.max() <= 0:
                return w
            capped[np.argmax(wrong)] = False
            previous = np.inf
            continue
        alpha = 1.0 if decrement < 0.25 else 1 / (1 + decrement)
        up = step > 0
        room = np.full(len(u), np.inf)
        room[up] = (u / w - 1)[up] / step[up]
        alpha = min(alpha, float(room.min()))
        w = w * (1 + alpha * step)
        hit = room <= alpha
        w[hit], capped = u[hit], capped | hit
        previous = np.inf if hit.any() else decrement
    raise OracleError(f"w(lambda) did not converge at lambda = {lam:.3g}")


def _barrier_slope(S: Array, u: Array, w: Array, lam: float) -> Array:
    """dw / dlambda on the face of w: (WSW + lambda I) z = 1, dw = w z."""
    slope = np.zeros(len(u))
    free = np.flatnonzero(w < u)
    system = S[np.ix_(free, free)] * np.outer(w[free], w[free]) + lam * np.eye(len(free))
    slope[free] = w[free] * scipy.linalg.solve(system, np.ones(len(free)), assume_a="pos")
    return slope


def risk_parity(S: Array, u: Array) -> tuple[Array, bool]:
    """(w(lambda) at the smallest lambda with sum w(lambda) = 1, whether S was regularised).

    Where sum u <= 1 + 1e-12, w = u (not flagged, whatever S). Where S has a non-negative null vector, S + delta diag S.
    """
    if u.sum() <= 1 + 1e-12:
        return u.copy(), False
    regularised = has_nonnegative_null_vector(S)
    if regularised:
        S = risk_parity_covariance(S, True)
    w = _smallest_root(S, u)
    _certify(w, u, gap_risk_parity(S, u, w), rounding_floor(S, None, None, w), "risk_parity")
    return w, regularised


def risk_parity_covariance(S: Array, regularised: bool) -> Array:
    """The matrix that risk parity solves, and against which its gap is measured: S or S + delta diag(S).

    The contract's delta diag(S) leaves a riskless cluster without any variance, and no lambda exists where the caps of
    such clusters sum to 1 or more. They get delta times the largest variance here (delta, where all are riskless).
    """
    if not regularised:
        return S
    variance = np.diag(S).copy()
    variance[riskless(S)] = variance.max() if variance.max() > 0 else 1.0
    return S + RISK_PARITY_DELTA * np.diag(variance)


def _smallest_root(S: Array, u: Array) -> Array:
    """w at the smallest lambda with sum w(lambda) = 1, followed upwards from where no cap binds."""
    lam, w = _below_every_cap(S, u)
    stretch = float((u / w).min())  # to the first cap, w(lambda) growing as sqrt(lambda)
    if 1 / w.sum() <= stretch:
        return np.minimum(w / w.sum(), u)
    lam, w = lam * stretch**2, np.minimum(w * stretch, u)

    state = {"w": w}

    def excess(log_lam: float) -> float:
        state["w"] = barrier_weights(S, u, float(np.exp(log_lam)), state["w"])
        return float(state["w"].sum() - 1)

    low, high = _first_crossing(S, u, float(np.log(lam)), excess, state)
    root = scipy.optimize.brentq(excess, low, high, xtol=1e-15, rtol=4 * EPS) if low < high else high
    w = barrier_weights(S, u, float(np.exp(root)), state["w"])
    slope = _barrier_slope(S, u, w, float(np.exp(root)))
    return np.minimum(w + slope * (1 - w.sum()) / slope.sum(), u) if slope.sum() > 0 else w


def _below_every_cap(S: Array, u: Array) -> tuple[float, Array]:
    """A lambda so small that no cap binds and sum w < 1, with its w; below it w(lambda) scales as sqrt(lambda)."""
    w = 1 / _deviations(S)
    w = 0.1 * w / max((w / u).max(), w.sum())
    lam = float(w @ np.abs(S) @ w) / len(u)
    for _ in range(40):
        w = barrier_weights(S, u, lam, w)
        if w.sum() < 1 and np.all(w < u):
            return lam, w
        lam, w = lam / 16, w / 4
    raise OracleError("no lambda with sum w(lambda) < 1")


def _first_crossing(
    S: Array, u: Array, log_lam: float, excess: Callable[[float], float], state: dict[str, Array]
) -> tuple[float, float]:
    """A bracket of the first root of sum w(lambda) - 1: steps of 10 %, and the maximum between two if the slope turns.

    With negative correlations the sum need not be monotone, so a larger step could walk over two roots.
    """
    step = float(np.log(1.1))

    def slope(at: float) -> float:
        return float(_barrier_slope(S, u, state["w"], float(np.exp(at))).sum())

    if excess(log_lam) >= 0:
        return log_lam, log_lam
    low_slope = slope(log_lam)
    for _ in range(2000):
        high = log_lam + step
        if excess(high) >= 0:
            return log_lam, high
        high_slope = slope(high)
        if low_slope > 0 > high_slope:
            peak = scipy.optimize.minimize_scalar(lambda t: -excess(t), bounds=(log_lam, high), method="bounded")
            if peak.fun <= 0:
                return log_lam, float(peak.x)
        excess(high)
        log_lam, low_slope = high, high_slope
    raise OracleError("sum w(lambda) does not reach 1")


# ---------------------------------------------------------------------------------------------------------------------
# Barbell
# ---------------------------------------------------------------------------------------------------------------------


def minmax(z: Array) -> Array:
    """(z - min) / (max - min), 0 where max = min."""
    spread = z.max() - z.min()
    return (z - z.min()) / spread if spread > 0 else np.zeros(len(z))


def antifragility(returns: Array, weights: Array | None = None) -> Array:
    """minmax(skewness) + minmax(tail gain) over the given (active) columns."""
    return minmax(skewness(returns, weights)) + minmax(tail_gain(returns, weights))


def n_aggressors_of(n_clusters: int, n_aggressors: int = 5) -> int:
    """min(n_aggressors, max(1, K - 4), K - 1)."""
    return min(n_aggressors, max(1, n_clusters - 4), n_clusters - 1)


def aggressors(scores: Array, labels: Array, n_aggressors: int = 5) -> tuple[Array, Array, bool]:
    """(asset of each aggressor cluster, its cluster, whether fewer than asked), highest cluster score first.

    A cluster's score is its best member's. Ties: first asset, then first cluster.
    """
    n_clusters = int(labels.max()) + 1
    best = lead_assets(scores, labels, n_clusters)
    count = n_aggressors_of(n_clusters, n_aggressors)
    chosen = np.argsort(-scores[best], kind="stable")[:count]
    return best[chosen], chosen, count < n_aggressors


# ---------------------------------------------------------------------------------------------------------------------
# One universe through both layers
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """Layer 1's problem of one profile: annual S, m, e over `clusters` (ids of the universe's), bounds and solution.

    For risk parity S is the matrix solved, so regularised where flagged. `kind` is the objective solved: min_variance
    after a Sharpe fallback, risk_parity for the barbell's core, whose w sum to 1 before the core's share is taken.
    """

    kind: str
    clusters: Array
    S: Array
    m: Array
    e: Array
    u: Array
    beta: float
    kappa: float
    w: Array
    flags: frozenset[str]

    def gap(self, w: Array, eps: float = EPS) -> float:
        """Optimality gap of any w in this problem."""
        if self.kind == "max_sharpe":
            return gap_max_sharpe(self.S, self.e, self.u, w)
        if self.kind == "risk_parity":
            return gap_risk_parity(self.S, self.u, w, eps)
        return gap_min_variance(self.S, self.u, w)

    def floor(self, w: Array, eps: float = EPS) -> float:
        """Rounding floor of the gap at w; the returns enter the Sharpe ratio's gap alone."""
        returns = (self.m, self.e) if self.kind == "max_sharpe" else (None, None)
        return rounding_floor(self.S, *returns, w, eps)


@dataclass
class Allocation:
    """Result of `allocate`; dictionaries are by profile. INVALID: NaN floats, labels and leads -1, no clusters."""

    status: dict[str, set[str]]
    weights: dict[str, Array]
    labels: Array  # (N,), -1 for an inactive asset
    n_clusters: int
    cluster_weights: dict[str, Array]  # (N,) by cluster, zero-padded, of the final weights
    lead_assets: dict[str, Array]  # (N,) by cluster, -1 where there is none
    aggressors: Array  # (N,) bool; all False without the barbell profile
    antifragility: Array  # (N,), 0 for an inactive asset
    volatility: dict[str, float]  # annual
    expected_return: dict[str, float]  # annual, before the risk-free rate
    risk_contributions: dict[str, Array]  # (N,), sum 1
    problems: dict[str, Problem] = field(default_factory=dict)
    mean: Array = field(default_factory=lambda: np.zeros(0))  # annual, of the active assets
    covariance: Array = field(default_factory=lambda: np.zeros((0, 0)))
    active: Array = field(default_factory=lambda: np.zeros(0, int))  # columns of the active assets
    v: Array = field(default_factory=lambda: np.zeros(0))  # Layer 2 weights of the active assets


def read_settings(config: Any = None, **settings: Any) -> dict[str, Any]:
    """SETTINGS overlaid with the attributes of a config-like object, then with keywords."""
    if unknown := set(settings) - set(SETTINGS):
        raise TypeError(f"unknown settings: {sorted(unknown)}")
    merged = {}
    for name, default in SETTINGS.items():
        value = settings.get(name, getattr(config, name, default))
        value = default if value == "auto" else value  # arrays have no dates
        merged[name] = tuple(value) if name == "profiles" else type(default)(value)
    return merged


def active_assets(returns: Array, weights: Array, mask: Array) -> tuple[Array, bool] | None:
    """(columns that take part, whether a constant one left), or None for an invalid universe."""
    columns = np.flatnonzero(mask)
    x, c = used(returns[:, columns], weights)
    if not len(columns) or c.sum() < 2 or not np.isfinite(x).all():
        return None
    varies = x.max(axis=0) > x.min(axis=0)
    return (columns[varies], not varies.all()) if varies.any() else None


def layer_one(kind: str, S: Array, m: Array, sizes: Array, clusters: Array, settings: dict[str, Any]) -> Problem:
    """Bounds and cluster weights of one profile over the given clusters of S and m."""
    S, m = S[np.ix_(clusters, clusters)], m[clusters]
    caps = {name: settings[name] for name in ("cluster_cap", "asset_cap", "slack")}
    u, beta, kappa, relaxed = bounds(sizes[clusters], int(sizes[clusters].sum()), **caps)
    flags = {name.upper() for name, on in relaxed.items() if on}
    e = m - settings["risk_free_rate"]
    if kind == "min_variance":
        w = min_variance(S, u)
    elif kind == "max_sharpe":
        w, fallback = max_sharpe(S, e, u)
        if fallback:
            kind = "min_variance"
            flags.add("SHARPE_FALLBACK")
    elif kind == "risk_parity":
        w, regularised = risk_parity(S, u)
        S = risk_parity_covariance(S, regularised)
        if regularised:
            flags.add("RISK_REGULARIZED")
    else:
        raise ValueError(f"unknown profile {kind!r}")
    return Problem(kind, clusters, S, m, e, u, beta, kappa, w, frozenset(flags))


def barbell(
    S: Array, m: Array, v: Array, labels: Array, scores: Array, settings: dict[str, Any]
) -> tuple[Array, Problem, Array, Array, set[str]]:
    """(asset weights, the core's problem, aggressor assets, aggressor clusters, flags)."""
    sizes = np.bincount(labels)
    best, chosen, fewer = aggressors(scores, labels, settings["n_aggressors"])
    core = np.setdiff1d(np.arange(len(sizes)), chosen)
    problem = layer_one("risk_parity", S, m, sizes, core, settings)
    # Without a sleeve (K = 1; n_aggressors = 0 likewise) the core is the whole portfolio.
    sleeve = settings["aggressor_weight"] if len(best) else 0.0
    totals = np.zeros(len(sizes))
    totals[core] = problem.w
    x = (1 - sleeve) * asset_weights(totals, v, labels, problem.beta)
    x[best] = sleeve / max(1, len(best))
    return x, problem, best, chosen, {"FEWER_AGGRESSORS"} if fewer else set()


def allocate(
    returns: Array,
    config: Any = None,
    observation_weights: Array | None = None,
    asset_mask: Array | None = None,
    **settings: Any,
) -> Allocation:
    """One universe, returns (T, N), through both layers; settings by keyword or from a config-like object."""
    options = read_settings(config, **settings)
    returns = np.asarray(returns, float)
    n_rows, n_assets = returns.shape
    weights = np.ones(n_rows) if observation_weights is None else np.asarray(observation_weights, float)
    mask = np.ones(n_assets, bool) if asset_mask is None else np.asarray(asset_mask, bool)
    found = active_assets(returns, weights, mask)
    if found is None:
        return _invalid(n_assets, options["profiles"])
    active, dropped = found

    x = returns[:, active]
    estimated = estimates(x, weights, options["covariance"], options["ewma_decay"])
    mean, covariance = (options["periods_per_year"] * moment for moment in estimated)
    deviation = np.sqrt(np.diag(covariance))
    toned = detoned(covariance / np.outer(deviation, deviation)) if options["detone"] else covariance
    distance, most = correlation_distance(toned, options["distance"]), options["max_clusters"]
    if options["criterion"] == "maxclust":
        labels = clusters_maxclust(distance, options["linkage"], 10 if most == "auto" else int(most))
    elif options["criterion"] == "silhouette":
        most = 40 if most == "auto" else int(most)
        labels = clusters_silhouette(distance, options["linkage"], most, options["distance_threshold"])
    else:
        labels = clusters(distance, options["linkage"], options["distance_threshold"])
    v = inverse_variance(np.diag(covariance), labels)
    S, m = synthetic(covariance, mean, v, labels)
    scores = antifragility(x, weights)
    n_clusters = len(S)

    result = _empty(n_assets, n_clusters, {"ASSET_DROPPED"} if dropped else set(), options["profiles"])
    result.mean, result.covariance, result.active, result.v = mean, covariance, active, v
    result.labels[active], result.antifragility[active] = labels, scores
    for profile in options["profiles"]:
        leads: Array | None = None
        if profile == "barbell":
            weights_active, problem, best, chosen, flags = barbell(S, m, v, labels, scores, options)
            result.aggressors[active[best]] = True
            result.status[profile] |= flags
            leads = lead_assets(weights_active, labels, n_clusters)
            leads[chosen] = best  # differs from the highest weight only where the sleeve's is 0
        else:
            problem = layer_one(profile, S, m, np.bincount(labels), np.arange(n_clusters), options)
            weights_active = asset_weights(problem.w, v, labels, problem.beta)
            leads = lead_assets(weights_active, labels, n_clusters)
        result.status[profile] |= problem.flags
        result.problems[profile] = problem
        result.weights[profile][active] = weights_active
        result.cluster_weights[profile][:n_clusters] = np.bincount(labels, weights_active)
        result.lead_assets[profile][:n_clusters] = active[leads]
        _portfolio(result, profile, weights_active)
    return result


def _portfolio(result: Allocation, profile: str, x: Array) -> None:
    """Annual volatility and return of the final weights, their risk contributions x (Sigma x) / xᵀSigma x, in place."""
    marginal = result.covariance @ x
    variance = float(x @ marginal)
    result.volatility[profile] = float(np.sqrt(max(variance, 0.0)))
    result.expected_return[profile] = float(result.mean @ x)
    # A riskless portfolio has no contributions; its weights stand in, so that they still sum to 1.
    result.risk_contributions[profile][result.active] = x * marginal / variance if variance > 0 else x


def _empty(n_assets: int, n_clusters: int, status: set[str], profiles: tuple[str, ...]) -> Allocation:
    """An allocation of zeros."""
    return Allocation(
        status={profile: set(status) for profile in profiles},
        weights={profile: np.zeros(n_assets) for profile in profiles},
        labels=np.full(n_assets, -1),
        n_clusters=n_clusters,
        cluster_weights={profile: np.zeros(n_assets) for profile in profiles},
        lead_assets={profile: np.full(n_assets, -1) for profile in profiles},
        aggressors=np.zeros(n_assets, bool),
        antifragility=np.zeros(n_assets),
        volatility=dict.fromkeys(profiles, 0.0),
        expected_return=dict.fromkeys(profiles, 0.0),
        risk_contributions={profile: np.zeros(n_assets) for profile in profiles},
    )


def _invalid(n_assets: int, profiles: tuple[str, ...]) -> Allocation:
    """An INVALID universe. The contract fixes NaN for the weights; NaN for every other float follows it."""
    result = _empty(n_assets, 0, {"INVALID"}, profiles)
    for table in (result.weights, result.cluster_weights, result.risk_contributions):
        for array in table.values():
            array.fill(np.nan)
    result.antifragility.fill(np.nan)
    result.volatility = dict.fromkeys(profiles, np.nan)
    result.expected_return = dict.fromkeys(profiles, np.nan)
    return result


# ---------------------------------------------------------------------------------------------------------------------
# Generators
# ---------------------------------------------------------------------------------------------------------------------


def random_market(
    rng: np.random.Generator,
    T: int,
    N: int,
    n_clusters: int,
    inside: float = 0.8,
    across: float = 0.2,
    tail: float = 5.0,
    drift: float = 0.08,
) -> Array:
    """Returns (T, N) of clustered assets with Student-t factors and lognormal volatilities, no two values tied.

    Correlations are about `inside` in a cluster and `across` between two (distances 0.32 and 0.63 by default, either
    side of the 0.4 cut); every cluster has an asset where N >= n_clusters, in no order. Annual drifts are about
    drift (1 ± 1), volatilities 4 % to 100 %.
    """
    labels = rng.permutation(np.concatenate([np.arange(min(n_clusters, N)), rng.integers(n_clusters, size=N)])[:N])
    unit = np.sqrt(tail / (tail - 2))  # standard deviation of Student-t
    market, cluster, own = (rng.standard_t(tail, (T, size)) / unit for size in (1, n_clusters, N))
    noise = np.sqrt(across) * market + np.sqrt(inside - across) * cluster[:, labels] + np.sqrt(1 - inside) * own
    volatility = 0.2 * np.exp(0.6 * rng.standard_normal(N))
    annual_drift = drift * (1 + rng.standard_normal(N))
    return annual_drift / 252 + volatility / np.sqrt(252) * noise


def contribution_floor(S: Array, w: Array, eps: float = EPS) -> float:
    """Rounding floor of the worst cluster's risk contribution, relative to the largest: a hedged one's is above all."""
    return 8 * eps * float(np.max(w * (np.abs(S) @ w)) / np.max(w * (S @ w)))


def random_covariance(rng: np.random.Generator, K: int, n_factors: int = 3, rank: int | None = None) -> Array:
    """Annual covariance (K, K) of factors plus noise, correlations of both signs, volatilities lognormal about 20 %.

    With `rank`, of that rank: a sample of rank + 1 observations.
    """
    loadings = rng.normal([1.0] + [0.0] * (n_factors - 1), 0.7, (K, n_factors))
    correlation = loadings @ loadings.T + np.diag(rng.uniform(0.3, 1.5, K))
    if rank is not None:
        sample = rng.multivariate_normal(np.zeros(K), correlation, size=rank, method="cholesky")
        correlation = sample.T @ sample
    deviation = 0.2 * np.exp(0.6 * rng.standard_normal(K)) / np.sqrt(np.diag(correlation))
    return correlation * np.outer(deviation, deviation)


def random_point(rng: np.random.Generator, K: int, n_low: int, n_high: int) -> tuple[Array, Array, Array]:
    """(w, u, side): a point of P with `n_low` clusters at 0 and `n_high` at their cap, the others strictly between."""
    side = rng.permutation(np.repeat([-1, 1, 0], [n_low, n_high, K - n_low - n_high]))
    w = np.where(side == -1, 0.0, rng.uniform(0.5, 1.5, K))
    w /= w.sum()
    u = np.where(side == 1, w, w + rng.uniform(0.01, 0.2, K))
    return w, u, side


def kkt_min_variance(
    rng: np.random.Generator, K: int, n_low: int, n_high: int, rank: int | None = None
) -> tuple[Array, Array, Array]:
    """(S, u, w*): the solution and its multipliers are drawn first, then a problem that has them.

    The gradient g = Sw must be constant on the free clusters, above that at 0 and below it at the caps. Any S0 becomes
    an S with Sw = g by the BFGS update S0 - S0 w wᵀS0 / wᵀS0w + g gᵀ / gᵀw, positive definite if S0 is and gᵀw > 0.
    """
    w, u, side = random_point(rng, K, n_low, n_high)
    S0 = random_covariance(rng, K, rank=rank)
    level = float(w @ S0 @ w)
    gradient = level * (1 - side * rng.uniform(0.1, 0.9, K))
    image = S0 @ w
    S = S0 - np.outer(image, image) / (w @ image) + np.outer(gradient, gradient) / (gradient @ w)
    return (S + S.T) / 2, u, w


def kkt_max_sharpe(
    rng: np.random.Generator, K: int, n_low: int, n_high: int, rank: int | None = None
) -> tuple[Array, Array, Array, Array]:
    """(S, e, u, w*): the maximum Sharpe ratio's solution and multipliers first, then the excess returns that have them.

    c = e / eᵀw - Sw / wᵀSw must be constant on the free clusters, below that at 0, above it at the caps, and cᵀw = 0.
    """
    w, u, side = random_point(rng, K, n_low, n_high)
    S = random_covariance(rng, K, rank=rank)
    c = side * rng.uniform(0.1, 0.9, K)
    c -= c @ w
    return S, 0.05 * (c + S @ w / (w @ S @ w)), u, w


def reachable_partitions(distance: Array, linkage: str, threshold: float, rounding: float) -> set[tuple[int, ...]]:
    """Every partition that merging a nearest pair at a time can end in, whichever of several nearest is taken.

    Distances of merged groups within ``rounding`` are tied: means of tied distances differ by a rounding.
    """
    seen: set[frozenset[frozenset[int]]] = set()
    ends: set[tuple[int, ...]] = set()

    def gap(a: frozenset[int], b: frozenset[int]) -> float:
        first, second = sorted(a), sorted(b)
        pairs = distance[np.ix_(first, second)]
        if linkage != "ward":
            return float({"average": pairs.mean(), "single": pairs.min(), "complete": pairs.max()}[linkage])
        inside = ((distance[np.ix_(one, one)] ** 2).mean() / 2 for one in (first, second))
        return float(np.sqrt(2 * len(a) * len(b) / (len(a) + len(b)) * max((pairs**2).mean() - sum(inside), 0)))

    def follow(groups: frozenset[frozenset[int]]) -> None:
        if groups in seen:
            return
        seen.add(groups)
        pairs = [(a, b, gap(a, b)) for a in groups for b in groups if min(a) < min(b)]
        nearest = min((d for _, _, d in pairs), default=np.inf)
        if nearest > threshold + rounding:
            labels = np.empty(len(distance), int)
            for label, group in enumerate(sorted(groups, key=min)):
                labels[list(group)] = label
            ends.add(tuple(labels))
            return
        for a, b, d in pairs:
            if d <= nearest + rounding:
                follow(groups - {a, b} | {a | b})

    follow(frozenset(frozenset([i]) for i in range(len(distance))))
    return ends
