"""A strict session: no silent broadcasting between ranks, warnings are errors, both precisions by fixture.

The environment is set before NumPy and JAX load: the oracle's small matrices want one BLAS thread.
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
sys.path.insert(0, str(Path(__file__).parent))

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


@pytest.fixture(scope="session", autouse=True)
def _kept_programs() -> Iterator[None]:
    """Keep compiled programs on disk: those that were forgotten (see below), or that two files need, are read back.

    The folder is this process's own, for JAX does not write to it atomically; nor do other processes that tests start
    use it, some of which are killed.
    """
    with tempfile.TemporaryDirectory(prefix="jaxalloc-programs-") as folder:
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
        yield
        jax.config.update("jax_compilation_cache_dir", None)


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
