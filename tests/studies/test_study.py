"""Studies: equal to allocate_batch bit for bit, however they are chunked, interrupted, resumed, stored or swept.

One market of 12 assets and one set of choices almost throughout, so that little is compiled.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pandas as pd
import pytest
from helpers import (
    count_compilations,
    make_file,
    make_file_with_line_break,
    make_full_folder,
    make_link,
    make_path_through_file,
)

import jaxalloc as ja
from jaxalloc.arguments.errors import InputError
from jaxalloc.datasets import synthetic_market
from jaxalloc.engine import scalar
from jaxalloc.engine.batch import allocate_batch
from jaxalloc.engine.shapes import sizes_of
from jaxalloc.engine.single import allocate
from jaxalloc.markets.panel import Panel, read_returns
from jaxalloc.markets.source import data_hash
from jaxalloc.portfolios.result import RESULT_FIELDS, Allocation
from jaxalloc.settings.config import AllocationConfig
from jaxalloc.settings.status import Status
from jaxalloc.settings.sweep import sweep
from jaxalloc.storage import writer as store_module
from jaxalloc.storage.place import Place
from jaxalloc.storage.recovery import read_manifest
from jaxalloc.studies import compute as compute_module
from jaxalloc.studies.chunks import Runner
from jaxalloc.studies.folder import load_study
from jaxalloc.studies.local import LocalDevices
from jaxalloc.studies.run import run_study
from jaxalloc.studies.study import Study
from jaxalloc.universes.bootstrap import Bootstrap
from jaxalloc.universes.samplers import RandomSubsets, RollingWindows, Sampler, steps
from jaxalloc.universes.scenarios import Parametric, Stress
from jaxalloc.universes.universe import draw_universe, seed_key

N, T = 12, 252
CHUNK = sizes_of((T, N), np.float64).group  # the smallest chunk
MARKET = synthetic_market(N, T, seed=1)
CONFIG = AllocationConfig(profiles=("max_sharpe", "barbell"))
SAMPLER = Bootstrap(2 * CHUNK + 88, "circular", 21)
LONGER = Bootstrap(4 * CHUNK + 176, "circular", 21)  # five chunks
TINY = Bootstrap(3, "circular", 21)
FILES = {
    *("manifest.json", "manifest-copy.json", "lock", "chunks", "state"),
    *("summary.csv", "profiles.csv", "stability.csv"),
    *("co_association.parquet", "correlation.parquet", "point_assets.csv", "point_clusters.csv", "study.json"),
}
SUMMARIES = (*("summary", "profile_summary", "status_counts", "cluster_counts", "co_association", "cluster_stability"),)


def run(panel: Panel | pd.DataFrame = MARKET, **changes: Any) -> Study:
    arguments: dict[str, Any] = {"sampler": SAMPLER, "config": CONFIG, "seed": 5, "chunk_size": CHUNK}
    return run_study(panel, **(arguments | changes))


def with_gaps(*gaps: tuple[int, int]) -> Panel:
    """The market with gaps at (row, column)."""
    frame = MARKET.copy()
    for row, column in gaps:
        frame.iloc[row, column] = np.nan
    return read_returns(frame, missing="mask")


def frames(study: Study) -> dict[str, Any]:
    """Every frame of a study's universes."""
    return {name: study.weights(name) for name in study.profiles} | {
        "clusters": study.clusters(),
        "universes": study.universes(),
    }


def assert_same_frames(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, frame in one.items():
        check = pd.testing.assert_series_equal if isinstance(frame, pd.Series) else pd.testing.assert_frame_equal
        check(frame, other[name], check_exact=True)


def assert_same_summaries(one: Study, other: Study) -> None:
    """Every bit of every total, point estimate and summary."""
    for mine, its in zip(one.totals, other.totals, strict=True):
        for name, array in mine.arrays().items():
            assert array.tobytes() == its.arrays()[name].tobytes(), name
    assert_same_estimates(one.estimates, other.estimates)
    assert_same_frames(*({name: getattr(study, name)() for name in SUMMARIES} for study in (one, other)))


def assert_same_estimates(one: Allocation, other: Allocation) -> None:
    for name in RESULT_FIELDS:
        mine, its = getattr(one, name), getattr(other, name)
        assert (mine.dtype, mine.tobytes()) == (its.dtype, its.tobytes()), name


def assert_same_study(one: Study, other: Study) -> None:
    assert_same_summaries(one, other)
    assert_same_frames(frames(one), frames(other))


def assert_is_batch(study: Study, batch: Allocation, at: int | None = None) -> None:
    """Every bit of the study's universes is the batch's."""
    for p, profile in enumerate(study.profiles):
        weights = study.weights(profile, at).to_numpy()
        assert weights.dtype == batch.weights.dtype
        assert np.array_equal(weights, batch.weights[:, p], equal_nan=True), profile
        table = study.universes(at)
        rows = table[table["profile"] == profile]
        for name in ("volatility", "expected_return", "optimality_gap", "status"):
            assert np.array_equal(rows[name], getattr(batch, name)[:, p], equal_nan=True), name
        assert np.array_equal(rows["n_clusters"], batch.n_clusters)
        assert np.array_equal(rows["n_assets"], (batch.cluster_labels >= 0).sum(axis=1))
        leads = (batch.lead_assets[:, p, :, None] == np.arange(batch.weights.shape[2])).any(axis=1)
        assert np.array_equal(study.columns(f"{profile}.leads", at=at)[f"{profile}.leads"], leads)
    assert np.array_equal(study.clusters(at), batch.cluster_labels)
    assert np.array_equal(study.columns("aggressors", at=at)["aggressors"], batch.aggressors)


def batch_of(panel: Any = MARKET, config: AllocationConfig = CONFIG, **given: Any) -> Allocation:
    with jax.enable_x64(True):
        return allocate_batch(getattr(panel, "values", panel), config, **given)


@pytest.fixture(scope="module")
def study() -> Study:
    return run()


@pytest.fixture(scope="module")
def longer() -> Study:
    return run(sampler=LONGER)


# What it computes


def test_study_is_allocate_batch_of_the_counts(study: Study) -> None:
    batch = batch_of(observation_weights=SAMPLER.counts(T, 5, 0, SAMPLER.n))
    assert_is_batch(study, batch)
    assert study.weights("barbell").to_numpy().dtype == np.float64
    point = batch_of(observation_weights=np.ones((1, T)))
    assert_same_estimates(study.estimates, point)
    assert np.array_equal(study.point.weights, point.weights[0])


def test_figures_of_the_universes_are_what_they_say(study: Study) -> None:
    counts, returns = SAMPLER.counts(T, 5, 0, SAMPLER.n), MARKET.to_numpy()
    table, labels = study.universes(), study.clusters().to_numpy()
    for p, profile in enumerate(study.profiles):
        rows = table[table["profile"] == profile].set_index("universe")
        for u, x in enumerate(study.weights(profile).to_numpy()):
            by_cluster = np.bincount(labels[u], weights=x)
            path = returns[counts[u] == 0] @ x
            mean, deviation = 252 * path.mean(), np.sqrt(252) * path.std(ddof=1)
            expected = {
                "sharpe": (rows.loc[u, "expected_return"] - CONFIG.risk_free_rate) / rows.loc[u, "volatility"],
                "effective_assets": 1 / (x**2).sum(),
                "effective_clusters": 1 / (by_cluster**2).sum(),
                "concentration": (x**2).sum(),
                "turnover": np.abs(x - study.point.weights[p]).sum() / 2,
                "out_of_bag_return": mean,
                "out_of_bag_volatility": deviation,
                "out_of_bag_sharpe": (mean - CONFIG.risk_free_rate) / deviation,
            }
            np.testing.assert_allclose(rows.loc[u, list(expected)].astype(float), list(expected.values()), rtol=1e-9)


def test_results_are_numpy_and_pandas_only(study: Study) -> None:
    assert (study.n, study.n_valid) == (SAMPLER.n, SAMPLER.n)
    arrays = [getattr(study.estimates, name) for name in RESULT_FIELDS]
    arrays += [getattr(study.point, name) for name in RESULT_FIELDS]
    arrays += [array for totals in study.totals for array in totals.arrays().values()]
    arrays += study.columns("point", "cluster_labels", "barbell.weights").values()
    assert {type(array) for array in arrays if np.ndim(array)} == {np.ndarray}
    assert not any(isinstance(array, jax.Array) for array in arrays)
    assert study.symbols == list(MARKET.columns)
    assert (study.seed, study.precision) == (5, 64)
    assert study.config == CONFIG.replace(periods_per_year=252.0)  # of business days
    for frame in (study.weights("barbell"), study.clusters()):
        assert (frame.index.name, frame.columns.name, frame.shape) == ("universe", "symbol", (SAMPLER.n, N))


def test_settings_come_back_as_python_numbers() -> None:
    config = CONFIG.replace(cluster_cap=jnp.float32(0.5), max_clusters=np.int64(10))
    kept = run(config=config, sampler=dataclasses.replace(SAMPLER, n=1)).config
    assert (kept.cluster_cap, type(kept.cluster_cap)) == (0.5, float)
    assert (kept.max_clusters, type(kept.max_clusters)) == (10, int)
    assert kept.profiles == CONFIG.profiles


@pytest.mark.parametrize("chunk_size", [1, 100, "auto", None])
def test_chunks_change_no_bit(chunk_size: Any, study: Study) -> None:
    assert_same_study(run(chunk_size=chunk_size), study)


def test_fewer_universes_are_the_first_of_more(study: Study, longer: Study) -> None:
    for name, frame in frames(study).items():
        more = frames(longer)[name]
        more = more[more["universe"] < SAMPLER.n].reset_index(drop=True) if name == "universes" else more[: SAMPLER.n]
        pd.testing.assert_frame_equal(frame, more, check_exact=True)


def test_another_study_compiles_nothing(study: Study) -> None:
    with count_compilations() as compiled:
        again = run(config=CONFIG.replace(cluster_cap=0.3))
        run(MARKET * 0.5, sampler=Bootstrap(70, "circular", 5), seed=6)
    assert compiled.count == 0
    assert not again.weights("barbell").equals(study.weights("barbell"))


@pytest.mark.slow
def test_precision_of_32_draws_the_same_universes(study: Study) -> None:
    low = run(precision=32)
    assert {low.weights("barbell").to_numpy().dtype, low.universes()["volatility"].dtype} == {np.dtype(np.float32)}
    assert low.precision == 32
    mine, its = low.universes(), study.universes()
    same = mine["n_clusters"] == its["n_clusters"]
    assert same.mean() > 0.95
    for name in ("volatility", "out_of_bag_volatility"):
        assert np.abs(mine[name] - its[name])[same].max() < 1e-4
    assert low.summary()["mean"].dtype == np.float64
    np.testing.assert_allclose(low.summary()["mean"], study.summary()["mean"], atol=5e-3)


@pytest.mark.parametrize("sampler", [Parametric(4), Stress(volatility=[1.0, 2.0]), Bootstrap(3, "stationary", 5.5)])
def test_samplers_with_numbers_of_their_own_run_in_either_precision(sampler: Sampler) -> None:
    config = CONFIG.replace(profiles=("inverse_variance",))
    low, high = (run(sampler=sampler, config=config, precision=bits).weights("inverse_variance") for bits in (32, 64))
    assert low.to_numpy().dtype == np.float32
    np.testing.assert_allclose(low, high, rtol=1e-3)


@pytest.mark.parametrize("x64", [False, True])
def test_callers_precision_is_left_alone(x64: bool, study: Study) -> None:
    with jax.enable_x64(x64):
        assert_same_study(run(), study)
        with pytest.raises(InputError):
            run(chunk_size=0)
        assert jax.config.values["jax_enable_x64"] is x64


def test_progress_adds_up() -> None:
    seen: list[int] = []
    run(progress=seen.append)
    assert sum(seen) == SAMPLER.n
    assert min(seen) > 0
    assert len(seen) > 2


def test_a_profiler_s_trace_is_written(tmp_path: Path) -> None:
    assert_same_study(run(sampler=TINY, profile_dir=tmp_path / "new" / "trace"), run(sampler=TINY))
    assert any(path.is_file() and path.stat().st_size for path in (tmp_path / "new/trace").rglob("*"))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="cannot write there"):
        run(profile_dir=tmp_path / "file")


# Summaries only


def test_summaries_need_no_universes(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_table(*_: Any) -> None:
        raise AssertionError("a table was made")

    monkeypatch.setattr(Runner, "_table", no_table)
    for chunk_size in (CHUNK, "auto"):
        thin = run(keep="summary", chunk_size=chunk_size)
        assert_same_summaries(thin, study)
        assert thin.tables is None
        for ask, arguments in (
            (thin.weights, ["barbell"]),
            (thin.clusters, []),
            (thin.universes, []),
            (thin.columns, ["point"]),
        ):
            with pytest.raises(InputError, match="keep='weights'"):
                ask(*arguments)


def test_unknown_profiles_and_points_are_refused(study: Study) -> None:
    with pytest.raises(InputError, match="no profile 'risk_parity'; it has max_sharpe, barbell"):
        study.weights("risk_parity")
    for at in (1, -1):
        with pytest.raises(InputError, match=f"points 0 to 0, not {at}"):
            study.summary(at)


# Gaps


def test_assets_are_active_where_their_rows_are_complete() -> None:
    gaps = [(3, 2), (100, 7), (101, 7), (200, 0)]
    panel, sampler = with_gaps(*gaps), dataclasses.replace(SAMPLER, block_length=2)
    study = run(panel, sampler=sampler, max_missing=0)
    counts = sampler.counts(T, 5, 0, sampler.n)
    masks = np.array([[all(row[r] == 0 for r, c in gaps if c == column) for column in range(N)] for row in counts])
    assert np.array_equal(study.clusters() >= 0, masks)
    assert 0 < masks[:, 7].sum() < masks[:, 2].sum() < sampler.n
    assert_is_batch(study, batch_of(panel, observation_weights=counts, asset_mask=masks))
    for profile in CONFIG.profiles:
        assert (study.weights(profile).to_numpy()[~masks] == 0).all()
    table = study.summary()
    for column, symbol in enumerate(MARKET.columns):
        assert (table.xs(symbol, level="symbol")["n_universes"] == masks[:, column].sum()).all()
    assert (study.point.cluster_labels[[2, 7, 0]] == -1).all()
    assert (table.xs(MARKET.columns[7], level="symbol")["point"] == 0).all()
    # out of bag a row counts if all that is held has a return in it
    x, rows = study.weights("max_sharpe").to_numpy(), study.universes()
    rows = rows[rows["profile"] == "max_sharpe"].reset_index(drop=True)
    for u in range(0, sampler.n, 10):
        seen = (counts[u] == 0) & ~(np.isnan(panel.values) & (x[u] > 0)).any(axis=1)
        path = np.nan_to_num(panel.values[seen]) @ x[u]
        assert rows.loc[u, "out_of_bag_return"] == pytest.approx(252 * path.mean(), rel=1e-9)


def test_invalid_universes_are_counted_and_disturb_nobody(study: Study, tmp_path: Path) -> None:
    panel = with_gaps(*[(3, column) for column in range(N)])  # row 3 leaves no asset active
    broken = run(panel, out=tmp_path / "study", max_missing=0)
    without = SAMPLER.counts(T, 5, 0, SAMPLER.n)[:, 3] == 0
    assert 0 < without.sum() == broken.n_valid < SAMPLER.n
    valid = broken.universes().groupby("profile", sort=False)["valid"].apply(np.array)
    assert all(np.array_equal(found, without) for found in valid)
    for profile in CONFIG.profiles:
        mine, whole = (of.weights(profile).to_numpy() for of in (broken, study))
        # not bit for bit: another panel has other medians, about which its moments are taken
        np.testing.assert_allclose(mine[without], whole[without], rtol=0, atol=1e-6)
        assert np.isnan(mine[~without]).all()
    assert (broken.status_counts()["INVALID"] == (~without).sum()).all()
    assert (broken.profile_summary()["valid_share"] == without.mean()).all()
    assert (broken.summary()["n_universes"] == without.sum()).all()
    assert broken.summary()["point"].isna().all()
    assert broken.profile_summary().xs("turnover", level="measure")["mean"].isna().all()
    assert len(broken.cluster_stability()) == 0
    assert {path.name for path in (tmp_path / "study").iterdir()} == FILES
    assert len(pd.read_csv(tmp_path / "study/point_assets.csv")) == 0
    record = json.loads((tmp_path / "study/study.json").read_text(encoding="utf-8"))
    assert record["point_status"] == [{"max_sharpe": ["INVALID"], "barbell": ["INVALID"]}]
    assert_same_study(load_study(tmp_path / "study"), broken)


def test_a_frame_with_gaps_is_refused() -> None:
    with pytest.raises(InputError, match="missing='mask'"):
        run(MARKET.where(MARKET.to_numpy() < 0.03))


# Other ways to draw


def test_without_a_sampler_the_panel_is_the_one_universe(study: Study) -> None:
    alone = run(sampler=None)
    assert (alone.n, alone.n_valid) == (1, 1)
    assert_is_batch(alone, batch_of(observation_weights=np.ones((1, T))))
    assert_same_estimates(alone.estimates, study.estimates)
    table = alone.profile_summary()
    assert (table.xs("turnover", level="measure")["mean"] == 0).all()
    assert table["std"].isna().all()
    assert alone.summary()[["mean", "q05", "q95"]].sub(alone.summary()["point"], axis=0).abs().max(axis=None) < 1e-15
    assert table.xs("out_of_bag_return", level="measure")["n_universes"].eq(0).all()


@pytest.mark.parametrize("expanding", [False, True])
def test_rolling_windows_hold_their_rows(expanding: bool) -> None:
    rolling = run(sampler=RollingWindows(60, 21, expanding=expanding))
    first = [0 if expanding else 21 * j for j in range(10)]
    weights = np.array([(np.arange(T) >= first[j]) & (np.arange(T) < 21 * j + 60) for j in range(10)], float)
    assert_is_batch(rolling, batch_of(observation_weights=weights))
    assert rolling.universes()["out_of_bag_return"].isna().all()  # what it leaves out, it leaves out on purpose
    assert rolling.profile_summary().xs("out_of_bag_sharpe", level="measure")["n_universes"].eq(0).all()


def test_random_subsets_hold_their_assets() -> None:
    subsets = run(sampler=RandomSubsets(7, 70))
    masks = subsets.clusters().to_numpy() >= 0
    assert (masks.sum(axis=1) == 7).all()
    assert len(np.unique(masks, axis=0)) > 40
    assert_is_batch(subsets, batch_of(asset_mask=masks))
    assert np.array_equal(subsets.summary().loc["barbell", "n_universes"], masks.sum(axis=0))


@pytest.mark.slow
@pytest.mark.parametrize("sampler", [Parametric(70, "student_t", 4.0, n_observations=100), Parametric(70)])
def test_parametric_universes_are_allocated_from_what_is_drawn(sampler: Parametric, study: Study) -> None:
    simulated = run(sampler=sampler)
    panel = Panel(MARKET)
    with jax.enable_x64(True):
        product = ja.Product((sampler,)).prepare(panel, T, 252)
        draws, key = steps(product, T), seed_key(5)
        draw = jax.jit(jax.vmap(lambda i: draw_universe(draws, key, i, jnp.zeros((1, N))).returns))
        returns = np.asarray(draw(np.arange(70, dtype=np.int32)))
    assert returns.shape == (70, sampler.n_observations or T, N)
    batch = batch_of(returns)
    for p, profile in enumerate(CONFIG.profiles):
        np.testing.assert_allclose(simulated.weights(profile), batch.weights[:, p], atol=1e-8)
    assert np.array_equal(simulated.clusters(), batch.cluster_labels)
    assert simulated.universes()["out_of_bag_return"].isna().all()
    for name in ("weights", "cluster_labels", "volatility"):  # the point estimate is of the panel
        np.testing.assert_allclose(getattr(simulated.point, name), getattr(study.point, name), atol=1e-10)
    assert_same_study(run(sampler=sampler, chunk_size=None), simulated)


@pytest.mark.slow
def test_stress_is_what_it_says_of_the_moments() -> None:
    shocks = {"volatility": (1.0, 1.5, 2.0), "correlation": (0.0, 0.3, -0.5), "mean": (0.0, -0.1, 0.2)}
    stressed = run(sampler=Stress(**shocks))
    config = CONFIG.replace(profiles=("max_sharpe",))  # a barbell depends on more than the moments
    returns = MARKET.to_numpy()
    mean, covariance = 252 * returns.mean(axis=0), 252 * np.cov(returns, rowvar=False)
    for s in range(3):
        volatility, correlation, shift = (shocks[name][s] for name in ("volatility", "correlation", "mean"))
        m, c = oracles.shocked(mean, covariance, np.full(N, volatility), correlation, np.full(N, shift))
        with jax.enable_x64(True):
            given = allocate(returns, config, mean=m, covariance=c)
        assert np.array_equal(stressed.clusters().loc[s], given.cluster_labels)
        rows = stressed.universes()
        for p, profile in enumerate(config.profiles):
            np.testing.assert_allclose(stressed.weights(profile).loc[s], given.weights[p], atol=1e-7)
            row = rows[(rows["universe"] == s) & (rows["profile"] == profile)].iloc[0]
            assert row["volatility"] == pytest.approx(float(given.volatility[p]), rel=1e-7)
            assert row["expected_return"] == pytest.approx(float(given.expected_return[p]), rel=1e-6)
    # a shock of nothing is the panel itself
    np.testing.assert_allclose(stressed.weights("max_sharpe").loc[0], stressed.point.weights[0], atol=1e-9)


@pytest.mark.slow
def test_products_hold_every_combination(study: Study) -> None:
    both = run(sampler=dataclasses.replace(SAMPLER, n=40) * Stress(volatility=(1.0, 2.0)))
    assert both.n == 80
    table = both.universes()
    for p, profile in enumerate(CONFIG.profiles):
        calm, wild = (both.weights(profile).to_numpy()[s::2] for s in (0, 1))
        np.testing.assert_allclose(calm, study.weights(profile).to_numpy()[:40], atol=1e-9)
        assert np.array_equal(both.clusters()[0::2], both.clusters()[1::2])
        if not p:  # the same factor on all volatilities changes not which Sharpe ratio is highest
            np.testing.assert_allclose(calm, wild, atol=1e-9)
            volatility = table.loc[table["profile"] == profile, "volatility"].to_numpy()
            np.testing.assert_allclose(2 * volatility[0::2], volatility[1::2], rtol=1e-9)
    counts = SAMPLER.counts(T, 5, 0, 40)
    drawn = run(sampler=dataclasses.replace(SAMPLER, n=40) * RandomSubsets(7))
    masks = drawn.clusters().to_numpy() >= 0
    assert (masks.sum(axis=1) == 7).all()
    assert_is_batch(drawn, batch_of(observation_weights=counts, asset_mask=masks))


# Sweeps

GRID: dict[str, list[Any]] = {
    "risk_free_rate": [0.0, 0.03],
    "cluster_cap": [0.2, 0.4],
    "distance_threshold": [0.3, 0.5],
    "n_aggressors": [1, 3],
}
FEW = dataclasses.replace(SAMPLER, n=50)


@pytest.fixture(scope="module")
def swept() -> Study:
    return run(sampler=FEW, config=sweep(CONFIG, **GRID))


def test_a_point_of_a_sweep_is_the_study_of_its_settings(swept: Study) -> None:
    points = list(itertools.product(*GRID.values()))
    assert swept.settings.points == points
    assert len(swept.totals) == len(swept.estimates.status) == len(points) == 16
    distinct = set()
    for at, point in enumerate(points):
        alone = run(sampler=FEW, config=CONFIG.replace(**dict(zip(GRID, point, strict=True))))
        for name in ("weights", "clusters"):
            for profile in swept.profiles if name == "weights" else ("",):
                arguments = (profile,) if profile else ()
                mine, its = getattr(swept, name)(*arguments, at=at), getattr(alone, name)(*arguments)
                pd.testing.assert_frame_equal(mine, its, check_exact=True)
        mine = swept.universes(at).drop(columns=list(GRID))
        pd.testing.assert_frame_equal(mine, alone.universes(), check_exact=True)
        assert_same_estimates(jax.tree.map(lambda leaf, at=at: leaf[at : at + 1], swept.estimates), alone.estimates)
        for name in SUMMARIES:  # means to rounding: a block of universes may lie across two points
            mine, its = getattr(swept, name)(at=at), getattr(alone, name)()
            np.testing.assert_allclose(
                mine.select_dtypes("number") if mine.ndim == 2 else mine,
                its.select_dtypes("number") if its.ndim == 2 else its,
                rtol=1e-12,
                atol=1e-14,
            )
            assert mine.index.equals(its.index)
        distinct.add(alone.weights("max_sharpe").to_numpy().tobytes() + alone.weights("barbell").to_numpy().tobytes())
    assert len(distinct) == 16  # every setting is read


def test_frames_of_a_sweep_hold_all_points_below_each_other(swept: Study) -> None:
    names, points = list(GRID), swept.settings.points
    for frame in (swept.weights("barbell"), swept.clusters(), swept.summary(), swept.profile_summary()):
        assert list(frame.index.names)[:4] == names
    assert swept.weights("barbell").shape == (16 * FEW.n, N)
    assert swept.status_counts().index.names == [*names, "profile"]
    assert swept.cluster_counts().index.names == [*names, "n_clusters"]
    table = swept.universes()
    assert list(table.columns[:6]) == [*names, "universe", "profile"]
    weights, summary = swept.weights("barbell"), swept.summary()
    for at, point in enumerate(points):
        pd.testing.assert_frame_equal(weights.loc[point], swept.weights("barbell", at=at))
        pd.testing.assert_frame_equal(summary.loc[point], swept.summary(at=at))
        rows = table[(table[names] == list(point)).all(axis=1)].reset_index(drop=True)
        pd.testing.assert_frame_equal(rows, swept.universes(at))
    assert swept.n_valid == 16 * FEW.n


def test_chunks_of_a_sweep_change_no_bit(swept: Study, tmp_path: Path) -> None:
    other = run(sampler=FEW, config=sweep(CONFIG, **GRID), chunk_size="auto", out=tmp_path / "study")
    thin = run(sampler=FEW, config=sweep(CONFIG, **GRID), keep="summary", chunk_size=256)
    back = load_study(tmp_path / "study")
    for study in (other, back, thin):
        for mine, its in zip(study.totals, swept.totals, strict=True):
            assert all(array.tobytes() == its.arrays()[name].tobytes() for name, array in mine.arrays().items())
        assert_same_estimates(study.estimates, swept.estimates)
        names = ("summary", "profile_summary", "status_counts", "cluster_counts")
        assert_same_frames(*({name: getattr(of, name)() for name in names} for of in (study, swept)))
    for study in (other, back):
        assert_same_frames(frames(study), frames(swept))
    assert {path.name for path in (tmp_path / "study").iterdir()} == FILES - {"stability.csv", "co_association.parquet"}
    assets = pd.read_csv(tmp_path / "study/point_assets.csv")
    assert list(assets.columns[:5]) == [*GRID, "profile"]
    assert len(assets) == 16 * 2 * N
    assert len(json.loads((tmp_path / "study/study.json").read_text(encoding="utf-8"))["point_status"]) == 16


def test_another_grid_or_point_compiles_nothing(swept: Study) -> None:
    other = {"risk_free_rate": [0.01, 0.02], "cluster_cap": [0.25, 0.3], "aggressor_weight": [0.0, 0.1, 0.2, 0.3]}
    run(sampler=FEW, config=CONFIG)
    with count_compilations() as compiled:
        run(sampler=FEW, config=sweep(CONFIG, **other))
        run(sampler=FEW, config=CONFIG.replace(risk_free_rate=0.04, n_aggressors=2))
        run(sampler=FEW, config=sweep(CONFIG, cluster_cap=[0.33]))
    assert compiled.count == 0


def test_a_grid_of_one_point_is_the_study_of_it(study: Study) -> None:
    one = run(config=sweep(CONFIG, cluster_cap=[0.25]))
    for name, frame in frames(study).items():
        mine = one.universes(0).drop(columns="cluster_cap") if name == "universes" else None
        mine = one.clusters(0) if name == "clusters" else one.weights(name, 0) if mine is None else mine
        pd.testing.assert_frame_equal(mine, frame, check_exact=True)
    pd.testing.assert_frame_equal(one.summary(0), study.summary(), check_exact=True)
    assert one.co_association().equals(study.co_association())


# The folder

HOSTILE = ["universe", "=1+1", "profile", "symbol", "-x", "__index_level_0__", "a,b", "ü", "index", "@", "0", 'q"']


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Path]:
    folder = tmp_path_factory.mktemp("saved") / "not" / "there yet" / "study"
    return run(MARKET.set_axis(HOSTILE, axis=1), out=folder, sampler=LONGER), folder


@pytest.fixture
def copied(saved: tuple[Study, Path], tmp_path: Path) -> Path:
    """A finished study, to be spoilt."""
    return shutil.copytree(saved[1], tmp_path / "copied")


def resume(out: Path, **changes: Any) -> Study:
    return run(MARKET.set_axis(HOSTILE, axis=1), **({"sampler": LONGER, "out": out, "resume": True} | changes))


def contents(folder: Path) -> dict[str, Any]:
    """All that a folder holds: bytes by name, without times."""
    found: dict[str, Any] = {
        str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
    record = json.loads(found.pop("study.json"))
    del record["started"], record["seconds"]
    manifest = read_manifest(folder)
    assert manifest is not None
    assert manifest.finished
    assert set(manifest.chunks) == set(range(len(manifest.chunks)))
    assert None not in manifest.results.values()
    assert found["manifest.json"] == found["manifest-copy.json"]
    del found["manifest.json"], found["manifest-copy.json"], found["lock"]
    return found | {"study.json": record, "identity": manifest.identity}


def chunk_files(folder: Path) -> dict[str, tuple[int, int]]:
    """Which files the finished chunks are."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in (folder / "chunks").iterdir()}


@contextlib.contextmanager
def chunks_computed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The chunks that are computed meanwhile; -1 stands for the point estimate."""
    numbers: list[int] = []
    start, estimate = Runner.start, LocalDevices.estimate

    def counted(self: Runner, number: int, *arguments: Any) -> Any:
        numbers.append(number)
        return start(self, number, *arguments)

    def estimated(self: Any) -> Any:
        numbers.append(-1)
        return estimate(self)

    with monkeypatch.context() as patch:
        patch.setattr(Runner, "start", counted)
        patch.setattr(LocalDevices, "estimate", estimated)
        yield numbers


def test_folder_holds_what_it_says_and_nothing_else(saved: tuple[Study, Path]) -> None:
    _, folder = saved
    assert {path.name for path in folder.iterdir()} == FILES
    assert [path.name for path in folder.parent.iterdir()] == ["study"]
    assert sorted(path.name for path in (folder / "chunks").iterdir()) == [f"{k:06d}.parquet" for k in range(5)]
    assert [path.name for path in (folder / "state").iterdir()] == ["000005.parquet"]


def test_loaded_study_is_the_one_that_was_run(saved: tuple[Study, Path], longer: Study) -> None:
    study, folder = saved
    back = load_study(folder)
    for other in (study, back):
        assert other.symbols == HOSTILE
        assert list(other.weights("barbell").columns) == HOSTILE
    assert_same_study(back, study)
    for name in ("settings", "n", "seed", "precision", "profiles", "config", "n_valid"):
        assert getattr(back, name) == getattr(study, name), name
    assert back.record == json.loads(json.dumps(study.record))
    for profile in CONFIG.profiles:
        assert np.array_equal(back.weights(profile), longer.weights(profile))
    assert os.fspath(folder) not in json.dumps(back.record)  # it may be moved


def test_chunks_tables_are_plain_parquet(saved: tuple[Study, Path]) -> None:
    study, folder = saved
    table = pd.concat([pd.read_parquet(path) for path in sorted((folder / "chunks").iterdir())])
    assert np.array_equal(table["universe"], np.arange(LONGER.n))
    assert (table["point"] == 0).all()
    assert np.array_equal(np.stack(table["barbell.weights"]), study.weights("barbell"))
    assert np.array_equal(np.stack(table["cluster_labels"]), study.clusters())


def test_summaries_come_back(saved: tuple[Study, Path]) -> None:
    study, folder = saved
    tables = {"summary": study.summary(), "profiles": study.profile_summary(), "stability": study.cluster_stability()}
    for name, frame in tables.items():
        back = pd.read_csv(folder / f"{name}.csv", dtype={"symbol": str})
        numbers = frame.select_dtypes("number")
        pd.testing.assert_frame_equal(back[numbers.columns], numbers.reset_index(drop=True), check_dtype=False)
    symbols = pd.read_csv(folder / "summary.csv", dtype={"symbol": str})["symbol"]
    assert list(symbols[:N]) == [f"'{s}" if s in ("=1+1", "-x", "@") else s for s in HOSTILE]
    together = pd.read_parquet(folder / "co_association.parquet")
    pd.testing.assert_frame_equal(together, study.co_association(), check_exact=True)


def test_point_estimate_comes_back(saved: tuple[Study, Path]) -> None:
    study, folder = saved
    assets = pd.read_csv(folder / "point_assets.csv", dtype={"symbol": str})
    clusters = pd.read_csv(folder / "point_clusters.csv")
    for p, profile in enumerate(study.profiles):
        found = assets[assets["profile"] == profile].set_index("symbol")["weight"].rename(lambda s: s.removeprefix("'"))
        assert np.allclose(found[HOSTILE], study.point.weights[p], rtol=1e-15)
        sizes = clusters[clusters["profile"] == profile].set_index("cluster")["size"].sort_index()
        assert np.array_equal(sizes, np.bincount(study.point.cluster_labels))


def test_record_says_what_it_was_made_from(saved: tuple[Study, Path]) -> None:
    study, folder = saved
    record = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    assert record["symbols"] == HOSTILE
    config = record["settings"]["config"]
    assert AllocationConfig(**config | {"profiles": tuple(config["profiles"])}) == CONFIG.replace(
        periods_per_year=252.0
    )
    assert record["settings"]["grid"] == {}
    assert record["sampler"] == {"sampler": "Bootstrap", "n": LONGER.n, "method": "circular", "block_length": 21}
    assert (record["n"], record["seed"], record["precision"]) == (LONGER.n, 5, 64)
    assert (record["keep"], record["chunk_size"]) == ("weights", CHUNK)
    compilers = {"numba"} if scalar.objection() is None else set()
    assert set(record["versions"]) == {"jaxalloc", "jax", "jaxlib", "numpy"} | compilers
    assert (record["data"]["first"], record["data"]["last"]) == ("2021-01-04", "2021-12-21")
    assert record["data"]["sha256"] == data_hash(Panel(MARKET.set_axis(HOSTILE, axis=1)))
    assert record["status_counts"] == study.status_counts().reset_index().to_dict(orient="records")
    point = record["point_status"][0]
    assert set(point["barbell"]) == {b.name for b in Status(int(study.point.status[1]))}
    assert {name: record[name] for name in study.record} == json.loads(json.dumps(study.record))


def test_hash_sees_every_change() -> None:
    gap = with_gaps((3, 2))
    panels = [
        Panel(MARKET),
        Panel(MARKET.iloc[1:]),
        Panel(MARKET.set_axis(HOSTILE, axis=1)),
        Panel(MARKET * 1.0001),
        gap,
    ]
    panels.append(Panel(MARKET.set_axis(MARKET.index + pd.Timedelta(days=1), axis=0)))
    assert len({data_hash(panel) for panel in panels}) == len(panels)
    assert data_hash(Panel(MARKET.copy())) == data_hash(panels[0])
    other_gap = gap.returns.copy()
    other_gap.iloc[3, 2] = -np.float64("nan")  # a gap is a gap, whatever its bits
    assert data_hash(Panel(other_gap)) == data_hash(gap)


# What cannot be loaded


def spoil(path: Path) -> None:
    """Change one byte in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_what_is_no_study_cannot_be_loaded(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine")
    for name in ("empty", "file", "nothing", "file/below"):
        with pytest.raises(InputError, match="no study is stored there"):
            load_study(tmp_path / name)


@pytest.mark.parametrize("name", ["manifest.json", "manifest-copy.json"])
@pytest.mark.parametrize("damage", [spoil, Path.unlink, lambda path: path.write_bytes(b"")])
def test_one_manifest_that_is_damaged_or_lost_costs_nothing(
    name: str,
    damage: Callable[[Path], object],
    saved: tuple[Study, Path],
    copied: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    damage(copied / name)
    assert_same_study(load_study(copied), saved[0])
    with chunks_computed(monkeypatch) as computed:
        again = resume(copied)
    assert computed == []
    assert_same_study(again, saved[0])
    assert contents(copied) == contents(saved[1])


def test_both_manifests_lost_cost_no_chunk(
    saved: tuple[Study, Path], copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = chunk_files(copied)
    for name in ("manifest.json", "manifest-copy.json"):
        (copied / name).unlink()
    with pytest.raises(InputError, match=r"is not finished; run it again with resume=True"):
        load_study(copied)
    with chunks_computed(monkeypatch) as computed:
        again = resume(copied)
    assert computed == []
    assert_same_study(again, saved[0])
    assert contents(copied) == contents(saved[1])
    assert chunk_files(copied) == before


def test_a_damaged_chunk_is_noticed_when_it_is_read(
    saved: tuple[Study, Path], copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = chunk_files(copied)
    spoil(copied / "chunks/000001.parquet")
    study = load_study(copied)
    assert_same_summaries(study, saved[0])
    with pytest.raises(InputError, match=r"chunk 1 of .* is damaged; .* resume=True"):
        study.weights("barbell")
    seen: list[int] = []
    with chunks_computed(monkeypatch) as computed:
        mended = resume(copied, progress=seen.append)
    assert computed == [1]
    assert (seen[0], sum(seen)) == (LONGER.n - CHUNK, LONGER.n)
    assert_same_study(mended, saved[0])
    assert contents(copied) == contents(saved[1])
    after = chunk_files(copied)
    assert {name for name in after if after[name] != before[name]} == {"000001.parquet"}


def test_a_chunk_that_is_gone_is_redone(
    saved: tuple[Study, Path], copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (0, 4):
        (copied / f"chunks/{number:06d}.parquet").unlink()
    with chunks_computed(monkeypatch) as computed:
        resume(copied)
    assert computed == [0, 4]
    assert contents(copied) == contents(saved[1])


def test_a_damaged_state_is_summed_up_again(
    saved: tuple[Study, Path], copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = chunk_files(copied)
    spoil(copied / "state/000005.parquet")
    with pytest.raises(InputError, match=r"summary in .* is damaged; .* resume=True"):
        load_study(copied)
    with chunks_computed(monkeypatch) as computed:
        mended = resume(copied)
    assert computed == [-1, 0, 1, 2, 3, 4]
    assert_same_study(mended, saved[0])
    assert contents(copied) == contents(saved[1])
    assert chunk_files(copied) == before


@pytest.mark.parametrize(
    "name",
    [
        *("study.json", "summary.csv", "profiles.csv", "stability.csv", "point_assets.csv", "point_clusters.csv"),
        *("co_association.parquet", "correlation.parquet"),
    ],
)
def test_a_damaged_result_is_written_again(
    name: str, saved: tuple[Study, Path], copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(copied / name)
    with pytest.raises(InputError, match=rf"{name} of .* is damaged; .* resume=True"):
        load_study(copied)
    with chunks_computed(monkeypatch) as computed:
        resume(copied)
    assert computed == []
    assert contents(copied) == contents(saved[1])


# Interrupted and resumed


class Interruption:
    """Progress that raises once more than so many universes are done."""

    def __init__(self, after: int, error: BaseException) -> None:
        self.after, self.error, self.done = after, error, 0

    def __call__(self, done: int) -> None:
        self.done += done
        if self.done > self.after:
            raise self.error


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a chunk wait for the one before: a CPU of several cores works on two side by side."""
    monkeypatch.setattr("jaxalloc.engine.scheduler._MOST_STREAMS", 1)


@pytest.mark.usefixtures("one_by_one")
@pytest.mark.parametrize("error", [RuntimeError("stop"), KeyboardInterrupt()], ids=["error", "interrupt"])
@pytest.mark.parametrize(("after", "finished"), [(0, 0), (2 * CHUNK - 9, 1), (3 * CHUNK - 9, 2), (LONGER.n - 1, 4)])
def test_an_interrupted_run_is_resumed(
    error: BaseException,
    after: int,
    finished: int,
    saved: tuple[Study, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "study"
    with pytest.raises(type(error)) as raised:
        resume(folder, resume=False, progress=Interruption(after, error))
    assert raised.value is error
    manifest, before = read_manifest(folder), chunk_files(folder)
    assert manifest is not None
    assert list(manifest.chunks) == list(range(finished))
    assert (manifest.state.count if manifest.state else 0) == finished
    with pytest.raises(InputError, match=r"not finished; run it again with resume=True|summary in .* is damaged"):
        load_study(folder)
    with pytest.raises(InputError, match=r"holds an unfinished study: .* resume=True, .* fresh=True"):
        resume(folder, resume=False)
    seen: list[int] = []
    with chunks_computed(monkeypatch) as computed:
        study = resume(folder, progress=seen.append)
    assert computed == ([] if finished else [-1]) + list(range(finished, 5))
    assert sum(seen) == LONGER.n
    assert min(seen) > 0
    assert not finished or seen[0] == finished * CHUNK
    assert_same_study(study, saved[0])
    assert_same_study(load_study(folder), saved[0])
    assert contents(folder) == contents(saved[1])
    assert before.items() <= chunk_files(folder).items()  # finished chunks are not written again


def test_interrupted_again_and_again(saved: tuple[Study, Path], tmp_path: Path) -> None:
    for after in (2 * CHUNK - 9, 3 * CHUNK - 9, 4 * CHUNK + 9):
        with pytest.raises(KeyboardInterrupt):
            resume(tmp_path / "study", progress=Interruption(after, KeyboardInterrupt()))
    assert_same_study(resume(tmp_path / "study"), saved[0])
    assert contents(tmp_path / "study") == contents(saved[1])


@pytest.mark.usefixtures("one_by_one")
def test_chunks_without_a_running_summary_are_summed_up_again(
    saved: tuple[Study, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a crash leaves: chunks that no state covers."""
    with monkeypatch.context() as patch:
        patch.setattr(compute_module._Run, "_save", lambda self: None)
        with pytest.raises(KeyboardInterrupt):
            resume(tmp_path / "study", progress=Interruption(3 * CHUNK + 9, KeyboardInterrupt()))
    before = chunk_files(tmp_path / "study")
    assert len(before) == 3
    with chunks_computed(monkeypatch) as computed:
        resume(tmp_path / "study")
    assert computed == [-1, 0, 1, 2, 3, 4]
    assert contents(tmp_path / "study") == contents(saved[1])
    assert before.items() <= chunk_files(tmp_path / "study").items()


def test_a_running_summary_is_saved_on_the_way(
    saved: tuple[Study, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compute_module, "_SHARE_OF_SAVING", np.inf)
    counts: list[int] = []
    save = store_module.Store.save_state

    def counted(self: Any, n_chunks: int, arrays: Any) -> None:
        counts.append(n_chunks)
        save(self, n_chunks, arrays)

    monkeypatch.setattr(store_module.Store, "save_state", counted)
    resume(tmp_path / "study")
    assert sorted(set(counts)) == [1, 2, 3, 4, 5]
    assert contents(tmp_path / "study") == contents(saved[1])


@pytest.mark.usefixtures("one_by_one")
def test_summaries_are_resumed_from_the_running_summary(
    saved: tuple[Study, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "study"
    with pytest.raises(KeyboardInterrupt):
        resume(folder, keep="summary", progress=Interruption(3 * CHUNK + 9, KeyboardInterrupt()))
    assert chunk_files(folder) == {}
    seen: list[int] = []
    with chunks_computed(monkeypatch) as computed:
        thin = resume(folder, keep="summary", progress=seen.append)
    assert computed == [3, 4]
    assert (seen[0], sum(seen)) == (3 * CHUNK, LONGER.n)
    for study in (thin, load_study(folder)):
        assert_same_summaries(study, saved[0])
        with pytest.raises(InputError, match="keep='weights'"):
            study.weights("barbell")
    assert chunk_files(folder) == {}


def test_resume_of_a_finished_study_computes_nothing(
    saved: tuple[Study, Path], copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, seen = chunk_files(copied), []
    with chunks_computed(monkeypatch) as computed, count_compilations() as compiled:
        again = resume(copied, progress=seen.append)
    assert (computed, seen, compiled.count) == ([], [LONGER.n], 0)
    assert_same_study(again, saved[0])
    assert contents(copied) == contents(saved[1])
    assert chunk_files(copied) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 6}, r"seed 5 \(now 6\)"),
        ({"config": CONFIG.replace(cluster_cap=0.3)}, r"settings\.config\.cluster_cap 0\.25 \(now 0\.3\)"),
        ({"config": sweep(CONFIG, cluster_cap=[0.25])}, r"settings\.grid\.cluster_cap absent \(now \[0\.25\]\)"),
        ({"panel": MARKET}, r"data\.sha256"),
        ({"chunk_size": 2 * CHUNK}, rf"chunk_size {CHUNK} \(now {2 * CHUNK}\)"),
        ({"keep": "summary"}, r"keep weights \(now summary\)"),
        ({"precision": 32}, r"precision 64 \(now 32\)"),
        ({"sampler": dataclasses.replace(LONGER, n=1)}, rf"sampler\.n {LONGER.n} \(now 1\), n {LONGER.n} \(now 1\)"),
        ({"sampler": dataclasses.replace(LONGER, block_length=5)}, r"sampler\.block_length 21 \(now 5\)"),
        ({"sampler": LONGER * Stress()}, r"sampler\.sampler Bootstrap \(now Product\)"),
    ],
)
def test_resume_with_another_study_is_refused(changes: dict[str, Any], message: str, copied: Path) -> None:
    before = contents(copied)
    with pytest.raises(InputError, match=message) as error:
        resume(copied, **changes) if "panel" not in changes else run(**changes, sampler=LONGER, out=copied, resume=True)
    assert "\n" not in str(error.value)
    assert contents(copied) == before


@pytest.mark.parametrize("chunk_size", ["auto", None, 50])
def test_resume_takes_over_the_size_of_the_chunks(chunk_size: Any, saved: tuple[Study, Path], tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        resume(tmp_path / "study", progress=Interruption(CHUNK + 99, KeyboardInterrupt()))
    assert_same_study(resume(tmp_path / "study", chunk_size=chunk_size), saved[0])
    assert contents(tmp_path / "study") == contents(saved[1])


def test_resume_of_nothing_starts(saved: tuple[Study, Path], tmp_path: Path) -> None:
    assert_same_study(resume(tmp_path / "a/b"), saved[0])
    assert contents(tmp_path / "a/b") == contents(saved[1])


def test_fresh_starts_again(copied: Path, study: Study) -> None:
    (copied / "mine").write_text("mine")
    with pytest.raises(InputError, match=r"holds a finished study: .* resume=True, .* fresh=True"):
        run(out=copied)
    assert load_study(copied).n == LONGER.n
    assert_same_study(run(out=copied, fresh=True), study)
    assert load_study(copied).symbols == list(MARKET.columns)
    assert (copied / "mine").read_text() == "mine"
    assert len(chunk_files(copied)) == 3
    assert_same_study(run(out=copied / "new", fresh=True), study)  # where there is nothing to throw away


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resume": True}, "give out"),
        ({"fresh": True}, "give out"),
        ({"resume": True, "fresh": True, "out": "study"}, "choose one of them"),
    ],
)
def test_resume_and_fresh_need_a_folder_and_each_other_s_absence(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    if "out" in changes:
        changes = changes | {"out": tmp_path / "study"}
    with pytest.raises(InputError, match=message):
        run(**changes)
    assert list(tmp_path.iterdir()) == []


# Errors on the way


@pytest.mark.parametrize(
    ("full_at", "finished"),
    [
        ("chunks/000000.parquet", 0),
        ("chunks/000002.parquet", 2),
        ("chunks/000004.parquet", 4),
        ("state/000005.parquet", 5),
        ("summary.csv", 5),
        ("study.json", 5),
    ],
)
def test_a_full_disk_costs_nothing_that_was_finished(
    full_at: str, finished: int, saved: tuple[Study, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, folder = Place.write, tmp_path / "study"

    def full(self: Place, name: str, data: bytes) -> None:
        if self.path / name == folder / full_at:
            raise OSError(28, "No space left on device")
        write(self, name, data)

    with monkeypatch.context() as patch:
        patch.setattr(Place, "write", full)
        message = rf"{Path(full_at).name}: could not be written \(No space left on device\); all finished chunks"
        with pytest.raises(OSError, match=rf"{message} \({finished}\) are kept") as error:
            resume(folder)
    assert error.value.errno == 28
    before = chunk_files(folder)
    assert len(before) == finished
    assert_same_study(resume(folder), saved[0])
    assert contents(folder) == contents(saved[1])
    assert before.items() <= chunk_files(folder).items()


@pytest.mark.parametrize("chunk", [0, 2, 4])
def test_an_error_of_the_writer_surfaces(chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks are written in a thread of their own, the last one after all is computed."""
    consume, wrong = compute_module._Run._consume, RuntimeError("wrong")

    def failing(self: Any, number: int, result: Any) -> None:
        if number == chunk:
            raise wrong
        consume(self, number, result)

    monkeypatch.setattr(compute_module._Run, "_consume", failing)
    for arguments in ({}, {"out": tmp_path / "study"}, {"keep": "summary"}):
        with pytest.raises(RuntimeError) as error:
            run(sampler=LONGER, **arguments)
        assert error.value is wrong
    manifest = read_manifest(tmp_path / "study")
    assert manifest is not None
    assert list(manifest.chunks) == list(range(chunk))


@pytest.mark.slow
def test_a_killed_process_is_resumed(saved: tuple[Study, Path], tmp_path: Path) -> None:
    code = """
import os, signal, sys
import test_study
done = 0
def progress(count):
    global done
    done += count
    if done > 3 * test_study.CHUNK:
        os.kill(os.getpid(), signal.SIGKILL)
test_study.resume(test_study.Path(sys.argv[1]), progress=progress)
"""
    arguments = [sys.executable, "-c", code, str(tmp_path / "study")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.run(arguments, env=environment, timeout=300, check=False)
    assert killed.returncode == -signal.SIGKILL
    before = chunk_files(tmp_path / "study")
    assert len([name for name in before if not name.startswith(".")]) >= 2
    assert_same_study(resume(tmp_path / "study"), saved[0])
    assert contents(tmp_path / "study") == contents(saved[1])


# Where it may write


class Explosive(Sampler):
    """A sampler that must not be asked to draw."""

    def count(self, n_rows: int) -> int:
        return 10

    def prepare(self, panel: Panel, n_rows: int, periods_per_year: float) -> Explosive:
        return self

    def draw(self) -> Any:
        def explode(*_: Any) -> None:
            raise AssertionError("the universes were drawn")

        return explode, np.int32(0)

    def settings(self) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize("again", [{}, {"resume": True}, {"fresh": True}], ids=["", "resume", "fresh"])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (make_file, "is a file; nothing is overwritten: choose another folder, or delete it"),
        (make_full_folder, "is a folder with files in it; nothing is overwritten"),
        (make_link, "is a folder with files in it"),
        (make_file_with_line_break, "is a file"),
        (make_path_through_file, r"cannot write there \(Not a directory\); choose another folder"),
        (lambda folder: folder / ("x" * 300), "File name too long"),
    ],
)
def test_a_folder_that_cannot_be_had_is_refused_before_computing(
    make: Callable[[Path], Path], message: str, again: dict[str, bool], tmp_path: Path
) -> None:
    out = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=message) as error:
        run(out=out, sampler=Explosive(), **again)
    assert "\n" not in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("linked", [False, True])
def test_an_empty_folder_is_filled_and_stays_the_same_folder(linked: bool, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    if linked:
        (tmp_path / "link").symlink_to(folder)
    inode = folder.stat().st_ino
    run(sampler=TINY, out=tmp_path / "link" if linked else folder)
    assert {path.name for path in folder.iterdir()} == FILES
    assert folder.stat().st_ino == inode
    assert len(list(tmp_path.iterdir())) == 1 + linked


def test_one_study_writes_to_a_folder_at_a_time(tmp_path: Path) -> None:
    def progress(_: int) -> None:
        for again in ({}, {"resume": True}, {"fresh": True}):
            with pytest.raises(InputError, match=r"another process is writing to|holds an unfinished study"):
                run(out=tmp_path / "study", sampler=TINY, **again)

    run(sampler=TINY, out=tmp_path / "study", progress=progress)
    assert load_study(tmp_path / "study").n == 3


def test_what_others_put_into_it_stays(tmp_path: Path) -> None:
    def progress(_: int) -> None:
        (tmp_path / "study/mine").write_text("mine")
        (tmp_path / "study/summary.csv").write_text("mine")

    with pytest.raises(InputError, match=r"summary\.csv is not the study's; nothing is overwritten"):
        run(out=tmp_path / "study", progress=progress)
    assert (tmp_path / "study/summary.csv").read_text() == "mine"
    (tmp_path / "study/summary.csv").unlink()
    run(out=tmp_path / "study", resume=True)
    assert {path.name for path in (tmp_path / "study").iterdir()} == FILES | {"mine"}


# Arguments


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": 16}, "precision must be 32 or 64 bits, not 16"),
        ({"keep": "all"}, "keep must be one of weights, summary, not 'all'"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"chunk_size": 0}, "chunk_size must be a whole number at least 1, not 0"),
        ({"chunk_size": "large"}, "chunk_size must be a whole number at least 1, not 'large'"),
        ({"sampler": 1000}, r"sampler must be one that draws universes, such as Bootstrap\(n=1000\), not 1000"),
        ({"sampler": Bootstrap}, "sampler must be one that draws universes"),
        ({"sampler": Bootstrap(10, "moving", T + 1)}, "block_length must be a whole number from 1 to 252"),
        ({"sampler": Bootstrap(10) * Parametric(10)}, "put it first"),
        ({"config": CONFIG.replace(cluster_cap=2)}, "cluster_cap must be"),
        ({"panel": MARKET.to_numpy()}, "expected a Panel or a pandas DataFrame"),
    ],
)
def test_bad_arguments_are_errors_and_leave_no_folder(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as error:
        run(**changes, out=tmp_path / "a/study")
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_that_cannot_be_told_or_held_is_an_error() -> None:
    periods = ja.sweep(CONFIG, periods_per_year=[52, 252])
    with pytest.raises(InputError, match="periods_per_year cannot be swept over simulated returns"):
        ja.run_study(MARKET, ja.Parametric(10), periods)
    many = ja.sweep(CONFIG, cluster_cap=np.linspace(0.1, 1, 400), distance_threshold=np.linspace(0.1, 0.9, 400))
    with pytest.raises(InputError, match=r"the summaries of 160,000 points .* sweep over fewer values"):
        ja.run_study(MARKET, SAMPLER, many)
