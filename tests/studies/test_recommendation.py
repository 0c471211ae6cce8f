"""The recommendation: each of its rules on figures made for it, and the comparison against the tables it is made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import jaxalloc as ja
from jaxalloc.settings.status import Status
from jaxalloc.studies.recommendation import COMPARED, Evidence, best_of, compare, recommend

PROFILES = ("min_variance", "risk_parity", "barbell")
MEASURES = ("expected_return", "volatility", "sharpe", "effective_bets", "turnover")
RESAMPLES = 200


class Estimate:
    """As much of an `Allocation` as is looked at."""

    weights = np.array([[0.5, 0.5], [0.6, 0.4], [0.7, 0.3]])
    cluster_weights = np.array([[1.0, 0.0], [0.6, 0.4], [0.7, 0.3]])
    status = np.zeros(3, int)


def evidence(sharpe: Any, volatility: Any, *, keep: bool = True, status: Any = (0, 0, 0)) -> Evidence:
    """A study whose profiles have these ratios and volatilities out of bag, (3, resamples)."""
    columns = {}
    for name, ratios, risks in zip(PROFILES, np.asarray(sharpe, float), np.asarray(volatility, float), strict=True):
        columns |= {f"{name}.out_of_bag_sharpe": ratios, f"{name}.out_of_bag_volatility": risks}
    rows = {}
    for place, name in enumerate(PROFILES):
        for measure in MEASURES:
            rows[(name, measure)] = (0.1 + place, 0.3 - 0.1 * place, 0.01, RESAMPLES)
        for measure in ("out_of_bag_sharpe", "out_of_bag_volatility"):
            values = columns[f"{name}.{measure}"]
            finite = values[np.isfinite(values)]
            rows[(name, measure)] = (np.nan, finite.mean(), finite.std(ddof=1), len(finite))
    summary = pd.DataFrame.from_dict(rows, orient="index", columns=["point", "mean", "std", "n_universes"])
    summary.index = pd.MultiIndex.from_tuples(rows, names=["profile", "measure"])
    estimate: Any = Estimate()
    estimate.status = np.asarray(status)
    return Evidence(
        profiles=PROFILES,
        n=RESAMPLES,
        estimate=estimate,
        summary=summary,
        columns=(lambda *names: {name: columns[name] for name in names}) if keep else None,
    )


NOISE = np.random.default_rng(0).normal(size=RESAMPLES)  # that all profiles share
OWN = np.random.default_rng(1).normal(size=(3, RESAMPLES))
EQUAL = 0.15 + 0.01 * OWN


@pytest.mark.parametrize("keep", [True, False])
def test_one_above_every_other_is_recommended(keep: bool) -> None:
    found = recommend(evidence(1 + 0.1 * OWN + [[0], [0.8], [0]], EQUAL, keep=keep))
    assert (found.profile, found.told_apart, found.contenders) == ("risk_parity", True, ("risk_parity",))
    assert "above that of each other profile in at least 90 %" in found.why


def test_pairs_tell_apart_what_sums_cannot() -> None:
    """The resamples differ far more than the profiles do in any one of them."""
    ratios = 1 + NOISE + 0.01 * OWN + [[0.1], [0], [0]]
    assert recommend(evidence(ratios, EQUAL)).profile == "min_variance"
    assert recommend(evidence(ratios, EQUAL)).told_apart
    assert not recommend(evidence(ratios, EQUAL, keep=False)).told_apart


def test_among_equals_the_lower_risk_is_recommended() -> None:
    ratios = 1 + OWN + [[0], [0], [-9]]
    found = recommend(evidence(ratios, EQUAL + np.array([[0], [-0.1], [-0.14]])))
    assert (found.profile, found.told_apart) == ("risk_parity", True)
    assert found.contenders == ("min_variance", "risk_parity")
    assert "of min variance and risk parity cannot be told apart (barbell: another profile's is above)" in found.why
    assert "lowest volatility out of bag, 4.9 %" in found.why


def test_lower_risk_does_not_decide_against_what_is_likely_better() -> None:
    """A ratio that is higher in five of six resamples is not sure, and not to be passed over either."""
    ratios = 1 + OWN + [[0], [1.4], [-9]]
    found = recommend(evidence(ratios, EQUAL + np.array([[-0.1], [0], [0]])))
    assert not found.told_apart
    assert found.contenders == ("min_variance", "risk_parity")


def test_what_cannot_be_told_apart_is_not_recommended() -> None:
    found = recommend(evidence(1 + OWN, EQUAL))
    assert not found.told_apart
    assert found.contenders == PROFILES
    assert found.profile == "barbell"  # its weights move least
    assert "cannot be told apart. Shown is the profile whose weights move least" in found.why


def test_a_profile_that_was_not_solved_takes_no_part() -> None:
    ratios = 1 + 0.1 * OWN + [[0], [0.8], [0]]
    found = recommend(evidence(ratios, EQUAL, status=(0, Status.NOT_CONVERGED, 0)))
    assert "risk_parity" not in (found.profile, *found.contenders)
    assert recommend(evidence(ratios, EQUAL, status=[Status.INVALID] * 3)).profile is None
    alone = recommend(evidence(ratios, EQUAL, status=(Status.INVALID, 0, Status.INVALID)))
    assert (alone.profile, alone.told_apart) == ("risk_parity", False)


def test_few_resamples_tell_nothing() -> None:
    ratios = np.where(np.arange(RESAMPLES) < 19, 1 + 0.1 * OWN + [[0], [0.8], [0]], np.nan)
    found = recommend(evidence(ratios, EQUAL))
    assert not found.told_apart
    assert "Fewer than 20 resamples" in found.why


def test_the_comparison_is_the_tables() -> None:
    study = ja.run_study(ja.datasets.synthetic_market(12, 120), ja.Bootstrap(30), seed=1)
    frame, summary = study.comparison(), study.profile_summary()
    assert list(frame.index) == [measure.name for measure in COMPARED]
    assert list(frame.columns) == list(study.profiles)
    for profile in study.profiles:
        for measure, column in (("volatility", "point"), ("out_of_bag_sharpe", "mean"), ("turnover", "mean")):
            assert frame.loc[measure, profile] == summary.loc[(profile, measure), column]
    np.testing.assert_array_equal(frame.loc["largest_asset"], study.point.weights.max(axis=1))
    assert study.recommendation().profile in study.profiles
    kept = ja.run_study(ja.datasets.synthetic_market(12, 120), ja.Bootstrap(30), seed=1, keep="summary")
    pd.testing.assert_frame_equal(kept.comparison(), frame)
    windows = ja.run_study(ja.datasets.synthetic_market(12, 120), ja.RollingWindows(60, 20))
    assert "No universe leaves rows out" in windows.recommendation().why
    assert not windows.recommendation().told_apart
    panel = ja.run_study(ja.datasets.synthetic_market(12, 120))
    assert "turnover" not in panel.comparison().index
    assert "A study of resamples" in panel.recommendation().why


def test_the_best_of_a_row_is_as_the_measure_says() -> None:
    best = best_of(compare(evidence(1 + OWN, EQUAL)))
    assert best["volatility"] == "min_variance"
    assert best["effective_bets"] == "barbell"
    assert best["turnover"] == "barbell"
    assert best["largest_cluster"] == "risk_parity"
    frame = compare(evidence(1 + OWN, EQUAL))
    frame.loc["volatility"] = [0.1, 0.10001, 0.2]
    assert best_of(frame)["volatility"] is None  # the two read the same
