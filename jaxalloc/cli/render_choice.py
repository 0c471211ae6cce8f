"""What a person sees in a terminal of the choice of the best trial: its record, and whether choosing pays."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from jaxalloc.arguments.words import counted, lowered
from jaxalloc.cli.documents import records
from jaxalloc.cli.render import plain

if TYPE_CHECKING:
    from rich.console import Console

    from jaxalloc.backtest.walk import WalkForward


def print_choice(walk: WalkForward, label: Any, console: Console) -> None:
    """Print how long a record the best trial needs, and the verdict on choosing it where there are others.

    Args:
        walk: the walk-forward.
        label: of the trial with the best Sharpe ratio.
        console: to print on.
    """
    alone = float(walk.probabilistic_sharpe().loc[[label], "probabilistic_sharpe"].iloc[0])
    row: dict[str, Any] = walk.min_track_record().loc[[label]].to_dict(orient="records")[0]
    text = f"As if it were the only one, the probability is {alone:.2f} (probabilistic)"
    if math.isfinite(row["min_days"]):
        needed = counted(math.ceil(row["min_days"]), "row")
        text += f"; 95 % takes {needed}, or {row['min_years']:.1f} years, of such returns"
    console.print(plain(f"{text}."))
    if walk.can_validate:
        found = walk.overfitting()
        console.print(plain(f"PBO {found.pbo:.2f}: {lowered(found.verdict)}"))


def choice_document(walk: WalkForward) -> dict[str, Any]:
    """Return the tables of the choice as plain values; empty or None where there are too few days or trials."""
    judged = walk.schedule.n_days > 2
    overfitting = None
    if walk.can_validate:
        found = walk.overfitting()
        overfitting = found.figures() | {"verdict": found.verdict, "best": records(found.best.to_frame())}
    return {
        "probabilistic_sharpe": records(walk.probabilistic_sharpe()) if judged else [],
        "min_track_record": records(walk.min_track_record()) if judged else [],
        "leaderboard": records(walk.leaderboard()) if judged else [],
        "overfitting": overfitting,
    }
