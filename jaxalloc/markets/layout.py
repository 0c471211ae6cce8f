"""A table -> numbers by date and asset, whatever way the table is laid out.

*Wide*: a row a date, a column an asset. *Long*: a row a date and asset, with one value or several fields. *One
security*: a row a date, a column a field (open, close, volume). *Fields of several*: a column an asset and field, in
two header lines or in one name. *Across*: a row an asset, a column a date. *Pairs*: a column of dates beside each
column of values. Of several fields one is taken, and a note says which.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd

from jaxalloc.arguments.words import counted, listing, quote
from jaxalloc.markets.columns import (
    date_column,
    is_description,
    is_triple,
    numbers_rows,
    repeats_dates,
    symbol_column,
    without_empty_columns,
    without_events,
)
from jaxalloc.markets.dates import label_text
from jaxalloc.markets.fields import assets_of_fields, one_header_line, one_security
from jaxalloc.markets.long import long_table
from jaxalloc.markets.table import Choices, Found, Layout, Table, as_text
from jaxalloc.markets.turned import pairs, runs_across, table_of_pairs, turned_table
from jaxalloc.markets.values import column_values, row_labels, times_of_day
from jaxalloc.markets.vocabulary import is_field, plain_name, role_of, says_per_cent


def lay_out(table: Table, choices: Choices, notes: list[str]) -> Found:
    """Lay a table out as dates x assets.

    Args:
        table: raw cells.
        choices: what the caller said about it.
        notes: takes a sentence for each thing that was decided.

    Raises:
        InputError: dates, assets or numbers cannot be told or are not unique.
    """
    table = without_empty_columns(table)
    blocks = pairs(table)
    if blocks is not None:
        return _select(table_of_pairs(table, blocks, choices, notes), choices, table)
    table = one_header_line(table, choices.columns, choices.returns, notes)
    if runs_across(table):
        table = turned_table(table, notes)
    date = date_column(table)
    table = without_events(table, date, notes)
    if _is_long(table, date, choices.layout):
        found = long_table(table, date, choices, notes)
    else:
        found = _wide(table, date, choices, notes)
    return _select(found, choices, table)


def _select(found: Found, choices: Choices, table: Table) -> Found:
    """The assets that the caller named, in that order; all of them if none was named."""
    names = [name for name in choices.columns if name in found.values.columns]
    unknown = [
        name for name in choices.columns if name not in found.values.columns and not _is_name_of_field(table, name)
    ]
    if unknown:
        raise table.error(
            f"columns: there is no {listing(map(quote, unknown))}; the assets are "
            f"{listing(map(quote, found.values.columns), 8)}"
        )
    if not names:
        return found
    return Found(values=pd.DataFrame(found.values[names]), per_cent=[name for name in found.per_cent if name in names])


def _is_name_of_field(table: Table, name: str) -> bool:
    """Whether a name that the caller gave named a field or a column of values."""
    return is_field(name) or any(name in names for names in table.header)


def _is_long(table: Table, date: int, layout: Layout) -> bool:
    if layout != "auto":
        return layout == "long"
    if table.stacked or is_triple(table):
        return True
    symbol = symbol_column(table, date)
    if symbol is None:
        return False
    is_named = role_of(table.names[symbol]) == "symbol"
    if repeats_dates(table, date):
        # a date that is there twice by mistake, in a wide table with a column of words, makes no long table
        return is_named or table.columns[date].astype(str).duplicated(keep=False).mean() > 0.5
    return is_named and table.kinds[symbol] == "text"


def _wide(table: Table, date: int, choices: Choices, notes: list[str]) -> Found:
    places = _value_columns(table, date, notes)
    if not places:
        raise table.error("there are no asset columns; give one column a symbol beside the dates")
    places, names = _assets(table, places, choices, notes)
    places, names = _check_symbols(table, places, names, notes)
    dates = row_labels(table, date, None, choices, notes)
    values, signed = column_values(
        table, places, lambda name, row: f"column {quote(name)}, row {label_text(dates[row])}", names, notes
    )
    frame = pd.DataFrame(values, index=dates, columns=pd.Index(names))
    again = dates.duplicated(keep=False)
    if again.any():
        frame, dates = _once(table, frame, notes)
    if not dates.is_monotonic_increasing:
        frame = frame.sort_index()
        notes.append(f"Sorted {counted(len(frame), 'row')} by {dates.name}: they were not in ascending order.")
    return Found(values=frame, per_cent=[name for name in names if says_per_cent(name) and name not in signed])


def _value_columns(table: Table, date: int, notes: list[str]) -> list[int]:
    """The columns that may be assets: neither dates nor row numbers nor words."""
    places, left_out = [], []
    for k, column in enumerate(table.columns):
        if k == date:
            continue
        kind = table.kinds[k]
        if table.date is None and k == 0 and numbers_rows(column):
            left_out.append(f"the row numbers{f' in {quote(table.names[0])}' if table.names[0] else ''}")
        elif kind == "date" and (not pd.api.types.is_datetime64_any_dtype(column) or role_of(table.names[k]) == "date"):
            left_out.append(f"{quote(table.names[k])} (dates)")
        elif kind == "text" and is_description(column):
            left_out.append(f"{quote(table.names[k])} (words)")
        elif role_of(table.names[k]) == "time" and times_of_day(column) is not None:
            left_out.append(f"{quote(table.names[k])} (times)")
        else:
            places.append(k)
    if left_out and places:
        notes.append(f"Left out {listing(left_out)}.")
    return places if places else [k for k in range(len(table.columns)) if k != date]


def _assets(table: Table, places: list[int], choices: Choices, notes: list[str]) -> tuple[list[int], list[str]]:
    """The columns of the assets and their names: of fields the best one."""
    names = [table.names[k] for k in places]
    single = one_security(table, places, choices.columns, choices.returns, notes)
    if single is not None:
        return [single[0]], [single[1]]
    several = assets_of_fields(names, choices.columns, choices.returns, notes)
    if several is not None:
        return [places[k] for k in several.values()], list(several)
    volumes = [name for name in names if plain_name(name) == "volume"]
    if volumes and len(names) > len(volumes):
        notes.append(f"Left out {listing(map(quote, volumes))}, which is no price.")
        kept = [k for k, name in zip(places, names, strict=True) if name not in volumes]
        return kept, [table.names[k] for k in kept]
    return places, names


def _check_symbols(table: Table, places: list[int], names: list[str], notes: list[str]) -> tuple[list[int], list[str]]:
    """The columns without those that repeat another one, name and cells."""
    if "" in names:
        place = names.index("")
        raise table.error(f"asset column {place + 1} has no symbol; name it, or delete it")
    counts = Counter(names)
    repeated = [name for name, n in counts.items() if n > 1]
    kept, identical = [], []
    for position, (k, name) in enumerate(zip(places, names, strict=True)):
        first = places[names.index(name)]
        if k == first:
            kept.append(position)
        elif table.columns[k].astype(object).map(as_text).equals(table.columns[first].astype(object).map(as_text)):
            identical.append(name)
    if repeated and len(kept) + len(identical) < len(names):
        raise table.error(
            f"symbols that head more than one column: {listing(map(quote, repeated))}; rename or delete the columns "
            "that repeat one"
        )
    if identical:
        notes.append(f"Read columns that are there twice, with the same cells, once: {listing(map(quote, identical))}.")
    return [places[k] for k in kept], [names[k] for k in kept]


def _once(table: Table, frame: pd.DataFrame, notes: list[str]) -> tuple[pd.DataFrame, pd.Index]:
    """The frame without rows that repeat another one, date and numbers; a date with other numbers is an error."""
    dates = frame.index
    repeats = frame.reset_index().duplicated().to_numpy()
    left = dates[~repeats]
    again = left.duplicated(keep=False)
    if again.any():
        first, second, *_ = np.flatnonzero(dates == left[np.argmax(again)])
        raise table.error(
            f"the {dates.name} {label_text(dates[first])} appears more than once ({table.place(first)} and "
            f"{table.place(second)}; {int(dates.duplicated(keep=False).sum()):,} rows share theirs with another); keep "
            "one row for each"
        )
    notes.append(f"Left out {counted(int(repeats.sum()), 'row')} that repeat an earlier one, number by number.")
    return frame.loc[~repeats], left
