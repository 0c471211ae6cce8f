"""A walk-forward's page: what its template takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxalloc import figures
from jaxalloc.arguments.words import counted, plain_name, point_name
from jaxalloc.figures.sweeps import walk_heatmap
from jaxalloc.markets.dates import label_text
from jaxalloc.report import again, walk_content
from jaxalloc.report.choice_content import choice
from jaxalloc.report.drawings import Drawings
from jaxalloc.report.text_table import settings_table
from jaxalloc.report.words import sampler_words, sentence
from jaxalloc.settings.measures import WALK_MEASURE

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from jaxalloc.backtest.walk import WalkForward

_SWEPT = ("sharpe", "annual_return", "volatility", "max_drawdown", "turnover")
_FEW_ASSETS = 12  # up to so many assets have an area each; more are summed by cluster
_LOG_FROM = 3  # wealth that moves by this factor or more is drawn on a logarithmic axis


def walk_context(walk: WalkForward, drawings: Drawings, base: str | None) -> dict[str, Any]:
    """Return what the template takes, and add the page's figures to ``drawings``.

    Raises:
        InputError: the walk-forward has no profile ``base``.
    """
    base, at = base or walk.base, walk.settings.home
    walk.number(base)
    chance, chance_sentence = walk_content.chance(walk)
    s = walk.schedule
    by = "assets" if len(walk.symbols) <= _FEW_ASSETS else "clusters"
    return {
        "heading": f"{counted(len(walk.symbols), 'asset')}, {counted(s.n_held, 'rebalance')} out of sample",
        "subtitle": _subtitle(walk),
        "point": point_name(walk.settings.names, walk.settings.points[at]),
        "n_points": len(walk.settings),
        "warnings": walk_content.warnings(walk),
        "costs": _cost_words(walk.settings.cost(at)),
        "advice": walk_content.advice(walk),
        "answers": walk_content.verdicts(walk, base, at),
        "summary": walk_content.summary(walk, at),
        "benchmark": walk_content.benchmark_words(walk),
        "agreement": walk_content.agreement(walk, at),
        "wealth": drawings.add("wealth", lambda: figures.wealth(walk, log=_wide(walk, at), at=at)),
        "base": plain_name(base) if len(walk.profiles) > 1 else "the settings' own point",
        "differences": drawings.add("differences", lambda: figures.differences(walk, base, at=at)),
        "difference_rows": walk_content.difference_rows(walk, base, at),
        "drawdowns": drawings.add("drawdowns", lambda: figures.drawdowns(walk, at=at)),
        "volatility": drawings.add("rolling-volatility", lambda: figures.rolling_volatility(walk, at=at)),
        "bands": _bands(walk, drawings, at),
        "turnover": drawings.add("turnovers", lambda: figures.turnovers(walk, at=at)),
        "paths": drawings.add("paths", lambda: figures.path_boxes(walk, at=at)) if walk.n_paths else None,
        "n_paths": f"{walk.n_paths:,}",
        "path_words": sampler_words(walk.record["paths"]).capitalize() if walk.n_paths else "",
        "beats": walk_content.beats(walk, base, at),
        "sweep": _sweep(walk, drawings),
        "chance": chance,
        "chance_sentence": chance_sentence,
        "choice": choice(walk, drawings),
        "holdings": [
            drawings.add(f"holdings-{profile}", _holdings(walk, profile, by, at)) | {"name": plain_name(profile)}
            for profile in walk.profiles
        ],
        "holdings_words": _holdings_words(by),
        "decided": label_text(walk.dates[s.decided(s.n_windows - 1)]),
        "stale": walk_content.stale(walk),
        "live": [walk_content.trades(walk, profile, at) for profile in walk.profiles],
        "settings": settings_table(walk.settings, at),
        "facts": _facts(walk),
        "command": again.command_line(walk.record),
        "python": again.walk_lines(walk),
        "notes": [str(note) for note in walk.record["notes"]],
    }


def _cost_words(costs_bps: float) -> str:
    return f"after costs of {costs_bps:g} basis points" if costs_bps else "before costs (none were given)"


def _wide(walk: WalkForward, at: int) -> bool:
    grown = np.cumprod(1 + walk.history.net[at], axis=1)
    return bool(grown.size and grown.min() > 0 and grown.max() >= _LOG_FROM * grown.min())


def _holdings(walk: WalkForward, profile: str, by: str, at: int) -> Callable[[], go.Figure]:
    return lambda: figures.holdings(walk, profile, by=by, at=at)


def _holdings_words(by: str) -> str:
    if by == "assets":
        return "The weights bought at each rebalance."
    return (
        "The weights bought at each rebalance, summed over the clusters of the last window. A cluster is named after "
        "its asset of the largest mean weight, followed by the number of its other assets."
    )


def _sweep(walk: WalkForward, drawings: Drawings) -> list[dict[str, Any]]:
    """The heat maps of each measure: one a profile, or one for all."""
    if not walk.settings.names:
        return []
    measures = []
    for measure in _SWEPT:
        maps = []
        for profile in walk.profiles if len(walk.settings.names) > 1 else (None,):
            drawn = drawings.add(f"sweep-{measure}-{profile or 'all'}", _swept(walk, measure, profile))
            maps.append(drawn | {"name": plain_name(profile) if profile else ""})
        measures.append({"name": WALK_MEASURE[measure].words, "maps": maps})
    return measures


def _swept(walk: WalkForward, measure: str, profile: str | None) -> Callable[[], go.Figure]:
    return lambda: walk_heatmap(walk, measure, profile)


def _bands(walk: WalkForward, drawings: Drawings, at: int) -> list[dict[str, Any]]:
    """The Sharpe ratio against the turnover, band by band: a figure for each cost; none where no band was varied."""
    settings = walk.settings
    if "band" not in settings.names:
        return []
    first = at - at % len(settings.costs)
    drawn = []
    for c, cost in enumerate(settings.costs):
        name = f"{cost:g} basis points of cost" if cost else "no costs"
        drawn.append(drawings.add(f"bands-{c}", _band_figure(walk, first + c)) | {"name": name})
    return drawn


def _band_figure(walk: WalkForward, at: int) -> Callable[[], go.Figure]:
    return lambda: figures.bands(walk, at=at)


def _schedule_words(walk: WalkForward) -> str:
    s = walk.schedule
    kind = f"expanding windows from {s.window} rows" if s.expanding else f"windows of {s.window} rows"
    return f"{kind}, {s.words}, a gap of {counted(s.gap, 'row')}"


def _subtitle(walk: WalkForward) -> str:
    data, s = walk.record["data"], walk.schedule
    rows = f"{counted(data['n_observations'], 'row')}, {data['first']} to {data['last']}. "
    held = "Portfolios are held on no row. "
    if s.n_days:
        held = f"Portfolios are held on {counted(s.n_days, 'row')}, from {label_text(walk.days[0])} on. "
    grid = f", each at {counted(len(walk.settings), 'point')} of a grid of settings" if walk.settings.names else ""
    lead = " Each cluster's weight is held in its lead asset alone." if walk.execution == "lead" else ""
    lead += f" {sentence(walk.bagging_words)}" if walk.bagging_words else ""
    return f"{rows}{held}{sentence(_schedule_words(walk) + grid)}{lead}"


def _facts(walk: WalkForward) -> list[tuple[str, str]]:
    """What the walk-forward was computed from, and with what."""
    record = walk.record
    data, previous = record["data"], record["previous_weights"]
    return [
        ("data", f"{data['n_observations']} rows of {len(walk.symbols)} assets"),
        ("data, SHA-256", str(data["sha256"])),
        ("windows", _schedule_words(walk)),
        ("costs", f"{', '.join(f'{cost:g}' for cost in walk.settings.costs)} basis points of what is traded"),
        ("band", ", ".join(f"{100 * band:g} %" for band in walk.settings.bands)),
        ("largest turnover", f"{100 * walk.max_turnover:g} %" if walk.max_turnover else "none"),
        ("execution", walk.execution),
        *([("bagging", walk.bagging_words)] if walk.bagging_words else []),
        *([("benchmark", f"{walk.benchmark.name}, SHA-256 {record['benchmark_sha256']}")] if walk.benchmark else []),
        ("previous weights", f"given, SHA-256 {previous}" if previous else "none: all cash"),
        ("paths", sampler_words(record["paths"]) if record["paths"] else "none"),
        ("seed", str(walk.seed)),
        ("precision", f"{walk.precision} bits"),
        ("versions", ", ".join(f"{name} {number}" for name, number in record["versions"].items())),
        ("device", str(walk.allocations.record["device"])),
        ("started", str(record["started"])),
        ("took", f"{record['seconds']:,.1f} seconds"),
    ]
