"""The programs of a process: made once, whoever asks; bounded in memory; and kept on disk for the next process."""

from __future__ import annotations

import enum
import gc
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxalloc as ja
from jaxalloc.engine import identity, kept, programs
from jaxalloc.engine.making import Stage
from jaxalloc.engine.programs import Registry
from jaxalloc.kernels.lanes.compiling import Emitter
from jaxalloc.settings.config import AllocationConfig, cast_config

DEVICE = jax.devices()[0]


class Pair(NamedTuple):
    """A pytree with a place that may be empty."""

    first: Any
    second: Any = None


class Kind(enum.Enum):
    """A static choice."""

    ONE = 1
    TWO = 2


def doubled(pair: Pair) -> Pair:
    """Something that XLA makes a kernel of."""
    return Pair(first=jnp.sin(pair.first) * 2 + 1, second=pair.second)


def lapsed(*_: Any) -> Any:
    """Fail while it is traced."""
    raise ValueError("no such program")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Iterator[Path]:
    """Keep the programs of a test in a folder of its own."""
    with kept.programs_kept_in(tmp_path / "kept"):
        yield tmp_path / "kept"


@pytest.fixture
def registry() -> Iterator[Registry]:
    """Programs of the test's own."""
    made = Registry()
    yield made
    made.end()


def entries(folder: Path) -> list[Path]:
    """The entries of a folder; nothing else is in it."""
    found = sorted(folder.iterdir())
    assert all(path.suffix == ".program" for path in found)
    return found


def make(registry: Registry, size: int = 3, **options: Any) -> Callable[..., Any]:
    """Ask for a program of the shape, and wait until it is on disk."""
    call = registry.program(
        Stage(name="doubled", function=doubled, **options), (Pair(np.ones(size, np.float32)),), DEVICE
    )
    registry.settle()
    return call


# In memory


def test_a_program_computes_what_its_function_does(registry: Registry, dtype: Any) -> None:
    pair = Pair(jnp.arange(3, dtype=dtype))
    call = registry.program(Stage(name="doubled", function=doubled), (pair,), DEVICE)
    result = call(pair)
    assert result.second is None
    assert result.first.dtype == dtype
    np.testing.assert_allclose(result.first, np.sin(np.arange(3)) * 2 + 1, rtol=1e-6)
    np.testing.assert_array_equal(call(Pair(np.arange(3, dtype=dtype))).first, result.first)


def test_shapes_stand_for_arrays_and_a_program_is_made_once(registry: Registry) -> None:
    shape = jax.ShapeDtypeStruct((3,), np.float32)
    call = registry.program(Stage(name="doubled", function=doubled), (Pair(shape),), DEVICE)
    assert registry.program(Stage(name="doubled", function=doubled), (Pair(np.ones(3, np.float32)),), DEVICE) is call
    assert registry.program(Stage(name="doubled", function=doubled), (Pair(jnp.ones(3, np.float32)),), DEVICE) is call
    assert (registry.statistics().compiled, registry.statistics().hits) == (1, 2)


def test_what_tells_programs_apart(registry: Registry) -> None:
    ones = np.ones(3, np.float32)
    variants: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((Pair(ones),), {}),
        ((Pair(np.ones(4, np.float32)),), {}),
        ((Pair(np.ones(3, np.int32)),), {}),
        ((Pair(ones, ones),), {}),
        ((Pair(ones),), {"static": Kind.ONE}),
        ((Pair(ones),), {"static": Kind.TWO}),
        ((Pair(ones),), {"emitter": Emitter.FUSIONS}),
    ]
    for _ in range(2):
        for arguments, options in variants:
            registry.program(Stage(name="doubled", function=doubled, **options), arguments, DEVICE)
    assert (registry.statistics().compiled, registry.statistics().hits) == (len(variants), len(variants))
    assert registry.statistics().current == len(variants)


@pytest.mark.parametrize("again", [False, True], ids=["compiled", "loaded"])
def test_empty_arrays_settings_and_keys_are_arguments(registry: Registry, again: bool) -> None:
    def mixed(empty: Any, config: AllocationConfig, key: Any) -> Any:
        return jnp.sin(config.cluster_cap) + jax.random.uniform(key), empty, {"sum": jnp.sum(empty), "none": None}

    given = (jnp.zeros((0, 4)), cast_config(AllocationConfig(), jnp.float32), jax.random.key(3))
    call = registry.program(Stage(name="mixed", function=mixed), given, DEVICE)
    if again:
        registry.settle()
        other = Registry()
        call = other.program(Stage(name="mixed", function=mixed), given, DEVICE)
        assert other.statistics().loaded == 1
    number, empty, rest = call(*given)
    assert float(number) == pytest.approx(np.sin(0.25) + float(jax.random.uniform(jax.random.key(3))), rel=1e-6)
    assert empty.shape == (0, 4)
    assert rest["none"] is None
    assert float(rest["sum"]) == 0


def test_threads_that_ask_for_one_program_share_it(registry: Registry) -> None:
    traces, gate, calls = itertools.count(), threading.Barrier(8), []

    def slow(x: Any) -> Any:
        next(traces)
        time.sleep(0.2)
        return x + 1

    def ask() -> None:
        gate.wait()
        calls.append(registry.program(Stage(name="slow", function=slow), (np.ones(3, np.float32),), DEVICE))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert next(traces) == 1
    assert len(set(map(id, calls))) == 1
    assert registry.statistics().compiled == 1


def test_prefetched_programs_are_there(registry: Registry) -> None:
    for size in (3, 4, 5):
        registry.prefetch(Stage(name="doubled", function=doubled), (Pair(np.ones(size, np.float32)),), DEVICE)
        registry.prefetch(Stage(name="doubled", function=doubled), (Pair(np.ones(size, np.float32)),), DEVICE)
    registry.settle()
    assert registry.statistics().compiled == 3
    make(registry, 4)
    assert (registry.statistics().compiled, registry.statistics().hits) == (3, 1)


def test_a_program_that_is_waited_for_goes_first(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "available_cores", lambda: 1)
    order, begun, go = [], threading.Event(), threading.Event()

    def noted(x: Any) -> Any:
        order.append(x.shape[0])
        begun.set()
        assert go.wait(60)
        return x + 1

    def shape(size: int) -> Any:
        return (jax.ShapeDtypeStruct((size,), np.float32),)

    for size in (1, 2, 3, 4):
        registry.prefetch(Stage(name="noted", function=noted), shape(size), DEVICE)
    assert begun.wait(60)
    waiting = [
        threading.Thread(target=registry.program, args=(Stage(name="noted", function=noted), a, DEVICE))
        for a in (shape(4), shape(9))
    ]
    for thread in waiting:
        thread.start()
        time.sleep(0.1)  # the later one is in more of a hurry: whoever waits now goes first
    assert registry.busy() == 1
    go.set()
    registry.settle()
    assert order == [1, 9, 4, 2, 3]
    assert registry.busy() == 0
    for thread in waiting:
        thread.join()


def test_an_error_comes_to_whoever_asks(registry: Registry) -> None:
    registry.prefetch(Stage(name="lapsed", function=lapsed), (np.ones(3),), DEVICE)
    registry.settle()
    for _ in range(2):
        with pytest.raises(ValueError, match="no such program"):
            registry.program(Stage(name="lapsed", function=lapsed), (np.ones(3),), DEVICE)
    assert registry.statistics().current == 0


def test_programs_not_used_for_longest_are_dropped(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "MOST_PROGRAMS", 3)
    for size in (1, 2, 3):
        make(registry, size)
    make(registry, 1)  # used again
    make(registry, 4)
    assert (registry.statistics().current, registry.statistics().dropped) == (3, 1)
    compiled = registry.statistics().compiled
    for size in (3, 1, 4):
        make(registry, size)
    assert registry.statistics().compiled == compiled
    make(registry, 2)  # it was dropped: the disk has it
    assert (registry.statistics().compiled, registry.statistics().loaded) == (compiled, 1)


@pytest.mark.skipif(DEVICE.platform != "cpu", reason="kernels of a CPU have memory maps")
def test_memory_maps_bound_what_is_in_memory(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    make(registry, 1)
    maps = registry.statistics().maps
    assert maps > 0
    assert maps % 3 == 0
    monkeypatch.setattr(programs, "MOST_MAPS", 4 * maps)
    for size in range(2, 12):
        make(registry, size)
    assert registry.statistics().maps <= 4 * maps
    assert 1 <= registry.statistics().current <= 4


def maps_of_process() -> int:
    """The memory maps of this process."""
    return Path("/proc/self/maps").read_bytes().count(b"\n")


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="this system does not show memory maps")
@pytest.mark.skipif(DEVICE.platform != "cpu", reason="kernels of a CPU have memory maps")
def test_a_dropped_program_frees_its_memory_maps(registry: Registry) -> None:
    def many(x: Any) -> list[Any]:  # sums are kernels of their own
        return [jnp.sin(x * (k + 1)).sum() * jnp.cos(x).sum() for k in range(60)]

    call = registry.program(Stage(name="many", function=many), (np.ones(16, np.float32),), DEVICE)
    registry.settle()
    jax.block_until_ready(call(np.ones(16, np.float32)))
    estimated = registry.statistics().maps
    assert estimated >= 30
    gc.collect()
    before = maps_of_process()
    gc.disable()
    try:
        registry.clear()
        del call
        assert before - maps_of_process() > estimated / 2
    finally:
        gc.enable()


def test_a_program_may_be_dropped_while_a_thread_runs_it(registry: Registry) -> None:
    def long(x: Any) -> Any:
        return jax.lax.fori_loop(0, 2_000_000, lambda i, y: jnp.sin(y) + i, x)

    call = registry.program(Stage(name="long", function=long), (np.ones(4, np.float32),), DEVICE)
    expected = np.asarray(call(np.ones(4, np.float32)))
    pending = call(np.ones(4, np.float32))
    registry.settle()
    registry.clear()
    del call
    gc.collect()
    np.testing.assert_array_equal(pending, expected)


# On disk


def test_another_registry_loads_what_one_has_kept(registry: Registry, folder: Path) -> None:
    expected = make(registry)(Pair(np.ones(3, np.float32)))
    assert len(entries(folder)) == 1
    assert folder.stat().st_mode & 0o777 == 0o700
    other = Registry()
    result = make(other)(Pair(np.ones(3, np.float32)))
    np.testing.assert_array_equal(result.first, expected.first)
    statistics = other.statistics()
    assert (statistics.compiled, statistics.loaded, statistics.maps) == (0, 1, registry.statistics().maps)
    assert statistics.load_seconds > 0


@pytest.mark.parametrize(
    "harm",
    [
        lambda content: b"",
        lambda content: content[:50],
        lambda content: content[:-1],
        lambda content: content + b"!",
        lambda content: b"foreign" + content[7:],
        lambda content: content[:-100] + bytes(100),
        lambda content: content[: kept._HEADER.size],
    ],
    ids=["empty", "no-header", "cut", "longer", "foreign", "changed", "header-only"],
)
def test_a_broken_entry_is_compiled_anew_and_replaced(registry: Registry, folder: Path, harm: Any) -> None:
    make(registry)
    (entry,) = entries(folder)
    whole = entry.read_bytes()
    entry.write_bytes(harm(whole))
    other = Registry()
    make(other)
    assert (other.statistics().compiled, other.statistics().loaded) == (1, 0)
    assert entries(folder) == [entry]
    third = Registry()
    make(third)
    assert third.statistics().loaded == 1


def test_an_entry_that_does_not_load_is_compiled_anew(registry: Registry, folder: Path) -> None:
    make(registry)
    (entry,) = entries(folder)
    assert kept.Folder(folder).write(bytes.fromhex(entry.stem), b"no pickle")
    other = Registry()
    make(other)
    assert (other.statistics().compiled, other.statistics().loaded) == (1, 0)


def test_an_entry_under_another_key_is_not_used(registry: Registry, folder: Path) -> None:
    make(registry, 3)
    (three,) = entries(folder)
    make(registry, 4)
    (four,) = set(entries(folder)) - {three}
    four.write_bytes(three.read_bytes())
    other = Registry()
    assert make(other, 4)(Pair(np.ones(4, np.float32))).first.shape == (4,)
    assert other.statistics().compiled == 1


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="this system has no modes of folders")
def test_a_folder_that_others_can_write_is_not_used(registry: Registry, folder: Path) -> None:
    make(registry)
    folder.chmod(0o777)
    assert kept.Folder(folder).objection() == "other users can write to it"
    other = Registry()
    make(other)
    make(other, 4)
    assert other.statistics().loaded == 0
    assert len(entries(folder)) == 1
    folder.chmod(0o755)
    third = Registry()
    make(third)
    assert third.statistics().loaded == 1


@pytest.mark.parametrize("place", ["file", "in-file", "nul"])
def test_a_folder_that_cannot_be_made_costs_nothing_else(registry: Registry, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("something")
    path = {"file": "file", "in-file": "file/folder", "nul": "nu\0l"}[place]
    with kept.programs_kept_in(tmp_path / path):
        assert make(registry)(Pair(np.ones(3, np.float32))).first.shape == (3,)
    assert (tmp_path / "file").read_text() == "something"


def test_a_full_disk_leaves_nothing_behind(registry: Registry, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    make(registry)
    assert entries(folder) == []


def test_the_folder_is_pruned_by_last_use(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST_BYTES", 5_000)
    store, keys = kept.Folder(folder), [bytes([number]) * 32 for number in range(6)]
    for age, key in enumerate(keys[:4]):
        assert store.write(key, bytes(1000))
        os.utime(store._path(key), (age, age))
    assert store.read(keys[0]) == bytes(1000)  # and so the second was not used for longest
    assert store.write(keys[4], bytes(1000))
    present = {key for key in keys if store.read(key) is not None}
    assert present == {keys[0], keys[3], keys[4]} | ({keys[2]} & present)
    assert sum(store.sizes()) <= 5_000
    stale, fresh = folder / ".a.partial", folder / ".b.partial"
    for path in (stale, fresh):
        path.write_bytes(b"")
    os.utime(stale, (0, 0))
    store.prune()
    assert (stale.exists(), fresh.exists()) == (False, True)


def test_nothing_is_kept_when_told_so(registry: Registry, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with kept.programs_kept_in(None):
        make(registry)
    assert not folder.exists()
    monkeypatch.setattr(kept._Choice, "made", False)
    monkeypatch.setenv("JAXALLOC_PROGRAMS", "off")
    assert kept.folder_in_use() is None
    monkeypatch.setenv("JAXALLOC_PROGRAMS", str(folder))
    assert kept.folder_in_use().path == folder
    monkeypatch.setenv("JAXALLOC_PROGRAMS", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    assert kept.folder_in_use().path == folder / "jaxalloc" / "programs"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(folder))
    assert kept.folder_in_use().path == folder / ".cache" / "jaxalloc" / "programs"


def test_a_choice_that_only_this_process_knows_stays_in_memory(registry: Registry, folder: Path) -> None:
    make(registry, static=object())
    assert registry.statistics().compiled == 1
    assert not folder.exists()


def test_the_key_holds_what_may_change_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    def key(static: Any = ("a", Kind.ONE), size: int = 3, dtype: Any = np.float32, **choices: Any) -> Any:
        tree = jax.tree.structure(AllocationConfig(**choices))
        return identity.digest("name", doubled, static, tree, [((size,), np.dtype(dtype))], DEVICE)

    base = key()
    assert base is not None
    assert base == key()
    assert key(static=("a", Kind.TWO)) != base
    assert key(size=4) != base
    assert key(dtype=np.float64) != base
    assert key(linkage="single") != base
    monkeypatch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=7")
    assert key() == base
    monkeypatch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS"] + " --xla_cpu_enable_fast_math=true")
    assert key() != base


def test_settings_of_jax_that_change_programs_are_in_the_key() -> None:
    base = identity._settings()
    for name, value in (("jax_default_matmul_precision", "float32"), ("jax_threefry_partitionable", None)):
        before = jax.config.values[name]
        jax.config.update(name, value if value is not None else not before)
        try:
            assert identity._settings() != base
        finally:
            jax.config.update(name, before)
    before = jax.config.values["jax_log_compiles"]
    with jax.enable_x64(True):
        jax.config.update("jax_log_compiles", True)
        try:
            assert identity._settings() == base
        finally:
            jax.config.update("jax_log_compiles", before)


# In other processes

PROCESS = """
import json, os, sys, threading
import jax, jax.numpy as jnp, numpy as np
from jaxalloc.engine import programs
from jaxalloc.engine.making import Stage
from jaxalloc.settings.config import AllocationConfig, cast_config

def function(x, config):
    return config.replace(slack=jnp.sin(x) * config.slack), jnp.sum(x), None

def call(device, size=5):
    with jax.enable_x64(True):
        x = jax.device_put(np.arange(float(size)), device)
        config = jax.device_put(cast_config(AllocationConfig(), np.float64), device)
        given = x, config
        stage = Stage(name="function", function=function, static=("a", 1))
        made = programs.program(stage, given, device)
        results.append(made(*given)[0].slack.tolist())
        assert made(*given)[1].devices() == {device}

results = []
"""
REPORT = """
programs.settle()
print(json.dumps([programs.statistics()._asdict(), results, "jaxopt" in sys.modules]))
"""


def run(code: str, folder: Path | str, **env: str) -> Any:
    """Run code in another process; return what it reports."""
    env = os.environ | {"JAXALLOC_PROGRAMS": str(folder)} | env
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "rror" not in done.stderr
    return json.loads(done.stdout) if done.stdout else None


@pytest.mark.parametrize("jax_keeps", [False, True], ids=["alone", "beside-jax"])
def test_a_second_process_compiles_nothing(tmp_path: Path, jax_keeps: bool) -> None:
    code = PROCESS + "call(jax.devices()[0])" + REPORT
    env = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "jax") if jax_keeps else ""}
    env["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    first, values, _ = run(code, tmp_path / "programs", **env)
    assert (first["compiled"], first["loaded"]) == (1, 0)
    second, again, has_jaxopt = run(code, tmp_path / "programs", **env)
    assert (second["compiled"], second["loaded"]) == (0, 1)
    assert again == values
    assert not has_jaxopt
    if jax_keeps and (tmp_path / "jax").exists():  # it is asked to keep none of these
        assert not [path for path in (tmp_path / "jax").iterdir() if path.name.startswith("jit_function")]


def test_what_jax_alone_has_kept_is_not_kept_without_its_code(tmp_path: Path) -> None:
    unguarded = (
        "import contextlib; from jaxalloc.engine import making; making._unkept_by_jax = contextlib.nullcontext\n"
    )
    code = PROCESS + unguarded + "call(jax.devices()[0])" + REPORT
    env = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "jax"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    _, values, _ = run(code, "off", **env)
    for _ in range(2):
        statistics, again, _ = run(code, tmp_path / "programs", **env)
        assert (statistics["compiled"], statistics["loaded"]) == (1, 0)
        assert again == values


@pytest.mark.parametrize("keeps", [False, True], ids=["off", "kept"])
def test_devices_of_one_kind_share_a_program(tmp_path: Path, keeps: bool) -> None:
    threads = """
threads = [threading.Thread(target=call, args=(device,)) for device in jax.devices()]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=3"
    env = {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    code, folder = PROCESS + threads + REPORT, tmp_path if keeps else "off"
    statistics, values, _ = run(code, folder, **env)
    assert (statistics["compiled"], statistics["loaded"]) == (1, 2)
    assert len(values) == 3
    assert all(value == values[0] for value in values)
    if keeps:
        statistics, again, _ = run(code, folder, **env)
        assert (statistics["compiled"], statistics["loaded"]) == (0, 3)
        assert again == values


def test_a_process_ends_while_programs_are_made(tmp_path: Path) -> None:
    code = (
        PROCESS
        + """
import time
def slow(x):
    time.sleep(1)
    for k in range(200):
        x = jnp.sort(jnp.sin(x) + k)
    return x
for size in range(1, 300):
    programs.prefetch(Stage(name="slow", function=slow), (np.ones(size, np.float32),), jax.devices()[0])
call(jax.devices()[0])
"""
    )
    run(code, tmp_path)
    assert len(entries(tmp_path)) <= 8  # what was being made, and no more


def test_a_program_can_be_made_when_no_thread_can(registry: Registry) -> None:
    registry.end()
    registry.prefetch(Stage(name="doubled", function=doubled), (Pair(np.ones(4, np.float32)),), DEVICE)
    assert make(registry)(Pair(np.ones(3, np.float32))).first.shape == (3,)
    assert registry.statistics().compiled == 1


def test_importing_touches_no_disk_and_no_setting(tmp_path: Path) -> None:
    code = """
import jax
before = dict(jax.config.values)
import jaxalloc, jaxalloc.engine.programs
assert dict(jax.config.values) == before
"""
    run(code, tmp_path / "programs")
    assert not (tmp_path / "programs").exists()


def test_the_public_name(tmp_path: Path) -> None:
    ja.keep_programs(tmp_path)  # the fixture sets it back
    assert kept.folder_in_use().path == tmp_path
    ja.keep_programs(None)
    assert kept.folder_in_use() is None
