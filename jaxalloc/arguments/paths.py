"""Paths that are to be written: checked before anything long begins, and written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Collection
from pathlib import Path

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import literal, quote, reason, unquoted

_LONGEST = 200  # characters of a path in a message


def as_path(path: str | os.PathLike[str], what: str = "the path") -> Path:
    """Return a path that a system could have; raise `InputError` where it is none, such as text with a NUL in it.

    Args:
        path: as a caller gave it.
        what: how messages call it.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"{what} must be text or a Path, not {literal(path)}")
    text = os.fspath(path)
    try:
        possible = isinstance(text, str) and b"\0" not in os.fsencode(text)
    except ValueError:  # half of a character
        possible = False
    if not possible:
        raise InputError(f"{what} {quote(text, _LONGEST)} has characters that no path can have; choose another")
    return Path(text)


def real_path(path: str | os.PathLike[str]) -> Path:
    """Return the path of a folder, absolute and with links resolved; raise `InputError` where it cannot be one."""
    return Path(os.path.realpath(as_path(path, "the folder")))


def check_file(
    path: str | os.PathLike[str],
    what: str,
    suffixes: Collection[str],
    *,
    source: Path | None = None,
    new_folder: bool = False,
) -> Path:
    """Return the path of a file that could be written.

    Args:
        path: of the file.
        what: how messages call the file, such as ``"--out"`` or ``"the report"``.
        suffixes: the endings that its name may have, in lower case.
        source: a file that is read, and so must not be written over.
        new_folder: whether the folder of the file is made later.

    Raises:
        InputError: the name has another ending, or the file cannot be written there.
    """
    target = as_path(path, what)
    folder = target.parent
    name = f"{what} {quote(target, _LONGEST)}"
    if target.suffix.lower() not in suffixes:
        raise InputError(f"{name} must be a file whose name ends in {_either(suffixes)}; the suffix tells the format")
    try:
        if target.is_dir():
            raise InputError(f"{name}: this is a directory; give the path of a file")
        if not new_folder and not folder.is_dir():
            raise InputError(f"{name}: there is no directory {quote(folder, _LONGEST)}; create it, or choose another")
        if not new_folder and not os.access(folder, os.W_OK | os.X_OK):
            raise InputError(f"{name}: the directory {quote(folder, _LONGEST)} cannot be written; choose another")
        if source is not None and target.exists() and source.exists() and target.samefile(source):
            raise InputError(f"{name}: this is the file that is read; choose another name")
    except OSError as error:  # such as a name that is too long
        raise InputError(f"{name}: cannot write there ({reason(error)}); choose another name") from None
    return target


def _either(words: Collection[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def make_folder(path: str | os.PathLike[str]) -> None:
    """Make a folder and its parents, unless it is there; raise `InputError` where that fails."""
    folder = as_path(path, "the folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise no_folder(path, error) from None


def no_folder(path: str | os.PathLike[str], error: OSError) -> InputError:
    """Return the error to raise where a folder cannot be made or written."""
    return InputError(f"{unquoted(path)}: cannot write there ({reason(error)}); choose another folder")


def write_whole(path: Path, write: Callable[[Path], object], partial: Path | None = None) -> None:
    """Have a file written so that it is there whole, and safe on the disk, or else is as it was before.

    The file is written under a temporary name in the same folder, synced to the disk, and renamed; then the folder is
    synced.

    Args:
        path: of the file, which may be there already.
        write: writes the file to the path that it is given, the temporary one.
        partial: the temporary path; by default one that no other process uses.

    Raises:
        OSError: it could not be written; the temporary file is removed.
    """
    if partial is None:
        partial = path.with_name(f".{path.name[:50]}.{uuid.uuid4().hex[:12]}.partial")
    try:
        write(partial)
        with partial.open("r+b") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make sure that the names in a folder are on the disk."""
    if os.name != "posix":  # elsewhere a folder cannot be opened
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # a folder may be written and yet not be read
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
