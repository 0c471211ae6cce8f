"""One cell: whether it is missing, a number, a date or a word; and text as numbers.

Numbers are read as people write them: thousands in groups, a comma or a point before the decimals, currencies, signs
of per cent, negatives in brackets or with a typeset minus. Which of comma and point is the decimal mark is decided for
a table, by the cells that leave no choice (see `decimal_mark`).
"""

from __future__ import annotations

import datetime
import numbers
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from jaxalloc.markets.vocabulary import month_of

_SAMPLE = 200  # cells that tell what a column holds
DecimalMark = Literal[".", ","]

# in lower case; spaces at the ends do not count
MISSING_TEXTS = frozenset(
    [
        "-",
        "--",
        "---",
        "–",
        "—",
        ".",
        "..",
        "...",
        "…",
        "na",
        "n/a",
        "n.a.",
        "n.a",
        "#na",
        "#n/a",
        "#n/a!",
        "<na>",
        "nan",
        "-nan",
        "null",
        "none",
        "nil",
        "n/d",
        "nd",
        "n.d.",
        "k.a.",
        "s/d",
        "void",
        "?",
        "missing",
        "#value!",
        "#ref!",
        "#div/0!",
        "#num!",
        "#name?",
        "#null!",
        "(null)",
    ]
) | {"", "#n/a n/a", "#n/a n.a.", "not available", "no data"}
# as the parser of CSV files may take them, which compares case
MISSING_MARKS = sorted(
    {""} | {form(mark) for mark in MISSING_TEXTS for form in (str, str.upper, str.title)} | {"NaN", "N/a", "-NaN"}
)

_MINUS = dict.fromkeys(map(ord, "−‐‑‒–—﹣－"), "-")
_SPACES = dict.fromkeys(map(ord, "\u00a0\u202f\u2009\u2007\u2002\u2003\u3000\ufeff\u200b\u200e\u200f"), " ")
_CURRENCY = (
    r"(?:(?:US|AU|CA|HK|NZ|SG|NT|MX|[ACRS])?[$€£¥￥₹₩₽₺₫₪₴₦₱฿₿¢]"
    r"|USDT?|EUR|GBP|GBX|GBp|JPY|CHF|CAD|AUD|NZD|CNY|CNH|RMB|HKD|SGD|INR|KRW|TWD|BRL|MXN|ZAR|SEK|NOK|DKK|PLN|CZK|HUF|TRY"
    r"|RUB|ILS|THB|IDR|MYR|BTC|ETH|kr\.?|zł|Kč|Ft|Rs\.?|Fr\.?|TL|p)"
)
_EXPONENT = r"(?:[eE][+-]?\d+)?"
_GROUPED = {  # digits in groups of three, or of two before the last three as in India
    ".": r"(?:\d{1,3}(?:[ ']\d{3})+|\d{1,3}(?:,\d{3})+|\d{1,2}(?:,\d{2})+,\d{3}|\d+)",
    ",": r"(?:\d{1,3}(?:[ ']\d{3})+|\d{1,3}(?:\.\d{3})+|\d+)",
}
_NUMBER: dict[DecimalMark, re.Pattern[str]] = {
    mark: re.compile(
        rf"(?P<open>\()?\s*(?P<sign>[+-])?\s*{_CURRENCY}?\s*(?P<sign2>[+-])?\s*"
        rf"(?P<digits>{_GROUPED[mark]}(?:{re.escape(mark)}\d*)?{_EXPONENT}|{re.escape(mark)}\d+{_EXPONENT})"
        rf"\s*{_CURRENCY}?\s*(?P<percent>%|％)?\s*(?P<after>-)?\s*(?P<close>\))?"
    )
    for mark in (".", ",")
}
_PLAIN = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_INFINITE = re.compile(r"[+-]?inf(?:inity)?", re.IGNORECASE)
_MONTH = r"[^\W\d_]{3,12}\.?"
_WORD = re.compile(r"[^\W\d_年月日]{2,}")
_WORDS_OF_DATES = frozenset(["am", "pm", "utc", "gmt", "st", "nd", "rd", "th"]) | {
    day[:letters]
    for day in ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
    for letters in (3, 9)
}
_DATE_TEXT = re.compile(
    r"(?:"
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{4}[-/]\d{1,2}"  # 2020.01.31, 2020/1
    r"|\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d{2})"  # 31.01.2020, 1/31/20
    r"|\d{2}[-/]\d{1,2}[-/]\d{1,2}|\d{1,2}[-/]\d{4}"
    rf"|\d{{1,2}}(?:st|nd|rd|th)?[-/. ]*{_MONTH}[-/., ]*\d{{2,4}}"  # 31-Jan-20
    rf"|{_MONTH}[-/. ]*\d{{1,2}}(?:st|nd|rd|th)?[-/., ]+\d{{4}}"  # Jan 31, 2020
    rf"|{_MONTH}[-/. ']*\d{{2,4}}|\d{{4}}[-/ ]?{_MONTH}(?:[-/ ]?\d{{1,2}})?"  # Jan-20, 2020 Jan
    rf"|{_MONTH},? (?:{_MONTH} \d{{1,2}},?|\d{{1,2}}[- ]{_MONTH}) ?-?\d{{4}}"  # Friday, January 31 2020
    r"|\d{4}[-: ]?[QM]\d{1,2}|Q[1-4][-/' ]*(?:\d{4}|\d{2})|[1-4]Q[-/' ]?(?:\d{4}|\d{2})"  # 2020Q1, 2020M01
    r"|\d{4}年\d{1,2}月(?:\d{1,2}日)?"
    r")(?:[T ,]+\d{1,2}(?::\d{2}){1,2}(?:[.,]\d+)?\s*(?:[AaPp]\.?[Mm]\.?)?)?\s*(?:Z|UTC|GMT|[+-]\d{2}:?(?:\d{2})?)?"
)


class Numbers(NamedTuple):
    """A column as numbers.

    Attributes:
        values: (T,) float64, NaN where missing.
        bad: (T,) bool, cells that are neither a number nor missing.
        percent: (T,) bool, cells with a sign of per cent; their values are divided by 100.
    """

    values: np.ndarray
    bad: np.ndarray
    percent: np.ndarray


def is_missing(cell: Any) -> bool:
    """Whether a cell stands for a missing value."""
    if isinstance(cell, str):
        return cell.strip().lower() in MISSING_TEXTS
    if cell is None or cell is pd.NA or cell is pd.NaT:
        return True
    return isinstance(cell, float) and cell != cell


def as_number(cell: Any, decimal: DecimalMark | None = None) -> float | None:
    """The cell's value, NaN if it is missing, None if it is not a number (True and 1_000 are not).

    Args:
        cell: of a file or a frame.
        decimal: the mark before decimals; None for text as a program writes it, without groups, signs and units.
    """
    if isinstance(cell, str):
        return _parsed(cell, decimal)[0]
    if is_missing(cell):
        return np.nan
    if isinstance(cell, bool | np.bool_) or not isinstance(cell, numbers.Real | Decimal):
        return None
    try:
        return float(cell)
    except (ValueError, OverflowError):
        return None


def _parsed(text: str, decimal: DecimalMark | None) -> tuple[float | None, bool]:
    """A text's value, as `as_number` has it, and whether it has a sign of per cent."""
    text = text.translate(_SPACES).strip()
    if text.lower() in MISSING_TEXTS:
        return np.nan, False
    if _PLAIN.fullmatch(text) and (decimal != "," or "." not in text):
        return float(text), False
    if _INFINITE.fullmatch(text):
        return float(text), False
    match = _NUMBER[decimal].fullmatch(text.translate(_MINUS).replace("’", "'").replace("´", "'")) if decimal else None
    if match is None or (match["open"] is None) != (match["close"] is None):
        return None, False
    signs = [match["sign"], match["sign2"], match["after"], "-" if match["open"] else None]
    if sum(sign is not None for sign in signs) > 1:
        return None, False
    digits = match["digits"].replace(" ", "").replace("'", "")
    digits = digits.replace(",", "") if decimal == "." else digits.replace(".", "").replace(",", ".")
    value = float(digits) * (-1.0 if "-" in signs else 1.0)
    return (value / 100 if match["percent"] else value), match["percent"] is not None


def as_numbers(column: pd.Series, decimal: DecimalMark | None) -> Numbers:
    """A column's cells as numbers; see `as_number`."""
    types = pd.api.types
    n = len(column)
    none = np.zeros(n, bool)
    if types.is_numeric_dtype(column) and not (types.is_bool_dtype(column) or types.is_complex_dtype(column)):
        return Numbers(values=column.to_numpy(dtype=np.float64, na_value=np.nan), bad=none, percent=none)
    values, bad, percent = np.full(n, np.nan), np.zeros(n, bool), np.zeros(n, bool)
    for row, cell in enumerate(column.astype(object)):
        if isinstance(cell, str):
            value, percent[row] = _parsed(cell, decimal)
        else:
            value = as_number(cell, decimal)
        if value is None:
            bad[row] = True
        else:
            values[row] = value
    return Numbers(values=values, bad=bad, percent=percent)


def decimal_marks(columns: Iterable[pd.Series]) -> tuple[bool, bool, bool]:
    """Look for the decimal mark in the text of some columns.

    Returns:
        Whether a cell's comma can only be a decimal mark, whether a cell's point can only be one, and whether there is
        a comma at all.
    """
    comma = point = any_comma = False
    for column in columns:
        texts = [cell for cell in column if isinstance(cell, str)]
        joined = "\n".join(text.translate(_SPACES).strip().rstrip("%)").strip() for text in texts)
        any_comma = any_comma or "," in joined
        comma = comma or bool("," in joined and _only(",", joined))
        point = point or bool("." in joined and _only(".", joined))
    return comma, point, any_comma


def _only(mark: str, joined: str) -> bool:
    """Whether a line of the joined text has one mark that can only stand before decimals."""
    other = "." if mark == "," else ","
    for line in joined.split("\n"):
        if mark not in line or not any(character.isdigit() for character in line):
            continue
        head, _, tail = line.rpartition(mark)
        digits = re.match(r"\d*", tail)
        decimals = len(digits[0]) if digits else 0
        if mark in head or other in tail:
            continue
        if other in head or (decimals != 3 and (decimals > 0 or tail == "") and re.search(r"\d", line)):
            return True
        if decimals == 3 and re.fullmatch(r"\D*0?", head):  # 0,123 is no group of thousands
            return True
    return False


def to_numbers(column: pd.Series) -> pd.Series:
    """A column's plain numbers, NaN for every other cell."""
    return pd.Series(pd.to_numeric(column, errors="coerce"))


def is_number(cell: Any) -> bool:
    """Whether a cell is a number, in either way to write one."""
    if not isinstance(cell, str):
        value = as_number(cell)
        return value is not None and value == value
    if _PLAIN.fullmatch(cell):
        return True
    values = (_parsed(cell, mark)[0] for mark in _NUMBER)
    return any(value is not None and value == value for value in values)


def is_date(cell: Any) -> bool:
    """Whether a cell is a date, or text in the shape of one; a bare number such as 20200131 is not."""
    if isinstance(cell, str):
        text = cell.translate(_SPACES).strip()
        if len(text) < 5 or _DATE_TEXT.fullmatch(text) is None:
            return False
        return all(month_of(word) or word.casefold() in _WORDS_OF_DATES for word in _WORD.findall(text))
    return isinstance(cell, datetime.date | np.datetime64 | pd.Period) and cell is not pd.NaT


def holds(column: pd.Series) -> str:
    """What a column holds, by a sample of its cells: "number", "date", "text" or "nothing".

    A column of text with any number in it holds numbers: what is none there is at fault.
    """
    dtype: Any = column.dtype
    if isinstance(dtype, np.dtype) and dtype.kind in "fiu":
        return "nothing" if dtype.kind == "f" and np.isnan(column.to_numpy()).all() else "number"
    types = pd.api.types
    if types.is_datetime64_any_dtype(dtype) or isinstance(dtype, pd.PeriodDtype):
        return "date"
    if types.is_numeric_dtype(dtype) and not types.is_bool_dtype(dtype):
        return "number" if column.notna().any() else "nothing"
    step = max(1, len(column) // _SAMPLE)
    cells = [cell for cell in column.iloc[::step] if not is_missing(cell)]
    if not cells and step > 1:
        cells = [cell for cell in column if not is_missing(cell)]
    if not cells:
        return "nothing"
    if sum(map(is_date, cells)) > 0.6 * len(cells):
        return "date"
    return "number" if any(map(is_number, cells)) else "text"
