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
Once loaded, never serialised
    A program that was loaded, by JAX's own cache too, serialises to one without its machine code. So JAX's cache is
    told not to keep these programs, and none is kept that has no code.
The end of the process
    A thread that is stopped inside XLA aborts the process. So the process waits at its end for programs that are
    being made at the moment, some seconds at most, and for none that wait for their turn.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import io
import itertools
import os
import pickle
import sys
import threading
import time
import weakref
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import serialize_executable

from jaxalloc.engine.identity import available_cores, digest
from jaxalloc.engine.kept import folder_in_use
from jaxalloc.kernels.lanes.compiling import Emitter, compiler_options

Device = Any  # a `jax.Device`, which is no type to a type checker

MOST_MAPS = 13_500  # memory maps of all programs in memory, of the 65,530 that Linux grants a process
MOST_PROGRAMS = 1_000  # where programs have no maps of their own
_MAPS_OF_OBJECT = 3  # code, constants and data: 841 maps for 287 object files
_MAPS_BEFORE_COUNT = 1_000  # of a program whose object files are not counted yet
_OBJECT_FILES = (b"\x7fELF", b"\xcf\xfa\xed\xfe")  # how an object file begins, on Linux and on macOS
_WIDE = frozenset(map(np.dtype, ("float64", "int64", "uint64", "complex128")))


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
        key: of the program in memory.
        family: the key without the device: one program of a family is made at a time, and others are copies of it.
        name: of the program.
        function: what it computes.
        donate: arguments that it may write over.
        emitter: what makes its kernels.
        arguments: their shapes.
        device: what it is for.
        future: the entry to come.
    """

    key: tuple[Any, ...]
    family: tuple[Any, ...]
    name: str
    function: Callable[..., Any]
    donate: tuple[int, ...]
    emitter: Emitter
    arguments: tuple[Any, ...]
    device: Device
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

    def program(
        self,
        name: str,
        function: Callable[..., Any],
        *,
        arguments: tuple[Any, ...],
        device: Device,
        static: Hashable = (),
        donate: tuple[int, ...] = (),
        emitter: Emitter = Emitter.FUSIONS,
    ) -> Callable[..., Any]:
        """Return a function compiled for the shapes of its arguments, once it is there.

        Call it in the precision for which it is made (with `jax.enable_x64` on if an argument has 64 bits), with arrays
        of NumPy, or of JAX on the program's device.

        Args:
            name: of the program. It and ``static`` identify it: one function goes by one name.
            function: from arrays to a pytree of arrays, and a function of this package: what it reads besides its
                arguments must follow from ``static``.
            arguments: pytrees of arrays or `jax.ShapeDtypeStruct`; only structure, shapes and dtypes count.
            device: what to compile for. Another device of the same kind gets a copy.
            static: choices. On disk their `repr` stands for them: strings, numbers, enums, tuples of these.
            donate: positions of the arguments whose memory the results may take.
            emitter: what makes its kernels on a CPU.

        Raises:
            Exception: whatever tracing or compiling raises.
        """
        key = _key(name, arguments, device, static, donate, emitter)
        entry = self._entries.get(key)
        if entry is None:
            job = self._ask(key, function, arguments, urgent=True)
            if not self._threads and not job.future.done():  # none could be started, as at the end of the process
                self._work()
            entry = job.future.result()
        else:
            self._hits += 1
        entry.used = next(self._clock)
        return entry.call

    def prefetch(
        self,
        name: str,
        function: Callable[..., Any],
        *,
        arguments: tuple[Any, ...],
        device: Device,
        static: Hashable = (),
        donate: tuple[int, ...] = (),
        emitter: Emitter = Emitter.FUSIONS,
    ) -> None:
        """Have a program made in the background, after those asked for before; see `program`, which raises its errors.

        A program that is waited for goes before all those.
        """
        key = _key(name, arguments, device, static, donate, emitter)
        if key not in self._entries and not self._ending:
            self._ask(key, function, arguments, urgent=False)

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
        self, key: tuple[Any, ...], function: Callable[..., Any], arguments: tuple[Any, ...], urgent: bool
    ) -> _Job:
        """Return the job of making a program, a new one if there is none."""
        device, name, _, donate, emitter, *_ = key
        with self._change:
            job = self._jobs.get(key)
            if job is None:
                job = _Job(
                    key=key,
                    family=key[1:],
                    name=name,
                    function=function,
                    donate=donate,
                    emitter=emitter,
                    arguments=jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), arguments),
                    device=device,
                    future=Future(),
                )
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
                entry, keep = self._make(job)
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
                    self._bound(job.key)
            del job, entry, keep
            if not self._jobs:
                _give_back_memory()

    def _next_job(self) -> _Job | None:
        with self._change:
            job = next((job for job in self._queue if job.family not in self._in_work), None)
            if job is None:
                self._threads.discard(threading.current_thread())
                return None
            self._queue.remove(job)
            self._in_work.add(job.family)
            return job

    def _finish(self, job: _Job) -> None:
        with self._change:
            self._in_work.discard(job.family)
            del self._jobs[job.key]
            if self._queue:  # jobs that waited for this one
                self._start_thread()

    def _add(self, job: _Job, entry: _Entry) -> None:
        entry.used = next(self._clock)
        with self._change:
            self._entries[job.key] = entry
        self._bound(job.key)

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

    def _make(self, job: _Job) -> tuple[_Entry, Callable[[], None] | None]:
        """Load or compile a program; also what is to be done once its caller has it, if anything is."""
        folder = folder_in_use()
        key = None if folder is None else _key_on_disk(job)
        kept = None if folder is None or key is None else folder.read(key)
        loaded = None if kept is None else self._load(job, kept)
        if loaded is None and (other := self._sibling(job)) is not None:
            loaded = self._load(job, other)
        if loaded is not None:
            return loaded, None
        start = time.perf_counter()
        with self._change:
            self._compiling += 1
        try:
            compiled = _compile(job)
        finally:
            with self._change:
                self._compiling -= 1
        with self._change:
            self._compiled += 1
            self._compile_seconds += time.perf_counter() - start
        entry = _Entry(compiled, True, _MAPS_BEFORE_COUNT if job.device.platform == "cpu" else 0)

        def keep() -> None:
            content = _serialised(compiled, job.device)
            if job.device.platform == "cpu" and content is not None:
                entry.maps = _maps(content)
            if folder is not None and key is not None and content is not None:
                folder.write(key, content)

        return entry, keep

    def _load(self, job: _Job, content: bytes) -> _Entry | None:
        """Load a program onto the device; None if it cannot be."""
        start = time.perf_counter()
        try:
            call = _loaded(content, job)
        except Exception:  # whatever a broken entry does: it is compiled anew, and replaced
            return None
        with self._change:
            self._loaded += 1
            self._load_seconds += time.perf_counter() - start
        return _Entry(call, False, _maps(content) if job.device.platform == "cpu" else 0)

    def _sibling(self, job: _Job) -> bytes | None:
        """The program as it was compiled for another device, serialised; None if there is none."""
        with self._change:
            entries = [entry for key, entry in self._entries.items() if key[1:] == job.family]
        compiled = next((entry.call for entry in entries if entry.is_compiled), None)
        return None if compiled is None else _serialised(compiled, job.device)


def _key(
    name: str,
    arguments: tuple[Any, ...],
    device: Device,
    static: Hashable,
    donate: tuple[int, ...],
    emitter: Emitter,
) -> tuple[Any, ...]:
    """What tells a program apart in memory: its device, and then its family."""
    leaves, tree = jax.tree.flatten(arguments)
    shapes, dtypes = tuple([leaf.shape for leaf in leaves]), tuple([leaf.dtype for leaf in leaves])
    return device, name, static, donate, emitter, tree, shapes, dtypes


def _compile(job: _Job) -> Callable[..., Any]:
    def function(*arguments: Any) -> Any:  # a new one: what JAX keeps of a function goes with it
        return job.function(*arguments)

    function.__name__ = function.__qualname__ = job.name
    place = jax.sharding.SingleDeviceSharding(job.device)
    leaves = jax.tree.leaves(job.arguments)
    structs = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), job.arguments)
    with jax.enable_x64(any(leaf.dtype in _WIDE for leaf in leaves)), _unkept_by_jax():
        jitted = jax.jit(function, donate_argnums=job.donate, compiler_options=compiler_options(job.emitter))
        return jitted.lower(*structs).compile()


def _unkept_by_jax() -> contextlib.AbstractContextManager[Any]:
    """Within it JAX's own cache keeps nothing of this thread's, or every program would be on disk twice."""
    least_seconds = getattr(sys.modules.get("jax._src.config"), "persistent_cache_min_compile_time_secs", None)
    return contextlib.nullcontext() if least_seconds is None else least_seconds(1e9)  # JAX has no public way


def _key_on_disk(job: _Job) -> bytes | None:
    device, _, static, donate, emitter, tree, shapes, dtypes = job.key
    choices = static, donate, emitter
    return digest(job.name, job.function, choices, tree, list(zip(shapes, dtypes, strict=True)), device)


def _maps(content: bytes) -> int:
    """An estimate of the memory maps that a serialised program takes once it is loaded."""
    return _MAPS_OF_OBJECT * sum(map(content.count, _OBJECT_FILES))


def _serialised(compiled: Any, device: Device) -> bytes | None:
    """A compiled program and the structure of its results, as bytes; None if it has no such form."""
    try:
        content, _, tree = serialize_executable.serialize(compiled)
        if device.platform == "cpu" and not _maps(content):  # it has lost its code
            return None
        results = jax.tree.unflatten(tree, range(tree.num_leaves))  # a tree itself cannot be pickled
        return pickle.dumps((content, results))
    except Exception:  # not every kind of device, result or argument can be pickled: then it is compiled each time
        return None


def _loaded(content: bytes, job: _Job) -> Callable[..., Any]:
    """Load what `_serialised` made."""
    serialised, results = pickle.loads(content)
    given, made = jax.tree.structure((job.arguments, {})), jax.tree.structure(results)
    client = job.device.client
    try:
        loaded = serialize_executable.deserialize_and_load(
            serialised, given, made, backend=client, execution_devices=[job.device]
        )
    except KeyError:  # it was compiled for another device than this one
        loaded = _loaded_elsewhere(serialised, given, made, job.device)
    executable: Any = loaded.runtime_executable()
    runs_on = executable.local_devices()
    if runs_on != [job.device]:
        raise ValueError(f"the program runs on {runs_on}")
    return loaded


def _loaded_elsewhere(serialised: bytes, given: Any, made: Any, device: Device) -> jax.stages.Compiled:
    """`deserialize_and_load`, with a device in place of the one that the program was compiled for.

    JAX has no public way. Where this way fails, the program is compiled once for each device.
    """
    unpickler: Any = serialize_executable._JaxPjrtUnpickler  # type: ignore[attr-defined]
    compiler: Any = sys.modules["jax._src.compiler"]
    place = compiler.get_compile_options(num_replicas=1, num_partitions=1, device_assignment=np.array([[device.id]]))

    class Unpickler(unpickler):
        def persistent_load(self, pid: Any) -> Any:
            if pid[0] == "device":
                return device
            if pid[0] == "exec":
                return self.backend.deserialize_executable(pid[1], self.execution_devices, place)
            return super().persistent_load(pid)

    executable, infos, no_kwargs = Unpickler(io.BytesIO(serialised), device.client, [device]).load()
    return jax.stages.Compiled(executable.load(), [], given.unflatten(infos), made, no_kwargs=no_kwargs)


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
