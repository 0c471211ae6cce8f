"""A race's document as Markdown, and in a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from jaxalloc.arguments.words import counted
from jaxalloc.cli.render import empty_table
from jaxalloc.cli.render_bench import print_machine, rate, small
from rivals.common import PROFILES

_SPREAD = ("least", "median", "most")
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
        f"Each ratio is the median of {_pairs(document)} of runs of {document['seconds']:g} s or more; gaps are "
        "the largest of the universes that the oracle judged, the same for all.",
    ]
    lines += [f"{row['name']} left out: no {', '.join(row['missing'])}." for row in document["left_out"]]
    for job in document["jobs"]:
        lines += ["", f"## {job['job']}: {job['source']}, {job['n_assets']} assets, {job['n_rows']} rows", ""]
        lines += [_HEAD, "|" + " --- |" * _HEAD[:-1].count("|"), _our_row(job)]
        lines += [_row(row) for row in job["rivals"]]
    return "\n".join(lines) + "\n"


def _pairs(document: dict[str, Any]) -> str:
    """How many pairs a ratio is of: jobs may have been run apart."""
    counts = {len(row["pairs"]) for job in document["jobs"] for row in job["rivals"] if "pairs" in row}
    least, most = min(counts, default=document["pairs"]), max(counts, default=document["pairs"])
    return counted(most, "pair") if least == most else f"{least} to {most} pairs"


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


def ratio(value: dict[str, float]) -> tuple[str, str]:
    """The median of the pairs' ratios, and their range."""
    low, middle, high = (f"{value[name]:.3g}" if value[name] < 999.5 else rate(value[name]) for name in _SPREAD)
    return f"{middle} x", f"{low}-{high}"


# ---- in a terminal --------------------------------------------------------------------------------------------------


def print_race(found: dict[str, Any], console: Console) -> None:
    """Print the document: a table for each job, jaxalloc its first row."""
    print_machine(found, console)
    for job in found["jobs"]:
        _print_job(job, console)
    pairs = f"{_pairs(found)} of runs of {found['seconds']:g} s or more"
    console.print(f"\nfaster by: jaxalloc's rate over that row's, the median of {pairs}, and their range", style="dim")
    console.print("gap: distance from the optimum, the largest of four profiles in the universes judged", style="dim")
    console.print("clusters, leads: in how many of those they are the oracle's", style="dim")


def _print_job(job: dict[str, Any], console: Console) -> None:
    size = f"{counted(job['n_assets'], 'asset')}, {counted(job['n_rows'], 'row')}"
    console.print("", Text.assemble((job["job"], "bold"), f": {job['source']}, {size}"), sep="\n")
    goals = any(row["goal"] is not None for row in job["rivals"])
    columns = ["universes/s", "faster by", "range", *(["goal"] if goals else []), "gap", "clusters", "leads"]
    table = empty_table("", columns)
    ours = job["jaxalloc"]
    table.add_row("jaxalloc", rate(ours["universes_per_second"]), *[""] * (2 + goals), *_shares(ours["accuracy"]))
    notes = []
    for row in job["rivals"]:
        if "error" in row:
            table.add_row(row["name"], "failed")
            notes.append(f"{row['name']} failed: {row['error']}")
            continue
        goal = [] if not goals else ["" if row["goal"] is None else f"{row['goal']:g}"]
        speed = rate(row["universes_per_second"]), *ratio(row["ratio"]), *goal
        table.add_row(row["name"], *speed, *_shares(row["accuracy"]))
        if row["accuracy"]["failed"]:
            of_all = f"{row['accuracy']['failed']} of {counted(4 * row['accuracy']['universes'], 'portfolio')}"
            notes.append(f"{row['name']} found no weights for {of_all}")
    console.print(table)
    for note in notes:
        console.print(Text(f"note: {note}"), style="yellow")


def _shares(verdict: dict[str, Any]) -> list[str]:
    """The largest gap, and in how many universes the clusters and the lead assets are the oracle's."""
    n, gaps = verdict["universes"], [gap for gap in verdict["gap"].values() if gap == gap]
    shares = (f"{verdict[name]}/{n}" for name in ("partitions_equal", "leads_equal"))
    return [small(max(gaps, default=None)), *shares]
