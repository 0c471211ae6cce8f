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
from jaxalloc.portfolios.result import (
    BY_ASSET_FIELDS,
    PROFILE_FIELDS,
    RESULT_FIELDS,
    Allocation,
    universe_of,
    valid_universes,
)
from jaxalloc.portfolios.tables import ASSET_COLUMNS, CLUSTER_COLUMNS, asset_table, cluster_table
from jaxalloc.settings.status import Status
from jaxalloc.storage.arrays import Wanted, check_arrays
from jaxalloc.storage.csv import write_csv
from jaxalloc.storage.manifest import unfit
from jaxalloc.storage.names import MANIFEST
from jaxalloc.storage.parquet import arrays_from_parquet, arrays_to_table, to_parquet
from jaxalloc.storage.reader import StoredStudy
from jaxalloc.storage.schema import MisfitError
from jaxalloc.storage.writer import Store
from jaxalloc.studies.contents import check_study, record_of
from jaxalloc.studies.study import Study
from jaxalloc.studies.totals import Totals
from jaxalloc.universes.scenarios import Truth

if TYPE_CHECKING:
    import pyarrow as pa

BAGS = "bags"  # kind of a folder that holds nothing but `jaxalloc.studies.bags.Bags`
RECORD, CORRELATION, TRUTH = "study.json", "correlation.parquet", "truth.parquet"
COUNTED_FIELDS = ("cluster_labels", "n_clusters", "lead_assets", "iterations", "status")  # whole numbers


def load_study(folder: str | os.PathLike[str]) -> Study:
    """Load a finished study from its folder; universes are read from there when they are asked for.

    Raises:
        InputError: there is no study, it is not finished, or a file of it is damaged, or not as this package writes it.
    """
    return study_of(StoredStudy.open(folder))


def study_of(stored: StoredStudy) -> Study:
    """Return a finished study from its folder, as `load_study` does."""
    identity, name = stored.manifest.identity, unquoted(stored.folder)
    kind = identity.get("kind")
    if kind == "walk-forward":
        raise InputError(f"{name} holds a walk-forward; load it with load_walk_forward")
    if kind == BAGS:
        raise InputError(f"{name} holds sums over resamples; load the walk-forward that they belong to")
    if not stored.manifest.finished:
        raise InputError(f"the study in {name} is not finished; run it again with resume=True")
    try:
        settings = check_study(stored.manifest)
    except MisfitError as misfit:
        raise unfit(name, MANIFEST, misfit) from None
    state = stored.state()
    if state is None:
        raise InputError(f"the summary in {name} is damaged; run the study again with resume=True to redo it")
    n_assets = identity["data"]["n_assets"]
    estimates, totals = unpack(state[1], (len(settings), len(settings.config.profiles), n_assets), name)
    stored.check_results()
    record = stored.record(RECORD, record_of(n_assets))
    symbols = record.pop("symbols")
    del record["status_counts"], record["point_status"]
    simulated = TRUTH in stored.manifest.results
    return Study(
        symbols=symbols,
        settings=settings,
        n=identity["n"],
        seed=identity["seed"],
        precision=identity["precision"],
        estimates=estimates,
        totals=totals,
        record=record,
        tables=InFolder(stored) if identity["keep"] == "weights" else None,
        correlation=stored.parsed(CORRELATION, functools.partial(_correlation, n_assets)),
        truth=stored.parsed(TRUTH, functools.partial(_truth, n_assets)) if simulated else None,
    )


def _correlation(n_assets: int, data: bytes) -> np.ndarray:
    correlation = pd.read_parquet(io.BytesIO(data), engine="pyarrow").to_numpy()
    check_arrays({"the table": correlation}, {"the table": ("f", (n_assets, n_assets))})
    return correlation


def _truth(n_assets: int, data: bytes) -> Truth:
    arrays, n = arrays_from_parquet(data), n_assets
    check_arrays(arrays, {"mean": ("f", (n,)), "covariance": ("f", (n, n)), "tail_gain": ("f", (n,))})
    return Truth(**{name: arrays[name] for name in Truth._fields})


def pack(estimates: Allocation, totals: list[Totals]) -> dict[str, np.ndarray]:
    """Return the panel's own portfolios and the totals as named arrays."""
    arrays = {f"estimate.{name}": np.asarray(getattr(estimates, name)) for name in RESULT_FIELDS}
    for point, total in enumerate(totals):
        arrays |= {f"{point}.{name}": array for name, array in total.arrays().items()}
    return arrays


def unpack(arrays: dict[str, np.ndarray], sizes: tuple[int, int, int], name: str) -> tuple[Allocation, list[Totals]]:
    """Return the panel's own portfolios and the totals from what `pack` returned.

    Args:
        arrays: by name.
        sizes: how many points, profiles and assets there are.
        name: the study, as a message shows it.

    Raises:
        InputError: an array is missing, or is none of these.
    """
    n_points, n_profiles, n_assets = sizes
    totals = []
    try:
        check_arrays(arrays, _estimate_shapes(*sizes))
        for point in range(n_points):
            prefix = f"{point}."
            named = {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}
            check_arrays(named, {"counts.positive": ("i", (n_profiles, n_assets))})
            totals.append(Totals.from_arrays(named))
    except MisfitError as misfit:
        raise unfit(name, "summary", misfit) from None
    return Allocation(**{field: arrays[f"estimate.{field}"] for field in RESULT_FIELDS}), totals


def _estimate_shapes(n_points: int, n_profiles: int, n_assets: int) -> dict[str, Wanted]:
    """Kinds and shapes of the panel's own portfolios."""
    wanted: dict[str, Wanted] = {}
    for field in RESULT_FIELDS:
        kind = "b" if field == "aggressors" else "i" if field in COUNTED_FIELDS else "f"
        shape = (n_points, *([n_profiles] * (field in PROFILE_FIELDS)), *([n_assets] * (field in BY_ASSET_FIELDS)))
        wanted[f"estimate.{field}"] = (kind, shape)
    return wanted


@dataclasses.dataclass(frozen=True)
class InFolder:
    """`jaxalloc.studies.study.Tables` of a study's folder; pickled, it reads from the same folder."""

    stored: StoredStudy

    def __call__(self, names: Sequence[str]) -> Iterator[pa.Table]:
        """Yield the chunks' tables with these columns; raise `InputError` where they are none of this study's."""
        n_assets = self.stored.manifest.identity["data"]["n_assets"]
        for number, table in self.stored.chunks(names):
            for name, column in zip(table.column_names, table.columns, strict=True):
                if column.null_count or not _is_numeric(column.type, n_assets):
                    misfit = MisfitError(f"{name} must hold numbers, or {n_assets} in each row, not {column.type}")
                    raise unfit(unquoted(self.stored.folder), f"chunk {number}", misfit)
            yield table


def _is_numeric(kind: pa.DataType, n_assets: int) -> bool:
    """Whether the type of a chunk's column is that of numbers, or of lists of one for each asset."""
    import pyarrow as pa

    if pa.types.is_fixed_size_list(kind):
        return kind.list_size == n_assets and _is_numeric(kind.value_type, n_assets)
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)


def put_frame(store: Store, name: str, frame: pd.DataFrame) -> None:
    """Write a frame as one of a store's results, as CSV or Parquet by the name's ending."""
    stream = io.BytesIO()
    if name.endswith(".csv"):
        write_csv(frame, stream)
    else:
        frame.to_parquet(stream, engine="pyarrow")
    store.write_result(name, stream.getvalue())


def put_arrays(store: Store, name: str, arrays: dict[str, np.ndarray]) -> None:
    """Write named arrays as one of a store's results, in Parquet."""
    store.write_result(name, to_parquet(arrays_to_table(arrays), use_dictionary=False, write_statistics=False))


def put_record(store: Store, name: str, record: dict[str, Any]) -> None:
    """Write plain values as one of a store's results, in JSON."""
    text = json.dumps(record, ensure_ascii=False, indent=2) + "\n"
    store.write_result(name, text.encode())


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
