"""`jaxalloc bench`: what it prints and writes, how runs are laid out, and bad options. No test asserts a time."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import check_schema

from jaxalloc.cli import timing
from jaxalloc.cli.bench import Outcomes
from jaxalloc.settings.config import DEFAULT_PROFILES
from jaxalloc.settings.status import Status

Run = Callable[..., tuple[str, str]]
QUICK = ("--seconds", "0", "--runs", "2")  # runs of the fewest universes

SPREAD = {"least": float, "median": float, "most": float}
SCHEMA: dict[str, Any] = {
    "format": int,
    "finished": str,
    "machine": {"processor": str, "cores": int, "system": str},
    "device": {"platform": str, "kind": str, "count": int},
    "versions": dict,
    "source": str,
    "n_assets": int,
    "n_rows": int,
    "precision": int,
    "seconds": float,
    "compile_seconds": float,
    "universes_per_second": SPREAD,
    "runs": [{"universes": int, "seconds": float}],
    "peak_memory": {"process_bytes": int, "device_bytes": type(None)},
    "universes": int,
    "n_clusters": {"least": int, "median": (int, float), "most": int},
    "profiles": {
        profile: {"optimality_gap": {"median": float, "most": float}, "n_flagged": int, "status_counts": dict}
        for profile in DEFAULT_PROFILES
    },
}


def test_a_measurement_from_end_to_end(run: Run) -> None:
    """The document on stdout is the one written; its rates are those of the runs, its gaps the engine's own."""
    out, err = run("bench", "--n-assets", "12", "--rows", "120", *QUICK, "--json", "--out", "found.json")
    assert err == "note: Wrote found.json.\n"
    assert Path("found.json").read_text() == out
    found = json.loads(out)
    check_schema(found, SCHEMA)
    assert (found["source"], found["n_assets"], found["n_rows"]) == ("embedded market", 12, 120)
    rates = sorted(each["universes"] / each["seconds"] for each in found["runs"])
    assert len(rates) == 2
    assert list(found["universes_per_second"].values()) == pytest.approx([rates[0], sum(rates) / 2, rates[1]])
    assert found["universes"] == sum(each["universes"] for each in found["runs"])
    assert found["compile_seconds"] > 0
    assert 1 <= found["n_clusters"]["least"] <= found["n_clusters"]["median"] <= found["n_clusters"]["most"] <= 12
    for row in found["profiles"].values():
        assert row["optimality_gap"]["median"] <= row["optimality_gap"]["most"] <= 1e-8
        assert row["n_flagged"] <= sum(row["status_counts"].values())
        assert set(row["status_counts"]) <= set(Status.__members__)
    assert {"jaxalloc", "python", "jax", "numpy"} <= found["versions"].keys()


def test_a_table_of_a_file(run: Run, file: Path) -> None:
    out, err = run("bench", file, *QUICK, "--quiet")
    assert err == ""
    assert [path.name for path in Path().iterdir()] == [file.name]
    lines = [line.split() for line in out.splitlines()]
    assert all(len(line) <= 80 for line in out.splitlines() if not line.startswith("note: "))
    assert "jaxalloc in 64 bits on cpu" in out
    assert f"{file.name}: 12 assets, 120 rows, bootstrap resamples, four profiles each" in out.splitlines()
    assert ["least", "median", "most"] in lines
    names = [profile.replace("_", " ") for profile in DEFAULT_PROFILES]
    rows = [re.match(rf"({'|'.join(names)}) +(\S.*)$", line) for line in out.splitlines()]
    shown = {row[1]: row[2].split() for row in rows if row}
    assert list(shown) == names
    assert all(float(gap) <= 1e-8 for row in shown.values() for gap in row[:2])
    assert "`make bench` in a clone of jaxalloc's repository" in out.splitlines()[-1]


@pytest.mark.slow
def test_float32(run: Run) -> None:
    words = ("--n-assets", "5", "--rows", "60", "--precision", "32")
    found = json.loads(run("bench", *words, *QUICK, "--json")[0])
    assert found["precision"] == 32
    most = {name: row["optimality_gap"]["most"] for name, row in found["profiles"].items()}
    assert most.pop("max_sharpe") < 1e-3  # where rewards nearly cancel, rounding leaves more of a gap
    assert 1e-12 < max(most.values()) < 1e-4


class Waiting:
    """Takes the same time for every universe, on a clock of its own; a run takes half as long from the ``fast``-th."""

    def __init__(self, rate: float, quantum: int, fast: int = 10**9) -> None:
        self.rate, self.quantum, self.fast = rate, quantum, fast
        self.now, self.seeds = 0.0, list[int]()

    def perf_counter(self) -> float:
        return self.now

    def stream(self, n: int, seed: int) -> Iterator[int]:
        self.seeds.append(seed)
        self.now += n / self.rate / (2 if len(self.seeds) >= self.fast else 1)
        yield n


def time_runs(monkeypatch: pytest.MonkeyPatch, side: Waiting) -> tuple[list[timing.Run], list[int]]:
    monkeypatch.setattr(timing, "time", side)
    seen: list[int] = []
    return timing.time_runs(side, 3, 1.0, itertools.count(1), seen.append), seen


def test_runs_take_the_time_wanted_and_draw_other_universes(monkeypatch: pytest.MonkeyPatch) -> None:
    side = Waiting(rate=1000, quantum=64)
    runs, seen = time_runs(monkeypatch, side)
    assert [run.universes_per_second for run in runs] == pytest.approx([1000] * 3)
    assert all(run.seconds >= 1 and run.universes % 64 == 0 for run in runs)
    assert seen == [run.universes for run in runs]
    assert len(set(side.seeds)) == len(side.seeds)


def test_a_run_that_is_too_short_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine doubles its speed after the runs were laid out."""
    laid_out = Waiting(rate=1000, quantum=64)
    time_runs(monkeypatch, laid_out)
    runs, _ = time_runs(monkeypatch, Waiting(rate=1000, quantum=64, fast=len(laid_out.seeds) - 1))
    assert len(runs) == 3
    assert all(run.seconds >= 1 for run in runs)


def test_what_the_universes_came_to() -> None:
    gaps = np.array([[1e-12, 2e-12, np.nan, 0.0], [3e-12, 4e-12, np.nan, 0.0], [5e-12, 0.0, np.nan, 0.0]])
    status = np.zeros((3, 4), int)
    status[0, 2] = Status.SHARPE_FALLBACK | Status.NOT_CONVERGED
    status[2, 2] = Status.SHARPE_FALLBACK
    outcomes = Outcomes()
    for rows in (slice(0, 2), slice(2, 3)):
        part: Any = SimpleNamespace(
            optimality_gap=gaps[rows], status=status[rows], n_clusters=np.array([4, 6, 5])[rows]
        )
        outcomes.add(part)
    found = outcomes.record()
    assert found["universes"] == 3
    assert found["n_clusters"] == {"least": 4, "median": 5, "most": 6}
    assert found["profiles"]["min_variance"]["optimality_gap"] == {"median": 3e-12, "most": 5e-12}
    assert found["profiles"]["max_sharpe"] == {
        "optimality_gap": None,
        "n_flagged": 2,
        "status_counts": {"SHARPE_FALLBACK": 2, "NOT_CONVERGED": 1},
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.csv"], "no such file"),
        (["--rivals", "original"], "No such option: --rivals"),
        (["--runs", "0"], "'--runs': Input should be greater than or equal to 1"),
        (["--seconds", "-1"], "'--seconds'"),
        (["--seconds", "nan"], "'--seconds'"),
        (["--n-assets", "1"], "'--n-assets'"),
        (["--rows", "19"], "'--rows'"),
        (["--precision", "16"], "is not one of '32', '64'"),
        (["--kind", "prices"], "are about a file: give FILE"),
        (["--out", "found.csv"], "must be a file whose name ends in .json"),
        (["market.csv", "--n-assets", "13"], "--n-assets 13, but there are only 12 assets"),
        (["market.csv", "--rows", "121"], "--rows 121, but there are only 120 rows"),
        (["short.csv"], "--rows 20, but there are only 10 rows"),
        (["gaps.csv", "--missing", "mask"], "choose --missing zero"),
        (["still.csv", "--rows", "30"], "constant"),
    ],
)
def test_bad_option(refused: Callable[..., str], market: pd.DataFrame, arguments: list[str], message: str) -> None:
    market.head(10).to_csv("short.csv")
    market.mask(np.eye(*market.shape) > 0).to_csv("gaps.csv")
    still = market.copy()
    still.iloc[-40:, 3] = 0.01
    still.to_csv("still.csv")
    assert message in refused("bench", *arguments)
