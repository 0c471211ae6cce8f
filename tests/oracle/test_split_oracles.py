"""The oracle of splits against the book's figure and cases worked by hand."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
import split_oracles as oracle


def test_imports_nothing_of_the_package() -> None:
    tree = ast.parse(Path(oracle.__file__).read_text(encoding="utf-8"))
    modules = {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert modules <= {"__future__", "itertools", "math", "typing", "numpy"}


def test_the_books_figure() -> None:
    """Figures 12.1 and 12.2: six groups, two tested; its paths, its splits S1 to S15 counted from 0."""
    assert oracle.paths(6, 2) == [
        [0, 0, 1, 2, 3, 4],
        [1, 5, 5, 6, 7, 8],
        [2, 6, 9, 9, 10, 11],
        [3, 7, 10, 12, 12, 13],
        [4, 8, 11, 13, 14, 14],
    ]


def test_the_first_groups_are_longer() -> None:
    assert oracle.groups_of(8, 3) == [[0, 1, 2], [3, 4, 5], [6, 7]]


def test_purge_and_embargo_by_hand() -> None:
    # rows 0 to 11 in four groups; the second is tested: 2 and 6 are purged, 7 and 8 embargoed
    assert oracle.splits(12, 4, 1, 1, 2)[1] == ([0, 1, 9, 10, 11], [3, 4, 5])
    assert oracle.splits(12, 4, 2, 0, 0)[1] == ([3, 4, 5, 9, 10, 11], [0, 1, 2, 6, 7, 8])


def test_holding_by_hand() -> None:
    returns = [[0.1, 0.0], [0.0, np.nan], [0.0, 0.5]]
    net = oracle.hold(returns, [[0.5, 0.5], [0.0, 1.0]], [[0, 1], [2]], [0, 1], 0.01)
    # buys all: 1 % of 1; then 0.55 / 1.05 of the wealth is sold, and as much bought
    assert net == pytest.approx([0.99 * 1.05 - 1, 0.0, (1 - 0.01 * 1.1 / 1.05) * 1.5 - 1])
