"""The README's Python blocks, commands and table are what the project does today."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import jaxalloc as ja

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_python_blocks_run_in_order(capsys):
    namespace: dict = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), namespace)
    printed = capsys.readouterr().out
    assert "(64, 4, 12)" in printed
    assert namespace["batch"].status[:2].tolist() == [[1] * 4, [0] * 4]  # as the README's comment says
    assert "no allocation" in printed
    assert len(blocks("python")) == 2


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


def test_modules_named_exist():
    section = README.split("## Finding your way")[1]
    named = set(re.findall(r"`([a-z_]+)`", section))
    assert {"allocation", "batch", "quadratic"} <= named
    for name in named:
        assert (ROOT / "jaxalloc" / f"{name}.py").exists() or (ROOT / "jaxalloc" / name / "__init__.py").exists(), name
