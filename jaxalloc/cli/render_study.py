"""What a person sees of a study in a terminal: the answer first, then the figures of each profile."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rich.text import Text

from jaxalloc.arguments.words import counted, plain_name
from jaxalloc.cli.documents import records
from jaxalloc.cli.render import empty_table, invalid, percent, plain, print_flags, written
from jaxalloc.cli.render_verdict import print_verdict
from jaxalloc.settings.measures import UNIVERSE_MEASURE

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from jaxalloc.studies.study import Study

# what a study shows of each profile
_SHOWN = (
    "volatility",
    "expected_return",
    "out_of_bag_sharpe",
    "effective_assets",
    "effective_clusters",
    "turnover",
)


def print_study(study: Study, console: Console) -> None:
    """Print how each profile's measures and heaviest weights vary over the universes."""
    counts = study.cluster_counts()
    assets = f"{counted(len(study.symbols), 'asset')} in {_range(counts)} clusters"
    console.print(f"{counted(study.n, 'universe')}{invalid(study)}, {assets}")
    print_verdict(study, console)
    console.print()
    _print_stability(study, console)
    console.print("estimate: the panel's own portfolio; mean and 5, 50, 95 %: over the universes", style="dim")
    figures, assets = study.profile_summary(), study.summary()
    for profile in study.profiles:
        console.print("", Text(plain_name(profile), "bold"), sep="\n")
        print_flags(study, profile, console)
        grid = empty_table("", ("estimate", "mean", "5 %", "50 %", "95 %", "lead in"))
        for measure in (UNIVERSE_MEASURE[name] for name in _SHOWN):
            row = figures.loc[(profile, measure.name)].to_dict()
            if row["n_universes"] or math.isfinite(row["point"]):  # without a resample nothing is left out
                grid.add_row(measure.heading, *_spread(row, written(measure)))
        grid.add_row(Text("weight of", style="dim"))
        for row in _heaviest(records(assets.loc[profile])):
            grid.add_row(plain(row["symbol"]), *_spread(row, percent), f"{100 * row['frequency_lead']:.0f} %")
        console.print(grid)


def _print_stability(study: Study, console: Console) -> None:
    """Print on one line how often the panel's own clusters hold together in the universes."""
    table = study.cluster_stability().dropna(subset="stability")
    if table.empty:
        return
    least = records(table.nsmallest(1, "stability"))[0]
    text = f"clusters hold together in {100 * table['stability'].mean():.0f} % of universes"
    if least["stability"] < 0.995:
        text += f"; least, in {100 * least['stability']:.0f} %: "
        text += textwrap.shorten(least["members"], max(10, console.width - len(text)), placeholder=" ...")
    console.print(plain(text))


def _range(counts: pd.Series) -> str:
    """Say how many clusters the middle 90 % of universes have; ``counts`` are universes by number of clusters."""
    if counts.empty:
        return "no"
    below = counts.cumsum() / counts.sum()
    low, high = (below.index[int((below < level).sum())] for level in (0.05, 0.95))
    return f"{low}" if low == high else f"{low} to {high}"


def _spread(row: dict[Any, Any], write: Callable[[float], str]) -> list[str]:
    return [write(row[name]) for name in ("point", "mean", "q05", "q50", "q95")]


def _heaviest(lines: list[dict[str, Any]], shown: int = 5) -> list[dict[str, Any]]:
    return sorted((row for row in lines if row["mean"] > 0), key=lambda row: -row["mean"])[:shown]
