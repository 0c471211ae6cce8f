"""What the numbers of a table are: prices, returns, or returns written in another way; and values that cannot be right.

Prices are above zero and move like levels: neighbours in time differ by far less than all values do. Returns have both
signs and are small. What is neither is refused with the word that settles it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import counted, listing, quote
from jaxalloc.markets.dates import label_text

Kind = Literal["auto", "returns", "prices", "percent", "factors"]
Verdict = Literal["returns", "prices", "percent", "factors", "levels", "open"]

_FEW = 8  # rows from which on a trend can be seen
_TREND = 0.5  # mean square of differences over twice the variance: about 1 without a trend, 3 / T on a random walk
_SAMPLE = 50_000  # numbers that decide what all are
_LARGEST, _SMALLEST = 1.0, -0.5  # returns beyond are named
_MAYBE_SPLIT = -0.45  # as is one below this, if it looks like a split in two and a small move
_SPLITS = (2, 3, 4, 5, 6, 7, 8, 15, 20, 25, 30, 50)
_TENS = (10, 100, 1000)
_NEAR_SPLIT = 0.06  # logarithm by which a move may miss a split or a power of ten
_STALE = 0.5  # share of unchanged prices that is named


class Judgement(NamedTuple):
    """What numbers look like.

    Attributes:
        verdict: "levels" have both signs and trend, like cumulative returns; "open" cannot be told.
        median: of their sizes.
    """

    verdict: Verdict
    median: float


def judge(frame: pd.DataFrame) -> Judgement:
    """Tell prices from returns by their signs, sizes and trend."""
    columns = frame.to_numpy()
    if columns.size > _SAMPLE:  # a part of the columns: rows are needed in their order
        step = -(-columns.size // _SAMPLE)
        columns = columns[:, ::step] if columns.shape[1] >= step else columns[:_SAMPLE]
    cells = columns[np.isfinite(columns)]
    if not cells.size:
        return Judgement("open", 0.0)
    median = float(np.median(np.abs(cells)))
    trend = _trend(columns)
    if (cells < 0).mean() > 0.05:
        if median >= 0.5:
            return Judgement("levels" if trend is not None and trend < 0.1 else "percent", median)
        return Judgement("levels" if trend is not None and trend < 0.1 and len(columns) >= 20 else "returns", median)
    if trend is not None and trend < _TREND:
        return Judgement("prices", median)
    if not 0.6 < median < 1.6 and _are_alike(columns):
        return Judgement("prices", median)
    if 0.6 < median < 1.6 and (trend is not None or np.ptp(cells) < 1):
        return Judgement("factors", median)
    return Judgement("prices" if median >= 1 else "open", median)


def _trend(columns: np.ndarray) -> float | None:
    """The median over columns of von Neumann's ratio, halved; None where there are too few rows."""
    ratios = []
    for column in columns.T:
        column = column[np.isfinite(column)]
        if len(column) >= _FEW and column.min() < column.max():
            column = column / np.abs(column).max()  # whose squares are numbers
            ratios.append(np.mean(np.diff(column) ** 2) / (2 * column.var()))
    return float(np.median(ratios)) if ratios else None


def _are_alike(columns: np.ndarray) -> bool:
    """Whether the numbers of most columns are above zero and within a factor of three, as returns hardly ever are."""
    lowest, highest = np.fmin.reduce(columns, axis=0), np.fmax.reduce(columns, axis=0)
    return bool(np.mean((lowest > 0) & (highest < 3 * lowest)) > 0.5)


def are_plainly_prices(frame: pd.DataFrame) -> bool:
    """Whether a frame that should hold returns holds prices without doubt: above zero, long, with a trend."""
    values = frame.to_numpy()
    above = values.size > 0 and bool((np.nan_to_num(values, nan=1.0) > 0).all())
    trend = _trend(values[:, : max(1, _SAMPLE // max(1, len(values)))]) if above and len(values) >= 20 else None
    return trend is not None and trend < 0.2


def decided_kind(frame: pd.DataFrame, source: str, notes: list[str]) -> Literal["returns", "prices"]:
    """Tell whether a table holds prices or returns, and say so.

    Raises:
        InputError: it holds neither, or it cannot be told.
    """
    verdict, median = judge(frame)
    if verdict == "prices":
        notes.append("Took the numbers for prices: they are above zero and move like levels.")
        return "prices"
    if verdict == "returns":
        notes.append("Took the numbers for returns: they have both signs and are small.")
        return "returns"
    if verdict == "percent":
        raise InputError(f"{source}: {_PER_CENT.format(median=median)}")
    if verdict == "factors":
        raise InputError(
            f"{source}: the numbers lie around 1 without a trend, like growth factors 1 + r; say kind='factors' if "
            "they are, or kind='prices'"
        )
    if verdict == "levels":
        raise InputError(
            f"{source}: the numbers have both signs and a trend, like cumulative returns or spreads; give returns per "
            "period, or say kind='returns' if they are"
        )
    raise InputError(
        f"{source}: it cannot be told whether the numbers are prices or returns; say kind='prices' or kind='returns'"
    )


_PER_CENT = (
    "the median size of the returns is {median:g}, so they look like per cent; say kind='percent' if 5 stands for a "
    "return of 5 %, or divide them by 100"
)


def check_returns(returns: pd.DataFrame, source: str) -> None:
    """Refuse what cannot be simple returns as fractions."""
    fix = "correct the cell, or leave it empty if the return is missing"
    values = returns.to_numpy()
    lowest, highest = _finite_range(returns, source, "returns", fix)
    typical = 0.0
    if lowest < -1 or highest > 1:
        seen = values[~np.isnan(values)]
        typical = float(np.median(np.abs(seen)))
    if typical > 1.0:
        if lowest < 0:
            raise InputError(f"{source}: {_PER_CENT.format(median=typical)}")
        raise InputError(
            f"{source}: the median size of the returns is {typical:g}, so they look like prices; say kind='prices'"
        )
    fix += "; returns are fractions: a loss of 5 % is -0.05, of everything -1"
    if lowest < -1:
        refuse(values < -1.0, returns, source, "returns below -1", fix)
    if highest > 1:
        for name, column in returns.items():  # an index level or a yield left among the returns
            known = column.dropna()
            if len(known) and known.min() > 0 and known.median() > 1.0:
                raise InputError(
                    f"{source}: column {quote(name)} looks like prices among returns (its median is "
                    f"{known.median():g}); remove it, or turn it into returns"
                )


def check_prices(prices: pd.DataFrame, source: str) -> None:
    """Refuse what cannot be a price."""
    fix = "correct the cell, or leave it empty if the price is missing"
    values = prices.to_numpy()
    lowest, _ = _finite_range(prices, source, "prices", fix)
    if lowest <= 0:
        refuse(values <= 0, prices, source, "prices not above zero", f"{fix}; if these are returns, say kind='returns'")


def _finite_range(frame: pd.DataFrame, source: str, noun: str, fix: str) -> tuple[float, float]:
    """The lowest and the highest number; an infinite one is refused."""
    lowest, highest = _range(frame.to_numpy())
    if np.isinf([lowest, highest]).any():
        refuse(np.isinf(frame.to_numpy()), frame, source, f"infinite {noun}", fix)
    return lowest, highest


def _range(values: np.ndarray) -> tuple[float, float]:
    """The lowest and the highest number that is not missing; 0 where there is none."""
    lowest = float(np.fmin.reduce(values, axis=None, initial=np.inf))
    highest = float(np.fmax.reduce(values, axis=None, initial=-np.inf))
    return (0.0, 0.0) if lowest > highest else (lowest, highest)


def refuse(bad: np.ndarray, frame: pd.DataFrame, source: str, what: str, fix: str) -> None:
    """Name the first cell, by date, where `bad` holds, if there is one."""
    if bad.any():
        row, column = (int(k) for k in np.argwhere(bad)[0])
        raise InputError(
            f"{source}: {what} ({int(bad.sum()):,}), the first in column {quote(frame.columns[column])}, "
            f"row {label_text(frame.index[row])}: {frame.iat[row, column]:g}; {fix}"
        )


# ---- values that cannot be right -------------------------------------------------------------------------------------


def odd_values(returns: pd.DataFrame, what: Literal["prices", "returns"]) -> list[str]:
    """Say which returns can hardly be right, and which assets stand still.

    Args:
        returns: (T, N), NaN where missing.
        what: what they come from.

    Returns:
        A sentence on returns beyond +100 % or -50 %, with a guess at their cause, and one on assets whose price (or
        return) is unchanged (or 0) on more than half of their rows; none where there is nothing to say.
    """
    values = returns.to_numpy()
    sentences = []
    lowest, highest = _range(values)
    suspects = np.empty((0, 2), int)
    if lowest < _MAYBE_SPLIT or highest > _LARGEST:
        suspects = np.argwhere((values > _LARGEST) | (values < _MAYBE_SPLIT))
    jumps = []
    for row, column in suspects:
        move = float(values[row, column])
        guess = _guess(values[:, column], int(row), returns.index)
        if _SMALLEST <= move <= 0 and "split" not in guess:
            continue
        label = label_text(returns.index[row])
        jumps.append(
            f"{quote(returns.columns[column])} {100 * move:+,.1f} % on {label}{f' ({guess})' if guess else ''}"
        )
    if jumps:
        beyond = "a return" if len(jumps) == 1 else f"{len(jumps):,} returns"
        sentences.append(f"Check {beyond} beyond +100 % or -50 %: {listing(jumps)}.")
    n_zeros = values.size - np.count_nonzero(values)
    stale = np.empty(0, int)
    if n_zeros and (n_zeros > _STALE * len(values) or np.isnan(values).any()):  # enough, were they all of one asset
        known = np.count_nonzero(~np.isnan(values), axis=0)
        still = np.count_nonzero(values == 0, axis=0)
        stale = np.flatnonzero((still > _STALE * known) & (still < known))
    if len(stale):
        words = "the price is unchanged" if what == "prices" else "the return is 0"
        named = (f"{quote(returns.columns[k])} ({still[k]:,} of {known[k]:,})" for k in stale)
        sentences.append(
            f"Check {counted(len(stale), 'asset')} whose price stands still: {words} on most rows of {listing(named)}."
        )
    return sentences


def _guess(moves: np.ndarray, row: int, dates: pd.Index) -> str:
    """What a large move looks like: a power of ten, a split, or nothing."""
    if moves[row] <= -1:
        return ""
    size = np.log1p(moves[row])
    logs = np.log1p(np.maximum(moves, -1 + 1e-12))
    for ten in _TENS:
        if abs(abs(size) - np.log(ten)) < 2 * _NEAR_SPLIT:
            words = f"a factor of {ten:,}" if size > 0 else f"a factor of 1/{ten:,}"
            after = np.flatnonzero(np.isfinite(moves[row + 1 :]))[:10] + row + 1
            back = next((k for k in after if abs(logs[k] + size) < 4 * _NEAR_SPLIT), None)
            before = np.flatnonzero(np.isfinite(moves[:row]))[-10:]
            if back is not None:
                return f"{words}, back on {label_text(dates[back])}: another unit or a slip of the decimal point?"
            if any(abs(logs[k] + size) < 4 * _NEAR_SPLIT for k in before):
                return f"{words}, back again"
            return f"{words}: a split that was not adjusted, or another unit?"
    for n in _SPLITS:
        if abs(abs(size) - np.log(n)) < _NEAR_SPLIT:
            return (
                f"a {n}-for-1 split that was not adjusted?" if size < 0 else f"a 1-for-{n} split that was not adjusted?"
            )
    return ""
