"""Flat clusters by numba: against SciPy; ties against every order in which they could be broken, and against XLA's."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import oracles
import pytest
from helpers import Array, batched

from jaxalloc.kernels.clusters.components import threshold_roots
from jaxalloc.kernels.lanes.backend import Backend

pytest.importorskip("numba")

from jaxalloc.kernels.scalar.clusters import LINKAGES, find_clusters

STOP = 0.4
KINDS = ("correlation", "absolute")


class Flat(NamedTuple):
    """Labels (U, N) and counts (U,)."""

    labels: Array
    count: Array


def run(
    covariances: Array, linkage: str = "average", kind: str = "correlation", stop: Any = STOP, active: Any = None
) -> Flat:
    universes, n = covariances.shape[:2]
    masks = np.ones((universes, n), bool) if active is None else np.broadcast_to(active, (universes, n)).copy()
    stops = np.broadcast_to(np.asarray(stop, float), universes).copy()
    labels, count = np.full((universes, n), -7, np.int32), np.full(universes, -7, np.int32)
    find_clusters(covariances, masks, stops, universes, LINKAGES[linkage], kind == "absolute", labels, count)
    for row, number, mask in zip(labels, count, masks, strict=True):
        assert (row[~mask] == -1).all()
        assert number == len(np.unique(row[mask]))
        np.testing.assert_array_equal(row[mask], oracles.relabel(row[mask]))
    return Flat(labels, count)


def covariance_of(distance: Array, rng: np.random.Generator) -> Array:
    """What has these distances: correlations need not be those of any returns."""
    volatility = rng.lognormal(-2, 0.5, len(distance))
    return (1 - 2 * distance**2) * volatility[:, None] * volatility


def market(n: int, seed: int) -> Array:
    """The covariance of a short sample, from assets that are all alone to assets that are all connected."""
    rng = np.random.default_rng([n, seed])
    inside = rng.uniform(0.5, 0.95)
    groups = int(rng.integers(1, 1 + (n, max(1, n // 8), 2)[seed % 3]))
    x = oracles.random_market(rng, 60, n, groups, inside=inside, across=rng.uniform(0, 0.45))
    x *= np.where(rng.random(n) < 0.2, -1, 1)  # inverse funds
    return oracles.moments(x)[1]


def scattered(n: int, dimensions: int, reach: float, seed: int) -> Array:
    """Points in a box that is ``reach`` wide: components of any size and shape, some of them long chains."""
    rng = np.random.default_rng([n, seed])
    points = rng.random((n, dimensions)) * reach
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    far = rng.uniform(0.65, 0.7, (n, n))  # below sqrt(1/2): no correlation is negative
    return covariance_of(np.where(distance < 0.65, distance, np.tril(far) + np.tril(far, -1).T), rng)


def samples(n: int) -> Array:
    count = 12 if n < 300 else 2
    made = [market(n, seed) for seed in range(count)]
    if n >= 20:
        reach = 0.4 * np.sqrt(n) * np.linspace(0.3, 1.6, count)
        made += [scattered(n, 2, reach[seed], seed) for seed in range(count)]
    return np.stack(made)


def assert_scipy_s(found: Flat, covariances: Array, linkage: str, kind: str, stop: Any, active: Any = None) -> None:
    stops = np.broadcast_to(stop, len(covariances))
    masks = np.broadcast_to(True if active is None else active, covariances.shape[:2])
    for labels, covariance, limit, mask in zip(found.labels, covariances, stops, masks, strict=True):
        distance = oracles.correlation_distance(covariance[np.ix_(mask, mask)].astype(float), kind)
        np.testing.assert_array_equal(labels[mask], oracles.clusters(distance, linkage, limit))


# Against SciPy


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("linkage", LINKAGES)
@pytest.mark.parametrize("n", [1, 2, 3, 20, 60, 64, 65, 150, 431])
def test_clusters_are_scipy_s(n: int, linkage: str, kind: str) -> None:
    covariances = samples(n)
    for stop in (0.15, 0.3, STOP, 0.6):
        found = run(covariances, linkage, kind, stop)
        assert_scipy_s(found, covariances, linkage, kind, stop)


def test_samples_hold_every_kind_of_component() -> None:
    largest = []
    for n in (60, 150):
        single = run(samples(n), "single")
        largest += [np.bincount(labels).max() / n for labels in single.labels]
        average = run(samples(n), "average")
        assert (average.count > single.count).sum() > 8  # components that part
    assert min(largest) < 0.1
    assert max(largest) == 1


@pytest.mark.slow
@pytest.mark.parametrize("linkage", LINKAGES)
def test_clusters_of_many_markets_are_scipy_s(linkage: str) -> None:
    rng = np.random.default_rng(8)
    for seed in range(12, 2000):
        n = int(rng.integers(1, 180))
        covariances = np.stack([market(n, seed), scattered(n, 2, rng.uniform(0.1, 0.8) * np.sqrt(n), seed)])
        kind, stop = KINDS[seed % 2], rng.uniform(0.05, 0.9)
        found = run(covariances, linkage, kind, stop)
        assert_scipy_s(found, covariances, linkage, kind, stop)


@pytest.mark.parametrize("linkage", LINKAGES)
def test_a_thousand_assets_in_one_component_have_scipy_s_clusters(linkage: str) -> None:
    x = oracles.random_market(np.random.default_rng(0), 200, 1000, 1, inside=0.72, across=0.1)
    covariances = oracles.moments(x)[1][None]
    assert run(covariances, "single").count[0] < 10
    assert_scipy_s(run(covariances, linkage), covariances, linkage, "correlation", STOP)


@pytest.mark.parametrize("linkage", LINKAGES)
def test_each_universe_has_its_own_threshold_and_assets(linkage: str) -> None:
    covariances = np.concatenate([samples(65), samples(65)])
    rng = np.random.default_rng(5)
    active = rng.random(covariances.shape[:2]) < rng.choice([0.1, 0.6, 0.9], len(covariances))[:, None]
    active[0], active[1], active[2] = False, np.arange(65) == 64, np.arange(65) < 20
    stops = rng.uniform(0.1, 0.7, len(covariances))
    empty = np.where(active[:, :, None] & active[:, None], covariances, 0)
    found = run(empty, linkage, stop=stops, active=active)
    assert_scipy_s(
        found._replace(labels=found.labels[1:]), covariances[1:], linkage, "correlation", stops[1:], active[1:]
    )
    assert found.count[0] == 0
    # whatever stands where an asset is not
    for values in (np.eye(65), np.nan, 1e9):
        filled = np.where(active[:, :, None] & active[:, None], covariances, values)
        np.testing.assert_array_equal(run(filled, linkage, stop=stops, active=active).labels, found.labels)


@pytest.mark.parametrize("linkage", LINKAGES)
def test_single_precision_is_read_and_not_computed_with(linkage: str) -> None:
    covariances = samples(60).astype(np.float32)
    found = run(covariances, linkage)
    assert_scipy_s(found, covariances, linkage, "correlation", STOP)
    np.testing.assert_array_equal(found.labels, run(covariances.astype(float), linkage).labels)


def test_only_the_first_universes_are_written_to_and_company_changes_nothing() -> None:
    covariances = np.concatenate([samples(60)] * 2)  # from large to small components, and from small to large
    together = run(covariances)
    for covariance, labels in zip(covariances, together.labels, strict=True):
        np.testing.assert_array_equal(run(covariance[None]).labels[0], labels)
    labels, count = np.full((48, 60), 9, np.int32), np.full(48, 9, np.int32)
    everyone = np.ones((48, 60), bool)
    find_clusters(covariances, everyone, np.full(48, STOP), 5, LINKAGES["average"], False, labels, count)
    np.testing.assert_array_equal(labels[:5], together.labels[:5])
    assert (labels[5:] == 9).all()
    assert (count[5:] == 9).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_covariance_need_be_symmetric_up_to_rounding_only(dtype: Any) -> None:
    covariances = samples(60).astype(dtype)
    towards = np.where(np.random.default_rng(4).random(covariances.shape) < 0.5, -np.inf, np.inf).astype(dtype)
    np.testing.assert_array_equal(run(np.nextafter(covariances, towards)).labels, run(covariances).labels)


# Edges


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("linkage", LINKAGES)
def test_a_threshold_of_0_merges_copies_alone(linkage: str, kind: str) -> None:
    covariances = market(30, 4)[None] * 4
    covariances[0, range(30), range(30)] = 0.25  # its root has no rounding
    covariances[0] = np.clip(covariances[0], -0.2, 0.25)
    twins = covariances[:, :, np.r_[:30, :30, 3]][:, np.r_[:30, :30, 3]]
    expected = np.r_[:30, :30, 3]
    for zero in (0.0, -0.0):
        np.testing.assert_array_equal(run(twins, linkage, kind, zero).labels[0], expected)
    np.testing.assert_array_equal(run(covariances, linkage, kind, 0).labels[0], np.arange(30))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("linkage", LINKAGES)
def test_a_threshold_of_1_merges_all(linkage: str, dtype: Any) -> None:
    covariances = np.stack([market(40, seed) for seed in range(6)])
    opposite = np.array([[1, -1.0000001], [-1.0000001, 1]], dtype)[None] * dtype(0.07)
    for stop in (1.0, 7.0, np.inf):
        assert (run(opposite, linkage, stop=stop).count == 1).all()
        if linkage != "ward" or stop > 1:  # whose heights go past 1
            assert (run(covariances.astype(dtype), linkage, stop=stop).count == 1).all()
    assert_scipy_s(run(covariances, linkage, stop=1.0), covariances, linkage, "correlation", 1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_assets_without_variance_are_uncorrelated(kind: str) -> None:
    covariances = np.stack([market(70, seed) for seed in range(6)])
    covariances[:, :3], covariances[:, :, :3] = 0, 0
    covariances[0, 0, 0] = -1e-30
    below, above = run(covariances, "single", kind, STOP), run(covariances, "single", kind, 0.7072)
    assert (below.labels[:, :3] == np.arange(3)).all()
    assert (below.labels[:, 3:] > 2).all()
    assert (above.count == 1).all()  # their distance from all others is sqrt(1/2)
    rest = np.ascontiguousarray(covariances[:, 3:, 3:])
    np.testing.assert_array_equal(below.labels[:, 3:] - 3, run(rest, "single", kind).labels)


@pytest.mark.parametrize("linkage", LINKAGES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_ends_and_stays_in_its_universe(linkage: str, bad: float) -> None:
    covariances = samples(60)
    spoilt = covariances.copy()
    spoilt[::2, 7], spoilt[::2, :, 7] = bad, bad
    spoilt[4] = bad
    spoilt[6, 1:, 0] = spoilt[6, 0, 1:] = bad
    for stop in (STOP, 1.0, np.inf):
        found = run(spoilt, linkage, stop=stop)
        np.testing.assert_array_equal(found.labels[1::2], run(covariances, linkage, stop=stop).labels[1::2])
    if np.isnan(bad):
        assert (found.labels[0, :8] == np.where(np.arange(8) == 7, 1, 0)).all()  # infinitely far from the others
        assert found.count[4] == 60


# Ties


def tied(n: int, count: int, values: tuple[float, ...] = (0.25, 0.5, 0.75)) -> Array:
    """Distances drawn from few values."""
    upper = np.triu(np.random.default_rng([7, n]).choice(values, (count, n, n)), 1)
    return upper + upper.transpose(0, 2, 1)


@pytest.mark.parametrize("linkage", LINKAGES)
def test_ties_end_in_a_partition_that_some_order_of_merging_gives(linkage: str) -> None:
    distances, several = tied(6, 40), 0
    for threshold in (0.21, 0.31, 0.453, 0.557, 0.703, 0.81):  # none is a height of these, so no rounding decides
        found = run(1 - 2 * distances**2, linkage, stop=threshold)
        for labels, distance in zip(found.labels, distances, strict=True):
            ends = oracles.reachable_partitions(distance, linkage, threshold, 1e-9)
            several += len(ends) > 1
            assert tuple(labels) in ends
    assert several > 10 or linkage == "single"  # single linkage has one answer whatever the order


@pytest.mark.parametrize("linkage", LINKAGES)
def test_ties_are_broken_as_by_xla_in_small_components(linkage: str, x64: Any) -> None:
    groups = np.arange(16) % 2  # of eight assets
    near = tied(16, 60, (0.25, 0.3, 0.35, 0.45))
    covariances = 0.04 * (1 - 2 * np.where(groups[:, None] == groups, near, 0.9 * (near > 0)) ** 2)
    kernel = batched(threshold_roots, linkage=linkage, backend=Backend.CPU, optimised=True)
    roots = np.asarray(kernel(covariances, np.ones((60, 16), bool), np.full(60, STOP)))
    for labels, root in zip(run(covariances, linkage).labels, roots, strict=True):
        np.testing.assert_array_equal(labels, oracles.relabel(root))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("linkage", LINKAGES)
def test_multiples_of_one_asset_are_one_cluster(linkage: str, kind: str) -> None:
    # correlation 1 to a rounding, which is a matter of chance for each pair
    rng = np.random.default_rng(0)
    series, factors = rng.normal(0, 0.01, (200, 60)), rng.uniform(0.3, 4, (200, 9))
    factors *= rng.choice([1, -1], (200, 9)) if kind == "absolute" else 1
    covariances = np.stack([np.cov(np.outer(f, x)) for f, x in zip(factors, series, strict=True)])
    assert (run(covariances, linkage, kind, 1e-6).count == 1).all()
    assert (run(covariances.astype(np.float32), linkage, kind, 1e-2).count == 1).all()


@pytest.mark.parametrize("linkage", LINKAGES)
def test_copies_of_an_asset_share_its_cluster(linkage: str) -> None:
    covariances, rng = samples(20), np.random.default_rng(1)
    for covariance in covariances:
        twin = rng.permutation(np.r_[np.arange(20), np.arange(20), np.arange(9)])
        labels = run(covariance[np.ix_(twin, twin)][None], linkage).labels[0]
        for asset in range(20):
            assert len(set(labels[twin == asset])) == 1


@pytest.mark.parametrize("size", [2, 3, 8, 9, 40, 70])
@pytest.mark.parametrize("linkage", LINKAGES)
def test_blocks_of_equal_correlations_merge_at_their_distance_and_not_below(linkage: str, size: int) -> None:
    # all heights of such a block are the same, Ward's too
    volatility, distance = np.linspace(0.5, 2, 3 * size), np.sqrt(0.15)
    covariance = np.kron(np.eye(3), np.full((size, size), 0.7)) + 0.3 * np.eye(3 * size)
    covariances = (covariance * volatility[:, None] * volatility)[None]
    assert run(covariances, linkage, stop=distance * (1 - 1e-9)).count[0] == 3 * size
    blocks = run(covariances, linkage, stop=distance * (1 + 1e-9)).labels[0]
    np.testing.assert_array_equal(blocks, np.repeat(np.arange(3), size))
