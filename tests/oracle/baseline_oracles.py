"""Baseline portfolios in plain NumPy and SciPy, list by list and branch by branch as their papers tell them."""

from __future__ import annotations

from typing import Any

import numpy as np
from oracles import Array, correlation_distance, max_sharpe, min_variance, risk_parity
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform


def tree_of(distance: Array, linkage: str) -> Array:
    return hierarchy.linkage(squareform(distance, checks=False), linkage)


def inverse_variance_risk(covariance: Array, members: Array) -> float:
    """Variance of the members' inverse-variance portfolio."""
    v = 1 / np.diag(covariance)[members]
    v /= v.sum()
    return float(v @ covariance[np.ix_(members, members)] @ v)


def bisect(covariance: Array, order: Array) -> Array:
    """Lopez de Prado's recursive bisection, one list after the other."""
    weights = np.zeros(len(covariance))
    weights[order] = 1.0
    lists = [np.asarray(order)]
    while lists:
        assets = lists.pop()
        if len(assets) == 1:
            continue
        first, second = assets[: len(assets) // 2], assets[len(assets) // 2 :]
        risks = inverse_variance_risk(covariance, first), inverse_variance_risk(covariance, second)
        alpha = 1 - risks[0] / (risks[0] + risks[1])
        weights[first] *= alpha
        weights[second] *= 1 - alpha
        lists += [first, second]
    return weights


def hrp(covariance: Array, linkage: str = "average", kind: str = "correlation") -> Array:
    """Hierarchical risk parity: the leaves of the tree on the correlation distance, bisected."""
    if len(covariance) == 1:
        return np.ones(1)
    return bisect(covariance, hierarchy.leaves_list(tree_of(correlation_distance(covariance, kind), linkage)))


def herc(covariance: Array, labels: Array, linkage: str = "average", kind: str = "correlation") -> Array:
    """Hierarchical equal risk contribution down the whole tree, as far as branches that are clusters."""
    clusters = [np.flatnonzero(labels == k) for k in range(labels.max() + 1)]
    risks = [inverse_variance_risk(covariance, members) for members in clusters]
    shares = np.ones(len(clusters))
    if len(clusters) > 1:
        whole: Any = hierarchy.to_tree(tree_of(correlation_distance(covariance, kind), linkage))
        branches = [whole]
        while branches:
            branch = branches.pop()
            inside = [k for k, members in enumerate(clusters) if set(members) <= set(branch.pre_order())]
            if len(inside) == 1:
                continue
            sides = [
                [k for k in inside if set(clusters[k]) <= set(side.pre_order())] for side in (branch.left, branch.right)
            ]
            total = sum(risks[k] for k in inside)
            for side, other in (sides, sides[::-1]):
                shares[side] *= sum(risks[k] for k in other) / total
            branches += [branch.left, branch.right]
    return inside_clusters(covariance, clusters, shares)


def herc_of(covariance: Array, labels: Array, linkage: str) -> Array:
    """The same for any partition: its clusters merged one pair at a time, nearest first."""
    clusters = [np.flatnonzero(labels == k) for k in range(labels.max() + 1)]
    risks = [inverse_variance_risk(covariance, members) for members in clusters]
    distance = correlation_distance(covariance)
    how = {"average": np.mean, "single": np.min, "complete": np.max}[linkage]

    def apart(a: list[int], b: list[int]) -> float:
        mine, theirs = (np.concatenate([clusters[k] for k in side]) for side in (a, b))
        return float(how(distance[np.ix_(mine, theirs)]))

    shares, groups = np.ones(len(clusters)), [[k] for k in range(len(clusters))]
    while len(groups) > 1:
        pairs = [(apart(a, b), i, j) for i, a in enumerate(groups) for j, b in enumerate(groups) if i < j]
        _, i, j = min(pairs)
        first, second = groups[i], groups[j]
        risk = [sum(risks[k] for k in side) for side in (first, second)]
        shares[first] *= risk[1] / sum(risk)
        shares[second] *= risk[0] / sum(risk)
        groups = [g for n, g in enumerate(groups) if n not in (i, j)] + [first + second]
    return inside_clusters(covariance, clusters, shares)


def inside_clusters(covariance: Array, clusters: list[Array], shares: Array) -> Array:
    """Each cluster's share over its members by inverse variance."""
    weights = np.zeros(len(covariance))
    for members, share in zip(clusters, shares, strict=True):
        v = 1 / np.diag(covariance)[members]
        weights[members] = share * v / v.sum()
    return weights


def nco(covariance: Array, labels: Array) -> Array:
    """Nested clustered optimisation: minimum variance inside each cluster by itself, then across."""
    count = labels.max() + 1
    V = np.zeros((len(covariance), count))
    for k in range(count):
        members = np.flatnonzero(labels == k)
        V[members, k] = min_variance(covariance[np.ix_(members, members)], np.ones(len(members)))
    return V @ min_variance(V.T @ covariance @ V, np.ones(count))


def weights_of(
    profile: str,
    covariance: Array,
    mean: Array,
    labels: Array,
    *,
    bound: float,
    rate: float = 0.0,
    linkage: str = "average",
    kind: str = "correlation",
) -> Array:
    """Any baseline's weights of assets that are all active; annual units."""
    n = len(covariance)
    sigma, u = np.sqrt(np.diag(covariance)), np.full(n, bound)
    makers = {
        "equal_weight": lambda: np.full(n, 1 / n),
        "inverse_variance": lambda: sigma**-2 / (sigma**-2).sum(),
        "inverse_volatility": lambda: sigma**-1 / (sigma**-1).sum(),
        "hrp": lambda: hrp(covariance, linkage, kind),
        "herc": lambda: herc(covariance, labels, linkage, kind),
        "nco": lambda: nco(covariance, labels),
        "asset_min_variance": lambda: min_variance(covariance, u),
        "asset_max_sharpe": lambda: max_sharpe(covariance, mean - rate, u)[0],
        "asset_risk_parity": lambda: risk_parity(covariance, u)[0],
        "max_diversification": lambda: max_sharpe(covariance, sigma, u)[0],
    }
    return makers[profile]()


# those to which the asset bound applies
BOUNDED = ("asset_min_variance", "asset_max_sharpe", "asset_risk_parity", "max_diversification")
BASELINES = ("equal_weight", "inverse_variance", "inverse_volatility", "hrp", "herc", "nco", *BOUNDED)
