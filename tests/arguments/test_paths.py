"""Paths that are to be written: what is refused, and files that are whole or as they were."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.paths import check_file, make_folder, write_whole


def test_a_path_that_can_be_written_is_returned(tmp_path: Path) -> None:
    (tmp_path / "old.CSV").write_text("old")
    assert check_file(tmp_path / "old.CSV", "--out", (".csv",)) == tmp_path / "old.CSV"
    assert check_file(str(tmp_path / "new.csv"), "--out", (".csv",), source=tmp_path / "old.CSV").name == "new.csv"
    assert check_file(tmp_path / "later" / "new.csv", "--out", (".csv",), new_folder=True).name == "new.csv"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.xlsx", "must be a file whose name ends in .csv, .parquet or .json; the suffix tells the format"),
        ("folder.csv", "this is a directory; give the path of a file"),
        ("none/a.csv", "there is no directory"),
        ("link.csv", "this is the file that is read"),
        ("x" * 300 + ".csv", "cannot write there (File name too long)"),
    ],
)
def test_a_path_that_cannot_is_refused_in_one_line(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "source.csv").touch()
    (tmp_path / "link.csv").symlink_to(tmp_path / "source.csv")
    with pytest.raises(InputError) as error:
        check_file(tmp_path / name, "--out", (".csv", ".parquet", ".json"), source=tmp_path / "source.csv")
    assert message in str(error.value)
    assert str(error.value).startswith("--out '")
    assert len(str(error.value).splitlines()) == 1


def test_folders_are_made_or_refused(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/b: cannot write there \(Not a directory\); choose another folder$"):
        make_folder(tmp_path / "file" / "b")


def test_a_file_is_replaced_when_the_new_one_is_complete(tmp_path: Path) -> None:
    target = tmp_path / ("x" * 250)  # as long a name as a file may have, or nearly so
    target.write_text("old")
    seen: list[str] = []

    def write(partial: Path) -> None:
        partial.write_text("new")
        seen.append(target.read_text())

    write_whole(target, write)
    assert (seen, target.read_text(), list(tmp_path.iterdir())) == (["old"], "new", [target])


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_file_that_cannot_be_written_stays_as_it_was(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "file"
    target.write_text("old")

    def full(*_: object) -> None:
        raise OSError("no space left")

    def half(partial: Path) -> None:
        partial.write_text("ne")
        full()

    write: Callable[[Path], object] = half if call == "write" else lambda partial: partial.write_text("new")
    if call != "write":
        monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="no space left"):
        write_whole(target, write)
    monkeypatch.undo()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "old")]
