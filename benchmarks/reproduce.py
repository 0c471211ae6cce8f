"""Published results beside ours (`make reproduce`): constrained risk budgeting, HRP, NCO, ten assets, known covariance.

    JAXALLOC_DATA=folder python benchmarks/reproduce.py [--jobs hrp nco]

runs the jobs named (all by default; less than an hour on two cores) and puts each, as it is finished, into
reproduce.json in benchmarks/results, and the page reproduce.md is made from that. A run that was interrupted goes on
with the job that it was at. ``--quick`` runs a little of everything, to see that it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # small matrices, and pieces side by side
os.environ.setdefault("OMP_NUM_THREADS", "1")

import jax
from panels import RESULTS
from published import bahc, hrp, known_covariance, nco, risk_budgeting, ten_assets
from published.common import Plan, table

from jaxalloc.cli import machine
from jaxalloc.engine.identity import available_cores

JOBS: dict[str, Any] = {
    "risk_budgeting": risk_budgeting,
    "hrp": hrp,
    "nco": nco,
    "ten_assets": ten_assets,
    "known_covariance": known_covariance,
    "bahc": bahc,
}


def main() -> int:
    """Run the jobs; return an exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--jobs", nargs="+", choices=list(JOBS), help="default: all, or what the last run did not get to"
    )
    parser.add_argument("--page", action="store_true", help="only write reproduce.md from reproduce.json again")
    parser.add_argument("--quick", action="store_true", help="a little of everything; wants --out")
    parser.add_argument("--workers", type=int, default=available_cores(), help="pieces side by side")
    parser.add_argument("--out", type=Path, help="folder (default benchmarks/results)")
    arguments = parser.parse_args()
    if arguments.quick and arguments.out is None:
        parser.error("--quick wants --out: its figures mean nothing, and shall not replace those of a full run")
    folder = arguments.out or RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    if arguments.page:
        path = folder / "reproduce.json"
        write(path, json.loads(path.read_text(encoding="utf-8")))
        return 0
    with jax.enable_x64(True):
        run(folder, arguments.jobs, Plan(arguments.quick, arguments.workers))
    return 0


def run(folder: Path, jobs: list[str] | None, plan: Plan) -> dict[str, Any]:
    """Run jobs, and save each one's result as it is finished.

    Args:
        folder: for reproduce.json and reproduce.md; what else reproduce.json holds stays.
        jobs: names; None for all, or for those that an interrupted run has left.
        plan: how much to run.

    Returns:
        What reproduce.json holds.
    """
    path = folder / "reproduce.json"
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"items": {}, "unfinished": []}
    left = list(jobs or results["unfinished"] or JOBS)
    while left:
        results["unfinished"] = left
        write(path, results)
        name = left[0]
        start, used = time.perf_counter(), time.process_time()
        found = JOBS[name].run(plan)
        if "skipped" in found:
            print(f"{name} skipped: {found['skipped']}", file=sys.stderr)
        else:
            found["seconds"] = time.perf_counter() - start
            found["processor_seconds"] = time.process_time() - used
            found["compared"] = [row.record() for row in found["compared"]]
            found["machine"] = machine.machine() | {"device": machine.devices()["kind"]}
            versions = machine.versions()
            found["versions"] = {
                package: versions[package] for package in ("python", "jaxalloc", "jax", "numpy", "scipy")
            }
            results["items"][name] = found
            agreeing = sum(row["agrees"] for row in found["compared"])
            print(f"{name}: {agreeing} of {len(found['compared'])} figures agree, {found['seconds']:.0f} s", flush=True)
        left = left[1:]
    results["unfinished"] = []
    write(path, results)
    return results


def write(path: Path, results: dict[str, Any]) -> None:
    """Write reproduce.json and, from it, reproduce.md; whole or not at all."""
    ordered = {name: results["items"][name] for name in JOBS if name in results["items"]}
    results["items"] = ordered
    for target, text in ((path, json.dumps(results, indent=1) + "\n"), (path.with_suffix(".md"), markdown(results))):
        fresh = target.with_name(target.name + ".new")
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(target)


def markdown(results: dict[str, Any]) -> str:
    """Return what reproduce.json says as a page: a section a result."""
    lines = ["# Published results", ""]
    wall, used = (sum(found[of] for found in results["items"].values()) / 60 for of in ("seconds", "processor_seconds"))
    lines += [
        f"Made by `make reproduce`, in float64: {wall:.0f} minutes on a machine that may have had other work, "
        f"{used:.0f} minutes of processor time of all cores together.",
        "",
    ]
    for name, found in results["items"].items():
        lines += section(JOBS[name], found)
    return "\n".join(lines)


def section(job: Any, found: dict[str, Any]) -> list[str]:
    """Return the lines of one result's section."""
    text, notes = job.words(found)
    lines = [f"## {job.TITLE}", "", f"{job.SOURCE}.", "", text, ""]
    with_errors = any(row["standard_error"] is not None for row in found["compared"])
    headings = ["", "published", "here", *(["standard error"] if with_errors else []), "agrees"]
    rows = []
    for row in found["compared"]:
        shown = [f"{row[which]:.{row['decimals']}f}" for which in ("published", "ours")]
        error = row["standard_error"]
        if with_errors:
            shown.append("" if error is None else f"{error:.2g}")
        rows.append([row["what"], *shown, RULES[row["rule"]][not row["agrees"]]])
    lines += [table(headings, rows), ""] if rows else []
    for extra in found.get("tables", []):
        lines += [f"*{extra['caption']}*", "", table(extra["headings"], extra["rows"]), ""]
    lines += [f"- {note}" for note in notes]
    checks = "; ".join(f"{what}: {worst:.1e}" for what, worst in found["oracle"].items())
    lines += [f"- Largest difference from an independent oracle: {checks}."]
    problems = ", ".join(f"{count:,} {what}" for what, count in found["problems"].items())
    where = found["machine"]
    lines += [
        f"- {problems}: {found['seconds']:.0f} s, {found['processor_seconds']:.0f} s of processor time, with "
        f"compilation ({where['processor']}, {where['cores']} cores, on "
        f"the {where['device']}; jaxalloc {found['versions']['jaxalloc']}, JAX {found['versions']['jax']}).",
        "",
    ]
    return lines


RULES = {  # of agreement: what the table says where it does, and where it does not
    "digits": ("all digits", "no"),
    "errors": ("within 3 s.e.", "no"),
    "factor 2": ("within a factor of 2", "no"),
}

if __name__ == "__main__":
    sys.exit(main())
