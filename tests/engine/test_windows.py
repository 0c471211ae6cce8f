"""Universes that hold a small piece of a long panel: the same portfolios, whatever universes are beside them."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from helpers import pick, same_bits

import jaxalloc as ja
from jaxalloc.engine.shapes import sizes_of
from jaxalloc.kernels.lanes.backend import Backend

LENGTH, ASSETS = 2000, 84
FIRST = (0, 7, 900, LENGTH - 250)  # of windows

SETTINGS = {
    "plain": ja.AllocationConfig(profiles=("risk_parity", "barbell")),
    "ewma": ja.AllocationConfig(profiles=("risk_parity",), covariance="ewma", ewma_decay=0.98),
    "ledoit_wolf": ja.AllocationConfig(profiles=("risk_parity",), covariance="ledoit_wolf"),
}


def market() -> np.ndarray:
    """A panel with a return that is missing, an asset that stands still for a while, and one impossible value."""
    x = ja.datasets.synthetic_market(ASSETS, LENGTH).to_numpy().copy()
    x[20, 3] = np.nan
    x[1000:1100, 5] = 0.001
    x[LENGTH - 1, 7] = 1e200
    return x


def weights_of() -> np.ndarray:
    """Windows, one of them resampled and one with gaps, before and after universes of the whole panel."""
    rng = np.random.default_rng(3)
    windows = np.zeros((len(FIRST) + 4, LENGTH))
    for own, first in zip(windows, FIRST, strict=False):
        own[first : first + 250] = 1
    windows[4, 300:500] = rng.multinomial(200, np.full(200, 1 / 200))
    windows[5, 1010:1090] = 1  # the asset that stands still leaves it
    windows[6, 1500:1750:3] = 0.5
    windows[7, 40] = 1  # a single row: invalid
    resamples = rng.multinomial(LENGTH, np.full(LENGTH, 1 / LENGTH), size=3).astype(float)
    return np.concatenate([windows[:3], resamples[:1], windows[3:], resamples[1:]])


def test_windows_go_their_own_way() -> None:
    assert sizes_of((LENGTH, ASSETS), np.float64).window == 500
    assert sizes_of((LENGTH, 20), np.float64).window == 500
    assert sizes_of((250, 20), np.float64).window == 0  # no size of a program is smaller than a quarter of it
    assert sizes_of((LENGTH, ASSETS), np.float64, Backend.ACCELERATOR).window == 0
    assert sizes_of((LENGTH, ASSETS), np.float64, own_returns=True).window == 0


@pytest.mark.parametrize("name", SETTINGS)
def test_a_window_has_the_portfolio_of_its_rows_alone(name: str, x64: Any) -> None:
    x, weights, config = market(), weights_of(), SETTINGS[name]
    mask = np.ones((len(weights), ASSETS), bool)
    mask[2, 10:30] = False
    batch = ja.allocate_batch(x, config, observation_weights=weights, asset_mask=mask)
    for i, own in enumerate(weights):
        rows = slice(np.flatnonzero(own)[0], np.flatnonzero(own)[-1] + 1)
        alone = ja.allocate_batch(x[rows][None], config, observation_weights=own[rows][None], asset_mask=mask[i][None])
        np.testing.assert_array_equal(batch.status[i], alone.status[0], err_msg=str(i))
        np.testing.assert_array_equal(batch.cluster_labels[i], alone.cluster_labels[0], err_msg=str(i))
        np.testing.assert_allclose(batch.weights[i], alone.weights[0], atol=1e-9, err_msg=str(i))
        np.testing.assert_allclose(batch.antifragility[i], alone.antifragility[0], atol=1e-9, err_msg=str(i))
    invalid = np.any(batch.status & ja.Status.INVALID, axis=1)
    # the return that is missing, the single row, the impossible value, and whatever draws the first or last of these
    assert invalid[0]
    assert not invalid[2]
    assert invalid[4]
    assert np.any(batch.status[6] & ja.Status.ASSET_DROPPED)


def test_a_window_has_the_portfolio_of_a_panel_that_is_cut_to_it(x64: Any) -> None:
    x = ja.datasets.synthetic_market(20, LENGTH).to_numpy()
    weights = np.zeros((3, LENGTH))
    for own, first in zip(weights, FIRST[1:], strict=True):
        own[first : first + 250] = 1
    batch = ja.allocate_batch(x, SETTINGS["plain"], observation_weights=weights)
    for i, first in enumerate(FIRST[1:]):
        alone = ja.allocate_batch(x[first : first + 250], SETTINGS["plain"], observation_weights=np.ones((1, 250)))
        np.testing.assert_array_equal(batch.cluster_labels[i], alone.cluster_labels[0])
        np.testing.assert_allclose(batch.antifragility[i], alone.antifragility[0], rtol=1e-12)
        np.testing.assert_allclose(batch.weights[i], alone.weights[0], rtol=0, atol=1e-12)


def test_a_window_does_not_notice_its_neighbours(x64: Any) -> None:
    x, weights, config = market(), weights_of(), SETTINGS["plain"]
    together = ja.allocate_batch(x, config, observation_weights=weights)
    # some with windows of other lengths only, some with windows alone, some with resamples alone
    for part in (slice(1, 2), slice(3, 4), slice(2, 9), slice(4, 8), slice(9, 11)):
        alone = ja.allocate_batch(x, config, observation_weights=weights[part])
        assert same_bits(alone, pick(together, part)) == []


def test_a_call_does_not_notice_the_ones_before(x64: Any) -> None:
    """The memory and the panel that a call leaves behind are used by the next one."""
    config = SETTINGS["plain"]
    x = ja.datasets.synthetic_market(ASSETS, 250).to_numpy().copy()
    few = x[:, :7].copy()
    counts = np.random.default_rng(0).multinomial(250, np.full(250, 1 / 250), size=20)
    first = ja.allocate_batch(few, config, observation_weights=counts)
    ja.allocate_batch(x, config, observation_weights=counts)
    assert same_bits(ja.allocate_batch(few, config, observation_weights=counts), first) == []
    few[3, 2] += 0.05  # in place: what is kept is of the panel as it was
    changed = ja.allocate_batch(few, config, observation_weights=counts)
    ja.allocate_batch(x, config, observation_weights=counts)
    assert same_bits(ja.allocate_batch(few.copy(), config, observation_weights=counts), changed) == []
    assert same_bits(changed, first) != []
    with jax.enable_x64(False):
        assert ja.allocate_batch(few, config, observation_weights=counts).weights.dtype == np.float32
