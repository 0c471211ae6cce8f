"""How the universes of a study are drawn: a sampler turns a seed and an index into observation weights.

Universe i depends on (seed, i) alone: its key is the seed's key with i folded in, and every draw names its generator
and its integer or float type. So neither the precision nor the chunk nor the device changes which universes are drawn,
and a study can be taken up again anywhere.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxalloc.errors import InputError

Method = Literal["iid", "circular", "stationary", "moving"]

_BLOCK = 256  # universes of one call of the kernel: one shape, so that another range of indices compiles nothing
_MAX_SEED = 2**32 - 1  # a larger one would give another key where x64 is off


@runtime_checkable
class Sampler(Protocol):
    """What a study asks of a way to draw universes from the rows of a panel."""

    @property
    def n(self) -> int:
        """Number of universes, numbered 0 to n - 1."""
        ...

    def check(self, n_rows: int) -> None:
        """Raise `InputError` where a setting is out of range for a panel of ``n_rows`` rows."""
        ...

    def counts(self, n_rows: int, seed: int, start: int, stop: int) -> np.ndarray:
        """Return how often universes start to stop - 1 hold each row: (stop - start, n_rows), at least 0."""
        ...

    def settings(self) -> dict[str, Any]:
        """Return name and settings as plain values, for a record in JSON."""
        ...


@dataclasses.dataclass(frozen=True)
class Bootstrap:
    """Resamples of a panel's T rows, with replacement, each T rows long. Nothing is checked on construction.

    Every resample is a vector of counts: how often each row is in it.

    - ``"iid"``: every row on its own (Efron, 1979).
    - ``"circular"``: blocks of ``block_length`` rows from uniform starts, the panel wrapped into a circle (Politis and
      Romano, 1992). The last block is cut so that there are T rows in all.
    - ``"moving"``: the same without the wrap, starts uniform over 0 to T - block_length (Kuensch, 1989; Liu and Singh,
      1992). The panel's first and last rows are drawn less often than the others.
    - ``"stationary"``: blocks of geometric length with mean ``block_length`` on the circle: each row starts a new block
      with probability 1 / block_length (Politis and Romano, 1994).

    Attributes:
        n: number of resamples, at least 1.
        method: one of the four above.
        block_length: rows in a block, 1 to T; None (and required so) for ``"iid"``. A whole number, except that the
            mean length of ``"stationary"`` need not be.

    Example:
        >>> bootstrap = Bootstrap(n=1000, method="circular", block_length=5)
        >>> counts = bootstrap.counts(n_rows=252, seed=0, start=0, stop=3)
        >>> counts.shape, counts.sum(axis=1).tolist()
        ((3, 252), [252, 252, 252])
    """

    n: int
    method: Method = "iid"
    block_length: float | None = None

    def check(self, n_rows: int) -> None:
        """Raise `InputError` where a setting is out of range for a panel of ``n_rows`` rows."""
        whole_number("n, the number of resamples,", self.n, 1)
        if self.method not in get_args(Method):
            raise InputError(f"unknown bootstrap method {self.method!r}; choose from {', '.join(get_args(Method))}")
        if self.method == "iid":
            if self.block_length is not None:
                raise InputError(
                    f"block_length is {self.block_length!r}, but the iid bootstrap has no blocks: leave it out, or "
                    "choose the method circular, stationary or moving"
                )
            return
        if self.block_length is None:
            raise InputError(f"the {self.method} bootstrap needs a block_length, such as 21 rows")
        wanted = "a number" if self.method == "stationary" else "a whole number"
        if not _is_length(self.block_length, n_rows, whole=self.method != "stationary"):
            raise InputError(
                f"block_length must be {wanted} from 1 to {n_rows}, the panel's rows, not {self.block_length!r}"
            )

    def counts(self, n_rows: int, seed: int, start: int, stop: int) -> np.ndarray:
        """Draw resamples ``start`` to ``stop - 1``.

        Args:
            n_rows: T, rows of the panel.
            seed: 0 to 2**32 - 1.
            start: first resample, from 0.
            stop: one past the last, at most ``n``.

        Returns:
            (stop - start, T) int32 counts; each row of it sums to T.

        Raises:
            InputError: a setting, the seed or the range is at fault.
        """
        whole_number("n_rows", n_rows, 1)
        self.check(n_rows)
        seed = check_seed(seed)
        if not 0 <= start <= stop <= self.n:
            raise InputError(f"resamples {start} to {stop} are not within 0 to n = {self.n}")
        key = jax.random.key(seed, impl="threefry2x32")
        drawn = np.empty((stop - start, n_rows), np.int32)
        for low in range(start, stop, _BLOCK):
            index = np.arange(low, low + _BLOCK, dtype=np.uint32)
            block = _count_block(key, index, self.method, n_rows, self._block_number())
            drawn[low - start : low - start + _BLOCK] = np.asarray(block)[: stop - low]
        return drawn

    def settings(self) -> dict[str, Any]:
        """Return ``{"sampler": "Bootstrap", "n": ..., "method": ..., "block_length": ...}``, plain values."""
        length = None if self.block_length is None else np.asarray(self.block_length).item()
        return {"sampler": "Bootstrap", "n": int(self.n), "method": self.method, "block_length": length}

    def _block_number(self) -> np.generic:
        """What the kernel is told of the blocks: their length, or the probability that a row starts one."""
        length = 1 if self.block_length is None else self.block_length
        # divided here, because a device need not round a float32 quotient as another does
        return np.float32(1 / length) if self.method == "stationary" else np.int32(length)


def check_seed(seed: Any) -> int:
    """Return ``seed`` as an int; raise `InputError` unless it is a whole number from 0 to 2**32 - 1."""
    return whole_number("seed", seed, 0, _MAX_SEED)


def whole_number(name: str, value: Any, lowest: int, highest: int | None = None) -> int:
    """Return ``value`` as an int; raise `InputError` unless it is a whole number within the bounds."""
    try:
        number = None if isinstance(value, (bool, np.bool_)) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < lowest or (highest is not None and number > highest):
        bounds = f"at least {lowest}" if highest is None else f"from {lowest} to {highest}"
        raise InputError(f"{name} must be a whole number {bounds}, not {value!r}")
    return number


def _is_length(value: Any, n_rows: int, whole: bool) -> bool:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return False
    return not isinstance(value, (bool, str)) and 1 <= number <= n_rows and (not whole or number == int(number))


@functools.partial(jax.jit, static_argnums=(2, 3))
def _count_block(key: Array, index: Array, method: Method, n_rows: int, block: Array) -> Array:
    """(len(index), T) int32 counts of the resamples ``index``."""

    def one(i: Array) -> Array:
        rows = _ROWS[method](jax.random.fold_in(key, i), n_rows, block)
        return jnp.zeros(n_rows, jnp.int32).at[rows].add(1)

    with jax.named_scope("bootstrap"):
        return jax.vmap(one)(index)


def circular_rows(key: Array, n_rows: int, length: Array) -> Array:
    """(T,) int32 rows of one circular resample; block b starts at the b-th of T uniform draws."""
    position = jnp.arange(n_rows, dtype=jnp.int32)
    starts = jax.random.randint(key, (n_rows,), 0, n_rows, jnp.int32)
    return (starts[position // length] + position % length) % n_rows


def moving_rows(key: Array, n_rows: int, length: Array) -> Array:
    """(T,) int32 rows of one moving-block resample; block b starts at the b-th of T draws over 0 to T - length."""
    position = jnp.arange(n_rows, dtype=jnp.int32)
    starts = jax.random.randint(key, (n_rows,), 0, n_rows - length + 1, jnp.int32)
    return starts[position // length] + position % length


def stationary_rows(key: Array, n_rows: int, probability: Array) -> Array:
    """(T,) int32 rows of one stationary resample: each follows the one before, or with ``probability`` starts anew."""
    position = jnp.arange(n_rows, dtype=jnp.int32)
    key_start, key_new = jax.random.split(key)
    starts = jax.random.randint(key_start, (n_rows,), 0, n_rows, jnp.int32)
    new = jax.random.uniform(key_new, (n_rows,), jnp.float32) < probability
    first = jax.lax.cummax(jnp.where(new, position, 0))  # where the block that holds this position begins
    return (starts[first] + position - first) % n_rows


_ROWS: dict[Method, Callable[[Array, int, Array], Array]] = {
    "iid": circular_rows,  # in blocks of one row
    "circular": circular_rows,
    "moving": moving_rows,
    "stationary": stationary_rows,
}
