"""`jaxalloc sweep`: the grid, what is printed of it, the folder."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import DAYS_NOTE, RETURNS_NOTE

import jaxalloc as ja
from jaxalloc.cli import running
from jaxalloc.cli.varying import read_varied

Run = Callable[..., tuple[str, str]]

CONFIG = ja.AllocationConfig(profiles=("risk_parity",))
VARY = ("--profile", "risk_parity", "--vary", "cluster_cap=0.2,0.3", "--vary", "threshold=0.3:0.4:0.1")


def rows(out: str) -> list[list[str]]:
    """The numbers of every printed row of the grid."""
    return [re.findall(r"-?[\d.]+", line) for line in out.splitlines() if re.match(r" *0\.\d+ ", line)]


def test_the_panel_is_the_universe_and_nothing_is_written(run: Run, file: Path, market: pd.DataFrame) -> None:
    out, err = run("sweep", file, *VARY)
    assert err == DAYS_NOTE
    assert os.listdir() == [file.name]
    assert "1 universe at each of 4 points of the grid, 12 assets" in out
    assert max(map(len, out.splitlines())) <= 80
    assert "\x1b" not in out
    assert "turnover" not in out
    found = rows(out)
    assert [row[:2] for row in found] == [["0.2", "0.3"], ["0.2", "0.4"], ["0.3", "0.3"], ["0.3", "0.4"]]
    for row, (cap, threshold) in zip(found, [(0.2, 0.3), (0.2, 0.4), (0.3, 0.3), (0.3, 0.4)], strict=True):
        point = ja.run_study(market, config=CONFIG.replace(cluster_cap=cap, distance_threshold=threshold)).point
        assert row[2] == f"{100 * point.volatility[0]:.2f}"
        assert row[3] == f"{100 * point.expected_return[0]:.2f}"
        assert row[4] == f"{1 / (point.weights[0] ** 2).sum():.1f}"
        assert row[5] == f"{point.n_clusters}"
        assert row[6] == f"{int(point.status[0]).bit_count()}"


def test_resamples_at_every_point_go_to_a_folder(run: Run, file: Path, market: pd.DataFrame) -> None:
    out, _ = run("sweep", file, *VARY, "--n", "3", "--seed", "4", "--out", "grid")
    assert "3 universes at each of 4 points of the grid" in out
    assert out.splitlines()[-1] == "Wrote grid"
    grid = ja.sweep(CONFIG, cluster_cap=[0.2, 0.3], distance_threshold=[0.3, 0.4])
    wanted = ja.run_study(market, ja.Bootstrap(3), grid, seed=4)
    found = ja.load_study("grid")
    pd.testing.assert_frame_equal(found.weights("risk_parity"), wanted.weights("risk_parity"))
    turnover = wanted.profile_summary().xs("turnover", level="measure")["mean"]
    np.testing.assert_allclose([float(row[6]) for row in rows(out)], 100 * turnover, atol=0.005)
    counts = [wanted.cluster_counts(at=point) for point in range(4)]
    means = [float((count.index.to_numpy() * count.to_numpy()).sum() / 3) for count in counts]
    np.testing.assert_allclose([float(row[5]) for row in rows(out)], means, atol=0.0501)


def test_json_holds_every_point(run: Run, file: Path) -> None:
    out, err = run("sweep", file, *VARY, "--json", "--quiet")
    assert err == ""
    document = json.loads(out)
    assert document["folder"] is None
    assert document["settings"]["grid"] == {"cluster_cap": [0.2, 0.3], "distance_threshold": [0.3, 0.4]}
    assert document["n_valid"] == 4
    assert {(row["cluster_cap"], row["distance_threshold"]) for row in document["assets"]} == {
        *((0.2, 0.3), (0.2, 0.4), (0.3, 0.3), (0.3, 0.4))
    }
    assert len(document["assets"]) == 4 * 12
    assert "stability" not in document


def test_ways_to_draw(run: Run, file: Path) -> None:
    run("sweep", file, *VARY, "--window", "60", "--subset", "8", "--out", "windows")
    windows = ja.load_study("windows")
    assert [part["sampler"] for part in windows.record["sampler"]["factors"]] == ["RollingWindows", "RandomSubsets"]
    assert ((windows.clusters() >= 0).sum(axis=1) == 8).all()
    run("sweep", file, *VARY, "--stress", "volatility=2", "--out", "stress", "--keep", "summary")
    stress = ja.load_study("stress")
    assert (stress.n, stress.tables) == (1, None)


@pytest.mark.slow
def test_many_settings_stay_within_80_columns(run: Run, file: Path) -> None:
    more = ("--vary=slack=1.1", "--vary=risk-free-rate=0", "--vary=asset-cap=0.3", "--vary=periods-per-year=252")
    out, _ = run("sweep", file, *VARY, *more, "--profile", "max_sharpe", "--n", "2")
    assert max(map(len, out.splitlines())) <= 80
    assert "--json everything" in out
    assert "volatility" in out


def test_a_grid_is_gone_on_with(run: Run, file: Path, refused: Callable[..., str]) -> None:
    run("sweep", file, *VARY, "--out", "grid", "--resume")
    before = ja.load_study("grid").record["started"]
    run("sweep", file, *VARY, "--out", "grid", "--resume")
    assert ja.load_study("grid").record["started"] >= before
    message = refused("sweep", file, *VARY[:-2], "--out", "grid", "--resume")
    assert "settings.grid.distance_threshold" in message
    run("sweep", file, *VARY[:-2], "--out", "grid", "--fresh")
    assert ja.load_study("grid").settings.names == ("cluster_cap",)


def test_interrupted_without_a_folder(run: Run, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "run_study", interrupt)
    assert run("sweep", file, *VARY, status=130) == ("", RETURNS_NOTE + "jaxalloc: interrupted\n")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("cluster_cap=0.15,0.25", ("cluster_cap", [0.15, 0.25])),
        ("cluster-cap=1", ("cluster_cap", [1.0])),
        ("threshold=0.1:0.5:0.1", ("distance_threshold", [0.1, 0.2, 0.3, 0.4, 0.5])),
        ("distance_threshold=0.1:0.35:0.1, 0.9", ("distance_threshold", [0.1, 0.2, 0.3, 0.9])),
        ("n-aggressors=1:3:1", ("n_aggressors", [1, 2, 3])),
        ("max_clusters=2.5", ("max_clusters", [2.5])),  # which is refused later
    ],
)
def test_values_are_read(text: str, wanted: tuple[str, list[float]]) -> None:
    found = read_varied(text)
    assert found == wanted
    assert list(map(type, found[1])) == list(map(type, wanted[1]))


def test_choices_vary_too(run: Run, file: Path) -> None:
    few = ("--profile", "risk_parity", "--vary", "linkage=average,ward", "--vary", "detone=no,yes")
    out, err = run("sweep", file, *few)
    assert "1 universe at each of 4 points of the grid" in out
    assert [line.split()[:2] for line in out.splitlines() if line.split()[:1] in (["average"], ["ward"])] == [
        ["average", "False"],
        ["average", "True"],
        ["ward", "False"],
        ["ward", "True"],
    ]
    assert "note: The sweep of linkage and detone compiles" in err
    for words, said in (
        ("linkage=mean", "unknown"),
        ("detone=perhaps", "neither yes nor no"),
        ("profile=hrp", "cannot vary"),
    ):
        _, err = run("sweep", file, "--vary", words, status=2)
        assert said in err
