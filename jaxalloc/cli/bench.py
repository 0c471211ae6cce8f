"""`jaxalloc bench`: how many universes a second jaxalloc allocates to on this machine, on a panel of the user's."""

from __future__ import annotations

import dataclasses
import itertools
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.paths import check_file, write_whole
from jaxalloc.arguments.words import counted
from jaxalloc.cli import machine, render
from jaxalloc.cli.documents import to_json
from jaxalloc.cli.options import Json, Precision, Quiet, Reading, example, expand
from jaxalloc.cli.render_bench import print_bench
from jaxalloc.cli.timing import Run, TimedEngine, time_runs
from jaxalloc.datasets import synthetic_market
from jaxalloc.markets.panel import Panel, as_panel, read_returns
from jaxalloc.portfolios.result import Allocation
from jaxalloc.settings.config import DEFAULT_PROFILES
from jaxalloc.settings.status import Status
from jaxalloc.studies.compute import timestamp

app = typer.Typer(add_completion=False)
FORMAT = 1  # of the document; another number where a reader of this one would err
N_ASSETS, N_ROWS = 100, 252  # of the embedded market; rows of a file too, if it has as many
FEWEST_ROWS, MOST_ROWS = 20, 2**16 - 1  # one row in the tail; what a rival's index of rows holds
DRAWS_A_SECOND = 1.0  # of the line that says what is going on: it takes time from what is timed


@app.command(epilog=example("bench prices.csv --n-assets 50"))
@expand
def bench(
    reading: Reading,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE", help="CSV or Parquet file of returns or prices. Without it, the embedded market is used."
        ),
    ] = None,
    n_assets: Annotated[
        int | None,
        typer.Option(
            metavar="COUNT",
            min=2,
            help=f"Use the first COUNT assets. By default, all assets of the file, or {N_ASSETS} of the embedded "
            "market.",
        ),
    ] = None,
    rows: Annotated[
        int | None,
        typer.Option(
            metavar="COUNT",
            min=FEWEST_ROWS,
            max=MOST_ROWS,
            help=f"Use the last COUNT rows of returns. By default, {N_ROWS}, or all rows of a file that has fewer.",
        ),
    ] = None,
    runs: Annotated[int, typer.Option(metavar="COUNT", min=1, help="Number of runs to time.")] = 5,
    seconds: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, max=3600, help="Shortest time that a run may take.")
    ] = 1.0,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the measurements to a .json file, with every run's time.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    precision: Precision = "64",
) -> None:
    """Measure how many universes per second jaxalloc allocates to on this machine.

    Each universe is a bootstrap resample of the panel, and gets four profiles at the default settings. The time runs
    from the draw until the results have reached this process. Compiling comes before the first run and is timed on its
    own.
    """
    if out is not None:
        check_file(out, "--out", (".json",), source=file)
    source, panel = market(file, reading, n_assets, rows)
    render.say_notes(panel.notes, quiet)
    with render.working("compiling", quiet, DRAWS_A_SECOND) as say:
        engine, outcomes = TimedEngine(panel.values, int(precision)), Outcomes()
        timed = time_runs(engine, runs, seconds, itertools.count(1), outcomes.add, say)
    measured = document(source, panel, int(precision), seconds, engine.compile_seconds, timed, outcomes)
    if out is not None:
        write_whole(out, lambda path: path.write_text(to_json(measured), encoding="utf-8"))
    if as_json:
        typer.echo(to_json(measured), nl=False)
    else:
        print_bench(measured, render.stdout())
    if out is not None:
        render.say_notes([f"Wrote {out}."], quiet)


def market(file: Path | None, reading: Reading, n_assets: int | None, rows: int | None) -> tuple[str, Panel]:
    """Return what the panel is called, and the panel: the first assets and the last rows of a file, or embedded.

    Raises:
        InputError: the file cannot be read, has too few assets or rows, or a return is missing.
    """
    if file is None:
        if reading != Reading():
            raise InputError("--kind, --missing, --missing-tolerance and --layout are about a file: give FILE")
        return "embedded market", as_panel(synthetic_market(n_assets or N_ASSETS, rows or N_ROWS))
    panel = reading.read_file(file)
    for flag, wanted, there, noun in (
        ("--n-assets", n_assets, panel.n_assets, "asset"),
        ("--rows", rows or FEWEST_ROWS, panel.n_observations, "row"),
    ):
        if wanted is not None and wanted > there:
            raise InputError(f"{file}: {flag} {wanted}, but there are only {counted(there, noun)}")
    cut = panel.returns.iloc[-(rows or N_ROWS) :, :n_assets]
    if cut.isna().to_numpy().any():
        raise InputError(
            f"{file}: a return is missing, and only a complete panel is timed; choose missing='zero', "
            "missing='drop-assets' or missing='drop-rows'"
        )
    # read again: an asset whose returns vary over all rows may be constant in these
    return file.name, Panel(read_returns(cut).returns, panel.notes)


class Outcomes:
    """What the universes of the runs came to: optimality gaps, statuses and numbers of clusters."""

    def __init__(self) -> None:
        """Start with no universe."""
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, part: Allocation) -> None:
        """Keep a copy of the figures of some universes."""
        self._parts.append((np.array(part.optimality_gap), np.array(part.status), np.array(part.n_clusters)))

    def record(self) -> dict[str, Any]:
        """Return them as plain values; a gap is None where no universe has one."""
        gaps, statuses, n_clusters = (np.concatenate(column) for column in zip(*self._parts, strict=True))
        profiles = {}
        for position, profile in enumerate(DEFAULT_PROFILES):
            known = gaps[:, position][np.isfinite(gaps[:, position])].astype(float)
            counts = {bit.name: int(np.count_nonzero(statuses[:, position] & bit)) for bit in Status}
            profiles[profile] = {
                "optimality_gap": {"median": float(np.median(known)), "most": float(known.max())}
                if known.size
                else None,
                "n_flagged": int(np.count_nonzero(statuses[:, position])),
                "status_counts": {name: count for name, count in counts.items() if count},
            }
        return {
            "universes": len(statuses),
            "n_clusters": _spread(n_clusters.tolist()),
            "profiles": profiles,
        }


def document(
    source: str,
    panel: Panel,
    precision: int,
    seconds: float,
    compile_seconds: float,
    runs: Sequence[Run],
    outcomes: Outcomes,
) -> dict[str, Any]:
    """Return what was measured, and on what, as plain values."""
    return {
        "format": FORMAT,
        "finished": timestamp(),
        "machine": machine.machine(),
        "device": machine.devices(),
        "versions": machine.versions(),
        "source": source,
        "n_assets": panel.n_assets,
        "n_rows": panel.n_observations,
        "precision": precision,
        "seconds": seconds,
        "compile_seconds": compile_seconds,
        "universes_per_second": _spread([run.universes_per_second for run in runs]),
        "runs": [dataclasses.asdict(run) for run in runs],
        "peak_memory": machine.peak_memory(),
        **outcomes.record(),
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"least": min(values), "median": statistics.median(values), "most": max(values)}
