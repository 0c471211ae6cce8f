"""Several devices: the same bits as one, whatever the number of universes; and a study goes on where others began it.

A process has as many CPU devices as it was started with, so each number of them has a process of its own. They run
under a time limit: a deadlock between devices must not hang the tests.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from helpers import same_bits

import jaxalloc as ja
from jaxalloc.engine.scheduler import Engine
from jaxalloc.engine.stages import Items
from jaxalloc.portfolios.result import RESULT_FIELDS

N, T = 8, 60  # one size of clusters
CONFIG = ja.AllocationConfig(profiles=("barbell",))
MARKET = ja.datasets.synthetic_market(N, T, seed=3)
LENGTHS = (1, 3, 511, 512, 513, 1100, 1300)  # fewer than devices, whole groups, and what no number of devices divides
SAMPLER = ja.Bootstrap(1200, "circular", 5)
SECONDS = 300


def run(**changes: Any) -> ja.Study:
    return ja.run_study(MARKET, **({"sampler": SAMPLER, "config": CONFIG, "seed": 2, "chunk_size": "auto"} | changes))


class Stop(Exception):  # noqa: N818
    """What interrupts a study."""


def interrupt(folder: Path) -> None:
    """Begin a study of chunks of 512, and stop in the second one."""
    done: list[int] = []

    def progress(count: int) -> None:
        done.append(count)
        if sum(done) > 600:
            raise Stop

    with pytest.raises(Stop):
        run(out=folder, chunk_size=512, progress=progress)


def batches() -> Iterator[tuple[str, ja.Allocation]]:
    """Batches of each length, with a shared panel and with own ones."""
    rng = np.random.default_rng(0)
    counts = rng.multinomial(T, np.full(T, 1 / T), size=max(LENGTHS)).astype(float)
    masks = rng.random((max(LENGTHS), N)) < 0.8
    counts[2] = 0  # invalid
    panel = MARKET.to_numpy()
    own = panel * rng.uniform(0.5, 2, (max(LENGTHS), 1, N)) + rng.normal(0, 0.01, (max(LENGTHS), T, N))
    for n in LENGTHS:
        yield f"shared {n}", ja.allocate_batch(panel, CONFIG, counts[:n], masks[:n])
        yield f"own {n}", ja.allocate_batch(own[:n], CONFIG, counts[:n], masks[:n])
    yield "chunks", ja.allocate_batch(panel, CONFIG, counts, masks, chunk_size=512)


def studies() -> Iterator[tuple[str, ja.Study]]:
    """Studies of many universes and of few, of one point and of several."""
    yield "study", run()
    yield "chunks", run(chunk_size=512)
    yield (
        "sweep",
        run(
            sampler=dataclasses.replace(SAMPLER, n=150),
            config=ja.sweep(CONFIG, cluster_cap=[0.25, 0.5], n_aggressors=[1, 2]),
        ),
    )
    yield "three", run(sampler=dataclasses.replace(SAMPLER, n=3))


def everything() -> dict[str, np.ndarray]:
    """All results of this process, as arrays."""
    found: dict[str, np.ndarray] = {}
    with jax.enable_x64(True):
        for name, batch in batches():
            found |= {f"{name}: {field}": getattr(batch, field) for field in RESULT_FIELDS}
    for name, study in studies():
        for point, totals in enumerate(study.totals):
            found |= {f"{name}: {point} {field}": array for field, array in totals.arrays().items()}
        found |= {f"{name}: estimate {field}": getattr(study.estimates, field) for field in RESULT_FIELDS}
        found |= {f"{name}: {profile}": study.weights(profile).to_numpy() for profile in CONFIG.profiles}
        found[f"{name}: clusters"] = study.clusters().to_numpy()
        figures = study.universes().select_dtypes("number")
        found[f"{name}: universes"] = figures.to_numpy(float)
    return found


@functools.cache
def here() -> dict[str, np.ndarray]:
    """The results on one device."""
    return everything()


def elsewhere(n_devices: int, folder: Path) -> None:
    """What a process with several devices does: results to a file, and a study finished that others began."""
    assert len(jax.local_devices()) == n_devices
    with jax.enable_x64(True):
        panel = MARKET.to_numpy()
        engine = Engine(panel.shape, CONFIG, panel=panel)
        count = engine.sizes.group * n_devices - 1
        items = Items(weights=np.ones((count, T)), mask=np.ones((count, N)))
        chunk = engine.start(items)
        with jax.default_device(jax.local_devices()[1]):
            alone = Engine(panel.shape, CONFIG, panel=panel).start(items)
    assert [part.device for part in chunk.parts] == jax.local_devices()
    assert {part.device for part in alone.parts} == {jax.local_devices()[1]}
    assert same_bits(alone.allocation(), chunk.allocation()) == []
    np.savez(folder / "results.npz", **everything())
    run(out=folder / "begun", chunk_size=512, resume=True)
    interrupt(folder / "sent back")


@pytest.mark.parametrize("n_devices", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_every_number_of_devices_gives_the_same_bits(n_devices: int, tmp_path: Path) -> None:
    if len(jax.local_devices()) > 1 or jax.default_backend() != "cpu":
        pytest.skip("compares several CPU devices with one")
    interrupt(tmp_path / "begun")
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={n_devices}"
    code = f"import test_devices; test_devices.elsewhere({n_devices}, test_devices.Path({str(tmp_path)!r}))"
    subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=os.environ
        | {
            "XLA_FLAGS": flags,
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        timeout=SECONDS,
        check=True,
    )
    with np.load(tmp_path / "results.npz") as found:
        assert set(found) == set(here())
        differ = [name for name in here() if found[name].tobytes() != here()[name].tobytes()]
    assert differ == []
    # begun on one device and finished on several, and the other way round
    run(out=tmp_path / "sent back", chunk_size=512, resume=True)
    whole = here()
    for name in ("begun", "sent back"):
        study = ja.load_study(tmp_path / name)
        for profile in CONFIG.profiles:
            assert study.weights(profile).to_numpy().tobytes() == whole[f"study: {profile}"].tobytes(), name
        for field, array in study.totals[0].arrays().items():
            assert array.tobytes() == whole[f"study: 0 {field}"].tobytes(), f"{name}: {field}"
