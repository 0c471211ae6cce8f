"""Solvers as steps between which a host sorts: the same solutions, whatever the neighbours and the rows of a tile."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import numpy as np
import oracles
import pytest
from helpers import TOLERANCES, Array, batched, cast, host
from sorting import solve_sorted

from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.solvers.mean_variance import MEAN_VARIANCE, mean_variance
from jaxalloc.kernels.solvers.problem import Solution
from jaxalloc.kernels.solvers.risk_parity.solve import RISK_PARITY, risk_parity
from jaxalloc.kernels.solvers.steps import Solver

SOLVERS = pytest.mark.parametrize("solver", [MEAN_VARIANCE, RISK_PARITY], ids=lambda solver: solver.name)
K, N = 16, 160


@cache
def problems(size: int, n: int, most: int) -> tuple[Array, Array, Array]:
    """S, e, u of n problems of up to ``most`` clusters among ``size`` rows, the others of which are padding.

    Every other one is of minimum variance. A third are singular, a third have volatilities far apart; some hardly have
    correlations, and hold all clusters; bounds are from tight to loose.
    """
    rng = np.random.default_rng([size, n])
    S, e, u = np.repeat(np.eye(size)[None], n, axis=0), np.zeros((n, size)), np.zeros((n, size))
    for i in range(n):
        k = int(rng.integers(max(3, most // 2), most + 1))
        apart = np.exp(rng.normal(0, 1.5 if i % 3 == 1 else 0.3, k))
        S[i, :k, :k] = oracles.random_covariance(rng, k, rank=k // 2 if i % 3 == 2 else None) * np.outer(apart, apart)
        S[i] = (S[i] + S[i].T) / 2 * np.where(np.eye(size) > 0, 1, 0.02 if i % 16 == 0 else 1)
        e[i, :k] = rng.normal(0.05, 0.1, k) if i % 2 else 0
        u[i, :k] = max((0.25, 0.12, 1.0, 1.2 / k)[i % 4], 1.1 / k)
    return S, e, u


def crowded(size: int, n: int) -> tuple[Array, Array, Array]:
    """Problems whose optimum holds nearly all clusters, below their bounds: hardly any correlation."""
    rng = np.random.default_rng(size)
    S = np.stack([oracles.random_covariance(rng, size) for _ in range(n)])
    share = np.linspace(0, 0.3, n)[:, None, None]
    S = share * S + (1 - share) * np.stack([np.diag(np.diag(matrix)) for matrix in S])
    return S, np.zeros((n, size)), np.full((n, size), 0.25)


def solve_together(solver: Solver, S: Array, e: Array, u: Array, backend: Backend = Backend.CPU) -> Solution:
    """All steps in one program."""
    if solver is MEAN_VARIANCE:
        return host(batched(mean_variance, backend=backend)(S, e, u))
    return host(batched(risk_parity, backend=backend)(S, u))


def assert_same_bits(found: Solution, expected: Solution) -> None:
    for name, one, other in zip(Solution._fields, found, expected, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)


def assert_solved(solver: Solver, found: Solution, S: Array, e: Array, u: Array, dtype: Any) -> None:
    tol = TOLERANCES[dtype]
    late = []
    for i in range(len(S)):
        matrix, excess, upper, w = (x[i].astype(float) for x in (S, e, u, found.weights))
        assert (w >= 0).all(), i
        assert (w <= upper * (1 + 4 * tol.eps)).all(), i
        assert abs(w.sum() - 1) <= tol.total, i
        there = upper > 0
        matrix, excess, upper, w = matrix[np.ix_(there, there)], excess[there], upper[there], w[there]
        if solver is RISK_PARITY:
            if found.altered[i]:
                continue
            gap = oracles.gap_risk_parity(matrix, upper, w, tol.eps)
            floor = max(
                oracles.rounding_floor(matrix, None, None, w, tol.eps), oracles.contribution_floor(matrix, w, tol.eps)
            )
        elif excess.any() and not found.altered[i]:
            gap = oracles.gap_max_sharpe(matrix, excess, upper, w)
            floor = oracles.rounding_floor(matrix, excess, excess, w, tol.eps)
        else:
            gap = oracles.gap_min_variance(matrix, upper, w)
            floor = oracles.rounding_floor(matrix, None, None, w, tol.eps)
        if floor < 1 and not gap <= max(tol.gap, floor):  # else the variance is nothing but rounding
            late.append((i, gap, floor))
    assert late == []


@SOLVERS
@pytest.mark.parametrize("backend", Backend)
def test_sorted_by_a_host_or_together_the_solutions_are_the_same(solver: Solver, backend: Backend, x64: Any) -> None:
    S, e, u = problems(K, N, K)
    found, taken = solve_sorted(solver, S, e, u, backend, optimised=backend is Backend.CPU)
    assert {step.name for step in solver.steps(K)} == {name for name, lanes in taken.items() if lanes}
    assert_solved(solver, found, S, e, u, x64)
    expected = solve_together(solver, S, e, u, backend)
    assert_solved(solver, expected, S, e, u, x64)
    np.testing.assert_array_equal(found.altered, expected.altered)
    unique = np.arange(N) % 3 != 2  # singular problems may have many optima
    np.testing.assert_allclose(found.weights[unique], expected.weights[unique], atol=1e-6)


@SOLVERS
def test_float32_as_well(solver: Solver) -> None:
    with jax.enable_x64(False):
        kept = np.arange(N) % 3 == 0  # float32 has not the digits for the others
        S, e, u = (x[kept] for x in cast(np.float32, *problems(K, N, K)))
        found, _ = solve_sorted(solver, S, e, u)
        assert_solved(solver, found, S, e, u, np.float32)


@SOLVERS
def test_a_lane_s_bits_depend_neither_on_neighbours_nor_on_rows(solver: Solver, x64: Any) -> None:
    S, e, u = problems(K, N, 11)
    found, _ = solve_sorted(solver, S, e, u, optimised=True)
    order = np.random.default_rng(0).permutation(N)
    others, _ = solve_sorted(solver, S[order], e[order], u[order], optimised=True)
    assert_same_bits(others, jax.tree.map(lambda leaf: leaf[order], found))
    every_third = np.arange(0, N, 3)
    few, _ = solve_sorted(solver, S[every_third], e[every_third], u[every_third], optimised=True)
    assert_same_bits(few, jax.tree.map(lambda leaf: leaf[every_third], found))
    for rows in (12, 13, K):
        padded, _ = solve_sorted(solver, S, e, u, rows=rows, optimised=True)
        assert_same_bits(padded, found)


@SOLVERS
def test_an_odd_number_of_rows_counts_to_the_last(solver: Solver, x64: Any) -> None:
    S, e, u = problems(13, 32, 13)
    found, _ = solve_sorted(solver, S, e, u)
    assert_solved(solver, found, S, e, u, x64)
    assert_same_bits(solve_sorted(solver, S, e, u, rows=13)[0], found)


def test_a_face_goes_to_the_table_that_holds_it(x64: Any) -> None:
    size = 80
    face_28, face_48, face_80, further = (step.name for step in MEAN_VARIANCE.steps(size))
    S, e, u = crowded(size, 24)
    found, taken = solve_sorted(MEAN_VARIANCE, S, e, u)
    assert_solved(MEAN_VARIANCE, found, S, e, u, x64)
    free = ((found.weights > 0) & (found.weights < u)).sum(axis=1)
    assert free.min() <= 28
    assert free.max() > 48
    assert taken[face_28] >= 24
    assert taken[face_48] >= ((free > 28) & (free <= 48)).sum() > 0
    assert taken[face_80] >= (free > 48).sum()
    assert taken[further] <= 2


def test_what_has_not_converged_and_crosses_a_bound_is_eliminated_twice(x64: Any) -> None:
    start, eliminate = (step.name for step in RISK_PARITY.steps(K))
    S, e, u = problems(K, N, K)
    times = []
    for i in np.flatnonzero(np.arange(N) % 3 == 2):  # singular, where Newton's method in log z takes long
        alone = slice(i, i + 1)
        found, taken = solve_sorted(RISK_PARITY, S[alone], e[alone], u[alone], optimised=True)
        assert taken[start] == 1
        times.append(taken[eliminate])
        if taken[eliminate] == 2:
            assert (found.weights >= u[alone]).any(where=u[alone] > 0)
    assert set(times) == {0, 1, 2}


def test_a_lane_without_a_problem_wants_nothing(x64: Any) -> None:
    S, e, u = (x[:8].copy() for x in problems(K, N, K))
    S[3], e[3], u[3] = np.eye(K), 0, 0
    for solver in (MEAN_VARIANCE, RISK_PARITY):
        first = solver.steps(K)[0]
        found, taken = solve_sorted(solver, S[3:4], e[3:4], u[3:4], optimised=True)
        assert taken == {step.name: int(step is first) for step in solver.steps(K)}
        assert not found.weights.any()


@SOLVERS
def test_steps_of_a_size_are_made_once(solver: Solver) -> None:
    for size in (1, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 1024):
        steps = solver.steps(size)
        assert solver.steps(size) is steps
        assert len({step.name for step in steps}) == len(steps)
        assert all(0 < step.width <= steps[0].width for step in steps)
