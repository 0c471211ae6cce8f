"""Frequency-weighted moments of one universe, from its own returns or from a panel that many universes share."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax.numpy as jnp
from jax import Array, lax

from jaxalloc.kernels.lanes.precision import inverse_power_of_two, is_computable
from jaxalloc.kernels.lanes.products import divisor, dot

State = TypeVar("State")

_BLOCK = 64  # rows that are gone through at once: the sums of products of 64 assets fit the near cache beside them


class Moments(NamedTuple):
    """Moments of one universe, per period. Entries of an inactive asset are 0.

    Attributes:
        count: () n, the sum of the observation weights.
        mean: (N,) weighted mean; of decayed weights where a decay was given.
        covariance: (N, N) weighted covariance with divisor n - 1; likewise.
        plain_mean: (N,) mean of the observation weights themselves, whatever the decay.
        plain_variance: (N,) variance of those, divisor n - 1.
        third: (N,) mean cubed deviation of those from ``plain_mean``, divisor n, each times
            ``inverse_scale``: of small or large returns the cube itself would be no number.
        inverse_scale: (N,) a power of 2, 1 over about the usual size of the deviations.
        active: (N,) bool, the assets that take part.
        dropped: () bool, an asset of the mask left because its returns are all equal.
        valid: () bool, False where the universe has no moments (see `Status.INVALID`).
    """

    count: Array
    mean: Array
    covariance: Array
    plain_mean: Array
    plain_variance: Array
    third: Array
    inverse_scale: Array
    active: Array
    dropped: Array
    valid: Array


def over_rows(add: Callable[..., State], state: State, n_rows: Array | int | None, *arrays: Array) -> State:
    """Go through rows a block at a time.

    Args:
        add: from the state and the arrays' next rows to the next state.
        state: pytree of arrays.
        n_rows: () rows to go through, rounded up to whole blocks; all by default.
        arrays: (T, ...); what is past T counts as 0.
    """
    length = arrays[0].shape[0]
    padded = [jnp.pad(array, [(0, -length % _BLOCK), *[(0, 0)] * (array.ndim - 1)]) for array in arrays]

    def step(i: Array, state: State) -> State:
        return add(state, *(lax.dynamic_slice_in_dim(array, i * _BLOCK, _BLOCK) for array in padded))

    return lax.fori_loop(0, -(-(length if n_rows is None else n_rows) // _BLOCK), step, state)


def along_rows(operation: Callable[[Array, Array], Array], block: Array) -> Array:
    """A block (B, N), B a power of two, to (N,) by halves: a reduction that XLA vectorises on a CPU, along the columns.

    Args:
        operation: such as `jnp.add`.
        block: rows.
    """
    while len(block) > 1:
        half = len(block) // 2
        block = operation(block[:half], block[half:])
    return block[0]


class _Sums(NamedTuple):
    """Sums over the rows, and the extremes of each column."""

    plain: Array
    recent: Array
    highest: Array
    lowest: Array
    missing: Array


def sample_moments(
    returns: Array, weights: Array, mask: Array, decay: Array | None = None, n_rows: Array | int | None = None
) -> Moments:
    """Moments of one universe from its own returns, in two passes (mean, then deviations from it).

    mean = sum c x / n and covariance = sum c (x - mean)(x - mean)' / (n - 1), with n = sum c: the weights are
    frequencies, so that counts give what the rows repeated count times give.

    Args:
        returns: (T, N) simple returns per period. Never read where the mask is False or the weight is 0.
        weights: (T,) observation weights c, at least 0.
        mask: (N,) bool, the assets of the universe.
        decay: () lambda in (0, 1] of `decayed_weights`, which then make the mean and the covariance; or None.
        n_rows: rows that are gone through, as in `over_rows`. The rest must have no weight.

    Returns:
        `Moments`; ``valid`` is False where a return in use is not finite, a weight is negative or not finite, n < 2,
        no asset is left, or the decay leaves a single row.
    """
    c, weights_ok = clean_weights(weights)
    n = jnp.sum(c)
    recent = None if decay is None else decayed_weights(c, decay)
    own = (c,) if recent is None else (c, recent)  # the last of them make mean and covariance
    zero = jnp.zeros(mask.shape, returns.dtype)

    def readable(x: Array, c: Array) -> tuple[Array, Array]:
        """What is read of some rows, 0 elsewhere; and where that is."""
        read = (c > 0)[:, None] & mask[None, :]
        return jnp.where(read & jnp.isfinite(x), x, 0), read

    def look(sums: _Sums, x: Array, *own: Array) -> _Sums:
        values, read = readable(x, own[0])
        return _Sums(
            plain=sums.plain + dot(own[0], values),
            recent=sums.recent + dot(own[-1], values),
            highest=jnp.maximum(sums.highest, along_rows(jnp.maximum, jnp.where(read, values, -jnp.inf))),
            lowest=jnp.minimum(sums.lowest, along_rows(jnp.minimum, jnp.where(read, values, jnp.inf))),
            missing=sums.missing | jnp.any(read & ~jnp.isfinite(x)),
        )

    nothing = _Sums(plain=zero, recent=zero, highest=zero - jnp.inf, lowest=zero + jnp.inf, missing=jnp.bool_(False))
    sums = over_rows(look, nothing, n_rows, returns, *own)
    active = mask & ~(sums.highest <= sums.lowest)
    inverse_scale = inverse_power_of_two(jnp.where(active, sums.highest - sums.lowest, 1))
    plain_mean, mean = (jnp.where(active, total / divisor(n), 0) for total in (sums.plain, sums.recent))

    def deviate(state: tuple[Array, Array, Array], x: Array, *own: Array) -> tuple[Array, Array, Array]:
        squares, cubes, products = state
        values, read = readable(x, own[0])
        inside = read & active[None, :]
        deviation = jnp.where(inside, values - plain_mean[None, :], 0)
        about_mean = jnp.where(inside, values - mean[None, :], 0)
        return (
            squares + dot(own[0], deviation**2),
            cubes + dot(own[0], (deviation * inverse_scale[None, :]) ** 3),
            products + dot((own[-1][:, None] * about_mean).T, about_mean),
        )

    start = zero, zero, jnp.zeros((len(mask), len(mask)), returns.dtype)
    squares, cubes, products = over_rows(deviate, start, n_rows, returns, *own)
    covariance = products / divisor(n - 1)
    covariance = (covariance + covariance.T) / 2  # a product of two matrices is symmetric up to rounding only
    if recent is not None:
        weights_ok = weights_ok & ~in_one_row(recent)
    return judged_moments(
        weights_ok & ~sums.missing,
        mask,
        count=n,
        mean=mean,
        covariance=covariance,
        plain_mean=plain_mean,
        plain_variance=jnp.diagonal(covariance) if decay is None else squares / divisor(n - 1),
        third=cubes / divisor(n),
        inverse_scale=inverse_scale,
        active=active,
    )


def decayed_weights(weights: Array, decay: Array) -> Array:
    """Weights c lambda^age, rescaled to the sum of c; RiskMetrics' for a plain sample (J.P. Morgan/Reuters 1996).

    The age of row t is T - 1 - t. Since the scale is free it is counted from the last row in use instead, so that the
    powers of a window far from the panel's end do not all underflow.

    Args:
        weights: (T,) observation weights c, at least 0.
        decay: () lambda, in (0, 1].

    Returns:
        (T,) weights.
    """
    row = jnp.arange(weights.shape[0], dtype=jnp.int32)
    last = jnp.max(jnp.where(weights > 0, row, 0))
    age = jnp.maximum(last - row, 0).astype(weights.dtype)  # a row past the last has weight 0
    decayed = weights * decay**age
    return decayed * (jnp.sum(weights) / divisor(jnp.sum(decayed)))


def judged_moments(readable: Array, mask: Array, **moments: Array) -> Moments:
    """Moments of one universe, with what they say of it: whether an asset was dropped, and whether they can be used.

    A universe is rejected whose moments underflowed or overflowed: nothing can be computed with them. By Cauchy and
    Schwarz no sum of products is larger than the larger of the two sums of squares. So where all variances are finite,
    all covariances are, and they need not be looked at.

    Args:
        readable: () bool, whether every weight is good and no return in use is missing.
        mask: (N,) bool, the assets of the universe.
        moments: the other fields of `Moments`, by name.
    """
    active, variance = moments["active"], jnp.diagonal(moments["covariance"])
    usable = jnp.all(jnp.where(active, is_computable(variance), True))
    usable = usable & jnp.all(jnp.isfinite(moments["third"]))
    valid = readable & (moments["count"] >= 2) & jnp.any(active) & usable
    return Moments(**moments, dropped=jnp.any(mask & ~active), valid=valid)


def clean_weights(weights: Array) -> tuple[Array, Array]:
    """Observation weights (T,), 0 where one is negative or not finite; and () bool, whether none is."""
    good = jnp.isfinite(weights) & (weights >= 0)
    return jnp.where(good, weights, 0), jnp.all(good)


def in_one_row(weights: Array) -> Array:
    """True where one row has all the weight, to rounding; what variance is left is that of rounding errors."""
    total = jnp.sum(weights)
    return total - jnp.max(weights) <= 16 * jnp.finfo(weights.dtype).eps * total


def is_constant(x: Array, used: Array) -> Array:
    """(N,) True where the used rows of a column all hold one value; never judged by a computed variance."""
    highest = jnp.max(jnp.where(used[:, None], x, -jnp.inf), axis=0)
    lowest = jnp.min(jnp.where(used[:, None], x, jnp.inf), axis=0)
    return highest <= lowest
