"""How many rows a year has: from the spacing of a panel's dates, where the caller gives no number.

Rows a calendar day are counted first, because returns within a day make many rows of one day. Then the days: every day,
business days, weeks, months and so on. Dates without a regular spacing are an `InputError` that asks for the number.
"""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import listing
from jaxalloc.settings.config import PERIODS_WITHOUT_DATES, AllocationConfig, is_auto
from jaxalloc.settings.sweep import Sweep

ALL_DAYS, SIX_DAYS, BUSINESS_DAYS = 365.0, 312.0, 252.0

_NEAR = 0.2  # of the median: how far a regular gap may be from it
_EXCEPTIONS = 0.1  # of the gaps, which need not be near the median
_CONTRADICTION = 0.2  # of the number by the dates: how far the caller's may be from it without a word
_YEAR = 365.25  # days
_MONTHS = {1: "months", 2: "two months", 3: "quarters", 4: "four months", 6: "half-years", 12: "years"}
_SATURDAY, _SUNDAY = 5, 6
_DAY = np.timedelta64(1, "D")

# what a step may be called -> the period on whose last row portfolios are decided
CALENDAR = {
    "week": "week",
    "month": "month",
    "month-end": "month",
    "quarter": "quarter",
    "quarter-end": "quarter",
    "year": "year",
    "year-end": "year",
}


class Spacing(NamedTuple):
    """The spacing of a panel's rows.

    Attributes:
        periods_per_year: rows a year.
        words: what says so, such as "the dates are business days".
        dated: whether the rows have dates.
    """

    periods_per_year: float
    words: str
    dated: bool = True


def spacing_of(labels: pd.Index) -> Spacing:
    """Return the spacing of a panel's rows; 252 rows a year where their labels are no dates.

    Args:
        labels: of the rows, in any order: time stamps with or without a time zone, dates, periods, or text in ISO 8601.

    Raises:
        InputError: the dates have no regular spacing.

    Example:
        >>> spacing_of(pd.date_range("2020-01-31", periods=36, freq="ME"))
        Spacing(periods_per_year=12.0, words='the dates are months', dated=True)
    """
    times = _times(labels)
    if times is None:
        return Spacing(PERIODS_WITHOUT_DATES, "the rows have no dates", dated=False)
    days, counts = np.unique(times.astype("datetime64[D]"), return_counts=True)
    rows = _rows_a_day(days, counts)
    by_day = _day_spacing(days)
    if rows == 1:
        return by_day
    return Spacing(rows * by_day.periods_per_year, f"a day has {count_text(rows)} rows, and {by_day.words}")


def resolve_periods(settings: Sweep, labels: pd.Index) -> tuple[Sweep, tuple[str, ...]]:
    """Put a number in the place of ``periods_per_year="auto"``, and say which.

    Args:
        settings: one point or more.
        labels: of the panel's rows.

    Returns:
        The settings with a number, and notes: one for a number by the dates; one for the caller's where it contradicts
        the dates by more than a fifth.

    Raises:
        InputError: a number is needed, and the dates have no regular spacing.
    """
    given = settings.config.periods_per_year
    swept = dict(settings.grid).get("periods_per_year")
    numbers: tuple[Any, ...] = swept or (() if is_auto(given) else (given,))
    try:
        spacing = spacing_of(labels)
    except InputError:
        if not numbers:
            raise
        spacing = None
    if is_auto(given):
        number = numbers[0] if spacing is None else spacing.periods_per_year
        config = settings.config.replace(periods_per_year=number)
        settings = dataclasses.replace(settings, config=config)
    if spacing is None:
        return settings, ()
    by_dates = count_text(spacing.periods_per_year)
    if not numbers:
        return settings, (f"Annualised by {by_dates} rows a year: {spacing.words}.",)
    wrong = [number for number in numbers if abs(number / spacing.periods_per_year - 1) > _CONTRADICTION]
    if not wrong or not spacing.dated:
        return settings, ()
    told = listing(map(count_text, wrong))
    return settings, (f"Annualised by {told} rows a year as given; {spacing.words}, which would make it {by_dates}.",)


def count_text(number: float) -> str:
    """Write a number of rows, with decimals where it is not whole: 1,764 or 36.52."""
    return f"{number:,.2f}".rstrip("0").rstrip(".")


def rows_a_year(periods_per_year: float, labels: pd.Index) -> float:
    """Return how many rows of a panel are a year, for windows and steps.

    It is the number by the dates. Where these have no regular spacing, or contradict the caller's number, it is the
    caller's.

    Args:
        periods_per_year: as the settings have it, a number.
        labels: of the panel's rows.
    """
    try:
        by_dates = spacing_of(labels).periods_per_year
    except InputError:
        return periods_per_year
    return by_dates if abs(periods_per_year / by_dates - 1) <= _CONTRADICTION else periods_per_year


def period_ends(labels: pd.Index, step: str) -> np.ndarray:
    """Return the last row of each calendar period; the panel's last row is one.

    Args:
        labels: of the rows, ascending.
        step: one of `CALENDAR`.

    Returns:
        Numbers of rows, ascending.

    Raises:
        InputError: the rows have no dates.

    Example:
        >>> period_ends(pd.bdate_range("2024-01-29", "2024-02-06"), "month-end").tolist()
        [2, 6]
    """
    index = _clock(labels)
    if index is None:
        raise InputError(f"step={step!r} needs dates, and the rows have none; give a number of rows")
    days = index.to_numpy().astype("datetime64[D]")
    months = days.astype("datetime64[M]").astype(np.int64)
    unit = CALENDAR[step]
    periods = _week(days) if unit == "week" else months // {"month": 1, "quarter": 3, "year": 12}[unit]
    return np.append(np.flatnonzero(np.diff(periods)), len(days) - 1)


def periods_of_rows(config: AllocationConfig, returns: Any) -> AllocationConfig:
    """Return settings with a number of periods a year for returns that may have dates.

    Args:
        config: the settings; a number that they have stays.
        returns: a frame, whose index says it; anything else has no dates.

    Raises:
        InputError: a number is needed, and the dates have no regular spacing.
    """
    if not is_auto(config.periods_per_year) or not isinstance(returns, pd.DataFrame):
        return config
    return config.replace(periods_per_year=spacing_of(returns.index).periods_per_year)


# ---- times ----------------------------------------------------------------------------------------------------------


def _times(labels: pd.Index) -> np.ndarray | None:
    """The labels as sorted, different times of the clock; None if they are no dates, or a single one."""
    index = _clock(labels)
    return None if index is None or len(index) < 2 else np.unique(index.to_numpy())


def _clock(labels: pd.Index) -> pd.DatetimeIndex | None:
    """The labels as times of the clock where they were taken; None if they are no dates."""
    index = labels
    if isinstance(index, pd.PeriodIndex):
        index = index.to_timestamp()
    elif not isinstance(index, pd.DatetimeIndex):
        index = _dates_of(index)
    return None if index is None or index.hasnans else index.tz_localize(None)


def _dates_of(labels: pd.Index) -> pd.DatetimeIndex | None:
    """Objects that are dates, or texts in ISO 8601; None for anything else, such as numbers."""
    if isinstance(labels, pd.MultiIndex) or pd.api.types.is_numeric_dtype(labels.dtype):
        return None
    # a text of digits alone is a number
    if not all(isinstance(label, datetime.date) or (isinstance(label, str) and "-" in label) for label in labels):
        return None
    try:
        return pd.DatetimeIndex(pd.to_datetime(labels, format="ISO8601"))
    except (ValueError, TypeError, OverflowError):
        return None


def _rows_a_day(days: np.ndarray, counts: np.ndarray) -> float:
    """The usual number of rows of a day that has any; raise `InputError` if it varies."""
    inner = counts[1:-1] if len(counts) > 2 else counts  # the first and the last day may be cut
    rows = float(np.median(inner)) if len(counts) > 2 else float(inner.max())
    if len(counts) > 2 and rows > 1 and not _regular(inner, rows):
        raise _irregular(f"the rows of a day vary, from {inner.min():,} to {inner.max():,} about a median of {rows:g}")
    return rows


# ---- days -----------------------------------------------------------------------------------------------------------


def _day_spacing(days: np.ndarray) -> Spacing:
    """The spacing of sorted, different days."""
    gaps = np.diff(days).astype(np.int64)
    trading, weekdays = _trading_days(days)
    if not len(gaps):
        return weekdays
    business = np.busday_count(days[:-1], days[1:], weekmask=[int(day in trading) for day in range(7)])
    if np.sort(business)[(len(business) - 1) // 2] <= 1:
        # of a short panel too, two gaps may be holidays
        if not _regular(business, 1.0, least=2):
            raise _irregular(_gaps_told(gaps))
        return weekdays
    if float(np.median(gaps)) >= 25:
        by_month = _month_spacing(days, gaps)
        if by_month is not None:
            return by_month
    median = float(np.median(gaps))
    if not _regular(gaps, median):
        raise _irregular(_gaps_told(gaps))
    for length, number, word in ((7, 52.0, "weeks"), (14, 26.0, "fortnights"), (15.2, 24.0, "half-months")):
        if abs(median - length) <= 0.5:
            return Spacing(number, f"the dates are {word}")
    return Spacing(_YEAR / median, f"the dates are {median:g} days apart")


def _trading_days(days: np.ndarray) -> tuple[set[int], Spacing]:
    """The weekdays that have rows, Monday 0, and the spacing of the days if they are all of these."""
    calendar = np.arange(days[0], days[-1] + _DAY, _DAY)
    calendar = calendar[np.isin(_week(calendar), _week(days))]  # an exchange may be closed for weeks
    counts, there = (np.bincount(_weekday(each), minlength=7) for each in (days, calendar))
    often = {day for day in range(7) if counts[day] > there[day] / 2}
    weekend = {day for day in (_SATURDAY, _SUNDAY) if there[day]}
    if weekend and weekend <= often:
        return set(range(7)), Spacing(ALL_DAYS, "weekends have dates too")
    if any(there[day] > 1 for day in weekend & often) and len(often) > 5:
        return often, Spacing(SIX_DAYS, "six days a week have dates")
    trading = often if weekend & often and len(often) > 3 else set(range(5))  # weeks from Sunday to Thursday
    return trading, Spacing(BUSINESS_DAYS, "the dates are business days")


def _weekday(days: np.ndarray) -> np.ndarray:
    """Monday is 0."""
    return (days.astype(np.int64) + 3) % 7


def _week(days: np.ndarray) -> np.ndarray:
    """Weeks from Monday to Sunday, numbered."""
    return (days.astype(np.int64) + 3) // 7


def _month_spacing(days: np.ndarray, gaps: np.ndarray) -> Spacing | None:
    """The spacing of days that are so many months apart; None if they are not."""
    if len(gaps) > 2 and np.mean(gaps == 28) >= 1 - _EXCEPTIONS:
        return Spacing(13.0, "the dates are four weeks apart")
    months = np.diff(days.astype("datetime64[M]")).astype(np.int64)
    usual = int(np.median(months))
    if usual < 1 or not _regular(months, float(usual), near=0.0):
        return None
    return Spacing(12 / usual, f"the dates are {_MONTHS.get(usual, f'{usual} months')}")


def _regular(gaps: np.ndarray, usual: float, near: float = _NEAR, least: int = 1) -> bool:
    """Whether nine gaps in ten are near the usual one; of few gaps, all but the ``least`` and half of them."""
    far = int((np.abs(gaps - usual) > near * usual).sum())
    return far <= max(least, _EXCEPTIONS * len(gaps)) and 2 * far <= len(gaps)


def _gaps_told(gaps: np.ndarray) -> str:
    return f"their gaps are {gaps.min():,} to {gaps.max():,} days about a median of {np.median(gaps):g}"


def _irregular(why: str) -> InputError:
    return InputError(
        f"the dates have no regular spacing ({why}), so how many rows a year has is not known; give the number, "
        "periods_per_year=..., such as 252 for business days or 12 for months"
    )
