"""What a person sees in a terminal: tables on stdout; notes and progress on stderr.

rich leaves colours out where the output is no terminal, or where NO_COLOR is set.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import math
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task
from rich.table import Table
from rich.text import Text

from jaxalloc.arguments.words import counted
from jaxalloc.cli.documents import records
from jaxalloc.cli.options import flag_of, in_flags
from jaxalloc.settings.measures import UNIVERSE_MEASURE, Measure
from jaxalloc.settings.status import Status

if TYPE_CHECKING:
    import pandas as pd

    from jaxalloc.cli.portfolios import Portfolios
    from jaxalloc.settings.sweep import Sweep
    from jaxalloc.studies.study import Study

FOLDED_ROWS = 25  # a longer table shows this many, the heaviest


def stdout() -> Console:
    """Return a console on standard output."""
    return Console(file=sys.stdout, highlight=False)


def stderr() -> Console:
    """Return a console on standard error."""
    return Console(file=sys.stderr, highlight=False)


def percent(value: float) -> str:
    """A fraction as per cent; a dash for none."""
    return f"{100 * value:.2f} %" if math.isfinite(value) else "-"


# what a study shows of each profile
_SHOWN = (
    "volatility",
    "expected_return",
    "out_of_bag_sharpe",
    "effective_assets",
    "effective_clusters",
    "turnover",
)


def written(measure: Measure) -> Callable[[float], str]:
    """Return what writes a measure: per cent with two decimals, others as the registry says."""
    return functools.partial(measure.write, digits=2)


def plain(name: object) -> Text:
    """A user's text as it stands, less what a terminal would act on."""
    return Text("".join(c if c.isprintable() else "?" for c in str(name)))


def say_notes(notes: Sequence[str], quiet: bool) -> None:
    """Say on stderr what was done to the input."""
    if not quiet:
        for note in notes:
            stderr().print(Text(f"note: {note}"), style="dim", soft_wrap=True)


@contextlib.contextmanager
def working(text: str, quiet: bool, rate: float = 12.5) -> Iterator[Callable[[str], None]]:
    """Show that something is going on, where there is a terminal to show it; yield what changes the words.

    Args:
        text: what is going on.
        quiet: show nothing.
        rate: how often a second the line is drawn.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
    else:
        with stderr().status(text, refresh_per_second=rate) as status:
            yield lambda words: status.update(plain(words))


class _Pace(ProgressColumn):
    """Universes a second, and the time left at that pace.

    The clock starts at the first report: the universes before it waited for the compiler. Where a study goes on with
    an earlier one (``resumed``), that report is of what the earlier one has done, and the clock starts at the second.
    """

    def __init__(self, resumed: bool) -> None:
        super().__init__()
        self._resumed = resumed
        self._reports: list[tuple[float, float]] = []  # universes, seconds; those that the clock waits for

    def render(self, task: Task) -> Text:
        elapsed = (task.finished_time if task.finished else task.elapsed) or 0.0
        if not task.completed:
            return Text("compiling")
        if len(self._reports) <= self._resumed and all(task.completed > count for count, _ in self._reports):
            self._reports.append((task.completed, elapsed))
        count, since = self._reports[-1]
        done, seconds = task.completed - count, elapsed - since
        if not done and not self._resumed:  # one report so far
            done, seconds = task.completed, elapsed
        if not (done and seconds):
            return Text("" if task.finished else "going on")
        pace = done / seconds
        left = datetime.timedelta(seconds=math.ceil(task.remaining / pace if task.remaining else 0))
        return Text(f"{pace:,.0f} universes/s" + ("" if task.finished else f", {left} left"))


@contextlib.contextmanager
def progress_bar(total: int, quiet: bool, resumed: bool = False) -> Iterator[Callable[[int], None] | None]:
    """Show a bar on stderr, where there is a terminal; yield what advances it by a number of universes.

    Args:
        total: universes in all.
        quiet: show nothing.
        resumed: whether the first report may be of universes that an earlier run has done.
    """
    if quiet or not sys.stderr.isatty():
        yield None
        return
    pace = _Pace(resumed)
    with Progress(BarColumn(bar_width=24), MofNCompleteColumn(), pace, console=stderr()) as progress:
        task = progress.add_task("", total=total)

        def advance(done: int) -> None:
            progress.update(task, advance=done)
            pace.render(progress.tasks[0])  # takes note of the first report when it comes

        yield advance


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
    """Print a profile's figures and its `jaxalloc.portfolios.tables.cluster_table`."""
    figures = portfolios.figures(profile)
    volatility, mean = percent(figures["volatility"]), percent(figures["expected_return"])
    heading = Text.assemble((profile, "bold"), f": volatility {volatility}, expected return {mean} a year")
    console.print("", heading, sep="\n")
    for message in figures["messages"]:
        console.print(Text(f"note: {in_flags(message)}"), style="yellow")
    lines = records(portfolios.clusters(profile))
    shown, rest = _fold(lines, rows)
    grid = empty_table("cluster", ("weight", "risk", "assets"), ("lead asset", "members"))
    assets = records(portfolios.assets(profile))
    names = _short_names(
        [asset["symbol"] for asset in assets], max(17, console.width // 2 - 23)
    )  # two stand on one line
    leads = [names[row["lead"]] for row in shown]
    room = max(20, console.width - 38 - max(10, *map(len, leads)))
    for row, lead in zip(shown, leads, strict=True):
        numbers = percent(row["weight"]), percent(row["risk_contribution"]), str(row["size"])
        symbols = [names[asset["symbol"]] for asset in assets if asset["cluster"] == row["cluster"]]
        members = _fitting(symbols, room * -(-len(lead) // room))  # as many lines as the lead takes
        grid.add_row(str(row["cluster"]), *numbers, plain(lead), plain(members))
    console.print(grid)
    _print_rest(rest, "cluster", console)
    sleeve = [row for row in assets if row["sleeve"]]
    if sleeve:
        symbols = ", ".join(str(row["symbol"]) for row in sleeve)
        console.print(plain(f"sleeve, {percent(sum(row['weight'] for row in sleeve))}: {symbols}"))


def _short_names(symbols: Sequence[object], longest: int) -> dict[object, str]:
    """Long symbols without their middles; in full where what is left is another's too."""
    full = {symbol: str(symbol) for symbol in symbols}
    end = (longest - 3) // 2
    short = {
        symbol: text if len(text) <= longest else f"{text[: longest - 3 - end]}...{text[-end:]}"
        for symbol, text in full.items()
    }
    count = Counter(short.values())
    return {symbol: text if count[text] == 1 else full[symbol] for symbol, text in short.items()}


def _fitting(symbols: Sequence[str], room: int) -> str:
    """As many symbols as there is room for, one at least."""
    text, *words = symbols
    for k, word in enumerate(words, 1):
        longer = f"{text}, {word}"
        if len(longer) + len(", ...") * (k < len(words)) > room:
            return f"{text}, ..."
        text = longer
    return text


def print_assets(portfolios: Portfolios, profile: str, console: Console, rows: int | None) -> None:
    """Print a profile's `jaxalloc.portfolios.tables.asset_table`."""
    lines = records(portfolios.assets(profile))
    held = lines if rows is None else [row for row in lines if row["weight"] > 0]
    shown, rest = _fold(held, rows)
    marks = ("lead", "sleeve") if any(row["sleeve"] for row in lines) else ("lead",)
    grid = empty_table("asset", ("cluster", "weight", "share of cluster", "risk"), marks)
    for row in shown:
        numbers = (percent(row[name]) for name in ("weight", "share", "risk_contribution"))
        cluster = str(row["cluster"]) if row["cluster"] >= 0 else "none"
        grid.add_row(plain(row["symbol"]), cluster, *numbers, *("yes" if row[name] else "" for name in marks))
    console.print(grid)
    _print_rest(rest, "asset", console, len(lines) - len(held))


def empty_table(first: str, numbers: Sequence[str], words: Sequence[str] = ()) -> Table:
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
    counts = study.cluster_counts()
    found = f"{counted(len(study.symbols), 'asset')} in {_range(counts)} clusters"
    console.print(f"{counted(study.n, 'universe')}{_invalid(study)}, {found}")
    _print_stability(study, console)
    console.print("estimate: from the data as they are; mean and 5, 50, 95 %: over the universes", style="dim")
    figures, assets = study.profile_summary(), study.summary()
    for profile in study.profiles:
        console.print("", Text(profile, "bold"), sep="\n")
        _print_flags(study, profile, console)
        grid = empty_table("", ("estimate", "mean", "5 %", "50 %", "95 %", "lead in"))
        for measure in (UNIVERSE_MEASURE[name] for name in _SHOWN):
            row = figures.loc[(profile, measure.name)].to_dict()
            if row["n_universes"] or math.isfinite(row["point"]):  # without a resample nothing is left out
                grid.add_row(measure.heading, *_spread(row, written(measure)))
        grid.add_row(Text("weight of", style="dim"))
        for row in _heaviest(records(assets.loc[profile])):
            grid.add_row(plain(row["symbol"]), *_spread(row, percent), f"{100 * row['frequency_lead']:.0f} %")
        console.print(grid)


def _invalid(study: Study) -> str:
    """How many universes have no portfolios, if any."""
    invalid = study.n * len(study.settings) - study.n_valid
    return f" ({invalid:,} of them invalid)" if invalid else ""


def _print_stability(study: Study, console: Console) -> None:
    """Say on one line whether the estimate's clusters are the universes' too."""
    table = study.cluster_stability().dropna(subset="stability")
    if table.empty:
        return
    least = records(table.nsmallest(1, "stability"))[0]
    text = f"clusters hold together in {100 * table['stability'].mean():.0f} % of universes"
    if least["stability"] < 0.995:
        text += f"; least, in {100 * least['stability']:.0f} %: "
        text += textwrap.shorten(least["members"], max(10, console.width - len(text)), placeholder=" ...")
    console.print(plain(text))


def _print_flags(study: Study, profile: str, console: Console) -> None:
    counts = study.status_counts()
    rows = counts.loc[[profile]] if not study.settings.names else counts.xs(profile, level="profile")
    total = study.n * len(study.settings)
    for bit, n_flagged in zip(Status, rows.to_numpy().sum(axis=0), strict=True):
        if n_flagged:
            share = f"{n_flagged:,} of {counted(total, 'universe')}"
            console.print(Text(f"note: in {share}: {in_flags(bit.message)}"), style="yellow")


def _range(counts: pd.Series) -> str:
    """How many clusters: the middle 90 % of universes, counted by their number of clusters."""
    if counts.empty:
        return "no"
    below = counts.cumsum() / counts.sum()
    low, high = (below.index[int((below < level).sum())] for level in (0.05, 0.95))
    return f"{low}" if low == high else f"{low} to {high}"


def _spread(row: dict[Any, Any], write: Callable[[float], str]) -> list[str]:
    return [write(row[name]) for name in ("point", "mean", "q05", "q50", "q95")]


def _heaviest(lines: list[dict[str, Any]], shown: int = 5) -> list[dict[str, Any]]:
    return sorted((row for row in lines if row["mean"] > 0), key=lambda row: -row["mean"])[:shown]


# ---- a sweep --------------------------------------------------------------------------------------------------------


def print_sweep(study: Study, console: Console, profiles: Sequence[str] = ()) -> None:
    """Print each profile's figures at every point of the grid, or those of some profiles."""
    n_points, resampled = len(study.settings), study.n > 1
    grid_of = f"{counted(study.n, 'universe')} at each of {counted(n_points, 'point')} of the grid"
    console.print(f"{grid_of}{_invalid(study)}, {counted(len(study.symbols), 'asset')}")
    if resampled:
        console.print("means over the universes; turnover: from the estimate at the same settings", style="dim")
    n_clusters = [_mean_count(study.cluster_counts(at=point)) for point in range(n_points)]
    figures = [study.profile_summary(at=point)["mean"] for point in range(n_points)]
    flags = [dict(zip(study.profiles, total.counts.status.sum(axis=1), strict=True)) for total in study.totals]
    fits = True
    for profile in profiles or study.profiles:
        console.print("", Text(profile, "bold"), sep="\n")
        _print_flags(study, profile, console)
        means = [figure.loc[profile] for figure in figures]
        columns = {
            "volatility": [percent(mean["volatility"]) for mean in means],
            "return": [percent(mean["expected_return"]) for mean in means],
            "assets": [written(UNIVERSE_MEASURE["effective_assets"])(mean["effective_assets"]) for mean in means],
            "clusters": [f"{mean:.{int(resampled)}f}" if math.isfinite(mean) else "-" for mean in n_clusters],
            "turnover": [percent(mean["turnover"]) for mean in means],
            "flags": [f"{flag[profile]:,}" for flag in flags],
        }
        if not resampled:
            del columns["turnover"]
        fits &= print_points(study.settings, columns, console)
    console.print("assets: effective number, 1 / sum of squared weights; flags: see the notes", style="dim")
    if not fits:
        console.print("a wider terminal shows more columns, --json everything", style="dim")


def print_points(settings: Sweep, columns: dict[str, list[str]], console: Console) -> bool:
    """Print a row a point: the settings swept, then as many columns as there is room for; tell whether all were."""
    swept = [[f"{value:g}" for value in values] for values in zip(*settings.points, strict=True)]
    heads = [flag_of(name).split("-") for name in settings.names]
    widths = [max(map(len, [*words, *values])) for words, values in zip(heads, swept, strict=True)]
    wanted = {name: max(map(len, [name, *values])) for name, values in columns.items()}
    gap = 2 if sum(widths) + sum(wanted.values()) + 2 * len([*widths, *wanted]) - 2 <= console.width else 1
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, gap - 1, 0, 0))
    for words, width in zip(heads, widths, strict=True):
        grid.add_column(" ".join(words), justify="right", width=width)
    shown = swept
    for name, values in columns.items():
        widths.append(wanted[name])
        if sum(widths) + gap * (len(widths) - 1) > console.width:
            break
        grid.add_column(name, justify="right", no_wrap=True)
        shown = [*shown, values]
    for row in zip(*shown, strict=True):
        grid.add_row(*row)
    console.print(grid)
    return len(shown) == len(swept) + len(columns)


def _mean_count(counts: pd.Series) -> float:
    """Mean number of clusters of universes that are counted by it."""
    return float(np.average(counts.index, weights=counts)) if len(counts) else math.nan
