"""The first screen of a study's page: the profiles side by side, which to hold and why, and what that portfolio is."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxalloc.arguments.words import counted, plain_name
from jaxalloc.figures.names import cluster_colours
from jaxalloc.portfolios.result import valid_universes
from jaxalloc.portfolios.tables import asset_table, cluster_table
from jaxalloc.report.text_table import TextTable, split
from jaxalloc.report.words import NONE, percent
from jaxalloc.studies.recommendation import COMPARED_MEASURE, OVER_UNIVERSES, best_of
from jaxalloc.studies.totals import POSITIVE_WEIGHT

if TYPE_CHECKING:
    from jaxalloc.studies.study import Study

_CLUSTERS_SHOWN = 10  # rows of the portfolio before the rest is folded
_MEMBERS_SHOWN = 6  # of a cluster


@dataclasses.dataclass(frozen=True)
class Cell:
    """A cell of the comparison: its text, and whether it is the best of its row."""

    text: str
    best: bool


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the page says first.

    Attributes:
        profiles: names of the profiles in words, those of the columns.
        rows: a measure's heading and its cells, one a profile.
        chosen: the place of the profile to hold, or to look at first; None if there is none.
        head: what to hold, a few words.
        why: the reason.
        holdings: the chosen portfolio's clusters: lead, weight, share of the risk, and members with their weights.
        more: the other clusters that have a weight, if there are any.
        empty: how many clusters have none, in words; empty text if all have one.
    """

    profiles: list[str]
    rows: list[tuple[str, list[Cell]]]
    chosen: int | None
    head: str
    why: str
    holdings: TextTable | None
    more: TextTable | None
    empty: str


def verdict(study: Study, at: int) -> Verdict:
    """Compare the profiles at a point of the grid, and say which to hold."""
    frame, advice = study.comparison(at), study.recommendation(at)
    best = best_of(frame)
    rows = []
    for name, values in frame.iterrows():
        measure = COMPARED_MEASURE[str(name)]
        heading = measure.words
        if name in OVER_UNIVERSES:
            heading += ", mean"
        cells = [
            Cell(text=measure.write(float(value), NONE), best=best[str(name)] == profile)
            for profile, value in values.items()
        ]
        rows.append((heading, cells))
    shown, folded = None, None
    if advice.profile is not None and valid_universes(study.estimate(at).status):
        shown, folded = _holdings(study, advice.profile, at)
    return Verdict(
        profiles=[plain_name(profile) for profile in study.profiles],
        rows=rows,
        chosen=None if advice.profile is None else study.profiles.index(advice.profile),
        head=_head(advice.profile, advice.told_apart, len(study.profiles)),
        why=advice.why,
        holdings=shown,
        more=folded,
        empty=_empty(study, advice.profile, at) if shown else "",
    )


def _head(profile: str | None, told_apart: bool, count: int) -> str:
    if profile is None:
        return "Nothing could be allocated"
    if told_apart or count == 1:
        return f"Hold {plain_name(profile)}"
    return f"These cannot be told apart; shown is {plain_name(profile)}"


def _holdings(study: Study, profile: str, at: int) -> tuple[TextTable, TextTable | None]:
    """A portfolio's clusters, the heaviest first, in a table and what is folded."""
    estimate, config = study.estimate(at), study.settings.at(at)
    clusters: Any = cluster_table(estimate, profile, config, study.symbols)
    assets: Any = asset_table(estimate, profile, config, study.symbols)
    rows, marks, colours = [], [], cluster_colours(estimate.cluster_labels)
    for row in clusters.to_dict(orient="records"):
        if not row["weight"] > POSITIVE_WEIGHT:
            continue
        members = assets[assets["cluster"] == row["cluster"]]
        rows.append((str(row["lead"]), percent(row["weight"]), percent(row["risk_contribution"]), _members(members)))
        marks.append(colours[row["cluster"]])
    headings = ("cluster of", "weight", "share of risk", "assets and their weights")
    return split(TextTable(headings, rows, marks=tuple(marks)), _CLUSTERS_SHOWN)


def _empty(study: Study, profile: str | None, at: int) -> str:
    weights = np.asarray(study.estimate(at).cluster_weights)[study.profiles.index(profile or "")]
    count = int(study.estimate(at).n_clusters) - int((weights > POSITIVE_WEIGHT).sum())
    verb = "has" if count == 1 else "have"
    return f"{counted(count, 'more cluster')} {verb} no weight in it." if count else ""


def _members(members: Any) -> str:
    """The assets of a cluster with their weights, the heaviest first."""
    listed = [
        f"{symbol} {percent(weight)}" for symbol, weight in zip(members["symbol"], members["weight"], strict=True)
    ]
    rest = listed[_MEMBERS_SHOWN:]
    text = ", ".join(listed[:_MEMBERS_SHOWN])
    if not rest:
        return text
    weight = percent(float(members["weight"].iloc[_MEMBERS_SHOWN:].sum()))
    return f"{text} and {counted(len(rest), 'more asset')} with {weight}"
