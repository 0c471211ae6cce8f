"""What benchmarks/ahead.py counts in compiled programs: as XLA counts it, and as loops really turn."""

from __future__ import annotations

import collections
import json
import math
from collections.abc import Callable
from typing import Any

import ahead
import hlo
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from panels import embedded

from jaxalloc.engine.making import Stage
from jaxalloc.engine.shapes import Sizes, sizes_of


def compiled(function: Callable[..., Any], *arguments: Any) -> Any:
    return jax.jit(function).lower(*arguments).compile()


@pytest.mark.parametrize(
    ("function", "sizes"),
    [
        (lambda a, b: a @ b, [(40, 60), (60, 30)]),
        (lambda a: 2 * a + 1, [(7, 11)]),
        (lambda a: a.sum(axis=0), [(8, 3)]),
        (lambda a: lax.dynamic_slice_in_dim(a, 5, 2), [(1000, 4)]),
        (lambda a, b: lax.concatenate([a, b], 0), [(3, 2), (5, 2)]),
    ],
    ids=["product", "elements", "sum", "slice", "concatenation"],
)
def test_a_kernel_moves_what_xla_says(function: Callable[..., Any], sizes: list[tuple[int, ...]]) -> None:
    made = compiled(function, *(jnp.ones(size, jnp.float32) for size in sizes))
    found, expected = hlo.starts(made.as_text()), made.cost_analysis()
    (kernel,) = found.kernels
    assert kernel.bytes == expected["bytes accessed"]
    if "flops" in expected:
        assert kernel.operations == pytest.approx(expected["flops"], rel=0.2)  # a sum of n numbers has n - 1


def test_what_changes_in_place_is_written_alone() -> None:
    text = """HloModule m

%fused (p0: f32[100,8], p1: f32[1,8], p2: s32[]) -> f32[100,8] {
  %p0 = f32[100,8]{1,0} parameter(0)
  %p1 = f32[1,8]{1,0} parameter(1)
  %p2 = s32[] parameter(2)
  %zero = s32[] constant(0)
  ROOT %put = f32[100,8]{1,0} dynamic-update-slice(%p0, %p1, %p2, /*index=3*/%zero)
}

ENTRY %main (a: f32[100,8], b: f32[1,8], c: s32[]) -> (f32[100,8]) {
  %a = f32[100,8]{1,0} parameter(0)
  %b = f32[1,8]{1,0} parameter(1)
  %c = s32[] parameter(2)
  %copy.1 = f32[100,8]{1,0} copy(%a)
  %fusion = f32[100,8]{1,0} fusion(%copy.1, %b, %c), kind=kLoop, calls=%fused, metadata={op_name="put"}
  ROOT %tuple = (f32[100,8]{1,0}) tuple(%fusion)
}
"""
    copy, put = hlo.starts(text).kernels
    assert (copy.is_copy, copy.bytes) == (True, 2 * 100 * 8 * 4)
    assert (put.is_copy, put.bytes) == (False, 4 + 2 * 8 * 4)


def test_turns_are_counted_where_they_are_taken() -> None:
    def halve(x: Any) -> Any:
        return lax.while_loop(lambda x: jnp.any(x > 1), lambda x: lax.fori_loop(0, 3, _less, x) / 2, x)

    def _less(_: Any, x: Any) -> Any:
        return x - 1e-9

    stage, x, turns = Stage(name="halve", function=jax.vmap(halve)), jnp.array([3.0, 900.0, 1.0]), collections.Counter()
    made = ahead.lowered(stage, (x,), lambda number: turns.update((number,))).compile()
    jax.block_until_ready(made(x))
    jax.effects_barrier()
    assert turns[0] == math.ceil(math.log2(900))  # as many as the slowest takes
    found = hlo.starts(ahead.lowered(stage, (x,)).compile().as_text())
    (loop,) = found.loops
    assert ahead.number_of(loop) == 0
    assert [inner.turns for inner in loop.body.loops] in ([3], [])  # XLA knows them, or has unrolled the loop
    total = ahead.counted(list(ahead.executed(found, 1, dict(turns))))
    of_body = len(loop.body.kernels) + sum(3 * len(inner.body.kernels) for inner in loop.body.loops)
    conditions = sum(4 * len(inner.condition.kernels) for inner in loop.body.loops)
    each = turns[0] * (of_body + conditions) + (turns[0] + 1) * len(loop.condition.kernels)
    assert total["kernels"] == len(found.kernels) + each
    assert total["seconds"] >= ahead.START * total["kernels"]


@pytest.mark.slow  # compiles an engine's programs anew
def test_a_group_is_counted_at_another_size(monkeypatch: pytest.MonkeyPatch) -> None:
    def with_little_memory(shape: tuple[int, int], dtype: Any, backend: Any, _: Any, **kind: bool) -> Sizes:
        return sizes_of(shape, dtype, backend, 8 * 8 * 512 * 20**2 * 4, **kind)

    monkeypatch.setattr("jaxalloc.engine.scheduler.sizes_of", with_little_memory)
    programs, small = ahead.programs_of(embedded(16, 60).to_numpy())
    assert small == 512
    assert [program.stage.name for program in programs][:3] == ["draw", "observe", "cluster"]
    sizes = {size for program in programs for size in ahead.widths(program.stage).values()}
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    for program in programs:
        assert all(share is None or 0 < share <= 1 for share in program.calls)
        stage, arguments = ahead.at_size(program, sizes, 4, place)
        one = jax.tree.leaves(jax.eval_shape(program.stage.function, *program.arguments))
        four = jax.tree.leaves(jax.eval_shape(stage.function, *arguments))
        assert [(4 * leaf.shape[0], *leaf.shape[1:]) for leaf in one] == [leaf.shape for leaf in four]


def test_tracing_leaves_loops_as_they_were() -> None:
    plain = lax.while_loop
    ahead.lowered(Stage(name="one", function=lambda x: x + 1), (1.0,))
    assert lax.while_loop is plain


def test_the_page_is_made_of_the_results_beside_it() -> None:
    file = ahead.RESULTS / "ahead.json"
    found = json.loads(file.read_text(encoding="utf-8"))
    assert file.with_suffix(".md").read_text(encoding="utf-8") == ahead.render(found)
    for row in found["rows"]:
        stages = {program["name"] for program in row["programs"]}
        assert {"draw", "observe", "cluster", "pose", "risk parity, start", "describe"} <= stages
        filled = [program["filled"] for program in row["programs"] if program["filled"] is not None]
        assert np.all((np.array(filled) > 0) & (np.array(filled) <= 1))
