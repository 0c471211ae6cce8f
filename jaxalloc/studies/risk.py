"""Risk of portfolios that are given, such as bagged ones, by the moments of the universe that they are for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxalloc.engine.shapes import ASSETS, ROWS, canonical
from jaxalloc.portfolios.describing import Risk, risk_of
from jaxalloc.portfolios.estimates import moments_of
from jaxalloc.settings.config import AllocationConfig, cast_config


class Universe(NamedTuple):
    """A universe, and portfolios of it.

    Attributes:
        returns: (T, N) per period, in the asset's life finite.
        mask: (N,) bool, its assets.
        weights: (P, N) portfolios.
    """

    returns: np.ndarray
    mask: np.ndarray
    weights: np.ndarray


def risks_of(universes: Iterable[Universe], config: AllocationConfig, precision: int) -> list[Risk]:
    """Return the risk of the portfolios of each universe, NumPy arrays; NaN where weights are NaN.

    Args:
        universes: of P portfolios each.
        config: the settings, whose estimator of the covariance is taken.
        precision: 64 or 32, the bits that are computed in.
    """
    dtype = np.dtype(f"float{precision}")
    found = []
    with jax.enable_x64(precision == 64):
        numbers = cast_config(config, dtype)
        for universe in universes:
            n_rows, n_assets = universe.returns.shape
            # canonical sizes, so that a longer window or another asset compiles nothing
            below = canonical(n_rows, ROWS) - n_rows, canonical(n_assets, ASSETS) - n_assets
            returns = np.pad(np.nan_to_num(universe.returns).astype(dtype), tuple((0, more) for more in below))
            counts = np.pad(np.ones(n_rows, dtype), (0, below[0]))
            mask = np.pad(universe.mask, (0, below[1]))
            weights = np.pad(universe.weights.astype(dtype), ((0, 0), (0, below[1])))
            risk = jax.tree.map(np.asarray, _risk(returns, numbers, counts, mask, weights))
            found.append(risk._replace(contributions=risk.contributions[:, :n_assets]))
    return found


@jax.jit
def _risk(returns: Array, config: AllocationConfig, counts: Array, mask: Array, weights: Array) -> Risk:
    moments = moments_of(returns, config, counts, mask)
    years = config.periods_per_year
    risk = risk_of(jnp.nan_to_num(weights), years * moments.mean, years * moments.covariance)
    known = ~jnp.isnan(weights[:, 0])
    return jax.tree.map(lambda leaf: jnp.where(known.reshape(-1, *[1] * (leaf.ndim - 1)), leaf, jnp.nan), risk)
