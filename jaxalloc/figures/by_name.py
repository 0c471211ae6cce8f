"""Figures by name: what the methods `plot` of results draw."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import literal
from jaxalloc.backtest.validation import CrossValidation
from jaxalloc.backtest.walk import WalkForward
from jaxalloc.figures.bagging import bagged_weights
from jaxalloc.figures.choice import cuts
from jaxalloc.figures.clusters import cluster_counts, co_association, correlation, dendrogram
from jaxalloc.figures.comparisons import differences, path_boxes
from jaxalloc.figures.paths import path_wealth
from jaxalloc.figures.portfolios import boxes, distributions, risks, sleeve, treemap, weights
from jaxalloc.figures.selection import logits
from jaxalloc.figures.sensitivities import estimates
from jaxalloc.figures.sweeps import sweep_heatmap, walk_heatmap
from jaxalloc.figures.trading import bands
from jaxalloc.figures.walks import drawdowns, holdings, rolling_volatility, turnovers, wealth
from jaxalloc.studies.bagged import BaggedAllocation
from jaxalloc.studies.choice import ClusterChoice
from jaxalloc.studies.sensitivity import Sensitivity
from jaxalloc.studies.study import Study

if TYPE_CHECKING:
    import plotly.graph_objects as go

# the figures of each kind of result; the first is drawn where no name is given
_OF_STUDIES = (
    *(boxes, weights, risks, treemap, distributions, sleeve),
    *(dendrogram, correlation, co_association, cluster_counts, sweep_heatmap),
)
_OF_WALKS = (
    *(wealth, drawdowns, rolling_volatility, turnovers, holdings),
    *(differences, path_boxes, walk_heatmap, bands, logits),
)
_FIGURES: dict[type, dict[str, Callable[..., Any]]] = {
    kind: {figure.__name__: figure for figure in figures}
    for kind, figures in (
        (Study, _OF_STUDIES),
        (WalkForward, _OF_WALKS),
        (ClusterChoice, (cuts,)),
        (BaggedAllocation, (bagged_weights,)),
        (Sensitivity, (estimates,)),
        (CrossValidation, (path_boxes, path_wealth)),
    )
}


Result = Study | WalkForward | ClusterChoice | BaggedAllocation | Sensitivity | CrossValidation


def draw(result: Result, name: str | None, *arguments: Any, **options: Any) -> go.Figure:
    """Draw a result's figure of that name.

    Args:
        result: what to draw.
        name: of a function of `jaxalloc.figures` that takes such a result; None for the first.
        arguments: of that function, after the result.
        options: likewise, by name.

    Raises:
        InputError: there is no such figure of such a result, or the arguments are not those that it takes.
    """
    figures = _FIGURES[type(result)]
    wanted = next(iter(figures)) if name is None else name
    if wanted not in figures:
        raise InputError(f"there is no figure {literal(wanted)} of it; choose from {', '.join(figures)}")
    try:
        inspect.signature(figures[wanted]).bind(result, *arguments, **options)
    except TypeError as mismatch:
        raise InputError(f"{wanted}: {mismatch}; see jaxalloc.figures.{wanted}") from None
    return figures[wanted](result, *arguments, **options)
