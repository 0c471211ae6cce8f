"""Judges a rival's weights by the tests' oracle: the problem is the engine's, whatever the rival solved.

A gap is that of the weights of the oracle's clusters in the oracle's problem. Weights that break a bound there, or
clusters that are not the oracle's, make a gap that may be negative or large: read it with the other figures.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .common import PROFILES, Array, Ints

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
import oracles

LIMIT = 1e-9


@dataclass
class Verdict:
    """The worst of every figure over the universes judged.

    Attributes:
        universes: how many.
        partitions_equal: how many have SciPy's partition; None where the rival does not tell.
        leads_equal: how many have the oracle's lead assets in every profile; None likewise.
        failed: how many weights are NaN, over universes and profiles; the other figures leave them out.
        gap: by profile, the largest optimality gap.
        median_gap: by profile.
        over: by profile, how many are over 1e-9 and the rounding floor.
        difference: by profile, the largest difference of an asset's weight from the oracle's.
        total: the largest error of a sum that should be 1.
        cluster_excess, asset_excess: how far a weight is over its bound, at most, as a share of the bound.
    """

    universes: int = 0
    partitions_equal: int | None = None
    leads_equal: int | None = None
    failed: int = 0
    gap: dict[str, float] = field(default_factory=dict)
    median_gap: dict[str, float] = field(default_factory=dict)
    over: dict[str, int] = field(default_factory=dict)
    difference: dict[str, float] = field(default_factory=dict)
    total: float = 0.0
    cluster_excess: float = -np.inf
    asset_excess: float = -np.inf


def judge(
    panel: Array, counts: Array, weights: Array, labels: Ints | None = None, leads: Ints | None = None
) -> Verdict:
    """Judge weights (B, 4, N) of the universes drawn by ``counts`` (B, T), and labels and leads where there are."""
    verdict = Verdict(len(counts), None if labels is None else 0, None if leads is None else 0)
    gaps: dict[str, list[float]] = {profile: [] for profile in PROFILES}
    verdict.over, verdict.difference = dict.fromkeys(PROFILES, 0), dict.fromkeys(PROFILES, 0.0)
    for b in range(len(counts)):
        expected = oracles.allocate(panel, observation_weights=counts[b])
        if verdict.partitions_equal is not None and labels is not None:
            verdict.partitions_equal += np.array_equal(labels[b], expected.labels)
        if verdict.leads_equal is not None and leads is not None:
            verdict.leads_equal += all(
                np.array_equal(leads[b, p], expected.lead_assets[profile]) for p, profile in enumerate(PROFILES)
            )
        for p, profile in enumerate(PROFILES):
            x, problem = weights[b, p], expected.problems[profile]
            if np.isnan(x).any():
                verdict.failed += 1
                continue
            core = np.isin(expected.labels, problem.clusters)
            share = 0.9 if profile == "barbell" and expected.aggressors.any() else 1.0
            w = np.bincount(expected.labels, x, minlength=expected.n_clusters)[problem.clusters] / share
            gap = problem.gap(w)
            gaps[profile].append(gap)
            verdict.over[profile] += not gap <= max(LIMIT, problem.floor(w))
            difference = float(np.abs(x - expected.weights[profile]).max())
            verdict.difference[profile] = max(verdict.difference[profile], difference)
            verdict.total = max(verdict.total, abs(float(x.sum()) - 1))
            verdict.cluster_excess = max(verdict.cluster_excess, float(np.max(w / problem.u - 1)))
            verdict.asset_excess = max(verdict.asset_excess, float(np.max(x[core]) / (share * problem.beta) - 1))
    verdict.gap = {profile: float(np.max(values)) for profile, values in gaps.items() if values}
    verdict.median_gap = {profile: float(np.median(values)) for profile, values in gaps.items() if values}
    return verdict
