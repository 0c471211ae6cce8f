"""What the page says of a walk-forward: its tables as rows of text, and a sentence for each profile."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxalloc.arguments.words import counted, decimal, plain_name, trial_name
from jaxalloc.backtest.agreement import agreement_words
from jaxalloc.figures.comparisons import comparable, difference_table, series_name
from jaxalloc.markets.dates import label_text
from jaxalloc.portfolios.profiles import PROFILES
from jaxalloc.report.text_table import TextTable
from jaxalloc.report.words import NONE, percent, ratio, sentence
from jaxalloc.settings.measures import WALK_MEASURE
from jaxalloc.studies.totals import POSITIVE_WEIGHT

if TYPE_CHECKING:
    from jaxalloc.backtest.walk import WalkForward

_SHOWN_TRADES = 60  # of a profile's target
_SHOWN_TRIALS = 30
_WITHIN = ["target", "current", "bought"]  # columns of trades that stop short of the target


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the page says of one profile, before any detail."""

    profile: str
    name: str
    base: bool  # whether the other profiles are compared with it
    about: str
    sentence: str


@dataclasses.dataclass(frozen=True)
class Trades:
    """What to trade for a profile's target."""

    name: str
    turnover: str
    notes: list[str]
    rows: TextTable
    rest: str


@dataclasses.dataclass(frozen=True)
class Advice:
    """What the page says first: whether to hold one of the portfolios, in a few words, and why."""

    head: str
    why: str


def advice(walk: WalkForward) -> Advice:
    """Say which profile to hold, if any."""
    found = walk.recommendation()
    if found.profile is None:
        return Advice(head="Nothing to judge by", why=found.why)
    name = trial_name((*walk.settings.points[found.at], found.profile), walk.settings.names)
    return Advice(
        head=f"Hold {name}" if found.recommended else "No portfolio is recommended", why=sentence(found.why[:-1])
    )


def verdicts(walk: WalkForward, base: str, at: int) -> list[Verdict]:
    """Say of each profile how it did, and whether it differs clearly from the base."""
    summary: dict[Any, dict[Any, Any]] = walk.summary(at).to_dict(orient="index")
    several = walk.can_compare and len(walk.profiles) > 1
    differences = difference_table(walk, base, at) if several else None
    said = []
    for profile in walk.profiles:
        beside = None
        if differences is not None and profile != base:
            beside = differences.loc[(profile, "sharpe")].to_dict()
        words = walk_sentence(summary[profile], beside, plain_name(base))
        about = sentence(PROFILES[profile].about)
        said.append(
            Verdict(
                profile=profile,
                name=plain_name(profile),
                base=several and profile == base,
                about=about,
                sentence=words,
            )
        )
    return said


def walk_sentence(figures: dict[Any, Any], beside: dict[Any, Any] | None, base: str) -> str:
    """Say in plain words how a portfolio did out of sample, and whether it differs clearly from another one.

    Args:
        figures: its row of `WalkForward.summary`.
        beside: the row of `WalkForward.differences` of its Sharpe ratio; None if it is not compared.
        base: the profile that it is compared with, in words.
    """
    if not math.isfinite(figures["annual_return"]):
        return "It was held on no row, because the panel ends with the first window: there is nothing to judge it by."
    returned = (
        f"{percent(figures['annual_return'])} a year at a volatility of {percent(figures['volatility'])}, with a "
        f"largest drawdown of {percent(figures['max_drawdown'])}"
    )
    if not math.isfinite(figures["sharpe"]):
        return f"It returned {returned}; its returns do not vary, so it has no Sharpe ratio."
    if beside is None:
        return f"It returned {returned}: a Sharpe ratio of {ratio(figures['sharpe'])}."
    if not math.isfinite(beside["difference"]) or not math.isfinite(beside["low"]):
        return f"It returned {returned}; {base} has no Sharpe ratio to compare with."
    contains = beside["low"] <= 0 <= beside["high"]
    does = "contains 0" if contains else "does not contain 0"
    better = "Better" if beside["low"] > 0 else "Worse"
    verdict = f"No clear difference from {base}" if contains else f"{better} than {base}"
    distance = f"{ratio(abs(beside['difference']))} {'higher' if beside['difference'] >= 0 else 'lower'}"
    return (
        f"{verdict}: its Sharpe ratio of {ratio(figures['sharpe'])} is {distance}, and the 95 % interval of that "
        f"difference, {ratio(beside['low'])} to {ratio(beside['high'])}, {does}. "
        f"It returned {returned}."
    )


def warnings(walk: WalkForward) -> list[str]:
    """What a reader must know before trusting a figure, a sentence each."""
    history, sentences = walk.history, []
    if history.kept.any():
        share = f"{int(history.kept.sum()):,} of {counted(history.kept.size, 'rebalance')} (all profiles together)"
        sentences.append(
            f"{share} had no new portfolio, because the window was not a valid universe: what was held was kept."
        )
    if history.missing.any():
        most = int(history.missing.sum(axis=2).max())
        sentences.append(
            f"Returns were missing while their asset was held, {counted(most, 'time')} (days times assets) in the "
            "portfolio with the most. They count as 0, which flatters assets that stopped trading."
        )
    return sentences


def summary(walk: WalkForward, at: int) -> TextTable:
    """Every figure of each profile, and of the benchmark those of its returns alone."""
    shown = [measure for measure in map(WALK_MEASURE.__getitem__, walk.shown) if measure.kind != "count"]
    rows = []
    for profile, row in walk.summary(at).to_dict(orient="index").items():
        rows.append((plain_name(str(profile)), *(measure.write(row[measure.name], NONE) for measure in shown)))
    if walk.benchmark is not None:
        own: dict[str, float] = walk.benchmark_summary(at).loc[walk.benchmark.name].to_dict()
        cells = (measure.write(own.get(measure.name, math.nan), NONE) for measure in shown)
        rows.append((f"benchmark {walk.benchmark.name}", *cells))
    return TextTable(("", *(measure.heading for measure in shown)), rows)


def benchmark_words(walk: WalkForward) -> str:
    """Say what the figures beside a benchmark are; empty without one."""
    if walk.benchmark is None:
        return ""
    return (
        f"{walk.benchmark.name} is the benchmark, and no asset of the portfolios; it bears no costs. Beta and "
        "correlation are those of the portfolio's returns after costs with its returns. Active risk is the annual "
        "standard deviation of the difference between both, and the information ratio the annual mean of that "
        "difference over the active risk."
    )


def agreement(walk: WalkForward, at: int) -> str:
    """Say how far clusters agree from one window to the next; empty where no two windows have any."""
    words = agreement_words(walk.cluster_agreement(at))
    return sentence(words) if words else ""


def difference_rows(walk: WalkForward, base: str, at: int) -> TextTable | None:
    """The differences and their intervals; None where nothing can be compared."""
    if not walk.can_compare:
        return None
    table: Any = difference_table(walk, base, at)
    rows = []
    for key, row in table.to_dict(orient="index").items():
        *series, measure = key
        record = WALK_MEASURE[measure]
        numbers = [record.write(row[name], NONE) for name in ("base", "difference", "low", "high")]
        rows.append((series_name(walk, tuple(series)), record.heading, *numbers, percent(row["share_above"], 0)))
    return TextTable(("", "", "base", "difference", "95 % from", "to", "above 0 in"), rows, words=2)


def chance(walk: WalkForward) -> tuple[TextTable | None, str]:
    """The deflated Sharpe ratios, the best first, and what the first says."""
    if walk.schedule.n_days < 3:
        return None, ""
    table: Any = walk.deflated_sharpe().assign(
        probabilistic=walk.probabilistic_sharpe()["probabilistic_sharpe"], needed=walk.min_track_record()["min_days"]
    )
    table = table.sort_values("sharpe", ascending=False, kind="stable")
    rows = []
    for key, row in table.head(_SHOWN_TRIALS).to_dict(orient="index").items():
        name = trial_name(key, walk.settings.names)
        cells = f"{row['sharpe']:.4f}", ratio(row["skewness"]), ratio(row["kurtosis"])
        judged = [decimal(row[column], 3, NONE) for column in ("deflated_sharpe", "probabilistic")]
        needed = f"{math.ceil(row['needed']):,}" if math.isfinite(row["needed"]) else NONE
        rows.append((name, *cells, str(row["trials"]), f"{row['expected_maximum']:.4f}", *judged, needed))
    said = ""
    if len(rows) and math.isfinite(table["deflated_sharpe"].iloc[0]):
        name, trials = rows[0][0], int(table["trials"].iloc[0])
        probability = percent(float(table["deflated_sharpe"].iloc[0]), 0)
        first = f"One portfolio was tried, {name}: the"
        if trials > 1:
            first = (
                f"The best Sharpe ratio of the {trials} tried is that of {name}. After allowing for that choice, the"
            )
        said = f"{first} probability that its true Sharpe ratio is above 0 is {probability}."
    headings = (
        "",
        "Sharpe",
        "skewness",
        "kurtosis",
        "trials",
        "expected maximum",
        "deflated",
        "probabilistic",
        "rows for 95 %",
    )
    return TextTable(headings, rows), said


def beats(walk: WalkForward, base: str, at: int) -> TextTable | None:
    """The share of paths on which each profile is better than the base, by measure."""
    if not walk.n_paths or len(walk.profiles) < 2:
        return None
    table: Any = walk.beats(base, at)
    shown = [name for name in comparable(walk) if name != "effective_bets"]
    rows = [
        (plain_name(str(profile)), *(percent(row[name], 0) for name in shown))
        for profile, row in table.to_dict(orient="index").items()
    ]
    return TextTable(("", *(WALK_MEASURE[name].heading for name in shown)), rows)


def trades(walk: WalkForward, profile: str, at: int) -> Trades:
    """The last window's portfolio, and the trades for it, the heaviest first."""
    table: Any = walk.target(profile, at)
    moved = table[(table[["target", "current"]].max(axis=1) > POSITIVE_WEIGHT)]
    columns = ["target", "current"] if np.array_equal(table["target"], table["bought"]) else _WITHIN
    moved = moved.sort_values(["target", "current"], ascending=False, kind="stable")
    shown, rest = moved.head(_SHOWN_TRADES), moved.iloc[_SHOWN_TRADES:]
    rows = [
        (str(symbol), *(percent(row[name], 2) for name in columns), _signed(row["trade"]))
        for symbol, row in shown.to_dict(orient="index").items()
    ]
    more = ""
    if len(rest):
        target, traded = percent(float(rest["target"].sum())), percent(float(rest["trade"].abs().sum()))
        more = f"{counted(len(rest), 'more asset')} with {target} of the target and trades of {traded} in all."
    notes = []
    if walk.history.undecided[at, walk.profiles.index(profile)]:
        notes = ["The last window has no portfolio, so the target is what is held."]
    return Trades(
        name=plain_name(profile),
        turnover=percent(float(walk.summary(at).loc[profile, "live_turnover"])),
        notes=notes,
        rows=TextTable(("asset", *columns, "trade"), rows),
        rest=more,
    )


def _signed(value: float) -> str:
    text = percent(value, 2)
    return f"+{text}" if value > 0 and text != percent(0.0, 2) else text


def stale(walk: WalkForward) -> str:
    """Say so where the last window ends before the panel's last row."""
    last = walk.schedule.decided(walk.schedule.n_windows - 1)
    behind = len(walk.dates) - 1 - last
    if not behind:
        return ""
    return (
        f"The panel goes on for {counted(behind, 'row')}, to {label_text(walk.dates[-1])}: the target does not use "
        "them. For a target that does, run on the last rows of the panel, as many as a window has."
    )
