"""The barbell's sleeve: how many aggressors, which, and how ties are broken. (Skewness and tails: test_moments.)"""

from __future__ import annotations

from typing import Any

import numpy as np
import oracles
import pytest
from helpers import Array, batched, host
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxalloc.portfolios.barbell import Sleeve, choose_sleeve

N = 16


def sleeves(scores: Array, labels: Array, wanted: Any, size: int = N) -> Sleeve:
    """Sleeves of universes with scores (B, N) and labels (B, N), -1 for an inactive asset."""
    counts = (labels.max(axis=1) + 1).astype(np.int32)
    wanted = np.broadcast_to(np.asarray(wanted, np.int32), len(scores))
    return host(batched(choose_sleeve, size=size)(scores.astype(np.float32), labels.astype(np.int32), counts, wanted))


def assert_as_oracle(found: Sleeve, i: int, scores: Array, labels: Array, wanted: int) -> None:
    there = np.flatnonzero(labels >= 0)
    assets, clusters, fewer = oracles.aggressors(scores[there], labels[there], wanted)
    np.testing.assert_array_equal(np.flatnonzero(found.assets[i]), np.sort(there[assets]))
    np.testing.assert_array_equal(np.flatnonzero(found.clusters[i]), np.sort(clusters))
    assert found.size[i] == len(assets)
    assert found.fewer[i] == fewer


def test_number_of_aggressors_leaves_the_core_four_clusters() -> None:
    rng = np.random.default_rng(0)
    labels = np.stack([np.r_[np.arange(K), rng.integers(K, size=N - K)] for K in range(1, 13)])
    found = sleeves(rng.uniform(size=(12, N)), labels, 5)
    np.testing.assert_array_equal(found.size, [0, 1, 1, 1, 1, 2, 3, 4, 5, 5, 5, 5])
    np.testing.assert_array_equal(found.fewer, [True] * 8 + [False] * 4)
    np.testing.assert_array_equal(found.assets.sum(axis=1), found.size)
    np.testing.assert_array_equal(found.clusters.sum(axis=1), found.size)


@pytest.mark.parametrize("wanted", [1, 2, 5, 8, 100])
def test_sleeves_equal_the_oracle_s(wanted: int) -> None:
    rng = np.random.default_rng(wanted)
    scores, labels = rng.uniform(0, 2, (12, N)).astype(np.float32), np.empty((12, N), int)
    for i in range(12):
        labels[i] = oracles.relabel(rng.integers(i + 1, size=N))
        out = rng.permutation(N)[:4]  # inactive, with scores that must not be looked at
        labels[i, out], scores[i, out] = -1, 99
        labels[i, labels[i] >= 0] = oracles.relabel(labels[i, labels[i] >= 0])
    found = sleeves(scores, labels, wanted)
    for i in range(12):
        assert_as_oracle(found, i, scores[i], labels[i], wanted)


def test_ties_go_to_the_first_asset_then_to_the_first_cluster() -> None:
    labels = np.array([0, 1, 1, 2, 0, 3, 4, 5, *[5] * 8])
    scores = np.array([0.5, 1.5, 1.5, 0.9, 0.9, 0.1, 0.2, 0.3, *[0.0] * 8])
    found = sleeves(np.repeat(scores[None], 12, 0), np.repeat(labels[None], 12, 0), 2)
    np.testing.assert_array_equal(np.flatnonzero(found.clusters[0]), [0, 1])  # clusters 0 and 2 tie at 0.9
    np.testing.assert_array_equal(np.flatnonzero(found.assets[0]), [1, 4])  # assets 1 and 2 tie at 1.5


def test_all_scores_equal_choose_the_first_clusters_and_their_first_assets() -> None:
    labels = np.repeat(oracles.relabel(np.arange(N) % 9)[None], 12, 0)
    found = sleeves(np.zeros((12, N)), labels, 5)
    np.testing.assert_array_equal(np.flatnonzero(found.assets[0]), range(5))
    np.testing.assert_array_equal(np.flatnonzero(found.clusters[0]), range(5))


@given(
    labels=hnp.arrays(np.int8, N, elements=st.integers(-1, 11)),
    scores=hnp.arrays(np.int8, N, elements=st.integers(0, 6)),
    wanted=st.integers(1, 9),
)
def test_any_labels_scores_and_ties_give_the_oracle_s_sleeve(labels: Array, scores: Array, wanted: int) -> None:
    labels = labels.astype(int)
    if labels.max() < 0:
        labels[0] = 0
    labels[labels >= 0] = oracles.relabel(labels[labels >= 0])
    found = sleeves(np.repeat(scores[None] / 4, 12, 0), np.repeat(labels[None], 12, 0), wanted)
    assert_as_oracle(found, 7, scores / 4, labels, wanted)
