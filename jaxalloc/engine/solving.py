"""The problems of a part's universes, sorted: by solver, by canonical size, and by the step that each wants next."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxalloc.engine import stages
from jaxalloc.engine.calls import Calls, Work
from jaxalloc.engine.shapes import CLUSTERS, canonical_each, lanes_of, lengthened, turns_of
from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.solvers.problem import Solution
from jaxalloc.kernels.solvers.steps import Solver, State, blank
from jaxalloc.portfolios.posing import Posed
from jaxalloc.portfolios.profiles import PROFILES

FIRST = 1  # number of a solver's first step
_LARGE = 32  # clusters from which a covariance is copied by itself


class Batch(NamedTuple):
    """Problems of one solver, one canonical size and one origin.

    Attributes:
        solver: what solves them.
        size: canonical number of clusters.
        over_assets: whether they are over the assets.
        slot: (M,) each one's universe.
        profile: (M,) the place of its profile.
        rows: (M,) its clusters or assets.
    """

    solver: Solver
    size: int
    over_assets: bool
    slot: np.ndarray
    profile: np.ndarray
    rows: np.ndarray


class Solutions:
    """The solutions of a part's universes, on the host: arrays (capacity, P, ...)."""

    def __init__(self, capacity: int, n_profiles: int, assets: int, dtype: Any) -> None:
        """Make room."""
        shape = capacity, n_profiles
        self.weights, self.gap = np.zeros((*shape, assets), dtype), np.zeros(shape, dtype)
        self.iterations = np.zeros(shape, np.int32)
        self.altered, self.converged = np.zeros(shape, bool), np.ones(shape, bool)

    def put(self, slot: Any, profile: Any, solution: Solution) -> None:
        """Keep solutions (M, ...) of so many universes' profiles; what their weights have past the assets is 0."""
        width = min(solution.weights.shape[-1], self.weights.shape[-1])
        self.weights[slot, profile, :width] = np.asarray(solution.weights)[..., :width]
        for name in ("gap", "iterations", "altered", "converged"):
            getattr(self, name)[slot, profile] = np.asarray(getattr(solution, name))

    def of(self, slots: slice, profiles: slice, room: int) -> Solution:
        """The solutions of some universes' profiles, which are padded to so many."""

        def part(values: np.ndarray) -> Any:
            some = values[slots, profiles]
            return np.pad(some, ((0, 0), (0, room - some.shape[1]), *[(0, 0)] * (some.ndim - 2)))

        return Solution(
            weights=part(self.weights),
            gap=part(self.gap),
            iterations=part(self.iterations),
            altered=part(self.altered),
            converged=part(self.converged),
        )


def batches(profiles: Sequence[str], n_clusters: np.ndarray, n_assets: int) -> list[Batch]:
    """All problems of universes that have so many clusters (C,): by solver, then by size, the small ones first."""
    kinds: dict[tuple[Solver, bool], list[int]] = {}
    for place, name in enumerate(profiles):
        profile = PROFILES[name]
        if profile.solver is not None:
            kinds.setdefault((profile.solver, profile.over_assets), []).append(place)
    slots = np.arange(len(n_clusters))
    made = []
    for (solver, over_assets), places in kinds.items():
        rows = np.full(len(slots), n_assets) if over_assets else n_clusters
        sizes = canonical_each(rows, CLUSTERS)
        for size in np.unique(sizes).tolist():
            members = slots[sizes == size]
            made.append(
                Batch(
                    solver=solver,
                    size=size,
                    over_assets=over_assets,
                    slot=np.tile(members, len(places)),
                    profile=np.repeat(places, len(members)),
                    rows=np.tile(rows[members], len(places)),
                )
            )
    return made


class Solving:
    """Solves the problems of a part on one device."""

    def __init__(
        self,
        calls: Calls,
        work: Work,
        over_clusters: Sequence[Posed],
        over_assets: Sequence[Posed | None],
        solutions: Solutions,
        tell: Callable[[int], None],
    ) -> None:
        """Take each group's problems, where to put the solutions, and what to tell how many have been solved."""
        self._calls, self._work, self._solutions, self._tell = calls, work, solutions, tell
        self._posed = over_clusters, over_assets
        profiles = [PROFILES[name] for name in work.config.profiles]
        self._reward = np.array([-1 if profile.reward is None else profile.reward for profile in profiles], np.int32)
        self._upper = np.array([profile.upper for profile in profiles], np.int32)
        self._room: dict[tuple[int, int, int], tuple[np.ndarray, ...]] = {}

    def prefetch(self, batch: Batch) -> None:
        """Have the program of the first step made."""
        each, lanes = self._tile(batch, FIRST)
        dtype, size = self._work.dtype, batch.size
        shapes = (each, size, size), (each, size), (each, size)
        problems = tuple(jax.ShapeDtypeStruct(shape, dtype) for shape in shapes)
        number = jax.ShapeDtypeStruct((), np.int32)
        self._calls.prefetch(
            *self._program(batch, FIRST, lanes),
            problems,
            _blank(batch.solver, batch.size, each, self._work.dtype),
            number,
            number,
        )

    def solve(self, batch: Batch) -> None:
        """Take problems through their solver's steps, each step's in dense tiles, until none wants another."""
        left, wants, states = np.arange(len(batch.slot)), np.full(len(batch.slot), FIRST), None
        while len(left):
            unsolved: list[tuple[np.ndarray, State]] = []
            for step in np.unique(wants).tolist():
                for chosen in self._tiles(batch, step, left, np.flatnonzero(wants == step)):
                    each, _ = self._tile(batch, step)
                    state = _blank(batch.solver, batch.size, each, self._work.dtype)
                    if states is not None:  # what is padded has no problem, whatever its state
                        at = lengthened(chosen, each)
                        state = jax.tree.map(lambda leaf, at=at: leaf[at], states)
                    unsolved.append(self._step(batch, step, left[chosen], state))
            left = np.concatenate([problems for problems, _ in unsolved])
            states = jax.tree.map(lambda *leaves: np.concatenate(leaves), *(state for _, state in unsolved))
            wants = states.wants

    def _tile(self, batch: Batch, step: int) -> tuple[int, int]:
        """How many problems a call of a step takes, and how many of them at once."""
        width = batch.solver.steps(batch.size)[step - 1].width
        lanes = lanes_of(width, self._work.backend, self._work.sizes)
        return lanes * turns_of(batch.size, self._work.backend), lanes

    def _program(self, batch: Batch, number: int, lanes: int) -> tuple[str, Callable[..., Any], Any]:
        """Name, function and choices of a step."""
        step, backend = batch.solver.steps(batch.size)[number - 1], self._work.backend
        run = functools.partial(stages.solve_tiles, step=step, lanes=lanes, backend=backend)
        return step.name, run, (batch.size, lanes, backend)

    def _tiles(self, batch: Batch, step: int, left: np.ndarray, chosen: np.ndarray) -> list[np.ndarray]:
        """Share problems out over calls of a step."""
        each, _ = self._tile(batch, step)
        runs = [chosen]
        if self._work.backend is Backend.ACCELERATOR:  # which reads from one group at a time
            owner = batch.slot[left[chosen]] // self._work.sizes.group
            runs = [chosen[owner == group] for group in np.unique(owner)]
        return [run[first : first + each] for run in runs for first in range(0, len(run), each)]

    def _step(self, batch: Batch, number: int, problems: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """Take a step, keep the solutions that it finds, and return what is not solved."""
        each, lanes = self._tile(batch, number)
        count = len(problems)
        tiles = -(-count // lanes)
        gathered = self._gather(batch, problems, tiles * lanes, each)
        rows = np.int32(batch.rows[problems].max())
        made = self._calls.run(*self._program(batch, number, lanes), gathered, state, rows, np.int32(tiles))
        done = np.asarray(made.wants)[:count] == 0

        def of(leaves: Any, which: np.ndarray) -> Any:
            return jax.tree.map(lambda leaf: np.asarray(leaf)[:count][which], leaves)

        solved = problems[done]
        self._solutions.put(batch.slot[solved], batch.profile[solved], of(made.solution, done))
        self._tell(len(solved))
        return problems[~done], of(made, ~done)

    def _gather(self, batch: Batch, problems: np.ndarray, used: int, each: int) -> tuple[Any, Any, Any]:
        """Covariances, rewards and bounds of problems: room for so many ``each``, of which some are ``used``."""
        groups, size = self._posed[batch.over_assets], batch.size
        slot, profile = batch.slot[problems], batch.profile[problems]
        owner, there = np.divmod(slot, self._work.sizes.group)
        reward, upper = self._reward[profile], self._upper[profile]
        if self._work.backend is Backend.ACCELERATOR:
            upper = np.pad(upper, (0, each - len(upper)), constant_values=-1)  # a lane without bounds has no problem
            at = lengthened(there.astype(np.int32), each), lengthened(reward, each), upper
            gather = functools.partial(stages.gather_problems, clusters=size)
            return self._calls.run("gather problems", gather, size, groups[int(owner[0])], *at)
        width = 0 if groups[0] is None else groups[0].rewards.shape[-1]
        covariance, rewards, uppers = self._buffers(each, size, min(size, width))
        for run in np.split(np.arange(len(problems)), np.flatnonzero(np.diff(owner)) + 1):
            posed = groups[int(owner[run[0]])]
            assert posed is not None
            place, to = there[run], slice(run[0], run[-1] + 1)
            table = np.asarray(posed.covariance)
            n = min(size, table.shape[-1])
            if n == size == table.shape[-1]:
                np.take(table, place, axis=0, out=covariance[to], mode="clip")  # the mode spares a copy
            elif n < _LARGE:
                covariance[to, :n, :n] = table[place, :n, :n]
            else:  # without a copy of its own first
                for into, one in zip(covariance[to], place.tolist(), strict=True):
                    into[:n, :n] = table[one, :n, :n]
            uppers[to, :n] = np.asarray(posed.uppers)[place, upper[run], :n]
            some: Any = np.asarray(posed.rewards)[place, np.maximum(reward[run], 0), :n]
            rewards[to, :n] = some * (reward[run] >= 0)[:, None]
        # a lane without bounds has no problem, and costs nothing
        uppers[len(problems) : used] = 0
        return covariance, rewards, uppers

    def _buffers(self, each: int, size: int, width: int) -> tuple[np.ndarray, ...]:
        """Room for problems of at most ``width`` clusters, used call after call: new pages would have to be zeroed."""
        key = each, size, width
        if key not in self._room:
            dtype = self._work.dtype
            shapes = (each, size, size), (each, size), (each, size)
            self._room[key] = tuple(np.zeros(shape, dtype) for shape in shapes)
            self._room[key][0][:] = np.eye(size)
        return self._room[key]


@functools.lru_cache(maxsize=64)
def _blank(solver: Solver, size: int, each: int, dtype: np.dtype) -> State:
    """The state of so many problems that have not begun, on the host; made once, since shapes are slow to ask for."""
    shapes = jax.eval_shape(lambda: blank(solver, size, each, dtype))
    zeros = jax.tree.map(lambda leaf: np.zeros((each, *leaf.shape[:-1]), leaf.dtype), shapes)
    return zeros._replace(wants=np.full(each, FIRST, np.int32))
