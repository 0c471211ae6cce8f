"""`jaxalloc sweep`: the same universes at every point of a grid of settings."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer

from jaxalloc.cli import render
from jaxalloc.cli.configured import words_in_force
from jaxalloc.cli.documents import to_json
from jaxalloc.cli.options import Json, Source, example, expand, flag_of, setting_name
from jaxalloc.cli.running import Running, document, run, written
from jaxalloc.cli.sampling import Sampling
from jaxalloc.config import NUMERIC_FIELDS, AllocationConfig
from jaxalloc.errors import InputError
from jaxalloc.grid import sweep as make_sweep
from jaxalloc.status import Status
from jaxalloc.tables import quote

app = typer.Typer(add_completion=False)
_CONFIG = AllocationConfig()
_MOST_VALUES = 10_000  # of one setting: more is a slip of the step


@app.command(
    epilog=example(
        "sweep prices.csv --kind prices --vary cluster-cap=0.15,0.25,0.35 "
        "--vary threshold=0.3:0.5:0.1 --n 200 --out settings --report"
    )
)
@expand
def sweep(
    context: typer.Context,
    source: Source,
    vary: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=VALUES",
            help="A setting and its values, such as cluster-cap=0.15,0.25,0.35 or threshold=0.1:0.5:0.1 (first, last, "
            "step). Repeat the option for a grid.",
        ),
    ],
    sampling: Sampling,
    running: Running,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder for the results; without it nothing is written, only printed."),
    ] = None,
    as_json: Json = False,
    config: AllocationConfig = _CONFIG,
) -> None:
    """Allocate at every point of a grid of settings: which of them matter?

    The file as it is is the one universe, unless --n, --window or --simulate draws universes from it: then each is
    allocated at every point. A table of each profile is printed.
    """
    if out is None and (running.resume or running.fresh):
        flag = "--resume" if running.resume else "--fresh"
        raise InputError(f"{flag} is about a study in a folder: give --out, which one")
    sampler = sampling.sampler(resample=False)
    grid: dict[str, list[float]] = {}
    for text in vary:
        name, values = _varied(text)
        if name in grid:
            raise InputError(f"--vary names {flag_of(name)} twice: give all its values at once")
        source_of_value = context.get_parameter_source(name)
        if source_of_value is not None and source_of_value.name == "COMMANDLINE":
            raise InputError(f"--{flag_of(name)} is given, and varied too: leave one of them out")
        grid[name] = values
    settings = make_sweep(config, **grid)
    panel = source.read()
    render.say_notes(panel.notes, running.quiet)
    report = running.report_file(source.file, out)
    result = run(panel, sampler, settings, sampling.seed, out, running, words_in_force(context))
    wrote = written(result, source.file, out, report, running.quiet)
    if as_json:
        typer.echo(to_json(document(result, out, report)), nl=False)
    else:
        render.print_sweep(result, render.stdout())
        if wrote:
            typer.echo("\n" + "\n".join(wrote))
    if not result.n_valid:
        raise InputError(f"{source.file}: no universe could be allocated to: {Status.INVALID.message}")


def _varied(text: str) -> tuple[str, list[float]]:
    """Read ``NAME=0.1,0.2`` or ``NAME=0.1:0.5:0.1``: a field of the settings, and its values."""
    word, equals, values = (piece.strip() for piece in text.partition("="))
    if not equals:
        raise InputError(f"--vary {quote(text)}: write it as cluster-cap=0.15,0.25 or threshold=0.1:0.5:0.1")
    name = setting_name(word)
    if name not in NUMERIC_FIELDS:
        words = ", ".join(map(flag_of, NUMERIC_FIELDS))
        raise InputError(f"--vary {quote(text)}: {quote(word)} is no number of the settings; choose from {words}")
    numbers = [number for part in values.split(",") for number in _range(part, text)]
    count = isinstance(getattr(_CONFIG, name), int)
    return name, [int(number) if count and number.is_integer() else number for number in map(float, numbers)]


def _range(part: str, text: str) -> list[Decimal]:
    """One number, or those from the first to the last; decimal, for 0.1 + 0.2 to be 0.3."""
    try:
        numbers = [Decimal(piece.strip()) for piece in part.split(":")]
    except ArithmeticError:
        raise InputError(f"--vary {quote(text)}: {quote(part)} is not a number, nor FIRST:LAST:STEP") from None
    if not all(number.is_finite() for number in numbers):
        raise InputError(f"--vary {quote(text)}: {quote(part)} is not finite")
    if len(numbers) == 1:
        return numbers
    if len(numbers) != 3 or numbers[2] <= 0 or numbers[1] < numbers[0]:
        raise InputError(f"--vary {quote(text)}: write a range as FIRST:LAST:STEP, such as 0.1:0.5:0.1")
    first, last, step = numbers
    if last - first >= step * _MOST_VALUES:
        raise InputError(f"--vary {quote(text)}: these are more than {_MOST_VALUES:,} values; take a larger step")
    return [first + step * k for k in range(int((last - first) / step) + 1)]
