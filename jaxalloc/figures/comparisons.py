"""Figures that compare a walk-forward's profiles: differences and their intervals, spreads over resampled paths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import literal, plain_name, point_name
from jaxalloc.backtest.performance import COMPARED
from jaxalloc.figures.canvas import colour_of, faded, graph_objects, style
from jaxalloc.settings.measures import WALK_MEASURE

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from jaxalloc.backtest.validation import CrossValidation
    from jaxalloc.backtest.walk import WalkForward

_DIGITS = 5
_BOX = {"q1": "q25", "median": "q50", "q3": "q75", "mean": "mean", "lowerfence": "q05", "upperfence": "q95"}


def differences(walk: WalkForward, base: str | None = None, *, at: int | None = None) -> go.Figure:
    """Draw how each profile differs from another one, with 95 % intervals.

    Args:
        walk: the walk-forward.
        base: the profile to compare with, by default `WalkForward.base`. Where there is only one profile, the points of
            a sweep are compared with its point `Sweep.home`.
        at: point of a sweep's grid, if there are several profiles.

    Returns:
        Figure with a panel for each of return, volatility and Sharpe ratio: the difference (dot; open where its
        interval contains 0) and the interval (line), from `WalkForward.differences`.

    Raises:
        InputError: there is nothing to compare, too few days, or no such profile or point.
    """
    table: Any = difference_table(walk, base, point_number(walk, at))
    series = table.index.droplevel("measure").unique()
    keys = [key if isinstance(key, tuple) else (key,) for key in series]
    names = [series_name(walk, key) for key in keys]
    colours = [colour_of(str(key[-1])) for key in keys]
    figure = _panels(len(COMPARED), 26 * len(keys))
    for panel, measure in enumerate(COMPARED, 1):
        _add_intervals(figure, panel, measure, table.xs(measure, level="measure"), names, colours)
    figure.update_layout(showlegend=False)
    return figure


def _add_intervals(
    figure: go.Figure, panel: int, measure: str, table: pd.DataFrame, names: list[str], colours: list[str]
) -> None:
    """Add a row for each row of the table: the interval, and the difference in it."""
    words, shape = WALK_MEASURE[measure].words, WALK_MEASURE[measure].axis
    go = graph_objects()
    place: dict[str, Any] = {"row": panel, "col": 1}
    rows = np.arange(len(names))[::-1]
    low, high, centre = (table[name].round(_DIGITS).to_numpy(float) for name in ("low", "high", "difference"))
    for name, colour, row, a, b in zip(names, colours, rows.tolist(), low, high, strict=True):
        line = {"color": faded(colour, 0.6), "width": 3}
        figure.add_trace(
            go.Scatter(x=[a, b], y=[row, row], mode="lines", line=line, name=name, hoverinfo="skip"), **place
        )
    contains = (low <= 0) & (high >= 0)
    marker = {"color": colours, "size": 9, "symbol": ["circle-open" if c else "circle" for c in contains]}
    shares = [
        f"{name}<br>{100 * share:.0f} % of resamples above 0"
        for name, share in zip(names, table["share_above"], strict=True)
    ]
    dots = go.Scatter(
        x=centre,
        y=rows,
        mode="markers",
        marker=marker | {"line": {"width": 2, "color": colours}},
        text=shares,
        customdata=np.stack([low, high], axis=1).tolist(),
        hovertemplate=f"%{{text}}<br>difference %{{x:{shape}}}<br>95 %: %{{customdata[0]:{shape}}} to "
        f"%{{customdata[1]:{shape}}}<extra></extra>",
    )
    figure.add_trace(dots, **place)
    ends = np.nan_to_num([min(np.nanmin(low, initial=0), 0), max(np.nanmax(high, initial=0), 0)])
    room = 0.04 * (ends[1] - ends[0]) or 0.01
    axis: dict[str, Any] = {"range": [ends[0] - room, ends[1] + room], "tickformat": _axis(shape)}
    figure.update_xaxes(title=f"{words}: difference", **axis, **place)
    zero = {"type": "line", "x0": 0, "x1": 0, "y0": 0, "y1": 1, "yref": "y domain"}
    figure.add_shape(zero | {"line": {"width": 1.5, "dash": "dot"}}, **place)
    _name_rows(figure, panel, names)


def path_boxes(
    walk: WalkForward | CrossValidation,
    measures: Sequence[str] = ("annual_return", "volatility", "sharpe", "max_drawdown"),
    *,
    at: int | None = None,
) -> go.Figure:
    """Draw box plots of the profiles' figures over the paths.

    Args:
        walk: a walk-forward with resampled paths, or a cross-validation.
        measures: some of the columns of its `paths`.
        at: point of a sweep's grid.

    Returns:
        Figure with a panel for each measure and a box for each profile: quartiles, median, mean (dashed), and whiskers
        from 5 to 95 %. A diamond marks what happened in a walk-forward; no path of a cross-validation did.

    Raises:
        InputError: there are no paths, no such point, or no such measure.
    """
    known = comparable(walk)
    unknown = [name for name in measures if name not in known]
    if unknown:
        raise InputError(f"there is no measure {literal(unknown[0])}; choose from {', '.join(known)}")
    table: Any = walk.path_quantiles(at=walk.settings.home if at is None else at)
    figure = _panels(len(measures), 30 * len(walk.profiles))
    for panel, measure in enumerate(measures, 1):
        _add_boxes(figure, panel, measure, table.xs(measure, level="measure"))
    figure.update_layout(showlegend=False)
    return figure


def _add_boxes(figure: go.Figure, panel: int, measure: str, table: pd.DataFrame) -> None:
    """Add a box for each profile, and what happened."""
    words, shape = WALK_MEASURE[measure].words, WALK_MEASURE[measure].axis
    go = graph_objects()
    place: dict[str, Any] = {"row": panel, "col": 1}
    rows = np.arange(len(table))[::-1]
    colours, names = [colour_of(str(name)) for name in table.index], [plain_name(str(name)) for name in table.index]
    for row, name, colour, spread in zip(rows.tolist(), names, colours, table.to_dict(orient="records"), strict=True):
        if spread["n_paths"]:
            box = go.Box(
                y=[row],
                **{attribute: [round(spread[column], _DIGITS)] for attribute, column in _BOX.items()},
                orientation="h",
                name=name,
                marker_color=colour,
                line={"width": 1.5},
                fillcolor=faded(colour, 0.3),
                hoverinfo="x+name",
                xhoverformat=shape,
                width=0.6,
            )
            figure.add_trace(box, **place)
    if "history" in table:
        happened = go.Scatter(
            x=[short(value) for value in table["history"]],
            y=rows,
            mode="markers",
            marker={
                "symbol": "diamond",
                "size": 9,
                "color": colours,
                "line": {"width": 1, "color": "rgba(255,255,255,0.8)"},
            },
            text=names,
            hovertemplate=f"%{{text}}, as it happened: %{{x:{shape}}}<extra></extra>",
        )
        figure.add_trace(happened, **place)
    figure.update_xaxes(title=words, tickformat=_axis(shape), **place)
    _name_rows(figure, panel, names)


# ---- what they share ------------------------------------------------------------------------------------------------


def comparable(walk: WalkForward | CrossValidation) -> list[str]:
    """Return the measures of a result of which more or less is better, so that figures compare them."""
    return [name for name in walk.shown if WALK_MEASURE[name].better]


def point_number(walk: WalkForward, at: int | None) -> int:
    """Return the number of the point that a figure shows; raise `InputError` if there is none."""
    number = walk.settings.home if at is None else at
    walk.target(walk.profiles[0], number)  # raises if there is no such point
    return number


def short(value: float) -> float | None:
    """A number in five digits; None if it is not finite."""
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None


def _panels(count: int, height: int) -> go.Figure:
    """Panels below each other, each ``height`` pixels high without its axis."""
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
    """Return `WalkForward.differences`; of a sweep of several profiles the rows of a point, without its settings."""
    table = walk.differences(base)
    if not walk.settings.names or len(walk.profiles) == 1:
        return table
    point = walk.settings.points[number]
    return table.loc[point[0] if len(point) == 1 else point]


def series_name(walk: WalkForward, key: tuple[Any, ...]) -> str:
    """Return the name of a series that is compared: the point of a sweep, if its key has one, else the profile.

    Args:
        walk: the walk-forward.
        key: values of the settings swept, or none of them, and the profile.
    """
    *point, profile = key
    return point_name(walk.settings.names, point) if point else plain_name(str(profile))
