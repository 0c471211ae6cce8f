"""Orders: whole lots that overspend nothing and sell nothing short, within a lot of what the weights say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import trading_oracles
from hypothesis import given
from hypothesis import strategies as st

import jaxalloc as ja
from jaxalloc.backtest.orders import read_shares

PRICES = {"A": 70.0, "B": 30.0, "C": 12.5}


def case(seed: int) -> dict[str, Any]:
    """Weights, holdings, prices over four decades, and lots of one share or of several."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 9))
    names = [f"S{i}" for i in range(n)]
    weights = rng.dirichlet(np.full(n, 0.7)) * rng.choice([1, 1, 0.8])
    if seed % 3 == 0:
        weights = np.round(weights, 1) / max(1, np.round(weights, 1).sum())
    prices = np.round(10 ** rng.uniform(-1, 3, n), int(rng.integers(0, 3))) + 0.01
    held = rng.integers(0, 50, n) * rng.integers(0, 2, n)
    capital = float(held @ prices) * rng.uniform(1, 2) + rng.uniform(1, 10_000)
    lots = {name: int(lot) for name, lot in zip(names, rng.choice([1, 1, 5, 100], n), strict=True)}
    return {
        "target": pd.Series(weights, names),
        "held": pd.Series(held, names),
        "prices": pd.Series(prices, names),
        "capital": capital,
        "lot": lots if seed % 2 else 1,
    }


@given(st.integers(0, 2**32 - 1))
def test_nothing_is_overspent_or_short_and_all_is_within_a_lot(seed: int) -> None:
    given_ = case(seed)
    found = ja.orders(**given_)
    frame, prices, capital = found.frame, given_["prices"], given_["capital"]
    lot = pd.Series(given_["lot"]) if seed % 2 else 1
    shares, value = frame["shares"], frame["shares"] * prices
    assert list(frame.columns) == ["held", "shares", "trade", "price", "value", "weight", "target"]
    assert (shares >= 0).all()
    assert (shares / lot % 1 == 0).all()
    assert value.sum() <= capital * (1 + 1e-12)
    assert found.cash == pytest.approx(capital - value.sum(), abs=1e-9 * capital)
    assert found.cash >= 0
    ideal = given_["target"] * capital / prices
    assert ((shares - ideal).abs() < lot * (1 + 1e-9)).all()
    np.testing.assert_allclose(frame["trade"], shares - given_["held"])
    np.testing.assert_allclose(frame["weight"], value / capital, rtol=1e-12)
    # whoever lacks more of a lot than one that was rounded up could not be afforded any more
    lacking = (ideal / lot) % 1
    up = shares > ideal * (1 + 1e-9)
    meant = given_["target"].sum() * capital
    for symbol in frame.index[~up & (lacking > 1e-9) & (lacking < 1 - 1e-9)]:
        after = [other for other in frame.index[up] if lacking[other] < lacking[symbol]]
        size = lot[symbol] if seed % 2 else 1
        without = value.sum() - sum(prices[other] * (lot[other] if seed % 2 else 1) for other in after)
        assert without + prices[symbol] * size > meant * (1 - 1e-9)


def test_largest_remainders_by_hand() -> None:
    found = ja.orders({"A": 0.5, "B": 0.3, "C": 0.2}, {"A": 10, "C": 1}, PRICES, 1000, lot={"A": 1, "B": 1, "C": 10})
    # 7.14 of A, 10 of B, 1.6 lots of C: 7, 10 and 1 lot cost 915, and 85 do not buy another lot of C, 125, but A at 70
    assert found.frame["shares"].tolist() == [8, 10, 10]
    assert found.frame["trade"].tolist() == [-2, 10, 9]
    assert found.cash == pytest.approx(15)
    assert repr(found) == "Orders: 3 trades, 412.50 bought and 140.00 sold, 15.00 left in cash"
    assert "15.00 left in cash" in found._repr_html_()


def test_what_is_held_as_the_target_says_is_not_traded() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        n = 7
        names, prices, held = [f"S{i}" for i in range(n)], rng.uniform(0.3, 90, n), rng.integers(1, 1000, n)
        capital = float(held @ prices)
        found = ja.orders(dict(zip(names, held * prices / capital, strict=True)), dict(zip(names, held, strict=True)),
                          dict(zip(names, prices, strict=True)), capital)  # fmt: skip
        assert (found.frame["trade"] == 0).all()


def test_what_is_no_part_of_the_target_is_sold_and_needs_a_price_too() -> None:
    found = ja.orders({"A": 1.0, "B": 0.0}, pd.Series({"C": 4.0}), PRICES | {"Z": 1.0}, 500)
    assert list(found.frame.index) == ["A", "B", "C"]
    assert found.frame["trade"].tolist() == [7, 0, -4]
    assert found.cash == 10
    free = ja.orders({"A": 1.0, "B": 0.0}, None, {"A": 70}, 500)  # B is neither held nor wanted
    assert free.frame["price"].isna().tolist() == [False, True]
    assert free.frame["value"].tolist() == [490, 0]


def test_cash_that_the_target_leaves_stays_in_cash() -> None:
    found = ja.orders({"A": 0.35, "B": 0.35}, None, PRICES, 1000)
    assert found.frame["value"].sum() <= 700
    assert found.cash >= 300


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": [0.5, 0.5]}, "target must be weights by symbol, a mapping or Series, not a list"),
        ({"target": {"A": 0.8, "B": 0.4}}, "target sums to 1.2; give weights that sum to at most 1"),
        ({"target": {"A": -0.1}}, "target: the weight of 'A' must be a number of at least 0, not -0.1"),
        ({"target": {"A": "half"}}, "target: the weight of 'A' must be a number of at least 0, not 'half'"),
        ({"target": pd.Series([0.1, 0.2], ["A", "A"])}, "target names 'A' twice; give each symbol once"),
        ({"target": {"X": 0.5}}, "prices has none of 'X', which is held or wanted; give its price, or leave it out"),
        ({"held": {"X": 2}}, "prices has none of 'X', which is held or wanted"),
        ({"held": {"A": -2}}, "held: the number of shares of 'A' must be a number of at least 0, not -2"),
        ({"held": 5}, "held must be numbers of shares by symbol, a mapping or Series, not a int"),
        ({"prices": {"A": 0, "B": 1}}, "prices: that of 'A' must be a number above 0, not 0"),
        ({"prices": {"A": "x", "B": 1}}, "prices: that of 'A' must be a number above 0, not 'x'"),
        ({"prices": {"A": np.nan, "B": 1}}, "prices has none of 'A'"),
        ({"prices": 5}, "prices must be prices by symbol, a mapping or Series, not a int"),
        ({"prices": pd.Series([1, 2], ["A", "A"])}, "prices names 'A' twice"),
        ({"capital": 0}, "capital must be above 0, not 0"),
        ({"capital": "all"}, "capital must hold numbers, not 'all'"),
        (
            {"held": {"A": 100}},
            "capital is 1,000.00, less than the 7,000.00 that what is held is worth; give all wealth",
        ),
        ({"lot": 0}, "lot must be a whole number at least 1, not 0"),
        ({"lot": 1.5}, "lot must be a whole number at least 1, not 1.5"),
        ({"lot": {"A": 10}}, "lot has none of 'B'; give the lot of each symbol, or one number for all"),
        ({"lot": {"A": 10, "B": 0}}, "lot of 'B' must be a whole number at least 1, not 0"),
    ],
)
def test_wrong_orders_are_one_line(changes: dict[str, Any], message: str) -> None:
    given_ = {"target": {"A": 0.5, "B": 0.5}, "held": None, "prices": PRICES, "capital": 1000}
    with pytest.raises(ja.InputError, match=message) as raised:
        ja.orders(**(given_ | changes))
    assert "\n" not in str(raised.value)


def test_shares_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "shares.csv"
    path.write_text("symbol,shares\nA,120\nB,\nC,7.5\n")
    assert read_shares(path).to_dict() == {"A": 120, "B": 0, "C": 7.5}
    for text, message in (
        ("symbol,shares\nA,many\n", "'many' in column 'shares', line 2, is not a number; give numbers of shares"),
        ("symbol\nA\n", "there are no shares; give the columns symbol and shares"),
        ("symbol,shares,weight\nA,1,2\n", "there are 2 columns beside the symbols; give the columns symbol and shares"),
    ):
        path.write_text(text)
        with pytest.raises(ja.InputError, match=message):
            read_shares(path)


# ---- of a walk-forward and of a panel -------------------------------------------------------------------------------


def test_a_walk_forward_places_its_last_decision_within_the_band_of_what_is_held() -> None:
    market = ja.datasets.synthetic_market(n_assets=6, n_observations=130, seed=3)
    prices = 100 * (1 + market).cumprod()
    panel = ja.read_returns(prices, kind="prices")
    assert panel.last_prices is not None
    config = ja.AllocationConfig(profiles=("equal_weight", "max_sharpe"))
    walk = ja.walk_forward(panel, config, 40, 15, band=[0, 0.04], max_turnover=0.25)
    symbols, last = list(market.columns), panel.last_prices.to_numpy()
    held = {symbols[0]: 300, symbols[1]: 400, symbols[4]: 150}
    now = np.array([held.get(symbol, 0) for symbol in symbols]) * last
    capital = float(now.sum())
    for at, band in enumerate((0.0, 0.04)):
        target = walk.target("max_sharpe", at)["target"].to_numpy()
        wanted = trading_oracles.bought(now / capital, target, band, 0.25)
        found = walk.orders("max_sharpe", panel.last_prices, capital, held, at=at)
        np.testing.assert_allclose(found.frame["target"], wanted, atol=1e-12)
        assert (abs(found.frame["shares"] - wanted * capital / last) < 1).all()
    whole = walk.orders("max_sharpe", panel.last_prices, capital, at=1)  # out of cash: the target itself
    np.testing.assert_allclose(whole.frame["target"], walk.target("max_sharpe")["target"], atol=1e-15)
    with pytest.raises(ja.InputError, match="has no profile 'hrp'"):
        walk.orders("hrp", panel.last_prices, 1000)


def test_without_a_last_portfolio_there_is_nothing_to_place() -> None:
    market = ja.datasets.synthetic_market(n_assets=6, n_observations=130, seed=3)
    market.iloc[100] = np.nan
    walk = ja.walk_forward(market, ja.AllocationConfig(profiles=("max_sharpe",)), 40, 15, max_missing=0)
    with pytest.raises(
        ja.InputError, match="the last window has no portfolio of max_sharpe: there is nothing to place"
    ):
        walk.orders("max_sharpe", dict.fromkeys(market.columns, 10.0), 1000)
