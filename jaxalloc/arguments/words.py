"""Words for messages: everything on one line, quoted and counted in one way."""

from __future__ import annotations

import re
from collections.abc import Iterable


def quote(value: object) -> str:
    """Quoted on one line whatever it contains, and not too long."""
    text = str(value)
    return repr(text if len(text) <= 60 else text[:57] + "...")


def first_line(error: BaseException) -> str:
    """A foreign error's message on one line, not too long."""
    return re.sub(r"\s+", " ", str(error)).strip()[:120].rstrip(".") or type(error).__name__


def counted(number: int, noun: str) -> str:
    """A number with its noun: 1 row, 1,000 rows."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listing(items: Iterable[str], shown: int = 5) -> str:
    """The first few items, and how many more there are."""
    words = list(items)
    more = f" and {len(words) - shown:,} more" if len(words) > shown else ""
    return ", ".join(words[:shown]) + more
