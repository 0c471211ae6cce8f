"""What the reproductions share: how a result is recorded, and how a kernel goes over many runs in pieces."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

TEN_ASSETS = "ten_assets_prices_2015_2019.csv"


class Compared(NamedTuple):
    """A published figure beside ours.

    Attributes:
        what: the quantity, with its unit.
        published: the printed figure, or None where nothing is printed.
        ours: the same figure, computed here.
        standard_error: of ours, where it is a Monte Carlo.
        decimals: how many the publication prints, and the table shows.
        rule: what counts as agreement: ``"digits"``, all that are printed; ``"errors"``, the difference is within three
            of its standard errors, sqrt(2) times ours, for the publication's Monte Carlo has one of the same size;
            ``"factor 2"``, a rough size, where the publication's setting is known in outline only.
    """

    what: str
    published: float
    ours: float
    standard_error: float | None = None
    decimals: int = 4
    rule: str = "digits"

    def agrees(self) -> bool:
        """Tell whether ours agrees with the published figure, by the rule."""
        if self.rule == "errors":
            return bool(abs(self.ours - self.published) <= 3 * 2**0.5 * (self.standard_error or 0.0))
        if self.rule == "factor 2":
            return bool(0.5 <= self.ours / self.published <= 2)
        return round(float(self.ours), self.decimals) == round(self.published, self.decimals)

    def record(self) -> dict[str, Any]:
        """Return plain values."""
        return {**self._asdict(), "ours": float(self.ours), "agrees": self.agrees()}


class Plan(NamedTuple):
    """How much to run.

    Attributes:
        quick: a small run of everything, which says nothing about the figures.
        workers: pieces that are computed side by side.
    """

    quick: bool
    workers: int


def in_pieces(task: Callable[[np.ndarray], Any], n: int, size: int, workers: int) -> Any:
    """Run ``task`` on the numbers 0 to n - 1, ``size`` at a time, so that memory does not grow with ``n``.

    Args:
        task: from numbers (size,) int to a pytree of arrays with ``size`` as their first axis. The last piece is filled
            up with numbers that have been done already, so that one shape is compiled.
        n: how many.
        size: of a piece.
        workers: pieces that are computed side by side, a thread each.

    Returns:
        The pytree of NumPy arrays, first axis n.
    """
    size = min(size, n)

    def piece(first: int) -> Any:
        with jax.enable_x64(True):  # a thread has settings of its own
            found = task((first + np.arange(size)) % n)
        return jax.tree.map(lambda leaf: np.asarray(leaf)[: n - first], found)

    firsts = range(0, n, size)
    start = [piece(0)]  # compiles, once
    with ThreadPoolExecutor(workers) as pool:
        pieces = start + list(pool.map(piece, firsts[1:]))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *pieces)


def data_file(name: str) -> Path | None:
    """Return a file of the folder that JAXALLOC_DATA names; None where there is none."""
    folder = os.environ.get("JAXALLOC_DATA")
    path = Path(folder) / name if folder else None
    return path if path is not None and path.is_file() else None


def variance_error(x: np.ndarray) -> float:
    """Return the standard error of the sample variance of x (n,): sqrt((m4 - m2^2) / n)."""
    squared = (x - x.mean()) ** 2
    return float(np.sqrt(squared.var() / len(x)))


def variance_ratio_error(x: np.ndarray, y: np.ndarray) -> float:
    """Return the standard error of var(x) / var(y) of paired x, y (n,), by the delta method."""
    a, b = (x - x.mean()) ** 2, (y - y.mean()) ** 2
    influence = a / b.mean() - a.mean() / b.mean() ** 2 * b
    return float(influence.std() / np.sqrt(len(x)))


def median_error(x: np.ndarray) -> float:
    """Return the standard error of the median of x (n,), by 500 bootstrap resamples."""
    rng = np.random.default_rng(0)
    return float(np.std([np.median(rng.choice(x, len(x))) for _ in range(500)]))


def table(headings: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
