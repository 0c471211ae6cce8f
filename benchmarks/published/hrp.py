"""The Monte Carlo of hierarchical risk parity: Lopez de Prado (2016), and his book of 2018, 16.6.

Ten series, of which five are noisy copies of the others, suffer shocks after the first half of 520 days. Every 22 days
each method chooses a portfolio from the 260 days before. What counts is the variance over runs of the return compounded
over the second half.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import oracles
from jax import Array
from scipy.cluster import hierarchy
from scipy.spatial.distance import pdist

from jaxalloc.kernels.clusters.distance import correlation_distance
from jaxalloc.kernels.clusters.hierarchy import column_distance, hrp_weights, leaf_order
from jaxalloc.kernels.clusters.linkage import linkage_matrix
from jaxalloc.kernels.lanes.backend import backend_in_use
from jaxalloc.kernels.moments.sample import sample_moments
from jaxalloc.kernels.solvers.mean_variance import min_variance
from published.common import Compared, Plan, in_pieces, variance_error, variance_ratio_error

TITLE = "HRP Monte Carlo"
SOURCE = (
    "Lopez de Prado (2016), *Building Diversified Portfolios that Outperform Out of Sample*, Journal of Portfolio "
    "Management 42(4); *Advances in Financial Machine Learning* (2018), 16.6"
)
BASES, COPIES, SIGMA, NOISE = 5, 5, 1e-2, 0.25
DAYS, LOOKBACK, STEP = 520, 260, 22
RUNS = 10_000
SEED = 0
METHODS = ("HRP", "inverse variance", "minimum variance")
PUBLISHED = {"HRP": 0.0671, "inverse variance": 0.0928, "minimum variance": 0.1157}
DATES = tuple(range(LOOKBACK, DAYS, STEP))


def hrp(covariance: Array) -> Array:
    """HRP weights (N,) as first published: single linkage on the distances between the distance matrix's columns."""
    tree = linkage_matrix(column_distance(correlation_distance(covariance)), "single")
    return hrp_weights(covariance, leaf_order(tree))


def oracle_hrp(covariance: np.ndarray) -> np.ndarray:
    """The same of one covariance in NumPy and SciPy, list by list."""
    # from one triangle, so that rounding does not tell the two distances of a pair apart
    distance = oracles.correlation_distance(covariance)
    order = hierarchy.leaves_list(hierarchy.linkage(pdist(distance), "single"))
    weights, lists = np.ones(len(covariance)), [order]

    def risk(assets: np.ndarray) -> float:
        v = 1 / np.diag(covariance)[assets]
        return float(v @ covariance[np.ix_(assets, assets)] @ v / v.sum() ** 2)

    while lists:
        assets = lists.pop()
        if len(assets) > 1:
            first, second = assets[: len(assets) // 2], assets[len(assets) // 2 :]
            share = 1 - risk(first) / (risk(first) + risk(second))
            weights[first] *= share
            weights[second] *= 1 - share
            lists += [first, second]
    return weights


def market(number: int) -> np.ndarray:
    """Draw the returns (520, 10) of a run; they depend on its number alone."""
    rng = np.random.default_rng((SEED, number))
    bases = rng.normal(0, SIGMA, (DAYS, BASES))
    of = rng.integers(0, BASES, COPIES)  # the base of each copy
    x = np.hstack([bases, bases[:, of] + rng.normal(0, NOISE * SIGMA, (DAYS, COPIES))])
    first, second = rng.integers(LOOKBACK, DAYS - 1, 2)
    x[first, [of[0], BASES]] = -0.5
    x[second, [of[0], BASES]] = 2
    first, second = rng.integers(LOOKBACK, DAYS - 1, 2)
    x[first, of[-1]] = -0.5
    x[second, of[-1]] = 2
    return x


@jax.jit
@jax.vmap
def outcomes(x: Array) -> Array:
    """Compounded out-of-sample returns (3,) of the methods, from a run's returns (520, 10)."""
    rows, n = jnp.ones(LOOKBACK), x.shape[1]
    windows = jnp.stack([x[date - LOOKBACK : date] for date in DATES])
    held = jnp.pad(x, ((0, LOOKBACK), (0, 0)))  # days past the end earn nothing
    held = jnp.stack([held[date : date + STEP] for date in DATES])

    def choose(window: Array) -> Array:
        covariance = sample_moments(window, rows, jnp.ones(n, bool)).covariance
        inverse = 1 / jnp.diagonal(covariance)
        least = min_variance(covariance, jnp.ones(n), backend_in_use()).weights
        return jnp.stack([hrp(covariance), inverse / jnp.sum(inverse), least])

    daily = jnp.sum(held[:, None] * jax.vmap(choose)(windows)[:, :, None, :], axis=3)  # date, method, day
    return jnp.prod(1 + daily, axis=(0, 2)) - 1


def oracle(x: np.ndarray) -> np.ndarray:
    """The same of one run in NumPy and SciPy."""
    value = np.ones(3)
    for date in DATES:
        covariance = np.cov(x[date - LOOKBACK : date], rowvar=False)
        inverse = 1 / np.diag(covariance)
        least = oracles.min_variance(covariance, np.ones(len(covariance)))
        weights = np.stack([oracle_hrp(covariance), inverse / inverse.sum(), least])
        value *= np.prod(1 + x[date : date + STEP] @ weights.T, axis=0)
    return value - 1


def run(plan: Plan) -> dict[str, Any]:
    """Run the Monte Carlo."""
    n, checked = (40, 2) if plan.quick else (RUNS, 50)

    def task(numbers: np.ndarray) -> Array:
        return outcomes(jnp.asarray(np.stack([market(int(i)) for i in numbers])))

    found = in_pieces(task, n, 20 if plan.quick else 250, plan.workers)  # (n, 3)
    worst = max(float(np.abs(found[i] - oracle(market(i))).max()) for i in range(checked))
    by = dict(zip(METHODS, found.T, strict=True))
    compared = [
        Compared(
            f"variance of the return: {name}", PUBLISHED[name], float(x.var(ddof=1)), variance_error(x), rule="errors"
        )
        for name, x in by.items()
    ]
    for name in METHODS[1:]:
        published, ours = PUBLISHED[name] / PUBLISHED["HRP"], by[name].var() / by["HRP"].var()
        error = variance_ratio_error(by[name], by["HRP"])
        compared.append(Compared(f"that of {name} over that of HRP", published, float(ours), error, 3, "errors"))
    problems = n * len(DATES)
    return {
        "compared": compared,
        "problems": dict.fromkeys(METHODS, problems),
        "oracle": {f"out-of-sample returns against NumPy and SciPy, {checked} runs": worst},
        "facts": {"runs": n},
    }


def words(found: dict[str, Any]) -> tuple[str, list[str]]:
    """What the page says before and after the figures."""
    text = (
        f"{found['facts']['runs']:,} runs of ten series over {DAYS} days, {len(DATES)} rebalances each. Minimum "
        "variance is long-only: the problem that the publication solves by the critical line algorithm."
    )
    return text, []
