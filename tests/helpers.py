"""What several test files share: tolerances, compiled kernels, a count of compilations, and walks through a jaxpr."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.monitoring
import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Tolerance:
    """What a precision promises.

    Attributes:
        eps: unit in the last place of 1.
        gap: optimality gap of the accuracy table.
        total: error of a sum that should be 1.
        rtol: relative error of plain arithmetic on some hundred numbers.
        weights: error of a portfolio weight, where the optimum is unique and well conditioned.
    """

    eps: float
    gap: float
    total: float
    rtol: float
    weights: float


TOLERANCES = {
    np.float32: Tolerance(float(np.finfo(np.float32).eps), 1e-5, 1e-6, 2e-5, 2e-3),
    np.float64: Tolerance(float(np.finfo(np.float64).eps), 1e-9, 1e-12, 1e-11, 1e-6),
}
ULPS = 4  # how far over a bound a weight may be


@dataclass
class Compilations:
    """How many programs XLA compiled inside a `count_compilations` block."""

    before: int = 0
    count: int = field(default=-1)


_COMPILED: list[str] = []


def _listen(event: str, _duration: float, **_: Any) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        _COMPILED.append(event)


jax.monitoring.register_event_duration_secs_listener(_listen)


@contextmanager
def count_compilations() -> Iterator[Compilations]:
    """Count the programs compiled in the block; read ``count`` after it."""
    seen = Compilations(len(_COMPILED))
    yield seen
    seen.count = len(_COMPILED) - seen.before


@functools.cache
def batched(kernel: Callable[..., Any], *, axes: Any = 0, **static: Any) -> Callable[..., Any]:
    """``jit(vmap(kernel))`` with keywords fixed; the same object for the same arguments, so that tests share programs."""
    return jax.jit(jax.vmap(functools.partial(kernel, **static) if static else kernel, in_axes=axes))


@functools.cache
def jitted(kernel: Callable[..., Any], **static: Any) -> Callable[..., Any]:
    """``jit(kernel)`` with keywords fixed; the same object for the same arguments."""
    return jax.jit(functools.partial(kernel, **static) if static else kernel)


def host(tree: Any) -> Any:
    """Every leaf as a NumPy array."""
    return jax.tree.map(np.asarray, tree)


def cast(dtype: type[np.floating], *arrays: Any) -> tuple[Array, ...]:
    """The arrays in the precision of the test."""
    return tuple(np.asarray(array, dtype) for array in arrays)


def equations(jaxpr: Any) -> Iterator[Any]:
    """Every equation of a jaxpr, those inside loops, branches and calls too."""
    for equation in jaxpr.eqns:
        yield equation
        for parameter in equation.params.values():
            for inner in parameter if isinstance(parameter, (tuple, list)) else (parameter,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from equations(inner)
