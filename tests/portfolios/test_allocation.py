"""allocate: one universe against the oracle, what must not matter to it, what a caller may give, and its edges."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import numpy as np
import oracles
import pandas as pd
import pytest
from helpers import (
    OTHER_CHOICES,
    TOLERANCES,
    ULPS,
    Array,
    N,
    T,
    Tolerance,
    assert_as_oracle,
    assert_invalid,
    assert_promises,
    batched,
    bits,
    bootstrap_counts,
    cast,
    count_compilations,
    host,
    market,
    one,
    same_bits,
    universes,
)

import jaxalloc as ja
from jaxalloc.arguments.errors import InputError
from jaxalloc.engine.batch import allocate_batch
from jaxalloc.engine.single import allocate
from jaxalloc.kernels.clusters.within import share_out
from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.portfolios.result import Allocation
from jaxalloc.settings.config import AllocationConfig

DEFAULT = AllocationConfig()
MIN_VARIANCE, RISK_PARITY, MAX_SHARPE, BARBELL = range(4)


# Layer 2


def test_shares_equal_the_oracle_s(dtype: Any, tol: Tolerance) -> None:
    rng = np.random.default_rng(0)
    labels, inner, totals, beta = np.full((128, N), -1), np.zeros((128, N)), np.zeros((128, N)), np.empty(128)
    for i in range(128):
        active = np.sort(rng.permutation(N)[: int(rng.integers(1, N + 1))])
        labels[i, active] = oracles.relabel(rng.integers(1 + i % 8, size=len(active)))
        inner[i, active] = oracles.inverse_variance(10 ** rng.uniform(-4, 0, len(active)), labels[i, active])
        sizes = np.bincount(labels[i, active])
        beta[i] = rng.uniform(0.05, 0.4)
        full = rng.choice([0.0, 0.3, 0.9, 0.999999, 1.0], len(sizes))
        totals[i, : len(sizes)] = sizes * beta[i] * full * rng.uniform(0.9, 1, len(sizes)) ** (full < 1)
    totals, inner, beta = cast(dtype, totals, inner, beta)
    found = host(batched(share_out, backend=Backend.CPU)(totals, inner, labels.astype(np.int32), beta))
    for i in range(128):
        active = labels[i] >= 0
        expected = oracles.asset_weights(
            totals[i, : labels[i].max() + 1].astype(float),
            inner[i, active].astype(float),
            labels[i, active],
            float(beta[i]),
        )
        assert not found[i, ~active].any()
        assert (found[i] >= 0).all()
        assert (found[i] <= beta[i] * (1 + ULPS * tol.eps)).all()
        np.testing.assert_allclose(found[i, active], expected, atol=50 * tol.eps)
        sums = np.bincount(labels[i, active], found[i, active].astype(float), minlength=N)
        np.testing.assert_allclose(sums, totals[i], rtol=20 * tol.eps, atol=20 * tol.eps * beta[i])


def test_members_of_a_full_cluster_are_all_at_the_bound(dtype: Any) -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat(np.r_[0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2][None], 128, 0)
    sizes = np.r_[2, 3, 7, np.zeros(N - 3)]
    inner = np.stack([oracles.inverse_variance(10 ** rng.uniform(-2, 0, N), labels[0]) for _ in range(128)])
    inner, beta = cast(dtype, inner, rng.uniform(0.05, 0.14, 128))
    totals = (sizes[None, :].astype(dtype) * beta[:, None]).astype(dtype)
    found = host(batched(share_out, backend=Backend.CPU)(totals, inner, labels.astype(np.int32), beta))
    np.testing.assert_array_equal(found, np.broadcast_to(beta[:, None], (128, N)))


def test_the_first_of_the_members_at_the_bound_leads(x64: Any) -> None:
    config = DEFAULT.replace(cluster_cap=0.5, asset_cap=0.125)
    returns = np.stack([market([2, i], 6) for i in range(64)])
    found = allocate_batch(returns, config)
    seen, wrong = 0, []
    for i in range(64):
        answer = oracles.allocate(returns[i], config)
        for p, profile in enumerate(config.profiles[:3]):
            problem = answer.problems[profile]
            for k in range(answer.n_clusters):
                members = np.flatnonzero(answer.labels == k)
                w = answer.cluster_weights[profile][k]
                if len(members) > 1 and abs(w - len(members) * problem.beta) <= 1e-12:  # u = p beta, and full
                    seen += 1
                    if found.lead_assets[i, p, k] != members[0]:
                        wrong.append((i, profile, members.tolist(), int(found.lead_assets[i, p, k])))
    assert seen > 30
    assert wrong == []


# One universe


@cache
def batch_of(precision: int) -> Allocation:
    with jax.enable_x64(precision == 64):
        returns, weights, masks = universes()
        return allocate_batch(returns, DEFAULT, weights, masks)


def test_one_universe_equals_the_oracle_s_and_the_batch_s(dtype: Any, tol: Tolerance) -> None:
    returns, weights, masks = universes()
    batch = batch_of(64 if dtype is np.float64 else 32)
    for i in (0, 5, 9, 11, 17, 22, 30, 40, 47, 59):
        found = host(allocate(returns[i], DEFAULT, weights[i], masks[i]))
        assert found.weights.dtype == dtype
        assert_as_oracle(
            found, oracles.allocate(returns[i], DEFAULT, weights[i], masks[i]), DEFAULT, tol, f"universe {i}"
        )
        member = one(batch, i)
        np.testing.assert_array_equal(found.cluster_labels, member.cluster_labels)
        np.testing.assert_array_equal(found.status, member.status)
        np.testing.assert_allclose(found.weights, member.weights, atol=tol.weights / 10)


def test_jit_and_vmap_with_a_traced_config_give_the_same(x64: Any) -> None:
    returns, weights, masks = universes()
    mapped = batched(ja.allocate, axes=(0, None, 0, 0))
    index = np.arange(16, 32)  # one of them INVALID
    found = host(mapped(returns[index], DEFAULT, weights[index], masks[index]))
    batch = batch_of(64)
    np.testing.assert_array_equal(found.status, batch.status[index])
    np.testing.assert_array_equal(found.lead_assets, batch.lead_assets[index])
    np.testing.assert_allclose(found.weights, batch.weights[index], atol=1e-7)
    assert_invalid(one(found, 14))
    other = DEFAULT.replace(cluster_cap=0.5, n_aggressors=2, aggressor_weight=0.2)
    with count_compilations() as compiled:
        changed = host(mapped(returns[index], other, weights[index], masks[index]))
    assert compiled.count == 0
    for j, i in enumerate(index):
        answer = oracles.allocate(returns[i], other, weights[i], masks[i])
        assert_as_oracle(one(changed, j), answer, other, TOLERANCES[x64], f"universe {i}")


def test_a_second_call_compiles_nothing(dtype: Any) -> None:
    allocate(market(0, 4))
    mask = np.arange(N) > 2
    with count_compilations() as compiled:
        allocate(market(1, 7), DEFAULT.replace(cluster_cap=1, n_aggressors=3, max_clusters=4.0))
        allocate(market(2, 2), DEFAULT.replace(asset_cap=0.5, slack=2, risk_free_rate=0, periods_per_year=12))
        allocate(market(3, 9), None, bootstrap_counts(np.random.default_rng(0)).astype(dtype), mask)
        allocate(pd.DataFrame(market(4, 3)), asset_mask=mask)
    assert compiled.count == 0


def test_other_kinds_of_numbers_compile_conversions_at_most(dtype: Any) -> None:
    def calls(seed: int) -> None:
        mask = np.arange(N) > seed
        allocate(market(seed, 7), DEFAULT.replace(n_aggressors=np.int64(seed), cluster_cap=np.float32(0.5)))
        allocate(
            market(seed, 9).astype(np.float32), None, bootstrap_counts(np.random.default_rng(seed)).astype(int), mask
        )
        allocate(market(seed, 9).tolist(), None, np.ones(T, int).tolist(), mask.astype(int))
        allocate(market(seed, 9), None, None, mask.tolist())

    with count_compilations() as first:
        calls(1)
    assert first.count <= 5  # one conversion a kind, no second engine
    with count_compilations() as second:
        calls(2)
    assert second.count == 0


def test_float64_if_and_only_if_x64(dtype: Any) -> None:
    for given_as in (np.float32, np.float64):
        found = allocate(market(0, 4).astype(given_as))
        floats = ("weights", "cluster_weights", "antifragility", "volatility", "expected_return", "risk_contributions")
        floats += ("asset_bound", "cluster_bound", "optimality_gap")
        assert {getattr(found, name).dtype for name in floats} == {np.dtype(dtype)}
        whole = ("cluster_labels", "n_clusters", "lead_assets", "iterations", "status")
        assert {getattr(found, name).dtype for name in whole} == {np.dtype(np.int32)}
        assert found.aggressors.dtype == bool


def test_a_frame_is_its_numbers(x64: Any) -> None:
    x = market(5, 4)
    frame = pd.DataFrame(x, columns=[f"S{i}" for i in range(N)], index=pd.bdate_range("2020-01-01", periods=T))
    assert same_bits(host(allocate(frame)), host(allocate(x))) == []


@pytest.mark.slow
def test_profiles_come_in_the_order_asked_for(x64: Any) -> None:
    x = market(6, 7)
    config = AllocationConfig(profiles=("barbell", "min_variance"))
    found, whole = host(allocate(x, config)), host(allocate(x))
    assert found.weights.shape == (2, N)
    np.testing.assert_allclose(found.weights, whole.weights[[BARBELL, MIN_VARIANCE]], atol=1e-9)
    np.testing.assert_array_equal(found.aggressors, whole.aggressors)


# What must not matter


def run(returns: Any, weights: Any = None, masks: Any = None, config: AllocationConfig = DEFAULT) -> Allocation:
    return allocate_batch(np.stack(returns), config, weights, masks)


@cache
def markets() -> tuple[Array, ...]:
    """Twelve untied markets of 2 to 12 clusters."""
    return tuple(market([3, i], 2 + i % 11) for i in range(12))


def assert_same(a: Allocation, b: Allocation, atol: float = 1e-7, but: tuple[str, ...] = ()) -> None:
    """Same partitions, leads, aggressors and status; weights and scores to tolerance."""
    for name in ("n_clusters", "cluster_labels", "lead_assets", "aggressors", "status"):
        if name not in but:
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name), name)
    numbers = ("weights", "cluster_weights", "antifragility", "risk_contributions", "volatility", "expected_return")
    for name in (*numbers, "asset_bound", "cluster_bound"):
        if name not in but:
            np.testing.assert_allclose(getattr(a, name), getattr(b, name), atol=atol, err_msg=name)


def test_counts_are_repeated_rows(dtype: Any, tol: Tolerance) -> None:
    rng = np.random.default_rng(4)
    counts = np.stack([bootstrap_counts(rng) for _ in markets()])
    repeated = [x[oracles.expand(c.astype(int))] for x, c in zip(markets(), counts, strict=True)]
    assert_same(run(markets(), counts), run(repeated), 1e-8 if dtype is np.float64 else 50 * tol.weights)


def test_halved_rows_given_twice_are_the_plain_sample(x64: Any) -> None:
    halves = [np.r_[x[:30], x[:30]] for x in markets()]
    weights = np.zeros((12, T))
    weights[:, :30] = 1
    assert_same(run(halves, np.full((12, T), 0.5)), run(markets(), weights), 1e-8)


def test_the_order_of_observations_does_not_matter(x64: Any) -> None:
    order = np.random.default_rng(5).permutation(T)
    assert_same(run(markets()), run([x[order] for x in markets()]), 1e-8)


def test_permuting_assets_permutes_the_answer(x64: Any) -> None:
    rng = np.random.default_rng(6)
    orders = [rng.permutation(N) for _ in markets()]
    before, after = run(markets()), run([x[:, p] for x, p in zip(markets(), orders, strict=True)])
    for i, order in enumerate(orders):
        np.testing.assert_array_equal(after.cluster_labels[i], oracles.relabel(before.cluster_labels[i][order]))
        np.testing.assert_allclose(after.weights[i], before.weights[i][:, order], atol=1e-7)
        np.testing.assert_array_equal(after.aggressors[i], before.aggressors[i][order])
        np.testing.assert_allclose(after.antifragility[i], before.antifragility[i][order], atol=1e-9)
        np.testing.assert_array_equal(after.status[i], before.status[i])
        for p in range(4):  # a tie goes to the first asset, which is another one: look at leads that stand out
            for lead in before.lead_assets[i, p, : before.n_clusters[i]]:
                x = before.weights[i, p] * (before.cluster_labels[i] == before.cluster_labels[i, lead])
                if x[lead] > 1e-6 + np.delete(x, lead).max():
                    assert int(np.flatnonzero(order == lead)[0]) in after.lead_assets[i, p]


def test_a_positive_factor_per_asset_changes_no_cluster(x64: Any) -> None:
    rng = np.random.default_rng(7)
    scaled = [x * 10 ** rng.uniform(-2, 2, N) for x in markets()]
    np.testing.assert_array_equal(run(scaled).cluster_labels, run(markets()).cluster_labels)


@pytest.mark.parametrize("factor", [0.01, 7.0])
def test_a_common_factor_changes_no_weight(factor: float, x64: Any) -> None:
    before, after = run(markets()), run([factor * x for x in markets()])
    # nor maximum Sharpe's, whose risk-free rate is 0; scores, of the barbell, have no unit
    assert_same(before, after, 1e-7, but=("volatility", "expected_return"))
    np.testing.assert_allclose(after.volatility, factor * before.volatility, rtol=1e-7)
    np.testing.assert_allclose(after.expected_return, factor * before.expected_return, rtol=1e-5)


def test_periods_per_year_are_a_unit_of_time(x64: Any) -> None:
    yearly, weekly = run(markets()), run(markets(), config=DEFAULT.replace(periods_per_year=52))
    assert_same(yearly, weekly, 1e-7, but=("volatility", "expected_return"))
    np.testing.assert_allclose(weekly.volatility, yearly.volatility * np.sqrt(52 / 252), rtol=1e-7)


def test_more_of_the_same_observations_change_no_weight(x64: Any) -> None:
    twice = run(markets(), np.full((12, T), 2.0), config=DEFAULT.replace(profiles=DEFAULT.profiles))
    once = run(markets())
    for name in ("cluster_labels", "status"):
        np.testing.assert_array_equal(getattr(twice, name), getattr(once, name))
    np.testing.assert_allclose(twice.weights[:, :3], once.weights[:, :3], atol=1e-7)


@pytest.mark.parametrize(
    "linkage", ["average", *(pytest.param(x, marks=pytest.mark.slow) for x in ("single", "complete"))]
)
def test_copies_of_every_member_of_a_cluster_change_no_partition_and_no_cluster_s_weight(
    linkage: str, x64: Any
) -> None:
    # Eight assets; the last four columns hold one copy of each of four members, or two of each of two, and are masked
    # at first. No bound binds.
    config = AllocationConfig(linkage=linkage, cluster_cap=1, asset_cap=1, distance_threshold=0.4)
    returns, kept = [], []
    for seed in range(60):
        x = market([8, seed], 4)
        first = np.zeros(N, bool)
        first[:8] = True
        labels = oracles.allocate(x, config, asset_mask=first).labels[:8]
        sizes = np.bincount(labels)
        for k in np.flatnonzero(np.isin(sizes, (1, 2, 4)))[:1]:
            members = np.flatnonzero(labels == k)
            x[:, 8:] = x[:, np.resize(members, 4)]
            returns.append(x)
            kept.append(first)
    assert len(returns) > 20
    alone, copied = run(returns, masks=np.stack(kept), config=config), run(returns, config=config)
    for i in range(len(returns)):
        np.testing.assert_array_equal(copied.cluster_labels[i, :8], alone.cluster_labels[i, :8])
        assert copied.n_clusters[i] == alone.n_clusters[i]
    # the barbell's scores and the number of its core's assets change with copies; the others' cluster weights do not
    np.testing.assert_allclose(copied.cluster_weights[:, :3], alone.cluster_weights[:, :3], atol=1e-7)


def test_cloning_one_member_of_a_larger_cluster_does_change_weights(x64: Any) -> None:
    x = market([9, 1], 4)
    first = np.arange(N) < 11
    labels = oracles.allocate(x, asset_mask=first).labels
    k = int(np.argmax(np.bincount(labels[first])))
    x[:, 11] = x[:, np.flatnonzero(labels == k)[0]]
    config = DEFAULT.replace(cluster_cap=1, asset_cap=1)
    found = run([x, x], masks=np.stack([first, np.ones(N, bool)]), config=config)
    np.testing.assert_array_equal(found.n_clusters[0], found.n_clusters[1])
    assert np.abs(np.diff(found.cluster_weights[:, RISK_PARITY], axis=0)).max() > 1e-4


@pytest.mark.parametrize("n_assets", [*(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2)), 3])
def test_masked_out_is_absent(n_assets: int, x64: Any) -> None:
    rng = np.random.default_rng(n_assets)
    for _ in range(4):
        x = market([10, n_assets, int(rng.integers(1000))], 3)
        there = np.sort(rng.permutation(N)[:n_assets])
        mask = np.isin(np.arange(N), there)
        masked = host(allocate(np.where(mask, x, np.nan), asset_mask=mask))
        absent = host(allocate(x[:, there]))
        np.testing.assert_array_equal(masked.cluster_labels[there], absent.cluster_labels)
        np.testing.assert_array_equal(masked.status, absent.status)
        np.testing.assert_allclose(masked.weights[:, there], absent.weights, atol=1e-8)
        np.testing.assert_array_equal(masked.aggressors[there], absent.aggressors)
        leads = np.where(absent.lead_assets >= 0, there[absent.lead_assets], -1)
        np.testing.assert_array_equal(masked.lead_assets[:, :n_assets], leads)
        assert (masked.lead_assets[:, n_assets:] == -1).all()


def test_the_core_is_risk_parity_without_the_aggressors_clusters(x64: Any) -> None:
    found = run(markets())
    masks = np.stack(
        [~np.isin(labels, labels[a]) for labels, a in zip(found.cluster_labels, found.aggressors, strict=True)]
    )
    alone = run(markets(), masks=masks)
    for i in range(len(masks)):
        np.testing.assert_allclose(
            found.weights[i, BARBELL][masks[i]], 0.9 * alone.weights[i, RISK_PARITY][masks[i]], atol=1e-8
        )
        chosen = found.aggressors[i]
        np.testing.assert_allclose(found.weights[i, BARBELL][chosen], 0.1 / chosen.sum(), rtol=1e-12)
        assert not found.weights[i, BARBELL][~masks[i] & ~chosen].any()


def test_flipping_the_sign_of_an_asset_leaves_its_cluster_under_the_absolute_distance(x64: Any) -> None:
    signs = np.random.default_rng(11).choice([-1, 1], (12, 1, N))
    before, after = (
        run(markets(), config=OTHER_CHOICES),
        run([x * s for x, s in zip(markets(), signs, strict=True)], config=OTHER_CHOICES),
    )
    np.testing.assert_array_equal(before.cluster_labels, after.cluster_labels)


# What a caller gives


@cache
def estimates(seed: int) -> oracles.Allocation:
    return oracles.allocate(market([12, seed], 5))


def given(x: Array, mean: Any, covariance: Any, clusters: Any, mask: Any = None) -> Allocation:
    """All three at once: one program."""
    mask = np.ones(N, bool) if mask is None else mask
    return host(allocate(x, DEFAULT, None, mask, mean=mean, covariance=covariance, clusters=clusters))


def test_given_estimates_of_its_own_change_nothing(x64: Any) -> None:
    for seed in range(3):
        x, answer = market([12, seed], 5), estimates(seed)
        assert_as_oracle(given(x, answer.mean, answer.covariance, answer.labels), answer, DEFAULT, TOLERANCES[x64])


def test_given_estimates_replace_the_sample_s(x64: Any) -> None:
    rng = np.random.default_rng(13)
    for seed in range(4):
        x = market([12, seed], 5)
        mean, covariance = rng.normal(0.05, 0.1, N), oracles.random_covariance(rng, N)
        names = rng.permutation(90)[:6]
        clusters = names[np.r_[rng.permutation(6), rng.integers(6, size=6)]]
        labels = oracles.relabel(clusters)
        found = given(x, mean, covariance, clusters)
        np.testing.assert_array_equal(found.cluster_labels, labels)
        v = oracles.inverse_variance(np.diag(covariance), labels)
        S, m = oracles.synthetic(covariance, mean, v, labels)
        for p, profile in enumerate(DEFAULT.profiles[:3]):
            problem = oracles.layer_one(profile, S, m, np.bincount(labels), np.arange(6), oracles.SETTINGS)
            expected = oracles.asset_weights(problem.w, v, labels, problem.beta)
            np.testing.assert_allclose(found.weights[p], expected, atol=1e-6, err_msg=profile)
            volatility = np.sqrt(expected @ covariance @ expected)
            assert found.volatility[p] == pytest.approx(volatility, rel=1e-5)
            assert found.expected_return[p] == pytest.approx(mean @ expected, abs=1e-6)
        # scores are the returns' own
        np.testing.assert_allclose(found.antifragility, oracles.antifragility(x), atol=1e-9)


def test_given_entries_of_masked_assets_are_never_read(x64: Any) -> None:
    x, answer = market([12, 0], 5), estimates(0)
    mask = np.ones(N, bool)
    mask[[2, 7]] = False
    clean = given(x, answer.mean, answer.covariance, answer.labels, mask)
    mean, covariance, clusters = answer.mean.copy(), answer.covariance.copy(), answer.labels.copy()
    mean[[2, 7]] = np.nan
    covariance[[2, 7]], covariance[:, [2, 7]] = np.inf, np.nan
    clusters[[2, 7]] = -5
    assert same_bits(given(x, mean, covariance, clusters, mask), clean) == []


def test_bad_given_values_make_the_universe_invalid(x64: Any) -> None:
    x, answer = market([12, 0], 5), estimates(0)
    mean, covariance, clusters = answer.mean, answer.covariance, answer.labels

    def spoiled(array: Array, at: Any, value: float) -> Array:
        array = array.copy()
        array[at] = value
        return array

    for case in (
        (spoiled(mean, 3, np.nan), covariance, clusters),
        (spoiled(mean, 3, np.inf), covariance, clusters),
        (mean, spoiled(covariance, (1, 4), np.nan), clusters),
        (mean, spoiled(covariance, (4, 4), 0.0), clusters),
        (mean, spoiled(covariance, (4, 4), -0.1), clusters),
        (mean, covariance, spoiled(clusters, 6, -1)),
    ):
        assert_invalid(given(x, *case))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mean", "covariance", "clusters"])
def test_each_estimate_can_be_given_alone(name: str, x64: Any) -> None:
    x, answer = market([12, 1], 5), estimates(1)
    own, other = {
        "mean": (answer.mean, answer.mean[::-1]),
        "covariance": (answer.covariance, answer.covariance[::-1, ::-1]),
        "clusters": (answer.labels, np.zeros(N, int)),
    }[name]
    assert_as_oracle(host(allocate(x, **{name: own})), answer, DEFAULT, TOLERANCES[x64])
    found = host(allocate(x, **{name: other}))
    assert_promises(found, DEFAULT, TOLERANCES[x64])
    changed = "expected_return" if name == "mean" else "volatility"
    assert np.abs(getattr(found, changed) / list(getattr(answer, changed).values()) - 1).max() > 1e-3


# Edges


@pytest.mark.parametrize("n_assets", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 3))])
def test_the_smallest_universes_equal_the_oracle_s(n_assets: int, x64: Any) -> None:
    for seed in range(6):
        x = oracles.random_market(np.random.default_rng([14, seed]), T, n_assets, 1 + seed % n_assets)
        found = host(allocate(x))
        assert_as_oracle(found, oracles.allocate(x), DEFAULT, TOLERANCES[x64], f"seed {seed}")
        if n_assets == 1:
            np.testing.assert_array_equal(found.weights, np.ones((4, 1)))
            assert bits(found.status[BARBELL]) == {"CLUSTER_CAP_RELAXED", "FEWER_AGGRESSORS"}
    flat = np.full((T, n_assets), 0.01)
    assert_invalid(host(allocate(flat)))


def test_volatilities_a_factor_1e4_apart(dtype: Any, tol: Tolerance) -> None:
    rng = np.random.default_rng(15)
    returns = np.stack([x * 10 ** rng.permutation(np.linspace(-3, 1, N)) for x in markets()])
    returns = returns.astype(np.float32).astype(float)
    found = run(returns)
    for i, x in enumerate(returns):
        assert_as_oracle(one(found, i), oracles.allocate(x), DEFAULT, tol, f"universe {i}")


def test_opposed_assets_are_flagged_as_the_oracle_does(x64: Any) -> None:
    returns = []
    for i in range(12):
        x = market([16, i], 7)
        x[:, 3 + i % 8] = -(0.5 + i / 4) * x[:, 1]
        returns.append(x)
    found = run(returns)
    missing = []
    for i, x in enumerate(returns):
        answer = oracles.allocate(x)
        for p, profile in enumerate(DEFAULT.profiles):
            assert_promises(one(found, i), DEFAULT, TOLERANCES[x64], f"universe {i}")
            if bits(found.status[i, p]) - {"NOT_CONVERGED"} != answer.status[profile]:
                missing.append((i, profile, answer.status[profile] ^ bits(found.status[i, p])))
    assert missing == []


def test_an_opposed_pair_inside_a_cluster_is_flagged_and_finite(x64: Any) -> None:
    x = market([17, 0], 12)
    x[:, 8] = -x[:, 2]  # equal volatilities: inverse variance makes them a cluster without any
    found = run([x], config=OTHER_CHOICES)
    assert found.cluster_labels[0, 8] == found.cluster_labels[0, 2]
    assert_promises(one(found, 0), OTHER_CHOICES, TOLERANCES[x64])


def test_duplicates_share_a_cluster_and_the_promises_hold(dtype: Any, tol: Tolerance) -> None:
    rng = np.random.default_rng(18)
    returns = []
    for x in markets():
        source = rng.integers(N // 2, size=N)
        returns.append(x[:, source] * (rng.choice([1.0, 1.0, 0.5, 3.0], N)))
        returns[-1][:, 0] = returns[-1][:, 1]
    returns.append(np.repeat(markets()[0][:, :1], N, axis=1))  # all the same
    found = run(returns)
    for i, x in enumerate(returns):
        assert_promises(one(found, i), DEFAULT, tol, f"universe {i}")
        assert found.cluster_labels[i, 0] == found.cluster_labels[i, 1]
        correlation = np.corrcoef(x, rowvar=False)
        for a, b in zip(*np.nonzero(correlation > 1 - 1e-6), strict=True):
            assert found.cluster_labels[i, a] == found.cluster_labels[i, b], f"universe {i}: {a} and {b}"
    assert found.n_clusters[12] == 1


def test_exact_ties_are_valid_and_repeat(dtype: Any, tol: Tolerance) -> None:
    signs = np.array([[1.0]])
    while len(signs) < 64:
        signs = np.block([[signs, signs], [signs, -signs]])
    balanced = signs[:T, 1 : N + 1] / 64  # every volatility and nearly every correlation ties
    coarse = np.round(np.random.default_rng(19).normal(size=(T, N))) / 64
    few = np.sign(np.random.default_rng(20).normal(size=(T, N))) / 64
    first, second = run([balanced, coarse, few]), run([balanced, coarse, few])
    assert same_bits(first, second) == []
    for i in range(3):
        assert_promises(one(first, i), DEFAULT, tol, f"universe {i}")


def test_windows_shorter_than_the_assets_are_many(dtype: Any, tol: Tolerance) -> None:
    weights = np.zeros((44, T))
    for i in range(44):
        start = (7 * i) % 40
        weights[i, start : start + 2 + i % 11] = 1  # 2 to 12 rows
    panel = market(21, 8)
    own = run([panel] * 44, weights)
    shared = allocate_batch(panel, DEFAULT, weights)
    for i in range(44):
        for found in (own, shared):
            assert_promises(one(found, i), DEFAULT, tol, f"universe {i}, {2 + i % 11} rows")


def test_every_mean_negative_falls_back_to_minimum_variance(dtype: Any, tol: Tolerance) -> None:
    found = run([x - np.float32(0.03125) for x in markets()])
    assert all("SHARPE_FALLBACK" in bits(s) for s in found.status[:, MAX_SHARPE])
    assert not any("SHARPE_FALLBACK" in bits(s) for s in found.status[:, MIN_VARIANCE])
    np.testing.assert_allclose(found.weights[:, MAX_SHARPE], found.weights[:, MIN_VARIANCE], atol=tol.weights / 10)


def test_a_high_risk_free_rate_falls_back_too(x64: Any) -> None:
    config = DEFAULT.replace(risk_free_rate=5.0)
    found = run(markets(), config=config)
    for i, x in enumerate(markets()):
        assert_as_oracle(one(found, i), oracles.allocate(x, config), config, TOLERANCES[x64], f"universe {i}")
        assert "SHARPE_FALLBACK" in bits(found.status[i, MAX_SHARPE])


def test_no_slack_keeps_the_promises(dtype: Any, tol: Tolerance) -> None:
    for cap in (0.03125, 0.25):
        config = DEFAULT.replace(slack=1, cluster_cap=cap, asset_cap=0.0625)
        found = run(markets(), config=config)
        for i in range(12):
            assert_promises(one(found, i), config, tol, f"universe {i}, cap {cap}")


@pytest.mark.parametrize("slack", [1.0 + 2.0**-20, 1.0 + 2.0**-10])
def test_hardly_any_slack_keeps_the_promises(slack: float, dtype: Any, tol: Tolerance) -> None:
    config = DEFAULT.replace(slack=slack, cluster_cap=0.03125, asset_cap=0.0625)
    found = run(markets(), config=config)
    for i in range(12):
        assert_promises(one(found, i), config, tol, f"universe {i}")


def test_an_empty_sleeve_s_aggressors_still_lead_their_clusters(x64: Any) -> None:
    found = run(markets(), config=DEFAULT.replace(aggressor_weight=0))
    for i in range(12):
        for asset in np.flatnonzero(found.aggressors[i]):
            assert found.lead_assets[i, BARBELL, found.cluster_labels[i, asset]] == asset
            assert found.weights[i, BARBELL, asset] == 0
    np.testing.assert_allclose(found.weights.sum(axis=2), 1, atol=1e-12)


def test_two_assets_that_win_one_score_each_tie_and_the_first_is_the_aggressor(dtype: Any, tol: Tolerance) -> None:
    # With two assets the one of higher skewness scores 1 + 0, the other 0 + 1, unless one of them wins both.
    returns = [market([22, i], 2, inside=0.7, across=0.0) for i in range(96)]
    masks = np.zeros((96, N), bool)
    for i in range(96):
        masks[i, np.random.default_rng(i).permutation(N)[:2]] = True
    found = run(returns, masks=masks)
    ties, wrong = 0, []
    for i, x in enumerate(returns):
        answer = oracles.allocate(x, asset_mask=masks[i])
        if answer.n_clusters == 2 and abs(np.diff(answer.antifragility[masks[i]])[0]) < 1e-9:
            ties += 1
            if np.flatnonzero(found.aggressors[i]).tolist() != [int(np.flatnonzero(masks[i])[0])]:
                wrong.append(i)
    assert ties > 10
    assert wrong == []


# Bad input


X = np.zeros((T, N))


@pytest.mark.parametrize(
    ("returns", "options", "says"),
    [
        (np.zeros(5), {}, "returns"),
        (np.zeros((2, T, N)), {}, "returns"),
        (np.zeros((0, N)), {}, "returns"),
        (np.zeros((T, 0)), {}, "returns"),
        (X, {"observation_weights": np.ones(T + 1)}, "observation_weights"),
        (X, {"observation_weights": np.ones((T, 1))}, "observation_weights"),
        (X, {"asset_mask": np.ones(T, bool)}, "asset_mask"),
        (X, {"mean": np.ones(N - 1)}, "mean"),
        (X, {"covariance": np.ones((N, N - 1))}, "covariance"),
        (X, {"covariance": np.ones(N)}, "covariance"),
        (X, {"clusters": np.zeros(N + 1, int)}, "clusters"),
        (X, {"config": AllocationConfig(slack=0.5)}, "slack"),
        (X, {"config": AllocationConfig(linkage="centroid")}, "centroid"),
        (X, {"config": 3}, "AllocationConfig"),
        ([["a", "b"], ["c", "d"]], {}, "returns"),
        ([[1.0, 2.0], [3.0]], {}, "returns"),
        (X, {"observation_weights": ["one"] * T}, "observation_weights"),
        (X, {"clusters": ["bonds"] * N}, "clusters"),
    ],
)
def test_bad_input_is_refused_in_one_line(returns: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as caught:
        allocate(returns, **options)
    assert len(str(caught.value).splitlines()) == 1
    assert says in str(caught.value)
