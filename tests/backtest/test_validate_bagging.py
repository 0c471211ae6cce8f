"""Bagged cross-validation: portfolios equal to means of single allocations of the same draws, held like all others."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import split_oracles as oracle

import jaxalloc as ja
from jaxalloc.backtest.folder import BAGS
from jaxalloc.storage.manifest import read_manifest
from jaxalloc.universes.bootstrap import Bags
from jaxalloc.universes.samplers import Product, steps
from jaxalloc.universes.splits import CombinatorialSplits
from jaxalloc.universes.universe import draw_universe, seed_key

N, T = 12, 131
MARKET = ja.datasets.synthetic_market(n_assets=N, n_observations=T)
CONFIG = ja.AllocationConfig(profiles=("risk_parity", "max_sharpe", "hrp", "equal_weight"))
GROUPS, TESTED, EMBARGO, SEED = 4, 2, 3, 5
BAGGING = ja.Bootstrap(7, "circular", 8)
GRID = ja.sweep(CONFIG, cluster_cap=[0.3, 0.6])
SPLITS = oracle.splits(T, GROUPS, TESTED, 0, EMBARGO)


@functools.cache
def validated(settings: Any = CONFIG, **options: Any) -> ja.CrossValidation:
    given: dict[str, Any] = {"groups": GROUPS, "test_groups": TESTED, "embargo": EMBARGO, "seed": SEED}
    return ja.cross_validate(MARKET, settings, **(given | {"bagging": BAGGING} | options))


@functools.cache
def drawn() -> np.ndarray:
    """(6, 7, T) how often the resamples of each split's training rows hold each row."""
    sampler = Product((CombinatorialSplits(GROUPS, TESTED, 0, EMBARGO), Bags(7, "circular", 8)))
    gaps, key = np.zeros((T, 1), np.float32), seed_key(SEED)
    one = jax.jit(lambda draws, i: draw_universe(draws, key, i, gaps).weights)
    numbers = np.arange(6 * 7, dtype=np.int32)
    return np.stack([np.asarray(one(steps(sampler, T), i)) for i in numbers]).astype(float).reshape(6, 7, T)


def test_each_split_holds_the_mean_of_single_allocations_of_the_same_draws() -> None:
    found = validated(GRID)
    assert found.bagged is not None
    for g, point in enumerate((0, 1)):
        config = GRID.at(point).replace(periods_per_year=252)
        for s, (training, _) in enumerate(SPLITS):
            counts = drawn()[s]
            assert counts.sum(axis=1).tolist() == [len(training)] * 7
            assert set(np.flatnonzero(counts.any(axis=0))) <= set(training)
            with jax.enable_x64(True):
                batch = ja.allocate_batch(MARKET.to_numpy(), config, observation_weights=counts)
            weights = np.asarray(batch.weights)
            for p, profile in enumerate(CONFIG.profiles):
                mean, error = found.weights(profile, g).loc[s], found.standard_errors(profile, g).loc[s]
                np.testing.assert_allclose(mean, weights[:, p].mean(axis=0), atol=1e-12)
                np.testing.assert_allclose(error, weights[:, p].std(axis=0, ddof=1), atol=1e-12)
    assert (found.bagged.valid == 7).all()
    words = "each portfolio is the mean of those of 7 resamples of its split's training rows, in blocks of 8 rows"
    assert found.bagging_words == words


def test_the_portfolios_are_held_like_any_others() -> None:
    found = validated(costs_bps=25.0)
    cut, paths = oracle.groups_of(T, GROUPS), oracle.paths(GROUPS, TESTED)
    for profile in CONFIG.profiles:
        weights = found.weights(profile).to_numpy()
        for q, path in enumerate(paths):
            expected = oracle.hold(MARKET.to_numpy(), weights, cut, path, 25e-4)
            np.testing.assert_allclose(found.returns[q, profile], expected, atol=1e-12)
    own = validated(bagging=None, costs_bps=25.0)
    assert np.abs(found.net - own.net)[:, :, :3].max() > 1e-4
    np.testing.assert_allclose(found.net[:, :, 3], own.net[:, :, 3], atol=1e-12)  # equal weights see no data
    np.testing.assert_array_equal(own.weights("hrp").to_numpy(), own.study.weights("hrp").to_numpy())


def test_bets_are_by_the_splits_own_clusters_and_covariance() -> None:
    found = validated()
    labels = found.study.columns("cluster_labels")["cluster_labels"]
    bets = np.empty((len(SPLITS), len(CONFIG.profiles)))
    for s, (training, _) in enumerate(SPLITS):
        covariance = np.cov(MARKET.to_numpy()[training].T)
        for p, profile in enumerate(CONFIG.profiles):
            x = found.weights(profile).loc[s].to_numpy()
            share = np.bincount(labels[s], x * (covariance @ x) / (x @ covariance @ x))
            share = share[share > 0] / share[share > 0].sum()
            bets[s, p] = np.exp(-(share * np.log(share)).sum())
    table = found.paths()["effective_bets"].unstack("profile")[list(CONFIG.profiles)]
    for q, path in enumerate(found.path_splits.to_numpy()):
        np.testing.assert_allclose(table.loc[q], bets[path].mean(axis=0), rtol=1e-9)


def test_a_folder_keeps_the_sums_and_a_run_goes_on(tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    seen: list[int] = []

    def stop(count: int) -> None:
        seen.append(count)
        if sum(seen) > 20:  # of 6 splits and 42 resamples
            raise StopError

    options: dict[str, Any] = {"groups": GROUPS, "test_groups": TESTED, "embargo": EMBARGO, "seed": SEED}
    options |= {"out": tmp_path / "splits", "bagging": BAGGING}
    with pytest.raises(StopError):
        ja.cross_validate(MARKET, CONFIG, **options, chunk_size=5, progress=stop)
    assert read_manifest(tmp_path / "splits" / BAGS) is not None
    counts: list[int] = []
    found = ja.cross_validate(MARKET, CONFIG, **options, resume=True, progress=counts.append)
    assert sum(counts) == 6 + 42
    np.testing.assert_array_equal(found.net, validated().net)
    with pytest.raises(ja.InputError, match="sampler"):
        ja.cross_validate(MARKET, CONFIG, **(options | {"bagging": ja.Bootstrap(8)}), resume=True)
    ja.cross_validate(MARKET, CONFIG, **(options | {"bagging": None}), fresh=True)
    assert not (tmp_path / "splits" / BAGS).exists()
    ja.load_study(tmp_path / "splits")


@pytest.mark.parametrize(
    ("bagging", "words"),
    [
        (20, "bagging must be a Bootstrap"),
        (ja.Bootstrap(None), "bagging needs n"),
        (ja.Bootstrap(5, "circular", 200), "block_length must be a whole number from 1 to 66"),
    ],
)
def test_bad_bagging_is_named_before_anything_is_computed(bagging: Any, words: str) -> None:
    with pytest.raises(ja.InputError, match=words):
        validated.__wrapped__(bagging=bagging, progress=lambda count: pytest.fail("computed"))
    with pytest.raises(ja.InputError, match="portfolios are not bagged; give cross_validate bagging="):
        validated(bagging=None, costs_bps=25.0).standard_errors("hrp")
