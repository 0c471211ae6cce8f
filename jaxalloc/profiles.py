"""Layer 1: the registry of profiles, each a way to share a portfolio out over clusters."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxalloc.lanes import lanes_last
from jaxalloc.quadratic import Solution, mean_variance_lanes
from jaxalloc.risk_parity import risk_parity_lanes
from jaxalloc.status import Status

# takes S (K, K, L), e (K, L) and u (K, L), all annual, of L universes
Solver = Callable[[Array, Array, Array], Solution]


class Profile(NamedTuple):
    """How a profile is solved.

    Attributes:
        solver: the kernel; profiles that share one share its program.
        rewarded: whether it sees the excess returns; otherwise they are 0.
        sleeve: whether it is the core beside a barbell's sleeve, and leaves the aggressor clusters out.
        altered: the bit that `Solution.altered` stands for; none where that says nothing new.
    """

    solver: Solver
    rewarded: bool
    sleeve: bool
    altered: Status


def _risk_parity(covariance: Array, excess: Array, upper: Array) -> Solution:
    return risk_parity_lanes(covariance, upper)


PROFILES: dict[str, Profile] = {
    "min_variance": Profile(mean_variance_lanes, False, False, Status(0)),
    "risk_parity": Profile(_risk_parity, False, False, Status.RISK_REGULARIZED),
    "max_sharpe": Profile(mean_variance_lanes, True, False, Status.SHARPE_FALLBACK),
    "barbell": Profile(_risk_parity, False, True, Status.RISK_REGULARIZED),
}


def solve_profiles(names: tuple[str, ...], covariance: Array, excess: Array, uppers: Array) -> Solution:
    """Solve Layer 1 for several profiles of one universe.

    Args:
        names: P profiles.
        covariance: (K, K) S.
        excess: (K,) e = m - risk-free rate.
        uppers: (P, K) upper bounds of each profile.

    Returns:
        `Solution` with a leading axis P.
    """
    return _in_lanes(names)(covariance, excess, uppers)


@functools.cache
def _in_lanes(names: tuple[str, ...]) -> Callable[[Array, Array, Array], Solution]:
    return lanes_last(functools.partial(_solve, names))


def _solve(names: tuple[str, ...], covariance: Array, excess: Array, uppers: Array) -> Solution:
    """`solve_profiles` with lanes: (K, K, L), (K, L) and (P, K, L)."""
    solutions: dict[str, Solution] = {}
    for solver in dict.fromkeys(PROFILES[name].solver for name in names):
        together = [name for name in names if PROFILES[name].solver is solver]
        rewards = jnp.stack([excess if PROFILES[name].rewarded else jnp.zeros_like(excess) for name in together])
        upper = jnp.stack([uppers[names.index(name)] for name in together])
        with jax.named_scope("_".join(together)):
            # one after the other: side by side they would want the covariance twice, and outgrow the cache
            solved = lax.map(lambda problem, solver=solver: solver(covariance, *problem), (rewards, upper))
        for i, name in enumerate(together):
            solutions[name] = jax.tree.map(lambda leaf, i=i: leaf[i], solved)
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *(solutions[name] for name in names))
