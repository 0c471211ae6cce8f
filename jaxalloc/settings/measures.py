"""The registry of measures: what each is called, how it is written, which way is better, and who has it.

A measure has one record. `OF_UNIVERSES` are computed for every universe of a study, `OF_WALKS` for every series of
returns of a walk-forward, `OF_CLUSTERS` for every point of a study's sweep. The order of the names `MEASURES` and
`FIGURES` is the order in files.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

Kind = Literal["percent", "decimal", "number", "count"]


@dataclasses.dataclass(frozen=True)
class Measure:
    """One measure of a portfolio, or of its clusters.

    Attributes:
        name: in tables and files.
        words: its name beside an axis.
        heading: its name in a table of text.
        kind: ``"percent"``, a fraction written as per cent; ``"decimal"``; ``"number"``, an effective number of things,
            such as 7.3 clusters; ``"count"``, a whole number.
        digits: after the decimal point.
        better: 1 where the larger of two values is the better one, -1 where the smaller is, 0 where neither is.
    """

    name: str
    words: str
    heading: str
    kind: Kind
    digits: int
    better: Literal[-1, 0, 1] = 0

    @property
    def axis(self) -> str:
        """The format of its values in Plotly's (d3's) notation."""
        if self.kind == "number":
            return ".3~g"
        return f".{self.digits}{'%' if self.kind == 'percent' else 'f'}"

    def write(self, value: float, none: str = "-", digits: int | None = None) -> str:
        """Write a value as text.

        Args:
            value: the value.
            none: what stands for a value that is NaN or infinite.
            digits: after the decimal point of a percentage, in place of the measure's own.
        """
        if not math.isfinite(value):
            return none
        if self.kind == "percent":
            return f"{100 * value:.{self.digits if digits is None else digits}f} %"
        return f"{value:.{self.digits}f}"


_VOLATILITY = Measure(
    name="volatility", words="Volatility, annual", heading="volatility", kind="percent", digits=1, better=-1
)
_EFFECTIVE_BETS = Measure(
    name="effective_bets", words="Effective number of bets", heading="bets", kind="number", digits=1, better=1
)

OF_UNIVERSES = (
    _VOLATILITY,
    Measure(
        name="expected_return",
        words="Expected return, annual",
        heading="expected return",
        kind="percent",
        digits=1,
        better=1,
    ),
    Measure(
        name="sharpe",
        words="Sharpe ratio in sample",
        heading="Sharpe in sample",
        kind="decimal",
        digits=2,
        better=1,
    ),
    Measure(
        name="effective_assets",
        words="Effective number of assets",
        heading="effective assets",
        kind="number",
        digits=1,
        better=1,
    ),
    Measure(
        name="effective_clusters",
        words="Effective number of clusters",
        heading="effective clusters",
        kind="number",
        digits=1,
        better=1,
    ),
    _EFFECTIVE_BETS,
    Measure(
        name="concentration",
        words="Concentration (Herfindahl)",
        heading="concentration",
        kind="decimal",
        digits=3,
        better=-1,
    ),
    Measure(
        name="turnover", words="Turnover from the estimate", heading="turnover", kind="percent", digits=1, better=-1
    ),
    Measure(
        name="out_of_bag_return",
        words="Return out of bag, annual",
        heading="return out of bag",
        kind="percent",
        digits=1,
        better=1,
    ),
    Measure(
        name="out_of_bag_volatility",
        words="Volatility out of bag, annual",
        heading="volatility out of bag",
        kind="percent",
        digits=1,
        better=-1,
    ),
    Measure(
        name="out_of_bag_sharpe",
        words="Sharpe ratio out of bag",
        heading="Sharpe out of bag",
        kind="decimal",
        digits=2,
        better=1,
    ),
)

OF_CLUSTERS = (
    Measure(name="n_clusters", words="Number of clusters", heading="clusters", kind="decimal", digits=1),
    Measure(
        name="stability", words="Stability of the clusters", heading="stability", kind="percent", digits=0, better=1
    ),
)

# of the returns alone; `jaxalloc.backtest.performance.performance` has the formulas
OF_RETURNS = (
    Measure(name="annual_return", words="Return, annual", heading="return", kind="percent", digits=1, better=1),
    _VOLATILITY,
    Measure(name="sharpe", words="Sharpe ratio", heading="Sharpe", kind="decimal", digits=2, better=1),
    Measure(name="sortino", words="Sortino ratio", heading="Sortino", kind="decimal", digits=2, better=1),
    Measure(name="max_drawdown", words="Largest drawdown", heading="drawdown", kind="percent", digits=1, better=-1),
    Measure(name="calmar", words="Calmar ratio", heading="Calmar", kind="decimal", digits=2, better=1),
)

OF_WALKS = (
    *OF_RETURNS,
    Measure(name="turnover", words="Turnover a year", heading="turnover", kind="percent", digits=0, better=-1),
    Measure(name="cost", words="Cost a year", heading="cost", kind="percent", digits=2, better=-1),
    _EFFECTIVE_BETS,
    Measure(
        name="tracking_error",
        words="Tracking error, annual",
        heading="tracking",
        kind="percent",
        digits=1,
        better=-1,
    ),
    # these two tell of the data, not of the portfolio
    Measure(name="kept", words="Rebalances without a portfolio", heading="kept", kind="count", digits=0),
    Measure(name="missing", words="Missing returns of assets held", heading="missing", kind="count", digits=0),
)

MEASURES = tuple(measure.name for measure in OF_UNIVERSES)
RETURN_MEASURES = tuple(measure.name for measure in OF_RETURNS)
FIGURES = tuple(measure.name for measure in OF_WALKS)

UNIVERSE_MEASURE = {measure.name: measure for measure in (*OF_UNIVERSES, *OF_CLUSTERS)}
WALK_MEASURE = {measure.name: measure for measure in OF_WALKS}
