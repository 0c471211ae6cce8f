"""The README's Python blocks, commands and table are what the project does today."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import bench
import pytest

import jaxalloc as ja

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_python_block_runs(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = blocks("python")
    exec(compile(block, "README.md", "exec"), {})
    assert "members" in capsys.readouterr().out  # the last table that is printed
    assert "</html>" in Path("report.html").read_text(encoding="utf-8")


def test_python_block_runs_on_prices_from_a_file(capsys, tmp_path, monkeypatch):
    """The block's other source of data; of the same shape, so that nothing is compiled anew."""
    monkeypatch.chdir(tmp_path)
    returns = ja.datasets.synthetic_market(n_assets=12)
    prices = 100 * (1 + returns).cumprod()
    prices.loc[returns.index[0].replace(year=2000)] = 100.0
    prices.sort_index().to_csv("prices.csv")
    (block,) = blocks("python")
    line = re.search(r"^market = .*# or (.*)$", block, re.MULTILINE)
    assert line is not None
    exec(compile(block.replace(line[0], f"market = {line[1]}"), "README.md", "exec"), {})
    assert "members" in capsys.readouterr().out


COMMANDS = [line[2:] for block in blocks("console") for line in block.splitlines() if line.startswith("$ ")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the README's prices.csv, and one compilation cache for its commands."""
    path = tmp_path_factory.mktemp("readme")
    prices = 100 * (1 + ja.datasets.synthetic_market(n_assets=12, n_observations=60)).cumprod()
    prices.to_csv(path / "prices.csv")
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_succeed(command, folder):
    words = shlex.split(command)
    assert words[0] == "jaxalloc"
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
    run = subprocess.run(
        [sys.executable, "-m", "jaxalloc", *words[1:]],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    if "--out" in words:
        assert (folder / words[words.index("--out") + 1]).exists()


def test_accuracy_table_is_the_committed_one():
    table = (ROOT / "benchmarks" / "results" / "accuracy.md").read_text()
    assert table in README
    assert table.count("\n") >= 9


def test_speed_table_is_that_of_the_committed_results():
    start, end = bench.MARKS
    shown = README.split(start)[1].split(end)[0]
    if bench.RESULTS.joinpath("bench.json").exists():
        assert shown == bench.speed_table(json.loads(bench.RESULTS.joinpath("bench.json").read_text()))
    else:
        assert shown == "Not measured on this version yet; `make bench` fills this table.\n"


def test_links_and_pictures_are_there():
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", README) + re.findall(r'(?:src|srcset)="([^"]+)"', README)
    here = [link for link in links if "://" not in link]
    assert len(here) > 10
    assert [link for link in here if not (ROOT / link).exists()] == []
    assert README.count("\n") < 200


def test_folders_named_exist():
    section = README.split("## Finding your way")[1]
    named = set(re.findall(r"`([a-z_]+)`", section))
    assert {"kernels", "engine", "studies"} <= named
    for name in named:
        assert (ROOT / "jaxalloc" / name / "__init__.py").exists(), name
