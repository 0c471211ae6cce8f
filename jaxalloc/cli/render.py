"""What a person sees in a terminal: tables on stdout; notes and progress on stderr.

rich leaves colours out where the output is no terminal, or where NO_COLOR is set.
"""

from __future__ import annotations

import contextlib
import datetime
import math
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task
from rich.table import Table
from rich.text import Text

from jaxalloc.cli.documents import records
from jaxalloc.cli.options import in_flags
from jaxalloc.status import Status
from jaxalloc.tables import counted

if TYPE_CHECKING:
    from jaxalloc.cli.portfolios import Portfolios
    from jaxalloc.study import Study

FOLDED_ROWS = 25  # a longer table shows this many, the heaviest
_MEASURES = {
    "volatility": "volatility",
    "expected_return": "expected return",
    "effective_assets": "effective assets",
    "turnover": "turnover",
}


def stdout() -> Console:
    """Return a console on standard output."""
    return Console(file=sys.stdout, highlight=False)


def stderr() -> Console:
    """Return a console on standard error."""
    return Console(file=sys.stderr, highlight=False)


def percent(value: float) -> str:
    """A fraction as per cent; a dash for none."""
    return f"{100 * value:.2f} %" if math.isfinite(value) else "-"


def _number(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else "-"


def plain(name: object) -> Text:
    """A user's text as it stands, less what a terminal would act on."""
    return Text("".join(c if c.isprintable() else "?" for c in str(name)))


def say_notes(notes: Sequence[str], quiet: bool) -> None:
    """Say on stderr what was done to the input."""
    if not quiet:
        for note in notes:
            stderr().print(Text(f"note: {note}"), style="dim", soft_wrap=True)


@contextlib.contextmanager
def working(text: str, quiet: bool) -> Iterator[None]:
    """Show that something is going on, where there is a terminal to show it."""
    if quiet or not sys.stderr.isatty():
        yield
    else:
        with stderr().status(text):
            yield


class _Pace(ProgressColumn):
    """Universes a second since the start, and the time left at that pace; the first ones wait for the compiler."""

    def render(self, task: Task) -> Text:
        elapsed = (task.finished_time if task.finished else task.elapsed) or 0.0
        if not (task.completed and elapsed):
            return Text("compiling")
        pace = task.completed / elapsed
        left = datetime.timedelta(seconds=math.ceil(task.remaining / pace if task.remaining else 0))
        return Text(f"{pace:,.0f} universes/s" + ("" if task.finished else f", {left} left"))


@contextlib.contextmanager
def progress_bar(total: int, quiet: bool) -> Iterator[Callable[[int], None] | None]:
    """Show a bar on stderr, where there is a terminal; yield what advances it by a number of universes."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    with Progress(BarColumn(bar_width=24), MofNCompleteColumn(), _Pace(), console=stderr()) as progress:
        task = progress.add_task("", total=total)
        yield lambda done: progress.update(task, advance=done)


# ---- portfolios -----------------------------------------------------------------------------------------------------


def print_portfolios(portfolios: Portfolios, console: Console, rows: int | None = FOLDED_ROWS) -> None:
    """Print each profile's figures, clusters and assets; of long tables the heaviest rows, of all if None."""
    print_header(portfolios, console)
    for profile in portfolios.config.profiles:
        print_clusters(portfolios, profile, console, rows)
        console.print()
        print_assets(portfolios, profile, console, rows)
    if rows is not None and portfolios.panel.n_assets > rows:
        console.print("\n--all shows every cluster and asset", style="dim")


def print_header(portfolios: Portfolios, console: Console) -> None:
    """Print what was allocated to."""
    panel = portfolios.panel
    n_active = int((portfolios.allocation.cluster_labels >= 0).sum())
    of_all = "" if n_active == panel.n_assets else f"{n_active:,} of "
    found = f"{of_all}{counted(panel.n_assets, 'asset')} in {counted(portfolios.n_clusters, 'cluster')}"
    console.print(plain(f"{Path(portfolios.name).name}: {counted(panel.n_observations, 'row')} of returns, {found}"))


def print_clusters(portfolios: Portfolios, profile: str, console: Console, rows: int | None) -> None:
    """Print a profile's figures and its `jaxalloc.summary.cluster_table`."""
    figures = portfolios.figures(profile)
    volatility, mean = percent(figures["volatility"]), percent(figures["expected_return"])
    heading = Text.assemble((profile, "bold"), f": volatility {volatility}, expected return {mean} a year")
    console.print("", heading, sep="\n")
    for message in figures["messages"]:
        console.print(Text(f"note: {in_flags(message)}"), style="yellow")
    lines = records(portfolios.clusters(profile))
    shown, rest = _fold(lines, rows)
    grid = _grid("cluster", ("weight", "risk", "assets"), ("lead asset", "members"))
    room = max(20, console.width - 38 - max(10, *(len(str(row["lead"])) for row in shown)))
    for row in shown:
        numbers = percent(row["weight"]), percent(row["risk_contribution"]), str(row["size"])
        members = textwrap.shorten(row["members"], room, placeholder=" ...")
        grid.add_row(str(row["cluster"]), *numbers, plain(row["lead"]), plain(members))
    console.print(grid)
    _print_rest(rest, "cluster", console)
    sleeve = [row for row in records(portfolios.assets(profile)) if row["sleeve"]]
    if sleeve:
        symbols = ", ".join(str(row["symbol"]) for row in sleeve)
        console.print(plain(f"sleeve, {percent(sum(row['weight'] for row in sleeve))}: {symbols}"))


def print_assets(portfolios: Portfolios, profile: str, console: Console, rows: int | None) -> None:
    """Print a profile's `jaxalloc.summary.asset_table`."""
    lines = records(portfolios.assets(profile))
    held = lines if rows is None else [row for row in lines if row["weight"] > 0]
    shown, rest = _fold(held, rows)
    marks = ("lead", "sleeve") if any(row["sleeve"] for row in lines) else ("lead",)
    grid = _grid("asset", ("cluster", "weight", "share of cluster", "risk"), marks)
    for row in shown:
        numbers = (percent(row[name]) for name in ("weight", "share", "risk_contribution"))
        cluster = str(row["cluster"]) if row["cluster"] >= 0 else "none"
        grid.add_row(plain(row["symbol"]), cluster, *numbers, *("yes" if row[name] else "" for name in marks))
    console.print(grid)
    _print_rest(rest, "asset", console, len(lines) - len(held))


def _grid(first: str, numbers: Sequence[str], words: Sequence[str] = ()) -> Table:
    """An empty table: a name, columns of numbers, columns of words."""
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    grid.add_column(first, overflow="fold", min_width=len(first))
    for name in numbers:
        grid.add_column(name, justify="right", no_wrap=True)
    for name in words:
        grid.add_column(name, overflow="fold", min_width=len(name))
    return grid


def _fold(lines: list[dict[str, Any]], rows: int | None) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The heaviest lines, as many as there are rows (None: all), in their order; and the others."""
    if rows is None:
        return lines, []
    places = sorted(range(len(lines)), key=lambda k: -lines[k]["weight"])
    return [lines[k] for k in sorted(places[:rows])], [lines[k] for k in places[rows:]]


def _print_rest(rest: list[dict[str, Any]], noun: str, console: Console, n_zero: int = 0) -> None:
    parts = []
    if rest:
        parts.append(
            f"{counted(len(rest), f'more {noun}')} with {percent(sum(row['weight'] for row in rest))} together"
        )
    if n_zero:
        parts.append(f"{counted(n_zero, noun)} with weight 0")
    if parts:
        console.print(f"and {', '.join(parts)}", style="dim")


# ---- a study --------------------------------------------------------------------------------------------------------


def print_study(study: Study, console: Console) -> None:
    """Print how each profile's figures and heaviest assets move over the universes."""
    invalid = "" if study.valid.all() else f" ({int((~study.valid).sum()):,} of them invalid)"
    found = f"{counted(len(study.symbols), 'asset')} in {_range(study.n_clusters[study.valid])} clusters"
    console.print(f"{counted(study.n, 'universe')}{invalid}, {found}")
    console.print("estimate: from the data as they are; mean and 5, 50, 95 %: over the universes", style="dim")
    figures, assets, counts = study.profile_summary(), study.summary(), study.status_counts()
    for profile in study.profiles:
        console.print("", Text(profile, "bold"), sep="\n")
        for bit in Status:
            n_flagged = int(counts.at[profile, bit.name])
            if n_flagged:
                share = f"{n_flagged:,} of {counted(study.n, 'universe')}"
                console.print(Text(f"note: in {share}: {in_flags(bit.message)}"), style="yellow")
        grid = _grid("", ("estimate", "mean", "5 %", "50 %", "95 %", "lead in"))
        for measure, words in _MEASURES.items():
            write = _number if measure == "effective_assets" else percent
            grid.add_row(words, *_spread(figures.loc[(profile, measure)].to_dict(), write))
        grid.add_row(Text("weight of", style="dim"))
        for row in _heaviest(records(assets.loc[profile])):
            grid.add_row(plain(row["symbol"]), *_spread(row, percent), f"{100 * row['frequency_lead']:.0f} %")
        console.print(grid)


def _range(counts: np.ndarray) -> str:
    """How many clusters: the middle 90 % of universes."""
    if not len(counts):
        return "no"
    low, high = (round(float(level)) for level in np.quantile(counts, (0.05, 0.95)))
    return f"{low}" if low == high else f"{low} to {high}"


def _spread(row: dict[Any, Any], write: Callable[[float], str]) -> list[str]:
    return [write(row[name]) for name in ("point", "mean", "q05", "q50", "q95")]


def _heaviest(lines: list[dict[str, Any]], shown: int = 5) -> list[dict[str, Any]]:
    return sorted((row for row in lines if row["mean"] > 0), key=lambda row: -row["mean"])[:shown]
