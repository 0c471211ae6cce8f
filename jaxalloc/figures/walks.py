"""Figures of walk-forwards: wealth and what became of it, rebalance by rebalance, differences, paths, holdings."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from jaxalloc.backtest.performance import COMPARED
from jaxalloc.checks import whole_number
from jaxalloc.errors import InputError
from jaxalloc.figures.canvas import MUTED, canvas, colour_of, faded, graph_objects, label, plain_name, style
from jaxalloc.tables import label_text

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from jaxalloc.backtest.results import WalkForward

# measure -> its name in words, and Plotly's format of its values
WALK_WORDS = {
    "annual_return": ("Return, annual", ".1%"),
    "volatility": ("Volatility, annual", ".1%"),
    "sharpe": ("Sharpe ratio", ".2f"),
    "sortino": ("Sortino ratio", ".2f"),
    "max_drawdown": ("Largest drawdown", ".1%"),
    "calmar": ("Calmar ratio", ".2f"),
    "turnover": ("Turnover a year", ".0%"),
    "cost": ("Cost a year", ".2%"),
    "effective_bets": ("Effective number of bets", ".3~g"),
    "tracking_error": ("Tracking error, annual", ".1%"),
}
_MOST_POINTS = 400  # of a line: more than a screen shows apart
_MOST_REBALANCES = 150  # that areas are drawn at
_DIGITS = 5
_LONGEST = 18
# what tells areas apart that lie on each other, from the bottom up; the last is for what is left
_AREAS = ("#2f7fd6", "#d9772b", "#2a9d74", "#a267d6", "#c2a21f", "#4aa8c0", "#c95b8b", "#6d78c9", "#7fa33a", "#b5543c")


def wealth(walk: WalkForward, *, log: bool = False, at: int | None = None) -> go.Figure:
    """Draw what a wealth of 1 became, after costs.

    Args:
        walk: the walk-forward.
        log: whether equal heights are equal growth.
        at: point of a sweep's grid.

    Returns:
        Figure with a line a profile; long ones are thinned to each stretch's lowest and highest value.

    Raises:
        InputError: there is no such point, or no day on which portfolios are held.
    """
    _, net = _net(walk, at)
    figure = _lines(walk, np.cumprod(1 + net, axis=1), ".3f")
    figure.update_yaxes(type="log" if log else "linear", tickformat="~g")
    return figure


def drawdowns(walk: WalkForward, *, at: int | None = None) -> go.Figure:
    """Draw how far wealth lies below its highest until then: the lines of `wealth`, as losses.

    Args:
        walk: the walk-forward.
        at: point of a sweep's grid.

    Returns:
        Figure with a line a profile, 0 at each new high.

    Raises:
        InputError: there is no such point, or no day on which portfolios are held.
    """
    _, net = _net(walk, at)
    grown = np.cumprod(1 + net, axis=1)
    figure = _lines(walk, grown / np.maximum(np.maximum.accumulate(grown, axis=1), 1) - 1, ".1%")
    figure.update_yaxes(tickformat=".0%")
    return figure


def rolling_volatility(walk: WalkForward, *, days: int = 63, at: int | None = None) -> go.Figure:
    """Draw the annual volatility of the returns after costs over so many days, up to each.

    Args:
        walk: the walk-forward.
        days: of the rolling window, at least 2; 63 is a quarter.
        at: point of a sweep's grid.

    Returns:
        Figure with a line a profile, from the first day that has so many behind it.

    Raises:
        InputError: there is no such point, too few days, or ``days`` is none.
    """
    number, net = _net(walk, at)
    days = whole_number("days", days, 2)
    if net.shape[1] < days:
        raise InputError(f"portfolios are held on {net.shape[1]} days, fewer than the {days} of the rolling volatility")
    a = walk.settings.at(number).periods_per_year
    found = pd.DataFrame(net.T).rolling(days).std().to_numpy()[days - 1 :].T * math.sqrt(a)
    figure = _lines(walk, found, ".1%", walk.days[days - 1 :])
    figure.update_yaxes(tickformat=".0%", rangemode="tozero")
    return figure


def turnovers(walk: WalkForward, *, at: int | None = None) -> go.Figure:
    """Draw the turnover of each rebalance, sum |target - drifted|.

    Args:
        walk: the walk-forward.
        at: point of a sweep's grid.

    Returns:
        Figure with a line a profile; the first rebalance is left out, for it buys the whole portfolio.

    Raises:
        InputError: there is no such point, or fewer than two rebalances.
    """
    number = _point(walk, at)
    if walk.schedule.n_held < 2:
        raise InputError("turnover is drawn from the second rebalance on, and there is none")
    figure = _lines(walk, walk.history.turnover[number, :, 1:], ".1%", walk.rebalance_dates[1:])
    figure.update_yaxes(tickformat=".0%", rangemode="tozero")
    return figure


def differences(walk: WalkForward, base: str | None = None, *, at: int | None = None) -> go.Figure:
    """Draw how each profile differs from another one, with 95 % intervals.

    Args:
        walk: the walk-forward.
        base: the profile to compare with, by default `WalkForward.base`. If there is one profile alone, the points of a
            sweep are compared with its point `Sweep.home`.
        at: point of a sweep's grid, if there are several profiles.

    Returns:
        Figure with a panel for each of return, volatility and Sharpe ratio: the difference (dot; open where its
        interval contains 0) and the interval (line), from `WalkForward.differences`.

    Raises:
        InputError: there is nothing to compare, too few days, or no such profile or point.
    """
    table = difference_table(walk, base, _point(walk, at))
    found: Any = table.index.droplevel("measure").unique()
    keys = [key if isinstance(key, tuple) else (key,) for key in found]
    names = [series_name(walk, key) for key in keys]
    colours = [colour_of(str(key[-1])) for key in keys]
    rows = np.arange(len(keys))[::-1]
    figure = _panels(len(COMPARED), 26 * len(keys))
    go = graph_objects()
    for panel, measure in enumerate(COMPARED, 1):
        words, shape = WALK_WORDS[measure]
        part: Any = table.xs(measure, level="measure")
        low, high, centre = (part[name].round(_DIGITS).to_numpy(float) for name in ("low", "high", "difference"))
        for name, colour, row, a, b in zip(names, colours, rows.tolist(), low, high, strict=True):
            line = {"color": faded(colour, 0.6), "width": 3}
            trace = go.Scatter(x=[a, b], y=[row, row], mode="lines", line=line, name=name, hoverinfo="skip")
            figure.add_trace(trace, row=panel, col=1)
        contains = (low <= 0) & (high >= 0)
        marker = {"color": colours, "size": 9, "symbol": ["circle-open" if c else "circle" for c in contains]}
        marker["line"] = {"width": 2, "color": colours}
        text = [
            f"{name}<br>{100 * share:.0f} % of resamples above 0"
            for name, share in zip(names, part["share_above"], strict=True)
        ]
        figure.add_trace(
            go.Scatter(
                x=centre,
                y=rows,
                mode="markers",
                marker=marker,
                text=text,
                customdata=np.stack([low, high], axis=1).tolist(),
                hovertemplate=f"%{{text}}<br>difference %{{x:{shape}}}<br>95 %: %{{customdata[0]:{shape}}} to "
                f"%{{customdata[1]:{shape}}}<extra></extra>",
            ),
            row=panel,
            col=1,
        )
        ends = np.nan_to_num([min(np.nanmin(low, initial=0), 0), max(np.nanmax(high, initial=0), 0)])
        room = 0.04 * (ends[1] - ends[0]) or 0.01
        axis: dict[str, Any] = {"range": [ends[0] - room, ends[1] + room], "tickformat": _axis(shape)}
        figure.update_xaxes(title=f"{words}: difference", row=panel, col=1, **axis)
        figure.add_shape(
            {
                "type": "line",
                "x0": 0,
                "x1": 0,
                "y0": 0,
                "y1": 1,
                "yref": "y domain",
                "line": {"width": 1.5, "dash": "dot"},
            },
            row=panel,
            col=1,
        )
        _name_rows(figure, panel, names)
    figure.update_layout(showlegend=False)
    return figure


def path_boxes(
    walk: WalkForward,
    measures: Sequence[str] = ("annual_return", "volatility", "sharpe", "max_drawdown"),
    *,
    at: int | None = None,
) -> go.Figure:
    """Draw box plots of the profiles' figures over the resampled paths.

    Args:
        walk: a walk-forward with paths.
        measures: some of the columns of `WalkForward.paths`.
        at: point of a sweep's grid.

    Returns:
        Figure with a panel a measure and a box a profile: quartiles, median, mean (dashed), whiskers from 5 to 95 %;
        what happened is a diamond.

    Raises:
        InputError: there are no paths, no such point, or no such measure.
    """
    known = [name for name in walk.shown if name in WALK_WORDS]
    unknown = [name for name in measures if name not in known]
    if unknown:
        raise InputError(f"there is no measure {unknown[0]!r}; choose from {', '.join(known)}")
    number = _point(walk, at)
    table = walk.path_quantiles(at=number)
    go, n = graph_objects(), len(walk.profiles)
    figure = _panels(len(measures), 30 * n)
    rows = np.arange(n)[::-1]
    for panel, measure in enumerate(measures, 1):
        words, shape = WALK_WORDS[measure]
        for profile, row in zip(walk.profiles, rows.tolist(), strict=True):
            spread = table.loc[(profile, measure)].astype(float).round(_DIGITS).to_dict()
            colour = colour_of(profile)
            if spread["n_paths"]:
                box = {
                    "q1": "q25",
                    "median": "q50",
                    "q3": "q75",
                    "mean": "mean",
                    "lowerfence": "q05",
                    "upperfence": "q95",
                }
                figure.add_trace(
                    go.Box(
                        y=[row],
                        **{attribute: [spread[column]] for attribute, column in box.items()},
                        orientation="h",
                        name=plain_name(profile),
                        marker_color=colour,
                        line={"width": 1.5},
                        fillcolor=faded(colour, 0.3),
                        hoverinfo="x+name",
                        xhoverformat=shape,
                        width=0.6,
                    ),
                    row=panel,
                    col=1,
                )
        happened = [float(table.loc[(profile, measure), "history"]) for profile in walk.profiles]
        figure.add_trace(
            go.Scatter(
                x=[_short(value) for value in happened],
                y=rows,
                mode="markers",
                marker={"symbol": "diamond", "size": 9, "color": [colour_of(name) for name in walk.profiles]}
                | {"line": {"width": 1, "color": "rgba(255,255,255,0.8)"}},
                text=[plain_name(profile) for profile in walk.profiles],
                hovertemplate=f"%{{text}}, as it happened: %{{x:{shape}}}<extra></extra>",
            ),
            row=panel,
            col=1,
        )
        figure.update_xaxes(title=words, tickformat=_axis(shape), row=panel, col=1)
        names = [plain_name(profile) for profile in walk.profiles]
        _name_rows(figure, panel, names)
    figure.update_layout(showlegend=False)
    return figure


def holdings(
    walk: WalkForward, profile: str, *, by: str = "clusters", top: int = 9, at: int | None = None
) -> go.Figure:
    """Draw the weights bought at each rebalance, on top of each other.

    Args:
        walk: the walk-forward.
        profile: one of its profiles.
        by: ``"clusters"`` adds up the weights of the assets of each cluster of the last window that has any, for
            clusters change from window to window and have no names; ``"assets"`` shows assets.
        top: so many of them, those of the largest mean weight; the rest are one area.
        at: point of a sweep's grid.

    Returns:
        Figure with an area for each, the largest at the bottom, and the rest on top; what lacks to 100 % is cash. A
        cluster is named after the asset in it of the largest mean weight. Of many rebalances some are left out, evenly.

    Raises:
        InputError: there is no such profile or point, ``by`` is neither, or there is no rebalance.
    """
    p, number = walk.number(profile), _point(walk, at)
    if by not in ("clusters", "assets"):
        raise InputError(f"by must be 'clusters' or 'assets', not {by!r}")
    whole_number("top", top, 1)
    weights = walk.history.weights[number, p]
    if not len(weights):
        raise InputError("no portfolio is held on any row, so there are no weights to draw")
    labels = _last_clusters(walk, number) if by == "clusters" else np.arange(len(walk.symbols))
    groups = [np.flatnonzero(labels == k) for k in range(labels.max(initial=-1) + 1)]
    outside = np.flatnonzero(labels < 0)  # of the last window, yet held before
    sums = (
        np.stack([weights[:, members].sum(axis=1) for members in groups], axis=1)
        if groups
        else np.zeros((len(weights), 0))
    )
    order = np.argsort(-sums.mean(axis=0), kind="stable")
    order = order[sums.mean(axis=0)[order] > 0]
    shown = np.unique(np.linspace(0, len(weights) - 1, min(len(weights), _MOST_REBALANCES)).astype(int))
    figure = canvas(340, hovermode="x unified")
    dates = _labels(walk.rebalance_dates[shown])
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
    figure.update_yaxes(tickformat=".0%", range=[0, 1.0001])
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
    labels = walk.allocations.clusters(number).to_numpy()
    valid = np.flatnonzero((labels >= 0).any(axis=1))
    return labels[valid[-1]] if len(valid) else np.full(labels.shape[1], -1)


# ---- lines ----------------------------------------------------------------------------------------------------------


def _point(walk: WalkForward, at: int | None) -> int:
    number = walk.settings.home if at is None else at
    walk.target(walk.profiles[0], number)  # which says so if there is no such point
    return number


def _net(walk: WalkForward, at: int | None) -> tuple[int, np.ndarray]:
    """The point's number, and (P, D) net returns."""
    number = _point(walk, at)
    net = walk.history.net[number]
    if not net.shape[1]:
        raise InputError("portfolios are held on no row: the panel ends with the first window")
    return number, net


def _lines(walk: WalkForward, values: np.ndarray, shape: str, index: pd.Index | None = None) -> go.Figure:
    """A line a profile of (P, rows) values over time."""
    figure, go = canvas(360), graph_objects()
    index = walk.days if index is None else index
    for profile, series in zip(walk.profiles, values, strict=True):
        kept = thinned(series, _MOST_POINTS)
        name = plain_name(profile)
        figure.add_trace(
            go.Scatter(
                x=_labels(index[kept]),
                y=[_short(value) for value in series[kept]],
                mode="lines",
                line={"color": colour_of(profile), "width": 1.6},
                name=name,
                hovertemplate=f"{name}<br>%{{x}}: %{{y:{shape}}}<extra></extra>",
            )
        )
    return figure


def thinned(values: np.ndarray, most: int) -> np.ndarray:
    """Return which values a line of at most so many points keeps: the ends, each stretch's lowest and its highest.

    Args:
        values: (D,).
        most: at least 4.

    Returns:
        Ascending positions; all of them where there are not more.

    Example:
        >>> thinned(np.array([0.0, 3.0, 1.0, 2.0, -1.0, 0.5, 0.0]), 6).tolist()
        [0, 1, 4, 6]
    """
    n = len(values)
    if n <= most:
        return np.arange(n)
    edges = np.linspace(0, n, (most - 2) // 2 + 1).astype(int)
    stretches = [(a, np.where(np.isnan(values[a:b]), 0, values[a:b])) for a, b in itertools.pairwise(edges)]
    places = [a + pick(part) for a, part in stretches for pick in (np.argmin, np.argmax)]
    return np.unique([0, *places, n - 1])


def _labels(index: pd.Index) -> list[Any]:
    """Row labels for an axis: dates as text, numbers as they are."""
    if pd.api.types.is_numeric_dtype(index.dtype):
        return index.tolist()
    return [label(label_text(value)) for value in index]


def _short(value: float) -> float | None:
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None


def _panels(count: int, height: int) -> go.Figure:
    """Panels above each other, each so many pixels high beside its axis."""
    graph_objects()
    from plotly.subplots import make_subplots

    each = height + 66
    figure = make_subplots(rows=count, cols=1, vertical_spacing=66 / (each * count) if count > 1 else 0)
    style(figure, 24 + each * count)
    return figure


def _name_rows(figure: go.Figure, panel: int, names: list[str]) -> None:
    """Name the rows of a panel, from the top down."""
    n = len(names)
    named: dict[str, Any] = {"range": [-0.6, n - 0.4], "tickvals": np.arange(n)[::-1], "ticktext": names}
    figure.update_yaxes(showgrid=False, zeroline=False, row=panel, col=1, **named)


def _axis(shape: str) -> str:
    return shape.replace(".2%", ".1%").replace(".1%", ".1~%")


def difference_table(walk: WalkForward, base: str | None, number: int) -> pd.DataFrame:
    """`WalkForward.differences`; of a sweep of several profiles at a point, without the settings in its index."""
    table = walk.differences(base)
    if not walk.settings.names or len(walk.profiles) == 1:
        return table
    point = walk.settings.points[number]
    return table.loc[point[0] if len(point) == 1 else point]


def series_name(walk: WalkForward, key: tuple[Any, ...], profile: bool = False) -> str:
    """Say which series a key of settings and profile is: the point of a sweep, if that is in it, else the profile.

    Args:
        walk: the walk-forward.
        key: values of the settings swept, or none, and the profile.
        profile: whether to name the profile beside the point too.
    """
    *point, name = key
    values = zip(walk.settings.names, point, strict=True) if point else ()
    words = [f"{plain_name(setting)} {value:g}" for setting, value in values]
    return ", ".join([plain_name(str(name)), *words] if profile or not words else words)
