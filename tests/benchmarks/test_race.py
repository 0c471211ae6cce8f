"""How runs are laid out and paired, on sides that only wait on a clock of the test's own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import oracles
import pytest
from rivals import race, registry, tables
from rivals.common import PROFILES, draw
from rivals.judge import Judge

import jaxalloc as ja
from jaxalloc.cli import timing


class Clock:
    """Seconds that pass only while a side runs; a run takes half as long from the ``fast``-th on."""

    def __init__(self, fast: int = 10**9) -> None:
        self.now, self.runs, self.fast = 0.0, 0, fast

    def perf_counter(self) -> float:
        return self.now


class Waiting:
    """A side that takes the same time for every universe."""

    def __init__(self, clock: Clock, rate: float, quantum: int) -> None:
        self.clock, self.rate, self.quantum = clock, rate, quantum
        self.seeds: list[int] = []
        self.closed = False

    def stream(self, n: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        self.seeds.append(seed)
        self.clock.runs += 1
        self.clock.now += n / self.rate / (2 if self.clock.runs >= self.clock.fast else 1)
        yield np.zeros((n, 4, 2)), np.zeros((n, 4, 2), int)

    def counts(self, n: int) -> np.ndarray:
        return draw(n, 60, 0, 0)

    def first(self, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.allocate(self.counts(n))

    def allocate(self, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        n = len(counts)
        return np.full((n, 4, 6), np.nan), np.zeros((n, 6), int), np.zeros((n, 4, 6), int)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def panel() -> np.ndarray:
    return ja.datasets.synthetic_market(6, 60).to_numpy()


def run(monkeypatch: pytest.MonkeyPatch, panel: np.ndarray, clock: Clock, **goals: float) -> tuple[dict, list[Waiting]]:
    ours, theirs = Waiting(clock, 1000, 64), Waiting(clock, 20, 2)
    monkeypatch.setattr(timing, "time", clock)
    monkeypatch.setattr(race, "Jaxalloc", lambda *_: ours)
    monkeypatch.setattr(registry, "start", lambda *_: theirs)
    found = race.run(race.Job("job", "test", panel, goals), ["original"], race.Rules(3, 1.0, 2))
    return found, [ours, theirs]


def test_runs_take_the_time_wanted_and_the_ratio_is_the_rates(monkeypatch, panel):
    found, sides = run(monkeypatch, panel, Clock(), original=50)
    (row,) = found["rivals"]
    assert len(row["pairs"]) == 3
    for pair in row["pairs"]:
        assert pair["jaxalloc"]["seconds"] >= 1
        assert pair["rival"]["seconds"] >= 1
        assert pair["jaxalloc"]["universes"] % 64 == pair["rival"]["universes"] % 2 == 0
    assert row["ratio"] == pytest.approx({"median": 50, "least": 50, "most": 50})
    assert found["jaxalloc"]["universes_per_second"] == pytest.approx(1000)
    assert row["goal"] == 50
    assert sides[1].closed
    seeds = [seed for side in sides for seed in side.seeds]
    assert len(set(seeds)) == len(seeds)  # no run draws another's universes


def test_a_pair_that_is_too_short_is_run_again(monkeypatch, panel):
    """The machine doubles its speed after the runs were laid out."""
    clock = Clock()
    run(monkeypatch, panel, clock)
    laid_out = clock.runs - 6
    found, _ = run(monkeypatch, panel, Clock(fast=laid_out + 1))
    assert all(pair[side]["seconds"] >= 1 for pair in found["rivals"][0]["pairs"] for side in ("jaxalloc", "rival"))


def test_markdown_has_a_row_a_side(monkeypatch, panel):
    found = race.document(race.Rules(3, 1.0, 2), ["naive"])
    found["left_out"][0]["missing"] = ["numba"]
    found["jobs"] = [run(monkeypatch, panel, Clock(), original=50)[0]]
    found["jobs"][0]["rivals"].append({"rival": "naive", "name": "naive JAX", "goal": None, "error": "no | luck"})
    lines = tables.markdown(found).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 5
    assert len({row.count("|") for row in rows}) == 1
    assert "| pandas + SLSQP | 20 | 50 x | 50-50 | 50 |" in rows[3]
    assert rows[3].endswith("| 8 |")  # no weights: of two universes, four profiles
    assert "naive JAX left out: no numba." in lines


def test_the_judge_passes_the_oracle_and_catches_what_is_wrong():
    panel = ja.datasets.synthetic_market(12, 120).to_numpy()
    counts = draw(4, 120, 1, 0)
    exact = [oracles.allocate(panel, observation_weights=c) for c in counts]
    weights = np.stack([[answer.weights[profile] for profile in PROFILES] for answer in exact])
    leads = np.stack([[answer.lead_assets[profile] for profile in PROFILES] for answer in exact])
    labels = np.stack([answer.labels for answer in exact])
    judge = Judge(panel, counts)
    found = judge.verdict(weights, labels, leads, 64)
    assert (found.partitions_equal, found.leads_equal, found.failed) == (4, 4, 0)
    assert sum(found.over_limit.values()) == 0
    assert max(found.difference.values()) == 0
    assert found.sum_error <= 1e-12
    assert max(found.cluster_excess, found.asset_excess) <= 1e-12
    labels[0, 0] += 1
    weights[1, 2] = np.nan
    weights[2, 0] = 1 / 12
    leads[3, 1, 0] += 1
    found = judge.verdict(weights, labels, leads, 64)
    assert (found.partitions_equal, found.leads_equal, found.failed) == (3, 3, 1)
    assert found.over_limit == {"min_variance": 1, "risk_parity": 0, "max_sharpe": 0, "barbell": 0}
    assert found.difference["min_variance"] > 0.01


def test_seeds_of_the_draw_do_not_repeat():
    drawn = [draw(8, 60, seed, chunk) for seed, chunk in itertools.product(range(3), range(2))]
    assert len(np.unique(np.concatenate(drawn), axis=0)) == 48
