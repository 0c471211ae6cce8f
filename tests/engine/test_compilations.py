"""What is compiled: programs of canonical sizes, whatever shapes, profiles and process; and how many stay."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import oracles
import pytest
from helpers import count_compilations, make_every_step

import jaxalloc as ja
from jaxalloc.engine import programs
from jaxalloc.engine.batch import allocate_batch
from jaxalloc.engine.shapes import ASSETS, CLUSTERS, canonical
from jaxalloc.settings.config import PROFILE_NAMES, AllocationConfig

DEFAULT = AllocationConfig()
LARGEST = 20  # of the assets of the tests that run by default


def universe(seed: Any, n_rows: int, n_assets: int) -> np.ndarray:
    """Returns of any number of clusters, tight or loose."""
    rng = np.random.default_rng(seed)
    n_clusters = int(rng.integers(1, n_assets + 1))
    return oracles.random_market(rng, n_rows, n_assets, n_clusters, inside=rng.uniform(0.5, 0.9))


def shapes(count: int, most_assets: int, most_rows: int) -> Iterator[tuple[int, int]]:
    rng = np.random.default_rng(11)
    for _ in range(count):
        yield int(rng.integers(60, most_rows)), int(rng.integers(5, most_assets + 1))


def warm_up() -> None:
    """Make the programs of every canonical size up to `LARGEST`."""
    make_every_step(np.float64, *(size for size in CLUSTERS if size <= canonical(LARGEST, CLUSTERS)))
    for n_assets in (size for size in ASSETS if size <= LARGEST):
        for n_rows in (252, 600):
            for threshold in (0.01, 0.99):  # clusters of one asset; one cluster of all
                ja.allocate(universe(n_assets, n_rows, n_assets), DEFAULT.replace(distance_threshold=threshold))


def test_mixed_shapes_compile_nothing(x64: Any) -> None:
    warm_up()
    seen = {}
    with count_compilations() as compiled:
        for number, (n_rows, n_assets) in enumerate(shapes(40, LARGEST, 1000)):
            found = ja.allocate(universe([13, number], n_rows, n_assets))
            assert not np.any(np.asarray(found.status) & ja.Status.NOT_CONVERGED)
            seen[n_rows, n_assets] = int(found.n_clusters)
    assert compiled.count == 0
    assert len(seen) > 35
    assert {canonical(k, CLUSTERS) for k in seen.values()} >= {12, 20}


def test_another_batch_length_or_chunk_compiles_nothing(x64: Any) -> None:
    config = DEFAULT.replace(profiles=("risk_parity",))
    returns = np.stack([oracles.random_market(np.random.default_rng(i), 30, 4, 2) for i in range(1200)])
    allocate_batch(returns[:2], config)
    make_every_step(x64, 12)
    with count_compilations() as compiled:
        for length in (2, 64, 65, 511, 512, 513, 1200):
            allocate_batch(returns[:length], config)
        for chunk_size in (1, 65, 600):
            allocate_batch(returns, config, chunk_size=chunk_size)
    assert compiled.count == 0


def test_choosing_profiles_compiles_nothing(x64: Any) -> None:
    names = PROFILE_NAMES
    returns = np.stack([universe([14, i], 60, 12) for i in range(80)])
    whole = allocate_batch(returns, DEFAULT.replace(profiles=names))
    rng = np.random.default_rng(15)
    chosen = [(name,) for name in names] + [
        tuple(rng.permutation(names)[: int(rng.integers(2, len(names)))]) for _ in range(12)
    ]
    with count_compilations() as compiled:
        for profiles in chosen:
            found = allocate_batch(returns, DEFAULT.replace(profiles=profiles))
            places = [names.index(name) for name in profiles]
            assert found.weights.tobytes() == whole.weights[:, places].tobytes(), profiles
    assert compiled.count == 0


PROCESS = """
import json
import numpy as np
import jaxalloc as ja
from jaxalloc.engine import programs
market = ja.datasets.synthetic_market(n_assets=12, n_observations=126)
weights = ja.allocate(market).weights
study = ja.run_study(market, ja.Bootstrap(30, "circular", 5))
walk = ja.walk_forward(market, window=60)
programs.settle()
made = programs.statistics()
numbers = study.summary().to_numpy(float), walk.summary().to_numpy(float)
print(json.dumps([made.compiled, made.loaded, np.asarray(weights).tolist(), *(n.tobytes().hex() for n in numbers)]))
"""


def in_a_process() -> Any:
    env = os.environ | {"JAX_ENABLE_X64": "1"}  # the precision of studies, so that there is one set of programs
    done = subprocess.run([sys.executable, "-c", PROCESS], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(os.environ.get("JAXALLOC_NUMBA") == "off", reason="leaves numba out whatever the environment")
def test_a_second_process_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAXALLOC_NUMBA", "off")  # scalar kernels leave little to compile
    _, _, *found = in_a_process()  # compiles what no test has
    compiled, loaded, *again = in_a_process()
    assert compiled == 0
    assert loaded > 10
    assert again == found


def lines(name: str) -> list[str]:
    return Path(name).read_text().splitlines()


def resident() -> int:
    """Megabytes of memory in use."""
    return next(int(line.split()[1]) // 1024 for line in lines("/proc/self/status") if line.startswith("VmRSS"))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="counts the maps that Linux tells of")
def test_maps_and_memory_stay_bounded(x64: Any) -> None:
    """A hundred shapes in one process, which lets go of what tests before have compiled."""
    programs.settle()
    programs.clear()
    jax.clear_caches()
    gc.collect()
    before, used = len(lines("/proc/self/maps")), []
    for number, (n_rows, n_assets) in enumerate(shapes(100, 64, 1500)):
        found = ja.allocate(universe([16, number], n_rows, n_assets))
        assert np.isfinite(found.weights).all()
        programs.settle()
        assert len(lines("/proc/self/maps")) - before <= 14_000
        used.append(resident())
    assert used[-1] <= used[49] + 200
