"""What the files of a study's folder must say, before any number of theirs is taken for granted."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, get_args

from jaxalloc.arguments.errors import InputError
from jaxalloc.settings.config import AllocationConfig, check_config
from jaxalloc.settings.sweep import Sweep, sweep
from jaxalloc.storage.manifest import Manifest
from jaxalloc.storage.schema import (
    NUMBER,
    SHA256,
    TEXT,
    TRUTH,
    Check,
    MisfitError,
    anything,
    entries,
    fields,
    is_a,
    list_of,
    one_of,
    or_null,
    whole,
)
from jaxalloc.studies.plan import Keep

SEED = whole(0, 2**32 - 1)
SHARE = is_a("at least 0 and less than 1", lambda value: isinstance(value, int | float) and 0 <= value < 1)
DATA = fields(
    {"sha256": SHA256, "n_observations": whole(1), "n_assets": whole(1), "first": TEXT, "last": TEXT}, others=True
)
_SETTINGS = fields(
    {
        "config": fields(
            {field.name: anything for field in dataclasses.fields(AllocationConfig)} | {"profiles": list_of(TEXT)},
            optional=[field.name for field in dataclasses.fields(AllocationConfig) if field.name != "profiles"],
        ),
        "grid": entries(list_of(anything)),
    }
)
_BOOTSTRAP = fields({"sampler": TEXT, "n": whole(1), "method": TEXT, "block_length": or_null(NUMBER)})
_STEP = is_a("a whole number of at least 1, or text", lambda value: isinstance(value, str | int) and value != 0)
_SAMPLERS: dict[str, Check] = {
    "Bootstrap": _BOOTSTRAP,
    "Bags": _BOOTSTRAP,
    "RollingWindows": fields({"window": whole(1), "step": _STEP, "expanding": TRUTH}, others=True),
    "CombinatorialSplits": fields({"test_groups": whole(1), "groups": whole(1)}, others=True),
    "RandomSubsets": fields({"size": anything}, others=True),
    "Parametric": fields({"n": whole(1), "distribution": TEXT}, others=True),
    "Stress": fields({"volatility": anything, "names": or_null(list_of(anything))}, others=True),
}


def sampler(value: Any, path: str) -> None:
    """Check what a record says of a sampler; of one that a user wrote it may say anything."""
    fields({"sampler": TEXT}, others=True)(value, path)
    if value["sampler"] == "Product":
        fields({"sampler": TEXT, "factors": list_of(sampler)})(value, path)
    elif value["sampler"] in _SAMPLERS:
        _SAMPLERS[value["sampler"]](value, path)
        if value.get("method", "iid") != "iid":
            NUMBER(value["block_length"], f"{path}.block_length")


SHARED: dict[str, Check] = {  # by studies and walk-forwards
    "data": DATA,
    "settings": _SETTINGS,
    "seed": SEED,
    "precision": one_of(32, 64),
    "max_missing": SHARE,
    "versions": entries(TEXT),
}
_IDENTITY = fields(
    SHARED
    | {
        "sampler": sampler,
        "n": whole(1, 2**63),
        "keep": one_of(*get_args(Keep)),
        "chunk_size": whole(1, 2**31),
        "device": TEXT,
    },
    optional=("max_missing",),
    others=True,
)


def check_study(manifest: Manifest) -> Sweep:
    """Return the settings of a finished study; raise `MisfitError` where its manifest is no manifest of ours."""
    identity = manifest.identity
    _IDENTITY(identity, "identity")
    settings = settings_of(identity["settings"], "identity.settings")
    total = identity["n"] * len(settings)
    n_chunks = -(-total // identity["chunk_size"])
    if identity["keep"] == "weights":
        if len(manifest.chunks) != n_chunks or max(manifest.chunks) != n_chunks - 1:
            raise MisfitError(f"chunks must be those from 0 to {n_chunks - 1}, for so many universes")
        last = total - (n_chunks - 1) * identity["chunk_size"]
        for number, file in manifest.chunks.items():
            rows = last if number == n_chunks - 1 else identity["chunk_size"]
            if file.count != rows:
                raise MisfitError(f"chunks.{number}.count must be {rows}, not {file.count}")
    if manifest.state is not None and manifest.state.count != n_chunks:
        raise MisfitError(f"state.count must be {n_chunks}, not {manifest.state.count}")
    return settings


def settings_of(entry: Mapping[str, Any], path: str) -> Sweep:
    """Return the settings that an entry of an identity has; raise `MisfitError` where one is out of range."""
    _SETTINGS(entry, path)
    config = entry["config"]
    try:
        base = check_config(AllocationConfig(**config | {"profiles": tuple(config["profiles"])}))
        grid = tuple((name, tuple(values)) for name, values in entry["grid"].items())
        if grid:
            sweep(base, **dict(grid))
    except (InputError, TypeError, ValueError, OverflowError) as error:
        raise MisfitError(f"{path}: {error}") from None
    return Sweep(base, grid)


def symbols_of(n_assets: int) -> Check:
    """Return the check of the names of the assets, each of which is another one."""

    def check(value: Any, path: str) -> None:
        list_of(TEXT, n_assets)(value, path)
        if len(set(value)) < n_assets:
            raise MisfitError(f"{path} must name each asset once")

    return check


def shared_record(n_assets: int) -> dict[str, Check]:
    """Return the checks of what the records of studies and walk-forwards have in common."""
    return {
        "symbols": symbols_of(n_assets),
        "notes": list_of(TEXT),
        "started": TEXT,
        "seconds": NUMBER,
        "command": TEXT,
    }


def record_of(n_assets: int) -> Check:
    """Return the check of a study's record."""
    own = {"status_counts": anything, "point_status": anything}
    return fields(shared_record(n_assets) | own, optional=("command",), others=True)
