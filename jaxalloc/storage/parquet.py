"""Tables and arrays as bytes of Parquet files, the same bytes for the same content."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa


def to_parquet(table: pa.Table, **options: Any) -> bytes:
    """Return a table as the bytes of a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", **options)
    return sink.getvalue().to_pybytes()


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
    """Return the arrays that `arrays_to_table` was given, from the bytes of its Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = pq.ParquetFile(pa.BufferReader(data)).read().to_pydict()
    rows = zip(columns["name"], columns["dtype"], columns["shape"], columns["data"], strict=True)
    return {
        name: np.frombuffer(numbers, kind).reshape(shape).astype(np.dtype(kind).newbyteorder("="))
        for name, kind, shape, numbers in rows
    }
