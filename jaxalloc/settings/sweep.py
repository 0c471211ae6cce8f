"""sweep(): a grid of settings, which is one more axis of a study."""

from __future__ import annotations

import abc
import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import literal
from jaxalloc.settings.config import NUMERIC_FIELDS, STATIC_FIELDS, AllocationConfig, check_config, is_auto
from jaxalloc.settings.readers import READERS, Reader

SWEPT_CHOICES = tuple(name for name in STATIC_FIELDS if name != "profiles")
SWEPT_FIELDS = (*NUMERIC_FIELDS, *SWEPT_CHOICES)


@dataclasses.dataclass(frozen=True)
class Points(abc.ABC):
    """Points on a grid, each of which has settings of the allocation. They are numbered.

    Attributes:
        config: the settings that all points share, as Python numbers.
        grid: names and values of what varies, in order; the last varies fastest.
    """

    config: AllocationConfig
    grid: tuple[tuple[str, tuple[Any, ...]], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The settings that vary."""
        return tuple(name for name, _ in self.grid)

    @property
    def points(self) -> list[tuple[Any, ...]]:
        """The values of `names` at each of the G points of the grid; without a grid, one point without values."""
        return list(itertools.product(*(values for _, values in self.grid)))

    def __len__(self) -> int:
        """G, the number of points."""
        return math.prod(len(values) for _, values in self.grid)

    @property
    @abc.abstractmethod
    def home(self) -> int:
        """The number of the point that the grid starts from."""

    @abc.abstractmethod
    def at(self, point: int) -> AllocationConfig:
        """Return the settings at a point."""


@dataclasses.dataclass(frozen=True)
class Sweep(Points):
    """Settings on a grid; made by `sweep`.

    Its points are numbered; those that have the same choices, such as the linkage, follow each other.

    Attributes:
        config: the settings that all points share, as Python numbers.
        grid: names and values of the settings that vary, in order, choices first; the last varies fastest.
    """

    @property
    def home(self) -> int:
        """The number of the point with the settings of `config` itself; 0 if the grid has no such point."""
        start = tuple(getattr(self.config, name) for name in self.names)
        return next((number for number, values in enumerate(self.points) if values == start), 0)

    def at(self, point: int) -> AllocationConfig:
        """Return the settings at a point."""
        values = {}
        for name, choices in reversed(self.grid):  # the last varies fastest
            point, place = divmod(point, len(choices))
            values[name] = choices[place]
        return self.config.replace(**values)

    def numbers(self, points: np.ndarray) -> dict[str, np.ndarray]:
        """Return the values of the settings that vary, by name, at each of ``points`` (C,), choices as well."""
        columns = zip(*self.points, strict=True) if self.grid else ()
        return {name: np.array(column)[points] for name, column in zip(self.names, columns, strict=True)}


def sweep(config: AllocationConfig | None = None, **grid: Iterable[Any]) -> Sweep:
    """Vary settings over a grid, which `jaxalloc.run_study` takes in place of one set of settings.

    Every universe is allocated at every point of the grid. Numbers vary in one batch: a further value compiles nothing.
    The choices ``linkage``, ``criterion``, ``distance``, ``detone`` and ``covariance`` vary as well; for each of their
    combinations the programs are compiled that depend on them.

    Args:
        config: the settings that do not vary; `AllocationConfig()` by default.
        grid: the values to try of each setting that varies.

    Returns:
        `Sweep` over every combination. Choices come first in its grid, in the order of `AllocationConfig`.

    Raises:
        InputError: a name is unknown or cannot vary, a value is out of range, or no other setting makes it matter.

    Example:
        >>> import jaxalloc as ja
        >>> grid = ja.sweep(cluster_cap=[0.15, 0.25], distance_threshold=[0.3, 0.4, 0.5])
        >>> len(grid), grid.points[1]
        (6, (0.15, 0.4))
    """
    base = plain_config(check_config(AllocationConfig() if config is None else config))
    columns = []
    for name, values in grid.items():
        if name not in SWEPT_FIELDS:
            raise InputError(f"{name} cannot be swept; what can be: {', '.join(SWEPT_FIELDS)}")
        single = getattr(values, "ndim", 1) == 0  # an array of one number is an Iterable that cannot be iterated
        if isinstance(values, (str, bytes)) or not isinstance(values, Iterable) or single:
            raise InputError(f"{name} must be a list of values to sweep over, not {literal(values)}")
        plain = []
        for value in values:
            if is_auto(value):
                raise InputError(f"{name} must be swept over numbers, not {literal(value)}")
            changed = plain_config(check_config(_replaced(base, name, value, grid)))
            plain.append(getattr(changed, name))
        if not plain:
            raise InputError(f"{name} has no values to sweep over")
        if len(set(plain)) < len(plain):
            raise InputError(f"{name} names a value twice: {', '.join(map(str, plain))}")
        reader = READERS[name]
        if reader.under is not None and not _applies(reader, base, grid):
            raise InputError(f"{name} is read under {reader.condition()} only: nothing would change")
        columns.append((name, tuple(plain)))
    order = {name: place for place, name in enumerate(SWEPT_CHOICES)}
    return Sweep(base, tuple(sorted(columns, key=lambda column: order.get(column[0], len(order)))))


def _replaced(base: AllocationConfig, name: str, value: Any, grid: Mapping[str, Any]) -> AllocationConfig:
    """Return settings with another value, to be checked; a height that only Ward's linkage has is checked with it."""
    linkages = grid.get("linkage", ())
    ward = {"linkage": "ward"} if name == "distance_threshold" and "ward" in linkages else {}
    return base.replace(**ward | {name: value})


def _applies(reader: Reader, base: AllocationConfig, grid: Mapping[str, Any]) -> bool:
    """Whether a point of the grid makes a setting matter."""
    assert reader.under is not None
    choice = reader.under[0]
    return any(reader.applies(base.replace(**{choice: value})) for value in grid.get(choice, [getattr(base, choice)]))


def as_sweep(config: AllocationConfig | Sweep | None) -> Sweep:
    """Return settings as a grid, checked: one config is a grid of one point, None the default one."""
    if isinstance(config, Sweep):
        return config
    return Sweep(plain_config(check_config(AllocationConfig() if config is None else config)))


def plain_config(config: AllocationConfig) -> AllocationConfig:
    """Return the settings with their numbers as Python's, whatever type they have."""
    numbers = {name: np.asarray(getattr(config, name)).item() for name in NUMERIC_FIELDS}
    return config.replace(profiles=tuple(config.profiles), **numbers)
