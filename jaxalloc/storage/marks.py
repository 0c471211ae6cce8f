"""What a chunk and a state say of themselves: which study they belong to, their number, and a hash of their content.

A folder whose manifest is lost, or does not name all that is there, is put together from these marks.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxalloc.storage.names import MOST_CHUNKS
from jaxalloc.storage.parquet import UnreadableError, from_parquet, read_footer
from jaxalloc.storage.schema import SHA256, anything, entries, fields, from_json, one_of, whole

if TYPE_CHECKING:
    import pyarrow as pa

_KEY = b"jaxalloc"  # of a Parquet file's metadata
_CHECK = fields(
    {
        "kind": one_of("chunk", "state"),
        "number": whole(0, MOST_CHUNKS),
        "content": SHA256,
        "identity": entries(anything),
    }
)


class Mark(NamedTuple):
    """What a chunk or a state says of itself.

    Attributes:
        kind: ``"chunk"`` or ``"state"``.
        number: the chunk's; or how many chunks the state covers.
        identity: of its study.
        content: the SHA-256 of all that and of its table's content.
    """

    kind: str
    number: int
    identity: dict[str, Any]
    content: str


def marked(table: pa.Table, kind: str, number: int, identity: dict[str, Any]) -> pa.Table:
    """Return a table with its mark."""
    mark = Mark(kind=kind, number=number, identity=identity, content="")
    mark = mark._replace(content=_content(table, mark))
    return table.replace_schema_metadata({_KEY: json.dumps(mark._asdict())})


def read_mark(data: bytes) -> tuple[Mark | None, int]:
    """Return the mark of a Parquet file, which one of a version without marks has not, and the number of its rows.

    Raises:
        UnreadableError: the bytes are no such file.
    """
    metadata, n_rows = read_footer(data)
    if _KEY not in metadata:
        return None, n_rows
    try:
        entry = from_json(metadata[_KEY])
        _CHECK(entry, "its mark")
    except ValueError as error:
        raise UnreadableError(str(error)) from None
    return Mark(**entry), n_rows


def is_whole(data: bytes, mark: Mark) -> bool:
    """Tell whether a Parquet file's content and mark are as they were written, whatever the file has around them."""
    try:
        return _content(from_parquet(data), mark) == mark.content
    except UnreadableError:
        return False


def _content(table: pa.Table, mark: Mark) -> str:
    """A hash of a mark, and of the names, types and values of a table's columns."""
    import pyarrow as pa

    digest = hashlib.sha256(json.dumps([mark.kind, mark.number, mark.identity], sort_keys=True).encode())
    for name, column in zip(table.column_names, table.columns, strict=True):
        listed = pa.types.is_fixed_size_list(column.type)
        # the name of a list's entries changes on the way through a file
        kind = f"{column.type.value_type} * {column.type.list_size}" if listed else f"{column.type}".split("<")[0]
        digest.update(f"{name!r} {kind} {len(column)} {column.null_count}\n".encode())
        for chunk in column.chunks:
            array = chunk.flatten() if listed else chunk
            if pa.types.is_primitive(array.type):
                digest.update(np.ascontiguousarray(array.to_numpy(zero_copy_only=False)).data)
                continue
            for value in array.to_pylist():
                content = value if isinstance(value, bytes) else repr(value).encode()
                digest.update(f"{len(content)}\n".encode() + content)
    return digest.hexdigest()
