"""Arrays as callers give them: NumPy, JAX (traced too), lists and pandas; anything else is an `InputError`."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jaxalloc.arguments.errors import InputError


def cast(array: Any, dtype: Any) -> np.ndarray:
    """Return what `as_array` gave as a NumPy array of a dtype, float as wide as JAX's x64 mode says."""
    with np.errstate(over="ignore"):  # what float32 has no number for becomes infinite, and is told by its status
        return np.asarray(array).astype(jax.dtypes.canonicalize_dtype(dtype), copy=False)


def to_device(array: Any, dtype: Any) -> jax.Array:
    """Return what `as_array` gave as a JAX array of a dtype, float as wide as JAX's x64 mode says.

    NumPy's arrays are cast by NumPy: JAX would compile a program for it.
    """
    return jax.numpy.asarray(cast(array, dtype) if isinstance(array, np.ndarray) else array, dtype)


def as_array(name: str, value: Any, kinds: str = "biuf") -> Any:
    """Return ``value`` as a NumPy array, or as it is where it is a JAX array.

    Args:
        name: what the caller calls it, for the error.
        value: array-like.
        kinds: NumPy's letters of the kinds of numbers that will do: b bool, i and u whole, f real.

    Returns:
        The array, of whatever dtype and shape it came in.

    Raises:
        InputError: it is ragged, or holds something else than such numbers.
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
