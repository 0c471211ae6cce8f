"""A strict session: no silent broadcasting between ranks, warnings are errors, both precisions by fixture.

The environment is set before NumPy and JAX load: the oracle's small matrices want one BLAS thread.

Compiling takes most of the time, so what one process has compiled is kept for all: workers, commands that tests start,
and tests of the same shapes.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The rivals' workers inherit the path to benchmarks/.
sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
sys.path.insert(0, str(Path(__file__).parent / "oracle"))
sys.path.insert(0, str(Path(__file__).parent))

# Commands that tests start would otherwise compile the bytecode of all that they import, each time.
if sys.dont_write_bytecode:
    _bytecode = tempfile.TemporaryDirectory(prefix="jaxalloc-bytecode-")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix = _bytecode.name
    sys.dont_write_bytecode = False

# Programs that one process has compiled the others read: the tests' own, and the commands that they start. (Those that
# are killed have folders of their own.) A limit of the size is what makes JAX lock the folder.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _programs = tempfile.TemporaryDirectory(prefix="jaxalloc-programs-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _programs.name
    os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"] = str(2**31)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"

if "JAXALLOC_PROGRAMS" not in os.environ:
    _kept = tempfile.TemporaryDirectory(prefix="jaxalloc-kept-")
    os.environ["JAXALLOC_PROGRAMS"] = _kept.name

import jax
import numpy as np
import pytest
from helpers import TOLERANCES, Tolerance
from hypothesis import HealthCheck, settings

jax.config.update("jax_numpy_rank_promotion", "raise")

# Shapes are fixed and every draw is cheap; what takes long is compiling, in the first example of each test.
settings.register_profile(
    "jaxalloc",
    deadline=None,
    derandomize=True,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("jaxalloc")


# The files that take longest, first: a worker that came to one of them last would keep the others waiting. While one
# worker compiles the scalar kernels, for the first file, another is at kernels in lanes, and does not compile them too.
LONGEST = (
    *("test_batch", "test_covariance", "test_components", "test_partition", "test_hierarchy", "test_silhouette"),
    *("test_reliability", "test_study", "test_derivatives", "test_dask", "test_report_browser", "test_compilations"),
    *("test_baselines", "test_mean_variance", "test_bagged", "test_imports", "test_scales", "test_cli_process"),
    *("test_elimination", "test_folder_damage", "test_steps", "test_regret", "test_choice", "test_allocation"),
    *("test_shapes", "test_risk_parity", "test_report", "test_cli_study", "test_scalar_stages", "test_walk_forward"),
    *("test_cli_report", "test_cli_walk_forward", "test_readme", "test_store", "test_devices", "test_skfolio"),
    *("test_reproduce", "test_measures", "test_reductions"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files for workers that take one after the other; pytest calls this."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


MAPS = Path("/proc/self/maps")
MOST_MAPS = 25_000  # of 65,530 that Linux grants a process; a solver's program takes up to 2,000
_last_look = [0.0]


@pytest.fixture(autouse=True)
def _room_for_programs() -> Iterator[None]:
    """Forget compiled programs before they are too many: past Linux's limit of memory maps LLVM ends the process."""
    yield
    now = time.monotonic()
    if now - _last_look[0] < 5 or not MAPS.exists():
        return
    _last_look[0] = now
    with MAPS.open("rb") as maps:
        count = sum(1 for _ in maps)
    if count > MOST_MAPS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> Iterator[type[np.floating]]:
    """Run the test once in each precision, x64 on for the second only."""
    with jax.enable_x64(request.param is np.float64):
        yield request.param


@pytest.fixture
def x64() -> Iterator[type[np.floating]]:
    """Run the test in float64."""
    with jax.enable_x64(True):
        yield np.float64


@pytest.fixture
def tol(dtype: type[np.floating]) -> Tolerance:
    """Tolerances of the test's precision."""
    return TOLERANCES[dtype]


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data that JAXALLOC_DATA names; the test is skipped without it."""
    folder = os.environ.get("JAXALLOC_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("JAXALLOC_DATA names no folder of data")
    return Path(folder)
