"""`jaxalloc allocate`: one portfolio of each profile for the assets of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jaxalloc.arguments.paths import check_file
from jaxalloc.cli import render
from jaxalloc.cli.bagging import BLOCK_HELP, Bag, bootstrap_of
from jaxalloc.cli.documents import to_json
from jaxalloc.cli.options import Json, MaxMissing, Precision, Quiet, SourceFile, example, expand
from jaxalloc.cli.portfolios import WRITERS, compute, write
from jaxalloc.cli.render_portfolios import FOLDED_ROWS, print_portfolios
from jaxalloc.markets.holes import MAX_MISSING
from jaxalloc.settings.config import AllocationConfig
from jaxalloc.settings.sweep import as_sweep

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
    bag: Bag = None,
    block: Annotated[str | None, typer.Option(metavar="ROWS", help=BLOCK_HELP)] = None,
    seed: Annotated[int, typer.Option(metavar="NUMBER", help="Seed of the resamples of --bag.")] = 0,
    max_missing: MaxMissing = MAX_MISSING,
    precision: Precision = "64",
    config: AllocationConfig = _CONFIG,
) -> None:
    """Compute one portfolio of each profile for the assets of a file.

    Assets that move together form a cluster. Capital is allocated to the clusters first, and then within each cluster.
    The tables show each cluster's weight, share of the risk, size and lead asset, and each asset's weight and share of
    its cluster. With --bag, the mean of the portfolios of resamples takes the place of the file's own, and each asset's
    weight has its standard error.
    """
    if out is not None:
        check_file(out, "--out", WRITERS, source=source.file)
    panel = source.read()
    bagging = bootstrap_of(bag, block, "--block", panel, as_sweep(config))
    with render.working(f"allocating to {panel.n_assets:,} assets", quiet):
        portfolios = compute(panel, config, int(precision), str(source.file), max_missing)
    if bagging is not None:
        with render.progress_bar(bagging.n or 0, quiet) as progress:
            portfolios = portfolios.bagged(bagging, seed, max_missing, progress)
    render.say_notes(portfolios.notes, quiet)
    if out is not None:
        write(portfolios, out)
    if as_json:
        typer.echo(to_json(portfolios.document()), nl=False)
    else:
        print_portfolios(portfolios, render.stdout(), None if everything else FOLDED_ROWS)
    if out is not None:
        render.say_notes([f"Wrote {out}."], quiet)
