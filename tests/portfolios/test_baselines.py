"""Profiles that weigh the assets themselves: against plain second forms, skfolio's, and what must hold of any."""

from __future__ import annotations

import html
import math
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
import oracles
import pandas as pd
import pytest
from baseline_oracles import BASELINES, BOUNDED, herc_of, weights_of
from baseline_oracles import nco as plain_nco
from helpers import (
    TOLERANCES,
    ULPS,
    Array,
    N,
    Tolerance,
    assert_invalid,
    bits,
    count_compilations,
    host,
    market,
    one,
    same_bits,
    spoil,
    universes,
)
from skfolio.cluster import HierarchicalClustering, LinkageMethod
from skfolio.optimization import HierarchicalEqualRiskContribution, MeanRisk, NestedClustersOptimization

import jaxalloc as ja
from jaxalloc.engine.batch import allocate_batch
from jaxalloc.engine.single import allocate
from jaxalloc.figures.canvas import colour_of
from jaxalloc.portfolios.profiles import PROFILES
from jaxalloc.portfolios.result import PROFILE_FIELDS, RESULT_FIELDS, Allocation
from jaxalloc.report.words import sentence
from jaxalloc.settings.config import ASSET_PROFILES, CLUSTER_PROFILES, PROFILE_NAMES, AllocationConfig

CONFIG = AllocationConfig(profiles=BASELINES)
COUNT = 96
both_precisions = pytest.mark.parametrize(
    "dtype", [pytest.param(np.float32, marks=pytest.mark.slow), np.float64], indirect=True
)


def test_the_registry_holds_the_names_of_the_settings_and_the_oracle_knows_them() -> None:
    assert tuple(PROFILES) == PROFILE_NAMES == CLUSTER_PROFILES + ASSET_PROFILES
    assert AllocationConfig().profiles == CLUSTER_PROFILES
    assert [name for name in PROFILES if PROFILES[name].clustered] == list(CLUSTER_PROFILES)
    assert set(BASELINES) == set(ASSET_PROFILES)
    assert len({profile.about for profile in PROFILES.values()}) == len(PROFILES)


# Whole portfolios


@cache
def batch_of(precision: int) -> Allocation:
    with jax.enable_x64(precision == 64):
        returns, weights, masks = (part[:COUNT] for part in universes())
        return allocate_batch(returns, CONFIG, weights, masks)


def of(dtype: Any) -> Allocation:
    return batch_of(64 if dtype is np.float64 else 32)


@cache
def answers() -> list[oracles.Allocation]:
    """The oracle's estimates: active assets, moments and clusters."""
    clustered = CONFIG.replace(profiles=("min_variance",))
    rows = zip(*(part[:COUNT] for part in universes()), strict=True)
    return [oracles.allocate(x, clustered, c, a) for x, c, a in rows]


def asset_bound(config: AllocationConfig, n_active: int) -> float:
    return max(float(config.asset_cap), float(config.slack) / n_active)


def falls_back(answer: oracles.Allocation, bound: float, rate: float = 0.0) -> bool:
    """Whether no portfolio within the bounds has a positive excess return."""
    return oracles.lp_minimum(rate - answer.mean, np.full(len(answer.mean), bound)) >= 0


def gap_of(profile: str, answer: oracles.Allocation, x: Array, bound: float, eps: float) -> tuple[float, float]:
    """Optimality gap of the weights of the active assets, and its rounding floor."""
    S, u = answer.covariance, np.full(len(x), bound)
    if profile == "asset_min_variance" or (profile == "asset_max_sharpe" and falls_back(answer, bound)):
        return oracles.gap_min_variance(S, u, x), oracles.rounding_floor(S, None, None, x, eps)
    if profile == "asset_risk_parity":
        return oracles.gap_risk_parity(S, u, x, eps), oracles.rounding_floor(S, None, None, x, eps)
    e = answer.mean if profile == "asset_max_sharpe" else np.sqrt(np.diag(S))
    return oracles.gap_max_sharpe(S, e, u, x), oracles.rounding_floor(S, e, e, x, eps)


def assert_direct(found: Allocation, config: AllocationConfig, tol: Tolerance, where: str) -> None:
    """What holds of any valid universe's direct portfolios, whatever the data."""
    labels = found.cluster_labels
    active = labels >= 0
    for p, profile in enumerate(config.profiles):
        told = f"{where}: {profile}"
        x = found.weights[p].astype(float)
        bound = asset_bound(config, int(active.sum())) if profile in BOUNDED else 1.0
        assert abs(math.fsum(x) - 1) <= tol.total, told
        assert (x >= 0).all(), told
        assert not x[~active].any(), told
        assert (x <= bound * (1 + ULPS * tol.eps)).all(), told
        assert found.asset_bound[p] == pytest.approx(bound, rel=tol.rtol), told
        assert found.cluster_bound[p] == 1, told
        totals = np.bincount(labels[active], x[active], minlength=len(x))
        np.testing.assert_allclose(found.cluster_weights[p], totals, atol=8 * tol.eps, err_msg=told)
        leads, n_clusters = found.lead_assets[p], int(found.n_clusters)
        assert (leads[n_clusters:] == -1).all(), told
        assert (labels[leads[:n_clusters]] == np.arange(n_clusters)).all(), told
        for k, lead in enumerate(leads[:n_clusters]):
            assert x[lead] == x[labels == k].max(), told
            assert lead == np.flatnonzero((labels == k) & (x == x[lead]))[0], told
        assert abs(found.risk_contributions[p].astype(float).sum() - 1) <= 100 * tol.total, told
        assert np.isfinite(found.volatility[p]), told
        if profile not in BOUNDED and profile != "nco":
            assert found.optimality_gap[p] == 0, told
            assert found.iterations[p] == 0, told
        assert "NOT_CONVERGED" not in bits(found.status[p]), told
        assert not found.aggressors.any(), told


@both_precisions
def test_universes_equal_the_oracle_s(dtype: Any, tol: Tolerance) -> None:
    batch, exact = of(dtype), dtype is np.float64
    near_ties, fallbacks = 0, 0
    for i, answer in enumerate(answers()):
        found, where = one(batch, i), f"universe {i}"
        if any("INVALID" in flags for flags in answer.status.values()):
            assert_invalid(found, where)
            continue
        assert_direct(found, CONFIG, tol, where)
        labels = answer.labels[answer.active]
        bound = asset_bound(CONFIG, len(labels))
        if not exact and not np.array_equal(found.cluster_labels, answer.labels):
            near_ties += 1
            continue
        for p, profile in enumerate(BASELINES):
            told, x = f"{where}: {profile}", found.weights[p][answer.active].astype(float)
            expected = weights_of(profile, answer.covariance, answer.mean, labels, bound=bound)
            if profile in BOUNDED:
                gap, floor = gap_of(profile, answer, x, bound, tol.eps)
                assert gap <= max(tol.gap, floor), f"{told}: gap {gap:.2e}, floor {floor:.2e}"
            atol = tol.weights * (1 if exact else 20 if profile in BOUNDED or profile == "nco" else 1)
            if profile == "hrp" and not exact and np.abs(x - expected).max() > atol:
                near_ties += 1  # of heights in the tree: another order of its leaves
                continue
            np.testing.assert_allclose(x, expected, atol=atol, err_msg=told)
            flags = bits(found.status[p]) - {"ASSET_DROPPED"}
            fallback = profile == "asset_max_sharpe" and falls_back(answer, bound)
            assert flags == ({"SHARPE_FALLBACK"} if fallback else set()), told
            fallbacks += fallback
            assert ("ASSET_DROPPED" in bits(found.status[p])) == ("ASSET_DROPPED" in answer.status["min_variance"])
    assert near_ties <= 2
    assert fallbacks >= 1


def test_statistics_are_the_portfolio_s(x64: Any) -> None:
    batch = of(x64)
    for i, answer in enumerate(answers()[:24]):
        found = one(batch, i)
        x = found.weights[:, answer.active]
        np.testing.assert_allclose(found.volatility**2, np.einsum("pi,ij,pj->p", x, answer.covariance, x), rtol=1e-9)
        np.testing.assert_allclose(found.expected_return, x @ answer.mean, atol=1e-9)
        marginal = x * (x @ answer.covariance)
        shares = marginal / marginal.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(found.risk_contributions[:, answer.active], shares, atol=1e-8)


def test_the_tests_universes_are_of_many_kinds(x64: Any) -> None:
    batch = of(x64)
    assert len(np.unique(batch.n_clusters)) >= 10
    assert (batch.status[:, 0] == 1).sum() >= 2  # INVALID
    caps = batch.weights[:, list(BASELINES).index("asset_min_variance")].max(axis=1)
    assert np.nanmax(caps) > 0.2 + 1e-9  # few assets: the bound is wider there


# skfolio's

MOST = 4


@cache
def samples() -> Array:
    return np.stack([market([80, i], 2 + i % 8, inside=0.5 + 0.05 * (i % 8)) for i in range(200)])


@cache
def maxclust(profiles: tuple[str, ...]) -> Allocation:
    config = AllocationConfig(profiles=profiles, criterion="maxclust", max_clusters=MOST)
    with jax.enable_x64(True):
        return allocate_batch(samples(), config)


def trees() -> HierarchicalClustering:
    return HierarchicalClustering(max_clusters=MOST, linkage_method=LinkageMethod.AVERAGE)


def test_herc_equals_skfolio_s_on_200_universes() -> None:
    found = maxclust(("herc", "nco"))
    model = HierarchicalEqualRiskContribution(hierarchical_clustering_estimator=trees())
    for i, x in enumerate(samples()):
        expected = np.asarray(model.fit(x).weights_)
        np.testing.assert_allclose(found.weights[i, 0], expected, atol=1e-6)


@pytest.mark.filterwarnings("ignore:Solution may be inaccurate")  # its solver, near the tolerance asked of it
def test_nco_equals_skfolio_s() -> None:
    found = maxclust(("herc", "nco"))
    tight = {"tol_gap_abs": 1e-9, "tol_gap_rel": 1e-9, "tol_feas": 1e-9}
    minimum = MeanRisk(solver="CLARABEL", solver_params=tight)
    model = NestedClustersOptimization(
        inner_estimator=minimum, outer_estimator=minimum, clustering_estimator=trees(), cv="ignore"
    )
    for i, x in list(enumerate(samples()))[::3]:
        expected = np.asarray(model.fit(100 * x).weights_)  # in per cent: the solver's tolerances are absolute
        np.testing.assert_allclose(found.weights[i, 1], expected, atol=5e-5)


# Settings


@pytest.mark.parametrize(
    "linkage", [*(pytest.param(x, marks=pytest.mark.slow) for x in ("single", "complete")), "ward"]
)
def test_trees_of_every_linkage(linkage: str, x64: Any) -> None:
    config = AllocationConfig(profiles=("hrp", "herc"), linkage=linkage, criterion="maxclust", max_clusters=5)
    config = config.replace(distance="absolute" if linkage == "complete" else "correlation")
    x = samples()[:64]
    found = allocate_batch(x, config)
    for i in range(len(x)):
        answer = oracles.allocate(x[i], config.replace(profiles=("min_variance",)))
        for p, profile in enumerate(config.profiles):
            expected = weights_of(
                profile,
                answer.covariance,
                answer.mean,
                answer.labels,
                bound=1,
                linkage=linkage,
                kind=config.distance,
            )
            np.testing.assert_allclose(found.weights[i, p], expected, rtol=1e-8, err_msg=f"{i} {profile}")


def test_bounds_and_rates_are_obeyed(x64: Any) -> None:
    config = CONFIG.replace(asset_cap=0.1, slack=1.5, risk_free_rate=0.05, cluster_cap=0.1)
    x = samples()[:16]
    found = allocate_batch(x, config)
    for i in range(len(x)):
        answer = oracles.allocate(x[i], config.replace(profiles=("min_variance",)))
        assert_direct(one(found, i), config, TOLERANCES[x64], f"universe {i}")
        for p, profile in enumerate(config.profiles):
            expected = weights_of(profile, answer.covariance, answer.mean, answer.labels, bound=0.125, rate=0.05)
            np.testing.assert_allclose(found.weights[i, p], expected, atol=1e-6, err_msg=f"{i} {profile}")


@pytest.mark.parametrize("linkage", ["average", "single", "complete"])
def test_given_clusters_are_nested_and_joined(linkage: str, x64: Any) -> None:
    nested = linkage == "average"
    config = AllocationConfig(profiles=("nco", "herc") if nested else ("herc",), linkage=linkage)
    for seed in range(6):
        x = samples()[seed]
        labels = np.random.default_rng(seed).integers(0, 5, N)
        found = host(allocate(x, config, clusters=labels))
        covariance = 252 * oracles.moments(x)[1]
        ours = oracles.relabel(labels)
        np.testing.assert_array_equal(found.cluster_labels, ours)
        np.testing.assert_allclose(found.weights[-1], herc_of(covariance, ours, linkage), rtol=1e-9)
        if nested:
            np.testing.assert_allclose(found.weights[0], plain_nco(covariance, ours), atol=1e-7)


# Together with the others, and in company


MIXED = AllocationConfig(profiles=("hrp", "barbell", "inverse_variance"))


@pytest.mark.slow
def test_clustered_profiles_keep_their_bits_beside_direct_ones(x64: Any) -> None:
    returns, weights, masks = (part[:48] for part in universes())
    found = allocate_batch(returns, MIXED, weights, masks)
    clustered = allocate_batch(returns, AllocationConfig(profiles=("barbell",)), weights, masks)
    direct = jax.tree.map(lambda leaf: leaf[:48], of(x64))
    assert found.aggressors.any()
    for name in RESULT_FIELDS:
        ours, alone = getattr(found, name), getattr(clustered, name)
        mine = ours[:, 1:2] if name in PROFILE_FIELDS else ours
        assert mine.tobytes() == alone.tobytes(), name
    for p, profile in ((0, "hrp"), (2, "inverse_variance")):
        i = BASELINES.index(profile)
        np.testing.assert_array_equal(found.status[:, p], direct.status[:, i])
        np.testing.assert_array_equal(found.lead_assets[:, p], direct.lead_assets[:, i])
        for name in ("weights", "cluster_weights", "asset_bound", "risk_contributions"):
            np.testing.assert_allclose(getattr(found, name)[:, p], getattr(direct, name)[:, i], atol=1e-12)


@both_precisions
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_order_batch_and_chunk_change_no_bit(seed: int, dtype: Any) -> None:
    returns, weights, masks = universes()
    index = np.random.default_rng(seed).permutation(COUNT)[: (COUNT, 29)[seed]]
    found = allocate_batch(returns[index], CONFIG, weights[index], masks[index], chunk_size=(64, 1)[seed])
    assert same_bits(found, jax.tree.map(lambda leaf: leaf[index], of(dtype))) == []


@both_precisions
def test_invalid_neighbours_change_no_bit(dtype: Any) -> None:
    returns, weights, masks = (part[:COUNT].copy() for part in universes())
    bad = np.arange(0, COUNT, 3)
    for i in bad:
        spoil(int(i) % 5, returns[i], weights[i], masks[i])
    found = allocate_batch(returns, CONFIG, weights, masks)
    rest = np.setdiff1d(np.arange(COUNT), bad)
    assert same_bits(*(jax.tree.map(lambda leaf: leaf[rest], batch) for batch in (found, of(dtype)))) == []
    for i in bad:
        assert_invalid(one(found, int(i)))


@both_precisions
def test_a_second_call_compiles_nothing(dtype: Any) -> None:
    of(dtype)
    returns, weights, masks = universes()
    with count_compilations() as compiled:
        allocate_batch(returns[40:], CONFIG.replace(asset_cap=0.4, risk_free_rate=0.01), weights[40:], masks[40:])
        allocate_batch(returns[:3], CONFIG, weights[:3], masks[:3])
    assert compiled.count == 0


@pytest.mark.parametrize("config", [pytest.param(MIXED, marks=pytest.mark.slow), CONFIG], ids=["mixed", "direct"])
def test_progress_counts_every_universe_once(config: AllocationConfig, x64: Any) -> None:
    returns, weights, masks = (part[:48] for part in universes())
    told: list[int] = []
    allocate_batch(returns, config, weights, masks, progress=told.append)
    assert sum(told) == 48


@pytest.mark.slow
def test_one_universe_equals_the_batch_s(x64: Any) -> None:
    returns, weights, masks = universes()
    for i in (0, 9, 17, 40, 30):
        found, member = host(allocate(returns[i], CONFIG, weights[i], masks[i])), one(of(x64), i)
        np.testing.assert_array_equal(found.status, member.status)
        np.testing.assert_array_equal(found.lead_assets, member.lead_assets)
        np.testing.assert_allclose(found.weights, member.weights, atol=1e-7)


# Edges


@pytest.mark.parametrize("n", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 3))])
def test_the_smallest_universes(n: int, x64: Any) -> None:
    x, tol = samples()[:8, :, :n], TOLERANCES[x64]
    found = allocate_batch(x, CONFIG)
    for i in range(len(x)):
        assert_direct(one(found, i), CONFIG, tol, f"universe {i}")
        answer = oracles.allocate(x[i], CONFIG.replace(profiles=("min_variance",)))
        for p, profile in enumerate(BASELINES):
            expected = weights_of(profile, answer.covariance, answer.mean, answer.labels, bound=asset_bound(CONFIG, n))
            np.testing.assert_allclose(found.weights[i, p], expected, atol=tol.weights, err_msg=profile)


def test_one_cluster_is_the_whole(x64: Any) -> None:
    x = samples()[0]
    found = one(allocate_batch(x[None], CONFIG.replace(distance_threshold=1.0)), 0)
    assert found.n_clusters == 1
    by_name = dict(zip(BASELINES, found.weights, strict=True))
    np.testing.assert_allclose(by_name["herc"], by_name["inverse_variance"], rtol=1e-12)
    covariance = 252 * oracles.moments(x)[1]
    np.testing.assert_allclose(by_name["nco"], oracles.min_variance(covariance, np.ones(N)), atol=1e-7)


def test_singletons_are_minimum_variance_and_herc_splits_them(x64: Any) -> None:
    x = samples()[1]
    found = one(allocate_batch(x[None], CONFIG.replace(distance_threshold=0.0)), 0)
    assert found.n_clusters == N
    by_name = dict(zip(BASELINES, found.weights, strict=True))
    covariance = 252 * oracles.moments(x)[1]
    np.testing.assert_allclose(by_name["nco"], oracles.min_variance(covariance, np.ones(N)), atol=1e-7)


@both_precisions
def test_copies_and_opposites_keep_the_promises(dtype: Any, tol: Tolerance) -> None:
    x = samples()[:8].copy()
    x[:, :, 6:] = 2 * x[:, :, :6]  # perfectly correlated pairs
    x[4:, :, 11] = -x[4:, :, 0]  # and perfect opposites
    found = allocate_batch(x, CONFIG)
    for i in range(len(x)):
        assert_direct(one(found, i), CONFIG, tol, f"universe {i}")
    regularized = ["RISK_REGULARIZED" in bits(s) for s in found.status[:, list(BASELINES).index("asset_risk_parity")]]
    assert regularized == [False] * 4 + [True] * 4


@both_precisions
def test_hedged_clusters_are_flagged_and_leave_the_others_solved(dtype: Any, tol: Tolerance) -> None:
    # clusters given: one of a pair of perfect opposites, of no variance; the others have theirs solved all the same
    x = samples()[2].copy()
    x[:, 1] = -x[:, 0]
    labels = np.r_[0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]
    config = AllocationConfig(profiles=("nco", "herc"))
    found = host(allocate(x, config, clusters=labels))
    assert_direct(found, config, tol, "hedged")
    for p in range(2):
        assert "RISK_REGULARIZED" in bits(found.status[p])
    np.testing.assert_allclose(found.weights[0, :2], 0.5, rtol=1e-3)
    assert found.optimality_gap[0] <= tol.gap


def test_clusters_of_variances_far_apart_are_each_solved(x64: Any) -> None:
    # a cluster's variance is 1e12 of another's: as one problem alone it would get none of the weight
    x = samples()[3] * np.repeat([1e-3, 1.0, 1e3], 4)
    labels = np.repeat([0, 1, 2], 4)
    covariance = 252 * oracles.moments(x)[1]
    found = host(allocate(x, AllocationConfig(profiles=("nco", "herc")), clusters=labels))
    assert "NOT_CONVERGED" not in bits(found.status[0])
    for k in range(3):
        mine = labels == k
        expected = oracles.min_variance(covariance[np.ix_(mine, mine)], np.ones(4))
        ours = found.weights[0, mine]
        if ours.sum() > 0:
            np.testing.assert_allclose(ours / ours.sum(), expected, atol=1e-6)
    assert found.weights[0, :4].sum() > 0.99


def test_bad_names_are_refused_in_one_line() -> None:
    with pytest.raises(ja.InputError, match=r"^unknown profile 'hpr'; choose from min_variance.*max_diversification$"):
        ja.allocate(samples()[0], AllocationConfig(profiles=("hpr",)))


def test_a_study_and_its_report_hold_baselines(tmp_path: Path) -> None:
    names = ("hrp", "equal_weight")
    panel = pd.DataFrame(samples()[4], columns=[f"A{i}" for i in range(N)])
    study = ja.run_study(panel, ja.Bootstrap(n=20), AllocationConfig(profiles=names), precision=32)
    assert study.summary().index.get_level_values("profile").unique().tolist() == list(names)
    equal = study.summary().loc["equal_weight"]
    np.testing.assert_allclose(equal[["point", "mean", "q05", "q95"]], 1 / N, atol=1e-6)
    assert not equal["frequency_binding"].any()
    ja.write_report(study, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for name in names:
        assert sentence(PROFILES[name].about) in html.unescape(page)
        assert colour_of(name) in page
    assert "cap of 100" not in page
    assert len({colour_of(name) for name in PROFILES}) == len(PROFILES)
