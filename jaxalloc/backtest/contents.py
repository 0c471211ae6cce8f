"""What the files of a walk-forward's folder must say, before any number of theirs is taken for granted."""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple, get_args

import numpy as np
import pandas as pd

from jaxalloc.arguments.errors import InputError
from jaxalloc.backtest.bagging import Bagged
from jaxalloc.backtest.plan import Execution
from jaxalloc.backtest.points import WalkSettings, walk_settings
from jaxalloc.backtest.schedule import Schedule
from jaxalloc.backtest.walk import History
from jaxalloc.markets.periods import CALENDAR
from jaxalloc.settings.measures import FIGURES
from jaxalloc.storage.arrays import Wanted, check_arrays
from jaxalloc.storage.parquet import arrays_from_parquet
from jaxalloc.storage.schema import (
    NUMBER,
    SHA256,
    TEXT,
    TRUTH,
    Check,
    MisfitError,
    anything,
    fields,
    is_a,
    list_of,
    one_of,
    or_null,
    whole,
)
from jaxalloc.studies.contents import SHARED, sampler, settings_of, shared_record


def _one_or_more(value: Any, path: str) -> None:
    (list_of(NUMBER) if isinstance(value, list) else NUMBER)(value, path)


_SCHEDULE = fields(
    {
        "n_rows": whole(1),
        "window": whole(1),
        "step": is_a(
            f"a whole number of at least 1, or one of {', '.join(CALENDAR)}",
            lambda step: step in CALENDAR if isinstance(step, str) else isinstance(step, int) and step >= 1,
        ),
        "expanding": TRUTH,
        "gap": whole(0),
        "live": TRUTH,
        "ends": or_null(list_of(whole(0))),
    },
    optional=("live", "ends"),  # of a version before there were live windows
)
_IDENTITY = fields(
    SHARED
    | {
        "schedule": _SCHEDULE,
        "band": _one_or_more,
        "max_turnover": or_null(NUMBER),
        "costs_bps": _one_or_more,
        "execution": one_of(*get_args(Execution)),
        "paths": or_null(sampler),
        "previous_weights": or_null(SHA256),
        "bagging": sampler,
        "benchmark": TEXT,
        "benchmark_sha256": SHA256,
    },
    optional=("bagging", "benchmark", "benchmark_sha256"),
    others=True,
)


def check_walk(identity: dict[str, Any]) -> None:
    """Raise `MisfitError` where the identity of a walk-forward is not as this package writes it."""
    _IDENTITY(identity, "identity")
    settings = settings_of(identity["settings"], "identity.settings")
    try:
        walk_settings(settings, **{field: identity[field] for field in ("band", "max_turnover", "costs_bps")})
    except InputError as error:
        raise MisfitError(f"identity: {error}") from None
    entry, n_rows = identity["schedule"], identity["data"]["n_observations"]
    if entry["n_rows"] != n_rows:
        raise MisfitError(f"identity.schedule.n_rows must be {n_rows}, not {entry['n_rows']}")
    if entry["window"] > n_rows:
        raise MisfitError(f"identity.schedule.window must be at most {n_rows}, not {entry['window']}")
    ends = entry.get("ends")
    if isinstance(entry["step"], str) != bool(ends) or (
        ends and (ends[-1] >= n_rows or any(a >= b for a, b in itertools.pairwise(ends)))
    ):
        raise MisfitError("identity.schedule.ends must be rows in ascending order, of a step of the calendar alone")


def walk_record_of(n_assets: int) -> Check:
    """Return the check of a walk-forward's record."""
    return fields(shared_record(n_assets) | {"figures": anything}, optional=("command", "figures"), others=True)


class Sizes(NamedTuple):
    """Sizes of a walk-forward's arrays.

    Attributes:
        points: G.
        decided: points of the allocations.
        profiles: P.
        rows: T.
        days: D.
        windows: J.
        held: R.
        assets: N.
    """

    points: int
    decided: int
    profiles: int
    rows: int
    days: int
    windows: int
    held: int
    assets: int

    @classmethod
    def of(cls, settings: WalkSettings, schedule: Schedule, n_assets: int) -> Sizes:
        """Return the sizes of a walk-forward."""
        return cls(
            points=len(settings),
            decided=len(settings.allocations),
            profiles=len(settings.config.profiles),
            rows=schedule.n_rows,
            days=schedule.n_days,
            windows=schedule.n_windows,
            held=schedule.n_held,
            assets=n_assets,
        )


def read_history(sizes: Sizes, identity: Mapping[str, Any], data: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of a walk-forward with this identity; raise `MisfitError` where one is none of it."""
    arrays = arrays_from_parquet(data)
    g, p, n = sizes.points, sizes.profiles, sizes.assets
    of_days, of_rebalances, of_assets = (g, p, sizes.days), (g, p, sizes.held), (g, p, n)
    wanted: dict[str, Wanted] = dict.fromkeys(("gross", "net"), ("f", of_days))
    wanted["whole_net"] = ("f", (g, p if identity["execution"] == "lead" else 0, sizes.days))
    wanted |= dict.fromkeys(("turnover", "traded", "bets"), ("f", of_rebalances))
    wanted |= {"kept": ("b", of_rebalances), "missing": ("i", of_rebalances), "undecided": ("b", (g, p))}
    wanted |= dict.fromkeys(("target", "live", "current"), ("f", of_assets))
    wanted["figures"] = ("f", (g, p, len(FIGURES)))
    assert wanted.keys() == set(History._fields) - {"weights"}
    if identity["paths"] is not None:
        wanted["path_figures"] = ("f", (None, g, p, len(FIGURES)))
    if "bagging" in identity:
        each = (sizes.decided, p, sizes.windows)
        shapes: dict[str, Wanted] = {"mean": ("f", (*each, n)), "deviation": ("f", (*each, n))}
        shapes |= {"valid": ("i", (sizes.decided, sizes.windows)), "over_cap": ("b", each)}
        wanted |= {f"bags.{name}": shapes[name] for name in Bagged._fields}
    if "benchmark" in identity:
        wanted["benchmark"] = ("f", (sizes.rows,))
    check_arrays(arrays, wanted)
    return {name: arrays[name] for name in wanted}


def read_weights(sizes: Sizes, data: bytes) -> np.ndarray:
    """Return the (G, P, R, N) weights that were bought; raise `MisfitError` where the table has another size."""
    table = pd.read_parquet(io.BytesIO(data), engine="pyarrow").to_numpy()
    n_rows = sizes.profiles * sizes.points * sizes.held
    check_arrays({"the table": table}, {"the table": ("f", (n_rows, sizes.assets))})
    return table.reshape(sizes.profiles, sizes.points, sizes.held, sizes.assets).swapaxes(0, 1)


def read_dates(n_rows: int, data: bytes) -> pd.Index:
    """Return the labels of the panel's rows; raise `MisfitError` where they are not so many."""
    dates = pd.read_parquet(io.BytesIO(data), engine="pyarrow").index
    if len(dates) != n_rows:
        raise MisfitError(f"the table must have {n_rows} rows, not {len(dates)}")
    return dates
