"""Kernels that other processes compile, and that are called at their addresses."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("numba")

from jaxalloc.kernels.scalar import across

MODULE = """
from numba import int64
from jaxalloc.kernels.scalar.compiling import scalar
from jaxalloc.kernels.scalar.separate import separate

def signature(kind):
    return kind(kind[::1], int64)

@separate(signature)
def entry(x, i):
    if i < 0:
        raise ValueError("negative")
    return x[i]

at = entry.at

@scalar
def doubled(address, x, i):
    return 2 * at(address, (x, i))
"""
USE = """
import sys
import numpy as np
from jaxalloc.kernels.scalar import separate
if sys.argv[2] == "nowhere":
    sys.executable = "/nowhere/python"
elif sys.argv[2] == "application":
    sys.executable = "/bin/false"  # is never started
    separate.subprocess.Popen = None
elif sys.argv[2] == "broken":
    separate._CHILD = "raise SystemExit(1)"
import kept
version = kept.entry.version(sys.argv[1])
assert not version.is_here()
begun = sys.argv[2] != "alone"
if begun:
    separate.begin([version], [], 1)
    separate.begin([version], [], 1)
was_kept = version.is_here()
address = version.address()
assert version.is_here() and version.address() == address
x = np.arange(4, dtype=sys.argv[1])
assert kept.doubled(address, x, 3) == 6
try:
    kept.doubled(address, x, -1)
except ValueError as error:
    assert str(error) == "negative"
else:
    raise AssertionError
try:
    kept.doubled(address, x.astype(complex), 3)
except Exception as error:
    assert type(error).__name__ == "TypingError"
else:
    raise AssertionError
print(was_kept, sum(kept.entry._kernel.stats.cache_misses.values()))
"""


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    environment["NUMBA_CACHE_DIR"] = str(folder / "cache")
    return subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True, check=False)


def use(folder: Path, *arguments: str) -> str:
    """Whether another process had compiled the kernel before, and how often this one has."""
    done = run(folder, "-c", USE, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "kept.py").write_text(MODULE, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_another_process_compiles_a_kernel(folder: Path, precision: str) -> None:
    assert use(folder, precision, "begun") == "False 0"
    assert use(folder, precision, "begun") == "True 0"
    assert use(folder, precision, "alone") == "False 0"


@pytest.mark.parametrize("trouble", ["alone", "nowhere", "application", "broken"])
def test_a_kernel_that_no_other_process_compiles_is_compiled_here(folder: Path, trouble: str) -> None:
    assert use(folder, "float64", trouble) == "False 1"
    assert use(folder, "float64", "begun") == "True 0"


def test_solvers_of_few_clusters_are_two_of_four() -> None:
    for dtype in ("float64", "float32"):
        few = across.solvers(dtype, across.FEW)
        assert min(few.few, few.risk_parity) > 0
        every = across.solvers(dtype, across.FEW + 1)
        assert len({*every}) == len(every)
        assert all(few[i] in (0, every[i]) for i in range(len(every)))
        assert across.solvers(dtype, 1) == every  # once they are here


def test_a_process_that_ends_first_does_not_warn(folder: Path) -> None:
    """The child goes on, and what it compiles serves the next process."""
    code = "import kept; from jaxalloc.kernels.scalar import separate; version = kept.entry.version('float64')"
    begin = "separate.begin([], [version], 1); print(version.child.pid)"
    done = run(folder, "-X", "dev", "-W", "error", "-c", f"{code}; {begin}")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for _ in range(600):
        if list((folder / "cache").glob("**/*.nbc")):
            break
        time.sleep(0.1)
    assert use(folder, "float64", "begun") == "True 0"
