"""The long layout: a row a date and asset, with one value or several fields."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from jaxalloc.arguments.words import counted, listing, quote
from jaxalloc.markets.cells import is_missing
from jaxalloc.markets.columns import numbers_rows, symbol_column
from jaxalloc.markets.dates import label_text
from jaxalloc.markets.fields import chosen_field
from jaxalloc.markets.table import Choices, Found, Table, as_text
from jaxalloc.markets.values import column_values, row_labels
from jaxalloc.markets.vocabulary import is_field, role_of, says_per_cent


def long_table(table: Table, date: int, choices: Choices, notes: list[str]) -> Found:
    """Lay a table out whose rows are dates and assets; see `jaxalloc.markets.layout.lay_out`."""
    if table.stacked:
        date, symbol, values = _stacked_columns(table)
    else:
        symbol = symbol_column(table, date)
        others = [k for k in range(len(table.names)) if k not in (date, symbol)]
        if symbol is None:  # by position
            if len(table.names) != 3:
                raise table.error(
                    "the long layout has a column that names the asset of each row, such as 'symbol', and none is "
                    "found; name it so, or say layout='wide'"
                )
            date, symbol, others = 0, 1, [2]
        table, values = _long_values(table, date, symbol, others, choices, notes)
    symbols = [as_text(cell) for cell in table.text(symbol)]
    if "" in symbols:
        raise table.error(f"{table.place(symbols.index(''))} has no symbol; name it, or delete the row")
    dates = row_labels(table, date, symbols, choices, notes)

    def where(_: str, row: int) -> str:
        return f"symbol {quote(symbols[row])}, row {label_text(dates[row])}"

    numbers, signed = column_values(table, [values], where, [table.names[values]], notes)
    frame = pd.DataFrame({"date": dates, "symbol": symbols, "value": numbers[:, 0]})
    per_cent = symbols if says_per_cent(table.names[values]) and not signed else []
    return Found(values=_pivoted(table, frame, str(dates.name), where, notes), per_cent=list(dict.fromkeys(per_cent)))


def _stacked_columns(table: Table) -> tuple[int, int, int]:
    """Positions of date, symbol and value in a series on two index levels."""
    return (1, 0, 2) if table.kinds[1] == "date" and table.kinds[0] != "date" else (0, 1, 2)


def _long_values(
    table: Table, date: int, symbol: int, others: list[int], choices: Choices, notes: list[str]
) -> tuple[Table, int]:
    """The table, without the rows of other fields where a column names the field, and the column of the values."""
    fields = [k for k in others if table.kinds[k] == "text" and _names_fields(table.columns[k])]
    if fields:
        words = table.columns[fields[0]].astype(object).map(as_text)
        best = chosen_field(list(dict.fromkeys(words)), choices.columns, choices.returns)
        if best is not None:
            notes.append(f"Took the rows with {quote(best)} in column {quote(table.names[fields[0]])}.")
            table = table.with_rows((words == best).to_numpy())
        others = [k for k in others if k not in fields]
    numeric = [k for k in others if table.kinds[k] in ("number", "nothing")]
    numeric = [k for k in numeric if not (k == 0 and numbers_rows(table.columns[k]))]
    names = [table.names[k] for k in numeric]
    best = chosen_field(names, choices.columns, choices.returns)
    if best is None:
        open_names = [k for k in numeric if role_of(table.names[k]) != "other"] or numeric
        if len(open_names) > 1:
            raise table.error(
                f"which of the columns {listing(quote(table.names[k]) for k in open_names)} holds the values? say so "
                f"with columns={table.names[open_names[0]]!r}"
            )
        if not open_names:
            open_names = [k for k in others if k not in numeric] or others
        if not open_names:
            raise table.error("there is no column of values beside dates and symbols; add one")
        best_place = open_names[0]
    else:
        best_place = numeric[names.index(best)]
    left = [name for k, name in zip(numeric, names, strict=True) if k != best_place]
    if left:
        notes.append(f"Took {quote(table.names[best_place])} of each asset; left out {listing(map(quote, left))}.")
    return table, best_place


def _names_fields(column: pd.Series) -> bool:
    words = {as_text(cell) for cell in column if not is_missing(cell)}
    return len(words) < 30 and bool(words) and all(map(is_field, words))


def _pivoted(
    table: Table, frame: pd.DataFrame, label: str, where: Callable[[str, int], str], notes: list[str]
) -> pd.DataFrame:
    identical = frame.duplicated().to_numpy()
    again = frame.duplicated(["date", "symbol"]).to_numpy() & ~identical
    if again.any():
        row = int(np.argmax(again))
        raise table.error(
            f"{where('', row)} appears more than once, again at {table.place(row)} "
            f"({counted(int(again.sum()), 'repeat')} in all); keep one value for each date and symbol"
        )
    order = list(dict.fromkeys(frame["symbol"]))  # as they appear, as in the wide layout; the pivot sorts them
    if identical.any():
        notes.append(f"Left out {counted(int(identical.sum()), 'row')} that repeat an earlier one, number by number.")
        frame = frame.loc[~identical]
    if not frame.groupby("symbol", sort=False)["date"].is_monotonic_increasing.all():
        notes.append(f"Sorted {counted(len(frame), 'row')} by {label}: they were not in ascending order.")
    panel = frame.pivot(index="date", columns="symbol", values="value").sort_index()
    return pd.DataFrame(panel[order].to_numpy(), index=panel.index.rename(label), columns=pd.Index(order))
