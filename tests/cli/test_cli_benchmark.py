"""`jaxalloc walk-forward --benchmark`: a column to compare with, and how far clusters agree, in print and in JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import jaxalloc as ja
from jaxalloc.cli.render import written
from jaxalloc.settings.measures import BENCHMARK_MEASURES, WALK_MEASURE

Run = Callable[..., tuple[str, str]]

PROFILES = ("equal_weight", "risk_parity")
CONFIG = ja.AllocationConfig(profiles=PROFILES)
ROLL = ("--window", "60", "--step", "20", *(f"--profile={profile}" for profile in PROFILES), "--quiet")
WALK = ("walk-forward", "both.csv", *ROLL, "--benchmark", "SPY")


@pytest.fixture
def both(file: Path, market: pd.DataFrame) -> pd.DataFrame:
    """The market and an index of it, also as a file in the current directory."""
    index = market.mean(axis=1) + np.random.default_rng(1).normal(0, 0.004, len(market))
    frame = market.assign(SPY=index)
    frame.to_csv("both.csv")
    return frame


def walk(market: pd.DataFrame, **changes: Any) -> ja.WalkForward:
    config = changes.pop("config", CONFIG)
    return ja.walk_forward(market, config, window=60, step=20, **changes)


def shown(walk: ja.WalkForward, profile: str, at: int = 0) -> str:
    """A line of the table of a profile beside the benchmark, as a pattern."""
    row = walk.summary(at).loc[profile]
    cells = [re.escape(written(WALK_MEASURE[name])(row[name])) for name in BENCHMARK_MEASURES]
    return rf"^{profile.replace('_', ' ')} +{' +'.join(cells)}$"


def test_portfolios_are_printed_beside_the_benchmark(run: Run, both: pd.DataFrame, market: pd.DataFrame) -> None:
    out, err = run(*WALK, "--costs-bps", "5", "--out", "walk")
    assert err == ""
    assert max(map(len, out.splitlines())) <= 80
    wanted = walk(both, benchmark="SPY", costs_bps=5)
    assert "3 rebalances of 12 assets, held on 60 rows" in out
    assert "\nagainst SPY\n" in out
    for profile in PROFILES:
        assert re.search(shown(wanted, profile), out, re.MULTILINE)
    own = wanted.benchmark_summary().loc["SPY"]
    returned, deviation, drawdown = (
        f"{100 * own[name]:.2f} %" for name in ("annual_return", "volatility", "max_drawdown")
    )
    words = f"SPY itself: return {returned}, volatility {deviation}, Sharpe {own['sharpe']:.2f}, drawdown {drawdown}"
    assert words in " ".join(out.split())
    mean = wanted.cluster_agreement()["agreement"].mean()
    assert f"from one window to the next, clusters agree by {mean:.2f} on average" in " ".join(out.split())
    loaded = ja.load_walk_forward("walk")
    pd.testing.assert_frame_equal(loaded.summary(), wanted.summary())
    pd.testing.assert_frame_equal(loaded.returns, walk(market, costs_bps=5).returns)


def test_a_sweep_is_printed_beside_it_at_the_settings_own_point(run: Run, both: pd.DataFrame) -> None:
    out, _ = run(*WALK, "--vary", "cluster-cap=0.2,0.25", "--vary", "costs-bps=0,30", "--out", "swept")
    wanted = walk(both, benchmark="SPY", config=ja.sweep(CONFIG, cluster_cap=[0.2, 0.25]), costs_bps=[0, 30])
    assert "against SPY, at the settings' own point\n" in out
    for profile in PROFILES:
        assert re.search(shown(wanted, profile, wanted.settings.home), out, re.MULTILINE)


def test_a_machine_is_told_all_of_it(run: Run, both: pd.DataFrame) -> None:
    found = json.loads(run(*WALK, "--json", "--paths", "3", "--out", "walk")[0])
    wanted = walk(both, benchmark="SPY", paths=ja.Bootstrap(3, "stationary", 21))
    assert (found["benchmark"], found["benchmark_sha256"]) == ("SPY", wanted.record["benchmark_sha256"])
    assert found["summary"][1]["information_ratio"] == wanted.summary().loc["risk_parity", "information_ratio"]
    assert found["benchmark_summary"] == [{"benchmark": "SPY", **wanted.benchmark_summary().loc["SPY"].to_dict()}]
    agreement = wanted.cluster_agreement()
    assert [row["decided"] for row in found["cluster_agreement"]] == [str(day.date()) for day in agreement.index]
    assert found["cluster_agreement"][0]["agreement"] is None
    assert [row["agreement"] for row in found["cluster_agreement"][1:]] == agreement["agreement"].iloc[1:].tolist()
    assert [row["n_clusters"] for row in found["cluster_agreement"]] == agreement["n_clusters"].tolist()
    assert {row["measure"] for row in found["path_quantiles"]} >= set(BENCHMARK_MEASURES)


def test_without_one_nothing_is_said_of_it(run: Run, file: Path) -> None:
    out, _ = run("walk-forward", file.name, *ROLL)
    assert "\nagainst " not in out
    assert " itself: " not in out
    found = json.loads(run("walk-forward", file.name, *ROLL, "--json", "--out", "other")[0])
    assert not {"benchmark", "benchmark_sha256", "benchmark_summary"} & set(found)
    assert len(found["cluster_agreement"]) == 4


def test_orders_and_bags_leave_it_out(run: Run, market: pd.DataFrame, both: pd.DataFrame) -> None:
    (100 * (1 + both).cumprod()).to_csv("both.csv")
    run(*WALK, "--capital", "100000", "--bag", "3", "--out", "placed")
    orders = pd.read_csv("placed/orders.csv")
    assert set(orders["symbol"]) <= set(market.columns)
    assert ja.load_walk_forward("placed").symbols == list(market.columns)


def test_a_config_file_may_name_it(run: Run, both: pd.DataFrame) -> None:
    Path("study.toml").write_text('[walk-forward]\nbenchmark = "SPY"\n', encoding="utf-8")
    run(*WALK[:-2], "--config", "study.toml", "--out", "walk")
    found = ja.load_walk_forward("walk")
    assert found.record["benchmark"] == "SPY"
    assert "--benchmark SPY" in found.record["command"]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("QQQ", None, "--benchmark: 'QQQ' is no column of the panel; choose from "),
        (
            "SPY",
            lambda frame: frame.mask(frame.eq(frame["SPY"], axis=0) & (np.arange(len(frame)) >= 110)[:, None]),
            "--benchmark: 'SPY' has no return on 10 of the 60 days held, the first 2021-06-07; read the panel with "
            "--missing carry",
        ),
        ("SPY", lambda frame: frame[["SPY"]], "--benchmark: 'SPY' is the only asset; give a panel with another one"),
    ],
)
def test_errors_are_one_line(run: Run, both: pd.DataFrame, name: str, change: Any, message: str) -> None:
    if change is not None:
        change(both).to_csv("both.csv")
    _, err = run(*WALK[:-1], name, status=2)
    assert err.count("\n") == 1
    assert message in err
    assert not Path("both-walk-forward").exists()
