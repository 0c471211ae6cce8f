"""The page: its template, and the script and the style that it holds."""

from __future__ import annotations

import base64
import gzip
import importlib.resources
from typing import TYPE_CHECKING

from jaxalloc._version import __version__
from jaxalloc.arguments.errors import InputError
from jaxalloc.backtest.walk import WalkForward
from jaxalloc.figures.canvas import graph_objects, template
from jaxalloc.report.drawings import Drawings, script_json
from jaxalloc.report.study_page import study_context
from jaxalloc.report.walk_page import walk_context

if TYPE_CHECKING:
    from jaxalloc.studies.study import Study

_FILES = importlib.resources.files("jaxalloc.report")


def html_page(result: Study | WalkForward, title: str | None = None, base: str | None = None) -> str:
    """Return the report of a study, or of a walk-forward whose profiles are compared with ``base``, as HTML.

    Raises:
        InputError: Plotly is not installed, or there is no such base.
    """
    graph_objects()
    import jinja2
    from plotly.offline import get_plotlyjs

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_read),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    drawings = Drawings()
    if isinstance(result, WalkForward):
        name, context = "walk.html.j2", walk_context(result, drawings, base)
    elif base is not None:
        raise InputError("a base is for the report of a walk-forward: a study compares no profiles with each other")
    else:
        name, context = "study.html.j2", study_context(result, drawings)
    return environment.get_template(name).render(
        title=title or context["heading"],
        style=_read("page.css"),
        script=_read("page.js"),
        plotly=_packed(get_plotlyjs()),
        templates=script_json({mode: template(mode) for mode in ("light", "dark")}),
        figures=drawings.json,
        version=__version__,
        **context,
    )


def _packed(script: str) -> str:
    """A script as base64 of gzip, a third of its size, which `page.js` unpacks; the same bytes each time."""
    return base64.b64encode(gzip.compress(script.encode(), 9, mtime=0)).decode("ascii")


def _read(name: str) -> str:
    return (_FILES / name).read_text(encoding="utf-8")
