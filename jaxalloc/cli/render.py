"""What a person sees of a command in a terminal: tables on stdout, notes and progress on stderr.

rich leaves colours out where the output is not a terminal, or where NO_COLOR is set.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task
from rich.table import Table
from rich.text import Text

from jaxalloc.arguments.words import counted, per_cent, plain_name, value_text
from jaxalloc.cli.options import flag_of, in_flags
from jaxalloc.settings.measures import UNIVERSE_MEASURE, Measure
from jaxalloc.settings.status import explain
from jaxalloc.studies.totals import BITS

if TYPE_CHECKING:
    import pandas as pd

    from jaxalloc.settings.sweep import Points
    from jaxalloc.studies.study import Study


LINE_SECONDS = 10.0  # between two lines about long work, where there is no terminal


def stdout() -> Console:
    """Return a console on standard output."""
    return Console(file=sys.stdout, highlight=False)


def stderr() -> Console:
    """Return a console on standard error."""
    return Console(file=sys.stderr, highlight=False)


def percent(value: float) -> str:
    """A fraction as per cent; a dash for none. What rounds to zero has no sign."""
    return per_cent(value, 2, "-")


def written(measure: Measure) -> Callable[[float], str]:
    """Return what writes a measure: per cent with two decimals, others as the registry says."""
    return functools.partial(measure.write, digits=2)


def plain(name: object) -> Text:
    """Return a user's text without the characters that a terminal would act on."""
    return Text("".join(c if c.isprintable() else "?" for c in str(name)))


def say_notes(notes: Sequence[str], quiet: bool) -> None:
    """Print notes on stderr, such as what was done to the input; settings are named by their flags."""
    if not quiet:
        for note in notes:
            stderr().print(plain(f"note: {in_flags(note)}"), style="dim", soft_wrap=True)


@contextlib.contextmanager
def working(text: str, quiet: bool, rate: float = 12.5) -> Iterator[Callable[[str], None]]:
    """Show that a task is running, where there is no terminal by `_lines`; yield a function that changes the text.

    Args:
        text: what the task is.
        quiet: show nothing.
        rate: how many times per second the line is drawn.
    """
    if quiet:
        yield lambda _: None
    elif not sys.stderr.isatty():
        with _lines(lambda: text):
            yield lambda _: None
    else:
        with stderr().status(text, refresh_per_second=rate) as status:
            yield lambda words: status.update(plain(words))


@contextlib.contextmanager
def _lines(text: Callable[[], str]) -> Iterator[None]:
    """Print a line on stderr every ten seconds, for a log: what is done, and for how long it has been."""
    done, began = threading.Event(), time.monotonic()

    def tell() -> None:
        while not done.wait(LINE_SECONDS):
            elapsed = datetime.timedelta(seconds=round(time.monotonic() - began))
            stderr().print(plain(f"{text()}; {elapsed} so far"), style="dim", soft_wrap=True)

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


class _Count:
    """How many universes are done, in words. The clock of their pace starts at the first report, as in `_Pace`."""

    def __init__(self, total: int, resumed: bool) -> None:
        self._total, self._done, self._reports = total, 0, 0
        self._skipped = int(resumed)  # reports before the clock starts, beside the first
        self._since: tuple[int, float] | None = None

    def advance(self, done: int) -> None:
        self._done += done
        self._reports += 1
        if self._reports == 1 + self._skipped:
            self._since = self._done, time.monotonic()

    def line(self) -> str:
        if not self._reports:
            return f"compiling, and the first of {self._total:,} universes"
        said = f"{self._done:,} of {self._total:,} universes"
        if self._since is None:
            return said
        count, began = self._since
        pace = (self._done - count) / max(time.monotonic() - began, 1e-9)
        if pace <= 0:
            return said
        left = datetime.timedelta(seconds=math.ceil((self._total - self._done) / pace))
        return f"{said}, {pace:,.0f} a second, {left} left"


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
    """Show a bar, where there is no terminal `_lines`; yield a function that advances it by a number of universes.

    Args:
        total: universes in all.
        quiet: show nothing.
        resumed: whether the first report may be of universes that an earlier run has done.
    """
    if quiet:
        yield None
        return
    if not sys.stderr.isatty():
        count = _Count(total, resumed)
        with _lines(count.line):
            yield count.advance
        return
    pace = _Pace(resumed)
    with Progress(BarColumn(bar_width=24), MofNCompleteColumn(), pace, console=stderr()) as progress:
        task = progress.add_task("", total=total)

        def advance(done: int) -> None:
            progress.update(task, advance=done)
            pace.render(progress.tasks[0])  # the clock starts when the first report comes

        yield advance


# ---- tables ---------------------------------------------------------------------------------------------------------


def empty_table(first: str, numbers: Sequence[str], words: Sequence[str] = ()) -> Table:
    """Return an empty table: a column of names, columns of numbers, columns of words."""
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    grid.add_column(first, overflow="fold", min_width=len(first))
    for name in numbers:
        grid.add_column(name, justify="right", no_wrap=True)
    for name in words:
        grid.add_column(name, overflow="fold", min_width=len(name))
    return grid


# ---- a study and a sweep --------------------------------------------------------------------------------------------


def invalid(study: Study) -> str:
    """Say how many universes have no portfolios, if any."""
    invalid = study.n * len(study.settings) - study.n_valid
    return f" ({invalid:,} of them invalid)" if invalid else ""


def print_flags(study: Study, profile: str, console: Console) -> None:
    """Print a note for each status of a profile, and in how many universes it was set."""
    counts = study.status_counts()
    rows = counts.loc[[profile]] if not study.settings.names else counts.xs(profile, level="profile")
    total = study.n * len(study.settings)
    for bit, n_flagged in zip(BITS, rows.to_numpy().sum(axis=0), strict=True):
        if n_flagged:
            share = f"{n_flagged:,} of {counted(total, 'universe')}"
            console.print(Text(f"note: in {share}: {in_flags(*explain(bit, study.config))}"), style="yellow")


def print_sweep(study: Study, console: Console, profiles: Sequence[str] = ()) -> None:
    """Print the figures of each profile, or of some, at every point of the grid."""
    n_points, resampled = len(study.settings), study.n > 1
    grid_of = f"{counted(study.n, 'universe')} at each of {counted(n_points, 'point')} of the grid"
    console.print(f"{grid_of}{invalid(study)}, {counted(len(study.symbols), 'asset')}")
    if resampled:
        console.print(
            "means over the universes; turnover: from the panel's own portfolio at the same point", style="dim"
        )
    n_clusters = [_mean_count(study.cluster_counts(at=point)) for point in range(n_points)]
    figures = [study.profile_summary(at=point)["mean"] for point in range(n_points)]
    flags = [dict(zip(study.profiles, total.counts.status.sum(axis=1), strict=True)) for total in study.totals]
    fits = True
    for profile in profiles or study.profiles:
        console.print("", Text(plain_name(profile), "bold"), sep="\n")
        print_flags(study, profile, console)
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
    console.print(
        "assets: effective number, 1 / sum of squared weights; flags: universes that a note is about", style="dim"
    )
    if not fits:
        console.print("a wider terminal shows more columns, --json everything", style="dim")


def print_points(settings: Points, columns: dict[str, list[str]], console: Console) -> bool:
    """Print a row for each point: its settings, then the columns that fit; return whether all columns fit."""
    swept = [[value_text(value) for value in values] for values in zip(*settings.points, strict=True)]
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
    """Return the mean number of clusters; ``counts`` are universes by number of clusters."""
    return float(np.average(counts.index, weights=counts)) if len(counts) else math.nan
