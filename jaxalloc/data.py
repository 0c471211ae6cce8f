"""Files and frames of prices or returns -> a validated `Panel`: the only module that reads files.

A table comes in one of two layouts. *Wide*: one row a date, one column a symbol. *Long*: one row a (date, symbol,
value). It is first found (`_from_file`, `_from_frame`), then laid out as dates x symbols (`_wide`, `_long`), then its
values are checked, prices become simple returns, and missing returns are resolved as the caller chose. Whatever was
done to the input on the way is said in `Panel.notes`; whatever cannot be used is an `InputError` of one line that
says what, where, and what to do. Nothing is guessed silently: ambiguous dates, text in a cell and gaps are errors.
"""

from __future__ import annotations

import csv
import gzip
import io
import numbers
import os
import re
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import pandas as pd
from pandas.tseries.api import guess_datetime_format

from jaxalloc.errors import InputError

Kind = Literal["returns", "prices"]
Missing = Literal["error", "mask", "zero", "drop-assets", "drop-rows"]
Layout = Literal["auto", "wide", "long"]

# "unnamed: 0" is what pandas calls the index column of a file that was read without index_col.
_ROLES = {
    "date": {"date", "dates", "datetime", "timestamp", "unnamed: 0"},
    "symbol": {"symbol", "asset", "ticker"},
    "value": {"value", "price", "prices", "return", "returns", "close"},
}
_MISSING_TEXTS = frozenset({"", "na", "nan", "null", "none", "n/a", "#n/a", "<na>"})
_OFFSET = re.compile(r"(?<=:\d\d)(?:\.\d+)?\s*(Z|[+-]\d\d:?(?:\d\d)?)$")


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
            raise InputError(f"{argument} is {_quote(choice)}; it must be one of {str(get_args(options))[1:-1]}")
    tolerance = _tolerance(missing_tolerance)
    table = _load(source, layout)
    notes: list[str] = []
    found = _long(table, notes) if _is_long(table, layout) else _wide(table, notes)
    name = table.source
    if kind == "prices":
        returns = _simple_returns(found, name)
        notes.append(f"Turned {_count(len(found), 'row')} of prices into {_count(len(returns), 'row')} of returns.")
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


# ---- finding the table ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Table:
    """A table as it was found: its shape is right, nothing else is checked."""

    source: str  # what the messages call it
    names: list[str]  # stripped; "" where there is none
    columns: list[pd.Series]  # raw cells, one Series a name, all on 0..rows-1
    date: int  # the column that holds the dates in the wide layout
    lines: list[int] | None = None  # of a text file, the line that each row ends on
    stacked: bool = False  # a single column on a two-level index: `frame.stack()`

    def place(self, row: int | np.integer) -> str:
        return f"line {self.lines[row]}" if self.lines else f"row number {row + 1}"

    def error(self, text: str) -> InputError:
        return InputError(f"{self.source}: {text}")


def _load(source: object, layout: Layout) -> _Table:
    if isinstance(source, pd.DataFrame):
        return _from_frame(source, "the frame", layout)
    if isinstance(source, str | os.PathLike):
        return _from_file(Path(source), layout)
    raise InputError(
        f"cannot read returns from {type(source).__name__}; give a path, or a DataFrame such as "
        "pandas.DataFrame(array, columns=symbols)"
    )


def _from_file(path: Path, layout: Layout) -> _Table:
    source = repr(str(path)[-200:])[1:-1]  # escapes what could break the message's single line
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{source}: there is no such file; check the path") from None
    except IsADirectoryError:
        raise InputError(f"{source}: this is a directory; give the path of one CSV or Parquet file") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or _first_line(error)
        raise InputError(f"{source}: the file cannot be read ({reason}); check the path and its permissions") from None
    suffix = path.suffix.lower()
    if suffix in {".parquet", ".pq"} or (suffix not in {".csv", ".txt", ".gz"} and content[:4] == b"PAR1"):
        return _from_frame(_parquet_frame(content, source), source, layout)
    try:
        text = (gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error):
        raise InputError(f"{source}: the gzip file is damaged or cut short; compress it again") from None
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise InputError(f"{source}: this is not a table in UTF-8 text; save it as CSV (UTF-8) or as Parquet")
    return _csv_table(text, source)


def _parquet_frame(content: bytes, source: str) -> pd.DataFrame:
    import pyarrow
    import pyarrow.parquet

    try:
        # not read_table, which takes a file whose columns repeat a name for an unreadable one
        frame = pyarrow.parquet.ParquetFile(io.BytesIO(content)).read().to_pandas()
    except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
        raise InputError(f"{source}: not a readable Parquet file ({_first_line(error)}); write it again") from None
    return frame


def _csv_table(text: str, source: str) -> _Table:
    """Text -> cells; those that are not numbers stay text until the layout is known."""
    first = text.lstrip("\r\n ").partition("\n")[0]
    delimiter = "," if "," in first else next((mark for mark in "\t;|" if mark in first), ",")
    # Python's float() takes 1_000 for a number: such a file goes the careful way, cell by cell.
    careful = "_" in text
    header: list[str] = []
    dates: list[str] = []
    rows: list[list[Any]] = []
    lines: list[int] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        for row in reader:
            if not row or (len(row) == 1 and not row[0].strip()):
                continue
            if not header:
                header = [cell.strip() for cell in row]
                continue
            if len(row) != len(header):
                raise InputError(
                    f"{source}: line {reader.line_num} has {_count(len(row), 'cell')} where the header has "
                    f"{len(header)}; give every line the same number of cells"
                )
            dates.append(row[0])
            rows.append(row[1:] if len(header) == 3 else _row_values(row[1:], careful))
            lines.append(reader.line_num)
    except csv.Error as error:
        raise InputError(
            f"{source}: line {reader.line_num} cannot be read as CSV ({_first_line(error)}); correct it, or save "
            "the file as CSV again"
        ) from None
    if not header:
        raise InputError(f"{source}: the file is empty; it needs a header line and at least two rows of returns")
    cells = pd.DataFrame(rows, columns=range(len(header) - 1), dtype=None if rows else object)
    columns = [pd.Series(dates, dtype=object), *(cells[k] for k in cells.columns)]
    return _Table(source, header, columns, date=0, lines=lines)


def _row_values(cells: list[str], careful: bool) -> list[Any]:
    if not careful:
        try:
            return list(map(float, cells))
        except ValueError:
            pass
    return [cell if (value := _number(cell)) is None else value for cell in cells]


def _from_frame(frame: pd.DataFrame, source: str, layout: Layout) -> _Table:
    if frame.columns.nlevels > 1:
        raise InputError(
            f"{source}: the columns have {frame.columns.nlevels} levels; select one, such as frame['Close']"
        )
    if isinstance(frame.columns, pd.DatetimeIndex | pd.PeriodIndex):
        raise InputError(f"{source}: the dates run across the columns; give frame.T, one column a symbol")
    names = [_text(name) for name in frame.columns]
    columns = [frame.iloc[:, k].reset_index(drop=True) for k in range(len(names))]
    index = frame.index
    dated = [
        k
        for k, (name, column) in enumerate(zip(names, columns, strict=True))
        if name.lower() in _ROLES["date"] or pd.api.types.is_datetime64_any_dtype(column.dtype)
    ]
    if pd.api.types.is_integer_dtype(index.dtype) and (dated or layout == "long"):
        return _Table(source, names, columns, date=dated[0] if dated else 0)
    levels = [pd.Series(index.get_level_values(k)) for k in range(index.nlevels)]
    stacked = index.nlevels == 2 and len(names) == 1
    return _Table(source, [*map(_text, index.names), *names], [*levels, *columns], date=0, stacked=stacked)


# ---- laying it out as dates x symbols -------------------------------------------------------------------------------


def _is_long(table: _Table, layout: Layout) -> bool:
    if layout != "auto":
        return layout == "long"
    if table.stacked or (len(table.names) == 3 and _roles(table)):
        return True
    if len(table.names) > 3 and not _ROLES["date"].isdisjoint(name.lower() for name in table.names):
        for name, column in zip(table.names, table.columns, strict=True):
            if name.lower() in _ROLES["symbol"] and pd.api.types.infer_dtype(column, skipna=True) == "string":
                raise table.error(
                    f"column {_quote(name)} holds symbols, so this looks like the long layout, but it has "
                    f"{len(table.names)} columns ({_listing(map(_quote, table.names))}); keep date, symbol and a value"
                )
    return False


def _roles(table: _Table) -> tuple[int, int, int] | None:
    """Positions of the date, symbol and value columns, if each can be told by its name."""
    found = [[k for k, name in enumerate(table.names) if name.lower() in names] for names in _ROLES.values()]
    return (found[0][0], found[1][0], found[2][0]) if all(len(places) == 1 for places in found) else None


def _wide(table: _Table, notes: list[str]) -> pd.DataFrame:
    places = [k for k in range(len(table.names)) if k != table.date]
    if not places:
        raise table.error("there are no asset columns; give one column a symbol beside the dates")
    names = [table.names[k] for k in places]
    _check_symbols(names, table.source)
    dates = _dates(table, table.date, notes)
    again = dates.duplicated(keep=False)
    if again.any():
        first, second, *_ = np.flatnonzero(dates == dates[np.argmax(again)])
        raise table.error(
            f"the {dates.name} {_label(dates[first])} appears more than once ({table.place(first)} and "
            f"{table.place(second)}; {int(again.sum()):,} rows share theirs with another); keep one row for each"
        )
    values = [
        _numbers(table, k, lambda row, name=name: f"column {_quote(name)}, row {_label(dates[row])}")
        for k, name in zip(places, names, strict=True)
    ]
    frame = pd.DataFrame(np.column_stack(values), index=dates, columns=pd.Index(names))
    if not dates.is_monotonic_increasing:
        frame = frame.sort_index()
        notes.append(f"Sorted {_count(len(frame), 'row')} by {dates.name}: they were not in ascending order.")
    return frame


def _long(table: _Table, notes: list[str]) -> pd.DataFrame:
    if len(table.names) != 3:
        raise table.error(
            f"the long layout has three columns (date, symbol, value), this table has {len(table.names)}; "
            "keep those three, or say layout='wide'"
        )
    date, symbol, value = _roles(table) or (0, 1, 2)
    dates = _dates(table, date, notes)
    symbols = [_text(cell) for cell in table.columns[symbol]]
    if "" in symbols:
        raise table.error(f"{table.place(symbols.index(''))} has no symbol; name it, or delete the row")

    def where(row: int) -> str:
        return f"symbol {_quote(symbols[row])}, row {_label(dates[row])}"

    values = _numbers(table, value, where)
    frame = pd.DataFrame({"date": dates, "symbol": symbols, "value": values})
    again = frame.duplicated(["date", "symbol"])
    if again.any():
        row = int(np.argmax(again))
        raise table.error(
            f"{where(row)} appears more than once, again at {table.place(row)} ({_count(int(again.sum()), 'repeat')} "
            "in all); keep one value for each date and symbol"
        )
    if not frame.groupby("symbol", sort=False)["date"].is_monotonic_increasing.all():
        notes.append(f"Sorted {_count(len(frame), 'row')} by {dates.name}: they were not in ascending order.")
    panel = frame.pivot(index="date", columns="symbol", values="value").sort_index()
    order = list(dict.fromkeys(symbols))  # as they appear, as in the wide layout; the pivot sorts them
    return pd.DataFrame(panel[order].to_numpy(), index=panel.index.rename(dates.name), columns=pd.Index(order))


def _check_symbols(names: Sequence[str], source: str) -> None:
    if "" in names:
        raise InputError(f"{source}: asset column {names.index('') + 1} has no symbol; name it, or delete it")
    repeated = [_quote(name) for name, n in Counter(names).items() if n > 1]
    if repeated:
        raise InputError(
            f"{source}: symbols that head more than one column: {_listing(repeated)}; rename or delete the columns "
            "that repeat one"
        )


def _numbers(table: _Table, place: int, where: Callable[[int], str]) -> np.ndarray:
    """A column's cells as float64, NaN where missing; `where` names the row of a cell that is not a number."""
    column, types = table.columns[place], pd.api.types
    if types.is_numeric_dtype(column) and not (types.is_bool_dtype(column) or types.is_complex_dtype(column)):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    values = [_number(cell) for cell in column.astype(object)]
    if None in values:
        row = values.index(None)
        line = f" (line {table.lines[row]})" if table.lines else ""
        raise table.error(
            f"{where(row)}{line}: {_quote(column.iloc[row])} is not a number; write it as 1234.5, or leave the cell "
            "empty if it is missing"
        )
    return np.array(values, dtype=np.float64)


def _number(cell: Any) -> float | None:
    """The cell's value, NaN if it is missing, None if it is not a number (True and 1_000 are not)."""
    if isinstance(cell, str):
        text = cell.strip()
        if text.lower() in _MISSING_TEXTS:
            return np.nan
        if "_" in text:
            return None
        cell = text
    elif cell is None or cell is pd.NA or cell is pd.NaT:
        return np.nan
    elif isinstance(cell, bool) or not isinstance(cell, numbers.Real | Decimal):
        return None
    try:
        return float(cell)
    except (ValueError, OverflowError):
        return None


# ---- dates ----------------------------------------------------------------------------------------------------------


def _dates(table: _Table, place: int, notes: list[str]) -> pd.Index:
    """The rows' labels: dates, or numbers where the rows are numbered."""
    raw = table.columns[place]
    if not len(raw):
        raise table.error("there are no rows; give at least two rows of returns, or three of prices")
    if isinstance(raw.dtype, pd.CategoricalDtype):
        raw = raw.astype(object)
    kind = pd.api.types.infer_dtype(raw, skipna=True)
    if kind == "string":
        raw = raw.astype(object).map(_text)
    empty = (raw == "") if kind == "string" else raw.isna()
    if empty.any():
        raise table.error(f"{table.place(int(np.argmax(empty)))} has no date; date it, or delete the row")
    if kind in {"datetime64", "datetime", "date", "period"}:
        try:
            dates = pd.PeriodIndex(raw).to_timestamp() if kind == "period" else pd.DatetimeIndex(raw)
        except (ValueError, TypeError) as error:  # time zones or periods of several kinds
            raise table.error(f"the dates cannot be put in order ({_first_line(error)}); make them alike") from None
        return dates.rename("date")
    if kind == "string" and not raw.str.fullmatch(r"[+-]?[0-9]{1,18}(\.[0-9]+)?").all():
        return _text_dates(raw, table, _named(table.names[place]), notes)
    if kind in {"string", "integer", "floating"}:
        labels = pd.Series(pd.to_numeric(raw))
        dates = _compact_dates(labels)
        if dates is not None:
            return dates
        # In a CSV a first column of numbers is more often a forgotten date column than a row number.
        if np.isfinite(labels.astype(float)).all() and (kind != "string" or (labels.diff().iloc[1:] == 1).all()):
            notes.append("The rows are numbered, not dated.")
            return pd.Index(labels.to_numpy(), name="observation")
    raise table.error(
        f"the first cell of {_named(table.names[place])} is {_quote(raw.iloc[0])}, not a date; put dates such as "
        "2020-01-31 there, or number the rows 0, 1, 2, ..."
    )


def _compact_dates(labels: pd.Series) -> pd.DatetimeIndex | None:
    """Dates from numbers such as 20200131, if every one is such a date."""
    if not (pd.api.types.is_integer_dtype(labels) and labels.between(1900_01_01, 2199_12_31).all()):
        return None
    dates = pd.to_datetime(labels.astype(str), format="%Y%m%d", errors="coerce")
    return None if dates.isna().any() else pd.DatetimeIndex(dates, name="date")


def _text_dates(texts: pd.Series, table: _Table, name: str, notes: list[str]) -> pd.Index:
    offsets = texts.str.extract(_OFFSET, expand=False)
    if offsets.notna().any():
        if offsets.isna().any():
            row = int(np.argmax(offsets.isna()))
            raise table.error(
                f"{table.place(row)}: the date {_quote(texts.iloc[row])} has no UTC offset where others have one; "
                "write all of them in one way"
            )
        if offsets.nunique() > 1:
            texts = texts.str.replace(_OFFSET, "", regex=True)
            notes.append("Left out the UTC offsets of the dates, which differ (daylight saving?): times are local.")
    # pandas reads "now" and "today" as dates; only text that starts with a year is ISO 8601.
    iso = pd.to_datetime(texts.where(texts.str.match(r"\d{4}[-/.]?\d")), format="ISO8601", errors="coerce")
    read = [iso] if iso.notna().any() else _guessed_dates(texts)
    whole = [dates for dates in read if dates.notna().all()]
    if len(whole) == 2 and not whole[0].equals(whole[1]):
        row = int(np.argmax(whole[0] != whole[1]))
        raise table.error(
            f"{table.place(row)}: the date {_quote(texts.iloc[row])} may be {_label(whole[0].iloc[row])} or "
            f"{_label(whole[1].iloc[row])}; write dates as 2020-01-31"
        )
    dates = max(read, key=lambda dates: dates.notna().sum(), default=iso)
    bad = np.asarray(dates.isna())
    if bad.any():
        row = int(np.argmax(bad))
        like = "" if bad.all() else f" like {_quote(texts.iloc[int(np.argmin(bad))])}"
        raise table.error(
            f"{table.place(row)}, {name}: {_quote(texts.iloc[row])} is not a date{like}; write dates as 2020-01-31"
        )
    return pd.DatetimeIndex(dates, name="date")


def _guessed_dates(texts: pd.Series) -> list[pd.Series]:
    """The dates as the first of them may be read, month or day first: one or two ways, or none."""
    with warnings.catch_warnings():  # pandas warns where only one of the two is possible
        warnings.simplefilter("ignore")
        guesses = [guess_datetime_format(texts.iloc[0], dayfirst=dayfirst) for dayfirst in (False, True)]
    return [pd.to_datetime(texts, format=guess, errors="coerce") for guess in dict.fromkeys(guesses) if guess]


# ---- checking values ------------------------------------------------------------------------------------------------


def _refuse(bad: pd.DataFrame, frame: pd.DataFrame, source: str, what: str, fix: str) -> None:
    """Name the first cell, by date, where `bad` holds, if there is one."""
    places = np.argwhere(bad.to_numpy())
    if len(places):
        row, column = (int(k) for k in places[0])
        raise InputError(
            f"{source}: {what} ({len(places):,}), the first in column {_quote(frame.columns[column])}, "
            f"row {_label(frame.index[row])}: {frame.iat[row, column]:g}; {fix}"
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
                f"{source}: column {_quote(name)} looks like prices among returns (its median is "
                f"{seen.median():g}); remove it, or turn it into returns"
            )


def _check_not_empty(returns: pd.DataFrame, kind: Kind, source: str) -> None:
    empty = returns.columns[returns.isna().all()]
    if len(empty):
        why = "; a return needs prices on two consecutive rows" if kind == "prices" else ""
        raise InputError(
            f"{source}: symbols without a single return ({len(empty)} of {returns.shape[1]}): "
            f"{_listing(map(_quote, empty))}{why}; remove the columns, or choose missing='drop-assets'"
        )


def _check_varying(returns: pd.DataFrame, source: str) -> None:
    low = returns.min()
    still = low[returns.max() == low]
    if len(still):
        names = _listing(f"{_quote(name)} (every return is {value:g})" for name, value in still.items())
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
            f"{_count(len(counts), 'symbol')}): {_gaps(counts)}; choose missing='mask' (keep the gaps: an asset is "
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
    gaps = f"{_count(int(counts.sum()), 'missing return')} in {_count(int((counts > 0).sum()), 'symbol')}"
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
                f"Dropped {int(out.sum())} of {_count(len(out), 'symbol')} for missing {share}: "
                f"{_gaps(counts[out], shown=len(out))}."
            )
            returns = returns.loc[:, ~out]
    gap = returns.isna().any(axis=1)
    n_left = int((~gap).sum())
    if n_left < 2:
        raise InputError(
            f"{source}: dropping rows with a missing return leaves {n_left} of {_count(len(returns), 'row')}, two are "
            f"needed: {_gaps(returns.isna().sum())}; remove these symbols, or choose missing='drop-assets' with a "
            "smaller missing_tolerance"
        )
    if gap.any():
        notes.append(f"Dropped {int(gap.sum()):,} of {_count(len(gap), 'row')}, each with a missing return.")
    return returns.loc[~gap]


# ---- words ----------------------------------------------------------------------------------------------------------


def _tolerance(value: object) -> float:
    number = _number(value)
    if isinstance(value, str) or number is None or not 0.0 <= number <= 1.0:
        raise InputError(f"missing_tolerance is {_quote(value)}; it must be a share between 0 and 1, such as 0.05")
    return number


def _text(name: object) -> str:
    """A name as stripped text, empty where there is none."""
    missing = name is None or (pd.api.types.is_scalar(name) and pd.isna(cast("Any", name)))
    return "" if missing else str(name).strip()


def _quote(value: object) -> str:
    """Quoted on one line whatever it contains, and not too long."""
    text = str(value)
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _first_line(error: BaseException) -> str:
    return re.sub(r"\s+", " ", str(error)).strip()[:120].rstrip(".") or type(error).__name__


def _label(label: Any) -> str:
    """A row's label: the date alone where there is no time of day."""
    if not isinstance(label, pd.Timestamp):
        return str(label)
    return label.date().isoformat() if label.tz is None and label == label.normalize() else label.isoformat()


def _named(column: str) -> str:
    return f"column {_quote(column)}" if column else "the column or index without a name"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _listing(items: Iterable[str], shown: int = 5) -> str:
    words = list(items)
    more = f" and {len(words) - shown:,} more" if len(words) > shown else ""
    return ", ".join(words[:shown]) + more


def _gaps(counts: pd.Series, shown: int = 5) -> str:
    """The symbols with gaps and how many, worst first."""
    worst = counts[counts > 0].sort_values(ascending=False, kind="stable")
    return _listing((f"{_quote(name)} ({n:,})" for name, n in worst.items()), shown)
