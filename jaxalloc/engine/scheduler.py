"""The scheduler: chunks of universes, their parts on each device, and the tiles that they pass through."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxalloc.arguments.arrays import cast
from jaxalloc.arguments.numbers import whole_number
from jaxalloc.engine.shapes import cluster_buckets, tiles
from jaxalloc.engine.stages import Items, Shared, Work, buffer_shapes, empty_buffers, programs, share_returns
from jaxalloc.kernels.lanes.backend import Backend, backend_of
from jaxalloc.markets.holes import Gaps, weigh_gaps
from jaxalloc.portfolios.allocation import split_profiles
from jaxalloc.portfolios.estimates import Estimates
from jaxalloc.portfolios.result import Allocation
from jaxalloc.settings.config import NUMERIC_FIELDS, AllocationConfig, cast_config
from jaxalloc.universes.universe import Draw

Device = Any  # a `jax.Device`, which is no type to a type checker


# a call of the program that solves: clusters to pad to, slots (turns, lanes), and how many of the turns are taken
Call = tuple[int | None, np.ndarray, int]

_MOST_STREAMS = 4  # parts that a CPU works on at once: each has buffers of its own


def compute_devices() -> list[Device]:
    """Return the local devices that universes are shared out to: all, unless `jax.default_device` chooses."""
    chosen = jax.config.values["jax_default_device"]
    if chosen is None or isinstance(chosen, str):
        return jax.local_devices(backend=chosen)
    return [chosen]


def _streams(devices: list[Device]) -> list[Device]:
    """The devices; a lone CPU several times, since most programs use one core, and parts then run side by side."""
    if len(devices) > 1 or devices[0].platform != "cpu":
        return devices
    return devices * min(available_cores(), _MOST_STREAMS)


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Part(NamedTuple):
    """The universes of a chunk that one device has.

    Attributes:
        count: how many; the buffers are longer.
        rows: how many slots come to the host.
        device: where they are.
        left_out: buffer of `Work.left_out`.
        results: buffers of `Allocation`.
    """

    count: int
    rows: int
    device: Device
    left_out: Array
    results: Allocation


class Chunk:
    """Universes that the devices work on, or have solved."""

    def __init__(self, parts: list[Future[Part | None]], stop: threading.Event) -> None:
        """Take the parts to come, in order, each None where the work on it was stopped; and the event that stops it."""
        self._parts, self._stop = parts, stop

    @property
    def parts(self) -> list[Part]:
        """The parts, in order, once they are solved; a device may still be working on the last universes of each.

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

    def cancel(self) -> None:
        """Stop the work, and wait until it has stopped; solved parts stay."""
        self._stop.set()
        for part in self._parts:
            part.cancel()
        wait(self._parts)

    def allocations(self) -> Iterator[Allocation]:
        """Yield the parts' results as NumPy arrays; a CPU's are not copied."""
        for part in self.parts:
            is_full = part.rows == len(part.results.status)
            filled = part.results if is_full else _head(part.results, part.rows)
            for leaf in jax.tree.leaves(filled):
                leaf.copy_to_host_async()  # all are under way before the first is waited for
            yield jax.tree.map(lambda leaf, n=part.count: np.asarray(leaf)[:n], filled)

    def allocation(self) -> Allocation:
        """Return the results as NumPy arrays, leading axis C."""
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *self.allocations())


class Engine:
    """Settings, panel and draws on the devices, ready for chunk after chunk of universes.

    Attributes:
        config: settings with cast numbers.
        chunk_size: universes of a chunk at most.
        tiles: how many are computed together.
        buckets: the sizes that clusters are padded to.
        devices: what computes, each one a part of a chunk at a time.
        backend: their kind.
        programs: the tiles' functions, made here before several threads ask for them.
        shared: what all universes have in common, on each of them.
        threads: one for each device, which sends it its work in order.
        spare: buffers of estimates that are free once a device's last part is done, by the device's number.
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
        backend: Backend | None = None,
    ) -> None:
        """Take checked settings.

        Args:
            shape: (T, N) of a universe's returns.
            config: settings of universes that come with no other numbers.
            chunk_size: universes in work at once, rounded up to whole tiles.
            panel: (T, N) returns that universes share; NaN where missing.
            draws: how universes are drawn from their numbers, and
            key: from which seed.
            gaps: of the panel, where some may count as returns of 0; by default none may.
            keep_left_out: whether `Work.left_out` is wanted.
            backend: the kind of device to compile for; by default that of the devices.
        """
        self.dtype = jnp.asarray(0.0).dtype
        self.config = cast_config(config, self.dtype)
        self.n_assets = shape[1]
        self.devices = _streams(compute_devices())
        self.programs = programs()
        weighed = weigh_gaps(panel, 0.0) if gaps is None and draws is not None and panel is not None else gaps
        shared = Shared(
            panel=None if panel is None else share_returns(cast(panel, float)),
            gaps=None if weighed is None else jnp.asarray(weighed.weight, self.dtype),
            max_missing=None if weighed is None else jnp.asarray(weighed.max_missing, self.dtype),
            draws=draws,
            key=key,
        )
        first = self.devices[0]
        self.backend = backend_of(first.platform) if backend is None else backend
        memory = None if first.platform == "cpu" else (first.memory_stats() or {}).get("bytes_limit")
        table = 0 if shared.panel is None else shared.panel.outer.nbytes
        self.tiles = tiles(self.n_assets, self.dtype, self.backend, memory, table)
        self.buckets = cluster_buckets(self.n_assets)
        wanted = self.tiles.capacity * len(self.devices) if chunk_size is None else chunk_size
        self.chunk_size = self.tiles.estimate * -(-whole_number("chunk_size", wanted, 1) // self.tiles.estimate)
        self._rows_left_out = shape[0] if keep_left_out else 0
        placed = {device: jax.device_put(shared, device) for device in set(self.devices)}
        self.shared = [placed[device] for device in self.devices]
        self.threads = [ThreadPoolExecutor(1) for _ in self.devices]
        # a finished part leaves its buffers to the next one of its device: new pages would have to be zeroed
        self.spare: dict[int, Estimates] = {}

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
        count = len(jax.tree.leaves(items)[0])
        tile, n_devices = self.tiles.estimate, len(self.devices)
        each = min(tile * -(-count // (tile * n_devices)), self.tiles.capacity)  # universes of a part
        settings = self._settings(numbers or {}, count)
        stop, turn = threading.Event(), threading.Lock()

        def report(count: int) -> None:
            if progress is not None:
                with turn:
                    progress(count)

        def compute(device: int, part: slice) -> Part | None:
            try:
                with jax.enable_x64(self.dtype == np.float64):  # a thread has settings of its own
                    return _PartRun(self, device, part, items, settings).compute(each, report, stop)
            except BaseException:
                stop.set()
                raise

        parts: list[Future[Part | None]] = []
        for number, first in enumerate(range(0, count, each)):
            device = number % n_devices
            parts.append(self.threads[device].submit(compute, device, slice(first, min(first + each, count))))
        return Chunk(parts, stop)

    def _settings(self, numbers: dict[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
        """Every number of the settings, (C,) each."""
        defaults = {name: np.asarray(getattr(self.config, name)) for name in NUMERIC_FIELDS}
        return {
            name: np.asarray(numbers[name]).astype(default.dtype) if name in numbers else np.full(count, default)
            for name, default in defaults.items()
        }


class _PartRun:
    """One device's part of a chunk, on its way through the tiles."""

    def __init__(self, engine: Engine, device: int, part: slice, items: Items, settings: dict[str, np.ndarray]) -> None:
        self.engine, self.number = engine, device
        self.device, self.shared = engine.devices[device], engine.shared[device]
        self.count = part.stop - part.start
        # every slot holds some universe, so that the idle lanes of a tile compute what is harmless
        capacity = engine.tiles.capacity
        self.rows = _round_up(self.count, capacity) if engine.backend is Backend.ACCELERATOR else capacity
        source = np.minimum(np.arange(part.start, part.start + self.rows), part.stop - 1)
        kinds = {"index": np.int32, "weights": engine.dtype, "mask": bool, "returns": engine.dtype}
        fields = {name: getattr(items, name) for name in kinds}
        sources = {
            name: None if values is None else np.asarray(values)[source].astype(kinds[name])
            for name, values in fields.items()
        }
        numbers = {name: values[source] for name, values in settings.items()}
        sent = jax.device_put((Items(**sources), numbers), self.device)
        self.items, config = sent if self.rows == capacity else _lengthened(sent, capacity)
        self.config = engine.config.replace(**config)
        work, results = buffer_shapes(self.shared, self.items, self.config, engine._rows_left_out, engine.backend)
        estimates = engine.spare.pop(device, None)
        self.work = Work(estimates=estimates or self._buffers(work.estimates), left_out=self._buffers(work.left_out))
        self.results = self._buffers(results)

    def _buffers(self, shapes: Any) -> Any:
        return jax.device_put(empty_buffers(shapes, self.engine.tiles.capacity), self.device)

    def compute(self, each: int, progress: Callable[[int], None], stop: threading.Event) -> Part | None:
        """Compute the part, or give up once ``stop`` is set; ``each`` is how many slots parts have in use."""
        draw = self.engine.tiles.draw
        for start in range(0, each, draw):
            if stop.is_set():
                return None
            self._estimate(start, min(draw, each - start))
        pending: tuple[Array, bool] | None = None
        clustered, direct = map(bool, split_profiles(self.engine.config.profiles))
        calls = [*(self._in_order() if direct else ()), *(self._assign() if clustered else ())]
        for n_clusters, lanes, count in calls:
            if stop.is_set():
                return None
            self.results, solved = self.engine.programs.solve(
                self.engine.backend,
                n_clusters,
                self.engine.tiles.observe,
                self.config,
                self.work.estimates,
                self.results,
                lanes,
                np.int32(count),
            )
            if pending is not None:  # the device works on these tiles while the last ones are waited for
                _wait(*pending, progress)
            pending = solved, n_clusters is not None or not clustered  # the last that a universe waits for
        if pending is not None:
            _wait(*pending, progress)
        self.engine.spare[self.number] = self.work.estimates
        return Part(
            count=self.count,
            rows=self.rows,
            device=self.device,
            left_out=self.work.left_out,
            results=self.results,
        )

    def _estimate(self, start: int, count: int) -> None:
        """Fill so many slots from ``start`` on, no more than are drawn at once."""
        tiles = self.engine.tiles
        self.work = self.engine.programs.estimate(
            self.engine.backend,
            tiles.draw,
            tiles.observe,
            self.shared,
            self.items,
            self.config,
            self.work,
            np.int32(start),
            np.int32(count),
        )

    def _assign(self) -> Iterator[Call]:
        """Share out the slots over solve tiles of the size that each one's number of clusters is padded to."""
        bucket_of = np.searchsorted(self.engine.buckets, np.asarray(self.work.estimates.n_clusters)[: self.count])
        for bucket, n_clusters in enumerate(self.engine.buckets):
            for lanes, count in self._fill(np.flatnonzero(bucket_of == bucket), n_clusters):
                yield n_clusters, lanes, count

    def _in_order(self) -> Iterator[Call]:
        """Share out the slots over the solve tiles of profiles for which the number of clusters does not matter."""
        return ((None, *filled) for filled in self._fill(np.arange(self.count), self.engine.n_assets))

    def _fill(self, members: np.ndarray, n_clusters: int) -> Iterator[tuple[np.ndarray, int]]:
        """Fill tiles with slots, as many as one call goes through; and say how many that are."""
        tiles = self.engine.tiles
        size, turns = tiles.solve[n_clusters], tiles.turns[n_clusters]
        for start in range(0, len(members), size * turns):
            part = members[start : start + size * turns]
            lanes = np.full(size * turns, tiles.capacity, np.int32)  # past the end where there is nothing to solve
            lanes[: len(part)] = part
            yield lanes.reshape(turns, size), -(-len(part) // size)


def _round_up(count: int, most: int) -> int:
    """The next power of two, at most ``most``.

    A part of an accelerator has hundreds of thousands of slots. With few lengths of what goes to them and comes back,
    few universes cost little, and few programs are compiled.
    """
    return min(1 << (count - 1).bit_length(), most)


@functools.partial(jax.jit, static_argnums=1)
def _lengthened(leaves: Any, rows: int) -> Any:
    """The arrays with their last row repeated."""
    return jax.tree.map(lambda leaf: leaf[jnp.minimum(jnp.arange(rows), len(leaf) - 1)], leaves)


@functools.partial(jax.jit, static_argnums=1)
def _head(leaves: Any, rows: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[:rows], leaves)


def _wait(solved: Array, last: bool, progress: Callable[[int], None]) -> None:
    count = int(solved)
    if last:
        progress(count)
