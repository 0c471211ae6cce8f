"""Tables and arrays as bytes of Parquet files, the same bytes for the same content."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa


class UnreadableError(ValueError):
    """Bytes are no Parquet file, or not one that this package writes."""


def to_parquet(table: pa.Table, **options: Any) -> bytes:
    """Return a table as the bytes of a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", **options)
    return sink.getvalue().to_pybytes()


def from_parquet(data: bytes, columns: list[str] | None = None) -> pa.Table:
    """Return the table of a Parquet file, or these columns of it in this order.

    Raises:
        UnreadableError: the bytes are no such file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(pa.BufferReader(data)).read(columns=columns)
        table.validate(full=True)
        # users' tables have no mark
        return (table if columns is None else table.select(columns)).replace_schema_metadata(None)
    except Exception as error:  # of bytes that anybody may have written the parser raises anything
        raise _unreadable(error) from None


def read_footer(data: bytes) -> tuple[dict[bytes, bytes], int]:
    """Return the metadata of a Parquet file's schema, and how many rows it has.

    Raises:
        UnreadableError: the bytes are no such file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        return dict(file.schema_arrow.metadata or {}), file.metadata.num_rows
    except Exception as error:  # as in `from_parquet`
        raise _unreadable(error) from None


def arrays_to_table(arrays: Mapping[str, np.ndarray]) -> pa.Table:
    """Return a table with a row for each array: name, type, shape, and the numbers in C order, little-endian."""
    import pyarrow as pa

    rows: dict[str, list[Any]] = {"name": list(arrays), "dtype": [], "shape": [], "data": []}
    for name, values in arrays.items():
        array = np.asarray(values)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"{name!r} is an array of {array.dtype}: a state holds numbers and truth values only")
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        rows["dtype"].append(array.dtype.str)
        rows["shape"].append(list(array.shape))
        rows["data"].append(array.tobytes())
    types = {"name": pa.string(), "dtype": pa.string(), "shape": pa.list_(pa.int64()), "data": pa.large_binary()}
    return pa.table({column: pa.array(rows[column], kind) for column, kind in types.items()})


def arrays_from_parquet(data: bytes) -> dict[str, np.ndarray]:
    """Return the arrays that `arrays_to_table` was given, from the bytes of its Parquet file.

    Raises:
        UnreadableError: the bytes are no such file.
    """
    columns = from_parquet(data, ["name", "dtype", "shape", "data"]).to_pydict()
    try:
        return {
            name: _array(kind, shape, numbers) for name, kind, shape, numbers in zip(*columns.values(), strict=True)
        }
    except (TypeError, ValueError) as error:
        raise UnreadableError(f"it holds no arrays of jaxalloc's ({type(error).__name__})") from None


def _array(kind: str, shape: list[int], numbers: bytes) -> np.ndarray:
    dtype = np.dtype(kind)
    if dtype.kind not in "biuf":
        raise TypeError(f"{kind!r} is no type of numbers")
    if any(size < 0 for size in shape):  # NumPy would fill it in
        raise ValueError("a size below 0")
    return np.frombuffer(numbers, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def _unreadable(error: Exception) -> UnreadableError:
    return UnreadableError(f"it is no Parquet file of jaxalloc's ({type(error).__name__})")
