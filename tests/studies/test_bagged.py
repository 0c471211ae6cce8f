"""Bagged portfolios of one panel: the mean of single allocations of the same draws."""

from __future__ import annotations

import jax
import numpy as np
import pandas as pd
import pytest

import jaxalloc as ja
from jaxalloc.portfolios.means import by_cluster, lead_assets, over_cap
from jaxalloc.settings.config import PROFILE_NAMES
from jaxalloc.settings.status import Status

MARKET = ja.datasets.synthetic_market(n_assets=12, n_observations=160)
CONFIG = ja.AllocationConfig(profiles=PROFILE_NAMES)
BAGGING = ja.Bootstrap(30, "circular", 8)


@pytest.fixture(scope="module")
def bagged() -> ja.BaggedAllocation:
    return ja.allocate_bagged(MARKET, CONFIG, BAGGING, seed=5)


@pytest.fixture(scope="module")
def singles() -> np.ndarray:
    """(30, P, N) weights of the same draws, one call of the engine with counts of the rows."""
    counts = BAGGING.counts(len(MARKET), 5, 0, 30)
    config = CONFIG.replace(periods_per_year=252)
    with jax.enable_x64(True):
        batch = ja.allocate_batch(MARKET.to_numpy(), config, observation_weights=counts.astype(float))
    return np.asarray(batch.weights)


def test_every_profile_is_the_mean_of_single_allocations(bagged: ja.BaggedAllocation, singles: np.ndarray) -> None:
    np.testing.assert_allclose(bagged.allocation.weights, singles.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(bagged.standard_errors, singles.std(axis=0, ddof=1), atol=1e-12)
    assert (bagged.allocation.weights >= 0).all()
    np.testing.assert_allclose(bagged.allocation.weights.sum(axis=1), 1, atol=1e-14)
    assert (bagged.n, bagged.n_valid) == (30, 30)


@pytest.mark.parametrize("chunk_size", [1, 600])
def test_chunks_change_no_bit(bagged: ja.BaggedAllocation, chunk_size: int) -> None:
    again = ja.allocate_bagged(MARKET, CONFIG, BAGGING, seed=5, chunk_size=chunk_size)
    np.testing.assert_array_equal(again.allocation.weights, bagged.allocation.weights)
    np.testing.assert_array_equal(again.standard_errors, bagged.standard_errors)


def test_risk_is_by_the_panels_own_moments(bagged: ja.BaggedAllocation) -> None:
    values = MARKET.to_numpy()
    covariance, mean = 252 * np.cov(values.T), 252 * values.mean(axis=0)
    x = bagged.allocation.weights
    variance = np.einsum("pi,ij,pj->p", x, covariance, x)
    np.testing.assert_allclose(bagged.allocation.volatility, np.sqrt(variance), rtol=1e-12)
    np.testing.assert_allclose(bagged.allocation.expected_return, x @ mean, rtol=1e-10)
    np.testing.assert_allclose(
        bagged.allocation.risk_contributions, x * (x @ covariance) / variance[:, None], atol=1e-12
    )


@pytest.mark.parametrize("covariance", ["ewma", "ledoit_wolf", "oas"])
def test_risk_is_as_the_settings_estimate_it(covariance: str) -> None:
    config = ja.AllocationConfig(profiles=("equal_weight",), covariance=covariance)
    bagged = ja.allocate_bagged(MARKET, config, ja.Bootstrap(3))
    np.testing.assert_allclose(bagged.allocation.volatility, bagged.own.volatility, rtol=1e-12)
    np.testing.assert_allclose(bagged.allocation.risk_contributions, bagged.own.risk_contributions, atol=1e-12)


def test_clusters_are_the_panels_own_and_their_heaviest_assets_lead(bagged: ja.BaggedAllocation) -> None:
    np.testing.assert_array_equal(bagged.allocation.cluster_labels, bagged.own.cluster_labels)
    labels = bagged.own.cluster_labels
    for p, weights in enumerate(bagged.allocation.weights):
        for k in range(labels.max() + 1):
            lead = bagged.allocation.lead_assets[p, k]
            assert labels[lead] == k
            assert weights[lead] == weights[labels == k].max()
            assert bagged.allocation.cluster_weights[p, k] == pytest.approx(weights[labels == k].sum(), abs=1e-15)
        assert (bagged.allocation.lead_assets[p, labels.max() + 1 :] == -1).all()


def test_a_frame_has_weights_errors_and_the_portfolio_without_bagging(bagged: ja.BaggedAllocation) -> None:
    frame = bagged.to_frame()
    assert list(frame.index) == list(MARKET.columns)
    np.testing.assert_array_equal(frame["hrp"]["weight"], bagged.allocation.weights[CONFIG.profiles.index("hrp")])
    np.testing.assert_array_equal(frame["hrp"]["own"], bagged.own.weights[CONFIG.profiles.index("hrp")])
    study = bagged.study.bagged("hrp")
    np.testing.assert_array_equal(frame["hrp"]["standard_error"], study["standard_error"])
    assert "mean of 30 resamples" in repr(bagged)
    assert len(repr(bagged).split("\n")) <= 5
    assert "<table" in bagged._repr_html_()


def test_invalid_resamples_are_left_out_and_counted() -> None:
    # an asset that is given to move on three days only is dropped where none of them is drawn, and so counts as 0;
    # alone with its like, such a resample has no asset left
    rng = np.random.default_rng(0)
    values = np.zeros((40, 2))
    values[5], values[6] = rng.normal(0, 0.02, (2, 2))
    frame = pd.DataFrame(values, columns=["A", "B"])
    config = ja.AllocationConfig(profiles=("risk_parity",), periods_per_year=252)
    bagged = ja.allocate_bagged(frame, config, ja.Bootstrap(60), seed=1)
    counts = ja.Bootstrap(60).counts(40, 1, 0, 60)
    moved = (counts[:, 5:7] > 0).any(axis=1)
    assert 0 < bagged.n_valid == moved.sum() < bagged.n == 60
    assert f"{60 - bagged.n_valid} of 60 being invalid" in repr(bagged)
    with jax.enable_x64(True):
        batch = ja.allocate_batch(values, config, observation_weights=counts.astype(float))
    weights = np.asarray(batch.weights)[moved]
    np.testing.assert_allclose(bagged.allocation.weights, weights.mean(axis=0), atol=1e-12)


def test_an_asset_that_some_universes_lack_counts_as_nothing_there() -> None:
    config = ja.AllocationConfig(profiles=("risk_parity", "hrp"))
    study = ja.run_study(MARKET, ja.Bootstrap(20) * ja.RandomSubsets(size=5), config, seed=2)
    for profile in config.profiles:
        weights = np.nan_to_num(study.weights(profile).to_numpy())
        frame = study.bagged(profile)
        np.testing.assert_allclose(frame["weight"], weights.mean(axis=0), atol=1e-14)
        np.testing.assert_allclose(frame["standard_error"], weights.std(axis=0, ddof=1), atol=1e-12)


def test_a_study_of_a_sweep_has_bagged_portfolios_at_every_point() -> None:
    grid = ja.sweep(ja.AllocationConfig(profiles=("min_variance",)), cluster_cap=[0.2, 0.4])
    study = ja.run_study(MARKET, ja.Bootstrap(10), grid, seed=2)
    whole = study.bagged("min_variance")
    assert whole.index.names == ["cluster_cap", "symbol"]
    for point in range(2):
        weights = study.weights("min_variance", at=point).to_numpy()
        np.testing.assert_allclose(study.bagged("min_variance", at=point)["weight"], weights.mean(axis=0), atol=1e-14)
    with pytest.raises(ja.InputError, match="no profile 'hrp'"):
        study.bagged("hrp")


def test_a_mean_above_the_cap_of_the_panels_own_clusters_says_so() -> None:
    labels = np.array([0, 0, 1, 2, 3, -1])
    config = ja.AllocationConfig(profiles=("risk_parity", "hrp"), cluster_cap=0.3)
    over = np.array([[0.3, 0.1, 0.2, 0.2, 0.2, 0.0]] * 2)
    within = np.array([[0.2, 0.1, 0.3, 0.2, 0.2, 0.0]] * 2)
    assert over_cap(over, labels, config).tolist() == [True, False]  # hrp knows no cap
    assert over_cap(within, labels, config).tolist() == [False, False]
    assert over_cap(over, labels, config.replace(cluster_cap=0.25, slack=1.7)).tolist() == [False, False]  # 1.7 / 4
    assert over_cap(np.full((2, 6), np.nan), np.full(6, -1), config).tolist() == [False, False]
    np.testing.assert_allclose(by_cluster(over, labels)[0], [0.4, 0.2, 0.2, 0.2, 0, 0])
    assert lead_assets(over, labels)[0].tolist() == [0, 2, 3, 4, -1, -1]
    status = Status.BAGGED_OVER_CAP
    assert "BAGGED_OVER_CAP" in {bit.name for bit in Status if bit & status}


def test_a_mean_that_exceeds_the_cap_is_found_in_a_panel() -> None:
    # two groups whose members join in the whole panel, and part in many resamples: there each has a cap of its own
    rng = np.random.default_rng(7)
    common = rng.normal(0, 0.002, (60, 2))
    values = np.repeat(common, 3, axis=1) + rng.normal(0, 0.00125, (60, 6))
    values = np.hstack([values, rng.normal(0, 0.02, (60, 4))])
    config = ja.AllocationConfig(profiles=("min_variance",), periods_per_year=252)
    frame = pd.DataFrame(values, columns=[f"A{k}" for k in range(10)])
    bagged = ja.allocate_bagged(frame, config, ja.Bootstrap(100), seed=3)
    most = bagged.allocation.cluster_weights.max()
    found = bool(int(bagged.allocation.status[0]) & Status.BAGGED_OVER_CAP)
    assert found == (most > max(0.25, 1.1 / int(bagged.own.n_clusters)) + 1e-6)
    assert found


def test_a_sweep_is_refused() -> None:
    with pytest.raises(ja.InputError, match="AllocationConfig"):
        ja.allocate_bagged(MARKET, ja.sweep(CONFIG, cluster_cap=[0.2, 0.3]), BAGGING)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("bagging", "words"),
    [("yes", "bagging must be a Bootstrap"), (ja.Bootstrap(0), "n, the number of resamples, must be")],
)
def test_bad_bagging_is_named(bagging: object, words: str) -> None:
    with pytest.raises(ja.InputError, match=words):
        ja.allocate_bagged(MARKET, CONFIG, bagging)


def test_a_panel_without_a_portfolio_is_named() -> None:
    # fine as a frame, and yet no asset has returns in enough rows
    values = np.full((30, 2), np.nan)
    values[:15, 0] = values[15:, 1] = np.random.default_rng(0).normal(0, 0.01, 15)
    frame = pd.DataFrame(values, columns=list("AB"))
    config = ja.AllocationConfig(profiles=("risk_parity",), periods_per_year=252)
    with (
        pytest.warns(ja.AllocationWarning),
        pytest.raises(ja.InputError, match="the whole panel has no portfolio"),
    ):
        ja.allocate_bagged(frame, config, ja.Bootstrap(3))


def test_by_default_two_hundred_resamples_in_blocks_of_a_month() -> None:
    bagged = ja.allocate_bagged(MARKET, ja.AllocationConfig(profiles=("equal_weight",)))
    assert bagged.study.record["sampler"] == ja.Bootstrap(200, "circular", 21).settings()
    months = pd.date_range("2001-01-31", periods=len(MARKET), freq="ME")
    monthly = ja.allocate_bagged(MARKET.set_axis(months), ja.AllocationConfig(profiles=("equal_weight",)))
    assert monthly.study.record["sampler"] == ja.Bootstrap(200, "circular", 3).settings()  # three rows at least
    few = ja.allocate_bagged(MARKET.tail(20), ja.AllocationConfig(profiles=("equal_weight",)))
    assert few.study.record["sampler"] == ja.Bootstrap(200, "circular", 10).settings()  # half of the rows
