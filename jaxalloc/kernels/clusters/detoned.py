"""Correlations without the market: what is left of them once the first principal component is taken out.

Where everything moves with the market, the distances between assets hardly differ, and a tree of clusters says little.
Lopez de Prado (2020), Machine Learning for Asset Managers, section 2.6, calls it detoning. What is left has one
dimension less, so that it serves clusters, and no portfolio.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from jaxalloc.kernels.clusters.distance import inverse_volatility, likeness
from jaxalloc.kernels.lanes.precision import is_negligible
from jaxalloc.kernels.lanes.products import dot

_STEPS = 8  # of the power method between two looks at the residual
_PATIENCE = 8  # looks before the matrix is squared, which takes as long as N steps
_MOST_SQUARINGS = 12  # 8 steps then take as many as 32,768: eigenvalues that are nearer count as one
_FLOOR = 4  # units in the last place of the eigenvalue, times the root of N: a residual that is rounding
_IRREGULAR = 0.6180339887498949  # of the golden section: multiples of it repeat themselves least


class Component(NamedTuple):
    """The first principal component of a matrix: its eigenvalue () and its eigenvector (N,), of length 1."""

    value: Array
    vector: Array


def detoned(covariance: Array, active: Array) -> Array:
    """Correlations less their first principal component: C - lambda v v', C the correlations of the active assets.

    The power method finds the component, on C and, where that takes long, on its powers C^2, C^4, ... Where the two
    largest eigenvalues are equal to rounding, any vector of their plane will do.

    Args:
        covariance: (N, N), symmetric up to rounding.
        active: (N,) bool.

    Returns:
        (N, N), symmetric, not scaled: its diagonal is the share of each asset's variance that is left; 0 where an asset
        is inactive. Assets that have nothing left but rounding are the component itself: they keep their correlations
        with each other, 1 or -1, and have none with the rest.
    """
    both = active[:, None] & active[None, :]
    correlation = jnp.where(both, likeness(covariance, inverse_volatility(covariance), "correlation"), 0)
    correlation = (correlation + correlation.T) / 2
    first = first_component(correlation)
    rest = correlation - first.value * (first.vector[:, None] * first.vector[None, :])  # symmetric to the bit
    kept = ~is_negligible(jnp.diagonal(rest), jnp.diagonal(correlation))
    alike = kept[:, None] == kept[None, :]
    return jnp.where(alike, jnp.where(kept[:, None], rest, correlation), 0)


class _Search(NamedTuple):
    """Where the power method is: a power of the matrix (N, N), the component so far, and whether it goes on."""

    power: Array
    found: Component
    on: Array


def first_component(matrix: Array) -> Component:
    """The first principal component of a symmetric positive semidefinite matrix (N, N)."""
    n, dtype = matrix.shape[0], matrix.dtype
    tolerance = _FLOOR * jnp.finfo(dtype).eps * n**0.5
    # not orthogonal to a vector of equal entries, nor to one whose entries differ in sign alone
    start = 1 + (jnp.arange(n, dtype=dtype) * _IRREGULAR) % 1

    def advance(power: Array, found: Component) -> tuple[Component, Array]:
        """Some steps, and whether the residual is still larger than rounding."""

        def step(_: Array, vector: Array) -> Array:
            image = dot(power, vector)
            length = jnp.sqrt(jnp.sum(image * image))
            return jnp.where(length > 0, image / jnp.where(length > 0, length, 1), vector)

        vector = lax.fori_loop(0, _STEPS, step, found.vector)
        image = dot(matrix, vector)
        value = jnp.sum(vector * image)
        residual = jnp.sqrt(jnp.sum((image - value * vector) ** 2))
        return Component(value=value, vector=vector), residual > tolerance * value

    def look(search: _Search) -> _Search:
        found, on = advance(search.power, search.found)
        return search._replace(found=found, on=on)

    def square(search: _Search) -> _Search:
        power = dot(search.power, search.power)
        trace = jnp.trace(power)
        return look(search._replace(power=power / jnp.where(trace > 0, trace, 1)))

    trace = jnp.trace(matrix)
    vector = start / jnp.sqrt(jnp.sum(start * start))
    search = _Search(
        power=matrix / jnp.where(trace > 0, trace, 1),
        found=Component(value=jnp.zeros((), dtype), vector=vector),
        on=trace > 0,
    )
    for most, turn in ((_PATIENCE, look), (_MOST_SQUARINGS, square)):

        def more(carry: tuple[Array, _Search], most: int = most) -> Array:
            return (carry[0] < most) & carry[1].on

        def go(carry: tuple[Array, _Search], turn=turn) -> tuple[Array, _Search]:
            return carry[0] + 1, turn(carry[1])

        search = lax.while_loop(more, go, (jnp.int32(0), search))[1]
    return search.found
