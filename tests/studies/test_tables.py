"""Frames against figures computed entry by entry, from allocations and universes written by hand, and by pandas."""

from __future__ import annotations

import csv
import dataclasses
import math
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from jaxalloc.arguments.errors import InputError
from jaxalloc.datasets import synthetic_market
from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.markets.panel import read_returns
from jaxalloc.portfolios.result import RESULT_FIELDS, Allocation, weights_frame
from jaxalloc.portfolios.tables import ASSET_COLUMNS, CLUSTER_COLUMNS, asset_table, cluster_table
from jaxalloc.settings.config import AllocationConfig
from jaxalloc.settings.measures import MEASURES
from jaxalloc.settings.status import Status
from jaxalloc.settings.sweep import Sweep, sweep
from jaxalloc.storage.csv import write_csv
from jaxalloc.studies.measures import Reference, measure_universes
from jaxalloc.studies.run import run_study
from jaxalloc.studies.study import InMemory, Study
from jaxalloc.studies.tables import QUANTILES
from jaxalloc.studies.totals import BITS, Totals, reduce_universes
from jaxalloc.universes.bootstrap import Bootstrap
from jaxalloc.universes.samplers import RandomSubsets

SYMBOLS = ["cluster", "=B", "C", "D", "E"]
CONFIG = AllocationConfig(profiles=("risk_parity", "barbell"))
STATISTICS = ["point", "mean", "std", "q05", "q25", "q50", "q75", "q95"]


def allocation(**changes: Any) -> Allocation:
    """Clusters {cluster, D}, {=B, E}; C is inactive. The barbell's sleeve is E, all that its cluster holds."""
    values = {
        "weights": np.array([[0.1, 0.2, 0.0, 0.3, 0.4], [0.225, 0.0, 0.0, 0.675, 0.1]]),
        "cluster_labels": np.array([0, 1, -1, 0, 1], np.int32),
        "n_clusters": np.int32(2),
        "cluster_weights": np.array([[0.4, 0.6, 0, 0, 0], [0.9, 0.1, 0, 0, 0]]),
        "lead_assets": np.array([[3, 4, -1, -1, -1], [3, 4, -1, -1, -1]], np.int32),
        "aggressors": np.array([False, False, False, False, True]),
        "antifragility": np.array([0.1, 0.2, 0.0, 0.4, 1.5]),
        "volatility": np.array([0.1, 0.2]),
        "expected_return": np.array([0.05, -0.06]),
        "asset_bound": np.array([0.4, 0.9]),
        "cluster_bound": np.array([0.6, 0.9]),
        "risk_contributions": np.array([[0.2, 0.3, 0.0, 0.1, 0.4], [0.3, 0.0, 0.0, 0.5, 0.2]]),
        "optimality_gap": np.array([1e-12, 1e-11]),
        "iterations": np.array([3, 4], np.int32),
        "status": np.array([0, 64], np.int32),
    }
    return Allocation(**(values | changes))


def invalid() -> Allocation:
    plain = dataclasses.asdict(allocation())
    numbers = {k: np.full_like(v, np.nan) for k, v in plain.items() if np.asarray(v).dtype.kind == "f"}
    return allocation(
        **numbers,
        cluster_labels=np.full(5, -1),
        lead_assets=np.full((2, 5), -1),
        n_clusters=np.int32(0),
        status=np.array([1, 1]),
    )


def batch(*universes: Allocation) -> Allocation:
    return Allocation(**{name: np.stack([getattr(u, name) for u in universes]) for name in RESULT_FIELDS})


# One universe


def test_weights_of_one_universe() -> None:
    frame = weights_frame(allocation(), SYMBOLS, CONFIG.profiles)
    assert (frame.index.name, frame.columns.name) == ("asset", "profile")
    assert list(frame.index) == SYMBOLS
    assert frame.loc["D", "barbell"] == 0.675
    assert np.array_equal(frame.to_numpy(), allocation().weights.T)
    named = allocation().to_frame(SYMBOLS, CONFIG.profiles)
    assert frame.equals(named[list(CONFIG.profiles)])
    assert (named["barbell.status"] == Status.FEWER_AGGRESSORS.value).all()


def test_names_default_to_numbers() -> None:
    frame = allocation(status=np.zeros(2, np.int32)).to_frame()
    assert (list(frame.index), list(frame.columns)) == ([0, 1, 2, 3, 4], [0, 1])


def test_weights_of_a_batch() -> None:
    both = batch(invalid(), allocation())
    frame = weights_frame(both, pd.Index(SYMBOLS), CONFIG.profiles)
    assert frame.index.names == ["universe", "asset"]
    assert frame.shape == (10, 2)
    assert frame.loc[0].isna().all(axis=None)
    for (universe, asset), row in frame.iterrows():  # type: ignore[misc]
        expected = both.weights[universe, :, SYMBOLS.index(asset)]
        assert np.array_equal(row.to_numpy(), expected, equal_nan=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((allocation(), SYMBOLS[:4]), "assets must hold 5 names, not 4"),
        ((allocation(), SYMBOLS, ["a"]), "profiles must hold 2 names, not 1"),
        ((batch(batch(allocation())), SYMBOLS), r"not \(1, 1, 2, 5\)"),
    ],
)
def test_weights_that_do_not_fit_their_names(arguments: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        weights_frame(*arguments)


def test_asset_table() -> None:
    table = asset_table(allocation(), "barbell", CONFIG, SYMBOLS)
    assert tuple(table.columns) == ASSET_COLUMNS
    expected = [
        ("D", 0, 0.675, 0.75, True, False, 0.5),
        ("cluster", 0, 0.225, 0.25, False, False, 0.3),
        ("E", 1, 0.1, 1.0, True, True, 0.2),
        ("=B", 1, 0.0, 0.0, False, False, 0.0),
        ("C", -1, 0.0, 0.0, False, False, 0.0),
    ]
    pd.testing.assert_frame_equal(table, pd.DataFrame(expected, columns=ASSET_COLUMNS), check_dtype=False)


def test_only_the_barbell_has_a_sleeve() -> None:
    table = asset_table(allocation(), "risk_parity", CONFIG, SYMBOLS)
    assert not table["sleeve"].any()
    assert list(table["symbol"]) == ["E", "=B", "D", "cluster", "C"]  # the heavier cluster first
    assert np.allclose(table["share"], [4 / 6, 2 / 6, 3 / 4, 1 / 4, 0])


def test_cluster_table() -> None:
    table = cluster_table(allocation(), "risk_parity", CONFIG, SYMBOLS)
    assert tuple(table.columns) == CLUSTER_COLUMNS
    expected = [(1, 0.6, 2, "E", 0.7, "E, =B"), (0, 0.4, 2, "D", 0.3, "D, cluster")]
    pd.testing.assert_frame_equal(table, pd.DataFrame(expected, columns=CLUSTER_COLUMNS), check_dtype=False)


def test_clusters_at_the_same_cap_stand_in_order_of_their_numbers() -> None:
    """Their members' weights may add up to a little more or less: that is not what they are sorted by."""
    weights = np.array([[0.1, 0.25, 0.0, 0.4 + 1e-16, 0.25]] * 2)
    even = allocation(weights=weights, cluster_weights=np.array([[0.5, 0.5, 0, 0, 0]] * 2))
    assert list(cluster_table(even, "risk_parity", CONFIG, SYMBOLS)["cluster"]) == [0, 1]
    assert list(asset_table(even, "risk_parity", CONFIG, SYMBOLS)["symbol"]) == ["D", "cluster", "=B", "E", "C"]


@pytest.mark.parametrize("table", [asset_table, cluster_table])
@pytest.mark.parametrize(
    ("universe", "profile", "symbols", "message"),
    [
        (invalid(), "barbell", SYMBOLS, "^no allocation: .* clean or mask the data$"),
        (allocation(), "max_sharpe", SYMBOLS, "no profile 'max_sharpe'; it has risk_parity, barbell"),
        (allocation(), "barbell", SYMBOLS[1:], "do not fit 2 profiles and 4 symbols"),
        (batch(allocation()), "barbell", SYMBOLS, "a table shows one universe"),
    ],
)
def test_tables_of_what_cannot_be_shown(table: Any, universe: Any, profile: str, symbols: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        table(universe, profile, CONFIG, symbols)


# A study

BLOCK, ROWS = 20, 50
N_UNIVERSES = 3 * BLOCK
GAPS = [(7, 0), (30, 0), (30, 1)]  # (row, asset) where the panel has no return


class Handmade(NamedTuple):
    """A study of universes that are known entry by entry."""

    study: Study
    batch: Allocation
    left_out: np.ndarray
    returns: np.ndarray


def handmade(point: Allocation | None = None, dtype: type[np.floating] = np.float64) -> Handmade:
    """Random weights; universes 3 and 4 are invalid, C is never active, E not in every universe."""
    n, rng = N_UNIVERSES, np.random.default_rng(0)
    labels = np.tile(np.array([0, 1, -1, 0, 1], np.int32), (n, 1))
    labels[rng.random(n) < 0.4, 4] = -1
    labels[3:5] = -1
    raw = rng.exponential(size=(n, 2, 5)) * (rng.random((n, 2, 5)) < 0.8) + 1e-9
    raw = np.where(labels[:, None] >= 0, raw, 0)
    total = raw.sum(axis=2, keepdims=True)
    weights = np.divide(raw, total, out=np.full_like(raw, np.nan), where=total > 0)
    by_cluster = np.stack([np.where(labels[:, None] == k, weights, 0).sum(axis=2) for k in range(5)], axis=2)
    leads = np.stack([np.where(labels[:, None] == k, weights, -1).argmax(axis=2) for k in (0, 1)], axis=2)
    gone = np.isnan(weights[:, :, 0])
    leads = np.concatenate([np.where(gone[..., None], -1, leads), np.full((n, 2, 3), -1)], axis=2).astype(np.int32)

    def number(values: np.ndarray) -> np.ndarray:
        return np.where(gone, np.nan, values)

    batch = Allocation(
        weights=weights,
        cluster_labels=labels,
        n_clusters=labels.max(axis=1) + 1,
        cluster_weights=np.where(gone[..., None], np.nan, by_cluster),
        lead_assets=leads,
        aggressors=(labels >= 0) & (rng.random((n, 5)) < 0.2),
        antifragility=rng.random((n, 5)),
        volatility=number(rng.random((n, 2))),
        expected_return=number(rng.normal(size=(n, 2))),
        risk_contributions=np.where(rng.random((n, 2, 5)) < 0.2, -0.1, 1) * weights,
        asset_bound=number(np.where(rng.random((n, 2)) < 0.5, weights.max(axis=2), 1.0)),
        cluster_bound=number(np.ones((n, 2))),
        optimality_gap=number(np.full((n, 2), 1e-12)),
        iterations=np.ones((n, 2), np.int32),
        status=np.where(gone, 1, rng.integers(0, 2, (n, 2)) * 4 + rng.integers(0, 2, (n, 2)) * 64).astype(np.int32),
    )
    batch = jax.tree.map(lambda x: x.astype(dtype) if x.dtype.kind == "f" else x, batch)
    left_out = rng.random((n, ROWS)) < np.linspace(0.1, 0.9, n)[:, None]
    returns = rng.normal(0.001, 0.01, (ROWS, 5))
    for place in GAPS:
        returns[place] = np.nan
    estimates = jax.tree.map(lambda x: np.asarray(x)[None], allocation() if point is None else point)
    missing, one = np.isnan(returns), np.ones(1, dtype)
    reference = Reference(
        weights=estimates.weights.astype(dtype),
        returns=np.nan_to_num(returns).astype(dtype),
        missing=missing.astype(dtype),
        periods_per_year=252 * one,
        risk_free_rate=0.02 * one,
    )
    totals = Totals(2, 5)
    with jax.enable_x64(dtype is np.float64):
        figures = measure_universes(BLOCK, batch, left_out, np.zeros(n, np.int32), reference, Backend.CPU)
        partial = reduce_universes(BLOCK, (False, True), batch, figures, np.int32(0), np.int32(n))
    totals.add(jax.tree.map(np.asarray, partial))
    study = Study(
        symbols=SYMBOLS,
        settings=Sweep(CONFIG.replace(risk_free_rate=0.02)),
        n=n,
        seed=0,
        precision=64,
        estimates=estimates,
        totals=[totals],
        record={},
        tables=InMemory([as_table(batch, np.asarray(figures))]),
        correlation=np.eye(5),
    )
    return Handmade(study, batch, left_out, returns)


def as_table(batch: Allocation, figures: np.ndarray) -> pa.Table:
    """The table that a chunk has of these universes."""

    def listed(values: np.ndarray) -> pa.Array:
        return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), 5)

    n = len(figures)
    columns: dict[str, Any] = {"point": np.zeros(n, np.int32), "universe": np.arange(n), "n_clusters": batch.n_clusters}
    columns["cluster_labels"] = listed(batch.cluster_labels)
    for p, profile in enumerate(CONFIG.profiles):
        columns[f"{profile}.weights"] = listed(batch.weights[:, p].copy())
        columns |= {f"{profile}.{name}": figures[:, p, m] for m, name in enumerate(MEASURES)}
        columns |= {f"{profile}.{name}": getattr(batch, name)[:, p] for name in ("optimality_gap", "status")}
    return pa.table({k: np.ascontiguousarray(v) if isinstance(v, np.ndarray) else v for k, v in columns.items()})


@pytest.fixture(scope="module")
def made() -> Handmade:
    return handmade()


def statistics(values: list[float]) -> list[float]:
    """Mean, std and quantiles by their definitions."""
    if not values:
        return [np.nan] * 7
    mean = sum(values) / len(values)
    std = np.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1)) if len(values) > 1 else np.nan
    return [mean, std, *(quantile(values, level)[0] for level in QUANTILES.values())]


def quantile(values: list[float], level: float, share: float = 0.0) -> tuple[float, float]:
    """The linear quantile, and the share of the numbers that it lies between."""
    x = sorted(values)
    low, part = divmod(level * (len(x) - 1), 1)
    below, above = x[int(low)], x[min(int(low) + 1, len(x) - 1)]
    return below + part * (above - below), share * max(abs(below), abs(above))


def assert_statistics(row: pd.Series, values: list[float], share: float, least: float) -> None:
    """Mean and standard deviation to rounding, quantiles within what is promised of them."""
    assert np.allclose(
        row[["mean", "std"]].astype(float), statistics(values)[:2], rtol=1e-11, atol=1e-14, equal_nan=True
    )
    if not values:
        assert row[list(QUANTILES)].isna().all()
        return
    for name, level in QUANTILES.items():
        exact, allowed = quantile(values, level, share)
        assert abs(row[name] - exact) <= max(allowed, least), f"{row.name} {name}: {row[name]}, not {exact}"
    assert row[list(QUANTILES)].astype(float).is_monotonic_increasing
    assert min(values) <= row["q05"] <= row["q95"] <= max(values)


def test_asset_summary_entry_by_entry(made: Handmade) -> None:
    study, batch = made.study, made.batch
    table = study.summary()
    often = [f"frequency_{name}" for name in ("positive", "binding", "lead", "sleeve")]
    assert table.index.names == ["profile", "symbol"]
    assert list(table.columns) == [*STATISTICS, *often, "n_universes"]
    assert list(table.index) == [(profile, symbol) for profile in CONFIG.profiles for symbol in SYMBOLS]
    for p, profile in enumerate(CONFIG.profiles):
        frame = study.weights(profile)
        for k, symbol in enumerate(SYMBOLS):
            counted = [u for u in range(study.n) if batch.cluster_labels[u, k] >= 0]
            values = [float(frame.loc[u, symbol]) for u in counted]
            row = table.loc[(profile, symbol)]
            assert row["point"] == study.point.weights[p, k]
            assert_statistics(row, values, 0.008, 1e-6)
            assert row["n_universes"] == len(values)
            if not values:
                continue
            sleeve = [p == 1 and bool(batch.aggressors[u, k]) for u in counted]
            bound = [batch.asset_bound[u, p] - 1e-6 for u in counted]
            binding = [v >= b and not s for v, b, s in zip(values, bound, sleeve, strict=True)]
            lead = [k in batch.lead_assets[u, p] for u in counted]
            for name, found in zip(often, ([v > 1e-6 for v in values], binding, lead, sleeve), strict=True):
                assert row[name] == pytest.approx(sum(found) / len(values), rel=1e-14), name
    nobody = table.xs("C", level="symbol")
    assert (nobody["n_universes"] == 0).all()
    assert nobody[[*STATISTICS[1:], *often]].isna().all(axis=None)
    assert (table["frequency_positive"].dropna() < 1).any()
    assert (table["frequency_binding"].dropna() > 0).all()
    assert (table.loc["barbell", "frequency_sleeve"].dropna() > 0).all()
    assert (table.loc["risk_parity", "frequency_sleeve"].dropna() == 0).all()


def bets(contributions: np.ndarray, labels: np.ndarray) -> float:
    """The effective number of bets by its definition: of clusters that share the risk equally, their number."""
    shares = [contributions[labels == k].sum() for k in range(labels.max() + 1)]
    positive = [share for share in shares if share > 0]
    if not positive:
        return math.nan
    return math.prod((share / sum(positive)) ** (-share / sum(positive)) for share in positive)


def test_profile_summary_and_universes_entry_by_entry(made: Handmade) -> None:
    study, batch = made.study, made.batch
    table, universes = study.profile_summary(), study.universes()
    assert list(table.columns) == [*STATISTICS, "n_universes", "valid_share"]
    assert list(table.index) == [(profile, measure) for profile in CONFIG.profiles for measure in MEASURES]
    assert list(universes.columns) == [
        *("universe", "profile", "valid", "n_clusters", "n_assets", *MEASURES, "optimality_gap", "status")
    ]
    missing, path = np.isnan(made.returns), np.nan_to_num(made.returns)
    fewest = 0
    for p, profile in enumerate(CONFIG.profiles):
        point = study.point.weights[p]
        rows = universes[universes["profile"] == profile].set_index("universe")
        found: dict[str, list[float]] = {measure: [] for measure in MEASURES}
        for u in sorted(set(range(study.n)) - {3, 4}):
            x = study.weights(profile).loc[u].to_numpy()
            active = batch.cluster_labels[u] >= 0
            figures = [batch.volatility[u, p], batch.expected_return[u, p]]
            figures += [(figures[1] - 0.02) / figures[0], 1 / sum(x**2)]
            figures += [1 / sum(batch.cluster_weights[u, p] ** 2)]
            figures += [bets(batch.risk_contributions[u, p], batch.cluster_labels[u])]
            figures += [sum(x**2), sum(abs(x - point)[active]) / 2]
            seen = made.left_out[u] & ~(missing & (x > 0)).any(axis=1)
            if seen.sum() < 20:
                fewest += 1
                figures += [np.nan] * 3
            else:
                mean, deviation = 252 * (path[seen] @ x).mean(), np.sqrt(252) * (path[seen] @ x).std(ddof=1)
                figures += [mean, deviation, (mean - 0.02) / deviation]
            assert np.allclose(rows.loc[u, list(MEASURES)].astype(float), figures, rtol=1e-10, equal_nan=True)
            assert rows.loc[u, "n_assets"] == active.sum()
            for measure in MEASURES:  # what is summed up is what the table says
                figure = float(rows.loc[u, measure])
                found[measure] += [figure] if np.isfinite(figure) else []
        by_cluster = study.point.cluster_weights[p]
        of_point = [study.point.volatility[p], study.point.expected_return[p]]
        of_point += [(of_point[1] - study.config.risk_free_rate) / of_point[0], 1 / sum(point**2)]
        of_point += [1 / sum(by_cluster**2), bets(study.point.risk_contributions[p], study.point.cluster_labels)]
        of_point += [sum(point**2), 0, np.nan, np.nan, np.nan]
        for measure, value in zip(MEASURES, of_point, strict=True):
            row = table.loc[(profile, measure)]
            assert row["point"] == pytest.approx(value, nan_ok=True)
            assert_statistics(row, found[measure], 0.004, 2.0**-30)
            assert row["n_universes"] == len(found[measure])
            assert row["valid_share"] == (study.n - 2) / study.n
        assert rows.loc[[3, 4], list(MEASURES)].isna().all(axis=None)
        assert not rows.loc[[3, 4], "valid"].any()
        assert np.array_equal(rows["status"], batch.status[:, p])
    assert 0 < fewest < study.n


def test_status_and_cluster_counts(made: Handmade) -> None:
    table = made.study.status_counts()
    assert list(table.columns) == [bit.name for bit in BITS]
    for p, profile in enumerate(CONFIG.profiles):
        for bit in BITS:
            assert table.loc[profile, bit.name] == sum(bit in Status(int(s)) for s in made.batch.status[:, p])
    assert (table["INVALID"] == 2).all()
    counts = made.study.cluster_counts()
    assert (counts.name, counts.index.name) == ("universes", "n_clusters")
    assert dict(counts) == {2: N_UNIVERSES - 2}
    assert made.study.n_valid == N_UNIVERSES - 2


def test_co_association_and_stability_entry_by_entry(made: Handmade) -> None:
    labels = made.study.clusters().to_numpy()
    table = made.study.co_association()
    assert list(table.index) == list(table.columns) == SYMBOLS
    expected = np.full((5, 5), np.nan)
    for i in range(5):
        for j in range(5):
            both = [u for u in range(N_UNIVERSES) if labels[u, i] >= 0 and labels[u, j] >= 0]
            if both:
                expected[i, j] = sum(labels[u, i] == labels[u, j] for u in both) / len(both)
    np.testing.assert_array_equal(table, expected)
    assert table["C"].isna().all()
    stability = made.study.cluster_stability()
    assert (stability.index.name, list(stability.columns)) == ("cluster", ["size", "stability", "members"])
    assert stability["members"].tolist() == ["cluster, D", "=B, E"]
    assert stability["stability"].tolist() == [expected[0, 3], expected[1, 4]]


def test_stability_of_a_cluster_of_one_is_its_loneliness() -> None:
    alone = handmade(point=allocation(cluster_labels=np.array([0, 1, 2, 3, 1], np.int32))).study
    stability = alone.cluster_stability()["stability"]
    together = alone.co_association().to_numpy()
    assert stability[0] == 1 - together[0, 3] == 0  # always with D
    assert stability[1] == together[1, 4] == 1
    assert np.isnan(stability[2])  # C is in no universe
    assert len(handmade(point=invalid()).study.cluster_stability()) == 0


def test_without_a_point_estimate_there_is_no_turnover() -> None:
    study = handmade(point=invalid()).study
    table = study.profile_summary()
    assert table.xs("turnover", level="measure")[STATISTICS].isna().all(axis=None)
    assert (table.xs("turnover", level="measure")["n_universes"] == 0).all()
    assert table["point"].isna().all()
    assert table.xs("volatility", level="measure")["mean"].notna().all()
    assert study.summary()["point"].isna().all()
    assert study.summary()["mean"].notna().sum() == 8


def test_float32_is_summed_up_as_well(made: Handmade) -> None:
    low = handmade(dtype=np.float32).study
    for name in ("summary", "profile_summary"):
        mine, its = getattr(low, name)(), getattr(made.study, name)()
        assert (mine.dtypes.drop("point") == its.dtypes.drop("point")).all()
        np.testing.assert_allclose(mine, its, rtol=2e-2, atol=2e-6)  # a quantile may be in the next bin
        np.testing.assert_allclose(mine[["mean", "std"]], its[["mean", "std"]], rtol=1e-4, atol=1e-7)


# A study of real universes, against pandas

MARKET = synthetic_market(12, 252, seed=1)


@pytest.fixture(scope="module")
def drawn() -> Study:
    """Two points, 200 draws: assets come and go by chance and by gaps."""
    frame = MARKET.copy()
    frame.iloc[[3, 100], [2, 7]] = np.nan
    panel = read_returns(frame, missing="mask")
    sampler = Bootstrap(200, "circular", 10) * RandomSubsets(8)
    return run_study(panel, sampler, sweep(CONFIG, cluster_cap=[0.25, 0.4]), seed=1)


def test_summaries_are_those_of_pandas(drawn: Study) -> None:
    for at in range(2):
        active = drawn.clusters(at) >= 0
        for profile in drawn.profiles:
            held = drawn.weights(profile, at).where(active)
            table = drawn.summary(at).loc[profile]
            assert np.array_equal(table["n_universes"], active.sum())
            assert len(set(table["n_universes"])) > 2
            np.testing.assert_allclose(table["mean"], held.mean(), rtol=1e-12)
            np.testing.assert_allclose(table["std"], held.std(), rtol=1e-9, atol=1e-15)
            np.testing.assert_allclose(table["frequency_positive"], (held > 1e-6).sum() / active.sum(), rtol=1e-14)
            for k, symbol in enumerate(drawn.symbols):
                assert_statistics(table.iloc[k], held[symbol].dropna().tolist(), 0.008, 1e-6)
            lead = drawn.columns(f"{profile}.leads", at=at)[f"{profile}.leads"]
            np.testing.assert_allclose(table["frequency_lead"], lead.sum(axis=0) / active.sum(), rtol=1e-14)
        sleeve = drawn.columns("aggressors", at=at)["aggressors"]
        found = drawn.summary(at).loc["barbell", "frequency_sleeve"]
        np.testing.assert_allclose(found, sleeve.sum(axis=0) / active.sum(), rtol=1e-14)


def test_profile_summaries_are_those_of_pandas(drawn: Study) -> None:
    universes = drawn.universes().groupby(["cluster_cap", "profile"], sort=False)[list(MEASURES)]
    table = drawn.profile_summary()
    mean, std, count = universes.mean(), universes.std(), universes.count()
    for cap, profile, measure in table.index:
        row, key = table.loc[(cap, profile, measure)], (cap, profile)
        assert row["n_universes"] == count.loc[key, measure]
        assert row["mean"] == pytest.approx(mean.loc[key, measure], rel=1e-11)
        assert row["std"] == pytest.approx(std.loc[key, measure], rel=1e-8, abs=1e-14)
        assert_statistics(row, universes.get_group(key)[measure].dropna().tolist(), 0.004, 2.0**-30)
    assert (table["valid_share"] == 1).all()


def test_counts_are_those_of_pandas(drawn: Study) -> None:
    universes = drawn.universes()
    one = universes[universes["profile"] == "barbell"]
    counts = one.groupby("cluster_cap")["n_clusters"].value_counts().sort_index()
    found = drawn.cluster_counts()
    assert dict(found) == dict(counts)
    assert found.index.names == ["cluster_cap", "n_clusters"]
    status = drawn.status_counts()
    for (cap, profile), rows in universes.groupby(["cluster_cap", "profile"]):
        for bit in BITS:
            assert status.loc[(cap, profile), bit.name] == ((rows["status"] & bit.value) > 0).sum()
    for at in range(2):
        labels = drawn.clusters(at).to_numpy()
        active = labels >= 0
        both = active.T.astype(int) @ active
        same = sum(((labels == k).T.astype(int) @ (labels == k)) for k in range(12))
        np.testing.assert_array_equal(drawn.co_association(at), same / both)
        assert drawn.co_association(at).max(axis=None) == 1
        stability = drawn.cluster_stability(at)["stability"]
        assert stability.between(0, 1).all()


# CSV

# symbol -> its cell
HOSTILE = {
    **{symbol: f"'{symbol}" for symbol in ("=1+1", "+1", "-BTC", "@x", "\t=1", " =1", '=a,"b')},
    # of full width, small, raised, behind spaces and marks that do not show; and the true minus
    **{symbol: f"'{symbol}" for symbol in ("\uff1d1+1", "\uff0b1", "\uff0d1", "\uff201", "\ufe66\u00e9", "\u207a1")},
    **{symbol: f"'{symbol}" for symbol in ("\u3000\uff1d1", "\u200b=1", "\ufeff=1", "\u22121", "\u00ad-\u00e9")},
    **{"\r=1": "' =1", "a\r=1": "a =1", "line\nbreak": "line break"},
    **{symbol: symbol for symbol in ("a,b", 'say "x"', "universe", "plain", "é", "1.5", "a=b", "a\uff1db", "\u5bcc=")},
}


def read_cells(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_no_cell_of_a_csv_is_a_formula(tmp_path: Path) -> None:
    frame = pd.DataFrame({"symbol": list(HOSTILE), "x": -1.5, "flag": True})
    write_csv(frame, tmp_path / "a.csv")
    header, *rows = read_cells(tmp_path / "a.csv")
    assert header == ["symbol", "x", "flag"]
    assert [row[0] for row in rows] == list(HOSTILE.values())
    assert [row[1:] for row in rows] == [["-1.5", "True"]] * len(rows)  # a number keeps its sign


def test_csv_of_symbols_in_the_index_and_above_the_columns(tmp_path: Path) -> None:
    values = np.arange(len(HOSTILE) ** 2).reshape(len(HOSTILE), -1)
    names = list(HOSTILE)
    frame = pd.DataFrame(values, index=pd.Index(names, name="universe"), columns=pd.Index(names, name="symbol"))
    write_csv(frame, tmp_path / "a.csv")
    header, *rows = read_cells(tmp_path / "a.csv")
    assert header == ["universe", *HOSTILE.values()]
    assert [row[0] for row in rows] == list(HOSTILE.values())
    assert np.array_equal([[int(cell) for cell in row[1:]] for row in rows], values)


def test_csv_leaves_out_an_index_without_a_name(tmp_path: Path) -> None:
    write_csv(asset_table(allocation(), "barbell", CONFIG, SYMBOLS), tmp_path / "a.csv")
    header, first, *_ = read_cells(tmp_path / "a.csv")
    assert header == list(ASSET_COLUMNS)
    assert first == ["D", "0", "0.675", "0.75", "True", "False", "0.5"]
