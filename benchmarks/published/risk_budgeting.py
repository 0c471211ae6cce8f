"""Constrained risk budgeting: Richard & Roncalli (2019, arXiv 1902.05710), table 9."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import oracles

from jaxalloc.kernels.lanes.backend import backend_in_use
from jaxalloc.kernels.solvers.risk_parity.solve import risk_parity
from published.common import Compared, Plan

TITLE = "Constrained risk budgeting"
SOURCE = "Richard & Roncalli (2019), *Constrained Risk Budgeting Portfolios*, arXiv 1902.05710, table 9"
VOLATILITY = (5, 5, 7, 10, 15, 15, 15, 18)  # %
CORRELATION = (  # lower triangle, %
    (80,),
    (60, 40),
    (-20, -20, 50),
    (-10, -20, 30, 60),
    (-20, -10, 20, 60, 90),
    (-20, -20, 20, 50, 70, 60),
    (-20, -20, 30, 60, 70, 70, 70),
)
UNCAPPED = (26.8306, 28.6769, 11.4095, 9.7985, 5.6135, 5.9029, 6.6560, 5.1121)  # %
CAPPED = (25, 25, 13.6631, 10.6814, 6.2063, 6.5472, 7.2950, 5.6069)
CAP = 0.25


def covariance() -> np.ndarray:
    """Return the example's covariance (8, 8)."""
    rho = np.eye(len(VOLATILITY))
    for i, row in enumerate(CORRELATION, start=1):
        rho[i, : len(row)] = rho[: len(row), i] = np.array(row) / 100
    sigma = np.array(VOLATILITY) / 100
    return rho * np.outer(sigma, sigma)


def run(plan: Plan) -> dict[str, Any]:
    """Solve both problems, in one batch."""
    matrix = covariance()
    upper = np.array([np.ones(8), np.full(8, CAP)])
    budgets = functools.partial(risk_parity, backend=backend_in_use())
    solution = jax.jit(jax.vmap(budgets, in_axes=(None, 0)))(jnp.asarray(matrix), jnp.asarray(upper))
    weights = np.asarray(solution.weights)
    off = [float(np.abs(w - oracles.risk_parity(matrix, u)[0]).max()) for w, u in zip(weights, upper, strict=True)]
    compared = [
        Compared(f"{name}, asset {i + 1} (%)", published[i], 100 * float(w[i]))
        for name, published, w in (("uncapped", UNCAPPED, weights[0]), ("cap 25 %", CAPPED, weights[1]))
        for i in range(8)
    ]
    marginal = matrix @ weights[1]
    volatility = float(np.sqrt(weights[1] @ marginal))
    contributions = 100 * weights[1] * marginal / volatility**2
    below = contributions[weights[1] < CAP]
    compared += [
        Compared("cap 25 %: volatility (%)", 5.0958, 100 * volatility),
        Compared("cap 25 %: smallest risk contribution of those below the cap (%)", 13.767, below.min(), decimals=3),
        Compared("cap 25 %: largest risk contribution of those below the cap (%)", 13.767, below.max(), decimals=3),
    ]
    return {
        "compared": compared,
        "problems": {"risk parity": 2},
        "oracle": {"weights against SciPy, both problems": max(off)},
        "facts": {},
    }


def words(found: dict[str, Any]) -> tuple[str, list[str]]:
    """What the page says before and after the figures."""
    return "Risk parity of eight assets, without bounds and with 25 % at most in each.", []
