"""Frames and panels: their names in the result, incomplete assets left out, prices refused; and how a result looks."""

from __future__ import annotations

import copy
import html
import pickle
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
from helpers import N, T, compiled, count_compilations, market, same_bits

import jaxalloc as ja
from jaxalloc.portfolios.result import RESULT_FIELDS, Allocation
from jaxalloc.settings.status import Status

CONFIG = ja.AllocationConfig(profiles=("risk_parity", "barbell"))
SYMBOLS = [f"S{i}" for i in range(N)]
FRAME = pd.DataFrame(market(5, 4), columns=SYMBOLS, index=pd.bdate_range("2020-01-01", periods=T).rename("date"))


def gappy() -> ja.Panel:
    """The third asset is listed after the fifth day, the sixth asset is delisted on the last."""
    frame = FRAME.copy()
    frame.iloc[:5, 2] = frame.iloc[-1, 5] = np.nan
    return ja.read_returns(frame, kind="returns", missing="mask")


def host(result: Allocation) -> Allocation:
    return jax.tree.map(np.asarray, result)


# Names


@pytest.mark.parametrize("data", [FRAME, ja.Panel(FRAME)], ids=["frame", "panel"])
def test_names_go_through(data: Any) -> None:
    result = ja.allocate(data, CONFIG)
    assert (result.symbols, result.profiles) == (tuple(SYMBOLS), CONFIG.profiles)
    frame = result.to_frame()
    assert list(frame.index) == SYMBOLS
    assert list(frame.columns[:2]) == list(CONFIG.profiles)
    assert (frame.index.name, frame.columns.name) == ("asset", "profile")
    np.testing.assert_allclose(frame[list(CONFIG.profiles)].sum(), 1, rtol=1e-6)
    batch = ja.allocate_batch(data, CONFIG, np.ones((2, T)))
    assert (batch.symbols, batch.profiles) == (tuple(SYMBOLS), CONFIG.profiles)
    assert list(batch.to_frame().loc[1].index) == SYMBOLS


def test_an_array_has_no_names_of_assets() -> None:
    result = ja.allocate(FRAME.to_numpy(), CONFIG)
    assert (result.symbols, result.profiles) == (None, CONFIG.profiles)
    assert list(result.to_frame().index) == list(range(N))
    assert list(result.to_frame(SYMBOLS).index) == SYMBOLS
    assert same_bits(host(result), host(ja.allocate(FRAME, CONFIG.replace(periods_per_year=252.0)))) == []


def test_names_are_structure_and_not_leaves() -> None:
    result = ja.allocate(FRAME, CONFIG)
    leaves, structure = jax.tree.flatten(result)
    assert len(leaves) == len(RESULT_FIELDS)
    again = jax.tree.unflatten(structure, leaves)
    assert again.symbols == result.symbols
    assert hash(structure) == hash(jax.tree.structure(again))
    assert structure == jax.tree.structure(again)
    assert structure != jax.tree.structure(ja.allocate(FRAME.to_numpy(), CONFIG))
    assert hash(result) != hash(again)  # a record of arrays is itself alone
    assert result != again


def test_jit_and_vmap_take_it_and_keep_the_names() -> None:
    config = CONFIG.replace(periods_per_year=252.0, profiles=("equal_weight",))  # it is the names that are looked at
    panel = ja.Panel(FRAME)
    jitted = compiled(lambda cap: ja.allocate(panel, config.replace(cluster_cap=cap)))
    found = jitted(0.3)
    assert found.symbols == tuple(SYMBOLS)
    with count_compilations() as compilations:
        jitted(0.4)
        shape = jax.eval_shape(jitted, 0.5)
    assert compilations.count == 0
    assert shape.symbols == tuple(SYMBOLS)
    assert repr(shape).startswith("Allocation(weights=ShapeDtypeStruct")
    many = compiled(jax.vmap(lambda x: ja.allocate(x, config)))(np.stack([FRAME.to_numpy()] * 2))
    assert many.to_frame().index.names == ["universe", "asset"]
    doubled = jax.jit(lambda result: jax.tree.map(lambda leaf: 2 * leaf, result))(found)
    assert doubled.symbols == tuple(SYMBOLS)


# Status


def test_a_status_has_a_column_where_it_is_not_0() -> None:
    result = host(ja.allocate(FRAME, CONFIG.replace(n_aggressors=9, cluster_cap=0.5)))
    assert result.status.tolist()[0] == 0
    assert result.status[1] & Status.FEWER_AGGRESSORS
    frame = result.to_frame()
    assert list(frame.columns) == ["risk_parity", "barbell", "barbell.status"]
    assert set(frame["barbell.status"]) == {int(result.status[1])}
    assert list(host(ja.allocate(FRAME, CONFIG.replace(profiles=("hrp",)))).to_frame().columns) == ["hrp"]


def test_a_batch_has_each_universe_s_status() -> None:
    weights = np.ones((3, T))
    weights[1] = -1
    batch = ja.allocate_batch(FRAME, CONFIG.replace(profiles=("hrp",)), weights)
    status = batch.to_frame()["hrp.status"].to_numpy().reshape(3, N)
    assert status.tolist() == [[0] * N, [1] * N, [0] * N]


def test_nothing_in_a_batch_is_an_empty_frame() -> None:
    batch = ja.allocate_batch(FRAME, CONFIG, np.zeros((0, T)))
    assert batch.to_frame().shape == (0, 2)
    assert "0 universes" in repr(batch)


# Incomplete assets


def test_incomplete_assets_are_left_out_and_named() -> None:
    panel = gappy()
    with pytest.warns(ja.AllocationWarning, match="left 2 assets out, for missing returns: 'S2', 'S5'"):
        found = host(ja.allocate(panel, CONFIG))
    mask = np.ones(N, bool)
    mask[[2, 5]] = False
    assert same_bits(found, host(ja.allocate(FRAME, CONFIG, asset_mask=mask))) == []
    with pytest.warns(ja.AllocationWarning, match="left 2 assets out"):
        assert same_bits(found, host(ja.allocate(panel.returns, CONFIG))) == []


def test_a_gap_in_a_row_that_is_not_in_use_is_none() -> None:
    weights = np.ones(T)
    weights[:5] = 0
    with pytest.warns(ja.AllocationWarning, match="left 1 asset out, for missing returns: 'S5'$"):
        result = ja.allocate(gappy(), CONFIG, observation_weights=weights)
    assert (np.asarray(result.cluster_labels) < 0).nonzero()[0].tolist() == [5]
    mask = np.ones(N, bool)
    mask[5] = False
    ja.allocate(gappy(), CONFIG, observation_weights=weights, asset_mask=mask)  # nothing to warn of


def test_a_few_holes_count_as_zero_as_they_do_in_a_study() -> None:
    frame = FRAME.copy()
    frame.iloc[[4, 20, 40], 2] = np.nan  # 5 % of 60 rows
    filled = host(ja.allocate(frame.fillna(0.0), CONFIG))
    panel = ja.read_returns(frame, kind="returns", missing="mask")
    assert same_bits(host(ja.allocate(panel, CONFIG)), filled) == []
    batch = ja.allocate_batch(panel, CONFIG, np.ones((1, T)))
    assert same_bits(host(ja.allocate_batch(frame.fillna(0.0), CONFIG, np.ones((1, T)))), batch) == []
    frame.iloc[50, 2] = np.nan
    with pytest.warns(ja.AllocationWarning, match="left 1 asset out, for missing returns: 'S2'$"):
        ja.allocate(frame, CONFIG)


def test_a_batch_leaves_them_out_universe_by_universe() -> None:
    weights = np.ones((3, T))
    weights[1, :5] = weights[2, -1] = 0
    with pytest.warns(ja.AllocationWarning, match="left 2 assets out in up to 2 of 3 universes, .*'S2', 'S5'"):
        batch = ja.allocate_batch(gappy(), CONFIG, weights)
    out = [(labels < 0).nonzero()[0].tolist() for labels in batch.cluster_labels]
    assert out == [[2, 5], [5], [2]]
    assert not (batch.status & Status.INVALID).any()


def test_what_cannot_be_allocated_is_named() -> None:
    frame = FRAME.mask(np.arange(T)[:, None] % N == np.arange(N))
    panel = ja.read_returns(frame, kind="returns", missing="mask")
    with pytest.warns(ja.AllocationWarning) as caught:
        result = ja.allocate(panel, CONFIG)
    assert (np.asarray(result.status) == Status.INVALID).all()
    first, second = (str(warning.message) for warning in caught)
    assert first == "left 12 assets out, for missing returns: 'S0', 'S1', 'S2', 'S3', 'S4' and 7 more"
    assert second.startswith("nothing was allocated: no asset is left: 'S0' lacks 5 of 60, the first in row 2020-01-01")
    assert all(warning.filename == __file__ for warning in caught)
    with pytest.warns(
        ja.AllocationWarning, match="nothing was allocated; in the first universe: the rows have a weight"
    ):
        ja.allocate_batch(FRAME, CONFIG, np.zeros((2, T)))


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"mean": np.where(np.arange(N) == 3, np.nan, 0.1)}, "mean must be finite, and is not for 'S3'"),
        (
            {"covariance": np.diag(np.where(np.arange(N) % 5 == 0, 0.0, 0.1))},
            "covariance must be finite, with variances above 0, and is not for 'S0', 'S5', 'S10'",
        ),
        ({"clusters": np.where(np.arange(N) == 1, -1, 0)}, "clusters must be at least 0, and is not for 'S1'"),
    ],
)
def test_what_a_caller_gives_wrongly_is_named(given: dict[str, Any], wanted: str) -> None:
    with pytest.warns(ja.AllocationWarning, match=f"nothing was allocated: {wanted}"):
        ja.allocate(FRAME, CONFIG.replace(profiles=("hrp",)), **given)


def test_an_array_with_gaps_keeps_its_status_without_a_warning() -> None:
    assert (np.asarray(ja.allocate(gappy().values, CONFIG).status) == Status.INVALID).all()


# What is refused


ENTRIES: dict[str, Any] = {
    "allocate": ja.allocate,
    "allocate_batch": lambda frame: ja.allocate_batch(frame, None, np.ones((2, T))),
    "run_study": ja.run_study,
    "walk_forward": ja.walk_forward,
}


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
@pytest.mark.parametrize("level", [100.0, 0.01], ids=["shares", "cheap coins"])
def test_prices_are_refused(entry: Any, level: float) -> None:
    with pytest.raises(ja.InputError, match="prices"):
        entry(level * (1 + FRAME).cumprod())


def test_rows_out_of_order_are_refused_where_others_go_by_them() -> None:
    shuffled = FRAME.iloc[::-1]
    with pytest.raises(ja.InputError, match="not in the order of their dates"):
        ja.allocate(shuffled, CONFIG, observation_weights=np.arange(T))
    assert same_bits(host(ja.allocate(shuffled, CONFIG)), host(ja.allocate(FRAME, CONFIG))) == []


# Pickles, and how it looks


@pytest.mark.parametrize("carry", [lambda x: pickle.loads(pickle.dumps(x)), copy.deepcopy], ids=["pickle", "copy"])
def test_results_and_settings_travel(carry: Any) -> None:
    result = host(ja.allocate(FRAME, CONFIG))
    assert same_bits(carry(result), result) == []
    assert carry(ja.allocate(FRAME, CONFIG)).symbols == result.symbols
    assert carry(CONFIG) == CONFIG
    panel = gappy()
    assert carry(panel).returns.equals(panel.returns)
    assert carry(panel).notes == panel.notes


def test_a_result_is_five_lines_at_most() -> None:
    config = ja.AllocationConfig()
    for result in (ja.allocate(FRAME, config), ja.allocate_batch(FRAME, config, np.ones((2, T)))):
        lines = repr(result).splitlines()
        assert len(lines) <= 5
        assert all(len(line) <= 110 for line in lines)
        assert lines[0].startswith("Allocation: 4 profiles, 12 assets")
        assert "min_variance, risk_parity, max_sharpe, barbell" in lines[1]
    last = repr(ja.allocate(FRAME, config.replace(n_aggressors=9))).splitlines()[-1]
    assert last == "status: CLUSTER_CAP_RELAXED, SHARPE_FALLBACK (max_sharpe), FEWER_AGGRESSORS (barbell)"
    assert repr(jax.tree.map(lambda leaf: 0, result)).startswith("Allocation(weights=0")


def test_a_result_in_a_notebook_is_a_table_of_escaped_text() -> None:
    hostile = "<b>S0</b>"
    result = ja.allocate(FRAME.set_axis([hostile, *SYMBOLS[1:]], axis=1), CONFIG.replace(profiles=("equal_weight",)))
    text = result._repr_html_()
    assert text.startswith("<table")
    assert hostile not in text
    assert html.escape(hostile) in text  # the first of equal weights
    assert jax.eval_shape(lambda: result)._repr_html_().startswith("<pre>")
