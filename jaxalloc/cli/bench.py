"""`jaxalloc bench`: jaxalloc against its rivals, on this machine and a panel of the user's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.paths import check_file, write_whole
from jaxalloc.arguments.words import counted, quote
from jaxalloc.cli import render
from jaxalloc.cli.documents import to_json
from jaxalloc.cli.options import Json, Precision, Quiet, Reading, example, expand
from jaxalloc.datasets import synthetic_market
from jaxalloc.markets.panel import Panel, as_panel, read_returns
from jaxalloc.rivals import race
from jaxalloc.rivals.registry import EXTRA, RIVALS, missing_libraries
from jaxalloc.rivals.tables import rate, ratio, small

app = typer.Typer(add_completion=False)
N_ASSETS, N_ROWS = 100, 252  # of the embedded market; rows of a file too, if it has as many
ALONE = "none"
DRAWS_A_SECOND = 1.0  # of the line that says what is going on: it takes time from what is timed
_FEWEST_ROWS, _MOST_ROWS = 20, 2**16 - 1  # one row in the tail; what a rival's index of rows holds
_RULES = race.Rules()


@app.command(epilog=example("bench prices.csv --kind prices --n-assets 50 --rivals original,naive"))
@expand
def bench(
    reading: Reading,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE", help="CSV or Parquet file of returns or prices; without it, the embedded market."
        ),
    ] = None,
    n_assets: Annotated[
        int | None,
        typer.Option(
            metavar="COUNT",
            min=2,
            help=f"The first columns of the file, by default all; by default {N_ASSETS} without.",
        ),
    ] = None,
    rows: Annotated[
        int | None,
        typer.Option(
            metavar="COUNT",
            min=_FEWEST_ROWS,
            max=_MOST_ROWS,
            help=f"The last rows, by default {N_ROWS} or all of fewer.",
        ),
    ] = None,
    rivals: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help=f"{'; '.join(f'{key}: {rival.about}' for key, rival in RIVALS.items())}. Several with commas between, "
            f"or {ALONE}; by default those whose libraries are installed.",
        ),
    ] = None,
    pairs: Annotated[int, typer.Option(metavar="COUNT", min=1, help="Runs of each side.")] = _RULES.pairs,
    seconds: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, max=3600, help="What a run takes at least.")
    ] = _RULES.seconds,
    judged: Annotated[
        int, typer.Option(metavar="COUNT", min=1, help="Universes whose weights are judged, the same for all.")
    ] = _RULES.judged,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write what is found, every run's time too, to a .json file.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    precision: Precision = "64",
) -> None:
    """Time jaxalloc against what else one could run, on this machine.

    Everyone draws bootstrap resamples of the panel and allocates four profiles to each, at the default settings, on
    all cores. Runs alternate, jaxalloc and a rival; the median ratio of the pairs counts. Beside the times stands how
    far the weights are from the optimum, by an independent oracle.
    """
    if out is not None:
        check_file(out, "--out", (".json",), source=file)
    chosen, left_out = choose_rivals(rivals)
    source, panel = _market(file, reading, n_assets, rows)
    render.say_notes([*panel.notes, *(f"Left {_missing(key)}; {EXTRA}" for key in left_out)], quiet)
    rules = race.Rules(pairs, seconds, judged, int(precision))
    found = race.document(rules, left_out)
    with render.working("starting", quiet, DRAWS_A_SECOND) as say:
        found["jobs"].append(race.run(race.Job("bench", source, panel.values), chosen, rules, say))
    if out is not None:
        write_whole(out, lambda path: path.write_text(to_json(found), encoding="utf-8"))
    if as_json:
        typer.echo(to_json(found), nl=False)
    else:
        print_race(found, render.stdout())
    if out is not None:
        render.say_notes([f"Wrote {out}."], quiet)


def choose_rivals(names: str | None) -> tuple[list[str], list[str]]:
    """Read the rivals wanted; None for all that can run.

    Returns:
        The rivals that run, and those that would if their libraries were installed.

    Raises:
        InputError: a rival is unknown, or one that is named cannot run.
    """
    if names is None:
        left_out = [key for key in RIVALS if missing_libraries(key)]
        return [key for key in RIVALS if key not in left_out], left_out
    if names.strip() == ALONE:
        return [], []
    chosen = list(dict.fromkeys(name.strip() for name in names.split(",")))
    for key in chosen:
        if key not in RIVALS:
            raise InputError(
                f"--rivals {quote(names)}: there is no {quote(key)}; choose from {', '.join(RIVALS)}, {ALONE}"
            )
        if missing_libraries(key):
            raise InputError(f"--rivals {quote(names)}: leave {_missing(key)}, or {EXTRA}")
    return chosen, []


def _missing(key: str) -> str:
    """Say which libraries a rival lacks."""
    missing = missing_libraries(key)
    return f"{key} out: {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed"


def _market(file: Path | None, reading: Reading, n_assets: int | None, rows: int | None) -> tuple[str, Panel]:
    """The panel, complete, and what it is called."""
    if file is None:
        if reading != Reading():
            raise InputError("--kind, --missing, --missing-tolerance and --layout are about a file: give FILE")
        return "embedded market", as_panel(synthetic_market(n_assets or N_ASSETS, rows or N_ROWS))
    panel = reading.read_file(file)
    for flag, wanted, there, noun in (
        ("--n-assets", n_assets, panel.n_assets, "asset"),
        ("--rows", rows or _FEWEST_ROWS, panel.n_observations, "row"),
    ):
        if wanted is not None and wanted > there:
            raise InputError(f"{file}: {flag} {wanted}, but there are only {counted(there, noun)}")
    cut = panel.returns.iloc[-(rows or N_ROWS) :, :n_assets]
    if cut.isna().to_numpy().any():
        raise InputError(
            f"{file}: the rivals want a return in every cell; choose missing='zero', missing='drop-assets' or "
            "missing='drop-rows'"
        )
    return file.name, Panel(read_returns(cut).returns, panel.notes)  # what varies in all rows may not in these


def print_race(found: dict[str, Any], console: Console) -> None:
    """Print a race's document: a table for each job, jaxalloc its first row."""
    machine, device = found["machine"], found["device"]
    console.print(render.plain(f"{machine['processor']}, {counted(machine['cores'], 'core')}"))
    kind = "" if device["kind"] == device["platform"] else f" ({device['kind']})"
    console.print(render.plain(f"jaxalloc in {found['precision']} bits on {device['platform']}{kind}"))
    for job in found["jobs"]:
        _print_job(job, console)
    pairs = f"{counted(found['pairs'], 'pair')} of runs of {found['seconds']:g} s or more"
    judged = counted(found["judged"], "universe")
    console.print(f"\nfaster by: jaxalloc than that row, the median of {pairs}, and their range", style="dim")
    console.print(f"gap: from the optimum, the largest of four profiles in {judged}", style="dim")
    console.print("clusters, leads: in how many universes they are the oracle's", style="dim")


def _print_job(job: dict[str, Any], console: Console) -> None:
    size = f"{counted(job['n_assets'], 'asset')}, {counted(job['n_rows'], 'row')}"
    console.print("", Text.assemble((job["job"], "bold"), f": {job['source']}, {size}"), sep="\n")
    goals = any(row["goal"] is not None for row in job["rivals"])
    columns = ["universes/s", "faster by", "range", *(["goal"] if goals else []), "gap", "clusters", "leads"]
    table = render.empty_table("", columns)
    ours = job["jaxalloc"]
    table.add_row("jaxalloc", rate(ours["universes_per_second"]), *[""] * (2 + goals), *_accuracy(ours["accuracy"]))
    notes = []
    for row in job["rivals"]:
        if "error" in row:
            table.add_row(row["name"], "failed")
            notes.append(f"{row['name']} failed: {row['error']}")
            continue
        goal = [] if not goals else ["" if row["goal"] is None else f"{row['goal']:g}"]
        speed = rate(row["universes_per_second"]), *ratio(row["ratio"]), *goal
        table.add_row(row["name"], *speed, *_accuracy(row["accuracy"]))
        if row["accuracy"]["failed"]:
            of_all = f"{row['accuracy']['failed']} of {counted(4 * row['accuracy']['universes'], 'portfolio')}"
            notes.append(f"{row['name']} found no weights for {of_all}")
    console.print(table)
    for note in notes:
        console.print(Text(f"note: {note}"), style="yellow")


def _accuracy(verdict: dict[str, Any]) -> list[str]:
    n, gaps = verdict["universes"], [gap for gap in verdict["gap"].values() if gap == gap]
    shares = (f"{verdict[name]}/{n}" for name in ("partitions_equal", "leads_equal"))
    return [small(max(gaps, default=None)), *shares]
