"""Measures against a benchmark: plain NumPy on the returns, on history and paths; a benchmark is no asset."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import jaxalloc as ja
from jaxalloc.arguments.errors import InputError
from jaxalloc.backtest.benchmark import split_off
from jaxalloc.backtest.performance import against_benchmark, performance
from jaxalloc.backtest.walk import History, WalkForward
from jaxalloc.settings.measures import BENCHMARK_MEASURES, FIGURES, RETURN_MEASURES

N, T, WINDOW, STEP = 6, 130, 40, 15
ASSETS = ja.datasets.synthetic_market(n_assets=N, n_observations=T, seed=3)
SYMBOLS = list(ASSETS.columns)
# most of its moves are the assets' own, and it stands between them
INDEX = (0.7 * ASSETS.mean(axis=1) + np.random.default_rng(5).normal(0, 0.004, T)).rename("SPY")
MARKET = pd.concat([ASSETS.iloc[:, :2], INDEX, ASSETS.iloc[:, 2:]], axis=1)
CONFIG = ja.AllocationConfig(profiles=("risk_parity", "max_sharpe"), risk_free_rate=0.02)
PATHS = ja.Bootstrap(5, "circular", 10)


def walk(panel: Any = MARKET, config: Any = CONFIG, **changes: Any) -> WalkForward:
    arguments: dict[str, Any] = {"window": WINDOW, "step": STEP, "seed": 7, "benchmark": "SPY"}
    return ja.walk_forward(panel, config, **(arguments | changes))


def beside(net: Any, benchmark: Any, periods: float = 252) -> list[float]:
    """`BENCHMARK_MEASURES` of one series."""
    covariance, active = np.cov(net, benchmark), np.subtract(net, benchmark)
    risk = np.sqrt(periods) * active.std(ddof=1)
    correlation = np.corrcoef(net, benchmark)[0, 1]
    return [covariance[0, 1] / covariance[1, 1], correlation, risk, periods * active.mean() / risk]


def with_gaps(market: pd.DataFrame) -> pd.DataFrame:
    """A late listing, a gap and a delisting; the benchmark misses rows on which nothing is held yet."""
    frame = market.copy()
    for rows, symbol in ((slice(0, 50), 2), (97, 0), (slice(112, 130), 4)):
        frame.iloc[rows, frame.columns.get_loc(SYMBOLS[symbol])] = np.nan
    if "SPY" in frame:
        frame.iloc[:7, frame.columns.get_loc("SPY")] = np.nan
    return frame


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "costs": {"costs_bps": 25},
    "gap": {"costs_bps": 10, "gap": 3},
    "band and largest turnover": {"costs_bps": 10, "band": 0.02, "max_turnover": 0.3},
    "missing": {"costs_bps": 10, "panel": with_gaps(MARKET)},
    "leads": {"costs_bps": 10, "execution": "lead"},
    "bagged": {"costs_bps": 10, "bagging": ja.Bootstrap(4, "circular", 10)},
    "months": {"config": CONFIG.replace(periods_per_year=12)},
}


@pytest.mark.parametrize("case", CASES)
def test_measures_are_numpys(case: str) -> None:
    found = walk(**CASES[case])
    benchmark = INDEX.iloc[WINDOW + CASES[case].get("gap", 0) :]
    pd.testing.assert_series_equal(found.benchmark_returns, benchmark.rename_axis("date"), check_freq=False)
    years = found.settings.config.periods_per_year
    for profile, net in found.returns.items():
        row = found.summary().loc[profile, list(BENCHMARK_MEASURES)].astype(float)
        np.testing.assert_allclose(row, beside(net, benchmark, years), rtol=1e-10)


@pytest.mark.parametrize("case", CASES)
def test_a_benchmark_changes_nothing_that_is_decided_or_earned(case: str) -> None:
    arguments = dict(CASES[case])
    found = walk(**arguments)
    panel = arguments.pop("panel", MARKET).drop(columns="SPY")
    alone = walk(panel, benchmark=None, **arguments)
    assert found.symbols == alone.symbols == SYMBOLS
    for name in set(History._fields) - {"figures"}:
        assert getattr(found.history, name).tobytes() == getattr(alone.history, name).tobytes(), name
    shared = [name for name in FIGURES if name not in BENCHMARK_MEASURES]
    own, its = found.summary(), alone.summary()
    assert not set(BENCHMARK_MEASURES) & set(its)
    pd.testing.assert_frame_equal(own.drop(columns=list(BENCHMARK_MEASURES)), its, check_exact=True)
    assert [name for name in found.shown if name in shared] == alone.shown
    # the first of a panel with gaps tells what was read
    assert found.record["notes"][case == "missing" :] == alone.record["notes"][case == "missing" :]
    assert found.record["data"] == alone.record["data"]


def test_sweeps_of_settings_bands_and_costs_have_them_at_every_point() -> None:
    grid = ja.sweep(CONFIG, asset_cap=[0.2, 0.5])
    found = walk(config=grid, band=[0, 0.03], costs_bps=[0, 40], paths=ja.Bootstrap(2, "circular", 10))
    table = found.summary()[list(BENCHMARK_MEASURES)]
    assert len(table) == 2 * 2 * 2 * 2
    for key, row in table.iterrows():
        np.testing.assert_allclose(row.astype(float), beside(found.returns[key], found.benchmark_returns), rtol=1e-10)
    assert table.drop_duplicates().shape == table.shape  # each point earns something else
    rows = ja.Bootstrap(2, "circular", 10).rows(T, 7, 0, 2)
    for g in (0, 3, 6):
        config, band, cost = grid.at(g // 4), found.settings.points[g][1], found.settings.points[g][2]
        frame = MARKET.iloc[rows[1]].set_axis(MARKET.index, axis=0)
        expected = walk(frame, config, band=band, costs_bps=cost).summary()[list(BENCHMARK_MEASURES)]
        mine = found.paths(at=g).loc[1, list(BENCHMARK_MEASURES)]
        np.testing.assert_allclose(mine, expected, rtol=1e-6)


@pytest.mark.parametrize("changes", [{}, {"bagging": ja.Bootstrap(3, "circular", 10)}], ids=["paths", "bagged paths"])
def test_on_a_path_the_benchmark_is_resampled_by_the_same_rows(changes: dict[str, Any]) -> None:
    found = walk(paths=PATHS, costs_bps=20, gap=1, **changes)
    table = found.paths()[list(BENCHMARK_MEASURES)]
    rows = PATHS.rows(T, 7, 0, PATHS.n)
    assert np.isfinite(table).all(axis=None)
    assert table.xs("risk_parity", level="profile")["beta"].nunique() == PATHS.n
    if not changes:  # bags of a path draw anew
        for path in range(5):
            frame = MARKET.iloc[rows[path]].set_axis(MARKET.index, axis=0)
            expected = walk(frame, costs_bps=20, gap=1).summary()[list(BENCHMARK_MEASURES)]
            np.testing.assert_allclose(table.loc[path], expected, rtol=1e-6)
    spread = found.path_quantiles((0.5,))
    ratio = table.xs("max_sharpe", level="profile")["information_ratio"]
    row = spread.loc[("max_sharpe", "information_ratio")]
    assert (row["mean"], row["n_paths"]) == (pytest.approx(ratio.mean()), PATHS.n)
    assert row["history"] == found.summary().loc["max_sharpe", "information_ratio"]
    assert "information_ratio" in found.beats()
    assert not {"beta", "correlation", "active_risk"} & set(found.beats())  # neither way is better


def test_the_benchmark_is_measured_like_the_portfolios() -> None:
    grid = ja.sweep(CONFIG, risk_free_rate=[0.0, 0.02])
    found = walk(config=grid)
    assert list(found.benchmark_summary(0).index) == ["SPY"]
    for g, rate in enumerate((0.0, 0.02)):
        row = found.benchmark_summary(g).loc["SPY"]
        expected = performance(INDEX.to_numpy()[WINDOW:], 252, rate)
        np.testing.assert_allclose(row[list(RETURN_MEASURES)], [expected[name] for name in RETURN_MEASURES], rtol=1e-12)
        excess = INDEX.iloc[WINDOW:] - rate / 252
        assert row["sharpe"] == pytest.approx(excess.mean() / excess.std() * np.sqrt(252))
    assert found.benchmark_summary().index.names == ["risk_free_rate", "benchmark"]
    # a portfolio of the benchmark's own assets at their weights is the benchmark
    copy = MARKET.assign(SPY=ASSETS.mean(axis=1))
    same = walk(copy, CONFIG.replace(profiles=("equal_weight",)), step=1).summary().loc["equal_weight"]
    assert same["beta"] == pytest.approx(1, abs=1e-12)
    assert same["correlation"] <= 1
    assert same["active_risk"] == 0
    assert np.isnan(same["information_ratio"])


def test_measures_without_meaning_are_nan() -> None:
    rng = np.random.default_rng(0)
    moving = rng.normal(0, 0.01, 30)
    with np.errstate(all="raise"):
        still = against_benchmark(moving, np.full(30, 0.001), 252)
        cash = against_benchmark(np.zeros(30), moving, 252)
        once = against_benchmark(moving[:1], moving[:1], 252)
        never = against_benchmark(np.empty((3, 0)), np.empty(0), 252)
    assert np.isnan([still["beta"], still["correlation"], cash["correlation"]]).all()
    assert still["active_risk"] == pytest.approx(np.sqrt(252) * moving.std(ddof=1))
    assert cash["beta"] == 0
    assert np.isnan(list(once.values())).all()
    assert all(np.isnan(values).all() and values.shape == (3,) for values in never.values())
    assert tuple(still) == tuple(never) == BENCHMARK_MEASURES
    live = walk(window=T)  # nothing is held
    assert live.benchmark_returns.empty
    assert live.summary()[list(BENCHMARK_MEASURES)].isna().all(axis=None)
    assert live.benchmark_summary().isna().all(axis=None)


def test_a_panel_of_prices_keeps_the_prices_of_its_assets_alone() -> None:
    panel = ja.read_returns(100 * (1 + MARKET).cumprod(), kind="prices")
    assets, benchmark = split_off(panel, "SPY")
    assert assets.last_prices is not None
    assert list(assets.last_prices.index) == assets.symbols == SYMBOLS
    np.testing.assert_array_equal(benchmark.returns, panel.returns["SPY"])
    assert assets.notes == panel.notes
    assert panel.symbols == list(MARKET.columns)  # as it was
    assert "SPY" not in walk(panel).target("risk_parity").index


@pytest.mark.parametrize(
    ("panel", "changes", "message"),
    [
        (MARKET, {"benchmark": "QQQ"}, f"benchmark: 'QQQ' is no column of the panel; choose from '{SYMBOLS[0]}', "),
        (MARKET, {"benchmark": 3}, "benchmark must be the name of a column of the panel, not 3"),
        (MARKET, {"benchmark": INDEX}, "benchmark must be the name of a column of the panel, not "),
        (MARKET[["SPY"]], {}, "benchmark: 'SPY' is the only asset; give a panel with another one"),
        (
            MARKET.mask(MARKET.eq(MARKET["SPY"], axis=0) & (np.arange(T) >= 120)[:, None]),
            {},
            f"benchmark: 'SPY' has no return on 10 of the 90 days held, the first {MARKET.index[120].date()}; read the",
        ),
        (
            with_gaps(MARKET),
            {"paths": PATHS},
            f"'SPY' has no return on 7 of the 130 rows that paths are drawn from, the first {MARKET.index[0].date()};",
        ),
        (MARKET, {"previous_weights": {"SPY": 0.5}}, "previous_weights: 'SPY' is no symbol of the panel"),
    ],
)
def test_wrong_benchmarks_are_one_line(panel: Any, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as raised:
        walk(panel, out=tmp_path / "out", **changes)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_without_a_benchmark_there_is_nothing_to_ask(tmp_path: Path) -> None:
    found = walk(ASSETS, benchmark=None, out=tmp_path / "walk")
    for question in (lambda: found.benchmark_returns, found.benchmark_summary):
        with pytest.raises(InputError, match="there is no benchmark; give walk_forward benchmark="):
            question()
    assert not {"benchmark", "benchmark_sha256"} & set(found.record)  # as before there were benchmarks
    assert not (tmp_path / "walk" / "benchmark.csv").exists()


# ---- the folder -----------------------------------------------------------------------------------------------------


def same(one: WalkForward, other: WalkForward) -> None:
    assert one.benchmark is not None
    assert other.benchmark is not None
    assert one.benchmark.name == other.benchmark.name
    assert one.benchmark.returns.tobytes() == other.benchmark.returns.tobytes()
    assert one.history.figures.tobytes() == other.history.figures.tobytes()
    pd.testing.assert_series_equal(one.benchmark_returns, other.benchmark_returns, check_exact=True)
    pd.testing.assert_frame_equal(one.summary(), other.summary(), check_exact=True)
    pd.testing.assert_frame_equal(one.benchmark_summary(), other.benchmark_summary(), check_exact=True)


def test_a_folder_keeps_the_benchmark(tmp_path: Path) -> None:
    found = walk(with_gaps(MARKET), costs_bps=10, out=tmp_path / "walk")
    same(ja.load_walk_forward(tmp_path / "walk"), found)
    same(pickle.loads(pickle.dumps(found)), found)
    written = pd.read_csv(tmp_path / "walk" / "benchmark.csv", index_col="date", parse_dates=True)
    np.testing.assert_array_equal(written["SPY"], found.benchmark_returns)
    record = json.loads((tmp_path / "walk" / "walk_forward.json").read_text())
    assert (record["benchmark"], len(record["benchmark_sha256"])) == ("SPY", 64)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "walk" / "summary.csv", index_col="profile"), found.summary())


def test_interrupted_and_resumed_it_is_the_same(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"paths": PATHS, "costs_bps": 20, "chunk_size": 8}

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        walk(out=tmp_path / "walk", progress=stop, **arguments)
    for changes, message in (
        ({"panel": MARKET.assign(SPY=2 * INDEX)}, "benchmark_sha256 "),
        ({"panel": ASSETS, "benchmark": None}, "benchmark SPY (now absent)"),
        ({"panel": MARKET.rename(columns={"SPY": "IVV"}), "benchmark": "IVV"}, "benchmark SPY (now IVV)"),
    ):
        with pytest.raises(InputError, match="was made with other settings") as raised:
            walk(out=tmp_path / "walk", resume=True, **(arguments | changes))
        assert message in str(raised.value)
    resumed = walk(out=tmp_path / "walk", resume=True, **arguments)
    whole = walk(**arguments)
    same(resumed, whole)
    assert resumed.path_figures is not None
    assert whole.path_figures is not None
    assert resumed.path_figures.tobytes() == whole.path_figures.tobytes()


def test_another_benchmark_keeps_the_allocations(tmp_path: Path) -> None:
    walk(ASSETS, benchmark=None, out=tmp_path / "walk")
    chunk = next((tmp_path / "walk" / "allocations" / "chunks").iterdir())
    written = chunk.stat().st_mtime_ns
    found = walk(out=tmp_path / "walk", fresh=True)
    assert chunk.stat().st_mtime_ns == written
    same(found, walk())
    same(ja.load_walk_forward(tmp_path / "walk"), found)
    walk(ASSETS, benchmark=None, out=tmp_path / "walk", fresh=True)
    assert chunk.stat().st_mtime_ns == written
    assert not (tmp_path / "walk" / "benchmark.csv").exists()
    assert ja.load_walk_forward(tmp_path / "walk").benchmark is None
