"""The programs of this process: compiled or loaded once, kept in memory and on disk, and bounded in number.

A program is a function compiled for the shapes of its arguments and for one device. `program` returns it; `prefetch`
has it made in the background, so that what is needed soon compiles while the first programs run. Both look in memory,
then on disk (`jaxalloc.engine.kept`), where a program loads in a twentieth of the time that it takes to trace and
compile. Else they compile it, with this package's options, and keep it for the next process.

Programs are made in threads of their own, as many as there are cores. So JAX's settings for a caller's thread do not
reach them, and one key gives one program: float64 is on where an argument has 64 bits, and whatever else is set for the
process counts when the program is made. XLA lets go of the interpreter, so that programs compile and load side by side.

What a program costs
    On a CPU each kernel is an object file in three memory maps of its own, some 840 in a program that takes 3.5 s to
    compile, and Linux grants a process 65,530. So the programs in memory that were not used for longest are dropped
    where all of them have more than `MOST_MAPS`. A thread that still runs one has it to the end.
What a call costs
    As much as that of a jitted function: 10 µs, and 1 µs for each array. `program` itself takes 2 to 10 µs.
The end of the process
    A thread that is stopped inside XLA aborts the process. So the process waits at its end for programs that are
    being made at the moment, some seconds at most, and for none that wait for their turn.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import itertools
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple

from jaxalloc.engine.identity import available_cores
from jaxalloc.engine.kept import folder_in_use
from jaxalloc.engine.making import (
    Device,
    Request,
    Stage,
    compiled,
    key_of,
    key_on_disk,
    loaded,
    maps_of,
    request,
    serialised,
)

MOST_MAPS = 13_500  # memory maps of all programs in memory, of the 65,530 that Linux grants a process
MOST_PROGRAMS = 1_000  # where programs have no maps of their own
_MAPS_BEFORE_COUNT = 1_000  # of a program whose object files are not counted yet


class Statistics(NamedTuple):
    """What a registry has done.

    Attributes:
        compiled: programs traced and compiled.
        loaded: programs loaded from disk, or from the same program on another device.
        hits: requests for a program that was there.
        dropped: programs dropped because there were too many.
        current: programs in memory.
        maps: memory maps that they are estimated to have.
        compile_seconds: time spent tracing and compiling, over all threads.
        load_seconds: time spent loading, likewise.
    """

    compiled: int
    loaded: int
    hits: int
    dropped: int
    current: int
    maps: int
    compile_seconds: float
    load_seconds: float


class _Entry:
    """A program in memory."""

    __slots__ = ("call", "is_compiled", "maps", "used")

    def __init__(self, call: Callable[..., Any], is_compiled: bool, maps: int) -> None:
        self.call, self.is_compiled, self.maps, self.used = call, is_compiled, maps, 0


class _Job(NamedTuple):
    """A program that is to be made.

    Attributes:
        wanted: which; one program of a family is made at a time.
        future: the entry to come.
    """

    wanted: Request
    future: Future[_Entry]


class Registry:
    """Programs in memory, and the threads that make them. The process has one; tests make their own."""

    def __init__(self) -> None:
        """Start with no program and no thread."""
        self._entries: dict[tuple[Any, ...], _Entry] = {}
        self._jobs: dict[tuple[Any, ...], _Job] = {}  # queued or in work
        self._queue: list[_Job] = []
        self._in_work: set[tuple[Any, ...]] = set()  # families
        self._threads: set[threading.Thread] = set()
        self._change = threading.RLock()
        self._clock = itertools.count(1)
        self._compiling = 0
        self._compiled = self._loaded = self._hits = self._dropped = 0
        self._compile_seconds = self._load_seconds = 0.0
        self._ends_with_process = self._ending = False

    def program(self, stage: Stage, arguments: tuple[Any, ...], device: Device) -> Callable[..., Any]:
        """Return a stage compiled for the shapes of its arguments, once it is there.

        Call it in the precision for which it is made (with `jax.enable_x64` on if an argument has 64 bits), with arrays
        of NumPy, or of JAX on the program's device.

        Args:
            stage: what to compile.
            arguments: pytrees of arrays or `jax.ShapeDtypeStruct`; only structure, shapes and dtypes count.
            device: what to compile for. Another device of the same kind gets a copy.

        Raises:
            Exception: whatever tracing or compiling raises.
        """
        key = key_of(stage, arguments, device)
        entry = self._entries.get(key)
        if entry is None:
            job = self._ask(key, stage, arguments, device, urgent=True)
            if not self._threads and not job.future.done():  # none could be started, as at the end of the process
                self._work()
            entry = job.future.result()
        else:
            self._hits += 1
        entry.used = next(self._clock)
        return entry.call

    def prefetch(self, stage: Stage, arguments: tuple[Any, ...], device: Device) -> None:
        """Have a program made in the background, after those asked for before; see `program`, which raises its errors.

        A program that is waited for goes before all those.
        """
        key = key_of(stage, arguments, device)
        if key not in self._entries and not self._ending:
            self._ask(key, stage, arguments, device, urgent=False)

    def busy(self) -> int:
        """Return how many programs are being compiled at the moment."""
        return self._compiling

    def statistics(self) -> Statistics:
        """Return what was done so far."""
        with self._change:
            return Statistics(
                compiled=self._compiled,
                loaded=self._loaded,
                hits=self._hits,
                dropped=self._dropped,
                current=len(self._entries),
                maps=sum(entry.maps for entry in self._entries.values()),
                compile_seconds=self._compile_seconds,
                load_seconds=self._load_seconds,
            )

    def settle(self) -> None:
        """Wait until no program is being made, waits to be, or is still to be written to the disk."""
        while threads := list(self._threads):
            for thread in threads:
                thread.join()

    def end(self) -> None:
        """Forget the programs that wait for their turn, make no more, and wait for those being made."""
        with self._change:
            self._ending = True
            self._queue.clear()
        self.settle()

    def clear(self) -> None:
        """Drop every program from memory; those on disk stay."""
        with self._change:
            self._entries = {}

    def _ask(
        self, key: tuple[Any, ...], stage: Stage, arguments: tuple[Any, ...], device: Device, urgent: bool
    ) -> _Job:
        """Return the job of making a program, a new one if there is none."""
        with self._change:
            job = self._jobs.get(key)
            if job is None:
                job = _Job(wanted=request(key, stage, arguments, device), future=Future())
                if (entry := self._entries.get(key)) is not None:  # it has come meanwhile
                    job.future.set_result(entry)
                    return job
                self._jobs[key] = job
                self._queue.append(job)
                self._start_thread()
            if urgent and job in self._queue:
                self._queue.remove(job)
                self._queue.insert(0, job)
            return job

    def _start_thread(self) -> None:
        """Start one more thread, unless there are enough, or the process has no room for it or is at its end."""
        if len(self._threads) >= available_cores() or self._ending:
            return
        if not self._ends_with_process:
            self._ends_with_process = True
            atexit.register(_end, weakref.ref(self), os.getpid())
        # no thread that the process would wait for at its end: `end` waits for no longer than it must
        thread = threading.Thread(target=self._work, name="jaxalloc programs", daemon=True)
        self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError:
            self._threads.discard(thread)

    def _work(self) -> None:
        """Make programs until none is left that this thread could make."""
        while (job := self._next_job()) is not None:
            entry, keep = None, None
            try:
                entry, keep = self._make(job.wanted)
            except BaseException as error:
                self._finish(job)
                job.future.set_exception(error)
            else:
                self._add(job, entry)
                self._finish(job)
                job.future.set_result(entry)
                if keep is not None:
                    with contextlib.suppress(Exception):  # the program is there: what else fails, only costs time
                        keep()
                    self._bound(job.wanted.key)
            del job, entry, keep
            if not self._jobs:
                _give_back_memory()

    def _next_job(self) -> _Job | None:
        with self._change:
            job = next((job for job in self._queue if job.wanted.family not in self._in_work), None)
            if job is None:
                self._threads.discard(threading.current_thread())
                return None
            self._queue.remove(job)
            self._in_work.add(job.wanted.family)
            return job

    def _finish(self, job: _Job) -> None:
        with self._change:
            self._in_work.discard(job.wanted.family)
            del self._jobs[job.wanted.key]
            if self._queue:  # jobs that waited for this one
                self._start_thread()

    def _add(self, job: _Job, entry: _Entry) -> None:
        entry.used = next(self._clock)
        with self._change:
            self._entries[job.wanted.key] = entry
        self._bound(job.wanted.key)

    def _bound(self, newest: tuple[Any, ...]) -> None:
        """Drop the programs that were not used for longest, where there are too many; not the newest."""
        dropped = []
        with self._change:
            maps = sum(entry.maps for entry in self._entries.values())
            oldest = sorted(self._entries, key=lambda key: self._entries[key].used)
            for key in oldest:
                if maps <= MOST_MAPS and len(self._entries) <= MOST_PROGRAMS:
                    break
                if key != newest:
                    entry = self._entries.pop(key)
                    maps -= entry.maps
                    dropped.append(entry)
            self._dropped += len(dropped)
        # here the last reference goes, and with it the program, unless a thread still runs it

    def _make(self, wanted: Request) -> tuple[_Entry, Callable[[], None] | None]:
        """Load or compile a program; also what is to be done once its caller has it, if anything is."""
        folder = folder_in_use()
        key = None if folder is None else key_on_disk(wanted)
        content = None if folder is None or key is None else folder.read(key)
        entry = None if content is None else self._load(wanted, content)
        if entry is None and (other := self._sibling(wanted)) is not None:
            entry = self._load(wanted, other)
        if entry is not None:
            return entry, None
        start = time.perf_counter()
        with self._change:
            self._compiling += 1
        try:
            call = compiled(wanted)
        finally:
            with self._change:
                self._compiling -= 1
        with self._change:
            self._compiled += 1
            self._compile_seconds += time.perf_counter() - start
        on_cpu = wanted.device.platform == "cpu"
        entry = new = _Entry(call, True, _MAPS_BEFORE_COUNT if on_cpu else 0)

        def keep() -> None:
            content = serialised(call, wanted.device)
            if on_cpu and content is not None:
                new.maps = maps_of(content)
            if folder is not None and key is not None and content is not None:
                folder.write(key, content)

        return entry, keep

    def _load(self, wanted: Request, content: bytes) -> _Entry | None:
        """Load a program onto the device; None if it cannot be."""
        start = time.perf_counter()
        try:
            call = loaded(content, wanted)
        except Exception:  # whatever a broken entry does: it is compiled anew, and replaced
            return None
        with self._change:
            self._loaded += 1
            self._load_seconds += time.perf_counter() - start
        return _Entry(call, False, maps_of(content) if wanted.device.platform == "cpu" else 0)

    def _sibling(self, wanted: Request) -> bytes | None:
        """The program as it was compiled for another device, serialised; None if there is none."""
        with self._change:
            entries = [entry for key, entry in self._entries.items() if key[1:] == wanted.family]
        call = next((entry.call for entry in entries if entry.is_compiled), None)
        return None if call is None else serialised(call, wanted.device)


def _give_back_memory() -> None:
    """Return to the system what XLA took to compile: glibc would keep it, 50 to 200 MiB a program."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # other C libraries have no such function
            ctypes.CDLL(None).malloc_trim(0)


def _end(registry: weakref.ref[Registry], process: int) -> None:
    there = registry()
    if there is not None and os.getpid() == process:  # a forked process has none of the threads
        there.end()


_OF_PROCESS = Registry()
program, prefetch = _OF_PROCESS.program, _OF_PROCESS.prefetch
busy, statistics = _OF_PROCESS.busy, _OF_PROCESS.statistics
settle, clear = _OF_PROCESS.settle, _OF_PROCESS.clear
