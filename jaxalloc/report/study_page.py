"""A study's page: what its template takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jaxalloc import figures
from jaxalloc.arguments.words import counted, plain_name, point_name
from jaxalloc.figures.sweeps import sweep_heatmap
from jaxalloc.portfolios.profiles import PROFILES
from jaxalloc.report import again, study_content
from jaxalloc.report.alts import alts, spoken
from jaxalloc.report.drawings import Drawings
from jaxalloc.report.text_table import settings_table
from jaxalloc.report.verdict import verdict
from jaxalloc.report.words import clusters_sentence, sampler_words
from jaxalloc.settings.measures import UNIVERSE_MEASURE

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from jaxalloc.studies.study import Study

_SPREADS = (
    ("volatility", "out_of_bag_volatility"),
    ("sharpe", "out_of_bag_sharpe"),
    ("effective_clusters", "effective_assets"),
    ("turnover", "expected_return"),
)
_SWEPT = ("volatility", "sharpe", "out_of_bag_sharpe", "effective_assets", "effective_clusters", "turnover")


def study_context(study: Study, drawings: Drawings) -> dict[str, Any]:
    """Return what the template takes, and add the page's figures to ``drawings``."""
    at = study.settings.home
    n_universes = study.n * len(study.settings)
    left_out = int((study.estimate(at).cluster_labels < 0).sum())
    barbell = any(PROFILES[profile].sleeve for profile in study.profiles)
    return {
        "heading": f"{counted(len(study.symbols), 'asset')}, {counted(n_universes, 'universe')}",
        "subtitle": _subtitle(study),
        "point": point_name(study.settings.names, study.settings.points[at]),
        "n_points": len(study.settings),
        "n_invalid": n_universes - study.n_valid,
        "n_universes": n_universes,
        "verdict": (said := verdict(study, at)),
        "risks": drawings.add("risks", _risks(study, said.chosen, at)) if said.holdings else None,
        "treemap": drawings.add("treemap", _treemap(study, said.chosen, at)) if said.holdings else None,
        "answers": [
            (answer, drawings.add(f"weights-{answer.profile}", _weights(study, answer.profile, at)))
            for answer in study_content.answers(study, at)
        ],
        "sweep": _sweep(study, drawings),
        "clusters_sentence": clusters_sentence(study.cluster_stability(at), study.cluster_counts(at)),
        "left_out": left_out,
        "correlation": drawings.add("correlation", lambda: figures.correlation(study, at)),
        "co_association": drawings.add("co-association", lambda: figures.co_association(study, at)),
        "cluster_counts": drawings.add("cluster-counts", lambda: figures.cluster_counts(study, at)),
        "stability": study_content.stability(study, at),
        "boxes": drawings.add("boxes", lambda: figures.boxes(study, at=at)),
        "spreads": [
            (spoken(names), drawings.add(f"spread-{names[0]}", _spread(study, names, at))) for names in _SPREADS
        ],
        "alts": alts(study, said, at),
        "sleeve": drawings.add("sleeve", lambda: figures.sleeve(study, at=at)) if barbell else None,
        "statuses": study_content.statuses(study, at),
        "settings": settings_table(study.settings, at),
        "facts": _facts(study),
        "command": again.command_line(study.record),
        "python": again.python_lines(study),
        "notes": [str(note) for note in study.record["notes"]],
    }


def _weights(study: Study, profile: str, at: int) -> Callable[[], go.Figure]:
    return lambda: figures.weights(study, profile, top=study_content.TOP, at=at)


def _risks(study: Study, chosen: int | None, at: int) -> Callable[[], go.Figure]:
    return lambda: figures.risks(study, study.profiles[chosen or 0], at=at)


def _treemap(study: Study, chosen: int | None, at: int) -> Callable[[], go.Figure]:
    return lambda: figures.treemap(study, study.profiles[chosen or 0], at=at)


def _spread(study: Study, measures: tuple[str, ...], at: int) -> Callable[[], go.Figure]:
    return lambda: figures.distributions(study, measures, at=at)


def _sweep(study: Study, drawings: Drawings) -> list[dict[str, Any]]:
    """The heat maps of each measure: one a profile, or one for all. A measure that no universe has is left out."""
    if not study.settings.names:
        return []
    means: Any = study.profile_summary()["mean"]
    of_each = study.profiles if len(study.settings.names) > 1 else (None,)
    measures = []
    for measure in (*_SWEPT, "n_clusters", "stability"):
        maps = []
        for profile in of_each if measure in _SWEPT else (None,):
            if measure in _SWEPT and not _occurs(means, measure):
                continue
            drawn = drawings.add(f"sweep-{measure}-{profile or 'all'}", _swept(study, measure, profile))
            maps.append(drawn | {"name": plain_name(profile) if profile else ""})
        if maps:
            measures.append({"name": UNIVERSE_MEASURE[measure].words, "maps": maps})
    return measures


def _swept(study: Study, measure: str, profile: str | None) -> Callable[[], go.Figure]:
    return lambda: sweep_heatmap(study, measure, profile)


def _occurs(means: pd.Series, measure: str) -> bool:
    """Whether a measure has a mean at any point; turnover from the estimate is 0 where there is one universe."""
    values: Any = means.xs(measure, level="measure")
    return any(math.isfinite(mean) and (measure != "turnover" or mean > 0) for mean in values)


def _subtitle(study: Study) -> str:
    data = study.record["data"]
    rows = f"{counted(data['n_observations'], 'row')}, {data['first']} to {data['last']}. "
    points = counted(len(study.settings), "point")
    grid = f", each allocated at {points} of a grid of settings" if study.settings.names else ""
    return f"{rows}Universes: {sampler_words(study.record['sampler'])}{grid}. Seed {study.seed}."


def _facts(study: Study) -> list[tuple[str, str]]:
    """What the study was computed from, and with what."""
    record = study.record
    return [
        ("data", f"{record['data']['n_observations']} rows of {len(study.symbols)} assets"),
        ("data, SHA-256", str(record["data"]["sha256"])),
        ("universes", sampler_words(record["sampler"])),
        ("seed", str(study.seed)),
        ("precision", f"{study.precision} bits"),
        ("versions", ", ".join(f"{name} {number}" for name, number in record["versions"].items())),
        ("device", str(record["device"])),
        ("started", str(record["started"])),
        ("took", f"{record['seconds']:,.1f} seconds"),
    ]
