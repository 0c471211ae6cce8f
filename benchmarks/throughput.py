"""Universes per second of allocate_batch on this machine's device, with a table of where the time goes.

The jobs: one shared panel of one year (T = 252), iid bootstrap resamples, all four profiles. W20, W100 and W250 are
real stocks (JAXALLOC_DATA), which cluster little; W100m is the embedded market at N = 100.

    JAXALLOC_DATA=folder python benchmarks/throughput.py --n 4096

prints tables and writes throughput-<device>.json and .md to benchmarks/results. Counts are drawn before the clock
starts; the first call compiles and is not counted; the median of the repeats is quoted. Run it unchanged on a GPU
machine.

A stage is a program of its own here, which goes through several tiles of the size that the engine gives it, as the
engine's do; those share work between stages, so that stages need not add up to the whole. Beside its time stand the
operations and the bytes that it cannot do without, and what the device does at its best: a large matrix product, and
passes over an array of the size of a tile's correlations.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from accuracy import draw
from panels import JOBS, RESULTS, of_job

import jaxalloc as ja
from jaxalloc.engine.scheduler import Engine
from jaxalloc.kernels.clusters import partition as clustering
from jaxalloc.kernels.lanes.compiling import compiler_options
from jaxalloc.kernels.solvers.risk_parity.log_newton import CONJUGATE_GRADIENTS
from jaxalloc.kernels.solvers.risk_parity.solve import FLOAT32_SWEEPS
from jaxalloc.portfolios import allocation, estimates


def median_seconds(call: Callable[[], Any], repeats: int) -> float:
    """Median wall time of ``call``, which must wait for its own results; one call before is not counted."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


class Work(NamedTuple):
    """What a stage asks for, for one universe: floating-point operations, and bytes that go to or from memory."""

    operations: float
    moved: float


def products(k: float, rough: float, exact: float, size: int) -> Work:
    """Products of a K x K matrix with a vector, ``rough`` ones in float32 and ``exact`` ones in numbers of ``size``."""
    return Work(2 * k * k * (rough + exact), k * k * (4 * rough + size * exact))


def of_clusters(n: int, merges: float, size: int) -> Work:
    """Pairs within the threshold, connected components, and merges in tables of 8 rows.

    As if no component were larger, and N > 32: the rounds of larger ones come on top.
    """
    words = 4 * n * -(-n // 32)  # bytes of one bit a pair; each of N steps reads and writes them
    return Work(8 * n * n + 12 * 64 * merges, n * n * size + 2 * n * words + 6 * 64 * merges * size)


def stages(returns: np.ndarray, counts: np.ndarray, repeats: int) -> dict[str, dict[str, float]]:
    """Microseconds a universe of each stage, with its share of their sum, operations and bytes."""
    engine = Engine(returns.shape, ja.AllocationConfig(), panel=returns)
    panel, config, backend = engine.shared[0].panel, engine.config, engine.backend
    (n_rows, n), size = returns.shape, engine.dtype.itemsize
    tile, few = engine.tiles.draw, engine.tiles.observe
    c = jnp.asarray(counts[: 2 * max(tile, *engine.tiles.solve.values())], engine.dtype)
    mask = jnp.ones(n, bool)
    found: dict[str, dict[str, float]] = {}

    def timed(name: str, work: Callable[[Any], Work], function: Callable, batch_size: int, *arguments: Any) -> Any:
        def through(*arguments: Any) -> Any:
            return jax.lax.map(lambda one: function(*one), arguments, batch_size=batch_size)

        compiled = jax.jit(through, compiler_options=compiler_options())
        elapsed = median_seconds(lambda: jax.block_until_ready(compiled(*arguments)), repeats)
        result = compiled(*arguments)
        found[name] = {"us": 1e6 * elapsed / len(c), **work(result)._asdict()}
        return result

    packed = n * (n + 1) / 2
    weighted = timed(
        "products",
        lambda _: Work(2 * n_rows * packed, size * (n_rows * packed / tile + packed)),
        lambda c: estimates.products_shared(panel, config, c),
        tile,
        c,
    )
    timed(
        "moments, tail gain",
        lambda _: Work(4 * n * n + 4 * n_rows * n, size * 3 * packed + 4 * n_rows * n),
        lambda c, weighted: estimates.observe_shared(panel, config, c, mask, weighted),
        few,
        c,
        weighted,
    )
    every = jax.lax.map(lambda c: estimates.estimate_shared(panel, config, c, mask, backend=backend), c, batch_size=few)
    timed(
        "clusters",
        lambda labels: of_clusters(n, n - float(jnp.mean(labels.count)), size),
        lambda s: clustering.cluster_assets(s, mask, config, backend),
        few,
        every.covariance,
    )
    bucket = next(b for b in engine.buckets if b >= int(every.n_clusters.max()))
    lanes = engine.tiles.solve[bucket]

    def of_quadratic(_: Any) -> Work:
        one = products(bucket, 22, 15, size)  # power iteration and gradient steps; about five exchanges
        return Work(2 * one.operations, 2 * one.moved)

    def of_parity(result: Any) -> Work:
        steps = np.asarray(result.iterations, float)
        sweeps = 2 * FLOAT32_SWEEPS
        # the rest, nearly all of it, are Newton steps by conjugate gradients in float32, each with one exact product
        newton = np.maximum(steps - FLOAT32_SWEEPS, 0).mean() * 2
        return products(bucket, sweeps + newton * CONJUGATE_GRADIENTS, newton, size)

    parts = (
        ("minimum variance, maximum Sharpe", ("min_variance", "max_sharpe"), of_quadratic),
        ("risk parity, barbell", ("risk_parity", "barbell"), of_parity),
    )
    for name, profiles, work in parts:
        chosen = config.replace(profiles=profiles)
        timed(name, work, lambda e, chosen=chosen: allocation.solve(e, chosen, bucket, backend), lanes, every)
    whole = sum(stage["us"] for stage in found.values())
    for stage in found.values():
        stage["share"] = stage["us"] / whole
    return found


def limits(dtype: Any, repeats: int) -> dict[str, float]:
    """What the device does at its best: operations a second in a matrix product, bytes a second in plain passes."""
    a = jnp.ones((2048, 2048), dtype)
    product = jax.jit(lambda a: jnp.matmul(a, a, precision="highest"))
    elapsed = median_seconds(lambda: product(a).block_until_ready(), repeats)
    table = jnp.ones((84, 84, 32), dtype)
    passes = jax.jit(lambda x: jax.lax.fori_loop(0, 100, lambda i, x: x * 1.0001 + 1, x))
    passed = median_seconds(lambda: passes(table).block_until_ready(), repeats)
    return {"operations": 2 * 2048**3 / elapsed, "moved": 200 * table.nbytes / passed}


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
            "limits": limits(jnp.zeros(0).dtype, repeats),
            "stages": stages(returns, counts, repeats),
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
        panel, _ = of_job(job)
        if panel is None:
            print(f"| {job} | | | no real data: set JAXALLOC_DATA | | |")
            continue
        for precision in (64, 32):
            row = measure(job, panel.to_numpy(), arguments.n, precision, arguments.repeats)
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
    out = RESULTS / f"throughput-{name}"
    found = {"machine": machine, "rows": rows}
    out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    out.with_suffix(".md").write_text(page(found), encoding="utf-8")
    print(page(found))


def page(found: dict[str, Any]) -> str:
    """The tables, as Markdown."""
    machine = found["machine"]
    where = f"{machine['device']}, {machine['cores']} cores, JAX {machine['jax']}"
    lines = ["# Where the time goes", "", f"{where}. A stage runs alone; the whole on all cores."]
    for row in found["rows"]:
        best = row["limits"]
        lines += [
            "",
            f"**{row['job']}, {row['precision']} bits**: {row['universes_per_second']:,.0f} universes/s. At its best "
            f"the device does {best['operations'] / 1e9:.0f} Gflop/s, and {best['moved'] / 1e9:.0f} GB/s.",
            "",
            "| stage | us a universe | share | Mflop | MB | Gflop/s | GB/s |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
        for name, stage in row["stages"].items():
            flop, moved, us = stage["operations"] / 1e6, stage["moved"] / 1e6, stage["us"]
            cells = (f"{us:.1f}", f"{100 * stage['share']:.0f} %", f"{flop:.2f}", f"{moved:.2f}")
            lines.append(f"| {name} | {' | '.join(cells)} | {1e3 * flop / us:.1f} | {1e3 * moved / us:.1f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
