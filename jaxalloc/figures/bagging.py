"""Figure of bagged portfolios: what the mean of resamples changes, and how sure each weight is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jaxalloc.figures.canvas import MUTED, canvas, check_profile, colour_of, faded, graph_objects, label
from jaxalloc.figures.names import cluster_colours, marked

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from jaxalloc.studies.bagged import BaggedAllocation

_LONGEST = 18


def bagged_weights(bagged: BaggedAllocation, profile: str, *, top: int = 20) -> go.Figure:
    """Draw a profile's bagged weights beside those without bagging.

    Args:
        bagged: from `jaxalloc.allocate_bagged`.
        profile: one of its profiles.
        top: how many assets are shown: those of the largest weights, with bagging or without.

    Returns:
        Figure with a row for each asset, the heaviest on top: the bagged weight (dot) with a line of one standard error
        to either side, and the weight without bagging (ring).

    Raises:
        InputError: there is no such profile.
    """
    p = check_profile(bagged.study, profile)
    weights, own, errors = bagged.allocation.weights[p], bagged.own.weights[p], bagged.standard_errors[p]
    shown = np.argsort(-np.maximum(weights, own), kind="stable")[:top]
    shown = shown[np.argsort(-weights[shown], kind="stable")]
    go, n, colour = graph_objects(), len(shown), colour_of(profile)
    rows = np.arange(n)[::-1]
    labels = bagged.own.cluster_labels
    colours = cluster_colours(labels)
    names = [label(bagged.study.symbols[k], 60) for k in shown]
    figure = canvas(90 + 21 * n)
    low = np.maximum(weights[shown] - np.nan_to_num(errors[shown]), 0)
    high = weights[shown] + np.nan_to_num(errors[shown])
    figure.add_trace(
        go.Scatter(
            x=[value for a, b in zip(low, high, strict=True) for value in (round(a, 5), round(b, 5), None)],
            y=[value for row in rows.tolist() for value in (row, row, None)],
            mode="lines",
            line={"color": faded(colour, 0.45), "width": 6},
            name="one standard error",
            hoverinfo="skip",
        )
    )
    for values, name, marker in (
        (own, "without bagging", {"symbol": "circle-open", "color": MUTED, "size": 10, "line": {"width": 2}}),
        (weights, "bagged", {"color": colour, "size": 9}),
    ):
        figure.add_trace(
            go.Scatter(
                x=np.round(values[shown], 5).tolist(),
                y=rows,
                mode="markers",
                marker=marker,
                name=name,
                text=names,
                customdata=np.round(errors[shown], 5).tolist(),
                hovertemplate=f"<b>%{{text}}</b><br>{name} %{{x:.2%}}, standard error %{{customdata:.2%}}"
                "<extra></extra>",
            )
        )
    ticks = [marked(label(bagged.study.symbols[k], _LONGEST), colours[int(labels[k])]) for k in shown]
    figure.update_yaxes(range=[-0.6, n - 0.4], tickvals=rows, ticktext=ticks, showgrid=False, zeroline=False)
    figure.update_xaxes(tickformat=".0%" if high.max(initial=0) >= 0.05 else ".1%", rangemode="tozero")
    return figure
