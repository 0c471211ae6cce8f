"""What is to be said of a study once it is computed: sentences for its record, after those of its panel."""

from __future__ import annotations

import numpy as np

from jaxalloc.arguments.words import lowered
from jaxalloc.markets.panel import Panel
from jaxalloc.portfolios.advice import advise, why_none
from jaxalloc.settings.measures import MEASURES
from jaxalloc.studies.plan import Plan
from jaxalloc.studies.study import Study


def study_notes(panel: Panel, plan: Plan, study: Study) -> list[str]:
    """Return what is to be said of a study; if no universe has portfolios the last sentence says why."""
    n_rows, n_assets = plan.returns.shape
    for part in plan.sampler.parts:
        n_rows, n_assets = part.rows_after(n_rows), part.assets_after(n_assets)
    labels = study.estimate(study.settings.home).cluster_labels
    notes = advise(plan.settings, plan.returns, labels, n_rows=n_rows, subset=n_assets, figures=MEASURES)
    return notes + ([] if study.n_valid else [nothing_allocated(panel, plan, "universe")])


def nothing_allocated(panel: Panel, plan: Plan, unit: str) -> str:
    """Say why no universe of a plan, or no ``"window"``, has portfolios."""
    why = why_none(panel, plan.settings, np.dtype(f"float{plan.precision}"), unit, plan.max_missing)
    return f"No {unit} has a portfolio: {lowered(why)}"
