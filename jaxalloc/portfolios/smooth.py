"""Portfolios of one universe as smooth functions of what they are made of, near a universe that has been allocated.

Which assets take part, their clusters, the sleeve, and what is at a bound are piecewise constant, and stay as they are.
Everything else is then a smooth function, in two halves as in `jaxalloc.portfolios.allocation`: `smooth_estimates` of
returns, weights and settings, and `portfolios_near` of the estimates and settings. The solvers enter by their equations
of optimality (`jaxalloc.kernels.solvers.implicit`), so that no loop is differentiated.

The values are those of the allocation up to rounding. What the functions are for is their derivatives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxalloc.kernels.clusters.within import Synthetic, share_out, sum_by_cluster, synthesize
from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.lanes.precision import is_negligible, jitter
from jaxalloc.kernels.lanes.products import dot
from jaxalloc.kernels.moments.smooth import smooth_moments, smooth_tail
from jaxalloc.kernels.moments.tails import skewness
from jaxalloc.kernels.solvers.capped_simplex import bounds
from jaxalloc.kernels.solvers.implicit import (
    mean_variance_face,
    mean_variance_near,
    risk_parity_face,
    risk_parity_near,
)
from jaxalloc.kernels.solvers.risk_parity.solve import RISK_PARITY
from jaxalloc.portfolios.barbell import Sleeve, antifragility
from jaxalloc.portfolios.baselines import Assets
from jaxalloc.portfolios.estimates import Estimates, Given
from jaxalloc.portfolios.posing import VOLATILITY, see_assets
from jaxalloc.portfolios.profiles import PROFILES, Profile
from jaxalloc.portfolios.smooth_formulas import SMOOTH_FORMULAS
from jaxalloc.settings.config import AllocationConfig


class Kept(NamedTuple):
    """What is known of an allocated universe: all that is discrete, and the solvers' solutions.

    Attributes:
        active: (N,) bool.
        labels: (N,) int32 cluster labels.
        sleeve: of a barbell.
        solved: (P, N) the solvers' weights of clusters or assets, as each profile has it.
        altered: (P,) bool, as in `Solution`.
    """

    active: Array
    labels: Array
    sleeve: Sleeve
    solved: Array
    altered: Array


class Smooth(NamedTuple):
    """The numbers of an allocation that have derivatives, as in `Allocation`; and ``solved``, as in `Kept`."""

    solved: Array
    weights: Array
    cluster_weights: Array
    volatility: Array
    expected_return: Array
    risk_contributions: Array
    asset_bound: Array
    cluster_bound: Array


class SmoothEstimates(NamedTuple):
    """Annual mean (N,), annual covariance (N, N) and antifragility (N,); 0 for an inactive asset."""

    mean: Array
    covariance: Array
    antifragility: Array


def smooth_estimates(
    x: Array, weights: Array, config: AllocationConfig, given: Given, active: Array
) -> SmoothEstimates:
    """`jaxalloc.portfolios.estimates.annual_estimates` of a valid universe, as a smooth function.

    Args:
        x: (T, N) returns.
        weights: (T,) observation weights.
        config: settings with cast numbers.
        given: what takes the place of an estimate.
        active: (N,) bool.
    """
    decay = config.ewma_decay if config.covariance == "ewma" else None
    choice = config.covariance if given.covariance is None else "sample"
    moments = smooth_moments(x, weights, active, decay, choice)
    mean, covariance = config.periods_per_year * moments.mean, config.periods_per_year * moments.covariance
    both = active[:, None] & active[None, :]
    if given.mean is not None:
        mean = jnp.where(active, given.mean, 0)
    if given.covariance is not None:
        covariance = jnp.where(both, (given.covariance + given.covariance.T) / 2, 0)
    score = antifragility(skewness(moments), smooth_tail(x, weights, active).mean, active)
    return SmoothEstimates(mean=mean, covariance=covariance, antifragility=score)


# ---- from estimates to portfolios ------------------------------------------------------------------------------------


class _Limits(NamedTuple):
    """`Bounds` as a smooth function: upper (K,), cluster () and asset ()."""

    upper: Array
    cluster: Array
    asset: Array


class _Clusters(NamedTuple):
    """One universe seen by its clusters, as a smooth function; limits of all clusters, and of a barbell's core."""

    synthetic: Synthetic
    whole: _Limits
    core: _Limits


def portfolios_near(
    mean: Array, covariance: Array, config: AllocationConfig, kept: Kept, backend: Backend
) -> Callable[[Array, Array, AllocationConfig], Smooth]:
    """Portfolios as a smooth function of annual mean (N,), annual covariance (N, N) and settings, near these.

    Args:
        mean: (N,) as estimated; 0 for an inactive asset.
        covariance: (N, N) likewise.
        config: settings with cast numbers.
        kept: of the universe.
        backend: static.
    """
    labels, n = kept.labels, len(mean)
    clusters, assets = _see(mean, covariance, config, kept, backend)
    near = [_profile_near(name, place, clusters, assets, kept) for place, name in enumerate(config.profiles)]
    at_bound = [_at_bound(PROFILES[name], place, clusters, config, kept) for place, name in enumerate(config.profiles)]

    def smooth(mean: Array, covariance: Array, config: AllocationConfig) -> Smooth:
        clusters, assets = _see(mean, covariance, config, kept, backend)
        made = []
        for name, solve, full in zip(config.profiles, near, at_bound, strict=True):
            profile, solved = PROFILES[name], solve(clusters, assets)
            if full is not None:  # over clusters
                limit = clusters.core if profile.sleeve else clusters.whole
                weights = _shared_out(solved, clusters.synthetic.inner, labels, limit.asset, full, backend)
                of_clusters, asset_bound, cluster_bound = solved, limit.asset, limit.cluster
            else:
                weights, of_clusters = solved, sum_by_cluster(solved, labels, n, backend)
                asset_bound = jnp.max(assets.upper) if profile.over_assets else jnp.ones_like(config.asset_cap)
                cluster_bound = jnp.ones_like(config.asset_cap)
            if profile.sleeve:
                weights, of_clusters, left = _beside_sleeve(weights, of_clusters, config, kept.sleeve)
                asset_bound, cluster_bound = left * asset_bound, left * cluster_bound
            made.append(_described(solved, weights, of_clusters, asset_bound, cluster_bound, mean, covariance))
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *made)

    return smooth


def _see(
    mean: Array, covariance: Array, config: AllocationConfig, kept: Kept, backend: Backend
) -> tuple[_Clusters, Assets]:
    """A universe as its clusters and its assets see it."""
    n, labels, constant = len(mean), kept.labels, jax.lax.stop_gradient
    synthetic = synthesize(mean, covariance, kept.active, labels, config.risk_free_rate, n, backend)
    sizes = constant(synthetic.sizes)
    no = jnp.bool_(False)
    estimates = Estimates(
        mean=mean,
        covariance=covariance,
        active=kept.active,
        labels=labels,
        n_clusters=jnp.int32(0),
        antifragility=jnp.zeros_like(mean),
        dropped=no,
        valid=~no,
    )
    return _Clusters(
        synthetic=synthetic,
        whole=_limits(sizes, config),
        core=_limits(jnp.where(kept.sleeve.clusters, 0, sizes), config),
    ), see_assets(estimates, config, backend)


def _limits(sizes: Array, config: AllocationConfig) -> _Limits:
    """`jaxalloc.kernels.solvers.capped_simplex.bounds` as a smooth function; a bound that rises stays on its piece."""
    fixed = bounds(sizes, *map(jax.lax.stop_gradient, (config.cluster_cap, config.asset_cap, config.slack)))
    clusters = jnp.maximum(jnp.sum(sizes > 0, dtype=sizes.dtype), 1)
    cluster = jnp.maximum(config.cluster_cap, config.slack / clusters)
    asset = jnp.maximum(config.asset_cap, config.slack / jnp.maximum(jnp.sum(sizes), 1))
    # clusters that reach the cap just where the bound stops rising count as below it: they say where it stops
    capped = sizes * fixed.asset > fixed.cluster * (1 + 8 * jnp.finfo(sizes.dtype).eps)
    others = jnp.sum(jnp.where(capped, 0, sizes))
    risen = (config.slack - cluster * jnp.sum(capped, dtype=sizes.dtype)) / jnp.maximum(others, 1)
    asset = jnp.where(fixed.asset_raised & (others > 0), risen, asset)
    upper = jnp.where(capped & (sizes > 0), cluster, sizes * asset)
    return _Limits(upper=upper, cluster=cluster, asset=asset)


def _profile_near(
    name: str, place: int, clusters: _Clusters, assets: Assets, kept: Kept
) -> Callable[[_Clusters, Assets], Array]:
    """A profile's weights of clusters or assets as a smooth function, near a universe."""
    profile, solved, altered = PROFILES[name], kept.solved[place], kept.altered[place]
    if profile.solver is None:
        formula = SMOOTH_FORMULAS[name](assets, solved)
        return lambda _, assets: _of_sum_one(formula(assets))
    covariance, reward, upper = _problem(profile, clusters, assets)
    if profile.solver is RISK_PARITY:
        ridge = jnp.where(altered, jitter(covariance.dtype), 0) * jnp.eye(len(covariance), dtype=covariance.dtype)
        face = risk_parity_face(covariance * (1 + ridge), upper, solved, assets.backend)

        def risk_parity(clusters: _Clusters, assets: Assets) -> Array:
            covariance, _, upper = _problem(profile, clusters, assets)
            return risk_parity_near(covariance * (1 + ridge), upper, face)

        return risk_parity
    rewarded = jnp.bool_(profile.reward is not None) & ~altered
    face = mean_variance_face(covariance, reward, upper, solved, rewarded, assets.backend)
    return lambda clusters, assets: mean_variance_near(*_problem(profile, clusters, assets), face)


def _problem(profile: Profile, clusters: _Clusters, assets: Assets) -> tuple[Array, Array, Array]:
    """Covariance, reward and bounds of a profile that has a solver, as `jaxalloc.portfolios.posing` has them."""
    if not profile.over_assets:
        synthetic, limits = clusters.synthetic, clusters.core if profile.sleeve else clusters.whole
        reward = jnp.zeros_like(synthetic.excess) if profile.reward is None else synthetic.excess
        return synthetic.covariance, reward, limits.upper
    if profile.reward == VOLATILITY:
        reward = jnp.where(assets.active, jnp.sqrt(jnp.diagonal(assets.covariance)), 0)
    else:
        reward = jnp.zeros_like(assets.excess) if profile.reward is None else assets.excess
    return assets.covariance, reward, assets.upper


def _at_bound(profile: Profile, place: int, clusters: _Clusters, config: AllocationConfig, kept: Kept) -> Array | None:
    """(N,) bool, the assets that are at the asset bound inside their cluster; None of a profile over assets."""
    if not profile.clustered:
        return None
    synthetic, of_clusters = clusters.synthetic, kept.solved[place]
    sizes = jnp.where(kept.sleeve.clusters, 0, synthetic.sizes) if profile.sleeve else synthetic.sizes
    numbers = sizes, config.cluster_cap, config.asset_cap, config.slack
    fixed: Any = jax.lax.stop_gradient((bounds(*numbers).asset, of_clusters, synthetic.inner))
    asset_bound, of_clusters, inner = fixed
    shared = share_out(of_clusters, inner, kept.labels, asset_bound, Backend.CPU)
    return (kept.labels >= 0) & (shared >= asset_bound * (1 - 8 * jnp.finfo(inner.dtype).eps))


def _shared_out(
    of_clusters: Array, inner: Array, labels: Array, asset_bound: Array, full: Array, backend: Backend
) -> Array:
    """`share_out` as a smooth function, with the assets that are at the bound (N,) bool.

    Where all of a cluster's are, they share its weight alike.
    """
    size = len(of_clusters)
    of_asset, member = jnp.clip(labels, 0, size - 1), labels >= 0
    n_full = sum_by_cluster(full.astype(inner.dtype), labels, size, backend)
    rest = sum_by_cluster(jnp.where(full, 0, inner), labels, size, backend)
    some = rest > 0
    theta = (of_clusters - asset_bound * n_full) / jnp.where(some, rest, 1)
    alike = of_clusters / jnp.maximum(n_full, 1)
    at_bound = jnp.where(some[of_asset], asset_bound, alike[of_asset])
    return jnp.where(member, jnp.where(full, at_bound, theta[of_asset] * inner), 0)


def _beside_sleeve(
    weights: Array, of_clusters: Array, config: AllocationConfig, sleeve: Sleeve
) -> tuple[Array, Array, Array]:
    """Weights of assets and of clusters of a core and its sleeve, and () what is left to the core."""
    total = jnp.where(sleeve.size > 0, config.aggressor_weight, 0)
    each = total / jnp.maximum(sleeve.size, 1).astype(weights.dtype)
    return (
        jnp.where(sleeve.assets, each, (1 - total) * weights),
        jnp.where(sleeve.clusters, each, (1 - total) * of_clusters),
        1 - total,
    )


def _described(
    solved: Array,
    weights: Array,
    of_clusters: Array,
    asset_bound: Array,
    cluster_bound: Array,
    mean: Array,
    covariance: Array,
) -> Smooth:
    """One portfolio, as `jaxalloc.portfolios.describing` has it. One without variance has no derivative of its risk."""
    marginal = dot(covariance, weights)
    variance = jnp.sum(weights * marginal)
    own = jnp.diagonal(covariance)
    gross = jnp.sum(weights * jnp.sqrt(jnp.where(own > 0, own, 1)))
    positive = ~is_negligible(variance, gross**2)
    safe = jnp.where(positive, variance, 1)
    return Smooth(
        solved=solved,
        weights=weights,
        cluster_weights=of_clusters,
        volatility=jnp.where(positive, jnp.sqrt(safe), 0),
        expected_return=jnp.sum(mean * weights),
        risk_contributions=jnp.where(positive, weights * marginal / safe, weights),
        asset_bound=asset_bound,
        cluster_bound=cluster_bound,
    )


def _of_sum_one(weights: Array) -> Array:
    total = jnp.sum(weights)
    return weights / jnp.where(total > 0, total, 1)
