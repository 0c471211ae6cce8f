"""jaxalloc against all its rivals: on seven jobs (`make bench`), or on a panel of one's own.

The jobs: one shared panel of one year (T = 252), iid bootstrap resamples, all four profiles. W20, W100, W250 and W431
are real stocks, which cluster little: the first columns of a file in the folder that JAXALLOC_DATA names. W100m and
W1000m are the embedded market, whose volatilities lie far apart; W1000s are single assets, which share one factor. In
the three largest jobs only the expert's loops race: the others take up to minutes a universe.

    JAXALLOC_DATA=folder python benchmarks/bench.py --jobs W20 W100m

prints a table and writes bench.json and bench.md to benchmarks/results, after each job what there is, and the README's
table from bench.json (``--readme`` does that alone). Jobs that are not run keep their figures, if they are of the same
machine and precision.

    python benchmarks/bench.py prices.csv --n-assets 50 --rivals original,naive

races on the panel of a file, prints, and writes only where ``--out`` says so. ``pip install -r
benchmarks/requirements.txt`` brings the rivals' libraries; without some of them the other rivals race.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from panels import FILE, JOBS, LARGE, RESULTS, ROOT, of_job

from jaxalloc.cli import own_process

if TYPE_CHECKING:
    from rivals.race import Job, Rules

README = ROOT / "README.md"
MARKS = "<!-- speed: from make bench -->\n", "<!-- /speed -->"
# How many times as fast as a rival jaxalloc should be on the same cores of a CPU, in 64 bits
GOALS = {
    "W20": {"expert": 4, "original": 100, "skfolio": 250, "riskfolio": 1000},
    "W100m": {"expert": 1.5, "original": 100, "skfolio": 100, "riskfolio": 1000},
    "W100": {"expert": 1.2, "original": 50, "skfolio": 50, "riskfolio": 700},
    "W250": {"expert": 1},
    "W431": {"expert": 1},
    "W1000m": {"expert": 1},
    "W1000s": {"expert": 1},
}
LARGE_RIVALS, LARGE_JUDGED = ("plain", "expert"), 4  # who races at large jobs, and universes that the oracle looks at
# Universes a second on one GPU such as an H200 in 32 bits; in 64 bits a third
GPU_RATES = {"W20": 5_000_000, "W100m": 500_000, "W100": 200_000, "W250": 20_000, "W431": 5_000}


def main(words: Sequence[str] | None = None) -> int:
    """Run the race that the command line asks for; return an exit status."""
    return own_process(lambda: run(sys.argv[1:] if words is None else words))


def run(words: Sequence[str]) -> int:
    """Read the command line, race, print and write.

    Raises:
        InputError: the file or an option is at fault.
    """
    from rivals import race, registry, tables

    from jaxalloc.cli import render
    from jaxalloc.cli.documents import to_json

    arguments = _parser().parse_args(words)
    if arguments.readme:
        put_into_readme(json.loads((RESULTS / "bench.json").read_text(encoding="utf-8")))
        return 0
    rivals, left_out = registry.choose(arguments.rivals)
    jobs = _jobs(arguments)
    rules = race.Rules(
        pairs=arguments.pairs, seconds=arguments.seconds, judged=arguments.judged, precision=arguments.precision
    )
    found = race.document(rules, left_out)
    render.say_notes([f"Left {registry.left_out_note(key)}; {registry.INSTALL}." for key in left_out], arguments.quiet)
    out = arguments.out or (None if arguments.file else RESULTS)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    kept = _kept(out, found, [job.name for job in jobs])
    for job in jobs:
        with render.working(job.name, arguments.quiet, rate=1.0) as say:
            race_of = (rivals, rules) if job.name not in LARGE else _of_large(rivals, rules)
            kept[job.name] = race.run(job, *race_of, say)
        found["jobs"] = [kept[name] for name in dict.fromkeys((*JOBS, *kept)) if name in kept]
        if out is not None:
            (out / "bench.json").write_text(to_json(found), encoding="utf-8")
            (out / "bench.md").write_text(tables.markdown(found), encoding="utf-8")
        if out is not None and out.resolve() == RESULTS and not arguments.file:
            put_into_readme(json.loads((RESULTS / "bench.json").read_text(encoding="utf-8")))
    if arguments.json:
        print(to_json(found), end="")
    else:
        tables.print_race(found, render.stdout())
    return 0


def _kept(out: Path | None, found: dict[str, Any], running: Sequence[str]) -> dict[str, Any]:
    """The jobs that are not run, by name, as an earlier run on such a machine left them."""
    if out is None or out.resolve() != RESULTS or not (out / "bench.json").exists():
        return {}
    earlier = json.loads((out / "bench.json").read_text(encoding="utf-8"))
    if any(earlier[name] != found[name] for name in ("format", "machine", "device", "precision")):
        return {}
    return {job["job"]: job for job in earlier["jobs"] if job["job"] not in running}


def _of_large(rivals: Sequence[str], rules: Rules) -> tuple[Sequence[str], Rules]:
    """Who races at a large job, and how."""
    racing = [key for key in rivals if key in LARGE_RIVALS]
    return racing, dataclasses.replace(rules, judged=min(rules.judged, LARGE_JUDGED))


def _parser() -> argparse.ArgumentParser:
    from rivals.registry import RIVALS

    from jaxalloc.cli.options import Reading
    from jaxalloc.markets.gaps import Missing
    from jaxalloc.markets.kinds import Kind
    from jaxalloc.markets.table import Layout

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, nargs="?", metavar="FILE", help="file of prices or returns to race on")
    reading = Reading()
    for name, choices in (("kind", Kind), ("missing", Missing), ("layout", Layout)):
        parser.add_argument(f"--{name}", choices=get_args(choices), default=getattr(reading, name), help="of FILE")
    parser.add_argument("--missing-tolerance", type=float, default=reading.missing_tolerance, help="of FILE")
    parser.add_argument("--n-assets", type=int, help="race on the first assets of FILE")
    parser.add_argument("--rows", type=int, help="race on the last rows of FILE (default 252)")
    parser.add_argument("--jobs", nargs="+", choices=list(JOBS), default=list(JOBS), help="without FILE")
    names = "; ".join(f"{key}: {rival.about}" for key, rival in RIVALS.items())
    parser.add_argument("--rivals", help=f"names with commas between, or none (default: all installed). {names}")
    parser.add_argument("--pairs", type=int, default=5, help="runs of each side")
    parser.add_argument("--seconds", type=float, default=1.0, help="shortest time of a run")
    parser.add_argument("--judged", type=int, default=16, help="universes whose weights the oracle judges")
    parser.add_argument("--precision", type=int, choices=(32, 64), default=64)
    parser.add_argument("--out", type=Path, help="folder (default benchmarks/results; of FILE: nothing is written)")
    parser.add_argument("--json", action="store_true", help="print one JSON document in place of tables")
    parser.add_argument("--quiet", action="store_true", help="no notes and no progress on stderr")
    parser.add_argument("--readme", action="store_true", help="only put bench.json's figures into the README again")
    return parser


def _jobs(arguments: argparse.Namespace) -> list[Job]:
    """The race of a file, or the jobs named whose data is at hand."""
    from rivals.race import Job

    from jaxalloc.arguments.errors import InputError
    from jaxalloc.cli.bench import FEWEST_ROWS, MOST_ROWS, market
    from jaxalloc.cli.machine import devices
    from jaxalloc.cli.options import Reading
    from jaxalloc.cli.render import say_notes

    for flag, value, least, most in (
        ("--pairs", arguments.pairs, 1, 10**6),
        ("--judged", arguments.judged, 1, 10**6),
        ("--seconds", arguments.seconds, 0, 3600),
        ("--n-assets", arguments.n_assets, 2, 10**6),
        ("--rows", arguments.rows, FEWEST_ROWS, MOST_ROWS),
    ):
        if value is not None and not least <= value <= most:
            raise InputError(f"{flag} must be from {least:,} to {most:,}, not {value}")
    if arguments.file is None:
        if arguments.n_assets is not None or arguments.rows is not None:
            raise InputError("--n-assets and --rows are about a file: give FILE, or --jobs")
        jobs = {name: load(name, devices()["platform"], arguments.precision) for name in arguments.jobs}
        for name in (name for name, job in jobs.items() if job is None):
            print(f"{name} skipped: set JAXALLOC_DATA to the folder of {FILE}", file=sys.stderr)
        return [job for job in jobs.values() if job is not None]
    reading = Reading(
        kind=arguments.kind,
        missing=arguments.missing,
        missing_tolerance=arguments.missing_tolerance,
        layout=arguments.layout,
    )
    source, panel = market(arguments.file, reading, arguments.n_assets, arguments.rows)
    say_notes(panel.notes, arguments.quiet)
    return [Job(name="panel", source=source, panel=panel.values)]


def load(name: str, platform: str, precision: int) -> Job | None:
    """Return a job; None where its data is not at hand."""
    from rivals.race import Job

    panel, source = of_job(name)
    if panel is None:
        return None
    goals = GOALS[name] if platform == "cpu" and precision == 64 else {}
    rate = None if platform == "cpu" else GPU_RATES.get(name)
    goal_rate = None if rate is None else rate / (1 if precision == 32 else 3)
    return Job(name=name, source=source, panel=panel.to_numpy(), goals=goals, goal_rate=goal_rate)


def put_into_readme(found: dict[str, Any]) -> None:
    """Replace the README's table of speed."""
    start, end = MARKS
    before, rest = README.read_text(encoding="utf-8").split(start, 1)
    after = rest.split(end, 1)[1]
    README.write_text(before + start + speed_table(found) + end + after, encoding="utf-8")


def speed_table(found: dict[str, Any]) -> str:
    """Return what the README says of the results: the machine, and a row a job with its ratio to each rival."""
    from rivals.tables import ratio

    from jaxalloc.cli.render_bench import rate

    machine, device = found["machine"], found["device"]
    names = {row["rival"]: row["name"] for job in found["jobs"] for row in job["rivals"]}
    headings = ["job", "assets", "jaxalloc, universes/s", *names.values()]
    lines = [headings, ["---"] * len(headings)]
    for job in found["jobs"]:
        ratios = {row["rival"]: ratio(row["ratio"])[0] if "ratio" in row else "failed" for row in job["rivals"]}
        cells = [job["job"], str(job["n_assets"]), rate(job["jaxalloc"]["universes_per_second"])]
        lines.append([*cells, *(ratios.get(key, "") for key in names)])
    where = "" if device["platform"] == "cpu" else f", {device['count']} {device['kind']}"
    return (
        f"{machine['processor']}, {machine['cores']} cores{where}; float{found['precision']}; "
        f"jaxalloc {found['versions']['jaxalloc']}.\n\n"
        + "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
        + "\nW20 to W431 are US stocks, the jobs in m are the embedded market, which clusters more, and W1000s are "
        "single assets that share one factor. Rivals that take minutes for one large universe are left out there.\n"
    )


if __name__ == "__main__":
    sys.exit(main())
