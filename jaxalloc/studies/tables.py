"""Allocations and studies -> pandas frames, and frames -> CSV that a spreadsheet opens without harm.

One universe: `weights_frame`, `asset_table`, `cluster_table`. A study: `universe_table`, `asset_summary`,
`profile_summary`, `status_counts`, `cluster_counts`, `co_association`, `cluster_stability`. Columns are fixed: each
docstring lists them in order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from jaxalloc.portfolios.profiles import PROFILES
from jaxalloc.portfolios.result import universe_of, valid_universes
from jaxalloc.studies.histogram import MEASURE_BINS, WEIGHT_BINS
from jaxalloc.studies.measures import MEASURES
from jaxalloc.studies.totals import BITS, spread_table

if TYPE_CHECKING:
    from jaxalloc.studies.study import Study

QUANTILES = {"q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95}


# ---- one universe ---------------------------------------------------------------------------------------------------


# ---- a study --------------------------------------------------------------------------------------------------------


def universe_table(study: Study, at: int | None = None) -> pd.DataFrame:
    """Tabulate every universe's portfolios.

    Args:
        study: one that keeps its universes.
        at: point of a sweep's grid; all of them by default.

    Returns:
        Frame of B P rows, by profile and within it by universe (in a sweep by point first, with the settings swept as
        first columns), with the columns universe (from 0), profile, valid (bool), n_clusters, n_assets (active ones),
        `jaxalloc.studies.measures.MEASURES` as `profile_summary` explains them, optimality_gap, status (bit field of
        `Status`). In an invalid universe the figures are NaN, the counts 0.
    """
    by_profile = (*MEASURES, "optimality_gap", "status")
    wanted = [f"{profile}.{name}" for profile in study.profiles for name in by_profile]
    columns = study.columns("point", "universe", "n_clusters", "cluster_labels", *wanted, at=at)
    shared = {
        "universe": columns["universe"],
        "valid": valid_universes(columns[f"{study.profiles[0]}.status"][:, None]),
        "n_clusters": columns["n_clusters"],
        "n_assets": (columns["cluster_labels"] >= 0).sum(axis=1),
    }
    parts = []
    for profile in study.profiles:
        part = pd.DataFrame(shared | {name: columns[f"{profile}.{name}"] for name in by_profile})
        part.insert(1, "profile", profile)
        for place, (name, values) in enumerate(study.settings.numbers(columns["point"]).items()):
            part.insert(place, name, values)
        parts.append(part.assign(point=columns["point"]))
    table = pd.concat(parts, ignore_index=True).sort_values("point", kind="stable", ignore_index=True)
    return table.drop(columns="point")


def asset_summary(study: Study, at: int | None = None) -> pd.DataFrame:
    """Summarise each asset's weight over the valid universes in which it is active.

    Args:
        study: the study.
        at: point of a sweep's grid; all of them by default.

    Returns:
        Frame with the index ("profile", "symbol"), in a sweep of several points after the settings swept, and the
        columns

        - point: weight in the point estimate; 0 if it is inactive there, NaN if that is invalid;
        - mean, std (divisor count - 1);
        - q05, q25, q50, q75, q95: linear quantiles, off by less than 0.8 % of the weight, or 1e-6 (see
          `jaxalloc.studies.measures`);
        - frequency_positive: share of those universes with a weight above 1e-6;
        - frequency_binding: with a weight within 1e-6 of the asset's bound (no bound applies to a sleeve);
        - frequency_lead: in which it leads its cluster;
        - frequency_sleeve: in which it is in the barbell's sleeve; 0 in other profiles;
        - n_universes: how many those are. NaN stands where there is none.
    """

    def one(point: int) -> pd.DataFrame:
        totals, parts = study.totals[point], []
        counts = totals.counts
        spreads = spread_table(totals.weights, counts.weights, WEIGHT_BINS, QUANTILES)
        for p, profile in enumerate(study.profiles):
            n_universes = totals.weights.count[p]
            sleeve = counts.aggressor if PROFILES[profile].sleeve else np.zeros_like(counts.aggressor)
            often = {"positive": counts.positive[p], "binding": counts.binding[p], "lead": counts.lead[p]}
            part = pd.DataFrame({"point": study.estimates.weights[point, p].astype(float)})
            part = part.assign(**{name: values[p] for name, values in spreads.items()})
            for name, values in (often | {"sleeve": sleeve}).items():
                part[f"frequency_{name}"] = _share(values, n_universes)
            part["n_universes"] = n_universes
            parts.append(part.set_axis(pd.Index(study.symbols), axis=0))
        return pd.concat(parts, keys=study.profiles, names=["profile", "symbol"])

    return study.over_points(one, at)


def profile_summary(study: Study, at: int | None = None) -> pd.DataFrame:
    """Summarise each profile's portfolios over the valid universes.

    Args:
        study: the study.
        at: point of a sweep's grid; all of them by default.

    Returns:
        Frame with the index ("profile", "measure"), in a sweep of several points after the settings swept; measure is
        one of

        - volatility, expected_return: annual, fractions, by the universe's own estimates;
        - sharpe: of those two, after ``risk_free_rate``: the ratio in sample, as out_of_bag_sharpe is out of it;
        - effective_assets, effective_clusters: 1 / sum x^2 over the weights of assets, of clusters;
        - effective_bets: exp(- sum p ln p) over the clusters' shares p in the variance, those below 0 left out and the
          others scaled to sum 1: the number of clusters that, with equal shares, would be as diverse (the entropy form
          of Meucci, 2009);
        - concentration: sum x^2 over assets, the Herfindahl index;
        - turnover: sum |x - x0| / 2 over the universe's active assets, x0 the point estimate;
        - out_of_bag_return, out_of_bag_volatility, out_of_bag_sharpe: annual, of constant weights over the rows that a
          bootstrap resample leaves out and where all that is held has a return; volatility with divisor count - 1; not
          counted under 20 rows. A shock does not reach those rows.

        The columns are point (of the point estimate), mean, std (divisor count - 1), q05, q25, q50, q75, q95 (linear
        quantiles, off by less than 0.4 %, see `jaxalloc.studies.measures`), n_universes (those counted), valid_share
        (share of all universes that are valid).
    """

    def one(point: int) -> pd.DataFrame:
        totals, parts = study.totals[point], []
        counts = totals.counts
        spreads = spread_table(totals.measures, counts.measures, MEASURE_BINS, QUANTILES)
        for p in range(len(study.profiles)):
            part = pd.DataFrame({"point": _point_measures(study, point, p)}, index=pd.Index(MEASURES))
            part = part.assign(**{name: values[p] for name, values in spreads.items()})
            part["n_universes"] = totals.measures.count[p]
            part["valid_share"] = float(_share(counts.n_valid, counts.n))
            parts.append(part)
        return pd.concat(parts, keys=study.profiles, names=["profile", "measure"])

    return study.over_points(one, at)


def status_counts(study: Study, at: int | None = None) -> pd.DataFrame:
    """Count the universes in which each `Status` bit is set: index "profile", one column a bit, lowest first."""

    def one(point: int) -> pd.DataFrame:
        names = [str(bit.name) for bit in BITS]
        return pd.DataFrame(
            study.totals[point].tallies.status, columns=names, index=pd.Index(study.profiles, name="profile")
        )

    return study.over_points(one, at)


def cluster_counts(study: Study, at: int | None = None) -> pd.Series:
    """Count the valid universes by their number of clusters: index "n_clusters", those that occur."""

    def one(point: int) -> pd.DataFrame:
        counts = study.totals[point].tallies.n_clusters
        found = np.flatnonzero(counts)
        return pd.DataFrame({"universes": counts[found]}, index=pd.Index(found, name="n_clusters"))

    table = study.over_points(one, at)
    return pd.Series(table["universes"])


def co_association(study: Study, at: int = 0) -> pd.DataFrame:
    """Tabulate how often two assets share a cluster.

    Args:
        study: the study.
        at: point of a sweep's grid.

    Returns:
        (N, N) frame of the share of universes, among those where both are active; NaN where there is none.
    """
    counts = study.totals[at].tallies
    names = pd.Index(study.symbols, name="symbol")
    return pd.DataFrame(_share(counts.together, counts.both), index=names, columns=names.rename(None))


def cluster_stability(study: Study, at: int = 0) -> pd.DataFrame:
    """Tell how well the clusters of the point estimate hold together over the universes.

    Args:
        study: the study.
        at: point of a sweep's grid.

    Returns:
        Frame with the index "cluster" and the columns size, stability (0 to 1: the mean co-association of the
        cluster's pairs; of a cluster of one asset 1 minus its largest co-association with any other) and members
        (symbols joined by ", "). Without rows if the point estimate is invalid.
    """
    together = co_association(study, at).to_numpy()
    labels = study.estimates.cluster_labels[at]
    rows = []
    for cluster in range(labels.max(initial=-1) + 1):
        members = np.flatnonzero(labels == cluster)
        if len(members) == 1:
            others = np.delete(together[members[0]], members[0])
            stability = 1 - np.nanmax(others) if np.isfinite(others).any() else np.nan
        else:
            pairs = together[members][:, members][np.triu_indices(len(members), 1)]
            stability = np.nanmean(pairs) if np.isfinite(pairs).any() else np.nan
        rows.append((len(members), stability, ", ".join(study.symbols[i] for i in members)))
    return pd.DataFrame(rows, columns=["size", "stability", "members"]).rename_axis("cluster")


def _point_measures(study: Study, point: int, p: int) -> list[float]:
    """`MEASURES` of the point estimate, which leaves no rows out."""
    estimate = universe_of(study.estimates, point)
    herfindahl = (estimate.weights[p].astype(float) ** 2).sum()
    clusters = (estimate.cluster_weights[p].astype(float) ** 2).sum()
    turnover = herfindahl * 0  # NaN where there is no portfolio
    volatility, mean = (float(figure[p]) for figure in (estimate.volatility, estimate.expected_return))
    sharpe = (mean - study.settings.at(point).risk_free_rate) / volatility if volatility > 0 else np.nan
    bets = effective_bets(estimate.risk_contributions[p], estimate.cluster_labels)
    figures = [volatility, mean, sharpe, 1 / herfindahl, 1 / clusters, bets, herfindahl, turnover]
    return [float(figure) for figure in figures] + [np.nan] * (len(MEASURES) - len(figures))


def effective_bets(contributions: np.ndarray, labels: np.ndarray) -> float:
    """Return `profile_summary`'s effective_bets of one portfolio from its assets' (N,) risk contributions."""
    active = labels >= 0
    shares = np.bincount(labels[active], weights=contributions[active].astype(float))
    shares = shares[shares > 0]
    if not len(shares):
        return np.nan
    shares = shares / shares.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _share(part: Any, whole: Any) -> np.ndarray:
    part, whole = np.asarray(part, float), np.asarray(whole, float)
    return np.divide(part, whole, out=np.full(np.broadcast_shapes(part.shape, whole.shape), np.nan), where=whole > 0)


# ---- files ----------------------------------------------------------------------------------------------------------
