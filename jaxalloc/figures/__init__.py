"""Single figures of a study or a walk-forward, for notebooks; `jaxalloc.write_report` puts them on one page.

Functions of `jaxalloc.figures.walks` and `jaxalloc.figures.comparisons`, `bands`, `logits` and `walk_heatmap` take a
`jaxalloc.WalkForward`, `path_boxes` a `jaxalloc.CrossValidation`, too, `path_wealth` that alone, `cuts` takes a
`jaxalloc.ClusterChoice`, `bagged_weights` a `jaxalloc.BaggedAllocation`, `estimates` a `jaxalloc.Sensitivity`, and the
others take a `jaxalloc.Study`. They return a `plotly.graph_objects.Figure` (extra ``report``). ``at`` is the number of
a point of a sweep's grid; by default it is the point with the settings that the sweep started from, see
`jaxalloc.settings.sweep.Sweep.home`. Weights, returns, volatilities and frequencies are fractions, shown in per cent.
"""

from __future__ import annotations

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

__all__ = [
    "bagged_weights",
    "bands",
    "boxes",
    "cluster_counts",
    "co_association",
    "correlation",
    "cuts",
    "dendrogram",
    "differences",
    "distributions",
    "drawdowns",
    "estimates",
    "holdings",
    "logits",
    "path_boxes",
    "path_wealth",
    "risks",
    "rolling_volatility",
    "sleeve",
    "sweep_heatmap",
    "treemap",
    "turnovers",
    "walk_heatmap",
    "wealth",
    "weights",
]
