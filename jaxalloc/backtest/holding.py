"""The portfolios of a walk-forward's studies, held through the rows after their windows, path by path.

Each decision is held once with every band; what it earns after each of the costs follows from that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from jaxalloc.backtest.bagging import bagged_bets
from jaxalloc.backtest.performance import against_benchmark, performance, tracking_error
from jaxalloc.backtest.plan import WalkPlan
from jaxalloc.backtest.schedule import Schedule
from jaxalloc.backtest.simulation import Held, Market, after_costs, concentrate, hold
from jaxalloc.backtest.trading import Rule, trade
from jaxalloc.backtest.walk import History
from jaxalloc.portfolios.means import lead_assets
from jaxalloc.settings.measures import BENCHMARK_MEASURES, FIGURES
from jaxalloc.studies.bags import Bags
from jaxalloc.studies.study import Study, column_values
from jaxalloc.universes.bootstrap import Bootstrap

_BLOCK_BYTES = 2**27  # of the paths that are held at once


class Decisions(NamedTuple):
    """What was decided on the windows of a block of B paths.

    Paths are numbered over all points of the allocations' settings: path b at point g is g * paths + b. M is P; where
    lead assets are executed it is 2 P, their portfolios and then the whole ones.

    Attributes:
        first: the number of the block's first path.
        targets: (B, J, M, N) weights; NaN where a window has no portfolio.
        bets: (B, P, J) effective number of bets; None where portfolios are bagged.
        bagged: (B, J, P, N) the bagged portfolios, whole; None where they are not.
        labels: (B, J, N) the windows' own clusters, likewise.
    """

    first: int
    targets: np.ndarray
    bets: np.ndarray | None
    bagged: np.ndarray | None
    labels: np.ndarray | None

    @property
    def numbers(self) -> np.ndarray:
        """(B,) the paths' numbers."""
        return self.first + np.arange(len(self.targets))


def hold_history(plan: WalkPlan, market: Market, study: Study, bags: Bags | None) -> History:
    """Hold the portfolios through the panel as it happened, at every point.

    Args:
        plan: of the walk-forward.
        market: its panel.
        study: of the panel's windows.
        bags: of these, where portfolios are bagged.
    """
    rows, blocks = np.arange(plan.schedule.n_rows)[None, :], []
    for block in _decisions(plan, plan.schedule, study, bags):
        each = np.broadcast_to(rows, (len(block.targets), rows.shape[1]))
        bets, parts = _bets(plan, plan.schedule, each, block, block.numbers), []
        for rule in plan.points.rules:
            held = _hold(plan, plan.schedule, market, each, block.targets, rule, keep_weights=True)
            parts += [_history(plan, block, held, rule, cost, bets) for cost in plan.points.costs]
        # the points of the allocations' settings, and within each of them the bands and costs
        blocks.append({name: _joined([getattr(part, name) for part in parts]) for name in History._fields})
    return History(**{name: np.concatenate([block[name] for block in blocks]) for name in History._fields})


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """(B, ...) arrays of bands and costs, all of the first path's before those of the second: (B parts, ...)."""
    stacked = np.stack(parts, axis=1)
    return stacked.reshape(stacked.shape[0] * stacked.shape[1], *stacked.shape[2:])


def _history(plan: WalkPlan, block: Decisions, held: Held, rule: Rule, cost: float, bets: np.ndarray) -> History:
    """What a block's paths, one for each of these points of the allocations' settings, came to."""
    p, r = len(plan.profiles), plan.schedule.n_held
    assert held.weights is not None
    net = after_costs(held, plan.schedule, cost * 1e-4)
    current, last = held.last[:, :p], block.targets[:, -1, :p]
    undecided = np.isnan(last[..., 0])
    target = np.where(undecided[..., None], current, last)
    live = trade(current, target, rule).weights
    return History(
        gross=held.gross[:, :p],
        net=net[:, :p],
        whole_net=net[:, p:],
        turnover=held.turnover[:, :p],
        traded=held.traded[:, :p],
        kept=held.kept[:, :p],
        missing=held.missing[:, :p],
        bets=bets[:, :, :r],
        weights=held.weights[:, :p],
        target=target,
        live=np.where(undecided[..., None], current, live),
        current=current,
        undecided=undecided,
        figures=_figures(plan, held, net, cost, bets, block.numbers, np.arange(plan.schedule.n_rows)[None]),
    )


def hold_paths(plan: WalkPlan, paths: Bootstrap, market: Market, study: Study, bags: Bags | None) -> np.ndarray:
    """Hold the portfolios through every resampled path, at every point.

    Args:
        plan: of the walk-forward.
        paths: the resampled paths, prepared.
        market: the panel.
        study: of the paths' windows.
        bags: of these, where portfolios are bagged.

    Returns:
        (paths, G, P, F) `FIGURES`.
    """
    schedule, rules, costs = plan.path_schedule, plan.points.rules, plan.points.costs
    n, n_decided = study.n // schedule.n_windows, len(plan.settings)
    drawn = np.empty((n, schedule.n_rows), np.int32)
    n_drawn = 0  # each path is drawn once, for the first point, and kept for the others
    figures = np.empty((n_decided * n, len(rules), len(costs), len(plan.profiles), len(FIGURES)))
    for block in _decisions(plan, schedule, study, bags):
        points, index = np.divmod(block.numbers, n)
        stop = min(int(block.numbers[-1]) + 1, n)
        if stop > n_drawn:
            drawn[n_drawn:stop] = paths.rows(schedule.n_rows, plan.seed, n_drawn, stop)
            n_drawn = stop
        bets = _bets(plan, schedule, drawn[index], block, points)
        for k, rule in enumerate(rules):
            held = _hold(plan, schedule, market, drawn[index], block.targets, rule)
            for c, cost in enumerate(costs):
                net = after_costs(held, schedule, cost * 1e-4)
                figures[block.numbers, k, c] = _figures(plan, held, net, cost, bets, points, drawn[index])
    figures = figures.reshape(n_decided, n, *figures.shape[1:]).swapaxes(0, 1)
    return figures.reshape(n, len(plan.points), *figures.shape[-2:])


def _decisions(plan: WalkPlan, schedule: Schedule, study: Study, bags: Bags | None) -> Iterator[Decisions]:
    """Read a study's portfolios, or the bagged ones in their place, a block of paths at a time."""
    profiles, lead, n_windows = plan.profiles, plan.execution == "lead", schedule.n_windows
    names = [f"{profile}.{name}" for profile in profiles for name in ("weights", "effective_bets")]
    if lead or bags is not None:
        names += ["cluster_labels", *(f"{profile}.leads" for profile in profiles if lead)]
    for first, columns in _by_path(study, names, n_windows, _block_size(plan, schedule)):
        weights = [columns[f"{profile}.weights"].astype(float) for profile in profiles]
        weights = [each / each.sum(axis=1, keepdims=True) for each in weights]  # those of float32 sum to 1 nearly
        labels, bagged = columns.get("cluster_labels"), None
        if bags is not None:
            bagged = bags.mean(slice(first * n_windows, first * n_windows + len(weights[0])))
            bagged[np.isnan(weights[0][:, 0])] = np.nan  # nothing says what its clusters are
            weights = list(bagged.swapaxes(0, 1))
        if lead:
            assert labels is not None
            leads = [columns[f"{profile}.leads"] for profile in profiles]
            leads = leads if bagged is None else _leads(bagged, labels)
            weights = [concentrate(each, labels, at) for each, at in zip(weights, leads, strict=True)] + weights
        targets = np.stack(weights, axis=1)
        own = np.stack([columns[f"{profile}.effective_bets"].astype(float) for profile in profiles], axis=1)
        bets = own.reshape(-1, n_windows, len(profiles)).swapaxes(1, 2)

        def by_path(array: np.ndarray | None) -> np.ndarray | None:
            return None if array is None or bags is None else array.reshape(-1, n_windows, *array.shape[1:])

        yield Decisions(
            first=first,
            targets=targets.reshape(-1, n_windows, *targets.shape[1:]),
            bets=bets if bags is None else None,
            bagged=by_path(bagged),
            labels=by_path(labels),
        )


def _leads(bagged: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    """For each profile (U, N) bool, the asset of highest weight in each cluster of some windows' own."""
    leads = np.zeros(bagged.shape, bool)
    for u, (weights, own) in enumerate(zip(bagged, labels, strict=True)):
        for p, of_clusters in enumerate(lead_assets(weights, own)):
            leads[u, p, of_clusters[of_clusters >= 0]] = True
    return list(leads.swapaxes(0, 1))


def _bets(plan: WalkPlan, schedule: Schedule, rows: np.ndarray, block: Decisions, points: np.ndarray) -> np.ndarray:
    """(B, P, J) effective numbers of bets of the portfolios as decided."""
    if block.bets is not None:
        return block.bets
    assert block.bagged is not None
    assert block.labels is not None
    return bagged_bets(plan, schedule, rows, plan.filled, block.bagged, block.labels, points)


def _block_size(plan: WalkPlan, s: Schedule) -> int:
    """Paths of a block."""
    n = plan.previous.shape[1]
    m = len(plan.profiles) * (2 if plan.execution == "lead" else 1)
    numbers = (3 * s.n_windows + 24) * m * n + 4 * s.longest * n + 8 * s.n_days * m + s.n_rows
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
    rule: Rule,
    keep_weights: bool = False,
) -> Held:
    previous = np.tile(plan.previous, (targets.shape[2] // len(plan.previous), 1))
    return hold(market, rows, targets, previous, schedule, rule, keep_weights)


def _figures(
    plan: WalkPlan, held: Held, net: np.ndarray, cost: float, bets: np.ndarray, points: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """(B, P, F) `FIGURES` of paths at these points of the allocations' settings, at a cost in basis points.

    ``rows`` (B, T), or (1, T) for all, are the panel's rows on each of a path's days.
    """
    p, n_days = len(plan.profiles), plan.schedule.n_days
    configs = [plan.settings.at(int(point)) for point in points]
    years = np.array([[config.periods_per_year] for config in configs], float)
    rates = np.array([[config.risk_free_rate] for config in configs], float)
    net, whole = net[:, :p], net[:, p:]
    yearly = years / n_days if n_days else np.full_like(years, np.nan)
    turnover, traded = (each[:, :p].sum(axis=2) * yearly for each in (held.turnover, held.traded))
    figures = performance(net, years, rates) | {
        "turnover": turnover,
        "traded": traded,
        "cost": traded * cost * 1e-4,
        "effective_bets": _mean(bets[:, :, : plan.schedule.n_held]),
        "concentration": _mean(held.concentration[:, :p]),
        "tracking_error": tracking_error(net - whole, years) if whole.shape[1] else np.full(turnover.shape, np.nan),
        **_beside_benchmark(plan, net, years, rows),
        "kept": held.kept[:, :p].sum(axis=2),
        "missing": held.missing[:, :p].sum(axis=2),
    }
    return np.stack([figures[name] for name in FIGURES], axis=2)


def _beside_benchmark(plan: WalkPlan, net: np.ndarray, years: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
    """`BENCHMARK_MEASURES` of (B, P, D) net returns on paths of these rows; all NaN where there is no benchmark."""
    if plan.benchmark is None:
        return {name: np.full(net.shape[:2], np.nan) for name in BENCHMARK_MEASURES}
    held = plan.benchmark.on(rows[:, plan.schedule.first_held :])
    return against_benchmark(net, held[:, None], years)


def _mean(values: np.ndarray) -> np.ndarray:
    """(B, P) means of (B, P, R) over the rebalances that have a value; NaN where none has."""
    some = np.isfinite(values).sum(axis=2)
    return np.where(some > 0, np.nansum(values, axis=2) / np.maximum(some, 1), np.nan)
