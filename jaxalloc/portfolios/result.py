"""Allocation: the portfolios of one universe, or of many."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import pandas as pd

from jaxalloc.arguments.errors import InputError
from jaxalloc.settings.status import Status

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True)
class Allocation:
    """Portfolios of one universe, or of many with a leading batch axis; a JAX pytree.

    P profiles in the order of ``config.profiles``, N assets in the order of the returns' columns. Entries by cluster
    are padded to N. Of an `Status.INVALID` universe the numbers are NaN, labels and leads -1, counts 0.

    Attributes:
        weights: (..., P, N) weight of each asset, a fraction; at least 0, sum 1, 0 for an inactive asset.
        cluster_labels: (..., N) int, 0..K-1 in order of each cluster's first asset; -1 for an inactive asset.
        n_clusters: (...) int K.
        cluster_weights: (..., P, N) weight of each cluster, a fraction; 0 past K.
        lead_assets: (..., P, N) int, each cluster's asset of highest weight (in a barbell's sleeve, the aggressor) as a
            column index; -1 past K.
        aggressors: (..., N) bool, the assets of the barbell's sleeve; False if no barbell was asked for.
        antifragility: (..., N) score of each asset, 0 to 2; 0 for an inactive asset.
        volatility: (..., P) annual volatility of the portfolio, a fraction.
        expected_return: (..., P) annual mean return of the portfolio, a fraction.
        risk_contributions: (..., P, N) share of each asset in the variance, sum 1; the weights if there is no variance.
        asset_bound: (..., P) largest weight that an asset may have; in a barbell outside the sleeve, to which no bound
            applies.
        cluster_bound: (..., P) largest weight that a cluster may have, as far as its assets' bounds let it; likewise.
        optimality_gap: (..., P) how far the solution across clusters (the barbell's core) is from optimal, scale-free.
        iterations: (..., P) int, solver iterations: blocks of projected gradient, or sweeps of risk parity.
        status: (..., P) int, bit field of `Status`.
    """

    weights: Any
    cluster_labels: Any
    n_clusters: Any
    cluster_weights: Any
    lead_assets: Any
    aggressors: Any
    antifragility: Any
    volatility: Any
    expected_return: Any
    risk_contributions: Any
    asset_bound: Any
    cluster_bound: Any
    optimality_gap: Any
    iterations: Any
    status: Any

    def to_frame(self, assets: Any = None, profiles: tuple[str, ...] | None = None) -> pd.DataFrame:
        """Return the weights as a frame, one column a profile.

        Args:
            assets: N names; the column numbers 0..N-1 by default.
            profiles: P names, such as ``config.profiles``; 0..P-1 by default.

        Returns:
            One universe: frame with the index "asset" and the columns "profile". A batch of B: the same below each
            other, B N rows with the index ("universe", "asset"). Weights are fractions, NaN in an invalid universe.

        Raises:
            InputError: the names are not as many as the assets or profiles, or there is more than one batch axis.
        """
        return weights_frame(self, assets, profiles)


RESULT_FIELDS = tuple(f.name for f in dataclasses.fields(Allocation))


_UNIVERSE_FIELDS = ("cluster_labels", "n_clusters", "aggressors", "antifragility")


PROFILE_FIELDS = tuple(name for name in RESULT_FIELDS if name not in _UNIVERSE_FIELDS)  # with an axis P


jax.tree_util.register_dataclass(Allocation, data_fields=RESULT_FIELDS, meta_fields=())


def valid_universes(status: np.ndarray) -> np.ndarray:
    """(...) bool from status (..., P): True where the universe has portfolios."""
    return (np.asarray(status)[..., 0] & Status.INVALID.value) == 0


def universe_of(allocation: Allocation, index: int) -> Allocation:
    """Return one universe of a batch of NumPy arrays."""
    return Allocation(**{name: getattr(allocation, name)[index] for name in RESULT_FIELDS})


def weights_frame(
    allocation: Allocation, assets: Sequence[Any] | pd.Index | None = None, profiles: Sequence[str] | None = None
) -> pd.DataFrame:
    """Weights as a frame; see `Allocation.to_frame`."""
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


def _names(name: str, argument: str, values: Any, count: int) -> pd.Index:
    if values is None:
        return pd.RangeIndex(count, name=name)
    if len(values) != count:
        raise InputError(f"{argument} must hold {count} names, not {len(values)}")
    return pd.Index(values, name=name)
