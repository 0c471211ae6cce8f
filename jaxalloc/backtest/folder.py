"""A walk-forward's folder: written when it is done, and loaded again."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd

from jaxalloc._version import __version__
from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import unquoted
from jaxalloc.backtest.schedule import Schedule
from jaxalloc.backtest.walk import History, WalkForward
from jaxalloc.markets.layout import label_text
from jaxalloc.markets.panel import Panel
from jaxalloc.settings.sweep import Sweep
from jaxalloc.storage.manifest import CHUNKS, LOCK, MANIFEST, STATE, read_manifest
from jaxalloc.storage.parquet import arrays_from_parquet, arrays_to_table, to_parquet
from jaxalloc.storage.reader import StoredStudy
from jaxalloc.storage.writer import Store
from jaxalloc.studies.folder import data_hash, load_study, put_frame, put_record
from jaxalloc.universes.bootstrap import Bootstrap

KIND = "walk-forward"
ALLOCATIONS, PATHS = "allocations", "paths"
RECORD, HISTORY, DATES, WEIGHTS = "walk_forward.json", "history.parquet", "dates.parquet", "weights.parquet"


def identity_of(
    panel: Panel,
    settings: Sweep,
    schedule: Schedule,
    costs_bps: float,
    execution: str,
    paths: Bootstrap | None,
    previous: np.ndarray,
    seed: int,
    precision: int,
) -> dict[str, Any]:
    """What a walk-forward's numbers depend on; one that is resumed must agree in all of it."""
    return {
        "kind": KIND,
        "data": {
            "sha256": data_hash(panel),
            "n_observations": panel.n_observations,
            "n_assets": panel.n_assets,
            "first": label_text(panel.dates[0]),
            "last": label_text(panel.dates[-1]),
        },
        "settings": {
            "config": dataclasses.asdict(settings.config),
            "grid": {name: list(values) for name, values in settings.grid},
        },
        "schedule": dataclasses.asdict(schedule),
        "costs_bps": costs_bps,
        "execution": execution,
        "paths": None if paths is None else paths.settings(),
        "previous_weights": hashlib.sha256(np.ascontiguousarray(previous, "<f8").tobytes()).hexdigest()
        if previous.any()
        else None,
        "seed": seed,
        "precision": precision,
        "versions": {"jaxalloc": __version__, "jax": jax.__version__, "numpy": np.__version__},
    }


def open_store(
    folder: str | os.PathLike[str], identity: dict[str, Any], resume: bool, fresh: bool, without_paths: bool
) -> Store:
    """Open a walk-forward's folder to write; a walk without paths that replaces one with paths removes these."""
    store = Store.open(folder, identity, resume=resume, fresh=fresh)
    if fresh and without_paths:
        with contextlib.ExitStack() as undo:
            undo.callback(store.close)
            remove_study(store.folder / PATHS)
            undo.pop_all()
    return store


def remove_study(folder: Path) -> None:
    """Remove the files of a study, or of a walk-forward alone, and its folder if there are no others."""
    if read_manifest(folder) is None:
        return
    Store.open(folder, {}, fresh=True).close()
    for name in (MANIFEST, LOCK):
        (folder / name).unlink(missing_ok=True)
    for path in (folder / CHUNKS, folder / STATE, folder):
        with contextlib.suppress(OSError):
            path.rmdir()


def write_results(walk: WalkForward, store: Store) -> None:
    """Write the files that `jaxalloc.backtest.run` lists, the record last."""
    put = functools.partial(put_frame, store)
    put("summary.csv", walk.summary())
    put("rebalances.csv", walk.rebalances())
    put("returns.csv", walk.returns.set_axis(_column_names(walk), axis=1))
    targets = [_with_points(walk, lambda g, profile=profile: walk.target(profile, g)) for profile in walk.profiles]
    put("target.csv", pd.concat(targets, keys=walk.profiles, names=["profile"]))
    if walk.path_figures is not None:
        put("paths.csv", walk.paths())
    weights = [walk.weights(profile) for profile in walk.profiles]
    put(WEIGHTS, pd.concat(weights, keys=walk.profiles, names=["profile"]))
    put(DATES, pd.DataFrame({"row": np.arange(len(walk.dates))}, index=walk.dates))
    arrays = {name: getattr(walk.history, name) for name in History._fields if name != "weights"}
    if walk.path_figures is not None:
        arrays["path_figures"] = walk.path_figures
    data = to_parquet(arrays_to_table(arrays), use_dictionary=False, write_statistics=False)
    store.write_result(HISTORY, lambda path: path.write_bytes(data))
    put_record(store, RECORD, walk.record | {"symbols": walk.symbols})
    store.finish()


def load_walk_forward(folder: str | os.PathLike[str]) -> WalkForward:
    """Load a finished walk-forward from its folder.

    Raises:
        InputError: there is none, it is not finished, or a file of it is damaged.
    """
    stored, name = StoredStudy.open(folder), unquoted(folder)
    identity = stored.manifest.identity
    if identity.get("kind") != KIND:
        raise InputError(f"{name} holds no walk-forward; load a study with load_study")
    if not stored.manifest.finished:
        raise InputError(f"the walk-forward in {name} is not finished; run it again with resume=True")
    record = json.loads(stored.result(RECORD))
    symbols = record.pop("symbols")
    allocations = load_study(stored.folder / ALLOCATIONS)
    arrays = arrays_from_parquet(stored.result(HISTORY))
    figures = arrays.pop("path_figures", None)
    n_points, n_profiles, n_held = arrays["turnover"].shape
    weights = pd.read_parquet(io.BytesIO(stored.result(WEIGHTS)), engine="pyarrow").to_numpy()
    weights = weights.reshape(n_profiles, n_points, n_held, len(symbols)).swapaxes(0, 1)
    dates = pd.read_parquet(io.BytesIO(stored.result(DATES)), engine="pyarrow").index
    return WalkForward(
        *(symbols, dates, allocations.settings, Schedule(**identity["schedule"]), identity["costs_bps"]),
        *(identity["execution"], identity["seed"], identity["precision"], History(weights=weights, **arrays)),
        path_figures=figures,
        allocations=allocations,
        path_allocations=None if identity["paths"] is None else load_study(stored.folder / PATHS),
        record=record,
    )


def _with_points(walk: WalkForward, table: Any) -> pd.DataFrame:
    return walk.allocations.over_points(table, None)


def _column_names(walk: WalkForward) -> list[str]:
    """A column's name in a file: the settings swept, then the profile."""
    names = walk.settings.names
    return [
        " ".join([*(f"{name}={value}" for name, value in zip(names, point, strict=True)), profile])
        for point in walk.settings.points
        for profile in walk.profiles
    ]
