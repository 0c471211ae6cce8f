"""Nested clusters of the two libraries a user would pick, skfolio and Riskfolio-Lib, four calls a universe.

The clusters are the job's own where the library can be given them: average linkage on sqrt((1 - rho) / 2), cut at 0.4.
What differs from the job:

- skfolio `NestedClustersOptimization`, ``cv="ignore"``, with scikit-learn's agglomerative clustering (its own cannot
  cut at a distance). Inside a cluster *inverse volatility*, for there is no inverse variance. Across, each cluster is
  capped at 25 %; risk budgeting bounds w <= u 1'w inside the homogeneous problem, which is another portfolio than the
  engine's once a cap binds. No bound on an asset.
- Riskfolio-Lib `HCPortfolio`, model NCO, with the number of clusters counted beforehand. Inside a cluster the *same
  objective* as across, in one convex program each. No cap on a cluster; 25 % on an asset, by clipping what is over and
  handing it to the others. The largest Sharpe ratio fails in some universes, where the program of
  one cluster finds no solution.
- Neither has a barbell. Its place takes the nearest thing that a user could build from their parts: 10 % on the five
  assets of highest antifragility, of whatever clusters, and risk parity by the library on the others.

Solvers are Clarabel at its defaults. A call that fails gives NaN weights.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import Any

import numpy as np
import pandas as pd
from cvxpy.error import SolverError
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from rivals.common import PROFILES, Array, Ints, Pooled, lead_assets, relabel
from rivals.original import antifragility

THRESHOLD, CAP = 0.4, 0.25
N_AGGRESSORS, AGGRESSOR_WEIGHT = 5, 0.1


def find_clusters(returns: pd.DataFrame) -> Ints:
    """Labels of SciPy's flat clusters."""
    distance = np.sqrt((1 - returns.corr().clip(-1, 1)) / 2).to_numpy(copy=True)
    np.fill_diagonal(distance, 0)
    return relabel(fcluster(linkage(squareform(distance, checks=False), "average"), THRESHOLD, "distance"))


class Library:
    """Four calls a universe; a subclass says what a call is."""

    failures: tuple[type[Exception], ...] = (SolverError,)

    def __init__(self, panel: Array) -> None:
        """Keep the panel as a frame."""
        self.panel = pd.DataFrame(panel, columns=[f"asset{i}" for i in range(panel.shape[1])])

    def call(self, returns: pd.DataFrame, profile: str) -> Array:
        """Weights (N,) of one of the first three profiles."""
        raise NotImplementedError

    def barbell(self, returns: pd.DataFrame) -> Array:
        """The aggressors' share and risk parity of the others."""
        best = antifragility(returns).nlargest(N_AGGRESSORS).index
        weights = pd.Series(AGGRESSOR_WEIGHT / N_AGGRESSORS, index=returns.columns)
        core = returns.columns.difference(best, sort=False)
        weights[core] = (1 - AGGRESSOR_WEIGHT) * self.call(returns[core], "risk_parity")
        return weights.to_numpy()

    def allocate(self, counts: Array) -> tuple[Array, Ints, Ints]:
        """Weights (B, 4, N), labels (B, N) and lead assets (B, 4, N) by cluster, -1 where there is none."""
        n_assets = self.panel.shape[1]
        weights = np.full((len(counts), len(PROFILES), n_assets), np.nan)
        labels = np.empty((len(counts), n_assets), np.int64)
        leads = np.empty((len(counts), len(PROFILES), n_assets), np.int64)
        for b, c in enumerate(counts.astype(int)):
            returns = self.panel.iloc[np.repeat(np.arange(len(c)), c)]
            for p, profile in enumerate(PROFILES):
                with warnings.catch_warnings(), contextlib.suppress(*self.failures):
                    warnings.simplefilter("ignore")
                    weights[b, p] = self.barbell(returns) if profile == "barbell" else self.call(returns, profile)
            labels[b] = find_clusters(returns)
            leads[b] = lead_assets(weights[b], labels[b])
        return weights, labels, leads


class SkfolioEngine(Library):
    """skfolio's `NestedClustersOptimization`."""

    def __init__(self, panel: Array) -> None:
        """Set the three estimators up."""
        from skfolio.exceptions import OptimizationError, SolverError
        from skfolio.optimization import (
            InverseVolatility,
            MeanRisk,
            NestedClustersOptimization,
            ObjectiveFunction,
            RiskBudgeting,
        )
        from sklearn.cluster import AgglomerativeClustering

        super().__init__(panel)
        self.failures = (OptimizationError, SolverError, *Library.failures)
        across: dict[str, Any] = {
            "min_variance": MeanRisk(max_weights=CAP),
            "risk_parity": RiskBudgeting(max_weights=CAP),
            "max_sharpe": MeanRisk(objective_function=ObjectiveFunction.MAXIMIZE_RATIO, max_weights=CAP),
        }
        clusters = AgglomerativeClustering(
            n_clusters=None, metric="precomputed", linkage="average", distance_threshold=THRESHOLD
        )
        self.estimators = {
            profile: NestedClustersOptimization(InverseVolatility(), outer, clustering_estimator=clusters, cv="ignore")
            for profile, outer in across.items()
        }

    def call(self, returns: pd.DataFrame, profile: str) -> Array:
        """Fit one estimator."""
        return np.asarray(self.estimators[profile].fit(returns).weights_)


class RiskfolioEngine(Library):
    """Riskfolio-Lib's `HCPortfolio`, model NCO."""

    failures = (*Library.failures, AttributeError)  # of None, which it takes for weights where a program has none
    objectives = {"min_variance": "MinRisk", "risk_parity": "ERC", "max_sharpe": "Sharpe"}  # noqa: RUF012

    def call(self, returns: pd.DataFrame, profile: str) -> Array:
        """Optimise one portfolio."""
        import riskfolio

        # It prints what went wrong.
        with contextlib.redirect_stdout(io.StringIO()):
            found = riskfolio.HCPortfolio(returns=returns, w_max=CAP).optimization(
                model="NCO",
                codependence="pearson",
                obj=self.objectives[profile],
                rm="MV",
                linkage="average",
                k=int(find_clusters(returns).max()) + 1,
                leaf_order=False,
            )
        return found["weights"].to_numpy()


class Skfolio(Pooled):
    """skfolio, one process a core."""

    engine = SkfolioEngine
    chunk = 1


class Riskfolio(Pooled):
    """Riskfolio-Lib, one process a core."""

    engine = RiskfolioEngine
    chunk = 1
