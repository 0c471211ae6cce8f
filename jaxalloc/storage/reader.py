"""A study's folder, read: its manifest, its chunks, its running summary, each verified by its checksum."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxalloc.arguments.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

MANIFEST, LOCK, CHUNKS, STATE = "manifest.json", "lock", "chunks", "state"
FORMAT, VERSION = "jaxalloc study", 1
ABSENT = object()  # stands for an entry that is not there


# ---- the manifest ---------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class FileRecord:
    """A finished file.

    Attributes:
        count: the rows of a chunk; the chunks that a state covers; 0 for a result.
        size: bytes.
        sha256: of the bytes, in hexadecimal.
    """

    count: int
    size: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a store knows of itself.

    Attributes:
        identity: what the study is made from and with, plain JSON values.
        chunks: the finished chunks by number, ascending.
        state: the running summary, if there is one.
        results: the files of results by name; None for one that is being written or was found damaged.
        finished: everything has been written.
    """

    identity: dict[str, Any]
    chunks: Mapping[int, FileRecord] = dataclasses.field(default_factory=dict)
    state: FileRecord | None = None
    results: Mapping[str, FileRecord | None] = dataclasses.field(default_factory=dict)
    finished: bool = False

    def to_bytes(self) -> bytes:
        """Return the text of ``manifest.json``."""
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
        """Read the text of the ``manifest.json`` of a folder, whose name is for messages.

        Raises:
            InputError: it is damaged, another program's, or of a newer format.
        """
        content = None
        with contextlib.suppress(ValueError):
            content = json.loads(data)
        if isinstance(content, dict) and content.get("format") == FORMAT and content.get("version") != VERSION:
            raise InputError(
                f"{folder} is a study in format {text_of(content.get('version'))}, and this version of jaxalloc "
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
    """Read a folder's manifest; None if there is none, that is, no store.

    Raises:
        InputError: it is damaged, another program's, of a newer format, or cannot be read.
    """
    path = Path(folder) / MANIFEST
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputError(f"{text_of(str(path))}: cannot be read ({reason(error)})") from None
    return Manifest.from_bytes(data, text_of(str(folder)))


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


# ---- reading --------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class StoredStudy:
    """A store as its manifest had it when it was opened, to read from: without the lock, so even while it grows."""

    folder: Path
    manifest: Manifest

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> StoredStudy:
        """Open a folder to read.

        Raises:
            InputError: there is no store there, or its manifest cannot be read.
        """
        manifest = read_manifest(folder)
        if manifest is None:
            raise InputError(f"{text_of(str(folder))}: no study is stored there, for it has no {MANIFEST}")
        return cls(Path(os.path.realpath(folder)), manifest)

    def chunk(self, number: int, columns: Iterable[str] | None = None) -> pa.Table:
        """Return a finished chunk's table, all of it or these columns in this order, its checksum verified.

        Raises:
            InputError: the chunk is not finished, or damaged.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        name = text_of(str(self.folder))
        if number not in self.manifest.chunks:
            raise InputError(f"chunk {number} of {name} is not finished; run the study again with resume=True to do it")
        data = read_verified(self.folder / CHUNKS / file_name(number), self.manifest.chunks[number])
        if data is None:
            raise InputError(f"chunk {number} of {name} is damaged; run the study again with resume=True to redo it")
        chosen = None if columns is None else list(columns)
        table = pq.ParquetFile(pa.BufferReader(data)).read(columns=chosen)
        return table if chosen is None else table.select(chosen)

    def chunks(self, columns: Iterable[str] | None = None) -> Iterator[tuple[int, pa.Table]]:
        """Yield every finished chunk's number and table, as `chunk` reads it, in the order of the numbers."""
        chosen = None if columns is None else list(columns)
        for number in self.manifest.chunks:
            yield number, self.chunk(number, chosen)

    def state(self) -> tuple[int, dict[str, np.ndarray]] | None:
        """Return the newest state: how many chunks it covers, and its arrays; None if there is none or it is damaged.

        If a writer has replaced it since the store was opened, this is the newer one.
        """
        file = self.manifest.state
        while file is not None:
            data = read_verified(self.folder / STATE / file_name(file.count), file)
            if data is not None:
                return file.count, arrays_from_parquet(data)
            now = read_manifest(self.folder)
            file = None if now is None or now.state == file else now.state
        return None

    def result(self, name: str) -> bytes:
        """Return a result file's bytes, their checksum verified.

        Raises:
            InputError: there is no such result, or it is damaged.
        """
        file = self.manifest.results.get(name)
        data = None if file is None else read_verified(self.folder / name, file)
        if data is None:
            what = f"{text_of(name)} of {text_of(str(self.folder))} is {'not there yet' if file is None else 'damaged'}"
            raise InputError(f"{what}; run the study again with resume=True to write it")
        return data


# ---- files ----------------------------------------------------------------------------------------------------------


def file_name(number: int) -> str:
    """Name the file of a chunk, or of a state after so many."""
    return f"{number:06d}.parquet"


def file_record(data: bytes, count: int = 0) -> FileRecord:
    """Describe a file by its bytes."""
    return FileRecord(count, len(data), hashlib.sha256(data).hexdigest())


def measured(path: Path, count: int = 0) -> FileRecord:
    """What `file_record` says of a file's bytes, without holding them all."""
    with path.open("rb") as stream:
        return FileRecord(count, os.fstat(stream.fileno()).st_size, hashlib.file_digest(stream, "sha256").hexdigest())


def matches(path: Path, file: FileRecord) -> bool:
    """Whether the file is as it was written."""
    try:
        return path.stat().st_size == file.size and measured(path, file.count) == file
    except OSError:
        return False


def read_verified(path: Path, file: FileRecord) -> bytes | None:
    """The file's bytes; None if they are not as they were written."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    return data if file_record(data, file.count) == file else None


def text_of(value: Any) -> str:
    """A value in a message: nothing that could break its single line."""
    if value is ABSENT:
        return "absent"
    text = repr(value)
    return text[1:-1] if isinstance(value, str) and value else text


def reason(error: OSError) -> str:
    """Say why an operation failed, on one line."""
    return error.strerror or text_of(str(error))


# ---- Parquet --------------------------------------------------------------------------------------------------------


def to_parquet(table: pa.Table, **options: Any) -> bytes:
    """The table as a Parquet file; the same bytes for the same table."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", **options)
    return sink.getvalue().to_pybytes()


def arrays_to_table(arrays: Mapping[str, np.ndarray]) -> pa.Table:
    """A row per array: name, type, shape, and the numbers in C order, the lowest byte first."""
    import pyarrow as pa

    rows: dict[str, list[Any]] = {"name": list(arrays), "dtype": [], "shape": [], "data": []}
    for name, values in arrays.items():
        array = np.asarray(values)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"{name!r} is an array of {array.dtype}, which is no kind of number that a state holds")
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        rows["dtype"].append(array.dtype.str)
        rows["shape"].append(list(array.shape))
        rows["data"].append(array.tobytes())
    types = {"name": pa.string(), "dtype": pa.string(), "shape": pa.list_(pa.int64()), "data": pa.large_binary()}
    return pa.table({column: pa.array(rows[column], kind) for column, kind in types.items()})


def arrays_from_parquet(data: bytes) -> dict[str, np.ndarray]:
    """Read what `arrays_to_table` made, from the bytes of its Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = pq.ParquetFile(pa.BufferReader(data)).read().to_pydict()
    rows = zip(columns["name"], columns["dtype"], columns["shape"], columns["data"], strict=True)
    return {
        name: np.frombuffer(numbers, kind).reshape(shape).astype(np.dtype(kind).newbyteorder("="))
        for name, kind, shape, numbers in rows
    }
