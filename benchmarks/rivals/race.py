"""Pairs of runs, timed: jaxalloc, then a rival, again and again, on the same job and the same cores.

A shared machine's speed may double between one minute and the next. So each rival's run stands beside one of jaxalloc's
from the same seconds, and what is quoted is the median of the pairs' ratios, with the least and the most. Draws are
inside the clock on both sides, processes and compilers outside. Every run takes at least the time wanted; a slow rival
runs fewer universes.
"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from jaxalloc.cli import machine
from jaxalloc.cli.timing import Run, enough, time_run, time_runs, universes_for
from jaxalloc.engine.identity import available_cores
from jaxalloc.studies.compute import timestamp
from rivals import registry
from rivals.common import Array
from rivals.engine import Jaxalloc
from rivals.judge import LIMITS, Judge

FORMAT = 1  # of the document; another number where a reader of this one would err
# as pip calls them: what the sides compute with, where it is installed
PACKAGES = (*machine.PACKAGES, "numba", "daqp", "cvxpy", "clarabel", "scikit-learn", "skfolio", "riskfolio-lib")


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """What all sides do.

    Attributes:
        name: what it is called.
        source: where the panel is from.
        panel: (T, N) simple returns, complete.
        goals: by rival, the ratio wanted; a rival may have none.
        goal_rate: universes a second wanted of jaxalloc, or None.
    """

    name: str
    source: str
    panel: Array
    goals: Mapping[str, float] = dataclasses.field(default_factory=dict)
    goal_rate: float | None = None


@dataclasses.dataclass(frozen=True)
class Rules:
    """How long, and how.

    Attributes:
        pairs: runs of each side, at least 1.
        seconds: that a run takes at least.
        judged: universes that the oracle looks at; at least 1.
        precision: bits that jaxalloc computes with, and a rival that has the choice.
    """

    pairs: int = 5
    seconds: float = 1.0
    judged: int = 16
    precision: int = 64


def document(rules: Rules, left_out: Sequence[str] = ()) -> dict[str, Any]:
    """Return all that is known before the first job, as plain values: `run` gives what goes into ``jobs``.

    Args:
        rules: how the jobs will be run.
        left_out: rivals that are not, because their libraries are missing.
    """
    return {
        "format": FORMAT,
        "started": timestamp(),
        "machine": machine.machine(),
        "device": machine.devices(),
        "versions": machine.versions(PACKAGES),
        **dataclasses.asdict(rules),
        "gap_limit": LIMITS[rules.precision],
        "left_out": [
            {
                "rival": key,
                "name": registry.RIVALS[key].name,
                "missing": registry.missing_libraries(key),
                "install": registry.INSTALL,
            }
            for key in left_out
        ],
        "jobs": [],
    }


def run(job: Job, rivals: Sequence[str], rules: Rules, say: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Run a job: jaxalloc against each of the rivals.

    Args:
        job: the job.
        rivals: keys of `registry.RIVALS`; with none, jaxalloc runs alone.
        rules: how long, and how.
        say: is told what is going on, in a few words.

    Returns:
        Rates, ratios, the pairs' times and the judge's verdicts, as plain values. A rival that fails has the error in
        place of its figures.
    """
    say(f"{job.name}: jaxalloc compiles")
    ours = Jaxalloc(job.panel, rules.precision)
    say(f"{job.name}: the oracle allocates {rules.judged} universes")
    judge = Judge(job.panel, ours.counts(rules.judged))
    accuracy = judge.verdict(*ours.first(rules.judged), rules.precision)
    seeds = itertools.count(1)
    n = universes_for(ours, rules.seconds, seeds)
    rates: list[float] = []
    rows = []
    for key in rivals:
        row: dict[str, Any] = {"rival": key, "name": registry.RIVALS[key].name, "goal": job.goals.get(key)}
        try:
            row |= _against(ours, n, key, job, judge, rules, seeds, say)
            rates += row.pop("rates")
        # a rival is others' code: whatever it comes to grief over is told, and the next one has its turn
        except Exception as error:
            row["error"] = f"{type(error).__name__}: {str(error)[:200]}"
        rows.append(row)
    if not rates:
        say(f"{job.name}: jaxalloc alone")
        rates = [run.universes_per_second for run in time_runs(ours, rules.pairs, rules.seconds, seeds)]
    n_rows, n_assets = job.panel.shape
    return {
        "job": job.name,
        "source": job.source,
        "n_rows": n_rows,
        "n_assets": n_assets,
        "jaxalloc": {
            "universes_per_second": statistics.median(rates),
            "goal_universes_per_second": job.goal_rate,
            "accuracy": dataclasses.asdict(accuracy),
        },
        "rivals": rows,
    }


def _against(
    ours: Jaxalloc,
    n_ours: int,
    key: str,
    job: Job,
    judge: Judge,
    rules: Rules,
    seeds: Iterator[int],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Time and judge one rival; ``rates`` are jaxalloc's."""
    rival = registry.RIVALS[key]
    say(f"{job.name}: {rival.name} starts")
    theirs = registry.start(key, job.panel, available_cores(), rules.precision)
    try:
        n_theirs = universes_for(theirs, rules.seconds, seeds)
        pairs: list[dict[str, Any]] = []
        while len(pairs) < rules.pairs:
            say(f"{job.name}: jaxalloc and {rival.name}, pair {len(pairs) + 1} of {rules.pairs}")
            runs = time_run(ours, n_ours, seeds), time_run(theirs, n_theirs, seeds)
            if min(run.seconds for run in runs) < rules.seconds:  # the machine has become faster: more universes
                n_ours, n_theirs = enough(ours, runs[0], rules.seconds), enough(theirs, runs[1], rules.seconds)
                continue
            pairs.append(_pair(*runs))
        say(f"{job.name}: {rival.name} is judged")
        found = judge.verdict(*theirs.allocate(judge.counts), rules.precision if rival.in_precision else 64)
    finally:
        theirs.close()
    ratios = [pair["ratio"] for pair in pairs]
    return {
        "ratio": {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)},
        "universes_per_second": statistics.median(pair["rival"]["universes_per_second"] for pair in pairs),
        "jaxalloc_universes_per_second": statistics.median(p["jaxalloc"]["universes_per_second"] for p in pairs),
        "accuracy": dataclasses.asdict(found),
        "pairs": pairs,
        "rates": [pair["jaxalloc"]["universes_per_second"] for pair in pairs],
    }


def _pair(ours: Run, theirs: Run) -> dict[str, Any]:
    """One pair: universes, seconds and rate of both sides, and jaxalloc's rate over the rival's."""
    ratio = ours.universes_per_second / theirs.universes_per_second
    return {"jaxalloc": ours.record(), "rival": theirs.record(), "ratio": ratio}
