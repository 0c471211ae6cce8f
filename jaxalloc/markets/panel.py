"""Prices or returns, from files and frames -> a validated `Panel`.

A table is found (`jaxalloc.markets.files`) and laid out as dates x symbols (`jaxalloc.markets.layout`); here its
values are told to be prices or returns and checked, prices become simple returns, and gaps are resolved as the caller
chose. Whatever was decided on the way is said in `Panel.notes`; whatever cannot be used is an `InputError` of one line
that says what, where, and what to do.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import pandas as pd

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import counted, listing, quote
from jaxalloc.markets.cells import as_number
from jaxalloc.markets.dates import label_text
from jaxalloc.markets.files import load_table
from jaxalloc.markets.gaps import Missing, Noun, filled, inside_life, returns_of_prices, without_gaps
from jaxalloc.markets.kinds import (
    Kind,
    are_plainly_prices,
    check_prices,
    check_returns,
    decided_kind,
    odd_values,
    refuse,
)
from jaxalloc.markets.layout import lay_out
from jaxalloc.markets.table import Choices, Found, Layout

# written for a missing return in per cent by libraries of academic data
_MISSING_PER_CENT = (-99.99, -999.0, -9999.0, -999.99)


@dataclass(frozen=True, eq=False)
class Panel:
    """Validated returns of N assets on T dates, as `read_returns` makes it.

    Attributes:
        returns: (T, N) frame of float64, simple returns per period (0.01 is 1 %). The index (dates, or numbers where
            the rows had no dates) is sorted and unique, the columns are unique strings. NaN only where the caller
            chose ``missing="mask"`` or ``missing="carry"``.
        notes: one sentence for each thing that was decided about the input, in order; empty if nothing was.
        last_prices: (N,) the last price of each asset, on the last row that has one; None if the input held returns.
    """

    returns: pd.DataFrame
    notes: tuple[str, ...] = ()
    last_prices: pd.Series | None = None

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

    def __repr__(self) -> str:
        """Say what the panel holds, in at most five lines."""
        shown = listing((quote(name) for name in self.symbols), 4)
        lines = [
            f"Panel: {counted(self.n_observations, 'row')} of {counted(self.n_assets, 'asset')}",
            f"  rows    {label_text(self.dates[0])} to {label_text(self.dates[-1])}" if self.n_observations else "",
            f"  assets  {shown}",
            f"  gaps    {int(np.isnan(self.values).sum()):,} missing returns" if not self.complete.all() else "",
            f"  notes   {counted(len(self.notes), 'note')}, see .notes" if self.notes else "",
        ]
        return "\n".join(line for line in lines if line)

    def _repr_html_(self) -> str:
        """Return the panel's size and notes as a small table for a notebook."""
        rows = {
            "Rows": f"{self.n_observations:,}",
            "From": label_text(self.dates[0]) if self.n_observations else "",
            "To": label_text(self.dates[-1]) if self.n_observations else "",
            "Assets": f"{self.n_assets:,}: {listing(self.symbols, 8)}",
            "Missing returns": f"{int(np.isnan(self.values).sum()):,}",
        } | {f"Note {k}": note for k, note in enumerate(self.notes, 1)}
        return pd.Series(rows).to_frame("Panel").to_html(escape=True)


def as_panel(obj: Panel | pd.DataFrame) -> Panel:
    """Give a `Panel` back as it is, and validate a frame of returns as ``read_returns(obj, kind="returns")`` does.

    Raises:
        InputError: `obj` is neither, or the frame is not usable: it holds gaps (read it with ``missing=`` first), or
            prices.
    """
    if isinstance(obj, Panel):
        return obj
    if isinstance(obj, pd.DataFrame):
        return panel_of_frame(obj)
    raise InputError(
        f"expected a Panel or a pandas DataFrame of returns, got {type(obj).__name__}; use read_returns on a file"
    )


def panel_of_frame(frame: pd.DataFrame, missing: Missing = "error") -> Panel:
    """Validate a frame of returns where nothing is said about it; one that plainly holds prices is refused.

    Raises:
        InputError: the frame is not usable.
    """
    panel = read_returns(frame, kind="returns", missing=missing)
    if are_plainly_prices(panel.returns):
        raise InputError(
            "the frame: the numbers are above zero and move like levels, so they look like prices; give "
            "read_returns(frame, kind='prices'), or read_returns(frame, kind='returns') if they are returns"
        )
    return panel


def read_returns(
    source: str | os.PathLike[str] | pd.DataFrame | pd.Series,
    kind: Kind = "auto",
    missing: Missing = "error",
    *,
    dayfirst: bool | None = None,
    columns: str | Sequence[str] | None = None,
    layout: Layout = "auto",
    missing_tolerance: float = 0.05,
    sheet: str | None = None,
) -> Panel:
    """Read returns, or prices turned into simple returns p_t / p_{t-1} - 1, from a file or a frame.

    A file is known by its content: delimited text in any usual encoding, Parquet, Feather or a workbook (.xlsx), also
    compressed or alone in an archive. Its table may have a column an asset, a row an asset and date, the fields of one
    security (open, close, volume), fields of several, dates that run across, or a column of dates beside each column of
    values. Titles, footers and comments around it are left out. Numbers may have groups of thousands, a decimal comma,
    signs of currency and per cent, and brackets for negatives. What was decided is in `Panel.notes`.

    Args:
        source: path of a file, or a frame or series of pandas. A frame has its dates in its index or in a column, or
            numbers its rows.
        kind: "prices" (> 0), "returns" (simple, per period, as fractions), "percent" (returns of which 5 is 5 %), or
            "factors" (growth factors 1 + r). "auto" tells prices (above zero, moving like levels) from returns (both
            signs, a median size below 0.5) and refuses everything else.
        missing: what becomes of gaps. Returns of prices never lose a move: a return after a gap goes from the last
            price before it. "error" refuses gaps; "mask" leaves NaN (an asset is then active in the universes of
            which it misses few rows); "carry" puts a return of 0 on a row without a value between an asset's first
            and last, and leaves rows before and after missing (a gap at the end no longer than one before is none);
            "zero" puts 0 there, too; "drop-rows" drops the rows of the table in which an asset is missing, prices
            before returns are taken; "drop-assets" first drops the symbols that miss more than `missing_tolerance` of
            the rows.
        dayfirst: whether 01/02/2020 is the first of February (True) or the second of January (False). By default that
            is settled by dates that allow one reading only, or by the order of the rows.
        columns: names of the assets to take, in that order, or of the field to take where there are several, such as
            "Open".
        layout: "wide", "long" (a row a date and symbol), or "auto".
        missing_tolerance: the share of missing values, in [0, 1], that a symbol may have and be kept; used by
            "drop-assets" only. A symbol without any value is always dropped there.
        sheet: of a workbook; by default the first that holds a table.

    Returns:
        The panel, with a note for each thing that was decided.

    Raises:
        InputError: the input or an argument is at fault; one line that says what, where, and what to do.
    """
    for argument, choice, options in (("kind", kind, Kind), ("missing", missing, Missing), ("layout", layout, Layout)):
        if choice not in get_args(options):
            raise InputError(f"{argument} is {quote(choice)}; it must be one of {str(get_args(options))[1:-1]}")
    if dayfirst is not None and not isinstance(dayfirst, bool | np.bool_):
        raise InputError(f"dayfirst is {quote(dayfirst)}; it must be True, False, or None to settle it by the dates")
    tolerance = _tolerance(missing_tolerance)
    notes: list[str] = []
    table = load_table(source, layout, notes, sheet)
    choices = Choices(
        layout=layout, dayfirst=dayfirst, columns=_names(columns), returns=kind in ("returns", "percent", "factors")
    )
    found = lay_out(table, choices, notes)
    name = table.source
    noun, values = _as_prices_or_returns(found, kind, name, notes)
    returns = _returns(values, noun, missing, tolerance, name, notes)
    _check_varying(returns, name)
    last = pd.Series(values[returns.columns].ffill().iloc[-1], name="price") if noun == "price" else None
    return Panel(returns=returns, notes=tuple(notes), last_prices=last)


def _as_prices_or_returns(found: Found, kind: Kind, source: str, notes: list[str]) -> tuple[Noun, pd.DataFrame]:
    """The numbers as prices or as returns in fractions, and which."""
    values = found.values
    in_per_cent = found.per_cent
    if kind == "auto" and in_per_cent and not (values[in_per_cent] < 0).to_numpy().any():
        in_per_cent = []  # prices of bonds are per cents, too
    if kind in ("auto", "returns") and in_per_cent:
        notes.append(f"Divided by 100 what the header says is in per cent: {listing(map(quote, in_per_cent))}.")
        values = values.copy()
        values[in_per_cent] /= 100
    if kind == "auto":
        _check_rows(len(values), source)
        kind = decided_kind(values, source, notes)
    if kind == "prices":
        check_prices(values, source)
        return "price", values
    if kind == "percent":
        marks = values.isin(_MISSING_PER_CENT)
        if marks.to_numpy().any():
            notes.append(f"Took {counted(int(marks.to_numpy().sum()), 'cell')} such as -99.99 for missing.")
        values = values.mask(marks) / 100
    elif kind == "factors":
        check_prices(values, source)
        values = values - 1
    check_returns(values, source)
    return "return", values


def _returns(
    values: pd.DataFrame, noun: Noun, missing: Missing, tolerance: float, source: str, notes: list[str]
) -> pd.DataFrame:
    """Returns of prices or returns, gaps resolved."""
    complete = not np.isnan(values.to_numpy()).any()
    if noun == "price":
        _check_rows(len(values) - 1, source)
        empty = np.zeros(len(values), bool) if complete else np.isnan(values.to_numpy()).all(axis=1)
        if empty.any() and not empty.all():
            day = label_text(values.index[int(np.argmax(empty))])
            notes.append(f"Left out {counted(int(empty.sum()), 'row')} without a single price, the first {day}.")
            values = values.loc[~empty]
            _check_rows(len(values) - 1, source)
            complete = not np.isnan(values.to_numpy()).any()
    else:
        _check_rows(len(values), source)
    if missing != "drop-assets" and not complete:
        _check_not_empty(values, noun, source)
    if not complete:
        values = without_gaps(values, noun, missing, tolerance, source, notes)
    returns = values
    if noun == "price":
        returns = returns_of_prices(values)
        infinite = np.isinf(returns.to_numpy())
        refuse(infinite, returns, source, "returns too large for a number", "correct the prices")
        notes.append(f"Turned {counted(len(values), 'row')} of prices into {counted(len(returns), 'row')} of returns.")
    notes.extend(odd_values(returns, "prices" if noun == "price" else "returns"))
    if complete and missing != "error":
        notes.append("No return was missing.")
    if complete:
        return returns
    listed = inside_life(values.to_numpy())
    if noun == "price":  # the first price has no return
        listed = listed[:-1] & listed[1:]
    return filled(returns, noun, listed, missing, notes)


# ---- checking values ------------------------------------------------------------------------------------------------


def _check_rows(n_returns: int, source: str) -> None:
    if n_returns < 2:
        raise InputError(f"{source}: too few rows; give at least two rows of returns, or three of prices")


def _check_not_empty(values: pd.DataFrame, noun: Noun, source: str) -> None:
    needed = 2 if noun == "price" else 1
    empty = values.columns[np.count_nonzero(~np.isnan(values.to_numpy()), axis=0) < needed]
    if len(empty):
        why = "; a return needs two prices" if noun == "price" else ""
        raise InputError(
            f"{source}: symbols without a single return ({len(empty)} of {values.shape[1]}): "
            f"{listing(map(quote, empty))}{why}; remove the columns, or choose missing='drop-assets'"
        )


def _check_varying(returns: pd.DataFrame, source: str) -> None:
    values = returns.to_numpy()
    low, high = np.fmin.reduce(values, axis=0), np.fmax.reduce(values, axis=0)
    still = np.flatnonzero(low == high)
    if len(still):
        names = listing(f"{quote(returns.columns[k])} (every return is {low[k]:g})" for k in still)
        raise InputError(
            f"{source}: symbols that are constant over the {len(returns):,} rows of returns "
            f"({len(still)} of {returns.shape[1]}): {names}; remove the columns, they carry no risk to weigh"
        )


# ---- arguments -------------------------------------------------------------------------------------------------------


def _names(columns: object) -> tuple[str, ...]:
    names = (columns,) if isinstance(columns, str) else () if columns is None else columns
    if not isinstance(names, Sequence) or not all(isinstance(name, str) and name for name in names):
        raise InputError(f"columns is {quote(columns)}; it must be a name or a list of names, such as ['AAA', 'BBB']")
    return tuple(name.strip() for name in names)


def _tolerance(value: object) -> float:
    share = as_number(value)
    if isinstance(value, str) or share is None or not 0.0 <= share <= 1.0:
        raise InputError(f"missing_tolerance is {quote(value)}; it must be a share between 0 and 1, such as 0.05")
    return share
