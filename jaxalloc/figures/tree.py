"""The tree of the point estimate, made from a study's correlations: merges, order of the leaves, and the cut."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxalloc.arguments.errors import InputError
from jaxalloc.figures.canvas import point_of
from jaxalloc.portfolios.distances import distances

if TYPE_CHECKING:
    from jaxalloc.studies.study import Study

_MOST_ORDERED = 1500  # assets whose leaves are put in the best order; that of more would take minutes


class Dendrogram(NamedTuple):
    """The merge tree of the M assets that take part, ready to be drawn.

    Attributes:
        assets: (M,) the assets' column numbers in the order of the leaves, from the bottom up.
        merges: (M - 1, 4) merges as `scipy.cluster.hierarchy.linkage` gives them; its leaf m is ``columns[m]``.
        columns: (M,) the assets' column numbers, ascending.
        cut: height at which the tree is cut into clusters.
        labels: (M,) the assets' clusters, as the engine has them, in the order of ``assets``.
    """

    assets: np.ndarray
    merges: np.ndarray
    columns: np.ndarray
    cut: float
    labels: np.ndarray


def tree_of(study: Study, at: int | None = None) -> Dendrogram:
    """Return the tree that the point estimate's clusters were cut from.

    Raises:
        InputError: the study does not hold the correlations, or fewer than two assets take part.
    """
    number = point_of(study, at)
    correlation = correlation_at(study, number)
    labels = study.estimate(number).cluster_labels
    columns = np.flatnonzero((labels >= 0) & np.isfinite(np.diagonal(correlation)))
    if len(columns) < 2:
        raise InputError("a tree needs two assets that take part in the point estimate")
    from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
    from scipy.spatial.distance import squareform

    config = study.settings.at(number)
    rho = correlation[np.ix_(columns, columns)].astype(float)
    pairs = squareform(distances(rho, config), checks=False)
    merges = linkage(pairs, config.linkage)
    if len(columns) <= _MOST_ORDERED:
        merges = optimal_leaf_ordering(merges, pairs)
    order = columns[leaves_list(merges)]
    if config.criterion == "distance":
        cut = float(config.distance_threshold)
    else:
        cut = _height_of(merges[:, 2], len(np.unique(labels[columns])))
    return Dendrogram(assets=order, merges=merges, columns=columns, cut=cut, labels=labels[order])


def correlation_at(study: Study, number: int) -> np.ndarray:
    """Return the (N, N) correlations of the whole panel at a point of the grid.

    Raises:
        InputError: the study does not hold them.
    """
    swept = [name for name in ("covariance", "ewma_decay") if name in study.settings.names]
    if swept and number != study.settings.home:
        raise InputError(f"the correlations are kept at point {study.settings.home} only: {swept[0]} was swept")
    return study.correlation


def _height_of(heights: np.ndarray, max_clusters: int) -> float:
    """A height between the last merge that leaves at most ``max_clusters`` clusters, and the next merge."""
    made = len(heights) + 1 - max_clusters
    if made <= 0:
        return 0.0
    after = heights[made] if made < len(heights) else heights[-1] * 1.05
    return float((heights[made - 1] + after) / 2)


Lines = tuple[list[float | None], list[float | None]]


def outline(tree: Dendrogram) -> dict[int | None, Lines]:
    """Return the lines of a dendrogram: places and heights inside each cluster, and under None those above the cut.

    The k-th leaf of the order has the place k. None among the numbers separates one line from the next.
    """
    n = len(tree.columns)
    place = np.empty(2 * n - 1)
    leaves = np.searchsorted(tree.columns, tree.assets)
    place[leaves] = np.arange(n)
    cluster = np.empty(2 * n - 1, int)  # of the leftmost leaf below a node
    cluster[leaves] = tree.labels
    height = np.zeros(2 * n - 1)
    lines: dict[int | None, Lines] = {None: ([], [])}
    for m, (left, right, level, _) in enumerate(tree.merges):
        a, b = int(left), int(right)
        place[n + m], height[n + m], cluster[n + m] = (place[a] + place[b]) / 2, level, cluster[a]
        across, along = lines.setdefault(int(cluster[a]) if level <= tree.cut else None, ([], []))
        across += [round(float(x), 3) for x in (place[a], place[a], place[b], place[b])] + [None]
        along += [round(float(h), 4) for h in (height[a], level, level, height[b])] + [None]
    return lines


def runs(labels: np.ndarray) -> list[tuple[int, int, int]]:
    """Return (label, first place, last place) of each stretch of equal labels."""
    edges = np.flatnonzero(np.diff(labels)) + 1
    starts, stops = [0, *edges.tolist()], [*edges.tolist(), len(labels)]
    return [(int(labels[a]), a, b - 1) for a, b in zip(starts, stops, strict=True) if b > a]
