"""The folder of a long-running study: whatever stops the run, what it had finished is there and is found again.

A store's folder holds

- ``manifest.json``: what the study is made from and with (its identity), the size and SHA-256 of every finished file,
  whether the study is finished, and a SHA-256 of all that;
- ``chunks/000000.parquet`` ...: one table per finished chunk;
- ``state/000123.parquet``: the running summary after 123 chunks, one row per array; the newest only;
- ``lock``: the writer's lock. There is one writer at a time, and the lock dies with its process;
- files of results, as the caller names them.

A file is written under a temporary name (``.NAME.jaxalloc.partial``), synced to disk and renamed; then its folder is
synced; only then does the manifest, written in the same way, name it. So a file that the manifest names was whole when
it was named, a file that it does not name counts for nothing, and damage done later shows in the checksum.
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
    """A study's folder, open to write: a context manager that holds the folder's lock; made by `Store.open`.

    Any method may be interrupted anywhere: the folder stays valid. `write_chunk` may be called from one thread while
    another reads `done`.

    Attributes:
        folder: where it is, symbolic links resolved.
        damaged: the chunks that had been finished but whose files were missing or changed when the store was opened;
            they are to be done again. A state that covers them is as good as it was.
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
            folder: a new or empty folder (its parents are made), or with ``resume`` or ``fresh`` a store's.
            identity: what the study is made from and with: plain JSON values, in dictionaries at will.
            resume: go on with the store that is there, if there is one; the identity must be the same.
            fresh: remove what the store that is there has written, if there is one, and nothing else; then start.

        Raises:
            InputError: the folder is at fault, another process is writing to it, or it has another identity.
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
        """Let go of the lock; waits for a write that is going on in another thread."""
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
        """Everything has been written."""
        return self._manifest.finished

    @property
    def stored(self) -> StoredStudy:
        """What has been written up to now, to read from."""
        return StoredStudy(self.folder, self._manifest)

    def write_chunk(self, number: int, table: pa.Table) -> None:
        """Write a chunk's table; when this returns, the chunk is finished.

        Raises:
            OSError: it could not be written; what was finished is kept.
            ValueError: it is finished already.
        """
        data = to_parquet(table)
        with self._guard:
            if number < 0 or number in self._manifest.chunks:
                raise ValueError(f"chunk {number} is finished already, or no chunk's number")
            self._put(self.folder / CHUNKS / file_name(number), lambda partial: partial.write_bytes(data))
            chunks = {**self._manifest.chunks, number: file_record(data, table.num_rows)}
            self._enter(chunks=dict(sorted(chunks.items())))

    def save_state(self, n_chunks: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Write the running summary after ``n_chunks`` chunks, in place of the one before.

        Args:
            n_chunks: how many chunks it covers.
            arrays: of truth values, whole or real numbers, any shape; they come back bit for bit.

        Raises:
            OSError: it could not be written; the one before is kept.
        """
        data = to_parquet(arrays_to_table(arrays), use_dictionary=False, write_statistics=False)
        file = file_record(data, n_chunks)
        path = self.folder / STATE / file_name(n_chunks)
        with self._guard:
            self._put(path, lambda partial: partial.write_bytes(data))
            self._enter(state=file)
            with contextlib.suppress(OSError):  # what remains is removed when the store is opened again
                _discard_unnamed(path.parent, {path.name})

    def load_state(self) -> tuple[int, dict[str, np.ndarray]] | None:
        """Return the newest state, as `StoredStudy.state` reads it."""
        return self.stored.state()

    def write_result(self, name: str, write: Callable[[Path], object]) -> None:
        """Write a file of results, in place of the store's own one of that name if there is one.

        Args:
            name: of the file in the store's folder.
            write: writes it to the path that it is given, a temporary one.

        Raises:
            InputError: there is a file of that name that is not the store's.
            OSError: it could not be written; what was finished is kept.
        """
        if not name or Path(name).name != name or name.startswith(".") or name in (MANIFEST, LOCK, CHUNKS, STATE):
            raise ValueError(f"{name!r} is no name for a result")
        path = self.folder / name
        with self._guard:
            if name not in self._manifest.results:
                if os.path.lexists(path):
                    raise InputError(f"{unquoted(path)} is not the study's; nothing is overwritten: move it away")
                # its own from now on, so that whatever happens next, it can be written again, or removed
                self._enter(results={**self._manifest.results, name: None})
            self._put(path, write)
            self._enter(results={**self._manifest.results, name: measured(path)})

    def finish(self) -> None:
        """Mark the study as finished."""
        with self._guard:
            self._enter(finished=True)

    def _enter(self, **changes: Any) -> None:
        """Change the manifest, on the disk first."""
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
                "mend that, then run the study again with resume=True"
            )
            failure.errno = error.errno
            raise failure from error


# ---- opening --------------------------------------------------------------------------------------------------------


def _check_folder(folder: Path, may_be_store: bool) -> Manifest | None:
    """The manifest of the store that is there; None if there is none yet."""
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
    """Whether the folder holds at most what a writer leaves that is killed before its first manifest."""
    for path in folder.iterdir():
        if path.is_dir():
            if path.name not in (CHUNKS, STATE) or not all(_is_partial(inner) for inner in path.iterdir()):
                return False
        elif path.name != LOCK and not _is_partial(path):
            return False
    return True


def _missing_folders(folder: Path) -> list[Path]:
    """The folders to make, from the outermost inwards."""
    return [path for path in (*reversed(folder.parents), folder, folder / CHUNKS, folder / STATE) if not path.exists()]


def _acquire(path: Path, name: str) -> BaseFileLock:
    """The lock, held."""
    from filelock import FileLock, Timeout

    lock = FileLock(path, thread_local=False)  # it may be let go of in another thread
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
    """Make the folder a store, verified and without leftovers: its manifest, and which chunks were damaged."""
    if manifest is None or fresh:
        for name in () if manifest is None else manifest.results:
            (folder / name).unlink(missing_ok=True)
        found = Manifest(identity)
    else:
        files = {n: file for n, file in manifest.chunks.items() if matches(folder / CHUNKS / file_name(n), file)}
        results = {
            name: file and (file if matches(folder / name, file) else None) for name, file in manifest.results.items()
        }
        whole = len(files) == len(manifest.chunks) and None not in results.values()
        found = dataclasses.replace(manifest, chunks=files, results=results, finished=manifest.finished and whole)
    if found != manifest:
        _write_file(folder / MANIFEST, lambda partial: partial.write_bytes(found.to_bytes()))
    # Only now that the manifest does not name them:
    _discard_unnamed(folder / CHUNKS, {file_name(number) for number in found.chunks})
    _discard_unnamed(folder / STATE, set() if found.state is None else {file_name(found.state.count)})
    for path in filter(_is_partial, list(folder.iterdir())):
        path.unlink()
    damaged = () if manifest is None or fresh else tuple(n for n in manifest.chunks if n not in found.chunks)
    return found, damaged


# ---- files ----------------------------------------------------------------------------------------------------------


def _write_file(path: Path, write: Callable[[Path], object]) -> None:
    """`write_whole` under a temporary name that tells whose it is; the lock sees to it that one process uses it."""
    write_whole(path, write, path.with_name(f".{path.name}{PARTIAL}"))


def _is_partial(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith(PARTIAL)


def _discard_unnamed(folder: Path, names: set[str]) -> None:
    """Remove partial files, and numbered ones but for these."""
    for path in list(folder.iterdir()):
        if _is_partial(path) or (_NUMBERED.fullmatch(path.name) and path.name not in names):
            path.unlink()


def _discard_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()
