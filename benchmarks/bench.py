"""jaxalloc against all its rivals on four jobs (`make bench`).

The jobs: one shared panel of one year (T = 252), iid bootstrap resamples, all four profiles. W20, W100 and W250 are
real stocks, which cluster little: the first columns of a file in the folder that JAXALLOC_DATA names. W100m is the
embedded market at N = 100, whose volatilities lie far apart.

    JAXALLOC_DATA=folder python benchmarks/bench.py --jobs W20 W100m

prints a table and writes bench.json and bench.md to benchmarks/results, after each job what there is, and the README's
table from bench.json (``--readme`` does that alone). Options beyond those here are those of `jaxalloc bench`, which
times one's own panel.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from panels import FILE, JOBS, RESULTS, ROOT, of_job

from jaxalloc.cli import own_process

if TYPE_CHECKING:
    from jaxalloc.rivals.race import Job

README = ROOT / "README.md"
MARKS = "<!-- speed: from make bench -->\n", "<!-- /speed -->"
# How many times as fast as a rival jaxalloc should be on the same cores of a CPU, in 64 bits
GOALS = {
    "W20": {"plain": 4, "original": 100, "skfolio": 250, "riskfolio": 1000},
    "W100m": {"plain": 1.8, "original": 100, "skfolio": 100, "riskfolio": 1000},
    "W100": {"plain": 1.2, "original": 50, "skfolio": 50, "riskfolio": 700},
    "W250": {"plain": 1},
}
# Universes a second on one GPU such as an H200 in 32 bits; in 64 bits a third
GPU_RATES = {"W20": 5_000_000, "W100m": 500_000, "W100": 200_000, "W250": 20_000}


def main() -> int:
    """Run the jobs; return an exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", nargs="+", choices=list(JOBS), default=list(JOBS))
    parser.add_argument("--rivals", help="names with commas between, or none (default: all that are installed)")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--judged", type=int, default=16)
    parser.add_argument("--precision", type=int, choices=(32, 64), default=64)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder (default benchmarks/results)")
    parser.add_argument("--readme", action="store_true", help="only put bench.json's figures into the README again")
    arguments = parser.parse_args()
    if arguments.readme:
        put_into_readme(json.loads((RESULTS / "bench.json").read_text(encoding="utf-8")))
        return 0
    return own_process(lambda: run(arguments))


def run(arguments: argparse.Namespace) -> int:
    """Run the jobs, print and write."""
    from jaxalloc.cli import bench, render
    from jaxalloc.cli.documents import to_json
    from jaxalloc.rivals import race, tables

    rivals, left_out = bench.choose_rivals(arguments.rivals)
    rules = race.Rules(arguments.pairs, arguments.seconds, arguments.judged, arguments.precision)
    found = race.document(rules, left_out)
    for row in found["left_out"]:
        print(f"{row['name']} left out: no {', '.join(row['missing'])}; {row['install']}", file=sys.stderr)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.jobs:
        job = load(name, found["device"]["platform"], rules.precision)
        if job is None:
            print(f"{name} skipped: set JAXALLOC_DATA to the folder of {FILE}", file=sys.stderr)
            continue
        with render.working(name, False, bench.DRAWS_A_SECOND) as say:
            found["jobs"].append(race.run(job, rivals, rules, say))
        (arguments.out / "bench.json").write_text(to_json(found), encoding="utf-8")
        (arguments.out / "bench.md").write_text(tables.markdown(found), encoding="utf-8")
        if arguments.out.resolve() == RESULTS:
            put_into_readme(json.loads((RESULTS / "bench.json").read_text(encoding="utf-8")))
    bench.print_race(found, render.stdout())
    return 0


def load(name: str, platform: str, precision: int) -> Job | None:
    """Return a job; None where its data is not at hand."""
    from jaxalloc.rivals.race import Job

    panel, source = of_job(name)
    if panel is None:
        return None
    goals = GOALS[name] if platform == "cpu" and precision == 64 else {}
    goal_rate = None if platform == "cpu" else GPU_RATES[name] / (1 if precision == 32 else 3)
    return Job(name, source, panel.to_numpy(), goals, goal_rate)


def put_into_readme(found: dict[str, Any]) -> None:
    """Replace the README's table of speed."""
    start, end = MARKS
    before, rest = README.read_text(encoding="utf-8").split(start, 1)
    after = rest.split(end, 1)[1]
    README.write_text(before + start + speed_table(found) + end + after, encoding="utf-8")


def speed_table(found: dict[str, Any]) -> str:
    """Return what the README says of the results: the machine, and a row a job with its ratio to each rival."""
    from jaxalloc.rivals.tables import rate, ratio

    machine, device = found["machine"], found["device"]
    names = {row["rival"]: row["name"] for job in found["jobs"] for row in job["rivals"]}
    headings = ["job", "assets", "jaxalloc, universes/s", *names.values()]
    lines = [headings, ["---"] * len(headings)]
    for job in found["jobs"]:
        ratios = {row["rival"]: ratio(row["ratio"])[0] for row in job["rivals"] if "ratio" in row}
        cells = [job["job"], str(job["n_assets"]), rate(job["jaxalloc"]["universes_per_second"])]
        lines.append([*cells, *(ratios.get(key, "failed") for key in names)])
    where = "" if device["platform"] == "cpu" else f", {device['count']} {device['kind']}"
    return (
        f"{machine['processor']}, {machine['cores']} cores{where}; float{found['precision']}; "
        f"jaxalloc {found['versions']['jaxalloc']}.\n\n"
        + "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
        + "\nW20, W100 and W250 are US stocks, W100m is the embedded market, which clusters more.\n"
    )


if __name__ == "__main__":
    sys.exit(main())
