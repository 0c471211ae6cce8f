"""Options from a file, ``--config study.toml``: the same settings as the flags, which win over it.

The file is TOML. A key is a flag without its dashes in front, and its value what the flag takes: a number, a text, true
for a flag that takes nothing, a list for one that may be repeated. Keys at the top are for every command that has such
a flag; those in a table named for a command, such as ``[study]`` or ``[walk-forward]``, are for that command, and win
over the top::

    kind = "prices"
    profile = ["risk_parity", "barbell"]
    cluster-cap = 0.3

    [study]
    n = 10_000
    method = "circular"
    block = 21
    report = true

    [sweep]
    vary = ["cluster-cap=0.15,0.25,0.35"]
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import quote
from jaxalloc.cli.commands import UsageError, module_of, usage_message

COMMANDS = ("allocate", "clusters", "study", "sweep", "walk-forward", "cross-validate")
_ABOUT_ONE_RUN = ("config", "resume", "fresh", "help")  # flags that are no setting


def options_of(command: str) -> dict[str, Any]:
    """Return typer's parameters of a command by the keys of the file."""
    parameters = typer.main.get_command(module_of(command).app).params
    options = {p.opts[0].removeprefix("--"): p for p in parameters if p.param_type_name == "option"}
    return {key: parameter for key, parameter in options.items() if key not in _ABOUT_ONE_RUN}


def read_config(file: Path, context: typer.Context) -> dict[str, Any]:
    """Read the options of a command from a file; all of the file is checked, whichever command it is read for.

    Args:
        file: the path.
        context: of the command, whose name is one of `COMMANDS`.

    Returns:
        Parameter -> its value, as the command line would give it: a text or a list of texts; True for a flag that
        takes nothing.

    Raises:
        InputError: the file cannot be read, is no TOML, or has a key or a value that no option takes.
    """
    try:
        return _read(file, context)
    except RecursionError:
        raise InputError(
            f"{file}: --config is nested too deeply; a setting is a number, a text or a list of them"
        ) from None


def _read(file: Path, context: typer.Context) -> dict[str, Any]:
    content = _load(file)
    tables = {name: content.pop(name, {}) for name in COMMANDS}
    options = {name: options_of(name) for name in COMMANDS}
    command = str(context.info_name)
    shared = {key: parameter for name in COMMANDS for key, parameter in options[name].items()}
    values = _values(file, content, shared, "", context)
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise InputError(f"{file}: {name} must be a table, [{name}] above its settings, not {quote(table)}")
        of_command = _values(file, table, options[name], f" in [{name}]", context)
        if name == command:
            values |= of_command
    own = options[command]
    return {own[key].name: value for key, value in values.items() if key in own and value is not None}


def _load(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_bytes().decode())
    except FileNotFoundError:
        raise InputError(f"{file}: there is no such file; check the path after --config") from None
    except OSError as error:
        raise InputError(f"{file}: --config cannot be read ({error.strerror}); give a file of TOML") from None
    except UnicodeDecodeError:
        raise InputError(f"{file}: --config is not in UTF-8 text; save it so") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{file}: --config is not TOML ({error}); write lines such as cluster-cap = 0.3") from None


def _values(
    file: Path, table: dict[str, Any], options: Mapping[str, Any], place: str, context: typer.Context
) -> dict[str, Any]:
    """A table's values by key, each of which its option has taken; None for a flag that is false."""
    values: dict[str, Any] = {}
    for word, given in table.items():
        key = word.replace("_", "-")
        if key not in options:
            raise InputError(f"{file}: {_unknown(word, key, options, place)}")
        if key in values:
            raise InputError(f"{file}: {key}{place} is given twice, with a dash and with an underscore")
        try:
            value = _command_line_value(options[key], given)
            if value is not None:
                options[key].process_value(context, value)
        except (UsageError, ValueError) as error:
            message = usage_message(error) if isinstance(error, UsageError) else str(error)
            shown = repr(given) if len(repr(given)) <= 60 else f"{repr(given)[:57]}..."
            raise InputError(f"{file}: {key}{place} is {shown}: {message}") from None
        values[key] = value
    return values


def _unknown(word: str, key: str, options: Mapping[str, Any], place: str) -> str:
    if key in _ABOUT_ONE_RUN:
        return f"{quote(word)}{place} is no setting, but about one run: give it on the command line, --{key}"
    tables = "" if place else f"; or the tables {', '.join(f'[{name}]' for name in COMMANDS)}"
    return f"there is no setting {quote(word)}{place}; choose from {', '.join(sorted(options))}{tables}"


def _command_line_value(option: Any, value: Any) -> Any:
    """What the command line would give an option; None for nothing. Whether the option takes it is typer's to say.

    Raises:
        ValueError: no word of a command line is like it.
    """
    if option.is_flag or (option.name == "report" and isinstance(value, bool)):  # --report may stand alone
        if not isinstance(value, bool):
            raise ValueError("give true or false")
        if option.secondary_opts:  # such as --detone, which --no-detone turns off
            return value
        return (True if option.is_flag else "") if value else None
    if not option.multiple:
        return _word(value)
    if value == []:
        raise ValueError("give values, or leave the key out")
    return [_word(item) for item in (value if isinstance(value, list) else [value])]


def _word(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("give a text or a number")
    return str(value)


def _take(context: typer.Context, value: Path | None) -> Path | None:
    """Let what the file says stand for the options that are not given."""
    if value is not None and not context.resilient_parsing:  # which is shell completion's
        context.default_map = read_config(value, context)
    return value


ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE.toml",
        callback=_take,
        is_eager=True,  # before the options that it stands for
        help="Take options from a TOML file. Its keys are the flags: at the top for every command, under \\[allocate], "
        "\\[clusters], \\[study], \\[sweep], \\[walk-forward] or \\[cross-validate] for one. The command line wins "
        "over the file.",
    ),
]
