"""Moments and scores from the rows that universes hold, against the kernels in lanes and against NumPy and pandas."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np
import oracles
import pytest
from helpers import Array, compiled

from jaxalloc.kernels.moments.panel import SharedPanel, in_groups, share_panel
from jaxalloc.portfolios.estimates import Given, annual_estimates, observe_shared
from jaxalloc.settings.config import AllocationConfig, cast_config

pytest.importorskip("numba")

from jaxalloc.kernels.scalar import moments

T, N, PADDED = 96, 13, 16
_, ROWS, _ = moments.room(PADDED, np.float64)
DECAY = 0.97


class Case(NamedTuple):
    """Universes of a panel."""

    returns: Array
    weights: Array
    masks: Array


def bootstraps(seed: int, count: int, n_rows: int = T) -> Array:
    rng = np.random.default_rng(seed)
    return np.stack([np.bincount(rng.integers(n_rows, size=n_rows), minlength=n_rows) for _ in range(count)]) * 1.0


def market(seed: int, n_rows: int = T, n_assets: int = N) -> Array:
    rng = np.random.default_rng(seed)
    return (
        1e-4
        + rng.standard_t(4, (n_rows, n_assets)) * rng.uniform(0.002, 0.05, n_assets)
        + 0.01 * rng.normal(size=(n_rows, 1))
    )


def case(kind: str) -> Case:
    """Bootstraps, windows, gaps and masks, fractions, constant columns, or bad weights."""
    x, weights, masks = market(3), bootstraps(4, 24), np.ones((24, N), bool)
    rng = np.random.default_rng(9)
    if kind == "windows":
        weights[:] = 0
        for b in range(24):
            weights[b, 2 * b : 2 * b + int(rng.integers(2, 40))] = 1
    elif kind == "gaps":
        x[:30, 2], x[70:, 5] = np.nan, np.inf
        masks = rng.random((24, N)) < 0.7
        weights[::2, :30] = 0
    elif kind == "fractions":
        weights *= rng.uniform(0.1, 3, weights.shape)
    elif kind == "constant":
        x[10:60, 4], x[::2, 7], x[:, 8] = 0.01, 0.0, 0.0
        weights[:] = 0
        for b in range(24):
            weights[b, b : b + 30] = 1
    elif kind == "bad":
        weights[0, 3], weights[1, 4], weights[2, 5], weights[3], weights[4] = -1, np.nan, np.inf, 0, 0
        weights[4, 7] = 1
        masks[5] = False
    elif kind == "wild":
        x[5, 3], x[6, 2], x[:, 9] = 1e200, 1e20, 1e-120 * x[:, 9]
    return Case(returns=x, weights=weights, masks=masks)


def observe(of: Case, dtype: Any, decays: bool, size: int = PADDED) -> tuple[moments.Observed, SharedPanel]:
    """By the scalar kernel, with room that holds anything; both triangles."""
    shared = share_panel(of.returns.astype(dtype), 0, len(of.returns), size)
    count, limits = len(of.weights), np.finfo(dtype)
    made = moments.Observed(
        mean=np.full((count, size), 9, dtype),
        covariance=np.full((count, size, size), np.nan, dtype),
        active=np.ones((count, size), bool),
        antifragility=np.full((count, size), 9, dtype),
        dropped=np.ones(count, bool),
        valid=np.ones(count, bool),
    )
    panel = moments.Panel(
        centred=in_groups(shared.centred, moments.lanes(dtype)),
        centre=shared.centre,
        inverse_scale=shared.inverse_scale,
        missing=shared.missing if shared.missing.any() else shared.missing[:0],
        returns=shared.returns,
        order=np.ascontiguousarray(shared.order.T),
        descending=np.ascontiguousarray(shared.descending.T),
        most_repeated=int(shared.most_repeated),
    )
    moments.observe(
        panel,
        of.weights.astype(dtype),
        padded(of.masks, size),
        np.full(count, 252.0),
        np.full(count, DECAY),
        decays,
        float(limits.tiny / limits.eps),
        float(limits.max * limits.eps),
        count,
        of.returns.shape[1],
        np.full(moments.room(size, dtype), np.nan, dtype),
        made,
    )
    moments.mirror(made.covariance, count)
    return made, shared


def padded(masks: Array, size: int = PADDED) -> Array:
    return np.pad(masks, ((0, 0), (0, size - masks.shape[1])))


@pytest.mark.parametrize("decays", [False, True], ids=["sample", "ewma"])
@pytest.mark.parametrize("kind", ["bootstraps", "windows", "gaps", "fractions", "constant", "bad", "wild"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_estimates_of_the_lanes(dtype: Any, kind: str, decays: bool) -> None:
    of = case(kind)
    with np.errstate(over="ignore", under="ignore"):
        found, shared = observe(of, dtype, decays)
    choice: Any = "ewma" if decays else "sample"
    with jax.enable_x64(dtype is np.float64):
        settings = AllocationConfig(profiles=(), covariance=choice, ewma_decay=DECAY, periods_per_year=252)
        config = cast_config(settings, np.dtype(dtype))

        def one(c: Any, a: Any) -> Any:
            return annual_estimates(observe_shared(shared, config, c, a), config, Given(), None)

        expected = jax.device_get(compiled(jax.vmap(one))(of.weights.astype(dtype), padded(of.masks)))
    np.testing.assert_array_equal(found.valid, expected.valid)
    valid, eps = found.valid, np.finfo(dtype).eps
    assert valid.any()
    assert not np.isnan(found.covariance).any()
    np.testing.assert_array_equal(found.dropped[valid], expected.dropped[valid])
    np.testing.assert_array_equal(found.active, expected.active)
    np.testing.assert_array_equal(found.covariance[~valid], expected.covariance[~valid])
    np.testing.assert_array_equal(found.covariance, found.covariance.swapaxes(1, 2))
    np.testing.assert_allclose(found.mean[valid], expected.mean[valid], rtol=64 * eps, atol=64 * eps)
    deviation = np.sqrt(np.einsum("bii->bi", expected.covariance[valid]))
    scale = np.where(deviation > 0, deviation, 1)
    off = np.abs(found.covariance[valid] - expected.covariance[valid]) / scale[:, :, None] / scale[:, None, :]
    assert off.max() < (2000 if kind == "windows" else 200) * eps  # the mean of few rows is far from the centre
    scores = (20_000 if kind == "windows" else 2000) * eps
    np.testing.assert_allclose(found.antifragility[valid], expected.antifragility[valid], atol=scores)


def test_the_estimates_of_numpy_and_pandas() -> None:
    of = case("bootstraps")
    found, _ = observe(of, np.float64, False)
    for b in range(6):
        rows = np.repeat(np.arange(T), of.weights[b].astype(int))
        x = of.returns[rows]
        np.testing.assert_allclose(found.mean[b, :N], 252 * x.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(found.covariance[b, :N, :N], 252 * np.cov(x, rowvar=False), rtol=1e-9, atol=1e-15)
        skew, gain = oracles.skewness(x), oracles.tail_gain(x)
        score = (skew - skew.min()) / np.ptp(skew) + (gain - gain.min()) / np.ptp(gain)
        np.testing.assert_allclose(found.antifragility[b, :N], score, atol=1e-9)
    assert not found.covariance[:, N:].any()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n_assets", [1, 3, 7, 8, 9, 16, 17, 23, 31, 33, 48])
def test_any_number_of_assets(n_assets: int, dtype: Any) -> None:
    """Whole groups of columns and parts of groups; nothing is written past a universe's own matrix."""
    of = Case(returns=market(5, n_assets=n_assets), weights=bootstraps(6, 5), masks=np.ones((5, n_assets), bool))
    found, _ = observe(of, dtype, False, size=-(-n_assets // 4) * 4)
    assert found.valid.all()
    for b in range(5):
        x = of.returns[np.repeat(np.arange(T), of.weights[b].astype(int))]
        expected = 252 * np.cov(x, rowvar=False).reshape(n_assets, n_assets)
        deviation = np.sqrt(np.diag(expected))
        off = np.abs(found.covariance[b, :n_assets, :n_assets] - expected) / np.outer(deviation, deviation)
        assert off.max() < 1000 * np.finfo(dtype).eps
    assert not found.covariance[:, n_assets:].any()


def test_more_rows_than_are_copied_at_once() -> None:
    x = market(6, n_rows=2 * ROWS + 17)
    of = Case(returns=x, weights=np.ones((2, len(x))), masks=np.ones((2, N), bool))
    of.weights[1, :ROWS] = 0
    found, _ = observe(of, np.float64, False)
    for b, part in enumerate((x, x[ROWS:])):
        np.testing.assert_allclose(found.covariance[b, :N, :N], 252 * np.cov(part, rowvar=False), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("n_rows", [64, 65, 127, 128, 150, 600])
def test_the_tails_of_a_calm_piece_of_a_panel(n_rows: int) -> None:
    """Its largest returns lie far from the panel's; it has gaps, rows that count several times, and ties."""
    x, rng = market(11, n_rows), np.random.default_rng(12)
    at = rng.integers(0, n_rows - n_rows // 5, size=12)
    weights = np.zeros((12, n_rows))
    for b, first in enumerate(at.tolist()):
        piece = slice(first, first + n_rows // 5)
        weights[b, piece] = rng.integers(0, 4, n_rows // 5)
    x[n_rows // 3 :] = np.round(x[n_rows // 3 :] / 5, 3 if n_rows > 100 else 6)
    found, _ = observe(Case(returns=x, weights=weights, masks=np.ones((12, N), bool)), np.float64, False)
    assert found.valid.all()
    for b in range(12):
        held = np.repeat(x, weights[b].astype(int), axis=0)
        skew, gain = oracles.skewness(held), oracles.tail_gain(held)
        score = (skew - skew.min()) / np.ptp(skew) + (gain - gain.min()) / np.ptp(gain)
        np.testing.assert_allclose(found.antifragility[b, :N], score, atol=1e-9)


def test_a_universe_has_the_same_bits_in_any_company() -> None:
    of = case("gaps")
    whole, _ = observe(of, np.float64, False)
    alone, _ = observe(Case(returns=of.returns, weights=of.weights[7:9], masks=of.masks[7:9]), np.float64, False)
    for name in moments.Observed._fields:
        assert getattr(whole, name)[7:9].tobytes() == getattr(alone, name).tobytes(), name
