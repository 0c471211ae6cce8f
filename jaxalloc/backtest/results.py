"""WalkForward: what a walk-forward came to."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxalloc.backtest.performance import COMPARED, RETURN_MEASURES, deflated_sharpe, difference_intervals
from jaxalloc.backtest.schedule import Schedule
from jaxalloc.bootstrap import Bootstrap, Method
from jaxalloc.checks import one_number, whole_number
from jaxalloc.errors import InputError
from jaxalloc.grid import Sweep
from jaxalloc.results import Study

FIGURES = (*RETURN_MEASURES, "turnover", "cost", "effective_bets", "tracking_error", "kept", "missing")
# of two portfolios the better one has less of these; `kept` and `missing` say nothing about a portfolio
_LESS_IS_BETTER = ("volatility", "max_drawdown", "turnover", "cost", "tracking_error")
_COUNTS = ("kept", "missing")
_FEWEST_DAYS = 3  # for intervals and moments


class History(NamedTuple):
    """The panel walked through as it happened: G points, P profiles, D days held, R rebalances, N assets.

    Attributes:
        gross: (G, P, D) returns before costs.
        net: (G, P, D) returns after costs.
        whole_net: (G, P, D) likewise of the whole portfolios where leads are executed, else (G, 0, D).
        turnover: (G, P, R) at each rebalance.
        kept: (G, P, R) bool, whether the window had no portfolio, and what was held was kept.
        missing: (G, P, R) int, days times assets that were held while their return was missing.
        bets: (G, P, R) effective number of bets of the window's portfolio.
        weights: (G, P, R, N) bought at each rebalance.
        target: (G, P, N) the last window's portfolio, as it is executed; what is held where that has none.
        current: (G, P, N) held after the last row.
        undecided: (G, P) bool, whether the last window has no portfolio.
        figures: (G, P, F) `FIGURES`.
    """

    gross: np.ndarray
    net: np.ndarray
    whole_net: np.ndarray
    turnover: np.ndarray
    kept: np.ndarray
    missing: np.ndarray
    bets: np.ndarray
    weights: np.ndarray
    target: np.ndarray
    current: np.ndarray
    undecided: np.ndarray
    figures: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class WalkForward:
    """Portfolios decided on past windows and held on the rows after them; NumPy and pandas only.

    Days are the rows on which a portfolio is held; a rebalance is named by its first day. Frames by day or rebalance
    have a column a profile; of a sweep the columns have the settings swept as first levels. Frames of figures have them
    as first levels of the index, unless ``at``, a point's number, chooses one point.

    Attributes:
        symbols: the N assets.
        dates: the panel's T row labels.
        settings: the grid of settings, G points of P profiles.
        schedule: when portfolios are decided and held.
        costs_bps: cost of trading, basis points of what is traded.
        execution: ``"portfolio"``, or ``"lead"`` where each cluster's weight is held in its lead asset alone.
        seed: of the paths.
        precision: 64 or 32, the bits that allocations were computed with.
        history: arrays of the panel as it happened.
        path_figures: (paths, G, P, F) figures of each resampled path; None without paths.
        allocations: the `Study` of the windows: clusters, status and all else of every decision.
        path_allocations: that of the paths' windows; None without paths.
        record: what it was computed from and with, plain values.
    """

    symbols: list[str]
    dates: pd.Index
    settings: Sweep
    schedule: Schedule
    costs_bps: float
    execution: str
    seed: int
    precision: int
    history: History
    path_figures: np.ndarray | None
    allocations: Study
    path_allocations: Study | None
    record: dict[str, Any]

    @property
    def profiles(self) -> tuple[str, ...]:
        """The P profiles."""
        return self.settings.config.profiles

    @property
    def days(self) -> pd.Index:
        """The D days' labels."""
        return self.dates[self.schedule.first_held :].rename("date")

    @property
    def rebalance_dates(self) -> pd.Index:
        """The R rebalances' labels: the first day that each portfolio is held."""
        rows = [self.schedule.held(j)[0] for j in range(self.schedule.n_held)]
        return self.dates[rows].rename("date")

    # ---- by day and by rebalance ----

    @property
    def returns(self) -> pd.DataFrame:
        """Returns after costs, day x profile."""
        return self._by_column(self.history.net, self.days)

    @property
    def gross(self) -> pd.DataFrame:
        """Returns before costs, day x profile."""
        return self._by_column(self.history.gross, self.days)

    @property
    def whole_returns(self) -> pd.DataFrame:
        """Returns after costs of the whole portfolios, day x profile, where ``execution`` is ``"lead"``.

        Raises:
            InputError: whole portfolios are what was executed; see `returns`.
        """
        if self.execution != "lead":
            raise InputError("whole portfolios were executed: see returns")
        return self._by_column(self.history.whole_net, self.days)

    @property
    def turnover(self) -> pd.DataFrame:
        """Sum of |target - drifted| at each rebalance, rebalance x profile; the first purchase out of cash is 1."""
        return self._by_column(self.history.turnover, self.rebalance_dates)

    @property
    def costs(self) -> pd.DataFrame:
        """Cost of each rebalance, a fraction of wealth, rebalance x profile."""
        return self.turnover * (self.costs_bps * 1e-4)

    def weights(self, profile: str, at: int | None = None) -> pd.DataFrame:
        """Return what was held after each rebalance: a row a rebalance (index "date"), a column an asset.

        Where a window had no portfolio these are the drifted weights that were kept; what they lack to 1 is cash.

        Raises:
            InputError: there is no such profile or point.
        """
        p = self._profile(profile)
        columns = pd.Index(self.symbols, name="symbol")
        return self._over_points(
            lambda g: pd.DataFrame(self.history.weights[g, p], index=self.rebalance_dates, columns=columns), at
        )

    def rebalances(self, at: int | None = None) -> pd.DataFrame:
        """Tabulate the rebalances: index ("profile", "date").

        The columns are decided (label of the last row that the decision saw), turnover, cost, effective_bets (see
        `summary`), kept (bool: the window had no portfolio, and what was held was kept), missing (days times assets
        held whose return was missing, counted as 0).
        """
        history = self.history
        seen = self.dates[[self.schedule.decided(j) for j in range(self.schedule.n_held)]]

        def one(g: int) -> pd.DataFrame:
            parts = [
                pd.DataFrame(
                    {
                        "decided": seen,
                        "turnover": history.turnover[g, p],
                        "cost": history.turnover[g, p] * self.costs_bps * 1e-4,
                        "effective_bets": history.bets[g, p],
                        "kept": history.kept[g, p],
                        "missing": history.missing[g, p],
                    },
                    index=self.rebalance_dates,
                )
                for p in range(len(self.profiles))
            ]
            return pd.concat(parts, keys=self.profiles, names=["profile", "date"])

        return self._over_points(one, at)

    # ---- live ----

    def target(self, profile: str, at: int = 0) -> pd.DataFrame:
        """Return the last window's portfolio and what to trade for it: index "symbol".

        The columns are target, current (held after the last row, drifted; before any purchase ``previous_weights``) and
        trade (target - current). sum |trade| is ``live_turnover`` in `summary`. The last window ends on row
        ``schedule.decided(schedule.n_windows - 1)``: give a panel with whole steps, (T - window) / step, for it to end
        on the last row. If it has no portfolio the target is what is held.

        Raises:
            InputError: there is no such profile or point.
        """
        p, g = self._profile(profile), self._point(at)
        target, current = self.history.target[g, p], self.history.current[g, p]
        frame = {"target": target, "current": current, "trade": target - current}
        return pd.DataFrame(frame, index=pd.Index(self.symbols, name="symbol"))

    # ---- figures ----

    def summary(self, at: int | None = None) -> pd.DataFrame:
        """Measure each profile out of sample: index "profile".

        With D days of net returns, A periods a year and the settings' risk-free rate, the columns are

        - annual_return (geometric), volatility, sharpe, sortino, max_drawdown (positive), calmar: see
          `jaxalloc.backtest.performance.performance`;
        - turnover, cost: of all rebalances, the first purchase too, times A / D: a year's;
        - effective_bets: mean over the rebalances of exp(- sum p ln p), p the clusters' shares in the variance of the
          portfolio as decided (see `jaxalloc.summary.profile_summary`);
        - tracking_error, where leads are executed: annual, of the net returns against the whole portfolios';
        - kept: rebalances whose window had no portfolio, so that what was held was kept;
        - missing: days times assets held whose return was missing and counted as 0;
        - rebalances, days: how many there are;
        - live_turnover: what the last window's portfolio asks to trade now, sum |target - current|.
        """

        def one(g: int) -> pd.DataFrame:
            frame = self._figures(self.history.figures[g], pd.Index(self.profiles, name="profile"))
            frame["rebalances"] = self.schedule.n_held
            frame["days"] = self.schedule.n_days
            frame["live_turnover"] = np.abs(self.history.target[g] - self.history.current[g]).sum(axis=1)
            return frame

        return self._over_points(one, at)

    def differences(
        self,
        base: str | None = None,
        n: int = 2000,
        method: Method = "stationary",
        block_length: float | None = None,
        level: float = 0.95,
        seed: int | None = None,
    ) -> pd.DataFrame:
        """Tell how sure the differences between profiles are: paired bootstrap intervals.

        The days are resampled in blocks, the same resamples for all profiles, and each difference is taken within a
        resample; see `jaxalloc.backtest.performance.difference_intervals`.

        Args:
            base: the profile to compare with, by default the first. If there is one profile alone, the points of a
                sweep are compared with its point `Sweep.home`.
            n: number of resamples.
            method: as `Bootstrap` takes it.
            block_length: likewise; 21 by default, or the number of days if that is less.
            level: of the intervals, between 0 and 1.
            seed: of the resamples; by default that of the walk-forward.

        Returns:
            Frame with the index ("profile", "measure"), measures annual_return, volatility and sharpe, and the columns
            base (its figure), difference (profile minus base), low, high (the interval) and share_above (share of the
            resamples in which the difference is above 0).

        Raises:
            InputError: there is nothing to compare, too few days, or an argument is out of range.
        """
        pairs = self._pairs(base)
        days, level = self.schedule.n_days, one_number("level", level)
        if days < _FEWEST_DAYS:
            raise InputError(f"differences need {_FEWEST_DAYS} days on which portfolios are held; there are {days}")
        if not 0 < level < 1:
            raise InputError(f"level must be between 0 and 1, not {level!r}")
        length = min(21, days) if block_length is None and method != "iid" else block_length
        n = whole_number("n, the number of resamples,", n, 1)
        counts = Bootstrap(n, method, length).counts(days, self.seed if seed is None else seed, 0, n)
        found = difference_intervals(self._series(), pairs, counts, *self._per_series(), level)
        figures = self.history.figures.reshape(-1, len(FIGURES))
        columns = {"base": figures[pairs[:, 1]][:, [FIGURES.index(name) for name in COMPARED]].ravel()}
        for name in ("difference", "low", "high", "share_above"):
            columns[name] = np.stack([found[measure][name] for measure in COMPARED], axis=1).ravel()
        keys = [(*self._key(int(series)), measure) for series in pairs[:, 0] for measure in COMPARED]
        index = pd.MultiIndex.from_tuples(keys, names=[*self.settings.names, "profile", "measure"])
        return pd.DataFrame(columns, index=index)

    def deflated_sharpe(self, n_trials: int | None = None) -> pd.DataFrame:
        """Deflate the Sharpe ratios by how many were tried (Bailey and Lopez de Prado, 2014).

        The trials are all points and profiles, M of them. See `jaxalloc.backtest.performance` for the formulas.

        Args:
            n_trials: how many were tried in all, if more than M: what was tried before counts too.

        Returns:
            Frame with the index "profile", all points, and the columns sharpe (per period, not annual), skewness,
            kurtosis (3 for a normal distribution), days, trials, expected_maximum (Sharpe ratio per period that the
            best of the trials shows by chance; 0 for one trial) and deflated_sharpe (probability that the true Sharpe
            ratio is above 0 all the same). NaN where returns do not vary.

        Raises:
            InputError: there are too few days, or ``n_trials`` is less than M, or more where M is 1.
        """
        series, days = self._series(), self.schedule.n_days
        trials = len(series) if n_trials is None else whole_number("n_trials", n_trials, len(series))
        if days < _FEWEST_DAYS:
            raise InputError(f"deflated_sharpe needs {_FEWEST_DAYS} days on which portfolios are held, not {days}")
        if len(series) == 1 and trials > 1:
            raise InputError("n_trials beyond one needs the spread of the trials: walk at least two of them forward")
        found = deflated_sharpe(series, *self._per_series(), trials)
        columns = {"sharpe": found.sharpe, "skewness": found.skewness, "kurtosis": found.kurtosis, "days": days}
        columns |= {"trials": trials, "expected_maximum": found.expected_maximum}
        return pd.DataFrame(columns | {"deflated_sharpe": found.deflated_sharpe}, index=self._columns())

    # ---- paths ----

    @property
    def n_paths(self) -> int:
        """Number of resampled paths."""
        return 0 if self.path_figures is None else len(self.path_figures)

    def paths(self, at: int | None = None) -> pd.DataFrame:
        """Measure each profile on each path: index ("path", "profile"), the columns of `summary` up to missing.

        Raises:
            InputError: there are no paths.
        """
        figures = self._of_paths()
        index = pd.MultiIndex.from_product([range(len(figures)), self.profiles], names=["path", "profile"])
        return self._over_points(lambda g: self._figures(figures[:, g].reshape(-1, len(FIGURES)), index), at)

    def path_quantiles(
        self, quantiles: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95), at: int | None = None
    ) -> pd.DataFrame:
        """Summarise the paths: index ("profile", "measure").

        Returns:
            Frame with the columns history (the panel as it happened), mean, std (divisor count - 1), a column for each
            of the quantiles (linear, named q05 for 0.05) and n_paths (those in which the measure has a value).

        Raises:
            InputError: there are no paths, or a quantile is not between 0 and 1.
        """
        levels = [one_number("quantiles", level) for level in quantiles]
        if not all(0 <= level <= 1 for level in levels):
            raise InputError(f"quantiles must be between 0 and 1, not {list(quantiles)!r}")
        names = [f"q{100 * level:02.0f}" if 100 * level % 1 == 0 else f"q{100 * level:g}" for level in levels]
        figures, shown = self._of_paths(), self._shown()

        def of_profile(g: int, p: int) -> pd.DataFrame:
            rows = []
            for k in map(FIGURES.index, shown):
                values = figures[:, g, p, k]
                values = pd.Series(values[np.isfinite(values)])
                drawn = [values.quantile(level) for level in levels]
                rows.append([self.history.figures[g, p, k], values.mean(), values.std(), *drawn, len(values)])
            columns = ["history", "mean", "std", *names, "n_paths"]
            return pd.DataFrame(rows, index=shown, columns=columns).astype({"n_paths": int})

        def one(g: int) -> pd.DataFrame:
            tables = [of_profile(g, p) for p in range(len(self.profiles))]
            return pd.concat(tables, keys=self.profiles, names=["profile", "measure"])

        return self._over_points(one, at)

    def beats(self, base: str | None = None, at: int | None = None) -> pd.DataFrame:
        """Tell how often a profile beats another on the same path.

        Args:
            base: the profile to compare with, the first by default.
            at: point of a sweep.

        Returns:
            Frame with the index "profile" (without the base) and the measures as columns: the share of the paths on
            which the profile's is better: less for volatility, max_drawdown, turnover, cost and tracking_error, more
            for the others. Equals count half; paths without a value for both do not count.

        Raises:
            InputError: there are no paths, or no such profile, or one profile alone.
        """
        figures, b = self._of_paths(), self._profile(self.profiles[0] if base is None else base)
        others = [p for p in range(len(self.profiles)) if p != b]
        if not others:
            raise InputError(f"there is one profile, {self.profiles[b]}: walk another one forward to compare it")
        names = [name for name in self._shown() if name not in _COUNTS]

        def one(g: int) -> pd.DataFrame:
            table = {}
            for name in names:
                k = FIGURES.index(name)
                apart = figures[:, g, others, k] - figures[:, g, [b], k]
                won = np.where(np.isnan(apart), np.nan, np.sign(apart) / 2 + 0.5)
                won = 1 - won if name in _LESS_IS_BETTER else won
                count = np.isfinite(won).sum(axis=0)
                table[name] = np.where(count > 0, np.nansum(won, axis=0) / np.maximum(count, 1), np.nan)
            return pd.DataFrame(table, index=pd.Index([self.profiles[p] for p in others], name="profile"))

        return self._over_points(one, at)

    # ---- inside ----

    def _of_paths(self) -> np.ndarray:
        if self.path_figures is None:
            raise InputError("there are no paths; walk forward with paths=Bootstrap(...)")
        return self.path_figures

    def _shown(self) -> list[str]:
        return [name for name in FIGURES if name != "tracking_error" or self.execution == "lead"]

    def _figures(self, figures: np.ndarray, index: pd.Index) -> pd.DataFrame:
        columns = {name: figures[:, FIGURES.index(name)] for name in self._shown()}
        return pd.DataFrame(columns, index=index).astype(dict.fromkeys(_COUNTS, int))

    def _series(self) -> np.ndarray:
        """(M, D) net returns of all points and profiles."""
        return self.history.net.reshape(-1, self.schedule.n_days)

    def _per_series(self) -> tuple[np.ndarray, np.ndarray]:
        """(M,) periods a year and risk-free rates."""
        configs = [self.settings.at(g) for g in range(len(self.settings)) for _ in self.profiles]
        return (
            np.array([config.periods_per_year for config in configs], float),
            np.array([config.risk_free_rate for config in configs], float),
        )

    def _key(self, series: int) -> tuple[Any, ...]:
        g, p = divmod(series, len(self.profiles))
        return (*self.settings.points[g], self.profiles[p])

    def _columns(self) -> pd.Index:
        """Labels of all points and profiles."""
        if not self.settings.names:
            return pd.Index(self.profiles, name="profile")
        keys = [self._key(series) for series in range(len(self.settings) * len(self.profiles))]
        return pd.MultiIndex.from_tuples(keys, names=[*self.settings.names, "profile"])

    def _by_column(self, values: np.ndarray, index: pd.Index) -> pd.DataFrame:
        """(G, P, rows) as a frame."""
        return pd.DataFrame(values.reshape(-1, values.shape[2]).T.copy(), index=index, columns=self._columns())

    def _pairs(self, base: str | None) -> np.ndarray:
        """(Q, 2) series to compare: each other profile with the base, at each point."""
        n_points, n_profiles = len(self.settings), len(self.profiles)
        b = self._profile(self.profiles[0] if base is None else base)
        if n_profiles > 1:
            return np.array(
                [(g * n_profiles + p, g * n_profiles + b) for g in range(n_points) for p in range(n_profiles) if p != b]
            )
        if n_points == 1:
            raise InputError("there is one series of returns: walk another profile forward, or a sweep, to compare it")
        return np.array([(g, self.settings.home) for g in range(n_points) if g != self.settings.home])

    def _profile(self, profile: str) -> int:
        if profile not in self.profiles:
            raise InputError(f"the walk-forward has no profile {profile!r}; it has {', '.join(self.profiles)}")
        return self.profiles.index(profile)

    def _point(self, at: int) -> int:
        if not 0 <= at < len(self.settings):
            raise InputError(f"the walk-forward has points 0 to {len(self.settings) - 1}, not {at}")
        return at

    def _over_points(self, table: Callable[[int], pd.DataFrame], at: int | None) -> pd.DataFrame:
        return self.allocations.over_points(table, at)
