"""A study's manifest: what the study is made from, and the size and checksum of every file that is finished."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import unquoted
from jaxalloc.storage.names import COPY, MANIFEST, MOST_CHUNKS, RESULTS
from jaxalloc.storage.place import FileRecord
from jaxalloc.storage.schema import (
    SHA256,
    TRUTH,
    MisfitError,
    anything,
    entries,
    fields,
    from_json,
    one_of,
    or_null,
    whole,
)

FORMAT, VERSION = "jaxalloc study", 1

_FILE = fields({"count": whole(0, MOST_CHUNKS), "size": whole(), "sha256": SHA256})
_CHECK = fields(
    {
        "format": one_of(FORMAT),
        "version": one_of(VERSION),
        "identity": entries(anything),
        "finished": TRUTH,
        "state": or_null(_FILE),
        "results": entries(or_null(_FILE), RESULTS.__contains__, "a file of results"),
        "chunks": entries(_FILE, lambda name: name in map(str, _numbers(name)), "a chunk"),
    }
)


class DamagedManifestError(InputError):
    """A manifest is not as it was written, or another program's."""


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
    def from_bytes(cls, data: bytes, folder: str, name: str = MANIFEST) -> Manifest:
        """Return the manifest that `to_bytes` wrote.

        Args:
            data: of the file.
            folder: the folder, as messages show it.
            name: of the file.

        Raises:
            DamagedManifestError: its checksum does not fit, or it is another program's.
            InputError: its checksum fits, but it is in another format, or a field is not as this package writes it.
        """
        content = None
        with contextlib.suppress(ValueError):
            content = from_json(data)
        damaged = f"{folder}: its {name} is damaged, or another program's; choose another folder, or delete it"
        if not isinstance(content, dict):
            raise DamagedManifestError(damaged)
        fits = content.pop("sha256", None) == _checksum(content)
        if content.get("format") == FORMAT and content.get("version") != VERSION:
            raise (InputError if fits else DamagedManifestError)(
                f"{folder} is a study in format {unquoted(content.get('version'))}, and this version of jaxalloc "
                f"reads format {VERSION}: use the version that wrote it, or another folder"
            )
        if not fits:
            raise DamagedManifestError(damaged)
        try:
            _CHECK(content, "")
        except MisfitError as misfit:
            raise unfit(folder, name, misfit) from None
        chunks = {int(number): FileRecord(**file) for number, file in content["chunks"].items()}
        return cls(
            identity=content["identity"],
            chunks=dict(sorted(chunks.items())),
            state=content["state"] and FileRecord(**content["state"]),
            results={name: file and FileRecord(**file) for name, file in content["results"].items()},
            finished=content["finished"],
        )


def unfit(folder: str, name: str, misfit: MisfitError) -> InputError:
    """Return the error to raise where a field of a file is not as this package writes it."""
    if name in (MANIFEST, COPY):
        other = COPY if name == MANIFEST else MANIFEST
        remedy = f"undo the edit, delete {name} to go by {other}, or choose another folder"
    else:
        remedy = "run the study again with fresh=True, or choose another folder"
    return InputError(f"{folder}: its {name} is not as jaxalloc writes it: {misfit}; {remedy}")


def _numbers(text: str) -> list[int]:
    """The number of a chunk that a text is, if it is one."""
    digits = text.isascii() and text.isdigit() and len(text) <= len(str(MOST_CHUNKS))
    return [int(text)] if digits and int(text) < MOST_CHUNKS else []


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
