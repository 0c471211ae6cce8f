"""Figure of what a portfolio hangs on: the estimates whose errors would trade most."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jaxalloc.figures.canvas import ACCENT, canvas, graph_objects, label

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from jaxalloc.studies.sensitivity import Sensitivity

_LONGEST = 18
_COLOURS = {"mean": "#d9772b", "volatility": ACCENT}


def estimates(sensitivity: Sensitivity, profile: str | None = None, *, top: int = 10) -> go.Figure:
    """Draw the estimates that a profile's portfolio hangs on most.

    Args:
        sensitivity: from `jaxalloc.sensitivity`.
        profile: one of its profiles; the first by default.
        top: how many estimates are shown, at most.

    Returns:
        Figure with a bar for each estimate, the worst on top, as long as the turnover that one standard error of it
        would cause, in the colour of its kind: an asset's mean or its volatility.

    Raises:
        InputError: there is no such profile, or ``top`` is no count.
    """
    table = sensitivity.largest(sensitivity.profiles[0] if profile is None else profile, top)
    go, n = graph_objects(), len(table)
    rows = np.arange(n)[::-1]
    figure = canvas(90 + 24 * max(n, 1), bargap=0.3)
    for name, colour in _COLOURS.items():
        own = (table["estimate"] == name).to_numpy()
        figure.add_trace(
            go.Bar(
                x=np.round(table["turnover"].to_numpy()[own], 6).tolist(),
                y=rows[own].tolist(),
                orientation="h",
                marker={"color": colour},
                name=name,
                showlegend=True,
                text=[label(asset, 60) for asset in table["asset"][own]],
                textposition="none",
                customdata=np.round(table["error"].to_numpy()[own], 6).tolist(),
                hovertemplate=f"<b>%{{text}}</b>, {name}<br>one standard error, %{{customdata:.2%}}, trades %{{x:.2%}}"
                "<extra></extra>",
            )
        )
    ticks = [label(asset, _LONGEST) for asset in table["asset"]]
    figure.update_yaxes(range=[-0.6, max(n, 1) - 0.4], tickvals=rows, ticktext=ticks, showgrid=False, zeroline=False)
    figure.update_xaxes(tickformat=".2~%", rangemode="tozero", title="turnover")
    return figure
