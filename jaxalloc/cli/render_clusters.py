"""What a person sees in a terminal of the cuts of a tree, and of the clusters of the one to take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.text import Text

from jaxalloc.arguments.words import counted
from jaxalloc.cli.options import flag_of
from jaxalloc.cli.render import empty_table, plain
from jaxalloc.settings.config import AllocationConfig
from jaxalloc.settings.readers import CLUSTERING

if TYPE_CHECKING:
    from rich.console import Console

    from jaxalloc.studies.choice import ClusterChoice

_MOST_CUTS = 12  # of a table that is not asked for in full


def print_choice(choice: ClusterChoice, file: Path, console: Console, everything: bool) -> None:
    """Print the cuts, all or some of them, the one to take and why, its clusters, and how to use it."""
    table = choice.table
    grid = empty_table("clusters", ("silhouette", "stability", "alone", "largest"), ("",))
    shown = range(len(table)) if everything else _some(table.index.tolist().index(choice.clusters), len(table))
    for place in shown:
        row, k = table.iloc[place], int(table.index[place])
        taken = k == choice.clusters
        numbers = f"{row['silhouette']:.3f}", f"{row['stability']:.2f}", str(row["alone"]), f"{row['largest']:.0%}"
        cells = [str(k), *numbers, "take this one" if taken else "trivial" if row["trivial"] else ""]
        grid.add_row(*cells, style="bold" if taken else "")
    console.print(grid)
    if len(shown) < len(table):
        console.print(f"--all shows every one of the {len(table)} cuts", style="dim")
    console.print(Text.assemble("\n", (counted(choice.clusters, "cluster"), "bold"), f": {choice.why}\n"))
    groups = choice.groups
    together = [names for names in groups if len(names) > 1]
    for number, names in enumerate(together, 1):
        console.print(plain(f"{number:>3}. {', '.join(map(str, names))}"))
    alone = [str(name) for names in groups if len(names) == 1 for name in names]
    if alone:
        console.print(plain(f"alone: {', '.join(alone)}"))
    console.print()
    console.print(plain(f"Use it: jaxalloc allocate {file} {_flags(choice.config)}"), style="dim", soft_wrap=True)


def _some(taken: int, count: int) -> list[int]:
    """Places of some rows of a table, from the first to the last, with the one that is taken."""
    if count <= _MOST_CUTS:
        return list(range(count))
    steps = np.geomspace(1, count, _MOST_CUTS).round().astype(int) - 1
    return sorted({*steps.tolist(), taken})


def _flags(config: AllocationConfig) -> str:
    """The choices of clusters that differ from the defaults, as options."""
    default, words = AllocationConfig(), []
    for name in CLUSTERING:
        value = getattr(config, name)
        if value != getattr(default, name):
            words.append(f"--{flag_of(name)}" if value is True else f"--{flag_of(name)} {value}")
    return " ".join(words)
