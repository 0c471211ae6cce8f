"""`jaxalloc cross-validate`: many histories out of sample, put together from splits of a file's rows."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.paths import check_file, write_whole
from jaxalloc.backtest.folder import BAGS, add_table
from jaxalloc.backtest.points import VARIED
from jaxalloc.backtest.validate import cross_validate as run_cross_validate
from jaxalloc.backtest.validation import CrossValidation
from jaxalloc.cli import render
from jaxalloc.cli.bagging import BLOCK_HELP, Bag, bootstrap_of
from jaxalloc.cli.command_line import as_text, words_in_force
from jaxalloc.cli.documents import records, to_json
from jaxalloc.cli.options import GappyFile, Json, MaxMissing, example, expand
from jaxalloc.cli.render_validation import print_validation
from jaxalloc.cli.running import ComputingFlags, new_folder, say_rest, what_is_kept
from jaxalloc.cli.trading import Band, Base, CostsBps, MaxTurnover, check_base
from jaxalloc.cli.varying import VARY_WALK, varied, varied_apart
from jaxalloc.figures.canvas import graph_objects
from jaxalloc.markets.panel import Panel
from jaxalloc.markets.periods import resolve_periods
from jaxalloc.portfolios.advice import setting_advice
from jaxalloc.settings.config import AllocationConfig
from jaxalloc.settings.measures import FIGURES
from jaxalloc.settings.sweep import Sweep
from jaxalloc.storage.recovery import read_manifest
from jaxalloc.universes.splits import CombinatorialSplits

app = typer.Typer(add_completion=False)
_CONFIG = AllocationConfig()
_DEFAULT = {name: parameter.default for name, parameter in inspect.signature(run_cross_validate).parameters.items()}
_SPLITS = "Splits"
PATHS = "paths.csv"


@dataclasses.dataclass(frozen=True)
class Validating:
    """How rows are split, and what trading costs."""

    groups: Annotated[
        int,
        typer.Option(
            metavar="COUNT",
            help="Number of groups of rows in a row that the file is cut into.",
            rich_help_panel=_SPLITS,
        ),
    ] = _DEFAULT["groups"]
    test_groups: Annotated[
        int,
        typer.Option(
            metavar="COUNT",
            help="Number of groups that a split holds out. Every choice of so many groups is a split.",
            rich_help_panel=_SPLITS,
        ),
    ] = _DEFAULT["test_groups"]
    purge: Annotated[
        int,
        typer.Option(
            metavar="ROWS",
            help="Rows left out of a decision on either side of each group held out. With rows that are returns over k "
            "periods which overlap, give k - 1.",
            rich_help_panel=_SPLITS,
        ),
    ] = _DEFAULT["purge"]
    embargo: Annotated[
        int | None,
        typer.Option(
            metavar="ROWS",
            help="Rows left out after those that follow a group held out. By default one in a hundred, rounded up.",
            rich_help_panel=_SPLITS,
        ),
    ] = _DEFAULT["embargo"]
    band: Band = _DEFAULT["band"]
    max_turnover: MaxTurnover = _DEFAULT["max_turnover"]
    costs_bps: CostsBps = _DEFAULT["costs_bps"]
    max_missing: MaxMissing = _DEFAULT["max_missing"]
    seed: Annotated[int, typer.Option(metavar="NUMBER", help="Seed of the resamples of --bag.")] = _DEFAULT["seed"]

    def splits(self) -> CombinatorialSplits:
        """Return what splits the rows."""
        names = ("groups", "test_groups", "purge", "embargo")
        return CombinatorialSplits(**{name: getattr(self, name) for name in names})


@app.command(
    epilog=example(
        "cross-validate prices.csv --profile equal_weight --profile risk_parity --profile hrp --groups 10 "
        "--test-groups 2 --costs-bps 5 --out paths --plot paths.html"
    ),
)
@expand
def cross_validate(
    context: typer.Context,
    source: GappyFile,
    validating: Validating,
    running: ComputingFlags,
    base: Base = None,
    bag: Bag = None,
    bag_block: Annotated[str | None, typer.Option(metavar="ROWS", help=BLOCK_HELP)] = None,
    vary: Annotated[list[str] | None, VARY_WALK] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder for the results. By default a new folder named FILE-cross-validate; with --resume or --fresh, "
            "the folder of that name.",
        ),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write the box plots of the paths to an .html file.")
    ] = None,
    as_json: Json = False,
    config: AllocationConfig = _CONFIG,
) -> None:
    """Combinatorial purged cross-validation: many histories out of sample instead of one.

    The rows are cut into groups. Each profile's portfolio is decided on all groups but a few, and held on these; every
    choice of the few is a split. The splits make complete histories, the paths. The table shows how each profile's
    figures spread over the paths.

    Most splits decide with rows that come after those they are held on: a path is no record that could have been
    earned, which walk-forward shows. With --vary, every point of a grid of settings is held on every path.
    """
    arguments = dataclasses.asdict(validating) | varied_apart(context, vary or (), VARIED)
    settings = varied(context, config, vary or (), VARIED)
    check_base(base, config)
    if plot is not None:
        check_file(plot, "--plot", (".html", ".htm"), source=source.file)
        graph_objects()  # an error now, and not when all is computed
    panel = source.read()
    arguments["bagging"] = bootstrap_of(bag, bag_block, "--bag-block", panel, settings)
    said = [*panel.notes, *setting_advice(settings, FIGURES)]
    render.say_notes(said, running.quiet)
    again = running.resume or running.fresh
    folder = new_folder(source.file, "cross-validate", again) if out is None else out
    found = _run(panel, settings, validating.splits(), arguments, folder, running, words_in_force(context))
    why = say_rest(found.study, said, source.file, found.study.n_valid, running.quiet)
    add_table(folder, PATHS, found.paths())
    if plot is not None:
        write_whole(plot, lambda path: found.plot().write_html(path))
    if as_json:
        typer.echo(to_json(document(found, base, folder, plot)), nl=False)
    else:
        print_validation(found, base or found.base, render.stdout())
        typer.echo("\n" + "\n".join(f"Wrote {path}" for path in (folder, plot) if path is not None))
    if why:
        raise InputError(why)


def _run(
    panel: Panel,
    settings: Sweep,
    splits: CombinatorialSplits,
    arguments: dict[str, Any],
    folder: Path,
    running: ComputingFlags,
    command: Sequence[str],
) -> CrossValidation:
    """Cross-validate, with a progress bar.

    Raises:
        InputError: an argument is at fault.
        KeyboardInterrupt: its argument is what has been kept, if anything has.
    """
    resolved, _ = resolve_periods(settings, panel.dates)
    n_rows, bagging = panel.n_observations, arguments["bagging"]
    ready = splits.prepare(panel, n_rows, resolved.config.periods_per_year)
    each = 1 if bagging is None else 1 + (bagging.n or 0)  # a split itself, and its resamples
    total = ready.count(n_rows) * len(settings) * each
    resumed = running.resume and read_manifest(folder) is not None
    try:
        with render.progress_bar(total, running.quiet, resumed) as progress:
            return run_cross_validate(
                panel,
                settings,
                out=folder,
                command=as_text(command),
                progress=progress,
                **arguments,
                **running.computing(),
            )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(*what_is_kept(folder, total, command, (".", BAGS))) from None


def document(found: CrossValidation, base: str | None, folder: Path, plot: Path | None) -> dict[str, Any]:
    """Return the record and the tables of a cross-validation as plain values."""
    return found.record | {
        "folder": str(folder),
        "plot": None if plot is None else str(plot),
        "base": base or found.base,
        **found.settings.record(),
        "bagging": found.bagging,
        "n_splits": found.study.n,
        "n_paths": found.n_paths,
        "n_valid": found.study.n_valid,
        "path_quantiles": records(found.path_quantiles()),
        "losses": records(found.losses()),
        "beats": records(found.beats(base)) if len(found.profiles) > 1 else [],
        "overfitting": records(found.overfitting()) if found.can_validate else [],
        "paths": records(found.paths()),
    }
