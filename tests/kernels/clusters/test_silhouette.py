"""The number of clusters of highest mean silhouette, against scikit-learn's silhouettes of SciPy's partitions."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import oracles
import pytest
from helpers import Array, Tolerance, batched, host

from jaxalloc.kernels.clusters.linkage import merge_tree, roots
from jaxalloc.kernels.clusters.partition import label_by_first
from jaxalloc.kernels.clusters.silhouette import NO_CUT, silhouette_height, silhouettes
from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.settings.config import LINKAGES


def markets(n_assets: int, count: int) -> Array:
    """(count, N, N) correlation distances."""
    made = []
    for seed in range(count):
        rng = np.random.default_rng([seed, n_assets])
        groups = int(rng.integers(1, n_assets + 1))
        x = oracles.random_market(rng, 40, n_assets, groups, inside=rng.uniform(0.4, 0.9), across=rng.uniform(0, 0.3))
        made.append(oracles.correlation_distance(oracles.moments(x)[1]))
    return np.stack(made).astype(np.float32).astype(np.float64)


def judged(distance: Any, active: Any, most: Any, linkage: str, backend: Backend = Backend.CPU) -> tuple[Any, Any]:
    """Scores of the partitions of a tree, and the labels of the best."""
    tree = merge_tree(distance, active, linkage)
    best = roots(tree, silhouette_height(distance, active, tree, most, 0.4, backend))
    return silhouettes(distance, active, tree, most, backend).score, label_by_first(best, active).labels


def judge(distances: Array, active: Array, most: Any, linkage: str = "average") -> tuple[Array, Array]:
    return host(batched(judged, linkage=linkage)(distances, active, most))


@functools.cache
def cases(linkage: str, n_assets: int, count: int) -> tuple[Array, Array, Array, list[dict[int, float]]]:
    """Distances, assets that take part, and the most clusters; with scikit-learn's scores, for both precisions."""
    distances = markets(n_assets, count)
    rng = np.random.default_rng(7)
    active = rng.random((count, n_assets)) < 0.9
    active[: count // 2] = True
    most = rng.integers(2, 43, count).astype(np.int32)
    inside = (distance[np.ix_(own, own)] for distance, own in zip(distances, active, strict=True))
    scores = [oracles.silhouette_scores(own, linkage, int(k)) for own, k in zip(inside, most, strict=True)]
    return distances, active, most, scores


@pytest.mark.parametrize("linkage", LINKAGES)
@pytest.mark.parametrize(("n_assets", "count"), [(3, 20), (9, 150), (45, 30)])
def test_scores_are_scikit_learn_s(linkage: str, n_assets: int, count: int, dtype: Any, tol: Tolerance) -> None:
    distances, active, most, scores = cases(linkage, n_assets, count)
    found, chosen = judge(distances.astype(dtype), active, most, linkage)
    for i, (distance, expected) in enumerate(zip(distances, scores, strict=True)):
        np.testing.assert_array_equal(np.flatnonzero(found[i] > NO_CUT), sorted(expected))
        np.testing.assert_allclose([found[i][k] for k in expected], [*expected.values()], atol=tol.rtol)
        ranked = sorted(expected.values())
        if dtype == np.float64 and (len(ranked) < 2 or ranked[-1] - ranked[-2] > 1e-9):
            wanted = np.full(n_assets, -1)
            inside = distance[np.ix_(active[i], active[i])]
            wanted[active[i]] = oracles.clusters_silhouette(inside, linkage, int(most[i]), scores=expected)
            np.testing.assert_array_equal(chosen[i], wanted)


def test_planted_groups_are_found(dtype: Any) -> None:
    """Two groups of three and two of four, near inside and far apart."""
    groups = np.array([0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 2, 3])
    distance = np.where(groups[:, None] == groups, 0.1, 0.7) + 0.001 * np.random.default_rng(0).random((14, 14))
    distance = (distance + distance.T) / 2
    np.fill_diagonal(distance, 0)
    arguments = distance[None].astype(dtype), np.ones((1, 14), bool), np.array([40], np.int32)
    np.testing.assert_array_equal(judge(*arguments)[1][0], groups)


def test_what_cannot_be_judged_stays_alone(dtype: Any) -> None:
    """One asset, two, and assets at equal distances, whose tree has no height between one cluster and all."""
    equal = 0.5 * (1 - np.eye(6))
    active = np.array([[True] * 6, [True] * 2 + [False] * 4, [False, True] + [False] * 4])
    arguments = np.stack([equal] * 3).astype(dtype), active, np.full(3, 40, np.int32)
    _, found = judge(*arguments)
    np.testing.assert_array_equal(found[0], np.arange(6))
    np.testing.assert_array_equal(found[1], [0, 1, -1, -1, -1, -1])
    np.testing.assert_array_equal(found[2], [-1, 0, -1, -1, -1, -1])


def test_copies_are_put_together(dtype: Any) -> None:
    """Assets at a distance of 0 from each other: their silhouettes are 1, and those of assets alone 0."""
    groups = np.array([0, 0, 0, 1, 1, 2])
    distance = 0.6 * (groups[:, None] != groups)
    arguments = distance[None].astype(dtype), np.ones((1, 6), bool), np.array([40], np.int32)
    found, chosen = judge(*arguments)
    np.testing.assert_array_equal(chosen[0], groups)
    np.testing.assert_allclose(found[0][3], 5 / 6, atol=1e-6)
