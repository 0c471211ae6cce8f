"""Checks of what a file says, before anything takes it for granted: the message names the field that does not fit.

A check takes a value and the path of its field, and raises `MisfitError` where the value is not what it should be.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

from jaxalloc.arguments.words import literal, quote, unquoted

_DEEPEST = 40  # objects and lists within each other; no file of ours has more than ten

Check = Callable[[Any, str], None]


class MisfitError(ValueError):
    """A field is not as it should be: the message names the field, and says what it should be."""


def from_json(data: bytes) -> Any:
    """Return the values of a text in JSON, in which every number is finite.

    Raises:
        ValueError: it is none, or is nested too deeply.
    """
    try:
        value = json.loads(data, parse_constant=_no_number, parse_float=_finite)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return value
    raise ValueError("nested too deeply")


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large")
    return value


def is_a(wanted: str, holds: Callable[[Any], bool]) -> Check:
    """Check that something holds of a value; ``wanted`` says what, after "must be"."""

    def check(value: Any, path: str) -> None:
        if not holds(value):
            raise MisfitError(f"{path} must be {wanted}, not {literal(value)}")

    return check


def whole(least: int = 0, most: float = math.inf) -> Check:
    """Check that a value is a whole number in a range."""
    wanted = f"a whole number of at least {least}" + ("" if most == math.inf else f" and at most {most}")
    return is_a(wanted, lambda value: isinstance(value, int) and value is not True and least <= value <= most)


def one_of(*choices: Any) -> Check:
    """Check that a value is one of some choices."""
    kinds = {(type(choice), choice) for choice in choices}
    words = " or ".join(map(literal, choices))
    return is_a(words, lambda value: isinstance(value, str | int | None) and (type(value), value) in kinds)


def or_null(inner: Check) -> Check:
    """Check a value unless it is null."""
    return lambda value, path: None if value is None else inner(value, path)


def list_of(inner: Check, count: int | None = None) -> Check:
    """Check a list's entries, and how many there are."""
    wanted = "a list" if count is None else f"a list of {count}"

    def check(value: Any, path: str) -> None:
        if not isinstance(value, list) or count not in (None, len(value)):
            raise MisfitError(f"{path} must be {wanted}, not {literal(value)}")
        for place, entry in enumerate(value):
            inner(entry, f"{path}[{place}]")

    return check


def entries(inner: Check, key: Callable[[str], bool] = lambda name: True, of: str = "") -> Check:
    """Check an object's entries, whose names ``key`` accepts; ``of`` says what a name must be the name of."""

    def check(value: Any, path: str) -> None:
        _object(value, path)
        for name, entry in value.items():
            if not key(name):
                raise MisfitError(f"{path}: {quote(name)} is no name of {of}")
            inner(entry, f"{path}.{unquoted(name, 60)}")

    return check


def fields(checks: Mapping[str, Check], *, optional: Collection[str] = (), others: bool = False) -> Check:
    """Check an object's fields: each is there unless it is optional, and there are no others unless there may be."""

    def check(value: Any, path: str) -> None:
        _object(value, path)
        for name, inner in checks.items():
            if name in value:
                inner(value[name], f"{path}.{name}" if path else name)
            elif name not in optional:
                raise MisfitError(f"{f'{path}.{name}' if path else name} is missing")
        for name in value:
            if name not in checks and not others:
                raise MisfitError(f"{f'{path}: ' if path else ''}{quote(name)} is no field of it")

    return check


def anything(value: Any, path: str) -> None:
    """Accept any value."""


def _object(value: Any, path: str) -> None:
    if not isinstance(value, dict):
        raise MisfitError(f"{path or 'it'} must be an object, not {literal(value)}")


TEXT = is_a("text", lambda value: isinstance(value, str))
TRUTH = is_a("true or false", lambda value: isinstance(value, bool))
NUMBER = is_a("a number", lambda value: isinstance(value, int | float) and not isinstance(value, bool))
SHA256 = is_a(
    "64 hexadecimal digits",
    lambda value: isinstance(value, str) and len(value) == 64 and not value.strip("0123456789abcdef"),
)
