"""From universes to their estimates: by what they share with the others of a panel, or by returns of their own."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxalloc.engine import stages
from jaxalloc.engine.calls import Calls, Work
from jaxalloc.engine.making import Stage
from jaxalloc.engine.shapes import most_window_rows
from jaxalloc.engine.stages import Items
from jaxalloc.portfolios.estimates import Estimates, Given
from jaxalloc.settings.config import AllocationConfig
from jaxalloc.universes.universe import Drawn

OBSERVE_OWN = Stage(name="observe own", function=stages.observe_own)


class Universes(NamedTuple):
    """A group of universes to observe.

    Attributes:
        drawn: weights and masks, of canonical sizes.
        source: the universes' numbers among the items.
        config: settings, leading axis of the group.
        given: what takes the place of an estimate, likewise.
        count: how many there are; the rest of the group is padding.
    """

    drawn: Drawn
    source: np.ndarray
    config: AllocationConfig
    given: Given
    count: int


class _Windows(NamedTuple):
    """Which universes of a group hold a small piece of their panel.

    Attributes:
        first: (U,) the first row in use.
        length: (U,) rows from there to the last one in use.
        small: (U,) bool.
    """

    first: np.ndarray
    length: np.ndarray
    small: np.ndarray


class Observing:
    """The stages that observe.

    Universes of a shared panel are observed by one product of all their weights with the panel's table. That reads
    every row of the panel. A universe whose rows are a small piece of a long panel is therefore observed as one with
    returns of its own. Which way a universe goes depends on its own rows, and never on its neighbours.
    """

    def __init__(self, calls: Calls, work: Work, items: Items) -> None:
        """Take what runs programs, what all parts have in common, and the universes."""
        self._calls, self._work, self._items, self._sizes = calls, work, items, work.sizes

    def prefetch(self, group: Universes) -> None:
        """Have the program that `observe` runs first made."""
        sizes, dtype = self._sizes, self._work.dtype
        own, rows = sizes.own, sizes.rows
        if self._work.panel is not None:
            if not self._windows(group).small.any():
                self._calls.prefetch(*self._observation(group), self._work.shape_of_covariances())
                return
            own, rows = sizes.window, sizes.window_rows
        returns, weights = (jax.ShapeDtypeStruct((own, *shape), dtype) for shape in ((rows, sizes.assets), (rows,)))
        rest = group.drawn.mask, group.config, group.given, group.drawn.shock
        some = jax.tree.map(lambda leaf: leaf[:own], rest)
        self._calls.prefetch(OBSERVE_OWN, returns, weights, *some, np.int32(self._work.n_rows))

    def observe(self, group: Universes) -> Estimates:
        """Estimates of a group, not yet clustered."""
        if self._work.panel is None:
            return self._own(group)
        windows = self._windows(group)
        if not windows.small.any():
            return self._shared(group)
        alone = self._of_windows(group, windows)
        if windows.small.all():
            return alone

        def choose(some: np.ndarray, others: Any) -> np.ndarray:
            small = windows.small.reshape(-1, *[1] * (some.ndim - 1))
            return np.where(small, some, others)

        return jax.tree.map(choose, alone, self._shared(group))

    # ---- of a shared panel ------------------------------------------------------------------------------------------

    def _shared(self, group: Universes) -> Estimates:
        """Estimates of universes by their panel's table."""
        return self._calls.run(*self._observation(group), self._work.room_for_covariances())

    def _observation(self, group: Universes) -> tuple[Any, ...]:
        """The stage that observes universes of a shared panel together, and its arguments but for the room."""
        few, drawn = self._sizes.few, group.drawn
        run = functools.partial(stages.observe_group, few=few)
        observe = Stage(name="observe", function=run, static=few, donate=(7,))
        steps = np.int32(-(-group.count // few))
        return observe, self._work.panel, drawn.weights, drawn.mask, group.config, group.given, drawn.shock, steps

    # ---- of a small piece of it -------------------------------------------------------------------------------------

    def _windows(self, group: Universes) -> _Windows:
        """Find the universes that hold a small piece of their panel."""
        if self._sizes.window == 0:
            none = np.zeros(len(group.source), int)
            return _Windows(first=none, length=none, small=none.astype(bool))
        used = np.asarray(group.drawn.weights)[:, : self._work.n_rows] != 0  # one that is not a number counts as well
        first = used.argmax(axis=1)
        length = np.where(used.any(axis=1), used.shape[1] - used[:, ::-1].argmax(axis=1) - first, 0)
        return _Windows(first=first, length=length, small=length <= most_window_rows(self._work.n_rows))

    def _of_windows(self, group: Universes, windows: _Windows) -> Estimates:
        """Estimates of the universes that are small windows; of the others anything."""
        host, at_once = _on_host(group), self._sizes.window
        chosen = np.flatnonzero(windows.small[: group.count])
        longest = np.int32(max(windows.length[chosen].max(), 1))
        parts = []
        for begin in range(0, len(chosen), at_once):
            slots = chosen[np.minimum(np.arange(begin, begin + at_once), len(chosen) - 1)]
            some = _some(host, slots)
            rows = [slice(windows.first[slot], windows.first[slot] + windows.length[slot]) for slot in slots]
            weights = np.zeros((at_once, self._sizes.window_rows), self._work.dtype)
            for lane, own in enumerate(rows):
                weights[lane, : own.stop - own.start] = some.drawn.weights[lane, own]
            parts.append(self._alone(some, self._returns_of(rows), weights, longest))
        return self._joined(parts, chosen, len(group.source))

    def _returns_of(self, windows: list[slice]) -> np.ndarray:
        """Returns of some windows of the panel, each from its first row on. What is past them is anything."""
        sizes, work = self._sizes, self._work
        assert work.panel is not None
        returns, missing = np.asarray(work.panel.returns), np.asarray(work.panel.missing)
        room = work.room.on_host((sizes.window, sizes.window_rows, sizes.assets), work.dtype)
        for lane, rows in enumerate(windows):
            own = room[lane, : rows.stop - rows.start]
            np.copyto(own, returns[rows])
            np.copyto(own, np.nan, where=missing[rows] > 0)
        return room

    # ---- of returns of their own ------------------------------------------------------------------------------------

    def _own(self, group: Universes) -> Estimates:
        """Estimates of universes with returns of their own."""
        sizes, n_rows = self._sizes, np.int32(self._work.n_rows)
        if sizes.own == sizes.group:
            return self._alone(group, self._own_returns(group), group.drawn.weights, n_rows)
        host, parts = _on_host(group), []
        for begin in range(0, group.count, sizes.own):
            some = _some(host, np.arange(begin, begin + sizes.own))
            parts.append(self._alone(some, self._own_returns(some), some.drawn.weights, n_rows))
        return self._joined(parts, np.arange(group.count), len(group.source))

    def _own_returns(self, group: Universes) -> Any:
        """Returns of some universes, of canonical sizes. What is past the panel's is 0 and stays untouched."""
        if group.drawn.returns is not None:
            return group.drawn.returns
        sizes, work = self._sizes, self._work
        room = work.room.on_host((sizes.own, sizes.rows, sizes.assets), work.dtype)
        room[:, : work.n_rows, : work.n_assets] = np.asarray(self._items.returns)[group.source]
        return room

    def _alone(self, group: Universes, returns: Any, weights: Any, n_rows: np.int32) -> Estimates:
        """Estimates of a few universes at once, from their returns, which may be in a room's memory."""
        drawn = group.drawn
        made = self._calls.run(
            OBSERVE_OWN, returns, weights, drawn.mask, group.config, group.given, drawn.shock, n_rows
        )
        if drawn.returns is None:
            jax.block_until_ready(made)
            self._work.room.give_back(returns)
        return made

    def _joined(self, parts: list[Estimates], slots: np.ndarray, size: int) -> Estimates:
        """Estimates of a group, from parts that hold those of the universes ``slots``; of the others the first's."""

        def whole(*leaves: np.ndarray) -> np.ndarray:
            shape, dtype = (size, *leaves[0].shape[1:]), leaves[0].dtype
            is_covariance = len(shape) == 3
            joined = self._work.room.on_host(shape, dtype) if is_covariance else np.empty(shape, dtype)
            done = 0
            for leaf in leaves:
                own = slots[done : done + len(leaf)]
                joined[own] = leaf[: len(own)]
                done += len(own)
            rest = np.ones(size, bool)
            rest[slots] = False
            joined[rest] = leaves[0][0]
            return joined

        return jax.tree.map(whole, *jax.tree.map(np.asarray, parts))


def _on_host(group: Universes) -> Universes:
    return jax.tree.map(np.asarray, group)


def _some(group: Universes, slots: np.ndarray) -> Universes:
    """Some universes of a group that is on the host."""
    leaves = jax.tree.map(lambda leaf: leaf[slots], group._replace(count=None))  # type: ignore[arg-type]
    return leaves._replace(count=len(slots))
