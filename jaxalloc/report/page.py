"""The page: its figures, its template, and the script and the style that it holds."""

from __future__ import annotations

import importlib.resources
import json
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jaxalloc import figures
from jaxalloc._version import __version__
from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import counted
from jaxalloc.backtest.walk import WalkForward
from jaxalloc.figures.canvas import graph_objects, plain_name, template
from jaxalloc.figures.sweeps import sweep_heatmap
from jaxalloc.portfolios.profiles import PROFILES
from jaxalloc.report import again, content
from jaxalloc.report.walk_page import walk_context
from jaxalloc.report.words import clusters_sentence, sampler_words
from jaxalloc.settings.measures import UNIVERSE_MEASURE

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from jaxalloc.studies.study import Study

_FILES = importlib.resources.files("jaxalloc.report")
_SPREADS = (
    ("volatility", "out_of_bag_volatility"),
    ("sharpe", "out_of_bag_sharpe"),
    ("effective_clusters", "effective_assets"),
    ("turnover", "expected_return"),
)
_SWEPT = ("volatility", "sharpe", "out_of_bag_sharpe", "effective_assets", "effective_clusters", "turnover")
# what JSON within a script element must not hold: "</script>" in a symbol would end it
_UNSAFE = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026", 0x2028: "\\u2028", 0x2029: "\\u2029"}


class Figures:
    """The page's figures as it draws them, by their ids."""

    def __init__(self) -> None:
        """Start without any."""
        self.json: dict[str, str] = {}

    def add(self, name: str, make: Callable[[], go.Figure]) -> dict[str, Any]:
        """Make a figure; return its id and height, or why there is none."""
        try:
            figure = make()
        except InputError as reason:
            return {"missing": str(reason)}
        plain = json.loads(str(figure.to_json()))
        plain["layout"].pop("template", None)  # by day or by night: the page's to choose
        self.json[name] = json.dumps(plain, separators=(",", ":"), ensure_ascii=False).translate(_UNSAFE)
        return {"id": name, "height": figure.layout.height}


def html_page(result: Study | WalkForward, title: str | None = None, base: str | None = None) -> str:
    """Return the report of a study, or of a walk-forward beside its profile ``base``, as HTML.

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
    made = Figures()
    if isinstance(result, WalkForward):
        name, context = "walk.html.j2", walk_context(result, made, base)
    elif base is not None:
        raise InputError("a base is for the report of a walk-forward: a study compares no profiles with each other")
    else:
        name, context = "study.html.j2", _context(result, made)
    page = environment.get_template(name)
    templates = {mode: template(mode) for mode in ("light", "dark")}
    return page.render(
        title=title or context["heading"],
        style=_read("page.css"),
        script=_read("page.js"),
        plotly=get_plotlyjs(),
        templates=json.dumps(templates, separators=(",", ":")).translate(_UNSAFE),
        figures=made.json,
        version=__version__,
        **context,
    )


def _read(name: str) -> str:
    return (_FILES / name).read_text(encoding="utf-8")


def _context(study: Study, made: Figures) -> dict[str, Any]:
    """What the template takes, beside the figures' numbers."""
    at = study.settings.home
    n_universes = study.n * len(study.settings)
    point = dict(zip(study.settings.names, study.settings.points[at], strict=True))
    left_out = int((study.estimate(at).cluster_labels < 0).sum())
    barbell = any(PROFILES[profile].sleeve for profile in study.profiles)
    return {
        "heading": f"{counted(len(study.symbols), 'asset')}, {counted(n_universes, 'universe')}",
        "subtitle": _subtitle(study),
        "point": ", ".join(f"{plain_name(name)} {value:g}" for name, value in point.items()),
        "n_points": len(study.settings),
        "n_invalid": n_universes - study.n_valid,
        "n_universes": n_universes,
        "answers": [
            (content.answer(study, profile, at), made.add(f"weights-{profile}", _weights(study, profile, at)))
            for profile in study.profiles
        ],
        "sweep": _sweep(study, made),
        "clusters_sentence": clusters_sentence(study.cluster_stability(at), study.cluster_counts(at)),
        "left_out": left_out,
        "correlation": made.add("correlation", lambda: figures.correlation(study, at)),
        "co_association": made.add("co-association", lambda: figures.co_association(study, at)),
        "cluster_counts": made.add("cluster-counts", lambda: figures.cluster_counts(study, at)),
        "stability": content.stability(study, at),
        "boxes": made.add("boxes", lambda: figures.boxes(study, at=at)),
        "spreads": [made.add(f"spread-{names[0]}", _spread(study, names, at)) for names in _SPREADS],
        "sleeve": made.add("sleeve", lambda: figures.sleeve(study, at=at)) if barbell else None,
        "statuses": content.statuses(study, at),
        "settings": content.settings(study, at),
        "facts": _facts(study),
        "command": again.command_line(study),
        "python": again.python_lines(study),
        "notes": [str(note) for note in study.record.get("notes", [])],
    }


def _weights(study: Study, profile: str, at: int) -> Callable[[], go.Figure]:
    return lambda: figures.weights(study, profile, top=content.TOP, at=at)


def _spread(study: Study, measures: tuple[str, ...], at: int) -> Callable[[], go.Figure]:
    return lambda: figures.distributions(study, measures, at=at)


def _sweep(study: Study, made: Figures) -> list[dict[str, Any]]:
    """For each measure its heat maps, one a profile or one for all; those that say something first."""
    if not study.settings.names:
        return []
    of_each = study.profiles if len(study.settings.names) > 1 else (None,)
    found = []
    for measure in (*_SWEPT, "n_clusters", "stability"):
        maps = []
        for profile in of_each if measure in _SWEPT else (None,):
            if measure in _SWEPT and not _occurs(study, measure):
                continue
            drawn = made.add(f"sweep-{measure}-{profile or 'all'}", _swept(study, measure, profile))
            maps.append(drawn | {"name": plain_name(profile) if profile else ""})
        if maps:
            found.append({"name": UNIVERSE_MEASURE[measure].words, "maps": maps})
    return found


def _swept(study: Study, measure: str, profile: str | None) -> Callable[[], go.Figure]:
    return lambda: sweep_heatmap(study, measure, profile)


def _occurs(study: Study, measure: str) -> bool:
    means = study.profile_summary().xs(measure, level="measure")["mean"]
    return any(math.isfinite(mean) and (measure != "turnover" or mean > 0) for mean in means)


def _subtitle(study: Study) -> str:
    data = study.record.get("data", {})
    rows = f"{counted(data['n_observations'], 'row')}, {data['first']} to {data['last']}. " if data else ""
    drawn = sampler_words(study.record.get("sampler") or {"sampler": "Product", "factors": []})
    grid = f", each at {counted(len(study.settings), 'point')} of a grid of settings" if study.settings.names else ""
    return f"{rows}Universes: {drawn}{grid}; seed {study.seed}."


def _facts(study: Study) -> list[tuple[str, str]]:
    """What the study was computed from and with."""
    record = study.record
    data, versions = record.get("data", {}), record.get("versions", {})
    facts = [
        ("data", f"{data.get('n_observations', '?')} rows of {len(study.symbols)} assets"),
        ("data, SHA-256", str(data.get("sha256", "not known"))),
        ("universes", sampler_words(record.get("sampler") or {"sampler": "Product", "factors": []})),
        ("seed", str(study.seed)),
        ("precision", f"{study.precision} bits"),
        ("versions", ", ".join(f"{name} {number}" for name, number in versions.items()) or "not known"),
        ("device", str(record.get("device", "not known"))),
        ("started", str(record.get("started", "not known"))),
        ("took", f"{record['seconds']:,.1f} seconds" if "seconds" in record else "not known"),
    ]
    return facts
