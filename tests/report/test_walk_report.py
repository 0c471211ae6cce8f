"""A walk-forward's figures against its own frames; its page: the answer first, whole, escaped, small."""

from __future__ import annotations

import dataclasses
import html
import json
import math
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import jaxalloc as ja
from jaxalloc import figures
from jaxalloc.backtest.points import walk_settings
from jaxalloc.backtest.schedule import Schedule
from jaxalloc.backtest.walk import WalkForward
from jaxalloc.figures.canvas import colour_of
from jaxalloc.figures.walks import thinned
from jaxalloc.report.walk_content import walk_sentence
from jaxalloc.settings.measures import FIGURES

pytest.importorskip("plotly")

N, T = 12, 120
HOSTILE = ["<script>alert(1)</script>", "</script><b>", "=cmd|' /C calc'!A0", "A&B", "%{x}", "$x$"]
MARKET = ja.datasets.synthetic_market(N, T)
MARKET.columns = pd.Index([*HOSTILE, *MARKET.columns[len(HOSTILE) :]])
PROFILES = ("equal_weight", "risk_parity", "hrp")
CONFIG = ja.AllocationConfig(profiles=PROFILES, risk_free_rate=0.01)
SECTIONS = ("answer", "differences", "time", "paths", "chance", "holdings", "live", "again")
MOST = 1_500_000  # bytes beside Plotly's script
ROLL: dict[str, Any] = {"window": 50, "step": 10, "seed": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "walk"
    command = "jaxalloc walk-forward 'my file.csv' --step 10 --out x --report"
    ja.walk_forward(
        MARKET, CONFIG, costs_bps=5, paths=ja.Bootstrap(5, "circular", 10), out=out, command=command, **ROLL
    )
    return out


@pytest.fixture(scope="module")
def walk(folder: Path) -> WalkForward:
    return ja.load_walk_forward(folder)


@pytest.fixture(scope="module")
def swept() -> WalkForward:
    grid = ja.sweep(CONFIG, distance_threshold=[0.3, 0.4], cluster_cap=[0.2, 0.25, 0.3])
    return ja.walk_forward(MARKET, grid, **ROLL)


class Reader(HTMLParser):
    """What a browser would find: elements by name, their attributes, and the text of all but scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._inside = ""
        self.feed(page)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._inside = tag if tag in ("script", "style") else ""

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.words.append(data)


def own_part(walk: WalkForward, tmp_path: Path, **options: Any) -> str:
    """The page without Plotly's script."""
    text = ja.write_report(walk, tmp_path / "report.html", **options).read_text(encoding="utf-8")
    return re.sub(r'<script type="text/plain" id="plotly">.*?</script>', "", text, flags=re.DOTALL)


@pytest.fixture(scope="module")
def page(walk: WalkForward, tmp_path_factory: pytest.TempPathFactory) -> str:
    return own_part(walk, tmp_path_factory.mktemp("page"))


# ---- figures --------------------------------------------------------------------------------------------------------


def test_wealth_drawdowns_and_volatility_are_the_returns(walk: WalkForward) -> None:
    grown = (1 + walk.returns).cumprod()
    top = np.maximum(grown.cummax(), 1)
    made = {
        "wealth": (figures.wealth(walk), grown),
        "drawdowns": (figures.drawdowns(walk), grown / top - 1),
        "volatility": (figures.rolling_volatility(walk, days=20), walk.returns.rolling(20).std().dropna() * 252**0.5),
        "turnover": (figures.turnovers(walk), walk.turnover.iloc[1:]),
    }
    for figure, wanted in made.values():
        assert [trace.name for trace in figure.data] == ["equal weight", "risk parity", "HRP"]
        for profile, trace in zip(PROFILES, figure.data, strict=True):
            assert list(trace.x) == [str(date.date()) for date in wanted.index]
            np.testing.assert_allclose(trace.y, wanted[profile], rtol=1e-4, atol=1e-9)
            assert trace.line.color == colour_of(profile)
    assert min(figures.drawdowns(walk).data[1].y) == pytest.approx(
        -walk.summary().loc["risk_parity", "max_drawdown"], rel=1e-4
    )
    assert figures.wealth(walk, log=True).layout.yaxis.type == "log"


def test_a_line_is_thinned_to_what_a_screen_shows_and_keeps_its_extremes() -> None:
    rng = np.random.default_rng(0)
    values = np.cumsum(rng.normal(size=2517))
    kept = thinned(values, 400)
    assert 300 < len(kept) <= 400
    assert kept[0] == 0
    assert kept[-1] == 2516
    assert (np.diff(kept) > 0).all()
    assert values[kept].max() == values.max()
    assert values[kept].min() == values.min()
    # nowhere off by more than the swing within a stretch: every value lies between what is kept around it
    for a in range(0, 2517 - 13, 13):
        stretch = values[a : a + 13]
        around = values[kept[(kept >= a - 13) & (kept < a + 26)]]
        assert around.min() <= stretch.min()
        assert around.max() >= stretch.max()
    assert thinned(values[:10], 400).tolist() == list(range(10))


def spoken(name: str) -> str:
    return {"equal_weight": "equal weight", "risk_parity": "risk parity", "hrp": "HRP"}[name]


@pytest.mark.parametrize("base", [None, "hrp"])
def test_differences_are_the_tables(walk: WalkForward, base: str | None) -> None:
    figure, table = figures.differences(walk, base), walk.differences(base)
    others = [name for name in PROFILES if name != (base or "equal_weight")]
    assert len(figure.data) == 3 * 3
    for panel, measure in enumerate(("annual_return", "volatility", "sharpe")):
        *lines, dots = figure.data[3 * panel : 3 * panel + 3]
        part = table.xs(measure, level="measure").loc[others]
        np.testing.assert_allclose(dots.x, part["difference"], atol=1e-5)
        np.testing.assert_allclose([line.x for line in lines], part[["low", "high"]], atol=1e-5)
        contains = (part["low"] <= 0) & (part["high"] >= 0)
        assert [symbol == "circle-open" for symbol in dots.marker.symbol] == contains.tolist()
    assert list(figure.layout.yaxis3.ticktext) == [spoken(name) for name in others]
    assert list(figure.layout.yaxis3.tickvals) == [1, 0]


def test_path_boxes_are_the_quantiles(walk: WalkForward) -> None:
    figure, table = figures.path_boxes(walk, ["sharpe", "max_drawdown"]), walk.path_quantiles()
    boxes = [trace for trace in figure.data if trace.type == "box"]
    keys = [(profile, measure) for measure in ("sharpe", "max_drawdown") for profile in PROFILES]
    columns = {"q1": "q25", "median": "q50", "q3": "q75", "lowerfence": "q05", "upperfence": "q95", "mean": "mean"}
    for key, box in zip(keys, boxes, strict=True):
        for attribute, column in columns.items():
            np.testing.assert_allclose(box[attribute], table.loc[key, column], atol=1e-5)
    happened = [trace for trace in figure.data if trace.type == "scatter"]
    np.testing.assert_allclose([trace.x for trace in happened], walk.summary()[["sharpe", "max_drawdown"]].T, rtol=1e-4)


@pytest.mark.parametrize("by", ["assets", "clusters"])
def test_holdings_stack_up_to_what_was_held(walk: WalkForward, by: str) -> None:
    weights = walk.weights("risk_parity")
    figure = figures.holdings(walk, "risk_parity", by=by, top=3)
    assert len(figure.data) == 4
    np.testing.assert_allclose(np.sum([trace.y for trace in figure.data], axis=0), 1, atol=1e-3)
    labels = walk.allocations.clusters().iloc[-1] if by == "clusters" else pd.Series(range(N), index=weights.columns)
    sums = weights.T.groupby(labels).sum().T
    order = sums.mean().sort_values(ascending=False, kind="stable").index
    for k, trace in zip(order[:3], figure.data, strict=False):
        np.testing.assert_allclose(trace.y, sums[k], atol=1e-4)
        members = weights.mean()[labels == k]
        assert html.unescape(trace.name).startswith(str(members.idxmax())[:17])
        assert trace.name.endswith(f" + {len(members) - 1}") == (len(members) > 1)
    assert figure.data[3].name == f"{len(order) - 3} more"
    told_apart = sums[order[:3]].sum(axis=1).max()  # what hundreds of others hold must not squeeze it
    assert figure.layout.yaxis.range[1] == pytest.approx(1 if told_apart > 0.5 else 1.2 * told_apart, abs=1e-3)


def test_many_rebalances_are_drawn_evenly(walk: WalkForward) -> None:
    history = walk.history
    weights = np.tile(history.weights[:, :, :1], (1, 1, 500, 1))
    many = dataclasses.replace(
        walk, schedule=Schedule(T, 50, 1), dates=pd.RangeIndex(T), history=history._replace(weights=weights[:, :, :70])
    )
    assert list(figures.holdings(many, "hrp").data[0].x) == list(range(50, 120))
    long = dataclasses.replace(
        walk, schedule=Schedule(550, 50, 1), dates=pd.RangeIndex(550), history=history._replace(weights=weights)
    )
    x = figures.holdings(long, "hrp").data[0].x
    assert len(x) == 150
    assert (x[0], x[-1]) == (50, 549)
    assert set(np.diff(x)) <= {3, 4}


def test_a_sweeps_heat_map_is_the_summary(swept: WalkForward) -> None:
    figure = figures.walk_heatmap(swept, "sharpe", "risk_parity")
    wanted = swept.summary().xs("risk_parity", level="profile")["sharpe"].to_numpy().reshape(2, 3)
    np.testing.assert_allclose(figure.data[0].z, wanted, rtol=1e-4)
    assert list(figure.layout.xaxis.ticktext) == ["0.2", "0.25", "0.3"]
    with pytest.raises(ja.InputError, match="name the profile: a sweep of 2 settings"):
        figures.walk_heatmap(swept)
    at = figures.differences(swept, at=5).data[2].x
    table = swept.differences().loc[(0.4, 0.3)].xs("annual_return", level="measure")
    np.testing.assert_allclose(at, table["difference"], atol=1e-5)


@pytest.fixture(scope="module")
def banded() -> WalkForward:
    grid = ja.sweep(CONFIG, cluster_cap=[0.2, 0.25])
    return ja.walk_forward(MARKET, grid, band=[0, 0.005, 0.02], costs_bps=[0, 30], max_turnover=0.5, **ROLL)


def test_bands_are_drawn_in_their_order_for_each_profile(banded: WalkForward) -> None:
    for at, point in ((None, (0.25, 0)), (3, (0.2, 30))):
        figure = figures.bands(banded, at=at)
        summary = banded.summary().xs(point, level=["cluster_cap", "costs_bps"])
        assert [trace.name for trace in figure.data] == ["equal weight", "risk parity", "HRP"]
        for profile, trace in zip(PROFILES, figure.data, strict=True):
            wanted = summary.xs(profile, level="profile")
            assert list(trace.text) == ["0 %", "0.5 %", "2 %"]
            np.testing.assert_allclose(trace.x, wanted["turnover"], rtol=1e-4)
            np.testing.assert_allclose(trace.y, wanted["sharpe"], rtol=1e-4)
            assert trace.line.color == colour_of(profile)
    heat = figures.walk_heatmap(banded, "turnover", "hrp")
    assert heat.layout.xaxis.title.text == "costs bps"
    assert np.shape(heat.data[0].z) == (6, 2)


def test_a_page_of_bands_draws_them_for_each_cost(banded: WalkForward, tmp_path: Path) -> None:
    read = Reader(own_part(banded, tmp_path))
    drawn = {str(found["data-figure"]): str(found["aria-label"]) for _, found in read.found if "data-figure" in found}
    assert drawn["bands-0"] == "Sharpe ratio after costs against turnover, band by band, with no costs"
    assert drawn["bands-1"].endswith("with 30 basis points of cost")
    assert "With 30 basis points of cost" in read.text
    assert "at cluster cap 0.25, band 0, costs bps 0" in read.text
    assert "0, 30 basis points of what is traded" in read.text
    assert "band=[0.0, 0.005, 0.02], max_turnover=0.5, costs_bps=[0.0, 30.0]" in read.text
    assert "ja.sweep(config, cluster_cap=[0.2, 0.25])" in read.text


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda w: figures.bands(w), "no band was varied: give walk_forward a list of them, such as"),
        (lambda w: figures.wealth(w, at=1), "points 0 to 0, not 1"),
        (lambda w: figures.rolling_volatility(w, days=1), "days must be a whole number at least 2, not 1"),
        (lambda w: figures.rolling_volatility(w, days=99), "held on 70 days, fewer than the 99"),
        (lambda w: figures.differences(w, "barbell"), "no profile 'barbell'; it has equal_weight"),
        (lambda w: figures.path_boxes(w, ["kept"]), "there is no measure 'kept'; choose from annual_return"),
        (lambda w: figures.path_boxes(dataclasses.replace(w, path_figures=None)), "there are no paths"),
        (lambda w: figures.holdings(w, "barbell"), "no profile 'barbell'"),
        (lambda w: figures.holdings(w, "hrp", by="sector"), "by must be 'clusters' or 'assets', not 'sector'"),
        (lambda w: figures.holdings(w, "hrp", top=0), "top must be a whole number at least 1, not 0"),
        (lambda w: figures.walk_heatmap(w), "of no sweep: there is one point of settings"),
    ],
)
def test_figures_refuse_in_one_line(walk: WalkForward, make: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(ja.InputError, match=message) as error:
        make(walk)
    assert "\n" not in str(error.value)


# ---- the page -------------------------------------------------------------------------------------------------------


def test_page_has_every_section_and_figure(page: str) -> None:
    read = Reader(page)
    ids = [attributes["id"] for _, attributes in read.found if attributes.get("id")]
    assert [name for name in ids if name in SECTIONS] == list(SECTIONS)
    places = [str(attributes["data-figure"]) for _, attributes in read.found if "data-figure" in attributes]
    drawn = [str(attributes["data-name"]) for _, attributes in read.found if "data-name" in attributes]
    assert sorted(places) == sorted(drawn)
    assert {"wealth", "differences", "drawdowns", "rolling-volatility", "turnovers", "paths"} < set(drawn)
    assert {f"holdings-{profile}" for profile in PROFILES} < set(drawn)
    links = [str(attributes["href"]) for tag, attributes in read.found if tag == "a"]
    assert links == [f"#{name}" for name in SECTIONS]
    assert "No figure" not in read.text


def test_page_says_the_answer_first(page: str, walk: WalkForward) -> None:
    text = Reader(page).text
    summary, apart = walk.summary(), walk.differences()
    for profile in PROFILES[1:]:
        row = apart.loc[(profile, "sharpe")]
        contains = row["low"] <= 0 <= row["high"]
        ends = f"{row['low']:.2f} to {row['high']:.2f}, {'contains' if contains else 'does not contain'} 0"
        assert f"its Sharpe ratio of {summary.loc[profile, 'sharpe']:.2f} is {abs(row['difference']):.2f}" in text
        assert ends in text
    advice = walk.recommendation()
    assert (
        text.index(advice.why[1:-1]) < text.index("What the portfolios would have earned") < text.index("Growth of 1")
    )
    assert ("No portfolio is recommended" in text) == (not advice.recommended)
    for name in ("annual_return", "volatility", "max_drawdown"):
        assert f"{100 * summary.loc['equal_weight', name]:.1f} %" in text
    target = walk.target("hrp")
    assert f"HRP: a turnover of {50 * target['trade'].abs().sum():.1f} %" in text
    for symbol in HOSTILE:
        assert symbol in text


def test_page_says_how_to_run_it_again(page: str, walk: WalkForward, tmp_path: Path) -> None:
    text = Reader(page).text
    assert "jaxalloc walk-forward 'my file.csv' --step 10 In Python" in text
    assert walk.record["data"]["sha256"] in text
    lines = re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)[-1]
    code = html.unescape(lines).replace('ja.read_returns("FILE", missing="mask")', "panel").replace(', out="again"', "")
    space: dict[str, Any] = {"panel": MARKET}
    exec(code, space)
    pd.testing.assert_frame_equal(space["walk"].summary(), walk.summary())
    pd.testing.assert_frame_equal(space["walk"].paths(), walk.paths())


def test_symbols_are_text_and_the_page_asks_nothing_of_a_network(page: str) -> None:
    assert not re.search(r"<script>alert|</script><b>", page)
    assert not re.search(r"https?:|//cdn|@import|url\(", page)
    assert {"b", "i", "img"}.isdisjoint(tag for tag, _ in Reader(page).found)


def test_a_base_of_ones_own(walk: WalkForward, tmp_path: Path) -> None:
    text = Reader(own_part(walk, tmp_path, base="hrp")).text
    assert "Compared with HRP: how sure are the differences?" in text
    assert "Share of paths on which a profile is better than HRP" in text
    with pytest.raises(ja.InputError, match="no profile 'barbell'"):
        ja.write_report(walk, tmp_path / "other.html", base="barbell")
    with pytest.raises(ja.InputError, match="a base is for the report of a walk-forward"):
        ja.write_report(walk.allocations, tmp_path / "other.html", base="hrp")
    assert not (tmp_path / "other.html").exists()


def test_a_sweeps_page(swept: WalkForward, tmp_path: Path) -> None:
    read = Reader(own_part(swept, tmp_path))
    names = {str(attributes["data-figure"]) for _, attributes in read.found if "data-figure" in attributes}
    assert {f"sweep-{m}-{p}" for m in ("sharpe", "turnover") for p in PROFILES} <= names
    assert "at distance threshold 0.4, cluster cap 0.25" in read.text
    assert "ja.sweep(config, distance_threshold=[0.3, 0.4], cluster_cap=[0.2, 0.25, 0.3])" in read.text
    best = swept.deflated_sharpe()["sharpe"].idxmax()
    named = f"{best[2].replace('_', ' ')} at distance threshold {best[0]:g}, cluster cap {best[1]:g}"
    assert f"The best Sharpe ratio of the 18 tried is that of {named}. After allowing for that choice" in read.text


def test_points_of_one_profile_are_compared_with_each_other(swept: WalkForward, tmp_path: Path) -> None:
    grid = ja.sweep(CONFIG.replace(profiles=("risk_parity",)), cluster_cap=[0.2, 0.25])
    read = Reader(own_part(ja.walk_forward(MARKET, grid, execution="lead", **ROLL), tmp_path))
    assert "Compared with the settings' own point: how sure are the differences?" in read.text
    assert "cluster cap 0.2" in read.text
    assert "tracking" in read.text
    assert "held in its lead asset alone" in read.text


def test_what_must_be_known_first_is_said(tmp_path: Path) -> None:
    frame = MARKET.copy()
    frame.iloc[62:64, 7] = np.nan
    frame.iloc[80:90] = frame.iloc[80:90].mask(np.eye(10, N) > 0)
    walk = ja.walk_forward(frame, CONFIG, **{**ROLL, "step": 11})
    text = Reader(own_part(walk, tmp_path)).text
    most = int(walk.summary()["missing"].max())
    assert most > 2
    assert f"Returns were missing while their asset was held, {most} times" in text
    assert "The panel goes on for" not in text
    old = dataclasses.replace(walk, schedule=dataclasses.replace(walk.schedule, live=False))  # of an older version
    text = Reader(own_part(old, tmp_path)).text
    assert "The panel goes on for 4 rows, to 2021-06-18: the target does not use them." in text


@pytest.mark.parametrize("n_rows", [50, 52])
def test_a_page_of_a_target_alone(n_rows: int, tmp_path: Path) -> None:
    walk = ja.walk_forward(MARKET.head(n_rows), CONFIG, **ROLL)
    text = Reader(own_part(walk, tmp_path)).text
    assert ("It was held on no row" in text) == (n_rows == 50)
    assert "HRP: a turnover of " in text
    assert "nan" not in text


@pytest.mark.slow
def test_a_decade_of_ten_profiles_fits_a_page_that_loads(walk: WalkForward, tmp_path: Path) -> None:
    rng, n, days = np.random.default_rng(1), 431, 2265
    config = ja.AllocationConfig(
        profiles=(
            *ja.AllocationConfig().profiles,
            *("equal_weight", "inverse_variance", "hrp", "herc", "nco", "max_diversification"),
        ),
        periods_per_year=252,
    )
    p, schedule = len(config.profiles), Schedule(days + 252, 252, 21)
    held = schedule.n_held
    net = rng.normal(5e-4, 0.01, (1, p, days))
    weights = rng.exponential(size=(1, p, held, n))
    weights /= weights.sum(axis=3, keepdims=True)
    history = walk.history._replace(
        gross=net,
        net=net,
        whole_net=net[:, :0],
        turnover=rng.random((1, p, held)),
        traded=rng.random((1, p, held)),
        kept=np.zeros((1, p, held), bool),
        missing=np.zeros((1, p, held), int),
        bets=np.ones((1, p, held)),
        weights=weights,
        target=weights[:, :, -1],
        live=weights[:, :, -1],
        current=weights[:, :, -2],
        undecided=np.zeros((1, p), bool),
        figures=rng.random((1, p, len(FIGURES))),
    )
    labels = pd.DataFrame(rng.integers(0, 60, (schedule.n_windows, n)))

    class Allocations(type(walk.allocations)):
        def clusters(self, at: int | None = None) -> pd.DataFrame:
            return labels

    own = {field.name: getattr(walk.allocations, field.name) for field in dataclasses.fields(walk.allocations)}
    decade = dataclasses.replace(
        walk,
        symbols=[f"ASSET.{k:04d}" for k in range(n)],
        dates=pd.bdate_range("2007-01-02", periods=days + 252),
        settings=walk_settings(ja.sweep(config), band=0, max_turnover=None, costs_bps=5),
        schedule=schedule,
        history=history,
        path_figures=rng.random((9, 1, p, len(FIGURES))),
        allocations=Allocations(**(own | {"settings": ja.sweep(config)})),
    )
    page = own_part(decade, tmp_path)
    assert len(page.encode()) <= MOST
    read = Reader(page)
    assert "371 more assets with" in read.text
    line = next(text for text in re.findall(r'class="figure" data-name="wealth">(.*?)</script>', page, re.DOTALL))
    assert all(len(trace["x"]) <= 400 for trace in json.loads(line)["data"])


# ---- words ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.1, 0.5, "Better than hrp: its Sharpe ratio of 0.80 is 0.30 higher"),
        (-0.1, 0.7, "No clear difference from hrp: its Sharpe ratio of 0.80 is 0.30 higher"),
        (-0.5, -0.1, "Worse than hrp: its Sharpe ratio of 0.80 is 0.30 lower"),
    ],
)
def test_a_verdict_is_as_the_interval_says(low: float, high: float, verdict: str) -> None:
    row = {"annual_return": 0.1, "volatility": 0.12, "sharpe": 0.8, "max_drawdown": 0.3}
    beside = {"difference": 0.3 if high > 0 else -0.3, "low": low, "high": high}
    said = walk_sentence(row, beside, "hrp")
    assert said.startswith(verdict)
    assert ("does not contain 0" in said) == (low * high > 0)
    assert "returned 10.0 % a year at a volatility of 12.0 %, with a largest drawdown of 30.0 %" in said


def test_there_may_be_nothing_to_compare() -> None:
    row = {"annual_return": 0.0, "volatility": 0.0, "sharpe": math.nan, "max_drawdown": 0.0}
    assert "its returns do not vary" in walk_sentence(row, None, "hrp")
    row |= {"sharpe": 0.5}
    nothing = {"difference": math.nan, "low": math.nan, "high": math.nan}
    assert "hrp has no Sharpe ratio to compare with" in walk_sentence(row, nothing, "hrp")
    assert walk_sentence(row, None, "hrp").endswith(": a Sharpe ratio of 0.50.")
