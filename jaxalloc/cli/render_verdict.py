"""What a person sees of a study first: the profiles side by side, which to hold and why, and its clusters by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from jaxalloc.arguments.words import counted, plain_name
from jaxalloc.cli.documents import records
from jaxalloc.cli.render import empty_table, percent, plain
from jaxalloc.portfolios.result import valid_universes
from jaxalloc.portfolios.tables import cluster_table
from jaxalloc.studies.recommendation import COMPARED_MEASURE, OVER_UNIVERSES, best_of

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from jaxalloc.studies.study import Study

_MOST_COLUMNS = 4  # profiles side by side on 80 columns
_SHOWN = 8  # clusters


def print_comparison(frame: pd.DataFrame, console: Console) -> None:
    """Print profiles side by side, the best of each row in bold.

    Args:
        frame: from `jaxalloc.studies.recommendation.compare`.
        console: to print on.
    """
    best = best_of(frame)
    profiles = list(map(str, frame.columns))
    names = list(map(plain_name, profiles))
    cells: dict[str, list[Text]] = {}
    for name, values in frame.iterrows():
        measure = COMPARED_MEASURE[str(name)]
        texts = [measure.write(float(value), "-") for value in values]
        bold = [best[str(name)] == profile for profile in profiles]
        heading = f"mean {measure.heading}" if name in OVER_UNIVERSES else measure.heading
        cells[heading] = [Text(text, "bold" if on else "") for text, on in zip(texts, bold, strict=True)]
    if len(profiles) <= _MOST_COLUMNS:
        grid = empty_table("", names)
        for heading, row in cells.items():
            grid.add_row(heading, *row)
    else:
        wanted = [COMPARED_MEASURE[name].heading for name in ("volatility", "effective_bets", "largest_cluster")]
        wanted += [heading for heading in cells if heading.startswith("mean ") and "volatility" not in heading]
        shown = {heading: row for heading, row in cells.items() if heading in wanted}
        grid = empty_table("", list(shown))
        for place, name in enumerate(names):
            grid.add_row(name, *(row[place] for row in shown.values()))
    console.print(grid)


def print_verdict(study: Study, console: Console) -> None:
    """Print the comparison of the profiles, the recommendation, and the clusters of the portfolio to hold."""
    if len(study.profiles) > 1:
        print_comparison(study.comparison(), console)
    advice = study.recommendation()
    if advice.profile is None:
        return
    name = plain_name(advice.profile)
    only = len(study.profiles) == 1
    head = name if only else f"hold {name}" if advice.told_apart else f"not told apart; shown is {name}"
    console.print(Text.assemble("\n", (head, "bold"), *([] if only else [f": {advice.why}"]), "\n"))
    if valid_universes(study.estimate(study.settings.home).status):
        _print_holdings(study, advice.profile, console)


def _print_holdings(study: Study, profile: str, console: Console) -> None:
    """Print the heaviest clusters of the panel's own portfolio: weight, share of the risk, and members."""
    at = study.settings.home
    estimate, config = study.estimate(at), study.settings.at(at)
    rows = records(cluster_table(estimate, profile, config, study.symbols))
    grid = empty_table("cluster of", ("weight", "risk"), ("assets, the heaviest first",))
    for row in rows[:_SHOWN]:
        text, room = row["members"], max(20, console.width - 40)
        text = text if len(text) <= room else f"{text[: room - 4].rpartition(',')[0] or text[: room - 4]}, ..."
        grid.add_row(plain(row["lead"]), percent(row["weight"]), percent(row["risk_contribution"]), plain(text))
    console.print(grid)
    if len(rows) > _SHOWN:
        rest = sum(row["weight"] for row in rows[_SHOWN:])
        console.print(f"and {counted(len(rows) - _SHOWN, 'more cluster')} with {percent(rest)} together", style="dim")
