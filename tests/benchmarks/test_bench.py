"""benchmarks/bench.py on a panel: output, rivals left out, bad options. No test asserts a time."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bench
import pandas as pd
import pytest
from helpers import check_schema, market_on_a_terminal
from rivals import registry

import jaxalloc as ja
from jaxalloc.cli import report_errors
from jaxalloc.settings.config import DEFAULT_PROFILES

Run = Callable[..., tuple[str, str]]
QUICK = ("--seconds", "0", "--pairs", "1", "--judged", "2")  # a run of the fewest universes


@pytest.fixture(autouse=True)
def one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """One worker: a second one would not tell more."""
    monkeypatch.setattr("rivals.race.available_cores", lambda: 1)


@pytest.fixture(scope="module")
def market() -> pd.DataFrame:
    return ja.datasets.synthetic_market(12, 120)


@pytest.fixture(autouse=True)
def file(market: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The market as a CSV file in an empty current directory, on a terminal of 80 columns without colours."""
    return market_on_a_terminal(market, tmp_path, monkeypatch)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the script, which should end with a given status; return what it wrote to stdout and stderr."""

    def run(*words: str | Path, status: int = 0) -> tuple[str, str]:
        ended = report_errors(lambda: bench.run([str(word) for word in words]))
        out, err = capsys.readouterr()
        assert ended == status, err
        return out, err

    return run


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the original's way, which needs nothing but what jaxalloc does, can run."""
    for key, rival in registry.RIVALS.items():
        libraries = () if key == "original" else ("no_such_library",)
        monkeypatch.setitem(registry.RIVALS, key, rival._replace(libraries=libraries))


ACCURACY = {
    **dict.fromkeys(("universes", "partitions_equal", "leads_equal", "failed"), int),
    **dict.fromkeys(("gap", "median_gap", "over_limit", "difference"), dict),
    **dict.fromkeys(("sum_error", "cluster_excess", "asset_excess"), float),
}
SIDE = {"universes": int, "seconds": float, "universes_per_second": float}
SCHEMA: dict[str, Any] = {
    "format": int,
    "started": str,
    "machine": {"processor": str, "cores": int, "system": str},
    "device": {"platform": str, "kind": str, "count": int},
    "versions": dict,
    "pairs": int,
    "seconds": float,
    "judged": int,
    "precision": int,
    "gap_limit": float,
    "left_out": [{"rival": str, "name": str, "missing": list, "install": str}],
    "jobs": [
        {
            "job": str,
            "source": str,
            "n_rows": int,
            "n_assets": int,
            "jaxalloc": {
                "universes_per_second": float,
                "goal_universes_per_second": type(None),
                "accuracy": ACCURACY,
            },
            "rivals": [
                {
                    "rival": str,
                    "name": str,
                    "goal": type(None),
                    "ratio": {"median": float, "least": float, "most": float},
                    "universes_per_second": float,
                    "jaxalloc_universes_per_second": float,
                    "accuracy": ACCURACY,
                    "pairs": [{"jaxalloc": SIDE, "rival": SIDE, "ratio": float}],
                }
            ],
        }
    ],
}


def test_a_race_from_end_to_end(run: Run, missing: None) -> None:
    """The document on stdout is the one written; jaxalloc is exact, and the rivals that cannot run are named."""
    out, err = run("market.csv", *QUICK, "--json", "--out", "found")
    found = json.loads(out)
    assert Path("found/bench.json").read_text() == out
    assert Path("found/bench.md").read_text().count("\n| ") == 4
    check_schema(found, SCHEMA)
    assert [row["rival"] for row in found["left_out"]] == [key for key in registry.RIVALS if key != "original"]
    assert all(row["missing"] == ["no_such_library"] for row in found["left_out"])
    for key in registry.RIVALS:
        note = f"note: Left {key} out: no_such_library is not installed; {registry.INSTALL}."
        assert (note in err.splitlines()) == (key != "original")
    (job,) = found["jobs"]
    assert (job["source"], job["n_assets"], job["n_rows"]) == ("market.csv", 12, 120)
    verdict = job["jaxalloc"]["accuracy"]
    assert verdict["universes"] == verdict["partitions_equal"] == verdict["leads_equal"] == 2
    assert set(verdict["over_limit"]) == set(DEFAULT_PROFILES)
    assert sum(verdict["over_limit"].values()) == verdict["failed"] == 0
    assert verdict["sum_error"] <= 1e-12
    (row,) = job["rivals"]
    assert row["rival"] == "original"
    assert row["accuracy"]["partitions_equal"] == 2
    (pair,) = row["pairs"]
    rates = [pair[side]["universes"] / pair[side]["seconds"] for side in ("jaxalloc", "rival")]
    assert math.isclose(pair["ratio"], rates[0] / rates[1])
    assert row["ratio"]["median"] == pair["ratio"]
    assert {"jaxalloc", "python", "jax", "numpy"} <= found["versions"].keys()


def test_a_table_of_a_file(run: Run, file: Path) -> None:
    out, err = run(file, *QUICK, "--n-assets", "12", "--rivals", "original", "--quiet")
    assert err == ""
    assert [path.name for path in Path().iterdir()] == [file.name]
    assert "jaxalloc in 64 bits on cpu" in out
    lines = out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert f"panel: {file.name}, 12 assets, 120 rows" in lines
    head, ours, theirs = (next(line for line in lines if line.startswith(s)) for s in (" ", "jaxalloc  ", "pandas + "))
    assert head.split() == ["universes/s", "faster", "by", "range", "gap", "clusters", "leads"]
    assert ours.endswith("2/2    2/2")
    assert " x " in theirs


def test_a_rival_that_fails_is_told_and_jaxalloc_runs_alone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.RIVALS, "naive", registry.RIVALS["naive"]._replace(attribute="NoSuchClass"))
    document = json.loads(run("market.csv", *QUICK, "--rivals", "naive", "--json")[0])
    (job,) = document["jobs"]
    assert "NoSuchClass" in job["rivals"][0]["error"]
    assert job["jaxalloc"]["universes_per_second"] > 0
    out, _ = run("market.csv", *QUICK, "--rivals", "naive")
    assert "note: naive JAX failed: AttributeError" in out


@pytest.mark.slow
def test_jaxalloc_alone_in_float32(run: Run) -> None:
    cut = ("--n-assets", "5", "--rows", "60")
    document = json.loads(run("market.csv", *cut, *QUICK, "--rivals", "none", "--precision", "32", "--json")[0])
    (job,) = document["jobs"]
    assert job["rivals"] == document["left_out"] == []
    assert document["gap_limit"] == 1e-5
    assert job["jaxalloc"]["accuracy"]["partitions_equal"] == 2
    assert sum(job["jaxalloc"]["accuracy"]["over_limit"].values()) == 0
    assert 1e-10 < max(job["jaxalloc"]["accuracy"]["difference"].values()) < 1e-3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere.csv"], "no such file"),
        (["--rivals", "markowitz"], "there is no 'markowitz'; choose from plain, expert, original, "),
        (["--rivals", "original,"], "there is no ''"),
        (["--rivals", "naive"], f"leave naive out: no_such_library is not installed, or {registry.INSTALL}"),
        (["--pairs", "0"], "--pairs must be from 1 to"),
        (["--seconds", "-1"], "--seconds must be from 0 to 3,600, not -1"),
        (["--seconds", "nan"], "--seconds must be"),
        (["--judged", "0"], "--judged must be"),
        (["market.csv", "--n-assets", "1"], "--n-assets must be"),
        (["market.csv", "--rows", "19"], "--rows must be from 20 to 65,535"),
        (["--rows", "30"], "are about a file: give FILE, or --jobs"),
        (["market.csv", "--n-assets", "13"], "--n-assets 13, but there are only 12 assets"),
    ],
)
def test_bad_input_is_one_line(run: Run, missing: None, words: list[str], message: str) -> None:
    out, err = run(*words, status=2)
    assert out == ""
    assert err.startswith("jaxalloc: error: ")
    assert len(err.splitlines()) == 1
    assert message in err
    assert [path.name for path in Path().iterdir()] == ["market.csv"]


def test_jobs_whose_data_is_not_at_hand_are_skipped(
    run: Run, missing: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("JAXALLOC_DATA", raising=False)
    out, err = run("--jobs", "W20", "--out", tmp_path / "found", "--json", "--rivals", "none")
    assert json.loads(out)["jobs"] == []
    assert err == f"W20 skipped: set JAXALLOC_DATA to the folder of {bench.FILE}\n"
