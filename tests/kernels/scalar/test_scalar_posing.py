"""Correlations of clusters from assets' covariances, against NumPy: any number of clusters, in either precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import Array

pytest.importorskip("numba")

from jaxalloc.kernels.scalar import posing
from jaxalloc.kernels.scalar.compiling import placing


@placing
def correlations(
    covariance: Array, labels: Array, inner: Array, riskless: Array, C: Array, float32_C: Array, room: posing.Room
) -> None:
    posing.by_cluster(labels, len(C), room)
    posing.within(covariance, len(C), 1e-30, 1e-10, inner, riskless, room)
    posing.correlate(covariance, labels, inner, C, float32_C, room)


def found(covariance: Array, labels: Array, dtype: Any) -> tuple[Array, Array, Array]:
    """Weights inside the clusters, and the correlations in both precisions; the upper triangle is not read."""
    size, n = labels.max() + 1, len(labels)
    lower = np.where(np.tri(n, dtype=bool), covariance, np.nan).astype(dtype)
    float32_C = np.full((size, size), np.nan, np.float32)
    C = float32_C if dtype == np.float32 else np.full((size, size), np.nan)
    inner = np.zeros(n, dtype)
    correlations(lower, labels, inner, np.empty(n, bool), C, float32_C, posing.make_room(n))
    return inner, C, float32_C


def expected(covariance: Array, labels: Array) -> tuple[Array, Array]:
    inverse = np.where(labels >= 0, 1 / np.diag(covariance), 0)
    of = (labels[None] == np.arange(labels.max() + 1)[:, None]) * inverse
    V = of / of.sum(axis=1, keepdims=True)
    S = V @ covariance @ V.T
    sigma = np.sqrt(np.diag(S))
    return V.sum(axis=0), S / np.outer(sigma, sigma)


def in_order(labels: Array) -> Array:
    """Numbers of clusters in the order of their first assets."""
    _, first, which = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[which].astype(np.int32)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("kind", ["clusters", "one asset each", "left out"])
def test_correlations_of_clusters(kind: str, dtype: Any) -> None:
    for n in (1, 2, 7, 8, 9, 15, 16, 17, 24, 31, 45):
        rng = np.random.default_rng(n)
        x = rng.normal(size=(4 * n + 20, n)) * rng.uniform(0.1, 3, n) + rng.normal(size=(4 * n + 20, 1))
        covariance = np.cov(x, rowvar=False).reshape(n, n)
        labels = np.arange(n, dtype=np.int32)
        if kind == "clusters":
            labels = in_order(rng.integers(max(1, 3 * n // 4), size=n))
        elif kind == "left out":  # of assets that are clusters of their own, some have none
            labels = np.where(rng.random(n) < 0.3, -1, 0)
            labels[0] = 0
            labels[labels == 0] = np.arange(np.count_nonzero(labels == 0))
            labels = labels.astype(np.int32)
        inner, C, float32_C = found(covariance, labels, dtype)
        own, correlation = expected(covariance, labels)
        tolerance = 40 * np.finfo(dtype).eps
        np.testing.assert_allclose(inner, own, rtol=tolerance)
        np.testing.assert_allclose(C, correlation, atol=tolerance)
        np.testing.assert_array_equal(C, C.T)
        np.testing.assert_array_equal(np.diag(C), 1)
        np.testing.assert_array_equal(float32_C, C.astype(np.float32))
