"""Products and solvers of small systems, against NumPy's, and the same in every lane."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.lanes.elimination import solve_positive_definite
from jaxalloc.kernels.lanes.products import matvec


def system(size: int, n_rhs: int, lanes: int, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """Correlation matrices (K, K, L) and right-hand sides (K, R, L)."""
    rng = np.random.default_rng(size)
    returns = rng.standard_normal((lanes, 3 * size, size)) + rng.standard_normal((lanes, 3 * size, 1))
    matrix = np.stack([np.corrcoef(own.T).reshape(size, size) for own in returns], axis=-1)
    return matrix.astype(dtype), rng.standard_normal((size, n_rhs, lanes)).astype(dtype)


def solve(matrix: Any, rhs: Any, backend: Backend = Backend.CPU) -> Any:
    with jax.numpy_rank_promotion("allow"):  # as in `jaxalloc.kernels.lanes.adapter.lanes_last`
        return solve_positive_definite(matrix, rhs, backend)


@pytest.mark.parametrize("backend", Backend)
@pytest.mark.parametrize("size", [1, 2, 5, 12, 25, 60])
def test_solutions_are_numpys(size: int, backend: Backend, dtype: Any) -> None:
    matrix, rhs = system(size, 3, 8, dtype)
    found = np.asarray(solve(matrix, rhs, backend), np.float64)
    first = [np.moveaxis(part.astype(np.float64), -1, 0) for part in (matrix, rhs)]
    expected = np.moveaxis(np.linalg.solve(*first), 0, -1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=np.finfo(dtype).eps * 200 * np.abs(expected).max())
    alone = solve(jnp.asarray(matrix[..., 0]), jnp.asarray(rhs[..., 0]))  # without lanes
    np.testing.assert_allclose(alone, expected[..., 0], rtol=0, atol=np.finfo(dtype).eps * 200 * np.abs(expected).max())


def test_a_dependent_column_gets_nothing(dtype: Any) -> None:
    matrix = np.array([[1, 1, 0.5], [1, 1, 0.5], [0.5, 0.5, 1]], dtype)
    rhs = (matrix @ np.array([2, 0, 1], dtype))[:, None]
    np.testing.assert_allclose(solve(jnp.asarray(matrix), jnp.asarray(rhs))[:, 0], [2, 0, 1], atol=1e-5)


@pytest.mark.parametrize("lanes", [8, 16])
def test_equal_lanes_have_equal_bits(lanes: int, dtype: Any) -> None:
    """Compiled code may leave the last lanes to instructions that round otherwise; a group's lanes are few."""
    for size in (3, 7, 20):
        matrix, rhs = (np.repeat(part[..., :1], lanes, axis=-1) for part in system(size, 2, 1, dtype))
        found = np.asarray(solve(matrix, rhs))
        assert (found == found[..., :1]).all(), size


@pytest.mark.parametrize("backend", Backend)
@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("size", [1, 2, 5, 34])
def test_products_are_numpys(size: int, absolute: bool, backend: Backend, dtype: Any) -> None:
    matrix, x = system(size, 1, 16, dtype)
    with jax.numpy_rank_promotion("allow"):
        found = matvec(matrix, x[:, 0], backend, absolute=absolute)
    expected = np.einsum("ijl,jl->il", np.abs(matrix) if absolute else matrix, x[:, 0])
    np.testing.assert_allclose(found, expected, atol=np.finfo(dtype).eps * 8 * size)
