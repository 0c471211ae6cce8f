"""Baseline portfolios in plain NumPy and SciPy, list by list and branch by branch as their papers tell them."""

from __future__ import annotations

import numpy as np
from oracles import Array, correlation_distance
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
