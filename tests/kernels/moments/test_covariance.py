"""The choices of covariance and the shocks to moments, against the oracle, scikit-learn, pandas and changed returns."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pandas as pd
import pytest
import sklearn.covariance
from helpers import (
    TOLERANCES,
    Array,
    Tolerance,
    annual,
    annual_shared,
    assert_as_oracle,
    batched,
    cast,
    count_compilations,
    equations,
    host,
    jitted,
    one,
    universes,
)
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import jaxalloc as ja
from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.moments.panel import panel_moments, share_panel
from jaxalloc.kernels.moments.sample import Moments, sample_moments
from jaxalloc.kernels.moments.shock import Shock, shocked_moments
from jaxalloc.kernels.moments.shrinkage import shrink_panel, shrink_sample
from jaxalloc.kernels.moments.tails import Tail, panel_tail_gain, sample_tail_gain, shocked_tail, skewness
from jaxalloc.portfolios.estimates import Given, estimate
from jaxalloc.settings.config import COVARIANCES, AllocationConfig, cast_config

T, N, BATCH = 60, 6, 8
PATHS = ("own", "packed", "product")
SHRINKING = ("ledoit_wolf", "oas")
ALL = np.ones(N, bool)
DELTA = {"ledoit_wolf": oracles.ledoit_wolf_delta, "oas": oracles.oas_delta}


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest) -> str:
    return request.param


def _own(returns: Any, weights: Any, mask: Any, decay: Any, choice: str) -> Moments:
    moments = sample_moments(returns, weights, mask, decay if choice == "ewma" else None)
    return shrink_sample(moments, returns, weights, choice)


def _shared(panel: Any, weights: Any, mask: Any, decay: Any, choice: str) -> Moments:
    moments = panel_moments(panel, weights, mask, decay if choice == "ewma" else None)
    return shrink_panel(moments, panel, weights, choice)


def moments_by(
    choice: str, path: str, returns: Any, weights: Any, masks: Any = ALL, dtype: Any = None, decay: float = 0.94
) -> Moments:
    """Moments of one panel's universes, weights (B, T) and masks (N,) or (B, N), by one of the paths."""
    x, c, decay = cast(dtype, returns, weights, decay)  # type: ignore[assignment]
    a = np.broadcast_to(np.asarray(masks, bool), (len(c), x.shape[1]))
    rows = np.minimum(np.arange(max(BATCH, len(c))), len(c) - 1)  # one batch length for most tests, and so one program
    if path == "own":
        found = batched(_own, axes=(None, 0, 0, None), choice=choice)(x, c[rows], a[rows], decay)
    else:
        panel = share_panel(np.asarray(x), 2**22 if path == "packed" else 0)
        found = batched(_shared, axes=(None, 0, 0, None), choice=choice)(panel, c[rows], a[rows], decay)
    return jax.tree.map(lambda leaf: leaf[: len(c)], host(found))


def market(seed: int = 0, n: int = N) -> Array:
    """Returns (T, n), the same numbers in both precisions."""
    return oracles.random_market(np.random.default_rng(seed), T, n, 3).astype(np.float32).astype(np.float64)


def draws(seed: int, n: int = BATCH) -> Array:
    """Counts (n, T) of bootstrap resamples of T rows."""
    rng = np.random.default_rng(seed)
    return np.stack([np.bincount(rng.integers(T, size=T), minlength=T) for _ in range(n)])


def fractions(seed: int, n: int = BATCH) -> Array:
    """Weights (n, T) that are no whole numbers, and some 0."""
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0, 3, (n, T)) * (rng.uniform(size=(n, T)) < 0.7)
    return weights.astype(np.float32).astype(np.float64)


def correlation_of(covariance: Array) -> Array:
    deviation = np.sqrt(np.diag(covariance).astype(float))
    return covariance / np.outer(deviation, deviation)


def assert_estimates(found: Moments, i: int, mean: Array, covariance: Array, rtol: float) -> None:
    """Means to the deviations' scale, covariances to that of the two variances: what the weights see."""
    deviation = np.sqrt(np.diag(covariance))
    np.testing.assert_array_less(np.abs(found.mean[i] - mean) / deviation, rtol)
    np.testing.assert_array_less(np.abs(found.covariance[i] - covariance) / np.outer(deviation, deviation), rtol)


# The choices


@pytest.mark.parametrize("choice", COVARIANCES)
def test_each_choice_equals_the_oracle_s(choice: str, path: str, dtype: Any, tol: Tolerance) -> None:
    for seed, weights in ((1, draws(1)), (2, fractions(2))):
        found = moments_by(choice, path, market(seed), weights, dtype=dtype)
        assert found.valid.all()
        for i, c in enumerate(weights):
            mean, covariance = oracles.estimates(market(seed), c, choice)
            assert_estimates(found, i, mean, covariance, 4 * tol.rtol)


@pytest.mark.parametrize("choice", SHRINKING)
@pytest.mark.parametrize("n_assets", [2, 6, 90])
def test_shrinkage_of_counts_is_scikit_learn_s_of_the_repeated_rows(
    choice: str, n_assets: int, path: str, dtype: Any, tol: Tolerance
) -> None:
    returns, counts = market(3, n_assets), draws(3)
    found = moments_by(choice, path, returns, counts, np.ones(n_assets, bool), dtype)
    for i, count in enumerate(counts):
        x = returns[oracles.expand(count)]
        expected, delta = getattr(sklearn.covariance, choice)((x - x.mean(axis=0)) / x.std(axis=0))
        assert 0 < delta <= 1
        np.testing.assert_allclose(correlation_of(found.covariance[i]), expected, atol=4 * tol.rtol)
        assert DELTA[choice](x) == pytest.approx(delta, rel=1e-10)


@pytest.mark.parametrize("choice", ["sample", *SHRINKING])
def test_counts_equal_the_repeated_rows(choice: str, dtype: Any, tol: Tolerance) -> None:
    returns, counts = market(4), draws(4, 3)
    found = moments_by(choice, "own", returns, counts, dtype=dtype)
    for i, count in enumerate(counts):
        repeated = moments_by(choice, "own", returns[oracles.expand(count)], np.ones((1, T)), dtype=dtype)
        assert_estimates(found, i, repeated.mean[0], repeated.covariance[0], tol.rtol)


@pytest.mark.parametrize("decay", [0.5, 0.94, 0.99])
def test_ewma_is_pandas_ewm(decay: float, path: str, dtype: Any, tol: Tolerance) -> None:
    returns = market(5)
    found = moments_by("ewma", path, returns, np.ones((1, T)), dtype=dtype, decay=decay)
    windows = pd.DataFrame(returns).ewm(alpha=1 - decay)  # adjust=True: weights that sum to 1
    covariance = windows.cov(bias=True).loc[T - 1].to_numpy() * T / (T - 1)
    assert_estimates(found, 0, windows.mean().iloc[-1].to_numpy(), covariance, 20 * tol.rtol)


def test_a_decay_of_1_is_the_sample(path: str, dtype: Any, tol: Tolerance) -> None:
    for weights in (draws(6), fractions(6)):
        sample = moments_by("sample", path, market(6), weights, dtype=dtype)
        found = moments_by("ewma", path, market(6), weights, dtype=dtype, decay=1.0)
        for i in range(BATCH):
            assert_estimates(found, i, sample.mean[i], sample.covariance[i], tol.rtol)


def test_a_decay_enters_mean_and_covariance_only(path: str, dtype: Any, tol: Tolerance) -> None:
    returns, weights = market(7), fractions(7)
    sample = moments_by("sample", path, returns, weights, dtype=dtype)
    found = moments_by("ewma", path, returns, weights, dtype=dtype)
    np.testing.assert_array_equal(found.count, sample.count)
    np.testing.assert_allclose(found.plain_mean, sample.mean, rtol=tol.rtol, atol=tol.rtol * 1e-2)
    np.testing.assert_allclose(found.plain_variance, np.diagonal(sample.covariance, axis1=1, axis2=2), rtol=tol.rtol)
    skew = host(batched(skewness)(found))
    for i, c in enumerate(weights):
        expected = oracles.skewness(returns, c)
        np.testing.assert_allclose(skew[i], expected, rtol=10 * tol.rtol, atol=10 * tol.rtol)
        assert np.abs(found.covariance[i] / sample.covariance[i] - 1).max() > 0.05


def test_only_a_decay_looks_at_the_order_of_rows(dtype: Any, tol: Tolerance) -> None:
    returns, order = market(8), np.random.default_rng(8).permutation(T)
    for choice in COVARIANCES:
        before = moments_by(choice, "own", returns, np.ones((1, T)), dtype=dtype).covariance[0]
        after = moments_by(choice, "own", returns[order], np.ones((1, T)), dtype=dtype).covariance[0]
        change = np.abs(correlation_of(after) - correlation_of(before)).max()
        assert change > 0.01 if choice == "ewma" else change < tol.rtol


def test_a_window_far_from_the_last_row_is_as_if_the_panel_ended_there(path: str, dtype: Any, tol: Tolerance) -> None:
    # 0.5 to the power of 1,800 underflows in either precision
    returns = np.concatenate([market(9)[:40], np.resize(market(10), (1800, N))])
    window = (np.arange(len(returns)) < 40).astype(float)[None, :]
    found = moments_by("ewma", path, returns, window, dtype=dtype, decay=0.5)
    assert found.valid.all()
    mean, covariance = oracles.estimates(returns[:40], None, "ewma", 0.5)
    assert_estimates(found, 0, mean, covariance, 20 * tol.rtol)


@pytest.mark.parametrize("choice", COVARIANCES)
def test_what_is_not_in_use_is_never_read(choice: str, path: str, dtype: Any, tol: Tolerance) -> None:
    returns, weights = market(11), fractions(11)
    mask = np.array([True, False, True, True, False, True])
    weights[:, [0, 30, 59]] = 0
    dirty = returns.copy()
    dirty[:, 1], dirty[5, 4], dirty[20:30, 4] = np.nan, np.inf, float(np.finfo(dtype).max)
    dirty[0], dirty[30], dirty[59, 2] = np.nan, 1e6, -np.inf
    found = moments_by(choice, path, dirty, weights, mask, dtype)
    assert found.valid.all()
    for i, c in enumerate(weights):
        mean, covariance = oracles.estimates(returns[:, mask], c, choice)
        assert not found.covariance[i][~mask].any()
        assert not found.covariance[i][:, ~mask].any()
        assert not found.mean[i][~mask].any()
        part = found._replace(mean=found.mean[:, mask], covariance=found.covariance[:, mask][:, :, mask])
        assert_estimates(part, i, mean, covariance, 50 * tol.rtol)


@pytest.mark.parametrize("choice", COVARIANCES)
def test_a_constant_asset_leaves(choice: str, path: str, dtype: Any, tol: Tolerance) -> None:
    returns, weights = market(12), draws(12)
    returns[:, 3] = 0.1
    others = np.arange(N) != 3
    found = moments_by(choice, path, returns, weights, dtype=dtype)
    assert (found.active == others).all()
    assert not found.covariance[:, 3].any()
    for i, c in enumerate(weights):
        mean, covariance = oracles.estimates(returns[:, others], c, choice)
        part = found._replace(mean=found.mean[:, others], covariance=found.covariance[:, others][:, :, others])
        assert_estimates(part, i, mean, covariance, 4 * tol.rtol)


@pytest.mark.parametrize("choice", SHRINKING)
def test_calm_and_wild_assets_keep_their_variance(choice: str, path: str, dtype: Any, tol: Tolerance) -> None:
    even = market(13)
    even *= 0.2 / np.sqrt(252) / even.std(axis=0)
    uneven = even * np.array([0.04, 1.2, 0.04, 1.2, 0.04, 1.2]) / 0.2
    counts = draws(13)
    sample = moments_by("sample", path, uneven, counts, dtype=dtype)
    found = moments_by(choice, path, uneven, counts, dtype=dtype)
    alike = moments_by(choice, path, even, counts, dtype=dtype)
    variances = np.diagonal(sample.covariance, axis1=1, axis2=2)
    np.testing.assert_allclose(np.diagonal(found.covariance, axis1=1, axis2=2), variances, rtol=4 * tol.eps)
    for i in range(BATCH):
        np.testing.assert_allclose(
            correlation_of(found.covariance[i]), correlation_of(alike.covariance[i]), atol=4 * tol.rtol
        )
        ratio = (correlation_of(found.covariance[i]) / correlation_of(sample.covariance[i]))[~np.eye(N, dtype=bool)]
        np.testing.assert_allclose(ratio, 1 - DELTA[choice](uneven, counts[i]), rtol=20 * tol.rtol)
    raw = getattr(sklearn.covariance, choice)(uneven)[0]  # what is avoided
    assert raw[0, 0] > 2 * uneven[:, 0].var()


@pytest.mark.parametrize("choice", COVARIANCES)
def test_one_asset_has_its_sample_variance(choice: str, path: str, dtype: Any, tol: Tolerance) -> None:
    alone = np.arange(N) == 2
    found = moments_by(choice, path, market(14), np.ones((1, T)), alone, dtype, decay=1.0)
    assert found.valid.all()
    assert found.covariance[0, 2, 2] == pytest.approx(market(14)[:, 2].var(ddof=1), rel=tol.rtol)
    assert np.count_nonzero(found.covariance) == 1


@pytest.mark.parametrize("choice", COVARIANCES)
def test_two_observations(choice: str, path: str, dtype: Any, tol: Tolerance) -> None:
    returns, weights = market(15), np.zeros((3, T))
    weights[0, [10, 11]], weights[1, [3, 40]], weights[2, 20:28] = 1, 1, 0.25
    found = moments_by(choice, path, returns, weights, dtype=dtype, decay=0.99)
    assert found.valid.all()
    for i, c in enumerate(weights):
        mean, covariance = oracles.estimates(returns, c, choice, 0.99)
        assert_estimates(found, i, mean, covariance, 100 * tol.rtol)
    if choice in SHRINKING:
        x = returns[[10, 11]]
        _, delta = getattr(sklearn.covariance, choice)((x - x.mean(axis=0)) / x.std(axis=0))
        rho = np.abs(correlation_of(found.covariance[0]))[~np.eye(N, dtype=bool)]
        np.testing.assert_allclose(rho, 1 - delta, atol=20 * tol.rtol)


@pytest.mark.parametrize("choice", SHRINKING)
def test_uncorrelated_and_identical_assets(choice: str, path: str, dtype: Any, tol: Tolerance) -> None:
    signs = np.array([[1, 1], [1, -1]])
    hadamard = np.kron(np.kron(signs, signs), signs)[:, 1:7] / 64  # columns of mean 0, orthogonal to the bit
    found = moments_by(choice, path, hadamard, np.ones((1, 8)), dtype=dtype)
    assert found.valid.all()
    np.testing.assert_array_equal(found.covariance[0] != 0, np.eye(N, dtype=bool))
    same = np.repeat(market(16)[:, :1], N, axis=1)
    found = moments_by(choice, path, same, np.ones((1, T)), dtype=dtype)
    _, delta = getattr(sklearn.covariance, choice)((same - same.mean(axis=0)) / same.std(axis=0))
    np.testing.assert_allclose(
        correlation_of(found.covariance[0])[~np.eye(N, dtype=bool)], 1 - delta, atol=10 * tol.rtol
    )


@pytest.mark.parametrize("choice", COVARIANCES)
@pytest.mark.parametrize("shared", PATHS[1:])
def test_shared_panel_gives_what_own_returns_give(choice: str, shared: str, dtype: Any, tol: Tolerance) -> None:
    returns = market(17)
    returns[33] = [1e3, -1e3, 5e2, 1e3, 1e3, -9e2]
    returns[:10] = 1e-2 * returns[:10] + 2e-4  # a quiet window away from the whole panel's centre
    weights = draws(17, 5).astype(float)
    weights[3:], weights[3, :10], weights[4, 40:] = 0, 1, 2
    weights[:, 33] = 0
    own = moments_by(choice, "own", returns, weights, dtype=dtype)
    found = moments_by(choice, shared, returns, weights, dtype=dtype)
    assert own.valid.all()
    assert found.valid.all()
    for i in range(5):
        assert_estimates(found, i, own.mean[i], own.covariance[i], 200 * tol.rtol)


@given(
    weights=hnp.arrays(np.float32, T, elements=st.sampled_from([0.0, 0.0, 0.125, 0.5, 1.0, 1.75, 3.0])),
    mask=hnp.arrays(bool, N),
)
@pytest.mark.parametrize("choice", COVARIANCES[1:])
@pytest.mark.parametrize("path", PATHS)
def test_any_weights_and_mask_agree_with_the_oracle(path: str, choice: str, weights: Array, mask: Array) -> None:
    returns = np.where(mask[None, :] & (weights > 0)[:, None], market(18), np.nan)
    with jax.enable_x64(True):
        found = moments_by(choice, path, returns, weights[None, :], mask, np.float64)
    possible = bool(weights.sum() >= 2 and mask.any() and np.count_nonzero(weights) >= 2)
    assert found.valid[0] == possible
    if possible:
        mean, covariance = oracles.estimates(returns[:, mask], weights, choice)
        part = found._replace(mean=found.mean[:, mask], covariance=found.covariance[:, mask][:, :, mask])
        assert_estimates(part, 0, mean, covariance, 1e-9)


def test_another_decay_compiles_nothing(x64: Any) -> None:
    moments_by("ewma", "own", market(19), draws(19), dtype=x64)
    with count_compilations() as compiled:
        found = moments_by("ewma", "own", market(19), draws(19), dtype=x64, decay=0.8)
    assert compiled.count == 0
    mean, covariance = oracles.estimates(market(19), draws(19)[0], "ewma", 0.8)
    assert_estimates(found, 0, mean, covariance, 1e-11)


def test_a_program_holds_its_own_choice_alone() -> None:
    panel = share_panel(np.zeros((T, N), np.float32), 2**20)
    products, powers = {}, {}
    for choice in COVARIANCES:
        config = cast_config(AllocationConfig(covariance=choice), np.float32)
        jaxpr = jax.make_jaxpr(annual_shared)(panel, config, jnp.ones(T), jnp.ones(N, bool))
        names = [equation.primitive.name for equation in equations(jaxpr.jaxpr)]
        products[choice], powers[choice] = names.count("dot_general"), names.count("pow")
    assert products["oas"] == products["sample"]
    assert products["ledoit_wolf"] == products["sample"] + 3  # two for the lengths, one for their squares
    assert products["ewma"] == products["sample"] + 2  # the plain mean and squares beside the decayed mean and products
    assert {choice for choice, count in powers.items() if count} == {"ewma"}


# A whole universe


@pytest.mark.slow
@pytest.mark.parametrize("choice", COVARIANCES)
def test_portfolios_equal_the_oracle_s(choice: str, dtype: Any, tol: Tolerance) -> None:
    config = AllocationConfig(covariance=choice, ewma_decay=0.97)
    returns, weights, masks = universes()
    index = np.r_[0:12, 24:48:2]
    found, seen = ja.allocate_batch(returns[index], config, weights[index], masks[index]), 0
    for j, i in enumerate(index):
        answer = oracles.allocate(returns[i], config, weights[i], masks[i])
        if not near_tie(answer, config, tol):
            seen += 1
            assert_as_oracle(one(found, j), answer, config, tol, f"{choice}, universe {i}")
    assert seen >= 20


@pytest.mark.parametrize(
    "choice",
    [pytest.param(name, marks=pytest.mark.slow) if name in ("sample", "oas") else name for name in COVARIANCES],
)
def test_a_shared_panel_s_portfolios_equal_the_oracle_s(choice: str, x64: Any) -> None:
    config = AllocationConfig(covariance=choice, ewma_decay=0.97, distance_threshold=0.5)
    returns, weights = market(21, 12), np.concatenate([draws(21, 12), fractions(21, 12)])
    found = ja.allocate_batch(returns, config, weights)
    for i, c in enumerate(weights):
        answer = oracles.allocate(returns, config, c)
        assert_as_oracle(one(found, i), answer, config, TOLERANCES[x64], f"{choice}, universe {i}")


def near_tie(answer: oracles.Allocation, config: AllocationConfig, tol: Tolerance) -> bool:
    """Whether a rounding could decide the partition: another cut nearby gives another one."""
    if not len(answer.covariance):
        return False
    distance = oracles.correlation_distance(answer.covariance)
    threshold = float(config.distance_threshold)
    cuts = [oracles.clusters(distance, config.linkage, threshold + step) for step in (-tol.rtol, tol.rtol)]
    return bool((cuts[0] != cuts[1]).any())


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["ewma", *(pytest.param(x, marks=pytest.mark.slow) for x in ("ledoit_wolf", "oas"))])
def test_allocate_takes_the_choice(choice: str, x64: Any) -> None:
    config = AllocationConfig(covariance=choice)
    found = host(ja.allocate(market(22, 12), config))
    assert_as_oracle(found, oracles.allocate(market(22, 12), config), config, TOLERANCES[x64])
    assert np.abs(found.weights - oracles_weights(market(22, 12))).max() > 1e-3
    with count_compilations() as compiled:
        again = host(ja.allocate(market(22, 12), config.replace(ewma_decay=1)))
    assert compiled.count == 0
    if choice == "ewma":
        np.testing.assert_allclose(again.weights, oracles_weights(market(22, 12)), atol=1e-6)


def oracles_weights(returns: Array) -> Array:
    """(P, N) of the plain sample."""
    return np.stack(list(oracles.allocate(returns).weights.values()))


def test_a_covariance_of_the_caller_s_takes_the_place_of_every_choice(x64: Any) -> None:
    own = 252 * np.cov(market(22)[:30], rowvar=False)
    for choice in COVARIANCES:
        config = cast_config(AllocationConfig(covariance=choice), x64)
        found = host(jitted(annual)(market(22), config, np.ones(T), ALL, Given(covariance=own)))
        np.testing.assert_allclose(found.covariance, own, rtol=1e-14)
        np.testing.assert_allclose(found.mean, 252 * oracles.estimates(market(22), None, choice)[0], rtol=1e-9)


def test_a_decay_that_leaves_a_single_row_makes_a_universe_invalid(path: str, dtype: Any, tol: Tolerance) -> None:
    assert moments_by("ewma", path, market(23), np.ones((1, T)), dtype=dtype, decay=1e-3).valid[0]
    for decay in (1e-30, 16 * tol.eps):
        assert not moments_by("ewma", path, market(23), np.ones((1, T)), dtype=dtype, decay=decay).valid[0]


# Shocks


def shock_of(seed: int, correlation: float = 0.0, n: int = N) -> tuple[Array, float, Array]:
    """(volatility, correlation, mean), the same numbers in both precisions."""
    rng = np.random.default_rng(seed)
    volatility, mean = rng.uniform(0.3, 3, n), rng.normal(0, 0.3, n)
    return volatility.astype(np.float32).astype(float), correlation, mean.astype(np.float32).astype(float)


def cast_shock(dtype: Any, shock: tuple[Any, Any, Any]) -> Shock:
    return Shock(*cast(dtype, *shock))


def changed_returns(returns: Array, weights: Array, volatility: Array, shift: Array) -> Array:
    """x' = m + v (x - m) + s / 252."""
    mean = oracles.moments(returns, weights)[0]
    return mean + volatility * (returns - mean) + shift / 252


@pytest.mark.parametrize("choice", ["ledoit_wolf", pytest.param("oas", marks=pytest.mark.slow)])
def test_volatility_and_mean_are_those_of_changed_returns(choice: str, dtype: Any, tol: Tolerance) -> None:
    config = cast_config(AllocationConfig(covariance=choice), dtype)
    returns, weights = market(30), fractions(30)
    shock = shock_of(30)
    own = batched(annual, axes=(0, None, 0, None, None, None))
    changed = np.stack([changed_returns(returns, c, shock[0], shock[2]) for c in weights])
    x, y, c = cast(dtype, np.repeat(returns[None], BATCH, axis=0), changed, weights)
    expected = host(own(y, config, c, ALL, Given(), None))
    found = {"own": host(own(x, config, c, ALL, Given(), cast_shock(dtype, shock)))}
    panel = share_panel(np.asarray(x[0]), 2**22)
    shared = batched(annual_shared, axes=(None, None, 0, None, None))
    found["shared"] = host(shared(panel, config, c, ALL, cast_shock(dtype, shock)))
    for name, estimates in found.items():
        deviation = np.sqrt(np.diagonal(expected.covariance, axis1=1, axis2=2))
        error = np.abs(estimates.covariance - expected.covariance) / deviation[:, :, None] / deviation[:, None, :]
        assert error.max() < 10 * tol.rtol, name
        assert (np.abs(estimates.mean - expected.mean) / deviation).max() < 40 * tol.rtol, name
        np.testing.assert_allclose(estimates.antifragility, expected.antifragility, atol=1e3 * tol.rtol, err_msg=name)
        assert estimates.valid.all()


def test_tail_gain_is_that_of_changed_returns(dtype: Any, tol: Tolerance) -> None:
    returns, weights = market(31), fractions(31)
    volatility, _, shift = shock_of(31)
    shock = cast_shock(dtype, (volatility, 0.0, shift))
    returns[:, 1] = np.where(returns[:, 1] > 0, 0.01, returns[:, 1])  # nothing above the quantile
    returns[:, 2] = -np.abs(returns[:, 2])
    for i, c in enumerate(weights):
        c = np.maximum(c, 0.25)
        above = returns[:, 2] > oracles.quantile(returns[:, 2], c)
        dipped = returns.copy()
        dipped[above, 2] = 0  # a tail whose mean is 0 is one nevertheless
        mean = oracles.moments(dipped, c)[0]
        expected = oracles.tail_gain(changed_returns(dipped, c, volatility, shift), c)
        panel = share_panel(dipped.astype(dtype), 0)
        for tail in (
            jitted(sample_tail_gain)(*cast(dtype, dipped, c), ALL),
            jitted(panel_tail_gain)(panel, *cast(dtype, c)),
        ):
            assert float(tail.mean[2]) == 0
            assert np.asarray(tail.exists).tolist() == [True, False, True, True, True, True], i
            moved = jitted(shocked_tail)(tail, *cast(dtype, mean, 252.0), shock)
            assert float(moved.mean[1]) == 0
            at = np.arange(N) != 1  # there, of the changed returns, roundings can put a copy above the quantile
            np.testing.assert_allclose(np.asarray(moved.mean)[at], expected[at], rtol=20 * tol.rtol, atol=tol.rtol)


@pytest.mark.parametrize("correlation", [-1.0, -0.25, 0.0, 0.5, 1.0])
def test_shocked_moments_equal_the_oracle_s(correlation: float, dtype: Any, tol: Tolerance) -> None:
    mean, covariance = (252 * moment for moment in oracles.moments(market(32)))
    shock = shock_of(32, correlation)
    found = host(jitted(shocked_moments)(*cast(dtype, mean, covariance), ALL, cast_shock(dtype, shock)))
    expected = oracles.shocked(mean, covariance, *shock)
    np.testing.assert_allclose(found[0], expected[0], rtol=tol.rtol, atol=tol.rtol)
    np.testing.assert_allclose(correlation_of(found[1]), correlation_of(expected[1]), atol=tol.rtol)
    np.testing.assert_allclose(np.diag(found[1]), np.diag(expected[1]), rtol=tol.rtol)


factors = hnp.arrays(np.float32, N, elements=st.floats(np.float32(0.01), np.float32(100), width=32))
moves = st.one_of(st.sampled_from([-1.0, 0.0, 1.0]), st.floats(-1, 1, width=32))


@given(volatility=factors, correlation=moves, rank=st.integers(1, N))
def test_a_shocked_covariance_is_one(volatility: Array, correlation: float, rank: int) -> None:
    covariance = np.cov(market(33)[: rank + 1], rowvar=False)  # singular below N + 1 rows
    covariance = (covariance + covariance.T) / 2
    for dtype in (np.float32, np.float64):
        with jax.enable_x64(dtype is np.float64):
            eps = float(np.finfo(dtype).eps)
            shock = cast_shock(dtype, (volatility, correlation, np.zeros(N)))
            given_as, v = covariance.astype(dtype), volatility.astype(dtype)
            _, found = host(jitted(shocked_moments, optimised=True)(np.zeros(N, dtype), given_as, ALL, shock))
            np.testing.assert_array_equal(np.diag(found), v * v * np.diag(given_as))
            np.testing.assert_array_equal(found, found.T)
            found = correlation_of(found.astype(float))
            assert np.linalg.eigvalsh(found).min() > -100 * eps
            assert np.abs(found).max() <= 1 + 100 * eps
            before = correlation_of(given_as.astype(float))
            towards = np.ones((N, N)) if correlation > 0 else np.eye(N)
            assert (np.abs(found - towards) <= np.abs(before - towards) + 100 * eps).all()


def test_no_shock_changes_no_bit(dtype: Any) -> None:
    rng = np.random.default_rng(34)
    mean, covariance = cast(dtype, rng.normal(size=N), np.cov(market(34), rowvar=False))
    covariance[0, 1] = covariance[1, 0] = -0.0
    still = cast_shock(dtype, (np.ones(N), 0.0, np.zeros(N)))
    found = host(jitted(shocked_moments, optimised=True)(mean, covariance, ALL, still))
    assert found[0].tobytes() == mean.tobytes()
    assert found[1].tobytes() == covariance.tobytes()
    tail = Tail(*cast(dtype, rng.normal(size=N)), rng.uniform(size=N) < 0.5)
    tail = tail._replace(mean=np.where(tail.exists, tail.mean, 0).astype(dtype))
    found = host(jitted(shocked_tail, optimised=True)(tail, mean, dtype(252), still))
    assert found.mean.tobytes() == tail.mean.tobytes()


@pytest.mark.parametrize("choice", ["ewma", *(pytest.param(x, marks=pytest.mark.slow) for x in SHRINKING)])
def test_no_shock_is_as_if_there_were_none(choice: str, dtype: Any, tol: Tolerance) -> None:
    config = cast_config(AllocationConfig(covariance=choice), dtype)
    x, c = cast(dtype, market(35), draws(35)[0])
    still = cast_shock(dtype, (np.ones(N), 0.0, np.zeros(N)))
    plain = host(jitted(annual)(x, config, c, ALL, Given()))
    found = host(jitted(annual)(x, config, c, ALL, Given(), still))
    for name in ("active", "valid"):
        np.testing.assert_array_equal(getattr(found, name), getattr(plain, name))
    for name in ("mean", "covariance", "antifragility"):
        np.testing.assert_allclose(getattr(found, name), getattr(plain, name), rtol=tol.rtol, atol=tol.rtol * 1e-3)


def test_a_shock_comes_after_the_choice_and_after_what_is_given(x64: Any) -> None:
    shock = shock_of(36, 0.4)
    c = draws(36)[0].astype(float)
    own = 252 * np.cov(market(37), rowvar=False)
    for choice in ("ewma", "oas"):
        config = cast_config(AllocationConfig(covariance=choice), x64)
        mean, covariance = (252 * moment for moment in oracles.estimates(market(36), c, choice))
        for from_caller in (Given(), Given(covariance=own)):
            found = host(jitted(annual)(market(36), config, c, ALL, from_caller, cast_shock(x64, shock)))
            base = covariance if from_caller.covariance is None else own
            expected = oracles.shocked(mean, base, *shock)
            np.testing.assert_allclose(found.mean, expected[0], rtol=1e-9)
            np.testing.assert_allclose(found.covariance, expected[1], rtol=1e-9)


def test_correlation_1_makes_one_cluster_and_minus_1_as_many_as_assets(dtype: Any) -> None:
    config = cast_config(AllocationConfig(), dtype)
    x, c = cast(dtype, market(38), np.ones(T))
    for correlation, count in ((1.0, 1), (-1.0, N)):
        shock = cast_shock(dtype, (np.ones(N), correlation, np.zeros(N)))
        found = host(jitted(estimate, backend=Backend.CPU)(x, config, c, ALL, Given(), shock))
        assert found.n_clusters == count


def test_inactive_assets_stay_at_0_and_their_shock_is_never_read(x64: Any) -> None:
    config = cast_config(AllocationConfig(), x64)
    mask = np.arange(N) % 2 == 0
    volatility, correlation, shift = shock_of(39, 0.3)
    volatility[~mask], shift[~mask] = np.nan, np.inf
    returns = np.where(mask, market(39), np.nan)
    found = host(
        jitted(annual)(returns, config, np.ones(T), mask, Given(), cast_shock(x64, (volatility, correlation, shift)))
    )
    assert found.valid
    for values in (found.mean, found.covariance, found.covariance.T, found.antifragility):
        assert not values[~mask].any()
        assert np.isfinite(values).all()


@pytest.mark.parametrize(
    "bad",
    [{"volatility": np.nan}, {"volatility": 0.0}, {"volatility": np.inf}, {"mean": np.nan}, {"correlation": np.nan}],
    ids=repr,
)
def test_a_shock_that_is_no_number_makes_its_universe_invalid(bad: dict[str, float], x64: Any) -> None:
    config = cast_config(AllocationConfig(), x64)
    shocks = Shock(np.full((3, N), 1.5), np.full(3, 0.2), np.full((3, N), -0.1))
    for name, value in bad.items():
        field = getattr(shocks, name)
        field[1, *([2] if field.ndim == 2 else [])] = value
    mapped = batched(annual, axes=(None, None, None, None, None, 0))
    found = host(mapped(market(40), config, np.ones(T), ALL, Given(), shocks))
    np.testing.assert_array_equal(found.valid, [True, False, True])
    for leaf in jax.tree.leaves(found):
        assert np.isfinite(leaf[[0, 2]]).all()
        np.testing.assert_array_equal(leaf[0], leaf[2])
