"""What a person sees of orders in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.text import Text

from jaxalloc.arguments.words import counted, plain_name
from jaxalloc.cli.documents import records
from jaxalloc.cli.render import empty_table, percent, plain

if TYPE_CHECKING:
    from rich.console import Console

    from jaxalloc.backtest.orders import Orders


def print_orders(orders: Mapping[str, Orders], console: Console) -> None:
    """Print a table for each profile: what to buy and sell, and what is held then."""
    for profile, made in orders.items():
        rows = [row for row in records(made.frame) if row["held"] or row["shares"] or row["target"]]
        n_trades = sum(row["trade"] != 0 for row in rows)
        heading = Text.assemble(
            (plain_name(profile), "bold"), f": {counted(n_trades, 'order')}, {made.cash:,.2f} left in cash"
        )
        console.print("", heading, sep="\n")
        grid = empty_table("asset", ("trade", "shares", "price", "value", "weight", "target"))
        for row in rows:
            trade = f"{row['trade']:+,.10g}" if row["trade"] else "0"
            price = f"{row['price']:,.6g}"
            weights = percent(row["weight"]), percent(row["target"])
            grid.add_row(plain(row["symbol"]), trade, f"{row['shares']:,.0f}", price, f"{row['value']:,.0f}", *weights)
        console.print(grid)
