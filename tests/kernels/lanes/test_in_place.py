"""Rows written in place, against NumPy's: XLA may read from an array what it has already overwritten there.

The numbers are whole and small, so that every sum is exact and only a row read too late can make a difference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array, lax

from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.lanes.control import over_pairs, over_short_steps, over_steps

LANES = 16


def numbers(size: int, dtype: Any) -> np.ndarray:
    return np.random.default_rng(size).integers(-3, 4, (size, LANES)).astype(dtype)


def in_steps(count: int, step: Callable[[Array, Array], Array], state: Array) -> Array:
    return over_steps(count, step, state, Backend.CPU)


def in_short_steps(count: int, step: Callable[[Array, Array], Array], state: Array) -> Array:
    return over_short_steps(count, step, state, Backend.CPU)


@pytest.mark.parametrize("loop", [in_short_steps, in_steps, over_pairs])
@pytest.mark.parametrize("size", [2, 5, 34])
def test_a_row_sees_the_rows_before_it_changed_and_the_others_as_they_were(loop: Any, size: int, dtype: Any) -> None:
    """Every row becomes its neighbours' sum, in one sweep; then the sweep's result is given an axis."""

    def step(i: Array, rows: Array) -> Array:
        before, own, after = (
            lax.dynamic_index_in_dim(rows, j, 0, keepdims=False)
            for j in (jnp.maximum(i, 1) - 1, i, jnp.minimum(i + 1, size - 1))
        )
        return lax.dynamic_update_index_in_dim(rows, before - own + after, i, 0)

    rows = numbers(size, dtype)
    found = jax.jit(lambda rows: loop(size, step, rows + 1).reshape(1, size, LANES))(rows)
    expected = rows + 1
    for i in range(size):
        expected[i] = expected[max(i, 1) - 1] - expected[i] + expected[min(i + 1, size - 1)]
    np.testing.assert_array_equal(found[0], expected)
