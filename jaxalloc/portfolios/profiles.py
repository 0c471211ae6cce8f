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
from jaxalloc.kernels.solvers.mean_variance import MEAN_VARIANCE
from jaxalloc.kernels.solvers.problem import Solution
from jaxalloc.kernels.solvers.risk_parity.solve import RISK_PARITY
from jaxalloc.kernels.solvers.steps import Solver, solve_all, whole
from jaxalloc.portfolios import baselines
from jaxalloc.portfolios.baselines import Assets
from jaxalloc.portfolios.nco import nco
from jaxalloc.portfolios.posing import CORE, EXCESS, VOLATILITY, WHOLE, Posed
from jaxalloc.settings.status import Status


class Profile(NamedTuple):
    """A profile: a problem that a solver solves over the clusters or over the assets, or a formula over the assets.

    Attributes:
        about: what it is, in words that follow its name.
        solver: what solves its problem; profiles with the same solver share its programs. None for a formula.
        formula: what makes weights of a universe; None where a solver does.
        over_assets: whether the problem is over the assets.
        reward: the place of its reward in `Posed.rewards`; None where risk is all that counts.
        sleeve: whether it is the core beside a barbell's sleeve, and leaves the aggressor clusters out.
        altered: the bit that `Solution.altered` stands for; none where that says nothing new.
    """

    about: str
    solver: Solver | None = None
    formula: Callable[[Assets], Solution] | None = None
    over_assets: bool = False
    reward: int | None = None
    sleeve: bool = False
    altered: Status = Status(0)

    @property
    def clustered(self) -> bool:
        """Whether it is solved over clusters."""
        return self.formula is None and not self.over_assets

    @property
    def upper(self) -> int:
        """The place of its bounds in `Posed.uppers`."""
        return CORE if self.sleeve else WHOLE


_REGULARIZED, _FALLBACK = Status.RISK_REGULARIZED, Status.SHARPE_FALLBACK

PROFILES: dict[str, Profile] = {
    "min_variance": Profile("the least variance that the caps allow", MEAN_VARIANCE),
    "risk_parity": Profile("equal risk from every cluster below its cap", RISK_PARITY, altered=_REGULARIZED),
    "max_sharpe": Profile(
        "the highest Sharpe ratio that the caps allow", MEAN_VARIANCE, reward=EXCESS, altered=_FALLBACK
    ),
    "barbell": Profile(
        "risk parity beside a sleeve of assets with more upside than downside",
        RISK_PARITY,
        sleeve=True,
        altered=_REGULARIZED,
    ),
    # profiles that weigh the assets themselves
    "equal_weight": Profile("the same weight for every asset", formula=baselines.equal_weight),
    "inverse_variance": Profile("weights in inverse proportion to variances", formula=baselines.inverse_variance),
    "inverse_volatility": Profile(
        "weights in inverse proportion to volatilities", formula=baselines.inverse_volatility
    ),
    "hrp": Profile("hierarchical risk parity: the tree's leaves, halved again and again", formula=baselines.hrp),
    "herc": Profile(
        "hierarchical equal risk contribution: the tree above the cut, split branch by branch",
        formula=baselines.herc,
        altered=_REGULARIZED,
    ),
    "nco": Profile(
        "nested clustered optimisation: the least variance inside each cluster, then across them",
        formula=nco,
        altered=_REGULARIZED,
    ),
    "asset_min_variance": Profile(
        "the least variance under the asset bound, whatever the clusters", MEAN_VARIANCE, over_assets=True
    ),
    "asset_max_sharpe": Profile(
        "the highest Sharpe ratio under the asset bound, whatever the clusters",
        MEAN_VARIANCE,
        over_assets=True,
        reward=EXCESS,
        altered=_FALLBACK,
    ),
    "asset_risk_parity": Profile(
        "equal risk from every asset below the asset bound, whatever the clusters",
        RISK_PARITY,
        over_assets=True,
        altered=_REGULARIZED,
    ),
    # Choueifaty & Coignard (2008), Toward Maximum Diversification, Journal of Portfolio Management 35(1)
    "max_diversification": Profile(
        "the highest ratio of the assets' average volatility to the portfolio's, under the asset bound",
        MEAN_VARIANCE,
        over_assets=True,
        reward=VOLATILITY,
    ),
}


def solve_posed(name: str, posed: Posed, backend: Backend) -> Solution:
    """Solve the problem of a profile over M clusters or assets, as part of one program.

    Args:
        name: of a profile that has a solver.
        posed: the universe's problems.
        backend: static.
    """
    profile = PROFILES[name]
    assert profile.solver is not None
    upper = posed.uppers[profile.upper]
    reward = jnp.zeros_like(upper) if profile.reward is None else posed.rewards[profile.reward]
    with jax.named_scope(name):
        return _in_lanes(profile.solver, backend)(posed.covariance, reward, upper)


@functools.cache
def _in_lanes(solver: Solver, backend: Backend) -> Callable[[Array, Array, Array], Solution]:
    def solve(covariance: Array, excess: Array, upper: Array) -> Solution:
        return solve_all(solver, whole(covariance, excess, upper), backend)

    return lanes_last(solve)


def weigh(name: str, assets: Assets) -> Solution:
    """Weights (N,) of a profile by formula, materialised."""
    formula = PROFILES[name].formula
    assert formula is not None
    with jax.named_scope(name):
        solution = formula(assets)
    return solution._replace(weights=_scaled_to_one(solution.weights))


def _scaled_to_one(weights: Array) -> Array:
    """Weights (N,), materialised, scaled to sum 1 where rounding has put the sum off."""

    def divide(weights: Array, off: Array) -> Array:
        return weights / jnp.where(off, jnp.sum(weights), 1)

    return if_any(is_off(jnp.sum(weights)), divide, weights)
