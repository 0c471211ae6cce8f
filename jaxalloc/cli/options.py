"""The options that commands share: those of reading a file, and every setting of an allocation.

A command declares a parameter whose type is a record, such as ``source: SourceFile`` or ``config: AllocationConfig``;
`expand` puts an option for each of its fields in its place. Defaults are those of `read_returns` and
`AllocationConfig`: there is no second copy of one.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import inspect
import operator
import re
import types
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer

from jaxalloc.arguments.words import quote
from jaxalloc.cli.commands import EXIT_STATUS
from jaxalloc.cli.configured import ConfigFile
from jaxalloc.markets.gaps import Missing
from jaxalloc.markets.kinds import Kind
from jaxalloc.markets.panel import Panel, read_returns
from jaxalloc.markets.table import Layout
from jaxalloc.settings.config import (
    AUTO,
    COUNTS,
    COVARIANCES,
    CRITERIA,
    DISTANCES,
    LINKAGES,
    NUMERIC_FIELDS,
    PROFILE_NAMES,
    STATIC_FIELDS,
    AllocationConfig,
    check_config,
    is_auto,
)

_READING = {name: parameter.default for name, parameter in inspect.signature(read_returns).parameters.items()}

Precision = Annotated[Literal["32", "64"], typer.Option(help="Precision of the computation, in bits.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout instead of tables.")]
MissingWay = Annotated[
    Missing,
    typer.Option(
        metavar="WAY",
        help="What to do with gaps; the return after a gap goes from the last price before it. error: stop. mask: "
        "leave an asset out wherever it has a gap. carry: a return of 0 between an asset's first and last price; "
        "before and after, leave it out. zero: a return of 0 everywhere. drop-assets: drop the assets that miss more "
        "than --missing-tolerance. drop-rows: drop every row with a gap.",
    ),
]
MaxMissing = Annotated[
    float,
    typer.Option(
        metavar="SHARE",
        help="Largest share of a universe's rows that an asset may miss between its first and last return; these count "
        "as 0. With more, the asset is left out of the universe. 0: no row may be missing.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print no notes and no progress on stderr, only errors.")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """How to read a file: the arguments of `read_returns` after the first."""

    kind: Annotated[
        Kind,
        typer.Option(
            help="What the numbers are: prices, returns (0.05 is 5 %), percent (5 is 5 %) or factors (1.05 is 5 %). "
            "auto: tell prices from returns by their values."
        ),
    ] = _READING["kind"]
    missing: MissingWay = _READING["missing"]
    dayfirst: Annotated[
        bool | None,
        typer.Option(
            "--day-first/--month-first",
            help="Whether 01/02/2020 is the first of February. By default the dates settle it, or an error asks.",
        ),
    ] = _READING["dayfirst"]
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Read these assets only, separated by commas, in this order; or the field to take, such as Open.",
        ),
    ] = _READING["columns"]
    sheet: Annotated[
        str | None, typer.Option(metavar="NAME", help="Sheet of a workbook. By default the first that holds a table.")
    ] = _READING["sheet"]
    missing_tolerance: Annotated[
        float,
        typer.Option(metavar="SHARE", help="Largest share of missing returns with which drop-assets keeps an asset."),
    ] = _READING["missing_tolerance"]
    layout: Annotated[
        Layout,
        typer.Option(help="wide: a column per asset. long: a row per date and asset. auto: as the file looks."),
    ] = _READING["layout"]

    def read_file(self, file: Path) -> Panel:
        """Read the panel of a file."""
        return read_returns(
            file,
            self.kind,
            self.missing,
            dayfirst=self.dayfirst,
            columns=None if self.columns is None else [name.strip() for name in self.columns.split(",")],
            layout=self.layout,
            missing_tolerance=self.missing_tolerance,
            sheet=self.sheet,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceFile(Reading):
    """The file to read, and how to read it."""

    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="File of prices or returns: CSV, .xlsx, Parquet and others.")
    ]
    config_file: ConfigFile = None

    def read(self) -> Panel:
        """Read the panel."""
        return self.read_file(self.file)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GappyFile(SourceFile):
    """The file to read, and how to read it; by default gaps stay."""

    missing: MissingWay = "mask"


# field of AllocationConfig -> its flag, what it takes (choices, or a word for a number), help
_SETTINGS: dict[str, tuple[str, tuple[str, ...] | str, str]] = {
    "profiles": ("--profile", PROFILE_NAMES, "Portfolio to compute: {}. Repeat the option for several portfolios."),
    "linkage": ("--linkage", LINKAGES, "How the distances between assets make the distance between two clusters: {}."),
    "criterion": (
        "--criterion",
        CRITERIA,
        "Where to cut the tree of clusters: {}. distance cuts at --threshold, maxclust into at most --max-clusters, "
        "and silhouette into as many, up to --max-clusters, as keep the clusters farthest apart for their width.",
    ),
    "distance": (
        "--distance",
        DISTANCES,
        "What makes two assets close: {}. With absolute, assets that move in opposite directions are close too.",
    ),
    "detone": (
        "--detone",
        "",
        "Form clusters by what assets have in common beyond the market, their first principal component. The risk of a "
        "portfolio is measured with the market.",
    ),
    "covariance": (
        "--covariance",
        COVARIANCES,
        "Estimate of means and covariances: {}. ewma gives recent rows more weight (--ewma-decay). ledoit_wolf and oas "
        "shrink the correlations of the sample.",
    ),
    "ewma_decay": ("--ewma-decay", "LAMBDA", "Weight of a row relative to the next row, with --covariance ewma."),
    "distance_threshold": (
        "--threshold",
        "HEIGHT",
        "Height at which the tree of clusters is cut. A lower height gives more clusters.",
    ),
    "max_clusters": (
        "--max-clusters",
        "auto|COUNT",
        "Largest number of clusters, with --criterion maxclust or silhouette. auto: 10 with the first, 40 with the "
        "second.",
    ),
    "cluster_cap": ("--cluster-cap", "SHARE", "Largest weight of a cluster."),
    "asset_cap": ("--asset-cap", "SHARE", "Largest weight of an asset."),
    "slack": (
        "--slack",
        "FACTOR",
        "A universe of few clusters or assets cannot be fully invested under tight caps. The caps are raised to at "
        "least FACTOR / clusters and FACTOR / assets.",
    ),
    "risk_free_rate": (
        "--risk-free-rate",
        "RATE",
        "Annual simple rate that max_sharpe subtracts from the mean return.",
    ),
    "periods_per_year": (
        "--periods-per-year",
        "auto|COUNT",
        "Rows per year, such as 252 for business days or 12 for months. auto: by the dates, and 252 without dates.",
    ),
    "n_aggressors": ("--n-aggressors", "COUNT", "Number of assets in the barbell's sleeve, each from another cluster."),
    "aggressor_weight": ("--aggressor-weight", "SHARE", "Weight of the barbell's sleeve."),
}


def example(words: str) -> str:
    """The end of a command's help: an example, and the exit statuses."""
    return f"Example: jaxalloc {words}\n\n{EXIT_STATUS}"


def _field_options(record: type) -> list[inspect.Parameter]:
    """Return an option for each field of a record, as its annotation says."""
    hints = get_type_hints(record, include_extras=True)
    missing = dataclasses.MISSING
    return [
        _parameter(f.name, hints[f.name], inspect.Parameter.empty if f.default is missing else f.default)
        for f in dataclasses.fields(record)
    ]


def _setting_options(default: AllocationConfig) -> list[inspect.Parameter]:
    """Return an option for each setting; the defaults are those of ``default``, a command's own."""
    options = []
    for name, (flag, takes, text) in _SETTINGS.items():
        value = getattr(default, name)
        kind: Any = type(value) if isinstance(takes, str) else Literal[takes]
        if isinstance(value, tuple):
            kind, value = list[kind], list(value)
        metavar = (takes or None) if isinstance(takes, str) else "NAME"
        choices = takes if isinstance(takes, tuple) else ()
        text = text.format(" or ".join([", ".join(choices[:-1]), *choices[-1:]]))
        parser = _auto_or(int, "a whole number") if name in COUNTS else _auto_or(float, "a number")
        words = f"{flag}/--no-{flag.removeprefix('--')}" if isinstance(value, bool) else flag
        option = typer.Option(
            words, help=text, metavar=metavar, rich_help_panel="Settings", parser=parser if is_auto(value) else None
        )
        options.append(_parameter(name, Annotated[kind, option], value))
    return options


def _auto_or(number: type[int | float], words: str) -> Callable[[str], int | float | str]:
    """Return what reads a number, or the word auto; ``words`` say what kind of number."""

    def read(text: str) -> int | float | str:
        if is_auto(text):
            return text
        try:
            return number(text)
        except ValueError:
            raise typer.BadParameter(f"{quote(text)} is not {words}, nor {AUTO}") from None

    return read


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _config(**values: Any) -> AllocationConfig:
    values["profiles"] = tuple(values["profiles"])
    return check_config(AllocationConfig(**values))


def expand(command: Callable[..., None]) -> Callable[..., None]:
    """Turn a function whose parameters are records into a command for typer.

    Each record is replaced by an option for each of its fields, and settings are checked. A `Literal` becomes the
    enumeration that typer wants; the function gets the plain value.
    """
    parameters: list[inspect.Parameter] = []
    groups: dict[str, tuple[Callable[..., Any], list[str]]] = {}
    for name, parameter in inspect.signature(command, eval_str=True).parameters.items():
        options, record = [parameter], parameter.annotation
        if record is AllocationConfig:
            options = _setting_options(parameter.default)
            groups[name] = _config, [option.name for option in options]
        elif isinstance(record, type) and dataclasses.is_dataclass(record):
            options = _field_options(record)
            groups[name] = record, [option.name for option in options]
        parameters += [p.replace(kind=p.KEYWORD_ONLY, annotation=_enumerated(p.annotation)) for p in options]

    def expanded(**values: Any) -> None:
        values = {name: _plain(value) for name, value in values.items()}
        for group, (make, names) in groups.items():
            values[group] = make(**{name: values.pop(name) for name in names})
        command(**values)

    paragraphs = (command.__doc__ or "").split("\n\n")
    expanded.__name__, expanded.__doc__ = command.__name__, "\n\n".join(" ".join(p.split()) for p in paragraphs)
    expanded.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    expanded.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return expanded


def _enumerated(annotation: Any) -> Any:
    """Return the annotation with an enumeration in the place of a `Literal`."""
    if get_origin(annotation) is Annotated:
        inner, *rest = get_args(annotation)
        return Annotated[_enumerated(inner), *rest]
    if get_origin(annotation) is list:
        return list[_enumerated(get_args(annotation)[0])]
    if get_origin(annotation) in (types.UnionType, Union):  # an optional Literal is one or the other
        return functools.reduce(operator.or_, map(_enumerated, get_args(annotation)))
    if get_origin(annotation) is Literal:
        return enum.Enum("Choice", [(value, value) for value in get_args(annotation)])
    return annotation


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.value if isinstance(value, enum.Enum) else value


def setting_name(word: str) -> str:
    """Return the field of `AllocationConfig` that a word names: the field, or its flag with or without dashes."""
    flag = "--" + word.removeprefix("--").replace("_", "-")
    return next((name for name, known in _FLAGS.items() if name == word or known == flag), word)


def flag_of(name: str) -> str:
    """Return the flag of a setting without its dashes: ``threshold`` for ``distance_threshold``."""
    return _ARGUMENTS[name].removeprefix("--")


# ---- the library's messages in the command line's words --------------------------------------------------------

_FLAGS = {name: flag for name, (flag, _, _) in _SETTINGS.items()}
_ARGUMENTS = _FLAGS | {
    "missing_tolerance": "--missing-tolerance",
    "dayfirst": "--day-first",
    "columns": "--columns",
    "sheet": "--sheet",
    "block_length": "--block",
    "chunk_size": "--chunk-size",
    "band": "--band",
    "benchmark": "--benchmark",
    "capital": "--capital",
    "costs_bps": "--costs-bps",
    "degrees_of_freedom": "--degrees-of-freedom",
    "embargo": "--embargo",
    "gap": "--gap",
    "groups": "--groups",
    "held": "--held",
    "lot": "--lot",
    "max_missing": "--max-missing",
    "max_turnover": "--max-turnover",
    "n": "--n",
    "previous_weights": "--previous-weights",
    "purge": "--purge",
    "seed": "--seed",
    "size": "--subset",
    "test_groups": "--test-groups",
    "window": "--window",
    "step": "--step",
    "dask": "--dask",
    "volatility": "--stress: volatility",
    "correlation": "--stress: correlation",
    "mean": "--stress: mean",
}
_OPTIONS = ("kind", "missing", "layout", "block_length", "keep", "columns", "sheet", "method", "execution", "step")
_CHOICES = (*STATIC_FIELDS, *_OPTIONS)
_CHOICE = re.compile(rf"\b({'|'.join(_CHOICES)})=(['\"])([\w-]+)\2(?: or \2([\w-]+)\2)?")
_NUMBER = re.compile(rf"(?<![\w/.'\"\\-])({'|'.join(NUMERIC_FIELDS)})=(?=[\d.-])")  # "asset_cap=0.1"
_SWEPT = re.compile(r"(?<=sweep of )slack\b")  # a plain word that no other rule finds
_DAY_FIRST = re.compile(r"\bdayfirst=(True|False)\b")
_SWITCH = re.compile(r"\b(resume|fresh|detone)=True\b")
_ANOTHER_CHOICE = re.compile(rf"'({'|'.join(get_args(Missing))})'(?= \()")  # "missing='mask' (...), 'zero' (...)"
# A name with an underscore, except in a path or a quoted symbol; a plain word only where it opens the message.
_NAME = re.compile(rf"(?<![\w/.'\"\\-])({'|'.join(name for name in _ARGUMENTS if '_' in name)})(?![\w/'\"-]|\.\w)")
_PLAIN = "|".join(name for name in _ARGUMENTS if "_" not in name)
_FIRST_WORD = re.compile(rf"^({_PLAIN})(?=,|: | must | is | names | multiplies)")


def _choice_in_flags(match: re.Match[str]) -> str:
    other = f" or {match[4]}" if match[4] else ""
    return f"{_ARGUMENTS.get(match[1], '--' + match[1])} {match[3]}{other}"


def in_flags(message: str) -> str:
    """Write the arguments in a message as options: ``kind='prices'`` as ``--kind prices``."""
    message = _CHOICE.sub(_choice_in_flags, message)
    message = _NUMBER.sub(lambda match: f"{_ARGUMENTS[match[1]]} ", message)
    message = _SWEPT.sub("--slack", message)
    message = _DAY_FIRST.sub(lambda match: "--day-first" if match[1] == "True" else "--month-first", message)
    message = _SWITCH.sub(r"--\1", _ANOTHER_CHOICE.sub(r"\1", message))
    for names in (_NAME, _FIRST_WORD):
        message = names.sub(lambda match: _ARGUMENTS[match[1]], message)
    return message
