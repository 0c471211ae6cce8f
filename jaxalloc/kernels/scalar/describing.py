"""From solutions to portfolios of assets, one universe after the other, compiled by numba.

What `jaxalloc.portfolios.describing`, `jaxalloc.portfolios.mending` and `jaxalloc.kernels.clusters.within.share_out` do
in lanes: weights of the assets, statistics, lead assets, status. Numbers are computed in float64, and kept in the
universes' precision.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from jaxalloc.kernels.scalar.across import CORE, WHOLE, Posed, Settings, Solutions, Universes
from jaxalloc.kernels.scalar.compiling import inner, inner_sums, placing
from jaxalloc.settings.status import Status

Array = np.ndarray

_INVALID, _ASSET_DROPPED = int(Status.INVALID), int(Status.ASSET_DROPPED)
_CAP_RELAXED, _BOUND_RAISED = int(Status.CLUSTER_CAP_RELAXED), int(Status.ASSET_BOUND_RAISED)
_REGULARIZED, _FEWER = int(Status.RISK_REGULARIZED), int(Status.FEWER_AGGRESSORS)
_NOT_CONVERGED = int(Status.NOT_CONVERGED)
_LEAST_SHARE = np.finfo(np.float64).tiny / np.finfo(np.float64).eps
_ROUNDING = 8 * np.finfo(np.float64).eps


class Kinds(NamedTuple):
    """What the weights of P profiles are of, (P,) each; see `jaxalloc.portfolios.describing.Kind`.

    Attributes:
        assets: bool.
        core: bool.
        bounded: bool.
        altered: int32.
    """

    assets: Any
    core: Any
    bounded: Any
    altered: Any


class Portfolios(NamedTuple):
    """The fields of `jaxalloc.portfolios.result.Allocation`, of C universes, written here."""

    weights: Any
    cluster_labels: Any
    n_clusters: Any
    cluster_weights: Any
    lead_assets: Any
    aggressors: Any
    antifragility: Any
    volatility: Any
    expected_return: Any
    risk_contributions: Any
    asset_bound: Any
    cluster_bound: Any
    optimality_gap: Any
    iterations: Any
    status: Any


class Room(NamedTuple):
    """Room for the vectors of a universe of N assets.

    Attributes:
        x: (P, N) weights of P profiles.
        marginal: (P, N) their products with the covariance.
        w: (N,)
        variance: (N,)
        upper: (N,)
        members: (N,) integers.
        crowded: (N,) bool.
        full: (N,) bool.
        none: (N,) bool, all False.
    """

    x: Any
    marginal: Any
    w: Any
    variance: Any
    upper: Any
    members: Any
    crowded: Any
    full: Any
    none: Any


def make_room(n_profiles: int, size: int) -> Room:
    """Room for so many profiles of so many assets; only ``none`` is filled in. Python calls it."""
    return Room(
        x=np.empty((n_profiles, size)),
        marginal=np.empty((n_profiles, size)),
        w=np.empty(size),
        variance=np.empty(size),
        upper=np.empty(size),
        members=np.empty(size, np.intp),
        crowded=np.empty(size, np.bool_),
        full=np.empty(size, np.bool_),
        none=np.zeros(size, np.bool_),
    )


@inner
def _is_broken(w: Array, tolerance: float) -> bool:
    """Whether a solution is no portfolio; what is no number is not at least 0."""
    total = 0.0
    for weight in w:
        if not weight >= 0:
            return True
        total += weight
    return abs(total - 1) > tolerance


@inner
def _mend(w: Array, variance: Array, upper: Array) -> None:
    """Weights in inverse proportion to variances; what a bound cuts off goes to the others by their room."""
    smallest, relative, share, room = np.inf, 0.0, 0.0, 0.0
    for k in range(len(w)):
        if upper[k] > 0:
            smallest = min(smallest, max(variance[k], _LEAST_SHARE))
    for k in range(len(w)):
        w[k] = smallest / max(variance[k], _LEAST_SHARE) if upper[k] > 0 else 0.0
        relative += w[k]
    for k in range(len(w)):
        w[k] = min(w[k] / relative, upper[k]) if relative > 0 else 0.0
        share += w[k]
        room += upper[k] - w[k]
    total = 0.0
    for k in range(len(w)):
        if room > 0:
            w[k] += max(1 - share, 0.0) * (upper[k] - w[k]) / room
        total += w[k]
    for k in range(len(w)):
        w[k] /= total


@inner
def _share_out(W: Array, inner: Array, labels: Array, bound: float, x: Array, room: Room) -> None:
    """x_i = min(bound, theta v_i) with theta such that the members of each cluster sum to its weight."""
    crowded, full, members = room.crowded, room.full, room.members
    for k in range(len(W)):
        crowded[k] = False
    for i in range(len(labels)):
        k = labels[i]
        x[i] = W[k] * inner[i] if k >= 0 else 0.0
        if x[i] > bound:
            crowded[k] = True
    for k in range(len(W)):
        if not crowded[k]:
            continue
        size = 0
        for i in range(len(labels)):
            if labels[i] == k:
                members[size], full[size] = i, False
                size += 1
        # a cluster that holds all it can has every member at the bound, to the bit
        if W[k] >= bound * size * (1 - _ROUNDING):
            for m in range(size):
                x[members[m]] = bound
            continue
        theta, changed = W[k], True
        while changed:  # theta only grows as members reach the bound, and so does their set
            changed = False
            for m in range(size):
                if not full[m] and theta * max(inner[members[m]], _LEAST_SHARE) > bound:
                    full[m] = changed = True
            held, free = 0.0, 0.0
            for m in range(size):
                if full[m]:
                    held += bound
                else:
                    free += max(inner[members[m]], _LEAST_SHARE)
            theta = (W[k] - held) / free if free > 0 else 0.0
        for m in range(size):
            share = theta * max(inner[members[m]], _LEAST_SHARE)
            x[members[m]] = bound if full[m] else max(min(share, bound), 0.0)


@inner_sums
def _marginal_risk(covariance: Array, weights: Array, marginal: Array) -> None:
    """(P, N) the products of the covariance, its lower triangle, with portfolios, in place, where they hold something.

    Elsewhere they are anything.
    """
    for p in range(len(weights)):
        for i in range(weights.shape[1]):
            marginal[p, i] = 0
    for i in range(weights.shape[1]):
        for p in range(len(weights)):
            weight, total = weights[p, i], 0.0
            if weight != 0:  # by two indices: a slice would take longer than what is done with it
                for j in range(i):
                    total += covariance[i, j] * weights[p, j]
                for j in range(i):
                    marginal[p, j] += weight * covariance[i, j]
                marginal[p, i] += total + weight * covariance[i, i]


@inner
def _nothing(at: int, n_profiles: int, n_assets: int, made: Portfolios) -> None:
    """An invalid universe."""
    made.n_clusters[at] = 0
    for i in range(n_assets):
        made.cluster_labels[at, i], made.aggressors[at, i], made.antifragility[at, i] = -1, False, np.nan
    for p in range(n_profiles):
        for numbers in (made.volatility, made.expected_return, made.asset_bound, made.cluster_bound):
            numbers[at, p] = np.nan
        made.optimality_gap[at, p], made.iterations[at, p], made.status[at, p] = np.nan, 0, _INVALID
        for i in range(n_assets):
            made.weights[at, p, i] = made.cluster_weights[at, p, i] = made.risk_contributions[at, p, i] = np.nan
            made.lead_assets[at, p, i] = -1


@inner
def _statistics(
    covariance: Array, mean: Array, x: Array, marginal: Array, negligible: float, at: int, made: Portfolios
) -> None:
    """Volatility, return and risk contributions of P portfolios (P, N)."""
    for p in range(len(x)):
        variance, unhedged, expected = 0.0, 0.0, 0.0
        for i in range(x.shape[1]):
            variance += x[p, i] * marginal[p, i]
            unhedged += x[p, i] * math.sqrt(max(covariance[i, i], 0.0))
            expected += x[p, i] * mean[i]
        # a variance that is all rounding has no shares to speak of
        is_positive = variance > negligible * unhedged * unhedged
        for i in range(made.weights.shape[2]):
            made.risk_contributions[at, p, i] = x[p, i] * marginal[p, i] / variance if is_positive else x[p, i]
        made.volatility[at, p], made.expected_return[at, p] = math.sqrt(max(variance, 0.0)), expected


@inner
def _leads(labels: Array, weights: Array, first: Array, n_clusters: int, leads: Array) -> None:
    """Each cluster's asset of highest weight, the first of equals, in place; those that are ``first`` before all."""
    for k in range(len(leads)):
        leads[k] = -1
    for i in range(len(leads)):
        k = labels[i]
        if k >= 0:
            best = leads[k]
            if best < 0 or (not first[best] and (first[i] or weights[i] > weights[best])):
                leads[k] = i


@placing
def describe(
    universes: Universes,
    dropped: Array,
    valid: Array,
    settings: Settings,
    aggressor_weight: Array,
    kinds: Kinds,
    first_slot: int,
    count: int,
    posed: Posed,
    solutions: Solutions,
    tolerance: float,
    made: Portfolios,
    room: Room,
) -> None:
    """Describe the portfolios of the first ``count`` universes.

    Args:
        universes: with their clusters.
        dropped: (U,) bool, an asset of the mask has left.
        valid: (U,) bool.
        settings: of each universe.
        aggressor_weight: (U,) float64.
        kinds: of P profiles.
        first_slot: place of the first universe among the solutions, and the portfolios.
        count: how many universes.
        posed: of the universes.
        solutions: of the part's.
        tolerance: how far from 1 weights may sum.
        made: written; its N counts no padding.
        room: for P profiles of the universes' assets, padded.
    """
    n_profiles, size, n_assets = len(kinds.assets), universes.labels.shape[1], made.weights.shape[2]
    x, marginal, w, variance, upper = room.x, room.marginal, room.w, room.variance, room.upper
    has_core = False
    for is_core in kinds.core:
        has_core |= is_core
    for b in range(count):
        at = first_slot + b
        if not valid[b]:
            _nothing(at, n_profiles, n_assets, made)
            continue
        labels, covariance, n_clusters = universes.labels[b], universes.covariance[b], universes.n_clusters[b]
        active, there = universes.active[b], 0
        for i in range(size):
            there += active[i]
        sleeve_size = posed.sleeve_size[b]
        total = aggressor_weight[b] if sleeve_size > 0 else 0.0
        each = total / max(sleeve_size, 1)
        for p in range(n_profiles):
            group, column = p // 4, p % 4
            of_assets, which = kinds.assets[p], CORE if kinds.core[p] else WHOLE
            bound = max(settings.asset_cap[b], settings.slack[b] / max(there, 1)) if kinds.bounded[p] else 1.0
            rows = n_assets if of_assets else n_clusters
            for k in range(rows):
                w[k] = solutions.weights[group, at, column, k]
            gap, converged = solutions.gap[group, at, column], solutions.converged[group, at, column]
            broken = _is_broken(w[:rows], tolerance)
            if broken:
                for k in range(rows):
                    variance[k] = covariance[k, k] if of_assets else 0.0
                    upper[k] = (bound if active[k] else 0.0) if of_assets else posed.upper[b, which, k]
                if not of_assets:
                    for i in range(size):
                        if labels[i] >= 0:
                            variance[labels[i]] += posed.inner[b, i] ** 2 * covariance[i, i]
                _mend(w[:rows], variance[:rows], upper[:rows])
            if broken or not np.isfinite(gap):
                gap, converged = 1.0, False
            if of_assets:
                for k in range(n_clusters):
                    upper[k] = 0  # for once the clusters' weights
                for i in range(size):
                    x[p, i] = w[i] if i < rows else 0.0
                    if labels[i] >= 0:
                        upper[labels[i]] += x[p, i]
                for k in range(n_clusters):
                    made.cluster_weights[at, p, k] = upper[k]
            else:
                _share_out(w[:rows], posed.inner[b], labels, np.float64(posed.asset[b, which]), x[p], room)
                for k in range(n_clusters):
                    made.cluster_weights[at, p, k] = w[k]
            left = 1.0
            if kinds.core[p]:  # the sleeve: equal shares of its weight, to which no bound applies
                left = 1 - total
                for i in range(size):
                    x[p, i] = each if posed.aggressors[b, i] else left * x[p, i]
                for k in range(n_clusters):
                    made.cluster_weights[at, p, k] = each if posed.aggressor_clusters[b, k] else left * w[k]
            for i in range(n_assets):
                made.weights[at, p, i] = x[p, i]
            for k in range(n_clusters, n_assets):
                made.cluster_weights[at, p, k] = 0
            first = posed.aggressors[b] if kinds.core[p] else room.none
            _leads(labels, made.weights[at, p], first, n_clusters, made.lead_assets[at, p])
            made.asset_bound[at, p] = left * (bound if of_assets else posed.asset[b, which])
            made.cluster_bound[at, p] = left * (1.0 if of_assets else posed.cluster[b, which])
            made.optimality_gap[at, p], made.iterations[at, p] = gap, solutions.iterations[group, at, column]
            altered = solutions.altered[group, at, column]
            if not of_assets and kinds.altered[p] == _REGULARIZED:
                for k in range(n_clusters):
                    altered |= posed.riskless[b, k] and posed.upper[b, which, k] > 0
            status = (_ASSET_DROPPED if dropped[b] else 0) | (kinds.altered[p] if altered else 0)
            status |= 0 if converged else _NOT_CONVERGED
            if not of_assets:
                status |= _CAP_RELAXED if posed.cap_relaxed[b, which] else 0
                status |= _BOUND_RAISED if posed.asset_raised[b, which] else 0
            if kinds.core[p] and posed.fewer[b]:
                status |= _FEWER
            made.status[at, p] = status
        _marginal_risk(covariance, x, marginal)
        _statistics(covariance, universes.mean[b], x, marginal, settings.negligible, at, made)
        made.n_clusters[at] = n_clusters
        for i in range(n_assets):
            made.cluster_labels[at, i] = labels[i]
            made.aggressors[at, i] = has_core and posed.aggressors[b, i]
            made.antifragility[at, i] = universes.scores[b, i]
