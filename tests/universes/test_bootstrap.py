"""Bootstraps: written again in loops from the same draws, their laws, and what a universe may depend on."""

from __future__ import annotations

import itertools
import json
import sys
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
from helpers import count_compilations

from jaxalloc.arguments.errors import InputError
from jaxalloc.markets.panel import Panel
from jaxalloc.universes.bootstrap import Bootstrap, optimal_block_length, stationary_rows
from jaxalloc.universes.samplers import Product, Sampler

T, MANY = 23, 700
BOOTSTRAPS = [
    Bootstrap(MANY, "iid"),
    Bootstrap(MANY, "circular", 5),
    Bootstrap(MANY, "moving", 5),
    Bootstrap(MANY, "stationary", 4.5),
]
each_bootstrap = pytest.mark.parametrize("bootstrap", BOOTSTRAPS, ids=lambda b: b.method)


def key_of(seed: int, universe: int) -> jax.Array:
    return jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), universe)


def starts_of(key: jax.Array, n_rows: int, highest: int) -> list[int]:
    return np.asarray(jax.random.randint(key, (n_rows,), 0, highest, np.int32)).tolist()


def rows_in_loops(bootstrap: Bootstrap, seed: int, universe: int, n_rows: int) -> list[int]:
    """The rows of one resample, block by block as the papers tell it."""
    key = key_of(seed, universe)
    rows: list[int] = []
    if bootstrap.method == "stationary":
        assert isinstance(bootstrap.block_length, float)
        key_start, key_new = jax.random.split(key)
        starts = starts_of(key_start, n_rows, n_rows)
        new = np.asarray(jax.random.uniform(key_new, (n_rows,), np.float32)) < np.float32(1 / bootstrap.block_length)
        for position in range(n_rows):
            rows.append(starts[position] if position == 0 or new[position] else (rows[-1] + 1) % n_rows)
        return rows
    length = int(bootstrap.block_length or 1)
    starts = starts_of(key, n_rows, n_rows - length + 1 if bootstrap.method == "moving" else n_rows)
    while len(rows) < n_rows:
        start = starts.pop(0)
        rows += [(start + k) % n_rows for k in range(length)]
    return rows[:n_rows]


@each_bootstrap
def test_counts_are_those_of_the_rows_drawn_in_loops(bootstrap: Bootstrap) -> None:
    counts = bootstrap.counts(T, seed=7, start=250, stop=262)
    assert counts.dtype == np.int32
    for universe, row in zip(range(250, 262), counts, strict=True):
        assert row.tolist() == np.bincount(rows_in_loops(bootstrap, 7, universe, T), minlength=T).tolist()


@each_bootstrap
def test_every_resample_is_as_long_as_the_panel(bootstrap: Bootstrap) -> None:
    counts = bootstrap.counts(T, 0, 0, MANY)
    assert counts.shape == (MANY, T)
    assert (counts >= 0).all()
    assert (counts.sum(axis=1) == T).all()


def expected_counts(bootstrap: Bootstrap, n_rows: int) -> np.ndarray:
    """1 on the circle and for iid; moving blocks by going through every start of every block."""
    if bootstrap.method != "moving":
        return np.ones(n_rows)
    length, expected = int(bootstrap.block_length or 1), np.zeros(n_rows)
    for first in range(0, n_rows, length):
        starts = n_rows - length + 1
        for start in range(starts):
            expected[start : start + min(length, n_rows - first)] += 1 / starts
    return expected


@each_bootstrap
def test_expected_counts(bootstrap: Bootstrap) -> None:
    counts = bootstrap.counts(T, 1, 0, MANY)
    error = counts.std(axis=0) / np.sqrt(MANY)
    assert (np.abs(counts.mean(axis=0) - expected_counts(bootstrap, T)) < 4.5 * error).all()


def test_stationary_rows_follow_each_other_as_geometric_blocks_do() -> None:
    n_rows, length, lags = 40, 8.0, np.arange(1, 20)
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(2), i))(np.arange(2000, dtype=np.uint32))
    draw = jax.jit(jax.vmap(stationary_rows, in_axes=(0, None, None, None)), static_argnums=1)
    rows = np.asarray(draw(keys, n_rows, np.int32(n_rows), np.float32(1 / length)))
    together = (1 - 1 / length) ** lags  # no new block within so many rows; otherwise the row is any
    for lag, chance in zip(lags, together + (1 - together) / n_rows, strict=True):
        follows = (rows[:, lag:] - rows[:, :-lag] - lag) % n_rows == 0
        by_universe = follows.mean(axis=1)
        assert abs(by_universe.mean() - chance) < 4.5 * by_universe.std() / np.sqrt(len(rows))


@pytest.mark.parametrize("method", ["circular", "moving"])
def test_a_block_as_long_as_the_panel_is_the_panel(method: Any) -> None:
    assert (Bootstrap(9, method, T).counts(T, 3, 0, 9) == 1).all()


def test_blocks_of_one_row_are_iid() -> None:
    assert np.array_equal(Bootstrap(9, "circular", 1).counts(T, 3, 0, 9), Bootstrap(9).counts(T, 3, 0, 9))


def test_circular_rows_come_in_whole_arcs() -> None:
    """A count changes by the blocks that start less those that end: whole blocks of 6 do so at the same place mod 6."""
    counts = Bootstrap(50, "circular", 6).counts(24, 4, 0, 50)
    changes = counts - np.roll(counts, 1, axis=1)
    assert (changes.reshape(50, 4, 6).sum(axis=1) == 0).all()
    assert (changes != 0).any()


# What universe i depends on: the seed and i


@each_bootstrap
@pytest.mark.parametrize("seed", [0, 2**31, 2**32 - 1])
def test_precision_changes_no_draw(bootstrap: Bootstrap, seed: int) -> None:
    drawn = []
    for x64 in (False, True):
        with jax.enable_x64(x64):
            drawn.append(bootstrap.counts(T, seed, 0, 300))
    assert drawn[0].dtype == drawn[1].dtype == np.int32
    assert np.array_equal(*drawn)


@each_bootstrap
def test_chunks_change_no_draw_and_compile_nothing(bootstrap: Bootstrap) -> None:
    whole = bootstrap.counts(T, 5, 0, 700)
    bounds = [0, 1, 1, 255, 257, 640, 700]
    with count_compilations() as compiled:
        parts = [bootstrap.counts(T, 5, start, stop) for start, stop in itertools.pairwise(bounds)]
    assert np.array_equal(np.concatenate(parts), whole)
    assert compiled.count == 0


def test_another_block_length_compiles_nothing() -> None:
    Bootstrap(3, "circular", 5).counts(T, 0, 0, 3)
    with count_compilations() as compiled:
        Bootstrap(3, "circular", 6).counts(T, 0, 0, 3)
    assert compiled.count == 0


@each_bootstrap
def test_number_of_universes_changes_no_draw(bootstrap: Bootstrap) -> None:
    few = Bootstrap(3, bootstrap.method, bootstrap.block_length)
    assert np.array_equal(few.counts(T, 5, 0, 3), bootstrap.counts(T, 5, 0, 3))


def test_generator_of_the_settings_changes_no_draw() -> None:
    drawn = BOOTSTRAPS[1].counts(T, 5, 0, 3)
    before = jax.config.values["jax_default_prng_impl"]
    jax.config.update("jax_default_prng_impl", "rbg")
    try:
        assert np.array_equal(BOOTSTRAPS[1].counts(T, 5, 0, 3), drawn)
    finally:
        jax.config.update("jax_default_prng_impl", before)


@each_bootstrap
def test_seeds_and_universes_differ(bootstrap: Bootstrap) -> None:
    n_rows = 200  # so many that two resamples are not alike by chance
    counts = np.concatenate([bootstrap.counts(n_rows, seed, 0, 100) for seed in (0, 1, 2**32 - 1)])
    assert len(np.unique(counts, axis=0)) == len(counts)


# Settings


@pytest.mark.parametrize(
    ("bootstrap", "message"),
    [
        (Bootstrap(0), "n, the number of resamples, must be a whole number at least 1, not 0"),
        (Bootstrap(2.5), "n, the number of resamples"),  # type: ignore[arg-type]
        (Bootstrap(True), "n, the number of resamples"),
        (Bootstrap(5, "block", 3), "unknown bootstrap method 'block'; choose from iid, circular"),  # type: ignore[arg-type]
        (Bootstrap(5, "iid", 3), "the iid bootstrap has no blocks"),
        (Bootstrap(5, "circular"), "the circular bootstrap needs a block_length"),
        (Bootstrap(5, "moving", 0), "a whole number from 1 to 23, the panel's rows, not 0"),
        (Bootstrap(5, "circular", 24), "from 1 to 23, the panel's rows, not 24"),
        (Bootstrap(5, "circular", 2.5), "a whole number from 1 to 23"),
        (Bootstrap(5, "stationary", 0.5), "a number from 1 to 23"),
        (Bootstrap(5, "stationary", float("nan")), "not nan"),
        (Bootstrap(5, "moving", "5"), "not '5'"),  # type: ignore[arg-type]
    ],
)
def test_bad_settings_are_errors_of_one_line(bootstrap: Bootstrap, message: str) -> None:
    for call in (lambda: bootstrap.check(T), lambda: bootstrap.counts(T, 0, 0, 1)):
        with pytest.raises(InputError) as error:
            call()
        assert message in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, None, True, "0"])
def test_bad_seeds_are_errors(seed: Any) -> None:
    with pytest.raises(InputError, match="seed must be a whole number from 0 to 4294967295"):
        Bootstrap(5).counts(T, seed, 0, 5)


@pytest.mark.parametrize(("start", "stop"), [(0, 6), (-1, 3), (3, 2)])
def test_ranges_outside_are_errors(start: int, stop: int) -> None:
    with pytest.raises(InputError, match="not within 0 to n = 5"):
        Bootstrap(5).counts(T, 0, start, stop)


def test_numpy_numbers_are_numbers() -> None:
    bootstrap = Bootstrap(np.int64(5), "circular", np.float64(4.0))  # type: ignore[arg-type]
    drawn = bootstrap.counts(T, np.uint32(3), 0, 5)  # type: ignore[arg-type]
    assert np.array_equal(drawn, Bootstrap(5, "circular", 4).counts(T, 3, 0, 5))
    settings = {"sampler": "Bootstrap", "n": 5, "method": "circular", "block_length": 4.0}
    assert json.loads(json.dumps(bootstrap.settings())) == settings


def test_bootstrap_is_a_sampler() -> None:
    assert isinstance(Bootstrap(5), Sampler)
    assert Bootstrap(5).parts == (Bootstrap(5),)
    assert (Bootstrap(5).count(T), Bootstrap(None).count(T)) == (5, None)


def test_without_an_end_any_resample_can_be_drawn() -> None:
    endless, last = Bootstrap(None, "circular", 5), 2**31 - 1
    assert np.array_equal(endless.counts(T, 5, 690, 700), BOOTSTRAPS[1].counts(T, 5, 690, 700))
    assert endless.counts(T, 5, last - 2, last).tolist() == [
        np.bincount(rows_in_loops(endless, 5, universe, T), minlength=T).tolist() for universe in (last - 2, last - 1)
    ]
    with pytest.raises(InputError, match="not within 0 to n = 2147483647"):
        endless.counts(T, 5, 0, last + 1)


# The length of a block, chosen


def autocorrelated(n_rows: int, n_assets: int, seed: int = 3) -> np.ndarray:
    """Returns with an autocorrelation that grows from asset to asset."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 0.01, (n_rows, n_assets))
    for t in range(1, n_rows):
        x[t] += np.linspace(0, 0.6, n_assets) * x[t - 1]
    return x


def panel_of(values: np.ndarray) -> Panel:
    return Panel(pd.DataFrame(values, columns=[f"A{i}" for i in range(values.shape[1])]))


@pytest.mark.parametrize("method", ["circular", "moving", "stationary"])
def test_automatic_length_is_the_mean_of_arch_s(method: Any) -> None:
    arch = pytest.importorskip("arch.bootstrap")
    x = autocorrelated(300, 4)
    column = "stationary" if method == "stationary" else "circular"
    wanted = np.mean([arch.optimal_block_length(x[:, i])[column].iloc[0] for i in range(4)])
    assert 2 < wanted < 40
    if method == "stationary":
        assert optimal_block_length(x, method) == pytest.approx(wanted, rel=1e-12)
    else:
        assert optimal_block_length(x, method) == np.ceil(wanted)
    ready = Bootstrap(7, method, "auto").prepare(panel_of(x), 300, 252)
    assert ready == Bootstrap(7, method, optimal_block_length(x, method))
    assert json.loads(json.dumps(ready.settings()))["block_length"] == ready.block_length
    assert json.loads(json.dumps(Bootstrap(7, method, "auto").settings()))["block_length"] == "auto"


def test_automatic_length_passes_over_columns_that_have_none() -> None:
    pytest.importorskip("arch.bootstrap")
    x = autocorrelated(300, 4)
    odd = np.column_stack([x, np.full(300, 0.001), x[:, 0]])
    odd[7, 5] = np.nan
    assert optimal_block_length(odd, "circular") == optimal_block_length(x, "circular")


def test_automatic_length_is_within_the_panel_and_the_window() -> None:
    pytest.importorskip("arch.bootstrap")
    trend = np.arange(400.0)[:, None] * [1e-4, 2e-4]
    length = optimal_block_length(trend, "circular")
    assert 20 < length <= 400
    assert Bootstrap(1, "circular", "auto").prepare(panel_of(trend), 12, 252).block_length == 12
    shaken = np.random.default_rng(0).normal(size=(200, 1)) * np.resize([1.0, -1.0], (200, 1))
    assert optimal_block_length(shaken, "stationary") >= 1


@pytest.mark.parametrize(
    "values",
    [autocorrelated(15, 2), np.full((50, 2), 0.01), np.where(np.eye(50, 2) > 0, np.nan, autocorrelated(50, 2))],
)
def test_automatic_length_needs_something_to_go_by(values: np.ndarray) -> None:
    pytest.importorskip("arch.bootstrap")
    with pytest.raises(InputError, match="needs 16 rows and an asset without gaps; give a length"):
        Bootstrap(5, "circular", "auto").prepare(panel_of(values), len(values), 252)


def test_automatic_length_without_arch_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "arch.bootstrap", None)
    with pytest.raises(InputError, match=r"needs the package arch; install jaxalloc\[blocks\], or give a length"):
        Bootstrap(5, "moving", "auto").prepare(panel_of(autocorrelated(60, 2)), 60, 252)


@pytest.mark.parametrize(
    ("bootstrap", "message"),
    [
        (Bootstrap(5, "iid", "auto"), "the iid bootstrap has no blocks"),
        (Bootstrap(5, "block", "auto"), "unknown bootstrap method 'block'"),  # type: ignore[arg-type]
        (Bootstrap(5, "circular", "best"), "not 'best'"),  # type: ignore[arg-type]
        (Bootstrap(None), "Bootstrap comes first and so needs n"),
        (Bootstrap(-1), "n, the number of resamples,"),
        (Bootstrap(5, "circular", 61), "from 1 to 60"),
    ],
)
def test_preparing_checks_the_settings(bootstrap: Bootstrap, message: str) -> None:
    with pytest.raises(InputError) as error:
        Product((bootstrap,)).prepare(panel_of(autocorrelated(60, 2)), 60, 252)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
