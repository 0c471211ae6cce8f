"""What clusters are called in figures and tables: by their members, and never by a bare number."""

from __future__ import annotations

from collections.abc import Sequence

from jaxalloc.figures.canvas import label

_NAMED = 2  # members that a cluster is called by


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
