"""How cost and memory grow with the number of universes and of assets, and how long a first result takes.

    JAXALLOC_DATA=folder python benchmarks/growth.py [part ...]

runs the parts named (all by default; a quarter of an hour on two cores), puts each into benchmarks/results/growth.json
and makes growth.md of that. Run it unchanged on a GPU machine: its results then carry the device's name.

- universes: microseconds a universe of one full chunk, ten, and a million universes, N = 20, four profiles, float64.
- assets: the same for N from 20 to 431 of the real stocks (the embedded market where JAXALLOC_DATA is not set).
- groups: the same for the embedded market, which has a cluster for every three or four assets at any size.
- calls: microseconds a universe in a call of 100 and in one of 10,000.
- windows: the same for windows of a year out of ten years, and as often in a panel of a year.
- precision: the same in float64 and in float32.
- memory: by how much a part of a chunk makes the memory of the process grow, once its programs are there, against the
  formula of `jaxalloc.engine.shapes.chunk_bytes`; on Linux and a CPU.
- plan: seconds and memory of three studies, as docs/speed.md says to estimate them from the tables above, and as found
  in processes whose programs are on disk; on Linux and a CPU.
- start: seconds until `jaxalloc allocate` has printed its tables, with nothing compiled before and with the programs of
  an earlier process, and what `python -c "import jax, pandas"` takes of that.
"""

from __future__ import annotations

import json
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
from panels import LATE_SECONDS, RESULTS, daily, embedded
from parts import run_parts

from jaxalloc.cli.timing import allocations, engine_of
from jaxalloc.engine.batch import allocate_batch
from jaxalloc.engine.scalar import is_scalar
from jaxalloc.engine.scheduler import Engine
from jaxalloc.engine.shapes import chunk_bytes, sizes_of
from jaxalloc.kernels.lanes.backend import Backend
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

STUDY = """
import sys, time, numpy, pandas
import jaxalloc as ja

panel, began = pandas.DataFrame(numpy.load(sys.argv[1])).add_prefix("A"), time.perf_counter()
ja.run_study(panel, ja.Bootstrap(n=int(sys.argv[2])), keep="summary")
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(time.perf_counter() - began, 1024 * int(peak.split()[1]))
"""
PLANS = (("stocks", 60, 50_000), ("groups", 160, 20_000), ("groups", 600, 1_000))
START_SECONDS, START_BYTES = 2, 1.0 * 2**30


def seconds(engine: Engine, n: int) -> float:
    """Wall time of ``n`` universes, fetched to the host chunk by chunk."""
    start = time.perf_counter()
    for _ in allocations(engine, 0, n):
        pass
    return time.perf_counter() - start


def universes() -> list[dict[str, Any]]:
    """Cost a universe by their number; the machine's speed swings, so that the small runs are repeated throughout."""
    with jax.enable_x64(True):
        engine = engine_of(daily(20))
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
    return _by_assets({n_assets: daily(n_assets) for n_assets in (20, 50, 100, 150, 200, 250, 431)})


def groups() -> list[dict[str, Any]]:
    """Likewise in the embedded market."""
    return _by_assets({n_assets: embedded(n_assets).to_numpy() for n_assets in (100, 250, 1000)})


def _by_assets(panels: dict[int, np.ndarray]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    with jax.enable_x64(True):
        for n_assets, returns in panels.items():
            engine = engine_of(returns)
            n = engine.chunk_size
            seconds(engine, n)
            each = 1e6 * statistics.median(seconds(engine, n) for _ in range(3)) / n
            row: dict[str, Any] = {"assets": n_assets, "us_each": each}
            if rows:
                last = rows[-1]
                row["power"] = float(np.log(each / last["us_each"]) / np.log(n_assets / last["assets"]))
            rows.append(row)
            print(row, flush=True)
    return rows


def _us_each(returns: np.ndarray, weights: np.ndarray) -> float:
    """Microseconds a universe of a call of `allocate_batch`, compiled: the median of five calls, of more if small."""

    def timed() -> float:
        began = time.perf_counter()
        allocate_batch(returns, observation_weights=weights)
        return time.perf_counter() - began

    timed()
    repeats = max(5, 10_000 // len(weights))
    return 1e6 * statistics.median(timed() for _ in range(repeats)) / len(weights)


def calls() -> list[dict[str, Any]]:
    """Cost a universe in small and in large calls."""
    rng, rows = np.random.default_rng(0), []
    with jax.enable_x64(True):
        for n_assets in (20, 100):
            returns = daily(n_assets)
            counts = rng.multinomial(len(returns), np.full(len(returns), 1 / len(returns)), size=10_000)
            few, many = _us_each(returns, counts[:100]), _us_each(returns, counts)
            rows.append({"assets": n_assets, "us_each_of_100": few, "us_each_of_10000": many, "ratio": few / many})
    return rows


def windows() -> list[dict[str, Any]]:
    """Cost a universe of windows of a year out of ten, and of a panel of a year."""
    rows = []
    with jax.enable_x64(True):
        for n_assets in (20, 100, 431):
            returns = daily(n_assets, 2520)
            starts = np.arange(0, len(returns) - 252, 21)
            in_use = np.arange(len(returns))[None, :] - starts[:, None]
            long = _us_each(returns, ((in_use >= 0) & (in_use < 252)).astype(float))
            short = _us_each(returns[-252:], np.ones((len(starts), 252)))
            rows.append({"assets": n_assets, "windows": len(starts), "long": long, "short": short})
            rows[-1]["ratio"] = long / short
    return rows


def precision() -> list[dict[str, Any]]:
    """Cost a universe in both precisions."""
    rows = []
    for n_assets in (20, 100, 250):
        times: dict[int, list[float]] = {64: [], 32: []}
        for turn in range(4):
            for bits, found in times.items():
                with jax.enable_x64(bits == 64):
                    engine = engine_of(daily(n_assets))
                    time_taken = seconds(engine, engine.chunk_size) / engine.chunk_size
                    if turn:  # the first compiles
                        found.append(1e6 * time_taken)
        each = {bits: statistics.median(found) for bits, found in times.items()}
        rows.append({"assets": n_assets, "float64": each[64], "float32": each[32], "ratio": each[64] / each[32]})
    return rows


def _held(n_assets: int, universes: int) -> int:
    """Bytes of so many universes of a part, by the formula."""
    scalar = is_scalar(Backend.CPU)
    sizes = sizes_of((252, n_assets), "float64", scalar=scalar)
    covariances = 8 * sizes.group * sizes.assets**2 if scalar else 0
    return universes * chunk_bytes(n_assets, len(DEFAULT_PROFILES), "float64", scalar=scalar) + covariances


def memory() -> list[dict[str, Any]]:
    """Bytes of a part of a chunk: as the formula says, and as they are."""
    rows: list[dict[str, Any]] = []
    if jax.default_backend() != "cpu" or not Path("/proc/self/clear_refs").exists():
        return rows
    for n_assets in (20, 100, 250):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "panel.npy"
            np.save(file, daily(n_assets))
            command = [sys.executable, "-c", PEAK, str(file)]
            path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
            env = os.environ | {"PYTHONPATH": path}
            env |= {"JAXALLOC_PROGRAMS": str(Path(folder) / "programs")}
            said_twice = [  # the first process compiles, which takes memory of its own
                subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout for _ in range(2)
            ]
        universes, grown = map(int, said_twice[-1].split())
        said = _held(n_assets, universes)
        row = {"assets": n_assets, "universes": universes, "formula_mib": said / 2**20, "grown_mib": grown / 2**20}
        rows.append(row)
        print(row, flush=True)
    return rows


def plan() -> list[dict[str, Any]]:
    """Three studies: what the tables of this machine promise, and what they take."""
    rows: list[dict[str, Any]] = []
    results = json.loads((RESULTS / "growth.json").read_text())
    if jax.default_backend() != "cpu" or sys.platform != "linux":
        return rows
    tables = {"stocks": ("assets", daily), "groups": ("groups", lambda n: embedded(n).to_numpy())}
    for kind, n_assets, universes in PLANS:
        part, panel = tables[kind]
        known = np.log([[row["assets"], row["us_each"]] for row in results[part]]).T
        each = float(np.exp(np.interp(np.log(n_assets), *known)))
        sizes = sizes_of((252, n_assets), "float64", scalar=is_scalar(Backend.CPU))
        parts = min(4, 1 + (os.cpu_count() or 1), -(-universes // sizes.capacity))
        held = parts * _held(n_assets, sizes.capacity)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "panel.npy"
            np.save(file, panel(n_assets))
            env = os.environ | {"JAXALLOC_PROGRAMS": str(Path(folder) / "programs")}
            for number in (sizes.capacity, universes):  # the first process compiles
                command = [sys.executable, "-c", STUDY, str(file), str(number)]
                said = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout
        found, peak = map(float, said.split())
        row = {"kind": kind, "assets": n_assets, "universes": universes, "seconds": found, "gib": peak / 2**30}
        row |= {"planned_seconds": START_SECONDS + universes * each / 1e6, "planned_gib": (START_BYTES + held) / 2**30}
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
            "NUMBA_CACHE_DIR": str(Path(folder) / "numba"),
        }
        command = [sys.executable, "-m", "jaxalloc", "allocate", str(file), "--kind", "returns"]
        found = {"without_cache": timed(command, env)}
        time.sleep(LATE_SECONDS)
        found["with_cache"] = statistics.median(timed(command, env) for _ in range(3))
        imports = [sys.executable, "-c", "import jax, pandas"]
        found["imports"] = statistics.median(timed(imports, env) for _ in range(3))
    return found


def render(results: dict[str, Any]) -> str:
    """Return the Markdown of the results."""
    lines = ["# Growth", "", f"Machine: {results['machine']}. Made by `python benchmarks/growth.py`."]
    if "universes" in results:
        rows = [[f"{row['universes']:,}", f"{row['us_each']:.0f}"] for row in results["universes"]]
        lines += _table(["universes (N = 20)", "us each"], rows)
    for part, head in (("assets", "assets"), ("groups", "assets of the embedded market")):
        if part in results:
            rows = [
                [f"{row['assets']:,}", f"{row['us_each']:,.0f}", f"{row['power']:.1f}" if "power" in row else ""]
                for row in results[part]
            ]
            lines += _table([head, "us each", "power of N since the last"], rows)
    if "calls" in results:
        rows = [
            [row["assets"], f"{row['us_each_of_100']:,.0f}", f"{row['us_each_of_10000']:,.0f}", f"{row['ratio']:.1f}"]
            for row in results["calls"]
        ]
        lines += _table(["assets", "us each in a call of 100", "of 10,000", "ratio"], rows)
    if "windows" in results:
        rows = [
            [row["assets"], row["windows"], f"{row['long']:,.0f}", f"{row['short']:,.0f}", f"{row['ratio']:.1f}"]
            for row in results["windows"]
        ]
        heads = ["assets", "windows of a year", "us each, out of ten years", "out of one", "ratio"]
        lines += _table(heads, rows)
    if "precision" in results:
        rows = [
            [row["assets"], f"{row['float64']:,.0f}", f"{row['float32']:,.0f}", f"{row['ratio']:.2f}"]
            for row in results["precision"]
        ]
        lines += _table(["assets", "us each, float64", "float32", "ratio"], rows)
    if results.get("memory"):
        rows = [
            [row["assets"], f"{row['universes']:,}", f"{row['formula_mib']:.0f}", f"{row['grown_mib']:.0f}"]
            for row in results["memory"]
        ]
        lines += _table(["assets", "universes of a part", "formula (MiB)", "growth (MiB)"], rows)
    if results.get("plan"):
        rows = [
            [
                f"{row['assets']} {'stocks' if row['kind'] == 'stocks' else 'of the embedded market'}",
                *(f"{row['universes']:,}", f"{row['planned_seconds']:.0f}", f"{row['seconds']:.0f}"),
                *(f"{row['planned_gib']:.1f}", f"{row['gib']:.1f}"),
            ]
            for row in results["plan"]
        ]
        lines += _table(["assets", "universes", "seconds, planned", "found", "GiB, planned", "found"], rows)
    if "start" in results:
        s = results["start"]
        lines += [
            "",
            f"First result of `jaxalloc allocate` (20 assets): {s['without_cache']:.1f} s; with the kernels "
            f"and programs of an earlier process {s['with_cache']:.1f} s, of which importing jax and pandas takes "
            f"{s['imports']:.1f} s.",
        ]
    return "\n".join(lines) + "\n"


def _table(heads: list[str], rows: list[list[Any]]) -> list[str]:
    """An empty line, and a table in Markdown."""
    return ["", *(f"| {' | '.join(map(str, cells))} |" for cells in (heads, ["---"] * len(heads), *rows))]


def main() -> None:
    """Run the parts named on the command line."""
    parts = {
        "universes": universes,
        "assets": assets,
        "groups": groups,
        "calls": calls,
        "windows": windows,
        "precision": precision,
        "memory": memory,
        "plan": plan,
        "start": start,
    }
    device = jax.devices()[0]
    name = "growth" if device.platform == "cpu" else f"growth-{device.device_kind.lower().replace(' ', '-')}"
    run_parts(__doc__, parts, RESULTS / f"{name}.json", render)


if __name__ == "__main__":
    main()
