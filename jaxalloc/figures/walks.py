"""Figures of walk-forwards through time: wealth, drawdowns, volatility, turnover and holdings."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.numbers import whole_number
from jaxalloc.arguments.words import literal, plain_name
from jaxalloc.figures.canvas import MUTED, canvas, colour_of, faded, graph_objects, label
from jaxalloc.figures.comparisons import point_number, short
from jaxalloc.markets.dates import label_text

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from jaxalloc.backtest.walk import WalkForward

MOST_POINTS = 400  # points of a line; a screen shows no more
_MOST_REBALANCES = 150  # rebalances at which areas are drawn
_LONGEST = 18
# colours of stacked areas, from the bottom up
_AREAS = ("#2f7fd6", "#d9772b", "#2a9d74", "#a267d6", "#c2a21f", "#4aa8c0", "#c95b8b", "#6d78c9", "#7fa33a", "#b5543c")


def wealth(walk: WalkForward, *, log: bool = False, at: int | None = None) -> go.Figure:
    """Draw the growth of a wealth of 1, after costs.

    Args:
        walk: the walk-forward.
        log: whether the axis is logarithmic: equal heights are equal growth.
        at: point of a sweep's grid.

    Returns:
        Figure with a line for each profile, and a grey one for the benchmark if there is one; a long line is thinned to
        the lowest and highest value of each stretch.

    Raises:
        InputError: there is no such point, or no day on which portfolios are held.
    """
    _, net = _net(walk, at)
    figure = _lines(walk, np.cumprod(1 + _with_benchmark(walk, net), axis=1), ".3f")
    figure.update_yaxes(type="log" if log else "linear", tickformat="~g")
    return figure


def drawdowns(walk: WalkForward, *, at: int | None = None) -> go.Figure:
    """Draw how far wealth lies below its highest value so far.

    Args:
        walk: the walk-forward.
        at: point of a sweep's grid.

    Returns:
        Figure with a line for each profile, and a grey one for the benchmark if there is one, 0 at each new high.

    Raises:
        InputError: there is no such point, or no day on which portfolios are held.
    """
    _, net = _net(walk, at)
    grown = np.cumprod(1 + _with_benchmark(walk, net), axis=1)
    figure = _lines(walk, grown / np.maximum(np.maximum.accumulate(grown, axis=1), 1) - 1, ".1%")
    figure.update_yaxes(tickformat=".0%")
    return figure


def rolling_volatility(walk: WalkForward, *, days: int | None = None, at: int | None = None) -> go.Figure:
    """Draw the annual volatility of the returns after costs over a rolling window.

    Args:
        walk: the walk-forward.
        days: days of the window, at least 2; by default a quarter of a year, 63 business days.
        at: point of a sweep's grid.

    Returns:
        Figure with a line for each profile, from the day on which the first window ends.

    Raises:
        InputError: there is no such point, there are too few days, or ``days`` is out of range.
    """
    number, net = _net(walk, at)
    a = walk.settings.at(number).periods_per_year
    days = max(2, round(a / 4)) if days is None else whole_number("days", days, 2)
    if net.shape[1] < days:
        raise InputError(f"portfolios are held on {net.shape[1]} days, fewer than the {days} of the rolling volatility")
    volatility = pd.DataFrame(net.T).rolling(days).std().to_numpy()[days - 1 :].T * math.sqrt(a)
    figure = _lines(walk, volatility, ".1%", walk.days[days - 1 :])
    figure.update_yaxes(tickformat=".0%", rangemode="tozero")
    return figure


def turnovers(walk: WalkForward, *, at: int | None = None) -> go.Figure:
    """Draw the turnover of each rebalance: one-way, half of what is bought plus what is sold.

    Args:
        walk: the walk-forward.
        at: point of a sweep's grid.

    Returns:
        Figure with a line for each profile; the first rebalance is left out, because it buys the whole portfolio.

    Raises:
        InputError: there is no such point, or fewer than two rebalances.
    """
    number = point_number(walk, at)
    if walk.schedule.n_held < 2:
        raise InputError("turnover is drawn from the second rebalance on, and there is none")
    figure = _lines(walk, walk.history.turnover[number, :, 1:], ".1%", walk.rebalance_dates[1:])
    figure.update_yaxes(tickformat=".0%", rangemode="tozero")
    return figure


def holdings(
    walk: WalkForward, profile: str, *, by: str = "clusters", top: int = 9, at: int | None = None
) -> go.Figure:
    """Draw the weights bought at each rebalance, on top of each other.

    Args:
        walk: the walk-forward.
        profile: one of its profiles.
        by: ``"assets"`` shows assets. ``"clusters"`` sums weights over clusters; because clusters change from window to
            window, they are those of the last window that has any.
        top: how many assets or clusters have an area: those of the largest mean weight. The rest are one area.
        at: point of a sweep's grid.

    Returns:
        Figure with an area for each, the largest at the bottom, and the rest on top. What is missing to 100 % is cash.
        Where the rest holds most of the wealth, its area is cut off. A cluster is named after its asset of the largest
        mean weight. Of many rebalances, evenly spaced ones are drawn.

    Raises:
        InputError: there is no such profile or point, ``by`` is neither, or there is no rebalance.
    """
    p, number = walk.number(profile), point_number(walk, at)
    if by not in ("clusters", "assets"):
        raise InputError(f"by must be 'clusters' or 'assets', not {literal(by)}")
    whole_number("top", top, 1)
    weights = walk.history.weights[number, p]
    if not len(weights):
        raise InputError("no portfolio is held on any row, so there are no weights to draw")
    labels = _last_clusters(walk, number) if by == "clusters" else np.arange(len(walk.symbols))
    groups = [np.flatnonzero(labels == k) for k in range(labels.max(initial=-1) + 1)]
    outside = np.flatnonzero(labels < 0)  # assets in none of these clusters; they may have been held before
    sums = (
        np.stack([weights[:, members].sum(axis=1) for members in groups], axis=1)
        if groups
        else np.zeros((len(weights), 0))
    )
    order = np.argsort(-sums.mean(axis=0), kind="stable")
    order = order[sums.mean(axis=0)[order] > 0]
    shown = np.unique(np.linspace(0, len(weights) - 1, min(len(weights), _MOST_REBALANCES)).astype(int))
    figure = canvas(340, hovermode="x unified")
    dates = row_labels(walk.rebalance_dates[shown])
    for place, k in enumerate(order[:top]):
        members = groups[k]
        first = members[int(weights[:, members].mean(axis=0).argmax())]
        more = f" + {len(members) - 1}" if len(members) > 1 else ""
        _area(figure, dates, sums[shown, k], label(walk.symbols[first], _LONGEST) + more, _AREAS[place % len(_AREAS)])
    rest = sums[:, order[top:]].sum(axis=1) + weights[:, outside].sum(axis=1)
    if (rest > 0).any():
        count = len(order[top:])
        what = f"{count} more" if count else "others"
        _area(figure, dates, rest[shown], what, MUTED)
    named = float(sums[:, order[:top]].sum(axis=1).max(initial=0.0))
    # where hundreds of others hold nearly all, their area is cut off so that the named ones can be seen
    figure.update_yaxes(tickformat=".0%", range=[0, 1.0001 if named > 0.5 else 1.2 * named + 1e-4])
    return figure


def _area(figure: go.Figure, x: list[Any], values: np.ndarray, name: str, colour: str) -> None:
    shown = np.round(values, 4).tolist()
    line = {"width": 0.5, "color": colour}
    trace = graph_objects().Scatter(
        x=x, y=shown, name=name, stackgroup="weights", mode="lines", line=line, fillcolor=faded(colour, 0.7)
    )
    figure.add_trace(trace.update(hovertemplate="%{y:.1%}"))


def _last_clusters(walk: WalkForward, number: int) -> np.ndarray:
    """(N,) cluster labels of the last window that is a valid universe; -1 for all if there is none."""
    labels = walk.allocations.clusters(walk.settings.decided(number)).to_numpy()
    valid = np.flatnonzero((labels >= 0).any(axis=1))
    return labels[valid[-1]] if len(valid) else np.full(labels.shape[1], -1)


# ---- lines ----------------------------------------------------------------------------------------------------------


def _net(walk: WalkForward, at: int | None) -> tuple[int, np.ndarray]:
    """The point's number, and (P, D) net returns."""
    number = point_number(walk, at)
    net = walk.history.net[number]
    if not net.shape[1]:
        raise InputError("portfolios are held on no row: the panel ends with the first window")
    return number, net


def _with_benchmark(walk: WalkForward, net: np.ndarray) -> np.ndarray:
    """(P, D) net returns, and below them the benchmark's if there is one."""
    return net if walk.benchmark is None else np.vstack([net, walk.benchmark_returns.to_numpy()])


def _lines(walk: WalkForward, values: np.ndarray, shape: str, index: pd.Index | None = None) -> go.Figure:
    """A figure with a line for each profile of (P, rows) values over time, and for the benchmark of (P + 1, rows)."""
    figure, go = canvas(360), graph_objects()
    index = walk.days if index is None else index
    lines = [(plain_name(profile), colour_of(profile)) for profile in walk.profiles]
    if walk.benchmark is not None and len(values) > len(lines):
        lines.append((label(walk.benchmark.name, _LONGEST), MUTED))
    for (name, colour), series in zip(lines, values, strict=True):
        kept = thinned(series, MOST_POINTS)
        figure.add_trace(
            go.Scatter(
                x=row_labels(index[kept]),
                y=[short(value) for value in series[kept]],
                mode="lines",
                line={"color": colour, "width": 1.6},
                name=name,
                hovertemplate=f"%{{fullData.name}}<br>%{{x}}: %{{y:{shape}}}<extra></extra>",
            )
        )
    return figure


def thinned(values: np.ndarray, most: int) -> np.ndarray:
    """Return the positions that a thinned line keeps: both ends, and the lowest and highest value of each stretch.

    Args:
        values: (D,).
        most: how many points the line may have, at least 4.

    Returns:
        Ascending positions; all of them if there are no more than ``most``.

    Example:
        >>> thinned(np.array([0.0, 3.0, 1.0, 2.0, -1.0, 0.5, 0.0]), 6).tolist()
        [0, 1, 3, 4, 6]
    """
    n = len(values)
    if n <= most:
        return np.arange(n)
    edges = np.linspace(0, n, (most - 2) // 2 + 1).astype(int)
    stretches = [(a, np.where(np.isnan(values[a:b]), 0, values[a:b])) for a, b in itertools.pairwise(edges)]
    places = [a + pick(part) for a, part in stretches for pick in (np.argmin, np.argmax)]
    return np.unique([0, *places, n - 1])


def row_labels(index: pd.Index) -> list[Any]:
    """Return row labels for an axis: dates as text, numbers as they are."""
    if pd.api.types.is_numeric_dtype(index.dtype):
        return index.tolist()
    return [label(label_text(value)) for value in index]
