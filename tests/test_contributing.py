"""The map in CONTRIBUTING.md names what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
MAP = TEXT.split("## The map")[1].split("\n## ")[0]


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:jaxalloc|tests|docs)/[\w./]*)`", TEXT))))
def test_a_path_that_is_named_exists(path: str) -> None:
    assert (ROOT / path).exists()


def test_the_map_names_every_folder_and_fits_a_screen() -> None:
    folders = {path.parent.name for path in (ROOT / "jaxalloc").glob("*/__init__.py")}
    assert folders - {"rivals"} <= set(re.findall(r"`([a-z]+)`", MAP))
    assert len(MAP.strip().splitlines()) <= 30


def test_targets_that_are_named_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"(?:^|`)make ([a-z-]+)", TEXT, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
