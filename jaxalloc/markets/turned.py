"""Tables whose dates do not run down one column: dates across the header, and a column of dates for each asset."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxalloc.arguments.words import counted, listing, quote
from jaxalloc.markets.cells import is_date, is_missing
from jaxalloc.markets.dates import is_numeric_date
from jaxalloc.markets.fields import chosen_field
from jaxalloc.markets.long import long_table
from jaxalloc.markets.table import Choices, Found, Table, as_text
from jaxalloc.markets.vocabulary import role_of


def runs_across(table: Table) -> bool:
    """Whether the header holds dates and the first column the assets."""
    names = [name for k, name in enumerate(table.names) if table.kinds[k] != "text" and (k > 0 or not name)]
    names = [name for k, name in enumerate(names) if name or k > 0]
    if len(names) < 2 or not table.columns or table.kinds[0] == "date":
        return False
    return all(is_date(name) for name in names) or (
        is_numeric_date(pd.Series(names), "") and all(len(name) == 8 for name in names)
    )


def turned_table(table: Table, notes: list[str]) -> Table:
    """A table whose dates run across, as one whose dates run down."""
    places = [k for k, name in enumerate(table.names) if k > 0 and table.kinds[k] != "text"]
    symbols = [as_text(cell) for cell in table.text(0)]
    words = [table.names[k] for k in range(1, len(table.names)) if k not in places]
    notes.append(
        f"Turned the table: its dates run across{f'; left out {listing(map(quote, words))}' if words else ''}."
    )
    cells = pd.DataFrame({k: table.columns[k].astype(object) for k in places})
    columns = [pd.Series(cells.iloc[row].tolist(), dtype=object).infer_objects() for row in range(len(cells))]
    dates = pd.Series([table.names[k] for k in places])
    return Table(source=table.source, stem=table.stem, header=[["date", *symbols]], columns=[dates, *columns], date=0)


class _Block(NamedTuple):
    """A column of dates and the columns beside it."""

    date: int
    values: list[int]


def pairs(table: Table) -> list[_Block] | None:
    """The blocks of a table that has a column of dates for each asset; None if it is no such table."""
    dates = [
        k
        for k, column in enumerate(table.columns)
        if (
            table.kinds[k] == "date"
            or (table.kinds[k] == "number" and len(column) and table.names.count(table.names[k]) > 1)
        )
        and role_of(table.names[k]) == "date"
        and (table.kinds[k] == "date" or is_numeric_date(column.dropna(), table.names[k]))
    ]
    if len(dates) < 2:
        return None
    ends = [*dates[1:], len(table.columns)]
    blocks = [
        _Block(date=k, values=[j for j in range(k + 1, end) if table.kinds[j] == "number"])
        for k, end in zip(dates, ends, strict=True)
    ]
    return blocks if all(block.values for block in blocks) else None


def table_of_pairs(table: Table, blocks: list[_Block], choices: Choices, notes: list[str]) -> Found:
    """Each asset's own dates and values, put side by side."""
    taken = []
    for block in blocks:
        names = [table.names[k] for k in block.values]
        best = chosen_field(names, choices.columns, choices.returns)
        place = block.values[0 if best is None else names.index(best)]
        above = [names[k] for names in table.header[:-1] for k in range(block.date, block.values[-1] + 1) if names[k]]
        taken.append((above[0] if above else table.names[place], block.date, place))
    symbols = [name for name, _, _ in taken]
    repeated = [quote(name) for name, n in Counter(symbols).items() if n > 1]
    if repeated:
        raise table.error(f"symbols that head more than one pair of columns: {listing(repeated)}; rename them")
    parts = [
        pd.DataFrame({"date": table.columns[date], "symbol": name, "value": table.columns[place].astype(object)})
        for name, date, place in taken
    ]
    whole = pd.concat(parts, ignore_index=True)
    kept = ~(whole["date"].map(is_missing) & whole["value"].map(is_missing))
    row_of = (
        np.tile(np.arange(len(table.columns[0])), len(parts)) if table.rows is None else np.tile(table.rows, len(parts))
    )
    stacked = Table(
        source=table.source,
        stem=table.stem,
        header=[["date", "symbol", "value"]],
        columns=[whole.loc[kept, name].reset_index(drop=True) for name in whole],
        date=0,
        delimiter=table.delimiter,
        rows=row_of[kept.to_numpy()],
        find_lines=table.find_lines,
    )
    notes.append(
        f"Read {counted(len(blocks), 'pair')} of columns, the dates and values of {listing(map(quote, symbols))}."
    )
    return long_table(stacked, 0, choices._replace(columns=()), notes)
