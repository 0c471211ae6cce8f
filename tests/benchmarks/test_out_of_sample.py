"""The study of what helps out of sample: it runs, compares like with like, and does not choose by what comes later."""

from __future__ import annotations

import json
import sys

import numpy as np
import out_of_sample
import pandas as pd
import pytest

import jaxalloc as ja


@pytest.fixture(scope="module")
def returns() -> pd.DataFrame:
    return ja.datasets.synthetic_market(n_assets=24, n_observations=600)


@pytest.mark.parametrize("name", ["all", "hundred", "crowded"])
def test_panels_are_chosen_by_the_first_year_alone(returns, name):
    chosen = out_of_sample.choose(returns, name, 10)
    later = returns.copy()
    later.iloc[out_of_sample.WINDOW :] = np.random.default_rng(0).normal(0, 0.01, later.iloc[252:].shape)
    assert list(out_of_sample.choose(later, name, 10).columns) == list(chosen.columns)
    assert chosen.shape == (600, 10)
    assert chosen.columns.is_unique


def test_the_crowd_is_closer_than_a_draw_by_lot(returns):
    def mean_correlation(name: str) -> float:
        return out_of_sample.choose(returns, name, 8).iloc[:252].corr().to_numpy().mean()

    assert mean_correlation("crowded") > mean_correlation("hundred")


def test_every_ticker_earns_what_its_stock_does():
    stocks = ja.datasets.synthetic_market(n_assets=len(out_of_sample.TICKERS), n_observations=300)
    made = out_of_sample.listings(stocks)
    assert made.shape == (300, sum(out_of_sample.TICKERS)) == (300, 100)
    assert list(made.columns[:2]) == [f"{stocks.columns[0]}.1", f"{stocks.columns[0]}.2"]
    for name in stocks.columns:
        own = made[[column for column in made.columns if column.startswith(f"{name}.")]]
        grown = (1 + own).prod() / (1 + stocks[name]).prod()
        assert np.all(np.abs(np.log(grown)) < 6 * out_of_sample.BASIS * stocks[name].std())  # no more than a basis
        assert own.corrwith(stocks[name]).min() > 0.85
    pd.testing.assert_frame_equal(made, out_of_sample.listings(stocks))


@pytest.mark.slow
def test_a_small_run_compares_like_with_like(returns, tmp_path, monkeypatch):
    returns.to_parquet(tmp_path / out_of_sample.FILE)
    monkeypatch.setenv("JAXALLOC_DATA", str(tmp_path))
    arguments = ["--panels", "crowded", "--assets", "10", "--paths", "2", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["out_of_sample.py", *arguments])
    assert out_of_sample.main() == 0
    found = json.loads((tmp_path / "out_of_sample.json").read_text())
    panel = found["panels"]["crowded"]
    assert len(panel["contrasts"]) == len(out_of_sample.CONTRASTS)
    # the difference of the profiles' own figures, where both are in the table of profiles
    for each in panel["contrasts"]:
        if not each["settings"] and not each["other_settings"]:
            one, two = (panel["profiles"][each[side]] for side in ("profile", "other"))
            for name in out_of_sample.MEASURES:
                assert each["history"][name]["difference"] == pytest.approx(one[name] - two[name], abs=1e-12)
        own = each["history"]["volatility"]
        assert own["low"] <= own["high"]
    text = (tmp_path / "out_of_sample.md").read_text()
    assert "Half of it one crowd" in text
    assert "nan" not in text
