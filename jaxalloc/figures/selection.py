"""The figure of a choice among trials: how the best of one half of the days ranks on the other half."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxalloc.arguments.words import per_cent
from jaxalloc.backtest.selection import BLOCKS
from jaxalloc.figures.canvas import ACCENT, canvas, graph_objects

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from jaxalloc.backtest.walk import WalkForward

_WORSE = "#d9772b"
_MOST_BARS = 12  # on either side of the median


def logits(walk: WalkForward, *, n_blocks: int = BLOCKS) -> go.Figure:
    """Draw the ranks out of sample of the best trials in sample, as a histogram of their logits.

    Args:
        walk: the walk-forward.
        n_blocks: as `WalkForward.overfitting` takes it.

    Returns:
        Figure of the shares of the halves by logit. A bar holds the logits above its left end up to its right one, so
        that 0, the median, is in the last bar of those that are no better than the median: they add up to the PBO.

    Raises:
        InputError: as `WalkForward.overfitting`.
    """
    go, overfitting = graph_objects(), walk.overfitting(n_blocks)
    figure = canvas(300)
    width, counts = histogram(overfitting.logits, overfitting.n_trials)
    shares = counts / overfitting.n_halves
    ends = (np.arange(len(counts)) - len(counts) // 2 + 1) * width
    no_better, better = ends < width / 2, ends > width / 2
    for mask, name, colour in ((no_better, "no better than the median", _WORSE), (better, "better", ACCENT)):
        total = per_cent(float(shares[mask].sum()), 0, "-")
        bars: Any = go.Bar(
            x=np.round(ends[mask] - width / 2, 5).tolist(),
            y=np.round(shares[mask], 5).tolist(),
            width=round(0.94 * width, 5),
            name=f"{name}: {total} of the splits",
            marker={"color": colour},
            customdata=np.round(np.stack([ends[mask] - width, ends[mask]], axis=1), 2).tolist(),
            hovertemplate="logit %{customdata[0]} to %{customdata[1]}: %{y:.1%} of the splits<extra></extra>",
        )
        figure.add_trace(bars)
    figure.add_vline(x=0, line={"dash": "dot", "width": 1.5})
    figure.update_xaxes(title="Logit of the rank on the other half (0 is the median, the best trial is on the right)")
    figure.update_yaxes(title="Share of the splits", tickformat=".0%", rangemode="tozero")
    return figure


def histogram(values: np.ndarray, n_trials: int) -> tuple[float, np.ndarray]:
    """Count logits in bars of one width, as many on either side of 0.

    Args:
        values: logits, from -ln M to ln M.
        n_trials: M, at least 2.

    Returns:
        The width, and the counts from the lowest bar up. A bar holds what is above its left end up to its right one;
        the first one holds its left end, too.

    Example:
        >>> width, counts = histogram(np.log([1 / 4, 1 / 4, 2 / 3, 1.0, 4.0]), 4)
        >>> round(width, 4), counts.tolist()
        (0.6931, [2, 2, 0, 1])
    """
    side = min(_MOST_BARS, max(1, n_trials // 2))
    width = math.log(n_trials) / side
    # a quotient that rounding has lifted above a whole number belongs to the bar below
    bars = np.ceil(np.round(values / width, 9)).astype(int) + side - 1
    return width, np.bincount(np.clip(bars, 0, 2 * side - 1), minlength=2 * side)
