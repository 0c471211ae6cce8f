"""`jaxalloc study`: bootstrap resamples of a file, allocated and summarised."""

from __future__ import annotations

import inspect
import itertools
from pathlib import Path
from typing import Annotated, Any

import typer

from jaxalloc.cli import render
from jaxalloc.cli.documents import records, to_json
from jaxalloc.cli.options import Json, Precision, Quiet, Source, expand
from jaxalloc.config import AllocationConfig
from jaxalloc.errors import InputError
from jaxalloc.status import Status
from jaxalloc.study import Study, run_study
from jaxalloc.universes import Bootstrap, Method

app = typer.Typer(add_completion=False)
_CONFIG = AllocationConfig()
_SEED = inspect.signature(run_study).parameters["seed"].default


@app.command(epilog="Example: jaxalloc study prices.csv --kind prices --n 1000 --method circular --block 21")
@expand
def study(
    source: Source,
    n: Annotated[int, typer.Option("--n", metavar="COUNT", help="Number of resamples.")] = 1000,
    method: Annotated[
        Method,
        typer.Option(metavar="NAME", help="Draw rows one by one (iid), or blocks: circular, stationary or moving."),
    ] = Bootstrap.method,
    block: Annotated[
        float | None,
        typer.Option(metavar="ROWS", help="Length of a block, 21 for a month of days; stationary: its mean."),
    ] = Bootstrap.block_length,
    seed: Annotated[int, typer.Option(metavar="NUMBER", help="The same seed draws the same resamples.")] = _SEED,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="New folder for the results; by default the file's name and -study."),
    ] = None,
    chunk_size: Annotated[
        int | None, typer.Option(metavar="COUNT", help="Resamples computed at once; by default what 256 MiB hold.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    precision: Precision = "64",
    config: AllocationConfig = _CONFIG,
) -> None:
    """Allocate to thousands of bootstrap resamples of a file: how far do the weights move?

    Each resample draws as many rows as the file has, with replacement. Weights, clusters and summaries go to a new
    folder; a summary of each profile is printed.
    """
    panel = source.read()
    render.say_notes(panel.notes, quiet)
    folder = _new_folder(source.file) if out is None else out
    length = int(block) if block is not None and block.is_integer() else block
    with render.progress_bar(n, quiet) as progress:
        result = run_study(
            panel,
            Bootstrap(n, method, length),
            config,
            seed,
            folder,
            precision=int(precision),
            chunk_size=chunk_size,
            progress=progress,
        )
    if as_json:
        typer.echo(to_json(_document(result, folder)), nl=False)
    else:
        render.print_study(result, render.stdout())
        typer.echo(f"\nWrote {folder}")
    if not result.valid.any():
        raise InputError(f"{source.file}: no resample could be allocated to: {Status.INVALID.message}")


def _new_folder(file: Path) -> Path:
    """A name in the current directory that nothing has yet: FILE-study, FILE-study-2, ..."""
    stem = file.name.split(".")[0] or "jaxalloc"
    names = itertools.chain([f"{stem}-study"], (f"{stem}-study-{k}" for k in itertools.count(2)))
    return next(path for path in map(Path, names) if not path.exists())


def _document(result: Study, folder: Path) -> dict[str, Any]:
    counts = result.status_counts()
    return result.record | {
        "folder": str(folder),
        "n_valid": int(result.valid.sum()),
        "status_counts": records(counts),
        "profiles": records(result.profile_summary()),
        "assets": records(result.summary()),
    }
