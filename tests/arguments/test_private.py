"""Folders that code is loaded from are their user's alone, whatever the umask, and are not used where they are not."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jaxalloc.arguments.private import objection
from jaxalloc.engine import kept

pytestmark = pytest.mark.skipif(not hasattr(os, "getuid"), reason="this system has no modes of folders")


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_folders_and_programs_are_made_for_the_user_alone(open_umask: None, tmp_path: Path) -> None:
    folder = kept.Folder(tmp_path / "cache" / "jaxalloc" / "programs")
    assert folder.write(bytes(32), b"program")
    for path in (folder.path, *folder.path.parents[:2]):
        assert mode(path) == 0o700
    (entry,) = folder.path.iterdir()
    assert mode(entry) == 0o600
    assert folder.read(bytes(32)) == b"program"


@pytest.mark.parametrize("bits", [0o020, 0o002])
def test_what_others_can_write_is_not_used(tmp_path: Path, bits: int) -> None:
    folder = tmp_path / "programs"
    programs = kept.Folder(folder)
    assert programs.write(bytes(32), b"program")
    (entry,) = folder.iterdir()
    entry.chmod(0o600 | bits)  # such as one that was put there while the folder was open
    assert programs.read(bytes(32)) is None
    entry.chmod(0o600)
    folder.chmod(0o700 | bits)
    assert objection(folder) == "other users can write to it"
    assert programs.read(bytes(32)) is None
    folder.chmod(0o700)
    assert programs.read(bytes(32)) == b"program"


def test_a_folder_that_anybody_can_put_another_in_place_of_is_not_used(tmp_path: Path) -> None:
    folder = tmp_path / "open" / "own" / "programs"
    assert objection(folder, make=True) is None
    (tmp_path / "open").chmod(0o777)
    said = objection(folder)
    assert said is not None
    assert said.startswith("any user can replace it, by writing to ")
    (tmp_path / "link").symlink_to(folder)  # the folders that count are those of the folder itself
    assert objection(tmp_path / "link") == said
    (tmp_path / "open").chmod(0o1777)  # sticky: each keeps what is their own
    assert objection(folder) is None


def test_a_folder_of_another_user_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    assert objection(tmp_path) == "it belongs to another user"


def test_the_command_line_lets_jax_keep_programs_in_a_private_folder_alone(open_umask: None, tmp_path: Path) -> None:
    code = "import os; from jaxalloc import cli; cli.own_process(lambda: print(os.getenv('JAX_COMPILATION_CACHE_DIR')))"
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    environment["XDG_CACHE_HOME"] = str(tmp_path)

    def named() -> str:
        command = [sys.executable, "-W", "error", "-c", code]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.strip()

    folder = tmp_path / "jaxalloc" / "xla"
    assert named() == str(folder)
    assert mode(folder) == mode(folder.parent) == 0o700
    folder.chmod(0o777)
    assert named() == "None"
