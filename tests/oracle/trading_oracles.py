"""What is bought and what it comes to, an asset and a day at a time: the oracle of the walk-forwards' tests.

It is written from the definitions, in plain Python and NumPy, and imports nothing of the package.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

OUT, SOLD, KEPT, BOUGHT = range(4)


def within_band(held: np.ndarray, target: np.ndarray, band: float) -> np.ndarray:
    """Minimise 1/2 |z - x|^2 + b |z - d|_1 over z >= 0, sum z = 1, by trying what each asset may do.

    An asset is sold out, sold, kept or bought. Each of the 4^N combinations has one solution of the budget; the
    combination that violates the optimality conditions least is the answer.
    """
    d, x, b = held, target, band
    does = np.array(list(itertools.product((OUT, SOLD, KEPT, BOUGHT), repeat=len(d))))
    out, sold, kept, bought = (does == what for what in (OUT, SOLD, KEPT, BOUGHT))
    # the multipliers of the budget at which 0 lies in the subdifferential of what is sold out, and of what is kept
    low = np.where(out, np.where(d > 0, x + b, x - b), np.where(kept, x - d - b, -9)).max(axis=1)
    high = np.where(kept & (d > 0), x - d + b, 9).min(axis=1)
    free, fixed = sold | bought, np.where(kept, d, 0)
    edge = np.where(sold, x + b, x - b)
    some = free.any(axis=1)
    rest = np.where(free, edge, fixed).sum(axis=1) - 1
    nu = np.where(some, rest / np.maximum(free.sum(axis=1), 1), np.minimum(low, high))
    z = np.where(free, edge - nu[:, None], fixed)
    too_far = np.where(sold, z - d, np.where(bought, d - z, 0))
    wrong = np.stack([abs(z.sum(axis=1) - 1), low - nu, nu - high, -z.min(axis=1), too_far.max(axis=1)]).max(axis=0)
    assert wrong.min() < 1e-12, wrong.min()
    return np.maximum(z[wrong.argmin()], 0)


def turnover_and_traded(change: np.ndarray) -> tuple[float, float]:
    """Half of what the assets and cash change by; and what the assets change by."""
    with_cash = [*change, -sum(change)]
    return sum(abs(each) for each in with_cash) / 2, sum(abs(each) for each in change)


def bought(held: np.ndarray, target: np.ndarray, band: float, most: float | None) -> np.ndarray:
    """The weights after a rebalance: within the band, and scaled down to the largest turnover or the cash."""
    z = within_band(held, target, band) if band else target
    turnover, _ = turnover_and_traded(z - held)
    limit = np.inf if most is None else max(most, 1 - held.sum())
    return z if turnover <= limit else held + limit / turnover * (z - held)


@dataclasses.dataclass
class Simulated:
    """What one portfolio came to, day by day."""

    gross: dict[Any, float]
    net: dict[Any, float]
    turnover: dict[Any, float]
    traded: dict[Any, float]
    missing: dict[Any, int]
    weights: dict[Any, pd.Series]
    last: pd.Series


def simulate(
    returns: pd.DataFrame,
    targets: Mapping[int, pd.Series | None],
    cost: float,
    previous: pd.Series,
    band: float = 0.0,
    most: float | None = None,
) -> Simulated:
    """Hold one portfolio from the first row in ``targets`` on, a day and an asset at a time."""
    money = {symbol: float(previous[symbol]) for symbol in returns.columns}
    cash = 1 - sum(money.values())
    found = Simulated({}, {}, {}, {}, {}, {}, previous)
    rebalanced = None
    for row in range(min(targets), len(returns)) if targets else ():
        date, paid = returns.index[row], 0.0
        if row in targets:
            rebalanced, target = date, targets[row]
            wealth = sum(money.values()) + cash
            held = pd.Series({symbol: money[symbol] / wealth for symbol in money})
            new = held
            if target is not None:
                new = pd.Series(bought(held.to_numpy(), target.to_numpy(), band, most), index=held.index)
            found.turnover[date], found.traded[date] = turnover_and_traded((new - held).to_numpy())
            found.missing[date], found.weights[date] = 0, new
            paid = cost * found.traded[date]
            money, cash = {symbol: new[symbol] for symbol in money}, 1 - new.sum()
        before = sum(money.values()) + cash
        for symbol in money:
            r = returns.loc[date, symbol]
            if np.isnan(r):
                found.missing[rebalanced] += money[symbol] > 1e-6
            else:
                money[symbol] *= 1 + r
        after = sum(money.values()) + cash
        found.gross[date] = after / before - 1
        found.net[date] = (1 - paid) * after / before - 1
    total = sum(money.values()) + cash
    found.last = pd.Series({symbol: money[symbol] / total for symbol in money})
    return found
