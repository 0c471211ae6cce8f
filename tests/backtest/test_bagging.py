"""Bagged walk-forwards: portfolios equal to means of single allocations, and held as all others are."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest

import jaxalloc as ja
from jaxalloc.portfolios.means import over_cap
from jaxalloc.universes.bootstrap import Bags
from jaxalloc.universes.samplers import Product, RollingWindows, steps
from jaxalloc.universes.universe import draw_universe, seed_key

MARKET = ja.datasets.synthetic_market(n_assets=12, n_observations=260)
N = 12
CONFIG = ja.AllocationConfig(profiles=("min_variance", "risk_parity", "max_sharpe", "barbell", "hrp", "equal_weight"))
BAGGING = ja.Bootstrap(15, "circular", 8)
WINDOW, STEP = 100, 40
ARRAYS = ("gross", "net", "whole_net", "turnover", "weights", "target", "current", "figures")


@functools.cache
def walked(**options: Any) -> ja.WalkForward:
    given: dict[str, Any] = {"window": WINDOW, "step": STEP, "bagging": BAGGING, "seed": 3, "costs_bps": 7.0}
    return ja.walk_forward(MARKET, CONFIG, **(given | options))


def drawn(sampler: Product, first: int, count: int) -> np.ndarray:
    """(count, T) how often the universes hold each row."""
    gaps, key = np.zeros((len(MARKET), 1), np.float32), seed_key(3)
    one = jax.jit(lambda i: draw_universe(steps(sampler, len(MARKET)), key, i, gaps).weights)
    return np.stack([np.asarray(one(np.int32(i))) for i in range(first, first + count)]).astype(float)


def singles(counts: np.ndarray) -> np.ndarray:
    """(B, P, N) weights of universes that hold the rows so often."""
    with jax.enable_x64(True):
        batch = ja.allocate_batch(MARKET.to_numpy(), CONFIG.replace(periods_per_year=252), observation_weights=counts)
    return np.asarray(batch.weights)


def test_each_window_holds_the_mean_of_single_allocations_of_the_same_draws() -> None:
    walk = walked()
    sampler = Product((RollingWindows(WINDOW, STEP, live=True), Bags(15, "circular", 8)))
    assert walk.bagged is not None
    n_windows = walk.schedule.n_windows
    assert n_windows == 5 == sampler.count(len(MARKET)) // 15
    for j in range(n_windows):
        counts = drawn(sampler, 15 * j, 15)
        last = walk.schedule.decided(j)
        assert (counts[:, last - WINDOW + 1 : last + 1].sum(axis=1) == WINDOW).all()
        weights = singles(counts)
        np.testing.assert_allclose(walk.bagged.mean[0, :, j], weights.mean(axis=0), atol=1e-12)
        np.testing.assert_allclose(walk.bagged.deviation[0, :, j], weights.std(axis=0, ddof=1), atol=1e-12)
    np.testing.assert_allclose(walk.history.weights[0], walk.bagged.mean[0, :, : walk.schedule.n_held], atol=1e-15)
    np.testing.assert_array_equal(walk.history.target[0], walk.bagged.mean[0, :, -1])
    assert (walk.bagged.valid == 15).all()


def test_tables_have_standard_errors_resamples_and_caps() -> None:
    walk = walked()
    assert walk.bagged is not None
    errors = walk.standard_errors("hrp")
    assert errors.shape == (walk.schedule.n_windows, N)
    assert list(errors.index) == list(MARKET.index[walk.schedule.decisions])
    np.testing.assert_array_equal(walk.target("hrp")["standard_error"], errors.iloc[-1])
    table = walk.rebalances()
    assert (table["resamples"] == 15).all()
    labels = walk.allocations.columns("cluster_labels")["cluster_labels"]
    config = CONFIG.replace(periods_per_year=252)
    for j in range(walk.schedule.n_held):
        wanted = over_cap(walk.bagged.mean[0, :, j], labels[j], config)
        found = [table.loc[profile]["over_cap"].iloc[j] for profile in CONFIG.profiles]
        assert found == wanted.tolist()
    assert "mean of those of 15 resamples of its window, in blocks of 8 rows" in walk.bagging_words


def test_bets_are_by_the_windows_own_clusters_and_covariance() -> None:
    walk = walked()
    labels = walk.allocations.columns("cluster_labels")["cluster_labels"]
    values = MARKET.to_numpy()
    for j in range(walk.schedule.n_held):
        last = walk.schedule.decided(j)
        covariance = np.cov(values[last - WINDOW + 1 : last + 1].T)
        for p in range(len(CONFIG.profiles)):
            x = walk.history.weights[0, p, j]
            share = np.bincount(labels[j], x * (covariance @ x) / (x @ covariance @ x))
            share = share[share > 0] / share[share > 0].sum()
            assert walk.history.bets[0, p, j] == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-10)


def test_baselines_without_estimates_do_not_move() -> None:
    walk, p = walked(), CONFIG.profiles.index("equal_weight")
    np.testing.assert_allclose(walk.history.weights[0, p], 1 / N, atol=1e-15)
    assert walk.bagged is not None
    np.testing.assert_allclose(walk.bagged.deviation[0, p], 0, atol=1e-15)


def test_the_portfolios_are_held_like_any_others() -> None:
    """A plain loop over the days, from the weights decided."""
    walk = walked()
    assert walk.bagged is not None
    values, rate = MARKET.to_numpy(), 7e-4
    for p in range(len(CONFIG.profiles)):
        held, net = np.zeros(N), []
        for j in range(walk.schedule.n_held):
            low, high = walk.schedule.held(j)
            target = walk.bagged.mean[0, p, j]
            cost = rate * np.abs(target - held).sum()
            held = target
            for day in range(low, high):
                gross = held @ values[day]
                net.append((1 - cost) * (1 + gross) - 1)
                held, cost = held * (1 + values[day]) / (1 + gross), 0.0
        np.testing.assert_allclose(walk.history.net[0, p], net, atol=1e-14)


@pytest.mark.parametrize("options", [{"chunk_size": 1}, {"chunk_size": 4000}])
def test_chunks_change_no_bit(options: dict[str, Any]) -> None:
    one, other = walked(), walked(**options)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(one.history, name), getattr(other.history, name))
    assert one.bagged is not None
    assert other.bagged is not None
    for name, array in one.bagged._asdict().items():
        np.testing.assert_array_equal(getattr(other.bagged, name), array)


def test_lead_assets_are_the_heaviest_in_the_mean() -> None:
    walk, whole = walked(execution="lead"), walked()
    labels = walk.allocations.columns("cluster_labels")["cluster_labels"]
    assert whole.bagged is not None
    for j in range(walk.schedule.n_held):
        for p in range(len(CONFIG.profiles)):
            mean, held = whole.bagged.mean[0, p, j], walk.history.weights[0, p, j]
            for k in range(labels[j].max() + 1):
                members = np.flatnonzero(labels[j] == k)
                assert held[members].sum() == pytest.approx(mean[members].sum(), abs=1e-14)
                lead = members[mean[members].argmax()]
                assert held[lead] == pytest.approx(held[members].sum(), abs=1e-15)
    np.testing.assert_allclose(walk.history.whole_net, whole.history.net, atol=1e-15)


def test_paths_hold_bagged_portfolios_too() -> None:
    paths = ja.Bootstrap(3, "stationary", 21)
    walk = walked(paths=paths)
    sampler = Product((paths, RollingWindows(WINDOW, STEP), Bags(15, "circular", 8)))
    rows, values = paths.rows(len(MARKET), 3, 0, 3), MARKET.to_numpy()
    assert walk.path_figures is not None
    n_windows = RollingWindows(WINDOW, STEP).count(len(MARKET))
    for path in range(3):
        held, net = np.zeros((len(CONFIG.profiles), N)), []
        for j in range(walk.schedule.n_held):
            target = singles(drawn(sampler, (path * n_windows + j) * 15, 15)).mean(axis=0)
            low, high = walk.schedule.held(j)
            cost, held = 7e-4 * np.abs(target - held).sum(axis=1), target
            for day in range(low, high):
                returns = values[rows[path, day]]
                gross = held @ returns
                net.append((1 - cost) * (1 + gross) - 1)
                held, cost = held * (1 + returns) / (1 + gross)[:, None], 0.0
        volatility = np.sqrt(252) * np.std(net, axis=0, ddof=1)
        found = walk.paths().loc[path]["volatility"]
        np.testing.assert_allclose(found, volatility, rtol=1e-10)
    bets = walk.paths()["effective_bets"]
    assert np.isfinite(bets).all()
    np.testing.assert_array_equal(walk.history.net, walked().history.net)  # the history does not notice


def test_a_folder_has_it_all_and_a_run_goes_on(tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    folder, done = tmp_path / "walk", 0
    options: dict[str, Any] = {"chunk_size": 1, "paths": ja.Bootstrap(2, "stationary", 21), "out": folder}
    total = (5 + 2 * 5) * (1 + 15)

    def stop(count: int) -> None:
        nonlocal done
        done += count
        if done >= total - 20:
            raise StopError

    given: dict[str, Any] = {"window": WINDOW, "step": STEP, "bagging": BAGGING, "seed": 3, "costs_bps": 7.0} | options
    with pytest.raises(StopError):
        ja.walk_forward(MARKET, CONFIG, **given, progress=stop)
    seen: list[int] = []
    walk = ja.walk_forward(MARKET, CONFIG, **given, resume=True, progress=seen.append)
    assert sum(seen) == total
    loaded = ja.load_walk_forward(folder)
    assert walk.bagged is not None
    assert loaded.bagged is not None
    for name, array in walk.bagged._asdict().items():
        np.testing.assert_array_equal(getattr(loaded.bagged, name), array)
    np.testing.assert_array_equal(walk.history.net, walked().history.net)
    assert loaded.bagging_words == walk.bagging_words != ""
    with pytest.raises(ja.InputError, match="holds sums over resamples"):
        ja.load_study(folder / "bags")
    with pytest.raises(ja.InputError, match="bagging"):
        ja.walk_forward(MARKET, CONFIG, **(given | {"bagging": ja.Bootstrap(16, "circular", 8)}), resume=True)
    plain = ja.walk_forward(MARKET, CONFIG, **(given | {"bagging": None, "paths": None}), fresh=True)
    assert plain.bagged is None
    assert not (folder / "bags").exists()
    assert not (folder / "path-bags").exists()
    assert ja.load_walk_forward(folder).bagged is None


def test_sweeps_and_gaps(tmp_path: Path) -> None:
    frame = MARKET.copy()
    frame.iloc[:130, 3] = np.nan  # listed late
    frame.iloc[70, 5] = np.nan
    grid = ja.sweep(CONFIG.replace(profiles=("risk_parity", "min_variance")), cluster_cap=[0.2, 0.5])
    walk = ja.walk_forward(frame, grid, WINDOW, STEP, bagging=BAGGING, seed=3)
    assert walk.bagged is not None
    assert walk.bagged.mean.shape == (2, 2, 5, N)
    np.testing.assert_allclose(walk.bagged.mean.sum(axis=3), 1, atol=1e-14)
    late = walk.bagged.mean[:, :, :, 3]
    assert (late[:, :, :2] == 0).all()
    assert (late[:, :, -1] > 0).any()
    alone = ja.walk_forward(frame, grid.at(1), WINDOW, STEP, bagging=BAGGING, seed=3)
    np.testing.assert_array_equal(walk.history.net[1], alone.history.net[0])
    assert walk.standard_errors("risk_parity").index.names == ["cluster_cap", "decided"]


def test_a_window_without_a_portfolio_keeps_what_is_held() -> None:
    values = MARKET.to_numpy().copy()
    values[:100] = np.nan
    frame = pd.DataFrame(values, index=MARKET.index, columns=MARKET.columns)
    walk = ja.walk_forward(frame, CONFIG, WINDOW, STEP, bagging=BAGGING)
    assert walk.bagged is not None
    assert np.isnan(walk.bagged.mean[0, :, 0]).all()
    assert walk.history.kept[0, :, 0].all()
    assert not walk.history.kept[0, :, -1].any()


def test_expanding_windows_are_bagged() -> None:
    walk = walked(expanding=True)
    sampler = Product((RollingWindows(WINDOW, STEP, expanding=True, live=True), Bags(15, "circular", 8)))
    weights = singles(drawn(sampler, 15 * 2, 15))
    assert walk.bagged is not None
    np.testing.assert_allclose(walk.bagged.mean[0, :, 2], weights.mean(axis=0), atol=1e-12)


@pytest.mark.parametrize(
    ("bagging", "words"),
    [
        (20, "bagging must be a Bootstrap"),
        (ja.Bootstrap(None, "circular", 5), "bagging needs n"),
        (ja.Bootstrap(5, "circular", 500), "block_length must be a whole number from 1 to 100"),
        (ja.Bootstrap(5, "circular"), "needs a block_length"),
    ],
)
def test_bad_bagging_is_named(bagging: object, words: str) -> None:
    with pytest.raises(ja.InputError, match=words):
        ja.walk_forward(MARKET, CONFIG, WINDOW, STEP, bagging=bagging)  # type: ignore[arg-type]


def test_standard_errors_need_bagging() -> None:
    with pytest.raises(ja.InputError, match="not bagged; give walk_forward bagging="):
        walked(bagging=None).standard_errors("hrp")
