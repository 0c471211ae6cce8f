"""Trades within a band: the optimum, exactly; turnovers of both kinds; limits; many at once as one at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import trading_oracles
from hypothesis import given
from hypothesis import strategies as st

from jaxalloc.backtest.trading import Rule, trade, turnovers, within_band

BANDS = (1e-4, 0.01, 0.05, 0.2, 0.7)


def objective(z: np.ndarray, d: np.ndarray, x: np.ndarray, b: float) -> float:
    return float(((z - x) ** 2).sum() / 2 + b * abs(z - d).sum())


def case(seed: int, n: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Weights held (with cash, or none), a target and a band; a third of the cases are round, with ties and zeros."""
    rng = np.random.default_rng(seed)
    d, x = rng.dirichlet(np.full(n, 0.5), 2)
    d = d * rng.choice([1, 1, 0.7, 0.1, 0])
    if seed % 3 == 0:
        d, x = np.round(d, 1), np.round(x, 1)
        d, x = d / max(1, d.sum()), x / x.sum() if x.any() else np.eye(n)[0]
    return d, x, float(rng.choice(BANDS))


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_the_portfolio_is_the_one_that_the_conditions_allow(seed: int, n: int) -> None:
    d, x, b = case(seed, n)
    z = within_band(d, x, b)
    np.testing.assert_allclose(z, trading_oracles.within_band(d, x, b), rtol=0, atol=1e-12)
    assert abs(z.sum() - 1) <= 1e-14
    assert z.min() >= 0


@pytest.mark.parametrize("seed", range(12))
def test_a_solver_finds_nothing_better(seed: int) -> None:
    cvxpy = pytest.importorskip("cvxpy")
    d, x, b = case(seed, 40)
    v = cvxpy.Variable(len(d))
    goal = cvxpy.Minimize(cvxpy.sum_squares(v - x) / 2 + b * cvxpy.norm1(v - d))
    cvxpy.Problem(goal, [v >= 0, cvxpy.sum(v) == 1]).solve(solver="CLARABEL")
    z = within_band(d, x, b)
    np.testing.assert_allclose(z, v.value, atol=1e-3)
    assert objective(z, d, x, b) <= objective(v.value, d, x, b) + 1e-9


@pytest.mark.parametrize("n", [50, 431])
@pytest.mark.parametrize("band", [1e-5, 2e-3, 0.02])
def test_many_assets_meet_budget_and_conditions(n: int, band: float) -> None:
    rng = np.random.default_rng(n)
    d, x = rng.dirichlet(np.full(n, 0.3), 20), rng.dirichlet(np.full(n, 0.3), 20)
    z = within_band(d, x, band)
    assert abs(z.sum(axis=1) - 1).max() <= 1e-14
    for held, target, made in zip(d, x, z, strict=True):
        up, down = made > held, (made < held) & (made > 0)
        nu = np.concatenate([(target - made)[up] - band, (target - made)[down] + band])
        assert np.ptp(nu) < 1e-14  # one multiplier for all that is traded
        kept, out = made == held, (made == 0) & (held > 0)
        assert (abs(target - held - nu[0])[kept & (held > 0)] <= band + 1e-14).all()
        assert (target + band <= nu[0] + 1e-14)[out].all()


def test_within_the_band_of_all_nothing_is_traded_to_the_bit() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        d = rng.dirichlet(np.ones(9))
        x = d + 0.009 * rng.uniform(-1, 1, 9)
        x = np.maximum(x, 0) / np.maximum(x, 0).sum()
        d = d * (1 + rng.integers(-2, 3, 9) * np.finfo(float).eps)  # sums to 1 to rounding
        assert within_band(d, x, 0.02).tobytes() == d.tobytes()


def test_without_a_band_or_out_of_cash_the_target_is_bought_to_the_bit() -> None:
    d, x = np.random.default_rng(1).dirichlet(np.ones(7), 2)
    assert within_band(d, x, 0.0).tobytes() == x.tobytes()
    for band in BANDS:
        assert within_band(np.zeros(7), x, band).tobytes() == x.tobytes()


def test_cash_is_spent_where_it_is_lacking_most() -> None:
    z = within_band(np.array([0.5, 0.3, 0.1]), np.array([0.5, 0.3, 0.2]), 0.3)
    np.testing.assert_allclose(z, [0.5, 0.3, 0.2], atol=1e-15)
    z = within_band(np.array([0.5, 0.4, 0.0]), np.array([0.5, 0.3, 0.2]), 0.3)  # not enough for an asset to sell
    np.testing.assert_allclose(z, [0.5, 0.4, 0.1], atol=1e-15)


def test_a_turnover_is_one_way_and_cash_is_an_asset() -> None:
    for change, wanted in (
        ([0.5, 0.5, 0], (1, 1)),  # all bought out of cash
        ([-1, 0.5, 0.5], (1, 2)),  # all replaced
        ([-0.3, 0, 0], (0.3, 0.3)),  # sold for cash
        ([-0.3, 0.1, 0.4], (0.5, 0.8)),  # 0.2 of it out of cash
        ([0, 0, 0], (0, 0)),
    ):
        np.testing.assert_allclose(turnovers(np.array(change)), wanted, atol=1e-15)
        np.testing.assert_allclose(trading_oracles.turnover_and_traded(np.array(change)), wanted, atol=1e-15)


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 1), st.booleans())
def test_a_largest_turnover_scales_the_trades_and_spares_the_cash(seed: int, most: float, band: bool) -> None:
    d, x, b = case(seed, 5)
    found = trade(d, x, Rule(band=b if band else 0.0, max_turnover=most))
    wanted = trading_oracles.bought(d, x, b if band else 0.0, most)
    np.testing.assert_allclose(found.weights, wanted, atol=1e-12)
    figures = trading_oracles.turnover_and_traded(wanted - d)
    np.testing.assert_allclose([found.turnover, found.traded], figures, atol=1e-12)
    np.testing.assert_allclose(found.cash, 1 - wanted.sum(), atol=1e-12)
    assert found.turnover <= max(most, 1 - d.sum()) + 1e-12
    assert found.weights.min() >= 0
    if not d.any():
        assert found.weights.tobytes() == x.tobytes()  # the first purchase is whole


@pytest.mark.parametrize("rule", [Rule(), Rule(band=0.03), Rule(0.01, 0.2), Rule(max_turnover=0.3)])
def test_many_paths_at_once_are_each_alone(rule: Rule) -> None:
    rng = np.random.default_rng(4)
    d, x = rng.dirichlet(np.full(8, 0.4), (30, 3)), rng.dirichlet(np.full(8, 0.4), (30, 3))
    d[::4] *= 0.6
    d[1::4] = 0
    d[2::4] = x[2::4]
    together: Any = trade(d, x, rule)
    for b in range(30):
        alone: Any = trade(d[b : b + 1], x[b : b + 1], rule)
        for one, all_of_them in zip(alone, together, strict=True):
            assert one[0].tobytes() == all_of_them[b].tobytes()
