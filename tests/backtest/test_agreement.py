"""The clusters of consecutive windows, compared as scikit-learn compares partitions."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

import jaxalloc as ja
from jaxalloc.backtest.agreement import agreement_words, consecutive_agreement

N, T, WINDOW, STEP = 12, 130, 40, 20
MARKET = ja.datasets.synthetic_market(n_assets=N, n_observations=T, seed=3)
CONFIG = ja.AllocationConfig(profiles=("risk_parity",))


def expected(labels: np.ndarray) -> list[float]:
    scores = [np.nan]
    for before, now in itertools.pairwise(labels):
        both = (before >= 0) & (now >= 0)
        scores.append(adjusted_rand_score(before[both], now[both]) if both.sum() > 1 else np.nan)
    return scores


def test_partitions_of_chance_are_scikit_learn_s() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 5, (40, 15))
    labels[7] = -1  # a window without clusters
    labels[20, 1:] = -1  # and one of a single asset
    found = consecutive_agreement(labels)
    np.testing.assert_allclose(found, expected(labels), atol=1e-12)
    assert np.flatnonzero(np.isnan(found)).tolist() == [0, 7, 8, 20, 21]
    assert np.isnan(consecutive_agreement(labels[:1])).tolist() == [True]
    assert consecutive_agreement(labels[:0]).shape == (0,)


@pytest.mark.parametrize("gaps", [False, True])
def test_a_walk_forward_compares_each_window_with_the_one_before(gaps: bool) -> None:
    market = MARKET.copy()
    if gaps:
        market.iloc[:45, 2] = np.nan  # listed later
        market.iloc[75, :] = np.nan  # with max_missing=0 no asset is active in two windows
    found = ja.walk_forward(market, CONFIG, window=WINDOW, step=STEP, max_missing=0)
    table = found.cluster_agreement()
    ends = [39, 59, 79, 99, 119, 129]
    assert list(table.index) == [MARKET.index[end] for end in ends]  # the live window is the last
    assert table.index.name == "decided"
    labels = found.allocations.clusters().to_numpy()
    np.testing.assert_allclose(table["agreement"], expected(labels), atol=1e-12)
    counts = [len(set(row[row >= 0])) for row in labels]
    assert table["n_clusters"].tolist() == counts
    assert table["agreement"].isna().tolist() == [True, False, gaps, gaps, gaps, False]
    assert (table["n_clusters"] == 0).tolist() == [False, False, gaps, gaps, False, False]
    if not gaps:
        assert table["agreement"].between(-1, 1 - 1e-9).any()  # clusters that change


def test_points_of_a_sweep_have_their_own_clusters_and_bands_those_they_decide_with() -> None:
    grid = ja.sweep(CONFIG, distance_threshold=[0.2, 0.4])
    arguments: dict[str, Any] = {"window": WINDOW, "step": STEP}
    found = ja.walk_forward(MARKET, grid, band=[0, 0.02], **arguments)
    table = found.cluster_agreement()
    assert table.index.names == ["distance_threshold", "band", "decided"]
    for g, (threshold, band) in enumerate(found.settings.points):
        alone = ja.walk_forward(MARKET, grid.at(g // 2), **arguments).cluster_agreement()
        pd.testing.assert_frame_equal(table.loc[(threshold, band)], alone, check_exact=True)
        pd.testing.assert_frame_equal(found.cluster_agreement(at=g), alone, check_exact=True)
    assert not table.loc[0.2, "n_clusters"].equals(table.loc[0.4, "n_clusters"])


def test_words_have_the_mean_of_the_windows_that_are_compared() -> None:
    def said(*values: float) -> str:
        return agreement_words(pd.DataFrame({"agreement": values}, dtype=float))

    wanted = "from one window to the next, clusters agree by 0.62 on average (adjusted Rand index: 1 the same, 0 as by"
    assert said(np.nan, 0.5, 0.74, np.nan).startswith(wanted)
    assert "by 0.00 on average" in said(np.nan, -0.001)
    assert said(np.nan) == said() == ""
