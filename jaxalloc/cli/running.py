"""How a study or a walk-forward runs: its options, the run, and how Ctrl-C ends it."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import lowered
from jaxalloc.backtest.walk import WalkForward
from jaxalloc.cli import render
from jaxalloc.cli.command_line import as_text, resuming
from jaxalloc.cli.documents import records
from jaxalloc.cli.options import Precision, Quiet
from jaxalloc.markets.panel import Panel
from jaxalloc.markets.periods import resolve_periods
from jaxalloc.report.write import FILE, check_report, write_report
from jaxalloc.settings.sweep import Sweep
from jaxalloc.storage.manifest import Manifest
from jaxalloc.storage.recovery import read_manifest
from jaxalloc.studies.run import Keep, run_study
from jaxalloc.studies.study import Study
from jaxalloc.universes.samplers import Product

_PANEL = "Running"


@dataclasses.dataclass(frozen=True)
class ComputingFlags:
    """How portfolios of many universes are computed."""

    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Continue an interrupted run from what its folder holds.", rich_help_panel=_PANEL
        ),
    ] = False
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Replace what an earlier run wrote to the folder.", rich_help_panel=_PANEL)
    ] = False
    chunk_size: Annotated[
        int | None,
        typer.Option(
            metavar="COUNT",
            help="Number of universes computed at once. By default it follows from the device's memory.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    precision: Precision = "64"
    dask: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Compute on the workers of a Dask cluster, given its scheduler's address, such as tcp://host:8786.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    profile_dir: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write a trace of JAX's profiler to this folder.", rich_help_panel=_PANEL),
    ] = None
    quiet: Quiet = False

    def computing(self) -> dict[str, Any]:
        """Return the options as the arguments of `run_study`, `walk_forward` and `cross_validate`."""
        return {
            "precision": int(self.precision),
            "chunk_size": "auto" if self.chunk_size is None else self.chunk_size,
            "resume": self.resume,
            "fresh": self.fresh,
            "dask": self.dask,
            "profile_dir": self.profile_dir,
        }


@dataclasses.dataclass(frozen=True)
class RunFlags(ComputingFlags):
    """How a study or a walk-forward runs."""

    report: Annotated[
        str | None,
        typer.Option(
            "--report",
            metavar="[FILE.html]",
            help="Also write a report, one HTML page: to FILE.html, or without a name into the folder of the results.",
        ),
    ] = None

    def report_file(self, file: Path, folder: Path | None) -> Path | None:
        """Return the path of the report, None where none is wanted; raise `InputError` if it cannot be written."""
        if self.report is None:
            return None
        if self.report:
            target = Path(self.report)
        elif folder is not None:
            target = folder / FILE
        else:
            target = _new(f"{_stem(file)}-report", ".html")
        # the folder of the results is made later on
        return check_report(target, new_folder=folder is not None and target.parent == folder)


@dataclasses.dataclass(frozen=True)
class StudyFlags(RunFlags):
    """How a study runs."""

    keep: Annotated[
        Keep,
        typer.Option(
            help="What to keep of each universe in the folder: its weights and clusters, or only the summary.",
            rich_help_panel=_PANEL,
        ),
    ] = "weights"


def new_folder(file: Path, what: str, again: bool) -> Path:
    """Name a folder in the current directory: FILE-what, or where that exists and is not run ``again``, FILE-what-2."""
    name = f"{_stem(file)}-{what}"
    return Path(name) if again else _new(name)


def _stem(file: Path) -> str:
    return file.name.split(".")[0] or "jaxalloc"


def _new(name: str, suffix: str = "") -> Path:
    """Return a path in the current directory that does not exist yet: NAME, or NAME-2, ..."""
    names = itertools.chain([name], (f"{name}-{k}" for k in itertools.count(2)))
    return next(path for path in (Path(each + suffix) for each in names) if not path.exists())


class Draws(NamedTuple):
    """How universes are drawn.

    Attributes:
        sampler: what draws them.
        seed: of the draws.
        max_missing: as `run_study` takes it.
    """

    sampler: Product
    seed: int
    max_missing: float


def run(
    panel: Panel,
    draws: Draws,
    settings: Sweep,
    folder: Path | None,
    running: StudyFlags,
    command: Sequence[str] = (),
) -> Study:
    """Run a study.

    Args:
        panel: the returns.
        draws: how universes are drawn.
        settings: the points of the grid at which each universe is allocated.
        folder: of the results; None to keep nothing.
        running: how it runs.
        command: the command line that asked for it, for whoever goes on with it.

    Raises:
        InputError: an argument is at fault.
        KeyboardInterrupt: its argument is what has been kept, if anything has.
    """
    resolved, _ = resolve_periods(settings, panel.dates)
    sampler = draws.sampler.prepare(panel, panel.n_observations, resolved.config.periods_per_year)
    total = sampler.count(panel.n_observations) * len(settings)
    resumed = running.resume and folder is not None and read_manifest(folder) is not None
    try:
        with render.progress_bar(total, running.quiet, resumed) as progress:
            return run_study(
                panel,
                sampler,
                settings,
                draws.seed,
                folder,
                max_missing=draws.max_missing,
                # without a folder there is nowhere to keep weights
                keep="summary" if folder is None else running.keep,
                command=as_text(command),
                progress=progress,
                **running.computing(),
            )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(*what_is_kept(folder, total, command)) from None


def write_outputs(
    result: Study | WalkForward, file: Path, folder: Path | None, report: Path | None, quiet: bool, **options: Any
) -> list[str]:
    """Write the report where one is wanted; return a line for each thing that has been written."""
    if report is not None:
        with render.working("writing the report", quiet):
            write_report(result, report, title=file.name, **options)
    return [f"Wrote {path}" for path in (folder, report) if path is not None]


def say_rest(result: Study | WalkForward, said: Sequence[str], file: Path, n_valid: int, quiet: bool) -> str | None:
    """Print the notes of a result that have not been said; return why nothing was allocated, for the error to say.

    Args:
        result: a study or a walk-forward.
        said: the notes that were printed before it ran.
        file: that was read.
        n_valid: how many universes have portfolios.
        quiet: print nothing.
    """
    rest = [note for note in result.record["notes"] if note not in said]
    why = None if n_valid else f"{file}: {lowered(rest.pop())}"
    render.say_notes(rest, quiet)
    return why


def what_is_kept(folder: Path | None, total: int, command: Sequence[str], studies: Sequence[str] = (".",)) -> list[str]:
    """Say what an interrupted run has kept, and how to go on with it; no line where nothing is kept.

    Args:
        folder: of the results.
        total: universes in all.
        command: the command line that asked for it.
        studies: the folders of its studies, within ``folder``.
    """
    if folder is None:
        return []
    try:
        manifests = [read_manifest(folder / name) for name in studies]
    except InputError:
        return []
    kept = min(sum(_universes_in(manifest) for manifest in manifests if manifest is not None), total)
    if not kept:
        return []
    how = f"resume with: {resuming(command, folder)}" if command else "run it again with --resume"
    return [f"{kept:,} of {total:,} universes are kept in {folder}; {how}"]


def _universes_in(manifest: Manifest) -> int:
    if manifest.identity.get("keep") == "weights":
        return sum(chunk.count for chunk in manifest.chunks.values())
    size = manifest.identity.get("chunk_size")
    return manifest.state.count * size if manifest.state is not None and isinstance(size, int) else 0


def document(study: Study, folder: Path | None, report: Path | None = None) -> dict[str, Any]:
    """Return the record and the summaries of a study as plain values."""
    summaries = study.record | {
        "folder": None if folder is None else str(folder),
        "report": None if report is None else str(report),
        "n_valid": study.n_valid,
        "comparison": records(study.comparison()),
        "recommendation": dataclasses.asdict(study.recommendation()),
        "status_counts": records(study.status_counts()),
        "profiles": records(study.profile_summary()),
        "assets": records(study.summary()),
        "cluster_counts": records(study.cluster_counts().to_frame()),
    }
    if not study.settings.names:
        summaries["stability"] = records(study.cluster_stability())
    return summaries
