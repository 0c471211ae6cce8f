"""Nested clustered optimisation (Lopez de Prado 2019, SSRN 3469961)."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from jaxalloc.kernels.clusters.within import sum_by_cluster, sum_by_pair
from jaxalloc.kernels.lanes.precision import is_negligible, jitter
from jaxalloc.kernels.lanes.products import dot
from jaxalloc.kernels.solvers.mean_variance import mean_variance
from jaxalloc.kernels.solvers.problem import Solution
from jaxalloc.kernels.solvers.tolerances import accepted
from jaxalloc.portfolios.baselines import Assets, synthetic_clusters

_MOST_TURNS = 8  # inside the clusters, where nearly always one is enough


def nco(assets: Assets) -> Solution:
    """Nested clustered optimisation (Lopez de Prado 2019, SSRN 3469961), long-only, of minimum variance.

    Minimum variance inside each cluster, then across the clusters' portfolios; no bound but w <= 1. The clusters are
    solved as one problem: with the covariances between clusters put to 0, its optimum is in each cluster proportional
    to that cluster's own. A cluster of far less variance than the others would take nearly all of the one problem's
    weight, and leave the others little of its accuracy. So each cluster's covariances are divided by the variance of
    its best portfolio so far. Clusters that are not solved yet have another turn, without the others.
    """
    start = _start_nested(assets)
    return lax.while_loop(lambda state: state.stage < 2, lambda state: _nested_turn(assets, state), start).solution


class _Nested(NamedTuple):
    """Where a nested optimisation is.

    Attributes:
        stage: () 0 inside the clusters, 1 across them, 2 done.
        turn: () turns so far.
        inner: (N,) weights inside the clusters, sum 1 in each.
        scale: (N,) what each asset's cluster's variances are divided by.
        gap: () the largest optimality gap of a cluster.
        open: (N,) bool, the asset's cluster is not solved yet.
        solution: the result, once the stage is 2.
    """

    stage: Array
    turn: Array
    inner: Array
    scale: Array
    gap: Array
    open: Array
    solution: Solution


def _start_nested(assets: Assets) -> _Nested:
    n, clusters = assets.active.shape[0], synthetic_clusters(assets)
    zero, no = jnp.zeros((), clusters.inner.dtype), jnp.bool_(False)
    nothing = Solution(
        weights=jnp.zeros_like(clusters.inner), gap=zero, iterations=jnp.int32(0), altered=no, converged=no
    )
    return _Nested(
        stage=jnp.int32(0),
        turn=jnp.int32(0),
        inner=clusters.inner,
        scale=jnp.where(assets.active, jnp.diagonal(clusters.covariance)[jnp.clip(assets.labels, 0, n - 1)], 1),
        gap=zero,
        open=assets.active,
        solution=nothing,
    )


def _nested_turn(assets: Assets, state: _Nested) -> _Nested:
    """Solve inside the clusters, or across them: one program for both."""
    labels, active = assets.labels, assets.active
    n, across = active.shape[0], state.stage == 1
    index = jnp.arange(n, dtype=jnp.int32)
    same = index[:, None] == index[None, :]
    blocks = jnp.where((labels[:, None] == labels[None, :]) | same, assets.covariance, 0)
    mixed, sizes, riskless = mixed_portfolios(assets, state.inner)
    covariance = jnp.where(across, mixed, blocks / state.scale[:, None])
    upper = jnp.where(across, sizes > 0, state.open).astype(blocks.dtype)
    result = mean_variance(covariance, jnp.zeros_like(upper), upper, assets.backend)

    # inside: each cluster's weights, scaled to sum 1; a cluster that got nothing keeps the weights it had
    of_asset = jnp.clip(labels, 0, n - 1)
    total = sum_by_cluster(result.weights, labels, n, assets.backend)[of_asset]
    taken = ~across & state.open & (total > 0)
    inner = jnp.where(taken, result.weights / jnp.where(total > 0, total, 1), state.inner)
    gap, variance, solved = _inner_gaps(blocks, inner, assets)
    still_open = active & ~solved[of_asset]
    ready = ~jnp.any(still_open) | (state.turn >= _MOST_TURNS - 1)

    solution = Solution(
        weights=result.weights[of_asset] * state.inner,
        gap=jnp.maximum(result.gap, state.gap),
        iterations=state.solution.iterations + result.iterations,
        altered=jnp.any(riskless),
        converged=result.converged & ~jnp.any(state.open),
    )
    return _Nested(
        stage=jnp.where(across, 2, jnp.where(ready, 1, 0)).astype(jnp.int32),
        turn=state.turn + 1,
        inner=inner,
        scale=jnp.where(active, variance[of_asset], 1),
        gap=jnp.where(across, state.gap, gap),
        open=jnp.where(across, state.open, still_open),
        solution=solution,
    )


def mixed_portfolios(assets: Assets, inner: Array) -> tuple[Array, Array, Array]:
    """Covariances (K, K) of the clusters' portfolios, the clusters' sizes, and which of them have no variance."""
    n, dtype = inner.shape[0], inner.dtype
    index = jnp.arange(n, dtype=jnp.int32)
    mixed = sum_by_pair(assets.covariance, inner, assets.labels, n, assets.backend)
    sizes = sum_by_cluster(assets.active.astype(dtype), assets.labels, n, assets.backend)
    members = sum_by_cluster(inner**2 * jnp.diagonal(assets.covariance), assets.labels, n, assets.backend)
    variance = jnp.diagonal(mixed)
    riskless = (sizes > 0) & is_negligible(variance, members)
    variance = jnp.where(riskless, jitter(dtype) * members, variance)
    variance = jnp.where(sizes > 0, variance, 1)
    mixed = jnp.where(index[:, None] == index[None, :], variance[None, :], (mixed + mixed.T) / 2)
    return mixed, sizes, riskless


def _inner_gaps(blocks: Array, inner: Array, assets: Assets) -> tuple[Array, Array, Array]:
    """The largest optimality gap of a cluster, their variances (K,), and which of them (K,) are solved.

    A cluster's gap is 1 - min_i (B v)_i / v'Bv, as a sum of terms that are not negative; 0 where nothing but rounding
    is left of its variance.
    """
    labels, n = assets.labels, inner.shape[0]
    eps, dtype = jnp.finfo(inner.dtype).eps, inner.dtype
    gradient = dot(blocks, inner)
    lowest = jnp.full(n, jnp.inf, dtype).at[jnp.where(labels >= 0, labels, n)].min(gradient, mode="drop")
    excess = jnp.maximum(gradient - lowest[jnp.clip(labels, 0, n - 1)], 0)
    slack = sum_by_cluster(jnp.where(assets.active, inner * excess, 0), labels, n, assets.backend)
    variance = sum_by_cluster(inner * gradient, labels, n, assets.backend)
    gross = sum_by_cluster(inner * dot(jnp.abs(blocks), inner), labels, n, assets.backend)
    risky = ~is_negligible(variance, gross)
    safe = jnp.where(risky, variance, 1)
    gap = jnp.where(risky, slack / safe, 0)
    solved = gap <= jnp.maximum(accepted(dtype), 8 * eps * gross / safe)
    return jnp.max(gap), safe, solved
