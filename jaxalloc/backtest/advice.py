"""What is to be said of a walk-forward once its windows are allocated: sentences for its record."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxalloc.arguments.words import counted
from jaxalloc.backtest.bagging import Bagged
from jaxalloc.backtest.plan import WalkPlan
from jaxalloc.markets.panel import Panel
from jaxalloc.portfolios.advice import advise
from jaxalloc.settings.measures import OF_WALKS
from jaxalloc.studies.advice import nothing_allocated
from jaxalloc.studies.study import Study


def bagging_notes(bagged: Bagged | None, profiles: Sequence[str]) -> list[str]:
    """Say of each profile in how many windows its bagged portfolio exceeds the cap of a cluster."""
    if bagged is None:
        return []
    notes, windows = [], bagged.over_cap.shape[0] * bagged.over_cap.shape[2]
    over = bagged.over_cap.sum(axis=(0, 2))
    for profile, count in zip(profiles, over, strict=True):
        if count:
            notes.append(
                f"The mean portfolio of {profile} gives a cluster of the window's own more than its cap in "
                f"{count:,} of {counted(windows, 'window')}."
            )
    return notes


def walk_notes(panel: Panel, plan: WalkPlan, allocations: Study) -> list[str]:
    """Return what is to be said of a walk-forward; if no window has portfolios the last sentence says why.

    The clusters and the number of assets are those of the last window, on which the live target is decided.
    """
    labels = allocations.columns("cluster_labels", at=plan.settings.home)["cluster_labels"]
    notes = advise(
        plan.settings,
        plan.windows.returns,
        np.asarray(labels[-1]),
        n_rows=plan.schedule.window,
        figures=[measure.name for measure in OF_WALKS],
        leads=plan.execution == "lead",
    )
    return notes + ([] if allocations.n_valid else [nothing_allocated(panel, plan.windows, "window")])
