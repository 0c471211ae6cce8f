"""Bootstrap: resamples of a panel's rows, drawn one by one or in blocks."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.numbers import check_counts, check_seed, plain, whole_number
from jaxalloc.arguments.words import literal
from jaxalloc.universes.samplers import Product, Sampler, steps
from jaxalloc.universes.universe import MOST_UNIVERSES, Draw, Kernel, Universe, draw_universe, seed_key, whole_panel

if TYPE_CHECKING:
    from jaxalloc.markets.panel import Panel

Method = Literal["iid", "circular", "stationary", "moving"]

_BLOCK = 256  # resamples that `Bootstrap.counts` draws in one call, so that another range compiles nothing


@dataclasses.dataclass(frozen=True)
class Bootstrap(Sampler):
    """Resamples of a universe's T rows, drawn with replacement, each T rows long.

    A resample is a vector of counts: how often it holds each row.

    - ``"iid"``: every row on its own (Efron, 1979).
    - ``"circular"``: blocks of ``block_length`` rows from uniform starts, the rows wrapped into a circle (Politis and
      Romano, 1992). The last block is cut so that there are T rows in all.
    - ``"moving"``: the same without the wrap, starts uniform over 0 to T - block_length (Kuensch, 1989; Liu and Singh,
      1992). The first and last rows are drawn less often than the others.
    - ``"stationary"``: blocks of geometric length with mean ``block_length`` on the circle: each row starts a new block
      with probability 1 / block_length (Politis and Romano, 1994).

    Attributes:
        n: number of resamples, at least 1. In a product it may be None: one for each universe before it.
        method: one of the four above.
        block_length: rows of a block, 1 to T; for ``"iid"`` it must be None. It is a whole number, except for
            ``"stationary"``, whose mean length need not be whole. ``"auto"`` takes `optimal_block_length` of the panel.

    Example:
        >>> bootstrap = Bootstrap(n=1000, method="circular", block_length=5)
        >>> counts = bootstrap.counts(n_rows=252, seed=0, start=0, stop=3)
        >>> counts.shape, counts.sum(axis=1).tolist()
        ((3, 252), [252, 252, 252])
    """

    leaves_out: ClassVar[bool | None] = True

    n: int | None
    method: Method = "iid"
    block_length: float | Literal["auto"] | None = None

    def __post_init__(self) -> None:
        """Raise `InputError` for more resamples than a study takes."""
        check_counts(n=self.n)

    def count(self, n_rows: int) -> int | None:
        """Return the number of resamples."""
        return None if self.n is None else int(self.n)

    def prepare(self, panel: Panel, n_rows: int, periods_per_year: float) -> Bootstrap:
        """Check the settings and settle the length of a block; see `Sampler.prepare`."""
        ready = self
        if isinstance(self.block_length, str) and self.block_length == "auto" and self.method in get_args(Method)[1:]:
            length = optimal_block_length(panel.values, self.method)
            ready = dataclasses.replace(self, block_length=min(length, n_rows))
        ready.check(n_rows)
        return ready

    def check(self, n_rows: int) -> None:
        """Raise `InputError` where a setting is out of range for ``n_rows`` rows."""
        if self.n is not None:
            whole_number("n, the number of resamples,", self.n, 1)
        if self.method not in get_args(Method):
            raise InputError(
                f"unknown bootstrap method {literal(self.method)}; choose from {', '.join(get_args(Method))}"
            )
        if self.method == "iid":
            if self.block_length is not None:
                raise InputError(
                    f"block_length is {literal(self.block_length)}, but the iid bootstrap has no blocks: leave it out, "
                    "or choose the method circular, stationary or moving"
                )
            return
        if self.block_length is None:
            raise InputError(f"the {self.method} bootstrap needs a block_length, such as 21 rows")
        wanted = "a number" if self.method == "stationary" else "a whole number"
        if not _is_length(self.block_length, n_rows, whole=self.method != "stationary"):
            raise InputError(
                f"block_length must be {wanted} from 1 to {n_rows}, the panel's rows, not {literal(self.block_length)}"
            )

    def counts(self, n_rows: int, seed: int, start: int, stop: int) -> np.ndarray:
        """Draw resamples ``start`` to ``stop - 1``.

        Args:
            n_rows: T, rows of the panel.
            seed: 0 to 2**32 - 1.
            start: first resample, from 0.
            stop: one past the last, at most ``n``.

        Returns:
            (stop - start, T) int32 counts; each row sums to T.

        Raises:
            InputError: a setting, the seed or the range is at fault.
        """
        return self._drawn(_count_block, n_rows, seed, start, stop)

    def rows(self, n_rows: int, seed: int, start: int, stop: int) -> np.ndarray:
        """Draw resamples ``start`` to ``stop - 1`` as paths: their rows in the order in which they were drawn.

        Args:
            n_rows: T, rows of the panel.
            seed: 0 to 2**32 - 1.
            start: first resample, from 0.
            stop: one past the last, at most ``n``.

        Returns:
            (stop - start, T) int32 rows of the panel; `counts` counts them.

        Raises:
            InputError: a setting, the seed or the range is at fault.

        Example:
            >>> rows = Bootstrap(n=10, method="circular", block_length=3).rows(n_rows=9, seed=0, start=0, stop=2)
            >>> (np.diff(rows.reshape(2, 3, 3)) % 9 == 1).all()
            np.True_
        """
        return self._drawn(_row_block, n_rows, seed, start, stop)

    def _drawn(self, block: Callable[..., Array], n_rows: int, seed: int, start: int, stop: int) -> np.ndarray:
        whole_number("n_rows", n_rows, 1)
        self.check(n_rows)
        seed = check_seed(seed)
        most = MOST_UNIVERSES if self.n is None else self.n
        if not 0 <= start <= stop <= most:
            raise InputError(f"resamples {start} to {stop} are not within 0 to n = {most}")
        draws, key = steps(Product((self,)), n_rows), seed_key(seed)
        drawn = np.empty((stop - start, n_rows), np.int32)
        for low in range(start, stop, _BLOCK):
            index = np.minimum(np.arange(low, low + _BLOCK), stop - 1).astype(np.int32)
            drawn[low - start : low - start + _BLOCK] = np.asarray(block(draws, key, index, n_rows))[: stop - low]
        return drawn

    def draw(self) -> tuple[Kernel, Any]:
        """Return the kernel of the method, and the length of a block (or the chance that a row starts one)."""
        length = 1.0 if self.block_length is None else float(self.block_length)
        # divided on the host, because devices may round a float32 quotient differently
        number = np.float32(1 / length) if self.method == "stationary" else np.int32(length)
        return _RESAMPLE[self.method], number

    def settings(self) -> dict[str, Any]:
        """Return ``{"sampler": "Bootstrap", "n": ..., "method": ..., "block_length": ...}``, plain values."""
        length = None if self.block_length is None else np.asarray(self.block_length).item()
        return {"sampler": "Bootstrap", "n": plain(self.n), "method": self.method, "block_length": length}


@dataclasses.dataclass(frozen=True)
class Bags(Bootstrap):
    """A bootstrap of each universe before it, such as each window: ``n`` resamples, drawn anew for every one.

    What a resample draws depends on the seed, the number of the universe before it, and its own number alone.
    """

    anew: ClassVar[bool] = True

    def settings(self) -> dict[str, Any]:
        """Return the settings as plain values, as those of a `Bootstrap`, under a name of their own."""
        return super().settings() | {"sampler": "Bags"}


def optimal_block_length(returns: np.ndarray, method: Method) -> float:
    """Choose the length of a bootstrap's blocks by the rule of Politis and White (2004).

    The rule is that corrected by Patton, Politis and White (2009). The package `arch` computes it for each column; the
    result is the average.

    Args:
        returns: (T, N) returns; columns with a gap and constant columns are left out.
        method: ``"stationary"`` gives the mean length; the others give a whole number, rounded up.

    Returns:
        The length, 1 to T.

    Raises:
        InputError: `arch` is not installed, or no column can be used.
    """
    try:
        from arch.bootstrap import optimal_block_length as by_column
    except ImportError:
        raise InputError(
            'block_length="auto" needs the package arch; install jaxalloc[blocks], or give a length'
        ) from None
    usable = np.isfinite(returns).all(axis=0) & (np.ptp(np.nan_to_num(returns), axis=0) > 0)
    if not usable.any() or len(returns) < 16:
        raise InputError('block_length="auto" needs 16 rows and an asset without gaps; give a length')
    column = "stationary" if method == "stationary" else "circular"
    length = float(np.clip(by_column(returns[:, usable])[column].mean(), 1, len(returns)))
    return length if method == "stationary" else float(math.ceil(length))


def circular_rows(key: Array, n_rows: int, count: Array, length: Array) -> Array:
    """(T,) int32 positions of one circular resample of ``count`` rows; block b starts at the b-th uniform draw."""
    position = jnp.arange(n_rows, dtype=jnp.int32)
    starts = jax.random.randint(key, (n_rows,), 0, count, jnp.int32)
    return (starts[position // length] + position % length) % count


def moving_rows(key: Array, n_rows: int, count: Array, length: Array) -> Array:
    """(T,) int32 positions of one moving-block resample; block b starts at the b-th draw over 0 to count - length."""
    position = jnp.arange(n_rows, dtype=jnp.int32)
    length = jnp.minimum(length, count)  # a window of an expanding study may be shorter than a block
    starts = jax.random.randint(key, (n_rows,), 0, count - length + 1, jnp.int32)
    return starts[position // length] + position % length


def stationary_rows(key: Array, n_rows: int, count: Array, probability: Array) -> Array:
    """(T,) int32 positions of one stationary resample: each follows the one before, or by chance starts anew."""
    position = jnp.arange(n_rows, dtype=jnp.int32)
    key_start, key_new = jax.random.split(key)
    starts = jax.random.randint(key_start, (n_rows,), 0, count, jnp.int32)
    new = jax.random.uniform(key_new, (n_rows,), jnp.float32) < probability
    first = jax.lax.cummax(jnp.where(new, position, 0))  # where the block that holds this position begins
    return (starts[first] + position - first) % count


def _resample(draw_rows: Callable[..., Array]) -> Kernel:
    def resample(number: Array, key: Array, index: Array, universe: Universe) -> Universe:
        with jax.named_scope("bootstrap"):
            positions = draw_rows(key, universe.rows.shape[0], universe.length, number)
            # the padding past `length` is dropped whatever it holds
            return universe._replace(rows=universe.rows[positions])

    resample.__qualname__ = f"resample_{draw_rows.__name__}"  # tells its programs from those of other methods
    return resample


_RESAMPLE: dict[Method, Kernel] = {
    "iid": _resample(circular_rows),  # in blocks of one row
    "circular": _resample(circular_rows),
    "moving": _resample(moving_rows),
    "stationary": _resample(stationary_rows),
}


def method_of(kernel: Kernel) -> Method | None:
    """The method whose kernel this is; None if it is no bootstrap's."""
    return next((method for method, own in _RESAMPLE.items() if own is kernel), None)


@functools.partial(jax.jit, static_argnums=3)
def _count_block(draws: tuple[Draw, ...], key: Array, index: Array, n_rows: int) -> Array:
    """(len(index), T) int32 counts of the resamples ``index``."""
    gaps = jnp.zeros((n_rows, 1), jnp.float32)
    weights = jax.vmap(lambda i: draw_universe(draws, key, i, gaps).weights)(index)
    return weights.astype(jnp.int32)


@functools.partial(jax.jit, static_argnums=3)
def _row_block(draws: tuple[Draw, ...], key: Array, index: Array, n_rows: int) -> Array:
    """(len(index), T) int32 rows of the resamples ``index``, in their order."""
    (draw,) = draws
    panel = whole_panel(n_rows, 1)
    # the key is the one that `draw_universe` gives to a first step
    return jax.vmap(lambda i: draw.kernel(draw.numbers, jax.random.fold_in(key, i), i, panel).rows)(index)


def _is_length(value: Any, n_rows: int, whole: bool) -> bool:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return False
    return not isinstance(value, (bool, str)) and 1 <= number <= n_rows and (not whole or number == int(number))
