"""The ways to draw universes from a panel, and their products.

A sampler is a record of settings. On construction nothing is checked but that no count is larger than any study's, as
counts are multiplied before they meet a panel. `Sampler.prepare` checks the settings against a panel and settles what
depends on it. `Sampler.draw` gives the traced code that the engine runs (see
`jaxalloc.universes.universe`). ``a * b * c`` is a product: every universe of ``a``, changed in every way of ``b``, and
so on; the last factor changes fastest. A sampler with ``n=None`` draws anew for each universe of the samplers before
it.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.numbers import check_counts, plain, whole_number
from jaxalloc.arguments.words import literal
from jaxalloc.markets.periods import CALENDAR, period_ends, rows_a_year
from jaxalloc.universes.universe import MOST_UNIVERSES, Draw, Kernel, Universe

if TYPE_CHECKING:
    from jaxalloc.markets.panel import Panel


class Sampler(abc.ABC):
    """A way to draw universes.

    Attributes:
        once: whether a product takes at most one sampler of this kind.
        first: whether it makes the rows that the others draw from, and so comes first in a product.
        leaves_out: whether this sampler leaves rows out by chance (True), on purpose (False), or not at all (None).
        anew: whether its draws differ from one universe before it to the next, though they have a number.
        by_time: whether it chooses rows by their place in time; a product takes one such sampler.
    """

    once: ClassVar[bool] = False
    first: ClassVar[bool] = False
    leaves_out: ClassVar[bool | None] = None
    anew: ClassVar[bool] = False
    by_time: ClassVar[bool] = False

    @abc.abstractmethod
    def count(self, n_rows: int) -> int | None:
        """Return the number of universes for a panel of ``n_rows`` rows; None for one per universe before it."""

    @abc.abstractmethod
    def prepare(self, panel: Panel, n_rows: int, periods_per_year: float) -> Sampler:
        """Return the sampler with everything settled that depends on the panel.

        Args:
            panel: the panel.
            n_rows: the most rows that a universe has before this sampler.
            periods_per_year: rows a year.

        Raises:
            InputError: a setting is out of range for this panel.
        """

    @abc.abstractmethod
    def draw(self) -> tuple[Kernel, Any]:
        """Return the traced function that draws, and its numbers. The sampler must be prepared."""

    @abc.abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return the name and the settings as plain values, for a record in JSON."""

    def rows_after(self, n_rows: int) -> int:
        """Return the most rows that a universe has after this sampler, given the most before it."""
        return n_rows

    def assets_after(self, n_assets: int) -> int:
        """Return the most assets that a universe has after this sampler, given the most before it."""
        return n_assets

    @property
    def parts(self) -> tuple[Sampler, ...]:
        """The factors of a product, in order; any other sampler is its own only factor."""
        return (self,)

    def __mul__(self, other: Sampler) -> Product:
        """Return the product: every universe of this sampler, changed in every way of ``other``."""
        if not isinstance(other, Sampler):
            return NotImplemented
        return Product(self.parts + other.parts)


@dataclasses.dataclass(frozen=True)
class Product(Sampler):
    """Every combination of several samplers, such as ``Bootstrap(1000) * RandomSubsets(30) * Stress(...)``.

    The factors apply in order; the last changes fastest. `Parametric`, if there is one, comes first; `RollingWindows`
    or `CombinatorialSplits`, and `Stress`, occur at most once. The empty product is one universe, the panel itself.

    Attributes:
        factors: the samplers.

    Example:
        >>> import jaxalloc as ja
        >>> crisis = ja.Stress(volatility=(1.0, 1.5), correlation=(0.0, 0.5))
        >>> sampler = ja.Bootstrap(1000) * ja.RandomSubsets(size=30) * crisis
        >>> sampler.count(252)
        2000
    """

    factors: tuple[Sampler, ...] = ()

    @property
    def parts(self) -> tuple[Sampler, ...]:
        """The factors, in order."""
        return tuple(part for factor in self.factors for part in factor.parts)

    def count(self, n_rows: int) -> int:
        """Return the number of universes for a panel of ``n_rows`` rows."""
        total = 1
        for part in self.parts:
            total *= part.count(n_rows) or 1
            n_rows = part.rows_after(n_rows)
        return total

    def prepare(self, panel: Panel, n_rows: int, periods_per_year: float) -> Product:
        """Check the order of the factors, and each of them; see `Sampler.prepare`."""
        kinds = [type(part) for part in self.parts]
        for kind in kinds:
            if kind.once and kinds.count(kind) > 1:
                raise InputError(f"a product takes one {kind.__name__}, not {kinds.count(kind)}")
        parts_of_time = list(dict.fromkeys(kind.__name__ for kind in kinds if kind.by_time))
        if len(parts_of_time) > 1:
            raise InputError(f"a product takes one of {' and '.join(parts_of_time)}: both choose rows by their time")
        for kind in kinds[1:]:
            if kind.first:
                raise InputError(f"{kind.__name__} makes the returns that the others draw from: put it first")
        prepared = []
        total = 1
        for position, part in enumerate(self.parts):
            ready = part.prepare(panel, n_rows, periods_per_year)
            size = ready.count(n_rows)
            if size is None and position == 0:
                raise InputError(f"{kinds[0].__name__} comes first and so needs n, the number of universes")
            total *= 1 if size is None else size
            n_rows = ready.rows_after(n_rows)
            prepared.append(ready)
        if total > MOST_UNIVERSES:
            raise InputError(f"{total:,} universes are too many for one study; it takes {MOST_UNIVERSES:,}")
        return Product(tuple(prepared))

    def draw(self) -> tuple[Kernel, Any]:
        """Not meant for a product, which is drawn factor by factor."""
        raise NotImplementedError("a product is drawn factor by factor")

    def settings(self) -> dict[str, Any]:
        """Return ``{"sampler": "Product", "factors": [...]}``; of one factor its own settings."""
        if len(self.parts) == 1:
            return self.parts[0].settings()
        return {"sampler": "Product", "factors": [part.settings() for part in self.parts]}


def steps(product: Product, n_rows: int) -> tuple[Draw, ...]:
    """Return the traced steps of a prepared product, for a panel of ``n_rows`` rows."""
    sizes = []
    for part in product.parts:
        sizes.append(part.count(n_rows))
        n_rows = part.rows_after(n_rows)
    drawn = [part.draw() for part in product.parts]
    strides = [math.prod(size or 1 for size in sizes[position + 1 :]) for position in range(len(sizes))]
    return tuple(
        Draw(
            kernel=kernel,
            numbers=numbers,
            stride=np.int32(stride),
            size=np.int32(size or 0),
            anew=np.int32(stride * size) if part.anew and size else None,
        )
        for part, (kernel, numbers), size, stride in zip(product.parts, drawn, sizes, strides, strict=True)
    )


def holds_out(product: Product) -> bool:
    """Tell whether rows that a universe does not hold are out of bag: left out by chance, and none on purpose."""
    ways = {part.leaves_out for part in product.parts}
    return True in ways and False not in ways


@dataclasses.dataclass(frozen=True)
class RollingWindows(Sampler):
    """Windows of consecutive rows, one after the other through time.

    Window j holds rows j step to j step + window - 1; if expanding, rows 0 to j step + window - 1. There are
    floor((T - window) / step) + 1 windows, as many as fit. In a product after a `Bootstrap` they roll over each
    resampled path.

    A step may be a word of the calendar, ``"week"``, ``"month-end"``, ``"quarter-end"`` or ``"year-end"`` (also
    ``"month"``, ``"quarter"``, ``"year"``): then a window ends on the last row of each such period that ``window`` rows
    precede, and one on the panel's last row.

    Attributes:
        window: rows of a window, or of the first window if they expand, at least 2.
        step: rows from one window to the next, at least 1, or a word of the calendar. By default a month of rows: 21 of
            business days, 1 of months (see `jaxalloc.markets.periods`).
        expanding: whether the windows grow from the first row on.
        live: whether there is one more window, which ends on the last row, where the steps bring none there.

    Example:
        >>> RollingWindows(window=252, step=21).count(504)
        13
    """

    once: ClassVar[bool] = True
    leaves_out: ClassVar[bool | None] = False
    by_time: ClassVar[bool] = True

    window: int
    step: int | str | None = None
    expanding: bool = False
    live: bool = False
    _period_ends: tuple[int, ...] | None = dataclasses.field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Raise `InputError` for numbers of rows that no panel has."""
        check_counts(window=self.window, step=self.step)

    def ends(self, n_rows: int) -> np.ndarray:
        """Return the last row of each window, ascending.

        Raises:
            InputError: the step is a word of the calendar, and the sampler is not prepared for a panel's dates.
        """
        window = int(self.window)
        if isinstance(self.step, str):
            if self._period_ends is None:
                raise InputError(f"step={self.step!r} follows a panel's dates: prepare the sampler for a panel")
            ends = np.asarray(self._period_ends)
            return ends[ends >= window - 1]
        ends = np.arange(window - 1, n_rows, MONTH if self.step is None else int(self.step))
        return np.append(ends, n_rows - 1) if self.live and len(ends) and ends[-1] < n_rows - 1 else ends

    def count(self, n_rows: int) -> int:
        """Return the number of windows."""
        return len(self.ends(n_rows))

    def rows_after(self, n_rows: int) -> int:
        """Return the rows of the longest window."""
        return int(self.ends(n_rows)[-1]) + 1 if self.expanding else int(self.window)

    def prepare(self, panel: Panel, n_rows: int, periods_per_year: float) -> RollingWindows:
        """Check the settings, and settle the step; see `Sampler.prepare`."""
        whole_number("window", self.window, 2)
        if self.window > n_rows:
            raise InputError(f"window must be at most {n_rows}, the panel's rows, not {literal(self.window)}")
        if self.step is None:
            return dataclasses.replace(self, step=month_of_rows(rows_a_year(periods_per_year, panel.dates)))
        if isinstance(self.step, str):
            if self.step not in CALENDAR:
                raise InputError(
                    f"step must be a whole number of rows, or one of {', '.join(CALENDAR)}, not {literal(self.step)}"
                )
            if n_rows != panel.n_observations:
                raise InputError(f"step={self.step!r} follows the panel's dates, which simulated rows have not")
            ends = period_ends(panel.dates, self.step)
            return dataclasses.replace(self, _period_ends=tuple(ends.tolist()))
        whole_number("step", self.step, 1)
        return self

    def draw(self) -> tuple[Kernel, Any]:
        """Return the kernel, and window, step or last rows, and whether windows expand."""
        window, expanding = np.int32(self.window), np.bool_(self.expanding)
        if self._period_ends is None:
            step = MONTH if self.step is None else self.step
            return _window, (window, np.int32(step), expanding)
        n_rows = self._period_ends[-1] + 1
        ends = self.ends(n_rows)
        # as long for any calendar, so that another one compiles nothing
        padded = np.pad(ends, (0, n_rows - len(ends)), mode="edge").astype(np.int32)
        return _calendar_window, (window, padded, expanding)

    def settings(self) -> dict[str, Any]:
        """Return the name and the settings as plain values."""
        step = self.step if isinstance(self.step, str) else plain(self.step)
        numbers = {"window": plain(self.window), "step": step, "expanding": bool(self.expanding)}
        return {"sampler": "RollingWindows"} | numbers | {"live": bool(self.live)}


YEAR, MONTH = 252, 21  # rows of a year and of a month of business days


def month_of_rows(rows_of_year: float) -> int:
    """Return the rows of a month: 21 of business days, 1 of months or longer periods."""
    return max(1, round(rows_of_year / 12))


def block_of_rows(rows_of_year: float) -> int:
    """Return the rows of a bootstrap's block by default: a month of rows, and three at least."""
    return max(3, month_of_rows(rows_of_year))


def _window(numbers: tuple[Array, Array, Array], key: Array, index: Array, universe: Universe) -> Universe:
    window, step, expanding = numbers
    n_rows = universe.rows.shape[0]
    # a live window ends on the last row, before its step does; a longer step than the panel would overflow
    stop = jnp.minimum(index * jnp.minimum(step, n_rows) + window, n_rows)
    return _window_to(stop, window, expanding, universe)


def _calendar_window(numbers: tuple[Array, Array, Array], key: Array, index: Array, universe: Universe) -> Universe:
    window, ends, expanding = numbers
    return _window_to(ends[index] + 1, window, expanding, universe)


def _window_to(stop: Array, window: Array, expanding: Array, universe: Universe) -> Universe:
    """The window that ends before row ``stop``."""
    position = jnp.arange(universe.rows.shape[0], dtype=jnp.int32)
    first = jnp.where(expanding, 0, stop - window)
    rows = universe.rows[jnp.minimum(first + position, universe.rows.shape[0] - 1)]
    return universe._replace(rows=rows, length=jnp.where(expanding, stop, window))


@dataclasses.dataclass(frozen=True)
class RandomSubsets(Sampler):
    """Random sets of assets: all sets of ``size`` assets are equally likely.

    Attributes:
        size: number of assets of a subset, 1 to N. An asset that lacks a return takes no part in its subset.
        n: number of subsets. In a product it may be None: one for each universe before it.

    Example:
        >>> import jaxalloc as ja
        >>> (ja.Bootstrap(500) * ja.RandomSubsets(size=10)).count(252)
        500
    """

    size: int
    n: int | None = None

    def __post_init__(self) -> None:
        """Raise `InputError` for more subsets or assets than a study takes."""
        check_counts(size=self.size, n=self.n)

    def count(self, n_rows: int) -> int | None:
        """Return the number of subsets."""
        return None if self.n is None else int(self.n)

    def assets_after(self, n_assets: int) -> int:
        """Return the number of assets of a subset."""
        return min(n_assets, int(self.size))

    def prepare(self, panel: Panel, n_rows: int, periods_per_year: float) -> RandomSubsets:
        """Check the settings; see `Sampler.prepare`."""
        if self.n is not None:
            whole_number("n, the number of subsets,", self.n, 1)
        whole_number("size", self.size, 1)
        if self.size > panel.n_assets:
            raise InputError(f"size must be at most {panel.n_assets}, the panel's assets, not {literal(self.size)}")
        return self

    def draw(self) -> tuple[Kernel, Any]:
        """Return the kernel, and the size."""
        return _subset, np.int32(self.size)

    def settings(self) -> dict[str, Any]:
        """Return the name and the settings as plain values."""
        return {"sampler": "RandomSubsets", "size": plain(self.size), "n": plain(self.n)}


def _subset(size: Array, key: Array, index: Array, universe: Universe) -> Universe:
    n_assets = universe.mask.shape[0]
    lots = jax.random.bits(key, (n_assets,), jnp.uint32)
    # the rank of each asset's lot; of two equal lots the first asset's ranks lower
    rank = (
        jnp.zeros(n_assets, jnp.int32)
        .at[jnp.argsort(lots, stable=True)]
        .set(jnp.arange(n_assets, dtype=jnp.int32), unique_indices=True)
    )
    return universe._replace(mask=universe.mask & (rank < size))
