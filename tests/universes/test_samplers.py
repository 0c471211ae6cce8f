"""Samplers: against loops, laws and moments; and what a universe may depend on.

Draws are taken as the engine takes them: `draw_universe` under vmap and jit.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from helpers import batched, count_compilations
from scipy import stats

import jaxalloc as ja
from jaxalloc.arguments.errors import InputError
from jaxalloc.markets.panel import Panel
from jaxalloc.settings.config import AllocationConfig
from jaxalloc.settings.sweep import Sweep, plain_config, sweep
from jaxalloc.universes.bootstrap import Bootstrap, circular_rows
from jaxalloc.universes.samplers import Product, RandomSubsets, RollingWindows, Sampler, holds_out, steps
from jaxalloc.universes.scenarios import Parametric, Stress
from jaxalloc.universes.universe import WHOLE_PANEL, Drawn, draw_universe, seed_key

T, N, YEAR = 23, 5, 252
BLOCK = 64  # universes of a call
RETURNS = np.random.default_rng(0).normal(0.001, 0.01, (T, N))
DRAW = batched(draw_universe, axes=(None, None, 0, None))


def panel_of(values: np.ndarray) -> Panel:
    return Panel(pd.DataFrame(values, columns=[f"A{i}" for i in range(values.shape[1])]))


def prepare(sampler: Sampler, values: np.ndarray = RETURNS) -> Product:
    return Product(sampler.parts).prepare(panel_of(values), len(values), YEAR)


def draw(sampler: Sampler, index: Any = None, seed: int = 0, values: np.ndarray = RETURNS) -> Any:
    """`Drawn` of the universes ``index``, by default all, as NumPy arrays in JAX's present precision."""
    product = prepare(sampler, values)
    index = np.arange(product.count(len(values)), dtype=np.int32) if index is None else np.asarray(index, np.int32)
    simulated = product.parts and product.parts[0].first
    gaps = np.zeros((1, values.shape[1])) if simulated else ~np.isfinite(values)
    shared = steps(product, len(values)), seed_key(seed)
    blocks = []
    for start in range(0, len(index), BLOCK):
        part = index[start : start + BLOCK]
        drawn = DRAW(*shared, np.resize(part, BLOCK), gaps.astype(jnp.zeros(0).dtype))
        blocks.append(jax.tree.map(np.asarray, drawn))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[: len(index)], *blocks)


def within(error: Any, spread: Any, n: int) -> bool:
    """Whether means of n numbers of that spread are off by no more than chance allows."""
    return bool((np.abs(error) < 4.8 * spread / np.sqrt(n)).all())


# The whole panel


def test_nothing_drawn_is_the_whole_panel() -> None:
    drawn = draw(Product())
    assert prepare(Product()).count(T) == 1
    assert drawn.weights.tolist() == [[1] * T]
    assert drawn.mask.tolist() == [[True] * N]
    assert drawn.returns is None
    assert drawn.shock is None


CHANGED = Stress(volatility=[[2.0] * N, [3.0] * N], correlation=0.5, mean=-0.1)


@pytest.mark.parametrize(
    "sampler",
    [
        Bootstrap(4),
        RollingWindows(7, 3),
        RollingWindows(7, 3, expanding=True),
        RandomSubsets(2, n=4),
        CHANGED,
        Bootstrap(4) * RandomSubsets(3) * CHANGED,
    ],
)
def test_whole_panel_is_left_alone_by_every_draw(sampler: Sampler) -> None:
    values = RETURNS.copy()
    values[3, 2] = np.nan
    drawn = draw(sampler, [WHOLE_PANEL, 1], values=values)
    assert drawn.weights[0].tolist() == [1] * T
    assert drawn.mask[0].tolist() == [True, True, False, True, True]
    if drawn.shock is not None:
        assert drawn.shock.volatility[0].tolist() == [1] * N
        assert drawn.shock.mean[0].tolist() == [0] * N
        assert drawn.shock.correlation[0] == 0
        assert drawn.shock.correlation[1] == 0.5
    else:
        assert drawn.weights[1].tolist() != [1] * T or drawn.mask[1].sum() < N - 1


# Rolling windows


@pytest.mark.parametrize("expanding", [False, True])
@pytest.mark.parametrize(("window", "step"), [(7, 3), (2, 1), (5, 21), (23, 4), (22, 1), (9, 9)])
def test_windows_are_those_of_a_loop(window: int, step: int, expanding: bool) -> None:
    expected, first = [], 0
    while first + window <= T:
        held = np.zeros(T)
        held[0 if expanding else first : first + window] = 1
        expected.append(held)
        first += step
    sampler = RollingWindows(window, step, expanding)
    assert sampler.count(T) == len(expected)
    assert sampler.rows_after(T) == max(int(held.sum()) for held in expected)
    assert np.array_equal(draw(sampler).weights, expected)


@pytest.mark.parametrize("expanding", [False, True])
@pytest.mark.parametrize(("window", "step"), [(7, 3), (5, 21), (22, 1), (23, 4), (7, 2**31 - 1)])
def test_a_live_window_ends_on_the_last_row(window: int, step: int, expanding: bool) -> None:
    before = draw(RollingWindows(window, step, expanding)).weights
    found = draw(RollingWindows(window, step, expanding, live=True)).weights
    assert np.array_equal(found[: len(before)], before)
    last = np.arange(T) >= (0 if expanding else T - window)
    assert np.array_equal(found[-1], last)
    assert len(found) == len(before) + (before[-1, -1] == 0)


@pytest.mark.parametrize("expanding", [False, True])
@pytest.mark.parametrize("step", ["week", "month-end", "year"])
def test_windows_by_the_calendar_end_with_its_periods(step: str, expanding: bool) -> None:
    dates = pd.date_range("2023-12-20", periods=T, freq="D")
    panel = panel_of(RETURNS)
    panel = Panel(panel.returns.set_axis(dates, axis=0))
    sampler = RollingWindows(4, step, expanding).prepare(panel, T, YEAR)
    code = {"week": dates.isocalendar().week, "month-end": dates.month, "year": dates.year}[step]
    code = np.asarray(code)
    ends = [row for row in range(3, T) if row == T - 1 or code[row] != code[row + 1]]
    assert sampler.ends(T).tolist() == ends
    expected = [[float((expanding or row > end - 4) and row <= end) for row in range(T)] for end in ends]
    shared = steps(Product((sampler,)), T), seed_key(0)
    weights = [DRAW(*shared, np.full(BLOCK, j, np.int32), np.zeros((T, N))).weights[0] for j in range(len(ends))]
    assert np.array_equal(weights, expected)


def test_a_step_is_a_month_of_rows_by_default() -> None:
    panel = panel_of(RETURNS)
    assert RollingWindows(5).prepare(panel, T, 252).step == 21
    months = Panel(panel.returns.set_axis(pd.date_range("2001-01-31", periods=T, freq="ME"), axis=0))
    assert RollingWindows(5).prepare(months, T, 12).step == 1
    assert RollingWindows(5).count(T) == 1


@pytest.mark.parametrize("expanding", [False, True])
def test_windows_after_a_bootstrap_roll_over_each_resampled_path(expanding: bool) -> None:
    bootstrap, windows = Bootstrap(3, "circular", 4), RollingWindows(10, 5, expanding)
    weights = draw(bootstrap * windows, seed=9).weights
    expected = []
    for i in range(3):
        key = jax.random.fold_in(seed_key(9), i)
        path = np.asarray(circular_rows(key, T, jnp.int32(T), jnp.int32(4)))
        for first in range(0, T - 10 + 1, 5):
            expected.append(np.bincount(path[0 if expanding else first : first + 10], minlength=T))
    assert np.array_equal(weights, expected)


@pytest.mark.parametrize(
    "bootstrap",
    [Bootstrap(6), Bootstrap(6, "circular", 4), Bootstrap(6, "moving", 4), Bootstrap(6, "stationary", 3.5)],
    ids=lambda b: b.method,
)
@pytest.mark.parametrize("expanding", [False, True])
def test_bootstrap_in_a_window_draws_from_its_rows_alone(bootstrap: Bootstrap, expanding: bool) -> None:
    windows = RollingWindows(8, 5, expanding)
    held = draw(windows).weights
    weights = draw(windows * bootstrap, seed=2).weights.reshape(len(held), 6, T)
    for window, resamples in zip(held, weights, strict=True):
        assert (resamples[:, window == 0] == 0).all()
        assert (resamples.sum(axis=1) == window.sum()).all()
        assert len(np.unique(resamples, axis=0)) > 2
    if not expanding:  # resample j draws the same places in every window
        assert all(np.array_equal(weights[0][:, :8], weights[w][:, 5 * w : 5 * w + 8]) for w in range(len(held)))
    anew = draw(windows * dataclasses.replace(bootstrap, n=None), seed=2).weights
    assert np.array_equal(anew.sum(axis=1), held.sum(axis=1))
    assert not np.array_equal(anew[0][:8], anew[1][5:13])


@pytest.mark.parametrize("method", ["circular", "moving"])
def test_block_longer_than_the_first_window_of_an_expanding_study(method: Any) -> None:
    """The block is as long as the last window: in that one, and in a shorter one, it is the window (in a circle)."""
    windows = RollingWindows(8, 5, expanding=True)
    weights = draw(windows * Bootstrap(5, method, windows.rows_after(T)), seed=1).weights
    assert np.array_equal(weights, np.repeat(draw(windows).weights, 5, axis=0))


# Random subsets


def test_every_subset_is_as_likely() -> None:
    n, size, assets = 6000, 3, 7
    values = np.zeros((T, assets))
    masks = draw(RandomSubsets(size, n=n), values=values).mask
    assert (masks.sum(axis=1) == size).all()
    chance = size / assets
    assert within(masks.mean(axis=0) - chance, np.sqrt(chance * (1 - chance)), n)
    pairs = (masks[:, :, None] & masks[:, None, :]).mean(axis=0)[np.triu_indices(assets, 1)]
    chance = size * (size - 1) / (assets * (assets - 1))
    assert within(pairs - chance, np.sqrt(chance * (1 - chance)), n)
    sets, often = np.unique(masks, axis=0, return_counts=True)
    assert len(sets) == 35
    assert within(often / n - 1 / 35, np.sqrt(1 / 35 * 34 / 35), n)


def test_smaller_subset_is_within_the_larger() -> None:
    larger, smaller = (draw(RandomSubsets(size, n=50)).mask for size in (4, 2))
    assert (smaller <= larger).all()
    assert draw(RandomSubsets(N, n=9)).mask.all()
    assert (draw(RandomSubsets(1, n=9)).mask.sum(axis=1) == 1).all()


def test_asset_with_a_gap_in_a_row_held_is_inactive() -> None:
    values = RETURNS.copy()
    gaps = {1: [3], 2: [0, 22], 4: [8, 9, 10]}
    for column, rows in gaps.items():
        values[rows, column] = np.nan
    values[5, 3] = np.inf  # no return either
    for sampler in (Bootstrap(200) * RandomSubsets(4), RollingWindows(4, 1) * RandomSubsets(4, n=3), Bootstrap(200)):
        drawn, full = draw(sampler, values=values), draw(sampler)
        assert np.array_equal(drawn.weights, full.weights)
        unusable = (full.weights > 0) @ ~np.isfinite(values) > 0
        assert np.array_equal(drawn.mask, full.mask & ~unusable)
        assert 0 < drawn.mask.sum() < full.mask.sum()


# Simulated returns

ROWS = 400  # of a simulated panel, and 64 panels in most tests: every other shape compiles for seconds
MIXED = np.diag([0.04, 0.09, 0.25, 0.01, 0.16])
MIXED[0, 1] = MIXED[1, 0] = 0.01
MIXED[1, 2] = MIXED[2, 1] = -0.03
MEAN = np.array([0.1, -0.2, 0.5, 0.0, 1.0])


def simulate(values: np.ndarray = RETURNS, n: int = BLOCK, rows: int | None = ROWS, **settings: Any) -> np.ndarray:
    """(n, rows, N) simulated returns, in float64."""
    with jax.enable_x64(True):
        drawn = draw(Parametric(n, n_observations=rows, **settings), values=values)
    assert drawn.returns is not None
    assert drawn.weights.shape == drawn.returns.shape[:2] == (n, rows or len(values))
    assert (drawn.weights == 1).all()
    assert drawn.mask.all()
    return drawn.returns


@pytest.mark.parametrize("distribution", ["gaussian", "student_t"])
def test_simulated_moments_are_the_panel_s(distribution: Any) -> None:
    x = simulate(distribution=distribution, degrees_of_freedom=9).reshape(-1, N)
    error = x.mean(axis=0) - RETURNS.mean(axis=0)
    assert within(error, RETURNS.std(axis=0, ddof=1), len(x))
    deviation = x - RETURNS.mean(axis=0)
    products = deviation[:, :, None] * deviation[:, None, :]
    assert within(products.mean(axis=0) - np.cov(RETURNS, rowvar=False), products.std(axis=0), len(x))


@pytest.mark.parametrize("distribution", ["gaussian", "student_t"])
def test_given_moments_are_annual(distribution: Any) -> None:
    values = np.full((T, N), np.nan)  # not read
    x = simulate(values, distribution=distribution, mean=MEAN, covariance=MIXED, degrees_of_freedom=12)
    x = x.reshape(-1, N) - MEAN / YEAR
    assert within(x.mean(axis=0), np.sqrt(np.diag(MIXED) / YEAR), len(x))
    products = x[:, :, None] * x[:, None, :] * YEAR
    assert within(products.mean(axis=0) - MIXED, products.std(axis=0), len(x))


def test_tails_are_student_s() -> None:
    """Kurtosis 3 (nu - 2) / (nu - 4); and all assets share a day's wildness, whatever their correlation."""
    given = {"mean": np.zeros(N), "covariance": np.eye(N) * YEAR, "degrees_of_freedom": 12}
    for distribution, excess in (("gaussian", 1.0), ("student_t", 10 / 8)):
        x = simulate(distribution=distribution, **given).reshape(-1, N)
        for fourth, moment in ((x**4, 3 * excess), (x[:, :1] ** 2 * x[:, 1:] ** 2, excess)):
            assert within(fourth.mean(axis=0) - moment, fourth.std(axis=0), len(x))
        radius = (x**2).sum(axis=1) - N
        paired = radius[1:] * radius[:-1]  # a day says nothing about the next
        assert within(paired.mean(), paired.std(), len(paired))


def test_few_degrees_of_freedom_keep_the_law_s_shape() -> None:
    """With 2.5 the variance hardly shows in a sample; quantiles do: those of Student's t, scaled."""
    given = {"mean": np.zeros(N), "covariance": 0.04 * np.eye(N), "degrees_of_freedom": 2.5}
    x = simulate(distribution="student_t", **given)[..., 0].ravel()
    scaled = x / np.sqrt(0.04 / YEAR * 0.5 / 2.5)
    for level in (0.01, 0.25, 0.5, 0.9, 0.999):
        below = (scaled < stats.t.ppf(level, 2.5)).mean()
        assert within(below - level, np.sqrt(level * (1 - level)), len(x))


@pytest.mark.parametrize("degrees", [1e30, 1e300])
def test_very_many_degrees_of_freedom_are_gaussian(degrees: float) -> None:
    given = {"mean": np.zeros(N), "covariance": np.eye(N) * YEAR}
    x = simulate(distribution="student_t", degrees_of_freedom=degrees, **given).reshape(-1, N)
    assert within((x**2).mean(axis=0) - 1, np.sqrt(2), len(x))
    assert within((x**4).mean(axis=0) - 3, np.sqrt(96), len(x))


def test_singular_covariances_are_simulated() -> None:
    loading = np.array([0.1, -0.2, 0.0, 0.3, 0.4])
    x = simulate(mean=np.zeros(N), covariance=np.outer(loading, loading))
    np.testing.assert_allclose(x[..., 1:] * 0.1, loading[1:] * x[..., :1], atol=1e-9)
    assert (x[..., 2] == 0).all()
    assert x[..., 0].std() == pytest.approx(0.1 / np.sqrt(YEAR), rel=0.05)
    few = RETURNS[:3]  # fewer rows than assets
    x = simulate(few).reshape(-1, N)
    assert np.linalg.matrix_rank(np.cov(few, rowvar=False)) == np.linalg.matrix_rank(x - x.mean(axis=0), tol=1e-6) == 2


def test_a_simulated_panel_is_as_long_as_the_panel_by_default() -> None:
    assert simulate(RETURNS[:, :1], 1, rows=None).shape == (1, T, 1)


def test_later_factors_draw_from_the_simulated_rows() -> None:
    alone = draw(Parametric(2, n_observations=31))
    product = Parametric(2, n_observations=31) * RollingWindows(9, 11) * Bootstrap(2) * RandomSubsets(3) * CHANGED
    assert prepare(product).count(T) == 2 * 3 * 2 * 2
    drawn = draw(product)
    assert alone.returns is not None
    assert drawn.returns is not None
    assert drawn.shock is not None
    assert np.array_equal(drawn.returns, np.repeat(alone.returns, 12, axis=0))
    assert drawn.weights.shape == (24, 31)
    for i, weights in enumerate(drawn.weights):
        first = 11 * (i // 4 % 3)
        assert weights.sum() == weights[first : first + 9].sum() == 9
    assert (drawn.mask.sum(axis=1) == 3).all()
    assert drawn.shock.volatility[:, 0].tolist() == [2, 3] * 12


# Stress


def test_scenarios_come_in_order_and_settings_spread_over_them() -> None:
    volatility = np.arange(1.0, 3 * N + 1).reshape(3, N)
    drawn = draw(Stress(volatility=volatility, correlation=(-1, 0.25, 1), mean=0.5)).shock
    assert drawn is not None
    assert np.array_equal(drawn.volatility, volatility)
    assert drawn.correlation.tolist() == [-1, 0.25, 1]
    assert (drawn.mean == np.full((3, N), 0.5)).all()
    by_scenario = draw(Stress(volatility=2, mean=(0.1, 0.2))).shock
    assert by_scenario is not None
    assert np.allclose(by_scenario.mean, [[0.1] * N, [0.2] * N])
    assert (by_scenario.volatility == 2).all()
    one_row = draw(Stress(volatility=[[1, 2, 3, 4, 5]], correlation=[0.1, 0.2, 0.3, 0.4])).shock
    assert one_row is not None
    assert np.array_equal(one_row.volatility, np.tile(np.arange(1.0, 6), (4, 1)))
    nothing = draw(Stress())
    assert nothing.shock is not None
    assert nothing.weights.tolist() == [[1] * T]
    assert (nothing.shock.volatility.tolist(), nothing.shock.correlation.tolist()) == ([[1] * N], [0])
    assert Stress().count(T) == 1


# Products


def test_the_last_factor_changes_fastest_and_those_without_n_follow_what_is_before() -> None:
    sampler = Bootstrap(4) * RandomSubsets(3) * Stress((1, 2))
    assert prepare(sampler).count(T) == sampler.count(T) == 8
    drawn = draw(sampler, seed=6)
    assert drawn.shock is not None
    assert drawn.shock.volatility[:, 0].tolist() == [1, 2] * 4
    for array in (drawn.weights, drawn.mask):
        assert np.array_equal(array[::2], array[1::2])
    assert np.array_equal(drawn.weights[::2], Bootstrap(4).counts(T, 6, 0, 4))
    assert len(np.unique(drawn.mask[::2], axis=0)) > 1
    more = draw(Bootstrap(40) * RandomSubsets(3), seed=6)
    assert np.array_equal(more.mask[:4], drawn.mask[::2])


def test_sizes_multiply() -> None:
    sampler = RandomSubsets(3, n=2) * Bootstrap(3, "circular", 4) * RollingWindows(20, 2) * Stress((1, 2))
    drawn = draw(sampler)
    assert len(drawn.weights) == sampler.count(T) == 2 * 3 * 2 * 2
    by_factor = drawn.mask.reshape(2, 3, 2, 2, N)
    assert (by_factor == by_factor[:, :1, :1, :1]).all()
    assert not np.array_equal(by_factor[0], by_factor[1])
    weights = drawn.weights.reshape(2, 3, 2, 2, T)
    assert (weights == weights[:1, :, :, :1]).all()
    assert len(np.unique(weights[0, :, :, 0].reshape(6, T), axis=0)) == 6


def test_a_product_holds_the_same_resamples_as_the_bootstrap() -> None:
    for bootstrap in (Bootstrap(5), Bootstrap(5, "moving", 4), Bootstrap(5, "stationary", 4.5)):
        counts = bootstrap.counts(T, 3, 0, 5)
        product = bootstrap * RandomSubsets(2, n=3)
        assert np.array_equal(draw(product, seed=3).weights, np.repeat(counts, 3, axis=0))


def test_two_factors_of_a_kind_draw_on_their_own() -> None:
    twice = draw(RandomSubsets(3, n=30) * RandomSubsets(3)).mask
    once = draw(RandomSubsets(3, n=30)).mask
    assert (twice <= once).all()
    assert twice.sum() < once.sum()  # not the same sets again
    again = draw(Bootstrap(5) * Bootstrap(None)).weights
    assert (again.sum(axis=1) == T).all()
    assert (again[Bootstrap(5).counts(T, 0, 0, 5) == 0] == 0).all()


def test_products_flatten() -> None:
    a, b, c = Bootstrap(4), RandomSubsets(3), Stress((1, 2))
    for product in ((a * b) * c, a * (b * c), Product((Product((a, b)), Product((c,))))):
        assert product.parts == (a, b, c)
        assert product.count(T) == 8
        assert product.settings() == (a * b * c).settings()
    assert prepare(Product((Product((a, b)), Product((c,))))).count(T) == 8
    assert Product((a,)).settings() == a.settings()
    assert Product().settings() == {"sampler": "Product", "factors": []}


def test_only_samplers_multiply() -> None:
    with pytest.raises(TypeError):
        _ = Bootstrap(4) * 3  # type: ignore[operator]
    with pytest.raises(NotImplementedError):
        Product().draw()


def test_which_rows_are_out_of_bag() -> None:
    bootstrap, subsets, windows = Bootstrap(4), RandomSubsets(3), RollingWindows(5)
    for sampler, expected in (
        (bootstrap * subsets * Stress(), True),
        (subsets * bootstrap, True),
        (bootstrap * windows, False),
        (windows * bootstrap, False),
        (Parametric(4) * bootstrap, False),
        (subsets * Stress(), False),
        (Product(), False),
    ):
        assert holds_out(Product(sampler.parts)) is expected


# What universe i depends on: the seed and i

SAMPLERS: dict[str, Callable[[int], Sampler]] = {
    "subsets": lambda n: RandomSubsets(3, n=n),
    "resampled windows": lambda n: Bootstrap(n, "stationary", 4.5) * RollingWindows(10, 13),
    "windows resampled": lambda n: RollingWindows(10, 13) * Bootstrap(None, "circular", 3),
    "gaussian": lambda n: Parametric(n, n_observations=ROWS),
    "student": lambda n: Parametric(n, "student_t", 4.5, ROWS),
    "stressed": lambda n: Bootstrap(n, "moving", 6) * RandomSubsets(4) * CHANGED,
}
each_sampler = pytest.mark.parametrize("make", SAMPLERS.values(), ids=SAMPLERS.keys())


def assert_same(a: Drawn, b: Drawn) -> None:
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert np.array_equal(one, other)


@each_sampler
@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_precision_changes_no_draw(make: Callable[[int], Sampler], seed: int) -> None:
    drawn = []
    for x64 in (False, True):
        with jax.enable_x64(x64):
            drawn.append(draw(make(40), seed=seed))
    low, high = drawn
    assert (low.weights.dtype, high.weights.dtype) == (np.float32, np.float64)
    assert np.array_equal(low.weights, high.weights)
    assert np.array_equal(low.mask, high.mask)
    if low.returns is not None:
        assert high.returns is not None
        assert (low.returns.dtype, high.returns.dtype) == (np.float32, np.float64)
        # sums of the same float32 numbers
        size = np.abs(high.returns).max(axis=(1, 2), keepdims=True)
        assert (np.abs(low.returns - high.returns) < 1e-6 * size).all()


@pytest.mark.parametrize("distribution", ["gaussian", "student_t"])
def test_numbers_drawn_are_float32_in_either_precision(distribution: Any) -> None:
    """With mean 0 and covariance 1 a return is the drawn number itself, but for the rounding of a factor near 1."""
    given = {"mean": np.zeros(N), "covariance": np.eye(N) * YEAR, "n_observations": ROWS}
    drawn = []
    for x64 in (False, True):
        with jax.enable_x64(x64):
            drawn.append(draw(Parametric(50, distribution, 4.5, **given)).returns)
    np.testing.assert_allclose(drawn[0], drawn[1], rtol=3e-7)
    np.testing.assert_allclose(drawn[1], drawn[1].astype(np.float32), rtol=1e-14)


@each_sampler
def test_neither_company_nor_number_changes_a_draw(make: Callable[[int], Sampler]) -> None:
    whole = draw(make(40))
    some = np.array([1, 0, 0, 1])
    assert_same(draw(make(3), some), jax.tree.map(lambda leaf: leaf[some], whole))


@pytest.mark.parametrize("name", ["gaussian", "stressed"])
def test_generator_of_the_settings_changes_no_draw(name: str) -> None:
    whole = draw(SAMPLERS[name](40))
    before = jax.config.values["jax_default_prng_impl"]
    jax.config.update("jax_default_prng_impl", "rbg")
    try:
        assert_same(draw(SAMPLERS[name](40)), whole)
    finally:
        jax.config.update("jax_default_prng_impl", before)


@each_sampler
def test_seeds_differ(make: Callable[[int], Sampler]) -> None:
    one, other = draw(make(40), seed=0), draw(make(40), seed=1)
    assert any(
        not np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one[:3]), jax.tree.leaves(other[:3]), strict=True)
    )


def test_other_numbers_compile_nothing() -> None:
    pairs = [
        (RandomSubsets(3, n=8), RandomSubsets(2, n=11)),
        (RollingWindows(10, 6), RollingWindows(12, 5)),
        (RollingWindows(10, 6), RollingWindows(10, 4, expanding=True)),
        (Bootstrap(3, "stationary", 4) * RandomSubsets(3), Bootstrap(9, "stationary", 2) * RandomSubsets(2)),
        (Bootstrap(3) * RandomSubsets(3, n=2), Bootstrap(9) * RandomSubsets(2)),
        (Parametric(3, "student_t", 5, ROWS), Parametric(8, "student_t", 3.5, ROWS, np.zeros(N), np.eye(N))),
        (Parametric(3), Parametric(8, n_observations=T)),
        (Stress((1, 2), 0.1, (0, 0)), Stress(3.0, (0.2, -0.4), 0.5)),
    ]
    index = np.array([0, 1, 2, 1])
    for one, other in pairs:
        draw(one, index)
        with count_compilations() as compiled:
            draw(other, index, seed=5)
        assert compiled.count == 0, other
    with count_compilations() as compiled:
        draw(Parametric(8, n_observations=T + 1), index)
    assert compiled.count > 0


# Settings

PLAIN: list[Sampler] = [
    Bootstrap(5, "circular", 4),
    Bootstrap(np.int64(5), "stationary", np.float32(4.5)),  # type: ignore[arg-type]
    Bootstrap(None),
    RollingWindows(np.int32(7), np.int64(2), np.bool_(True)),  # type: ignore[arg-type]
    RollingWindows(7),
    RandomSubsets(np.int64(3), np.int64(4)),  # type: ignore[arg-type]
    RandomSubsets(3),
    Parametric(4),
    Parametric(4, "student_t", np.float64(3.5), np.int64(ROWS), MEAN, MIXED),  # type: ignore[arg-type]
    Stress(),
    Stress((1, 2), [0.1, 0.2], np.array([[0.1] * N, [0.2] * N]), names=("calm", "wild")),
]
KINDS = {kind.__name__: kind for kind in (Bootstrap, RollingWindows, RandomSubsets, Parametric, Stress)}


def read(settings: dict[str, Any]) -> Sampler:
    if settings["sampler"] == "Product":
        return Product(tuple(read(factor) for factor in settings["factors"]))
    settings = dict(settings)
    return KINDS[settings.pop("sampler")](**settings)


@pytest.mark.parametrize("sampler", PLAIN, ids=lambda s: type(s).__name__)
def test_settings_come_back_from_json(sampler: Sampler) -> None:
    settings = sampler.settings()
    back = json.loads(json.dumps(settings))
    assert back == settings
    names = {field.name for field in dataclasses.fields(sampler) if not field.name.startswith("_")}  # type: ignore[arg-type]
    assert set(settings) == names | {"sampler"}
    assert read(back).settings() == settings
    if sampler.count(T) is not None:
        assert_same(draw(read(back)), draw(sampler))
        settled = prepare(sampler).settings()
        assert json.loads(json.dumps(settled)) == settled


def test_settings_of_a_product_come_back_from_json() -> None:
    product = Bootstrap(4, "circular", 3) * RandomSubsets(3) * Stress((1, 2))
    back = read(json.loads(json.dumps(product.settings())))
    assert [type(part) for part in back.parts] == [Bootstrap, RandomSubsets, Stress]
    assert_same(draw(back), draw(product))


BAD: list[tuple[Sampler, str]] = [
    (RollingWindows(1), "window must be a whole number at least 2, not 1"),
    (RollingWindows(2.5), "window must be a whole number"),  # type: ignore[arg-type]
    (RollingWindows(24), "window must be at most 23, the panel's rows, not 24"),
    (RollingWindows(5, 0), "step must be a whole number at least 1, not 0"),
    (RollingWindows(5, "month-end"), "step='month-end' needs dates, and the rows have none; give a number of rows"),
    (RollingWindows(5, "day"), "step must be a whole number of rows, or one of week, month,"),
    (Parametric(2, n_observations=9) * RollingWindows(5, "week"), "follows the panel's dates, which simulated rows"),
    (RollingWindows(5, True), "step must be a whole number at least 1, not True"),
    (RandomSubsets(0, 5), "size must be a whole number at least 1, not 0"),
    (RandomSubsets(6, 5), "size must be at most 5, the panel's assets, not 6"),
    (RandomSubsets(2, 0), "n, the number of subsets, must be a whole number at least 1, not 0"),
    (RandomSubsets("2", 3), "size must be a whole number"),  # type: ignore[arg-type]
    (RandomSubsets(2), "RandomSubsets comes first and so needs n, the number of universes"),
    (Bootstrap(None), "Bootstrap comes first and so needs n"),
    (Parametric(None), "Parametric comes first and so needs n"),
    (Parametric(0), "n, the number of simulated panels, must be a whole number at least 1"),
    (Parametric(4, "cauchy"), "unknown distribution 'cauchy'; choose from gaussian, student_t"),  # type: ignore[arg-type]
    (Parametric(4, "student_t", 2), "degrees_of_freedom must be greater than 2, not 2"),
    (Parametric(4, "student_t", 2.00000001), "degrees_of_freedom must be greater than 2"),
    (Parametric(4, "student_t", float("inf")), "degrees_of_freedom must be finite"),
    (Parametric(4, "student_t", "five"), "degrees_of_freedom must hold numbers, not 'five'"),  # type: ignore[arg-type]
    (Parametric(4, "student_t", [5, 6]), "degrees_of_freedom must be one number"),  # type: ignore[arg-type]
    (Parametric(4, n_observations=1), "n_observations must be a whole number at least 2, not 1"),
    (Parametric(4, mean=[0.1, 0.2]), "mean must have shape (5,), not (2,)"),
    (Parametric(4, mean=[np.nan] * N), "mean must be finite"),
    (Parametric(4, mean=["a"] * N), "mean must hold numbers"),
    (Parametric(4, covariance=np.ones(N)), "covariance must have shape (5, 5), not (5,)"),
    (Parametric(4, covariance=np.eye(N) + np.eye(N, k=1)), "covariance must be symmetric"),
    (Parametric(4, covariance=np.eye(N) - 0.5), "covariance must be positive semidefinite"),
    (Parametric(4, covariance=-np.eye(N)), "covariance must be positive semidefinite"),
    (Parametric(4, covariance=np.full((N, N), np.inf)), "covariance must be finite"),
    (Parametric(4, covariance=[[1, 2], [3]]), "covariance must hold numbers"),
    (Bootstrap(2) * Parametric(4), "Parametric makes the returns that the others draw from: put it first"),
    (Parametric(4) * Parametric(4), "a product takes one Parametric, not 2"),
    (RollingWindows(5) * Bootstrap(2) * RollingWindows(4), "a product takes one RollingWindows, not 2"),
    (Stress() * Stress(), "a product takes one Stress, not 2"),
    (RollingWindows(5) * Bootstrap(2, "circular", 6), "block_length must be a whole number from 1 to 5"),
    (Bootstrap(2**16) * RandomSubsets(3, n=2**15), "2,147,483,648 universes are too many for one study"),
    (Stress(volatility=0), "volatility multiplies, and must be greater than 0"),
    (Stress(volatility=(1, -1)), "volatility multiplies, and must be greater than 0"),
    (Stress(volatility=np.ones((2, 3))), "volatility has 3 columns, the panel 5 assets"),
    (Stress(volatility=()), "volatility must be a number or a sequence of S"),
    (Stress(mean=np.ones((1, 1, 1))), "mean must be a number or a sequence of S, or an array (S, N)"),
    (Stress(mean="low"), "mean must hold numbers, not 'low'"),
    (Stress(mean=np.nan), "mean must be finite"),
    (Stress(correlation=1.5), "correlation must be between -1 (all the way to zero) and 1 (all the way to one)"),
    (Stress(correlation=np.ones((2, 5))), "correlation must be a number or a sequence of S, not of shape (2, 5)"),
    (Stress((1, 2), (0.1, 0.2, 0.3)), "name [2, 3] scenarios: they must be as many"),
    (Stress((1, 2), names=("one",)), "names must be as many as the scenarios, 2, not 1"),
]


@pytest.mark.parametrize(("sampler", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_bad_settings_are_errors_of_one_line(sampler: Sampler, message: str) -> None:
    with pytest.raises(InputError) as error:
        prepare(sampler)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_moments_of_a_panel_with_gaps_must_be_given() -> None:
    gap = RETURNS.copy()
    gap[3, 2] = np.nan
    for sampler in (Parametric(4), Parametric(4, mean=np.zeros(N)), Parametric(4, covariance=np.eye(N))):
        with pytest.raises(InputError, match=r"returns without gaps: .* or give mean and covariance"):
            prepare(sampler, gap)
    assert np.isfinite(simulate(gap, mean=np.zeros(N), covariance=np.eye(N))).all()


# Sweeps


def test_sweep_is_a_function() -> None:
    assert ja.sweep is sweep
    assert callable(ja.sweep)
    assert isinstance(ja.sweep(cluster_cap=[0.2]), ja.Sweep)


def test_points_of_a_sweep_are_every_combination_the_last_fastest() -> None:
    base = AllocationConfig(profiles=("barbell",), slack=np.float32(1.25))
    grid = sweep(base, cluster_cap=[0.15, np.float64(0.25)], n_aggressors=(3, np.int64(5), 7))
    assert grid.names == ("cluster_cap", "n_aggressors")
    assert grid.points == [(0.15, 3), (0.15, 5), (0.15, 7), (0.25, 3), (0.25, 5), (0.25, 7)]
    assert all(type(cap) is float and type(count) is int for cap, count in grid.points)
    assert len(grid) == 6
    assert grid.config.slack == 1.25
    assert grid.at(4) == plain_config(base).replace(cluster_cap=0.25, n_aggressors=5)
    numbers = grid.numbers(np.array([5, 0, 0]))
    assert numbers["cluster_cap"].tolist() == [0.25, 0.15, 0.15]
    assert numbers["n_aggressors"].tolist() == [7, 3, 3]
    assert numbers["n_aggressors"].dtype.kind == "i"
    json.dumps(grid.grid)


def test_without_a_grid_there_is_one_point() -> None:
    grid = sweep()
    assert grid == Sweep(plain_config(AllocationConfig()))
    assert (len(grid), grid.points, grid.names) == (1, [()], ())
    assert grid.at(0) == grid.config
    assert grid.numbers(np.zeros(3, int)) == {}


def test_values_may_come_as_any_sequence() -> None:
    expected = sweep(cluster_cap=[0.1, 0.2])
    for values in (np.array([0.1, 0.2]), (x / 10 for x in (1, 2)), pd.Series([0.1, 0.2])):
        assert sweep(cluster_cap=values) == expected


@pytest.mark.parametrize(
    ("config", "grid", "message"),
    [
        (None, {"cap": [0.1]}, "cap cannot be swept; what can be: ewma_decay,"),
        (None, {"profiles": [("hrp",)]}, "profiles cannot be swept"),
        (None, {"cluster_cap": 0.1}, "cluster_cap must be a list of values to sweep over, not 0.1"),
        (None, {"cluster_cap": np.array(0.1)}, "cluster_cap must be a list of values"),
        (None, {"cluster_cap": "0.1"}, "cluster_cap must be a list of values to sweep over, not '0.1'"),
        (None, {"cluster_cap": []}, "cluster_cap has no values to sweep over"),
        (None, {"cluster_cap": [0.1, 2]}, "cluster_cap must be greater than 0 and at most 1, not 2"),
        (None, {"cluster_cap": [0.1, np.nan]}, "cluster_cap must be greater than 0"),
        (None, {"cluster_cap": ["a"]}, "cluster_cap must be greater than 0"),
        (None, {"cluster_cap": [[0.1, 0.2]]}, "cluster_cap must be greater than 0"),
        (None, {"cluster_cap": [0.1, 0.2, 0.1]}, "cluster_cap names a value twice: 0.1, 0.2, 0.1"),
        (None, {"n_aggressors": [1.5]}, "n_aggressors must be a whole number"),
        (None, {"max_clusters": [5, 6]}, "max_clusters is read under criterion='maxclust' or"),
        (None, {"ewma_decay": [0.9]}, "ewma_decay is read under covariance='ewma' only"),
        (AllocationConfig(criterion="maxclust"), {"distance_threshold": [0.3]}, "criterion='distance' only"),
        (AllocationConfig(profiles=("risk_parity",)), {"n_aggressors": [3, 5]}, "n_aggressors is read"),
        (AllocationConfig(profiles=("risk_parity",)), {"aggressor_weight": [0.1]}, "aggressor_weight is read"),
        (AllocationConfig(slack=0.5), {"cluster_cap": [0.1]}, "slack must be at least 1"),
        (5, {"cluster_cap": [0.1]}, "config must be an AllocationConfig, not int"),
    ],
)
def test_bad_sweeps_are_errors_of_one_line(config: Any, grid: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        sweep(config, **grid)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_settings_that_a_choice_reads_can_be_swept() -> None:
    assert len(sweep(AllocationConfig(criterion="maxclust"), max_clusters=[4, 8])) == 2
    assert len(sweep(AllocationConfig(covariance="ewma"), ewma_decay=[0.9, 0.97])) == 2
    assert len(sweep(AllocationConfig(profiles=("barbell", "min_variance")), aggressor_weight=[0.1, 0.2])) == 2
