"""Stages of the scalar kernels beside what one core of this machine can do: operations and bytes.

    JAXALLOC_DATA=folder python benchmarks/limits.py

prints tables and writes limits.json and .md to benchmarks/results. The rates of the machine are measured first, on one
core: multiply-adds in products of columns that the nearest cache holds (and in a matrix product of NumPy's BLAS, for
comparison), and bytes in copies of arrays that no cache holds. For each stage follow the operations and bytes that no
way of doing it could spare: each number that comes in is read once, and each that goes out is written once. A stage
takes at least the longer of the two times. How far it is from that is what is left to gain, at most.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before NumPy loads

import argparse
import json
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from panels import JOBS, RESULTS, of_job
from throughput import stages

from jaxalloc.cli import machine
from jaxalloc.cli.timing import RESAMPLES, SEED, allocations, engine_of
from jaxalloc.engine import scalar

_BYTES = 2**27  # of an array that no cache holds
_SIZE = 768  # of the matrices that are multiplied


class Limits(NamedTuple):
    """What one core can do in a second; ``blas`` of the operations are what NumPy's BLAS does."""

    operations: float
    bytes: float
    blas: float


class Work(NamedTuple):
    """What a stage cannot spare, for a universe."""

    operations: float
    bytes: float


def fastest(call: Callable[[], Any], repeats: int = 7) -> float:
    """Seconds of the fastest of some calls."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def products(repeats: int = 2000) -> float:
    """Operations a second of the kernel that multiplies columns, on columns that the nearest cache holds."""
    import numba

    from jaxalloc.kernels.scalar.vectors import LEFT, RIGHT, add_products, lanes

    size, rows = lanes(np.float64), 128
    z, means = np.ones((RIGHT, rows, size)), np.zeros(RIGHT * size)
    stage, scaling, keep = np.array([True, False]), np.ones(2), np.ones(RIGHT * size)
    covariance, rest = np.zeros((size, size)), np.zeros((1, LEFT, RIGHT * size))

    @numba.njit
    def multiply(z: Any, stage: Any, scaling: Any, means: Any, keep: Any, covariance: Any, rest: Any) -> None:
        for _ in range(repeats):  # each time added to the last, so that no turn can be left out
            add_products(z, 0, 0, rows, stage, scaling, means, keep, size, covariance, rest)

    taken = z, stage, scaling, means, keep, covariance, rest
    multiply(*taken)
    return 2 * LEFT * RIGHT * size * rows * repeats / fastest(lambda: multiply(*taken))


def limits() -> Limits:
    """Measure the machine, on one core in float64."""
    a = np.random.default_rng(0).normal(size=(_SIZE, _SIZE))
    out, source, target = np.empty_like(a), np.ones(_BYTES // 8), np.zeros(_BYTES // 8)
    product, copy = fastest(lambda: np.matmul(a, a, out=out)), fastest(lambda: np.copyto(target, source))
    blas = 2 * _SIZE**3 / product
    return Limits(operations=max(blas, products()), bytes=2 * _BYTES / copy, blas=blas)


def least(n_assets: int, n_rows: float, squares: float, n_profiles: int = 4) -> dict[str, Work]:
    """What the stages of a universe cannot spare.

    Args:
        n_assets: N.
        n_rows: rows of the panel that a universe holds, on average.
        squares: the mean of K^2.
        n_profiles: solved across clusters.
    """
    triangle = n_assets * (n_assets + 1) / 2
    return {
        "observe": Work(operations=2 * n_rows * triangle, bytes=8 * (n_rows * n_assets + triangle)),
        "clusters (scalar)": Work(operations=2 * triangle, bytes=8 * triangle),
        "problems across clusters (scalar)": Work(
            # S from the triangle, its correlations in both precisions, and one product with them for each profile
            operations=4 * triangle + 2 * n_profiles * squares,
            bytes=8 * triangle + 12 * squares + 8 * n_profiles * squares,
        ),
        "describe (scalar)": Work(operations=4 * n_profiles * triangle, bytes=8 * triangle),
    }


def measure(job: str, n: int, repeats: int) -> dict[str, Any]:
    """Stages of a job, and what they cannot spare."""
    panel, source = of_job(job)
    if panel is None:
        raise SystemExit(f"limits: {job} needs real data: set JAXALLOC_DATA")
    values = panel.to_numpy()
    clusters = np.concatenate([part.n_clusters for part in allocations(engine_of(values), 0, n)]).astype(float)
    rows = (RESAMPLES.counts(len(values), SEED, 0, n) > 0).sum(axis=1).mean()
    return {
        "job": job,
        "source": source,
        "assets": JOBS[job],
        "rows": float(rows),
        "clusters": float(clusters.mean()),
        "stages": stages(values, n, repeats),
        "least": {name: work._asdict() for name, work in least(JOBS[job], rows, np.mean(clusters**2)).items()},
    }


def table(row: dict[str, Any], limit: dict[str, float]) -> list[str]:
    """The lines of a job's table, as Markdown."""
    lines = [
        f"**{row['job']}**, {row['assets']} assets; on average {row['rows']:.0f} rows, {row['clusters']:.0f} clusters",
        "",
        "| stage | us a universe | Mflop at least | MB at least | us at the limit | times the limit |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, stage in row["stages"].items():
        work = row["least"].get(name)
        if work is None:
            lines.append(f"| {name} | {stage['us']:,.0f} | | | | |")
            continue
        at_limit = 1e6 * max(work["operations"] / limit["operations"], work["bytes"] / limit["bytes"])
        lines.append(
            f"| {name} | {stage['us']:,.0f} | {work['operations'] / 1e6:.1f} | {work['bytes'] / 1e6:.1f} "
            f"| {at_limit:,.0f} | {stage['us'] / at_limit:.1f} |"
        )
    return lines


def page(found: dict[str, Any]) -> str:
    """The tables, as Markdown."""
    limit = found["limits"]
    lines = [
        "# Stages beside the machine's limits",
        "",
        f"{found['machine']['processor']}, one core, float64: {limit['operations'] / 1e9:.0f} Gflop/s in products of "
        f"columns in the near cache ({limit['blas'] / 1e9:.0f} in a matrix product of NumPy's BLAS), "
        f"{limit['bytes'] / 1e9:.0f} GB/s in a copy. Made by `python benchmarks/limits.py`.",
    ]
    for row in found["rows"]:
        lines += ["", *table(row, limit)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", nargs="+", choices=list(JOBS), default=["W20", "W100", "W431", "W1000m"])
    parser.add_argument("--n", type=int, default=256, help="universes of the job of 100 assets; of more, fewer")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    if (objection := scalar.objection()) is not None:
        raise SystemExit(f"limits: there are no scalar kernels to measure: {objection}")
    with jax.enable_x64(True):
        found = {
            "machine": machine.machine(),
            "limits": limits()._asdict(),
            "rows": [
                measure(job, max(16, arguments.n * 100 // JOBS[job]), arguments.repeats) for job in arguments.jobs
            ],
        }
    (RESULTS / "limits.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (RESULTS / "limits.md").write_text(page(found), encoding="utf-8")
    print(page(found))


if __name__ == "__main__":
    main()
