"""Flat lines: what moves by rounding alone has no ratio; every other series keeps its figures to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxalloc.backtest.performance import deflated_sharpe, difference_intervals, performance, tracking_error
from jaxalloc.kernels.lanes.precision import flat_below

D, A = 250, 252.0
RNG = np.random.default_rng(0)
GROWTH = np.cumprod(np.full(D + 1, 1.0001))
FLAT: dict[str, np.ndarray] = {
    "nothing": np.zeros(D),
    "one return": np.full(D, 0.001),
    "noise below the last place": 1e-4 + RNG.normal(0, 1e-20, D),
    "noise in the last place": 1e-4 * (1 + np.finfo(float).eps * RNG.integers(-1, 2, D)),
    "of prices that grow evenly": GROWTH[1:] / GROWTH[:-1] - 1,
    "of wealth": (1 - 0.0001) * (1 + np.full(D, 0.0005)) - 1 + RNG.normal(0, 1e-16, D),
    "falling": np.full(D, -0.002),
}


@pytest.mark.parametrize("name", FLAT)
def test_a_flat_line_has_no_sharpe_ratio(name: str) -> None:
    found = performance(FLAT[name], A, 0.0)
    assert found["volatility"] == 0
    assert np.isnan(found["sharpe"])
    assert np.isnan(performance(FLAT[name], A, 0.03)["sharpe"])
    assert np.isnan(deflated_sharpe(FLAT[name][None], A, 0.0, 1).deflated_sharpe[0])


@pytest.mark.parametrize("name", [name for name in FLAT if name != "falling"])
def test_a_flat_line_that_does_not_fall_has_no_other_ratio_either(name: str) -> None:
    found = performance(FLAT[name], A, 0.0)
    assert found["max_drawdown"] == 0
    assert np.isnan(found["sortino"])
    assert np.isnan(found["calmar"])
    # a risk-free rate of what it returns leaves rounding alone
    assert np.isnan(performance(FLAT[name], A, A * float(FLAT[name].mean()))["sortino"])


def test_a_flat_line_tracks_itself() -> None:
    assert tracking_error(FLAT["of wealth"] - 0.0, A) == 0


def test_resamples_of_a_flat_line_have_no_sharpe_ratio() -> None:
    series = np.stack([FLAT["noise in the last place"], RNG.normal(0, 0.01, D)])
    counts = RNG.multinomial(D, np.full(D, 1 / D), size=20)
    found = difference_intervals(series, np.array([[0, 1]]), counts, np.full(2, A), np.zeros(2), 0.95)
    assert np.isnan(found["sharpe"]["difference"]).all()
    assert np.isnan(found["sharpe"]["low"]).all()
    assert np.isfinite(found["volatility"]["low"]).all()


def plain(returns: np.ndarray, rate: float) -> dict[str, Any]:
    """The formulas without any bound."""
    excess = returns - rate / A
    wealth = np.cumprod(1 + returns)
    drawdown = (1 - wealth / np.maximum(np.maximum.accumulate(wealth), 1)).max()
    annual = wealth[-1] ** (A / len(returns)) - 1
    deviation = returns.std(ddof=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "volatility": np.sqrt(A) * deviation,
            "sharpe": np.sqrt(A) * (excess.mean() / deviation),
            "sortino": np.sqrt(A) * (excess.mean() / np.sqrt((np.minimum(excess, 0) ** 2).mean())),
            "max_drawdown": drawdown,
            "calmar": np.divide(annual, drawdown),
        }


@given(st.integers(0, 2**32 - 1), st.floats(-9, 0.5), st.floats(-0.01, 0.01), st.floats(0, 0.05))
def test_a_series_that_varies_keeps_its_figures_to_the_bit(seed: int, size: float, mean: float, rate: float) -> None:
    returns = np.maximum(mean + 10.0**size * np.random.default_rng(seed).standard_normal(60), -0.99)
    found = performance(returns, A, rate)
    for name, value in plain(returns, rate).items():
        if np.isfinite(value):
            assert found[name] == value, name


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_bound_follows_the_data_and_the_precision(dtype: Any) -> None:
    eps = np.finfo(dtype).eps
    assert flat_below(0.0, dtype) == pytest.approx(32 * 2.0**-52)
    assert flat_below(0.01, dtype) == pytest.approx(32 * (2.0**-52 * 1.01 + eps * 0.01))
    np.testing.assert_allclose(flat_below(np.array([0.0, 1.0]), np.float64), [32 * 2.0**-52, 96 * 2.0**-52], rtol=1e-12)
