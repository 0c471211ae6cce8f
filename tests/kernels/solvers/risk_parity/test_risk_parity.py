"""Risk parity with bounds: the published table, equal contributions, and the oracle's smallest lambda."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import numpy as np
import oracles
import pytest
from helpers import TOLERANCES, ULPS, Array, Tolerance, batched, cast, host
from test_oracles import richard_roncalli, three_roots

from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.solvers.problem import Solution
from jaxalloc.kernels.solvers.risk_parity.solve import contribution_gap, risk_parity

K, BATCH = 12, 64


def solve(S: Array, u: Array) -> Solution:
    """Up to 64 problems of at most K clusters, always in one shape, so that every test runs one program.

    Problems of fewer clusters come with others that take no part: of any covariance, and bounded by 0.
    """
    n, size = u.shape
    places = np.sort(np.random.default_rng(size).permutation(K)[:size])
    matrices = np.repeat((np.eye(K) + 0.5)[None], n, 0).astype(S.dtype)
    upper = np.zeros((n, K), u.dtype)
    matrices[:, places[:, None], places[None, :]], upper[:, places] = S, u
    rows = np.resize(np.arange(n), BATCH)
    solved = host(batched(risk_parity, backend=Backend.CPU, optimised=True)(matrices[rows], upper[rows]))
    found = jax.tree.map(lambda leaf: leaf[:n], solved)
    absent = np.setdiff1d(np.arange(K), places)
    assert not found.weights[:, absent].any()
    return found._replace(weights=found.weights[:, places])


def assert_feasible(w: Array, u: Array, tol: Tolerance, name: str = "") -> None:
    assert np.isfinite(w).all(), name
    assert (w >= 0).all(), name
    assert (w <= u * (1 + ULPS * tol.eps)).all(), name
    assert abs(w.astype(float).sum() - 1) <= tol.total, f"{name}: sum {w.sum()}"


def assert_equal_contributions(
    found: Solution, S: Array, u: Array, tol: Tolerance, names: list[str], own_floor: bool = False
) -> None:
    """``own_floor``: up to the rounding floor of the worst cluster, which a hedged one's contribution has above all."""
    late = []
    for i, name in enumerate(names):
        matrix, upper, w = (x[i].astype(float) for x in (S, u, found.weights))
        assert_feasible(found.weights[i], u[i], tol, name)
        assert (w > 0).all(), name
        assert not found.altered[i], name
        gap, floor = (
            oracles.gap_risk_parity(matrix, upper, w, tol.eps),
            oracles.rounding_floor(matrix, None, None, w, tol.eps),
        )
        if own_floor:
            floor = max(floor, oracles.contribution_floor(matrix, w, tol.eps))
        if not gap <= max(tol.gap, floor):
            late.append(f"{name}: gap {gap:.2e}, floor {floor:.2e}, reported {found.gap[i]:.2e}")
        elif gap <= max(tol.gap, floor) / 4:
            assert found.converged[i], name
        assert abs(found.gap[i] - gap) <= 8 * max(tol.gap, floor), name
    assert late == []


# Published


def test_richard_roncalli_table_9(dtype: Any, tol: Tolerance) -> None:
    S, u = cast(dtype, np.stack([richard_roncalli()] * 2), np.stack([np.ones(8), np.full(8, 0.25)]))
    found = solve(S, u)
    free = [26.8306, 28.6769, 11.4095, 9.7985, 5.6135, 5.9029, 6.6560, 5.1121]
    capped = [25, 25, 13.6631, 10.6814, 6.2063, 6.5472, 7.2950, 5.6069]
    printed = 5.1e-5 if dtype is np.float64 else 5e-4
    np.testing.assert_allclose(100 * found.weights, [free, capped], atol=printed)
    assert not found.altered.any()
    assert found.converged.all()
    w = found.weights[1].astype(float)
    volatility = np.sqrt(w @ richard_roncalli() @ w)
    risk = w * (richard_roncalli() @ w) / volatility**2
    assert 100 * volatility == pytest.approx(5.0958, abs=printed)
    np.testing.assert_allclose(100 * risk[2:], 13.767, atol=10 * printed)
    assert np.ptp(risk[2:]) <= max(1e-11, 1e2 * tol.eps)


# Against the oracle


@cache
def problems(size: int) -> tuple[Array, Array, list[str]]:
    """(S, u, names): caps from forced to loose, volatilities up to 1e4 apart, and correlations of both signs."""
    rng = np.random.default_rng([3, size])
    S, u, names = [], [], []
    for i in range(32):
        matrix = oracles.random_covariance(rng, size)
        if i % 4 == 1:
            apart = 10 ** rng.uniform(-2, 2, size)
            matrix, name = matrix * np.outer(apart, apart), "volatilities 1e4 apart"
        elif i % 4 == 2:
            matrix = 252 * np.cov(oracles.random_market(rng, 3 * size + 2, size, size), rowvar=False).reshape(
                size, size
            )
            name = "few observations"
        elif i % 4 == 3:
            matrix, name = (1e-8, 1e6)[i % 8 == 3] * matrix, "small or large numbers"
        else:
            name = "factors"
        room = (1.02, 1.1, 1.5, 3.0, 100.0)[i % 5]
        share = rng.uniform(0.3, 1, size)
        S.append(matrix)
        u.append(room * share / share.sum())
        names.append(f"{name}, room {room}")
    return np.stack(S), np.stack(u), names


@pytest.mark.parametrize("size", [1, 2, 3, 5, 9, K])
def test_every_cluster_below_its_bound_contributes_the_same(size: int, dtype: Any, tol: Tolerance) -> None:
    S, u, names = problems(size)
    S, u = cast(dtype, S, u)
    assert_equal_contributions(solve(S, u), S, u, tol, names)


@pytest.mark.parametrize("size", [2, 3, 5, 9, K])
def test_weights_equal_the_oracle_s(size: int, x64: Any) -> None:
    S, u, names = problems(size)
    found = solve(S, u)
    for i, name in enumerate(names):
        expected, altered = oracles.risk_parity(S[i], u[i])
        assert not altered
        np.testing.assert_allclose(found.weights[i], expected, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("size", [3, *(pytest.param(size, marks=pytest.mark.slow) for size in (1, 2, 5, 9))])
def test_contributions_at_the_size_itself(size: int, x64: Any) -> None:
    S, u, names = problems(size)
    found = host(batched(risk_parity, backend=Backend.CPU)(S, u))
    assert_equal_contributions(found, S, u, TOLERANCES[x64], names)


@pytest.mark.parametrize("dtype", [pytest.param(np.float32, marks=pytest.mark.slow), np.float64], indirect=True)
def test_sixty_clusters(dtype: Any, tol: Tolerance) -> None:
    rng = np.random.default_rng(4)
    S = np.stack([oracles.random_covariance(rng, 60) for _ in range(8)])
    u = np.stack([np.full(60, cap) for cap in (0.25, 0.25, 0.25, 0.03, 0.03, 0.02, 1.1 / 60, 1.1 / 60)])
    S, u = cast(dtype, S, u)
    found = host(batched(risk_parity, backend=Backend.CPU)(S, u))
    assert_equal_contributions(found, S, u, tol, [f"problem {i}" for i in range(8)])
    assert ((found.weights >= u).sum(axis=1) > 5).sum() >= 3


def check_random_problems(size: int, spread: float, dtype: Any, tol: Tolerance) -> None:
    rng = np.random.default_rng([5, size])
    S, u = [], []
    for i in range(300):
        apart = np.exp(rng.normal(0, spread, size))
        S.append(oracles.random_covariance(rng, size) * np.outer(apart, apart))
        u.append(np.full(size, max((0.25, 0.1, 2 / size)[i % 3], 1.1 / size)))
    S, u = cast(dtype, np.stack(S), np.stack(u))
    found = host(batched(risk_parity, backend=Backend.CPU, optimised=True)(S, u))
    names = [f"problem {i}" for i in range(300)]
    assert_equal_contributions(found, S, u, tol, names, own_floor=dtype is np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.3, 1.0])
@pytest.mark.parametrize("size", [8, 30, 60])
def test_contributions_on_many_random_problems(size: int, spread: float, dtype: Any, tol: Tolerance) -> None:
    check_random_problems(size, spread, dtype, tol)


@pytest.mark.slow
@pytest.mark.parametrize("size", [8, 30, 60])
def test_contributions_where_volatilities_are_far_apart(size: int, dtype: Any, tol: Tolerance) -> None:
    check_random_problems(size, 2.0, dtype, tol)


# Which lambda


def test_the_smallest_of_three_lambdas_is_taken(dtype: Any, tol: Tolerance) -> None:
    S, u = three_roots()
    expected, _ = oracles.risk_parity(S, u)
    uncapped, _ = oracles.risk_parity(S, np.full(4, 10.0))
    np.testing.assert_allclose(expected, uncapped, rtol=1e-12)  # the smallest lambda caps nobody
    found = solve(*cast(dtype, np.stack([S, S]), np.stack([u, np.full(4, 10.0)])))
    np.testing.assert_allclose(found.weights, [expected, expected], rtol=1e-8 if dtype is np.float64 else 1e-3)


def rising_caps(rng: np.random.Generator, size: int, n: int) -> tuple[Array, Array]:
    """Problems with strongly negative correlations and caps that bind, where sum w(lambda) need not be monotone."""
    S, u = [], []
    while len(S) < n:
        loadings = rng.normal(size=(size, 2))
        correlation = loadings @ loadings.T + np.diag(rng.uniform(0.02, 0.3, size))
        deviation = 10 ** rng.uniform(-1, 0, size) / np.sqrt(np.diag(correlation))
        matrix = correlation * np.outer(deviation, deviation)
        if oracles.has_nonnegative_null_vector(matrix, 1e-8):
            continue
        w, _ = oracles.risk_parity(matrix, np.full(size, 10.0))
        S.append(matrix)
        u.append(w * rng.choice([0.6, 0.9, 1.5, 4.0], size))
        if u[-1].sum() < 1.02:
            u[-1] *= 1.02 / u[-1].sum()
    return np.stack(S), np.stack(u)


def test_hedged_clusters_reach_the_oracle_s_weights(x64: Any) -> None:
    S, u = rising_caps(np.random.default_rng(6), 5, 48)
    found = solve(S, u)
    wrong = []
    for i in range(len(S)):
        expected, altered = oracles.risk_parity(S[i], u[i])
        assert not altered
        if np.abs(found.weights[i] / expected - 1).max() > 1e-5:
            wrong.append((i, float(np.abs(found.weights[i] - expected).max()), float(found.gap[i])))
    assert wrong == []


def test_volatilities_far_apart_with_bounds_in_reach(x64: Any) -> None:
    # Nearly all the weight belongs to clusters at or near their bounds, and hardly any to the volatile ones.
    three = np.array([[1, 0.7, 0.6], [0.7, 1, 0.3], [0.6, 0.3, 1]]) * np.outer(*[[0.004, 10, 0.002]] * 2)
    found = solve(three[None], np.full((1, 3), 0.5))
    expected, _ = oracles.risk_parity(three, np.full(3, 0.5))
    assert found.converged[0]
    np.testing.assert_allclose(found.weights[0], expected, rtol=1e-6)
    for size, cap in ((3, 0.5), (6, 0.2), (12, 0.1)):
        rng = np.random.default_rng([15, size])
        apart = np.exp(rng.normal(0, 2, (576, size)))
        S = np.stack([oracles.random_covariance(rng, size) for _ in apart]) * apart[:, :, None] * apart[:, None, :]
        late = []
        for start in range(0, len(S), BATCH):
            part, u = S[start : start + BATCH], np.full((BATCH, size), cap)
            found = solve(part, u)
            for i in range(BATCH):
                assert_feasible(found.weights[i], u[i], TOLERANCES[x64])
                gap = oracles.gap_risk_parity(part[i], u[i], found.weights[i])
                floor = oracles.rounding_floor(part[i], None, None, found.weights[i])
                if not gap <= max(1e-9, floor):
                    late.append((start + i, gap, bool(found.converged[i])))
        assert late == [], f"{len(late)} of {len(S)} with {size} clusters"


# No choice


def test_bounds_that_sum_to_1_are_the_weights(dtype: Any, tol: Tolerance) -> None:
    rng = np.random.default_rng(7)
    S = np.stack([oracles.random_covariance(rng, 8) for _ in range(16)])
    share = rng.dirichlet(np.ones(8), 16)
    u = np.round(share * 1024) / 1024  # sums exact in both precisions
    u[:, 0] += 1 - u.sum(axis=1)
    S, u = cast(dtype, S, np.abs(u))
    assert (u.sum(axis=1) == 1).all()
    found = solve(S, u)
    np.testing.assert_array_equal(found.weights, u)
    assert not found.gap.any()
    assert not found.altered.any()
    assert found.converged.all()


def test_little_slack_goes_to_whom_the_contributions_say(x64: Any) -> None:
    S = np.repeat(richard_roncalli()[None], 4, 0)
    u = np.full((4, 8), 0.125) * (1 + np.array([1e-9, 1e-6, 1e-4, 1e-2]))[:, None]
    found = solve(S, u)
    for i in range(4):
        expected, _ = oracles.risk_parity(S[i], u[i])
        assert_feasible(found.weights[i], u[i], TOLERANCES[x64])
        np.testing.assert_allclose(found.weights[i], expected, atol=1e-9)


@pytest.mark.parametrize("slack", [0.0, 1e-13, 1e-7, 1e-6, 1e-5])
def test_nearly_forced_bounds_are_feasible(slack: float, dtype: Any, tol: Tolerance) -> None:
    rng = np.random.default_rng(8)
    S = np.stack([oracles.random_covariance(rng, K) for _ in range(32)])
    (S,) = cast(dtype, S)
    u = np.full((32, K), 1 / 3 / 4).astype(dtype) * dtype(1 + slack)
    found = solve(S, u)
    for w, bound in zip(found.weights, u, strict=True):
        assert_feasible(w, bound, tol)


# Singular


def opposed() -> tuple[Array, Array]:
    S = np.array([[0.04, -0.02, 0.0], [-0.02, 0.01, 0.0], [0.0, 0.0, 0.09]])  # z = (1, 2, 0) is riskless
    return np.stack([S, S, S]), np.array([[0.5, 0.8, 0.5], [1.0, 1.0, 1.0], [0.4, 0.4, 0.4]])


def test_a_perfectly_opposed_pair_is_flagged(dtype: Any, tol: Tolerance) -> None:
    S, u = opposed()
    found = solve(*cast(dtype, S, u))
    assert found.altered.all()
    for i in range(3):
        assert_feasible(found.weights[i], u[i].astype(dtype), tol)
        assert np.isfinite(found.gap[i])
    expected = np.stack([oracles.risk_parity(a, b)[0] for a, b in zip(S, u, strict=True)])
    np.testing.assert_allclose(found.weights, expected, atol=1e-4 if dtype is np.float64 else 2e-2)


def test_an_opposed_pair_among_many_is_flagged(dtype: Any, tol: Tolerance) -> None:
    rng = np.random.default_rng(9)
    matrices = []
    for i in range(16):
        base = oracles.random_covariance(rng, K - 1)
        scale = 10 ** rng.uniform(-1, 1)
        load = np.vstack([np.eye(K - 1), -scale * np.eye(K - 1)[i % (K - 1)]])  # the last is minus a multiple of one
        matrices.append(load @ base @ load.T)
    S, u = cast(dtype, np.stack(matrices), np.full((16, K), 0.25))
    found = solve(S, u)
    assert found.altered.all()
    for i in range(16):
        assert_feasible(found.weights[i], u[i], tol)


def test_an_opposed_pair_without_bounds_is_solved_and_flagged(x64: Any) -> None:
    rng = np.random.default_rng(16)
    load = np.vstack([np.eye(5), -2 * np.eye(5)[1]])
    S = np.stack([load @ oracles.random_covariance(rng, 5) @ load.T for _ in range(16)])
    u = np.ones((16, 6))
    found = solve(S, u)
    assert found.altered.all()
    assert found.converged.all()
    for i in range(16):
        shifted = oracles.risk_parity_covariance(S[i], True)
        floor = oracles.rounding_floor(shifted, None, None, found.weights[i])
        assert oracles.gap_risk_parity(shifted, u[i], found.weights[i]) <= 10 * floor  # about 1e-4


def test_more_clusters_than_rows_are_solved_and_flagged(x64: Any) -> None:
    """Of unrelated clusters over a quarter as many rows, some long-only mix has no variance."""
    rng, matrices = np.random.default_rng(17), []
    while len(matrices) < 16:
        x = rng.normal(size=(K // 4, K)) * rng.lognormal(0, 0.5, K)
        if oracles.has_nonnegative_null_vector(x.T @ x):
            matrices.append(x.T @ x)
    S = np.stack(matrices)
    for bound, late in ((1.0, 0), (0.25, 2)):  # how many may be told as not solved
        u = np.full((16, K), bound)
        found = solve(S, u)
        assert found.altered.all()
        assert np.count_nonzero(~found.converged) <= late
        for i in np.flatnonzero(found.converged):
            assert_feasible(found.weights[i], u[i], TOLERANCES[x64])
            shifted = oracles.risk_parity_covariance(S[i], True)
            floor = oracles.rounding_floor(shifted, None, None, found.weights[i])
            assert oracles.gap_risk_parity(shifted, u[i], found.weights[i]) <= 10 * floor


def test_null_vectors_of_both_signs_are_not_flagged(dtype: Any, tol: Tolerance) -> None:
    # Equal clusters: z = (1, -1) is null, but no long-only portfolio is riskless.
    rng = np.random.default_rng(10)
    S, u = [], []
    for i in range(16):
        base = oracles.random_covariance(rng, 6)
        if i % 2:
            base = np.abs(base)  # correlations of one sign
            base = (base @ base.T) / base.max()
        twice = np.r_[np.arange(6), np.arange(6)]
        S.append(base[np.ix_(twice, twice)])
        u.append(np.full(K, (0.12, 0.25, 1.0)[i % 3]))
    S, u = cast(dtype, np.stack(S), np.stack(u))
    found = solve(S, u)
    assert not found.altered.any()
    assert_equal_contributions(found, S, u, tol, [f"twins {i}" for i in range(16)])
    np.testing.assert_allclose(found.weights[:, :6], found.weights[:, 6:], rtol=1e-7 if dtype is np.float64 else 1e-3)


def test_rank_deficient_without_a_riskless_portfolio_is_not_flagged(x64: Any) -> None:
    rng = np.random.default_rng(11)
    S = []
    while len(S) < 16:
        matrix = oracles.random_covariance(rng, K, rank=6)
        z = oracles.quadratic_over_capped_simplex(matrix, np.zeros(K), np.ones(K))
        if z @ matrix @ z > 1e-4 * np.diag(matrix).min():
            S.append(matrix)
    S, u = np.stack(S), np.full((16, K), 0.25)
    found = solve(S, u)
    assert_equal_contributions(found, S, u, TOLERANCES[x64], [f"rank 6, {i}" for i in range(16)])


# Units and symmetry


def test_units_do_not_matter(x64: Any) -> None:
    S, u, _ = problems(K)
    matrices = np.stack([S[0], 1e-10 * S[0], 1e8 * S[0]])
    found = solve(matrices, np.repeat(u[:1], 3, 0))
    np.testing.assert_allclose(found.weights, np.repeat(found.weights[:1], 3, 0), rtol=1e-8)


def test_permuting_clusters_permutes_the_weights(x64: Any) -> None:
    S, u, _ = problems(K)
    rng = np.random.default_rng(12)
    for i in (0, 1, 6):
        orders = np.stack([np.arange(K)] + [rng.permutation(K) for _ in range(4)])
        found = solve(np.stack([S[i][np.ix_(p, p)] for p in orders]), u[i][orders])
        for order, w in zip(orders, found.weights, strict=True):
            np.testing.assert_allclose(w, found.weights[0][order], rtol=1e-7)


def test_uncorrelated_clusters_hold_inverse_volatility(dtype: Any, tol: Tolerance) -> None:
    deviation = np.random.default_rng(13).uniform(0.05, 1, (8, K))
    S, u = cast(dtype, np.stack([np.diag(d**2) for d in deviation]), np.ones((8, K)))
    found = solve(S, u)
    expected = 1 / deviation / (1 / deviation).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.weights, expected, rtol=1e-9 if dtype is np.float64 else 1e-4)


# The gap itself


def test_contribution_gap_equals_the_oracle_s(dtype: Any, tol: Tolerance) -> None:
    rng = np.random.default_rng(14)
    S = np.stack([oracles.random_covariance(rng, K) for _ in range(32)])
    u = rng.uniform(0.1, 0.4, (32, K))
    w = np.minimum(rng.dirichlet(np.ones(K), 32), u)
    w[:, 3] = u[:, 3]
    u[:, 7] = w[:, 7] = 0
    S, u, w = cast(dtype, S, u, w)
    found = host(batched(contribution_gap, backend=Backend.CPU)(S, u, w))
    for i in range(32):
        there = u[i] > 0
        matrix, upper, x = S[i][np.ix_(there, there)], u[i, there], w[i, there]
        expected = oracles.gap_risk_parity(*(a.astype(float) for a in (matrix, upper, x)), tol.eps)
        assert found[i] == pytest.approx(expected, rel=1e3 * tol.eps, abs=1e2 * tol.eps)


def test_contribution_gap_where_every_cluster_is_full_is_0(dtype: Any) -> None:
    S, u = cast(dtype, richard_roncalli()[None], np.full((1, 8), 0.125))
    assert host(batched(contribution_gap, backend=Backend.CPU)(S, u, u))[0] == 0
