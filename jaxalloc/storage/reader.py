"""A study's folder, read: its chunks, its running summary and its results, each verified by its checksum."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import unquoted
from jaxalloc.storage.manifest import CHUNKS, MANIFEST, STATE, Manifest, file_name, read_manifest, read_verified
from jaxalloc.storage.parquet import arrays_from_parquet

if TYPE_CHECKING:
    import pyarrow as pa


@dataclasses.dataclass(frozen=True)
class StoredStudy:
    """A study's folder as its manifest was when it was opened. It is read without the lock, even while it grows."""

    folder: Path
    manifest: Manifest

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> StoredStudy:
        """Open a folder to read.

        Raises:
            InputError: no study is stored there, or its manifest cannot be read.
        """
        manifest = read_manifest(folder)
        if manifest is None:
            raise InputError(f"{unquoted(folder)}: no study is stored there, for it has no {MANIFEST}")
        return cls(Path(os.path.realpath(folder)), manifest)

    def chunk(self, number: int, columns: Iterable[str] | None = None) -> pa.Table:
        """Return a finished chunk's table, or these columns of it in this order; its checksum is verified.

        Raises:
            InputError: the chunk is not finished, or damaged.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        name = unquoted(self.folder)
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

        If a writer has replaced the state since the folder was opened, the newer one is returned.
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
        """Return a result file's bytes; their checksum is verified.

        Raises:
            InputError: there is no such result, or it is damaged.
        """
        file = self.manifest.results.get(name)
        data = None if file is None else read_verified(self.folder / name, file)
        if data is None:
            what = f"{unquoted(name)} of {unquoted(self.folder)} is {'not there yet' if file is None else 'damaged'}"
            raise InputError(f"{what}; run the study again with resume=True to write it")
        return data
