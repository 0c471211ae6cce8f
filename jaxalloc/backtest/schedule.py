"""Schedule: which rows a decision sees, and which rows its portfolio is held."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.numbers import whole_number
from jaxalloc.arguments.words import counted
from jaxalloc.markets.periods import CALENDAR


@dataclasses.dataclass(frozen=True)
class Schedule:
    """When portfolios are decided and held, on a panel of T rows.

    Window j sees the ``window`` rows up to row ``decided(j)`` (expanding: all rows from row 0 on). That is row
    j step + window - 1, or the last row of a period of the calendar. Its portfolio is held from row
    decided(j) + gap + 1 on, until the next one's first row: so every row held lies after every row seen.

    Attributes:
        n_rows: T.
        window: rows of a window, of an expanding one of the first.
        step: rows from one decision to the next, or a word of the calendar as `RollingWindows` takes it.
        expanding: whether windows grow from the first row on.
        gap: rows between a window and the first row its portfolio is held.
        live: whether there is one more window, which ends on the last row, where the steps bring none there.
        ends: the last row of each window where the step is a word of the calendar; else None.
    """

    n_rows: int
    window: int
    step: int | str
    expanding: bool = False
    gap: int = 0
    live: bool = False
    ends: tuple[int, ...] | None = None

    def check(self) -> Schedule:
        """Return the schedule with Python's numbers; raise `InputError` where one is out of range.

        `RollingWindows.prepare` checks window and step.
        """
        gap = whole_number("gap", self.gap, 0)
        if not isinstance(self.expanding, bool):
            raise InputError(f"expanding must be True or False, not {self.expanding!r}")
        step = self.step if isinstance(self.step, str) else int(self.step)
        return dataclasses.replace(self, window=int(self.window), step=step, gap=gap)

    @classmethod
    def of_record(cls, entry: Mapping[str, Any]) -> Schedule:
        """Make the schedule of what `record` gave, or of an entry from before there were live windows."""
        ends = entry.get("ends")
        return cls(**{**entry, "ends": None if ends is None else tuple(ends)})

    def record(self) -> dict[str, Any]:
        """Return the schedule as plain values."""
        return dataclasses.asdict(self) | {"ends": None if self.ends is None else list(self.ends)}

    @functools.cached_property
    def decisions(self) -> np.ndarray:
        """(J,) the last row that each window sees, ascending."""
        if self.ends is not None:
            return np.asarray(self.ends)
        assert not isinstance(self.step, str)
        decisions = np.arange(self.window - 1, self.n_rows, self.step)
        return np.append(decisions, self.n_rows - 1) if self.live and decisions[-1] < self.n_rows - 1 else decisions

    @property
    def n_windows(self) -> int:
        """Number of decisions, J."""
        return len(self.decisions)

    @property
    def first_held(self) -> int:
        """The first row on which a portfolio is held; T if there is none."""
        return min(self.decided(0) + self.gap + 1, self.n_rows)

    @property
    def n_days(self) -> int:
        """Number of rows on which portfolios are held, D."""
        return self.n_rows - self.first_held

    @property
    def n_held(self) -> int:
        """Number of windows whose portfolio is held on a row at least, R; they are the first ones."""
        return int(np.searchsorted(self.decisions, self.n_rows - self.gap - 1))

    @property
    def longest(self) -> int:
        """The most rows from one decision to the next, or to the end."""
        return int(np.diff(self.decisions, append=self.n_rows - 1).max(initial=1))

    @property
    def words(self) -> str:
        """When it decides: "every 21 rows", "at the end of every month"."""
        if isinstance(self.step, str):
            return f"at the end of every {CALENDAR[self.step]}"
        return "every row" if self.step == 1 else f"every {counted(self.step, 'row')}"

    def decided(self, j: int) -> int:
        """Return the last row that window j sees."""
        return int(self.decisions[j])

    def held(self, j: int) -> tuple[int, int]:
        """Return the rows that portfolio j is held: the first, and one past the last."""
        last = self.n_rows if j == self.n_windows - 1 else self.decided(j + 1) + self.gap + 1
        return min(self.decided(j) + self.gap + 1, self.n_rows), min(last, self.n_rows)
