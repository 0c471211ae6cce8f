"""jaxalloc: cluster-aware portfolio allocation for thousands of universes at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jaxalloc._version import __version__ as __version__
from jaxalloc.arguments import processes as _processes  # noqa: F401 loads nothing, and sees forks from the first on

if TYPE_CHECKING:
    from jaxalloc import datasets as datasets
    from jaxalloc import figures as figures
    from jaxalloc import skfolio as skfolio
    from jaxalloc.arguments.errors import AllocationWarning as AllocationWarning
    from jaxalloc.arguments.errors import InputError as InputError
    from jaxalloc.backtest.folder import load_walk_forward as load_walk_forward
    from jaxalloc.backtest.orders import Orders as Orders
    from jaxalloc.backtest.orders import orders as orders
    from jaxalloc.backtest.run import walk_forward as walk_forward
    from jaxalloc.backtest.validate import cross_validate as cross_validate
    from jaxalloc.backtest.validation import CrossValidation as CrossValidation
    from jaxalloc.backtest.walk import WalkForward as WalkForward
    from jaxalloc.engine.batch import allocate_batch as allocate_batch
    from jaxalloc.engine.kept import keep_programs as keep_programs
    from jaxalloc.engine.single import allocate as allocate
    from jaxalloc.markets.panel import Panel as Panel
    from jaxalloc.markets.panel import read_returns as read_returns
    from jaxalloc.portfolios.result import Allocation as Allocation
    from jaxalloc.report.write import write_report as write_report
    from jaxalloc.settings.config import AllocationConfig as AllocationConfig
    from jaxalloc.settings.status import Status as Status
    from jaxalloc.settings.status import explain as explain
    from jaxalloc.settings.sweep import Sweep as Sweep
    from jaxalloc.settings.sweep import sweep as sweep
    from jaxalloc.studies.bagged import BaggedAllocation as BaggedAllocation
    from jaxalloc.studies.bagged import allocate_bagged as allocate_bagged
    from jaxalloc.studies.choice import ClusterChoice as ClusterChoice
    from jaxalloc.studies.choice import cluster_choice as cluster_choice
    from jaxalloc.studies.folder import load_study as load_study
    from jaxalloc.studies.run import run_study as run_study
    from jaxalloc.studies.sensitivity import Sensitivity as Sensitivity
    from jaxalloc.studies.sensitivity import sensitivity as sensitivity
    from jaxalloc.studies.study import Study as Study
    from jaxalloc.universes.bootstrap import Bootstrap as Bootstrap
    from jaxalloc.universes.samplers import Product as Product
    from jaxalloc.universes.samplers import RandomSubsets as RandomSubsets
    from jaxalloc.universes.samplers import RollingWindows as RollingWindows
    from jaxalloc.universes.samplers import Sampler as Sampler
    from jaxalloc.universes.scenarios import Parametric as Parametric
    from jaxalloc.universes.scenarios import Stress as Stress
    from jaxalloc.universes.splits import CombinatorialSplits as CombinatorialSplits

# name -> module; each loads where it is first used, so that `import jaxalloc` costs next to nothing
_HOMES = {
    "Allocation": "portfolios.result",
    "AllocationConfig": "settings.config",
    "AllocationWarning": "arguments.errors",
    "BaggedAllocation": "studies.bagged",
    "Bootstrap": "universes.bootstrap",
    "ClusterChoice": "studies.choice",
    "CombinatorialSplits": "universes.splits",
    "CrossValidation": "backtest.validation",
    "InputError": "arguments.errors",
    "Orders": "backtest.orders",
    "Panel": "markets.panel",
    "Parametric": "universes.scenarios",
    "Product": "universes.samplers",
    "RandomSubsets": "universes.samplers",
    "RollingWindows": "universes.samplers",
    "Sampler": "universes.samplers",
    "Sensitivity": "studies.sensitivity",
    "Status": "settings.status",
    "Stress": "universes.scenarios",
    "Study": "studies.study",
    "Sweep": "settings.sweep",
    "WalkForward": "backtest.walk",
    "allocate": "engine.single",
    "allocate_bagged": "studies.bagged",
    "allocate_batch": "engine.batch",
    "cluster_choice": "studies.choice",
    "cross_validate": "backtest.validate",
    "datasets": "datasets",
    "explain": "settings.status",
    "figures": "figures",
    "keep_programs": "engine.kept",
    "load_study": "studies.folder",
    "load_walk_forward": "backtest.folder",
    "orders": "backtest.orders",
    "read_returns": "markets.panel",
    "run_study": "studies.run",
    "sensitivity": "studies.sensitivity",
    "skfolio": "skfolio",  # a module that imports its extra on loading: not in __all__, for `import *` to go without
    "sweep": "settings.sweep",
    "walk_forward": "backtest.run",
    "write_report": "report.write",
}
__all__ = [
    "Allocation",
    "AllocationConfig",
    "AllocationWarning",
    "BaggedAllocation",
    "Bootstrap",
    "ClusterChoice",
    "CombinatorialSplits",
    "CrossValidation",
    "InputError",
    "Orders",
    "Panel",
    "Parametric",
    "Product",
    "RandomSubsets",
    "RollingWindows",
    "Sampler",
    "Sensitivity",
    "Status",
    "Stress",
    "Study",
    "Sweep",
    "WalkForward",
    "__version__",
    "allocate",
    "allocate_bagged",
    "allocate_batch",
    "cluster_choice",
    "cross_validate",
    "datasets",
    "explain",
    "figures",
    "keep_programs",
    "load_study",
    "load_walk_forward",
    "orders",
    "read_returns",
    "run_study",
    "sensitivity",
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
