"""What a GPU does: its limits, universes a second in both precisions, exactness, and where the time goes, in one run.

    JAXALLOC_DATA=folder python benchmarks/gpu.py --jobs W100m W20 --seconds 1

prints as it goes, and writes gpu-<device>.json and .md to benchmarks/results after each job. The jobs are those of
bench.py, whose goals for a GPU stand beside the rates. Compiled programs are kept on disk (JAXALLOC_PROGRAMS names the
folder), so that a second run compiles little. Without a GPU it runs on the CPU, for a test of itself.

- limits: a large copy, a matrix product, the start of a step in a loop, and what comes to the host: as a NumPy array,
  and by way of pinned memory.
- rate: universes a second, with all of their results brought to the host, while the device has the next chunk.
- oracle: the race's judge on the first universes.
- calls: the time of each stage's calls, each waited for, and what the host does between them: see throughput.py.
- stages: the kernels of each stage's program and their time on the device, from JAX's profiler.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from bench import load
from panels import JOBS, RESULTS
from rivals.engine import Jaxalloc
from rivals.judge import Judge
from throughput import clocked, median_seconds, stages, stages_table

import jaxalloc as ja
from jaxalloc.cli.timing import engine_of
from jaxalloc.engine.stages import Items

WHERE = "host", "device"  # where results are, of a rate; earlier versions could leave them on the device
CHUNKS = 3  # of a run, each begun before the last one is waited for
TURNS = 1000  # of a loop whose start of a step is timed


def seconds(call: Callable[[], Any]) -> float:
    """Median wall time of ``call``, which gives arrays."""
    return median_seconds(lambda: jax.block_until_ready(call()), 5)


def limits(megabytes: int) -> dict[str, float]:
    """What the device and the way to the host do at their best."""
    count = megabytes * 2**20 // 4
    line = jnp.ones(count, jnp.float32)
    scaled = jax.jit(lambda x: x * 1.0001)
    counts, products = jnp.ones((16384, 252), jnp.float32), jnp.ones((252, 5050), jnp.float32)
    product = jax.jit(lambda a, b: jnp.matmul(a, b, precision="highest"))
    table = jnp.ones((100, 16384), jnp.float32)
    step = jax.jit(lambda x, n: jax.lax.fori_loop(0, n, lambda _, x: x * 1.0001 + jnp.sum(x, axis=0), x))
    found = {
        "copy_bytes_a_second": 8 * count / seconds(lambda: scaled(line)),
        "product_operations_a_second": 2 * 16384 * 252 * 5050 / seconds(lambda: product(counts, products)),
        "loop_turn_seconds": seconds(lambda: step(table, jnp.int32(TURNS))) / TURNS,
    }
    fresh = iter([scaled(line) for _ in range(6)])  # an array keeps what has once been fetched of it
    found["host_bytes_a_second"] = 4 * count / seconds(lambda: np.asarray(next(fresh)))
    device = jax.devices()[0]
    if "pinned_host" in {memory.kind for memory in device.addressable_memories()}:
        pinned = jax.sharding.SingleDeviceSharding(device, memory_kind="pinned_host")
        fresh = iter([scaled(line) for _ in range(6)])
        found["pinned_bytes_a_second"] = 4 * count / seconds(lambda: np.asarray(jax.device_put(next(fresh), pinned)))
    return found


def compile_ahead(jobs: Sequence[str], precision: int) -> None:
    """Compile what the jobs need side by side, by a group of universes of each: one after the other takes minutes."""

    def meet(name: str) -> None:
        job = load(name, "gpu", precision)
        if job is None:
            return
        with jax.enable_x64(precision == 64):  # a thread has settings of its own
            engine = engine_of(job.panel)
            engine.start(Items(index=np.arange(engine.sizes.group))).allocation()

    with ThreadPoolExecutor() as threads:
        list(threads.map(meet, jobs))


def measure(name: str, precision: int, wanted: float, judged: int) -> tuple[Jaxalloc, dict[str, Any]] | None:
    """One job in one precision, and its engine; None where its data is not at hand."""
    job = load(name, "gpu", precision)
    if job is None:
        return None
    ours = Jaxalloc(job.panel, precision)
    engine, chunk = ours.engine, ours.quantum
    judge = Judge(job.panel, ours.counts(judged))
    verdict = judge.verdict(*ours.first(judged), precision)

    universes = CHUNKS * chunk
    times: list[float] = []
    while len(times) < 3 or sum(times) < wanted:
        start = time.perf_counter()
        for _ in ours.stream(universes, len(times) + 1):
            pass
        times.append(time.perf_counter() - start)
    with jax.enable_x64(precision == 64):
        calls = stages(job.panel, chunk, 1)
    row = {
        "job": name,
        "precision": precision,
        "goal": job.goal_rate,
        "universes_per_second": {"host": universes / statistics.median(times)},
        "compile_seconds": ours.compile_seconds,
        "chunk": chunk,
        "tile": engine.sizes.group,
        "accuracy": dataclasses.asdict(verdict),
        "calls": calls,
    }
    return ours, row


def traced(ours: Jaxalloc, tile: int) -> dict[str, Any]:
    """Profile a group of universes: kernels and microseconds a universe, by stage, and of the whole."""

    def run() -> float:
        start = time.perf_counter()
        ours.engine.start(Items(index=np.arange(tile))).allocation()
        return time.perf_counter() - start

    with clocked() as calls:
        run()
    with tempfile.TemporaryDirectory() as folder:
        jax.profiler.start_trace(folder)
        wall = run()
        jax.profiler.stop_trace()
        (file,) = Path(folder).rglob("*.xplane.pb")
        data = jax.profiler.ProfileData.from_file(str(file))
    names = {module_of(name): name for name in calls}
    found: dict[str, dict[str, float]] = collections.defaultdict(lambda: {"kernels": 0, "us": 0.0})
    streams = [
        line for plane in data.planes if "GPU" in plane.name for line in plane.lines if line.name.startswith("Stream")
    ]
    for event in (event for line in streams for event in line.events):
        stage = stage_of(event.name, str(dict(event.stats).get("hlo_module", "")), names)
        found[stage]["kernels"] += 1
        found[stage]["us"] += event.duration_ns / 1e3 / tile
    return {"wall_us": 1e6 * wall / tile, "stages": dict(sorted(found.items(), key=lambda item: -item[1]["us"]))}


def module_of(name: str) -> str:
    """What XLA calls the program of this name."""
    return "jit_" + re.sub(r"[^\w.\-]", "_", name)


def stage_of(kernel: str, module: str, names: dict[str, str]) -> str:
    """The stage that a kernel belongs to, of those whose programs have these names."""
    if kernel.lower().startswith(("memcpy", "memset")):
        return "copies"
    return names.get(module, "other")


def page(found: dict[str, Any]) -> str:
    """The tables, as Markdown."""
    best = found["limits"]
    lines = ["# On a GPU", "", f"{found['device']}, JAX {found['jax']}; {found['of']}.", ""]
    names = {
        "copy_bytes_a_second": ("a copy moves", 1e12, "TB/s"),
        "product_operations_a_second": ("a float32 product does", 1e12, "Tflop/s"),
        "loop_turn_seconds": ("a turn of a loop of two kernels takes", 1e-6, "µs"),
        "host_bytes_a_second": ("to a NumPy array come", 1e9, "GB/s"),
        "pinned_bytes_a_second": ("by way of pinned memory", 1e9, "GB/s"),
    }
    said = [f"{say} {best[key] / unit:.1f} {name}" for key, (say, unit, name) in names.items() if key in best]
    lines += [f"At its best: {', '.join(said)}.", ""]
    lines += ["| job | float | universes/s, results on the host | left on the device | goal | of it | largest gap |"]
    lines += ["| --- | --- | --- | --- | --- | --- | --- |"]
    for row in found["rows"]:
        rates = row["universes_per_second"]
        gaps = (row.get("accuracy") or {}).get("gap") or {}
        cells = [row["job"], str(row["precision"]), *(f"{rates[k]:,.0f}" if k in rates else "" for k in WHERE)]
        cells += [f"{row['goal']:,.0f}", f"{max(rates.values()) / row['goal']:.2f}"]
        cells += [f"{max(gaps.values()):.1e}" if gaps else ""]
        lines.append(f"| {' | '.join(cells)} |")
    for row in found["rows"]:
        title = f"**{row['job']}, {row['precision']} bits**"
        if row.get("calls"):
            lines += ["", f"{title}, a chunk of {row['chunk']:,} universes, each call waited for:", ""]
            lines += stages_table(row["calls"])
        if row.get("stages"):
            whole = sum(stage["us"] for stage in row["stages"].values())
            lines += ["", f"{title}, {row['tile']:,} universes together: kernels {whole:.2f} µs a universe, profiled "]
            lines[-1] += f"{row['wall_us']:.2f}."
            lines += ["", "| stage | kernels | µs a universe | share |", "| --- | --- | --- | --- |"]
            for name, stage in row["stages"].items():
                share = 100 * stage["us"] / whole
                lines.append(f"| {name} | {stage['kernels']:,} | {stage['us']:.3f} | {share:.0f} % |")
    return "\n".join(lines) + "\n"


def write(found: dict[str, Any], path: Path) -> None:
    """Write the results so far, and their page."""
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(page(found), encoding="utf-8")


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", nargs="+", choices=list(JOBS), default=["W100m", "W20", "W100", "W250"])
    parser.add_argument("--precision", nargs="+", type=int, choices=(32, 64), default=[32, 64])
    parser.add_argument("--seconds", type=float, default=1.0, help="that a rate is measured for at least (default 1)")
    parser.add_argument("--judged", type=int, default=16, help="universes that the oracle looks at (default 16)")
    parser.add_argument("--megabytes", type=int, default=256, help="of a copy (default 256)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder (default benchmarks/results)")
    arguments = parser.parse_args()
    device = jax.devices()[0]
    name = "".join(ch if ch.isalnum() else "-" for ch in device.device_kind.lower())
    found: dict[str, Any] = {
        "device": device.device_kind,
        "jax": jax.__version__,
        "of": f"jaxalloc {ja.__version__}",
        "limits": limits(arguments.megabytes),
        "rows": [],
    }
    print(found, flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / f"gpu-{name}.json"
    for precision in arguments.precision:
        compile_ahead(arguments.jobs, precision)
        for job in arguments.jobs:
            measured = measure(job, precision, arguments.seconds, arguments.judged)
            if measured is None:
                print(f"{job} skipped: set JAXALLOC_DATA", flush=True)
                continue
            ours, row = measured
            print(row, flush=True)
            found["rows"].append(row)
            write(found, path)  # before the profiler has its chance to fail
            with jax.enable_x64(precision == 64):
                row |= traced(ours, row["tile"])
            write(found, path)
    print(page(found))


if __name__ == "__main__":
    main()
