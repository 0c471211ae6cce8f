"""Source: what results and records say of a panel, so that a study keeps its numbers alone."""

from __future__ import annotations

import hashlib
import json
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxalloc.markets.dates import label_text
from jaxalloc.markets.panel import Panel


class Source(NamedTuple):
    """A panel without its returns: names, notes, and what identifies the data.

    Attributes:
        symbols: the N assets.
        dates: the T row labels.
        notes: a sentence for each thing that was done to the input.
        data: hash, size, and first and last label, plain values.
    """

    symbols: list[str]
    dates: pd.Index
    notes: list[str]
    data: dict[str, Any]


def source_of(panel: Panel) -> Source:
    """Return a panel's source. Call it once: it hashes the returns."""
    symbols, dates = panel.symbols, panel.dates
    data = {
        "sha256": data_hash(panel),
        "n_observations": len(dates),
        "n_assets": len(symbols),
        "first": label_text(dates[0]),
        "last": label_text(dates[-1]),
    }
    return Source(symbols=symbols, dates=dates, notes=list(panel.notes), data=data)


def data_hash(panel: Panel) -> str:
    """Return the SHA-256 of a panel's symbols, dates and returns, in hexadecimal; all gaps are alike."""
    values = panel.values
    values = np.where(np.isnan(values), np.nan, values)
    labels = json.dumps([panel.symbols, [str(date) for date in panel.dates]])
    return hashlib.sha256(labels.encode() + np.ascontiguousarray(values, "<f8").tobytes()).hexdigest()
