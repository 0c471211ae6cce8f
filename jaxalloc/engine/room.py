"""Memory that is used again: new pages would have to be zeroed, and threads of one process wait for each other then."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

_ALIGNMENT = 64  # bytes: XLA copies what begins elsewhere, as NumPy's arrays do, and reads these where they are


_KEPT_BYTES = 2**25  # of the spare arrays that a room keeps for the next call


class Room:
    """Spare arrays of one stream of work."""

    def __init__(self) -> None:
        """Start with none."""
        self._spare: dict[Any, list[Any]] = {}

    def shrink(self) -> None:
        """Keep 32 MiB of the spare arrays, the large ones first."""
        left, spare = _KEPT_BYTES, self._spare
        if sum(array.nbytes for arrays in spare.values() for array in arrays) <= left:
            return
        self._spare = {}
        for key, arrays in sorted(spare.items(), key=lambda item: -item[1][0].nbytes if item[1] else 0):
            for array in arrays:
                if array.nbytes <= left:
                    left -= array.nbytes
                    self._spare.setdefault(key, []).append(array)

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


_IDLE: list[Room] = []  # of calls that have returned
_MOST_IDLE = 4


def idle_room() -> Room:
    """A room that no call uses, with what the last one left in it."""
    try:
        return _IDLE.pop()
    except IndexError:
        return Room()


def leave(rooms: Iterable[Room]) -> None:
    """Let later calls have the rooms of one that has returned."""
    for room in rooms:
        room.shrink()
        if len(_IDLE) < _MOST_IDLE:
            _IDLE.append(room)
