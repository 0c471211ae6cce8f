"""The lock on a folder of results: one writer at a time, and the lock ends with its process."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import unquoted
from jaxalloc.storage.names import LOCK
from jaxalloc.storage.place import Place

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None

if TYPE_CHECKING:
    from filelock import BaseFileLock

_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)


class FolderLock:
    """A folder's lock, held."""

    def __init__(self, held: int | BaseFileLock) -> None:
        """Take over a descriptor that is locked, or a lock of filelock."""
        self._held: int | BaseFileLock | None = held

    @classmethod
    def acquire(cls, place: Place) -> FolderLock:
        """Lock a folder.

        Raises:
            InputError: another process has the lock, the file system has no locks, or ``lock`` is no plain file.
            OSError: the folder is not there any more, or cannot be written.
        """
        if fcntl is None:
            return cls(_acquire_elsewhere(place))
        while True:
            descriptor = place.open_lock(LOCK)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # a process that removed the folder's files may have removed the one that is open here
                still_there = place.is_file(LOCK, descriptor)
            except BlockingIOError:
                os.close(descriptor)
                raise _taken(place) from None
            except BaseException as error:
                os.close(descriptor)
                if isinstance(error, OSError) and error.errno in _NO_LOCKS:
                    raise _no_locks(place) from None
                raise
            if still_there:
                return cls(descriptor)
            os.close(descriptor)

    def release(self) -> None:
        """Give the lock back, unless that is done already."""
        held, self._held = self._held, None
        if isinstance(held, int):
            os.close(held)  # which ends the lock
        elif held is not None:
            held.release()


def _acquire_elsewhere(place: Place) -> BaseFileLock:
    from filelock import FileLock, Timeout

    place.has(LOCK)  # refuses what is no plain file
    lock = FileLock(place.path / LOCK, thread_local=False)  # it may be released in another thread
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise _taken(place) from None
    except NotImplementedError:
        raise _no_locks(place) from None
    return lock


def _taken(place: Place) -> InputError:
    return InputError(f"another process is writing to {unquoted(place.path)}; wait for it, or choose another folder")


def _no_locks(place: Place) -> InputError:
    return InputError(
        f"{unquoted(place.path)}: cannot write there (its file system has no locks); choose another folder"
    )
