"""Flat clusters of assets below a threshold, one universe after the other.

It gives the partition of `jaxalloc.kernels.clusters.partition.cluster_assets` for the criterion ``"distance"``, by the
same argument as `jaxalloc.kernels.clusters.components`: no linkage merges below the threshold what is not connected by
pairs within it. One pass over the lower triangle of a covariance finds those pairs and joins their assets (union-find,
Tarjan 1975). For single linkage that is the answer. A component all of whose pairs are within the threshold is one
cluster, too, for average and complete linkage. Any other has a table of distances, which merges its nearest two
clusters until they are farther apart than the threshold (the generic algorithm of Muellner 2011).

Distances are never negative and never NaN, so they are compared as integers of the same bits: those have a minimum that
compilers vectorise.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from jaxalloc.kernels.scalar.compiling import inner, inner_sums, scalar
from jaxalloc.kernels.scalar.vectors import trailing_zeros

Array = np.ndarray[Any, Any]

LINKAGES = {"average": 0, "single": 1, "complete": 2, "ward": 3}
_SINGLE, _COMPLETE, _WARD = LINKAGES["single"], LINKAGES["complete"], LINKAGES["ward"]

# Columns that are looked through at once, a bit each of a word. Indices without a sign spare the compiler the case of
# those that count from the end, in which it does not vectorise.
_BLOCK = np.uint64(64)
_0, _1 = np.uint64(0), np.uint64(1)

# Rows of a component's table before those of the distances. The first are integers, the last a number.
_MEMBER, _INTO, _BOUND, _NEAREST, _DEAD, _SIZE, _ROWS = range(7)
_WIDTH = 5  # widths of a table are multiples of 2^5, which leaves no rest to loops of four vectors of eight
_APART = 8  # columns more, so that a column's entries do not all fall into the same few sets of a cache

_SLACK = 16 * float(np.finfo(np.float64).eps)
_INFINITY = int(np.array(np.inf).view(np.int64))


@scalar
def find_clusters(
    covariance: Array,
    active: Array,
    stop: Array,
    count: int,
    linkage: int,
    absolute: bool,
    labels: Array,
    n_clusters: Array,
) -> None:
    """Flat clusters of the first ``count`` universes, into ``labels`` and ``n_clusters``.

    The distance of two assets is sqrt((1 - rho) / 2), or sqrt((1 - abs(rho)) / 2); that of an asset without variance
    from any other is sqrt(1/2). A pair that has no distance, for a covariance that is NaN, is infinitely far apart.

    Args:
        covariance: (U, A, A) float32 or float64, symmetric up to rounding: only the lower triangle is read, and in it
            only the rows and columns of active assets.
        active: (U, A) bool.
        stop: (U,) float64, the largest distance at which clusters merge.
        count: at most U.
        linkage: a value of `LINKAGES`.
        absolute: whether the distance is that of the absolute correlation.
        labels: (U, A) int32, written: 0..K-1 in the order of each cluster's first asset, -1 where inactive.
        n_clusters: (U,) int32, written: K.

    Of equal distances that of the first assets merges first. The partition is SciPy's ``fcluster(Z, stop, "distance")``
    where no two distances are equal.
    """
    n = active.shape[1]
    inverse, lowest = np.empty(n), np.empty(n)
    root, following, degree = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int64)
    table = np.empty((_ROWS, 1))
    bits = table.view(np.int64)
    for u in range(count):
        values, height = covariance[u], stop[u] + 0.0  # a zero without a sign
        _join(values, active[u], height, linkage, absolute, inverse, root, degree, lowest)
        largest = _chain(root, following)
        if linkage != _SINGLE and largest > 1:
            width = (largest + (1 << _WIDTH) - 1) >> _WIDTH << _WIDTH
            if width + _APART > table.shape[1]:
                table = np.empty((_ROWS + width, width + _APART))
                bits = table.view(np.int64)
            _merge_components(values, height, linkage, absolute, inverse, root, following, degree, lowest, table, bits)
        k = 0
        for i in range(n):
            if not active[u, i]:
                labels[u, i] = -1
            elif root[i] == i:
                labels[u, i] = k
                k += 1
            else:
                labels[u, i] = labels[u, root[i]]
        n_clusters[u] = k


@inner_sums
def _distance(rho: float, absolute: bool) -> float:
    """Distance of two assets from their correlation, which rounding may have put outside [-1, 1]."""
    high = min(rho, 1.0)
    if absolute:
        high = min(abs(rho), 1.0)
    return math.sqrt((1 - max(high, -1.0)) / 2) if rho == rho else np.inf


@inner_sums
def _join(
    covariance: Array,
    active: Array,
    stop: float,
    linkage: int,
    absolute: bool,
    inverse: Array,
    root: Array,
    degree: Array,
    lowest: Array,
) -> None:
    """Join every two active assets that are within the threshold.

    Correlations tell which those are without N^2 roots. A pair too many, by rounding, does no harm: distances decide
    what merges.

    Args:
        covariance: (A, A).
        active: (A,).
        stop: the threshold.
        linkage: as in `find_clusters`; for single linkage the distance decides here.
        absolute: likewise.
        inverse: (A,) float64, written: 1 / volatility, 0 where there is no variance, NaN where inactive.
        root: (A,) int64, written: an earlier asset of the same component, or the asset itself if it is the first.
        degree: (A,) int64, written: how many earlier assets are within the threshold.
        lowest: (A,) float64, written: the lowest correlation with those, at most 1.
    """
    n = len(active)
    enough = 1 - 2 * stop * stop - _SLACK
    if enough <= -1:  # any correlation is, even one that rounding has put below -1
        enough = -np.inf
    for i in range(n):
        root[i], degree[i], lowest[i] = i, 0, 1.0
        inverse[i] = np.nan  # nothing compares with it: so do inactive assets not, nor those that are to come
    width = np.uint64(n)
    for i in range(n):
        if not active[i]:
            continue
        variance = np.float64(covariance[i, i])
        own = 1 / math.sqrt(variance) if variance > 0 else 0.0
        first, start, end = i, _0, np.uint64(i)
        while start < end:
            hits, begin = _0, _0
            if width < _BLOCK:
                for j in range(end):
                    rho = covariance[i, j] * (own * inverse[j])
                    hits |= np.uint64((abs(rho) if absolute else rho) >= enough) << j
            else:
                # always a whole block, which goes past the diagonal, or before the start where the row ends
                begin = min(start, width - _BLOCK)
                if absolute:
                    for j in range(_BLOCK):
                        hits |= np.uint64(abs(covariance[i, begin + j] * (own * inverse[begin + j])) >= enough) << j
                else:
                    for j in range(_BLOCK):
                        hits |= np.uint64(covariance[i, begin + j] * (own * inverse[begin + j]) >= enough) << j
            hits >>= start - begin
            while hits != _0:
                j = np.int64(start) + trailing_zeros(hits)
                hits &= hits - _1
                rho = covariance[i, j] * (own * inverse[j])
                rho = abs(rho) if absolute else rho
                degree[i] += 1
                lowest[i] = min(lowest[i], rho)
                if linkage != _SINGLE or _distance(rho, absolute) <= stop:
                    other = j
                    while root[other] != other:
                        root[other] = root[root[other]]
                        other = root[other]
                    root[max(first, other)] = min(first, other)
                    first = min(first, other)
            start += _BLOCK
        inverse[i] = own


@inner
def _chain(root: Array, following: Array) -> int:
    """Size of the largest component; ``root`` becomes the first asset of each, ``following`` the next or -1."""
    n, largest = len(root), 0
    for i in range(n):
        root[i] = root[root[i]]
        following[i] = 0
    for i in range(n):
        following[root[i]] += 1
    for i in range(n):
        largest = max(largest, following[i])
        following[i] = -1
    for i in range(n - 1, -1, -1):
        if root[i] != i:
            following[i] = following[root[i]]
            following[root[i]] = i
    return largest


@inner
def _merge_components(
    covariance: Array,
    stop: float,
    linkage: int,
    absolute: bool,
    inverse: Array,
    root: Array,
    following: Array,
    degree: Array,
    lowest: Array,
    table: Array,
    bits: Array,
) -> None:
    """Part the components into their clusters: ``root`` becomes the first asset of each asset's cluster.

    Args:
        covariance: (A, A).
        stop: the threshold.
        linkage: as in `find_clusters`.
        absolute: likewise.
        inverse: (A,) from `_join`.
        root: (A,) from `_chain`.
        following: (A,) likewise; -1 afterwards.
        degree: (A,) from `_join`.
        lowest: (A,) likewise.
        table: scratch of `_ROWS` and as many rows, and at least as many columns, as the width of the largest component.
        bits: the same memory as int64.
    """
    table[_SIZE, 0] = stop
    limit = min(bits[_SIZE, 0], _INFINITY - 1)
    for first in range(len(root)):
        if following[first] < 0 or root[first] != first:
            continue
        m, pairs, low, asset = 0, 0, 1.0, first
        while asset >= 0:
            bits[_MEMBER, m] = asset
            m += 1
            pairs += degree[asset]
            low = min(low, lowest[asset])
            after = following[asset]
            following[asset] = -1  # members that become first of a cluster are not to be taken for first of another
            asset = after
        clique = 2 * pairs == m * (m - 1) and (linkage != _WARD or m == 2)
        if clique and _distance(low, absolute) <= stop * (1 - _SLACK):
            continue
        width = (m + (1 << _WIDTH) - 1) >> _WIDTH << _WIDTH
        _fill(covariance, inverse, absolute, m, width, table, bits)
        _agglomerate(table, bits, m, width, limit, linkage)
        for p in range(m):
            root[bits[_MEMBER, p]] = bits[_MEMBER, bits[_INTO, p]]


@inner_sums
def _fill(covariance: Array, inverse: Array, absolute: bool, m: int, width: int, table: Array, bits: Array) -> None:
    """Distances of a component's ``m`` members, infinite on the diagonal and in columns from ``m`` to ``width``.

    Each has the nearest of those after it, the first of several, and that distance as a bound.
    """
    for q in range(width):
        bits[_BOUND, q], bits[_NEAREST, q], bits[_INTO, q] = _INFINITY, 0, q
        bits[_DEAD, q] = 0 if q < m else _INFINITY
        table[_SIZE, q] = 1.0
    for p in range(m):
        i, row, end = bits[_MEMBER, p], _ROWS + p, (p + 7) >> 3 << 3
        own = inverse[i]
        for q in range(p):
            j = bits[_MEMBER, q]
            table[row, q] = covariance[i, j] * (own * inverse[j])
        for q in range(p, width):
            table[row, q] = np.inf
        for q in range(end):
            d = _distance(table[row, q], absolute)
            table[row, q] = d if q < p else np.inf
        for q in range(end):
            bits[_NEAREST, q] = p if bits[row, q] < bits[_BOUND, q] else bits[_NEAREST, q]
            bits[_BOUND, q] = min(bits[_BOUND, q], bits[row, q])
        for q in range(p):
            table[_ROWS + q, p] = table[row, q]


@inner_sums
def _agglomerate(table: Array, bits: Array, m: int, width: int, limit: int, linkage: int) -> None:
    """Merge a component's nearest two clusters until they are farther apart than the threshold.

    A cluster is known by its first member. The distance to the nearest of those after it is known as a lower bound: a
    merger brings nothing closer, and what went stale is searched anew only when its turn comes.

    Args:
        table: from `_fill`.
        bits: the same memory as int64. The first members of the clusters are left in its row `_INTO`.
        m: members.
        width: columns in use.
        limit: the bits of the threshold, less than those of infinity.
        linkage: as in `find_clusters`.
    """
    end = np.uint64(width)
    while True:
        height = _INFINITY
        for q in range(width):
            height = min(height, bits[_BOUND, q])
        if height > limit:
            break
        one = width
        for q in range(width):
            one = min(one, q if bits[_BOUND, q] == height else width)
        two = bits[_NEAREST, one]
        row, other = _ROWS + one, _ROWS + two
        if bits[row, two] | bits[_DEAD, two] == height:  # not stale
            a, b, h = table[_SIZE, one], table[_SIZE, two], table[row, two]
            bits[_DEAD, two] = bits[_BOUND, two] = _INFINITY
            if linkage == _COMPLETE:
                for q in range(width):
                    table[row, q] = max(table[row, q], table[other, q])
            elif linkage == _WARD:
                for q in range(width):
                    c, f, s = table[_SIZE, q], table[row, q], table[other, q]
                    squared = ((a + c) * f**2 + (b + c) * s**2 - c * h**2) / (a + b + c)
                    table[row, q] = math.sqrt(squared) if squared > 0 else 0.0
            else:
                for q in range(width):
                    table[row, q] = (a * table[row, q] + b * table[other, q]) / (a + b)
            table[row, one] = np.inf
            for q in range(width):
                union = bits[row, q] | bits[_DEAD, q]
                bits[_BOUND, q] = min(bits[_BOUND, q], union if q < one else _INFINITY)
            for q in range(m):
                table[_ROWS + q, one] = table[row, q]
            table[_SIZE, one] = a + b
            bits[_INTO, two] = one
        best, nearest, after = _INFINITY, end - _1, np.uint64(one)
        start = np.uint64(one >> _WIDTH << _WIDTH)
        for q in range(start, end):
            best = min(best, bits[row, q] | bits[_DEAD, q] if q > after else _INFINITY)
        for q in range(start, end):
            nearest = min(nearest, q if bits[row, q] | bits[_DEAD, q] == best and q > after else end)
        bits[_BOUND, one], bits[_NEAREST, one] = best, nearest
    for q in range(m):
        bits[_INTO, q] = bits[_INTO, bits[_INTO, q]]
