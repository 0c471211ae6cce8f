"""Judges a side's weights by the tests' oracle: the problem is the engine's, whatever the side solved.

A gap is that of the weights of the oracle's clusters in the oracle's problem. Weights that break a bound there, or
clusters that are not the oracle's, make a gap that may be negative or large: read it with the other figures.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rivals.common import PROFILES, Array, Ints

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "oracle"))
import oracles

LIMITS = {64: 1e-9, 32: 1e-5}  # by precision: the gap that jaxalloc promises, up to the rounding floor


@dataclass
class Verdict:
    """The worst of every figure over the universes judged.

    Attributes:
        universes: how many.
        partitions_equal: how many have SciPy's partition.
        leads_equal: how many have the oracle's lead assets in every profile.
        failed: how many weights are NaN, over universes and profiles; the other figures leave them out.
        gap: by profile, the largest optimality gap; NaN where all weights are.
        median_gap: by profile.
        over_limit: by profile, how many are over the limit of the precision and the rounding floor.
        difference: by profile, the largest difference of an asset's weight from the oracle's.
        sum_error: the largest error of a sum that should be 1.
        cluster_excess: how far a cluster's weight is over its bound, at most, as a share of the bound.
        asset_excess: the same of an asset's.
    """

    universes: int
    partitions_equal: int = 0
    leads_equal: int = 0
    failed: int = 0
    gap: dict[str, float] = field(default_factory=dict)
    median_gap: dict[str, float] = field(default_factory=dict)
    over_limit: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PROFILES, 0))
    difference: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PROFILES, 0.0))
    sum_error: float = 0.0
    cluster_excess: float = -np.inf
    asset_excess: float = -np.inf


class Judge:
    """The oracle's answers for some universes of a panel, which sides are compared with."""

    def __init__(self, panel: Array, counts: Array) -> None:
        """Let the oracle allocate the universes drawn by ``counts`` (B, T) from ``panel`` (T, N)."""
        self.counts = counts
        self._expected = [oracles.allocate(panel, observation_weights=c) for c in counts]

    def verdict(self, weights: Array, labels: Ints, leads: Ints, precision: int) -> Verdict:
        """Judge weights (B, 4, N), labels (B, N) and lead assets (B, 4, N) computed in ``precision`` bits."""
        eps = float(np.finfo(f"float{precision}").eps)
        found = Verdict(len(self._expected))
        gaps: dict[str, list[float]] = {profile: [] for profile in PROFILES}
        for b, expected in enumerate(self._expected):
            found.partitions_equal += np.array_equal(labels[b], expected.labels)
            found.leads_equal += all(
                np.array_equal(leads[b, p], expected.lead_assets[profile]) for p, profile in enumerate(PROFILES)
            )
            for p, profile in enumerate(PROFILES):
                x, problem = np.asarray(weights[b, p], float), expected.problems[profile]
                if np.isnan(x).any():
                    found.failed += 1
                    continue
                core = np.isin(expected.labels, problem.clusters)
                share = 0.9 if profile == "barbell" and expected.aggressors.any() else 1.0
                w = np.bincount(expected.labels, x, minlength=expected.n_clusters)[problem.clusters] / share
                gap = problem.gap(w, 2 * eps)
                gaps[profile].append(gap)
                found.over_limit[profile] += not gap <= max(LIMITS[precision], problem.floor(w, eps))
                difference = float(np.abs(x - expected.weights[profile]).max())
                found.difference[profile] = max(found.difference[profile], difference)
                found.sum_error = max(found.sum_error, abs(float(x.sum()) - 1))
                found.cluster_excess = max(found.cluster_excess, float(np.max(w / problem.u - 1)))
                found.asset_excess = max(found.asset_excess, float(np.max(x[core]) / (share * problem.beta) - 1))
        found.gap = {profile: float(np.max(values)) if values else np.nan for profile, values in gaps.items()}
        found.median_gap = {profile: float(np.median(values)) if values else np.nan for profile, values in gaps.items()}
        return found
