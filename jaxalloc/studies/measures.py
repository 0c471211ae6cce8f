"""Thousands of universes reduced on the device to figures whose size does not grow with their number.

`reduce_universes` turns a range of a chunk's universes into a `Partial`; `Totals` adds partials up on the host. Counts
are whole numbers, whose sums know no order. Means and squared deviations are taken block by block, blocks that start at
fixed universes, and are merged in the order of the universes (Chan, Golub and LeVeque, 1983): another chunk or number
of devices gives the same bits.

Quantiles come from histograms. A bin holds the numbers that share sign, exponent and the first bits of the mantissa;
its width is 2**-7 (0.8 %) of a weight and 2**-8 (0.4 %) of any other figure. An order statistic is placed inside its
bin by its rank there, so it is off by less than the bin's width; weights below 2**-20 (1e-6), and other figures below
2**-30 in size, count as 0.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxalloc.kernels.clusters.within import sum_by_cluster
from jaxalloc.kernels.lanes.elimination import dot
from jaxalloc.portfolios.allocation import Allocation
from jaxalloc.settings.status import Status

POSITIVE_WEIGHT = 1e-6  # what counts as holding an asset
BINDING = 1e-6  # how near to its bound a weight binds
FEWEST_LEFT_OUT = 20  # rows that out-of-bag figures need
MEASURES = (
    "volatility",
    "expected_return",
    "sharpe",
    "effective_assets",
    "effective_clusters",
    "effective_bets",
    "concentration",
    "turnover",
    "out_of_bag_return",
    "out_of_bag_volatility",
    "out_of_bag_sharpe",
)
_LATER_MEASURES = ("sharpe", "effective_bets")  # in the order in which they came: what older stores do not hold
BITS = tuple(bit for bit in Status)


class Bins(NamedTuple):
    """Bins of a histogram over floating-point numbers.

    Attributes:
        low: exponent of the smallest number that is not 0.
        high: exponent past that of the largest.
        bits: leading bits of the mantissa that are told apart.
        signed: whether there are bins below 0.
    """

    low: int
    high: int
    bits: int
    signed: bool

    @property
    def half(self) -> int:
        """Bins above 0."""
        return (self.high - self.low) << self.bits

    @property
    def count(self) -> int:
        """Bins in all: below 0 from the largest size to the smallest, 0, above 0."""
        return self.half * (2 if self.signed else 1) + 1


WEIGHT_BINS = Bins(-20, 1, 7, signed=False)
MEASURE_BINS = Bins(-30, 20, 8, signed=True)


def bin_of(values: Array, bins: Bins) -> Array:
    """The bin of each number, int32; numbers beyond the largest are in the last, those too small in that of 0."""
    # float32 has enough of the mantissa, and its bits do not depend on the precision of the study
    size = jnp.abs(values).astype(jnp.float32)
    pattern = lax.bitcast_convert_type(size, jnp.int32) >> (23 - bins.bits)
    place = pattern - ((bins.low + 127) << bins.bits) + 1
    place = jnp.clip(place, 0, bins.half)
    return bins.half + jnp.where(values < 0, -place, place) if bins.signed else jnp.where(values > 0, place, 0)


def bin_edges(bins: Bins) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper edge of every bin; those of 0 are 0."""
    place = np.arange(bins.half + 1)
    edge = np.ldexp(1 + (place % (1 << bins.bits)) / (1 << bins.bits), bins.low + (place >> bins.bits))
    low, high = np.concatenate([[0], edge[:-1]]), np.concatenate([[0], edge[1:]])
    if not bins.signed:
        return low, high
    return np.concatenate([-high[:0:-1], low]), np.concatenate([-low[:0:-1], high])


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
    """What a range of universes adds to the totals."""

    counts: Counts
    weights: Spread
    measures: Spread


class Reference(NamedTuple):
    """What universes are compared with.

    Attributes:
        weights: (G, P, N) the point estimate's for each of G settings; NaN if it is invalid.
        returns: (T, N) the panel, 0 where missing; (0, N) where there is no out-of-bag.
        missing: (T, N) 1.0 where the panel has no return; likewise.
        periods_per_year: (G,) rows a year.
        risk_free_rate: (G,) annual simple rate that the Sharpe ratio subtracts.
    """

    weights: Any
    returns: Any
    missing: Any
    periods_per_year: Any
    risk_free_rate: Any


def measures(result: Allocation, left_out: Array, point: Array, reference: Reference) -> Array:
    """(P, M) `MEASURES` of one universe; NaN where one has no meaning.

    Args:
        result: of the universe, without a batch axis.
        left_out: (T,) bool, the rows that it does not hold.
        point: () int32, which of the settings are its own.
        reference: what to compare with.
    """
    x = result.weights
    reference = reference._replace(
        weights=reference.weights[point],
        periods_per_year=reference.periods_per_year[point],
        risk_free_rate=reference.risk_free_rate[point],
    )
    active = result.cluster_labels >= 0
    herfindahl = jnp.sum(x**2, axis=1)
    by_cluster = jnp.sum(result.cluster_weights**2, axis=1)
    moved = jnp.where(active[None, :], jnp.abs(x - reference.weights), 0)
    turnover = jnp.where(jnp.isnan(x[:, 0]), jnp.nan, jnp.sum(moved, axis=1) / 2)
    some = result.volatility > 0
    excess = result.expected_return - reference.risk_free_rate
    sharpe = jnp.where(some, excess / jnp.where(some, result.volatility, 1), jnp.nan)
    columns = [result.volatility, result.expected_return, sharpe, 1 / herfindahl, 1 / by_cluster]
    columns += [_effective_bets(result), herfindahl, turnover]
    return jnp.stack(columns + list(_out_of_bag(x, left_out, reference)), axis=1)


def _effective_bets(result: Allocation) -> Array:
    """(P,) exponential of the entropy of the clusters' shares in the variance; shares below 0 count as 0."""
    size = result.cluster_labels.shape[0]
    shares = jax.vmap(lambda shares: sum_by_cluster(shares, result.cluster_labels, size))(result.risk_contributions)
    some = shares > 0  # none in an invalid universe
    total = jnp.sum(jnp.where(some, shares, 0), axis=1)
    shares = jnp.where(some, shares, 1) / jnp.where(total > 0, total, 1)[:, None]
    entropy = -jnp.sum(jnp.where(some, shares * jnp.log(shares), 0), axis=1)
    return jnp.where(total > 0, jnp.exp(entropy), jnp.nan)


def _out_of_bag(x: Array, left_out: Array, reference: Reference) -> tuple[Array, Array, Array]:
    """Annual return, volatility and Sharpe ratio (P,) of constant weights over the rows left out."""
    if left_out.shape[0] == 0:
        none = jnp.full(x.shape[0], jnp.nan, x.dtype)
        return none, none, none
    held = jnp.nan_to_num(x)
    path = dot(held, reference.returns.T)
    # a row counts in which every asset that is held has a return
    seen = left_out[None, :] & (dot((held > 0).astype(x.dtype), reference.missing.T) == 0)
    count = jnp.sum(seen, axis=1, dtype=x.dtype)
    enough = (count >= FEWEST_LEFT_OUT) & ~jnp.isnan(x[:, 0])
    mean = jnp.sum(jnp.where(seen, path, 0), axis=1) / jnp.maximum(count, 1)
    squares = jnp.sum(jnp.where(seen, (path - mean[:, None]) ** 2, 0), axis=1)
    annual = reference.periods_per_year * mean
    volatility = jnp.sqrt(reference.periods_per_year * squares / jnp.maximum(count - 1, 1))
    sharpe = (annual - reference.risk_free_rate) / jnp.where(volatility > 0, volatility, 1)
    defined = enough & (volatility > 0)
    nan = jnp.nan
    return jnp.where(enough, annual, nan), jnp.where(enough, volatility, nan), jnp.where(defined, sharpe, nan)


@functools.partial(jax.jit, static_argnums=0)
def measure_universes(block: int, results: Allocation, left_out: Array, points: Array, reference: Reference) -> Array:
    """(C, P, M) `measures` of a chunk's universes, computed a block at a time."""
    one = jax.vmap(measures, in_axes=(0, 0, 0, None))
    n_blocks = points.shape[0] // block
    blocks = jax.tree.map(lambda leaf: leaf.reshape(n_blocks, block, *leaf.shape[1:]), (results, left_out, points))
    found = lax.map(lambda part: one(part[0], part[1], part[2], reference), blocks)
    return found.reshape(-1, *found.shape[2:])


@functools.partial(jax.jit, static_argnums=(0, 1))
def reduce_universes(
    block: int, sleeves: tuple[bool, ...], results: Allocation, figures: Array, start: Array, stop: Array
) -> Partial:
    """Reduce universes ``start`` to ``stop - 1`` of a chunk, in blocks of ``block`` that start at multiples of it.

    Args:
        block: static, divides C.
        sleeves: static, for each profile whether it has a sleeve, to which no bound applies.
        results: `Allocation`, leading axis C.
        figures: (C, P, M) from `measure_universes`.
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
        return Spread(jnp.zeros((n_blocks, *shape), jnp.int32), zeros, zeros, zeros + jnp.inf, zeros - jnp.inf)

    def whole(*shape: int) -> Array:
        return jnp.zeros(shape, jnp.int32)

    p, n = n_profiles, n_assets
    counts = Counts(
        *(whole(), whole(), whole(p, n), whole(p, n), whole(p, n), whole(n)),
        *(whole(p, n, WEIGHT_BINS.count), whole(p, len(MEASURES), MEASURE_BINS.count), whole(n + 1)),
        *(whole(n, n), whole(n, n), whole(p, len(BITS))),
    )

    def add_block(b: Array, partial: Partial) -> Partial:
        part, values = jax.tree.map(lambda leaf: lax.dynamic_slice_in_dim(leaf, b * block, block), (results, figures))
        position = b * block + jnp.arange(block, dtype=jnp.int32)
        taken = (position >= start) & (position < stop)
        active = (part.cluster_labels >= 0) & taken[:, None]  # of an invalid universe none is
        weights = _spread(part.weights, active[:, None, :])
        figured = _spread(values, taken[:, None, None] & jnp.isfinite(values))
        return Partial(
            _add_counts(partial.counts, part, values, taken, active, sleeves),
            jax.tree.map(lambda leaf, new: leaf.at[b].set(new), partial.weights, weights),
            jax.tree.map(lambda leaf, new: leaf.at[b].set(new), partial.measures, figured),
        )

    first = Partial(counts, empty((p, n)), empty((p, len(MEASURES))))
    return lax.fori_loop(start // block, (stop + block - 1) // block, add_block, first)


def _spread(values: Array, taken: Array) -> Spread:
    """`Spread` over the leading axis of the numbers taken, without the axis of blocks."""
    taken = jnp.broadcast_to(taken, values.shape)
    count = jnp.sum(taken, axis=0, dtype=jnp.int32)
    some = jnp.maximum(count, 1).astype(values.dtype)
    mean = jnp.sum(jnp.where(taken, values, 0), axis=0) / some
    squares = jnp.sum(jnp.where(taken, (values - mean[None]) ** 2, 0), axis=0)
    lowest = jnp.min(jnp.where(taken, values, jnp.inf), axis=0)
    return Spread(count, mean, squares, lowest, jnp.max(jnp.where(taken, values, -jnp.inf), axis=0))


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
    figure = jnp.arange(len(MEASURES), dtype=jnp.int32)[None, None, :]
    figure_bin = jnp.where(
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
        measures=counts.measures.at[profile, figure, figure_bin].add(1, mode="drop"),
        n_clusters=counts.n_clusters.at[jnp.where(valid, part.n_clusters, n_assets + 1)].add(1, mode="drop"),
        together=counts.together + add(same),
        both=counts.both + add(pairs),
        status=counts.status + add(flagged),
    )


# ---- totals, on the host --------------------------------------------------------------------------------------------


class Histogram:
    """A histogram of which only the bins that hold something are kept.

    Attributes:
        shape: of the whole, the bins last.
        bins: (held,) flat positions, ascending.
        held: (held,) what they hold.
    """

    def __init__(self, shape: tuple[int, ...], bins: np.ndarray, held: np.ndarray) -> None:
        """Take bins in ascending order."""
        self.shape, self.bins, self.held = shape, bins, held

    @classmethod
    def of(cls, dense: Any) -> Histogram:
        """Make one of a whole array."""
        array = np.asarray(dense)
        flat = array.ravel()
        bins = np.flatnonzero(flat)
        return cls(array.shape, bins, flat[bins].astype(np.int64))

    def __add__(self, other: Histogram) -> Histogram:
        bins = np.union1d(self.bins, other.bins)
        held = np.zeros(len(bins), np.int64)
        for part in (self, other):
            held[np.searchsorted(bins, part.bins)] += part.held
        return Histogram(self.shape, bins, held)

    def dense(self) -> np.ndarray:
        """Return the whole array."""
        whole = np.zeros(int(np.prod(self.shape)), np.int64)
        whole[self.bins] = self.held
        return whole.reshape(self.shape)


def to_host(partial: Partial) -> Partial:
    """Fetch a partial from the device; its histograms become `Histogram`. One that has been fetched is as it was."""
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
        p, n = n_profiles, n_assets
        nothing = np.zeros(0, np.int64)
        whole = [np.zeros(shape, np.int64) for shape in ((), (), (p, n), (p, n), (p, n), (n,))]
        rest = [np.zeros(shape, np.int64) for shape in ((n + 1,), (n, n), (n, n), (p, len(BITS)))]
        shapes = (p, n, WEIGHT_BINS.count), (p, len(MEASURES), MEASURE_BINS.count)
        self.tallies = Counts(*whole, *(Histogram(shape, nothing, nothing) for shape in shapes), *rest)
        self.weights = _nothing((p, n))
        self.measures = _nothing((p, len(MEASURES)))

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
        """Make totals of what `arrays` gave; of a measure that it did not know yet they hold nothing."""
        arrays = _with_all_measures(arrays)
        totals = cls(*arrays["counts.positive"].shape)
        tallies: dict[str, Any] = {name: arrays[f"counts.{name}"] for name in _PLAIN_COUNTS}
        for name in _HISTOGRAMS:
            bins, held = arrays[f"counts.{name}.bins"], arrays[f"counts.{name}.held"]
            tallies[name] = Histogram(getattr(totals.tallies, name).shape, bins, held)
        totals.tallies = Counts(**tallies)
        for part in ("weights", "measures"):
            setattr(totals, part, Spread(*(arrays[f"{part}.{name}"] for name in Spread._fields)))
        return totals


def _with_all_measures(arrays: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """What `Totals.arrays` gave, with room for the measures that came after it was written."""
    n_profiles, n_measures = arrays["measures.count"].shape
    lacking = len(MEASURES) - n_measures
    if not 0 < lacking <= len(_LATER_MEASURES):
        return arrays
    known = [name for name in MEASURES if name not in _LATER_MEASURES[-lacking:]]
    places = np.array([MEASURES.index(name) for name in known])
    spread = {name: whole.copy() for name, whole in _nothing((n_profiles, len(MEASURES)))._asdict().items()}
    for name, whole in spread.items():
        whole[:, places] = arrays[f"measures.{name}"]
    profile, measure, bin_ = np.unravel_index(
        arrays["counts.measures.bins"], (n_profiles, n_measures, MEASURE_BINS.count)
    )
    shape = (n_profiles, len(MEASURES), MEASURE_BINS.count)
    bins = np.ravel_multi_index((profile, places[measure], bin_), shape)
    return {**arrays, "counts.measures.bins": bins} | {f"measures.{name}": whole for name, whole in spread.items()}


def _nothing(shape: tuple[int, ...]) -> Spread:
    zeros = np.zeros(shape)
    return Spread(np.zeros(shape, np.int64), zeros, zeros, zeros + np.inf, zeros - np.inf)


def _merge(total: Spread, blocks: Spread) -> Spread:
    """Merge blocks into a total, one after the other."""
    count, mean, squares, lowest, highest = total
    counts = np.asarray(blocks.count, np.int64)
    means, squared = np.asarray(blocks.mean, np.float64), np.asarray(blocks.squares, np.float64)
    for b in np.flatnonzero(counts.reshape(len(counts), -1).any(axis=1)):
        both = count + counts[b]
        share = counts[b] / np.maximum(both, 1)
        apart = means[b] - mean
        mean = mean + apart * share
        squares = squares + squared[b] + apart**2 * share * count
        count = both
    lowest = np.minimum(lowest, np.asarray(blocks.lowest, np.float64).min(axis=0))
    highest = np.maximum(highest, np.asarray(blocks.highest, np.float64).max(axis=0))
    return Spread(count, mean, squares, lowest, highest)


def spread_table(spread: Spread, histogram: np.ndarray, bins: Bins, levels: Mapping[str, float]) -> dict[str, Any]:
    """Mean, standard deviation (divisor count - 1) and quantiles of what a total holds.

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
    """The number of a rank (from 0), placed in its bin as if the bin's numbers lay evenly; within the extremes."""
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
