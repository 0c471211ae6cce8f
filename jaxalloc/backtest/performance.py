"""Series of returns measured: annual figures, paired differences, the deflated Sharpe ratio. NumPy's arrays alone."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from jaxalloc.kernels.lanes.precision import flat_below
from jaxalloc.settings.measures import BENCHMARK_MEASURES, RETURN_MEASURES

COMPARED = ("annual_return", "volatility", "sharpe")  # what `difference_intervals` compares

_EULER = 0.57721566490153286
_EPS = float(np.finfo(np.float64).eps)
_TAIL = 20  # the worst period of this many is in the tail
_TINY = 1e-300  # of the wealth, left after a total loss so that it has a logarithm


def performance(returns: np.ndarray, periods_per_year: Any, risk_free_rate: Any) -> dict[str, np.ndarray]:
    """Measure series of returns.

    With D returns r per period, A periods a year, the risk-free rate f a year, e = r - f / A and wealth
    W_t = prod (1 + r) from W_0 = 1:

    - annual_return: W_D^(A / D) - 1;
    - volatility: sqrt(A) s, s the standard deviation of r with divisor D - 1;
    - sharpe: sqrt(A) mean(e) / s;
    - sortino: sqrt(A) mean(e) / sqrt(mean(min(e, 0)^2)), the mean over all D (Sortino and Price, 1994);
    - max_drawdown: max_t (1 - W_t / max_{s <= t} W_s), a positive number;
    - calmar: annual_return / max_drawdown (Young, 1991);
    - cvar: `conditional_value_at_risk` of r, per period.

    Args:
        returns: (..., D) simple returns per period.
        periods_per_year: (...) A, or one number.
        risk_free_rate: (...) f, a simple annual rate, or one number.

    Returns:
        `RETURN_MEASURES` by name, each (...); NaN where one has no meaning: without returns, or a denominator of 0. A
        deviation or a drawdown that is all rounding is 0 (`jaxalloc.kernels.lanes.precision.flat_below`).

    Example:
        >>> figures = performance(np.array([0.1, -0.2, 0.1]), 3, 0.0)
        >>> {name: round(float(value), 4) for name, value in figures.items() if name in ("annual_return", "calmar")}
        {'annual_return': -0.032, 'calmar': -0.16}
    """
    n_days = returns.shape[-1]
    if n_days == 0:
        return {name: np.full(returns.shape[:-1], np.nan) for name in RETURN_MEASURES}
    a, f = np.asarray(periods_per_year, float), np.asarray(risk_free_rate, float)
    excess = returns - np.asarray(f / a)[..., None]
    mean, deviation = excess.mean(axis=-1), _deviation(returns)
    downside = _above(np.sqrt((np.minimum(excess, 0) ** 2).mean(axis=-1)), _flat_below(returns))
    wealth = np.cumprod(1 + returns, axis=-1)
    drawdown = (1 - wealth / np.maximum(np.maximum.accumulate(wealth, axis=-1), 1)).max(axis=-1)
    drawdown = _above(drawdown, n_days * _EPS)
    annual = wealth[..., -1] ** (a / n_days) - 1
    root = np.sqrt(a)
    return {
        "annual_return": annual,
        "volatility": root * deviation,
        "sharpe": root * _quotient(mean, deviation),
        "sortino": root * _quotient(mean, downside),
        "max_drawdown": drawdown,
        "calmar": _quotient(annual, drawdown),
        "cvar": conditional_value_at_risk(returns),
    }


def conditional_value_at_risk(returns: np.ndarray) -> np.ndarray:
    """Return the mean loss in the worst 5 % of the periods, a positive number where they lose.

    With losses L = -r and a = D / 20 it is the least of v + sum max(L - v, 0) / a over v, which the ceil(a)-th largest
    loss attains: the floor(a) largest losses count whole, the next one by the fraction a - floor(a), and their sum is
    divided by a (Rockafellar and Uryasev 2000, equation 9, for a sample). Under 20 periods it is the largest loss.

    Args:
        returns: (..., D) simple returns per period, D at least 1.

    Example:
        >>> returns = np.array([-0.3, 0.01, -0.1] + [0.02] * 27)
        >>> round(float(conditional_value_at_risk(returns)), 12)  # a = 1.5: (0.3 + 0.1 / 2) / 1.5
        0.233333333333
    """
    tail = returns.shape[-1] / _TAIL
    whole = int(tail)
    worst = np.partition(returns, whole, axis=-1)[..., : whole + 1]
    shares = np.append(np.ones(whole), tail - whole) / tail
    return -(np.sort(worst, axis=-1) * shares).sum(axis=-1)


def _deviation(values: np.ndarray) -> np.ndarray:
    """Standard deviation along the last axis, divisor D - 1; 0 where it is all rounding, NaN of less than two."""
    if values.shape[-1] < 2:
        return np.full(values.shape[:-1], np.nan)
    return _above(values.std(axis=-1, ddof=1), _flat_below(values))


def _flat_below(returns: np.ndarray) -> np.ndarray:
    return flat_below(np.abs(returns).max(axis=-1), np.float64)


def _above(values: np.ndarray, bound: Any) -> np.ndarray:
    """The values; 0 where they are not above the bound."""
    return np.where(values <= bound, 0, values)


def tracking_error(active: np.ndarray, periods_per_year: Any) -> np.ndarray:
    """Return the annual standard deviation (divisor D - 1) of (..., D) differences of returns."""
    return np.sqrt(np.asarray(periods_per_year, float)) * _deviation(active)


def against_benchmark(returns: np.ndarray, benchmark: np.ndarray, periods_per_year: Any) -> dict[str, np.ndarray]:
    """Measure series of returns beside those of a benchmark.

    With D returns r and b per period, A periods a year, and the active returns d = r - b:

    - beta: cov(r, b) / var(b), both with divisor D - 1;
    - correlation: of r and b;
    - active_risk: sqrt(A) s, s the standard deviation of d with divisor D - 1 (Grinold and Kahn, 2000; also called the
      tracking error);
    - information_ratio: A mean(d) / active_risk (Goodwin, 1998).

    Args:
        returns: (..., D) r.
        benchmark: (..., D) b, of a shape that broadcasts to that of r.
        periods_per_year: (...) A, or one number.

    Returns:
        `BENCHMARK_MEASURES` by name, each (...); NaN where one has no meaning: of fewer than two returns, or a
        denominator of 0. A deviation that is all rounding is 0 (`jaxalloc.kernels.lanes.precision.flat_below`).

    Example:
        >>> b = np.array([0.01, -0.02, 0.03])
        >>> figures = against_benchmark(0.001 + 2 * b, b, 252)
        >>> {name: round(float(figures[name]), 4) for name in ("beta", "correlation")}
        {'beta': 2.0, 'correlation': 1.0}
    """
    n_days = returns.shape[-1]
    if n_days < 2:
        return {name: np.full(returns.shape[:-1], np.nan) for name in BENCHMARK_MEASURES}
    own, its = _deviation(returns), _deviation(benchmark)
    centred = benchmark - benchmark.mean(axis=-1, keepdims=True)
    covariance = (returns * centred).sum(axis=-1) / (n_days - 1)
    active = returns - benchmark
    # differences carry the rounding of the returns, which may be much larger than they are
    rounding = np.maximum(_flat_below(returns), _flat_below(benchmark))
    root, deviation = np.sqrt(np.asarray(periods_per_year, float)), _above(active.std(axis=-1, ddof=1), rounding)
    return {
        "beta": _quotient(covariance, its**2),
        "correlation": np.clip(_quotient(covariance, own * its), -1, 1),
        "active_risk": root * deviation,
        "information_ratio": root * _quotient(active.mean(axis=-1), deviation),
    }


# ---- differences ----------------------------------------------------------------------------------------------------


def difference_intervals(
    returns: np.ndarray,
    pairs: np.ndarray,
    counts: np.ndarray,
    periods_per_year: np.ndarray,
    risk_free_rate: np.ndarray,
    level: float,
) -> dict[str, dict[str, np.ndarray]]:
    """Compare series of returns over the same resamples of their days.

    None of `COMPARED` depends on the order of the days, so a resample is how often it holds each. The interval is the
    percentile one: the central ``level`` of the resamples' differences (Efron, 1979; with blocks: Politis and Romano,
    1994).

    Args:
        returns: (M, D) series.
        pairs: (Q, 2) series to compare: the first minus the second.
        counts: (B, D) how often each resample holds each day; rows sum to D.
        periods_per_year: (M,).
        risk_free_rate: (M,) annual.
        level: of the interval, such as 0.95.

    Returns:
        For each of `COMPARED` a dictionary of (Q,) arrays: difference (of the series as they are), low, high, and
        share_above: the share of resamples in which the difference is above 0.
    """
    as_they_are = _compared(returns, np.ones((1, returns.shape[1])), periods_per_year, risk_free_rate)
    resampled = _compared(returns, counts.astype(float), periods_per_year, risk_free_rate)
    tail = (1 - level) / 2
    intervals = {}
    for name in COMPARED:
        drawn = resampled[name][:, pairs[:, 0]] - resampled[name][:, pairs[:, 1]]
        low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
        difference = as_they_are[name][0, pairs[:, 0]] - as_they_are[name][0, pairs[:, 1]]
        intervals[name] = {
            "difference": difference,
            "low": low,
            "high": high,
            "share_above": (drawn > 0).mean(axis=0),
        }
    return intervals


def _compared(returns: np.ndarray, counts: np.ndarray, a: np.ndarray, f: np.ndarray) -> dict[str, np.ndarray]:
    """(B, M) `COMPARED` of the resamples."""
    n_days = returns.shape[1]
    centre = returns.mean(axis=1)
    centred = (returns - centre[:, None]).T  # so that the difference of squares loses no digits
    mean = counts @ centred / n_days
    variance = np.maximum(counts @ centred**2 / n_days - mean**2, 0) * n_days / (n_days - 1)
    deviation = np.sqrt(variance)
    volatility = np.where(deviation > _flat_below(returns), np.sqrt(a * variance), 0)
    growth = counts @ np.log(np.maximum(1 + returns, _TINY)).T
    annual = np.expm1(growth * a / n_days)
    sharpe = _quotient(a * (mean + centre) - f, volatility)
    return {"annual_return": annual, "volatility": volatility, "sharpe": sharpe}


# ---- Sharpe ratios and chance ---------------------------------------------------------------------------------------


class SharpeMoments(NamedTuple):
    """Moments of M series of returns per period in excess of the risk-free rate; NaN where returns do not vary.

    Attributes:
        sharpe: (M,) mean / deviation, per period, the deviation with divisor D - 1.
        skewness: (M,) third standardised moment, divisor D.
        kurtosis: (M,) fourth standardised moment, divisor D, 3 for a normal distribution.
    """

    sharpe: np.ndarray
    skewness: np.ndarray
    kurtosis: np.ndarray


def moments(returns: np.ndarray, periods_per_year: Any, risk_free_rate: Any) -> SharpeMoments:
    """Return the moments that judge Sharpe ratios.

    Args:
        returns: (M, D) simple returns per period.
        periods_per_year: (M,) or one number.
        risk_free_rate: (M,) annual, or one number.
    """
    daily = np.broadcast_to(np.asarray(risk_free_rate, float) / np.asarray(periods_per_year, float), len(returns))
    excess = returns - daily[:, None]
    deviation = _deviation(returns)
    centred = excess - excess.mean(axis=1, keepdims=True)
    second = np.where(deviation > 0, (centred**2).mean(axis=1), 0)
    return SharpeMoments(
        sharpe=_quotient(excess.mean(axis=1), deviation),
        skewness=_quotient((centred**3).mean(axis=1), second**1.5),
        kurtosis=_quotient((centred**4).mean(axis=1), second**2),
    )


class Deflated(NamedTuple):
    """Deflated Sharpe ratios of M series, among which the best is chosen.

    Attributes:
        sharpe: (M,) per period.
        skewness: (M,) third standardised moment.
        kurtosis: (M,) fourth standardised moment, 3 for a normal distribution.
        expected_maximum: () Sharpe ratio per period that the best of the trials would show by chance; 0 for one trial.
        deflated_sharpe: (M,) probability that the true Sharpe ratio is above 0, given how many were tried.
    """

    sharpe: np.ndarray
    skewness: np.ndarray
    kurtosis: np.ndarray
    expected_maximum: float
    deflated_sharpe: np.ndarray


def expected_maximum_sharpe(variance: float, n_trials: int) -> float:
    """Return the Sharpe ratio that the best of several trials without skill is expected to show.

    sqrt(V) ((1 - g) Z(1 - 1/M) + g Z(1 - 1/(M e))) with g Euler's constant and Z the normal quantile function (Bailey
    and Lopez de Prado 2014, equation 6); 0 for one trial.

    Args:
        variance: V, of the trials' Sharpe ratios.
        n_trials: M.

    Example:
        >>> round(expected_maximum_sharpe(0.5 / 250, 100), 4)  # the paper's example: "0.1132"
        0.1132
    """
    if n_trials < 2:
        return 0.0
    normal = NormalDist()
    quantiles = normal.inv_cdf(1 - 1 / n_trials), normal.inv_cdf(1 - 1 / (n_trials * math.e))
    return math.sqrt(variance) * ((1 - _EULER) * quantiles[0] + _EULER * quantiles[1])


def probabilistic_sharpe(sharpe: Any, benchmark: Any, n_days: int, skewness: Any, kurtosis: Any) -> np.ndarray:
    """Return the probability that the true Sharpe ratio is above a benchmark.

    N((SR - SR0) sqrt(D - 1) / sqrt(1 - skewness SR + (kurtosis - 1) / 4 SR^2)), all per period (Bailey and Lopez de
    Prado 2012; 2014, equation 9); NaN where the root has none.

    Example:
        >>> at = 2.5 / 250**0.5  # the paper's example: "0.9004"
        >>> round(float(probabilistic_sharpe(at, expected_maximum_sharpe(0.5 / 250, 100), 1250, -3.0, 10.0)), 4)
        0.9004
    """
    spread = np.sqrt(_spread(sharpe, skewness, kurtosis))
    score = _quotient((sharpe - benchmark) * math.sqrt(n_days - 1), spread)
    return np.vectorize(NormalDist().cdf, otypes=[float])(score)


def min_track_record(sharpe: Any, benchmark: Any, skewness: Any, kurtosis: Any, alpha: float) -> np.ndarray:
    """Return how many periods make a Sharpe ratio significantly larger than a benchmark.

    1 + (1 - skewness SR + (kurtosis - 1) / 4 SR^2) (Z(alpha) / (SR - SR0))^2, all per period, Z the normal quantile
    function (Bailey and Lopez de Prado, 2012): with so many periods of the same moments the probability that the true
    ratio is above the benchmark is alpha.

    Args:
        sharpe: SR, per period.
        benchmark: SR0, per period.
        skewness: third standardised moment.
        kurtosis: fourth, 3 for a normal distribution.
        alpha: the confidence, above one half.

    Returns:
        Number of periods, not rounded; infinite where SR is not above SR0, NaN where the formula has no meaning.

    Example:
        >>> weekly = min_track_record(2 / 52**0.5, 1 / 52**0.5, 0.0, 3.0, 0.95) / 52  # the paper's "2.83 years"
        >>> round(float(weekly), 2)
        2.83
    """
    margin = np.asarray(sharpe - benchmark, float)
    score = _quotient(NormalDist().inv_cdf(alpha), margin)
    periods = 1 + _spread(sharpe, skewness, kurtosis) * score**2
    return np.where(margin <= 0, np.inf, periods)


def _spread(sharpe: Any, skewness: Any, kurtosis: Any) -> np.ndarray:
    """1 - skewness SR + (kurtosis - 1) / 4 SR^2; NaN where that is not above 0."""
    spread = np.asarray(1 - skewness * sharpe + (kurtosis - 1) / 4 * np.square(sharpe), float)
    return np.where(spread > 0, spread, np.nan)


def deflated_sharpe(returns: np.ndarray, periods_per_year: Any, risk_free_rate: Any, n_trials: int) -> Deflated:
    """Deflate the Sharpe ratios of M series; see `Deflated`.

    Args:
        returns: (M, D) simple returns per period.
        periods_per_year: (M,) or one number.
        risk_free_rate: (M,) annual, or one number.
        n_trials: how many were tried in all, at least M. The variance of the trials (divisor M - 1) is that of the M
            series.
    """
    sharpe, skewness, kurtosis = moments(returns, periods_per_year, risk_free_rate)
    usable = sharpe[np.isfinite(sharpe)]
    maximum = expected_maximum_sharpe(float(usable.var(ddof=1)), n_trials) if len(usable) > 1 else 0.0
    return Deflated(
        sharpe=sharpe,
        skewness=skewness,
        kurtosis=kurtosis,
        expected_maximum=maximum,
        deflated_sharpe=probabilistic_sharpe(sharpe, maximum, returns.shape[1], skewness, kurtosis),
    )


def _quotient(value: Any, whole: Any) -> np.ndarray:
    """The quotient; NaN where the denominator is not above 0."""
    value, whole = np.broadcast_arrays(np.asarray(value, float), np.asarray(whole, float))
    return np.divide(value, whole, out=np.full(value.shape, np.nan), where=whole > 0)
