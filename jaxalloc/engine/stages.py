"""The stages that a universe passes through, each a small program of canonical sizes.

==================  ==================================================  ================================================
stage               from                                                to
==================  ==================================================  ================================================
draw                a universe's number                                 `Drawn`: weights of the rows, mask, shock
observe             weights and mask of a shared panel's rows, or       `Estimates`: annual moments, scores
                    a universe's own returns
cluster             `Estimates`                                         their clusters
link                covariances of large components                     their clusters
pose                `Estimates`                                         `Clustered`; `Posed`: problems across clusters
see                 `Estimates`                                         `Posed`: the problems over the assets
weigh               `Estimates`                                         `Solution` of a profile by formula
solve               a problem: covariance, rewards, bounds              `State`, of which a part is the `Solution`
describe            `Estimates`, `Clustered`, four solutions            `Allocation` of four portfolios
sense               `Estimates`, the sleeve, a profile's solutions      `Sensitivities` of that profile
==================  ==================================================  ================================================

All but "solve" are of a *group* of universes, padded to a canonical number of assets, and go through the group a few
universes at a time. "Solve" is of a tile of *problems*, padded to a canonical number of clusters, which the host
gathers from many groups: those of one size that want the same step of the same solver. So no program knows how many
profiles there are, and which.

A function here is what a program computes, for arrays with a leading axis of universes. `jaxalloc.engine.flow` calls
them in order.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxalloc.kernels.clusters.components import Pieces, link
from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.moments.panel import SharedPanel
from jaxalloc.kernels.moments.windows import Facts, Rows, pieces_of
from jaxalloc.kernels.solvers.problem import Solution
from jaxalloc.kernels.solvers.steps import Problem, State, Step
from jaxalloc.portfolios.barbell import Sleeve
from jaxalloc.portfolios.describing import Kind, describe
from jaxalloc.portfolios.estimates import (
    Estimates,
    Given,
    Partition,
    annual_estimates,
    begin_partition,
    observe,
    observe_shared,
    observe_window,
    products_shared,
)
from jaxalloc.portfolios.posing import Clustered, Posed, pose_assets, pose_clusters, see_assets
from jaxalloc.portfolios.profiles import weigh
from jaxalloc.portfolios.result import Allocation
from jaxalloc.portfolios.sensitivity import Sensitivities, sensitivities
from jaxalloc.settings.config import AllocationConfig
from jaxalloc.universes.universe import Draw, Drawn, Kernel, draw_universe


class Items(NamedTuple):
    """Universes, each field with a leading axis: either numbers to draw them by, or what they are.

    Attributes:
        index: (C,) int32 numbers, `jaxalloc.universes.universe.WHOLE_PANEL` for the panel itself; or None.
        weights: (C, T) observation weights, or None.
        mask: (C, N) bool assets, or None.
        returns: (C, T, N) returns of their own in place of the shared panel's, or None.
        given: what takes the place of an estimate.
    """

    index: Any = None
    weights: Any = None
    mask: Any = None
    returns: Any = None
    given: Given = Given()


class DrawNumbers(NamedTuple):
    """What universes are drawn by, but for the kernels: arrays.

    Attributes:
        steps: numbers, stride, size and anew of each `Draw`.
        key: the seed's key data.
        gaps: (T, N) weights of the panel's missing returns.
        max_missing: () share of a universe's rows that an asset's gaps may weigh.
    """

    steps: tuple[tuple[Any, Any, Any, Any], ...]
    key: Any
    gaps: Any
    max_missing: Any


def shapes_of_estimates(universes: int, assets: int, dtype: Any) -> Estimates:
    """What "observe" hands on for so many universes and assets, as `jax.ShapeDtypeStruct`s.

    Tracing would tell them, too; they are written down so that programs can be loaded before anything is traced.
    """

    def of(dtype: Any, *axes: int) -> Any:
        return jax.ShapeDtypeStruct((universes, *axes), dtype)

    return Estimates(
        mean=of(dtype, assets),
        covariance=of(dtype, assets, assets),
        active=of(bool, assets),
        labels=of(np.int32, assets),
        n_clusters=of(np.int32),
        antifragility=of(dtype, assets),
        dropped=of(bool),
        valid=of(bool),
    )


def draw_group(
    numbers: DrawNumbers, index: Array, *, kernels: tuple[Kernel, ...], rows: int | None, assets: int | None
) -> Drawn:
    """Draw the universes ``index`` (U,), padded to so many rows and assets, if any are given."""
    draws = tuple(
        Draw(kernel=kernel, numbers=own, stride=stride, size=size, anew=anew)
        for kernel, (own, stride, size, anew) in zip(kernels, numbers.steps, strict=True)
    )
    key = jax.random.wrap_key_data(numbers.key, impl="threefry2x32")
    one = functools.partial(draw_universe, draws, key, gaps=numbers.gaps, max_missing=numbers.max_missing)
    drawn = jax.vmap(lambda i: one(index=i))(index)

    def pad(leaf: Array, *sizes: int | None, value: float = 0) -> Array:
        widths = [(0, 0), *((0, (size or n) - n) for n, size in zip(leaf.shape[1:], sizes, strict=True))]
        return jnp.pad(leaf, widths, constant_values=value)

    shock = drawn.shock
    return Drawn(
        weights=pad(drawn.weights, rows),
        mask=pad(drawn.mask, assets),
        returns=None if drawn.returns is None else pad(drawn.returns, rows, assets),
        shock=None
        if shock is None
        else shock._replace(volatility=pad(shock.volatility, assets, value=1), mean=pad(shock.mean, assets)),
    )


def observe_group(
    panel: SharedPanel,
    weights: Array,
    mask: Array,
    config: AllocationConfig,
    given: Given,
    shock: Any,
    count: Array,
    room: Array | None,
    *,
    few: int,
) -> Estimates:
    """Estimates of universes of a shared panel; the products of all are one matrix product.

    In ``room`` (U, N, N), if there is any, go the covariances.
    """
    products = jax.vmap(products_shared, in_axes=(None, 0, 0))(panel, config, weights)

    def one(
        weights: Array, mask: Array, config: AllocationConfig, given: Given, shock: Any, products: Array
    ) -> Estimates:
        observed = observe_shared(panel, config, weights, mask, products)
        return annual_estimates(observed, config, given, shock)

    arguments = weights, mask, config, given, shock, products
    return _in_steps(one, few, count, *arguments, into=lambda made: made._replace(covariance=room))


def observe_windows(
    panel: Rows,
    first: Array,
    weights: Array,
    mask: Array,
    config: AllocationConfig,
    given: Given,
    shock: Any,
    facts: Facts,
    count: Array,
    room: Array | None,
    *,
    few: int,
) -> Estimates:
    """Estimates of universes that hold a small piece of a long panel: weights (U, R) of the rows from ``first`` on.

    In ``room`` go the covariances, as for `observe_group`.
    """

    def one(
        piece: tuple[Array, Array | None],
        c: Array,
        a: Array,
        config: AllocationConfig,
        given: Given,
        shock: Any,
        facts: Facts,
    ) -> Estimates:
        rows = panel._replace(centred=piece[0], missing=piece[1])
        return annual_estimates(observe_window(rows, config, c, a, facts), config, given, shock)

    def some(first: Array, weights: Array, *rest: Any) -> Estimates:
        return jax.vmap(one)(pieces_of(panel, first, weights.shape[1]), weights, *rest)

    arguments = first, weights, mask, config, given, shock, facts
    if not needs_room(len(first), few):
        return some(*arguments)
    return _by_parts(jax.jit(some), few, count, arguments, lambda made: made._replace(covariance=room))


def observe_own(
    returns: Array,
    weights: Array,
    mask: Array,
    config: AllocationConfig,
    given: Given,
    shock: Any,
    n_rows: Array,
) -> Estimates:
    """Estimates of universes with ``n_rows`` returns of their own, all at once."""

    def one(x: Array, c: Array, a: Array, config: AllocationConfig, given: Given, shock: Any) -> Estimates:
        return annual_estimates(observe(x, config, c, a, given, n_rows), config, given, shock)

    return jax.vmap(one)(returns, weights, mask, config, given, shock)


def cluster_group(
    estimates: Estimates, config: AllocationConfig, labels: Array | None, count: Array, *, few: int, backend: Backend
) -> tuple[Partition, Pieces]:
    """Clusters, but for the merges inside large components; ``labels`` may be given."""

    def one(estimates: Estimates, config: AllocationConfig, labels: Array | None) -> tuple[Partition, Pieces]:
        return begin_partition(estimates, config, labels, backend)

    return _in_steps(one, few, count, estimates, config, labels)


def link_tables(
    covariance: Array, there: Array, stop: Array, count: Array, *, linkage: str, distance: str, few: int
) -> Array:
    """(M, R) first assets of the clusters inside large components, in tables of R of their assets."""
    one = functools.partial(link, linkage=linkage, kind=distance)
    return _in_steps(one, few, count, covariance, there, stop)


def pose_group(
    estimates: Estimates, config: AllocationConfig, count: Array, room: Array | None, *, few: int, backend: Backend
) -> tuple[Clustered, Posed]:
    """Weights within the clusters, and the problems across them; in ``room``, if there is any, go the covariances."""
    size = estimates.active.shape[1]
    one = functools.partial(pose_clusters, size=size, backend=backend)

    def into(made: tuple[Clustered, Posed]) -> tuple[Clustered, Posed]:
        clustered, posed = made
        return clustered, posed._replace(covariance=room)

    return _in_steps(one, few, count, estimates, config, into=into)


def see_group(estimates: Estimates, config: AllocationConfig, count: Array, *, few: int, backend: Backend) -> Posed:
    """The problems over the assets."""

    def one(estimates: Estimates, config: AllocationConfig) -> Posed:
        return pose_assets(see_assets(estimates, config, backend))

    return _in_steps(one, few, count, estimates, config)


def weigh_group(
    estimates: Estimates, config: AllocationConfig, count: Array, *, name: str, few: int, backend: Backend
) -> Solution:
    """The weights of a profile by formula."""

    def one(estimates: Estimates, config: AllocationConfig) -> Solution:
        return weigh(name, see_assets(estimates, config, backend))

    return _in_steps(one, few, count, estimates, config)


def describe_group(
    estimates: Estimates,
    clustered: Clustered,
    config: AllocationConfig,
    kinds: Kind,
    solutions: Solution,
    count: Array,
    *,
    few: int,
    backend: Backend,
) -> Allocation:
    """Portfolios from solutions (U, P, N)."""

    def one(estimates: Estimates, clustered: Clustered, config: AllocationConfig, solutions: Solution) -> Allocation:
        return describe(estimates, clustered, config, kinds, solutions, backend)

    return _in_steps(one, few, count, estimates, clustered, config, solutions)


def sense_group(
    estimates: Estimates,
    sleeve: Sleeve,
    config: AllocationConfig,
    solved: Array,
    altered: Array,
    n_observations: Array,
    count: Array,
    *,
    name: str,
    few: int,
    backend: Backend,
) -> Sensitivities:
    """What the portfolios of a profile hang on, from solutions (U, N), (U,) and numbers of observations (U,)."""

    def one(
        estimates: Estimates, sleeve: Sleeve, config: AllocationConfig, solved: Array, altered: Array, n: Array
    ) -> Sensitivities:
        return sensitivities(estimates, sleeve, config, solved, altered, n, name, backend)

    return _in_steps(one, few, count, estimates, sleeve, config, solved, altered, n_observations)


def needs_room(universes: int, few: int) -> bool:
    """Tell whether a stage takes room for covariances: all at once, it makes none."""
    return few < universes


def _in_steps(
    kernel: Callable[..., Any],
    few: int,
    count: Array,
    *universes: Any,
    into: Callable[[Any], Any] = lambda nothing: nothing,
) -> Any:
    """``kernel`` of one universe for the first ``count`` steps of a ``few`` universes each; 0 for the others.

    ``into`` puts room in the place of zeros, which holds anything for the others.
    """
    size = len(jax.tree.leaves(universes)[0])
    some = jax.jit(jax.vmap(kernel))  # traced once
    return _by_parts(some, few, count, universes, into) if needs_room(size, few) else some(*universes)


def _by_parts(
    compute: Callable[..., Any],
    few: int,
    count: Array,
    arguments: tuple[Any, ...],
    into: Callable[[Any], Any] = lambda nothing: nothing,
) -> Any:
    """``compute`` for the first ``count`` parts of a ``few`` universes each; ``into`` as for `_in_steps`."""
    size = len(jax.tree.leaves(arguments)[0])

    def part(number: Array) -> Any:
        return jax.tree.map(lambda leaf: lax.dynamic_slice_in_dim(leaf, number * few, few), arguments)

    def put(number: Array, made: Any) -> Any:
        new = compute(*part(number))
        return jax.tree.map(lambda into, leaf: lax.dynamic_update_slice_in_dim(into, leaf, number * few, 0), made, new)

    shapes = jax.eval_shape(compute, *jax.eval_shape(lambda: part(jnp.int32(0))))
    nothing = jax.tree.map(lambda leaf: jnp.zeros((size, *leaf.shape[1:]), leaf.dtype), shapes)
    return lax.fori_loop(0, count, put, into(nothing))


def solve_tiles(
    problems: tuple[Array, Array, Array],
    state: State,
    rows: Array,
    count: Array,
    *,
    step: Step,
    lanes: int,
    backend: Backend,
) -> State:
    """Take a solver's step for the first ``count`` tiles of so many problems each.

    Args:
        problems: covariances (M, K, K), rewards and bounds (M, K).
        state: leading axis M.
        rows: () int32, the clusters of the largest problem.
        count: () int32.
        step: static.
        lanes: static, a divisor of M; on an accelerator M.
        backend: static.
    """

    @jax.jit  # traced once
    def tile(problems: tuple[Array, Array, Array], state: State, rows: Array) -> State:
        covariance, excess, upper = (jnp.moveaxis(leaf, 0, -1) for leaf in problems)
        problem = Problem(covariance=covariance, excess=excess, upper=upper, rows=rows)
        now = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, -1), state)
        with jax.numpy_rank_promotion("allow"):  # numbers (L,) meet vectors (K, L) at every step
            made = step.kernel(problem, now, backend)
        return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, -1, 0), made)

    if backend is not Backend.CPU:  # a call is a tile; a loop of one turn would copy it before and after
        return tile(problems, state, rows)
    return _by_parts(lambda problems, state: tile(problems, state, rows), lanes, count, (problems, state))


def gather_problems(
    posed: Posed, slots: Array, reward: Array, upper: Array, *, clusters: int
) -> tuple[Array, Array, Array]:
    """The problems of some universes of a group, where they are: for devices that the host is far from.

    Args:
        posed: of the group.
        slots: (M,) universes.
        reward: (M,) place in `Posed.rewards`, -1 for none.
        upper: (M,) place in `Posed.uppers`, -1 for bounds of 0.
        clusters: static K.
    """
    rewards = posed.rewards[slots, jnp.maximum(reward, 0), :clusters]
    rewards = jnp.where((reward >= 0)[:, None], rewards, 0)
    uppers = jnp.where((upper >= 0)[:, None], posed.uppers[slots, jnp.maximum(upper, 0), :clusters], 0)
    covariance = posed.covariance[slots, :clusters, :clusters]
    short = clusters - rewards.shape[1]  # fewer assets than the canonical size
    if short > 0:
        own = jnp.arange(clusters, dtype=jnp.int32) >= rewards.shape[1]
        covariance = jnp.pad(covariance, ((0, 0), (0, short), (0, short)))
        covariance = covariance + jnp.diag(own.astype(covariance.dtype))[None]
        rewards, uppers = (jnp.pad(values, ((0, 0), (0, short))) for values in (rewards, uppers))
    return covariance, rewards, uppers


def gather_tables(covariance: Array, slots: Array, assets: Array) -> Array:
    """Covariances (M, R, R) of some assets (M, R) of the universes ``slots`` (M,) of a group, likewise."""
    return covariance[slots[:, None, None], assets[:, :, None], assets[:, None, :]]
