"""Resamples by scalar kernels: bit for bit those that `draw_universe` draws in lanes, and the law of what they draw."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from helpers import Array, batched

from jaxalloc.engine.drawing import Resampling, drawing_of
from jaxalloc.markets.holes import Gaps, weigh_gaps
from jaxalloc.universes.bootstrap import Bags, Bootstrap
from jaxalloc.universes.samplers import Product, RandomSubsets, Sampler, steps
from jaxalloc.universes.universe import MOST_UNIVERSES, WHOLE_PANEL, Drawn, draw_universe, seed_key

pytest.importorskip("numba")

from jaxalloc.kernels.scalar import draws

DRAW = batched(draw_universe, axes=(None, None, 0, None, None))
INDEX = np.array([0, 1, 7, WHOLE_PANEL, 65_536, MOST_UNIVERSES - 1, 2**31 - 1], np.int32)
SEEDS = 0, 1, 12_345, 2**31, 2**32 - 1
PANEL = np.random.default_rng(0).normal(0, 0.01, (36, 4))
PANEL[3, 0] = PANEL[30:, 1] = PANEL[::4, 3] = np.nan  # a hole, an end, and many holes


def resampling_of(sampler: Sampler, gaps: Gaps, seed: int, dtype: Any = np.float64) -> Resampling | None:
    draws_of = steps(Product(sampler.parts), len(gaps.weight))
    return drawing_of(draws_of, seed_key(seed), gaps, np.dtype(dtype)).resampling


def drawn(resampling: Resampling | None, shape: tuple[int, int], index: Array, dtype: Any) -> tuple[Array, Array]:
    assert resampling is not None
    method, *numbers = resampling
    weights, masks = np.full((len(index), shape[0]), np.nan, dtype), np.ones((len(index), shape[1]), bool)
    draws.draw(draws.METHODS[method], *numbers, index, weights, masks)
    return weights, masks


def in_lanes(sampler: Sampler, gaps: Gaps, seed: int, index: Array, dtype: Any) -> Drawn:
    draws_of, max_missing = steps(Product(sampler.parts), len(gaps.weight)), np.asarray(gaps.max_missing, dtype)
    return DRAW(draws_of, seed_key(seed), index, gaps.weight.astype(dtype), max_missing)


def assert_same(sampler: Sampler, gaps: Gaps, seed: int, dtype: Any, index: Array = INDEX) -> None:
    with jax.enable_x64(np.dtype(dtype) == np.float64):
        expected = in_lanes(sampler, gaps, seed, index, dtype)
        weights, masks = drawn(resampling_of(sampler, gaps, seed, dtype), gaps.weight.shape, index, dtype)
    assert weights.dtype == expected.weights.dtype
    np.testing.assert_array_equal(weights, np.asarray(expected.weights))
    np.testing.assert_array_equal(masks, np.asarray(expected.mask))


# 65,536 rows are the last whose starts are drawn from two words, and 65,537 the first whose are from one
@pytest.mark.parametrize("n_rows", [1, 2, 7, 252, 2513, 65_536, 65_537])
@pytest.mark.parametrize("method", ["circular", "moving", "stationary"])
def test_the_same_bits_as_in_lanes(method: Any, n_rows: int) -> None:
    gaps = weigh_gaps(np.zeros((n_rows, 1)), 0.0)
    lengths = sorted({min(length, n_rows) for length in (1, 2, 21, n_rows)})
    for seed in SEEDS if n_rows < 10_000 else SEEDS[-1:]:
        for length in lengths:
            assert_same(Bootstrap(MOST_UNIVERSES, method, length), gaps, seed, np.float64)


@pytest.mark.parametrize("length", [1.5, 7 / 3, 251.9])
def test_mean_lengths_need_not_be_whole(length: float) -> None:
    gaps = weigh_gaps(np.zeros((252, 1)), 0.0)
    assert_same(Bootstrap(MOST_UNIVERSES, "stationary", length), gaps, 3, np.float64, np.arange(7, dtype=np.int32))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("max_missing", [0.0, 0.05, 0.25, 1 / 3])
def test_assets_with_gaps(dtype: Any, max_missing: float) -> None:
    index = np.concatenate([[WHOLE_PANEL], np.arange(199)]).astype(np.int32)
    gaps = weigh_gaps(PANEL, max_missing)
    assert_same(Bootstrap(150), gaps, 5, dtype, index)
    with jax.enable_x64(np.dtype(dtype) == np.float64):
        _, masks = drawn(resampling_of(Bootstrap(150), gaps, 5, dtype), PANEL.shape, index, dtype)
    assert masks[:, 2].all()
    assert 0 < masks[:, 0].sum() < len(masks) or max_missing > 0.2
    assert 0 < masks[:, 3].sum() < len(masks) or max_missing < 0.2


def test_resamples_start_again_after_the_last() -> None:
    gaps, index = weigh_gaps(np.zeros((252, 1)), 0.0), np.arange(7, dtype=np.int32)
    weights, _ = drawn(resampling_of(Bootstrap(3), gaps, 2), (252, 1), index, np.float64)
    np.testing.assert_array_equal(weights, weights[[0, 1, 2, 0, 1, 2, 0]])
    assert len(np.unique(weights, axis=0)) == 3
    np.testing.assert_array_equal(weights[:3], Bootstrap(3).counts(252, 2, 0, 3))


def test_other_ways_to_draw_are_left_to_the_lanes() -> None:
    gaps = weigh_gaps(PANEL, 0.0)
    others: list[Sampler] = [Bags(8), RandomSubsets(2, 8), Bootstrap(8) * RandomSubsets(2, 3), Product()]
    assert [resampling_of(other, gaps, 0) for other in others] == [None] * len(others)


def test_another_generator_of_jax_is_left_to_the_lanes() -> None:
    before = jax.config.values["jax_threefry_partitionable"]
    jax.config.update("jax_threefry_partitionable", False)
    try:
        assert resampling_of(Bootstrap(8), weigh_gaps(PANEL, 0.0), 0) is None
    finally:
        jax.config.update("jax_threefry_partitionable", before)


@pytest.mark.parametrize("span", [1, 2, 3, 252, 65_535, 65_536, 65_537, 2**31 - 1, 2**32 - 1])
def test_remainders_are_exact(span: int) -> None:
    rng = np.random.default_rng(span)
    edges = [0, 1, span - 1, span, min(span + 1, 2**32 - 1), 2**32 - 1, (2**32 - 1) // span * span]
    near = [value for edge in edges for value in range(edge - 2, edge + 3) if 0 <= value < 2**32]
    values = np.concatenate([near, rng.integers(0, 2**32, 1000)]).astype(np.uint32)
    inverse = np.uint32((2**32 - 1) // span)
    with np.errstate(over="ignore"):  # as compiled
        found = [draws._remainder.py_func(value, np.uint32(span), inverse) for value in values]
    np.testing.assert_array_equal(found, values.astype(np.uint64) % np.uint64(span))
