"""From universes to their estimates: by what they share with the others of a panel, or by returns of their own."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxalloc.engine import stages
from jaxalloc.engine.calls import Calls, Work
from jaxalloc.engine.making import Stage
from jaxalloc.engine.scalar import Scalar, observes
from jaxalloc.engine.shapes import ROWS, canonical, canonical_each, lengthened, windows_at_once
from jaxalloc.engine.stages import Items
from jaxalloc.kernels.moments.tails import Tail
from jaxalloc.kernels.moments.windows import Facts, facts_of
from jaxalloc.portfolios.estimates import Estimates, Given
from jaxalloc.settings.config import AllocationConfig
from jaxalloc.universes.universe import Drawn

OBSERVE_OWN = Stage(name="observe own", function=stages.observe_own)


class Universes(NamedTuple):
    """A group of universes to observe.

    Attributes:
        drawn: masks of canonical size, and weights: either likewise, or only those that there are, (count, T).
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
        first: (count,) the first row in use.
        length: (count,) rows from there to the last one in use.
        rows: (count,) canonical number of these; 0 where the piece is not small.
    """

    first: np.ndarray
    length: np.ndarray
    rows: np.ndarray


class Observing:
    """The stages that observe.

    Universes of a shared panel are observed by one product of all their weights with the panel's table. That reads
    every row of the panel. A universe whose rows are a small piece of a long panel is therefore observed from these
    rows alone, and so are all universes where scalar kernels observe them. Which way a universe goes depends on its
    own rows, and never on its neighbours.
    """

    def __init__(self, calls: Calls, work: Work, items: Items, scalar: Scalar | None) -> None:
        """Take what runs programs, what all parts have in common, universes, and scalar kernels if there are any."""
        self._calls, self._work, self._items, self._sizes, self._scalar = calls, work, items, work.sizes, scalar

    def prefetch(self, group: Universes) -> None:
        """Have the program that `observe` runs first made."""
        sizes, dtype, room = self._sizes, self._work.dtype, self._work.shape_of_covariances()
        of = jax.ShapeDtypeStruct
        if self._work.panel is None:
            returns, weights = (of((sizes.own, sizes.rows, *axes), dtype) for axes in ((sizes.assets,), ()))
            rest = group.drawn.mask, group.config, group.given, group.drawn.shock
            some = jax.tree.map(lambda leaf: leaf[: sizes.own], rest)
            self._calls.prefetch(OBSERVE_OWN, returns, weights, *some, np.int32(self._work.n_rows))
            return
        if self._scalar_for(group) is not None:
            return
        windows = self._windows(group)
        if not windows.rows.any():
            self._calls.prefetch(*self._observation(group, of((sizes.group, sizes.rows), dtype)), room)
            return
        rows, by_asset = int(windows.rows.max()), (sizes.group, sizes.assets)
        tail = Tail(mean=of(by_asset, dtype), exists=of(by_asset, bool))  # type: ignore[arg-type]
        facts = Facts(tail=tail, constant=of(by_asset, bool))
        first, weights = of((sizes.group,), np.int32), of((sizes.group, rows), dtype)
        self._calls.prefetch(*self._window_observation(group, first, weights, facts), room)

    def observe(self, group: Universes) -> Estimates:
        """Estimates of a group, not yet clustered."""
        if self._work.panel is None:
            return self._own(group)
        scalar = self._scalar_for(group)
        if scalar is not None:
            return self._observed(scalar, group)
        windows = self._windows(group)
        kinds = np.unique(windows.rows).tolist()
        if len(kinds) == 1:
            return self._of_windows(group, windows) if kinds[0] else self._shared(group)
        host, parts, slots = _on_host(group), [], []
        for rows in kinds:
            members = np.flatnonzero(windows.rows == rows)
            some = _some(host, lengthened(members, len(group.source)))._replace(count=len(members))
            own = jax.tree.map(lambda values, at=members: values[at], windows)
            parts.append(self._of_windows(some, own) if rows else self._shared(some))
            slots.append(members)
        whole = self._joined([jax.tree.map(np.asarray, part) for part in parts], slots, len(group.source))
        for part in parts:
            self._work.give_back(part.covariance)
        return whole

    def _scalar_for(self, group: Universes) -> Scalar | None:
        """The scalar kernels, if there are any, and if they observe such universes."""
        drawn, given = group.drawn, group.given
        moments = given.mean is None and given.covariance is None
        usable = self._scalar is not None and observes(self._work) and drawn.shock is None and moments
        return self._scalar if usable else None

    def _observed(self, scalar: Scalar, group: Universes) -> Estimates:
        """Estimates of universes by the rows that they hold."""
        self._calls.check()
        config = group.config
        return scalar.observe(group.drawn.weights, group.drawn.mask, config, len(group.source), group.count)

    # ---- of a shared panel ------------------------------------------------------------------------------------------

    def _shared(self, group: Universes) -> Estimates:
        """Estimates of universes by their panel's table."""
        weights = self._weights(group.drawn.weights, len(group.source))
        return self._calls.run(*self._observation(group, weights), self._work.room_for_covariances())

    def _observation(self, group: Universes, weights: Any) -> tuple[Any, ...]:
        """The stage that observes universes of a shared panel together, and its arguments but for the room."""
        few, drawn, panel = self._sizes.few, group.drawn, self._work.panel
        assert panel is not None
        run = functools.partial(stages.observe_group, few=few)
        observe = Stage(name="observe", function=run, static=few, donate=(7,))
        table, steps = panel.table(self._work.device), np.int32(-(-group.count // few))
        return observe, table, weights, drawn.mask, group.config, group.given, drawn.shock, steps

    def _weights(self, weights: Any, count: int) -> Any:
        """Weights of so many universes, of canonical sizes."""
        if weights.shape == (count, self._sizes.rows):
            return weights
        padded = np.zeros((count, self._sizes.rows), self._work.dtype)
        given, n_rows = np.asarray(weights), weights.shape[1]
        padded[: len(given), :n_rows] = given
        padded[len(given) :, :n_rows] = given[-1]
        return padded

    # ---- of a small piece of it -------------------------------------------------------------------------------------

    def _windows(self, group: Universes) -> _Windows:
        """Find the universes that hold a small piece of their panel."""
        most, none = self._sizes.window, np.zeros(group.count, int)
        if most == 0:
            return _Windows(first=none, length=none, rows=none)
        # one that is not a number counts as well
        used = np.asarray(group.drawn.weights)[: group.count, : self._work.n_rows] != 0
        first = used.argmax(axis=1)
        length = np.where(used[np.arange(group.count), first], used.shape[1] - used[:, ::-1].argmax(axis=1) - first, 0)
        rows = np.where(length <= most, canonical_each(np.minimum(length, most), ROWS), 0)
        return _Windows(first=first, length=length, rows=rows)

    def _of_windows(self, group: Universes, windows: _Windows) -> Estimates:
        """Estimates of universes that are small windows of one canonical number of rows."""
        panel, rows, size = self._work.panel, int(windows.rows[0]), len(group.source)
        assert panel is not None
        # a window begins as late as its canonical number of rows fits the panel
        first = np.minimum(windows.first, canonical(self._work.n_rows, ROWS) - rows)
        weights = np.zeros((group.count, rows), self._work.dtype)
        given = np.asarray(group.drawn.weights)
        for own, start, values in zip(weights, first.tolist(), given, strict=False):
            values = values[start : min(start + rows, self._work.n_rows)]
            own[: len(values)] = values
        facts = facts_of(panel.ranks(), first, weights, self._sizes.assets)
        first, weights, facts = jax.tree.map(
            lambda values: lengthened(values, size), (first.astype(np.int32), weights, facts)
        )
        return self._calls.run(
            *self._window_observation(group, first, weights, facts), self._work.room_for_covariances()
        )

    def _window_observation(self, group: Universes, first: Any, weights: Any, facts: Facts) -> tuple[Any, ...]:
        """The stage that observes windows, and its arguments but for the room."""
        few, drawn, panel = (
            windows_at_once(self._sizes, weights.shape[1], self._work.dtype),
            group.drawn,
            self._work.panel,
        )
        assert panel is not None
        run = functools.partial(stages.observe_windows, few=few)
        stage = Stage(name="observe windows", function=run, static=few, donate=(9,))
        table, steps = panel.rows(self._work.device), np.int32(-(-group.count // few))
        return stage, table, first, weights, drawn.mask, group.config, group.given, drawn.shock, facts, steps

    # ---- of returns of their own ------------------------------------------------------------------------------------

    def _own(self, group: Universes) -> Estimates:
        """Estimates of universes with returns of their own."""
        sizes, n_rows = self._sizes, np.int32(self._work.n_rows)
        group = group._replace(
            drawn=group.drawn._replace(weights=self._weights(group.drawn.weights, len(group.source)))
        )
        if sizes.own == sizes.group:
            return self._alone(group, self._own_returns(group), group.drawn.weights, n_rows)
        host, parts, slots = _on_host(group), [], np.arange(len(group.source))
        for begin in range(0, group.count, sizes.own):
            some = _some(host, slots[begin : begin + sizes.own])
            parts.append(self._alone(some, self._own_returns(some), some.drawn.weights, n_rows))
        return self._joined(parts, np.array_split(slots[: len(parts) * sizes.own], len(parts)), len(group.source))

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

    def _joined(self, parts: list[Estimates], slots: list[np.ndarray], size: int) -> Estimates:
        """Estimates of a group, from parts that begin with those of some universes each; of the others the first's."""
        rest = np.ones(size, bool)
        rest[np.concatenate(slots)] = False

        def whole(*leaves: np.ndarray) -> np.ndarray:
            shape, dtype = (size, *leaves[0].shape[1:]), leaves[0].dtype
            is_covariance = len(shape) == 3
            joined = self._work.room.on_host(shape, dtype) if is_covariance else np.empty(shape, dtype)
            for own, leaf in zip(slots, leaves, strict=True):
                joined[own] = leaf[: len(own)]
            joined[rest] = leaves[0][0]
            return joined

        return jax.tree.map(whole, *jax.tree.map(np.asarray, parts))


def count_observations(group: Universes, choices: AllocationConfig) -> np.ndarray:
    """(U,) numbers of observations: the sum of the weights; of decayed ones, Kish's effective size."""
    c = lengthened(np.asarray(group.drawn.weights).astype(float), len(group.source))
    c = np.where(np.isfinite(c) & (c > 0), c, 0)
    n = c.sum(axis=1)
    if choices.covariance == "ewma":
        row = np.arange(c.shape[1])
        age = np.maximum(np.max(np.where(c > 0, row, 0), axis=1, keepdims=True) - row, 0)
        recent = c * np.asarray(group.config.ewma_decay)[:, None].astype(float) ** age
        squares = (recent * np.where(c > 0, recent / np.where(c > 0, c, 1), 0)).sum(axis=1)
        n = recent.sum(axis=1) ** 2 / np.where(squares > 0, squares, 1)
    return n.astype(np.asarray(group.drawn.weights).dtype)


def _on_host(group: Universes) -> Universes:
    return jax.tree.map(np.asarray, group)


def _some(group: Universes, slots: np.ndarray) -> Universes:
    """Some universes of a group that is on the host."""
    leaves = jax.tree.map(lambda leaf: leaf[slots], group._replace(count=None))  # type: ignore[arg-type]
    return leaves._replace(count=len(slots))
