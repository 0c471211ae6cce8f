"""ClusterAllocation: an allocation as an estimator of skfolio and scikit-learn (extra ``skfolio``).

It fits and predicts as every optimization of skfolio does, and so takes part in cross-validation, grid search,
pipelines and populations. It loads where it is first used: ``import jaxalloc`` does not import skfolio.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from typing import Any

import jax
import numpy as np

from jaxalloc.arguments.errors import InputError
from jaxalloc.portfolios.allocation import allocate
from jaxalloc.portfolios.result import Allocation, valid_universes
from jaxalloc.settings.config import AllocationConfig
from jaxalloc.settings.status import explain

try:
    from skfolio.optimization import BaseOptimization
    from sklearn.utils.validation import validate_data
except ImportError as error:
    raise ImportError("jaxalloc.skfolio needs skfolio: pip install 'jaxalloc[skfolio]'", name="skfolio") from error

__all__ = ["ClusterAllocation"]

_SHARED = tuple(field.name for field in dataclasses.fields(AllocationConfig) if field.name != "profiles")


class ClusterAllocation(BaseOptimization):
    """Two layers over clusters of correlated assets: one profile of `jaxalloc.allocate` as an estimator.

    Parameters are those of `AllocationConfig`, which explains them, with its defaults, but for ``profile`` and the unit
    of ``risk_free_rate``. As everywhere in scikit-learn nothing is checked before `fit`.

    Another value of a number compiles nothing; another choice, number of rows or number of assets does, once a process
    (seconds). A walk-forward whose windows are all as long compiles once, one whose windows expand at every fold.

    Args:
        profile: ``"min_variance"``, ``"risk_parity"``, ``"max_sharpe"``, ``"barbell"``, or a baseline of
            `AllocationConfig.profiles`.
        linkage: ``"average"``, ``"single"``, ``"complete"`` or ``"ward"``.
        criterion: ``"distance"`` cuts the tree at ``distance_threshold``, ``"maxclust"`` at ``max_clusters``.
        distance: ``"correlation"`` or ``"absolute"``.
        covariance: ``"sample"``, ``"ewma"``, ``"ledoit_wolf"`` or ``"oas"``.
        ewma_decay: lambda of ``covariance="ewma"``.
        distance_threshold: cut height, 0 to 1.
        max_clusters: largest number of clusters under ``criterion="maxclust"``.
        cluster_cap: largest weight of a cluster, a fraction.
        asset_cap: largest weight of an asset, a fraction.
        slack: how much room relaxed bounds leave, at least 1.
        risk_free_rate: simple rate *per period of the returns*, as skfolio has it: 3 % a year is ``0.03 / 252`` a day.
            Maximum Sharpe subtracts it, and so do the ratios of the predicted portfolios.
        periods_per_year: observations a year. Portfolios annualise by ``portfolio_params["annualization_factor"]``,
            252 by default.
        n_aggressors: clusters in the barbell's sleeve.
        aggressor_weight: weight of the barbell's sleeve, a fraction.
        precision: 64 or 32 bits, whatever JAX's own setting, which stays as it is.
        portfolio_params: keywords for the predicted portfolios; see `skfolio.optimization.BaseOptimization`.
        fallback: what to use where fitting fails; likewise.
        previous_weights: what the portfolios held before; of use to ``fallback`` and to portfolios with costs alone.
        raise_on_failure: whether a failure is raised, or warned of and remembered as ``error_``.

    Attributes:
        weights_: (N,) weight of each asset, a fraction; at least 0, sum 1. Of the precision's dtype.
        labels_: (N,) int cluster of each asset, 0..K-1 in order of each cluster's first asset; -1 for an asset whose
            returns are all equal.
        n_clusters_: int K.
        cluster_weights_: (K,) weight of each cluster, a fraction.
        lead_assets_: (K,) int, each cluster's lead asset as a column of X; ``feature_names_in_[lead_assets_]`` are
            their names.
        status_: int bit field of `Status`; `jaxalloc.explain` gives the messages.
        allocation_: the whole `Allocation`, of NumPy arrays with P = 1.
        n_features_in_: N.
        feature_names_in_: (N,) names of the assets, if X had columns with names that are strings.

    Example:
        >>> import jaxalloc as ja
        >>> market = ja.datasets.synthetic_market(n_assets=12)
        >>> model = ja.skfolio.ClusterAllocation(cluster_cap=0.3).fit(market[:500])
        >>> model.weights_.shape, float(model.weights_.sum().round(12))
        ((12,), 1.0)
        >>> model.predict(market[500:]).name
        'ClusterAllocation'
    """

    weights_: Any
    labels_: np.ndarray
    n_clusters_: int
    cluster_weights_: np.ndarray
    lead_assets_: np.ndarray
    status_: int
    allocation_: Allocation

    def __init__(
        self,
        profile: str = "risk_parity",
        *,
        linkage: str = "average",
        criterion: str = "distance",
        distance: str = "correlation",
        covariance: str = "sample",
        ewma_decay: float = 0.94,
        distance_threshold: float = 0.4,
        max_clusters: int = 10,
        cluster_cap: float = 0.25,
        asset_cap: float = 0.2,
        slack: float = 1.1,
        risk_free_rate: float = 0.0,
        periods_per_year: float = 252.0,
        n_aggressors: int = 5,
        aggressor_weight: float = 0.1,
        precision: int = 64,
        portfolio_params: dict[str, Any] | None = None,
        fallback: Any = None,
        previous_weights: Any = None,
        raise_on_failure: bool = True,
    ) -> None:
        """Keep the settings as they come; `fit` checks them."""
        super().__init__(
            portfolio_params=portfolio_params,
            fallback=fallback,
            previous_weights=previous_weights,
            raise_on_failure=raise_on_failure,
        )
        self.profile = profile
        self.linkage = linkage
        self.criterion = criterion
        self.distance = distance
        self.covariance = covariance
        self.ewma_decay = ewma_decay
        self.distance_threshold = distance_threshold
        self.max_clusters = max_clusters
        self.cluster_cap = cluster_cap
        self.asset_cap = asset_cap
        self.slack = slack
        self.risk_free_rate = risk_free_rate
        self.periods_per_year = periods_per_year
        self.n_aggressors = n_aggressors
        self.aggressor_weight = aggressor_weight
        self.precision = precision

    def fit(self, X: Any, y: Any = None) -> ClusterAllocation:
        """Allocate.

        Args:
            X: (T, N) simple returns per period, a fraction: array, or frame with the assets as columns.
            y: not used; there because every estimator has it.

        Returns:
            The estimator itself.

        Raises:
            InputError: a setting is out of range, a return is missing or infinite, or no asset's returns vary.
            ValueError: X is no matrix of numbers with at least two rows.
        """
        returns: Any = validate_data(self, X, dtype=np.float64, ensure_min_samples=2, ensure_all_finite=False)
        self._check_complete(returns)
        config = self._config()
        if self.precision not in (32, 64):
            raise InputError(f"precision must be 32 or 64 bits, not {self.precision!r}")
        with jax.enable_x64(self.precision == 64):
            result: Allocation = jax.tree.map(np.array, allocate(returns, config))
        if not valid_universes(result.status):
            raise InputError("; ".join(explain(int(result.status[0]))))
        self.allocation_ = result
        self.weights_ = result.weights[0]
        self.labels_ = result.cluster_labels
        self.n_clusters_ = int(result.n_clusters)
        self.cluster_weights_ = result.cluster_weights[0, : self.n_clusters_]
        self.lead_assets_ = result.lead_assets[0, : self.n_clusters_]
        self.status_ = int(result.status[0])
        return self

    def _config(self) -> AllocationConfig:
        """The settings, the risk-free rate a year's as the engine has it."""
        settings: dict[str, Any] = {name: getattr(self, name) for name in _SHARED}
        with contextlib.suppress(TypeError):  # one of the two is no number: the engine says which
            settings["risk_free_rate"] = self._annual_rate()
        return AllocationConfig(profiles=(self.profile,), **settings)

    def _annual_rate(self) -> float:
        annual = self.risk_free_rate * self.periods_per_year
        if not math.isnan(annual) and annual >= 1:
            raise InputError(
                f"risk_free_rate={self.risk_free_rate!r} a period is {annual:.0%} a year; divide an annual rate by "
                f"periods_per_year={self.periods_per_year!r}"
            )
        return annual

    def _check_complete(self, returns: np.ndarray) -> None:
        bad = ~np.isfinite(returns)
        if bad.any():
            row, column = np.argwhere(bad)[0]
            names = getattr(self, "feature_names_in_", None)
            asset = column if names is None else repr(str(names[column]))
            what = "NaN" if np.isnan(returns[row, column]) else "inf"
            raise InputError(
                f"X holds {what} for asset {asset} in row {row}, of {bad.sum()} such values; fill, drop or mask them, "
                "as jaxalloc.read_returns does with missing=..."
            )
