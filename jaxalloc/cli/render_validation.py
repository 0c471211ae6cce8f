"""What a person sees of a cross-validation in a terminal: how each profile's figures spread over the paths."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rich.text import Text

from jaxalloc.arguments.words import counted, per_cent, plain_name
from jaxalloc.cli.render import empty_table, plain, print_points, written
from jaxalloc.cli.render_walk import trading_words
from jaxalloc.markets.dates import label_text
from jaxalloc.settings.measures import WALK_MEASURE

if TYPE_CHECKING:
    from rich.console import Console

    from jaxalloc.backtest.validation import CrossValidation

_SHOWN = ("sharpe", "annual_return", "volatility", "max_drawdown", "turnover")
_SWEPT = ("volatility", "max_drawdown", "turnover")  # of which a sweep shows the mean


def print_validation(found: CrossValidation, base: str, console: Console) -> None:
    """Print how each profile's figures spread over the paths, and whether choosing the best pays on them.

    Args:
        found: the cross-validation.
        base: the profile that the others are compared with.
        console: to print on.
    """
    splits, n_rows = found.splits, len(found.dates)
    held = f"held on {counted(n_rows, 'row')}, {label_text(found.dates[0])} to {label_text(found.dates[-1])}"
    of = f"{counted(found.n_paths, 'path')} of {counted(found.study.n, 'split')}"
    console.print(plain(f"{of}, {counted(len(found.study.symbols), 'asset')}, {held}"))
    how = (
        f"decided on all but {splits.test_groups} of {splits.groups} groups of {n_rows // splits.groups} rows, a purge "
        f"of {splits.purge} and an embargo of {counted(splits.embargo or 0, 'row')}; {trading_words(found.settings)}; "
        "figures are annual"
    )
    console.print(Text(how, style="dim"))
    if found.bagging_words:
        console.print(Text(found.bagging_words, style="dim"))
    _print_notes(found, console)
    if found.settings.names:
        _print_sweep(found, console)
    else:
        _print_spread(found, base, console)
    console.print(
        "Each path is a history of all rows, by portfolios that were decided on others, later ones too. Paths share "
        "rows and portfolios: their spread is that of the decision, and no confidence interval.",
        style="dim",
    )
    _print_choice(found, console)


def _print_notes(found: CrossValidation, console: Console) -> None:
    paths, notes = found.paths(), []
    kept, missing = (paths[name].to_numpy() for name in ("kept", "missing"))
    if kept.any():
        total = len(kept) * found.splits.groups
        share = f"{kept.sum():,} of {counted(total, 'rebalance')}, counted over all profiles and paths,"
        notes.append(f"{share} had no portfolio: the holdings stayed as they were")
    if missing.any():
        notes.append(
            f"missing returns of assets that were held count as 0; the path with the most has {missing.max():,} (days "
            "times assets)"
        )
    for note in notes:
        console.print(Text(f"note: {note}"), style="yellow")


def _print_spread(found: CrossValidation, base: str, console: Console) -> None:
    """A row for each profile and measure."""
    table, lost = found.path_quantiles((0.05, 0.95)), found.losses()
    won = found.beats(base) if len(found.profiles) > 1 else None
    last = () if won is None else ("better",)
    grid = empty_table("", ("", "mean", "5 %", "95 %", "below 0", *last))
    for profile in found.profiles:
        for measure in _SHOWN:
            row: dict[Any, Any] = table.loc[(profile, measure)].to_dict()
            cells = [written(WALK_MEASURE[measure])(row[name]) for name in ("mean", "q05", "q95")]
            cells.append(_share(float(lost.loc[profile, measure])) if measure in lost else "")
            if won is not None:
                cells.append(_share(math.nan if profile == base else float(won.loc[profile, measure])))
            name = plain_name(profile) if measure == _SHOWN[0] else ""
            grid.add_row(name, WALK_MEASURE[measure].heading, *cells)
    console.print("", grid, sep="\n")
    better = "" if won is None else f"; better: on how many it is better than {plain_name(base)}"
    console.print(f"below 0: on how many of the paths{better}", style="dim")


def _print_sweep(found: CrossValidation, console: Console) -> None:
    """A table for each profile, with a row for each point."""
    fits, write = True, written(WALK_MEASURE["sharpe"])
    for profile in found.profiles:
        console.print("", Text(plain_name(profile), "bold"), sep="\n")
        points = [found.path_quantiles((0.05, 0.95), g).loc[profile] for g in range(len(found.settings))]
        columns = {
            heading: [write(float(point.loc["sharpe", name])) for point in points]
            for heading, name in (("Sharpe", "mean"), ("5 %", "q05"), ("95 %", "q95"))
        }
        columns["below 0"] = [_share(float(found.losses(g).loc[profile, "sharpe"])) for g in range(len(found.settings))]
        for measure in _SWEPT:
            show = written(WALK_MEASURE[measure])
            columns[WALK_MEASURE[measure].heading] = [show(float(point.loc[measure, "mean"])) for point in points]
        fits &= print_points(found.settings, columns, console)
    more = "" if fits else "a wider terminal shows more columns, "
    console.print(
        f"Sharpe: mean over the paths, and their 5 and 95 %; the others are means; {more}--json everything", style="dim"
    )


def _print_choice(found: CrossValidation, console: Console) -> None:
    """Print how often the best of the trials on half of a path's rows does badly on the other half."""
    if not found.can_validate:
        return
    judged = found.overfitting()
    pbo, most = judged["pbo"].to_numpy(float), judged["n_trials"].to_numpy().max()
    several = f" on average over the paths, {pbo.min():.2f} to {pbo.max():.2f}" if len(pbo) > 1 else ""
    console.print(
        "",
        plain(
            f"PBO {pbo.mean():.2f}{several}: how often the best of {most} trials on half of a path's rows, by its "
            "Sharpe ratio, is no better than the median of them on the other half."
        ),
        sep="\n",
    )


def _share(value: float) -> str:
    return per_cent(value, 0, "-")
