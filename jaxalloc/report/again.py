"""How to run a study or a walk-forward again: the command line that made it, and the same in Python."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jaxalloc.markets.holes import MAX_MISSING
from jaxalloc.settings.config import AllocationConfig

if TYPE_CHECKING:
    from jaxalloc.backtest.walk import WalkForward
    from jaxalloc.settings.sweep import Sweep
    from jaxalloc.studies.study import Study

_LONGEST = 400  # characters of a setting


def command_line(record: Mapping[str, Any]) -> str | None:
    """Return a record's command line, made to write to a new folder; None if the record is of no command line."""
    command = record.get("command")
    if not isinstance(command, str):
        return None
    try:
        return shlex.join(without_places(shlex.split(command)))
    except ValueError:
        return None


def without_places(words: list[str]) -> list[str]:
    """Return a command line's words without the options that say where it writes and whether it resumes."""
    kept, skip = [], False
    for position, word in enumerate(words):
        if word == "--":
            return kept + words[position:]
        if skip:
            skip = False
        elif word == "--out":
            skip = True
        elif word == "--report":
            following = words[position + 1] if position + 1 < len(words) else ""
            skip = following.lower().endswith((".html", ".htm"))
        elif word not in ("--resume", "--fresh") and not word.startswith(("--out=", "--report=")):
            kept.append(word)
    return kept


def python_lines(study: Study) -> str:
    """Return Python code that makes the same study from the same data."""
    lines = _config_lines(study.settings, "")
    lines.append(f"sampler = {_sampler(study.record['sampler'])}")
    keep = "" if study.tables is not None else ', keep="summary"'
    how = f"seed={study.seed}, precision={study.precision}{_max_missing(study.record)}{keep}"
    lines.append(f'study = ja.run_study(panel, sampler, config, {how}, out="again")')
    return "\n".join(lines)


def walk_lines(walk: WalkForward) -> str:
    """Return Python code that makes the same walk-forward from the same data."""
    s, record = walk.schedule, walk.record
    given = {"window": s.window, "step": s.step, "expanding": s.expanding, "gap": s.gap}
    given |= {name: value for name, value in walk.settings.record().items() if name == "costs_bps" or value}
    given |= {"execution": walk.execution, "seed": walk.seed, "precision": walk.precision}
    words = [f"{name}={_value(value)}" for name, value in given.items()]
    words[-1] += _max_missing(record)
    lines = _config_lines(walk.settings.allocations, 'missing="mask"')
    if record["paths"]:
        lines.append(f"paths = {_sampler(record['paths'])}")
        words.append("paths=paths")
    if "bagging" in record:
        lines.append(f"bagging = {_sampler(record['bagging'] | {'sampler': 'Bootstrap'})}")
        words.append("bagging=bagging")
    if walk.benchmark is not None:
        words.append(f"benchmark={walk.benchmark.name!r}")
    if record["previous_weights"]:
        lines.append("previous = ...  # the previous weights of the first run")
        words.append("previous_weights=previous")
    lines.append(f'walk = ja.walk_forward(panel, config, {", ".join(words)}, out="again")')
    return "\n".join(lines)


def _max_missing(record: Mapping[str, Any]) -> str:
    """The argument, where it is not the default."""
    share = record.get("max_missing", MAX_MISSING)
    return "" if share == MAX_MISSING else f", max_missing={share!r}"


def _config_lines(settings: Sweep, reading: str) -> list[str]:
    """The lines that read the data and make the settings."""
    default = AllocationConfig()
    config = settings.config
    changed = [
        f"{field.name}={_value(getattr(config, field.name))}"
        for field in dataclasses.fields(AllocationConfig)
        if getattr(config, field.name) != getattr(default, field.name)
    ]
    read = ", ".join(['"FILE"', reading] if reading else ['"FILE"'])
    lines = [
        "import jaxalloc as ja",
        "",
        f"panel = ja.read_returns({read})  # with the kind= and missing= of the first run",
        f"config = ja.AllocationConfig({', '.join(changed)})",
    ]
    if settings.names:
        grid = ", ".join(f"{name}={_value(list(values))}" for name, values in settings.grid)
        lines.append(f"config = ja.sweep(config, {grid})")
    return lines


def _sampler(settings: dict[str, Any]) -> str:
    if settings["sampler"] == "Product":
        return " * ".join(_sampler(factor) for factor in settings["factors"]) or "None"
    given = [f"{name}={_value(value)}" for name, value in settings.items() if name != "sampler" and value is not None]
    return f"ja.{settings['sampler']}({', '.join(given)})"


def _value(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else "..."  # too long for a page, such as a covariance matrix
