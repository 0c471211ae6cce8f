"""Figures of portfolios: weights and their spread, distributions of measures, the barbell's sleeve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import literal, plain_name
from jaxalloc.figures.canvas import (
    MUTED,
    canvas,
    check_profile,
    colour_of,
    faded,
    graph_objects,
    label,
    point_of,
    style,
)
from jaxalloc.figures.names import cluster_colours, cluster_name, marked
from jaxalloc.portfolios.result import valid_universes
from jaxalloc.portfolios.tables import asset_table, cluster_table
from jaxalloc.settings.measures import MEASURES, UNIVERSE_MEASURE
from jaxalloc.studies.histogram import MEASURE_BINS, bin_edges
from jaxalloc.studies.totals import POSITIVE_WEIGHT

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from jaxalloc.studies.study import Study

_LONGEST = 18
_UNITS = 10**6  # of an area: a millionth of the portfolio
_ON_COLOURS = "#10151d"  # text that is read on every cluster's colour
_BARS = 48  # of a histogram
_DRAWN = 0.98  # the share of a distribution that is drawn: extreme values would squeeze the rest
# pairs that share an axis, because they are compared: in sample and out of bag
_ONE_AXIS = (("volatility", "out_of_bag_volatility"), ("sharpe", "out_of_bag_sharpe"))


def weights(study: Study, profile: str, *, top: int = 25, at: int | None = None) -> go.Figure:
    """Draw the point estimate's weights, and how far they move over the universes.

    Args:
        study: the study.
        profile: one of its profiles.
        top: how many assets are shown: those of the largest weights, in the estimate or on average.
        at: point of a sweep's grid.

    Returns:
        Figure with a row for each asset, the heaviest on top: the estimate (dot), the weights in the middle half of the
        universes (thick line) and those from 5 to 95 % (thin line). Lead assets' names are in bold, after a square of
        their cluster's colour. A dotted line marks the largest weight that an asset may have.

    Raises:
        InputError: the study has no such profile or point.
    """
    position, number = check_profile(study, profile), point_of(study, at)
    table: Any = heaviest(study.summary(number).loc[profile], top)
    lead = _leads(study, profile, number)
    go, n = graph_objects(), len(table)
    rows = np.arange(n)[::-1]  # the first on top
    figure = canvas(90 + 21 * n)
    colour = colour_of(profile)
    for low, high, width, opacity, name in (
        ("q05", "q95", 2, 0.55, "5 to 95 % of universes"),
        ("q25", "q75", 8, 0.4, "middle half"),
    ):
        x = [value for a, b in zip(table[low], table[high], strict=True) for value in (_round(a), _round(b), None)]
        y = [value for row in rows.tolist() for value in (row, row, None)]
        line = {"color": faded(colour, opacity), "width": width}
        figure.add_trace(go.Scatter(x=x, y=y, mode="lines", line=line, name=name, hoverinfo="skip"))
    columns = ["mean", "q05", "q50", "q95", "frequency_lead", "frequency_positive"]
    figure.add_trace(
        go.Scatter(
            x=[_round(value) for value in table["point"]],
            y=rows,
            mode="markers",
            marker={"color": colour, "size": 8, "line": {"width": 1, "color": "rgba(255,255,255,0.8)"}},
            name="estimate",
            text=[label(symbol, 60) for symbol in table.index],
            customdata=np.round(table[columns].to_numpy(float), 4).tolist(),
            hovertemplate="<b>%{text}</b><br>estimate %{x:.2%}<br>mean %{customdata[0]:.2%}, median "
            "%{customdata[2]:.2%}<br>5 to 95 %: %{customdata[1]:.2%} to %{customdata[3]:.2%}<br>held in "
            "%{customdata[5]:.0%}, leads its cluster in %{customdata[4]:.0%}<extra></extra>",
        )
    )
    inks = _inks(study, number)
    names = [marked(label(s, _LONGEST), inks[s], bold=bool(lead.get(s, False))) for s in table.index]
    figure.update_yaxes(range=[-0.6, n - 0.4], tickvals=rows, ticktext=names, showgrid=False, zeroline=False)
    figure.update_xaxes(tickformat=".0%" if table["q95"].max() >= 0.05 else ".1%", rangemode="tozero")
    bound = float(study.estimate(number).asset_bound[position])
    largest = float(np.nanmax(table[["point", "q95"]].to_numpy(float), initial=0.0))
    if np.isfinite(bound) and bound <= 1.3 * largest:
        figure.add_vline(x=bound, line={"dash": "dot", "width": 1.5})
    return figure


def risks(study: Study, profile: str, *, top: int = 12, at: int | None = None) -> go.Figure:
    """Draw the clusters of the point estimate: their weight, and beside it their share of the portfolio's risk.

    Args:
        study: the study.
        profile: one of its profiles.
        top: how many clusters are shown: the heaviest of those that have a weight.
        at: point of a sweep's grid.

    Returns:
        Figure with two bars for each cluster, in its colour, the heaviest on top, named by its heaviest members.

    Raises:
        InputError: the study has no such profile or point, or the whole panel is no valid universe.
    """
    check_profile(study, profile)
    number = point_of(study, at)
    estimate, config = study.estimate(number), study.settings.at(number)
    if not valid_universes(estimate.status):
        raise InputError("the whole panel is no valid universe: there is no portfolio")
    assets: Any = asset_table(estimate, profile, config, study.symbols)
    totals: Any = cluster_table(estimate, profile, config, study.symbols)
    totals = totals[totals["weight"] > POSITIVE_WEIGHT].head(top)
    members = [assets.loc[assets["cluster"] == cluster, "symbol"].tolist() for cluster in totals["cluster"]]
    names = [cluster_name(symbols, _LONGEST) for symbols in members]
    go, n = graph_objects(), len(totals)
    figure = canvas(70 + 30 * n, barmode="group", bargap=0.25, bargroupgap=0.05)
    rows = np.arange(n)[::-1]  # the first on top
    colours = cluster_colours(estimate.cluster_labels)
    inks = [colours[int(cluster)] for cluster in totals["cluster"]]
    # the last trace is drawn on top
    for column, name, colour in (
        ("risk_contribution", "share of the risk, pale", [faded(ink, 0.45) for ink in inks]),
        ("weight", "weight", inks),
    ):
        figure.add_trace(
            go.Bar(
                x=[_round(value) for value in totals[column]],
                y=rows,
                orientation="h",
                name=name,
                marker={"color": colour},
                text=names,
                textposition="none",
                hovertemplate=f"<b>%{{text}}</b><br>{name.split(',')[0]} %{{x:.1%}}<extra></extra>",
            )
        )
    figure.update_yaxes(range=[-0.6, n - 0.4], tickvals=rows, ticktext=names, showgrid=False, zeroline=False)
    figure.update_xaxes(tickformat=".0%", rangemode="tozero")
    figure.update_layout(legend={"traceorder": "reversed"})
    return figure


def treemap(study: Study, profile: str, *, at: int | None = None) -> go.Figure:
    """Draw the point estimate's portfolio as a map: an area for each asset, inside that of its cluster.

    Args:
        study: the study.
        profile: one of its profiles.
        at: point of a sweep's grid.

    Returns:
        Figure: areas are weights, colours are the clusters', hover texts have the shares of the risk. What has no
        weight has no area.

    Raises:
        InputError: as `risks`.
    """
    check_profile(study, profile)
    number = point_of(study, at)
    estimate, config = study.estimate(number), study.settings.at(number)
    if not valid_universes(estimate.status):
        raise InputError("the whole panel is no valid universe: there is no portfolio")
    table: Any = asset_table(estimate, profile, config, study.symbols)
    table = table[table["weight"] > POSITIVE_WEIGHT]
    colours = cluster_colours(estimate.cluster_labels)
    tiles: dict[str, list[Any]] = {key: [] for key in ("ids", "labels", "parents", "values", "colors", "risks")}

    def add(tile: str, name: str, parent: str, rows: Any, colour: str) -> None:
        # a cluster's area is the sum of its assets' to the last digit, or nothing is drawn
        weight = int(np.rint(rows["weight"] * _UNITS).sum()) / _UNITS
        risk = round(float(rows["risk_contribution"].sum()), 5)
        for key, value in zip(tiles, (tile, name, parent, weight, colour, risk), strict=True):
            tiles[key].append(value)

    for cluster, members in table.groupby("cluster", sort=False):
        colour, parent = colours[int(cluster)], ""
        if len(members) > 1:
            parent = f"cluster {cluster}"
            add(parent, cluster_name(members["symbol"].tolist(), _LONGEST), "", members, colour)
        for row in members.index:
            add(f"asset {row}", label(members["symbol"][row], _LONGEST), parent, members.loc[[row]], colour)
    figure = canvas(340)
    figure.add_trace(
        graph_objects().Treemap(
            ids=tiles["ids"],
            labels=tiles["labels"],
            parents=tiles["parents"],
            values=tiles["values"],
            customdata=tiles["risks"],
            branchvalues="total",
            marker={"colors": tiles["colors"], "line": {"width": 1, "color": "rgba(255,255,255,0.7)"}},
            textfont={"color": _ON_COLOURS},
            pathbar={"visible": False},
            texttemplate="%{label}<br>%{value:.1%}",
            hovertemplate="<b>%{label}</b><br>weight %{value:.1%}<br>"
            "share of the risk %{customdata:.1%}<extra></extra>",
        )
    )
    return figure


def boxes(study: Study, *, top: int = 12, at: int | None = None) -> go.Figure:
    """Draw box plots of the weights over the universes, the profiles next to each other.

    Args:
        study: the study.
        top: how many assets are shown: those of the largest mean weight in any profile.
        at: point of a sweep's grid.

    Returns:
        Figure with a box for each asset and profile: quartiles, median, mean (dashed) and whiskers from 5 to 95 %.

    Raises:
        InputError: the study has no such point.
    """
    number = point_of(study, at)
    summary = study.summary(number)
    by_profile = {profile: summary.loc[profile] for profile in study.profiles}
    means = np.stack([table["mean"].to_numpy(float) for table in by_profile.values()])
    shown = np.argsort(-np.nan_to_num(means).max(axis=0), kind="stable")[:top]
    go, n = graph_objects(), len(shown)
    rows = np.arange(n)  # downwards, and so are the profiles in each
    figure = canvas(110 + n * (14 + 13 * len(study.profiles)), boxmode="group", boxgap=0.25)
    for profile, table in by_profile.items():
        part = table.iloc[shown].round(5)
        colour = colour_of(profile)
        figure.add_trace(
            go.Box(
                y=rows,
                q1=part["q25"].tolist(),
                median=part["q50"].tolist(),
                q3=part["q75"].tolist(),
                mean=part["mean"].tolist(),
                lowerfence=part["q05"].tolist(),
                upperfence=part["q95"].tolist(),
                orientation="h",
                name=plain_name(profile),
                marker_color=colour,
                line={"width": 1.5},
                fillcolor=faded(colour, 0.3),
                text=[label(symbol, 60) for symbol in part.index],
                hoverinfo="x+name",
                xhoverformat=".2%",
            )
        )
    inks = _inks(study, number)
    names = [marked(label(study.symbols[k], _LONGEST), inks[study.symbols[k]]) for k in shown]
    figure.update_yaxes(range=[n - 0.4, -0.6], tickvals=rows, ticktext=names, showgrid=False, zeroline=False)
    figure.update_xaxes(tickformat=".0%", rangemode="tozero")
    return figure


def distributions(
    study: Study,
    measures: Sequence[str] = ("volatility", "sharpe", "out_of_bag_sharpe", "effective_clusters", "effective_assets"),
    *,
    at: int | None = None,
) -> go.Figure:
    """Draw the distributions of measures of the portfolios over the universes.

    Args:
        study: the study.
        measures: some of `jaxalloc.settings.measures.MEASURES`; `Study.profile_summary` explains them.
        at: point of a sweep's grid.

    Returns:
        Figure with a panel for each measure: the share of universes in bins of equal width, from the study's own
        histogram, and the point estimate as a dotted line. A measure that no universe has is left out. Volatilities in
        sample and out of bag share an axis, and so do Sharpe ratios.

    Raises:
        InputError: a measure or the point is unknown, or no universe has any of the measures.
    """
    unknown = [measure for measure in measures if measure not in MEASURES]
    if unknown:
        raise InputError(f"there is no measure {literal(unknown[0])}; choose from {', '.join(MEASURES)}")
    number = point_of(study, at)
    totals = study.totals[number]
    shown = [measure for measure in measures if totals.measures.count[:, MEASURES.index(measure)].any()]
    if not shown:
        raise InputError(f"no universe has {', '.join(measures)}")
    graph_objects()
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=len(shown), cols=1, vertical_spacing=0.32 / len(shown))
    style(figure, 60 + 200 * len(shown))
    estimates: dict[Any, Any] = study.profile_summary(number)["point"].to_dict()
    histograms = {measure: totals.counts.measures[:, MEASURES.index(measure)] for measure in shown}
    ranges = {measure: _drawn_range(histograms[measure]) for measure in shown}
    for row, measure in enumerate(shown, 1):
        alike = next((pair for pair in _ONE_AXIS if measure in pair), (measure,))
        low, high = min(ranges[k][0] for k in alike if k in shown), max(ranges[k][1] for k in alike if k in shown)
        words, shape = UNIVERSE_MEASURE[measure].words, UNIVERSE_MEASURE[measure].axis
        for profile, histogram in zip(study.profiles, histograms[measure], strict=True):
            estimate = float(estimates[profile, measure])
            if measure == "turnover" or not low <= estimate <= high:  # the estimate's turnover from itself is 0
                estimate = math.nan
            _add_histogram(figure, row, profile, histogram, np.linspace(low, high, _BARS + 1), estimate, shape)
        figure.update_xaxes(tickformat=shape.replace(".1%", ".0%" if high - low > 0.05 else ".1%"), row=row, col=1)
        figure.update_xaxes(range=[low, high], title=words, row=row, col=1)
        figure.update_yaxes(tickformat=".0%", rangemode="tozero", nticks=4, row=row, col=1)
    return figure


def _add_histogram(
    figure: go.Figure, row: int, profile: str, histogram: np.ndarray, edges: np.ndarray, estimate: float, shape: str
) -> None:
    """Add a profile's distribution to a panel, and a dotted line at the estimate unless that is NaN."""
    go, name, colour = graph_objects(), plain_name(profile), colour_of(profile)
    place: dict[str, Any] = {"row": row, "col": 1}
    share = rebinned(histogram, edges)
    steps = go.Scatter(
        x=[float(f"{x:.5g}") for x in (edges[:-1] + edges[1:]) / 2],
        y=np.round(share, 4).tolist(),
        mode="lines",
        line={"shape": "hvh", "color": colour, "width": 1.5},
        fill="tozeroy",
        fillcolor=faded(colour, 0.15),
        name=name,
        legendgroup=profile,
        showlegend=row == 1,
        hovertemplate=f"{name}<br>%{{x:{shape}}}: %{{y:.1%}} of universes<extra></extra>",
    )
    figure.add_trace(steps, **place)
    if not math.isnan(estimate):
        dotted = go.Scatter(
            x=[estimate, estimate],
            y=[0, round(float(share.max()), 4)],
            mode="lines",
            line={"color": colour, "width": 2, "dash": "dot"},
            legendgroup=profile,
            showlegend=False,
            name=f"{name}, estimate",
            hovertemplate=f"{name}, estimate: %{{x:{shape}}}<extra></extra>",
        )
        figure.add_trace(dotted, **place)


def sleeve(study: Study, *, top: int = 25, at: int | None = None) -> go.Figure:
    """Draw how often each asset was in the barbell's sleeve.

    Args:
        study: a study with the profile barbell.
        top: how many assets are shown: the most frequent ones, and all of the estimate's sleeve.
        at: point of a sweep's grid.

    Returns:
        Figure with a bar for each asset: in what share of the universes where it is active it is in the sleeve. The
        assets of the point estimate's sleeve are in colour.

    Raises:
        InputError: the study has no barbell, or no such point.
    """
    check_profile(study, "barbell")
    number = point_of(study, at)
    table = study.summary(number).loc["barbell"]
    aggressors = study.estimate(number).aggressors
    share = np.nan_to_num(table["frequency_sleeve"].to_numpy(float))
    shown = np.lexsort((-share, ~aggressors))  # the estimate's own sleeve is always shown
    shown = shown[: max(top, int(aggressors.sum()))]
    shown = shown[(share[shown] > 0) | aggressors[shown]]
    shown = shown[np.argsort(-share[shown], kind="stable")]
    go, n = graph_objects(), len(shown)
    rows = np.arange(n)[::-1]
    figure = canvas(70 + 21 * max(n, 1), barmode="overlay", bargap=0.3)
    for inside, colour, name in ((True, colour_of("barbell"), "in the estimate's sleeve"), (False, MUTED, "not in it")):
        chosen = aggressors[shown] == inside
        figure.add_trace(
            go.Bar(
                x=np.round(share[shown][chosen], 4),
                y=rows[chosen],
                orientation="h",
                marker_color=colour,
                name=name,
                text=[label(study.symbols[k], 60) for k in shown[chosen]],
                textposition="none",
                hovertemplate="%{text}: in the sleeve in %{x:.1%} of universes<extra></extra>",
            )
        )
    inks = _inks(study, number)
    names = [marked(label(study.symbols[k], _LONGEST), inks[study.symbols[k]], bold=bool(aggressors[k])) for k in shown]
    figure.update_yaxes(range=[-0.6, n - 0.4], tickvals=rows, ticktext=names, showgrid=False, zeroline=False)
    figure.update_xaxes(tickformat=".0%", range=[0, min(1.0, float(share.max(initial=0.0)) * 1.05 + 0.02)])
    return figure


# ---- numbers --------------------------------------------------------------------------------------------------------


def heaviest(table: pd.DataFrame, top: int) -> pd.DataFrame:
    """Return the heaviest rows of an asset summary, in the estimate or on average, sorted by the estimate's weight."""
    point, mean = table["point"].fillna(0).to_numpy(float), table["mean"].fillna(0).to_numpy(float)
    chosen = np.argsort(-np.maximum(point, mean), kind="stable")[:top]
    return table.iloc[chosen[np.lexsort((-mean[chosen], -point[chosen]))]]


def rebinned(histogram: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the shares of a histogram of `MEASURE_BINS` in other bins; a bin that an edge cuts is split evenly.

    Args:
        histogram: (bins,) counts.
        edges: (E,) ascending.

    Returns:
        (E - 1,) fractions of all counts; all 0 if there are none.
    """
    total = histogram.sum()
    if not total:
        return np.zeros(len(edges) - 1)
    low, high = bin_edges(MEASURE_BINS)
    held = np.flatnonzero(histogram)
    width = np.maximum((high - low)[held], np.finfo(float).tiny)  # the bin of 0 has none
    inside = np.clip((edges[:, None] - low[held]) / width, 0, 1)
    inside[-1, high[held] == edges[-1]] = 1
    return np.diff(inside @ histogram[held]) / total


def _drawn_range(histograms: np.ndarray) -> tuple[float, float]:
    """The range over which the profiles' histograms (P, bins) are drawn."""
    low, high = bin_edges(MEASURE_BINS)
    starts, stops = [], []
    for histogram in histograms:
        if histogram.any():
            below = histogram.cumsum() / histogram.sum()
            starts.append(low[np.searchsorted(below, (1 - _DRAWN) / 2, side="right")])
            stops.append(high[min(np.searchsorted(below, 1 - (1 - _DRAWN) / 2), len(high) - 1)])
    first, last = min(starts), max(stops)
    room = 0.03 * (last - first) or 0.01 * abs(first) or 1e-6
    return float(first - room), float(last + room)


def _leads(study: Study, profile: str, number: int) -> dict[Any, bool]:
    try:
        table = asset_table(study.estimate(number), profile, study.settings.at(number), study.symbols)
    except InputError:  # the whole panel is no valid universe
        return {}
    return dict(zip(table["symbol"], table["lead"], strict=True))


def _inks(study: Study, number: int) -> dict[Any, str]:
    """The colour of each asset's cluster in the estimate, by symbol."""
    labels = study.estimate(number).cluster_labels
    colours = cluster_colours(labels)
    return {symbol: colours[int(k)] for symbol, k in zip(study.symbols, labels, strict=True)}


def _round(value: float) -> float | None:
    return round(float(value), 5) if np.isfinite(value) else None
