"""A table as it was found in a file or a frame: headers and raw cells, and the words for talking about one."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import pandas as pd

from jaxalloc.arguments.errors import InputError
from jaxalloc.markets.cells import holds

Layout = Literal["auto", "wide", "long"]


@dataclasses.dataclass(frozen=True)
class Table:
    """A table as it was found: its shape is right, nothing else is checked.

    Attributes:
        source: what messages call it.
        stem: name of the file without its suffix, which names the security of a file of one; empty for a frame.
        header: a list of names for each header line, stripped, "" where there is none; the first line on top.
        columns: raw cells, a Series a column, all on 0..rows-1.
        date: the column that holds the dates, where the frame or the file's shape tells; else None.
        delimiter: of a text file; empty for anything else.
        stacked: whether the table is a single column on a two-level index, as ``frame.stack()`` makes it.
        rows: number of each row among those that were found, for `lines` and `place`.
        find_lines: of a text file or a workbook, gives the line that each row found ends on.
        find_texts: of a text file, gives the columns as they are written.
    """

    source: str
    stem: str
    header: list[list[str]]
    columns: list[pd.Series]
    date: int | None = None
    delimiter: str = ""
    stacked: bool = False
    rows: np.ndarray | None = None
    find_lines: Callable[[], list[int]] | None = None
    find_texts: Callable[[], list[pd.Series]] | None = None

    @property
    def names(self) -> list[str]:
        """The names in the header line next to the data."""
        return self.header[-1]

    @functools.cached_property
    def kinds(self) -> list[str]:
        """What each column holds, see `holds`."""
        return [holds(column) for column in self.columns]

    @property
    def lines(self) -> list[int] | None:
        """The line of the file that each row ends on, counted when a message first asks; None if there are no lines."""
        if self.find_lines is None:
            return None
        lines = self.find_lines()
        return lines if self.rows is None else [lines[row] for row in self.rows]

    def place(self, row: int | np.integer) -> str:
        """Where a row stands, in words."""
        lines = self.lines
        if lines:
            return f"line {lines[row]}"
        return f"row number {(row if self.rows is None else self.rows[row]) + 1}"

    def error(self, text: str) -> InputError:
        """Return an error that names the source."""
        return InputError(f"{self.source}: {text}")

    def text(self, place: int) -> pd.Series:
        """A column's cells as text, as they are written where the table is a text file."""
        if self.find_texts is not None:
            column = self.find_texts()[place]
            return column if self.rows is None else pd.Series(column.to_numpy()[self.rows])
        return self.columns[place].astype(object).map(as_text)

    def with_rows(self, kept: np.ndarray) -> Table:
        """Return the table with the rows for which ``kept`` is True."""
        rows = np.arange(len(kept)) if self.rows is None else self.rows
        columns = [column.loc[kept].reset_index(drop=True) for column in self.columns]
        return dataclasses.replace(self, columns=columns, rows=rows[kept])

    def with_columns(self, places: list[int]) -> Table:
        """Return the table with these columns, in this order."""
        find_texts = self.find_texts
        return dataclasses.replace(
            self,
            header=[[names[k] for k in places] for names in self.header],
            columns=[self.columns[k] for k in places],
            date=places.index(self.date) if self.date in places else None,
            find_texts=None if find_texts is None else lambda: [find_texts()[k] for k in places],
        )

    def with_names(self, names: list[str]) -> Table:
        """Return the table with one header line."""
        return dataclasses.replace(self, header=[names])


def as_text(name: object) -> str:
    """A name as stripped text, empty where there is none."""
    missing = name is None or (pd.api.types.is_scalar(name) and pd.isna(cast("Any", name)))
    return "" if missing else str(name).strip()


class Choices(NamedTuple):
    """What the caller said about a table.

    Attributes:
        layout: "auto", "wide" or "long".
        dayfirst: whether the day stands before the month where that is open; None to settle it by the dates.
        columns: names of assets, or of a field, to take; empty for all assets and the best field.
        returns: whether a field of returns is to be preferred to one of prices.
    """

    layout: Layout = "auto"
    dayfirst: bool | None = None
    columns: tuple[str, ...] = ()
    returns: bool = False


class Found(NamedTuple):
    """Numbers by date and asset.

    Attributes:
        values: (T, N) frame of float64, NaN where a cell is missing; nothing else about the numbers is checked. The
            index (dates, or numbers where the rows had no dates) is sorted and unique, the columns are unique strings.
        per_cent: the assets whose column is said to be in per cent by its name.
    """

    values: pd.DataFrame
    per_cent: list[str]
