"""Thousands of universes reduced on the device to figures whose size does not grow with their number.

`reduce_universes` turns a range of a chunk's universes into a `Partial`; `Totals` adds partials up on the host. Counts
are whole numbers, whose sums know no order. Means and squared deviations are taken block by block, blocks that start at
fixed universes, and are merged in the order of the universes (Chan, Golub and LeVeque, 1983): another chunk or number
of devices gives the same bits.

Quantiles come from histograms. A bin holds the numbers that share sign, exponent and the first bits of the mantissa;
its width is 2**-7 (0.8 %) of a weight and 2**-8 (0.4 %) of any other figure. An order statistic is placed inside its
bin by its rank there, so it is off by less than the bin's width; weights below 2**-20 (1e-6), and other figures below
2**-30 in size, count as 0.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxalloc.kernels.clusters.within import sum_by_cluster
from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.lanes.products import dot
from jaxalloc.portfolios.result import Allocation

FEWEST_LEFT_OUT = 20  # rows that out-of-bag figures need
MEASURES = (
    "volatility",
    "expected_return",
    "sharpe",
    "effective_assets",
    "effective_clusters",
    "effective_bets",
    "concentration",
    "turnover",
    "out_of_bag_return",
    "out_of_bag_volatility",
    "out_of_bag_sharpe",
)


class Reference(NamedTuple):
    """What universes are compared with.

    Attributes:
        weights: (G, P, N) the point estimate's for each of G settings; NaN if it is invalid.
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


def measures(result: Allocation, left_out: Array, point: Array, reference: Reference, backend: Backend) -> Array:
    """(P, M) `MEASURES` of one universe; NaN where one has no meaning.

    Args:
        result: of the universe, without a batch axis.
        left_out: (T,) bool, the rows that it does not hold.
        point: () int32, which of the settings are its own.
        reference: what to compare with.
        backend: static.
    """
    x = result.weights
    reference = reference._replace(
        weights=reference.weights[point],
        periods_per_year=reference.periods_per_year[point],
        risk_free_rate=reference.risk_free_rate[point],
    )
    active = result.cluster_labels >= 0
    herfindahl = jnp.sum(x**2, axis=1)
    by_cluster = jnp.sum(result.cluster_weights**2, axis=1)
    moved = jnp.where(active[None, :], jnp.abs(x - reference.weights), 0)
    turnover = jnp.where(jnp.isnan(x[:, 0]), jnp.nan, jnp.sum(moved, axis=1) / 2)
    some = result.volatility > 0
    excess = result.expected_return - reference.risk_free_rate
    sharpe = jnp.where(some, excess / jnp.where(some, result.volatility, 1), jnp.nan)
    columns = [result.volatility, result.expected_return, sharpe, 1 / herfindahl, 1 / by_cluster]
    columns += [_effective_bets(result, backend), herfindahl, turnover]
    return jnp.stack(columns + list(_out_of_bag(x, left_out, reference)), axis=1)


def _effective_bets(result: Allocation, backend: Backend) -> Array:
    """(P,) exponential of the entropy of the clusters' shares in the variance; shares below 0 count as 0."""
    size = result.cluster_labels.shape[0]
    shares = jax.vmap(lambda shares: sum_by_cluster(shares, result.cluster_labels, size, backend))(
        result.risk_contributions
    )
    some = shares > 0  # none in an invalid universe
    total = jnp.sum(jnp.where(some, shares, 0), axis=1)
    shares = jnp.where(some, shares, 1) / jnp.where(total > 0, total, 1)[:, None]
    entropy = -jnp.sum(jnp.where(some, shares * jnp.log(shares), 0), axis=1)
    return jnp.where(total > 0, jnp.exp(entropy), jnp.nan)


def _out_of_bag(x: Array, left_out: Array, reference: Reference) -> tuple[Array, Array, Array]:
    """Annual return, volatility and Sharpe ratio (P,) of constant weights over the rows left out."""
    if left_out.shape[0] == 0:
        none = jnp.full(x.shape[0], jnp.nan, x.dtype)
        return none, none, none
    held = jnp.nan_to_num(x)
    path = dot(held, reference.returns.T)
    # a row counts in which every asset that is held has a return
    seen = left_out[None, :] & (dot((held > 0).astype(x.dtype), reference.missing.T) == 0)
    count = jnp.sum(seen, axis=1, dtype=x.dtype)
    enough = (count >= FEWEST_LEFT_OUT) & ~jnp.isnan(x[:, 0])
    mean = jnp.sum(jnp.where(seen, path, 0), axis=1) / jnp.maximum(count, 1)
    squares = jnp.sum(jnp.where(seen, (path - mean[:, None]) ** 2, 0), axis=1)
    annual = reference.periods_per_year * mean
    volatility = jnp.sqrt(reference.periods_per_year * squares / jnp.maximum(count - 1, 1))
    sharpe = (annual - reference.risk_free_rate) / jnp.where(volatility > 0, volatility, 1)
    defined = enough & (volatility > 0)
    nan = jnp.nan
    return jnp.where(enough, annual, nan), jnp.where(enough, volatility, nan), jnp.where(defined, sharpe, nan)


@functools.partial(jax.jit, static_argnums=(0, 5))
def measure_universes(
    block: int, results: Allocation, left_out: Array, points: Array, reference: Reference, backend: Backend
) -> Array:
    """(C, P, M) `measures` of a chunk's universes, computed a block at a time."""
    one = jax.vmap(functools.partial(measures, backend=backend), in_axes=(0, 0, 0, None))
    n_blocks = points.shape[0] // block
    blocks = jax.tree.map(lambda leaf: leaf.reshape(n_blocks, block, *leaf.shape[1:]), (results, left_out, points))
    found = lax.map(lambda part: one(part[0], part[1], part[2], reference), blocks)
    return found.reshape(-1, *found.shape[2:])


# ---- totals, on the host --------------------------------------------------------------------------------------------
