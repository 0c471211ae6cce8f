"""Walk-forwards compared: profiles with each other, with chance, and over paths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.numbers import one_number, whole_number
from jaxalloc.backtest import performance
from jaxalloc.backtest.performance import COMPARED, RETURN_MEASURES
from jaxalloc.universes.bootstrap import Bootstrap, Method

if TYPE_CHECKING:
    from jaxalloc.backtest.walk import WalkForward

FIGURES = (*RETURN_MEASURES, "turnover", "cost", "effective_bets", "tracking_error", "kept", "missing")
COUNTS = ("kept", "missing")  # they say nothing about a portfolio

# of two portfolios the better one has less of these
_LESS_IS_BETTER = ("volatility", "max_drawdown", "turnover", "cost", "tracking_error")
_FEWEST_DAYS = 3  # for intervals and moments
_BLOCK = 21  # days of a block, if nothing is said: about a month


def can_compare(walk: WalkForward) -> bool:
    """Tell whether `differences` has anything to compare: two series of returns at least, on enough days."""
    return walk.schedule.n_days >= _FEWEST_DAYS and len(walk.settings) * len(walk.profiles) > 1


def differences(
    walk: WalkForward,
    base: str | None = None,
    *,
    n: int = 2000,
    method: Method = "stationary",
    block_length: float | None = None,
    level: float = 0.95,
    seed: int | None = None,
) -> pd.DataFrame:
    """Tell how sure the differences between profiles are: paired bootstrap intervals.

    The days are resampled in blocks, the same resamples for all profiles, and each difference is taken within a
    resample; see `jaxalloc.backtest.performance.difference_intervals`.

    Args:
        walk: the walk-forward.
        base: the profile to compare with, by default `WalkForward.base`. If there is one profile alone, the points of a
            sweep are compared with its point `Sweep.home`.
        n: number of resamples.
        method: as `Bootstrap` takes it.
        block_length: likewise; 21 by default, or the number of days if that is less.
        level: of the intervals, between 0 and 1.
        seed: of the resamples; by default that of the walk-forward.

    Returns:
        Frame with the index ("profile", "measure"), measures annual_return, volatility and sharpe, and the columns base
        (its figure), difference (profile minus base), low, high (the interval) and share_above (share of the resamples
        in which the difference is above 0).

    Raises:
        InputError: there is nothing to compare, too few days, or an argument is out of range.
    """
    pairs = _pairs(walk, base)
    days, level = _enough_days(walk), one_number("level", level)
    if not 0 < level < 1:
        raise InputError(f"level must be between 0 and 1, not {level!r}")
    n = whole_number("n, the number of resamples,", n, 1)
    length = min(_BLOCK, days) if block_length is None and method != "iid" else block_length
    counts = Bootstrap(n, method, length).counts(days, walk.seed if seed is None else seed, 0, n)
    found = performance.difference_intervals(_series(walk), pairs, counts, *_rates(walk), level)
    figures = walk.history.figures.reshape(-1, len(FIGURES))
    columns = {"base": figures[pairs[:, 1]][:, [FIGURES.index(name) for name in COMPARED]].ravel()}
    for name in ("difference", "low", "high", "share_above"):
        columns[name] = np.stack([found[measure][name] for measure in COMPARED], axis=1).ravel()
    keys = [(*walk.key(int(series)), measure) for series in pairs[:, 0] for measure in COMPARED]
    index = pd.MultiIndex.from_tuples(keys, names=[*walk.settings.names, "profile", "measure"])
    return pd.DataFrame(columns, index=index)


def deflated_sharpe(walk: WalkForward, n_trials: int | None = None) -> pd.DataFrame:
    """Deflate the Sharpe ratios by how many were tried (Bailey and Lopez de Prado, 2014).

    The trials are all points and profiles, M of them. The formulas: `jaxalloc.backtest.performance`.

    Args:
        walk: the walk-forward.
        n_trials: how many were tried in all, if more than M: what was tried before counts too.

    Returns:
        Frame with the index "profile", all points, and the columns sharpe (per period, not annual), skewness, kurtosis
        (3 for a normal distribution), days, trials, expected_maximum (Sharpe ratio per period that the best of the
        trials shows by chance; 0 for one trial) and deflated_sharpe (probability that the true Sharpe ratio is above 0
        all the same). NaN where returns do not vary.

    Raises:
        InputError: there are too few days, or ``n_trials`` is less than M, or more where M is 1.
    """
    days, series = _enough_days(walk), _series(walk)
    trials = len(series) if n_trials is None else whole_number("n_trials", n_trials, len(series))
    if len(series) == 1 and trials > 1:
        raise InputError("n_trials beyond one needs the spread of the trials: walk at least two of them forward")
    found = performance.deflated_sharpe(series, *_rates(walk), trials)
    columns = {"sharpe": found.sharpe, "skewness": found.skewness, "kurtosis": found.kurtosis, "days": days}
    columns |= {"trials": trials, "expected_maximum": found.expected_maximum}
    return pd.DataFrame(columns | {"deflated_sharpe": found.deflated_sharpe}, index=walk.returns.columns)


def path_quantiles(walk: WalkForward, quantiles: Sequence[float], at: int | None = None) -> pd.DataFrame:
    """Summarise the paths: index ("profile", "measure").

    Args:
        walk: the walk-forward.
        quantiles: levels between 0 and 1.
        at: point of a sweep; all of them by default.

    Returns:
        Frame with the columns history (the panel as it happened), mean, std (divisor count - 1), a column for each of
        the quantiles (linear, named q05 for 0.05) and n_paths (those in which the measure has a value).

    Raises:
        InputError: there are no paths, or a quantile is not between 0 and 1.
    """
    levels = [one_number("quantiles", level) for level in quantiles]
    if not all(0 <= level <= 1 for level in levels):
        raise InputError(f"quantiles must be between 0 and 1, not {list(quantiles)!r}")
    names = [f"q{round(100 * level, 10):02g}" for level in levels]
    figures, shown = of_paths(walk), walk.shown

    def of_profile(g: int, p: int) -> pd.DataFrame:
        rows = []
        for k in map(FIGURES.index, shown):
            values = figures[:, g, p, k]
            values = pd.Series(values[np.isfinite(values)])
            drawn = [values.quantile(level) for level in levels]
            rows.append([walk.history.figures[g, p, k], values.mean(), values.std(), *drawn, len(values)])
        columns = ["history", "mean", "std", *names, "n_paths"]
        return pd.DataFrame(rows, index=pd.Index(shown), columns=pd.Index(columns)).astype({"n_paths": int})

    def one(g: int) -> pd.DataFrame:
        tables = [of_profile(g, p) for p in range(len(walk.profiles))]
        return pd.concat(tables, keys=walk.profiles, names=["profile", "measure"])

    return walk.over_points(one, at)


def beats(walk: WalkForward, base: str | None = None, at: int | None = None) -> pd.DataFrame:
    """Tell how often a profile beats another on the same path.

    Args:
        walk: the walk-forward.
        base: the profile to compare with, `WalkForward.base` by default.
        at: point of a sweep; all of them by default.

    Returns:
        Frame with the index "profile" (without the base) and the measures as columns: the share of the paths on which
        the profile's is better: less for volatility, max_drawdown, turnover, cost and tracking_error, more for the
        others. Equals count half; paths without a value for both do not count.

    Raises:
        InputError: there are no paths, or no such profile, or one profile alone.
    """
    figures, b = of_paths(walk), walk.number(walk.base if base is None else base)
    others = [p for p in range(len(walk.profiles)) if p != b]
    if not others:
        raise InputError(f"there is one profile, {walk.profiles[b]}: walk another one forward to compare it")

    def one(g: int) -> pd.DataFrame:
        table = {}
        for name in (name for name in walk.shown if name not in COUNTS):
            k = FIGURES.index(name)
            apart = figures[:, g, others, k] - figures[:, g, [b], k]
            won = np.sign(-apart if name in _LESS_IS_BETTER else apart) / 2 + 0.5
            count = np.isfinite(won).sum(axis=0)
            table[name] = np.where(count > 0, np.nansum(won, axis=0) / np.maximum(count, 1), np.nan)
        return pd.DataFrame(table, index=pd.Index([walk.profiles[p] for p in others], name="profile"))

    return walk.over_points(one, at)


def of_paths(walk: WalkForward) -> np.ndarray:
    """Return the paths' figures; raise `InputError` if there are none."""
    if walk.path_figures is None:
        raise InputError("there are no paths; walk forward with paths=Bootstrap(...)")
    return walk.path_figures


def _enough_days(walk: WalkForward) -> int:
    days = walk.schedule.n_days
    if days < _FEWEST_DAYS:
        raise InputError(f"portfolios are held on {days} days, {_FEWEST_DAYS} are needed; give a longer panel")
    return days


def _series(walk: WalkForward) -> np.ndarray:
    """(M, D) net returns of all points and profiles."""
    return walk.history.net.reshape(-1, walk.schedule.n_days)


def _rates(walk: WalkForward) -> tuple[np.ndarray, np.ndarray]:
    """(M,) periods a year and risk-free rates."""
    configs = [walk.settings.at(g) for g in range(len(walk.settings)) for _ in walk.profiles]
    return (
        np.array([config.periods_per_year for config in configs], float),
        np.array([config.risk_free_rate for config in configs], float),
    )


def _pairs(walk: WalkForward, base: str | None) -> np.ndarray:
    """(Q, 2) series to compare: each other profile with the base, at each point."""
    n_points, n_profiles, home = len(walk.settings), len(walk.profiles), walk.settings.home
    b = walk.number(walk.base if base is None else base)
    if n_profiles > 1:
        others = [p for p in range(n_profiles) if p != b]
        return np.array([(g * n_profiles + p, g * n_profiles + b) for g in range(n_points) for p in others])
    if n_points == 1:
        raise InputError("there is one series of returns: walk another profile forward, or a sweep, to compare it")
    return np.array([(g, home) for g in range(n_points) if g != home])
