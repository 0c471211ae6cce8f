"""The registry of profiles. Each divides a portfolio among clusters, or among the assets themselves."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxalloc.kernels.lanes.adapter import lanes_last
from jaxalloc.kernels.lanes.backend import Backend, if_any
from jaxalloc.kernels.lanes.precision import is_off
from jaxalloc.kernels.solvers.mean_variance import mean_variance_lanes
from jaxalloc.kernels.solvers.problem import Solution, correlate
from jaxalloc.portfolios import baselines
from jaxalloc.portfolios.baselines import Assets, Posed, Solver, risk_parity_solver
from jaxalloc.portfolios.nco import nco
from jaxalloc.settings.status import Status


class Profile(NamedTuple):
    """A profile of either kind.

    Attributes:
        about: what it is, in words that follow its name.
        solver: over clusters: the kernel that weighs them; profiles with the same kernel share its program. None for a
            profile that weighs the assets.
        weigh: over assets: what makes weights, or a problem, of a universe. None for a clustered profile.
        rewarded: whether a clustered one sees the excess returns; otherwise they are 0.
        sleeve: whether it is the core beside a barbell's sleeve, and leaves the aggressor clusters out.
        altered: the bit that `Solution.altered` stands for; none where that says nothing new.
    """

    about: str
    solver: Solver | None = None
    weigh: Callable[[Assets], Solution | Posed] | None = None
    rewarded: bool = False
    sleeve: bool = False
    altered: Status = Status(0)

    @property
    def clustered(self) -> bool:
        """Whether it is solved over clusters."""
        return self.weigh is None


_REGULARIZED, _FALLBACK = Status.RISK_REGULARIZED, Status.SHARPE_FALLBACK

PROFILES: dict[str, Profile] = {
    "min_variance": Profile("the least variance that the caps allow", mean_variance_lanes),
    "risk_parity": Profile("equal risk from every cluster below its cap", risk_parity_solver, altered=_REGULARIZED),
    "max_sharpe": Profile(
        "the highest Sharpe ratio that the caps allow", mean_variance_lanes, rewarded=True, altered=_FALLBACK
    ),
    "barbell": Profile(
        "risk parity beside a sleeve of assets with more upside than downside",
        risk_parity_solver,
        sleeve=True,
        altered=_REGULARIZED,
    ),
    # profiles that weigh the assets themselves
    "equal_weight": Profile("the same weight for every asset", weigh=baselines.equal_weight),
    "inverse_variance": Profile("weights in inverse proportion to variances", weigh=baselines.inverse_variance),
    "inverse_volatility": Profile("weights in inverse proportion to volatilities", weigh=baselines.inverse_volatility),
    "hrp": Profile("hierarchical risk parity: the tree's leaves, halved again and again", weigh=baselines.hrp),
    "herc": Profile(
        "hierarchical equal risk contribution: the tree above the cut, split branch by branch",
        weigh=baselines.herc,
        altered=_REGULARIZED,
    ),
    "nco": Profile(
        "nested clustered optimisation: the least variance inside each cluster, then across them",
        weigh=nco,
        altered=_REGULARIZED,
    ),
    "asset_min_variance": Profile(
        "the least variance under the asset bound, whatever the clusters", weigh=baselines.asset_min_variance
    ),
    "asset_max_sharpe": Profile(
        "the highest Sharpe ratio under the asset bound, whatever the clusters",
        weigh=baselines.asset_max_sharpe,
        altered=_FALLBACK,
    ),
    "asset_risk_parity": Profile(
        "equal risk from every asset below the asset bound, whatever the clusters",
        weigh=baselines.asset_risk_parity,
        altered=_REGULARIZED,
    ),
    "max_diversification": Profile(
        "the highest ratio of the assets' average volatility to the portfolio's, under the asset bound",
        weigh=baselines.max_diversification,
    ),
}


def solve_profiles(
    names: tuple[str, ...], covariance: Array, excess: Array, uppers: Array, backend: Backend
) -> Solution:
    """Solve several clustered profiles of one universe, across its clusters.

    Args:
        names: P profiles.
        covariance: (K, K) S.
        excess: (K,) e = m - risk-free rate.
        uppers: (P, K) upper bounds of each profile.
        backend: static.

    Returns:
        `Solution` with a leading axis P.
    """
    return _in_lanes(names, backend)(covariance, excess, uppers)


@functools.cache
def _in_lanes(names: tuple[str, ...], backend: Backend) -> Callable[[Array, Array, Array], Solution]:
    return lanes_last(functools.partial(_solve, names, backend))


def _solve(names: tuple[str, ...], backend: Backend, covariance: Array, excess: Array, uppers: Array) -> Solution:
    """`solve_profiles` with lanes: (K, K, L), (K, L) and (P, K, L)."""
    risk = correlate(covariance)
    solutions: dict[str, Solution] = {}
    for solver in dict.fromkeys(PROFILES[name].solver for name in names):
        assert solver is not None
        together = [name for name in names if PROFILES[name].solver is solver]
        rewards = jnp.stack([excess if PROFILES[name].rewarded else jnp.zeros_like(excess) for name in together])
        upper = jnp.stack([uppers[names.index(name)] for name in together])
        with jax.named_scope("_".join(together)):
            solved = solver(risk, rewards, upper, backend)
        for i, name in enumerate(together):
            solutions[name] = jax.tree.map(lambda leaf, i=i: leaf[i], solved)
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *(solutions[name] for name in names))


def weigh_assets(names: tuple[str, ...], assets: Assets) -> tuple[Solution, Array]:
    """Solve several profiles over the assets of one universe.

    Args:
        names: P profiles.
        assets: the universe.

    Returns:
        `Solution` with a leading axis P, its weights materialised; and (P,) bool, whether the asset bound applies.
    """
    solved: dict[str, Solution] = {}
    posed: dict[str, Posed] = {}
    for name in names:
        weigh = PROFILES[name].weigh
        assert weigh is not None
        with jax.named_scope(name):
            answer = weigh(assets)
        if isinstance(answer, Posed):
            posed[name] = answer
        else:
            solved[name] = answer
    for solver in dict.fromkeys(problem.solver for problem in posed.values()):
        together = [name for name, problem in posed.items() if problem.solver is solver]
        rewards = jnp.stack([posed[name].excess for name in together])
        with jax.named_scope("_".join(together)):
            solutions = _posed_in_lanes(solver, assets.backend)(assets.covariance, rewards, assets.upper)
        for i, name in enumerate(together):
            solved[name] = jax.tree.map(lambda leaf, i=i: leaf[i], solutions)
    solutions = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(solved[name] for name in names))
    bounded = jnp.array([name in posed for name in names])
    return solutions._replace(weights=_scaled_to_one(solutions.weights, bounded)), bounded


@functools.cache
def _posed_in_lanes(solver: Solver, backend: Backend) -> Callable[[Array, Array, Array], Solution]:
    def solve(covariance: Array, rewards: Array, upper: Array) -> Solution:
        return solver(correlate(covariance), rewards, jnp.broadcast_to(upper[None], rewards.shape), backend)

    return lanes_last(solve)


def _scaled_to_one(weights: Array, bounded: Array) -> Array:
    """Weights (P, N), materialised, scaled to sum 1 where rounding has put the sum off; a solver's are left alone."""

    def divide(weights: Array, off: Array) -> Array:
        total = jnp.sum(weights, axis=1, keepdims=True)
        return weights / jnp.where(off, total, 1)

    off = ~bounded & is_off(jnp.sum(weights, axis=1))
    return if_any(off[:, None], divide, weights)
