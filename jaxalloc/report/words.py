"""Numbers as a reader wants them, and sentences that say what they mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxalloc.arguments.words import counted

if TYPE_CHECKING:
    import pandas as pd

# from which median turnover on a portfolio is called so
_VERDICTS = (
    (0.05, "Very stable"),
    (0.15, "Fairly stable"),
    (0.30, "It moves a good deal"),
    (0.50, "Unstable"),
    (math.inf, "Mostly chance"),
)
NONE = "–"  # noqa: RUF001 a dash for no number


def percent(value: float, digits: int = 1) -> str:
    """A fraction as per cent."""
    return f"{100 * value:.{digits}f} %" if math.isfinite(value) else NONE


def ratio(value: float) -> str:
    """A number with two decimals."""
    return f"{value:.2f}" if math.isfinite(value) else NONE


def sentence(words: str) -> str:
    """Words as a sentence."""
    return f"{words[:1].upper()}{words[1:]}."


def stability_sentence(turnover: dict[Any, Any], n_universes: int, leads: float) -> str:
    """Say in plain words how stable a portfolio is.

    Args:
        turnover: that row of `Study.profile_summary`: the share of the capital that is placed otherwise.
        n_universes: valid ones.
        leads: in what share of universes the estimate's lead assets lead, by weight; NaN for not known.
    """
    if n_universes <= 1:
        return "One universe says nothing about stability: draw resamples to see how far the weights move."
    if not turnover["n_universes"]:
        return "The data as a whole are no valid universe, so there is no estimate for the universes to differ from."
    median, high = float(turnover["q50"]), float(turnover["q95"])
    verdict = next(words for limit, words in _VERDICTS if median < limit)
    text = (
        f"{verdict}: half of the universes place at least {percent(median, 0)} of the capital otherwise than the "
        f"estimate does, one in twenty {percent(high, 0)} or more"
    )
    if math.isfinite(leads):
        text += f"; the estimate's lead assets lead in {percent(leads, 0)} of them"
    return text + "."


def clusters_sentence(stability: pd.DataFrame, counts: pd.Series) -> str:
    """Say how well the estimate's clusters hold together, and how many there are in the universes."""
    known = stability.dropna(subset="stability")
    if known.empty or counts.empty:
        return ""
    mean = float(np.average(known["stability"], weights=known["size"]))
    below = counts.cumsum() / counts.sum()
    low, high = (below.index[int((below < level).sum())] for level in (0.05, 0.95))
    how_many = f"{low}" if low == high else f"{low} to {high}"
    return (
        f"The estimate's {counted(len(stability), 'cluster')} hold together in {percent(mean, 0)} of the universes, "
        f"weighted by size; nine universes in ten have {how_many} of them."
    )


def joined(words: Sequence[str], shown: int = 12) -> str:
    """The first few words, and how many more there are."""
    more = f" and {len(words) - shown:,} more" if len(words) > shown else ""
    return ", ".join(words[:shown]) + more


def sampler_words(settings: dict[str, Any]) -> str:
    """Say how the universes were drawn."""
    kind = settings.get("sampler")
    if kind == "Product":
        factors = [sampler_words(factor) for factor in settings["factors"]]
        return ", times ".join(factors) or "the data as they are"
    if kind == "Bootstrap":
        blocks = "" if settings["method"] == "iid" else f", blocks of {settings['block_length']:g} rows"
        return counted(settings["n"], f"{settings['method']} bootstrap resample") + blocks
    if kind == "RollingWindows":
        what = "expanding windows from" if settings["expanding"] else "rolling windows of"
        return f"{what} {settings['window']} rows, a step of {settings['step']}"
    if kind == "RandomSubsets":
        return f"random subsets of {settings['size']} assets"
    if kind == "Parametric":
        name = "Student-t" if settings["distribution"] == "student_t" else "Gaussian"
        return counted(settings["n"], f"{name} simulation")
    if kind == "Stress":
        n_scenarios = np.asarray(settings["volatility"], float).reshape(-1).shape[0]
        return counted(n_scenarios, "stress scenario") if settings["names"] is None else "stress by asset"
    return str(kind)
