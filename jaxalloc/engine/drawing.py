"""How universes are drawn from their numbers, as all parts of a chunk have it."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np
from jax import Array

from jaxalloc.arguments.arrays import cast
from jaxalloc.engine.stages import DrawNumbers
from jaxalloc.kernels.lanes.backend import setting
from jaxalloc.markets.holes import Gaps, most_holes
from jaxalloc.universes.bootstrap import Method, method_of
from jaxalloc.universes.universe import Draw, Kernel


class Resampling(NamedTuple):
    """A bootstrap of the whole panel, which scalar kernels draw; see `jaxalloc.kernels.scalar.draws.draw`.

    Attributes:
        method: of the bootstrap.
        number: rows of a block, or the chance that a row starts one.
        key: (2,) uint32, of the seed.
        size: how many resamples there are.
        gaps: (T, G) weights of the missing returns of the assets that lack any.
        columns: (G,) which assets these are.
        most: that an asset's gaps may weigh in a universe.
    """

    method: Method
    number: float
    key: np.ndarray
    size: int
    gaps: np.ndarray
    columns: np.ndarray
    most: float


class Drawing(NamedTuple):
    """How universes are drawn from their numbers.

    Attributes:
        numbers: arrays.
        kernels: of the steps.
        label: what tells the kernels from others: names that hold in every process, or the kernels themselves.
        resampling: the same for scalar kernels; None where they cannot draw the universes.
    """

    numbers: DrawNumbers
    kernels: tuple[Kernel, ...]
    label: tuple[str | Kernel, ...]
    resampling: Resampling | None


def drawing_of(draws: tuple[Draw, ...], key: Array, gaps: Gaps, dtype: np.dtype) -> Drawing:
    """How universes are drawn by some steps from a seed's key, in the precision that is computed in."""
    kernels = tuple(draw.kernel for draw in draws)
    with jax.enable_x64(dtype == np.float64):  # a program is compiled for numbers of the width that it is called with
        drawn_with = [jax.tree.map(lambda leaf: cast(leaf, leaf.dtype), draw.numbers) for draw in draws]
    numbers = DrawNumbers(
        steps=tuple((own, draw.stride, draw.size, draw.anew) for own, draw in zip(drawn_with, draws, strict=True)),
        key=jax.random.key_data(key),
        gaps=gaps.weight.astype(dtype),
        max_missing=np.asarray(gaps.max_missing, dtype),
    )
    # the package's kernels have names of their own, in every process; a user's may be closures of one name
    label = tuple(
        f"{kernel.__module__}.{kernel.__qualname__}" if kernel.__module__.startswith("jaxalloc.") else kernel
        for kernel in kernels
    )
    return Drawing(numbers=numbers, kernels=kernels, label=label, resampling=_resampling(draws, numbers))


def _resampling(draws: tuple[Draw, ...], numbers: DrawNumbers) -> Resampling | None:
    """The resampling that some steps are; None if they are another one, or JAX's generator is set to draw others."""
    method = method_of(draws[0].kernel) if len(draws) == 1 else None
    if method is None or draws[0].anew is not None or not setting("jax_threefry_partitionable"):
        return None
    gaps = numbers.gaps
    columns = np.flatnonzero(gaps.any(axis=0))
    return Resampling(
        method=method,
        number=float(draws[0].numbers),
        key=np.asarray(numbers.key),
        size=int(draws[0].size),
        gaps=np.ascontiguousarray(gaps[:, columns]),
        columns=columns,
        # of as many rows as the panel has, and rounded as in lanes
        most=float(most_holes(numbers.max_missing, gaps.dtype.type(len(gaps)), float(np.finfo(gaps.dtype).eps))),
    )
