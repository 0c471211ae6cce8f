"""What leaves a command for machines: JSON text, and files that appear whole or not at all."""

from __future__ import annotations

import json
import math
import os
import uuid
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pandas as pd

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import quote


def to_json(document: dict[str, Any]) -> str:
    """Write a document of plain values as JSON in ASCII, null for NaN and infinity."""
    return json.dumps(_finite(document), indent=2, allow_nan=False) + "\n"


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Turn a frame into one record of plain values for each row; an index with names comes first."""
    if all(name is not None for name in table.index.names):
        table = table.reset_index()
    columns = {str(name): column.tolist() for name, column in table.items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check_target(target: Path, source: Path | None, suffixes: Collection[str]) -> None:
    """Raise `InputError` unless ``target`` has one of the suffixes, can be written, and is not what is read, if any."""
    name = quote(target)
    if target.suffix.lower() not in suffixes:
        raise InputError(f"--out {name}: the suffix tells the format; end the name in {', '.join(suffixes)}")
    if target.is_dir():
        raise InputError(f"--out {name}: this is a directory; give the path of a file")
    if not target.parent.is_dir():
        raise InputError(f"--out {name}: there is no directory {quote(target.parent)}; create it, or choose another")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise InputError(f"--out {name}: the directory {quote(target.parent)} cannot be written; choose another")
    if source is not None and target.exists() and source.exists() and target.samefile(source):
        raise InputError(f"--out {name}: this is the file that is read; choose another name")


def write_whole(target: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` make a file, and put it in the place of ``target`` when it is complete."""
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.partial")
    try:
        write(temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
