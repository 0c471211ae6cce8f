"""`jaxalloc allocate`: what it prints and writes is what the library says."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
from helpers import DAYS_NOTE, RETURNS_NOTE

import jaxalloc as ja
from jaxalloc.cli import render_portfolios
from jaxalloc.portfolios.tables import ASSET_COLUMNS
from jaxalloc.settings.config import DEFAULT_PROFILES

Run = Callable[..., tuple[str, str]]


def expected(market: pd.DataFrame, mask: Any = None, **settings: Any) -> ja.Allocation:
    """What the library says."""
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, ja.allocate(market, ja.AllocationConfig(**settings), asset_mask=mask))


def test_allocate_prints_the_weights_of_every_asset(run: Run, file: Path, market: pd.DataFrame) -> None:
    out, err = run("allocate", file)
    weights = expected(market, profiles=("risk_parity",)).weights[0]
    for symbol, weight in zip(market.columns, weights, strict=True):
        assert re.search(rf"^{re.escape(symbol)} .* {100 * weight:.2f} % ", out, re.MULTILINE), symbol
    assert "risk parity: volatility" in out
    assert err == DAYS_NOTE
    assert max(map(len, out.splitlines())) <= 80


def test_allocate_names_each_profile_and_the_sleeve(run: Run, file: Path, market: pd.DataFrame) -> None:
    out, _ = run("allocate", file, *(f"--profile={profile}" for profile in DEFAULT_PROFILES))
    assert [line.split(":")[0] for line in out.splitlines() if ": volatility" in line] == [
        profile.replace("_", " ") for profile in DEFAULT_PROFILES
    ]
    aggressors = market.columns[expected(market).aggressors]
    (sleeve,) = (line for line in out.splitlines() if line.startswith("sleeve, "))
    assert set(sleeve.removeprefix("sleeve, 10.00 %: ").split(", ")) == set(aggressors)
    assert "so the barbell's sleeve holds fewer aggressors" in " ".join(out.split())  # a status message


def test_json_is_one_document_that_holds_what_the_library_says(run: Run, file: Path, market: pd.DataFrame) -> None:
    out, err = run("allocate", file, "--json", *(f"--profile={profile}" for profile in DEFAULT_PROFILES))
    found, wanted = json.loads(out), expected(market)
    assert err == DAYS_NOTE
    assert found["config"]["cluster_cap"] == ja.AllocationConfig().cluster_cap
    for position, profile in enumerate(DEFAULT_PROFILES):
        told = found["profiles"][profile]
        weights = {row["symbol"]: row["weight"] for row in told["assets"]}
        assert [weights[symbol] for symbol in market.columns] == wanted.weights[position].tolist()
        assert told["volatility"] == wanted.volatility[position]
        assert told["status"] == wanted.status[position]
        assert told["messages"] == ja.explain(wanted.status[position])
        assert len(told["clusters"]) == found["n_clusters"] == wanted.n_clusters
        assert sum(row["weight"] for row in told["clusters"]) == pytest.approx(1)


def test_settings_reach_the_engine(run: Run, file: Path, market: pd.DataFrame) -> None:
    flags = ["--cluster-cap=0.5", "--asset-cap=0.3", "--threshold=0.5", "--slack=1.5", "--periods-per-year=52"]
    settings = {"cluster_cap": 0.5, "asset_cap": 0.3, "distance_threshold": 0.5, "slack": 1.5, "periods_per_year": 52.0}
    out, _ = run("allocate", file, "--json", *flags)
    found = json.loads(out)
    wanted = expected(market, profiles=("risk_parity",), **settings)
    assert found["config"] == dataclasses.asdict(ja.AllocationConfig(profiles=("risk_parity",), **settings)) | {
        "profiles": ["risk_parity"]
    }
    assert found["profiles"]["risk_parity"]["volatility"] == wanted.volatility[0]


def test_periods_a_year_are_read_from_the_dates_unless_a_number_is_given(run: Run, market: pd.DataFrame) -> None:
    months = market.set_axis(pd.date_range("2001-01-31", periods=len(market), freq="ME", name="date"), axis=0)
    months.to_csv("months.csv")
    profile = "--profile=equal_weight"
    wanted = np.sqrt(12) * months.mean(axis=1).std()
    for flags, told in (([], "Annualised by 12 rows a year"), (["--periods-per-year=auto"], "the dates are months")):
        out, err = run("allocate", "months.csv", "--json", profile, *flags)
        found = json.loads(out)
        assert told in err
        assert [note in err for note in found["notes"]] == [True, True]
        assert found["config"]["periods_per_year"] == 12
        assert found["profiles"]["equal_weight"]["volatility"] == pytest.approx(wanted)
    out, err = run("allocate", "months.csv", "--json", profile, "--periods-per-year", "48")
    assert json.loads(out)["profiles"]["equal_weight"]["volatility"] == pytest.approx(2 * wanted)
    assert err == RETURNS_NOTE + (
        "note: Annualised by 48 rows a year as given; the dates are months, which would make it 12.\n"
    )
    _, err = run("allocate", "months.csv", "--periods-per-year", "monthly", status=2)
    assert "'monthly' is not a number, nor auto" in err
    months.set_axis(months.index + pd.to_timedelta(np.arange(len(months)) ** 2, "D"), axis=0).to_csv("odd.csv")
    _, err = run("allocate", "odd.csv", status=2)
    assert "no regular spacing" in err
    assert "give the number, --periods-per-year" in err


def test_precision_32_computes_in_float32(run: Run, file: Path) -> None:
    texts = [run("allocate", file, "--json", "--precision", bits)[0] for bits in ("32", "64")]
    low, high = (json.loads(text)["profiles"]["risk_parity"] for text in texts)
    assert low["volatility"] != high["volatility"]
    assert low["volatility"] == pytest.approx(high["volatility"], rel=1e-4)
    assert np.float32(low["volatility"]) == low["volatility"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".json"])
def test_out_writes_the_asset_table(run: Run, file: Path, market: pd.DataFrame, tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"weights{suffix}"
    target.write_text("of an earlier run")
    _, err = run("allocate", file, "--out", target)
    assert f"Wrote {target}" in err
    if suffix == ".json":
        table = pd.DataFrame(json.loads(target.read_text())["profiles"]["risk_parity"]["assets"])
        table.insert(0, "profile", "risk_parity")
    else:
        table = pd.read_csv(target) if suffix == ".csv" else pd.read_parquet(target)
    assert list(table.columns) == ["profile", *ASSET_COLUMNS]
    weights = table.set_index("symbol")["weight"][list(market.columns)]
    wanted = expected(market, profiles=("risk_parity",)).weights[0]
    np.testing.assert_allclose(weights, wanted, rtol=1e-14)  # pandas 2 reads numbers to the last digit but one
    assert sorted(os.listdir(tmp_path)) == sorted(["market.csv", target.name])


def test_symbols_can_harm_neither_terminal_nor_spreadsheet(run: Run, file: Path, market: pd.DataFrame) -> None:
    hostile = ["=1+1", "+A", "-B", "@C", "[bold]D", "\x1b[31mE", "F" * 90]
    market.set_axis([*hostile, *market.columns[len(hostile) :]], axis=1).to_csv(file)
    out, _ = run("allocate", file, "--out", "weights.csv")
    assert "\x1b" not in out
    assert "[bold]D" in out
    assert max(map(len, out.splitlines())) <= 80
    symbols = set(pd.read_csv("weights.csv")["symbol"])
    assert {"'=1+1", "'+A", "'-B", "'@C", "[bold]D", "F" * 90} <= symbols


def test_prices_are_turned_into_returns_and_it_is_said(run: Run, file: Path, market: pd.DataFrame) -> None:
    first = pd.DataFrame(1.0, index=[market.index[0] - pd.Timedelta(days=1)], columns=market.columns)
    (100 * pd.concat([first, 1 + market]).cumprod()).to_csv(file)
    out, err = run("allocate", file, "--kind", "prices", "--json")
    assert "note: Turned 121 rows of prices into 120 rows of returns." in err
    wanted = expected(market, profiles=("risk_parity",)).volatility[0]
    assert json.loads(out)["profiles"]["risk_parity"]["volatility"] == pytest.approx(wanted, rel=1e-9)


def test_unsorted_dates_are_sorted_and_it_is_said(run: Run, file: Path, market: pd.DataFrame) -> None:
    wanted, _ = run("allocate", file)
    market.iloc[::-1].to_csv(file)
    out, err = run("allocate", file)
    assert out == wanted
    assert "note: Sorted 120 rows by date" in err
    assert run("allocate", file, "--quiet") == (wanted, "")


def test_few_gaps_count_as_zero_as_they_do_in_a_study(run: Run, file: Path, market: pd.DataFrame) -> None:
    gaps = market.copy()
    gaps.iloc[[30, 60], 3] = np.nan
    gaps.to_csv(file)
    out, err = run("allocate", file, "--missing", "mask", "--json", "--profile", "risk_parity")
    assert "note: Counted 2 missing returns of 1 asset as 0, few enough to keep them." in err
    rows = {row["symbol"]: row["weight"] for row in json.loads(out)["profiles"]["risk_parity"]["assets"]}
    wanted = expected(gaps.fillna(0.0), profiles=("risk_parity",)).weights[0]
    assert [rows[symbol] for symbol in market.columns] == wanted.tolist()
    _, err = run("allocate", file, "--missing", "mask", "--max-missing", "0.01")
    assert f"note: Left 1 of 12 symbols out, with weight 0: '{market.columns[3]}'." in err


def test_mask_leaves_an_asset_with_gaps_out_and_says_which(run: Run, file: Path, market: pd.DataFrame) -> None:
    gaps = market.copy()
    gaps.iloc[:50, 3] = np.nan
    gaps.to_csv(file)
    out, err = run("allocate", file, "--missing", "mask", "--json")
    assert f"note: Left 1 of 12 symbols out, with weight 0: '{market.columns[3]}'." in err
    wanted = expected(gaps, market.columns != market.columns[3], profiles=("risk_parity",))
    rows = {row["symbol"]: row for row in json.loads(out)["profiles"]["risk_parity"]["assets"]}
    assert [rows[symbol]["weight"] for symbol in market.columns] == wanted.weights[0].tolist()
    assert rows[market.columns[3]]["cluster"] == -1
    table, _ = run("allocate", file, "--missing", "mask", "--all")
    assert "11 of 12 assets" in table
    assert re.search(rf"^{re.escape(market.columns[3])} +0.00 % .* none", table, re.MULTILINE)


FUND = "Fund of all that is {} and accumulates"  # the ends of such names do not tell one from another


@pytest.mark.parametrize(
    ("n_assets", "name", "n_lines"),
    [
        (12, "{}", 40),
        (12, "A very long symbol, number {1:02}", 60),
        (12, FUND, 75),
        pytest.param(100, "{}", 70, marks=pytest.mark.slow),
        pytest.param(100, "A very long symbol, number {1:02}", 120, marks=pytest.mark.slow),
        pytest.param(100, FUND, 200, marks=pytest.mark.slow),
    ],
)
def test_tables_read_well_in_80_columns(run: Run, file: Path, n_assets: int, name: str, n_lines: int) -> None:
    market = ja.datasets.synthetic_market(n_assets, 120)
    symbols = [name.format(symbol, k) for k, symbol in enumerate(market.columns)]
    market.set_axis(symbols, axis=1).to_csv(file)
    lines = run("allocate", file, "--profile", "barbell", "--out", "all.csv")[0].splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= n_lines
    first, second = (k for k, line in enumerate(lines) if line.startswith(("cluster ", "asset ")))
    assert lines[first].split() == ["cluster", "of", "weight", "risk", "assets", "members"]
    assert " ".join(lines[second].split()) == "asset weight share of cluster risk cluster of lead sleeve"
    # numbers are whole, and a cluster takes one line unless its symbols must be there in full
    row = re.compile(r"(\S.*?) +\d+\.\d\d % +-?\d+\.\d\d % +\d+  (\S.*)")
    clusters = [found for line in lines[first + 2 : second - 1] if (found := row.match(line))]
    n_clusters = len(set(pd.read_csv("all.csv")["cluster"]))
    assert len(clusters) == min(n_clusters, render_portfolios.FOLDED_ROWS)
    if name != FUND:
        assert lines[first + 2 + len(clusters)].startswith(("and ", "sleeve, "))
        assert len({found[1] for found in clusters}) == len(clusters)  # leads are told apart
    # the heaviest assets' symbols are there in full, on as many lines as they take
    text = " ".join(re.sub(r"  .*", "", line) for line in lines[second + 2 :])
    heaviest = pd.read_csv("all.csv").nlargest(10, "weight")["symbol"]
    assert all(symbol in text for symbol in heaviest)


def test_a_long_table_shows_its_heaviest_rows_and_counts_the_rest() -> None:
    lines = [{"weight": weight} for weight in (0.1, 0.4, 0.2, 0.3)]
    assert render_portfolios._fold(lines, 2) == ([{"weight": 0.4}, {"weight": 0.3}], [{"weight": 0.2}, {"weight": 0.1}])
    assert render_portfolios._fold(lines, None) == (lines, [])


# ---- real data -------------------------------------------------------------------------------------------------------

GAPS = "us_equities_prices_60_with_gaps.csv"


def test_real_gaps_are_refused_by_default(refused: Callable[..., str], data_folder: Path) -> None:
    message = refused("allocate", data_folder / GAPS, "--kind", "prices")
    assert "'AAP' (400), 'AET' (3)" in message
    for choice in ("--missing mask", "zero", "drop-assets", "drop-rows", "--missing-tolerance"):
        assert choice in message
    assert refused("allocate", data_folder / GAPS) == message  # prices are told from returns


@pytest.mark.slow
@pytest.mark.parametrize(
    ("missing", "note", "n_held"),
    [
        ("mask", "Left 1 of 60 symbols out, with weight 0: 'AAP'.", 59),
        ("carry", "Left 400 returns before listing or after delisting missing: 'AAP' (400)", 59),
        ("zero", "Filled 403 missing returns in 2 symbols with a return of zero", 60),
        ("drop-assets", "Dropped 1 of 60 symbols for missing more than 5 %", 59),
        ("drop-rows", "Dropped 400 of 2,517 rows", 60),
    ],
)
def test_real_gaps_by_each_choice(run: Run, data_folder: Path, missing: str, note: str, n_held: int) -> None:
    out, err = run("allocate", data_folder / GAPS, "--kind", "prices", "--missing", missing, "--json")
    assert note in err
    weights = [row["weight"] for row in json.loads(out)["profiles"]["risk_parity"]["assets"]]
    assert sum(weight > 0 for weight in weights) == n_held
    assert sum(weights) == pytest.approx(1, abs=1e-12)


@pytest.mark.slow
def test_431_stocks_stay_readable(run: Run, data_folder: Path) -> None:
    out, _ = run("allocate", data_folder / "us_equities_returns_2007_2016.parquet", "--out", "weights.parquet")
    assert len(out.splitlines()) < 70
    assert max(map(len, out.splitlines())) <= 80
    assert "431 assets" in out
    assert re.search(r"and 406 more assets with [\d.]+ % together", out)
    table = pd.read_parquet("weights.parquet")
    assert len(table) == 431
    assert table["weight"].sum() == pytest.approx(1, abs=1e-12)


# ---- orders ---------------------------------------------------------------------------------------------------------


def test_a_capital_is_placed_at_the_last_prices(run: Run, file: Path, market: pd.DataFrame) -> None:
    prices = 100 * (1 + market).cumprod()
    prices.to_csv("prices.csv")
    a = market.columns[0]
    Path("shares.csv").write_text(f"symbol,shares\n{a},40\n")
    profiles = ("equal_weight", "risk_parity")
    words = ("allocate", "prices.csv", *(f"--profile={profile}" for profile in profiles), "--capital", "50000")
    out, err = run(*words, "--held", "shares.csv", "--lot", "5", "--out", "weights.csv")
    assert "Wrote weights.csv.\nnote: Wrote orders.csv.\n" in err
    assert max(map(len, out.splitlines())) <= 80
    weights = pd.read_csv("weights.csv").set_index(["profile", "symbol"])["weight"]
    table = pd.read_csv("orders.csv").set_index(["profile", "symbol"])
    for profile in profiles:
        wanted = ja.orders(weights.loc[profile], {a: 40}, prices.iloc[-1], 50_000, lot=5)
        frame = wanted.frame[wanted.frame[["held", "shares", "target"]].max(axis=1) > 0]
        pd.testing.assert_frame_equal(table.loc[profile].sort_index(), frame.sort_index(), rtol=1e-9)
        assert f"{wanted.cash:,.2f} left in cash" in out
        row = frame.loc[a]
        shown = [re.escape(f"{row['trade']:+,.0f}"), f"{row['shares']:,.0f}"]
        assert re.search(rf"^{a} +{' +'.join(shown)} ", out, re.MULTILINE)
    document = json.loads(run(*words, "--json")[0])
    assert set(document["cash"]) == set(profiles)
    assert {row["profile"] for row in document["orders"]} == set(profiles)
    assert "orders" not in json.loads(run("allocate", "prices.csv", "--json")[0])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "allocate market.csv --capital 1000",
            "market.csv: --capital needs prices, and these are returns; give a file of",
        ),
        ("allocate market.csv --held shares.csv", "--held is about orders: give --capital, how much there is to place"),
        ("allocate market.csv --capital -5", "--capital must be above 0, not -5.0"),
        ("allocate market.csv --capital 5 --held none.csv", "none.csv: there is no such file; check the path"),
        (
            "allocate market.csv --capital 5 --out orders.csv",
            "--out orders.csv is the table of assets, and the orders go",
        ),
        ("allocate prices.csv --capital 5 --held shares.csv", "--capital is 5.00, less than the "),
        (
            "allocate prices.csv --capital 5000 --held other.csv",
            "prices has none of 'X', which is held or wanted; give",
        ),
    ],
)
def test_orders_that_cannot_be_are_one_line(
    run: Run, file: Path, market: pd.DataFrame, words: str, message: str
) -> None:
    (100 * (1 + market).cumprod()).to_csv("prices.csv")
    Path("shares.csv").write_text(f"symbol,shares\n{market.columns[0]},40\n")
    Path("other.csv").write_text("symbol,shares\nX,40\n")
    out, err = run(*words.split(), status=2)
    assert out == ""
    assert message in err.splitlines()[-1]
    assert not Path("orders.csv").exists()


def test_what_the_portfolios_hang_on_is_shown_and_told(run: Run, file: Path, market: pd.DataFrame) -> None:
    words = ("allocate", file, "--profile=risk_parity", "--sensitivity")
    config = ja.AllocationConfig(profiles=("risk_parity",))
    wanted = ja.sensitivity(market, config)
    out, err = run(*words)
    assert err == DAYS_NOTE
    shown = out.split("what it hangs on")[1].splitlines()[2:12]
    for line, row in zip(shown, wanted.largest("risk_parity").itertuples(), strict=True):
        assert line.startswith(f"{row.estimate} of {row.asset} "), line
        assert line.split()[-2] == f"{100 * row.turnover:.2f}"
    told = json.loads(run(*words, "--json")[0])["profiles"]["risk_parity"]["sensitivity"]
    own = wanted.frame.loc["risk_parity"]
    assert [row["asset"] for row in told] == list(own.index)
    np.testing.assert_allclose([row["mean_turnover"] for row in told], own["mean_turnover"], atol=1e-12)
    assert "sensitivity" not in json.loads(run("allocate", file, "--json")[0])["profiles"]["risk_parity"]


def test_bagged_portfolios_have_no_sensitivity(refused: Callable[..., str], file: Path) -> None:
    assert "choose one" in refused("allocate", file, "--sensitivity", "--bag", "5")
