"""Pictures of the reports for the README and the documentation (`make screenshots`).

One report is that of the demo's study, 1,000 bootstrap resamples of the embedded market. Another is that of a
walk-forward on the same market, and a third one shows what bands of trading do to it. A headless Chromium, which must
be on the PATH, takes the pictures and writes them to docs/images. It takes the study's report in light mode, in dark
mode and at a phone's width, and some sections of it. A picture of more than 300 KB is an error: crop it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playwright.sync_api import sync_playwright

import jaxalloc as ja

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

IMAGES = Path(__file__).resolve().parent / "images"
MOST_BYTES = 300_000
READY = "html[data-ready=true]"
LAPTOP = {"width": 1180, "height": 960}
PHONE = {"width": 390, "height": 844}
# pixels of each section to show, from its top, so that no figure is cut in half
SECTIONS = {
    "portfolios": 900,
    "clusters": 850,
    "together": 815,
    "boxes": 1500,
    "distributions": 845,
    "sleeve": 1500,
    "statuses": 1500,
}


def write_page(folder: Path, n_resamples: int) -> Path:
    """Run the demo's study and write its report."""
    study = ja.run_study(ja.datasets.synthetic_market(), ja.Bootstrap(n_resamples))
    return ja.write_report(study, folder / "report.html", title="synthetic market")


def write_walk(folder: Path) -> Path:
    """Run a walk-forward on the demo's market and write its report."""
    config = ja.AllocationConfig(profiles=("equal_weight", "risk_parity", "hrp", "barbell"))
    walk = ja.walk_forward(ja.datasets.synthetic_market(), config, costs_bps=5)
    return ja.write_report(walk, folder / "walk.html", title="synthetic market")


def write_bands(folder: Path) -> Path:
    """Run it with bands of trading, at a cost at which they matter, and write its report."""
    config = ja.AllocationConfig(profiles=("risk_parity", "max_sharpe", "hrp", "barbell"))
    market = ja.datasets.synthetic_market(n_observations=1512)
    walk = ja.walk_forward(market, config, band=[0, 0.005, 0.01, 0.02], costs_bps=30)
    return ja.write_report(walk, folder / "bands.html", title="synthetic market")


def write_bagged(folder: Path) -> Path:
    """Draw the bagged portfolio of the example."""
    config = ja.AllocationConfig(profiles=("max_sharpe",))
    bagged = ja.allocate_bagged(ja.datasets.synthetic_market(n_assets=20), config, ja.Bootstrap(200, "circular", 21))
    figure = bagged.plot("bagged_weights", "max_sharpe", top=12)
    figure.write_html(folder / "bagged.html", config={"displayModeBar": False})
    return folder / "bagged.html"


def open_page(browser: Browser, path: Path, size: Any, scheme: Any, scale: float = 1) -> Page:
    """Open a report and wait until its figures are drawn."""
    page = browser.new_context(viewport=size, color_scheme=scheme, device_scale_factor=scale).new_page()
    page.goto(path.as_uri())
    page.wait_for_selector(READY, timeout=120_000)
    return page


def take(page: Page, name: str, selector: str | None = None, most_pixels: int = 0) -> None:
    """Write a picture of the visible window, or of a section down to a height in pixels."""
    target, clip = IMAGES / f"{name}.png", None
    if selector is not None:
        element = page.locator(selector)
        page.evaluate(
            "(e) => e.querySelectorAll(':scope > details').forEach((part) => (part.open = true))",
            element.element_handle(),
        )
        element.scroll_into_view_if_needed()
        page.wait_for_selector(f"{selector} [data-figure]:not([data-state=drawn])", state="detached", timeout=60_000)
        page.wait_for_selector(READY)
        offset = page.evaluate("scrollY")
        box = element.bounding_box()
        assert box is not None
        clip = {"x": box["x"], "y": box["y"] + offset, "width": box["width"], "height": min(box["height"], most_pixels)}
    page.screenshot(path=target, clip=clip, full_page=clip is not None)  # type: ignore[arg-type]
    size = target.stat().st_size
    print(f"{target.relative_to(IMAGES.parents[1])}: {size // 1000} KB")
    if size > MOST_BYTES:
        raise SystemExit(f"{target} has {size:,} bytes, more than {MOST_BYTES:,}")


def main() -> int:
    """Write the reports and take the pictures; return an exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1000, help="resamples (default 1000)")
    n_resamples = parser.parse_args().n
    found = [path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))]
    if not found:
        print("no chromium on the PATH: install one (apt-get install chromium)", file=sys.stderr)
        return 1
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        path = write_page(Path(folder), n_resamples)
        browser = driver.chromium.launch(executable_path=found[0], args=["--no-sandbox"])
        by_day = open_page(browser, path, LAPTOP, "light")
        take(by_day, "report-light")
        take(open_page(browser, path, LAPTOP, "dark"), "report-dark")
        take(open_page(browser, path, PHONE, "light", scale=1.5), "report-phone")
        for section, height in SECTIONS.items():
            take(by_day, f"report-{section}", f"#{section}", height)
        walk = open_page(browser, write_walk(Path(folder)), LAPTOP, "light")
        take(walk, "walk-light")
        take(walk, "walk-differences", "#differences", 700)
        take(walk, "walk-choice", "#choice", 700)
        bands = open_page(browser, write_bands(Path(folder)), LAPTOP, "light")
        take(bands, "walk-bands", "[data-figure=bands-0]", 440)
        plain = browser.new_context(viewport={"width": 760, "height": 360}).new_page()
        plain.goto(write_bagged(Path(folder)).as_uri())
        plain.wait_for_selector(".ytick")
        take(plain, "bagged")
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
