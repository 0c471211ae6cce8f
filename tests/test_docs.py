"""The documentation's Python blocks and commands run, and its pictures are there and small."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import jaxalloc as ja

DOCS = Path(__file__).parents[1] / "docs"
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md"))}


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGES[page], flags=re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_python_blocks_run_in_order(page, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace: dict = {}
    for block in blocks(page, "python"):
        exec(compile(block, page, "exec"), namespace)
    if page == "index.md":
        printed = capsys.readouterr().out
        assert "(64, 2, 12)" in printed
        assert namespace["batch"].status[:2].tolist() == [[1, 1], [0, 0]]  # as the page's comment says
        assert "no allocation" in printed


@pytest.mark.slow
def test_commands_succeed_in_order(tmp_path):
    prices = 100 * (1 + ja.datasets.synthetic_market(n_assets=12, n_observations=60)).cumprod()
    prices.to_csv(tmp_path / "prices.csv")
    (settings,) = blocks("cli.md", "toml")
    (tmp_path / "study.toml").write_text(settings)
    lines = [line[2:] for page in PAGES for block in blocks(page, "console") for line in block.splitlines()]
    assert len(lines) > 5
    for line in lines:
        program, *words = shlex.split(line)
        assert program == "jaxalloc"
        run = subprocess.run(
            [sys.executable, "-m", "jaxalloc", *words],
            cwd=tmp_path,
            env=os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert run.returncode == 0, f"{line}: {run.stderr}"


def test_pictures_are_used_and_small():
    text = "".join(PAGES.values())
    for picture in sorted((DOCS / "images").iterdir()):
        assert f"images/{picture.name}" in text
        assert picture.stat().st_size < 300_000


def test_every_public_name_is_in_the_reference():
    text = "".join(PAGES.values())
    shown = set(re.findall(r"^::: jaxalloc[\w.]*\.(\w+)$", text, flags=re.MULTILINE))
    assert set(ja.__all__) - shown == {"__version__", "datasets"}
