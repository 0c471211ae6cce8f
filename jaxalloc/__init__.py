"""jaxalloc: cluster-aware portfolio allocation for thousands of universes at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from jaxalloc import datasets as datasets
    from jaxalloc import figures as figures
    from jaxalloc import skfolio as skfolio
    from jaxalloc.allocation import Allocation as Allocation
    from jaxalloc.allocation import allocate as allocate
    from jaxalloc.backtest.files import load_walk_forward as load_walk_forward
    from jaxalloc.backtest.results import WalkForward as WalkForward
    from jaxalloc.backtest.run import walk_forward as walk_forward
    from jaxalloc.batch import allocate_batch as allocate_batch
    from jaxalloc.bootstrap import Bootstrap as Bootstrap
    from jaxalloc.config import AllocationConfig as AllocationConfig
    from jaxalloc.data import Panel as Panel
    from jaxalloc.data import read_returns as read_returns
    from jaxalloc.errors import InputError as InputError
    from jaxalloc.grid import Sweep as Sweep
    from jaxalloc.grid import sweep as sweep
    from jaxalloc.report import write_report as write_report
    from jaxalloc.results import Study as Study
    from jaxalloc.samplers import Product as Product
    from jaxalloc.samplers import RandomSubsets as RandomSubsets
    from jaxalloc.samplers import RollingWindows as RollingWindows
    from jaxalloc.samplers import Sampler as Sampler
    from jaxalloc.scenarios import Parametric as Parametric
    from jaxalloc.scenarios import Stress as Stress
    from jaxalloc.status import Status as Status
    from jaxalloc.status import explain as explain
    from jaxalloc.study import load_study as load_study
    from jaxalloc.study import run_study as run_study

# name -> module; each loads where it is first used, so that `import jaxalloc` costs next to nothing
_HOMES = {
    "Allocation": "allocation",
    "AllocationConfig": "config",
    "Bootstrap": "bootstrap",
    "InputError": "errors",
    "Panel": "data",
    "Parametric": "scenarios",
    "Product": "samplers",
    "RandomSubsets": "samplers",
    "RollingWindows": "samplers",
    "Sampler": "samplers",
    "Status": "status",
    "Stress": "scenarios",
    "Study": "results",
    "Sweep": "grid",
    "WalkForward": "backtest.results",
    "allocate": "allocation",
    "allocate_batch": "batch",
    "datasets": "datasets",
    "explain": "status",
    "figures": "figures",
    "load_study": "study",
    "load_walk_forward": "backtest.files",
    "read_returns": "data",
    "run_study": "study",
    "skfolio": "skfolio",  # a module that imports its extra on loading: not in __all__, for `import *` to go without
    "sweep": "grid",
    "walk_forward": "backtest.run",
    "write_report": "report",
}
__all__ = [
    "Allocation",
    "AllocationConfig",
    "Bootstrap",
    "InputError",
    "Panel",
    "Parametric",
    "Product",
    "RandomSubsets",
    "RollingWindows",
    "Sampler",
    "Status",
    "Stress",
    "Study",
    "Sweep",
    "WalkForward",
    "__version__",
    "allocate",
    "allocate_batch",
    "datasets",
    "explain",
    "figures",
    "load_study",
    "load_walk_forward",
    "read_returns",
    "run_study",
    "sweep",
    "walk_forward",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module 'jaxalloc' has no attribute {name!r}")
    import importlib

    module = importlib.import_module(f"jaxalloc.{_HOMES[name]}")
    value = module if name == _HOMES[name] else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
