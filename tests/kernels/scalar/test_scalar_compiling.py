"""What numba keeps on disk serves the next process, unless any of these kernels has changed."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numba")

from numba import njit
from numba.core.event import trigger_event

from jaxalloc.kernels.scalar import across, compiling

MODULE = """
from jaxalloc.kernels.scalar.compiling import inner, scalar

@inner
def half(x):
    return x / 2

@scalar
def quarter(x):
    return half(half(x))
"""
CALL = """
import sys
from jaxalloc.kernels.scalar import compiling
compiling._Cache._of_sources = sys.argv[1]
import kept
assert kept.quarter(8.0) == 2.0
print(sum(kept.quarter.stats.cache_hits.values()))
"""


def hits(folder: Path, sources: str) -> int:
    """How many kernels a new process reads from disk, if the sources have this hash."""
    environment = os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    environment["NUMBA_CACHE_DIR"] = str(folder / "cache")
    done = subprocess.run(
        [sys.executable, "-c", CALL, sources], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_a_kernel_is_kept_until_the_sources_change(tmp_path: Path) -> None:
    (tmp_path / "kept.py").write_text(MODULE, encoding="utf-8")
    assert [hits(tmp_path, "one"), hits(tmp_path, "one"), hits(tmp_path, "two"), hits(tmp_path, "two")] == [0, 1, 0, 1]


def test_the_sources_are_these_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert compiling._Cache._of_sources == compiling._sources()
    monkeypatch.setattr(compiling, "__file__", str(tmp_path / "compiling.py"))
    (tmp_path / "a.py").write_text("x = 1\n", encoding="utf-8")
    before = compiling._sources()
    (tmp_path / "a.py").write_text("x = 2\n", encoding="utf-8")
    assert compiling._sources() != before


def test_the_collector_rests_while_kernels_are_compiled() -> None:
    def compiling_of(dispatcher: object) -> Any:
        return trigger_event("numba:compile", data={"dispatcher": dispatcher})

    foreign = njit(lambda: 0)
    assert gc.isenabled()
    with compiling_of(foreign):
        assert gc.isenabled()
        with compiling_of(across.solve_clusters):  # of another's kernel nothing is ours
            assert gc.isenabled()
    with compiling_of(across.solve_clusters), compiling_of(foreign):
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ValueError, match="no kernel"), compiling_of(across.solve_clusters):
        raise ValueError("no kernel")
    assert gc.isenabled()
    gc.disable()
    try:
        with compiling_of(across.solve_clusters):
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
