"""The expert's loop does the job that it is timed on: against the oracle, universe by universe, and the paper."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import oracles
import pytest

import jaxalloc as ja

pytest.importorskip("daqp")
pytest.importorskip("numba")

from rivals import expert, solvers
from rivals.common import PROFILES, draw

T = 252
N_UNIVERSES = 50


def stocks(n_assets: int) -> np.ndarray:
    """Returns that cluster as single stocks do: correlations of 0.35 and, in a few sectors, about the threshold."""
    rng = np.random.default_rng(5)
    return oracles.random_market(rng, T, n_assets, n_assets // 2, inside=0.68, across=0.35)


PANELS = {"stocks": lambda: stocks(20), "embedded": lambda: ja.datasets.synthetic_market(40, T).to_numpy()}


@pytest.fixture(scope="module", params=list(PANELS))
def job(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray, list[oracles.Allocation]]:
    """A panel, counts of its universes and what the oracle makes of them."""
    panel = PANELS[request.param]()
    counts = draw(N_UNIVERSES, T, 3, 0)
    return panel, counts, [oracles.allocate(panel, observation_weights=c) for c in counts]


@pytest.mark.parametrize("plain", [False, True], ids=["by columns", "plain"])
def test_the_experts_loop_is_exact(job, plain):
    panel, counts, expected = job
    weights, labels, leads = expert.Engine(panel, plain=plain).allocate(counts)
    np.testing.assert_allclose(weights.sum(axis=2), 1, rtol=0, atol=1e-12)
    assert (weights >= 0).all()
    for b, oracle in enumerate(expected):
        np.testing.assert_array_equal(labels[b], oracle.labels)
        for p, profile in enumerate(PROFILES):
            where = f"universe {b}, {profile}"
            x, problem = weights[b, p], oracle.problems[profile]
            np.testing.assert_allclose(x, oracle.weights[profile], rtol=0, atol=1e-6, err_msg=where)
            np.testing.assert_array_equal(leads[b, p], oracle.lead_assets[profile], where)
            share = 0.9 if profile == "barbell" else 1.0
            core = np.isin(labels[b], problem.clusters)
            w = np.bincount(labels[b], x, minlength=oracle.n_clusters)[problem.clusters] / share
            assert problem.gap(w) <= max(1e-9, problem.floor(w)), where
            assert (w <= problem.u * (1 + 4 * oracles.EPS)).all(), where
            assert (x[core] <= share * problem.beta * (1 + 4 * oracles.EPS)).all(), where


def test_what_the_universes_try(job):
    """A cap binds somewhere, and more than one size of cluster occurs: else the test above says little."""
    _, _, expected = job
    problems = [oracle.problems for oracle in expected]
    assert any((p["max_sharpe"].w >= p["max_sharpe"].u * (1 - 1e-12)).any() for p in problems)
    assert any(np.bincount(oracle.labels).max() > 1 for oracle in expected)


def paper() -> np.ndarray:
    """Covariance of Richard and Roncalli (2019), table 9."""
    lower = (
        """80 | 60 40 | -20 -20 50 | -10 -20 30 60 | -20 -10 20 60 90 | -20 -20 20 50 70 60 | -20 -20 30 60 70 70 70"""
    )
    correlation = np.eye(8)
    for i, row in enumerate(lower.split("|"), 1):
        correlation[i, :i] = correlation[:i, i] = np.array(row.split(), float) / 100
    deviation = np.array([5, 5, 7, 10, 15, 15, 15, 18]) / 100
    return correlation * np.outer(deviation, deviation)


@pytest.mark.parametrize(
    ("cap", "weights"),
    [
        (1.0, [26.8306, 28.6769, 11.4095, 9.7985, 5.6135, 5.9029, 6.6560, 5.1121]),
        (0.25, [25, 25, 13.6631, 10.6814, 6.2063, 6.5472, 7.2950, 5.6069]),
    ],
)
def test_risk_parity_of_the_paper(cap, weights):
    S = paper()
    deviation = np.sqrt(np.diag(S))
    w, _ = solvers.bounded_risk_parity(S / np.outer(deviation, deviation), deviation, np.full(8, cap))
    np.testing.assert_allclose(100 * w, weights, rtol=0, atol=1e-4)
    assert oracles.gap_risk_parity(S, np.full(8, cap), w) <= 1e-9


@pytest.mark.parametrize("K", [2, 5, 30, 80])
def test_profiles_of_random_covariances(K):
    """Correlations of both signs, more clusters than the first quadratic program holds, and caps that bind."""
    for seed in range(20):
        rng = np.random.default_rng([7, K, seed])
        S = oracles.random_covariance(rng, K)
        e = rng.normal(0.05, 0.1, K)
        u = np.minimum(1.0, rng.uniform(1.2, 4.0, K) * max(1 / K, 0.05))
        u *= max(1.0, 1.1 / u.sum())
        deviation = np.sqrt(np.diag(S))
        C = S / np.outer(deviation, deviation)
        w = expert.min_variance(C, deviation, u, expert.VARIANCE_START)
        assert oracles.gap_min_variance(S, u, w) <= 1e-9
        w, sweeps = solvers.bounded_risk_parity(C, deviation, u)
        assert sweeps >= 0
        assert oracles.gap_risk_parity(S, u, w) <= 1e-9
        assert abs(w.sum() - 1) <= 1e-12
        w = expert.max_sharpe(C, deviation, e, u, expert.SHARPE_START, expert.SHARPE_CAPS)
        if oracles.lp_minimum(-e, u) >= 0:
            assert w is None
        else:
            assert oracles.gap_max_sharpe(S, e, u, w) <= 1e-9
            assert abs(w.sum() - 1) <= 1e-12
            assert (w <= u).all()


@pytest.fixture(scope="module")
def pool() -> Iterator[expert.Tuned]:
    rival = expert.Tuned(stocks(12), 2)
    yield rival
    rival.close()


def test_a_pool_gives_what_one_process_gives(pool):
    """The draw depends on the seed alone; weights come back in the order of the universes."""
    weights, leads = (np.concatenate(parts) for parts in zip(*pool.stream(150, 4), strict=True))
    assert weights.shape == leads.shape == (150, 4, 12)
    counts = np.concatenate([draw(n, T, 4, chunk) for chunk, n in enumerate((64, 64, 22))])
    np.testing.assert_array_equal(counts.sum(axis=1), T)
    np.testing.assert_array_equal(weights, np.concatenate([part for part, _ in pool.stream(150, 4)]))
    again = pool.allocate(counts)
    np.testing.assert_array_equal(leads, again[2])
    alone = expert.Engine(pool.panel).allocate(counts)
    np.testing.assert_allclose(weights, again[0], rtol=0, atol=1e-13)
    for found, expected in zip(again, alone, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)
    assert len(np.unique(counts, axis=0)) == 150


@pytest.mark.parametrize("module", ["original", "naive"])
def test_slower_rivals_find_the_same_clusters(module):
    """And about the same risk parity, whose caps do not bind here: these rivals stop early."""
    panel, counts = stocks(12), draw(2, T, 6, 0)
    if module == "original":
        from rivals import original

        weights, labels, _ = original.Engine(panel).allocate(counts)
    else:
        from rivals import naive

        weights, labels, _ = naive.Naive(panel, chunk=2).allocate(counts)
    exact = expert.Engine(panel).allocate(counts)
    np.testing.assert_array_equal(labels, exact[1])
    np.testing.assert_allclose(weights.sum(axis=2), 1, atol=1e-4)
    np.testing.assert_allclose(weights[:, 1], exact[0][:, 1], atol=0.02)
    np.testing.assert_array_equal(weights[:, 3] > 0, exact[0][:, 3] > 0)
