"""The labels of the rows: dates in whatever form, or numbers where the rows are numbered.

Dates are text, dates of a frame, numbers that spell a date (20200131, 202001), seconds and less since 1970, a
spreadsheet's day numbers, months, quarters and years (their last day). Where day and month may be exchanged, the dates
that allow one order only decide, then the order in which rows stand; what is left open is an error.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxalloc.arguments.words import quote, reason
from jaxalloc.markets.cells import is_date, to_numbers
from jaxalloc.markets.table import Table, as_text
from jaxalloc.markets.vocabulary import month_of, role_of

_OFFSET = re.compile(r"(?<=:\d\d)(?:[.,]\d+)?\s*(Z|UTC|GMT|[+-]\d\d:?(?:\d\d)?)$")
_CLOCK = re.compile(
    r"[T ,]+(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d(?:[.,]\d+)?))?\s*(?:(?P<half>[AaPp])\.?[Mm]\.?)?$"
)
_WEEKDAY = re.compile(r"^(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*\.?,?\s+", re.IGNORECASE)
_NUMBERS = re.compile(r"[+-]?[0-9]{1,19}(\.[0-9]+)?")
_SHAPES = {  # each part of a date that is written in digits or as a month's name
    "triple": re.compile(r"(?P<a>\d{1,4})(?P<mark>[-/.])(?P<b>\d{1,2})(?P=mark)(?P<c>\d{2,4})"),
    "day-name": re.compile(r"(?P<day>\d{1,2})(?:st|nd|rd|th)?[-/. ]*(?P<name>[^\W\d_]{3,12})[-/., ]*(?P<year>\d{2,4})"),
    "name-day": re.compile(r"(?P<name>[^\W\d_]{3,12})[-/. ]*(?P<day>\d{1,2})(?:st|nd|rd|th)?[-/., ]+(?P<year>\d{4})"),
    "year-name": re.compile(r"(?P<year>\d{4})[-/ ]?(?P<name>[^\W\d_]{3,12})(?:[-/ ]?(?P<day>\d{1,2}))?"),
    "name-year": re.compile(r"(?P<name>[^\W\d_]{3,12})[-/. ']*(?P<year>\d{4}|\d{2})"),
    "year-month": re.compile(r"(?P<year>\d{4})(?:[-/.: ]?M|[-/])(?P<month>\d{1,2})"),
    "month-year": re.compile(r"(?P<month>\d{1,2})[-/.](?P<year>\d{4})"),
    "characters": re.compile(r"(?P<year>\d{4})年(?P<month>\d{1,2})月(?:(?P<day>\d{1,2})日)?"),
    "year-quarter": re.compile(r"(?P<year>\d{4})[-: ]?Q(?P<quarter>[1-4])", re.IGNORECASE),
    "quarter-year": re.compile(r"(?:Q(?P<quarter>[1-4])|(?P<first>[1-4])Q)[-/' ]*(?P<year>\d{4}|\d{2})", re.IGNORECASE),
}
_EPOCHS = (("s", "seconds", 1e8, 5e9), ("ms", "milliseconds", 1e11, 5e12), ("us", "microseconds", 1e14, 5e15),
           ("ns", "nanoseconds", 1e17, 5e18))  # fmt: skip
_SPREADSHEET_ZERO = pd.Timestamp("1899-12-30")  # day 0 of the day numbers after February 1900


class _Reading(NamedTuple):
    """One way to read the texts of a column as dates."""

    dates: pd.Series
    order: str  # "" where there is no other


def read_dates(table: Table, place: int, dayfirst: bool | None, notes: list[str]) -> pd.Index:
    """Read a column as the rows' labels.

    Args:
        table: the table.
        place: number of the column.
        dayfirst: whether the day stands before the month where that is open; None to settle it by the dates.
        notes: takes a sentence for each thing that was decided.

    Returns:
        DatetimeIndex called "date", or an index of numbers called "observation", in the order of the rows.

    Raises:
        InputError: a cell is no date, or the order of day and month cannot be told.
    """
    return _read(table, table.columns[place], table.names[place], dayfirst, notes)


def _read(table: Table, raw: pd.Series, name: str, dayfirst: bool | None, notes: list[str]) -> pd.Index:
    if not len(raw):
        raise table.error("there are no rows; give at least two rows of returns, or three of prices")
    if isinstance(raw.dtype, pd.CategoricalDtype):
        raw = raw.astype(object)
    kind = pd.api.types.infer_dtype(raw, skipna=True)
    if kind == "mixed" and all(isinstance(cell, str) or cell is None or is_date(cell) for cell in raw):
        raw, kind = raw.map(str), "string"  # a workbook with some dates as text
    if kind == "string":
        raw = raw.astype(object).map(as_text)
    empty = (raw == "") if kind == "string" else raw.isna()
    if empty.any():
        raise table.error(f"{table.place(int(np.argmax(empty)))} has no date; date it, or delete the row")
    if kind in {"datetime64", "datetime", "date", "period"}:
        return _dates_of_frames(table, raw, kind)
    if kind == "string" and not raw.str.fullmatch(_NUMBERS).all():
        return _text_dates(table, raw, named(name), dayfirst, notes)
    if kind in {"string", "integer", "floating"}:
        labels = to_numbers(raw)
        is_text = kind == "string"
        dates = _numeric_dates(labels, name, is_text, notes)
        if dates is not None:
            return pd.DatetimeIndex(dates, name="date")
        # In a CSV a first column of numbers is more often a forgotten date column than a row number.
        if np.isfinite(labels.astype(float)).all() and (not is_text or (labels.diff().iloc[1:] == 1).all()):
            notes.append("The rows are numbered, not dated.")
            return pd.Index(labels.to_numpy(), name="observation")
    raise table.error(
        f"the first cell of {named(name)} is {quote(raw.iloc[0])}, not a date; put dates such as "
        "2020-01-31 there, or number the rows 0, 1, 2, ..."
    )


def _dates_of_frames(table: Table, raw: pd.Series, kind: str) -> pd.DatetimeIndex:
    try:
        if kind != "period":
            return pd.DatetimeIndex(raw, name="date")
        periods = pd.PeriodIndex(raw)
        ends = periods.to_timestamp(how="end").normalize()
        within_a_day = (periods.to_timestamp() + pd.Timedelta(days=1) > periods.to_timestamp(how="end")).all()
        return (periods.to_timestamp() if within_a_day else ends).rename("date")
    except (ValueError, TypeError) as error:  # time zones or periods of several kinds
        raise table.error(f"the dates cannot be put in order ({reason(error)}); make them alike") from None


# ---- numbers that are dates ------------------------------------------------------------------------------------------


def _numeric_dates(labels: pd.Series, name: str, is_text: bool, notes: list[str]) -> pd.Series | None:
    """Dates from numbers, None if they are none; what the column is called counts where a number could be both."""
    whole = pd.api.types.is_integer_dtype(labels) or bool((labels == labels.round()).all())
    is_named = role_of(name) in ("date", "time")
    if whole and labels.between(1900_01_01, 2199_12_31).all():
        dates = pd.to_datetime(labels.astype("int64").astype(str), format="%Y%m%d", errors="coerce")
        if dates.notna().all():
            return dates
    if whole and labels.between(1900_01, 2199_12).all() and (labels % 100).between(1, 12).all():
        return _month_ends(labels // 100, labels % 100)
    for unit, words, low, high in _EPOCHS:
        if labels.between(low, high).all():
            notes.append(f"Read {named(name)} as {words} since 1970-01-01 in UTC.")
            return pd.to_datetime(labels, unit=unit).dt.round("ms")
    steps = labels.diff().iloc[1:].abs()
    consecutive = bool((steps == 1).all())
    if labels.between(10_000, 80_000).all() and (
        is_named or (not consecutive and labels.min() > 30_000 and steps.between(0.01, 100).all())
    ):
        notes.append(
            f"Read {named(name)} as a spreadsheet's day numbers: {labels.iloc[0]:g} is a day since 1899-12-30."
        )
        return (_SPREADSHEET_ZERO + pd.to_timedelta(labels, unit="D")).dt.round("s")
    if whole and labels.between(1900, 2199).all() and (is_named or (is_text and consecutive)):
        return _month_ends(labels, labels * 0 + 12)
    return None


def is_numeric_date(column: pd.Series, name: str) -> bool:
    """Whether a column of numbers holds dates: by its values and, where these could be something else, its name."""
    labels = to_numbers(column)
    if not len(labels) or not np.isfinite(labels.astype(float)).all():
        return False
    return _numeric_dates(labels, name, False, []) is not None


def _month_ends(years: pd.Series, months: pd.Series) -> pd.Series:
    starts = pd.to_datetime({"year": years, "month": months, "day": months * 0 + 1}, errors="coerce")
    return starts + pd.offsets.MonthEnd(0)


# ---- text that is a date ---------------------------------------------------------------------------------------------


def _text_dates(table: Table, texts: pd.Series, name: str, dayfirst: bool | None, notes: list[str]) -> pd.Index:
    texts = _without_offsets(table, texts, notes)
    # pandas reads "now" and "today" as dates; only text that starts with a year is ISO 8601.
    iso = pd.to_datetime(texts.where(texts.str.match(r"\d{4}[-/]?\d")), format="ISO8601", errors="coerce")
    if iso.notna().all() and not texts.str.fullmatch(r"\d{4}[-/]?\d{1,2}").any():
        return pd.DatetimeIndex(iso, name="date")
    readings = _readings(texts)
    whole = [reading for reading in readings if reading.dates.notna().all()]
    if dayfirst is not None:
        asked = "day first" if dayfirst else "month first"
        whole = [reading for reading in whole if reading.order in ("", asked)]
        readings = [reading for reading in readings if reading.order in ("", asked)]
    elif len(whole) > 1:
        whole = _settled(table, texts, whole, notes)
    elif whole and whole[0].order:
        other = next((r.dates for r in readings if r.order != whole[0].order and r.dates.isna().any()), None)
        proof = "" if other is None else f": {quote(texts.loc[other.isna()].iloc[0])} leaves no other way"
        notes.append(f"Read the dates with the {whole[0].order}{proof}.")
    if whole:
        return pd.DatetimeIndex(whole[0].dates, name="date")
    readings = [*readings, _Reading(dates=iso, order="")]
    best = max((reading.dates for reading in readings), key=lambda dates: (dates.notna().sum(), dates.notna().iloc[0]))
    bad = np.asarray(best.isna())
    row = int(np.argmax(bad))
    like = "" if bad.all() else f" like {quote(texts.iloc[int(np.argmin(bad))])}"
    raise table.error(
        f"{table.place(row)}, {name}: {quote(texts.iloc[row])} is not a date{like}; write dates as 2020-01-31"
    )


def _without_offsets(table: Table, texts: pd.Series, notes: list[str]) -> pd.Series:
    """Leave out UTC offsets where they differ, or where all times are midnight, so that a date is the local one."""
    offsets = texts.str.extract(_OFFSET, expand=False)
    if not offsets.notna().any():
        return texts
    if offsets.isna().any():
        row = int(np.argmax(offsets.isna()))
        raise table.error(
            f"{table.place(row)}: the date {quote(texts.iloc[row])} has no UTC offset where others have one; "
            "write all of them in one way"
        )
    if offsets.nunique() > 1:
        notes.append("Left out the UTC offsets of the dates, which differ (daylight saving?): times are local.")
        return texts.str.replace(_OFFSET, "", regex=True)
    midnight = texts.str.contains(r"[T ]0?0:00(?::00(?:\.0+)?)?\s*(?:Z|UTC|GMT|[+-]\d\d:?(?:\d\d)?)$", regex=True).all()
    return (
        texts.str.replace(_OFFSET, "", regex=True)
        if midnight
        else texts.str.replace(r"\s*(?:UTC|GMT)$", "Z", regex=True)
    )


def _readings(texts: pd.Series) -> list[_Reading]:
    """The ways to read the texts: in the shape that most of them have, and in each order of its parts."""
    clock = texts.str.extract(_CLOCK)
    days = texts.where(clock["hour"].isna(), texts.str.replace(_CLOCK, "", regex=True)).str.strip(" ,")
    days = days.str.replace(_WEEKDAY, "", regex=True)
    matched = {name: days.str.fullmatch(shape) for name, shape in _SHAPES.items()}
    shape = max(matched, key=lambda name: int(matched[name].sum()))
    if not matched[shape].any():
        return []
    parts = days.where(matched[shape]).str.extract(_SHAPES[shape])
    time_of_day = _time_of_day(clock)
    return [
        _Reading(dates=dates + time_of_day, order=order)
        for dates, order in _ordered(shape, parts)
        if dates.notna().any()
    ]


def _time_of_day(clock: Any) -> pd.Series:
    numbers = clock[["hour", "minute", "second"]].apply(
        lambda column: to_numbers(column.str.replace(",", ".", regex=False)).fillna(0)
    )
    hour = numbers["hour"]
    half = clock["half"].str.lower()
    hour = hour.where(half.isna(), hour % 12) + 12 * (half == "p")
    return pd.to_timedelta(3600 * hour + 60 * numbers["minute"] + numbers["second"], unit="s")


def _ordered(shape: str, parts: Any) -> list[tuple[pd.Series, str]]:
    if shape != "triple":
        return [(_single(parts), "")]
    a, b, c = (to_numbers(parts[name]) for name in "abc")
    if (parts["a"].str.len().dropna() == 4).all():
        return [(_calendar(a, b, c), "")]
    year = _century(c, parts["c"])
    day_first = (_calendar(year, b, a), "day first")
    if (parts["mark"].dropna() == ".").all():
        return [(day_first[0], "")]  # dates with points have the day first everywhere
    found = [day_first, (_calendar(year, a, b), "month first")]
    if (parts["c"].str.len().dropna() == 2).all():
        found.append((_calendar(_century(a, parts["a"]), b, c), "year first"))
    return found


def _single(parts: Any) -> pd.Series:
    """Dates in a shape that has one order; without a day the last of the month or quarter."""
    year = _century(to_numbers(parts["year"]), parts["year"])
    if "name" in parts:
        month = parts["name"].map(month_of, na_action="ignore").astype(float)
    elif "quarter" in parts:
        quarter = parts["quarter"] if "first" not in parts else parts["quarter"].fillna(parts["first"])
        month = 3 * to_numbers(quarter)
    else:
        month = to_numbers(parts["month"])
    if "day" in parts and parts["day"].notna().any():
        return _calendar(year, month, to_numbers(parts["day"]))
    good = year.notna() & month.between(1, 12)
    return _month_ends(year.where(good), month.where(good))


def _calendar(year: pd.Series, month: pd.Series, day: pd.Series) -> pd.Series:
    return pd.to_datetime({"year": year, "month": month, "day": day}, errors="coerce")


def _century(year: pd.Series, text: pd.Series) -> pd.Series:
    """Years of two digits: of this century, if that is not beyond next year."""
    latest = pd.Timestamp.now().year + 1
    full = year + np.where(2000 + year > latest, 1900, 2000)
    return year.where(text.str.len() != 2, full)


def _settled(table: Table, texts: pd.Series, readings: list[_Reading], notes: list[str]) -> list[_Reading]:
    """The one reading in which the rows are in order; all of them if they agree."""
    if all(reading.dates.equals(readings[0].dates) for reading in readings):
        return readings[:1]
    in_order = [r for r in readings if r.dates.is_monotonic_increasing or r.dates.is_monotonic_decreasing]
    if len(in_order) == 1 and len(texts) > 2:
        notes.append(f"Read the dates with the {in_order[0].order}: the rows are then in the order of time.")
        return in_order
    first, second = (in_order if len(in_order) > 1 else readings)[:2]
    row = int(np.argmax(first.dates != second.dates))
    raise table.error(
        f"{table.place(row)}: the date {quote(texts.iloc[row])} may be {label_text(first.dates.iloc[row])} or "
        f"{label_text(second.dates.iloc[row])}; write dates as 2020-01-31, or say dayfirst=True or dayfirst=False"
    )


# ---- words -----------------------------------------------------------------------------------------------------------


def named(column: str) -> str:
    """A column in words."""
    return f"column {quote(column)}" if column else "the column or index without a name"


def label_text(label: Any) -> str:
    """A row's label: the date alone where there is no time of day."""
    if not isinstance(label, pd.Timestamp):
        return str(label)
    return label.date().isoformat() if label.tz is None and label == label.normalize() else label.isoformat()
