"""What the benchmarks compute with: one year of real stocks, or of the embedded market."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # whoever times a start imports JAX later
    import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
FILE = "us_equities_returns_2007_2016.parquet"  # in the folder that JAXALLOC_DATA names
EMBEDDED = "embedded market"
ROWS = 252
# Real stocks, which cluster little; and W100m, the embedded market, whose volatilities lie far apart
JOBS = {"W20": 20, "W100m": 100, "W100": 100, "W250": 250}


def stocks(n_assets: int, n_rows: int = ROWS) -> pd.DataFrame | None:
    """Return the last days (T, N), a year of them, of the first stocks; None where they are not at hand."""
    from jaxalloc.markets.panel import read_returns

    folder = os.environ.get("JAXALLOC_DATA")
    return None if folder is None else read_returns(Path(folder) / FILE).returns.iloc[-n_rows:, :n_assets]


def embedded(n_assets: int, n_rows: int = ROWS) -> pd.DataFrame:
    """Return days (T, N), a year of them, of the embedded market."""
    from jaxalloc.datasets import synthetic_market

    return synthetic_market(n_assets, n_rows)


def of_job(name: str) -> tuple[pd.DataFrame | None, str]:
    """Return a job's returns, None where they are not at hand, and their source."""
    return (embedded(JOBS[name]), EMBEDDED) if name == "W100m" else (stocks(JOBS[name]), FILE)
