"""What is to be said of a walk-forward once its windows are allocated: sentences for its record."""

from __future__ import annotations

import numpy as np

from jaxalloc.backtest.plan import WalkPlan
from jaxalloc.markets.panel import Panel
from jaxalloc.portfolios.advice import advise
from jaxalloc.settings.measures import OF_WALKS
from jaxalloc.studies.advice import nothing_allocated
from jaxalloc.studies.study import Study


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
