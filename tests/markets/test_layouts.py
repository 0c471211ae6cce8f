"""Tables of one security, of fields of several, in long form, across and in pairs: which column is an asset."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from written import as_csv, continental, prices

import jaxalloc as ja
from jaxalloc.markets.vocabulary import best_field, month_of, parts_of, plain_name, role_of, says_per_cent

PRICES = prices()
MOVES = (PRICES / PRICES.shift(1) - 1).to_numpy()[1:]
BARS = pd.DataFrame(
    {
        "Open": PRICES["AAA"] + 0.1,
        "High": PRICES["AAA"] + 0.3,
        "Low": PRICES["AAA"] - 0.3,
        "Close": PRICES["AAA"],
        "Volume": np.random.default_rng(1).integers(10**5, 10**6, len(PRICES)),
    }
)
FIELDS = pd.concat({"Close": PRICES, "Volume": 1000 * PRICES, "Open": PRICES + 1}, axis=1)
LONG = PRICES.rename_axis(columns="ticker").stack().rename("close").reset_index()


def read(folder: Path, content: str, name: str = "file.csv", **choices: Any) -> ja.Panel:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return ja.read_returns(path, **choices)


def check(panel: ja.Panel, names: tuple[str, ...] = ("AAA", "BBB", "CCC"), moves: np.ndarray = MOVES) -> None:
    assert panel.symbols == list(names)
    np.testing.assert_allclose(panel.values, moves[:, : len(names)], rtol=0, atol=1e-12)


# ---- one security ----------------------------------------------------------------------------------------------------

PORTALS: dict[str, tuple[dict[str, str], dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}, {}),
    "numbered": (
        {"Open": "1. open", "High": "2. high", "Low": "3. low", "Close": "4. close", "Volume": "5. volume"},
        {},
        {},
    ),
    "polish": (
        {"Open": "Otwarcie", "High": "Najwyzszy", "Low": "Najnizszy", "Close": "Zamkniecie", "Volume": "Wolumen"},
        {},
        {"label": "Data"},
    ),
    "german": (
        {"Open": "Eröffnung", "High": "Hoch", "Low": "Tief", "Close": "Schluss", "Volume": "Volumen"},
        {},
        {"label": "Datum", "delimiter": ";", "date": "%d.%m.%Y", "number": continental},
    ),
    "french": (
        {"Open": "Ouverture", "High": "Haut", "Low": "Bas", "Close": "Clôture"},
        {},
        {"delimiter": ";", "date": "%d/%m/%Y", "number": lambda v: f"{v:.2f}".replace(".", ",")},
    ),
    "spanish": (
        {"Open": "Apertura", "High": "Máximo", "Low": "Mínimo", "Close": "Último", "Volume": "Vol."},
        {"% var.": "0,12%"},
        {"label": "Fecha", "delimiter": ";", "date": "%d.%m.%Y", "number": continental},
    ),
    "japanese": (
        {"Open": "始値", "High": "高値", "Low": "安値", "Close": "終値", "Volume": "出来高"},
        {},
        {"label": "日付", "date": "%Y/%m/%d"},
    ),
    "chinese": (
        {"Open": "开盘", "High": "最高", "Low": "最低", "Close": "收盘", "Volume": "成交量"},
        {"成交额": 1.0, "振幅": 0.5, "涨跌幅": 0.2},
        {"label": "日期"},
    ),
    "indian": (
        {
            "Open": "Open Price",
            "High": "High Price",
            "Low": "Low Price",
            "Close": "Close Price",
            "Volume": "No. of Trades",
        },
        {"Prev Close": 5.0, "VWAP": 7.0, "A column of its own": 3.0},
        {},
    ),
    "terminal": (
        {"Open": "<OPEN>", "High": "<HIGH>", "Low": "<LOW>", "Close": "<CLOSE>", "Volume": "<TICKVOL>"},
        {"<VOL>": 0.0, "<SPREAD>": 2.0},
        {"label": "<DATE>", "delimiter": "\t", "date": "%Y.%m.%d"},
    ),
    "coins": ({"Close": "price", "Volume": "total_volume"}, {"market_cap": 1e9}, {"label": "snapped_at"}),
}


@pytest.mark.parametrize("portal", PORTALS)
def test_the_file_of_one_security_is_one_asset(tmp_path: Path, portal: str) -> None:
    names, more, form = PORTALS[portal]
    bars = BARS if portal != "coins" else BARS[["Close", "Volume"]]
    panel = read(tmp_path, as_csv(bars.rename(columns=names).assign(**more), **form), "NXT.csv")
    check(panel, ("NXT",))
    taken = names.get("Close", "Close")
    (note,) = (note for note in panel.notes if note.startswith("Read the file as that of one asset"))
    assert f"'NXT': took {taken!r}; left out" in note


def test_the_adjusted_close_comes_first_and_the_caller_before_it(tmp_path: Path) -> None:
    content = as_csv(BARS.assign(**{"Adj Close": PRICES["BBB"]}))
    check(read(tmp_path, content), ("file",), MOVES[:, 1:])
    check(read(tmp_path, content, columns="Close"), ("file",))
    check(read(tmp_path, content, "a.b.csv", columns=["close"]), ("a.b",))
    with pytest.raises(ja.InputError, match="there is no 'Shut'; the assets are 'file'"):
        read(tmp_path, content, columns="Shut")


def test_a_single_column_is_named_after_the_file(tmp_path: Path) -> None:
    for label in ("Close", "NAV", "value", "Kurs"):
        check(read(tmp_path, as_csv(PRICES[["AAA"]].rename(columns={"AAA": label})), "FUND.csv"), ("FUND",))
    check(read(tmp_path, as_csv(PRICES[["AAA"]])), ("AAA",))
    check(ja.read_returns(PRICES["AAA"]), ("AAA",))


def test_tickers_that_are_words_stay_assets(tmp_path: Path) -> None:
    for names in (["LOW", "OPEN", "NULL"], ["V", "C", "LOW"], ["DIA", "MAR", "NAV"], ["NA", "TRUE", "nan"]):
        check(read(tmp_path, as_csv(PRICES.set_axis(names, axis=1))), tuple(names))
    for label in ("Date", ""):
        numbers = ("600519", "000001", "0700")
        check(read(tmp_path, as_csv(PRICES.set_axis(list(numbers), axis=1), label=label)), numbers)


# ---- fields of several -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", [".", "_", " ", "-", ":", "/"])
@pytest.mark.parametrize("field_first", [True, False])
def test_names_of_asset_and_field(tmp_path: Path, mark: str, field_first: bool) -> None:
    names = [mark.join(pair if field_first else pair[::-1]) for pair in FIELDS.columns]
    panel = read(tmp_path, FIELDS.set_axis(names, axis=1).to_csv())
    check(panel)
    assert panel.notes[0] == "Took 'Close' of each asset; left out 'Volume', 'Open'."


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("swapped", [True, False])
def test_two_header_lines(tmp_path: Path, named: bool, swapped: bool) -> None:
    table = FIELDS.rename_axis(columns=["Price", "Ticker"] if named else [None, None])
    table = table.swaplevel(axis=1).sort_index(axis=1) if swapped else table
    check(read(tmp_path, table.to_csv()))
    check(ja.read_returns(table))
    table.to_parquet(tmp_path / "levels.parquet")
    check(ja.read_returns(tmp_path / "levels.parquet"))
    opening = ja.read_returns(table, columns=["Open", "CCC", "AAA"])
    assert opening.symbols == ["CCC", "AAA"]
    np.testing.assert_allclose(
        opening.values[:, 1], ((PRICES + 1) / (PRICES + 1).shift(1) - 1)["AAA"].iloc[1:], atol=1e-12
    )


def test_other_ways_to_name_asset_and_field(tmp_path: Path) -> None:
    check(read(tmp_path, FIELDS.set_axis([str(pair) for pair in FIELDS], axis=1).to_csv()))
    lines = [f"{day:%Y-%m-%d},{row.AAA},100,{row.BBB},200" for day, row in PRICES.iterrows()]
    check(read(tmp_path, "\n".join(["Date,AAA,,BBB,", ",Close,Volume,Close,Volume", *lines])), ("AAA", "BBB"))
    closes = PRICES.add_suffix(".Close")
    check(read(tmp_path, closes.to_csv()), tuple(closes))  # one field: names stay as they are
    some = FIELDS.drop(columns=[("Close", "BBB")]).set_axis(
        [f"{t}.{f}" for f, t in FIELDS.columns if (f, t) != ("Close", "BBB")], axis=1
    )
    with pytest.raises(ja.InputError) as caught:  # BBB has no price: it must not vanish
        read(tmp_path, some.to_csv(), kind="returns")
    assert "price" in str(caught.value)


# ---- long ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "order", [["Date", "ticker", "close"], ["ticker", "Date", "close"], ["close", "Date", "ticker"]]
)
@pytest.mark.parametrize("numbered", [True, False])
def test_long_tables(tmp_path: Path, order: list[str], numbered: bool) -> None:
    check(read(tmp_path, LONG[order].to_csv(index=numbered)))
    check(ja.read_returns(LONG[order]))
    shuffled = LONG[order].sample(frac=1, random_state=3)
    assert sorted(read(tmp_path, shuffled.to_csv(index=False)).symbols) == ["AAA", "BBB", "CCC"]


def test_long_tables_with_more_columns(tmp_path: Path) -> None:
    more = LONG.assign(
        open=LONG["close"] + 1, volume=5, adjusted=LONG["close"], Name=LONG["ticker"] + " Inc", currency="USD"
    )
    panel = read(tmp_path, more.to_csv(index=False))
    check(panel)
    assert "Took 'adjusted' of each asset; left out 'close', 'open', 'volume'." in panel.notes
    check(read(tmp_path, more.drop(columns="ticker").to_csv(index=False)), ("AAA Inc", "BBB Inc", "CCC Inc"))
    numbered = LONG.assign(PERMNO=LONG["ticker"].map({"AAA": 10001, "BBB": 10002, "CCC": 10003}), PRC=LONG["close"])
    numbered["date"] = LONG["Date"].dt.strftime("%Y%m%d")
    check(read(tmp_path, numbered[["PERMNO", "date", "PRC"]].to_csv(index=False)), ("10001", "10002", "10003"))
    melted = FIELDS.rename_axis(columns=["field", "ticker"]).melt(ignore_index=False, value_name="value").reset_index()
    check(read(tmp_path, melted.to_csv(index=False)))
    single = BARS.assign(symbol="XYZ")
    check(read(tmp_path, as_csv(single)), ("XYZ",))
    returns = LONG.assign(ret=LONG.groupby("ticker")["close"].pct_change()).dropna()
    check(read(tmp_path, returns.to_csv(index=False), kind="returns"))


def test_long_tables_with_rows_twice(tmp_path: Path) -> None:
    content = LONG.to_csv(index=False)
    twice = content + "".join(content.splitlines(keepends=True)[4:10])
    panel = read(tmp_path, twice)
    check(panel)
    assert panel.notes[0] == "Left out 6 rows that repeat an earlier one, number by number."
    with pytest.raises(ja.InputError, match="symbol 'AAA', row 2024-01-05 appears more than once"):
        read(tmp_path, content + "2024-01-05,AAA,99.0\n")


# ---- across and in pairs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("date", ["%Y-%m-%d", "%d/%m/%Y", "%Y%m%d", "%d-%b-%y"])
@pytest.mark.parametrize("label", ["Ticker", ""])
def test_dates_across(tmp_path: Path, date: str, label: str) -> None:
    table = PRICES.set_axis(PRICES.index.strftime(date)).T.rename_axis(label)
    check(read(tmp_path, table.to_csv()))
    check(ja.read_returns(PRICES.T))
    table.insert(0, "Name", ["a", "b", "c"])
    panel = read(tmp_path, table.to_csv())
    check(panel)
    assert panel.notes[0] == "Turned the table: its dates run across; left out 'Name'."


def test_pairs_of_columns(tmp_path: Path) -> None:
    rows = list(PRICES.iterrows())
    lines = [f"{day:%d/%m/%Y},{row.AAA},,{day:%d/%m/%Y},{row.BBB}" for day, row in rows]
    panel = read(tmp_path, "\n".join(["AAA US Equity,,,BBB LN Equity,", "Date,PX_LAST,,Date,PX_LAST", *lines]))
    check(panel, ("AAA US Equity", "BBB LN Equity"))
    check(read(tmp_path, "\n".join(["Date,AAA,,Date,BBB", *lines])), ("AAA", "BBB"))
    # the second begins five days later, on its own rows
    later = [*rows[5:], *[(None, None)] * 5]
    lines = [
        f"{day:%Y-%m-%d},{row.AAA}," + (f"{other:%Y-%m-%d},{more.BBB}" if other is not None else ",")
        for (day, row), (other, more) in zip(rows, later, strict=True)
    ]
    panel = read(tmp_path, "\n".join(["Date,AAA,Date,BBB", *lines]), missing="mask")
    assert np.isnan(panel.values[:5, 1]).all()
    np.testing.assert_allclose(panel.values[5:], MOVES[5:, :2], atol=1e-12)


# ---- columns ---------------------------------------------------------------------------------------------------------


def test_the_caller_chooses_assets(tmp_path: Path) -> None:
    panel = read(tmp_path, as_csv(PRICES), columns=["CCC", "AAA"])
    assert panel.symbols == ["CCC", "AAA"]
    np.testing.assert_allclose(panel.values, MOVES[:, [2, 0]], atol=1e-12)
    with pytest.raises(
        ja.InputError, match=re.escape("columns: there is no 'X', 'Y'; the assets are 'AAA', 'BBB', 'CCC'")
    ):
        read(tmp_path, as_csv(PRICES), columns=["X", "AAA", "Y"])
    for wrong in (3, [1], [""]):
        with pytest.raises(ja.InputError, match=r"columns is .*; it must be a name or a list of names"):
            read(tmp_path, as_csv(PRICES), columns=wrong)


def test_a_volume_beside_assets_is_none(tmp_path: Path) -> None:
    panel = read(tmp_path, as_csv(PRICES.assign(Volume=BARS["Volume"])))
    check(panel)
    assert panel.notes[0] == "Left out 'Volume', which is no price."


def test_words_and_dates_beside_the_assets_are_left_out(tmp_path: Path) -> None:
    table = PRICES.assign(weekday=PRICES.index.strftime("%A"), settled=PRICES.index.strftime("%Y-%m-%d"))
    panel = read(tmp_path, as_csv(table))
    check(panel)
    assert panel.notes[0] == "Left out 'weekday' (words), 'settled' (dates)."


# ---- the vocabulary --------------------------------------------------------------------------------------------------


def test_names_are_compared_without_marks() -> None:
    assert plain_name("<ADJ_Close>**") == "adj close"
    assert [role_of(name) for name in ("adjClose", "5. adjusted close", "Adj. Close", "Adjusted")] == ["adjusted"] * 4
    assert [role_of(name) for name in ("Close/Last", "PX_LAST", "Close*", "Último", "Close (USD)")] == ["close"] * 5
    assert [role_of(name) for name in ("Date", "trade_date", "OpenTime", "Unnamed: 0", "日期")] == ["date"] * 5
    assert [role_of(name) for name in ("AAPL", "BRK.B", "C", "")] == [None] * 4
    assert parts_of("BRK.B.Adj Close") == ("BRK.B", "Adj Close")
    assert parts_of("adj_close_AAA") == ("AAA", "adj_close")
    assert parts_of("BRK.B") is None
    assert best_field(["Volume", "Open"]) is None
    assert best_field(["ret", "Close"], returns=True) == "ret"
    assert [month_of(word) for word in ("Mai", "Okt.", "décembre", "juil", "jui", "xyz")] == [5, 10, 12, 7, None, None]
    assert [says_per_cent(name) for name in ("A (%)", "A [pct]", "A in %", "A %", "%", "60%", "60 %")] == [True] * 4 + [
        False
    ] * 3
