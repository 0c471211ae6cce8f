"""allocate(): one universe, within its clusters and across them.

`estimate` turns returns into what every profile shares (moments, clusters, scores); `solve` turns that into portfolios.
They are separate because a batch sorts its universes by their number of clusters in between.
"""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from jaxalloc.arguments.arrays import as_array, to_device
from jaxalloc.arguments.errors import AllocationWarning, InputError
from jaxalloc.arguments.processes import check_process
from jaxalloc.arguments.words import lowered
from jaxalloc.kernels.clusters.within import Synthetic, lead_assets, share_out, sum_by_cluster, synthesize
from jaxalloc.kernels.lanes.backend import Backend, backend_in_use
from jaxalloc.kernels.lanes.compiling import compiler_options
from jaxalloc.kernels.lanes.precision import is_negligible
from jaxalloc.kernels.lanes.products import dot
from jaxalloc.kernels.solvers.capped_simplex import Bounds, bounds
from jaxalloc.kernels.solvers.problem import Solution
from jaxalloc.markets.holes import MAX_MISSING, weigh_gaps
from jaxalloc.markets.periods import periods_of_rows
from jaxalloc.portfolios.advice import why_invalid
from jaxalloc.portfolios.barbell import Sleeve, choose_sleeve
from jaxalloc.portfolios.baselines import Assets
from jaxalloc.portfolios.estimates import Estimates, Given, estimate
from jaxalloc.portfolios.inputs import leave_out, panel_of
from jaxalloc.portfolios.profiles import PROFILES, solve_profiles, weigh_assets
from jaxalloc.portfolios.result import PROFILE_FIELDS, Allocation, valid_universes
from jaxalloc.settings.config import AllocationConfig, cast_config, check_config
from jaxalloc.settings.status import Status


def allocate(
    returns: Any,
    config: AllocationConfig | None = None,
    observation_weights: Any = None,
    asset_mask: Any = None,
    mean: Any = None,
    covariance: Any = None,
    clusters: Any = None,
) -> Allocation:
    """Allocate one universe; a pure function that `jax.jit` and `jax.vmap` take.

    It computes in float64 if and only if JAX's x64 mode is on. Bad data gives the status `Status.INVALID`.

    A frame is read as `read_returns` reads returns, and a frame of prices is refused. Of a frame or a `Panel` an asset
    that is not listed in all rows in use, or misses more than 5 % of them, is left out, and an `AllocationWarning` says
    so; fewer missing returns between its first and last count as 0. Another warning says what is at fault where nothing
    can be allocated.

    Args:
        returns: (T, N) simple returns per period, a fraction, as an array, a frame or a `Panel`. Where the mask is
            False or the observation weight is 0 they are never read and may be NaN.
        config: settings; `AllocationConfig()` by default. Of a frame or a `Panel`, ``periods_per_year="auto"`` reads
            the dates.
        observation_weights: (T,) frequency of each row, at least 0; ones by default. Counts equal repeated rows.
        asset_mask: (N,) bool, the assets that take part; all by default.
        mean: (N,) annual mean returns, in place of the sample's.
        covariance: (N, N) annual covariance, in place of the sample's.
        clusters: (N,) int cluster labels, at least 0 for an active asset, in place of the linkage.

    Returns:
        `Allocation` of JAX arrays, without a batch axis, with the names of a frame's or a panel's assets.

    Raises:
        InputError: a setting is out of range, shapes do not match, a frame is not one of returns, or this process was
            forked after JAX had run.

    Example:
        >>> import jaxalloc as ja
        >>> market = ja.datasets.synthetic_market(n_assets=12)
        >>> result = ja.allocate(market.to_numpy(), ja.AllocationConfig(profiles=("risk_parity",)))
        >>> result.weights.shape
        (1, 12)
    """
    config = check_config(AllocationConfig() if config is None else config)
    arguments = returns, observation_weights, asset_mask, mean, covariance, clusters, *jax.tree.leaves(config)
    # as part of another program it is compiled with that one's options
    traced = any(isinstance(argument, Tracer) for argument in arguments)
    if not traced:
        check_process()
    panel = panel_of(returns, observation_weights is not None)
    if panel is not None:
        config = periods_of_rows(config, panel.returns)
    gaps = None if panel is None else weigh_gaps(panel.values, MAX_MISSING)
    x = to_device(as_array("returns", returns if gaps is None else gaps.returns), float)
    if x.ndim != 2:
        raise InputError(f"returns must have two axes, observations and assets, not shape {x.shape}")
    if 0 in x.shape:
        raise InputError(f"returns must have at least one observation and one asset, not shape {x.shape}")
    n_rows, n_assets = x.shape

    def cast(name: str, value: Any, dtype: Any, kinds: str = "biuf") -> Any:
        return None if value is None else to_device(as_array(name, value, kinds), dtype)

    c = cast("observation_weights", np.ones(n_rows) if observation_weights is None else observation_weights, x.dtype)
    a = cast("asset_mask", np.ones(n_assets, bool) if asset_mask is None else asset_mask, bool)
    given = Given(
        mean=cast("mean", mean, x.dtype),
        covariance=cast("covariance", covariance, x.dtype),
        clusters=cast("clusters", clusters, jnp.int32, "biu"),
    )
    _check_shapes(x, c, a, given)
    if gaps is not None and traced:  # nothing can be warned of
        a = a & jnp.asarray(gaps.whole)
    elif panel is not None and gaps is not None:
        a = leave_out(panel, gaps, np.asarray(c)[None], np.asarray(a)[None])[0]
    result = (_as_part if traced else _alone())(backend_in_use(), x, cast_config(config, x.dtype), c, a, given)
    result = dataclasses.replace(
        result, symbols=None if panel is None else tuple(panel.symbols), profiles=tuple(config.profiles)
    )
    if panel is not None and not traced and not valid_universes(result.status):
        why = why_invalid(panel, config, x.dtype, np.asarray(c), np.asarray(a), **given._asdict())
        warnings.warn(f"nothing was allocated: {lowered(why)}", AllocationWarning, stacklevel=2)
    return result


def _check_shapes(x: Array, c: Array, a: Array, given: Given) -> None:
    n_rows, n_assets = x.shape
    wanted = {"observation_weights": (c, (n_rows,)), "asset_mask": (a, (n_assets,))}
    wanted |= {name: (value, (n_assets,)) for name, value in (("mean", given.mean), ("clusters", given.clusters))}
    wanted |= {"covariance": (given.covariance, (n_assets, n_assets))}
    for name, (value, shape) in wanted.items():
        if value is not None and value.shape != shape:
            raise InputError(f"{name} must have shape {shape} to match returns {x.shape}, not {value.shape}")


def _allocate(backend: Backend, x: Array, config: AllocationConfig, c: Array, a: Array, given: Given) -> Allocation:
    return solve(estimate(x, config, c, a, given, backend=backend), config, x.shape[1], backend)


_as_part = jax.jit(_allocate, static_argnums=0)


@functools.cache
def _alone() -> Callable[..., Allocation]:
    return jax.jit(_allocate, static_argnums=0, compiler_options=compiler_options(lone=True))


def solve(estimates: Estimates, config: AllocationConfig, n_clusters: int, backend: Backend) -> Allocation:
    """Portfolios of one universe.

    Args:
        estimates: from `estimate`.
        config: settings with cast numbers.
        n_clusters: static size that clusters are padded to, at least the universe's K.
        backend: static.

    Returns:
        `Allocation` of one universe.
    """
    clustered, direct = split_profiles(config.profiles)
    parts = [
        *((solve_clusters(estimates, config, n_clusters, backend),) if clustered else ()),
        *((solve_assets(estimates, config, backend),) if direct else ()),
    ]
    if len(parts) == 1:
        return parts[0]
    order = np.argsort([*clustered, *direct])
    joined = {name: jnp.concatenate([getattr(part, name) for part in parts])[order] for name in PROFILE_FIELDS}
    return dataclasses.replace(parts[0], **joined)


def split_profiles(names: tuple[str, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Positions of the profiles that are solved over clusters, and of those over assets."""
    kinds = [PROFILES[name].clustered for name in names]
    return tuple(i for i, kind in enumerate(kinds) if kind), tuple(i for i, kind in enumerate(kinds) if not kind)


def solve_clusters(estimates: Estimates, config: AllocationConfig, n_clusters: int, backend: Backend) -> Allocation:
    """`solve` for those of the profiles that are solved over clusters.

    A batch takes the three steps by themselves: the first and the last go through covariances, and want few universes
    at once; the one between them wants many.
    """
    synthetic = reduce_to_clusters(estimates, config, n_clusters, backend)
    portfolios, sleeve = weigh_clusters(estimates, config, synthetic, n_clusters, backend)
    return describe_portfolios(estimates, n_clusters, portfolios, sleeve)


def reduce_to_clusters(estimates: Estimates, config: AllocationConfig, n_clusters: int, backend: Backend) -> Synthetic:
    """The first step of `solve_clusters`, within clusters: from assets to synthetic returns."""
    with jax.named_scope("within_clusters"):
        return synthesize(
            estimates.mean,
            estimates.covariance,
            estimates.active,
            estimates.labels,
            config.risk_free_rate,
            n_clusters,
            backend,
        )


def weigh_clusters(
    estimates: Estimates, config: AllocationConfig, synthetic: Synthetic, n_clusters: int, backend: Backend
) -> tuple[Portfolios, Sleeve | None]:
    """The second step of `solve_clusters`: sleeve, bounds, and weights across clusters.

    It does not read the assets' covariance.
    """
    config = config.replace(profiles=tuple(config.profiles[i] for i in split_profiles(config.profiles)[0]))
    sleeve = None
    if any(PROFILES[profile].sleeve for profile in config.profiles):
        with jax.named_scope("sleeve"):
            sleeve = choose_sleeve(
                estimates.antifragility,
                estimates.labels,
                estimates.n_clusters,
                config.n_aggressors,
                n_clusters,
                backend,
            )
    all_clusters = bounds(synthetic.sizes, config.cluster_cap, config.asset_cap, config.slack)
    limits = [all_clusters] * len(config.profiles)
    if sleeve is not None:
        # those of a barbell's core, as if the aggressor clusters did not exist
        core_sizes = jnp.where(sleeve.clusters, 0, synthetic.sizes)
        core = bounds(core_sizes, config.cluster_cap, config.asset_cap, config.slack)
        limits = [core if PROFILES[profile].sleeve else all_clusters for profile in config.profiles]
    uppers = jnp.stack([limit.upper for limit in limits])
    solutions = solve_profiles(config.profiles, synthetic.covariance, synthetic.excess, uppers, backend)
    with jax.named_scope("asset_weights"):
        weights = jax.vmap(functools.partial(share_out, backend=backend), in_axes=(0, None, None, 0))(
            solutions.weights, synthetic.inner, estimates.labels, jnp.stack([limit.asset for limit in limits])
        )
    parts = []
    for i, profile in enumerate(config.profiles):
        solution = jax.tree.map(lambda leaf, i=i: leaf[i], solutions)
        altered = PROFILES[profile].altered
        if altered == Status.RISK_REGULARIZED:
            regularized = solution.altered | jnp.any(synthetic.riskless & (limits[i].upper > 0))
            solution = solution._replace(altered=regularized)
        part = Portfolios(
            weights=weights[i],
            cluster_weights=solution.weights,
            ranking=weights[i],
            asset_bound=limits[i].asset,
            cluster_bound=limits[i].cluster,
            gap=solution.gap,
            iterations=solution.iterations,
            status=_status(solution, limits[i], altered, estimates),
        )
        if sleeve is not None and PROFILES[profile].sleeve:
            part = _add_sleeve(part, sleeve, config.aggressor_weight)
        parts.append(part)
    return _stacked(parts), sleeve


def solve_assets(estimates: Estimates, config: AllocationConfig, backend: Backend) -> Allocation:
    """`solve` for those of the profiles that weigh the assets themselves: no number of clusters shapes the program."""
    names = tuple(config.profiles[i] for i in split_profiles(config.profiles)[1])
    active, n = estimates.active, estimates.active.shape[0]
    index = jnp.arange(n, dtype=jnp.int32)
    bound = jnp.maximum(config.asset_cap, config.slack / jnp.maximum(jnp.sum(active, dtype=config.slack.dtype), 1))
    absent = (index[:, None] == index[None, :]) & ~active[:, None]
    assets = Assets(
        covariance=jnp.where(absent, 1, estimates.covariance),
        mean=estimates.mean,
        excess=jnp.where(active, estimates.mean - config.risk_free_rate, 0),
        active=active,
        labels=estimates.labels,
        upper=jnp.where(active, bound, 0),
        config=config,
        backend=backend,
    )
    solutions, bounded = weigh_assets(names, assets)
    parts = []
    for i, name in enumerate(names):
        solution = jax.tree.map(lambda leaf, i=i: leaf[i], solutions)
        part = Portfolios(
            weights=solution.weights,
            cluster_weights=sum_by_cluster(solution.weights, estimates.labels, n, backend),
            ranking=solution.weights,
            asset_bound=jnp.where(bounded[i], bound, 1),
            cluster_bound=jnp.ones_like(bound),
            gap=solution.gap,
            iterations=solution.iterations,
            status=_solution_status(solution, PROFILES[name].altered, estimates),
        )
        parts.append(part)
    return describe_portfolios(estimates, n, _stacked(parts), None)


class Portfolios(NamedTuple):
    """What the solvers found for one profile, or for P of them with a leading axis.

    Attributes:
        weights: (N,) of the assets.
        cluster_weights: (K,) of the clusters.
        ranking: (N,) what ranks the lead assets.
        asset_bound: () as in `Allocation`.
        cluster_bound: () likewise.
        gap: () of the solution.
        iterations: () of the solution.
        status: () bits of `Status`.
    """

    weights: Array
    cluster_weights: Array
    ranking: Array
    asset_bound: Array
    cluster_bound: Array
    gap: Array
    iterations: Array
    status: Array


def _stacked(parts: list[Portfolios]) -> Portfolios:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)


def _add_sleeve(core: Portfolios, sleeve: Sleeve, aggressor_weight: Array) -> Portfolios:
    """Put the sleeve beside the core: equal shares of ``aggressor_weight``, to which no bound applies."""
    total = jnp.where(sleeve.size > 0, aggressor_weight, 0)
    each = total / jnp.maximum(sleeve.size, 1).astype(core.weights.dtype)
    weights = jnp.where(sleeve.assets, each, (1 - total) * core.weights)
    return core._replace(
        weights=weights,
        cluster_weights=jnp.where(sleeve.clusters, each, (1 - total) * core.cluster_weights),
        ranking=jnp.where(sleeve.assets, 1, weights),  # leads its cluster even where the sleeve's weight is 0
        asset_bound=(1 - total) * core.asset_bound,
        cluster_bound=(1 - total) * core.cluster_bound,
        status=core.status | _bit(sleeve.fewer, Status.FEWER_AGGRESSORS),
    )


def _status(solution: Solution, limit: Bounds, altered: Status, estimates: Estimates) -> Array:
    return (
        _solution_status(solution, altered, estimates)
        | _bit(limit.cap_relaxed, Status.CLUSTER_CAP_RELAXED)
        | _bit(limit.asset_raised, Status.ASSET_BOUND_RAISED)
    )


def _solution_status(solution: Solution, altered: Status, estimates: Estimates) -> Array:
    return (
        _bit(estimates.dropped, Status.ASSET_DROPPED)
        | _bit(solution.altered, altered)
        | _bit(~solution.converged, Status.NOT_CONVERGED)
    )


def _bit(flag: Array, bit: Status) -> Array:
    return jnp.where(flag, jnp.int32(bit.value), jnp.int32(0))


def describe_portfolios(estimates: Estimates, n_clusters: int, parts: Portfolios, sleeve: Sleeve | None) -> Allocation:
    """The last step: statistics and lead assets of P portfolios; NaN, -1 and 0 for an invalid universe."""
    valid, n_assets = estimates.valid, estimates.active.shape[0]
    with jax.named_scope("statistics"):
        marginal = dot(parts.weights, estimates.covariance)
        variance = jnp.sum(parts.weights * marginal, axis=1)
        # a variance that is all rounding has no shares to speak of
        unhedged = dot(parts.weights, jnp.sqrt(jnp.diagonal(estimates.covariance))) ** 2
        positive = ~is_negligible(variance, unhedged)
        share = parts.weights * marginal / jnp.where(positive, variance, 1)[:, None]
        contributions = jnp.where(positive[:, None], share, parts.weights)
        expected = dot(parts.weights, estimates.mean)
    with jax.named_scope("lead_assets"):
        leads = jax.vmap(lead_assets, in_axes=(0, None, None))(parts.ranking, estimates.labels, n_clusters)
    pad = ((0, 0), (0, n_assets - leads.shape[1]))

    def number(x: Array) -> Array:
        return jnp.where(valid, x, jnp.nan)

    aggressors = jnp.zeros(n_assets, bool) if sleeve is None else sleeve.assets
    return Allocation(
        weights=number(parts.weights),
        cluster_labels=jnp.where(valid, estimates.labels, -1),
        n_clusters=jnp.where(valid, estimates.n_clusters, 0),
        cluster_weights=number(jnp.pad(parts.cluster_weights, pad)),
        lead_assets=jnp.where(valid, jnp.pad(leads, pad, constant_values=-1), -1),
        aggressors=aggressors & valid,
        antifragility=number(estimates.antifragility),
        volatility=number(jnp.sqrt(jnp.maximum(variance, 0))),
        expected_return=number(expected),
        risk_contributions=number(contributions),
        asset_bound=number(parts.asset_bound),
        cluster_bound=number(parts.cluster_bound),
        optimality_gap=number(parts.gap),
        iterations=jnp.where(valid, parts.iterations, 0),
        status=jnp.where(valid, parts.status, jnp.int32(Status.INVALID.value)),
    )
