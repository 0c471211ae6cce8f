"""Files and frames -> a `Table` of raw cells, and the words for talking about one: the only module that reads files.

Nothing is guessed here: what is not a table is an `InputError` of one line that says what, where, and what to do. Which
cells are dates, symbols and numbers is for `jaxalloc.markets.layout` to say, and what the numbers mean for
`jaxalloc.markets.panel`.
"""

from __future__ import annotations

import csv
import functools
import gzip
import io
import numbers
import os
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pandas as pd

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import counted, reason, unquoted

Layout = Literal["auto", "wide", "long"]

# "unnamed: 0" is what pandas calls the index column of a file that was read without index_col.
ROLES = {
    "date": {"date", "dates", "datetime", "timestamp", "unnamed: 0"},
    "symbol": {"symbol", "asset", "ticker"},
    "value": {"value", "price", "prices", "return", "returns", "close"},
}
# pandas reads numbers as float() does: from 3.1 on by default
_PANDAS = tuple(map(int, pd.__version__.split(".")[:2]))
_EXACT: dict[str, Any] = {} if _PANDAS >= (3, 1) else {"float_precision": "round_trip"}
_MISSING_TEXTS = frozenset({"", "na", "nan", "null", "none", "n/a", "#n/a", "<na>"})


@dataclass(frozen=True)
class Table:
    """A table as it was found: its shape is right, nothing else is checked."""

    source: str  # what the messages call it
    names: list[str]  # stripped; "" where there is none
    columns: list[pd.Series]  # raw cells, one Series a name, all on 0..rows-1
    date: int  # the column that holds the dates in the wide layout
    find_lines: Callable[[], list[int]] | None = None  # of a text file, gives the line that each row ends on
    stacked: bool = False  # a single column on a two-level index: `frame.stack()`

    @property
    def lines(self) -> list[int] | None:
        """The line of the file that each row ends on, counted when a message first asks; None if there are no lines."""
        return None if self.find_lines is None else self.find_lines()

    def place(self, row: int | np.integer) -> str:
        """Where a row stands, in words."""
        return f"line {self.lines[row]}" if self.lines else f"row number {row + 1}"

    def error(self, text: str) -> InputError:
        """Return an error that names the source."""
        return InputError(f"{self.source}: {text}")


def load_table(source: object, layout: Layout) -> Table:
    """Find the table in a CSV or Parquet file, or in a frame; `layout` tells whether a frame's index holds the dates.

    Raises:
        InputError: it cannot be read, or is not a table.
    """
    if isinstance(source, pd.DataFrame):
        return _from_frame(source, "the frame", layout)
    if isinstance(source, str | os.PathLike):
        return _from_file(Path(source), layout)
    raise InputError(
        f"cannot read returns from {type(source).__name__}; give a path, or a DataFrame such as "
        "pandas.DataFrame(array, columns=symbols)"
    )


def _from_file(path: Path, layout: Layout) -> Table:
    source = unquoted(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{source}: there is no such file; check the path") from None
    except IsADirectoryError:
        raise InputError(f"{source}: this is a directory; give the path of one CSV or Parquet file") from None
    except (OSError, ValueError) as error:
        raise InputError(
            f"{source}: the file cannot be read ({reason(error)}); check the path and its permissions"
        ) from None
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
        raise InputError(f"{source}: not a readable Parquet file ({reason(error)}); write it again") from None
    return frame


def _csv_table(text: str, source: str) -> Table:
    """Text -> cells; a column that holds more than numbers stays text until the layout is known."""
    first = text.lstrip("\r\n ").partition("\n")[0]
    delimiter = "," if "," in first else next((mark for mark in "\t;|" if mark in first), ",")
    _, header = next(_csv_rows(text, delimiter, source), (0, []))
    if not header:
        raise InputError(f"{source}: the file is empty; it needs a header line and at least two rows of returns")
    find_lines = functools.cache(lambda: [line for line, _ in _csv_rows(text, delimiter, source)][1:])
    # the dates stay text; of three columns one may hold symbols
    texts = range(len(header) if len(header) == 3 else 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # more cells than names
            cells = pd.read_csv(
                io.StringIO(text, newline=""),
                sep=delimiter,
                header=0,
                names=range(len(header)),
                index_col=False,
                dtype=dict.fromkeys(texts, object),
                keep_default_na=False,
                na_values={k: [""] for k in range(len(texts), len(header))},
                skipinitialspace=True,
                low_memory=False,
                **_EXACT,
            )
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        find_lines()  # says where
        raise InputError(f"{source}: cannot be read as CSV ({reason(error)}); save it as CSV again") from None
    # pandas fills a line that is too short, and forgives quotes that csv does not
    last = cells.iloc[:, -1]
    if ('"' in text or last.isna().any() or (last == "").any()) and len(find_lines()) != len(cells):
        raise InputError(f"{source}: a line holds nothing but quotes; delete it")
    columns = [cells.iloc[:, k] for k in range(len(header))]
    names = [name.strip() for name in header]
    return Table(source=source, names=names, columns=columns, date=0, find_lines=find_lines)


def _csv_rows(text: str, delimiter: str, source: str) -> Iterator[tuple[int, list[str]]]:
    """The header and the rows that are not blank, each with the line that it ends on.

    Raises:
        InputError: a row has not as many cells as the header, or is no CSV.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    width = 0
    try:
        for row in reader:
            if not row or (len(row) == 1 and not row[0].strip()):
                continue
            width = width or len(row)
            if len(row) != width:
                raise InputError(
                    f"{source}: line {reader.line_num} has {counted(len(row), 'cell')} where the header has {width}; "
                    "give every line the same number of cells"
                )
            yield reader.line_num, row
    except csv.Error as error:
        raise InputError(
            f"{source}: line {reader.line_num} cannot be read as CSV ({reason(error)}); correct it, or save "
            "the file as CSV again"
        ) from None


def _from_frame(frame: pd.DataFrame, source: str, layout: Layout) -> Table:
    if frame.columns.nlevels > 1:
        raise InputError(
            f"{source}: the columns have {frame.columns.nlevels} levels; select one, such as frame['Close']"
        )
    if isinstance(frame.columns, pd.DatetimeIndex | pd.PeriodIndex):
        raise InputError(f"{source}: the dates run across the columns; give frame.T, one column a symbol")
    names = [as_text(name) for name in frame.columns]
    columns = [frame.iloc[:, k].reset_index(drop=True) for k in range(len(names))]
    index = frame.index
    dated = [
        k
        for k, (name, column) in enumerate(zip(names, columns, strict=True))
        if name.lower() in ROLES["date"] or pd.api.types.is_datetime64_any_dtype(column.dtype)
    ]
    if pd.api.types.is_integer_dtype(index.dtype) and (dated or layout == "long"):
        return Table(source=source, names=names, columns=columns, date=dated[0] if dated else 0)
    levels = [pd.Series(index.get_level_values(k)) for k in range(index.nlevels)]
    stacked = index.nlevels == 2 and len(names) == 1
    return Table(
        source=source,
        names=[*map(as_text, index.names), *names],
        columns=[*levels, *columns],
        date=0,
        stacked=stacked,
    )


# ---- cells and words -------------------------------------------------------------------------------------------------


def as_number(cell: Any) -> float | None:
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


def as_text(name: object) -> str:
    """A name as stripped text, empty where there is none."""
    missing = name is None or (pd.api.types.is_scalar(name) and pd.isna(cast("Any", name)))
    return "" if missing else str(name).strip()
