"""Bounds, projection and linear programs of the capped simplex, against the oracle and their defining properties."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import oracles
import pytest
from helpers import TOLERANCES, ULPS, Array, Tolerance, batched, cast, host
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxalloc.kernels.solvers.capped_simplex import Bounds, bounds, linear_minimum, project, settle

K = 12


def bounds_of(dtype: Any, sizes: Any, cap: Any, asset_cap: Any, slack: Any) -> Bounds:
    sizes = np.atleast_2d(np.asarray(sizes))
    numbers = cast(dtype, *(np.broadcast_to(x, len(sizes)) for x in (cap, asset_cap, slack)))
    return host(batched(bounds)(np.asarray(sizes, dtype), *numbers))


def random_sizes(rng: np.random.Generator, n: int) -> Array:
    """Cluster sizes (n, K), 1..K clusters in any places, from all single to one large."""
    sizes = np.zeros((n, K), int)
    for row in sizes:
        count = int(rng.integers(1, K + 1))
        row[rng.permutation(K)[:count]] = rng.integers(1, int(rng.integers(2, 20)), count)
    return sizes


# Bounds


@pytest.mark.parametrize("relaxed", [True, False], ids=["tight caps", "usual caps"])
def test_bounds_equal_the_oracle_s(relaxed: bool, dtype: Any, tol: Tolerance) -> None:
    rng = np.random.default_rng(0)
    n = 256
    sizes = random_sizes(rng, n)
    cap = rng.uniform(0.03, 0.5, n) if relaxed else np.full(n, 0.25)
    asset_cap = rng.uniform(0.005, 0.2, n) if relaxed else np.full(n, 0.2)
    slack = rng.uniform(1.01, 1.5, n) if relaxed else np.full(n, 1.1)
    cap, asset_cap, slack = (x.astype(np.float32).astype(float) for x in (cap, asset_cap, slack))
    found = bounds_of(dtype, sizes, cap, asset_cap, slack)
    raised = 0
    for i, row in enumerate(sizes):
        there = row > 0
        u, beta, kappa, flags = oracles.bounds(row[there], int(row.sum()), cap[i], asset_cap[i], slack[i])
        np.testing.assert_allclose(found.upper[i, there], u, rtol=16 * tol.eps)
        assert not found.upper[i, ~there].any()
        assert found.asset[i] == pytest.approx(beta, rel=16 * tol.eps)
        assert found.cluster[i] == pytest.approx(kappa, rel=4 * tol.eps)
        assert found.cap_relaxed[i] == flags["cluster_cap_relaxed"]
        assert found.asset_raised[i] == flags["asset_bound_raised"]
        raised += flags["asset_bound_raised"]
        assert found.upper[i].sum() >= 1
    assert raised > 10


@pytest.mark.parametrize("n_clusters", range(1, K + 1))
def test_four_clusters_are_what_a_quarter_needs(n_clusters: int, dtype: Any, tol: Tolerance) -> None:
    sizes = np.r_[np.full(n_clusters, 9), np.zeros(K - n_clusters)]
    found = bounds_of(dtype, sizes, 0.25, 0.2, 1.1)
    assert found.cap_relaxed[0] == (n_clusters <= 4)  # 1.1 / 4 > 1 / 4
    assert found.cluster[0] == pytest.approx(max(0.25, 1.1 / n_clusters), rel=4 * tol.eps)
    assert found.upper[0].sum() >= 1


@pytest.mark.parametrize(
    ("sizes", "upper", "beta", "raised"),
    [
        ([3, 1, 2, 5, 9], [0.25, 0.2, 0.25, 0.25, 0.25], 0.2, False),
        ([1, 9, 9], [1.1 / 3] * 3, 1.1 / 3, True),
        ([1], [1.1], 1.1, False),
        ([1, 1], [0.55, 0.55], 0.55, False),
        ([1, 1, 1], [1.1 / 3] * 3, 1.1 / 3, False),
        ([1, 1, 1, 1, 1], [0.22] * 5, 0.22, False),
        ([1, 1, 5, 6], [0.275] * 4, 0.275, True),
        ([1] * 12, [0.2] * 12, 0.2, False),
        ([20], [1.1], 0.2, False),
        ([2], [1.1], 0.55, False),
        ([3], [1.1], 1.1 / 3, False),
    ],
)
def test_bounds_by_hand(sizes: list, upper: list, beta: float, raised: bool, dtype: Any, tol: Tolerance) -> None:
    padded = np.r_[sizes, np.zeros(K - len(sizes), int)]
    found = bounds_of(dtype, padded, 0.25, 0.2, 1.1)
    np.testing.assert_allclose(found.upper[0, : len(sizes)], upper, rtol=8 * tol.eps)
    assert found.asset[0] == pytest.approx(beta, rel=8 * tol.eps)
    assert found.asset_raised[0] == raised
    # where the empty places are does not matter
    moved = bounds_of(dtype, padded[::-1], 0.25, 0.2, 1.1)
    np.testing.assert_allclose(moved.upper[0, ::-1], found.upper[0], rtol=8 * tol.eps)


def test_no_cluster_has_no_bounds(dtype: Any) -> None:
    found = bounds_of(dtype, np.zeros(K), 0.25, 0.2, 1.1)
    assert not found.upper.any()
    assert np.isfinite(found.asset).all()


fractions = st.floats(0.0009765625, 1, width=32)


@given(
    sizes=hnp.arrays(np.int16, (4, K), elements=st.integers(0, 60)),
    cap=fractions,
    asset_cap=fractions,
    slack=st.sampled_from([1.0, 1.0009765625, 1.1, 2.0, 50.0]),
)
@pytest.mark.parametrize("precision", [np.float32, np.float64])
def test_the_feasible_set_is_never_empty(
    precision: Any, sizes: Array, cap: float, asset_cap: float, slack: float
) -> None:
    sizes[:, 0] = np.maximum(sizes[:, 0], 1)
    with jax.enable_x64(precision is np.float64):
        found = bounds_of(precision, sizes, cap, asset_cap, slack)
    eps = TOLERANCES[precision].eps
    assert (found.upper.sum(axis=1) >= 1 - K * eps).all()
    beta = found.asset[:, None]
    np.testing.assert_allclose(found.upper, np.minimum(found.cluster[:, None], sizes * beta), rtol=4 * eps)
    assert (found.asset >= precision(asset_cap)).all()
    assert (found.cluster >= precision(cap)).all()
    # the rise is the smallest that gives sum u = slack
    for row, total, raised in zip(sizes, found.upper.sum(axis=1), found.asset_raised, strict=True):
        if raised:
            assert total == pytest.approx(slack, rel=20 * eps), row


# Projection


def random_points(rng: np.random.Generator, n: int, size: int = K) -> tuple[Array, Array, Array]:
    """(points, upper bounds, normals): feasible sets from loose to a single point, some entries barred."""
    normal = np.exp(rng.normal(0, 1, (n, size)))
    barred = rng.uniform(size=(n, size)) < 0.2
    barred[:, 0] = False
    share = np.where(barred, 0, rng.uniform(0.1, 2, (n, size)))
    room = np.where(np.arange(n) % 4 == 0, 1.00001, rng.uniform(1.0001, 6, n))  # every fourth set is nearly one point
    upper = room[:, None] * share / share.sum(axis=1, keepdims=True) / normal
    scale = 10.0 ** rng.integers(-3, 3, (n, 1))
    return scale * rng.normal(0.2, 1, (n, size)) / normal, upper, normal


def check_projection(point: Array, upper: Array, normal: Array, y: Array, eps: float) -> None:
    """Feasible, and no feasible s makes an acute angle with what was removed: (p - y) . (s - y) <= 0.

    Both up to the rounding of p - mu a, which grows with the distance from the set.
    """
    assert (y >= 0).all()
    assert (y <= upper).all()
    removed = point - y
    free = (y > 0) & (y < upper)
    mu = np.abs(removed[free] / normal[free]).max() if free.any() else np.abs(removed / normal)[upper > 0].max()
    noise = 4 * eps * np.where(upper > 0, np.abs(point) + mu * normal + y, 0)
    assert abs(float(normal @ y) - 1) <= normal @ noise + len(y) * eps
    best = oracles.lp_vertex(-removed / normal, normal * upper) / normal
    assert removed @ (best - y) <= (np.abs(removed) + mu * normal) @ (noise + 8 * eps * (best + y))


def test_projection_is_the_nearest_point(dtype: Any, tol: Tolerance) -> None:
    point, upper, normal = cast(dtype, *random_points(np.random.default_rng(1), 256))
    found = host(batched(project)(point, upper, normal))
    for p, u, a, y in zip(point, upper, normal, found, strict=True):
        p, u, a, y = (x.astype(float) for x in (p, u, a, y))
        check_projection(p, u, a, y, tol.eps)


def test_projection_without_a_normal_is_onto_the_capped_simplex(dtype: Any, tol: Tolerance) -> None:
    rng = np.random.default_rng(2)
    point, upper, normal = random_points(rng, 128)
    point, upper = cast(dtype, point * normal, upper * normal)
    found = host(batched(project)(point, upper))
    for p, u, y in zip(point.astype(float), upper.astype(float), found.astype(float), strict=True):
        check_projection(p, u, np.ones(K), y, tol.eps)


def solver_steps(rng: np.random.Generator, n: int) -> tuple[Array, Array, Array]:
    """(points, upper bounds, normals) as a projected gradient meets them: a step from a vertex or a face."""
    S = np.stack([oracles.random_covariance(rng, K) for _ in range(n)])
    sigma = np.sqrt(np.einsum("bii->bi", S))
    correlation = S / sigma[:, :, None] / sigma[:, None, :]
    w = np.stack([np.eye(K)[rng.integers(K)] if i % 2 else rng.dirichlet(np.full(K, 0.3)) for i in range(n)])
    y, e = w * sigma, rng.normal(0, 0.3, (n, K)) / sigma
    gradient = np.einsum("bij,bj->bi", correlation, y)
    ratio = (y * gradient).sum(axis=1) / np.maximum((y * e).sum(axis=1), 0.1)
    return y - (gradient - ratio[:, None] * e) / 1.5, rng.choice([0.25, 0.5, 1.0], (n, 1)) * sigma, 1 / sigma


def test_projection_of_a_solver_s_steps_is_the_nearest_point(dtype: Any, tol: Tolerance) -> None:
    point, upper, normal = cast(dtype, *solver_steps(np.random.default_rng(9), 2048))
    found = host(batched(project)(point, upper, normal))
    sums = (normal.astype(float) * found).sum(axis=1)
    far = np.abs(sums - 1) > 1e4 * tol.eps
    assert not far.any(), f"{np.count_nonzero(far)} of {len(far)} points do not sum to 1: {sums[far][:3]}"
    for p, u, a, y in zip(point, upper, normal, found, strict=True):
        check_projection(*(x.astype(float) for x in (p, u, a, y)), tol.eps)


def test_projection_does_not_cycle_between_two_kinks(x64: Any) -> None:
    # Newton's method on this piecewise linear function goes to and fro between two points for ever.
    point = np.array([[-0.26, 0.19, 0.22], [-0.25, 0.31, 0.41], [-0.46, -0.44, -0.42], [0.59, -0.03, 0.52]])
    upper = np.array([[0.07, 0.07, 0.08], [0.28, 0.3, 0.25], [0.16, 0.2, 0.39], [0.25, 0.06, 0.19]])
    normal = np.array([[14.29, 14.29, 12.5], [3.57, 3.33, 4.0], [6.25, 5.0, 2.56], [4.0, 16.67, 5.26]])
    found = host(batched(project)(point, upper, normal))
    np.testing.assert_allclose((normal * found).sum(axis=1), 1, atol=1e-12)


def test_projection_agrees_with_cvxpy(x64: Any) -> None:
    import cvxpy as cp

    point, upper, normal = random_points(np.random.default_rng(3), 32)
    point /= np.abs(normal * point).max(axis=1, keepdims=True)  # a solver of conic programs wants numbers of order 1
    found = host(batched(project)(point, upper, normal))
    for p, u, a, y in zip(point, upper, normal, found, strict=True):
        z = cp.Variable(K)  # a y
        distance = cp.sum_squares(cp.multiply(z - a * p, 1 / a))
        cp.Problem(cp.Minimize(distance), [cp.sum(z) == 1, z >= 0, z <= a * u]).solve(solver="CLARABEL")
        np.testing.assert_allclose(a * y, z.value, atol=1e-4)


def test_projecting_twice_changes_nothing(dtype: Any, tol: Tolerance) -> None:
    point, upper, normal = random_points(np.random.default_rng(4), 128)
    point, upper, normal = cast(dtype, point, 1.01 * upper, normal)
    once = host(batched(project)(point, upper, normal))
    twice = host(batched(project)(once, upper, normal))
    # the first came from afar, and its sum carries that rounding
    distance = np.abs(normal * (point - once)).max(axis=1) * normal.max(axis=1) / normal.min(axis=1)
    moved = np.abs(normal * (twice - once)).max(axis=1)
    assert (moved <= K * tol.eps * (1 + distance)).all()


@pytest.mark.parametrize("size", [1, 2, 3])
def test_projection_at_the_smallest_sizes(size: int, x64: Any) -> None:
    point, upper, normal = random_points(np.random.default_rng(size), 32, size)
    found = host(batched(project)(point, upper, normal))
    for p, u, a, y in zip(point, upper, normal, found, strict=True):
        check_projection(p, u, a, y, np.finfo(float).eps)


def test_four_quarters_project_to_themselves(dtype: Any) -> None:
    upper = np.r_[np.full(4, 0.25), np.zeros(K - 4)].astype(dtype)
    point = np.random.default_rng(5).normal(size=(32, K)).astype(dtype)
    found = host(batched(project)(point, np.broadcast_to(upper, (32, K))))
    np.testing.assert_allclose(found, np.broadcast_to(upper, (32, K)), atol=4 * np.finfo(dtype).eps)
    assert not found[:, 4:].any()


def test_an_empty_set_gives_the_upper_bounds(dtype: Any) -> None:
    upper = np.full((8, K), 0.05).astype(dtype)
    point = np.random.default_rng(6).normal(size=(8, K)).astype(dtype)
    found = host(batched(project)(point, upper))
    np.testing.assert_allclose(found, upper, atol=8 * np.finfo(dtype).eps)


@given(
    point=hnp.arrays(np.float32, K, elements=st.floats(-(2.0**20), 2.0**20, width=32)),
    room=hnp.arrays(np.float32, K, elements=st.sampled_from([0.0, 0.0625, 0.25, 0.5, 1.0, 2.0])),
    normal=hnp.arrays(np.float32, K, elements=st.sampled_from([2.0**-10, 0.5, 1.0, 3.0, 2.0**10])),
)
def test_any_projection_is_feasible_and_nearest(point: Array, room: Array, normal: Array) -> None:
    if room.sum() < 1:
        room[:] = 0.25
    point, normal = point.astype(float) / normal, normal.astype(float)
    upper = room / normal
    batch = [np.repeat(x[None], 32, 0) for x in (point, upper, normal)]
    with jax.enable_x64(True):
        found = host(batched(project)(*batch))
    check_projection(point, upper, normal, found[0], np.finfo(float).eps)
    np.testing.assert_array_equal(found, found[:1].repeat(32, 0))


# Linear programs


def test_linear_minimum_equals_the_oracle_s(dtype: Any, tol: Tolerance) -> None:
    rng = np.random.default_rng(7)
    upper = np.where(rng.uniform(size=(128, K)) < 0.3, 0, rng.uniform(0.05, 0.5, (128, K)))
    upper *= np.maximum(1, 1.05 / upper.sum(axis=1))[:, None]
    upper[0] = np.r_[np.full(4, 0.25), np.zeros(8)]
    cost = rng.normal(size=(128, K))
    cost[64:] = np.round(cost[64:])  # ties
    cost, upper = cast(dtype, cost, upper)
    found = host(batched(linear_minimum)(cost, upper))
    for c, u, s in zip(cost.astype(float), upper.astype(float), found.astype(float), strict=True):
        assert s.min() >= 0
        assert (s <= u).all()
        assert s.sum() == pytest.approx(1, abs=K * tol.eps)
        assert c @ s == pytest.approx(oracles.lp_minimum(c, u), abs=4 * K * tol.eps * np.abs(c).max())


# Settling


def test_settling_leaves_a_sum_of_1_within_the_bounds(dtype: Any, tol: Tolerance) -> None:
    rng = np.random.default_rng(8)
    point, upper, normal = random_points(rng, 128)
    upper = upper * normal * 1.05
    w = np.stack([oracles.quadratic_over_capped_simplex(np.eye(K), p, u) for p, u in zip(point, upper, strict=True)])
    w, upper = cast(dtype, w, upper)
    noisy = np.clip(w * (1 + 8 * tol.eps * rng.normal(size=w.shape)), 0, upper).astype(dtype)
    found = host(batched(settle)(noisy, upper))
    assert (found >= 0).all()
    assert (found <= upper).all()
    free = ((noisy > 0) & (noisy < upper)).any(axis=1)
    assert free.sum() > 60
    np.testing.assert_allclose(found[free].astype(float).sum(axis=1), 1, atol=4 * ULPS * tol.eps)
    np.testing.assert_array_equal(found[noisy == 0], 0)
    np.testing.assert_array_equal(found[noisy == upper], upper[noisy == upper])
    np.testing.assert_allclose(found, noisy, rtol=200 * tol.eps)
