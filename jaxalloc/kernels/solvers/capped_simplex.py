"""The feasible set across clusters: caps, bounds, the capped simplex, its projection and its linear programs.

Everything is written for one universe, vectors (K,) and numbers (), and takes lanes as well: (K, L) and (L,).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxalloc.kernels.lanes.backend import if_any
from jaxalloc.kernels.lanes.control import over_pairs, while_any
from jaxalloc.kernels.lanes.precision import is_off
from jaxalloc.kernels.lanes.products import totals

_FEW = 100  # at most so many entries are compared with one another
_MAX_STEPS = 200  # each search below ends in a handful of steps; the limit only guards against NaN


class Bounds(NamedTuple):
    """Upper bounds of one universe.

    Attributes:
        upper: (K,) largest weight of each cluster, 0 for a cluster that takes no part.
        cluster: () the cluster cap in force, kappa.
        asset: () the asset bound in force, beta.
        cap_relaxed: () bool, kappa is larger than the cap asked for.
        asset_raised: () bool, beta had to rise so that the clusters can hold the whole portfolio.
    """

    upper: Array
    cluster: Array
    asset: Array
    cap_relaxed: Array
    asset_raised: Array


def bounds(sizes: Array, cluster_cap: Array, asset_cap: Array, slack: Array) -> Bounds:
    """Bounds that leave room for a portfolio: u = min(kappa, p beta), with sum u >= 1.

    kappa = max(cluster_cap, slack / K) and beta = max(asset_cap, slack / N). Where the clusters together still hold
    less than 1, beta rises to the smallest value that gives sum u = slack; it exists because K kappa >= slack.

    Args:
        sizes: (K,) number of assets p of each cluster; 0 where a cluster takes no part.
        cluster_cap: () largest weight of a cluster.
        asset_cap: () largest weight of an asset.
        slack: () at least 1.

    Returns:
        `Bounds`. With no cluster at all the bounds are 0.
    """
    dtype = sizes.dtype
    n_clusters = jnp.maximum(jnp.sum(sizes > 0, axis=0, dtype=dtype), 1)
    n_assets = jnp.maximum(jnp.sum(sizes, axis=0), 1)
    kappa = jnp.maximum(cluster_cap, slack / n_clusters)
    beta = jnp.maximum(asset_cap, slack / n_assets)
    held = jnp.sum(jnp.minimum(kappa, sizes * beta), axis=0)
    raised = held < 1

    # h(beta) = sum min(kappa, p beta) is concave and piecewise linear, so Newton from the left never passes the root
    # and ends on its piece: at each step the clusters at kappa are fixed and the others solve a linear equation.
    def full(b: Array) -> Array:
        return sizes * b >= kappa

    def step(_: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        b, _ = state
        capped = full(b)
        free_assets = jnp.sum(jnp.where(capped, 0, sizes), axis=0)
        n_capped = jnp.sum(capped & (sizes > 0), axis=0, dtype=dtype)
        target = (slack - kappa * n_capped) / jnp.maximum(free_assets, 1)
        new = jnp.where(free_assets > 0, jnp.maximum(b, target), b)
        return new, b

    def moving(turn: Array, state: tuple[Array, Array]) -> Array:
        b, previous = state
        return raised & (b > previous) & (turn < _MAX_STEPS)

    risen, _ = while_any(moving, step, (beta, jnp.full_like(beta, -1)))
    beta = jnp.where(raised, risen, beta)
    return Bounds(
        upper=jnp.minimum(kappa, sizes * beta),
        cluster=kappa,
        asset=beta,
        cap_relaxed=kappa > cluster_cap,
        asset_raised=raised,
    )


@jax.jit
def project(point: Array, upper: Array, normal: Array | None = None) -> Array:
    """Project onto the capped simplex {0 <= y <= upper, normal . y = 1}, exactly.

    The projection is y(mu) = clip(point - mu normal, 0, upper), and normal . y(mu) falls piecewise linearly in mu;
    Newton's method on that root ends on the right piece, and bisection takes over where Newton leaves the bracket.

    Args:
        point: (K,) the point to project.
        upper: (K,) upper bounds, 0 for an entry that must be 0.
        normal: (K,) positive; ones by default. With y = sigma w and normal = 1 / sigma this is the projection of the
            weights in the variance metric.

    Returns:
        (K,) the nearest point of the set. Where normal . upper < 1 the set is empty and ``upper`` comes back.
    """
    a = jnp.ones_like(point) if normal is None else normal
    movable = upper > 0
    eps = jnp.finfo(point.dtype).eps
    low = jnp.min(jnp.where(movable, (point - upper) / a, jnp.inf), axis=0)
    high = jnp.max(jnp.where(movable, point / a, -jnp.inf), axis=0)
    held, squares = totals(jnp.where(movable, a * point, 0), jnp.where(movable, a * a, 0))
    exists = squares > 0
    low, high = jnp.where(exists, low, 0), jnp.where(exists, high, 0)
    start = jnp.clip((held - 1) / jnp.maximum(squares, eps), low, high)

    def searching(carry: tuple[Array, Array, Array, Array, Array]) -> Array:
        turn, *_, searched = carry
        return (turn < _MAX_STEPS) & jnp.any(searched)

    def step(carry: tuple[Array, Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array, Array]:
        turn, mu, lower, higher, searched = carry
        moved = point - mu * a
        excess = jnp.sum(a * jnp.clip(moved, 0, upper), axis=0) - 1
        slope = jnp.sum(jnp.where((moved > 0) & (moved < upper), a * a, 0), axis=0)
        lower = jnp.where(excess >= 0, mu, lower)
        higher = jnp.where(excess <= 0, mu, higher)
        newton = mu + excess / jnp.where(slope > 0, slope, 1)
        # strictly inside: an end has been tried already, and Newton may go from one end to the other for ever
        inside = (slope > 0) & (newton > lower) & (newton < higher)
        new = jnp.where(inside, newton, lower + (higher - lower) / 2)
        searched = searched & (jnp.abs(excess) > 2 * eps) & (new != mu) & ((newton != mu) | (slope <= 0))
        return turn + 1, jnp.where(searched, new, mu), lower, higher, searched

    _, mu, *_ = lax.while_loop(searching, step, (jnp.int32(0), start, low, high, jnp.ones(start.shape, bool)))
    return jnp.clip(point - mu * a, 0, upper)


def linear_minimum(cost: Array, upper: Array, rows: Array | None = None) -> Array:
    """Minimise cost . s over {0 <= s <= upper, sum s = 1}, greedily: fill the cheapest entries first.

    Args:
        cost: (K,) finite.
        upper: (K,) upper bounds with sum >= 1; 0 for an entry that takes no part.
        rows: () int32, no entry from this one on takes part; by default all count.

    Returns:
        (K,) a minimiser; entries of the marginal cost share what is left in proportion to their bounds.
    """
    _, cheaper, up_to = _marginal_cost(cost, upper, rows)
    filled = jnp.where(cheaper, upper, 0)
    level = jnp.where(up_to & ~cheaper, upper, 0)
    total = jnp.sum(level, axis=0)
    share = jnp.clip((1 - jnp.sum(filled, axis=0)) / jnp.where(total > 0, total, 1), 0, 1)
    return filled + share * level


@jax.jit
def linear_slack(cost: Array, weights: Array, upper: Array, rows: Array | None = None) -> Array:
    """By how much cost . w exceeds the minimum of cost . s over the set, as a sum of nonnegative terms.

    By duality this slack is the least over nu of sum (cost - nu)^+ w + (nu - cost)^+ (upper - w), attained at the
    marginal cost. Nothing cancels, so that it is exact to a few units in its last place however close w is to optimal.

    Args:
        cost: (K,) finite.
        weights: (K,) feasible w.
        upper: (K,) upper bounds; 0 for an entry that takes no part.
        rows: () int32, no entry from this one on takes part; by default all count.

    Returns:
        () the slack, at least 0.
    """
    nu, _, _ = _marginal_cost(cost, upper, rows)
    room = jnp.maximum(upper - weights, 0)
    terms = jnp.maximum(cost - nu, 0) * weights + jnp.maximum(nu - cost, 0) * room
    return jnp.sum(jnp.where(upper > 0, terms, 0), axis=0)


def _marginal_cost(cost: Array, upper: Array, rows: Array | None) -> tuple[Array, Array, Array]:
    """The marginal cost, at which the entries up to it hold 1; the entries below that cost, and those up to it.

    Few entries are compared with one another, in K^2 steps. For many the cost is bisected, until floating point has
    nothing between the ends. The result is masks, made by the loop that compares the costs: compared once more outside
    of it, a cost that is computed anew might round differently (see `jaxalloc.kernels.lanes.backend`).
    """
    movable = upper > 0
    exists = jnp.any(movable, axis=0)
    low = jnp.where(exists, jnp.min(jnp.where(movable, cost, jnp.inf), axis=0), 0)
    high = jnp.where(exists, jnp.max(jnp.where(movable, cost, -jnp.inf), axis=0), 0)

    def add(j: Array, held: tuple[Array, Array]) -> tuple[Array, Array]:
        before, up_to = held
        other, room = (lax.dynamic_index_in_dim(values, j, 0, keepdims=True) for values in (cost, upper))
        return before + jnp.where(other < cost, room, 0), up_to + jnp.where(other <= cost, room, 0)

    def halve(_: Array, ends: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        low, high, below, up_to = ends
        middle = low + (high - low) / 2
        reached = movable & (cost <= middle)
        enough = jnp.sum(jnp.where(reached, upper, 0), axis=0) >= 1
        low, high = jnp.where(enough, low, middle), jnp.where(enough, middle, high)
        return low, high, jnp.where(enough, below, reached), jnp.where(enough, reached, up_to)

    if len(cost) <= _FEW:
        before, held = over_pairs(len(cost), add, (jnp.zeros_like(upper), jnp.zeros_like(upper)), rows)
        below, up_to = movable & (held < 1), movable & (before < 1)
    else:
        steps = jnp.finfo(cost.dtype).nmant + 20  # more than the digits: the marginal cost may be far below the largest
        start = (low, high, jnp.zeros_like(movable), movable)
        _, high, below, up_to = lax.fori_loop(0, steps, halve, start)
    nu = jnp.min(jnp.where(up_to & ~below, cost, jnp.inf), axis=0)
    return jnp.where(jnp.isfinite(nu), nu, high), below, up_to


@jax.jit
def settle(weights: Array, upper: Array) -> Array:
    """`even_out`; where more than rounding is missing, because a search gave up early, the weights are projected."""
    weights = even_out(weights, upper)
    return if_any(is_off(jnp.sum(weights, axis=0)), lambda weights, _: project(weights, upper), weights)


def even_out(weights: Array, upper: Array) -> Array:
    """Give the rounding left in sum w - 1 to the entries strictly between their bounds, in proportion.

    Args:
        weights: (K,) within the bounds, sum about 1.
        upper: (K,) upper bounds.

    Returns:
        (K,) weights within the bounds whose sum is 1 to the last few bits, where the entries have room for it.
    """
    for _ in range(2):  # the first time an entry just below its bound may reach it, and leave the rest to the others
        free = (weights > 0) & (weights < upper)
        fixed, moving = totals(jnp.where(free, 0, weights), jnp.where(free, weights, 0))
        scale = jnp.where(moving > 0, (1 - fixed) / jnp.where(moving > 0, moving, 1), 1)
        weights = jnp.clip(jnp.where(free, weights * jnp.maximum(scale, 0), weights), 0, upper)
    return weights
