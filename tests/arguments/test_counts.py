"""Counts and sizes beyond what programs number are refused, wherever they come in, and so are their products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import jaxalloc as ja
from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.numbers import MOST_COUNT, check_seed, whole_number
from jaxalloc.studies.plan import make_plan

MARKET = ja.datasets.synthetic_market(n_assets=4, n_observations=40)
BEYOND = (2**31, 10**30, 10**5000)  # Python writes out no number as long as the last


def plan_of(sampler: ja.Sampler, settings: Any = None) -> Any:
    panel = ja.read_returns(MARKET, kind="returns")
    return make_plan(panel, sampler, settings or ja.sweep(), seed=0, precision=64)


@pytest.mark.parametrize("count", BEYOND, ids=["2**31", "10**30", "5,001 digits"])
@pytest.mark.parametrize(
    "make",
    [
        lambda n: ja.Bootstrap(n),
        lambda n: ja.Bootstrap(5).rows(n, 0, 0, 1),
        lambda n: ja.RandomSubsets(2, n=n),
        lambda n: ja.RandomSubsets(n),
        lambda n: ja.RollingWindows(n),
        lambda n: ja.RollingWindows(20, step=n),
        lambda n: ja.Parametric(n),
        lambda n: ja.Parametric(2, n_observations=n),
        lambda n: ja.CombinatorialSplits(groups=n),
        lambda n: ja.CombinatorialSplits(test_groups=n),
        lambda n: ja.CombinatorialSplits(purge=n),
        lambda n: ja.CombinatorialSplits(embargo=n),
        lambda n: whole_number("chunk_size", n, 1),
        lambda n: check_seed(n * 4),
        lambda n: ja.datasets.synthetic_market(n_assets=n),
        lambda n: ja.datasets.synthetic_market(n_observations=n),
    ],
)
def test_counts_beyond_int32_are_refused_in_one_line(make: Callable[[int], Any], count: int) -> None:
    with pytest.raises(InputError) as error:
        make(count)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


def test_the_largest_counts_are_taken() -> None:
    assert ja.Bootstrap(MOST_COUNT).count(40) == ja.Parametric(np.int64(MOST_COUNT)).count(40) == MOST_COUNT
    assert check_seed(2**32 - 1) == 2**32 - 1


def test_products_beyond_int32_are_refused() -> None:
    grid = ja.sweep(cluster_cap=[0.2, 0.3])
    for sampler, settings in (
        (ja.Bootstrap(2**16) * ja.RandomSubsets(2, n=2**15), None),
        (ja.Bootstrap(MOST_COUNT) * ja.RollingWindows(20, step=10), None),
        (ja.Bootstrap(2**30), grid),
    ):
        with pytest.raises(InputError, match="are too many for one study; it takes 2,147,483,647"):
            plan_of(sampler, settings)
    assert plan_of(ja.Bootstrap(2**30 - 1), grid).n_universes == 2**31 - 2
    with pytest.raises(InputError, match="are too many for one universe"):
        plan_of(ja.Parametric(2, n_observations=2**27))
