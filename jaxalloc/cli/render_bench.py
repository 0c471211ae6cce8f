"""What a person sees of `jaxalloc bench` in a terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rich.text import Text

from jaxalloc.arguments.words import counted, plain_name
from jaxalloc.cli.options import in_flags
from jaxalloc.cli.render import empty_table, plain
from jaxalloc.settings.status import Status

if TYPE_CHECKING:
    from rich.console import Console

_SPREAD = ("least", "median", "most")


def print_bench(measured: dict[str, Any], console: Console) -> None:
    """Print the document of `jaxalloc.cli.bench`: rates, clusters, and how close the portfolios are to the optimum."""
    print_machine(measured, console)
    size = f"{counted(measured['n_assets'], 'asset')}, {counted(measured['n_rows'], 'row')}"
    console.print(plain(f"{measured['source']}: {size}, bootstrap resamples, four profiles each"))

    grid = empty_table("", _SPREAD)
    rates, clusters = measured["universes_per_second"], measured["n_clusters"]
    grid.add_row("universes per second", *(rate(rates[name]) for name in _SPREAD))
    grid.add_row("clusters of a universe", *(f"{clusters[name]:g}" for name in _SPREAD))
    console.print("", grid, sep="\n")

    grid = empty_table("optimality gap", ("median", "largest", "flagged"))
    for profile, row in measured["profiles"].items():
        gap = row["optimality_gap"] or {}
        grid.add_row(plain_name(profile), small(gap.get("median")), small(gap.get("most")), f"{row['n_flagged']:,}")
    console.print("", grid, sep="\n")
    of_all = counted(measured["universes"], "universe")
    for profile, row in measured["profiles"].items():
        for name, count in row["status_counts"].items():
            note = f"note: {plain_name(profile)}, in {count:,} of {of_all}: {in_flags(Status[name].message)}"
            console.print(Text(note), style="yellow")

    runs = f"{counted(len(measured['runs']), 'run')} of {measured['seconds']:g} s or more, {of_all} together"
    console.print(f"\n{runs}", style="dim")
    console.print(f"compiling took {measured['compile_seconds']:.1f} s before the first run", style="dim")
    used = [f"{size / 2**20:,.0f} MiB of {where}" for where, size in _memory(measured["peak_memory"])]
    if used:
        console.print(f"memory: at most {', '.join(used)}", style="dim")
    console.print("optimality gap: by the engine's own bound; flagged: universes that a note is about", style="dim")
    console.print("`make bench` in a clone of jaxalloc's repository times other libraries beside it", style="dim")


def print_machine(measured: dict[str, Any], console: Console) -> None:
    """Print what a measurement ran on: the document's processor, precision and device."""
    machine, device = measured["machine"], measured["device"]
    console.print(plain(f"{machine['processor']}, {counted(machine['cores'], 'core')}"))
    kind = "" if device["kind"] == device["platform"] else f" ({device['kind']})"
    console.print(plain(f"jaxalloc in {measured['precision']} bits on {device['platform']}{kind}"))


def _memory(peaks: dict[str, int | None]) -> list[tuple[str, int]]:
    places = (("the process", peaks["process_bytes"]), ("the devices", peaks["device_bytes"]))
    return [(where, size) for where, size in places if size is not None]


def rate(value: float) -> str:
    """Universes a second, to three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def small(value: float | None) -> str:
    """A gap, to one digit; a dash where there is none."""
    return f"{value:.0e}" if value is not None and math.isfinite(value) else "-"
