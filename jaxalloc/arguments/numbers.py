"""Numbers from callers: checked, or else an `InputError` of one line."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import literal

MOST_COUNT = 2**31 - 1  # programs hold counts, sizes and places as int32
MOST_RETURNS = 2**28  # of a panel that is simulated: 2 GiB in float64
_MAX_SEED = 2**32 - 1  # a larger seed would give another key with x64 off than with x64 on


def check_seed(seed: Any) -> int:
    """Return ``seed`` as an int; raise `InputError` unless it is a whole number from 0 to 2**32 - 1."""
    return whole_number("seed", seed, 0, _MAX_SEED)


def whole_number(name: str, value: Any, lowest: int, highest: int | None = None) -> int:
    """Return ``value`` as an int; raise `InputError` unless it is a whole number within the bounds.

    Args:
        name: of the argument, for the error.
        value: to check.
        lowest: the lowest number that is good.
        highest: the highest one; by default `MOST_COUNT`.
    """
    number = _index(value)
    if number is None or number < lowest or (highest is not None and number > highest):
        bounds = f"at least {lowest}" if highest is None else f"from {lowest} to {highest}"
        raise InputError(f"{name} must be a whole number {bounds}, not {literal(value)}")
    if highest is None:
        check_counts(**{name: number})
    return number


def check_counts(**counts: Any) -> None:
    """Raise `InputError` where a count is larger than `MOST_COUNT`; whether it is one at all is checked elsewhere."""
    for name, value in counts.items():
        if (_index(value) or 0) > MOST_COUNT:
            raise InputError(f"{name} must be at most 2**31 - 1, {MOST_COUNT:,}, not {literal(value)}")


def _index(value: Any) -> int | None:
    """A whole number as an int; None for anything else."""
    try:
        return None if isinstance(value, (bool, np.bool_)) else operator.index(value)
    except TypeError:
        return None


def one_number(name: str, value: Any) -> float:
    """Return ``value`` as a float; raise `InputError` unless it is one finite number."""
    array = finite_array(name, value)
    if array.ndim:
        raise InputError(f"{name} must be one number, not {literal(value)}")
    return float(array)


def finite_array(name: str, value: Any, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Return ``value`` as a float array; raise `InputError` unless it is finite and, if given, has the shape."""
    try:
        array = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise InputError(f"{name} must hold numbers, not {literal(value)}") from None
    if not np.isfinite(array).all():
        raise InputError(f"{name} must be finite")
    if shape is not None and array.shape != shape:
        raise InputError(f"{name} must have shape {shape}, not {array.shape}")
    return array


def plain(value: Any) -> Any:
    """Return a number as a Python number; None stays None."""
    return None if value is None else np.asarray(value).item()
