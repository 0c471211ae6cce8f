"""Means of groups of universes: exact, whatever comes at once."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import jaxalloc as ja
from jaxalloc.settings.sweep import as_sweep
from jaxalloc.studies.bags import Bags
from jaxalloc.studies.compute import RunOptions, compute_bags
from jaxalloc.studies.folder import load_study
from jaxalloc.studies.plan import Plan
from jaxalloc.universes import bootstrap
from jaxalloc.universes.samplers import Product, RollingWindows

SIZE, GROUPS, P, N = 7, 5, 3, 4


def empty() -> Bags:
    shape = (GROUPS, P, N)
    return Bags(
        size=SIZE, count=np.zeros(GROUPS, int), first=np.zeros(shape), total=np.zeros(shape), squares=np.zeros(shape)
    )


def universes(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(N), size=(SIZE * GROUPS, P))
    valid = rng.random(SIZE * GROUPS) < 0.8
    valid[SIZE : 2 * SIZE] = False  # a group without any
    valid[2 * SIZE + 1 : 3 * SIZE] = False  # and one with a single one
    valid[2 * SIZE] = True
    weights[~valid] = np.nan
    return weights, valid


@pytest.mark.parametrize("chunk", [1, 2, 5, SIZE, 16, 100])
def test_means_and_deviations_are_those_of_the_valid_universes(chunk: int) -> None:
    weights, valid = universes(1)
    bags, whole = empty(), empty()
    whole.add(0, weights, valid)
    for start in range(0, len(weights), chunk):
        bags.add(start, weights[start : start + chunk], valid[start : start + chunk])
    for name, array in whole.arrays().items():
        np.testing.assert_array_equal(getattr(bags, name), array)  # to the last bit
    for group in range(GROUPS):
        own = slice(group * SIZE, (group + 1) * SIZE)
        some = weights[own][valid[own]]
        assert bags.count[group] == len(some)
        if len(some):
            np.testing.assert_allclose(bags.mean()[group], some.mean(axis=0), atol=1e-15)
            np.testing.assert_array_equal(bags.mean(slice(group, group + 1))[0], bags.mean()[group])
        else:
            assert np.isnan(bags.mean()[group]).all()
        if len(some) > 1:
            np.testing.assert_allclose(bags.deviation()[group], some.std(axis=0, ddof=1), atol=1e-15)
        else:
            assert np.isnan(bags.deviation()[group]).all()


def test_weights_that_never_move_have_no_deviation() -> None:
    bags = empty()
    same = np.broadcast_to(np.array([1 / 3, 1 / 3, 1 / 6, 1 / 6]), (SIZE * GROUPS, P, N))
    bags.add(0, same, np.ones(SIZE * GROUPS, bool))
    assert (bags.deviation() == 0).all()


def test_float32_weights_sum_to_one_in_the_mean() -> None:
    weights, valid = universes(2)
    bags = empty()
    bags.add(0, weights.astype(np.float32), valid)
    mean = bags.mean()
    np.testing.assert_allclose(mean[bags.count > 0].sum(axis=2), 1, atol=1e-15)


def plan_of(n: int = 6, **changes: object) -> Plan:
    returns = np.random.default_rng(3).normal(0.0005, 0.01, (80, N))
    sampler = Product((RollingWindows(40, 10), bootstrap.Bags(n, "circular", 5)))
    settings = as_sweep(ja.AllocationConfig(profiles=("risk_parity", "max_sharpe"), periods_per_year=252))
    made = Plan(
        returns=returns, sampler=sampler, settings=settings, seed=4, precision=64, keep="weights", chunk_size=None
    )
    return dataclasses.replace(made, **changes)


def test_sums_that_no_memory_holds_are_refused() -> None:
    settings = as_sweep(ja.AllocationConfig(profiles=("risk_parity",), periods_per_year=252))
    returns = np.broadcast_to(0.0, (100_000, 8000))
    sampler = Product((RollingWindows(250, 1), bootstrap.Bags(2)))
    with pytest.raises(ja.InputError, match="bagged portfolios of 99,751 windows take about 18 GiB"):
        Bags.of(plan_of(returns=returns, sampler=sampler, settings=settings))


def test_each_window_has_resamples_of_its_own() -> None:
    from jaxalloc.universes.samplers import steps
    from jaxalloc.universes.universe import draw_universe, seed_key

    def counts(n: int, universe: int) -> np.ndarray:
        sampler = Product((RollingWindows(40, 10), bootstrap.Bags(n, "circular", 5)))
        drawn = draw_universe(steps(sampler, 80), seed_key(9), np.int32(universe), np.zeros((80, 1), np.float32))
        return np.asarray(drawn.weights)

    # resample 3 of window 2, whatever the number of resamples is
    np.testing.assert_array_equal(counts(6, 2 * 6 + 3), counts(11, 2 * 11 + 3))
    own = [counts(6, 6 * window + 3)[10 * window : 10 * window + 40] for window in range(5)]
    assert all(each.sum() == 40 for each in own)
    assert len({each.tobytes() for each in own}) == len(own)  # positions differ from window to window


def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path: object) -> None:
    from jaxalloc.markets.source import Source

    class StopError(Exception):
        pass

    plan = plan_of(chunk_size=512, sampler=Product((RollingWindows(40, 1), bootstrap.Bags(60, "circular", 5))))
    source = Source(symbols=list("ABCD"), dates=None, data={"sha256": "x"}, notes=[])
    whole = compute_bags(plan, source, RunOptions())
    done = 0

    def stop(count: int) -> None:
        nonlocal done
        done += count
        if done >= 1024:
            raise StopError

    with pytest.raises(StopError):
        compute_bags(plan, source, RunOptions(out=tmp_path, progress=stop))
    seen: list[int] = []
    again = compute_bags(plan, source, RunOptions(out=tmp_path, resume=True, progress=seen.append))
    for name, array in whole.arrays().items():
        np.testing.assert_array_equal(getattr(again, name), array)
    assert sum(seen) == plan.n_universes
    with pytest.raises(ja.InputError, match="holds sums over resamples"):
        load_study(tmp_path)
