"""What a GPU has to do, found without one: the engine's programs, compiled here for an H200, and counted.

    JAXALLOC_DATA=folder python benchmarks/ahead.py W20 W100m

prints the tables and writes ahead.json and .md to benchmarks/results; jobs that are not named keep their results.
XLA compiles for a GPU that is described to it (requirements-gpu.txt has what it needs), and no GPU is asked. A job's
group of universes is laid out as the engine would on an H200.

- Calls, and turns of loops: a small group is allocated on this machine's CPU by an accelerator's programs. A loop ends
  with its slowest universe, so that a larger group takes some turns more.
- Kernels and bytes: of what XLA compiles for the GPU at the GPU's sizes. See hlo.py.
- The time is an estimate: each kernel takes as long as its bytes take in a copy, and no less than a short kernel, both
  as gpu.py has measured them on an H200. What the host does between the calls is not in it.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import functools
import itertools
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import hlo
import jax
import numpy as np
from jax.experimental import topologies
from panels import JOBS, RESULTS, of_job

from jaxalloc.cli.timing import RESAMPLES, SEED
from jaxalloc.engine.calls import Calls
from jaxalloc.engine.making import Stage, key_of
from jaxalloc.engine.scheduler import Engine
from jaxalloc.engine.shapes import sizes_of
from jaxalloc.engine.stages import Items
from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.settings.config import AllocationConfig
from jaxalloc.universes.samplers import Product, steps
from jaxalloc.universes.universe import seed_key

# An H200, as its data sheet and NVIDIA's tables of compute capabilities have it
TARGET = """
gpu_device_info {
  name: "NVIDIA H200"
  cuda_compute_capability { major: 9 minor: 0 }
  core_count: 132
  fpus_per_core: 128
  clock_rate_ghz: 1.98
  memory_bandwidth: 4800000000000
  device_memory_size: 149250113536
  l2_cache_size: 52428800
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  registers_per_block_limit: 65536
  registers_per_core_limit: 65536
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 patch: 0 }
device_description_str: "NVIDIA H200"
"""
MEMORY = 139 * 2**30 * 3 // 4  # bytes that JAX takes of it by default
# of gpu-nvidia-h200.json: bytes a second that are copied, and seconds that the short kernels and copies of W20 take
COPIED, START = 4.14e12, 2e-6
SOLVERS = "mean variance", "risk parity"  # how the names of their steps begin
_SHARED = "draw", "observe"  # stages whose first argument is the same for all universes


class Program(NamedTuple):
    """A program of the small group.

    Attributes:
        stage: what it computes.
        arguments: shapes.
        compiled: for this machine.
        calls: of each call of a solver's step the share of lanes that held a problem; None of other calls.
        turns: of its loops, by number, in all calls.
    """

    stage: Stage
    arguments: tuple[Any, ...]
    compiled: Any
    calls: list[float | None]
    turns: collections.Counter[int]


def lowered(stage: Stage, arguments: tuple[Any, ...], tell: Callable[[int], None] | None = None) -> Any:
    """Trace a stage, its loops numbered in the order in which they are met; at each turn ``tell`` gets the number."""
    numbers = itertools.count()
    loops = sys.modules["jax._src.lax.control_flow.loops"]
    plain = loops.while_loop

    def numbered(more: Callable[[Any], Any], turn: Callable[[Any], Any], start: Any) -> Any:
        number = next(numbers)

        def told(state: Any) -> Any:
            if tell is not None:
                jax.debug.callback(functools.partial(tell, number))
            return turn(state)

        with jax.named_scope(f"loop-{number}"):
            return plain(more, told, start)

    jax.clear_caches()  # what was traced before has other numbers
    with contextlib.ExitStack() as patches:
        for module in (loops, jax.lax):
            module.while_loop = numbered  # type: ignore[attr-defined]
            patches.callback(setattr, module, "while_loop", plain)
        return jax.jit(stage.function, donate_argnums=stage.donate).lower(*arguments)


@contextlib.contextmanager
def recorded() -> Iterator[dict[Any, Program]]:
    """Within it the programs of an engine are compiled anew, and what they are called with is kept."""
    found: dict[Any, Program] = {}
    run, prefetch = Calls.run, Calls.prefetch

    def observed(self: Calls, stage: Stage, *arguments: Any) -> Any:
        key = key_of(stage, arguments, self._device)
        if key not in found:
            turns: collections.Counter[int] = collections.Counter()
            made = lowered(stage, arguments, lambda number: turns.update((number,))).compile()
            shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), arguments)
            found[key] = Program(stage=stage, arguments=shapes, compiled=made, calls=[], turns=turns)
        program, is_step = found[key], stage.name.startswith(SOLVERS)
        program.calls.append(float(np.asarray(arguments[0][2]).any(axis=1).mean()) if is_step else None)
        made = jax.block_until_ready(program.compiled(*arguments))
        jax.effects_barrier()
        return made

    Calls.run, Calls.prefetch = observed, lambda *arguments: None  # type: ignore[method-assign]
    try:
        yield found
    finally:
        Calls.run, Calls.prefetch = run, prefetch  # type: ignore[method-assign]


def programs_of(panel: np.ndarray) -> tuple[list[Program], int]:
    """What a small group of resamples of a panel calls, in order, and its universes."""
    draws = steps(Product((RESAMPLES,)), len(panel))
    engine = Engine(
        panel.shape,
        AllocationConfig(),
        panel=panel,
        draws=draws,
        key=seed_key(SEED),
        backend=Backend.ACCELERATOR,
    )
    with recorded() as found:
        engine.start(Items(index=np.arange(engine.sizes.group))).allocation()
    return list(found.values()), engine.sizes.group


def at_size(program: Program, sizes: set[int], ratio: int, place: Any) -> tuple[Stage, tuple[Any, ...]]:
    """The program's stage and arguments for a group that is larger by a ratio, at a place.

    Args:
        program: of the small group.
        sizes: how many universes, tables or problems its stages take.
        ratio: of the groups.
        place: a sharding.
    """

    def of(leaf: Any, own: bool) -> Any:
        several = own and bool(leaf.shape) and leaf.shape[0] in sizes
        shape = (leaf.shape[0] * ratio, *leaf.shape[1:]) if several else leaf.shape
        return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=place)

    arguments = tuple(
        jax.tree.map(functools.partial(of, own=bool(number) or program.stage.name not in _SHARED), argument)
        for number, argument in enumerate(program.arguments)
    )
    wider = {name: size * ratio for name, size in widths(program.stage).items()}
    return program.stage._replace(function=functools.partial(program.stage.function, **wider)), arguments


def widths(stage: Stage) -> dict[str, int]:
    """How many universes, tables or problems a stage computes at once, by its argument's name."""
    given = getattr(stage.function, "keywords", {})
    return {name: given[name] for name in ("few", "lanes") if name in given}


def executed(found: hlo.Starts, times: float, turns: dict[int, float]) -> Iterator[tuple[hlo.Kernel, float]]:
    """Yield all kernels that a program starts, and how often."""
    for kernel in found.kernels:
        yield kernel, times
    for loop in found.loops:
        taken = times * loop.turns if loop.turns is not None else turns[number_of(loop)]
        yield from executed(loop.body, taken, turns)
        yield from executed(loop.condition, taken + times, turns)


def number_of(loop: hlo.Loop) -> int:
    """The number of a loop that `lowered` has numbered."""
    numbers = re.findall(r"loop-(\d+)\)*/while$", loop.path)
    if not numbers:
        raise SystemExit(f"ahead: nobody has counted the turns of {loop.path}")
    return int(numbers[-1])


def counted(kernels: Sequence[tuple[hlo.Kernel, float]]) -> dict[str, float]:
    """Kernels, how many of them only copy, bytes, operations, and the seconds that they may take."""
    return {
        "kernels": sum(times for _, times in kernels),
        "copies": sum(times for kernel, times in kernels if kernel.is_copy),
        "bytes": sum(kernel.bytes * times for kernel, times in kernels),
        "operations": sum(kernel.operations * times for kernel, times in kernels),
        "seconds": sum(max(kernel.bytes / COPIED, START) * times for kernel, times in kernels),
    }


def size_of(stage: Stage, arguments: tuple[Any, ...]) -> int | None:
    """The clusters of a solver's problems, and the assets of the tables that are merged."""
    is_of_tables = stage.name.startswith((*SOLVERS, "link"))
    return jax.tree.leaves(arguments)[0].shape[1] if is_of_tables else None


def measure(program: Program, sizes: set[int], ratio: int, place: Any) -> dict[str, Any]:
    """Compile a program for the GPU, and count; the arguments are those of `at_size`."""
    stage, arguments = at_size(program, sizes, ratio, place)
    compiled = lowered(stage, arguments).compile()
    found, memory = hlo.starts(compiled.as_text()), compiled.memory_analysis()
    loops = list(hlo.all_loops(found))
    copies = collections.Counter(number_of(loop) for loop in loops if loop.turns is None)
    turns = {number: program.turns[number] / several for number, several in copies.items()}
    filled = [share for share in program.calls if share is not None]
    return {
        "name": stage.name,
        "size": size_of(stage, arguments),
        "calls": len(program.calls),
        "filled": float(np.mean(filled)) if filled else None,
        "once": counted([(kernel, 1) for kernel in found.kernels]),
        "loops": [
            {
                "path": loop.path,
                "turns": turns[number_of(loop)] if loop.turns is None else f"{loop.turns} each time",
                "turn": counted([(kernel, 1) for kernel in (*loop.body.kernels, *loop.condition.kernels)]),
            }
            for loop in loops
        ],
        "total": counted(list(executed(found, len(program.calls), turns))),
        "memory": {name: getattr(memory, f"{name}_size_in_bytes") for name in ("argument", "output", "temp")},
    }


def gpu() -> Any:
    """Where programs for the GPU belong."""
    described = topologies.get_topology_desc(platform="cuda", target_config=TARGET, topology="1x1x1")
    return jax.sharding.SingleDeviceSharding(described.devices[0])


def count_job(name: str, precision: int, place: Any) -> dict[str, Any]:
    """Count a job."""
    panel, _ = of_job(name)
    if panel is None:
        raise SystemExit(f"ahead: {name} needs real data: set JAXALLOC_DATA")
    values = panel.to_numpy()
    with jax.enable_x64(precision == 64):
        programs, small = programs_of(values)
        group = sizes_of(values.shape, programs[0].arguments[0].gaps.dtype, Backend.ACCELERATOR, MEMORY).group
        several = {size for program in programs for size in widths(program.stage).values()}
        return {
            "job": name,
            "precision": precision,
            "group": group,
            "counted": small,
            "programs": [measure(program, several, group // small, place) for program in programs],
        }


def by_stage(programs: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Programs by stage, whatever their sizes."""
    found: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)
    for program in programs:
        found[re.sub(r"face of \d+", "faces", program["name"])].append(program)
    return found


def cells(programs: list[dict[str, Any]], group: int) -> list[str]:
    """What a table says of some programs."""
    calls = sum(program["calls"] for program in programs)
    total = {key: sum(program["total"][key] for program in programs) for key in programs[0]["total"]}
    filled = [program["filled"] * program["calls"] for program in programs if program["filled"] is not None]
    turns = [loop["turn"]["kernels"] for program in programs for loop in program["loops"]]
    memory = max(sum(program["memory"].values()) for program in programs)
    return [
        f"{len(programs):,}",
        f"{calls:,}",
        f"{sum(filled) / calls:.0%}" if len(filled) == len(programs) else "",
        f"{max(program['once']['kernels'] for program in programs):,}",
        f"{max(turns):,}" if turns else "",
        f"{total['kernels']:,.0f}",
        f"{total['copies']:,.0f}",
        f"{total['bytes'] / group / 1e3:,.1f}",
        f"{memory / group / 1e3:,.1f}",
        f"{1e6 * total['seconds'] / group:.3f}",
    ]


def table(row: dict[str, Any]) -> list[str]:
    """The lines of a job's table, as Markdown."""
    group, stages = row["group"], by_stage(row["programs"])
    title = f"**{row['job']}, {row['precision']} bits**, a group of {group:,} universes"
    lines = [f"{title} (calls and turns of {row['counted']:,}):", "", *_HEADINGS]
    lines += [f"| {' | '.join([name, *cells(programs, group)])} |" for name, programs in stages.items()]
    return [*lines, f"| {' | '.join(['*all*', *cells(row['programs'], group)])} |"]


_HEADINGS = (
    "| stage | programs | calls | lanes filled | kernels outside loops | in a turn of a loop | kernels | copies "
    "| kB moved | kB of memory | µs, estimated |",
    f"|{' --- |' * 11}",
)


def render(found: dict[str, Any]) -> str:
    """The tables, as Markdown."""
    lines = [
        "# Ahead of a GPU",
        "",
        f"Compiled by JAX {found['jax']} for an NVIDIA H200, and counted; nothing of this has run on one. Kernels "
        "outside loops and in a turn are those of the program, and the loop, that has most. Bytes, memory and time are "
        "per universe.",
    ]
    for row in found["rows"]:
        lines += ["", *table(row)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Compile, count, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", nargs="*", default=["W20", "W100m", "W100", "W250", "W431"], help=", ".join(JOBS))
    parser.add_argument("--precision", type=int, choices=(32, 64), default=32)
    arguments = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")  # the compiler is there, the GPU is not
    file, place = RESULTS / "ahead.json", gpu()
    for name in arguments.jobs:
        row = count_job(name, arguments.precision, place)
        rows = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.exists() else []
        rows = [other for other in rows if (other["job"], other["precision"]) != (name, arguments.precision)]
        rows = sorted([*rows, row], key=lambda row: (row["precision"], list(JOBS).index(row["job"])))
        found = {"jax": jax.__version__, "rows": rows}
        file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        file.with_suffix(".md").write_text(render(found), encoding="utf-8")
        print("\n".join(table(row)), flush=True)


if __name__ == "__main__":
    main()
