"""Regret: what is lost by allocating at estimated moments, where the true ones are known.

The true portfolio of a profile is the same profile at the moments of the distribution that universes are drawn from.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np
import pandas as pd

from jaxalloc.arguments.errors import InputError
from jaxalloc.engine.single import allocate
from jaxalloc.settings.config import AllocationConfig
from jaxalloc.studies.tables import QUANTILES
from jaxalloc.universes.scenarios import Truth

MEASURED = ("volatility", "sharpe")
# samplers that change neither the assets nor the distribution
_SAME_TRUTH = ("Bootstrap", "RollingWindows", "CombinatorialSplits")


def check_truth(sampler: Mapping[str, Any], truth: Truth | None) -> Truth:
    """Return the distribution of a study's universes.

    Args:
        sampler: the study's record of it.
        truth: as the study has it.

    Raises:
        InputError: the universes have no distribution that is known, or not all the same one.
    """
    factors = [part["sampler"] for part in sampler.get("factors", [sampler])]
    if factors[:1] != ["Parametric"]:
        raise InputError(
            "regret needs true moments, which only simulated returns have: run a study of Parametric(...) universes"
        )
    others = [name for name in factors[1:] if name not in _SAME_TRUTH]
    if others:
        raise InputError(
            f"regret needs universes of one distribution and of all assets: run a study of Parametric(...) without "
            f"{others[0]}"
        )
    if truth is None:
        raise InputError("the study was written before true moments were kept: run it again with resume=True")
    return truth


def regret(truth: Truth, config: AllocationConfig, chunks: Iterable[dict[str, np.ndarray]]) -> pd.DataFrame:
    """Measure the universes' weights at the true moments, against the true portfolios.

    Args:
        truth: the distribution.
        config: the settings, with a number of periods a year.
        chunks: for each chunk (rows, N) weights by the names PROFILE.weights; NaN in an invalid universe.

    Returns:
        As `Study.regret` describes it, for one point.
    """
    true = [_measure(weights, truth, config) for weights in _true_weights(truth, config)]
    parts: dict[str, list[np.ndarray]] = {profile: [] for profile in config.profiles}
    for chunk in chunks:
        for profile, measured in parts.items():
            measured.append(_measure(chunk[f"{profile}.weights"], truth, config))
    tables = []
    for profile, goal in zip(config.profiles, true, strict=True):
        measured = np.concatenate(parts[profile], axis=1)
        rows = [_row(float(best), values) for best, values in zip(goal, measured, strict=True)]
        tables.append(pd.DataFrame(rows, index=pd.Index(MEASURED)))
    return pd.concat(tables, keys=config.profiles, names=["profile", "measure"])


def _true_weights(truth: Truth, config: AllocationConfig) -> np.ndarray:
    """(P, N) weights of the profiles at the true moments."""
    # two rows have the distribution's scores: the skewness of fewer than three is 0, and the upper is the tail gain
    middle = truth.mean / float(config.periods_per_year)
    rows = np.stack([2 * middle - truth.tail_gain, truth.tail_gain])
    with jax.enable_x64(True):
        return np.asarray(allocate(rows, config, mean=truth.mean, covariance=truth.covariance).weights)


def _measure(weights: np.ndarray, truth: Truth, config: AllocationConfig) -> np.ndarray:
    """(2, ...) true annual volatilities and Sharpe ratios of (..., N) weights; NaN without variance."""
    weights = weights.astype(float)
    weights = weights / weights.sum(axis=-1, keepdims=True)  # those of float32 sum to 1 nearly
    variance = ((weights @ truth.covariance) * weights).sum(axis=-1)
    volatility = np.sqrt(np.where(variance > 0, variance, np.nan))
    return np.stack([volatility, (weights @ truth.mean - config.risk_free_rate) / volatility])


def _row(goal: float, measured: np.ndarray) -> dict[str, Any]:
    """The quotients of some figures by that of the true portfolio, summarised."""
    valid = measured[np.isfinite(measured)] if goal > 0 else np.empty(0)
    quotients = pd.Series(valid / goal, dtype=float)
    levels = {name: quotients.quantile(level) for name, level in QUANTILES.items()}
    goal = goal if math.isfinite(goal) else math.nan
    return {"truth": goal, "mean": quotients.mean(), "std": quotients.std(), **levels, "n_universes": len(valid)}
