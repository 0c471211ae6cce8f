"""Universes per second of allocate_batch on this machine's device, with a table of where the time goes.

The jobs: one shared panel of one year (T = 252), iid bootstrap resamples, all four profiles. W20, W100 and W250 are
real stocks (JAXALLOC_DATA), which cluster little; W100m is the embedded market at N = 100.

    JAXALLOC_DATA=folder python benchmarks/throughput.py --n 4096

prints a table and writes benchmarks/results/throughput-<device>.json. Counts are drawn before the clock starts; the
first call compiles and is not counted; the median of the repeats is quoted. Run it unchanged on a GPU machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from accuracy import FILE, ROOT, ROWS, draw

import jaxalloc as ja
from jaxalloc import allocation, barbell, batch, clustering, moments

JOBS = {"W20": 20, "W100m": 100, "W100": 100, "W250": 250}


def load(job: str) -> np.ndarray | None:
    """Returns (252, N) of a job; None where its real data is not at hand."""
    n_assets = JOBS[job]
    if job == "W100m":
        return ja.datasets.synthetic_market(n_assets, ROWS).to_numpy()
    folder = os.environ.get("JAXALLOC_DATA")
    if folder is None:
        return None
    return ja.read_returns(Path(folder) / FILE).returns.iloc[-ROWS:, :n_assets].to_numpy()


def median_seconds(call: Callable[[], Any], repeats: int) -> float:
    """Median wall time of ``call``, which must wait for its own results; one call before is not counted."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def stages(returns: np.ndarray, counts: np.ndarray, repeats: int) -> dict[str, float]:
    """Microseconds a universe of each stage on its own, one tile at a time; they need not add up to the whole."""
    engine = batch.Engine(returns.shape, ja.AllocationConfig(), panel=returns)
    panel, config, tile = engine.shared[0].panel, engine.config, engine.tiles.estimate
    c = jnp.asarray(counts[:tile], engine.dtype)
    mask = jnp.ones(returns.shape[1], bool)

    def timed(function: Callable, *arguments: Any) -> tuple[float, Any]:
        compiled = jax.jit(jax.vmap(function))
        seconds = median_seconds(lambda: jax.block_until_ready(compiled(*arguments)), repeats)
        return 1e6 * seconds / len(jax.tree.leaves(arguments)[0]), compiled(*arguments)

    result = {}
    result["moments"], m = timed(lambda c: moments.panel_moments(panel, c, mask), c)
    result["tail gain"], _ = timed(lambda c: barbell.panel_tail_gain(panel, c), c)
    result["clusters"], _ = timed(
        lambda s: clustering.cluster_assets(clustering.correlation_distance(s), mask, config), m.covariance
    )
    result["all of the first tile"], estimates = timed(lambda c: allocation.estimate_shared(panel, config, c, mask), c)
    size = next(b for b in engine.buckets if b >= int(estimates.n_clusters.max()))
    for name, profiles in (
        ("min_variance and max_sharpe", ("min_variance", "max_sharpe")),
        ("risk_parity and barbell", ("risk_parity", "barbell")),
        ("all profiles", config.profiles),
    ):
        chosen = config.replace(profiles=profiles)
        result[f"solve: {name}"], _ = timed(lambda e, chosen=chosen: allocation.solve(e, chosen, size), estimates)
    return result


def measure(job: str, returns: np.ndarray, n: int, precision: int, repeats: int) -> dict[str, Any]:
    """One job in one precision: universes per second, first call, K, worst gap, stages."""
    counts = draw(n)
    with jax.enable_x64(precision == 64):
        start = time.perf_counter()
        result = ja.allocate_batch(returns, None, counts)
        first = time.perf_counter() - start
        seconds = median_seconds(lambda: ja.allocate_batch(returns, None, counts), repeats)
        return {
            "job": job,
            "precision": precision,
            "universes": n,
            "universes_per_second": n / seconds,
            "first_call_seconds": first,
            "clusters": [int(np.min(result.n_clusters)), int(np.max(result.n_clusters))],
            "largest_own_gap": float(np.nanmax(result.optimality_gap)),
            "stages_us": stages(returns, counts, repeats),
        }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1024, help="universes a call (default 1024)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--jobs", nargs="+", choices=list(JOBS), default=list(JOBS))
    arguments = parser.parse_args()
    device = jax.devices()[0]
    rows = []
    print("| job | float | K | universes/s | us a universe | first call (s) |\n| --- | --- | --- | --- | --- | --- |")
    for job in arguments.jobs:
        returns = load(job)
        if returns is None:
            print(f"| {job} | | | no real data: set JAXALLOC_DATA | | |")
            continue
        for precision in (64, 32):
            row = measure(job, returns, arguments.n, precision, arguments.repeats)
            rows.append(row)
            rate, k = row["universes_per_second"], row["clusters"]
            print(
                f"| {job} | {precision} | {k[0]}-{k[1]} | {rate:,.0f} | {1e6 / rate:,.0f} | "
                f"{row['first_call_seconds']:.1f} |",
                flush=True,
            )
    machine = {
        "device": device.device_kind,
        "platform": device.platform,
        "cores": os.cpu_count(),
        "processor": platform.machine(),
        "jax": jax.__version__,
        "jaxalloc": ja.__version__,
    }
    name = "".join(ch if ch.isalnum() else "-" for ch in device.device_kind.lower())
    out = ROOT / "benchmarks" / "results" / f"throughput-{name}.json"
    out.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
    for row in rows:
        stages_us = ", ".join(f"{stage} {us:.0f}" for stage, us in row["stages_us"].items())
        print(f"{row['job']} float{row['precision']} (us a universe): {stages_us}")


if __name__ == "__main__":
    main()
