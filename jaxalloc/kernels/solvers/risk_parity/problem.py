"""The problem of risk parity with lanes, its iterates, and how far they are from the solution.

Vectors have shape (K, L), numbers (L,). Symbols are those of `jaxalloc.kernels.solvers.risk_parity`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.lanes.products import matvec, two_products
from jaxalloc.kernels.solvers.problem import Correlation
from jaxalloc.kernels.solvers.tolerances import accepted, tolerance

_MOST_NOISE = 1e-3  # an iterate that runs away is all rounding; its noise counts as no more than this


class RiskParityProblem(NamedTuple):
    """Minimise z'Cz / 2 - sum log z over 0 < z <= b s, a . z = s.

    Attributes:
        correlation: (K, K, L) C.
        normal: (K, L) a; 0 for a cluster that takes no part.
        upper: (K, L) b; 0 for a cluster that takes no part.
        member: (K, L) bool, the clusters that take part.
        rows: () int32, no cluster from this one on takes part in any lane.
    """

    correlation: Array
    normal: Array
    upper: Array
    member: Array
    rows: Array


class Iterate(NamedTuple):
    """A point on the way to the solution. `measure` fills in the last three of what it has but for ``steps``.

    Attributes:
        z: (K, L).
        s: (L,).
        ridge: (L,) what is added to C's diagonal.
        product: (K, L) C z.
        gap: (L,) how far z_i (Cz)_i = 1 and a . z = s are from holding.
        floor: (L,) how near to 0 rounding lets the gap come.
        steps: (L,) int32, sweeps and Newton steps so far.
    """

    z: Array
    s: Array
    ridge: Array
    product: Array
    gap: Array
    floor: Array
    steps: Array


def total(x: Array) -> Array:
    """Sum over the clusters."""
    return jnp.sum(x, axis=0)


def scale(risk: Correlation, upper: Array, rows: Array) -> RiskParityProblem:
    """The problem of bounds ``upper`` (K, L) on the weights, of which none from ``rows`` on is positive."""
    member = upper > 0
    return RiskParityProblem(
        correlation=risk.matrix,
        normal=jnp.where(member, 1 / risk.sigma, 0),
        upper=risk.sigma * upper,
        member=member,
        rows=rows,
    )


def equal(problem: RiskParityProblem, backend: Backend) -> Array:
    """Equal entries z (K, L), as large as the solution's are on average: there sum z_i (Cz)_i = K."""
    ones = problem.member.astype(problem.normal.dtype)
    together = total(ones * matvec(problem.correlation, ones, backend, problem.rows))
    return ones * jnp.sqrt(total(ones) / jnp.maximum(together, 1))


def iterate_at(problem: RiskParityProblem, z: Array, steps: Array) -> Iterate:
    """An iterate without bounds or ridge that is not measured yet: no other is worse."""
    s = total(problem.normal * z)
    return Iterate(
        z=z,
        s=s,
        ridge=jnp.zeros_like(s),
        product=jnp.zeros_like(z),
        gap=jnp.full_like(s, jnp.inf),
        floor=jnp.zeros_like(s),
        steps=steps,
    )


def cap(problem: RiskParityProblem, bounded: bool, s: Array) -> Array:
    """Upper bounds (K, L) of z; infinite if not ``bounded``."""
    return problem.upper * s if bounded else jnp.full_like(problem.upper, jnp.inf)


def measure(problem: RiskParityProblem, bounded: bool, iterate: Iterate, backend: Backend) -> Iterate:
    """Fill in C z, the gap, and the floor that rounding puts under the gap."""
    z = iterate.z
    product, unhedged = two_products(problem.correlation, z, z, backend, True, problem.rows)
    noise = _noise(iterate, unhedged)
    return iterate._replace(product=product, gap=_gap(problem, bounded, iterate, product, noise), floor=_largest(noise))


def noise_of(problem: RiskParityProblem, iterate: Iterate, backend: Backend) -> Array:
    """(K, L) what z_i (Cz)_i is off by rounding: much where hedges cancel, more for one cluster than for another."""
    unhedged = matvec(problem.correlation, iterate.z, backend, problem.rows, absolute=True)
    return _noise(iterate, unhedged)


def evaluate(problem: RiskParityProblem, bounded: bool, iterate: Iterate, noise: Array, backend: Backend) -> Iterate:
    """`measure` with the noise at hand."""
    product = matvec(problem.correlation, iterate.z, backend, problem.rows)
    return iterate._replace(product=product, gap=_gap(problem, bounded, iterate, product, noise), floor=_largest(noise))


def _noise(iterate: Iterate, unhedged: Array) -> Array:
    z = iterate.z
    return jnp.minimum(2 * jnp.finfo(z.dtype).eps * z * (unhedged + iterate.ridge * z), _MOST_NOISE)


def _gap(problem: RiskParityProblem, bounded: bool, iterate: Iterate, product: Array, noise: Array) -> Array:
    """The gap at a point whose C z is ``product``. An error that is no larger than its own noise counts as none."""
    z = iterate.z
    error = z * (product + iterate.ridge * z) - 1
    below = z < cap(problem, bounded, iterate.s)
    error = jnp.where(below, jnp.abs(error), error)
    gap = jnp.max(jnp.where(problem.member & ~(error <= noise), error, 0), axis=0)
    unspent = jnp.abs(total(problem.normal * z) / iterate.s - 1)
    return jnp.maximum(gap, unspent) if bounded else gap


def _largest(noise: Array) -> Array:
    return jnp.max(noise, axis=0)


def unfinished(iterate: Iterate) -> Array:
    """(L,) bool, whether the gap is neither within the tolerance nor at its floor."""
    # Errors of both signs make a gap of twice their size. One hedged cluster's floor may be far above the others', so
    # that a floor ends a search only when the accepted gap is met.
    dtype = iterate.gap.dtype
    return 2 * iterate.gap > jnp.maximum(tolerance(dtype), jnp.minimum(iterate.floor / 2, accepted(dtype)))


def contribution_spread(
    problem: RiskParityProblem, ridge: Array, upper: Array, weights: Array, backend: Backend
) -> Array:
    """(L,) max of 1 - r_i / max r over the clusters below their bound, r the risk contributions of the weights."""
    y = jnp.where(problem.member, weights / jnp.where(problem.member, problem.normal, 1), 0)
    contribution = y * (matvec(problem.correlation, y, backend, problem.rows) + ridge * y)
    largest = jnp.max(contribution, axis=0)
    lowest = jnp.min(jnp.where((upper > 0) & (weights < upper), contribution, largest), axis=0)
    return jnp.where(largest > 0, 1 - lowest / jnp.where(largest > 0, largest, 1), 0)
