"""Frames against figures computed entry by entry, from allocations and studies written by hand: nothing is compiled."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from jaxalloc.allocation import RESULT_FIELDS, Allocation
from jaxalloc.config import AllocationConfig
from jaxalloc.errors import InputError
from jaxalloc.status import Status
from jaxalloc.study import Study
from jaxalloc.summary import (
    ASSET_COLUMNS,
    CLUSTER_COLUMNS,
    MEASURES,
    asset_table,
    cluster_table,
    weights_frame,
    write_csv,
)
from jaxalloc.universes import Bootstrap

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
    assert frame.equals(allocation().to_frame(SYMBOLS, CONFIG.profiles))


def test_names_default_to_numbers() -> None:
    frame = allocation().to_frame()
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


def handmade_study(n: int = 60, point: Allocation | None = None) -> Study:
    """Random weights; universes 3 and 4 are invalid, C is never active, E not in every universe."""
    rng = np.random.default_rng(0)
    labels = np.tile(np.array([0, 1, -1, 0, 1], np.int32), (n, 1))
    labels[rng.random(n) < 0.4, 4] = -1
    labels[3:5] = -1
    raw = rng.exponential(size=(n, 2, 5)) * (rng.random((n, 2, 5)) < 0.8) + 1e-9
    raw = np.where(labels[:, None] >= 0, raw, 0)
    total = raw.sum(axis=2, keepdims=True)
    weights = np.divide(raw, total, out=np.full_like(raw, np.nan), where=total > 0)
    is_lead = (labels[:, None] == 0) & (weights == np.where(labels[:, None] == 0, weights, -1).max(axis=2)[..., None])
    gone = np.isnan(weights[:, :, 0])
    return Study(
        symbols=SYMBOLS,
        dates=pd.RangeIndex(30),
        config=CONFIG,
        sampler=Bootstrap(n),
        seed=0,
        precision=64,
        asset_weights=weights,
        cluster_labels=labels,
        is_lead=is_lead,
        n_clusters=labels.max(axis=1) + 1,
        volatility=np.where(gone, np.nan, rng.random((n, 2))),
        expected_return=np.where(gone, np.nan, rng.normal(size=(n, 2))),
        optimality_gap=np.where(gone, np.nan, 1e-12),
        status=np.where(gone, 1, rng.integers(0, 2, (n, 2)) * 4 + rng.integers(0, 2, (n, 2)) * 128).astype(np.int32),
        point=allocation() if point is None else point,
        record={},
    )


def statistics(values: list[float]) -> list[float]:
    """Mean, std and quantiles by their definitions."""
    if not values:
        return [np.nan] * 7
    x, mean = sorted(values), sum(values) / len(values)
    std = np.sqrt(sum((v - mean) ** 2 for v in x) / (len(x) - 1))
    quantiles = []
    for level in (0.05, 0.25, 0.5, 0.75, 0.95):
        low, part = divmod(level * (len(x) - 1), 1)
        quantiles.append(x[int(low)] + (part * (x[int(low) + 1] - x[int(low)]) if part else 0))
    return [mean, std, *quantiles]


def test_asset_summary_entry_by_entry() -> None:
    study = handmade_study()
    table = study.summary()
    assert table.index.names == ["profile", "symbol"]
    assert list(table.columns) == [*STATISTICS, "frequency_positive", "frequency_lead", "n_universes"]
    assert list(table.index) == [(profile, symbol) for profile in CONFIG.profiles for symbol in SYMBOLS]
    for p, profile in enumerate(CONFIG.profiles):
        frame = study.weights(profile)
        for k, symbol in enumerate(SYMBOLS):
            counted = [u for u in range(study.n) if study.cluster_labels[u, k] >= 0]
            values = [float(frame.loc[u, symbol]) for u in counted]
            row = table.loc[(profile, symbol)]
            assert np.allclose(row[STATISTICS], [study.point.weights[p, k], *statistics(values)], equal_nan=True)
            assert row["n_universes"] == len(values)
            if values:
                assert row["frequency_positive"] == pytest.approx(sum(v > 1e-6 for v in values) / len(values))
                assert row["frequency_lead"] == pytest.approx(
                    sum(study.is_lead[u, p, k] for u in counted) / len(values)
                )
    assert (table.xs("C", level="symbol")["n_universes"] == 0).all()
    assert table.xs("C", level="symbol")[["mean", "frequency_positive", "frequency_lead"]].isna().all(axis=None)
    assert (table["frequency_positive"].dropna() < 1).any()


def test_profile_summary_and_universes_entry_by_entry() -> None:
    study = handmade_study()
    table, universes = study.profile_summary(), study.universes()
    assert list(table.columns) == [*STATISTICS, "n_universes", "valid_share"]
    assert list(table.index) == [(profile, measure) for profile in CONFIG.profiles for measure in MEASURES]
    assert list(universes.columns) == [
        *("universe", "profile", "valid", "n_clusters", "n_assets", *MEASURES, "optimality_gap", "status")
    ]
    for p, profile in enumerate(CONFIG.profiles):
        point = study.point.weights[p]
        rows = universes[universes["profile"] == profile].set_index("universe")
        found: dict[str, list[float]] = {measure: [] for measure in MEASURES}
        for u in set(range(study.n)) - {3, 4}:
            x = study.weights(profile).loc[u].to_numpy()
            figures = [study.volatility[u, p], study.expected_return[u, p]]
            figures += [1 / sum(x**2), sum(abs(x - point)) / 2]
            assert np.allclose(rows.loc[u, list(MEASURES)].astype(float), figures)
            assert rows.loc[u, "n_assets"] == sum(study.cluster_labels[u] >= 0)
            for measure, figure in zip(MEASURES, figures, strict=True):
                found[measure].append(figure)
        of_point = [study.point.volatility[p], study.point.expected_return[p], 1 / sum(point**2), 0]
        for measure, value in zip(MEASURES, of_point, strict=True):
            row = table.loc[(profile, measure)]
            assert np.allclose(row[STATISTICS], [value, *statistics(found[measure])])
            assert row["n_universes"] == study.n - 2
            assert row["valid_share"] == (study.n - 2) / study.n
        assert rows.loc[[3, 4], list(MEASURES)].isna().all(axis=None)
        assert not rows.loc[[3, 4], "valid"].any()
        assert np.array_equal(rows["status"], study.status[:, p])


def test_status_counts() -> None:
    study = handmade_study()
    table = study.status_counts()
    assert list(table.columns) == [bit.name for bit in Status]
    for p, profile in enumerate(CONFIG.profiles):
        for bit in Status:
            assert table.loc[profile, bit.name] == sum(bit in Status(int(s)) for s in study.status[:, p])
    assert (table["INVALID"] == 2).all()


def test_without_a_point_estimate_there_is_no_turnover() -> None:
    table = handmade_study(point=invalid()).profile_summary()
    assert table.xs("turnover", level="measure")[STATISTICS].isna().all(axis=None)
    assert (table.xs("turnover", level="measure")["n_universes"] == 0).all()
    assert table.xs("volatility", level="measure")["mean"].notna().all()


def test_float32_is_summed_in_float64() -> None:
    study = handmade_study()
    rounded = study.asset_weights.astype(np.float32)
    low, high = (dataclasses.replace(study, asset_weights=w) for w in (rounded, rounded.astype(np.float64)))
    pd.testing.assert_frame_equal(low.summary(), high.summary(), check_exact=True)
    pd.testing.assert_frame_equal(low.profile_summary(), high.profile_summary(), check_exact=True)


def test_unknown_profile_of_a_study() -> None:
    with pytest.raises(InputError, match="no profile 'min_variance'; it has risk_parity, barbell"):
        handmade_study().weights("min_variance")


def test_study_frames_are_by_universe_and_symbol() -> None:
    study = handmade_study()
    for frame in (study.weights("barbell"), study.clusters()):
        assert (frame.index.name, frame.columns.name) == ("universe", "symbol")
        assert frame.shape == (60, 5)
    assert np.array_equal(study.clusters(), study.cluster_labels)


# CSV

# symbol -> its cell
HOSTILE = {
    **{symbol: f"'{symbol}" for symbol in ("=1+1", "+1", "-BTC", "@x", "\t=1", " =1", '=a,"b')},
    **{"\r=1": "' =1", "a\r=1": "a =1", "line\nbreak": "line break"},
    **{symbol: symbol for symbol in ("a,b", 'say "x"', "universe", "plain", "é", "1.5", "a=b")},
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
