"""`python -m jaxalloc.cli.demo`: what it prints and writes, and that it deletes nothing but its own."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import jaxalloc as ja
from jaxalloc import datasets
from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import plain_name
from jaxalloc.cli import tour
from jaxalloc.settings.config import DEFAULT_PROFILES


@pytest.fixture(autouse=True)
def small_market(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """A market that compiles quickly in the place of the demo's, and an empty current directory."""
    market = datasets.synthetic_market(12, 120)
    monkeypatch.setattr(datasets, "synthetic_market", lambda: market)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    return market


def folder_contents() -> dict[str, Any]:
    return {str(p): p.read_bytes() if p.is_file() else None for p in sorted(Path().rglob("*"))}


def test_demo_prints_writes_and_runs_again(small_market: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path("jaxalloc-demo")
    for n_resamples in (3, 5):
        assert tour.run(folder, n_resamples) == 0
        out, err = capsys.readouterr()
        assert err == ""
        assert max(map(len, out.split("4. Written")[0].splitlines())) <= 80
        for text in (
            *map(plain_name, DEFAULT_PROFILES),
            "lead asset",
            f"{n_resamples} universes",
            "Written to jaxalloc-demo",
            "What next",
        ):
            assert text in out
        assert len(ja.load_study(folder / "study").weights("barbell")) == n_resamples
        assert f"{n_resamples} universes at each of 3 points of the grid" in out
        assert os.listdir() == [folder.name]
    assert out.splitlines()[-1] == "The report, to open in a browser: jaxalloc-demo/report.html"
    assert "<title>synthetic market</title>" in (folder / "report.html").read_text(encoding="utf-8")
    weights = pd.read_csv(folder / "weights.csv")
    np.testing.assert_allclose(weights.groupby("profile")["weight"].sum(), 1)
    returns = ja.read_returns(folder / "returns.csv").returns
    pd.testing.assert_frame_equal(returns, small_market, check_freq=False, check_index_type=False)


def test_without_plotly_there_is_no_report_and_it_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "plotly", None)
    assert tour.run(Path("jaxalloc-demo"), 3) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "No report: the report needs the package plotly: pip install 'jaxalloc[report]'"
    assert sorted(os.listdir("jaxalloc-demo")) == [tour._MARKER, "returns.csv", "study", "weights.csv"]


@pytest.mark.parametrize("name", ["note.txt", "study/note.txt"])
def test_a_folder_with_something_else_in_it_is_left_alone(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    tour.run(Path("jaxalloc-demo"), 3)
    Path("jaxalloc-demo", name).write_text("mine")
    before = folder_contents()
    with pytest.raises(InputError, match=r"also holds what the demo did not write, such as .*note.txt; move it away"):
        tour.run(Path("jaxalloc-demo"), 3)
    assert folder_contents() == before


def test_a_folder_that_is_not_the_demos_is_left_alone(tmp_path: Path) -> None:
    folder = Path("jaxalloc-demo")
    folder.mkdir()
    for content in (None, "", "[]", json.dumps({"files": 3})):
        if content is not None:
            (folder / tour._MARKER).write_text(content)
        with pytest.raises(InputError, match="was not made by the demo; move it away"):
            tour.run(folder, 3)
    assert os.listdir(folder) == [tour._MARKER]
    link = Path("link")
    link.symlink_to(folder, target_is_directory=True)
    with pytest.raises(InputError, match="was not made by the demo"):
        tour.run(link, 3)


@pytest.mark.parametrize("name", ["note.txt", "study/notes/a.csv", "study/chunks/mine.parquet", "weights.csv"])
def test_a_list_of_files_makes_none_the_demos_own(name: str, tmp_path: Path) -> None:
    folder, target = Path("jaxalloc-demo"), Path("mine")
    (folder / name).parent.mkdir(parents=True)
    target.write_text("mine")
    if name == "weights.csv":  # a link to what is mine
        (folder / name).symlink_to(target.absolute())
    else:
        (folder / name).write_text("mine")
    (folder / tour._MARKER).write_text(json.dumps({"files": [name]}))
    with pytest.raises(InputError, match=f"also holds what the demo did not write, such as {name}; move it away"):
        tour.run(folder, 3)
    assert (folder / name).read_text() == target.read_text() == "mine"


def test_a_failure_leaves_the_earlier_folder(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tour.run(Path("jaxalloc-demo"), 3)
    before = folder_contents()

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tour, "_save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        tour.run(Path("jaxalloc-demo"), 3)
    assert folder_contents() == before
