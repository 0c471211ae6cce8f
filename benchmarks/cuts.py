"""What a cut of the tree makes of single stocks: how many are alone, the largest cluster, and whether it lasts.

    JAXALLOC_DATA=folder python benchmarks/cuts.py

draws lots of 60 and of 100 of the real stocks, and clusters each calendar year of each lot in several ways. A partition
lasts if next year's is like it: the adjusted Rand index of the two (Hubert and Arabie 1985) is 1 where they are the
same, 0 where they agree by chance. A partition that leaves nearly all alone agrees in the few pairs that it has. Writes
benchmarks/results/cuts.json and cuts.md; a few minutes on two cores.
"""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
from panels import FILE, RESULTS

from jaxalloc.engine.batch import allocate_batch
from jaxalloc.markets.panel import read_returns
from jaxalloc.settings.config import AllocationConfig
from jaxalloc.studies.agreement import adjusted_rand

LOTS, SIZES = 40, (60, 100)
CUTS = {
    "distance 0.4, the default": AllocationConfig(),
    "distance 0.5": AllocationConfig(distance_threshold=0.5),
    "distance 0.6": AllocationConfig(distance_threshold=0.6),
    "at most 10 clusters": AllocationConfig(criterion="maxclust"),
    "silhouette": AllocationConfig(criterion="silhouette"),
    "detoned, at most 10 clusters": AllocationConfig(criterion="maxclust", detone=True),
    "detoned, silhouette": AllocationConfig(criterion="silhouette", detone=True),
    "detoned, silhouette, Ward": AllocationConfig(criterion="silhouette", detone=True, linkage="ward"),
}


def measure() -> list[dict[str, Any]]:
    """A row for each size of a lot and each cut."""
    returns = read_returns(Path(os.environ["JAXALLOC_DATA"]) / FILE, missing="drop-assets").returns
    years = np.asarray(returns.index.year)
    names = np.unique(years)
    rng = np.random.default_rng(0)
    rows = []
    for size in SIZES:
        masks = np.zeros((LOTS, returns.shape[1]), bool)
        for mask in masks:
            mask[rng.choice(returns.shape[1], size, replace=False)] = True
        weights = (years[None, :] == names[:, None]).astype(float)
        every = np.repeat(masks, len(names), axis=0), np.tile(weights, (LOTS, 1))
        for name, config in CUTS.items():
            labels = allocate_batch(
                returns.to_numpy(), config.replace(profiles=("equal_weight",)), every[1], every[0]
            ).cluster_labels.reshape(LOTS, len(names), -1)
            sizes = [np.bincount(own[own >= 0]) for lot in labels for own in lot]
            lasting = [adjusted_rand(one, other) for lot in labels for one, other in itertools.pairwise(lot)]
            row = {
                "assets": size,
                "cut": name,
                "clusters": float(np.mean([len(counts) for counts in sizes])),
                "alone": float(np.mean([(counts == 1).sum() / counts.sum() for counts in sizes])),
                "largest": float(np.mean([counts.max() / counts.sum() for counts in sizes])),
                "next_year": float(np.mean(lasting)),
                "standard_error": float(np.std(np.mean(np.reshape(lasting, (LOTS, -1)), axis=1), ddof=1) / LOTS**0.5),
            }
            rows.append(row)
            print(row, flush=True)
    return rows


def render(results: dict[str, Any]) -> str:
    """Return the Markdown of the results."""
    lines = [
        f"{LOTS} lots of US stocks, each calendar year 2007 to 2016. Means over lots and years; *next year*: the "
        "adjusted Rand index of two years that follow each other, with its standard error over the lots.",
        "",
        "| stocks | cut | clusters | assets alone | largest cluster | next year |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in results["cuts"]:
        lines.append(
            f"| {row['assets']} | {row['cut']} | {row['clusters']:.1f} | {row['alone']:.0%} | {row['largest']:.0%} | "
            f"{row['next_year']:.2f} ± {row['standard_error']:.2f} |"
        )
    return "\n".join(lines).replace("%", " %") + "\n"


def main() -> None:
    """Measure, and write the results."""
    with jax.enable_x64(True):
        results = {"machine": f"{os.cpu_count()} cores, jax {jax.__version__}", "cuts": measure()}
    (RESULTS / "cuts.json").write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / "cuts.md").write_text(render(results))


if __name__ == "__main__":
    main()
