"""How a program is made: compiled for one device, written as bytes, and loaded again.

Once loaded, never serialised
    A program that was loaded, by JAX's own cache too, serialises to one without its machine code. So JAX's cache is
    told not to keep these programs, and `serialised` gives none that has no code.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import sys
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import serialize_executable

from jaxalloc.engine.identity import digest
from jaxalloc.kernels.lanes.compiling import Emitter, compiler_options

Device = Any  # a `jax.Device`, which is no type to a type checker

_MAPS_OF_OBJECT = 3  # code, constants and data: 841 maps for 287 object files
_OBJECT_FILES = (b"\x7fELF", b"\xcf\xfa\xed\xfe")  # how an object file begins, on Linux and on macOS
_WIDE = frozenset(map(np.dtype, ("float64", "int64", "uint64", "complex128")))


class Stage(NamedTuple):
    """A program but for the shapes of its arguments.

    Attributes:
        name: of the program. It and what follows the function identify it: one function goes by one name.
        function: from arrays to a pytree of arrays, and a function of this package: what it reads besides its arguments
            must follow from ``static``.
        static: choices. On disk their `repr` stands for them: strings, numbers, enums, tuples of these.
        donate: positions of the arguments whose memory the results may take.
        emitter: what makes its kernels on a CPU; most stages look up and select more than they multiply.
    """

    name: str
    function: Callable[..., Any]
    static: Hashable = ()
    donate: tuple[int, ...] = ()
    emitter: Emitter = Emitter.ELEMENTS


class Request(NamedTuple):
    """A program that somebody wants.

    Attributes:
        key: what tells it apart in memory: its device, and then its family.
        stage: what it computes.
        arguments: pytrees of `jax.ShapeDtypeStruct`.
        device: what it is for.
    """

    key: tuple[Any, ...]
    stage: Stage
    arguments: tuple[Any, ...]
    device: Device

    @property
    def family(self) -> tuple[Any, ...]:
        """The key without the device: programs of a family are copies of each other."""
        return self.key[1:]


def key_of(stage: Stage, arguments: tuple[Any, ...], device: Device) -> tuple[Any, ...]:
    """What tells a program apart in memory; of the arguments structure, shapes and dtypes count."""
    leaves, tree = jax.tree.flatten(arguments)
    shapes, dtypes = tuple([leaf.shape for leaf in leaves]), tuple([leaf.dtype for leaf in leaves])
    return device, stage.name, stage.static, stage.donate, stage.emitter, tree, shapes, dtypes


def request(key: tuple[Any, ...], stage: Stage, arguments: tuple[Any, ...], device: Device) -> Request:
    """Return a request that holds no array."""
    structs = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), arguments)
    return Request(key=key, stage=stage, arguments=structs, device=device)


def key_on_disk(wanted: Request) -> bytes | None:
    """What tells a program apart in every process; None if nothing does."""
    device, name, static, donate, emitter, tree, shapes, dtypes = wanted.key
    choices = static, donate, emitter
    return digest(name, wanted.stage.function, choices, tree, list(zip(shapes, dtypes, strict=True)), device)


def compiled(wanted: Request) -> Callable[..., Any]:
    """Trace and compile a program, in float64 if and only if an argument has 64 bits.

    Raises:
        Exception: whatever tracing or compiling raises.
    """
    stage = wanted.stage

    def function(*arguments: Any) -> Any:  # a new one: what JAX keeps of a function goes with it
        return stage.function(*arguments)

    function.__name__ = function.__qualname__ = stage.name
    place = jax.sharding.SingleDeviceSharding(wanted.device)
    leaves = jax.tree.leaves(wanted.arguments)
    structs = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), wanted.arguments)
    with jax.enable_x64(any(leaf.dtype in _WIDE for leaf in leaves)), _unkept_by_jax():
        jitted = jax.jit(function, donate_argnums=stage.donate, compiler_options=compiler_options(stage.emitter))
        return jitted.lower(*structs).compile()


def _unkept_by_jax() -> contextlib.AbstractContextManager[Any]:
    """Within it JAX's own cache keeps nothing of this thread's, or every program would be on disk twice."""
    least_seconds = getattr(sys.modules.get("jax._src.config"), "persistent_cache_min_compile_time_secs", None)
    return contextlib.nullcontext() if least_seconds is None else least_seconds(1e9)  # JAX has no public way


def maps_of(content: bytes) -> int:
    """An estimate of the memory maps that a serialised program takes once it is loaded."""
    return _MAPS_OF_OBJECT * sum(map(content.count, _OBJECT_FILES))


def serialised(compiled: Any, device: Device) -> bytes | None:
    """A compiled program and the structure of its results, as bytes; None if it has no such form."""
    try:
        content, _, tree = serialize_executable.serialize(compiled)
        if device.platform == "cpu" and not maps_of(content):  # it has lost its code
            return None
        results = jax.tree.unflatten(tree, range(tree.num_leaves))  # a tree itself cannot be pickled
        return pickle.dumps((content, results))
    except Exception:  # not every kind of device, result or argument can be pickled: then it is compiled each time
        return None


def loaded(content: bytes, wanted: Request) -> Callable[..., Any]:
    """Load what `serialised` made onto the device.

    Raises:
        Exception: it does not load, or not there.
    """
    code, results = pickle.loads(content)
    given, made = jax.tree.structure((wanted.arguments, {})), jax.tree.structure(results)
    client = wanted.device.client
    try:
        program = serialize_executable.deserialize_and_load(
            code, given, made, backend=client, execution_devices=[wanted.device]
        )
    except KeyError:  # it was compiled for another device than this one
        program = _loaded_elsewhere(code, given, made, wanted.device)
    executable: Any = program.runtime_executable()
    runs_on = executable.local_devices()
    if runs_on != [wanted.device]:
        raise ValueError(f"the program runs on {runs_on}")
    return program


def _loaded_elsewhere(code: bytes, given: Any, made: Any, device: Device) -> jax.stages.Compiled:
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

    executable, infos, no_kwargs = Unpickler(io.BytesIO(code), device.client, [device]).load()
    return jax.stages.Compiled(executable.load(), [], given.unflatten(infos), made, no_kwargs=no_kwargs)
