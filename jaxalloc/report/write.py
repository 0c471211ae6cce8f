"""write_report(): the page of a study or a walk-forward, as a file that is there whole or as it was before."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.paths import check_file, write_whole
from jaxalloc.report.page import html_page

if TYPE_CHECKING:
    from jaxalloc.backtest.walk import WalkForward
    from jaxalloc.studies.study import Study

FILE = "report.html"
_SUFFIXES = (".html", ".htm")


def write_report(
    study: Study | WalkForward, path: str | os.PathLike[str], *, title: str | None = None, base: str | None = None
) -> Path:
    """Write the report of a study or a walk-forward: one HTML file that needs no network.

    Args:
        study: from `run_study`, `walk_forward`, or loaded; of a sweep the details are those of the point `Sweep.home`.
        path: of the file, which ends in .html or .htm; a file of that name is replaced.
        title: the page's; by default it says how many assets and universes or rebalances there are.
        base: of a walk-forward, the profile that others are compared with; `WalkForward.base` by default.

    Returns:
        The path.

    Raises:
        InputError: the extra ``report`` is not installed, there cannot be a file of that name, or no such base.
        OSError: the file could not be written; one that was there before is kept.

    Example:
        >>> import jaxalloc as ja
        >>> study = ja.load_study("study/")  # doctest: +SKIP
        >>> ja.write_report(study, "report.html")  # doctest: +SKIP
        PosixPath('report.html')
    """
    target = check_report(path)
    page = html_page(study, title, base)
    write_whole(target, lambda partial: partial.write_text(page, encoding="utf-8"))
    return target


def check_report(path: str | os.PathLike[str], new_folder: bool = False) -> Path:
    """Return the path of a report that could be written, before anything long is begun.

    Args:
        path: of the file.
        new_folder: whether its folder is made later.

    Raises:
        InputError: as `write_report`.
    """
    target = check_file(path, "the report", _SUFFIXES, new_folder=new_folder)
    for package in ("plotly", "jinja2", "scipy"):
        try:
            __import__(package)
        except ImportError:
            raise InputError(f"the report needs the package {package}: pip install 'jaxalloc[report]'") from None
    return target
