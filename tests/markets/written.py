"""A market of prices and the ways to write it as a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

DateFormat = str | Callable[[pd.Timestamp], str]


def prices(
    n_rows: int = 40,
    names: Sequence[str] = ("AAA", "BBB", "CCC"),
    start: str = "2024-01-02",
    freq: str = "B",
    first: Sequence[float] = (14.0, 67.0, 1230.0),
    digits: int = 2,
) -> pd.DataFrame:
    """A random walk of prices, rounded as files have them."""
    steps = np.random.default_rng(7).normal(0, 0.01, (n_rows, len(names)))
    levels = np.asarray(first[: len(names)]) * np.exp(np.cumsum(steps, axis=0))
    index = pd.date_range(start, periods=n_rows, freq=freq, name="Date")
    return pd.DataFrame(np.round(levels, digits), index=index, columns=list(names))


def plain(value: float) -> str:
    """A number with two decimals."""
    return f"{value:.2f}"


def continental(value: float) -> str:
    """1.234,50."""
    return f"{value:,.2f}".translate(str.maketrans(",.", ".,"))


def as_csv(
    table: pd.DataFrame,
    date: DateFormat = "%Y-%m-%d",
    delimiter: str = ",",
    number: Callable[[float], str] = plain,
    label: str = "Date",
    quoted: bool = False,
) -> str:
    """A wide table as text, every cell in the format that is asked for."""
    lines = [[label, *map(str, table.columns)]]
    for day, row in table.iterrows():
        shown = pd.Timestamp(str(day)).strftime(date) if isinstance(date, str) else date(pd.Timestamp(str(day)))
        lines.append([shown, *(cell if isinstance(cell, str) else number(cell) for cell in row)])
    return "".join(delimiter.join(f'"{c}"' if quoted else c for c in line) + "\n" for line in lines)
