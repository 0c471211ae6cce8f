"""A part of a chunk on its way through the stages, on one device.

Groups of universes are drawn, observed and clustered, and their problems posed. Then the host reads how many clusters
each universe has, packs the problems of all groups into tiles by that number, by solver and by step, and hands the
solutions back to the groups, which are described.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxalloc.engine import stages
from jaxalloc.engine.calls import Calls, Work
from jaxalloc.engine.linking import link_group
from jaxalloc.engine.making import Stage
from jaxalloc.engine.observing import Observing, Universes, count_observations
from jaxalloc.engine.problems import Problems
from jaxalloc.engine.scalar import Scalar, Unsolved
from jaxalloc.engine.shapes import CLUSTERS, PORTFOLIOS, canonical, canonical_each
from jaxalloc.engine.solving import SECOND, Batch, Solutions, Solving, batches
from jaxalloc.engine.stages import Items
from jaxalloc.kernels.lanes.compiling import Emitter
from jaxalloc.portfolios.describing import kinds_of
from jaxalloc.portfolios.estimates import Estimates, with_partition
from jaxalloc.portfolios.posing import Clustered, Posed
from jaxalloc.portfolios.profiles import PROFILES
from jaxalloc.portfolios.result import BY_ASSET_FIELDS, PROFILE_FIELDS, RESULT_FIELDS, Allocation
from jaxalloc.portfolios.sensitivity import Sensitivities
from jaxalloc.settings.config import CLUSTER_CHOICES, AllocationConfig
from jaxalloc.universes.universe import Drawn

_MANY = 100  # problems of a batch
_INTEGERS = ("cluster_labels", "n_clusters", "lead_assets", "iterations", "status")  # among the results
_DIRECTIONS = 8  # by how much fewer universes than of other stages are sensed at once


class Group(NamedTuple):
    """Universes whose problems have been posed.

    Attributes:
        start: the first one's slot in the part.
        count: how many there are; the rest of the group is padding.
        config: settings, leading axis of the group.
        estimates: likewise.
        clustered: likewise.
        left_out: (count, T) bool, the rows that a universe does not hold; None where they are not wanted.
        n_observations: leading axis of the group; None where sensitivities are not wanted.
    """

    start: int
    count: int
    config: AllocationConfig
    estimates: Estimates
    clustered: Clustered
    left_out: np.ndarray | None
    n_observations: np.ndarray | None


class Made(NamedTuple):
    """The results of a part, with room for a part's capacity.

    Attributes:
        results: of its universes.
        left_out: (capacity, T) bool, as in `Group`; (capacity, 0) where they are not wanted.
        sensitivities: (capacity, P, N) each; None where they are not wanted.
    """

    results: Allocation
    left_out: np.ndarray
    sensitivities: Sensitivities | None


class PartRun:
    """The universes of a part."""

    def __init__(
        self,
        work: Work,
        items: Items,
        part: slice,
        capacity: int,
        settings: dict[str, np.ndarray],
        stop: threading.Event,
        progress: Callable[[int], None],
    ) -> None:
        """Take the universes ``part`` of the ``items`` of a chunk, which have ``settings``, and room for results."""
        self._work, self._sizes, self._backend = work, work.sizes, work.backend
        self._items, self._settings, self._part = items, settings, part
        self._count, self._capacity = part.stop - part.start, capacity
        self._names = work.config.profiles
        self._calls = Calls(work.device, stop)
        self._progress, self._solved, self._told = progress, 0, 0
        self._over_clusters = Problems(self._calls, work, capacity)
        self._over_assets = Problems(self._calls, work, capacity)
        self._solutions = Solutions(work, self._sizes.group * -(-self._count // self._sizes.group))
        self._scalar = Scalar(work, self._solutions) if work.scalar else None
        self._observing = Observing(self._calls, work, items, self._scalar)
        self._wanted = np.full((len(self._names), self._count), self._scalar is None)  # problems left to the lanes
        self._results = self._room_for_results()
        self._left_out = np.zeros((capacity, work.n_rows if work.keep_left_out else 0), bool)
        self._sensed = None
        if work.sensitivities:
            shape = capacity, len(self._names), work.n_assets
            self._sensed = Sensitivities(*(np.zeros(shape, work.dtype) for _ in Sensitivities._fields))  # type: ignore[arg-type]

    def compute(self) -> Made:
        """Return the results.

        Raises:
            StoppedError: the event was set.
        """
        # no attribute: what refers to this object, and is referred to by it, stays until Python looks for such circles
        solving = Solving(self._calls, self._work, self._over_clusters, self._over_assets, self._solutions, self._tell)
        groups: list[Group] = []
        for start in range(0, self._count, self._sizes.group):
            group = self._pose(start, solving)
            if self._wanted[:, start : start + group.count].any():
                groups.append(group)
            else:  # while its covariances are near
                self._weigh(group)
                self._finish(group)
        n_clusters = np.ones(self._count, np.int32)
        for group in groups:
            n_clusters[group.start : group.start + group.count] = np.asarray(group.estimates.n_clusters)[: group.count]
        wanted = self._batches(solving, n_clusters) if groups else []
        for group in groups:
            self._weigh(group)
        for batch in wanted:
            solving.solve(batch)
        self._over_clusters.release()
        self._over_assets.release()
        for group in groups:
            self._finish(group)
        self._solutions.release()
        self._report(self._count)
        return Made(results=Allocation(**self._results), left_out=self._left_out, sensitivities=self._sensed)

    def _batches(self, solving: Solving, n_clusters: np.ndarray) -> list[Batch]:
        """The problems that are left to the lanes, of the first universes (U,). Their programs are made from now on."""
        left = batches(self._names, n_clusters, self._work.n_assets, self._wanted[:, : len(n_clusters)])
        for batch in left:
            solving.prefetch(batch)
        for batch in left:
            if len(batch.slot) >= _MANY:  # of so many problems some want a second step
                solving.prefetch(batch, SECOND)
        return left

    # ---- from items to problems -------------------------------------------------------------------------------------

    def _pose(self, start: int, solving: Solving) -> Group:
        """Take the group of universes that begins at slot ``start`` through the stages up to their problems."""
        sizes, choices = self._sizes, self._work.config
        count, is_first = min(sizes.group, self._count - start), start == 0
        # the padding repeats a universe, so that it computes what is harmless
        source = self._part.start + start + np.minimum(np.arange(sizes.group), count - 1)
        steps = self._steps(count)
        # the numbers of the universes, and no more choices than a stage asks for
        config = AllocationConfig(profiles=()).replace(
            **{name: values[source] for name, values in self._settings.items()}
        )
        given = jax.tree.map(lambda values: _padded(values[source], sizes.assets), self._items.given)
        drawn = self._draw(source, count)
        universes = Universes(
            drawn=drawn,
            source=source,
            config=config.replace(covariance=choices.covariance),
            given=given._replace(clusters=None),
            count=count,
        )
        cluster, pose = self._clustering(), self._posing()
        if is_first:  # programs are made in the order in which they are needed, as many at once as there are cores
            self._observing.prefetch(universes)
            if self._scalar is None or not self._scalar.finds_clusters(given.clusters):
                shapes = stages.shapes_of_estimates(sizes.group, sizes.assets, self._work.dtype)
                self._calls.prefetch(cluster, shapes, self._choices(config), given.clusters, steps)
                if self._scalar is None:
                    self._calls.prefetch(pose, shapes, config, steps, self._work.shape_of_covariances())
        estimates = self._observing.observe(universes)
        estimates = self._cluster(estimates, config, given.clusters, count)
        if is_first and self._scalar is None:
            self._batches(solving, np.asarray(estimates.n_clusters)[:count])
        if self._scalar is None:
            clustered = self._posed(estimates, config, start, count)
        else:
            clustered = self._solved_or_left(self._scalar, estimates, config, start, count)
        left_out = None
        if self._work.keep_left_out:
            left_out = np.asarray(drawn.weights)[:count, : self._work.n_rows] == 0
        group = Group(
            start=start,
            count=count,
            config=config,
            estimates=estimates,
            clustered=clustered,
            left_out=left_out,
            n_observations=count_observations(universes, choices) if self._work.sensitivities else None,
        )
        if is_first:
            if self._scalar is None:
                self._calls.prefetch(*self._description(group, 0))
            if self._work.sensitivities:
                for place in range(len(self._names)):
                    self._calls.prefetch(*self._sensing(group, place))
        return group

    def _cluster(self, estimates: Estimates, config: AllocationConfig, labels: Any, count: int) -> Estimates:
        """The estimates of a group with their clusters, unless a caller gives the ``labels``."""
        if self._scalar is not None and self._scalar.finds_clusters(labels):
            self._calls.check()
            return self._scalar.cluster(estimates, config, count)
        stage, steps = self._clustering(), self._steps(count)
        partition, pieces = self._calls.run(stage, estimates, self._choices(config), labels, steps)
        estimates = with_partition(estimates, partition)
        return link_group(self._calls, self._work, estimates, pieces, np.asarray(config.distance_threshold), count)

    def _posed(self, estimates: Estimates, config: AllocationConfig, start: int, count: int) -> Clustered:
        """Pose the problems of a group, and keep them for the lanes."""
        slots = np.arange(start, start + count)
        rows = canonical_each(np.asarray(estimates.n_clusters)[:count], CLUSTERS)
        room = self._work.room_for_covariances()
        clustered, posed = self._calls.run(self._posing(), estimates, config, self._steps(count), room)
        self._over_clusters.put(posed, slots, rows)
        self._work.give_back(posed.covariance)
        if self._is_over_assets():
            self._over_assets.put(self._seen(estimates, config, count), slots, self._assets_each(count))
        return clustered

    def _solved_or_left(
        self, scalar: Scalar, estimates: Estimates, config: AllocationConfig, start: int, count: int
    ) -> Clustered:
        """Solve the problems of a group by scalar kernels, and keep those that these leave to the lanes."""
        self._calls.check()
        scalar.compile(estimates, config, self._results)
        clustered, left = scalar.solve_clusters(estimates, config, start, count)
        if left.posed is not None and len(left.which):
            rows = canonical_each(np.asarray(estimates.n_clusters)[left.which], CLUSTERS)
            self._over_clusters.put(left.posed, start + left.which, rows)
        self._leave(left, start, count)
        if self._is_over_assets():
            left = scalar.solve_assets(estimates, config, start, count)
            if len(left.which):
                seen = self._seen(estimates, config, count)
                some = jax.tree.map(lambda leaf: np.asarray(leaf)[left.which], seen)
                self._over_assets.put(some, start + left.which, self._assets_each(len(left.which)))
            self._leave(left, start, count)
        return clustered

    def _is_over_assets(self) -> bool:
        return any(PROFILES[name].over_assets for name in self._names)

    def _seen(self, estimates: Estimates, config: AllocationConfig, count: int) -> Posed:
        """The problems over the assets of a group."""
        return self._calls.run(self._of_group("see", stages.see_group), estimates, config, self._steps(count))

    def _assets_each(self, count: int) -> np.ndarray:
        """The canonical size of as many problems over assets."""
        return np.full(count, canonical(self._work.n_assets, CLUSTERS))

    def _leave(self, left: Unsolved, start: int, count: int) -> None:
        """Leave problems of a group to the lanes; the others are solved."""
        self._wanted[:, start + left.which] |= left.wanted
        if left.n_problems:
            self._tell(left.n_problems * count - int(np.count_nonzero(left.wanted)))

    def _steps(self, count: int) -> np.int32:
        """How many steps of a few universes each go through so many."""
        return np.int32(-(-count // self._sizes.few))

    def _choices(self, config: AllocationConfig) -> AllocationConfig:
        """The settings of a group with the choices that make clusters."""
        return config.replace(**{name: getattr(self._work.config, name) for name in CLUSTER_CHOICES})

    def _clustering(self) -> Stage:
        return self._of_group("cluster", stages.cluster_group)

    def _posing(self) -> Stage:
        return self._of_group("pose", stages.pose_group, donate=(3,))._replace(emitter=Emitter.FUSIONS)

    def _of_group(self, name: str, function: Callable[..., Any], donate: tuple[int, ...] = ()) -> Stage:
        """A stage of a group of universes."""
        few, backend = self._sizes.few, self._backend
        run = functools.partial(function, few=few, backend=backend)
        return Stage(name=name, function=run, static=(few, backend), donate=donate)

    def _draw(self, source: np.ndarray, count: int) -> Drawn:
        """Weights and masks of universes of the items, of canonical sizes; returns only where they are drawn.

        Weights that a caller gave are not padded: the windows of a long panel hold few of them. Nor are those that
        scalar kernels draw.
        """
        items, sizes, dtype = self._items, self._sizes, self._work.dtype
        if items.index is None:
            weights = np.asarray(items.weights)[source[0] : source[0] + count].astype(dtype, copy=False)
            mask = _padded(np.asarray(items.mask)[source].astype(bool), sizes.assets)
            return Drawn(weights=weights, mask=mask, returns=None, shock=None)  # type: ignore[arg-type]
        assert self._work.drawing is not None
        index = np.asarray(items.index)[source].astype(np.int32)
        numbers, kernels, label, resampling = self._work.drawing
        if self._scalar is not None and resampling is not None:
            self._calls.check()
            return self._scalar.draw(resampling, index, count)
        draw = functools.partial(stages.draw_group, kernels=kernels, rows=sizes.rows, assets=sizes.assets)
        static = label, sizes.rows, sizes.assets
        stage = Stage(name="draw", function=draw, static=static, emitter=Emitter.FUSIONS)
        return self._calls.run(stage, numbers, index)

    # ---- from solutions to results ----------------------------------------------------------------------------------

    def _weigh(self, group: Group) -> None:
        """Solve the profiles that have a formula."""
        choices = self._work.config
        for place, name in enumerate(self._names):
            if PROFILES[name].formula is None:
                continue
            weigh = self._of_group(f"weigh by {name}", functools.partial(stages.weigh_group, name=name))
            config = group.config.replace(linkage=choices.linkage, distance=choices.distance, detone=choices.detone)
            solution = self._calls.run(weigh, group.estimates, config, self._steps(group.count))
            self._solutions.put(slice(group.start, group.start + self._sizes.group), place, solution)

    def _tell(self, solved: int) -> None:
        """Report progress: a universe counts as done by as much as its problems are."""
        self._solved += solved
        total = self._count * sum(PROFILES[name].solver is not None for name in self._names)
        self._report(self._count * self._solved // total)

    def _report(self, done: int) -> None:
        if done > self._told:
            self._progress(done - self._told)
            self._told = done

    def _description(self, group: Group, first: int) -> tuple[Any, ...]:
        """The program that describes up to four profiles of a group, from place ``first`` on, and its arguments."""
        names = self._names[first : first + PORTFOLIOS]
        kinds = jax.tree.map(lambda leaf: np.pad(leaf, (0, PORTFOLIOS - len(names))), kinds_of(names))
        slots = slice(group.start, group.start + self._sizes.group)
        some = self._solutions.of(slots, first // PORTFOLIOS)
        universes = group.estimates, group.clustered, group.config
        return self._of_group("describe", stages.describe_group), *universes, kinds, some, self._steps(group.count)

    def _sensing(self, group: Group, place: int) -> tuple[Any, ...]:
        """The program that measures what the portfolios of a profile hang on, and its arguments."""
        name, choices = self._names[place], self._work.config
        assert group.n_observations is not None
        few = max(1, self._sizes.few // _DIRECTIONS)  # each universe has as many directions as assets
        function = functools.partial(stages.sense_group, name=name, few=few, backend=self._backend)
        stage = Stage(name=f"sensitivity of {name}", function=function, static=(few, self._backend))
        config = group.config.replace(linkage=choices.linkage, distance=choices.distance, detone=choices.detone)
        slots = slice(group.start, group.start + self._sizes.group)
        some = self._solutions.of(slots, place // PORTFOLIOS)
        weights, altered = some.weights[:, place % PORTFOLIOS], some.altered[:, place % PORTFOLIOS]
        universes = group.estimates, group.clustered.sleeve, config, weights, altered, group.n_observations
        return stage, *universes, np.int32(-(-group.count // few))

    def _finish(self, group: Group) -> None:
        """The results of a group whose profiles are all solved."""
        self._calls.check()
        at = slice(group.start, group.start + group.count)
        if self._scalar is None:
            self._describe_in_lanes(group)
        else:
            universes = group.estimates, group.clustered, group.config
            self._scalar.describe(*universes, group.start, group.count, self._results)
        if self._sensed is not None:
            for place in range(len(self._names)):
                for into, values in zip(self._sensed, self._calls.run(*self._sensing(group, place)), strict=True):
                    into[at, place] = np.asarray(values)[: group.count, : self._work.n_assets]
        if group.left_out is not None:
            self._left_out[at] = group.left_out
        self._work.give_back(group.estimates.covariance)

    def _describe_in_lanes(self, group: Group) -> None:
        """Describe a group's portfolios by programs of up to four profiles."""
        at = slice(group.start, group.start + group.count)
        for first in range(0, len(self._names), PORTFOLIOS):
            made = self._calls.run(*self._description(group, first))
            places = slice(first, min(first + PORTFOLIOS, len(self._names)))
            for name, into in self._results.items():
                values = np.asarray(getattr(made, name))[: group.count]
                if name in BY_ASSET_FIELDS:
                    values = values[..., : self._work.n_assets]
                if name in PROFILE_FIELDS:
                    into[at, places] = values[:, : places.stop - first]
                elif name == "aggressors":  # of the profile that has a sleeve
                    into[at] |= values
                else:
                    into[at] = values

    def _room_for_results(self) -> dict[str, np.ndarray]:
        """The fields of the results, all 0."""
        dtype, kinds = self._work.dtype, {"aggressors": bool} | dict.fromkeys(_INTEGERS, np.int32)

        def room(name: str) -> np.ndarray:
            profiles = (len(self._names),) if name in PROFILE_FIELDS else ()
            assets = (self._work.n_assets,) if name in BY_ASSET_FIELDS else ()
            return np.zeros((self._capacity, *profiles, *assets), kinds.get(name, dtype))

        return {name: room(name) for name in RESULT_FIELDS}


def _padded(values: Any, *sizes: int) -> np.ndarray:
    """An array whose axes after the first are padded with 0 to these sizes, or all of them to one size."""
    values = np.asarray(values)
    axes = sizes if len(sizes) == values.ndim - 1 else sizes * (values.ndim - 1)
    if values.shape[1:] == axes:
        return values
    padded = np.zeros((len(values), *axes), values.dtype)
    padded[(slice(None), *map(slice, values.shape[1:]))] = values
    return padded
