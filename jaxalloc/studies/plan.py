"""Plan: all that a study's numbers depend on, checked."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, get_args

import numpy as np

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.numbers import check_seed, whole_number
from jaxalloc.markets.holes import MAX_MISSING, check_max_missing
from jaxalloc.markets.panel import Panel
from jaxalloc.settings.sweep import Sweep
from jaxalloc.universes.samplers import Product, Sampler
from jaxalloc.universes.universe import MOST_UNIVERSES

Keep = Literal["weights", "summary"]

_MOST_SUMMARIES = 2**33  # bytes that the summaries of a sweep's points may take


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """All that a study's numbers depend on; plain values and NumPy arrays, to be sent to workers.

    Attributes:
        returns: (T, N) panel, NaN where missing.
        sampler: prepared for the panel.
        settings: the grid of settings, G points.
        seed: of the draws.
        precision: 64 or 32.
        keep: whether chunks hold each universe ("weights"), only add to the totals ("summary"), or only to the mean
            portfolios of groups ("means", of a sampler that ends in `jaxalloc.universes.bootstrap.Bags`).
        chunk_size: universes of a chunk; None for what suits the device.
        max_missing: share of a universe's rows that an asset may miss inside its life; they count as returns of 0.
    """

    returns: np.ndarray
    sampler: Product
    settings: Sweep
    seed: int
    precision: int
    keep: str
    chunk_size: int | None
    max_missing: float = MAX_MISSING

    @property
    def n_draws(self) -> int:
        """Universes that are drawn, each allocated at every point of the grid."""
        return self.sampler.count(len(self.returns))

    @property
    def n_universes(self) -> int:
        """All universes: universe i is draw i % n_draws at point i // n_draws."""
        return self.n_draws * len(self.settings)


def make_plan(
    panel: Panel,
    sampler: Sampler | None,
    settings: Sweep,
    *,
    seed: Any,
    precision: Any,
    keep: Any = "weights",
    chunk_size: Any = "auto",
    max_missing: Any = MAX_MISSING,
) -> Plan:
    """Check a study's arguments, and make its plan of them.

    Args:
        panel: returns per period.
        sampler: of the universes; None where the panel itself is the one universe.
        settings: one point or more.
        seed: as `run_study` takes it.
        precision: likewise.
        keep: likewise.
        chunk_size: likewise.
        max_missing: likewise.

    Raises:
        InputError: an argument is out of range, or does not fit the panel.
    """
    if sampler is not None and not isinstance(sampler, Sampler):
        raise InputError(f"sampler must be one that draws universes, such as Bootstrap(n=1000), not {sampler!r}")
    returns, config = panel.values, settings.config
    product = Product(() if sampler is None else sampler.parts).prepare(panel, len(returns), config.periods_per_year)
    if "periods_per_year" in settings.names and any(part.first for part in product.parts):
        raise InputError("periods_per_year cannot be swept over simulated returns, whose moments it scales")
    total = product.count(len(returns)) * len(settings)
    if total > MOST_UNIVERSES:
        raise InputError(
            f"{total:,} universes, with every point of the grid, are too many for one study; it takes "
            f"{MOST_UNIVERSES:,}"
        )
    _check_room(settings, returns.shape[1])
    if precision not in (32, 64):
        raise InputError(f"precision must be 32 or 64 bits, not {precision!r}")
    if keep not in get_args(Keep):
        raise InputError(f"keep must be one of {', '.join(get_args(Keep))}, not {keep!r}")
    return Plan(
        returns=returns,
        sampler=product,
        settings=settings,
        seed=check_seed(seed),
        precision=precision,
        keep=keep,
        chunk_size=None if chunk_size in ("auto", None) else whole_number("chunk_size", chunk_size, 1),
        max_missing=check_max_missing(max_missing),
    )


def _check_room(settings: Sweep, n_assets: int) -> None:
    # of a point: co-association and both-active counts, and what the histograms hold
    room = len(settings) * n_assets * (16 * n_assets + 2**13 * len(settings.config.profiles))
    if room > _MOST_SUMMARIES:
        raise InputError(
            f"the summaries of {len(settings):,} points for {n_assets} assets take about {room / 2**30:.0f} GiB "
            "of memory; sweep over fewer values at a time"
        )
