"""The options of bagging, and the bootstrap that they make."""

from __future__ import annotations

from typing import Annotated

import typer

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.numbers import whole_number
from jaxalloc.cli.sampling import block_length
from jaxalloc.markets.panel import Panel
from jaxalloc.settings.sweep import Sweep
from jaxalloc.studies.bagged import monthly_blocks
from jaxalloc.universes.bootstrap import Bootstrap

Bag = Annotated[
    int | None,
    typer.Option(
        "--bag",
        metavar="COUNT",
        help="Bagging: hold the mean of the portfolios of COUNT resamples of the rows that a decision sees, which "
        "hangs less on a few of them, and show standard errors of the weights.",
    ),
]
BLOCK_HELP = (
    "Length of the blocks in which --bag draws rows, by default a month of rows. 1: one by one. auto: chosen by the "
    "rule of Politis and White."
)


def bootstrap_of(bag: int | None, block: str | None, flag: str, panel: Panel, settings: Sweep) -> Bootstrap | None:
    """Return how bagging resamples, None where it is not asked for.

    Args:
        bag: number of resamples.
        block: length of their blocks, as text.
        flag: the option that gave it.
        panel: the returns, whose dates say how many rows a month has.
        settings: likewise, if they say it.

    Raises:
        InputError: there is a length and no number, or one cannot be read.
    """
    if bag is None:
        if block is not None:
            raise InputError(f"{flag} is about resamples for bagging: give --bag, how many")
        return None
    n, length = whole_number("--bag", bag, 1), block_length(block, flag)
    if length is None:
        return monthly_blocks(n, panel, settings)
    if length == 1:
        return Bootstrap(n, method="iid")
    return Bootstrap(n, method="circular", block_length=length)
