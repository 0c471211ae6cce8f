"""Solutions as smooth functions of their problems, near a problem that has been solved.

At a solution some entries are held at a bound, and the others, the *face*, meet equations of optimality. Where the face
stays the same, these equations determine the solution as a smooth function of covariance, reward and bounds (implicit
function theorem; Fiacco 1983, Introduction to Sensitivity and Stability Analysis in Nonlinear Programming). The
functions here take one step of Newton's method from the known solution on its face. At the problem that was solved that
step is 0 but for rounding, and its derivatives with respect to the problem are those of the solution. Nothing iterates.

A *face* (`Face`) is made of what was solved. A derivative of what is made of it is taken with the face held; whoever
wants a second derivative differentiates the making of the face, too.

All is for one universe, vectors (K,) and matrices (K, K), in plain operations that can be differentiated and batched.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxalloc.kernels.clusters.within import sum_by_cluster
from jaxalloc.kernels.lanes.adapter import lanes_last
from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.lanes.elimination import solve_positive_definite
from jaxalloc.kernels.lanes.products import divisor, dot
from jaxalloc.kernels.solvers.tolerances import accepted

Product = Callable[[Array], Array]


class Face(NamedTuple):
    """A solution, and the equations of optimality on its face.

    Attributes:
        weights: (K,) w.
        free: (K,) bool, strictly between the bounds.
        full: (K,) bool, at the upper bound.
        inverse: (K, K) of the equations' matrix on the face, 0 elsewhere.
        level: () risk parity's lambda, the contribution of every free entry; the variance w'Sw of the others.
        along: (K,) Sw on the face, 0 elsewhere.
        slope: () multiplier of the sum in the equation e/r = Sw/v + slope, where a reward is maximised.
        rewarded: () bool, whether one is.
    """

    weights: Array
    free: Array
    full: Array
    inverse: Array
    level: Array
    along: Array
    slope: Array
    rewarded: Array


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def inverse_of(matrix: Array, backend: Backend) -> Array:
    """Inverse of a symmetric positive definite matrix (K, K) of about unit scale, by elimination.

    Rows that depend on others, up to rounding, get 0, as in `solve_positive_definite`.
    """

    def kernel(matrix: Array) -> Array:
        size = matrix.shape[0]
        identity = jnp.broadcast_to(jnp.eye(size, dtype=matrix.dtype)[..., None], matrix.shape)
        return solve_positive_definite(matrix, identity, backend)

    return lanes_last(kernel)(matrix)


@inverse_of.defjvp
def _inverse_of_jvp(backend: Backend, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    inverse = inverse_of(*primals, backend)
    return inverse, -dot(dot(inverse, tangents[0]), inverse)


def _on_face(matrix: Array, free: Array, backend: Backend) -> Array:
    """(K, K) the inverse of a matrix's free rows and columns, 0 elsewhere."""
    both = free[:, None] & free[None, :]
    same = jnp.eye(len(free), dtype=bool)
    own = jnp.diagonal(matrix)
    scale = jnp.where(free & (own > 0), jax.lax.rsqrt(jnp.where(free & (own > 0), own, 1)), 1)
    scaled = jnp.where(same, 1, jnp.where(both, matrix * scale[:, None] * scale[None, :], 0))
    return jnp.where(both, inverse_of(scaled, backend) * scale[:, None] * scale[None, :], 0)


def _is_full(weights: Array, upper: Array) -> Array:
    """(K,) bool, which entries are at the upper bound, as far as a gap that counts as solved tells."""
    return (upper > 0) & (weights >= upper * (1 - accepted(upper.dtype)))


# ---- minimum variance, and the highest reward for its risk -----------------------------------------------------------


def mean_variance_face(
    covariance: Array, excess: Array, upper: Array, weights: Array, rewarded: Array, backend: Backend
) -> Face:
    """The face of a solution of `jaxalloc.kernels.solvers.mean_variance`.

    Args:
        covariance: (K, K) S.
        excess: (K,) e.
        upper: (K,) u.
        weights: (K,) w, the solution.
        rewarded: () bool, whether e'w / sqrt(w'Sw) was maximised; else w'Sw was minimised.
        backend: static.
    """
    full = _is_full(weights, upper)
    # likewise at 0, in the variance metric: beside a cluster of hardly any risk tiny weights count
    scaled = weights * jnp.sqrt(jnp.maximum(jnp.diagonal(covariance), 0))
    free = (weights > 0) & ~full & (scaled > accepted(upper.dtype) * jnp.max(scaled))
    gradient, reward = dot(covariance, weights), jnp.sum(excess * weights)
    variance = jnp.sum(weights * gradient)
    rewarded = rewarded & (reward > 0) & (variance > 0)
    own = jnp.where(free, weights, 0)
    slopes = excess / jnp.where(rewarded, reward, 1) - gradient / divisor(variance)
    return Face(
        weights=weights,
        free=free,
        full=full,
        inverse=_on_face(covariance, free, backend),
        level=variance,
        along=jnp.where(free, gradient, 0),
        slope=jnp.sum(own * slopes) / divisor(jnp.sum(own)),
        rewarded=rewarded,
    )


def mean_variance_near(product: Product, excess: Array, upper: Array, face: Face) -> Array:
    """Weights (K,) of minimum variance, or of the highest reward for its risk, near a solved problem.

    With w = w_F + u_U the equations on the face F are Sw = beta, of minimum variance, and e/r - Sw/v = beta, where
    r = e'w and v = w'Sw; and sum w = 1. Newton's matrix of the latter, times -v, is S - 2 gg'/v + v ee'/r^2 with
    g = Sw, and e = r (g/v + slope) on F. So two unknowns are left beside the inverse of S on F: the multiplier of the
    sum, and what multiplies g.

    Args:
        product: S times a vector (K,).
        excess: (K,) e.
        upper: (K,) u.
        face: of the solved problem.
    """
    dtype = upper.dtype
    weights, missing = _held(upper, face)
    gradient, reward = product(weights), jnp.sum(excess * weights)
    variance = jnp.sum(weights * gradient)
    ratio = excess / jnp.where(face.rewarded, reward, 1) - gradient / jnp.where(face.rewarded, variance, 1)
    residual = jnp.where(face.free, jnp.where(face.rewarded, face.level * ratio, -gradient), 0)

    one = dot(face.inverse, face.free.astype(dtype))  # the inverse times 1 and times g
    along = dot(face.inverse, face.along)
    ones, cross, square = jnp.sum(one), jnp.sum(along), jnp.sum(face.along * along)
    step = dot(face.inverse, residual)
    sum_value = missing - jnp.sum(step)
    risk_value = face.level * face.slope * missing - jnp.sum(face.along * step)
    own, other = square - face.level, cross
    determinant = other * other - ones * own
    solvable = face.rewarded & (jnp.abs(determinant) > 0)
    safe = jnp.where(solvable, determinant, 1)
    along_by = jnp.where(solvable, (other * sum_value - ones * risk_value) / safe, 0)
    one_by = jnp.where(solvable, (own * sum_value - other * risk_value) / safe, -sum_value / divisor(ones))
    return _moved(weights, step + along_by * along - one_by * one, missing, face)


# ---- risk parity -----------------------------------------------------------------------------------------------------


def risk_parity_face(covariance: Array, upper: Array, weights: Array, backend: Backend) -> Face:
    """The face of a solution of `jaxalloc.kernels.solvers.risk_parity`.

    Args:
        covariance: (K, K) S, as it was solved: with the jitter where it was altered.
        upper: (K,) u.
        weights: (K,) w, the solution.
        backend: static.
    """
    full = _is_full(weights, upper)
    free = (weights > 0) & ~full
    gradient = dot(covariance, weights)
    contribution = jnp.where(free, weights * gradient, 0)
    level = jnp.sum(contribution) / divisor(jnp.sum(free, dtype=covariance.dtype))
    level = jnp.where(level > 0, level, 1)
    # of the relative changes of the weights: W S W / lambda + I
    same = jnp.eye(len(free), dtype=bool)
    relative = covariance * weights[:, None] * weights[None, :] / level + same
    inverse = _on_face(relative, free, backend)
    return Face(
        weights=weights,
        free=free,
        full=full,
        inverse=inverse,
        level=level,
        along=jnp.where(free, gradient, 0),
        slope=jnp.zeros_like(level),
        rewarded=jnp.bool_(False),
    )


def risk_parity_near(product: Product, upper: Array, face: Face) -> Array:
    """Weights (K,) of equal risk contributions under bounds, near a solved problem.

    On the face w_i (Sw)_i = lambda, and sum w = 1; the others are at their bounds.

    Args:
        product: S times a vector (K,).
        upper: (K,) u.
        face: of the solved problem.
    """
    weights, missing = _held(upper, face)
    residual = jnp.where(face.free, 1 - weights * product(weights) / face.level, 0)
    own = jnp.where(face.free, face.weights, 0)
    step, one = dot(face.inverse, residual), dot(face.inverse, face.free.astype(upper.dtype))
    by = (missing - jnp.sum(own * step)) / divisor(jnp.sum(own * one))
    return _moved(weights, own * (step + by * one), missing, face)


def _held(upper: Array, face: Face) -> tuple[Array, Array]:
    """Weights (K,) with full entries at their bounds, and () what they lack to a sum of 1."""
    weights = jnp.where(face.free, face.weights, jnp.where(face.full, upper, 0))
    return weights, 1 - jnp.sum(weights)


def _moved(weights: Array, step: Array, missing: Array, face: Face) -> Array:
    """Weights (K,) after a step on the face; where no entry is free, what is missing goes to the full ones alike.

    No derivative exists there, unless the bounds move such that their sum stays 1.
    """
    full = face.full.astype(weights.dtype)
    evenly = full * missing / divisor(jnp.sum(full))
    return weights + jnp.where(jnp.any(face.free), step, evenly)


# ---- minimum variance of each block ----------------------------------------------------------------------------------


def block_variance_near(covariance: Array, weights: Array, labels: Array, backend: Backend) -> Callable[[Array], Array]:
    """Portfolios of minimum variance, one inside each cluster, as a function of the covariance near the solved one.

    Args:
        covariance: (N, N).
        weights: (N,) at least 0, sum 1 in each cluster that has a portfolio, 0 in the others.
        labels: (N,) int32, -1 for an asset without a cluster.
        backend: static.

    Returns:
        The function, from (N, N) to (N,).
    """
    size, free = len(weights), weights > 0
    of_asset = jnp.clip(labels, 0, size - 1)
    together = labels[:, None] == labels[None, :]
    inverse = _on_face(jnp.where(together, covariance, 0), free, backend)

    def by_cluster(values: Array) -> Array:
        return sum_by_cluster(values, labels, size, backend)[of_asset]

    def near(covariance: Array) -> Array:
        held = jnp.where(free, weights, 0)
        residual = jnp.where(free, -dot(jnp.where(together, covariance, 0), held), 0)
        one, step = dot(inverse, free.astype(weights.dtype)), dot(inverse, residual)
        missing = jnp.where(free, 1 - by_cluster(held), 0)
        return held + step + (missing - by_cluster(step)) / divisor(by_cluster(one)) * one

    return near
