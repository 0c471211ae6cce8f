"""The portfolios of one panel, as `jaxalloc allocate` prints and writes them: tables, a document, a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.paths import write_whole
from jaxalloc.arguments.words import counted, listing, lowered, quote
from jaxalloc.cli.documents import records, to_json
from jaxalloc.engine.single import allocate
from jaxalloc.markets.holes import MAX_MISSING, check_max_missing, weigh_gaps
from jaxalloc.markets.panel import Panel
from jaxalloc.markets.periods import resolve_periods
from jaxalloc.portfolios.advice import advise, why_invalid
from jaxalloc.portfolios.inputs import with_holes_filled
from jaxalloc.portfolios.result import Allocation, valid_universes
from jaxalloc.portfolios.tables import asset_table, cluster_table
from jaxalloc.settings.config import AllocationConfig
from jaxalloc.settings.status import explain
from jaxalloc.settings.sweep import as_sweep
from jaxalloc.storage.csv import write_csv
from jaxalloc.studies.bagged import BaggedAllocation, allocate_bagged
from jaxalloc.studies.recommendation import compare_own
from jaxalloc.studies.sensitivity import Sensitivity, sensitivity
from jaxalloc.universes.bootstrap import Bootstrap


@dataclasses.dataclass(frozen=True, eq=False)
class NamedPortfolios:
    """The portfolios of one panel.

    Attributes:
        name: of the panel, such as its file.
        panel: the returns.
        config: settings; ``config.profiles`` are the portfolios.
        precision: 64 or 32 bits.
        allocation: of the whole panel, without a batch axis, NumPy arrays.
        notes: what was done to the input, and what is to be said of settings, data and clusters.
        mean_of: the bagged portfolios, where the allocation is theirs; else None.
        hangs_on: the estimates that the panel's own portfolios hang on, where they were asked for; else None.
    """

    name: str
    panel: Panel
    config: AllocationConfig
    precision: int
    allocation: Allocation
    notes: tuple[str, ...]
    mean_of: BaggedAllocation | None = None
    hangs_on: Sensitivity | None = None

    def with_sensitivity(self, max_missing: float) -> NamedPortfolios:
        """Return them with what they hang on; see `jaxalloc.sensitivity`."""
        found = sensitivity(self.panel, self.config, max_missing=max_missing, precision=self.precision)
        return dataclasses.replace(self, hangs_on=found)

    def bagged(
        self, bagging: Bootstrap, seed: int, max_missing: float, progress: Callable[[int], None] | None
    ) -> NamedPortfolios:
        """Return the mean of the portfolios of resamples in the place of the panel's own; see `allocate_bagged`."""
        mean = allocate_bagged(
            self.panel,
            self.config,
            bagging,
            seed=seed,
            max_missing=max_missing,
            precision=self.precision,
            progress=progress,
        )
        words = f"Weights are means over {counted(mean.n_valid, 'resample')}"
        blocks = "one by one" if bagging.method == "iid" else f"in blocks of {bagging.block_length} rows"
        words += f" of the rows, drawn {blocks}"
        if mean.n_valid < mean.n:
            words += f"; {mean.n - mean.n_valid:,} of {mean.n:,} have no portfolio"
        return dataclasses.replace(self, allocation=mean.allocation, mean_of=mean, notes=(*self.notes, f"{words}."))

    @property
    def n_clusters(self) -> int:
        """K."""
        return int(self.allocation.n_clusters)

    def assets(self, profile: str) -> pd.DataFrame:
        """Return a profile's `jaxalloc.portfolios.tables.asset_table`; of bagged portfolios with standard_error."""
        table = asset_table(self.allocation, profile, self.config, self.panel.symbols)
        if self.mean_of is None:
            return table
        of_profile = self.mean_of.standard_errors[self.config.profiles.index(profile)]
        errors = dict(zip(self.panel.symbols, of_profile, strict=True))
        place = list(table.columns).index("weight") + 1
        table.insert(place, "standard_error", [errors[symbol] for symbol in table["symbol"]])
        return table

    def clusters(self, profile: str) -> pd.DataFrame:
        """Return a profile's `jaxalloc.portfolios.tables.cluster_table`."""
        return cluster_table(self.allocation, profile, self.config, self.panel.symbols)

    def all_assets(self) -> pd.DataFrame:
        """Return the asset tables below each other, the profile in front as the first column."""
        tables = {profile: self.assets(profile) for profile in self.config.profiles}
        for profile, table in tables.items():
            table.insert(0, "profile", profile)
        return pd.concat(tables.values(), ignore_index=True)

    def figures(self, profile: str) -> dict[str, Any]:
        """Return a profile's volatility and expected return (annual), optimality gap, status and its messages."""
        position = self.config.profiles.index(profile)
        status = int(self.allocation.status[position])
        numbers = {
            name: float(getattr(self.allocation, name)[position])
            for name in ("volatility", "expected_return", "optimality_gap")
            if name != "optimality_gap" or self.mean_of is None  # a mean solves nothing
        }
        return numbers | {"status": status, "messages": explain(status, self.config)}

    def comparison(self) -> pd.DataFrame:
        """Return the profiles side by side, as `jaxalloc.studies.recommendation.compare` has them."""
        return compare_own(self.allocation, self.config)

    def _bagging(self) -> dict[str, Any]:
        if self.mean_of is None:
            return {}
        record = self.mean_of.study.record
        return {"bagging": record["sampler"] | {"seed": record["seed"], "n_valid": self.mean_of.n_valid}}

    def _sensitivity(self, profile: str) -> dict[str, Any]:
        if self.hangs_on is None:
            return {}
        return {"sensitivity": records(self.hangs_on.frame.loc[profile].drop(columns="weight").reset_index())}

    def document(self) -> dict[str, Any]:
        """Return the portfolios, and what they were computed from, as plain values."""
        return {
            "file": self.name,
            "n_observations": self.panel.n_observations,
            "n_assets": self.panel.n_assets,
            "first": str(self.panel.dates[0]),
            "last": str(self.panel.dates[-1]),
            "notes": list(self.notes),
            "config": dataclasses.asdict(self.config),
            "precision": self.precision,
            **self._bagging(),
            "n_clusters": self.n_clusters,
            "comparison": records(self.comparison()),
            "profiles": {
                profile: self.figures(profile)
                | {"assets": records(self.assets(profile)), "clusters": records(self.clusters(profile))}
                | self._sensitivity(profile)
                for profile in self.config.profiles
            },
        }


def compute(
    panel: Panel, config: AllocationConfig, precision: int, name: str, max_missing: float = MAX_MISSING
) -> NamedPortfolios:
    """Allocate the whole panel; an asset that misses more than ``max_missing`` of its rows is left out.

    Raises:
        InputError: no asset is left, or the engine finds the data invalid.
    """
    settings, notes = resolve_periods(as_sweep(config), panel.dates)
    gaps = weigh_gaps(panel.values, check_max_missing(max_missing))
    config, notes, complete = settings.config, panel.notes + notes, gaps.whole
    if not complete.any():
        raise InputError(
            f"{name}: no asset has returns in enough rows, so missing='mask' leaves none; choose missing='zero', "
            "missing='drop-assets' or missing='drop-rows'"
        )
    filled = (gaps.weight == 1)[:, complete]
    if filled.any():
        n_assets = counted(int(filled.any(axis=0).sum()), "asset")
        notes += (
            f"Counted {counted(int(filled.sum()), 'missing return')} of {n_assets} as 0, few enough to keep them.",
        )
    if not complete.all():
        left_out = [quote(symbol) for symbol, kept in zip(panel.symbols, complete, strict=True) if not kept]
        of_all = f"{len(left_out)} of {counted(panel.n_assets, 'symbol')}"
        notes += (f"Left {of_all} out, with weight 0: {listing(left_out, shown=len(left_out))}.",)
    with jax.enable_x64(precision == 64):
        allocation = jax.tree.map(np.asarray, allocate(gaps.returns, config, asset_mask=complete))
    if not valid_universes(allocation.status):
        why = why_invalid(with_holes_filled(panel, gaps), config, np.dtype(f"float{precision}"), mask=complete)
        raise InputError(f"{name}: nothing was allocated: {lowered(why)}")
    advice = advise(settings, panel.values, allocation.cluster_labels, n_rows=panel.n_observations)
    return NamedPortfolios(
        name=name, panel=panel, config=config, precision=precision, allocation=allocation, notes=(*notes, *advice)
    )


# suffix -> how the asset tables are written; JSON holds the whole document
WRITERS: dict[str, Callable[[NamedPortfolios, Path], object]] = {
    ".csv": lambda portfolios, path: write_csv(portfolios.all_assets(), path),
    ".parquet": lambda portfolios, path: portfolios.all_assets().to_parquet(path, engine="pyarrow", index=False),
    ".json": lambda portfolios, path: path.write_text(to_json(portfolios.document()), encoding="utf-8"),
}


def write(portfolios: NamedPortfolios, target: Path) -> None:
    """Write the asset tables in the format that the suffix tells."""
    writer = WRITERS[target.suffix.lower()]
    write_whole(target, lambda path: writer(portfolios, path))
