"""`jaxalloc report`: the report of a study that is in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jaxalloc.cli import render
from jaxalloc.cli.documents import to_json
from jaxalloc.cli.options import Json, Quiet, example, expand
from jaxalloc.report import FILE, check_report, write_report
from jaxalloc.study import load_study

app = typer.Typer(add_completion=False)


@app.command(epilog=example("report prices-study --out prices.html"))
@expand
def report(
    folder: Annotated[
        Path, typer.Argument(metavar="STUDY", help="Folder of a finished study, or of a sweep with --out.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="The page; by default report.html in the study's folder."),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write the report of a study: one HTML page that needs no network.

    The portfolios and how stable they are; clusters; distributions over the universes; statuses; and what it takes to
    run the study again.
    """
    study = load_study(folder)
    target = check_report(folder / FILE if out is None else out)
    with render.working("writing the report", quiet):
        write_report(study, target, title=folder.resolve().name)
    if as_json:
        typer.echo(to_json({"folder": str(folder), "report": str(target)}), nl=False)
    else:
        typer.echo(f"Wrote {target}")
