"""Prices or returns where the caller does not say, and values that cannot be right."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from written import prices

import jaxalloc as ja
from jaxalloc.markets.kinds import judge, odd_values
from jaxalloc.markets.panel import as_panel


def walks(n_rows: int, volatility: float, seed: int, first: float = 100.0, n_assets: int = 5) -> pd.DataFrame:
    steps = np.random.default_rng(seed).normal(0, volatility, (n_rows, n_assets))
    return pd.DataFrame(first * np.exp(np.cumsum(steps, axis=0)), columns=list("ABCDE")[:n_assets])


@pytest.mark.parametrize("n_rows", [12, 40, 250, 2500])
@pytest.mark.parametrize("volatility", [0.001, 0.01, 0.06])
def test_prices_and_returns_are_told_apart(n_rows: int, volatility: float) -> None:
    for seed in range(20):
        for first in (1e-6, 1.0, 1e5):
            table = walks(n_rows, volatility, seed, first)
            # a dozen rows near 1 may be growth factors, too
            assert judge(table).verdict in ({"prices"} if n_rows > 12 or first != 1 else {"prices", "factors"})
        returns = table.pct_change().iloc[1:]
        assert judge(returns).verdict == "returns"
        assert judge(1 + returns).verdict == "factors"
        if volatility == 0.01:
            assert judge(100 * returns).verdict == "percent"


def test_kind_auto() -> None:
    table = prices()
    panel = ja.read_returns(table)
    assert panel.notes[0] == "Took the numbers for prices: they are above zero and move like levels."
    np.testing.assert_array_equal(panel.values, ja.read_returns(table, kind="prices").values)
    again = ja.read_returns(panel.returns)
    assert again.notes == ("Took the numbers for returns: they have both signs and are small.",)
    np.testing.assert_array_equal(again.values, panel.values)


@pytest.mark.parametrize(
    ("table", "part"),
    [
        (walks(60, 0.01, 1).pct_change().iloc[1:] * 100, "look like per cent; say kind='percent'"),
        (walks(60, 0.01, 1).pct_change().iloc[1:] + 1, "like growth factors 1 [+] r; say kind='factors'"),
        (walks(200, 0.01, 1) / 100 - 1, "like cumulative returns or spreads"),
        (pd.DataFrame({"A": [0.05, 0.3, 0.2], "B": [0.2, 0.01, 0.3]}), "say kind='prices' or kind='returns'"),
    ],
)
def test_what_is_neither_is_refused_with_the_word_to_say(table: pd.DataFrame, part: str) -> None:
    with pytest.raises(ja.InputError, match=part):
        ja.read_returns(table)


def test_a_frame_that_plainly_holds_prices_is_no_frame_of_returns() -> None:
    for first in (1e-5, 0.3, 100.0):
        with pytest.raises(ja.InputError, match="look like prices"):
            as_panel(walks(60, 0.02, 3, first))
    accruals = walks(60, 0.02, 3, 1e-4)  # the returns of a money market, say
    assert ja.read_returns(accruals, kind="returns").n_assets == 5
    assert as_panel(walks(60, 0.02, 3).pct_change().iloc[1:]).n_assets == 5


# ---- values that cannot be right -------------------------------------------------------------------------------------


def spoilt(column: str, row: int | slice, factor: float) -> tuple[str, ...]:
    table = prices()
    table[column] = table[column].astype(float)
    table.iloc[row, table.columns.get_loc(column)] *= factor
    return tuple(note for note in ja.read_returns(table, kind="prices").notes if note.startswith("Check"))


@pytest.mark.parametrize(
    ("factor", "words"), [(100.0, "a factor of 100"), (0.1, "a factor of 1/10"), (1000.0, "1,000")]
)
def test_a_factor_for_a_day(factor: float, words: str) -> None:
    (note,) = spoilt("BBB", 10, factor)
    assert "'BBB'" in note
    assert "on 2024-01-16" in note
    assert f"{words}" in note
    assert "back on 2024-01-17: another unit or a slip of the decimal point?" in note


@pytest.mark.parametrize(
    ("factor", "words"), [(0.5, "a 2-for-1 split"), (1 / 3, "a 3-for-1 split"), (20.0, "a 1-for-20 split")]
)
def test_a_split_that_was_not_adjusted(factor: float, words: str) -> None:
    (note,) = spoilt("AAA", slice(20, None), factor)
    assert "'AAA'" in note
    assert f"on 2024-01-30 ({words} that was not adjusted?)" in note


def test_a_price_that_stands_still() -> None:
    table = prices()
    table.iloc[12:, 2] = table.iloc[12, 2]
    (note,) = (note for note in ja.read_returns(table, kind="prices").notes if note.startswith("Check"))
    assert note == "Check 1 asset whose price stands still: the price is unchanged on most rows of 'CCC' (27 of 39)."


def test_ordinary_values_are_not_named() -> None:
    assert odd_values(prices().pct_change().iloc[1:], "prices") == []
    assert odd_values(pd.DataFrame({"A": [0.87, -0.44, 0.0], "B": [0.1, np.nan, 0.2]}), "returns") == []
    many = pd.DataFrame({"A": [1.3, -0.7] * 6})
    (note,) = odd_values(many, "returns")
    assert note.startswith("Check 12 returns beyond +100 % or -50 %: 'A' +130.0 % on 0, 'A' -70.0 % on 1")
    assert note.endswith("and 7 more.")
    assert odd_values(pd.DataFrame({"A": [-1.0, 0.1]}), "returns") == [
        "Check a return beyond +100 % or -50 %: 'A' -100.0 % on 0."
    ]
