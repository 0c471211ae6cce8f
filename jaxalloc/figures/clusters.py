"""Figures of clusters: the tree, correlations, how often assets share a cluster, how many clusters there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxalloc.arguments.errors import InputError
from jaxalloc.figures.canvas import ACCENT, MUTED, canvas, graph_objects, label, point_of
from jaxalloc.figures.names import cluster_colours, cluster_name, marked
from jaxalloc.figures.tree import Dendrogram, Lines, correlation_at, outline, runs, tree_of

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from jaxalloc.studies.study import Study

NAMED = 45  # of more assets, a map's columns have no names, and its rows smaller ones
NAMED_ROWS = 150  # of more assets, clusters are named, and assets in the hover texts only
_NAME_PIXELS = 12  # between the names of clusters
_LONGEST = 14


def dendrogram(study: Study, at: int | None = None) -> go.Figure:
    """Draw the tree that the point estimate's clusters were cut from, and the cut.

    Args:
        study: the study.
        at: point of a sweep's grid.

    Returns:
        Figure: assets on the y axis, heights (in units of the distance) on the x axis.

    Raises:
        InputError: the study does not hold the correlations, or fewer than two assets take part.
    """
    tree = tree_of(study, at)
    n = len(tree.assets)
    figure = canvas(_height(n), showlegend=False)
    for trace in _branches(tree, reverse=False):
        figure.add_trace(trace)
    figure.update_yaxes(**_rows(study, tree))
    _name_clusters(figure, study, tree)
    figure.update_xaxes(title="distance at which clusters merge", rangemode="tozero")
    figure.add_vline(x=tree.cut, line={"dash": "dash", "width": 1.5}, annotation_text=f"cut at {tree.cut:.2f}")
    figure.update_layout(margin={"t": 28})
    return figure


def correlation(study: Study, at: int | None = None) -> go.Figure:
    """Draw the point estimate's tree and, in the order of its leaves, the correlations with the clusters outlined.

    Args:
        study: the study.
        at: point of a sweep's grid.

    Returns:
        Figure with the tree on the axes x, y and the correlations, in per cent, rounded, on the axes x2, y.

    Raises:
        InputError: as `dendrogram`.
    """
    tree = tree_of(study, at)
    rho = correlation_at(study, point_of(study, at))[np.ix_(tree.assets, tree.assets)]
    percent = np.rint(100 * rho).astype(np.int8)
    figure = _matrix(study, tree, percent, -100, "correlation")
    for trace in _branches(tree, reverse=True):
        figure.add_trace(trace)
    highest = float(max(tree.merges[:, 2].max(), tree.cut)) * 1.03
    figure.update_layout(
        xaxis={
            "domain": [0, 0.24],
            "range": [highest, 0],
            "showgrid": False,
            "zeroline": False,
            "nticks": 4,
            "title": {"text": "distance"},
        }
    )
    figure.add_shape(
        type="line", xref="x", yref="paper", x0=tree.cut, x1=tree.cut, y0=0, y1=1, line={"dash": "dash", "width": 1.5}
    )
    figure.add_annotation(
        xref="x",
        yref="paper",
        x=tree.cut,
        y=1,
        yanchor="bottom",
        xanchor="center",
        text=f"cut {tree.cut:.2f}",
        showarrow=False,
    )
    return figure


def co_association(study: Study, at: int | None = None) -> go.Figure:
    """Draw how often two assets share a cluster, in the order of the tree's leaves, with the clusters outlined.

    Args:
        study: the study.
        at: point of a sweep's grid.

    Returns:
        Figure on the axes x2, y: in what share of the universes where both assets are active they share a cluster, in
        per cent, rounded. Assets of a study without a tree are in the order of their clusters.
    """
    number = point_of(study, at)
    try:
        tree = tree_of(study, number)
    except InputError:
        labels = study.estimate(number).cluster_labels
        order = np.lexsort((np.arange(len(labels)), labels))[::-1]
        tree = Dendrogram(assets=order, merges=np.zeros((0, 4)), columns=np.sort(order), cut=0.0, labels=labels[order])
    share = study.co_association(number).to_numpy()[np.ix_(tree.assets, tree.assets)]
    percent = np.rint(100 * share)
    # an array of bytes cannot hold None, which stands for two assets that are never active together
    values: Any = percent.astype(np.int8) if np.isfinite(percent).all() else _with_gaps(percent)
    return _matrix(study, tree, values, 0, "together in")


def cluster_counts(study: Study, at: int | None = None) -> go.Figure:
    """Draw how often each number of clusters occurs.

    Args:
        study: the study.
        at: point of a sweep's grid.

    Returns:
        Figure with a bar for each number of clusters: its share of the valid universes. The estimate's is in colour.
    """
    number = point_of(study, at)
    counts = study.cluster_counts(number)
    share = counts.to_numpy() / max(1, counts.sum())
    figure = canvas(260, showlegend=False, bargap=0.15)
    go = graph_objects()
    estimate = int(study.estimate(number).n_clusters)
    figure.add_trace(
        go.Bar(
            x=counts.index.to_numpy(),
            y=np.round(share, 4),
            customdata=counts.to_numpy(),
            marker_color=[ACCENT if k == estimate else MUTED for k in counts.index],
            hovertemplate="%{x} clusters<br>%{y:.1%} of universes (%{customdata:,})<extra></extra>",
        )
    )
    low, high = min([estimate, *counts.index]), max([estimate, *counts.index])
    figure.update_xaxes(
        title=f"number of clusters (the estimate's {estimate} in colour)",
        range=[low - 1.5, high + 1.5],
        dtick=1 if high - low <= 14 else None,
        tickformat="d",
    )
    figure.update_yaxes(tickformat=".0%", title="universes")
    return figure


def _matrix(study: Study, tree: Dendrogram, percent: Any, lowest: int, words: str) -> go.Figure:
    """A symmetric matrix in the order of the leaves, on the axes x2 (its columns) and y (its rows)."""
    n = len(tree.assets)
    alone = not len(tree.merges) or words != "correlation"
    figure = canvas(_height(n), showlegend=False)
    bar = {"orientation": "h", "thickness": 8, "len": 0.3, "x": 1, "xanchor": "right", "y": 1.0, "yanchor": "bottom"}
    bar |= {"ticklabelposition": "outside top", "ticksuffix": " %", "nticks": 3, "outlinewidth": 0}
    figure.add_trace(
        graph_objects().Heatmap(
            z=percent,
            zmin=lowest,
            zmax=100,
            autocolorscale=True,
            xaxis="x2",
            yaxis="y",
            colorbar=bar,
            hovertemplate=f"%{{y}}<br>%{{x}}<br>{words} %{{z}} %<extra></extra>",
        )
    )
    rows = _rows(study, tree)
    columns = rows | {
        "domain": [0 if alone else 0.25, 1],
        "anchor": "y",
        "tickangle": -90,
        "showticklabels": n <= NAMED,
    }
    figure.update_layout(xaxis2=columns, yaxis=rows | {"side": "right", "anchor": "x2"}, margin={"t": 48})
    _name_clusters(figure, study, tree)
    for number, first, last in runs(tree.labels):
        if last > first and number >= 0:
            low, high = first - 0.5, last + 0.5
            line = {
                "width": 1.5 if n <= NAMED else 1
            }  # in the colour of the text: those of the clusters drown in the map's
            figure.add_shape(type="rect", xref="x2", yref="y", x0=low, x1=high, y0=low, y1=high, line=line)
    return figure


def _branches(tree: Dendrogram, reverse: bool) -> list[Any]:
    """The dendrogram's lines: those above the cut, and those inside clusters in the clusters' colours."""
    go, colours = graph_objects(), cluster_colours(tree.labels)
    parts: dict[str, tuple[str, Lines]] = {}
    for number, (across, along) in outline(tree).items():
        colour = MUTED if number is None else colours[number]
        _, lines = parts.setdefault(colour, ("above the cut" if number is None else "inside clusters", ([], [])))
        lines[0].extend(across)
        lines[1].extend(along)
    width = 1.5 if len(tree.assets) <= NAMED else 1
    return [
        go.Scatter(
            x=along,
            y=across,
            mode="lines",
            line={"color": colour, "width": width},
            hoverinfo="skip",
            name=name,
            showlegend=False,
        )
        for colour, (name, (across, along)) in parts.items()
        if across or reverse
    ]


def _rows(study: Study, tree: Dendrogram) -> dict[str, Any]:
    """The axis of the leaves, with their names, which are in the hover texts alone where there are too many."""
    n = len(tree.assets)
    shown = n <= NAMED_ROWS
    names = [label(study.symbols[asset], _LONGEST if shown else 40) for asset in tree.assets]
    if shown:
        colours = cluster_colours(tree.labels)
        names = [marked(name, colours[int(number)]) for name, number in zip(names, tree.labels, strict=True)]
    else:
        for number, first, last in runs(tree.labels):
            if number >= 0 and last > first:
                of = f" (with {_name_of(study, tree, first, last)})"
                names[first : last + 1] = [name + of for name in names[first : last + 1]]
    return {
        "range": [-0.5, n - 0.5],
        "tickvals": np.arange(n),
        "ticktext": names,
        "showticklabels": shown,
        "tickfont": {"size": 12 if n <= NAMED else 8},
        "showgrid": False,
        "zeroline": False,
    }


def _name_of(study: Study, tree: Dendrogram, first: int, last: int) -> str:
    return cluster_name([study.symbols[asset] for asset in tree.assets[first : last + 1]], _LONGEST)


def _name_clusters(figure: go.Figure, study: Study, tree: Dendrogram) -> None:
    """Name the clusters of a figure whose assets are too many to be named: the largest, as far as there is room."""
    n = len(tree.assets)
    if n <= NAMED_ROWS:
        return
    apart, taken = _NAME_PIXELS * n / (_height(n) - 80), []
    colours = cluster_colours(tree.labels)
    several = [
        (last - first + 1, first, last, colours[number])
        for number, first, last in runs(tree.labels)
        if number >= 0 and last > first
    ]
    for _, first, last, colour in sorted(several, reverse=True):
        middle = (first + last) / 2
        if all(abs(middle - other) >= apart for other in taken):
            taken.append(middle)
            figure.add_annotation(
                xref="paper",
                yref="y",
                x=1,
                y=middle,
                xanchor="left",
                text=marked(_name_of(study, tree, first, last), colour),
                font={"size": 9},
                showarrow=False,
            )
    figure.update_layout(margin={"r": 130})


def _with_gaps(values: np.ndarray) -> list[list[int | None]]:
    return [[int(value) if np.isfinite(value) else None for value in row] for row in values]


def _height(n: int) -> int:
    return int(max(np.clip(140 + 16 * n, 320, 680), 140 + 9 * n if n <= NAMED_ROWS else 0))
