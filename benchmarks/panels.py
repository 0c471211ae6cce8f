"""What the benchmarks compute with: one year of real stocks, or of the embedded market."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # whoever times a start imports JAX later
    import numpy as np
    import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
FILE = "us_equities_returns_2007_2016.parquet"  # in the folder that JAXALLOC_DATA names
EMBEDDED = "embedded market"
ROWS = 252
# Real stocks, which cluster little; the embedded market (m), which clusters more, and whose volatilities lie far apart;
# and assets that have a common factor alone (s), each a cluster of its own
JOBS = {"W20": 20, "W100m": 100, "W100": 100, "W250": 250, "W431": 431, "W1000m": 1000, "W1000s": 1000}
LATE_SECONDS = 15  # in which other processes have compiled what the first result did without
LARGE = ("W431", "W1000m", "W1000s")  # where one universe takes some rivals minutes


def stocks(n_assets: int, n_rows: int = ROWS) -> pd.DataFrame | None:
    """Return the last days (T, N), a year of them, of the first stocks; None where they are not at hand."""
    from jaxalloc.markets.panel import read_returns

    folder = os.environ.get("JAXALLOC_DATA")
    return None if folder is None else read_returns(Path(folder) / FILE).returns.iloc[-n_rows:, :n_assets]


def embedded(n_assets: int, n_rows: int = ROWS) -> pd.DataFrame:
    """Return days (T, N), a year of them, of the embedded market."""
    from jaxalloc.datasets import synthetic_market

    return synthetic_market(n_assets, n_rows)


def daily(n_assets: int, n_rows: int = ROWS) -> np.ndarray:
    """Return days (T, N) of `stocks`, or of the embedded market where there are none."""
    found = stocks(n_assets, n_rows)
    return (embedded(n_assets, n_rows) if found is None else found).to_numpy()


def single(n_assets: int, n_rows: int = ROWS) -> pd.DataFrame:
    """Return days (T, N), a year of them, of assets with a common factor alone: correlation 0.3, 10 to 40 % a year."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(0)
    volatility = rng.uniform(0.1, 0.4, n_assets) / np.sqrt(252)
    common, own = rng.normal(size=(n_rows, 1)), rng.normal(size=(n_rows, n_assets))
    return pd.DataFrame(0.05 / 252 + volatility * (np.sqrt(0.3) * common + np.sqrt(0.7) * own))


def of_job(name: str) -> tuple[pd.DataFrame | None, str]:
    """Return a job's returns, None where they are not at hand, and their source."""
    if name.endswith("m"):
        return embedded(JOBS[name]), EMBEDDED
    return (single(JOBS[name]), "a common factor") if name.endswith("s") else (stocks(JOBS[name]), FILE)
