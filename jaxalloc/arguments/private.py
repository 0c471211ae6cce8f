"""Folders that code is loaded from: whoever can write there can do as this user does, so that nobody else may."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from jaxalloc.arguments.words import quote, reason

_LONGEST = 200  # characters of a path in a message


def absolute(path: str | os.PathLike[str]) -> Path:
    """Return a path from the root on; it may begin with ``~``."""
    whole = Path(os.path.expanduser(path))
    try:
        return whole.absolute()
    except OSError:  # there may be no current folder
        return whole


def objection(folder: Path, make: bool = False) -> str | None:
    """Say why a folder is not private, or not to be used; None if it is, or if it is not there yet.

    A private folder belongs to this user, and no one else can write to it, nor put another in its place.

    Args:
        folder: absolute.
        make: whether to make it, and its parents, if it is missing: for this user alone, whatever the umask.
    """
    try:
        if make:
            _make(folder)
        status = folder.stat()
    except FileNotFoundError:
        return "it cannot be made" if make else None
    except (OSError, ValueError) as error:  # a path may also have characters that no path has
        return reason(error)
    if not stat.S_ISDIR(status.st_mode):
        return "it is no folder"
    if hasattr(os, "getuid"):  # not on Windows, where the folder of a user is the user's own
        if status.st_uid != os.getuid():
            return "it belongs to another user"
        if others_can_write(status):
            return "other users can write to it"
        exposed = _exposed_parent(folder)
        if exposed is not None:
            return f"any user can replace it, by writing to {quote(exposed, _LONGEST)}"
    return None if os.access(folder, os.R_OK | os.W_OK | os.X_OK) else "it cannot be read and written"


def others_can_write(status: os.stat_result) -> bool:
    """Tell whether a file or folder has a mode by which others than its owner can write to it."""
    return bool(status.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def _make(folder: Path) -> None:
    for each in (*reversed(folder.parents), folder):
        if not each.exists():
            each.mkdir(mode=0o700, exist_ok=True)


def _exposed_parent(folder: Path) -> Path | None:
    """The first parent that everybody can write to, so that what is in it can be renamed; None if there is none.

    A sticky one, such as /tmp, keeps each user's own. One that a group can write to is let pass: many systems give each
    user a group of one, and let it write.
    """
    for each in folder.resolve().parents:
        mode = each.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            return each
    return None
