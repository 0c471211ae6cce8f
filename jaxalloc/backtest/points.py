"""WalkSettings: the points of a walk-forward, which are settings of the allocations, bands and costs."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable
from typing import Any

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.numbers import one_number
from jaxalloc.arguments.words import literal
from jaxalloc.backtest.trading import Rule
from jaxalloc.settings.config import AllocationConfig
from jaxalloc.settings.sweep import Points, Sweep

VARIED = ("band", "costs_bps")  # what a walk-forward varies beside the settings of its allocations

_MOST_BPS = 5000  # at this cost, selling all and buying all anew takes all wealth


@dataclasses.dataclass(frozen=True)
class WalkSettings(Points):
    """The points of a walk-forward: settings of the allocations x bands x costs, the costs varying fastest.

    What is decided depends on the settings of the allocations alone. So the study of the allocations has the points of
    `allocations`, and each of them is held with every band, and pays every cost.

    Attributes:
        config: the settings of the allocations that all points share.
        grid: names and values of what varies: those of `allocations`, then ``"band"`` and ``"costs_bps"``, if they do.
        allocations: the grid of settings of the allocations.
        bands: distances in weight that holdings may keep from the target; one, or the values varied.
        costs: of trading, in basis points of what is traded; one, or the values varied.
        max_turnover: largest turnover of a rebalance; None where there is none.
    """

    allocations: Sweep = dataclasses.field(kw_only=True)
    bands: tuple[float, ...] = dataclasses.field(kw_only=True)
    costs: tuple[float, ...] = dataclasses.field(kw_only=True)
    max_turnover: float | None = dataclasses.field(kw_only=True)

    @property
    def home(self) -> int:
        """The point of the allocations' `Sweep.home`, the first band and the first cost."""
        return self.allocations.home * len(self.bands) * len(self.costs)

    def at(self, point: int) -> AllocationConfig:
        """Return the settings of the allocations at a point."""
        return self.allocations.at(self.decided(point))

    def decided(self, point: int) -> int:
        """Return the number of a point in the grid of the allocations' settings."""
        return point // (len(self.bands) * len(self.costs))

    def rule(self, point: int) -> Rule:
        """Return how far targets are traded towards at a point."""
        return self.rules[point // len(self.costs) % len(self.bands)]

    def cost(self, point: int) -> float:
        """Return the cost of trading at a point, in basis points."""
        return self.costs[point % len(self.costs)]

    @property
    def rules(self) -> list[Rule]:
        """The rules of the bands."""
        return [Rule(band=band, max_turnover=self.max_turnover) for band in self.bands]

    def beside(self, point: int) -> list[int]:
        """Return the points that differ from a point in the band alone, in the order of the bands, itself too."""
        each = len(self.costs)
        first = self.decided(point) * len(self.bands) * each + point % each
        return [first + each * k for k in range(len(self.bands))]

    def record(self) -> dict[str, Any]:
        """Return what was given of trading as plain values, as `walk_settings` takes them."""
        given = {"band": self.bands, "costs_bps": self.costs}
        plain = {name: list(values) if name in self.names else values[0] for name, values in given.items()}
        return {"band": plain["band"], "max_turnover": self.max_turnover, "costs_bps": plain["costs_bps"]}


def walk_settings(settings: Sweep, *, band: Any, max_turnover: Any, costs_bps: Any) -> WalkSettings:
    """Check how a walk-forward trades, and make its points.

    Args:
        settings: the grid of settings of the allocations.
        band: as `walk_forward` takes it, like all that follow.
        max_turnover: likewise.
        costs_bps: likewise.

    Raises:
        InputError: a number is out of range, or values to vary are none or are named twice.
    """
    bands, costs = _values("band", band, _band), _values("costs_bps", costs_bps, _cost)
    varied = {"band": (band, bands), "costs_bps": (costs_bps, costs)}
    grid = [(name, values) for name, (given, values) in varied.items() if _is_list(given)]
    limit = None if max_turnover is None else one_number("max_turnover", max_turnover)
    if limit is not None and not 0 < limit <= 1:
        raise InputError(f"max_turnover must be greater than 0 and at most 1, or None, not {max_turnover!r}")
    return WalkSettings(
        config=settings.config,
        grid=tuple(itertools.chain(settings.grid, grid)),
        allocations=settings,
        bands=bands,
        costs=costs,
        max_turnover=limit,
    )


def _is_list(given: Any) -> bool:
    """Whether values to vary are given; an array of one number is an Iterable that cannot be iterated."""
    return isinstance(given, Iterable) and not isinstance(given, (str, bytes)) and getattr(given, "ndim", 1) > 0


def _values(name: str, given: Any, check: Callable[[Any], float]) -> tuple[float, ...]:
    """One value, or the values to vary."""
    if not _is_list(given):
        return (check(given),)
    values = tuple(check(value) for value in given)
    if not values:
        raise InputError(f"{name} has no values to vary")
    if len(set(values)) < len(values):
        raise InputError(f"{name} names a value twice: {', '.join(f'{value:g}' for value in values)}")
    return values


def _band(value: Any) -> float:
    band = one_number("band", value)
    if not 0 <= band < 1:
        raise InputError(f"band must be at least 0 and less than 1, a weight such as 0.01, not {literal(value)}")
    return band


def _cost(value: Any) -> float:
    bps = one_number("costs_bps", value)
    if not 0 <= bps < _MOST_BPS:
        raise InputError(f"costs_bps must be at least 0 and less than {_MOST_BPS:,}, not {value!r}")
    return bps
