"""A study's totals and columns -> pandas frames, for one point of its grid.

`Study` has a method for each of these functions. The method lists the columns in order, and puts the frames of several
points below each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from jaxalloc.portfolios.profiles import PROFILES
from jaxalloc.portfolios.result import valid_universes
from jaxalloc.settings.measures import MEASURES
from jaxalloc.settings.sweep import Points, Sweep
from jaxalloc.studies.histogram import MEASURE_BINS, WEIGHT_BINS
from jaxalloc.studies.totals import BITS, Totals, spread_table

QUANTILES = {"q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95}

_BY_PROFILE = (*MEASURES, "optimality_gap", "status")


def over_points(grid: Points, table: Callable[[int], pd.DataFrame]) -> pd.DataFrame:
    """Return the tables of all points below each other, what varies as first levels; without a grid the only table.

    Args:
        grid: of the points.
        table: makes the table of a point, given its number.
    """
    if not grid.names:
        return table(0)
    points = grid.points
    frames = [table(point) for point in range(len(points))]
    keys = [point[0] for point in points] if len(grid.names) == 1 else points
    return pd.concat(frames, keys=keys, names=[*grid.names, *frames[0].index.names])


def universe_columns(profiles: Sequence[str]) -> list[str]:
    """Return the names of the columns that `universe_table` reads."""
    return [
        *("point", "universe", "n_clusters", "cluster_labels"),
        *(f"{profile}.{name}" for profile in profiles for name in _BY_PROFILE),
    ]


def universe_table(columns: Mapping[str, np.ndarray], settings: Sweep) -> pd.DataFrame:
    """Tabulate every universe's portfolios.

    Args:
        columns: the `universe_columns`, (R,) or (R, N), a row a universe at a point of the grid.
        settings: the grid of settings.

    Returns:
        As `Study.universes` describes it, for one point.
    """
    profiles = settings.config.profiles
    shared = {
        "universe": columns["universe"],
        "valid": valid_universes(columns[f"{profiles[0]}.status"][:, None]),
        "n_clusters": columns["n_clusters"],
        "n_assets": (columns["cluster_labels"] >= 0).sum(axis=1),
    }
    parts = []
    for profile in profiles:
        part = pd.DataFrame(shared | {name: columns[f"{profile}.{name}"] for name in _BY_PROFILE})
        part.insert(1, "profile", profile)
        for place, (name, values) in enumerate(settings.numbers(columns["point"]).items()):
            part.insert(place, name, values)
        parts.append(part.assign(point=columns["point"]))
    table = pd.concat(parts, ignore_index=True).sort_values("point", kind="stable", ignore_index=True)
    return table.drop(columns="point")


def asset_summary(
    totals: Totals, estimated: np.ndarray, symbols: Sequence[str], profiles: Sequence[str]
) -> pd.DataFrame:
    """Summarise each asset's weight over the valid universes in which it is active.

    Args:
        totals: of the universes.
        estimated: (P, N) weights of the panel's own portfolios.
        symbols: the N assets.
        profiles: the P profiles.

    Returns:
        As `Study.summary` describes it, for one point.
    """
    counts, parts = totals.counts, []
    spreads = spread_table(totals.weights, counts.weights, WEIGHT_BINS, QUANTILES)
    for p, profile in enumerate(profiles):
        n_universes = totals.weights.count[p]
        sleeve = counts.aggressor if PROFILES[profile].sleeve else np.zeros_like(counts.aggressor)
        frequencies = {
            "positive": counts.positive[p],
            "binding": counts.binding[p],
            "lead": counts.lead[p],
            "sleeve": sleeve,
        }
        part = pd.DataFrame({"point": estimated[p].astype(float)})
        part = part.assign(**{name: values[p] for name, values in spreads.items()})
        for name, values in frequencies.items():
            part[f"frequency_{name}"] = _share(values, n_universes)
        part["n_universes"] = n_universes
        parts.append(part.set_axis(pd.Index(symbols), axis=0))
    return pd.concat(parts, keys=profiles, names=["profile", "symbol"])


def bagged_weights(totals: Totals, profile: int, symbols: Sequence[str]) -> pd.DataFrame:
    """Average a profile's weights over the valid universes, an inactive asset counting as 0.

    Args:
        totals: of the universes.
        profile: its number.
        symbols: the N assets.

    Returns:
        As `Study.bagged` describes it.
    """
    spread, n = totals.weights, int(totals.tallies.n_valid)
    count, mean, squares = (np.asarray(part[profile], float) for part in (spread.count, spread.mean, spread.squares))
    weight = mean * count / max(n, 1)
    # the squares about the mean of all, from those about the mean of the universes in which the asset is active
    about = squares + mean**2 * count * (1 - count / max(n, 1))
    columns = {
        "weight": weight / weight.sum() if n else np.full(len(symbols), np.nan),
        "standard_error": np.sqrt(about / (n - 1)) if n > 1 else np.full(len(symbols), np.nan),
    }
    return pd.DataFrame(columns, index=pd.Index(symbols, name="symbol"))


def profile_summary(totals: Totals, estimated: np.ndarray, profiles: Sequence[str]) -> pd.DataFrame:
    """Summarise each profile's portfolios over the valid universes.

    Args:
        totals: of the universes.
        estimated: (P, M) `MEASURES` of the panel's own portfolios.
        profiles: the P profiles.

    Returns:
        As `Study.profile_summary` describes it, for one point.
    """
    counts, parts = totals.counts, []
    spreads = spread_table(totals.measures, counts.measures, MEASURE_BINS, QUANTILES)
    for p in range(len(profiles)):
        part = pd.DataFrame({"point": estimated[p]}, index=pd.Index(MEASURES))
        part = part.assign(**{name: values[p] for name, values in spreads.items()})
        part["n_universes"] = totals.measures.count[p]
        part["valid_share"] = float(_share(counts.n_valid, counts.n))
        parts.append(part)
    return pd.concat(parts, keys=profiles, names=["profile", "measure"])


def status_counts(totals: Totals, profiles: Sequence[str]) -> pd.DataFrame:
    """Count the universes in which each `Status` bit is set: index "profile", one column a bit, lowest first."""
    names = [str(bit.name) for bit in BITS]
    return pd.DataFrame(totals.tallies.status, columns=names, index=pd.Index(profiles, name="profile"))


def cluster_counts(totals: Totals) -> pd.DataFrame:
    """Count the valid universes by their number of clusters: index "n_clusters", those that occur."""
    counts = totals.tallies.n_clusters
    occurring = np.flatnonzero(counts)
    return pd.DataFrame({"universes": counts[occurring]}, index=pd.Index(occurring, name="n_clusters"))


def co_association(totals: Totals, symbols: Sequence[str]) -> pd.DataFrame:
    """Tabulate how often two assets share a cluster.

    Args:
        totals: of the universes.
        symbols: the N assets.

    Returns:
        As `Study.co_association` describes it, for one point.
    """
    names = pd.Index(symbols, name="symbol")
    shares = _share(totals.tallies.together, totals.tallies.both)
    return pd.DataFrame(shares, index=names, columns=names.rename(None))


def cluster_stability(totals: Totals, labels: np.ndarray, symbols: list[str]) -> pd.DataFrame:
    """Tell how well the panel's own clusters hold together over the universes.

    Args:
        totals: of the universes.
        labels: (N,) the panel's own clusters, -1 for an inactive asset.
        symbols: the N assets.

    Returns:
        As `Study.cluster_stability` describes it, for one point.
    """
    together = co_association(totals, symbols).to_numpy()
    rows = []
    for cluster in range(labels.max(initial=-1) + 1):
        members = np.flatnonzero(labels == cluster)
        if len(members) == 1:
            others = np.delete(together[members[0]], members[0])
            stability = 1 - np.nanmax(others) if np.isfinite(others).any() else np.nan
        else:
            pairs = together[members][:, members][np.triu_indices(len(members), 1)]
            stability = np.nanmean(pairs) if np.isfinite(pairs).any() else np.nan
        rows.append((len(members), stability, ", ".join(symbols[int(i)] for i in members)))
    return pd.DataFrame(rows, columns=["size", "stability", "members"]).rename_axis("cluster")


def _share(part: Any, whole: Any) -> np.ndarray:
    part, whole = np.asarray(part, float), np.asarray(whole, float)
    return np.divide(part, whole, out=np.full(np.broadcast_shapes(part.shape, whole.shape), np.nan), where=whole > 0)
