"""Regret: simulated universes against portfolios at the true moments, by explicit loops and the engine's oracle."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import selection_oracles as oracle

import jaxalloc as ja
from jaxalloc.arguments.errors import InputError
from jaxalloc.studies import folder as folder_module

N, T, RATE, A = 12, 60, 0.01, 252
MARKET = ja.datasets.synthetic_market(n_assets=N, n_observations=T)
PROFILES = ("min_variance", "risk_parity", "max_sharpe", "barbell")
CONFIG = ja.AllocationConfig(profiles=PROFILES, risk_free_rate=RATE)
# every mean is above the risk-free rate, so that every true ratio has a meaning
MEAN = 0.05 + 0.02 * np.arange(N) / N
COVARIANCE = np.cov(MARKET.to_numpy(), rowvar=False) * A
GIVEN = ja.Parametric(12, mean=MEAN, covariance=COVARIANCE)
STUDENT = ja.Parametric(10, "student_t", degrees_of_freedom=4, mean=MEAN, covariance=COVARIANCE, n_observations=40)


def wanted(study: ja.Study, at: int, freedom: float | None = None) -> dict[tuple[str, str], tuple[float, list[float]]]:
    """The true figures and the quotients, universe by universe."""
    config = study.settings.at(at)
    settings = {name: getattr(config, name) for name in ("risk_free_rate", "cluster_cap", "distance_threshold")}
    gains = oracle.tail_gain(MEAN / A, COVARIANCE / A, freedom)
    found = {}
    for profile in study.profiles:
        goal = oracle.true_portfolio(profile, MEAN, COVARIANCE, gains, **settings)
        weights = study.weights(profile, at).to_numpy()
        quotients = oracle.regret(weights, goal, MEAN, COVARIANCE, config.risk_free_rate)
        volatility = float(np.sqrt(goal @ COVARIANCE @ goal))
        truth = {"volatility": volatility, "sharpe": float(goal @ MEAN - config.risk_free_rate) / volatility}
        found |= {(profile, name): (truth[name], values) for name, values in quotients.items()}
    return found


def assert_as_the_oracle_says(table: pd.DataFrame, expected: dict[Any, tuple[float, list[float]]]) -> None:
    assert list(table.index) == list(expected)
    assert list(table.columns) == ["truth", "mean", "std", "q05", "q25", "q50", "q75", "q95", "n_universes"]
    for key, (truth, quotients) in expected.items():
        row, series = table.loc[key], pd.Series(quotients)
        assert row["n_universes"] == len(quotients)
        assert row["truth"] == pytest.approx(truth, rel=1e-6)
        figures = [series.mean(), series.std(), *series.quantile([0.05, 0.25, 0.5, 0.75, 0.95])]
        np.testing.assert_allclose(row.iloc[1:-1].astype(float), figures, rtol=1e-6, atol=1e-9)


@pytest.fixture(scope="module")
def study() -> ja.Study:
    return ja.run_study(MARKET, GIVEN, CONFIG, seed=1)


def test_regret_is_the_loop_over_universes(study: ja.Study) -> None:
    table = study.regret()
    assert_as_the_oracle_says(table, wanted(study, 0))
    assert table.loc[("max_sharpe", "sharpe"), "q50"] < 1
    assert table.loc[("min_variance", "volatility"), "mean"] > 1


def test_students_returns_have_other_tails_and_the_same_moments() -> None:
    study = ja.run_study(MARKET, STUDENT, CONFIG, seed=1)
    assert_as_the_oracle_says(study.regret(), wanted(study, 0, freedom=4))
    assert study.truth is not None
    gains = oracle.tail_gain(MEAN / A, COVARIANCE / A, 4)
    np.testing.assert_allclose(study.truth.tail_gain, gains, rtol=1e-9)
    gaussian = ja.Parametric(10, "student_t", degrees_of_freedom=1e9, mean=MEAN, covariance=COVARIANCE)
    almost = ja.run_study(MARKET, gaussian, CONFIG, seed=1).truth
    assert almost is not None
    np.testing.assert_allclose(almost.tail_gain, oracle.tail_gain(MEAN / A, COVARIANCE / A), rtol=1e-6)


def test_every_point_of_a_sweep_has_its_own_truth() -> None:
    grid = ja.sweep(CONFIG, distance_threshold=[0.3, 0.5], risk_free_rate=[0.0, 0.02])
    study = ja.run_study(MARKET, GIVEN, grid, seed=1)
    table = study.regret()
    assert table.index.names == ["distance_threshold", "risk_free_rate", "profile", "measure"]
    for at, values in enumerate(grid.points):
        expected = wanted(study, at)
        assert_as_the_oracle_says(table.xs(values, level=[0, 1]), expected)
        assert_as_the_oracle_says(study.regret(at), expected)
    with pytest.raises(InputError, match="points 0 to 3, not 4"):
        study.regret(at=4)


def test_the_truth_is_that_of_the_panel_unless_given() -> None:
    study = ja.run_study(MARKET, ja.Parametric(4), CONFIG)
    assert study.truth is not None
    x = MARKET.to_numpy()
    np.testing.assert_allclose(study.truth.mean, x.mean(axis=0) * A, rtol=1e-12)
    np.testing.assert_allclose(study.truth.covariance, COVARIANCE, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(study.truth.tail_gain, oracle.tail_gain(x.mean(axis=0), COVARIANCE / A), rtol=1e-9)


def test_more_rows_come_closer_to_the_truth() -> None:
    config = CONFIG.replace(profiles=("min_variance", "risk_parity", "equal_weight"))
    medians = []
    for rows in (30, 3000):
        sampler = dataclasses.replace(GIVEN, n_observations=rows)
        medians.append(ja.run_study(MARKET, sampler, config).regret().xs("volatility", level="measure")["q50"])
    assert abs(medians[1]["min_variance"] - 1) < abs(medians[0]["min_variance"] - 1)
    assert abs(medians[1]["risk_parity"] - 1) < 0.01
    assert medians[0]["equal_weight"] == pytest.approx(1)  # it estimates nothing


def test_a_true_ratio_of_no_meaning_has_no_regret() -> None:
    low = dataclasses.replace(GIVEN, mean=np.full(N, -0.1))
    table = ja.run_study(MARKET, low, CONFIG).regret().xs("sharpe", level="measure")
    assert (table["truth"] < 0).all()
    assert table[["mean", "std", "q50"]].isna().all(axis=None)
    assert table["n_universes"].eq(0).all()


def test_an_asset_that_never_moves_is_held_by_nobody() -> None:
    still = COVARIANCE.copy()
    still[3] = still[:, 3] = 0
    study = ja.run_study(MARKET, dataclasses.replace(GIVEN, covariance=still), CONFIG)
    table = study.regret()
    assert table["n_universes"].eq(12).all()
    assert np.isfinite(table["mean"]).all()


def test_single_precision_windows_and_resamples_of_one_truth(study: ja.Study) -> None:
    single = ja.run_study(MARKET, GIVEN, CONFIG, seed=1, precision=32).regret()
    rows = [(p, m) for p in ("min_variance", "risk_parity") for m in ("volatility", "sharpe")]
    np.testing.assert_allclose(single.loc[rows, "q50"], study.regret().loc[rows, "q50"], rtol=1e-3)
    for other in (ja.RollingWindows(30, 15), ja.Bootstrap(2)):
        several = ja.run_study(MARKET, GIVEN * other, CONFIG, seed=1)
        assert_as_the_oracle_says(several.regret(), wanted(several, 0))


def test_regret_comes_back_from_a_folder_and_travels(study: ja.Study, tmp_path: Path, monkeypatch: Any) -> None:
    ja.run_study(MARKET, GIVEN, CONFIG, seed=1, out=tmp_path / "study", chunk_size=5)
    loaded = ja.load_study(tmp_path / "study")
    for other in (loaded, pickle.loads(pickle.dumps(loaded)), copy.deepcopy(study)):
        pd.testing.assert_frame_equal(other.regret(), study.regret(), check_exact=True)
    monkeypatch.setattr(folder_module, "TRUTH", "other.parquet")  # a study from before there was one
    with pytest.raises(InputError, match="written before true moments were kept: run it again with resume=True"):
        ja.load_study(tmp_path / "study").regret()


@pytest.mark.parametrize(
    ("sampler", "keep", "message"),
    [
        (ja.Bootstrap(3), "weights", r"regret needs true moments, .*: run a study of Parametric\(...\) universes"),
        (None, "weights", "regret needs true moments"),
        (
            GIVEN * ja.RandomSubsets(6),
            "weights",
            "universes of one distribution and of all assets: .* without RandomSub",
        ),
        (
            GIVEN * ja.Stress(volatility=2.0),
            "weights",
            "run a study of Parametric(...) without Stress".replace("(", r"\(").replace(")", r"\)"),
        ),
        (GIVEN, "summary", "the study keeps summaries only; run it with keep='weights' to have its universes"),
    ],
)
def test_without_truth_or_universes_it_is_one_line(sampler: Any, keep: Any, message: str) -> None:
    study = ja.run_study(MARKET, sampler, CONFIG, keep=keep)
    with pytest.raises(InputError, match=message) as error:
        study.regret()
    assert "\n" not in str(error.value)
