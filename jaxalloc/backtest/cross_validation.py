"""Combinatorially symmetric cross-validation of a choice by Sharpe ratio. NumPy's arrays alone.

The rows are cut into an even number of blocks. Every half of the blocks is in sample once, and the other half out of
sample. The trial with the best ratio in sample is chosen, and ranked among all trials out of sample (Bailey, Borwein,
Lopez de Prado and Zhu, 2017).

A half's mean and deviation follow from its blocks' sums of returns and of squares, so that those of many halves are two
matrix products.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from jaxalloc.kernels.lanes.precision import flat_below

MOST_BLOCKS = 20  # 184,756 halves
ROWS_OF_BLOCK = 2  # at least

_CHUNK_BYTES = 2**23  # of one array over halves and trials
# Ratios that differ by less are equal: the order of summation alone tells them apart. Relative to 1 and to the ratio.
_TIE = 1e-11


class Halves(NamedTuple):
    """What came of each of the C halves; the order is that of `itertools.combinations` of the blocks in sample.

    Attributes:
        best: (C,) int, the trial of the best ratio in sample, the first of equals.
        rank: (C,) of that trial among the M out of sample: 1 is the worst, equals have the mean of their ranks.
        in_sample: (C,) ratio of that trial, annual.
        out_of_sample: (C,) likewise.
    """

    best: np.ndarray
    rank: np.ndarray
    in_sample: np.ndarray
    out_of_sample: np.ndarray


class _BlockSums(NamedTuple):
    """Sums over the B blocks of L rows of M series of excess returns, less the series' means.

    Attributes:
        mean: (M,) of the excess returns.
        sums: (B, M) of what is left.
        squares: (B, M) of its squares.
        low: (B, F) smallest return of each block, for the F series that may be flat over half of the blocks.
        high: (B, F) likewise the largest.
        flat: (F,) int, the numbers of these series.
        bound: (F,) range up to which they are flat.
        root: (M,) square root of the periods a year.
        rows: L.
    """

    mean: np.ndarray
    sums: np.ndarray
    squares: np.ndarray
    low: np.ndarray
    high: np.ndarray
    flat: np.ndarray
    bound: np.ndarray
    root: np.ndarray
    rows: int


def used_rows(returns: np.ndarray, n_blocks: int) -> np.ndarray:
    """Return the rows that the blocks hold: the last ones of (M, D), a multiple of their number."""
    return returns[:, returns.shape[1] % n_blocks :]


def varying(returns: np.ndarray) -> np.ndarray:
    """Tell which of the (M, D) series vary by more than rounding."""
    return np.ptp(returns, axis=1) > flat_below(np.abs(returns).max(axis=1), np.float64)


def choose_on_halves(
    returns: np.ndarray, n_blocks: int, periods_per_year: np.ndarray, risk_free_rate: np.ndarray
) -> Halves:
    """Choose the best of M series on every half of the rows, and rank it on the other half.

    The ratio is the annual Sharpe ratio, deviation with divisor rows - 1; it is 0 on a half on which the series does
    not vary.

    Args:
        returns: (M, D) simple returns per period, D at least ``ROWS_OF_BLOCK`` ``n_blocks``.
        n_blocks: even number of blocks; the first D mod ``n_blocks`` rows are left out.
        periods_per_year: (M,).
        risk_free_rate: (M,) annual.
    """
    blocks = _blocks(used_rows(returns, n_blocks), n_blocks, periods_per_year, risk_free_rate)
    n_halves = math.comb(n_blocks, n_blocks // 2)
    found = Halves(
        best=np.empty(n_halves, int),
        rank=np.empty(n_halves),
        in_sample=np.empty(n_halves),
        out_of_sample=np.empty(n_halves),
    )
    most = max(1, _CHUNK_BYTES // (8 * len(returns)))
    for first, halves in _halves(n_blocks, most):
        # the other half of number i is number C - 1 - i: each pair of ratios serves both ways
        one, other = _ratios(blocks, halves), _ratios(blocks, ~halves)
        places = np.arange(first, first + len(halves))
        for inside, outside, at in ((one, other, places), (other, one, n_halves - 1 - places)):
            for values, result in zip(_judge(inside, outside), found, strict=True):
                result[at] = values
    return found


def _blocks(returns: np.ndarray, n_blocks: int, periods_per_year: np.ndarray, risk_free_rate: np.ndarray) -> _BlockSums:
    excess = returns - (risk_free_rate / periods_per_year)[:, None]
    mean = excess.mean(axis=1)
    by_block = (excess - mean[:, None]).reshape(len(returns), n_blocks, -1)  # small, so that squares lose no digits
    own = returns.reshape(by_block.shape)
    low, high = own.min(axis=2).T, own.max(axis=2).T
    bound = np.asarray(flat_below(np.abs(returns).max(axis=1), np.float64))
    flat = np.flatnonzero((high - low <= bound).sum(axis=0) >= n_blocks // 2)
    return _BlockSums(
        mean=mean,
        sums=by_block.sum(axis=2).T,
        squares=(by_block**2).sum(axis=2).T,
        low=low[:, flat],
        high=high[:, flat],
        flat=flat,
        bound=bound[flat],
        root=np.sqrt(periods_per_year),
        rows=by_block.shape[2],
    )


def _halves(n_blocks: int, most: int) -> Iterator[tuple[int, np.ndarray]]:
    """The halves that hold the first block, (count, B) bool, ``most`` at a time, with the number of the first one."""
    chosen = itertools.combinations(range(n_blocks), n_blocks // 2)
    total, first = math.comb(n_blocks, n_blocks // 2) // 2, 0
    while first < total:
        members = np.array(list(itertools.islice(chosen, min(most, total - first))))
        halves = np.zeros((len(members), n_blocks), bool)
        np.put_along_axis(halves, members, values=True, axis=1)
        yield first, halves
        first += len(members)


def _ratios(blocks: _BlockSums, halves: np.ndarray) -> np.ndarray:
    """(count, M) annual Sharpe ratios over the rows of (count, B) halves."""
    n = blocks.rows * halves.shape[1] // 2
    chosen = halves.astype(float)
    apart = chosen @ blocks.sums / n
    variance = np.maximum(chosen @ blocks.squares / n - apart**2, 0) * (n / (n - 1))
    still = variance <= 0
    for f, series in enumerate(blocks.flat):
        high = np.where(halves, blocks.high[:, f], -np.inf).max(axis=1)
        low = np.where(halves, blocks.low[:, f], np.inf).min(axis=1)
        still[:, series] |= high - low <= blocks.bound[f]
    ratios = np.divide(apart + blocks.mean, np.sqrt(variance), out=np.zeros_like(apart), where=~still)
    return ratios * blocks.root


def _judge(inside: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What `Halves` holds, of (count, M) ratios in and out of sample."""
    top = inside.max(axis=1, keepdims=True)
    best = (inside >= top - _near(top)).argmax(axis=1)
    chosen = np.take_along_axis(outside, best[:, None], axis=1)
    near = _near(chosen)
    below = (outside < chosen - near).sum(axis=1)
    upto = (outside <= chosen + near).sum(axis=1)
    own = np.take_along_axis(inside, best[:, None], axis=1)
    return best, (below + upto + 1) / 2, own[:, 0], chosen[:, 0]


def _near(ratios: np.ndarray) -> np.ndarray:
    return _TIE * (1 + np.abs(ratios))
