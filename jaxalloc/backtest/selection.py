"""What choosing the best of several trials is worth: overfitting, track records, and a leaderboard.

`jaxalloc.backtest.walk.WalkForward` has a method for each of these functions. `Overfitting.recommended` is the one rule
by which the best trial is recommended or not, and `Overfitting.verdict` says it in words.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pandas as pd

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.numbers import one_number, whole_number
from jaxalloc.arguments.words import counted, cut, per_cent, trial_name
from jaxalloc.backtest import performance
from jaxalloc.backtest.comparison import Trials, deflated_sharpe
from jaxalloc.backtest.cross_validation import MOST_BLOCKS, ROWS_OF_BLOCK, choose_on_halves, used_rows, varying
from jaxalloc.settings.measures import FIGURES, WALK_MEASURE

BLOCKS = 16  # by default: 12,870 halves
MOST_PBO = 0.5  # above it the best trial is not recommended

BOARD = ("annual_return", "volatility", "sharpe", "max_drawdown", "cvar", "turnover", "cost")
# one of each kind: reward, risk, reward for risk, the worst loss, trading
RANKED = ("annual_return", "volatility", "sharpe", "max_drawdown", "turnover")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Overfitting:
    """What became of the best trial of each half of the days on the other half; see `WalkForward.overfitting`.

    C is the number of halves. Arrays are in the order of `itertools.combinations` of the blocks in sample.

    Attributes:
        pbo: probability of backtest overfitting: the share of halves whose best trial was no better than the median of
            the trials on the other half.
        slope: of the best trials' ratios out of sample on those in sample, by least squares: below 0 a better past was
            followed by a worse future. NaN where the ratios in sample do not differ.
        loss: share of halves whose best trial had a Sharpe ratio below 0 on the other half.
        logits: (C,) ln(w / (1 - w)) with w = r / (M + 1), r the best trial's rank on the other half, 1 the worst.
        in_sample: (C,) annual Sharpe ratio of the best trial on its half.
        out_of_sample: (C,) that of the same trial on the other half.
        best: in how many halves each trial was the best; 0 for one that is left out.
        winner: label of the trial with the highest Sharpe ratio on all days.
        n_trials: M, the trials whose returns vary.
        n_left_out: trials whose returns do not vary, so that they have no Sharpe ratio.
        n_blocks: into which the days were cut.
        block_rows: days of a block.
    """

    pbo: float
    slope: float
    loss: float
    logits: np.ndarray
    in_sample: np.ndarray
    out_of_sample: np.ndarray
    best: pd.Series
    winner: Any
    n_trials: int
    n_left_out: int
    n_blocks: int
    block_rows: int

    @property
    def n_halves(self) -> int:
        """C, the number of ways to choose half of the blocks."""
        return len(self.logits)

    @property
    def recommended(self) -> bool:
        """Whether the best trial is recommended: not where its PBO is above one half."""
        return self.pbo <= MOST_PBO

    @property
    def verdict(self) -> str:
        """What the probability says, and whether the best trial is recommended."""
        name = self._name_of(self.winner)
        said = (
            f"Choosing the best of {counted(self.n_trials, 'trial')} by its past Sharpe ratio was no better than the "
            f"median of them out of sample in {_percent(self.pbo, 0)} of {self.n_halves:,} splits"
        )
        if self.recommended:
            return f"{said}, at most half of them: this does not speak against {name}, the best on all days."
        return f"{said}, more than half of them: {name}, the best on all days, is not recommended."

    def _name_of(self, label: Any) -> str:
        return trial_name(label, [str(name) for name in self.best.index.names[:-1]])

    def figures(self) -> dict[str, Any]:
        """Return the figures by name, as plain values."""
        return {
            "pbo": self.pbo,
            "slope": self.slope,
            "loss": self.loss,
            "in_sample": float(self.in_sample.mean()),
            "out_of_sample": float(self.out_of_sample.mean()),
            "n_trials": self.n_trials,
            "n_left_out": self.n_left_out,
            "n_blocks": self.n_blocks,
            "block_rows": self.block_rows,
            "n_halves": self.n_halves,
            "recommended": self.recommended,
        }

    def __repr__(self) -> str:
        """Five lines: the probability, the slope and the losses, what is worth how much, and the verdict."""
        left = f"; {counted(self.n_left_out, 'trial')} left out, without a Sharpe ratio" if self.n_left_out else ""
        lines = [
            f"Overfitting: PBO {self.pbo:.3f} over {counted(self.n_trials, 'trial')}{left}",
            f"{self.n_halves:,} halves of {self.n_blocks} blocks of {counted(self.block_rows, 'row')}",
            f"Sharpe ratio of the best, mean: {self.in_sample.mean():.2f} in sample, "
            f"{self.out_of_sample.mean():.2f} out of sample; slope {self.slope:.2f}",
            f"below 0 out of sample: {_percent(self.loss, 1)}",
            f"most often the best: {self._name_of(self.best.idxmax())}, in "
            f"{_percent(self.best.max() / self.n_halves, 1)} of the halves",
        ]
        return "\n".join(map(cut, lines))

    def _repr_html_(self) -> str:
        """A small table of the figures; names are escaped."""
        shown = {
            "PBO": f"{self.pbo:.3f}",
            "Sharpe ratio of the best in sample, mean": f"{self.in_sample.mean():.2f}",
            "the same out of sample": f"{self.out_of_sample.mean():.2f}",
            "slope": f"{self.slope:.2f}",
            "below 0 out of sample": _percent(self.loss, 1),
            "trials": str(self.n_trials),
            "halves": f"{self.n_halves:,}",
            "the best trial on all days": self._name_of(self.winner),
            "recommended": "yes" if self.recommended else "no",
        }
        return pd.DataFrame({"": shown}).to_html(header=False)


def _percent(value: float, digits: int) -> str:
    return per_cent(value, digits, "-")


def can_validate(trials: Trials, n_blocks: int = BLOCKS) -> bool:
    """Tell whether `overfitting` has enough trials and days."""
    return _why_not(trials, n_blocks) is None


def _why_not(trials: Trials, n_blocks: int) -> str | None:
    """Why overfitting cannot be judged; None where it can."""
    n_trials, n_days = trials.returns.shape
    if n_trials < 2:
        return "one trial alone leaves nothing to choose: add another profile, or a sweep"
    wanted = ROWS_OF_BLOCK * n_blocks
    if n_days < wanted:
        return (
            f"portfolios are held on {n_days} days, {wanted} are needed for {n_blocks} blocks; give a longer panel, or "
            "a smaller n_blocks"
        )
    if varying(used_rows(trials.returns, n_blocks)).sum() < 2:
        return "the returns of fewer than two trials vary, so there are no Sharpe ratios to choose by"
    return None


def overfitting(trials: Trials, n_blocks: Any = BLOCKS) -> Overfitting:
    """Judge the choice of the best trial by combinatorially symmetric cross-validation.

    Args:
        trials: the M series.
        n_blocks: into which the days are cut, even.

    Returns:
        As `WalkForward.overfitting` describes it.

    Raises:
        InputError: ``n_blocks`` is out of range, or there are too few trials or days.
    """
    n_blocks = whole_number("n_blocks", n_blocks, 2, MOST_BLOCKS)
    if n_blocks % 2:
        raise InputError(f"n_blocks must be even, so that the blocks have halves, not {n_blocks}")
    why = _why_not(trials, n_blocks)
    if why is not None:
        raise InputError(why)
    kept = np.flatnonzero(varying(used_rows(trials.returns, n_blocks)))
    halves = choose_on_halves(
        trials.returns[kept], n_blocks, trials.periods_per_year[kept], trials.risk_free_rate[kept]
    )
    counts = np.zeros(len(trials.index), int)
    counts[kept] = np.bincount(halves.best, minlength=len(kept))
    sharpe = trials.figures[kept, FIGURES.index("sharpe")]
    return Overfitting(
        pbo=float((halves.rank <= (len(kept) + 1) / 2).mean()),
        slope=_slope(halves.in_sample, halves.out_of_sample),
        loss=float((halves.out_of_sample < 0).mean()),
        logits=np.log(halves.rank / (len(kept) + 1 - halves.rank)),
        in_sample=halves.in_sample,
        out_of_sample=halves.out_of_sample,
        best=pd.Series(counts, index=trials.index, name="best"),
        winner=trials.index[kept[int(sharpe.argmax())]],
        n_trials=len(kept),
        n_left_out=len(counts) - len(kept),
        n_blocks=n_blocks,
        block_rows=trials.returns.shape[1] // n_blocks,
    )


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    """Slope of y on x by least squares; NaN where x does not vary."""
    apart = x - x.mean()
    total = float(apart @ apart)
    return float(apart @ y / total) if np.ptp(x) > 1e-9 * (1 + np.abs(x).max()) else math.nan


def probabilistic_sharpe(trials: Trials, benchmark: Any = 0.0) -> pd.DataFrame:
    """Return the probability that each trial's true Sharpe ratio is above a benchmark, as if it were the only trial.

    Args:
        trials: the M series.
        benchmark: annual Sharpe ratio.

    Returns:
        As `WalkForward.probabilistic_sharpe` describes it.

    Raises:
        InputError: there are too few days, or the benchmark is no number.
    """
    benchmark, columns = _judged(trials, benchmark)
    found = performance.probabilistic_sharpe(
        columns["sharpe"],
        benchmark / np.sqrt(trials.periods_per_year),
        columns["days"],
        columns["skewness"],
        columns["kurtosis"],
    )
    return pd.DataFrame(columns | {"benchmark": benchmark, "probabilistic_sharpe": found}, index=trials.index)


def min_track_record(trials: Trials, alpha: Any = 0.95, benchmark: Any = 0.0) -> pd.DataFrame:
    """Return the days that each trial needs until its Sharpe ratio is significantly above a benchmark.

    Args:
        trials: the M series.
        alpha: the confidence.
        benchmark: annual Sharpe ratio.

    Returns:
        As `WalkForward.min_track_record` describes it.

    Raises:
        InputError: there are too few days, or an argument is out of range.
    """
    alpha = one_number("alpha", alpha)
    if not 0.5 < alpha < 1:
        raise InputError(f"alpha, a confidence such as 0.95, must be between 0.5 and 1, not {alpha!r}")
    benchmark, columns = _judged(trials, benchmark)
    days = performance.min_track_record(
        columns["sharpe"],
        benchmark / np.sqrt(trials.periods_per_year),
        columns["skewness"],
        columns["kurtosis"],
        alpha,
    )
    found = {"benchmark": benchmark, "min_days": days, "min_years": days / trials.periods_per_year}
    return pd.DataFrame(columns | found, index=trials.index)


def _judged(trials: Trials, benchmark: Any) -> tuple[float, dict[str, Any]]:
    """The annual benchmark, and the columns that it is judged by."""
    days, benchmark = trials.check_days(), one_number("benchmark", benchmark)
    moments = performance.moments(trials.returns, trials.periods_per_year, trials.risk_free_rate)
    return benchmark, moments._asdict() | {"days": days}


def leaderboard(trials: Trials, n_trials: Any = None) -> pd.DataFrame:
    """Tabulate all trials, the best by several measures first.

    Args:
        trials: the M series.
        n_trials: how many were tried in all, if more than M.

    Returns:
        As `WalkForward.leaderboard` describes it.

    Raises:
        InputError: there are too few days, or ``n_trials`` is out of range.
    """
    deflated = deflated_sharpe(trials, n_trials)
    figures = {name: trials.figures[:, FIGURES.index(name)] for name in BOARD}
    table = pd.DataFrame(figures, index=trials.index)
    ranks = {
        f"rank_{name}": table[name].rank(ascending=WALK_MEASURE[name].better < 0, na_option="bottom") for name in RANKED
    }
    table = table.assign(**ranks)
    table["mean_rank"] = table[list(ranks)].mean(axis=1)
    table["probabilistic_sharpe"] = probabilistic_sharpe(trials)["probabilistic_sharpe"]
    table["deflated_sharpe"] = deflated["deflated_sharpe"]
    table["expected_maximum"] = deflated["expected_maximum"].to_numpy() * np.sqrt(trials.periods_per_year)
    order = np.lexsort((-table["sharpe"].fillna(-np.inf), table["mean_rank"]))
    return table.iloc[order]
