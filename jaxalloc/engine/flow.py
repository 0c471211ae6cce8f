"""A part of a chunk on its way through the stages, on one device.

Groups of universes are drawn, observed and clustered, and their problems posed. Then the host reads how many clusters
each universe has, packs the problems of all groups into tiles by that number, by solver and by step, and hands the
solutions back to the groups, which are described.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxalloc.engine import stages
from jaxalloc.engine.programs import program
from jaxalloc.engine.sizes import CLUSTERS, LINKED, PORTFOLIOS, Sizes, canonical, lanes_of, turns_of
from jaxalloc.engine.stages import DrawNumbers, Items
from jaxalloc.kernels.clusters.components import Pieces
from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.moments.panel import SharedPanel
from jaxalloc.kernels.solvers.problem import Solution
from jaxalloc.kernels.solvers.steps import Solver, State
from jaxalloc.portfolios.describing import Kind, kinds_of
from jaxalloc.portfolios.estimates import Estimates
from jaxalloc.portfolios.posing import Clustered, Posed
from jaxalloc.portfolios.profiles import PROFILES
from jaxalloc.portfolios.result import PROFILE_FIELDS, RESULT_FIELDS, Allocation
from jaxalloc.settings.config import AllocationConfig
from jaxalloc.universes.universe import Drawn, Kernel

_LINK_TURNS = 4  # tables' tiles of a call


class Stopped(Exception):
    """The work is to stop."""


class Drawing(NamedTuple):
    """How universes are drawn from their numbers.

    Attributes:
        numbers: arrays.
        kernels: of the steps.
        label: what tells the kernels from others, in every process.
    """

    numbers: DrawNumbers
    kernels: tuple[Kernel, ...]
    label: tuple[str, ...]


class Work(NamedTuple):
    """What all parts on a device have in common.

    Attributes:
        device: a `jax.Device`.
        backend: its kind.
        dtype: float32 or float64.
        config: settings with cast numbers, of which the choices count here.
        n_rows: T.
        n_assets: N.
        sizes: canonical sizes.
        panel: on the device; None where every universe has returns of its own.
        drawing: None where universes are not drawn.
        keep_left_out: whether the rows that a universe does not hold are wanted.
    """

    device: Any
    backend: Backend
    dtype: np.dtype
    config: AllocationConfig
    n_rows: int
    n_assets: int
    sizes: Sizes
    panel: SharedPanel | None
    drawing: Drawing | None
    keep_left_out: bool


class Group(NamedTuple):
    """Universes that have been posed.

    Attributes:
        start: the first one's slot in the part.
        count: how many there are; the rest of the group is padding.
        config: settings, leading axis of the group.
        estimates: likewise.
        clustered: likewise.
        over_assets: problems over the assets; None where no profile has one.
        left_out: (group, T) bool, the rows that a universe does not hold; None where they are not wanted.
    """

    start: int
    count: int
    config: AllocationConfig
    estimates: Estimates
    clustered: Clustered
    over_assets: Posed | None
    left_out: Any


class Wanted(NamedTuple):
    """Problems of one solver and one canonical size, in the order in which they are solved.

    Attributes:
        over_assets: whether they are over the assets.
        profile: (M,) place of each one's profile.
        slot: (M,) its universe's slot in the part.
        rows: (M,) its clusters or assets.
    """

    over_assets: bool
    profile: np.ndarray
    slot: np.ndarray
    rows: np.ndarray


class Solutions:
    """The solutions of a part's universes, on the host: arrays (capacity, P, ...)."""

    def __init__(self, capacity: int, n_profiles: int, assets: int, dtype: Any) -> None:
        """Make room."""
        shape = capacity, n_profiles
        self.arrays = Solution(
            weights=np.zeros((*shape, assets), dtype),  # type: ignore[arg-type]
            gap=np.zeros(shape, dtype),  # type: ignore[arg-type]
            iterations=np.zeros(shape, np.int32),  # type: ignore[arg-type]
            altered=np.zeros(shape, bool),  # type: ignore[arg-type]
            converged=np.ones(shape, bool),  # type: ignore[arg-type]
        )

    def put(self, slot: Any, profile: Any, solution: Solution) -> None:
        """Keep solutions (M, ...) of so many universes' profiles; weights may be narrower than the assets."""
        width = solution.weights.shape[-1]
        into: Any = self.arrays
        into.weights[slot, profile, : min(width, into.weights.shape[-1])] = np.asarray(solution.weights)[
            ..., : into.weights.shape[-1]
        ]
        for name in ("gap", "iterations", "altered", "converged"):
            getattr(into, name)[slot, profile] = np.asarray(getattr(solution, name))


class PartRun:
    """One device's part of a chunk."""

    def __init__(
        self,
        work: Work,
        items: Items,
        part: slice,
        settings: dict[str, np.ndarray],
        stop: threading.Event,
        progress: Callable[[int], None],
    ) -> None:
        """Take the universes ``part`` of the ``items`` of a chunk, which have ``settings``."""
        self.work, self.sizes, self.backend = work, work.sizes, work.backend
        self.items, self.settings, self.part = items, settings, part
        self.count = part.stop - part.start
        self.names = work.config.profiles
        self.profiles = [PROFILES[name] for name in self.names]
        self._stop, self._progress = stop, progress
        self._done, self._told = 0.0, 0

    def compute(self) -> tuple[Allocation, np.ndarray]:
        """Return the results, and the rows left out.

        Raises:
            Stopped: the event was set.
        """
        sizes = self.sizes
        groups = [self._prepare(start) for start in range(0, self.count, sizes.group)]
        room = sizes.group * len(groups)
        self.solutions = Solutions(room, len(self.names), sizes.assets, self.work.dtype)
        for place, profile in enumerate(self.profiles):
            if profile.formula is not None:
                for group in groups:
                    self._weigh(group, place)
        for solver, size, wanted in self._problems(groups):
            self._solve(groups, solver, size, wanted)
        return self._describe(groups)

    # ---- from items to problems -------------------------------------------------------------------------------------

    def _call(self, name: str, function: Callable[..., Any], static: Any, *arguments: Any) -> Any:
        """Run a stage's program on the device."""
        if self._stop.is_set():
            raise Stopped
        call = program(name, function, arguments=arguments, device=self.work.device, static=static)
        return call(*arguments)

    def _prepare(self, start: int) -> Group:
        """Take the group of universes that begins at slot ``start`` through the stages up to their problems."""
        sizes, few, backend = self.sizes, self.sizes.few, self.backend
        count = min(sizes.group, self.count - start)
        # the padding repeats a universe, so that it computes what is harmless
        source = self.part.start + start + np.minimum(np.arange(sizes.group), count - 1)
        steps = np.int32(-(-count // few))
        config = self._config(source)
        drawn = self._draw(source)
        given = jax.tree.map(lambda leaf: _padded(leaf[source], 0, sizes.assets), self.items.given)
        observing = config.replace(covariance=self.work.config.covariance)
        if drawn.returns is not None:
            observed = self._observe_own(drawn, observing, count, given.covariance is not None)
        else:
            observe = functools.partial(stages.observe_group, few=few)
            panel = self.work.panel
            observed = self._call("observe", observe, few, panel, drawn.weights, drawn.mask, observing, steps)
        chosen = self.work.config
        clustering = config.replace(linkage=chosen.linkage, criterion=chosen.criterion, distance=chosen.distance)
        static = few, backend
        cluster = functools.partial(stages.cluster_group, few=few, backend=backend)
        estimates, pieces = self._call("cluster", cluster, static, observed, clustering, given, drawn.shock, steps)
        estimates = self._link(estimates, pieces, np.asarray(config.distance_threshold), count)
        pose = functools.partial(stages.pose_group, few=few, backend=backend)
        clustered = self._call("pose", pose, static, estimates, config, steps)
        over_assets = None
        if any(profile.over_assets for profile in self.profiles):
            see = functools.partial(stages.see_group, few=few, backend=backend)
            over_assets = self._call("see", see, static, estimates, config, steps)
        left_out = None
        if self.work.keep_left_out:
            left_out = np.asarray(drawn.weights)[:, : self.work.n_rows] == 0
        return Group(
            start=start,
            count=count,
            config=config,
            estimates=estimates,
            clustered=clustered,
            over_assets=over_assets,
            left_out=left_out,
        )

    def _config(self, source: np.ndarray) -> AllocationConfig:
        """Numbers of the universes, and none of the choices."""
        return AllocationConfig(profiles=()).replace(**{name: each[source] for name, each in self.settings.items()})

    def _draw(self, source: np.ndarray) -> Drawn:
        items, sizes = self.items, self.sizes
        if items.index is not None:
            assert self.work.drawing is not None
            numbers, kernels, label = self.work.drawing
            index = np.asarray(items.index)[source].astype(np.int32)
            draw = functools.partial(stages.draw_group, kernels=kernels, rows=sizes.rows, assets=sizes.assets)
            return self._call("draw", draw, (label, sizes.rows, sizes.assets), numbers, index)
        dtype = self.work.dtype
        returns = None if items.returns is None else np.asarray(items.returns)
        return Drawn(
            weights=_padded(np.asarray(items.weights)[source].astype(dtype), 0, sizes.rows),  # type: ignore[arg-type]
            mask=_padded(np.asarray(items.mask)[source].astype(bool), False, sizes.assets),  # type: ignore[arg-type]
            returns=None if returns is None else _padded(returns[source].astype(dtype), 0, sizes.rows, sizes.assets),  # type: ignore[arg-type]
            shock=None,
        )

    def _observe_own(self, drawn: Drawn, config: AllocationConfig, count: int, given_covariance: bool) -> Any:
        """Observe universes with returns of their own, as many at once as fit the cache."""
        own, group = self.sizes.own, self.sizes.group
        observe = functools.partial(stages.observe_own, given_covariance=given_covariance)
        parts, everything = [], (drawn.returns, drawn.weights, drawn.mask, config)
        if own < group:
            everything = jax.tree.map(np.asarray, everything)
        for first in range(0, count, own):
            some = everything
            if own < group:
                some = jax.tree.map(lambda leaf, first=first: leaf[first : first + own], everything)
            parts.append(self._call("observe_own", observe, given_covariance, *some, np.int32(self.work.n_rows)))

        if own == group:
            return parts[0]

        def whole(*leaves: Any) -> np.ndarray:
            joined = np.empty((group, *leaves[0].shape[1:]), leaves[0].dtype)
            for number, leaf in enumerate(leaves):
                joined[number * own : (number + 1) * own] = leaf
            joined[len(leaves) * own :] = joined[0]
            return joined

        return jax.tree.map(whole, *parts)

    def _link(self, estimates: Estimates, pieces: Pieces, stop: np.ndarray, count: int) -> Estimates:
        """Merge inside the large components of those universes that have any, in tables of their assets."""
        large = np.asarray(pieces.large)
        assets = np.sum(large, axis=1)
        assets[count:] = 0
        if not assets.any():
            return estimates
        root = np.array(pieces.root)
        covariance, choices = np.asarray(estimates.covariance), self.work.config
        for rows in sorted({canonical(int(n), LINKED) for n in assets if n}):
            fits = np.flatnonzero((assets > 0) & (assets <= rows) & (2 * assets > (rows if rows > LINKED[0] else 0)))
            few = max(8, 1024 // rows)
            static = few, choices.linkage, choices.distance
            merge = functools.partial(stages.link_tables, linkage=choices.linkage, distance=choices.distance, few=few)
            each = few * _LINK_TURNS
            for first in range(0, len(fits), each):
                chosen = fits[first : first + each]
                # the numbers of the large assets, in order, then others
                order = np.argsort(~large[chosen], axis=1, kind="stable")[:, :rows]
                width = order.shape[1]
                table, there = np.zeros((each, rows, rows), covariance.dtype), np.zeros((each, rows), bool)
                table[: len(chosen), :width, :width] = covariance[
                    chosen[:, None, None], order[:, :, None], order[:, None, :]
                ]
                there[: len(chosen)] = np.arange(rows) < assets[chosen, None]
                heights = _lengthened(stop[chosen], each)
                tiles = np.int32(-(-len(chosen) // few))
                linked = np.asarray(self._call("link", merge, static, table, there, heights, tiles))[: len(chosen)]
                row, place = np.nonzero(there[: len(chosen)])
                root[chosen[row], order[row, place]] = order[row, linked[row, place]]
        labels, counts = _labels(root, np.asarray(estimates.active))
        valid = np.asarray(estimates.valid)
        labels, counts = np.where(valid[:, None], labels, 0), np.where(valid, counts, 1)
        return estimates._replace(labels=labels, n_clusters=counts)  # type: ignore[arg-type]

    # ---- from problems to solutions ---------------------------------------------------------------------------------

    def _weigh(self, group: Group, place: int) -> None:
        few, name = self.sizes.few, self.names[place]
        weigh = functools.partial(stages.weigh_group, name=name, few=few, backend=self.backend)
        steps = np.int32(-(-group.count // few))
        choices = self.work.config
        config = group.config.replace(linkage=choices.linkage, distance=choices.distance)
        solution = self._call(f"weigh {name}", weigh, (few, self.backend), group.estimates, config, steps)
        slots = slice(group.start, group.start + self.sizes.group)
        self.solutions.put(slots, place, solution)

    def _problems(self, groups: Sequence[Group]) -> Iterator[tuple[Solver, int, Wanted]]:
        """The problems of all groups, by solver and canonical size, the smaller ones first."""
        counts = np.concatenate([np.asarray(group.estimates.n_clusters)[: group.count] for group in groups])
        sizes = np.array([canonical(int(k), CLUSTERS) for k in range(counts.max(initial=1) + 1)])[counts]
        n_assets, slots = self.work.n_assets, np.arange(self.count)
        kinds = {(profile.solver, profile.over_assets): [] for profile in self.profiles if profile.solver is not None}
        for place, profile in enumerate(self.profiles):
            if profile.solver is not None:
                kinds[profile.solver, profile.over_assets].append(place)
        self._total = sum(map(len, kinds.values())) * self.count
        for (solver, over_assets), places in kinds.items():
            assert solver is not None
            all_sizes = np.full(self.count, canonical(self.sizes.assets, CLUSTERS)) if over_assets else sizes
            rows = np.full(self.count, n_assets) if over_assets else counts
            for size in np.unique(all_sizes):
                members = slots[all_sizes == size]
                yield (
                    solver,
                    int(size),
                    Wanted(
                        over_assets=over_assets,
                        profile=np.repeat(places, len(members)),
                        slot=np.tile(members, len(places)),
                        rows=np.tile(rows[members], len(places)),
                    ),
                )

    def _solve(self, groups: Sequence[Group], solver: Solver, size: int, wanted: Wanted) -> None:
        """Take problems through a solver's steps, each step's in dense tiles, until none wants another."""
        steps = solver.steps(size)
        left, memory = np.arange(len(wanted.slot)), None
        wants = np.zeros(len(left), np.int32)
        while len(left):
            still, states = [], []
            for number in np.unique(wants):
                chosen = np.flatnonzero(wants == number)
                step = steps[number]
                lanes = lanes_of(step.width, self.backend, self.sizes)
                each = lanes * turns_of(size, self.backend)
                for first in range(0, len(chosen), each):
                    at = chosen[first : first + each]
                    problems = left[at]
                    given = None if memory is None else jax.tree.map(lambda leaf, at=at: leaf[at], memory)
                    state = self._step(groups, solver, int(number), size, wanted, problems, given, lanes, each)
                    asked = np.asarray(state.wants)[: len(at)]
                    done = asked == 0
                    solution = jax.tree.map(
                        lambda leaf, n=len(at), done=done: np.asarray(leaf)[:n][done], state.solution
                    )
                    solved = problems[done]
                    self.solutions.put(wanted.slot[solved], wanted.profile[solved], solution)
                    self._tell(len(solved))
                    if not done.all():
                        still.append((problems[~done], asked[~done]))
                        states.append(
                            jax.tree.map(lambda leaf, n=len(at), done=done: np.asarray(leaf)[:n][~done], state)
                        )
            if not still:
                return
            left, wants = (np.concatenate(each) for each in zip(*still, strict=True))
            memory = jax.tree.map(lambda *leaves: np.concatenate(leaves), *states)

    def _step(
        self,
        groups: Sequence[Group],
        solver: Solver,
        number: int,
        size: int,
        wanted: Wanted,
        problems: np.ndarray,
        state: State | None,
        lanes: int,
        each: int,
    ) -> State:
        step, n = solver.steps(size)[number], len(problems)
        tiles = -(-n // lanes)
        posed = self._gather(groups, size, wanted, problems, tiles * lanes, each)
        if state is not None:
            state = jax.tree.map(lambda leaf: _lengthened(leaf, each), state)
        solve = functools.partial(stages.solve_tiles, step=step, lanes=lanes, backend=self.backend)
        rows = np.int32(wanted.rows[problems].max())
        static = size, lanes, self.backend
        return self._call(f"{solver.name} {step.name}", solve, static, posed, state, rows, np.int32(tiles))

    def _gather(
        self, groups: Sequence[Group], size: int, wanted: Wanted, problems: np.ndarray, used: int, each: int
    ) -> tuple[Any, Any, Any]:
        """Covariances, rewards and bounds of problems, with room for so many ``each``, of which some are ``used``."""
        dtype, width = self.work.dtype, self.sizes.group
        covariance = np.empty((each, size, size), dtype)
        reward, upper = np.zeros((each, size), dtype), np.zeros((each, size), dtype)
        slot, profile = wanted.slot[problems], wanted.profile[problems]
        of_reward = np.array([-1 if p.reward is None else p.reward for p in self.profiles])[profile]
        of_upper = np.array([p.upper for p in self.profiles])[profile]
        owner = slot // width
        cuts = np.flatnonzero(np.diff(owner)) + 1
        for run in np.split(np.arange(len(problems)), cuts):
            group = groups[owner[run[0]]]
            posed = group.over_assets if wanted.over_assets else group.clustered.posed
            assert posed is not None
            there = slot[run] - group.start
            n = min(size, posed.covariance.shape[-1])
            to = slice(run[0], run[-1] + 1)
            covariance[to, :n, :n] = np.asarray(posed.covariance)[there, :n, :n]
            upper[to, :n] = np.asarray(posed.uppers)[there, of_upper[run], :n]
            some = of_reward[run] >= 0
            if some.any():
                picked = np.asarray(posed.rewards)[there, np.maximum(of_reward[run], 0), :n]
                reward[to, :n] = np.where(some[:, None], picked, 0)
            if n < size:
                covariance[to, n:, :] = covariance[to, :, n:] = 0
                covariance[to, np.arange(n, size), np.arange(n, size)] = 1
        # idle lanes have a problem that is solved at once
        covariance[len(problems) : used] = np.eye(size)
        upper[len(problems) : used, 0] = 1
        return covariance, reward, upper

    def _tell(self, solved: int) -> None:
        """Report progress: a universe counts as done by as much as its problems are."""
        self._done += solved * self.count / max(self._total, 1)
        self._report(int(self._done))

    def _report(self, done: int) -> None:
        done = min(done, self.count)
        if done > self._told:
            self._progress(done - self._told)
            self._told = done

    # ---- from solutions to results ----------------------------------------------------------------------------------

    def _describe(self, groups: Sequence[Group]) -> tuple[Allocation, np.ndarray]:
        work, few = self.work, self.sizes.few
        capacity, n_profiles, n_assets = self.sizes.capacity, len(self.names), work.n_assets
        results: dict[str, np.ndarray] = {}
        describe = functools.partial(stages.describe_group, few=few, backend=self.backend)
        for group in groups:
            steps = np.int32(-(-group.count // few))
            for first in range(0, n_profiles, PORTFOLIOS):
                names = self.names[first : first + PORTFOLIOS]
                kinds, solutions = self._some(group, names, first)
                made = self._call(
                    "describe",
                    describe,
                    (few, self.backend),
                    group.estimates,
                    group.clustered,
                    group.config,
                    kinds,
                    solutions,
                    steps,
                )
                at = slice(group.start, group.start + group.count)
                for name in RESULT_FIELDS:
                    values = np.asarray(getattr(made, name))[: group.count]
                    if values.ndim > 1 and values.shape[-1] == self.sizes.assets:
                        values = values[..., :n_assets]
                    if name in PROFILE_FIELDS:
                        values = values[:, : len(names)]
                        shape = capacity, n_profiles, *values.shape[2:]
                        into = results.setdefault(name, np.zeros(shape, values.dtype))
                        into[at, first : first + len(names)] = values
                    else:
                        into = results.setdefault(name, np.zeros((capacity, *values.shape[1:]), values.dtype))
                        into[at] = into[at] | values if name == "aggressors" else values
        left_out = np.zeros((capacity, work.n_rows if work.keep_left_out else 0), bool)
        if work.keep_left_out:
            for group in groups:
                left_out[group.start : group.start + group.count] = group.left_out[: group.count]
        self._report(self.count)
        return Allocation(**results), left_out

    def _some(self, group: Group, names: Sequence[str], first: int) -> tuple[Kind, Solution]:
        """Kinds and solutions of at most four profiles, padded to four."""
        pad = PORTFOLIOS - len(names)
        kinds = jax.tree.map(lambda leaf: np.pad(leaf, (0, pad)), kinds_of(names))
        at = slice(group.start, group.start + self.sizes.group)

        def part(leaf: np.ndarray) -> np.ndarray:
            some = leaf[at, first : first + len(names)]
            return np.pad(some, ((0, 0), (0, pad), *[(0, 0)] * (some.ndim - 2))) if pad else some

        return kinds, jax.tree.map(part, self.solutions.arrays)


def _labels(root: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels (U, N) int32 and numbers of clusters (U,), as `label_by_first` numbers them."""
    first = active & (root == np.arange(root.shape[1]))
    number = np.cumsum(first, axis=1, dtype=np.int32) - 1
    labels = np.where(active, np.take_along_axis(number, root, axis=1), np.int32(-1))
    return labels, np.sum(first, axis=1, dtype=np.int32)


def _padded(values: Any, fill: Any, *sizes: int) -> np.ndarray:
    """An array whose axes after the first are padded to these sizes, or all of them to one size."""
    values = np.asarray(values)
    axes = sizes if len(sizes) == values.ndim - 1 else sizes * (values.ndim - 1)
    widths = [(0, 0), *((0, size - n) for n, size in zip(values.shape[1:], axes, strict=True))]
    return np.pad(values, widths, constant_values=fill) if any(after for _, after in widths) else values


def _lengthened(values: np.ndarray, length: int) -> np.ndarray:
    """An array of so many rows, the last one repeated."""
    return values[np.minimum(np.arange(length), len(values) - 1)]
