"""The figure of what trading less would have cost or earned: the Sharpe ratio after costs against the turnover."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import plain_name
from jaxalloc.figures.canvas import canvas, colour_of, graph_objects
from jaxalloc.figures.comparisons import point_number, short
from jaxalloc.settings.measures import FIGURES, WALK_MEASURE

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from jaxalloc.backtest.walk import WalkForward


def bands(walk: WalkForward, *, at: int | None = None) -> go.Figure:
    """Draw the Sharpe ratio after costs against the turnover a year, band by band.

    Args:
        walk: a walk-forward in which ``band`` was varied.
        at: point of the grid, of which the settings and the cost are shown, with every band.

    Returns:
        Figure with a line for each profile and a point for each band, in their order; the bands are written beside the
        points, in per cent of the wealth.

    Raises:
        InputError: no band was varied, or there is no such point.
    """
    if "band" not in walk.settings.names:
        raise InputError("no band was varied: give walk_forward a list of them, such as band=[0, 0.005, 0.01]")
    points = walk.settings.beside(point_number(walk, at))
    labels = [f"{100 * band:g} %" for band in walk.settings.bands]
    columns = {name: walk.history.figures[points, :, FIGURES.index(name)].T for name in ("turnover", "sharpe")}
    figure, go = canvas(400, margin={"t": 28}), graph_objects()
    turnover, sharpe = WALK_MEASURE["turnover"], WALK_MEASURE["sharpe"]
    for p, profile in enumerate(walk.profiles):
        name = plain_name(profile)
        trace = go.Scatter(
            x=[short(value) for value in columns["turnover"][p]],
            y=[short(value) for value in columns["sharpe"][p]],
            mode="lines+markers+text",
            text=labels,
            textposition="bottom center" if p % 2 else "top center",
            textfont={"size": 10},
            cliponaxis=False,
            line={"color": colour_of(profile), "width": 1.6},
            marker={"color": colour_of(profile), "size": 7},
            name=name,
            hovertemplate=f"{name}, band %{{text}}<br>turnover %{{x:{turnover.axis}}} a year<br>"
            f"Sharpe ratio %{{y:{sharpe.axis}}}<extra></extra>",
        )
        figure.add_trace(trace)
    figure.update_xaxes(title=turnover.words, tickformat=turnover.axis, rangemode="tozero")
    figure.update_yaxes(title=f"{sharpe.words} after costs", tickformat=sharpe.axis)
    return figure
