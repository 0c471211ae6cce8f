"""What missing returns did to a study: the note that counts the assets put out, and the holes that count as 0."""

from __future__ import annotations

import numpy as np

from jaxalloc.arguments.words import counted, listing, quote
from jaxalloc.markets.holes import holes, most_holes
from jaxalloc.studies.plan import Plan
from jaxalloc.studies.totals import Counts
from jaxalloc.universes.samplers import RandomSubsets, RollingWindows


def note_of_gaps(symbols: list[str], plan: Plan, counts: Counts) -> tuple[str, ...]:
    """Say which assets were put out of universes for want of returns, and how many holes counted as 0.

    Args:
        symbols: the N assets.
        plan: of the study.
        counts: of all its universes at one point of the settings.

    Returns:
        One sentence, or none where nothing is missing or the returns are simulated.
    """
    missing = ~np.isfinite(plan.returns)
    if not missing.any() or any(part.first for part in plan.sampler.parts):
        return ()
    inside = holes(plan.returns)
    n_holes, outside = inside.sum(axis=0), np.asarray((missing & ~inside).any(axis=0))
    active, n = np.diagonal(counts.both), int(counts.n_valid)
    expected = float(n)
    for part in plan.sampler.parts:
        if isinstance(part, RandomSubsets):
            expected *= 0.5 * part.size / len(symbols)  # by chance an asset is in fewer subsets than that seldom
    said = []
    filled = _filled(plan, inside, missing & ~inside) * (active > 0)
    if filled.any():
        total, assets = int(filled.sum()), int((filled > 0).sum())
        said.append(
            f"{counted(total, 'missing return')} inside the {'life' if assets == 1 else 'lives'} of "
            f"{counted(assets, 'asset')} {'counts' if total == 1 else 'count'} as 0 where a universe misses at most "
            f"{100 * plan.max_missing:g} % of its rows"
        )
    out = np.flatnonzero(missing.any(axis=0) & (active < expected))
    if len(out):
        out = out[np.argsort(active[out], kind="stable")]
        names = listing(
            _asset_out(symbols[i], int(active[i]), n, bool(outside[i]), bool(n_holes[i])) for i in out.tolist()
        )
        were = "was" if len(out) == 1 else "were"
        said.append(f"{len(out):,} of {counted(len(symbols), 'asset')} {were} put out of universes: {names}")
    text = "; ".join(said)
    return (f"{text}.",) if text else ()


def _filled(plan: Plan, inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """(N,) how many holes count as 0 in some universe: those in a window that has few, or else all."""
    n_rows, n_assets = inside.shape
    windows = [part for part in plan.sampler.parts if isinstance(part, RollingWindows)]
    if not plan.max_missing or not windows:
        return inside.sum(axis=0) * (plan.max_missing > 0)
    stop = windows[0].ends(n_rows) + 1
    start = np.zeros_like(stop) if windows[0].expanding else stop - windows[0].window
    before = [np.vstack([np.zeros(n_assets, int), each.cumsum(axis=0)]) for each in (inside, outside)]
    n_inside, n_outside = (each[stop] - each[start] for each in before)
    few = n_inside <= most_holes(plan.max_missing, (stop - start)[:, None], float(np.finfo(float).eps))
    window, asset = np.nonzero(few & (n_outside == 0))
    covered = np.zeros((n_rows + 1, n_assets), int)
    np.add.at(covered, (start[window], asset), 1)
    np.add.at(covered, (stop[window], asset), -1)
    return (inside & (covered.cumsum(axis=0)[:-1] > 0)).sum(axis=0)


def _asset_out(symbol: str, active: int, n: int, outside: bool, holed: bool) -> str:
    there = f"in {active:,} of {n:,}" if active else "in none"
    why = " and ".join([*(["listed late or delisted"] if outside else []), *(["holes"] if holed else [])])
    return f"{quote(symbol)} ({there}: {why})"
