"""How long the first results take, and what new shapes cost, with programs of an earlier process and without.

    JAXALLOC_DATA=folder python benchmarks/first.py [answer] [batch] [shapes] [choices]

runs the parts named (all by default; some minutes on two cores), each run in a process of its own, puts each into
benchmarks/results/first.json and makes first.md of that.

- answer: from a process's start to `allocate`'s weights of 20 and 100 stocks, beside skfolio's
  `NestedClustersOptimization`, in turns.
- batch: from a process's start to `allocate_batch` of 1,000 bootstrap resamples, four profiles, of 20, 100 and 431
  stocks.
- shapes: 200 allocations of 200 shapes, N from 5 to 64 and T from 60 to 1,500, in one process with nothing compiled:
  seconds, memory, memory maps.
- choices: programs compiled by every subset of the four profiles after one call with all; and by an expanding
  walk-forward beside a rolling one.
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

import numpy as np
from panels import LATE_SECONDS, RESULTS, daily
from parts import run_parts

REPEATS = 3

ALLOCATE = "import sys, numpy, jaxalloc; jaxalloc.allocate(numpy.load(sys.argv[1]))"
SKFOLIO = """
import sys, numpy
from skfolio.optimization import NestedClustersOptimization
NestedClustersOptimization().fit(numpy.load(sys.argv[1])).weights_
"""
BATCH = """
import sys, time, numpy, jaxalloc
panel = numpy.load(sys.argv[1])
counts = numpy.random.default_rng(0).multinomial(len(panel), numpy.full(len(panel), 1 / len(panel)), size=1000)
jaxalloc.allocate_batch(panel, observation_weights=counts)
start = time.perf_counter()
jaxalloc.allocate_batch(panel, observation_weights=counts)
print(time.perf_counter() - start)
"""
SHAPES = """
import json, sys, time, numpy, jaxalloc
from jaxalloc.engine.programs import statistics

def memory():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20

panel, rng = numpy.load(sys.argv[1]), numpy.random.default_rng(0)
shapes = set()
while len(shapes) < 200:
    shapes.add((int(rng.integers(5, 65)), int(rng.integers(60, 1501))))
before, seconds, start = memory(), [], time.perf_counter()
for n, t in sorted(shapes, key=lambda _: rng.random()):
    began = time.perf_counter()
    jaxalloc.allocate(panel[:t, rng.permutation(panel.shape[1])[:n]])
    seconds.append(time.perf_counter() - began)
found = {"seconds": time.perf_counter() - start, "median_of_second_hundred": float(numpy.median(seconds[100:]))}
found |= {"mib": memory() - before, "maps": sum(1 for _ in open("/proc/self/maps"))}
print(json.dumps(found | {"compiled": statistics().compiled, "loaded": statistics().loaded}))
"""
CHOICES = """
import itertools, json, sys, numpy, pandas, jaxalloc as ja
from jaxalloc.engine.programs import settle, statistics

def compiled(run):
    before = statistics().compiled
    run()
    settle()
    return statistics().compiled - before

panel = numpy.load(sys.argv[1])
profiles = ja.AllocationConfig().profiles
compiled(lambda: ja.allocate(panel[:252, :20]))
subsets = [names for size in range(1, 5) for names in itertools.combinations(profiles, size)]
found = {"subsets": sum(compiled(lambda: ja.allocate(panel[:252, :20], ja.AllocationConfig(profiles=names)))
                        for names in subsets)}
frame = pandas.DataFrame(panel[:252 + 21 * 99, :30], index=pandas.bdate_range("2000-01-03", periods=252 + 21 * 99))
frame.columns = [f"A{i}" for i in range(30)]
market = ja.read_returns(frame, kind="returns")
found["rolling"] = compiled(lambda: ja.walk_forward(market, window=252, step=21))
found["expanding"] = compiled(lambda: ja.walk_forward(market, window=252, step=21, expanding=True))
print(json.dumps(found))
"""


def timed(code: str, values: np.ndarray, folder: Path, name: str) -> tuple[float, str]:
    """Seconds of a process that runs some code on an array, its programs kept in the folder's ``name``; its output."""
    file = folder / "panel.npy"
    np.save(file, values)
    env = os.environ | {"JAXALLOC_PROGRAMS": str(folder / name), "JAX_ENABLE_X64": "1"}
    env["NUMBA_CACHE_DIR"] = str(folder / f"{name} of numba")
    for name_of_setting in ("JAX_COMPILATION_CACHE_DIR", "PYTHONDONTWRITEBYTECODE"):  # as a user's process has it
        env.pop(name_of_setting, None)
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(file)], env=env, check=True, capture_output=True, text=True
    )
    return time.perf_counter() - began, done.stdout


def answer() -> list[dict[str, Any]]:
    """Seconds to the first weights."""
    rows = []
    for n_assets in (20, 100):
        found: dict[str, list[float]] = {"nothing_kept": [], "kept": [], "skfolio": []}
        for _ in range(REPEATS):
            with tempfile.TemporaryDirectory() as folder:
                values = daily(n_assets, 504)
                found["skfolio"].append(timed(SKFOLIO, values, Path(folder), "none")[0])
                found["nothing_kept"].append(timed(ALLOCATE, values, Path(folder), "programs")[0])
                time.sleep(LATE_SECONDS)
                found["kept"].append(timed(ALLOCATE, values, Path(folder), "programs")[0])
        rows.append({"assets": n_assets} | {name: statistics.median(each) for name, each in found.items()})
        print(rows[-1], flush=True)
    return rows


def batch() -> list[dict[str, Any]]:
    """Seconds to the first 1,000 universes; the same again in the process is the work itself."""
    rows = []
    for n_assets in (20, 100, 431):
        found: dict[str, list[float]] = {"nothing_kept": [], "kept": [], "work": []}
        for _ in range(REPEATS if n_assets < 431 else 1):
            with tempfile.TemporaryDirectory() as folder:
                values = daily(n_assets, 252)
                found["nothing_kept"].append(timed(BATCH, values, Path(folder), "programs")[0])
                time.sleep(LATE_SECONDS)
                seconds, said = timed(BATCH, values, Path(folder), "programs")
                work = float(said)
                found["kept"].append(seconds)
                found["work"].append(work)
        # a process does the work twice
        row: dict[str, Any] = {name: statistics.median(each) for name, each in found.items()}
        row = {name: row[name] - row["work"] for name in ("nothing_kept", "kept")} | {"work": row["work"]}
        rows.append({"assets": n_assets} | row)
        print(rows[-1], flush=True)
    return rows


def shapes() -> dict[str, Any]:
    """What 200 shapes cost."""
    with tempfile.TemporaryDirectory() as folder:
        return json.loads(timed(SHAPES, daily(200, 1500), Path(folder), "programs")[1])


def choices() -> dict[str, Any]:
    """Programs compiled by other choices."""
    with tempfile.TemporaryDirectory() as folder:
        return json.loads(timed(CHOICES, daily(30, 252 + 21 * 99), Path(folder), "programs")[1])


def render(results: dict[str, Any]) -> str:
    """Return the Markdown of the results."""
    lines = ["# First results", "", f"Machine: {results['machine']}. Made by `python benchmarks/first.py`. Float64."]
    if "answer" in results:
        lines += [
            "",
            "From the start of a process to the weights of one universe (T = 504):",
            "",
            "| assets | nothing compiled before (s) | compiled by an earlier process (s) | skfolio (s) |",
            "| --- | --- | --- | --- |",
        ]
        lines += [
            f"| {row['assets']} | {row['nothing_kept']:.1f} | {row['kept']:.1f} | {row['skfolio']:.1f} |"
            for row in results["answer"]
        ]
    if "batch" in results:
        lines += [
            "",
            "From the start of a process to 1,000 bootstrap resamples at four profiles (T = 252):",
            "",
            "| assets | nothing compiled before (s) | compiled by an earlier process (s) | of which work (s) |",
            "| --- | --- | --- | --- |",
        ]
        lines += [
            f"| {row['assets']} | {row['nothing_kept']:.1f} | {row['kept']:.1f} | {row['work']:.2f} |"
            for row in results["batch"]
        ]
    if "shapes" in results:
        s = results["shapes"]
        lines += [
            "",
            f"200 allocations of 200 shapes (N from 5 to 64, T from 60 to 1,500) in one process, with nothing compiled "
            f"before, took {s['seconds']:.0f} s; each of the second hundred took "
            f"{1e3 * s['median_of_second_hundred']:.0f} ms in the median. They compiled {s['compiled']} programs, and "
            f"took {s['mib']:.0f} MiB and {s['maps']:,} memory maps.",
        ]
    if "choices" in results:
        c = results["choices"]
        lines += [
            "",
            f"After one call with all four profiles, their {2**4 - 1} subsets compiled {c['subsets']} programs. An "
            f"expanding walk-forward of 100 windows of 30 stocks compiled {c['expanding']} after a rolling one, which "
            f"compiled {c['rolling']}.",
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the parts named on the command line."""
    parts = {"answer": answer, "batch": batch, "shapes": shapes, "choices": choices}
    run_parts(__doc__, parts, RESULTS / "first.json", render)


if __name__ == "__main__":
    main()
