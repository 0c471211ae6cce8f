"""Which profile of a walk-forward to hold, by stated rules.

The rules, in order:

1. The trial with the highest Sharpe ratio after costs is looked at. Trials are all points and profiles. Its equals are
   the profiles at the same settings that cannot be told from it: those whose 95 % interval of the difference in Sharpe
   ratio contains 0 (`WalkForward.differences`).
2. Where it has no equals it is recommended, unless choosing the best did not pay, the probability of backtest
   overfitting being above one half (`jaxalloc.backtest.selection`), or its ratio may be luck, the probability that the
   true one is above 0, deflated by how many were tried, being below 0.95.
3. Where it has equals, their ratios choose none. The one of them is recommended, for its risk, whose volatility is
   lower than that of each other one, with 95 % intervals below 0.
4. Otherwise they cannot be told apart, and none is recommended. The one of lowest turnover is shown.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np

from jaxalloc.arguments.words import decimal, joined, per_cent, plain_name
from jaxalloc.backtest import comparison, selection
from jaxalloc.backtest.comparison import FEWEST_DAYS, Trials
from jaxalloc.backtest.selection import Overfitting
from jaxalloc.settings.measures import FIGURES

SURE = 0.95  # probability that the true ratio is above 0
_RESAMPLES = 2000


@dataclasses.dataclass(frozen=True)
class WalkRecommendation:
    """Which profile to hold.

    Attributes:
        profile: the one to hold or, where none is recommended, to look at first; None if there are too few days.
        at: the point of its settings.
        recommended: whether the rules recommend it.
        why: the reason, in sentences.
        contenders: profiles at these settings that cannot be told from the best, itself too.
    """

    profile: str | None
    at: int
    recommended: bool
    why: str
    contenders: tuple[str, ...]


def recommend(
    trials: Trials, profiles: tuple[str, ...], seed: int, judge: Callable[[], Overfitting] | None = None
) -> WalkRecommendation:
    """Apply the rules.

    Args:
        trials: G x P series, the profiles varying fastest.
        profiles: the P profiles.
        seed: of the resamples behind the intervals.
        judge: gives `selection.overfitting` of the trials, which is computed where there is none. It is called where
            a rule asks for it.
    """
    sharpe = trials.figures[:, FIGURES.index("sharpe")]
    if trials.returns.shape[1] < FEWEST_DAYS or not np.isfinite(sharpe).any():
        why = "Portfolios were held on too few days to judge them by."
        return WalkRecommendation(profile=None, at=0, recommended=False, why=why, contenders=())
    best = int(np.nanargmax(sharpe))
    at = best // len(profiles)
    first = at * len(profiles)
    here = [series for series in range(first, first + len(profiles)) if np.isfinite(sharpe[series])]
    equal = _not_told_from(trials, best, here, seed)
    names = {series: plain_name(profiles[series - first]) for series in here}
    if len(equal) == 1:
        chosen, against = best, _against_choosing(trials, names[best], best, judge)
        sure, why = against is None, against or _why_best(trials, best, names)
    else:
        chosen, sure, why = _choose(trials, equal, names, seed)
    return WalkRecommendation(
        profile=profiles[chosen - first],
        at=at,
        recommended=sure,
        why=why,
        contenders=tuple(profiles[series - first] for series in equal),
    )


def _against_choosing(trials: Trials, profile: str, best: int, judge: Callable[[], Overfitting] | None) -> str | None:
    """Rule 2: what speaks against the best trial, if anything does."""
    if selection.can_validate(trials):
        judged = selection.overfitting(trials) if judge is None else judge()
        if not judged.recommended:
            return judged.verdict
    chance = float(comparison.deflated_sharpe(trials)["deflated_sharpe"].iloc[best])
    if chance >= SURE:
        return None
    tried = "" if len(trials.returns) == 1 else f", after allowing for the {len(trials.returns):,} that were tried"
    return (
        f"{profile} has the highest Sharpe ratio after costs, {_sharpe(trials, best)}. The probability that "
        f"its true ratio is above 0 is {decimal(chance, 2, '-')}{tried}; below {SURE} it may be luck."
    )


def _not_told_from(trials: Trials, best: int, here: list[int], seed: int) -> list[int]:
    """The best trial, and those of ``here`` whose Sharpe ratio cannot be told from its, in their order."""
    others = [series for series in here if series != best]
    if not others:
        return [best]
    low = _intervals(trials, [(best, other) for other in others], seed)["sharpe"]["low"]
    return sorted([best, *(other for other, end in zip(others, low, strict=True) if not end > 0)])


def _why_best(trials: Trials, best: int, names: dict[int, str]) -> str:
    rest = "; that of each other profile is lower, with 95 % intervals of the difference that do not reach 0"
    return f"{names[best]} has the highest Sharpe ratio after costs, {_sharpe(trials, best)}" + (
        f"{rest}." if len(names) > 1 else "."
    )


def _choose(trials: Trials, equal: list[int], names: dict[int, str], seed: int) -> tuple[int, bool, str]:
    """Rules 3 and 4: the one of equals to hold or to show, whether it is recommended, and why."""
    listed = joined([names[series] for series in equal])
    said = f"The Sharpe ratios after costs of {listed} cannot be told apart by {trials.returns.shape[1]:,} rows"
    pairs = list(itertools.permutations(equal, 2))
    high = _intervals(trials, pairs, seed)["volatility"]["high"]
    lower = {pair: end < 0 for pair, end in zip(pairs, high, strict=True)}
    for series in equal:
        if all(lower[series, other] for other in equal if other != series):
            volatility = per_cent(float(trials.figures[series, FIGURES.index("volatility")]), 1, "-")
            why = f"{said}. Of these {names[series]} has the lowest volatility, {volatility}, and that is sure."
            return series, True, why
    turnover = trials.figures[equal, FIGURES.index("turnover")]
    calm = equal[int(np.argmin(turnover))]
    return calm, False, f"{said}, nor can the lowest of their volatilities. {names[calm]} trades least."


def _intervals(trials: Trials, pairs: list[tuple[int, int]], seed: int) -> dict[str, dict[str, np.ndarray]]:
    """Ends of the 95 % intervals of paired differences, by measure."""
    table = comparison.differences(
        trials,
        np.array(pairs),
        n=_RESAMPLES,
        method="stationary",
        block_length=None,
        level=0.95,
        seed=seed,
    )
    measures = table.index.get_level_values("measure")
    return {
        name: {end: table.loc[measures == name, end].to_numpy() for end in ("low", "high")}
        for name in ("volatility", "sharpe")
    }


def _sharpe(trials: Trials, series: int) -> str:
    return decimal(float(trials.figures[series, FIGURES.index("sharpe")]), 2, "-")
