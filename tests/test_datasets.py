"""The embedded market has the properties that it states: clusters (scipy is the oracle), volatilities, tails, skew."""

import doctest
import sys

import numpy as np
import pandas as pd
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from jaxalloc import datasets
from jaxalloc.arguments.errors import InputError
from jaxalloc.datasets import describe_market, synthetic_market

LONG = 40_000  # days: a correlation's standard error is below 0.01 even with these tails, a volatility's about 1 %
FULL_TABLE = 106  # assets: every group of the first economy is there


def correlation_distance(returns, absolute=False):
    rho = np.clip(np.corrcoef(returns.to_numpy(), rowvar=False), -1.0, 1.0)
    distance = np.sqrt((1.0 - (np.abs(rho) if absolute else rho)) / 2.0)
    np.fill_diagonal(distance, 0.0)
    return (distance + distance.T) / 2.0


def clusters(returns, absolute=False):
    condensed = squareform(correlation_distance(returns, absolute), checks=False)
    labels = fcluster(linkage(condensed, "average"), 0.4, "distance")
    return pd.Series(labels, index=returns.columns)


def partition(labels):
    return {frozenset(members.index) for _, members in labels.groupby(labels)}


def within_group_correlations(returns, market):
    rho = returns.corr()
    for name, members in market.groupby("group"):
        block = rho.loc[members.index, members.index].to_numpy()
        if len(members) > 1:
            yield name, members["group_correlation"].iloc[0], block[np.triu_indices(len(members), 1)]


@pytest.fixture(scope="module")
def long_market():
    return synthetic_market(FULL_TABLE, LONG, seed=3)


@pytest.fixture(scope="module")
def description():
    return describe_market(FULL_TABLE)


# Clusters.


@pytest.mark.parametrize(
    ("n_assets", "n_observations", "fewest", "most"),
    [(20, 252, 8, 10), (20, 756, 8, 10), (60, 252, 17, 21), (60, 756, 18, 20), (100, 252, 25, 31), (100, 756, 25, 31)],
)
def test_number_of_clusters(n_assets, n_observations, fewest, most):
    found = [clusters(synthetic_market(n_assets, n_observations, seed)).nunique() for seed in range(6)]
    assert fewest <= min(found)
    assert max(found) <= most
    if n_assets == 100:
        assert 25 <= np.median(found) <= 30


def test_bootstrap_resamples_keep_the_number_of_clusters():
    returns = synthetic_market(100, 252, seed=0)
    rng = np.random.default_rng(0)
    found = [clusters(returns.iloc[rng.integers(0, 252, 252)]).nunique() for _ in range(20)]
    assert 25 <= np.median(found) <= 30
    assert min(found) >= 23
    assert max(found) <= 34


def test_long_sample_recovers_the_described_groups(long_market, description):
    tight = description["group_correlation"] > 0.68
    intended = description["group"].where(tight, description.index.to_series())
    assert partition(clusters(long_market)) == partition(intended)
    assert 0 < (~tight).sum() < 10  # there is a loose group, and it is the exception


@pytest.mark.parametrize("seed", range(4))
def test_venues_of_a_coin_share_a_cluster_and_coins_do_not(seed):
    returns, market = synthetic_market(100, 252, seed), describe_market(100)
    coins = market[market["asset_class"] == "crypto"]
    found = clusters(returns)[coins.index]
    assert coins["group"].nunique() >= 4
    assert partition(found) == partition(coins["group"])


def test_venues_carry_noise_of_different_size(long_market):
    rho = long_market.filter(like="BTC.").corr().to_numpy()[np.triu_indices(4, 1)]
    assert np.all((rho > 0.985) & (rho < 0.995))
    assert np.ptp(rho) > 0.001


def test_coins_correlate_at_about_one_half(long_market):
    coins = long_market[["BTC.venueA", "ETH.venueA", "DOGE.venueA", "SOL.venueA"]]
    rho = coins.corr().to_numpy()[np.triu_indices(4, 1)]
    assert np.all((rho > 0.45) & (rho < 0.62))


def test_groups_have_the_described_correlation(long_market, description):
    # Members' own noise is 0.7, 1 or 1.3 times 1 - rho: a small group's mean is up to 0.2 (1 - rho) away.
    for name, rho, found in within_group_correlations(long_market, description):
        assert abs(found.mean() - rho) < 0.2 * (1.0 - rho) + 0.02, name


def test_no_pair_of_groups_comes_near_the_threshold(long_market, description):
    rho = long_market.corr().to_numpy()
    group = description["group"].to_numpy()
    assert rho[group[:, None] != group[None, :]].max() < 0.62


def test_inverse_fund_and_long_volatility_are_negatively_correlated(long_market, description):
    rho = long_market.corr()
    technology = description.index[description["group"] == "technology"]
    equity = description.index[description["asset_class"] == "equity"]
    assert rho.loc["INVT.1", technology].max() < -0.75
    assert rho.loc["LVOL.1", equity].max() < -0.2
    joined = clusters(long_market, absolute=True)
    assert joined["INVT.1"] == joined["TECH.1"] != joined["LVOL.1"]


# Each asset's distribution.


def test_volatilities_meet_their_targets_from_4_to_120_per_cent(long_market, description):
    # Standard errors: 1 % from the tails and the volatility regime; the bound and the exponential move coins by 2 %.
    ratio = long_market.std() * np.sqrt(252) / description["annual_volatility"]
    assert ratio.between(0.94, 1.06).all()
    assert description["annual_volatility"].min() == pytest.approx(0.04)
    assert description["annual_volatility"].max() == pytest.approx(1.20)
    for n_assets in (20, 60, 100, 500):
        targets = describe_market(n_assets)["annual_volatility"]
        assert targets.min() < 0.05
        assert targets.max() > 1.1


def test_one_years_volatilities_span_the_range():
    realised = synthetic_market(100, 252).std() * np.sqrt(252)
    assert realised.min() < 0.06
    assert 0.8 < realised.max() < 1.7


@pytest.mark.parametrize(
    ("asset_class", "lowest", "highest"),
    [("government bond", 0.04, 0.08), ("corporate bond", 0.05, 0.08), ("currency", 0.06, 0.10), ("metal", 0.15, 0.30)],
)
def test_volatility_ranges_of_the_classes(description, asset_class, lowest, highest):
    targets = description.loc[description["asset_class"] == asset_class, "annual_volatility"]
    assert targets.between(lowest - 1e-12, highest + 1e-12).all()


def test_drifts_meet_their_targets(long_market, description):
    # The mean's standard error is vol / sqrt(159 years) = 0.08 vol.
    error = (long_market.mean() * 252 - description["annual_drift"]).abs()
    assert (error < 0.4 * description["annual_volatility"]).all()
    assert (description["annual_drift"] < 0).any()
    assert (description["annual_drift"] > 0).any()


@pytest.mark.parametrize("seed", [3, 4])
def test_skewness_has_the_designed_sign(seed, description):
    skewness = synthetic_market(FULL_TABLE, LONG, seed).skew()
    designed = description["skew"] != 0
    assert (np.sign(skewness)[designed] == description["skew"][designed]).all()
    assert skewness[designed].abs().min() > 0.15
    assert {"crypto", "equity", "hedge"} <= set(description.loc[description["skew"] > 0, "asset_class"])
    assert {"corporate bond", "currency"} == set(description.loc[description["skew"] < 0, "asset_class"])


def test_tails_are_fat_and_volatility_clusters(long_market):
    # Gaussian returns of this length: excess kurtosis 0 +- 0.025, autocorrelations 0 +- 0.005.
    assert long_market.kurt().min() > 0.5
    lagged = long_market.shift(1)
    assert (long_market.abs().corrwith(lagged.abs()) > 0.02).all()
    assert (long_market.corrwith(lagged).abs() < 0.03).all()


def test_one_component_is_standardised_and_student():
    # Moments in closed form: excess kurtosis of Student-t with 9 degrees of freedom is 6 / 5.
    draw = datasets._two_piece_t(np.random.default_rng(0), 400_000, 9.0, 1.0)
    assert abs(draw.mean()) < 0.008
    assert abs(draw.var() - 1) < 0.015
    assert pd.Series(draw).kurt() == pytest.approx(1.2, abs=0.25)
    skewed = datasets._two_piece_t(np.random.default_rng(0), 400_000, 9.0, 1.4)
    assert abs(skewed.mean()) < 0.008
    assert abs(skewed.var() - 1) < 0.02
    assert pd.Series(skewed).skew() > 0.5


def test_component_is_exactly_student_t():
    from scipy.stats import kstest, t

    draw = datasets._two_piece_t(np.random.default_rng(1), 20_000, 5.0, 1.0) * np.sqrt(5 / 3)
    assert kstest(draw, t(5.0).cdf).pvalue > 0.01


def test_no_return_reaches_minus_one(long_market):
    assert long_market.to_numpy().min() >= np.expm1(-1.0)
    assert long_market.to_numpy().max() <= np.expm1(1.0)


def test_no_ties_and_no_duplicates(long_market):
    assert (long_market.nunique() == LONG).all()
    distance = correlation_distance(synthetic_market(100, 252))
    pairs = distance[np.triu_indices(100, 1)]
    assert np.unique(pairs).size == pairs.size
    assert pairs.min() > 0.01


# The frame.


def test_frame():
    returns = synthetic_market()
    assert returns.shape == (756, 60)
    assert returns.index.name == "date"
    assert returns.index[0] == pd.Timestamp("2021-01-04")
    assert returns.index.is_monotonic_increasing
    assert (returns.index.day_of_week < 5).all()
    assert (returns.dtypes == np.float64).all()
    assert list(returns.columns) == list(describe_market().index)
    assert synthetic_market(1, 2, start="2022-01-01").index[0] == pd.Timestamp("2022-01-03")


@pytest.mark.parametrize("n_assets", [1, 2, 3, 7, 20, 99, 107, 250, 500])
def test_sizes(n_assets):
    returns, market = synthetic_market(n_assets, 5), describe_market(n_assets)
    assert returns.shape == (5, n_assets)
    assert len(market) == n_assets
    assert np.isfinite(returns.to_numpy()).all()
    assert returns.columns.is_unique
    assert list(returns.columns) == list(market.index)
    assert (returns.nunique() == 5).all()


def test_smallest_market():
    assert synthetic_market(1, 2).shape == (2, 1)


def test_every_size_is_a_prefix_of_the_largest():
    symbols, groups = list(describe_market(500).index), list(describe_market(500)["group"])
    for n_assets in range(1, 500, 7):
        market = describe_market(n_assets)
        assert list(market.index) == symbols[:n_assets]
        assert list(market["group"]) == groups[:n_assets]


def test_classes_mix_in_small_markets_too():
    assert describe_market(20)["asset_class"].nunique() >= 6
    assert set(describe_market(60)["asset_class"]) == set(describe_market(500)["asset_class"])


def test_same_seed_same_bits_other_seed_other_draws():
    first, again = synthetic_market(30, 100, seed=5), synthetic_market(30, 100, seed=5)
    pd.testing.assert_frame_equal(first, again, check_exact=True)
    other = synthetic_market(30, 100, seed=6)
    assert list(other.columns) == list(first.columns)
    assert not np.isclose(other.to_numpy(), first.to_numpy(), rtol=1e-6, atol=0).any()


def test_smaller_market_is_a_corner_of_the_larger():
    large = synthetic_market(60, 300, seed=2)
    columns = synthetic_market(15, 300, seed=2)
    pd.testing.assert_frame_equal(columns, large.iloc[:, :15], check_exact=True)
    corner = synthetic_market(15, 101, seed=2)
    # Rows to rounding: a vectorised exp may treat an array's last elements apart.
    np.testing.assert_allclose(corner, large.iloc[:101, :15], rtol=1e-10, atol=1e-16)


def test_numpy_integers_are_integers():
    pd.testing.assert_frame_equal(synthetic_market(np.int64(4), np.int32(6), np.uint8(1)), synthetic_market(4, 6, 1))


# Errors.


@pytest.mark.parametrize(
    "arguments",
    [
        {"n_assets": 0},
        {"n_assets": -3},
        {"n_assets": 2.5},
        {"n_assets": True},
        {"n_assets": "many"},
        {"n_observations": 1},
        {"n_observations": None},
        {"seed": -1},
        {"seed": 0.5},
        {"start": "no date"},
        {"start": None},
        {"start": pd.NaT},
    ],
)
def test_arguments_out_of_range(arguments):
    with pytest.raises(InputError) as caught:
        synthetic_market(**arguments)
    message = str(caught.value)
    assert "\n" not in message
    assert next(iter(arguments)) in message


@pytest.mark.parametrize("n_assets", [0, 1.0, None])
def test_description_rejects_the_same_numbers(n_assets):
    with pytest.raises(InputError, match="n_assets"):
        describe_market(n_assets)


def test_examples_in_the_docstrings_run():
    assert doctest.testmod(sys.modules["jaxalloc.datasets"]).failed == 0
