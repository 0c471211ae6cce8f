"""Shapes and types of the arrays that a file holds, checked before they are used."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from jaxalloc.storage.schema import MisfitError

_WORDS = {"b": "truth values", "i": "whole numbers", "f": "numbers"}
Wanted = tuple[str, tuple[int | None, ...]]  # the kind of its type, and its shape; None for any size


def check_arrays(arrays: Mapping[str, np.ndarray], wanted: Mapping[str, Wanted]) -> None:
    """Raise `MisfitError` where an array is missing, or has another kind or shape; there may be others."""
    for name, (kind, shape) in wanted.items():
        array = arrays.get(name)
        if array is None:
            raise MisfitError(f"{name} is missing")
        fits = len(array.shape) == len(shape) and all(
            size in (None, actual) for size, actual in zip(shape, array.shape, strict=True)
        )
        if array.dtype.kind != kind or not fits:
            sizes = ", ".join("any" if size is None else str(size) for size in shape)
            raise MisfitError(
                f"{name} must be {_WORDS[kind]} of the shape ({sizes}), not {array.dtype} of the shape {array.shape}"
            )
