"""A benchmark on a walk-forward's page and in its figures, and how far clusters agree from window to window."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import jaxalloc as ja
from jaxalloc import figures
from jaxalloc.backtest.walk import WalkForward
from jaxalloc.figures.canvas import MUTED
from jaxalloc.settings.measures import BENCHMARK_MEASURES, RETURN_MEASURES, WALK_MEASURE

pytest.importorskip("plotly")

N, T = 12, 120
NAME = "<b>%{x}</b> & co"
ASSETS = ja.datasets.synthetic_market(N, T)
MARKET = ASSETS.assign(**{NAME: ASSETS.mean(axis=1) + np.random.default_rng(0).normal(0, 0.004, T)})
PROFILES = ("equal_weight", "risk_parity", "hrp")
CONFIG = ja.AllocationConfig(profiles=PROFILES, risk_free_rate=0.01)


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> WalkForward:
    out = tmp_path_factory.mktemp("report") / "walk"
    arguments: dict[str, Any] = {"window": 50, "step": 10, "seed": 3, "costs_bps": 5}
    ja.walk_forward(MARKET, CONFIG, benchmark=NAME, paths=ja.Bootstrap(3, "circular", 10), out=out, **arguments)
    return ja.load_walk_forward(out)


@pytest.fixture(scope="module")
def page(walk: WalkForward, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("page")
    text = ja.write_report(walk, folder / "report.html").read_text(encoding="utf-8")
    return re.sub(r'<script type="text/plain" id="plotly">.*?</script>', "", text, flags=re.DOTALL)


def rows_of(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table that has a column of this heading, its headings first."""
    for table in re.findall(r"<table.*?</table>", page, re.DOTALL):
        rows = [
            [html.unescape(re.sub(r"<.*?>", "", cell)).strip() for cell in re.split(r"<t[hd]\b", row)[1:]]
            for row in table.split("<tr>")[1:]
        ]
        rows = [[cell.split(">", 1)[-1] for cell in row] for row in rows]
        if rows and heading in rows[0]:
            return rows
    raise AssertionError(heading)


def test_the_benchmark_is_a_grey_line_beside_the_profiles(walk: WalkForward) -> None:
    grown = (1 + walk.benchmark_returns).cumprod()
    drawn = {"wealth": grown, "drawdowns": grown / np.maximum(grown.cummax(), 1) - 1}
    for name, wanted in drawn.items():
        figure = walk.plot(name)
        assert len(figure.data) == len(PROFILES) + 1
        line = figure.data[-1]
        assert (line.name, line.line.color) == ("&lt;b&gt;%{x}&lt;/b&gt; &amp; co", MUTED)
        np.testing.assert_allclose(line.y, wanted, rtol=1e-4, atol=1e-9)
        assert "co" not in line.hovertemplate  # a name there would be read as a template
        assert line.hovertemplate.startswith("%{fullData.name}")
        assert MUTED not in [trace.line.color for trace in figure.data[:-1]]
    for name in ("rolling_volatility", "turnovers"):
        assert len(walk.plot(name).data) == len(PROFILES)
    assert len(figures.path_boxes(walk, ["information_ratio"]).data) == len(PROFILES) + 1


def test_the_page_has_a_row_for_the_benchmark_and_columns_beside_it(walk: WalkForward, page: str) -> None:
    heading, *rows = rows_of(page, "beta")
    places = {name: heading.index(WALK_MEASURE[name].heading) for name in walk.shown if name not in ("kept", "missing")}
    assert [row[0] for row in rows] == ["equal weight", "risk parity", "HRP", f"benchmark {NAME}"]
    for profile, row in zip(PROFILES, rows, strict=False):
        for name in BENCHMARK_MEASURES:
            assert row[places[name]] == WALK_MEASURE[name].write(walk.summary().loc[profile, name])
    own = walk.benchmark_summary().iloc[0]
    for name, place in places.items():
        written = WALK_MEASURE[name].write(own[name]) if name in RETURN_MEASURES else "–"  # noqa: RUF001
        assert rows[-1][place] == written
    text = html.unescape(page)
    assert f"{NAME} is the benchmark, and no asset of the portfolios" in text
    assert f"{NAME}, SHA-256 {walk.record['benchmark_sha256']}" in text
    assert "<b>%{x}" not in page


def test_the_page_says_how_far_clusters_agree(walk: WalkForward, page: str) -> None:
    mean = walk.cluster_agreement()["agreement"].mean()
    wanted = f"From one window to the next, clusters agree by {mean:.2f} on average (adjusted Rand index: 1 the same, 0"
    assert wanted in " ".join(page.split())


def test_the_page_says_how_to_run_it_again(walk: WalkForward, page: str) -> None:
    lines = re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)[-1]
    code = html.unescape(lines).replace('ja.read_returns("FILE", missing="mask")', "panel").replace(', out="again"', "")
    space: dict[str, Any] = {"panel": MARKET}
    exec(code, space)
    pd.testing.assert_frame_equal(space["walk"].summary(), walk.summary())


def test_a_page_without_a_benchmark_says_nothing_of_one(tmp_path: Path) -> None:
    alone = ja.walk_forward(
        ASSETS, CONFIG.replace(profiles=("equal_weight",)), window=T
    )  # one window: nothing to compare
    text = ja.write_report(alone, tmp_path / "report.html").read_text(encoding="utf-8")
    text = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert "benchmark" not in text.lower()
    assert "clusters agree" not in text
