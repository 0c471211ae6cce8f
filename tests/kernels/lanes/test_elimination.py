"""Products and solvers of small systems, against NumPy's, and the same in every lane."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import jitted

from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.lanes.elimination import solve_positive_definite
from jaxalloc.kernels.lanes.products import matvec, totals, two_products


def system(size: int, n_rhs: int, lanes: int, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """Correlation matrices (K, K, L) and right-hand sides (K, R, L)."""
    rng = np.random.default_rng(size)
    returns = rng.standard_normal((lanes, 3 * size, size)) + rng.standard_normal((lanes, 3 * size, 1))
    matrix = np.stack([np.corrcoef(own.T).reshape(size, size) for own in returns], axis=-1)
    return matrix.astype(dtype), rng.standard_normal((size, n_rhs, lanes)).astype(dtype)


def solve(
    matrix: Any, rhs: Any, backend: Backend = Backend.CPU, rows: Any = None, optimised: bool = False
) -> np.ndarray:
    kernel = jitted(solve_positive_definite, backend=backend, optimised=optimised)
    with jax.numpy_rank_promotion("allow"):  # as in `jaxalloc.kernels.lanes.adapter.lanes_last`
        return np.asarray(kernel(matrix, rhs, rows=rows))


@pytest.mark.parametrize("backend", Backend)
@pytest.mark.parametrize("size", [1, 2, 5, 12, 25, 60, 64, 70, 100])  # from 64 on by blocks
def test_solutions_are_numpys(size: int, backend: Backend, dtype: Any) -> None:
    matrix, rhs = system(size, 3, 8, dtype)
    found = solve(matrix, rhs, backend).astype(np.float64)
    first = [np.moveaxis(part.astype(np.float64), -1, 0) for part in (matrix, rhs)]
    expected = np.moveaxis(np.linalg.solve(*first), 0, -1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=np.finfo(dtype).eps * 200 * np.abs(expected).max())
    alone = solve(matrix[..., 0], rhs[..., 0])  # without lanes
    np.testing.assert_allclose(alone, expected[..., 0], rtol=0, atol=np.finfo(dtype).eps * 200 * np.abs(expected).max())


def test_a_dependent_column_gets_nothing(dtype: Any) -> None:
    matrix = np.array([[1, 1, 0.5], [1, 1, 0.5], [0.5, 0.5, 1]], dtype)
    rhs = (matrix @ np.array([2, 0, 1], dtype))[:, None]
    np.testing.assert_allclose(solve(matrix, rhs)[:, 0], [2, 0, 1], atol=1e-5)


@pytest.mark.parametrize("place", [1, 20, 79], ids=["in its block", "in a later block", "at the end"])
def test_a_dependent_column_of_a_large_system_gets_nothing(place: int, dtype: Any) -> None:
    matrix, _ = system(80, 1, 4, dtype)
    matrix[place], matrix[:, place] = matrix[0], matrix[:, 0]
    matrix[place, place] = 1
    wanted = np.random.default_rng(3).standard_normal((80, 1, 4))
    wanted[place] = 0
    rhs = np.einsum("ijl,jrl->irl", matrix, wanted).astype(dtype)
    found = solve(matrix, rhs)
    np.testing.assert_allclose(found, wanted, atol=np.finfo(dtype).eps * 1e4)
    assert (found[place] == 0).all()


@pytest.mark.parametrize("lanes", [8, 16])
def test_equal_lanes_have_equal_bits(lanes: int, dtype: Any) -> None:
    """Compiled code may leave the last lanes to instructions that round otherwise; some tiles' lanes are few."""
    for size in (3, 7, 20, 70):
        matrix, rhs = (np.repeat(part[..., :1], lanes, axis=-1) for part in system(size, 2, 1, dtype))
        found = solve(matrix, rhs, optimised=True)
        assert (found == found[..., :1]).all(), size


@pytest.mark.parametrize("backend", Backend)
@pytest.mark.parametrize("size", [5, 30, 75])
def test_rows_of_the_identity_are_left_out(size: int, backend: Backend, dtype: Any) -> None:
    """Whether the rows that count are said for all lanes, or for each: no bit of the solution depends on it."""
    matrix, rhs = system(size, 3, 8, dtype)
    rows = np.arange(8) % (size - 2) + 1
    out = np.arange(size)[:, None] >= rows
    matrix = np.where(out[:, None] | out[None], np.eye(size, dtype=dtype)[..., None], matrix)
    rhs = np.where(out[:, None], 0, rhs)
    expected = solve(matrix, rhs, backend)
    for given in (rows, rows.max()):
        np.testing.assert_array_equal(solve(matrix, rhs, backend, given.astype(np.int32)), expected)


@pytest.mark.parametrize("backend", Backend)
@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("size", [1, 2, 5, 34])
def test_products_are_numpys(size: int, absolute: bool, backend: Backend, dtype: Any) -> None:
    matrix, x = system(size, 1, 16, dtype)
    with jax.numpy_rank_promotion("allow"):
        found = matvec(matrix, x[:, 0], backend, absolute=absolute)
        both = two_products(matrix, x[:, 0], x[:, 0], backend, absolute)
    expected = np.einsum("ijl,jl->il", np.abs(matrix) if absolute else matrix, x[:, 0])
    np.testing.assert_allclose(found, expected, atol=np.finfo(dtype).eps * 8 * size)
    np.testing.assert_allclose(both[0], matvec(matrix, x[:, 0], backend), rtol=np.finfo(dtype).eps * 8)
    np.testing.assert_allclose(both[1], found, rtol=np.finfo(dtype).eps * 8)


@pytest.mark.parametrize("backend", Backend)
@pytest.mark.parametrize("size", [2, 5, 34])
def test_rows_that_do_not_count_change_no_bit_of_a_product(size: int, backend: Backend, dtype: Any) -> None:
    matrix, x = system(size, 1, 16, dtype)
    x = x[:, 0]
    for rows in range(1, size + 1):
        x_of_few = np.where(np.arange(size)[:, None] < rows, x, 0)
        with jax.numpy_rank_promotion("allow"):
            # of one program: one that knows how many rows there are may round otherwise
            one, all_of_it = (matvec(matrix, x_of_few, backend, jnp.int32(n)) for n in (rows, size))
            both, all_of_both = (
                two_products(matrix, x_of_few, x_of_few, backend, False, jnp.int32(n)) for n in (rows, size)
            )
        for found, expected in zip((one, *both), (all_of_it, *all_of_both), strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("held", [0, 1, 3, 160, 161])
def test_products_read_the_rows_that_any_lane_holds(held: int, dtype: Any) -> None:
    """Each lane holds others, and its bits are those that it has in other company."""
    size, lanes = 161, 4
    matrix, x = system(size, 1, lanes, dtype)
    x, rng = x[:, 0], np.random.default_rng(held)
    for lane in range(lanes):
        x[rng.permutation(size)[held:], lane] = 0
    full = np.concatenate([x[:, :1], np.ones((size, lanes - 1), dtype)], axis=1)
    with jax.numpy_rank_promotion("allow"):
        found = np.asarray(matvec(matrix, x, Backend.CPU))
        both = two_products(matrix, x, np.roll(x, 1, axis=0), Backend.CPU, False)
        in_company = np.asarray(matvec(matrix, full, Backend.CPU))
    expected = np.einsum("ijl,jl->il", matrix, x)
    np.testing.assert_allclose(found, expected, atol=np.finfo(dtype).eps * 8 * size)
    np.testing.assert_allclose(both[0], expected, atol=np.finfo(dtype).eps * 8 * size)
    rolled = np.einsum("ijl,jl->il", matrix, np.roll(x, 1, axis=0))
    np.testing.assert_allclose(both[1], rolled, atol=np.finfo(dtype).eps * 8 * size)
    np.testing.assert_array_equal(found[:, 0], in_company[:, 0])


def test_totals_are_sums(dtype: Any) -> None:
    values = np.random.default_rng(0).integers(-9, 10, (3, 7, 16)).astype(dtype)
    np.testing.assert_array_equal(np.stack(totals(*values)), values.sum(axis=1))
