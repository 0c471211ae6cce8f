"""Prices or returns, from files and frames -> a validated `Panel`.

A table is found (`jaxalloc.markets.files`) and laid out as dates x symbols (`jaxalloc.markets.layout`); here its
values are checked, prices become simple returns, and missing returns are resolved as the caller chose. Whatever was
done to the input on the way is said in `Panel.notes`; whatever cannot be used is an `InputError` of one line that says
what, where, and what to do. Nothing is guessed silently: ambiguous dates, text in a cell and gaps are errors.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import counted, listing, quote
from jaxalloc.markets.files import Layout, as_number, load_table
from jaxalloc.markets.layout import label_text, lay_out

Kind = Literal["returns", "prices"]
Missing = Literal["error", "mask", "zero", "drop-assets", "drop-rows"]


@dataclass(frozen=True, eq=False)
class Panel:
    """Validated returns of N assets on T dates, as `read_returns` makes it.

    Attributes:
        returns: (T, N) frame of float64, simple returns per period (0.01 is 1 %). The index (dates, or numbers where
            the rows had no dates) is sorted and unique, the columns are unique strings. NaN only where the caller
            chose `missing="mask"`.
        notes: one sentence for each thing that was done to the input, in order; empty if nothing was.
    """

    returns: pd.DataFrame
    notes: tuple[str, ...] = ()

    @property
    def values(self) -> np.ndarray:
        """The returns as a (T, N) float64 array."""
        return self.returns.to_numpy(dtype=np.float64)

    @property
    def complete(self) -> np.ndarray:
        """(N,) bool, the assets that have a return in every row."""
        return np.asarray(np.isfinite(self.values).all(axis=0))

    @property
    def symbols(self) -> list[str]:
        """The N column names."""
        return [str(name) for name in self.returns.columns]

    @property
    def dates(self) -> pd.Index:
        """The T row labels."""
        return self.returns.index

    @property
    def n_observations(self) -> int:
        """T, the number of rows."""
        return self.returns.shape[0]

    @property
    def n_assets(self) -> int:
        """N, the number of columns."""
        return self.returns.shape[1]


def as_panel(obj: Panel | pd.DataFrame) -> Panel:
    """Give a `Panel` back as it is, and validate a frame of returns as `read_returns(obj, kind="returns")` does.

    Raises:
        InputError: `obj` is neither, or the frame is not usable (it may hold no gaps: read it with `missing=` first).
    """
    if isinstance(obj, Panel):
        return obj
    if isinstance(obj, pd.DataFrame):
        return read_returns(obj, kind="returns")
    raise InputError(
        f"expected a Panel or a pandas DataFrame of returns, got {type(obj).__name__}; use read_returns on a file"
    )


def read_returns(
    source: str | os.PathLike[str] | pd.DataFrame,
    kind: Kind = "returns",
    missing: Missing = "error",
    *,
    layout: Layout = "auto",
    missing_tolerance: float = 0.05,
) -> Panel:
    """Read returns, or prices turned into simple returns p_t / p_{t-1} - 1, from a file or a frame.

    Args:
        source: path of a CSV (.csv, .csv.gz, .txt; comma, or else tab, semicolon or bar) or Parquet (.parquet, .pq)
            file, other suffixes by content; or a DataFrame. The first column of a CSV holds the dates; a frame or
            Parquet file has them in its index or in a column named "date", or numbers its rows.
        kind: "returns" (simple, per period, as fractions) or "prices" (> 0). A missing price makes the returns that
            touch it missing: nothing is filled forward across a gap.
        missing: what becomes of missing returns. "error" refuses them; "mask" leaves NaN (an asset is then active in
            the universes for whose rows it is complete); "zero" fills in a return of 0; "drop-assets" drops symbols
            that miss more than `missing_tolerance` of the rows, then the rows that a kept symbol misses; "drop-rows"
            drops every row with a gap. Empty cells and NA, NaN, null, None, N/A (in any case) are missing.
        layout: "wide", "long" (date, symbol, value: by name, else in this order), or "auto": long if the table has
            just three columns with such names (symbol, asset or ticker; value, price, return or close).
        missing_tolerance: the share of missing returns, in [0, 1], that a symbol may have and be kept; used by
            "drop-assets" only. A symbol without any return is always dropped there.

    Returns:
        The panel, with a note for each thing that was done to the input.

    Raises:
        InputError: the input or an argument is at fault; one line that says what, where, and what to do.
    """
    for argument, choice, options in (("kind", kind, Kind), ("missing", missing, Missing), ("layout", layout, Layout)):
        if choice not in get_args(options):
            raise InputError(f"{argument} is {quote(choice)}; it must be one of {str(get_args(options))[1:-1]}")
    tolerance = _tolerance(missing_tolerance)
    table = load_table(source, layout)
    found, notes = lay_out(table, layout)
    name = table.source
    if kind == "prices":
        returns = _simple_returns(found, name)
        notes.append(f"Turned {counted(len(found), 'row')} of prices into {counted(len(returns), 'row')} of returns.")
    else:
        _check_returns(found, name)
        returns = found
    if missing != "drop-assets":
        _check_not_empty(returns, kind, name)
    if missing == "error":
        _check_complete(found, kind, name)
    returns = _resolve_missing(returns, missing, tolerance, name, notes)
    _check_varying(returns, name)
    return Panel(returns, tuple(notes))


# ---- checking values ------------------------------------------------------------------------------------------------


def _refuse(bad: pd.DataFrame, frame: pd.DataFrame, source: str, what: str, fix: str) -> None:
    """Name the first cell, by date, where `bad` holds, if there is one."""
    places = np.argwhere(bad.to_numpy())
    if len(places):
        row, column = (int(k) for k in places[0])
        raise InputError(
            f"{source}: {what} ({len(places):,}), the first in column {quote(frame.columns[column])}, "
            f"row {label_text(frame.index[row])}: {frame.iat[row, column]:g}; {fix}"
        )


def _check_rows(n_returns: int, source: str) -> None:
    if n_returns < 2:
        raise InputError(f"{source}: too few rows; give at least two rows of returns, or three of prices")


def _simple_returns(prices: pd.DataFrame, source: str) -> pd.DataFrame:
    _check_rows(len(prices) - 1, source)
    fix = "correct the cell, or leave it empty if the price is missing"
    _refuse(prices.isin([np.inf, -np.inf]), prices, source, "infinite prices", fix)
    _refuse(prices <= 0, prices, source, "prices not above zero", f"{fix}; if these are returns, say kind='returns'")
    returns = (prices / prices.shift(1) - 1.0).iloc[1:]
    _refuse(returns.isin([np.inf]), returns, source, "returns too large for a number", "correct the prices")
    return returns


def _check_returns(returns: pd.DataFrame, source: str) -> None:
    _check_rows(len(returns), source)
    fix = "correct the cell, or leave it empty if the return is missing"
    _refuse(returns.isin([np.inf, -np.inf]), returns, source, "infinite returns", fix)
    values = returns.to_numpy()[returns.notna().to_numpy()]
    typical = float(np.median(np.abs(values))) if values.size else 0.0
    if typical > 1.0:
        guess = "prices; say kind='prices'"
        if (values < 0).any():
            guess = "per cent; divide them by 100, so that a return of 5 % is 0.05"
        raise InputError(f"{source}: the median size of the returns is {typical:g}, so they look like {guess}")
    fix += "; returns are fractions: a loss of 5 % is -0.05, of everything -1"
    _refuse(returns < -1.0, returns, source, "returns below -1", fix)
    for name, column in returns.items():  # an index level or a yield left among the returns
        seen = column.dropna()
        if len(seen) and seen.min() > 0 and seen.median() > 1.0:
            raise InputError(
                f"{source}: column {quote(name)} looks like prices among returns (its median is "
                f"{seen.median():g}); remove it, or turn it into returns"
            )


def _check_not_empty(returns: pd.DataFrame, kind: Kind, source: str) -> None:
    empty = returns.columns[returns.isna().all()]
    if len(empty):
        why = "; a return needs prices on two consecutive rows" if kind == "prices" else ""
        raise InputError(
            f"{source}: symbols without a single return ({len(empty)} of {returns.shape[1]}): "
            f"{listing(map(quote, empty))}{why}; remove the columns, or choose missing='drop-assets'"
        )


def _check_varying(returns: pd.DataFrame, source: str) -> None:
    low = returns.min()
    still = low.loc[returns.max() == low]
    if len(still):
        names = listing(f"{quote(name)} (every return is {value:g})" for name, value in still.items())
        raise InputError(
            f"{source}: symbols that are constant over the {len(returns):,} rows of returns "
            f"({len(still)} of {returns.shape[1]}): {names}; remove the columns, they carry no risk to weigh"
        )


# ---- missing returns ------------------------------------------------------------------------------------------------


def _check_complete(found: pd.DataFrame, kind: Kind, source: str) -> None:
    counts = found.isna().sum()
    if counts.any():
        raise InputError(
            f"{source}: missing {kind} ({int(counts.sum()):,}, in {int((counts > 0).sum())} of "
            f"{counted(len(counts), 'symbol')}): {_gaps(counts)}; choose missing='mask' (keep the gaps: an asset is "
            "active only where its rows are complete), 'zero' (a return of 0), 'drop-assets' (symbols with more gaps "
            "than missing_tolerance) or 'drop-rows' (rows with a gap)"
        )


def _resolve_missing(
    returns: pd.DataFrame, missing: Missing, tolerance: float, source: str, notes: list[str]
) -> pd.DataFrame:
    counts = returns.isna().sum()
    if not counts.any():
        if missing != "error":
            notes.append("No return was missing.")
        return returns
    gaps = f"{counted(int(counts.sum()), 'missing return')} in {counted(int((counts > 0).sum()), 'symbol')}"
    if missing == "mask":
        notes.append(
            f"Left {gaps} as gaps: {_gaps(counts)}. An asset is active in the universes for whose rows it is complete."
        )
        return returns
    if missing == "zero":
        notes.append(f"Filled {gaps} with a return of zero: {_gaps(counts)}.")
        return returns.fillna(0.0)
    if missing == "drop-assets":
        out = (counts / len(returns) > tolerance) | (counts == len(returns))
        share = f"more than {100 * tolerance:g} % of" if tolerance < 1 else "all of"
        share += f" the {len(returns):,} returns"
        if out.all():
            raise InputError(
                f"{source}: every symbol misses {share}, so none is left: {_gaps(counts)}; raise missing_tolerance "
                "or choose another way to treat missing returns"
            )
        if out.any():
            notes.append(
                f"Dropped {int(out.sum())} of {counted(len(out), 'symbol')} for missing {share}: "
                f"{_gaps(counts.loc[out], shown=len(out))}."
            )
            returns = returns.loc[:, ~out]
    gap = returns.isna().any(axis=1)
    n_left = int((~gap).sum())
    if n_left < 2:
        raise InputError(
            f"{source}: dropping rows with a missing return leaves {n_left} of {counted(len(returns), 'row')}, two are "
            f"needed: {_gaps(returns.isna().sum())}; remove these symbols, or choose missing='drop-assets' with a "
            "smaller missing_tolerance"
        )
    if gap.any():
        notes.append(f"Dropped {int(gap.sum()):,} of {counted(len(gap), 'row')}, each with a missing return.")
    return returns.loc[~gap]


# ---- words -----------------------------------------------------------------------------------------------------------


def _tolerance(value: object) -> float:
    share = as_number(value)
    if isinstance(value, str) or share is None or not 0.0 <= share <= 1.0:
        raise InputError(f"missing_tolerance is {quote(value)}; it must be a share between 0 and 1, such as 0.05")
    return share


def _gaps(counts: pd.Series, shown: int = 5) -> str:
    """The symbols with gaps and how many, worst first."""
    worst = counts.loc[counts > 0].sort_values(ascending=False, kind="stable")
    return listing((f"{quote(name)} ({n:,})" for name, n in worst.items()), shown)
