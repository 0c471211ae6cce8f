"""Weights held before the first rebalance, as users give them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import quote
from jaxalloc.markets.cells import as_number
from jaxalloc.markets.files import load_table

_SLACK = 1e-6  # by which weights may sum to more than 1, because files hold rounded numbers


def read_weights(path: str | os.PathLike[str]) -> pd.Series | pd.DataFrame:
    """Read weights by symbol from a CSV or Parquet file, as `previous_weights` takes them.

    Args:
        path: of a table whose first column holds the symbols. Beside it there is one column ``weight``, for every
            profile, or a column for each profile, by its name. An empty cell is a weight of 0.

    Returns:
        Series by symbol, or frame profile x symbol.

    Raises:
        InputError: it cannot be read, or is no such table.
    """
    frame = read_numbers(
        path,
        none="there are no weights; give the columns symbol and weight, or symbol and the profiles",
        form="give weights as fractions, such as 0.25",
    )
    return frame.iloc[:, 0] if [str(name).lower() for name in frame] == ["weight"] else frame.T


def read_numbers(path: str | os.PathLike[str], *, none: str, form: str) -> pd.DataFrame:
    """Read numbers by symbol, the first column, from a CSV or Parquet file; an empty cell is 0.

    Args:
        path: of the file.
        none: says what to give where there are none.
        form: says what to give where a cell is not a number.

    Returns:
        Frame symbol x the other columns.

    Raises:
        InputError: it cannot be read, or is no such table.
    """
    table = load_table(path, "long", [])
    symbols, (_, *names) = [str(symbol).strip() for symbol in table.columns[0]], table.names
    if not names or not symbols:
        raise table.error(none)
    columns = {}
    for name, column in zip(names, table.columns[1:], strict=True):
        values = [as_number(cell) for cell in column]
        for row, value in enumerate(values):
            if value is None:
                what = f"{quote(column.iloc[row])} in column {quote(name)}, {table.place(row)}, is not a number"
                raise table.error(f"{what}; {form}")
        if name in columns:
            raise table.error(f"more than one column is called {quote(name)}; keep one of them")
        columns[name] = np.nan_to_num(np.array(values, float), nan=0.0, posinf=np.inf, neginf=-np.inf)
    return pd.DataFrame(columns, index=pd.Index(symbols))


def previous_weights(given: Any, symbols: list[str], profiles: tuple[str, ...]) -> np.ndarray:
    """Return the (P, N) weights held before the first rebalance, 0 for a symbol that is not given.

    Args:
        given: None (nothing is held); weights by symbol, a mapping or Series; or for each profile: a mapping of these
            by profile, or a frame profile x symbol.
        symbols: the N assets.
        profiles: the P profiles.

    Raises:
        InputError: a symbol or profile is unknown, a weight is negative or no number, or a sum exceeds 1.
    """
    if given is None:
        return np.zeros((len(profiles), len(symbols)))
    by_profile = _by_profile(given)
    if by_profile is None:
        return np.tile(_one(given, symbols, "previous_weights"), (len(profiles), 1))
    unknown = [name for name in by_profile if name not in profiles]
    lacking = [name for name in profiles if name not in by_profile]
    if unknown or lacking:
        what = f"names {quote(unknown[0])}" if unknown else f"lacks {lacking[0]}"
        raise InputError(f"previous_weights {what}; give weights for each of the profiles {', '.join(profiles)}")
    return np.stack([_one(by_profile[name], symbols, f"previous_weights of {name}") for name in profiles])


def _by_profile(given: Any) -> dict[Any, Any] | None:
    """Weights by profile; None if all profiles have the same."""
    if isinstance(given, pd.DataFrame):
        return {name: given.loc[name] for name in given.index}
    if isinstance(given, Mapping) and any(isinstance(value, (Mapping, pd.Series)) for value in given.values()):
        return dict(given)
    if not isinstance(given, (Mapping, pd.Series)):
        raise InputError(
            "previous_weights must be weights by symbol, or a frame of them profile x symbol, "
            f"not a {type(given).__name__}"
        )
    return None


def _one(given: Any, symbols: list[str], name: str) -> np.ndarray:
    if not isinstance(given, (Mapping, pd.Series)):
        raise InputError(f"{name} must be weights by symbol, each once, not a {type(given).__name__}")
    place = {symbol: i for i, symbol in enumerate(symbols)}
    weights = np.zeros(len(symbols))
    if isinstance(given, pd.Series) and not given.index.is_unique:
        raise InputError(f"{name} names {quote(given.index[given.index.duplicated()][0])} twice; give each symbol once")
    for label, value in given.items():
        symbol = str(label)
        if symbol not in place:
            raise InputError(f"{name}: {quote(symbol)} is no symbol of the panel; add its returns, or leave it out")
        try:
            weight = float(value)
        except (TypeError, ValueError):
            weight = np.nan
        if not 0 <= weight < np.inf:
            raise InputError(f"{name}: the weight of {quote(symbol)} must be a number of at least 0, not {value!r}")
        weights[place[symbol]] = weight
    total = weights.sum()
    if total > 1 + _SLACK:
        raise InputError(f"{name} sum to {total:g}; give fractions that sum to at most 1, the rest is cash")
    return weights / max(total, 1.0)
