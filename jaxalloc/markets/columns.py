"""What the columns of a table are for: dates, names of assets, row numbers, descriptions, values.

A name counts where the cells leave it open; see `jaxalloc.markets.vocabulary`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from jaxalloc.arguments.words import counted
from jaxalloc.markets.cells import is_missing, is_number, to_numbers
from jaxalloc.markets.dates import is_numeric_date
from jaxalloc.markets.table import Table, as_text
from jaxalloc.markets.vocabulary import VALUE_ROLES, role_of

# of several columns that name the asset, in this order
_BEST_NAMES = ("ticker", "tic", "symbol", "ts code", "ts_code", "ric", "isin", "asset")


def without_empty_columns(table: Table) -> Table:
    """Leave out columns that have neither a name nor a cell."""
    kept = [
        k
        for k, column in enumerate(table.columns)
        if any(names[k] for names in table.header) or k == table.date or table.kinds[k] != "nothing"
    ]
    return table if len(kept) == len(table.columns) or not kept else table.with_columns(kept)


def date_column(table: Table) -> int:
    """The column of the dates: of those that hold dates the one with such a name, or else the first."""
    if table.date is not None:
        return table.date
    dated = [k for k, kind in enumerate(table.kinds) if kind == "date"]
    if dated:
        return next((k for k in dated if role_of(table.names[k]) == "date"), dated[0])
    roles = [role_of(name) for name in table.names]
    for role in ("date", "time"):
        for k in (k for k, found in enumerate(roles) if found == role):
            if is_numeric_date(table.columns[k], table.names[k]):
                return k
    return next((k for k, role in enumerate(roles) if role == "date"), 0)


def without_events(table: Table, date: int, notes: list[str]) -> Table:
    """Leave out rows that tell of a dividend or a split in words between the rows of prices."""
    event = np.zeros(len(table.columns[0]) if table.columns else 0, bool)
    for k, column in enumerate(table.columns):
        if k != date and not pd.api.types.is_numeric_dtype(column) and table.kinds[k] == "number":
            texts = column.astype(object).map(as_text)
            event |= texts.str.contains(r"\d.*(?:dividend|split|distribution|capital gain)", case=False, regex=True)
    if not event.any():
        return table
    notes.append(
        f"Left out {counted(int(event.sum()), 'row')} that "
        f"{'tells' if event.sum() == 1 else 'tell'} of a dividend or a split, the first at "
        f"{table.place(int(np.argmax(event)))}."
    )
    return table.with_rows(~event)


def numbers_rows(column: pd.Series) -> bool:
    """Whether a first column beside the dates counts the rows, from 0 or 1."""
    numbers = to_numbers(column)
    return len(numbers) > 1 and bool(numbers.iloc[0] in (0, 1) and (numbers.diff().iloc[1:] == 1).all())


def is_description(column: pd.Series) -> bool:
    """Whether a column of words describes the rows, such as a currency or a day of the week."""
    cells = [cell for cell in column if not is_missing(cell)]
    return len(cells) > 3 and all(isinstance(cell, str) for cell in cells) and not any(map(is_number, cells))


def symbol_column(table: Table, date: int) -> int | None:
    """The column that names the asset of a row: one with such a name, or else the only column of words."""
    words = [k for k, kind in enumerate(table.kinds) if k != date and kind == "text"]
    named = [k for k, name in enumerate(table.names) if k != date and role_of(name) == "symbol"]
    named.sort(key=lambda k: next((n for n, word in enumerate(_BEST_NAMES) if word in table.names[k].lower()), 99))
    for k in named:
        if k in words:
            return k
    unnamed = [k for k in words if role_of(table.names[k]) is None]
    if len(unnamed) == 1:
        return unnamed[0]
    if not named or not (is_triple(table) or repeats_dates(table, date)):
        return None
    return next((k for k in named if not numbers_rows(table.columns[k])), None)


def is_triple(table: Table) -> bool:
    """Whether the table has a date, a symbol and a value by name, and nothing else."""
    roles = [role_of(name) for name in table.names]
    return (
        len(roles) == 3
        and set(roles[:3]) & {"date", "time"} != set()
        and "symbol" in roles
        and any(role in (*VALUE_ROLES, "return") for role in roles)
    )


def repeats_dates(table: Table, date: int) -> bool:
    """Whether a date is there more than once."""
    return bool(table.columns[date].astype(str).duplicated().any())
