"""Studies and walk-forwards: pickled and copied, from memory and from a folder; as text, and in a notebook."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import N, T

import jaxalloc as ja
from jaxalloc.portfolios.result import RESULT_FIELDS

HOSTILE = "<b>A</b>"
MARKET = ja.datasets.synthetic_market(n_assets=N, n_observations=T)
MARKET.columns = [HOSTILE, *MARKET.columns[1:]]
CONFIG = ja.AllocationConfig(profiles=("hrp", "equal_weight"))
GRID = ja.sweep(CONFIG.replace(profiles=("hrp", "nco")), distance_threshold=[0.3, 0.5, 0.7])
CARRIERS = {"pickle": lambda x: pickle.loads(pickle.dumps(x)), "copy": copy.deepcopy}


@cache
def study(settings: Any = CONFIG, keep: Any = "weights") -> ja.Study:
    return ja.run_study(MARKET, ja.Bootstrap(n=6), settings, keep=keep)


@cache
def walk(settings: Any = CONFIG) -> ja.WalkForward:
    return ja.walk_forward(MARKET, settings, window=30, step=10, paths=ja.Bootstrap(2, "circular", 5))


def assert_same_study(a: ja.Study, b: ja.Study) -> None:
    assert a.record == b.record
    for table in ("summary", "profile_summary", "status_counts", "co_association"):
        assert getattr(a, table)().equals(getattr(b, table)()), table
    for name in RESULT_FIELDS:
        np.testing.assert_array_equal(getattr(a.estimates, name), getattr(b.estimates, name))
    if a.tables is not None:
        assert a.weights("hrp").equals(b.weights("hrp"))
        assert a.universes().equals(b.universes())


@pytest.mark.parametrize("carry", CARRIERS.values(), ids=CARRIERS)
@pytest.mark.parametrize("settings", [CONFIG, GRID], ids=["config", "sweep"])
def test_a_study_travels(carry: Any, settings: Any) -> None:
    assert_same_study(carry(study(settings)), study(settings))


@pytest.mark.parametrize("carry", CARRIERS.values(), ids=CARRIERS)
def test_a_summary_travels(carry: Any) -> None:
    assert_same_study(carry(study(keep="summary")), study(keep="summary"))


@pytest.mark.parametrize("carry", CARRIERS.values(), ids=CARRIERS)
def test_a_study_of_a_folder_travels(carry: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written = ja.run_study(MARKET, ja.Bootstrap(n=6), CONFIG, out="study")
    loaded = ja.load_study("study")
    travelled = carry(written), carry(loaded)
    monkeypatch.chdir(tmp_path.parent)  # where the folder is does not depend on where the process is
    for other in travelled:
        assert_same_study(dataclasses.replace(other, record=loaded.record), loaded)


@pytest.mark.parametrize("carry", CARRIERS.values(), ids=CARRIERS)
def test_a_walk_forward_travels(carry: Any, tmp_path: Path) -> None:
    there = walk(GRID)
    written = ja.walk_forward(MARKET, CONFIG, window=30, step=10, out=tmp_path / "walk")
    for a, b in (
        (carry(there), there),
        (carry(written), written),
        (carry(ja.load_walk_forward(tmp_path / "walk")), written),
    ):
        assert a.summary().equals(b.summary())
        assert a.returns.equals(b.returns)
        assert a.weights("hrp").equals(b.weights("hrp"))
        assert a.target("hrp").equals(b.target("hrp"))
        assert a.allocations.universes().equals(b.allocations.universes())
        if b.path_figures is not None:
            np.testing.assert_array_equal(a.path_figures, b.path_figures)


def test_the_own_portfolios_have_names() -> None:
    frame = study(GRID).estimate(2).to_frame()
    assert list(frame.index) == list(MARKET.columns)
    assert list(frame.columns[:2]) == ["hrp", "nco"]


@pytest.mark.parametrize("result", [study, walk], ids=["study", "walk"])
@pytest.mark.parametrize("settings", [CONFIG, GRID], ids=["config", "sweep"])
def test_text_is_five_lines_at_most(result: Any, settings: Any) -> None:
    shown = result(settings)
    lines = repr(shown).splitlines()
    assert 1 < len(lines) <= 5
    assert all(len(line) <= 110 for line in lines)
    assert lines[0].startswith(f"{type(shown).__name__}: ")
    assert "12 assets" in lines[0]
    assert ("3 points of distance_threshold" in lines[0]) == (settings is GRID)
    assert lines[1] == f"profiles: {', '.join(shown.profiles)}"
    assert lines[2].startswith(f"data: {T} rows, ")
    noteless = dataclasses.replace(shown, record={})
    assert len(repr(noteless).splitlines()) == 2


def test_what_is_invalid_is_counted() -> None:
    gaps = ja.Panel(MARKET.where(np.arange(T)[:, None] % N != np.arange(N)))
    with pytest.warns(ja.AllocationWarning):
        assert "; 1 of 1 invalid" in repr(ja.run_study(gaps, config=CONFIG))


@pytest.mark.parametrize("result", [study, walk], ids=["study", "walk"])
@pytest.mark.parametrize("settings", [CONFIG, GRID], ids=["config", "sweep"])
def test_a_notebook_shows_a_small_table(result: Any, settings: Any) -> None:
    text = result(settings)._repr_html_()
    assert text.startswith("<table")
    assert "equal_weight" in text or settings is GRID
    assert HOSTILE not in text
    assert text.count("<tr>") <= 2 + 3 * 2
    assert " %</td>" in text
