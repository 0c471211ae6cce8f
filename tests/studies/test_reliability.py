"""Studies whose process dies, again and again, end as if nothing had been; and a soak of universes of every kind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import jaxalloc as ja
from jaxalloc.storage.reader import StoredStudy
from jaxalloc.storage.writer import Store
from jaxalloc.studies import compute

# Everything is small but the number of universes: the process must not be done before it is killed.
STUDY = """
import sys
import jaxalloc as ja

market = ja.datasets.synthetic_market(n_assets=6, n_observations=64)
config = ja.AllocationConfig(profiles=("risk_parity", "barbell"))
study = ja.run_study(
    market, ja.Bootstrap({n}), config, 7, sys.argv[1], chunk_size=512, resume=True, keep={keep!r}
)
"""
SLOWLY = """
import time
from jaxalloc.storage.writer import Store

write = Store.write_chunk
Store.write_chunk = lambda *arguments: [time.sleep(0.25), write(*arguments)]
"""
PATIENCE = 300  # seconds until a process that should have got somewhere counts as lost


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which compiled programs are kept from one process to the next."""
    return os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("programs")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def start(folder: Path, n: int, keep: str, env: dict[str, str], before: str = "") -> subprocess.Popen[bytes]:
    code = before + STUDY.format(n=n, keep=keep)
    return subprocess.Popen([sys.executable, "-c", code, str(folder)], env=env, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> str:
    _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, error.decode()
    return error.decode()


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition() and process.poll() is None:
        assert time.monotonic() < deadline, "it got nowhere"
        time.sleep(0.002)


def assert_equal_stores(one: Path, other: Path) -> None:
    """Chunks byte for byte, and every number of the summary."""
    files = sorted(path.name for path in (one / "chunks").iterdir())
    assert files == sorted(path.name for path in (other / "chunks").iterdir())
    for name in files:
        assert (one / "chunks" / name).read_bytes() == (other / "chunks" / name).read_bytes(), name
    states = [StoredStudy.open(folder).state() for folder in (one, other)]
    assert states[0] is not None
    assert states[1] is not None
    assert states[0][0] == states[1][0]
    assert states[0][1].keys() == states[1][1].keys()
    for name, array in states[0][1].items():
        assert array.tobytes() == states[1][1][name].tobytes(), name
    for name in ("summary.csv", "profiles.csv", "stability.csv", "point_assets.csv"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    assert not list(other.rglob("*.partial"))


def killed_over_and_over(tmp_path: Path, env: dict[str, str], keep: str, kills: int, n: int) -> int:
    """Kill a study ``kills`` times, each time resumed; compare with one left alone. Return kills in mid-run."""
    moments = random.Random(0)
    folder, hits = tmp_path / "killed", 0
    finish(start(tmp_path / "alone", n, keep, env))
    for _ in range(kills):
        process = start(folder, n, keep, env)
        before = manifest(folder)
        wait_until(lambda before=before: manifest(folder) != before, process)  # it is at work on the store
        time.sleep(moments.uniform(0, 0.6))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        hits += process.returncode == -signal.SIGKILL
    finish(start(folder, n, keep, env))
    assert_equal_stores(tmp_path / "alone", folder)
    return hits


def manifest(folder: Path) -> bytes:
    path = folder / "manifest.json"
    return path.read_bytes() if path.exists() else b""


@pytest.mark.parametrize("keep", ["weights", pytest.param("summary", marks=pytest.mark.slow)])
def test_killed_twice_and_resumed_is_as_if_nothing_had_been(
    tmp_path: Path, programs: dict[str, str], keep: str
) -> None:
    killed_over_and_over(tmp_path, programs, keep, kills=2, n=32_000)


@pytest.mark.slow
@pytest.mark.parametrize("keep", ["weights", "summary"])
def test_killed_twenty_times(tmp_path: Path, programs: dict[str, str], keep: str) -> None:
    n = {"weights": 240_000, "summary": 600_000}[keep]  # enough that none of the 20 runs gets to the end
    assert killed_over_and_over(tmp_path, programs, keep, kills=20, n=n) == 20


@pytest.mark.parametrize(("seconds", "saved"), [(0.0, [1, 2, 3, 4, 5, 6]), (0.06, [1, 3, 5, 6])])
def test_the_summary_is_saved_by_work_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, saved: list[int]
) -> None:
    """A chunk takes a second here; a state is saved as soon as that takes no more than a twentieth of the time."""
    market = ja.datasets.synthetic_market(n_assets=6, n_observations=64)
    config = ja.AllocationConfig(profiles=("risk_parity", "barbell"))
    whole = ja.run_study(market, None, config)
    clock, states = [0.0], []

    def save(self: Store, count: int, arrays: dict[str, np.ndarray]) -> None:
        states.append(count)
        clock[0] += seconds

    def add(self: object, start: int, result: object) -> None:
        clock[0] += 1

    monkeypatch.setattr(Store, "save_state", save)
    monkeypatch.setattr(compute._Summaries, "add_chunk", add)
    monkeypatch.setattr(compute.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(compute, "write_results", lambda study, store: None)
    monkeypatch.setattr(compute._Summaries, "study", lambda *_: whole)
    ja.run_study(market, ja.Bootstrap(6 * 512), config, 7, tmp_path / "study", chunk_size=512, keep="summary")
    assert states == saved


@pytest.mark.parametrize("damage", ["truncated", "flipped", "gone"])
def test_damaged_chunks_are_done_again(tmp_path: Path, damage: str) -> None:
    market = ja.datasets.synthetic_market(n_assets=6, n_observations=64)
    config = ja.AllocationConfig(profiles=("risk_parity", "barbell"))

    def run(folder: str, resume: bool) -> ja.Study:
        return ja.run_study(market, ja.Bootstrap(5120), config, 7, tmp_path / folder, chunk_size=512, resume=resume)

    whole, _ = run("alone", False), run("study", False)
    chunk = tmp_path / "study" / "chunks" / "000004.parquet"
    data = bytearray(chunk.read_bytes())
    if damage == "truncated":
        chunk.write_bytes(data[:-100])
    elif damage == "flipped":
        data[len(data) // 2] ^= 1
        chunk.write_bytes(data)
    else:
        chunk.unlink()
    with pytest.raises(ja.InputError, match=r"chunk 4 of .*resume=True to redo it"):
        ja.load_study(tmp_path / "study").weights("barbell")
    again = run("study", True)
    assert_equal_stores(tmp_path / "alone", tmp_path / "study")
    assert again.weights("barbell").equals(whole.weights("barbell"))
    assert again.summary().equals(whole.summary())


def test_a_second_writer_is_refused_and_the_first_goes_on(tmp_path: Path, programs: dict[str, str]) -> None:
    first = start(tmp_path / "study", 12_000, "weights", programs, before=SLOWLY)
    wait_until(lambda: bool(manifest(tmp_path / "study")), first)
    second = start(tmp_path / "study", 12_000, "weights", programs)
    _, error = second.communicate(timeout=PATIENCE)
    assert second.returncode == 1
    assert "InputError: another process is writing to" in error.decode()
    finish(first)
    assert ja.load_study(tmp_path / "study").n_valid == 12_000


@pytest.mark.slow  # `test_study` fills a disk within this process
def test_a_full_disk_leaves_what_was_finished(tmp_path: Path, programs: dict[str, str]) -> None:
    """The limit on a file's size stands for the disk: a chunk's file is larger than the manifest was."""
    limit = "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))\n"
    finish(start(tmp_path / "alone", 2_000, "weights", programs))
    full = start(tmp_path / "study", 2_000, "weights", programs, before=limit.format(size=4_096))
    _, error = full.communicate(timeout=PATIENCE)
    assert full.returncode == 1
    last = error.decode().strip().splitlines()[-1]
    assert "could not be written (File too large)" in last
    assert "resume=True" in last
    finish(start(tmp_path / "study", 2_000, "weights", programs))
    assert_equal_stores(tmp_path / "alone", tmp_path / "study")


# A soak: universes of every kind, every one of them checked.


def mixed_market(n_assets: int, n_rows: int) -> np.ndarray:
    """Clones, constant columns, columns that move on a few days only, hedges, wild and calm ones: 12 or more assets."""
    rng = np.random.default_rng(5)
    factors = rng.standard_t(4, size=(n_rows, 6)) * 0.01
    x = factors[:, rng.integers(0, 6, n_assets)] * rng.uniform(-1, 2, n_assets)
    x += rng.normal(0, 0.006, size=x.shape)
    x *= rng.lognormal(0, 1, n_assets)
    x[:, 1:4] = x[:, [0]]  # one asset four times
    x[:, 4] = 0.0
    x[:, 5] = 0.001
    x[:, 6:8] = np.where(rng.random((n_rows, 2)) < 0.02, x[:, 6:8], 0)
    x[:, 8] = -x[:, 9]
    return x


class MixedSubsets(ja.RandomSubsets):
    """Subsets of every size from 1 to N: a sampler that a user may well write."""

    def draw(self) -> tuple[object, object]:
        import jax

        kernel, size = super().draw()

        def subset(numbers, key, index, universe):  # type: ignore[no-untyped-def]
            chosen = jax.random.randint(jax.random.fold_in(key, 1), (), 1, numbers + 1, np.int32)
            return kernel(chosen, key, index, universe)

        global _KERNEL  # one function for all runs: another one would be compiled anew
        _KERNEL = _KERNEL or subset
        return _KERNEL, size


_KERNEL = None


def soak(n: int, n_assets: int = 60, n_rows: int = 126, report: Callable[[int], None] | None = None) -> dict[str, int]:
    """Allocate n mixed universes (a multiple of 3); check every one; return how often each status occurred."""
    import jax

    from jaxalloc.settings.status import Status
    from jaxalloc.settings.sweep import Sweep
    from jaxalloc.studies.chunks import Runner
    from jaxalloc.studies.plan import Plan
    from jaxalloc.universes.samplers import Product

    stress = ja.Stress(volatility=(1.0, 3.0, 0.5), correlation=(0.0, 0.9, -0.7), mean=(0.0, -0.5, 0.2))
    sampler = ja.Bootstrap(n // 3, "stationary", 5) * MixedSubsets(n_assets) * stress
    panel = ja.Panel(pd.DataFrame(mixed_market(n_assets, n_rows)).rename(columns="A{}".format))
    with jax.enable_x64(True):
        prepared = Product(sampler.parts).prepare(panel, n_rows, 252)
        runner = Runner(
            Plan(
                returns=panel.values,
                sampler=prepared,
                settings=Sweep(ja.AllocationConfig(periods_per_year=252)),
                seed=0,
                precision=64,
                keep="summary",
                chunk_size=None,
            )
        )
        seen = dict.fromkeys([str(bit.name) for bit in Status], 0) | {"universes": 0, "sleeves": 0}
        for number in range(runner.n_chunks):
            check(runner.start(number).chunk.allocation(), seen)
            if report is not None:
                report(seen["universes"])
    return seen


def check(result: ja.Allocation, seen: dict[str, int]) -> None:
    """No NaN in a valid universe, no bound broken, no sum off; statuses counted."""
    invalid = result.status[:, 0] & ja.Status.INVALID.value != 0
    ok = ~invalid
    assert np.isnan(result.weights[invalid]).all()
    assert (result.status[invalid] == ja.Status.INVALID.value).all()
    for name in ("weights", "cluster_weights", "volatility", "expected_return", "risk_contributions", "optimality_gap"):
        assert np.isfinite(getattr(result, name)[ok]).all(), name
    weights, labels = result.weights[ok], result.cluster_labels[ok]
    assert (weights >= 0).all()
    assert np.abs(weights.sum(axis=2) - 1).max(initial=0) <= 1e-12
    assert (weights.transpose(0, 2, 1)[labels < 0] == 0).all()
    assert np.abs(result.cluster_weights[ok].sum(axis=2) - 1).max(initial=0) <= 1e-12
    sleeve = np.zeros(weights.shape, bool)
    sleeve[:, 3] = result.aggressors[ok]
    loose = 1 + 4 * np.finfo(float).eps
    assert (np.where(sleeve, 0, weights) <= result.asset_bound[ok][:, :, None] * loose).all()
    one_hot = labels[:, :, None] == np.arange(labels.shape[1])
    in_sleeve = (one_hot & result.aggressors[ok][:, :, None]).any(axis=1)
    by_cluster = result.cluster_weights[ok].copy()
    by_cluster[:, 3][in_sleeve] = 0
    assert (by_cluster <= result.cluster_bound[ok][:, :, None] * loose).all()
    gap = result.optimality_gap[ok]
    unsolved = result.status[ok] & ja.Status.NOT_CONVERGED.value != 0
    # an asset beside its opposite: where the risk is nil but for rounding, a gap relative to it says nothing
    riskless = result.volatility[ok] <= 1e-8
    # and beside other assets, as a barbell's core, its risk is that of the regularisation, 1e-10
    rounding = 8 * np.finfo(float).eps / 1e-10
    floor = np.where(result.status[ok] & ja.Status.RISK_REGULARIZED.value != 0, rounding, 1e-6)
    assert (gap <= floor)[~unsolved & ~riskless].all()
    seen["universes"] += len(ok)
    seen["sleeves"] += int(result.aggressors[ok].any(axis=1).sum())
    for bit in ja.Status:
        seen[str(bit.name)] += int((result.status & bit.value != 0).any(axis=1).sum())


def test_soak_of_mixed_universes() -> None:
    seen = soak(1_500, n_assets=12)  # programs that other tests have
    assert seen["universes"] == 1_500
    for name in (
        "INVALID",
        "ASSET_DROPPED",
        "CLUSTER_CAP_RELAXED",
        "ASSET_BOUND_RAISED",
        "FEWER_AGGRESSORS",
        "sleeves",
    ):
        assert seen[name] > 0, name


@pytest.mark.slow
def test_a_longer_soak() -> None:
    assert soak(30_000)["universes"] == 30_000
