"""The report in a real browser: every figure drawn, nothing on the console, nothing asked of a network.

JAXALLOC_SCREENSHOTS names a folder to leave screenshots in.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import jaxalloc as ja

pytest.importorskip("plotly")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: no browser to test in")

SYMBOL = "<script>alert(1)</script>"
SIZES = {"laptop": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
READY = "html[data-ready=true]"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    found = [path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))]
    if not found:
        pytest.skip("no chromium is installed (apt-get install chromium): the report was not looked at in a browser")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found[0], args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Reports of a study, of a sweep and of a walk-forward."""
    folder = tmp_path_factory.mktemp("pages")
    market = ja.datasets.synthetic_market(12, 120)
    market.columns = pd.Index([SYMBOL, "</script>", "<b>x</b>", *market.columns[3:]])
    study = ja.run_study(market, ja.Bootstrap(50))
    grid = ja.sweep(cluster_cap=[0.2, 0.25], distance_threshold=[0.3, 0.4])
    swept = ja.run_study(market, ja.Bootstrap(10), grid, keep="summary")
    config = ja.AllocationConfig(profiles=("equal_weight", "risk_parity", "hrp"))
    walk = ja.walk_forward(market, config, 40, 10, costs_bps=5, paths=ja.Bootstrap(5, "stationary", 10))
    return {
        "walk": ja.write_report(walk, folder / "walk.html"),
        "study": ja.write_report(study, folder / "study.html"),
        "sweep": ja.write_report(swept, folder / "sweep.html"),
    }


class Visit:
    """A page that has been opened and has drawn what is to be seen; what it did meanwhile."""

    def __init__(self, browser: Any, path: Path, size: str, scheme: str) -> None:
        self.context = browser.new_context(viewport=SIZES[size], color_scheme=scheme)
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector(READY, timeout=120_000)
        self.url = path.as_uri()

    def count(self, selector: str) -> int:
        return self.page.locator(selector).count()

    def unfold(self) -> None:
        """Open every part, and wait until its figures are drawn."""
        closed = self.page.locator("details:not([open]) > summary")
        while closed.count():
            closed.first.click()
        self.page.wait_for_selector("[data-figure]:not([data-state=drawn])", state="detached", timeout=60_000)
        self.page.wait_for_selector(READY)


@pytest.fixture
def visit(browser: Any, pages: dict[str, Path]) -> Iterator[Any]:
    visits: list[Visit] = []

    def open_page(name: str, size: str = "laptop", scheme: str = "light") -> Visit:
        visits.append(Visit(browser, pages[name], size, scheme))
        return visits[-1]

    yield open_page
    for one in visits:
        one.context.close()


SHOWN = [(name, "laptop", "light") for name in ("study", "sweep", "walk")] + [("study", "phone", "dark")]
OTHERS = itertools.product(("study", "sweep", "walk"), ("laptop", "phone"), ("light", "dark"))


@pytest.mark.parametrize(
    ("name", "size", "scheme"),
    SHOWN + [pytest.param(*other, marks=pytest.mark.slow) for other in OTHERS if other not in SHOWN],
)
def test_every_figure_is_drawn_in_silence(visit: Any, name: str, size: str, scheme: str) -> None:
    seen = visit(name, size, scheme)
    page = seen.page
    seen.unfold()
    assert seen.count("[data-figure] .main-svg") >= seen.count("[data-figure]") >= 9
    assert page.evaluate("[...document.querySelectorAll('[data-figure]')].every((e) => e.data.length > 0)")
    assert seen.said == []
    assert seen.asked == [seen.url]
    wide, room = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= room  # nothing to scroll sideways for
    folder = os.environ.get("JAXALLOC_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}_{size}_{scheme}.png", full_page=True)


def test_markers_and_cells_are_there(visit: Any) -> None:
    seen = visit("study")
    seen.unfold()
    n_shown = seen.page.evaluate("document.querySelector('[data-figure=weights-barbell]').data[2].x.length")
    assert n_shown == 12
    assert seen.count("[data-figure=weights-barbell] .scatterlayer .point") == n_shown
    assert seen.count("[data-figure=correlation] .heatmaplayer image") == 1
    assert seen.count("[data-figure=correlation] .shapelayer path") >= 2  # outlines, and the cut
    assert seen.count("[data-figure=boxes] .boxlayer path.box") == 4 * 12
    assert seen.count("[data-figure=sleeve] .barlayer .point") > 0


def test_a_walks_lines_boxes_and_areas_are_there(visit: Any) -> None:
    seen = visit("walk")
    assert seen.count("[data-figure=wealth] .scatterlayer .js-line") == 3
    assert seen.count("[data-figure=drawdowns] .scatterlayer .js-line") == 3
    assert seen.count("[data-figure=differences] .scatterlayer .point") == 3 * 2
    assert seen.count("[data-figure=paths] .boxlayer path.box") == 4 * 3
    assert seen.count("[data-figure=paths] .scatterlayer .point") == 4 * 3
    assert seen.count("[data-figure=holdings-risk_parity] .scatterlayer .js-fill") == 10  # 9 of 12 assets, and the rest
    names = seen.page.locator("[data-figure=holdings-equal_weight] .legendtext").all_text_contents()
    assert any(text.startswith("<script>alert(1)") for text in names)
    assert SYMBOL in seen.page.locator("#live table").first.text_content()


def test_symbols_are_shown_as_they_are(visit: Any) -> None:
    seen = visit("study")
    seen.unfold()
    ticks = seen.page.locator("[data-figure=weights-risk_parity] .ytick").all_text_contents()
    labels = [text.removeprefix("\N{BLACK SQUARE} ") for text in ticks]
    assert labels != ticks
    assert any(text.startswith("<script>alert(1)") for text in labels)
    assert any(text == "<b>x</b>" for text in labels)
    assert SYMBOL in seen.page.locator("#profile-risk_parity .assets").last.text_content()


def test_hovering_over_a_map_names_the_pair(visit: Any) -> None:
    seen = visit("study")
    seen.unfold()
    places = seen.page.locator("[data-figure=co-association]")
    places.scroll_into_view_if_needed()
    box = places.locator(".heatmaplayer").bounding_box()
    seen.page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.5)
    seen.page.mouse.move(box["x"] + box["width"] * 0.51, box["y"] + box["height"] * 0.5)
    hover = places.locator(".hoverlayer .hovertext")
    hover.wait_for(timeout=10_000)
    text = hover.first.text_content()
    names = seen.page.evaluate("document.querySelector('[data-figure=co-association]').layout.yaxis.ticktext")
    plain = [name.split("</span> ")[1].replace("&lt;", "<").replace("&gt;", ">") for name in names]
    assert any(name in text for name in plain), text
    assert "together in" in text


def test_colours_follow_the_time_of_day(visit: Any) -> None:
    seen = visit("study")
    seen.unfold()
    page = seen.page

    def colours() -> tuple[str, str]:
        paint = "getComputedStyle(document.querySelector('[data-figure=boxes] .ytick text')).fill"
        return page.evaluate(paint), page.evaluate("getComputedStyle(document.body).backgroundColor")

    day = colours()
    page.emulate_media(color_scheme="dark")
    page.wait_for_selector("html:not([data-ready])", state="attached", timeout=10_000)
    page.wait_for_selector(READY, timeout=60_000)
    night = colours()
    assert all(a != b for a, b in zip(day, night, strict=True))
    for (text, back), darker in ((day, text_is_darker), (night, back_is_darker)):
        assert darker(text, back)
    assert seen.said == []


def brightness(colour: str) -> float:
    return sum(float(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3])


def text_is_darker(text: str, back: str) -> bool:
    return brightness(text) + 300 < brightness(back)


def back_is_darker(text: str, back: str) -> bool:
    return text_is_darker(back, text)


@pytest.mark.parametrize("size", SIZES)
def test_the_answer_is_on_the_first_screen(visit: Any, size: str) -> None:
    seen = visit("study", size)
    head = seen.page.locator("#answer h2")
    assert head.text_content().startswith(("Hold ", "These cannot be told apart; shown is "))
    for place in (head, seen.page.locator("#answer .verdict"), seen.page.locator("#answer .compared th.chosen")):
        box = place.bounding_box()
        assert 0 <= box["y"] < box["y"] + box["height"] <= SIZES[size]["height"]
    names = seen.page.locator("#answer .compared th[scope=col]").all_text_contents()
    assert [name.strip() for name in names] == ["min variance", "risk parity", "max sharpe", "barbell"]
    assert seen.count("#answer .compared td.best") >= 3


def test_a_link_opens_what_it_leads_to(visit: Any) -> None:
    seen = visit("study")
    assert seen.count("#boxes details[open]") == 0
    seen.page.locator("nav a", has_text="Box plots").click()
    seen.page.wait_for_selector("#boxes [data-figure][data-state=drawn]", timeout=60_000)


def test_what_is_folded_is_drawn_when_it_is_opened(visit: Any) -> None:
    seen = visit("sweep")
    waiting = seen.count("[data-figure]:not([data-state])")
    assert waiting > 0
    seen.page.locator(".maps:not([open]) > summary").first.click()
    seen.page.wait_for_selector(".maps[open] [data-figure]:not([data-state=drawn])", state="detached", timeout=60_000)
    assert seen.count("[data-figure]:not([data-state])") < waiting


def test_a_narrow_window_draws_anew(visit: Any) -> None:
    seen = visit("study")
    height = "document.querySelector('[data-figure=correlation]').layout.height"
    before = seen.page.evaluate(height)
    seen.page.set_viewport_size(SIZES["phone"])
    seen.page.wait_for_selector("[data-figure=correlation][data-narrow=true][data-state=drawn]", timeout=60_000)
    assert seen.page.evaluate(height) != before
    assert seen.said == []


CONTRAST = """() => {
  const channel = (c) => { c /= 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
  const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const colour = numbers(getComputedStyle(e).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const ratio = (e) => {
    const [a, b] = [light(numbers(getComputedStyle(e).color)), light(behind(e))];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  };
  const words = [...document.querySelectorAll("h1, h2, h3, p, td, th, a, summary, li, pre")];
  return Math.min(...words.filter((e) => e.clientWidth > 0 && e.textContent.trim()).map(ratio));
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_what_is_behind_them(visit: Any, scheme: str) -> None:
    """WCAG 2.1, level AA: a ratio of 4.5."""
    seen = visit("study", "laptop", scheme)
    assert seen.page.evaluate(CONTRAST) >= 4.5


def test_the_keyboard_opens_and_closes_what_is_folded(visit: Any) -> None:
    seen = visit("study")
    part = seen.page.locator("#boxes > details")
    seen.page.locator("#boxes > details > summary").focus()
    seen.page.keyboard.press("Enter")
    assert part.get_attribute("open") is not None
    seen.page.wait_for_selector("#boxes [data-figure][data-state=drawn]", timeout=60_000)
    seen.page.keyboard.press("Enter")
    assert part.get_attribute("open") is None
