"""Ten assets: the table of NVIDIA's HRP example, and its job, 102,400 bootstrap scenarios of it.

Source: the example on hierarchical risk parity in NVIDIA's fsi-samples (2021). Each month's weights come from the 12
calendar months before it (log returns, population covariance) and stay for the month; a change costs 2 basis points of
what is traded, on the month's first day. The portfolio is levered to 5 % volatility by the larger of the standard
deviations of its last 59 and last 19 net returns; months that have not 59 of them and one more before are left out.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax import Array

from jaxalloc.kernels.lanes.products import dot
from published.common import TEN_ASSETS, Compared, Plan, data_file, in_pieces
from published.hrp import hrp, oracle_hrp

TITLE = "Ten assets, and 102,400 scenarios of them"
SOURCE = "NVIDIA, fsi-samples (2021), the example on hierarchical risk parity"
METHODS = ("NRP", "HRP")
MEASURES = ("SD", "RET", "MDD", "Calmar", "SR")
PUBLISHED = {
    "NRP": (0.049131, 0.005320, 0.037903, 0.140365, 0.108287),
    "HRP": (0.049988, 0.004651, 0.047971, 0.096955, 0.093042),
}
WINDOW, COST, TARGET, LONG, SHORT = 12, 2e-4, 0.05, 59, 19
SCENARIOS, BLOCK = 102_400, 60
SEED = 0
THEIR_SECONDS, THEIR_GPUS = 55.1, 4


class Calendar(NamedTuple):
    """The calendar of R returns in M months, plain NumPy: static.

    Attributes:
        rows: (M, D) the returns of each month, D the days of the longest; R where it has fewer.
        place: where each day that is held lies in the table (M - WINDOW, D), flattened.
        first: of each month that is held, its first day among the days held.
        kept: the months held that have enough days before them, among the months held.
        days: calendar days from the first to the last day of those.
        n_rows: R.
    """

    rows: np.ndarray
    place: np.ndarray
    first: np.ndarray
    kept: np.ndarray
    days: int
    n_rows: int


def calendar(dates: pd.DatetimeIndex) -> Calendar:
    """Return the calendar of the returns' dates."""
    months, month = np.unique(dates.year * 12 + dates.month, return_inverse=True)
    counts = np.bincount(month)
    start = np.concatenate([[0], np.cumsum(counts)[:-1]])
    days = np.arange(counts.max())
    rows = np.where(days[None, :] < counts[:, None], start[:, None] + days[None, :], len(dates))
    place = np.flatnonzero(rows[WINDOW:].ravel() < len(dates))
    first = start[WINDOW:] - start[WINDOW]
    kept = np.flatnonzero(first > LONG)
    if len(months) <= WINDOW or not len(kept):
        raise ValueError(f"{len(months)} months of prices are too few")
    days_between = days_from(dates, int(start[WINDOW + kept[0]]))
    return Calendar(rows, place, first, kept, days_between, len(dates))


def days_from(dates: pd.DatetimeIndex, first: int) -> int:
    """Calendar days from one of the dates to the last."""
    return int((dates.to_numpy()[-1] - dates.to_numpy()[first]) / np.timedelta64(1, "D"))


def backtest(returns: Array, cal: Calendar) -> Array:
    """Measures (2, 5) of NRP and HRP over one path: `METHODS` by `MEASURES`.

    Args:
        returns: (M, D, N) log returns by month, 0 where a month has no such day.
        cal: the calendar.
    """
    counts = jnp.asarray((cal.rows < cal.n_rows).sum(axis=1), returns.dtype)
    by_month = jnp.swapaxes(returns, 1, 2)
    held = len(cal.rows) - WINDOW

    def rolling(x: Array) -> Array:  # sums over the WINDOW months before each month held
        return sum(x[lag : lag + held] for lag in range(WINDOW))  # type: ignore[return-value]

    n = rolling(counts)[:, None]
    mean = rolling(jnp.sum(returns, axis=1)) / n
    second = rolling(dot(by_month, returns)) / n[:, :, None]
    covariance = second - mean[:, :, None] * mean[:, None, :]
    inverse = 1 / jnp.sqrt(jnp.diagonal(covariance, axis1=1, axis2=2))
    weights = jnp.stack([inverse / jnp.sum(inverse, axis=1)[:, None], jax.vmap(hrp)(covariance)])  # (2, held, N)
    traded = jnp.sum(jnp.abs(weights[:, 1:] - weights[:, :-1]), axis=2)
    net = jnp.sum(weights[:, :, None, :] * returns[None, WINDOW:], axis=3)  # (2, held, D)
    net = net.at[:, 1:, 0].add(-COST * traded)
    return jax.vmap(lambda x: _measures(x, cal))(net.reshape(2, -1)[:, cal.place])


def _measures(net: Array, cal: Calendar) -> Array:
    """SD, RET, MDD, Calmar and SR (5,) of net daily log returns (R,), levered."""
    first = cal.first[cal.kept]

    def deviation(days: int) -> Array:
        return jnp.std(net[first[:, None] - days + np.arange(days)[None, :]], axis=1)

    leverage = TARGET / (np.sqrt(252) * jnp.maximum(deviation(LONG), deviation(SHORT)))
    ends = np.append(first[1:], len(net))
    levered = jnp.repeat(leverage, ends - first, total_repeat_length=len(net) - int(first[0])) * net[first[0] :]
    total = jnp.cumsum(levered)
    earned = jnp.exp(total[-1]) ** (365 / cal.days) - 1
    deviation_a_year = jnp.std(levered, ddof=1) * np.sqrt(252)
    peak = jax.lax.cummax(total)
    drawdown = jnp.max(1 - jnp.exp(total - peak))
    return jnp.stack([deviation_a_year, earned, drawdown, earned / drawdown, earned / deviation_a_year])


def oracle(returns: np.ndarray, month: np.ndarray, dates: pd.DatetimeIndex) -> np.ndarray:
    """`backtest` in NumPy, month by month, from returns (R, N) in their order and the number of each one's month."""
    found = []
    for method in METHODS:
        net, of, before = [], [], None
        for m in range(WINDOW, month.max() + 1):
            covariance = np.cov(returns[(month >= m - WINDOW) & (month < m)], rowvar=False, ddof=0)
            w = oracle_hrp(covariance) if method == "HRP" else 1 / np.sqrt(np.diag(covariance))
            w = w / w.sum()
            earned = returns[month == m] @ w
            if before is not None:
                earned[0] -= COST * np.abs(w - before).sum()
            before = w
            net.append(earned)
            of += [m] * len(earned)
        net, of = np.concatenate(net), np.array(of)
        levered = np.full(len(net), np.nan)
        for m in np.unique(of):
            start = np.flatnonzero(of == m)[0]
            if start > LONG:
                most = max(net[start - LONG : start].std(), net[start - SHORT : start].std())
                levered[of == m] = TARGET / (np.sqrt(252) * most) * net[of == m]
        kept = np.isfinite(levered)
        y, days = levered[kept], days_from(dates[-len(net) :], int(np.flatnonzero(kept)[0]))
        value = np.exp(np.cumsum(y))
        earned = value[-1] ** (365 / days) - 1
        deviation, drawdown = y.std(ddof=1) * np.sqrt(252), (1 - value / np.maximum.accumulate(value)).max()
        found.append([deviation, earned, drawdown, earned / drawdown, earned / deviation])
    return np.array(found)


def starts(key: Array, number: Array, n_rows: int) -> Array:
    """First rows of a scenario's blocks, uniform over all that leave room for one; its number alone decides them."""
    n_blocks = -(-n_rows // BLOCK)
    return jax.random.randint(jax.random.fold_in(key, number), (n_blocks,), 0, n_rows - BLOCK + 1, jnp.int32)


def resampled(starts: Array, n_rows: int) -> Array:
    """Rows (R,) of a scenario from its blocks' first rows."""
    return (starts[:, None] + jnp.arange(BLOCK, dtype=jnp.int32)[None, :]).reshape(-1)[:n_rows]


def run(plan: Plan) -> dict[str, Any]:
    """Reproduce the table, then run the scenarios."""
    path = data_file(TEN_ASSETS)
    if path is None:
        return {"skipped": f"set JAXALLOC_DATA to the folder of {TEN_ASSETS}"}
    prices = pd.read_csv(path, index_col=0, parse_dates=True)
    log_returns = np.diff(np.log(prices.to_numpy()), axis=0)
    return compute(log_returns, pd.DatetimeIndex(prices.index[1:]), plan)


def compute(log_returns: np.ndarray, dates: pd.DatetimeIndex, plan: Plan) -> dict[str, Any]:
    """`run` with log returns (R, N) at hand."""
    n, piece, checked = (16, 8, 2) if plan.quick else (SCENARIOS, 256, 20)
    n_rows, cal = len(dates), calendar(dates)
    month = np.unique(dates.year * 12 + dates.month, return_inverse=True)[1]
    padded = jnp.asarray(np.vstack([log_returns, np.zeros(log_returns.shape[1])]))
    key = jax.random.key(SEED, impl="threefry2x32")

    def scenario(number: Array) -> Array:  # -1 is history itself
        rows = jnp.where(
            number < 0, jnp.arange(n_rows, dtype=jnp.int32), resampled(starts(key, number, n_rows), n_rows)
        )
        rows = jnp.append(rows, n_rows)[cal.rows]
        return backtest(padded[rows], cal)

    batch = jax.jit(jax.vmap(scenario))
    table = np.asarray(batch(jnp.full(piece, -1, jnp.int32)))[0]
    compared = [
        Compared(f"{method}: {measure}", PUBLISHED[method][j], float(table[i, j]), None, 6)
        for i, method in enumerate(METHODS)
        for j, measure in enumerate(MEASURES)
    ]
    start = time.perf_counter()
    found = in_pieces(lambda numbers: batch(jnp.asarray(numbers, jnp.int32)), n, piece, plan.workers)
    seconds = time.perf_counter() - start
    worst = float(np.abs(table - oracle(log_returns, month, dates)).max())
    for i in range(checked):
        rows = np.asarray(resampled(starts(key, jnp.int32(i), n_rows), n_rows))
        worst = max(worst, float(np.abs(found[i] - oracle(log_returns[rows], month, dates)).max()))
    rho = np.corrcoef(log_returns, rowvar=False)
    largest = np.abs(rho[np.triu_indices(len(rho), 1)]).max()
    solves = n * (len(cal.rows) - WINDOW)
    return {
        "compared": compared,
        "tables": [scenario_table(found)],
        "problems": {"HRP": solves, "NRP": solves},
        "oracle": {f"measures against NumPy and SciPy, history and {checked} scenarios": worst},
        "facts": {
            "scenarios": n,
            "rebalances": len(cal.rows) - WINDOW,
            "seconds": seconds,
            "workers": plan.workers,
            "largest_correlation": float(largest),
        },
    }


def words(found: dict[str, Any]) -> tuple[str, list[str]]:
    """What the page says before and after the figures."""
    facts = found["facts"]
    n, seconds = facts["scenarios"], facts["seconds"]
    text = (
        "Naive risk parity (NRP, inverse volatility) and HRP, rebalanced monthly on twelve months, levered to 5 %. "
        f"Then {n:,} scenarios: a moving-block bootstrap of log returns, {BLOCK}-day blocks from uniform starts, each "
        f"with {facts['rebalances']} rebalances and the whole pipeline of the table."
    )
    notes = [
        f"The scenarios took {seconds:.0f} s here, {n * facts['rebalances'] / seconds:,.0f} HRP a second and as many "
        f"NRP, with costs, leverage and measures, in float64 on {facts['workers']} cores of a CPU. NVIDIA report "
        f"{THEIR_SECONDS} s for theirs on {THEIR_GPUS} V100 GPUs. Theirs does more: it computes features of every "
        "scenario, and trains a model (XGBoost) on them to explain the difference between the two methods; here is "
        "neither.",
        "These returns are close to noise: no two of the assets are correlated above "
        f"{facts['largest_correlation']:.2f} in absolute value, so that there is no structure for HRP to find. The "
        "scenarios say which of two rules is steadier, not whether clusters help.",
    ]
    return text, notes


def scenario_table(found: np.ndarray) -> dict[str, Any]:
    """What the scenarios' measures (n, 2, 5) come to."""
    better = {"SD": -1, "RET": 1, "MDD": -1, "Calmar": 1, "SR": 1}
    rows = []
    for j, measure in enumerate(MEASURES):
        low, median, high = np.quantile(found[:, :, j], [0.05, 0.5, 0.95], axis=0)
        ahead = (better[measure] * (found[:, 1, j] - found[:, 0, j]) > 0).mean()
        cells = [f"{median[i]:.4f} ({low[i]:.4f} to {high[i]:.4f})" for i in range(2)]
        rows.append([measure, *cells, f"{100 * ahead:.1f} %"])
    return {
        "caption": f"{len(found):,} scenarios: median (5 % to 95 %)",
        "headings": ["measure", *METHODS, "scenarios in which HRP's is better"],
        "rows": rows,
    }
