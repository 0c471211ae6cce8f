"""The figure of a cross-validation's paths through time: how far a wealth of 1 grows on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxalloc.arguments.words import plain_name
from jaxalloc.figures.canvas import canvas, colour_of, faded, graph_objects
from jaxalloc.figures.comparisons import short
from jaxalloc.figures.walks import MOST_POINTS, row_labels, thinned

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from jaxalloc.backtest.validation import CrossValidation


def path_wealth(validation: CrossValidation, *, log: bool = False, at: int | None = None) -> go.Figure:
    """Draw the growth of a wealth of 1 on the paths of a cross-validation, after costs.

    Args:
        validation: the cross-validation.
        log: whether the axis is logarithmic: equal heights are equal growth.
        at: point of a sweep's grid.

    Returns:
        Figure with a line for each profile, the median of the paths on each row, and a shade from the lowest path to
        the highest. Rows are in the order of time, but most portfolios are decided with rows that come later, too.
        Long lines are thinned to the lowest and highest median of each stretch.

    Raises:
        InputError: there is no such point.
    """
    number = validation.settings.home if at is None else at
    validation.paths(number)  # raises if there is no such point
    figure, go = canvas(360), graph_objects()
    grown = np.cumprod(1 + validation.net[number], axis=2)
    low, middle, high = grown.min(axis=0), np.median(grown, axis=0), grown.max(axis=0)
    for p, profile in enumerate(validation.profiles):
        kept, colour = thinned(middle[p], MOST_POINTS), colour_of(profile)
        labels = row_labels(validation.dates[kept])
        shared: dict[str, Any] = {"name": plain_name(profile), "legendgroup": profile, "mode": "lines"}
        shade = go.Scatter(
            x=[*labels, *labels[::-1]],
            y=[short(value) for value in (*high[p, kept], *low[p, kept[::-1]])],
            fill="toself",
            fillcolor=faded(colour, 0.15),
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
            **shared,
        )
        line = go.Scatter(
            x=labels,
            y=[short(value) for value in middle[p, kept]],
            line={"color": colour, "width": 1.6},
            customdata=np.round(np.stack([low[p, kept], high[p, kept]], axis=1), 4).tolist(),
            hovertemplate="%{fullData.name}<br>%{x}: %{y:.3f}<br>paths: %{customdata[0]:.3f} to %{customdata[1]:.3f}"
            "<extra></extra>",
            **shared,
        )
        figure.add_traces([shade, line])
    figure.update_yaxes(type="log" if log else "linear", tickformat="~g")
    return figure
