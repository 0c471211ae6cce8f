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
    """

    headings: tuple[str, ...]
    rows: list[tuple[str, ...]]
    words: int = 1


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
