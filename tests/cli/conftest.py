"""What the tests of the command line share: a file, and ways to run a command line on it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from helpers import market_on_a_terminal

import jaxalloc as ja
from jaxalloc.cli import main

_ENTRIES: tuple[Callable[..., object], ...] = (
    *(ja.read_returns, ja.run_study, ja.walk_forward, ja.sweep, ja.AllocationConfig),
    *(ja.Bootstrap, ja.RollingWindows, ja.RandomSubsets, ja.Parametric, ja.Stress),
)
_NAMES = sorted({name for entry in _ENTRIES for name in inspect.signature(entry).parameters if "_" in name})
# an argument of Python's, which is an option of another name here; not in a path or in quotes
IN_PYTHON = re.compile(rf"(?<![\w/.'\"-])({'|'.join(_NAMES)})(?![\w/'\"-]|\.\w)|(?<!['\"])\b[a-z_]+=(['\"]|True|False)")

OPTIONAL = {"benchmark_summary", "path_quantiles", "beats", "orders", "cash", "stability", "study", "sweep"}  # keys

N, T = 12, 120  # one shape, so that the engine is compiled once for most tests


@pytest.fixture(scope="session")
def market() -> pd.DataFrame:
    return ja.datasets.synthetic_market(N, T)


@pytest.fixture
def file(market: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The market as a CSV file in an empty current directory, on a terminal of 80 columns without colours."""
    return market_on_a_terminal(market, tmp_path, monkeypatch)


Run = Callable[..., tuple[str, str]]


@pytest.fixture
def run(file: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command line that should end with a given status; return what it wrote to stdout and stderr."""

    def run(*arguments: str | Path, status: int = 0) -> tuple[str, str]:
        ended = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert ended == status, err
        return out, err

    return run


@pytest.fixture
def undocumented() -> Callable[[str, dict[str, object], dict[str, object]], set[str]]:
    """Return those keys of a command's document, beside its record's, that docs/cli.md does not list."""

    def undocumented(command: str, document: dict[str, object], record: dict[str, object]) -> set[str]:
        page = (Path(__file__).parents[2] / "docs/cli.md").read_text(encoding="utf-8")
        (row,) = (
            line for line in page.splitlines() if re.match(rf"\| `{command}`[^|]*\|", line) and "`folder`" in line
        )
        listed = set(re.findall(r"`(\w+)`", row))
        assert listed - {"sampler", "CrossValidation"} - set(document) <= OPTIONAL
        return set(document) - set(record) - {"command"} - listed

    return undocumented


@pytest.fixture
def contents(tmp_path: Path) -> Callable[[], dict[str, bytes]]:
    """Take stock of every file and folder below the current directory."""

    def contents() -> dict[str, bytes]:
        return {str(path): path.read_bytes() if path.is_file() else b"" for path in sorted(tmp_path.rglob("*"))}

    return contents


@pytest.fixture
def refused(run: Run, contents: Callable[[], dict[str, bytes]]) -> Callable[..., str]:
    """Run a command line that should be refused: one line on stderr, nothing on stdout, no file touched."""

    def refused(*arguments: str | Path, status: int = 2) -> str:
        before = contents()
        out, err = run(*arguments, status=status)
        assert out == ""
        err = "".join(line for line in err.splitlines(keepends=True) if not line.startswith("note: "))
        assert len(err.splitlines()) == 1, err
        assert err.startswith("jaxalloc: error: ")
        assert not IN_PYTHON.search(err), "an option has its name in Python"
        assert contents() == before
        return err

    return refused
