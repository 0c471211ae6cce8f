"""Words for messages: every value on one line, quoted, shortened and counted in one way."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from typing import Any

_LONGEST_QUOTE, _LONGEST_TEXT, _LONGEST_REASON, _LONGEST_LINE = 60, 200, 120, 110
_INITIALS = ("hrp", "herc", "nco")  # profiles whose names are initials


def quote(value: object, longest: int = _LONGEST_QUOTE) -> str:
    """Return a value's text in quotes: on one line whatever it contains, and cut at the end where it is too long."""
    text = str(value)
    return repr(text if len(text) <= longest else text[: longest - 3] + "...")


def unquoted(value: object, longest: int | None = _LONGEST_TEXT) -> str:
    """Return a value as a message shows it without quotes, such as the path that a message begins with.

    Text and paths are shown with an escape for each character that would break the line. Of a long text the end is
    kept, because the end of a path says most. An empty text is shown as ``''``, any other value as `repr` has it.

    Args:
        value: text, a path, or any other value.
        longest: how many characters of a text are kept; None keeps all of them.
    """
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str) or not text:
        return repr(text)
    return repr(text if longest is None else text[-longest:])[1:-1]


def literal(value: object, longest: int = _LONGEST_QUOTE) -> str:
    """Return a value as Python writes it, such as ``5``, ``'average'`` or ``[1, 2]``: on one line, and cut if long."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python writes out no number of more than some thousand digits
        return f"{type(value).__name__} of too many digits"
    return text if len(text) <= longest else text[: longest - 3] + "..."


def reason(error: BaseException) -> str:
    """Say why an operation failed, on one line: in the operating system's words, or else in the error's own."""
    text = " ".join((getattr(error, "strerror", None) or str(error)).split())
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text[:_LONGEST_REASON].rstrip(".") or type(error).__name__


def cut(text: str, longest: int = _LONGEST_LINE) -> str:
    """Return a line of a summary, cut at its end where it is too long."""
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: 1 row, 1,000 rows."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listing(items: Iterable[str], shown: int = 5) -> str:
    """Return the first few items, and say how many more there are."""
    words = list(items)
    more = f" and {len(words) - shown:,} more" if len(words) > shown else ""
    return ", ".join(words[:shown]) + more


def joined(words: Sequence[str]) -> str:
    """Return words as a sentence lists them: a, b and c."""
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def lowered(sentence: str) -> str:
    """Return a sentence as it stands after a colon: its first letter in lower case."""
    return f"{sentence[:1].lower()}{sentence[1:]}"


def value_text(value: Any) -> str:
    """Write the value of a setting: a number in its shortest form, a choice as it is."""
    return str(value) if isinstance(value, (str, bool)) else f"{value:g}"


def plain_name(name: str) -> str:
    """Return the name of a profile or a setting in words; initials are in capitals."""
    return name.upper() if name in _INITIALS else name.replace("_", " ")


def point_name(names: Sequence[str], values: Sequence[Any]) -> str:
    """Return a point of a sweep's grid in words, empty where nothing is swept.

    Args:
        names: the settings swept.
        values: theirs at the point.

    Example:
        >>> point_name(("cluster_cap", "linkage"), (0.25, "ward"))
        'cluster cap 0.25, linkage ward'
    """
    return ", ".join(f"{plain_name(name)} {value_text(value)}" for name, value in zip(names, values, strict=True))


def trial_name(label: Any, names: Sequence[str] = ()) -> str:
    """Return the name of a trial, a profile at a point of a sweep's grid, in words.

    Args:
        label: of the trial in a frame: the profile, after the values of the settings swept if there are any.
        names: the settings swept.

    Example:
        >>> trial_name("max_sharpe"), trial_name((0.25, "hrp"), ("cluster_cap",))
        ('max sharpe', 'HRP at cluster cap 0.25')
    """
    *values, profile = label if isinstance(label, tuple) else (label,)
    return " at ".join(filter(None, (plain_name(str(profile)), point_name(names, values))))


def per_cent(value: float, digits: int, none: str) -> str:
    """Write a fraction in per cent, ``none`` where it is NaN or infinite; what rounds to zero has no sign."""
    return f"{100 * value:z.{digits}f} %" if math.isfinite(value) else none


def decimal(value: float, digits: int, none: str) -> str:
    """Write a number, ``none`` where it is NaN or infinite; what rounds to zero has no sign."""
    return f"{value:z.{digits}f}" if math.isfinite(value) else none
