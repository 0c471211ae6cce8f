"""`jaxalloc study`: the folder, the summary, the progress bar."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import jaxalloc as ja
from jaxalloc.cli import render
from jaxalloc.study import RECORD, run_study
from jaxalloc.universes import Bootstrap

Run = Callable[..., tuple[str, str]]

STUDY = ("--n", "5", "--profile", "risk_parity")


def test_study_writes_a_folder_and_prints_a_summary(run: Run, file: Path, market: pd.DataFrame, tmp_path: Path) -> None:
    out, err = run("study", file, *STUDY, "--method", "circular", "--block", "21", "--seed", "3")
    assert err == ""  # no terminal, no progress bar
    assert "5 universes, 12 assets" in out
    assert out.splitlines()[-1] == "Wrote market-study"
    config = ja.AllocationConfig(profiles=("risk_parity",))
    wanted = run_study(market, Bootstrap(5, "circular", 21), config, seed=3)
    weights = pd.read_parquet(tmp_path / "market-study" / "weights_risk_parity.parquet")
    np.testing.assert_array_equal(weights, wanted.weights("risk_parity"))
    mean = wanted.profile_summary().loc[("risk_parity", "volatility"), "mean"]
    assert re.search(rf"^volatility .* {100 * mean:.2f} %", out, re.MULTILINE)


def test_study_takes_a_new_name_unless_told_one(run: Run, file: Path, refused: Callable[..., str]) -> None:
    for name in ("market-study", "market-study-2"):
        out, _ = run("study", file, *STUDY, "--json")
        document = json.loads(out)
        assert document["folder"] == name
        assert document["n_valid"] == 5
        assert {row["symbol"] for row in document["assets"]} == set(pd.read_csv(file).columns[1:])
        assert (Path(name) / RECORD).is_file()
    assert "nothing is overwritten" in refused("study", file, *STUDY, "--out", "market-study")


def test_resamples_may_miss_every_gap(run: Run, file: Path, market: pd.DataFrame) -> None:
    market.mask(np.eye(*market.shape) > 0).to_csv(file)
    out, err = run("study", file, *STUDY, "--missing", "mask")
    assert "note: Left 12 missing returns in 12 symbols as gaps" in err
    assert "5 universes, 12 assets" in out
    assert re.search(r"^volatility +- +\d", out, re.MULTILINE)  # there is no estimate
    assert "nan" not in out


def test_a_study_without_a_valid_resample_is_bad_input(run: Run, file: Path, market: pd.DataFrame) -> None:
    rows, columns = np.indices(market.shape)
    market.mask((rows + columns) % 2 == 0).to_csv(file)
    out, err = run("study", file, *STUDY, "--missing", "mask", "--quiet", status=2)
    assert "5 universes (5 of them invalid)" in out
    assert "note: in 5 of 5 universes: no allocation" in out
    assert re.fullmatch(r"jaxalloc: error: .*market.csv: no resample could be allocated to: .*\n", err)


def test_an_interrupted_study_leaves_nothing(
    run: Run, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("jaxalloc.study._save", interrupt)
    out, err = run("study", file, *STUDY, "--out", "new/study", status=130)
    assert (out, err) == ("", "jaxalloc: interrupted\n")
    assert os.listdir(tmp_path) == [file.name]


def test_progress_shows_on_a_terminal_only(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with render.progress_bar(10, quiet=False) as advance:
        assert advance is None
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with render.progress_bar(10, quiet=True) as advance:
        assert advance is None
    with render.progress_bar(10, quiet=False) as advance:
        assert advance is not None
        advance(10)
    out, err = capsys.readouterr()
    assert out == ""
    assert "10/10" in err
