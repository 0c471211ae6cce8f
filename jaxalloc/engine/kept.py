"""Compiled programs on disk, for later processes: a folder of entries, each whole or not there, bounded in size.

Whatever goes wrong here costs the time to compile, and nothing else: no function raises an `OSError` or warns.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from jaxalloc.arguments import private

MOST_BYTES = 2**30  # of all entries of a folder: some 500 programs
_SUFFIX, _PARTIAL = ".program", ".partial"
_MAGIC = b"jaxalloc program\n"
_FORMAT = 1
_HEADER = struct.Struct("<17sI32sQ32s")  # magic, format, key, length and sha256 of the payload
_FULL = 0.9  # what a folder that is too full is pruned to, so that not every write has to prune
_ABANDONED = 3600.0  # seconds after which a partial file is no longer being written
_OFF = "off"


class Folder:
    """A folder of kept programs; nothing is made, read or checked before an entry is asked for."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Take the folder's path; it may begin with ``~``."""
        self.path = private.absolute(path)

    def read(self, key: bytes) -> bytes | None:
        """Return what is kept under a key; None if there is nothing, or nothing whole, or the folder is not safe."""
        if self.objection():
            return None
        path = self._path(key)
        try:
            with path.open("rb") as file:
                if hasattr(os, "getuid"):
                    status = os.fstat(file.fileno())
                    if status.st_uid != os.getuid() or private.others_can_write(status):
                        return None
                content = file.read()
        except OSError:
            return None
        if len(content) < _HEADER.size:
            return None
        magic, number, its_key, length, checksum = _HEADER.unpack_from(content)
        payload = memoryview(content)[_HEADER.size :]
        whole = (magic, number, its_key, length) == (_MAGIC, _FORMAT, key, len(payload))
        if not whole or hashlib.sha256(payload).digest() != checksum:
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # pruning takes the entries that were not used for longest
        return bytes(payload)

    def write(self, key: bytes, payload: bytes) -> bool:
        """Keep something under a key, in place of what is there; then prune the folder. Tell whether it is kept.

        Several processes may write one entry at once, or read it meanwhile: each sees one that is whole.
        """
        if self.objection(make=True):
            return False
        path = self._path(key)
        partial = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:12]}{_PARTIAL}")
        header = _HEADER.pack(_MAGIC, _FORMAT, key, len(payload), hashlib.sha256(payload).digest())
        try:  # not synced to the disk: an entry that a power cut leaves broken is compiled anew
            with open(partial, "xb", opener=_for_the_user_alone) as file:
                file.write(header)
                file.write(payload)
            partial.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            return False
        self.prune()
        return True

    def prune(self) -> None:
        """Remove the entries that were not used for longest, where all of them take more than `MOST_BYTES`."""
        entries = sorted(self._entries(), key=lambda entry: entry[1].st_mtime)
        total = sum(status.st_size for _, status in entries)
        if total <= MOST_BYTES:
            return
        for path, status in entries:
            if total <= _FULL * MOST_BYTES:
                break
            with contextlib.suppress(OSError):  # another process may have removed it
                path.unlink()
            total -= status.st_size

    def sizes(self) -> list[int]:
        """Return the sizes of the entries in bytes."""
        return [status.st_size for _, status in self._entries()]

    def objection(self, make: bool = False) -> str | None:
        """Say why entries of this folder are not used; None if they are, or if the folder is not there yet.

        An entry is loaded by pickle and then run as machine code, so that only a private folder is read or written.

        Args:
            make: whether to make the folder if it is missing.
        """
        return private.objection(self.path, make)

    def _path(self, key: bytes) -> Path:
        return self.path / f"{key.hex()}{_SUFFIX}"

    def _entries(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Yield the entries; partial files that nobody writes any more are removed."""
        try:
            with os.scandir(self.path) as files:
                for file in files:
                    with contextlib.suppress(OSError):
                        if file.name.endswith(_SUFFIX):
                            yield Path(file.path), file.stat(follow_symlinks=False)
                        elif file.name.endswith(_PARTIAL) and file.stat().st_mtime < time.time() - _ABANDONED:
                            os.unlink(file.path)
        except OSError:
            return


def _for_the_user_alone(path: str, flags: int) -> int:
    """Open a file that is made for its owner alone, whatever the umask."""
    return os.open(path, flags, 0o600)


class _Choice:
    """What `keep_programs` was told in this process.

    Attributes:
        made: whether it was told anything; the environment decides otherwise.
        folder: where programs are kept.
    """

    made = False
    folder: Folder | None = None


def keep_programs(folder: str | os.PathLike[str] | None) -> None:
    """Choose the folder in which this process keeps compiled programs, and looks for them; None keeps nothing.

    Later processes that need the same programs load them from there, in a twentieth of the time to compile. Without a
    call, the environment variable ``JAXALLOC_PROGRAMS`` names the folder, or is ``off``; by default it is
    ``jaxalloc/programs`` in ``$XDG_CACHE_HOME`` or ``~/.cache``. The folder is made when the first program is kept. It
    must belong to the user, and no one else may write to it; otherwise, and where it cannot be written, nothing is
    kept. It grows to 1 GiB; then the programs that were not used for longest are removed. `jaxalloc doctor` shows it.

    Args:
        folder: where to keep programs; None keeps nothing.

    Example:
        >>> import jaxalloc as ja
        >>> ja.keep_programs(None)
    """
    _Choice.made, _Choice.folder = True, None if folder is None else Folder(folder)


@contextlib.contextmanager
def programs_kept_in(folder: str | os.PathLike[str] | None) -> Iterator[None]:
    """`keep_programs` for as long as the context lasts, in all threads."""
    before = _Choice.made, _Choice.folder
    keep_programs(folder)
    try:
        yield
    finally:
        _Choice.made, _Choice.folder = before


def folder_in_use() -> Folder | None:
    """Return the folder in which programs are kept; None if they are not."""
    if _Choice.made:
        return _Choice.folder
    named = os.environ.get("JAXALLOC_PROGRAMS", "")
    if named == _OFF:
        return None
    return Folder(named or _cache("programs"))


def folder_of_jax() -> Path:
    """Return where the command line has JAX keep what it compiles besides, unless the environment names a folder.

    What is there is run, too, so that the folder is used only if it is private.
    """
    return private.absolute(_cache("xla"))


def _cache(name: str) -> str:
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
    return os.path.join(caches, "jaxalloc", name)
