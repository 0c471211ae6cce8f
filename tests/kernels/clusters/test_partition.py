"""Distances, partitions and merge trees against SciPy; ties against every order in which they could be broken."""

from __future__ import annotations

from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from helpers import Array, Tolerance, batched, cast, compiled, host, jitted
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from jaxalloc.kernels.clusters.components import threshold_roots
from jaxalloc.kernels.clusters.distance import correlation_distance
from jaxalloc.kernels.clusters.linkage import linkage_matrix, maxclust_height, merge_tree
from jaxalloc.kernels.clusters.partition import cluster_assets, cut, given_clusters, label_by_first
from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.settings.config import LINKAGES, AllocationConfig

THRESHOLDS = np.array([0.0, 0.25, 0.4, 0.5, 0.65, 1.0])
COUNTS = np.array([1, 2, 3, 7, 12, 40])
HOUSE = 12


class Flat(NamedTuple):
    """Labels and counts at every threshold (stopped tree, whole tree) and for every largest number of clusters."""

    stopped: Any
    whole: Any
    most: Any
    height: Any


def flat_clusters(distance: Any, active: Any, thresholds: Any, counts: Any, linkage: str) -> Flat:
    whole = merge_tree(distance, active, linkage)
    heights = jax.vmap(partial(maxclust_height, whole, active))(counts)

    def at(threshold: Any) -> Any:
        return cut(merge_tree(distance, active, linkage, threshold), active, threshold)

    at_height = jax.vmap(lambda height: cut(whole, active, height))
    return Flat(jax.lax.map(at, thresholds), at_height(thresholds), at_height(heights), whole.height)


def run(distances: Array, active: Array, linkage: str, dtype: Any, thresholds: Array = THRESHOLDS) -> Flat:
    kernel = batched(flat_clusters, axes=(0, 0, None, None), linkage=linkage)
    return host(kernel(np.asarray(distances, dtype), active, np.asarray(thresholds, dtype), COUNTS.astype(np.int32)))


@cache
def markets(n_assets: int, count: int = 16) -> Array:
    """Correlation distances (count, N, N) of short samples, so that partitions are not obvious."""
    made = []
    for seed in range(count):
        rng = np.random.default_rng([seed, n_assets])
        inside, groups = rng.uniform(0.5, 0.9), int(rng.integers(1, n_assets + 1))
        x = oracles.random_market(rng, 40, n_assets, groups, inside=inside, across=rng.uniform(0, 0.3))
        made.append(oracles.correlation_distance(oracles.moments(x)[1]))
    return np.stack(made).astype(np.float32).astype(np.float64)  # the same numbers in both precisions


def expected_labels(distance: Array, active: Array, linkage: str, level: float, criterion: str) -> tuple[Array, int]:
    inside = distance[np.ix_(active, active)]
    how = oracles.clusters if criterion == "distance" else oracles.clusters_maxclust
    labels = np.full(len(active), -1)
    labels[active] = how(inside, linkage, level)
    return labels, int(labels.max()) + 1


def assert_partitions(found: Flat, distances: Array, active: Array, linkage: str) -> None:
    for i, distance in enumerate(distances):
        for j, threshold in enumerate(THRESHOLDS):
            labels, count = expected_labels(distance, active[i], linkage, threshold, "distance")
            for clusters in (found.stopped, found.whole):
                np.testing.assert_array_equal(clusters.labels[i, j], labels)
                assert clusters.count[i, j] == count
        for j, most in enumerate(COUNTS):
            labels, count = expected_labels(distance, active[i], linkage, int(most), "maxclust")
            np.testing.assert_array_equal(found.most.labels[i, j], labels)
            assert found.most.count[i, j] == count


# Distance


@pytest.mark.parametrize("kind", ["correlation", "absolute"])
def test_distance_is_the_correlation_s(kind: str, dtype: Any, tol: Tolerance) -> None:
    covariances = np.stack([oracles.random_covariance(np.random.default_rng(i), HOUSE) for i in range(6)])
    (covariances,) = cast(dtype, covariances)
    found = host(batched(correlation_distance, kind=kind)(covariances))
    assert found.dtype == dtype
    for distance, covariance in zip(found, covariances, strict=True):
        expected = oracles.correlation_distance(covariance.astype(float), kind)
        np.testing.assert_allclose(distance**2, expected**2, atol=8 * tol.eps)
        np.testing.assert_array_equal(distance, distance.T)
        assert not np.diag(distance).any()
        assert distance.min() >= 0
        assert distance.max() <= 1


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_distance_of_twins_and_opposites_is_exact_and_finite(scale: float, dtype: Any, tol: Tolerance) -> None:
    x = oracles.random_market(np.random.default_rng(0), 60, 3, 3)
    x = np.column_stack([x, x[:, 0], -x[:, 1], 1e4 * x[:, 2]])
    (covariance,) = cast(dtype, scale * oracles.moments(x)[1])
    for kind, opposite in (("correlation", 1.0), ("absolute", 0.0)):
        distance = host(jitted(correlation_distance, kind=kind, optimised=True)(covariance))
        near = np.sqrt(4 * tol.eps)
        assert distance[0, 3] <= near
        assert distance[2, 5] <= near
        assert distance[1, 4] == pytest.approx(opposite, abs=near)
        assert np.isfinite(distance).all()


def test_a_variance_of_0_counts_as_uncorrelated(dtype: Any) -> None:
    covariance = np.diag([0.04, 0.0, 0.01]).astype(dtype)
    distance = host(jitted(correlation_distance, kind="correlation")(covariance))
    np.testing.assert_allclose(distance[1], np.array([1, 0, 1]) / np.sqrt(2), rtol=1e-6)


# Partitions


# every linkage at the house size, and each of the other sizes with two of them
SIZES = [*((how, HOUSE) for how in LINKAGES), *((how, n) for how in ("average", "ward") for n in (2, 31))]
SIZES += [("single", 3), ("complete", 3)]


@pytest.mark.parametrize(("linkage", "n_assets"), SIZES)
def test_partitions_equal_scipy_s(linkage: str, n_assets: int, x64: Any) -> None:
    distances = markets(n_assets)
    active = np.ones((len(distances), n_assets), bool)
    assert_partitions(run(distances, active, linkage, x64), distances, active, linkage)


@pytest.mark.parametrize("linkage", LINKAGES)
def test_partitions_equal_scipy_s_under_masks(linkage: str, dtype: Any) -> None:
    distances = markets(HOUSE)
    active = np.random.default_rng(0).uniform(size=(len(distances), HOUSE)) < 0.6
    active[:, 3] = True
    active[0] = np.arange(HOUSE) == 11  # one asset left
    hidden = np.where(active[:, :, None] & active[:, None, :], distances, np.nan)
    assert_partitions(run(hidden, active, linkage, dtype), distances, active, linkage)


@pytest.mark.slow
@pytest.mark.parametrize("linkage", LINKAGES)
@pytest.mark.parametrize("n_assets", [60, 150])
def test_partitions_equal_scipy_s_on_larger_markets(linkage: str, n_assets: int, x64: Any) -> None:
    distances = markets(n_assets)
    active = np.ones((len(distances), n_assets), bool)
    assert_partitions(run(distances, active, linkage, x64), distances, active, linkage)


@pytest.mark.parametrize("linkage", LINKAGES)
def test_one_asset_is_one_cluster(linkage: str, dtype: Any) -> None:
    found = run(np.zeros((1, 1, 1)), np.ones((1, 1), bool), linkage, dtype)
    for clusters in (found.stopped, found.whole, found.most):
        assert not clusters.labels.any()
        assert (clusters.count == 1).all()


def test_no_active_asset_is_no_cluster(dtype: Any) -> None:
    found = run(markets(HOUSE)[:1], np.zeros((1, HOUSE), bool), "average", dtype)
    for clusters in (found.stopped, found.whole, found.most):
        assert (clusters.labels == -1).all()
        assert not clusters.count.any()


@pytest.mark.parametrize("linkage", LINKAGES)
def test_the_threshold_itself_is_within_the_threshold(linkage: str, dtype: Any) -> None:
    distance = np.full((HOUSE, HOUSE), 0.75)
    distance[4, 9] = distance[9, 4] = 0.25  # exact in both precisions, as the threshold is
    np.fill_diagonal(distance, 0)
    found = run(distance[None], np.ones((1, HOUSE), bool), linkage, dtype)
    labels = found.stopped.labels[0]
    assert found.stopped.count[0, 1] == HOUSE - 1  # THRESHOLDS[1] = 0.25
    assert labels[1, 4] == labels[1, 9]
    assert found.stopped.count[0, 0] == HOUSE


@pytest.mark.parametrize(
    ("linkage", "criterion"),
    [("average", "distance"), ("single", "maxclust"), ("complete", "distance"), ("ward", "maxclust")],
)
def test_settings_choose_the_linkage_and_the_cut(linkage: str, criterion: str, x64: Any) -> None:
    distances = markets(HOUSE)[:6]
    active = np.ones((6, HOUSE), bool)

    def clusters(distance: Any, a: Any, threshold: Any, most: Any) -> Any:
        config = AllocationConfig(linkage=linkage, criterion=criterion, distance_threshold=threshold, max_clusters=most)
        return cluster_assets(1 - 2 * distance**2, a, config, Backend.CPU)

    found = host(compiled(jax.vmap(clusters, in_axes=(0, 0, None, None)))(distances, active, 0.45, np.int32(5)))
    for i, distance in enumerate(distances):
        level = 0.45 if criterion == "distance" else 5
        labels, count = expected_labels(distance, active[i], linkage, level, criterion)
        np.testing.assert_array_equal(found.labels[i], labels)
        assert found.count[i] == count


def test_permuting_assets_permutes_the_partition(x64: Any) -> None:
    distances = markets(HOUSE)
    rng = np.random.default_rng(1)
    orders = np.stack([rng.permutation(HOUSE) for _ in distances])
    permuted = np.stack([d[np.ix_(order, order)] for d, order in zip(distances, orders, strict=True)])
    active = np.ones((len(distances), HOUSE), bool)
    for linkage in ("average", "ward"):
        before, after = run(distances, active, linkage, x64), run(permuted, active, linkage, x64)
        for i, order in enumerate(orders):
            for j in range(len(THRESHOLDS)):
                labels = oracles.relabel(before.stopped.labels[i, j][order])
                np.testing.assert_array_equal(after.stopped.labels[i, j], labels)


active_drawn = hnp.arrays(bool, HOUSE, elements=st.sampled_from([True, True, False]))


@given(active=active_drawn, seed=st.integers(0, 10_000), threshold=st.floats(0, 1, width=32))
@pytest.mark.parametrize("linkage", LINKAGES)
def test_any_mask_and_threshold_gives_scipy_s_partition(
    linkage: str, active: Array, seed: int, threshold: float
) -> None:
    if not active.any():
        active = np.ones(HOUSE, bool)
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(HOUSE, 3))  # Euclidean, so that every linkage is monotone
    distance = np.linalg.norm(points[:, None] - points[None, :], axis=2)
    distance /= 1.01 * distance.max()
    distances, masks = np.repeat(distance[None], 16, 0), np.repeat(active[None], 16, 0)
    thresholds = np.full(len(THRESHOLDS), threshold)
    with jax.enable_x64(True):
        found = run(distances, masks, linkage, np.float64, thresholds)
    labels, count = expected_labels(distance, active, linkage, threshold, "distance")
    np.testing.assert_array_equal(found.stopped.labels[0, 0], labels)
    np.testing.assert_array_equal(found.stopped.labels[15, 5], labels)
    assert found.stopped.count[3, 2] == count
    np.testing.assert_array_equal(labels[active], oracles.relabel(labels[active]))


# Merge trees


@pytest.mark.parametrize(("linkage", "n_assets"), SIZES)
def test_linkage_matrix_equals_scipy_s(linkage: str, n_assets: int, x64: Any) -> None:
    distances = markets(n_assets)
    found = host(batched(linkage_matrix, linkage=linkage)(distances))
    for z, distance in zip(found, distances, strict=True):
        expected = hierarchy.linkage(squareform(distance, checks=False), linkage)
        np.testing.assert_allclose(z, expected, rtol=1e-12)
        assert hierarchy.is_valid_linkage(z)


def test_linkage_matrix_in_float32_is_a_tree(tol: Tolerance, dtype: Any) -> None:
    found = host(batched(linkage_matrix, linkage="average")(markets(HOUSE).astype(dtype)))
    assert found.dtype == dtype
    for z, distance in zip(found, markets(HOUSE), strict=True):
        assert hierarchy.is_valid_linkage(z.astype(float))
        expected = hierarchy.linkage(squareform(distance, checks=False), "average")
        np.testing.assert_allclose(z[:, 2], expected[:, 2], rtol=tol.rtol)


# Ties


@cache
def tied(n_assets: int, count: int = 16) -> Array:
    """Distances drawn from three values."""
    rng = np.random.default_rng([7, n_assets])
    upper = np.triu(rng.choice([0.25, 0.5, 0.75], (count, n_assets, n_assets)), 1)
    return upper + upper.transpose(0, 2, 1)


# No threshold is a mean of quarters over at most nine pairs, so that a rounding decides nothing.
@pytest.mark.parametrize("linkage", ["average", "single", "complete"])
def test_ties_end_in_a_partition_that_some_order_of_merging_gives(linkage: str, dtype: Any) -> None:
    distances = tied(6)
    thresholds = np.array([0.21, 0.31, 0.453, 0.557, 0.703, 0.81])
    found = run(distances, np.ones((16, 6), bool), linkage, dtype, thresholds)
    several = 0
    for i, distance in enumerate(distances):
        for j, threshold in enumerate(thresholds):
            ends = oracles.reachable_partitions(distance, linkage, threshold, 1e-12)
            several += len(ends) > 1
            assert tuple(found.stopped.labels[i, j]) in ends
            assert tuple(found.whole.labels[i, j]) in ends
    assert several > 10 or linkage == "single"  # single linkage has one answer whatever the order


@pytest.mark.parametrize("linkage", LINKAGES)
def test_ties_end_and_repeat(linkage: str, dtype: Any) -> None:
    distances = np.concatenate([tied(HOUSE, 13), np.zeros((1, HOUSE, HOUSE)), np.full((2, HOUSE, HOUSE), 0.5)])
    distances[:, range(HOUSE), range(HOUSE)] = 0
    active = np.ones((16, HOUSE), bool)
    active[15, ::2] = False
    first, second = run(distances, active, linkage, dtype), run(distances, active, linkage, dtype)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(a, b)
    # all distances 0: one cluster at any threshold; all 1/2: singles below it, one cluster above
    np.testing.assert_array_equal(first.stopped.count[13], 1)
    np.testing.assert_array_equal(first.stopped.count[14][[0, 1, 2]], HOUSE)
    np.testing.assert_array_equal(first.stopped.count[15][[0, 1, 2]], HOUSE // 2)
    if linkage != "ward":
        np.testing.assert_array_equal(first.stopped.count[14:][:, [4, 5]], 1)
    for most, clusters in zip(COUNTS, first.most.count.T, strict=True):
        assert (clusters <= most).all()
    for labels in (first.stopped.labels, first.whole.labels, first.most.labels):
        for row, on in zip(labels, active, strict=True):
            for partition in row:
                np.testing.assert_array_equal(partition[on], oracles.relabel(partition[on]))
                assert (partition[~on] == -1).all()


def test_ties_inside_components_do_so_too(x64: Any) -> None:
    distances = tied(6)

    def partition(distance: Any, threshold: Any) -> Any:
        active = jnp.ones(6, bool)
        root = threshold_roots(1 - 2 * distance**2, active, threshold, "average", backend=Backend.CPU)
        return label_by_first(root, active)

    thresholds = np.array([0.31, 0.453, 0.557])
    found = host(compiled(jax.vmap(jax.vmap(partition, (None, 0)), (0, None)))(distances, thresholds))
    for i, distance in enumerate(distances):
        for j, threshold in enumerate(thresholds):
            assert tuple(found.labels[i, j]) in oracles.reachable_partitions(distance, "average", threshold, 1e-12)


@pytest.mark.parametrize("linkage", ["single", "complete"])
def test_maxclust_on_ties_takes_the_lowest_height_that_leaves_few_enough(linkage: str, x64: Any) -> None:
    distances = tied(HOUSE)
    found = run(distances, np.ones((16, HOUSE), bool), linkage, x64)
    for i in range(16):
        heights = np.sort(found.height[i][np.isfinite(found.height[i])])
        assert len(heights) == HOUSE - 1
        for j, most in enumerate(COUNTS):
            levels = np.concatenate([[-1.0], heights])
            left = HOUSE - np.searchsorted(heights, levels, side="right")
            assert found.most.count[i, j] == left[np.argmax(left <= most)]


def clusters_of(covariance: Any, threshold: Any) -> Any:
    active = jnp.ones(covariance.shape[0], bool)
    return cut(merge_tree(correlation_distance(covariance), active, "average", threshold), active, threshold)


def test_multiples_of_one_asset_are_one_cluster(dtype: Any) -> None:
    # Correlation 1 to a rounding, which is a matter of chance for each pair: the ties must not keep them apart.
    rng = np.random.default_rng(0)
    series, factors = rng.normal(0, 0.01, (2000, 60)), rng.uniform(0.3, 4, (2000, 5))
    x = series[:, :, None] * factors[:, None, :]
    x -= x.mean(axis=1, keepdims=True)
    covariances = np.einsum("bti,btj->bij", x, x) / 59
    found = host(
        batched(clusters_of, axes=(0, None), optimised=True)(
            (covariances + covariances.transpose(0, 2, 1)).astype(dtype), dtype(0.4)
        )
    )
    assert np.count_nonzero(found.count != 1) == 0


@pytest.mark.parametrize("linkage", LINKAGES)
def test_copies_of_an_asset_share_its_cluster(linkage: str, x64: Any) -> None:
    distance = markets(HOUSE)[3].copy()
    twin = np.r_[np.arange(6), np.arange(6)]  # columns 6..11 repeat 0..5
    distances = np.repeat(distance[np.ix_(twin, twin)][None], 16, 0)
    found = run(distances, np.ones((16, HOUSE), bool), linkage, x64)
    for labels in found.stopped.labels[0]:
        np.testing.assert_array_equal(labels[:6], labels[6:])


# Given labels


def test_given_labels_are_renumbered_by_first_asset() -> None:
    labels = np.array([[7, 3, 7, 0, 3, 9], [2, 2, 2, 2, 2, 2], [5, 4, 3, 2, 1, 0], [0, 1, 0, 1, 0, 1]], np.int32)
    active = np.ones((4, 6), bool)
    active[3, 0] = False
    clusters, ok = host(batched(given_clusters)(labels, active))
    expected = [[0, 1, 0, 2, 1, 3], [0] * 6, [0, 1, 2, 3, 4, 5], [-1, 0, 1, 0, 1, 0]]
    np.testing.assert_array_equal(clusters.labels, expected)
    np.testing.assert_array_equal(clusters.count, [4, 1, 6, 2])
    assert ok.all()


def test_given_labels_below_0_are_for_inactive_assets_only() -> None:
    labels = np.array([[0, -1, 2], [0, -1, 2]], np.int32)
    active = np.array([[True, False, True], [True, True, True]])
    clusters, ok = host(batched(given_clusters)(labels, active))
    np.testing.assert_array_equal(ok, [True, False])
    np.testing.assert_array_equal(clusters.labels[0], [0, -1, 1])


def test_labels_are_int32(dtype: Any) -> None:
    found = run(markets(HOUSE), np.ones((16, HOUSE), bool), "average", dtype)
    assert found.stopped.labels.dtype == np.int32
    assert found.stopped.count.dtype == np.int32
    assert jnp.asarray(found.height).dtype == dtype
