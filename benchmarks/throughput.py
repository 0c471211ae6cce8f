"""Universes per second on this machine's device, with a table of where the time goes.

The jobs: one shared panel of one year (T = 252), iid bootstrap resamples, all four profiles. W20, W100 and W250 are
real stocks (JAXALLOC_DATA), which cluster little; W100m is the embedded market at N = 100.

    JAXALLOC_DATA=folder python benchmarks/throughput.py --n 4096

prints tables and writes throughput-<device>.json and .md to benchmarks/results. Universes are drawn and allocated, and
come to the host; what compiles does so before the clock starts; the median of the repeats is quoted. Run it unchanged
on a GPU machine.

The rate is that of all cores or devices. The table of stages is of one core or device: each call of a program is waited
for before the next one starts. What is left of the whole is the host's: it sorts universes and problems, copies them
from stage to stage, and puts the results together.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from panels import JOBS, LARGE, RESULTS, of_job

import jaxalloc as ja
from jaxalloc.cli.timing import TimedEngine, allocations, engine_of
from jaxalloc.engine import scheduler
from jaxalloc.engine.calls import Calls, Stage
from jaxalloc.engine.programs import settle
from jaxalloc.engine.scalar import Scalar

# methods of `Scalar`, as the tables call them
SCALAR = {
    "draw": "draw (scalar)",
    "observe": "observe",
    "cluster": "clusters (scalar)",
    "solve_clusters": "problems across clusters (scalar)",
    "solve_assets": "problems over assets (scalar)",
    "describe": "describe (scalar)",
}
HOST = "the host, between the stages"


def median_seconds(call: Callable[[], Any], repeats: int) -> float:
    """Median wall time of ``call``, which must wait for its own results; one call before is not counted."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


@contextlib.contextmanager
def clocked() -> Iterator[dict[str, list[float]]]:
    """Within it every call of a program is waited for: the seconds of each call, by the program's or kernel's name."""
    found: dict[str, list[float]] = collections.defaultdict(list)
    run, kernels = Calls.run, {name: getattr(Scalar, name) for name in SCALAR}

    def timed(self: Calls, stage: Stage, *arguments: Any) -> Any:
        start = time.perf_counter()
        made = jax.block_until_ready(run(self, stage, *arguments))
        found[stage.name].append(time.perf_counter() - start)
        return made

    def timed_kernel(name: str) -> Callable[..., Any]:
        def compute(*arguments: Any) -> Any:
            start = time.perf_counter()
            made = kernels[name](*arguments)
            found[SCALAR[name]].append(time.perf_counter() - start)
            return made

        return compute

    Calls.run = timed  # type: ignore[method-assign]
    for name in kernels:
        setattr(Scalar, name, timed_kernel(name))
    try:
        yield found
    finally:
        Calls.run = run  # type: ignore[method-assign]
        for name, kernel in kernels.items():
            setattr(Scalar, name, kernel)


@contextlib.contextmanager
def one_stream() -> Iterator[None]:
    """An engine that is made within it computes on one core, or on one device."""
    most = scheduler._MOST_STREAMS
    scheduler._MOST_STREAMS = 1
    try:
        with jax.default_device(jax.devices()[0]):
            yield
    finally:
        scheduler._MOST_STREAMS = most


def stages(panel: np.ndarray, n: int, repeats: int) -> dict[str, dict[str, float]]:
    """Calls for ``n`` universes, microseconds a universe and share of the whole, of each stage and of the host."""
    with one_stream():
        engine = engine_of(panel)

    def run() -> float:
        start = time.perf_counter()
        for _ in allocations(engine, 0, n):
            pass
        return time.perf_counter() - start

    run()  # meets all programs
    settle()
    times: dict[str, list[float]] = collections.defaultdict(list)
    calls: dict[str, int] = {}
    for _ in range(repeats):
        with clocked() as seconds:
            whole = run()
        for name, each in seconds.items():
            times[name].append(sum(each))
            calls[name] = len(each)
        times[HOST].append(whole - sum(map(sum, seconds.values())))
    medians = {name: statistics.median(each) for name, each in times.items()}
    whole = sum(medians.values())
    return {
        name: {"calls": calls.get(name, 0), "us": 1e6 * seconds / n, "share": seconds / whole}
        for name, seconds in medians.items()
    }


def stages_table(found: dict[str, dict[str, float]]) -> list[str]:
    """The lines of a table of stages, as Markdown."""
    lines = ["| stage | calls | us a universe | share |", "| --- | --- | --- | --- |"]
    for name, stage in found.items():
        calls = f"{stage['calls']:,.0f}" if stage["calls"] else ""
        lines.append(f"| {name} | {calls} | {stage['us']:.1f} | {100 * stage['share']:.0f} % |")
    return lines


def measure(job: str, panel: np.ndarray, n: int, precision: int, repeats: int) -> dict[str, Any]:
    """One job in one precision: universes per second, K, worst gap, stages."""
    ours = TimedEngine(panel, precision)
    with jax.enable_x64(precision == 64):
        parts = list(ours.stream(n, 0))
        seconds = median_seconds(lambda: list(ours.stream(n, 0)), repeats)
        return {
            "job": job,
            "precision": precision,
            "universes": n,
            "universes_per_second": n / seconds,
            "clusters": [int(pick([pick(part.n_clusters) for part in parts])) for pick in (np.min, np.max)],
            "largest_own_gap": float(np.max([np.nanmax(part.optimality_gap) for part in parts])),
            "stages": stages(panel, n, repeats),
        }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1024, help="universes a run (default 1024)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--jobs", nargs="+", choices=list(JOBS), default=[name for name in JOBS if name not in LARGE])
    arguments = parser.parse_args()
    device = jax.devices()[0]
    rows = []
    print("| job | float | K | universes/s | us a universe |\n| --- | --- | --- | --- | --- |")
    for job in arguments.jobs:
        panel, _ = of_job(job)
        if panel is None:
            print(f"| {job} | | | no real data: set JAXALLOC_DATA | |")
            continue
        for precision in (64, 32):
            row = measure(job, panel.to_numpy(), arguments.n, precision, arguments.repeats)
            rows.append(row)
            rate, k = row["universes_per_second"], row["clusters"]
            print(f"| {job} | {precision} | {k[0]}-{k[1]} | {rate:,.0f} | {1e6 / rate:,.0f} |", flush=True)
    machine = {
        "device": device.device_kind,
        "platform": device.platform,
        "cores": os.cpu_count(),
        "processor": platform.machine(),
        "jax": jax.__version__,
        "jaxalloc": ja.__version__,
    }
    name = "".join(ch if ch.isalnum() else "-" for ch in device.device_kind.lower())
    out = RESULTS / f"throughput-{name}"
    found = {"machine": machine, "rows": rows}
    out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    out.with_suffix(".md").write_text(page(found), encoding="utf-8")
    print(page(found))


def page(found: dict[str, Any]) -> str:
    """The tables, as Markdown."""
    machine = found["machine"]
    where = f"{machine['device']}, {machine['cores']} cores, JAX {machine['jax']}"
    lines = ["# Where the time goes", "", f"{where}. The rate is of all cores, the stages are of one."]
    for row in found["rows"]:
        k = row["clusters"]
        lines += [
            "",
            f"**{row['job']}, {row['precision']} bits**, K from {k[0]} to {k[1]}: "
            f"{row['universes_per_second']:,.0f} universes/s; of {row['universes']:,} universes:",
            "",
            *stages_table(row["stages"]),
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
