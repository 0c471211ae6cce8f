"""Risk parity with upper bounds: equal risk contributions in the sense of Richard & Roncalli (2019, arXiv 1902.05710).

w(lambda) minimises w'Sw / 2 - lambda sum log w over 0 < w <= u, and lambda is the smallest with sum w(lambda) = 1. In
the scale z = sigma w / sqrt(lambda) the problem reads: minimise z'Cz / 2 - sum log z over 0 < z <= b s, with C the
correlation matrix, b = sigma u, a = 1 / sigma, and s = 1 / sqrt(lambda) the largest number with a . z = s. Without
bounds z does not depend on s. So it is solved twice: unbounded first, which is the answer where it respects the bounds,
then from there with the bounds on.

Unbounded, a few sweeps of cyclical coordinate descent (Griveau-Billion, Richard & Roncalli 2013) come near, and then
Newton's method, its steps by conjugate gradients: in log z the Hessian at the solution is I + diag(z) C diag(z), whose
eigenvalues lie between 1 and 2 but for the few that hedges make larger. What does not converge so, and what meets a
bound, takes more sweeps and then Newton steps by elimination, in groups of few universes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxalloc.kernels.lanes.adapter import lanes_last
from jaxalloc.kernels.lanes.control import choose, in_groups, is_wide, over_pairs, while_any
from jaxalloc.kernels.lanes.elimination import solve_positive_definite
from jaxalloc.kernels.lanes.products import matvec, positions
from jaxalloc.kernels.solvers.capped_simplex import settle
from jaxalloc.kernels.solvers.problem import Correlation, Solution, accepted, correlate, tolerance

ROUGH_SWEEPS = 2  # of coordinate descent in float32, then
_LOG_STEPS = 14  # of Newton's method in log z at most, each of
GRADIENTS = 10  # conjugate gradients at most, in float32, fewer where the residual is down to this part of itself:
_REDUCTION = 1e-3
_LONGEST = 2.0  # change of log z in a step
_SWEEPS = 20  # in full precision where that does not converge, before Newton's method by elimination
_NEWTON_STEPS = 80
_FAR = 0.1  # error up to which a step of Newton's method in log z should leave no more of it than
_PAYS = 0.25
_MOST_NOISE = 1e-3
_RARE = 32  # a group has one in so many of an accelerator's lanes: 1 to 3 % want bounds or eliminations
_ROUGH_STEPS = 8  # of those whose direction is solved for in float32: half the memory to go through


class _Problem(NamedTuple):
    """C, a, b, and which clusters take part; a and b are 0 for the others."""

    correlation: Array
    normal: Array
    upper: Array
    member: Array


class _State(NamedTuple):
    """z, s, what is added to C's diagonal, and the steps done; `_measure` adds C z, the gap and its rounding floor."""

    z: Array
    s: Array
    ridge: Array
    product: Array
    gap: Array
    floor: Array
    steps: Array


def risk_parity(covariance: Array, upper: Array) -> Solution:
    """Equal risk contributions over {0 < w <= u, sum w = 1}: every cluster below its bound contributes the same.

    Where the bounds leave no choice (sum u <= 1 + 1e-12) w = u. Where some long-only mix has no variance the solution
    need not exist: then S + delta diag(S) is solved, delta = 1e-10 in float64 and 1e-5 in float32, and ``altered`` set.

    Args:
        covariance: (K, K) S, symmetric positive semidefinite, positive diagonal.
        upper: (K,) u with sum u >= 1; 0 for a cluster that takes no part.

    Returns:
        `Solution`; ``iterations`` counts sweeps and Newton steps.
    """
    return _risk_parity(covariance, upper)


def contribution_gap(covariance: Array, upper: Array, weights: Array) -> Array:
    """How unequal the risk contributions r_i = w_i (Sw)_i are: max of 1 - r_i / max r over clusters below their bound.

    Args:
        covariance: (K, K) S.
        upper: (K,) u; 0 for a cluster that takes no part.
        weights: (K,) w.

    Returns:
        () the gap, 0 where no cluster is below its bound.
    """
    return _spread(_scale(correlate(covariance), upper), jnp.zeros_like(weights[0]), upper, weights)


# ---- with lanes: vectors (K, L), numbers (L,) ------------------------------------------------------------------------


def risk_parity_lanes(risk: Correlation, uppers: Array) -> Solution:
    """`risk_parity` with lanes, for P problems of one covariance: (K, K, L) and (P, K, L)."""
    # one after the other: side by side they would want the correlations twice, and outgrow the cache
    states = lax.map(functools.partial(_unbounded, risk), uppers)
    states = _finish(risk, uppers, states)
    return lax.map(lambda problem: _solution(risk, *problem), (uppers, states))


def _one(covariance: Array, upper: Array) -> Solution:
    return jax.tree.map(lambda leaf: leaf[0], risk_parity_lanes(correlate(covariance), upper[None]))


_risk_parity = lanes_last(_one)


def _forced(upper: Array) -> Array:
    """Where the bounds leave no choice."""
    return _total(upper) <= 1 + 1e-12


def _unbounded(risk: Correlation, upper: Array) -> _State:
    problem, wanted = _scale(risk, upper), ~_forced(upper)
    # float32 is enough to come near; from there nothing remembers it
    upper32, normal32 = problem.upper.astype(jnp.float32), problem.normal.astype(jnp.float32)
    rough = _Problem(risk.rough, normal32, upper32, problem.member)
    near = _descend(rough, False, wanted, _start(rough), ROUGH_SWEEPS)
    state = _start(problem)._replace(z=near.z.astype(upper.dtype), steps=near.steps)
    state = _minimise_in_log(problem, risk.rough, wanted, state)
    return state._replace(s=_total(problem.normal * state.z))


def _finish(risk: Correlation, uppers: Array, states: _State) -> _State:
    """Solve what is not solved, still without bounds; then, with the bounds on, what does not respect them: few do."""

    def to_lanes(values: Array) -> Array:  # (P, ..., L) to (..., P L)
        return jnp.moveaxis(values, 0, -2).reshape(*values.shape[1:-1], -1)

    def from_lanes(values: Array) -> Array:
        return jnp.moveaxis(values.reshape(*values.shape[:-1], len(uppers), -1), -2, 0)

    own = jax.vmap(_scale, in_axes=(None, 0))(risk, uppers)
    problem = _Problem(risk.matrix, to_lanes(own.normal), to_lanes(own.upper), to_lanes(own.member))
    infinite = jnp.where(problem.member, jnp.inf, problem.upper)
    free = ~_forced(to_lanes(uppers))

    def stage(i: Array, state: _State) -> _State:
        bounded = i > 0
        crossing = jnp.any(state.z > problem.upper * state.s, axis=0)
        wanted = free & jnp.where(bounded, crossing, _unfinished(state))
        posed = problem._replace(upper=jnp.where(bounded, problem.upper, infinite))
        # all problems' lanes together: by themselves they would hardly fill a group
        return in_groups(wanted, functools.partial(_minimise, bounded), posed, state, share=_RARE)

    # a loop, so that there is one program for both
    return jax.tree.map(from_lanes, lax.fori_loop(0, 2, stage, jax.tree.map(to_lanes, states)))


def _solution(risk: Correlation, upper: Array, state: _State) -> Solution:
    problem, forced = _scale(risk, upper), _forced(upper)
    full = state.z >= problem.upper * state.s  # exactly at the bound, not a rounding below it
    weights = jnp.where(full, upper, jnp.minimum(problem.normal * state.z / state.s, upper))
    weights = jnp.where(forced, upper, settle(weights, upper))
    gap = _spread(problem, state.ridge, upper, weights)
    converged = gap <= jnp.maximum(accepted(gap.dtype), 4 * state.floor)
    return Solution(weights, gap, state.steps, (state.ridge > 0) & ~forced, converged)


def _minimise_in_log(problem: _Problem, rough: Array, wanted: Array, state: _State) -> _State:
    """Newton's method in log z without bounds, as long as its steps pay; C in float32 for their directions."""
    noise = _noise(problem, state)  # at the start: what it is at a later point is not far from that

    def step(carry: tuple[_State, Array]) -> tuple[_State, Array]:
        state, paid = carry
        z = state.z
        error = jnp.where(problem.member, z * state.product - 1, 0)
        change = jnp.clip(_log_step(z, error, rough, wanted & paid), -_LONGEST, _LONGEST)
        z = z * jnp.exp(change)
        new = state._replace(z=z, s=_total(problem.normal * z), steps=state.steps + 1)
        new = _evaluate(problem, False, new, noise)
        # far from the solution the largest error may grow before it falls
        pays = jnp.isfinite(new.gap) & ((new.gap <= _PAYS * state.gap) | (state.gap > _FAR))
        kept = pays | (new.gap < state.gap)
        return choose(kept, new, state), pays

    def more(carry: tuple[_State, Array]) -> Array:
        state, paid = carry
        return wanted & paid & _unfinished(state) & (state.steps < ROUGH_SWEEPS + _LOG_STEPS)

    start = _evaluate(problem, False, state, noise)
    end = while_any(more, step, (start, jnp.isfinite(start.gap)))[0]
    return _measure(problem, False, end)


def _log_step(z: Array, error: Array, rough: Array, wanted: Array) -> Array:
    """Solve (I + diag(z) C diag(z)) x = -error by conjugate gradients in float32, its diagonal scaled to 1."""
    root = jnp.sqrt(1 + z * z)
    rhs = -error / root
    size = jnp.max(jnp.abs(rhs), axis=0)
    size = jnp.where(size > 0, size, 1)  # float32 has digits enough, but no range
    rhs = (rhs / size).astype(jnp.float32)
    identity, scale = (1 / (root * root)).astype(jnp.float32), (z / root).astype(jnp.float32)
    enough = _REDUCTION**2 * _total(rhs * rhs)

    def gradient(carry: tuple[Array, Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array, Array]:
        x, residual, direction, squares, i = carry
        image = identity * direction + scale * matvec(rough, scale * direction)
        curvature = _total(direction * image)
        length = jnp.where(curvature > 0, squares / jnp.where(curvature > 0, curvature, 1), 0)
        x, residual = x + length * direction, residual - length * image
        left = _total(residual * residual)
        direction = residual + left / jnp.where(squares > 0, squares, 1) * direction
        return x, residual, direction, left, i + 1

    def more(carry: tuple[Array, Array, Array, Array, Array]) -> Array:
        return wanted & (carry[3] > enough) & (carry[4] < GRADIENTS)

    none = jnp.zeros(size.shape, jnp.int32)
    x = while_any(more, gradient, (jnp.zeros_like(rhs), rhs, rhs, _total(rhs * rhs), none))[0]
    return x.astype(z.dtype) * size / root


def _minimise(bounded: Array, problem: _Problem, state: _State, wanted: Array) -> _State:
    """Coordinate descent from ``state``, and Newton's method from there; if not ``bounded`` the bounds are infinite."""
    fresh = state._replace(gap=jnp.full_like(state.gap, jnp.inf))
    swept = _descend(problem, True, wanted, fresh, _SWEEPS, bounded)
    return choose(wanted, _newton(problem, bounded, wanted, _measure(problem, True, swept)), state)


def _total(x: Array) -> Array:
    return jnp.sum(x, axis=0)


def _spread(problem: _Problem, ridge: Array, upper: Array, weights: Array) -> Array:
    y = jnp.where(problem.member, weights / jnp.where(problem.member, problem.normal, 1), 0)
    contribution = y * (matvec(problem.correlation, y) + ridge * y)
    largest = jnp.max(contribution, axis=0)
    lowest = jnp.min(jnp.where((upper > 0) & (weights < upper), contribution, largest), axis=0)
    return jnp.where(largest > 0, 1 - lowest / jnp.where(largest > 0, largest, 1), 0)


def _scale(risk: Correlation, upper: Array) -> _Problem:
    member = upper > 0
    return _Problem(risk.matrix, jnp.where(member, 1 / risk.sigma, 0), risk.sigma * upper, member)


def _start(problem: _Problem) -> _State:
    member = problem.member
    ones = member.astype(problem.normal.dtype)
    sums = matvec(problem.correlation, ones)
    total = _total(ones * sums)
    length = jnp.sqrt(_total(ones) / jnp.maximum(total, 1))  # sum z_i (Cz)_i = K at the solution
    z, zero = ones * length, jnp.zeros_like(total)
    steps = jnp.zeros(zero.shape, jnp.int32)
    return _State(z, _total(problem.normal * z), zero, z, zero, zero, steps)


def _cap(problem: _Problem, bounded: bool, s: Array) -> Array:
    return problem.upper * s if bounded else jnp.full_like(problem.upper, jnp.inf)


def _measure(problem: _Problem, bounded: bool, state: _State) -> _State:
    """Fill in how far z_i (Cz)_i = 1 and a . z = s are from holding, and how near this precision can bring them."""
    return _evaluate(problem, bounded, state, _noise(problem, state))


def _noise(problem: _Problem, state: _State) -> Array:
    """(K, L) what z_i (Cz)_i is off by rounding: much where hedges cancel, of one cluster more than of another.

    Of iterates that run away all is rounding, and nothing is in order: hence the limit.
    """
    z = state.z
    gross = z * (matvec(problem.correlation, z, absolute=True) + state.ridge * z)
    return jnp.minimum(2 * jnp.finfo(z.dtype).eps * gross, _MOST_NOISE)


def _evaluate(problem: _Problem, bounded: bool, state: _State, noise: Array) -> _State:
    """`_measure` with the `_noise` at hand. What is off by no more than its own is in order."""
    z = state.z
    product = matvec(problem.correlation, z)
    error = z * (product + state.ridge * z) - 1
    below = z < _cap(problem, bounded, state.s)
    error = jnp.where(below, jnp.abs(error), error)
    gap = jnp.max(jnp.where(problem.member & (error > noise), error, 0), axis=0)
    unspent = jnp.abs(_total(problem.normal * z) / state.s - 1)
    gap = jnp.maximum(gap, unspent) if bounded else gap
    return state._replace(product=product, gap=gap, floor=jnp.max(noise, axis=0))


def _unfinished(state: _State) -> Array:
    # errors of both signs make a gap of twice their size; and one hedged cluster's floor may be far above the
    # others', so that it ends a search only when the goal is met
    dtype = state.gap.dtype
    return 2 * state.gap > jnp.maximum(tolerance(dtype), jnp.minimum(state.floor / 2, accepted(dtype)))


def _rescale(problem: _Problem, z: Array, s: Array) -> tuple[Array, Array]:
    """Make a . z = s, the clusters at their bound keeping their weight."""
    full = problem.member & (z >= problem.upper * s)
    held = _total(jnp.where(full, problem.normal * problem.upper, 0))
    free = _total(jnp.where(full, 0, problem.normal * z))
    regular = (held < 1) & (free > 0)
    new = jnp.where(regular, free / jnp.where(held < 1, 1 - held, 1), _total(problem.normal * z))
    return jnp.where(full & regular, problem.upper * new, jnp.minimum(z, problem.upper * new)), new


def _sweep(problem: _Problem, bounded: bool, state: _State) -> tuple[_State, Array]:
    """Minimise over one coordinate after another, then rescale.

    Returns:
        The state without C z and its gap, and the worst of how far a coordinate's condition was from holding before its
        turn, or a . z = s before the rescaling.
    """
    diagonal = 1 + state.ridge
    cap = _cap(problem, bounded, state.s)

    def at(values: Array, i: Array) -> Array:
        return lax.dynamic_index_in_dim(values, i, 0, keepdims=False)

    def coordinate(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        i, z = carry
        now = at(z, i)
        slope = _total(at(problem.correlation, i) * z) - now
        root = jnp.sqrt(slope * slope + 4 * diagonal)
        best = jnp.where(slope > 0, 2 / (slope + root), (root - slope) / (2 * diagonal))
        best = jnp.minimum(best, at(cap, i))
        return i + 1, lax.dynamic_update_index_in_dim(z, jnp.where(at(problem.member, i), best, now), i, 0)

    if is_wide(state.z.shape[-1]):
        z = over_pairs(state.z.shape[0], lambda i, z: coordinate((i, z))[1], state.z)
    else:
        # an index without a sign is not looked at for being counted from the end
        count = jnp.uint32(state.z.shape[0])
        z = lax.while_loop(lambda carry: carry[0] < count, coordinate, (jnp.uint32(0), state.z))[1]
    # what the others were at a coordinate's turn, its new value tells: so no sum of a turn needs to be kept
    error = (state.z - z) * (1 / jnp.where(problem.member, z, 1) + diagonal * state.z)
    worst = jnp.max(jnp.where(problem.member, jnp.abs(error), 0), axis=0)
    if bounded:
        z, s = _rescale(problem, z, state.s)
        worst = jnp.maximum(worst, jnp.abs(s / state.s - 1))
    else:
        s = _total(problem.normal * z)
    return state._replace(z=z, s=s, steps=state.steps + 1), worst


def _descend(
    problem: _Problem, bounded: bool, wanted: Array, state: _State, most: int, patient: Array | bool = True
) -> _State:
    """Coordinate descent until what a sweep finds is in order, ``most`` sweeps at most.

    Where not ``patient`` it also ends where a sweep does not halve the error: what is left takes Newton's method less
    time.
    """
    goal = tolerance(state.gap.dtype) / 4  # what the last sweep changed is smaller than what it found

    def body(carry: tuple[_State, Array, Array, Array]) -> tuple[_State, Array, Array, Array]:
        state, worst, _, i = carry
        return *_sweep(problem, bounded, state), worst, i + 1

    def more(carry: tuple[_State, Array, Array, Array]) -> Array:
        _, worst, before, i = carry
        going = wanted & (worst > goal) & (i < most)
        return going & (patient | (worst <= before / 2))

    infinite = jnp.full_like(state.gap, jnp.inf)
    return while_any(more, body, (state, infinite, infinite, jnp.zeros_like(state.steps)))[0]


def _newton(problem: _Problem, bounded: Array, wanted: Array, state: _State) -> _State:
    """Newton's method, damped as a self-concordant function asks.

    A step is tried from the sweep after the last point, and from that point itself, and the best of the three stays:
    near a bound a sweep may put a cluster on it that belongs below, and far from the solution it is what finds the
    bounds. Without bounds the first step stays whatever it does to the error, which may grow before it falls; and the
    iterates of a problem without a solution run away, and get the ridge.
    """
    eps = jnp.finfo(state.z.dtype).eps
    delta = 1e-10 if state.z.dtype == jnp.float64 else 1e-5
    vanishing = 16 * eps * problem.upper.shape[0]  # where rounding, and the solver of the step, stop the flight
    restart = _start(problem)

    def body(carry: tuple[_State, Array, Array]) -> tuple[_State, Array, Array]:
        state, i, t = carry
        swept = _measure(problem, True, _sweep(problem, True, state)[0])

        def attempt(j: Array, best: _State) -> _State:
            start = choose(j == 0, swept, state)
            # lanes that are still at it have all done as many steps
            rough = jnp.max(t) < _ROUGH_STEPS
            trial = _in_precision(rough, functools.partial(_step, problem), start)
            trial = _measure(problem, True, trial)
            better = ~(trial.gap >= best.gap) | (~bounded & (j == 0))
            return choose(jnp.isfinite(trial.gap) & better, trial, best)

        new = lax.fori_loop(0, 2, attempt, swept)._replace(steps=swept.steps)
        singular = _total(new.z * new.product) <= vanishing * _total(new.z * new.z)
        again = ~bounded & singular & (new.ridge == 0)  # start over, with the ridge: from far out the way back is long
        new = new._replace(
            z=jnp.where(again, restart.z, new.z),
            ridge=jnp.where(again, delta, new.ridge),
            gap=jnp.where(again, jnp.inf, new.gap),
        )
        return new, jnp.where(again, 0, i + 1), t + 1

    none = jnp.zeros_like(state.steps)
    return while_any(functools.partial(_worthwhile, wanted), body, (state, none, none))[0]


def _worthwhile(wanted: Array, carry: tuple[_State, Array, Array]) -> Array:
    """Whether another step of Newton's method is: few from near the goal reach what the precision allows."""
    state, i, _ = carry
    wandering = (i >= 4) & (state.gap <= jnp.minimum(4 * state.floor, 1e-2))  # in the rounding
    return wanted & _unfinished(state) & (i < _NEWTON_STEPS) & ~wandering


def _in_precision(rough: Array, step: Callable[[Any, _State], _State], state: _State) -> _State:
    """``step`` with systems solved in float32 where ``rough``: a step may be a little off, the next one mends it."""
    if state.z.dtype == jnp.float32:
        return step(jnp.float32, state)
    return lax.cond(rough, functools.partial(step, jnp.float32), functools.partial(step, jnp.float64), state)


def _residual(state: _State, free: Array) -> Array:
    """How far (C z)_i is from 1 / z_i: the gradient, on the free entries."""
    z = state.z
    inverse = jnp.where(free, 1 / jnp.where(free, z, 1), 0)
    return jnp.where(free, state.product + state.ridge * z - inverse, 0)


def _damping(dz: Array, gradient: Array) -> Array:
    """Length of a Newton step ``dz``, by its decrement: what a self-concordant function asks."""
    decrement = jnp.sqrt(jnp.maximum(-_total(dz * gradient), 0))
    return jnp.where(decrement < 0.25, 1, 1 / (1 + decrement))


def _solve_hessian(problem: _Problem, state: _State, free: Array, rhs: Array, dtype: Any) -> Array:
    """Solve (C + ridge + 1 / z^2) X = rhs, (K, R, L), on the free entries, in the given precision.

    Scaled by z on both sides the diagonal is 1 + z^2, and small entries do not look dependent beside large ones.
    """
    z = state.z
    rows = positions(z.shape[0], problem.correlation)
    norm = jnp.sqrt(jnp.where(free, 1 + (1 + state.ridge) * z * z, 1))
    scale = jnp.where(free, z, 1) / norm
    narrow = jnp.where(free, scale, 0).astype(dtype)
    scaled = problem.correlation.astype(dtype) * narrow[:, None] * narrow[None]
    scaled = jnp.where(rows == jnp.swapaxes(rows, 0, 1), 1, scaled)
    solved = solve_positive_definite(scaled, (rhs * scale[:, None]).astype(dtype))
    return solved.astype(z.dtype) * scale[:, None]


def _step(problem: _Problem, dtype: Any, state: _State) -> _State:
    """Solve for z on the clusters below their bound, and for s, together.

    The equations are (C z)_i = 1 / z_i below the bound, with z = b s at it, and a . z = s.
    """
    z, s = state.z, state.s
    full = problem.member & (z >= problem.upper * s)
    free = problem.member & ~full
    residual = _residual(state, free)
    held = jnp.where(full, problem.upper, 0)
    pull = jnp.where(free, matvec(problem.correlation, held), 0)
    solved = _solve_hessian(problem, state, free, jnp.stack([residual, pull], axis=1), dtype)
    along_residual, along_pull = solved[:, 0], solved[:, 1]
    room = 1 - _total(problem.normal * held)
    excess = _total(jnp.where(free, problem.normal * z, 0)) - room * s
    denominator = room + _total(problem.normal * along_pull)
    ds = (excess - _total(problem.normal * along_residual)) / jnp.where(denominator > 0, denominator, 1)
    ds = jnp.where(denominator > 0, ds, 0)
    dz = -along_residual - along_pull * ds
    damping = _damping(dz, residual + pull * ds)
    new_s = jnp.maximum(s + damping * ds, s / 4)
    new_z = jnp.where(full, problem.upper * new_s, jnp.where(free, z + damping * dz, 0))
    new_z = jnp.minimum(new_z, problem.upper * new_s)
    new_z, new_s = _rescale(problem, new_z, new_s)
    return state._replace(z=new_z, s=new_s)
