"""Connected components against SciPy's; clusters by component against whole trees, whatever the components' sizes."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from helpers import Array, batched, compiled, host
from scipy.sparse import csgraph

import jaxalloc as ja
from jaxalloc.kernels.clusters.components import _bits, _components, _transposed, threshold_roots
from jaxalloc.kernels.clusters.distance import correlation_distance
from jaxalloc.kernels.clusters.linkage import merge_tree, roots
from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.lanes.control import in_turns
from jaxalloc.settings.config import LINKAGES

STOP = 0.4
SIZES = (1, 2, 3, 4, 5, 8, 9, 16, 17, 33)  # of components: below, at and above those of every table; 98 in all
LARGEST = (70, 28)


@pytest.mark.parametrize("backend", Backend)
@pytest.mark.parametrize("n", [1, 2, 31, 32, 33, 65, 100])
def test_components_are_scipy_s(n: int, backend: Backend) -> None:
    rng = np.random.default_rng(n)
    edges = rng.random((24, n, n)) < np.linspace(0, 4 / n, 24)[:, None, None]
    edges |= edges.transpose(0, 2, 1) | np.eye(n, dtype=bool)
    found = host(compiled(lambda graphs: _components(jax.vmap(_bits)(graphs), backend))(edges))
    for i, graph in enumerate(edges):
        _, labels = csgraph.connected_components(graph, directed=False)
        same = labels[:, None] == labels[None, :]
        np.testing.assert_array_equal(found.first[i], same.argmax(axis=1))
        np.testing.assert_array_equal(found.place[i], np.tril(same, -1).sum(axis=1))
        np.testing.assert_array_equal(found.size[i], same.sum(axis=1))


def chained(rng: np.random.Generator, sizes: tuple[int, ...]) -> Array:
    """A covariance whose components are of these sizes: a point of each has another of it within reach, and no more.

    A component's points lie each near an older one, and far from all others' points. Their distances are turned into
    correlations, which need not be those of any returns.
    """
    components = []
    for size in sizes:
        points = np.zeros((size, 3))
        for j in range(1, size):
            step = rng.normal(size=3)
            points[j] = points[rng.integers(j)] + step / np.linalg.norm(step) * rng.uniform(0.05, 0.39)
        components.append(points)
    distance = np.full((sum(sizes), sum(sizes)), 0.95)
    start = 0
    for points in components:
        inside = slice(start, start + len(points))
        distance[inside, inside] = np.minimum(np.linalg.norm(points[:, None] - points[None], axis=2), 0.99)
        start += len(points)
    order = rng.permutation(len(distance))
    volatility = rng.lognormal(-2, 0.5, len(distance))
    covariance = (1 - 2 * distance**2)[np.ix_(order, order)] * volatility[:, None] * volatility
    return (covariance + covariance.T) / 2


@cache
def markets(n: int = 100) -> Array:
    rng = np.random.default_rng(n)
    kinds = [(*SIZES, 1, 1)] * 10 + [(*LARGEST, 1, 1)] * 2 if n == 100 else [(17, 9, 5, 4, 3, 2)] * 6
    return np.stack([chained(rng, sizes) for sizes in kinds])


def by_tree(covariance: Any, active: Any, stop: Any, linkage: str, kind: str = "correlation") -> Any:
    tree = merge_tree(correlation_distance(covariance, kind), active, linkage, stop)
    return jnp.where(active, roots(tree, stop), jnp.arange(active.shape[0], dtype=jnp.int32))


def by_components(covariance: Any, active: Any, stop: Any, **settings: Any) -> Any:
    return threshold_roots(covariance, active, stop, **settings, backend=Backend.CPU)


def run(how: Any, covariances: Array, active: Array | None = None, stop: Any = STOP, **settings: Any) -> Array:
    count, n = covariances.shape[:2]
    stops = np.broadcast_to(np.asarray(stop, covariances.dtype), count)
    everyone = np.ones((count, n), bool)
    return np.asarray(batched(how, **settings)(covariances, everyone if active is None else active, stops))


@pytest.mark.parametrize(
    "linkage", [pytest.param(name, marks=[pytest.mark.slow] * (name in ("single", "complete"))) for name in LINKAGES]
)
def test_components_of_every_size_give_scipy_s_clusters(linkage: str, x64: Any) -> None:
    found = run(by_components, markets(), linkage=linkage)
    for root, covariance in zip(found, markets(), strict=True):
        expected = oracles.clusters(oracles.correlation_distance(covariance), linkage, STOP)
        np.testing.assert_array_equal(oracles.relabel(root), expected)
        np.testing.assert_array_equal(root[root], root)
        assert (root <= np.arange(100)).all()


def test_single_precision_gives_the_tree_s_clusters() -> None:
    covariances = markets().astype(np.float32)
    found = run(by_components, covariances, linkage="average")
    np.testing.assert_array_equal(found, run(by_tree, covariances, linkage="average"))


def test_each_universe_has_its_own_threshold_and_assets(x64: Any) -> None:
    covariances = np.repeat(markets()[[0, 11]], 6, axis=0)
    active = np.random.default_rng(5).random(covariances.shape[:2]) < 0.8
    stops = np.tile([0.0, 0.15, 0.3, 0.5, 0.7, 1.0], 2)
    found = run(by_components, covariances, active, stops, linkage="average")
    np.testing.assert_array_equal(found, run(by_tree, covariances, active, stops, linkage="average"))
    np.testing.assert_array_equal(found[~active], np.nonzero(~active)[1])
    assert (found[0] == np.arange(100)).all()
    assert len(np.unique(found[5][active[5]])) == 1


def test_assets_without_variance_are_uncorrelated(x64: Any) -> None:
    covariances = markets().copy()
    covariances[:, :3], covariances[:, :, :3] = 0, 0
    stops = np.tile([STOP, 0.72], 6)  # their distance is sqrt(1/2)
    found = run(by_components, covariances, stop=stops, linkage="single")
    np.testing.assert_array_equal(found, run(by_tree, covariances, stop=stops, linkage="single"))
    assert (found[::2, 1] == 1).all()
    assert (found[1::2, 1] == 0).all()


@pytest.mark.parametrize("n", [1, 32, 100])
def test_bits_are_transposed(n: int) -> None:
    tables = np.random.default_rng(n).random((4, n, n)) < 0.3
    found = jax.jit(jax.vmap(lambda table: _transposed(_bits(table))))(tables)
    np.testing.assert_array_equal(found, jax.jit(jax.vmap(_bits))(tables.transpose(0, 2, 1)))


def test_a_covariance_need_be_symmetric_up_to_rounding_only(dtype: Any) -> None:
    covariances = markets(40).astype(dtype)
    towards = np.where(np.random.default_rng(4).random(covariances.shape) < 0.5, -np.inf, np.inf).astype(dtype)
    found = run(by_components, np.nextafter(covariances, towards), linkage="average")
    np.testing.assert_array_equal(found, run(by_components, covariances, linkage="average"))


def test_inverse_assets_are_near_by_absolute_correlation(x64: Any) -> None:
    signs = np.where(np.random.default_rng(2).random(40) < 0.5, -1.0, 1.0)
    settings: dict[str, Any] = {"linkage": "average", "kind": "absolute"}
    found = run(by_components, markets(40) * signs[:, None] * signs, **settings)
    np.testing.assert_array_equal(found, run(by_tree, markets(40), **settings))


def test_neighbours_and_place_change_nothing(dtype: Any) -> None:
    # ties, so that a rounding that hung on the lane would show
    rng = np.random.default_rng(3)
    distance = np.triu(rng.choice([0.25, 0.35, 0.45, 0.9, 0.9, 0.9, 0.9, 0.9], (16, 40, 40)), 1)
    distance[:, :16, 16:] = 0.9
    covariances = (0.04 * (1 - 2 * (distance + distance.transpose(0, 2, 1)) ** 2)).astype(dtype)
    found = run(by_components, covariances, linkage="average", optimised=True)
    for order in (rng.permutation(16), np.full(16, 3), np.full(16, 7)):
        moved = run(by_components, covariances[order], linkage="average", optimised=True)
        np.testing.assert_array_equal(moved, found[order])


def test_vmaps_inside_one_another_and_none(x64: Any) -> None:
    covariances, kernel = markets(40)[:4, :12, :12], partial(by_components, linkage="average")
    active, stops = np.ones((4, 12), bool), np.full(4, STOP)
    found = run(by_tree, covariances, linkage="average")
    np.testing.assert_array_equal(compiled(kernel)(covariances[0], active[0], STOP), found[0])
    pairs = (values.reshape(2, 2, *values.shape[1:]) for values in (covariances, active, stops))
    np.testing.assert_array_equal(compiled(jax.vmap(jax.vmap(kernel)))(*pairs), found.reshape(2, 2, 12))


@pytest.mark.parametrize(("items", "width"), [(1, 1), (7, 3), (6, 3), (5, 8)])
def test_turns_take_each_wanted_item_once(items: int, width: int) -> None:
    def work(which: Any, seen: Any) -> Any:
        return seen.at[which].add(1, mode="drop")

    counted = jax.jit(jax.vmap(lambda wanted: in_turns(wanted, width, work, jnp.zeros(items, jnp.int32))))
    every = (np.arange(2**items)[:, None] >> np.arange(items)) % 2 == 1
    np.testing.assert_array_equal(counted(every), every)


def test_universes_of_a_shared_panel_have_scipy_s_clusters(x64: Any) -> None:
    returns = ja.datasets.synthetic_market(100, 252).to_numpy()
    counts = np.random.default_rng(0).multinomial(252, np.full(252, 1 / 252), 64).astype(float)
    found = ja.allocate_batch(returns, ja.AllocationConfig(profiles=("equal_weight",)), counts)
    for labels, count in zip(found.cluster_labels, counts, strict=True):
        covariance = oracles.moments(returns, count)[1]
        np.testing.assert_array_equal(labels, oracles.clusters(oracles.correlation_distance(covariance)))
