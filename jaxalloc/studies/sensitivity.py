"""sensitivity(): the estimates that portfolios hang on, of a panel or of the universes drawn from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pandas as pd

from jaxalloc.arguments.arrays import as_array
from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.numbers import whole_number
from jaxalloc.arguments.plotting import Drawable
from jaxalloc.arguments.processes import check_process
from jaxalloc.arguments.words import counted, cut, lowered, per_cent
from jaxalloc.engine.scheduler import Engine
from jaxalloc.engine.stages import Items
from jaxalloc.markets.holes import MAX_MISSING, weigh_gaps
from jaxalloc.markets.panel import Panel, as_panel, panel_of_frame
from jaxalloc.markets.periods import periods_of_rows
from jaxalloc.portfolios.advice import why_invalid
from jaxalloc.portfolios.result import valid_universes
from jaxalloc.portfolios.sensitivity import Sensitivities
from jaxalloc.settings.config import AllocationConfig, check_config
from jaxalloc.settings.sweep import as_sweep
from jaxalloc.studies.plan import Plan, make_plan
from jaxalloc.universes.samplers import Sampler, steps
from jaxalloc.universes.universe import WHOLE_PANEL, seed_key

ESTIMATES = ("mean", "volatility")
_TURNOVERS = tuple(f"{name}_turnover" for name in ESTIMATES)
OWN_COLUMNS = ("weight", *(f"{name}_error" for name in ESTIMATES), *_TURNOVERS)  # of the panel's own frame
_SHOWN = 3  # of each profile, in a line


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Sensitivity(Drawable):
    """What portfolios hang on: for each profile and asset, what one standard error of its mean or volatility trades.

    Attributes:
        frame: a row for each profile and asset (index "profile", "asset"), fractions:

            - weight: of the asset in the portfolio;
            - mean_error: standard error of its annual mean, sigma / sqrt(n);
            - volatility_error: of its annual volatility, sigma / sqrt(2 n);
            - mean_turnover: one-way turnover that a mean off by one standard error would cause, to first order, with
              the clusters and what is at a bound kept;
            - volatility_turnover: likewise of a volatility, with the correlations kept.

            Over universes these are means over those in which the asset takes part, and two columns more,
            mean_turnover_std and volatility_turnover_std, say how far the turnovers vary. 0 or, over universes, NaN for
            an asset that takes part in none.
        n: universes; 1 for the panel itself.
        n_valid: of those, how many have portfolios.
    """

    frame: pd.DataFrame
    n: int
    n_valid: int

    @property
    def profiles(self) -> tuple[str, ...]:
        """The profiles."""
        return tuple(self.frame.index.unique("profile"))

    def largest(self, profile: str, n: int = 10) -> pd.DataFrame:
        """Return the estimates that a profile's portfolio hangs on most, the worst first.

        Args:
            profile: its name.
            n: how many, at most.

        Returns:
            Frame, a row for each estimate, with the columns asset, estimate ("mean" or "volatility"), error (the
            standard error, annual) and turnover.

        Raises:
            InputError: there is no such profile, or ``n`` is no count.
        """
        if profile not in self.profiles:
            raise InputError(f"unknown profile {profile!r}; choose from {', '.join(self.profiles)}")
        own = self.frame.loc[profile]
        parts = [
            pd.DataFrame(
                {
                    "asset": own.index,
                    "estimate": name,
                    "error": own[f"{name}_error"].to_numpy(),
                    "turnover": own[f"{name}_turnover"].to_numpy(),
                }
            )
            for name in ESTIMATES
        ]
        table = pd.concat(parts, ignore_index=True)
        most = table["turnover"].fillna(0).to_numpy()
        order = np.argsort(-most, kind="stable")
        return table.iloc[order[most[order] > 0][: whole_number("n", n, 1)]].reset_index(drop=True)

    def __repr__(self) -> str:
        """At most six lines: what it is of, and the estimates that count most for each profile."""
        of = "the panel's portfolios" if self.n == 1 else f"portfolios of {counted(self.n, 'universe')}"
        lines = [f"Sensitivity of {of}: turnover that one standard error of an estimate would cause"]
        for profile in self.profiles[:4]:
            worst = self.largest(profile, _SHOWN)[["asset", "estimate", "turnover"]].to_numpy().tolist()
            named = (f"{asset}'s {estimate} {per_cent(turnover, 1, '-')}" for asset, estimate, turnover in worst)
            lines.append(f"{profile}: {', '.join(named) or 'nothing'}")
        if len(self.profiles) > 4:
            lines.append(f"and {counted(len(self.profiles) - 4, 'profile')} more")
        return "\n".join(map(cut, lines))

    def _repr_html_(self) -> str:
        """The estimates that count most for each profile; names are escaped."""
        parts = {profile: self.largest(profile, _SHOWN) for profile in self.profiles}
        return pd.concat(parts, names=["profile", "rank"]).to_html()


def sensitivity(
    panel: Panel | pd.DataFrame | Any,
    config: AllocationConfig | None = None,
    sampler: Sampler | None = None,
    *,
    seed: int = 0,
    max_missing: float = MAX_MISSING,
    precision: int = 64,
    progress: Callable[[int], None] | None = None,
) -> Sensitivity:
    """Measure which estimates the portfolios of a panel hang on.

    A bootstrap shows how far weights move when all estimates are uncertain at once. This says which estimate moves
    them: the derivatives of the weights, times the standard errors of each asset's mean and volatility. It takes about
    as long as the portfolios themselves.

    Args:
        panel: returns per period, as `read_returns` makes them, a frame of them, or an array (T, N), which is taken as
            it is and names its assets "0", "1" and so on; gaps count as in `run_study`.
        config: settings; `AllocationConfig()` by default.
        sampler: measures universes that are drawn from the panel, such as `RollingWindows`, in place of the panel.
        seed: of the draws, as `run_study` takes it.
        max_missing: likewise.
        precision: likewise.
        progress: called with the number of universes done since the last call.

    Returns:
        `Sensitivity`.

    Raises:
        InputError: an argument or the data is at fault, or no universe has a portfolio.

    Example:
        >>> import jaxalloc as ja
        >>> market = ja.datasets.synthetic_market(n_assets=12, n_observations=252)
        >>> found = ja.sensitivity(market, ja.AllocationConfig(profiles=("risk_parity", "max_sharpe")))
        >>> found.frame.shape, found.largest("risk_parity", 1)["estimate"].item()
        ((24, 5), 'volatility')
    """
    check_process()
    config = check_config(AllocationConfig() if config is None else config)
    panel = _panel_of(panel)
    config = periods_of_rows(config, panel.returns)
    plan = make_plan(
        panel, sampler, as_sweep(config), seed=seed, precision=precision, keep="summary", max_missing=max_missing
    )
    found = sensitivity_of(plan, panel.symbols, None if sampler is None else plan.n_draws, progress)
    if not found.n_valid:
        why = "no universe has a portfolio"
        if sampler is None:
            gaps = weigh_gaps(panel.values, max_missing)
            why = lowered(
                why_invalid(panel, config, np.dtype(f"float{precision}"), np.ones(len(plan.returns)), gaps.whole)
            )
        raise InputError(f"nothing was allocated: {why}")
    return found


def _panel_of(panel: Any) -> Panel:
    if isinstance(panel, pd.DataFrame):
        return panel_of_frame(panel, missing="mask")
    if isinstance(panel, Panel):
        return as_panel(panel)
    values = np.asarray(as_array("returns", panel), float)
    if values.ndim != 2 or 0 in values.shape:
        raise InputError(f"returns must have two axes, observations and assets, not shape {values.shape}")
    return Panel(returns=pd.DataFrame(values, columns=[str(i) for i in range(values.shape[1])]))  # taken as it is


def sensitivity_of(
    plan: Plan, symbols: list[str], n: int | None, progress: Callable[[int], None] | None = None
) -> Sensitivity:
    """Measure the first ``n`` universes of a plan at its first point, or the panel itself where that is None."""
    config = plan.settings.at(0)
    simulated = any(part.first for part in plan.sampler.parts)
    gaps = weigh_gaps(plan.returns, plan.max_missing)
    whole = n is None
    with jax.enable_x64(plan.precision == 64):
        of_draws = not whole and simulated
        engine = Engine(
            plan.returns.shape,
            config,
            panel=np.zeros((1, plan.returns.shape[1])) if of_draws else gaps.returns,
            draws=() if whole else steps(plan.sampler, len(plan.returns)),
            key=seed_key(plan.seed),
            gaps=None if of_draws else gaps,
            sensitivities=True,
        )
        sums = _Sums(len(config.profiles), len(symbols))
        index = np.array([WHOLE_PANEL]) if n is None else np.arange(n)
        for first in range(0, len(index), engine.chunk_size):
            chosen = index[first : first + engine.chunk_size]
            for part in engine.start(Items(index=chosen), progress=progress).parts:
                assert part.sensitivities is not None
                weights, status = (np.asarray(getattr(part.results, name)) for name in ("weights", "status"))
                sums.add(weights, part.sensitivities, valid_universes(status), part.count)
    return Sensitivity(frame=sums.frame(config.profiles, symbols, spread=not whole), n=len(index), n_valid=sums.valid)


class _Sums:
    """Sums over universes, by profile and asset, of those in which the asset takes part."""

    def __init__(self, n_profiles: int, n_assets: int) -> None:
        shape = n_profiles, n_assets
        self.valid, self.count = 0, np.zeros(shape)
        self.sums = {name: np.zeros(shape) for name in ("weight", *Sensitivities._fields)}
        self.squares = {name: np.zeros(shape) for name in _TURNOVERS}

    def add(self, weights: np.ndarray, made: Sensitivities, valid: np.ndarray, count: int) -> None:
        for i in np.flatnonzero(valid[:count]):  # in the order of the universes: the same bits whatever the parts
            self.valid += 1
            self.count += made.mean_error[i] > 0
            self.sums["weight"] += weights[i]
            for name, values in made._asdict().items():
                self.sums[name] += values[i]
            for name, squares in self.squares.items():
                squares += getattr(made, name)[i].astype(float) ** 2

    def frame(self, profiles: tuple[str, ...], symbols: list[str], spread: bool) -> pd.DataFrame:
        count = np.where(self.count > 0, self.count, np.nan if spread else 1)
        means = {name: self.sums[name] / (max(self.valid, 1) if name == "weight" else count) for name in OWN_COLUMNS}
        columns = {name: values.ravel() for name, values in means.items()}
        if spread:
            for name, squares in self.squares.items():
                variance = (squares - count * means[name] ** 2) / np.where(count > 1, count - 1, np.nan)
                columns[f"{name}_std"] = np.sqrt(np.maximum(variance, 0)).ravel()
        return _frame(columns, profiles, symbols)


def own_sensitivity(columns: dict[str, np.ndarray], profiles: tuple[str, ...], symbols: list[str]) -> Sensitivity:
    """Return a panel's own, from its columns (P, N) each: all 0 where it has no portfolios."""
    frame = _frame({name: values.ravel() for name, values in columns.items()}, profiles, symbols)
    return Sensitivity(frame=frame, n=1, n_valid=int(columns["weight"].any()))


def _frame(columns: dict[str, np.ndarray], profiles: tuple[str, ...], symbols: list[str]) -> pd.DataFrame:
    return pd.DataFrame(columns, index=pd.MultiIndex.from_product([profiles, symbols], names=["profile", "asset"]))
