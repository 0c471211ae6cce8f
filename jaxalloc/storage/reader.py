"""A study's folder, read: its chunks, its running summary and its results, each verified by its checksum."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.paths import as_path, real_path
from jaxalloc.arguments.words import unquoted
from jaxalloc.storage.manifest import Manifest, unfit
from jaxalloc.storage.names import CHUNKS, MANIFEST, STATE, file_name
from jaxalloc.storage.parquet import UnreadableError, arrays_from_parquet, from_parquet
from jaxalloc.storage.place import Place
from jaxalloc.storage.recovery import is_of, manifest_of
from jaxalloc.storage.schema import Check, MisfitError, from_json

if TYPE_CHECKING:
    import pyarrow as pa

Value = TypeVar("Value")


@dataclasses.dataclass(frozen=True)
class StoredStudy:
    """A study's folder as its manifest was when it was opened. It is read without the lock, even while it grows."""

    folder: Path
    manifest: Manifest

    @classmethod
    def open(cls, folder: str | os.PathLike[str], *, inside: bool = False) -> StoredStudy:
        """Open a folder to read.

        Args:
            folder: of the study.
            inside: whether it lies in a folder of ours, where it must be no link.

        Raises:
            InputError: no study is stored there, or its manifest cannot be read.
        """
        path = as_path(folder) if inside else real_path(folder)
        manifest = manifest_of(path)
        if manifest is None:
            raise InputError(f"{unquoted(folder)}: no study is stored there, for it has no {MANIFEST}")
        return cls(path, manifest)

    def chunk(self, number: int, columns: Iterable[str] | None = None) -> pa.Table:
        """Return a finished chunk's table, or these columns of it in this order; its checksum is verified.

        Raises:
            InputError: the chunk is not finished, or damaged.
        """
        name = unquoted(self.folder)
        file = self.manifest.chunks.get(number)
        if file is None:
            raise InputError(f"chunk {number} of {name} is not finished; run the study again with resume=True to do it")
        data = Place(self.folder, CHUNKS).read_verified(file_name(number), file)
        if data is not None and is_of(data, CHUNKS, number, file, self.manifest.identity):
            with contextlib.suppress(UnreadableError):
                return from_parquet(data, None if columns is None else list(columns))
        raise InputError(f"chunk {number} of {name} is damaged; run the study again with resume=True to redo it")

    def chunks(self, columns: Iterable[str] | None = None) -> Iterator[tuple[int, pa.Table]]:
        """Yield every finished chunk's number and table, as `chunk` reads it, in the order of the numbers."""
        chosen = None if columns is None else list(columns)
        for number in self.manifest.chunks:
            yield number, self.chunk(number, chosen)

    def state(self) -> tuple[int, dict[str, np.ndarray]] | None:
        """Return the newest state: how many chunks it covers, and its arrays; None if there is none or it is damaged.

        If a writer has replaced the state since the folder was opened, the newer one is returned.
        """
        manifest: Manifest | None = self.manifest
        file = None
        while manifest is not None and manifest.state is not None and manifest.state != file:
            file = manifest.state
            data = Place(self.folder, STATE).read_verified(file_name(file.count), file)
            if data is not None and is_of(data, STATE, file.count, file, self.manifest.identity):
                with contextlib.suppress(UnreadableError):
                    return file.count, arrays_from_parquet(data)
            manifest = manifest_of(self.folder)
        return None

    def result(self, name: str) -> bytes:
        """Return a result file's bytes; their checksum is verified.

        Raises:
            InputError: there is no such result, or it is damaged.
        """
        file = self.manifest.results.get(name)
        data = None if file is None else Place(self.folder).read_verified(name, file)
        if data is None:
            what = f"{unquoted(name)} of {unquoted(self.folder)} is {'not there yet' if file is None else 'damaged'}"
            raise InputError(f"{what}; run the study again with resume=True to write it")
        return data

    def check_results(self) -> None:
        """Raise `InputError` where a file of results is not as it was written, whether or not it is read here."""
        for name in self.manifest.results:
            self.result(name)

    def parsed(self, name: str, parse: Callable[[bytes], Value]) -> Value:
        """Return what a parser makes of a result.

        Raises:
            InputError: there is no such result, it is damaged, or it is not as this package writes it.
        """
        data = self.result(name)
        try:
            return parse(data)
        except MisfitError as misfit:
            raise unfit(unquoted(self.folder), name, misfit) from None
        except Exception as error:  # of bytes that anybody may have written a parser raises anything
            misfit = MisfitError(f"it cannot be read ({type(error).__name__})")
            raise unfit(unquoted(self.folder), name, misfit) from None

    def record(self, name: str, check: Check) -> dict[str, Any]:
        """Return the values of a record in JSON that a check accepts, and that repeats the identity of its study."""

        def parse(data: bytes) -> dict[str, Any]:
            entry = from_json(data)
            check(entry, "")
            for field, value in self.manifest.identity.items():
                if entry.get(field) != value:
                    raise MisfitError(f"{field} is not as {MANIFEST} says")
            return entry

        return self.parsed(name, parse)
