"""Rows of cells, from a text file or a worksheet -> a `Table`: where its header is, where its rows begin and end.

What surrounds a table is left out and said: titles above it, a footer below it, a second table, a header line that a
joined file repeats. A row inside the table that has not as many cells as the others is an error.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import counted, listing, quote
from jaxalloc.markets.cells import is_date, is_missing, is_number
from jaxalloc.markets.table import Table, as_text

_SAMPLE, _LEAST = 4000, 12  # cells that tell what the columns hold, and the fewest rows of them
_LONGEST_HEADER = 50  # lines above which the first row of data must stand
_NO_HEADER = "the first line holds data where the names should be; put a line of names above it, such as date,AAA,BBB"


class Grid:
    """The rows that are not blank, as cells: of a worksheet.

    Attributes:
        widths: (R,) number of cells of each row.
        lines: the line that each row ends on, counted from 1.
        starts: the line that each row begins on.
    """

    def __init__(self, rows: Sequence[Sequence[Any]], starts: Sequence[int], lines: Sequence[int]) -> None:
        """Take the rows, and the lines that they begin and end on."""
        kept = [k for k, row in enumerate(rows) if any(not _is_blank(cell) for cell in row)]
        self._rows = [rows[k] for k in kept]
        self.starts, self.lines = [starts[k] for k in kept], [lines[k] for k in kept]
        self.widths = np.array([len(row) for row in self._rows], int)

    def __len__(self) -> int:
        """The number of rows."""
        return len(self._rows)

    def cells(self, row: int) -> list[Any]:
        """The cells of a row, text stripped."""
        return [cell.strip() if isinstance(cell, str) else cell for cell in self._rows[row]]

    def same_as(self, row: int) -> list[int]:
        """The later rows with the same cells as one."""
        first = self.cells(row)
        return [k for k in range(row + 1, len(self)) if self.widths[k] == len(first) and self.cells(k) == first]


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a table stands in a grid.

    Attributes:
        header: its header lines, as names.
        body: the rows of data, as numbers of the grid.
        dates: the columns that hold dates as text or as dates.
        texts: the columns that hold neither numbers nor dates.
    """

    header: list[list[str]]
    body: list[int]
    dates: list[int]
    texts: list[int]


def find_table(grid: Grid, source: str, notes: list[str]) -> Place:
    """Find the table in a grid.

    Raises:
        InputError: there is none, it has no header, or a row has more or fewer cells than the others.
    """
    if not len(grid):
        raise InputError(f"{source}: the file is empty; it needs a header line and at least two rows of returns")
    width = _usual_width(grid)
    rows = [int(k) for k in np.flatnonzero(grid.widths == width)]
    kinds = _kinds(grid, rows, width)
    dates = [k for k in range(width) if kinds[k] == "date"]
    first = _first_row_of_data(grid, rows, kinds)
    if first is None:  # nothing looks like a row of data: what is wrong is for others to say
        top = rows[0]
        first = top + 1
        header = [list(map(as_text, grid.cells(top)))]
        body = _body(grid, first, width, None, source, notes)
    else:
        top, header = _header(grid, first, width, kinds, source)
        key = dates[0] if dates else None
        body = _body(grid, first, width, key, source, notes)
    if top > 0:
        said = listing((quote(grid.cells(k)[0]) for k in range(top)), 3)
        notes.append(f"Left out {counted(top, 'line')} above the header: {said}.")
    texts = [k for k in range(width) if kinds[k] == "text"]
    return Place(header=header, body=body, dates=dates, texts=texts)


def _usual_width(grid: Grid) -> int:
    """The number of cells that most rows have; of two numbers as frequent, the first row's."""
    widths, counts = np.unique(grid.widths, return_counts=True)
    usual = set(widths[counts == counts.max()])
    return int(next(width for width in grid.widths if width in usual))


def _kinds(grid: Grid, rows: list[int], width: int) -> list[str]:
    """What each column holds in a sample of rows below the first: "date", "number", "text" or "none"."""
    start = max(1, len(rows) // 4)
    sample = [grid.cells(k) for k in rows[start : start + max(_LEAST, min(80, _SAMPLE // width))]]
    kinds = []
    for k in range(width):
        cells = [row[k] for row in sample if not is_missing(row[k])]
        enough = 0.6 * len(cells)
        if not cells:
            kinds.append("none")
        elif sum(map(is_number, cells)) > enough:
            kinds.append("number")
        else:
            kinds.append("date" if sum(map(is_date, cells)) > enough else "text")
    return kinds


def _first_row_of_data(grid: Grid, rows: list[int], kinds: list[str]) -> int | None:
    """The first row below the header, None if there is none."""
    typed = [k for k, kind in enumerate(kinds) if kind == "number"]
    key = kinds.index("date") if "date" in kinds else 0 if kinds[:1] == ["number"] else None
    for turn, row in enumerate(rows[:_LONGEST_HEADER]):
        cells = grid.cells(row)
        numeric = any(is_number(cells[k]) for k in typed)
        if key is not None:
            matches = is_date(cells[key]) if kinds[key] == "date" else is_number(cells[key])
            # below the first line, a row with numbers and without its date is one whose date is wrong
            is_data = matches or (turn > 0 and numeric)
        else:
            words = any(not is_number(cells[k]) and not is_missing(cells[k]) for k in typed)
            is_data = numeric and not words and not _is_date_row(cells, typed)
        if is_data:
            return row
    return None


def _is_date_row(cells: list[Any], typed: list[int]) -> bool:
    """Whether the cells over columns of numbers are dates, as in a table whose dates run across."""
    numbers = [int(cells[k]) for k in typed if isinstance(cells[k], str) and re.fullmatch(r"\d{8}", cells[k])]
    return len(numbers) == len(typed) > 1 and all(1900_01_01 <= n <= 2199_12_31 for n in numbers)


def _header(grid: Grid, first: int, width: int, kinds: list[str], source: str) -> tuple[int, list[list[str]]]:
    """The first header line's row, and the header lines as names."""
    if first == 0:
        raise InputError(f"{source}: {_NO_HEADER}")
    above = first - 1
    names = list(map(as_text, grid.cells(above)))
    if len(names) != width:
        empty_last = all(_is_blank(grid.cells(k)[-1]) for k in range(first, len(grid)) if grid.widths[k] == width)
        if len(names) == width - 1 and empty_last:
            names = [*names, ""]
        elif len(names) == width - 1 and kinds[0] in ("date", "number"):
            names = ["", *names]  # the names of the rows have no header, as R writes them
        elif len(names) == width + 1 and not names[-1]:
            names = names[:-1]
        elif len(names) == 1 and not re.search(r"[^\W\d]", names[0]):
            raise InputError(f"{source}: {_NO_HEADER}")
        else:
            raise InputError(
                f"{source}: line {grid.lines[first]} has {counted(width, 'cell')} where the header has {len(names)}; "
                "give every line the same number of cells"
            )
        return above, [names]
    header, top = [names], above
    while (
        top > 0
        and grid.widths[top - 1] == width
        and grid.starts[top] - grid.lines[top - 1] == 1  # no blank line between
    ):
        top -= 1
        header.insert(0, list(map(as_text, grid.cells(top))))
    return top, header


def _body(grid: Grid, first: int, width: int, key: int | None, source: str, notes: list[str]) -> list[int]:
    """The rows of data, without what follows them and without headers in between."""
    repeated = set(grid.same_as(first - 1)) if first > 0 else set()
    body = _above_other_rows(grid, list(range(first, len(grid))), repeated, width, key, source, notes)
    if repeated & set(body):
        lines = listing((f"{grid.lines[k]}" for k in sorted(repeated) if k in body), 3)
        notes.append(f"Left out the header where it is repeated, line {lines}.")
        body = [k for k in body if k not in repeated]
    return body if key is None else _above_words(grid, body, key, notes)


def _above_other_rows(
    grid: Grid, body: list[int], repeated: set[int], width: int, key: int | None, source: str, notes: list[str]
) -> list[int]:
    """The rows above the first that has not as many cells as the others: a footer, or the title of another table.

    Raises:
        InputError: that row, or one below it, is a row of data.
    """
    start = next((k for k in body if grid.widths[k] != width), None)
    if start is None:
        return body
    above, below = [k for k in body if k < start], [k for k in body if k > start]
    another = next((k for k in below if k in repeated or _is_header(grid.cells(k), width, key)), None)
    if another is not None and all(grid.widths[k] != width for k in range(start, another)):
        shown = quote(next((as_text(cell) for cell in grid.cells(start) if not _is_blank(cell)), ""))
        notes.append(
            f"Read the first of several tables: left out what follows from line {grid.starts[start]} on, {shown}."
        )
        return above
    if _has_label(grid.cells(start), key) or any(
        grid.widths[k] == width and _has_label(grid.cells(k), key) for k in below
    ):
        raise InputError(
            f"{source}: line {grid.lines[start]} has {counted(int(grid.widths[start]), 'cell')} where the header "
            f"has {width}; give every line the same number of cells"
        )
    notes.append(f"Left out the text below the table, from line {grid.starts[start]} on: {_shown(grid, start)}.")
    return above


def _above_words(grid: Grid, body: list[int], key: int, notes: list[str]) -> list[int]:
    """The rows above those at the end that have a word, such as Average, in the column ``key`` of the dates."""
    end = len(body)
    while end > 0 and _is_word(grid.cells(body[end - 1])[key]):
        end -= 1
    if not 2 < end < len(body):
        return body
    notes.append(
        f"Left out {counted(len(body) - end, 'line')} below the table, from line {grid.starts[body[end]]} on: "
        f"{_shown(grid, body[end])}."
    )
    return body[:end]


def _is_header(cells: list[Any], width: int, key: int | None) -> bool:
    """Whether a row below the table is another table's header."""
    return len(cells) == width and not _has_label(cells, key) and not any(map(is_number, cells))


def _has_label(cells: list[Any], key: int | None) -> bool:
    """Whether a row has what rows of data have in their first column or that of the dates."""
    cell = cells[0 if key is None else min(key, len(cells) - 1)]
    return is_date(cell) or is_number(cell)


def _is_word(cell: Any) -> bool:
    """Whether a cell is text without a digit, such as Average."""
    return isinstance(cell, str) and bool(cell) and not any(c.isdigit() for c in cell) and not is_missing(cell)


def _is_blank(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and not cell.strip()) or (isinstance(cell, float) and cell != cell)


def _shown(grid: Grid, row: int) -> str:
    return quote(" ".join(as_text(cell) for cell in grid.cells(row) if not _is_blank(cell)), 40)


def sheet_table(cells: pd.DataFrame, source: str, stem: str, notes: list[str]) -> Table:
    """Find the table in the cells of a worksheet.

    Raises:
        InputError: it holds none.
    """
    used = cells.map(lambda cell: not _is_blank(cell))
    columns = np.flatnonzero(used.any(axis=0))
    rows = cells.iloc[:, columns[0] : columns[-1] + 1].values.tolist() if len(columns) else []
    rows = [[None if _is_blank(cell) else cell for cell in row] for row in rows]
    numbers = list(range(1, len(rows) + 1))
    grid = Grid(rows, numbers, numbers)
    if len(grid):  # a title stands in one cell of a row that is as wide as all others
        grid.widths = np.array([width if _is_wide(grid.cells(k)) else 1 for k, width in enumerate(grid.widths)], int)
    place = find_table(grid, source, notes)
    width = len(place.header[0])
    table = pd.DataFrame([grid.cells(k) for k in place.body], columns=range(width), dtype=object)
    lines = [grid.lines[k] for k in place.body]
    return Table(
        source=source,
        stem=stem,
        header=place.header,
        columns=[pd.Series(table[k]).infer_objects() for k in range(width)],
        find_lines=lambda: lines,
    )


def _is_wide(cells: list[Any]) -> bool:
    return len(cells) < 3 or is_date(cells[0]) or sum(not _is_blank(cell) for cell in cells) > 1
