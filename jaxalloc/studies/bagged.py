"""allocate_bagged(): the mean of the portfolios of a panel's resamples, with the standard errors of its weights."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pandas as pd

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.plotting import Drawable
from jaxalloc.arguments.words import counted, cut
from jaxalloc.markets.holes import MAX_MISSING, weigh_gaps
from jaxalloc.markets.panel import Panel, as_panel, panel_of_frame
from jaxalloc.markets.periods import resolve_periods, rows_a_year
from jaxalloc.portfolios.means import by_cluster, lead_assets, over_cap
from jaxalloc.portfolios.result import Allocation, valid_universes
from jaxalloc.settings.config import AllocationConfig, check_config
from jaxalloc.settings.status import Status
from jaxalloc.settings.sweep import Sweep, as_sweep, plain_config
from jaxalloc.studies.risk import Universe, risks_of
from jaxalloc.studies.run import run_study
from jaxalloc.studies.study import Study
from jaxalloc.universes.bootstrap import Bootstrap
from jaxalloc.universes.samplers import block_of_rows

_RESAMPLES = 200  # by default


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class BaggedAllocation(Drawable):
    """Bagged portfolios of one panel: P profiles, N assets, NumPy arrays.

    Attributes:
        allocation: `Allocation` of the mean weights. Clusters and aggressors are the panel's own, and leads the assets
            of highest mean weight in these; risk is by the panel's own covariance. `Status.BAGGED_OVER_CAP` says that
            one of these clusters has more than its cap. There is no solution: gaps are NaN, iterations 0.
        standard_errors: (P, N) standard deviations of the weights over the resamples (divisor n - 1): bootstrap
            standard errors (Efron, 1979) of `own`'s weights. The error of the mean of n resamples is this over the
            square root of n.
        own: the portfolios of the panel itself, without bagging.
        n: resamples that were drawn.
        n_valid: those that have portfolios; the others are left out.
        study: the `Study` of the resamples, with all else about them.
    """

    allocation: Allocation
    standard_errors: np.ndarray
    own: Allocation
    n: int
    n_valid: int
    study: Study

    def to_frame(self) -> pd.DataFrame:
        """Return weights, then standard errors: a row an asset (index "asset"), columns ("profile", "value").

        The values are weight, standard_error, and own, the weight without bagging.
        """
        parts = {}
        for p, profile in enumerate(self.study.profiles):
            parts[profile] = pd.DataFrame(
                {
                    "weight": self.allocation.weights[p],
                    "standard_error": self.standard_errors[p],
                    "own": self.own.weights[p],
                },
                index=pd.Index(self.study.symbols, name="asset"),
            )
        return pd.concat(parts, axis=1, names=["profile", "value"])

    def __repr__(self) -> str:
        """At most five lines: what it is the mean of, and the portfolios."""
        first = f"BaggedAllocation: mean of {counted(self.n_valid, 'resample')}"
        if self.n_valid < self.n:
            first += f", {self.n - self.n_valid:,} of {self.n:,} being invalid"
        return "\n".join(map(cut, [first, *repr(self.allocation).split("\n")]))

    def _repr_html_(self) -> str:
        """A row for each profile; names are escaped."""
        return self.allocation._repr_html_()


def allocate_bagged(
    panel: Panel | pd.DataFrame,
    config: AllocationConfig | None = None,
    bagging: Bootstrap | None = None,
    *,
    seed: int = 0,
    max_missing: float = MAX_MISSING,
    precision: int = 64,
    chunk_size: int | Literal["auto"] | None = "auto",
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    fresh: bool = False,
    dask: Any = None,
    command: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> BaggedAllocation:
    """Allocate resamples of a panel, and average their portfolios (Breiman, 1996; Michaud, 1998).

    A weight that hangs on a few rows is in few resamples' portfolios, and shrinks in the mean. What every resample
    would hold stays. Weights are at least 0 and sum to 1, as every resample's do. Caps hold in every resample for its
    own clusters, so that the mean may exceed the cap of the panel's own, which its status says.

    Args:
        panel: returns per period, as `read_returns` makes them, or a frame of them, in which gaps are kept.
        config: settings; `AllocationConfig()` by default.
        bagging: how the rows are resampled; by default 200 times in circular blocks of a month of rows (21 of business
            days, three at least), or of half the rows if these are fewer.
        seed: of the draws, 0 to 2**32 - 1.
        max_missing: as `run_study` takes it, like all that follow. There is a study of the resamples, of which
            summaries are kept.
        precision: likewise.
        chunk_size: likewise.
        out: likewise.
        resume: likewise.
        fresh: likewise.
        dask: likewise.
        command: likewise.
        progress: likewise.

    Returns:
        `BaggedAllocation`.

    Raises:
        InputError: an argument or the data is at fault, or neither the panel nor any resample has portfolios.
        OSError: the study could not be written.

    Example:
        >>> import jaxalloc as ja
        >>> market = ja.datasets.synthetic_market(n_assets=12, n_observations=252)
        >>> config = ja.AllocationConfig(profiles=("max_sharpe",))
        >>> bagged = ja.allocate_bagged(market, config, ja.Bootstrap(50, "circular", 21))
        >>> bagged.to_frame().shape, bagged.n_valid
        ((12, 3), 50)
    """
    panel = panel_of_frame(panel, missing="mask") if isinstance(panel, pd.DataFrame) else as_panel(panel)
    if bagging is None:
        bagging = monthly_blocks(_RESAMPLES, panel, as_sweep(config))
    elif not isinstance(bagging, Bootstrap):
        raise InputError(f"bagging must be a Bootstrap, such as Bootstrap(200, 'circular', 21), not {bagging!r}")
    study = run_study(
        panel,
        bagging,
        plain_config(check_config(AllocationConfig() if config is None else config)),
        seed,
        out,
        max_missing=max_missing,
        keep="summary",
        precision=precision,
        chunk_size=chunk_size,
        resume=resume,
        fresh=fresh,
        dask=dask,
        command=command,
        progress=progress,
    )
    return bagged_of(study, panel, max_missing)


def monthly_blocks(n: int, panel: Panel, settings: Sweep) -> Bootstrap:
    """Return how bagging resamples by default: in circular blocks of a month of rows, at most half of a panel's.

    Args:
        n: number of resamples.
        panel: the returns, whose dates say how many rows a month has.
        settings: likewise, if they say it.

    Raises:
        InputError: neither says it.
    """
    resolved, _ = resolve_periods(settings, panel.dates)
    month = block_of_rows(rows_a_year(resolved.config.periods_per_year, panel.dates))
    return Bootstrap(n, method="circular", block_length=max(1, min(month, panel.n_observations // 2)))


def bagged_of(study: Study, panel: Panel, max_missing: float) -> BaggedAllocation:
    """Return the bagged portfolios of a study of resamples.

    Args:
        study: of resamples of the panel, at one point.
        panel: the panel.
        max_missing: that the study took.

    Raises:
        InputError: the panel or all resamples have no portfolios.
    """
    own, config = study.estimate(0), study.settings.config
    if not valid_universes(own.status):
        raise InputError("the whole panel has no portfolio; see the notes of the study, or clean the data")
    frames = [study.bagged(profile) for profile in study.profiles]
    weights, errors = (np.stack([frame[name].to_numpy() for frame in frames]) for name in ("weight", "standard_error"))
    labels = np.asarray(own.cluster_labels)
    returns = weigh_gaps(panel.values, max_missing).returns
    (risk,) = risks_of([Universe(returns=returns, mask=labels >= 0, weights=weights)], config, study.precision)
    over = over_cap(weights, labels, config)
    allocation = dataclasses.replace(
        own,
        weights=weights,
        cluster_weights=by_cluster(weights, labels),
        lead_assets=lead_assets(weights, labels),
        volatility=risk.volatility,
        expected_return=risk.expected_return,
        risk_contributions=risk.contributions,
        optimality_gap=np.full(len(weights), np.nan),
        iterations=np.zeros(len(weights), np.int32),
        status=own.status | np.where(over, Status.BAGGED_OVER_CAP.value, 0).astype(own.status.dtype),
        symbols=tuple(study.symbols),
        profiles=study.profiles,
    )
    total = study.totals[0].tallies
    return BaggedAllocation(
        allocation=allocation,
        standard_errors=errors,
        own=dataclasses.replace(own, symbols=tuple(study.symbols), profiles=study.profiles),
        n=int(total.n),
        n_valid=int(total.n_valid),
        study=study,
    )
