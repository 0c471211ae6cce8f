"""`jaxalloc clusters`: the table of cuts, the one to take, its groups, the files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd

import jaxalloc as ja

Run = Callable[..., tuple[str, str]]


def test_the_choice_is_printed_with_its_reason_and_groups(run: Run, file: Path, market: pd.DataFrame) -> None:
    out, _ = run("clusters", file, "--n", "10")
    choice = ja.cluster_choice(market, sampler=ja.Bootstrap(n=10))
    assert max(len(line) for line in out.splitlines() if not line.startswith("Use it")) <= 80
    assert "\x1b" not in out
    assert out.count("take this one") == 1
    assert choice.why in " ".join(out.split())
    for names in choice.groups:
        assert ", ".join(names) in out
    assert f"Use it: jaxalloc allocate {file} --criterion silhouette --detone" in out
    rerun, _ = run("allocate", file, "--criterion", "silhouette", "--detone")
    assert f"{choice.clusters} clusters" in rerun


def test_the_document_and_the_files(run: Run, file: Path, tmp_path: Path) -> None:
    out, err = run("clusters", file, "--n", "5", "--json", "--out", "labels.csv", "--plot", "cuts.html")
    document = json.loads(out)
    assert [cut["clusters"] for cut in document["cuts"]] == list(range(2, 12))
    assert sum(map(len, document["groups"])) == 12
    labels = pd.read_csv(tmp_path / "labels.csv")
    assert labels["cluster"].max() + 1 == document["clusters"] == len(document["groups"])
    assert "plotly" in (tmp_path / "cuts.html").read_text(encoding="utf-8")
    assert "Wrote labels.csv" in err
    assert "Wrote cuts.html" in err


def test_other_distances_are_asked_for(run: Run, file: Path) -> None:
    out, _ = run("clusters", file, "--n", "5", "--no-detone", "--linkage", "ward", "--all", "--quiet")
    assert "--linkage ward --criterion silhouette" in out
    assert "--detone" not in out


def test_bad_input_is_one_line(run: Run, file: Path) -> None:
    for words, said in (
        (["--max-clusters", "1"], "--max-clusters must be"),
        (["--out", "labels.txt"], "--out"),
        (["--max-clusters", "2.5"], "whole number"),
    ):
        _, err = run("clusters", file, *words, status=2)
        assert said in err
        assert len(err.strip().splitlines()) <= 3


def test_options_come_from_a_file_too(run: Run, file: Path, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("detone = false\n[clusters]\nn = 4\nmax-clusters = 6\n", encoding="utf-8")
    document = json.loads(run("clusters", file, "--config", "settings.toml", "--json")[0])
    assert [cut["clusters"] for cut in document["cuts"]] == list(range(2, 7))
    assert document["record"]["sampler"]["n"] == 4
    assert json.loads(run("allocate", file, "--config", "settings.toml", "--json")[0])["config"]["detone"] is False
