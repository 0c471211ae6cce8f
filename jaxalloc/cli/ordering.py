"""Orders in a command line: the options that ask for them, and how they are made, written and told to machines."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.numbers import one_number, whole_number
from jaxalloc.backtest.orders import Orders, read_shares
from jaxalloc.cli.documents import records
from jaxalloc.markets.panel import Panel

_PANEL = "Orders"
FILE = "orders.csv"


@dataclasses.dataclass(frozen=True)
class Placing:
    """What there is to place, and in which lots."""

    capital: Annotated[
        float | None,
        typer.Option(
            metavar="AMOUNT",
            help="Also print the shares to buy and sell for this much wealth, what is held and cash together, at the "
            "last prices of FILE.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    held: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Shares held now: a table with the columns symbol and shares. By default, all is cash.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    lot: Annotated[int, typer.Option(metavar="COUNT", help="Number of shares in a lot.", rich_help_panel=_PANEL)] = 1

    def check(self) -> None:
        """Read the shares; raise `InputError` where an option is at fault, or about orders that are not asked for."""
        if self.capital is None:
            for flag, given in (("--held", self.held is not None), ("--lot", self.lot != 1)):
                if given:
                    raise InputError(f"{flag} is about orders: give --capital, how much there is to place")
            return
        if one_number("capital", self.capital) <= 0:
            raise InputError(f"capital must be above 0, not {self.capital!r}")
        whole_number("lot", self.lot, 1)
        _ = self.shares

    @functools.cached_property
    def shares(self) -> pd.Series | None:
        """The shares held now; None for none."""
        return None if self.held is None else read_shares(self.held)

    def prices(self, panel: Panel, file: Path) -> pd.Series:
        """Return the panel's last prices; raise `InputError` if its file holds returns."""
        if panel.last_prices is None:
            raise InputError(
                f"{file}: --capital needs prices, and these are returns; give a file of prices, or call "
                "jaxalloc.orders with the weights and with prices"
            )
        return panel.last_prices


def orders_table(orders: Mapping[str, Orders]) -> pd.DataFrame:
    """Return the rows of all profiles in which anything is held, wanted or traded: index ("profile", "symbol")."""
    frames = [made.frame.loc[(made.frame[["held", "shares", "target"]] > 0).any(axis=1)] for made in orders.values()]
    return pd.concat(frames, keys=list(orders), names=["profile", "symbol"])


def orders_document(orders: Mapping[str, Orders]) -> dict[str, Any]:
    """Return orders as plain values: rows, and cash by profile."""
    return {"orders": records(orders_table(orders)), "cash": {profile: made.cash for profile, made in orders.items()}}
