"""Combinatorial purged splits: against loops, skfolio, and what no training row may be."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import split_oracles as oracle
from helpers import batched, count_compilations

import jaxalloc as ja
from jaxalloc.arguments.errors import InputError
from jaxalloc.markets.panel import Panel
from jaxalloc.report.words import sampler_words
from jaxalloc.universes.bootstrap import Bootstrap
from jaxalloc.universes.samplers import Product, RandomSubsets, RollingWindows, Sampler, holds_out, steps
from jaxalloc.universes.scenarios import Parametric
from jaxalloc.universes.splits import CombinatorialSplits
from jaxalloc.universes.universe import WHOLE_PANEL, draw_universe, seed_key

N = 3
DRAW = batched(draw_universe, axes=(None, None, 0, None))
# rows, groups, test groups, purge, embargo; sizes that divide and that do not, groups of one row, rules that overlap
CASES = [
    (24, 4, 2, 0, 0),
    (23, 5, 2, 0, 1),
    (23, 5, 2, 2, 0),
    (23, 7, 3, 1, 1),
    (29, 6, 1, 3, 2),
    (60, 6, 2, 1, 3),
    (61, 10, 2, 2, 3),
    (59, 4, 3, 3, 4),
    (6, 6, 2, 0, 0),
    (9, 2, 1, 0, 2),
]


def panel_of(n_rows: int) -> Panel:
    values = np.random.default_rng(0).normal(0.001, 0.01, (n_rows, N))
    return Panel(pd.DataFrame(values, columns=list("ABC")))


def prepare(sampler: Sampler, n_rows: int) -> Product:
    return Product(sampler.parts).prepare(panel_of(n_rows), n_rows, 252)


def draw(sampler: Sampler, n_rows: int, index: Any = None, seed: int = 0) -> np.ndarray:
    """(universes, T) how often each universe holds each row, drawn as the engine draws."""
    product = prepare(sampler, n_rows)
    index = np.arange(product.count(n_rows)) if index is None else np.asarray(index)
    drawn = DRAW(steps(product, n_rows), seed_key(seed), index.astype(np.int32), jnp.zeros((n_rows, N)))
    return np.asarray(drawn.weights)


def indicator(rows: list[int], n_rows: int) -> np.ndarray:
    return np.isin(np.arange(n_rows), rows)


@pytest.mark.parametrize("case", CASES)
def test_training_rows_are_those_of_a_loop(case: tuple[int, ...]) -> None:
    n_rows, groups, test_groups, purge, embargo = case
    sampler = CombinatorialSplits(groups, test_groups, purge, embargo)
    expected = np.array([indicator(training, n_rows) for training, _ in oracle.splits(*case)])
    assert sampler.count(n_rows) == len(expected) == math.comb(groups, test_groups)
    assert np.array_equal(sampler.training(n_rows), expected)
    assert np.array_equal(draw(sampler, n_rows), expected)
    assert sampler.rows_after(n_rows) == expected.sum(axis=1).max()


@pytest.mark.parametrize("case", CASES)
def test_no_training_row_is_in_a_test_group_its_purge_or_its_embargo(case: tuple[int, ...]) -> None:
    n_rows, groups, test_groups, purge, embargo = case
    sampler = CombinatorialSplits(groups, test_groups, purge, embargo)
    bounds = sampler.bounds(n_rows)
    assert np.array_equal(np.diff(bounds), [len(rows) for rows in oracle.groups_of(n_rows, groups)])
    assert np.ptp(np.diff(bounds)) <= 1
    for held, tested in zip(draw(sampler, n_rows), sampler.tested(), strict=True):
        for g in tested:
            assert not held[max(bounds[g] - purge, 0) : bounds[g + 1] + purge + embargo].any()
        # and nothing else is left out
        near = np.zeros(n_rows, bool)
        for g in tested:
            near[max(bounds[g] - purge, 0) : bounds[g + 1] + purge + embargo] = True
        assert held[~near].all()


@pytest.mark.parametrize(("groups", "test_groups"), [(2, 1), (5, 1), (6, 2), (7, 3), (10, 2), (8, 7)])
def test_paths_hold_every_group_once(groups: int, test_groups: int) -> None:
    sampler = CombinatorialSplits(groups, test_groups)
    found, tested = sampler.path_splits(), sampler.tested()
    assert found.tolist() == oracle.paths(groups, test_groups)
    assert len(found) == math.comb(groups, test_groups) * test_groups // groups
    pairs = [(split, g) for path in found for g, split in enumerate(path)]
    assert sorted(pairs) == sorted((s, int(g)) for s, chosen in enumerate(tested) for g in chosen)


@pytest.mark.parametrize(
    ("n_rows", "groups", "test_groups", "purge", "embargo"),
    [(60, 6, 2, 0, 0), (60, 6, 2, 2, 0), (60, 6, 3, 1, 3), (120, 10, 2, 3, 4), (120, 10, 8, 0, 5)],
)
def test_splits_and_paths_are_those_of_skfolio(
    n_rows: int, groups: int, test_groups: int, purge: int, embargo: int
) -> None:
    """Where T is a multiple of the groups: else skfolio's last group is the longer one."""
    selection = pytest.importorskip("skfolio.model_selection")
    theirs = selection.CombinatorialPurgedCV(groups, test_groups, purge, embargo)
    ours = CombinatorialSplits(groups, test_groups, purge, embargo)
    bounds = ours.bounds(n_rows)
    pairs = list(theirs.split(np.zeros((n_rows, 1))))
    assert len(pairs) == ours.count(n_rows)
    for held, tested, (training, tests) in zip(ours.training(n_rows), ours.tested(), pairs, strict=True):
        assert np.flatnonzero(held).tolist() == training.tolist()
        assert [rows.tolist() for rows in tests] == [list(range(bounds[g], bounds[g + 1])) for g in tested]
    assert np.array_equal(ours.path_splits(), theirs.recombined_paths.T)


@pytest.mark.parametrize(("n_rows", "rows"), [(60, 1), (100, 1), (101, 2), (250, 3)])
def test_the_embargo_is_one_row_in_a_hundred_by_default(n_rows: int, rows: int) -> None:
    (ready,) = prepare(CombinatorialSplits(5, 2), n_rows).parts
    assert ready == CombinatorialSplits(5, 2, 0, rows)
    assert np.array_equal(
        CombinatorialSplits(5, 2).training(n_rows), CombinatorialSplits(5, 2, 0, rows).training(n_rows)
    )
    assert json.loads(json.dumps(ready.settings())) == {
        "sampler": "CombinatorialSplits",
        "groups": 5,
        "test_groups": 2,
        "purge": 0,
        "embargo": rows,
    }


def test_another_purge_or_embargo_compiles_nothing() -> None:
    draw(CombinatorialSplits(5, 2, 0, 0), 40)
    with count_compilations() as compiled:
        found = draw(CombinatorialSplits(5, 2, 3, 1), 40)
    assert compiled.count == 0
    assert np.array_equal(found, CombinatorialSplits(5, 2, 3, 1).training(40))


def test_the_whole_panel_is_left_alone() -> None:
    assert draw(CombinatorialSplits(4, 2), 24, [WHOLE_PANEL]).tolist() == [[1] * 24]


# Products


def test_a_bootstrap_of_a_split_draws_from_its_training_rows_alone() -> None:
    splits = CombinatorialSplits(5, 2, 1, 1)
    training = splits.training(43)
    weights = draw(splits * Bootstrap(6, "circular", 4), 43, seed=2).reshape(len(training), 6, 43)
    for held, resamples in zip(training, weights, strict=True):
        assert not resamples[:, ~held].any()
        assert (resamples.sum(axis=1) == held.sum()).all()
        assert len(np.unique(resamples, axis=0)) > 2
    assert not holds_out(splits * Bootstrap(6))


def test_splits_of_a_resampled_path_are_of_its_order() -> None:
    bootstrap, splits = Bootstrap(3, "circular", 4), CombinatorialSplits(4, 1, 0, 2)
    rows = bootstrap.rows(22, seed=5, start=0, stop=3)
    expected = [np.bincount(path[held], minlength=22) for path in rows for held in splits.training(22)]
    assert np.array_equal(draw(bootstrap * splits, 22, seed=5), expected)


def test_subsets_of_assets_change_no_rows() -> None:
    splits = CombinatorialSplits(4, 2)
    assert np.array_equal(draw(splits * RandomSubsets(2), 24), draw(splits, 24))


@pytest.mark.parametrize("other", [RollingWindows(6), RollingWindows(6, expanding=True)])
def test_a_product_has_windows_or_splits(other: Sampler) -> None:
    for product in (other * CombinatorialSplits(4, 2), CombinatorialSplits(4, 2) * other):
        with pytest.raises(InputError, match=r"a product takes one of .* both choose rows by their time"):
            prepare(product, 40)
    with pytest.raises(InputError, match="a product takes one CombinatorialSplits, not 2"):
        prepare(CombinatorialSplits(4, 2) * CombinatorialSplits(4, 1), 40)


def test_a_study_takes_it() -> None:
    market = ja.datasets.synthetic_market(n_assets=12, n_observations=60)
    config = ja.AllocationConfig(profiles=("inverse_variance",))
    study = ja.run_study(market, ja.CombinatorialSplits(5, 2), config)
    training = ja.CombinatorialSplits(5, 2).training(60)
    variance = np.array([market.to_numpy()[held].var(axis=0, ddof=1) for held in training])
    expected = 1 / variance / (1 / variance).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(study.weights("inverse_variance"), expected, rtol=1e-10)
    simulated = ja.run_study(market, Parametric(2, n_observations=40) * ja.CombinatorialSplits(4, 1), config)
    assert len(simulated.regret()) == 2
    assert sampler_words(study.record["sampler"]) == "the rows around 2 of 5 groups of rows, each choice of them"


# Errors


@pytest.mark.parametrize(
    ("sampler", "words"),
    [
        (CombinatorialSplits(1, 1), "groups must be a whole number at least 2, not 1"),
        (CombinatorialSplits(2.5, 1), "groups must be a whole number"),  # type: ignore[arg-type]
        (CombinatorialSplits(31, 1), "groups must be at most 30, the panel's rows, not 31"),
        (CombinatorialSplits(5, 0), "test_groups must be a whole number at least 1, not 0"),
        (CombinatorialSplits(5, 5), "test_groups must be less than groups, 5, for rows to be left"),
        (CombinatorialSplits(5, 6), "test_groups must be less than groups, 5, for rows to be left"),
        (CombinatorialSplits(5, 2, -1), "purge must be a whole number at least 0, not -1"),
        (CombinatorialSplits(5, 2, 0, 0.5), "embargo must be a whole number at least 0"),  # type: ignore[arg-type]
        (CombinatorialSplits(20, 10), "10 of 20 groups are chosen in more than 20,000 ways; take fewer groups"),
        (CombinatorialSplits(3, 2, 5), "a split has 0 rows left to decide on, 2 are needed; take fewer test_groups"),
        (CombinatorialSplits(3, 2, 0, 9), "a split has 1 row left to decide on"),
    ],
)
def test_bad_splits_are_named(sampler: CombinatorialSplits, words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        prepare(sampler, 30)
    assert "\n" not in str(error.value)


def test_a_large_choice_is_refused_before_it_is_made() -> None:
    with pytest.raises(InputError, match="more than 20,000 ways"):
        prepare(CombinatorialSplits(40_000, 20_000), 40_000)


def test_every_choice_of_small_numbers_is_right_or_refused() -> None:
    """All settings on few rows: prepared ones draw what the loop says, others leave a split too little."""
    refused = 0
    for groups, test_groups, purge, embargo in itertools.product(range(2, 5), range(1, 4), range(3), range(3)):
        if test_groups >= groups:
            continue
        sampler = CombinatorialSplits(groups, test_groups, purge, embargo)
        expected = [training for training, _ in oracle.splits(11, groups, test_groups, purge, embargo)]
        if min(map(len, expected)) < 2:
            refused += 1
            with pytest.raises(InputError, match="left to decide on"):
                prepare(sampler, 11)
        else:
            assert np.array_equal(draw(sampler, 11), [indicator(rows, 11) for rows in expected])
    assert refused > 5
