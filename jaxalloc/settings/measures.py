"""The registry of measures: what each is called, how it is written, which way is better, and who has it.

A measure has one record. `OF_UNIVERSES` are computed for every universe of a study, `OF_WALKS` for every series of
returns of a walk-forward, `OF_CLUSTERS` for every point of a study's sweep. The order of the names `MEASURES` and
`FIGURES` is the order in files.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from jaxalloc.arguments.words import decimal, per_cent

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
    digits: int = 1
    better: Literal[-1, 0, 1] = 0

    @property
    def axis(self) -> str:
        """The format of its values in Plotly's (d3's) notation."""
        if self.kind == "number":
            return ".3~g"
        return f".{self.digits}{'%' if self.kind == 'percent' else 'f'}"

    def write(self, value: float, none: str = "-", digits: int | None = None) -> str:
        """Write a value as text; what rounds to zero has no sign.

        Args:
            value: the value.
            none: what stands for a value that is NaN or infinite.
            digits: after the decimal point of a percentage, in place of the measure's own.
        """
        if self.kind == "percent":
            return per_cent(value, self.digits if digits is None else digits, none)
        return decimal(value, self.digits, none)


_VOLATILITY = Measure("volatility", "Volatility, annual", heading="volatility", kind="percent", better=-1)
_EFFECTIVE_BETS = Measure("effective_bets", "Effective number of bets", heading="bets", kind="number", better=1)
_CONCENTRATION = Measure(
    "concentration", "Concentration (Herfindahl)", heading="concentration", kind="decimal", digits=3, better=-1
)

OF_UNIVERSES = (
    _VOLATILITY,
    Measure("expected_return", "Expected return, annual", heading="expected return", kind="percent", better=1),
    Measure("sharpe", "Sharpe ratio in sample", heading="Sharpe in sample", kind="decimal", digits=2, better=1),
    Measure("effective_assets", "Effective number of assets", heading="effective assets", kind="number", better=1),
    Measure(
        "effective_clusters", "Effective number of clusters", heading="effective clusters", kind="number", better=1
    ),
    _EFFECTIVE_BETS,
    _CONCENTRATION,
    Measure("turnover", "Turnover from the estimate", heading="turnover", kind="percent", better=-1),
    Measure("out_of_bag_return", "Return out of bag, annual", heading="return out of bag", kind="percent", better=1),
    Measure(
        "out_of_bag_volatility",
        "Volatility out of bag, annual",
        heading="volatility out of bag",
        kind="percent",
        better=-1,
    ),
    Measure(
        "out_of_bag_sharpe", "Sharpe ratio out of bag", heading="Sharpe out of bag", kind="decimal", digits=2, better=1
    ),
)

OF_CLUSTERS = (
    Measure("n_clusters", "Number of clusters", heading="clusters", kind="decimal"),
    Measure("stability", "Stability of the clusters", heading="stability", kind="percent", digits=0, better=1),
)

# of the returns alone; `jaxalloc.backtest.performance.performance` has the formulas
OF_RETURNS = (
    Measure("annual_return", "Return, annual", heading="return", kind="percent", better=1),
    _VOLATILITY,
    Measure("sharpe", "Sharpe ratio", heading="Sharpe", kind="decimal", digits=2, better=1),
    Measure("sortino", "Sortino ratio", heading="Sortino", kind="decimal", digits=2, better=1),
    Measure("max_drawdown", "Largest drawdown", heading="drawdown", kind="percent", better=-1),
    Measure("calmar", "Calmar ratio", heading="Calmar", kind="decimal", digits=2, better=1),
    Measure("cvar", "Conditional value at risk, 95 %, of a row", heading="CVaR", kind="percent", digits=2, better=-1),
)

# of the returns beside those of a benchmark; `jaxalloc.backtest.performance.against_benchmark` has the formulas
OF_BENCHMARKS = (
    Measure("beta", "Beta to the benchmark", heading="beta", kind="decimal", digits=2),
    Measure("correlation", "Correlation with the benchmark", heading="correlation", kind="decimal", digits=2),
    Measure("active_risk", "Active risk, annual", heading="active risk", kind="percent"),
    Measure("information_ratio", "Information ratio", heading="information", kind="decimal", digits=2, better=1),
)

OF_WALKS = (
    *OF_RETURNS,
    Measure("turnover", "Turnover a year", heading="turnover", kind="percent", digits=0, better=-1),
    Measure("traded", "Traded a year", heading="traded", kind="percent", digits=0, better=-1),
    Measure("cost", "Cost a year", heading="cost", kind="percent", digits=2, better=-1),
    _EFFECTIVE_BETS,
    _CONCENTRATION,
    Measure("tracking_error", "Tracking error, annual", heading="tracking", kind="percent", better=-1),
    *OF_BENCHMARKS,
    # these two tell of the data, not of the portfolio
    Measure("kept", "Rebalances without a portfolio", heading="kept", kind="count", digits=0),
    Measure("missing", "Missing returns of assets held", heading="missing", kind="count", digits=0),
)

MEASURES = tuple(measure.name for measure in OF_UNIVERSES)
RETURN_MEASURES = tuple(measure.name for measure in OF_RETURNS)
BENCHMARK_MEASURES = tuple(measure.name for measure in OF_BENCHMARKS)
FIGURES = tuple(measure.name for measure in OF_WALKS)

UNIVERSE_MEASURE = {measure.name: measure for measure in (*OF_UNIVERSES, *OF_CLUSTERS)}
WALK_MEASURE = {measure.name: measure for measure in OF_WALKS}
