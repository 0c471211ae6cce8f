"""A walk-forward's folder: its identity, the files of its results, and how they are loaded."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import unquoted
from jaxalloc.backtest.plan import WalkPlan
from jaxalloc.backtest.schedule import Schedule
from jaxalloc.backtest.walk import History, WalkForward
from jaxalloc.markets.source import Source
from jaxalloc.settings.measures import FIGURES
from jaxalloc.storage.manifest import CHUNKS, LOCK, MANIFEST, STATE, read_manifest
from jaxalloc.storage.parquet import arrays_from_parquet
from jaxalloc.storage.reader import StoredStudy
from jaxalloc.storage.writer import Store
from jaxalloc.studies.folder import load_study, put_arrays, put_frame, put_record
from jaxalloc.studies.identity import settings_entry, versions_entry

KIND = "walk-forward"
ALLOCATIONS, PATHS = "allocations", "paths"
RECORD, HISTORY, DATES, WEIGHTS = "walk_forward.json", "history.parquet", "dates.parquet", "weights.parquet"


def identity_of(plan: WalkPlan, source: Source) -> dict[str, Any]:
    """Return a walk-forward's identity; a walk-forward that is resumed must agree in all of it."""
    previous = np.ascontiguousarray(plan.previous, "<f8")
    return {
        "kind": KIND,
        "data": source.data,
        "settings": settings_entry(plan.settings),
        "schedule": plan.schedule.record(),
        "costs_bps": plan.costs_bps,
        "execution": plan.execution,
        "paths": None if plan.paths is None else plan.paths.settings(),
        "previous_weights": hashlib.sha256(previous.tobytes()).hexdigest() if previous.any() else None,
        "max_missing": plan.windows.max_missing,
        "seed": plan.seed,
        "precision": plan.precision,
        # portfolios are held in NumPy; the studies have the version of jaxlib
        "versions": {name: version for name, version in versions_entry().items() if name != "jaxlib"},
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
    targets = [walk.over_points(lambda g, profile=profile: walk.target(profile, g), None) for profile in walk.profiles]
    put("target.csv", pd.concat(targets, keys=walk.profiles, names=["profile"]))
    if walk.path_figures is not None:
        put("paths.csv", walk.paths())
    weights = [walk.weights(profile) for profile in walk.profiles]
    put(WEIGHTS, pd.concat(weights, keys=walk.profiles, names=["profile"]))
    put(DATES, pd.DataFrame({"row": np.arange(len(walk.dates))}, index=walk.dates))
    arrays = {name: getattr(walk.history, name) for name in History._fields if name != "weights"}
    if walk.path_figures is not None:
        arrays["path_figures"] = walk.path_figures
    put_arrays(store, HISTORY, arrays)
    put_record(store, RECORD, walk.record | {"symbols": walk.symbols, "figures": list(FIGURES)})
    store.finish()


def load_walk_forward(folder: str | os.PathLike[str]) -> WalkForward:
    """Load a finished walk-forward from its folder.

    Raises:
        InputError: there is none, it is not finished, a file of it is damaged, or it was written with other measures.
    """
    stored, name = StoredStudy.open(folder), unquoted(folder)
    identity = stored.manifest.identity
    if identity.get("kind") != KIND:
        raise InputError(f"{name} holds no walk-forward; load a study with load_study")
    if not stored.manifest.finished:
        raise InputError(f"the walk-forward in {name} is not finished; run it again with resume=True")
    record = json.loads(stored.result(RECORD))
    symbols = record.pop("symbols")
    if record.pop("figures", None) != list(FIGURES):
        raise InputError(
            f"{name} was written by a version of jaxalloc with other measures; run the walk-forward again with "
            "resume=True, which keeps its allocations"
        )
    allocations = load_study(stored.folder / ALLOCATIONS)
    arrays = arrays_from_parquet(stored.result(HISTORY))
    figures = arrays.pop("path_figures", None)
    n_points, n_profiles, n_held = arrays["turnover"].shape
    weights = pd.read_parquet(io.BytesIO(stored.result(WEIGHTS)), engine="pyarrow").to_numpy()
    weights = weights.reshape(n_profiles, n_points, n_held, len(symbols)).swapaxes(0, 1)
    dates = pd.read_parquet(io.BytesIO(stored.result(DATES)), engine="pyarrow").index
    return WalkForward(
        symbols=symbols,
        dates=dates,
        settings=allocations.settings,
        schedule=Schedule.of_record(identity["schedule"]),
        costs_bps=identity["costs_bps"],
        execution=identity["execution"],
        seed=identity["seed"],
        precision=identity["precision"],
        history=History(weights=weights, **arrays),
        path_figures=figures,
        allocations=allocations,
        path_allocations=None if identity["paths"] is None else load_study(stored.folder / PATHS),
        record=record,
    )


def _column_names(walk: WalkForward) -> list[str]:
    """A column's name in a file: the settings swept, then the profile."""
    names = walk.settings.names
    return [
        " ".join([*(f"{name}={value}" for name, value in zip(names, point, strict=True)), profile])
        for point in walk.settings.points
        for profile in walk.profiles
    ]
