"""Who the rivals are, and the libraries that each of them needs."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any, NamedTuple

from jaxalloc.rivals.common import Array, Side

EXTRA = "pip install 'jaxalloc[bench]'"  # what brings every rival's libraries


class Rival(NamedTuple):
    """A rival.

    Attributes:
        name: what tables call it.
        about: what it is, in a few words.
        module: of this package, and
        attribute: the class in it.
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
        "expert's loop", "NumPy, SciPy's linkage, DAQP, numba's descent", "expert", "Plain", ("numba", "daqp")
    ),
    "expert": Rival(
        "tuned expert loop", "that loop with clusters and columns in numba", "expert", "Tuned", ("numba", "daqp")
    ),
    "original": Rival("pandas + SLSQP", "one universe at a time in pandas and SciPy", "original", "Original"),
    "skfolio": Rival(
        "skfolio NCO",
        "skfolio's NestedClustersOptimization",
        "libraries",
        "Skfolio",
        ("skfolio", "sklearn", "cvxpy", "clarabel"),
    ),
    "riskfolio": Rival(
        "Riskfolio-Lib NCO",
        "Riskfolio-Lib's HCPortfolio",
        "libraries",
        "Riskfolio",
        ("riskfolio", "cvxpy", "clarabel"),
    ),
    "naive": Rival("naive JAX", "JAX as one would first write it", "naive", "Naive", ("jaxopt",), in_precision=True),
}


def missing_libraries(key: str) -> list[str]:
    """Name the libraries of a rival that are not installed; none is imported."""
    return [name for name in RIVALS[key].libraries if importlib.util.find_spec(name) is None]


def start(key: str, panel: Array, n_workers: int, precision: int) -> Side:
    """Import a rival and let it get ready on a panel (T, N): on return its workers are up and all is compiled."""
    rival = RIVALS[key]
    make = getattr(importlib.import_module(f"jaxalloc.rivals.{rival.module}"), rival.attribute)
    options: dict[str, Any] = {"precision": precision} if rival.in_precision else {}
    return make(panel, n_workers, **options)
