"""`jaxalloc sweep`: the same universes at every point of a grid of settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jaxalloc.arguments.errors import InputError
from jaxalloc.cli import render
from jaxalloc.cli.command_line import ReportingCommand, words_in_force
from jaxalloc.cli.documents import to_json
from jaxalloc.cli.options import Json, SourceFile, example, expand
from jaxalloc.cli.running import Draws, StudyFlags, document, run, say_rest, write_outputs
from jaxalloc.cli.sampling import Sampling
from jaxalloc.cli.varying import VARY, varied
from jaxalloc.portfolios.advice import setting_advice
from jaxalloc.settings.config import AllocationConfig
from jaxalloc.settings.measures import MEASURES

app = typer.Typer(add_completion=False)
_CONFIG = AllocationConfig()


@app.command(
    cls=ReportingCommand,
    epilog=example(
        "sweep prices.csv --vary cluster-cap=0.15,0.25,0.35 "
        "--vary threshold=0.3:0.5:0.1 --n 200 --out settings --report"
    ),
)
@expand
def sweep(
    context: typer.Context,
    source: SourceFile,
    vary: Annotated[list[str], VARY],
    sampling: Sampling,
    running: StudyFlags,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder for the results. Without it, the results are printed only."),
    ] = None,
    as_json: Json = False,
    config: AllocationConfig = _CONFIG,
) -> None:
    """Allocate at every point of a grid of settings, and see which settings matter.

    The only universe is the file itself, unless --n, --window or --simulate draws universes from it. Each universe is
    allocated at every point of the grid. A table of each profile is printed.
    """
    if out is None and (running.resume or running.fresh):
        flag = "--resume" if running.resume else "--fresh"
        raise InputError(f"{flag} is about a study in a folder: give --out, the folder")
    sampler = sampling.sampler(resample=False)
    settings = varied(context, config, vary)
    panel = source.read()
    said = [*panel.notes, *setting_advice(settings, MEASURES)]
    render.say_notes(said, running.quiet)
    report = running.report_file(source.file, out)
    draws = Draws(sampler=sampler, seed=sampling.seed, max_missing=sampling.max_missing)
    result = run(panel, draws, settings, out, running, words_in_force(context), report is not None)
    why = say_rest(result, said, source.file, result.n_valid, running.quiet)
    wrote = write_outputs(result, source.file, out, report, running.quiet)
    if as_json:
        typer.echo(to_json(document(result, out, report)), nl=False)
    else:
        render.print_sweep(result, render.stdout())
        if wrote:
            typer.echo("\n" + "\n".join(wrote))
    if why:
        raise InputError(why)
