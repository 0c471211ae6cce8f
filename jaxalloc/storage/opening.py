"""A folder of results, opened to write: it is made and locked, its files are verified, and leftovers are removed."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.paths import sync_folder
from jaxalloc.arguments.words import unquoted
from jaxalloc.storage.lock import FolderLock
from jaxalloc.storage.manifest import Manifest
from jaxalloc.storage.names import CHUNKS, COPY, LOCK, MANIFEST, STATE, file_name, is_partial, number_of
from jaxalloc.storage.place import FileRecord, Place
from jaxalloc.storage.recovery import belongs, find, manifest_of

_ATTEMPTS = 100  # to make a folder that others remove meanwhile


def check_folder(folder: Path, may_be_store: bool) -> Manifest | None:
    """The manifest of the study in a folder, None if there is none; raise if the folder cannot be used."""
    name = unquoted(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{name} is a file; nothing is overwritten: choose another folder, or delete it")
    _check_kinds(folder)
    is_blank = not folder.exists() or _is_blank(folder)  # first, since another process may be about to begin a study
    manifest = manifest_of(folder)
    for result in () if manifest is None else manifest.results:
        Place(folder).has(result)  # refuses what is no plain file, before any of them is removed
    if manifest is not None and not may_be_store:
        state = "a finished" if manifest.finished else "an unfinished"
        raise InputError(
            f"{name} holds {state} study: go on with it with resume=True, replace it with fresh=True, "
            "or choose another folder"
        )
    if manifest is None and not is_blank:
        raise InputError(
            f"{name} is a folder with files in it; nothing is overwritten: choose another folder, or delete it"
        )
    return manifest


def _check_kinds(folder: Path) -> None:
    """Raise where there is a link, or anything else, in place of a file or a folder of ours."""
    if not folder.exists():
        return
    top = Place(folder)
    for name in top.names():
        if name in (MANIFEST, COPY, LOCK) or is_partial(name):
            top.has(name)
        elif name in (CHUNKS, STATE):
            within = Place(folder, name)
            for inner in within.names():
                if number_of(inner) is not None or is_partial(inner):
                    within.has(inner)


def _is_blank(folder: Path) -> bool:
    """Whether the folder is empty, or holds only what a writer leaves if it is killed before its first manifest."""
    for name in Place(folder).names():
        if name in (CHUNKS, STATE):
            if not all(map(is_partial, Place(folder, name).names())):
                return False
        elif name != LOCK and not is_partial(name):
            return False
    return True


def make_and_lock(folder: Path, undo: contextlib.ExitStack) -> FolderLock:
    """Make the folder and its parents where they are missing, and lock it; ``undo`` takes back what is done here alone.

    Several processes may do so at once. A folder that is found belongs to whoever made it, and a folder that holds a
    lock is not empty: so none that another process has locked is removed.
    """
    for attempt in range(_ATTEMPTS):
        try:
            for path in (*reversed(folder.parents), folder):
                if path.exists():
                    continue
                with contextlib.suppress(FileExistsError):
                    path.mkdir()
                    undo.callback(discard_empty, path)
                    sync_folder(path.parent)
            lock = FolderLock.acquire(Place(folder))
        except FileNotFoundError:  # another process took back what it had made
            if attempt == _ATTEMPTS - 1:
                raise
        else:
            undo.callback(lock.release)
            return lock
    raise AssertionError("unreachable")


def prepare(
    folder: Path, manifest: Manifest | None, identity: dict[str, Any], fresh: bool
) -> tuple[Manifest, tuple[int, ...]]:
    """Verify the folder's files and remove leftovers; return the manifest, and which chunks were damaged."""
    top = Place(folder)
    if manifest is None or fresh:
        for name in () if manifest is None else manifest.results:
            top.remove(name)
        current, damaged = Manifest(identity), ()
    else:
        current = _verified(folder, manifest)
        damaged = tuple(number for number in manifest.chunks if number not in current.chunks)
    data = current.to_bytes()
    for name in (MANIFEST, COPY):
        if top.read(name, len(data)) != data:
            top.write(name, data)
    # these files are removed only now that no manifest on the disk names them
    discard_unnamed(Place(folder, CHUNKS), {file_name(number) for number in current.chunks})
    discard_unnamed(Place(folder, STATE), set() if current.state is None else {file_name(current.state.count)})
    for name in filter(is_partial, top.names()):
        top.remove(name)
    return current, damaged


def _verified(folder: Path, manifest: Manifest) -> Manifest:
    """The manifest of the files that are as they were written, with those that it does not name but that are whole."""
    top, identity = Place(folder), manifest.identity
    named = {n: file for n, file in manifest.chunks.items() if belongs(folder, CHUNKS, n, file, identity)}
    state: FileRecord | None = manifest.state
    whole_state = state is not None and belongs(folder, STATE, state.count, state, identity)
    results = {
        name: file if file is not None and top.read_verified(name, file) is not None else None
        for name, file in manifest.results.items()
    }
    found = find(folder, identity.__eq__, {CHUNKS: manifest.chunks, STATE: () if state is None else (state.count,)})
    chunks = dict(sorted((found.chunks | named).items()))
    state = state if whole_state else found.state or state
    intact = named.keys() == manifest.chunks.keys() and None not in results.values()
    return dataclasses.replace(
        manifest, chunks=chunks, state=state, results=results, finished=manifest.finished and intact
    )


def discard_unnamed(place: Place, names: set[str]) -> None:
    """Remove partial files, and numbered files whose names are not among ``names``."""
    for name in place.names():
        if is_partial(name) or (number_of(name) is not None and name not in names):
            place.remove(name)


def discard_empty(folder: Path) -> None:
    """Remove a folder if it is empty."""
    with contextlib.suppress(OSError):
        folder.rmdir()
