"""Whole portfolios of other choices and sizes than the house's, against the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracles
import pytest
from helpers import OTHER_CHOICES, TOLERANCES, N, Tolerance, assert_as_oracle, one, universes

from jaxalloc.engine.batch import allocate_batch
from jaxalloc.portfolios.result import Allocation
from jaxalloc.settings.config import CRITERIA, LINKAGES, AllocationConfig


def as_the_oracle_s(config: AllocationConfig, tol: Tolerance) -> Allocation:
    """Allocate 64 of the house's universes, and compare each with the oracle's answer."""
    returns, weights, masks = (part[:64] for part in universes())
    found = allocate_batch(returns, config, weights, masks)
    for i in range(64):
        answer = oracles.allocate(returns[i], config, weights[i], masks[i])
        assert_as_oracle(one(found, i), answer, config, tol, f"universe {i}")
    return found


def test_choices_are_obeyed(x64: Any) -> None:
    found = as_the_oracle_s(OTHER_CHOICES, TOLERANCES[x64])
    assert found.weights.shape == (64, 2, N)
    assert found.n_clusters.max() == 6


def test_clusters_without_the_market_of_highest_silhouette_are_the_oracle_s(x64: Any) -> None:
    config = AllocationConfig(criterion="silhouette", detone=True)
    found = as_the_oracle_s(config, TOLERANCES[x64])
    assert len(np.unique(found.n_clusters)) > 3


@pytest.mark.slow
@pytest.mark.parametrize("linkage", LINKAGES)
@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("detone", [False, True])
def test_every_linkage_and_cut_equals_the_oracle_s(linkage: str, criterion: str, detone: bool, x64: Any) -> None:
    config = AllocationConfig(linkage=linkage, criterion=criterion, max_clusters=7, detone=detone)
    as_the_oracle_s(config, TOLERANCES[x64])


@pytest.mark.slow
@pytest.mark.parametrize("n_assets", [40, 100])
def test_larger_universes_equal_the_oracle_s(n_assets: int, dtype: Any, tol: Tolerance) -> None:
    rng = np.random.default_rng([34, n_assets])
    returns = np.stack([
        oracles.random_market(rng, 252, n_assets, int(rng.integers(2, n_assets // 2)), inside=rng.uniform(0.7, 0.9))
        for _ in range(64)
    ]).astype(np.float32).astype(float)  # fmt: skip
    found = allocate_batch(returns)
    for i in range(64):
        assert_as_oracle(one(found, i), oracles.allocate(returns[i]), AllocationConfig(), tol, f"universe {i}")
