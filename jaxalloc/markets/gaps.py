"""Prices with gaps -> returns that lose no move, and what becomes of returns that are missing.

For each asset the product of 1 + r over its returns is its last price over its first, in whatever way gaps are
treated: a return after a gap goes from the last price before it.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import counted, listing, quote
from jaxalloc.markets.dates import label_text

Missing = Literal["error", "mask", "zero", "carry", "drop-assets", "drop-rows"]
Noun = Literal["price", "return"]

_SHORT = 5  # days of a hole that holidays can explain


def inside_life(values: np.ndarray) -> np.ndarray:
    """(T, N) bool: rows from each asset's first value to its last, inclusive.

    A panel of coins and shares may end on a Sunday. So an asset that ends a few rows before the panel, no more than it
    has missed at once before, lives on to the panel's end.
    """
    there = ~np.isnan(values)
    inside = np.logical_or.accumulate(there, axis=0) & np.logical_or.accumulate(there[::-1], axis=0)[::-1]
    for column in np.flatnonzero(~there[-1:].all(axis=0) & there.any(axis=0)):
        known = np.flatnonzero(there[:, column])
        tail = len(there) - 1 - known[-1]
        if tail <= min(_SHORT, np.diff(known).max(initial=1) - 1):
            inside[known[-1] :, column] = True
    return inside


def without_gaps(
    found: pd.DataFrame, noun: Noun, missing: Missing, tolerance: float, source: str, notes: list[str]
) -> pd.DataFrame:
    """Resolve what is missing as the caller chose, as far as that takes rows or assets away or refuses.

    Args:
        found: (T, N) prices or returns, NaN where missing.
        noun: which.
        missing: what becomes of gaps.
        tolerance: largest share of missing values with which "drop-assets" keeps an asset.
        source: what messages call the table.
        notes: takes a sentence for each thing that was done.

    Returns:
        The rows and assets that stay; gaps are left under "mask", "zero" and "carry" only.

    Raises:
        InputError: there are gaps and ``missing`` is "error", or too little is left.
    """
    counts = found.isna().sum()
    if not counts.any():
        return found
    if missing == "error":
        raise InputError(
            f"{source}: missing {noun}s ({int(counts.sum()):,}, in {int((counts > 0).sum())} of "
            f"{counted(len(counts), 'symbol')}): {_gaps(counts)}; {_kinds_of_gaps(found, counts, noun)}; choose "
            f"{_CHOICES}"
        )
    if missing == "drop-assets":
        found = _without_gappy_assets(found, counts, noun, tolerance, source, notes)
    if missing in ("drop-assets", "drop-rows"):
        found = _without_gappy_rows(found, noun, source, notes)
    return found


_CHOICES = (
    "missing='mask' (keep the gaps: an asset is active where it misses few rows), 'carry' (a return of 0 inside an "
    "asset's life, the move on the next row with a price), 'zero' (a return of 0 everywhere), 'drop-assets' (symbols "
    "with more gaps than missing_tolerance) or 'drop-rows' (rows with a gap)"
)


def _without_gappy_assets(
    found: pd.DataFrame, counts: pd.Series, noun: Noun, tolerance: float, source: str, notes: list[str]
) -> pd.DataFrame:
    out = (counts / len(found) > tolerance) | (counts == len(found))
    share = f"more than {100 * tolerance:g} % of" if tolerance < 1 else "all of"
    share += f" the {len(found):,} {noun}s"
    if out.all():
        raise InputError(
            f"{source}: every symbol misses {share}, so none is left: {_gaps(counts)}; raise missing_tolerance "
            "or choose another way to treat gaps"
        )
    if out.any():
        notes.append(
            f"Dropped {int(out.sum())} of {counted(len(out), 'symbol')} for missing {share}: "
            f"{_gaps(counts.loc[out], shown=len(out))}."
        )
    return found.loc[:, ~out]


def _without_gappy_rows(found: pd.DataFrame, noun: Noun, source: str, notes: list[str]) -> pd.DataFrame:
    gap = found.isna().any(axis=1)
    n_left = int((~gap).sum())
    if n_left < (3 if noun == "price" else 2):
        needed = "three are needed" if noun == "price" else "two are needed"
        raise InputError(
            f"{source}: dropping rows with a missing {noun} leaves {n_left} of {counted(len(found), 'row')}, {needed}: "
            f"{_gaps(found.isna().sum())}; remove these symbols, or choose missing='drop-assets' with a "
            "smaller missing_tolerance"
        )
    if gap.any():
        kept = " Returns go from one row that stays to the next." if noun == "price" else " Their moves are lost."
        notes.append(f"Dropped {int(gap.sum()):,} of {counted(len(gap), 'row')}, each with a missing {noun}.{kept}")
    return found.loc[~gap]


def returns_of_prices(prices: pd.DataFrame) -> pd.DataFrame:
    """(T - 1, N) simple returns; after a gap from the last price before it, NaN on a row without a price."""
    values = prices.to_numpy()
    before = values
    if np.isnan(values).any():
        before = prices.ffill().to_numpy()
    with np.errstate(over="ignore"):
        returns = values[1:] / before[:-1] - 1.0
    return pd.DataFrame(returns, index=prices.index[1:], columns=prices.columns)


def filled(returns: pd.DataFrame, noun: Noun, listed: np.ndarray, missing: Missing, notes: list[str]) -> pd.DataFrame:
    """Fill missing returns as the caller chose, and say so.

    Args:
        returns: (T, N), NaN where missing.
        noun: what the table held, prices or returns.
        listed: (T, N) bool, rows inside each asset's life.
        missing: "mask" and the ways that drop fill nothing.
        notes: takes a sentence.
    """
    gaps = returns.isna()
    counts = gaps.sum()
    total = int(counts.sum())
    if not total:
        return returns
    said = f"{counted(total, 'missing return')} in {counted(int((counts > 0).sum()), 'symbol')}"
    after = " The return after a gap goes from the last price before it." if noun == "price" else ""
    if missing == "mask":
        notes.append(
            f"Left {said} as gaps: {_gaps(counts)}.{after} An asset is active in the universes of which it misses few "
            "rows."
        )
        return returns
    if missing == "zero":
        notes.append(f"Filled {said} with a return of zero: {_gaps(counts)}.{after}")
        return returns.fillna(0.0)
    holes = gaps & listed
    inside, outside = holes.sum(), (gaps & ~listed).sum()
    if inside.any():
        notes.append(
            f"Filled {counted(int(inside.sum()), 'missing return')} in {counted(int((inside > 0).sum()), 'symbol')} "
            f"with a return of zero inside the symbols' lives: {_gaps(inside)}.{after}"
        )
    if outside.any():
        notes.append(
            f"Left {counted(int(outside.sum()), 'return')} before listing or after delisting missing: "
            f"{_gaps(outside)}. An asset is active in the universes for whose rows it is listed."
        )
    return returns.mask(holes, 0.0)


# ---- words -----------------------------------------------------------------------------------------------------------


def _gaps(counts: pd.Series, shown: int = 5) -> str:
    """The symbols with gaps and how many, worst first."""
    worst = counts.loc[counts > 0].sort_values(ascending=False, kind="stable")
    return listing((f"{quote(name)} ({n:,})" for name, n in worst.items()), shown)


def _kinds_of_gaps(found: pd.DataFrame, counts: pd.Series, noun: Noun) -> str:
    """What kind of gaps the worst symbols have, each with a day."""
    worst = counts.loc[counts > 0].sort_values(ascending=False, kind="stable").index[:3]
    return ", ".join(f"{quote(name)} {_kind_of_gap(pd.Series(found[name]), noun)}" for name in worst)


def _kind_of_gap(column: pd.Series, noun: Noun) -> str:
    there = column.notna().to_numpy()
    if not there.any():
        return f"has no {noun} at all"
    first, last = int(np.argmax(there)), len(there) - 1 - int(np.argmax(there[::-1]))
    words = []
    if first:
        words.append(f"begins on {label_text(column.index[first])} (listed later?)")
    if last < len(there) - 1:
        words.append(f"ends on {label_text(column.index[last])} (delisted?)")
    holes = np.flatnonzero(~there[first : last + 1]) + first
    if len(holes):
        day = label_text(column.index[holes[0]])
        words.append(f"has no {noun} on {counted(len(holes), 'row')}, the first {day}{_cause(column.index, holes)}")
    return " and ".join(words)


def _cause(dates: pd.Index, holes: np.ndarray) -> str:
    if not isinstance(dates, pd.DatetimeIndex):
        return ""
    if np.mean(dates[holes].day_of_week >= 5) > 0.5:
        return " (weekends on which others trade)"
    runs = np.split(holes, np.flatnonzero(np.diff(holes) > 1) + 1)
    return " (another exchange's holidays?)" if max(map(len, runs)) <= _SHORT else ""
