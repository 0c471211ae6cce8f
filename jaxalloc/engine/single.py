"""allocate(): one universe. On arrays it is a batch of one; while JAX traces it is a pure function."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxalloc.arguments.arrays import as_array, cast, to_device
from jaxalloc.arguments.errors import AllocationWarning, InputError
from jaxalloc.arguments.processes import check_process
from jaxalloc.arguments.words import lowered
from jaxalloc.engine.scheduler import Engine
from jaxalloc.engine.stages import Items
from jaxalloc.kernels.lanes.backend import backend_in_use
from jaxalloc.markets.holes import MAX_MISSING, weigh_gaps
from jaxalloc.markets.periods import periods_of_rows
from jaxalloc.portfolios.advice import why_invalid
from jaxalloc.portfolios.allocation import allocate_universe
from jaxalloc.portfolios.estimates import Given
from jaxalloc.portfolios.inputs import leave_out, panel_of
from jaxalloc.portfolios.result import Allocation, valid_universes
from jaxalloc.settings.config import AllocationConfig, cast_config, check_config


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
    to_array = to_device if traced else cast
    x = to_array(as_array("returns", returns if gaps is None else gaps.returns), float)
    if x.ndim != 2:
        raise InputError(f"returns must have two axes, observations and assets, not shape {x.shape}")
    if 0 in x.shape:
        raise InputError(f"returns must have at least one observation and one asset, not shape {x.shape}")
    n_rows, n_assets = x.shape

    def converted(name: str, value: Any, dtype: Any, kinds: str = "biuf") -> Any:
        return None if value is None else to_array(as_array(name, value, kinds), dtype)

    c = converted(
        "observation_weights", np.ones(n_rows) if observation_weights is None else observation_weights, x.dtype
    )
    a = converted("asset_mask", np.ones(n_assets, bool) if asset_mask is None else asset_mask, bool)
    given = Given(
        mean=converted("mean", mean, x.dtype),
        covariance=converted("covariance", covariance, x.dtype),
        clusters=converted("clusters", clusters, jnp.int32, "biu"),
    )
    _check_shapes(x, c, a, given)
    if gaps is not None and traced:  # nothing can be warned of
        a = a & jnp.asarray(gaps.whole)
    elif panel is not None and gaps is not None:
        a = leave_out(panel, gaps, np.asarray(c)[None], np.asarray(a)[None])[0]
    if traced:
        result = _as_part(x, cast_config(config, x.dtype), c, a, given, backend_in_use())
    else:
        each = jax.tree.map(lambda value: value[None], given)
        items = Items(weights=c[None], mask=a[None], returns=x[None], given=each)
        result = jax.device_put(Engine((n_rows, n_assets), config).one(items))  # `jnp.asarray` compiles for each shape
    result = dataclasses.replace(
        result, symbols=None if panel is None else tuple(panel.symbols), profiles=tuple(config.profiles)
    )
    if panel is not None and not traced and not valid_universes(result.status):
        why = why_invalid(panel, config, x.dtype, np.asarray(c), np.asarray(a), **given._asdict())
        warnings.warn(f"nothing was allocated: {lowered(why)}", AllocationWarning, stacklevel=2)
    return result


def _check_shapes(x: Any, c: Any, a: Any, given: Given) -> None:
    n_rows, n_assets = x.shape
    wanted = {"observation_weights": (c, (n_rows,)), "asset_mask": (a, (n_assets,))}
    wanted |= {name: (value, (n_assets,)) for name, value in (("mean", given.mean), ("clusters", given.clusters))}
    wanted |= {"covariance": (given.covariance, (n_assets, n_assets))}
    for name, (value, shape) in wanted.items():
        if value is not None and value.shape != shape:
            raise InputError(f"{name} must have shape {shape} to match returns {x.shape}, not {value.shape}")


_as_part = jax.jit(allocate_universe, static_argnums=5)
