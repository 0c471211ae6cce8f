"""Bags: the mean portfolios of groups of universes, such as the resamples of each window of a walk-forward.

The mean of a profile's weights over resamples of its data is bagging (Breiman, 1996), for portfolios Michaud's
resampling (1998). Sums are taken universe by universe in the order of their numbers: neither the size of a chunk nor
the number of devices changes a bit, and memory does not grow with the number of resamples.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from jaxalloc.arguments.errors import InputError
from jaxalloc.storage.arrays import check_arrays
from jaxalloc.storage.schema import MisfitError
from jaxalloc.studies.chunks import ChunkResult
from jaxalloc.studies.plan import Plan
from jaxalloc.universes.bootstrap import Bags as BagsOf

_MOST_BYTES = 2**33  # of the sums


@dataclasses.dataclass(eq=False)
class Bags:
    """Sums of the weights of S groups of consecutive universes, P profiles, N assets.

    A weight is counted as its distance from that of the group's first valid universe, so that a deviation that is small
    beside the weight loses no digits.

    Attributes:
        size: universes of a group.
        count: (S,) int, valid universes of each group so far.
        first: (S, P, N) weights of the first valid one.
        total: (S, P, N) sum of the distances from them.
        squares: (S, P, N) sum of their squares.
    """

    size: int
    count: np.ndarray
    first: np.ndarray
    total: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, plan: Plan) -> Bags:
        """Start with nothing counted: a group for each universe before the plan's last sampler, at every point.

        Raises:
            InputError: the sums would not fit into memory.
        """
        last = plan.sampler.parts[-1]
        assert isinstance(last, BagsOf)
        size = last.n
        assert size is not None
        groups = plan.n_universes // size
        shape = (groups, len(plan.settings.config.profiles), plan.returns.shape[1])
        room = 3 * 8 * int(np.prod(shape, dtype=object))
        if room > _MOST_BYTES:
            raise InputError(
                f"the bagged portfolios of {groups:,} windows take about {room / 2**30:.0f} GiB of memory; take a "
                "longer step, fewer paths, or fewer points of a sweep at a time"
            )
        return cls(
            size=size,
            count=np.zeros(groups, np.int64),
            first=np.zeros(shape),
            total=np.zeros(shape),
            squares=np.zeros(shape),
        )

    def begin(self) -> None:
        """Nothing is needed before the first chunk."""

    def add_chunk(self, start: int, result: ChunkResult) -> None:
        """Add a chunk's universes, of which the first has the number ``start``."""
        assert result.weights is not None
        assert result.valid is not None
        self.add(start, result.weights, result.valid)

    def add(self, start: int, weights: np.ndarray, valid: np.ndarray) -> None:
        """Add the next universes.

        Args:
            start: number of the first one.
            weights: (C, P, N), of an invalid universe anything.
            valid: (C,) bool.
        """
        groups = (start + np.arange(len(weights))) // self.size
        for group in np.unique(groups):
            some = weights[(groups == group) & valid].astype(float)
            if not len(some):
                continue
            some /= some.sum(axis=2, keepdims=True)  # those of float32 sum to 1 nearly
            if not self.count[group]:
                self.first[group] = some[0]
            away = some - self.first[group]
            self.count[group] += len(some)
            self.total[group] = _in_order(self.total[group], away)
            self.squares[group] = _in_order(self.squares[group], away**2)

    def mean(self, groups: slice = slice(None)) -> np.ndarray:
        """Return the (S, P, N) mean weights of some groups, at least 0, sum 1; NaN without a valid universe."""
        count = self.count[groups, None, None]
        mean = np.maximum(self.first[groups] + self.total[groups] / np.maximum(count, 1), 0)
        total = mean.sum(axis=2, keepdims=True)
        return np.where(count > 0, mean / np.where(total > 0, total, 1), np.nan)

    def deviation(self) -> np.ndarray:
        """Return the (S, P, N) standard deviation of the weights over a group (divisor n - 1); NaN of fewer than 2."""
        count = self.count[:, None, None]
        squares = np.maximum(self.squares - self.total**2 / np.maximum(count, 1), 0)
        return np.where(count > 1, np.sqrt(squares / np.maximum(count - 1, 1)), np.nan)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the sums as named arrays, which `take` takes back."""
        return {name: getattr(self, name) for name in _SUMS}

    def take(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Go on from sums that `arrays` gave; raise `InputError` where they are none of these groups'."""
        try:
            check_arrays(arrays, {name: ("i" if name == "count" else "f", getattr(self, name).shape) for name in _SUMS})
        except MisfitError as misfit:
            raise InputError(
                f"the sums of the resamples are not as jaxalloc writes them: {misfit}; run it again with fresh=True"
            ) from None
        for name in _SUMS:
            setattr(self, name, np.array(arrays[name]))


_SUMS = ("count", "first", "total", "squares")


def _in_order(total: np.ndarray, added: np.ndarray) -> np.ndarray:
    """A sum taken one after the other, whatever part of the summands comes at once."""
    return np.add.accumulate(np.concatenate([total[None], added]), axis=0)[-1]
