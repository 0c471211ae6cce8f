"""A tour of jaxalloc on the embedded market, in a minute: what `make demo` runs.

The tour computes four portfolios of a synthetic market, prints their clusters and lead assets, allocates to 1,000
bootstrap resamples, tries other cluster caps, and writes everything to a folder, with a report to open in a browser. A
later run replaces that folder, but only if it holds nothing except what an earlier run wrote.
"""

from __future__ import annotations

import os
import shutil
import sys
import uuid
from pathlib import Path

from rich.console import Console

from jaxalloc import datasets
from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import unquoted
from jaxalloc.cli import render
from jaxalloc.cli.documents import to_json
from jaxalloc.cli.portfolios import NamedPortfolios, compute, write
from jaxalloc.cli.render_portfolios import print_clusters, print_header
from jaxalloc.cli.render_study import print_study
from jaxalloc.markets.panel import as_panel
from jaxalloc.report.write import FILE, check_report, write_report
from jaxalloc.settings.config import AllocationConfig
from jaxalloc.settings.sweep import sweep
from jaxalloc.storage.names import is_in_study
from jaxalloc.storage.schema import from_json
from jaxalloc.studies.run import run_study
from jaxalloc.studies.study import Study
from jaxalloc.universes.bootstrap import Bootstrap

_TRIED = 200  # resamples on which other cluster caps are tried
_MARKER = "made-by-jaxalloc-demo.json"  # lists the files of the run that made the folder
_OWN = (_MARKER, "returns.csv", "weights.csv", FILE)  # beside the study's


def run(folder: Path, n_resamples: int = 1000) -> int:
    """Allocate, print, and write to ``folder``; return 0.

    Raises:
        InputError: ``folder`` is there and holds something that the demo did not write.
    """
    _check_own(folder)
    console = render.stdout()
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:12]}.partial")
    try:
        partial.mkdir()
        portfolios = _allocate(console)
        study = _resample(portfolios, n_resamples, partial / "study", console)
        lacking = _report(study, partial)
        _vary(portfolios, min(n_resamples, _TRIED), console)
        _save(portfolios, study, partial)
        _put_in_place(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    _say_what_next(folder, console, lacking)
    return 0


def _allocate(console: Console) -> NamedPortfolios:

    _say(
        "1. Four portfolios of a synthetic market",
        "The market has shares, bonds, currencies, metals and coins. Assets that move together form a cluster. Capital "
        "is allocated to the clusters first, and then within each cluster. A cluster's lead asset is the asset with "
        "the highest weight in it. The barbell puts 10 % into a sleeve of five assets with more upside than downside.",
        console,
    )
    with render.working("compiling and allocating", quiet=False):
        portfolios = compute(as_panel(datasets.synthetic_market()), AllocationConfig(), 64, "synthetic market")
    print_header(portfolios, console)
    for profile in portfolios.config.profiles:
        print_clusters(portfolios, profile, console, rows=8)
    return portfolios


def _resample(portfolios: NamedPortfolios, n_resamples: int, out: Path, console: Console) -> Study:

    _say(
        f"2. How certain are the weights? {n_resamples:,} bootstrap resamples",
        "Each resample draws as many days as the market has, with replacement. It gets its own clusters and weights.",
        console,
    )
    with render.progress_bar(n_resamples, quiet=False) as progress:
        study = run_study(portfolios.panel, Bootstrap(n_resamples), portfolios.config, out=out, progress=progress)
    print_study(study, console)
    return study


def _report(study: Study, folder: Path) -> str:
    """Write the report into the folder; return why it could not be written, or an empty text."""
    try:
        target = check_report(folder / FILE)
    except InputError as error:  # the extra is not installed; the demo is worth running without it
        return str(error)
    with render.working("writing the report", quiet=False):
        write_report(study, target, title="synthetic market")
    return ""


def _vary(portfolios: NamedPortfolios, n_resamples: int, console: Console) -> None:

    _say(
        "3. What does the cluster cap change?",
        f"The first {n_resamples:,} of the resamples are allocated with other limits on the weight of a cluster.",
        console,
    )
    grid = sweep(portfolios.config, cluster_cap=(0.1, 0.15, 0.25))
    with render.progress_bar(n_resamples * len(grid), quiet=False) as progress:
        study = run_study(portfolios.panel, Bootstrap(n_resamples), grid, keep="summary", progress=progress)
    render.print_sweep(study, console, profiles=("risk_parity",))


def _say(title: str, text: str, console: Console) -> None:
    console.print("", title, style="bold", sep="\n")
    console.print(text, "", sep="\n")


def _say_what_next(folder: Path, console: Console, lacking: str) -> None:

    command = "jaxalloc"
    if shutil.which(command) is None:  # the virtual environment is not activated
        command = os.path.relpath(Path(sys.executable).with_name(command))
    lines = [
        "",
        f"4. Written to {folder}",
        f"{folder / 'weights.csv'}   the four portfolios, asset by asset",
        f"{folder / 'study'}         weights and clusters of every resample, and their summaries",
        f"{folder / 'returns.csv'}   the market's daily returns, as a file to try",
        "",
        "What next",
        f"{command} allocate {folder / 'returns.csv'} --profile barbell --all",
        f"{command} allocate YOUR-PRICES.csv --out weights.csv",
        f"{command} study YOUR-PRICES.csv --method circular --block 21 --report",
        f"{command} sweep YOUR-PRICES.csv --vary cluster-cap=0.15,0.25,0.35 --n 200",
        "",
        f"No report: {lacking}" if lacking else f"The report, to open in a browser: {folder / FILE}",
    ]
    for line in lines:
        console.print(line, markup=False, soft_wrap=True, style="bold" if line.startswith(("4.", "What")) else "")


# ---- the folder -----------------------------------------------------------------------------------------------------


def _files(folder: Path) -> set[str]:
    found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return {path.relative_to(folder).as_posix() for path in found}


def _is_own(folder: Path, name: str) -> bool:
    """Whether a name is that of a file which the demo writes; the list in its folder could name any."""
    return not (folder / name).is_symlink() and (
        name in _OWN or (name.startswith("study/") and is_in_study(name.removeprefix("study/")))
    )


def _check_own(folder: Path) -> None:
    """Raise unless ``folder`` does not exist, or an earlier run made it and nothing has been added."""
    if not os.path.lexists(folder):
        return
    problem = "was not made by the demo"
    if folder.is_dir() and not folder.is_symlink():
        try:
            written = set(from_json((folder / _MARKER).read_bytes())["files"])
            listed = written | {_MARKER}
            added = sorted(name for name in _files(folder) if name not in listed or not _is_own(folder, name))
            problem = f"also holds what the demo did not write, such as {unquoted(added[0])}" if added else ""
        except (OSError, ValueError, LookupError, TypeError):
            pass
    if problem:
        raise InputError(
            f"{unquoted(folder)} is there already and {problem}; move it away, or run the demo in another directory"
        )


def _save(portfolios: NamedPortfolios, study: Study, folder: Path) -> None:
    """Write the files beside the study's, and the list of all files."""
    portfolios.panel.returns.to_csv(folder / "returns.csv")
    write(portfolios, folder / "weights.csv")
    marker = {"made_by": "python -m jaxalloc.cli.demo", "resamples": study.n, "files": sorted(_files(folder))}
    (folder / _MARKER).write_text(to_json(marker), encoding="utf-8")


def _put_in_place(partial: Path, folder: Path) -> None:
    """Rename ``partial`` to ``folder``; an earlier run's folder is removed once the new one is complete."""
    _check_own(folder)
    if not folder.exists():
        partial.rename(folder)
        return
    old = partial.with_suffix(".old")
    folder.rename(old)
    try:
        partial.rename(folder)
    except OSError:
        old.rename(folder)
        raise
    shutil.rmtree(old)
