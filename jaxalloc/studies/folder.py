"""A study's folder: the files of its results, and how they are loaded."""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import unquoted
from jaxalloc.portfolios.result import RESULT_FIELDS, Allocation, universe_of, valid_universes
from jaxalloc.portfolios.tables import ASSET_COLUMNS, CLUSTER_COLUMNS, asset_table, cluster_table
from jaxalloc.settings.config import AllocationConfig
from jaxalloc.settings.status import Status
from jaxalloc.settings.sweep import Sweep
from jaxalloc.storage.csv import write_csv
from jaxalloc.storage.parquet import arrays_from_parquet, arrays_to_table, to_parquet
from jaxalloc.storage.reader import StoredStudy
from jaxalloc.storage.writer import Store
from jaxalloc.studies.study import Study
from jaxalloc.studies.totals import Totals
from jaxalloc.universes.scenarios import Truth

if TYPE_CHECKING:
    import pyarrow as pa

BAGS = "bags"  # kind of a folder that holds nothing but `jaxalloc.studies.bags.Bags`
RECORD, CORRELATION, TRUTH = "study.json", "correlation.parquet", "truth.parquet"


def load_study(folder: str | os.PathLike[str]) -> Study:
    """Load a finished study from its folder; universes are read from there when they are asked for.

    Raises:
        InputError: there is no study, it is not finished, or a file of it is damaged.
    """
    stored = StoredStudy.open(folder)
    kind = stored.manifest.identity.get("kind")
    if kind == "walk-forward":
        raise InputError(f"{unquoted(folder)} holds a walk-forward; load it with load_walk_forward")
    if kind == BAGS:
        raise InputError(f"{unquoted(folder)} holds sums over resamples; load the walk-forward that they belong to")
    state = stored.state()
    if not stored.manifest.finished:
        raise InputError(f"the study in {unquoted(folder)} is not finished; run it again with resume=True")
    if state is None:
        raise InputError(
            f"the summary in {unquoted(folder)} is damaged; run the study again with resume=True to redo it"
        )
    record = json.loads(stored.result(RECORD))
    symbols = record.pop("symbols")
    del record["status_counts"], record["point_status"]
    identity = stored.manifest.identity
    settings = identity["settings"]
    base = settings["config"] | {"profiles": tuple(settings["config"]["profiles"])}
    grid = tuple((name, tuple(values)) for name, values in settings["grid"].items())
    estimates, totals = unpack(state[1])
    return Study(
        symbols=symbols,
        settings=Sweep(AllocationConfig(**base), grid),
        n=identity["n"],
        seed=identity["seed"],
        precision=identity["precision"],
        estimates=estimates,
        totals=totals,
        record=record,
        tables=InFolder(stored) if identity["keep"] == "weights" else None,
        correlation=pd.read_parquet(io.BytesIO(stored.result(CORRELATION)), engine="pyarrow").to_numpy(),
        # not there unless returns were simulated
        truth=Truth(**arrays_from_parquet(stored.result(TRUTH))) if TRUTH in stored.manifest.results else None,
    )


def pack(estimates: Allocation, totals: list[Totals]) -> dict[str, np.ndarray]:
    """Return the panel's own portfolios and the totals as named arrays."""
    arrays = {f"estimate.{name}": np.asarray(getattr(estimates, name)) for name in RESULT_FIELDS}
    for point, total in enumerate(totals):
        arrays |= {f"{point}.{name}": array for name, array in total.arrays().items()}
    return arrays


def unpack(arrays: dict[str, np.ndarray]) -> tuple[Allocation, list[Totals]]:
    """Return the panel's own portfolios and the totals from what `pack` returned."""
    estimates = Allocation(**{name: arrays[f"estimate.{name}"] for name in RESULT_FIELDS})
    totals = []
    for point in range(len(estimates.status)):
        prefix = f"{point}."
        named = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
        totals.append(Totals.from_arrays(named))
    return estimates, totals


@dataclasses.dataclass(frozen=True)
class InFolder:
    """`jaxalloc.studies.study.Tables` of a study's folder; pickled, it reads from the same folder."""

    stored: StoredStudy

    def __call__(self, names: Sequence[str]) -> Iterator[pa.Table]:
        """Yield the chunks' tables with these columns."""
        return (table for _, table in self.stored.chunks(names))


def put_frame(store: Store, name: str, frame: pd.DataFrame) -> None:
    """Write a frame as one of a store's results, as CSV or Parquet by the name's ending."""
    if name.endswith(".csv"):
        store.write_result(name, lambda path: write_csv(frame, path))
    else:
        store.write_result(name, lambda path: frame.to_parquet(path, engine="pyarrow"))


def put_arrays(store: Store, name: str, arrays: dict[str, np.ndarray]) -> None:
    """Write named arrays as one of a store's results, in Parquet."""
    data = to_parquet(arrays_to_table(arrays), use_dictionary=False, write_statistics=False)
    store.write_result(name, lambda path: path.write_bytes(data))


def put_record(store: Store, name: str, record: dict[str, Any]) -> None:
    """Write plain values as one of a store's results, in JSON."""
    text = json.dumps(record, ensure_ascii=False, indent=2) + "\n"
    store.write_result(name, lambda path: path.write_text(text, encoding="utf-8"))


def write_results(study: Study, store: Store) -> None:
    """Write the files that `jaxalloc.studies.run` lists, the record last."""
    put = functools.partial(put_frame, store)
    put("summary.csv", study.summary())
    put("profiles.csv", study.profile_summary())
    if not study.settings.names:
        put("stability.csv", study.cluster_stability())
        put("co_association.parquet", study.co_association())
    names = pd.Index(study.symbols, name="symbol")
    put(CORRELATION, pd.DataFrame(study.correlation, index=names, columns=names.rename(None)))
    if study.truth is not None:
        put_arrays(store, TRUTH, study.truth._asdict())
    put("point_assets.csv", _point_tables(study, asset_table, ASSET_COLUMNS))
    put("point_clusters.csv", _point_tables(study, cluster_table, CLUSTER_COLUMNS))
    record = study.record | {
        "symbols": study.symbols,
        "status_counts": study.status_counts().reset_index().to_dict(orient="records"),
        "point_status": [
            {
                profile: [bit.name for bit in Status(int(status))]
                for profile, status in zip(study.profiles, statuses, strict=True)
            }
            for statuses in study.estimates.status
        ],
    }
    put_record(store, RECORD, record)
    store.finish()


def _point_tables(study: Study, table: Callable[..., pd.DataFrame], columns: tuple[str, ...]) -> pd.DataFrame:
    """The own portfolios' table of every profile, index "profile"; empty if the whole panel is no valid universe."""

    def one(point: int) -> pd.DataFrame:
        estimate, config = universe_of(study.estimates, point), study.settings.at(point)
        if not valid_universes(estimate.status):
            return pd.DataFrame(columns=columns, index=pd.Index([], name="profile"))
        tables = [table(estimate, profile, config, study.symbols) for profile in study.profiles]
        return pd.concat(tables, keys=study.profiles, names=["profile", "row"]).droplevel("row")

    return study.over_points(one, None)
