"""run_study(): how far an allocation moves when its data or its settings change.

A study's folder is a store (`jaxalloc.storage.writer`). While the study runs it holds chunks, a running summary and
manifests, and at the end

- ``summary.csv``, ``profiles.csv``: `Study.summary` and `Study.profile_summary`;
- ``stability.csv``: `Study.cluster_stability`; ``co_association.parquet``: `Study.co_association` (of a sweep neither);
- ``correlation.parquet``: `Study.correlation`, with the symbols;
- ``truth.parquet``: `Study.truth`, where returns are simulated;
- ``point_assets.csv``, ``point_clusters.csv``: `asset_table` and `cluster_table` of the panel's own portfolios, by
  profile, after the settings swept; without rows if the whole panel is no valid universe;
- ``study.json``: `Study.record`, the symbols, how often each status occurs, and the status of the panel's own
  portfolios.

In the CSV files a symbol that a spreadsheet would take for a formula has an apostrophe in front.

A chunk's table has a row a universe: point (of the grid), universe (number of the draw), n_clusters, cluster_labels and
aggressors (lists, one entry an asset in the order of the symbols), and for each profile PROFILE.weights and
PROFILE.leads (lists), the `jaxalloc.settings.measures.MEASURES` such as PROFILE.volatility, PROFILE.optimality_gap and
PROFILE.status.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any, Literal

import pandas as pd

from jaxalloc.arguments.errors import AllocationWarning
from jaxalloc.arguments.processes import check_process
from jaxalloc.markets.holes import MAX_MISSING
from jaxalloc.markets.panel import Panel, as_panel
from jaxalloc.markets.periods import resolve_periods
from jaxalloc.markets.source import source_of
from jaxalloc.settings.config import AllocationConfig
from jaxalloc.settings.sweep import Sweep, as_sweep
from jaxalloc.studies.advice import study_notes
from jaxalloc.studies.compute import RunOptions, compute_study
from jaxalloc.studies.plan import Keep, make_plan
from jaxalloc.studies.study import Study
from jaxalloc.universes.samplers import Sampler


def run_study(
    panel: Panel | pd.DataFrame,
    sampler: Sampler | None = None,
    config: AllocationConfig | Sweep | None = None,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    *,
    max_missing: float = MAX_MISSING,
    keep: Keep = "weights",
    precision: int = 64,
    chunk_size: int | Literal["auto"] | None = "auto",
    resume: bool = False,
    fresh: bool = False,
    dask: Any = None,
    profile_dir: str | os.PathLike[str] | None = None,
    command: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> Study:
    """Allocate every universe that a sampler draws from a panel, and the panel itself.

    A universe's portfolios depend on the panel, the settings, the precision, the seed and the universe's number alone:
    another chunk size, an interruption, or another number of devices gives the same bits. Memory does not grow with the
    number of universes, if ``out`` is given or ``keep`` is ``"summary"``.

    An asset is active in a universe if all rows that the universe holds lie in its life, from its first to its last
    return in the panel, and it has a return in all of them but for the share ``max_missing``. Returns that are missing
    there count as 0. A note of the record says which assets were put out, and how many returns counted as 0.

    Args:
        panel: returns per period, as `read_returns` makes them; or a frame of them without gaps.
        sampler: such as `Bootstrap(n=1000)`, or a product of samplers; by default the panel itself is the one universe.
        config: settings, or a grid of them from `sweep`; `AllocationConfig()` by default.
        seed: 0 to 2**32 - 1; the same one draws the same universes anywhere.
        out: folder to write to, chunk by chunk; the module's docstring lists its files. By default nothing is written.
        max_missing: largest share of a universe's rows that an active asset may miss inside its life, at least 0 and
            less than 1; a row that is held twice counts twice.
        keep: ``"weights"`` keeps every universe's weights and clusters; ``"summary"`` only their summaries.
        precision: 64 or 32 bits.
        chunk_size: universes computed at once, rounded up to whole groups; ``"auto"`` suits the device's memory.
        resume: go on with the study in ``out``, if there is one: finished chunks are not computed again.
        fresh: throw away the study in ``out``, if there is one, and start again.
        dask: a `distributed.Client`, or the address of a scheduler: its workers compute, and this process writes.
        profile_dir: folder for a trace of JAX's profiler.
        command: the command line that makes this study, for its record.
        progress: called with the number of universes done since the last call.

    Returns:
        `Study`. What is to be said of its settings, data and clusters is in ``record["notes"]``; an `AllocationWarning`
        says why, where no universe has portfolios.

    Raises:
        InputError: an argument, the data or the folder is at fault, or this process was forked after JAX had run;
            raised before anything is computed.
        OSError: the results could not be written; what was finished is kept.

    Example:
        >>> import jaxalloc as ja
        >>> market = ja.datasets.synthetic_market(n_assets=12, n_observations=252)
        >>> config = ja.AllocationConfig(profiles=("risk_parity",))
        >>> study = run_study(market, ja.Bootstrap(n=100, method="circular", block_length=21), config)
        >>> study.weights("risk_parity").shape
        (100, 12)
    """
    check_process()
    panel = as_panel(panel)
    settings, notes = resolve_periods(as_sweep(config), panel.dates)
    source = source_of(panel)
    source.notes.extend(notes)
    plan = make_plan(
        panel,
        sampler,
        settings,
        seed=seed,
        precision=precision,
        keep=keep,
        chunk_size=chunk_size,
        max_missing=max_missing,
    )
    options = RunOptions(out=out, resume=resume, fresh=fresh, dask=dask, profile_dir=profile_dir, progress=progress)
    study = compute_study(
        plan, source, options.check("study"), command, notes_on=lambda study: study_notes(panel, plan, study)
    )
    if not study.n_valid:
        warnings.warn(study.record["notes"][-1], AllocationWarning, stacklevel=2)
    return study
