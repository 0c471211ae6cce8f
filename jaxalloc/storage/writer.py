"""The folder of a long-running study: whatever stops the run, the chunks that it had finished are found again.

The folder holds

- ``manifest.json``: what the study is made from and with (its identity), the size and SHA-256 of every finished file,
  whether the study is finished, and a SHA-256 of the manifest itself;
- ``manifest-copy.json``: the same, but for chunks and states that were finished since results were last written;
- ``chunks/000000.parquet`` ...: one table per finished chunk;
- ``state/000123.parquet``: the running summary after 123 chunks, one row per array; only the newest is kept;
- ``lock``: the writer's lock. There is one writer at a time, and the lock ends with its process;
- files of results, by the names of `jaxalloc.storage.names`.

A file is written under a temporary name (``.NAME.jaxalloc.partial``), synced to disk and renamed; then its folder is
synced. Only then does the manifest, which is written in the same way, name it. So a file that the manifest names was
complete when it was named, and later damage shows in the checksum. Chunks and states are marked with the identity of
their study (`jaxalloc.storage.marks`): one that the manifest does not name counts if it is whole, and a manifest that
is lost is put together again (`jaxalloc.storage.recovery`).

No file but these is read, written or removed, and none of them through a link (`jaxalloc.storage.place`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.paths import as_path, no_folder, real_path
from jaxalloc.arguments.words import reason, unquoted
from jaxalloc.storage.identity import check_identity
from jaxalloc.storage.lock import FolderLock
from jaxalloc.storage.manifest import Manifest
from jaxalloc.storage.marks import marked
from jaxalloc.storage.names import CHUNKS, COPY, LOCK, MANIFEST, RESULTS, STATE, file_name
from jaxalloc.storage.opening import check_folder, discard_empty, discard_unnamed, make_and_lock, prepare
from jaxalloc.storage.parquet import arrays_to_table, to_parquet
from jaxalloc.storage.place import Place, file_record
from jaxalloc.storage.reader import StoredStudy

if TYPE_CHECKING:
    import pyarrow as pa


class Store:
    """A study's folder, open to write: a context manager that holds the folder's lock. `Store.open` makes it.

    Any method may be interrupted at any point, and the folder stays valid. `write_chunk` may be called from one thread
    while another reads `done`.

    Attributes:
        folder: its path, with symbolic links resolved.
        damaged: the finished chunks whose files were missing or changed when the folder was opened; they are to be done
            again. A state that covers them is still valid.
    """

    def __init__(self, folder: Path, manifest: Manifest, damaged: tuple[int, ...], lock: FolderLock) -> None:
        """Take over a folder that `open` has prepared and locked."""
        self.folder = folder
        self.damaged = damaged
        self._manifest = manifest
        self._lock: FolderLock | None = lock
        self._guard = threading.RLock()

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        identity: dict[str, Any],
        *,
        resume: bool = False,
        fresh: bool = False,
        inside: bool = False,
    ) -> Store:
        """Open a folder to write, and lock it.

        Args:
            folder: a new or empty folder (its parents are made too); with ``resume`` or ``fresh`` it may hold a study.
            identity: what the study is made from and with: plain JSON values, which may be nested.
            resume: go on with the study that is there, if there is one; its identity must be the same.
            fresh: first remove the files of the study that is there, if there is one, and no other files.
            inside: whether it lies in a folder of ours, where it must be no link; else links are followed.

        Raises:
            InputError: the folder cannot be used, another process writes to it, or its study has another identity.
        """
        if resume and fresh:
            raise InputError("resume=True goes on and fresh=True starts again: choose one of them")
        identity = json.loads(json.dumps(identity, allow_nan=False))
        target = as_path(folder) if inside else real_path(folder)
        with contextlib.ExitStack() as undo:
            try:
                check_folder(target, resume or fresh)  # before anything is touched ...
                lock = make_and_lock(target, undo)
                manifest = check_folder(target, resume or fresh)  # ... and once nobody else can write
                if manifest is not None and resume:
                    check_identity(manifest.identity, identity, unquoted(target))
                for name in (CHUNKS, STATE):
                    if Place(target, name).make():
                        undo.callback(discard_empty, target / name)
                manifest, damaged = prepare(target, manifest, identity, fresh)
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
        with self._guard:
            if number < 0 or number in self._manifest.chunks:
                raise ValueError(f"chunk {number} is finished already, or no chunk's number")
            data = to_parquet(marked(table, "chunk", number, self._manifest.identity))
            self._put(Place(self.folder, CHUNKS), file_name(number), data)
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
        table, place = arrays_to_table(arrays), Place(self.folder, STATE)
        with self._guard:
            table = marked(table, "state", n_chunks, self._manifest.identity)
            data = to_parquet(table, use_dictionary=False, write_statistics=False)
            self._put(place, file_name(n_chunks), data)
            self._enter(state=file_record(data, n_chunks))
            with contextlib.suppress(OSError):  # what is left is removed when the folder is opened again
                discard_unnamed(place, {file_name(n_chunks)})

    def load_state(self) -> tuple[int, dict[str, np.ndarray]] | None:
        """Return the newest state, as `StoredStudy.state` reads it."""
        return self.stored.state()

    def write_result(self, name: str, data: bytes) -> None:
        """Write a file of results; a file of that name that the study wrote before is replaced.

        Args:
            name: one of the names of results, a file of the folder.
            data: its bytes.

        Raises:
            InputError: there is a file of that name that the study did not write.
            OSError: it could not be written; what was finished before is kept.
        """
        if name not in RESULTS:
            raise ValueError(f"{name!r} is no name for a result")
        top, file = Place(self.folder), file_record(data)
        with self._guard:
            if self._manifest.results.get(name) == file and top.read_verified(name, file) is not None:
                return  # a study that is resumed when all was done writes the same again
            if name not in self._manifest.results:
                if top.has(name):
                    path = unquoted(top.path / name)
                    raise InputError(f"{path} is not the study's; nothing is overwritten: move it away")
                # from now on the file is the study's own: whatever happens next, it may be replaced or removed
                self._enter(results={**self._manifest.results, name: None})
            self._put(top, name, data)
            self._enter(results={**self._manifest.results, name: file})

    def finish(self) -> None:
        """Mark the study as finished."""
        with self._guard:
            self._enter(finished=True)

    def remove(self) -> None:
        """Remove the study's files, and its folders if they hold no others; and close the store."""
        with self._guard:
            lock, self._lock = self._lock, None
            if lock is None:
                return
            with contextlib.ExitStack() as stack:
                stack.callback(lock.release)  # last: until then nobody else writes here
                top = Place(self.folder)
                for name in self._manifest.results:
                    top.remove(name)
                # chunks and states tell of a study, so that they go before the manifests that name them
                for place in (Place(self.folder, CHUNKS), Place(self.folder, STATE)):
                    discard_unnamed(place, set())
                    discard_empty(place.path)
                for name in (MANIFEST, COPY):
                    top.remove(name)
                with contextlib.suppress(PermissionError):  # Windows keeps a file that is open
                    top.remove(LOCK)
                discard_empty(self.folder)

    def _enter(self, **changes: Any) -> None:
        """Change the manifest, first on the disk and then here."""
        manifest = dataclasses.replace(self._manifest, **changes)
        data, top = manifest.to_bytes(), Place(self.folder)
        self._put(top, MANIFEST, data)
        if not changes.keys() <= {"chunks", "state"}:  # which are found by their marks
            self._put(top, COPY, data)
        self._manifest = manifest

    def _put(self, place: Place, name: str, data: bytes) -> None:
        if self._lock is None:
            raise ValueError(f"{self.folder} is closed")
        try:
            place.write(name, data)
        except OSError as error:
            n = len(self._manifest.chunks)
            failure = OSError(
                f"{unquoted(place.path / name)}: could not be written ({reason(error)}); all finished chunks ({n}) are "
                "kept: correct that, then run the study again with resume=True"
            )
            failure.errno = error.errno
            raise failure from error
