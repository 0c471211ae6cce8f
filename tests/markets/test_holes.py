"""Holes in an asset's life, against pandas; and what a caller may say of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from jaxalloc.arguments.errors import InputError
from jaxalloc.markets.holes import check_max_missing, holes, weigh_gaps


def panel(seed: int, n_rows: int = 30, n_assets: int = 8) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n_rows, n_assets))
    values[rng.random(values.shape) < 0.3] = np.nan
    values[:5, 0], values[-4:, 1], values[:, 2], values[:, 3] = np.nan, np.nan, np.nan, 0.1
    return values


@pytest.mark.parametrize("seed", range(5))
def test_holes_lie_between_the_first_and_the_last_return(seed: int) -> None:
    values = panel(seed)
    frame = pd.DataFrame(values)
    wanted = frame.isna() & frame.ffill().notna() & frame.bfill().notna()
    np.testing.assert_array_equal(holes(values), wanted)
    for max_missing in (0.0, 0.05):
        gaps = weigh_gaps(values, max_missing)
        filled = frame.mask(wanted, 0) if max_missing else frame
        np.testing.assert_array_equal(gaps.returns, filled)
        assert (gaps.weight[wanted] == 1).all()
        assert (gaps.weight[frame.notna()] == 0).all()
        assert (gaps.weight[frame.isna() & ~wanted] > len(values)).all()


@pytest.mark.parametrize("max_missing", [0, 0.1, 0.2, 0.29, 0.3, 0.31, 0.7])
def test_the_universe_of_all_rows_has_an_asset_with_few_holes(max_missing: float) -> None:
    values = panel(3, n_rows=100)
    values[:, 4] = 0.2
    values[10:39, 4] = np.nan  # 29 of 100 rows; 0.29 * 100 rounds to less
    frame = pd.DataFrame(values)
    few = frame.isna().sum() <= round(max_missing * 100)
    alive = frame.iloc[0].notna() & frame.iloc[-1].notna()
    np.testing.assert_array_equal(weigh_gaps(values, max_missing).whole, few & alive)


def test_a_panel_without_gaps_stays_as_it_is() -> None:
    values = np.ones((4, 2))
    gaps = weigh_gaps(values, 0.05)
    assert gaps.returns is values
    assert not gaps.weight.any()


@pytest.mark.parametrize("value", [-0.01, 1, 1.5, np.nan, "some", None, [0.1]])
def test_max_missing_is_a_share(value: Any) -> None:
    with pytest.raises(InputError, match="max_missing must"):
        check_max_missing(value)
