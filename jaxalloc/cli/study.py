"""`jaxalloc study`: allocate to many universes drawn from a file, and summarise the portfolios."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jaxalloc.arguments.errors import InputError
from jaxalloc.cli import render
from jaxalloc.cli.command_line import ReportingCommand, words_in_force
from jaxalloc.cli.documents import to_json
from jaxalloc.cli.options import Json, SourceFile, example, expand
from jaxalloc.cli.render_study import print_study
from jaxalloc.cli.running import Draws, StudyFlags, document, new_folder, run, say_rest, write_outputs
from jaxalloc.cli.sampling import Sampling
from jaxalloc.portfolios.advice import setting_advice
from jaxalloc.settings.config import AllocationConfig
from jaxalloc.settings.measures import MEASURES
from jaxalloc.settings.sweep import sweep

app = typer.Typer(add_completion=False)
_CONFIG = AllocationConfig()


@app.command(
    cls=ReportingCommand,
    epilog=example(
        "study prices.csv --n 1000 --method circular --block 21 "
        '--stress volatility=1 --stress "volatility=1.5,correlation=0.5" --out robustness --report'
    ),
)
@expand
def study(
    context: typer.Context,
    source: SourceFile,
    sampling: Sampling,
    running: StudyFlags,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder for the results. By default a new folder named FILE-study; with --resume or --fresh, the "
            "folder of that name.",
        ),
    ] = None,
    as_json: Json = False,
    config: AllocationConfig = _CONFIG,
) -> None:
    """Allocate to thousands of universes drawn from a file, and see how far the weights move.

    By default the universes are 1,000 bootstrap resamples, each of which draws as many rows as the file has, with
    replacement. With --window they are rolling windows; with --window and --n, the windows of each resample. --subset
    and --stress change every universe further.

    Weights, clusters and summaries are written to a folder while the study runs, and a summary of each profile is
    printed. Ctrl-C stops a study; --resume continues it.
    """
    sampler, settings = sampling.sampler(resample=True), sweep(config)
    panel = source.read()
    said = [*panel.notes, *setting_advice(settings, MEASURES)]
    render.say_notes(said, running.quiet)
    folder = new_folder(source.file, "study", running.resume or running.fresh) if out is None else out
    report = running.report_file(source.file, folder)
    draws = Draws(sampler=sampler, seed=sampling.seed, max_missing=sampling.max_missing)
    result = run(panel, draws, settings, folder, running, words_in_force(context), report is not None)
    why = say_rest(result, said, source.file, result.n_valid, running.quiet)
    wrote = write_outputs(result, source.file, folder, report, running.quiet)
    if as_json:
        typer.echo(to_json(document(result, folder, report)), nl=False)
    else:
        print_study(result, render.stdout())
        typer.echo("\n" + "\n".join(wrote))
    if why:
        raise InputError(why)
