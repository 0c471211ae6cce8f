"""allocate_batch: whole portfolios against the oracle, the same bits in any company, and nothing compiled twice."""

from __future__ import annotations

import gc
import threading
import warnings
from concurrent.futures import CancelledError
from functools import cache
from typing import Any

import jax
import numpy as np
import oracles
import pytest
from helpers import (
    TOLERANCES,
    Array,
    N,
    T,
    Tolerance,
    assert_as_oracle,
    assert_invalid,
    assert_promises,
    bits,
    bootstrap_counts,
    count_compilations,
    make_every_step,
    market,
    one,
    pick,
    same_bits,
    spoil,
    universes,
)
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import jaxalloc as ja
from jaxalloc.arguments.errors import InputError
from jaxalloc.engine.batch import allocate_batch
from jaxalloc.engine.flow import PartRun
from jaxalloc.engine.problems import Problems
from jaxalloc.engine.scheduler import Engine
from jaxalloc.engine.solving import Solutions, Solving
from jaxalloc.engine.stages import Items
from jaxalloc.portfolios.result import RESULT_FIELDS, Allocation
from jaxalloc.settings.config import AllocationConfig
from jaxalloc.universes.universe import Draw, seed_key

DEFAULT = AllocationConfig()
OTHER = AllocationConfig(
    distance_threshold=0.5,
    cluster_cap=0.4,
    asset_cap=0.125,
    slack=1.25,
    risk_free_rate=0.03125,
    periods_per_year=52,
    n_aggressors=3,
    aggressor_weight=0.25,
)


@cache
def expected(config: AllocationConfig, count: int) -> list[oracles.Allocation]:
    """The oracle's answers to the first universes; the same for both precisions, as their numbers are."""
    return [oracles.allocate(x, config, c, a) for x, c, a in zip(*(part[:count] for part in universes()), strict=True)]


def panel_universes(count: int = 96) -> tuple[Array, Array, Array]:
    """(panel, weights, masks) of universes that share one panel with gaps: bootstraps, windows, random subsets."""
    panel = market(5, 9)
    panel[:6, 2] = np.nan  # a late listing
    panel[50:, 10] = np.nan
    weights, masks = np.ones((count, T)), np.ones((count, N), bool)
    for i in range(count):
        rng = np.random.default_rng([33, i])
        if i % 3 == 0:
            weights[i] = bootstrap_counts(rng)
        elif i % 3 == 1:
            weights[i] = (np.arange(T) >= i // 3) & (np.arange(T) < i // 3 + 28)
        masks[i, rng.permutation(N)[: int(rng.integers(0, 7))]] = False
        gaps = np.isnan(panel[weights[i] > 0]).any(axis=0)
        if i % 24 != 23:  # these few are INVALID
            masks[i] &= ~gaps
    return panel, weights, masks


# Whole portfolios


@pytest.mark.parametrize("config", [DEFAULT, OTHER], ids=["default", "other numbers"])
def test_universes_equal_the_oracle_s(config: AllocationConfig, dtype: Any, tol: Tolerance) -> None:
    count = 160 if config is DEFAULT else 96
    returns, weights, masks = (part[:count] for part in universes())
    found = allocate_batch(returns, config, weights, masks)
    assert found.weights.dtype == dtype
    exact = dtype is np.float64
    near_ties = 0
    for i, answer in enumerate(expected(config, count)):
        universe = one(found, i)
        if not exact and not np.array_equal(universe.cluster_labels, answer.labels):
            near_ties += 1  # counted, and looked at below
            assert_promises(universe, config, tol, f"universe {i}")
            continue
        assert_as_oracle(universe, answer, config, tol, f"universe {i}")
    assert near_ties <= 1
    clusters = np.unique(found.n_clusters)
    assert len(clusters) >= 11  # INVALID and 1 to 12 clusters, so that both sizes of problems are in use


def test_the_test_universes_cover_what_can_happen() -> None:
    answers = expected(DEFAULT, 160)
    flags = {flag for answer in answers for found in answer.status.values() for flag in found}
    assert flags == {
        *(
            "INVALID",
            "ASSET_DROPPED",
            "CLUSTER_CAP_RELAXED",
            "ASSET_BOUND_RAISED",
            "SHARPE_FALLBACK",
            "FEWER_AGGRESSORS",
        )
    }
    assert {answer.n_clusters for answer in answers} >= set(range(10))
    assert sum("INVALID" in answer.status["barbell"] for answer in answers) == 5


def test_shared_panel_equals_the_oracle_s(dtype: Any, tol: Tolerance) -> None:
    panel, weights, masks = panel_universes()
    found = allocate_batch(panel, DEFAULT, weights, masks)
    invalid = 0
    for i in range(len(weights)):
        answer = oracles.allocate(panel, DEFAULT, weights[i], masks[i])
        invalid += "INVALID" in answer.status["barbell"]
        assert_as_oracle(one(found, i), answer, DEFAULT, tol, f"universe {i}")
    assert invalid == 4


def test_shared_panel_equals_own_panels(x64: Any) -> None:
    panel, weights, masks = panel_universes()
    shared = allocate_batch(panel, DEFAULT, weights, masks)
    own = allocate_batch(np.repeat(panel[None], len(weights), 0), DEFAULT, weights, masks)
    np.testing.assert_array_equal(shared.cluster_labels, own.cluster_labels)
    np.testing.assert_array_equal(shared.status, own.status)
    np.testing.assert_array_equal(shared.lead_assets, own.lead_assets)
    np.testing.assert_allclose(shared.weights, own.weights, atol=1e-7)
    np.testing.assert_allclose(shared.volatility, own.volatility, rtol=1e-9)


# Same bits


@cache
def reference(bits_of: int) -> Allocation:
    """All 160 universes in one call."""
    with jax.enable_x64(bits_of == 64):
        returns, weights, masks = universes()
        return allocate_batch(returns, DEFAULT, weights, masks)


def of(dtype: Any) -> Allocation:
    return reference(64 if dtype is np.float64 else 32)


def test_a_second_run_has_the_same_bits(dtype: Any) -> None:
    returns, weights, masks = universes()
    assert same_bits(allocate_batch(returns, DEFAULT, weights, masks), of(dtype)) == []


@pytest.mark.parametrize("chunk_size", [1, 600, 10_000])
def test_chunk_size_changes_no_bit(chunk_size: int, dtype: Any) -> None:
    """Three groups of universes, in chunks of one, of two, and in one chunk whose parts go side by side."""
    returns, weights, masks = universes()
    index = np.random.default_rng(3).permutation(np.resize(np.arange(160), 1200))
    found = allocate_batch(returns[index], DEFAULT, weights[index], masks[index], chunk_size=chunk_size)
    assert same_bits(found, pick(of(dtype), index)) == []


@pytest.mark.parametrize("seed", range(3))
def test_order_and_batch_length_change_no_bit(seed: int, dtype: Any) -> None:
    returns, weights, masks = universes()
    rng = np.random.default_rng(seed)
    index = rng.permutation(160)[: (160, 97, 31)[seed]]
    found = allocate_batch(returns[index], DEFAULT, weights[index], masks[index])
    assert same_bits(found, pick(of(dtype), index)) == []


def test_a_universe_alone_has_the_same_bits(dtype: Any) -> None:
    returns, weights, masks = universes()
    for i in (0, 7, 23, 30, 47, 159):
        found = allocate_batch(returns[i : i + 1], DEFAULT, weights[i : i + 1], masks[i : i + 1])
        assert same_bits(found, pick(of(dtype), slice(i, i + 1))) == []


def test_repeats_have_the_same_bits_wherever_they_stand(dtype: Any) -> None:
    returns, weights, masks = universes()
    for i in (4, 11):
        index = np.full(600, i)
        found = allocate_batch(returns[index], DEFAULT, weights[index], masks[index])
        assert same_bits(found, pick(of(dtype), index)) == []


def test_neighbours_of_other_sizes_change_no_bit(dtype: Any) -> None:
    returns, weights, masks = universes()
    clusters = of(dtype).n_clusters
    for wanted in (clusters <= 8, clusters > 8, clusters == 1, clusters == 12):
        index = np.flatnonzero(wanted)
        found = allocate_batch(returns[index], DEFAULT, weights[index], masks[index])
        assert same_bits(found, pick(of(dtype), index)) == []


def test_invalid_neighbours_change_no_bit(dtype: Any) -> None:
    returns, weights, masks = (part.copy() for part in universes())
    for i in range(0, 160, 2):
        spoil(i // 2 % 5, returns[i], weights[i], masks[i])
    found = allocate_batch(returns, DEFAULT, weights, masks)
    odd = np.arange(1, 160, 2)
    assert same_bits(pick(found, odd), pick(of(dtype), odd)) == []
    for i in range(0, 160, 2):
        assert_invalid(one(found, i), f"universe {i}")


def test_invalid_neighbours_on_a_shared_panel_change_no_bit(dtype: Any) -> None:
    panel, weights, masks = panel_universes()
    clean = allocate_batch(panel, DEFAULT, weights, masks)
    spoiled = weights.copy()
    spoiled[::2, 11] = (np.nan, -1.0, np.inf, -np.inf) * 12
    found = allocate_batch(panel, DEFAULT, spoiled, masks, chunk_size=64)
    odd = np.arange(1, len(weights), 2)
    assert same_bits(pick(found, odd), pick(clean, odd)) == []
    for i in range(0, len(weights), 2):
        assert_invalid(one(found, i), f"universe {i}")


def test_settings_of_a_neighbouring_call_leave_no_trace(x64: Any) -> None:
    returns, weights, masks = universes()
    allocate_batch(returns, OTHER, weights, masks)
    assert same_bits(allocate_batch(returns, DEFAULT, weights, masks), of(x64)) == []


# Nothing compiled twice


def test_new_numbers_compile_nothing(dtype: Any) -> None:
    of(dtype)
    make_every_step(dtype, 12, 20)
    returns, weights, masks = universes()
    rng = np.random.default_rng(0)
    order = rng.permutation(160)
    settings = (
        DEFAULT,
        DEFAULT.replace(cluster_cap=1, asset_cap=1, slack=2, risk_free_rate=0, periods_per_year=12),
        DEFAULT.replace(cluster_cap=np.float32(0.3), n_aggressors=np.int64(2), max_clusters=3.0),
        DEFAULT.replace(distance_threshold=np.float64(0.5), n_aggressors=7, aggressor_weight=0),
        DEFAULT.replace(n_aggressors=1, max_clusters=1, cluster_cap=True),
    )
    with count_compilations() as compiled:
        for config in settings:
            allocate_batch(1.5 * returns[order], config, weights[order], masks[order])
    assert compiled.count == 0


def test_kinds_of_input_compile_nothing(x64: Any) -> None:
    of(x64)
    make_every_step(x64, 12, 20)
    returns, weights, masks = universes()
    with count_compilations() as compiled:
        allocate_batch(returns.astype(np.float32), DEFAULT, weights.astype(np.int64), masks.astype(int))
        allocate_batch(list(returns[:70]), DEFAULT, weights[:70].tolist(), masks[:70].tolist())
        allocate_batch(returns, None, weights)
        allocate_batch(returns, None, None, masks)
        allocate_batch(returns)
    assert compiled.count == 0


def test_another_panel_of_the_shape_compiles_nothing(dtype: Any) -> None:
    panel, weights, masks = panel_universes()
    allocate_batch(panel, DEFAULT, weights, masks)
    make_every_step(dtype, 12, 20)
    with count_compilations() as compiled:
        allocate_batch(market(6, 5), OTHER, weights[::-1], masks[::-1])
    assert compiled.count == 0


# The engine


def test_the_engine_gives_what_allocate_batch_gives(x64: Any) -> None:
    panel, weights, masks = panel_universes()
    whole = allocate_batch(panel, DEFAULT, weights, masks)
    engine = Engine(panel.shape, DEFAULT, 50, panel=panel)
    assert engine.chunk_size == engine.sizes.group > 50
    for part in (slice(0, 64), slice(64, 96), slice(7, 8)):
        chunk = engine.start(Items(weights=weights[part], mask=masks[part]))
        assert sum(mine.count for mine in chunk.parts) == part.stop - part.start
        assert same_bits(chunk.allocation(), pick(whole, part)) == []


def test_a_return_that_float32_has_no_number_for_is_a_status() -> None:
    """Warnings are errors here: the cast says nothing, the universe's status does, and the neighbour is as alone."""
    returns = np.random.default_rng(6).normal(0, 0.01, (2, 30, 5))
    config = DEFAULT.replace(profiles=("equal_weight",))  # it is the data that is looked at
    good = allocate_batch(returns[1:], config)
    returns[0, 3, 2] = 1e60
    found = allocate_batch(returns, config)
    assert (found.status[0] == ja.Status.INVALID).all()
    assert same_bits(pick(found, slice(1, 2)), good) == []
    masks = np.ones((2, 5), bool)
    masks[1, 2] = False
    shared = allocate_batch(returns[0], config, None, masks)  # one panel; the second universe leaves the asset out
    assert (shared.status[0] == ja.Status.INVALID).all()
    assert np.isfinite(shared.weights[1]).all()


def test_a_chunk_is_begun_before_the_last_one_is_waited_for(x64: Any) -> None:
    """Whatever is begun is done in its order; what fails, or is cancelled, leaves the others and the engine alone."""
    panel, weights, masks = panel_universes()
    engine = Engine(panel.shape, DEFAULT, 64, panel=panel)
    items = [Items(weights=weights[part], mask=masks[part]) for part in (slice(0, 64), slice(32, 96))]
    whole = allocate_batch(panel, DEFAULT, weights, masks)

    def fail(_: int) -> None:
        raise ZeroDivisionError

    first, failing, cancelled, last = (
        engine.start(items[0]),
        engine.start(items[1], progress=fail),
        engine.start(items[0]),
        engine.start(items[1]),
    )
    cancelled.cancel()
    with pytest.raises(ZeroDivisionError):
        assert failing.parts
    assert same_bits(last.allocation(), pick(whole, slice(32, 96))) == []
    assert same_bits(first.allocation(), pick(whole, slice(0, 64))) == []
    together = [np.concatenate(leaves) for leaves in zip(*map(jax.tree.leaves, first.allocations()), strict=True)]
    assert all(
        np.array_equal(a, b, equal_nan=True) for a, b in zip(together, jax.tree.leaves(first.allocation()), strict=True)
    )


def test_a_cancelled_chunk_says_so(x64: Any) -> None:
    panel, weights, masks = panel_universes()
    engine = Engine(panel.shape, DEFAULT, 64, panel=panel)
    items, gate = Items(weights=weights[:64], mask=masks[:64]), threading.Event()
    held = [engine.start(items, progress=lambda _: gate.wait()) for _ in engine.devices]  # each has something to do
    behind = engine.start(items)
    behind._stop.set()  # as `cancel` does, which then waits
    gate.set()
    with pytest.raises(CancelledError):
        assert behind.parts
    assert all(chunk.parts for chunk in held)


def test_settings_of_each_universe_are_its_own(x64: Any) -> None:
    """Neighbours with other numbers: every universe has the bits that it has where all have its numbers."""
    panel, weights, masks = panel_universes()
    caps, aggressors = np.array([0.25, 0.4, 1.0]), np.array([5, 1, 2])
    kind = np.arange(len(weights)) % 3
    engine = Engine(panel.shape, DEFAULT, panel=panel)
    numbers = {"cluster_cap": caps[kind], "n_aggressors": aggressors[kind]}
    make_every_step(x64, 12, 20)
    with count_compilations() as compiled:
        mixed = engine.start(Items(weights=weights, mask=masks), numbers).allocation()
        for k in range(3):
            config = DEFAULT.replace(cluster_cap=caps[k], n_aggressors=aggressors[k])
            alone = allocate_batch(panel, config, weights, masks)
            assert same_bits(pick(mixed, kind == k), pick(alone, kind == k)) == []
    assert compiled.count == 0


def test_idle_lanes_leave_no_trace(x64: Any) -> None:
    """Part tiles: lanes that have nothing to do neither overwrite a universe nor raise a flag or a warning."""
    returns, weights, masks = universes()
    for count in (1, 2, 31, 32, 33, 63):
        found = allocate_batch(returns[:count], DEFAULT, weights[:count], masks[:count])
        assert same_bits(found, pick(of(x64), slice(0, count))) == []
    nothing = allocate_batch(returns[:3], DEFAULT, np.zeros((3, T)), masks[:3])  # not one lane with work in its slot
    for i in range(3):
        assert_invalid(one(nothing, i), f"universe {i}")


def test_buffers_are_given_away_without_a_warning(x64: Any) -> None:
    """JAX warns of buffers that it was given and could not use; the arguments stay the caller's."""
    panel, weights, masks = panel_universes()
    engine = Engine(panel.shape, DEFAULT, 64, panel=panel)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = engine.start(Items(weights=weights[:64], mask=masks[:64]))
        second = engine.start(Items(weights=weights[32:], mask=masks[32:]))
    # the second chunk has buffers of its own
    assert same_bits(pick(first.allocation(), slice(32, 64)), pick(second.allocation(), slice(0, 32))) == []


def test_a_part_s_memory_goes_with_it(x64: Any) -> None:
    """Python frees at once what does not refer to itself; for circles it looks when it likes."""
    returns = np.stack([market([16, i], 3) for i in range(3)])

    def parts() -> int:
        return sum(isinstance(thing, (PartRun, Solving, Problems, Solutions)) for thing in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        ja.allocate(returns[0])
        allocate_batch(returns)
        assert parts() == 0
    finally:
        gc.enable()


def test_progress_counts_every_universe_once(monkeypatch: pytest.MonkeyPatch, x64: Any) -> None:
    monkeypatch.setenv("JAXALLOC_NUMBA", "off")  # scalar kernels solve a whole group at once
    returns, weights, masks = universes()
    steps: list[int] = []
    allocate_batch(returns, DEFAULT, weights, masks, chunk_size=64, progress=steps.append)
    assert sum(steps) == 160
    assert len(steps) > 1
    assert min(steps) > 0


# Shapes and bad input


def test_results_have_the_contract_s_shapes_and_kinds(dtype: Any) -> None:
    found, p = of(dtype), len(DEFAULT.profiles)
    shapes = {
        "weights": (p, N), "cluster_labels": (N,), "n_clusters": (), "cluster_weights": (p, N), "lead_assets": (p, N),
        "aggressors": (N,), "antifragility": (N,), "volatility": (p,), "expected_return": (p,),
        "risk_contributions": (p, N), "asset_bound": (p,), "cluster_bound": (p,),
        "optimality_gap": (p,), "iterations": (p,), "status": (p,),
    }  # fmt: skip
    assert set(shapes) == set(RESULT_FIELDS)
    whole = {"cluster_labels", "n_clusters", "lead_assets", "iterations", "status"}
    for name, shape in shapes.items():
        array = getattr(found, name)
        assert isinstance(array, np.ndarray)
        assert array.shape == (160, *shape), name
        kind = np.int32 if name in whole else bool if name == "aggressors" else dtype
        assert array.dtype == kind, name


def test_no_universes_are_no_results(dtype: Any) -> None:
    kinds = of(dtype)
    for found in (
        allocate_batch(np.zeros((0, T, N))),
        allocate_batch(market(0, 3), None, np.zeros((0, T))),
        allocate_batch(
            market(0, 3), None, None, np.zeros((0, N), bool), progress=lambda _: pytest.fail("none is done")
        ),
    ):
        for name in RESULT_FIELDS:
            array, like = getattr(found, name), getattr(kinds, name)
            assert (array.shape, array.dtype) == ((0, *like.shape[1:]), like.dtype), name


def test_one_universe_is_a_batch_of_one(dtype: Any) -> None:
    panel = market(0, 3)
    found = allocate_batch(panel[None])
    assert found.weights.shape == (1, 4, N)
    assert (
        same_bits(allocate_batch(panel, None, np.ones((1, T))), allocate_batch(panel, None, None, np.ones((1, N))))
        == []
    )
    assert_as_oracle(one(found, 0), oracles.allocate(panel), DEFAULT, TOLERANCES[dtype])


def test_arguments_are_left_alone(x64: Any) -> None:
    returns, weights, masks = universes()
    before = returns.copy(), weights.copy(), masks.copy()
    allocate_batch(returns, DEFAULT, weights, masks)
    for a, b in zip(before, (returns, weights, masks), strict=True):
        np.testing.assert_array_equal(a, b)


PANEL, OWN = np.zeros((T, N)), np.zeros((3, T, N))


@pytest.mark.parametrize(
    ("returns", "options", "says"),
    [
        (np.zeros(5), {}, "returns"),
        (np.zeros((2, 3, 4, 5)), {}, "returns"),
        (np.zeros((3, 0, N)), {}, "returns"),
        (np.zeros((3, T, 0)), {}, "returns"),
        (PANEL, {}, "observation_weights"),
        (PANEL, {"observation_weights": np.ones(T)}, "observation_weights"),
        (PANEL, {"observation_weights": np.ones((3, T - 1))}, "observation_weights"),
        (PANEL, {"asset_mask": np.ones(N, bool)}, "asset_mask"),
        (PANEL, {"asset_mask": np.ones((3, N + 1), bool)}, "asset_mask"),
        (PANEL, {"observation_weights": np.ones((3, T)), "asset_mask": np.ones((4, N), bool)}, "asset_mask"),
        (OWN, {"observation_weights": np.ones((2, T))}, "observation_weights"),
        (OWN, {"observation_weights": np.ones(T)}, "observation_weights"),
        (OWN, {"asset_mask": np.ones((3, T), bool)}, "asset_mask"),
        (OWN, {"chunk_size": 0}, "chunk_size"),
        (OWN, {"chunk_size": -5}, "chunk_size"),
        (OWN, {"chunk_size": 2.5}, "chunk_size"),
        (OWN, {"chunk_size": True}, "chunk_size"),
        (OWN, {"config": AllocationConfig(cluster_cap=2)}, "cluster_cap"),
        (OWN, {"config": AllocationConfig(profiles=("tangency",))}, "tangency"),
        (OWN, {"config": {"cluster_cap": 0.5}}, "AllocationConfig"),
        ([["a", "b"]], {"observation_weights": np.ones((3, 1))}, "returns"),
        (OWN, {"observation_weights": [["one"] * T] * 3}, "observation_weights"),
        (1j * OWN, {}, "returns"),
        ([[[1.0, 2.0], [3.0]]], {}, "returns"),
    ],
)
def test_bad_input_is_refused_in_one_line(returns: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as caught:
        allocate_batch(returns, **options)
    assert len(str(caught.value).splitlines()) == 1
    assert says in str(caught.value)


# Any weights, masks and settings


@pytest.mark.parametrize("precision", [np.float32, np.float64])
@given(
    weights=hnp.arrays(np.int8, (4, T), elements=st.sampled_from([0, 0, 0, 1, 1, 2, 5])),
    masks=hnp.arrays(bool, (4, N)),
    few=st.integers(0, T),
    numbers=st.tuples(
        st.sampled_from([0.0625, 0.25, 0.5, 1.0]),
        st.sampled_from([0.03125, 0.125, 0.25, 1.0]),
        st.sampled_from([1.0, 1.0625, 1.5, 4.0]),
        st.sampled_from([0.0, 0.25, 0.5, 1.0]),
        st.integers(1, 12),
        st.sampled_from([0.0, 0.125, 0.5]),
    ),
)
def test_any_universe_keeps_the_promises(
    precision: Any, weights: Array, masks: Array, few: int, numbers: tuple[Any, ...]
) -> None:
    weights = weights.astype(float)
    weights[0, few:] = 0  # fewer rows than assets, down to none
    names = ("cluster_cap", "asset_cap", "slack", "distance_threshold", "n_aggressors", "aggressor_weight")
    config = AllocationConfig(**dict(zip(names, numbers, strict=True)))
    panel = market(7, 7)
    with jax.enable_x64(precision is np.float64):
        found = allocate_batch(panel, config, weights, masks)
    for i in range(4):
        used = weights[i] > 0
        valid = masks[i].any() and weights[i].sum() >= 2 and used.sum() >= 2
        if valid:
            assert_promises(one(found, i), config, TOLERANCES[precision], f"universe {i}")
        else:
            assert_invalid(one(found, i), f"universe {i}")
    assert ja.Status(int(found.status[0, 0])) is not None
    assert bits(0) == set()


def test_a_sampler_of_the_user_s_own_draws_by_its_own_kernel(x64: Any) -> None:
    """Kernels of one name that hold different numbers are different kernels."""
    panel = ja.datasets.synthetic_market(6, 40).to_numpy()

    def last_rows(count: int) -> Any:
        def kernel(numbers: Any, key: Any, index: Any, universe: Any) -> Any:
            return universe._replace(rows=universe.rows + 40 - count, length=np.int32(count))

        return kernel

    def allocated(count: int) -> Allocation:
        draw = Draw(kernel=last_rows(count), numbers=(), stride=np.int32(1), size=np.int32(0))
        engine = Engine(panel.shape, DEFAULT, panel=panel, draws=(draw,), key=seed_key(0))
        return engine.start(Items(index=np.arange(2))).allocation()

    for count in (20, 30):
        weights = (np.arange(40) >= 40 - count).astype(float)[None]
        expected = allocate_batch(panel, DEFAULT, weights)
        np.testing.assert_allclose(allocated(count).weights[0], expected.weights[0], rtol=1e-12)
