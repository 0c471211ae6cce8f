"""A walk-forward's folder: its identity, the files of its results, and how they are loaded."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.paths import real_path
from jaxalloc.arguments.words import unquoted
from jaxalloc.backtest.bagging import Bagged
from jaxalloc.backtest.benchmark import Benchmark
from jaxalloc.backtest.contents import Sizes, check_walk, read_dates, read_history, read_weights, walk_record_of
from jaxalloc.backtest.plan import WalkPlan
from jaxalloc.backtest.points import walk_settings
from jaxalloc.backtest.schedule import Schedule
from jaxalloc.backtest.walk import History, WalkForward
from jaxalloc.markets.source import Source
from jaxalloc.settings.measures import FIGURES
from jaxalloc.storage.manifest import unfit
from jaxalloc.storage.names import MANIFEST
from jaxalloc.storage.place import Place
from jaxalloc.storage.reader import StoredStudy
from jaxalloc.storage.recovery import manifest_of, read_manifest
from jaxalloc.storage.schema import MisfitError
from jaxalloc.storage.writer import Store
from jaxalloc.studies.folder import put_arrays, put_frame, put_record, study_of
from jaxalloc.studies.identity import settings_entry, versions_entry

KIND = "walk-forward"
ALLOCATIONS, PATHS = "allocations", "paths"
BAGS, PATH_BAGS = "bags", "path-bags"
_OF_HOLDING = (  # of a walk-forward's identity
    *("band", "max_turnover", "costs_bps", "execution", "previous_weights"),
    *("benchmark", "benchmark_sha256"),
)
RECORD, HISTORY, DATES, WEIGHTS = "walk_forward.json", "history.parquet", "dates.parquet", "weights.parquet"


def identity_of(plan: WalkPlan, source: Source) -> dict[str, Any]:
    """Return a walk-forward's identity; a walk-forward that is resumed must agree in all of it."""
    previous = np.ascontiguousarray(plan.previous, "<f8")
    return {
        "kind": KIND,
        "data": source.data,
        "settings": settings_entry(plan.settings),
        "schedule": plan.schedule.record(),
        **plan.points.record(),
        "execution": plan.execution,
        "paths": None if plan.paths is None else plan.paths.settings(),
        "previous_weights": hashlib.sha256(previous.tobytes()).hexdigest() if previous.any() else None,
        "max_missing": plan.windows.max_missing,
        "seed": plan.seed,
        "precision": plan.precision,
        **({} if plan.bagging is None else {"bagging": plan.bagging.settings()}),
        **({} if plan.benchmark is None else plan.benchmark.identity()),
        # portfolios are held in NumPy; the studies have the versions of what compiles kernels
        "versions": {name: version for name, version in versions_entry().items() if name not in ("jaxlib", "numba")},
    }


def has_allocations(folder: str | os.PathLike[str], identity: dict[str, Any]) -> bool:
    """Tell whether a folder holds a walk-forward on the same allocations, which differs in how they are held alone."""
    manifest = read_manifest(folder)
    if manifest is None or manifest.identity.get("kind") != KIND:
        return False
    now = json.loads(json.dumps(identity))
    differing = {name for name in manifest.identity | now if manifest.identity.get(name) != now.get(name)}
    return bool(differing) and differing <= set(_OF_HOLDING)


def open_store(
    folder: str | os.PathLike[str], identity: dict[str, Any], resume: bool, fresh: bool, studies: Iterable[str]
) -> Store:
    """Open a walk-forward's folder to write.

    Args:
        folder: of the walk-forward.
        identity: what is computed.
        resume: as `Store.open` takes it.
        fresh: likewise; the studies of the one that is replaced go, unless they are replaced themselves.
        studies: names of those that are to be computed.
    """
    check_subfolders(folder, (ALLOCATIONS, PATHS, BAGS, PATH_BAGS))
    store = Store.open(folder, identity, resume=resume, fresh=fresh)
    if fresh:
        with contextlib.ExitStack() as undo:
            undo.callback(store.close)
            for name in {PATHS, BAGS, PATH_BAGS} - set(studies):
                remove_study(store.folder / name)
            undo.pop_all()
    return store


def check_subfolders(folder: str | os.PathLike[str], names: Iterable[str]) -> None:
    """Raise `InputError` where a study's folder within this one is a link or no folder, before anything is removed."""
    path = real_path(folder)
    for name in names if path.is_dir() else ():
        Place(path, name).names()  # refuses what is no folder


def remove_study(folder: Path) -> None:
    """Remove the files of a study within a folder of ours, and its own folder if there are no others."""
    if manifest_of(folder) is not None:
        Store.open(folder, {}, fresh=True, inside=True).remove()


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
    if walk.bagged is not None:
        arrays |= {f"{BAGS}.{name}": array for name, array in walk.bagged._asdict().items()}
    if walk.benchmark is not None:
        put("benchmark.csv", walk.benchmark_returns.to_frame())
        arrays["benchmark"] = walk.benchmark.returns
    put_arrays(store, HISTORY, arrays)
    put_record(store, RECORD, walk.record | {"symbols": walk.symbols, "figures": list(FIGURES)})
    store.finish()


def add_table(folder: str | os.PathLike[str], name: str, frame: pd.DataFrame) -> None:
    """Write a table into the folder of a finished walk-forward, as one of its files."""
    with Store.open(folder, StoredStudy.open(folder).manifest.identity, resume=True) as store:
        put_frame(store, name, frame)


def load_walk_forward(folder: str | os.PathLike[str]) -> WalkForward:
    """Load a finished walk-forward from its folder.

    Raises:
        InputError: there is none, it is not finished, an earlier version wrote it, a file of it is damaged, or it was
            written with other measures.
    """
    stored, name = StoredStudy.open(folder), unquoted(folder)
    identity = stored.manifest.identity
    if identity.get("kind") != KIND:
        raise InputError(f"{name} holds no walk-forward; load a study with load_study")
    if not stored.manifest.finished:
        raise InputError(f"the walk-forward in {name} is not finished; run it again with resume=True")
    if "band" not in identity:
        raise InputError(
            f"the walk-forward in {name} is an earlier version's, whose turnover was what is traded, bought plus sold; "
            "run it again with fresh=True"
        )
    try:
        check_walk(identity)
    except MisfitError as misfit:
        raise unfit(name, MANIFEST, misfit) from None
    stored.check_results()
    n_rows, n_assets = (identity["data"][field] for field in ("n_observations", "n_assets"))
    record = stored.record(RECORD, walk_record_of(n_assets))
    symbols = record.pop("symbols")
    if record.pop("figures", None) != list(FIGURES):
        raise InputError(
            f"{name} was written by a version of jaxalloc with other measures; run the walk-forward again with "
            "resume=True, which keeps its allocations"
        )
    allocations = study_of(StoredStudy.open(stored.folder / ALLOCATIONS, inside=True))
    paths = None if identity["paths"] is None else study_of(StoredStudy.open(stored.folder / PATHS, inside=True))
    if allocations.symbols != symbols:
        raise InputError(f"the study in {unquoted(stored.folder / ALLOCATIONS)} is of other assets than {name}")
    settings = walk_settings(
        allocations.settings, **{field: identity[field] for field in ("band", "max_turnover", "costs_bps")}
    )
    schedule = Schedule.of_record(identity["schedule"])
    sizes = Sizes.of(settings, schedule, n_assets)
    arrays = stored.parsed(HISTORY, functools.partial(read_history, sizes, identity))
    bagged = None
    if "bagging" in identity:
        bagged = Bagged(**{field: arrays.pop(f"{BAGS}.{field}") for field in Bagged._fields})
    benchmark = None
    if "benchmark" in identity:
        benchmark = Benchmark(name=identity["benchmark"], returns=arrays.pop("benchmark"))
    figures = arrays.pop("path_figures", None)
    weights = stored.parsed(WEIGHTS, functools.partial(read_weights, sizes))
    return WalkForward(
        symbols=symbols,
        dates=stored.parsed(DATES, functools.partial(read_dates, n_rows)),
        settings=settings,
        schedule=schedule,
        execution=identity["execution"],
        seed=identity["seed"],
        precision=identity["precision"],
        history=History(weights=weights, **{field: arrays[field] for field in History._fields if field != "weights"}),
        path_figures=figures,
        bagged=bagged,
        allocations=allocations,
        path_allocations=paths,
        record=record,
        benchmark=benchmark,
    )


def _column_names(walk: WalkForward) -> list[str]:
    """A column's name in a file: the settings swept, then the profile."""
    names = walk.settings.names
    return [
        " ".join([*(f"{name}={value}" for name, value in zip(names, point, strict=True)), profile])
        for point in walk.settings.points
        for profile in walk.profiles
    ]
