"""Options of the commands that hold portfolios out of sample: what trading costs, and what to compare with."""

from __future__ import annotations

from typing import Annotated

import typer

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import quote
from jaxalloc.settings.config import AllocationConfig

_PANEL = "Trading"

Band = Annotated[
    float,
    typer.Option(
        metavar="WEIGHT",
        help="Trade an asset only as far as its weight is farther than this from the target, such as 0.01.",
        rich_help_panel=_PANEL,
    ),
]
MaxTurnover = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        help="Largest turnover of a rebalance, such as 0.2: trades that come to more are scaled down to it. The first "
        "purchase is whole.",
        rich_help_panel=_PANEL,
    ),
]
CostsBps = Annotated[
    float,
    typer.Option(metavar="BPS", help="Cost of trading, in basis points of the amount traded.", rich_help_panel=_PANEL),
]
Base = Annotated[
    str | None,
    typer.Option(
        metavar="PROFILE",
        help="Profile to compare the others with. By default equal_weight if it is among the profiles, else the first.",
    ),
]


def check_base(name: str | None, config: AllocationConfig) -> str | None:
    """Return the name of the profile to compare with; raise `InputError` if it is none of the profiles."""
    if name is not None and name not in config.profiles:
        raise InputError(f"--base {quote(name)} is none of the profiles: choose from {', '.join(config.profiles)}")
    return name
