"""Tables of text, as the templates write them."""

from __future__ import annotations

import dataclasses

from jaxalloc.settings.sweep import Points


@dataclasses.dataclass(frozen=True)
class TextTable:
    """Rows of text under headings.

    Attributes:
        headings: one a column.
        rows: of as many cells each.
        words: how many columns, from the first on, hold words; the others hold numbers.
        marks: a colour for each row, which its first cell begins with; none if there are none.
    """

    headings: tuple[str, ...]
    rows: list[tuple[str, ...]]
    words: int = 1
    marks: tuple[str, ...] = ()


def split(table: TextTable, shown: int) -> tuple[TextTable, TextTable | None]:
    """Return a table's first rows, and what is folded below them; None if that is nothing."""
    first = dataclasses.replace(table, rows=table.rows[:shown], marks=table.marks[:shown])
    rest = dataclasses.replace(table, rows=table.rows[shown:], marks=table.marks[shown:])
    return first, rest if rest.rows else None


def settings_table(settings: Points, at: int) -> TextTable:
    """Return every setting with its value at a point of the grid; one that is swept is shown with all its values."""
    config, grid = settings.at(at), dict(settings.grid)
    rows = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        if field.name in grid:
            text = f"{', '.join(map(str, grid[field.name]))}; details above at {text}"
        rows.append((field.name, text))
    return TextTable(("setting", "value"), rows, words=2)
