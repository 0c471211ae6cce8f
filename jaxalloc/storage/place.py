"""A folder of results, or a folder in it: files that are read, written and removed there, and never behind a link.

Who may write to a folder may also put links there. Each operation opens the folder itself, refusing a link, and names
its files from there; a file is created only where there is none, under a temporary name, and renamed. So what is
touched lies in that folder, whatever it holds and whoever changes it meanwhile.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import unquoted
from jaxalloc.storage.names import partial_name

# Where files cannot be named from an open folder (Windows), links are looked for before each operation.
_FROM_FOLDER = {os.open, os.unlink, os.rename, os.stat, os.mkdir, os.rmdir} <= os.supports_dir_fd
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0) | _NO_LINK
_PLAIN = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | _NO_LINK
_AT_ONCE = getattr(os, "O_NONBLOCK", 0)  # a pipe that nobody writes to is opened at once, and refused


@dataclasses.dataclass(frozen=True)
class FileRecord:
    """What a manifest says of a finished file.

    Attributes:
        count: the rows of a chunk; the number of chunks that a state covers; 0 for a result.
        size: its length in bytes.
        sha256: the SHA-256 of its bytes, in hexadecimal.
    """

    count: int
    size: int
    sha256: str


def file_record(data: bytes, count: int = 0) -> FileRecord:
    """Return the record of a file with these bytes."""
    return FileRecord(count=count, size=len(data), sha256=hashlib.sha256(data).hexdigest())


@dataclasses.dataclass(frozen=True)
class Place:
    """A folder of results, or one of the folders in it.

    Every method raises `InputError` where it finds a link, or anything but a plain file, in place of a file or a folder
    of ours; and OSError where the system refuses.

    Attributes:
        folder: the folder of results.
        name: of the folder in it; empty for itself.
    """

    folder: Path
    name: str = ""

    @property
    def path(self) -> Path:
        """The path of this folder."""
        return self.folder / self.name

    def names(self) -> list[str]:
        """Return all names in it, sorted; none where it does not exist."""
        try:
            with self._opened() as at:
                return sorted(os.listdir(self.path if at is None else at))
        except FileNotFoundError:
            return []

    def has(self, name: str) -> bool:
        """Tell whether there is a plain file of that name."""
        try:
            with self._opened() as at:
                return self._is_there(name, at)
        except FileNotFoundError:
            return False

    def read(self, name: str, longest: int | None = None) -> bytes | None:
        """Return a file's bytes; None where there is no such file, or it is longer than ``longest`` bytes."""
        try:
            with self._opened() as at:
                if not self._is_there(name, at):
                    return None
                descriptor = self._open(name, os.O_RDONLY | _AT_ONCE, at)
        except FileNotFoundError:
            return None
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise self._refused(name)
            return None if longest is not None and status.st_size > longest else file.read()

    def read_verified(self, name: str, file: FileRecord) -> bytes | None:
        """Return a file's bytes; None where they are not as they were written."""
        try:
            data = self.read(name, file.size)
        except OSError:
            return None
        return data if data is not None and file_record(data, file.count) == file else None

    def write(self, name: str, data: bytes) -> None:
        """Write a file: when this returns, it is there whole and safe on the disk; if it raises, it is as it was."""
        partial = partial_name(name)
        with self._opened() as at:
            self._is_there(name, at)
            if self._is_there(partial, at):  # of a writer that died; the lock keeps others off it
                os.unlink(self._named(partial, at), dir_fd=at)
            try:
                descriptor = self._open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, at)
                try:
                    rest = memoryview(data)
                    while rest:
                        rest = rest[os.write(descriptor, rest) :]
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
                os.replace(self._named(partial, at), self._named(name, at), src_dir_fd=at, dst_dir_fd=at)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(self._named(partial, at), dir_fd=at)
                raise
            if at is not None:
                os.fsync(at)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with contextlib.suppress(FileNotFoundError), self._opened() as at:
            if self._is_there(name, at):
                os.unlink(self._named(name, at), dir_fd=at)

    def make(self) -> bool:
        """Make this folder within its folder; return whether it was missing."""
        with dataclasses.replace(self, name="")._opened() as at:
            try:
                os.mkdir(self._named(self.name, at, self.folder), dir_fd=at)
            except FileExistsError:
                made = False
            else:
                made = True
            if made and at is not None:
                os.fsync(at)
        with self._opened():
            return made

    def open_lock(self, name: str) -> int:
        """Return a descriptor of a file to lock, made if it is missing; nothing is written to it."""
        with self._opened() as at:
            self._is_there(name, at)
            return self._open(name, os.O_RDWR | os.O_CREAT | _AT_ONCE, at)

    def is_file(self, name: str, descriptor: int) -> bool:
        """Tell whether a name still is that of an open file."""
        try:
            with self._opened() as at:
                there = os.stat(self._named(name, at), dir_fd=at, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(there, os.fstat(descriptor))

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int | None]:
        """The folder's descriptor, or None where files cannot be named from one."""
        if not _FROM_FOLDER:
            if os.path.islink(self.path):
                raise self._refused_folder()
            yield None
            return
        with contextlib.ExitStack() as stack:
            at = None
            for part in (self.folder, *filter(None, [self.name])):
                try:
                    at = os.open(part, _FOLDER, dir_fd=at)
                except OSError as error:
                    if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENOTDIR) and os.path.lexists(self.path):
                        raise self._refused_folder() from None
                    raise
                stack.callback(os.close, at)
            yield at

    def _named(self, name: str, at: int | None, folder: Path | None = None) -> str | Path:
        return name if at is not None else (self.path if folder is None else folder) / name

    def _open(self, name: str, flags: int, at: int | None) -> int:
        try:
            return os.open(self._named(name, at), flags | _PLAIN, 0o666, dir_fd=at)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENXIO):
                raise self._refused(name) from None
            raise

    def _is_there(self, name: str, at: int | None) -> bool:
        """Whether there is a file of that name, which must be a plain one."""
        try:
            status = os.stat(self._named(name, at), dir_fd=at, follow_symlinks=False)
        except FileNotFoundError:
            return False
        if not stat.S_ISREG(status.st_mode):
            raise self._refused(name)
        return True

    def _refused(self, name: str) -> InputError:
        path = self.path / name
        what = "a link" if path.is_symlink() else "no plain file"
        return InputError(
            f"{unquoted(path)} is {what}, where a file of jaxalloc's must be; move it away, or choose another folder"
        )

    def _refused_folder(self) -> InputError:
        what = "a link" if self.path.is_symlink() else "no folder"
        return InputError(
            f"{unquoted(self.path)} is {what}, where a folder of jaxalloc's must be; move it away, or choose another "
            "folder"
        )
