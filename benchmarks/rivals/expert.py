"""The expert's loop: what a quant who knows the tools would run on a CPU, one universe after another on every core.

It does the whole job and to the same accuracy as the engine in float64: the partition is SciPy's, optimality gaps are
below 1e-9, sums and bounds hold to rounding. In order: NumPy draws the rows; BLAS gives the covariance of the rows used
(a symmetric product, half the work); numba the rest, but for the quadratic programs, which are DAQP's, a C active-set
solver. What makes it fast beyond that:

- skewness by one matrix product of a chunk's counts with the panel's cubes; the tail gain from the panel's one-time
  sort, whose first dozen entries an asset hold it;
- average linkage that stops at the threshold, on those assets only that have a neighbour within it;
- quadratic programs by columns: twenty clusters first, then those that would join;
- the maximum Sharpe ratio in its homogeneous form, with a few caps first, then those that are not kept;
- risk parity by cyclical coordinate descent in the variance metric, with Newton steps where hedges slow it down.

``plain=True`` is the same loop as most would write it: SciPy's ``linkage`` and ``fcluster``, and DAQP on all clusters
with all caps at once. Its quadratic programs end at gaps of up to 1e-6 where there are more clusters than distinct
rows, for DAQP then regularises a singular matrix.

What it leaves out of the engine's job: no status, volatility, return, risk contributions or gaps come back; no masks,
no constant columns, no settings but the defaults.
"""

from __future__ import annotations

from typing import Any

import daqp
import numpy as np
from scipy.cluster import hierarchy

from rivals import kernels, solvers
from rivals.common import Array, Ints, Pooled, relabel

VARIANCE_START, SHARPE_START = 20, 16  # clusters in the first quadratic program
SHARPE_CAPS = 6  # caps in it: few more are ever met
MORE = 10  # clusters or caps that join at a time, at most
TOLERANCES = {"primal_tol": 1e-12, "dual_tol": 1e-12}


class SolverError(RuntimeError):
    """DAQP found no solution: the universe's covariance is degenerate in a way that the loop does not handle."""


def solve(program: tuple[Any, ...]) -> Array:
    """DAQP's solution of (H, f, A, upper, lower, sense)."""
    solution, _, flag, _ = daqp.solve(*program, **TOLERANCES)
    if flag != 1:
        raise SolverError(f"DAQP: exit flag {flag} with {len(program[1])} variables")
    return solution


def min_variance(C: Array, sigma: Array, u: Array, start: int) -> Array:
    """Argmin of w'Sw over 0 <= w <= u, sum w = 1."""
    index = solvers.smallest(solvers.market_covariance(C, sigma), start)
    while True:
        z = solve(solvers.variance_program(C, sigma, u, index))
        w, more = solvers.variance_answer(C, sigma, u, index, z, MORE)
        if len(more) == len(index):
            return solvers.close_sum(w, u)
        index = more


def max_sharpe(C: Array, sigma: Array, e: Array, u: Array, start: int, n_caps: int) -> Array | None:
    """Argmax of e'w / sqrt(w'Sw) over the same set; None where no w there has e'w > 0."""
    rich, best = solvers.rich_clusters(e, u)
    if best <= 0:
        return None
    index = order = solvers.smallest(-e / np.abs(solvers.market_covariance(C, sigma)), len(e))
    if len(e) > start:
        index = np.union1d(rich, order[:start])
    capped = order[: min(n_caps, start)]
    while True:
        z = solve(solvers.sharpe_program(C, sigma, e, u, index, capped))
        w, more, caps = solvers.sharpe_answer(C, sigma, e, u, index, capped, z, MORE)
        if len(more) == len(index) and len(caps) == len(capped):
            return solvers.close_sum(w, u)
        index, capped = more, caps


class Engine:
    """The loop of one process over the universes of a panel (T, N)."""

    def __init__(self, panel: Array, plain: bool = False) -> None:
        """What depends on the panel alone: deviations from its mean, their cubes, and the sort of each column."""
        self.plain = plain
        self.origin = panel.mean(axis=0)
        self.returns = np.ascontiguousarray(panel - self.origin)
        self.powers = np.ascontiguousarray(np.hstack([self.returns, self.returns**3]))
        order = np.argsort(-panel, axis=0, kind="stable")
        self.order = np.ascontiguousarray(order.T.astype(np.uint16))
        self.descending = np.ascontiguousarray(np.take_along_axis(panel, order, axis=0).T)
        self.scaled = np.empty_like(self.returns)

    def allocate(self, counts: Array) -> tuple[Array, Ints, Ints]:
        """Weights (B, 4, N), labels (B, N) and lead assets (B, 4, N) by cluster, -1 where there is none."""
        n_universes, n_assets = len(counts), self.returns.shape[1]
        weights = np.empty((n_universes, 4, n_assets))
        labels = np.empty((n_universes, n_assets), np.int64)
        leads = np.full((n_universes, 4, n_assets), -1)
        sums = counts @ self.powers
        for b in range(n_universes):
            labels[b] = self.universe(counts[b], sums[b, :n_assets], sums[b, n_assets:], weights[b], leads[b])
        return weights, labels, leads

    def universe(self, counts: Array, first: Array, third: Array, weights: Array, leads: Ints) -> Ints:
        """Labels of one universe, its weights (4, N) and leads (4, N) in place; sums of c x and of c x³ are given."""
        n = counts.sum()
        used = self.scaled[: kernels.scale_rows(self.returns, counts, self.scaled)]
        gains = kernels.tail_gain(self.descending, self.order, counts, n)
        covariance, mean, scores = kernels.moments(used.T @ used, self.origin, first, third, gains, n)
        labels = scipy_clusters(covariance) if self.plain else kernels.find_clusters(covariance, kernels.THRESHOLD)
        v, C, sigma, m, u, sizes, beta = kernels.layer_two(covariance, mean, labels)
        size = len(u)
        w_variance = min_variance(C, sigma, u, size if self.plain else VARIANCE_START)
        w_sharpe = max_sharpe(C, sigma, m, u, *((size, size) if self.plain else (SHARPE_START, SHARPE_CAPS)))
        if w_sharpe is None:
            w_sharpe = w_variance
        kernels.last_part(labels, scores, v, C, sigma, u, sizes, beta, w_variance, w_sharpe, weights, leads)
        return labels


def scipy_clusters(covariance: Array) -> Ints:
    """Labels 0..K-1, by first asset, of SciPy's flat clusters; the covariance's lower triangle is read."""
    distance = kernels.condensed_distance(covariance)
    tree = hierarchy.linkage(distance, "average")
    return relabel(hierarchy.fcluster(tree, kernels.THRESHOLD, "distance"))


class Tuned(Pooled):
    """The expert's loop on every core, with all that makes it faster."""

    engine = Engine


class Plain(Pooled):
    """The expert's loop on every core, as most would write it."""

    engine = Engine

    def __init__(self, panel: Array, n_workers: int) -> None:
        """Start the workers."""
        super().__init__(panel, n_workers, plain=True)
