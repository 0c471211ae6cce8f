"""How scalar kernels are compiled: by numba, without the interpreter's lock, and kept on disk for the next process."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import config, njit
from numba.core.caching import FunctionCache
from numba.core.cpu import CPUTargetOptions
from numba.core.event import Event, Listener, register

if not hasattr(CPUTargetOptions, "_nrt"):  # which is not among what numba promises to keep
    raise ImportError("this version of numba has no kernels that leave out its counting of arrays")
if getattr(config, "DISABLE_JIT", False):
    raise ImportError("NUMBA_DISABLE_JIT is set, which leaves kernels to the interpreter")

# Who makes arrays says so: else a function takes over from its first caller whether it may.
_MAKING: dict[str, Any] = {"nogil": True, "error_model": "numpy", "_nrt": True}
_CALLED: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
# Without numba's runtime arrays cannot be made, and are not counted: each argument and slice would cost two atomic
# instructions, which was a third of the time of twenty assets. What is called keeps no array, and its caller has them.
_PLACING: dict[str, Any] = _MAKING | {"_nrt": False}
_INNER: dict[str, Any] = _PLACING | _CALLED
# Sums may be reordered, so that they vectorise; infinities and what is no number keep their meaning.
_REORDERED = frozenset({"reassoc", "contract", "nsz"})


def _sources() -> str:
    total = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        total.update(path.read_bytes())
    return total.hexdigest()


class _Cache(FunctionCache):
    """numba's cache of a function on disk. It is compiled anew if any of these kernels has changed.

    By itself numba looks at a function's own file, and misses what has changed in those that it calls.
    """

    _of_sources = _sources()

    def _index_key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:
        return (*super()._index_key(sig, codegen), self._of_sources)


class _Collector(Listener):
    """Python's collector of garbage rests while a kernel is compiled, which else takes a tenth longer."""

    _PACKAGE = f"{__name__.partition('.')[0]}."

    def __init__(self) -> None:
        self._depth, self._rests = 0, False

    def on_start(self, event: Event) -> None:
        """A kernel is to be compiled, or what one calls."""
        assert event.data is not None
        if self._depth == 0 and event.data["dispatcher"].py_func.__module__.startswith(self._PACKAGE):
            self._rests = gc.isenabled()
            gc.disable()
        self._depth += 1

    def on_end(self, event: Event) -> None:
        """It is compiled, or has failed."""
        self._depth -= 1
        if self._depth == 0 and self._rests:
            self._rests = False
            gc.enable()


register("numba:compile", _Collector())


def scalar(function: Callable[..., Any]) -> Any:
    """Compile a function, which Python calls, on its first call. Division by 0 gives what it gives in NumPy."""
    return _kept(njit(**_MAKING)(function), function)


def making(function: Callable[..., Any]) -> Any:
    """`scalar` for a function that only kernels call."""
    return _kept(njit(**(_MAKING | _CALLED))(function), function)


def making_sums(function: Callable[..., Any]) -> Any:
    """`making` for a loop whose sums may be taken in another order: always the same one."""
    return _kept(njit(**(_MAKING | _CALLED), fastmath=set(_REORDERED))(function), function)


def placing(function: Callable[..., Any]) -> Any:
    """`scalar` for a function that makes no array: its results and its room are handed in."""
    return _kept(njit(**_PLACING)(function), function)


def inner(function: Callable[..., Any]) -> Any:
    """`scalar` for a function that only such functions call, and that makes no array: half as long to compile."""
    return _kept(njit(**_INNER)(function), function)


def inner_sums(function: Callable[..., Any]) -> Any:
    """`inner` for a loop whose sums may be taken in another order: always the same one."""
    return _kept(njit(**_INNER, fastmath=set(_REORDERED))(function), function)


def inlined_sums(function: Callable[..., Any]) -> Any:
    """`inner_sums` for what is short, and called so often that the call itself would count."""
    return _kept(njit(**_INNER, fastmath=set(_REORDERED), forceinline=True)(function), function)


def _kept(compiled: Any, function: Callable[..., Any]) -> Any:
    compiled._cache = _Cache(function)  # what ``cache=True`` does, but for the key
    return compiled
