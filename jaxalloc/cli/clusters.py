"""`jaxalloc clusters`: into how many clusters to cut a file's tree."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jaxalloc.arguments.paths import check_file, write_whole
from jaxalloc.cli import render
from jaxalloc.cli.documents import records, to_json
from jaxalloc.cli.options import Json, Precision, Quiet, SourceFile, example, expand
from jaxalloc.cli.render_clusters import print_choice
from jaxalloc.figures.canvas import graph_objects
from jaxalloc.figures.choice import cuts
from jaxalloc.settings.config import AllocationConfig
from jaxalloc.storage.csv import write_csv
from jaxalloc.studies.choice import DEFAULT, ClusterChoice, candidates, cluster_choice
from jaxalloc.universes.bootstrap import Bootstrap

app = typer.Typer(add_completion=False)


@app.command(epilog=example("clusters prices.csv --plot clusters.html"))
@expand
def clusters(
    source: SourceFile,
    n: Annotated[int, typer.Option("--n", metavar="COUNT", min=1, help="Number of bootstrap resamples.")] = 100,
    seed: Annotated[int, typer.Option(metavar="NUMBER", help="Seed of the resamples.")] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Write each asset's cluster to a .csv file.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write the picture of the cuts to an .html file.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Print every cut instead of some.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    precision: Precision = "64",
    config: AllocationConfig = DEFAULT,
) -> None:
    """Choose into how many clusters to cut the tree of a file's assets.

    Every number of clusters up to --max-clusters is judged: how far apart its clusters are for their width (the mean
    silhouette), and how well bootstrap resamples agree with it. The table of cuts is printed, the one to take, why, and
    its clusters. By default distances are those without the market; --no-detone keeps it in.
    """
    for path, flag, suffixes in ((out, "--out", (".csv",)), (plot, "--plot", (".html", ".htm"))):
        if path is not None:
            check_file(path, flag, suffixes, source=source.file)
    if plot is not None:
        graph_objects()  # an error now, and not when all is computed
    panel = source.read()
    render.say_notes(panel.notes, quiet)
    total = n * max(candidates(config, panel.n_assets) - 1, 0)
    with render.progress_bar(total, quiet, False) as progress:
        choice = cluster_choice(panel, config, Bootstrap(n=n), seed, precision=int(precision), progress=progress)
    if out is not None:
        write_whole(out, lambda path: write_csv(choice.labels.reset_index(), path))
    if plot is not None:
        write_whole(plot, lambda path: cuts(choice).write_html(path))
    if as_json:
        typer.echo(to_json(_document(choice, source.file)), nl=False)
    else:
        print_choice(choice, source.file, render.stdout(), everything)
    render.say_notes([f"Wrote {path}." for path in (out, plot) if path is not None], quiet)


def _document(choice: ClusterChoice, file: Path) -> dict[str, object]:
    return {
        "file": str(file),
        "clusters": choice.clusters,
        "why": choice.why,
        "groups": choice.groups,
        "cuts": records(choice.table),
        "record": choice.record,
    }
