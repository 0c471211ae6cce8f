"""What is seen on a figure, for a reader who does not see it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jaxalloc.report.verdict import Verdict
from jaxalloc.report.words import percent
from jaxalloc.settings.measures import UNIVERSE_MEASURE

if TYPE_CHECKING:
    from jaxalloc.studies.study import Study


def spoken(measures: Sequence[str]) -> str:
    """Names of measures, as a figure's axes have them."""
    return ", ".join(UNIVERSE_MEASURE[name].words for name in measures)


def alts(study: Study, verdict: Verdict, at: int) -> dict[str, str]:
    """A sentence for each figure whose words the page does not say beside it.

    Args:
        study: the study.
        verdict: what the page says first.
        at: the point of a sweep's grid that is shown.

    Returns:
        Sentences by the figure's name, or by the profile whose weights it shows.
    """
    summary: Any = study.summary(at)
    said = {"risks": "", "sleeve": "", "together": ""}
    if verdict.holdings is not None and verdict.holdings.rows:
        lead, weight, risk, _ = verdict.holdings.rows[0]
        said["risks"] = f"The heaviest, that of {lead}, has {weight} of the weight and {risk} of the risk."
    for profile in study.profiles:
        table = summary.loc[profile]
        said[profile] = _heaviest(table)
        if table["frequency_sleeve"].max() > 0:
            often = table["frequency_sleeve"].astype(float)
            said["sleeve"] = f"Most often {often.idxmax()}, in {percent(float(often.max()), 0)} of the universes."
    stable = study.cluster_stability(at).dropna(subset="stability")
    if len(stable):
        least = stable.loc[stable["stability"].idxmin()]
        said["together"] = f"The least stable cluster, {least['members']}, holds in {percent(least['stability'], 0)}."
    return said


def _heaviest(table: Any) -> str:
    """A sentence on the asset of largest mean weight, and the middle 90 % of its weights; empty if there is none."""
    known = table.dropna(subset="mean")
    if known.empty:
        return ""
    row = known.loc[known["mean"].idxmax()]
    return f"The heaviest on average is {row.name} with {percent(row['q05'])} to {percent(row['q95'])}."
