"""The programs of a batch: draw universes and estimate them, a few at a time; solve those of one bucket.

`jaxalloc.engine.scheduler` calls them; `jaxalloc.engine.batch` says how universes pass through them. The buffers of a
part of a chunk have a slot for each universe. One call goes through several tiles in a loop, because a call has a
price: on a CPU it makes room anew for thousands of constants and operands of sums, in 1 to 2 ms.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxalloc.engine.shapes import MAX_OUTER_BYTES
from jaxalloc.kernels.lanes.backend import Backend, materialise
from jaxalloc.kernels.lanes.compiling import compiler_options
from jaxalloc.kernels.moments.panel import SharedPanel, share_panel
from jaxalloc.portfolios.allocation import (
    describe_portfolios,
    reduce_to_clusters,
    solve,
    solve_assets,
    split_profiles,
    weigh_clusters,
)
from jaxalloc.portfolios.estimates import (
    Estimates,
    Given,
    Observed,
    estimates_of,
    observe,
    observe_shared,
    products_shared,
)
from jaxalloc.portfolios.result import PROFILE_FIELDS, RESULT_FIELDS, Allocation
from jaxalloc.settings.config import AllocationConfig
from jaxalloc.universes.universe import Draw, Drawn, draw_universe


class Items(NamedTuple):
    """Universes, each field with a leading axis: either numbers to draw them by, or what they are.

    Attributes:
        index: (C,) int32 numbers, `jaxalloc.universes.universe.WHOLE_PANEL` for the panel itself; or None.
        weights: (C, T) observation weights, or None.
        mask: (C, N) bool assets, or None.
        returns: (C, T, N) returns of their own in place of the shared panel's, or None.
    """

    index: Any = None
    weights: Any = None
    mask: Any = None
    returns: Any = None


class Shared(NamedTuple):
    """What all universes have in common.

    Attributes:
        panel: the panel, unless every universe has returns of its own.
        gaps: (T, N) weights of the panel's missing returns; None if nothing is drawn.
        max_missing: () share of a universe's rows that an asset's gaps may weigh; likewise.
        draws: how universes are drawn from their numbers.
        key: the seed's key.
    """

    panel: SharedPanel | None
    gaps: Array | None
    max_missing: Array | None
    draws: tuple[Draw, ...] | None
    key: Array | None


class Work(NamedTuple):
    """What is known of a chunk's universes before they are solved.

    Attributes:
        estimates: `Estimates`, leading axis C.
        left_out: (C, T) bool, the rows that a universe does not hold; (C, 0) where they are not wanted.
    """

    estimates: Estimates
    left_out: Array


@jax.jit
def share_returns(returns: Array) -> SharedPanel:
    """`share_panel` (T, N), with a table of outer products if that is not too large."""
    return share_panel(returns, MAX_OUTER_BYTES)


def _draw(shared: Shared, item: Items, config: AllocationConfig) -> tuple[Drawn, Array | None]:
    """Draw one universe; also its weighted products if it has the shared panel's returns."""
    if item.index is not None:
        assert shared.draws is not None
        assert shared.key is not None
        assert shared.gaps is not None
        assert shared.max_missing is not None
        universe = draw_universe(shared.draws, shared.key, item.index, shared.gaps, shared.max_missing)
    else:
        universe = Drawn(weights=item.weights, mask=item.mask, returns=item.returns, shock=None)
    if universe.returns is not None:
        return universe, None
    assert shared.panel is not None
    return universe, products_shared(shared.panel, config, universe.weights)


def _observe(shared: Shared, drawn: tuple[Drawn, Array | None], config: AllocationConfig) -> tuple[Drawn, Observed]:
    """Take from a universe's returns what the rest needs."""
    universe, products = drawn
    if universe.returns is not None:
        observed = observe(universe.returns, config, universe.weights, universe.mask, Given())
    else:
        assert shared.panel is not None
        observed = observe_shared(shared.panel, config, universe.weights, universe.mask, products)
    return universe._replace(returns=None), observed


def _estimate(
    universe: Drawn, observed: Observed, config: AllocationConfig, rows_left_out: int, backend: Backend
) -> Work:
    """Make what a chunk's buffers hold of one universe."""
    estimates = estimates_of(observed, config, Given(), universe.shock, backend)
    return Work(estimates=estimates, left_out=universe.weights[:rows_left_out] == 0)


def buffer_shapes(
    shared: Shared, items: Items, config: AllocationConfig, rows_left_out: int, backend: Backend
) -> tuple[Work, Allocation]:
    """Shapes of what one universe has in a chunk's buffers."""
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), (items, config))
    return _allocate_one.eval_shape(shared, *one, rows_left_out, backend)


@functools.partial(jax.jit, static_argnums=(3, 4))  # so that it is traced once
def _allocate_one(
    shared: Shared, item: Items, config: AllocationConfig, rows_left_out: int, backend: Backend
) -> tuple[Work, Allocation]:
    universe, observed = _observe(shared, _draw(shared, item, config), config)
    work = _estimate(universe, observed, config, rows_left_out, backend)
    return work, solve(work.estimates, config, 1, backend)


def empty_buffers(shapes: Any, capacity: int) -> Any:
    """Buffers of so many slots."""
    leaves, structure = jax.tree.flatten(shapes)
    made = _zeros(tuple((capacity, *leaf.shape) for leaf in leaves), tuple(leaf.dtype for leaf in leaves))
    return jax.tree.unflatten(structure, made)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _zeros(shapes: tuple[tuple[int, ...], ...], dtypes: tuple[Any, ...]) -> list[Array]:
    return [jnp.zeros(shape, dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]


def _at(start: Array, count: int, leaves: Any) -> Any:
    """The part of arrays that belongs to ``count`` universes, from ``start`` on."""
    return jax.tree.map(lambda leaf: lax.dynamic_slice_in_dim(leaf, start, count), leaves)


def _estimate_tiles(
    backend: Backend,
    draw: int,
    few: int,
    shared: Shared,
    items: Items,
    config: AllocationConfig,
    work: Work,
    start: Array,
    count: Array,
) -> Work:
    """Draw universes from ``start``, and fill the slots of so many of them, a ``few`` at a time."""
    drawn = jax.vmap(_draw, in_axes=(None, 0, 0))(shared, *_at(start, draw, (items, config)))
    estimate = functools.partial(_estimate, rows_left_out=work.left_out.shape[1], backend=backend)

    def fill(turn: Array, work: Work) -> Work:
        first = turn * few
        settings = _at(start + first, few, config)
        universes, observed = jax.vmap(_observe, in_axes=(None, 0, 0))(shared, _at(first, few, drawn), settings)
        made = jax.vmap(estimate)(universes, materialise(observed), settings)
        put = functools.partial(lax.dynamic_update_slice_in_dim, start_index=start + first, axis=0)
        return jax.tree.map(put, work, made)

    return lax.fori_loop(0, count // few, fill, work)


def _solve_tiles(
    backend: Backend,
    n_clusters: int | None,
    few: int,
    config: AllocationConfig,
    estimates: Estimates,
    results: Allocation,
    slots: Array,
    count: Array,
) -> tuple[Allocation, Array]:
    """Solve the universes in the first so many rows of ``slots``, each a tile.

    Returns:
        The results, and the number of universes solved, which the host waits for.
    """

    def tile(turn: Array, carry: tuple[Allocation, Array]) -> tuple[Allocation, Array]:
        results, solved = carry
        results = _solve_tile(backend, n_clusters, few, config, estimates, results, slots[turn])
        return results, solved + jnp.sum(slots[turn] < len(estimates.active), dtype=jnp.int32)

    return lax.fori_loop(0, count, tile, (results, jnp.int32(0)))


def _solve_tile(
    backend: Backend,
    n_clusters: int | None,
    few: int,
    config: AllocationConfig,
    estimates: Estimates,
    results: Allocation,
    slots: Array,
) -> Allocation:
    """Solve the universes in ``slots``, and put their results there.

    With a number of clusters to pad to, the profiles over clusters are solved, and a ``few`` covariances are read at
    once. With None, the profiles over assets are solved.
    """
    capacity, n_assets = estimates.active.shape

    def at(slot: Array) -> tuple[Estimates, AllocationConfig]:
        # an idle lane gets the universe of the first one, all of it one cluster: every profile solves that at once, and
        # no covariance is gone through for it
        idle = slot >= capacity
        universe, settings = jax.tree.map(lambda leaf: leaf[jnp.where(idle, slots[0], slot)], (estimates, config))
        labels = jnp.where(idle, jnp.minimum(universe.labels, 0), universe.labels)
        count = jnp.where(idle, jnp.int32(1), universe.n_clusters)
        return universe._replace(labels=labels, n_clusters=count), settings

    def assets_at(slot: Array) -> tuple[Estimates, AllocationConfig]:
        universe, settings = at(slot)  # to these profiles clusters mean little
        trivial = _trivial(n_assets, estimates.mean.dtype)
        return jax.tree.map(lambda a, b: jnp.where(slot < capacity, a, b), universe, trivial), settings

    clustered, direct = split_profiles(config.profiles)
    if n_clusters is None:
        solved, positions = jax.vmap(lambda slot: solve_assets(*assets_at(slot), backend))(slots), direct
    else:
        # covariances are read where they are: copies of many would go to the far cache and back
        few = min(few, len(slots))
        synthetic = lax.map(lambda slot: reduce_to_clusters(*at(slot), n_clusters, backend), slots, batch_size=few)
        weigh = jax.vmap(lambda slot, synthetic: weigh_clusters(*at(slot), synthetic, n_clusters, backend))
        solved = lax.map(
            lambda weighed: describe_portfolios(at(weighed[0])[0], n_clusters, *weighed[1]),
            (slots, weigh(slots, synthetic)),
            batch_size=few,
        )
        positions = clustered

    def put(name: str) -> Array:
        into, new = getattr(results, name), getattr(solved, name)
        if clustered and direct:
            if name in PROFILE_FIELDS:
                return into.at[slots[:, None], np.array(positions)[None, :]].set(new, mode="drop")
            if n_clusters is None:  # the others know the sleeve
                return into
        return into.at[slots].set(new, mode="drop")

    return Allocation(**{name: put(name) for name in RESULT_FIELDS})


def _trivial(n_assets: int, dtype: Any) -> Estimates:
    """A universe that every profile solves at once."""
    none = jnp.zeros(n_assets, dtype)
    return Estimates(
        mean=none,
        covariance=jnp.eye(n_assets, dtype=dtype),
        active=jnp.ones(n_assets, bool),
        labels=jnp.zeros(n_assets, jnp.int32),
        n_clusters=jnp.int32(1),
        antifragility=none,
        dropped=jnp.bool_(False),
        valid=jnp.bool_(False),
    )


class Programs(NamedTuple):
    """The tiles' functions, to be compiled with `compiler_options`."""

    estimate: Callable[..., Any]
    solve: Callable[..., Any]


@functools.cache
def programs() -> Programs:
    """Make the tiles' functions, once: what they compile, all batches of a process share."""
    jit = functools.partial(jax.jit, compiler_options=compiler_options())
    return Programs(
        estimate=jit(_estimate_tiles, static_argnums=(0, 1, 2), donate_argnums=6),
        solve=jit(_solve_tiles, static_argnums=(0, 1, 2), donate_argnums=5),
    )
