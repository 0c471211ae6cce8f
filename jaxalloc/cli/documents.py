"""What leaves a command for machines: JSON text."""

from __future__ import annotations

import json
import math
from typing import Any

import pandas as pd


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
