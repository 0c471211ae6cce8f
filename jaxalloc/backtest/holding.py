"""The portfolios of a walk-forward's studies, held through the rows after their windows, path by path."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from jaxalloc.backtest.performance import performance, tracking_error
from jaxalloc.backtest.plan import WalkPlan
from jaxalloc.backtest.schedule import Schedule
from jaxalloc.backtest.simulation import Held, Market, concentrate, hold
from jaxalloc.backtest.walk import History
from jaxalloc.settings.measures import FIGURES
from jaxalloc.studies.study import Study, column_values
from jaxalloc.universes.bootstrap import Bootstrap

_BLOCK_BYTES = 2**27  # of the paths that are held at once


class Decisions(NamedTuple):
    """What was decided on the windows of a block of B paths.

    Paths are numbered over all points: path b at point g is g * paths + b. M is P; where lead assets are executed it is
    2 P, their portfolios and then the whole ones.

    Attributes:
        first: the number of the block's first path.
        targets: (B, J, M, N) weights; NaN where a window has no portfolio.
        bets: (B, P, J) effective number of bets.
    """

    first: int
    targets: np.ndarray
    bets: np.ndarray

    @property
    def numbers(self) -> np.ndarray:
        """(B,) the paths' numbers."""
        return self.first + np.arange(len(self.targets))


def hold_history(plan: WalkPlan, market: Market, study: Study) -> History:
    """Hold the portfolios through the panel as it happened, at every point of the settings.

    Args:
        plan: of the walk-forward.
        market: its panel.
        study: of the panel's windows.
    """
    rows, blocks = np.arange(plan.schedule.n_rows)[None, :], []
    p, r = len(plan.profiles), plan.schedule.n_held
    for block in _decisions(plan, plan.schedule, study):
        each = np.broadcast_to(rows, (len(block.targets), rows.shape[1]))
        held = _hold(plan, plan.schedule, market, each, block.targets, keep_weights=True)
        current, last = held.last[:, :p], block.targets[:, -1, :p]
        undecided = np.isnan(last[..., 0])
        assert held.weights is not None
        blocks.append(
            History(
                gross=held.gross[:, :p],
                net=held.net[:, :p],
                whole_net=held.net[:, p:],
                turnover=held.turnover[:, :p],
                kept=held.kept[:, :p],
                missing=held.missing[:, :p],
                bets=block.bets[:, :, :r],
                weights=held.weights[:, :p],
                target=np.where(undecided[..., None], current, last),
                current=current,
                undecided=undecided,
                figures=_figures(plan, held, block.bets, block.numbers),
            )
        )
    return History(**{name: np.concatenate([getattr(block, name) for block in blocks]) for name in History._fields})


def hold_paths(plan: WalkPlan, paths: Bootstrap, market: Market, study: Study) -> np.ndarray:
    """Hold the portfolios through every resampled path, at every point of the settings.

    Args:
        plan: of the walk-forward.
        paths: the resampled paths, prepared.
        market: the panel.
        study: of the paths' windows.

    Returns:
        (paths, G, P, F) `FIGURES`.
    """
    schedule = plan.path_schedule
    n, n_points = study.n // schedule.n_windows, len(plan.settings)
    drawn = np.empty((n, schedule.n_rows), np.int32)
    n_drawn = 0  # each path is drawn once, for the first point, and kept for the others
    figures = np.empty((n_points * n, len(plan.profiles), len(FIGURES)))
    for block in _decisions(plan, schedule, study):
        points, index = np.divmod(block.numbers, n)
        stop = min(int(block.numbers[-1]) + 1, n)
        if stop > n_drawn:
            drawn[n_drawn:stop] = paths.rows(schedule.n_rows, plan.seed, n_drawn, stop)
            n_drawn = stop
        held = _hold(plan, schedule, market, drawn[index], block.targets)
        figures[block.numbers] = _figures(plan, held, block.bets, points)
    return figures.reshape(n_points, n, *figures.shape[1:]).swapaxes(0, 1)


def _decisions(plan: WalkPlan, schedule: Schedule, study: Study) -> Iterator[Decisions]:
    """Read a study's portfolios, a block of paths at a time."""
    profiles, lead, n_windows = plan.profiles, plan.execution == "lead", schedule.n_windows
    names = [f"{profile}.{name}" for profile in profiles for name in ("weights", "effective_bets")]
    if lead:
        names += ["cluster_labels", *(f"{profile}.leads" for profile in profiles)]
    for first, columns in _by_path(study, names, n_windows, _block_size(plan, schedule)):
        weights = [columns[f"{profile}.weights"].astype(float) for profile in profiles]
        weights = [each / each.sum(axis=1, keepdims=True) for each in weights]  # those of float32 sum to 1 nearly
        if lead:
            labels = columns["cluster_labels"]
            leads = [columns[f"{profile}.leads"] for profile in profiles]
            weights = [concentrate(each, labels, at) for each, at in zip(weights, leads, strict=True)] + weights
        targets = np.stack(weights, axis=1)
        bets = np.stack([columns[f"{profile}.effective_bets"].astype(float) for profile in profiles], axis=1)
        yield Decisions(
            first=first,
            targets=targets.reshape(-1, n_windows, *targets.shape[1:]),
            bets=bets.reshape(-1, n_windows, len(profiles)).swapaxes(1, 2),
        )


def _block_size(plan: WalkPlan, s: Schedule) -> int:
    """Paths of a block."""
    n = plan.previous.shape[1]
    m = len(plan.profiles) * (2 if plan.execution == "lead" else 1)
    numbers = 3 * s.n_windows * m * n + 4 * s.longest * n + 8 * s.n_days * m + s.n_rows
    return max(1, _BLOCK_BYTES // (8 * numbers))


def _by_path(study: Study, names: list[str], n_windows: int, most: int) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Columns of the study's universes, whole paths at a time, ``most`` at most; with the number of the first one."""
    assert study.tables is not None
    first, waiting = 0, {name: np.empty(0) for name in names}
    for table in study.tables(names):
        for name, rows in waiting.items():
            new = column_values(table[name])
            waiting[name] = np.concatenate([rows, new]) if len(rows) else new
        while (count := min(most, len(waiting[names[0]]) // n_windows)) == most:
            yield first, {name: rows[: count * n_windows] for name, rows in waiting.items()}
            waiting = {name: rows[count * n_windows :] for name, rows in waiting.items()}
            first += count
    if len(waiting[names[0]]):
        yield first, waiting


def _hold(
    plan: WalkPlan,
    schedule: Schedule,
    market: Market,
    rows: np.ndarray,
    targets: np.ndarray,
    keep_weights: bool = False,
) -> Held:
    previous = np.tile(plan.previous, (targets.shape[2] // len(plan.previous), 1))
    return hold(market, rows, targets, previous, schedule, plan.costs_bps * 1e-4, keep_weights)


def _figures(plan: WalkPlan, held: Held, bets: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(B, P, F) `FIGURES` of paths at these points of the settings."""
    p, n_days = len(plan.profiles), plan.schedule.n_days
    configs = [plan.settings.at(int(point)) for point in points]
    years = np.array([[config.periods_per_year] for config in configs], float)
    rates = np.array([[config.risk_free_rate] for config in configs], float)
    net, whole = held.net[:, :p], held.net[:, p:]
    yearly = years / n_days if n_days else np.full_like(years, np.nan)
    turnover = held.turnover[:, :p].sum(axis=2) * yearly
    figures = performance(net, years, rates) | {
        "turnover": turnover,
        "cost": turnover * plan.costs_bps * 1e-4,
        "effective_bets": _mean(bets[:, :, : plan.schedule.n_held]),
        "concentration": _mean(held.concentration[:, :p]),
        "tracking_error": tracking_error(net - whole, years) if whole.shape[1] else np.full(turnover.shape, np.nan),
        "kept": held.kept[:, :p].sum(axis=2),
        "missing": held.missing[:, :p].sum(axis=2),
    }
    return np.stack([figures[name] for name in FIGURES], axis=2)


def _mean(values: np.ndarray) -> np.ndarray:
    """(B, P) means of (B, P, R) over the rebalances that have a value; NaN where none has."""
    some = np.isfinite(values).sum(axis=2)
    return np.where(some > 0, np.nansum(values, axis=2) / np.maximum(some, 1), np.nan)
