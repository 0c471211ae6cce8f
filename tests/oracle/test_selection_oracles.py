"""The oracles of selection against cases worked by hand and published figures."""

from __future__ import annotations

import ast
import math
from pathlib import Path

import numpy as np
import pytest
import selection_oracles as oracle
from scipy import stats


def test_imports_nothing_of_the_package() -> None:
    tree = ast.parse(Path(oracle.__file__).read_text(encoding="utf-8"))
    modules = {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert modules <= {"__future__", "itertools", "math", "dataclasses", "typing", "numpy", "oracles", "scipy"}


def test_two_trials_that_take_turns_are_overfitting_itself() -> None:
    up, down = [0.02, 0.01, 0.03], [-0.02, -0.01, -0.03]
    found = oracle.overfitting(np.array([up + down, down + up]), 2)
    assert found.best == [0, 1]
    assert found.logits == pytest.approx([math.log((1 / 3) / (2 / 3))] * 2)
    assert (found.pbo, found.loss) == (1, 1)
    assert math.isnan(found.slope)


def test_ranks_of_equals_are_their_mean() -> None:
    up, down = [0.02, 0.01], [-0.02, -0.01]
    # on either half the first of the equals wins; on the other half all are equal
    found = oracle.overfitting(np.array([up + up] * 3), 2)
    assert (found.best, found.logits) == ([0, 0], [0, 0])
    assert found.pbo == 1
    # the third is chosen on the first half, and is the last on the second
    assert oracle.overfitting(np.array([down + up, down + up, up + down]), 2).logits[0] == pytest.approx(
        math.log(1 / 3)
    )


def test_track_records_agree_with_each_other() -> None:
    returns = np.random.default_rng(0).normal(0.002, 0.01, 400)
    days = oracle.min_track_record(returns, 0.0, 0.01, 0.975)
    ratio, deviation = oracle.deviation_of_ratio(returns, 0.0)
    assert stats.norm.cdf((ratio - 0.01) * math.sqrt(days - 1) / deviation) == pytest.approx(0.975)


def test_tail_loss_by_hand() -> None:
    returns = [-0.3, -0.2, -0.1] + [0.01] * 37
    assert oracle.conditional_value_at_risk(returns) == pytest.approx(0.25)  # two of forty
    assert oracle.conditional_value_at_risk(returns[:30]) == pytest.approx((0.3 + 0.2 / 2) / 1.5)


def test_tail_gain_of_a_normal_distribution() -> None:
    found = oracle.tail_gain(np.array([0.01]), np.array([[4.0]]))
    assert found[0] == pytest.approx(0.01 + 2 * 2.0627128, abs=1e-6)  # the expected shortfall of tables
