"""Scalar stages beside the lanes: the same portfolios, in any company, and what the scalar solvers leave is solved."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest
from helpers import Array, N, T, bits, bootstrap_counts, market, pick, same_bits, spoil, universes

import jaxalloc as ja
from jaxalloc.engine import scalar, scheduler
from jaxalloc.engine.calls import Calls
from jaxalloc.engine.flow import PartRun
from jaxalloc.engine.making import Stage
from jaxalloc.engine.scalar import Scalar, Unsolved
from jaxalloc.engine.scheduler import Engine, Part
from jaxalloc.engine.stages import Items
from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.settings.config import AllocationConfig
from jaxalloc.universes.samplers import Product, steps
from jaxalloc.universes.universe import WHOLE_PANEL, seed_key

EVERY = AllocationConfig(
    profiles=(
        *("min_variance", "risk_parity", "max_sharpe", "barbell", "hrp", "asset_min_variance"),
        *("asset_max_sharpe", "asset_risk_parity", "max_diversification"),
    )
)


def both_ways(patch: pytest.MonkeyPatch, *arguments: Any, **settings: Any) -> tuple[ja.Allocation, ja.Allocation]:
    """A batch by scalar stages, and in lanes."""
    patch.setenv("JAXALLOC_NUMBA", "")
    by_scalar = ja.allocate_batch(*arguments, **settings)
    patch.setenv("JAXALLOC_NUMBA", "off")
    return by_scalar, ja.allocate_batch(*arguments, **settings)


def assert_same_portfolios(a: ja.Allocation, b: ja.Allocation, tolerance: float) -> None:
    """Equal but for rounding, in all that does not depend on how they were found."""
    for name in ("cluster_labels", "n_clusters", "aggressors", "status"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), name)
    numbers = ("weights", "cluster_weights", "volatility", "expected_return", "risk_contributions", "antifragility")
    for name in (*numbers, "asset_bound", "cluster_bound"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), atol=tolerance, err_msg=name)


def hedged(rng: np.random.Generator) -> Array:
    """A market in which two assets are each other's opposite, so that risk parity has no solution."""
    x = rng.normal(0.0004, 0.01, (T, N))
    x[:, 1] = -0.5 * x[:, 0]
    return x


@pytest.mark.parametrize("profiles", [EVERY.profiles, ("asset_risk_parity",), ("hrp",), ("barbell", "hrp")])
def test_the_same_portfolios_as_in_lanes(monkeypatch: pytest.MonkeyPatch, profiles: tuple[str, ...]) -> None:
    config = EVERY.replace(profiles=profiles)
    with jax.enable_x64(True):
        returns, weights, masks = universes(48)
        assert_same_portfolios(*both_ways(monkeypatch, returns, config, weights, masks), 1e-7)


@pytest.mark.parametrize("linkage", ["average", "single", "complete", "ward"])
@pytest.mark.parametrize("distance", ["correlation", "absolute"])
def test_the_same_clusters_as_in_lanes(monkeypatch: pytest.MonkeyPatch, linkage: Any, distance: Any) -> None:
    config = AllocationConfig(profiles=("equal_weight",), linkage=linkage, distance=distance, distance_threshold=0.55)
    with jax.enable_x64(True):
        returns, weights, masks = universes(48)
        assert_same_portfolios(*both_ways(monkeypatch, returns, config, weights, masks), 1e-12)


@pytest.mark.parametrize(
    "settings", [{"criterion": "maxclust"}, {"criterion": "silhouette"}, {"detone": True}], ids=str
)
def test_clusters_of_the_lanes_have_their_problems_solved(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    config = AllocationConfig(**settings)
    with jax.enable_x64(True):
        returns, weights, masks = universes(16)
        assert_same_portfolios(*both_ways(monkeypatch, returns, config, weights, masks), 1e-7)


def test_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    returns, weights, masks = universes(48)
    a, b = both_ways(monkeypatch, returns.astype(np.float32), AllocationConfig(), weights, masks)
    same = np.flatnonzero((a.cluster_labels == b.cluster_labels).all(axis=1))
    assert len(same) > 40  # the others hold a near-tie
    a, b = pick(a, same), pick(b, same)
    np.testing.assert_allclose(a.weights[:, :2], b.weights[:, :2], atol=2e-3)
    valid = np.isfinite(a.weights).all(axis=(1, 2))
    assert np.nanmax(a.optimality_gap) <= 1e-5
    assert np.abs(a.weights[valid].sum(axis=2, dtype=float) - 1).max() <= 1e-6


@pytest.mark.parametrize("profiles", [("min_variance", "barbell"), ("asset_min_variance",), ("risk_parity",)])
def test_solvers_that_are_late_solve_what_is_left(monkeypatch: pytest.MonkeyPatch, profiles: tuple[str, ...]) -> None:
    across = pytest.importorskip("jaxalloc.kernels.scalar.across")
    # more assets than rows, and one asset that takes all that it may
    returns = np.random.default_rng(0).normal(0, 0.01, (8, 3, N)).repeat(2, axis=1)
    returns[..., 0] *= 0.01
    config = AllocationConfig(profiles=profiles, distance_threshold=1e-6)
    with jax.enable_x64(True):
        expected = ja.allocate_batch(returns, config)
        find, sizes = across.solvers, list[int]()

        def late(dtype: Any, size: int) -> Any:
            sizes.append(size)
            found = find(dtype, size)
            return found._replace(faces=0, bounded=0) if size <= across.FEW else found

        monkeypatch.setattr(across, "solvers", late)
        assert not same_bits(ja.allocate_batch(returns, config), expected)
    assert min(sizes) <= across.FEW < max(sizes)


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names of the programs that have run."""
    names: set[str] = set()
    run = Calls.run

    def seen(self: Calls, stage: Stage, *arguments: Any) -> Any:
        names.add(stage.name)
        return run(self, stage, *arguments)

    monkeypatch.setattr(Calls, "run", seen)
    return names


def test_float32_balances_hedges_as_well_as_rounded_weights_can(
    programs: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What rounding leaves of their gap is not left to the lanes, which would have the same rounding to fight with."""
    rng = np.random.default_rng(8)
    common = rng.normal(0, 0.01, (T, N // 2))
    panel = 0.001 + np.hstack([common, -common]) + rng.normal(0, 3e-4, (T, N))
    weights = np.stack([bootstrap_counts(rng) for _ in range(20)])
    monkeypatch.setenv("JAXALLOC_NUMBA", "")
    with jax.enable_x64(False):
        found = ja.allocate_batch(panel.astype(np.float32), AllocationConfig(), weights)
    with jax.enable_x64(True):
        exact = ja.allocate_batch(panel, AllocationConfig(), weights)
    assert programs == set()
    assert (found.optimality_gap > 1e-5).any()  # which is what they are without hedges
    assert found.optimality_gap.max() < 1e-3
    np.testing.assert_array_equal(found.status, exact.status)
    np.testing.assert_allclose(found.weights[:, 1], exact.weights[:, 1], atol=1e-3)


def test_what_has_no_solution_goes_to_the_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    others, _, _ = universes(15)
    returns = np.stack([*others[:7], hedged(rng), *others[7:14], hedged(rng)])
    returns[3, 5, 2] = np.nan  # and an invalid one
    left: list[int] = []
    solve = Scalar.solve_clusters

    def seen(self: Scalar, *arguments: Any) -> tuple[Any, Unsolved]:
        made = solve(self, *arguments)
        left.extend(made[1].which.tolist())
        return made

    monkeypatch.setattr(Scalar, "solve_clusters", seen)
    with jax.enable_x64(True):
        a, b = both_ways(monkeypatch, returns)
        assert {7, 15} <= set(left)
        others = np.delete(np.arange(16), [7, 15])
        assert_same_portfolios(pick(a, others), pick(b, others), 1e-7)
        np.testing.assert_array_equal(a.status, b.status)
        np.testing.assert_allclose(a.weights[[7, 15], 1], b.weights[[7, 15], 1], atol=1e-7)  # others are not unique
        assert np.nanmax(a.optimality_gap) <= 1e-9
        assert "RISK_REGULARIZED" in bits(a.status[7, 1])
        assert "INVALID" in bits(a.status[3, 0])
        monkeypatch.setenv("JAXALLOC_NUMBA", "")
        alone = ja.allocate_batch(np.delete(returns, [3, 7, 15], axis=0))
        assert same_bits(alone, pick(a, np.delete(np.arange(16), [3, 7, 15]))) == []


def test_every_problem_can_be_left_to_the_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever problems the scalar solvers leave: every second one of every second universe here."""
    solve, solve_assets = Scalar.solve_clusters, Scalar.solve_assets
    across = pytest.importorskip("jaxalloc.kernels.scalar.across")

    def some_left(kernel: Any, place: int) -> Any:
        def solve(*arguments: Any) -> None:
            kernel(*arguments)
            arguments[place][::2, ::2] = True

        return solve

    monkeypatch.setattr(across, "solve_clusters", some_left(across.solve_clusters, -3))
    monkeypatch.setattr(across, "solve_assets", some_left(across.solve_assets, -3))
    with jax.enable_x64(True):
        returns, weights, masks = universes(48)
        assert_same_portfolios(*both_ways(monkeypatch, returns, EVERY, weights, masks), 1e-7)
    assert (solve, solve_assets) == (Scalar.solve_clusters, Scalar.solve_assets)


def test_resamples_are_drawn_by_scalar_kernels_and_are_the_same(
    programs: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    panel = market(5, N)
    index = np.array([WHOLE_PANEL, *range(60)])

    def part(way: str) -> Part:
        monkeypatch.setenv("JAXALLOC_NUMBA", way)
        programs.clear()
        engine = Engine(
            panel.shape,
            AllocationConfig(),
            panel=panel,
            draws=steps(Product((ja.Bootstrap(50, "circular", 5),)), len(panel)),
            key=seed_key(3),
            keep_left_out=True,
        )
        (made,) = engine.start(Items(index=index)).parts
        return made

    with jax.enable_x64(True):
        by_scalar = part("")
        assert "draw" not in programs
        in_lanes = part("off")
        assert "draw" in programs
    np.testing.assert_array_equal(by_scalar.left_out, in_lanes.left_out)
    assert not by_scalar.left_out[0].any()
    assert by_scalar.left_out[1:61].any(axis=1).all()
    assert_same_portfolios(by_scalar.results, in_lanes.results, 1e-7)


@pytest.mark.parametrize(("covariance", "parts"), [("sample", [14, 14, 12]), ("ledoit_wolf", [40])])
def test_small_calls_are_shared_out_where_no_program_pads_them(
    monkeypatch: pytest.MonkeyPatch, covariance: Any, parts: list[int]
) -> None:
    rng, panel, sizes = np.random.default_rng(11), market(5, N), []
    weights = np.stack([bootstrap_counts(rng) for _ in range(40)])
    config = AllocationConfig(covariance=covariance)
    compute = PartRun.compute

    def seen(self: PartRun) -> Any:
        sizes.append(self._count)
        return compute(self)

    monkeypatch.setenv("JAXALLOC_NUMBA", "")
    monkeypatch.setattr(scheduler, "available_cores", lambda: 3)
    monkeypatch.setattr(PartRun, "compute", seen)
    with jax.enable_x64(True):
        whole = ja.allocate_batch(panel, config, weights)
        assert sizes == [40]
        monkeypatch.setattr(scheduler, "_PART_ASSETS", N)
        sizes.clear()
        assert same_bits(ja.allocate_batch(panel, config, weights), whole) == []
    assert sorted(sizes, reverse=True) == parts


def test_the_same_bits_in_any_company() -> None:
    rng = np.random.default_rng(11)
    panel = market(5, 9)
    weights = np.stack([bootstrap_counts(rng) for _ in range(40)])
    with jax.enable_x64(True):
        whole = ja.allocate_batch(panel, EVERY, weights)
        order = rng.permutation(40)
        assert same_bits(ja.allocate_batch(panel, EVERY, weights[order]), pick(whole, order)) == []
        assert same_bits(ja.allocate_batch(panel, EVERY, weights[17:18]), pick(whole, [17])) == []
        weights[3] = 0  # an invalid neighbour
        others = np.delete(np.arange(40), 3)
        assert same_bits(pick(ja.allocate_batch(panel, EVERY, weights), others), pick(whole, others)) == []


def test_a_single_universe_has_the_bits_of_a_batch() -> None:
    panel = market(5, 9)
    with jax.enable_x64(True):
        alone, batch = ja.allocate(panel, EVERY), ja.allocate_batch(panel[None], EVERY)
    assert alone.weights.tobytes() == batch.weights[0].tobytes()


def test_spoiled_universes_are_invalid_as_in_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    returns, weights, masks = (part.copy() for part in universes(10))
    for how in range(5):
        spoil(how, returns[2 * how], weights[2 * how], masks[2 * how])
    with jax.enable_x64(True):
        a, b = both_ways(monkeypatch, returns, AllocationConfig(), weights, masks)
    np.testing.assert_array_equal(a.status, b.status)
    assert np.isnan(a.weights[::2]).all()
    assert np.isfinite(a.weights[1::2]).all()


def test_a_cpu_alone_is_scalar_and_only_where_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAXALLOC_NUMBA", raising=False)
    assert scalar.objection() is None
    assert scalar.is_scalar(Backend.CPU)
    assert not scalar.is_scalar(Backend.ACCELERATOR)
    monkeypatch.setenv("JAXALLOC_NUMBA", "off")
    assert scalar.objection() == "JAXALLOC_NUMBA=off"
    assert not scalar.is_scalar(Backend.CPU)


@pytest.mark.parametrize("missing", [True, False], ids=["not installed", "not compiling"])
def test_without_numba_all_is_done_in_lanes(monkeypatch: pytest.MonkeyPatch, missing: bool) -> None:
    monkeypatch.delenv("JAXALLOC_NUMBA", raising=False)
    if not missing:
        monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    code = f"""
import sys
if {missing}:
    sys.modules["numba"] = None
import numpy as np
import jaxalloc as ja
from jaxalloc.engine import scalar
from jaxalloc.studies.identity import versions_entry
found = ja.allocate_batch(np.random.default_rng(0).normal(0, 0.01, (2, 60, 6)))
assert np.isfinite(found.weights).all()
assert "numba" not in versions_entry()
print(scalar.objection())
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ("numba" if missing else "NUMBA_DISABLE_JIT") in done.stdout
