"""A folder's manifest, whatever has become of the file: read, read from its copy, or put together from the chunks."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.paths import real_path
from jaxalloc.arguments.words import reason, unquoted
from jaxalloc.storage.manifest import DamagedManifestError, Manifest
from jaxalloc.storage.marks import Mark, is_whole, read_mark
from jaxalloc.storage.names import CHUNKS, COPY, MANIFEST, RESULTS, STATE, file_name, number_of
from jaxalloc.storage.parquet import UnreadableError
from jaxalloc.storage.place import FileRecord, Place, file_record
from jaxalloc.storage.schema import from_json

_LONGEST = 2**28  # bytes of a manifest: more than a million chunks have


def read_manifest(folder: str | os.PathLike[str]) -> Manifest | None:
    """Return a folder's manifest; None if it has none, because it holds no study.

    Where ``manifest.json`` is lost or damaged, the manifest is that of its copy, with the chunks and the state that
    were finished since; and where both are, it is put together from the chunks and the state.

    Raises:
        InputError: it cannot be read, nor replaced; it is in another format, or a field is not as this package writes
            it.
    """
    return manifest_of(real_path(folder))


def manifest_of(folder: Path) -> Manifest | None:
    """Return the manifest of a folder that must not be a link itself, as `read_manifest` does."""
    try:
        os.stat(folder)
        return _manifest_of(folder) if os.path.isdir(folder) else None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputError(f"{unquoted(folder)}: cannot be read ({reason(error)})") from None


def _manifest_of(folder: Path) -> Manifest | None:
    top, name = Place(folder), unquoted(folder)
    damaged: DamagedManifestError | None = None
    for file in (MANIFEST, COPY):
        data = _read(top, file)
        if data is None:
            continue
        try:
            manifest = Manifest.from_bytes(data, name, file)
        except DamagedManifestError as error:
            damaged = damaged or error
            continue
        if file == MANIFEST:
            return manifest
        found = find(folder, manifest.identity.__eq__, {CHUNKS: manifest.chunks})
        state = manifest.state
        if found.state is not None and (state is None or found.state.count > state.count):
            state = found.state
        chunks = dict(sorted((found.chunks | dict(manifest.chunks)).items()))
        return dataclasses.replace(manifest, chunks=chunks, state=state)
    rebuilt = _rebuilt(folder)
    if rebuilt is None and damaged is not None:
        raise damaged
    return rebuilt


class Found(NamedTuple):
    """Chunks and a state that are whole, and say which study they belong to.

    Attributes:
        identities: of their studies, each once.
        chunks: by number, ascending.
        state: that which covers most chunks.
    """

    identities: list[dict[str, Any]]
    chunks: dict[int, FileRecord]
    state: FileRecord | None


def find(
    folder: Path,
    wanted: Callable[[dict[str, Any]], bool] = lambda identity: True,
    skip: Mapping[str, Collection[int]] = MappingProxyType({}),
) -> Found:
    """Find the chunks and the state of a study by their marks.

    Args:
        folder: of the study.
        wanted: tells whether an identity is the study's.
        skip: numbers of files that are not looked at, by the folder that they are in.
    """
    identities: list[dict[str, Any]] = []
    files: dict[str, dict[int, FileRecord]] = {"chunk": {}, "state": {}}
    for place, kind in ((CHUNKS, "chunk"), (STATE, "state")):
        within = Place(folder, place)
        for name in within.names():
            number = number_of(name)
            data = None if number is None or number in skip.get(place, ()) else within.read(name)
            if number is None or data is None:
                continue
            mark, n_rows = _mark(data)
            if mark is None or (mark.kind, mark.number) != (kind, number) or not wanted(mark.identity):
                continue
            if is_whole(data, mark):
                files[kind][number] = file_record(data, n_rows if kind == "chunk" else number)
                identities += [] if mark.identity in identities else [mark.identity]
    newest = max(files["state"], default=None)
    return Found(
        identities=identities,
        chunks=dict(sorted(files["chunk"].items())),
        state=None if newest is None else files["state"][newest],
    )


def belongs(folder: Path, place: str, number: int, file: FileRecord, identity: dict[str, Any]) -> bool:
    """Tell whether a chunk or a state is as it was written, and the one of this study that the manifest says."""
    data = Place(folder, place).read_verified(file_name(number), file)
    return data is not None and is_of(data, place, number, file, identity)


def is_of(data: bytes, place: str, number: int, file: FileRecord, identity: dict[str, Any]) -> bool:
    """Tell whether the bytes of a chunk or a state are those of this study, by its mark and its rows."""
    try:
        mark, n_rows = read_mark(data)
    except UnreadableError:
        return False
    kind = "chunk" if place == CHUNKS else "state"
    same = mark is None or (mark.kind, mark.number, mark.identity) == (kind, number, identity)
    return same and file.count == (n_rows if kind == "chunk" else number)


def _rebuilt(folder: Path) -> Manifest | None:
    """A manifest of what is there without one, if chunks or a state say whose they are."""
    found = find(folder)
    if len(found.identities) != 1:
        return None
    identity = found.identities[0]
    top = Place(folder)
    # the record is written last, and repeats the identity: then all files of results are the study's
    records = [_record(top, name) for name in sorted(RESULTS) if name.endswith(".json") and top.has(name)]
    ours = any(isinstance(entry, dict) and identity.items() <= entry.items() for entry in records)
    results = dict.fromkeys([name for name in sorted(RESULTS) if top.has(name)]) if ours else {}
    return Manifest(identity=identity, chunks=found.chunks, state=found.state, results=results)


def _record(top: Place, name: str) -> Any:
    try:
        return from_json(top.read(name, _LONGEST) or b"")
    except (OSError, ValueError):
        return None


def _mark(data: bytes) -> tuple[Mark | None, int]:
    try:
        return read_mark(data)
    except UnreadableError:
        return None, 0


def _read(top: Place, name: str) -> bytes | None:
    """A manifest's bytes; None where there is none."""
    try:
        return top.read(name, _LONGEST)
    except NotADirectoryError:
        return None
    except OSError as error:
        raise InputError(f"{unquoted(top.path / name)}: cannot be read ({reason(error)})") from None
