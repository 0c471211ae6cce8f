"""AllocationConfig: what is traced, what is static, and how a wrong setting is refused."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from helpers import count_compilations

import jaxalloc as ja
from jaxalloc.arguments.errors import InputError
from jaxalloc.settings.config import NUMERIC_FIELDS, STATIC_FIELDS, AllocationConfig, cast_config, check_config


def test_defaults_are_the_contract_s() -> None:
    config = AllocationConfig()
    for name, value in oracles.SETTINGS.items():
        assert getattr(config, name) == ("auto" if name == "periods_per_year" else value), name
    assert check_config(config) is config


def test_numbers_are_leaves_and_choices_are_structure() -> None:
    config = AllocationConfig()
    assert len(jax.tree.leaves(config)) == len(NUMERIC_FIELDS) - 2  # "auto" is no number
    assert len(jax.tree.leaves(config.replace(periods_per_year=12, max_clusters=5))) == len(NUMERIC_FIELDS)
    assert set(NUMERIC_FIELDS) | set(STATIC_FIELDS) == {f.name for f in dataclasses.fields(config)}
    assert set(STATIC_FIELDS) >= {"profiles", "linkage", "criterion", "distance", "detone", "covariance"}
    assert {"n_aggressors", "max_clusters", "cluster_cap", "distance_threshold"} <= set(NUMERIC_FIELDS)
    assert jax.tree.structure(config) == jax.tree.structure(config.replace(cluster_cap=0.3, n_aggressors=2))
    assert jax.tree.structure(config) != jax.tree.structure(config.replace(linkage="single"))


def test_replace_leaves_the_original_alone() -> None:
    config = AllocationConfig()
    assert config.replace(cluster_cap=0.5).cluster_cap == 0.5
    assert config.cluster_cap == 0.25
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.cluster_cap = 0.5  # type: ignore[misc]


def test_numbers_take_the_precision_of_the_returns(dtype: type[np.floating]) -> None:
    config = cast_config(AllocationConfig(cluster_cap=1, max_clusters=np.int64(7), n_aggressors=3.0), dtype)
    for name in NUMERIC_FIELDS:
        leaf = getattr(config, name)
        assert leaf.dtype == (jnp.int32 if name in ("max_clusters", "n_aggressors") else dtype), name
        assert leaf.shape == ()
        assert not leaf.weak_type
    assert (float(config.cluster_cap), int(config.max_clusters), int(config.n_aggressors)) == (1.0, 7, 3)


def test_any_kind_of_number_traces_alike(x64: type[np.floating]) -> None:
    total = jax.jit(lambda c: c.cluster_cap + c.n_aggressors)
    assert float(total(cast_config(AllocationConfig(), x64))) == pytest.approx(5.25)
    for cap, count in (
        (1, 2),
        (np.float32(0.5), np.int64(3)),
        (jnp.asarray(0.5), 4.0),
        (np.float64(0.3), jnp.int32(6)),
    ):
        config = cast_config(AllocationConfig(cluster_cap=cap, n_aggressors=count), x64)
        with count_compilations() as compiled:
            assert float(total(config)) == pytest.approx(float(cap) + float(count))
        assert compiled.count == 0


def test_traced_numbers_are_passed_over() -> None:
    @jax.jit
    def checked(config: AllocationConfig) -> Any:
        return check_config(config).cluster_cap

    assert float(checked(cast_config(AllocationConfig(), np.float32))) == 0.25


def refusal(**changes: Any) -> str:
    with pytest.raises(InputError) as caught:
        check_config(AllocationConfig(**changes))
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert isinstance(caught.value, ValueError)
    return message


OUT_OF_RANGE = {
    "ewma_decay": (0, -0.94, 1.01),
    "cluster_cap": (0, -0.1, 1.01),
    "asset_cap": (0.0, -1, 1.5),
    "slack": (0.99, 0, -1),
    "distance_threshold": (-0.01, 1.01),
    "max_clusters": (0, -3, 2.5),
    "risk_free_rate": (-1, -2.0),
    "periods_per_year": (0, -252),
    "n_aggressors": (0, -1, 1.5),
    "aggressor_weight": (-0.1, 1, 1.5),
}


@pytest.mark.parametrize("name", NUMERIC_FIELDS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, "a quarter", [0.1, 0.2], 1j], ids=repr)
def test_what_is_not_a_finite_number_is_refused(name: str, value: Any) -> None:
    message = refusal(**{name: value})
    assert name in message
    assert repr(value) in message


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in OUT_OF_RANGE.items() for value in values]
)
def test_what_is_out_of_range_is_refused(name: str, value: float) -> None:
    message = refusal(**{name: value})
    assert name in message
    assert repr(value) in message


def test_every_number_has_a_range() -> None:
    assert set(OUT_OF_RANGE) == set(NUMERIC_FIELDS)


@pytest.mark.parametrize("name", NUMERIC_FIELDS)
def test_text_is_no_number_even_if_it_looks_like_one(name: str) -> None:
    number = 10 if name == "max_clusters" else oracles.SETTINGS[name]
    assert name in refusal(**{name: str(number)})


@pytest.mark.parametrize("name", ["max_clusters", "n_aggressors"])
@pytest.mark.parametrize("value", [2**31 - 1, 2**31, 2**40, 1e12])
def test_a_count_beyond_int32_is_refused_or_kept(name: str, value: float) -> None:
    config = AllocationConfig(**{name: value})
    try:
        check_config(config)
    except InputError as error:
        refused = str(error)
    else:
        refused = ""
        assert int(getattr(cast_config(config, np.float32), name)) == 2**31 - 1  # no wrap-around: as many as there are
    assert not refused or name in refused


@pytest.mark.parametrize(
    "changes",
    [
        {"cluster_cap": 1, "asset_cap": 1},
        {"cluster_cap": 1e-6, "asset_cap": 1e-6},
        {"slack": 1},
        {"distance_threshold": 0},
        {"distance_threshold": 1.0},
        {"distance_threshold": 3.0, "linkage": "ward"},
        {"aggressor_weight": 0},
        {"ewma_decay": 1, "covariance": "ewma"},
        {"max_clusters": 1, "n_aggressors": 1},
        {"max_clusters": np.int64(5), "n_aggressors": np.float32(2)},
        {"risk_free_rate": -0.01},
        {"risk_free_rate": jnp.float32(0.02)},
        {"profiles": ["barbell"]},
    ],
    ids=repr,
)
def test_what_is_in_range_passes(changes: dict[str, Any]) -> None:
    check_config(AllocationConfig(**changes))


@pytest.mark.parametrize("name", ["linkage", "criterion", "distance", "covariance"])
@pytest.mark.parametrize("value", ["", "Average", "centroid", None, 3, ["average"]], ids=repr)
def test_an_unknown_choice_is_refused_with_the_choices(name: str, value: Any) -> None:
    message = refusal(**{name: value})
    assert name in message
    assert repr(value) in message
    assert getattr(AllocationConfig(), name) in message


@pytest.mark.parametrize(
    ("profiles", "says"),
    [
        ("risk_parity", "profiles"),
        ((), "profiles"),
        (("risk_parity", "riskparity"), "'riskparity'"),
        (("barbell", "barbell"), "profiles"),
        (None, "profiles"),
        ((["barbell"],), "profile"),
    ],
    ids=repr,
)
def test_wrong_profiles_are_refused(profiles: Any, says: str) -> None:
    assert says in refusal(profiles=profiles)


@pytest.mark.parametrize("config", [None, {"cluster_cap": 0.3}, "default"], ids=repr)
def test_a_config_of_another_kind_is_refused(config: Any) -> None:
    with pytest.raises(InputError, match="AllocationConfig"):
        check_config(config)


def test_auto_goes_through_jax_and_stands_for_252_periods(x64: type[np.floating]) -> None:
    config = AllocationConfig()
    assert jax.tree.map(lambda leaf: leaf, config) == config
    assert jax.jit(lambda c: c)(config).periods_per_year == jax.jit(lambda c: c)(config).max_clusters == "auto"
    paths = {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(config)}
    assert paths == {f".{name}" for name in NUMERIC_FIELDS if name not in ("periods_per_year", "max_clusters")}
    assert float(cast_config(config, x64).periods_per_year) == 252
    assert int(cast_config(config, x64).max_clusters) == 10
    assert int(cast_config(config.replace(criterion="silhouette"), x64).max_clusters) == 40
    returns = np.random.default_rng(0).normal(0, 0.01, (40, 5))
    config = config.replace(profiles=("inverse_volatility",))  # it is the year that is looked at
    wanted = ja.allocate(returns, config.replace(periods_per_year=252))
    for got in (ja.allocate(returns, config), jax.jit(lambda c, x: ja.allocate(x, c))(config, returns)):
        np.testing.assert_allclose(got.volatility, wanted.volatility, rtol=1e-5)


def test_no_other_text_or_none_stands_for_periods() -> None:
    for value in ("Auto", "", b"auto", None):
        assert '"auto"' in refusal(periods_per_year=value)
    with pytest.raises(InputError, match="periods_per_year must be"):
        jax.jit(lambda c: check_config(c).cluster_cap)(AllocationConfig(periods_per_year=None))
    with pytest.raises(InputError, match="must be swept over numbers, not 'auto'"):
        ja.sweep(periods_per_year=["auto", 252])
