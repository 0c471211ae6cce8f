"""WalkForward: the result of `walk_forward`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.plotting import Drawable
from jaxalloc.arguments.words import counted, cut
from jaxalloc.backtest import comparison, selection
from jaxalloc.backtest.agreement import consecutive_agreement
from jaxalloc.backtest.bagging import Bagged, bagging_words
from jaxalloc.backtest.benchmark import Benchmark
from jaxalloc.backtest.comparison import FEWEST_DAYS, Trials
from jaxalloc.backtest.orders import Orders, orders_within
from jaxalloc.backtest.points import WalkSettings
from jaxalloc.backtest.recommendation import WalkRecommendation, recommend
from jaxalloc.backtest.schedule import Schedule
from jaxalloc.backtest.selection import BLOCKS, Overfitting
from jaxalloc.backtest.trading import turnovers
from jaxalloc.settings.measures import BENCHMARK_MEASURES, FIGURES, OF_WALKS
from jaxalloc.studies import tables
from jaxalloc.studies.study import Study, data_lines
from jaxalloc.universes.bootstrap import Method

_SHOWN = ("annual_return", "volatility", "sharpe", "max_drawdown", "turnover", "cost")  # in a notebook
_ROWS_SHOWN = 20  # likewise


class History(NamedTuple):
    """The portfolios held through the panel as it happened: G points, P profiles, D days, R rebalances, N assets.

    Attributes:
        gross: (G, P, D) returns before costs.
        net: (G, P, D) returns after costs.
        whole_net: (G, P, D) likewise of the whole portfolios where lead assets are executed, else (G, 0, D).
        turnover: (G, P, R) one-way, at each rebalance.
        traded: (G, P, R) sum of |bought - drifted| over the assets, at each rebalance.
        kept: (G, P, R) bool, whether the window had no portfolio, so that the weights held before were kept.
        missing: (G, P, R) int, days times assets that were held while their return was missing.
        bets: (G, P, R) effective number of bets of the window's portfolio.
        weights: (G, P, R, N) bought at each rebalance.
        target: (G, P, N) the last window's portfolio, as it is executed; the current weights where that has none.
        live: (G, P, N) what is to be held now: the target, as far as it is traded towards.
        current: (G, P, N) held after the last row.
        undecided: (G, P) bool, whether the last window has no portfolio.
        figures: (G, P, F) `FIGURES`.
    """

    gross: np.ndarray
    net: np.ndarray
    whole_net: np.ndarray
    turnover: np.ndarray
    traded: np.ndarray
    kept: np.ndarray
    missing: np.ndarray
    bets: np.ndarray
    weights: np.ndarray
    target: np.ndarray
    live: np.ndarray
    current: np.ndarray
    undecided: np.ndarray
    figures: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class WalkForward(Drawable):
    """Portfolios decided on past windows and held on the rows after them; NumPy and pandas only.

    Days are the rows on which a portfolio is held; a rebalance is named by its first day. Frames by day or rebalance
    have a column a profile; of a sweep the columns have the settings swept as first levels, and after them ``band`` and
    ``costs_bps`` where these were varied. Frames of figures have them as first levels of the index, unless ``at``, a
    point's number, chooses one point.

    Attributes:
        symbols: the N assets.
        dates: the panel's T row labels.
        settings: the grid of settings, bands and costs, G points of P profiles.
        schedule: when portfolios are decided and held.
        execution: ``"portfolio"``, or ``"lead"`` where each cluster's weight is held in its lead asset alone.
        seed: of the paths.
        precision: 64 or 32, the bits that allocations were computed with.
        history: arrays of the panel as it happened.
        path_figures: (paths, G, P, F) figures of each resampled path; None without paths.
        bagged: the bagged portfolios of the windows, at the points of the allocations' settings; None where portfolios
            are not bagged.
        allocations: the `Study` of the windows: clusters, status and all else of every decision. Its points are those
            of the allocations' settings: ``settings.decided(at)`` is the one that a point decides with.
        path_allocations: that of the paths' windows; None without paths.
        record: what it was computed from and with, plain values.
        benchmark: name and returns of what portfolios are compared with, by the panel's rows; None without one.
    """

    symbols: list[str]
    dates: pd.Index
    settings: WalkSettings
    schedule: Schedule
    execution: str
    seed: int
    precision: int
    history: History
    path_figures: np.ndarray | None
    bagged: Bagged | None
    allocations: Study
    path_allocations: Study | None
    record: dict[str, Any]
    benchmark: Benchmark | None = None

    def __repr__(self) -> str:
        """At most five lines: rebalances, data and profiles."""
        schedule = self.schedule
        lines = [
            f"WalkForward: {counted(schedule.n_held, 'rebalance')} of {counted(len(self.symbols), 'asset')}, held on "
            f"{counted(schedule.n_days, 'row')}"
        ]
        if self.settings.names:
            lines[0] += f", at {counted(len(self.settings), 'point')} of {', '.join(self.settings.names)}"
        if self.n_paths:
            lines[0] += f", and on {counted(self.n_paths, 'path')}"
        lines.append(f"profiles: {', '.join(self.profiles)}")
        lines += data_lines(self.record)
        return "\n".join(map(cut, lines))

    def _repr_html_(self) -> str:
        """A row for each profile (and point of a sweep): figures out of sample; names are escaped."""
        figures = self.summary()
        measures = [measure for measure in OF_WALKS if measure.name in _SHOWN]
        columns = {measure.heading: figures[measure.name].map(measure.write) for measure in measures}
        return pd.DataFrame(columns).to_html(max_rows=_ROWS_SHOWN)

    @property
    def profiles(self) -> tuple[str, ...]:
        """The P profiles."""
        return self.settings.config.profiles

    @property
    def bagging_words(self) -> str:
        """How portfolios are bagged, in words; empty where they are not."""
        return bagging_words(self.record.get("bagging"), "its window")

    @property
    def base(self) -> str:
        """The profile that others are compared with: ``"equal_weight"`` if it is there, else the first."""
        return "equal_weight" if "equal_weight" in self.profiles else self.profiles[0]

    @property
    def band(self) -> float | tuple[float, ...]:
        """Distance in weight that holdings may keep from the target; a tuple where it was varied."""
        return self.settings.bands if "band" in self.settings.names else self.settings.bands[0]

    @property
    def max_turnover(self) -> float | None:
        """Largest turnover of a rebalance; None where there is none."""
        return self.settings.max_turnover

    @property
    def costs_bps(self) -> float | tuple[float, ...]:
        """Cost of trading, basis points of what is traded; a tuple where it was varied."""
        return self.settings.costs if "costs_bps" in self.settings.names else self.settings.costs[0]

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
            raise InputError("whole portfolios were executed, so `returns` has theirs; execution='lead' has both")
        return self._by_column(self.history.whole_net, self.days)

    @property
    def benchmark_returns(self) -> pd.Series:
        """The benchmark's returns by day, named as its column.

        Raises:
            InputError: there is no benchmark.
        """
        benchmark = self._compared()
        return pd.Series(benchmark.returns[self.schedule.first_held :], index=self.days, name=benchmark.name)

    @property
    def turnover(self) -> pd.DataFrame:
        """One-way turnover of each rebalance, rebalance x profile: half of the sum of |change|, cash an asset too.

        Buying all out of cash is 1, and so is replacing all.
        """
        return self._by_column(self.history.turnover, self.rebalance_dates)

    @property
    def traded(self) -> pd.DataFrame:
        """What each rebalance trades, rebalance x profile: the sum of |change| over the assets, bought plus sold."""
        return self._by_column(self.history.traded, self.rebalance_dates)

    @property
    def costs(self) -> pd.DataFrame:
        """Cost of each rebalance, a fraction of wealth, rebalance x profile."""
        rates = [self.settings.cost(g) * 1e-4 for g in range(len(self.settings))]
        return self._by_column(self.history.traded * np.reshape(rates, (-1, 1, 1)), self.rebalance_dates)

    def weights(self, profile: str, at: int | None = None) -> pd.DataFrame:
        """Return what was held after each rebalance: a row a rebalance (index "date"), a column an asset.

        Where a window had no portfolio these are the drifted weights that were kept; what they lack to 1 is cash.

        Raises:
            InputError: there is no such profile or point.
        """
        p = self.number(profile)
        columns = pd.Index(self.symbols, name="symbol")
        return self.over_points(
            lambda g: pd.DataFrame(self.history.weights[g, p], index=self.rebalance_dates, columns=columns), at
        )

    def standard_errors(self, profile: str, at: int | None = None) -> pd.DataFrame:
        """Return how sure the weights are that were decided: a row a window (index "decided"), a column an asset.

        They are the standard deviations of the weights over the resamples of the window (divisor n - 1): bootstrap
        standard errors (Efron, 1979) of the weights that the window decides on without bagging. The error of the mean
        of n resamples is this over the square root of n. The last window is the live one.

        Raises:
            InputError: portfolios are not bagged, or there is no such profile or point.
        """
        if self.bagged is None:
            raise InputError("portfolios are not bagged; give walk_forward bagging=Bootstrap(...)")
        p, deviation = self.number(profile), self.bagged.deviation
        columns, seen = pd.Index(self.symbols, name="symbol"), self.dates[self.schedule.decisions].rename("decided")
        decided = self.settings.decided
        return self.over_points(lambda g: pd.DataFrame(deviation[decided(g), p], index=seen, columns=columns), at)

    def rebalances(self, at: int | None = None) -> pd.DataFrame:
        """Tabulate the rebalances: index ("profile", "date").

        The columns are decided (label of the last row that the decision saw), turnover, traded, cost, effective_bets
        (see `summary`), kept (bool: the window had no portfolio, and what was held was kept), missing (days times
        assets held whose return was missing, counted as 0); where portfolios are bagged also resamples (valid ones of
        the window) and over_cap (bool: the mean gives a cluster of the window's own more than its cap).
        """
        history = self.history
        seen = self.dates[[self.schedule.decided(j) for j in range(self.schedule.n_held)]]

        def one(g: int) -> pd.DataFrame:
            parts = [
                pd.DataFrame(
                    {
                        "decided": seen,
                        "turnover": history.turnover[g, p],
                        "traded": history.traded[g, p],
                        "cost": history.traded[g, p] * self.settings.cost(g) * 1e-4,
                        "effective_bets": history.bets[g, p],
                        "kept": history.kept[g, p],
                        "missing": history.missing[g, p],
                    },
                    index=self.rebalance_dates,
                )
                for p in range(len(self.profiles))
            ]
            if self.bagged is not None:
                n = self.schedule.n_held
                for p, part in enumerate(parts):
                    part["resamples"] = self.bagged.valid[self.settings.decided(g), :n]
                    part["over_cap"] = self.bagged.over_cap[self.settings.decided(g), p, :n]
            return pd.concat(parts, keys=self.profiles, names=["profile", "date"])

        return self.over_points(one, at)

    def cluster_agreement(self, at: int | None = None) -> pd.DataFrame:
        """Tell how far the clusters of each window agree with those of the window before.

        Args:
            at: number of a point of the grid; all points by default.

        Returns:
            Frame with a row a window (index "decided", label of its last row; the last is the live one) and the
            columns n_clusters (0 where the window has no portfolio) and agreement: the adjusted Rand index (Hubert and
            Arabie, 1985) over the assets that are active in both windows, 1 where they are grouped in the same way, 0
            where that is as by chance. NaN for the first window, and where a window has fewer than two of these assets.
        """
        seen = self.dates[self.schedule.decisions].rename("decided")

        def one(g: int) -> pd.DataFrame:
            labels = self.allocations.clusters(self.settings.decided(g)).to_numpy()[: len(seen)]
            columns = {"n_clusters": labels.max(axis=1) + 1, "agreement": consecutive_agreement(labels)}
            return pd.DataFrame(columns, index=seen)

        return self.over_points(one, at)

    # ---- live ----

    def target(self, profile: str, at: int = 0) -> pd.DataFrame:
        """Return the last window's portfolio and what to trade for it: index "symbol".

        The columns are target, current (held after the last row, drifted; before any purchase ``previous_weights``),
        bought (what to hold now: the target, as far as ``band`` and ``max_turnover`` let it be traded towards) and
        trade (bought - current). `summary` has their ``live_turnover`` and ``live_traded``. The last window ends on the
        panel's last row. If it has no portfolio the target is what is held. Where portfolios are bagged there is
        standard_error, too, see `standard_errors`.

        Raises:
            InputError: there is no such profile or point.
        """
        p, g = self.number(profile), self._point(at)
        target, current, live = (each[g, p] for each in (self.history.target, self.history.current, self.history.live))
        frame = {"target": target, "current": current, "bought": live, "trade": live - current}
        if self.bagged is not None:
            frame["standard_error"] = self.bagged.deviation[self.settings.decided(g), p, -1]
        return pd.DataFrame(frame, index=pd.Index(self.symbols, name="symbol"))

    def orders(self, profile: str, prices: Any, capital: float, held: Any = None, lot: Any = 1, at: int = 0) -> Orders:
        """Place the last window's portfolio: whole lots to buy and sell.

        The target is traded towards from what is really held, as far as the point's band and largest turnover let it;
        `jaxalloc.orders` makes whole lots of that, which is the column target of their frame.

        Args:
            profile: one of the profiles.
            prices: by symbol, such as `Panel.last_prices`.
            capital: all wealth: the value of what is held, and the cash.
            held: number of shares by symbol now; by default all is cash.
            lot: number of shares in a lot, or these by symbol.
            at: number of a point of the grid.

        Raises:
            InputError: there is no such profile or point, the last window has no portfolio, or `jaxalloc.orders`
                refuses an argument.
        """
        p, g = self.number(profile), self._point(at)
        if self.history.undecided[g, p]:
            raise InputError(f"the last window has no portfolio of {profile}: there is nothing to place")
        target = pd.Series(self.history.target[g, p], index=self.symbols)
        return orders_within(self.settings.rule(g), target, held, prices, capital, lot)

    # ---- figures ----

    def summary(self, at: int | None = None) -> pd.DataFrame:
        """Measure each profile out of sample: index "profile".

        With D days of net returns, A periods a year and the settings' risk-free rate, the columns are

        - annual_return: geometric, W^(A / D) - 1 with W the wealth on the last day, from 1;
        - volatility: sqrt(A) s, with s the standard deviation (divisor D - 1) of the returns;
        - sharpe: sqrt(A) mean(e) / s, with e the returns less the risk-free rate per period;
        - sortino: sqrt(A) mean(e) / sqrt(mean(min(e, 0)^2)) (Sortino and Price, 1994);
        - max_drawdown: the largest loss from a peak of the wealth, a positive number;
        - calmar: annual_return / max_drawdown (Young, 1991);
        - cvar: conditional value at risk, the mean loss in the worst 5 % of the days, a positive number, per period: of
          a = D / 20 days the floor(a) worst count whole, the next one by a - floor(a) (Rockafellar and Uryasev, 2000);
        - turnover (one-way), traded (bought plus sold), cost: of all rebalances, the first purchase too, times A / D: a
          year's;
        - effective_bets: mean over the rebalances of exp(- sum p ln p), p the clusters' shares in the variance of the
          portfolio as decided (see `Study.profile_summary`);
        - concentration: mean over the rebalances of sum x^2, x the weights bought: the Herfindahl index;
        - tracking_error, where leads are executed: annual, of the net returns against the whole portfolios';
        - beta, correlation, active_risk, information_ratio, where there is a benchmark, of the net returns r and its
          returns b: cov(r, b) / var(b), their correlation, the annual standard deviation of r - b (Grinold and Kahn,
          2000; also called the tracking error), and the annual mean of r - b over that (Goodwin, 1998); divisors D - 1;
        - kept: rebalances whose window had no portfolio, so that what was held was kept;
        - missing: days times assets held whose return was missing and counted as 0;
        - rebalances, days: how many there are;
        - live_turnover, live_traded: of the trades of `target`, which the last window's portfolio asks for now.
        """

        def one(g: int) -> pd.DataFrame:
            frame = self._figures(self.history.figures[g], pd.Index(self.profiles, name="profile"))
            frame["rebalances"] = self.schedule.n_held
            frame["days"] = self.schedule.n_days
            frame["live_turnover"], frame["live_traded"] = turnovers(self.history.live[g] - self.history.current[g])
            return frame

        return self.over_points(one, at)

    def benchmark_summary(self, at: int | None = None) -> pd.DataFrame:
        """Measure the benchmark on the days held: index "benchmark", its name.

        It is held as it is, without trades and costs.

        Args:
            at: number of a point of the grid; all points by default.

        Returns:
            Frame with those columns of `summary` that are of the returns alone, annual_return to cvar.

        Raises:
            InputError: there is no benchmark, or no such point.
        """
        benchmark = self._compared()
        index = pd.Index([benchmark.name], name="benchmark")
        return self.over_points(
            lambda g: pd.DataFrame(benchmark.figures(self.schedule, self.settings.at(g)), index=index), at
        )

    def differences(
        self,
        base: str | None = None,
        *,
        n: int = 2000,
        method: Method = "stationary",
        block_length: float | None = None,
        level: float = 0.95,
        seed: int | None = None,
    ) -> pd.DataFrame:
        """Tell how sure the differences between profiles are: paired bootstrap intervals.

        The days are resampled in blocks, the same resamples for all profiles, and each difference is taken within a
        resample.

        Args:
            base: the profile to compare with, by default `WalkForward.base`. If there is one profile alone, the points
                of a sweep are compared with its point `Sweep.home`.
            n: number of resamples.
            method: as `Bootstrap` takes it.
            block_length: likewise; by default a month of rows (21 of business days, three at least), or the number of
                days if that is less.
            level: of the intervals, between 0 and 1.
            seed: of the resamples; by default that of the walk-forward.

        Returns:
            Frame with the index ("profile", "measure"), measures annual_return, volatility and sharpe, and the columns
            base (its figure), difference (profile minus base), low, high (the interval) and share_above (share of the
            resamples in which the difference is above 0).

        Raises:
            InputError: there is nothing to compare, too few days, or an argument is out of range.
        """
        number = self.number(self.base if base is None else base)
        pairs = comparison.pairs_of(len(self.settings), len(self.profiles), number, self.settings.home)
        seed = self.seed if seed is None else seed
        return comparison.differences(
            self._trials(), pairs, n=n, method=method, block_length=block_length, level=level, seed=seed
        )

    def deflated_sharpe(self, n_trials: int | None = None) -> pd.DataFrame:
        """Deflate the Sharpe ratios by how many were tried (Bailey and Lopez de Prado, 2014).

        The trials are all points and profiles, M of them.

        Args:
            n_trials: how many were tried in all, if more than M, the number of points times profiles: what was tried
                before counts too.

        Returns:
            Frame with the trials' index and the columns sharpe (per period, not annual), skewness, kurtosis (3 for a
            normal distribution), days, trials, expected_maximum (Sharpe ratio per period that the best of the trials
            shows by chance; 0 for one trial) and deflated_sharpe (probability that the true Sharpe ratio is above 0 all
            the same). NaN where returns do not vary.

        Raises:
            InputError: there are too few days, ``n_trials`` is less than M, or it is more where M is 1.
        """
        return comparison.deflated_sharpe(self._trials(), n_trials)

    def probabilistic_sharpe(self, benchmark: float = 0.0) -> pd.DataFrame:
        """Judge each Sharpe ratio by the length and the shape of its record (Bailey and Lopez de Prado, 2012).

        It takes no account of how many were tried; `deflated_sharpe` does.

        Args:
            benchmark: annual Sharpe ratio that the true one is to be above.

        Returns:
            Frame with the trials' index and the columns sharpe (per period, not annual), skewness, kurtosis (3 for a
            normal distribution; both with divisor D), days, benchmark (annual, as given) and probabilistic_sharpe: the
            probability that the true Sharpe ratio is above the benchmark. NaN where returns do not vary.

        Raises:
            InputError: there are too few days, or the benchmark is no number.
        """
        return selection.probabilistic_sharpe(self._trials(), benchmark)

    def min_track_record(self, alpha: float = 0.95, benchmark: float = 0.0) -> pd.DataFrame:
        """Tell how long a record each Sharpe ratio needs (Bailey and Lopez de Prado, 2012).

        Args:
            alpha: the confidence, between 0.5 and 1.
            benchmark: annual Sharpe ratio that the true one is to be above.

        Returns:
            Frame with the trials' index and the columns sharpe, skewness, kurtosis and days (those there are) as
            `probabilistic_sharpe` has them, benchmark (annual), and min_days and min_years: the least rows, and years,
            on which returns of the same moments show with confidence ``alpha`` that the true ratio is above the
            benchmark. They are infinite where the ratio is not above the benchmark, NaN where returns do not vary.

        Raises:
            InputError: there are too few days, or an argument is out of range.
        """
        return selection.min_track_record(self._trials(), alpha, benchmark)

    def recommendation(self) -> WalkRecommendation:
        """Say which profile to hold, by the rules of `jaxalloc.backtest.recommendation`.

        Returns:
            Its profile is None if portfolios are held on fewer than three days.
        """
        return recommend(self._trials(), self.profiles, self.seed, self.overfitting)

    def overfitting(self, n_blocks: int = BLOCKS) -> Overfitting:
        """Ask whether choosing the best trial by its past pays (Bailey, Borwein, Lopez de Prado and Zhu, 2017).

        Combinatorially symmetric cross-validation over all trials, the points and profiles, M of them: the days are cut
        into ``n_blocks`` blocks of D // n_blocks rows (the first D mod n_blocks are left out). Each choice of half of
        the blocks is in sample once, the others are out of sample. The trial of the best Sharpe ratio in sample (the
        first of equals) has the rank r among the M out of sample, 1 the worst, the mean rank among equals. The
        probability of backtest overfitting is the share of choices in which it is in the lower half:
        ln(w / (1 - w)) <= 0 with w = r / (M + 1).

        A trial whose returns do not vary has no Sharpe ratio: it is left out, and counted. One that does not vary in
        one half of the blocks has the ratio 0 there, that of cash. Ratios that differ by rounding alone are equal.

        Args:
            n_blocks: an even number, 2 to 20.

        Returns:
            `Overfitting`.

        Raises:
            InputError: there is one trial alone, fewer than two vary, there are too few days for blocks of two rows, or
                ``n_blocks`` is odd or out of range.
        """
        if isinstance(n_blocks, int) and n_blocks == BLOCKS:
            return self._overfitting
        return selection.overfitting(self._trials(), n_blocks)

    @functools.cached_property
    def _overfitting(self) -> Overfitting:
        """The verdict that the recommendation, the tables and the figures of the choice share."""
        return selection.overfitting(self._trials(), BLOCKS)

    def leaderboard(self, n_trials: int | None = None) -> pd.DataFrame:
        """Tabulate all trials, those that do well by several measures first.

        Args:
            n_trials: as `deflated_sharpe` takes it.

        Returns:
            Frame with the trials' index and the columns annual_return, volatility, sharpe, max_drawdown, cvar,
            turnover, cost (as in `summary`); rank_annual_return, rank_volatility, rank_sharpe, rank_max_drawdown,
            rank_turnover (1 is the best, equals have their mean rank, NaN is the last) and mean_rank, their mean;
            probabilistic_sharpe (against 0) and deflated_sharpe; and expected_maximum: the *annual* Sharpe ratio that
            the best of the trials shows by luck alone, if none has any skill (0 for one trial). Rows are in the order
            of mean_rank, equals in that of their Sharpe ratios.

        Raises:
            InputError: as `deflated_sharpe`.
        """
        return selection.leaderboard(self._trials(), n_trials)

    @property
    def can_validate(self) -> bool:
        """Whether `overfitting` has anything to judge: two trials at least, on enough days."""
        return selection.can_validate(self._trials())

    @property
    def can_compare(self) -> bool:
        """Whether `differences` has anything to compare: two series of returns at least, on enough days."""
        return self.schedule.n_days >= FEWEST_DAYS and len(self.settings) * len(self.profiles) > 1

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
        figures = self._paths()
        index = pd.MultiIndex.from_product([range(len(figures)), self.profiles], names=["path", "profile"])
        return self.over_points(lambda g: self._figures(figures[:, g].reshape(-1, len(FIGURES)), index), at)

    def path_quantiles(
        self, quantiles: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95), at: int | None = None
    ) -> pd.DataFrame:
        """Summarise the paths: index ("profile", "measure").

        Args:
            quantiles: levels between 0 and 1.
            at: number of a point of a sweep's grid; all points by default.

        Returns:
            Frame with the columns history (the panel as it happened), mean, std (divisor count - 1), a column for each
            of the quantiles (linear, named q05 for 0.05) and n_paths (those in which the measure has a value).

        Raises:
            InputError: there are no paths, no such point, or a quantile is not between 0 and 1.
        """
        levels, figures = comparison.quantile_names(quantiles), self._paths()
        return self.over_points(
            lambda g: comparison.path_quantiles(
                figures[:, g], self.history.figures[g], self.profiles, self.shown, levels
            ),
            at,
        )

    def beats(self, base: str | None = None, at: int | None = None) -> pd.DataFrame:
        """Tell how often a profile beats another on the same path.

        Args:
            base: the profile to compare with, `WalkForward.base` by default.
            at: number of a point of a sweep's grid; all points by default.

        Returns:
            Frame with the index "profile" (without the base) and the measures as columns: the share of the paths on
            which the profile's is better: less for volatility, max_drawdown, turnover, traded, cost and tracking_error,
            more for the others. Equals count half; paths without a value for both do not count.

        Raises:
            InputError: there are no paths, no such profile or point, or one profile alone.
        """
        figures, number = self._paths(), self.number(self.base if base is None else base)
        return self.over_points(lambda g: comparison.beats(figures[:, g], self.profiles, number, self.shown), at)

    # ---- inside ----

    @property
    def shown(self) -> list[str]:
        """The measures of `summary` that apply here, of `jaxalloc.settings.measures.FIGURES`."""
        hidden = set() if self.execution == "lead" else {"tracking_error"}
        hidden |= set(BENCHMARK_MEASURES) if self.benchmark is None else set()
        return [name for name in FIGURES if name not in hidden]

    def _figures(self, figures: np.ndarray, index: pd.Index) -> pd.DataFrame:
        columns = {name: figures[:, FIGURES.index(name)] for name in self.shown}
        counts = [measure.name for measure in OF_WALKS if measure.kind == "count"]
        return pd.DataFrame(columns, index=index).astype(dict.fromkeys(counts, int))

    def _paths(self) -> np.ndarray:
        """The paths' figures; raise `InputError` if there are none."""
        if self.path_figures is None:
            raise InputError("there are no paths; give walk_forward paths=Bootstrap(...)")
        return self.path_figures

    def _compared(self) -> Benchmark:
        """The benchmark; raise `InputError` if there is none."""
        if self.benchmark is None:
            raise InputError("there is no benchmark; give walk_forward benchmark=, the name of a column of the panel")
        return self.benchmark

    def _trials(self) -> Trials:
        """All series of returns, to be compared."""
        configs = [self.settings.at(g) for g in range(len(self.settings)) for _ in self.profiles]
        return Trials(
            returns=self.history.net.reshape(len(configs), self.schedule.n_days),
            figures=self.history.figures.reshape(len(configs), len(FIGURES)),
            periods_per_year=np.array([config.periods_per_year for config in configs], float),
            risk_free_rate=np.array([config.risk_free_rate for config in configs], float),
            index=self._columns(),
        )

    def key(self, series: int) -> tuple[Any, ...]:
        """Return the settings swept and the profile of a series, numbered over all points and profiles."""
        g, p = divmod(series, len(self.profiles))
        return (*self.settings.points[g], self.profiles[p])

    def _columns(self) -> pd.Index:
        """Labels of all points and profiles."""
        if not self.settings.names:
            return pd.Index(self.profiles, name="profile")
        keys = [self.key(series) for series in range(len(self.settings) * len(self.profiles))]
        return pd.MultiIndex.from_tuples(keys, names=[*self.settings.names, "profile"])

    def _by_column(self, values: np.ndarray, index: pd.Index) -> pd.DataFrame:
        """(G, P, rows) as a frame."""
        series = values.reshape(values.shape[0] * values.shape[1], values.shape[2])
        return pd.DataFrame(series.T.copy(), index=index, columns=self._columns())

    def number(self, profile: str) -> int:
        """Return a profile's number; raise `InputError` if there is no such profile."""
        if profile not in self.profiles:
            raise InputError(f"the walk-forward has no profile {profile!r}; it has {', '.join(self.profiles)}")
        return self.profiles.index(profile)

    def _point(self, at: int) -> int:
        if not 0 <= at < len(self.settings):
            raise InputError(f"the walk-forward has points 0 to {len(self.settings) - 1}, not {at}")
        return at

    def over_points(self, table: Callable[[int], pd.DataFrame], at: int | None) -> pd.DataFrame:
        """Return the table of one point, or those of all below each other, the settings swept as first levels."""
        return tables.over_points(self.settings, table) if at is None else table(self._point(at))
