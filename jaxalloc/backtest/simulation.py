"""Portfolios held between rebalances: drift, trades and costs, for many paths at once, in NumPy.

A path is an order of the panel's rows. The panel as it happened is one path; resampling adds others. Within a holding
period asset i of a portfolio bought with weights x is worth x_i prod (1 + r_i), so a period is one cumulative product
and one matrix product. Periods follow one another, because the drifted weights at the end of one decide the trades of
the next. Costs come last: they change what is earned, and not what is held.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from jaxalloc.backtest.trading import Rule, trade
from jaxalloc.studies.totals import POSITIVE_WEIGHT


class Periods(Protocol):
    """The rows on which portfolios are held, R periods one after the other."""

    @property
    def n_held(self) -> int:
        """Number of periods, R."""
        ...

    @property
    def n_days(self) -> int:
        """Number of rows held, D."""
        ...

    @property
    def first_held(self) -> int:
        """The first row held."""
        ...

    def held(self, j: int) -> tuple[int, int]:
        """Return the rows of period j: the first, and one past the last."""
        ...


class Market(NamedTuple):
    """A panel's returns, as holding portfolios needs them.

    Attributes:
        growth: (T, N) 1 + return; 1 where it is missing.
        missing: (T, N) bool, or None where nothing is.
    """

    growth: np.ndarray
    missing: np.ndarray | None

    @classmethod
    def of(cls, returns: np.ndarray) -> Market:
        """Make a market of (T, N) returns, NaN where missing."""
        missing = np.isnan(returns)
        return cls(growth=1 + np.where(missing, 0, returns), missing=missing if missing.any() else None)


class Held(NamedTuple):
    """M portfolios held through B paths; D days held, R rebalances.

    Attributes:
        gross: (B, M, D) returns before costs.
        turnover: (B, M, R) at each rebalance, one-way: half of the sum of |bought - drifted|, with cash as an asset.
        traded: (B, M, R) sum of |bought - drifted| over the assets at each rebalance.
        kept: (B, M, R) bool, whether there was no target, so that the weights held before were kept.
        missing: (B, M, R) int, days times assets that were held while their return was missing.
        concentration: (B, M, R) sum of the squares of what was bought at each rebalance.
        weights: (B, M, R, N) what was bought at each rebalance; None unless asked for.
        last: (B, M, N) weights after the last row, drifted.
    """

    gross: np.ndarray
    turnover: np.ndarray
    traded: np.ndarray
    kept: np.ndarray
    missing: np.ndarray
    concentration: np.ndarray
    weights: np.ndarray | None
    last: np.ndarray


def hold(
    market: Market,
    rows: np.ndarray,
    targets: np.ndarray,
    previous: np.ndarray,
    schedule: Periods,
    rule: Rule,
    keep_weights: bool = False,
) -> Held:
    """Hold portfolios through the rows after their windows.

    At a rebalance the weights are traded towards the target, as `jaxalloc.backtest.trading.trade` says. In between they
    drift with the returns; a missing return counts as 0. The rest, up to 1, is cash without a return.

    Args:
        market: the panel.
        rows: (B, T) the panel's row on each of a path's days, or (1, T) where it is the same on all paths.
        targets: (B, J, M, N) weights decided on each window, sum 1; NaN where a window has no portfolio, so that the
            weights held before are kept.
        previous: (M, N) weights held before the first rebalance, sum at most 1; the rest is cash.
        schedule: when they are held; the first R of the J windows are.
        rule: how far targets are traded towards.
        keep_weights: whether `Held.weights` is wanted.
    """
    n_paths, _, n_portfolios, n_assets = targets.shape
    shape = (n_paths, n_portfolios)
    gross, kept = np.empty((*shape, schedule.n_days)), np.empty((*shape, schedule.n_held), bool)
    turnover, traded = np.empty((*shape, schedule.n_held)), np.empty((*shape, schedule.n_held))
    missing = np.zeros((*shape, schedule.n_held), np.int64)
    concentration = np.empty((*shape, schedule.n_held))
    bought = np.empty((*shape, schedule.n_held, n_assets)) if keep_weights else None
    drifted = np.broadcast_to(previous, (*shape, n_assets))
    for j in range(schedule.n_held):
        low, high = schedule.held(j)
        days = slice(low - schedule.first_held, high - schedule.first_held)
        idle = np.isnan(targets[:, j, :, 0])
        trades = trade(drifted, np.where(idle[..., None], drifted, targets[:, j]), rule)
        weights = np.where(idle[..., None], drifted, trades.weights)
        cash = np.where(idle, 1 - weights.sum(axis=2), trades.cash)
        kept[..., j] = idle
        turnover[..., j], traded[..., j] = (np.where(idle, 0, each) for each in (trades.turnover, trades.traded))
        concentration[..., j] = (weights**2).sum(axis=2)
        if bought is not None:
            bought[:, :, j] = weights
        if market.missing is not None:
            gaps = market.missing[rows[:, low:high]].sum(axis=1)
            missing[..., j] = ((weights > POSITIVE_WEIGHT) * gaps[:, None]).sum(axis=2)
        gross[..., days], drifted = _grow(market.growth[rows[:, low:high]], weights, cash)
    return Held(
        gross=gross,
        turnover=turnover,
        traded=traded,
        kept=kept,
        missing=missing,
        concentration=concentration,
        weights=bought,
        last=np.array(drifted),
    )


def after_costs(held: Held, schedule: Periods, cost_rate: float) -> np.ndarray:
    """Return (B, M, D) returns after costs.

    The cost of a rebalance, ``cost_rate`` times what is traded, is paid out of wealth on the first day held:
    net = (1 - cost)(1 + gross) - 1.

    Args:
        held: the portfolios.
        schedule: of their windows.
        cost_rate: cost of trading all of the wealth once, a fraction of it.
    """
    net = held.gross.copy()
    first = [schedule.held(j)[0] - schedule.first_held for j in range(schedule.n_held)]
    net[..., first] = (1 - cost_rate * held.traded) * (1 + held.gross[..., first]) - 1
    return net


def _grow(growth: np.ndarray, weights: np.ndarray, cash: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (B, M, days) of portfolios through a holding period, and their drifted weights (B, M, N) at its end.

    Args:
        growth: (B, days, N) 1 + return.
        weights: (B, M, N) at the start.
        cash: (B, M) likewise.
    """
    growth = np.cumprod(growth, axis=1)
    wealth = weights @ growth.swapaxes(1, 2) + cash[..., None]
    before = np.concatenate([np.ones_like(wealth[..., :1]), wealth[..., :-1]], axis=2)
    # a portfolio that has lost everything has returns of 0 from then on
    returns = np.divide(wealth, before, out=np.ones_like(wealth), where=before > 0) - 1
    grown, end = weights * growth[:, None, -1], wealth[..., -1:]
    return returns, np.divide(grown, end, out=np.zeros_like(grown), where=end > 0)


def concentrate(weights: np.ndarray, labels: np.ndarray, leads: np.ndarray) -> np.ndarray:
    """Put each cluster's weight on its lead asset alone.

    Args:
        weights: (U, N) of U universes; a universe of NaN stays NaN.
        labels: (U, N) int, clusters from 0, -1 for an inactive asset.
        leads: (U, N) bool, one asset of each cluster.

    Returns:
        (U, N) weights; 0 but for the leads.
    """
    n_universes, n_assets = weights.shape
    places = np.arange(n_universes)[:, None] * n_assets + np.maximum(labels, 0)
    active = labels >= 0
    by_cluster = np.bincount(places[active], weights=weights[active], minlength=n_universes * n_assets)
    concentrated = np.where(leads & active, by_cluster[places], 0)
    return np.where(np.isnan(weights[:, :1]), np.nan, concentrated)
