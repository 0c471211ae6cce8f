"""The problems of a part's universes, sorted: by solver, by canonical size, and by the step that each wants next."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxalloc.engine import stages
from jaxalloc.engine.calls import Calls, Work
from jaxalloc.engine.making import Stage
from jaxalloc.engine.problems import Operands, Problems
from jaxalloc.engine.shapes import CLUSTERS, PORTFOLIOS, canonical_each, lanes_of, lengthened, turns_of
from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.lanes.compiling import Emitter
from jaxalloc.kernels.solvers.problem import Solution
from jaxalloc.kernels.solvers.steps import Solver, State, blank
from jaxalloc.portfolios.profiles import PROFILES

FIRST, SECOND = 1, 2  # numbers of a solver's steps


class Batch(NamedTuple):
    """Problems of one solver, one canonical size and one origin.

    Attributes:
        solver: what solves them.
        size: canonical number of clusters.
        over_assets: whether they are over the assets.
        places: the places of the profiles; each has all the universes, one profile's after the other's.
        slot: (M,) each one's universe.
        profile: (M,) the place of its profile.
        rows: (M,) its clusters or assets.
    """

    solver: Solver
    size: int
    over_assets: bool
    places: tuple[int, ...]
    slot: np.ndarray
    profile: np.ndarray
    rows: np.ndarray


class Solutions:
    """The solutions of a part's universes, on the host: those of up to four profiles side by side."""

    def __init__(self, work: Work, capacity: int) -> None:
        """Make room for so many universes."""
        self._work = work
        shape = -(-len(work.config.profiles) // PORTFOLIOS), capacity, PORTFOLIOS
        room = work.room.on_host
        fields: Any = {
            "weights": room((*shape, work.sizes.assets), work.dtype),
            "gap": room(shape, work.dtype),
            "iterations": room(shape, np.int32),
            "altered": room(shape, bool),
            "converged": room(shape, bool),
        }
        self._fields = Solution(**fields)
        for values in self._fields:
            values[:] = 0

    def put(self, slot: Any, profile: Any, solution: Solution) -> None:
        """Keep solutions (M, ...) of so many universes' profiles; what their weights have past the assets is 0."""
        at = profile // PORTFOLIOS, slot, profile % PORTFOLIOS
        width = min(solution.weights.shape[-1], self._work.sizes.assets)
        self._fields.weights[(*at, slice(width))] = np.asarray(solution.weights)[..., :width]
        for into, values in zip(self._fields[1:], solution[1:], strict=True):
            into[at] = np.asarray(values)

    def of(self, slots: slice, number: int) -> Solution:
        """The solutions of some universes (U, 4, ...) for the profiles of a number of four, where they are."""
        return Solution(*(values[number, slots] for values in self._fields))

    def fields(self) -> Solution:
        """All solutions (G, C, 4, ...), those of G times four profiles; whoever writes to them keeps solutions."""
        return self._fields

    def release(self) -> None:
        """Give back the memory; no solution can be read any more."""
        for values in self._fields:
            self._work.room.give_back(values)


def batches(
    profiles: Sequence[str], n_clusters: np.ndarray, n_assets: int, wanted: np.ndarray | None = None
) -> list[Batch]:
    """The problems of universes that have so many clusters (C,): by solver, then by size, the small ones first.

    Args:
        profiles: P names.
        n_clusters: (C,).
        n_assets: N.
        wanted: (P, C) bool, which problems; by default all.
    """
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
            chosen = np.tile(sizes == size, (len(places), 1))
            if wanted is not None:
                chosen &= wanted[places]
            which, members = np.nonzero(chosen)
            if len(members):
                made.append(
                    Batch(
                        solver=solver,
                        size=size,
                        over_assets=over_assets,
                        places=tuple(places),
                        slot=slots[members],
                        profile=np.array(places)[which],
                        rows=rows[members],
                    )
                )
    return made


class Solving:
    """Solves the problems of a part on one device."""

    def __init__(
        self,
        calls: Calls,
        work: Work,
        over_clusters: Problems,
        over_assets: Problems,
        solutions: Solutions,
        tell: Callable[[int], None],
    ) -> None:
        """Take the problems, where to put the solutions, and what to tell how many have been solved."""
        self._calls, self._work, self._solutions, self._tell = calls, work, solutions, tell
        self._problems = over_clusters, over_assets
        profiles = [PROFILES[name] for name in work.config.profiles]
        self._reward = np.array([-1 if profile.reward is None else profile.reward for profile in profiles], np.int32)
        self._upper = np.array([profile.upper for profile in profiles], np.int32)

    def prefetch(self, batch: Batch, step: int = FIRST) -> None:
        """Have the program of a step made, by default the first one's."""
        each, lanes = self._tile(batch, step, begun=step != FIRST)
        dtype, size = self._work.dtype, batch.size
        shapes = (each, size, size), (each, size), (each, size)
        problems = tuple(jax.ShapeDtypeStruct(shape, dtype) for shape in shapes)
        number = jax.ShapeDtypeStruct((), np.int32)
        state = _blank(batch.solver, batch.size, each, dtype)
        self._calls.prefetch(self._stage(batch, step, lanes), problems, state, number, number)

    def solve(self, batch: Batch) -> None:
        """Take problems through their solver's steps, each step's in dense tiles, until none wants another."""
        unsolved, begun = self._whole_blocks(batch)
        left, states = np.flatnonzero(~begun), None
        wants = np.full(len(left), FIRST)
        while True:
            for step in np.unique(wants).tolist():
                each, _ = self._tile(batch, step, begun=states is not None)
                for chosen in self._tiles(batch, each, left, np.flatnonzero(wants == step)):
                    state = _blank(batch.solver, batch.size, each, self._work.dtype)
                    if states is not None:  # what is padded has no problem, whatever its state
                        at = lengthened(chosen, each)
                        state = jax.tree.map(lambda leaf, at=at: leaf[at], states)
                    unsolved.append(self._gathered(batch, step, left[chosen], state))
            left = np.concatenate([problems for problems, _ in unsolved])
            if not len(left):
                return
            states = jax.tree.map(lambda *leaves: np.concatenate(leaves), *(state for _, state in unsolved))
            wants, unsolved = states.wants, []

    def _whole_blocks(self, batch: Batch) -> tuple[list[tuple[np.ndarray, State]], np.ndarray]:
        """Begin the problems that fill whole tiles where they are; return what is not solved, and which they were."""
        unsolved, begun = [], np.zeros(len(batch.slot), bool)
        if self._work.scalar:  # few problems are left, and not the same of each profile
            return unsolved, begun
        members = len(batch.slot) // len(batch.places)
        each, _ = self._tile(batch, FIRST)
        state = _blank(batch.solver, batch.size, each, self._work.dtype)
        for number, place in enumerate(batch.places):
            reward, upper = int(self._reward[place]), int(self._upper[place])
            for block, operands in self._problems[batch.over_assets].whole_blocks(batch.size, reward, upper):
                problems = number * members + np.arange(block.start, block.stop)
                begun[problems] = True
                unsolved.append(self._step(batch, FIRST, problems, state, operands))
        return unsolved, begun

    def _tile(self, batch: Batch, step: int, begun: bool = False) -> tuple[int, int]:
        """How many problems, which have ``begun`` or not, a call of a step takes, and how many of them at once."""
        of = batch.solver.steps(batch.size)[step - 1]
        lanes = lanes_of(of.width, self._work.backend, self._work.sizes, of.fewer if begun else 1)
        return lanes * turns_of(batch.size, self._work.backend), lanes

    def _size(self, batch: Batch, state: State) -> tuple[int, int]:
        """`_tile`, of the call that has this state."""
        each = len(state.wants)
        return each, each // turns_of(batch.size, self._work.backend)

    def _stage(self, batch: Batch, number: int, lanes: int) -> Stage:
        """The program of a step."""
        step, backend = batch.solver.steps(batch.size)[number - 1], self._work.backend
        solve = functools.partial(stages.solve_tiles, step=step, lanes=lanes, backend=backend)
        # the first step takes nearly all of the time
        emitter = Emitter.FUSIONS if number == FIRST else Emitter.ELEMENTS
        return Stage(name=step.name, function=solve, static=(batch.size, lanes, backend), emitter=emitter)

    def _tiles(self, batch: Batch, each: int, left: np.ndarray, chosen: np.ndarray) -> list[np.ndarray]:
        """Share problems out over calls of so many."""
        runs = [chosen]
        if self._work.backend is Backend.ACCELERATOR:  # which reads from one group at a time
            owner = batch.slot[left[chosen]] // self._work.sizes.group
            runs = [chosen[owner == group] for group in np.unique(owner)]
        return [run[first : first + each] for run in runs for first in range(0, len(run), each)]

    def _gathered(self, batch: Batch, number: int, problems: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """Take a step with problems that are gathered first."""
        each, lanes = self._size(batch, state)
        slot, profile = batch.slot[problems], batch.profile[problems]
        used = lanes * -(-len(problems) // lanes)
        operands = self._problems[batch.over_assets].gather(
            batch.size, slot, self._reward[profile], self._upper[profile], used, each
        )
        return self._step(batch, number, problems, state, operands)

    def _step(
        self, batch: Batch, number: int, problems: np.ndarray, state: State, operands: Operands
    ) -> tuple[np.ndarray, State]:
        """Take a step, keep the solutions that it finds, and return what is not solved."""
        _, lanes = self._size(batch, state)
        count = len(problems)
        tiles, rows = np.int32(-(-count // lanes)), np.int32(batch.rows[problems].max())
        made = self._calls.run(self._stage(batch, number, lanes), operands, state, rows, tiles)
        done = np.asarray(made.wants)[:count] == 0

        def of(leaves: Any, which: np.ndarray) -> Any:
            return jax.tree.map(lambda leaf: np.asarray(leaf)[:count][which], leaves)

        solved = problems[done]
        self._solutions.put(batch.slot[solved], batch.profile[solved], of(made.solution, done))
        self._tell(len(solved))
        return problems[~done], of(made, ~done)


@functools.lru_cache(maxsize=64)
def _blank(solver: Solver, size: int, each: int, dtype: np.dtype) -> State:
    """The state of so many problems that have not begun, on the host; made once, since shapes are slow to ask for."""
    shapes = jax.eval_shape(lambda: blank(solver, size, each, dtype))
    zeros = jax.tree.map(lambda leaf: np.zeros((each, *leaf.shape[:-1]), leaf.dtype), shapes)
    return zeros._replace(wants=np.full(each, FIRST, np.int32))
