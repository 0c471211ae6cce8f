"""Settings that vary over a grid: the option ``--vary``, and how it is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import typer

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import quote
from jaxalloc.cli.options import flag_of, setting_name
from jaxalloc.settings.config import COUNTS, AllocationConfig
from jaxalloc.settings.sweep import SWEPT_CHOICES, SWEPT_FIELDS, Sweep, sweep

VARY = typer.Option(
    metavar="NAME=VALUES",
    help="A setting and its values: a list such as cluster-cap=0.15,0.25,0.35 or linkage=average,ward, or first, last "
    "and step such as threshold=0.1:0.5:0.1. Repeat the option for a grid of several settings.",
)
VARY_WALK = typer.Option(
    metavar="NAME=VALUES",
    help="A setting and its values: a list such as cluster-cap=0.15,0.25,0.35 or linkage=average,ward, or first, last "
    "and step such as threshold=0.1:0.5:0.1. Also band=0,0.005,0.01 and costs-bps=0,10,30, which allocate nothing "
    "anew. Repeat the option for a grid of several settings.",
)
_MOST_VALUES = 10_000  # of one setting; more than that is a mistyped step


def varied(context: typer.Context, config: AllocationConfig, texts: Sequence[str], others: Sequence[str] = ()) -> Sweep:
    """Return the grid that ``--vary`` makes of the settings; without the option the settings are its only point.

    Args:
        context: of the command.
        config: the settings.
        texts: of the option.
        others: what the command varies beside the settings, which `varied_apart` reads.

    Raises:
        InputError: a text cannot be read, a setting is named twice, or on the command line too.
    """
    grid: dict[str, list[Any]] = {}
    for text in texts:
        if _other(text, others) is None:
            name, values = read_varied(text, others)
            _check_once(context, name, grid)
            grid[name] = values
    return sweep(config, **grid)


def varied_apart(context: typer.Context, texts: Sequence[str], others: Sequence[str]) -> dict[str, list[float]]:
    """Return what ``--vary`` varies beside the settings: numbers by name.

    Args:
        context: of the command.
        texts: of the option.
        others: the names of the options that it may name, with _ for -.

    Raises:
        InputError: a text cannot be read, an option is named twice, or on the command line too.
    """
    grid: dict[str, list[float]] = {}
    for text in texts:
        name = _other(text, others)
        if name is not None:
            _check_once(context, name, grid)
            numbers = [number for part in text.partition("=")[2].split(",") for number in _range(part, text)]
            grid[name] = list(map(float, numbers))
    return grid


def _other(text: str, others: Sequence[str]) -> str | None:
    """Which of ``others`` a text is about; None if it is about a setting."""
    name = text.partition("=")[0].strip().removeprefix("--").replace("-", "_")
    return name if name in others and "=" in text else None


def _check_once(context: typer.Context, name: str, grid: Mapping[str, Any]) -> None:
    if name in grid:
        raise InputError(f"--vary names {flag_of(name)} twice: give all its values at once")
    source_of_value = context.get_parameter_source(name)
    if source_of_value is not None and source_of_value.name == "COMMANDLINE":
        raise InputError(f"--{flag_of(name)} is given, and varied too: leave one of them out")


def read_varied(text: str, others: Sequence[str] = ()) -> tuple[str, list[Any]]:
    """Read ``NAME=0.1,0.2`` or ``NAME=0.1:0.5:0.1``: a field of the settings, and its values.

    Args:
        text: of the option.
        others: what may vary beside the settings.
    """
    word, equals, values = (piece.strip() for piece in text.partition("="))
    if not equals:
        raise InputError(f"--vary {quote(text)}: write it as cluster-cap=0.15,0.25 or threshold=0.1:0.5:0.1")
    name = setting_name(word)
    if name not in SWEPT_FIELDS:
        words = ", ".join(map(flag_of, (*SWEPT_FIELDS, *others)))
        raise InputError(f"--vary {quote(text)}: {quote(word)} cannot vary; choose from {words}")
    if name in SWEPT_CHOICES:
        chosen = [value.strip() for value in values.split(",")]
        return name, [_switch(value, text) for value in chosen] if name == "detone" else chosen
    numbers = [number for part in values.split(",") for number in _range(part, text)]
    count = name in COUNTS
    return name, [int(number) if count and number.is_integer() else number for number in map(float, numbers)]


def _switch(value: str, text: str) -> bool:
    """Read yes or no."""
    words = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}
    if value.lower() not in words:
        raise InputError(f"--vary {quote(text)}: {quote(value)} is neither yes nor no")
    return words[value.lower()]


def _range(part: str, text: str) -> list[Decimal]:
    """One number, or the numbers from first to last. They are decimal, so that 0.1 + 0.2 is 0.3."""
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
