"""Risk parity for one universe, compiled by numba: the published table, the defining property, the oracle and lanes.

Every solved problem is judged by the oracle's gap, which is the whole optimality condition: equal contributions below
the bounds, none larger at them.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import oracles
import pytest
from helpers import Array, batched, call_kernel, host
from test_oracles import richard_roncalli, three_roots

from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.solvers.risk_parity.solve import risk_parity as in_lanes

pytest.importorskip("numba")
from jaxalloc.kernels.scalar.bounded import minimise_bounded
from jaxalloc.kernels.scalar.log_newton import ROOM
from jaxalloc.kernels.scalar.risk_parity import risk_parity

EPS = 2.0**-52
K, BATCH = 12, 64  # of the problems that lanes solve, in one shape


class Found(NamedTuple):
    """What `risk_parity` finds.

    Attributes:
        weights: (K,).
        gap: optimality gap.
        steps: sweeps and Newton steps.
        solved: whether it is solved.
    """

    weights: Array
    gap: float
    steps: int
    solved: bool


def split(S: Array) -> tuple[Array, Array]:
    """(C, sigma) of a covariance."""
    sigma = np.sqrt(np.diag(S))
    C = S / np.outer(sigma, sigma)
    C = np.ascontiguousarray((C + C.T) / 2)
    np.fill_diagonal(C, 1)
    return C, sigma


def of_correlations(C: Array, sigma: Array, u: Array, bounded: int | None = None) -> Found:
    bounded = minimise_bounded.version(np.float64).address() if bounded is None else bounded
    weights = np.full(len(u), np.nan)
    arguments = C, C.astype(np.float32), sigma, u, weights, np.empty((ROOM, len(u)))
    gap, steps, solved = call_kernel(risk_parity, bounded, *arguments)
    return Found(weights=weights, gap=gap, steps=steps, solved=solved)


def solve(S: Array, u: Array) -> Found:
    return of_correlations(*split(S), u)


def check(S: Array, u: Array, found: Found, name: Any = "") -> None:
    """Feasible whether solved or not; where solved, optimal to what rounding allows, and the gap is the true one."""
    w = found.weights
    assert (w >= 0).all(), name
    assert (w <= u).all(), name
    assert abs(w.sum() - 1) <= 8 * EPS or u.sum() < 1 + 1e-12, name
    np.testing.assert_array_equal(w[u == 0], 0, err_msg=str(name))
    if not found.solved or u.sum() <= 1 + 1e-12:
        return
    C, sigma = split(S)
    taking = np.ix_(u > 0, u > 0)
    S, u, w = (np.outer(sigma, sigma) * C)[taking], u[u > 0], w[u > 0]
    assert (w > 0).all(), name
    gap, floor = oracles.gap_risk_parity(S, u, w), oracles.contribution_floor(S, w)
    assert gap <= max(6e-10, floor), (name, gap, floor)
    assert abs(gap - found.gap) <= max(1e-13, floor), (name, gap, found.gap)


# Published


def test_richard_roncalli_table_9() -> None:
    S = richard_roncalli()
    free, capped = solve(S, np.ones(8)), solve(S, np.full(8, 0.25))
    assert free.solved
    assert capped.solved
    printed = 5.1e-5
    table = [26.8306, 28.6769, 11.4095, 9.7985, 5.6135, 5.9029, 6.6560, 5.1121]
    np.testing.assert_allclose(100 * free.weights, table, atol=printed)
    table = [25, 25, 13.6631, 10.6814, 6.2063, 6.5472, 7.2950, 5.6069]
    np.testing.assert_allclose(100 * capped.weights, table, atol=printed)
    np.testing.assert_array_equal(capped.weights[:2], 0.25)
    risk = capped.weights * (S @ capped.weights)
    np.testing.assert_allclose(100 * risk[2:] / risk.sum(), 13.767, atol=10 * printed)
    assert (risk[:2] < risk[2:].min()).all()


# The defining property, on random problems

SOLVABLE = ("factors", "far apart", "near-copies", "hedges", "loadings")
FAMILIES = (*SOLVABLE, "few rows", "opposed")
BOUNDS = ("none", "quarter", "tight", "forced", "uneven", "some take no part", "one loose")


def covariance(rng: np.random.Generator, family: str, size: int) -> Array:
    if family in ("factors", "far apart"):
        apart = 10 ** rng.uniform(-3, 3, size) if family == "far apart" else np.ones(size)
        return oracles.random_covariance(rng, size) * np.outer(apart, apart)
    if family == "loadings":  # correlations down to -0.98, of many pairs
        loadings, apart = rng.normal(size=(size, 2)), 10 ** rng.uniform(-1, 0, size)
        return (loadings @ loadings.T + np.diag(rng.uniform(0.02, 0.3, size))) * np.outer(apart, apart)
    if family == "opposed":
        base = oracles.random_covariance(rng, max(size - 1, 1))
        load = np.vstack([np.eye(len(base)), -rng.uniform(0.3, 3) * np.eye(len(base))[:1]])
        return load @ base @ load.T
    rows = max(3, size // 3) if family == "few rows" else 3 * size + 10
    returns = rng.normal(size=(rows, size)) + rng.normal(size=(rows, 1))
    for i in range(size // 2 if family == "near-copies" else 0):
        returns[:, i] = returns[:, -1 - i] + 10.0 ** rng.uniform(-6, -2) * returns[:, i]
    for i in range(max(1, size // 6) if family == "hedges" and size > 1 else 0):
        other = returns[:, -1 - i]
        returns[:, i] = -0.95 * other + np.sqrt(1 - 0.95**2) * other.std() * returns[:, i]
    return np.cov(returns, rowvar=False).reshape(size, size)


def upper(rng: np.random.Generator, bounds: str, size: int) -> Array:
    u = np.ones(size)
    if bounds == "quarter":
        u = np.full(size, max(0.25, 1.1 / size))
    elif bounds == "tight":
        u = np.full(size, 1.1 / size)
    elif bounds == "forced":
        u = np.full(size, (1 + 10 ** rng.uniform(-13, -2)) / size)
    elif bounds == "uneven":
        share = rng.uniform(0.3, 1, size)
        u = rng.choice([1.02, 1.1, 1.5, 3]) * share / share.sum()
    elif bounds == "some take no part":
        u = np.full(size, max(0.25, 1.1 / max(1, size - size // 4)))
        u[rng.permutation(size)[: size // 4]] = 0
    elif bounds == "one loose":
        u = np.full(size, 0.8 / size)
        u[0] = 1
    return u


def problems(seed: int, family: str, n: int, largest: int) -> list[tuple[Array, Array, Any]]:
    """(S, u, name) of 1 to ``largest`` clusters, with bounds of every kind."""
    found = []
    for i in range(n):
        rng = np.random.default_rng([seed, FAMILIES.index(family), i])
        S = covariance(rng, family, int(rng.integers(1, largest + 1)))
        bounds = BOUNDS[i % len(BOUNDS)]
        found.append((S, upper(rng, bounds, len(S)), (family, bounds, i)))
    return found


@pytest.mark.parametrize("family", SOLVABLE)
def test_every_solvable_problem_is_solved(family: str) -> None:
    late = []
    for S, u, name in problems(1, family, 420, 60):
        found = solve(S, u)
        check(S, u, found, name)
        if not found.solved:
            late.append(name)
    # the active set may cycle where hedges as strong as those of "loadings" meet bounds that nearly all bind
    assert len(late) <= (1 if family == "loadings" else 0), late


@pytest.mark.parametrize("family", ["few rows", "opposed"])
def test_a_problem_with_a_riskless_mix_is_not_called_solved(family: str) -> None:
    """Where a long-only mix has no variance there need be no solution; lanes regularise it, bounds or not."""
    n_solved, n_riskless = 0, 0
    for S, u, name in problems(2, family, 420, 30):
        found = solve(S, u)
        check(S, u, found, name)
        if u.sum() <= 1 + 1e-12:
            assert found.solved, name
            continue
        riskless = oracles.has_nonnegative_null_vector(S[np.ix_(u > 0, u > 0)])
        assert found.solved == (not riskless), name
        n_solved, n_riskless = n_solved + found.solved, n_riskless + riskless
    assert n_riskless >= 40
    assert n_solved >= 20


@pytest.mark.parametrize("size", [170, 331])
def test_many_clusters(size: int) -> None:
    for family in ("factors", "near-copies", "hedges", "few rows"):
        rng = np.random.default_rng([3, size])
        S = covariance(rng, family, size)
        for bounds in BOUNDS:
            u = upper(rng, bounds, size)
            found = solve(S, u)
            check(S, u, found, (family, bounds))
            assert found.solved, (family, bounds)


def test_without_the_kernel_for_bounds_what_reaches_them_is_not_solved() -> None:
    S, u = np.diag([1.0, 4.0, 9.0, 16.0]), np.full(4, 0.3)
    found = of_correlations(*split(S), u, bounded=0)
    assert not found.solved
    assert found.gap == np.inf
    check(S, u, found)
    for found in (solve(S, u), of_correlations(*split(S), np.ones(4), bounded=0)):
        assert found.solved


# Against the oracle and the kernel of lanes


@pytest.mark.parametrize("family", SOLVABLE)
def test_weights_equal_the_oracle_s(family: str) -> None:
    for S, u, name in problems(4, family, 42, 16):
        found = solve(S, u)
        expected, altered = oracles.risk_parity(S[np.ix_(u > 0, u > 0)], u[u > 0])
        assert not altered
        assert found.solved, name
        np.testing.assert_allclose(found.weights[u > 0], expected, rtol=1e-6, err_msg=str(name))


def test_weights_equal_those_of_lanes(x64: Any) -> None:
    families = [(family, bounds) for family in SOLVABLE for bounds in BOUNDS]
    S = np.stack([covariance(np.random.default_rng([5, i]), families[i % 35][0], K) for i in range(BATCH)])
    u = np.stack([upper(np.random.default_rng([6, i]), families[i % 35][1], K) for i in range(BATCH)])
    expected = host(batched(in_lanes, backend=Backend.CPU)(S, u))
    for i in range(BATCH):
        found = solve(S[i], u[i])
        assert found.solved
        assert expected.converged[i]
        np.testing.assert_allclose(found.weights, expected.weights[i], rtol=1e-6, err_msg=str(i))


def test_the_smallest_of_three_lambdas_is_taken() -> None:
    S, u = three_roots()
    uncapped, _ = oracles.risk_parity(S, np.full(4, 10.0))  # the smallest lambda caps nobody
    found = solve(S, u)
    assert found.solved
    np.testing.assert_allclose(found.weights, uncapped, rtol=1e-9)


def test_the_smallest_lambda_where_the_sum_may_fall() -> None:
    """Strong hedges, and bounds from below their solution to far above: sum w(lambda) need not be monotone."""
    rng = np.random.default_rng(7)
    n_solved = 0
    for i in range(60):
        S = covariance(rng, "loadings", 5)
        w, _ = oracles.risk_parity(S, np.full(5, 10.0))
        u = w * rng.choice([0.6, 0.9, 1.5, 4.0], 5)
        u *= max(1, 1.02 / u.sum())
        found = solve(S, u)
        check(S, u, found, i)
        n_solved += found.solved
        if found.solved:
            np.testing.assert_allclose(found.weights, oracles.risk_parity(S, u)[0], rtol=1e-5, err_msg=str(i))
    assert n_solved >= 59


# The edges


def test_bounds_that_leave_no_choice_are_the_weights() -> None:
    S = oracles.random_covariance(np.random.default_rng(8), 6)
    u = np.array([0.5, 0.25, 0.125, 0.125, 0.0, 0.0])
    found = solve(S, u)
    assert found.weights.tolist() == u.tolist()
    assert found[1:] == (0.0, 0, True)


def test_one_cluster() -> None:
    for u in ([1.0], [1.0 + 1e-9], [3.0]):
        found = solve(np.array([[0.04]]), np.array(u))
        np.testing.assert_allclose(found.weights, 1, rtol=1e-9)
        assert found.solved
        assert found.gap == 0
    found = solve(oracles.random_covariance(np.random.default_rng(9), 3), np.array([0.0, 2.0, 0.0]))
    assert found.weights.tolist() == [0.0, 1.0, 0.0]
    assert found.solved


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("size", [2, 7, 40])
def test_no_number_among_the_correlations_is_not_solved(value: float, size: int) -> None:
    C, sigma = split(oracles.random_covariance(np.random.default_rng(10), size))
    for place in ((0, size - 1), (size - 1, size - 1)):
        bad = C.copy()
        bad[place] = bad[place[::-1]] = value
        for cap in (1.0, 1.1 / size):
            found = of_correlations(bad, sigma, np.full(size, cap))
            assert not found.solved
            assert found.gap == np.inf
            assert found.steps < 100
            np.testing.assert_allclose(found.weights, 1 / size)


def test_volatilities_of_those_that_take_no_part_do_not_matter() -> None:
    C, sigma = split(oracles.random_covariance(np.random.default_rng(11), 9))
    u = np.where(np.arange(9) < 6, 0.25, 0.0)
    expected = of_correlations(C, sigma, u)
    sigma[6:] = (np.nan, 0.0, np.inf)
    found = of_correlations(C, sigma, u)
    assert found.solved
    np.testing.assert_array_equal(found.weights, expected.weights)


def test_the_same_bits_whatever_thread() -> None:
    cases = problems(12, "hedges", 28, 50)
    expected = [solve(S, u) for S, u, _ in cases]
    with ThreadPoolExecutor(4) as pool:
        for found, alone in zip(pool.map(lambda case: solve(*case[:2]), cases * 4), expected * 4, strict=True):
            assert found.weights.tobytes() == alone.weights.tobytes()
            assert found[1:] == alone[1:]


def test_volatilities_only_scale_the_weights() -> None:
    """Without bounds w is z over sigma, whatever the volatilities; a power of 2 in their units changes no bit."""
    C, sigma = split(oracles.random_covariance(np.random.default_rng(13), 20))
    one, other = of_correlations(C, sigma, np.ones(20)), of_correlations(C, 2.0**40 * sigma, np.ones(20))
    np.testing.assert_array_equal(one.weights, other.weights)
    flat = of_correlations(C, np.ones(20), np.ones(20)).weights / sigma
    np.testing.assert_allclose(one.weights, flat / flat.sum(), rtol=1e-10)
