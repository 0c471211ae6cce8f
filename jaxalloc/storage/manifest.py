"""A study's manifest: what the study is made from, and the size and checksum of every file that is finished."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import reason, unquoted

MANIFEST, LOCK, CHUNKS, STATE = "manifest.json", "lock", "chunks", "state"
FORMAT, VERSION = "jaxalloc study", 1


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


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a study's folder holds.

    Attributes:
        identity: what the study is made from and with, plain JSON values.
        chunks: the finished chunks by number, ascending.
        state: the running summary, if there is one.
        results: the files of results by name; None for a file that is being written or was found damaged.
        finished: whether everything has been written.
    """

    identity: dict[str, Any]
    chunks: Mapping[int, FileRecord] = dataclasses.field(default_factory=dict)
    state: FileRecord | None = None
    results: Mapping[str, FileRecord | None] = dataclasses.field(default_factory=dict)
    finished: bool = False

    def to_bytes(self) -> bytes:
        """Return the content of ``manifest.json``."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "identity": self.identity,
            "finished": self.finished,
            "state": self.state and vars(self.state),
            "results": {name: file and vars(file) for name, file in self.results.items()},
            "chunks": {str(number): vars(file) for number, file in self.chunks.items()},
        }
        return (json.dumps(content | {"sha256": _checksum(content)}, indent=1) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes, folder: str) -> Manifest:
        """Return the manifest that `to_bytes` wrote; ``folder`` is the folder's name in messages.

        Raises:
            InputError: it is damaged, another program's, or in another format.
        """
        content = None
        with contextlib.suppress(ValueError):
            content = json.loads(data)
        if isinstance(content, dict) and content.get("format") == FORMAT and content.get("version") != VERSION:
            raise InputError(
                f"{folder} is a study in format {unquoted(content.get('version'))}, and this version of jaxalloc "
                f"reads format {VERSION}: use the version that wrote it, or another folder"
            )
        damaged = f"{folder}: its {MANIFEST} is damaged, or another program's; choose another folder, or delete it"
        if not isinstance(content, dict) or content.pop("sha256", None) != _checksum(content):
            raise InputError(damaged)
        try:
            return cls(
                identity=dict(content["identity"]),
                chunks={int(number): FileRecord(**file) for number, file in content["chunks"].items()},
                state=content["state"] and FileRecord(**content["state"]),
                results={name: file and FileRecord(**file) for name, file in content["results"].items()},
                finished=content["finished"],
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            raise InputError(damaged) from None


def read_manifest(folder: str | os.PathLike[str]) -> Manifest | None:
    """Return a folder's manifest; None if it has none, because it holds no study.

    Raises:
        InputError: it is damaged, another program's, in another format, or cannot be read.
    """
    path = Path(folder) / MANIFEST
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputError(f"{unquoted(path)}: cannot be read ({reason(error)})") from None
    return Manifest.from_bytes(data, unquoted(folder))


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


# ---- files ----------------------------------------------------------------------------------------------------------


def file_name(number: int) -> str:
    """Return the name of the file of a chunk, or of the state after that many chunks."""
    return f"{number:06d}.parquet"


def file_record(data: bytes, count: int = 0) -> FileRecord:
    """Return the record of a file with these bytes."""
    return FileRecord(count=count, size=len(data), sha256=hashlib.sha256(data).hexdigest())


def measured(path: Path, count: int = 0) -> FileRecord:
    """Return the `file_record` of a file without reading all of it into memory."""
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        return FileRecord(count=count, size=size, sha256=hashlib.file_digest(stream, "sha256").hexdigest())


def matches(path: Path, file: FileRecord) -> bool:
    """Tell whether a file is as it was written."""
    try:
        return path.stat().st_size == file.size and measured(path, file.count) == file
    except OSError:
        return False


def read_verified(path: Path, file: FileRecord) -> bytes | None:
    """Return a file's bytes; None if they are not as they were written."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    return data if file_record(data, file.count) == file else None
