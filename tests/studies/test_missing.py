"""A tolerance for missing returns: the same as a panel whose holes were filled by hand, and what the note says.

One market of 12 assets and 120 days almost throughout, so that little is compiled.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest

import jaxalloc as ja
from jaxalloc.arguments.errors import InputError
from jaxalloc.report.again import python_lines, walk_lines
from jaxalloc.universes.samplers import Product, Sampler, steps
from jaxalloc.universes.universe import draw_universe, seed_key

N, T = 12, 120
MARKET = ja.datasets.synthetic_market(N, T, seed=1)
CONFIG = ja.AllocationConfig(profiles=("risk_parity", "equal_weight"))
NAMES = list(MARKET.columns)
LATE, GONE, ONE, FEW, MANY = 1, 3, 5, 7, 9


def holed() -> pd.DataFrame:
    """A late listing, a delisting, and assets with one, three and thirty holes."""
    frame = MARKET.copy()
    frame.iloc[:30, LATE] = np.nan
    frame.iloc[100:, GONE] = np.nan
    frame.iloc[60, ONE] = np.nan
    frame.iloc[[40, 41, 80], FEW] = np.nan
    frame.iloc[45:75, MANY] = np.nan
    return frame


PANEL = ja.read_returns(holed(), missing="mask")
SAMPLERS: dict[str, tuple[Sampler, list[Any]]] = {
    "windows": (ja.RollingWindows(40, 10), [range(k, k + 40) for k in range(0, 81, 10)]),
    "expanding": (ja.RollingWindows(40, 20, expanding=True), [range(k) for k in (40, 60, 80, 100, 120)]),
    "bootstrap": (ja.Bootstrap(40, "circular", 10), []),
    "windows resampled": (ja.RollingWindows(40, 20) * ja.Bootstrap(4), []),
}


def counts_of(name: str) -> np.ndarray:
    """How often each universe holds each row."""
    sampler, windows = SAMPLERS[name]
    if windows:
        return np.array([np.isin(np.arange(T), window).astype(int) for window in windows])
    if name == "bootstrap":
        assert isinstance(sampler, ja.Bootstrap)
        return sampler.counts(T, 5, 0, 40)
    product = Product(sampler.parts).prepare(PANEL, T, 252)
    draws, gaps = steps(product, T), np.zeros((T, 1), np.float32)
    drawn = [draw_universe(draws, seed_key(5), np.int32(i), gaps).weights for i in range(product.count(T))]
    return np.array(drawn).astype(int)


@pytest.mark.parametrize("max_missing", [0, 0.02, 0.05, 0.3])
@pytest.mark.parametrize("name", SAMPLERS)
def test_universes_are_those_of_a_panel_filled_by_hand(name: str, max_missing: float) -> None:
    found = ja.run_study(PANEL, SAMPLERS[name][0], CONFIG, seed=5, max_missing=max_missing)
    counts, frame = counts_of(name), holed()
    assert len(counts) == found.n
    inside = frame.isna() & frame.ffill().notna() & frame.bfill().notna()
    outside = frame.isna() & ~inside
    masks = np.zeros((found.n, N), bool)
    for u, count in enumerate(counts):
        missing = (count[:, None] * inside).sum()
        masks[u] = (missing <= max_missing * count.sum() + 1e-9) & ~outside[count > 0].any()
    assert masks.any(axis=1).all()
    filled = frame.mask(inside, 0).fillna(0).to_numpy()
    with jax.enable_x64(True):
        batch = ja.allocate_batch(filled, CONFIG.replace(periods_per_year=252), counts, masks)
    for p, profile in enumerate(CONFIG.profiles):
        np.testing.assert_allclose(found.weights(profile), batch.weights[:, p], atol=1e-9)
    assert ((found.clusters().to_numpy() >= 0) == masks).all()
    # out of bag, a hole is a return of 0 where it may count as one
    rows = found.universes()
    rows = rows[rows["profile"] == "equal_weight"]
    if name == "bootstrap":
        there = (inside & bool(max_missing)) | frame.notna()
        for u in range(found.n):
            x = batch.weights[u, 1]
            seen = (counts[u] == 0) & there.to_numpy()[:, x > 0].all(axis=1)
            out = rows.iloc[u]["out_of_bag_return"]
            wanted = 252 * (filled[seen] @ x).mean() if seen.sum() >= 20 else np.nan
            assert out == pytest.approx(wanted, rel=1e-8, nan_ok=True)


def test_the_panel_s_own_portfolios_take_the_assets_with_few_holes() -> None:
    for max_missing, out in ((0, {LATE, GONE, ONE, FEW, MANY}), (0.05, {LATE, GONE, MANY}), (0.25, {LATE, GONE})):
        study = ja.run_study(PANEL, ja.Bootstrap(2), CONFIG, max_missing=max_missing)
        labels = study.estimate().cluster_labels
        assert set(np.flatnonzero(labels < 0)) == out
        assert set(np.flatnonzero(np.isnan(np.diagonal(study.correlation)))) == out
        kept = sorted(set(range(N)) - out)
        wanted = np.corrcoef(holed().fillna(0).to_numpy()[:, kept].T)
        np.testing.assert_allclose(study.correlation[np.ix_(kept, kept)], wanted, atol=1e-12)


def test_a_complete_panel_has_the_same_bits_under_any_tolerance() -> None:
    one, other = (ja.run_study(MARKET, ja.RollingWindows(40, 10), CONFIG, max_missing=share) for share in (0, 0.05))
    for profile in CONFIG.profiles:
        assert one.weights(profile).to_numpy().tobytes() == other.weights(profile).to_numpy().tobytes()
    assert one.record["notes"] == other.record["notes"]


@pytest.mark.parametrize("share", [0.025, 0.0249])
@pytest.mark.parametrize("precision", [32, 64])
def test_a_share_that_is_just_reached_is_allowed(share: float, precision: int) -> None:
    frame = MARKET.copy()
    frame.iloc[[50, 55], 0] = np.nan  # 1 and 2 of the 40 rows of windows
    panel = ja.read_returns(frame, missing="mask")
    study = ja.run_study(panel, ja.RollingWindows(40, 1), CONFIG, max_missing=share, precision=precision)
    missing = np.array([frame.iloc[k : k + 40, 0].isna().sum() for k in range(81)])
    active = study.clusters().to_numpy()[:, 0] >= 0
    assert (active == (missing <= 1 if share == 0.025 else missing == 0)).all()


def note_of(study: ja.Study) -> str:
    (note,) = [note for note in study.record["notes"] if "put out of" in note or "inside the li" in note]
    return note


def test_the_note_counts_what_was_put_out_and_what_counts_as_zero() -> None:
    study = ja.run_study(PANEL, ja.RollingWindows(40, 10), CONFIG)
    active = (study.clusters().to_numpy() >= 0).sum(axis=0)
    assert active[LATE] == 6
    assert active[GONE] == 7
    assert active[FEW] == 9
    assert note_of(study) == (
        "4 missing returns inside the lives of 2 assets count as 0 where a universe misses at most 5 % of its rows; "
        f"3 of 12 assets were put out of universes: '{NAMES[MANY]}' (in {active[MANY]} of 9: holes), "
        f"'{NAMES[LATE]}' (in 6 of 9: listed late or delisted), '{NAMES[GONE]}' (in 7 of 9: listed late or delisted)."
    )
    # windows of 40 rows in steps of 10 that hold some of the 30 holes hold at least 10
    assert active[MANY] == 2
    half = ja.run_study(PANEL, ja.RollingWindows(40, 10), CONFIG, max_missing=0.5)
    assert note_of(half).startswith("34 missing returns inside the lives of 3 assets count as 0")
    without = note_of(ja.run_study(PANEL, None, CONFIG, max_missing=0))
    assert without.startswith("5 of 12 assets were put out of universes: ")
    assert without.count("(in none: ") == 5
    subsets = note_of(ja.run_study(PANEL, ja.Bootstrap(20) * ja.RandomSubsets(6), CONFIG))
    assert set(re.findall(r"'([^']+)' \(in none", subsets)) == {NAMES[k] for k in (LATE, GONE, MANY)}
    filled = ja.read_returns(holed().iloc[:, [0, 2, ONE]], missing="mask")
    assert note_of(ja.run_study(filled, None, CONFIG)) == (
        "1 missing return inside the life of 1 asset counts as 0 where a universe misses at most 5 % of its rows."
    )


def test_it_is_kept_with_the_study_and_the_walk(tmp_path: Path) -> None:
    study = ja.run_study(PANEL, ja.Bootstrap(2), CONFIG, max_missing=0.1, out=tmp_path / "study")
    assert ja.load_study(tmp_path / "study").record["max_missing"] == 0.1
    assert "max_missing=0.1" in python_lines(study)
    with pytest.raises(InputError, match="max_missing"):
        ja.run_study(PANEL, ja.Bootstrap(2), CONFIG, out=tmp_path / "study", resume=True)
    walk = ja.walk_forward(PANEL, CONFIG, 40, 20, max_missing=0, out=tmp_path / "walk")
    assert ja.load_walk_forward(tmp_path / "walk").record["max_missing"] == 0
    assert "max_missing=0.0" in walk_lines(walk)
    assert [note for note in walk.record["notes"] if "put out of universes" in note]
    assert len(walk.record["notes"]) == len(set(walk.record["notes"]))
    assert "max_missing" not in python_lines(ja.run_study(PANEL, ja.Bootstrap(2), CONFIG))
    with pytest.raises(InputError, match="max_missing must be a share of the rows"):
        ja.walk_forward(PANEL, CONFIG, 40, 20, max_missing=1)
