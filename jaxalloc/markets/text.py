"""Delimited text -> a `Table`: which mark delimits, where lines and cells end, and columns of numbers.

pandas parses the cells. A text without quotes is not cut into cells before that, so that a long file costs little more
than its parsing.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import re
import warnings
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pandas as pd

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import counted, reason
from jaxalloc.markets.cells import MISSING_MARKS, is_date, is_number
from jaxalloc.markets.grid import Grid, find_table
from jaxalloc.markets.table import Table

# pandas reads numbers as float() does: from 3.1 on by default
_PANDAS = tuple(map(int, pd.__version__.split(".")[:2]))
_EXACT: dict[str, Any] = {} if _PANDAS >= (3, 1) else {"float_precision": "round_trip"}


class _Uneven(Exception):  # noqa: N818
    """A row has not as many cells as was assumed."""


class TextGrid(Grid):
    """The rows of a text without quotes, a line each, cut where they are asked for.

    Attributes:
        assumed: whether the widths are taken to be all alike because their sum says so; the parser then finds a row
            that is too wide, and with it one that is too narrow.
    """

    def __init__(self, text: bytes, delimiter: str, assume: bool = True) -> None:
        """Take a text; ``assume`` allows widths that are not counted row by row."""
        ends = np.fromiter(_line_ends(text), np.int64)
        begins = np.append(0, ends[:-1] + 1)
        mark = delimiter.encode()
        blank = mark + b" \t"
        usual = text[begins[0] : ends[0]].count(mark) + 1 if len(ends) else 0
        # a line of delimiters and spaces alone is blank; only one hardly longer than its delimiters can be
        short = np.flatnonzero(ends - begins < 3 * usual + 80)
        kept = np.ones(len(ends), bool)
        kept[[k for k in short if not text[begins[k] : ends[k]].strip(blank)]] = False
        numbers = np.flatnonzero(kept)
        self._text, self._delimiter = text, delimiter
        self._begins, self._ends = begins[kept], ends[kept]
        self.lines = (numbers + 1).tolist()
        self.starts = self.lines
        n_marks = np.count_nonzero(np.frombuffer(text, np.uint8) == ord(delimiter))
        self.assumed = bool(assume and kept.all() and n_marks == (usual - 1) * len(numbers))
        if self.assumed:
            self.widths = np.full(len(numbers), usual)
        else:
            self.widths = np.array([self._line(k).count(mark) for k in range(len(numbers))], int) + 1

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.lines)

    def cells(self, row: int) -> list[Any]:
        """The cells of a row, stripped."""
        cells = [cell.strip() for cell in self._line(row).decode().split(self._delimiter)]
        if len(cells) != self.widths[row]:
            raise _Uneven
        return cells

    def same_as(self, row: int) -> list[int]:
        """The later rows with the same text as one."""
        line = self._line(row)
        alike = np.flatnonzero(self._ends - self._begins == len(line)).tolist()
        return [k for k in alike if k > row and self._line(k) == line]

    def text_of(self, body: list[int]) -> bytes:
        """The lines of some rows."""
        if not body:
            return b""
        if self.lines[body[-1]] - self.lines[body[0]] == len(body) - 1:  # none left out
            return self._text[self._begins[body[0]] : self._ends[body[-1]]]
        return b"\n".join(map(self._line, body))

    def _line(self, row: int) -> bytes:
        return self._text[self._begins[row] : self._ends[row]]


def _line_ends(text: bytes) -> Iterator[int]:
    """Where the lines of a text end; an empty last one is none."""
    end = text.find(b"\n")
    while end >= 0:
        yield end
        end = text.find(b"\n", end + 1)
    if not text.endswith(b"\n"):
        yield len(text)


class QuotedGrid(Grid):
    """The rows of a text that has quotes; a cell may then hold the end of a line."""

    def __init__(self, text: bytes, delimiter: str, skipped: int, source: str) -> None:
        """Take a text of which ``skipped`` lines were left out on top."""
        reader = csv.reader(
            io.StringIO(text.decode(), newline=""), delimiter=delimiter, skipinitialspace=True, strict=True
        )
        rows, starts, ends = [], [], []
        try:
            for row in reader:
                rows.append(row)
                starts.append(ends[-1] + 1 if ends else 1)
                ends.append(reader.line_num)
        except csv.Error as error:
            raise InputError(
                f"{source}: line {reader.line_num + skipped} cannot be read as CSV ({reason(error)}); correct it, or "
                "save the file as CSV again"
            ) from None
        super().__init__(rows, starts, ends)
        lines = text.split(b"\n")
        spans = zip(self.starts, self.lines, strict=True)
        self._texts = [b"\n".join(lines[start - 1 : end]) for start, end in spans]

    def text_of(self, body: list[int]) -> bytes:
        """The lines of some rows."""
        return b"\n".join(self._texts[k] for k in body)


def text_table(text: bytes, source: str, stem: str, notes: list[str]) -> Table:
    """Find the table in a text in UTF-8; a column that holds more than numbers stays text.

    Raises:
        InputError: it is no table.
    """
    text, skipped, delimiter = _without_remarks(text, notes)
    if b'"' in text:
        return _table_of(QuotedGrid(text, delimiter, skipped, source), delimiter, skipped, source, stem, notes)
    grid = TextGrid(text, delimiter)
    if grid.assumed:
        before = list(notes)
        with contextlib.suppress(InputError, _Uneven):
            return _table_of(grid, delimiter, skipped, source, stem, notes)
        notes[:] = before
        grid = TextGrid(text, delimiter, assume=False)
    return _table_of(grid, delimiter, skipped, source, stem, notes)


def _table_of(
    grid: TextGrid | QuotedGrid, delimiter: str, skipped: int, source: str, stem: str, notes: list[str]
) -> Table:
    grid.lines, grid.starts = [k + skipped for k in grid.lines], [k + skipped for k in grid.starts]
    place = find_table(grid, source, notes)
    width = len(place.header[0])
    content = grid.text_of(place.body)
    as_written = sorted({0, *place.dates, *place.texts})
    columns = _parsed(content, delimiter, width, as_written, source)
    if len(columns[0]) != len(place.body):
        raise InputError(f"{source}: a line holds nothing but quotes; delete it")
    numbers = [grid.lines[k] for k in place.body]
    return Table(
        source=source,
        stem=stem,
        header=place.header,
        columns=columns,
        delimiter=delimiter,
        find_lines=lambda: numbers,
        find_texts=functools.cache(lambda: _parsed(content, delimiter, width, list(range(width)), source)),
    )


def _parsed(content: bytes, delimiter: str, width: int, texts: list[int], source: str) -> list[pd.Series]:
    """The columns: text as it is written in the columns ``texts``, elsewhere numbers if all cells are numbers."""
    if not content:
        return [pd.Series([], dtype=object) for _ in range(width)]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # more cells than names
            warnings.simplefilter("error", pd.errors.DtypeWarning)
            try:  # block by block, which is faster
                frame = _read_csv(content, delimiter, width, texts, low_memory=True)
            except pd.errors.DtypeWarning:  # a column is text in some blocks only; all of it must stay text
                frame = _read_csv(content, delimiter, width, texts, low_memory=False)
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        raise InputError(f"{source}: cannot be read as CSV ({reason(error)}); save it as CSV again") from None
    return [cast("pd.Series", frame[k]) for k in range(width)]


def _read_csv(content: bytes, delimiter: str, width: int, texts: list[int], low_memory: bool) -> pd.DataFrame:
    return pd.read_csv(
        io.BytesIO(content),
        sep=delimiter,
        header=None,
        names=range(width),
        index_col=False,
        dtype=dict.fromkeys(texts, object),
        keep_default_na=False,
        na_values=MISSING_MARKS if len(texts) < width else [""],
        skipinitialspace=b" " in content,
        low_memory=low_memory,
        **_EXACT,
    )


def _without_remarks(text: bytes, notes: list[str]) -> tuple[bytes, int, str]:
    """A text without the lines on top that speak to a program, how many these were, and its delimiter."""
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    skipped, delimiter, comments, start, last = 0, "", 0, 0, 0
    while start < len(text):
        end = text.find(b"\n", start) % (len(text) + 1)
        line = text[start:end].decode()
        asked = re.fullmatch(r"\s*\"?sep=(.)\"?\s*", line, re.IGNORECASE)
        if asked:
            delimiter = asked[1]
        elif line.strip() and (not line.lstrip().startswith("#") or re.match(r"\s*#\s*[,;\t]", line)):
            break
        comments += line.lstrip().startswith("#")
        skipped, start, last = skipped + 1, end + 1, start
    if comments and _are_header_and_row(text[last:].lstrip(b"# ")):
        skipped, comments, start = skipped - 1, comments - 1, text.index(b"#", last) + 1
    if comments:
        notes.append(f"Left out {counted(comments, 'line')} of comments above the table.")
    text = text[start:]
    delimiter = delimiter if delimiter.isascii() else ""
    sample = text[: 2**16].split(b"\n")
    sample = sample if len(text) <= 2**16 or len(sample) < 3 else sample[:-1]
    delimiter = delimiter or _delimiter([line.decode(errors="replace") for line in sample if line.strip()][:60])
    if not delimiter:
        text, delimiter = b"\n".join(b"\t".join(line.split()) for line in text.split(b"\n")), "\t"
    return text, skipped, delimiter


def _are_header_and_row(text: bytes) -> bool:
    """Whether the first two lines of a text are names and data in the same number of cells."""
    names, row, *_ = [*text[: 2**16].split(b"\n"), b"", b""]
    mark = next((mark for mark in b"\t;|," if names.count(mark)), None)
    if mark is None or names.count(mark) != row.count(mark):
        return False
    first = row.split(bytes([mark]))[0].decode(errors="replace").strip()
    return is_date(first) or is_number(first)


def _delimiter(sample: list[str]) -> str:
    """The mark that cuts most of the first lines into the same number of cells, two or more; "" if spaces do."""
    best, score = ",", 0.0
    for mark in "\t;|,":
        reader = csv.reader(sample, delimiter=mark, skipinitialspace=True)
        try:
            widths = np.array([len(row) for row in reader])
        except csv.Error:
            continue
        wide = widths[widths > 1]
        if len(wide):
            share = np.bincount(wide).max() / len(widths)
            if share > score:
                best, score = mark, share
    if score == 0 and len(sample) > 1:
        words = [line.split() for line in sample]
        if len(words[-1]) > 1 and is_number(words[-1][-1]) and '"' not in "".join(sample):
            return ""
    return best
