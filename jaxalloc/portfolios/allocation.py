"""One universe, within its clusters and across them, as one pure function: what a user's `jit` and `vmap` take.

`estimate` turns returns into what every profile shares (moments, clusters, scores); `solve` turns that into portfolios.
A batch takes the same kernels apart: see `jaxalloc.engine.stages`.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.portfolios.describing import describe, kinds_of
from jaxalloc.portfolios.estimates import Estimates, Given, estimate
from jaxalloc.portfolios.posing import pose_assets, pose_clusters, see_assets
from jaxalloc.portfolios.profiles import PROFILES, solve_posed, weigh
from jaxalloc.portfolios.result import Allocation
from jaxalloc.portfolios.smooth import Kept, Scaled, Smooth, SmoothEstimates, portfolios_near, smooth_estimates
from jaxalloc.settings.config import AllocationConfig
from jaxalloc.settings.status import Status


def allocate_universe(
    x: Array, config: AllocationConfig, c: Array, a: Array, given: Given, backend: Backend
) -> Allocation:
    """Allocate one universe.

    Args:
        x: (T, N) returns.
        config: settings with cast numbers.
        c: (T,) observation weights.
        a: (N,) bool, the asset mask.
        given: what takes the place of an estimate.
        backend: static.
    """
    return _allocated(x, config, c, a, given, backend)[0]


@functools.partial(jax.custom_jvp, nondiff_argnums=(5,))
def _allocated(
    x: Array, config: AllocationConfig, c: Array, a: Array, given: Given, backend: Backend
) -> tuple[Allocation, Kept]:
    return _solved(estimate(x, config, c, a, given, backend=backend), config, backend)


@_allocated.defjvp
def _allocated_jvp(
    backend: Backend, primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[tuple[Allocation, Kept], tuple[Allocation, Kept]]:
    """Derivatives at the solution, with all that is discrete kept; NaN of an invalid universe.

    No loop is differentiated: `jaxalloc.portfolios.smooth` says what is. The tangents are linear in those given, so
    that JAX transposes them for reverse mode. What they are made of, `made` and `kept`, has derivatives by this same
    rule, so that second derivatives are right, too.
    """
    made, kept = _allocated(*primals, backend)
    x, config, c, _, given = primals
    numbers = x, config, c, given
    changes = tangents[0], tangents[1], tangents[2], tangents[4]
    valid = (made.status[0] & Status.INVALID.value) == 0
    mark = jnp.where(valid, 1, jnp.nan).astype(x.dtype)  # a factor, since a tangent is linear

    def smooth(x: Array, config: AllocationConfig, c: Array, given: Given) -> tuple[SmoothEstimates, Smooth]:
        estimates = smooth_estimates(x, c, config, given, kept.active)
        return estimates, near(estimates.mean, Scaled(estimates.covariance), config)

    here = smooth_estimates(x, c, config, given, kept.active)
    near = portfolios_near(here.mean, here.covariance, config, kept, backend)
    _, (estimates, portfolios) = jax.jvp(smooth, numbers, jax.tree.map(lambda t: _times(mark, t), changes))
    portfolios = jax.tree.map(lambda t: _times(mark, t), portfolios)
    tangent = jax.tree.map(_no_tangent, (made, kept))
    fields = {name: value for name, value in portfolios._asdict().items() if name != "solved"}
    allocation = dataclasses.replace(tangent[0], **fields, antifragility=_times(mark, estimates.antifragility))
    return (made, kept), (allocation, tangent[1]._replace(solved=portfolios.solved))


def _times(factor: Array, tangent: Any) -> Any:
    return tangent if tangent.dtype == jax.dtypes.float0 else factor * tangent


def _no_tangent(value: Array) -> Any:
    if jnp.issubdtype(value.dtype, jnp.floating):
        return jnp.zeros_like(value)
    return np.zeros(value.shape, jax.dtypes.float0)


def solve(estimates: Estimates, config: AllocationConfig, backend: Backend) -> Allocation:
    """Portfolios of one universe, as part of one program.

    Args:
        estimates: from `estimate`.
        config: settings with cast numbers.
        backend: static.

    Returns:
        `Allocation` of one universe.
    """
    return _solved(estimates, config, backend)[0]


def _solved(estimates: Estimates, config: AllocationConfig, backend: Backend) -> tuple[Allocation, Kept]:
    clustered, over_clusters = pose_clusters(estimates, config, estimates.active.shape[0], backend)
    assets = see_assets(estimates, config, backend)
    over_assets = pose_assets(assets)
    solutions = []
    for name in config.profiles:
        profile = PROFILES[name]
        if profile.solver is None:
            solutions.append(weigh(name, assets))
        else:
            solutions.append(solve_posed(name, over_assets if profile.over_assets else over_clusters, backend))
    kinds = jax.tree.map(jnp.asarray, kinds_of(config.profiles))
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *solutions)
    kept = Kept(
        active=estimates.active,
        labels=estimates.labels,
        sleeve=clustered.sleeve,
        solved=stacked.weights,
        altered=stacked.altered,
    )
    return describe(estimates, clustered, config, kinds, stacked, backend), kept
