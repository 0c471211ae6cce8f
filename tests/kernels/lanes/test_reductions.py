"""No kernel reduces across lanes, but for the condition of a loop and the packing of items.

A reduction across lanes makes a universe wait for, or depend on, its neighbours. Kernels are traced at two numbers of
lanes: an axis whose size is another one is an axis of lanes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxalloc.engine.stages import shapes_of_estimates
from jaxalloc.kernels.lanes.adapter import lanes_last
from jaxalloc.kernels.lanes.backend import Backend, if_any
from jaxalloc.kernels.lanes.control import PACKING, while_any
from jaxalloc.kernels.lanes.products import totals
from jaxalloc.kernels.moments.panel import share_panel
from jaxalloc.portfolios.allocation import solve
from jaxalloc.portfolios.estimates import estimate_shared
from jaxalloc.portfolios.profiles import PROFILES
from jaxalloc.settings.config import AllocationConfig, cast_config

LANES = (8192, 10240)
ROWS, N = 30, 50  # so many clusters that no table holds them all

Reductions = set[tuple[str, str]]  # a primitive and where it stands


def inner_jaxprs(equation: Any) -> Iterator[tuple[str, Any]]:
    """The jaxprs that an equation holds, each with the name of its parameter."""
    for name, parameter in equation.params.items():
        for jaxpr in parameter if isinstance(parameter, (tuple, list)) else (parameter,):
            jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
            if hasattr(jaxpr, "eqns"):
                yield name, jaxpr


def reduced_axes(equation: Any) -> tuple[int, ...]:
    """Axes of its first operand that an equation reduces, or goes along."""
    name, parameters = equation.primitive.name, equation.params
    if name == "reduce_precision":
        return ()
    if name == "reduce":
        return tuple(parameters["dimensions"])
    if name.startswith(("reduce", "arg")):
        return tuple(parameters["axes"])
    if name.startswith("cum"):
        return (parameters["axis"],)
    if name in ("sort", "top_k"):
        return (parameters["dimension"] if name == "sort" else equation.invars[0].aval.ndim - 1,)
    return tuple(parameters["dimension_numbers"][0][0]) if name == "dot_general" else ()


def across_lanes(first: Any, second: Any, packing: bool = False, condition: bool = False) -> Iterator[tuple[str, str]]:
    """Forbidden reductions of a program that is traced at two numbers of lanes."""
    for one, other in zip(first.eqns, second.eqns, strict=True):
        name = one.primitive.name
        assert name == other.primitive.name
        stack = str(one.source_info.name_stack)
        packs = packing or PACKING in stack.split("/")
        shapes = one.invars[0].aval.shape if one.invars else (), other.invars[0].aval.shape if one.invars else ()
        lanes = any(shapes[0][axis] != shapes[1][axis] for axis in reduced_axes(one))
        if lanes and not packs and not (condition and name == "reduce_or"):
            yield name, stack
        for (inner, part), (_, other_part) in zip(inner_jaxprs(one), inner_jaxprs(other), strict=True):
            yield from across_lanes(part, other_part, packs, condition or (name == "while" and inner == "cond_jaxpr"))


def reductions(kernel: Callable[..., Any], arguments: Callable[[int], tuple[Any, ...]]) -> Reductions:
    """Forbidden reductions of a kernel, given its arguments for a number of lanes."""
    first, second = (jax.make_jaxpr(kernel)(*arguments(lanes)).jaxpr for lanes in LANES)
    assert len(first.eqns) > 0
    return set(across_lanes(first, second))


# in float32 the same steps, whose bits `tests/engine/test_batch.py` compares in any company
@pytest.mark.parametrize("dtype", [pytest.param(np.float32, marks=pytest.mark.slow), np.float64], indirect=True)
@pytest.mark.parametrize("backend", Backend)
def test_no_kernel_reduces_across_lanes(backend: Backend, dtype: Any) -> None:
    config = cast_config(AllocationConfig(profiles=tuple(PROFILES)), dtype)

    def estimates(lanes: int) -> tuple[Any, ...]:
        return (shapes_of_estimates(lanes, N, dtype),)

    portfolios = jax.vmap(lambda estimates: solve(estimates, config, backend))
    assert reductions(portfolios, estimates) == set()
    if dtype is np.float32:  # estimates are made by the same steps in both precisions
        return
    panel = share_panel(np.zeros((ROWS, N), dtype), 2**29)
    estimate = jax.vmap(functools.partial(estimate_shared, backend=backend), (None, None, 0, 0))

    def universes(lanes: int) -> tuple[Any, ...]:
        return panel, config, jax.ShapeDtypeStruct((lanes, ROWS), dtype), jax.ShapeDtypeStruct((lanes, N), bool)

    assert reductions(estimate, universes) == set()
    others = cast_config(AllocationConfig(criterion="silhouette", detone=True), dtype)
    assert reductions(estimate, lambda lanes: (panel, others, *universes(lanes)[2:])) == set()


def looped(x: Any) -> Any:
    """Where the body of a loop asks the other lanes."""
    return while_any(lambda turn, x: (x[0] > 0) & (turn < 3), lambda _, x: x - jnp.max(x), x)


GUILTY: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "a maximum": ("reduce_max", lambda x: x - jnp.max(x)),
    "a sum over all": ("reduce_sum", lambda x: x / jnp.sum(x)),
    "in a loop": ("reduce_max", looped),
    "two sums at once": ("reduce", lambda x: x - totals(x.T, x.T)[0][:, None]),
    "in a change": ("reduce_sum", lambda x: if_any(x[0] > 0, lambda x, _: x - jnp.sum(x, axis=-1, keepdims=True), x)),
    "in a condition": ("reduce_max", lambda x: lax.while_loop(lambda x: jnp.max(x) > 0, lambda x: x - 1, x)),
    "any, outside of a condition": ("reduce_or", lambda x: jnp.where(jnp.any(x > 0), x, 0)),
    "a running sum": ("cumsum", lambda x: jnp.cumsum(x, axis=1)),
    "an order": ("sort", lambda x: jnp.sort(x, axis=1)),
    "the first of all": ("argmin", lambda x: x + jnp.argmin(x, axis=1)[:, None]),
    "a product": ("dot_general", lambda x: jnp.matmul(x, x.T, precision="highest") @ x),
}


@pytest.mark.parametrize("name", GUILTY)
def test_a_reduction_across_lanes_would_be_seen(name: str) -> None:
    primitive, kernel = GUILTY[name]
    found = reductions(jax.vmap(lanes_last(kernel)), lambda lanes: (jax.ShapeDtypeStruct((lanes, 3), np.float32),))
    assert primitive in {seen for seen, _ in found}


def test_reductions_within_a_universe_are_none_across_lanes() -> None:
    def innocent(x: Any) -> Any:
        return while_any(lambda turn, x: (jnp.max(x, axis=0) > 0) & (turn < 3), lambda _, x: x - jnp.sum(x, axis=0), x)

    assert (
        reductions(jax.vmap(lanes_last(innocent)), lambda lanes: (jax.ShapeDtypeStruct((lanes, 3), np.float32),))
        == set()
    )
