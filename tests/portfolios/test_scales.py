"""Returns of any size, and sizes any number of powers of ten apart: a portfolio, or a status that says why not."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from helpers import Array, N, T, Tolerance, batched, host, universes

import jaxalloc as ja
from jaxalloc.engine.batch import allocate_batch
from jaxalloc.kernels.solvers.problem import Solution
from jaxalloc.portfolios.mending import mended
from jaxalloc.portfolios.result import Allocation
from jaxalloc.settings.config import PROFILE_NAMES, AllocationConfig
from jaxalloc.settings.status import Status

ALL = AllocationConfig(profiles=tuple(PROFILE_NAMES))
DEFAULT = AllocationConfig()
MOST = {np.float32: 38, np.float64: 300}  # powers of ten that the precision has on either side of 1


def returns_of(kind: str) -> Array:
    """(T, N) in four clusters; "skewed" has exponential noise, whose skewness is no matter of rounding."""
    rng = np.random.default_rng(3)
    noise = rng.exponential if kind == "skewed" else rng.standard_normal
    common, own = noise(size=(T, 4))[:, np.arange(N) % 4], noise(size=(T, N))
    x = 0.01 * (common + 0.3 * own)
    return x - (x.mean(axis=0) if kind == "skewed" else 0)


def powers(most: int) -> Array:
    """(S, N) powers of ten to multiply assets by: of all, of one, within the clusters and between them."""
    rows = []
    for share in (0.05, 0.1, 0.17, 0.25, 0.34, 0.45, 0.5):
        a, one, odd, late = share * most, np.eye(N)[0], np.arange(N) % 2, np.arange(N) >= 4
        rows += [[-a] * N, [a] * N, -a * one, a * one, -a * odd, -a * late, a - 2 * a * late, np.linspace(-a, a, N)]
    return np.array(rows)


def assert_portfolios(found: Allocation, tol: float) -> None:
    """Weights sum to 1 and nothing is no number, in every valid universe; an invalid one has none."""
    valid = (found.status & Status.INVALID.value) == 0
    np.testing.assert_array_equal(np.isnan(found.weights).any(axis=-1), ~valid)
    for name in ("weights", "volatility", "expected_return", "risk_contributions", "optimality_gap"):
        assert np.isfinite(getattr(found, name)[valid]).all(), name
    assert np.isfinite(found.antifragility[valid.all(axis=1)]).all()
    assert (np.abs(found.weights[valid].sum(axis=-1) - 1) <= tol).all()
    assert (np.abs(found.cluster_weights[valid].sum(axis=-1) - 1) <= tol).all()
    assert (found.weights[valid] >= 0).all()
    room = found.asset_bound[..., None] * (1 + 4 * np.finfo(found.weights.dtype).eps)
    sleeve = found.aggressors[:, None, :] & (np.array(ALL.profiles[: found.weights.shape[1]]) == "barbell")[:, None]
    assert (found.weights <= room)[valid[..., None] & ~sleeve].all()


@pytest.mark.parametrize("kind", ["plain", "skewed"])
def test_sizes_far_apart_are_portfolios_or_a_status(kind: str, dtype: Any) -> None:
    x = (returns_of(kind) * 10.0 ** powers(MOST[dtype])[:, None, :]).astype(dtype)
    tol = 1e-12 if dtype is np.float64 else 1e-6
    own = allocate_batch(x, ALL)
    assert_portfolios(own, tol)
    assert (own.status & 1 == 0).any(axis=1).mean() > 0.6
    one = np.ones((1, T), dtype)
    shared = [allocate_batch(each, ALL, one) for each in x[:: 9 if kind == "plain" else 5]]
    for found in shared:
        assert_portfolios(found, tol)
    single = [host(ja.allocate(each, DEFAULT)) for each in x[::7]]
    for each in single:
        assert_portfolios(jax.tree.map(lambda leaf: leaf[None], each), tol)


def test_traced_allocations_keep_the_promise_too(x64: Any) -> None:
    x = (returns_of("skewed") * 10.0 ** powers(MOST[x64])[:, None, :]).astype(x64)
    mapped = batched(ja.allocate, axes=(0, None, 0, 0))
    index = np.linspace(0, len(x) - 1, 16).astype(int)
    _, weights, masks = universes()
    ones = np.ones_like(weights[:16]), np.ones_like(masks[:16])
    assert_portfolios(host(mapped(x[index], DEFAULT, *ones)), 1e-12)


@pytest.mark.parametrize("path", ["own", "shared"])
def test_scores_have_no_unit(path: str, dtype: Any, tol: Tolerance) -> None:
    """Returns of about 1e-102 (2e-13 in float32), or 1e90 (1e10), have the skewness of those of ordinary size."""
    x = returns_of("skewed").astype(dtype)
    small, large = (-332, 300) if dtype is np.float64 else (-36, 36)
    sizes = [np.ldexp(x, power).astype(dtype) for power in (0, small, large)]
    if path == "own":
        found = allocate_batch(np.stack(sizes), DEFAULT).antifragility
    else:
        found = np.stack([allocate_batch(each, DEFAULT, np.ones((1, T))).antifragility[0] for each in sizes])
    assert np.ptp(found[0]) > 0.1
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])  # a power of 2 changes no digit


def test_mended_solutions_are_portfolios_within_their_bounds(x64: Any) -> None:
    rng = np.random.default_rng(4)
    weights = rng.dirichlet(np.ones(N), 6)
    upper = rng.uniform(1.2 / N, 0.4, (6, N))
    weights[1] *= 0.4
    weights[2, 3] = np.nan
    weights[3, :2] = weights[3, 1] + 1, -1.0
    upper[4, :6], weights[4] = [0] * 6, np.inf
    variance = 10.0 ** rng.uniform(-290, 290, (6, N))
    solutions = Solution(
        weights=weights,
        gap=np.array([1e-12, 1e-12, 1e-12, 1e-12, np.nan, np.nan]),
        iterations=np.zeros(6, np.int32),
        altered=np.zeros(6, bool),
        converged=np.ones(6, bool),
    )
    found = jax.tree.map(np.asarray, mended(solutions, variance, upper))
    np.testing.assert_array_equal(found.weights[[0, 5]], weights[[0, 5]])
    np.testing.assert_array_equal(found.converged, [True, False, False, False, False, False])
    np.testing.assert_array_equal(found.gap, [1e-12, 1, 1, 1, 1, 1])
    np.testing.assert_allclose(found.weights.sum(axis=1), 1, rtol=1e-14)
    for made, bound, v in zip(found.weights[1:5], upper[1:5], variance[1:5], strict=True):
        assert (made >= 0).all()
        assert (made <= bound * (1 + 1e-12)).all()
        calmest = np.argmin(np.where(bound > 0, v, np.inf))
        assert made[calmest] == pytest.approx(bound[calmest])  # all of what it may hold
