"""The table of what reads a setting: complete, true for every profile, and said in a sentence where nothing does."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import numpy as np
import pytest
from helpers import Array, N, market

from jaxalloc.arguments.errors import InputError
from jaxalloc.engine.single import allocate
from jaxalloc.settings.config import PROFILE_NAMES, AllocationConfig
from jaxalloc.settings.measures import MEASURES
from jaxalloc.settings.readers import CLUSTERING, READERS, unread
from jaxalloc.settings.sweep import sweep

# under these settings every profile has something to gain from every setting that it reads
BASE = AllocationConfig(
    profiles=PROFILE_NAMES,
    asset_cap=0.3,
    cluster_cap=0.45,
    risk_free_rate=0.02,
    n_aggressors=2,
    periods_per_year=252.0,
    distance_threshold=0.62,
    max_clusters=5,
)
# setting -> its other value, and choices under which both are tried
OTHER: dict[str, tuple[Any, dict[str, Any]]] = {
    "linkage": ("single", {}),
    "criterion": ("maxclust", {"max_clusters": 3}),
    "distance": ("absolute", {}),
    "detone": (True, {}),
    "covariance": ("ewma", {}),
    "ewma_decay": (0.99, {"covariance": "ewma"}),
    "distance_threshold": (0.5, {}),
    "max_clusters": (4, {"criterion": "maxclust"}),
    "cluster_cap": (0.3, {}),
    "asset_cap": (0.15, {}),
    "slack": (1.5, {"asset_cap": 0.01}),
    "risk_free_rate": (-0.3, {}),
    "periods_per_year": (52.0, {}),
    "n_aggressors": (1, {}),
    "aggressor_weight": (0.3, {}),
}


@cache
def markets() -> list[Array]:
    """Four markets, in which some assets move against the others."""
    signs = np.where(np.arange(N) % 3 == 0, -1.0, 1.0)
    return [market(seed, n_clusters) * signs for seed, n_clusters in ((11, 6), (12, 4), (13, 7), (14, 3))]


@cache
def weights(**changes: Any) -> Array:
    """(markets, P, N)."""
    return np.stack([np.asarray(allocate(returns, BASE.replace(**changes)).weights) for returns in markets()])


def changed(name: str, value: Any, under: dict[str, Any]) -> set[str]:
    """The profiles whose weights another value of a setting changes in a market, beyond a solver's tolerance."""
    moved = np.abs(weights(**under) - weights(**(under | {name: value}))).max(axis=(0, 2))
    return {profile for profile, most in zip(PROFILE_NAMES, moved, strict=True) if most > 1e-5}


def test_the_table_is_complete() -> None:
    fields = {field.name for field in dataclasses.fields(AllocationConfig)} - {"profiles"}
    assert set(READERS) == set(OTHER) == fields
    for reader in READERS.values():
        assert set(reader.profiles) <= set(PROFILE_NAMES)
        assert set(reader.figures) <= set(MEASURES)
        assert reader.under is None or reader.under[0] in ("profiles", *READERS)


@pytest.mark.parametrize("name", READERS)
def test_the_table_is_true(name: str, x64: Any) -> None:
    value, under = OTHER[name]
    assert changed(name, value, under) == set(READERS[name].profiles)


@pytest.mark.parametrize("name", [name for name, reader in READERS.items() if reader.under is not None])
def test_without_its_choice_nothing_reads_a_setting(name: str, x64: Any) -> None:
    choice, wanted, *_ = READERS[name].under or ("", "")
    value, under = OTHER[name]
    if choice == "profiles":
        assert changed(name, value, under) == {wanted}
    else:
        other = {"criterion": {"distance": "maxclust", "maxclust": "distance"}, "covariance": {"ewma": "sample"}}
        assert changed(name, value, {choice: other[choice][wanted]}) == set()


# What is said


def said(swept: tuple[str, ...] = (), figures: tuple[str, ...] = (), leads: bool = False, **changes: Any) -> list[str]:
    return unread(AllocationConfig(**changes), swept, figures, leads=leads)


def test_defaults_are_not_spoken_of() -> None:
    assert said() == []
    assert said(profiles=PROFILE_NAMES) == []


def test_what_every_profile_reads_is_not_spoken_of() -> None:
    assert said(asset_cap=0.1, cluster_cap=0.2, distance_threshold=0.3, linkage="ward", covariance="oas") == []
    assert said(profiles=("hrp",), linkage="single", distance="absolute") == []
    assert said(profiles=("nco",), criterion="maxclust", max_clusters=3) == []


@pytest.mark.parametrize(
    ("changes", "sentences"),
    [
        (
            {"profiles": ("hrp", "equal_weight"), "asset_cap": 0.1},
            ["asset_cap=0.1 does not change the weights of hrp and equal_weight."],
        ),
        (
            {"profiles": ("risk_parity", "hrp"), "asset_cap": 0.1, "cluster_cap": 0.3, "linkage": "ward"},
            ["cluster_cap=0.3 and asset_cap=0.1 do not change the weights of hrp."],
        ),
        (
            {"max_clusters": 5},
            ["max_clusters=5 changes nothing: it is read under criterion='maxclust' or 'silhouette' only."],
        ),
        (
            {"criterion": "maxclust", "distance_threshold": 0.3},
            ["distance_threshold=0.3 changes nothing: it is read under criterion='distance' only."],
        ),
        ({"ewma_decay": 0.97}, ["ewma_decay=0.97 changes nothing: it is read under covariance='ewma' only."]),
        (
            {"profiles": ("risk_parity",), "n_aggressors": 3},
            ["n_aggressors=3 changes nothing: it is read under profiles='barbell' only."],
        ),
        (
            {"profiles": ("equal_weight", "max_diversification"), "linkage": "ward"},
            ["linkage='ward' does not change the weights of equal_weight and max_diversification."],
        ),
        (
            {"profiles": ("risk_parity",), "risk_free_rate": 0.03},
            ["risk_free_rate=0.03 does not change the weights of risk_parity."],
        ),
    ],
    ids=repr,
)
def test_what_is_ignored_is_said(changes: dict[str, Any], sentences: list[str]) -> None:
    assert said(**changes) == sentences


def test_a_profile_s_own_setting_is_no_news_to_the_others() -> None:
    assert said(n_aggressors=3, aggressor_weight=0.2) == []  # the barbell is there


def test_figures_that_are_shown_are_a_reason_to_set_a_rate() -> None:
    assert said(figures=("sharpe",), profiles=("risk_parity",), risk_free_rate=0.03) == []


def test_where_leads_are_held_every_profile_reads_what_makes_the_clusters() -> None:
    changes = {"profiles": ("equal_weight",), "linkage": "ward", "distance_threshold": 0.3, "asset_cap": 0.1}
    assert said(leads=True, **changes) == ["asset_cap=0.1 does not change the weights of equal_weight."]
    assert set(CLUSTERING) < set(READERS)


def test_swept_settings_count_too() -> None:
    assert said(("asset_cap",), profiles=("hrp",)) == ["The sweep of asset_cap does not change the weights of hrp."]
    assert said(("slack",), profiles=("hrp",), asset_cap=0.3) == [
        "asset_cap=0.3 and the sweep of slack do not change the weights of hrp."
    ]


@pytest.mark.parametrize("name", [name for name, reader in READERS.items() if reader.under and name != "ewma_decay"])
def test_a_sweep_of_what_its_choice_hides_is_refused(name: str) -> None:
    other = {"profiles": ("hrp",), "criterion": "maxclust" if name == "distance_threshold" else "distance"}
    with pytest.raises(
        InputError, match=rf"{name} is read under \w+='\w+'( or 'silhouette')? only: nothing would change"
    ):
        sweep(AllocationConfig(**other), **{name: [OTHER[name][0]]})
