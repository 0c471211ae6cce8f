"""Every example runs as it stands, but for the number of universes, and prints something."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
FEW = {"JAXALLOC_EXAMPLE_UNIVERSES": "60"}  # thousands, where an example is run by hand


RUNS = [pytest.param(path, id=path.stem, marks=[] if path.name[:2] == "01" else pytest.mark.slow) for path in EXAMPLES]


@pytest.mark.parametrize("path", RUNS)
def test_example_runs(path, tmp_path):
    run = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        cwd=tmp_path,
        env=os.environ | FEW,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout


def test_examples_are_numbered():
    assert [path.name[:3] for path in EXAMPLES] == [f"{number:02}_" for number in range(1, len(EXAMPLES) + 1)]
    assert EXAMPLES


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_example_is_cells_that_say_what_they_show(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# %% [markdown]"
    assert lines[1].startswith("# # ")
    assert "# %%" in lines
