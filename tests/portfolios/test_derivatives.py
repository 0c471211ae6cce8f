"""Derivatives of `allocate`, against central differences of `allocate` itself, where no set of bounds changes.

All universes are of 8 assets and 40 rows, 128 at a time, in one program.
Settings that compile other programs are slow tests.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import compiled, count_compilations

import jaxalloc as ja
from jaxalloc.portfolios.profiles import PROFILES
from jaxalloc.portfolios.smooth_formulas import SMOOTH_FORMULAS
from jaxalloc.settings.config import ASSET_PROFILES

N, T, B = 8, 40, 128
STEPS = 1e-6, 5e-6  # the shorter crosses fewer kinks, the longer magnifies less of what a solver leaves unsolved
# by how much a number of the settings goes with a step of 1
NUMBERS = {
    "cluster_cap": 0.1,
    "asset_cap": 0.1,
    "slack": 0.1,
    "risk_free_rate": 0.01,
    "periods_per_year": 10.0,
    "aggressor_weight": 0.05,
    "ewma_decay": 0.001,
}
SMOOTH = (
    *("weights", "cluster_weights", "volatility", "expected_return", "risk_contributions"),
    *("asset_bound", "cluster_bound", "antifragility"),
)
OF_PORTFOLIO = ("volatility", "expected_return", "asset_bound", "cluster_bound")
Universes = dict[str, Any]


def universes(seed: int, given: bool = False) -> tuple[Universes, np.ndarray, Universes]:
    """Random universes, their masks, and a direction for each: weights of 0, masked and unread NaN, caps that bind."""
    rng = np.random.default_rng(seed)
    returns = np.empty((B, T, N))
    for b in range(B):
        factors = rng.integers(1, 5)
        loadings = rng.normal(size=(factors, N)) * (rng.random((factors, N)) < 0.5)
        noise = rng.normal(size=(T, N)) * rng.lognormal(-5, 1, N)
        returns[b] = rng.normal(size=(T, factors)) @ loadings * 0.01 + noise + rng.normal(0, 1e-3, N)
    weights = rng.integers(0, 4, (B, T)) * rng.uniform(0.5, 1.5, (B, T))
    weights[:, :3] += 1
    mask = rng.random((B, N)) < 0.85
    mask[:, :2] = True
    returns = np.where((weights > 0)[:, :, None] & mask[:, None, :], returns, np.nan)
    numbers = {
        "cluster_cap": rng.uniform(0.1, 0.6, B),
        "asset_cap": rng.uniform(0.05, 0.5, B),
        "slack": rng.uniform(1.02, 1.5, B),
        "risk_free_rate": rng.normal(0, 0.02, B),
        "periods_per_year": rng.uniform(50, 260, B),
        "aggressor_weight": rng.uniform(0.01, 0.3, B),
        "ewma_decay": rng.uniform(0.9, 0.999, B),
    }
    at: Universes = {"returns": returns, "weights": weights, "numbers": numbers}
    to: Universes = {
        "returns": rng.normal(size=returns.shape) * 0.01,
        "weights": np.where(weights > 0, rng.normal(size=weights.shape), 0),
        "numbers": {name: rng.normal(size=B) * scale for name, scale in NUMBERS.items()},
    }
    if given:
        at["mean"], to["mean"] = rng.normal(0.05, 0.1, (B, N)), rng.normal(0, 0.1, (B, N))
        roots = rng.normal(size=(B, N, 2 * N)) / 10
        at["covariance"], to["covariance"] = roots @ np.swapaxes(roots, 1, 2), rng.normal(size=(B, N, N)) * 0.01
    return at, mask, to


def allocation(config: ja.AllocationConfig, universe: Universes, mask: Any) -> ja.Allocation:
    return ja.allocate(
        universe["returns"],
        config.replace(**universe["numbers"]),
        universe["weights"],
        mask,
        mean=universe.get("mean"),
        covariance=universe.get("covariance"),
    )


def smooth(config: ja.AllocationConfig, universe: Universes, mask: Any) -> tuple[tuple[Any, ...], ja.Allocation]:
    made = allocation(config, universe, mask)
    return tuple(getattr(made, name) for name in SMOOTH), made


class Found(NamedTuple):
    """Of universes: their portfolios, directional derivatives, and gradients."""

    made: ja.Allocation
    tangents: tuple[np.ndarray, ...]
    gradients: Universes


@functools.cache
def program(config: ja.AllocationConfig) -> Callable[..., Any]:
    """All of it in one program, which is compiled once a session."""

    def one(universe: Universes, mask: Any, to: Universes, cotangents: Any) -> Any:
        _, linear, made = jax.linearize(lambda universe: smooth(config, universe, mask), universe, has_aux=True)
        return made, linear(to), jax.linear_transpose(linear, universe)(cotangents)[0]

    return compiled(jax.vmap(one))


def find(config: ja.AllocationConfig, at: Universes, mask: np.ndarray, to: Universes, seed: int | None = None) -> Found:
    """Run it, with cotangents of ones, or random ones."""
    shapes = [(B, N) if name == "antifragility" else (B, len(config.profiles), N) for name in SMOOTH]
    shapes = [shape[:2] if name in OF_PORTFOLIO else shape for name, shape in zip(SMOOTH, shapes, strict=True)]
    rng, dtype = np.random.default_rng(seed), at["returns"].dtype
    cotangents = tuple(np.ones(shape, dtype) if seed is None else rng.normal(size=shape) for shape in shapes)
    return Found(*jax.tree.map(np.asarray, program(config)(at, mask, to, cotangents)))


def moved(at: Universes, to: Universes, by: float) -> Universes:
    return jax.tree.map(lambda here, direction: here + by * direction, at, to)


def sets(made: ja.Allocation) -> list[np.ndarray]:
    """What is piecewise constant of each universe and profile: (B, P, ...) or (B, 1, ...)."""
    weights, clusters = made.weights, made.cluster_weights
    return [
        made.cluster_labels[:, None],
        made.aggressors[:, None],
        made.status[..., None],
        weights <= 0,
        clusters <= 0,
        np.abs(weights - made.asset_bound[..., None]) < 1e-12,
        np.abs(clusters - made.cluster_bound[..., None]) < 1e-12,
    ]


def check(config: ja.AllocationConfig, seed: int, given: bool = False, least: float = 0.9) -> None:
    """Compare derivatives of universes with central differences, by the better of two steps."""
    at, mask, to = universes(seed, given)
    with jax.enable_x64(True):
        here = find(config, at, mask, to)
        ends = [[find(config, moved(at, to, by), mask, to).made for by in (step, -step)] for step in STEPS]
    valid = here.made.status[:, 0] & ja.Status.INVALID.value == 0
    errors: dict[str, list[np.ndarray]] = {name: [] for name in SMOOTH}
    for step, (ahead, behind) in zip(STEPS, ends, strict=True):
        same = np.broadcast_to(valid[:, None], (B, len(config.profiles)))
        for one, two, three in zip(sets(here.made), sets(ahead), sets(behind), strict=True):
            same = same & ((one == two) & (one == three)).all(axis=-1)
        assert same.mean() > least
        for name, tangent in zip(SMOOTH, here.tangents, strict=True):
            assert np.isfinite(tangent[valid]).all(), name
            differences = (getattr(ahead, name) - getattr(behind, name)) / (2 * step)
            error = np.abs(differences - tangent) / (1 + np.abs(differences))
            of_universe = same.all(axis=1, keepdims=True)
            comparable = of_universe if name == "antifragility" else same if tangent.ndim == 2 else same[..., None]
            errors[name].append(np.where(comparable, error, 0))
    for name, found in errors.items():
        worst = np.minimum(*found).max()
        assert worst <= 1e-6, (name, worst)


DEFAULT = ja.AllocationConfig()


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))])
def test_derivatives_agree_with_central_differences(seed: int) -> None:
    check(DEFAULT, seed)


def test_reverse_mode_is_the_transpose_of_forward_mode() -> None:
    at, mask, to = universes(11)
    with jax.enable_x64(True):
        _, tangents, gradients = find(DEFAULT, at, mask, to, seed=12)
    rng = np.random.default_rng(12)  # the cotangents
    forward = sum((t * rng.normal(size=t.shape)).reshape(B, -1).sum(axis=1) for t in tangents)
    parts = jax.tree.map(lambda g, d: (g * d).reshape(B, -1).sum(axis=1), gradients, to)
    backward = sum(jax.tree.leaves(parts))
    np.testing.assert_allclose(forward, backward, rtol=1e-8, atol=1e-8)
    unread = np.isnan(at["returns"])
    assert (gradients["returns"][unread] == 0).all()
    assert (gradients["weights"][at["weights"] == 0] == 0).all()


def test_another_batch_compiles_nothing_and_an_invalid_universe_harms_none() -> None:
    at, mask, to = universes(13)
    with jax.enable_x64(True):
        clean = find(DEFAULT, at, mask, to)
        spoilt = {**at, "returns": at["returns"].copy()}
        spoilt["returns"][5, np.argmax(at["weights"][5] > 0), 0] = np.inf
        with count_compilations() as compilations:
            found = find(DEFAULT, spoilt, mask, to)
    assert compilations.count == 0
    assert np.isnan(found.gradients["returns"][5]).all()
    assert np.isnan(found.gradients["weights"][5]).all()
    assert all(np.isnan(found.gradients["numbers"][name][5]) for name in NUMBERS if name != "ewma_decay")
    assert all(np.isnan(values[5]).all() for values in found.tangents)
    others = np.arange(B) != 5
    for good, bad in zip(jax.tree.leaves(clean), jax.tree.leaves(found), strict=True):
        np.testing.assert_array_equal(bad[others], good[others])


def test_what_has_no_derivative_has_a_finite_one() -> None:
    """Copies of assets, fewer rows than assets, and a set of bounds that leaves no choice."""
    at, mask, to = universes(14)
    at["returns"][:, :, 2] = at["returns"][:, :, 3]
    at["returns"][:, :, 4] = -2 * at["returns"][:, :, 5]
    mask[:, 2], mask[:, 4] = mask[:, 3], mask[:, 5]
    at["weights"][:64, 6:] = 0
    at["numbers"]["slack"][64:] = 1.0
    with jax.enable_x64(True):
        made, tangents, gradients = find(DEFAULT, at, mask, to)
    valid = made.status[:, 0] & ja.Status.INVALID.value == 0
    assert valid.sum() > 100
    assert (made.status[valid] != 0).any()
    for values in (*tangents, *jax.tree.leaves(gradients)):
        assert np.isfinite(values[valid]).all()
    sums = tangents[SMOOTH.index("weights")][valid].sum(axis=-1)
    np.testing.assert_allclose(sums, 0, atol=1e-6 * (1 + np.abs(tangents[0][valid]).max()))


def test_what_is_discrete_has_no_derivative() -> None:
    returns = np.random.default_rng(15).normal(5e-4, 0.01, (T, N))

    def rest(returns: Any, threshold: Any) -> Any:
        made = ja.allocate(returns, DEFAULT.replace(distance_threshold=threshold))
        return made.optimality_gap, made.cluster_labels.astype(float), made.weights

    def along(returns: Any) -> Any:
        _, linear = jax.linearize(rest, returns, 0.4)
        return *linear(jnp.ones_like(returns), 0.0)[:2], linear(0 * returns, 1.0)[2]

    with jax.enable_x64(True):
        gap, labels, weights = compiled(along)(returns)
    assert not np.asarray(gap).any()
    assert not np.asarray(labels).any()
    assert not np.asarray(weights).any()


@pytest.mark.slow
def test_second_derivatives_are_those_of_the_gradient() -> None:
    """Of the variance of every profile, along a line; differences of its gradient say what they should be."""
    at, mask, to = universes(16, given=True)
    universe, direction = (jax.tree.map(lambda leaf: leaf[3], tree) for tree in (at, to))
    fixed = {name: universe[name] for name in ("returns", "weights", "numbers")}

    def along(s: Any) -> Any:
        moves = {name: universe[name] + s * direction[name] for name in ("mean", "covariance")}
        return allocation(DEFAULT, {**fixed, **moves}, mask[3]).volatility

    with jax.enable_x64(True):
        first = compiled(jax.jacfwd(along))
        second = np.asarray(compiled(jax.jacfwd(jax.jacfwd(along)))(0.0))
        differences = (np.asarray(first(1e-5)) - np.asarray(first(-1e-5))) / 2e-5
    np.testing.assert_allclose(second, differences, rtol=1e-5, atol=1e-5)


def test_every_profile_by_formula_says_what_its_derivative_is() -> None:
    assert set(SMOOTH_FORMULAS) == {name for name, profile in PROFILES.items() if profile.formula is not None}


def test_float32_is_near_float64() -> None:
    at, mask, to = universes(17)
    with jax.enable_x64(True):
        exact = find(DEFAULT, at, mask, to)
    single_at, single_to = (jax.tree.map(lambda leaf: leaf.astype(np.float32), tree) for tree in (at, to))
    with jax.enable_x64(False):
        single = find(DEFAULT, single_at, mask, single_to)
    assert single.tangents[0].dtype == np.float32
    same = (np.abs(single.made.weights - exact.made.weights) < 1e-4).all(axis=-1)
    assert same.mean() > 0.8
    error = np.abs(single.tangents[0] - exact.tangents[0]).max(axis=-1) / (1 + np.abs(exact.tangents[0]).max(axis=-1))
    assert np.median(error[same]) < 1e-4
    assert np.quantile(error[same], 0.9) < 1e-2


SLOW = [
    (DEFAULT.replace(profiles=ASSET_PROFILES), False),
    (DEFAULT.replace(covariance="ewma", linkage="ward", distance_threshold=0.6), False),
    (DEFAULT.replace(covariance="ledoit_wolf", linkage="single", detone=True), False),
    (DEFAULT.replace(covariance="oas", criterion="maxclust", max_clusters=3), False),
    (DEFAULT.replace(linkage="complete", distance="absolute"), False),
    (DEFAULT.replace(profiles=(*DEFAULT.profiles, *ASSET_PROFILES), covariance="ewma"), True),
]


@pytest.mark.slow
@pytest.mark.parametrize(("config", "given"), SLOW)
def test_derivatives_agree_whatever_the_settings(config: ja.AllocationConfig, given: bool) -> None:
    for seed in range(20, 28):
        check(config, seed, given)
