"""ClusterAllocation: an allocation as an estimator of skfolio and scikit-learn (extra ``skfolio``).

It fits and predicts as every optimization of skfolio does, so it takes part in cross-validation, grid search,
pipelines and populations. It loads when it is first used: ``import jaxalloc`` does not import skfolio.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from typing import Any

import jax
import numpy as np
import pandas as pd

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import literal, lowered
from jaxalloc.engine.single import allocate
from jaxalloc.markets.panel import Panel, as_panel
from jaxalloc.markets.periods import periods_of_rows
from jaxalloc.portfolios.advice import why_invalid
from jaxalloc.portfolios.result import Allocation, valid_universes
from jaxalloc.settings.config import AUTO, PERIODS_WITHOUT_DATES, AllocationConfig, is_auto

try:
    from skfolio.optimization import BaseOptimization
    from sklearn.utils.validation import validate_data
except ImportError as error:
    raise ImportError("jaxalloc.skfolio needs skfolio: pip install 'jaxalloc[skfolio]'", name="skfolio") from error

__all__ = ["ClusterAllocation"]

_SHARED = tuple(field.name for field in dataclasses.fields(AllocationConfig) if field.name != "profiles")


class ClusterAllocation(BaseOptimization):
    """One profile of `jaxalloc.allocate`, which allocates over clusters of correlated assets, as an estimator.

    The parameters and their defaults are those of `AllocationConfig`, which explains them, except for ``profile`` and
    for the unit of ``risk_free_rate``. As everywhere in scikit-learn, nothing is checked before `fit`.

    Another value of a number compiles nothing. Another choice, number of rows or number of assets compiles once in a
    process, which takes seconds. So a walk-forward with windows of one length compiles once, and one with expanding
    windows compiles at every fold.

    Args:
        profile: ``"min_variance"``, ``"risk_parity"``, ``"max_sharpe"``, ``"barbell"``, or a baseline of
            `AllocationConfig.profiles`.
        linkage: ``"average"``, ``"single"``, ``"complete"`` or ``"ward"``.
        criterion: ``"distance"`` cuts the tree at ``distance_threshold``, ``"maxclust"`` at ``max_clusters``, and
            ``"silhouette"`` into the clusters of highest mean silhouette.
        distance: ``"correlation"`` or ``"absolute"``.
        detone: whether clusters are formed without the correlations' first principal component.
        covariance: ``"sample"``, ``"ewma"``, ``"ledoit_wolf"`` or ``"oas"``.
        ewma_decay: lambda of ``covariance="ewma"``.
        distance_threshold: height at which the tree is cut, 0 to 1.
        max_clusters: largest number of clusters under ``criterion="maxclust"`` and ``"silhouette"``, or ``"auto"``: 10
            under the first, 40 under the second.
        cluster_cap: largest weight of a cluster, a fraction.
        asset_cap: largest weight of an asset, a fraction.
        slack: what the caps sum to where few clusters or assets force them to be widened, at least 1.
        risk_free_rate: simple rate *per period of the returns*, as in skfolio: 3 % a year is ``0.03 / 252`` a day.
            Maximum Sharpe subtracts it, and so do the ratios of the predicted portfolios.
        periods_per_year: observations a year, or ``"auto"``: by the dates of X, and 252 where it has none. The
            predicted portfolios annualise by ``portfolio_params["annualization_factor"]`` instead, 252 by default.
        n_aggressors: clusters in the barbell's sleeve.
        aggressor_weight: weight of the barbell's sleeve, a fraction.
        precision: 64 or 32 bits; JAX's own setting does not matter and stays as it is.
        portfolio_params: keywords for the predicted portfolios; see `skfolio.optimization.BaseOptimization`.
        fallback: what to use if fitting fails; see `skfolio.optimization.BaseOptimization`.
        previous_weights: the weights held before; only ``fallback`` and portfolios with costs use them.
        raise_on_failure: whether a failure is raised; otherwise it is warned of and kept as ``error_``.

    Attributes:
        weights_: (N,) weight of each asset, a fraction, in the precision's dtype: at least 0, and 1 in all.
        labels_: (N,) int cluster of each asset, 0..K-1 in order of each cluster's first asset; -1 for an asset whose
            returns are all equal.
        n_clusters_: int K.
        cluster_weights_: (K,) weight of each cluster, a fraction.
        lead_assets_: (K,) int, each cluster's lead asset as a column of X; ``feature_names_in_[lead_assets_]`` are
            their names.
        status_: int bit field of `Status`; `jaxalloc.explain` gives the messages.
        allocation_: the whole `Allocation`, with NumPy arrays and P = 1.
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
        detone: bool = False,
        covariance: str = "sample",
        ewma_decay: float = 0.94,
        distance_threshold: float = 0.4,
        max_clusters: int | str = AUTO,
        cluster_cap: float = 0.25,
        asset_cap: float = 0.2,
        slack: float = 1.1,
        risk_free_rate: float = 0.0,
        periods_per_year: float | str = AUTO,
        n_aggressors: int = 5,
        aggressor_weight: float = 0.1,
        precision: int = 64,
        portfolio_params: dict[str, Any] | None = None,
        fallback: Any = None,
        previous_weights: Any = None,
        raise_on_failure: bool = True,
    ) -> None:
        """Keep the settings as they are given; `fit` checks them."""
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
        self.detone = detone
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
            X: (T, N) simple returns per period, fractions: an array, or a frame with the assets as columns.
            y: not used; every estimator has it.

        Returns:
            The estimator itself.

        Raises:
            InputError: a setting is out of range, a return is missing or infinite, no asset's returns vary, or a frame
                holds prices.
            ValueError: X is not a matrix of numbers with at least two rows.
        """
        returns: Any = validate_data(self, X, dtype=np.float64, ensure_min_samples=2, ensure_all_finite=False)
        self._check_complete(returns)
        _check_no_prices(X, returns)
        config = self._config(X)
        if self.precision not in (32, 64):
            raise InputError(f"precision must be 32 or 64 bits, not {literal(self.precision)}")
        with jax.enable_x64(self.precision == 64):
            result: Allocation = jax.tree.map(np.array, allocate(returns, config))
        if not valid_universes(result.status):
            symbols = getattr(self, "feature_names_in_", np.arange(returns.shape[1]))
            panel = Panel(pd.DataFrame(returns, columns=symbols))
            why = why_invalid(panel, config, np.dtype(f"float{self.precision}"))
            raise InputError(f"nothing was allocated: {lowered(why)}")
        self.allocation_ = result
        self.weights_ = result.weights[0]
        self.labels_ = result.cluster_labels
        self.n_clusters_ = int(result.n_clusters)
        self.cluster_weights_ = result.cluster_weights[0, : self.n_clusters_]
        self.lead_assets_ = result.lead_assets[0, : self.n_clusters_]
        self.status_ = int(result.status[0])
        return self

    def _config(self, X: Any) -> AllocationConfig:
        """The settings with the periods a year of X, and an annual risk-free rate, as the engine takes it."""
        settings: dict[str, Any] = {name: getattr(self, name) for name in _SHARED}
        config = periods_of_rows(AllocationConfig(profiles=(self.profile,), **settings), X)
        periods = PERIODS_WITHOUT_DATES if is_auto(config.periods_per_year) else config.periods_per_year
        with contextlib.suppress(TypeError):  # one of the two is no number, and `allocate` says which
            config = config.replace(risk_free_rate=self._annual_rate(periods))
        return config.replace(periods_per_year=periods)

    def _annual_rate(self, periods: Any) -> float:
        annual = self.risk_free_rate * periods
        if not math.isnan(annual) and annual >= 1:
            raise InputError(
                f"risk_free_rate={literal(self.risk_free_rate)} a period is {annual:.0%} a year; divide an annual rate "
                f"by periods_per_year={literal(periods)}"
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


def _check_no_prices(X: Any, returns: np.ndarray) -> None:
    """Raise `InputError` for a frame of prices; numbers of both signs are none, whatever their size."""
    if isinstance(X, pd.DataFrame) and (returns > 0).all():
        varying = returns.max(axis=0) > returns.min(axis=0)  # an asset at rest is no reason to refuse the others
        if varying.any():
            as_panel(X.loc[:, varying])
