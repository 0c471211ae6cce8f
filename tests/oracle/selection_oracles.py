"""Choices among trials in plain loops, as their papers tell them: overfitting, track records, tail losses, regret."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from oracles import (
    Array,
    asset_weights,
    barbell,
    clusters,
    correlation_distance,
    inverse_variance,
    layer_one,
    minmax,
    read_settings,
    synthetic,
)
from scipy import stats

SAME = 1e-10  # ratios that are as close as this are equal


@dataclass
class Overfitting:
    """What CSCV finds: by half, and over all halves."""

    pbo: float
    slope: float
    loss: float
    logits: list[float]
    best: list[int]


def sharpe(returns: Any, rate: float) -> float:
    """Ratio per period after a rate per period; 0 where all returns are the same."""
    returns = np.asarray(returns, float)
    if max(returns) == min(returns):
        return 0.0
    return float(np.mean(returns - rate) / np.std(returns, ddof=1))


def overfitting(returns: Array, n_blocks: int, rates: Any = None) -> Overfitting:
    """Bailey, Borwein, Lopez de Prado and Zhu (2017): (M, D) returns, one half after the other, ranks by counting."""
    n_trials, n_days = returns.shape
    rates = [0.0] * n_trials if rates is None else list(rates)
    rows = n_days // n_blocks
    first = n_days % n_blocks
    blocks = [list(range(first + b * rows, first + (b + 1) * rows)) for b in range(n_blocks)]
    logits, best, ins, outs = [], [], [], []
    for chosen in itertools.combinations(range(n_blocks), n_blocks // 2):
        inside = [day for b in chosen for day in blocks[b]]
        outside = [day for b in range(n_blocks) if b not in chosen for day in blocks[b]]
        in_sample = [sharpe(returns[j, inside], rates[j]) for j in range(n_trials)]
        out_of_sample = [sharpe(returns[j, outside], rates[j]) for j in range(n_trials)]
        winner = 0
        for j in range(1, n_trials):
            if in_sample[j] > in_sample[winner] and not math.isclose(
                in_sample[j], in_sample[winner], rel_tol=SAME, abs_tol=SAME
            ):
                winner = j
        own = out_of_sample[winner]
        equal = [math.isclose(ratio, own, rel_tol=SAME, abs_tol=SAME) for ratio in out_of_sample]
        below = sum(ratio < own and not same for ratio, same in zip(out_of_sample, equal, strict=True))
        rank = below + (sum(equal) + 1) / 2
        omega = rank / (n_trials + 1)
        logits.append(math.log(omega / (1 - omega)))
        best.append(winner)
        ins.append(in_sample[winner])
        outs.append(own)
    slope = stats.linregress(ins, outs).slope if max(ins) > min(ins) else math.nan
    return Overfitting(
        pbo=sum(logit <= 1e-12 for logit in logits) / len(logits),
        slope=float(slope),
        loss=sum(ratio < 0 for ratio in outs) / len(outs),
        logits=logits,
        best=best,
    )


def deviation_of_ratio(returns: Array, rate: float) -> tuple[float, float]:
    """Sharpe ratio per period, and sqrt(D - 1) times its standard error (Bailey and Lopez de Prado 2012)."""
    excess = np.asarray(returns, float) - rate
    ratio = float(excess.mean() / excess.std(ddof=1))
    skewness, kurtosis = stats.skew(excess), stats.kurtosis(excess, fisher=False)
    return ratio, math.sqrt(1 - skewness * ratio + (kurtosis - 1) / 4 * ratio**2)


def probabilistic_sharpe(returns: Array, rate: float, benchmark: float) -> float:
    """PSR, all per period."""
    ratio, deviation = deviation_of_ratio(returns, rate)
    return float(stats.norm.cdf((ratio - benchmark) * math.sqrt(len(returns) - 1) / deviation))


def min_track_record(returns: Array, rate: float, benchmark: float, alpha: float) -> float:
    """MinTRL in periods, all per period."""
    ratio, deviation = deviation_of_ratio(returns, rate)
    if ratio <= benchmark:
        return math.inf
    return float(1 + deviation**2 * (stats.norm.ppf(alpha) / (ratio - benchmark)) ** 2)


def conditional_value_at_risk(returns: Any, level: float = 0.95) -> float:
    """Rockafellar and Uryasev (2000): least of v + mean(max(L - v, 0)) / (1 - level); it bends at losses only."""
    losses = [-float(r) for r in returns]
    scale = (1 - level) * len(losses)
    return min(v + sum(max(loss - v, 0) for loss in losses) / scale for v in losses)


def tail_gain(mean: Array, covariance: Array, freedom: float | None = None) -> Array:
    """Expectation beyond the 95 % quantile of Gaussian, or t-distributed, returns with these moments, integrated."""
    law: Any = stats.norm() if freedom is None else stats.t(freedom, scale=math.sqrt((freedom - 2) / freedom))
    unit = law.expect(lambda z: z, lb=law.ppf(0.95)) / 0.05
    return mean + unit * np.sqrt(np.diag(covariance))


def true_portfolio(profile: str, mean: Array, covariance: Array, gains: Array, **settings: Any) -> Array:
    """Weights of a profile at annual moments; the barbell's scores are tail gains, for skewness is 0."""
    options = read_settings(**settings)
    labels = clusters(correlation_distance(covariance), options["linkage"], options["distance_threshold"])
    v = inverse_variance(np.diag(covariance), labels)
    S, m = synthetic(covariance, mean, v, labels)
    if profile == "barbell":
        return barbell(S, m, v, labels, minmax(gains), options)[0]
    problem = layer_one(profile, S, m, np.bincount(labels), np.arange(len(S)), options)
    return asset_weights(problem.w, v, labels, problem.beta)


def regret(weights: Array, goal: Array, mean: Array, covariance: Array, rate: float) -> dict[str, list[float]]:
    """Quotients of true figures, a universe at a time; universes of NaN are left out."""

    def figures(x: Array) -> dict[str, float]:
        volatility = math.sqrt(sum(x[i] * x[j] * covariance[i, j] for i in range(len(x)) for j in range(len(x))))
        return {"volatility": volatility, "sharpe": (sum(x * mean) - rate) / volatility}

    best = figures(goal)
    own = [figures(x) for x in weights if not np.isnan(x).any()]
    return {name: [each[name] / best[name] for each in own] for name in best}
