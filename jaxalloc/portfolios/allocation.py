"""One universe, within its clusters and across them, as one pure function: what a user's `jit` and `vmap` take.

`estimate` turns returns into what every profile shares (moments, clusters, scores); `solve` turns that into portfolios.
A batch takes the same kernels apart: see `jaxalloc.engine.stages`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.portfolios.describing import describe, kinds_of
from jaxalloc.portfolios.estimates import Estimates, Given, estimate
from jaxalloc.portfolios.posing import pose_assets, pose_clusters, see_assets
from jaxalloc.portfolios.profiles import PROFILES, solve_posed, weigh
from jaxalloc.portfolios.result import Allocation
from jaxalloc.settings.config import AllocationConfig


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
    return solve(estimate(x, config, c, a, given, backend=backend), config, backend)


def solve(estimates: Estimates, config: AllocationConfig, backend: Backend) -> Allocation:
    """Portfolios of one universe, as part of one program.

    Args:
        estimates: from `estimate`.
        config: settings with cast numbers.
        backend: static.

    Returns:
        `Allocation` of one universe.
    """
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
    return describe(estimates, clustered, config, kinds, stacked, backend)
