"""The problems of a part's universes, on their way from "pose" to the tiles of "solve".

On a CPU the host copies a group's problems as soon as they are posed, while they are in the cache: those of one
canonical size go side by side, in blocks as long as a call of "solve" takes. A solver's first step, which every problem
wants, reads whole blocks where they are, once for each profile; later steps want few problems, which are copied once
more. On an accelerator the problems stay in their group, and a program gathers them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxalloc.engine import stages
from jaxalloc.engine.calls import Calls, Work
from jaxalloc.engine.making import Stage
from jaxalloc.engine.shapes import lengthened, turns_of
from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.solvers.steps import wide
from jaxalloc.portfolios.posing import Posed

Operands = tuple[Any, Any, Any]  # covariances (M, K, K), rewards and bounds (M, K)

_LARGE = 32  # clusters from which a covariance is copied by itself


class Problems:
    """The problems of a part over clusters, or those over assets."""

    def __init__(self, calls: Calls, work: Work, capacity: int) -> None:
        """Take what runs programs, what all parts have in common, and how many universes there may be."""
        self._calls, self._work = calls, work
        self._group = work.sizes.group
        self._groups: list[Posed] = []  # on an accelerator
        self._sized: dict[int, _Blocks] = {}  # on a CPU
        self._place = np.zeros(capacity, np.int32)  # a universe's among those of its size

    def put(self, posed: Posed, slots: np.ndarray, sizes: np.ndarray) -> None:
        """Take problems of a group.

        Args:
            posed: of the group; on a CPU, of some of its universes.
            slots: the universes' slots, without the padding.
            sizes: canonical sizes of their problems.
        """
        if self._work.backend is Backend.ACCELERATOR:
            self._groups.append(posed)
            return
        posed = jax.tree.map(np.asarray, posed)
        for size in np.unique(sizes).tolist():
            if size not in self._sized:
                self._sized[size] = _Blocks(self._work, size, posed)
            members = np.flatnonzero(sizes == size)
            self._place[slots[members]] = self._sized[size].put(members, posed)

    def whole_blocks(self, size: int, reward: int, upper: int) -> Iterator[tuple[slice, Operands]]:
        """Yield problems of a size that fill whole tiles where they are, by their places among those of that size.

        Args:
            size: canonical number of clusters.
            reward: place in `Posed.rewards`, -1 for none.
            upper: place in `Posed.uppers`.
        """
        if size in self._sized:
            yield from self._sized[size].whole(reward, upper)

    def gather(
        self, size: int, slot: np.ndarray, reward: np.ndarray, upper: np.ndarray, used: int, each: int
    ) -> Operands:
        """Problems (M,) of one size, on an accelerator of one group, with room for so many ``each``.

        On a CPU the room is the same the next time. A lane that holds no problem has no bounds, and costs nothing: all
        others up to ``used``, on an accelerator all others.
        """
        if self._work.backend is Backend.CPU:
            return self._sized[size].gather(self._place[slot], reward, upper, used, each)
        owner, there = np.divmod(slot, self._group)
        upper = np.pad(upper, (0, each - len(upper)), constant_values=-1)
        at = lengthened(there.astype(np.int32), each), lengthened(reward, each), upper
        gather = functools.partial(stages.gather_problems, clusters=size)
        stage = Stage(name="gather problems", function=gather, static=size)
        return self._calls.run(stage, self._groups[int(owner[0])], *at)

    def release(self) -> None:
        """Give back the memory; no problem can be read any more."""
        self._groups.clear()
        for blocks in self._sized.values():
            blocks.release()
        self._sized.clear()


class _Block(NamedTuple):
    """Problems side by side.

    Attributes:
        covariance: (B, K, K).
        rewards: (R + 1, B, K), the last of them 0.
        uppers: (U, B, K).
    """

    covariance: np.ndarray
    rewards: np.ndarray
    uppers: np.ndarray


class _Blocks:
    """Problems of one canonical size, in the host's memory."""

    def __init__(self, work: Work, size: int, like: Posed) -> None:
        """Take what all parts have in common, the size, and a group's problems as an example."""
        self._room, self._dtype, self._size = work.room, work.dtype, size
        self._n = min(size, like.covariance.shape[-1])
        self._rewards, self._uppers = like.rewards.shape[1] + 1, like.uppers.shape[1]
        self._lanes = wide(size)
        self._length = self._lanes * turns_of(size, work.backend)
        self._count = 0
        self._blocks: list[_Block] = []
        self._copies: dict[int, _Block] = {}  # room for copies, by length

    def _new(self, length: int, rewards: int, uppers: int) -> _Block:
        size, n = self._size, self._n
        vectors = length, size
        block = _Block(
            covariance=self._room.on_host((*vectors, size), self._dtype),
            rewards=self._room.on_host((rewards, *vectors), self._dtype),
            uppers=self._room.on_host((uppers, *vectors), self._dtype),
        )
        if n < size:  # fewer assets than the canonical size: the room holds what was there before
            block.covariance[:, n:], block.covariance[:, :, n:] = 0, 0
            padding = np.arange(n, size)
            block.covariance[:, padding, padding] = 1
            block.rewards[..., n:], block.uppers[..., n:] = 0, 0
        return block

    def put(self, places: np.ndarray, posed: Posed) -> np.ndarray:
        """Copy the problems at some places of a group, and return where they are now."""
        n, first = self._n, self._count
        while len(places):
            at = self._count % self._length
            if at == 0:
                block = self._new(self._length, self._rewards, self._uppers)
                block.rewards[-1] = 0
                self._blocks.append(block)
            block, now = self._blocks[-1], places[: self._length - at]
            to = slice(at, at + len(now))
            _copy(np.asarray(posed.covariance), now, block.covariance[to], n)
            block.rewards[:-1, to, :n] = np.swapaxes(posed.rewards[now, :, :n], 0, 1)
            block.uppers[:, to, :n] = np.swapaxes(posed.uppers[now, :, :n], 0, 1)
            self._count, places = self._count + len(now), places[len(now) :]
        return np.arange(first, self._count)

    def whole(self, reward: int, upper: int) -> Iterator[tuple[slice, Operands]]:
        for number, block in enumerate(self._blocks):
            first = number * self._length
            count = min(self._count - first, self._length) // self._lanes * self._lanes
            if count:
                yield slice(first, first + count), (block.covariance, block.rewards[reward], block.uppers[upper])

    def gather(self, place: np.ndarray, reward: np.ndarray, upper: np.ndarray, used: int, each: int) -> Operands:
        if each not in self._copies:
            self._copies[each] = self._new(each, 1, 1)
        into, count, n = self._copies[each], len(place), self._n
        owner, there = np.divmod(place, self._length)
        for number in np.unique(owner).tolist():
            block, run = self._blocks[number], np.flatnonzero(owner == number)
            _copy(block.covariance, there[run], into.covariance, n, run)
            into.rewards[0, run] = block.rewards[reward[run], there[run]]
            into.uppers[0, run] = block.uppers[upper[run], there[run]]
        into.uppers[0, count:used] = 0
        into.rewards[0, count:used] = 0
        into.covariance[count:used] = np.eye(self._size)
        return into.covariance, into.rewards[0], into.uppers[0]

    def release(self) -> None:
        for block in (*self._blocks, *self._copies.values()):
            for values in block:
                self._room.give_back(values)


def _copy(table: np.ndarray, places: np.ndarray, into: np.ndarray, n: int, to: np.ndarray | None = None) -> None:
    """Copy n rows and columns of some of the tables, to the first places of another array or to some."""
    if n < _LARGE:
        into[slice(len(places)) if to is None else to, :n, :n] = table[places, :n, :n]
        return
    # without a copy of its own first
    for there, place in zip(range(len(places)) if to is None else to.tolist(), places.tolist(), strict=True):
        into[there, :n, :n] = table[place, :n, :n]
