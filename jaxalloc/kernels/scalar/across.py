"""From a universe's estimates to the weights of its clusters, one universe after the other, compiled by numba.

What `jaxalloc.portfolios.posing` and the solvers do for many universes in lanes is done here for one, whose matrices
stay in the cache from the first step to the last: the covariances of assets are read once, the correlations of clusters
are made of them row by row, and every profile is solved on these. Symbols as there: v weights inside the clusters, S
the clusters' covariance, C and sigma its correlations and volatilities, e excess returns, u bounds on the weights w.

A solver says of each problem whether it has solved it. Those that it has not are left to the lanes.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from jaxalloc.kernels.scalar import separate
from jaxalloc.kernels.scalar.bounded import minimise_bounded
from jaxalloc.kernels.scalar.compiling import inner, placing, scalar
from jaxalloc.kernels.scalar.mean_variance import by_faces, mean_variance
from jaxalloc.kernels.scalar.measuring import gap_of, hedging
from jaxalloc.kernels.scalar.posing import Room, bounds, by_cluster, choose_sleeve, correlate, within
from jaxalloc.kernels.scalar.risk_parity import risk_parity
from jaxalloc.kernels.scalar.tableau import FEW, solve_few
from jaxalloc.kernels.solvers.tolerances import accepted

Array = np.ndarray

MEAN_VARIANCE, RISK_PARITY = 0, 1  # solvers
WHOLE, CORE = 0, 1  # places of the bounds of all clusters, and of a barbell's core
EXCESS, VOLATILITY = 0, 1  # places of the rewards
_ACCEPTED = accepted(np.float32)  # optimality gap of rounded weights, or
_ROUNDING = 8 * float(np.finfo(np.float32).eps)  # times what hedges cancel: no rounded weights balance these better
_MOST_ROUNDING = 4e-3  # but hardly a portfolio any more; the lanes say so, too


class Universes(NamedTuple):
    """Estimates of U universes, in float32 or float64; not changed.

    Attributes:
        mean: (U, N) annual mean returns.
        covariance: (U, N, N) annual, of which the lower triangle is read; 0 for an inactive asset.
        active: (U, N) bool.
        labels: (U, N) int32 clusters, -1 for an inactive asset.
        n_clusters: (U,) int32.
        scores: (U, N) antifragility.
    """

    mean: Any
    covariance: Any
    active: Any
    labels: Any
    n_clusters: Any
    scores: Any


class Settings(NamedTuple):
    """Numbers of the settings, (U,) float64 each, and what arithmetic of the universes' precision can tell.

    Attributes:
        risk_free_rate: annual.
        cluster_cap: largest weight of a cluster.
        asset_cap: largest weight of an asset.
        slack: at least 1.
        n_aggressors: of a barbell.
        negligible: share of its members' variance up to which a cluster's is rounding, a number.
        jitter: share of it that such a cluster is given, a number.
    """

    risk_free_rate: Any
    cluster_cap: Any
    asset_cap: Any
    slack: Any
    n_aggressors: Any
    negligible: float
    jitter: float


class Profiles(NamedTuple):
    """Which problems to solve, (P,) int64 each.

    Attributes:
        solver: `MEAN_VARIANCE` or `RISK_PARITY`.
        reward: place among the rewards, -1 for none.
        upper: place among the bounds.
        place: of the profile among the solutions.
    """

    solver: Any
    reward: Any
    upper: Any
    place: Any


class Posed(NamedTuple):
    """What universes look like across clusters, padded to N clusters; 0 past the last one. Written here.

    Attributes:
        inner: (U, N) v of each asset.
        upper: (U, 2, N) u of all clusters and of a barbell's core.
        cluster: (U, 2) cluster cap in force, likewise.
        asset: (U, 2) asset bound in force.
        cap_relaxed: (U, 2) bool, the cap is above the setting.
        asset_raised: (U, 2) bool, the asset bound had to rise.
        riskless: (U, N) bool, a cluster had no variance.
        aggressor_clusters: (U, N) bool.
        aggressors: (U, N) bool, assets.
        sleeve_size: (U,) int32 number of aggressors.
        fewer: (U,) bool, fewer than wanted.
    """

    inner: Any
    upper: Any
    cluster: Any
    asset: Any
    cap_relaxed: Any
    asset_raised: Any
    riskless: Any
    aggressor_clusters: Any
    aggressors: Any
    sleeve_size: Any
    fewer: Any


class Solutions(NamedTuple):
    """Solutions of a part's universes, written here: those of up to four profiles side by side.

    Attributes:
        weights: (G, C, 4, N) of clusters or of assets; entries past the last are not touched.
        gap: (G, C, 4).
        iterations: (G, C, 4) int32.
        altered: (G, C, 4) bool.
        converged: (G, C, 4) bool.
    """

    weights: Any
    gap: Any
    iterations: Any
    altered: Any
    converged: Any


class Scratch(NamedTuple):
    """Room for the matrices of one universe.

    Attributes:
        correlation: (M,) float64, M at least the square of the number of clusters or assets.
        float32_correlation: (M,) float32.
    """

    correlation: Any
    float32_correlation: Any


class Solvers(NamedTuple):
    """Addresses of the solvers, which are separate kernels; 0 of one that is not here yet, and seldom wanted.

    Attributes:
        few: of `solve_few`.
        faces: of `by_faces`.
        risk_parity: of `risk_parity`.
        bounded: of `minimise_bounded`.
    """

    few: int
    faces: int
    risk_parity: int
    bounded: int


ALWAYS, SELDOM = (solve_few, risk_parity), (by_faces, minimise_bounded)  # wanted by few clusters
NOWHERE = Solvers(few=0, faces=0, risk_parity=0, bounded=0)  # for no universes
_risk_parity_at = risk_parity.at


def begin(dtype: Any, processes: int) -> None:
    """Have so many other processes compile the solvers."""
    always, seldom = ([solver.version(dtype) for solver in some] for some in (ALWAYS, SELDOM))
    separate.begin(always, seldom, processes)


def solvers(dtype: Any, size: int) -> Solvers:
    """The solvers in this process, as soon as they are compiled, for problems of up to so many clusters or assets.

    Where these are few, nobody waits for those that they seldom want, which take longest to compile.
    """
    (few, parity), seldom = ([each.version(dtype) for each in some] for some in (ALWAYS, SELDOM))
    # what another process comes to last is asked for first: this one compiles it meanwhile
    bounded, faces = (each.address() if size > FEW or each.is_here() else 0 for each in reversed(seldom))
    return Solvers(few=few.address(), faces=faces, risk_parity=parity.address(), bounded=bounded)


@inner
def _solve(
    C: Array,
    float32_C: Array,
    profiles: Profiles,
    solvers: Solvers,
    slot: int,
    solutions: Solutions,
    unsolved: Array,
    room: Room,
) -> None:
    """Solve the profiles of the universe in the room; what is not solved is marked in ``unsolved`` (P,)."""
    size = len(C)
    sigma, w, nothing = room.sigma[:size], room.weights[:size], room.nothing[:size]
    is_rounded = solutions.weights.itemsize == 4
    for p in range(len(profiles.solver)):
        upper = room.uppers[profiles.upper[p], :size]
        excess = room.rewards[profiles.reward[p], :size] if profiles.reward[p] >= 0 else nothing
        altered = False
        if profiles.solver[p] == RISK_PARITY:
            gap, iterations, solved = _risk_parity_at(
                solvers.risk_parity, (solvers.bounded, C, float32_C, sigma, upper, w, room.solving)
            )
        else:
            gap, iterations, altered, solved = mean_variance(solvers.few, solvers.faces, C, sigma, excess, upper, w)
        unsolved[p] = not solved
        if not solved:
            continue
        group, column = profiles.place[p] // 4, profiles.place[p] % 4
        kept = solutions.weights[group, slot, column]
        for k in range(size):
            kept[k] = w[k]
        if is_rounded:  # the gap is that of the weights that come back
            for k in range(size):
                w[k] = kept[k]
            reward, equal = nothing if altered else excess, profiles.solver[p] == RISK_PARITY
            gap = gap_of(C, sigma, reward, upper, w, equal, room.cost)
            if not gap <= _ACCEPTED and not gap <= min(_ROUNDING * hedging(C, sigma, reward, w, equal), _MOST_ROUNDING):
                unsolved[p] = True
                continue
        solutions.gap[group, slot, column] = gap
        solutions.iterations[group, slot, column] = iterations
        solutions.altered[group, slot, column] = altered
        solutions.converged[group, slot, column] = True


@placing
def solve_clusters(
    universes: Universes,
    settings: Settings,
    profiles: Profiles,
    solvers: Solvers,
    first_slot: int,
    count: int,
    posed: Posed,
    excess: Array,
    solutions: Solutions,
    unsolved: Array,
    scratch: Scratch,
    room: Room,
) -> None:
    """Weigh within the clusters of the first ``count`` universes, and solve the profiles across them.

    Args:
        universes: with their clusters.
        settings: of each universe.
        profiles: over clusters.
        solvers: their addresses.
        first_slot: place of the first universe among the solutions.
        count: how many universes.
        posed: written.
        excess: (U, N) e of each cluster, written.
        solutions: written where a problem is solved.
        unsolved: (U, P) bool, written.
        scratch: for as many clusters as any universe has.
        room: likewise.
    """
    start, sizes, uppers = room.start, room.sizes, room.uppers
    for b in range(count):
        size, labels, covariance = universes.n_clusters[b], universes.labels[b], universes.covariance[b]
        by_cluster(labels, size, room)
        C = scratch.correlation[: size * size].reshape((size, size))
        float32_C = scratch.float32_correlation[: size * size].reshape((size, size))
        within(covariance, size, settings.negligible, settings.jitter, posed.inner[b], posed.riskless[b], room)
        correlate(covariance, labels, posed.inner[b], C, float32_C, room)
        for k in range(size):
            mean = 0.0
            for p in range(start[k], start[k + 1]):
                mean += room.inner[p] * universes.mean[b, room.assets[p]]
            excess[b, k] = room.rewards[EXCESS, k] = mean - settings.risk_free_rate[b]
        clusters = posed.aggressor_clusters[b]
        wanted = settings.n_aggressors[b]
        n_aggressors = choose_sleeve(
            universes.scores[b], labels, size, wanted, clusters, posed.aggressors[b], room.place
        )
        posed.sleeve_size[b], posed.fewer[b] = n_aggressors, n_aggressors < wanted
        for which in (WHOLE, CORE):  # the core's bounds are as if the aggressor clusters did not exist
            for k in range(size):
                sizes[k] = 0.0 if which == CORE and clusters[k] else start[k + 1] - start[k]
            kappa, beta, relaxed, raised = bounds(
                sizes[:size], settings.cluster_cap[b], settings.asset_cap[b], settings.slack[b], uppers[which]
            )
            posed.cluster[b, which], posed.asset[b, which] = kappa, beta
            posed.cap_relaxed[b, which], posed.asset_raised[b, which] = relaxed, raised
            for k in range(size):
                posed.upper[b, which, k] = uppers[which, k]
        _solve(C, float32_C, profiles, solvers, first_slot + b, solutions, unsolved[b], room)


@scalar
def covariances_of_clusters(
    universes: Universes, settings: Settings, which: Array, covariances: Array, room: Room
) -> None:
    """S of some universes, (F, N, N), in place: unit diagonal where there is no cluster."""
    n = universes.labels.shape[1]
    inner, riskless = np.zeros(n), np.empty(n, np.bool_)
    for f in range(len(which)):
        b, into = which[f], covariances[f]
        size, covariance = universes.n_clusters[b], universes.covariance[b]
        by_cluster(universes.labels[b], size, room)
        C, float32_C = np.empty((size, size)), np.empty((size, size), np.float32)
        within(covariance, size, settings.negligible, settings.jitter, inner, riskless, room)
        correlate(covariance, universes.labels[b], inner, C, float32_C, room)
        for k in range(len(into)):
            for j in range(len(into)):
                if k < size and j < size:
                    into[k, j] = C[k, j] * room.sigma[k] * room.sigma[j]
                else:
                    into[k, j] = k == j


@placing
def solve_assets(
    universes: Universes,
    settings: Settings,
    profiles: Profiles,
    solvers: Solvers,
    first_slot: int,
    count: int,
    solutions: Solutions,
    unsolved: Array,
    scratch: Scratch,
    room: Room,
) -> None:
    """`solve_clusters` for profiles over the assets, under the asset bound."""
    n = universes.active.shape[1]
    sigma, uppers, rewards = room.sigma, room.uppers, room.rewards
    C = scratch.correlation[: n * n].reshape((n, n))
    float32_C = scratch.float32_correlation[: n * n].reshape((n, n))
    for b in range(count):
        active, covariance = universes.active[b], universes.covariance[b]
        there = 0
        for i in range(n):
            there += active[i]
        bound = max(settings.asset_cap[b], settings.slack[b] / max(there, 1))
        for i in range(n):
            sigma[i] = math.sqrt(covariance[i, i]) if active[i] else 1.0
            uppers[0, i] = bound if active[i] else 0.0
            rewards[EXCESS, i] = universes.mean[b, i] - settings.risk_free_rate[b] if active[i] else 0.0
            rewards[VOLATILITY, i] = sigma[i] if active[i] else 0.0
        for i in range(n):
            factor = 1 / sigma[i]
            for j in range(i):
                rho = covariance[i, j] * (factor / sigma[j])
                C[i, j] = C[j, i] = rho
                float32_C[i, j] = float32_C[j, i] = rho
            C[i, i] = 1
            float32_C[i, i] = 1
        _solve(C, float32_C, profiles, solvers, first_slot + b, solutions, unsolved[b], room)
