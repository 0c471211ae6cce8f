"""What a portfolio hangs on: the trades that one standard error of each estimate would cause.

Of n independent observations the standard error of a mean is sigma / sqrt(n), and that of a volatility about
sigma / sqrt(2 n), as of normal returns. A mean that was off by so much, or a volatility with its correlations kept,
would have given another portfolio. To first order the difference is the derivative of the weights times the standard
error, with clusters and what is at a bound kept; half the sum of its absolute values is a one-way turnover.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.portfolios.barbell import Sleeve
from jaxalloc.portfolios.estimates import Estimates
from jaxalloc.portfolios.profiles import PROFILES
from jaxalloc.portfolios.smooth import Kept, Scaled, portfolios_near
from jaxalloc.settings.config import AllocationConfig

_DENSE = 8  # directions at once of a profile that reads whole covariances


class Sensitivities(NamedTuple):
    """Of one universe and profile. Entries of an inactive asset are 0, all NaN in an invalid universe.

    Attributes:
        mean_turnover: (N,) one-way turnover that one standard error of an asset's mean would cause.
        volatility_turnover: (N,) likewise of its volatility.
        mean_error: (N,) the standard error of its annual mean.
        volatility_error: (N,) the standard error of its annual volatility.
    """

    mean_turnover: Array
    volatility_turnover: Array
    mean_error: Array
    volatility_error: Array


def sensitivities(
    estimates: Estimates,
    sleeve: Sleeve,
    config: AllocationConfig,
    solved: Array,
    altered: Array,
    n_observations: Array,
    name: str,
    backend: Backend,
) -> Sensitivities:
    """Measure what a profile's portfolio of one universe hangs on.

    Args:
        estimates: of the universe.
        sleeve: of its barbell.
        config: settings with cast numbers.
        solved: (N,) the solver's weights of clusters or of assets.
        altered: () bool, as in `Solution`.
        n_observations: () n.
        name: static, of the profile.
        backend: static.
    """
    mean, covariance, active = estimates.mean, estimates.covariance, estimates.active
    config = config.replace(profiles=(name,))
    kept = Kept(active=active, labels=estimates.labels, sleeve=sleeve, solved=solved[None], altered=altered[None])
    near = portfolios_near(mean, covariance, config, kept, backend)
    nothing = jnp.zeros_like(mean)

    def weights(means: Array, logs: Array) -> Array:
        return near(mean + means, Scaled(covariance, jnp.exp(logs)), config).weights[0]

    _, linear = jax.linearize(weights, nothing, nothing)

    def turnovers(direction: Array) -> tuple[Array, Array]:
        of_mean, of_volatility = linear(direction, nothing), linear(nothing, direction)
        return jnp.sum(jnp.abs(of_mean)) / 2, jnp.sum(jnp.abs(of_volatility)) / 2

    directions = jnp.eye(len(mean), dtype=mean.dtype)
    if PROFILES[name].formula is None:
        of_mean, of_volatility = jax.vmap(turnovers)(directions)
    else:
        of_mean, of_volatility = lax.map(turnovers, directions, batch_size=_DENSE)
    n = jnp.maximum(n_observations, 1)
    deviation = jnp.sqrt(jnp.where(active, jnp.diagonal(covariance), 0))
    mean_error = deviation * jnp.sqrt(config.periods_per_year / n)
    relative = 1 / jnp.sqrt(2 * n)
    made = Sensitivities(
        mean_turnover=of_mean * mean_error,
        volatility_turnover=of_volatility * relative,
        mean_error=mean_error,
        volatility_error=deviation * relative,
    )
    return jax.tree.map(lambda values: jnp.where(estimates.valid, jnp.where(active, values, 0), jnp.nan), made)
