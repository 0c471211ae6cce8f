"""The figures of a page, as the JSON that its script draws them from."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jaxalloc.arguments.errors import InputError

if TYPE_CHECKING:
    import plotly.graph_objects as go

# what JSON inside a script element must not hold: "</script>" in a symbol would end the element
_UNSAFE = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026", 0x2028: "\\u2028", 0x2029: "\\u2029"}


class Drawings:
    """The figures of a page.

    Attributes:
        json: each figure's data and layout as `script_json`, by the figure's id.
    """

    def __init__(self) -> None:
        """Start without any."""
        self.json: dict[str, str] = {}

    def add(self, name: str, make: Callable[[], go.Figure]) -> dict[str, Any]:
        """Make a figure and keep it; return what the template takes: its id and height, or why there is none."""
        try:
            figure = make()
        except InputError as refusal:
            return {"missing": str(refusal)}
        plain = json.loads(str(figure.to_json()))
        plain["layout"].pop("template", None)  # light or dark is the page's to choose
        self.json[name] = script_json(plain)
        return {"id": name, "height": figure.layout.height}


def script_json(value: Any) -> str:
    """Return a value as compact JSON that is safe inside a script element."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).translate(_UNSAFE)
