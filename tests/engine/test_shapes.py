"""Canonical sizes, groups and chunks: of every size within their memory, and nobody notices which."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import jax
import numpy as np
import pytest
from helpers import pick, same_bits

import jaxalloc as ja
from jaxalloc.engine import stages
from jaxalloc.engine.batch import allocate_batch
from jaxalloc.engine.scheduler import Engine
from jaxalloc.engine.shapes import (
    ASSETS,
    CLUSTERS,
    LINKED,
    MOVED_ROWS,
    OWN_ROWS,
    ROWS,
    Sizes,
    canonical,
    chunk_bytes,
    lanes_of,
    link_few,
    measured_at_once,
    sizes_of,
    turns_of,
)
from jaxalloc.engine.stages import Items
from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.moments.panel import share_panel
from jaxalloc.kernels.solvers.mean_variance import MEAN_VARIANCE
from jaxalloc.kernels.solvers.risk_parity.solve import RISK_PARITY
from jaxalloc.portfolios.estimates import Given
from jaxalloc.settings.config import NUMERIC_FIELDS, AllocationConfig, cast_config

DEFAULT = AllocationConfig()


@pytest.mark.parametrize(
    ("grid", "step"),
    [(ASSETS, 1.6), (CLUSTERS, 1.67), (ROWS, 1.5), (LINKED, 2), (MOVED_ROWS, 4), (OWN_ROWS, 16)],
    ids=str,
)
def test_canonical_sizes_hold_what_is_asked_for(grid: tuple[int, ...], step: float) -> None:
    sizes = [canonical(n, grid) for n in range(1, 5001)]
    assert all(size >= n for n, size in enumerate(sizes, 1))
    assert sizes == sorted(sizes)
    assert all(b / a <= step for a, b in pairwise(sorted({*sizes})))
    assert [canonical(size, grid) for size in sizes] == sizes
    assert {*sizes} >= {size for size in grid if size <= 5000}


def test_an_asset_more_costs_little() -> None:
    """Covariances have the square of N, and vectors of float64 four numbers."""
    assert all(b / a <= 1.34 for a, b in pairwise(ASSETS[1:]))
    assert all(b / a <= 1.5 for a, b in pairwise(CLUSTERS[1:]))
    assert all(size % 4 == 0 for size in (*ASSETS, *CLUSTERS, *LINKED))


@pytest.mark.parametrize("own_returns", [False, True], ids=["a panel", "own returns"])
@pytest.mark.parametrize(
    ("backend", "memory", "scalar"),
    [
        (Backend.CPU, None, False),
        (Backend.CPU, None, True),
        (Backend.ACCELERATOR, None, False),
        (Backend.ACCELERATOR, 2**36, False),
    ],
)
def test_parts_are_whole_groups_within_their_memory(
    backend: Backend, memory: int | None, scalar: bool, own_returns: bool
) -> None:
    most = 2**28 if backend is Backend.CPU else 2**30 if memory is None else memory // 8
    for n_assets in (1, 8, 12, 33, 53, 100, 129, 250, 431, 1000, 3000):
        for n_rows in (2, 60, 252, 1500, 9000):
            for kind in (np.float32, np.float64):
                chosen = sizes_of((n_rows, n_assets), kind, backend, memory, own_returns, scalar=scalar)
                assert chosen.assets >= n_assets
                assert chosen.rows >= n_rows
                assert chosen.capacity % chosen.group == chosen.group % chosen.few == chosen.few % chosen.own == 0
                assert chosen.capacity >= chosen.group >= chosen.few >= chosen.own >= 1
                covariances = chosen.capacity * chosen.assets**2 * np.dtype(kind).itemsize
                assert chosen.capacity == chosen.group or covariances <= most
                held = n_rows if backend is Backend.CPU else chosen.rows
                of_returns = chosen.own * held * chosen.assets * np.dtype(kind).itemsize
                assert chosen.own == 1 or of_returns <= 2**24
                assert backend is Backend.CPU or chosen.few == chosen.group >= 512


@pytest.mark.parametrize("backend", [Backend.CPU, Backend.ACCELERATOR])
def test_a_long_panel_lowers_the_universes_of_a_group(backend: Backend) -> None:
    for n_assets in (5, 20, 60, 160, 500):
        for n_rows in (20_000, 100_000, 1_000_000):
            for simulated in (False, True):
                chosen = sizes_of((n_rows, n_assets), np.float64, backend, 2**36, simulated, simulated)
                assert chosen.capacity % chosen.group == chosen.group % chosen.few == chosen.few % chosen.own == 0
                of_weights = chosen.group * chosen.rows * 8
                if backend is Backend.ACCELERATOR:  # a program that does not fill it takes as long
                    assert chosen.group == 512 or of_weights <= 2**36 // 64
                    continue
                assert chosen.group == 1 or of_weights <= 2**26
                assert chosen.capacity == chosen.group or chosen.capacity * chosen.rows <= 2**28  # rows left out
                assert not simulated or chosen.group == 1 or of_weights * chosen.assets <= 2**27
                measured = measured_at_once(chosen, 4, n_rows, np.float64)
                assert chosen.group % measured == 0
                assert measured == 1 or measured * 4 * n_rows * 8 <= 2**26


def test_a_group_of_ten_years_is_as_large_as_of_one() -> None:
    for n_assets in (20, 60, 431):
        assert sizes_of((252, n_assets), np.float64).group == sizes_of((2520, n_assets), np.float64).group


def test_solvers_go_through_tiles_of_bounded_size() -> None:
    sizes = sizes_of((60, 20), np.float64)
    for size in CLUSTERS:
        assert lanes_of(32, Backend.CPU, sizes) == 32
        assert 1 <= turns_of(size, Backend.CPU) <= 8
        assert turns_of(size, Backend.ACCELERATOR) == 1
    wide = sizes_of((60, 20), np.float64, Backend.ACCELERATOR)
    assert lanes_of(32, Backend.ACCELERATOR, wide) == wide.group
    for solver in (MEAN_VARIANCE, RISK_PARITY):
        for step in (step for size in CLUSTERS for step in solver.steps(size)):
            lanes = lanes_of(step.width, Backend.ACCELERATOR, wide, step.fewer)
            assert 8 <= lanes < wide.group == lanes * step.fewer  # few want another step
            assert lanes_of(step.width, Backend.CPU, sizes, step.fewer) == step.width
    for rows in LINKED:
        for backend, of in ((Backend.CPU, sizes), (Backend.ACCELERATOR, wide)):
            assert 1 <= link_few(rows, backend, of) <= max(256, of.group)


@pytest.mark.parametrize("chunk_size", [1, 64, 511, 512, 513, 5000])
def test_chunks_are_whole_groups(chunk_size: int) -> None:
    engine = Engine((9, 8), DEFAULT, chunk_size)
    assert engine.chunk_size % engine.sizes.group == 0
    assert 0 <= engine.chunk_size - chunk_size < engine.sizes.group
    whole = Engine((9, 8), DEFAULT)
    assert whole.chunk_size == whole.sizes.capacity * len(whole.devices)


def held(n_assets: int, profiles: tuple[str, ...], dtype: Any, n_rows: int) -> int:
    """Bytes of what one universe leaves in memory until its chunk is done."""
    assets = canonical(n_assets, ASSETS)
    estimates = stages.shapes_of_estimates(1, assets, dtype)
    number, problem = np.dtype(dtype).itemsize, canonical(n_assets, CLUSTERS)
    posed = (problem**2 + 4 * problem) * number
    solutions = len(profiles) * (assets * number + number + 4 + 2)
    result = len(profiles) * (3 * n_assets * number + 5 * number + 4 * n_assets + 8) + n_assets * (number + 5) + 4
    between = sum(int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(estimates))
    return between + posed + solutions + result + n_rows


@pytest.mark.parametrize("rows", [0, 252])
def test_a_chunk_takes_about_the_memory_that_the_formula_says(rows: int, dtype: Any) -> None:
    for n_assets in (30, 64, 100, 250, 431):
        for profiles in (("risk_parity",), DEFAULT.profiles):
            told = chunk_bytes(n_assets, len(profiles), dtype, rows)
            known = held(n_assets, profiles, dtype, rows)
            assert 0.8 <= told / known <= 1.25, (n_assets, profiles)
            squares = np.dtype(dtype).itemsize * (canonical(n_assets, ASSETS) ** 2 + canonical(n_assets, CLUSTERS) ** 2)
            by_scalar = chunk_bytes(n_assets, len(profiles), dtype, rows, scalar=True)
            assert 0.8 <= by_scalar / (known - squares) <= 1.25, (n_assets, profiles)


@pytest.mark.parametrize("n_assets", [8, 40])
def test_stages_hand_on_what_is_written_down(n_assets: int, dtype: Any) -> None:
    """`shapes_of_estimates` stands in for tracing."""
    universes, rows, few = 16, 64, 8
    with jax.enable_x64(dtype is np.float64):

        def of(*axes: int, kind: Any = dtype) -> Any:
            return jax.ShapeDtypeStruct(axes, kind)

        config = cast_config(DEFAULT, dtype)
        config = config.replace(**{
            name: of(universes, kind=np.asarray(getattr(config, name)).dtype) for name in NUMERIC_FIELDS
        })  # fmt: skip
        weights, mask, whole = of(universes, rows), of(universes, n_assets, kind=bool), of(kind=np.int32)
        panel = share_panel(np.zeros((rows, n_assets), dtype), 2**20, rows, n_assets)

        def observe(panel: Any, weights: Any, mask: Any, config: Any, count: Any, room: Any) -> Any:
            return stages.observe_group(panel, weights, mask, config, Given(), None, count, room, few=few)

        def observe_own(returns: Any, weights: Any, mask: Any, config: Any, rows: Any) -> Any:
            return stages.observe_own(returns, weights, mask, config, Given(), None, rows)

        room = of(universes, n_assets, n_assets)
        estimates = stages.shapes_of_estimates(universes, n_assets, np.dtype(dtype))
        own = jax.eval_shape(observe_own, of(universes, rows, n_assets), weights, mask, config, whole)
        assert own == jax.eval_shape(observe, panel, weights, mask, config, whole, room)
        # what clustering finds takes its place among the estimates
        shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), (estimates, own))
        assert shapes[0] == shapes[1]


def resampled(n_rows: int, count: int, seed: int) -> np.ndarray:
    """(count, T) bootstrap counts."""
    return np.random.default_rng(seed).multinomial(n_rows, np.full(n_rows, 1 / n_rows), size=count).astype(float)


def test_calls_of_many_tiles_give_what_one_tile_gives(x64: Any) -> None:
    """Parts whose problems take more tiles than a call goes through; the last call's turns and lanes not all taken."""
    n_rows, n_assets, count = 9, 8, 2500
    panel = ja.datasets.synthetic_market(n_assets, n_rows).to_numpy()
    config = DEFAULT.replace(profiles=("risk_parity", "asset_min_variance"))  # over clusters, and over assets
    weights = resampled(n_rows, count, 8)
    told: list[int] = []
    many = allocate_batch(panel, config, weights, progress=told.append)
    assert sum(told) == count
    for start in (0, 1000, 1260, count - 20):
        few = allocate_batch(panel, config, weights[start : start + 64])
        assert same_bits(few, pick(many, slice(start, start + len(few.status)))) == []


@pytest.mark.parametrize("precision", [pytest.param(64, marks=pytest.mark.slow), 32])
def test_what_an_accelerator_runs_gives_what_a_cpu_gives(precision: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wide groups and tiles, and problems that are gathered on the device."""
    with jax.enable_x64(precision == 64):
        _compare_backends(1e-9 if precision == 64 else 1e-4, monkeypatch)


def _compare_backends(tolerance: float, monkeypatch: pytest.MonkeyPatch) -> None:
    n_rows, n_assets, count = 60, 20, 2500
    rng = np.random.default_rng(21)
    panel = 0.01 * (0.5 * rng.normal(size=(n_rows, 1)) + rng.standard_t(4, (n_rows, n_assets)))  # hardly any clusters
    panel[:, 11] = 0.004 * rng.normal(size=n_rows) - 0.9 * panel[:, 10]  # a hedge
    counts = resampled(n_rows, count, 22)
    narrow = allocate_batch(panel, DEFAULT, counts)

    def with_little_memory(shape: tuple[int, int], dtype: Any, backend: Backend, _: int | None, **kind: bool) -> Sizes:
        return sizes_of(shape, dtype, backend, 8 * 8 * 512 * shape[1] ** 2 * np.dtype(dtype).itemsize, **kind)

    monkeypatch.setattr("jaxalloc.engine.scheduler.sizes_of", with_little_memory)
    engine = Engine(panel.shape, DEFAULT, panel=panel, backend=Backend.ACCELERATOR)
    assert engine.sizes.capacity > count > engine.sizes.group == engine.sizes.few == 512

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


def test_universes_observed_in_one_product_are_those_observed_alone(x64: Any) -> None:
    n_rows, n_assets, count = 1000, 16, 600
    panel = ja.datasets.synthetic_market(n_assets, n_rows).to_numpy()
    counts = resampled(n_rows, count, 5)
    config = DEFAULT.replace(profiles=("risk_parity",))  # it is the moments that are looked at
    engine = Engine(panel.shape, config, panel=panel)
    assert count > engine.sizes.group > engine.sizes.few
    masks = np.ones((count, n_assets), bool)
    whole = engine.start(Items(weights=counts, mask=masks)).allocation()
    for part in (slice(0, 1), slice(63, 130), slice(500, 600)):
        found = engine.start(Items(weights=counts[part], mask=masks[part])).allocation()
        assert same_bits(found, pick(whole, part)) == []
    for i in (0, 511, 512, 599):
        alone = ja.allocate(panel, config, counts[i])
        assert np.array_equal(alone.cluster_labels, whole.cluster_labels[i])
        np.testing.assert_allclose(whole.weights[i], alone.weights, atol=1e-9)
