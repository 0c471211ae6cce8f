"""What portfolios hang on, against differences of `allocate` at moments that are given; 12 assets, 252 rows."""

from __future__ import annotations

import jax
import numpy as np
import pandas as pd
import pytest

import jaxalloc as ja
from jaxalloc.settings.config import ASSET_PROFILES, CLUSTER_PROFILES

CONFIG = ja.AllocationConfig()
MARKET = ja.datasets.synthetic_market(n_assets=12, n_observations=252)
STEP = 1e-6
YEAR = 252.0


def moments(returns: np.ndarray, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Annual mean and covariance; of decayed weights, rescaled to the number of rows."""
    c = np.ones(len(returns)) if weights is None else weights * len(returns) / weights.sum()
    mean = c @ returns / len(returns)
    centred = returns - mean
    return YEAR * mean, YEAR * (c[:, None] * centred).T @ centred / (len(returns) - 1)


def by_differences(
    market: pd.DataFrame, config: ja.AllocationConfig, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(P, N) half the sum of |dw| for a unit of an asset's annual mean, and of the logarithm of its volatility."""
    returns = market.to_numpy()
    mean, covariance = moments(returns, weights)
    turnovers = [], []
    with jax.enable_x64(True):
        for i in range(len(mean)):
            one = np.eye(len(mean))[i]
            ends = []
            for sign in (1, -1):
                scale = np.exp(sign * STEP * one)
                scaled = covariance * scale[:, None] * scale[None, :]
                moved = ja.allocate(returns, config, mean=mean + sign * STEP * one, covariance=covariance)
                shaken = ja.allocate(returns, config, mean=mean, covariance=scaled)
                ends.append((np.asarray(moved.weights), np.asarray(shaken.weights)))
            for turnover, ahead, behind in zip(turnovers, *ends, strict=True):
                turnover.append(np.abs(ahead - behind).sum(axis=1) / (2 * STEP) / 2)
    return np.stack(turnovers[0], axis=1), np.stack(turnovers[1], axis=1)


def check(config: ja.AllocationConfig, weights: np.ndarray | None = None) -> None:
    found = ja.sensitivity(MARKET, config.replace(periods_per_year=YEAR))
    of_mean, of_volatility = by_differences(MARKET, config.replace(periods_per_year=YEAR, covariance="sample"), weights)
    n = len(MARKET) if weights is None else weights.sum() ** 2 / (weights**2).sum()
    volatility = np.sqrt(np.diagonal(moments(MARKET.to_numpy(), weights)[1]))
    shape = len(config.profiles), MARKET.shape[1]
    frame = {name: values.to_numpy().reshape(shape) for name, values in found.frame.items()}
    np.testing.assert_allclose(frame["mean_error"][0], volatility * np.sqrt(YEAR / n), rtol=1e-9)
    np.testing.assert_allclose(frame["volatility_error"][0], volatility / np.sqrt(2 * n), rtol=1e-9)
    np.testing.assert_allclose(frame["mean_turnover"], of_mean * frame["mean_error"], atol=1e-6)
    np.testing.assert_allclose(frame["volatility_turnover"], of_volatility / np.sqrt(2 * n), atol=1e-6)
    assert (found.n, found.n_valid) == (1, 1)


def test_turnovers_are_those_of_differences() -> None:
    check(CONFIG)
    frame = ja.sensitivity(MARKET, CONFIG).frame
    assert (frame.loc["min_variance", "mean_turnover"] == 0).all()  # which no mean enters
    assert (frame.loc["max_sharpe", "mean_turnover"] > 0).any()


@pytest.mark.slow
def test_turnovers_of_every_profile_are_those_of_differences() -> None:
    check(ja.AllocationConfig(profiles=(*CLUSTER_PROFILES, *ASSET_PROFILES)))


def test_decayed_weights_count_by_their_effective_size() -> None:
    decay = 0.97
    weights = decay ** np.arange(len(MARKET) - 1, -1, -1.0)
    check(ja.AllocationConfig(profiles=("risk_parity",), covariance="ewma", ewma_decay=decay), weights)


def test_universes_are_the_mean_of_each_by_itself() -> None:
    config = ja.AllocationConfig(profiles=("risk_parity", "max_sharpe"))
    found = ja.sensitivity(MARKET, config, ja.RollingWindows(window=126, step=42))
    alone = [ja.sensitivity(MARKET.iloc[start : start + 126], config).frame for start in (0, 42, 84, 126)]
    assert (found.n, found.n_valid) == (4, 4)
    values = np.stack([frame.to_numpy() for frame in alone])
    np.testing.assert_allclose(found.frame[alone[0].columns], values.mean(axis=0), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.frame["mean_turnover_std"], values[..., 3].std(axis=0, ddof=1), atol=1e-9)
    np.testing.assert_allclose(found.frame["volatility_turnover_std"], values[..., 4].std(axis=0, ddof=1), atol=1e-9)


def test_an_asset_that_takes_no_part_counts_for_nothing() -> None:
    gappy = MARKET.copy()
    gappy.iloc[:100, 3] = np.nan
    found = ja.sensitivity(gappy, CONFIG)
    out = found.frame.xs(MARKET.columns[3], level="asset")
    assert (out == 0).all(axis=None)
    without = ja.sensitivity(MARKET.drop(columns=MARKET.columns[3]), CONFIG).frame
    np.testing.assert_allclose(found.frame.drop(index=MARKET.columns[3], level="asset"), without, atol=1e-9)


def test_the_largest_are_in_order_and_the_words_are_few() -> None:
    found = ja.sensitivity(MARKET.to_numpy(), CONFIG)
    table = found.largest("max_sharpe", 5)
    assert list(table.columns) == ["asset", "estimate", "error", "turnover"]
    assert table["turnover"].is_monotonic_decreasing
    both = found.frame.loc["max_sharpe", ["mean_turnover", "volatility_turnover"]].to_numpy()
    assert table["turnover"][0] == both.max()
    assert len(repr(found).splitlines()) <= 6
    assert "max_sharpe" in found._repr_html_()


def test_what_is_wrong_is_said_in_a_line() -> None:
    with pytest.raises(ja.InputError, match="unknown profile"):
        ja.sensitivity(MARKET, CONFIG).largest("nothing")
    with pytest.raises(ja.InputError, match="nothing was allocated"):
        ja.sensitivity(np.full((40, 3), 0.01), CONFIG)
    with pytest.raises(ja.InputError, match="two axes"):
        ja.sensitivity(np.ones(3), CONFIG)
