"""orders(): a target in weights -> whole lots to buy and sell."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.numbers import one_number, whole_number
from jaxalloc.arguments.words import counted, literal, quote, unquoted
from jaxalloc.backtest.previous import read_numbers
from jaxalloc.backtest.trading import Rule, trade

_SLACK = 1e-6  # by which weights may sum to more than 1, because files hold rounded numbers
_ROUNDING = 1e-12  # relative: what a sum or a quotient of prices may be off by


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Orders:
    """What to buy and sell; made by `orders`.

    Attributes:
        frame: index "symbol", every symbol of the target or held; columns held (number of shares now), shares (number
            to hold), trade (shares - held: bought above 0, sold below), price (NaN where none was needed), value
            (shares times price), weight (value / capital) and target (weight).
        cash: what is left of the capital.
    """

    frame: pd.DataFrame
    cash: float

    def __repr__(self) -> str:
        """Say how many orders there are, and what they come to."""
        trade, price = (self.frame[name].to_numpy(float) for name in ("trade", "price"))
        bought, sold = (float(np.nan_to_num(price) @ np.maximum(side, 0)) for side in (trade, -trade))
        traded = counted(int(np.count_nonzero(trade)), "trade")
        return f"Orders: {traded}, {bought:,.2f} bought and {sold:,.2f} sold, {self.cash:,.2f} left in cash"

    def _repr_html_(self) -> str:
        """The frame as a table for a notebook, and the cash."""
        return f"{self.frame.to_html(escape=True)}<p>{self!r}</p>"


def orders(target: Any, held: Any, prices: Any, capital: Any, lot: Any = 1) -> Orders:
    """Turn a target into whole lots: nothing overspent, nothing short, what is left in cash.

    Each symbol gets the whole lots that its weight of the capital buys. What that leaves of the capital to be invested
    buys one more lot each, as far as it goes, in the order of the largest remainders (the fraction of a lot that is
    lacking; of equal ones the first). So the number of shares differs from the ideal one, weight x capital / price, by
    less than a lot.

    Args:
        target: weights by symbol, a mapping or Series; at least 0, sum at most 1, the rest stays in cash.
        held: number of shares by symbol now, or None for none. What is in no whole lots, or is no part of the target,
            is sold.
        prices: by symbol; of each that is held or wanted.
        capital: all wealth: the value of what is held, and the cash.
        lot: number of shares in a lot, a whole number; or these by symbol.

    Returns:
        `Orders`.

    Raises:
        InputError: a symbol has no price or no lot, a number is out of range, or the capital is less than what is held
            is worth.

    Example:
        >>> found = orders({"A": 0.6, "B": 0.4}, {"B": 9}, {"A": 70, "B": 30}, capital=1000)
        >>> found.frame[["held", "shares", "trade", "value"]]
                held  shares  trade  value
        symbol
        A        0.0     8.0    8.0  560.0
        B        9.0    14.0    5.0  420.0
        >>> found.cash
        20.0
    """
    weights = _numbers(target, "target", "the weight of", "weights by symbol")
    shares_now = (
        {} if held is None else _numbers(held, "held", "the number of shares of", "numbers of shares by symbol")
    )
    total = math.fsum(weights.values())
    if total > 1 + _SLACK:
        raise InputError(f"target sums to {total:g}; give weights that sum to at most 1, the rest stays in cash")
    wealth = one_number("capital", capital)
    if wealth <= 0:
        raise InputError(f"capital must be above 0, not {literal(capital)}")
    symbols = [*weights, *(symbol for symbol in shares_now if symbol not in weights)]
    x = np.array([weights.get(symbol, 0.0) for symbol in symbols]) / max(total, 1.0)
    now = np.array([shares_now.get(symbol, 0.0) for symbol in symbols])
    price = _prices(prices, symbols, (x > 0) | (now > 0))
    size = _lots(lot, symbols)
    worth = float(now @ np.nan_to_num(price))
    if worth > wealth * (1 + _SLACK):
        raise InputError(
            f"capital is {wealth:,.2f}, less than the {worth:,.2f} that what is held is worth; give all wealth, what "
            "is held and the cash"
        )
    shares = size * _whole_lots(x * wealth, np.nan_to_num(price, nan=1.0) * size)
    value = shares * np.nan_to_num(price)
    frame = pd.DataFrame(
        {
            "held": now,
            "shares": shares,
            "trade": shares - now,
            "price": price,
            "value": value,
            "weight": value / wealth,
            "target": x,
        },
        index=pd.Index(symbols, name="symbol"),
    )
    return Orders(frame=frame, cash=max(0.0, wealth - float(value.sum())))


def orders_within(rule: Rule, target: Any, held: Any, prices: Any, capital: Any, lot: Any = 1) -> Orders:
    """Make the orders for a target that is traded towards as far as a rule says, from what is held.

    Args:
        rule: how far to trade.
        target: as `orders` takes it, like all that follow.
        held: likewise.
        prices: likewise.
        capital: likewise.
        lot: likewise.
    """
    whole = orders(target, held, prices, capital, lot)
    now = (whole.frame["held"] * whole.frame["price"].fillna(0)).to_numpy() / one_number("capital", capital)
    now = now / max(1.0, now.sum())
    weights = trade(now, whole.frame["target"].to_numpy(), rule).weights
    return orders(pd.Series(weights, index=whole.frame.index), held, prices, capital, lot)


def read_shares(path: str | os.PathLike[str]) -> pd.Series:
    """Read numbers of shares by symbol from a CSV or Parquet file with the columns symbol and shares.

    Raises:
        InputError: it cannot be read, or is no such table.
    """
    form = "give the columns symbol and shares"
    frame = read_numbers(path, none=f"there are no shares; {form}", form="give numbers of shares, such as 100")
    if frame.shape[1] > 1:
        raise InputError(f"{unquoted(path)}: there are {frame.shape[1]} columns beside the symbols; {form}")
    return frame.iloc[:, 0]


def _whole_lots(money: np.ndarray, lot_value: np.ndarray) -> np.ndarray:
    """(N,) lots that (N,) amounts of money buy, the largest remainders rounded up as far as their sum goes."""
    ideal = money / lot_value
    nearest = np.rint(ideal)
    whole = np.abs(ideal - nearest) <= _ROUNDING * np.maximum(ideal, 1)
    lots = np.where(whole, nearest, np.floor(ideal))
    lacking = np.where(whole, 0, ideal - lots)
    left = money.sum() * (1 + _ROUNDING) - lots @ lot_value
    for i in np.argsort(-lacking, kind="stable"):
        if lacking[i] > 0 and lot_value[i] <= left:
            lots[i] += 1
            left -= lot_value[i]
    return lots


def _numbers(given: Any, name: str, what: str, kind: str) -> dict[str, float]:
    """Numbers of at least 0 by symbol; ``what`` and ``kind`` are the words for one and for all of them."""
    if not isinstance(given, (Mapping, pd.Series)):
        raise InputError(f"{name} must be {kind}, a mapping or Series, not a {type(given).__name__}")
    numbers: dict[str, float] = {}
    for label, value in given.items():
        symbol = str(label)
        if symbol in numbers:
            raise InputError(f"{name} names {quote(symbol)} twice; give each symbol once")
        number = _number(value)
        if not 0 <= number < math.inf:
            raise InputError(f"{name}: {what} {quote(symbol)} must be a number of at least 0, not {literal(value)}")
        numbers[symbol] = number
    return numbers


def _number(value: Any) -> float:
    """A value as a float; NaN if it is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _prices(given: Any, symbols: list[str], needed: np.ndarray) -> np.ndarray:
    """(N,) prices; NaN where there is none and none is needed."""
    if not isinstance(given, (Mapping, pd.Series)):
        raise InputError(f"prices must be prices by symbol, a mapping or Series, not a {type(given).__name__}")
    if isinstance(given, pd.Series) and not given.index.is_unique:
        twice = given.index[given.index.duplicated()][0]
        raise InputError(f"prices names {quote(twice)} twice; give each symbol once")
    known = {str(label): value for label, value in given.items()}
    prices = np.array([_number(known.get(symbol, math.nan)) for symbol in symbols])
    wrong = needed & ~((prices > 0) & np.isfinite(prices))
    if wrong.any():
        symbol = symbols[int(np.argmax(wrong))]
        value = known.get(symbol)
        if value is None or (isinstance(value, float) and math.isnan(value)):
            raise InputError(
                f"prices has none of {quote(symbol)}, which is held or wanted; give its price, or leave it out"
            )
        raise InputError(f"prices: that of {quote(symbol)} must be a number above 0, not {literal(value)}")
    return np.where(needed | (np.isfinite(prices) & (prices > 0)), prices, np.nan)


def _lots(given: Any, symbols: list[str]) -> np.ndarray:
    """(N,) shares in a lot."""
    if not isinstance(given, (Mapping, pd.Series)):
        return np.full(len(symbols), float(whole_number("lot", _plain(given), 1)))
    known = {str(label): _plain(value) for label, value in given.items()}
    lacking = next((symbol for symbol in symbols if symbol not in known), None)
    if lacking is not None:
        raise InputError(f"lot has none of {quote(lacking)}; give the lot of each symbol, or one number for all")
    return np.array([float(whole_number(f"lot of {quote(symbol)}", known[symbol], 1)) for symbol in symbols])


def _plain(value: Any) -> Any:
    """A whole number that a table holds as a float, such as 100.0, as an int; anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
