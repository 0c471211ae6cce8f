"""Study: the result of `run_study`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from jaxalloc.arguments.errors import InputError
from jaxalloc.portfolios.result import Allocation, universe_of
from jaxalloc.settings.config import AllocationConfig
from jaxalloc.settings.sweep import Sweep
from jaxalloc.studies import tables
from jaxalloc.studies.measures import measure_estimate
from jaxalloc.studies.totals import Totals

if TYPE_CHECKING:
    import pyarrow as pa

# takes names of columns, returns the tables of the chunks in order
Tables = Callable[[Sequence[str]], Iterable["pa.Table"]]


@dataclasses.dataclass(frozen=True, eq=False)
class Study:
    """Portfolios of the universes drawn from one panel, and of the panel itself; NumPy and pandas only.

    N assets in the order of `symbols`, P profiles in the order of `profiles`, B draws (`n`), each allocated at every
    one of the G points of a sweep's grid (G = 1 without a sweep). Methods take ``at``, a point's number: of a study
    with one point the frames are plain; of a sweep they hold all points, the settings swept as first index levels,
    unless ``at`` chooses one.

    Attributes:
        symbols: the N assets.
        settings: the grid of settings.
        n: B, the number of draws.
        seed: with a universe's number, what it was drawn from.
        precision: 64 or 32, the bits of the numbers that it was computed with.
        estimates: the panel's own portfolios, `Allocation` with leading axis G. An asset with a gap has weight 0.
        totals: G `Totals`, what the universes add up to.
        record: what it was computed from and with, plain values: settings, sampler, seed, precision, a hash of the
            data, versions, device, time.
        tables: returns the chunks' tables; None if the study keeps no universes.
        correlation: (N, N) of the whole panel, as the settings at the point `Sweep.home` estimate it; NaN for an asset
            with a gap.
    """

    symbols: list[str]
    settings: Sweep
    n: int
    seed: int
    precision: int
    estimates: Allocation
    totals: list[Totals]
    record: dict[str, Any]
    tables: Tables | None
    correlation: np.ndarray

    @property
    def config(self) -> AllocationConfig:
        """The settings; of a sweep those that all points share."""
        return self.settings.config

    @property
    def profiles(self) -> tuple[str, ...]:
        """The P profiles."""
        return self.settings.config.profiles

    @property
    def n_valid(self) -> int:
        """Universes that have portfolios, over all points."""
        return int(sum(totals.tallies.n_valid for totals in self.totals))

    @property
    def point(self) -> Allocation:
        """The panel's own portfolios, without a batch axis; of a sweep at its first point."""
        return self.estimate(0)

    def estimate(self, at: int = 0) -> Allocation:
        """Return the panel's own portfolios at a point, `Allocation` without a batch axis."""
        return universe_of(self.estimates, self._point(at))

    def weights(self, profile: str, at: int | None = None) -> pd.DataFrame:
        """Return one profile's weights: a row a universe (index "universe"), a column an asset.

        Raises:
            InputError: the study has no such profile, or keeps no universes.
        """
        if profile not in self.profiles:
            raise InputError(f"the study has no profile {profile!r}; it has {', '.join(self.profiles)}")
        return self._by_asset(f"{profile}.weights", at)

    def clusters(self, at: int | None = None) -> pd.DataFrame:
        """Return the cluster labels: a row a universe (index "universe"), a column an asset; -1 where inactive.

        Raises:
            InputError: the study keeps no universes.
        """
        return self._by_asset("cluster_labels", at)

    def universes(self, at: int | None = None) -> pd.DataFrame:
        """Tabulate every universe's portfolios; see `jaxalloc.studies.tables.universe_table` for the columns.

        Raises:
            InputError: the study keeps no universes.
        """
        columns = self.columns(*tables.universe_columns(self.profiles), at=at)
        return tables.universe_table(columns, self.settings)

    def summary(self, at: int | None = None) -> pd.DataFrame:
        """Summarise each asset's weight, per profile; see `jaxalloc.studies.tables.asset_summary` for the columns."""
        return self.over_points(
            lambda g: tables.asset_summary(self.totals[g], self.estimates.weights[g], self.symbols, self.profiles), at
        )

    def profile_summary(self, at: int | None = None) -> pd.DataFrame:
        """Summarise each profile's portfolios; see `jaxalloc.studies.tables.profile_summary` for the columns."""

        def one(g: int) -> pd.DataFrame:
            estimated = measure_estimate(universe_of(self.estimates, g), self.settings.at(g))
            return tables.profile_summary(self.totals[g], estimated, self.profiles)

        return self.over_points(one, at)

    def status_counts(self, at: int | None = None) -> pd.DataFrame:
        """Count the universes with each `Status` bit: index "profile", a column a bit."""
        return self.over_points(lambda g: tables.status_counts(self.totals[g], self.profiles), at)

    def cluster_counts(self, at: int | None = None) -> pd.Series:
        """Count the valid universes by their number of clusters: index "n_clusters"."""
        return pd.Series(self.over_points(lambda g: tables.cluster_counts(self.totals[g]), at)["universes"])

    def co_association(self, at: int = 0) -> pd.DataFrame:
        """Tabulate how often two assets share a cluster; see `jaxalloc.studies.tables.co_association`."""
        return tables.co_association(self.totals[self._point(at)], self.symbols)

    def cluster_stability(self, at: int = 0) -> pd.DataFrame:
        """Tell how well the panel's own clusters hold; see `jaxalloc.studies.tables.cluster_stability`."""
        g = self._point(at)
        return tables.cluster_stability(self.totals[g], self.estimates.cluster_labels[g], self.symbols)

    def columns(self, *names: str, at: int | None = None) -> dict[str, np.ndarray]:
        """Return columns of the chunks' tables, a row a universe: (rows,) or (rows, N), of all points or of one.

        Raises:
            InputError: the study keeps no universes.
        """
        if self.tables is None:
            raise InputError("the study keeps summaries only; run it with keep='weights' to have its universes")
        parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
        chosen = None if at is None else self._point(at)
        for table in self.tables(list(dict.fromkeys(("point", *names)))):
            rows = slice(None) if chosen is None else table["point"].to_numpy() == chosen
            for name in names:
                parts[name].append(column_values(table[name])[rows])
        return {name: np.concatenate(arrays) for name, arrays in parts.items()}

    def over_points(self, table: Callable[[int], pd.DataFrame], at: int | None) -> pd.DataFrame:
        """Return the table of one point, or those of all below each other, the settings swept as first levels."""
        if at is not None or not self.settings.names:
            return table(self._point(at or 0))
        points = self.settings.points
        frames = [table(point) for point in range(len(points))]
        keys = [point[0] for point in points] if len(self.settings.names) == 1 else points
        return pd.concat(frames, keys=keys, names=[*self.settings.names, *frames[0].index.names])

    def _point(self, at: int) -> int:
        if not 0 <= at < len(self.settings):
            raise InputError(f"the study has points 0 to {len(self.settings) - 1}, not {at}")
        return at

    def _by_asset(self, column: str, at: int | None) -> pd.DataFrame:
        values = self.columns(column, at=at)[column]

        def one(point: int) -> pd.DataFrame:
            rows = values if at is not None else values[point * self.n : (point + 1) * self.n]
            index = pd.RangeIndex(self.n, name="universe")
            return pd.DataFrame(rows, index=index, columns=pd.Index(self.symbols, name="symbol"))

        return self.over_points(one, at)


def column_values(column: pa.ChunkedArray) -> np.ndarray:
    """Return a column as an array: (rows,), or (rows, N) of lists of N."""
    parts = []
    for part in column.chunks:
        if hasattr(part.type, "list_size"):
            parts.append(part.flatten().to_numpy(zero_copy_only=False).reshape(-1, part.type.list_size))
        else:
            parts.append(part.to_numpy(zero_copy_only=False))
    return np.concatenate(parts)


def in_memory(chunks: list[pa.Table]) -> Tables:
    """Return what selects columns of chunks' tables that are in memory."""

    def select(names: Sequence[str]) -> Iterator[pa.Table]:
        return (table.select(list(names)) for table in chunks)

    return select
