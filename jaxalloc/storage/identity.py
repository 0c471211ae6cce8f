"""The identity of a stored study, compared with the one that it is to be resumed with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import unquoted

_HASH = re.compile(r"[0-9a-f]{32,}")
_MOST_DIFFERENCES, _LONGEST_VALUE = 6, 60
_ABSENT = object()  # stands for an entry that is not there


def check_identity(then: dict[str, Any], now: dict[str, Any], name: str) -> None:
    """Raise `InputError` where a study's identity and the one that it is to have now differ; it names the differences.

    Args:
        then: the identity in the study's manifest.
        now: the identity wanted.
        name: the study's folder, as messages show it.
    """
    differences = list(_differences(then, now, ""))
    if differences:
        shown, more = differences[:_MOST_DIFFERENCES], len(differences) - _MOST_DIFFERENCES
        if more > 0:
            shown.append(f"and {more} more")
        raise InputError(
            f"{name} was made with other settings: {', '.join(shown)}; take the same ones, choose another folder, "
            "or replace it with fresh=True"
        )


def _differences(then: Any, now: Any, path: str) -> Iterator[str]:
    """Name every entry that differs, with both values."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key in then | now:
            inner = f"{path}.{unquoted(key)}" if path else unquoted(key)
            yield from _differences(then.get(key, _ABSENT), now.get(key, _ABSENT), inner)
    elif then != now or isinstance(then, bool) != isinstance(now, bool):
        one, other = _text(then), _text(now)
        if one == other:  # such as 1 and "1"
            one, other = repr(then), repr(now)
        same = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
        yield f"{path} {_shortened(one, same)} (now {_shortened(other, same)})"


def _text(value: Any) -> str:
    return "absent" if value is _ABSENT else unquoted(value, longest=None)


def _shortened(text: str, same: int) -> str:
    """The text, or a part of a long one: the beginning of a hash, and else where the text begins to differ."""
    if _HASH.fullmatch(text) and same < 8:
        return f"{text[:8]}..."
    start = max(0, same - 10) if len(text) > _LONGEST_VALUE else 0
    stop = start + _LONGEST_VALUE
    return ("..." if start else "") + text[start:stop] + ("..." if stop < len(text) else "")
