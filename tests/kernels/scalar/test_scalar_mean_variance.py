"""Minimum variance and maximum Sharpe of one universe: against the oracle, XLA's kernel, and their conditions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import oracles
import pytest
from helpers import Array, batched, call_kernel, host

pytest.importorskip("numba")

from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.scalar.mean_variance import by_faces
from jaxalloc.kernels.scalar.mean_variance import mean_variance as by_addresses
from jaxalloc.kernels.scalar.measuring import TOLERANCE
from jaxalloc.kernels.scalar.tableau import FEW, solve_few
from jaxalloc.kernels.solvers import mean_variance as lanes

RISKLESS = 1e-3  # rounding floor from which on the optimum has no variance, or hardly a digit of it


class Found(NamedTuple):
    weights: Array
    gap: float
    iterations: int
    altered: bool
    solved: bool


def split(S: Array) -> tuple[Array, Array]:
    sigma = np.sqrt(np.diag(S))
    C = S / np.outer(sigma, sigma)
    np.fill_diagonal(C, 1)
    return np.ascontiguousarray(C), sigma


def mean_variance(*arguments: Array) -> tuple[float, int, bool, bool]:
    few, faces = (solver.version(np.float64).address() for solver in (solve_few, by_faces))
    return by_addresses(few, faces, *arguments)


def solve(S: Array, e: Array, u: Array) -> Found:
    weights = np.full(len(u), np.nan)
    return Found(weights, *mean_variance(*split(S), e, u, weights))


def judge(S: Array, e: Array, u: Array, w: Array) -> tuple[float, float, bool]:
    """The oracle's gap, the rounding in it, and whether minimum variance is what there is to solve.

    Where volatilities are far apart, the oracle's gap has the rounding of the other portfolio that it compares with.
    """
    variance = w @ S @ w
    if variance <= 0:
        return 0.0, np.inf, oracles.lp_minimum(-e, u) >= 0
    if oracles.lp_minimum(-e, u) < 0:
        other = oracles.lp_vertex(S @ w / variance - e / (e @ w), u)
        rounding = 2 * oracles.EPS * max(other @ np.abs(S) @ w / variance, np.abs(e) @ other / (e @ w))
        return oracles.gap_max_sharpe(S, e, u, w), max(rounding, oracles.rounding_floor(S, e, e, w)), False
    other = oracles.lp_vertex(S @ w, u)
    rounding = 2 * oracles.EPS * (other @ np.abs(S) @ w) / variance
    return oracles.gap_min_variance(S, u, w), max(rounding, oracles.rounding_floor(S, None, None, w)), True


def assert_right(found: Found, S: Array, e: Array, u: Array, name: str) -> None:
    """What is said of the weights is true; they are feasible to rounding, with the bounds to the bit."""
    w = found.weights
    assert (w >= 0).all(), name
    assert (w <= u).all(), name
    assert abs(w.sum() - 1) <= len(u) * 4e-16 + 2e-15, name
    gap, floor, least = judge(S, e, u, w)
    assert found.altered == least, name
    lost = not least and e @ w <= 0  # such a gap means nothing
    assert not (lost and found.solved), name
    if floor < RISKLESS and not lost:
        assert not found.solved or gap <= max(1.1 * TOLERANCE, 2 * floor), f"{name}: gap {gap:.2e} passed for solved"
        assert abs(found.gap - gap) <= 8 * max(TOLERANCE, floor) * max(1, gap), name


# Random problems of many kinds


def scaled(S: Array, by: Array) -> Array:
    return S * np.outer(by, by)


def related(rng: np.random.Generator, size: int, apart: float) -> Array:
    """A third of the clusters are others, scaled, but for ``apart``."""
    S, third = oracles.random_covariance(rng, size), size // 3
    sample = rng.multivariate_normal(np.zeros(size), S, size=3 * size + 5, method="cholesky")
    own = apart * rng.normal(size=(len(sample), third)) * np.sqrt(np.diag(S))[:third]
    sample[:, :third] = sample[:, third : 2 * third] * rng.uniform(0.5, 2, third) + own
    return np.cov(sample, rowvar=False).reshape(size, size)


def few_rows(rng: np.random.Generator, size: int) -> Array:
    n_rows = max(2, size // 4 + int(rng.integers(0, 3)))
    return np.cov(rng.normal(size=(n_rows, size)) + rng.normal(size=(n_rows, 1)) / 2, rowvar=False).reshape(size, size)


FAMILIES: dict[str, Callable[[np.random.Generator, int], Array]] = {
    "plain": oracles.random_covariance,
    "volatilities e apart": lambda rng, size: scaled(
        oracles.random_covariance(rng, size), np.exp(rng.normal(0, 1, size))
    ),
    "volatilities e² apart": lambda rng, size: scaled(
        oracles.random_covariance(rng, size), np.exp(rng.normal(0, 2, size))
    ),
    "volatilities 1e4 apart": lambda rng, size: scaled(
        oracles.random_covariance(rng, size), 10 ** rng.uniform(-2, 2, size)
    ),
    "hedges": lambda rng, size: scaled(oracles.random_covariance(rng, size), rng.choice([-1.0, 1.0], size)),
    "few rows": few_rows,
    "half the rank": lambda rng, size: oracles.random_covariance(rng, size, rank=max(1, size // 2)),
    "near copies": lambda rng, size: related(rng, size, 1e-4),
    "nearer copies": lambda rng, size: related(rng, size, 1e-6),
    "copies": lambda rng, size: related(rng, size, 0.0),
    "correlations of 0.999": lambda rng, size: scaled(0.999 + 0.001 * np.eye(size), 10 ** rng.uniform(-0.2, 0.2, size)),
}


def random_bounds(rng: np.random.Generator, size: int) -> Array:
    kind = int(rng.integers(0, 7))
    if kind < 4:
        return np.full(size, max((0.25, 0.2, 1.0, 0.0)[kind], 1.1 / size))
    if kind == 4:
        u = rng.uniform(0.5, 4, size) / size
        return u * max(1, 1.0000001 / u.sum())
    if kind == 5:  # hardly any room
        u = rng.uniform(0.5, 2, size)
        return u * (1 + 10.0 ** rng.integers(-12, -2)) / u.sum()
    u = np.full(size, max(0.25, 2 / size))
    u[rng.permutation(size)[: size // 3]] = 0
    return u if u.sum() >= 1 else np.ones(size)


def random_excess(rng: np.random.Generator, size: int) -> Array:
    kind, e = int(rng.integers(0, 8)), rng.normal(0.05, 0.1, size)
    if kind < 2:
        e = -np.abs(e)
        if kind:
            e[rng.integers(size)] = 0.5
    return (e, e, np.full(size, 0.03), 1e-12 * e, 1e12 * e, e, e - 0.1, 0 * e)[kind]


def check_random(count: int, seed: int) -> None:
    unsolved, names = Counter[str](), list(FAMILIES)
    for i in range(count):
        rng, name = np.random.default_rng([seed, i]), names[i % len(names)]
        size = int(rng.integers(1, 61))
        S = FAMILIES[name](rng, size)
        u, e = random_bounds(rng, size), random_excess(rng, size)
        if i // len(names) % 2:
            e = np.zeros(size)
        C, sigma = split((S + S.T) / 2)
        S = C * np.outer(sigma, sigma)
        found = solve(S, e, u)
        assert_right(found, S, e, u, f"{name}, problem {i}")
        if not found.solved and best_floor(S, e, u) < RISKLESS:
            unsolved[name] += 1
    copies = sum(count for name, count in unsolved.items() if "copies" in name)
    assert copies <= max(1, count / len(names) * 0.02), unsolved
    assert unsolved.total() - copies <= max(1, count * 0.002), unsolved


def best_floor(S: Array, e: Array, u: Array) -> float:
    """Rounding floor of the oracle's optimum, where it finds one."""
    try:
        w, _ = oracles.max_sharpe(S, e, u)
    except oracles.OracleError:
        return 0.0
    return judge(S, e, u, w)[1]


def test_random_problems_are_solved_and_what_is_said_of_them_is_true() -> None:
    check_random(3300, 1)


@pytest.mark.slow
def test_many_random_problems() -> None:
    check_random(33_000, 3)


@pytest.mark.parametrize(("size", "rows"), [(120, 200), (200, 90)])
def test_many_clusters(size: int, rows: int) -> None:
    """More than one round of columns, and faces of more than a hundred."""
    rng = np.random.default_rng([2, size])
    for i in range(6):
        noise = rng.normal(size=(rows, size)) * np.exp(rng.normal(0, 0.5, size))
        S = np.cov(noise + (0.0 if i % 3 == 0 else 0.3) * rng.normal(size=(rows, 1)), rowvar=False)
        u = np.full(size, (0.25, 0.02)[i % 2])
        e = rng.normal(0.05, 0.02, size) if i < 3 else np.zeros(size)
        found = solve(S, e, u)
        assert found.solved
        assert_right(found, S, e, u, f"problem {i}")


def test_without_faces_what_the_table_leaves_is_not_solved() -> None:
    rng, few = np.random.default_rng(3), solve_few.version(np.float64).address()
    for size in (FEW, FEW + 1):
        S, u = oracles.random_covariance(rng, size), np.full(size, 0.25)
        weights = np.full(size, np.nan)
        gap, _, _, solved = by_addresses(few, 0, *split(S), np.zeros(size), u, weights)
        assert solved == (size == FEW) == (gap <= TOLERANCE)


# Few clusters: one table of them all, and faces for what it does not solve


def among_more(S: Array, e: Array, u: Array) -> Found:
    """The solution by faces: among so many clusters, of which others take no part, that there is no table."""
    size, more = len(u), FEW + 1
    larger = np.eye(more)
    larger[:size, :size] = S
    found = solve(larger, np.r_[e, np.ones(more - size)], np.r_[u, np.zeros(more - size)])
    assert not found.weights[size:].any()
    return found._replace(weights=found.weights[:size])


def objective(S: Array, e: Array, found: Found) -> float:
    w = found.weights
    return float(w @ S @ w if found.altered else w @ S @ w / (e @ w) ** 2)


def check_tables(count: int, seed: int) -> None:
    """What the table solves is right, and as good as what the faces find; and they solve what it does not."""
    names, by_table, problems, gained, lost = list(FAMILIES), Counter[str](), Counter[str](), 0, 0
    for i in range(count):
        rng, name = np.random.default_rng([seed, i]), names[i % len(names)]
        size = int(rng.integers(1, FEW + 1))
        S, u, e = FAMILIES[name](rng, size), random_bounds(rng, size), random_excess(rng, size)
        if i // len(names) % 2:
            e = np.zeros(size)
        C, sigma = split((S + S.T) / 2)
        S, weights = C * np.outer(sigma, sigma), np.full(size, np.nan)
        table = Found(weights, *call_kernel(solve_few, C, sigma, e, u, weights))
        faces, found, where = among_more(S, e, u), solve(S, e, u), f"{name}, problem {i}"
        problems[name] += 1
        by_table[name] += table.solved
        gained += found.solved and not faces.solved
        lost += faces.solved and not found.solved
        if not table.solved:
            assert_right(found, S, e, u, where)
            continue
        np.testing.assert_array_equal(found.weights, table.weights, where)
        assert_right(table, S, e, u, where)
        if faces.solved and judge(S, e, u, table.weights)[1] < TOLERANCE / 10:
            assert table.altered == faces.altered, where
            assert abs(objective(S, e, table) / objective(S, e, faces) - 1) < TOLERANCE, where
    assert lost <= gained + 2 + count // 1000, (lost, gained)  # where S has hardly a rank, the order decides
    solved = {name: by_table[name] / problems[name] for name in names}
    assert min(solved[name] for name in ("plain", "hedges", "volatilities e apart")) > 0.98, solved
    assert all(share > 0.3 for share in solved.values()), solved  # half, where there are few rows
    assert all(solved[name] < 1 for name in names if "copies" in name or "rows" in name), solved


def test_few_clusters_are_solved_in_a_table_or_by_faces() -> None:
    check_tables(1100, 10)


@pytest.mark.slow
def test_many_problems_of_few_clusters() -> None:
    check_tables(22_000, 11)


def test_two_clusters_have_a_formula() -> None:
    rng = np.random.default_rng(12)
    for i in range(50):
        S, u = oracles.random_covariance(rng, 2), np.full(2, (0.6, 1.0)[i % 2])
        first = (S[1, 1] - S[0, 1]) / (S[0, 0] + S[1, 1] - 2 * S[0, 1])
        found = solve(S, np.zeros(2), u)
        np.testing.assert_allclose(found.weights[0], np.clip(first, 1 - u[1], u[0]), atol=1e-12)


def test_equal_clusters_have_equal_weights() -> None:
    for size in range(1, FEW + 1):
        S = 0.04 * (0.3 + 0.7 * np.eye(size))
        for u in (1.1 / size, max(0.25, 1.1 / size), 1.0):
            for e in (0.0, 0.05):
                found = solve(S, np.full(size, e), np.full(size, u))
                assert found.solved
                np.testing.assert_allclose(found.weights, 1 / size, rtol=1e-12)


# Solutions that are known


def test_built_in_solutions_are_found() -> None:
    rng = np.random.default_rng(4)
    for i in range(200):
        size = int(rng.integers(2, 25))
        low = int(rng.integers(0, size))
        high = size - low if i % 3 == 0 else int(rng.integers(0, min(5, size - low)))  # every third is a vertex
        if i % 2:
            S, u, w = oracles.kkt_min_variance(rng, size, low, high)
            e = np.zeros(size)
        else:
            S, e, u, w = oracles.kkt_max_sharpe(rng, size, low, high)
        found = solve(S, e, u)
        assert found.solved, i
        np.testing.assert_allclose(found.weights, w, atol=1e-7, err_msg=str(i))
        assert_right(found, S, e, u, str(i))


def test_conditions_hold_at_the_bounds_to_the_bit() -> None:
    """The marginal cost is one number on the free entries, at least that at 0, at most that at the bounds."""
    rng = np.random.default_rng(5)
    for i in range(100):
        size = int(rng.integers(8, 40))
        S, u = oracles.random_covariance(rng, size), np.full(size, 0.2)
        e = rng.normal(0.1, 0.1, size) * (i % 2)
        w = solve(S, e, u).weights
        variance = w @ S @ w
        cost = S @ w / variance - (e / (e @ w) if e @ w > 0 else 0)
        free = (w > 0) & (w < u)
        level = cost[free].mean() if free.any() else (cost[w > 0].max() + cost[w == 0].min()) / 2
        assert np.abs(cost[free] - level).max(initial=0) < 1e-11 * np.abs(cost).max()
        assert (cost[w == 0] > level - 1e-11).all()
        assert (cost[w == u] < level + 1e-11).all()


def test_four_quarters_leave_no_choice() -> None:
    rng = np.random.default_rng(6)
    for i in range(32):
        u = rng.permutation(np.r_[np.full(4, 0.25), np.zeros(8)])
        found = solve(oracles.random_covariance(rng, 12), rng.normal(0.05, 0.1, 12) * (i % 2), u)
        np.testing.assert_array_equal(found.weights, u)
        assert found.solved


def test_one_cluster() -> None:
    for e in (-0.1, 0.0, 0.1):
        found = solve(np.array([[0.04]]), np.array([e]), np.array([1.1]))
        assert found.weights == [1.0]
        assert found.solved
        assert found.altered == (e <= 0)


# The other implementation


def test_xla_s_kernel_agrees(x64: Any) -> None:
    rng, size, batch = np.random.default_rng(7), 12, 96
    S = np.stack([oracles.random_covariance(rng, size) for _ in range(batch)])
    e, u = rng.normal(0.03, 0.1, (batch, size)), rng.choice([0.1, 0.15, 0.25, 1.0], (batch, 1)) * np.ones(size)
    e[::3] = 0
    e[1::12] = -0.1
    expected = host(batched(lanes.mean_variance, backend=Backend.CPU, optimised=True)(S, e, u))
    for i in range(batch):
        found = solve(S[i], e[i], u[i])
        np.testing.assert_allclose(found.weights, expected.weights[i], atol=1e-8)
        np.testing.assert_array_equal(found.weights == 0, expected.weights[i] == 0)
        np.testing.assert_array_equal(found.weights == u[i], expected.weights[i] == u[i])
        assert found.altered == expected.altered[i]
        assert found.solved


# What it must stand


def test_input_without_sense_ends_unsolved() -> None:
    rng = np.random.default_rng(8)
    S = oracles.random_covariance(rng, 20)
    C, sigma = split(S)
    for bad in (np.nan, np.inf, -np.inf):
        for place in range(20):
            for which in range(4):
                parts = [C.copy(), sigma.copy(), np.full(20, 0.05), np.full(20, 0.25)]
                parts[which][place] = bad  # of C a whole row and column
                parts[0][:, place] = parts[0][place]
                *_, solved = mean_variance(*parts, np.empty(20))
                assert not solved or which == 0  # a cluster that nobody would hold could be anything
    for which in range(2):
        parts = [np.full_like(C, np.nan), sigma, np.full(20, 0.05 * which), np.full(20, 0.25)]
        gap, *_, solved = mean_variance(*parts, np.empty(20))
        assert not solved
        assert not gap <= TOLERANCE


def test_the_same_problem_has_the_same_bits() -> None:
    rng = np.random.default_rng(9)
    S, e, u = oracles.random_covariance(rng, 40), rng.normal(0.05, 0.1, 40), np.full(40, 0.2)
    first = solve(S, e, u)
    for _ in range(3):
        again = solve(S, e, u)
        np.testing.assert_array_equal(again.weights, first.weights)
        assert again[1:] == first[1:]
