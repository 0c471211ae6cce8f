"""The original's way: one universe in pandas, SciPy's linkage and one SLSQP per profile, each at its defaults.

It does the whole job; the clusters of a universe are found once for all four profiles. The differences lie in the
accuracy. SLSQP stops at its default tolerance of 1e-6 with gradients by finite differences,
from equal weights: it reports success with risk contributions that are not equal, and leaves a maximum Sharpe ratio or
a minimum variance short of the optimum. Where it reports failure its last point is taken, scaled to sum 1. Risk parity
is the least sum of squared differences between the contributions' shares, under the caps; where a cap binds that is
another portfolio than the engine's.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.optimize import minimize
from scipy.spatial.distance import squareform

from rivals.common import PROFILES, Array, Ints, Pooled, lead_assets

PERIODS = 252
THRESHOLD = 0.4
CLUSTER_CAP, ASSET_CAP, SLACK = 0.25, 0.2, 1.1
N_AGGRESSORS, AGGRESSOR_WEIGHT = 5, 0.1


def find_clusters(returns: pd.DataFrame) -> pd.Series:
    """Cluster of each asset, 0..K-1 in the order of each cluster's first asset."""
    distance = np.sqrt((1 - returns.corr().clip(-1, 1)) / 2).to_numpy(copy=True)
    np.fill_diagonal(distance, 0)
    labels = fcluster(linkage(squareform(distance, checks=False), method="average"), THRESHOLD, criterion="distance")
    return pd.Series(pd.factorize(labels)[0], index=returns.columns)


def bounds(sizes: Array) -> tuple[Array, float]:
    """Bounds on the clusters and on an asset; the latter rises until the former leave some slack."""
    kappa = max(CLUSTER_CAP, SLACK / len(sizes))
    beta = max(ASSET_CAP, SLACK / sizes.sum())
    if np.minimum(kappa, sizes * beta).sum() < 1:
        descending = np.sort(sizes)[::-1]
        candidates = [(SLACK - full * kappa) / descending[full:].sum() for full in range(len(sizes))]
        beta = next(
            (b for b, size in zip(candidates, descending, strict=True) if b * size <= kappa), kappa / sizes.min()
        )
    return np.minimum(kappa, sizes * beta), beta


def solve(profile: str, synthetic: pd.DataFrame, upper: Array) -> Array:
    """Cluster weights of a profile by SLSQP."""
    mean, covariance = PERIODS * synthetic.mean().to_numpy(), PERIODS * synthetic.cov().to_numpy()
    size = len(mean)

    def objective(w: Array) -> float:
        variance = w @ covariance @ w
        if profile == "min_variance":
            return variance
        if profile == "max_sharpe":
            return -(w @ mean) / np.sqrt(variance)
        return float(np.sum((w * (covariance @ w) / variance - 1 / size) ** 2))

    found = minimize(
        objective,
        np.full(size, 1 / size),
        method="SLSQP",
        bounds=list(zip(np.zeros(size), upper, strict=True)),
        constraints={"type": "eq", "fun": lambda w: np.sum(w) - 1},
    )
    w = np.clip(found.x, 0, upper)
    return w / w.sum()


def share_out(totals: pd.Series, inside: pd.Series, labels: pd.Series, beta: float) -> pd.Series:
    """Clusters' weights over their assets, none above ``beta``: what is over goes to the others, in proportion."""
    x = labels.map(totals) * inside
    bounded = pd.Series(False, index=x.index)
    while (x > beta * (1 + 1e-12)).any():
        bounded |= x >= beta
        free = inside.where(~bounded, 0)
        left = labels.map(totals - beta * bounded.groupby(labels).sum())
        scaled = left * free / free.groupby(labels).transform("sum")
        x = scaled.where(~bounded, beta)
    return x


def antifragility(returns: pd.DataFrame) -> pd.Series:
    """Skewness and tail gain, each from 0 to 1, added."""

    def minmax(z: pd.Series) -> pd.Series:
        return (z - z.min()) / (z.max() - z.min()) if z.max() > z.min() else 0 * z

    gain = returns.where(returns > returns.quantile(0.95)).mean().fillna(0)
    return minmax(returns.skew()) + minmax(gain)


def allocate(returns: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
    """Weights, profiles by assets, and the cluster of each asset."""
    labels = find_clusters(returns)
    inverse = 1 / returns.var()
    inside = inverse / inverse.groupby(labels).transform("sum")
    synthetic = (returns * inside).T.groupby(labels).sum().T
    sizes = labels.value_counts(sort=False).sort_index()
    weights = {}
    for profile in PROFILES:
        core, share = sizes.index, 1.0
        best = pd.Index([])
        if profile == "barbell" and len(sizes) > 1:
            scores = antifragility(returns)
            count = min(N_AGGRESSORS, max(1, len(sizes) - 4), len(sizes) - 1)
            best = pd.Index(scores.groupby(labels).idxmax())
            best = scores[best].sort_values(ascending=False, kind="stable").index[:count]
            core, share = core.difference(labels[best]), 1 - AGGRESSOR_WEIGHT
        upper, beta = bounds(sizes[core].to_numpy(float))
        totals = pd.Series(solve(profile, synthetic[core], upper), index=core)
        x = share * share_out(totals.reindex(sizes.index, fill_value=0.0), inside, labels, beta)
        if len(best):
            x[best] = AGGRESSOR_WEIGHT / len(best)
        weights[profile] = x
    return pd.DataFrame(weights).T, labels


class Engine:
    """The original's way with the universes of a panel (T, N)."""

    def __init__(self, panel: Array) -> None:
        """Keep the panel as a frame."""
        self.panel = pd.DataFrame(panel, columns=[f"asset{i}" for i in range(panel.shape[1])])

    def allocate(self, counts: Array) -> tuple[Array, Ints, Ints]:
        """Weights (B, 4, N), labels (B, N) and lead assets (B, 4, N) by cluster, -1 where there is none."""
        n_assets = self.panel.shape[1]
        weights = np.empty((len(counts), len(PROFILES), n_assets))
        labels = np.empty((len(counts), n_assets), np.int64)
        leads = np.full((len(counts), len(PROFILES), n_assets), -1)
        for b, c in enumerate(counts.astype(int)):
            returns = self.panel.iloc[np.repeat(np.arange(len(c)), c)]
            frame, clusters = allocate(returns)
            weights[b], labels[b] = frame.to_numpy(), clusters.to_numpy()
            leads[b] = lead_assets(weights[b], labels[b])
        return weights, labels, leads


class Original(Pooled):
    """The original's way, one process a core."""

    engine = Engine
    chunk = 1
