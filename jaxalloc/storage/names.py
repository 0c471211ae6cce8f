"""The names and places of a folder of results: the only ones that this package reads, writes, moves or removes."""

from __future__ import annotations

import re

MANIFEST, COPY, LOCK, CHUNKS, STATE = "manifest.json", "manifest-copy.json", "lock", "chunks", "state"
PARTIAL = ".jaxalloc.partial"

OF_STUDIES = frozenset(
    {
        *("study.json", "summary.csv", "profiles.csv", "stability.csv", "point_assets.csv", "point_clusters.csv"),
        *("co_association.parquet", "correlation.parquet", "truth.parquet"),
    }
)
OF_WALKS = frozenset(
    {
        *("walk_forward.json", "summary.csv", "rebalances.csv", "returns.csv", "target.csv", "paths.csv"),
        *("benchmark.csv", "orders.csv", "history.parquet", "dates.parquet", "weights.parquet"),
    }
)
RESULTS = OF_STUDIES | OF_WALKS

_NUMBERED = re.compile(r"[0-9]{6,12}\.parquet")
MOST_CHUNKS = 10**12  # a larger number is no chunk's


def file_name(number: int) -> str:
    """Return the name of the file of a chunk, or of the state after that many chunks."""
    return f"{number:06d}.parquet"


def number_of(name: str) -> int | None:
    """Return the number of which a name is the `file_name`; None of any other name."""
    if _NUMBERED.fullmatch(name) is None:
        return None
    number = int(name.removesuffix(".parquet"))
    return number if file_name(number) == name else None


def is_in_study(path: str) -> bool:
    """Tell whether a path within a study's folder, with ``/`` between its parts, is that of a file of ours."""
    folder, _, name = path.rpartition("/")
    if folder:
        return folder in (CHUNKS, STATE) and number_of(name) is not None
    return name in OF_STUDIES or name in (MANIFEST, COPY, LOCK)


def partial_name(name: str) -> str:
    """Return the name of a file while it is written."""
    return f".{name}{PARTIAL}"


def is_partial(name: str) -> bool:
    """Tell whether a name is the `partial_name` of a file of ours."""
    inner = name.removeprefix(".").removesuffix(PARTIAL)
    ours = inner in RESULTS or inner in (MANIFEST, COPY) or number_of(inner) is not None
    return ours and name == partial_name(inner)
