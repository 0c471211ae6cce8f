"""The scheduler: chunks of universes, and their parts on each device.

An `Engine` is settings, a panel and draws on the devices. `Engine.start` divides a chunk into parts of whole groups,
and gives each device's thread its share; `jaxalloc.engine.flow` takes a part through the stages. A CPU has a thread for
each core and one more, up to four, since programs use one core. Which universes make a part changes no universe's bits.
"""

from __future__ import annotations

import copy
import functools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from jaxalloc.arguments.arrays import cast
from jaxalloc.arguments.numbers import whole_number
from jaxalloc.engine.calls import StoppedError, Work
from jaxalloc.engine.drawing import drawing_of
from jaxalloc.engine.flow import PartRun
from jaxalloc.engine.identity import available_cores
from jaxalloc.engine.room import idle_room, leave
from jaxalloc.engine.scalar import is_by_universe, is_scalar
from jaxalloc.engine.shapes import sizes_of
from jaxalloc.engine.shared import keep, share
from jaxalloc.engine.stages import Items, draw_group
from jaxalloc.kernels.lanes.backend import Backend, backend_of, setting
from jaxalloc.markets.holes import Gaps, weigh_gaps
from jaxalloc.portfolios.result import Allocation
from jaxalloc.portfolios.sensitivity import Sensitivities
from jaxalloc.settings.config import NUMERIC_FIELDS, AllocationConfig, cast_config
from jaxalloc.universes import scenarios
from jaxalloc.universes.universe import Draw

Device = Any  # a `jax.Device`, which is no type to a type checker


_MOST_STREAMS = 4  # parts that a CPU works on at once: each has buffers of its own
# of a part's universes at least, where a call waits for it: a millisecond and a half. To start a thread for less, which
# has nothing in its cache, takes longer than it saves
_PART_ASSETS = 2000


def compute_devices() -> list[Device]:
    """Return the local devices that universes are shared out to: all, unless `jax.default_device` chooses."""
    chosen = setting("jax_default_device")
    if chosen is None or isinstance(chosen, str):
        return jax.local_devices(backend=chosen)
    return [chosen]


def _streams(devices: list[Device]) -> list[Device]:
    """The devices; a lone CPU several times, since programs use one core, and parts then run side by side.

    That is once more than there are cores: a thread that waits for the interpreter leaves its core to another.
    """
    if len(devices) > 1 or devices[0].platform != "cpu":
        return devices
    return devices * min(available_cores() + 1, _MOST_STREAMS)


class Part(NamedTuple):
    """The universes of a chunk that one device has had.

    Attributes:
        count: how many; the arrays are longer.
        device: where they were computed.
        left_out: (capacity, T) bool, the rows that a universe does not hold; (capacity, 0) where they are not wanted.
        results: leading axis of the capacity of a part.
        sensitivities: (capacity, P, N) each, what the portfolios hang on; None where it is not wanted.
    """

    count: int
    device: Device
    left_out: np.ndarray
    results: Allocation
    sensitivities: Sensitivities | None


class _Events(NamedTuple):
    """Events that are set together."""

    events: list[Any]

    def set(self) -> None:
        for event in self.events:
            event.set()


class Chunk:
    """Universes that the devices work on, or have solved."""

    def __init__(self, parts: list[Future[Part | None]], stop: threading.Event | _Events) -> None:
        """Take the parts to come, in order, each None where the work on it was stopped; and the event that stops it."""
        self._parts, self._stop = parts, stop

    @property
    def parts(self) -> list[Part]:
        """The parts, in order, once they are solved.

        An error in one of the parts, or an interruption of the wait, stops the others and is raised.

        Raises:
            CancelledError: `cancel` was called before they were.
        """
        try:
            parts = [part.result() for part in self._parts]
        except BaseException:  # such as Ctrl-C, which comes to the thread that waits
            self.cancel()
            raise
        solved = [part for part in parts if part is not None]
        if len(solved) < len(parts):
            raise CancelledError
        return solved

    @staticmethod
    def of(chunks: list[Chunk]) -> Chunk:
        """Several chunks as one; what stops one of them stops all."""
        if len(chunks) == 1:
            return chunks[0]
        return Chunk([part for chunk in chunks for part in chunk._parts], _Events([chunk._stop for chunk in chunks]))

    def cancel(self) -> None:
        """Stop the work, and wait until it has stopped; solved parts stay."""
        self._stop.set()
        for part in self._parts:
            part.cancel()
        wait(self._parts)

    def allocations(self) -> Iterator[Allocation]:
        """Yield the parts' results as NumPy arrays."""
        for part in self.parts:
            yield jax.tree.map(lambda leaf, n=part.count: leaf[:n], part.results)

    def allocation(self) -> Allocation:
        """Return the results as NumPy arrays, leading axis C."""
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *self.allocations())


class Engine:
    """Settings, panel and draws on the devices, ready for chunk after chunk of universes.

    Attributes:
        config: settings with cast numbers.
        n_rows: T of a universe.
        n_assets: N.
        sizes: canonical sizes, and how many universes are computed together.
        chunk_size: universes of a chunk at most.
        devices: what computes, each one a part of a chunk at a time.
        backend: their kind.
        works: what all parts on a device have in common, for each device.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        config: AllocationConfig,
        chunk_size: int | None = None,
        *,
        panel: np.ndarray | None = None,
        draws: tuple[Draw, ...] | None = None,
        key: Array | None = None,
        gaps: Gaps | None = None,
        keep_left_out: bool = False,
        sensitivities: bool = False,
        backend: Backend | None = None,
    ) -> None:
        """Take checked settings.

        Args:
            shape: (T, N) of a universe's returns.
            config: settings of universes that come with no other numbers.
            chunk_size: universes in work at once, rounded up to whole groups.
            panel: (T, N) returns that universes share; NaN where missing.
            draws: how universes are drawn from their numbers, and
            key: from which seed.
            gaps: of the panel, where some may count as returns of 0; by default none may.
            keep_left_out: whether `Part.left_out` is wanted.
            sensitivities: whether `Part.sensitivities` is wanted.
            backend: the kind of device to compile for; by default that of the devices.
        """
        self.dtype = np.dtype("float64" if setting("jax_enable_x64") else "float32")
        self.config = cast_config(config, self.dtype, np.asarray)
        self.n_rows, self.n_assets = shape
        self.devices = _streams(compute_devices())
        first = self.devices[0]
        self.backend = backend_of(first.platform) if backend is None else backend
        drawing = None
        if draws is not None:
            assert panel is not None
            assert key is not None
            drawing = drawing_of(draws, key, weigh_gaps(panel, 0.0) if gaps is None else gaps, self.dtype)
            if draws and draws[0].kernel.__module__ == scenarios.__name__:
                draw = functools.partial(draw_group, kernels=drawing.kernels, rows=None, assets=None)
                drawn = jax.eval_shape(draw, drawing.numbers, jax.ShapeDtypeStruct((1,), np.int32))
                if drawn.returns is not None:  # simulated, of any length
                    panel, self.n_rows = None, drawn.weights.shape[1]
        memory = None if first.platform == "cpu" else (first.memory_stats() or {}).get("bytes_limit")
        own_returns = panel is None
        self.sizes = sizes_of(
            (self.n_rows, self.n_assets),
            self.dtype,
            self.backend,
            memory,
            own_returns=own_returns,
            simulated=own_returns and drawing is not None,
        )
        wanted = self.sizes.capacity * len(self.devices) if chunk_size is None else chunk_size
        self.chunk_size = self.sizes.group * -(-whole_number("chunk_size", wanted, 1) // self.sizes.group)
        shared = None
        if panel is not None:
            shared = share(cast(panel, float).astype(self.dtype, copy=False), self.sizes.assets, self.devices)
        scalar = is_scalar(self.backend)
        self.works = [
            Work(
                device=device,
                backend=self.backend,
                dtype=self.dtype,
                config=self.config,
                n_rows=self.n_rows,
                n_assets=self.n_assets,
                sizes=self.sizes,
                panel=shared,
                drawing=drawing,
                keep_left_out=keep_left_out,
                sensitivities=sensitivities,
                scalar=scalar,
                room=idle_room(),
            )
            for device in self.devices
        ]
        self._threads: list[ThreadPoolExecutor] = []
        self._first = 0  # device of the next chunk's first part

    def with_choices(self, config: AllocationConfig) -> Engine:
        """Return an engine with the same panel, draws and devices, and with other settings of as many profiles."""
        other = copy.copy(self)
        other.config = cast_config(config, self.dtype, np.asarray)
        other.works = [work._replace(config=other.config) for work in self.works]
        self._threads = self._threads or [ThreadPoolExecutor(1) for _ in self.devices]
        other._threads = self._threads  # a device's universes follow each other, whichever engine they are of
        return other

    def start(
        self,
        items: Items,
        numbers: dict[str, np.ndarray] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Chunk:
        """Begin to allocate one chunk of universes, after those begun before; return at once.

        No device waits for another, nor for the reader of the results, as long as a chunk is begun before the last one
        is waited for.

        Args:
            items: C universes, at most ``chunk_size``.
            numbers: settings by name, (C,) each, in place of those of ``config``.
            progress: called with the number of universes done since the last call, in the threads that compute.
        """
        count, group = len(jax.tree.leaves(items)[0]), self.sizes.group
        # of whole groups, and with results of one shape: that is what is made of a study's universes
        each = min(group * -(-count // (group * len(self.devices))), self.sizes.capacity)
        return self._begin(items, numbers, progress, each, self.sizes.capacity)

    def _begin(
        self,
        items: Items,
        numbers: dict[str, np.ndarray] | None,
        progress: Callable[[int], None] | None,
        each: int,
        capacity: int,
    ) -> Chunk:
        """`start`, in parts of ``each`` universes whose results have room for ``capacity``."""
        count, n_devices = len(jax.tree.leaves(items)[0]), len(self.devices)
        settings = self._settings(numbers or {}, count)
        stop, turn = threading.Event(), threading.Lock()
        self._threads = self._threads or [ThreadPoolExecutor(1) for _ in self.devices]

        def report(count: int) -> None:
            if progress is not None:
                with turn:
                    progress(count)

        def compute(device: int, part: slice) -> Part | None:
            try:
                return self._compute(device, part, capacity, items, settings, stop, report)
            except BaseException:
                stop.set()
                raise

        parts: list[Future[Part | None]] = []
        for number, first in enumerate(range(0, count, each)):
            device = (self._first + number) % n_devices
            parts.append(self._threads[device].submit(compute, device, slice(first, min(first + each, count))))
        self._first = (self._first + len(parts)) % n_devices  # small chunks, too, go to all devices in turn
        return Chunk(parts, stop)

    def finish(
        self, items: Items, numbers: dict[str, np.ndarray] | None = None, progress: Callable[[int], None] | None = None
    ) -> Allocation:
        """`start`, and wait. What one device computes at once is computed in this thread: to start one takes longer."""
        count, group, n_devices = len(jax.tree.leaves(items)[0]), self.sizes.group, len(self.devices)
        each = group * -(-count // (group * n_devices))
        if is_by_universe(self.works[0]):  # a part may have any number of universes
            n_parts = min(n_devices, available_cores(), count * self.n_assets // _PART_ASSETS)
            each = -(-count // max(n_parts, 1))
        each = min(each, count, self.sizes.capacity)
        if count > each or self._threads:
            return self._begin(items, numbers, progress, each, each).allocation()
        settings, progress = self._settings(numbers or {}, count), progress or (lambda _: None)
        part = self._compute(0, slice(0, count), count, items, settings, threading.Event(), progress)
        assert part is not None
        return part.results

    def leave(self) -> None:
        """Let later engines have the memory of this one, whose work is done and which starts no other."""
        leave(work.room for work in self.works)
        shared = self.works[0].panel
        if shared is not None:
            keep(shared)

    def one(self, items: Items) -> Allocation:
        """Allocate a batch of one, in this thread."""
        part = self._compute(0, slice(0, 1), 1, items, self._settings({}, 1), threading.Event(), lambda _: None)
        assert part is not None
        return jax.tree.map(lambda leaf: leaf[0], part.results)

    def _compute(
        self,
        device: int,
        part: slice,
        capacity: int,
        items: Items,
        settings: dict[str, np.ndarray],
        stop: threading.Event,
        progress: Callable[[int], None],
    ) -> Part | None:
        with jax.enable_x64(self.dtype == np.float64):  # a thread has settings of its own
            try:
                made = PartRun(self.works[device], items, part, capacity, settings, stop, progress).compute()
            except StoppedError:
                return None
        return Part(count=part.stop - part.start, device=self.devices[device], **made._asdict())

    def _settings(self, numbers: dict[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
        """Every number of the settings, (C,) each."""
        defaults = {name: np.asarray(getattr(self.config, name)) for name in NUMERIC_FIELDS}
        return {
            name: np.asarray(numbers[name]).astype(default.dtype) if name in numbers else np.full(count, default)
            for name, default in defaults.items()
        }
