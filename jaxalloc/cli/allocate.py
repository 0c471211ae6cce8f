"""`jaxalloc allocate`: one portfolio of each profile for the assets of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.paths import check_file, write_whole
from jaxalloc.backtest.orders import Orders
from jaxalloc.backtest.orders import orders as make_orders
from jaxalloc.cli import render
from jaxalloc.cli.bagging import BLOCK_HELP, Bag, bootstrap_of
from jaxalloc.cli.documents import to_json
from jaxalloc.cli.options import Json, MaxMissing, Precision, Quiet, SourceFile, example, expand
from jaxalloc.cli.ordering import FILE as ORDERS
from jaxalloc.cli.ordering import Placing, orders_document, orders_table
from jaxalloc.cli.portfolios import WRITERS, NamedPortfolios, compute, write
from jaxalloc.cli.render_orders import print_orders
from jaxalloc.cli.render_portfolios import FOLDED_ROWS, print_portfolios
from jaxalloc.markets.holes import MAX_MISSING
from jaxalloc.settings.config import AllocationConfig
from jaxalloc.settings.sweep import as_sweep
from jaxalloc.storage.csv import write_csv

app = typer.Typer(add_completion=False)
_CONFIG = AllocationConfig(profiles=("risk_parity",))


@app.command(epilog=example("allocate prices.csv --profile barbell --out weights.csv"))
@expand
def allocate(
    source: SourceFile,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the table of assets to a .csv, .parquet or .json file.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Print all assets and clusters instead of the heaviest.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    sensitivity: Annotated[
        bool,
        typer.Option(
            "--sensitivity",
            help="Show the estimates that each portfolio hangs on: the turnover that one standard error would cause.",
        ),
    ] = False,
    bag: Bag = None,
    block: Annotated[str | None, typer.Option(metavar="ROWS", help=BLOCK_HELP)] = None,
    seed: Annotated[int, typer.Option(metavar="NUMBER", help="Seed of the resamples of --bag.")] = 0,
    max_missing: MaxMissing = MAX_MISSING,
    precision: Precision = "64",
    *,
    placing: Placing,
    config: AllocationConfig = _CONFIG,
) -> None:
    """Compute one portfolio of each profile for the assets of a file.

    Assets that move together form a cluster. Capital is allocated to the clusters first, and then within each cluster.
    The tables show each cluster's weight, share of the risk, size and lead asset, and each asset's weight and share of
    its cluster. With --bag, the mean of the portfolios of resamples takes the place of the file's own, and each asset's
    weight has its standard error. With --capital, a table shows the shares to buy and sell. With --sensitivity, a table
    shows how much one standard error of an asset's mean or volatility would trade.
    """
    placing.check()
    if sensitivity and bag is not None:
        raise InputError("--sensitivity measures the file's own portfolios, and --bag takes their place: choose one")
    table = None
    if out is not None:
        check_file(out, "--out", WRITERS, source=source.file)
        table = out.with_name(ORDERS) if placing.capital is not None else None
    for read in (source.file, placing.held):
        if table is not None and read is not None:
            check_file(table, "the file of orders", [table.suffix], source=read)
    if table == out and out is not None:
        raise InputError(
            f"--out {out} is the table of assets, and the orders go into a file of that name: choose another"
        )
    panel = source.read()
    prices = None if placing.capital is None else placing.prices(panel, source.file)
    bagging = bootstrap_of(bag, block, "--block", panel, as_sweep(config))
    with render.working(f"allocating to {panel.n_assets:,} assets", quiet):
        portfolios = compute(panel, config, int(precision), str(source.file), max_missing)
    if sensitivity:
        with render.working("measuring what the portfolios hang on", quiet):
            portfolios = portfolios.with_sensitivity(max_missing)
    if bagging is not None:
        with render.progress_bar(bagging.n or 0, quiet) as progress:
            portfolios = portfolios.bagged(bagging, seed, max_missing, progress)
    render.say_notes(portfolios.notes, quiet)
    orders = {} if prices is None else _orders(portfolios, placing, prices)
    if out is not None:
        write(portfolios, out)
    if table is not None:
        write_whole(table, lambda path: write_csv(orders_table(orders), path))
    if as_json:
        typer.echo(to_json(portfolios.document() | (orders_document(orders) if orders else {})), nl=False)
    else:
        print_portfolios(portfolios, render.stdout(), None if everything else FOLDED_ROWS)
        print_orders(orders, render.stdout())
    render.say_notes([f"Wrote {path}." for path in (out, table) if path is not None], quiet)


def _orders(portfolios: NamedPortfolios, placing: Placing, prices: pd.Series) -> dict[str, Orders]:
    """The orders of each profile."""
    weights = portfolios.allocation.weights
    targets = (pd.Series(weights[p], index=portfolios.panel.symbols) for p in range(len(weights)))
    return {
        profile: make_orders(target, placing.shares, prices, placing.capital, placing.lot)
        for profile, target in zip(portfolios.config.profiles, targets, strict=True)
    }
