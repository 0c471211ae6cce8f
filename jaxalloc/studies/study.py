"""Study: the result of `run_study`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.numbers import whole_number
from jaxalloc.arguments.plotting import Drawable
from jaxalloc.arguments.words import counted, cut
from jaxalloc.portfolios.result import Allocation, universe_of
from jaxalloc.settings.config import AllocationConfig
from jaxalloc.settings.measures import UNIVERSE_MEASURE
from jaxalloc.settings.sweep import Sweep, as_sweep
from jaxalloc.studies import regret, tables
from jaxalloc.studies.measures import measure_estimate
from jaxalloc.studies.plan import Plan
from jaxalloc.studies.recommendation import Evidence, Recommendation, compare, recommend
from jaxalloc.studies.sensitivity import Sensitivity, sensitivity_of
from jaxalloc.studies.totals import Totals
from jaxalloc.universes.scenarios import Truth

if TYPE_CHECKING:
    import pyarrow as pa

_SHOWN = ("volatility", "expected_return", "effective_assets", "effective_clusters", "turnover")  # in a notebook
_ROWS_SHOWN = 20  # likewise
_NO_UNIVERSES = "the study keeps summaries only; run it with keep='weights' to have its universes"

# takes names of columns, returns the tables of the chunks in order
Tables = Callable[[Sequence[str]], Iterable["pa.Table"]]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Study(Drawable):
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
        truth: the distribution that the universes were drawn from, where `Parametric` drew them; else None.
        plan: what its universes are drawn from, where it was run in this process; None where it was loaded.
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
    truth: Truth | None = None
    plan: Plan | None = None

    def __repr__(self) -> str:
        """At most five lines: sizes, data, profiles and settings that vary."""
        total = self.n * len(self.settings)
        lines = [f"Study: {counted(self.n, 'universe')} of {counted(len(self.symbols), 'asset')}"]
        if self.settings.names:
            lines[0] += f", each at {counted(len(self.settings), 'point')} of {', '.join(self.settings.names)}"
        if self.n_valid < total:
            lines[0] += f"; {total - self.n_valid:,} of {total:,} invalid"
        lines.append(f"profiles: {', '.join(self.profiles)}")
        lines += data_lines(self.record)
        return "\n".join(map(cut, lines))

    def _repr_html_(self) -> str:
        """A row for each profile (and point of a sweep): means of measures over the universes; names are escaped."""
        means: Any = self.profile_summary()["mean"].unstack("measure")
        measures = [UNIVERSE_MEASURE[name] for name in _SHOWN]
        columns = {measure.heading: means[measure.name].map(measure.write) for measure in measures}
        return pd.DataFrame(columns).to_html(max_rows=_ROWS_SHOWN)

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
        """Return the panel's own portfolios at a point, `Allocation` without a batch axis, with the names."""
        estimate = universe_of(self.estimates, self._point(at))
        return dataclasses.replace(estimate, symbols=tuple(self.symbols), profiles=tuple(self.profiles))

    def weights(self, profile: str, at: int | None = None) -> pd.DataFrame:
        """Return one profile's weights: a row a universe (index "universe"), a column an asset.

        Raises:
            InputError: the study has no such profile, or keeps no universes.
        """
        self._number(profile)
        return self._by_asset(f"{profile}.weights", at)

    def clusters(self, at: int | None = None) -> pd.DataFrame:
        """Return the cluster labels: a row a universe (index "universe"), a column an asset; -1 where inactive.

        Raises:
            InputError: the study keeps no universes.
        """
        return self._by_asset("cluster_labels", at)

    def universes(self, at: int | None = None) -> pd.DataFrame:
        """Tabulate every universe's portfolios.

        Args:
            at: number of a point of a sweep's grid; all points by default.

        Returns:
            Frame of a row a universe and profile, by profile and within it by universe (in a sweep by point first, with
            the settings swept as first columns), with the columns universe (from 0), profile, valid (bool), n_clusters,
            n_assets (active ones), the measures that `profile_summary` explains, optimality_gap, status (bit field of
            `Status`). In an invalid universe the measures are NaN, the counts 0.

        Raises:
            InputError: the study keeps no universes.
        """
        columns = self.columns(*tables.universe_columns(self.profiles), at=at)
        return tables.universe_table(columns, self.settings)

    def summary(self, at: int | None = None) -> pd.DataFrame:
        """Summarise each asset's weight over the valid universes in which it is active.

        In a sweep of several points the settings swept are the first levels of the index.

        Args:
            at: number of a point of a sweep's grid; all points by default.

        Returns:
            Frame with the index ("profile", "symbol") and the columns

            - point: weight in the panel's own portfolio; 0 if the asset is inactive there, NaN if there is none;
            - mean, std (divisor count - 1);
            - q05, q25, q50, q75, q95: linear quantiles, off by less than 0.8 % of the weight, or 1e-6 (see
              `jaxalloc.studies.totals`);
            - frequency_positive: share of those universes with a weight above 1e-6;
            - frequency_binding: with a weight within 1e-6 of the asset's bound (no bound applies to a sleeve);
            - frequency_lead: in which it leads its cluster;
            - frequency_sleeve: in which it is in the barbell's sleeve; 0 in other profiles;
            - n_universes: how many those are. NaN stands where there is none.
        """
        return self.over_points(
            lambda g: tables.asset_summary(self.totals[g], self.estimates.weights[g], self.symbols, self.profiles), at
        )

    def bagged(self, profile: str, at: int | None = None) -> pd.DataFrame:
        """Return a profile's bagged portfolio: the mean of its weights over the universes (Breiman, 1996).

        Universes of resamples make it Michaud's resampled portfolio (1998). An asset that is not active in a universe
        counts as 0 there; invalid universes are left out.

        Args:
            profile: one of `profiles`.
            at: number of a point of a sweep's grid; all points by default.

        Returns:
            Frame with the index "symbol" and the columns weight (at least 0, sum 1) and standard_error (standard
            deviation over the universes, divisor n - 1: of the portfolio that one universe decides on, and over the
            square root of n, of the mean). NaN where no universe is valid.

        Raises:
            InputError: there is no such profile or point.
        """
        p = self._number(profile)
        return self.over_points(lambda g: tables.bagged_weights(self.totals[g], p, self.symbols), at)

    def profile_summary(self, at: int | None = None) -> pd.DataFrame:
        """Summarise each profile's portfolios over the valid universes.

        In a sweep of several points the settings swept are the first levels of the index.

        Args:
            at: number of a point of a sweep's grid; all points by default.

        Returns:
            Frame with the index ("profile", "measure"); measure is one of

            - volatility, expected_return: annual, fractions, by the universe's own estimates;
            - sharpe: of those two, after ``risk_free_rate``: the ratio in sample, as out_of_bag_sharpe is out of it;
            - effective_assets, effective_clusters: 1 / sum x^2 over the weights of assets, of clusters;
            - effective_bets: exp(- sum p ln p) over the clusters' shares p in the variance, those below 0 left out and
              the others scaled to sum 1: the number of clusters that, with equal shares, would be as diverse (the
              entropy form of Meucci, 2009);
            - concentration: sum x^2 over assets, the Herfindahl index;
            - turnover: sum |x - x0| / 2 over the universe's active assets, x0 the panel's own portfolio;
            - out_of_bag_return, out_of_bag_volatility, out_of_bag_sharpe: annual, of constant weights over the rows
              that a bootstrap resample leaves out and where all that is held has a return; volatility with divisor
              count - 1; not counted under 20 rows. A shock does not reach those rows.

            The columns are point (of the panel's own portfolio), mean, std (divisor count - 1), q05, q25, q50, q75, q95
            (linear quantiles, off by less than 0.4 %, see `jaxalloc.studies.totals`), n_universes (those counted),
            valid_share (share of all universes that are valid).
        """

        def one(g: int) -> pd.DataFrame:
            estimated = measure_estimate(universe_of(self.estimates, g), self.settings.at(g))
            return tables.profile_summary(self.totals[g], estimated, self.profiles)

        return self.over_points(one, at)

    def comparison(self, at: int | None = None) -> pd.DataFrame:
        """Return the profiles side by side, as `jaxalloc.studies.recommendation.compare` says.

        Args:
            at: number of a point of a sweep's grid; by default that with the settings that the sweep started from.

        Returns:
            Frame with the index "measure", a column a profile.
        """
        return compare(self._evidence(at))

    def recommendation(self, at: int | None = None) -> Recommendation:
        """Return which profile to hold, and why; the rules are those of `jaxalloc.studies.recommendation`.

        Args:
            at: as in `comparison`.
        """
        return recommend(self._evidence(at))

    def regret(self, at: int | None = None) -> pd.DataFrame:
        """Tell what estimating costs, in a study of `Parametric` universes, whose true moments are known.

        Each profile's weights in each universe are measured at the true moments, and divided by the same figure of the
        *true portfolio*: the same profile with the same settings, allocated at the true moments. So 1.05 is a true
        volatility 5 % above that of the true portfolio, and 0.8 a true Sharpe ratio that lost a fifth. The barbell of
        the true portfolio has the distribution's own scores: skewness 0, and the expected return above the 95 %
        quantile. The true portfolios are allocated in float64.

        Args:
            at: number of a point of a sweep's grid; all points by default.

        Returns:
            Frame with the index ("profile", "measure"), the measures volatility and sharpe (annual, after
            ``risk_free_rate``), and the columns truth (the figure of the true portfolio), mean, std (divisor
            count - 1), q05, q25, q50, q75, q95 (of the quotients over the valid universes, linear quantiles) and
            n_universes (those counted). NaN, and none counted, where the true portfolio's figure is not above 0.

        Raises:
            InputError: the universes are not those of `Parametric`, or resamples or windows of them, or the study keeps
                no universes.

        Example:
            >>> import jaxalloc as ja
            >>> market = ja.datasets.synthetic_market(n_assets=12, n_observations=252)
            >>> config = ja.AllocationConfig(profiles=("asset_min_variance",))
            >>> study = ja.run_study(market, ja.Parametric(20), config)
            >>> bool(study.regret().loc[("asset_min_variance", "volatility"), "q05"] > 1)  # no lower one is allowed
            True
        """
        truth = regret.check_truth(self.record["sampler"], self.truth)
        if self.tables is None:
            raise InputError(_NO_UNIVERSES)

        def one(g: int) -> pd.DataFrame:
            chunks = self._chunks([f"{profile}.weights" for profile in self.profiles], g)
            return regret.regret(truth, self.settings.at(g), chunks)

        return self.over_points(one, at)

    def sensitivity(self, n: int | None = 200, at: int = 0) -> Sensitivity:
        """Measure which estimates the portfolios hang on, over the first universes of the study.

        Args:
            n: how many universes, at most all of them; None for the panel itself.
            at: number of a point of a sweep's grid.

        Returns:
            `Sensitivity`, as `jaxalloc.sensitivity` makes it.

        Raises:
            InputError: the study was loaded from a folder, which does not hold the panel; ``n`` is no count; or there
                is no such point.
        """
        if self.plan is None:
            raise InputError(
                "a study that was loaded has no panel: call ja.sensitivity(panel, config, sampler, seed=...) instead"
            )
        settings = as_sweep(self.settings.at(self._point(at)))
        plan = dataclasses.replace(self.plan, settings=settings)
        count = None if n is None else min(whole_number("n", n, 1), self.n)
        return sensitivity_of(plan, self.symbols, count)

    def status_counts(self, at: int | None = None) -> pd.DataFrame:
        """Count the universes with each `Status` bit: index "profile", a column a bit."""
        return self.over_points(lambda g: tables.status_counts(self.totals[g], self.profiles), at)

    def cluster_counts(self, at: int | None = None) -> pd.Series:
        """Count the valid universes by their number of clusters: index "n_clusters"."""
        return pd.Series(self.over_points(lambda g: tables.cluster_counts(self.totals[g]), at)["universes"])

    def co_association(self, at: int = 0) -> pd.DataFrame:
        """Tabulate how often two assets share a cluster.

        Args:
            at: number of a point of a sweep's grid.

        Returns:
            (N, N) frame of the share of universes, among those where both are active; NaN where there is none.
        """
        return tables.co_association(self.totals[self._point(at)], self.symbols)

    def cluster_stability(self, at: int = 0) -> pd.DataFrame:
        """Tell how well the panel's own clusters hold together over the universes.

        Args:
            at: number of a point of a sweep's grid.

        Returns:
            Frame with the index "cluster" and the columns size, stability (0 to 1: the mean co-association of the
            cluster's pairs; of a cluster of one asset 1 minus its largest co-association with any other) and members
            (symbols joined by ", "). Without rows if the panel has no clusters of its own.
        """
        g = self._point(at)
        return tables.cluster_stability(self.totals[g], self.estimates.cluster_labels[g], self.symbols)

    def columns(self, *names: str, at: int | None = None) -> dict[str, np.ndarray]:
        """Return columns of the chunks' tables, a row a universe: (rows,) or (rows, N), of all points or of one.

        Raises:
            InputError: the study keeps no universes.
        """
        if self.tables is None:
            raise InputError(_NO_UNIVERSES)
        chunks = list(self._chunks(names, None if at is None else self._point(at)))
        return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in names}

    def _chunks(self, names: Sequence[str], at: int | None) -> Iterator[dict[str, np.ndarray]]:
        """Columns of the chunks' tables, chunk by chunk, of all points or of one."""
        assert self.tables is not None
        for table in self.tables(list(dict.fromkeys(("point", *names)))):
            rows = slice(None) if at is None else table["point"].to_numpy() == at
            yield {name: column_values(table[name])[rows] for name in names}

    def _number(self, profile: str) -> int:
        """A profile's number."""
        if profile not in self.profiles:
            raise InputError(f"the study has no profile {profile!r}; it has {', '.join(self.profiles)}")
        return self.profiles.index(profile)

    def over_points(self, table: Callable[[int], pd.DataFrame], at: int | None) -> pd.DataFrame:
        """Return the table of one point, or those of all below each other, the settings swept as first levels."""
        return tables.over_points(self.settings, table) if at is None else table(self._point(at))

    def _evidence(self, at: int | None) -> Evidence:
        """What profiles are compared by at a point of the grid, by default `Sweep.home`."""
        point = self.settings.home if at is None else self._point(at)
        return Evidence(
            profiles=self.profiles,
            n=self.n,
            estimate=self.estimate(point),
            summary=self.profile_summary(point),
            columns=None if self.tables is None else functools.partial(self.columns, at=point),
        )

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


def data_lines(record: Mapping[str, Any]) -> list[str]:
    """Return the lines of a summary that say which data a record is of, and how many notes it has."""
    data, lines = record.get("data"), []
    if data:
        lines.append(f"data: {counted(data['n_observations'], 'row')}, {data['first']} to {data['last']}")
    notes = record.get("notes")
    if notes:
        lines.append(f"{counted(len(notes), 'note')} in record['notes'], the last: {notes[-1]}")
    return lines


def column_values(column: pa.ChunkedArray) -> np.ndarray:
    """Return a column as an array: (rows,), or (rows, N) of lists of N."""
    parts = []
    for part in column.chunks:
        if hasattr(part.type, "list_size"):
            parts.append(part.flatten().to_numpy(zero_copy_only=False).reshape(-1, part.type.list_size))
        else:
            parts.append(part.to_numpy(zero_copy_only=False))
    return np.concatenate(parts)


@dataclasses.dataclass(frozen=True)
class InMemory:
    """`Tables` of chunks in memory; it can be pickled, as a function within a function cannot."""

    chunks: list[pa.Table]

    def __call__(self, names: Sequence[str]) -> Iterator[pa.Table]:
        """Yield the chunks' tables with these columns."""
        return (table.select(list(names)) for table in self.chunks)
