"""Hooks of mkdocs: pages include files and tables, and formulas become MathML.

A line of a page may be one of these directives. They keep figures from being copied by hand.

    <!-- include: PATH -->                 the text of a file of the repository, without its title; the file must exist
    <!-- include: PATH | otherwise -->     the same, or the text `otherwise` if the file does not exist
    <!-- table: NAME -->                   one of `TABLES`, computed from the installed package
"""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import numpy as np
from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError

import jaxalloc as ja
from jaxalloc.engine.shapes import ASSETS, CLUSTERS, MAX_OUTER_BYTES, OWN_ROWS, ROWS, chunk_bytes, sizes_of
from jaxalloc.settings.config import DEFAULT_PROFILES, PROFILE_NAMES
from jaxalloc.settings.readers import READERS
from jaxalloc.settings.status import Status

ROOT = Path(__file__).resolve().parents[1]
_DIRECTIVE = re.compile(r"^<!-- (include|table): (.+?)(?: \| (.+?))? -->$", re.MULTILINE)
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
_MIB = 2**20


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """Replace the directives of a page."""
    return _DIRECTIVE.sub(_put_in, markdown)


def on_page_content(content: str, **kwargs: Any) -> str:
    """Turn formulas into MathML, which browsers draw without a script."""

    def draw(found: re.Match[str]) -> str:
        return convert(html.unescape(found[2]).strip(), display="block" if found[1] == "div" else "inline")

    return _FORMULA.sub(draw, content)


def _put_in(found: re.Match[str]) -> str:
    kind, name, otherwise = found.groups()
    if kind == "table":
        if name not in TABLES:
            raise PluginError(f"there is no table {name!r}, only {', '.join(TABLES)}")
        return TABLES[name]()
    path = ROOT / name
    if path.is_file():
        return re.sub(r"\A# .*\n+", "", path.read_text(encoding="utf-8"))
    if otherwise is None:
        raise PluginError(f"a page includes {name}, which is not there")
    return otherwise


def _table(headings: list[str], rows: list[list[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def sizes_table() -> str:
    """Tabulate how many universes a CPU computes together and holds: panels of 252 rows, the four default profiles."""
    rows, n_rows = [], 252
    for n in (20, 100, 250, 500):
        for dtype in (np.dtype("float64"), np.dtype("float32")):
            sizes = sizes_of((n_rows, n), dtype)
            outer = sizes.rows * sizes.assets * (sizes.assets + 1) // 2 * dtype.itemsize
            held = sizes.capacity * chunk_bytes(n, len(DEFAULT_PROFILES), dtype, n_rows)
            table = f"{outer / _MIB:.0f}" if outer <= MAX_OUTER_BYTES else "none"
            numbers = sizes.assets, 8 * dtype.itemsize, sizes.few, sizes.group, sizes.capacity
            rows.append([str(n), *(f"{number:,}" for number in numbers), f"{held / _MIB:.0f}", table])
    headings = ["N", "padded to", "float", "universes a step", "of a group", "of a part"]
    return _table([*headings, "memory of a part (MiB)", "outer products (MiB)"], rows)


def grids_table() -> str:
    """Tabulate the sizes that programs are compiled for."""
    grids = {
        "assets": ASSETS,
        "clusters": CLUSTERS,
        "rows of a shared panel": ROWS,
        "rows of universes that have returns of their own": OWN_ROWS,
    }
    rows = [[name, ", ".join([*(f"{size:,}" for size in grid[:15]), "..."])] for name, grid in grids.items()]
    return _table(["number of", "padded to the next one of"], rows)


def statuses_table() -> str:
    """Tabulate every status and its message."""
    return _table(["bit", "name", "message"], [[str(bit.value), f"`{bit.name}`", bit.message] for bit in Status])


def readers_table() -> str:
    """Tabulate which profiles read each setting, and under which choice."""
    rows = []
    for name, reader in READERS.items():
        others = [profile for profile in PROFILE_NAMES if profile not in reader.profiles]
        whose = f"all but `{others[0]}`" if len(others) == 1 else ", ".join(f"`{name}`" for name in reader.profiles)
        figures = ", ".join(f"`{name}`" for name in reader.figures)
        under = "" if reader.under is None else f"`{reader.under[0]}={reader.under[1]!r}`"
        rows.append([f"`{name}`", whose, figures, under])
    return _table(["setting", "profiles whose weights it changes", "figures of every profile", "read under"], rows)


def sensitivities_table() -> str:
    """Tabulate the three estimates that each profile hangs on most, of 20 assets of the embedded market."""
    config = ja.AllocationConfig(profiles=(*DEFAULT_PROFILES, "hrp"))
    found = ja.sensitivity(ja.datasets.synthetic_market(n_assets=20), config)
    rows = []
    for profile in found.profiles:
        worst = found.largest(profile, 3).itertuples()
        told = [f"{row.asset}'s {row.estimate} ± {row.error:.2%}: {row.turnover:.1%}" for row in worst]
        rows.append([f"`{profile}`", *told])
    return _table(["profile", "hangs on most", "then", "then"], rows)


TABLES = {
    "sizes": sizes_table,
    "grids": grids_table,
    "statuses": statuses_table,
    "readers": readers_table,
    "sensitivities": sensitivities_table,
}
