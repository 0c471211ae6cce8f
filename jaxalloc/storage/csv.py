"""CSV files that a spreadsheet opens without harm."""

from __future__ import annotations

import os
from typing import Any

import pandas as pd

# a cell that starts with one of these may be taken for a formula (OWASP, "CSV injection")
_FORMULA_STARTS = ("=", "+", "-", "@")


_LINE_BREAKS = str.maketrans("\r\n", "  ")


def write_csv(frame: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write a frame as UTF-8 CSV that spreadsheets open without running anything in it.

    An index with names is written as columns, another one is left out. Text (a symbol from a user's file) that begins
    as a formula does, with = + - @, a tab or a line break, gets an apostrophe in front, and its line breaks become
    spaces; so with column names.
    """
    named = all(name is not None for name in frame.index.names)
    # a symbol may be called as the index is
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
    # a lone carriage return would end the row for some readers, and make a cell of what follows it
    text = cell.translate(_LINE_BREAKS)
    formula = cell.startswith(("\t", "\r", "\n")) or cell.lstrip().startswith(_FORMULA_STARTS)
    return f"'{text}" if formula else text
