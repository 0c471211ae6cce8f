"""Who the rivals are, and the libraries that each of them needs."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any, NamedTuple

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import quote
from rivals.common import Array, Side

ALONE = "none"  # in the place of rivals' names: jaxalloc runs alone
INSTALL = "pip install -r benchmarks/requirements.txt"  # what brings every rival's libraries


class Rival(NamedTuple):
    """A rival.

    Attributes:
        name: what tables call it.
        about: what it is, in a few words.
        module: the module of this package that holds it.
        attribute: the class in that module.
        libraries: the modules that it imports beyond jaxalloc's own dependencies.
        in_precision: whether it computes in the precision asked for; in float64 if not.
    """

    name: str
    about: str
    module: str
    attribute: str
    libraries: tuple[str, ...] = ()
    in_precision: bool = False


RIVALS = {
    "plain": Rival(
        name="expert's loop",
        about="NumPy, SciPy's linkage, DAQP, numba's descent",
        module="expert",
        attribute="Plain",
        libraries=("numba", "daqp"),
    ),
    "expert": Rival(
        name="tuned expert loop",
        about="that loop with clusters and columns in numba",
        module="expert",
        attribute="Tuned",
        libraries=("numba", "daqp"),
    ),
    "original": Rival(
        name="pandas + SLSQP",
        about="one universe at a time in pandas and SciPy",
        module="original",
        attribute="Original",
    ),
    "skfolio": Rival(
        name="skfolio NCO",
        about="skfolio's NestedClustersOptimization",
        module="libraries",
        attribute="Skfolio",
        libraries=("skfolio", "sklearn", "cvxpy", "clarabel"),
    ),
    "riskfolio": Rival(
        name="Riskfolio-Lib NCO",
        about="Riskfolio-Lib's HCPortfolio",
        module="libraries",
        attribute="Riskfolio",
        libraries=("riskfolio", "cvxpy", "clarabel"),
    ),
    "naive": Rival(
        name="naive JAX",
        about="JAX as one would first write it",
        module="naive",
        attribute="Naive",
        libraries=("jaxopt",),
        in_precision=True,
    ),
}


def missing_libraries(key: str) -> list[str]:
    """Name the libraries of a rival that are not installed; none is imported."""
    return [name for name in RIVALS[key].libraries if importlib.util.find_spec(name) is None]


def start(key: str, panel: Array, n_workers: int, precision: int) -> Side:
    """Import a rival and let it get ready on a panel (T, N): on return its workers are up and all is compiled."""
    rival = RIVALS[key]
    make = getattr(importlib.import_module(f"rivals.{rival.module}"), rival.attribute)
    options: dict[str, Any] = {"precision": precision} if rival.in_precision else {}
    return make(panel, n_workers, **options)


def choose(names: str | None) -> tuple[list[str], list[str]]:
    """Read the rivals wanted, names with commas between; None for all that can run.

    Returns:
        The rivals that run, and those that would if their libraries were installed.

    Raises:
        InputError: a rival is unknown, or one that is named cannot run.
    """
    if names is None:
        left_out = [key for key in RIVALS if missing_libraries(key)]
        return [key for key in RIVALS if key not in left_out], left_out
    if names.strip() == ALONE:
        return [], []
    chosen = list(dict.fromkeys(name.strip() for name in names.split(",")))
    for key in chosen:
        if key not in RIVALS:
            raise InputError(
                f"--rivals {quote(names)}: there is no {quote(key)}; choose from {', '.join(RIVALS)}, {ALONE}"
            )
        if missing_libraries(key):
            raise InputError(f"--rivals {quote(names)}: leave {left_out_note(key)}, or {INSTALL}")
    return chosen, []


def left_out_note(key: str) -> str:
    """Say which libraries a rival lacks."""
    missing = missing_libraries(key)
    return f"{key} out: {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed"
