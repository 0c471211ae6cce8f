"""How cost and memory grow with the number of universes and of assets, and how long a first result takes.

    JAXALLOC_DATA=folder python benchmarks/growth.py [universes] [assets] [memory] [start]

runs the parts named (all by default; ten minutes on two cores), puts each into benchmarks/results/growth.json and makes
growth.md of that. Run it unchanged on a GPU machine: its results then carry the device's name.

- universes: microseconds a universe of one full chunk, ten, and a million universes, N = 20, four profiles, float64.
- assets: the same for N from 20 to 431 of the real stocks (the embedded market where JAXALLOC_DATA is not set).
- memory: by how much a part of a chunk makes the memory of the process grow, once its programs are there, against the
  formula of `jaxalloc.engine.shapes.chunk_bytes`; on Linux and a CPU.
- start: seconds until `jaxalloc allocate` has printed its tables, with nothing compiled before and with the programs of
  an earlier process, and what `python -c "import jax, pandas"` takes of that.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from panels import RESULTS, embedded, stocks
from parts import run_parts

from jaxalloc.cli.timing import allocations, engine_of
from jaxalloc.engine.scheduler import Engine
from jaxalloc.engine.shapes import chunk_bytes
from jaxalloc.settings.config import DEFAULT_PROFILES

MILLION = 10**6
# Bytes of the process before a part, and at its peak meanwhile: of one core's, whose programs are there
PEAK = """
import sys, jax, numpy
from throughput import one_stream
from jaxalloc.cli.timing import engine_of
from jaxalloc.engine.programs import settle
from jaxalloc.engine.stages import Items

def memory(name):
    return 1024 * int(next(line for line in open("/proc/self/status") if line.startswith(name)).split()[1])

with jax.enable_x64(True), one_stream():
    engine = engine_of(numpy.load(sys.argv[1]))
    engine.start(Items(index=numpy.arange(engine.sizes.group))).allocation()
    settle()
    before = memory("VmRSS")
    open("/proc/self/clear_refs", "w").write("5")  # the peak begins anew
    part = engine.start(Items(index=numpy.arange(engine.sizes.capacity))).parts
    print(engine.sizes.capacity, memory("VmHWM") - before)
"""


def panel(n_assets: int) -> np.ndarray:
    """One year of returns (252, N)."""
    found = stocks(n_assets)
    return (embedded(n_assets) if found is None else found).to_numpy()


def seconds(engine: Engine, n: int) -> float:
    """Wall time of ``n`` universes, fetched to the host chunk by chunk."""
    start = time.perf_counter()
    for _ in allocations(engine, 0, n):
        pass
    return time.perf_counter() - start


def universes() -> list[dict[str, Any]]:
    """Cost a universe by their number; the machine's speed swings, so that the small runs are repeated throughout."""
    with jax.enable_x64(True):
        engine = engine_of(panel(20))
        seconds(engine, 2 * engine.chunk_size)
        counts = (engine.chunk_size, 10 * engine.chunk_size)
        times: dict[int, list[float]] = {n: [] for n in counts}
        for _ in range(5):
            for n in counts:
                times[n].append(seconds(engine, n))
        times[MILLION] = [seconds(engine, MILLION)]
        for _ in range(5):
            for n in counts:
                times[n].append(seconds(engine, n))
    return [{"universes": n, "us_each": 1e6 * statistics.median(found) / n} for n, found in times.items()]


def assets() -> list[dict[str, Any]]:
    """Cost a universe by the number of assets, and the power of N between neighbours."""
    rows: list[dict[str, Any]] = []
    with jax.enable_x64(True):
        for n_assets in (20, 50, 100, 150, 200, 250, 431):
            engine = engine_of(panel(n_assets))
            n = engine.chunk_size
            seconds(engine, n)
            each = 1e6 * statistics.median(seconds(engine, n) for _ in range(3)) / n
            row = {"assets": n_assets, "us_each": each}
            if rows:
                last = rows[-1]
                row["power"] = float(np.log(each / last["us_each"]) / np.log(n_assets / last["assets"]))
            rows.append(row)
            print(row, flush=True)
    return rows


def memory() -> list[dict[str, Any]]:
    """Bytes of a part of a chunk: as the formula says, and as they are."""
    rows: list[dict[str, Any]] = []
    if jax.default_backend() != "cpu" or not Path("/proc/self/clear_refs").exists():
        return rows
    for n_assets in (20, 100, 250):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "panel.npy"
            np.save(file, panel(n_assets))
            command = [sys.executable, "-c", PEAK, str(file)]
            path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
            env = os.environ | {"PYTHONPATH": path}
            env |= {"JAXALLOC_PROGRAMS": str(Path(folder) / "programs")}
            said_twice = [  # the first process compiles, which takes memory of its own
                subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout for _ in range(2)
            ]
        universes, grown = map(int, said_twice[-1].split())
        said = chunk_bytes(n_assets, len(DEFAULT_PROFILES), "float64") * universes
        row = {"assets": n_assets, "universes": universes, "formula_mib": said / 2**20, "grown_mib": grown / 2**20}
        rows.append(row)
        print(row, flush=True)
    return rows


def start() -> dict[str, float]:
    """Seconds of the command line's first result."""

    def timed(command: list[str], env: dict[str, str]) -> float:
        began = time.perf_counter()
        subprocess.run(command, env=os.environ | env, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - began

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "returns.csv"
        embedded(20).to_csv(file)
        env = {
            "JAXALLOC_PROGRAMS": str(Path(folder) / "programs"),
            "JAX_COMPILATION_CACHE_DIR": str(Path(folder) / "xla"),
        }
        command = [sys.executable, "-m", "jaxalloc", "allocate", str(file), "--kind", "returns"]
        found = {"without_cache": timed(command, env)}
        found["with_cache"] = statistics.median(timed(command, env) for _ in range(3))
        imports = [sys.executable, "-c", "import jax, pandas"]
        found["imports"] = statistics.median(timed(imports, env) for _ in range(3))
    return found


def render(results: dict[str, Any]) -> str:
    """Return the Markdown of the results."""
    lines = ["# Growth", "", f"Machine: {results['machine']}. Made by `python benchmarks/growth.py`."]
    if "universes" in results:
        lines += ["", "| universes (N = 20) | us each |", "| --- | --- |"]
        lines += [f"| {row['universes']:,} | {row['us_each']:.0f} |" for row in results["universes"]]
    if "assets" in results:
        lines += ["", "| assets | us each | power of N since the last |", "| --- | --- | --- |"]
        lines += [
            f"| {row['assets']} | {row['us_each']:,.0f} | {row.get('power', float('nan')):.1f} |".replace("nan", "")
            for row in results["assets"]
        ]
    if results.get("memory"):
        lines += ["", "| assets | universes of a part | formula (MiB) | growth (MiB) |", "| --- | --- | --- | --- |"]
        lines += [
            f"| {row['assets']} | {row['universes']:,} | {row['formula_mib']:.0f} | {row['grown_mib']:.0f} |"
            for row in results["memory"]
        ]
    if "start" in results:
        s = results["start"]
        lines += [
            "",
            f"First result of `jaxalloc allocate` (20 assets): {s['without_cache']:.1f} s; with the programs of an "
            f"earlier process {s['with_cache']:.1f} s, of which importing jax and pandas takes {s['imports']:.1f} s.",
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the parts named on the command line."""
    parts = {"universes": universes, "assets": assets, "memory": memory, "start": start}
    device = jax.devices()[0]
    name = "growth" if device.platform == "cpu" else f"growth-{device.device_kind.lower().replace(' ', '-')}"
    run_parts(__doc__, parts, RESULTS / f"{name}.json", render)


if __name__ == "__main__":
    main()
