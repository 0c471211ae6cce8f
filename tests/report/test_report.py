"""The report's figures against the study's own frames; its page: whole, escaped, small, and honest of what it lacks."""

from __future__ import annotations

import builtins
import dataclasses
import html
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
from sklearn import covariance

import jaxalloc as ja
from jaxalloc import figures
from jaxalloc.figures import by_name
from jaxalloc.figures.canvas import MUTED, label
from jaxalloc.figures.names import cluster_colours
from jaxalloc.figures.portfolios import rebinned
from jaxalloc.figures.tree import runs, tree_of
from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.portfolios.result import Allocation
from jaxalloc.portfolios.tables import asset_table, cluster_table
from jaxalloc.report.again import command_line, without_places
from jaxalloc.report.words import stability_sentence
from jaxalloc.studies.histogram import MEASURE_BINS, bin_edges
from jaxalloc.studies.measures import Reference, measure_universes
from jaxalloc.studies.recommendation import COMPARED
from jaxalloc.studies.study import Study
from jaxalloc.studies.totals import BITS, Totals, reduce_universes

go = pytest.importorskip("plotly.graph_objects")

N, T = 12, 120
HOSTILE = ["<script>alert(1)</script>", "</script><b>", "=cmd|' /C calc'!A0", "A&B", "&lt;b&gt;", "\"'>", "%{x}", "$x$"]
MARKET = ja.datasets.synthetic_market(N, T)
MARKET.columns = pd.Index([*HOSTILE, *MARKET.columns[len(HOSTILE) :]])
CONFIG = ja.AllocationConfig(risk_free_rate=0.01)
SECTIONS = (
    *("answer", "hangs", "portfolios", "clusters", "together"),
    *("boxes", "distributions", "sleeve", "statuses", "again"),
)
MOST = 1_500_000  # bytes beside Plotly's script


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "study"
    sampler = ja.Bootstrap(60, "circular", 10)
    words = "jaxalloc study 'my file.csv' --n 60 --out x"
    ja.run_study(MARKET, sampler, CONFIG, seed=3, out=out, command=words, sensitivity=True)
    return out


@pytest.fixture(scope="module")
def study(folder: Path) -> Study:
    return ja.load_study(folder)


@pytest.fixture(scope="module")
def swept() -> Study:
    grid = ja.sweep(CONFIG, distance_threshold=[0.3, 0.4], cluster_cap=[0.2, 0.25, 0.3])
    return ja.run_study(MARKET, ja.Bootstrap(20), grid, keep="summary")


def written(study: Study, tmp_path: Path, **options: Any) -> str:
    return ja.write_report(study, tmp_path / "report.html", **options).read_text(encoding="utf-8")


def own_part(page: str) -> str:
    """The page without Plotly's script."""
    return re.sub(r'<script type="text/plain" id="plotly">.*?</script>', "", page, flags=re.DOTALL)


@pytest.fixture(scope="module")
def page(study: Study, tmp_path_factory: pytest.TempPathFactory) -> str:
    return own_part(written(study, tmp_path_factory.mktemp("page")))


class Reader(HTMLParser):
    """What a browser would find: elements by name, their attributes, and the text of all but scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._inside = tag if tag in ("script", "style") else ""
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif not self._inside:
            self.text += data


# ---- figures --------------------------------------------------------------------------------------------------------


def test_weights_are_the_estimates_and_their_bands(study: Study) -> None:
    table = study.summary().loc["barbell"]
    figure = figures.weights(study, "barbell", top=5)
    thin, thick, dots = figure.data
    symbols = [html.unescape(text) for text in dots.text]
    assert len(symbols) == 5
    shown = table.loc[symbols]
    np.testing.assert_allclose(dots.x, shown["point"], atol=1e-5)
    assert list(shown["point"]) == sorted(shown["point"], reverse=True)
    assert set(symbols) == set(table[["point", "mean"]].max(axis=1).nlargest(5).index)
    for trace, low, high in ((thin, "q05", "q95"), (thick, "q25", "q75")):
        np.testing.assert_allclose(trace.x[0::3], shown[low], atol=1e-5)
        np.testing.assert_allclose(trace.x[1::3], shown[high], atol=1e-5)
        assert set(trace.x[2::3]) == {None}
        assert list(trace.y[0::3]) == list(dots.y) == [4, 3, 2, 1, 0]
    assert len(figures.weights(study, "barbell", top=100).data[2].x) == N
    leads = {study.symbols[k] for k in study.point.lead_assets[study.profiles.index("barbell")] if k >= 0}
    bold = ["</span> <b>" in text for text in figure.layout.yaxis.ticktext]
    assert bold == [symbol in leads for symbol in symbols]


def test_risks_are_the_clusters_weights_and_shares(study: Study) -> None:
    figure = figures.risks(study, "max_sharpe", top=3)
    table = cluster_table(study.point, "max_sharpe", study.config, study.symbols).sort_values("weight", ascending=False)
    share, weight = figure.data
    np.testing.assert_allclose(weight.x, table["weight"].head(3), atol=1e-4)
    np.testing.assert_allclose(share.x, table["risk_contribution"].head(3), atol=1e-4)
    assert [html.unescape(name).split(", ")[0].split(" + ")[0] for name in figure.layout.yaxis.ticktext] == [
        label(lead, 18).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
        for lead in table["lead"].head(3)
    ]


def test_boxes_are_the_quantiles(study: Study) -> None:
    figure = figures.boxes(study, top=4)
    assert [trace.name for trace in figure.data] == [name.replace("_", " ") for name in study.profiles]
    for profile, trace in zip(study.profiles, figure.data, strict=True):
        shown = study.summary().loc[profile].loc[[html.unescape(text) for text in trace.text]]
        columns = {"q1": "q25", "median": "q50", "q3": "q75", "lowerfence": "q05", "upperfence": "q95", "mean": "mean"}
        for attribute, column in columns.items():
            np.testing.assert_allclose(trace[attribute], shown[column], atol=1e-5)


def test_correlation_and_tree_are_the_panels(study: Study) -> None:
    figure, tree = figures.correlation(study), tree_of(study)
    np.testing.assert_allclose(study.correlation, np.corrcoef(MARKET.to_numpy().T), atol=1e-12)
    order = tree.assets
    np.testing.assert_array_equal(figure.data[0].z, np.rint(100 * study.correlation[np.ix_(order, order)]))
    assert sorted(order) == list(range(N))
    found = [html.unescape(text.split("</span> ")[1]) for text in figure.layout.yaxis.ticktext]
    assert found == [html.unescape(label(study.symbols[k], 14)) for k in order]
    # clusters are stretches of the order, each outlined where it has two assets or more
    stretches = runs(tree.labels)
    assert len(stretches) == study.point.n_clusters
    boxes = [(shape.x0, shape.x1, shape.y0, shape.y1) for shape in figure.layout.shapes if shape.type == "rect"]
    assert boxes == [(a - 0.5, b + 0.5, a - 0.5, b + 0.5) for _, a, b in stretches if b > a]
    assert boxes
    lines = [shape for shape in figure.layout.shapes if shape.type == "line"]
    assert [(line.x0, line.x1) for line in lines] == [(CONFIG.distance_threshold,) * 2]


@pytest.mark.slow
def test_correlations_are_as_the_settings_estimate_them() -> None:
    x = MARKET.to_numpy()
    weights = 0.97 ** np.arange(T)[::-1]
    decayed = np.cov(x.T, aweights=weights)
    standard = (x - x.mean(axis=0)) / x.std(axis=0)
    wanted = {"ewma": decayed, "oas": covariance.OAS(assume_centered=True).fit(standard).covariance_}
    for choice, found in wanted.items():
        config = CONFIG.replace(covariance=choice, ewma_decay=0.97, profiles=("risk_parity",))
        study = ja.run_study(MARKET, None, config)
        scale = np.sqrt(np.diagonal(found))
        np.testing.assert_allclose(study.correlation, found / np.outer(scale, scale), atol=1e-9)
    swept = ja.run_study(MARKET, None, ja.sweep(config.replace(covariance="ewma"), ewma_decay=[0.9, 0.97]))
    np.testing.assert_allclose(swept.correlation, decayed / np.outer(*[np.sqrt(np.diagonal(decayed))] * 2), atol=1e-9)
    with pytest.raises(ja.InputError, match="kept at point 1 only: ewma_decay was swept"):
        figures.correlation(swept, at=0)


def test_a_dendrogram_has_a_fork_for_each_merge_and_parts_at_the_cut(study: Study) -> None:
    above, *below = figures.dendrogram(study).data
    tree = tree_of(study)
    forks = [(trace.x[k + 1], trace) for trace in (above, *below) for k in range(0, len(trace.x), 5)]
    np.testing.assert_allclose(sorted(height for height, _ in forks), np.sort(tree.merges[:, 2]), atol=1e-4)
    assert all((height <= CONFIG.distance_threshold) == (trace is not above) for height, trace in forks)
    assert sum(len(trace.x) // 5 for trace in below) == N - study.point.n_clusters


def test_a_cluster_has_one_colour_everywhere(study: Study) -> None:
    labels = study.point.cluster_labels
    colours = cluster_colours(labels)
    own = [colours[k] for k, count in zip(*np.unique(labels, return_counts=True), strict=True) if count > 1]
    assert len(own) > 2
    assert len(set(own)) == len(own)  # each its own, as far as there are colours
    assert all((colours[k] == MUTED) == (np.sum(labels == k) == 1) for k in labels)
    by_name = {
        label(symbol, longest): colours[k]
        for symbol, k in zip(study.symbols, labels, strict=True)
        for longest in (14, 18)
    }
    drawn = [figures.weights(study, "risk_parity", top=N), figures.correlation(study), figures.boxes(study, top=N)]
    for figure in drawn:
        for text in figure.layout.yaxis.ticktext:
            mark, name = text.split("</span> ")
            assert f"color:{by_name[name.removeprefix('<b>').removesuffix('</b>')]}" in mark
    tree, seen = tree_of(study), set()
    for trace in figures.dendrogram(study).data[1:]:  # the leaves under the branches of that colour
        leaves = [round(place) for place, height in zip(trace.y, trace.x, strict=True) if height == 0]
        assert {colours[tree.labels[k]] for k in leaves} == {trace.line.color}
        seen |= {tree.labels[k] for k in leaves}
    assert seen == {k for k in labels if colours[k] != MUTED}
    (tiles,) = figures.treemap(study, "risk_parity").data
    for identity, colour, parent in zip(tiles.ids, tiles.marker.colors, tiles.parents, strict=True):
        if identity.startswith("cluster"):
            assert colour == colours[int(identity.split()[1])]
        elif parent:
            assert colour == colours[int(parent.split()[1])]
        else:
            assert colour == MUTED


@pytest.mark.parametrize("profile", ["min_variance", "barbell"])
def test_a_map_has_an_area_for_each_asset_inside_its_clusters(study: Study, profile: str) -> None:
    (tiles,) = figures.treemap(study, profile).data
    table = asset_table(study.point, profile, study.config, study.symbols)
    table = table[table["weight"] > 1e-6]
    inside = [name.startswith("asset") for name in tiles.ids]
    np.testing.assert_allclose(np.array(tiles.values)[inside], table["weight"], atol=1e-6)
    np.testing.assert_allclose(np.array(tiles.customdata)[inside], table["risk_contribution"], atol=1e-5)
    assert [html.unescape(text) for text, own in zip(tiles.labels, inside, strict=True) if own] == [
        html.unescape(label(symbol, 18)) for symbol in table["symbol"]
    ]
    for name, value in zip(tiles.ids, tiles.values, strict=True):  # a millionth too much, and nothing is drawn
        parts = [other for other, parent in zip(tiles.values, tiles.parents, strict=True) if parent == name]
        assert not parts or round(1e6 * value) == round(1e6 * sum(parts))


@pytest.mark.parametrize("max_clusters", [1, 3, N + 5])
def test_a_tree_is_cut_where_so_many_clusters_are_left(max_clusters: int) -> None:
    config = CONFIG.replace(criterion="maxclust", max_clusters=max_clusters, profiles=("risk_parity",))
    study = ja.run_study(MARKET, None, config)
    tree = tree_of(study)
    assert (tree.merges[:, 2] > tree.cut).sum() + 1 == study.point.n_clusters == min(max_clusters, N)


def test_co_association_is_in_the_same_order(study: Study) -> None:
    order = tree_of(study).assets
    share = study.co_association().to_numpy()[np.ix_(order, order)]
    figure = figures.co_association(study)
    np.testing.assert_array_equal(figure.data[0].z, np.rint(100 * share))
    assert (figure.data[0].zmin, figure.data[0].zmax) == (0, 100)


def test_cluster_counts_are_shares(study: Study) -> None:
    counts = study.cluster_counts()
    (bars,) = figures.cluster_counts(study).data
    assert list(bars.x) == list(counts.index)
    np.testing.assert_allclose(bars.y, counts / 60, atol=1e-4)
    assert list(bars.customdata) == counts.tolist()


def test_distributions_hold_what_the_universes_do(study: Study) -> None:
    figure = figures.distributions(study, ["volatility", "sharpe", "out_of_bag_sharpe"])
    steps = [trace for trace in figure.data if trace.fill == "tozeroy"]
    table = study.universes()
    for trace, (measure, profile) in zip(
        steps, [(m, p) for m in ("volatility", "sharpe", "out_of_bag_sharpe") for p in study.profiles], strict=True
    ):
        values = table.loc[table["profile"] == profile, measure].to_numpy(float)
        x, y = np.array(trace.x), np.array(trace.y)
        assert 0.9 <= y.sum() <= 1.001
        width = x[1] - x[0]
        inside = values[(values > x[0] - width / 2) & (values < x[-1] + width / 2)]
        assert y.sum() == pytest.approx(len(inside) / len(values), abs=0.02)
        assert y @ x / y.sum() == pytest.approx(inside.mean(), abs=width)
    assert figure.layout.xaxis2.range == figure.layout.xaxis3.range  # the two ratios are to be compared
    dotted = {trace.name: trace.x[0] for trace in figure.data if trace.line.dash == "dot"}
    assert dotted["risk parity, estimate"] == study.profile_summary().loc[("risk_parity", "sharpe"), "point"]


def test_histograms_are_cut_without_losing_anything() -> None:
    low, high = bin_edges(MEASURE_BINS)
    histogram = np.zeros(MEASURE_BINS.count, np.int64)
    zero = MEASURE_BINS.half
    histogram[[zero - 1000, zero, zero + 1000, zero + 1001]] = [1, 2, 3, 4]
    whole = rebinned(histogram, np.array([low[zero - 1000] - 1, 0.0, high[zero + 1001] + 1]))
    np.testing.assert_allclose(whole, [0.1, 0.9])
    middle = (low[zero + 1001] + high[zero + 1001]) / 2  # half of that bin's four
    np.testing.assert_allclose(rebinned(histogram, np.array([low[zero + 1000], middle])), [0.5])
    np.testing.assert_allclose(rebinned(histogram, np.array([low[zero + 1000], high[zero + 1001]])), [0.7])
    assert rebinned(np.zeros_like(histogram), np.array([0.0, 1.0])).tolist() == [0]


def test_the_sleeve_is_how_often_each_asset_was_an_aggressor(study: Study) -> None:
    share = study.summary().loc["barbell"]["frequency_sleeve"]
    own, others = figures.sleeve(study).data
    mine = {study.symbols[k] for k in np.flatnonzero(study.point.aggressors)}
    assert {html.unescape(text) for text in own.text} == mine
    for trace in (own, others):
        np.testing.assert_allclose(trace.x, share[[html.unescape(text) for text in trace.text]], atol=1e-4)
    assert len(own.text) + len(others.text) == ((share > 0) | share.index.isin(list(mine))).sum()
    assert len(figures.sleeve(study, top=1).data[0].text) == len(mine)


def test_a_sweeps_heat_map_is_the_mean_at_each_point(swept: Study) -> None:
    figure = figures.sweep_heatmap(swept, "volatility", "max_sharpe")
    mean = swept.profile_summary()["mean"].xs(("max_sharpe", "volatility"), level=("profile", "measure"))
    np.testing.assert_allclose(figure.data[0].z, mean.to_numpy().reshape(2, 3), rtol=1e-4)
    assert list(figure.layout.xaxis.ticktext) == ["0.2", "0.25", "0.3"]
    assert list(figure.layout.yaxis.ticktext) == ["distance threshold 0.3", "distance threshold 0.4"]
    number = figures.sweep_heatmap(swept, "n_clusters")
    first = swept.cluster_counts(at=0)
    assert number.data[0].z[0][0] == pytest.approx((first.index * first).sum() / first.sum(), rel=1e-4)
    stability = figures.sweep_heatmap(swept, "stability")
    assert stability.data[0].z[1][2] == pytest.approx(swept.cluster_stability(at=5)["stability"].mean(), rel=1e-4)


def test_a_sweep_of_one_setting_has_a_row_for_each_profile() -> None:
    grid = ja.sweep(CONFIG, cluster_cap=[0.2, 0.3])
    study = ja.run_study(MARKET, None, grid, keep="summary")
    assert grid.home == 0  # the settings' own 0.25 is not on the grid
    figure = figures.sweep_heatmap(study, "effective_assets")
    assert list(figure.layout.yaxis.ticktext) == ["min variance", "risk parity", "max sharpe", "barbell"]
    mean = study.profile_summary()["mean"].xs("effective_assets", level="measure").unstack(0)
    np.testing.assert_allclose(figure.data[0].z, mean.loc[list(study.profiles)], rtol=1e-4)


def test_figures_are_of_the_settings_own_point_unless_told(swept: Study) -> None:
    assert swept.settings.home == swept.settings.points.index((0.4, 0.25)) == 4
    np.testing.assert_array_equal(
        figures.co_association(swept).data[0].z, figures.co_association(swept, at=4).data[0].z
    )
    assert {shape.x0 for shape in figures.correlation(swept, at=0).layout.shapes if shape.type == "line"} == {0.3}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda s: figures.weights(s, "no_such"), "no profile 'no_such'; it has min_variance"),
        (lambda s: figures.weights(s, "barbell", at=1), "points 0 to 0, not 1"),
        (lambda s: figures.distributions(s, ["volume"]), "no measure 'volume'; choose from volatility"),
        (lambda s: figures.sweep_heatmap(s), "the study is no sweep"),
    ],
)
def test_figures_refuse_in_one_line(study: Study, make: Callable[[Study], Any], message: str) -> None:
    with pytest.raises(ja.InputError, match=message) as error:
        make(study)
    assert "\n" not in str(error.value)


def test_sweeps_refuse_what_does_not_fit_them(swept: Study) -> None:
    with pytest.raises(ja.InputError, match="name the profile: a sweep of 2 settings"):
        figures.sweep_heatmap(swept)
    with pytest.raises(ja.InputError, match="no measure 'size'; choose from"):
        figures.sweep_heatmap(swept, "size", "barbell")


def test_labels_show_markup_and_never_are_it(study: Study) -> None:
    assert label("<b>&\n<i>") == "&lt;b&gt;&amp; &lt;i&gt;"
    assert label("abcdef<", 4) == "abc…"
    made = [figures.weights(study, "barbell"), figures.boxes(study), figures.correlation(study), figures.sleeve(study)]
    for figure in made:
        text = figure.to_json().replace("\\u003c", "<")
        assert "<script" not in text
        assert "&lt;script&gt;" in text


# ---- the page -------------------------------------------------------------------------------------------------------


def test_page_has_every_section_and_figure(page: str, study: Study) -> None:
    read = Reader(page)
    ids = [attributes["id"] for _, attributes in read.found if attributes.get("id")]
    assert [name for name in ids if name in SECTIONS] == list(SECTIONS)
    assert {f"profile-{profile}" for profile in study.profiles} <= set(ids)
    places = [attributes["data-figure"] for _, attributes in read.found if "data-figure" in attributes]
    drawn = [attributes["data-name"] for _, attributes in read.found if "data-name" in attributes]
    assert sorted(map(str, places)) == sorted(map(str, drawn))
    assert len(set(drawn)) == len(study.profiles) + 11
    plain = [text for text in read.scripts if text.startswith("{")]
    assert len(plain) == len(drawn) + 1  # and the templates
    for text in plain:
        json.loads(text)


def test_page_says_the_answer_the_statuses_and_how_to_run_it_again(page: str, study: Study) -> None:
    text = " ".join(Reader(page).text.split())
    for profile in study.profiles:
        turnover = study.profile_summary().loc[(profile, "turnover")]
        assert f"{100 * turnover['q50']:.0f} % of the capital is placed differently from the estimate" in text
    for bit in BITS:
        assert str(bit.name) in text
        assert bit.message in text
    assert study.record["data"]["sha256"] in text
    assert study.record["started"] in text
    assert f"jax {jax.__version__}" in text
    assert "jaxalloc study 'my file.csv' --n 60" in text
    assert "--out" not in text.split("my file.csv")[1].split("In Python")[0]
    assert "ja.AllocationConfig(risk_free_rate=0.01, periods_per_year=252.0)" in text
    assert "ja.Bootstrap(n=60, method='circular', block_length=10)" in text
    assert "seed=3, precision=64" in text
    for field in dataclasses.fields(CONFIG):
        assert field.name in text
    stability = study.cluster_stability()
    for cluster in stability.itertuples():
        assert " ".join(str(cluster.members).split()) in text


def test_the_first_section_says_what_to_hold_and_why(page: str, study: Study) -> None:
    first = " ".join(
        Reader(page[page.index('<section id="answer">') : page.index('<section id="portfolios">')]).text.split()
    )
    advice = study.recommendation()
    assert advice.profile is not None
    name = advice.profile.replace("_", " ")
    assert f"Hold {name} {advice.why}" in first or f"shown is {name} {advice.why}" in first
    frame = study.comparison()
    for measure in ("volatility", "out_of_bag_sharpe", "largest_cluster"):
        written_as = next(known for known in COMPARED if known.name == measure)
        assert "".join(written_as.write(value) for value in frame.loc[measure]) in first
    clusters = cluster_table(study.point, advice.profile, study.config, study.symbols)
    heaviest = clusters.loc[clusters["weight"].idxmax()]
    assert f"{heaviest['lead']}{100 * heaviest['weight']:.1f} %{100 * heaviest['risk_contribution']:.1f} %" in first


def test_python_on_the_page_makes_the_same_study(page: str, study: Study) -> None:
    lines = re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)[-1]
    code = html.unescape(lines).replace('ja.read_returns("FILE")', "panel").replace(', out="again"', "")
    space: dict[str, Any] = {"panel": MARKET}
    exec(code, space)
    pd.testing.assert_frame_equal(space["study"].summary(), study.summary())


def test_page_asks_nothing_of_a_network(page: str) -> None:
    assert not re.search(r"https?:|//cdn|@import|url\(", page)
    read = Reader(page)
    assert not [tag for tag, attributes in read.found if {"src", "srcset", "action"} & attributes.keys()]
    assert all(str(attributes["href"]).startswith("#") for tag, attributes in read.found if "href" in attributes)
    policy = [a["content"] for tag, a in read.found if a.get("http-equiv") == "Content-Security-Policy"]
    assert [str(text).split(";")[0] for text in policy] == ["default-src 'none'"]


def test_symbols_are_text_on_the_page(page: str) -> None:
    read = Reader(page)
    assert not re.search(r"<script>alert|</script><b>", page)
    assert {"b", "i", "img"}.isdisjoint(tag for tag, _ in read.found)
    for symbol in HOSTILE:
        assert symbol in read.text
    assert len([tag for tag, _ in read.found if tag == "script"]) == page.count("<script")


def test_titles_and_notes_are_text_too(study: Study, tmp_path: Path) -> None:
    hostile = dataclasses.replace(study, record=study.record | {"notes": ["<i>note</i>"], "device": "<i>"})
    page = own_part(written(hostile, tmp_path, title="</title><script>alert(2)</script>"))
    assert "alert(2)</script>" not in page
    read = Reader(page)
    assert "<i>note</i>" in read.text
    assert "i" not in [tag for tag, _ in read.found]


def test_a_sweep_has_its_heat_maps(swept: Study, tmp_path: Path) -> None:
    page = own_part(written(swept, tmp_path))
    read = Reader(page)
    names = {str(attributes["data-figure"]) for _, attributes in read.found if "data-figure" in attributes}
    assert {f"sweep-volatility-{profile}" for profile in swept.profiles} <= names
    assert {"sweep-n_clusters-all", "sweep-stability-all"} <= names
    assert "at distance threshold 0.4, cluster cap 0.25" in " ".join(read.text.split())
    assert "ja.sweep(config, distance_threshold=[0.3, 0.4], cluster_cap=[0.2, 0.25, 0.3])" in read.text


# ---- what a study lacks ---------------------------------------------------------------------------------------------


def test_gaps_leave_assets_out_of_the_estimate_and_the_page_whole(tmp_path: Path) -> None:
    frame = MARKET.copy()
    frame.iloc[5, 0] = frame.iloc[90, 3] = np.nan
    panel = ja.read_returns(frame, missing="mask")
    study = ja.run_study(panel, ja.RollingWindows(60, 30), CONFIG, max_missing=0)
    assert np.flatnonzero(np.isnan(np.diagonal(study.correlation))).tolist() == [0, 3]
    assert len(tree_of(study).assets) == N - 2
    text = Reader(own_part(written(study, tmp_path))).text
    assert "2 of the assets take no part in the estimate" in text
    assert "Sharpe out of bag" not in text  # a window leaves rows out on purpose


def test_a_page_without_estimate_or_universes_is_still_a_page(tmp_path: Path) -> None:
    rows, columns = np.indices(MARKET.shape)
    nothing = ja.read_returns(MARKET.mask((rows + columns) % 2 == 0), missing="mask")
    with pytest.warns(ja.AllocationWarning, match="No universe has a portfolio"):
        study = ja.run_study(nothing, ja.Bootstrap(3), CONFIG)
    text = " ".join(Reader(own_part(written(study, tmp_path))).text.split())
    assert "3 of 3 universes are invalid" in text
    assert "No universe has a portfolio: no asset has returns in enough rows of a universe: " in text
    diagonal = ja.read_returns(MARKET.mask(np.eye(*MARKET.shape) > 0), missing="mask")
    text = " ".join(
        Reader(own_part(written(ja.run_study(diagonal, ja.Bootstrap(3), CONFIG, max_missing=0), tmp_path))).text.split()
    )
    assert "there is no estimate to compare the universes with" in text
    text = " ".join(Reader(own_part(written(ja.run_study(MARKET, None, CONFIG), tmp_path))).text.split())
    assert "One universe says nothing about stability" in text


@pytest.mark.slow
@pytest.mark.parametrize("n_assets", [1, 2])
def test_a_page_of_very_few_assets(n_assets: int, tmp_path: Path) -> None:
    study = ja.run_study(MARKET.iloc[:, :n_assets], ja.Bootstrap(5), CONFIG)
    text = Reader(own_part(written(study, tmp_path))).text
    assert ("a tree needs two assets" in text) == (n_assets == 1)


# ---- 500 assets -----------------------------------------------------------------------------------------------------


def large(n_assets: int = 500, apart: bool = False) -> Study:
    """A study of many assets whose universes are drawn, not computed; apart: some pairs are never active together."""
    rng, block = np.random.default_rng(1), 8
    config = ja.AllocationConfig()
    p = len(config.profiles)
    labels = np.sort(rng.integers(0, 60, (block, n_assets)), axis=1).astype(np.int32)
    labels = np.stack([np.unique(row, return_inverse=True)[1] for row in labels]).astype(np.int32)
    if apart:
        labels[::2, : n_assets // 10] = labels[1::2, -n_assets // 10 :] = -1
        for row in labels:  # numbers from 0 on without a gap, as the engine has them
            row[row >= 0] = np.unique(row[row >= 0], return_inverse=True)[1]
    active = labels >= 0
    raw = rng.exponential(size=(block, p, n_assets)) * active[:, None]
    weights = raw / raw.sum(axis=2, keepdims=True)
    by_cluster = np.zeros_like(weights)
    for u, q in np.ndindex(block, p):
        np.add.at(by_cluster[u, q], labels[u, active[u]], weights[u, q, active[u]])
    leads = np.full((block, p, n_assets), -1, np.int32)
    for u, q in np.ndindex(block, p):
        for k in range(labels[u].max() + 1):
            leads[u, q, k] = np.where(labels[u] == k, weights[u, q], -1).argmax()
    one = np.ones((block, p))
    batch = Allocation(
        *(weights, labels, labels.max(axis=1) + 1, by_cluster, leads, active & (rng.random(active.shape) < 0.01)),
        *(rng.random(active.shape), 0.1 + 0.1 * rng.random((block, p)), 0.1 * rng.normal(size=(block, p))),
        *(weights, one * 0.2, one * 0.25, one * 1e-12, np.ones((block, p), np.int32), np.zeros((block, p), np.int32)),
    )
    returns = rng.normal(0, 0.01, (40, n_assets)) + rng.normal(0, 0.01, (40, 1))
    estimates = jax.tree.map(lambda x: x[:1], batch)
    reference = Reference(estimates.weights, returns, np.zeros_like(returns), np.full(1, 252.0), np.zeros(1))
    totals = Totals(p, n_assets)
    with jax.enable_x64(True):
        left_out = np.ones((block, 40), bool)
        found = measure_universes(block, batch, left_out, np.zeros(block, np.int32), reference, Backend.CPU)
        sleeves = (False, False, False, True)
        totals.add(reduce_universes(block, sleeves, batch, found, np.int32(0), np.int32(block)))
    symbols = [f"ASSET.{k:04d}" for k in range(n_assets)]
    record = {
        "data": {"sha256": "0", "n_observations": 40, "n_assets": n_assets, "first": "0", "last": "39"},
        "sampler": {"sampler": "Bootstrap", "n": block, "method": "iid", "block_length": None},
        "versions": {},
        "device": "none",
        "notes": [],
        "started": "never",
        "seconds": 0.0,
    }
    return Study(
        symbols=symbols,
        settings=ja.sweep(config),
        n=block,
        seed=0,
        precision=64,
        estimates=estimates,
        totals=[totals],
        record=record,
        tables=None,
        correlation=np.corrcoef(returns.T),
    )


@pytest.mark.parametrize("apart", [False, True])
def test_500_assets_fit_a_page_that_loads(apart: bool, tmp_path: Path) -> None:
    study = large(apart=apart)
    if apart:
        assert study.co_association().isna().any(axis=None)
    page = own_part(written(study, tmp_path))
    assert len(page.encode()) <= MOST
    read = Reader(page)
    weights = next(text for text in read.scripts if '"estimate"' in text and '"5 to 95 % of universes"' in text)
    assert len(json.loads(weights)["layout"]["yaxis"]["ticktext"]) <= 25  # the others in the table
    assert read.text.count("ASSET.0499") >= len(study.profiles)
    matrix = figures.correlation(study)
    assert matrix.layout.yaxis.showticklabels is False
    marked = [annotation.text for annotation in matrix.layout.annotations if "</span> ASSET" in annotation.text]
    named = [text.split("</span> ")[1] for text in marked]
    assert 3 < len(named) < 60
    texts = matrix.layout.yaxis.ticktext
    assert {text.partition(" (with ")[2].rstrip(")") for text in texts} - {""} >= set(named)
    assert all(re.fullmatch(r"ASSET\.\d{4}( \(with .*\))?", text) for text in texts)


# ---- words, and where it goes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("median", "verdict"), [(0.01, "Very"), (0.1, "Fairly"), (0.2, "Not very"), (0.4, "Unst"), (0.9, "Mostly chance")]
)
def test_stability_in_words(median: float, verdict: str) -> None:
    said = stability_sentence({"n_universes": 9, "q50": median, "q95": 0.95}, 9, 0.5)
    assert said.startswith(verdict)
    assert f"at least {100 * median:.0f} % of the capital" in said
    assert "leads its cluster in 50 % of the universes." in said


@pytest.mark.parametrize(
    ("words", "again"),
    [
        ("study a.csv --out x --n 9 --resume", "study a.csv --n 9"),
        ("study --report a.csv --fresh --out=x", "study a.csv"),
        ("study --report b.html a.csv", "study a.csv"),
        ("study --report=b.html -- --out", "study -- --out"),
    ],
)
def test_the_command_that_is_to_be_run_again(words: str, again: str) -> None:
    assert without_places(words.split()) == again.split()
    assert command_line({"command": words}) == again
    assert command_line({}) is None


def test_a_report_replaces_its_file_or_leaves_it(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a report.HTML"
    target.write_text("before")
    monkeypatch.setattr("jaxalloc.report.write.html_page", lambda *_: "after")
    assert ja.write_report(study, str(target)) == target
    assert target.read_text() == "after"

    def full(*_: Any, **__: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", full)
    monkeypatch.setattr("jaxalloc.report.write.html_page", lambda *_: "later")
    with pytest.raises(OSError, match="no space left"):
        ja.write_report(study, target)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a report.HTML", "after")]


def test_reports_that_cannot_be_written_are_refused(study: Study, tmp_path: Path) -> None:
    (tmp_path / "folder.html").mkdir()
    for path, message in (
        (tmp_path / "report.pdf", r"must be a file whose name ends in \.html"),
        (tmp_path / "folder.html", "is a directory; give the path of a file"),
        (tmp_path / "none" / "a.html", "there is no directory .*; create it, or choose another"),
    ):
        with pytest.raises(ja.InputError, match=message):
            ja.write_report(study, path)


@pytest.mark.parametrize("package", ["plotly", "jinja2"])
def test_without_the_extra_it_says_what_to_install(
    study: Study, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = builtins.__import__

    def absent(name: str, *arguments: Any, **options: Any) -> Any:
        if name.split(".")[0] == package:
            raise ImportError(name)
        return load(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ja.InputError, match=rf"needs the package {package}: pip install 'jaxalloc\[report\]'"):
        ja.write_report(study, tmp_path / "report.html")
    if package == "plotly":
        with pytest.raises(ja.InputError, match=r"pip install 'jaxalloc\[report\]'"):
            figures.weights(study, "barbell")


def test_every_figure_says_what_is_seen(page: str, study: Study) -> None:
    said = {
        str(attributes["data-figure"]): str(attributes["aria-label"])
        for _, attributes in Reader(page).found
        if "data-figure" in attributes
    }
    assert all(len(words) > 40 for words in said.values())
    for profile in study.profiles:
        table = study.summary().loc[profile]
        row = table.loc[table["mean"].idxmax()]
        spread = f"{100 * row['q05']:.1f} % to {100 * row['q95']:.1f} %"
        assert f"The heaviest on average is {row.name} with {spread}." in said[f"weights-{profile}"]
    clusters = cluster_table(study.point, str(study.recommendation().profile), study.config, study.symbols)
    assert f"that of {clusters.loc[clusters['weight'].idxmax(), 'lead']}, has" in said["risks"]
    assert "of the universes" in said["sleeve"]
    assert "The estimate has" in said["correlation"]


def test_results_draw_themselves_by_name(study: Study) -> None:
    assert study.plot() == figures.boxes(study)
    assert study.plot("weights", "barbell", top=3) == figures.weights(study, "barbell", top=3)
    with pytest.raises(ja.InputError, match="no figure 'wealth' of it; choose from boxes, weights"):
        study.plot("wealth")
    with pytest.raises(ja.InputError, match="weights: missing a required argument: 'profile'"):
        study.plot("weights")
    of_results = {name for named in by_name._FIGURES.values() for name in named}
    assert of_results == set(figures.__all__)  # each is some result's


def test_the_page_says_which_estimates_would_trade_most(study: Study, page: str) -> None:
    text = Reader(page).text
    said = text.split("What this portfolio hangs on")[1].split("Every portfolio, and how stable it is")[0]
    for profile in study.profiles:
        for row in study.sensitivity(None).largest(profile).itertuples():
            assert f"{row.estimate} of {row.asset}" in said
            assert f"{100 * row.turnover:.1f}\u202f%" in said or f"{100 * row.turnover:.1f} %" in said


def test_a_page_of_a_study_that_did_not_measure_them_goes_without(study: Study, tmp_path: Path) -> None:
    unmeasured = dataclasses.replace(study, sensitivities=None)
    page = own_part(written(unmeasured, tmp_path))
    assert 'id="hangs"' not in page
    assert "#hangs" not in page
