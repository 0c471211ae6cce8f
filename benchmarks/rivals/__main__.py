"""Time and judge the rivals: ``python -m rivals --rivals expert plain --jobs W20 W100m`` in the folder benchmarks.

The jobs are those of throughput.py. W20, W100 and W250 need JAXALLOC_DATA, the folder of the real data. A rival starts
and compiles outside the clock; the draw of the universes is inside. Milliseconds are of one core: wall time times
workers by universes, the least and the median of the repeats. Naive JAX takes what cores XLA finds: leave the
workers at their number.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

ROWS = 252
FILE = "us_equities_returns_2007_2016.parquet"
JOBS = {"W20": 20, "W100m": 100, "W100": 100, "W250": 250}
RIVALS = {
    "expert": ("expert", "Rival", 2048, 100),
    "plain": ("expert", "Plain", 512, 100),
    "original": ("original", "Rival", 8, 8),
    "skfolio": ("libraries", "Skfolio", 8, 8),
    "riskfolio": ("libraries", "Riskfolio", 4, 4),
    "naive": ("naive", "Rival", 64, 16),
}


def load(job: str) -> np.ndarray | None:
    """Returns (252, N) of a job; None where its data is not at hand."""
    import jaxalloc as ja

    if job == "W100m":
        return ja.datasets.synthetic_market(JOBS[job], ROWS).to_numpy()
    folder = os.environ.get("JAXALLOC_DATA")
    if folder is None:
        return None
    return ja.read_returns(Path(folder) / FILE).returns.iloc[-ROWS:, : JOBS[job]].to_numpy()


def measure(name: str, panel: np.ndarray, n: int, judged: int, workers: int, repeats: int) -> dict[str, Any]:
    """Milliseconds a universe on one core and the verdict on the first ``judged`` universes."""
    from . import judge

    module, attribute, _, _ = RIVALS[name]
    rival = getattr(importlib.import_module(f"rivals.{module}"), attribute)(panel, workers)
    try:
        times = []
        for repeat in range(repeats):
            start = time.perf_counter()
            rival.run(n, repeat)
            times.append(1e3 * (time.perf_counter() - start) / n * workers)
        _, counts = rival.run(max(judged, 1), repeats, want_counts=True)
        verdict = judge.judge(panel, counts, *rival.allocate(counts)) if judged else None
    finally:
        rival.close()
    return {
        "rival": rival.name,
        "universes": n,
        "workers": workers,
        "ms_per_universe_and_core": {"min": min(times), "median": statistics.median(times)},
        "verdict": verdict and dataclasses.asdict(verdict),
    }


def main() -> None:
    """Measure and print one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rivals", nargs="+", choices=list(RIVALS), default=list(RIVALS))
    parser.add_argument("--jobs", nargs="+", choices=list(JOBS), default=list(JOBS))
    parser.add_argument("--n", type=int, help="universes a run (default: by rival)")
    parser.add_argument("--judged", type=int, help="universes judged (default: by rival)")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    for job in arguments.jobs:
        panel = load(job)
        if panel is None:
            print(json.dumps({"job": job, "skipped": "set JAXALLOC_DATA"}))
            continue
        for name in arguments.rivals:
            n = arguments.n or RIVALS[name][2]
            judged = RIVALS[name][3] if arguments.judged is None else arguments.judged
            row = measure(name, panel, n, judged, arguments.workers, arguments.repeats)
            print(json.dumps({"job": job, **row}), flush=True)


if __name__ == "__main__":
    main()
