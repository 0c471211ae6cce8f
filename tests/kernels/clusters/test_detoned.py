"""Correlations without their first principal component, against NumPy's eigenvectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracles
import pytest
from helpers import Array, Tolerance, batched, host

from jaxalloc.kernels.clusters.detoned import detoned, first_component

UNIVERSES = 40


def correlations(n_assets: int, seed: int) -> Array:
    """Samples of markets, from one factor that moves all to none at all."""
    made = []
    for i in range(UNIVERSES):
        rng = np.random.default_rng([seed, n_assets, i])
        groups = int(rng.integers(1, n_assets + 1))
        x = oracles.random_market(rng, 3 * n_assets + 10, n_assets, groups, inside=0.7, across=rng.uniform(0, 0.6))
        made.append(np.corrcoef(x.T))
    return np.stack(made)


def scaled(rest: Array) -> Array:
    deviation = np.sqrt(np.where(np.diag(rest) > 0, np.diag(rest), 1))
    made = rest / np.outer(deviation, deviation)
    np.fill_diagonal(made, 1)
    return made


@pytest.mark.parametrize("n_assets", [2, 3, 12, 60])
def test_what_is_left_is_what_numpy_leaves(n_assets: int, dtype: Any, tol: Tolerance) -> None:
    matrices = correlations(n_assets, 1)
    volatility = np.random.default_rng(0).lognormal(-1, 1, n_assets)
    covariances = (matrices * np.outer(volatility, volatility)).astype(dtype)
    found = host(batched(detoned, axes=(0, 0))(covariances, np.ones((UNIVERSES, n_assets), bool)))
    assert found.dtype == dtype
    for rest, matrix in zip(found, matrices, strict=True):
        values = np.linalg.eigvalsh(matrix)
        gap = (values[-1] - values[-2]) / values[-1]  # rounding turns the vector by so much less than 1 / gap
        np.testing.assert_array_equal(rest, rest.T)
        np.testing.assert_allclose(
            scaled(rest), oracles.detoned(matrix), atol=300 * np.finfo(dtype).eps * n_assets / gap
        )


def test_the_component_of_equal_eigenvalues_is_one_of_them(dtype: Any) -> None:
    """Nothing says which: it is an eigenvector all the same."""
    for matrix in (np.eye(7), np.kron(np.eye(3), np.full((4, 4), 0.5) + 0.5 * np.eye(4))):
        value, vector = host(batched(first_component)(matrix[None].astype(dtype)))
        np.testing.assert_allclose(value[0], np.linalg.eigvalsh(matrix)[-1], rtol=1e-6)
        np.testing.assert_allclose(matrix @ vector[0], value[0] * vector[0], atol=1e-5)


def test_nothing_is_left_of_one_thing(dtype: Any) -> None:
    """One asset, copies of one, and a long and a short position in one: all that they do is the first component.

    They stay what they are to each other.
    """
    one = np.array([1.0, 1, 1, 1, 1])
    for sign in (one, np.array([1.0, -1, 1, -1, -1])):
        active = np.ones((1, 5), bool)
        found = host(batched(detoned, axes=(0, 0))(np.outer(sign, sign)[None].astype(dtype), active))
        np.testing.assert_allclose(found[0], np.outer(sign, sign), atol=1e-6)
    active = np.array([[False, True, False, False, False]])
    alone = host(batched(detoned, axes=(0, 0))(np.eye(5)[None].astype(dtype), active))
    np.testing.assert_array_equal(alone[0], np.diag(active[0]))


def test_copies_of_the_component_are_apart_from_the_rest(dtype: Any) -> None:
    """Two assets are uncorrelated with ten copies of another: those are the component, and nothing else is."""
    matrix = np.ones((12, 12))
    matrix[10:, :] = matrix[:, 10:] = 0
    matrix[10:, 10:] = [[1, 0.5], [0.5, 1]]
    found = host(batched(detoned, axes=(0, 0))(matrix[None].astype(dtype), np.ones((1, 12), bool)))
    np.testing.assert_allclose(found[0], matrix, atol=1e-5)


def test_inactive_assets_are_not_read(dtype: Any) -> None:
    matrix = correlations(9, 5)[:1].astype(dtype)
    active = np.array([[True, True, False, True, True, False, True, True, True]])
    spoilt = np.where(active[:, None] & active[:, :, None], matrix, np.nan)
    found = host(batched(detoned, axes=(0, 0))(spoilt, active))[0]
    inside = np.ix_(active[0], active[0])
    np.testing.assert_allclose(scaled(found[inside]), oracles.detoned(matrix[0][inside].astype(float)), atol=1e-4)
    assert np.all(found[~active[0]] == 0)
