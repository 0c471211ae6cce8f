"""The order of a tree's leaves and recursive bisection, against SciPy, a plain second form, and skfolio."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from baseline_oracles import bisect, hrp, tree_of
from helpers import Array, N, Tolerance, batched, cast, count_compilations, host, jitted, market
from scipy.cluster import hierarchy
from skfolio.cluster import HierarchicalClustering, LinkageMethod
from skfolio.optimization import HierarchicalRiskParity
from skfolio.seriation import HierarchicalSeriation

from jaxalloc.kernels.clusters.distance import correlation_distance
from jaxalloc.kernels.clusters.hierarchy import column_distance, hrp_weights, leaf_order
from jaxalloc.kernels.clusters.linkage import linkage_matrix
from jaxalloc.settings.config import LINKAGES

COUNT = 200


@cache
def samples() -> Array:
    """Returns (200, T, N) of markets of 1 to 12 clusters."""
    return np.stack([market([70, i], 1 + i % N, inside=0.5 + 0.4 * (i % 7) / 7) for i in range(COUNT)])


@cache
def covariances() -> Array:
    return np.stack([oracles.moments(x)[1] for x in samples()]).astype(np.float32).astype(np.float64)


@cache
def masks() -> Array:
    """(200, N) bool: all, most, few, one."""
    rng = np.random.default_rng(71)
    active = np.ones((COUNT, N), bool)
    for i in range(COUNT):
        active[i, rng.permutation(N)[: (0, 2, 7, 11)[i % 4]]] = False
    return active


def ordered(covariance: Any, active: Any, linkage: str) -> Any:
    return leaf_order(linkage_matrix(correlation_distance(covariance), linkage, active))


def weigh(covariance: Any, active: Any, linkage: str) -> Any:
    return hrp_weights(covariance, ordered(covariance, active, linkage), active)


# The order of the leaves


@pytest.mark.parametrize("linkage", LINKAGES)
def test_leaves_come_in_scipy_s_order(linkage: str, x64: Any) -> None:
    found = host(batched(ordered, linkage=linkage)(covariances(), np.ones((COUNT, N), bool)))
    for order, covariance in zip(found, covariances(), strict=True):
        distance = oracles.correlation_distance(covariance)
        np.testing.assert_array_equal(order, hierarchy.leaves_list(tree_of(distance, linkage)))


def test_leaves_of_any_tree_come_in_scipy_s_order() -> None:
    points = np.random.default_rng(0).normal(size=(16, 31, 2))
    trees = np.stack([hierarchy.linkage(cloud, "single") for cloud in points])  # chains, deeper than others
    found = host(batched(leaf_order)(trees))
    assert found.dtype == np.int32
    for order, tree in zip(found, trees, strict=True):
        np.testing.assert_array_equal(order, hierarchy.leaves_list(tree))


@pytest.mark.parametrize("linkage", LINKAGES)
def test_inactive_assets_come_last_and_change_nothing(linkage: str, x64: Any) -> None:
    hidden = np.where(masks()[:, :, None] & masks()[:, None, :], covariances(), 0)
    found = host(batched(ordered, linkage=linkage)(hidden, masks()))
    for order, covariance, active in zip(found, covariances(), masks(), strict=True):
        members = np.flatnonzero(active)
        distance = oracles.correlation_distance(covariance[np.ix_(members, members)])
        expected = members
        if len(members) > 1:
            expected = members[hierarchy.leaves_list(tree_of(distance, linkage))]
        np.testing.assert_array_equal(order[: len(members)], expected)
        np.testing.assert_array_equal(order[len(members) :], np.flatnonzero(~active))


# Distances between columns


def test_column_distances_are_the_columns_euclidean(dtype: Any, tol: Tolerance) -> None:
    distances = np.stack([oracles.correlation_distance(s) for s in covariances()[:24]])
    distances[0, 1], distances[0, :, 1] = distances[0, 0], distances[0, :, 0]  # nearly the same columns
    distances[0, 0, 1] = distances[0, 1, 0] = 1e-3
    distances[0, 1, 1] = 0
    (distances,) = cast(dtype, distances)
    found = host(batched(column_distance)(distances))
    for ours, d in zip(found, distances.astype(float), strict=True):
        expected = np.linalg.norm(d[:, :, None] - d[:, None, :], axis=0)
        np.testing.assert_allclose(ours, expected, rtol=4 * N * tol.eps)
        np.testing.assert_array_equal(ours, ours.T)
        assert not np.diag(ours).any()


# Recursive bisection


def test_hrp_equals_the_plain_form(dtype: Any, tol: Tolerance) -> None:
    (given,) = cast(dtype, covariances())
    orders = np.stack([np.random.default_rng(i).permutation(N) for i in range(COUNT)]).astype(np.int32)
    found = host(batched(hrp_weights)(given, orders))
    assert found.dtype == dtype
    for weights, covariance, order in zip(found, given.astype(float), orders, strict=True):
        np.testing.assert_allclose(weights, bisect(covariance, order), rtol=50 * N * tol.eps)
        assert abs(weights.astype(float).sum() - 1) <= tol.total


@pytest.mark.parametrize("linkage", LINKAGES)
def test_hrp_under_masks_is_hrp_without_the_others(linkage: str, x64: Any) -> None:
    found = host(batched(weigh, linkage=linkage)(covariances(), masks()))
    for weights, covariance, active in zip(found, covariances(), masks(), strict=True):
        members = np.flatnonzero(active)
        assert not weights[~active].any()
        expected = hrp(covariance[np.ix_(members, members)], linkage)
        np.testing.assert_allclose(weights[members], expected, rtol=1e-12)


@pytest.mark.parametrize("linkage", ["average", "single"])
def test_hrp_equals_skfolio_s_on_200_universes(linkage: str, x64: Any) -> None:
    found = host(batched(weigh, linkage=linkage)(covariances(), np.ones((COUNT, N), bool)))
    trees = HierarchicalClustering(linkage_method=LinkageMethod(linkage))
    model = HierarchicalRiskParity(
        seriation_estimator=HierarchicalSeriation(hierarchical_clustering_estimator=trees, optimal_ordering=False)
    )
    for weights, x in zip(found, samples(), strict=True):
        expected = np.asarray(model.fit(x).weights_)
        np.testing.assert_allclose(weights, expected, atol=2e-6)  # ours saw it rounded to float32


@pytest.mark.parametrize("n", [1, 2, 3, 9])
def test_small_universes(n: int, dtype: Any, tol: Tolerance) -> None:
    (given,) = cast(dtype, covariances()[:16, :n, :n])
    found = host(batched(weigh, linkage="average")(given, np.ones((16, n), bool)))
    for weights, covariance in zip(found, given.astype(float), strict=True):
        np.testing.assert_allclose(weights, hrp(covariance), rtol=50 * N * tol.eps)


def test_uncorrelated_assets_get_inverse_variance(dtype: Any, tol: Tolerance) -> None:
    # with no correlation a half's variance is the inverse of its precision, so that every split is in proportion
    variance = 10.0 ** np.random.default_rng(3).uniform(-8, 0, (16, N))
    given, order = cast(dtype, variance[:, :, None] * np.eye(N), np.tile(np.arange(N), (16, 1)))
    found = host(batched(hrp_weights)(given, order.astype(np.int32)))
    np.testing.assert_allclose(found, (1 / variance) / (1 / variance).sum(axis=1, keepdims=True), rtol=200 * tol.eps)


def test_a_half_without_variance_takes_the_weight_and_two_share_it(dtype: Any) -> None:
    # two pairs, perfectly opposed: each has an inverse-variance portfolio without variance
    pair = np.array([[1.0, -1.0], [-1.0, 1.0]])
    opposed = np.zeros((4, 4))
    opposed[:2, :2] = pair
    opposed[2:, 2:] = np.diag([1.0, 1.0])
    both = opposed.copy()
    both[2:, 2:] = pair
    given, order = cast(dtype, np.stack([opposed, both]), np.tile(np.arange(4), (2, 1)))
    found = host(batched(hrp_weights)(given, order.astype(np.int32)))
    np.testing.assert_allclose(found[0], [0.5, 0.5, 0, 0], atol=1e-4)
    np.testing.assert_allclose(found[1], 0.25, rtol=1e-6)
    assert (found >= 0).all()


def test_copies_of_one_asset_share_as_their_places_say(dtype: Any) -> None:
    given = np.full((1, 4, 4), 0.04)
    found = host(batched(hrp_weights)(*cast(dtype, given), np.array([[2, 0, 3, 1]], np.int32)))
    np.testing.assert_allclose(found, 0.25, rtol=1e-6)


def test_a_universe_s_bits_are_its_own(dtype: Any) -> None:
    (given,) = cast(dtype, covariances()[:16])
    kernel = batched(weigh, linkage="average", optimised=True)
    active = masks()[:16]
    found = host(kernel(given, active))
    for shift in (1, 5):
        moved = host(kernel(np.roll(given, shift, axis=0), np.roll(active, shift, axis=0)))
        assert np.roll(moved, -shift, axis=0).tobytes() == found.tobytes()


def test_a_mask_compiles_nothing(x64: Any) -> None:
    order = np.arange(N, dtype=np.int32)
    kernel = jitted(hrp_weights)
    kernel(covariances()[0], order, masks()[0])
    with count_compilations() as compiled:
        host(kernel(covariances()[1], order[::-1].copy(), masks()[1]))
    assert compiled.count == 0


def test_one_universe_without_vmap(x64: Any) -> None:
    alone = host(jax.jit(hrp_weights)(jnp.asarray(covariances()[3]), jnp.arange(N)))
    np.testing.assert_allclose(alone, bisect(covariances()[3], np.arange(N)), rtol=1e-12)
