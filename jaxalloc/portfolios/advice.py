"""What is to be said of settings, returns and portfolios that stand in each other's way: sentences, in Python's words.

Each function returns the sentences that apply, none if all is well. `advise` has those of a run, in order.
`why_invalid` names what keeps a universe from having portfolios.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxalloc.arguments.words import counted, joined, listing, per_cent, quote
from jaxalloc.kernels.lanes.precision import is_computable
from jaxalloc.markets.dates import label_text
from jaxalloc.markets.holes import MAX_MISSING, weigh_gaps
from jaxalloc.markets.panel import Panel
from jaxalloc.portfolios.inputs import with_holes_filled
from jaxalloc.settings.config import AllocationConfig, most_clusters
from jaxalloc.settings.readers import OF_ALLOCATION, READERS, unread
from jaxalloc.settings.status import Status
from jaxalloc.settings.sweep import SWEPT_CHOICES, Sweep

HIGH_RATE = 1.0  # a risk-free rate above it, 100 % a year, is meant in per cent
HIGH_VOLATILITY = 0.6  # a year, of the median asset
FEWEST_ASSETS = 4  # every partition of fewer has one large cluster or single assets for the most part


def advise(
    settings: Sweep,
    returns: np.ndarray,
    labels: np.ndarray,
    *,
    n_rows: int,
    subset: int | None = None,
    figures: Sequence[str] = OF_ALLOCATION,
    leads: bool = False,
) -> list[str]:
    """Return what is to be said of a run.

    Args:
        settings: checked, with numbers alone.
        returns: (T, N) of the panel, NaN where missing.
        labels: (N,) clusters of the assets at the point `Sweep.home`, -1 where inactive; all -1 where there are none.
        n_rows: rows that a universe has.
        subset: assets that a universe is drawn to have; None for all.
        figures: the measures that are shown beside the weights.
        leads: whether lead assets alone are held.
    """
    n_active = int((labels >= 0).sum())
    n_assets = min(n_active or returns.shape[1], returns.shape[1] if subset is None else subset)
    return [
        *setting_advice(settings, figures, leads=leads),
        *row_advice(settings.config, n_rows, n_assets),
        *volatility_advice(settings.config, returns),
        *(cap_advice(settings, n_assets) if n_active else ()),
        *cluster_advice(settings.at(settings.home), labels, leads=leads),
    ]


def setting_advice(settings: Sweep, figures: Sequence[str] = OF_ALLOCATION, *, leads: bool = False) -> list[str]:
    """Say which settings nothing reads (`jaxalloc.settings.readers.unread`), and of a rate that was meant in per cent.

    Args:
        settings: checked.
        figures: the measures that are shown beside the weights.
        leads: whether lead assets alone are held.
    """
    notes = unread(settings.config, settings.names, figures, leads=leads)
    if leads and (settings.config.asset_cap != AllocationConfig().asset_cap or "asset_cap" in settings.names):
        notes.append(
            "asset_cap holds for the portfolios as they are decided: execution='lead' then puts each cluster's whole "
            "weight on one asset."
        )
    choices = [name for name in settings.names if name in SWEPT_CHOICES]
    if choices:
        count = math.prod(len(values) for name, values in settings.grid if name in choices)
        programs = counted(count, "combination")
        notes.append(
            f"The sweep of {joined(choices)} compiles the programs that depend on it for {programs} of choices."
        )
    rate = max(_values(settings, "risk_free_rate"))
    if rate > HIGH_RATE:
        notes.append(
            f"risk_free_rate={rate:g} is {per_cent(rate, 0, '-')} a year; it is a fraction: write {rate:g} % as "
            f"{rate / 100:g}."
        )
    return notes


def row_advice(config: AllocationConfig, n_rows: int, n_assets: int) -> list[str]:
    """Say that there are no more rows than assets, for profiles that read a covariance."""
    if n_rows > n_assets or not _any_reads("covariance", config):
        return []
    has = f"A universe has {counted(n_rows, 'row')} of returns for {counted(n_assets, 'asset')}"
    if config.covariance in ("sample", "ewma"):
        return [f"{has}, so its covariance is singular: use more rows, fewer assets, or covariance='ledoit_wolf'."]
    return [f"{has}, so its covariance rests on little: use more rows, or fewer assets."]


def volatility_advice(config: AllocationConfig, returns: np.ndarray) -> list[str]:
    """Say that the typical asset is far more volatile than most that can be bought."""
    some = np.isfinite(returns).sum(axis=0) > 1
    if not some.any():
        return []
    with np.errstate(over="ignore", invalid="ignore"):
        deviation = np.nanstd(returns[:, some], axis=0, ddof=1)
        typical = float(np.median(deviation) * np.sqrt(float(config.periods_per_year)))
    if not typical > HIGH_VOLATILITY:
        return []
    return [
        f"The median asset's volatility is {per_cent(typical, 0, 'infinite')} a year: check that returns are fractions "
        f"(0.01 is 1 %), and that periods_per_year={float(config.periods_per_year):g} is right."
    ]


def cap_advice(settings: Sweep, n_assets: int) -> list[str]:
    """Say which asset caps are widened, because so few assets cannot hold a portfolio under them."""
    if not _any_reads("asset_cap", settings.config):
        return []
    widened = []
    for point in range(len(settings)):
        config = settings.at(point)
        cap, bound = float(config.asset_cap), float(config.slack) / n_assets
        if cap < bound:
            widened.append(f"asset_cap={cap:g} to {per_cent(min(bound, 1), 1, '-')}")
    if not widened:
        return []
    raised = listing(dict.fromkeys(widened))
    return [
        f"{counted(n_assets, 'asset')} cannot be fully invested under so low a cap, which is raised to slack / assets: "
        f"{raised}."
    ]


def cluster_advice(config: AllocationConfig, labels: np.ndarray, *, leads: bool = False) -> list[str]:
    """Say that the clusters say little: most assets alone, or most of them in one.

    Args:
        config: settings.
        labels: (N,) clusters of the assets, -1 where inactive.
        leads: whether lead assets alone are held, so that every profile's holdings depend on the clusters.
    """
    sizes = np.bincount(labels[labels >= 0])
    n_assets, alone = int(sizes.sum()), int((sizes == 1).sum())
    if n_assets < FEWEST_ASSETS or not (leads or _any_reads("criterion", config)):
        return []
    by_height, most = config.criterion == "distance", most_clusters(config)
    if 2 * alone > n_assets:
        what, more = f"{alone} of {counted(n_assets, 'asset')} are alone in their clusters", "raise"
    elif 2 * sizes.max() > n_assets and (by_height or most > 1):
        what, more = f"One cluster has {int(sizes.max())} of {counted(n_assets, 'asset')}", "lower"
    else:
        return []
    others = [
        *([] if config.detone else ["detone=True"]),
        *([] if config.criterion == "silhouette" else ["criterion='silhouette'"]),
    ]
    instead = f"try {' with '.join(others)}" if others else "choose another linkage"
    if by_height:
        try_this = f"{instead}, or {more} distance_threshold ({float(config.distance_threshold):g})"
    elif config.criterion == "maxclust":
        other = "lower" if more == "raise" else "raise"
        try_this = f"{instead}, or {other} max_clusters ({int(most)})"
    else:
        try_this = instead
    return [f"{what}, so the clusters say little: {try_this}."]


def _any_reads(name: str, config: AllocationConfig) -> bool:
    """Whether a profile of ``config`` reads a setting."""
    return not set(READERS[name].profiles).isdisjoint(config.profiles)


def _values(settings: Sweep, name: str) -> list[float]:
    return [float(getattr(settings.at(point), name)) for point in range(len(settings))]


# ---- nothing could be allocated -------------------------------------------------------------------------------------


def why_none(panel: Panel, settings: Sweep, dtype: Any, unit: str, max_missing: float = MAX_MISSING) -> str:
    """Say why none of the universes drawn from a panel has portfolios.

    Args:
        panel: the returns.
        settings: of the run.
        dtype: of the computation.
        unit: what a universe is called.
        max_missing: share of a universe's rows that an asset may miss.
    """
    gaps = weigh_gaps(panel.values, max_missing)
    if not gaps.whole.any():
        return f"No asset has returns in enough rows of a {unit}: {_gaps(panel, ~np.isfinite(panel.values))}."
    return why_invalid(with_holes_filled(panel, gaps), settings.at(settings.home), dtype, mask=gaps.whole)


def why_invalid(
    panel: Panel,
    config: AllocationConfig,
    dtype: Any,
    weights: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    *,
    mean: Any = None,
    covariance: Any = None,
    clusters: Any = None,
) -> str:
    """Say why a universe has the status `Status.INVALID`, and which assets and rows are at fault.

    Args:
        panel: the returns, (T, N).
        config: settings.
        dtype: of the computation.
        weights: (T,) observation weights; ones by default.
        mask: (N,) bool, the assets that take part; all by default.
        mean: (N,) as the caller gives it; None where it is estimated.
        covariance: (N, N) likewise.
        clusters: (N,) likewise.
    """
    x = panel.values
    c = np.ones(len(x)) if weights is None else np.asarray(weights, float)
    active = np.ones(x.shape[1], bool) if mask is None else np.asarray(mask, bool)
    bad = ~np.isfinite(c) | (c < 0)
    if bad.any():
        row = int(np.argmax(bad))
        return f"observation_weights must be at least 0, and is {c[row]:g} in row {label_text(panel.dates[row])}."
    if c.sum() < 2:
        return f"The rows have a weight of {c.sum():g} in all, and two are needed: use more rows."
    if not active.any():
        return f"No asset is left: {_gaps(panel, ~np.isfinite(x))}."
    used = c > 0
    missing = ~np.isfinite(x) & used[:, None] & active[None, :]
    if missing.any():
        return f"Returns in use are missing or infinite: {_gaps(panel, missing)}."
    seen = x[used][:, active]
    symbols = np.array(panel.symbols, object)[active]
    varying = seen.max(axis=0) > seen.min(axis=0)
    if not varying.any():
        rows = f"from {label_text(panel.dates[used][0])} to {label_text(panel.dates[used][-1])}"
        return f"The returns of every asset are all equal {rows}: {listing(map(quote, symbols))}."
    with np.errstate(over="ignore", invalid="ignore"):
        variance = (float(config.periods_per_year) * seen.astype(dtype).var(axis=0)).astype(dtype)
        extreme = varying & ~np.asarray(is_computable(variance))
    if extreme.any():
        k = int(np.argmax(extreme))
        row = int(np.abs(seen[:, k]).argmax())
        where = f"on {label_text(panel.dates[used][row])}"
        return (
            f"The variance of {quote(symbols[k])} is past what {np.dtype(dtype).name} holds; its largest return is "
            f"{seen[row, k]:g} {where}: correct it, or leave the asset out."
        )
    given = {
        "mean": None if mean is None else ~np.isfinite(mean),
        "covariance": None
        if covariance is None
        else ~(np.isfinite(covariance).all(axis=0) & is_computable(np.diag(covariance))),
        "clusters": None if clusters is None else np.asarray(clusters) < 0,
    }
    for name, wrong in given.items():
        if wrong is not None and wrong[active].any():
            what = {"mean": "finite", "covariance": "finite, with variances above 0", "clusters": "at least 0"}[name]
            return f"{name} must be {what}, and is not for {listing(map(quote, symbols[wrong[active]]))}."
    if config.covariance == "ewma":
        return f"ewma_decay={float(config.ewma_decay):g} leaves a single row with weight: raise it."
    return f"{Status.INVALID.message[0].upper()}{Status.INVALID.message[1:]}."


def _gaps(panel: Panel, missing: np.ndarray) -> str:
    """The assets that lack returns, how many, and where the first is."""
    counts = missing.sum(axis=0)
    order = np.argsort(-counts, kind="stable")[: int((counts > 0).sum())]
    return listing(
        f"{quote(panel.symbols[i])} lacks {counts[i]:,} of {len(missing):,}, the first in row "
        f"{label_text(panel.dates[int(missing[:, i].argmax())])}"
        for i in order
    )
