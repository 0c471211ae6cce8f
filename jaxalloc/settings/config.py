"""AllocationConfig: every setting of an allocation. Numbers are traced, and choices are static."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import literal

CLUSTER_PROFILES = ("min_variance", "risk_parity", "max_sharpe", "barbell")
ASSET_PROFILES = (
    "equal_weight",
    "inverse_variance",
    "inverse_volatility",
    "hrp",
    "herc",
    "nco",
    "asset_min_variance",
    "asset_max_sharpe",
    "asset_risk_parity",
    "max_diversification",
)
PROFILE_NAMES = CLUSTER_PROFILES + ASSET_PROFILES  # `jaxalloc.portfolios.profiles` says how each is solved
DEFAULT_PROFILES = CLUSTER_PROFILES
LINKAGES = ("average", "single", "complete", "ward")
CRITERIA = ("distance", "maxclust", "silhouette")
DISTANCES = ("correlation", "absolute")
COVARIANCES = ("sample", "ewma", "ledoit_wolf", "oas")

AUTO = "auto"
PERIODS_WITHOUT_DATES = 252.0  # rows a year where ``periods_per_year="auto"`` meets returns without dates
MOST_CLUSTERS = {"silhouette": 40}  # what ``max_clusters="auto"`` is under a criterion; 10 under the others

COUNTS = ("max_clusters", "n_aggressors")  # whole numbers


@dataclasses.dataclass(frozen=True)
class AllocationConfig:
    """Settings of an allocation; a JAX pytree whose leaves are its numbers.

    Every number is traced: another value compiles nothing. The choices (``profiles``, ``linkage``, ``criterion``,
    ``distance``, ``detone``, ``covariance``) are static. Another set of profiles compiles nothing where their solvers
    are compiled; another one of the other choices compiles the programs that depend on it; all this in a program of the
    caller's own, under `jax.jit`, compiles that anew. Nothing is checked on construction, because JAX rebuilds the
    record while tracing; `check_config` is called at the host's entry points.

    Attributes:
        profiles: which portfolios to compute, in the order of the results' profile axis. Over clusters they are
            ``"min_variance"``, ``"risk_parity"``, ``"max_sharpe"`` and ``"barbell"``. Over assets, as baselines:
            ``"equal_weight"``, ``"inverse_variance"``, ``"inverse_volatility"``, ``"hrp"``, ``"herc"``, ``"nco"``,
            ``"asset_min_variance"``, ``"asset_max_sharpe"``, ``"asset_risk_parity"`` and ``"max_diversification"``.
        linkage: ``"average"``, ``"single"``, ``"complete"`` or ``"ward"``.
        criterion: how the tree is cut: ``"distance"`` (at ``distance_threshold``), ``"maxclust"`` (at the smallest
            height that leaves at most ``max_clusters``) or ``"silhouette"`` (into the number of clusters, from 2 to
            ``max_clusters`` and less than N, whose mean silhouette is highest; at ``distance_threshold`` where there is
            no such number, as of two assets).
        distance: ``"correlation"``, sqrt((1 - rho) / 2), or ``"absolute"``, sqrt((1 - |rho|) / 2).
        detone: whether the distances are those of the correlations without their first principal component, the market,
            which otherwise hides what else assets have in common (see `jaxalloc.kernels.clusters.detoned`). Clusters
            alone are made of them; risk never is.
        covariance: how means and covariances are estimated: ``"sample"``; ``"ewma"``, with exponentially decaying
            observation weights; ``"ledoit_wolf"`` or ``"oas"``, the sample's with its correlations shrunk towards zero
            (see `jaxalloc.kernels.moments.shrinkage`).
        ewma_decay: lambda of ``covariance="ewma"``, greater than 0 and at most 1: each row weighs lambda times as much
            as the next one. The default is that of RiskMetrics for daily data (J.P. Morgan/Reuters 1996); 1 gives the
            plain sample.
        distance_threshold: height at which the tree is cut, in units of the distance, 0 to 1; with linkage ``"ward"``
            heights may exceed 1.
        max_clusters: largest number of clusters under ``criterion="maxclust"`` and ``"silhouette"``: a number, or
            ``"auto"``, which is 10 for the first and 40 for the second.
        cluster_cap: largest weight of a cluster, a fraction; with K clusters the cap is at least ``slack / K``.
        asset_cap: largest weight of an asset, a fraction; with N active assets the cap is at least ``slack / N``.
        slack: what the caps sum to where few clusters or assets force them to be widened, at least 1. Caps that sum to
            1 leave no choice: every weight is then at its cap.
        risk_free_rate: annual simple rate that maximum Sharpe subtracts from the mean return.
        periods_per_year: observations a year, to annualise means and covariances: a number, or ``"auto"``, which takes
            it from the spacing of the returns' dates (see `jaxalloc.markets.periods`). Returns without dates then have
            252 a year.
        n_aggressors: clusters in the barbell's sleeve.
        aggressor_weight: weight of the barbell's sleeve, a fraction.
    """

    profiles: tuple[str, ...] = DEFAULT_PROFILES
    linkage: str = "average"
    criterion: str = "distance"
    distance: str = "correlation"
    detone: bool = False
    covariance: str = "sample"
    ewma_decay: Any = 0.94
    distance_threshold: Any = 0.4
    max_clusters: Any = AUTO
    cluster_cap: Any = 0.25
    asset_cap: Any = 0.2
    slack: Any = 1.1
    risk_free_rate: Any = 0.0
    periods_per_year: Any = AUTO
    n_aggressors: Any = 5
    aggressor_weight: Any = 0.1

    def replace(self, **changes: Any) -> AllocationConfig:
        """Return a copy with ``changes``."""
        return dataclasses.replace(self, **changes)


STATIC_FIELDS = ("profiles", "linkage", "criterion", "distance", "detone", "covariance")
CLUSTER_CHOICES = ("linkage", "criterion", "distance", "detone")
NUMERIC_FIELDS = tuple(f.name for f in dataclasses.fields(AllocationConfig) if f.name not in STATIC_FIELDS)


def is_auto(value: Any) -> bool:
    """Tell whether a value of ``periods_per_year`` or ``max_clusters`` is ``"auto"``."""
    return isinstance(value, str) and value == AUTO


def most_clusters(config: AllocationConfig) -> Any:
    """``max_clusters``, or what ``"auto"`` stands for."""
    return MOST_CLUSTERS.get(config.criterion, 10) if is_auto(config.max_clusters) else config.max_clusters


def _children(config: AllocationConfig) -> list[Any]:
    """The numbers; an empty tuple, which has no leaf, for ``"auto"``."""
    values = (getattr(config, name) for name in NUMERIC_FIELDS)
    return [() if is_auto(value) else value for value in values]


def _choices(config: AllocationConfig) -> tuple[Any, ...]:
    return tuple(getattr(config, name) for name in STATIC_FIELDS)


def _with_keys(config: AllocationConfig) -> tuple[list[tuple[Any, Any]], tuple[Any, ...]]:
    keys = map(jax.tree_util.GetAttrKey, NUMERIC_FIELDS)
    return list(zip(keys, _children(config), strict=True)), _choices(config)


def _rebuilt(choices: tuple[Any, ...], children: Iterable[Any]) -> AllocationConfig:
    values = [AUTO if isinstance(child, tuple) and not child else child for child in children]
    fields: dict[str, Any] = dict(zip((*STATIC_FIELDS, *NUMERIC_FIELDS), (*choices, *values), strict=True))
    return AllocationConfig(**fields)


jax.tree_util.register_pytree_with_keys(
    AllocationConfig, _with_keys, _rebuilt, lambda config: (_children(config), _choices(config))
)


def cast_config(
    config: AllocationConfig, dtype: Any, asarray: Callable[[Any, Any], Any] = jnp.asarray
) -> AllocationConfig:
    """Return ``config`` with every number as an array: counts int32, the rest ``dtype``; no number is "auto".

    A Python float, a NumPy scalar and a JAX scalar then trace alike, so that none of them compiles a second program.

    Args:
        config: settings.
        dtype: float32 or float64.
        asarray: makes an array of a value and a dtype, by default one of JAX, which takes much longer than NumPy.
    """
    numbers = {name: getattr(config, name) for name in NUMERIC_FIELDS} | {"max_clusters": most_clusters(config)}
    if is_auto(config.periods_per_year):
        numbers["periods_per_year"] = PERIODS_WITHOUT_DATES
    counts = np.dtype(np.int32)
    return config.replace(
        **{name: asarray(number, counts if name in COUNTS else dtype) for name, number in numbers.items()}
    )


def check_config(config: AllocationConfig) -> AllocationConfig:
    """Return ``config``; raise `InputError` where a choice is unknown or a number is out of range.

    Traced numbers are not checked, because they have no value yet.
    """
    if not isinstance(config, AllocationConfig):
        raise InputError(f"config must be an AllocationConfig, not {type(config).__name__}")
    _check_choices(config)
    _check_range(config, "ewma_decay", "greater than 0 and at most 1", lambda x: 0 < x <= 1)
    _check_range(config, "cluster_cap", "greater than 0 and at most 1", lambda x: 0 < x <= 1)
    _check_range(config, "asset_cap", "greater than 0 and at most 1", lambda x: 0 < x <= 1)
    _check_range(config, "slack", "at least 1", lambda x: 1 <= x < math.inf)
    if config.linkage == "ward":
        _check_range(config, "distance_threshold", "at least 0", lambda x: 0 <= x < math.inf)
    else:
        _check_range(config, "distance_threshold", "between 0 and 1", lambda x: 0 <= x <= 1)
    if not is_auto(config.max_clusters):
        least = 2 if config.criterion == "silhouette" else 1
        wanted = f'"auto", or a whole number from {least} to 2**31 - 1'
        _check_range(config, "max_clusters", wanted, lambda x: least <= x and _is_count(x))
    _check_range(config, "risk_free_rate", "greater than -1 and finite", lambda x: -1 < x < math.inf)
    if not is_auto(config.periods_per_year):
        _check_range(config, "periods_per_year", '"auto", or greater than 0 and finite', lambda x: 0 < x < math.inf)
    _check_range(config, "n_aggressors", "a whole number from 1 to 2**31 - 1", _is_count)
    _check_range(config, "aggressor_weight", "at least 0 and less than 1", lambda x: 0 <= x < 1)
    return config


def _is_count(number: float) -> bool:
    return 1 <= number < 2**31 and number == int(number)


def _check_choices(config: AllocationConfig) -> None:
    if isinstance(config.profiles, str) or not isinstance(config.profiles, (tuple, list)):
        raise InputError(f"profiles must be a tuple of names, such as ('risk_parity',), not {literal(config.profiles)}")
    if not config.profiles:
        raise InputError(f"profiles is empty; choose from {', '.join(PROFILE_NAMES)}")
    for profile in config.profiles:
        _check_choice("profile", profile, PROFILE_NAMES)
    if len(set(config.profiles)) != len(config.profiles):
        raise InputError(f"profiles names one twice: {', '.join(config.profiles)}")
    _check_choice("linkage", config.linkage, LINKAGES)
    _check_choice("criterion", config.criterion, CRITERIA)
    _check_choice("distance", config.distance, DISTANCES)
    if not isinstance(config.detone, bool):
        raise InputError(f"detone must be True or False, not {literal(config.detone)}")
    _check_choice("covariance", config.covariance, COVARIANCES)


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"unknown {name} {literal(value)}; choose from {', '.join(choices)}")


def _check_range(config: AllocationConfig, name: str, wanted: str, holds: Any) -> None:
    value = getattr(config, name)
    if isinstance(value, Tracer):
        return
    try:
        number = float(value)
        good = not isinstance(value, (str, bytes)) and not math.isnan(number) and holds(number)
    except (TypeError, ValueError, OverflowError):
        good = False
    if not good:
        raise InputError(f"{name} must be {wanted}, not {literal(value)}")
