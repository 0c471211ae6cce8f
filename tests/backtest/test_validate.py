"""Cross-validation: portfolios equal to single allocations of the training rows, held as a loop over the days holds."""

from __future__ import annotations

import copy
import dataclasses
import functools
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
import selection_oracles as selection_oracle
import split_oracles as oracle

import jaxalloc as ja
from jaxalloc.backtest.performance import performance
from jaxalloc.backtest.trading import Rule, trade
from jaxalloc.backtest.validate import _hold_paths
from jaxalloc.settings.measures import FIGURES

N, T = 12, 131  # of six groups the first five are a row longer
MARKET = ja.datasets.synthetic_market(n_assets=N, n_observations=T)
CONFIG = ja.AllocationConfig(profiles=("risk_parity", "max_sharpe", "hrp", "equal_weight"))
GROUPS, TESTED, PURGE, EMBARGO = 6, 2, 1, 3
GAPPY = MARKET.copy()
GAPPY.iloc[:70, 3] = np.nan  # listed late
GAPPY.iloc[[40, 90], 5] = np.nan
GRID = ja.sweep(CONFIG.replace(profiles=("risk_parity", "max_sharpe")), cluster_cap=[0.3, 0.6])


@functools.cache
def validated(settings: Any = CONFIG, gaps: bool = False, **options: Any) -> ja.CrossValidation:
    given: dict[str, Any] = {"groups": GROUPS, "test_groups": TESTED, "purge": PURGE, "embargo": EMBARGO}
    return ja.cross_validate(GAPPY if gaps else MARKET, settings, **(given | options))


def single(returns: np.ndarray, config: ja.AllocationConfig = CONFIG) -> np.ndarray:
    with jax.enable_x64(True):
        return np.asarray(ja.allocate(returns, config.replace(periods_per_year=252)).weights)


SPLITS = oracle.splits(T, GROUPS, TESTED, PURGE, EMBARGO)
CUT, PATHS = oracle.groups_of(T, GROUPS), oracle.paths(GROUPS, TESTED)


def test_each_split_holds_the_portfolio_of_its_training_rows_alone() -> None:
    found = validated()
    assert found.study.n == 15
    for s, (training, _) in enumerate(SPLITS):
        weights = single(MARKET.to_numpy()[training])
        for p, profile in enumerate(CONFIG.profiles):
            np.testing.assert_allclose(found.study.weights(profile).loc[s], weights[p], atol=1e-12)


def test_no_split_sees_its_test_rows() -> None:
    """Returns that change in a test group and around it change no portfolio of the split, and those of the others."""
    changed = MARKET.copy()
    rows = [row for row in range(T) if row not in SPLITS[4][0]]
    assert set(SPLITS[4][1]) < set(rows)
    changed.iloc[rows] = np.random.default_rng(1).normal(0, 0.05, (len(rows), N))
    other = ja.cross_validate(changed, CONFIG, groups=GROUPS, test_groups=TESTED, purge=PURGE, embargo=EMBARGO)
    before, after = (each.study.weights("risk_parity") for each in (validated(), other))
    np.testing.assert_allclose(before.loc[4], after.loc[4], atol=1e-12)  # centred by the panel's medians
    assert (np.abs(before - after).max(axis=1).drop(4) > 1e-4).all()


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("cost", [0.0, 25.0])
def test_returns_are_those_of_a_loop_over_the_days(gaps: bool, cost: float) -> None:
    found = validated(gaps=gaps, costs_bps=cost)
    assert found.n_paths == len(PATHS) == 5
    returns = found.returns
    values = (GAPPY if gaps else MARKET).to_numpy()
    for profile in CONFIG.profiles:
        weights = found.study.weights(profile).to_numpy()
        for q, path in enumerate(PATHS):
            expected = oracle.hold(values, weights, CUT, path, cost * 1e-4)
            np.testing.assert_allclose(returns[q, profile], expected, atol=1e-12)


def test_figures_are_those_of_the_returns_and_trades() -> None:
    found = validated(costs_bps=25.0)
    table, returns = found.paths(), found.returns
    for q, path in enumerate(PATHS):
        for profile in CONFIG.profiles:
            measured = performance(returns[q, profile].to_numpy(), 252, 0.0)
            row = table.loc[(q, profile)]
            for name, value in measured.items():
                assert row[name] == pytest.approx(float(value), abs=1e-13), name
            held, traded, turnover = np.zeros(N), 0.0, 0.0
            weights = found.study.weights(profile).to_numpy()
            for rows, split in zip(CUT, path, strict=True):
                change = np.abs(weights[split] - held).sum()
                traded, turnover = traded + change, turnover + (change + 1 - held.sum()) / 2
                held = weights[split] * (1 + MARKET.to_numpy()[rows]).prod(axis=0)
                held = held / held.sum()
            assert row["traded"] == pytest.approx(traded * 252 / T)
            assert row["turnover"] == pytest.approx(turnover * 252 / T)
            assert row["cost"] == pytest.approx(traded * 252 / T * 25e-4)
            assert row["concentration"] == pytest.approx((weights[path] ** 2).sum(axis=1).mean())
            bets = found.study.columns(f"{profile}.effective_bets")[f"{profile}.effective_bets"]
            assert row["effective_bets"] == pytest.approx(bets[path].mean())
    assert (table[["kept", "missing"]] == 0).all(axis=None)
    sharpe = table["sharpe"].unstack("profile")
    assert np.ptp(sharpe["equal_weight"]) < 1e-12  # it decides the same on all rows
    assert np.ptp(sharpe["max_sharpe"]) > 1e-3


@pytest.mark.parametrize("rule", [Rule(0.02), Rule(0.0, 0.1)])
def test_bands_and_largest_turnovers_are_those_of_every_rebalance(rule: Rule) -> None:
    found = validated(band=rule.band, max_turnover=rule.max_turnover)
    values = MARKET.to_numpy()
    for p, profile in enumerate(CONFIG.profiles):
        weights = found.study.weights(profile).to_numpy()
        for q, path in enumerate(PATHS):
            held, expected = np.zeros(N), []
            for rows, split in zip(CUT, path, strict=True):
                held = trade(held, weights[split], rule).weights
                for row in rows:
                    expected.append(held @ values[row])
                    held = held * (1 + values[row]) / (1 + expected[-1])
            np.testing.assert_allclose(found.net[0, q, p], expected, atol=1e-12)
    assert not np.allclose(found.net, validated().net, atol=1e-6)


def test_points_of_a_sweep_bands_and_costs_are_held_alone_too() -> None:
    found = validated(GRID, band=(0.0, 0.02), costs_bps=(0.0, 10.0))
    assert found.settings.names == ("cluster_cap", "band", "costs_bps")
    assert found.net.shape == (8, 5, 2, T)
    assert found.returns.columns.names == ["cluster_cap", "band", "costs_bps", "path", "profile"]
    for g, (cap, band, cost) in enumerate(found.settings.points):
        alone = validated(GRID.config.replace(cluster_cap=cap), band=band, costs_bps=cost)
        np.testing.assert_array_equal(found.net[g], alone.net[0])
        np.testing.assert_array_equal(found.path_figures[:, g], alone.path_figures[:, 0])
        assert found.summary(at=g).equals(alone.summary())
        assert found.summary().loc[(cap, band, cost)].equals(alone.summary())
        assert found.returns[cap, band, cost].equals(alone.returns)
        assert found.beats(at=g).equals(alone.beats())
    training, _ = SPLITS[3]
    weights = single(MARKET.to_numpy()[training], GRID.at(1))
    np.testing.assert_allclose(found.study.weights("max_sharpe", at=1).loc[3], weights[1], atol=1e-12)


def test_gaps_are_counted_and_late_listings_enter_where_training_rows_are_late() -> None:
    found = validated(gaps=True)
    late = found.study.weights("risk_parity").iloc[:, 3].to_numpy()
    seen = [min(training) >= 70 for training, _ in SPLITS]
    assert not any(seen)
    assert (late == 0).all()
    weights = found.study.weights("equal_weight").to_numpy()
    np.testing.assert_allclose(weights, np.where(np.arange(N) == 3, 0, 1 / (N - 1)) + 0 * weights, atol=1e-15)
    assert (found.paths().xs("equal_weight", level="profile")["missing"] == 2).all()
    three = ja.cross_validate(GAPPY, CONFIG, groups=3, test_groups=2, embargo=0)
    assert (three.study.weights("equal_weight").iloc[:, 3] > 0).tolist() == [True, False, False]


def test_a_split_without_a_portfolio_keeps_what_is_held() -> None:
    # all assets end with row 87, where the last two groups begin: the split that tests these alone lies in their lives
    frame = MARKET.copy()
    frame.iloc[88:, :] = np.nan
    found = ja.cross_validate(frame, CONFIG, groups=6, test_groups=2, embargo=0)
    valid = ~np.isnan(found.study.weights("hrp").iloc[:, 0].to_numpy())
    assert valid.tolist() == [False] * 14 + [True]
    last = found.path_splits.iloc[-1].to_numpy()
    kept = [int((~valid[path]).sum()) for path in found.path_splits.to_numpy()]
    assert kept[-1] == 4
    assert (last == 14).sum() == 2
    assert (found.paths()["kept"].unstack("profile") == np.array(kept)[:, None]).all(axis=None)
    weights = found.study.weights("hrp").to_numpy()
    for q, path in enumerate(PATHS):
        expected = oracle.hold(frame.to_numpy(), weights, CUT, path, 0.0)
        np.testing.assert_allclose(found.returns[q, "hrp"], expected, atol=1e-12)


def test_blocks_of_paths_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    found = validated(costs_bps=25.0)
    monkeypatch.setattr("jaxalloc.backtest.validate._BLOCK_BYTES", 1)
    net, figures = _hold_paths(found.study, found.settings, found.splits, MARKET.to_numpy())
    np.testing.assert_array_equal(net, found.net)
    np.testing.assert_array_equal(figures, found.path_figures)


def test_one_test_group_is_one_path() -> None:
    found = ja.cross_validate(MARKET, CONFIG, groups=4, test_groups=1)
    assert found.n_paths == 1
    assert found.splits.embargo == 2
    assert found.summary()["std"].isna().all()


def test_float32_is_near() -> None:
    found = validated(precision=32)
    np.testing.assert_allclose(found.net, validated().net, atol=2e-4)
    assert found.net.dtype == np.float64


# Tables


def test_summaries_are_those_of_the_paths() -> None:
    found = validated()
    table = found.paths()
    for measure in ("sharpe", "max_drawdown", "turnover"):
        values = table[measure].unstack("profile")[list(CONFIG.profiles)]
        summary = found.summary(measure)
        assert list(summary.index) == list(CONFIG.profiles)
        assert list(summary.columns) == ["mean", "std", "q05", "q50", "q95", "n_paths"]
        np.testing.assert_allclose(summary["mean"], values.mean(), rtol=1e-12)
        np.testing.assert_allclose(summary["std"], values.std(), atol=1e-12)
        for name, level in (("q05", 0.05), ("q50", 0.5), ("q95", 0.95)):
            np.testing.assert_allclose(summary[name], values.quantile(level), rtol=1e-12)
        assert (summary["n_paths"] == 5).all()
    assert list(found.summary(quantiles=[0.1]).columns) == ["mean", "std", "q10", "n_paths"]
    assert found.path_quantiles().xs("sharpe", level="measure")["q25"].shape == (4,)
    assert set(found.paths().columns) <= set(FIGURES)


def test_beats_counts_paths() -> None:
    found = validated()
    sharpe = found.paths()["sharpe"].unstack("profile")
    risk = found.paths()["volatility"].unstack("profile")
    beats = found.beats("risk_parity")
    assert list(beats.index) == ["max_sharpe", "hrp", "equal_weight"]
    for profile in beats.index:
        assert beats.loc[profile, "sharpe"] == (sharpe[profile] > sharpe["risk_parity"]).mean()
        assert beats.loc[profile, "volatility"] == (risk[profile] < risk["risk_parity"]).mean()
    assert found.base == "equal_weight"


def test_it_says_which_split_holds_which_group() -> None:
    table = validated().path_splits
    assert table.to_numpy().tolist() == PATHS
    assert list(table.columns) == [MARKET.index[rows[0]] for rows in CUT]
    assert list(validated().returns.index) == list(MARKET.index)


def test_text_and_notebooks() -> None:
    lines = repr(validated()).split("\n")
    assert lines[0] == "CrossValidation: 5 paths of 15 splits, 2 of 6 groups held out"
    assert lines[1] == "profiles: risk_parity, max_sharpe, hrp, equal_weight"
    assert len(lines) <= 5
    assert "at 2 points of cluster_cap" in repr(validated(GRID))
    page = validated()._repr_html_()
    assert "Sharpe, q05" in page
    assert page.count("<tr") == 2 + len(CONFIG.profiles)
    assert f"{validated().summary().loc['hrp', 'mean']:.2f}" in page


@pytest.mark.parametrize("carry", [lambda x: pickle.loads(pickle.dumps(x)), copy.deepcopy])
def test_it_travels(carry: Callable[[Any], Any]) -> None:
    found = carry(validated(GRID))
    assert found.returns.equals(validated(GRID).returns)
    assert found.paths().equals(validated(GRID).paths())
    assert found.study.weights("max_sharpe").equals(validated(GRID).study.weights("max_sharpe"))
    assert found.splits == validated(GRID).splits


def test_losses_are_shares_of_the_paths() -> None:
    found = validated(costs_bps=25.0)
    table = found.paths()
    for name in ("annual_return", "sharpe"):
        shares = (table[name].unstack("profile") < 0).mean()
        assert found.losses()[name].to_dict() == shares.to_dict()
    middle = float(table["sharpe"].median())
    shifted = found.path_figures - np.where(np.arange(len(FIGURES)) == FIGURES.index("sharpe"), middle, 0)
    lost = dataclasses.replace(found, path_figures=shifted).losses()["sharpe"]
    assert lost.to_dict() == (table["sharpe"].unstack("profile") < middle).mean().to_dict()
    assert 0 < lost.mean() < 1
    assert list(validated(GRID).losses().index.names) == ["cluster_cap", "profile"]


def test_the_choice_is_judged_on_every_path() -> None:
    found = validated(GRID)
    judged = found.overfitting(8)
    assert found.can_validate
    assert list(judged.index) == list(range(5))
    for path in range(5):
        returns = found.net[:, path].reshape(4, T)
        wanted = selection_oracle.overfitting(returns, 8, [0.0] * 4)
        assert (judged.loc[path, "pbo"], judged.loc[path, "loss"]) == (wanted.pbo, wanted.loss)
        sharpe = found.paths().xs(path, level="path")["sharpe"]
        cap, profile = sharpe.idxmax()
        assert judged.loc[path, "winner"] == f"{profile.replace('_', ' ')} at cluster cap {cap}"
    alone = ja.cross_validate(MARKET, ja.AllocationConfig(profiles=("equal_weight",)), groups=4)
    assert not alone.can_validate
    with pytest.raises(ja.InputError, match="one trial alone leaves nothing to choose: add another profile"):
        alone.overfitting()


def test_boxes_are_the_quantiles() -> None:
    pytest.importorskip("plotly")
    found = validated()
    figure, table = found.plot("path_boxes", ["sharpe"]), found.path_quantiles()
    assert [trace.type for trace in figure.data] == ["box"] * 4  # and no diamond of what happened
    for box, profile in zip(figure.data, CONFIG.profiles, strict=True):
        row = table.loc[(profile, "sharpe")]
        for name, column in (("lowerfence", "q05"), ("q1", "q25"), ("median", "q50"), ("q3", "q75")):
            assert box[name][0] == pytest.approx(row[column], abs=1e-5)
    assert len(ja.figures.path_boxes(validated(GRID), at=1).data) == 8
    with pytest.raises(ja.InputError, match="has points 0 to 1, not 2"):
        ja.figures.path_boxes(validated(GRID), at=2)
    with pytest.raises(ja.InputError, match="there is no measure 'kept'"):
        found.plot("path_boxes", ["kept"])


def test_the_growth_of_the_paths_has_its_median_lowest_and_highest() -> None:
    pytest.importorskip("plotly")
    found = validated(GRID)
    figure = found.plot("path_wealth", at=1)
    assert len(figure.data) == 4
    for p, (shade, line) in enumerate(zip(figure.data[::2], figure.data[1::2], strict=True)):
        grown = np.stack([(1 + found.net[1, q, p]).cumprod() for q in range(5)])
        np.testing.assert_allclose(line.y, np.median(grown, axis=0), rtol=1e-4)
        np.testing.assert_allclose(shade.y[:T], grown.max(axis=0), rtol=1e-4)
        np.testing.assert_allclose(shade.y[T:], grown.min(axis=0)[::-1], rtol=1e-4)
        assert line.name == ("risk parity", "max sharpe")[p]
        assert line.x[0] == str(MARKET.index[0].date())
    with pytest.raises(ja.InputError, match="has points 0 to 1, not 2"):
        found.plot("path_wealth", at=2)


def test_a_folder_keeps_the_study_and_a_run_goes_on(tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop(count: int) -> None:
        raise StopError

    folder = tmp_path / "splits"
    options: dict[str, Any] = {"groups": GROUPS, "test_groups": TESTED, "purge": PURGE, "embargo": EMBARGO}
    with pytest.raises(StopError):
        ja.cross_validate(MARKET, CONFIG, **options, out=folder, chunk_size=1, progress=stop)
    seen: list[int] = []
    found = ja.cross_validate(MARKET, CONFIG, **options, out=folder, resume=True, progress=seen.append)
    assert sum(seen) == 15
    np.testing.assert_array_equal(found.net, validated().net)
    loaded = ja.load_study(folder)
    assert loaded.weights("hrp").equals(validated().study.weights("hrp"))
    assert loaded.record["sampler"] == found.splits.settings()
    # costs are no part of the study: it is read again, and held again
    dearer = ja.cross_validate(MARKET, CONFIG, **options, out=folder, resume=True, costs_bps=25.0)
    np.testing.assert_array_equal(dearer.net, validated(costs_bps=25.0).net)
    with pytest.raises(ja.InputError, match="purge"):
        ja.cross_validate(MARKET, CONFIG, **(options | {"purge": 2}), out=folder, resume=True)


# Errors


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"groups": 1}, "groups must be a whole number at least 2, not 1"),
        ({"groups": 6, "test_groups": 6}, "test_groups must be less than groups, 6"),
        ({"groups": 500}, "groups must be at most 131, the panel's rows, not 500"),
        ({"groups": 3, "test_groups": 2, "purge": 30}, "a split has 0 rows left to decide on, 2 are needed"),
        ({"embargo": -1}, "embargo must be a whole number at least 0, not -1"),
        ({"groups": 20, "test_groups": 10}, "more than 20,000 ways"),
        ({"band": 2.0}, "band must be at least 0 and less than 1"),
        ({"costs_bps": []}, "costs_bps has no values to vary"),
        ({"max_turnover": 0}, "max_turnover must be greater than 0"),
        ({"precision": 16}, "precision must be 32 or 64"),
        ({"resume": True}, "resume and fresh need the folder of a study"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ja.InputError, match=words) as error:
        ja.cross_validate(MARKET, CONFIG, **options)
    assert "\n" not in str(error.value)


def test_too_much_for_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaxalloc.backtest.validate._MOST_RETURNS", 8 * 5 * 4 * T - 1)
    with pytest.raises(ja.InputError, match="the returns of 1 points on 5 paths take about 0 GiB of memory"):
        ja.cross_validate(MARKET, CONFIG, groups=GROUPS, test_groups=TESTED)


def test_tables_name_what_is_not_there() -> None:
    found = validated()
    with pytest.raises(ja.InputError, match="there is no measure 'luck'; choose from annual_return, "):
        found.summary("luck")
    with pytest.raises(ja.InputError, match="quantiles must be between 0 and 1"):
        found.summary(quantiles=[2])
    with pytest.raises(ja.InputError, match="there is no profile 'nco'; there are risk_parity"):
        found.beats("nco")
    with pytest.raises(ja.InputError, match="has points 0 to 0, not 1"):
        found.paths(at=1)
    alone = ja.cross_validate(MARKET, ja.AllocationConfig(profiles=("hrp",)), groups=4)
    with pytest.raises(ja.InputError, match="hrp has no other profile to be compared with: add one"):
        alone.beats()


def test_a_frame_without_any_portfolio_says_so() -> None:
    frame = pd.DataFrame(MARKET.to_numpy(), index=MARKET.index, columns=MARKET.columns)
    frame.iloc[::4] = np.nan
    with pytest.warns(ja.AllocationWarning, match="No universe has a portfolio"):
        found = ja.cross_validate(frame, CONFIG, groups=4)
    assert (found.net == 0).all()
    assert found.summary()["n_paths"].eq(0).all()
