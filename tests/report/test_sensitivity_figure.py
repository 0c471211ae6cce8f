"""The figure of what a portfolio hangs on, against the table that it draws; nothing is compiled."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import jaxalloc as ja

PROFILES = ("max_sharpe", "risk_parity")
ASSETS = ["<b>A</b>", *(f"asset number {k} of a long name" for k in range(8))]


@pytest.fixture
def found() -> ja.Sensitivity:
    """Turnovers in a random order; risk parity reads no means."""
    pytest.importorskip("plotly")
    rng, shape = np.random.default_rng(3), (len(PROFILES), len(ASSETS))
    turnovers = {name: rng.permutation(18).reshape(shape) / 400 + 1e-3 for name in ("mean", "volatility")}
    turnovers["mean"][1] = 0
    columns = {"weight": np.full(shape, 1 / 9), "mean_error": rng.random(shape), "volatility_error": rng.random(shape)}
    columns |= {f"{name}_turnover": values for name, values in turnovers.items()}
    index = pd.MultiIndex.from_product([PROFILES, ASSETS], names=["profile", "asset"])
    return ja.Sensitivity(frame=pd.DataFrame({k: v.ravel() for k, v in columns.items()}, index), n=1, n_valid=1)


def test_a_bar_for_each_of_the_worst_estimates_in_the_colour_of_its_kind(found: ja.Sensitivity) -> None:
    figure = found.plot("estimates", "max_sharpe")
    drawn = {}
    for bars in figure.data:
        for row, turnover, asset in zip(bars.y, bars.x, bars.text, strict=True):
            drawn[row] = (turnover, asset.replace("&lt;", "<").replace("&gt;", ">"), bars.name)
    own = found.frame.loc["max_sharpe"]
    pairs = [(own.loc[asset, f"{name}_turnover"], asset, name) for asset in ASSETS for name in ("mean", "volatility")]
    wanted = sorted((pair[0] for pair in pairs), reverse=True)[:10]
    assert sorted(drawn) == list(range(10))
    np.testing.assert_allclose([drawn[row][0] for row in range(9, -1, -1)], wanted, atol=1e-6)  # the worst on top
    for turnover, asset, name in drawn.values():
        assert own.loc[asset, f"{name}_turnover"] == pytest.approx(turnover, abs=1e-6)
    assert len({bars.marker.color for bars in figure.data}) == 2
    assert all("<" not in text for text in figure.layout.yaxis.ticktext)
    assert list(figure.layout.yaxis.tickvals) == list(range(9, -1, -1))


def test_the_first_profile_is_drawn_and_what_is_not_read_is_not_shown(found: ja.Sensitivity) -> None:
    assert found.plot() == ja.figures.estimates(found, "max_sharpe")
    means, volatilities = found.plot("estimates", "risk_parity", top=100).data
    assert len(means.x) == 0
    assert len(volatilities.x) == len(ASSETS)


def test_nothing_is_drawn_where_no_error_counts(found: ja.Sensitivity) -> None:
    found.frame.loc["risk_parity", ["mean_turnover", "volatility_turnover"]] = 0.0
    assert not any(len(bars.x) for bars in found.plot("estimates", "risk_parity").data)


def test_what_is_not_there_is_an_error(found: ja.Sensitivity) -> None:
    with pytest.raises(ja.InputError, match="unknown profile"):
        found.plot("estimates", "hrp")
    with pytest.raises(ja.InputError, match="choose from estimates"):
        found.plot("boxes")
