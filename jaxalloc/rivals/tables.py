"""A race's document as Markdown."""

from __future__ import annotations

import math
from typing import Any

from jaxalloc.rivals.common import PROFILES

_HEAD = (
    "| | universes/s | jaxalloc is faster by | range of pairs | goal | "
    + " | ".join(f"gap: {profile}" for profile in PROFILES)
    + " | over limit | partitions, leads equal | no weights |"
)


def markdown(document: dict[str, Any]) -> str:
    """Return the machine and a table for each job; jaxalloc is its first row."""
    machine, device = document["machine"], document["device"]
    where = f"{device['count']} {device['platform']} ({device['kind']})"
    lines = [
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}; "
        f"jaxalloc in {document['precision']} bits on {where}; {document['started']}.",
        "",
        f"Each ratio is the median of {document['pairs']} pairs of runs of {document['seconds']:g} s or more; gaps are "
        f"the largest of {document['judged']} universes, the same for all.",
    ]
    lines += [f"{row['name']} left out: no {', '.join(row['missing'])}." for row in document["left_out"]]
    for job in document["jobs"]:
        lines += ["", f"## {job['job']}: {job['source']}, {job['n_assets']} assets, {job['n_rows']} rows", ""]
        lines += [_HEAD, "|" + " --- |" * _HEAD[:-1].count("|"), _our_row(job)]
        lines += [_row(row) for row in job["rivals"]]
    return "\n".join(lines) + "\n"


def _our_row(job: dict[str, Any]) -> str:
    ours = job["jaxalloc"]
    goal = ours["goal_universes_per_second"]
    wanted = "" if goal is None else f"{goal:,.0f}/s"
    cells = ["jaxalloc", rate(ours["universes_per_second"]), "", "", wanted, *_accuracy(ours["accuracy"])]
    return f"| {' | '.join(cells)} |"


def _row(row: dict[str, Any]) -> str:
    if "error" in row:
        return f"| {row['name']} | failed: {row['error'].replace('|', '/')} |" + " |" * (_HEAD.count("|") - 3)
    goal = "" if row["goal"] is None else f"{row['goal']:g}"
    cells = [row["name"], rate(row["universes_per_second"]), *ratio(row["ratio"]), goal, *_accuracy(row["accuracy"])]
    return f"| {' | '.join(cells)} |"


def _accuracy(verdict: dict[str, Any]) -> list[str]:
    n = verdict["universes"]
    return [
        *(small(verdict["gap"][profile]) for profile in PROFILES),
        f"{sum(verdict['over_limit'].values())} of {n * len(PROFILES)}",
        f"{verdict['partitions_equal']}, {verdict['leads_equal']} of {n}",
        f"{verdict['failed']}" if verdict["failed"] else "",
    ]


def rate(value: float) -> str:
    """Universes a second, to three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def ratio(value: dict[str, float]) -> tuple[str, str]:
    """The median of the pairs' ratios, and their range."""
    low, middle, high = (f"{value[name]:.3g}" if value[name] < 1000 else rate(value[name]) for name in _SPREAD)
    return f"{middle} x", f"{low}-{high}"


_SPREAD = ("least", "median", "most")


def small(value: float | None) -> str:
    """A gap, to one digit; a dash where there is none."""
    return f"{value:.0e}" if value is not None and math.isfinite(value) else "-"
