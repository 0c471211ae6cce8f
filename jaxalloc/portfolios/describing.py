"""From the solvers' weights to an `Allocation`: weights of the assets, statistics, lead assets, status."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxalloc.kernels.clusters.within import lead_assets, share_out, sum_by_cluster
from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.lanes.precision import is_negligible
from jaxalloc.kernels.lanes.products import dot
from jaxalloc.kernels.solvers.problem import Solution
from jaxalloc.portfolios.estimates import Estimates
from jaxalloc.portfolios.mending import mended
from jaxalloc.portfolios.posing import CORE, WHOLE, Clustered, asset_bound
from jaxalloc.portfolios.profiles import PROFILES
from jaxalloc.portfolios.result import Allocation
from jaxalloc.settings.config import AllocationConfig
from jaxalloc.settings.status import Status


class Kind(NamedTuple):
    """What a profile's weights are of, as numbers: no profile is part of a program.

    Attributes:
        assets: () bool, of the assets; else of the clusters.
        core: () bool, of the clusters of a barbell's core.
        bounded: () bool, the bounds apply.
        altered: () int32, the bit of `Status` that `Solution.altered` stands for.
    """

    assets: Any
    core: Any
    bounded: Any
    altered: Any


def kinds_of(names: Sequence[str]) -> Kind:
    """The kinds of profiles, NumPy arrays with a leading axis P."""
    profiles = [PROFILES[name] for name in names]
    return Kind(
        assets=np.array([not profile.clustered for profile in profiles], bool),
        core=np.array([profile.sleeve for profile in profiles], bool),
        bounded=np.array([profile.solver is not None for profile in profiles], bool),
        altered=np.array([int(profile.altered) for profile in profiles], np.int32),
    )


def describe(
    estimates: Estimates,
    clustered: Clustered,
    config: AllocationConfig,
    kinds: Kind,
    solutions: Solution,
    backend: Backend,
) -> Allocation:
    """Describe P portfolios of one universe; NaN, -1 and 0 for an invalid one.

    Args:
        estimates: of the universe.
        clustered: likewise, padded to M = N clusters.
        config: settings with cast numbers.
        kinds: (P,) each.
        solutions: leading axis P, weights (P, N) of clusters or of assets.
        backend: static.
    """
    valid, labels, n_assets = estimates.valid, estimates.labels, estimates.active.shape[0]
    limits = jax.tree.map(lambda leaf: jnp.where(_like(kinds.core, leaf), leaf[CORE], leaf[WHOLE]), clustered.limits)
    bound = jnp.where(kinds.bounded, asset_bound(estimates.active, config), 1)
    with jax.named_scope("mending"):
        variance = jnp.diagonal(estimates.covariance)
        members = sum_by_cluster(clustered.inner**2 * variance, labels, n_assets, backend)
        of_assets = kinds.assets[:, None]
        upper = jnp.where(of_assets, jnp.where(estimates.active, bound[:, None], 0), limits.upper)
        solutions = mended(solutions, jnp.where(of_assets, variance, members), upper)
    with jax.named_scope("asset_weights"):
        of_clusters = jnp.where(kinds.assets[:, None], 0, solutions.weights)
        share = functools.partial(share_out, backend=backend)
        shared = jax.vmap(share, in_axes=(0, None, None, 0))(of_clusters, clustered.inner, labels, limits.asset)
        weights = jnp.where(kinds.assets[:, None], solutions.weights, shared)
        summed = jax.vmap(lambda w: sum_by_cluster(w, labels, n_assets, backend))(weights)
        cluster_weights = jnp.where(kinds.assets[:, None], summed, of_clusters)
    asset_bounds = jnp.where(kinds.assets, bound, limits.asset)
    cluster_bounds = jnp.where(kinds.assets, 1, limits.cluster)

    # the sleeve beside the core: equal shares of its weight, to which no bound applies
    sleeve = clustered.sleeve
    total = jnp.where(sleeve.size > 0, config.aggressor_weight, 0)
    each = total / jnp.maximum(sleeve.size, 1).astype(weights.dtype)
    core = kinds.core[:, None]
    weights = jnp.where(core, jnp.where(sleeve.assets[None], each, (1 - total) * weights), weights)
    beside = jnp.where(sleeve.clusters[None], each, (1 - total) * cluster_weights)
    cluster_weights = jnp.where(core, beside, cluster_weights)
    ranking = jnp.where(core & sleeve.assets[None], 1, weights)  # leads its cluster even where its weight is 0
    left = jnp.where(kinds.core, 1 - total, 1)

    risk = risk_of(weights, estimates.mean, estimates.covariance)
    with jax.named_scope("lead_assets"):
        leads = jax.vmap(lead_assets, in_axes=(0, None, None))(ranking, labels, n_assets)

    def number(x: Array) -> Array:
        return jnp.where(valid, x, jnp.nan)

    return Allocation(
        weights=number(weights),
        cluster_labels=jnp.where(valid, labels, -1),
        n_clusters=jnp.where(valid, estimates.n_clusters, 0),
        cluster_weights=number(cluster_weights),
        lead_assets=jnp.where(valid, leads, -1),
        aggressors=sleeve.assets & jnp.any(kinds.core) & valid,
        antifragility=number(estimates.antifragility),
        volatility=number(risk.volatility),
        expected_return=number(risk.expected_return),
        risk_contributions=number(risk.contributions),
        asset_bound=number(left * asset_bounds),
        cluster_bound=number(left * cluster_bounds),
        optimality_gap=number(solutions.gap),
        iterations=jnp.where(valid, solutions.iterations, 0),
        status=jnp.where(
            valid, _status(estimates, clustered, limits, kinds, solutions), jnp.int32(Status.INVALID.value)
        ),
    )


class Risk(NamedTuple):
    """What P portfolios of one universe are expected to do.

    Attributes:
        volatility: (P,) annual.
        expected_return: (P,) annual.
        contributions: (P, N) share of each asset in the variance, sum 1; the weights if there is no variance.
    """

    volatility: Any
    expected_return: Any
    contributions: Any


def risk_of(weights: Array, mean: Array, covariance: Array) -> Risk:
    """Risk of portfolios.

    Args:
        weights: (P, N).
        mean: (N,) annual.
        covariance: (N, N) annual.
    """
    with jax.named_scope("statistics"):
        marginal = dot(weights, covariance)
        variance = jnp.sum(weights * marginal, axis=1)
        # a variance that is all rounding has no shares to speak of
        unhedged = dot(weights, jnp.sqrt(jnp.diagonal(covariance))) ** 2
        positive = ~is_negligible(variance, unhedged)
        share_of_risk = weights * marginal / jnp.where(positive, variance, 1)[:, None]
        return Risk(
            volatility=jnp.sqrt(jnp.maximum(variance, 0)),
            expected_return=dot(weights, mean),
            contributions=jnp.where(positive[:, None], share_of_risk, weights),
        )


def _like(flag: Array, leaf: Array) -> Array:
    """``flag`` (P,) with axes to broadcast against what follows the first axis of ``leaf``."""
    return flag.reshape(flag.shape + (1,) * (leaf.ndim - 1))


def _status(estimates: Estimates, clustered: Clustered, limits: Any, kinds: Kind, solutions: Solution) -> Array:
    """(P,) bits."""
    over_clusters = ~kinds.assets
    # a cluster without variance was given some, which matters where it may be held
    riskless = jnp.any(clustered.riskless[None] & (limits.upper > 0), axis=1)
    regularized = over_clusters & (kinds.altered == Status.RISK_REGULARIZED.value) & riskless
    return (
        _bit(estimates.dropped, Status.ASSET_DROPPED)
        | jnp.where(solutions.altered | regularized, kinds.altered, 0)
        | _bit(~solutions.converged, Status.NOT_CONVERGED)
        | _bit(over_clusters & limits.cap_relaxed, Status.CLUSTER_CAP_RELAXED)
        | _bit(over_clusters & limits.asset_raised, Status.ASSET_BOUND_RAISED)
        | _bit(kinds.core & clustered.sleeve.fewer, Status.FEWER_AGGRESSORS)
    )


def _bit(flag: Array, bit: Status) -> Array:
    return jnp.where(flag, jnp.int32(bit.value), jnp.int32(0))
