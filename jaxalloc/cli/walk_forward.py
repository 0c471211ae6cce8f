"""`jaxalloc walk-forward`: a backtest, in which portfolios are held on the rows after those they were decided on."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.numbers import whole_number
from jaxalloc.backtest.folder import ALLOCATIONS, BAGS, PATH_BAGS, PATHS, add_table
from jaxalloc.backtest.orders import Orders
from jaxalloc.backtest.points import VARIED
from jaxalloc.backtest.previous import read_weights
from jaxalloc.backtest.run import Execution, live_windows
from jaxalloc.backtest.run import walk_forward as run_walk_forward
from jaxalloc.backtest.walk import WalkForward
from jaxalloc.cli import render
from jaxalloc.cli.bagging import BLOCK_HELP, Bag, bootstrap_of
from jaxalloc.cli.command_line import ReportingCommand, as_text, words_in_force
from jaxalloc.cli.documents import records, to_json
from jaxalloc.cli.options import GappyFile, Json, MaxMissing, example, expand
from jaxalloc.cli.ordering import FILE as ORDERS
from jaxalloc.cli.ordering import Placing, orders_document, orders_table
from jaxalloc.cli.render_benchmark import beside_document
from jaxalloc.cli.render_choice import choice_document
from jaxalloc.cli.render_orders import print_orders
from jaxalloc.cli.render_walk import print_walk
from jaxalloc.cli.running import RunFlags, new_folder, say_rest, what_is_kept, write_outputs
from jaxalloc.cli.sampling import PERIODS, block_length, step_of
from jaxalloc.cli.trading import Band, Base, CostsBps, MaxTurnover, check_base
from jaxalloc.cli.varying import VARY_WALK, varied, varied_apart
from jaxalloc.markets.dates import label_text
from jaxalloc.markets.panel import Panel
from jaxalloc.markets.periods import resolve_periods, rows_a_year
from jaxalloc.portfolios.advice import setting_advice
from jaxalloc.settings.config import AllocationConfig
from jaxalloc.settings.measures import FIGURES
from jaxalloc.settings.sweep import Sweep
from jaxalloc.storage.recovery import read_manifest
from jaxalloc.universes.bootstrap import Bootstrap, Method
from jaxalloc.universes.samplers import block_of_rows

app = typer.Typer(add_completion=False)
_CONFIG = AllocationConfig()
_DEFAULT = {name: parameter.default for name, parameter in inspect.signature(run_walk_forward).parameters.items()}
_WALK, _PATHS = "Walk-forward", "Paths"
_METHOD: Method = "stationary"


@dataclasses.dataclass(frozen=True)
class Walking:
    """When portfolios are decided and held, and what trading costs."""

    window: Annotated[
        int | None,
        typer.Option(
            metavar="ROWS",
            help="Number of rows that a decision sees; with --expanding, that the first decision sees. By default a "
            "year of rows, such as 252 of business days or 12 of months.",
            rich_help_panel=_WALK,
        ),
    ] = _DEFAULT["window"]
    step: Annotated[
        str | None,
        typer.Option(
            metavar="ROWS|PERIOD",
            help=f"Number of rows from one rebalance to the next, by default a month of rows; or {PERIODS}: decide on "
            "the last row of each.",
            rich_help_panel=_WALK,
        ),
    ] = _DEFAULT["step"]
    expanding: Annotated[
        bool,
        typer.Option("--expanding", help="Let every decision see all rows from the first on.", rich_help_panel=_WALK),
    ] = _DEFAULT["expanding"]
    gap: Annotated[
        int,
        typer.Option(
            metavar="ROWS",
            help="Number of rows between a window and the first row on which its portfolio is held, such as 1 if "
            "trading takes a day.",
            rich_help_panel=_WALK,
        ),
    ] = _DEFAULT["gap"]
    band: Band = _DEFAULT["band"]
    max_turnover: MaxTurnover = _DEFAULT["max_turnover"]
    costs_bps: CostsBps = _DEFAULT["costs_bps"]
    execution: Annotated[
        Execution,
        typer.Option(
            help="portfolio: hold every asset at its weight. lead: hold each cluster's whole weight in its lead asset.",
            rich_help_panel=_WALK,
        ),
    ] = _DEFAULT["execution"]
    bag: Bag = None
    bag_block: Annotated[str | None, typer.Option(metavar="ROWS", help=BLOCK_HELP, rich_help_panel=_WALK)] = None
    benchmark: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Compare the portfolios with this column of FILE, such as an index, which is then none of their "
            "assets.",
            rich_help_panel=_WALK,
        ),
    ] = _DEFAULT["benchmark"]
    max_missing: MaxMissing = _DEFAULT["max_missing"]
    previous_weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Holdings before the first rebalance: a table with the columns symbol and weight, or with symbol and "
            "a column for each profile. By default, cash.",
            rich_help_panel=_WALK,
        ),
    ] = None
    base: Base = None
    seed: Annotated[
        int,
        typer.Option(
            metavar="NUMBER", help="Seed of --paths, and of the resamples behind the intervals.", rich_help_panel=_WALK
        ),
    ] = _DEFAULT["seed"]

    def arguments(self) -> dict[str, Any]:
        """Return the options as arguments of `jaxalloc.walk_forward`; the previous weights are read."""
        others = ("base", "bag", "bag_block")
        arguments = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name not in others
        }
        return arguments | {
            "step": step_of(self.step),
            "previous_weights": None if self.previous_weights is None else read_weights(self.previous_weights),
        }


@dataclasses.dataclass(frozen=True)
class Resampling:
    """Resampled paths to walk forward on as well. An option that is not given is None."""

    paths: Annotated[
        int | None,
        typer.Option(metavar="COUNT", help="Also walk forward on COUNT resamples of the rows.", rich_help_panel=_PATHS),
    ] = None
    method: Annotated[
        Method | None,
        typer.Option(
            metavar="NAME",
            help=f"Bootstrap: draw rows in blocks ({_METHOD}, the default, circular or moving), or one by one (iid).",
            rich_help_panel=_PATHS,
        ),
    ] = None
    block: Annotated[
        str | None,
        typer.Option(
            metavar="ROWS",
            help="Length of a block, the mean length with stationary; by default a month of rows. auto: chosen by the "
            "rule of Politis and White.",
            rich_help_panel=_PATHS,
        ),
    ] = None

    def bootstrap(self) -> Bootstrap | None:
        """Return the sampler of the paths, if there are to be any.

        Raises:
            InputError: options contradict each other, or cannot be read.
        """
        if self.paths is None:
            for flag, value in (("--method", self.method), ("--block", self.block)):
                if value is not None:
                    raise InputError(f"{flag} is about resampled paths: give --paths, how many")
            return None
        method = self.method or _METHOD
        length = None if self.block is None else block_length(self.block)  # None: a month of rows, once these are known
        return Bootstrap(whole_number("--paths", self.paths, 1), method=method, block_length=length)


@app.command(
    cls=ReportingCommand,
    epilog=example(
        "walk-forward prices.csv --profile equal_weight --profile risk_parity --profile hrp "
        "--costs-bps 5 --paths 200 --out walk --report"
    ),
)
@expand
def walk_forward(
    context: typer.Context,
    source: GappyFile,
    walking: Walking,
    resampling: Resampling,
    running: RunFlags,
    placing: Placing,
    vary: Annotated[list[str] | None, VARY_WALK] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder for the results. By default a new folder named FILE-walk-forward; with --resume or --fresh, "
            "the folder of that name.",
        ),
    ] = None,
    as_json: Json = False,
    config: AllocationConfig = _CONFIG,
) -> None:
    """Backtest: decide portfolios on past rows, and hold them on the rows that follow.

    A window of rows rolls through the file. Each profile's portfolio of a window is held on the rows after the window,
    drifts with the returns until the next rebalance, and pays for the trades. The tables show what each profile would
    have earned, how certain its difference from a base profile is, and what to trade now.

    With --paths, resamples of the rows are walked forward on too. With --vary, every point of a grid of settings is.
    With --capital, the last table is of the shares to buy and sell.
    """
    paths, arguments = resampling.bootstrap(), walking.arguments()
    arguments |= varied_apart(context, vary or (), VARIED)
    settings = varied(context, config, vary or (), VARIED)
    base = check_base(walking.base, config)
    placing.check()
    panel = source.read()
    prices = None if placing.capital is None else placing.prices(panel, source.file)
    arguments["bagging"] = bootstrap_of(walking.bag, walking.bag_block, "--bag-block", panel, settings)
    said = [*panel.notes, *setting_advice(settings, FIGURES, leads=walking.execution == "lead")]
    render.say_notes(said, running.quiet)
    again = running.resume or running.fresh
    folder = new_folder(source.file, "walk-forward", again) if out is None else out
    report = running.report_file(source.file, folder)
    walk = _run(panel, settings, arguments, paths, folder, running, words_in_force(context))
    why = say_rest(walk, said, source.file, walk.allocations.n_valid, running.quiet)
    wrote = write_outputs(walk, source.file, folder, report, running.quiet, base=base)
    orders = {} if prices is None else _orders(walk, placing, prices)
    if orders:
        add_table(folder, ORDERS, orders_table(orders))
    if as_json:
        typer.echo(
            to_json(document(walk, base, folder, report) | (orders_document(orders) if orders else {})), nl=False
        )
    else:
        print_walk(walk, base or walk.base, render.stdout())
        print_orders(orders, render.stdout())
        typer.echo("\n" + "\n".join(wrote))
    if why:
        raise InputError(why)


def _orders(walk: WalkForward, placing: Placing, prices: pd.Series) -> dict[str, Orders]:
    """The orders of the profiles that the last window has portfolios of, at the settings' own point."""
    assert placing.capital is not None
    home = walk.settings.home
    return {
        profile: walk.orders(profile, prices, placing.capital, placing.shares, placing.lot, home)
        for profile in walk.profiles
        if not walk.history.undecided[home, walk.number(profile)]
    }


def _run(
    panel: Panel,
    settings: Sweep,
    arguments: dict[str, Any],
    paths: Bootstrap | None,
    folder: Path,
    running: RunFlags,
    command: Sequence[str],
) -> WalkForward:
    """Walk forward, with a progress bar.

    Raises:
        InputError: an argument is at fault.
        KeyboardInterrupt: its argument is what has been kept, if anything has.
    """
    n_rows = panel.n_observations
    resolved, _ = resolve_periods(settings, panel.dates)
    windows, _ = live_windows(panel.dates, resolved, *(arguments[name] for name in ("window", "step", "expanding")))
    windows = windows.prepare(panel, n_rows, resolved.config.periods_per_year)
    if paths is not None and paths.block_length is None and paths.method != "iid":
        length = min(block_of_rows(rows_a_year(resolved.config.periods_per_year, panel.dates)), n_rows)
        paths = dataclasses.replace(paths, block_length=length)
    n_paths = 0 if paths is None or paths.n is None else paths.n
    of_paths = dataclasses.replace(windows, live=False).count(n_rows) * n_paths
    bagging = arguments["bagging"]
    each = 1 if bagging is None else 1 + (bagging.n or 0)  # a window itself, and its resamples
    total = (windows.count(n_rows) + of_paths) * len(settings) * each
    resumed = running.resume and read_manifest(folder / ALLOCATIONS) is not None
    try:
        with render.progress_bar(total, running.quiet, resumed) as progress:
            return run_walk_forward(
                panel,
                settings,
                paths=paths,
                out=folder,
                command=as_text(command),
                progress=progress,
                **arguments,
                **running.computing(),
            )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(*what_is_kept(folder, total, command, (ALLOCATIONS, BAGS, PATHS, PATH_BAGS))) from None


def document(walk: WalkForward, base: str | None, folder: Path, report: Path | None) -> dict[str, Any]:
    """Return the record and the tables of a walk-forward as plain values."""
    rebalances = walk.rebalances().reset_index()
    for name in ("date", "decided"):
        rebalances[name] = rebalances[name].map(label_text)
    targets = [{"profile": profile, **row} for profile in walk.profiles for row in records(_target(walk, profile))]
    tables = walk.record | {
        "folder": str(folder),
        "report": None if report is None else str(report),
        "base": base or walk.base,
        "n_valid": walk.allocations.n_valid,
        "recommendation": dataclasses.asdict(walk.recommendation()),
        "first_day": None if walk.days.empty else label_text(walk.days[0]),
        "last_day": None if walk.days.empty else label_text(walk.days[-1]),
        "summary": records(walk.summary()),
        "differences": records(walk.differences(base)) if walk.can_compare else [],
        "deflated_sharpe": records(walk.deflated_sharpe()) if walk.schedule.n_days > 2 else [],
        **choice_document(walk),
        **beside_document(walk),
        "rebalances": records(rebalances),
        "target": targets,
    }
    if walk.n_paths:
        tables |= {"path_quantiles": records(walk.path_quantiles())}
        tables |= {"beats": records(walk.beats(base))} if len(walk.profiles) > 1 else {}
    return tables


def _target(walk: WalkForward, profile: str) -> Any:
    return walk.over_points(lambda g: walk.target(profile, g), None)
