"""What the profiles of one universe share: its moments, clusters and scores, from returns or as given."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxalloc.kernels.clusters.components import Pieces, link_pieces
from jaxalloc.kernels.clusters.partition import (
    Clusters,
    begin_clusters,
    given_clusters,
    is_by_components,
    label_by_first,
)
from jaxalloc.kernels.lanes.backend import Backend, materialise
from jaxalloc.kernels.lanes.precision import is_computable
from jaxalloc.kernels.moments.panel import SharedPanel, panel_moments, weighted_products
from jaxalloc.kernels.moments.sample import Moments, sample_moments
from jaxalloc.kernels.moments.shock import Shock, shocked_moments
from jaxalloc.kernels.moments.shrinkage import shrink_panel, shrink_sample
from jaxalloc.kernels.moments.tails import Tail, panel_tail_gain, sample_tail_gain, shocked_tail, skewness
from jaxalloc.kernels.moments.windows import Facts, Rows, panel_of_rows
from jaxalloc.portfolios.barbell import antifragility
from jaxalloc.settings.config import AllocationConfig


class Estimates(NamedTuple):
    """What the profiles of one universe share. Annual units; entries of an inactive asset are 0.

    Attributes:
        mean: (N,) annual mean return.
        covariance: (N, N) annual covariance.
        active: (N,) bool.
        labels: (N,) int32 cluster labels.
        n_clusters: () int32.
        antifragility: (N,) scores.
        dropped: () bool, an asset of the mask left.
        valid: () bool.
    """

    mean: Array
    covariance: Array
    active: Array
    labels: Array
    n_clusters: Array
    antifragility: Array
    dropped: Array
    valid: Array


class Given(NamedTuple):
    """What a caller gives in place of an estimate: annual mean (N,), annual covariance (N, N), labels (N,); or None."""

    mean: Array | None = None
    covariance: Array | None = None
    clusters: Array | None = None


def estimate(
    x: Array,
    config: AllocationConfig,
    weights: Array,
    mask: Array,
    given: Given,
    shock: Shock | None = None,
    *,
    backend: Backend,
) -> Estimates:
    """Moments, clusters and scores of one universe (T, N) with its own returns, shocked where a shock is given."""
    return estimates_of(observe(x, config, weights, mask, given), config, given, shock, backend)


def estimate_shared(
    panel: SharedPanel,
    config: AllocationConfig,
    weights: Array,
    mask: Array,
    shock: Shock | None = None,
    *,
    backend: Backend,
) -> Estimates:
    """`estimate` for a universe of a shared panel."""
    return estimates_of(observe_shared(panel, config, weights, mask), config, Given(), shock, backend)


class Observed(NamedTuple):
    """What is computed from a universe's returns, per period: moments, the covariance as chosen, and the upper tail."""

    moments: Moments
    tail: Tail


def observe(
    x: Array,
    config: AllocationConfig,
    weights: Array,
    mask: Array,
    given: Given,
    n_rows: Array | int | None = None,
) -> Observed:
    """The first half of `estimate`, which reads the returns: so many rows, in whole blocks, by default all."""
    moments = moments_of(x, config, weights, mask, n_rows, shrink=given.covariance is None)
    with jax.named_scope("antifragility"):
        return Observed(moments=moments, tail=sample_tail_gain(x, weights, mask, n_rows))


def moments_of(
    x: Array,
    config: AllocationConfig,
    weights: Array,
    mask: Array,
    n_rows: Array | int | None = None,
    *,
    shrink: bool = True,
) -> Moments:
    """Moments of one universe (T, N) per period, the covariance as the settings choose it."""
    with jax.named_scope("moments"):
        moments = sample_moments(x, weights, mask, _decay(config), n_rows)
    if not shrink:
        return moments
    with jax.named_scope("shrinkage"):
        return shrink_sample(moments, x, weights, config.covariance)


def products_shared(panel: SharedPanel, config: AllocationConfig, weights: Array) -> Array:
    """The part of `observe_shared` that is one matrix product for all universes."""
    with jax.named_scope("moments"):
        return weighted_products(panel, weights, _decay(config))


def observe_shared(
    panel: SharedPanel, config: AllocationConfig, weights: Array, mask: Array, products: Array | None = None
) -> Observed:
    """`observe` for a universe of a shared panel, with its `products_shared` if they are at hand."""
    with jax.named_scope("moments"):
        moments = panel_moments(panel, weights, mask, _decay(config), products)
    with jax.named_scope("shrinkage"):
        moments = shrink_panel(moments, panel, weights, config.covariance)
    with jax.named_scope("antifragility"):
        return Observed(moments=moments, tail=panel_tail_gain(panel, weights))


def observe_window(rows: Rows, config: AllocationConfig, weights: Array, mask: Array, facts: Facts) -> Observed:
    """`observe` for a universe that holds a small piece of a panel, from that piece and what the host found out."""
    panel = panel_of_rows(rows)
    with jax.named_scope("moments"):
        moments = panel_moments(panel, weights, mask, _decay(config), constant=facts.constant)
    with jax.named_scope("shrinkage"):
        return Observed(moments=shrink_panel(moments, panel, weights, config.covariance), tail=facts.tail)


def _decay(config: AllocationConfig) -> Array | None:
    return config.ewma_decay if config.covariance == "ewma" else None


def estimates_of(
    observed: Observed, config: AllocationConfig, given: Given, shock: Shock | None, backend: Backend
) -> Estimates:
    """The second half of `estimate`: annual moments, after the shock, scores and clusters."""
    estimates = annual_estimates(observed, config, given, shock)
    partition, pieces = begin_partition(estimates, config, given.clusters, backend)
    estimates = with_partition(estimates, partition)
    if given.clusters is not None or not is_by_components(estimates.active.shape[0], config):
        return estimates
    threshold = jnp.asarray(config.distance_threshold, estimates.covariance.dtype)
    root = link_pieces(estimates.covariance, pieces, threshold, config.linkage, config.distance)
    clusters = label_by_first(root, estimates.active)
    return with_partition(estimates, _judged(clusters, estimates.valid))


def annual_estimates(observed: Observed, config: AllocationConfig, given: Given, shock: Shock | None) -> Estimates:
    """Annual moments, after the shock, and scores; all assets count as one cluster still."""
    moments, tail = materialise(observed)
    active = moments.active
    both = active[:, None] & active[None, :]
    mean = config.periods_per_year * moments.mean
    covariance = config.periods_per_year * moments.covariance
    valid = moments.valid & _computable(covariance, active)
    if given.mean is not None:
        mean = jnp.where(active, given.mean, 0)
        valid = valid & jnp.all(jnp.isfinite(mean))
    if given.covariance is not None:
        covariance = jnp.where(both, (given.covariance + given.covariance.T) / 2, 0)
        valid = valid & _usable(covariance, active)
    if shock is not None:
        mean, covariance = shocked_moments(mean, covariance, active, shock)
        tail = shocked_tail(tail, moments.plain_mean, config.periods_per_year, shock)
        valid = valid & jnp.all(jnp.isfinite(mean)) & _usable(covariance, active)
    with jax.named_scope("antifragility"):
        score = antifragility(skewness(moments), tail.mean, active)
    # an invalid universe goes on with a trivial covariance, so that no NaN reaches a loop's condition
    index = jnp.arange(active.shape[0], dtype=jnp.int32)
    identity = (index[:, None] == index[None, :]).astype(covariance.dtype)
    return Estimates(
        mean=jnp.where(valid, mean, 0),
        covariance=jnp.where(valid, jnp.where(both, covariance, 0), identity),
        active=jnp.where(valid, active, True),
        labels=jnp.zeros(active.shape, jnp.int32),
        n_clusters=jnp.int32(1),
        antifragility=score,
        dropped=moments.dropped,
        valid=valid,
    )


class Partition(NamedTuple):
    """Clusters of a universe as `Estimates` hold them: labels (N,), their number (), and () whether it is valid."""

    labels: Array
    n_clusters: Array
    valid: Array


def begin_partition(
    estimates: Estimates, config: AllocationConfig, labels: Array | None, backend: Backend
) -> tuple[Partition, Pieces]:
    """Cluster, but for the merges inside large components.

    Args:
        estimates: from `annual_estimates`.
        config: settings with cast numbers.
        labels: (N,) that a caller gives in place of the linkage; or None.
        backend: static.

    Returns:
        The partition so far, and what is left to merge.
    """
    active = estimates.active
    if labels is not None:
        clusters, labels_ok = given_clusters(labels, active)
        return _judged(clusters, estimates.valid & labels_ok), Pieces(
            root=jnp.zeros_like(clusters.labels), large=jnp.zeros_like(active)
        )
    with jax.named_scope("clusters"):
        pieces = begin_clusters(estimates.covariance, active, config, backend)
    return _judged(label_by_first(pieces.root, active), estimates.valid), pieces


def _judged(clusters: Clusters, valid: Array) -> Partition:
    # an invalid universe has one cluster: a batch then puts it where a solve costs least
    return Partition(
        labels=jnp.where(valid, clusters.labels, 0), n_clusters=jnp.where(valid, clusters.count, 1), valid=valid
    )


def with_partition(estimates: Estimates, partition: Partition) -> Estimates:
    """The estimates with their clusters."""
    return estimates._replace(**partition._asdict())


def _usable(covariance: Array, active: Array) -> Array:
    return jnp.all(jnp.isfinite(covariance)) & _computable(covariance, active)


def _computable(covariance: Array, active: Array) -> Array:
    return jnp.all(~active | is_computable(jnp.diagonal(covariance)))
