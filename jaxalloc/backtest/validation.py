"""CrossValidation: the result of `cross_validate`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.plotting import Drawable
from jaxalloc.arguments.words import counted, cut, literal, trial_name
from jaxalloc.backtest import comparison, selection
from jaxalloc.backtest.bagging import Bagged, bagging_words
from jaxalloc.backtest.comparison import Trials
from jaxalloc.backtest.points import WalkSettings
from jaxalloc.backtest.selection import BLOCKS
from jaxalloc.settings.measures import FIGURES, RETURN_MEASURES, WALK_MEASURE
from jaxalloc.studies import tables
from jaxalloc.studies.study import Study, data_lines
from jaxalloc.universes.splits import CombinatorialSplits

# of each path
MEASURED = (
    *RETURN_MEASURES,
    *("turnover", "traded", "cost", "effective_bets", "concentration", "kept", "missing"),
)

_LOST = ("annual_return", "sharpe")  # measures of which a path may lose
_CHOICE = ("pbo", "slope", "loss", "in_sample", "out_of_sample", "n_trials")
_QUANTILES = (0.05, 0.5, 0.95)
_ROWS_SHOWN = 20  # in a notebook


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class CrossValidation(Drawable):
    """Portfolios of combinatorial splits, held on the rows that they were not decided on; NumPy and pandas only.

    There are G points of the settings, bands and costs, P profiles and T rows. Of a sweep frames of figures have the
    settings swept as first levels of the index, unless ``at``, a point's number, chooses one point.

    Attributes:
        dates: the panel's T row labels.
        settings: the grid of settings, bands and costs.
        splits: how the rows were split, with the embargo that was taken.
        study: the `Study` of the splits: universe s holds the training rows of split s. Its points are those of the
            allocations' settings: ``settings.decided(at)`` is the one that a point decides with.
        net: (G, paths, P, T) returns after costs.
        path_figures: (paths, G, P, F) figures of each path; NaN for those that are not measured here.
        bagging: how the training rows of each split are resampled, plain values; None where portfolios are not bagged.
        bagged: the bagged portfolios of the splits, at the points of the allocations' settings; None likewise.
    """

    dates: pd.Index
    settings: WalkSettings
    splits: CombinatorialSplits
    study: Study
    net: np.ndarray
    path_figures: np.ndarray
    bagging: dict[str, Any] | None = None
    bagged: Bagged | None = None

    def __repr__(self) -> str:
        """At most five lines: paths and splits, data and profiles."""
        splits = self.splits
        lines = [
            f"CrossValidation: {counted(self.n_paths, 'path')} of {counted(self.study.n, 'split')}, "
            f"{splits.test_groups} of {splits.groups} groups held out"
        ]
        if self.settings.names:
            lines[0] += f", at {counted(len(self.settings), 'point')} of {', '.join(self.settings.names)}"
        lines.append(f"profiles: {', '.join(self.profiles)}")
        lines += data_lines(self.record)
        return "\n".join(map(cut, lines))

    def _repr_html_(self) -> str:
        """A row for each profile (and point of a sweep): its Sharpe ratio over the paths; names are escaped."""
        summary, write = self.summary(), WALK_MEASURE["sharpe"].write
        columns = {f"Sharpe, {name}": summary[name].map(write) for name in summary.columns[:-1]}
        return pd.DataFrame(columns).to_html(max_rows=_ROWS_SHOWN)

    @property
    def profiles(self) -> tuple[str, ...]:
        """The P profiles."""
        return self.settings.config.profiles

    @property
    def base(self) -> str:
        """The profile that others are compared with: ``"equal_weight"`` if it is there, else the first."""
        return "equal_weight" if "equal_weight" in self.profiles else self.profiles[0]

    @property
    def bagging_words(self) -> str:
        """How portfolios are bagged, in words; empty where they are not."""
        return bagging_words(self.bagging, "its split's training rows")

    @property
    def record(self) -> dict[str, Any]:
        """What the study of the splits was computed from and with, plain values."""
        return self.study.record

    @property
    def n_paths(self) -> int:
        """Number of paths."""
        return self.net.shape[1]

    @property
    def shown(self) -> list[str]:
        """The measures of a path, of `jaxalloc.settings.measures.FIGURES`."""
        return list(MEASURED)

    @property
    def path_splits(self) -> pd.DataFrame:
        """Which split's portfolio holds each group on each path: index "path", columns the groups' first labels.

        The numbers are those of the universes of `study`, and so of the rows of `weights`.
        """
        columns = self.dates[self.splits.bounds(len(self.dates))[:-1]].rename("first")
        return pd.DataFrame(self.splits.path_splits(), index=pd.RangeIndex(self.n_paths, name="path"), columns=columns)

    def weights(self, profile: str, at: int = 0) -> pd.DataFrame:
        """Return the portfolios decided on the splits: a row a split (index "split"), a column an asset.

        Args:
            profile: one of the profiles.
            at: number of a point of a sweep's grid.

        Raises:
            InputError: there is no such profile or point.
        """
        decided, p = self.settings.decided(self._point(at)), self._number(profile)
        own = self.bagged
        values = self.study.weights(profile, decided).to_numpy() if own is None else own.mean[decided, p]
        return self._by_split(values)

    def standard_errors(self, profile: str, at: int = 0) -> pd.DataFrame:
        """Return the standard deviations of the weights over the resamples of a split, as `weights` lays them out.

        They are bootstrap standard errors (divisor n - 1) of the weights that a split decides on without bagging.

        Raises:
            InputError: portfolios are not bagged, or there is no such profile or point.
        """
        if self.bagged is None:
            raise InputError("portfolios are not bagged; give cross_validate bagging=Bootstrap(...)")
        decided, p = self.settings.decided(self._point(at)), self._number(profile)
        return self._by_split(self.bagged.deviation[decided, p])

    def _by_split(self, values: np.ndarray) -> pd.DataFrame:
        """(S, N) as a frame."""
        columns = pd.Index(self.study.symbols, name="symbol")
        return pd.DataFrame(values, index=pd.RangeIndex(len(values), name="split"), columns=columns)

    @property
    def returns(self) -> pd.DataFrame:
        """Returns after costs: index "date", columns ("path", "profile"), the settings swept before them."""
        keys = [
            (*point, path, profile)
            for point in self.settings.points
            for path in range(self.n_paths)
            for profile in self.profiles
        ]
        columns = pd.MultiIndex.from_tuples(keys, names=[*self.settings.names, "path", "profile"])
        values = self.net.reshape(len(keys), len(self.dates)).T.copy()
        return pd.DataFrame(values, index=self.dates.rename("date"), columns=columns)

    def paths(self, at: int | None = None) -> pd.DataFrame:
        """Measure each profile on each path: index ("path", "profile"), columns as in `WalkForward.summary`.

        They are annual_return, volatility, sharpe, sortino, max_drawdown, calmar, cvar, turnover, traded, cost,
        effective_bets, concentration, kept and missing. Rebalances are at the first row of each group.

        Args:
            at: number of a point of a sweep's grid; all points by default.

        Raises:
            InputError: there is no such point.
        """
        index = pd.MultiIndex.from_product([range(self.n_paths), self.profiles], names=["path", "profile"])

        def one(g: int) -> pd.DataFrame:
            figures = self.path_figures[:, g].reshape(-1, len(FIGURES))
            frame = pd.DataFrame({name: figures[:, FIGURES.index(name)] for name in MEASURED}, index=index)
            return frame.astype({"kept": int, "missing": int})

        return self.over_points(one, at)

    def summary(
        self, measure: str = "sharpe", quantiles: Sequence[float] = _QUANTILES, at: int | None = None
    ) -> pd.DataFrame:
        """Summarise one measure over the paths: index "profile".

        Args:
            measure: one of the columns of `paths`.
            quantiles: levels between 0 and 1.
            at: number of a point of a sweep's grid; all points by default.

        Returns:
            Frame with the columns mean, std (divisor count - 1; NaN of one path), a column for each of the quantiles
            (linear, named q05 for 0.05) and n_paths (those in which the measure has a value). Paths share rows and
            portfolios: std over the square root of n_paths is no standard error.

        Raises:
            InputError: there is no such measure or point, or a quantile is not between 0 and 1.
        """
        if measure not in MEASURED:
            raise InputError(f"there is no measure {literal(measure)}; choose from {', '.join(MEASURED)}")
        return self.path_quantiles(quantiles, at).xs(measure, level="measure")

    def path_quantiles(
        self, quantiles: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95), at: int | None = None
    ) -> pd.DataFrame:
        """Summarise all measures over the paths: index ("profile", "measure").

        Args:
            quantiles: as `summary` takes them.
            at: number of a point of a sweep's grid; all points by default.

        Returns:
            Frame with the columns of `summary`.

        Raises:
            InputError: there is no such point, or a quantile is not between 0 and 1.
        """
        levels, figures = comparison.quantile_names(quantiles), self.path_figures
        return self.over_points(
            lambda g: comparison.path_quantiles(figures[:, g], None, self.profiles, MEASURED, levels), at
        )

    def losses(self, at: int | None = None) -> pd.DataFrame:
        """Tell on which share of the paths a profile has lost: index "profile".

        It is a share of paths, which share rows and portfolios, and no probability of a loss to come.

        Args:
            at: number of a point of a sweep's grid; all points by default.

        Returns:
            Frame with the columns annual_return and sharpe: the share of the paths on which it is below 0, NaN where no
            path has a value.

        Raises:
            InputError: there is no such point.
        """
        index = pd.Index(self.profiles, name="profile")

        def one(g: int) -> pd.DataFrame:
            columns = {}
            for name in _LOST:
                values = self.path_figures[:, g, :, FIGURES.index(name)]
                some = np.isfinite(values).sum(axis=0)
                columns[name] = np.where(some > 0, (values < 0).sum(axis=0) / np.maximum(some, 1), np.nan)
            return pd.DataFrame(columns, index=index)

        return self.over_points(one, at)

    def overfitting(self, n_blocks: int = BLOCKS) -> pd.DataFrame:
        """Ask on every path whether choosing the best trial by its past pays: index "path".

        The trials are all points and profiles. On each path their returns are cut into blocks, and the best trial of
        each half of the blocks is ranked on the other half, as `WalkForward.overfitting` does it.

        Args:
            n_blocks: an even number, 2 to 20.

        Returns:
            Frame with the columns pbo (the probability of backtest overfitting), slope, loss, in_sample, out_of_sample
            (means over the halves of the chosen trial's annual Sharpe ratio), n_trials, and winner: the name of the
            trial with the highest Sharpe ratio on the path.

        Raises:
            InputError: as `WalkForward.overfitting`.
        """
        rows = []
        for path in range(self.n_paths):
            found = selection.overfitting(self._trials(path), n_blocks)
            figures = found.figures()
            rows.append({name: figures[name] for name in _CHOICE} | {"winner": trial_name(found.winner, self._swept)})
        return pd.DataFrame(rows, index=pd.RangeIndex(self.n_paths, name="path"))

    @property
    def can_validate(self) -> bool:
        """Whether `overfitting` has anything to judge on every path: two trials at least, on enough rows."""
        return all(selection.can_validate(self._trials(path)) for path in range(self.n_paths))

    @property
    def _swept(self) -> list[str]:
        return list(self.settings.names)

    def _trials(self, path: int) -> Trials:
        """All series of returns of a path, to be chosen from."""
        configs = [self.settings.at(g) for g in range(len(self.settings)) for _ in self.profiles]
        keys = [(*point, profile) for point in self.settings.points for profile in self.profiles]
        names = [*self._swept, "profile"]
        return Trials(
            returns=self.net[:, path].reshape(len(configs), -1),
            figures=self.path_figures[path].reshape(len(configs), -1),
            periods_per_year=np.array([config.periods_per_year for config in configs], float),
            risk_free_rate=np.array([config.risk_free_rate for config in configs], float),
            index=pd.MultiIndex.from_tuples(keys, names=names)
            if self._swept
            else pd.Index(self.profiles, name="profile"),
        )

    def beats(self, base: str | None = None, at: int | None = None) -> pd.DataFrame:
        """Tell how often a profile beats another on the same path.

        Args:
            base: the profile to compare with, `base` by default.
            at: number of a point of a sweep's grid; all points by default.

        Returns:
            Frame with the index "profile" (without the base) and the measures as columns: the share of the paths on
            which the profile's is better, as in `WalkForward.beats`.

        Raises:
            InputError: there is no such profile or point, or one profile alone.
        """
        number, figures = self._number(self.base if base is None else base), self.path_figures
        return self.over_points(lambda g: comparison.beats(figures[:, g], self.profiles, number, MEASURED), at)

    def over_points(self, table: Callable[[int], pd.DataFrame], at: int | None) -> pd.DataFrame:
        """Return the table of one point, or those of all below each other, the settings swept as first levels.

        Raises:
            InputError: there is no such point.
        """
        return tables.over_points(self.settings, table) if at is None else table(self._point(at))

    def _number(self, profile: str) -> int:
        if profile not in self.profiles:
            raise InputError(f"there is no profile {literal(profile)}; there are {', '.join(self.profiles)}")
        return self.profiles.index(profile)

    def _point(self, at: int) -> int:
        if not 0 <= at < len(self.settings):
            raise InputError(f"the cross-validation has points 0 to {len(self.settings) - 1}, not {at}")
        return at
