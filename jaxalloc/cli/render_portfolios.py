"""What a person sees of the portfolios of one panel in a terminal: figures, clusters and assets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from jaxalloc.arguments.words import counted, plain_name
from jaxalloc.cli.documents import records
from jaxalloc.cli.options import in_flags
from jaxalloc.cli.render import empty_table, percent, plain
from jaxalloc.cli.render_verdict import print_comparison

if TYPE_CHECKING:
    from rich.console import Console

    from jaxalloc.cli.portfolios import NamedPortfolios

FOLDED_ROWS = 25  # a longer table shows this many rows, the heaviest


def print_portfolios(portfolios: NamedPortfolios, console: Console, rows: int | None = FOLDED_ROWS) -> None:
    """Print each profile's figures, clusters and assets: the heaviest ``rows`` of a long table, or all if None."""
    print_header(portfolios, console)
    if len(portfolios.config.profiles) > 1:
        console.print()
        print_comparison(portfolios.comparison(), console)
        console.print("one sample does not tell which is better: jaxalloc study draws others", style="dim")
    for profile in portfolios.config.profiles:
        print_clusters(portfolios, profile, console, rows)
        console.print()
        print_assets(portfolios, profile, console, rows)
        print_sensitivity(portfolios, profile, console)
    if rows is not None and portfolios.panel.n_assets > rows:
        console.print("\n--all shows every cluster and asset", style="dim")


def print_header(portfolios: NamedPortfolios, console: Console) -> None:
    """Print the size of the panel and the number of clusters."""
    panel = portfolios.panel
    n_active = int((portfolios.allocation.cluster_labels >= 0).sum())
    of_all = "" if n_active == panel.n_assets else f"{n_active:,} of "
    assets = f"{of_all}{counted(panel.n_assets, 'asset')} in {counted(portfolios.n_clusters, 'cluster')}"
    console.print(plain(f"{Path(portfolios.name).name}: {counted(panel.n_observations, 'row')} of returns, {assets}"))


def print_clusters(portfolios: NamedPortfolios, profile: str, console: Console, rows: int | None) -> None:
    """Print a profile's figures and its `jaxalloc.portfolios.tables.cluster_table`."""
    figures = portfolios.figures(profile)
    volatility, mean = percent(figures["volatility"]), percent(figures["expected_return"])
    heading = Text.assemble((plain_name(profile), "bold"), f": volatility {volatility}, expected return {mean} a year")
    console.print("", heading, sep="\n")
    for message in figures["messages"]:
        console.print(Text(f"note: {in_flags(message)}"), style="yellow")
    lines = records(portfolios.clusters(profile))
    shown, rest = _fold(lines, rows)
    grid = empty_table("cluster of", ("weight", "risk", "assets"), ("members",))
    assets = records(portfolios.assets(profile))
    longest = max(17, console.width // 2 - 19)  # a lead asset and a member stand on one line
    names = _short_names([asset["symbol"] for asset in assets], longest)
    leads = [names[row["lead"]] for row in shown]
    room = max(20, console.width - 30 - max(10, *map(len, leads)))
    for row, lead in zip(shown, leads, strict=True):
        numbers = percent(row["weight"]), percent(row["risk_contribution"]), str(row["size"])
        symbols = [names[asset["symbol"]] for asset in assets if asset["cluster"] == row["cluster"]]
        members = _fitting(symbols, room * -(-len(lead) // room))  # as many lines as the lead takes
        grid.add_row(plain(lead), *numbers, plain(members))
    console.print(grid)
    _print_rest(rest, "cluster", console)
    sleeve = [row for row in assets if row["sleeve"]]
    if sleeve:
        symbols = ", ".join(str(row["symbol"]) for row in sleeve)
        console.print(plain(f"sleeve, {percent(sum(row['weight'] for row in sleeve))}: {symbols}"))


def _short_names(symbols: Sequence[object], longest: int) -> dict[object, str]:
    """Shorten long symbols in their middle; a symbol stays whole where another one's short form is the same."""
    full = {symbol: str(symbol) for symbol in symbols}
    end = (longest - 3) // 2
    short = {
        symbol: text if len(text) <= longest else f"{text[: longest - 3 - end]}...{text[-end:]}"
        for symbol, text in full.items()
    }
    count = Counter(short.values())
    return {symbol: text if count[text] == 1 else full[symbol] for symbol, text in short.items()}


def _fitting(symbols: Sequence[str], room: int) -> str:
    """Join as many symbols as there is room for, one at least."""
    text, *words = symbols
    for k, word in enumerate(words, 1):
        longer = f"{text}, {word}"
        if len(longer) + len(", ...") * (k < len(words)) > room:
            return f"{text}, ..."
        text = longer
    return text


def print_assets(portfolios: NamedPortfolios, profile: str, console: Console, rows: int | None) -> None:
    """Print a profile's `jaxalloc.portfolios.tables.asset_table`."""
    lines = records(portfolios.assets(profile))
    held = lines if rows is None else [row for row in lines if row["weight"] > 0]
    shown, rest = _fold(held, rows)
    marks = ("lead", "sleeve") if any(row["sleeve"] for row in lines) else ("lead",)
    bagged = portfolios.mean_of is not None
    numbers = ("weight", *(("standard error",) if bagged else ()), "share of cluster", "risk")
    grid = empty_table("asset", numbers, ("cluster of", *marks))
    columns = ("weight", *(("standard_error",) if bagged else ()), "share", "risk_contribution")
    names = _short_names([row["symbol"] for row in lines], 13)
    leads = {row["cluster"]: names[row["lead"]] for row in records(portfolios.clusters(profile))}
    for row in shown:
        numbers = tuple(percent(row[name]) for name in columns)
        cluster = plain(leads.get(row["cluster"], "none"))
        grid.add_row(plain(row["symbol"]), *numbers, cluster, *("yes" if row[name] else "" for name in marks))
    console.print(grid)
    _print_rest(rest, "asset", console, len(lines) - len(held))


def print_sensitivity(portfolios: NamedPortfolios, profile: str, console: Console) -> None:
    """Print the estimates that a profile's portfolio hangs on most, if that was measured."""
    if portfolios.hangs_on is None:
        return
    lines = records(portfolios.hangs_on.largest(profile))
    console.print()
    if not lines:
        console.print("it hangs on no estimate: none of them changes it a little")
        return
    grid = empty_table("what it hangs on", ("standard error", "turnover"), ())
    names = _short_names(
        [row["asset"] for row in records(portfolios.assets(profile).rename(columns={"symbol": "asset"}))], 20
    )
    for row in lines:
        grid.add_row(
            plain(f"{row['estimate']} of {names[row['asset']]}"), percent(row["error"]), percent(row["turnover"])
        )
    console.print(grid)


def _fold(lines: list[dict[str, Any]], rows: int | None) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the heaviest lines in their order, at most ``rows`` (None: all), and the other lines."""
    if rows is None:
        return lines, []
    places = sorted(range(len(lines)), key=lambda k: -lines[k]["weight"])
    return [lines[k] for k in sorted(places[:rows])], [lines[k] for k in places[rows:]]


def _print_rest(rest: list[dict[str, Any]], noun: str, console: Console, n_zero: int = 0) -> None:
    parts = []
    if rest:
        parts.append(
            f"{counted(len(rest), f'more {noun}')} with {percent(sum(row['weight'] for row in rest))} together"
        )
    if n_zero:
        parts.append(f"{counted(n_zero, noun)} with weight 0")
    if parts:
        console.print(f"and {', '.join(parts)}", style="dim")
