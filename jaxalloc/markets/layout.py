"""A table -> numbers by date and symbol, in either layout.

*Wide*: one row a date, one column a symbol. *Long*: one row a (date, symbol, value). Nothing is guessed silently:
ambiguous dates, text in a cell and repeated symbols or dates are an `InputError`.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pandas.tseries.api import guess_datetime_format

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import counted, listing, quote, reason
from jaxalloc.markets.files import ROLES, Layout, Table, as_number, as_text

_OFFSET = re.compile(r"(?<=:\d\d)(?:\.\d+)?\s*(Z|[+-]\d\d:?(?:\d\d)?)$")


def lay_out(table: Table, layout: Layout) -> tuple[pd.DataFrame, list[str]]:
    """Lay a table out as dates x symbols.

    Args:
        table: raw cells.
        layout: "wide", "long", or "auto": long if the table has just a date, a symbol and a value column by name.

    Returns:
        (T, N) frame of float64, NaN where a cell is missing; nothing else about the numbers is checked. The index
        (dates, or numbers where the rows had no dates) is sorted and unique, the columns are unique strings. And one
        sentence for each thing that was done to the input.

    Raises:
        InputError: dates, symbols or numbers cannot be told or are not unique.
    """
    notes: list[str] = []
    return (_long(table, notes) if _is_long(table, layout) else _wide(table, notes)), notes


def _is_long(table: Table, layout: Layout) -> bool:
    if layout != "auto":
        return layout == "long"
    if table.stacked or (len(table.names) == 3 and _roles(table)):
        return True
    if len(table.names) > 3 and not ROLES["date"].isdisjoint(name.lower() for name in table.names):
        for name, column in zip(table.names, table.columns, strict=True):
            if name.lower() in ROLES["symbol"] and pd.api.types.infer_dtype(column, skipna=True) == "string":
                raise table.error(
                    f"column {quote(name)} holds symbols, so this looks like the long layout, but it has "
                    f"{len(table.names)} columns ({listing(map(quote, table.names))}); keep date, symbol and a value"
                )
    return False


def _roles(table: Table) -> tuple[int, int, int] | None:
    """Positions of the date, symbol and value columns, if each can be told by its name."""
    found = [[k for k, name in enumerate(table.names) if name.lower() in names] for names in ROLES.values()]
    return (found[0][0], found[1][0], found[2][0]) if all(len(places) == 1 for places in found) else None


def _wide(table: Table, notes: list[str]) -> pd.DataFrame:
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
            f"the {dates.name} {label_text(dates[first])} appears more than once ({table.place(first)} and "
            f"{table.place(second)}; {int(again.sum()):,} rows share theirs with another); keep one row for each"
        )
    values = [
        _numbers(table, k, lambda row, name=name: f"column {quote(name)}, row {label_text(dates[row])}")
        for k, name in zip(places, names, strict=True)
    ]
    frame = pd.DataFrame(np.column_stack(values), index=dates, columns=pd.Index(names))
    if not dates.is_monotonic_increasing:
        frame = frame.sort_index()
        notes.append(f"Sorted {counted(len(frame), 'row')} by {dates.name}: they were not in ascending order.")
    return frame


def _long(table: Table, notes: list[str]) -> pd.DataFrame:
    if len(table.names) != 3:
        raise table.error(
            f"the long layout has three columns (date, symbol, value), this table has {len(table.names)}; "
            "keep those three, or say layout='wide'"
        )
    date, symbol, value = _roles(table) or (0, 1, 2)
    dates = _dates(table, date, notes)
    symbols = [as_text(cell) for cell in table.columns[symbol]]
    if "" in symbols:
        raise table.error(f"{table.place(symbols.index(''))} has no symbol; name it, or delete the row")

    def where(row: int) -> str:
        return f"symbol {quote(symbols[row])}, row {label_text(dates[row])}"

    values = _numbers(table, value, where)
    frame = pd.DataFrame({"date": dates, "symbol": symbols, "value": values})
    again = frame.duplicated(["date", "symbol"])
    if again.any():
        row = int(np.argmax(again))
        raise table.error(
            f"{where(row)} appears more than once, again at {table.place(row)} ({counted(int(again.sum()), 'repeat')} "
            "in all); keep one value for each date and symbol"
        )
    if not frame.groupby("symbol", sort=False)["date"].is_monotonic_increasing.all():
        notes.append(f"Sorted {counted(len(frame), 'row')} by {dates.name}: they were not in ascending order.")
    panel = frame.pivot(index="date", columns="symbol", values="value").sort_index()
    order = list(dict.fromkeys(symbols))  # as they appear, as in the wide layout; the pivot sorts them
    return pd.DataFrame(panel[order].to_numpy(), index=panel.index.rename(dates.name), columns=pd.Index(order))


def _check_symbols(names: Sequence[str], source: str) -> None:
    if "" in names:
        raise InputError(f"{source}: asset column {names.index('') + 1} has no symbol; name it, or delete it")
    repeated = [quote(name) for name, n in Counter(names).items() if n > 1]
    if repeated:
        raise InputError(
            f"{source}: symbols that head more than one column: {listing(repeated)}; rename or delete the columns "
            "that repeat one"
        )


def _numbers(table: Table, place: int, where: Callable[[int], str]) -> np.ndarray:
    """A column's cells as float64, NaN where missing; `where` names the row of a cell that is not a number."""
    column, types = table.columns[place], pd.api.types
    if types.is_numeric_dtype(column) and not (types.is_bool_dtype(column) or types.is_complex_dtype(column)):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    values = [as_number(cell) for cell in column.astype(object)]
    if None in values:
        row = values.index(None)
        line = f" (line {table.lines[row]})" if table.lines else ""
        raise table.error(
            f"{where(row)}{line}: {quote(column.iloc[row])} is not a number; write it as 1234.5, or leave the cell "
            "empty if it is missing"
        )
    return np.array(values, dtype=np.float64)


# ---- dates ----------------------------------------------------------------------------------------------------------


def _dates(table: Table, place: int, notes: list[str]) -> pd.Index:
    """The rows' labels: dates, or numbers where the rows are numbered."""
    raw = table.columns[place]
    if not len(raw):
        raise table.error("there are no rows; give at least two rows of returns, or three of prices")
    if isinstance(raw.dtype, pd.CategoricalDtype):
        raw = raw.astype(object)
    kind = pd.api.types.infer_dtype(raw, skipna=True)
    if kind == "string":
        raw = raw.astype(object).map(as_text)
    empty = (raw == "") if kind == "string" else raw.isna()
    if empty.any():
        raise table.error(f"{table.place(int(np.argmax(empty)))} has no date; date it, or delete the row")
    if kind in {"datetime64", "datetime", "date", "period"}:
        try:
            dates = pd.PeriodIndex(raw).to_timestamp() if kind == "period" else pd.DatetimeIndex(raw)
        except (ValueError, TypeError) as error:  # time zones or periods of several kinds
            raise table.error(f"the dates cannot be put in order ({reason(error)}); make them alike") from None
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
        f"the first cell of {_named(table.names[place])} is {quote(raw.iloc[0])}, not a date; put dates such as "
        "2020-01-31 there, or number the rows 0, 1, 2, ..."
    )


def _compact_dates(labels: pd.Series) -> pd.DatetimeIndex | None:
    """Dates from numbers such as 20200131, if every one is such a date."""
    if not (pd.api.types.is_integer_dtype(labels) and labels.between(1900_01_01, 2199_12_31).all()):
        return None
    dates = pd.to_datetime(labels.astype(str), format="%Y%m%d", errors="coerce")
    return None if dates.isna().any() else pd.DatetimeIndex(dates, name="date")


def _text_dates(texts: pd.Series, table: Table, name: str, notes: list[str]) -> pd.Index:
    offsets = texts.str.extract(_OFFSET, expand=False)
    if offsets.notna().any():
        if offsets.isna().any():
            row = int(np.argmax(offsets.isna()))
            raise table.error(
                f"{table.place(row)}: the date {quote(texts.iloc[row])} has no UTC offset where others have one; "
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
            f"{table.place(row)}: the date {quote(texts.iloc[row])} may be {label_text(whole[0].iloc[row])} or "
            f"{label_text(whole[1].iloc[row])}; write dates as 2020-01-31"
        )
    dates = max(read, key=lambda dates: dates.notna().sum(), default=iso)
    bad = np.asarray(dates.isna())
    if bad.any():
        row = int(np.argmax(bad))
        like = "" if bad.all() else f" like {quote(texts.iloc[int(np.argmin(bad))])}"
        raise table.error(
            f"{table.place(row)}, {name}: {quote(texts.iloc[row])} is not a date{like}; write dates as 2020-01-31"
        )
    return pd.DatetimeIndex(dates, name="date")


def _guessed_dates(texts: pd.Series) -> list[pd.Series]:
    """The dates as the first of them may be read, month or day first: one or two ways, or none."""
    with warnings.catch_warnings():  # pandas warns where only one of the two is possible
        warnings.simplefilter("ignore")
        guesses = [guess_datetime_format(texts.iloc[0], dayfirst=dayfirst) for dayfirst in (False, True)]
    return [pd.to_datetime(texts, format=guess, errors="coerce") for guess in dict.fromkeys(guesses) if guess]


def _named(column: str) -> str:
    return f"column {quote(column)}" if column else "the column or index without a name"


def label_text(label: Any) -> str:
    """A row's label: the date alone where there is no time of day."""
    if not isinstance(label, pd.Timestamp):
        return str(label)
    return label.date().isoformat() if label.tz is None and label == label.normalize() else label.isoformat()
