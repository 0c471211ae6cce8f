"""Options from a file, ``--config study.toml``: the same settings as the flags, which win over it.

The file is TOML. A key is a flag without its dashes in front, and its value what the flag takes: a number, a text, true
for a flag that takes nothing, a list for one that may be repeated. Keys at the top are for every command that has such
a flag; those in the tables ``[allocate]``, ``[study]``, ``[sweep]`` and ``[walk-forward]`` are for that command, and
win over the top::

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

import dataclasses
import enum
import tomllib
import types
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import typer

from jaxalloc.arguments.errors import InputError
from jaxalloc.arguments.words import quote
from jaxalloc.cli import module_of

COMMANDS = ("allocate", "study", "sweep", "walk-forward")
_OF_ONE_RUN = ("config", "resume", "fresh", "help")  # flags that are no setting
_MAY_STAND_ALONE = "report"  # takes a name, or nothing


@dataclasses.dataclass(frozen=True)
class _Key:
    """A key of the file: its flag's parameter, the type of one value (str for a path too), whether it takes several."""

    parameter: str
    kind: type
    several: bool

    @classmethod
    def of(cls, parameter: str, annotation: Any) -> _Key:
        """Read it off the annotation that typer reads: ``Annotated[list[str] | None, ...]``, say."""
        kind = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
        if get_origin(kind) in (types.UnionType, Union):
            (kind,) = (part for part in get_args(kind) if part is not type(None))
        several = get_origin(kind) is list
        kind = get_args(kind)[0] if several else kind
        return cls(parameter, str if issubclass(kind, Path) else kind, several)


def _keys(command: str) -> dict[str, _Key]:
    """The keys that are a command's."""
    module = module_of(command)
    annotations = getattr(module, command.replace("-", "_")).__annotations__
    found = {}
    for parameter in typer.main.get_command(module.app).params:
        key = parameter.opts[0].removeprefix("--")
        if parameter.param_type_name == "option" and key not in _OF_ONE_RUN:
            found[key] = _Key.of(parameter.name, annotations[parameter.name])
    return found


def read_config(file: Path, command: str) -> dict[str, Any]:
    """Read the options of a command from a file; all of the file is checked, whichever command it is read for.

    Args:
        file: the path.
        command: one of `COMMANDS`.

    Returns:
        Parameter -> its value, as the command line would give it: a text or a list of them; True for a flag that
        takes nothing.

    Raises:
        InputError: the file cannot be read, is no TOML, or has a key or a value that no option takes.
    """
    content = _load(file)
    tables = {name: content.pop(name, {}) for name in COMMANDS}
    known = {name: _keys(name) for name in COMMANDS}
    shared = {key: option for options in known.values() for key, option in options.items()}
    found = _values(file, content, shared, "")
    found = {key: value for key, value in found.items() if key in known[command]}
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise InputError(f"{file}: {name} must be a table, [{name}] above its settings, not {_told(table)}")
        values = _values(file, table, known[name], f" in [{name}]")
        found |= values if name == command else {}
    return {known[command][key].parameter: value for key, value in found.items() if value is not None}


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


def _values(file: Path, table: dict[str, Any], keys: dict[str, _Key], place: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for word, value in table.items():
        key = word.replace("_", "-")
        if key not in keys:
            raise InputError(f"{file}: {_unknown(word, key, keys, place)}")
        if key in found:
            raise InputError(f"{file}: {key}{place} is given twice, with a dash and with an underscore")
        found[key] = _words(f"{file}: {key}{place}", key, keys[key], value)
    return found


def _unknown(word: str, key: str, keys: dict[str, _Key], place: str) -> str:
    if key in _OF_ONE_RUN:
        return f"{quote(word)}{place} is no setting, but about one run: give it on the command line, --{key}"
    tables = "" if place else f"; or the tables {', '.join(f'[{name}]' for name in COMMANDS)}"
    return f"there is no setting {quote(word)}{place}; choose from {', '.join(sorted(keys))}{tables}"


def _words(what: str, key: str, option: _Key, value: Any) -> Any:
    """A value as words of a command line; None for a flag that is not given."""
    if option.kind is bool or (key == _MAY_STAND_ALONE and isinstance(value, bool)):
        if not isinstance(value, bool):
            raise InputError(f"{what} must be true or false, not {_told(value)}")
        return (True if option.kind is bool else "") if value else None
    if isinstance(value, list) and option.several:
        if not value:
            raise InputError(f"{what} is an empty list: give values, or leave the key out")
        return [_word(what, option.kind, item) for item in value]
    word = _word(what, option.kind, value, " or a list of them" if option.several else "")
    return [word] if option.several else word


def _word(what: str, kind: type, value: Any, several: str = "") -> str:
    numbers = (int, float) if kind is float else (int,)
    if issubclass(kind, enum.Enum):
        choices = [member.value for member in kind]
        if isinstance(value, (str, int)) and str(value) in choices:  # precision = 64 is as good as "64"
            return str(value)
        raise InputError(f"{what} must be one of {', '.join(choices)}{several}, not {_told(value)}")
    if kind is str:
        wanted, numbers = "a text", (str, int, float)  # block = 21, or "auto"
    else:
        wanted = "a number" if kind is float else "a whole number"
    if isinstance(value, bool) or not isinstance(value, numbers):
        raise InputError(f"{what} must be {wanted}{several}, not {_told(value)}")
    return str(value)


def _told(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _take(context: typer.Context, value: Path | None) -> Path | None:
    """Let what the file says stand for the options that are not given."""
    if value is not None and not context.resilient_parsing:  # which is shell completion's
        context.default_map = read_config(value, str(context.info_name))
    return value


ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE.toml",
        callback=_take,
        is_eager=True,  # before the options that it stands for
        help="Take options from a TOML file: keys as the flags, at the top for every command, under \\[allocate], "
        "\\[study], \\[sweep] or \\[walk-forward] for one. The command line wins over it.",
    ),
]


def words_in_force(context: typer.Context) -> tuple[str, ...]:
    """The command line with the flags that the file stands for in its place: it says what is done without the file."""
    words: list[str] = list(context.obj or ())
    end = words.index("--") if "--" in words else len(words)  # after that no option is read
    head, tail = words[:end], words[end:]
    for position in reversed(range(len(head))):
        if head[position] == "--config":
            del head[position : position + 2]
        elif head[position].startswith("--config="):
            del head[position]
    values = context.default_map or {}
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is None or source.name != "DEFAULT_MAP":
            continue
        flag, value = parameter.opts[0], values[parameter.name]
        for word in value if isinstance(value, list) else [value]:
            if word is True or word == "":
                head.append(flag)
            else:
                head += [f"{flag}={word}"] if word.startswith("-") else [flag, word]
    return (*head, *tail)
