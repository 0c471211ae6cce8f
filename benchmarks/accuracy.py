"""The accuracy table: every universe of a bootstrap against independent oracles, in both precisions.

Universes are bootstrap resamples of one year of real daily stock returns, and of the embedded market, whose
volatilities lie far apart and which holds hedges. The package allocates them; the NumPy oracle of the tests then judges
each: scipy's partition of a float64 covariance, the optimality gaps by linear programs, sums and bounds.

    JAXALLOC_DATA=folder python benchmarks/accuracy.py --n 2000

writes benchmarks/results/accuracy.json and the table accuracy.md, and puts the table into the README.

A gap may exceed its limit up to the rounding floor 8 eps w'|S|w / w'Sw. For risk parity, whose gap is the worst of all
clusters', "own floor" is that of the worst cluster, 8 eps max w_i (|S|w)_i / max r_i: a hedged cluster's risk
contribution is a small difference of large numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path

import jax
import numpy as np
from panels import EMBEDDED, FILE, RESULTS, ROOT, ROWS, embedded, stocks

import jaxalloc as ja

sys.path.insert(0, str(ROOT / "tests" / "oracle"))
import oracles

STOCKS, EMBEDDED_ASSETS = [20, 100, 250, 431], [100, 1000]
MANY = 250  # assets; to judge more takes the oracle long
LIMITS = {64: {"gap": 1e-9, "sum": 1e-12, "ulp": 4}, 32: {"gap": 1e-5, "sum": 1e-6, "ulp": 4}}


def draw(n: int, seed: int = 0) -> np.ndarray:
    """Counts (n, 252) of iid bootstrap resamples."""
    rng = np.random.default_rng(seed)
    return np.stack([np.bincount(rng.integers(0, ROWS, ROWS), minlength=ROWS) for _ in range(n)])


class Judge:
    """Collects the worst of every figure over universes."""

    def __init__(self, precision: int, profiles: tuple[str, ...]) -> None:
        """Start with nothing judged."""
        self.eps = float(np.finfo(f"float{precision}").eps)
        self.limits = LIMITS[precision]
        self.partitions = self.universes = 0
        self.gap = dict.fromkeys(profiles, 0.0)
        self.over_floor = dict.fromkeys(profiles, 0)
        self.over_own_floor = dict.fromkeys(profiles, 0)
        self.sum = self.cluster_ulp = self.asset_ulp = 0.0
        self.clusters: list[int] = []

    def universe(self, returns: np.ndarray, counts: np.ndarray, result: ja.Allocation, i: int, profiles: tuple) -> None:
        """Judge universe i of a batch."""
        mean, covariance = oracles.moments(returns, counts)
        mean, covariance = 252 * mean, 252 * covariance
        labels = np.asarray(result.cluster_labels[i])
        n_clusters = int(result.n_clusters[i])
        self.universes += 1
        self.clusters.append(n_clusters)
        self.partitions += np.array_equal(labels, oracles.clusters(oracles.correlation_distance(covariance)))
        v = oracles.inverse_variance(np.diag(covariance), labels)
        matrix, m = oracles.synthetic(covariance, mean, v, labels)
        sizes = np.bincount(labels, minlength=n_clusters)
        for p, profile in enumerate(profiles):
            self.profile(profile, p, i, result, matrix, m, sizes, labels)

    def profile(
        self,
        profile: str,
        p: int,
        i: int,
        result: ja.Allocation,
        matrix: np.ndarray,
        m: np.ndarray,
        sizes: np.ndarray,
        labels: np.ndarray,
    ) -> None:
        """Judge one profile of a universe: its Layer-1 problem, its sum and its bounds."""
        x = np.asarray(result.weights[i, p], float)
        w = np.asarray(result.cluster_weights[i, p], float)[: len(sizes)]
        self.sum = max(self.sum, abs(x.sum() - 1))
        core, scale = np.arange(len(sizes)), 1.0
        if profile == "barbell":
            sleeve = np.unique(labels[np.asarray(result.aggressors[i])])
            core, scale = np.setdiff1d(core, sleeve), 1 - 0.1 * (len(sleeve) > 0)
        u, beta, _, _ = oracles.bounds(sizes[core], int(sizes[core].sum()))
        w_core, matrix, m = w[core] / scale, matrix[np.ix_(core, core)], m[core]
        inside = np.isin(labels, core)
        self.cluster_ulp = max(self.cluster_ulp, float(np.max((w_core - u) / (u * self.eps))))
        self.asset_ulp = max(self.asset_ulp, float(np.max(x[inside] / scale - beta) / (beta * self.eps)))
        gap, floor, own_floor = self.measure(profile, matrix, m, u, w_core, int(result.status[i, p]))
        self.gap[profile] = max(self.gap[profile], gap)
        self.over_floor[profile] += gap > max(self.limits["gap"], floor)
        self.over_own_floor[profile] += gap > max(self.limits["gap"], own_floor)

    def measure(
        self, profile: str, matrix: np.ndarray, m: np.ndarray, u: np.ndarray, w: np.ndarray, status: int
    ) -> tuple[float, float, float]:
        """Optimality gap, rounding floor and own floor of a Layer-1 solution."""
        if profile == "max_sharpe" and not status & ja.Status.SHARPE_FALLBACK:
            floor = oracles.rounding_floor(matrix, m, m, w, self.eps)
            return oracles.gap_max_sharpe(matrix, m, u, w), floor, floor
        floor = oracles.rounding_floor(matrix, None, None, w, self.eps)
        if profile in ("min_variance", "max_sharpe"):
            return oracles.gap_min_variance(matrix, u, w), floor, floor
        matrix = oracles.risk_parity_covariance(matrix, bool(status & ja.Status.RISK_REGULARIZED))
        own_floor = oracles.contribution_floor(matrix, w, self.eps)
        return oracles.gap_risk_parity(matrix, u, w, 2 * self.eps), floor, own_floor

    def report(self) -> dict:
        """The figures, with what DESIGN allows."""
        return {
            "universes": self.universes,
            "clusters": [int(min(self.clusters)), int(np.median(self.clusters)), int(max(self.clusters))],
            "partitions_equal": self.partitions / self.universes,
            "largest_gap": self.gap,
            "gap_limit": self.limits["gap"],
            "gaps_over_limit_and_floor": self.over_floor,
            "gaps_over_limit_and_own_floor": self.over_own_floor,
            "largest_sum_error": self.sum,
            "sum_limit": self.limits["sum"],
            "largest_cluster_excess_ulp": self.cluster_ulp,
            "largest_asset_excess_ulp": self.asset_ulp,
        }


def measure(n_assets: int, real: bool, n: int, precision: int) -> dict:
    """Allocate ``n`` universes of ``n_assets`` in one precision and judge them all."""
    panel = stocks(n_assets) if real else embedded(n_assets)
    assert panel is not None
    returns, source = panel.to_numpy(), FILE if real else EMBEDDED
    counts = draw(n)
    config = ja.AllocationConfig()
    with jax.enable_x64(precision == 64):
        result = ja.allocate_batch(returns, config, counts)
    judge = Judge(precision, config.profiles)
    for i in range(n):
        judge.universe(returns, counts[i], result, i, config.profiles)
    not_converged = int(((result.status & ja.Status.NOT_CONVERGED) != 0).sum())
    return {
        "n_assets": n_assets,
        "precision": precision,
        "source": source,
        "not_converged": not_converged,
    } | judge.report()


def table(rows: list[dict]) -> str:
    """The figures as a Markdown table."""
    lines = [
        "| market | N | float | K | partitions equal | gap: min_variance | max_sharpe | risk_parity | barbell core | "
        "over limit and floor (own floor) | sum error | cluster, asset over bound (ulp) |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        gap = row["largest_gap"]
        market = "stocks" if row["source"] == FILE else "embedded"
        fewest, _, most = row["clusters"]
        over, over_own = (sum(row[f"gaps_over_limit_and_{floor}"].values()) for floor in ("floor", "own_floor"))
        gaps = " | ".join(f"{gap[profile]:.0e}" for profile in ("min_variance", "max_sharpe", "risk_parity", "barbell"))
        lines.append(
            f"| {market} | {row['n_assets']} | {row['precision']} | {fewest}-{most} | "
            f"{100 * row['partitions_equal']:.2f} % | {gaps} | {over} ({over_own}) | {row['largest_sum_error']:.0e} | "
            f"{row['largest_cluster_excess_ulp']:.1f}, {row['largest_asset_excess_ulp']:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--n", type=int, default=2000, help="universes of each market and precision; a tenth of those above 250 assets"
    )
    parser.add_argument("--assets", type=int, nargs="+", default=STOCKS, help="of the stocks")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for accuracy.json and accuracy.md")
    arguments = parser.parse_args()
    jobs = [(n_assets, False) for n_assets in EMBEDDED_ASSETS]
    if "JAXALLOC_DATA" in os.environ:
        jobs = [(n_assets, True) for n_assets in arguments.assets] + jobs
    rows = []
    for n_assets, real in jobs:
        for precision in (64, 32):
            n = arguments.n if n_assets <= MANY else -(-arguments.n // 10)
            rows.append(measure(n_assets, real, n, precision))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    machine = {"device": str(jax.devices()[0]), "processor": platform.machine(), "jax": jax.__version__}
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "accuracy.json").write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
    text = table(rows)
    (arguments.out / "accuracy.md").write_text(text + "\n")
    if arguments.out == RESULTS and len(jobs) == len(STOCKS) + len(EMBEDDED_ASSETS):
        readme = ROOT / "README.md"
        before, rest = readme.read_text().split("<!-- accuracy: from make accuracy -->\n", 1)
        after = rest.split("<!-- /accuracy -->", 1)[1]
        marked = f"<!-- accuracy: from make accuracy -->\n{text}\n<!-- /accuracy -->"
        readme.write_text(before + marked + after)
    print(text)


if __name__ == "__main__":
    main()
