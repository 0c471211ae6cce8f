"""run_study(): how an allocation moves when its data is drawn anew, universe by universe.

A study's folder holds

- ``weights_<profile>.parquet``: `Study.weights`, a row a universe and a column an asset. The universes' numbers are a
  pandas range index, no column, so that a symbol may have any name;
- ``clusters.parquet``: `Study.clusters`, in the same layout;
- ``universes.parquet``: `Study.universes`, a row for each profile and universe;
- ``summary.csv``, ``profiles.csv``: `Study.summary` and `Study.profile_summary`;
- ``point_assets.csv``, ``point_clusters.csv``: the point estimate's `asset_table` and `cluster_table` for each profile,
  which is their first column; without rows if the whole panel is no valid universe;
- ``study.json``: `Study.record`, the symbols, and each status: how often, and of the point estimate.

In the CSV files a symbol that would be taken for a formula has an apostrophe in front; elsewhere it is as it was.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd

from jaxalloc import __version__
from jaxalloc.allocation import Allocation, valid_universes
from jaxalloc.batch import Engine
from jaxalloc.config import NUMERIC_FIELDS, AllocationConfig, check_config
from jaxalloc.data import Panel, as_panel
from jaxalloc.errors import InputError
from jaxalloc.status import Status
from jaxalloc.summary import (
    ASSET_COLUMNS,
    CLUSTER_COLUMNS,
    asset_summary,
    asset_table,
    cluster_table,
    profile_summary,
    status_counts,
    universe_table,
    write_csv,
)
from jaxalloc.tables import label_text
from jaxalloc.universes import Sampler, check_seed

RECORD = "study.json"


@dataclasses.dataclass(frozen=True, eq=False)
class Study:
    """Portfolios of B universes drawn from one panel, and of the panel itself; NumPy and pandas only.

    P profiles in the order of `profiles`, N assets in the order of `symbols`. In an invalid universe (`Status.INVALID`)
    the numbers are NaN, labels -1, counts 0.

    Attributes:
        symbols: the N assets.
        dates: (T,) row labels of the panel.
        config: settings, as Python numbers.
        sampler: how the universes were drawn.
        seed: with the universe's number, what it was drawn from.
        precision: 64 or 32, the bits of the numbers that it was computed with.
        asset_weights: (B, P, N) weight of each asset, a fraction; at least 0, sum 1, 0 for an inactive asset.
        cluster_labels: (B, N) int32, 0..K-1; -1 for an inactive asset.
        is_lead: (B, P, N) bool, the asset leads its cluster.
        n_clusters: (B,) int32 K.
        volatility: (B, P) annual volatility of the portfolio, a fraction.
        expected_return: (B, P) annual mean return of the portfolio, a fraction.
        optimality_gap: (B, P) how far the Layer-1 solution is from optimal, scale-free.
        status: (B, P) int32, bit field of `Status`.
        point: the point estimate, `Allocation` of the whole panel without a batch axis. Assets with a gap take no part.
        record: what it was computed from and with, plain values: settings, sampler, seed, precision, a hash of the
            data, versions, device, time.
    """

    symbols: list[str]
    dates: pd.Index
    config: AllocationConfig
    sampler: Sampler
    seed: int
    precision: int
    asset_weights: np.ndarray
    cluster_labels: np.ndarray
    is_lead: np.ndarray
    n_clusters: np.ndarray
    volatility: np.ndarray
    expected_return: np.ndarray
    optimality_gap: np.ndarray
    status: np.ndarray
    point: Allocation
    record: dict[str, Any]

    @property
    def n(self) -> int:
        """B, the number of universes."""
        return len(self.status)

    @property
    def profiles(self) -> tuple[str, ...]:
        """The P profiles."""
        return self.config.profiles

    @property
    def valid(self) -> np.ndarray:
        """(B,) bool, True where the universe has portfolios."""
        return valid_universes(self.status)

    @property
    def active(self) -> np.ndarray:
        """(B, N) bool, the assets that take part in each universe; none in an invalid one."""
        return self.cluster_labels >= 0

    def weights(self, profile: str) -> pd.DataFrame:
        """Return one profile's weights: a row a universe (index "universe"), a column an asset.

        Raises:
            InputError: the study has no such profile.
        """
        if profile not in self.profiles:
            raise InputError(f"the study has no profile {profile!r}; it has {', '.join(self.profiles)}")
        return self._by_asset(self.asset_weights[:, self.profiles.index(profile)])

    def clusters(self) -> pd.DataFrame:
        """Return the cluster labels: a row a universe (index "universe"), a column an asset; -1 where inactive."""
        return self._by_asset(self.cluster_labels)

    def summary(self) -> pd.DataFrame:
        """Summarise each asset's weight, per profile; see `jaxalloc.summary.asset_summary` for the columns."""
        return asset_summary(self)

    def profile_summary(self) -> pd.DataFrame:
        """Summarise each profile's portfolios; see `jaxalloc.summary.profile_summary` for the columns."""
        return profile_summary(self)

    def status_counts(self) -> pd.DataFrame:
        """Count the universes with each `Status` bit: index "profile", a column a bit."""
        return status_counts(self)

    def universes(self) -> pd.DataFrame:
        """Tabulate every universe's portfolios; see `jaxalloc.summary.universe_table` for the columns."""
        return universe_table(self)

    def _by_asset(self, values: np.ndarray) -> pd.DataFrame:
        index = pd.RangeIndex(self.n, name="universe")
        return pd.DataFrame(values, index=index, columns=pd.Index(self.symbols, name="symbol"))


def run_study(
    panel: Panel | pd.DataFrame,
    sampler: Sampler,
    config: AllocationConfig | None = None,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    *,
    precision: int = 64,
    chunk_size: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Study:
    """Allocate every universe that a sampler draws from a panel, and the panel itself (the point estimate).

    A universe's portfolios depend on the panel, the settings, the precision, the seed and its number alone: another
    chunk size gives the same bits. An asset is active in a universe if it has a return in every row that it holds.

    Args:
        panel: returns per period, as `read_returns` makes them; or a frame of them without gaps.
        sampler: such as `Bootstrap(n=1000)`.
        config: settings; `AllocationConfig()` by default.
        seed: 0 to 2**32 - 1; the same one draws the same universes anywhere.
        out: folder to write to; it must not exist yet, or be empty. It appears, whole, when everything has been
            computed, and is not there if that fails or is interrupted. The module's docstring lists its files.
        precision: 64 or 32 bits.
        chunk_size: universes computed at once, rounded up to whole tiles; by default about 256 MiB of covariances.
        progress: called with the number of universes done since the last call.

    Returns:
        `Study`.

    Raises:
        InputError: an argument, the data or the folder is at fault; raised before anything is computed.
        OSError: the results could not be written.

    Example:
        >>> import jaxalloc as ja
        >>> market = ja.datasets.synthetic_market(n_assets=12, n_observations=252)
        >>> config = ja.AllocationConfig(profiles=("risk_parity",))
        >>> study = run_study(market, ja.Bootstrap(n=100, method="circular", block_length=21), config)
        >>> study.weights("risk_parity").shape
        (100, 12)
    """
    panel = as_panel(panel)
    config = _plain(check_config(AllocationConfig() if config is None else config))
    if not isinstance(sampler, Sampler):
        raise InputError(f"sampler must draw universes, such as Bootstrap(n=1000), not be {sampler!r}")
    sampler.check(panel.n_observations)
    seed = check_seed(seed)
    if precision not in (32, 64):
        raise InputError(f"precision must be 32 or 64 bits, not {precision!r}")
    with _results_folder(out) as folder, jax.enable_x64(precision == 64):
        started = time.monotonic()
        engine = Engine(panel.values, config, chunk_size)
        record = _record(panel, config, sampler, seed, precision)
        results = _compute(engine, panel.values, sampler, seed, progress)
        record["seconds"] = round(time.monotonic() - started, 3)
        study = Study(panel.symbols, panel.dates, config, sampler, seed, precision, **results, record=record)
        if folder is not None:
            _save(study, folder)
    return study


def _compute(
    engine: Engine, returns: np.ndarray, sampler: Sampler, seed: int, progress: Callable[[int], None] | None
) -> dict[str, Any]:
    """Arrays of `Study`, chunk by chunk, and its point estimate."""
    gaps = ~np.isfinite(returns)
    everything = np.ones((1, len(returns)), np.int32)
    ((_, whole),) = engine.run(everything, _complete(everything, gaps))
    results = _empty_results(sampler.n, whole)
    for start in range(0, sampler.n, engine.chunk_size):
        counts = sampler.counts(len(returns), seed, start, min(start + engine.chunk_size, sampler.n))
        for index, allocation in engine.run(counts, _complete(counts, gaps)):
            for name, values in _kept(allocation).items():
                results[name][start + index] = values
            if progress is not None:
                progress(len(index))
    return results | {"point": jax.tree.map(lambda leaf: leaf[0], whole)}


def _complete(counts: np.ndarray, gaps: np.ndarray) -> np.ndarray:
    """(C, N) bool, the assets without a gap in the rows that each universe holds."""
    complete = np.ones((len(counts), gaps.shape[1]), bool)
    some = np.flatnonzero(gaps.any(axis=0))
    # as floats, which NumPy multiplies much faster; they are exact, for they count at most T
    complete[:, some] = (counts > 0).astype(np.float32) @ gaps[:, some].astype(np.float32) == 0
    return complete


def _kept(allocation: Allocation) -> dict[str, np.ndarray]:
    """What a study keeps of a batch's `Allocation`, by the names of `Study`."""
    names = ("cluster_labels", "n_clusters", "volatility", "expected_return", "optimality_gap", "status")
    leads = np.zeros(allocation.weights.shape, bool)
    universe, profile, cluster = np.nonzero(allocation.lead_assets >= 0)
    leads[universe, profile, allocation.lead_assets[universe, profile, cluster]] = True
    return {"asset_weights": allocation.weights, "is_lead": leads} | {name: getattr(allocation, name) for name in names}


def _empty_results(count: int, example: Allocation) -> dict[str, np.ndarray]:
    """Arrays for ``count`` universes, shaped as those of ``example``, a batch."""
    return {name: np.empty((count, *values.shape[1:]), values.dtype) for name, values in _kept(example).items()}


# ---- the record -----------------------------------------------------------------------------------------------------


def _plain(config: AllocationConfig) -> AllocationConfig:
    """The settings with Python numbers, whatever they came as."""
    numbers = {name: np.asarray(getattr(config, name)).item() for name in NUMERIC_FIELDS}
    return config.replace(profiles=tuple(config.profiles), **numbers)


def _record(panel: Panel, config: AllocationConfig, sampler: Sampler, seed: int, precision: int) -> dict[str, Any]:
    import jaxlib.version

    device = jax.devices()[0]
    return {
        "config": dataclasses.asdict(config),
        "sampler": sampler.settings(),
        "seed": seed,
        "precision": precision,
        "data": {
            "sha256": data_hash(panel),
            "n_observations": panel.n_observations,
            "n_assets": panel.n_assets,
            "first": label_text(panel.dates[0]),
            "last": label_text(panel.dates[-1]),
            "notes": list(panel.notes),
        },
        "versions": {
            "jaxalloc": __version__,
            "jax": jax.__version__,
            "jaxlib": jaxlib.version.__version__,
            "numpy": np.__version__,
        },
        "device": f"{device.platform} ({device.device_kind})",
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def data_hash(panel: Panel) -> str:
    """SHA-256 of a panel's symbols, dates and returns (all gaps are alike), in hexadecimal."""
    values = np.where(np.isnan(panel.values), np.nan, panel.values)
    labels = json.dumps([panel.symbols, [str(date) for date in panel.dates]])
    return hashlib.sha256(labels.encode() + np.ascontiguousarray(values, "<f8").tobytes()).hexdigest()


# ---- the folder -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _results_folder(out: str | os.PathLike[str] | None) -> Iterator[Path | None]:
    """Yield a temporary folder that becomes ``out`` at the end, or disappears if there is an exception."""
    if out is None:
        yield None
        return
    target = Path(os.path.realpath(out))
    name = repr(str(target))[1:-1]  # escapes what could break a message's single line
    with contextlib.ExitStack() as undo:
        try:
            if target.exists() and not (target.is_dir() and not any(target.iterdir())):
                kind = "folder with files in it" if target.is_dir() else "file"
                raise InputError(f"{name} is a {kind}; nothing is overwritten: choose another folder, or delete it")
            missing = [folder for folder in target.parents if not folder.exists()]
            # An empty folder is filled from inside: it may be a mount point, or where the user stands. Otherwise the
            # temporary one lies beside the name that it will get.
            inside = target.exists()
            temporary = (target if inside else target.parent) / f".{target.name}.{uuid.uuid4().hex[:12]}.partial"
            for folder in reversed(missing):  # undone from the last to the first: the deepest one goes first
                undo.callback(_discard_empty, folder)
            undo.callback(shutil.rmtree, temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
        except OSError as error:
            raise InputError(f"{name}: cannot write there ({error.strerror}); choose another folder") from None
        yield temporary
        if inside:
            # the record goes last: where it is, the rest is
            for file in sorted(temporary.iterdir(), key=lambda file: file.name == RECORD):
                undo.callback((target / file.name).unlink, missing_ok=True)
                file.rename(target / file.name)
            temporary.rmdir()
        else:
            temporary.rename(target)
        undo.pop_all()


def _discard_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def _save(study: Study, folder: Path) -> None:
    """Write the files that the module's docstring lists."""
    frames = {f"weights_{profile}": study.weights(profile) for profile in study.profiles}
    frames |= {"clusters": study.clusters(), "universes": study.universes()}
    for name, frame in frames.items():
        frame.to_parquet(folder / f"{name}.parquet", engine="pyarrow")
    write_csv(study.summary(), folder / "summary.csv")
    write_csv(study.profile_summary(), folder / "profiles.csv")
    write_csv(_point_tables(study, asset_table, ASSET_COLUMNS), folder / "point_assets.csv")
    write_csv(_point_tables(study, cluster_table, CLUSTER_COLUMNS), folder / "point_clusters.csv")
    counts = study.status_counts()
    record = study.record | {
        "symbols": study.symbols,
        "status_counts": {profile: counts.loc[profile].to_dict() for profile in study.profiles},
        "point_status": {
            profile: [bit.name for bit in Status(int(status))]
            for profile, status in zip(study.profiles, study.point.status, strict=True)
        },
    }
    text = json.dumps(record, ensure_ascii=False, indent=2)
    (folder / RECORD).write_text(text + "\n", encoding="utf-8")


def _point_tables(study: Study, table: Callable[..., pd.DataFrame], columns: tuple[str, ...]) -> pd.DataFrame:
    """The point estimate's table of every profile, index "profile"; empty if the whole panel is no valid universe."""
    if not valid_universes(study.point.status):
        return pd.DataFrame(columns=columns, index=pd.Index([], name="profile"))
    tables = [table(study.point, profile, study.config, study.symbols) for profile in study.profiles]
    return pd.concat(tables, keys=study.profiles, names=["profile", "row"]).droplevel("row")
