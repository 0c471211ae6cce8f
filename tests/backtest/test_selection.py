"""Overfitting, track records, the leaderboard and two measures of walk-forwards: by the oracles, by hand, in words."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Any

import numpy as np
import pandas as pd
import pytest
import selection_oracles as oracle

import jaxalloc as ja
from jaxalloc.arguments.errors import InputError
from jaxalloc.backtest import folder as folder_module
from jaxalloc.backtest.comparison import Trials
from jaxalloc.backtest.performance import conditional_value_at_risk, min_track_record, probabilistic_sharpe
from jaxalloc.backtest.selection import BOARD, RANKED, Overfitting, can_validate, leaderboard, overfitting
from jaxalloc.backtest.walk import WalkForward
from jaxalloc.settings.measures import FIGURES, WALK_MEASURE

N, T, A, RATE = 6, 130, 252.0, 0.02
MARKET = ja.datasets.synthetic_market(n_assets=N, n_observations=T, seed=3)
CONFIG = ja.AllocationConfig(profiles=("risk_parity", "max_sharpe", "equal_weight"), risk_free_rate=RATE)
GRID = ja.sweep(CONFIG, asset_cap=[0.3, 0.5])
ROLL: dict[str, Any] = {"window": 40, "step": 15, "costs_bps": 10}


@pytest.fixture(scope="module")
def walk() -> WalkForward:
    return ja.walk_forward(MARKET, CONFIG, **ROLL)


@pytest.fixture(scope="module")
def swept() -> WalkForward:
    return ja.walk_forward(MARKET, GRID, **ROLL)


def trials_of(returns: np.ndarray, names: Any = None) -> Trials:
    """Trials of series alone, whose figures are their Sharpe ratios."""
    count = len(returns)
    figures = np.full((count, len(FIGURES)), np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        figures[:, FIGURES.index("sharpe")] = np.sqrt(A) * returns.mean(axis=1) / returns.std(axis=1, ddof=1)
    return Trials(
        returns=returns,
        figures=figures,
        periods_per_year=np.full(count, A),
        risk_free_rate=np.zeros(count),
        index=pd.Index(names or [f"t{j}" for j in range(count)], name="profile"),
    )


# ---- overfitting ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_blocks", [2, 6, 8])
def test_overfitting_of_a_walk_is_the_oracles(walk: WalkForward, swept: WalkForward, n_blocks: int) -> None:
    for each in (walk, swept):
        returns = each.returns.to_numpy().T
        found = each.overfitting(n_blocks)
        wanted = oracle.overfitting(returns, n_blocks, [RATE / A] * len(returns))
        np.testing.assert_allclose(found.logits, wanted.logits, rtol=1e-12, atol=1e-12)
        assert (found.pbo, found.loss) == (wanted.pbo, wanted.loss)
        assert found.slope == pytest.approx(wanted.slope, rel=1e-9)
        assert found.best.tolist() == np.bincount(wanted.best, minlength=len(returns)).tolist()
        assert found.best.index.equals(each.deflated_sharpe().index)
        assert (found.n_trials, found.n_left_out) == (len(returns), 0)
        assert (found.n_blocks, found.block_rows, found.n_halves) == (n_blocks, 90 // n_blocks, len(wanted.best))
        assert found.winner == each.summary()["sharpe"].idxmax()


def test_skill_is_not_overfitting_and_turns_are() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.01, (6, 320))
    skilled = overfitting(trials_of(np.concatenate([noise, noise[:1] + 0.01])))
    assert (skilled.pbo, skilled.loss) == (0, 0)
    assert skilled.best.tolist() == [0] * 6 + [12_870]
    assert skilled.recommended
    assert "in 0 % of 12,870 splits, at most half of them: this does not speak against t6" in skilled.verdict
    turns = np.repeat(np.where(np.arange(16) < 8, 1, -1), 20) * 0.005
    taken = overfitting(trials_of(noise[:2] + np.stack([turns, -turns])))
    assert taken.pbo > 0.75
    assert not taken.recommended
    assert taken.slope < 0
    assert "more than half of them: t" in taken.verdict
    assert taken.verdict.endswith("the best on all days, is not recommended.")


def test_the_rule_is_more_than_one_half(walk: WalkForward) -> None:
    found = walk.overfitting()
    assert dataclasses.replace(found, pbo=0.5).recommended
    assert not dataclasses.replace(found, pbo=np.nextafter(0.5, 1)).recommended
    assert dataclasses.replace(found, pbo=0.62, winner="hrp").verdict == (
        "Choosing the best of 3 trials by its past Sharpe ratio was no better than the median of them out of sample in "
        "62 % of 12,870 splits, more than half of them: HRP, the best on all days, is not recommended."
    )


def test_a_middle_rank_counts_as_no_better_than_the_median() -> None:
    up, down, flat = [0.03, 0.01], [-0.03, -0.01], [0.001, -0.001]
    found = overfitting(trials_of(np.array([up + flat, flat + down, down + up])), 2)
    # chosen: the first, which is in the middle of the other half, and the last, which is the worst there
    assert found.logits.tolist() == pytest.approx([0, math.log(1 / 3)])
    assert found.pbo == 1


def test_what_does_not_vary_is_left_out() -> None:
    rng = np.random.default_rng(1)
    series = rng.normal(0, 0.01, (3, 64))
    cash, steady = np.zeros((1, 64)), np.full((1, 64), 0.001)
    found = overfitting(trials_of(np.concatenate([cash, series[:2], steady, series[2:]])))
    alone = overfitting(trials_of(series))
    assert (found.n_trials, found.n_left_out) == (3, 2)
    np.testing.assert_array_equal(found.logits, alone.logits)
    assert found.best.tolist() == [0, *alone.best[:2], 0, alone.best.iloc[2]]
    assert "2 trials left out, without a Sharpe ratio" in repr(found)


def test_one_ratio_in_sample_has_no_slope() -> None:
    series = np.tile([0.01, -0.005, 0.002, 0.003], 8)
    found = overfitting(trials_of(np.stack([series, -series])), 8)
    assert math.isnan(found.slope)
    assert (found.pbo, found.loss) == (0, 0)


def test_overfitting_in_text_and_in_a_notebook(swept: WalkForward) -> None:
    found = swept.overfitting()
    lines = repr(found).splitlines()
    assert len(lines) == 5
    assert lines[0] == f"Overfitting: PBO {found.pbo:.3f} over 6 trials"
    assert lines[1] == "12,870 halves of 16 blocks of 5 rows"
    assert " at asset cap 0." in lines[4]
    hostile = dataclasses.replace(found, winner=(0.3, "<b>x</b>"))
    html = hostile._repr_html_()
    assert html.startswith("<table")
    assert "<b>" not in html
    assert "&lt;b&gt;x&lt;/b&gt; at asset cap 0.3" in html
    figures = found.figures()
    assert figures["recommended"] == found.recommended
    assert figures["in_sample"] == found.in_sample.mean()
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.pbo = 0.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("returns", "n_blocks", "message"),
    [
        ((1, 90), 16, "one trial alone leaves nothing to choose: add another profile, or a sweep"),
        ((3, 90), 15, "n_blocks must be even, so that the blocks have halves, not 15"),
        ((3, 90), 0, "n_blocks must be a whole number from 2 to 20, not 0"),
        ((3, 90), 22, "n_blocks must be a whole number from 2 to 20, not 22"),
        ((3, 90), 4.0, "n_blocks must be a whole number from 2 to 20, not 4.0"),
        ((3, 31), 16, "portfolios are held on 31 days, 32 are needed for 16 blocks; give a longer panel, or a smaller"),
        ((3, 0), 2, "portfolios are held on 0 days, 4 are needed for 2 blocks"),
    ],
)
def test_what_cannot_be_judged_is_one_line(returns: tuple[int, int], n_blocks: Any, message: str) -> None:
    trials = trials_of(np.random.default_rng(0).normal(0, 0.01, (returns[0], max(returns[1], 2))))
    trials = trials._replace(returns=trials.returns[:, : returns[1]])
    with pytest.raises(InputError, match=message) as error:
        overfitting(trials, n_blocks)
    assert "\n" not in str(error.value)


def test_fewer_than_two_that_vary_are_refused() -> None:
    trials = trials_of(np.stack([np.zeros(40), np.random.default_rng(0).normal(0, 0.01, 40)]))
    with pytest.raises(InputError, match="the returns of fewer than two trials vary"):
        overfitting(trials)
    assert not can_validate(trials)
    assert can_validate(trials_of(np.random.default_rng(0).normal(0, 0.01, (2, 32))))


def test_it_is_fast_enough_for_hundreds_of_trials() -> None:
    trials = trials_of(np.random.default_rng(0).normal(0, 0.01, (300, 1000)))
    start = time.process_time()
    assert isinstance(overfitting(trials), Overfitting)
    assert time.process_time() - start < 5  # a tenth of a second on one core of today


# ---- track records --------------------------------------------------------------------------------------------------


def test_track_records_of_a_walk_are_the_oracles(walk: WalkForward, swept: WalkForward) -> None:
    for each in (walk, swept):
        for benchmark in (0.0, 0.7, -0.5):
            probable, least = each.probabilistic_sharpe(benchmark), each.min_track_record(0.9, benchmark)
            per_row = benchmark / math.sqrt(A)
            for name, net in each.returns.items():
                row, record = probable.loc[name], least.loc[name]
                wanted = oracle.probabilistic_sharpe(net.to_numpy(), RATE / A, per_row)
                assert row["probabilistic_sharpe"] == pytest.approx(wanted, rel=1e-10)
                wanted = oracle.min_track_record(net.to_numpy(), RATE / A, per_row, 0.9)
                assert record["min_days"] == pytest.approx(wanted, rel=1e-10)
                assert record["min_years"] == pytest.approx(wanted / A, rel=1e-10)
            assert probable["benchmark"].eq(benchmark).all()
            moments = ["sharpe", "skewness", "kurtosis", "days"]
            for table in (probable, least):
                pd.testing.assert_frame_equal(table[moments], each.deflated_sharpe()[moments])


def test_figures_of_the_paper_come_out() -> None:
    """Bailey and Lopez de Prado (2012): the hedge fund of section 4, and the lengths of section 5."""
    for skewness, kurtosis, wanted in ((0.0, 3.0, 0.982), (-2.448, 10.164, 0.913)):
        found = float(probabilistic_sharpe(0.458, 0.0, 24, skewness, kurtosis))
        assert found == pytest.approx(wanted, abs=5e-4)
    # years for an annual ratio of 2 to be above 1 with 95 %: daily, weekly and monthly normal returns, and a typical
    # fund's monthly ones
    for periods, skewness, kurtosis, wanted in (
        (252, 0.0, 3.0, 2.73),
        (52, 0.0, 3.0, 2.83),
        (12, 0.0, 3.0, 3.24),
        (12, -0.72, 5.78, 4.99),
    ):
        least = min_track_record(2 / math.sqrt(periods), 1 / math.sqrt(periods), skewness, kurtosis, 0.95)
        assert float(least) / periods == pytest.approx(wanted, abs=5e-3)


def test_no_record_is_long_enough_for_a_ratio_below_the_benchmark() -> None:
    assert min_track_record(0.1, 0.1, 0.0, 3.0, 0.95) == min_track_record(0.1, 0.2, 0.0, 3.0, 0.95) == math.inf
    assert np.isnan(min_track_record(np.nan, 0.0, np.nan, np.nan, 0.95))


def test_of_flat_lines_there_is_no_record(walk: WalkForward) -> None:
    still = dataclasses.replace(walk, history=walk.history._replace(net=np.zeros_like(walk.history.net)))
    assert still.probabilistic_sharpe()["probabilistic_sharpe"].isna().all()
    assert still.min_track_record()[["min_days", "min_years"]].isna().all(axis=None)
    assert not still.can_validate


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda w: w.probabilistic_sharpe("much"), "benchmark"),
        (lambda w: w.probabilistic_sharpe(math.nan), "benchmark"),
        (lambda w: w.min_track_record(95), "alpha, a confidence such as 0.95, must be between 0.5 and 1, not 95"),
        (lambda w: w.min_track_record(0.5), "alpha, a confidence"),
        (lambda w: w.min_track_record(1), "alpha, a confidence"),
        (lambda w: w.leaderboard(2), "n_trials"),
        (lambda w: w.overfitting(46), "n_blocks"),
    ],
)
def test_wrong_questions_are_one_line(walk: WalkForward, ask: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        ask(walk)
    assert "\n" not in str(error.value)


def test_without_days_there_is_nothing_to_judge() -> None:
    one = ja.walk_forward(MARKET, CONFIG, window=T)
    for ask in (one.probabilistic_sharpe, one.min_track_record, one.leaderboard):
        with pytest.raises(InputError, match="held on 0 days, 3 are needed"):
            ask()
    assert not one.can_validate


# ---- the leaderboard ------------------------------------------------------------------------------------------------


def test_the_leaderboard_ranks_the_summary(swept: WalkForward) -> None:
    board, summary = swept.leaderboard(), swept.summary()
    assert len(board) == 6
    assert board.index.names == ["asset_cap", "profile"]
    for name in BOARD:
        np.testing.assert_array_equal(board[name], summary[name].reindex(board.index))
    for name in RANKED:
        for key, rank in board[f"rank_{name}"].items():
            own = board.loc[key, name] * WALK_MEASURE[name].better
            others = board[name] * WALK_MEASURE[name].better
            assert rank == (others > own).sum() + ((others == own).sum() + 1) / 2
    ranks = board[[f"rank_{name}" for name in RANKED]]
    np.testing.assert_allclose(board["mean_rank"], ranks.mean(axis=1))
    order = list(zip(board["mean_rank"], -board["sharpe"], strict=True))
    assert order == sorted(order)
    deflated = swept.deflated_sharpe().reindex(board.index)
    np.testing.assert_array_equal(board["deflated_sharpe"], deflated["deflated_sharpe"])
    np.testing.assert_allclose(board["expected_maximum"], deflated["expected_maximum"] * math.sqrt(A))
    probable = swept.probabilistic_sharpe().reindex(board.index)["probabilistic_sharpe"]
    np.testing.assert_array_equal(board["probabilistic_sharpe"], probable)
    assert (swept.leaderboard(50)["deflated_sharpe"] < board["deflated_sharpe"]).all()


def test_what_has_no_figure_is_last() -> None:
    trials = trials_of(np.random.default_rng(0).normal(0, 0.01, (3, 40)))
    figures = trials.figures.copy()
    for name in RANKED:
        figures[:, FIGURES.index(name)] = [np.nan, 0.1, 0.2]
    board = leaderboard(trials._replace(figures=figures))
    assert board.index[-1] == "t0"
    assert board.loc["t0", [f"rank_{name}" for name in RANKED]].eq(3).all()


# ---- two measures ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_days", [1, 7, 19, 20, 21, 39, 40, 90, 250])
def test_conditional_value_at_risk_is_the_least_of_its_definition(n_days: int) -> None:
    rng = np.random.default_rng(n_days)
    returns = rng.standard_t(3, (4, n_days)) / 100
    returns[1] = np.round(returns[1], 2)  # equal losses
    returns[2] = abs(returns[2])  # no losses: the mean of the least gains, below 0
    wanted = [oracle.conditional_value_at_risk(series) for series in returns]
    np.testing.assert_allclose(conditional_value_at_risk(returns), wanted, rtol=1e-9)
    assert conditional_value_at_risk(returns)[2] < 0


def test_both_measures_of_a_walk(walk: WalkForward) -> None:
    summary = walk.summary()
    for profile, net in walk.returns.items():
        assert summary.loc[profile, "cvar"] == pytest.approx(oracle.conditional_value_at_risk(net.to_numpy()))
        bought = walk.weights(str(profile))
        assert summary.loc[profile, "concentration"] == pytest.approx((bought**2).sum(axis=1).mean())
    assert summary.loc["equal_weight", "concentration"] == pytest.approx(1 / N)
    assert summary.loc["equal_weight", "cvar"] > 0


def test_both_measures_of_a_path_and_of_leads() -> None:
    paths = ja.Bootstrap(2, "circular", 10)
    found = ja.walk_forward(MARKET, CONFIG, paths=paths, execution="lead", **ROLL)
    assert {"cvar", "concentration"} <= set(found.shown)
    rows = paths.rows(T, 0, 0, 2)
    frame = MARKET.iloc[rows[1]].set_axis(MARKET.index, axis=0)
    alone = ja.walk_forward(frame, CONFIG, execution="lead", **ROLL)
    for name in ("cvar", "concentration"):
        np.testing.assert_allclose(found.paths().loc[1, name], alone.summary()[name], rtol=1e-6)
    leads = (found.weights("risk_parity") ** 2).sum(axis=1).mean()
    assert found.summary().loc["risk_parity", "concentration"] == pytest.approx(leads)
    assert set(found.beats().columns) >= {"cvar", "concentration"}


def test_a_folder_with_other_measures_is_refused_and_resumed(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    put = folder_module.put_record

    def before(store: Any, name: str, record: dict[str, Any]) -> None:
        put(store, name, {key: value for key, value in record.items() if key != "figures"})

    with monkeypatch.context() as old:
        old.setattr(folder_module, "put_record", before)
        written = ja.walk_forward(MARKET, CONFIG, out=tmp_path / "walk", **ROLL)
    with pytest.raises(InputError, match="by a version of jaxalloc with other measures; run the walk-forward again"):
        ja.load_walk_forward(tmp_path / "walk")
    ja.walk_forward(MARKET, CONFIG, out=tmp_path / "walk", resume=True, **ROLL)
    loaded = ja.load_walk_forward(tmp_path / "walk")
    pd.testing.assert_frame_equal(loaded.summary(), written.summary(), check_exact=True)
    assert "figures" not in loaded.record
