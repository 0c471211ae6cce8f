"""The choice of a cut: planted groups are found, and every figure of the table is what its definition says."""

from __future__ import annotations

import numpy as np
import oracles
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score, silhouette_score

import jaxalloc as ja
from jaxalloc.portfolios.distances import distances, mean_silhouette
from jaxalloc.studies.agreement import adjusted_rand
from jaxalloc.studies.choice import cluster_choice

PLANTED = [f"{'ABCD'[k // 3]}{k % 3}" for k in range(12)]


def planted(noise: float = 0.5, market: float = 1.0) -> pd.DataFrame:
    """Returns of four groups of three assets, which a market moves as well."""
    rng = np.random.default_rng(4)
    groups = np.repeat(rng.normal(size=(300, 4)), 3, axis=1)
    values = market * rng.normal(size=(300, 1)) + groups + noise * rng.normal(size=(300, 12))
    return pd.DataFrame(0.01 * values, columns=PLANTED)


@pytest.fixture(scope="module")
def choice() -> ja.ClusterChoice:
    return cluster_choice(planted(), sampler=ja.Bootstrap(n=20))


def test_planted_groups_are_chosen(choice: ja.ClusterChoice) -> None:
    assert choice.clusters == 4
    assert choice.groups == [PLANTED[k : k + 3] for k in range(0, 12, 3)]
    assert "Of the 10 cuts into 2 to 11 clusters, this one has the highest mean silhouette" in choice.why
    assert repr(choice).startswith("ClusterChoice: 4 clusters.")
    assert choice.config == ja.AllocationConfig(detone=True, criterion="silhouette")


def test_the_config_makes_the_same_clusters(choice: ja.ClusterChoice) -> None:
    found = ja.allocate(ja.read_returns(planted()), choice.config)
    assert np.array_equal(np.asarray(found.cluster_labels), choice.labels.to_numpy())


def test_the_table_is_what_it_says(choice: ja.ClusterChoice) -> None:
    distance = oracles.correlation_distance(oracles.detoned(np.corrcoef(planted().to_numpy().T)))
    for k, row in choice.table.iterrows():
        labels = oracles.clusters_maxclust(distance, "average", int(k))
        sizes = np.bincount(labels)
        assert row["alone"] == (sizes == 1).sum()
        assert row["largest"] == pytest.approx(sizes.max() / 12)
        assert row["trivial"] == (max(sizes.max(), (sizes == 1).sum()) > 6)
        assert row["silhouette"] == pytest.approx(silhouette_score(distance, labels, metric="precomputed"), abs=1e-9)
        assert -1 <= row["stability"] <= 1
    assert choice.table.loc[4, "stability"] == choice.table["stability"].max() > 0.9


def test_the_market_hides_groups_unless_it_is_taken_out() -> None:
    """All assets move together so much that at the default height they are one cluster."""
    returns = planted(noise=1.5, market=6.0)
    assert int(ja.allocate(ja.read_returns(returns)).n_clusters) == 1
    assert cluster_choice(returns, sampler=ja.Bootstrap(n=5)).groups == [PLANTED[k : k + 3] for k in range(0, 12, 3)]


def test_a_choice_among_trivial_cuts_says_so() -> None:
    """Five assets of which four are nearly the same: each cut leaves more than half in one cluster, or alone."""
    rng = np.random.default_rng(0)
    x = 0.01 * rng.normal(size=(100, 5))
    for k in (1, 2, 3):
        x[:, k] = x[:, 0] + 0.001 * k * rng.normal(size=100)
    config = ja.AllocationConfig(criterion="silhouette")
    found = cluster_choice(pd.DataFrame(x, columns=list("abcde")), config, ja.Bootstrap(n=5))
    assert found.why.startswith("All of the 3 cuts")
    assert found.clusters == 2


@pytest.mark.parametrize("n_assets", [1, 2])
def test_too_few_assets_are_an_error(n_assets: int) -> None:
    with pytest.raises(ja.InputError, match="three assets"):
        cluster_choice(planted().iloc[:, :n_assets])


def test_assets_that_take_no_part_are_left_out() -> None:
    returns = planted()
    returns["gaps"] = returns["A0"].where(np.arange(300) % 3 > 0)
    found = cluster_choice(ja.read_returns(returns, missing="mask"), sampler=ja.Bootstrap(n=5))
    assert found.labels["gaps"] == -1
    assert sum(map(len, found.groups)) == 12


def test_the_host_s_silhouettes_and_distances_are_the_oracles() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        n = int(rng.integers(3, 20))
        rho = np.corrcoef(oracles.random_market(rng, 40, n, int(rng.integers(1, n + 1))).T)
        labels = oracles.relabel(rng.integers(0, int(rng.integers(2, n)), n))
        for detone, wanted in ((False, rho), (True, oracles.detoned(rho))):
            distance = distances(rho, ja.AllocationConfig(detone=detone))
            np.testing.assert_allclose(distance, oracles.correlation_distance(wanted), atol=1e-6)
            if 1 < labels.max() + 1 < n:
                score = silhouette_score(distance, labels, metric="precomputed")
                assert mean_silhouette(distance, labels) == pytest.approx(score, abs=1e-12)


def test_adjusted_rand_is_scikit_learn_s() -> None:
    rng = np.random.default_rng(2)
    for _ in range(300):
        n = int(rng.integers(1, 25))
        one, other = (rng.integers(0, int(rng.integers(1, n + 1)), n) for _ in range(2))
        assert adjusted_rand(one, other) == pytest.approx(adjusted_rand_score(one, other), abs=1e-12)
    one, other = np.array([0, 0, -1, 1, 1, 2]), np.array([5, 5, 5, 3, 3, -1])
    assert adjusted_rand(one, other) == 1
    assert adjusted_rand(np.array([-1]), np.array([0])) == 1
