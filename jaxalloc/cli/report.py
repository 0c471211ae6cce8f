"""`jaxalloc report`: the report of a finished study or walk-forward."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jaxalloc.backtest.folder import KIND, load_walk_forward
from jaxalloc.cli import render
from jaxalloc.cli.documents import to_json
from jaxalloc.cli.options import Json, Quiet, example, expand
from jaxalloc.report.write import FILE, check_report, write_report
from jaxalloc.storage.recovery import read_manifest
from jaxalloc.studies.folder import load_study

app = typer.Typer(add_completion=False)


@app.command(epilog=example("report prices-study --out prices.html"))
@expand
def report(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder of a finished study, sweep or walk-forward.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="File of the report. By default report.html in that folder."),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(metavar="PROFILE", help="For a walk-forward: the profile to compare the others with."),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write the report of a finished study or walk-forward, one HTML page that needs no network.

    The report of a study shows the portfolios and how stable they are, the clusters, the distributions over the
    universes, and the statuses. The report of a walk-forward shows what the portfolios would have earned, how certain
    their differences are, what was held, and what to trade. Both say how to run the study again.
    """
    manifest = read_manifest(folder)
    walked = manifest is not None and manifest.identity.get("kind") == KIND
    result = load_walk_forward(folder) if walked else load_study(folder)
    target = check_report(folder / FILE if out is None else out)
    with render.working("writing the report", quiet):
        write_report(result, target, title=folder.resolve().name, base=base)
    if as_json:
        typer.echo(to_json({"folder": str(folder), "report": str(target)}), nl=False)
    else:
        typer.echo(f"Wrote {target}")
