"""Schedule: which rows a decision sees, and which rows its portfolio is held."""

from __future__ import annotations

import dataclasses

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.numbers import whole_number


@dataclasses.dataclass(frozen=True)
class Schedule:
    """When portfolios are decided and held, on a panel of T rows.

    Window j sees rows j step to j step + window - 1 (expanding: from row 0 on). Its portfolio is held from row
    j step + window + gap on, until the next one's first row: so every row held lies after every row seen.

    Attributes:
        n_rows: T.
        window: rows of a window, of an expanding one of the first.
        step: rows from one decision to the next.
        expanding: whether windows grow from the first row on.
        gap: rows between a window and the first row its portfolio is held.
    """

    n_rows: int
    window: int
    step: int
    expanding: bool = False
    gap: int = 0

    def check(self) -> Schedule:
        """Return the schedule with Python's numbers; raise `InputError` where one is out of range.

        `RollingWindows.prepare` checks window and step.
        """
        gap = whole_number("gap", self.gap, 0)
        if not isinstance(self.expanding, bool):
            raise InputError(f"expanding must be True or False, not {self.expanding!r}")
        return dataclasses.replace(self, window=int(self.window), step=int(self.step), gap=gap)

    @property
    def n_windows(self) -> int:
        """Number of decisions, J."""
        return (self.n_rows - self.window) // self.step + 1

    @property
    def first_held(self) -> int:
        """The first row on which a portfolio is held; T if there is none."""
        return min(self.window + self.gap, self.n_rows)

    @property
    def n_days(self) -> int:
        """Number of rows on which portfolios are held, D."""
        return self.n_rows - self.first_held

    @property
    def n_held(self) -> int:
        """Number of windows whose portfolio is held on a row at least, R; they are the first ones."""
        return min(self.n_windows, -(-self.n_days // self.step))

    def decided(self, j: int) -> int:
        """Return the last row that window j sees."""
        return j * self.step + self.window - 1

    def held(self, j: int) -> tuple[int, int]:
        """Return the rows that portfolio j is held: the first, and one past the last."""
        first = j * self.step + self.window + self.gap
        last = self.n_rows if j == self.n_windows - 1 else first + self.step
        return min(first, self.n_rows), min(last, self.n_rows)
