"""Memory that is used again: new pages would have to be zeroed, and threads of one process wait for each other then."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

_ALIGNMENT = 64  # bytes: XLA copies what begins elsewhere, as NumPy's arrays do, and reads these where they are


class Room:
    """Spare arrays of one stream of work."""

    def __init__(self) -> None:
        """Start with none."""
        self._spare: dict[Any, list[Any]] = {}

    def on_host(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """An array of NumPy that a CPU's programs read without a copy; what it holds is old, or 0.

        It must stay as it is until the program that reads it has finished.
        """
        spare = self._taken((shape, np.dtype(dtype), None))
        return _aligned(shape, np.dtype(dtype)) if spare is None else spare

    def on_device(self, shape: tuple[int, ...], dtype: Any, device: Any) -> jax.Array:
        """An array of JAX that a program may be given to write over; what it holds is old, or 0."""
        spare = self._taken((shape, np.dtype(dtype), device))
        return jax.device_put(np.zeros(shape, dtype), device) if spare is None else spare

    def give_back(self, array: Any, device: Any = None) -> None:
        """Take an array that nothing reads any more."""
        self._spare.setdefault((array.shape, np.dtype(array.dtype), device), []).append(array)

    def _taken(self, key: Any) -> Any:
        try:
            return self._spare[key].pop()
        except (KeyError, IndexError):
            return None


def _aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    size = int(np.prod(shape)) * dtype.itemsize
    room = np.zeros(size + _ALIGNMENT, np.uint8)
    first = -room.ctypes.data % _ALIGNMENT
    return room[first : first + size].view(dtype).reshape(shape)
