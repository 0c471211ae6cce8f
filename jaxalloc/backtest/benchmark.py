"""A benchmark: a column of the panel that portfolios are compared with, and that is none of their assets."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import listing, literal, quote
from jaxalloc.backtest.performance import performance
from jaxalloc.backtest.schedule import Schedule
from jaxalloc.markets.dates import label_text
from jaxalloc.markets.panel import Panel
from jaxalloc.settings.config import AllocationConfig


class Benchmark(NamedTuple):
    """A series of returns that portfolios are compared with.

    Attributes:
        name: of its column.
        returns: (T,) by the panel's rows, NaN where missing.
    """

    name: str
    returns: np.ndarray

    def identity(self) -> dict[str, str]:
        """Return what identifies it: its name, and the hash of its returns, all gaps alike."""
        values = np.where(np.isnan(self.returns), np.nan, self.returns)
        digest = hashlib.sha256(np.ascontiguousarray(values, "<f8").tobytes()).hexdigest()
        return {"benchmark": self.name, "benchmark_sha256": digest}

    def check(self, labels: pd.Index, schedule: Schedule, resampled: bool) -> Benchmark:
        """Return the benchmark; raise `InputError` unless it has a return on every day held.

        Args:
            labels: of the panel's T rows.
            schedule: says on which rows portfolios are held.
            resampled: whether there are resampled paths, on which portfolios may be held on any row.
        """
        first = 0 if resampled else schedule.first_held
        missing = first + np.flatnonzero(np.isnan(self.returns[first:]))
        if len(missing):
            where = "rows that paths are drawn from" if resampled else "days held"
            count = f"{len(missing):,} of the {len(self.returns) - first:,} {where}"
            raise InputError(
                f"benchmark: {quote(self.name)} has no return on {count}, the first {label_text(labels[missing[0]])}; "
                "read the panel with missing='carry', give rows on which it has one, or choose another column"
            )
        return self

    def on(self, rows: np.ndarray) -> np.ndarray:
        """Return its (B, D) returns on (B, D) rows of the panel."""
        return self.returns[rows]

    def figures(self, schedule: Schedule, config: AllocationConfig) -> dict[str, float]:
        """Measure it on the days held, as `jaxalloc.backtest.performance.performance` does.

        Args:
            schedule: says which days those are.
            config: has the periods a year and the risk-free rate.
        """
        held = self.returns[schedule.first_held :]
        found = performance(held, config.periods_per_year, config.risk_free_rate)
        return {name: float(value) for name, value in found.items()}


def split_off(panel: Panel, name: Any) -> tuple[Panel, Benchmark]:
    """Return the panel without a column, and the benchmark that the column is.

    Args:
        panel: returns of the assets and of the benchmark.
        name: of the column.

    Raises:
        InputError: there is no such column, or no other.

    Example:
        >>> panel = Panel(pd.DataFrame({"AAA": [0.01, 0.02], "SPY": [0.0, 0.01]}))
        >>> assets, benchmark = split_off(panel, "SPY")
        >>> assets.symbols, benchmark.returns.tolist()
        (['AAA'], [0.0, 0.01])
    """
    if not isinstance(name, str):
        raise InputError(f"benchmark must be the name of a column of the panel, not {literal(name)}")
    if name not in panel.symbols:
        raise InputError(
            f"benchmark: {quote(name)} is no column of the panel; choose from {listing(map(quote, panel.symbols))}"
        )
    if panel.n_assets == 1:
        raise InputError(f"benchmark: {quote(name)} is the only asset; give a panel with another one")
    column = panel.symbols.index(name)
    prices = panel.last_prices
    assets = dataclasses.replace(
        panel,
        returns=panel.returns.drop(columns=name),
        last_prices=None if prices is None else prices.drop(labels=name),
    )
    return assets, Benchmark(name=name, returns=panel.values[:, column].copy())
