"""What may be wrong with the folder of a study: one line, status 2, and the folder as it was."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
import pytest

from jaxalloc.cli import main
from jaxalloc.storage.manifest import _checksum
from jaxalloc.storage.names import CHUNKS, COPY, LOCK, MANIFEST, STATE

STUDY = ("study", "market.csv", "--n", "5", "--profile", "risk_parity", "--quiet", "--out", "study")


@pytest.fixture(scope="module")
def kept(market: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study."""
    folder = tmp_path_factory.mktemp("kept")
    market.to_csv(folder / "market.csv")
    words = [*STUDY[:-1], str(folder / STUDY[-1])]
    words[1] = str(folder / STUDY[1])
    assert main(words) == 0
    return folder / STUDY[-1]


@pytest.fixture
def folder(kept: Path, file: Path) -> Path:
    """A copy of it in the current directory."""
    return Path(shutil.copytree(kept, file.with_name("study"))).relative_to(file.parent)


def rewrite(folder: Path, **changes: Any) -> None:
    """Another manifest, with the right checksum."""
    path = folder / MANIFEST
    content = json.loads(path.read_text()) | changes
    content.pop("sha256")
    path.write_text(json.dumps(content | {"sha256": _checksum(content)}))


def lose(folder: Path, text: str) -> None:
    """Put another manifest there, and leave nothing that it could be replaced from."""
    (folder / MANIFEST).write_text(text)
    (folder / COPY).unlink()
    for place in (CHUNKS, STATE):
        shutil.rmtree(folder / place)


def spoil(folder: Path) -> None:
    """Cut every file of a folder short."""
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: lose(f, "{}"), "manifest.json is damaged, or another program's; choose another"),
        (lambda f: rewrite(f, version=10**6), "format 1000000, and this version of jaxalloc reads format"),
        (lambda f: rewrite(f, chunks=3), "manifest.json is not as jaxalloc writes it: chunks must be an object, not 3"),
        (
            lambda f: ((f / MANIFEST).unlink(), (f / MANIFEST).mkdir()),
            "manifest.json is no plain file, where a file",
        ),
        (lambda f: rewrite(f, finished=False), "is not finished; run it again with --resume"),
        (lambda f: spoil(f / STATE), "is damaged; run the study again with --resume to redo it"),
        (lambda f: (f / "study.json").write_text("{}"), "is damaged; run the study again with --resume to write it"),
    ],
)
def test_a_damaged_study_has_no_report(
    refused: Callable[..., str], folder: Path, change: Callable[[Path], object], message: str
) -> None:
    pytest.importorskip("plotly")
    change(folder)
    assert message in refused("report", folder)


def test_another_writer(refused: Callable[..., str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with filelock.FileLock(folder / LOCK):
        said = refused(*STUDY, "--resume")
    assert "another process is writing to " in said
    assert "study; wait for it, or choose another folder" in said

    def no_locks(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", no_locks)
    assert "its file system has no locks); choose another folder" in refused(*STUDY, "--resume")


def test_a_file_that_is_not_the_studys_stays(run: Callable[..., tuple[str, str]], folder: Path) -> None:
    rewrite(folder, finished=False, results={})
    (folder / "summary.csv").write_text("mine")
    _, err = run(*STUDY, "--resume", status=2)
    assert "summary.csv is not the study's; nothing is overwritten: move it away" in err
    assert (folder / "summary.csv").read_text() == "mine"
