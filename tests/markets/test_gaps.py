"""Gaps: no move is lost, whatever becomes of them; and the same table in another order or form is the same panel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from written import as_csv, prices

import jaxalloc as ja
from jaxalloc.markets.gaps import inside_life

WAYS = ("mask", "zero", "carry", "drop-rows", "drop-assets")


def gappy(seed: int, share: float, n_rows: int = 30, n_assets: int = 5) -> pd.DataFrame:
    """Random prices with random gaps; some assets are listed late or delisted."""
    rng = np.random.default_rng(seed)
    values = 100 * np.exp(np.cumsum(rng.normal(0, 0.05, (n_rows, n_assets)), axis=0))
    values[rng.random(values.shape) < share] = np.nan
    for column in range(1, n_assets):
        if rng.random() < 0.3:
            values[: rng.integers(1, n_rows // 2), column] = np.nan
        elif rng.random() < 0.3:
            values[rng.integers(n_rows // 2, n_rows) :, column] = np.nan
    index = pd.date_range("2024-01-01", periods=n_rows, name="Date")
    return pd.DataFrame(values, index=index, columns=list("ABCDE")[:n_assets])


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0, 0.5), missing=st.sampled_from(WAYS))
def test_the_product_of_returns_is_the_ratio_of_prices(seed: int, share: float, missing: str) -> None:
    table = gappy(seed, share)
    try:
        panel = ja.read_returns(table, "prices", missing, missing_tolerance=0.3)  # type: ignore[arg-type]
    except ja.InputError:
        return
    kept = table[panel.symbols]
    if missing.startswith("drop"):
        kept = kept.dropna()
    growth = (1 + panel.returns).prod()
    for name in panel.symbols:
        known = kept[name].dropna()
        assert growth[name] == pytest.approx(known.iloc[-1] / known.iloc[0], rel=1e-12)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0.01, 0.5))
def test_each_way_by_hand(seed: int, share: float) -> None:
    """Against pandas, asset by asset: returns between prices that are there, put on the rows that are."""
    table = gappy(seed, share)
    table["A"] = table["A"].fillna(50.0)  # a row without a single price would leave
    found = {}
    for missing in ("mask", "zero", "carry"):
        try:
            found[missing] = ja.read_returns(table, "prices", missing).returns  # type: ignore[arg-type]
        except ja.InputError:
            return
    for name, column in table.items():
        known = column.dropna()
        moves = known.pct_change(fill_method=None).reindex(table.index).iloc[1:]
        pd.testing.assert_series_equal(found["mask"][name], moves, check_names=False, check_freq=False, rtol=1e-12)
        pd.testing.assert_series_equal(
            found["zero"][name], moves.fillna(0), check_names=False, check_freq=False, rtol=1e-12
        )
        life = (moves.index > known.index[0]) & (moves.index <= known.index[-1])
        carried = moves.where(moves.notna() | ~life, 0.0)
        pd.testing.assert_series_equal(found["carry"][name], carried, check_names=False, check_freq=False, rtol=1e-12)


def test_life_is_from_the_first_value_to_the_last() -> None:
    nan = np.nan
    values = np.array([[nan, 1, 1, nan], [1, nan, 1, nan], [nan, 1, nan, nan], [1, nan, nan, nan]])
    expected = [[0, 1, 1, 0], [1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]]
    assert inside_life(values).astype(int).tolist() == expected


def test_carry_on_returns_and_its_notes() -> None:
    table = pd.DataFrame({"A": [0.1, np.nan, -0.1, 0.2], "B": [np.nan, 0.2, 0.1, np.nan]})
    panel = ja.read_returns(table, "returns", "carry")
    np.testing.assert_array_equal(panel.values, [[0.1, np.nan], [0, 0.2], [-0.1, 0.1], [0.2, np.nan]])
    assert panel.notes[1:] == (
        "Filled 1 missing return in 1 symbol with a return of zero inside the symbols' lives: 'A' (1).",
        "Left 2 returns before listing or after delisting missing: 'B' (2). An asset is active in the universes for "
        "whose rows it is listed.",
    )


def test_an_error_says_what_kind_of_gap_it_is() -> None:
    table = prices(20, names=("OLD", "LATE", "GONE", "COIN"), start="2024-01-01", freq="D", first=(5, 6, 7, 8))
    table.iloc[:4, 1] = np.nan
    table.iloc[15:, 2] = np.nan
    with pytest.raises(
        ja.InputError, match=r"'GONE' \(5\), 'LATE' \(4\); 'GONE' ends on 2024-01-15 \(delisted\?\), 'LATE' begins on "
    ):
        ja.read_returns(table, "prices")
    weekends = table[["OLD", "COIN"]].copy()
    weekends.loc[weekends.index.day_of_week >= 5, "OLD"] = np.nan
    with pytest.raises(ja.InputError, match=r"on 4 rows, the first 2024-01-06 \(weekends on which others trade\)"):
        ja.read_returns(weekends, "prices")


def test_rows_without_a_single_price_leave() -> None:
    table = prices(10)
    table.iloc[[3, 7]] = np.nan
    panel = ja.read_returns(table, "prices")
    assert panel.n_observations == 7
    assert panel.notes[0] == "Left out 2 rows without a single price, the first 2024-01-05."


# ---- one table in many forms -----------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32 - 1),
    date=st.sampled_from(["%Y-%m-%d", "%d.%m.%Y", "%Y%m%d", "%d-%b-%Y", "%b %d, %Y", "%Y/%m/%d", "%d %B %Y"]),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    backwards=st.booleans(),
    long=st.booleans(),
)
def test_order_and_form_change_nothing(
    tmp_path: Path, seed: int, date: str, delimiter: str, backwards: bool, long: bool
) -> None:
    table = gappy(seed, 0.1)
    expected = ja.read_returns(table, "prices", "zero") if table.notna().sum().min() > 1 else None
    if expected is None:
        return
    rng = np.random.default_rng(seed)
    written = table[rng.permutation(table.columns)]
    written = written[::-1] if backwards else written
    if long:
        rows = written.rename_axis(columns="symbol").stack().rename("price").reset_index()
        rows["Date"] = rows["Date"].dt.strftime(date)
        content = rows.to_csv(index=False, sep=delimiter)
    else:
        quoted = "," in date
        content = as_csv(written, date, delimiter, lambda v: "" if np.isnan(v) else repr(float(v)), quoted=quoted)
    (tmp_path / "table.csv").write_text(content)
    panel = ja.read_returns(tmp_path / "table.csv", "prices", "zero")
    assert sorted(panel.symbols) == sorted(expected.symbols)
    pd.testing.assert_frame_equal(
        panel.returns[expected.symbols], expected.returns, check_freq=False, check_names=False, check_exact=True
    )
