"""The pages of measurements are made of the results beside them, and what is measured is still there to be called."""

from __future__ import annotations

import json
import time
from types import ModuleType
from typing import Any

import cuts
import first
import gradients
import growth
import jax
import numpy as np
import pytest
import throughput
from panels import embedded

from jaxalloc.engine.calls import Calls


@pytest.mark.parametrize("script", [cuts, first, gradients, growth])
def test_a_page_is_made_of_the_results_beside_it(script: ModuleType) -> None:
    file = script.RESULTS / f"{script.__name__}.json"
    page = script.render(json.loads(file.read_text(encoding="utf-8")))
    assert file.with_suffix(".md").read_text(encoding="utf-8") == page


@pytest.mark.parametrize("numba", ["on", "off"])
def test_stages_and_the_host_add_up_to_the_whole(monkeypatch: pytest.MonkeyPatch, numba: str) -> None:
    monkeypatch.setenv("JAXALLOC_NUMBA", numba)
    run = Calls.run
    with jax.enable_x64(True):
        began = time.perf_counter()
        found = throughput.stages(embedded(12, 60).to_numpy(), 64, 1)
        elapsed = time.perf_counter() - began
    assert Calls.run is run
    in_lanes = {"draw", "observe", "cluster", "pose", "risk parity, start", "describe"}
    one_by_one = {throughput.SCALAR[name] for name in ("draw", "observe", "cluster", "solve_clusters", "describe")}
    assert {throughput.HOST} | (in_lanes if numba == "off" else one_by_one) <= set(found)
    assert sum(stage["share"] for stage in found.values()) == pytest.approx(1)
    assert 0 < sum(stage["us"] for stage in found.values()) * 64e-6 < elapsed
    assert all(stage["calls"] >= 1 for name, stage in found.items() if name != throughput.HOST)
    lines = throughput.stages_table(found)
    assert len(lines) == len(found) + 2


def test_one_stream_is_one_device_and_ends() -> None:
    most = throughput.scheduler._MOST_STREAMS
    with throughput.one_stream():
        assert len(throughput.engine_of(np.asarray(embedded(12, 60))).devices) == 1
    assert most == throughput.scheduler._MOST_STREAMS


def test_what_a_process_of_its_own_runs_is_python() -> None:
    codes: dict[str, Any] = {name: code for name, code in vars(first).items() if name.isupper()}
    for name in ("ALLOCATE", "SKFOLIO", "BATCH", "SHAPES", "CHOICES"):
        compile(codes[name], name, "exec")
    compile(growth.PEAK, "PEAK", "exec")
