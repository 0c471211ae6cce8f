"""The choice of the best trial on a walk-forward's page: the verdict, the logits' figure, and which was the best."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jaxalloc as ja
from jaxalloc import figures
from jaxalloc.backtest import selection
from jaxalloc.backtest.walk import WalkForward
from jaxalloc.figures.selection import histogram
from jaxalloc.report.choice_content import choice
from jaxalloc.report.drawings import Drawings

pytest.importorskip("plotly")

MARKET = ja.datasets.synthetic_market(12, 120)
CONFIG = ja.AllocationConfig(profiles=("equal_weight", "risk_parity", "hrp"))
NAMES = {"equal_weight": "equal weight", "risk_parity": "risk parity", "hrp": "HRP"}
ROLL: dict[str, Any] = {"window": 50, "step": 10}


@pytest.fixture(scope="module")
def walk() -> WalkForward:
    return ja.walk_forward(MARKET, CONFIG, **ROLL)


@pytest.mark.parametrize("n_trials", [2, 3, 4, 9, 60])
def test_the_histogram_counts_every_logit_and_parts_at_the_median(n_trials: int) -> None:
    rng = np.random.default_rng(n_trials)
    ranks = rng.integers(2, 2 * n_trials + 1, 500) / 2  # of equals too
    ranks[:3] = [1, n_trials, (n_trials + 1) / 2]
    values = np.log(ranks / (n_trials + 1 - ranks))
    width, counts = histogram(values, n_trials)
    half = len(counts) // 2
    assert len(counts) == 2 * half <= 24
    assert width * half == pytest.approx(math.log(n_trials))
    assert counts.sum() == 500
    assert counts[:half].sum() == (ranks <= (n_trials + 1) / 2).sum()
    for bar, count in enumerate(counts):
        low, high = (bar - half) * width, (bar - half + 1) * width
        inside = (values > low + 1e-9) & (values <= high + 1e-9)
        assert count == inside.sum() + (np.abs(values - low) < 1e-9).sum() * (bar == 0)


def test_the_bars_are_the_shares_and_the_colours_the_verdict(walk: WalkForward) -> None:
    found = walk.overfitting()
    figure = figures.logits(walk)
    worse, better = figure.data
    assert sum(worse.y) == pytest.approx(found.pbo, abs=1e-4)
    assert sum(worse.y) + sum(better.y) == pytest.approx(1, abs=1e-4)
    assert max(worse.x) < 0 < min(better.x)
    assert worse.name == f"no better than the median: {100 * found.pbo:.0f} % of the splits"
    assert worse.marker.color != better.marker.color
    assert sum(figures.logits(walk, n_blocks=4).data[0].y) == pytest.approx(walk.overfitting(4).pbo, abs=1e-4)
    with pytest.raises(ja.InputError, match="n_blocks must be even"):
        figures.logits(walk, n_blocks=5)


def page_of(walk: WalkForward, tmp_path: Path) -> str:
    text = ja.write_report(walk, tmp_path / "report.html").read_text(encoding="utf-8")
    text = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", text.replace("&nbsp;", " ")).split())


def test_the_page_says_whether_to_choose(walk: WalkForward, tmp_path: Path) -> None:
    found, text = walk.overfitting(), page_of(walk, tmp_path)
    assert found.verdict in text
    assert ("is not recommended" in text) == (found.pbo > 0.5)
    assert f"a ratio of {found.in_sample.mean():.2f} where it was chosen" in text
    assert f"in {100 * found.loss:.0f} % of the splits it was below 0 there" in text
    for label, count in found.best.items():
        share = f"{ {'equal_weight': 'equal weight', 'risk_parity': 'risk parity', 'hrp': 'HRP'}[label] }"
        assert f"{share} {100 * count / found.n_halves:.1f} %" in text
    table = walk.deflated_sharpe()
    best = table["sharpe"].idxmax()
    probable = walk.probabilistic_sharpe().loc[best, "probabilistic_sharpe"]
    least = math.ceil(walk.min_track_record().loc[best, "min_days"])
    assert f"{table.loc[best, 'deflated_sharpe']:.3f} {probable:.3f} {least:,}" in text


def test_the_page_and_the_record_follow_one_rule(walk: WalkForward, monkeypatch: pytest.MonkeyPatch) -> None:
    found = walk.overfitting()
    for pbo, words in ((0.51, "is not recommended"), (0.5, "does not speak against")):
        told = dataclasses.replace(found, pbo=pbo)
        monkeypatch.setattr(WalkForward, "overfitting", lambda self, n_blocks=16, told=told: told)
        said = choice(walk, Drawings())
        assert said is not None
        assert words in said.verdict
        assert words in told.verdict


def test_a_page_judges_the_choice_once(walk: WalkForward, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged, judge = [], selection.overfitting

    def listen(*given: Any) -> selection.Overfitting:
        judged.append(given)
        return judge(*given)

    monkeypatch.setattr(selection, "overfitting", listen)
    ja.write_report(dataclasses.replace(walk), tmp_path / "report.html")  # of a result that nobody has asked yet
    assert len(judged) == 1


def test_the_page_of_a_sweep_names_the_point(tmp_path: Path) -> None:
    swept = ja.walk_forward(MARKET, ja.sweep(CONFIG, distance_threshold=[0.3, 0.5]), **ROLL)
    drawings = Drawings()
    said = choice(swept, drawings)
    assert said is not None
    assert re.search(r" at distance threshold 0\.[35], the best on all days", said.verdict)
    assert said.figure["id"] == "logits"
    assert set(drawings.json) == {"logits"}
    shares = [float(cells[1].removesuffix(" %")) for cells in said.best.rows]
    assert shares == sorted(shares, reverse=True)
    assert "distance threshold 0.3" in page_of(swept, tmp_path)


def test_where_nothing_can_be_judged_the_page_goes_without(walk: WalkForward, tmp_path: Path) -> None:
    alone = ja.walk_forward(MARKET, CONFIG.replace(profiles=("hrp",)), **ROLL)
    short = ja.walk_forward(MARKET, CONFIG, window=100, step=10)
    for each in (alone, short):
        assert choice(each, Drawings()) is None
        assert "Would it have paid to choose the best?" not in page_of(each, tmp_path)
    assert "Would it have paid to choose the best?" in page_of(walk, tmp_path)
