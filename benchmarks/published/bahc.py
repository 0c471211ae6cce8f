"""BAHC, a covariance by bootstrapped average hierarchical clustering: Bongiorno & Challet (2021), PLoS ONE 16(1).

The correlations of each bootstrap copy of the sample are filtered: average linkage on 1 - rho, and each pair's
correlation becomes 1 less the height at which the tree joins it. BAHC is the mean of the filtered copies.
"""

from __future__ import annotations

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from jaxalloc.kernels.clusters.linkage import MergeTree, merge_tree
from jaxalloc.kernels.lanes.backend import backend_in_use
from jaxalloc.kernels.moments.sample import sample_moments
from jaxalloc.kernels.moments.shrinkage import shrink_sample
from jaxalloc.kernels.solvers.mean_variance import min_variance
from published import known_covariance
from published.closed_form import closed_form
from published.common import Plan, in_pieces


def joining_heights(tree: MergeTree) -> Array:
    """Heights (N, N) at which the tree joins each pair of assets, 0 on the diagonal: the cophenetic distances.

    A merge joins the first assets of two clusters, and all merges together are a tree over the assets in which a parent
    comes before its children. A pair is joined by the highest merge on the path between its two: for j that is its own
    merge, then the path on from its parent.
    """
    n = tree.parent.shape[0]
    index = jnp.arange(n, dtype=jnp.int32)

    def add(j: Array, heights: Array) -> Array:
        row = jnp.where(index < j, jnp.maximum(tree.height[j], heights[tree.parent[j]]), 0)
        return jnp.where(index[:, None] == j, row[None, :], jnp.where(index[None, :] == j, row[:, None], heights))

    return lax.fori_loop(1, n, add, jnp.zeros((n, n), tree.height.dtype))


def filtered(correlation: Array) -> Array:
    """Filter a correlation matrix (N, N) by average linkage."""
    n = correlation.shape[0]
    return 1 - joining_heights(merge_tree(1 - correlation, jnp.ones(n, bool), "average"))


def bahc(returns: Array, weights: Array, counts: Array) -> Array:
    """Estimate the covariance matrix.

    Args:
        returns: (T, N).
        weights: (T,) 0 for a row that takes no part, else 1.
        counts: (B, T) how often each bootstrap copy holds each row.

    Returns:
        (N, N) the mean of the filtered correlations, with the sample's variances. An asset that is constant in a copy
        is uncorrelated there.
    """
    every = jnp.ones(returns.shape[1], bool)

    def copy(count: Array) -> Array:
        return filtered(_correlation(sample_moments(returns, count, every).covariance))

    mean = jnp.mean(lax.map(copy, counts), axis=0)
    sigma = jnp.sqrt(jnp.diagonal(sample_moments(returns, weights, every).covariance))
    return mean * (sigma[:, None] * sigma[None, :])


def _correlation(covariance: Array) -> Array:
    variance = jnp.diagonal(covariance)
    inverse = jnp.where(variance > 0, 1 / jnp.sqrt(jnp.where(variance > 0, variance, 1)), 0)
    rho = covariance * (inverse[:, None] * inverse[None, :])
    index = jnp.arange(len(variance), dtype=jnp.int32)
    return jnp.where(index[:, None] == index[None, :], 1, rho)


bahc_batch = jax.jit(jax.vmap(bahc))


def oracle(returns: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The same by SciPy's cophenetic distances, from returns (T, N) and counts (B, T)."""
    total = np.zeros((returns.shape[1], returns.shape[1]))
    for count in counts:
        with np.errstate(invalid="ignore"):
            rho = np.corrcoef(np.repeat(returns, count, axis=0), rowvar=False)
        rho = np.nan_to_num(rho)
        np.fill_diagonal(rho, 1)
        tree = hierarchy.linkage(squareform(1 - rho, checks=False), "average")
        total += 1 - squareform(hierarchy.cophenet(tree))
    sigma = returns.std(axis=0, ddof=1)
    return total / len(counts) * np.outer(sigma, sigma)


# ---- against the sample and Ledoit-Wolf, where the covariance is known ----------------------------------------------

TITLE = "BAHC, a covariance by bootstrapped hierarchies"
SOURCE = "Bongiorno & Challet (2021), *Covariance matrix filtering with bootstrapped hierarchies*, PLoS ONE 16(1)"
COPIES = 100
PIECE = 20  # samples at a time
ESTIMATORS = ("sample", "Ledoit-Wolf", "BAHC")
KINDS = tuple(f"{name}, {kind}" for kind in ("closed form", "long-only") for name in ESTIMATORS)


@jax.jit
@jax.vmap
def portfolios(covariance: Array) -> Array:
    """Minimum variance weights (2, N): in closed form, and long-only."""
    ones = jnp.ones(covariance.shape[0])
    return jnp.stack([closed_form(covariance, ones), min_variance(covariance, ones, backend_in_use()).weights])


@jax.jit
@jax.vmap
def plain_and_shrunk(returns: Array, weights: Array) -> Array:
    """Covariances (2, N, N): the sample's, and Ledoit-Wolf's."""
    moments = sample_moments(returns, weights, jnp.ones(returns.shape[1], bool))
    shrunk = shrink_sample(moments, returns, weights, "ledoit_wolf")
    return jnp.stack([moments.covariance, shrunk.covariance])


def measure(n: int, ratio: float, draws: int, copies: int, workers: int) -> tuple[np.ndarray, float]:
    """Excess variances (samples, 6), long-only ones last; how far BAHC is from the oracle in the first, relative."""
    days = int(ratio * n)

    def task(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        covariances, returns = known_covariance.samples(numbers, n)
        seen, rows = returns[:, :days], known_covariance.first_days(len(numbers), n, days)
        sample, shrunk = np.swapaxes(plain_and_shrunk(jnp.asarray(returns), jnp.asarray(rows)), 0, 1)
        counts = np.stack([resamples(int(i), days, copies) for i in numbers])
        hierarchical = np.asarray(bahc_batch(jnp.asarray(seen), jnp.ones(seen.shape[:2]), jnp.asarray(counts)))
        found = [np.array(portfolios(jnp.asarray(matrix))) for matrix in (sample, shrunk, hierarchical)]
        if days <= n:
            found[0][:, 0] = known_covariance.pseudo_inverse(jnp.asarray(seen))
        weights = np.stack(found, axis=2).reshape(len(numbers), 2 * len(ESTIMATORS), n)
        return known_covariance.excess(covariances, weights), hierarchical

    excess, hierarchical = in_pieces(task, draws * len(known_covariance.MODELS), PIECE, workers)
    worst = 0.0
    for i, returns in enumerate(known_covariance.samples(np.arange(len(known_covariance.MODELS)), n)[1]):
        expected = oracle(returns[:days], resamples(i, days, copies).astype(int))
        worst = max(worst, float(np.abs(hierarchical[i] - expected).max() / np.abs(expected).max()))
    return excess, worst


def resamples(number: int, days: int, copies: int) -> np.ndarray:
    """Counts (copies, days) of a sample's bootstrap copies.

    A copy of fewer than three different days is drawn again: its correlations are all 1, -1 or none.
    """
    rng = np.random.default_rng((known_covariance.SEED, number, days))
    even = np.full(days, 1 / days)
    counts = rng.multinomial(days, even, copies)
    while (poor := (counts > 0).sum(axis=1) < 3).any():
        counts[poor] = rng.multinomial(days, even, poor.sum())
    return counts.astype(float)


def cost(n: int, copies: int) -> float:
    """Seconds for a covariance of a sample of T = N = n days, of a few on one core."""
    returns = jnp.asarray(known_covariance.samples(np.arange(4), n)[1][:, :n])
    counts = jnp.asarray(np.stack([resamples(i, n, copies) for i in range(4)]))
    bahc_batch(returns, jnp.ones((4, n)), counts).block_until_ready()  # compiles
    start = time.perf_counter()
    bahc_batch(returns, jnp.ones((4, n)), counts).block_until_ready()
    return (time.perf_counter() - start) / 4


def run(plan: Plan) -> dict[str, Any]:
    """Measure every setting."""
    sizes, ratios, draws = known_covariance.settings(plan)
    copies = 5 if plan.quick else COPIES
    found = {(n, ratio): measure(n, ratio, draws, copies, plan.workers) for n in sizes for ratio in ratios}
    pooled = {ratio: np.concatenate([found[n, ratio][0] for n in sizes]) for ratio in ratios}
    models, even = known_covariance.MODELS, pooled[1]
    of_model = [even[np.arange(len(even)) % len(models) == m] for m in range(len(models))]
    total = draws * len(models) * len(found)
    return {
        "compared": [],
        "tables": [
            {
                "caption": "Median of the variance over the least, by days over assets (T/N)",
                "headings": ["covariance, portfolio", *(f"T/N = {ratio:g}" for ratio in pooled)],
                "rows": medians(list(pooled.values())),
            },
            {
                "caption": "The same at T = N, by kind of covariance and by number of assets",
                "headings": ["covariance, portfolio", *models, *(f"N = {n}" for n in sizes)],
                "rows": medians(of_model + [found[n, 1][0] for n in sizes]),
            },
        ],
        "problems": {"merge trees": total * copies, "portfolios": len(KINDS) * total},
        "oracle": {
            f"BAHC against SciPy's cophenetic distances ({4 * len(found)} samples)": max(
                off for _, off in found.values()
            )
        },
        "facts": {"copies": copies, "seconds": {str(n): cost(n, copies) for n in sizes}},
    }


def medians(groups: list[np.ndarray]) -> list[list[str]]:
    """A row a covariance and portfolio, a column a group of excess variances (samples, 6)."""
    return [[name, *(f"{np.median(group[:, j]):.2f}" for group in groups)] for j, name in enumerate(KINDS)]


def words(found: dict[str, Any]) -> tuple[str, list[str]]:
    """What the page says before and after the figures."""
    facts = found["facts"]
    text = (
        f"Minimum variance on the samples of the section before; BAHC with {facts['copies']} copies. The publication "
        "gives a method and no figure to compare with."
    )
    costs = ", ".join(f"{1e3 * seconds:.3g} ms at N = {n}" for n, seconds in facts["seconds"].items())
    notes = [
        "One factor, nested blocks and equicorrelation are hierarchies, or nearly so, as BAHC takes a market "
        "to be; the Wishart covariances are not.",
        f"BAHC of one sample of T = N days takes {costs}, a few samples at a time: {facts['copies']} merge trees each, "
        "where the rest of an allocation takes one. It has draws of its own within each universe, which no other "
        "covariance of the package has. So it is not one of the settings of `covariance`; `allocate(covariance=...)` "
        "takes it as given.",
    ]
    return text, notes
