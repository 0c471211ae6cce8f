"""What a race runs on: machine, devices, versions; plain values."""

from __future__ import annotations

import importlib.metadata
import platform
import re
from pathlib import Path
from typing import Any

from jaxalloc.engine.scheduler import compute_devices
from jaxalloc.rivals.common import available_cores

# as pip calls them: what the sides compute with, where it is installed
PACKAGES = (
    *("jaxalloc", "jax", "jaxlib", "jaxopt", "numpy", "scipy", "pandas", "numba", "daqp", "cvxpy", "clarabel"),
    *("scikit-learn", "skfolio", "riskfolio-lib"),
)


def machine() -> dict[str, Any]:
    """Return the processor's model, the cores that this process may use, and the system."""
    return {
        "processor": _processor(),
        "cores": available_cores(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    """The processor's model; where nothing tells it, its architecture."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.exists() else None
    return found[1].strip() if found else platform.processor() or platform.machine()


def devices() -> dict[str, Any]:
    """Return what jaxalloc computes on: platform, kind and number."""
    found = compute_devices()
    return {"platform": found[0].platform, "kind": found[0].device_kind, "count": len(found)}


def versions() -> dict[str, str]:
    """Return Python's version, and those of `PACKAGES`."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
