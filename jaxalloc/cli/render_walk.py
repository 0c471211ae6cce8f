"""What a person sees of a walk-forward in a terminal: figures, differences, paths, and the trades due now."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rich.text import Text

from jaxalloc.arguments.words import counted, plain_name, trial_name
from jaxalloc.cli.documents import records
from jaxalloc.cli.render import empty_table, percent, plain, print_points, written
from jaxalloc.cli.render_benchmark import print_agreement, print_benchmark
from jaxalloc.cli.render_choice import print_choice
from jaxalloc.markets.dates import label_text
from jaxalloc.settings.measures import WALK_MEASURE, Measure
from jaxalloc.studies.totals import POSITIVE_WEIGHT

if TYPE_CHECKING:
    from rich.console import Console

    from jaxalloc.backtest.points import WalkSettings
    from jaxalloc.backtest.walk import WalkForward

_SHOWN = ("annual_return", "volatility", "sharpe", "max_drawdown", "turnover", "cost")
_OF_PATHS = ("annual_return", "sharpe", "max_drawdown")
_HOLDINGS = 5  # of each profile's target


def print_walk(walk: WalkForward, base: str, console: Console) -> None:
    """Print the figures of each profile, how certain its difference from the base is, and the trades to its target."""
    s = walk.schedule
    held = f"held on {counted(s.n_days, 'row')}"
    if s.n_days:
        held += f", {label_text(walk.days[0])} to {label_text(walk.days[-1])}"
    console.print(plain(f"{counted(s.n_held, 'rebalance')} of {counted(len(walk.symbols), 'asset')}, {held}"))
    seen = "at least " if s.expanding else ""
    gap = f", {counted(s.gap, 'row')} later" if s.gap else ""
    lead = "; only lead assets are held" if walk.execution == "lead" else ""
    how = f"decided on {seen}{s.window} rows, {s.words}{gap}; {trading_words(walk.settings)}; figures are annual{lead}"
    console.print(Text(how, style="dim"))
    if walk.bagging_words:
        console.print(Text(walk.bagging_words, style="dim"))
    print_agreement(walk, console)
    _print_notes(walk, console)
    _print_advice(walk, console)
    if walk.settings.names:
        _print_sweep(walk, console)
    else:
        _print_summary(walk, console)
        if walk.can_compare:
            _print_differences(walk, base, console)
    print_benchmark(walk, console)
    _print_chance(walk, console)
    if walk.n_paths:
        _print_paths(walk, base, console)
    for profile in walk.profiles:
        _print_target(walk, profile, console)


def _print_advice(walk: WalkForward, console: Console) -> None:
    """Print which profile to hold, if any, and why."""
    advice = walk.recommendation()
    if advice.profile is None:
        return
    name = trial_name((*walk.settings.points[advice.at], advice.profile), walk.settings.names)
    head = f"hold {name}" if advice.recommended else "no portfolio is recommended"
    console.print("", Text(head, style="bold"), plain(advice.why), sep="\n")


def trading_words(settings: WalkSettings) -> str:
    """Say what trading costs, and which trades are left out."""
    costs, bands = settings.costs, settings.bands
    words = [f"trading costs {', '.join(f'{cost:g}' for cost in costs)} bp" if any(costs) else "trading costs nothing"]
    if any(bands):
        words.append(f"a band of {', '.join(f'{100 * band:g}' for band in bands)} %")
    if settings.max_turnover is not None:
        words.append(f"a turnover of {100 * settings.max_turnover:g} % at most")
    return "; ".join(words)


def _print_notes(walk: WalkForward, console: Console) -> None:
    history, total = walk.history, walk.schedule.n_held * len(walk.settings) * len(walk.profiles)
    notes = []
    if history.kept.any():
        share = f"{int(history.kept.sum()):,} of {counted(total, 'rebalance')}, counted over all profiles,"
        notes.append(f"{share} had no portfolio: the holdings stayed as they were")
    if history.missing.any():
        worst = int(history.missing.max(axis=(0, 1)).sum())
        notes.append(
            f"missing returns of assets that were held count as 0; the portfolio with the most has {worst:,} (days "
            "times assets)"
        )
    if history.undecided.any():
        notes.append("the last window has no portfolio for some profiles: their target is what they hold")
    for note in notes:
        console.print(Text(f"note: {note}"), style="yellow")


def _print_summary(walk: WalkForward, console: Console) -> None:
    shown = _shown(walk)
    grid = empty_table("", [measure.heading for measure in shown])
    for profile, row in walk.summary().to_dict(orient="index").items():
        grid.add_row(plain_name(str(profile)), *(written(measure)(row[measure.name]) for measure in shown))
    console.print("", grid, sep="\n")


def _shown(walk: WalkForward) -> list[Measure]:
    # of lead assets the distance from the whole portfolio matters more than what trading costs
    names = (*_SHOWN[:-1], "tracking_error") if walk.execution == "lead" else _SHOWN
    return [WALK_MEASURE[name] for name in names]


def _print_sweep(walk: WalkForward, console: Console) -> None:
    fits = True
    for profile in walk.profiles:
        console.print("", Text(plain_name(profile), "bold"), sep="\n")
        rows = [walk.summary(g).loc[profile] for g in range(len(walk.settings))]
        columns = {m.heading: [written(m)(row[m.name]) for row in rows] for m in _shown(walk)}
        fits &= print_points(walk.settings, columns, console)
    more = "" if fits else "a wider terminal shows more columns, "
    console.print(f"{more}--json everything: differences and their intervals too", style="dim")


def _print_differences(walk: WalkForward, base: str, console: Console) -> None:
    differences = walk.differences(base)
    console.print(
        f"\ndifference from {plain_name(base)}, and in what share of resamples of the days it is above 0",
        highlight=False,
    )
    grid = empty_table("", ("", "difference", "95 % from", "to", "above 0"))
    for profile in walk.profiles:
        if profile == base:
            continue
        for measure, row in differences.loc[profile].to_dict(orient="index").items():
            record = WALK_MEASURE[measure]
            name = plain_name(profile) if measure == "annual_return" else ""
            ends = (signed(row[end], written(record)) for end in ("difference", "low", "high"))
            grid.add_row(name, record.heading, *ends, f"{100 * row['share_above']:.0f} %")
    console.print(grid)
    console.print("where an interval contains 0, chance alone can explain the difference", style="dim")


def signed(value: float, write: Callable[[float], str]) -> str:
    """Write a difference with its sign, and without a sign where it rounds to 0."""
    text = write(value)
    if not any(c in text for c in "123456789"):
        return text.removeprefix("-") or text
    return f"+{text}" if value > 0 else text


def _print_chance(walk: WalkForward, console: Console) -> None:
    """Print the probability that the best Sharpe ratio is above 0, given how many were tried."""
    trials = len(walk.settings) * len(walk.profiles)
    if walk.schedule.n_days < 3:
        return
    table = walk.deflated_sharpe().dropna(subset="deflated_sharpe")
    if table.empty:
        return
    best = table.sort_values("sharpe", kind="stable").iloc[-1]
    name = trial_name(best.name, walk.settings.names)
    tried = f"{name} has the best Sharpe ratio of {trials} tried." if trials > 1 else f"{name} is the only one tried."
    text = f"{tried} Its Sharpe ratio is above 0 with probability {best['deflated_sharpe']:.2f} (deflated)."
    console.print("", plain(text), sep="\n")
    print_choice(walk, best.name, console)


def _print_paths(walk: WalkForward, base: str, console: Console) -> None:
    home = walk.settings.home
    table = walk.path_quantiles(at=home)
    won = walk.beats(base, at=home) if len(walk.profiles) > 1 else None
    at = ", at the settings' own point" if walk.settings.names else ""
    console.print(f"\nover {counted(walk.n_paths, 'resampled path')}{at}", highlight=False)
    last = () if won is None else (f"beats {plain_name(base)}",)
    grid = empty_table("", ("", "history", "5 %", "50 %", "95 %", *last))
    for profile in walk.profiles:
        for measure in _OF_PATHS:
            record = WALK_MEASURE[measure]
            row: dict[Any, Any] = table.loc[(profile, measure)].to_dict()
            cells = [written(record)(row[name]) for name in ("history", "q05", "q50", "q95")]
            if won is not None:
                share = math.nan if profile == base else float(won.loc[profile, measure])
                cells.append(f"{100 * share:.0f} %" if math.isfinite(share) else "-")
            grid.add_row(plain_name(profile) if measure == _OF_PATHS[0] else "", record.heading, *cells)
    console.print(grid)


def _print_target(walk: WalkForward, profile: str, console: Console) -> None:
    home = walk.settings.home
    lines = records(walk.target(profile, home))
    turnover = walk.summary(home).loc[profile, "live_turnover"]
    decided = label_text(walk.dates[walk.schedule.decided(walk.schedule.n_windows - 1)])
    at = ", at the settings' own point" if walk.settings.names else ""
    heading = Text.assemble(
        (plain_name(profile), "bold"), f": target decided on {decided}{at}; a turnover of {percent(turnover)}"
    )
    console.print("", heading, sep="\n")
    within = any(row["bought"] != row["target"] for row in lines)  # trades that stop short of the target
    grid = empty_table("asset", ("target", "held now", *(("bought",) if within else ()), "trade"))
    held = sorted((row for row in lines if row["target"] > POSITIVE_WEIGHT), key=lambda row: -row["target"])
    for row in held[:_HOLDINGS]:
        shares = (percent(row[name]) for name in ("target", "current", *(("bought",) if within else ())))
        grid.add_row(plain(row["symbol"]), *shares, signed(row["trade"], percent))
    console.print(grid)
    rest = held[_HOLDINGS:]
    if rest:
        weight = percent(sum(row["target"] for row in rest))
        console.print(f"and {counted(len(rest), 'more asset')} with {weight} together; all in target.csv", style="dim")
