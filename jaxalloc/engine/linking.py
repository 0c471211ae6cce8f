"""Clusters of the universes that have large components: their assets go into tables of canonical sizes."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np

from jaxalloc.engine import stages
from jaxalloc.engine.calls import Calls
from jaxalloc.engine.shapes import LINKED, canonical_each, lengthened, link_few
from jaxalloc.kernels.clusters.components import Pieces
from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.portfolios.estimates import Estimates
from jaxalloc.settings.config import AllocationConfig

_TURNS = 4  # a few tables at a time, so many times a call


def link_group(
    calls: Calls,
    estimates: Estimates,
    pieces: Pieces,
    stop: np.ndarray,
    count: int,
    choices: AllocationConfig,
    backend: Backend,
) -> Estimates:
    """Merge inside the large components of a group's universes, and number their clusters anew.

    Args:
        calls: what runs programs.
        estimates: of the group, with the clusters so far.
        pieces: what is left to merge.
        stop: (U,) heights.
        count: universes of the group that are not padding.
        choices: linkage and distance.
        backend: static.
    """
    large = np.asarray(pieces.large)[:count]
    sizes = np.sum(large, axis=1)
    if not sizes.any():
        return estimates
    rows_of = np.where(sizes > 0, canonical_each(sizes, LINKED), 0)
    root = np.array(pieces.root)
    merge = functools.partial(stages.link_tables, linkage=choices.linkage, distance=choices.distance)
    for rows in np.unique(rows_of[rows_of > 0]).tolist():
        few = link_few(rows, backend)
        each = few * _TURNS
        run = functools.partial(merge, few=few)
        members = np.flatnonzero(rows_of == rows)
        for first in range(0, len(members), each):
            chosen = members[first : first + each]
            slots = lengthened(chosen, each)
            # the numbers of the large assets, in order, then of others
            assets = np.argsort(~large[slots], axis=1, kind="stable")[:, :rows].astype(np.int32)
            assets = np.pad(assets, ((0, 0), (0, rows - assets.shape[1])))
            there = np.arange(rows) < sizes[slots, None]
            tables = _tables(calls, estimates.covariance, slots, assets, backend)
            steps = np.int32(-(-len(chosen) // few))
            static = few, choices.linkage, choices.distance
            linked = np.asarray(calls.run("link", run, static, tables, there, stop[slots], steps))
            row, place = np.nonzero(there[: len(chosen)])
            root[chosen[row], assets[row, place]] = assets[row, linked[row, place]]
    labels, counts = _labels(root, np.asarray(estimates.active))
    valid = np.asarray(estimates.valid)
    return estimates._replace(
        labels=jax.numpy.asarray(np.where(valid[:, None], labels, 0)), n_clusters=np.where(valid, counts, 1)
    )


def _tables(calls: Calls, covariance: Any, slots: np.ndarray, assets: np.ndarray, backend: Backend) -> Any:
    """(M, R, R) covariances of some assets (M, R) of the universes ``slots`` (M,)."""
    if backend is Backend.ACCELERATOR:  # where they are
        return calls.run("gather tables", stages.gather_tables, (), covariance, slots.astype(np.int32), assets)
    lines = np.asarray(covariance)[slots[:, None], assets]  # whole lines at once, which is faster than number by number
    return np.take_along_axis(lines, assets[:, None, :], axis=2)


def _labels(root: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels (U, N) int32 and numbers of clusters (U,) int32, numbered by first asset."""
    first = active & (root == np.arange(root.shape[1]))
    number = np.cumsum(first, axis=1, dtype=np.int32) - 1
    labels = np.where(active, np.take_along_axis(number, root, axis=1), np.int32(-1)).astype(np.int32)
    return labels, np.asarray(np.sum(first, axis=1, dtype=np.int32))
