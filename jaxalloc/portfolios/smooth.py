"""Portfolios of one universe as smooth functions of what they are made of, near a universe that has been allocated.

Which assets take part, their clusters, the sleeve, and what is at a bound are piecewise constant, and stay as they are.
Everything else is then a smooth function, in two halves as in `jaxalloc.portfolios.allocation`: `smooth_estimates` of
returns, weights and settings, and `portfolios_near` of the estimates and settings. The solvers enter by their equations
of optimality (`jaxalloc.kernels.solvers.implicit`), so that no loop is differentiated.

The values are those of the allocation up to rounding. What the functions are for is their derivatives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxalloc.kernels.clusters.within import Synthetic, share_out, sum_by_cluster, synthesize, weights_within
from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.lanes.precision import is_negligible, jitter
from jaxalloc.kernels.lanes.products import dot
from jaxalloc.kernels.moments.smooth import smooth_moments, smooth_tail
from jaxalloc.kernels.moments.tails import skewness
from jaxalloc.kernels.solvers.capped_simplex import bounds
from jaxalloc.kernels.solvers.implicit import (
    Product,
    mean_variance_face,
    mean_variance_near,
    risk_parity_face,
    risk_parity_near,
)
from jaxalloc.kernels.solvers.risk_parity.solve import RISK_PARITY
from jaxalloc.portfolios.barbell import Sleeve, antifragility
from jaxalloc.portfolios.baselines import Assets
from jaxalloc.portfolios.estimates import Given
from jaxalloc.portfolios.posing import VOLATILITY, asset_bound
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


class Scaled(NamedTuple):
    """A covariance in which volatilities move: matrix_ij scale_i scale_j.

    Attributes:
        matrix: (N, N).
        scale: (N,) factors of the volatilities; None for ones.
    """

    matrix: Array
    scale: Array | None = None

    @property
    def variance(self) -> Array:
        """(N,) diagonal."""
        own = jnp.diagonal(self.matrix)
        return own if self.scale is None else own * self.scale**2

    def product(self, vector: Array) -> Array:
        """The covariance times (N,), in N^2 steps whatever is differentiated."""
        if self.scale is None:
            return dot(self.matrix, vector)
        return self.scale * dot(self.matrix, self.scale * vector)

    def dense(self) -> Array:
        """(N, N)."""
        return self.matrix if self.scale is None else self.matrix * self.scale[:, None] * self.scale[None, :]


class _Limits(NamedTuple):
    """`Bounds` as a smooth function: upper (K,), cluster () and asset ()."""

    upper: Array
    cluster: Array
    asset: Array


class _Problem(NamedTuple):
    """A problem of a profile as a smooth function: covariance times a vector, reward (K,), bounds (K,)."""

    product: Product
    reward: Array
    upper: Array


class _View(NamedTuple):
    """One universe seen by its clusters and its assets, as a smooth function.

    Attributes:
        product: the clusters' covariance times (K,).
        inner: (N,) inverse-variance weights inside the clusters.
        excess: (K,) the clusters' mean less the risk-free rate.
        limits: of all clusters, and of a barbell's core.
        covariance: of the assets.
        assets: what profiles over assets see; its covariance only where it is asked for as a whole.
    """

    product: Product
    inner: Array
    excess: Array
    limits: tuple[_Limits, _Limits]
    covariance: Scaled
    assets: Assets

    def problem(self, profile: Profile) -> _Problem:
        """A profile's, as `jaxalloc.portfolios.posing` has it."""
        if not profile.over_assets:
            reward = jnp.zeros_like(self.excess) if profile.reward is None else self.excess
            return _Problem(product=self.product, reward=reward, upper=self.limits[profile.upper].upper)
        assets = self.assets
        if profile.reward == VOLATILITY:
            reward = jnp.where(assets.active, jnp.sqrt(jnp.where(assets.active, self.covariance.variance, 1)), 0)
        else:
            reward = jnp.zeros_like(assets.excess) if profile.reward is None else assets.excess
        return _Problem(product=self.covariance.product, reward=reward, upper=assets.upper)


Near = Callable[[_View], Array]


def portfolios_near(
    mean: Array, covariance: Array, config: AllocationConfig, kept: Kept, backend: Backend
) -> Callable[[Array, Scaled, AllocationConfig], Smooth]:
    """Portfolios as a smooth function of annual mean (N,), annual covariance and settings, near these.

    Args:
        mean: (N,) as estimated; 0 for an inactive asset.
        covariance: (N, N) likewise.
        config: settings with cast numbers.
        kept: of the universe.
        backend: static.
    """
    labels, n = kept.labels, len(mean)
    synthetic = synthesize(mean, covariance, kept.active, labels, config.risk_free_rate, n, backend)
    # of a cluster without variance: what it was given instead
    given = jnp.where(synthetic.riskless, jnp.diagonal(synthetic.covariance), 0)
    here = _view(mean, Scaled(covariance), config, kept, given, backend)
    profiles = [PROFILES[name] for name in config.profiles]
    near = [_near(name, place, here, synthetic, kept) for place, name in enumerate(config.profiles)]
    full = {
        place: _at_bound(kept.solved[place], here.limits[profile.upper], synthetic.inner, labels)
        for place, profile in enumerate(profiles)
        if profile.clustered
    }

    def smooth(mean: Array, covariance: Scaled, config: AllocationConfig) -> Smooth:
        view = _view(mean, covariance, config, kept, given, backend)
        made = []
        for place, profile in enumerate(profiles):
            solved, one = near[place](view), jnp.ones_like(config.asset_cap)
            if profile.clustered:
                of_clusters, bound = solved, view.limits[profile.upper]
                weights = _shared_out(solved, view.inner, labels, bound.asset, full[place], backend)
            else:
                weights, of_clusters = solved, sum_by_cluster(solved, labels, n, backend)
                at_most = jnp.max(view.assets.upper) if profile.over_assets else one
                bound = _Limits(upper=view.assets.upper, cluster=one, asset=at_most)
            if profile.sleeve:
                weights, of_clusters, left = _beside_sleeve(weights, of_clusters, config, kept.sleeve)
                bound = bound._replace(cluster=left * bound.cluster, asset=left * bound.asset)
            made.append(_described(solved, weights, of_clusters, bound, mean, covariance))
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *made)

    return smooth


def _view(
    mean: Array, covariance: Scaled, config: AllocationConfig, kept: Kept, given: Array, backend: Backend
) -> _View:
    n, labels, active = len(mean), kept.labels, kept.active
    of_asset, member = jnp.clip(labels, 0, n - 1), labels >= 0
    inner = weights_within(covariance.variance, active, labels, n, backend)
    sizes = sum_by_cluster(member.astype(mean.dtype), labels, n, backend)

    def product(weights: Array) -> Array:
        of_assets = jnp.where(member, inner * weights[of_asset], 0)
        return sum_by_cluster(inner * covariance.product(of_assets), labels, n, backend) + given * weights

    excess = sum_by_cluster(inner * mean, labels, n, backend) - config.risk_free_rate
    index = jnp.arange(n, dtype=jnp.int32)
    absent = (index[:, None] == index[None, :]) & ~active[:, None]
    assets = Assets(
        covariance=jnp.where(absent, 1, covariance.dense()),
        mean=mean,
        excess=jnp.where(active, mean - config.risk_free_rate, 0),
        active=active,
        labels=labels,
        upper=jnp.where(active, asset_bound(active, config), 0),
        config=config,
        backend=backend,
    )
    return _View(
        product=product,
        inner=inner,
        excess=jnp.where(sizes > 0, excess, 0),
        limits=(_limits(sizes, config), _limits(jnp.where(kept.sleeve.clusters, 0, sizes), config)),
        covariance=covariance,
        assets=assets,
    )


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


def _near(name: str, place: int, here: _View, synthetic: Synthetic, kept: Kept) -> Near:
    """A profile's weights of clusters or assets as a smooth function, near a universe."""
    profile, solved, altered, backend = PROFILES[name], kept.solved[place], kept.altered[place], here.assets.backend
    if profile.solver is None:
        formula = SMOOTH_FORMULAS[name](here.assets, solved)
        return lambda view: _of_sum_one(formula(view.assets))
    problem = here.problem(profile)
    covariance = here.assets.covariance if profile.over_assets else synthetic.covariance
    if profile.solver is RISK_PARITY:
        ridge = jnp.where(altered, jitter(covariance.dtype), 0) * jnp.diagonal(covariance)
        face = risk_parity_face(covariance + jnp.diag(ridge), problem.upper, solved, backend)

        def risk_parity(view: _View) -> Array:
            problem = view.problem(profile)
            return risk_parity_near(lambda w: problem.product(w) + ridge * w, problem.upper, face)

        return risk_parity
    rewarded = jnp.bool_(profile.reward is not None) & ~altered
    face = mean_variance_face(covariance, problem.reward, problem.upper, solved, rewarded, backend)
    return lambda view: mean_variance_near(*view.problem(profile), face)


def _at_bound(of_clusters: Array, limits: _Limits, inner: Array, labels: Array) -> Array:
    """(N,) bool, the assets that share their cluster's weight at the asset bound: of a profile over clusters."""
    of_clusters, bound, inner = map(jax.lax.stop_gradient, (of_clusters, limits.asset, inner))
    shared = share_out(of_clusters, inner, labels, bound, Backend.CPU)
    return (labels >= 0) & (shared >= bound * (1 - 8 * jnp.finfo(inner.dtype).eps))


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
    solved: Array, weights: Array, of_clusters: Array, bound: _Limits, mean: Array, covariance: Scaled
) -> Smooth:
    """One portfolio, as `jaxalloc.portfolios.describing` has it. One without variance has no derivative of its risk."""
    marginal = covariance.product(weights)
    variance, own = jnp.sum(weights * marginal), jax.lax.stop_gradient(covariance.variance)
    gross = jnp.sum(weights * jnp.sqrt(own))
    positive = ~is_negligible(variance, gross**2)
    safe = jnp.where(positive, variance, 1)
    return Smooth(
        solved=solved,
        weights=weights,
        cluster_weights=of_clusters,
        volatility=jnp.where(positive, jnp.sqrt(safe), 0),
        expected_return=jnp.sum(mean * weights),
        risk_contributions=jnp.where(positive, weights * marginal / safe, weights),
        asset_bound=bound.asset,
        cluster_bound=bound.cluster,
    )


def _of_sum_one(weights: Array) -> Array:
    total = jnp.sum(weights)
    return weights / jnp.where(total > 0, total, 1)
