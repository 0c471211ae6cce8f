"""Single figures of a study, for notebooks; `jaxalloc.write_report` puts them on one page.

Every function takes a `jaxalloc.Study` and returns a `plotly.graph_objects.Figure` (extra ``report``). ``at`` is a
point's number in a sweep's grid; by default the one that has the settings which the sweep started from, see
`jaxalloc.grid.Sweep.home`. Weights, volatilities and frequencies are fractions, shown in per cent.
"""

from __future__ import annotations

from jaxalloc.figures.clusters import cluster_counts, co_association, correlation, dendrogram
from jaxalloc.figures.portfolios import boxes, distributions, sleeve, weights
from jaxalloc.figures.sweeps import sweep_heatmap

__all__ = [
    "boxes",
    "cluster_counts",
    "co_association",
    "correlation",
    "dendrogram",
    "distributions",
    "sleeve",
    "sweep_heatmap",
    "weights",
]
