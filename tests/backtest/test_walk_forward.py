"""Walk-forwards: equal to a plain day-by-day simulation, blind to the future, the same however they are run.

One market of 6 assets and 130 days and one set of profiles almost throughout, so that little is compiled.
"""

from __future__ import annotations

import itertools
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
import scipy.special
import scipy.stats
from helpers import count_compilations
from trading_oracles import bought, simulate, turnover_and_traded

import jaxalloc as ja
from jaxalloc.arguments.errors import InputError
from jaxalloc.backtest import holding as holding_module
from jaxalloc.backtest import plan as plan_module
from jaxalloc.backtest.performance import expected_maximum_sharpe, performance, probabilistic_sharpe
from jaxalloc.backtest.previous import previous_weights
from jaxalloc.backtest.schedule import Schedule
from jaxalloc.backtest.simulation import Market, after_costs, concentrate, hold
from jaxalloc.backtest.trading import Rule
from jaxalloc.backtest.walk import History, WalkForward
from jaxalloc.markets import source as source_module
from jaxalloc.settings.status import Status

N, T, WINDOW, STEP = 6, 130, 40, 15
MARKET = ja.datasets.synthetic_market(n_assets=N, n_observations=T, seed=3)
SYMBOLS = list(MARKET.columns)
CONFIG = ja.AllocationConfig(profiles=("risk_parity", "max_sharpe"), risk_free_rate=0.02)
PATHS = ja.Bootstrap(5, "circular", 10)
EXACT = {"rtol": 1e-12, "atol": 1e-15}


def walk(panel: Any = MARKET, config: Any = CONFIG, **changes: Any) -> WalkForward:
    arguments: dict[str, Any] = {"window": WINDOW, "step": STEP, "seed": 7}
    return ja.walk_forward(panel, config, **(arguments | changes))


def with_gaps(*gaps: tuple[slice | int, int]) -> pd.DataFrame:
    """The market with gaps at (rows, column)."""
    frame = MARKET.copy()
    for rows, column in gaps:
        frame.iloc[rows, column] = np.nan
    return frame


LATE = with_gaps((slice(0, 50), 2), (97, 0), (slice(112, 130), 4))  # a late listing, one gap, a delisting
# beside them, five holes of a window of 40 rows, and six
HOLED = with_gaps((slice(0, 50), 2), (slice(20, 25), 0), (slice(60, 66), 1), (slice(112, 130), 4))


# ---- the oracle -----------------------------------------------------------------------------------------------------


def allowed(sample: pd.DataFrame, returns: pd.DataFrame, max_missing: float) -> list[bool]:
    """Which assets live through a sample and miss no more of its rows than that share."""
    lives = [(returns[symbol].first_valid_index(), returns[symbol].last_valid_index()) for symbol in returns]
    inside = [first <= sample.index[0] and sample.index[-1] <= last for first, last in lives]
    few = sample.isna().sum() <= max_missing * len(sample) + 1e-9
    return [alive and bool(few.iloc[i]) for i, alive in enumerate(inside)]


def decided(
    returns: pd.DataFrame, expanding: bool = False, lead: bool = False, ends: Any = None, max_missing: float = 0.05
) -> list[dict[str, pd.Series | None]]:
    """Targets of each window by profile, from `allocate_batch` on exactly the rows that the window has."""
    found: list[dict[str, pd.Series | None]] = []
    ends = range(WINDOW - 1, len(returns), STEP) if ends is None else ends
    samples = [returns.iloc[0 if expanding else end + 1 - WINDOW : end + 1] for end in ends]
    masks = np.array([allowed(sample, returns, max_missing) for sample in samples])
    weights = np.zeros((len(samples), len(returns)))  # shared rows, so that samples of any length are one program
    for j, sample in enumerate(samples):
        weights[j, returns.index.get_indexer(sample.index)] = 1
    with jax.enable_x64(True):
        batch = ja.allocate_batch(np.nan_to_num(returns.to_numpy()), CONFIG, weights, masks)
    for j in range(len(samples)):
        row: dict[str, pd.Series | None] = {}
        for p, profile in enumerate(CONFIG.profiles):
            x = batch.weights[j, p]
            if lead:
                x = np.zeros(N)
                for k, asset in enumerate(batch.lead_assets[j, p]):
                    x[asset] += batch.cluster_weights[j, p, k] if asset >= 0 else 0
            invalid = int(batch.status[j, p]) & Status.INVALID
            row[profile] = None if invalid else pd.Series(x, index=returns.columns)
        found.append(row)
    return found


NOTHING = pd.Series(0.0, index=SYMBOLS)
CASES = {
    "plain": {},
    "costs": {"costs_bps": 25},
    "gap": {"costs_bps": 10, "gap": 3},
    "a gap beyond the step": {"costs_bps": 10, "gap": 20},
    "expanding": {"costs_bps": 10, "expanding": True},
    "missing": {"costs_bps": 10, "panel": LATE},
    "no row missing": {"costs_bps": 10, "panel": LATE, "max_missing": 0},
    "more missing": {"costs_bps": 10, "panel": HOLED, "max_missing": 0.125},
    "leads": {"costs_bps": 10, "execution": "lead", "panel": LATE},
    "band": {"costs_bps": 10, "band": 0.02},
    "band, cash and gaps": {"costs_bps": 30, "band": 0.05, "panel": LATE, "previous_weights": {SYMBOLS[1]: 0.5}},
    "largest turnover": {"costs_bps": 10, "max_turnover": 0.05},
    "largest turnover, band, cash and gaps": {
        **{"costs_bps": 30, "max_turnover": 0.1, "band": 0.01, "panel": HOLED, "gap": 2},
        "previous_weights": {SYMBOLS[0]: 0.7, SYMBOLS[4]: 0.1},
    },
    "leads within a band": {"costs_bps": 10, "execution": "lead", "panel": LATE, "band": 0.03, "max_turnover": 0.3},
    "previous": {"costs_bps": 30, "previous_weights": {SYMBOLS[1]: 0.5, SYMBOLS[3]: 0.2}},
}


@pytest.mark.parametrize("case", CASES)
def test_walk_forward_is_a_day_by_day_simulation(case: str) -> None:
    arguments = dict(CASES[case])
    found = walk(**arguments)
    panel: Any = arguments.get("panel", MARKET)
    gap, lead = int(arguments.get("gap", 0)), arguments.get("execution") == "lead"
    previous = pd.Series(arguments.get("previous_weights", {}), dtype=float).reindex(SYMBOLS).fillna(0)
    cost, rule = arguments.get("costs_bps", 0) / 10_000, (arguments.get("band", 0.0), arguments.get("max_turnover"))
    windows = decided(panel, bool(arguments.get("expanding")), lead, max_missing=arguments.get("max_missing", 0.05))
    assert len(windows) == found.schedule.n_windows == 7
    rows = [WINDOW + gap + j * STEP for j in range(len(windows))]
    for profile in CONFIG.profiles:
        targets = {row: window[profile] for row, window in zip(rows, windows, strict=True) if row < T}
        expected = simulate(panel, targets, cost, previous, *rule)
        for frame, series in ((found.gross, expected.gross), (found.returns, expected.net)):
            assert list(frame.index) == list(series) == list(MARKET.index[WINDOW + gap :])
            np.testing.assert_allclose(frame[profile], list(series.values()), **EXACT)
        assert list(found.turnover.index) == list(expected.turnover) == [MARKET.index[row] for row in rows if row < T]
        np.testing.assert_allclose(found.turnover[profile], list(expected.turnover.values()), atol=1e-13)
        np.testing.assert_allclose(found.traded[profile], list(expected.traded.values()), atol=1e-13)
        np.testing.assert_allclose(found.costs[profile], cost * found.traded[profile], rtol=1e-15)
        weights = found.weights(profile)
        np.testing.assert_allclose(weights, np.array(list(expected.weights.values())), atol=1e-13)
        assert list(found.rebalances().loc[profile, "missing"]) == list(expected.missing.values())
        live = found.target(profile)
        np.testing.assert_allclose(live["current"], expected.last, atol=1e-13)
        decision = np.asarray(windows[-1][profile])
        np.testing.assert_allclose(live["target"], decision, atol=1e-13)
        np.testing.assert_allclose(live["bought"], bought(expected.last.to_numpy(), decision, *rule), atol=1e-12)
        np.testing.assert_allclose(live["trade"], live["bought"] - live["current"], atol=0)
        due = found.summary().loc[profile, ["live_turnover", "live_traded"]]
        np.testing.assert_allclose(due.astype(float), turnover_and_traded(live["trade"].to_numpy()), atol=1e-15)
    if case in ("missing", "no row missing", "more missing", "leads"):
        assert found.summary()["missing"].max() > 0


def test_lead_execution_tells_its_tracking_error() -> None:
    lead, whole = (walk(LATE, costs_bps=10, execution=execution) for execution in ("lead", "portfolio"))
    pd.testing.assert_frame_equal(lead.whole_returns, whole.returns, rtol=1e-13, atol=1e-16)
    apart = lead.returns - whole.returns
    expected = apart.std() * np.sqrt(252)
    assert (expected > 0).all()
    np.testing.assert_allclose(lead.summary()["tracking_error"], expected, rtol=1e-12)
    assert "tracking_error" not in whole.summary()
    with pytest.raises(InputError, match="whole portfolios were executed"):
        _ = whole.whole_returns


# ---- no look-ahead --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gap", [0, 4])
def test_nothing_decided_or_earned_before_a_date_changes_with_what_comes_after(gap: int) -> None:
    date = 85  # the fourth window ends on row 84, its portfolio is held from row 85 + gap on
    future = MARKET.copy()
    rng = np.random.default_rng(0)
    future.iloc[date:] = rng.normal(-0.01, 0.03, (T - date, N))
    future.iloc[date:, 0] = 0.05 + rng.uniform(0, 0.01, T - date)  # tomorrow's answer
    one, other = walk(gap=gap, costs_bps=10), walk(future, gap=gap, costs_bps=10)
    row = {label: i for i, label in enumerate(MARKET.index)}
    before = [label for label in one.days if row[label] < date]
    assert len(before) == date - WINDOW - gap
    # to rounding, because the engine centres a panel at the medians of all its rows
    same: dict[str, Any] = {"rtol": 0, "atol": 1e-11}
    pd.testing.assert_frame_equal(one.returns.loc[before], other.returns.loc[before], **same)
    seen = one.rebalances().loc["max_sharpe", "decided"].map(row).to_numpy() < date
    assert seen.sum() == 4
    for profile in CONFIG.profiles:
        a, b = one.weights(profile), other.weights(profile)
        pd.testing.assert_frame_equal(a[seen], b[seen], **same)
        assert not np.allclose(a[~seen], b[~seen])  # what comes after is seen in time
    assert other.weights("max_sharpe").iloc[-1, 0] == pytest.approx(0.25, abs=0.06)  # at its bound


def test_holding_sees_no_bit_of_the_future() -> None:
    rng = np.random.default_rng(1)
    returns = rng.normal(0, 0.02, (60, N))
    future = np.where(np.arange(60)[:, None] < 37, returns, np.nan)
    targets = rng.dirichlet(np.ones(N), 5)
    one, other = (held(panel, targets, np.zeros(N), Schedule(60, 20, 10), cost=0.01) for panel in (returns, future))
    assert one.net[..., :17].tobytes() == other.net[..., :17].tobytes()
    assert one.weights[:, :, :2].tobytes() == other.weights[:, :, :2].tobytes()
    assert not np.allclose(one.net[..., 17:], other.net[..., 17:])


# ---- holding, by hand -----------------------------------------------------------------------------------------------


def held(returns: Any, targets: Any, previous: Any, schedule: Schedule, cost: float = 0.0) -> Any:
    returns = np.asarray(returns, float)
    targets = np.asarray(targets, float)[None, :, None, :]
    rows = np.arange(len(returns))[None]
    held = hold(Market.of(returns), rows, targets, np.asarray([previous], float), schedule, Rule(), True)
    return types.SimpleNamespace(**held._asdict(), net=after_costs(held, schedule, cost))


def test_two_assets_by_hand() -> None:
    returns = [[0, 0], [0, 0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.5]]
    found = held(returns, [[0.5, 0.5], [0.5, 0.5]], [0, 0], Schedule(5, 2, 2), cost=0.01)
    np.testing.assert_allclose(found.gross[0, 0], [0.5, 0, 0.25])
    np.testing.assert_allclose(found.turnover[0, 0], [1, 1 / 6])  # 2/3 and 1/3 after the doubling
    np.testing.assert_allclose(found.traded[0, 0], [1, 1 / 3])
    np.testing.assert_allclose(found.net[0, 0], [0.99 * 1.5 - 1, 0, (1 - 0.01 / 3) * 1.25 - 1])
    np.testing.assert_allclose(found.last[0, 0], [0.4, 0.6])


def test_without_a_portfolio_what_is_held_is_kept() -> None:
    nan = np.nan
    returns = [[0, 0], [0, 0], [0.1, 0], [1.0, 0], [0.2, nan], [0, nan]]
    targets = [[nan, nan], [0.5, 0.5], [nan, nan], [nan, nan]]
    found = held(returns, targets, [0, 0], Schedule(6, 2, 1), cost=0.1)
    assert found.kept[0, 0].tolist() == [True, False, True, True]
    np.testing.assert_allclose(found.turnover[0, 0], [0, 1, 0, 0])
    np.testing.assert_allclose(found.gross[0, 0], [0, 0.5, 0.2 * 2 / 3, 0])  # cash first, then adrift
    np.testing.assert_allclose(found.net[0, 0], [0, 0.9 * 1.5 - 1, 0.2 * 2 / 3, 0])
    assert found.missing[0, 0].tolist() == [0, 0, 1, 1]


def test_equal_weights_by_hand() -> None:
    config = CONFIG.replace(profiles=("equal_weight", "inverse_volatility"))
    found = walk(LATE, config=config, costs_bps=50)
    targets: dict[int, pd.Series | None] = {}
    for row in range(WINDOW, T, STEP):
        there = pd.Series(allowed(LATE.iloc[row - WINDOW : row], LATE, 0.05), SYMBOLS)
        targets[row] = there / there.sum()
    expected = simulate(LATE, targets, 0.005, NOTHING)
    np.testing.assert_allclose(found.returns["equal_weight"], list(expected.net.values()), **EXACT)
    np.testing.assert_allclose(found.turnover["equal_weight"], list(expected.turnover.values()), atol=1e-13)
    assert found.base == "equal_weight"
    assert set(found.differences(n=9).index.get_level_values("profile")) == {"inverse_volatility"}


def test_a_total_loss_is_a_return_of_minus_one_and_then_nothing() -> None:
    found = held([[0, 0], [0, 0], [-1.0, 0.5], [0.5, 0]], [[1, 0], [np.nan, np.nan]], [0, 0], Schedule(4, 2, 1))
    assert found.gross[0, 0].tolist() == [-1, 0]
    assert not found.last.any()
    assert performance(found.net[0, 0], 252.0, 0.0)["max_drawdown"] == 1


def test_leads_take_their_clusters_weight() -> None:
    weights = np.array([[0.1, 0.2, 0.3, 0.0, 0.4], [np.nan] * 5])
    labels = np.array([[0, 1, 0, -1, 1], [-1] * 5])
    leads = np.array([[0, 0, 1, 0, 1], [0] * 5], bool)
    found = concentrate(weights, labels, leads)
    np.testing.assert_allclose(found, [[0, 0, 0.4, 0, 0.6], [np.nan] * 5])


def test_windows_without_a_valid_universe_keep_what_is_held() -> None:
    gone = MARKET.copy()
    gone.iloc[100] = np.nan  # in the windows from rows 75 and 90 on
    found = walk(gone, costs_bps=10, max_missing=0)
    table = found.rebalances().loc["risk_parity"]
    assert table["kept"].tolist() == [False, False, False, False, False, True]
    assert table["turnover"].iloc[-1] == 0
    assert np.isnan(table["effective_bets"].iloc[-1])
    assert table["missing"].sum() == (found.weights("risk_parity").iloc[4] > 1e-6).sum()
    summary = found.summary().loc["risk_parity"]
    assert (summary["kept"], summary["live_turnover"]) == (1, 0)  # the last window has none either
    assert found.history.undecided.all()
    assert summary["effective_bets"] == pytest.approx(table["effective_bets"].iloc[:5].mean())
    assert found.returns.notna().all(axis=None)


# ---- the schedule ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("expanding", [False, True])
@pytest.mark.parametrize(("rows", "window", "step", "gap"), [(20, 5, 3, 0), (20, 5, 3, 2), (21, 6, 5, 7), (9, 9, 1, 0)])
def test_schedule(rows: int, window: int, step: int, gap: int, expanding: bool) -> None:
    schedule = Schedule(rows, window, step, expanding, gap)
    assert schedule.n_windows == len(range(0, rows - window + 1, step))
    held = [schedule.held(j) for j in range(schedule.n_windows)]
    days = [day for low, high in held for day in range(low, high)]
    assert days == list(range(min(window + gap, rows), rows))  # every day once, in order
    assert schedule.n_days == len(days)
    assert [low < high for low, high in held] == [j < schedule.n_held for j in range(schedule.n_windows)]
    for j, (low, high) in enumerate(held):
        assert schedule.decided(j) == j * step + window - 1
        assert high <= low or low == schedule.decided(j) + 1 + gap


@pytest.mark.parametrize("gap", [0, 3])
def test_the_live_window_ends_on_the_last_row_and_changes_nothing_before(gap: int) -> None:
    found = walk(step=20, gap=gap, costs_bps=10)
    ends = [39, 59, 79, 99, 119, 129]
    assert found.schedule.decisions.tolist() == ends
    assert (found.schedule.n_windows, found.schedule.n_held) == (6, 5)
    steps = ja.run_study(MARKET, ja.RollingWindows(WINDOW, 20), CONFIG)
    for profile in CONFIG.profiles:
        wanted = steps.weights(profile).to_numpy()
        assert found.allocations.weights(profile).to_numpy()[:-1].tobytes() == wanted.tobytes()
    windows = decided(MARKET, ends=ends)
    for profile in CONFIG.profiles:
        targets = {end + 1 + gap: window[profile] for end, window in zip(ends[:-1], windows, strict=False)}
        expected = simulate(MARKET, targets, 0.001, NOTHING)
        np.testing.assert_allclose(found.returns[profile], list(expected.net.values()), **EXACT)
        live = found.target(profile)
        np.testing.assert_allclose(live["target"], windows[-1][profile], atol=1e-13)
        np.testing.assert_allclose(live["current"], expected.last, atol=1e-13)


BY_CALENDAR = {"week": "W", "month-end": "M", "month": "M", "quarter-end": "Q"}


@pytest.mark.parametrize(
    ("step", "changes"),
    [
        ("week", {"gap": 1}),
        ("month-end", {}),
        ("month", {"expanding": True}),
        ("quarter-end", {"gap": 30}),
    ],
)
def test_a_calendar_decides_on_the_last_row_of_each_period(step: str, changes: dict[str, Any]) -> None:
    found = walk(step=step, costs_bps=10, **changes)
    rows = pd.Series(np.arange(T), index=MARKET.index)
    ends = rows.groupby(MARKET.index.to_period(BY_CALENDAR[step])).last()
    ends = [int(end) for end in ends if end >= WINDOW - 1]
    assert found.schedule.decisions.tolist() == ends
    assert ends[-1] == T - 1
    gap = changes.get("gap", 0)
    windows = decided(MARKET, bool(changes.get("expanding")), ends=ends)
    for profile in CONFIG.profiles:
        targets = {end + 1 + gap: window[profile] for end, window in zip(ends, windows, strict=True)}
        targets = {row: target for row, target in targets.items() if row < T}
        expected = simulate(MARKET, targets, 0.001, NOTHING)
        np.testing.assert_allclose(found.returns[profile], list(expected.net.values()), **EXACT)
        np.testing.assert_allclose(found.turnover[profile], list(expected.turnover.values()), atol=1e-13)
        np.testing.assert_allclose(found.target(profile)["target"], windows[-1][profile], atol=1e-13)
        assert found.schedule.n_held == len(targets)
    decisions = found.rebalances().loc["risk_parity", "decided"]
    assert list(decisions) == [MARKET.index[end] for end in ends[: len(decisions)]]


def test_another_calendar_compiles_nothing() -> None:
    walk(step="week")
    with count_compilations() as compiled:
        walk(step="month-end")
        walk(step="quarter", window=50, expanding=True)
    assert compiled.count == 0


def test_a_path_by_the_calendar_has_the_dates_of_the_panel() -> None:
    found = walk(paths=PATHS, step="month-end", costs_bps=20)
    rows = PATHS.rows(T, 7, 0, PATHS.n)
    for path in (0, 3):
        frame = MARKET.iloc[rows[path]].set_axis(MARKET.index, axis=0)
        expected = walk(frame, step="month-end", costs_bps=20).summary()[list(found.paths().columns)]
        np.testing.assert_allclose(found.paths().loc[path], expected, rtol=1e-6)


def test_paths_have_no_live_window() -> None:
    found, steps = walk(paths=PATHS, step=20), []
    walk(paths=PATHS, step=20, progress=steps.append)
    assert found.path_allocations is not None
    assert (found.allocations.n, found.path_allocations.n) == (6, 5 * PATHS.n)
    assert sum(steps) == 6 + 5 * PATHS.n
    rows = PATHS.rows(T, 7, 0, PATHS.n)
    frame = MARKET.iloc[rows[3]].set_axis(MARKET.index, axis=0)
    expected = walk(frame, step=20).summary()[list(found.paths().columns)]
    np.testing.assert_allclose(found.paths().loc[3], expected, rtol=1e-6)


def dated(frequency: str, rows: int = T) -> pd.DataFrame:
    return MARKET.iloc[:rows].set_axis(pd.date_range("2001-01-01", periods=rows, freq=frequency), axis=0)


@pytest.mark.parametrize(
    ("frequency", "window", "step", "told"),
    [
        ("BME", 12, 1, "At 12 rows a year the walk-forward has a window of 12 rows and a step of 1 row."),
        ("W-FRI", 52, 4, "At 52 rows a year the walk-forward has a window of 52 rows and a step of 4 rows."),
        ("QE", 4, 1, "At 4 rows a year the walk-forward has a window of 4 rows and a step of 1 row."),
    ],
)
def test_a_year_and_a_month_of_rows_are_the_defaults(frequency: str, window: int, step: int, told: str) -> None:
    market, config = dated(frequency), CONFIG.replace(profiles=("equal_weight",))
    found = ja.walk_forward(market, config)
    assert (found.schedule.window, found.schedule.step) == (window, step)
    assert told in found.record["notes"]
    given = ja.walk_forward(market, config, window, step)
    assert given.history.net.tobytes() == found.history.net.tobytes()
    assert not any("walk-forward has" in note for note in given.record["notes"])
    wanted = f"At {window} rows a year the walk-forward has a step of {step} row{'' if step == 1 else 's'}."
    assert wanted in ja.walk_forward(market, config, window + 1).record["notes"]


def test_days_have_windows_of_252_rows_and_steps_of_21_without_a_word() -> None:
    market = ja.datasets.synthetic_market(n_assets=N, n_observations=300)
    for number in ("auto", 250, 260):
        config = ja.AllocationConfig(profiles=("equal_weight",), periods_per_year=number)
        found = ja.walk_forward(market, config)
        assert (found.schedule.window, found.schedule.step) == (252, 21)
        assert not any("walk-forward has" in note for note in found.record["notes"])
    weeks = ja.walk_forward(market.reset_index(drop=True), config.replace(periods_per_year=52))
    assert (weeks.schedule.window, weeks.schedule.step) == (52, 4)  # rows without dates: the caller knows
    with pytest.raises(InputError, match="window is by default a year of rows, 252, and the panel has 100; give"):
        ja.walk_forward(market.iloc[:100], config)


def test_a_monthly_sharpe_ratio_by_hand() -> None:
    market = dated("ME")
    found = ja.walk_forward(market, CONFIG.replace(profiles=("equal_weight",)), window=12, step=1)
    net = market.iloc[12:].mean(axis=1)  # equal weights, every month anew
    excess = net - 0.02 / 12
    row = found.summary().loc["equal_weight"]
    assert row["sharpe"] == pytest.approx(np.sqrt(12) * excess.mean() / net.std())
    assert row["annual_return"] == pytest.approx((1 + net).prod() ** (12 / len(net)) - 1)


def test_blocks_are_a_month_of_rows_and_three_at_least() -> None:
    for freq, length in (("B", 21), ("W", 4), ("ME", 3)):
        found = ja.walk_forward(
            dated(freq), CONFIG.replace(profiles=("equal_weight", "inverse_variance")), window=12, step=1
        )
        pd.testing.assert_frame_equal(found.differences(n=50), found.differences(n=50, block_length=length))


# ---- paths ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def resampled() -> WalkForward:
    return walk(paths=PATHS, costs_bps=20, gap=1, execution="lead")


def test_rows_of_a_path_are_those_of_the_resample() -> None:
    for sampler in (PATHS, ja.Bootstrap(5, "stationary", 7.5), ja.Bootstrap(5, "moving", 9), ja.Bootstrap(5)):
        rows = sampler.rows(T, 7, 0, 5)
        counts = np.stack([np.bincount(path, minlength=T) for path in rows])
        assert np.array_equal(counts, sampler.counts(T, 7, 0, 5))
        assert np.array_equal(rows[2:4], sampler.rows(T, 7, 2, 4))
    blocks = PATHS.rows(T, 7, 0, 5).reshape(5, -1, 10)
    assert (np.diff(blocks) % T == 1).all()


@pytest.mark.parametrize("expanding", [False, True])
def test_a_path_is_the_walk_forward_of_its_rows(expanding: bool, resampled: WalkForward) -> None:
    settings: dict[str, Any] = {"costs_bps": 20, "gap": 1, "execution": "lead", "expanding": expanding}
    paths = (walk(paths=PATHS, **settings) if expanding else resampled).paths()
    rows = PATHS.rows(T, 7, 0, PATHS.n)
    for path in (0, 3):
        frame = MARKET.iloc[rows[path]].set_axis(MARKET.index, axis=0)
        expected = walk(frame, **settings).summary()[list(paths.columns)]
        np.testing.assert_allclose(paths.loc[path], expected, rtol=1e-6)


def test_history_is_there_beside_the_paths(resampled: WalkForward) -> None:
    alone = walk(costs_bps=20, gap=1, execution="lead")
    pd.testing.assert_frame_equal(resampled.summary(), alone.summary(), check_exact=True)
    assert resampled.n_paths == PATHS.n
    with pytest.raises(InputError, match="there are no paths"):
        alone.paths()


def test_quantiles_and_wins_over_paths(resampled: WalkForward) -> None:
    paths = resampled.paths()
    table = resampled.path_quantiles((0.1, 0.5))
    assert list(table.columns) == ["history", "mean", "std", "q10", "q50", "n_paths"]
    for profile in CONFIG.profiles:
        part = paths.xs(profile, level="profile")
        for measure in part.columns:
            row = table.loc[(profile, measure)]
            expected = [part[measure].mean(), part[measure].std(), *part[measure].quantile([0.1, 0.5]), len(part)]
            np.testing.assert_allclose(row.iloc[1:], expected, rtol=1e-12)
            assert row["history"] == resampled.summary().loc[profile, measure]
    wins = resampled.beats("risk_parity")
    assert list(wins.index) == ["max_sharpe"]
    a, b = (paths.xs(profile, level="profile") for profile in ("max_sharpe", "risk_parity"))
    for measure in wins.columns:
        better = a[measure] < b[measure] if measure in ("volatility", "cost") else a[measure] > b[measure]
        if measure in ("volatility", "cost", "sharpe", "calmar", "effective_bets"):
            assert wins.loc["max_sharpe", measure] == better.mean()
    assert "kept" not in wins


def test_blocks_and_chunks_of_paths_change_no_bit(resampled: WalkForward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding_module, "_BLOCK_BYTES", 1)  # a path at a time
    other = walk(paths=PATHS, costs_bps=20, gap=1, execution="lead", chunk_size=11)
    assert other.path_figures is not None
    assert resampled.path_figures is not None
    assert other.path_figures.tobytes() == resampled.path_figures.tobytes()
    for name in History._fields:
        assert getattr(other.history, name).tobytes() == getattr(resampled.history, name).tobytes(), name


@pytest.mark.parametrize("block_bytes", [1, 2**27])
def test_the_panel_is_hashed_once_and_each_path_drawn_once(
    block_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed, prepared, drawn = [], [], []
    data_hash, prepare, rows = source_module.data_hash, ja.Bootstrap.prepare, ja.Bootstrap.rows

    def hashing(panel: ja.Panel) -> str:
        hashed.append(panel)
        return data_hash(panel)

    def preparing(self: ja.Bootstrap, *arguments: Any) -> ja.Bootstrap:
        prepared.append(self)
        return prepare(self, *arguments)

    def drawing(self: ja.Bootstrap, n_rows: int, seed: int, start: int, stop: int) -> np.ndarray:
        drawn.extend(range(start, stop))
        return rows(self, n_rows, seed, start, stop)

    monkeypatch.setattr(holding_module, "_BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(source_module, "data_hash", hashing)
    monkeypatch.setattr(ja.Bootstrap, "prepare", preparing)
    monkeypatch.setattr(ja.Bootstrap, "rows", drawing)
    found = walk(config=ja.sweep(CONFIG, cluster_cap=[0.3, 0.5]), paths=PATHS, out=tmp_path / "walk")
    assert (len(hashed), len(prepared)) == (1, 1)
    assert drawn == list(range(found.n_paths))
    for folder in ("", "allocations", "paths"):
        manifest = json.loads((tmp_path / "walk" / folder / "manifest.json").read_text())
        assert manifest["identity"]["data"]["sha256"] == data_hash(hashed[0])


ROOMS = (  # in the order of imports
    *("arguments", "settings", "markets", "storage", "kernels", "universes", "portfolios", "engine", "studies"),
    "backtest",
)


def rooms_entered(panel: ja.Panel, compute: Callable[[], object]) -> list[str]:
    """The room of each call of a function of the package that is given the panel, or an array of its returns."""
    values, package, entered = panel.values, Path(ja.__file__).parent, []

    def is_panel(value: object) -> bool:
        array = isinstance(value, np.ndarray) and value.shape == values.shape and value.dtype == values.dtype
        return value is panel or (array and np.array_equal(value, values))

    def look(frame: types.FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and Path(code.co_filename).is_relative_to(package):
            names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
            if any(is_panel(frame.f_locals.get(name)) for name in names):
                entered.append(Path(code.co_filename).relative_to(package).parts[0])

    sys.setprofile(look)
    try:
        compute()
    finally:
        sys.setprofile(None)
    return entered


@pytest.mark.parametrize(
    "compute",
    [
        lambda panel: ja.run_study(panel, PATHS, CONFIG, chunk_size=64),
        lambda panel: walk(panel),
        lambda panel: walk(panel, paths=PATHS),
    ],
    ids=["study", "walk-forward", "paths"],
)
def test_a_panel_seldom_goes_back_to_an_earlier_room(compute: Callable[[ja.Panel], object]) -> None:
    panel = ja.read_returns(MARKET)
    ranks = [ROOMS.index(room) for room in rooms_entered(panel, lambda: compute(panel))]
    assert {"markets", "universes", "engine", "studies"} <= {ROOMS[rank] for rank in ranks}
    assert sum(after < before for before, after in itertools.pairwise(ranks)) <= 8


# ---- sweeps ---------------------------------------------------------------------------------------------------------


def part(table: pd.DataFrame, values: tuple[Any, ...]) -> pd.DataFrame:
    """What a table of all points says of one."""
    return table.xs(values, level=[0, 1])


def test_sweep_is_its_points() -> None:
    grid = ja.sweep(CONFIG, asset_cap=[0.3, 0.5], risk_free_rate=[0.02, 0.0])
    swept = walk(config=grid, paths=ja.Bootstrap(2, "circular", 10), costs_bps=20)
    assert swept.returns.columns.names == ["asset_cap", "risk_free_rate", "profile"]
    for point, values in enumerate(grid.points):
        alone = walk(config=grid.at(point), paths=ja.Bootstrap(2, "circular", 10), costs_bps=20)
        mine = swept.returns.xs(values, axis=1, level=[0, 1])
        pd.testing.assert_frame_equal(mine, alone.returns, check_exact=True)
        pd.testing.assert_frame_equal(swept.summary(at=point), alone.summary(), check_exact=True)
        pd.testing.assert_frame_equal(part(swept.summary(), values), alone.summary(), check_exact=True)
        pd.testing.assert_frame_equal(part(swept.paths(), values), alone.paths(), check_exact=True)
        pd.testing.assert_frame_equal(swept.weights("max_sharpe", point), alone.weights("max_sharpe"))
        pd.testing.assert_frame_equal(swept.target("max_sharpe", point), alone.target("max_sharpe"))
        pd.testing.assert_frame_equal(part(swept.path_quantiles(), values), alone.path_quantiles())
        pd.testing.assert_frame_equal(part(swept.beats(), values), alone.beats())
    assert swept.summary().index.names == ["asset_cap", "risk_free_rate", "profile"]
    assert len(swept.deflated_sharpe()) == 8
    with pytest.raises(InputError, match="points 0 to 3, not 4"):
        swept.summary(at=4)


# ---- measures -------------------------------------------------------------------------------------------------------


def test_measures_are_what_pandas_says() -> None:
    found = walk(costs_bps=30)
    for profile, net in found.returns.items():
        wealth = pd.concat([pd.Series([1.0]), (1 + net).cumprod()])
        excess = net - 0.02 / 252
        rebalances = found.rebalances().loc[profile]
        annual = (1 + net).prod() ** (252 / len(net)) - 1
        drawdown = (1 - wealth / wealth.cummax()).max()
        expected = {
            "annual_return": annual,
            "volatility": net.std() * np.sqrt(252),
            "sharpe": excess.mean() / net.std() * np.sqrt(252),
            "sortino": excess.mean() / np.sqrt((excess.clip(upper=0) ** 2).mean()) * np.sqrt(252),
            "max_drawdown": drawdown,
            "calmar": annual / drawdown,
            "turnover": rebalances["turnover"].sum() * 252 / len(net),
            "traded": rebalances["traded"].sum() * 252 / len(net),
            "cost": rebalances["cost"].sum() * 252 / len(net),
            "effective_bets": rebalances["effective_bets"].mean(),
            **{"kept": 0, "missing": 0, "rebalances": 6, "days": 90},
        }
        row = found.summary().loc[profile]
        np.testing.assert_allclose(row[list(expected)].astype(float), list(expected.values()), rtol=1e-10)
    bets = found.allocations.universes().set_index(["profile", "universe"])["effective_bets"]
    np.testing.assert_array_equal(rebalances["effective_bets"], bets.loc["max_sharpe"].iloc[:6])


def test_measures_without_meaning_are_nan() -> None:
    with np.errstate(all="raise"):
        still = performance(np.full(5, 0.001), 252.0, 0.0)
        once, never = performance(np.array([0.01]), 252.0, 0.0), performance(np.empty(0), 252.0, 0.0)
    assert still["volatility"] == still["max_drawdown"] == 0
    assert np.isnan([still["sharpe"], still["sortino"], still["calmar"], once["volatility"], once["sharpe"]]).all()
    assert np.isnan(list(never.values())).all()


def test_moments_and_probability_of_the_deflated_sharpe_ratio() -> None:
    found = walk()
    table = found.deflated_sharpe()
    sharpe = [(net - 0.02 / 252).mean() / net.std() for _, net in found.returns.items()]
    np.testing.assert_allclose(table["sharpe"], sharpe, rtol=1e-12)
    np.testing.assert_allclose(table["sharpe"] * np.sqrt(252), found.summary()["sharpe"], rtol=1e-12)
    np.testing.assert_allclose(table["skewness"], scipy.stats.skew(found.returns), rtol=1e-10)
    np.testing.assert_allclose(table["kurtosis"], scipy.stats.kurtosis(found.returns, fisher=False), rtol=1e-10)
    euler, normal = -scipy.special.digamma(1), scipy.stats.norm
    for trials, row in ((2, table), (50, found.deflated_sharpe(50))):
        quantiles = normal.ppf(1 - 1 / trials), normal.ppf(1 - np.exp(-1) / trials)
        maximum = np.std(sharpe, ddof=1) * ((1 - euler) * quantiles[0] + euler * quantiles[1])
        np.testing.assert_allclose(row["expected_maximum"], maximum, rtol=1e-10)
        s, skew, kurt = row["sharpe"], row["skewness"], row["kurtosis"]
        score = (s - maximum) * np.sqrt(89) / np.sqrt(1 - skew * s + (kurt - 1) / 4 * s**2)
        np.testing.assert_allclose(row["deflated_sharpe"], normal.cdf(score), rtol=1e-10)
    assert (found.deflated_sharpe(50)["deflated_sharpe"] < table["deflated_sharpe"]).all()


def test_one_trial_is_not_deflated_and_the_papers_example_comes_out() -> None:
    alone = walk(config=CONFIG.replace(profiles=("max_sharpe",))).deflated_sharpe()
    assert (alone["expected_maximum"] == 0).all()
    # Bailey and Lopez de Prado (2014), section "A numerical example": 0.9004 of 100 trials, and of 88 if the returns
    # were normal the same as of 46 as they are, 0.95
    at, variance = 2.5 / np.sqrt(250), 0.5 / 250
    found = [
        float(probabilistic_sharpe(at, expected_maximum_sharpe(variance, trials), 1250, skewness, kurtosis))
        for trials, skewness, kurtosis in ((100, -3.0, 10.0), (46, -3.0, 10.0), (88, 0.0, 3.0))
    ]
    np.testing.assert_allclose(found, [0.9004, 0.9505, 0.9505], atol=5e-5)


# ---- differences ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["stationary", "circular", "iid"])
def test_differences_are_those_of_materialised_resamples(method: Any) -> None:
    found = walk(costs_bps=10)
    block = None if method == "iid" else 9
    table = found.differences("max_sharpe", n=60, method=method, block_length=block, level=0.9, seed=4)
    assert list(table.columns) == ["base", "difference", "low", "high", "share_above"]
    rows = ja.Bootstrap(60, method, block).rows(90, 4, 0, 60)

    def compared(net: pd.Series) -> list[float]:
        mean, deviation = net.mean() * 252, net.std() * np.sqrt(252)
        return [(1 + net).prod() ** (252 / len(net)) - 1, deviation, (mean - 0.02) / deviation]

    drawn = []
    for resample in rows:
        sample = found.returns.iloc[resample]  # the same days for both
        drawn.append(np.subtract(compared(sample["risk_parity"]), compared(sample["max_sharpe"])))
    low, high = np.quantile(drawn, [0.05, 0.95], axis=0)
    mine = table.loc["risk_parity"]
    base = compared(found.returns["max_sharpe"])
    np.testing.assert_allclose(mine["base"], base, rtol=1e-10)
    np.testing.assert_allclose(mine["difference"], np.subtract(compared(found.returns["risk_parity"]), base), rtol=1e-9)
    np.testing.assert_allclose(mine["low"], low, rtol=1e-9)
    np.testing.assert_allclose(mine["high"], high, rtol=1e-9)
    np.testing.assert_array_equal(mine["share_above"], (np.array(drawn) > 0).mean(axis=0))
    assert found.base == "risk_parity"
    assert set(found.differences(n=2).index.get_level_values("profile")) == {"max_sharpe"}


def test_points_of_a_sweep_are_compared_where_there_is_one_profile() -> None:
    one = CONFIG.replace(profiles=("max_sharpe",))
    swept = walk(config=ja.sweep(one, asset_cap=[0.5, 0.2, 0.3]))
    table = swept.differences(n=20)
    assert list(dict.fromkeys(table.index.droplevel("measure"))) == [(0.5, "max_sharpe"), (0.3, "max_sharpe")]
    base = swept.summary().loc[(0.2, "max_sharpe"), "volatility"]  # the settings' own value
    assert (table.xs("volatility", level="measure")["base"] == base).all()
    with pytest.raises(InputError, match="one series of returns"):
        walk(config=one).differences()


# ---- live -----------------------------------------------------------------------------------------------------------


def test_one_rebalance_today(tmp_path: Path) -> None:
    panel = MARKET  # one window: nothing is held
    held_now = {"risk_parity": {SYMBOLS[0]: 1.0}, "max_sharpe": {}}
    found = walk(panel, previous_weights=held_now, window=T)
    assert found.returns.shape == (0, 2)
    assert found.summary()["days"].eq(0).all()
    assert found.summary()["sharpe"].isna().all()
    live = found.target("risk_parity")
    assert live.loc[SYMBOLS[0], "current"] == 1
    assert found.summary().loc["max_sharpe", "live_turnover"] == pytest.approx(1)
    with jax.enable_x64(True):
        batch = ja.allocate_batch(panel.to_numpy(), CONFIG, np.ones((1, T)), np.ones((1, N), bool))
    np.testing.assert_allclose(live["target"], batch.weights[0, 0], atol=1e-12)
    found = walk(panel, previous_weights=held_now, window=T, out=tmp_path / "walk")
    same(ja.load_walk_forward(tmp_path / "walk"), found)
    for table in (found.differences, found.deflated_sharpe):
        with pytest.raises(InputError, match="held on 0 days, 3 are needed"):
            table()


@pytest.mark.parametrize(
    "given",
    [
        {"risk_parity": {SYMBOLS[0]: 0.25}, "max_sharpe": pd.Series({SYMBOLS[1]: 0.5, SYMBOLS[2]: 0.5})},
        pd.DataFrame(
            [[0.25, 0, 0], [0, 0.5, 0.5]], index=["risk_parity", "max_sharpe"], columns=SYMBOLS[:3], dtype=float
        ),
    ],
)
def test_previous_weights_by_profile(given: Any) -> None:
    expected = np.zeros((2, N))
    expected[0, 0], expected[1, 1:3] = 0.25, 0.5
    np.testing.assert_array_equal(previous_weights(given, SYMBOLS, CONFIG.profiles), expected)
    per_symbol = pd.Series({SYMBOLS[3]: 1 + 5e-7})
    found = previous_weights(per_symbol, SYMBOLS, CONFIG.profiles)
    np.testing.assert_array_equal(found, np.eye(N)[[3, 3]])
    assert not previous_weights(None, SYMBOLS, CONFIG.profiles).any()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"NOPE": 0.5}, "'NOPE' is no symbol of the panel"),
        ({SYMBOLS[0]: -0.1}, "must be a number of at least 0, not -0.1"),
        ({SYMBOLS[0]: float("nan")}, "must be a number of at least 0"),
        ({SYMBOLS[0]: "half"}, "must be a number of at least 0"),
        ({SYMBOLS[0]: 0.7, SYMBOLS[1]: 0.7}, "sum to 1.4; give fractions"),
        ({"risk_parity": {}, "barbell": {}}, "names 'barbell'; give weights for each of the profiles"),
        ({"risk_parity": {}}, "lacks max_sharpe"),
        ({"risk_parity": {}, "max_sharpe": 3}, "of max_sharpe must be weights by symbol, each once, not a int"),
        (pd.Series([0.1, 0.2], index=[SYMBOLS[0]] * 2), "twice; give each symbol once"),
        ([0.5, 0.5], "must be weights by symbol, or a frame"),
    ],
)
def test_wrong_previous_weights(given: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        walk(previous_weights=given)
    assert "\n" not in str(raised.value)


# ---- arguments ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": 131}, "window must be at most 130"),
        ({"window": 1}, "window must be a whole number"),
        ({"step": 0}, "step must be a whole number"),
        ({"step": "fortnight"}, "step must be a whole number of rows, or one of week, month, month-end,"),
        ({"step": "week", "panel": MARKET.reset_index(drop=True)}, "step='week' needs dates, and the rows have none"),
        ({"gap": -1}, "gap must be a whole number at least 0"),
        ({"gap": 1.5}, "gap must be a whole number"),
        ({"expanding": "yes"}, "expanding must be True or False"),
        ({"costs_bps": -1}, "costs_bps must be at least 0"),
        ({"costs_bps": 5000}, "costs_bps must be at least 0 and less than 5,000"),
        ({"costs_bps": "cheap"}, "costs_bps must hold numbers"),
        ({"execution": "half"}, "execution must be one of portfolio, lead"),
        ({"paths": 100}, "paths must be a Bootstrap"),
        ({"paths": ja.Bootstrap(None, "circular", 5)}, "paths need n"),
        ({"paths": ja.Bootstrap(5, "circular", 500)}, "block_length must be"),
        ({"seed": -1}, "seed must be"),
        ({"precision": 16}, "precision must be 32 or 64"),
        ({"resume": True}, "resume and fresh need the folder of a walk-forward"),
    ],
)
def test_wrong_arguments_are_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        walk(**changes)
    assert "\n" not in str(raised.value)


def test_more_weights_than_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "_MOST_WEIGHTS", 8 * 2 * 6 * N)
    walk()
    with pytest.raises(InputError, match="the weights of 2 points on 6 rebalances take about"):
        walk(config=ja.sweep(CONFIG, asset_cap=[0.3, 0.5]))


def test_wrong_questions_are_one_line(resampled: WalkForward) -> None:
    for question, message in (
        (lambda: resampled.weights("hope"), "has no profile 'hope'; it has risk_parity, max_sharpe"),
        (lambda: resampled.differences("hope"), "has no profile 'hope'"),
        (lambda: resampled.differences(n=0), "number of resamples"),
        (lambda: resampled.differences(level=1), "level must be between 0 and 1"),
        (lambda: resampled.differences(block_length=91), "block_length must be"),
        (lambda: resampled.deflated_sharpe(1), "n_trials must be a whole number at least 2"),
        (lambda: resampled.path_quantiles((0.5, 2)), "quantiles must be between 0 and 1"),
        (lambda: resampled.target("max_sharpe", 1), "points 0 to 0, not 1"),
    ):
        with pytest.raises(InputError, match=message):
            question()


def test_nothing_is_computed_before_the_arguments_are_checked(tmp_path: Path) -> None:
    wrong: list[dict[str, Any]] = [{"gap": -1}, {"precision": 16}, {"previous_weights": 3}, {"chunk_size": 0}]
    for changes in [*wrong, {"dask": 3}]:
        with pytest.raises(InputError):
            walk(out=tmp_path / "out", **changes)
        assert not (tmp_path / "out").exists(), changes


# ---- kinds of panels ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_single_precision_is_close() -> None:
    single, double = walk(precision=32, costs_bps=10), walk(costs_bps=10)
    np.testing.assert_allclose(single.returns, double.returns, atol=2e-4)
    np.testing.assert_allclose(single.turnover.iloc[0], 1, rtol=1e-15)
    assert single.history.weights.dtype == np.float64


def test_numbered_rows_panels_read_before_and_numpys_numbers(tmp_path: Path) -> None:
    numbered = MARKET.reset_index(drop=True)
    found = walk(ja.read_returns(numbered), window=np.int64(WINDOW), gap=np.int32(0), out=tmp_path / "walk")
    same(ja.load_walk_forward(tmp_path / "walk"), found)
    assert found.returns.index.tolist() == list(range(WINDOW, T))
    np.testing.assert_array_equal(found.returns, walk().returns)


# ---- the folder -----------------------------------------------------------------------------------------------------


def same(one: WalkForward, other: WalkForward) -> None:
    for name in History._fields:
        mine, its = getattr(one.history, name), getattr(other.history, name)
        assert (mine.dtype, mine.shape, mine.tobytes()) == (its.dtype, its.shape, its.tobytes()), name
    assert (one.path_figures is None) == (other.path_figures is None)
    if one.path_figures is not None and other.path_figures is not None:
        assert one.path_figures.tobytes() == other.path_figures.tobytes()
    for name in ("summary", "rebalances"):
        pd.testing.assert_frame_equal(getattr(one, name)(), getattr(other, name)(), check_exact=True)
    pd.testing.assert_frame_equal(one.returns, other.returns, check_exact=True)


def test_interrupted_and_resumed_it_has_the_same_bits(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"paths": PATHS, "costs_bps": 20, "chunk_size": 8, "out": tmp_path / "walk"}
    grid = ja.sweep(CONFIG, asset_cap=[0.3, 0.5])
    whole = walk(config=grid, **(arguments | {"out": None}))
    for after in (10, 50):
        done = [0]

        def stop(count: int, done: list[int] = done, after: int = after) -> None:
            done[0] += count
            if done[0] > after:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            walk(config=grid, progress=stop, resume=True, **arguments)
        with pytest.raises(InputError, match="is not finished; run it again with resume=True"):
            ja.load_walk_forward(tmp_path / "walk")
    with pytest.raises(InputError, match="was made with other settings: costs_bps 20"):
        walk(config=grid, resume=True, **(arguments | {"costs_bps": 10}))
    counted: list[int] = []
    same(walk(config=grid, resume=True, progress=counted.append, **arguments), whole)
    assert sum(counted) == 2 * 7 * (1 + PATHS.n)
    loaded = ja.load_walk_forward(tmp_path / "walk")
    same(loaded, whole)
    assert (loaded.symbols, loaded.schedule, loaded.seed) == (whole.symbols, whole.schedule, whole.seed)
    assert loaded.path_allocations is not None
    assert loaded.path_allocations.n == 7 * PATHS.n
    pd.testing.assert_frame_equal(loaded.weights("max_sharpe"), whole.weights("max_sharpe"), check_exact=True)
    pd.testing.assert_frame_equal(loaded.paths(), whole.paths(), check_exact=True)


def test_a_calendar_and_a_live_window_come_back_from_a_folder(tmp_path: Path) -> None:
    for step in ("month-end", 20):
        found = walk(step=step, out=tmp_path / str(step))
        loaded = ja.load_walk_forward(tmp_path / str(step))
        same(loaded, found)
        assert loaded.schedule == found.schedule
        assert loaded.schedule.decisions.tolist() == found.schedule.decisions.tolist()
        same(walk(step=step, out=tmp_path / str(step), resume=True), found)
    with pytest.raises(InputError, match="was made with other settings"):
        walk(step="week", out=tmp_path / "month-end", resume=True)


def test_a_schedule_from_before_live_windows_is_what_it_was() -> None:
    entry = {"n_rows": 130, "window": 40, "step": 20, "expanding": False, "gap": 0}
    schedule = Schedule.of_record(entry)
    assert schedule.decisions.tolist() == [39, 59, 79, 99, 119]
    assert schedule.held(4) == (120, 130)
    assert Schedule.of_record(json.loads(json.dumps(schedule.record()))) == schedule


def test_files_say_what_the_frames_say(tmp_path: Path) -> None:
    found = walk(LATE, out=tmp_path, execution="lead", costs_bps=5, paths=PATHS, command="a command")
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {
        *("manifest.json", "manifest-copy.json", "lock", "summary.csv", "rebalances.csv", "returns.csv"),
        *("target.csv", "paths.csv"),
        *("weights.parquet", "dates.parquet", "history.parquet", "walk_forward.json"),
    }
    summary = pd.read_csv(tmp_path / "summary.csv", index_col="profile")
    pd.testing.assert_frame_equal(summary, found.summary(), check_exact=True)
    returns = pd.read_csv(tmp_path / "returns.csv", index_col="date", parse_dates=True)
    np.testing.assert_array_equal(returns, found.returns)
    target = pd.read_csv(tmp_path / "target.csv", index_col=["profile", "symbol"])
    np.testing.assert_array_equal(target.loc["max_sharpe"], found.target("max_sharpe"))
    weights = pd.read_parquet(tmp_path / "weights.parquet")
    np.testing.assert_array_equal(weights.loc["max_sharpe"], found.weights("max_sharpe"))
    record = json.loads((tmp_path / "walk_forward.json").read_text())
    assert (record["execution"], record["command"], record["symbols"]) == ("lead", "a command", SYMBOLS)
    same(ja.load_walk_forward(tmp_path), found)


def test_a_folder_is_not_taken_for_another(tmp_path: Path) -> None:
    found = walk(out=tmp_path / "walk", paths=PATHS)
    with pytest.raises(InputError, match="holds a finished study: go on with it with resume=True"):
        walk(out=tmp_path / "walk")
    with pytest.raises(InputError, match="holds a walk-forward; load it with load_walk_forward"):
        ja.load_study(tmp_path / "walk")
    with pytest.raises(InputError, match="holds no walk-forward; load a study with load_study"):
        ja.load_walk_forward(tmp_path / "walk" / "allocations")
    with pytest.raises(InputError, match="no study is stored there"):
        ja.load_walk_forward(tmp_path / "nothing")
    same(ja.load_walk_forward(tmp_path / "walk"), found)
    alone = walk(out=tmp_path / "walk", fresh=True)
    assert not (tmp_path / "walk" / "paths").exists()
    assert not (tmp_path / "walk" / "paths.csv").exists()
    same(ja.load_walk_forward(tmp_path / "walk"), alone)
    (tmp_path / "walk" / "history.parquet").write_bytes(b"")
    with pytest.raises(InputError, match=r"history\.parquet .* is damaged"):
        ja.load_walk_forward(tmp_path / "walk")


# ---- real data ------------------------------------------------------------------------------------------------------


def test_on_real_stocks_it_is_the_day_by_day_simulation(data_folder: Path) -> None:
    frame = pd.read_parquet(data_folder / "us_equities_returns_2007_2016.parquet").iloc[:T, :N]
    found = walk(frame, costs_bps=10)
    windows = decided(frame)
    rows = [WINDOW + j * STEP for j in range(len(windows))]
    nothing = pd.Series(0.0, index=frame.columns)
    for profile in CONFIG.profiles:
        targets = {row: window[profile] for row, window in zip(rows, windows, strict=True) if row < T}
        expected = simulate(frame, targets, 0.001, nothing)
        np.testing.assert_allclose(found.returns[profile], list(expected.net.values()), rtol=1e-9, atol=1e-15)
