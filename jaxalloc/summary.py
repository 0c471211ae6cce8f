"""Allocations and studies -> pandas frames, and frames -> CSV that a spreadsheet opens without harm.

One universe: `weights_frame`, `asset_table`, `cluster_table`. A study: `universe_table`, `asset_summary`,
`profile_summary`, `status_counts`. Columns are fixed: each docstring lists them in order.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from jaxalloc.allocation import Allocation
from jaxalloc.config import AllocationConfig
from jaxalloc.errors import InputError
from jaxalloc.profiles import PROFILES
from jaxalloc.status import Status

if TYPE_CHECKING:
    from jaxalloc.study import Study

POSITIVE_WEIGHT = 1e-6  # what counts as holding an asset
QUANTILES = {"q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95}
ASSET_COLUMNS = ("symbol", "cluster", "weight", "share", "lead", "sleeve", "risk_contribution")
CLUSTER_COLUMNS = ("cluster", "weight", "size", "lead", "risk_contribution", "members")
MEASURES = ("volatility", "expected_return", "effective_assets", "turnover")

# a cell that starts with one of these may be taken for a formula (OWASP, "CSV injection")
_FORMULA_STARTS = ("=", "+", "-", "@")
_LINE_BREAKS = str.maketrans("\r\n", "  ")


# ---- one universe ---------------------------------------------------------------------------------------------------


def weights_frame(
    allocation: Allocation, assets: Sequence[Any] | pd.Index | None = None, profiles: Sequence[str] | None = None
) -> pd.DataFrame:
    """Return the weights of an allocation, one column a profile.

    Args:
        allocation: of one universe, or of a batch with one leading axis.
        assets: N names; the column numbers 0..N-1 by default.
        profiles: P names, such as ``config.profiles``; 0..P-1 by default.

    Returns:
        One universe: frame with the index "asset" and the columns "profile". A batch of B: the same below each other,
        B N rows with the index ("universe", "asset"). Weights are fractions, NaN in an invalid universe.

    Raises:
        InputError: the names are not as many as the assets or profiles, or there is more than one batch axis.
    """
    weights = np.asarray(allocation.weights)
    if weights.ndim not in (2, 3):
        raise InputError(f"weights must have shape (P, N) or (B, P, N) to make a frame, not {weights.shape}")
    n_profiles, n_assets = weights.shape[-2:]
    index = _names("asset", "assets", assets, n_assets)
    columns = _names("profile", "profiles", profiles, n_profiles)
    if weights.ndim == 3:
        index = pd.MultiIndex.from_product([range(len(weights)), index], names=["universe", "asset"])
    values = np.swapaxes(weights, -1, -2).reshape(-1, n_profiles)
    return pd.DataFrame(values, index=index, columns=columns)


def asset_table(
    allocation: Allocation, profile: str, config: AllocationConfig, symbols: Sequence[Any] | pd.Index
) -> pd.DataFrame:
    """Tabulate the assets of one universe's portfolio.

    Args:
        allocation: of one universe, without a batch axis.
        profile: one of ``config.profiles``.
        config: the settings that the allocation was computed with.
        symbols: N names, in the order of the returns' columns.

    Returns:
        Frame of N rows, numbered from 0, with the columns

        - symbol;
        - cluster: number from 0, as in `Allocation.cluster_labels`; -1 for an inactive asset;
        - weight: fraction of the portfolio;
        - share: fraction of its cluster's weight, 0 where that is 0;
        - lead: whether it is its cluster's lead asset;
        - sleeve: whether it is an aggressor of the barbell's sleeve; False in every other profile;
        - risk_contribution: share in the portfolio's variance, sum 1.

        The heaviest cluster comes first, in it the heaviest asset; inactive assets come last.

    Raises:
        InputError: the universe is invalid (nothing was allocated), or the arguments do not fit together.
    """
    position = _profile_of_one_universe(allocation, profile, config, symbols)
    labels = np.asarray(allocation.cluster_labels)
    weights = np.asarray(allocation.weights)[position]
    leads = np.asarray(allocation.lead_assets)[position]
    of_asset = np.where(labels >= 0, np.asarray(allocation.cluster_weights)[position, labels], 0)
    n_assets = len(labels)
    table = pd.DataFrame(
        {
            "symbol": list(symbols),
            "cluster": labels,
            "weight": weights,
            "share": np.divide(weights, of_asset, out=np.zeros_like(weights), where=of_asset > 0),
            "lead": np.isin(np.arange(n_assets), leads[leads >= 0]),
            "sleeve": np.asarray(allocation.aggressors) & PROFILES[profile].sleeve,
            "risk_contribution": np.asarray(allocation.risk_contributions)[position],
        },
        columns=ASSET_COLUMNS,
    )
    order = np.lexsort((np.arange(n_assets), -weights, labels, -of_asset, labels < 0))
    return table.iloc[order].reset_index(drop=True)


def cluster_table(
    allocation: Allocation, profile: str, config: AllocationConfig, symbols: Sequence[Any] | pd.Index
) -> pd.DataFrame:
    """Tabulate the clusters of one universe's portfolio.

    Args:
        allocation: of one universe, without a batch axis.
        profile: one of ``config.profiles``.
        config: the settings that the allocation was computed with.
        symbols: N names, in the order of the returns' columns.

    Returns:
        Frame of K rows, numbered from 0, the heaviest cluster first, with the columns

        - cluster: number from 0, as in `Allocation.cluster_labels`;
        - weight: fraction of the portfolio;
        - size: number of assets;
        - lead: symbol of the lead asset;
        - risk_contribution: share in the portfolio's variance, sum 1;
        - members: the symbols, heaviest first, joined by ", ".

    Raises:
        InputError: as `asset_table`.
    """
    assets = asset_table(allocation, profile, config, symbols)
    weights = np.asarray(allocation.cluster_weights)[config.profiles.index(profile)]
    rows = [
        (
            cluster,
            weights[cluster],
            len(members),
            members.loc[members["lead"], "symbol"].iloc[0],
            members["risk_contribution"].sum(),
            ", ".join(map(str, members["symbol"])),
        )
        for cluster, members in assets[assets["cluster"] >= 0].groupby("cluster", sort=False)
    ]
    return pd.DataFrame(rows, columns=CLUSTER_COLUMNS)


def _profile_of_one_universe(allocation: Allocation, profile: str, config: AllocationConfig, symbols: Any) -> int:
    """Position of the profile; raise unless the allocation is of one valid universe and fits the rest."""
    weights = np.asarray(allocation.weights)
    if weights.ndim != 2:
        raise InputError(f"a table shows one universe, with weights (P, N); these have shape {weights.shape}")
    if profile not in config.profiles:
        raise InputError(f"the allocation has no profile {profile!r}; it has {', '.join(config.profiles)}")
    if weights.shape != (len(config.profiles), len(symbols)):
        raise InputError(
            f"weights {weights.shape} do not fit {len(config.profiles)} profiles and {len(symbols)} symbols"
        )
    position = config.profiles.index(profile)
    if int(np.asarray(allocation.status)[position]) & Status.INVALID:
        raise InputError(Status.INVALID.message)
    return position


def _names(name: str, argument: str, values: Any, count: int) -> pd.Index:
    if values is None:
        return pd.RangeIndex(count, name=name)
    if len(values) != count:
        raise InputError(f"{argument} must hold {count} names, not {len(values)}")
    return pd.Index(values, name=name)


# ---- a study --------------------------------------------------------------------------------------------------------


def universe_table(study: Study) -> pd.DataFrame:
    """Tabulate every universe's portfolios.

    Returns:
        Frame of B P rows, by profile and within it by universe, with the columns universe (from 0), profile, valid
        (bool), n_clusters, n_assets (active ones), volatility and expected_return (annual fractions), effective_assets
        (1 / sum x^2), turnover (sum |x - x0| / 2, x0 the point estimate), optimality_gap, status (bit field of
        `Status`). In an invalid universe the figures are NaN, the counts 0.
    """
    universes = pd.DataFrame(
        {
            "universe": np.arange(study.n),
            "valid": study.valid,
            "n_clusters": study.n_clusters,
            "n_assets": study.active.sum(axis=1),
        }
    )
    parts = []
    for position, profile in enumerate(study.profiles):
        part = universes.join(_measures(study, position))
        part.insert(1, "profile", profile)
        part["optimality_gap"] = study.optimality_gap[:, position]
        part["status"] = study.status[:, position]
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def asset_summary(study: Study) -> pd.DataFrame:
    """Summarise each asset's weight over the valid universes in which it is active.

    Returns:
        Frame with the index ("profile", "symbol") and the columns point (weight in the point estimate; 0 if it is
        inactive there, NaN if that is invalid), mean, std (divisor count - 1), q05, q25, q50, q75, q95 (linear
        quantiles), frequency_positive (share of universes with a weight above 1e-6), frequency_lead (share in which it
        leads its cluster), n_universes (those counted). NaN where none is counted.
    """
    parts = []
    for position in range(len(study.profiles)):
        weights = pd.DataFrame(np.where(study.active, study.asset_weights[:, position], np.nan), dtype=np.float64)
        leads = study.is_lead[:, position].sum(axis=0)
        count = weights.count()
        part = _distribution(weights)
        part.insert(0, "point", np.asarray(study.point.weights, np.float64)[position])
        part["frequency_positive"] = (weights > POSITIVE_WEIGHT).sum() / count
        part["frequency_lead"] = leads / count
        part["n_universes"] = count
        parts.append(part.set_axis(pd.Index(study.symbols), axis=0))
    return pd.concat(parts, keys=study.profiles, names=["profile", "symbol"])


def profile_summary(study: Study) -> pd.DataFrame:
    """Summarise each profile's portfolios over the valid universes.

    Returns:
        Frame with the index ("profile", "measure"), measure one of volatility, expected_return (annual fractions),
        effective_assets (1 / sum x^2) and turnover (sum |x - x0| / 2 against the point estimate), and the columns point
        (of the point estimate), mean, std (divisor count - 1), q05, q25, q50, q75, q95 (linear quantiles), n_universes
        (those counted), valid_share (share of all universes that are valid).
    """
    parts = []
    for position in range(len(study.profiles)):
        measures = _measures(study, position)
        part = _distribution(measures)
        part.insert(0, "point", _point_measures(study, position).iloc[0])
        part["n_universes"] = measures.count()
        part["valid_share"] = study.valid.mean()
        parts.append(part)
    return pd.concat(parts, keys=study.profiles, names=["profile", "measure"])


def status_counts(study: Study) -> pd.DataFrame:
    """Count the universes in which each `Status` bit is set: index "profile", one column a bit, lowest first."""
    counts = {bit.name: ((study.status & bit.value) != 0).sum(axis=0) for bit in Status}
    return pd.DataFrame(counts, index=pd.Index(study.profiles, name="profile"))


def _measures(study: Study, position: int) -> pd.DataFrame:
    """`MEASURES` of one profile, a row a universe."""
    figures = study.volatility[:, position], study.expected_return[:, position]
    return _measure(study.asset_weights[:, position], *figures, study.point.weights[position])


def _point_measures(study: Study, position: int) -> pd.DataFrame:
    """The same of the point estimate, one row."""
    point, only = study.point, slice(position, position + 1)
    return _measure(point.weights[only], point.volatility[only], point.expected_return[only], point.weights[position])


def _measure(
    weights: np.ndarray, volatility: np.ndarray, expected_return: np.ndarray, point: np.ndarray
) -> pd.DataFrame:
    x = weights.astype(np.float64)
    columns = volatility, expected_return, 1 / (x**2).sum(axis=1), np.abs(x - point).sum(axis=1) / 2
    return pd.DataFrame(dict(zip(MEASURES, columns, strict=True)), dtype=np.float64)


def _distribution(values: pd.DataFrame) -> pd.DataFrame:
    """Mean, std and quantiles of each column, NaN left out; a row a column."""
    table = pd.DataFrame({"mean": values.mean(), "std": values.std()})
    for name, level in QUANTILES.items():
        table[name] = values.quantile(level)
    return table


# ---- files ----------------------------------------------------------------------------------------------------------


def write_csv(frame: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write a frame as UTF-8 CSV that spreadsheets open without running anything in it.

    An index with names is written as columns, another one is left out. Text (a symbol from a user's file) that begins
    as a formula does, with = + - @, a tab or a line break, gets an apostrophe in front, and its line breaks become
    spaces; so with column names.
    """
    named = all(name is not None for name in frame.index.names)
    # a symbol may be called as the index is
    table = frame.reset_index(allow_duplicates=True) if named else frame
    safe = {
        position: column if pd.api.types.is_numeric_dtype(column.dtype) else column.map(_harmless)
        for position, (_, column) in enumerate(table.items())
    }
    columns = [_harmless(name) for name in table.columns]
    pd.DataFrame(safe, index=table.index).set_axis(columns, axis=1).to_csv(path, index=False, encoding="utf-8")


def _harmless(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    # a lone carriage return would end the row for some readers, and make a cell of what follows it
    text = cell.translate(_LINE_BREAKS)
    formula = cell.startswith(("\t", "\r", "\n")) or cell.lstrip().startswith(_FORMULA_STARTS)
    return f"'{text}" if formula else text
