"""What is said of settings, returns and portfolios that stand in each other's way, and what is at fault in bad data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import jaxalloc as ja
from jaxalloc.markets.panel import Panel
from jaxalloc.portfolios.advice import (
    FEWEST_ASSETS,
    HIGH_VOLATILITY,
    advise,
    cap_advice,
    cluster_advice,
    row_advice,
    setting_advice,
    volatility_advice,
    why_invalid,
    why_none,
)
from jaxalloc.settings.config import AllocationConfig
from jaxalloc.settings.status import Status
from jaxalloc.settings.sweep import Sweep, as_sweep, sweep

T, N = 60, 12
CONFIG = AllocationConfig(periods_per_year=252.0)
DATES = pd.date_range("2020-01-01", periods=T)
SYMBOLS = [f"S{i}" for i in range(N)]
RETURNS = np.random.default_rng(0).normal(0, 0.01, (T, N))


def panel(values: np.ndarray = RETURNS) -> Panel:
    return Panel(pd.DataFrame(values, index=DATES, columns=SYMBOLS))


def grid(**changes: Any) -> Sweep:
    return as_sweep(CONFIG.replace(**changes))


# Settings


def test_good_settings_and_data_need_no_advice() -> None:
    assert advise(grid(), RETURNS, np.arange(N) // 3, n_rows=T) == []


def test_advice_comes_in_one_order_each_once() -> None:
    settings = grid(asset_cap=0.05, max_clusters=4, risk_free_rate=3.0, profiles=("max_sharpe", "hrp"))
    said = advise(settings, RETURNS * 10, np.arange(N), n_rows=10, figures=("sharpe",))
    begins = (
        "max_clusters=4",
        "asset_cap=0.05",
        "risk_free_rate=3",
        "A universe has",
        "The median",
        "12 assets cannot be fully invested",
        "12 of 12",
    )
    assert len(said) == len(begins)
    assert all(sentence.startswith(begin) for sentence, begin in zip(said, begins, strict=True)), said
    assert all(sentence.endswith(".") and sentence.count("\n") == 0 for sentence in said)


@pytest.mark.parametrize(("rate", "wanted"), [(3.0, "write 3 % as 0.03"), (1.5, "is 150 % a year"), (1.0, None)])
def test_a_rate_in_per_cent(rate: float, wanted: str | None) -> None:
    said = setting_advice(grid(risk_free_rate=rate), figures=("sharpe",))
    assert said == [] if wanted is None else (len(said) == 1 and wanted in said[0])


def test_the_highest_of_the_rates_swept_counts() -> None:
    assert "risk_free_rate=4 is 400 %" in setting_advice(sweep(CONFIG, risk_free_rate=[0.02, 4.0]), ("sharpe",))[0]


def test_held_leads_do_not_keep_the_asset_cap() -> None:
    assert any("execution='lead'" in note for note in setting_advice(grid(asset_cap=0.1), leads=True))
    assert setting_advice(grid(), leads=True) == []
    assert setting_advice(grid(asset_cap=0.1), leads=False) == []


# Rows and volatility


@pytest.mark.parametrize(
    ("n_rows", "changes", "wanted"),
    [
        (N + 1, {}, None),
        (N, {}, "12 rows of returns for 12 assets, so its covariance is singular"),
        (5, {"covariance": "ewma"}, "covariance='ledoit_wolf'"),
        (5, {"covariance": "oas"}, "rests on little"),
        (5, {"profiles": ("equal_weight",)}, None),
    ],
)
def test_fewer_rows_than_assets(n_rows: int, changes: dict[str, Any], wanted: str | None) -> None:
    said = row_advice(CONFIG.replace(**changes), n_rows, N)
    assert said == [] if wanted is None else (len(said) == 1 and wanted in said[0])


@pytest.mark.parametrize(("factor", "said"), [(0.99, False), (1.01, True)])
def test_a_typical_volatility_above_60_per_cent(factor: float, said: bool) -> None:
    daily = RETURNS / RETURNS.std(axis=0, ddof=1) * factor * HIGH_VOLATILITY / np.sqrt(252)
    daily[3:9, 2] = np.nan  # what is missing does not count
    daily[:, 0] = np.nan
    notes = volatility_advice(CONFIG, daily)
    assert bool(notes) == said
    assert all("periods_per_year=252 is right" in note for note in notes)


def test_no_volatility_without_returns() -> None:
    assert volatility_advice(CONFIG, np.full((T, N), np.nan)) == []


# Caps


def test_a_cap_that_the_assets_cannot_keep() -> None:
    assert cap_advice(grid(asset_cap=0.05), 10) == [
        "10 assets cannot be fully invested under so low a cap, which is raised to slack / assets: asset_cap=0.05 to "
        "11.0 %."
    ]
    assert cap_advice(grid(asset_cap=0.111), 10) == []
    assert cap_advice(grid(asset_cap=0.05, profiles=("hrp", "equal_weight")), 10) == []  # they have no cap
    assert "asset_cap=0.2 to 100.0 %" in cap_advice(grid(), 1)[0]


def test_the_caps_swept_are_listed() -> None:
    said = cap_advice(sweep(CONFIG, asset_cap=[0.05, 0.08, 0.3], slack=[1.0, 1.1]), 10)
    assert said[0].endswith("asset_cap=0.05 to 10.0 %, asset_cap=0.05 to 11.0 %, asset_cap=0.08 to 10.0 %, asset_cap="
                            "0.08 to 11.0 %.")  # fmt: skip


def test_the_widened_cap_is_what_the_portfolio_has() -> None:
    result = ja.allocate(RETURNS, CONFIG.replace(asset_cap=0.05))
    np.testing.assert_allclose(result.asset_bound[:3], 1.1 / N, rtol=1e-6)
    assert "to 9.2 %" in cap_advice(grid(asset_cap=0.05), N)[0]


# Clusters


@pytest.mark.parametrize(
    ("labels", "changes", "wanted"),
    [
        ([0, 0, 1, 1], {}, None),
        ([0, 0, 1, 2], {}, None),  # half of them alone is not most
        (
            [0, 1, 2, 2, 3],
            {},
            "3 of 5 assets are alone in their clusters, so the clusters say little: try detone=True with "
            "criterion='silhouette', or raise distance_threshold (0.4).",
        ),
        (
            [0, 0, 0, 1, 2],
            {},
            "One cluster has 3 of 5 assets, so the clusters say little: try detone=True with criterion='silhouette', "
            "or lower distance_threshold (0.4)",
        ),
        ([0, 0, 0, 1, 1, 1], {}, None),
        ([0, 0, 0, 0], {"detone": True}, "try criterion='silhouette', or lower distance_threshold"),
        ([0, 1, 2, 3], {"criterion": "maxclust"}, "with criterion='silhouette', or lower max_clusters (10)"),
        ([0, 0, 0, 1], {"criterion": "maxclust"}, "with criterion='silhouette', or raise max_clusters (10)"),
        ([0, 0, 0, 1], {"criterion": "silhouette"}, "say little: try detone=True."),
        ([0, 1, 2, 3], {"criterion": "silhouette", "detone": True}, "say little: choose another linkage."),
        ([0, 0, 0, 0], {"criterion": "maxclust", "max_clusters": 1}, None),  # as asked for
        ([0, 1, 2, -1], {}, None),  # with fewer assets every partition is like that
        ([0, 1, 2, 3], {"profiles": ("equal_weight", "hrp")}, None),  # nobody reads the clusters
        ([-1, -1, -1, -1, -1], {}, None),
    ],
)
def test_trivial_clusters(labels: list[int], changes: dict[str, Any], wanted: str | None) -> None:
    said = cluster_advice(CONFIG.replace(**changes), np.array(labels))
    assert said == [] if wanted is None else (len(said) == 1 and wanted in said[0])


def test_held_leads_depend_on_the_clusters_whatever_the_profile() -> None:
    config = CONFIG.replace(profiles=("equal_weight",))
    assert len(cluster_advice(config, np.arange(FEWEST_ASSETS), leads=True)) == 1


# What is at fault


def spoiled(row: Any, column: Any, value: float) -> Panel:
    values = RETURNS.copy()
    values[row, column] = value
    return panel(values)


ONES, ALL = np.ones(T), np.ones(N, bool)
FAULTS: dict[str, tuple[Panel, dict[str, Any], str]] = {
    "gap": (spoiled(3, 2, np.nan), {}, "missing or infinite: 'S2' lacks 1 of 60, the first in row 2020-01-04"),
    "infinity": (spoiled([3, 5], [2, 1], np.inf), {}, "'S1' lacks 1 of 60, the first in row 2020-01-06, 'S2' lacks"),
    "no asset": (spoiled(4, slice(None), np.nan), {"mask": np.zeros(N, bool)}, "No asset is left: 'S0' lacks 1 of 60"),
    "weight": (panel(), {"weights": np.where(np.arange(T) == 7, -1.0, 1.0)}, "and is -1 in row 2020-01-08"),
    "one row": (panel(), {"weights": (np.arange(T) == 7) * 1.0}, "a weight of 1 in all, and two are needed"),
    "constant": (spoiled(slice(None), slice(None), 0.01), {}, "all equal from 2020-01-01 to 2020-02-29: 'S0', 'S1'"),
    "too large": (spoiled(4, 3, 1e200), {}, "variance of 'S3' is past what float64 holds; its largest return is 1e"),
    "decay": (panel(), {"config": CONFIG.replace(covariance="ewma", ewma_decay=1e-17)}, "ewma_decay=1e-17 leaves a"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_the_fault_is_named(name: str, x64: Any) -> None:
    data, arguments, wanted = FAULTS[name]
    config = arguments.get("config", CONFIG)
    said = why_invalid(data, config, np.float64, arguments.get("weights"), arguments.get("mask"))
    assert wanted in said
    assert said.endswith(".")
    # and it is one that the engine finds, too
    mask, weights = arguments.get("mask", ALL), arguments.get("weights", ONES)
    assert (np.asarray(ja.allocate(data.values, config, weights, mask).status) == Status.INVALID).all()


def test_an_unknown_fault_has_the_status_s_words() -> None:
    assert why_invalid(panel(), CONFIG, np.float64).startswith("No allocation: a return in use is missing")


def test_why_no_universe_has_a_portfolio() -> None:
    gaps = np.where(np.arange(T)[:, None] % N == np.arange(N), np.nan, RETURNS)
    said = why_none(panel(gaps), grid(), np.float64, "window")
    assert said.startswith(
        "No asset has returns in enough rows of a window: 'S0' lacks 5 of 60, the first in row 2020-01"
    )
    assert said.endswith("and 7 more.")
    assert "The variance of 'S3'" in why_none(spoiled(4, 3, 1e200), grid(), np.float64, "universe")


# In the records


def test_a_study_s_record_has_the_advice_after_the_panel_s_notes() -> None:
    config = AllocationConfig(profiles=("hrp",), asset_cap=0.1, risk_free_rate=0.01, periods_per_year=365.0)
    data = Panel(panel().returns, ("A note of the panel.",))
    said = "asset_cap=0.1 does not change the weights of hrp."
    assert ja.run_study(data, config=config).record["notes"] == ["A note of the panel.", said]
    assert ja.walk_forward(data, config, window=30, step=15).record["notes"] == ["A note of the panel.", said]


def test_rows_and_assets_are_those_of_a_universe() -> None:
    config = AllocationConfig(profiles=("hrp",), periods_per_year=365.0)
    short = ja.run_study(panel(), ja.RollingWindows(10, step=25), config).record["notes"]
    assert [note.split(",")[0] for note in short] == ["A universe has 10 rows of returns for 12 assets"]
    assert ja.run_study(panel(), ja.RollingWindows(10, step=25) * ja.RandomSubsets(4), config).record["notes"] == []
    walk = ja.walk_forward(panel(), config, window=10, step=25)
    assert [note.split(",")[0] for note in walk.record["notes"]] == ["A universe has 10 rows of returns for 12 assets"]


def test_a_run_without_a_portfolio_says_why_in_its_record_and_as_a_warning() -> None:
    gaps = np.where(np.arange(T)[:, None] % N == np.arange(N), np.nan, RETURNS)
    config = AllocationConfig(profiles=("hrp",), periods_per_year=252.0)
    wanted = "No universe has a portfolio: no asset has returns in enough rows of a universe: 'S0' lacks 5 of 60"
    with pytest.warns(ja.AllocationWarning, match=wanted):
        study = ja.run_study(panel(gaps), config=config)
    assert study.record["notes"][-1].startswith(wanted)
    with pytest.warns(ja.AllocationWarning, match="No window has a portfolio: no asset has .* of a window"):
        walk = ja.walk_forward(panel(gaps), config, window=30, step=15)
    assert walk.record["notes"][-1].startswith("No window has a portfolio")
