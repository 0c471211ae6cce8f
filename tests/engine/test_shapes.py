"""Tiles and parts: of every size within their memory, filled whatever the number of universes, and nobody notices."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import jax
import numpy as np
import oracles
import pytest
from helpers import count_compilations, pick, same_bits

import jaxalloc as ja
from jaxalloc.engine.batch import allocate_batch
from jaxalloc.engine.scheduler import Engine
from jaxalloc.engine.shapes import MAX_BUCKETS, Tiles, chunk_bytes, cluster_buckets, tiles
from jaxalloc.engine.stages import Items, buffer_shapes, empty_buffers
from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.settings.config import NUMERIC_FIELDS, AllocationConfig

DEFAULT = AllocationConfig()


@pytest.mark.parametrize("n_assets", [1, 2, 5, 8, 9, 12, 20, 100, 250, 1000, 5000])
def test_buckets_are_at_most_eight_growing_sizes_up_to_n(n_assets: int) -> None:
    buckets = cluster_buckets(n_assets)
    assert 1 <= len(buckets) <= MAX_BUCKETS == 8
    assert buckets[-1] == n_assets
    assert all(a < b for a, b in pairwise(buckets))
    assert buckets[0] == min(8, n_assets)


def test_a_batch_of_few_clusters_does_not_pay_for_n() -> None:
    assert cluster_buckets(250)[0] == 8
    assert all(b / a <= 2.7 for a, b in pairwise(cluster_buckets(250)))
    assert all(b / a <= 1.3 for a, b in pairwise(cluster_buckets(250)[5:]))  # where a step costs K^3


@pytest.mark.parametrize(
    ("backend", "memory"), [(Backend.CPU, None), (Backend.ACCELERATOR, None), (Backend.ACCELERATOR, 2**36)]
)
def test_chunks_are_whole_tiles_within_their_memory(backend: Backend, memory: int | None) -> None:
    most = 2**28 if backend is Backend.CPU else 2**30 if memory is None else memory // 8
    for n_assets in (1, 12, 100, 250, 1000, 3000):
        for kind in (np.float32, np.float64):
            table = 252 * n_assets * (n_assets + 1) // 2 * np.dtype(kind).itemsize
            chosen = tiles(n_assets, kind, backend, memory, table)
            assert (
                chosen.capacity % chosen.draw == chosen.draw % chosen.estimate == chosen.estimate % chosen.observe == 0
            )
            assert chosen.capacity >= chosen.draw >= chosen.estimate >= 1
            assert chosen.draw >= tiles(n_assets, kind, backend, memory, 0).draw == chosen.estimate
            assert set(chosen.solve) == set(chosen.turns) == set(cluster_buckets(n_assets))
            assert min(chosen.turns.values()) >= 1
            of_covariances = chosen.capacity * n_assets**2 * np.dtype(kind).itemsize
            least = (
                max(chosen.solve.values()) if backend is Backend.ACCELERATOR else chosen.estimate
            )  # a part is at least one tile
            assert chosen.capacity % least == 0
            assert chosen.capacity == least or of_covariances <= most


@pytest.mark.parametrize("rows", [0, 9])
def test_a_chunk_takes_the_memory_that_the_formula_says(rows: int, dtype: Any) -> None:
    with jax.enable_x64(dtype is np.float64):
        for n_assets, profiles in ((3, ("risk_parity",)), (12, DEFAULT.profiles)):
            engine = Engine((9, n_assets), DEFAULT.replace(profiles=profiles), panel=np.zeros((9, n_assets)))
            items = Items(weights=np.ones((64, 9), dtype), mask=np.ones((64, n_assets), bool))
            settings = {name: np.full(64, getattr(engine.config, name)) for name in NUMERIC_FIELDS}
            config = engine.config.replace(**settings)
            shapes = buffer_shapes(engine.shared[0], items, config, rows, engine.backend)
            buffers = empty_buffers(shapes, 64)
            held = sum(leaf.nbytes for leaf in jax.tree.leaves(buffers))
            assert held == 64 * chunk_bytes(n_assets, len(profiles), dtype, rows)


def test_another_batch_length_or_chunk_compiles_nothing(x64: Any) -> None:
    # A shape of its own, which no other test has compiled for.
    config = AllocationConfig(profiles=("risk_parity",))
    returns = np.stack([oracles.random_market(np.random.default_rng(i), 30, 4, 2) for i in range(160)])
    allocate_batch(returns[:2], config)  # its only bucket has been seen
    for length in (2, 64, 65, 130, 160):
        with count_compilations() as compiled:
            allocate_batch(returns[:length], config)
        assert compiled.count == 0, f"{length} universes compiled {compiled.count} programs"
    for chunk_size in (1, 65, 150):
        with count_compilations() as compiled:
            allocate_batch(returns, config, chunk_size=chunk_size)
        assert compiled.count == 0, f"chunks of {chunk_size} compiled {compiled.count} programs"


def test_calls_of_many_tiles_give_what_one_tile_gives(x64: Any) -> None:
    """Parts whose bucket takes more tiles than a call goes through; the last call's turns and lanes not all taken."""
    n_rows, n_assets = 9, 8  # one bucket
    panel = ja.datasets.synthetic_market(n_assets, n_rows).to_numpy()
    config = DEFAULT.replace(profiles=("risk_parity", "equal_weight"))  # over clusters, and over assets
    engine = Engine(panel.shape, config, panel=panel)
    call = engine.tiles.solve[n_assets] * engine.tiles.turns[n_assets]
    count = len(engine.devices) * call + 300
    weights = np.random.default_rng(8).multinomial(n_rows, np.full(n_rows, 1 / n_rows), size=count).astype(float)
    told: list[int] = []
    many = allocate_batch(panel, config, weights, progress=told.append)
    assert sum(told) == count
    for start in (0, call - 20, count - 20):
        few = allocate_batch(panel, config, weights[start : start + 64])
        assert same_bits(few, pick(many, slice(start, start + len(few.status)))) == []


@pytest.mark.parametrize("precision", [pytest.param(64, marks=pytest.mark.slow), 32])
def test_tiles_of_an_accelerator_give_what_those_of_a_cpu_give(precision: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wide tiles go other ways: bounds and larger tables in wider groups, two steps of an elimination a turn."""
    with jax.enable_x64(precision == 64):
        _compare_tiles(1e-9 if precision == 64 else 1e-4, monkeypatch)


def _compare_tiles(tolerance: float, monkeypatch: pytest.MonkeyPatch) -> None:
    n_rows, n_assets, count = 60, 20, 2500
    rng = np.random.default_rng(21)
    panel = 0.01 * (0.5 * rng.normal(size=(n_rows, 1)) + rng.standard_t(4, (n_rows, n_assets)))  # hardly any clusters
    panel[:, 11] = 0.004 * rng.normal(size=n_rows) - 0.9 * panel[:, 10]  # a hedge
    counts = rng.multinomial(n_rows, np.full(n_rows, 1 / n_rows), size=count).astype(float)
    narrow = allocate_batch(panel, DEFAULT, counts)

    def with_little_memory(n: int, dtype: Any, backend: Backend, *_: Any) -> Tiles:
        each = n * n * np.dtype(dtype).itemsize
        return tiles(n, dtype, backend, 8 * 4 * 2048 * each)

    monkeypatch.setattr("jaxalloc.engine.scheduler.tiles", with_little_memory)
    engine = Engine(panel.shape, DEFAULT, panel=panel, backend=Backend.ACCELERATOR)
    assert engine.tiles.capacity > count > max(engine.tiles.solve.values()) > engine.tiles.estimate >= 512

    def allocation(counts: np.ndarray) -> ja.Allocation:
        masks = np.ones((len(counts), n_assets), bool)
        return engine.start(Items(weights=counts, mask=masks)).allocation()

    wide = allocation(counts)
    np.testing.assert_array_equal(wide.cluster_labels, narrow.cluster_labels)
    np.testing.assert_array_equal(wide.status, narrow.status)
    assert not np.any(wide.status & ja.Status.NOT_CONVERGED)
    np.testing.assert_allclose(wide.weights, narrow.weights, atol=tolerance)
    for part in (slice(0, 3), slice(2040, 2500)):
        assert same_bits(allocation(counts[part]), pick(wide, part)) == []


def test_universes_drawn_in_one_product_are_those_drawn_alone(x64: Any) -> None:
    """A table of outer products that is large: more are drawn at once than a part is filled up to a multiple of."""
    n_rows, n_assets, count = 1000, 16, 300  # a table above a megabyte, and few clusters to compile for
    panel = ja.datasets.synthetic_market(n_assets, n_rows).to_numpy()
    counts = np.random.default_rng(5).multinomial(n_rows, np.full(n_rows, 1 / n_rows), size=count).astype(float)
    config = DEFAULT.replace(profiles=("risk_parity",))  # it is the draws that are looked at
    engine = Engine(panel.shape, config, panel=panel)
    assert count > engine.tiles.draw > engine.tiles.estimate
    masks = np.ones((count, n_assets), bool)
    whole = engine.start(Items(weights=counts, mask=masks)).allocation()
    for part in (slice(0, 1), slice(63, 130), slice(250, 300)):
        found = engine.start(Items(weights=counts[part], mask=masks[part])).allocation()
        assert same_bits(found, pick(whole, part)) == []
    for i in (0, 255, 256, 299):
        alone = ja.allocate(panel, config, counts[i])
        assert np.array_equal(alone.cluster_labels, whole.cluster_labels[i])
        np.testing.assert_allclose(whole.weights[i], alone.weights, atol=1e-9)
