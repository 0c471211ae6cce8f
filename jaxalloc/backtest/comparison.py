"""Profiles compared with each other, with chance, and over resampled paths: arrays -> pandas frames.

`jaxalloc.backtest.walk.WalkForward` has a method for each of these functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.numbers import MOST_COUNT, one_number, whole_number
from jaxalloc.backtest import performance
from jaxalloc.backtest.performance import COMPARED
from jaxalloc.settings.measures import FIGURES, WALK_MEASURE
from jaxalloc.universes.bootstrap import Bootstrap, Method
from jaxalloc.universes.samplers import block_of_rows

FEWEST_DAYS = 3  # for intervals and moments


class Trials(NamedTuple):
    """M series of returns that were tried: every profile at every point of the settings, point by point.

    Attributes:
        returns: (M, D) net returns.
        figures: (M, F) `FIGURES`.
        periods_per_year: (M,) rows a year.
        risk_free_rate: (M,) annual.
        index: M labels: the settings swept, and the profile.
    """

    returns: np.ndarray
    figures: np.ndarray
    periods_per_year: np.ndarray
    risk_free_rate: np.ndarray
    index: pd.Index

    def check_days(self) -> int:
        """Return D; raise `InputError` if there are too few days for intervals and moments."""
        days = self.returns.shape[1]
        if days < FEWEST_DAYS:
            raise InputError(f"portfolios are held on {days} days, {FEWEST_DAYS} are needed; give a longer panel")
        return days


def pairs_of(n_points: int, n_profiles: int, base: int, home: int) -> np.ndarray:
    """Choose which of the M trials to compare.

    Args:
        n_points: of the settings.
        n_profiles: at each point.
        base: the profile to compare the others with, at each point.
        home: the point to compare the others with, if there is one profile alone.

    Returns:
        (Q, 2) numbers of trials: one, and the one that it is compared with.

    Raises:
        InputError: there is one trial alone.
    """
    if n_profiles > 1:
        others = [p for p in range(n_profiles) if p != base]
        return np.array([(g * n_profiles + p, g * n_profiles + base) for g in range(n_points) for p in others])
    if n_points == 1:
        raise InputError(
            "one series of returns has nothing to be compared with: give walk_forward another profile, or a sweep"
        )
    return np.array([(g, home) for g in range(n_points) if g != home])


def differences(
    trials: Trials, pairs: np.ndarray, *, n: Any, method: Method, block_length: Any, level: Any, seed: Any
) -> pd.DataFrame:
    """Tell how sure the differences between series of returns are: paired bootstrap intervals.

    The days are resampled in blocks, the same resamples for all series, and each difference is taken within a
    resample; see `jaxalloc.backtest.performance.difference_intervals`.

    Args:
        trials: the series.
        pairs: (Q, 2) series to compare, from `pairs_of`.
        n: number of resamples.
        method: as `Bootstrap` takes it.
        block_length: likewise; None stands for a month of rows (`block_of_rows`), or for all days if they are fewer.
        level: of the intervals, between 0 and 1.
        seed: of the resamples.

    Returns:
        As `WalkForward.differences` describes it.

    Raises:
        InputError: there are too few days, or an argument is out of range.
    """
    days, level = trials.check_days(), one_number("level", level)
    if not 0 < level < 1:
        raise InputError(f"level must be between 0 and 1, not {level!r}")
    n = whole_number("n, the number of resamples,", n, 1, MOST_COUNT // days)
    length = block_length
    if block_length is None and method != "iid":
        length = min(block_of_rows(float(trials.periods_per_year[0])), days)
    counts = Bootstrap(n=n, method=method, block_length=length).counts(days, seed, 0, n)
    intervals = performance.difference_intervals(
        trials.returns, pairs, counts, trials.periods_per_year, trials.risk_free_rate, level
    )
    compared = [FIGURES.index(name) for name in COMPARED]
    columns = {"base": trials.figures[pairs[:, 1]][:, compared].ravel()}
    for name in ("difference", "low", "high", "share_above"):
        columns[name] = np.stack([intervals[measure][name] for measure in COMPARED], axis=1).ravel()
    labels = [label if isinstance(label, tuple) else (label,) for label in trials.index]
    keys = [(*labels[series], measure) for series in pairs[:, 0] for measure in COMPARED]
    return pd.DataFrame(columns, index=pd.MultiIndex.from_tuples(keys, names=[*trials.index.names, "measure"]))


def deflated_sharpe(trials: Trials, n_trials: Any = None) -> pd.DataFrame:
    """Deflate the Sharpe ratios by how many were tried (Bailey and Lopez de Prado, 2014).

    The formulas: `jaxalloc.backtest.performance`.

    Args:
        trials: the M series.
        n_trials: how many were tried in all, if more than M: what was tried before counts too.

    Returns:
        As `WalkForward.deflated_sharpe` describes it.

    Raises:
        InputError: there are too few days, or ``n_trials`` is less than M, or more where M is 1.
    """
    days, count = trials.check_days(), len(trials.returns)
    total = count if n_trials is None else whole_number("n_trials", n_trials, count)
    if count == 1 and total > 1:
        raise InputError("n_trials above 1 needs the spread of the trials: give walk_forward at least two of them")
    deflated = performance.deflated_sharpe(trials.returns, trials.periods_per_year, trials.risk_free_rate, total)
    columns = {
        "sharpe": deflated.sharpe,
        "skewness": deflated.skewness,
        "kurtosis": deflated.kurtosis,
        "days": days,
        "trials": total,
        "expected_maximum": deflated.expected_maximum,
        "deflated_sharpe": deflated.deflated_sharpe,
    }
    return pd.DataFrame(columns, index=trials.index)


def quantile_names(quantiles: Sequence[Any]) -> dict[str, float]:
    """Return quantiles by the names of their columns, such as q05; raise `InputError` unless within 0 and 1."""
    levels = [one_number("quantiles", level) for level in quantiles]
    if not all(0 <= level <= 1 for level in levels):
        raise InputError(f"quantiles must be between 0 and 1, not {list(quantiles)!r}")
    return {f"q{round(100 * level, 10):02g}": level for level in levels}


def path_quantiles(
    paths: np.ndarray,
    history: np.ndarray | None,
    profiles: Sequence[str],
    shown: Sequence[str],
    levels: dict[str, float],
) -> pd.DataFrame:
    """Summarise the paths at one point of the settings: index ("profile", "measure").

    Args:
        paths: (paths, P, F) `FIGURES` of each path.
        history: (P, F) of the panel as it happened; None where there is none, and so no column of it.
        profiles: the P profiles.
        shown: which of `FIGURES` to summarise.
        levels: quantiles by name, from `quantile_names`.

    Returns:
        As `WalkForward.path_quantiles` describes it.
    """
    tables = []
    for p in range(len(profiles)):
        rows = []
        for k in map(FIGURES.index, shown):
            values = pd.Series(paths[np.isfinite(paths[:, p, k]), p, k])
            drawn = [values.quantile(level) for level in levels.values()]
            happened = [] if history is None else [history[p, k]]
            rows.append([*happened, values.mean(), values.std(), *drawn, len(values)])
        columns = pd.Index([*([] if history is None else ["history"]), "mean", "std", *levels, "n_paths"])
        tables.append(pd.DataFrame(rows, index=pd.Index(shown), columns=columns).astype({"n_paths": int}))
    return pd.concat(tables, keys=profiles, names=["profile", "measure"])


def beats(paths: np.ndarray, profiles: Sequence[str], base: int, shown: Sequence[str]) -> pd.DataFrame:
    """Tell how often a profile beats another on the same path, at one point of the settings.

    Args:
        paths: (paths, P, F) `FIGURES` of each path.
        profiles: the P profiles.
        base: the number of the profile to compare with.
        shown: which of `FIGURES` to compare; those of which neither more nor less is better are left out.

    Returns:
        As `WalkForward.beats` describes it.

    Raises:
        InputError: there is one profile alone.
    """
    others = [p for p in range(len(profiles)) if p != base]
    if not others:
        raise InputError(f"{profiles[base]} has no other profile to be compared with: add one")
    table = {}
    for measure in (WALK_MEASURE[name] for name in shown):
        if measure.better:
            k = FIGURES.index(measure.name)
            margin = measure.better * (paths[:, others, k] - paths[:, [base], k])
            won = np.sign(margin) / 2 + 0.5
            count = np.isfinite(won).sum(axis=0)
            table[measure.name] = np.where(count > 0, np.nansum(won, axis=0) / np.maximum(count, 1), np.nan)
    return pd.DataFrame(table, index=pd.Index([profiles[p] for p in others], name="profile"))
