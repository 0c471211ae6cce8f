"""The registry of measures: one record each, in the order of the files."""

from __future__ import annotations

import math

import numpy as np
import pytest

from jaxalloc.backtest.performance import COMPARED, performance
from jaxalloc.settings.measures import (
    FIGURES,
    MEASURES,
    OF_CLUSTERS,
    OF_UNIVERSES,
    OF_WALKS,
    RETURN_MEASURES,
    UNIVERSE_MEASURE,
    WALK_MEASURE,
    Measure,
)


def test_names_stand_in_the_order_of_the_files() -> None:
    assert (
        *("volatility", "expected_return", "sharpe", "effective_assets", "effective_clusters", "effective_bets"),
        *("concentration", "turnover", "out_of_bag_return", "out_of_bag_volatility", "out_of_bag_sharpe"),
    ) == MEASURES
    assert (
        *("annual_return", "volatility", "sharpe", "sortino", "max_drawdown", "calmar", "cvar", "turnover", "traded"),
        *("cost", "effective_bets", "concentration", "tracking_error", "beta", "correlation", "active_risk"),
        *("information_ratio", "kept", "missing"),
    ) == FIGURES


@pytest.mark.parametrize("group", [(*OF_UNIVERSES, *OF_CLUSTERS), OF_WALKS], ids=["study", "walk-forward"])
def test_a_measure_has_one_record(group: tuple[Measure, ...]) -> None:
    for attribute in ("name", "words", "heading"):
        assert len({getattr(measure, attribute) for measure in group}) == len(group)
    assert {measure.name: measure for measure in group} in (UNIVERSE_MEASURE, WALK_MEASURE)


def test_what_two_kinds_of_results_share_is_one_record() -> None:
    for name in ("volatility", "effective_bets", "concentration"):
        assert UNIVERSE_MEASURE[name] is WALK_MEASURE[name]


def test_performance_computes_the_measures_of_returns() -> None:
    for n_days in (0, 5):
        assert tuple(performance(np.full(n_days, 0.01), 252, 0.0)) == RETURN_MEASURES
    assert set(COMPARED) <= set(RETURN_MEASURES)


def test_values_are_written_as_their_kind_says() -> None:
    assert UNIVERSE_MEASURE["volatility"].write(0.1234) == "12.3 %"
    assert UNIVERSE_MEASURE["volatility"].write(0.1234, digits=2) == "12.34 %"
    assert UNIVERSE_MEASURE["effective_bets"].write(7.26, digits=2) == "7.3"
    assert WALK_MEASURE["sharpe"].write(-0.5) == "-0.50"
    assert WALK_MEASURE["kept"].write(3) == "3"
    assert WALK_MEASURE["calmar"].write(math.nan) == "-"
    assert WALK_MEASURE["calmar"].write(math.inf, "none") == "none"


def test_axes_are_written_likewise() -> None:
    assert {name: UNIVERSE_MEASURE[name].axis for name in ("volatility", "sharpe", "effective_assets")} == {
        "volatility": ".1%",
        "sharpe": ".2f",
        "effective_assets": ".3~g",
    }
    assert (WALK_MEASURE["turnover"].axis, WALK_MEASURE["cost"].axis) == (".0%", ".2%")


def test_counts_and_likeness_to_a_benchmark_say_nothing_about_which_portfolio_is_better() -> None:
    neither = [measure.name for measure in OF_WALKS if not measure.better]
    assert neither == ["beta", "correlation", "active_risk", "kept", "missing"]
    less = [measure.name for measure in OF_WALKS if measure.better < 0]
    assert less == [
        *("volatility", "max_drawdown", "cvar", "turnover", "traded", "cost", "concentration", "tracking_error"),
    ]
