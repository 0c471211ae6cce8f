"""The oracle against published values, pandas, SciPy, cvxpy and cases worked by hand."""

from __future__ import annotations

import ast
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import oracles
import pandas as pd
import pytest
import scipy.optimize

LINKAGES = ("average", "single", "complete", "ward")


def richard_roncalli() -> np.ndarray:
    """The 8-asset covariance of Richard & Roncalli (2019), section 4.3."""
    volatility = np.array([5, 5, 7, 10, 15, 15, 15, 18]) / 100
    rows = (
        [80],
        [60, 40],
        [-20, -20, 50],
        [-10, -20, 30, 60],
        [-20, -10, 20, 60, 90],
        [-20, -20, 20, 50, 70, 60],
        [-20, -20, 30, 60, 70, 70, 70],
    )
    correlation = np.eye(8)
    for i, row in enumerate(rows, start=1):
        correlation[i, :i] = correlation[:i, i] = np.array(row) / 100
    return correlation * np.outer(volatility, volatility)


def counted_market(seed: int, T: int = 120, N: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """(returns, counts of a bootstrap); the rows that were not drawn are NaN, so that reading one shows."""
    rng = np.random.default_rng(seed)
    returns = oracles.random_market(rng, T, N, 3)
    counts = np.bincount(rng.integers(T, size=T), minlength=T)
    returns[counts == 0] = np.nan
    return returns, counts


def test_imports_nothing_of_the_package() -> None:
    tree = ast.parse(Path(oracles.__file__).read_text(encoding="utf-8"))
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {module.split(".")[0] for module in modules} <= {
        "__future__", "collections", "dataclasses", "typing", "warnings", "numpy", "scipy", "sklearn", "cvxpy"
    }  # fmt: skip


# Moments and order statistics


@pytest.mark.parametrize("seed", range(3))
def test_counts_equal_pandas_on_the_materialised_sample(seed: int) -> None:
    returns, counts = counted_market(seed)
    frame = pd.DataFrame(returns[oracles.expand(counts)])
    mean, covariance = oracles.moments(returns, counts)
    np.testing.assert_allclose(mean, frame.mean(), rtol=1e-11, atol=1e-16)
    np.testing.assert_allclose(covariance, frame.cov(), rtol=1e-11, atol=1e-18)
    np.testing.assert_allclose(oracles.skewness(returns, counts), frame.skew(), rtol=1e-10)
    high = frame.quantile(0.95)
    np.testing.assert_allclose([oracles.quantile(x, counts) for x in returns.T], high, rtol=1e-13)
    np.testing.assert_allclose(oracles.tail_gain(returns, counts), frame[frame > high].mean(), rtol=1e-12)


@pytest.mark.parametrize("n", [2, 3, 20, 21, 22, 41, 100, 101])
def test_quantile_equals_pandas_at_every_remainder(n: int) -> None:
    x = np.random.default_rng(n).normal(size=n)
    assert oracles.quantile(x) == pytest.approx(pd.Series(x).quantile(0.95), rel=1e-13)
    assert oracles.quantile(x, q=1.0) == x.max()
    assert oracles.quantile(x, q=0.0) == x.min()


def test_quantile_by_hand() -> None:
    assert oracles.quantile(np.array([10.0, 30.0, 20.0]), np.array([1.0, 1.0, 1.0])) == pytest.approx(29.0)
    # n = 21: h = 19 exactly, so the 20th of 10 * 15 + 20 * 6.
    assert oracles.quantile(np.array([20.0, 10.0]), np.array([6.0, 15.0])) == 20.0
    # n = 2.5: h = 1.425; the cumulative weights 0.5, 1, 2.5 first exceed 1 and 2 at the third value.
    assert oracles.quantile(np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.5, 1.5])) == 3.0
    # n = 3: h = 1.9; the cumulative weights 1.5, 3 first exceed 1 at the first value, 2 at the second.
    assert oracles.quantile(np.array([1.0, 2.0]), np.array([1.5, 1.5])) == pytest.approx(1.9)


def test_a_repeated_value_stays_itself() -> None:
    x = np.array([0.1, 0.3])
    weights = np.array([7.0, 15.0])  # h = 19.95 lies between two copies of 0.3
    assert oracles.quantile(x, weights) == 0.3
    assert oracles.tail_gain(x[:, None], weights)[0] == 0.0


def test_halved_rows_given_twice_are_the_plain_sample() -> None:
    returns = oracles.random_market(np.random.default_rng(4), 50, 4, 2)
    twice, half = np.concatenate([returns, returns]), np.full(100, 0.5)
    for statistic in (lambda x, c: oracles.moments(x, c)[1], oracles.skewness, oracles.tail_gain):
        np.testing.assert_allclose(statistic(twice, half), statistic(returns, None), rtol=1e-12)
    assert oracles.quantile(twice[:, 0], half) == oracles.quantile(returns[:, 0])


def test_skewness_needs_three_observations() -> None:
    assert not oracles.skewness(np.array([[1.0], [2.0]])).any()
    assert oracles.skewness(np.array([[0.0], [0.0], [1.0]]))[0] == pytest.approx(np.sqrt(3))


def test_expand() -> None:
    np.testing.assert_array_equal(oracles.expand(np.array([2, 0, 1])), [0, 0, 2])


# Clusters


def naive_clusters(distance: np.ndarray, linkage: str, threshold: float) -> np.ndarray:
    """Agglomeration from the linkages' definitions, one merge at a time; ward from the distances by Lance-Williams."""
    groups = [[i] for i in range(len(distance))]
    between = distance.copy()
    np.fill_diagonal(between, np.inf)
    while len(groups) > 1 and between.min() <= threshold:
        i, j = sorted(np.unravel_index(np.argmin(between), between.shape))
        merged, others = groups[i] + groups[j], [k for k in range(len(groups)) if k not in (i, j)]
        p, q = len(groups[i]), len(groups[j])
        row = []
        for k in others:
            pairs = distance[np.ix_(merged, groups[k])]
            r = len(groups[k])
            ward = (p + r) * between[i, k] ** 2 + (q + r) * between[j, k] ** 2 - r * between[i, j] ** 2
            row.append({
                "average": pairs.mean(),
                "single": pairs.min(),
                "complete": pairs.max(),
                "ward": np.sqrt(ward / (p + q + r)) if linkage == "ward" else 0.0,
            }[linkage])  # fmt: skip
        groups = [groups[k] for k in others] + [merged]
        size = len(groups)
        table = np.full((size, size), np.inf)
        table[:-1, :-1] = between[np.ix_(others, others)]
        table[-1, :-1] = table[:-1, -1] = row
        between = table
    labels = np.empty(len(distance), int)
    for label, group in enumerate(sorted(groups, key=min)):
        labels[group] = label
    return labels


def market_distance(seed: int, T: int = 60, N: int = 25) -> np.ndarray:
    """Correlation distances of a short sample, so that partitions are not obvious."""
    _, covariance = oracles.moments(oracles.random_market(np.random.default_rng(seed), T, N, 6, inside=0.7))
    return oracles.correlation_distance(covariance)


@pytest.mark.parametrize("linkage", LINKAGES)
def test_clusters_equal_naive_agglomeration(linkage: str) -> None:
    for seed in range(4):
        distance = market_distance(seed)
        for threshold in (0.3, 0.4, 0.5, 0.6):
            expected = naive_clusters(distance, linkage, threshold)
            np.testing.assert_array_equal(oracles.clusters(distance, linkage, threshold), expected)


@pytest.mark.parametrize("linkage", LINKAGES)
def test_maxclust_is_the_lowest_cut_that_leaves_few_enough(linkage: str) -> None:
    distance = market_distance(7)
    for most in (1, 2, 5, 10, 25, 40):
        labels = oracles.clusters_maxclust(distance, linkage, most)
        assert labels.max() + 1 == min(most, 25)  # untied heights: every number of clusters occurs
        merged = oracles.clusters_maxclust(distance, linkage, most + 1)
        assert all(len(np.unique(labels[merged == k])) == 1 for k in range(merged.max() + 1))  # nested


def test_labels_follow_first_assets_and_one_asset_is_one_cluster() -> None:
    near = np.array([[0, 9, 1, 9], [9, 0, 9, 1], [1, 9, 0, 9], [9, 1, 9, 0]]) / 10
    np.testing.assert_array_equal(oracles.clusters(near), [0, 1, 0, 1])
    np.testing.assert_array_equal(oracles.relabel(np.array([7, 3, 7, 1])), [0, 1, 0, 2])
    np.testing.assert_array_equal(oracles.clusters(np.zeros((1, 1))), [0])
    np.testing.assert_array_equal(oracles.clusters_maxclust(np.zeros((1, 1))), [0])


def test_distances_by_hand() -> None:
    covariance = np.array([[4.0, 1.0, -6.0], [1.0, 1.0, -1.5], [-6.0, -1.5, 9.0]])  # correlations 1/2, -1, -1/2
    expected = np.sqrt(np.array([[0, 0.25, 1], [0.25, 0, 0.75], [1, 0.75, 0]]))
    np.testing.assert_allclose(oracles.correlation_distance(covariance), expected, atol=1e-15)
    absolute = np.sqrt(np.array([[0, 0.25, 0], [0.25, 0, 0.25], [0, 0.25, 0]]))
    np.testing.assert_allclose(oracles.correlation_distance(covariance, "absolute"), absolute, atol=1e-15)
    with pytest.raises(ValueError, match="correlation or absolute"):
        oracles.correlation_distance(covariance, "squared")


# Layer 2 and bounds


def test_inverse_variance_and_synthetic_returns() -> None:
    labels = np.array([0, 1, 0])
    v = oracles.inverse_variance(np.array([1.0, 5.0, 4.0]), labels)
    np.testing.assert_allclose(v, [0.8, 1.0, 0.2])
    returns = oracles.random_market(np.random.default_rng(0), 80, 3, 2)
    mean, covariance = oracles.moments(returns)
    S, m = oracles.synthetic(covariance, mean, v, labels)
    series = np.column_stack([0.8 * returns[:, 0] + 0.2 * returns[:, 2], returns[:, 1]])
    expected_mean, expected = oracles.moments(series)
    np.testing.assert_allclose(S, expected, rtol=1e-12)
    np.testing.assert_allclose(m, expected_mean, rtol=1e-11)


@pytest.mark.parametrize(
    ("sizes", "u", "beta", "kappa", "relaxed", "raised"),
    [
        ([3, 1, 2, 5, 9], [0.25, 0.2, 0.25, 0.25, 0.25], 0.2, 0.25, False, False),
        ([10, 10, 10, 10], [0.275] * 4, 0.2, 0.275, True, False),
        # 0.2 + 0.3667 * 2 < 1: the single asset's bound rises to the cluster's 1.1 / 3.
        ([1, 9, 9], [1.1 / 3] * 3, 1.1 / 3, 1.1 / 3, True, True),
        ([1], [1.1], 1.1, 1.1, True, False),
        ([1, 1, 1, 1, 1], [0.22] * 5, 0.22, 0.25, False, False),
        # 0.2 + 0.2 + 0.275 * 2 < 1: singles rise to (1.1 - 0.55) / 2.
        ([1, 1, 5, 6], [0.275] * 4, 0.275, 0.275, True, True),
    ],
)
def test_bounds_by_hand(
    sizes: list[int], u: list[float], beta: float, kappa: float, relaxed: bool, raised: bool
) -> None:
    bound, found_beta, found_kappa, flags = oracles.bounds(np.array(sizes), sum(sizes))
    np.testing.assert_allclose(bound, u, rtol=1e-14)
    assert (found_beta, found_kappa) == (pytest.approx(beta, rel=1e-14), pytest.approx(kappa, rel=1e-14))
    assert flags == {"cluster_cap_relaxed": relaxed, "asset_bound_raised": raised}


def test_raised_bound_is_the_smallest_with_the_slack() -> None:
    rng = np.random.default_rng(0)
    raises = 0
    for _ in range(300):
        sizes = rng.integers(1, 12, rng.integers(1, 12))
        cap, asset_cap = rng.uniform(0.05, 0.5), rng.uniform(0.01, 0.1)
        u, beta, kappa, flags = oracles.bounds(sizes, int(sizes.sum()), cap, asset_cap)
        np.testing.assert_allclose(u, np.minimum(kappa, sizes * beta), rtol=1e-15)
        assert u.sum() >= 1
        if flags["asset_bound_raised"]:
            raises += 1
            assert u.sum() == pytest.approx(1.1, rel=1e-13)
            assert np.minimum(kappa, sizes * beta * (1 - 1e-9)).sum() < 1.1
    assert raises > 20


def test_asset_weights_by_hand() -> None:
    labels = np.array([0, 0, 0, 1, 1])
    v = np.array([0.6, 0.3, 0.1, 0.5, 0.5])
    np.testing.assert_allclose(oracles.asset_weights(np.array([0.2, 0.4]), v, labels, 0.2), [*v[:3] * 0.2, 0.2, 0.2])
    # theta = 0.3 / 0.4: 0.2, 0.225 > 0.2, so two are at the bound and the third takes what is left.
    np.testing.assert_allclose(
        oracles.asset_weights(np.array([0.5, 0.0]), v, labels, 0.2), [0.2, 0.2, 0.1, 0, 0], atol=1e-16
    )


def test_asset_weights_keep_proportions_below_the_bound() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        p, beta = int(rng.integers(1, 9)), 0.1
        v = rng.dirichlet(np.ones(p))
        total = rng.uniform(0, min(1, p * beta))
        x = oracles.asset_weights(np.array([total]), v, np.zeros(p, int), beta)
        assert x.sum() == pytest.approx(total, rel=1e-13)
        below = x < beta
        assert np.all(x <= beta)
        ratio = x[below] / v[below]
        assert np.ptp(ratio) <= 1e-12 * ratio.max(initial=1)
        assert np.all(ratio.max(initial=0) * v[~below] >= beta * (1 - 1e-12))


def test_lead_assets_take_the_first_of_equals() -> None:
    leads = oracles.lead_assets(np.array([0.1, 0.3, 0.2, 0.3, 0.0]), np.array([0, 1, 0, 1, 2]), 3)
    np.testing.assert_array_equal(leads, [2, 1, 4])


# Gaps


def test_linear_programs_equal_linprog() -> None:
    rng = np.random.default_rng(2)
    for _ in range(30):
        K = int(rng.integers(2, 12))
        u, cost = rng.uniform(1.1 / K, 2 / K, K), rng.normal(size=K)
        solved = scipy.optimize.linprog(cost, A_eq=np.ones((1, K)), b_eq=[1], bounds=[(0, bound) for bound in u])
        assert oracles.lp_minimum(cost, u) == pytest.approx(solved.fun, abs=1e-12)
        assert oracles.lp_vertex(cost, u).sum() == pytest.approx(1, abs=1e-15)


def test_gaps_bound_what_they_promise() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        K = int(rng.integers(3, 15))
        S, u, e = oracles.random_covariance(rng, K), np.full(K, 1.6 / K), rng.normal(0.1, 0.05, K)
        w = oracles.lp_vertex(rng.normal(size=K), u)
        least, (best, fallback) = oracles.min_variance(S, u), oracles.max_sharpe(S, e, u)
        assert not fallback
        excess_volatility = np.sqrt(w @ S @ w / (least @ S @ least)) - 1
        gap = oracles.gap_min_variance(S, u, w)
        assert 1 - 1 / (1 + excess_volatility) <= gap + 1e-12
        if e @ w > 0:
            # Of first order in the shortfall: by Cauchy-Schwarz, up to the ratio of the two volatilities.
            volatility = np.sqrt(best @ S @ best / (w @ S @ w))
            gain = (e @ best) / (e @ w) / volatility - 1
            assert gain <= oracles.gap_max_sharpe(S, e, u, w) / volatility + 1e-12


def test_risk_parity_gap_by_hand() -> None:
    S = np.diag([0.04, 0.01, 0.01])
    assert oracles.gap_risk_parity(S, np.ones(3), np.array([0.2, 0.4, 0.4])) == pytest.approx(0, abs=1e-15)
    assert oracles.gap_risk_parity(S, np.ones(3), np.array([0.4, 0.3, 0.3])) == pytest.approx(1 - 9 / 64)
    # The last cluster is at its cap and may contribute less; the first two do not contribute equally.
    u = np.array([1, 1, 0.3])
    assert oracles.gap_risk_parity(S, u, np.array([0.2, 0.5, 0.3])) == pytest.approx(1 - 16 / 25)
    assert oracles.gap_risk_parity(S, u, np.array([0.7 / 3, 1.4 / 3, 0.3])) == pytest.approx(0, abs=1e-15)
    assert oracles.gap_risk_parity(S, np.array([0.4, 0.3, 0.3]), np.array([0.4, 0.3, 0.3])) == 0


def test_rounding_floor_by_hand() -> None:
    S, w = np.array([[1.0, -0.5], [-0.5, 1.0]]), np.array([0.5, 0.5])
    assert oracles.rounding_floor(S, None, None, w, 1.0) == pytest.approx(8 * 3)
    m = np.array([0.3, -0.2])
    assert oracles.rounding_floor(S, m, m, w, 1.0) == pytest.approx(8 * 5)
    assert oracles.rounding_floor(np.array([[1.0, -1.0], [-1.0, 1.0]]), None, None, w) == np.inf


# Minimum variance and maximum Sharpe ratio


def draw_faces(seed: int, n: int) -> list[tuple[np.random.Generator, int, int, int]]:
    """(generator, K, clusters at 0, clusters at the cap), from no bound active to all but one."""
    rng = np.random.default_rng(seed)
    faces = []
    for _ in range(n):
        K = int(rng.integers(2, 60))
        n_low = int(rng.integers(0, K))
        faces.append((rng, K, n_low, int(rng.integers(0, min(6, K - n_low)))))
    return faces


def test_min_variance_finds_the_solution_a_problem_was_built_from() -> None:
    for rng, K, n_low, n_high in draw_faces(0, 60):
        S, u, w = oracles.kkt_min_variance(rng, K, n_low, n_high)
        assert abs(oracles.gap_min_variance(S, u, w)) <= 1e-13
        np.testing.assert_allclose(oracles.min_variance(S, u), w, rtol=1e-9, atol=1e-12)


def test_max_sharpe_finds_the_solution_a_problem_was_built_from() -> None:
    for rng, K, n_low, n_high in draw_faces(1, 60):
        S, e, u, w = oracles.kkt_max_sharpe(rng, K, n_low, n_high)
        assert abs(oracles.gap_max_sharpe(S, e, u, w)) <= 1e-13
        found, fallback = oracles.max_sharpe(S, e, u)
        assert not fallback
        np.testing.assert_allclose(found, w, rtol=1e-9, atol=1e-11)


def test_a_vertex_with_no_free_cluster() -> None:
    rng = np.random.default_rng(5)
    for n_high in (1, 3):
        S, u, w = oracles.kkt_min_variance(rng, 8, 8 - n_high, n_high)
        np.testing.assert_allclose(oracles.min_variance(S, u), w, atol=1e-14)
        S, e, u, w = oracles.kkt_max_sharpe(rng, 8, 8 - n_high, n_high)
        np.testing.assert_allclose(oracles.max_sharpe(S, e, u)[0], w, atol=1e-14)


def test_singular_problems_reach_the_optimum_that_need_not_be_unique() -> None:
    for rng, K, n_low, n_high in draw_faces(2, 40):
        rank = max(1, K // 2)
        S, u, w = oracles.kkt_min_variance(rng, K, n_low, n_high, rank)
        found = oracles.min_variance(S, u)
        assert found @ S @ found == pytest.approx(w @ S @ w, rel=1e-9)
        S, e, u, w = oracles.kkt_max_sharpe(rng, K, n_low, n_high, rank)
        found, _ = oracles.max_sharpe(S, e, u)
        assert oracles.gap_max_sharpe(S, e, u, found) <= 1e-10


def test_cvxpy_agrees() -> None:
    rng = np.random.default_rng(6)
    for K in (2, 7, 20, 45):
        S, e, u = oracles.random_covariance(rng, K), rng.normal(0.05, 0.1, K), np.full(K, max(0.25, 1.1 / K))
        e[0] = 0.2  # some w has eᵀw > 0
        np.testing.assert_allclose(oracles.min_variance(S, u), oracles.min_variance_cvxpy(S, u), atol=1e-6)
        found, fallback = oracles.max_sharpe(S, e, u)
        assert not fallback
        np.testing.assert_allclose(found, oracles.max_sharpe_cvxpy(S, e, u), atol=1e-6)


def test_two_uncorrelated_clusters_by_hand() -> None:
    S, free = np.diag([0.04, 0.01]), np.ones(2)
    np.testing.assert_allclose(oracles.min_variance(S, free), [0.2, 0.8], rtol=1e-14)
    np.testing.assert_allclose(oracles.min_variance(S, np.array([0.5, 0.6])), [0.4, 0.6], rtol=1e-14)
    np.testing.assert_allclose(oracles.max_sharpe(S, np.array([0.08, 0.01]), free)[0], [2 / 3, 1 / 3], rtol=1e-13)
    np.testing.assert_allclose(oracles.risk_parity(S, free)[0], [1 / 3, 2 / 3], rtol=1e-14)
    np.testing.assert_allclose(oracles.risk_parity(S, np.array([0.5, 0.6]))[0], [0.4, 0.6], rtol=1e-14)


def test_sharpe_falls_back_where_no_portfolio_earns() -> None:
    S, u = np.diag([0.04, 0.01, 0.02]), np.full(3, 0.5)
    w, fallback = oracles.max_sharpe(S, np.array([0.1, -0.2, -0.3]), u)  # at best 0.05 - 0.1
    assert fallback
    np.testing.assert_array_equal(w, oracles.min_variance(S, u))
    w, fallback = oracles.max_sharpe(S, np.array([0.21, -0.2, -0.3]), u)
    assert not fallback
    np.testing.assert_allclose(w, [0.5, 0.5, 0], atol=1e-12)


# Risk parity


def test_richard_roncalli_table_9() -> None:
    S = richard_roncalli()
    w, regularised = oracles.risk_parity(S, np.ones(8))
    assert not regularised
    published = [26.8306, 28.6769, 11.4095, 9.7985, 5.6135, 5.9029, 6.6560, 5.1121]
    np.testing.assert_allclose(100 * w, published, atol=5.1e-5)
    w, _ = oracles.risk_parity(S, np.full(8, 0.25))
    published = [25, 25, 13.6631, 10.6814, 6.2063, 6.5472, 7.2950, 5.6069]
    np.testing.assert_allclose(100 * w, published, atol=5.1e-5)
    volatility = np.sqrt(w @ S @ w)
    risk = w * (S @ w) / volatility**2
    np.testing.assert_allclose(100 * risk[2:], 13.767, atol=5.1e-4)
    assert np.ptp(risk[2:]) <= 1e-12
    assert 100 * volatility == pytest.approx(5.0958, abs=5.1e-5)


def test_risk_parity_is_the_barrier_problem_at_its_lambda() -> None:
    import cvxpy as cp

    rng = np.random.default_rng(7)
    for K in (3, 8, 15):
        S, u = oracles.random_covariance(rng, K), rng.uniform(1.1 / K, 2.5 / K, K)
        w, _ = oracles.risk_parity(S, u)
        lam = float(np.max(w * (S @ w)))
        y = cp.Variable(K)
        barrier = cp.quad_form(y, cp.psd_wrap(S / lam)) / 2 - cp.sum(cp.log(y))
        cp.Problem(cp.Minimize(barrier), [y <= u]).solve(solver="CLARABEL")
        np.testing.assert_allclose(w, y.value, atol=2e-5)


def test_capped_risk_parity_on_random_problems() -> None:
    rng = np.random.default_rng(8)
    for _ in range(60):
        K = int(rng.integers(2, 60))
        S, u = oracles.random_covariance(rng, K), rng.uniform(1.05 / K, 4 / K, K)
        w, regularised = oracles.risk_parity(S, u)
        risk = w * (S @ w)
        below = w < u
        assert not regularised
        assert w.sum() == pytest.approx(1, abs=1e-14)
        np.testing.assert_allclose(risk[below], risk.max(), rtol=1e-11)
        assert np.all(w <= u)


def test_full_caps_leave_no_choice() -> None:
    S, u = richard_roncalli(), np.full(8, 0.125)
    np.testing.assert_array_equal(oracles.risk_parity(S, u)[0], u)
    w, _ = oracles.risk_parity(S, u * (1 + 1e-9))
    np.testing.assert_allclose(w, u, rtol=1e-8)  # one cluster takes the slack of all eight
    assert w.sum() == pytest.approx(1, abs=1e-14)


def three_roots() -> tuple[np.ndarray, np.ndarray]:
    """(S, u) whose sum of w(lambda) reaches 1, falls below and reaches it again: the smallest lambda caps nobody."""
    correlation = np.array([[1, -0.4, -0.4, -0.9], [-0.4, 1, 0.8, 0], [-0.4, 0.8, 1, 0.1], [-0.9, 0, 0.1, 1]])
    volatility = np.array([0.1, 0.05, 0.4, 0.8])
    return correlation * np.outer(volatility, volatility), np.array([0.1, 2, 0.8, 0.3]) / 0.18027


def test_risk_parity_takes_the_smallest_of_three_lambdas() -> None:
    S, u = three_roots()
    sums, w = [], u / 4
    for lam in np.geomspace(2e-5, 8e-5, 400):
        w = oracles.barrier_weights(S, u, lam, w)
        sums.append(w.sum() - 1)
    assert sum(np.sign(a) != np.sign(b) for a, b in pairwise(sums)) == 3
    smallest, _ = oracles.risk_parity(S, u)
    np.testing.assert_allclose(smallest, oracles.risk_parity(S, np.full(4, 10.0))[0], rtol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
def test_units_do_not_matter(scale: float) -> None:
    rng = np.random.default_rng(9)
    S, u, e = oracles.random_covariance(rng, 12), np.full(12, 0.15), rng.normal(0.1, 0.1, 12)
    np.testing.assert_allclose(oracles.min_variance(scale * S, u), oracles.min_variance(S, u), atol=1e-13)
    np.testing.assert_allclose(oracles.max_sharpe(scale * S, e, u)[0], oracles.max_sharpe(S, e, u)[0], atol=1e-12)
    np.testing.assert_allclose(oracles.risk_parity(scale * S, u)[0], oracles.risk_parity(S, u)[0], rtol=1e-12)


def test_perfectly_opposed_clusters_are_regularised() -> None:
    S = np.array([[0.04, -0.02, 0.0], [-0.02, 0.01, 0.0], [0.0, 0.0, 0.09]])  # z = (1, 2, 0) is riskless
    u = np.array([0.5, 0.8, 0.5])  # and reaches its caps at any lambda: 0.4 + 0.8 > 1
    assert oracles.has_nonnegative_null_vector(S)
    w, regularised = oracles.risk_parity(S, u)
    assert regularised
    assert w.sum() == pytest.approx(1, abs=1e-14)
    shifted = oracles.risk_parity_covariance(S, True)
    assert oracles.gap_risk_parity(shifted, u, w) <= oracles.rounding_floor(shifted, None, None, w)
    np.testing.assert_allclose(w, [1 / 3, 2 / 3, 0], atol=1e-4)


def test_null_vectors_of_both_signs_are_not_regularised() -> None:
    # Equal clusters: z = (1, -1) is null but no long-only portfolio is riskless.
    assert not oracles.has_nonnegative_null_vector(np.full((2, 2), 0.04))
    w, regularised = oracles.risk_parity(np.full((2, 2), 0.04), np.ones(2))
    assert not regularised
    np.testing.assert_allclose(w, [0.5, 0.5], rtol=1e-12)
    assert not oracles.has_nonnegative_null_vector(np.array([[0.04]]))
    assert oracles.has_nonnegative_null_vector(np.zeros((1, 1)))
    assert oracles.has_nonnegative_null_vector(np.diag([0.0, 0.04]))


# Barbell


def test_number_of_aggressors() -> None:
    counts = {1: 0, 2: 1, 3: 1, 4: 1, 5: 1, 6: 2, 7: 3, 8: 4, 9: 5, 30: 5}
    assert {K: oracles.n_aggressors_of(K) for K in counts} == counts
    assert oracles.n_aggressors_of(30, 7) == 7
    assert oracles.n_aggressors_of(30, 0) == 0


def test_aggressors_and_their_ties() -> None:
    labels = np.array([0, 1, 1, 2, 0, 3, 4, 5])
    scores = np.array([0.5, 1.5, 1.5, 0.9, 0.9, 0.1, 0.2, 0.3])
    assets, clusters, fewer = oracles.aggressors(scores, labels, 2)  # K = 6: two
    np.testing.assert_array_equal(clusters, [1, 0])  # clusters 0 and 2 tie at 0.9: the first
    np.testing.assert_array_equal(assets, [1, 4])  # assets 1 and 2 tie at 1.5: the first
    assert not fewer
    assert oracles.aggressors(scores, labels, 5)[2]
    assets, clusters, fewer = oracles.aggressors(scores[:1], labels[:1])
    assert (len(assets), len(clusters), fewer) == (0, 0, True)


def test_antifragility_by_hand() -> None:
    x = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 1.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    # Skewness 2, 0, -2; the quantile of the first is 0.85, of the others 1, which nothing exceeds.
    np.testing.assert_allclose(oracles.antifragility(x), [2.0, 0.5, 0.0], atol=1e-15)
    np.testing.assert_array_equal(oracles.minmax(np.array([3.0, 3.0])), [0.0, 0.0])


# One universe


def assert_same(a: oracles.Allocation, b: oracles.Allocation, columns: np.ndarray, tolerance: float = 1e-9) -> None:
    """`b` is `a` restricted to the columns."""
    assert a.status == b.status
    np.testing.assert_array_equal(a.labels[columns], b.labels)
    np.testing.assert_array_equal(a.aggressors[columns], b.aggressors)
    np.testing.assert_allclose(a.antifragility[columns], b.antifragility, atol=tolerance)
    for profile in a.weights:
        np.testing.assert_allclose(a.weights[profile][columns], b.weights[profile], atol=tolerance)
        np.testing.assert_array_equal(
            a.lead_assets[profile][: a.n_clusters], columns[b.lead_assets[profile][: b.n_clusters]]
        )
        assert a.volatility[profile] == pytest.approx(b.volatility[profile], rel=tolerance)
        assert a.expected_return[profile] == pytest.approx(b.expected_return[profile], rel=tolerance)


@pytest.mark.parametrize(("T", "N", "n_clusters"), [(252, 20, 8), (252, 60, 15), (60, 80, 70), (252, 3, 2), (30, 1, 1)])
def test_allocation_keeps_its_promises(T: int, N: int, n_clusters: int) -> None:
    for seed in range(3):
        returns = oracles.random_market(np.random.default_rng(seed), T, N, n_clusters)
        result = oracles.allocate(returns, risk_free_rate=0.01)
        covariance = 252 * np.cov(returns, rowvar=False).reshape(N, N)
        for profile, x in result.weights.items():
            problem = result.problems[profile]
            assert x.min() >= 0
            assert x.sum() == pytest.approx(1, abs=1e-14)
            assert problem.gap(problem.w) <= max(1e-10, problem.floor(problem.w))
            assert result.volatility[profile] == pytest.approx(np.sqrt(x @ covariance @ x), rel=1e-10)
            assert result.expected_return[profile] == pytest.approx(252 * returns.mean(axis=0) @ x, rel=1e-9)
            assert result.risk_contributions[profile].sum() == pytest.approx(1, abs=1e-13)
            totals = np.bincount(result.labels, x, minlength=N)
            np.testing.assert_allclose(result.cluster_weights[profile], totals, atol=1e-15)
            core = x[~result.aggressors] / 0.9 if profile == "barbell" and result.aggressors.any() else x
            assert core.max() <= problem.beta * (1 + 1e-14)
            assert np.all(result.lead_assets[profile][result.n_clusters :] == -1)


def test_barbell_by_its_definition() -> None:
    returns = oracles.random_market(np.random.default_rng(3), 252, 40, 12)
    result = oracles.allocate(returns)
    x, chosen = result.weights["barbell"], np.flatnonzero(result.aggressors)
    assert result.n_clusters == 12
    assert "FEWER_AGGRESSORS" not in result.status["barbell"]
    np.testing.assert_allclose(x[chosen], 0.02)
    aggressive = result.labels[chosen]
    assert len(np.unique(aggressive)) == 5
    members = np.isin(result.labels, aggressive)
    assert not x[members & ~result.aggressors].any()
    best = [result.antifragility[result.labels == k].max() for k in range(12)]
    assert set(np.argsort(best)[-5:]) == set(aggressive)
    np.testing.assert_array_equal(result.lead_assets["barbell"][aggressive], chosen)
    # The core is risk parity of the universe without those clusters' assets (inverse variance is by cluster).
    alone = oracles.allocate(returns[:, ~members], profiles=("risk_parity",))
    np.testing.assert_allclose(x[~members], 0.9 * alone.weights["risk_parity"], atol=1e-12)


def test_barbell_of_one_cluster_is_all_core() -> None:
    result = oracles.allocate(oracles.random_market(np.random.default_rng(0), 100, 6, 1))
    assert result.n_clusters == 1
    assert not result.aggressors.any()
    assert result.status["barbell"] == {"FEWER_AGGRESSORS", "CLUSTER_CAP_RELAXED"}
    np.testing.assert_allclose(result.weights["barbell"], result.weights["risk_parity"], atol=1e-15)


@pytest.mark.parametrize("seed", range(3))
def test_counts_equal_the_materialised_sample(seed: int) -> None:
    returns, counts = counted_market(seed, T=150, N=24)
    weighted = oracles.allocate(returns, observation_weights=counts)
    assert_same(weighted, oracles.allocate(returns[oracles.expand(counts)]), np.arange(24))


def test_masked_columns_are_never_read() -> None:
    returns = oracles.random_market(np.random.default_rng(1), 120, 20, 7)
    mask = np.ones(20, bool)
    mask[[0, 5, 19]] = False
    hidden = np.where(mask, returns, np.nan)
    result = oracles.allocate(hidden, asset_mask=mask)
    assert_same(result, oracles.allocate(returns[:, mask]), np.flatnonzero(mask))
    assert np.all(result.labels[~mask] == -1)
    assert not result.antifragility[~mask].any()


def test_constant_columns_leave() -> None:
    returns = oracles.random_market(np.random.default_rng(2), 120, 12, 6)
    flat = returns.copy()
    flat[:, 4] = 0.1  # whose computed variance need not be 0
    result = oracles.allocate(flat)
    others = np.delete(np.arange(12), 4)
    assert all("ASSET_DROPPED" in flags for flags in result.status.values())
    for flags in result.status.values():
        flags.discard("ASSET_DROPPED")
    assert_same(result, oracles.allocate(returns[:, others]), others)
    assert result.labels[4] == -1
    assert result.weights["min_variance"][4] == 0


def test_invalid_universes() -> None:
    returns = oracles.random_market(np.random.default_rng(3), 10, 3, 2)
    broken = returns.copy()
    broken[4, 1] = np.inf
    one_row = np.zeros(10)
    one_row[0] = 5  # n = 5, but every asset is constant
    cases = [
        oracles.allocate(broken),
        oracles.allocate(returns, observation_weights=np.full(10, 0.19)),
        oracles.allocate(returns, observation_weights=np.zeros(10)),
        oracles.allocate(returns, observation_weights=one_row),
        oracles.allocate(returns, asset_mask=np.zeros(3, bool)),
        oracles.allocate(np.ones((10, 3))),
    ]
    for result in cases:
        assert all(flags == {"INVALID"} for flags in result.status.values())
        assert all(np.isnan(x).all() for x in result.weights.values())
        assert np.all(result.labels == -1)
        assert result.n_clusters == 0
    weights = np.ones(10)
    weights[4] = 0
    assert oracles.allocate(broken, observation_weights=weights).status["min_variance"] != {"INVALID"}


def test_opposed_assets_have_a_flag_and_finite_weights() -> None:
    returns = oracles.random_market(np.random.default_rng(4), 120, 6, 6)
    opposed = np.column_stack([returns, -returns[:, 0]])
    result = oracles.allocate(opposed)
    assert "RISK_REGULARIZED" in result.status["risk_parity"]
    # In one cluster they make a synthetic return without variance.
    absolute = oracles.allocate(opposed, distance="absolute")
    assert absolute.labels[0] == absolute.labels[6]
    assert absolute.cluster_weights["risk_parity"][0] == pytest.approx(0.25)
    for allocation in (result, absolute, oracles.allocate(opposed[:, [0, 6]], distance="absolute")):
        for x in allocation.weights.values():
            assert x.sum() == pytest.approx(1, abs=1e-14)


def test_sharpe_fallback_in_a_universe() -> None:
    returns = oracles.random_market(np.random.default_rng(5), 252, 20, 8)
    result = oracles.allocate(returns, risk_free_rate=10.0)
    assert "SHARPE_FALLBACK" in result.status["max_sharpe"]
    assert "SHARPE_FALLBACK" not in result.status["min_variance"]
    np.testing.assert_array_equal(result.weights["max_sharpe"], result.weights["min_variance"])


def test_settings() -> None:
    returns = oracles.random_market(np.random.default_rng(6), 252, 20, 8)
    config = SimpleNamespace(profiles=["risk_parity"], cluster_cap=0.5, linkage="ward", criterion="maxclust")
    result = oracles.allocate(returns, config, max_clusters=4)
    assert list(result.weights) == ["risk_parity"]
    assert result.n_clusters == 4
    assert result.problems["risk_parity"].kappa == 0.5
    with pytest.raises(TypeError, match="unknown settings"):
        oracles.allocate(returns, cap=0.5)
    with pytest.raises(ValueError, match="unknown profile"):
        oracles.allocate(returns, profiles=("equal",))


def test_random_market_has_the_clusters_it_was_asked_for() -> None:
    for N, n_clusters in ((20, 8), (100, 30), (250, 60)):
        returns = oracles.random_market(np.random.default_rng(N), 252, N, n_clusters)
        _, covariance = oracles.moments(returns)
        labels = oracles.clusters(oracles.correlation_distance(covariance))
        assert labels.max() + 1 == n_clusters
        assert len(np.unique(returns)) == returns.size
