"""Weighted moments and order statistics, from a universe's own returns and from a shared panel, against pandas."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import oracles
import pandas as pd
import pytest
from helpers import TOLERANCES, Array, Tolerance, batched, cast, host
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxalloc.kernels.moments.panel import fits_outer, panel_moments, share_panel
from jaxalloc.kernels.moments.sample import Moments, sample_moments
from jaxalloc.kernels.moments.tails import panel_tail_gain, sample_tail_gain, skewness
from jaxalloc.portfolios.barbell import antifragility

T, N, BATCH = 60, 6, 16
PATHS = ("own", "packed", "product")
ALL = np.ones(N, bool)


def _own(returns: Any, weights: Any, mask: Any) -> tuple[Moments, Any, Any]:
    moments = sample_moments(returns, weights, mask)
    return moments, skewness(moments), sample_tail_gain(returns, weights, mask).mean


def _shared(panel: Any, weights: Any, mask: Any) -> tuple[Moments, Any, Any]:
    moments = panel_moments(panel, weights, mask)
    return moments, skewness(moments), panel_tail_gain(panel, weights).mean


def statistics(path: str, returns: Any, weights: Any, masks: Any, dtype: Any) -> tuple[Moments, Array, Array]:
    """(moments, skewness, tail gain) of one panel's universes, weights (B, T) and masks (B, N), by one of the paths."""
    x, c = cast(dtype, returns, weights)
    a = np.broadcast_to(np.asarray(masks, bool), (len(c), x.shape[1]))
    # one batch length for all tests, and so one program
    rows = [np.minimum(np.arange(start, start + BATCH), len(c) - 1) for start in range(0, len(c), BATCH)]
    if path == "own":
        parts = [host(batched(_own, axes=(None, 0, 0))(x, c[r], a[r])) for r in rows]
    else:
        panel = share_panel(np.asarray(x), 2**20 if path == "packed" else 0)
        assert (panel.outer.shape[1] > 0) == (path == "packed")
        parts = [host(batched(_shared, axes=(None, 0, 0))(panel, c[r], a[r])) for r in rows]
    moments, skew, gain = jax.tree.map(lambda *leaves: np.concatenate(leaves)[: len(c)], *parts)
    one = np.ones_like(moments.inverse_scale)  # a wild row that a universe does not use may change the unit of cubes
    return moments._replace(third=moments.third / moments.inverse_scale**3, inverse_scale=one), skew, gain


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest) -> str:
    return request.param


def market(seed: int = 0) -> Array:
    return oracles.random_market(np.random.default_rng(seed), T, N, 3).astype(np.float32).astype(np.float64)


def draws(seed: int, n: int = 8) -> Array:
    """Counts (n, T) of bootstrap resamples of T rows."""
    rng = np.random.default_rng(seed)
    return np.stack([np.bincount(rng.integers(T, size=T), minlength=T) for _ in range(n)])


def above(frame: pd.DataFrame) -> pd.Series:
    """Mean of each column above its 95 % quantile, 0 if there is nothing: pandas' own."""
    return frame[frame > frame.quantile(0.95)].mean().fillna(0)


def scale_of(covariance: Array) -> Array:
    deviation = np.sqrt(np.diag(covariance))
    return np.outer(deviation, deviation)


def assert_moments(found: Moments, i: int, mean: Array, covariance: Array, rtol: float) -> None:
    """Means to the deviations' scale, covariances to that of the two variances: what the weights see."""
    deviation = np.sqrt(np.diag(covariance))
    np.testing.assert_array_less(np.abs(found.mean[i] - mean) / deviation, rtol)
    np.testing.assert_array_less(np.abs(found.covariance[i] - covariance) / scale_of(covariance), rtol)


def test_counts_equal_pandas_on_the_repeated_rows(path: str, dtype: Any, tol: Tolerance) -> None:
    returns, counts = market(), draws(1)
    found, skew, gain = statistics(path, returns, counts, ALL, dtype)
    assert found.valid.all()
    assert not found.dropped.any()
    for i, count in enumerate(counts):
        frame = pd.DataFrame(returns[oracles.expand(count)])
        assert found.count[i] == T
        assert_moments(found, i, frame.mean().to_numpy(), frame.cov().to_numpy(), tol.rtol)
        np.testing.assert_allclose(skew[i], frame.skew(), rtol=10 * tol.rtol, atol=10 * tol.rtol)
        np.testing.assert_allclose(gain[i], above(frame), rtol=tol.rtol)


def test_fractional_weights_are_frequencies(path: str, dtype: Any, tol: Tolerance) -> None:
    rng = np.random.default_rng(2)
    returns = market(1)
    weights = rng.uniform(0, 3, (6, T)) * (rng.uniform(size=(6, T)) < 0.7)
    weights = weights.astype(np.float32).astype(np.float64)
    found, skew, gain = statistics(path, returns, weights, ALL, dtype)
    for i, c in enumerate(weights):
        mean, covariance = oracles.moments(returns, c)
        assert found.count[i] == pytest.approx(c.sum(), rel=tol.rtol)
        assert_moments(found, i, mean, covariance, tol.rtol)
        np.testing.assert_allclose(skew[i], oracles.skewness(returns, c), rtol=10 * tol.rtol, atol=10 * tol.rtol)
        np.testing.assert_allclose(gain[i], oracles.tail_gain(returns, c), rtol=tol.rtol)


def test_third_moment_is_the_mean_cubed_deviation(path: str, dtype: Any, tol: Tolerance) -> None:
    returns, counts = market(2), draws(2, 3)
    found, _, _ = statistics(path, returns, counts, ALL, dtype)
    for i, c in enumerate(counts):
        deviation = returns - c @ returns / T
        spread = np.sqrt(c @ deviation**2 / T)
        np.testing.assert_allclose(found.third[i] / spread**3, c @ deviation**3 / T / spread**3, atol=10 * tol.rtol)


# Never read


# the last stands for the largest number of the precision, whose square is infinite
GARBAGE = (np.nan, np.inf, -np.inf, 1e6, 0.0)


def spoil(garbage: float, dtype: Any) -> float:
    return garbage if garbage else float(np.finfo(dtype).max)


@pytest.mark.parametrize("garbage", GARBAGE, ids=["nan", "inf", "-inf", "1e6", "largest"])
def test_rows_of_weight_0_are_never_read(path: str, dtype: Any, tol: Tolerance, garbage: float) -> None:
    returns, counts = market(3), draws(3, 3)
    counts[:, [0, 7, 59]] = 0
    clean, skew, gain = statistics(path, returns, counts, ALL, dtype)
    dirty, garbage = returns.copy(), spoil(garbage, dtype)
    dirty[0], dirty[7, 2], dirty[59, 1:4] = garbage, garbage, -garbage
    found, skew2, gain2 = statistics(path, dirty, counts, ALL, dtype)
    assert found.valid.all()
    for i in range(3):
        assert_moments(found, i, clean.mean[i], clean.covariance[i], 10 * tol.rtol)
    np.testing.assert_allclose(skew2, skew, rtol=100 * tol.rtol, atol=100 * tol.rtol)
    np.testing.assert_allclose(gain2, gain, rtol=tol.rtol)


@pytest.mark.parametrize("garbage", GARBAGE, ids=["nan", "inf", "-inf", "1e6", "largest"])
def test_masked_assets_are_never_read(path: str, dtype: Any, tol: Tolerance, garbage: float) -> None:
    returns, counts = market(4), draws(4, 3)
    mask = np.array([True, False, True, True, False, True])
    dirty, garbage = returns.copy(), spoil(garbage, dtype)
    dirty[:, 1], dirty[5, 4] = garbage, -garbage
    found, skew, gain = statistics(path, dirty, counts, mask, dtype)
    assert found.valid.all()
    assert not found.dropped.any()
    for values in (found.mean, found.covariance, skew):
        assert not np.asarray(values)[:, ~mask].any()  # exactly 0, and no NaN
    for i, c in enumerate(counts):
        mean, covariance = oracles.moments(returns[:, mask], c)
        part = Moments(*found)._replace(mean=found.mean[:, mask], covariance=found.covariance[:, mask][:, :, mask])
        assert_moments(part, i, mean, covariance, tol.rtol)
        np.testing.assert_array_equal(found.active[i], mask)
        expected = oracles.tail_gain(returns[:, mask], c)
        np.testing.assert_allclose(np.asarray(gain)[i, mask], expected, rtol=tol.rtol)


# Constant columns


def test_constant_columns_leave_whatever_their_computed_variance(path: str, dtype: Any, tol: Tolerance) -> None:
    returns, counts = market(5), draws(5, 4)
    flat = returns.copy()
    flat[:, 1], flat[:, 4] = 0.1, -1e-3  # whose deviations from a computed mean need not be 0
    found, skew, _ = statistics(path, flat, counts, ALL, dtype)
    others = np.array([True, False, True, True, False, True])
    assert found.dropped.all()
    assert found.valid.all()
    np.testing.assert_array_equal(found.active, np.broadcast_to(others, (4, N)))
    for values in (found.mean, found.covariance, found.third, skew):
        assert not np.asarray(values)[:, ~others].any()
    mean, covariance = oracles.moments(returns[:, others], counts[0])
    part = Moments(*found)._replace(mean=found.mean[:, others], covariance=found.covariance[:, others][:, :, others])
    assert_moments(part, 0, mean, covariance, tol.rtol)


def test_constancy_is_judged_on_the_rows_in_use(path: str, dtype: Any) -> None:
    returns = market(6)
    returns[:30, 2] = 0.01
    windows = np.zeros((3, T))
    windows[0, :30], windows[1, 10:31], windows[2] = 1, 1, 1
    found, _, _ = statistics(path, returns, windows, ALL, dtype)
    np.testing.assert_array_equal(found.dropped, [True, False, False])
    np.testing.assert_array_equal(found.active[:, 2], [False, True, True])


def test_a_masked_constant_column_is_not_reported(path: str, dtype: Any) -> None:
    returns = market(6)
    returns[:, 2] = 0.01
    mask = ALL.copy()
    mask[2] = False
    found, _, _ = statistics(path, returns, np.ones((1, T)), mask, dtype)
    assert not found.dropped[0]


def test_two_neighbouring_values_are_not_constant(path: str, dtype: Any) -> None:
    returns = market(7)
    level = dtype(1e-4)
    returns[:, 3] = level
    returns[::2, 3] = np.nextafter(level, dtype(1))
    found, _, _ = statistics(path, returns, np.ones((1, T)), ALL, dtype)
    assert not found.dropped[0]
    assert found.active[0, 3]


# Invalid universes


def test_what_makes_a_universe_invalid(path: str, dtype: Any) -> None:
    returns = market(8)
    broken = returns.copy()
    broken[11, 2], broken[20, 4], broken[30, 5] = np.nan, np.inf, -np.inf
    ones = np.ones(T)

    def weights(**at: float) -> Array:
        c = ones.copy()
        c[[11, 20, 30]] = 0
        for row, value in at.items():
            c[int(row[1:])] = value
        return c

    single = np.zeros(T)
    single[3] = 7
    cases = [
        (weights(), ALL, True),
        (weights(r11=1), ALL, False),
        (weights(r20=1), ALL, False),
        (weights(r30=1e-6), ALL, False),
        (weights(r5=-1), ALL, False),
        (weights(r5=np.nan), ALL, False),
        (weights(r5=np.inf), ALL, False),
        (ones, np.arange(N) < 2, True),
        (ones, np.zeros(N, bool), False),
        (np.zeros(T), ALL, False),
        (single, ALL, False),  # n = 7, but every asset is constant
        (np.where(np.arange(T) < 2, 0.99, 0), ALL, False),  # n < 2
        (np.where(np.arange(T) < 2, 1.0, 0), ALL, True),  # n = 2
        (np.where(np.arange(T) < 4, 0.5, 0), ALL, True),
    ]
    found, _, _ = statistics(
        path, broken, np.stack([c for c, _, _ in cases]), np.stack([a for _, a, _ in cases]), dtype
    )
    np.testing.assert_array_equal(found.valid, [valid for _, _, valid in cases])


@pytest.mark.parametrize("row", [0, 59])
def test_an_invalid_universe_does_not_touch_its_neighbours(path: str, x64: Any, row: int) -> None:
    returns, counts = market(9), draws(9, 4)
    counts[:, row] = 0
    clean = statistics(path, returns, counts, ALL, x64)
    dirty, bad = returns.copy(), counts.copy()
    dirty[row], bad[2, row] = np.nan, 1
    found = statistics(path, dirty, bad, ALL, x64)
    assert not found[0].valid[2]
    for a, b in zip(jax.tree.leaves(clean), jax.tree.leaves(found), strict=True):
        if path == "own":  # a shared panel's centre moves by a rounding with the rows it has
            np.testing.assert_array_equal(np.delete(a, 2, 0), np.delete(b, 2, 0))
        else:
            np.testing.assert_allclose(np.delete(a, 2, 0), np.delete(b, 2, 0), rtol=1e-9, atol=1e-9)


# Shared panel = own returns


def panel_cases() -> dict[str, tuple[Array, Array]]:
    """(returns, weights (B, T)) that a one-pass moment could get wrong."""
    rng = np.random.default_rng(10)
    wild = market(10)
    wild[17] = [1e3, -1e3, 5e2, 1e3, 1e3, -9e2]
    without = draws(10, 4)
    without[:, 17] = 0
    calm = market(11)
    calm[:10] *= 1e-2
    calm[:10] += 2e-4  # a quiet window away from the whole panel's centre
    window = np.zeros((3, T))
    window[0, :10], window[1, :5], window[2, :40] = 1, 1, 1
    few = np.zeros((3, T))
    few[0, [3, 41]], few[1, [7, 8, 9]], few[2, 50:] = 1, (5, 1, 1), rng.uniform(0.1, 2, 10)
    return {"wild row of weight 0": (wild, without), "quiet window": (calm, window), "few rows": (market(12), few)}


@pytest.mark.parametrize("case", list(panel_cases()))
@pytest.mark.parametrize("path", PATHS[1:])
def test_shared_panel_gives_what_own_returns_give(path: str, case: str, dtype: Any, tol: Tolerance) -> None:
    returns, weights = panel_cases()[case]
    own, own_skew, own_gain = statistics("own", returns, weights, ALL, dtype)
    found, skew, gain = statistics(path, returns, weights, ALL, dtype)
    np.testing.assert_array_equal(found.valid, own.valid)
    np.testing.assert_array_equal(found.active, own.active)
    assert own.valid.all()
    for i in range(len(weights)):
        assert_moments(found, i, own.mean[i], own.covariance[i], 100 * tol.rtol)
    np.testing.assert_allclose(skew, own_skew, rtol=1e3 * tol.rtol, atol=1e3 * tol.rtol)
    np.testing.assert_allclose(gain, own_gain, rtol=tol.rtol)


def test_the_table_of_products_keeps_to_its_budget() -> None:
    assert fits_outer(T, N, np.float64, T * N * (N + 1) // 2 * 8)
    assert not fits_outer(T, N, np.float64, T * N * (N + 1) // 2 * 8 - 1)
    assert fits_outer(T, N, np.float32, T * N * (N + 1) // 2 * 4)


# Order statistics


def test_quantile_at_every_remainder_equals_pandas(path: str, dtype: Any, tol: Tolerance) -> None:
    returns = market(13)
    first = (np.arange(T)[None, :] < np.arange(2, T + 1)[:, None]).astype(float)  # the first n rows, n = 2..60
    _, skew, gain = statistics(path, returns, first, ALL, dtype)
    for i, n in enumerate(range(2, T + 1)):
        frame = pd.DataFrame(returns[:n])
        np.testing.assert_allclose(gain[i], above(frame), rtol=tol.rtol, err_msg=f"n = {n}")
        expected_skew = frame.skew() if n >= 3 else np.zeros(N)
        np.testing.assert_allclose(skew[i], expected_skew, rtol=50 * tol.rtol, atol=50 * tol.rtol, err_msg=f"n = {n}")


def test_quantile_of_many_repeats_equals_pandas(path: str, dtype: Any, tol: Tolerance) -> None:
    rng = np.random.default_rng(14)
    returns = np.round(market(14), 2)  # many ties
    heavy = np.stack([rng.integers(0, 8, T), rng.integers(0, 40, T), (np.arange(T) % 20 == 0) * 7]).astype(float)
    _, _, gain = statistics(path, returns, heavy, ALL, dtype)
    for i, c in enumerate(heavy):
        frame = pd.DataFrame(returns[oracles.expand(c.astype(int))].astype(dtype))
        np.testing.assert_allclose(gain[i], above(frame), rtol=tol.rtol)


def test_a_repeated_value_stays_itself(path: str, dtype: Any) -> None:
    returns = np.zeros((T, N))
    returns[:, :] = 0.1
    returns[40:] = 0.3  # the quantile lies between two copies of 0.3: nothing is above it
    _, _, gain = statistics(path, returns, np.ones((1, T)), ALL, dtype)
    assert not np.asarray(gain).any()


def test_the_tail_is_found_wherever_the_weight_lies(path: str, dtype: Any, tol: Tolerance) -> None:
    returns = market(15)
    order = np.argsort(returns[:, 0])
    low, heavy, light = np.zeros(T), np.zeros(T), np.full(T, 0.01)
    low[order[:12]] = 1  # all the weight on the panel's smallest values
    heavy[order[:30]], heavy[order[5]] = 1, 50
    light[order[0]] = 100
    weights = np.stack([low, heavy, light])
    _, _, gain = statistics(path, returns, weights, ALL, dtype)
    for i, c in enumerate(weights):
        np.testing.assert_allclose(gain[i], oracles.tail_gain(returns, c), rtol=tol.rtol)


def test_skewness_needs_three_observations(path: str, dtype: Any, tol: Tolerance) -> None:
    returns = market(16)
    cases = np.zeros((4, T))
    cases[0, :2], cases[1, :3], cases[2, :4], cases[3, :10] = 1, 1, (1, 1, 0.4, 0.5), 0.299
    found, skew, _ = statistics(path, returns, cases, ALL, dtype)
    assert found.valid.all()
    assert not np.asarray(skew)[[0, 2, 3]].any()  # n = 2, 2.9, 2.99
    np.testing.assert_allclose(skew[1], pd.DataFrame(returns[:3]).skew(), atol=20 * tol.rtol)


@pytest.mark.parametrize("scale", [1e-5, 1e3])
def test_skewness_has_no_unit(scale: float, dtype: Any, tol: Tolerance) -> None:
    returns, counts = market(17), draws(17, 3)
    _, skew, _ = statistics("own", returns, counts, ALL, dtype)
    found, scaled, _ = statistics("own", scale * returns, counts, ALL, dtype)
    assert found.valid.all()
    np.testing.assert_allclose(scaled, skew, rtol=50 * tol.rtol, atol=10 * tol.rtol)


# Scores


def test_antifragility_is_the_sum_of_two_minmaxes(dtype: Any, tol: Tolerance) -> None:
    rng = np.random.default_rng(18)
    skew, gain = rng.normal(size=(6, N)), rng.uniform(size=(6, N))
    active = rng.uniform(size=(6, N)) < 0.7
    active[:, 0] = True
    active[5, 1:] = False  # alone: 0 by definition
    gain[4] = 0.03  # all equal: 0
    skew, gain = np.where(active, skew, np.nan), np.where(active, gain, np.inf)  # inactive ones are not looked at
    score = host(batched(antifragility)(*cast(dtype, skew, gain), active))
    for i, a in enumerate(active):
        expected = oracles.minmax(skew[i, a]) + oracles.minmax(gain[i, a])
        np.testing.assert_allclose(score[i, a], expected, atol=tol.rtol)
        assert not score[i, ~a].any()
        assert score[i].max() <= 2
        assert score[i].min() >= 0


def test_the_highest_scores_exactly_1_in_each_part_and_the_lowest_0(dtype: Any) -> None:
    # So that two assets, one the most skewed and one with the largest gain, tie.
    rng = np.random.default_rng(19)
    skew, gain = cast(dtype, rng.normal(size=(512, N)), rng.uniform(0.001, 0.1, size=(512, N)))
    skew[:, 0] = np.abs(skew).max(axis=1) + dtype(0.1)
    gain[:, 0] = 0
    gain[:, 1] = gain.max(axis=1) + dtype(0.01)
    skew[:, 1] = -np.abs(skew).max(axis=1) - dtype(0.1)
    score = host(batched(antifragility, optimised=True)(skew, gain, np.ones((512, N), bool)))
    assert np.count_nonzero(score[:, 0] != 1) == 0
    assert np.count_nonzero(score[:, 1] != 1) == 0


# Any weights, any mask


counts_drawn = hnp.arrays(np.int8, T, elements=st.integers(0, 4))
weights_drawn = hnp.arrays(np.float32, T, elements=st.sampled_from([0.0, 0.0, 0.125, 0.5, 1.0, 1.75, 3.0]))
masks_drawn = hnp.arrays(bool, N)


def _compare(path: str, weights: Array, mask: Array, dtype: Any, tol: Tolerance) -> None:
    returns = np.where(mask[None, :] & (weights > 0)[:, None], market(20), np.nan)
    found, skew, gain = statistics(path, returns, weights[None, :], mask, dtype)
    rows = np.flatnonzero(weights > 0)
    possible = bool(weights.sum() >= 2 and mask.any() and len(rows) >= 2)
    assert found.valid[0] == possible
    if not possible:
        return
    columns = np.flatnonzero(mask)
    x = returns[:, columns]
    mean, covariance = oracles.moments(x, weights)
    part = found._replace(mean=found.mean[:, columns], covariance=found.covariance[:, columns][:, :, columns])
    assert_moments(part, 0, mean, covariance, 10 * tol.rtol)
    np.testing.assert_allclose(gain[0, columns], oracles.tail_gain(x, weights), rtol=tol.rtol)
    expected = oracles.skewness(x, weights)
    np.testing.assert_allclose(skew[0, columns], expected, rtol=1e3 * tol.rtol, atol=1e3 * tol.rtol)


@pytest.mark.parametrize("path", PATHS)
@given(weights=st.one_of(counts_drawn, weights_drawn), mask=masks_drawn)
def test_any_weights_and_mask_agree_with_the_oracle(path: str, weights: Array, mask: Array) -> None:
    with jax.enable_x64(True):
        _compare(path, weights.astype(float), mask, np.float64, TOLERANCES[np.float64])
