"""Scalar kernels that are compiled by themselves, in processes of their own, and called by others at their addresses.

numba links a kernel with all that it calls, and optimises and translates all of that anew: the solvers, most of the
code, would be compiled once for themselves and once more for each kernel above them. And it compiles one kernel at a
time, holding the interpreter. The signature of a separate kernel is known beforehand, so that another process can
compile it, into the folder where numba keeps what it compiles, while this one goes on.
"""

from __future__ import annotations

import atexit
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba.core import cgutils
from numba.core.compiler_lock import global_compiler_lock
from numba.extending import intrinsic

from jaxalloc.kernels.scalar.compiling import making, making_sums

_CHILD = """
import importlib, os, sys
sys.path.append(sys.argv[1])
for kernel in sys.argv[2:]:
    module, name, precision, late = kernel.split(":")
    if late and hasattr(os, "nice"):
        os.nice(5)
    getattr(importlib.import_module(module), name).version(precision).address()
"""
_ROOT = Path(__file__).parents[3]
_NO_WINDOW = getattr(subprocess, "CREATE_NO_WINDOW", 0)  # on Windows
_BEGINNING = threading.Lock()
_SECONDS = 0.02  # between two looks whether another process has compiled a kernel


def separate(signature: Callable[[Any], Any], *, sums: bool = False) -> Callable[[Callable[..., Any]], Separate]:
    """Make a kernel of a module's function, which goes by its own name there.

    Args:
        signature: its only one for each type of correlations, with the type of its result.
        sums: whether its sums may be taken in another order; always the same one.
    """
    return lambda function: Separate(function, (making_sums if sums else making)(function), signature)


class Separate:
    """A kernel of which there is one version for universes of float64, and one for those of float32.

    Other kernels call `at` with the address of a version and a tuple of its arguments; they are given the address by
    whoever calls them, for it differs between processes.
    """

    def __init__(self, function: Callable[..., Any], kernel: Any, signature: Callable[[Any], Any]) -> None:
        """Take a function, what compiles it, and its signatures; see `separate`."""
        self._kernel = kernel
        self._versions = {
            np.dtype(kind.name): Version(
                kernel, signature(kind), f"{function.__module__}:{function.__name__}:{kind.name}"
            )
            for kind in (numba.float64, numba.float32)
        }
        self.at = _calling([signature(numba.float64), signature(numba.float32)])

    def version(self, dtype: Any) -> Version:
        """The one for universes of this dtype."""
        return self._versions[np.dtype(dtype)]


class Version:
    """A kernel for arguments of certain types, compiled by this process or by another.

    Attributes:
        name: by which another process finds it.
        child: the process that is to compile it, if any.
        before: the kernel that this process compiles before it, if any.
    """

    def __init__(self, kernel: Any, signature: Any, name: str) -> None:
        """Take what compiles a kernel, for what, and what another process is told to do so."""
        self.name = name
        self.child: subprocess.Popen[bytes] | None = None
        self.before: Version | None = None
        self._kernel, self._signature = kernel, signature
        self._lock = threading.Lock()
        self._compiled: Any = None
        self._address = 0

    def is_here(self) -> bool:
        """Whether this process has it."""
        return self._compiled is not None

    def address(self) -> int:
        """Where it is in this process: read from disk, or compiled if no other process does so, or can."""
        return self._address or self._find()

    def _find(self) -> int:
        with self._lock:
            while not self.is_kept() and self._is_begun():
                time.sleep(_SECONDS)
            if not self.is_kept():
                self._kernel.compile(self._signature.args)
                self._compiled = self._kernel.overloads[self._signature.args]
                assert self._compiled.signature == self._signature
            function = self._compiled.fndesc.llvm_func_name
            self._address = int(self._compiled.library.get_pointer_to_function(function))
            return self._address

    def _is_begun(self) -> bool:
        """Whether another process is compiling it: one that still runs, and has no other kernel before this one."""
        return self.child is not None and self.child.poll() is None and (self.before is None or self.before.is_kept())

    def is_kept(self) -> bool:
        """Whether it is here, or has been found on disk."""
        if self._compiled is None:
            with global_compiler_lock:
                self._compiled = self._kernel._cache.load_overload(self._signature.args, self._kernel.targetctx)
        return self._compiled is not None


def begin(always: Sequence[Version], seldom: Sequence[Version], processes: int) -> None:
    """Have other processes compile kernels, unless earlier ones have; this one may go on.

    Args:
        always: those that are wanted at once, in their order.
        seldom: those that are wanted later or never, and come after them.
        processes: at most so many.
    """
    if processes < 1:  # nor is the disk asked, each time anew, for what may never be wanted
        return
    with _BEGINNING:
        missing = [each for each in (*always, *seldom) if each.child is None and not each.is_kept()]
        for first in range(min(processes, len(missing))):
            some = missing[first::processes]
            names = (f"{each.name}:{'late' if each in seldom else ''}" for each in some)
            child = _start(["-c", _CHILD, str(_ROOT), *names])
            for before, each in zip([None, *some], some, strict=False):
                each.child, each.before = child, before


def _start(arguments: list[str]) -> subprocess.Popen[bytes] | None:
    """A Python of which nothing is heard; None where none can be started. It may go on when this one has ended.

    It loads nothing from where it happens to be called.
    """
    if not Path(sys.executable or "").name.lower().startswith("python"):  # but an application that Python runs inside
        return None
    command, nothing = [sys.executable, "-P", *arguments], subprocess.DEVNULL
    try:
        child = subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing, creationflags=_NO_WINDOW)
    except OSError:
        return None
    atexit.register(_let_go, child)
    return child


def _let_go(child: subprocess.Popen[bytes]) -> None:
    """What goes on when this process ends does so on purpose: else Python would warn of it."""
    if child.poll() is None:
        child.returncode = 0


def _calling(signatures: list[Any]) -> Any:
    """What calls a function of numba's at an address with a tuple of arguments, in a kernel."""

    @intrinsic
    def at(typingctx: Any, address: Any, arguments: Any) -> Any:
        def write(context: Any, builder: Any, called: Any, values: Any) -> Any:
            result, kinds = called.return_type, tuple(called.args[1])
            function = context.call_conv.get_function_type(result, kinds).as_pointer()
            status, found = context.call_conv.call_function(
                builder, builder.inttoptr(values[0], function), result, kinds, cgutils.unpack_tuple(builder, values[1])
            )
            with cgutils.if_unlikely(builder, status.is_error):
                context.call_conv.return_status_propagate(builder, status)
            return found

        results = [each.return_type for each in signatures if each.args == tuple(arguments)]
        return (results[0](address, arguments), write) if results else None

    return at
