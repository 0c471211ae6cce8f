"""What universes add up to: numbers whose size does not grow with how many universes there are.

`reduce_universes` turns a range of a chunk's universes into a `Partial` on the device. `Totals` adds partials up on the
host. Counts are whole numbers, so the order of a sum does not matter. Means and squared deviations are taken over
blocks that start at fixed universes, and the blocks are merged in the order of the universes (Chan, Golub and LeVeque,
1983): neither the size of a chunk nor the number of devices changes a bit.

Quantiles come from histograms. A bin holds the numbers that share sign, exponent and the first bits of the mantissa.
Its width is 2**-7 (0.8 %) of a weight and 2**-8 (0.4 %) of a measure. An order statistic is placed inside its bin by
its rank there, so its error is less than the bin's width. Weights below 2**-20 (1e-6), and measures below 2**-30 in
size, count as 0.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxalloc.portfolios.result import Allocation
from jaxalloc.settings.measures import MEASURES
from jaxalloc.settings.status import Status
from jaxalloc.storage.arrays import Wanted, check_arrays
from jaxalloc.storage.schema import MisfitError
from jaxalloc.studies.histogram import MEASURE_BINS, WEIGHT_BINS, Bins, Histogram, bin_edges, bin_of

POSITIVE_WEIGHT = 1e-6  # an asset with a larger weight counts as held
BINDING = 1e-6  # a weight this near to its bound counts as at it
BITS = tuple(bit for bit in Status if bit is not Status.BAGGED_OVER_CAP)  # those that a universe may have


class Spread(NamedTuple):
    """Numbers of some kind over blocks of universes.

    Attributes:
        count: (blocks, ...) int32, how many there are.
        mean: (blocks, ...) their mean.
        squares: (blocks, ...) sum of their squared deviations from it.
        lowest: (blocks, ...) the smallest, infinite where there is none.
        highest: (blocks, ...) the largest.
    """

    count: Any
    mean: Any
    squares: Any
    lowest: Any
    highest: Any


class Counts(NamedTuple):
    """Whole numbers that add up over universes.

    Attributes:
        n: () universes.
        n_valid: () valid ones.
        positive: (P, N) how often an active asset has a positive weight.
        binding: (P, N) how often it has its largest.
        lead: (P, N) how often it leads its cluster.
        aggressor: (N,) how often it is in the barbell's sleeve.
        weights: (P, N, bins) histogram of its weight.
        measures: (P, M, bins) histograms of `MEASURES`.
        n_clusters: (N + 1,) how often there are K clusters.
        together: (N, N) how often two assets share a cluster.
        both: (N, N) how often both are active.
        status: (P, bits) how often each `Status` bit is set.
    """

    n: Any
    n_valid: Any
    positive: Any
    binding: Any
    lead: Any
    aggressor: Any
    weights: Any
    measures: Any
    n_clusters: Any
    together: Any
    both: Any
    status: Any


_HISTOGRAMS = ("weights", "measures")
_PLAIN_COUNTS = tuple(name for name in Counts._fields if name not in _HISTOGRAMS)


class Partial(NamedTuple):
    """What a range of universes adds to the totals.

    Attributes:
        counts: whole numbers.
        weights: (blocks, P, N) weights of the active assets.
        measures: (blocks, P, M) `MEASURES`.
    """

    counts: Counts
    weights: Spread
    measures: Spread


def _count_shapes(n_profiles: int, n_assets: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the `Counts`, histograms as whole arrays."""
    p, n = n_profiles, n_assets
    return {
        "n": (),
        "n_valid": (),
        "positive": (p, n),
        "binding": (p, n),
        "lead": (p, n),
        "aggressor": (n,),
        "weights": (p, n, WEIGHT_BINS.count),
        "measures": (p, len(MEASURES), MEASURE_BINS.count),
        "n_clusters": (n + 1,),
        "together": (n, n),
        "both": (n, n),
        "status": (p, len(BITS)),
    }


@functools.partial(jax.jit, static_argnums=(0, 1))
def reduce_universes(
    block: int, sleeves: tuple[bool, ...], results: Allocation, measures: Array, start: Array, stop: Array
) -> Partial:
    """Reduce universes ``start`` to ``stop - 1`` of a chunk, in blocks of ``block`` that start at multiples of it.

    Args:
        block: static, divides C.
        sleeves: static, for each profile whether it has a sleeve, to which no bound applies.
        results: `Allocation`, leading axis C.
        measures: (C, P, M) from `measure_universes`.
        start: () int32.
        stop: () int32.

    Returns:
        `Partial` whose spreads have C / block blocks; those outside the range hold nothing.
    """
    capacity, n_profiles, n_assets = results.weights.shape
    n_blocks = capacity // block
    dtype = results.weights.dtype

    def empty(shape: tuple[int, ...]) -> Spread:
        zeros = jnp.zeros((n_blocks, *shape), dtype)
        return Spread(
            count=jnp.zeros((n_blocks, *shape), jnp.int32),
            mean=zeros,
            squares=zeros,
            lowest=zeros + jnp.inf,
            highest=zeros - jnp.inf,
        )

    shapes = _count_shapes(n_profiles, n_assets)
    counts = Counts(**{name: jnp.zeros(shape, jnp.int32) for name, shape in shapes.items()})

    def add_block(b: Array, partial: Partial) -> Partial:
        part, values = jax.tree.map(lambda leaf: lax.dynamic_slice_in_dim(leaf, b * block, block), (results, measures))
        position = b * block + jnp.arange(block, dtype=jnp.int32)
        taken = (position >= start) & (position < stop)
        active = (part.cluster_labels >= 0) & taken[:, None]  # an invalid universe has no active asset
        weights = _spread(part.weights, active[:, None, :])
        measured = _spread(values, taken[:, None, None] & jnp.isfinite(values))
        return Partial(
            counts=_add_counts(partial.counts, part, values, taken, active, sleeves),
            weights=jax.tree.map(lambda leaf, new: leaf.at[b].set(new), partial.weights, weights),
            measures=jax.tree.map(lambda leaf, new: leaf.at[b].set(new), partial.measures, measured),
        )

    first = Partial(
        counts=counts,
        weights=empty((n_profiles, n_assets)),
        measures=empty((n_profiles, len(MEASURES))),
    )
    return lax.fori_loop(start // block, (stop + block - 1) // block, add_block, first)


def _spread(values: Array, taken: Array) -> Spread:
    """`Spread` over the leading axis of the numbers taken, without the axis of blocks."""
    taken = jnp.broadcast_to(taken, values.shape)
    count = jnp.sum(taken, axis=0, dtype=jnp.int32)
    some = jnp.maximum(count, 1).astype(values.dtype)
    mean = jnp.sum(jnp.where(taken, values, 0), axis=0) / some
    squares = jnp.sum(jnp.where(taken, (values - mean[None]) ** 2, 0), axis=0)
    lowest = jnp.min(jnp.where(taken, values, jnp.inf), axis=0)
    highest = jnp.max(jnp.where(taken, values, -jnp.inf), axis=0)
    return Spread(count=count, mean=mean, squares=squares, lowest=lowest, highest=highest)


def _add_counts(
    counts: Counts, part: Allocation, values: Array, taken: Array, active: Array, sleeves: tuple[bool, ...]
) -> Counts:
    """Add a block's universes to the counts."""
    n_profiles, n_assets = part.weights.shape[1:]
    valid = taken & (part.status[:, 0] & Status.INVALID.value == 0)
    held = active[:, None, :]
    bound = part.asset_bound[:, :, None] - BINDING
    unbounded = part.aggressors[:, None, :] & jnp.array(sleeves)[None, :, None]
    binding = held & (part.weights >= bound) & ~unbounded
    profile = jnp.arange(n_profiles, dtype=jnp.int32)[None, :, None]
    asset = jnp.arange(n_assets, dtype=jnp.int32)[None, None, :]
    leads = jnp.where((part.lead_assets >= 0) & valid[:, None, None], part.lead_assets, n_assets)
    weight_bin = jnp.where(held, bin_of(part.weights, WEIGHT_BINS), WEIGHT_BINS.count)  # out of range: dropped
    measure = jnp.arange(len(MEASURES), dtype=jnp.int32)[None, None, :]
    measure_bin = jnp.where(
        taken[:, None, None] & jnp.isfinite(values), bin_of(values, MEASURE_BINS), MEASURE_BINS.count
    )
    labels = part.cluster_labels
    pairs = active[:, :, None] & active[:, None, :]
    same = pairs & (labels[:, :, None] == labels[:, None, :])
    bits = jnp.array([bit.value for bit in BITS], jnp.int32)
    flagged = (part.status[:, :, None] & bits[None, None, :] != 0) & taken[:, None, None]

    def add(x: Array) -> Array:
        return jnp.sum(x, axis=0, dtype=jnp.int32)

    return Counts(
        n=counts.n + add(taken),
        n_valid=counts.n_valid + add(valid),
        positive=counts.positive + add(held & (part.weights > POSITIVE_WEIGHT)),
        binding=counts.binding + add(binding),
        lead=counts.lead.at[profile, leads].add(1, mode="drop"),
        aggressor=counts.aggressor + add(part.aggressors & valid[:, None]),
        weights=counts.weights.at[profile, asset, weight_bin].add(1, mode="drop"),
        measures=counts.measures.at[profile, measure, measure_bin].add(1, mode="drop"),
        n_clusters=counts.n_clusters.at[jnp.where(valid, part.n_clusters, n_assets + 1)].add(1, mode="drop"),
        together=counts.together + add(same),
        both=counts.both + add(pairs),
        status=counts.status + add(flagged),
    )


def to_host(partial: Partial) -> Partial:
    """Fetch a partial from the device, its histograms as `Histogram`; return one that has been fetched as it is."""
    if isinstance(partial.counts.weights, Histogram):
        return partial
    partial = jax.tree.map(np.asarray, partial)
    counts = partial.counts
    sparse = {name: Histogram.of(getattr(counts, name)) for name in _HISTOGRAMS}
    return partial._replace(counts=counts._replace(**sparse))


class Totals:
    """Partials added up, in the order of the universes; NumPy arrays in float64 and int64.

    Attributes:
        tallies: `Counts` whose histograms are `Histogram`.
        weights: `Spread` of the weights, without the axis of blocks: (P, N).
        measures: `Spread` of `MEASURES`: (P, M).
    """

    def __init__(self, n_profiles: int, n_assets: int) -> None:
        """Start with nothing counted."""
        shapes, nothing = _count_shapes(n_profiles, n_assets), np.zeros(0, np.int64)
        plain = {name: np.zeros(shapes[name], np.int64) for name in _PLAIN_COUNTS}
        histograms = {name: Histogram(shapes[name], nothing, nothing) for name in _HISTOGRAMS}
        self.tallies = Counts(**plain, **histograms)
        self.weights = _nothing((n_profiles, n_assets))
        self.measures = _nothing((n_profiles, len(MEASURES)))

    @property
    def counts(self) -> Counts:
        """`Counts`, the histograms as whole arrays, made anew at each call."""
        return self.tallies._replace(**{name: getattr(self.tallies, name).dense() for name in _HISTOGRAMS})

    def add(self, partial: Partial) -> None:
        """Add the next universes' partial, from `to_host` or as it is on the device."""
        new = partial.counts
        added = {name: getattr(self.tallies, name) + np.asarray(getattr(new, name)) for name in _PLAIN_COUNTS}
        for name in _HISTOGRAMS:
            histogram = getattr(new, name)
            histogram = histogram if isinstance(histogram, Histogram) else Histogram.of(histogram)
            added[name] = getattr(self.tallies, name) + histogram
        self.tallies = Counts(**added)
        self.weights = _merge(self.weights, partial.weights)
        self.measures = _merge(self.measures, partial.measures)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return everything as named arrays, from which `from_arrays` makes the same totals."""
        named = {f"counts.{name}": getattr(self.tallies, name) for name in _PLAIN_COUNTS}
        for name in _HISTOGRAMS:
            histogram = getattr(self.tallies, name)
            named |= {f"counts.{name}.bins": histogram.bins, f"counts.{name}.held": histogram.held}
        for part in ("weights", "measures"):
            named |= {f"{part}.{name}": array for name, array in getattr(self, part)._asdict().items()}
        return named

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Totals:
        """Make totals of what `arrays` gave; raise `MisfitError` where they are not such."""
        check_arrays(arrays, {"counts.positive": ("i", (None, None))})
        sizes = arrays["counts.positive"].shape
        check_arrays(arrays, _array_shapes(*sizes))
        totals = cls(*sizes)
        tallies: dict[str, Any] = {name: arrays[f"counts.{name}"] for name in _PLAIN_COUNTS}
        for name in _HISTOGRAMS:
            bins, held = arrays[f"counts.{name}.bins"], arrays[f"counts.{name}.held"]
            shape = getattr(totals.tallies, name).shape
            inside = not len(bins) or (bins[0] >= 0 and bins[-1] < np.prod(shape) and np.all(np.diff(bins) > 0))
            if len(held) != len(bins) or not inside:
                raise MisfitError(f"counts.{name} must have its bins in ascending order")
            tallies[name] = Histogram(shape, bins, held)
        totals.tallies = Counts(**tallies)
        for part in ("weights", "measures"):
            setattr(totals, part, Spread(**{name: arrays[f"{part}.{name}"] for name in Spread._fields}))
        return totals


def _array_shapes(n_profiles: int, n_assets: int) -> dict[str, Wanted]:
    """Kinds and shapes of what `Totals.arrays` gives."""
    shapes = _count_shapes(n_profiles, n_assets)
    wanted: dict[str, Wanted] = {f"counts.{name}": ("i", shapes[name]) for name in _PLAIN_COUNTS}
    for name in _HISTOGRAMS:
        wanted |= {f"counts.{name}.{part}": ("i", (None,)) for part in ("bins", "held")}
    for part, width in (("weights", n_assets), ("measures", len(MEASURES))):
        for name in Spread._fields:
            wanted[f"{part}.{name}"] = ("i" if name == "count" else "f", (n_profiles, width))
    return wanted


def _nothing(shape: tuple[int, ...]) -> Spread:
    zeros = np.zeros(shape)
    return Spread(
        count=np.zeros(shape, np.int64), mean=zeros, squares=zeros, lowest=zeros + np.inf, highest=zeros - np.inf
    )


def _merge(total: Spread, blocks: Spread) -> Spread:
    """Merge blocks into a total, one after the other."""
    count, mean, squares, lowest, highest = total
    counts = np.asarray(blocks.count, np.int64)
    means, squared = np.asarray(blocks.mean, np.float64), np.asarray(blocks.squares, np.float64)
    for b in np.flatnonzero(counts.reshape(len(counts), -1).any(axis=1)):
        both = count + counts[b]
        share = counts[b] / np.maximum(both, 1)
        shift = means[b] - mean
        mean = mean + shift * share
        squares = squares + squared[b] + shift**2 * share * count
        count = both
    lowest = np.minimum(lowest, np.asarray(blocks.lowest, np.float64).min(axis=0))
    highest = np.maximum(highest, np.asarray(blocks.highest, np.float64).max(axis=0))
    return Spread(count=count, mean=mean, squares=squares, lowest=lowest, highest=highest)


def spread_table(spread: Spread, histogram: np.ndarray, bins: Bins, levels: Mapping[str, float]) -> dict[str, Any]:
    """Return mean, standard deviation (divisor count - 1) and quantiles of the numbers in a total.

    Args:
        spread: of a `Totals`, (...).
        histogram: (..., bins).
        bins: of the histogram.
        levels: quantiles by name, between 0 and 1; linear between order statistics.

    Returns:
        Arrays (...) named mean, std and as the levels; NaN where nothing is counted (std: where less than two).
    """
    count = spread.count
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(count > 0, spread.mean, np.nan)
        std = np.where(count > 1, np.sqrt(spread.squares / (count - 1)), np.nan)
    table = {"mean": mean, "std": std}
    cumulative = histogram.cumsum(axis=-1)
    for name, level in levels.items():
        place = level * np.maximum(count - 1, 0)
        below = np.floor(place).astype(np.int64)
        low = _order_statistic(below, spread, cumulative, bins)
        high = _order_statistic(np.minimum(below + 1, np.maximum(count - 1, 0)), spread, cumulative, bins)
        table[name] = np.where(count > 0, low + (place - below) * (high - low), np.nan)
    return table


def _order_statistic(rank: np.ndarray, spread: Spread, cumulative: np.ndarray, bins: Bins) -> np.ndarray:
    """The number of a rank (from 0), as if the numbers of its bin were evenly spaced; within the extremes."""
    low, high = bin_edges(bins)
    position = (cumulative <= rank[..., None]).sum(axis=-1)
    position = np.minimum(position, bins.count - 1)
    upto = np.take_along_axis(cumulative, position[..., None], axis=-1)[..., 0]
    before = np.where(
        position > 0, np.take_along_axis(cumulative, np.maximum(position - 1, 0)[..., None], axis=-1)[..., 0], 0
    )
    inside = (rank - before + 0.5) / np.maximum(upto - before, 1)
    value = low[position] + inside * (high - low)[position]
    some = spread.count > 0
    return np.clip(value, np.where(some, spread.lowest, 0), np.where(some, spread.highest, 0))
