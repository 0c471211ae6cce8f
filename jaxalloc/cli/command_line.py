"""The words of a command line: what a study keeps of them, and what is told to whoever goes on with it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
import typer.core


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words that may be options, and those from ``--`` on, which are none."""
    end = words.index("--") if "--" in words else len(words)
    return list(words[:end]), list(words[end:])


class ReportingCommand(typer.core.TyperCommand):
    """A command whose ``--report`` may stand alone: no other option of typer's takes a value or none."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give ``--report`` an empty value where no file ending in .html or .htm follows."""
        options, rest = _split(args)
        given = [
            f"{word}=" if word == "--report" and not following.lower().endswith((".html", ".htm")) else word
            for word, following in zip(options, [*options[1:], ""], strict=False)
        ]
        return super().parse_args(ctx, [*given, *rest])


def words_in_force(context: typer.Context) -> tuple[str, ...]:
    """The command line with the flags that ``--config`` stands for in its place: it needs no file."""
    options, rest = _split(context.obj or ())
    for position in reversed(range(len(options))):
        if options[position] == "--config":
            del options[position : position + 2]
        elif options[position].startswith("--config="):
            del options[position]
    values = context.default_map or {}
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is None or source.name != "DEFAULT_MAP":
            continue
        flag, value = parameter.opts[0], values[parameter.name]
        for word in value if isinstance(value, list) else [value]:
            if word is True or word == "":
                options.append(flag)
            else:
                options += [f"{flag}={word}"] if word.startswith("-") else [flag, word]
    return (*options, *rest)


def as_text(words: Sequence[str]) -> str | None:
    """The command line as one text that a shell takes, None where there are no words."""
    return shlex.join(["jaxalloc", *words]) if words else None


def resuming(words: Sequence[str], folder: Path) -> str:
    """The command line, as one text, that goes on with what is in a folder."""
    options, rest = _split([word for word in words if word not in ("--fresh", "--resume")])
    out = [] if any(word == "--out" or word.startswith("--out=") for word in options) else ["--out", str(folder)]
    return shlex.join(["jaxalloc", *options, *out, "--resume", *rest])
