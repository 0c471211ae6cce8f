"""Bins over floating-point numbers, and histograms that keep their bins only where something is in them."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax


class Bins(NamedTuple):
    """Bins of a histogram over floating-point numbers.

    Attributes:
        low: exponent of the smallest number that is not 0.
        high: exponent past that of the largest.
        bits: leading bits of the mantissa that choose the bin.
        signed: whether there are bins below 0.
    """

    low: int
    high: int
    bits: int
    signed: bool

    @property
    def half(self) -> int:
        """Bins above 0."""
        return (self.high - self.low) << self.bits

    @property
    def count(self) -> int:
        """Bins in all: below 0 from the largest size to the smallest, 0, above 0."""
        return self.half * (2 if self.signed else 1) + 1


WEIGHT_BINS = Bins(low=-20, high=1, bits=7, signed=False)
MEASURE_BINS = Bins(low=-30, high=20, bits=8, signed=True)


def bin_of(values: Array, bins: Bins) -> Array:
    """Return the bin of each number, int32; one beyond the largest is in the last bin, one too small in that of 0."""
    # float32 has enough bits of the mantissa, and does not depend on the precision of the study
    size = jnp.abs(values).astype(jnp.float32)
    pattern = lax.bitcast_convert_type(size, jnp.int32) >> (23 - bins.bits)
    place = pattern - ((bins.low + 127) << bins.bits) + 1
    place = jnp.clip(place, 0, bins.half)
    return bins.half + jnp.where(values < 0, -place, place) if bins.signed else jnp.where(values > 0, place, 0)


def bin_edges(bins: Bins) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and upper edge of every bin; those of 0 are 0."""
    place = np.arange(bins.half + 1)
    edge = np.ldexp(1 + (place % (1 << bins.bits)) / (1 << bins.bits), bins.low + (place >> bins.bits))
    low, high = np.concatenate([[0], edge[:-1]]), np.concatenate([[0], edge[1:]])
    if not bins.signed:
        return low, high
    return np.concatenate([-high[:0:-1], low]), np.concatenate([-low[:0:-1], high])


class Histogram:
    """A histogram without its empty bins.

    Attributes:
        shape: of the whole array, the bins last.
        bins: (B,) flat positions of the bins that are not empty, ascending.
        held: (B,) what they hold.
    """

    def __init__(self, shape: tuple[int, ...], bins: np.ndarray, held: np.ndarray) -> None:
        """Take bins in ascending order."""
        self.shape, self.bins, self.held = shape, bins, held

    @classmethod
    def of(cls, dense: Any) -> Histogram:
        """Make a histogram of a whole array."""
        array = np.asarray(dense)
        flat = array.ravel()
        bins = np.flatnonzero(flat)
        return cls(array.shape, bins, flat[bins].astype(np.int64))

    def __add__(self, other: Histogram) -> Histogram:
        bins = np.union1d(self.bins, other.bins)
        held = np.zeros(len(bins), np.int64)
        for part in (self, other):
            held[np.searchsorted(bins, part.bins)] += part.held
        return Histogram(self.shape, bins, held)

    def dense(self) -> np.ndarray:
        """Return the whole array."""
        whole = np.zeros(int(np.prod(self.shape)), np.int64)
        whole[self.bins] = self.held
        return whole.reshape(self.shape)
