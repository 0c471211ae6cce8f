"""What a person sees in a terminal of a walk-forward's benchmark and clusters, and what machines are told of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.text import Text

from jaxalloc.arguments.words import plain_name
from jaxalloc.backtest.agreement import agreement_words
from jaxalloc.cli.documents import records
from jaxalloc.cli.render import empty_table, plain, written
from jaxalloc.markets.dates import label_text
from jaxalloc.settings.measures import OF_BENCHMARKS, WALK_MEASURE

if TYPE_CHECKING:
    from rich.console import Console

    from jaxalloc.backtest.walk import WalkForward

_OWN = ("annual_return", "volatility", "sharpe", "max_drawdown")


def print_benchmark(walk: WalkForward, console: Console) -> None:
    """Print the benchmark's own figures and each profile's beside it, at the settings' own point; nothing without one.

    Args:
        walk: the walk-forward.
        console: to print on.
    """
    if walk.benchmark is None:
        return
    home, name = walk.settings.home, walk.benchmark.name
    at = ", at the settings' own point" if walk.settings.names else ""
    console.print("", plain(f"against {name}{at}"), sep="\n")
    grid = empty_table("", [measure.heading for measure in OF_BENCHMARKS])
    for profile, row in walk.summary(home).to_dict(orient="index").items():
        grid.add_row(plain_name(str(profile)), *(written(measure)(row[measure.name]) for measure in OF_BENCHMARKS))
    console.print(grid)
    own: dict[str, Any] = walk.benchmark_summary(home).loc[name].to_dict()
    figures = (WALK_MEASURE[measure] for measure in _OWN)
    words = ", ".join(f"{measure.heading} {written(measure)(own[measure.name])}" for measure in figures)
    console.print(Text.assemble(plain(name), f" itself: {words}", style="dim"))


def print_agreement(walk: WalkForward, console: Console) -> None:
    """Print how far clusters agree from one window to the next, at the settings' own point.

    Args:
        walk: the walk-forward.
        console: to print on.
    """
    words = agreement_words(walk.cluster_agreement(walk.settings.home))
    if words:
        console.print(Text(words, style="dim"))


def beside_document(walk: WalkForward) -> dict[str, Any]:
    """Return how far clusters agree, and the benchmark's figures where there is one, as plain values."""
    agreement = walk.cluster_agreement().reset_index()
    agreement["decided"] = agreement["decided"].map(label_text)
    tables = {"cluster_agreement": records(agreement)}
    return tables if walk.benchmark is None else tables | {"benchmark_summary": records(walk.benchmark_summary())}
