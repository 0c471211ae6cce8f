"""Numbers as a reader wants them, and sentences that say what they mean."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxalloc.arguments.words import counted, decimal, per_cent

if TYPE_CHECKING:
    import pandas as pd

# a portfolio whose median turnover from the estimate is below the number is called by the words
_VERDICTS = (
    (0.05, "Very stable"),
    (0.15, "Fairly stable"),
    (0.30, "Not very stable"),
    (0.50, "Unstable"),
    (math.inf, "Mostly chance"),
)
NONE = "–"  # noqa: RUF001 the dash that stands for no number


def percent(value: float, digits: int = 1) -> str:
    """Return a fraction in per cent; what rounds to zero has no sign."""
    return per_cent(value, digits, NONE)


def ratio(value: float) -> str:
    """Return a number with two decimals; what rounds to zero has no sign."""
    return decimal(value, 2, NONE)


def sentence(words: str) -> str:
    """Return words as a sentence."""
    return f"{words[:1].upper()}{words[1:]}."


def stability_sentence(turnover: dict[Any, Any], n_universes: int, leads: float) -> str:
    """Say in plain words how stable a portfolio is.

    Args:
        turnover: its row of `Study.profile_summary`: the share of the capital that is placed differently.
        n_universes: how many universes are valid.
        leads: the share of universes in which a lead asset of the estimate leads, on average by weight; NaN if unknown.
    """
    if n_universes <= 1:
        return "One universe says nothing about stability: draw resamples to see how far the weights move."
    if not turnover["n_universes"]:
        return "The panel as a whole is not a valid universe, so there is no estimate to compare the universes with."
    median, high = float(turnover["q50"]), float(turnover["q95"])
    verdict = next(words for limit, words in _VERDICTS if median < limit)
    text = (
        f"{verdict}: in half of the universes at least {percent(median, 0)} of the capital is placed differently from "
        f"the estimate, in one in twenty at least {percent(high, 0)}."
    )
    if math.isfinite(leads):
        share = percent(leads, 0)
        text += f" On average, a lead asset of the estimate also leads its cluster in {share} of the universes."
    return text


def clusters_sentence(stability: pd.DataFrame, counts: pd.Series) -> str:
    """Say how stable the estimate's clusters are, and how many clusters the universes have."""
    known = stability.dropna(subset="stability")
    if known.empty or counts.empty:
        return ""
    mean = float(np.average(known["stability"], weights=known["size"]))
    below = counts.cumsum() / counts.sum()
    low, high = (below.index[int((below < level).sum())] for level in (0.05, 0.95))
    how_many = f"{low}" if low == high else f"{low} to {high}"
    unit = "cluster" if low == high == 1 else "clusters"
    return (
        f"The estimate has {counted(len(stability), 'cluster')}; their mean stability, weighted by size, is "
        f"{percent(mean, 0)}. Nine universes in ten have {how_many} {unit}."
    )


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
        step = settings["step"]
        step = f"a step of {step}" if isinstance(step, str) else f"a step of {counted(step, 'row')}"
        what = "expanding windows from" if settings["expanding"] else "rolling windows of"
        return f"{what} {settings['window']} rows, {step}"
    if kind == "CombinatorialSplits":
        return f"the rows around {settings['test_groups']} of {settings['groups']} groups of rows, each choice of them"
    if kind == "RandomSubsets":
        return f"random subsets of {settings['size']} assets"
    if kind == "Parametric":
        name = "Student-t" if settings["distribution"] == "student_t" else "Gaussian"
        return counted(settings["n"], f"{name} simulation")
    if kind == "Stress":
        n_scenarios = np.asarray(settings["volatility"], float).reshape(-1).shape[0]
        return counted(n_scenarios, "stress scenario") if settings["names"] is None else "stress by asset"
    return str(kind)
