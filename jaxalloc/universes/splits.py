"""Combinatorial purged splits: training rows that surround the groups of rows held out (Lopez de Prado, 2018)."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import TYPE_CHECKING, Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.numbers import check_counts, plain, whole_number
from jaxalloc.arguments.words import counted, literal
from jaxalloc.universes.samplers import Sampler
from jaxalloc.universes.universe import Kernel, Universe

if TYPE_CHECKING:
    from jaxalloc.markets.panel import Panel

MOST_SPLITS = 20_000

_FEWEST_ROWS = 2  # to decide on
_BLOCK_BYTES = 2**24  # of a table of the rows of many splits
_EMBARGO = 100  # one row of this many, by default


@dataclasses.dataclass(frozen=True)
class CombinatorialSplits(Sampler):
    """The training rows of combinatorial purged cross-validation (Lopez de Prado, 2018, sections 7.4 and 12.3).

    The T rows are cut into ``groups`` contiguous groups of T // groups rows; the first T mod groups have one row more.
    Every choice of ``test_groups`` of them is a split, C(groups, test_groups) in all, in the order of
    `itertools.combinations`. A universe holds the training rows of a split in the order of time: those of all other
    groups, except

    - *purged* ones, ``purge`` rows before and ``purge`` rows after each test group. A row is a return over one period
      and shares no day with another row, so by default none is purged. Where a row is a return over k periods that
      overlap, k - 1 rows share days with a test group.
    - *embargoed* ones, ``embargo`` more rows after each test group. What happened in it still shows in the rows that
      follow, as in their volatility. By default they are one row in a hundred, rounded up (section 7.4.2).

    Neither reaches beyond the first or last row; rows between two test groups may be put out by both.

    Attributes:
        groups: number of groups, 2 to T.
        test_groups: number of groups held out by a split, 1 to ``groups`` - 1.
        purge: rows put out on either side of each test group.
        embargo: rows put out after those; None for one in a hundred of T, rounded up.

    Example:
        >>> splits = CombinatorialSplits(groups=6, test_groups=2, embargo=1)
        >>> splits.count(60), splits.path_splits().shape
        (15, (5, 6))
        >>> splits.training(60)[0].sum()  # 60 rows less two groups and the row after them
        np.int64(39)
    """

    once: ClassVar[bool] = True
    leaves_out: ClassVar[bool | None] = False
    by_time: ClassVar[bool] = True

    groups: int = 10
    test_groups: int = 2
    purge: int = 0
    embargo: int | None = None

    def __post_init__(self) -> None:
        """Raise `InputError` for numbers of rows or groups that no panel has."""
        check_counts(groups=self.groups, test_groups=self.test_groups, purge=self.purge, embargo=self.embargo)

    def count(self, n_rows: int) -> int:
        """Return the number of splits, C(groups, test_groups)."""
        return math.comb(int(self.groups), int(self.test_groups))

    def bounds(self, n_rows: int) -> np.ndarray:
        """Return the first row of each group, and T: (groups + 1,)."""
        numbers = np.arange(int(self.groups) + 1)
        size, longer = divmod(n_rows, int(self.groups))
        return numbers * size + np.minimum(numbers, longer)

    def tested(self) -> np.ndarray:
        """Return the groups that each split holds out: (splits, test_groups) int32, ascending."""
        return np.array(list(itertools.combinations(range(int(self.groups)), int(self.test_groups))), np.int32)

    def training(self, n_rows: int) -> np.ndarray:
        """Return the rows that each split decides on: (splits, T) bool.

        Args:
            n_rows: T.
        """
        return self._kept(n_rows, self.tested())

    def _kept(self, n_rows: int, tested: np.ndarray) -> np.ndarray:
        """(S, T) bool, the rows that splits decide on which hold out the groups ``tested`` (S, test_groups)."""
        bounds, position = self.bounds(n_rows), np.arange(n_rows)
        embargo = self._embargo(n_rows)
        # what holding out a group puts out
        first, stop = bounds[:-1] - self.purge, bounds[1:] + self.purge + embargo
        kept = np.ones((len(tested), n_rows), bool)
        for groups in tested.T:
            kept &= (position < first[groups, None]) | (stop[groups, None] <= position)
        return kept

    def _lengths(self, n_rows: int) -> np.ndarray:
        """(splits,) how many rows each split decides on; the table of the rows is made a block of splits at a time."""
        tested, block = self.tested(), max(1, _BLOCK_BYTES // n_rows)
        starts = range(0, len(tested), block)
        return np.concatenate([self._kept(n_rows, tested[i : i + block]).sum(axis=1) for i in starts])

    def path_splits(self) -> np.ndarray:
        """Return which split holds each group on each path: (paths, groups) int.

        Path q takes for each group the q-th split that tests it. There are
        C(groups, test_groups) test_groups / groups paths, and each pair of a split and one of its test groups is on
        exactly one of them.
        """
        tested = self.tested()
        return np.stack([np.flatnonzero((tested == g).any(axis=1)) for g in range(int(self.groups))], axis=1)

    def rows_after(self, n_rows: int) -> int:
        """Return the most rows that a split decides on."""
        return int(self._lengths(n_rows).max())

    def prepare(self, panel: Panel, n_rows: int, periods_per_year: float) -> CombinatorialSplits:
        """Check the settings, and settle the embargo; see `Sampler.prepare`."""
        groups = whole_number("groups", self.groups, 2)
        test_groups = whole_number("test_groups", self.test_groups, 1)
        whole_number("purge", self.purge, 0)
        if self.embargo is not None:
            whole_number("embargo", self.embargo, 0)
        if groups > n_rows:
            raise InputError(f"groups must be at most {n_rows}, the panel's rows, not {literal(self.groups)}")
        if test_groups >= groups:
            raise InputError(
                f"test_groups must be less than groups, {groups}, for rows to be left to decide on, not "
                f"{literal(self.test_groups)}"
            )
        if self.count(n_rows) > MOST_SPLITS:
            raise InputError(
                f"{test_groups} of {groups} groups are chosen in more than {MOST_SPLITS:,} ways; take fewer groups"
            )
        fewest = int(self._lengths(n_rows).min())
        if fewest < _FEWEST_ROWS:
            raise InputError(
                f"a split has {counted(fewest, 'row')} left to decide on, {_FEWEST_ROWS} are needed; take fewer "
                "test_groups, or a smaller purge or embargo"
            )
        return dataclasses.replace(self, embargo=self._embargo(n_rows))

    def _embargo(self, n_rows: int) -> int:
        return -(-n_rows // _EMBARGO) if self.embargo is None else int(self.embargo)

    def draw(self) -> tuple[Kernel, Any]:
        """Return the kernel, and the groups that each split tests, their number, and the rows put out around them."""
        assert self.embargo is not None
        before, after = np.int32(self.purge), np.int32(int(self.purge) + int(self.embargo))
        return _split, (self.tested(), np.int32(self.groups), before, after)

    def settings(self) -> dict[str, Any]:
        """Return the name and the settings as plain values."""
        names = ("groups", "test_groups", "purge", "embargo")
        return {"sampler": "CombinatorialSplits"} | {name: plain(getattr(self, name)) for name in names}


def _split(numbers: tuple[Array, Array, Array, Array], key: Array, index: Array, universe: Universe) -> Universe:
    tested, groups, before, after = numbers
    n_rows = universe.rows.shape[0]
    position = jnp.arange(n_rows, dtype=jnp.int32)[None, :]
    group = tested[index][:, None]
    size, longer = n_rows // groups, n_rows % groups
    first = group * size + jnp.minimum(group, longer)
    stop = first + size + (group < longer)
    out = jnp.any((first - before <= position) & (position < stop + after), axis=0)
    # the rows that are put out come last, past `length`
    rows = universe.rows[jnp.argsort(out, stable=True)]
    return universe._replace(rows=rows, length=jnp.sum(~out, dtype=jnp.int32))
