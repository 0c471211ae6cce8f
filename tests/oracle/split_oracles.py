"""Combinatorial purged cross-validation in plain loops, as Lopez de Prado (2018, sections 7.4 and 12.3) tells it."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np


def groups_of(n_rows: int, groups: int) -> list[list[int]]:
    """The rows of each group: dealt out one by one, and then put in order of time."""
    sizes = [0] * groups
    for row in range(n_rows):
        sizes[row % groups] += 1
    rows = iter(range(n_rows))
    return [[next(rows) for _ in range(size)] for size in sizes]


def splits(n_rows: int, groups: int, test_groups: int, purge: int, embargo: int) -> list[tuple[list[int], list[int]]]:
    """Training and test rows of every split."""
    cut = groups_of(n_rows, groups)
    found = []
    for chosen in itertools.combinations(range(groups), test_groups):
        test = [row for g in chosen for row in cut[g]]
        training = []
        for row in range(n_rows):
            near = False
            for tested in test:
                # so many rows after a tested row, or, below 0, before it
                after = row - tested
                near = near or -purge <= after <= purge + embargo
            if not near:
                training.append(row)
        found.append((training, test))
    return found


def paths(groups: int, test_groups: int) -> list[list[int]]:
    """On each path the split that holds each group: splits are dealt out in their order, as in the book's figure."""
    used = [0] * groups
    count = math.comb(groups, test_groups) * test_groups // groups
    table = [[-1] * groups for _ in range(count)]
    for number, chosen in enumerate(itertools.combinations(range(groups), test_groups)):
        for g in chosen:
            table[used[g]][g] = number
            used[g] += 1
    return table


def hold(returns: Any, weights: Any, cut: list[list[int]], path: list[int], cost: float) -> list[float]:
    """Net returns of one path, day by day and asset by asset; ``weights`` (S, N) of the splits, NaN where none.

    A missing return counts as 0; money is counted, and not weights: what is worth how much, and what is in cash.
    """
    n_assets = len(weights[0])
    worth, cash, net = [0.0] * n_assets, 1.0, []
    for rows, split in zip(cut, path, strict=True):
        before = sum(worth) + cash
        if not math.isnan(weights[split][0]):
            wanted = [before * weights[split][i] for i in range(n_assets)]
            paid = cost * sum(abs(wanted[i] - worth[i]) for i in range(n_assets)) / before
            # the cost is taken from all holdings alike, on the first day
            worth, cash = [(1 - paid) * value for value in wanted], (1 - paid) * (before - sum(wanted))
        for row in rows:
            for i in range(n_assets):
                worth[i] *= 1 + (0.0 if np.isnan(returns[row][i]) else returns[row][i])
            after = sum(worth) + cash
            net.append(after / before - 1)
            before = after
    return net
