"""Which profile of a walk-forward to hold: each rule, by series made for it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pytest

import jaxalloc as ja
from jaxalloc.backtest import selection
from jaxalloc.backtest.comparison import Trials
from jaxalloc.backtest.recommendation import recommend
from jaxalloc.settings.measures import FIGURES

A, DAYS = 252, 1600


def trials_of(returns: np.ndarray, turnover: Any = None) -> Trials:
    count = len(returns)
    figures = np.full((count, len(FIGURES)), np.nan)
    deviation = returns.std(axis=1, ddof=1)
    figures[:, FIGURES.index("volatility")] = np.sqrt(A) * deviation
    figures[:, FIGURES.index("sharpe")] = np.sqrt(A) * returns.mean(axis=1) / deviation
    figures[:, FIGURES.index("turnover")] = np.arange(count) if turnover is None else turnover
    return Trials(
        returns=returns,
        figures=figures,
        periods_per_year=np.full(count, A),
        risk_free_rate=np.zeros(count),
        index=pd.Index([f"profile_{k}" for k in range(count)], name="profile"),
    )


def names(count: int) -> tuple[str, ...]:
    return tuple(f"profile_{k}" for k in range(count))


def series(*parts: tuple[float, float], common: float = 0.0, seed: int = 0) -> np.ndarray:
    """Daily returns of (annual Sharpe ratio, annual volatility) each, which share some of their noise."""
    rng = np.random.default_rng(seed)
    shared, found = rng.normal(size=DAYS), []
    for ratio, volatility in parts:
        noise = np.sqrt(common) * shared + np.sqrt(1 - common) * rng.normal(size=DAYS)
        noise = (noise - noise.mean()) / noise.std(ddof=1)
        found.append(volatility / np.sqrt(A) * (noise + ratio / np.sqrt(A)))
    return np.stack(found)


def test_the_best_that_nothing_equals_is_recommended() -> None:
    found = recommend(trials_of(series((3.0, 0.1), (0.5, 0.1), (0.2, 0.2))), names(3), 0)
    assert (found.profile, found.recommended, found.contenders) == ("profile_0", True, ("profile_0",))
    assert "profile 0 has the highest Sharpe ratio after costs, 3.00; that of each other profile is lower" in found.why


def test_of_equals_the_surely_least_volatile_is_recommended() -> None:
    found = recommend(trials_of(series((1.5, 0.2), (1.45, 0.1), (1.4, 0.25), common=0.8)), names(3), 0)
    assert (found.profile, found.recommended) == ("profile_1", True)
    assert found.contenders == names(3)
    assert "cannot be told apart by 1,600 rows. Of these profile 1 has the lowest volatility, 10.0 %" in found.why


def test_equals_in_risk_too_are_not_recommended_and_the_calmest_is_named() -> None:
    found = recommend(trials_of(series((1.5, 0.1), (1.48, 0.1), common=0.9), turnover=[3.0, 1.0]), names(2), 0)
    assert (found.profile, found.recommended, found.contenders) == ("profile_1", False, names(2))
    assert found.why.endswith("profile 1 trades least.")


def test_a_ratio_that_may_be_luck_is_not_recommended() -> None:
    found = recommend(trials_of(series((0.3, 0.1))), names(1), 0)
    assert (found.profile, found.recommended) == ("profile_0", False)
    assert "below 0.95 it may be luck" in found.why
    assert "that were tried" not in found.why
    several = recommend(trials_of(series((0.5, 0.1), (-3.0, 0.1), (-3.5, 0.1), (-2.8, 0.1))), names(4), 0)
    assert not several.recommended
    assert "after allowing for the 4 that were tried" in several.why


def test_a_best_whose_choice_does_not_pay_is_not_recommended(monkeypatch: pytest.MonkeyPatch) -> None:
    trials = trials_of(series((3.0, 0.1), (0.5, 0.1)))
    assert recommend(trials, names(2), 0).recommended
    judged = selection.overfitting(trials)
    monkeypatch.setattr(selection, "overfitting", lambda trials: dataclasses.replace(judged, pbo=0.51))
    found = recommend(trials, names(2), 0)
    assert (found.profile, found.recommended) == ("profile_0", False)
    assert "in 51 % of 12,870 splits, more than half of them: profile 0" in found.why


def test_points_of_a_sweep_are_trials_too() -> None:
    found = recommend(trials_of(series((0.2, 0.1), (0.1, 0.1), (0.3, 0.1), (3.0, 0.1))), names(2), 0)
    assert (found.profile, found.at, found.recommended) == ("profile_1", 1, True)


def test_too_few_days_say_so() -> None:
    found = recommend(trials_of(np.array([[0.01, 0.02], [0.02, 0.01]])), names(2), 0)
    assert (found.profile, found.recommended) == (None, False)
    assert "too few days" in found.why


def test_a_walk_forward_has_one() -> None:
    config = ja.AllocationConfig(profiles=("equal_weight", "min_variance"))
    walk = ja.walk_forward(ja.datasets.synthetic_market(n_assets=12, n_observations=260), config, 100, 40)
    found = walk.recommendation()
    assert found == walk.recommendation()
    assert found.profile in config.profiles
    assert found.why.endswith(".")


@pytest.mark.parametrize("seed", range(8))
def test_noise_is_never_recommended_for_its_ratio(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = recommend(trials_of(rng.normal(0, 0.01, (8, DAYS))), names(8), seed)
    assert not found.recommended
