"""Universes that hold a small piece of a long panel: what they need of it is in their own rows.

The host finds the upper tails, by sorts of the rows of each window. NumPy sorts short columns in a tenth of the time
that a program of XLA takes to bisect them. A program computes the moments, from the rows of the window alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jax import Array, lax

from jaxalloc.kernels.moments.panel import SharedPanel, computable, inverse_scales, medians
from jaxalloc.kernels.moments.tails import TAIL_QUANTILE, Tail

_NONE = -1  # key of a row that is not held
_BYTES = 2**20  # of the keys that are sorted together: they fit the near cache


class Rows(NamedTuple):
    """The rows of a long panel, as a program reads them.

    Attributes:
        centred: (T, N) returns minus ``centre``; 0 where missing.
        centre: (N,) the median of each column.
        inverse_scale: (N,) as in `SharedPanel`.
        missing: (T, N) 1.0 where a return is missing or too large to compute with, else 0; None where none is.
    """

    centred: Any
    centre: Any
    inverse_scale: Any
    missing: Any


class Ranks(NamedTuple):
    """The returns of a long panel in order, on the host.

    Attributes:
        keys: (N, T) of each return its place among its asset's from the least on; below that in ``bits`` its row.
        bits: in which any row fits.
        ascending: (N, T) the returns of each asset in order; 0 where missing.
    """

    keys: np.ndarray
    bits: int
    ascending: np.ndarray


class Facts(NamedTuple):
    """What the host finds out about windows: upper tails (U, N), and (U, N) bool the assets that stand still."""

    tail: Tail
    constant: Any


def rows_of(returns: np.ndarray, n_rows: int, n_assets: int) -> Rows:
    """Return what programs read of a panel (T, N), NaN where missing, padded to so many rows and assets."""
    finite = computable(returns)
    centre, (length, count) = medians(returns, finite), returns.shape

    def padded(values: np.ndarray) -> np.ndarray:
        table = np.zeros((n_rows, n_assets), returns.dtype)
        table[:length, :count] = values
        return table

    centred = padded(np.where(finite, np.where(finite, returns, 0) - centre[None, :], 0))
    return Rows(
        centred=centred,
        centre=np.pad(centre, (0, n_assets - count)),
        inverse_scale=inverse_scales(centred),
        missing=None if finite.all() else padded(~finite),
    )


def ranks_of(returns: np.ndarray) -> Ranks:
    """Sort a panel (T, N), NaN where missing."""
    columns = np.ascontiguousarray(np.where(computable(returns), returns, 0).T)
    order, length = np.argsort(columns, axis=1), columns.shape[1]
    bits = (length - 1).bit_length()
    place = np.arange(length, dtype=np.int32 if 2 * bits < 32 else np.int64)
    keys = np.empty(columns.shape, place.dtype)
    np.put_along_axis(keys, order, np.broadcast_to(place, keys.shape), axis=1)
    return Ranks(
        keys=(keys << bits) | place,
        bits=bits,
        ascending=np.take_along_axis(columns, order, axis=1),
    )


def facts_of(ranks: Ranks, first: np.ndarray, weights: np.ndarray, n_assets: int) -> Facts:
    """What windows need to know of their returns.

    The tail is that of `jaxalloc.kernels.moments.tails.sample_tail`.

    Args:
        ranks: of the panel.
        first: (U,) the first row of each window.
        weights: (U, R) observation weights of the rows from there on. What is past the panel has none.
        n_assets: what N is padded to; the padding has no tail, and stands still.
    """
    (count, length), n = weights.shape, len(ranks.keys)
    with np.errstate(invalid="ignore"):
        c = np.where((weights > 0) & (weights < np.inf), weights, 0)  # with others a universe is invalid
    mean, constant = np.zeros((count, n_assets), c.dtype), np.ones((count, n_assets), bool)
    exists = np.zeros((count, n_assets), bool)
    at_once = max(1, _BYTES // (n * length * ranks.keys.itemsize))
    for begin in range(0, count, at_once):
        some = slice(begin, begin + at_once)
        mean[some, :n], exists[some, :n], constant[some, :n] = _facts_of_few(ranks, first[some], c[some])
    return Facts(tail=Tail(mean=mean, exists=exists), constant=constant)  # type: ignore[arg-type]


def _facts_of_few(ranks: Ranks, first: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means of the tails, whether there is one, and whether an asset stands still: (U, N) each, of weights (U, R)."""
    used = c > 0
    held = used.sum(axis=1)
    length = max(int((np.arange(1, c.shape[1] + 1) * used).max()), 1)  # no more rows than any window holds
    window, asset = np.arange(len(c))[:, None], np.arange(len(ranks.keys))
    keys = np.empty((len(c), len(asset), length), ranks.keys.dtype)
    for own, start in zip(keys, first.tolist(), strict=True):
        rows = ranks.keys[:, start : start + length]
        own[:, : rows.shape[1]] = rows
    np.copyto(keys, _NONE, where=~used[:, None, :length])
    keys.sort(axis=2)

    def values_of(keys: np.ndarray) -> np.ndarray:  # (..., U, N); anything where no row is held
        return ranks.ascending[asset, np.maximum(keys, 0) >> ranks.bits]

    total = c.sum(axis=1, dtype=c.dtype)
    h = (TAIL_QUANTILE * np.maximum(total - 1, 0)).astype(c.dtype)
    k = np.floor(h)
    # with the smallest weight each, so many rows from the top reach the quantile
    enough = (total - k) / np.min(np.where(used, c, np.inf), axis=1)
    top = np.ascontiguousarray(np.moveaxis(keys[:, :, ::-1][:, :, : int(min(enough.max() + 2, length))], 2, 0))
    row = np.clip((top & ((1 << ranks.bits) - 1)) - first[:, None], 0, length - 1)
    weight, value = np.where(top == _NONE, 0, c[window, row]), values_of(top)
    above = np.zeros_like(weight)
    np.cumsum(weight[:-1], axis=0, out=above[1:])

    def last_with_less_above(needed: np.ndarray) -> np.ndarray:
        place = np.sum((above < needed[:, None]) & (top != _NONE), axis=0) - 1
        return value[np.maximum(place, 0), window, asset]

    low, high = last_with_less_above(total - k), last_with_less_above(total - k - 1)
    tail = np.where(value > low + (h - k)[:, None] * (high - low), weight, 0)
    # one after the other, so that the rows that another window needs change nothing
    weight, gains = (np.cumsum(each, axis=0)[-1] for each in (tail, tail * value))
    exists = weight > 0
    lowest = keys[window, asset, np.minimum(length - held, length - 1)[:, None]]
    constant = (values_of(top[0]) <= values_of(lowest)) | (held == 0)[:, None]
    return np.where(exists, gains / np.where(exists, weight, 1), 0), exists, constant


def pieces_of(rows: Rows, first: Array, length: int) -> tuple[Array, Array | None]:
    """(U, length, N) of ``centred`` and of ``missing``: the rows from ``first`` (U,) on."""

    def cut(table: Array | None) -> Array | None:  # one after the other: a gather would take several times as long
        return None if table is None else lax.map(lambda row: lax.dynamic_slice_in_dim(table, row, length), first)

    centred = cut(rows.centred)
    assert centred is not None
    return centred, cut(rows.missing)


def panel_of_rows(rows: Rows) -> SharedPanel:
    """A panel without the tables of products and of orders, so that `panel_moments` must be told what is constant."""
    none = rows.centred[:, :0]
    return SharedPanel(
        centred=rows.centred,
        centre=rows.centre,
        inverse_scale=rows.inverse_scale,
        cubed=(rows.centred * rows.inverse_scale[None, :]) ** 3,
        missing=rows.missing,
        outer=none,
        returns=none,
        order=none,
        descending=none,
        most_repeated=np.int32(0),
    )
