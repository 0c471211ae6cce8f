"""The measures of a universe's portfolios, each formula once, for JAX's arrays and for NumPy's.

`measure_universes` measures a chunk's universes on the device, `measure_estimate` the panel's own portfolios on the
host. `jaxalloc.settings.measures` says what the measures are called and in which order they stand.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxalloc.kernels.clusters.within import sum_by_cluster
from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.lanes.precision import flat_below
from jaxalloc.kernels.lanes.products import dot
from jaxalloc.portfolios.result import Allocation
from jaxalloc.settings.config import PERIODS_WITHOUT_DATES, AllocationConfig, is_auto
from jaxalloc.settings.measures import MEASURES

FEWEST_LEFT_OUT = 20  # rows that out-of-bag measures need

Namespace = Any  # `jax.numpy` or `numpy`


class Reference(NamedTuple):
    """What universes are compared with.

    Attributes:
        weights: (G, P, N) the panel's own portfolios at each of G points; NaN where it has none.
        returns: (T, N) the panel, 0 where missing; (0, N) where there is no out-of-bag.
        missing: (T, N) 1.0 where the panel has no return; likewise.
        periods_per_year: (G,) rows a year.
        risk_free_rate: (G,) annual simple rate that the Sharpe ratio subtracts.
    """

    weights: Any
    returns: Any
    missing: Any
    periods_per_year: Any
    risk_free_rate: Any

    def at(self, point: Any) -> Reference:
        """Return the reference of one point, without the axis G."""
        return self._replace(
            weights=self.weights[point],
            periods_per_year=self.periods_per_year[point],
            risk_free_rate=self.risk_free_rate[point],
        )


def _in_sample(
    xp: Namespace,
    result: Allocation,
    bets: Any,
    estimated: Any,
    risk_free_rate: Any,
    periods_per_year: Any,
    computed_in: Any,
) -> dict[str, Any]:
    """(P,) measures of one universe by its own estimates, by name; NaN where one has no meaning.

    Args:
        xp: the namespace of the arrays.
        result: of the universe, without a batch axis.
        bets: (P,) from `_effective_bets`.
        estimated: (P, N) weights of the panel's own portfolios, from which turnover is measured.
        risk_free_rate: annual simple rate.
        periods_per_year: rows a year.
        computed_in: the dtype in which the result was computed.
    """
    x = result.weights
    active = result.cluster_labels >= 0
    herfindahl = xp.sum(x**2, axis=1)
    by_cluster = xp.sum(result.cluster_weights**2, axis=1)
    moved = xp.where(active[None, :], xp.abs(x - estimated), 0)
    # the returns themselves are not at hand: their mean stands for the largest
    flat = flat_below(xp.abs(result.expected_return) / periods_per_year, computed_in)
    some = result.volatility > xp.sqrt(periods_per_year) * flat
    excess = result.expected_return - risk_free_rate
    return {
        "volatility": result.volatility,
        "expected_return": result.expected_return,
        "sharpe": xp.where(some, excess / xp.where(some, result.volatility, 1), xp.nan),
        "effective_assets": 1 / herfindahl,
        "effective_clusters": 1 / by_cluster,
        "effective_bets": bets,
        "concentration": herfindahl,
        "turnover": xp.where(xp.isnan(x[:, 0]), xp.nan, xp.sum(moved, axis=1) / 2),
    }


def _effective_bets(xp: Namespace, shares: Any) -> Any:
    """(...) exponential of the entropy of the clusters' (..., K) shares in the variance; those below 0 count as 0."""
    some = shares > 0  # none in an invalid universe
    total = xp.sum(xp.where(some, shares, 0), axis=-1)
    shares = xp.where(some, shares, 1) / xp.where(total > 0, total, 1)[..., None]
    entropy = -xp.sum(xp.where(some, shares * xp.log(shares), 0), axis=-1)
    return xp.where(total > 0, xp.exp(entropy), xp.nan)


def _stacked(xp: Namespace, measures: dict[str, Any]) -> Any:
    """(P, M) `MEASURES` from (P,) measures by name; NaN where one is not there."""
    absent = xp.full_like(measures["volatility"], xp.nan)
    return xp.stack([measures.get(name, absent) for name in MEASURES], axis=1)


# ---- on the device --------------------------------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnums=(0, 5))
def measure_universes(
    block: int, results: Allocation, left_out: Array, points: Array, reference: Reference, backend: Backend
) -> Array:
    """Measure a chunk's universes, a block at a time.

    Args:
        block: static, divides C.
        results: `Allocation`, leading axis C.
        left_out: (C, T) bool, the rows that each universe does not hold; (C, 0) where there is no out-of-bag.
        points: (C,) int32, each universe's point of the grid.
        reference: what to compare with.
        backend: static.

    Returns:
        (C, P, M) `MEASURES`; NaN where one has no meaning.
    """
    n_blocks = points.shape[0] // block
    blocks = jax.tree.map(lambda leaf: leaf.reshape(n_blocks, block, *leaf.shape[1:]), (results, left_out, points))
    one = jax.vmap(functools.partial(_measure_universe, backend=backend), in_axes=(0, 0, 0, None))
    measured = lax.map(lambda part: one(part[0], part[1], part[2], reference), blocks)
    return measured.reshape(-1, *measured.shape[2:])


def _measure_universe(
    result: Allocation, left_out: Array, point: Array, reference: Reference, backend: Backend
) -> Array:
    reference, labels = reference.at(point), result.cluster_labels
    shares = jax.vmap(lambda each: sum_by_cluster(each, labels, labels.shape[0], backend))(result.risk_contributions)
    bets = _effective_bets(jnp, shares)
    numbers = reference.risk_free_rate, reference.periods_per_year
    measured = _in_sample(jnp, result, bets, reference.weights, *numbers, computed_in=result.volatility.dtype)
    if left_out.shape[0]:
        measured |= _out_of_bag(result.weights, left_out, reference)
    return _stacked(jnp, measured)


def _out_of_bag(x: Array, left_out: Array, reference: Reference) -> dict[str, Array]:
    """Annual return, volatility and Sharpe ratio (P,) of constant weights over the rows left out."""
    held = jnp.nan_to_num(x)
    path = dot(held, reference.returns.T)
    # a row counts if every asset that is held has a return in it
    seen = left_out[None, :] & (dot((held > 0).astype(x.dtype), reference.missing.T) == 0)
    count = jnp.sum(seen, axis=1, dtype=x.dtype)
    enough = (count >= FEWEST_LEFT_OUT) & ~jnp.isnan(x[:, 0])
    mean = jnp.sum(jnp.where(seen, path, 0), axis=1) / jnp.maximum(count, 1)
    squares = jnp.sum(jnp.where(seen, (path - mean[:, None]) ** 2, 0), axis=1)
    annual = reference.periods_per_year * mean
    largest = jnp.max(jnp.where(seen, jnp.abs(path), 0), axis=1)
    varies = squares / jnp.maximum(count - 1, 1) > flat_below(largest, x.dtype) ** 2
    volatility = jnp.sqrt(reference.periods_per_year * squares / jnp.maximum(count - 1, 1))
    sharpe = (annual - reference.risk_free_rate) / jnp.where(varies, volatility, 1)
    return {
        "out_of_bag_return": jnp.where(enough, annual, jnp.nan),
        "out_of_bag_volatility": jnp.where(enough, volatility, jnp.nan),
        "out_of_bag_sharpe": jnp.where(enough & varies, sharpe, jnp.nan),
    }


# ---- on the host ----------------------------------------------------------------------------------------------------


def effective_bets(labels: np.ndarray, contributions: np.ndarray) -> np.ndarray:
    """(P,) effective number of bets: exp(- sum p ln p), p the clusters' shares in the variance that are above 0.

    Args:
        labels: (N,) clusters of the active assets, from 0.
        contributions: (P, N) their shares in the variance.
    """
    shares = [np.bincount(labels, each) for each in contributions]
    return np.array([_effective_bets(np, each[each > 0]) for each in shares])


def measure_estimate(estimate: Allocation, config: AllocationConfig) -> np.ndarray:
    """Measure the panel's own portfolios in float64: no row is out of bag, and their turnover from themselves is 0.

    Args:
        estimate: NumPy arrays without a batch axis.
        config: the settings that they were computed with.

    Returns:
        (P, M) `MEASURES`; NaN where one has no meaning.
    """
    wide = jax.tree.map(lambda leaf: np.asarray(leaf, float) if leaf.dtype.kind == "f" else leaf, estimate)
    active = wide.cluster_labels >= 0
    labels = wide.cluster_labels[active]
    bets = effective_bets(labels, wide.risk_contributions[:, active])
    periods = PERIODS_WITHOUT_DATES if is_auto(config.periods_per_year) else config.periods_per_year
    numbers = config.risk_free_rate, periods
    with np.errstate(invalid="ignore"):
        measured = _in_sample(np, wide, bets, wide.weights, *numbers, computed_in=estimate.volatility.dtype)
        return _stacked(np, measured)
