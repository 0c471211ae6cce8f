"""Columns of a table -> the rows' dates and the assets' numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import counted, quote
from jaxalloc.markets.cells import DecimalMark, as_numbers, decimal_marks, is_missing, is_number
from jaxalloc.markets.dates import read_dates
from jaxalloc.markets.table import Choices, Table, as_text
from jaxalloc.markets.vocabulary import role_of


def row_labels(table: Table, date: int, symbols: Sequence[str] | None, choices: Choices, notes: list[str]) -> pd.Index:
    """The rows' dates, with the time of day of another column where the dates alone are not unique."""
    dates = read_dates(table, date, choices.dayfirst, notes)
    times = [k for k, name in enumerate(table.names) if k != date and role_of(name) == "time"]
    frame = pd.DataFrame({"date": dates, "symbol": list(symbols) if symbols is not None else ""})
    if not times or not isinstance(dates, pd.DatetimeIndex) or not frame.duplicated().any():
        return dates
    of_day = times_of_day(table.columns[times[0]])
    if of_day is None:
        return dates
    return (dates + pd.TimedeltaIndex(of_day)).rename("date")


def times_of_day(column: pd.Series) -> pd.Series | None:
    """Times such as 09:30, 93000 or 0930, None if they are none."""
    texts = column.astype(object).map(as_text).str.removesuffix(".0")
    if texts.str.fullmatch(r"\d{1,6}").all():
        width = 6 if texts.str.len().max() > 4 else 4
        texts = texts.str.zfill(width).str.replace(r"(\d\d)(?=\d)", r"\1:", regex=True)
    if not texts.str.fullmatch(r"\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?").all():
        return None
    texts = texts.where(texts.str.count(":") == 2, texts + ":00")
    return pd.to_timedelta(texts)


def column_values(
    table: Table, places: list[int], where: Callable[[str, int], str], names: list[str], notes: list[str]
) -> tuple[np.ndarray, set[str]]:
    """(T, N) numbers of the columns, NaN where missing, and the columns whose cells have signs of per cent.

    ``where`` names the row of a cell that is not a number.
    """
    columns = [table.columns[k] for k in places]
    marks = _decimal_marks(table, places, columns, notes)
    if "," in marks and table.find_texts is not None:
        columns = [
            table.text(k) if mark == "," else column for k, mark, column in zip(places, marks, columns, strict=True)
        ]
    out = np.empty((len(columns), len(columns[0])))
    signs, signed = 0, set()
    for j, (k, name, column, mark) in enumerate(zip(places, names, columns, marks, strict=True)):
        numbers = as_numbers(column, mark)
        if numbers.bad.any():
            raise _no_number(table, k, int(np.argmax(numbers.bad)), where(name, int(np.argmax(numbers.bad))))
        if numbers.percent.any():
            bare = ~numbers.percent & np.isfinite(numbers.values) & (numbers.values != 0)
            if bare.any():
                row = int(np.argmax(bare))
                raise table.error(
                    f"{where(name, row)}: {quote(column.iloc[row])} has no sign of per cent where others have one; "
                    "write all of them in one way"
                )
            signs += int(numbers.percent.sum())
            signed.add(name)
        out[j] = numbers.values
    if signs:
        notes.append(f"Divided {counted(signs, 'cell')} with a sign of per cent by 100.")
    return out.T, signed


def _no_number(table: Table, place: int, row: int, where: str) -> InputError:
    lines = table.lines
    line = f" (line {lines[row]})" if lines else ""
    return table.error(
        f"{where}{line}: {quote(table.columns[place].iloc[row])} is not a number; write it as 1234.5, or leave the "
        "cell empty if it is missing"
    )


def _decimal_marks(
    table: Table, places: list[int], columns: list[pd.Series], notes: list[str]
) -> Sequence[DecimalMark]:
    """The decimal mark of each column: the same for all, if no column needs another."""
    texts = [column for column in columns if not pd.api.types.is_numeric_dtype(column)]
    comma, point, any_comma = decimal_marks(texts)
    if comma and point:
        return [_mark_of(table, column) for column in columns]
    with_comma = (cell for column in texts for cell in column if isinstance(cell, str) and "," in cell)
    if comma or (any_comma and not point and table.delimiter == ";"):
        example = next(with_comma)
        notes.append(f"Read the comma as the decimal mark, as in {quote(example.strip())}.")
        return list[DecimalMark]([","]) * len(columns)
    if any_comma and not point:
        example = next(with_comma)
        if not is_missing(example) and is_number(example):
            notes.append(f"Read the comma as a mark between thousands, as in {quote(example.strip())}.")
    return list[DecimalMark](["."]) * len(columns)


def _mark_of(table: Table, column: pd.Series) -> DecimalMark:
    """The decimal mark of a column by itself."""
    if pd.api.types.is_numeric_dtype(column):
        return "."
    comma, point, _ = decimal_marks([column])
    if comma and point:
        raise table.error("some numbers have a decimal comma and others a decimal point; write all of them as 1234.5")
    return "," if comma else "."
