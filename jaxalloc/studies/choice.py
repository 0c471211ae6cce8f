"""cluster_choice(): into how many clusters to cut a panel's tree."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.plotting import Drawable
from jaxalloc.arguments.words import counted, per_cent
from jaxalloc.markets.panel import Panel, as_panel
from jaxalloc.portfolios.distances import distances, mean_silhouette
from jaxalloc.portfolios.result import Allocation
from jaxalloc.settings.config import AllocationConfig, check_config, most_clusters
from jaxalloc.settings.sweep import plain_config, sweep
from jaxalloc.studies.agreement import adjusted_rand
from jaxalloc.studies.run import run_study
from jaxalloc.studies.study import Study
from jaxalloc.universes.bootstrap import Bootstrap
from jaxalloc.universes.samplers import Sampler

DEFAULT = AllocationConfig(detone=True, criterion="silhouette")
_LOOSE = 0.4  # resamples that agree less with the panel's own clusters are said to agree little


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ClusterChoice(Drawable):
    """Cuts of a panel's tree, and which one to take.

    Attributes:
        table: a row for each number of clusters that a cut leaves (index "clusters"), with the columns

            - silhouette: mean silhouette of the assets, -1 to 1; 0 for an asset alone;
            - stability: mean adjusted Rand index between the panel's own partition and those of the resamples, cut into
              as many clusters: 1 where they are the same, 0 where they agree by chance alone (Hubert and Arabie 1985);
            - alone: assets that are a cluster each;
            - largest: share of the assets in the largest cluster;
            - trivial: bool, more than half of the assets are alone, or in one cluster.
        clusters: the number to take.
        why: the reason, one or two sentences.
        labels: cluster of each asset at that number, in order of each cluster's first asset; index "symbol". -1 for an
            asset that takes no part.
        config: the settings that were given, with ``criterion="silhouette"``: they cut so, and follow the data where
            the panel changes.
        record: what it was computed from and with.
    """

    table: pd.DataFrame
    clusters: int
    why: str
    labels: pd.Series
    config: AllocationConfig
    record: dict[str, Any]

    @property
    def groups(self) -> list[list[str]]:
        """The clusters as lists of names, the largest first."""
        labels, names = self.labels.to_numpy(), np.asarray(self.labels.index, object)
        members = [names[labels == k].tolist() for k in range(int(labels.max()) + 1)]
        return sorted(members, key=lambda names: -len(names))

    def __repr__(self) -> str:
        """The number to take, and why."""
        return f"ClusterChoice: {counted(self.clusters, 'cluster')}. {self.why}"

    def _repr_html_(self) -> str:
        return self.table.to_html()


def cluster_choice(
    panel: Panel | pd.DataFrame,
    config: AllocationConfig | None = None,
    sampler: Sampler | None = None,
    seed: int = 0,
    *,
    precision: int = 64,
    progress: Callable[[int], None] | None = None,
) -> ClusterChoice:
    """Judge every number of clusters that a panel's tree can be cut into, and choose one.

    The cuts into 2 to ``max_clusters`` clusters are judged by their mean silhouette on the panel's own distances, and
    by how well resamples of the panel agree with them. The one of highest silhouette is taken among those that are not
    trivial, that is, where at most half of the assets are alone and at most half in one cluster. If all are trivial,
    it is taken among all of them, and the reason says so.

    Args:
        panel: returns per period, as `jaxalloc.read_returns` makes them; or a frame of them without gaps.
        config: settings; of these linkage, distance, detone, covariance and ``max_clusters`` (40 by default) count. By
            default ``AllocationConfig(detone=True, criterion="silhouette")``.
        sampler: draws the resamples, ``Bootstrap(n=100)`` by default.
        seed: of the draws.
        precision: 64 or 32 bits.
        progress: called with the number of universes done since the last call, of as many as there are resamples and
            numbers of clusters.

    Returns:
        `ClusterChoice`.

    Raises:
        InputError: an argument is at fault, or fewer than three assets take part.

    Example:
        >>> import jaxalloc as ja
        >>> choice = ja.cluster_choice(ja.datasets.synthetic_market(n_assets=12), sampler=ja.Bootstrap(n=20))
        >>> choice.clusters
        7
    """
    panel = as_panel(panel)
    config = check_config(DEFAULT if config is None else config)
    config = plain_config(check_config(config.replace(criterion="silhouette")))
    most = candidates(config, panel.n_assets)
    if most < 2:
        raise InputError(f"to choose among clusters takes three assets at least, not {panel.n_assets}")
    cuts = config.replace(profiles=("equal_weight",), criterion="maxclust")  # a profile that needs no solver
    settings = sweep(cuts, max_clusters=range(2, most + 1))
    drawn = Bootstrap(n=100) if sampler is None else sampler
    study = run_study(panel, drawn, settings, seed, precision=precision, progress=progress)
    return _choose(study, config)


def candidates(config: AllocationConfig, n_assets: int) -> int:
    """The largest number of clusters that `cluster_choice` looks at."""
    return min(n_assets - 1, int(most_clusters(config.replace(criterion="silhouette"))))


def _choose(study: Study, config: AllocationConfig) -> ClusterChoice:
    estimates = study.estimates
    active = estimates.cluster_labels[0] >= 0
    if np.count_nonzero(active) < 3 or not np.isfinite(study.correlation[np.ix_(active, active)]).all():
        raise InputError("to choose among clusters takes three assets at least that take part")
    distance = distances(study.correlation[np.ix_(active, active)], config)
    rows = [_judge(study, estimates, point, active, distance) for point in range(len(study.settings))]
    # assets that tie leave fewer clusters than asked for, which an earlier row has already
    table = pd.DataFrame(rows).drop_duplicates("clusters").set_index("clusters")
    usable: Any = table[(table.index > 1) & (table.index < np.count_nonzero(active))]
    if usable.empty:
        raise InputError("no cut of the tree leaves more than one cluster and fewer than there are assets")
    fair: Any = usable[~usable["trivial"]]
    chosen = int((usable if fair.empty else fair)["silhouette"].idxmax())
    point = next(k for k, row in enumerate(rows) if row["clusters"] == chosen)
    labels = pd.Series(estimates.cluster_labels[point], index=pd.Index(study.symbols, name="symbol"), name="cluster")
    return ClusterChoice(
        table=usable,
        clusters=chosen,
        why=_reason(usable, chosen, fair.empty),
        labels=labels,
        config=config,
        record=study.record,
    )


def _judge(study: Study, estimates: Allocation, point: int, active: np.ndarray, distance: np.ndarray) -> dict[str, Any]:
    """A row of the table."""
    own = estimates.cluster_labels[point]
    sizes = np.bincount(own[active])
    valid = study.columns("cluster_labels", at=point)["cluster_labels"]
    return {
        "clusters": len(sizes),
        "silhouette": mean_silhouette(distance, own[active]) if len(sizes) > 1 else np.nan,
        "stability": float(np.mean([adjusted_rand(own, labels) for labels in valid])) if len(valid) else np.nan,
        "alone": int((sizes == 1).sum()),
        "largest": float(sizes.max() / sizes.sum()),
        "trivial": bool(2 * max((sizes == 1).sum(), sizes.max()) > sizes.sum()),
    }


def _reason(table: pd.DataFrame, chosen: int, all_trivial: bool) -> str:
    """Why to take a cut, in two or three sentences."""
    row, best = table.loc[chosen], table["silhouette"].max()
    span = f"{counted(len(table), 'cut')} into {table.index.min()} to {table.index.max()} clusters"
    what = f"this one has the highest mean silhouette, {row['silhouette']:.2f}"
    if len(table) == 1:
        trivial = ", and leaves more than half of the assets alone, or in one cluster" if all_trivial else ""
        said = f"It is the only cut that there is{trivial}; its mean silhouette is {row['silhouette']:.2f}."
    elif all_trivial:
        said = f"All of the {span} leave more than half of the assets alone, or in one cluster; {what}."
    elif row["silhouette"] < best:
        said = f"Of the {span}, {what}, of those that are not trivial."
    else:
        said = f"Of the {span}, {what}."
    little = ", which is little: the clusters are loose" if row["stability"] < _LOOSE else ""
    agree = f"Resamples agree with it by {row['stability']:.2f} of at most 1{little}."
    alone = f"{counted(int(row['alone']), 'asset')} {'is' if row['alone'] == 1 else 'are'} alone"
    return f"{said} {agree} {alone}, and the largest cluster has {per_cent(row['largest'], 0, '-')}."
