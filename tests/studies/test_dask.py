"""A study on a Dask cluster: a real scheduler and worker processes on the loopback, against this process alone."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jaxalloc as ja
from jaxalloc.arguments.errors import InputError
from jaxalloc.datasets import synthetic_market
from jaxalloc.storage.writer import Store
from jaxalloc.studies.dask import SchedulerLostError, dask_workers
from jaxalloc.studies.study import Study

distributed = pytest.importorskip("distributed")

# what Dask and its dependencies warn of is theirs to mend
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

MARKET = synthetic_market(n_assets=8, n_observations=126)
SAMPLER = ja.Bootstrap(1400, "circular", 21)
GRID = ja.sweep(ja.AllocationConfig(profiles=("risk_parity", "barbell")), cluster_cap=[0.25, 0.4])
COMM = {"distributed.comm.timeouts.connect": "2s"}  # that a client waits for a scheduler to come back
PATIENCE = 300  # seconds until a process that should have come up counts as lost


class LocalCluster:
    """A scheduler and workers, each a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # compiled programs are shared: each worker would otherwise spend most of its time on them
        self.env = os.environ | {
            "JAX_COMPILATION_CACHE_DIR": str(folder / "programs"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        self.processes: list[subprocess.Popen[bytes]] = []
        self.scheduler_file = folder / "scheduler.json"
        self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        deadline = time.monotonic() + PATIENCE
        while not self.scheduler_file.exists():
            assert time.monotonic() < deadline, "the scheduler did not come up"
            time.sleep(0.1)

    def _start(self, kind: str, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "distributed.cli.dask_" + kind, "--scheduler-file", str(self.scheduler_file)]
        with (self.folder / f"{kind}-{len(self.processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                [*command, *options], cwd=self.folder, env=self.env, stdout=log, stderr=subprocess.STDOUT
            )
        self.processes.append(process)
        return process

    def worker(self) -> subprocess.Popen[bytes]:
        """Start a worker: one thread, no nanny, so that the process is the worker."""
        return self._start(
            *("worker", "--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1"),
            *("--local-directory", str(self.folder)),
        )

    def close(self) -> None:
        for process in reversed(self.processes):
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    cluster = LocalCluster(tmp_path_factory.mktemp("cluster"))
    with contextlib.closing(cluster):
        cluster.worker()
        yield cluster


@pytest.fixture(scope="module")
def client(cluster: LocalCluster) -> Iterator[Any]:
    with distributed.Client(scheduler_file=str(cluster.scheduler_file), set_as_default=False) as client:
        client.wait_for_workers(1, timeout=PATIENCE)
        yield client


@pytest.fixture(scope="module")
def alone() -> Study:
    return ja.run_study(MARKET, SAMPLER, GRID, seed=3, chunk_size=1024)


def assert_same(one: Study, other: Study) -> None:
    for profile in one.profiles:
        assert one.weights(profile).equals(other.weights(profile))
    assert one.clusters().equals(other.clusters())
    assert one.universes().equals(other.universes())
    assert one.summary().equals(other.summary())
    assert one.profile_summary().equals(other.profile_summary())
    for mine, theirs in zip(one.totals, other.totals, strict=True):
        for name, array in mine.arrays().items():
            assert np.array_equal(array, theirs.arrays()[name], equal_nan=True), name


def test_a_client_and_an_address_give_what_one_process_does(
    cluster: LocalCluster, client: Any, alone: Study, tmp_path: Path
) -> None:
    steps: list[int] = []
    study = ja.run_study(MARKET, SAMPLER, GRID, 3, tmp_path / "a", chunk_size=512, dask=client, progress=steps.append)
    assert_same(study, alone)
    assert_same(ja.load_study(tmp_path / "a"), alone)
    assert sum(steps) == 2 * SAMPLER.n
    by_address = ja.run_study(MARKET, SAMPLER, GRID, seed=3, chunk_size=512, dask=client.scheduler.address)
    assert_same(by_address, alone)
    assert client.status == "running"  # it is the caller's, and stays open


@pytest.mark.slow
def test_summary_alone_and_32_bits(client: Any) -> None:
    options: dict[str, Any] = {"keep": "summary", "precision": 32, "chunk_size": 512}
    study = ja.run_study(MARKET, SAMPLER, GRID, seed=3, dask=client, **options)
    here = ja.run_study(MARKET, SAMPLER, GRID, seed=3, **options)
    assert study.profile_summary().equals(here.profile_summary())
    assert study.tables is None


def test_a_killed_worker_costs_nothing_but_time(
    cluster: LocalCluster, client: Any, alone: Study, tmp_path: Path
) -> None:
    known = set(client.scheduler_info(n_workers=-1)["workers"])
    victim = cluster.worker()
    client.wait_for_workers(len(known) + 1, timeout=PATIENCE)
    killed = []

    def kill_at_first(count: int) -> None:
        if not killed:
            victim.send_signal(signal.SIGKILL)
            killed.append(victim.wait())

    study = ja.run_study(
        MARKET, SAMPLER, GRID, 3, tmp_path / "study", chunk_size=512, dask=client, progress=kill_at_first
    )
    assert killed == [-signal.SIGKILL]
    assert_same(study, alone)


def test_stopped_and_resumed(client: Any, alone: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    write = Store.write_chunk

    def record(self: Store, number: int, table: Any) -> None:
        write(self, number, table)
        written.append(number)

    def stop_after_two(count: int) -> None:
        if len(written) >= 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Store, "write_chunk", record)
    arguments: Any = (MARKET, SAMPLER, GRID, 3, tmp_path / "study")
    with pytest.raises(KeyboardInterrupt):
        ja.run_study(*arguments, chunk_size=512, dask=client, progress=stop_after_two)
    study = ja.run_study(*arguments, dask=client, resume=True)
    assert sorted(written) == written == list(range(-(-2 * SAMPLER.n // 512)))
    assert_same(study, alone)


@pytest.mark.parametrize("keep", ["weights", pytest.param("summary", marks=pytest.mark.slow)])
def test_a_lost_scheduler_is_an_error_of_one_line(
    alone: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: Any
) -> None:
    import dask

    arguments: Any = (MARKET, SAMPLER, GRID, 3, tmp_path / "study")
    with contextlib.closing(LocalCluster(tmp_path)) as cluster, dask.config.set(COMM):
        cluster.worker()
        address = json.loads(cluster.scheduler_file.read_text())["address"]

        def lose_it(count: int) -> None:
            cluster.processes[0].kill()

        with pytest.raises(SchedulerLostError) as error:
            ja.run_study(*arguments, keep=keep, chunk_size=512, dask=address, progress=lose_it)
    said = str(error.value)
    assert "\n" not in said
    kept = re.search(r"is lost \(\w+\); ([\d,]+) of 2,800 universes are kept in .*study; .* with resume=True$", said)
    assert kept is not None
    assert int(kept[1].replace(",", "")) in (512, 1024)  # the second may have been on its way
    study = ja.run_study(*arguments, keep=keep, chunk_size=512, resume=True)
    assert study.profile_summary().equals(alone.profile_summary())


def test_bad_clusters_are_errors_of_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaxalloc.studies.dask._TIMEOUT", 1.0)
    for dask, message in (("tcp://127.0.0.1:9", "no scheduler answers"), (5, "must be a distributed.Client")):
        with pytest.raises(InputError, match=message) as error:
            ja.run_study(MARKET, SAMPLER, dask=dask)
        assert "\n" not in str(error.value)


def test_a_scheduler_without_workers_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaxalloc.studies.dask._TIMEOUT", 2.0)
    with contextlib.closing(LocalCluster(tmp_path)) as empty:
        address = json.loads(empty.scheduler_file.read_text())["address"]
        plan: Any = None
        with pytest.raises(InputError, match="no worker"), dask_workers(plan, address):
            pass


def test_bagged_walk_forwards_are_the_same_on_workers(client: Any) -> None:
    config = ja.AllocationConfig(profiles=("risk_parity", "barbell"))
    options: dict[str, Any] = {"window": 63, "step": 21, "bagging": ja.Bootstrap(40, "circular", 10), "chunk_size": 32}
    here = ja.walk_forward(MARKET, config, **options)
    there = ja.walk_forward(MARKET, config, **options, dask=client)
    assert here.bagged is not None
    assert there.bagged is not None
    for name, array in here.bagged._asdict().items():
        np.testing.assert_array_equal(getattr(there.bagged, name), array)
    np.testing.assert_array_equal(there.history.net, here.history.net)
