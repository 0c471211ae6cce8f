"""The identity of a study: plain values that name all that its numbers depend on."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from typing import Any

import jax
import numpy as np

from jaxalloc._version import __version__
from jaxalloc.engine.scalar import is_scalar
from jaxalloc.engine.scheduler import compute_devices
from jaxalloc.kernels.lanes.backend import backend_of
from jaxalloc.markets.source import Source
from jaxalloc.settings.sweep import Sweep
from jaxalloc.studies.plan import Plan


def settings_entry(settings: Sweep) -> dict[str, Any]:
    """Return the settings as plain values."""
    return {
        "config": dataclasses.asdict(settings.config),
        "grid": {name: list(values) for name, values in settings.grid},
    }


def versions_entry() -> dict[str, str]:
    """Return the versions that bits depend on: jaxalloc, jax, jaxlib, numpy, and numba where it compiles kernels."""
    import jaxlib.version

    versions = {
        "jaxalloc": __version__,
        "jax": jax.__version__,
        "jaxlib": jaxlib.version.__version__,
        "numpy": np.__version__,
    }
    if is_scalar(backend_of(compute_devices()[0].platform)):
        versions["numba"] = importlib.metadata.version("numba")
    return versions


def identity_of(plan: Plan, source: Source, device: str) -> dict[str, Any]:
    """Return a study's identity; a study that is resumed must agree in all of it."""
    return {
        "data": source.data,
        "settings": settings_entry(plan.settings),
        "sampler": plan.sampler.settings(),
        "n": plan.n_draws,
        "seed": plan.seed,
        "precision": plan.precision,
        "max_missing": plan.max_missing,
        "keep": plan.keep,
        "chunk_size": plan.chunk_size,
        "versions": versions_entry(),
        "device": device,
    }
