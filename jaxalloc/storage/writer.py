"""The folder of a long-running study: whatever stops the run, the chunks that it had finished are found again.

The folder holds

- ``manifest.json``: what the study is made from and with (its identity), the size and SHA-256 of every finished file,
  whether the study is finished, and a SHA-256 of the manifest itself;
- ``chunks/000000.parquet`` ...: one table per finished chunk;
- ``state/000123.parquet``: the running summary after 123 chunks, one row per array; only the newest is kept;
- ``lock``: the writer's lock. There is one writer at a time, and the lock ends with its process;
- files of results, which the caller names.

A file is written under a temporary name (``.NAME.jaxalloc.partial``), synced to disk and renamed; then its folder is
synced. Only then does the manifest, which is written in the same way, name it. So a file that the manifest names was
complete when it was named, a file that it does not name does not count, and later damage shows in the checksum.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.paths import no_folder, sync_folder, write_whole
from jaxalloc.arguments.words import reason, unquoted
from jaxalloc.storage.identity import check_identity
from jaxalloc.storage.manifest import (
    CHUNKS,
    LOCK,
    MANIFEST,
    STATE,
    Manifest,
    file_name,
    file_record,
    matches,
    measured,
    read_manifest,
)
from jaxalloc.storage.parquet import arrays_to_table, to_parquet
from jaxalloc.storage.reader import StoredStudy

if TYPE_CHECKING:
    import pyarrow as pa
    from filelock import BaseFileLock

PARTIAL = ".jaxalloc.partial"

_NUMBERED = re.compile(r"\d{6,}\.parquet", re.ASCII)


# ---- writing --------------------------------------------------------------------------------------------------------


class Store:
    """A study's folder, open to write: a context manager that holds the folder's lock. `Store.open` makes it.

    Any method may be interrupted at any point, and the folder stays valid. `write_chunk` may be called from one thread
    while another reads `done`.

    Attributes:
        folder: its path, with symbolic links resolved.
        damaged: the finished chunks whose files were missing or changed when the folder was opened; they are to be done
            again. A state that covers them is still valid.
    """

    def __init__(self, folder: Path, manifest: Manifest, damaged: tuple[int, ...], lock: BaseFileLock) -> None:
        """Take over a folder that `open` has prepared and locked."""
        self.folder = folder
        self.damaged = damaged
        self._manifest = manifest
        self._lock: BaseFileLock | None = lock
        self._guard = threading.RLock()

    @classmethod
    def open(
        cls, folder: str | os.PathLike[str], identity: dict[str, Any], *, resume: bool = False, fresh: bool = False
    ) -> Store:
        """Open a folder to write, and lock it.

        Args:
            folder: a new or empty folder (its parents are made too); with ``resume`` or ``fresh`` it may hold a study.
            identity: what the study is made from and with: plain JSON values, which may be nested.
            resume: go on with the study that is there, if there is one; its identity must be the same.
            fresh: first remove the files of the study that is there, if there is one, and no other files.

        Raises:
            InputError: the folder cannot be used, another process writes to it, or its study has another identity.
        """
        if resume and fresh:
            raise InputError("resume=True goes on and fresh=True starts again: choose one of them")
        identity = json.loads(json.dumps(identity, allow_nan=False))
        target = Path(os.path.realpath(folder))
        name = unquoted(target)
        with contextlib.ExitStack() as undo:
            try:
                _check_folder(target, resume or fresh)  # before anything is touched ...
                for new in _missing_folders(target):
                    new.mkdir(exist_ok=True)
                    undo.callback(_discard_empty, new)
                    sync_folder(new.parent)
                lock = _acquire(target / LOCK, name)
                undo.callback(lock.release)
                manifest = _check_folder(target, resume or fresh)  # ... and once nobody else can write
                if manifest is not None and resume:
                    check_identity(manifest.identity, identity, name)
                manifest, damaged = _prepare(target, manifest, identity, fresh)
            except OSError as error:
                raise no_folder(target, error) from None
            store = cls(target, manifest, damaged, lock)
            undo.pop_all()
        return store

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the lock, once a write that is going on in another thread is done."""
        with self._guard:
            lock, self._lock = self._lock, None
            if lock is not None:
                lock.release()

    @property
    def done(self) -> frozenset[int]:
        """The finished chunks."""
        return frozenset(self._manifest.chunks)

    @property
    def finished(self) -> bool:
        """Whether everything has been written."""
        return self._manifest.finished

    @property
    def stored(self) -> StoredStudy:
        """What has been written so far, to read."""
        return StoredStudy(self.folder, self._manifest)

    def write_chunk(self, number: int, table: pa.Table) -> None:
        """Write a chunk's table; when this returns, the chunk is finished.

        Raises:
            OSError: it could not be written; what was finished before is kept.
            ValueError: it is finished already, or the number is negative.
        """
        data = to_parquet(table)
        with self._guard:
            if number < 0 or number in self._manifest.chunks:
                raise ValueError(f"chunk {number} is finished already, or no chunk's number")
            self._put(self.folder / CHUNKS / file_name(number), lambda partial: partial.write_bytes(data))
            chunks = {**self._manifest.chunks, number: file_record(data, table.num_rows)}
            self._enter(chunks=dict(sorted(chunks.items())))

    def save_state(self, n_chunks: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Write the running summary after ``n_chunks`` chunks, in place of the earlier one.

        Args:
            n_chunks: how many chunks it covers.
            arrays: arrays of truth values, whole or real numbers, of any shape; they are read back bit for bit.

        Raises:
            OSError: it could not be written; the earlier one is kept.
        """
        data = to_parquet(arrays_to_table(arrays), use_dictionary=False, write_statistics=False)
        file = file_record(data, n_chunks)
        path = self.folder / STATE / file_name(n_chunks)
        with self._guard:
            self._put(path, lambda partial: partial.write_bytes(data))
            self._enter(state=file)
            with contextlib.suppress(OSError):  # what is left is removed when the folder is opened again
                _discard_unnamed(path.parent, {path.name})

    def load_state(self) -> tuple[int, dict[str, np.ndarray]] | None:
        """Return the newest state, as `StoredStudy.state` reads it."""
        return self.stored.state()

    def write_result(self, name: str, write: Callable[[Path], object]) -> None:
        """Write a file of results; a file of that name that the study wrote before is replaced.

        Args:
            name: the file's name in the folder.
            write: writes the file to the path that it is given, which is temporary.

        Raises:
            InputError: there is a file of that name that the study did not write.
            OSError: it could not be written; what was finished before is kept.
        """
        if not name or Path(name).name != name or name.startswith(".") or name in (MANIFEST, LOCK, CHUNKS, STATE):
            raise ValueError(f"{name!r} is no name for a result")
        path = self.folder / name
        with self._guard:
            if name not in self._manifest.results:
                if os.path.lexists(path):
                    raise InputError(f"{unquoted(path)} is not the study's; nothing is overwritten: move it away")
                # from now on the file is the study's own: whatever happens next, it may be replaced or removed
                self._enter(results={**self._manifest.results, name: None})
            self._put(path, write)
            self._enter(results={**self._manifest.results, name: measured(path)})

    def finish(self) -> None:
        """Mark the study as finished."""
        with self._guard:
            self._enter(finished=True)

    def _enter(self, **changes: Any) -> None:
        """Change the manifest, first on the disk and then here."""
        manifest = dataclasses.replace(self._manifest, **changes)
        self._put(self.folder / MANIFEST, lambda partial: partial.write_bytes(manifest.to_bytes()))
        self._manifest = manifest

    def _put(self, path: Path, write: Callable[[Path], object]) -> None:
        if self._lock is None:
            raise ValueError(f"{self.folder} is closed")
        try:
            _write_file(path, write)
        except OSError as error:
            n = len(self._manifest.chunks)
            failure = OSError(
                f"{unquoted(path)}: could not be written ({reason(error)}); all finished chunks ({n}) are kept: "
                "correct that, then run the study again with resume=True"
            )
            failure.errno = error.errno
            raise failure from error


# ---- opening --------------------------------------------------------------------------------------------------------


def _check_folder(folder: Path, may_be_store: bool) -> Manifest | None:
    """The manifest of the study in a folder, None if there is none; raise if the folder cannot be used."""
    name = unquoted(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{name} is a file; nothing is overwritten: choose another folder, or delete it")
    manifest = read_manifest(folder)
    if manifest is not None and not may_be_store:
        state = "a finished" if manifest.finished else "an unfinished"
        raise InputError(
            f"{name} holds {state} study: go on with it with resume=True, replace it with fresh=True, "
            "or choose another folder"
        )
    if manifest is None and folder.exists() and not _is_blank(folder):
        raise InputError(
            f"{name} is a folder with files in it; nothing is overwritten: choose another folder, or delete it"
        )
    return manifest


def _is_blank(folder: Path) -> bool:
    """Whether the folder is empty, or holds only what a writer leaves if it is killed before its first manifest."""
    for path in folder.iterdir():
        if path.is_dir():
            if path.name not in (CHUNKS, STATE) or not all(_is_partial(inner) for inner in path.iterdir()):
                return False
        elif path.name != LOCK and not _is_partial(path):
            return False
    return True


def _missing_folders(folder: Path) -> list[Path]:
    """The folders that are missing, from the outermost inwards."""
    return [path for path in (*reversed(folder.parents), folder, folder / CHUNKS, folder / STATE) if not path.exists()]


def _acquire(path: Path, name: str) -> BaseFileLock:
    """The lock, held."""
    from filelock import FileLock, Timeout

    lock = FileLock(path, thread_local=False)  # it may be released in another thread
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise InputError(f"another process is writing to {name}; wait for it, or choose another folder") from None
    except NotImplementedError:
        raise InputError(f"{name}: cannot write there (its file system has no locks); choose another folder") from None
    return lock


def _prepare(
    folder: Path, manifest: Manifest | None, identity: dict[str, Any], fresh: bool
) -> tuple[Manifest, tuple[int, ...]]:
    """Verify the folder's files and remove leftovers; return the manifest, and which chunks were damaged."""
    if manifest is None or fresh:
        for name in () if manifest is None else manifest.results:
            (folder / name).unlink(missing_ok=True)
        current = Manifest(identity)
    else:
        files = {n: file for n, file in manifest.chunks.items() if matches(folder / CHUNKS / file_name(n), file)}
        results = {
            name: file and (file if matches(folder / name, file) else None) for name, file in manifest.results.items()
        }
        whole = len(files) == len(manifest.chunks) and None not in results.values()
        current = dataclasses.replace(manifest, chunks=files, results=results, finished=manifest.finished and whole)
    if current != manifest:
        _write_file(folder / MANIFEST, lambda partial: partial.write_bytes(current.to_bytes()))
    # these files are removed only now that the manifest on the disk does not name them
    _discard_unnamed(folder / CHUNKS, {file_name(number) for number in current.chunks})
    _discard_unnamed(folder / STATE, set() if current.state is None else {file_name(current.state.count)})
    for path in filter(_is_partial, list(folder.iterdir())):
        path.unlink()
    damaged = () if manifest is None or fresh else tuple(n for n in manifest.chunks if n not in current.chunks)
    return current, damaged


# ---- files ----------------------------------------------------------------------------------------------------------


def _write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file whole, under a temporary name that `_is_partial` knows; the lock keeps other processes off it."""
    write_whole(path, write, path.with_name(f".{path.name}{PARTIAL}"))


def _is_partial(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith(PARTIAL)


def _discard_unnamed(folder: Path, names: set[str]) -> None:
    """Remove partial files, and numbered files whose names are not among ``names``."""
    for path in list(folder.iterdir()):
        if _is_partial(path) or (_NUMBERED.fullmatch(path.name) and path.name not in names):
            path.unlink()


def _discard_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()
