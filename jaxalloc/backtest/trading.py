"""From a target to what is bought: turnover, a band within which nothing is traded, and a largest turnover.

One turnover is used everywhere: one-way, half of the sum of |change| over the assets and cash. Buying all out of cash
is a turnover of 1, and so is replacing all. What is traded, and paid for, is the sum of |change| over the assets.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_EPS = float(np.finfo(np.float64).eps)


class Rule(NamedTuple):
    """How far a target is traded towards.

    Attributes:
        band: b, the distance in weight that a holding may keep from the target.
        max_turnover: tau, the largest turnover of a rebalance; None where there is none.
    """

    band: float = 0.0
    max_turnover: float | None = None


class Trades(NamedTuple):
    """What rebalances come to.

    Attributes:
        weights: (..., N) bought.
        cash: (...) what is left in cash.
        turnover: (...) one-way, with cash as an asset.
        traded: (...) sum of |change| over the assets.
    """

    weights: np.ndarray
    cash: np.ndarray
    turnover: np.ndarray
    traded: np.ndarray


def trade(drifted: np.ndarray, target: np.ndarray, rule: Rule) -> Trades:
    """Trade towards targets.

    The portfolio is that of `within_band`. If its turnover exceeds the largest one, all of its trades are scaled down
    to that: z = d + tau / turnover (z - d). What is bought out of cash is not held back: the limit is the larger of tau
    and the cash, so that the first purchase is whole.

    Args:
        drifted: (..., N) d, the weights held, at least 0; what they lack to 1 is cash.
        target: (..., N) x, the weights decided, at least 0, sum 1.
        rule: how far to trade.
    """
    cash = 1 - drifted.sum(axis=-1)
    weights, left = within_band(drifted, target, rule.band), np.zeros_like(cash)
    turnover, traded = turnovers(weights - drifted)
    if rule.max_turnover is None:
        return Trades(weights=weights, cash=left, turnover=turnover, traded=traded)
    limit = np.maximum(rule.max_turnover, cash)
    over = turnover > limit * (1 + _EPS)
    share = np.where(over, limit / np.where(over, turnover, 1), 1)
    scaled = np.where(over[..., None], drifted + share[..., None] * (weights - drifted), weights)
    return Trades(weights=scaled, cash=(1 - share) * cash, turnover=share * turnover, traded=share * traded)


def turnovers(change: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the turnover and what is traded, (...) each, of (..., N) changes of weights."""
    traded = np.abs(change).sum(axis=-1)
    return (traded + np.abs(change.sum(axis=-1))) / 2, traded


def within_band(drifted: np.ndarray, target: np.ndarray, band: float) -> np.ndarray:
    """Return the portfolio nearest to a target that trades what is outside a band alone.

    It is z = argmin 1/2 |z - x|^2 + b |z - d|_1 over z >= 0, sum z = 1. By its optimality conditions
    z_i = max(0, d_i + S_b(x_i - nu - d_i)), S_b the soft threshold: an asset within the band keeps its weight, another
    is traded to the band's edge. nu is the root of the budget, whose sum falls in nu and is linear between the 3 N
    points x_i - d_i - b, x_i - d_i + b and x_i + b: they are sorted, and the root is solved for in its piece.

    Args:
        drifted: (..., N) d, at least 0, sum at most 1; the rest is cash, which is spent.
        target: (..., N) x, at least 0, sum 1.
        band: b, at least 0; with 0 the target is returned, and also where all is cash.

    Returns:
        (..., N) weights, at least 0, sum 1. Where nothing is cash and every asset is within the band they are the
        weights held, to the bit.

    Example:
        >>> within_band(np.array([0.5, 0.3, 0.2]), np.array([0.4, 0.38, 0.22]), 0.03).round(3).tolist()
        [0.44, 0.36, 0.2]
    """
    if band == 0:
        return target
    d, x, b = drifted, target, band
    low, high, out = x - d - b, x - d + b, x + b  # buys below, sells above, sold out from there on
    guess = _root(low, high, out)[..., None]
    buys, sells, gone = guess < low, (high < guess) & (guess < out), out <= guess
    count = (buys | sells).sum(axis=-1)
    fixed = np.where(buys, x - b, np.where(sells, out, np.where(gone, 0, d))).sum(axis=-1) - 1
    nu = np.where(count > 0, fixed / np.maximum(count, 1), guess[..., 0])[..., None]
    z = np.where(buys, x - (nu + b), np.where(sells, x - (nu - b), np.where(gone, 0, d)))
    held = d.sum(axis=-1)
    invested = np.abs(1 - held) <= 2 * _EPS * d.shape[-1]
    quiet = low.max(axis=-1) <= np.where(d > 0, high, np.inf).min(axis=-1)
    z = np.where((invested & quiet)[..., None], d, np.maximum(z, 0))
    return np.where((held == 0)[..., None], x, z)


def _root(low: np.ndarray, high: np.ndarray, out: np.ndarray) -> np.ndarray:
    """(...) the nu at which the weights sum to 1, by going down from where all are sold out."""
    n = low.shape[-1]
    points = np.concatenate([low, high, out], axis=-1)
    order = np.argsort(-points, axis=-1)
    points = np.take_along_axis(points, order, axis=-1)
    slopes = np.cumsum(np.where((n <= order) & (order < 2 * n), -1, 1), axis=-1)  # of the piece below each point
    sums = np.zeros_like(points)
    np.cumsum(slopes[..., :-1] * -np.diff(points, axis=-1), axis=-1, out=sums[..., 1:])
    place = np.maximum((sums < 1).sum(axis=-1) - 1, 0)[..., None]  # the last point at which they are less
    point, total, slope = (np.take_along_axis(values, place, axis=-1)[..., 0] for values in (points, sums, slopes))
    return point - (1 - total) / np.maximum(slope, 1)
