"""Bootstrap resamples, one after the other, with the bits that `jaxalloc.universes.bootstrap` draws in lanes.

Both draw from JAX's generator. A key and a counter give two words of 32 random bits (threefry2x32: Salmon, Moraes, Dror
and Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011). Here is the part of `jax.random` that a bootstrap needs,
as it is with ``jax_threefry_partitionable``, its default: each number has a counter of its own. So loops over numbers
vectorise, and a bootstrap of long blocks draws no more starts than it has blocks.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from jaxalloc.kernels.scalar.compiling import inlined_sums, inner, scalar

Array = np.ndarray
Key = tuple[Any, Any]  # two uint32

CIRCULAR, MOVING, STATIONARY = range(3)
METHODS = {"iid": CIRCULAR, "circular": CIRCULAR, "moving": MOVING, "stationary": STATIONARY}

_WHOLE_PANEL = -1  # `jaxalloc.universes.universe.WHOLE_PANEL`
_U32, _ONE, _MOST = np.uint32, np.uint32(1), np.uint32(2**32 - 1)
_PARITY = np.uint32(0x1BD11BDA)
_MANTISSA = 23  # bits of a float32 that is drawn uniformly


@inlined_sums
def _four_rounds(x: Any, y: Any, first: int, second: int, third: int, fourth: int) -> Key:
    """Four rounds, by their rotations; numba's sums of two uint32 have 64 bits, hence the conversions."""
    for turn in (first, second, third, fourth):
        x = _U32(x + y)
        y = _U32(_U32(y << _U32(turn)) | (y >> _U32(32 - turn)))
        y = _U32(x ^ y)
    return x, y


@inlined_sums
def _hash(key: Key, counter: Any) -> Key:
    """Threefry2x32 of a key and the counter (0, ``counter``), in 20 rounds."""
    a, b = key
    c = _U32(a ^ b ^ _PARITY)
    x, y = _four_rounds(a, _U32(counter + b), 13, 15, 26, 6)
    x, y = _four_rounds(_U32(x + b), _U32(y + c + _U32(1)), 17, 29, 16, 24)
    x, y = _four_rounds(_U32(x + c), _U32(y + a + _U32(2)), 13, 15, 26, 6)
    x, y = _four_rounds(_U32(x + a), _U32(y + b + _U32(3)), 17, 29, 16, 24)
    x, y = _four_rounds(_U32(x + b), _U32(y + c + _U32(4)), 13, 15, 26, 6)
    return _U32(x + c), _U32(y + a + _U32(5))


@inner
def _bits(key: Key, out: Array) -> None:
    """`jax.random.bits`: the same as many uint32, in place."""
    for t in range(len(out)):
        x, y = _hash(key, _U32(t))
        out[t] = x ^ y


@inlined_sums
def _remainder(value: Any, span: Any, inverse: Any) -> Any:
    """``value % span`` for any uint32, from ``inverse`` = (2^32 - 1) // span.

    The quotient by the inverse is exact or one too small; the least of the remainder and of that without another span,
    which then is no negative number but a large one, is the true remainder.
    """
    quotient = _U32((np.uint64(value) * np.uint64(inverse)) >> np.uint64(32))
    rest = _U32(value - _U32(quotient * span))
    return min(rest, _U32(rest - span))


@inner
def _below(key: Key, span: Any, high: Array, out: Array) -> None:
    """`jax.random.randint` from 0 to ``span`` - 1: the 64 bits of two words modulo the span, in place of ``out``.

    Args:
        key: as there.
        span: uint32, at least 1; from 2^16 + 1 on, the lower word alone counts, as there.
        high: as long as ``out``, written.
        out: uint32.
    """
    _bits(_hash(key, _U32(0)), high)
    _bits(_hash(key, _U32(1)), out)
    inverse = _U32(_MOST // span)
    multiplier = _U32(_U32(2**16) % span)
    multiplier = _U32(_U32(multiplier * multiplier) % span)
    for t in range(len(out)):
        upper = _U32(_remainder(high[t], span, inverse) * multiplier)
        out[t] = _remainder(_U32(upper + _remainder(out[t], span, inverse)), span, inverse)


@inner
def _count_blocks(starts: Array, length: int, counts: Array) -> None:
    """Count the rows of blocks from these starts on, the last of them cut; past the last row comes the first."""
    n_rows, left = len(counts), len(counts)
    if length == 1:
        for start in starts:
            counts[np.intp(start)] += 1
        return
    for start in starts:
        row = np.intp(start)
        for _ in range(min(length, left)):
            counts[row] += 1
            row += 1
            if row == n_rows:
                row = 0
        left -= length


@inner
def _count_stationary(starts: Array, bits: Array, probability: float, counts: Array) -> None:
    """Count rows, each of which follows the one before, or by chance starts anew."""
    # what is drawn is a whole number of 2^-23, which is below the probability where that number is below this one
    n_rows, row, below = len(counts), 0, _U32(math.ceil(probability * 2.0**_MANTISSA))
    for t in range(n_rows):
        row += 1
        if t == 0 or bits[t] >> _U32(32 - _MANTISSA) < below:
            row = np.intp(starts[t])
        elif row == n_rows:
            row = 0
        counts[row] += 1


@inner
def _hold(counts: Array, gaps: Array, held: Array) -> None:
    """What the gaps (T, G) weigh that a universe holds, (G,) in place: whole numbers, so that no order rounds them."""
    held[:] = 0
    for t in range(len(counts)):
        if counts[t] > 0:
            for g in range(len(held)):
                held[g] += counts[t] * gaps[t, g]


@scalar
def draw(
    method: int,
    number: float,
    key: Array,
    size: int,
    gaps: Array,
    columns: Array,
    most: float,
    index: Array,
    weights: Array,
    masks: Array,
) -> None:
    """Draw universes: how often each holds the rows, and which of its assets have returns there.

    Args:
        method: `CIRCULAR`, `MOVING` or `STATIONARY`.
        number: rows of a block, 1 to T; of a stationary bootstrap the chance that a row starts one.
        key: (2,) uint32, of the seed.
        size: how many resamples there are, after which they start again from the first; 0 if they are unlimited.
        gaps: (T, G) what missing returns weigh, of the assets that lack any.
        columns: (G,) which assets these are.
        most: that the gaps of an asset may weigh in a universe.
        index: (U,) the universes' numbers; -1 for the panel itself.
        weights: (U, T), written.
        masks: (U, A) bool; of the columns with gaps, written.
    """
    n_rows = weights.shape[1]
    length = 1 if method == STATIONARY else min(np.intp(number), n_rows)
    span = _U32(n_rows - length + 1 if method == MOVING else n_rows)
    n_starts = -(-n_rows // length)
    starts, bits = np.empty(n_starts, np.uint32), np.empty(n_starts, np.uint32)
    held = np.empty(len(columns))
    seed = _U32(key[0]), _U32(key[1])
    for b in range(len(index)):
        turn = max(np.int64(index[b]), 0)
        own = _hash(seed, _U32(turn % size if size > 0 else turn))
        counts = weights[b]
        counts[:] = 1 if index[b] == _WHOLE_PANEL else 0
        if index[b] == _WHOLE_PANEL:
            pass
        elif method == STATIONARY:
            _below(_hash(own, _U32(0)), span, bits, starts)
            _bits(_hash(own, _U32(1)), bits)
            _count_stationary(starts, bits, number, counts)
        else:
            _below(own, span, bits, starts)
            _count_blocks(starts, length, counts)
        if len(columns) > 0:
            _hold(counts, gaps, held)
        for g in range(len(columns)):
            masks[b, columns[g]] = held[g] <= most
