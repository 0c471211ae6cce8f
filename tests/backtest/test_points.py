"""Bands and costs as axes: points that allocate nothing anew, each of them the walk-forward of its own."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import jaxalloc as ja
from jaxalloc.arguments.errors import InputError
from jaxalloc.backtest.points import walk_settings
from jaxalloc.settings.sweep import as_sweep
from jaxalloc.storage.names import MANIFEST
from jaxalloc.storage.recovery import read_manifest

N, T = 6, 130
MARKET = ja.datasets.synthetic_market(n_assets=N, n_observations=T, seed=3)
CONFIG = ja.AllocationConfig(profiles=("risk_parity", "max_sharpe"), risk_free_rate=0.02)
PATHS = ja.Bootstrap(3, "circular", 10)
BANDS, COSTS = [0, 0.01, 0.05], [0, 20]


def walk(config: Any = CONFIG, **changes: Any) -> ja.WalkForward:
    arguments: dict[str, Any] = {"window": 40, "step": 15, "seed": 7}
    return ja.walk_forward(MARKET, config, **(arguments | changes))


@pytest.fixture(scope="module")
def varied() -> ja.WalkForward:
    grid = ja.sweep(CONFIG, asset_cap=[0.3, 0.5])
    return walk(grid, band=BANDS, costs_bps=COSTS, max_turnover=0.2, paths=PATHS, execution="lead")


def test_points_are_settings_then_bands_then_costs(varied: ja.WalkForward) -> None:
    settings = varied.settings
    assert settings.names == ("asset_cap", "band", "costs_bps")
    assert settings.points == [(cap, band, bps) for cap in (0.3, 0.5) for band in BANDS for bps in COSTS]
    assert [settings.decided(g) for g in range(12)] == [0] * 6 + [1] * 6
    assert [(settings.rule(g).band, settings.cost(g)) for g in range(12)] == [p[1:] for p in settings.points]
    assert [settings.at(g).asset_cap for g in range(12)] == [p[0] for p in settings.points]
    assert settings.beside(9) == [7, 9, 11]
    assert settings.home == 0
    assert (varied.band, varied.costs_bps, varied.max_turnover) == ((0, 0.01, 0.05), (0, 20), 0.2)
    assert varied.allocations.settings.names == ("asset_cap",)
    assert varied.allocations.n * len(varied.allocations.settings) == 7 * 2  # no window is allocated twice


@pytest.mark.parametrize("point", [0, 3, 8, 11])
def test_a_point_is_the_walk_forward_of_its_own(varied: ja.WalkForward, point: int) -> None:
    cap, band, bps = values = varied.settings.points[point]
    own = CONFIG.replace(asset_cap=cap)
    alone = walk(own, band=band, costs_bps=bps, max_turnover=0.2, paths=PATHS, execution="lead")
    assert (alone.band, alone.costs_bps) == (band, bps)
    for name in ("returns", "gross", "whole_returns", "turnover", "traded", "costs"):
        mine = getattr(varied, name).xs(values, axis=1, level=[0, 1, 2])
        pd.testing.assert_frame_equal(mine, getattr(alone, name), check_exact=True)
    for name in ("summary", "rebalances", "paths", "path_quantiles", "beats"):
        mine, wanted = getattr(varied, name)(at=point), getattr(alone, name)()
        pd.testing.assert_frame_equal(mine, wanted, check_exact=True)
        together = getattr(varied, name)().xs(values, level=[0, 1, 2])
        pd.testing.assert_frame_equal(together, wanted, check_exact=True)
    pd.testing.assert_frame_equal(varied.weights("max_sharpe", point), alone.weights("max_sharpe"))
    pd.testing.assert_frame_equal(varied.target("max_sharpe", point), alone.target("max_sharpe"))
    mine = varied.differences(n=20).xs(values, level=[0, 1, 2])
    pd.testing.assert_frame_equal(mine, alone.differences(n=20), rtol=1e-9)


def test_trials_are_all_points_and_profiles(varied: ja.WalkForward) -> None:
    table = varied.deflated_sharpe()
    assert table.index.names == ["asset_cap", "band", "costs_bps", "profile"]
    assert (len(table), set(table["trials"])) == (24, {24})
    one = walk(CONFIG.replace(profiles=("max_sharpe",)), band=[0.01, 0.03])
    keys = one.differences(n=5).index.droplevel("measure").unique()
    assert list(keys) == [(0.03, "max_sharpe")]  # against the first band


def test_a_wider_band_trades_less_and_costs_change_what_is_earned_alone(varied: ja.WalkForward) -> None:
    traded = varied.summary()["traded"].xs((0.3, 0), level=["asset_cap", "costs_bps"]).unstack("profile")
    assert (np.diff(traded.loc[BANDS], axis=0) < 0).all()
    others = walk(ja.sweep(CONFIG, asset_cap=[0.3, 0.5]), band=BANDS, costs_bps=[3, 5], max_turnover=0.2)
    whole = walk(ja.sweep(CONFIG, asset_cap=[0.3, 0.5]), band=BANDS, costs_bps=COSTS, max_turnover=0.2)
    np.testing.assert_array_equal(others.gross, whole.gross)
    assert (others.returns.iloc[0].to_numpy() != whole.returns.iloc[0].to_numpy()).all()
    summary = varied.summary().xs(20, level="costs_bps")
    np.testing.assert_allclose(summary["cost"], 0.002 * summary["traded"], rtol=1e-14)
    first = varied.turnover.iloc[0]
    np.testing.assert_allclose(first, 1, rtol=1e-15)
    later = varied.turnover.iloc[1:]
    assert (later <= 0.2 + 1e-12).all(axis=None)
    assert later.max(axis=None) == pytest.approx(0.2)
    np.testing.assert_allclose(varied.traded.iloc[1:], 2 * later, atol=1e-15)  # nothing is left in cash


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"band": -0.1}, "band must be at least 0 and less than 1, a weight such as 0.01, not -0.1"),
        ({"band": 1}, "band must be at least 0 and less than 1, a weight such as 0.01, not 1"),
        ({"band": "wide"}, "band must hold numbers, not 'wide'"),
        ({"band": [0, "wide"]}, "band must hold numbers, not 'wide'"),
        ({"band": []}, "band has no values to vary"),
        ({"band": [0.01, 0.02, 0.01]}, "band names a value twice: 0.01, 0.02, 0.01"),
        ({"band": [[0.01]]}, "band must be one number, not"),
        ({"costs_bps": [1, 5000]}, "costs_bps must be at least 0 and less than 5,000, not 5000"),
        ({"max_turnover": 0}, "max_turnover must be greater than 0 and at most 1, or None, not 0"),
        ({"max_turnover": 1.5}, "max_turnover must be greater than 0 and at most 1, or None, not 1.5"),
        ({"max_turnover": [0.1]}, "max_turnover must be one number, not"),
    ],
)
def test_wrong_trading_is_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        walk(**given)
    assert "\n" not in str(raised.value)


def test_what_was_given_comes_back_from_its_record() -> None:
    for band, bps in ((0.01, 5), ([0.01], 5), (np.array([0, 0.1]), [0, 3]), (np.float64(0.2), (4,))):
        made = walk_settings(as_sweep(CONFIG), band=band, max_turnover=None, costs_bps=bps)
        record = json.loads(json.dumps(made.record()))
        assert walk_settings(as_sweep(CONFIG), **record) == made


# ---- the folder -----------------------------------------------------------------------------------------------------


def test_it_comes_back_from_a_folder(tmp_path: Path) -> None:
    found = walk(band=BANDS, costs_bps=COSTS, paths=PATHS, out=tmp_path)
    loaded = ja.load_walk_forward(tmp_path)
    assert loaded.settings == found.settings
    pd.testing.assert_frame_equal(loaded.summary(), found.summary(), check_exact=True)
    pd.testing.assert_frame_equal(loaded.paths(), found.paths(), check_exact=True)
    pd.testing.assert_frame_equal(loaded.weights("risk_parity"), found.weights("risk_parity"), check_exact=True)
    pd.testing.assert_frame_equal(loaded.target("risk_parity", 5), found.target("risk_parity", 5), check_exact=True)
    header = (tmp_path / "returns.csv").read_text().splitlines()[0]
    assert "band=0.05 costs_bps=20.0 max_sharpe" in header


def chunks(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.glob("*/chunks/*.parquet")}


def test_other_trading_is_another_walk_forward_on_the_same_allocations(tmp_path: Path) -> None:
    walk(costs_bps=20, paths=PATHS, out=tmp_path)
    before = chunks(tmp_path)
    assert before
    with pytest.raises(InputError, match=r"made with other settings: band 0\.0 "):
        walk(band=BANDS, costs_bps=20, paths=PATHS, out=tmp_path, resume=True)
    changes: dict[str, Any] = {"band": BANDS, "max_turnover": 0.2, "execution": "lead", "paths": PATHS}
    found = walk(**changes, out=tmp_path, fresh=True)
    assert chunks(tmp_path) == before  # not computed again
    pd.testing.assert_frame_equal(found.summary(), walk(**changes).summary(), check_exact=True)
    pd.testing.assert_frame_equal(ja.load_walk_forward(tmp_path).paths(), found.paths(), check_exact=True)
    walk(**changes, out=tmp_path, fresh=True)  # the same anew: all of it
    again = chunks(tmp_path)
    assert set(again) == set(before)
    assert all(again[path] != before[path] for path in before)
    walk(**changes | {"seed": 8}, out=tmp_path, fresh=True)  # other paths
    assert all(chunks(tmp_path)[path] != again[path] for path in before)


def test_allocations_that_do_not_serve_are_made_again(tmp_path: Path) -> None:
    walk(costs_bps=20, out=tmp_path)
    before = chunks(tmp_path)
    rewrite(tmp_path / "allocations", device="another one")
    found = walk(costs_bps=10, out=tmp_path, fresh=True)
    assert all(chunks(tmp_path)[path] != before[path] for path in before)
    pd.testing.assert_frame_equal(found.summary(), walk(costs_bps=10).summary(), check_exact=True)


def rewrite(folder: Path, *without: str, **changes: Any) -> None:
    """Change the identity in a folder's manifest."""
    manifest = read_manifest(folder)
    assert manifest is not None
    identity = {name: value for name, value in manifest.identity.items() if name not in without} | changes
    (folder / MANIFEST).write_bytes(dataclasses.replace(manifest, identity=identity).to_bytes())


def test_a_folder_of_an_earlier_version_is_refused_in_one_line(tmp_path: Path) -> None:
    walk(costs_bps=20, out=tmp_path)
    rewrite(tmp_path, "band", "max_turnover")
    with pytest.raises(
        InputError, match=r"is an earlier version's, whose turnover was .*; run it again with"
    ) as raised:
        ja.load_walk_forward(tmp_path)
    assert "\n" not in str(raised.value)
    with pytest.raises(InputError, match="made with other settings: band absent"):
        walk(costs_bps=20, out=tmp_path, resume=True)
    walk(costs_bps=20, out=tmp_path, fresh=True)
    assert ja.load_walk_forward(tmp_path).costs_bps == 20
