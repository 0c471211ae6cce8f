"""The portfolios of one universe as pandas frames. Each docstring lists the columns in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from jaxalloc.arguments.errors import InputError
from jaxalloc.portfolios.profiles import PROFILES
from jaxalloc.portfolios.result import Allocation
from jaxalloc.settings.config import AllocationConfig
from jaxalloc.settings.status import Status

ASSET_COLUMNS = ("symbol", "cluster", "weight", "share", "lead", "sleeve", "risk_contribution")
CLUSTER_COLUMNS = ("cluster", "weight", "size", "lead", "risk_contribution", "members")


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
