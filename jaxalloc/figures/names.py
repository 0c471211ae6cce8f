"""What clusters are called in figures and tables, by their members and never by a bare number, and their colours."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from jaxalloc.figures.canvas import MUTED, label

_NAMED = 2  # members that a cluster is called by
# Mid-tones that stand out from white and from near-black, then lighter ones. The largest clusters come first; where
# there are more clusters than colours, one is used again.
_COLOURS = (
    *("#3b82c4", "#d9772b", "#2a9d74", "#b65fb0", "#b8972a", "#4aa8c0"),
    *("#cc5a5a", "#6d78c9", "#7fa33a", "#a5714a", "#5f8f9f", "#c56b96"),
    *("#86b6e4", "#eeb07c", "#7ccbab", "#d5a3d1", "#d8c57c", "#94d0de"),
    *("#e5a1a1", "#a9b0e3", "#b2cc82", "#ccab8c", "#9dbac4", "#e0a9c2"),
)
_MARK = "\N{BLACK SQUARE}"


def cluster_name(members: Sequence[object], longest: int = 14) -> str:
    """Return the name of a cluster, escaped for Plotly.

    Args:
        members: its assets, the first ones those that it is called by.
        longest: characters of an asset's name.

    Example:
        >>> cluster_name(["XOM"]), cluster_name(["XOM", "CVX"]), cluster_name(["XOM", "CVX", "COP", "OXY"])
        ('XOM', 'XOM, CVX', 'XOM, CVX + 2')
    """
    named = ", ".join(label(member, longest) for member in members[:_NAMED])
    rest = len(members) - _NAMED
    return f"{named} + {rest}" if rest > 0 else named


def cluster_colours(labels: np.ndarray) -> dict[int, str]:
    """Return the colour of each cluster, the same in every picture of a study's estimate.

    Args:
        labels: (N,) clusters of the assets; -1 for an inactive one.

    Returns:
        Colours by number of the cluster; clusters of one asset, and -1, have no colour of their own.

    Example:
        >>> cluster_colours(np.array([0, 1, 1, -1])) == {-1: MUTED, 0: MUTED, 1: _COLOURS[0]}
        True
    """
    numbers, sizes = np.unique(labels, return_counts=True)
    colours = dict.fromkeys(numbers.tolist(), MUTED)
    several = [k for k in np.argsort(-sizes, kind="stable") if sizes[k] > 1 and numbers[k] >= 0]
    return colours | {int(numbers[k]): colour for k, colour in zip(several, itertools.cycle(_COLOURS), strict=False)}


def marked(name: str, colour: str, bold: bool = False) -> str:
    """Return an escaped name for an axis, after a square of its cluster's colour."""
    return f'<span style="color:{colour}">{_MARK}</span> ' + (f"<b>{name}</b>" if bold else name)
