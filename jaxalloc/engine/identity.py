"""What a compiled program depends on, as a key that is the same in every process that would compile the same code.

A kept program is machine code. Whatever may change that code is part of the key: this package's sources, the versions
of what traces and compiles them, the settings of both, and the machine.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import platform
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

import jax
import jaxlib.version

from jaxalloc._version import __version__

FORMAT = 1  # of the key and of what is kept under it

_SOURCES = ("kernels", "portfolios", "engine", "universes", "settings", "arguments")  # packages that programs are of
_TRACERS = ("jaxopt", "numpy")  # what tracing runs besides JAX

# Parts of the names of JAX's settings that change no program, and that differ between processes for reasons of their
# own. Any other setting is part of the key, those of later versions of JAX too: a program compiled once too often costs
# time only. Whether float64 is on follows from the arguments.
_IDLE = (
    *("cache", "log", "debug", "traceback", "dump", "leak", "enable_checks", "guard", "profile", "explain", "x64"),
    *("platform", "default_device", "num_cpu_devices", "visible_devices", "coordination", "distributed", "cluster"),
    *("no_execution", "pgle", "raise_persistent", "collect", "thread"),
)
_IDLE_FLAGS = ("--xla_dump", "--xla_force_host_platform_device_count")  # of XLA, likewise


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def digest(
    name: str,
    function: Callable[..., Any],
    choices: Hashable,
    tree: Any,
    avals: Sequence[tuple[tuple[int, ...], Any]],
    device: Any,
) -> bytes | None:
    """Return the key of a program in any process; None if a part of it is known in this process only.

    Args:
        name: of the program.
        function: what it computes.
        choices: static values, whose `repr` tells them apart.
        tree: structure of the arguments.
        avals: shapes and dtypes of their leaves.
        device: kind of device to compile for.
    """
    inner = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    words = [
        name,
        inner.__module__,
        inner.__qualname__,
        repr(choices),
        str(tree),
        repr([(s, str(d)) for s, d in avals]),
    ]
    if any(" at 0x" in word for word in words):  # an object that is told apart by its address
        return None
    return hashlib.sha256("\0".join([*words, *_surroundings(device)]).encode()).digest()


def _surroundings(device: Any) -> list[str]:
    """What matters besides the program itself."""
    # `compiler_options` follows from the sources, jaxlib's version and the platform, and takes a while to find out
    return [
        *_versions(),
        *_machine(),
        device.platform,
        device.device_kind,
        device.client.platform_version,
        *_settings(),
    ]


@functools.cache
def _versions() -> tuple[str, ...]:
    others = [f"{name} {_version(name)}" for name in _TRACERS]
    return (str(FORMAT), __version__, _sources(), jax.__version__, jaxlib.version.__version__, *others)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _sources() -> str:
    """A hash of this package's sources, as far as programs are made of them; empty where there are no such files."""
    package, total = Path(__file__).parents[1], hashlib.sha256()
    for folder in _SOURCES:
        for path in sorted((package / folder).rglob("*.py")):
            try:
                content = path.read_bytes()
            except OSError:
                continue
            total.update(f"{path.relative_to(package).as_posix()}\0{len(content)}\0".encode())
            total.update(content)
    return total.hexdigest()


@functools.cache
def _machine() -> tuple[str, ...]:
    """The processor, and how many of its cores XLA shares work out to."""
    return (
        f"{platform.system()} {platform.machine()} {platform.processor()}",
        *_processor(),
        f"{available_cores()} cores of {os.environ.get('PJRT_NPROC', 'all')}",
    )


def _processor() -> list[str]:
    """Model and instruction sets of the first processor, where the system tells them."""
    telling = ("vendor_id", "model name", "flags", "Features", "CPU implementer", "CPU part")
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n", 1)[0]
    except OSError:
        return []
    return [line for line in first.splitlines() if line.startswith(telling)]


def _settings() -> list[str]:
    """Settings of XLA and JAX that change programs: those of the process, since programs are made in own threads."""
    flags = (flag for flag in os.environ.get("XLA_FLAGS", "").split() if not flag.startswith(_IDLE_FLAGS))
    values = (
        f"{name}={value!r}"
        for name, value in sorted(jax.config.values.items())
        if (value is None or isinstance(value, (bool, int, float, str))) and not any(part in name for part in _IDLE)
    )
    return [*sorted(flags), *values]
