"""`jaxalloc walk-forward`: what is printed, the folder, every option, the weights of before, Ctrl-C and going on."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import DAYS_NOTE

import jaxalloc as ja
from jaxalloc.backtest import run as run_module
from jaxalloc.cli import walk_forward as command_module
from jaxalloc.cli.render import percent
from jaxalloc.cli.render_walk import signed

Run = Callable[..., tuple[str, str]]

PROFILES = ("equal_weight", "risk_parity")  # one shape and one set of profiles, so that little is compiled
NAMES = {"equal_weight": "equal weight", "risk_parity": "risk parity"}
CONFIG = ja.AllocationConfig(profiles=PROFILES)
ROLL = ("--window", "60", "--step", "20", *(f"--profile={profile}" for profile in PROFILES))
WALK = ("walk-forward", "market.csv", *ROLL, "--quiet")


def walk(market: pd.DataFrame, **changes: Any) -> ja.WalkForward:
    config = changes.pop("config", CONFIG)
    return ja.walk_forward(market, config, window=60, step=20, **changes)


def test_a_walk_is_printed_and_kept(run: Run, file: Path, market: pd.DataFrame) -> None:
    out, err = run("walk-forward", file.name, *ROLL, "--costs-bps", "5", "--seed", "3")
    assert err == DAYS_NOTE.replace("small.\n", "small.\nnote: No return was missing.\n")
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= 80
    assert out.splitlines()[-1] == "Wrote market-walk-forward"
    wanted = walk(market, costs_bps=5, seed=3)
    pd.testing.assert_frame_equal(ja.load_walk_forward("market-walk-forward").returns, wanted.returns)
    assert "3 rebalances of 12 assets, held on 60 rows, " in out
    summary = wanted.summary()
    for profile in PROFILES:
        row = summary.loc[profile]
        shown = [percent(row["annual_return"]), percent(row["volatility"]), f"{row['sharpe']:.2f}"]
        shown += [percent(row[name]) for name in ("max_drawdown", "turnover", "cost")]
        assert re.search(rf"^{NAMES[profile]} +{' +'.join(map(re.escape, shown))}$", out, re.MULTILINE)
    apart = wanted.differences().loc[("risk_parity", "sharpe")]
    shown = [signed(apart[name], lambda value: f"{value:.2f}") for name in ("difference", "low", "high")]
    assert re.search(rf"Sharpe +{' +'.join(map(re.escape, shown))} +{100 * apart['share_above']:.0f} %\n", out)
    probability = wanted.deflated_sharpe().sort_values("sharpe")["deflated_sharpe"].iloc[-1]
    assert f"probability {probability:.2f} (deflated)" in " ".join(out.split())
    said = " ".join(out.split())
    best = wanted.deflated_sharpe()["sharpe"].idxmax()
    alone = wanted.probabilistic_sharpe().loc[best, "probabilistic_sharpe"]
    assert f"As if it were the only one, the probability is {alone:.2f} (probabilistic)" in said
    least = wanted.min_track_record().loc[best]
    assert f"95 % takes {math.ceil(least['min_days']):,} rows, or {least['min_years']:.1f} years, of such" in said
    found = wanted.overfitting()
    assert f"PBO {found.pbo:.2f}: c{found.verdict[1:]}" in said
    target = wanted.target("risk_parity").sort_values("target", ascending=False)
    turnover = target["trade"].abs().sum() / 2
    assert f"risk parity: target decided on 2021-06-18; a turnover of {percent(turnover)}" in " ".join(out.split())
    for symbol, row in target.head(5).iterrows():
        shown = [percent(row["target"]), percent(row["current"]), signed(row["trade"], percent)]
        assert re.search(rf"^{symbol} +{' +'.join(map(re.escape, shown))}$", out, re.MULTILINE)


def test_a_machine_gets_one_document(
    run: Run, file: Path, market: pd.DataFrame, undocumented: Callable[..., set[str]]
) -> None:
    out, err = run(*WALK, "--json", "--paths", "4", "--base", "risk_parity", "--gap", "1")
    assert err == ""
    found = json.loads(out)
    wanted = walk(market, gap=1, paths=ja.Bootstrap(4, "stationary", 21))
    assert (found["folder"], found["report"], found["base"]) == ("market-walk-forward", None, "risk_parity")
    assert [row["profile"] for row in found["summary"]] == list(PROFILES)
    assert found["summary"][1]["sharpe"] == wanted.summary().loc["risk_parity", "sharpe"]
    assert undocumented("walk-forward", found, wanted.record) == set()
    assert {row["profile"] for row in found["differences"]} == {"equal_weight"}
    assert found["differences"][0]["low"] == wanted.differences("risk_parity")["low"].iloc[0]
    assert len(found["rebalances"]) == 6
    assert found["rebalances"][0]["date"] == found["first_day"] == "2021-03-30"
    assert [row["trade"] for row in found["target"][:12]] == wanted.target("equal_weight")["trade"].tolist()
    judged = wanted.overfitting()
    assert found["overfitting"]["pbo"] == judged.pbo
    assert found["overfitting"]["recommended"] is judged.recommended
    assert found["overfitting"]["verdict"] == judged.verdict
    assert {row["profile"]: row["best"] for row in found["overfitting"]["best"]} == judged.best.to_dict()
    probable = wanted.probabilistic_sharpe()["probabilistic_sharpe"]
    assert [row["probabilistic_sharpe"] for row in found["probabilistic_sharpe"]] == probable.tolist()
    assert [row["min_days"] for row in found["min_track_record"]] == wanted.min_track_record()["min_days"].tolist()
    assert [row["profile"] for row in found["leaderboard"]] == wanted.leaderboard().index.tolist()
    assert found["summary"][1]["cvar"] == wanted.summary().loc["risk_parity", "cvar"]
    assert len(found["path_quantiles"]) == 2 * len(wanted.paths().columns)
    assert found["beats"][0]["sharpe"] == wanted.beats("risk_parity").loc["equal_weight", "sharpe"]
    assert found["paths"] == {"sampler": "Bootstrap", "n": 4, "method": "stationary", "block_length": 21}


def test_windows_and_steps_follow_the_calendar(run: Run, file: Path, market: pd.DataFrame) -> None:
    out, _ = run(*WALK, "--step", "month-end", "--paths", "4", "--out", "months")
    wanted = ja.walk_forward(market, CONFIG, window=60, step="month-end")
    pd.testing.assert_frame_equal(ja.load_walk_forward("months").returns, wanted.returns)
    assert "decided on 60 rows, at the end of every month; trading costs nothing;" in " ".join(out.split())
    assert f"target decided on {market.index[-1].date()};" in out
    market.set_axis(pd.date_range("2001-01-31", periods=len(market), freq="BME", name="date"), axis=0).to_csv("m.csv")
    _, err = run("walk-forward", "m.csv", *ROLL[4:], "--out", "yearly")
    assert "note: At 12 rows a year the walk-forward has a window of 12 rows and a step of 1 row.\n" in err
    schedule = ja.load_walk_forward("yearly").schedule
    assert (schedule.window, schedule.step) == (12, 1)
    _, err = run(*WALK, "--step", "fortnight", status=2)
    assert "--step 'fortnight': give a number of rows, or one of week, month" in err
    _, err = run("walk-forward", file, status=2)
    assert "--window is by default a year of rows, 252, and the panel has 120; give" in err
    market.reset_index(drop=True).to_csv("rows.csv")
    assert (
        "--step week needs dates, and the rows have none"
        in run("walk-forward", "rows.csv", *ROLL[:2], "--step", "week", status=2)[1]
    )


def test_paths_are_printed_beside_what_happened(run: Run, file: Path, market: pd.DataFrame) -> None:
    out, _ = run(*WALK, "--paths", "4", "--method", "circular", "--block", "10", "--out", "paths")
    assert max(map(len, out.splitlines())) <= 80
    wanted = walk(market, paths=ja.Bootstrap(4, "circular", 10))
    assert "over 4 resampled paths" in out
    row, won = wanted.path_quantiles().loc[("risk_parity", "sharpe")], wanted.beats().loc["risk_parity", "sharpe"]
    shown = [f"{row[name]:.2f}" for name in ("history", "q05", "q50", "q95")]
    assert re.search(rf"Sharpe +{' +'.join(map(re.escape, shown))} +{100 * won:.0f} %\n", out)


def test_settings_are_swept(run: Run, file: Path, market: pd.DataFrame) -> None:
    out, _ = run(*WALK, "--vary", "cluster-cap=0.2,0.25", "--execution", "lead", "--out", "swept")
    assert max(map(len, out.splitlines())) <= 80
    wanted = walk(market, config=ja.sweep(CONFIG, cluster_cap=[0.2, 0.25]), execution="lead")
    rows = re.findall(r"^ +(0\.25?) +(\S+) % .* (\S+) %$", out, re.MULTILINE)
    summary = wanted.summary().reorder_levels(["profile", "cluster_cap"])
    for (cap, returned, tracked), (profile, own) in zip(
        rows, [(p, c) for p in PROFILES for c in (0.2, 0.25)], strict=True
    ):
        assert float(cap) == own
        assert float(returned) == pytest.approx(100 * summary.loc[(profile, own), "annual_return"], abs=0.005)
        assert float(tracked) == pytest.approx(100 * summary.loc[(profile, own), "tracking_error"], abs=0.005)
    assert "only lead assets are held" in " ".join(out.split())
    assert "at the settings' own point" in out
    pd.testing.assert_frame_equal(ja.load_walk_forward("swept").summary(), wanted.summary())


def test_bands_and_costs_are_varied_on_the_same_allocations(run: Run, file: Path, market: pd.DataFrame) -> None:
    words = ("--vary", "band=0:0.02:0.01", "--vary", "costs_bps=10,30", "--max-turnover", "0.2", "--out", "varied")
    out, _ = run(*WALK, *words)
    assert max(map(len, out.splitlines())) <= 80
    said = " ".join(out.split())
    assert "trading costs 10, 30 bp; a band of 0, 1, 2 %; a turnover of 20 % at most;" in said
    wanted = walk(market, band=[0, 0.01, 0.02], costs_bps=[10, 30], max_turnover=0.2)
    rows = re.findall(r"^ *(0(?:\.0\d)?) +(10|30) .* (\S+) % +(\S+) %$", out, re.MULTILINE)
    summary = wanted.summary().reorder_levels(["profile", "band", "costs_bps"])
    points = [(p, band, bps) for p in PROFILES for band in (0, 0.01, 0.02) for bps in (10, 30)]
    for (band, bps, turnover, cost), (profile, *own) in zip(rows, points, strict=True):
        assert [float(band), float(bps)] == own
        row = summary.loc[(profile, *own)]
        assert [float(turnover), float(cost)] == pytest.approx([100 * row["turnover"], 100 * row["cost"]], abs=0.005)
    loaded = ja.load_walk_forward("varied")
    pd.testing.assert_frame_equal(loaded.summary(), wanted.summary())
    assert loaded.allocations.n == 4
    assert "bought" in run(*WALK, "--band", "0.02", "--out", "within")[0]  # where the trades stop short of the target


def test_gaps_stay_unless_told_otherwise_and_are_counted(run: Run, file: Path, market: pd.DataFrame) -> None:
    frame = market.copy()
    frame.iloc[70:72, 3] = np.nan
    frame.to_csv(file)
    out, err = run(*WALK[:-1])
    assert "note: Left 2 missing returns in 1 symbol as gaps" in err
    assert (
        "note: missing returns of assets that were held count as 0; the portfolio with the most has 2 (days"
        in " ".join(out.split())
    )
    pd.testing.assert_frame_equal(ja.load_walk_forward("market-walk-forward").returns, walk(frame).returns)
    assert "missing returns (2" in run(*WALK, "--missing", "error", status=2)[1]


def test_without_a_valid_window_it_is_bad_input(run: Run, file: Path, market: pd.DataFrame) -> None:
    rows, columns = np.indices(market.shape)
    market.mask(rows % market.shape[1] == columns).to_csv(file)
    out, err = run(*WALK, status=2)
    assert (
        "note: 6 of 6 rebalances, counted over all profiles, had no portfolio: the holdings stayed as they were"
        in " ".join(out.split())
    )
    assert "nan" not in out
    assert re.fullmatch(r"jaxalloc: error: .*market.csv: no window has a portfolio: .*\n", err)


def test_nothing_held_yet_is_a_target_alone(run: Run, file: Path, market: pd.DataFrame) -> None:
    market.tail(60).to_csv(file)
    out, _ = run(*WALK)
    assert "0 rebalances of 12 assets, held on 0 rows" in out
    assert "risk parity: target decided on 2021-06-18; a turnover of 100.00 %" in " ".join(out.split())


def test_one_profile_leaves_nothing_to_choose(run: Run, file: Path) -> None:
    out, _ = run(*WALK[:6], "--profile=hrp", "--quiet", "--json")
    found = json.loads(out)
    assert found["overfitting"] is None
    assert len(found["probabilistic_sharpe"]) == len(found["leaderboard"]) == 1
    out, _ = run(*WALK[:6], "--profile=hrp", "--quiet", "--out", "printed")
    assert "PBO" not in out
    assert "(probabilistic)" in out


def test_options_are_passed_on(run: Run, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {}

    def listen(panel: Any, settings: Any, **options: Any) -> None:
        told.update(options, settings=settings)
        raise ja.InputError("heard")

    monkeypatch.setattr(command_module, "run_walk_forward", listen)
    given = "--window 50 --step 7 --expanding --gap 2 --costs-bps 2.5 --execution lead --seed 9 --dask tcp://x:1"
    given += " --band 0.01 --max-turnover 0.2"
    given += " --chunk-size 300 --precision 32 --profile-dir trace --resume --paths 3 --method iid --out new"
    run("walk-forward", file, *given.split(), "--linkage=ward", status=2)
    wanted = {"window": 50, "step": 7, "expanding": True, "gap": 2, "costs_bps": 2.5, "execution": "lead", "seed": 9}
    wanted |= {"dask": "tcp://x:1", "chunk_size": 300, "precision": 32, "profile_dir": Path("trace"), "resume": True}
    wanted |= {"band": 0.01, "max_turnover": 0.2}
    wanted |= {"fresh": False, "paths": ja.Bootstrap(3), "previous_weights": None, "out": Path("new")}
    assert {name: told[name] for name in wanted} == wanted
    assert told["settings"] == ja.sweep(ja.AllocationConfig(linkage="ward"))


def test_options_from_a_file(run: Run, file: Path) -> None:
    Path("study.toml").write_text(
        f"profile = {list(PROFILES)}\nseed = 5\n[walk-forward]\nwindow = 60\nstep = 20\n"
        "costs-bps = 3\nexpanding = true\n[study]\nn = 3\nwindow = 50\n"
    )
    run("walk-forward", file.name, "--config", "study.toml", "--quiet", "--out", "walk")
    found = ja.load_walk_forward("walk")
    assert (found.seed, found.costs_bps, found.profiles) == (5, 3.0, PROFILES)
    assert (found.schedule.window, found.schedule.step, found.schedule.expanding) == (60, 20, True)
    command = str(found.record["command"])
    assert "--config" not in command
    assert "--costs-bps 3" in command


@pytest.mark.parametrize(
    ("value", "text"), [(0.012, "+1.20 %"), (-0.012, "-1.20 %"), (1e-6, "0.00 %"), (-1e-6, "0.00 %"), (np.nan, "-")]
)
def test_a_difference_has_its_sign(value: float, text: str) -> None:
    assert signed(value, percent) == text


# ---- the weights of before ------------------------------------------------------------------------------------------


def test_weights_of_before_are_read(run: Run, file: Path, market: pd.DataFrame) -> None:
    a, b = market.columns[:2]
    tables = {
        "one.csv": f"symbol,weight\n{b},0.25\n{a},0.5\n",
        "each.csv": f"symbol;risk_parity;equal_weight\n{a};0.5;\n{b};0.25;1\n",
    }
    given = [{a: 0.5, b: 0.25}, {"risk_parity": {a: 0.5, b: 0.25}, "equal_weight": {b: 1}}]
    for (name, text), wanted in zip(tables.items(), given, strict=True):
        Path(name).write_text(text)
        run(*WALK, "--previous-weights", name, "--costs-bps", "10", "--out", Path(name).stem)
        found = ja.load_walk_forward(Path(name).stem)
        expected = walk(market, previous_weights=wanted, costs_bps=10)
        pd.testing.assert_frame_equal(found.turnover, expected.turnover)
        pd.testing.assert_frame_equal(found.returns, expected.returns)
    frame = pd.DataFrame({"weight": [0.5, 0.25]}, index=pd.Index([a, b], name="symbol"))
    frame.to_parquet("frame.parquet")
    frame.reset_index().to_parquet("columns.parquet")
    for name in ("frame", "columns"):
        pd.testing.assert_series_equal(
            command_module.read_weights(f"{name}.parquet"), frame["weight"], check_names=False, check_index_type=False
        )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "weights.csv: there is no such file; check the path"),
        ("symbol\nA\n", "weights.csv: there are no weights; give the columns symbol and weight, or symbol and the"),
        ("symbol,weight\n", "weights.csv: there are no weights"),
        ("symbol,weight\nTECH.1,much\n", "'much' in column 'weight', line 2, is not a number; give weights as"),
        ("symbol,weight\nXYZ,0.1\n", "--previous-weights: 'XYZ' is no symbol of the panel; add its returns, or"),
        ("symbol,weight\nTECH.1,-0.1\n", "--previous-weights: the weight of 'TECH.1' must be a number of at least 0"),
        ("symbol,weight\nTECH.1,0.7\nTECH.1,0.1\n", "--previous-weights names 'TECH.1' twice; give each symbol once"),
        ("symbol,weight\nTECH.1,1.7\n", "--previous-weights sum to 1.7; give fractions that sum to at most 1"),
        ("symbol,hrp\nTECH.1,0.7\n", "--previous-weights names 'hrp'; give weights for each of the profiles"),
        ("symbol,risk_parity\nTECH.1,0.7\n", "--previous-weights lacks equal_weight; give weights for each of"),
        ("symbol,hrp,hrp\nTECH.1,0.7,0.1\n", "weights.csv: more than one column is called 'hrp'; keep one of them"),
    ],
)
def test_bad_weights_of_before_are_one_line(refused: Callable[..., str], text: str | None, message: str) -> None:
    if text is not None:
        Path("weights.csv").write_text(text)
    assert message in refused(*WALK, "--previous-weights", "weights.csv")


# ---- orders ---------------------------------------------------------------------------------------------------------


def test_a_capital_is_placed_at_the_last_prices(run: Run, file: Path, market: pd.DataFrame) -> None:
    prices = 100 * (1 + market).cumprod()
    prices.to_csv("prices.csv")
    a, b = market.columns[:2]
    Path("shares.csv").write_text(f"symbol,shares\n{a},40\n{b},25\n")
    words = ("walk-forward", "prices.csv", *ROLL, "--quiet", "--band", "0.02", "--max-turnover", "0.5")
    asked = ("--capital", "10000", "--held", "shares.csv", "--lot", "2", "--out", "placed")
    out, _ = run(*words, *asked)
    assert max(map(len, out.splitlines())) <= 80
    panel = ja.read_returns("prices.csv", kind="prices")
    found = ja.load_walk_forward("placed")
    table = pd.read_csv("placed/orders.csv").set_index(["profile", "symbol"])
    for profile in PROFILES:
        wanted = found.orders(profile, panel.last_prices, 10_000, {a: 40, b: 25}, lot=2)
        frame = wanted.frame[wanted.frame[["held", "shares", "target"]].max(axis=1) > 0]
        pd.testing.assert_frame_equal(table.loc[profile], frame, rtol=1e-12)
        n_trades = int((frame["trade"] != 0).sum())
        assert f"{NAMES[profile]}: {n_trades} orders, {wanted.cash:,.2f} left in cash" in out
        row = frame.loc[a]
        shown = [re.escape(f"{row['trade']:+,.0f}"), f"{row['shares']:,.0f}"]
        assert re.search(rf"^{a} +{' +'.join(shown)} ", out, re.MULTILINE)
    document = json.loads(run(*words, *asked[:-2], "--out", "placed", "--fresh", "--json")[0])
    assert len(document["orders"]) == len(table)
    assert document["cash"]["risk_parity"] == wanted.cash
    run(*words, "--out", "placed", "--fresh")
    assert not Path("placed/orders.csv").exists()  # it was the earlier run's


# ---- the report ------------------------------------------------------------------------------------------------------


def test_a_report_goes_into_the_folder_and_can_be_written_later(run: Run, file: Path) -> None:
    pytest.importorskip("plotly")
    out, err = run(*WALK, "--report", "--base", "risk_parity")
    assert err == ""
    assert out.splitlines()[-2:] == ["Wrote market-walk-forward", "Wrote market-walk-forward/report.html"]
    page = Path("market-walk-forward/report.html").read_text(encoding="utf-8")
    assert "<title>market.csv</title>" in page
    assert "Compared with risk parity: how sure are the differences?" in page
    command = "jaxalloc walk-forward market.csv --window 60 --step 20 --profile=equal_weight --profile=risk_parity"
    assert f"<pre>{command} --quiet --base risk_parity</pre>" in page
    assert run("report", "market-walk-forward", "--out", "page.html") == ("Wrote page.html\n", "")
    assert "Compared with equal weight: how sure are the differences?" in Path("page.html").read_text(encoding="utf-8")
    out, _ = run("report", "market-walk-forward", "--base", "risk_parity", "--json")
    assert json.loads(out) == {"folder": "market-walk-forward", "report": "market-walk-forward/report.html"}
    assert (
        "has no profile 'hrp'; it has equal_weight" in run("report", "market-walk-forward", "--base=hrp", status=2)[1]
    )
    said = run("report", "market-walk-forward/allocations", "--base=hrp", "--out", "other.html", status=2)[1]
    assert "a base is for the report of a walk-forward" in said
    assert not Path("other.html").exists()


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--window 1", "--window must be a whole number at least 2, not 1"),
        ("--window 121", "--window must be at most 120, the panel's rows, not 121"),
        ("--step 0", "--step must be a whole number at least 1, not 0"),
        ("--gap -1", "--gap must be a whole number at least 0, not -1"),
        ("--band 1", "--band must be at least 0 and less than 1, a weight such as 0.01, not 1.0"),
        ("--max-turnover 0", "--max-turnover must be greater than 0 and at most 1, or None, not 0.0"),
        ("--vary band=0,x", "--vary 'band=0,x': 'x' is not a number, nor FIRST:LAST:STEP"),
        ("--vary band=0,0.1 --vary band=0.2", "--vary names band twice: give all its values at once"),
        ("--vary costs-bps=0,1 --costs-bps 2", "--costs-bps is given, and varied too: leave one of them out"),
        ("--vary bands=0,1", "'bands' cannot vary; choose from ewma-decay,"),
        ("--vary band=0,2", "--band must be at least 0 and less than 1, a weight such as 0.01, not 2.0"),
        ("--held shares.csv", "--held is about orders: give --capital, how much there is to place"),
        ("--lot 10", "--lot is about orders: give --capital, how much there is to place"),
        ("--capital 0", "--capital must be above 0, not 0.0"),
        ("--capital 1000 --lot 0", "--lot must be a whole number at least 1, not 0"),
        ("--capital 1000", "market.csv: --capital needs prices, and these are returns; give a file of prices, or call"),
        ("--costs-bps -1", "--costs-bps must be at least 0 and less than 5,000, not -1.0"),
        ("--seed -1", "--seed must be a whole number from 0 to"),
        ("--execution leads", "Invalid value for '--execution'"),
        ("--paths 0", "--paths must be a whole number at least 1, not 0"),
        ("--method circular", "--method is about resampled paths: give --paths, how many"),
        ("--block 5", "--block is about resampled paths: give --paths, how many"),
        ("--paths 3 --block x", "--block 'x': give a number of rows, or auto"),
        ("--paths 3 --method iid --block 5", "--block is 5, but the iid bootstrap has no blocks: leave it out"),
        ("--paths 3 --block 500", "--block must be a number from 1 to 120, the panel's rows, not 500"),
        ("--base hrp", "--base 'hrp' is none of the profiles: choose from equal_weight, risk_parity"),
        ("--vary slack=1.1 --slack 1.2", "--slack is given, and varied too: leave one of them out"),
        ("--vary slack", "--vary 'slack': write it as cluster-cap=0.15,0.25"),
        ("--chunk-size 0", "--chunk-size must be a whole number at least 1, not 0"),
        ("--report=page.txt", "must be a file whose name ends in .html"),
        ("--cluster-cap 2", "--cluster-cap must be greater than 0 and at most 1, not 2.0"),
        ("--missing zeros", "Invalid value for '--missing'"),
    ],
)
def test_what_is_refused_is_one_line(refused: Callable[..., str], words: str, message: str) -> None:
    assert message in refused(*WALK, *words.split())


def test_folders_are_not_mixed_up(run: Run, file: Path, refused: Callable[..., str]) -> None:
    run(*WALK, "--out", "walk")
    assert "go on with it with --resume, replace it with --fresh, or choose" in refused(*WALK, "--out", "walk")
    said = refused(*WALK, "--out", "walk", "--resume", "--costs-bps", "1")
    assert "was made with other settings: --costs-bps 0.0 (now 1.0)" in said
    out, _ = run(*WALK, "--out", "walk", "--fresh", "--costs-bps", "1", "--json")
    assert json.loads(out)["costs_bps"] == 1


# ---- Ctrl-C ---------------------------------------------------------------------------------------------------------


def test_ctrl_c_names_the_command_that_goes_on(run: Run, file: Path, market: pd.DataFrame) -> None:
    with pytest.MonkeyPatch.context() as patch:

        def interrupt(*_: Any) -> None:
            raise KeyboardInterrupt

        patch.setattr(run_module, "hold_history", interrupt)
        _, err = run(*WALK, "--paths", "4", status=130)
    found = re.fullmatch(
        r"jaxalloc: interrupted; 20 of 20 universes are kept in market-walk-forward; resume with: jaxalloc (.*)\n", err
    )
    assert found is not None, err
    chunks = {path: path.stat().st_mtime_ns for path in Path("market-walk-forward").glob("*/chunks/*")}
    assert len(chunks) >= 2
    run(*shlex.split(found[1]))
    assert {path: path.stat().st_mtime_ns for path in chunks} == chunks  # not computed again
    wanted = walk(market, paths=ja.Bootstrap(4, "stationary", 21))
    resumed = ja.load_walk_forward("market-walk-forward")
    pd.testing.assert_frame_equal(resumed.summary(), wanted.summary())
    pd.testing.assert_frame_equal(resumed.paths(), wanted.paths())


def test_ctrl_c_before_anything_is_kept_is_just_that(run: Run, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("jaxalloc.studies.chunks.Runner.start", interrupt)
    assert run(*WALK, "--out", "new", status=130) == ("", "jaxalloc: interrupted\n")
