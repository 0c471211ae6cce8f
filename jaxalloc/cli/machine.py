"""What a measurement runs on: machine, devices and versions, as plain values."""

from __future__ import annotations

import importlib.metadata
import platform
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxalloc.engine.identity import available_cores
from jaxalloc.engine.scheduler import compute_devices

PACKAGES = ("jaxalloc", "jax", "jaxlib", "jaxopt", "numpy", "numba", "scipy", "pandas")  # as pip calls them


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
    model = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.exists() else None
    return model[1].strip() if model else platform.processor() or platform.machine()


def devices() -> dict[str, Any]:
    """Return what jaxalloc computes on: platform, kind and number of devices."""
    used = compute_devices()
    return {"platform": used[0].platform, "kind": used[0].device_kind, "count": len(used)}


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Return Python's version, and those of the packages that are installed."""
    installed = {"python": platform.python_version()}
    for name in packages:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


def peak_memory() -> dict[str, int | None]:
    """Return the most bytes that this process has held, and the devices together; None where nothing tells it."""
    try:
        import resource  # not on Windows

        unit = 1 if platform.system() == "Darwin" else 1024
        process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    except ImportError:
        process = None
    stats = [device.memory_stats() for device in compute_devices()]
    peaks = [each.get("peak_bytes_in_use") for each in stats if each]
    known = [peak for peak in peaks if peak is not None]
    return {"process_bytes": process, "device_bytes": sum(known) if known else None}
