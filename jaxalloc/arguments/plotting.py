"""Pictures on demand: a result draws itself without its package knowing that of the figures."""

from __future__ import annotations

import importlib
from typing import Any

_BACKEND = "jaxalloc.figures.by_name"  # loaded where first used, as pandas loads its backend for `DataFrame.plot`


def plot(result: Any, name: str | None, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Return the figure of a result that has that name in `jaxalloc.figures`."""
    return importlib.import_module(_BACKEND).draw(result, name, *arguments, **options)
