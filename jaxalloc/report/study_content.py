"""What the page says: a study's tables as rows of text."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxalloc.arguments.words import counted, listing, plain_name
from jaxalloc.figures.names import cluster_colours
from jaxalloc.figures.portfolios import heaviest
from jaxalloc.portfolios.profiles import PROFILES
from jaxalloc.portfolios.result import valid_universes
from jaxalloc.portfolios.tables import asset_table, cluster_table
from jaxalloc.report.text_table import TextTable, split
from jaxalloc.report.words import NONE, percent, sentence, stability_sentence
from jaxalloc.settings.measures import UNIVERSE_MEASURE
from jaxalloc.settings.status import explain
from jaxalloc.studies.totals import BINDING, BITS, POSITIVE_WEIGHT

if TYPE_CHECKING:
    import pandas as pd

    from jaxalloc.studies.study import Study

TOP = 20  # assets in a figure
_SHOWN = (
    "volatility",
    "expected_return",
    "sharpe",
    "out_of_bag_sharpe",
    "effective_assets",
    "effective_clusters",
    "turnover",
)
_CLUSTERS_SHOWN = 8  # rows of a table before the rest is folded
_LISTED = 12  # names in a sentence


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the page says of one profile, before any detail.

    Attributes:
        profile: its name in the settings.
        name: its name in words.
        about: what it is, a sentence.
        sentence: how stable it is.
        binding: the caps that bind, a sentence each.
        notes: messages of its status.
        figures: measures of the estimate and over the universes.
        leads: the clusters of most weight and their lead assets.
        more_leads: the other clusters, if there are any.
        assets: every asset, the heaviest first.
        rest: what the assets hold that are not in the figure; empty if all are in it.
    """

    profile: str
    name: str
    about: str
    sentence: str
    binding: list[str]
    notes: list[str]
    figures: TextTable
    leads: TextTable
    more_leads: TextTable | None
    assets: TextTable
    rest: str


def answers(study: Study, at: int) -> list[Answer]:
    """Say of each profile what the estimate holds, how far it moves, and which caps bind."""
    summary: Any = study.summary(at)
    measures: Any = study.profile_summary(at)
    return [
        _answer(study, profile, at, summary.loc[profile], measures.loc[profile].to_dict(orient="index"))
        for profile in study.profiles
    ]


def _answer(study: Study, profile: str, at: int, summary: Any, measures: dict[Any, dict[Any, Any]]) -> Answer:
    estimate, config = study.estimate(at), study.settings.at(at)
    status = int(estimate.status[study.profiles.index(profile)])
    clusters = None
    if valid_universes(estimate.status):
        clusters = cluster_table(estimate, profile, config, study.symbols)
    leads, share = _leads(clusters, summary, cluster_colours(estimate.cluster_labels)), math.nan
    if clusters is not None:
        often = summary["frequency_lead"][clusters["lead"]].fillna(0)
        share = float(np.average(often, weights=clusters["weight"].to_numpy()))
    shown, folded = split(leads, _CLUSTERS_SHOWN)
    return Answer(
        profile=profile,
        name=plain_name(profile),
        about=sentence(PROFILES[profile].about),
        sentence=stability_sentence(measures["turnover"], int(study.totals[at].tallies.n_valid), share),
        binding=_binding(study, profile, at) if clusters is not None else [],
        notes=explain(status, config),
        figures=_measures(measures),
        leads=shown,
        more_leads=folded,
        assets=_assets(study, profile, at, summary),
        rest=_rest(summary),
    )


def _measures(measures: dict[Any, dict[Any, Any]]) -> TextTable:
    rows = []
    for name in _SHOWN:
        measure, row = UNIVERSE_MEASURE[name], measures[name]
        if row["n_universes"] or math.isfinite(row["point"]):
            estimate = measure.write(row["point"], NONE) if name != "turnover" else ""
            heading = measure.heading[:1].upper() + measure.heading[1:]
            rows.append((heading, estimate, *(measure.write(row[q], NONE) for q in ("q50", "q05", "q95"))))
    return TextTable(("", "estimate", "median", "5 %", "95 %"), rows)


def _leads(clusters: pd.DataFrame | None, summary: pd.DataFrame, colours: dict[int, str]) -> TextTable:
    often, rows = summary["frequency_lead"].to_dict(), [] if clusters is None else clusters.to_dict(orient="records")
    return TextTable(
        headings=("cluster of", "weight", "leads it in", "assets"),
        rows=[
            (str(row["lead"]), percent(row["weight"]), percent(often[row["lead"]], 0), str(row["size"])) for row in rows
        ],
        marks=tuple(colours[row["cluster"]] for row in rows),
    )


def _binding(study: Study, profile: str, at: int) -> list[str]:
    """The caps that bind in the estimate, a sentence for clusters and one for assets."""
    estimate, position = study.estimate(at), study.profiles.index(profile)
    assets: Any = asset_table(estimate, profile, study.settings.at(at), study.symbols)
    asset_bound, cluster_bound = float(estimate.asset_bound[position]), float(estimate.cluster_bound[position])
    inside = assets[(assets["cluster"] >= 0) & ~assets["sleeve"]]
    aggressive = set(assets.loc[assets["sleeve"], "cluster"])
    capped = []
    for cluster, members in inside.groupby("cluster"):
        most = min(cluster_bound, len(members) * asset_bound)
        if cluster not in aggressive and members["weight"].sum() >= most - BINDING and most == cluster_bound < 1:
            capped.append(str(members.loc[members["lead"], "symbol"].iloc[0]))
    full = inside.loc[inside["weight"] >= asset_bound - BINDING, "symbol"].astype(str).tolist()
    sentences = []
    if capped:
        noun, verb = ("cluster", "is at its") if len(capped) == 1 else ("clusters", "are at their")
        sentences.append(f"The {noun} of {listing(capped, _LISTED)} {verb} cap of {percent(cluster_bound)}.")
    if full and asset_bound < 1:
        verb = "is at its" if len(full) == 1 else "are at their"
        sentences.append(f"{listing(full, _LISTED)} {verb} largest weight of {percent(asset_bound)}.")
    return sentences


def _assets(study: Study, profile: str, at: int, summary: pd.DataFrame) -> TextTable:
    """Every asset, the heaviest first."""
    estimate = study.estimate(at)
    labels: dict[Any, int] = dict(zip(study.symbols, estimate.cluster_labels.tolist(), strict=True))
    leads, colours = estimate.lead_assets[study.profiles.index(profile)], cluster_colours(estimate.cluster_labels)
    sleeve = PROFILES[profile].sleeve
    headings = ("asset", "cluster of", "estimate", "mean", "5 %", "median", "95 %")
    headings += ("held in", "at its bound", "leads in", *(("in the sleeve in",) if sleeve else ()))
    rows, marks = [], []
    for symbol, row in heaviest(summary, len(summary)).iterrows():
        values = row.to_dict()
        cluster = labels[symbol]
        weights = [percent(values[q], 2) for q in ("point", "mean", "q05", "q50", "q95")]
        names = ("positive", "binding", "lead", *(("sleeve",) if sleeve else ()))
        often = [percent(values[f"frequency_{name}"], 0) for name in names]
        led = int(leads[cluster]) if cluster >= 0 else -1
        rows.append((str(symbol), str(study.symbols[led]) if led >= 0 else "none", *weights, *often))
        marks.append(colours[cluster])
    return TextTable(headings, rows, words=2, marks=tuple(marks))


def _rest(summary: pd.DataFrame) -> str:
    """What the figure of the heaviest assets leaves out."""
    others: Any = summary.drop(index=heaviest(summary, TOP).index)
    if others.empty:
        return ""
    held = int((others["point"] > POSITIVE_WEIGHT).sum())
    estimate = "nothing in the estimate"
    if held:
        share = percent(float(others["point"].sum()))
        estimate = f"together {share} of the estimate ({held} with a weight above 0)"
    mean = percent(float(others["mean"].sum()))
    verb = "holds" if len(others) == 1 else "hold"
    return f"The other {counted(len(others), 'asset')} {verb} {estimate}, and {mean} on average over the universes."


def stability(study: Study, at: int) -> TextTable:
    """The estimate's clusters, the least stable first."""
    table = study.cluster_stability(at).sort_values("stability", kind="stable")
    colours = cluster_colours(study.estimate(at).cluster_labels)
    rows = [
        (str(row["members"]), str(row["size"]), percent(row["stability"], 0)) for row in table.to_dict(orient="records")
    ]
    return TextTable(("members", "assets", "stability"), rows, marks=tuple(colours[int(k)] for k in table.index))


def statuses(study: Study, at: int) -> TextTable:
    """Every status: what it means, in how many universes of all points it was set, and whether it is the estimate's."""
    counts = study.status_counts()
    total = study.n * len(study.settings)
    sums: Any = counts.groupby(level="profile").sum()
    by_profile = sums.to_dict(orient="index")
    estimate = [int(status) for status in study.estimate(at).status]
    rows = []
    for bit in BITS:
        cells = []
        for profile, status in zip(study.profiles, estimate, strict=True):
            count = int(by_profile[profile][str(bit.name)])
            share = f" ({percent(count / total)})" if count else ""
            cells.append(f"{count:,}{share}{' *' if status & bit else ''}")
        rows.append((str(bit.name), *cells, *explain(bit, study.config)))
    return TextTable(("status", *map(plain_name, study.profiles), "what it means, and what to do"), rows)
