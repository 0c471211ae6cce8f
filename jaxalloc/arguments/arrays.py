"""Arrays from callers: NumPy's, JAX's (traced ones too), lists and pandas; anything else is an `InputError`."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jaxalloc.arguments.errors import InputError


def cast(array: Any, dtype: Any) -> np.ndarray:
    """Return an array from `as_array` as a NumPy array of a dtype; a float is as wide as JAX's x64 mode says."""
    with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, and the status INVALID says so
        return np.asarray(array).astype(jax.dtypes.canonicalize_dtype(dtype), copy=False)


def to_device(array: Any, dtype: Any) -> jax.Array:
    """Return an array from `as_array` as a JAX array of a dtype; a float is as wide as JAX's x64 mode says.

    NumPy casts its own arrays, because JAX would compile a program to do so.
    """
    return jax.numpy.asarray(cast(array, dtype) if isinstance(array, np.ndarray) else array, dtype)


def as_array(name: str, value: Any, kinds: str = "biuf") -> Any:
    """Return ``value`` as a NumPy array; a JAX array is returned as it is.

    Args:
        name: the argument's name, for the error.
        value: array-like.
        kinds: NumPy's letters of the kinds of numbers that are accepted: b bool, i and u whole, f real.

    Returns:
        The array, with the dtype and the shape that it came in.

    Raises:
        InputError: it is ragged, or it holds something other than such numbers.
    """
    try:
        array = value if isinstance(value, jax.Array) else np.asarray(value)
    except (TypeError, ValueError):
        raise InputError(f"{name} is ragged: its rows must all have the same length") from None
    if not isinstance(array, jax.Array) and array.dtype.kind == "O":  # Decimals, or a frame of mixed columns
        try:
            array = array.astype(float)
        except (TypeError, ValueError):
            raise InputError(f"{name} must hold numbers, and holds something else") from None
    kind = "f" if jax.numpy.issubdtype(array.dtype, jax.numpy.floating) else np.dtype(array.dtype).kind
    if kind not in kinds:
        wanted = "numbers" if "f" in kinds else "whole numbers"
        raise InputError(f"{name} must hold {wanted}, not {array.dtype}")
    return array
