"""Figures of sweeps: a measure of the portfolios over the grid of settings."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import literal, plain_name, point_name, value_text
from jaxalloc.figures.canvas import canvas, check_profile, graph_objects
from jaxalloc.figures.comparisons import comparable
from jaxalloc.settings.measures import FIGURES, MEASURES, OF_CLUSTERS, UNIVERSE_MEASURE, WALK_MEASURE, Measure

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from jaxalloc.backtest.walk import WalkForward
    from jaxalloc.settings.sweep import Points
    from jaxalloc.studies.study import Study

_OF_CLUSTERS = tuple(measure.name for measure in OF_CLUSTERS)
_MOST_NUMBERS = 120  # cells that have their number written in them; more would be crowded


def sweep_heatmap(study: Study, measure: str = "volatility", profile: str | None = None) -> go.Figure:
    """Draw a measure of the portfolios at every point of a sweep's grid.

    Args:
        study: a study of a sweep.
        measure: one of `jaxalloc.settings.measures.MEASURES`, its mean over the universes; ``"n_clusters"``, the mean
            number of clusters; or ``"stability"``, the mean of `Study.cluster_stability` over the clusters.
        profile: one of the study's profiles. By default all of them, if one setting is swept. Measures of clusters have
            no profile.

    Returns:
        Figure: a heat map. Its columns are the values of the last setting; its rows are the values of the others or,
        where one setting is swept, the profiles.

    Raises:
        InputError: the study is no sweep, or the measure or the profile does not fit it.
    """
    settings = study.settings
    if not settings.names:
        raise InputError("the study is no sweep: there is one point of settings")
    if measure not in (*MEASURES, *_OF_CLUSTERS):
        raise InputError(f"there is no measure {literal(measure)}; choose from {', '.join((*MEASURES, *_OF_CLUSTERS))}")
    if measure in _OF_CLUSTERS:
        profile = None
        profiles: tuple[str, ...] = ("",)
    elif profile is not None:
        check_profile(study, profile)
        profiles = (profile,)
    elif len(settings.names) > 1:
        raise InputError(f"name the profile: a sweep of {len(settings.names)} settings has a heat map for each")
    else:
        profiles = study.profiles
    values = np.array([[_value(study, measure, name, k) for k in range(len(settings))] for name in profiles])
    return _heat_map(settings, profiles, values, UNIVERSE_MEASURE[measure])


def walk_heatmap(walk: WalkForward, measure: str = "sharpe", profile: str | None = None) -> go.Figure:
    """Draw a measure of the portfolios out of sample at every point of a sweep's grid.

    Args:
        walk: a walk-forward of a sweep.
        measure: one of the columns of `WalkForward.summary` that say something of returns or trading.
        profile: one of its profiles. By default all of them, if one setting is swept.

    Returns:
        Figure: a heat map like that of `sweep_heatmap`.

    Raises:
        InputError: the walk-forward is of no sweep, or the measure or the profile does not fit it.
    """
    settings, known = walk.settings, comparable(walk)
    if not settings.names:
        raise InputError("the walk-forward is of no sweep: there is one point of settings")
    if measure not in known:
        raise InputError(f"there is no measure {literal(measure)}; choose from {', '.join(known)}")
    if profile is None and len(settings.names) > 1:
        raise InputError(f"name the profile: a sweep of {len(settings.names)} settings has a heat map for each")
    chosen = walk.profiles if profile is None else (walk.profiles[walk.number(profile)],)
    values = [walk.history.figures[:, walk.number(name), FIGURES.index(measure)] for name in chosen]
    return _heat_map(settings, chosen, np.stack(values), WALK_MEASURE[measure])


def _heat_map(settings: Points, profiles: Sequence[str], values: np.ndarray, measure: Measure) -> go.Figure:
    """A heat map of (profiles, points) values; see `sweep_heatmap`."""
    *others, (last, columns) = settings.grid
    combinations = list(itertools.product(*(values for _, values in others)))
    values = values.reshape(len(profiles) * len(combinations), len(columns))
    names = [name for name, _ in others]
    rows = [point_name(names, chosen) or plain_name(profile) for profile in profiles for chosen in combinations]
    figure = canvas(110 + 34 * len(rows))
    finite = values[np.isfinite(values)]
    both = len(finite) and finite.min() < 0 < finite.max()
    figure.add_trace(
        graph_objects().Heatmap(
            z=[[float(f"{x:.5g}") if np.isfinite(x) else None for x in row] for row in values],
            autocolorscale=True,
            zmid=0 if both else None,
            xgap=2,
            ygap=2,
            texttemplate=f"%{{z:{measure.axis}}}" if values.size <= _MOST_NUMBERS else None,
            colorbar={"thickness": 10, "tickformat": measure.axis, "outlinewidth": 0},
            hovertemplate=f"{plain_name(last)} %{{x}}<br>%{{y}}<br>"
            f"{measure.words}: %{{z:{measure.axis}}}<extra></extra>",
        )
    )
    figure.update_xaxes(
        title=plain_name(last),
        tickvals=np.arange(len(columns)),
        ticktext=[value_text(value) for value in columns],
        showgrid=False,
        zeroline=False,
    )
    figure.update_yaxes(
        tickvals=np.arange(len(rows)), ticktext=rows, autorange="reversed", showgrid=False, zeroline=False
    )
    return figure


def _value(study: Study, measure: str, profile: str, number: int) -> float:
    """The measure at a point of the grid; NaN where no universe has it."""
    totals = study.totals[number]
    if measure == "n_clusters":
        counts = totals.tallies.n_clusters
        return float(counts @ np.arange(len(counts)) / counts.sum()) if counts.sum() else np.nan
    if measure == "stability":
        known = study.cluster_stability(number)["stability"].dropna().to_numpy(float)
        return float(known.mean()) if len(known) else np.nan
    p, m = study.profiles.index(profile), MEASURES.index(measure)
    return float(totals.measures.mean[p, m]) if totals.measures.count[p, m] else np.nan
