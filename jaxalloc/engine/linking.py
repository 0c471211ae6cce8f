"""Clusters of the universes that have large components: their assets go into tables of canonical sizes."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np

from jaxalloc.engine import stages
from jaxalloc.engine.calls import Calls, Work
from jaxalloc.engine.making import Stage
from jaxalloc.engine.shapes import LINKED, canonical_each, lengthened, link_few, link_turns
from jaxalloc.kernels.clusters.components import Pieces
from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.portfolios.estimates import Estimates

GATHER_TABLES = Stage(name="gather tables", function=stages.gather_tables)


def link_group(
    calls: Calls, work: Work, estimates: Estimates, pieces: Pieces, stop: np.ndarray, count: int
) -> Estimates:
    """Merge inside the large components of a group's universes, and number their clusters anew.

    Args:
        calls: what runs programs.
        work: what all parts on the device have in common.
        estimates: of the group, with the clusters so far.
        pieces: what is left to merge.
        stop: (U,) heights.
        count: universes of the group that are not padding.
    """
    large = np.asarray(pieces.large)[:count]
    sizes = np.sum(large, axis=1)
    if not sizes.any():
        return estimates
    rows_of = np.where(sizes > 0, canonical_each(sizes, LINKED), 0)
    root = np.array(pieces.root)
    on_host = work.backend is Backend.CPU
    covariance: Any = np.asarray(estimates.covariance) if on_host else estimates.covariance
    merges = {rows: _stage(work, rows) for rows in np.unique(rows_of[rows_of > 0]).tolist()}
    for rows, (link, _, each) in merges.items():  # side by side
        tables = jax.ShapeDtypeStruct((each, rows, rows), work.dtype)
        numbers = jax.ShapeDtypeStruct((each, rows), bool), jax.ShapeDtypeStruct((each,), work.dtype)
        calls.prefetch(link, tables, *numbers, jax.ShapeDtypeStruct((), np.int32))
    for rows, (link, few, each) in merges.items():
        members = np.flatnonzero(rows_of == rows)
        for first in range(0, len(members), each):
            chosen = members[first : first + each]
            steps = -(-len(chosen) // few)
            slots = lengthened(chosen, steps * few)
            # the numbers of the large assets, in order, then of others
            assets = np.argsort(~large[slots], axis=1, kind="stable")[:, :rows].astype(np.int32)
            assets = np.pad(assets, ((0, 0), (0, rows - assets.shape[1])))
            there = np.arange(rows) < sizes[slots, None]
            if on_host:
                tables = work.room.on_host((each, rows, rows), covariance.dtype)
                _gather(covariance, slots, assets, tables)
            else:
                at = lengthened(slots, each).astype(np.int32), lengthened(assets, each)
                tables = calls.run(GATHER_TABLES, covariance, *at)
            numbers = lengthened(there, each), lengthened(stop[slots], each), np.int32(steps)
            linked = np.asarray(calls.run(link, tables, *numbers))
            if on_host:
                work.room.give_back(tables)
            row, place = np.nonzero(there[: len(chosen)])
            root[chosen[row], assets[row, place]] = assets[row, linked[row, place]]
    labels, counts = _labels(root, np.asarray(estimates.active))
    valid = np.asarray(estimates.valid)
    return estimates._replace(
        labels=jax.numpy.asarray(np.where(valid[:, None], labels, 0)), n_clusters=np.where(valid, counts, 1)
    )


def _stage(work: Work, rows: int) -> tuple[Stage, int, int]:
    """What merges inside tables of so many assets, how many of them at once, and how many a call takes."""
    few, linkage, distance = link_few(rows, work.backend, work.sizes), work.config.linkage, work.config.distance
    merge = functools.partial(stages.link_tables, linkage=linkage, distance=distance, few=few)
    return Stage(name="link", function=merge, static=(few, linkage, distance)), few, few * link_turns(work.backend)


def _gather(covariance: np.ndarray, slots: np.ndarray, assets: np.ndarray, into: np.ndarray) -> None:
    """Copy the covariances of some assets (M, R) of the universes ``slots`` (M,) to the first of (M', R, R)."""
    n = covariance.shape[-1]
    number = (slots * n**2)[:, None, None] + (assets * n)[:, :, None] + assets[:, None, :]
    # the mode spares a copy
    covariance.reshape(-1).take(number, out=into[: len(slots)], mode="clip")


def _labels(root: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels (U, N) int32 and numbers of clusters (U,) int32, numbered by first asset."""
    first = active & (root == np.arange(root.shape[1]))
    number = np.cumsum(first, axis=1, dtype=np.int32) - 1
    labels = np.where(active, np.take_along_axis(number, root, axis=1), np.int32(-1)).astype(np.int32)
    return labels, np.asarray(np.sum(first, axis=1, dtype=np.int32))
