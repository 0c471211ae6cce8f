"""What a walk-forward's page says of choosing the best trial: a verdict, a figure, and which was the best how often."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from jaxalloc.arguments.words import trial_name
from jaxalloc.figures.selection import logits
from jaxalloc.report.drawings import Drawings
from jaxalloc.report.text_table import TextTable
from jaxalloc.report.words import percent, ratio

if TYPE_CHECKING:
    from jaxalloc.backtest.walk import WalkForward

_SHOWN = 10  # trials


@dataclasses.dataclass(frozen=True)
class Choice:
    """What the page says of the choice of the best trial.

    Attributes:
        verdict: whether the best trial is recommended, and why.
        how: how that was found, and what else was.
        figure: what the template takes of the logits' figure.
        alt: what is seen on the figure.
        best: the trials that were the best most often.
    """

    verdict: str
    how: str
    figure: dict[str, Any]
    alt: str
    best: TextTable


def choice(walk: WalkForward, drawings: Drawings) -> Choice | None:
    """Judge the choice of the best trial; None where there are too few trials or days.

    Args:
        walk: the walk-forward.
        drawings: take the figure.
    """
    if not walk.can_validate:
        return None
    found = walk.overfitting()
    before, after = (ratio(float(each.mean())) for each in (found.in_sample, found.out_of_sample))
    how = (
        f"The days are cut into {found.n_blocks} blocks of {found.block_rows} rows. On each half of the blocks the "
        "trial with the best Sharpe ratio is chosen, and ranked among all trials on the other half. The share of the "
        "splits in which it is no better than the median there is the probability of backtest overfitting (Bailey, "
        f"Borwein, Lopez de Prado and Zhu, 2017). On average the chosen one had a ratio of {before} where it was "
        f"chosen, and of {after} on the other half; in {percent(found.loss, 0)} of the splits it was below 0 there."
    )
    return Choice(
        verdict=found.verdict,
        how=how,
        figure=drawings.add("logits", lambda: logits(walk)),
        alt=f"ranks of the chosen trial on the other half: {percent(found.pbo, 0)} no better than the median",
        best=TextTable(
            ("", "the best in"),
            [
                (trial_name(label, walk.settings.names), percent(count / found.n_halves))
                for label, count in found.best.sort_values(ascending=False, kind="stable").head(_SHOWN).items()
                if count
            ],
        ),
    )
