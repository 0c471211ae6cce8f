"""Solutions near a solved problem, against differentiated systems of optimality conditions written in NumPy.

K = 9 in one program each; the systems hold every unknown and every multiplier, where the kernels eliminate them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from helpers import compiled

from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.solvers import implicit

K, CASES = 9, 200
Array = np.ndarray
BACKENDS = [pytest.param(backend, id=backend.value) for backend in Backend]


def problems(seed: int) -> tuple[Array, Array, Array]:
    """Covariances, rewards and bounds; in some the bounds bind, in some they do not."""
    rng = np.random.default_rng(seed)
    covariance = np.stack([oracles.random_covariance(rng, K) for _ in range(CASES)])
    excess = rng.normal(0.03, 0.08, (CASES, K))
    upper = rng.uniform(0.12, 0.9, (CASES, K)) * rng.choice([1, 2], (CASES, 1))
    upper[:, -1] = np.where(rng.random(CASES) < 0.3, 0, upper[:, -1])  # takes no part
    upper[:, 0] += np.maximum(1.1 - upper.sum(axis=1), 0)
    return covariance, excess, upper


def directions(seed: int) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(seed)
    step = rng.normal(size=(CASES, K, K)) * 0.01
    change = rng.normal(size=(CASES, K)) * 0.05
    return step + np.swapaxes(step, 1, 2), rng.normal(size=(CASES, K)) * 0.02, change


def differentiated(
    residual: Callable[..., Array], hessian: Array, free: Array, full: Array, upper: Array, changes: tuple[Array, ...]
) -> Array:
    """dw of residual(w, problem) = multiplier on the face, sum w = 1, w = u where full; the whole system at once.

    The derivatives of the residual with respect to the problem are central differences of the formula itself, which is
    linear or nearly so in it.
    """
    h = 1e-6
    right = np.zeros(K + 1)
    right[:K] = (
        -(residual(*(h * change for change in changes)) - residual(*(-h * change for change in changes))) / 2 / h
    )
    system = np.zeros((K + 1, K + 1))
    system[:K, :K] = hessian
    system[:K, K], system[K, :K] = -1, 1
    for i in np.flatnonzero(~free):  # the equation of a held entry says how its bound moves
        system[i], right[i] = 0, changes[2][i] if full[i] else 0
        system[i, i] = 1
    return np.linalg.solve(system, right)[:K]


def sides(weights: Array, upper: Array) -> tuple[Array, Array]:
    full = (upper > 0) & (weights >= upper * (1 - 1e-12))
    return (weights > 1e-12) & ~full, full


def derivatives(face: Any, near: Any, problem: tuple[Array, ...], changes: tuple[Array, ...], *more: Array) -> Array:
    def one(problem: Any, changes: Any, *more: Any) -> Any:
        kept = face(*problem, *more)
        return jax.jvp(lambda *problem: near(*problem, kept), problem, changes)

    with jax.enable_x64(True):
        value, tangent = compiled(jax.vmap(one))(problem, changes, *more)
        np.testing.assert_allclose(value, more[0], atol=1e-9)
        return np.asarray(tangent)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("rewarded", [False, True], ids=["minimum variance", "maximum Sharpe ratio"])
def test_mean_variance_follows_from_its_optimality_conditions(rewarded: bool, backend: Backend) -> None:
    problem, changes = problems(1), directions(2)
    solved, altered = [], np.zeros(CASES, bool)
    for i, (S, e, u) in enumerate(zip(*problem, strict=True)):
        if rewarded:
            w, altered[i] = oracles.max_sharpe(S, e, u)
        else:
            w = oracles.min_variance(S, u)
        solved.append(w)
    weights = np.stack(solved)
    seeks = np.full(CASES, rewarded) & ~altered

    def face(S: Any, e: Any, u: Any, w: Any, seeks: Any) -> implicit.Face:
        return implicit.mean_variance_face(S, e, u, w, seeks, backend)

    def near(S: Any, e: Any, u: Any, face: Any) -> Any:
        return implicit.mean_variance_near(lambda w: S @ w, e, u, face)

    got = derivatives(face, near, problem, changes, weights, seeks)
    compared = 0
    for i, (S, e, u) in enumerate(zip(*problem, strict=True)):
        w, (dS, de, du) = weights[i], tuple(change[i] for change in changes)
        free, full = sides(w, u)
        if not free.any():
            assert abs(got[i].sum()) < 1e-9
            continue

        def gradient(dS: Array, de: Array, _: Array, S: Array = S, e: Array = e, w: Array = w, i: int = i) -> Array:
            S, e = S + dS, e + de
            return S @ w / (w @ S @ w) - e / (e @ w) if seeks[i] else S @ w

        v, r = w @ S @ w, e @ w
        bent = S / v - 2 * np.outer(S @ w, S @ w) / v**2 + np.outer(e, e) / r**2 if seeks[i] else S
        expected = differentiated(gradient, bent, free, full, u, (dS, de, du))
        np.testing.assert_allclose(got[i], expected, atol=1e-7 * (1 + np.abs(expected).max()))
        compared += 1
    assert compared > CASES / 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_risk_parity_follows_from_its_barrier(backend: Backend) -> None:
    covariance, _, upper = problem = problems(3)
    changes = directions(4)
    weights = np.zeros((CASES, K))
    for i, (S, u) in enumerate(zip(covariance, upper, strict=True)):
        own = u > 0
        weights[i, own] = oracles.risk_parity(S[np.ix_(own, own)], u[own])[0]

    def face(S: Any, _: Any, u: Any, w: Any) -> implicit.Face:
        return implicit.risk_parity_face(S, u, w, backend)

    def near(S: Any, _: Any, u: Any, face: Any) -> Any:
        return implicit.risk_parity_near(lambda w: S @ w, u, face)

    got = derivatives(face, near, problem, changes, weights)
    for i, (S, u) in enumerate(zip(covariance, upper, strict=True)):
        w, (dS, de, du) = weights[i], tuple(change[i] for change in changes)
        free, full = sides(w, u)
        if not free.any():
            assert abs(got[i].sum()) < 1e-9
            continue
        level = np.mean((w * (S @ w))[free])

        # w_i (Sw)_i = lambda on the face: its logarithm
        def logarithm(dS: Array, *_: Array, S: Array = S, w: Array = w, level: float = level) -> Array:
            return w * ((S + dS) @ w) / level

        hessian = (np.diag(S @ w) + w[:, None] * S) / level
        expected = differentiated(logarithm, hessian, free, full, u, (dS, de, du))
        np.testing.assert_allclose(got[i], expected, atol=1e-7 * (1 + np.abs(expected).max()))


def test_minimum_variance_of_each_block_is_that_of_the_block_alone() -> None:
    rng = np.random.default_rng(5)
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 2, -1], np.int32)
    S = oracles.random_covariance(rng, K)
    step = rng.normal(size=(K, K)) * 0.01
    dS = step + step.T
    weights = np.zeros(K)
    for cluster in range(3):
        own = labels == cluster
        weights[own] = oracles.min_variance(S[np.ix_(own, own)], np.ones(own.sum()))

    def near(S: Any, dS: Any, w: Any) -> Any:
        return jax.jvp(implicit.block_variance_near(S, w, jnp.asarray(labels), Backend.CPU), (S,), (dS,))

    with jax.enable_x64(True):
        value, got = map(np.asarray, compiled(near)(S, dS, weights))
    np.testing.assert_allclose(value, weights, atol=1e-12)
    h = 1e-6
    for cluster in range(3):
        own = labels == cluster
        ends = [oracles.min_variance((S + s * h * dS)[np.ix_(own, own)], np.ones(own.sum())) for s in (1, -1)]
        np.testing.assert_allclose(got[own], (ends[0] - ends[1]) / 2 / h, atol=1e-6)
    assert got[-1] == 0


def test_the_inverse_has_derivatives_of_its_own() -> None:
    rng = np.random.default_rng(6)
    matrix = np.eye(K) + 0.1 * oracles.random_covariance(rng, K)
    step = rng.normal(size=(K, K))
    step = step + step.T

    def second(matrix: Any, step: Any) -> Any:
        first = lambda m: jax.jvp(lambda m: implicit.inverse_of(m, Backend.CPU), (m,), (step,))[1]  # noqa: E731
        return implicit.inverse_of(matrix, Backend.CPU), first(matrix), jax.jvp(first, (matrix,), (step,))[1]

    with jax.enable_x64(True):
        inverse, first, again = map(np.asarray, compiled(second)(matrix, step))
    exact = np.linalg.inv(matrix)
    np.testing.assert_allclose(inverse, exact, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(first, -exact @ step @ exact, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(again, 2 * exact @ step @ exact @ step @ exact, rtol=1e-8, atol=1e-9)
