"""How much more variance than the best portfolio estimated ones have, where the covariance is known.

The setting is Soloviov's: four kinds of covariances, 10 to 100 assets, samples of half as many to ten times as many
days as assets. What counts is w'Sw over that of the portfolio of least variance, both by the true covariance S.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from sklearn.covariance import LedoitWolf

import jaxalloc as ja
from jaxalloc.kernels.moments.sample import sample_moments
from jaxalloc.kernels.moments.shrinkage import shrink_sample
from published.closed_form import closed_form, minimum_norm
from published.common import Compared, Plan, in_pieces, median_error
from published.hrp import hrp, oracle_hrp

TITLE = "Known covariance"
SOURCE = "Soloviov, the comparison of allocators under a known covariance"
MODELS = ("one factor", "nested blocks", "Wishart", "equicorrelation")
SIZES = (10, 30, 100)  # assets
DRAWS = 25  # of each model and number of assets
PIECE = 25  # samples at a time
RATIOS = (0.5, 1, 2, 5, 10)  # days over assets
SEED = 0
PUBLISHED = {"sample": 16.8, "HRP": 2.3, "Ledoit-Wolf": 1.8}  # medians at as many days as assets
UNCLUSTERED = ("sample", "HRP", "Ledoit-Wolf", "inverse variance")
CONFIG = ja.AllocationConfig(profiles=("min_variance", "risk_parity"))
CLUSTERED = ("clustered min_variance", "clustered risk_parity")
NAMES = (*UNCLUSTERED, *CLUSTERED)
TEXT = """Daily Gaussian returns, {draws} draws of each kind of covariance and number of assets. One factor: betas
U(0.5, 1.5) on a market at 15 % volatility; nested blocks: correlation 0.7 in fives, 0.4 in each half, 0.15 between;
Wishart: 2N degrees of freedom; equicorrelation 0.3; own volatilities U(10 %, 40 %). *sample* and *Ledoit-Wolf* are
minimum variance in closed form without bounds, *sample* with the pseudo-inverse where T <= N; clustered profiles have
the package's default bounds, 25 % a cluster and 20 % an asset."""


def truth(model: str, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a covariance (n, n) of daily returns."""
    sigma = rng.uniform(0.1, 0.4, n) / np.sqrt(252)
    if model == "one factor":
        beta = rng.uniform(0.5, 1.5, n) * 0.15 / np.sqrt(252)
        return np.outer(beta, beta) + np.diag(sigma**2)
    if model == "Wishart":
        factors = rng.normal(size=(n, 2 * n)) * sigma[:, None]
        return factors @ factors.T / (2 * n)
    if model == "nested blocks":  # fives in halves of the market
        small, large = np.arange(n) // 5, np.arange(n) // (n // 2)
        rho = 0.15 + 0.25 * (large[:, None] == large[None, :]) + 0.3 * (small[:, None] == small[None, :])
        rho = np.where((small[:, None] == small[None, :]) & (large[:, None] != large[None, :]), 0.45, rho)
    else:
        rho = np.full((n, n), 0.3)
    np.fill_diagonal(rho, 1)
    return rho * np.outer(sigma, sigma)


def draw(model: str, n: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """A covariance and ten times n days of Gaussian returns; shorter samples are their first days."""
    rng = np.random.default_rng((SEED, MODELS.index(model), n, number))
    covariance = truth(model, n, rng)
    return covariance, rng.normal(size=(10 * n, n)) @ np.linalg.cholesky(covariance).T


@jax.jit
@jax.vmap
def estimate(returns: Array, weights: Array) -> tuple[Array, Array]:
    """Weights (6, N) by `NAMES`, and status (2,) of the clustered ones.

    Where the sample covariance is singular the first are not those of the pseudo-inverse; see `minimum_norm`.

    Args:
        returns: (T, N).
        weights: (T,) 0 for a day that takes no part, else 1.
    """
    n = returns.shape[1]
    moments = sample_moments(returns, weights, jnp.ones(n, bool))
    shrunk = shrink_sample(moments, returns, weights, "ledoit_wolf").covariance
    inverse = 1 / jnp.diagonal(moments.covariance)
    clustered = ja.allocate(returns, CONFIG, weights)
    simple = [
        closed_form(moments.covariance, jnp.ones(n)),
        hrp(moments.covariance),
        closed_form(shrunk, jnp.ones(n)),
        inverse / jnp.sum(inverse),
    ]
    return jnp.concatenate([jnp.stack(simple), clustered.weights]), clustered.status


pseudo_inverse = jax.jit(jax.vmap(minimum_norm))


def excess(covariances: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """True variance over the least: (draws, estimators) of weights (draws, estimators, N)."""
    least = 1 / np.linalg.solve(covariances, np.ones((*covariances.shape[:2], 1))).sum(axis=(1, 2))
    return np.einsum("den,dnm,dem->de", weights, covariances, weights) / least[:, None]


def oracle(returns: np.ndarray) -> np.ndarray:
    """Weights (4, N) by `UNCLUSTERED` from one sample, by NumPy, SciPy and scikit-learn."""
    n_rows, n = returns.shape
    covariance = np.cov(returns, rowvar=False)
    sigma = np.sqrt(np.diag(covariance))
    ones = np.ones(n)
    plain = np.linalg.pinv(covariance, hermitian=True) @ ones if n_rows <= n else np.linalg.solve(covariance, ones)
    standard = (returns - returns.mean(axis=0)) / returns.std(axis=0)
    shrunk = LedoitWolf(assume_centered=True).fit(standard).covariance_ * np.outer(sigma, sigma)
    robust = np.linalg.solve(shrunk, ones)
    inverse = 1 / sigma**2
    return np.stack([plain / plain.sum(), oracle_hrp(covariance), robust / robust.sum(), inverse / inverse.sum()])


def settings(plan: Plan) -> tuple[tuple[int, ...], tuple[float, ...], int]:
    """Numbers of assets, days over assets, and draws of each model."""
    return ((10,), (0.5, 1, 2), 4) if plan.quick else (SIZES, RATIOS, DRAWS)


def samples(numbers: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Covariances and returns of draws, the models taking turns, so that numbers from 0 on hold all alike."""
    drawn = [draw(MODELS[i % len(MODELS)], n, int(i) // len(MODELS)) for i in numbers]
    covariances, returns = zip(*drawn, strict=True)
    return np.stack(covariances), np.stack(returns)


def first_days(draws: int, n: int, days: int) -> np.ndarray:
    """Observation weights (draws, 10 n) that leave a sample its first days."""
    return np.tile((np.arange(10 * n) < days).astype(float), (draws, 1))


class Found(NamedTuple):
    """What a setting gave: excess variances (samples, 6), status (samples, 2), and how far from the oracle (4,)."""

    excess: np.ndarray
    status: np.ndarray
    off: np.ndarray


def measure(n: int, ratio: float, draws: int, workers: int) -> Found:
    """Measure samples of n assets and ``ratio`` n days, ``draws`` of each model."""
    days = int(ratio * n)

    def task(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        covariances, returns = samples(numbers, n)
        rows = first_days(len(numbers), n, days)
        weights, status = (np.array(leaf) for leaf in estimate(jnp.asarray(returns), jnp.asarray(rows)))
        if days <= n:
            weights[:, 0] = pseudo_inverse(jnp.asarray(returns[:, :days]))
        return excess(covariances, weights), status, weights

    found, status, weights = in_pieces(task, draws * len(MODELS), PIECE, workers)
    off = np.zeros(len(UNCLUSTERED))
    for i, seen in enumerate(samples(np.arange(len(MODELS)), n)[1][:, :days]):
        off = np.maximum(off, distance(seen, weights[i]))
    return Found(found, status, off)


def distance(returns: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """How far the first four weights of a sample are from the oracle's (4,): the most over the largest weight."""
    expected = oracle(returns)
    return np.abs(weights[: len(expected)] - expected).max(axis=1) / np.abs(expected).max(axis=1)


def run(plan: Plan) -> dict[str, Any]:
    """Measure every setting."""
    sizes, ratios, draws = settings(plan)
    found = {(n, ratio): measure(n, ratio, draws, plan.workers) for n in sizes for ratio in ratios}
    by_ratio = {ratio: np.concatenate([found[n, ratio].excess for n in sizes]) for ratio in ratios}
    even = by_ratio[1]
    compared = []
    for name, figure in PUBLISHED.items():
        values = even[:, NAMES.index(name)]
        error = median_error(values)
        compared.append(Compared(f"as many days as assets: {name}", figure, np.median(values), error, 1, "factor 2"))
    of_model = [even[np.arange(len(even)) % len(MODELS) == m] for m in range(len(MODELS))]
    of_size = [found[n, 1].excess for n in sizes]
    total = draws * len(MODELS) * len(found)
    worst = np.max([one.off for one in found.values()], axis=0)
    return {
        "compared": compared,
        "tables": [
            {
                "caption": "Median of the variance over the least, by days over assets (T/N)",
                "headings": ["estimator", *(f"T/N = {ratio:g}" for ratio in ratios)],
                "rows": medians(list(by_ratio.values())),
            },
            {
                "caption": "The same at T = N, by kind of covariance and by number of assets",
                "headings": ["estimator", *MODELS, *(f"N = {n}" for n in sizes)],
                "rows": medians(of_model + of_size),
            },
        ],
        "problems": {"samples": total, "portfolios": total * len(NAMES)},
        "oracle": {
            f"{name} ({len(found) * len(MODELS)} samples)": off
            for name, off in zip(UNCLUSTERED, worst.tolist(), strict=True)
        },
        "facts": {"draws": draws, "sizes": sizes, "given_up": given_up(found)},
    }


def given_up(found: dict[tuple[int, float], Found]) -> dict[str, int]:
    """Samples of a setting in which a clustered profile's solver gave up short of its tolerance, if there are any."""
    counts = {
        f"N = {n}, T/N = {ratio:g}": int(((one.status & ja.Status.NOT_CONVERGED.value) != 0).any(axis=1).sum())
        for (n, ratio), one in found.items()
    }
    return {setting: count for setting, count in counts.items() if count}


def medians(groups: list[np.ndarray]) -> list[list[str]]:
    """A row an estimator, a column a group of excess variances (samples, 6)."""
    return [[name, *(f"{np.median(group[:, j]):.2f}" for group in groups)] for j, name in enumerate(NAMES)]


def words(found: dict[str, Any]) -> tuple[str, list[str]]:
    """What the page says before and after the figures."""
    facts = found["facts"]
    ours, published = ([row[which] for row in found["compared"]] for which in ("ours", "published"))
    same = np.argsort(ours).tolist() == np.argsort(published).tolist()
    notes = [
        f"The order of the three at T = N is {'the published one' if same else 'another one than published'}. "
        "The publication's parameters (volatilities, correlations, degrees of freedom, whether means are estimated, "
        "what stands for the inverse) are not known here; those above are ours. At T = N the covariance of a sample "
        "less its means has rank N - 1: there the pseudo-inverse is at its worst, and what it costs depends on N, as "
        "the last columns show."
    ]
    by_ratio = found["tables"][0]
    least = [
        f"{min(by_ratio['rows'], key=lambda row, i=i: float(row[i]))[0]} at {by_ratio['headings'][i]}"
        for i in range(1, len(by_ratio["headings"]))
    ]
    notes.append(
        f"The least of each column of the first table: {', '.join(least)}. Gaussian returns with a covariance that "
        "stands still are the case that closed forms are made for; long-only portfolios, bounded ones above all, "
        "cannot come near to 1 where the best portfolio is short of some assets."
    )
    if facts["given_up"]:
        listed = ", ".join(f"{count} at {setting}" for setting, count in facts["given_up"].items())
        notes.append(
            f"Of {len(MODELS) * facts['draws']} samples of a setting, those in which a clustered profile's solver gave "
            f"up short of its tolerance (status `NOT_CONVERGED`; their weights are feasible and count above): {listed}."
        )
    return TEXT.format(draws=facts["draws"]), notes
