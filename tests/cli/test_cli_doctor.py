"""`jaxalloc doctor`: what it shows, and that it finds what keeps programs from being kept. No test asserts a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import check_schema

from jaxalloc.engine import kept, programs

Run = Callable[..., tuple[str, str]]
SCHEMA: dict[str, Any] = {
    "format": int,
    "versions": dict,
    "machine": {"processor": str, "cores": int, "system": str},
    "device": {"platform": str, "kind": str, "count": int},
    "programs": {"folder": (str, type(None)), "entries": int, "bytes": int, "most_bytes": int},
    "scalar_kernels": {"used": bool, "objection": (str, type(None))},
    "test": {"compile_seconds": float, "load_seconds": (float, type(None))},
    "advice": (str, type(None)),
}


@pytest.fixture
def programs_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | Path], None]:
    """Have the environment say where programs are kept."""

    def choose(where: str | Path) -> None:
        monkeypatch.setattr(kept._Choice, "made", False)
        monkeypatch.setenv("JAXALLOC_PROGRAMS", str(where))

    return choose


def found(run: Run, status: int = 0) -> tuple[dict[str, Any], str]:
    out, err = run("doctor", "--json", status=status)
    document = json.loads(out)
    check_schema(document, SCHEMA)
    return document, err


def test_all_is_well(run: Run, programs_in: Callable[..., None], tmp_path: Path) -> None:
    folder = tmp_path / "programs"
    programs_in(folder)
    document, err = found(run)
    assert err == ""
    assert document["advice"] is None
    assert document["programs"] == {"folder": str(folder), "entries": 0, "bytes": 0, "most_bytes": 2**30}
    assert document["test"]["load_seconds"] > 0
    assert {"jaxalloc", "python", "jax", "jaxlib", "numpy", "pandas"} <= document["versions"].keys()
    assert list(folder.iterdir()) == []  # the test leaves nothing
    assert kept.Folder(folder).write(bytes(32), bytes(10**6))
    out, err = run("doctor")
    assert err == ""
    assert "programs: 1 program, 1.0 of at most 1,024 MiB" in out
    assert out.endswith("all is well\n")


def test_nothing_is_kept_because_the_environment_says_so(run: Run, programs_in: Callable[..., None]) -> None:
    programs_in("off")
    document, err = found(run)
    assert err == ""
    assert document["programs"]["folder"] is None
    assert document["test"]["load_seconds"] is None
    assert "compiled programs are kept nowhere, as JAXALLOC_PROGRAMS=off says" in run("doctor")[0]


def test_a_folder_that_cannot_be_used(run: Run, programs_in: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    programs_in(tmp_path / "shared")
    document, err = found(run, status=1)
    assert document["advice"] == (
        f"programs are not kept in {tmp_path / 'shared'}: other users can write to it; name a folder of your own in "
        "JAXALLOC_PROGRAMS, or off to keep none"
    )
    assert err == f"jaxalloc: error: {document['advice']}\n"
    out, err = run("doctor", status=1)
    assert out.endswith("see the error\n")
    (tmp_path / "file").write_text("")
    programs_in(tmp_path / "file")
    assert "not kept" in found(run, status=1)[0]["advice"]


def test_programs_that_do_not_load(
    run: Run, programs_in: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs_in(tmp_path / "programs")

    def broken(*_: Any) -> Any:
        raise ValueError("no such format")

    monkeypatch.setattr(programs, "loaded", broken)
    document, err = found(run, status=1)
    assert document["advice"].startswith("a kept program does not load again")
    assert len(err.splitlines()) == 1
