"""The figure of the cuts of a tree: what there is to choose from, and what is chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxalloc.figures.canvas import ACCENT, MUTED, canvas, graph_objects

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from jaxalloc.studies.choice import ClusterChoice

_STABILITY = "#d9772b"


def cuts(choice: ClusterChoice) -> go.Figure:
    """Draw the silhouette and the stability of every cut against its number of clusters; the one to take is marked.

    Args:
        choice: from `jaxalloc.cluster_choice`.

    Returns:
        Figure of two panels with one x axis, silhouettes above stabilities; trivial cuts are hollow.
    """
    go, table = graph_objects(), choice.table
    figure = canvas(420, showlegend=False, hovermode="x unified")
    for column, colour, axis in (("silhouette", ACCENT, "y"), ("stability", _STABILITY, "y2")):
        figure.add_trace(
            go.Scatter(
                x=table.index.to_numpy(),
                y=table[column].to_numpy(),
                yaxis=axis,
                name=column,
                mode="lines+markers",
                line={"color": colour, "width": 1.5},
                marker={
                    "color": colour,
                    "size": 7,
                    "symbol": ["circle-open" if trivial else "circle" for trivial in table["trivial"]],
                },
                customdata=table[["alone", "largest"]].to_numpy(),
                hovertemplate="%{y:.3f}"
                + ("; %{customdata[0]} alone, largest %{customdata[1]:.0%}" if axis == "y" else "")
                + "<extra>%{fullData.name}</extra>",
            )
        )
    figure.update_layout(
        yaxis={"domain": [0.54, 1], "title": "mean silhouette"},
        yaxis2={"domain": [0, 0.46], "title": "agreement of resamples", "anchor": "x"},
        xaxis={"title": "clusters (hollow: more than half of the assets alone, or in one)", "anchor": "y2"},
        margin={"t": 28},
    )
    figure.add_vline(
        x=choice.clusters,
        line={"dash": "dash", "width": 1.5, "color": MUTED},
        annotation_text=f"take {choice.clusters}",
        annotation_position="top",
    )
    return figure
