"""Returns with names, as `allocate` and `allocate_batch` take them: frames are read, gappy assets left out."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np
import pandas as pd

from jaxalloc.arguments.errors import AllocationWarning, InputError
from jaxalloc.arguments.words import counted, listing, quote
from jaxalloc.markets.holes import Gaps, most_holes
from jaxalloc.markets.panel import Panel, panel_of_frame


def panel_of(returns: Any, by_position: bool) -> Panel | None:
    """Return what a caller gives as returns as a panel, if it has names; None for an array.

    Args:
        returns: a `Panel`, a frame of returns, in which gaps are kept, or anything else.
        by_position: whether other arguments say something of the rows or the columns by their position.

    Raises:
        InputError: the frame is not one of returns, or reading it would put its rows in another order.
    """
    if isinstance(returns, Panel):
        return returns
    if not isinstance(returns, pd.DataFrame):
        return None
    if by_position and not returns.index.is_monotonic_increasing:
        raise InputError(
            "returns are not in the order of their dates, and other arguments go by rows: sort them, or give what "
            "read_returns makes of them"
        )
    return panel_of_frame(returns, missing="mask")


def with_holes_filled(panel: Panel, gaps: Gaps) -> Panel:
    """Return a panel with 0 in the holes that count as 0."""
    returns = pd.DataFrame(gaps.returns, index=panel.returns.index, columns=panel.returns.columns)
    return dataclasses.replace(panel, returns=returns)


def leave_out(panel: Panel, gaps: Gaps, weights: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Leave assets out of the universes in which they lack too many returns, and warn of it.

    Args:
        panel: the returns, (T, N).
        gaps: what is missing of them.
        weights: (B, T) how often each universe holds each row.
        masks: (B, N) bool, the assets of each universe.

    Returns:
        (B, N) bool, those of the assets that are listed in all rows that the universe holds, and miss few of them.
    """
    gappy = np.flatnonzero(gaps.weight.any(axis=0))
    if not len(gappy):
        return masks
    held = np.where(np.isfinite(weights) & (weights > 0), weights, 0).astype(float)
    missing = held @ gaps.weight[:, gappy]
    most = most_holes(gaps.max_missing, held.sum(axis=1), np.finfo(float).eps)
    complete = masks.copy()
    complete[:, gappy] &= missing <= most[:, None]
    out = (masks & ~complete).sum(axis=0)
    if out.any():
        names = [quote(panel.symbols[i]) for i in np.flatnonzero(out)]
        where = "" if len(masks) == 1 else f" in up to {int(out.max()):,} of {counted(len(masks), 'universe')}"
        warnings.warn(
            f"left {counted(len(names), 'asset')} out{where}, for missing returns: {listing(names)}",
            AllocationWarning,
            stacklevel=3,
        )
    return complete
