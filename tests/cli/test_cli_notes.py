"""Notes: each once on stderr, in the command line's words; in Python's in JSON, in the record and in the report."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jaxalloc.cli import options, render, report_errors

IGNORED = [
    "--kind",
    "returns",
    "--profile",
    "risk_parity",
    "--profile",
    "hrp",
    "--asset-cap",
    "0.05",
    "--max-clusters",
    "4",
]
IN_FLAGS = [
    "note: --max-clusters 4 changes nothing: it is read under --criterion maxclust or silhouette only.",
    "note: --asset-cap 0.05 does not change the weights of hrp.",
    "note: 12 assets cannot be fully invested under so low a cap, which is raised to slack / assets: --asset-cap 0.05 "
    "to 9.2 %.",
]
IN_PYTHON = [
    "max_clusters=4 changes nothing: it is read under criterion='maxclust' or 'silhouette' only.",
    "asset_cap=0.05 does not change the weights of hrp.",
    "12 assets cannot be fully invested under so low a cap, which is raised to slack / assets: asset_cap=0.05 "
    "to 9.2 %.",
]
PERIODS = "Annualised by 252 rows a year: the dates are business days."

Run = Callable[..., tuple[str, str]]


def test_allocate_says_what_is_ignored(run: Run, file: Path) -> None:
    out, err = run("allocate", file, *IGNORED, "--json")
    assert err.splitlines() == [f"note: {PERIODS}", *IN_FLAGS]
    assert json.loads(out)["notes"] == [PERIODS, *IN_PYTHON]
    _, err = run("allocate", file, *IGNORED, "--quiet")
    assert err == ""


def test_a_study_says_it_everywhere_once(run: Run, file: Path) -> None:
    pytest.importorskip("plotly")
    out, err = run("study", file, "--n", "5", *IGNORED, "--out", "study", "--report", "--json")
    notes = [line for line in err.splitlines() if line.startswith("note: ")]
    assert sorted(notes) == sorted([f"note: {PERIODS}", *IN_FLAGS])
    wanted = [PERIODS, *IN_PYTHON]
    assert json.loads(out)["notes"] == wanted
    assert json.loads(Path("study/study.json").read_text())["notes"] == wanted
    page = Path(json.loads(out)["report"]).read_text()
    head = page[page.index("<header>") : page.index("</header>")]
    for note in wanted:
        assert page.count(html.escape(note, quote=True).replace("&#x27;", "&#39;")) == 1
        assert html.escape(note, quote=True).replace("&#x27;", "&#39;") in head


def test_a_walk_forward_says_it_too(run: Run, file: Path) -> None:
    words = ("walk-forward", file, "--window", "60", "--step", "30", "--execution", "lead", *IGNORED)
    out, err = run(*words, "--out", "walk", "--json")
    said = [line for line in err.splitlines() if line.startswith("note: ")]
    assert len(said) == len(set(said)) == len(json.loads(out)["notes"])
    assert any("--execution lead then puts" in line for line in said)
    assert set(IN_FLAGS) < set(said)


def test_a_sweep_s_settings_count_too(run: Run, file: Path) -> None:
    _, err = run("sweep", file, "--vary", "slack=1.1,1.2", "--profile", "hrp")
    assert "note: The sweep of --slack does not change the weights of hrp.\n" in err


def test_advice_suits_the_criterion(run: Run, file: Path) -> None:
    few = ["--profile", "risk_parity", "--cluster-cap", "0.1"]
    out, _ = run("allocate", file, *few)
    assert "lower --threshold to get more clusters, or raise --cluster-cap" in " ".join(out.split())
    out, _ = run("allocate", file, *few, "--criterion", "maxclust", "--max-clusters", "4")
    assert "raise --max-clusters to get more clusters, or raise --cluster-cap" in " ".join(out.split())
    assert "--threshold" not in out
    out, _ = run("study", file, "--n", "5", *few, "--criterion", "maxclust", "--max-clusters", "4", "--out", "few")
    assert "raise --max-clusters" in " ".join(out.split())
    assert "--threshold" not in out


def test_what_is_at_fault_is_the_error(run: Run, file: Path, market: pd.DataFrame) -> None:
    rows, columns = np.indices(market.shape)
    file.write_text(market.mask(rows % 4 == columns % 4).to_csv())
    _, err = run("study", file, "--missing", "mask", "--n", "5", "--profile", "hrp", "--out", "none", status=2)
    *notes, error = err.splitlines()
    assert ": no universe has a portfolio: no asset has returns in enough rows of a universe: " in error
    assert not any("portfolio" in note for note in notes)  # said once


@pytest.mark.parametrize("error", [OSError, RuntimeError])
def test_other_errors_name_flags_too(error: type[Exception], capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> int:
        raise error("disk full: then run the study again with resume=True, or raise cluster_cap")

    assert report_errors(fail) == 1
    assert capsys.readouterr().err.endswith("run the study again with --resume, or raise --cluster-cap\n")


def test_notes_in_flags() -> None:
    said = {
        "asset_cap=0.1 and the sweep of slack do": "--asset-cap 0.1 and the sweep of --slack do",
        "periods_per_year=252 rows": "--periods-per-year 252 rows",
        "linkage='ward' does": "--linkage ward does",
        "read under profiles='barbell' only": "read under --profile barbell only",
        "or covariance='ledoit_wolf'.": "or --covariance ledoit_wolf.",
        "slack=1.5 does": "--slack 1.5 does",
        "'asset_cap=0.1' is a symbol": "'asset_cap=0.1' is a symbol",
    }
    assert {note: options.in_flags(note) for note in said} == said


@pytest.mark.parametrize(
    ("value", "text"), [(-1e-9, "0.00 %"), (0.0, "0.00 %"), (-0.0001, "-0.01 %"), (float("nan"), "-"), (0.5, "50.00 %")]
)
def test_what_rounds_to_zero_has_no_sign(value: float, text: str) -> None:
    assert render.percent(value) == text
