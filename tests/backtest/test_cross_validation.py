"""Symmetric cross-validation: the loops of the oracle on random returns, with ties, flat halves and rows left over."""

from __future__ import annotations

import itertools
import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
import selection_oracles as oracle
from hypothesis import given
from hypothesis import strategies as st

from jaxalloc.backtest import cross_validation as module
from jaxalloc.backtest.cross_validation import Halves, choose_on_halves, varying

A = 252.0


def validate(returns: np.ndarray, n_blocks: int, rates: Any = 0.0) -> Halves:
    count = len(returns)
    return choose_on_halves(returns, n_blocks, np.full(count, A), np.broadcast_to(np.asarray(rates, float), count))


def assert_as_the_oracle_says(returns: np.ndarray, n_blocks: int, rates: Any = 0.0) -> None:
    found = validate(returns, n_blocks, rates)
    wanted = oracle.overfitting(returns, n_blocks, np.broadcast_to(np.asarray(rates, float) / A, len(returns)))
    assert found.best.tolist() == wanted.best
    logits = np.log(found.rank / (len(returns) + 1 - found.rank))
    np.testing.assert_allclose(logits, wanted.logits, rtol=1e-12, atol=1e-12)
    days = returns[:, returns.shape[1] % n_blocks :].reshape(len(returns), n_blocks, -1)
    for place, chosen in enumerate(itertools.combinations(range(n_blocks), n_blocks // 2)):
        other = [b for b in range(n_blocks) if b not in chosen]
        j = found.best[place]
        rate = float(np.broadcast_to(rates, len(returns))[j]) / A
        for blocks, ratios in ((list(chosen), found.in_sample), (other, found.out_of_sample)):
            ratio = oracle.sharpe(days[j, blocks].ravel(), rate)
            assert ratios[place] == pytest.approx(math.sqrt(A) * ratio, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(("n_blocks", "n_days"), [(2, 9), (4, 43), (6, 90), (8, 61)])
@pytest.mark.parametrize("n_trials", [2, 5, 12])
def test_random_returns(n_trials: int, n_blocks: int, n_days: int) -> None:
    rng = np.random.default_rng([n_trials, n_blocks])
    returns = rng.normal(0.0005, 0.01, n_days) + rng.normal(0, 0.004, (n_trials, n_days))
    assert_as_the_oracle_says(returns, n_blocks)
    assert_as_the_oracle_says(returns, n_blocks, rng.uniform(0, 0.05, n_trials))


@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 4, 6]), st.integers(2, 7))
def test_ties_of_every_kind(seed: int, n_blocks: int, n_trials: int) -> None:
    """Coarse returns tie by chance; some trials are copies, some the same days in another order, some leveraged."""
    rng = np.random.default_rng(seed)
    returns = rng.integers(-3, 4, (n_trials, 5 * n_blocks + int(rng.integers(n_blocks)))) / 100.0
    first = returns.shape[1] % n_blocks
    for j in range(1, n_trials):
        kind = rng.integers(5)
        if kind == 0:
            returns[j] = returns[j - 1]
        elif kind == 1:
            returns[j] = 3 * returns[j - 1]
        elif kind == 2:  # the same days within each block
            blocks = returns[j - 1, first:].reshape(n_blocks, -1)
            returns[j, first:] = rng.permuted(blocks, axis=1).ravel()
    assert_as_the_oracle_says(returns, n_blocks)


@pytest.mark.parametrize("level", [0.0, 0.0003, -0.002, 0.1])
def test_what_does_not_vary_on_a_half_has_the_ratio_of_cash(level: float) -> None:
    rng = np.random.default_rng(3)
    returns = rng.normal(0.001, 0.01, (4, 48))
    returns[1, :24] = level  # flat on the first half alone
    returns[3, 8:40] = level  # on six of the blocks that hold two thirds of the days
    assert_as_the_oracle_says(returns, 6, 0.02)
    found = validate(np.stack([returns[1], returns[1] * 1.5]), 6)
    assert found.in_sample[0] == found.out_of_sample[-1] == 0
    assert found.out_of_sample[0] == found.in_sample[-1] != 0


def test_flat_blocks_of_different_levels_are_a_series_that_varies() -> None:
    steps = np.repeat([0.01, 0.02, 0.03, 0.05], 6)
    assert_as_the_oracle_says(np.stack([steps, np.random.default_rng(0).normal(0, 0.01, 24)]), 4)


def test_rows_left_over_are_the_first() -> None:
    rng = np.random.default_rng(5)
    returns = rng.normal(0, 0.01, (3, 35))
    wild = returns.copy()
    wild[:, :3] = rng.normal(0.5, 1, (3, 3))
    for one, other in zip(validate(returns, 8), validate(wild, 8), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_other_half_is_the_mirror() -> None:
    found = validate(np.random.default_rng(6).normal(0, 0.01, (1, 64)), 6)
    np.testing.assert_array_equal(found.in_sample, found.out_of_sample[::-1])
    assert set(found.rank) == {1}


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    returns = np.random.default_rng(7).normal(0, 0.01, (9, 100))
    whole = validate(returns, 10)
    monkeypatch.setattr(module, "_CHUNK_BYTES", 8 * 9 * 13)
    small = validate(returns, 10)
    np.testing.assert_array_equal(small.best, whole.best)
    np.testing.assert_array_equal(small.rank, whole.rank)
    np.testing.assert_allclose(small.out_of_sample, whole.out_of_sample, rtol=1e-12, atol=1e-12)


def test_memory_does_not_grow_with_halves_times_trials() -> None:
    returns = np.random.default_rng(8).normal(0, 0.01, (1600, 64))
    peaks = []
    for count in (400, 1600):
        tracemalloc.start()
        try:
            validate(returns[:count], 16)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
    assert peaks[1] < 12_870 * 1600 * 8  # one array of the ratios of all halves


def test_noise_in_the_last_place_does_not_vary() -> None:
    eps = np.finfo(float).eps
    noise = 1e-4 * (1 + eps * np.random.default_rng(0).integers(-1, 2, 50))
    assert varying(np.stack([noise, np.zeros(50), np.linspace(0, 1e-9, 50)])).tolist() == [False, False, True]
