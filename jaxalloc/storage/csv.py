"""CSV files that are safe to open in a spreadsheet."""

from __future__ import annotations

import os
import unicodedata
from typing import Any, BinaryIO

import pandas as pd

# a spreadsheet may take a cell that starts with one of these for a formula (OWASP, "CSV injection")
_FORMULA_STARTS = ("=", "+", "-", "@", "\u2212")  # the last is a minus, which a raised or lowered one becomes
_LINE_BREAKS = str.maketrans("\r\n", "  ")


def write_csv(frame: pd.DataFrame, path: str | os.PathLike[str] | BinaryIO) -> None:
    """Write a frame as UTF-8 CSV in which a spreadsheet finds no formula.

    An index with names is written as columns; an index without names is left out. Text that begins like a formula (with
    = + - @ of any width, a tab or a line break) gets an apostrophe in front: it may be a symbol from a user's file.
    Line breaks become spaces. The same holds for column names.
    """
    named = all(name is not None for name in frame.index.names)
    # a symbol may have the name of the index
    table = frame.reset_index(allow_duplicates=True) if named else frame
    safe = {
        position: column if pd.api.types.is_numeric_dtype(column.dtype) else column.map(_harmless)
        for position, (_, column) in enumerate(table.items())
    }
    columns = [_harmless(name) for name in table.columns]
    pd.DataFrame(safe, index=table.index).set_axis(columns, axis=1).to_csv(path, index=False, encoding="utf-8")


def _harmless(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    # for some readers a lone carriage return ends the row, and what follows it begins a cell
    text = cell.translate(_LINE_BREAKS)
    return f"'{text}" if cell.startswith(("\t", "\r", "\n")) or _is_formula(cell) else text


def _is_formula(text: str) -> bool:
    """Whether the first character that shows begins a formula, or, of another width, is taken for one that does."""
    if text.isascii():
        return text.lstrip().startswith(_FORMULA_STARTS)
    plain = (c for c in unicodedata.normalize("NFKC", text) if not c.isspace() and unicodedata.category(c) != "Cf")
    return next(plain, "").startswith(_FORMULA_STARTS)
