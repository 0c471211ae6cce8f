"""From estimates to the problems of the solvers: across clusters, or across the assets themselves."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxalloc.kernels.clusters.within import synthesize
from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.solvers.capped_simplex import Bounds, bounds
from jaxalloc.portfolios.barbell import Sleeve, choose_sleeve
from jaxalloc.portfolios.baselines import Assets
from jaxalloc.portfolios.estimates import Estimates
from jaxalloc.settings.config import AllocationConfig

WHOLE, CORE = 0, 1  # places of the bounds of all clusters, and of a barbell's core
EXCESS, VOLATILITY = 0, 1  # places of the rewards


class Posed(NamedTuple):
    """Problems of one universe over M clusters or assets, which share a covariance.

    Attributes:
        covariance: (M, M) annual; unit diagonal where nothing is.
        rewards: (R, M) what a solver may maximise: excess returns and, over assets, volatilities; 0 where nothing is.
        uppers: (U, M) bounds on the weights; 0 where nothing is.
    """

    covariance: Array
    rewards: Array
    uppers: Array


class Clustered(NamedTuple):
    """One universe seen by its clusters, padded to M.

    Attributes:
        inner: (N,) inverse-variance weights inside the clusters.
        limits: `Bounds` with a leading axis: of all clusters, and of the core.
        riskless: (M,) bool, as in `Synthetic`.
        sleeve: of a barbell.
    """

    inner: Array
    limits: Bounds
    riskless: Array
    sleeve: Sleeve


def pose_clusters(
    estimates: Estimates, config: AllocationConfig, size: int, backend: Backend
) -> tuple[Clustered, Posed]:
    """Weigh within the clusters, choose the sleeve, and pose the problems across clusters.

    Args:
        estimates: of one universe.
        config: settings with cast numbers.
        size: static M, at least the universe's K.
        backend: static.

    Returns:
        What describing asks for, and the problems, with bounds of all clusters and of the core.
    """
    with jax.named_scope("within_clusters"):
        synthetic = synthesize(
            estimates.mean,
            estimates.covariance,
            estimates.active,
            estimates.labels,
            config.risk_free_rate,
            size,
            backend,
        )
    with jax.named_scope("sleeve"):
        sleeve = choose_sleeve(
            estimates.antifragility, estimates.labels, estimates.n_clusters, config.n_aggressors, size
        )
    # the core's bounds are as if the aggressor clusters did not exist
    sizes = jnp.stack([synthetic.sizes, jnp.where(sleeve.clusters, 0, synthetic.sizes)])
    limits = jax.vmap(bounds, in_axes=(0, None, None, None))(sizes, config.cluster_cap, config.asset_cap, config.slack)
    posed = Posed(covariance=synthetic.covariance, rewards=synthetic.excess[None], uppers=limits.upper)
    return Clustered(inner=synthetic.inner, limits=limits, riskless=synthetic.riskless, sleeve=sleeve), posed


def see_assets(estimates: Estimates, config: AllocationConfig, backend: Backend) -> Assets:
    """One universe seen by its assets, for profiles that weigh them directly."""
    active = estimates.active
    index = jnp.arange(active.shape[0], dtype=jnp.int32)
    absent = (index[:, None] == index[None, :]) & ~active[:, None]
    return Assets(
        covariance=jnp.where(absent, 1, estimates.covariance),
        mean=estimates.mean,
        excess=jnp.where(active, estimates.mean - config.risk_free_rate, 0),
        active=active,
        labels=estimates.labels,
        upper=jnp.where(active, asset_bound(active, config), 0),
        config=config,
        backend=backend,
    )


def pose_assets(assets: Assets) -> Posed:
    """Pose the problems over the assets under the asset bound."""
    volatility = jnp.where(assets.active, jnp.sqrt(jnp.diagonal(assets.covariance)), 0)
    rewards = jnp.stack([assets.excess, volatility])
    return Posed(covariance=assets.covariance, rewards=rewards, uppers=assets.upper[None])


def asset_bound(active: Array, config: AllocationConfig) -> Array:
    """() the bound on an asset of a profile over assets: max(asset cap, slack / active assets)."""
    count = jnp.sum(active, dtype=config.slack.dtype)
    return jnp.maximum(config.asset_cap, config.slack / jnp.maximum(count, 1))
