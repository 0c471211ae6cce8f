"""One device at work: what all that runs on it has in common, and calls of programs that stop when asked."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxalloc.engine.drawing import Drawing
from jaxalloc.engine.making import Stage
from jaxalloc.engine.programs import prefetch, program
from jaxalloc.engine.room import Room
from jaxalloc.engine.shapes import Sizes
from jaxalloc.engine.shared import Shared
from jaxalloc.engine.stages import needs_room
from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.settings.config import AllocationConfig


class StoppedError(Exception):
    """The work was asked to stop."""


class Work(NamedTuple):
    """What all parts on a device have in common.

    Attributes:
        device: a `jax.Device`.
        backend: its kind.
        dtype: float32 or float64.
        config: settings with cast numbers, of which the choices count here.
        n_rows: T.
        n_assets: N.
        sizes: canonical sizes.
        panel: what universes share; None where every one has returns of its own.
        drawing: None where universes are not drawn.
        keep_left_out: whether the rows that a universe does not hold are wanted.
        sensitivities: whether what the portfolios hang on is wanted.
        scalar: whether scalar kernels compute what they can.
        room: memory that parts use one after the other.
    """

    device: Any
    backend: Backend
    dtype: np.dtype
    config: AllocationConfig
    n_rows: int
    n_assets: int
    sizes: Sizes
    panel: Shared | None
    drawing: Drawing | None
    keep_left_out: bool
    sensitivities: bool
    scalar: bool
    room: Room

    def shape_of_covariances(self) -> jax.ShapeDtypeStruct | None:
        """The shape of a group's covariances, where stages are given room for them; else None."""
        size, assets = self.sizes.group, self.sizes.assets
        return jax.ShapeDtypeStruct((size, assets, assets), self.dtype) if needs_room(size, self.sizes.few) else None

    def room_for_covariances(self) -> jax.Array | None:
        """Room for a group's covariances, where stages are given any; else None."""
        wanted = self.shape_of_covariances()
        return None if wanted is None else self.room.on_device(wanted.shape, self.dtype, self.device)

    def give_back(self, covariances: Any) -> None:
        """Let the next group have a group's covariances."""
        if isinstance(covariances, np.ndarray):
            self.room.give_back(covariances)
        elif needs_room(self.sizes.group, self.sizes.few):
            self.room.give_back(covariances, self.device)


class Calls:
    """Calls of programs on a device, until an event says stop."""

    def __init__(self, device: Any, stop: threading.Event) -> None:
        """Take the device and the event."""
        self._device, self._stop = device, stop

    def run(self, stage: Stage, *arguments: Any) -> Any:
        """Run a stage's program.

        Raises:
            StoppedError: the event was set.
        """
        self.check()
        return program(stage, arguments, self._device)(*arguments)

    def check(self) -> None:
        """Go on, unless the event was set.

        Raises:
            StoppedError: it was.
        """
        if self._stop.is_set():
            raise StoppedError

    def prefetch(self, stage: Stage, *arguments: Any) -> None:
        """Have a stage's program made, which is needed soon; of the arguments the shapes count."""
        prefetch(stage, arguments, self._device)
