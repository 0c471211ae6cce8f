"""How a command ends, what help says, and what is loaded and kept on the way."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import typer

import jaxalloc as ja
from jaxalloc import cli
from jaxalloc.cli import commands, options, portfolios
from jaxalloc.portfolios.profiles import PROFILES
from jaxalloc.storage.recovery import read_manifest
from jaxalloc.studies.choice import DEFAULT

Run = Callable[..., tuple[str, str]]

HELD = ("walk-forward", "cross-validate")  # commands that hold portfolios out of sample

# ---- how it ends -----------------------------------------------------------------------------------------------------


def failing(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    return fail


def test_a_failure_is_status_1_and_one_line(
    refused: Callable[..., str], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portfolios, "allocate", failing(RuntimeError("out of\nmemory")))
    assert refused("allocate", file, status=1) == "jaxalloc: error: RuntimeError: out of memory\n"


def test_a_traceback_on_demand(run: Run, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAXALLOC_TRACEBACK", "1")
    monkeypatch.setattr(portfolios, "allocate", failing(RuntimeError("no")))
    _, err = run("allocate", file, status=1)
    assert err.startswith("Traceback")
    assert err.endswith("jaxalloc: error: RuntimeError: no\n")


def test_an_interrupt_is_status_130_and_one_line(run: Run, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portfolios, "allocate", failing(KeyboardInterrupt()))
    assert run("allocate", file, status=130) == ("", "jaxalloc: interrupted\n")


@pytest.mark.parametrize(("error", "status"), [(OSError(28, "No space left"), 1), (KeyboardInterrupt(), 130)])
def test_a_file_is_written_whole_or_not_at_all(
    run: Run,
    file: Path,
    contents: Callable[[], dict[str, bytes]],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    status: int,
) -> None:
    def fill_the_disk(_: pd.DataFrame, path: Path) -> None:
        path.write_text("profile,sym")
        raise error

    monkeypatch.setattr(portfolios, "write_csv", fill_the_disk)
    Path("old.csv").write_text("of an earlier run")
    before = contents()
    for name in ("old.csv", "new.csv"):
        run("allocate", file, "--out", name, status=status)
    assert contents() == before


# ---- help, version, processes ----------------------------------------------------------------------------------------


def test_every_setting_is_an_option() -> None:
    assert list(options._SETTINGS) == [field.name for field in dataclasses.fields(ja.AllocationConfig)]


@pytest.mark.parametrize("command", ["allocate", "clusters", "study", "sweep", *HELD])
def test_help_shows_defaults_choices_and_an_example(run: Run, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    out, _ = run(command, "--help")
    lines = {line.split()[1]: line for line in out.splitlines() if len(line.split()) > 1}
    for name, (flag, takes, _) in options._SETTINGS.items():
        default = getattr(DEFAULT if command == "clusters" else ja.AllocationConfig(), name)
        if name == "profiles":
            default = "risk_parity" if command == "allocate" else ", ".join(default)
        if isinstance(default, bool):
            default = f"{'' if default else 'no-'}{flag.removeprefix('--')}"
        assert f"[default: {default}]" in lines[flag]
        assert isinstance(takes, str) or all(choice in lines[flag] for choice in takes)
    assert f"[default: {'mask' if command in HELD else 'error'}]" in lines["--missing"]
    assert "[default: 64]" in lines["--precision"]


@pytest.mark.parametrize("command", ["", *commands.COMMANDS])
def test_every_help_has_an_example_that_parses_and_the_exit_statuses(
    run: Run, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    out, _ = run(*command.split(), "--help")
    assert "Exit status: 0 success; 1 failure while running; 2 error in the input; 130 or 143 interrupted." in out
    (words,) = re.findall(r"^ Example: jaxalloc (.*)$", out, re.MULTILINE)
    name, *rest = shlex.split(words)
    assert name == (command or "allocate")
    context = typer.main.get_command(commands.module_of(name).app).make_context(
        name, rest
    )  # raises where a word is wrong
    assert context.params


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--version"], 0),
        (["allocate", "market.csv", "--quiet"], 0),
        (["allocate", "nowhere.csv"], 2),
        (["allocate"], 2),
        (["x"], 2),
    ],
)
def test_the_exit_status_is_the_processs(file: Path, arguments: list[str], status: int) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "jaxalloc", *arguments], capture_output=True, check=False, text=True
    )
    assert done.returncode == status, done.stderr
    assert sum(not line.startswith("note: ") for line in done.stderr.splitlines()) == (status != 0)


# ---- colours ---------------------------------------------------------------------------------------------------------

COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[;m]")


def on_a_terminal(*arguments: str, **environment: str) -> str:
    """What a command writes to a terminal, stdout and stderr alike."""
    keep = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "jaxalloc", *arguments]
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=keep | {"TERM": "xterm-256color"} | environment
    ) as process:
        os.close(theirs)
        text = b""
        with contextlib.suppress(OSError):  # what Linux says at the end
            while piece := os.read(ours, 4096):
                text += piece
        os.close(ours)
        assert process.wait() == 0
    return text.decode()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        pytest.param(("allocate", "market.csv", "--missing", "zero", "--profile=barbell"), marks=pytest.mark.slow),
    ],
)
def test_colours_are_for_terminals_and_those_who_want_them(file: Path, arguments: tuple[str, ...]) -> None:
    assert COLOUR.search(on_a_terminal(*arguments))
    assert not COLOUR.search(on_a_terminal(*arguments, NO_COLOR="1"))
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    environment |= {"TERM": "xterm-256color"}
    command = [sys.executable, "-m", "jaxalloc", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert "\x1b" not in done.stdout + done.stderr


# ---- shell completion ------------------------------------------------------------------------------------------------


def in_bash(script: str, **environment: str) -> str:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    folder = Path(sys.executable).parent
    if not (folder / "jaxalloc").exists():
        pytest.skip("jaxalloc is not installed as a command")
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        # the true at the end keeps bash from giving way to the command: typer asks who called it
        [bash, "--norc", "-c", f"{script}\ntrue"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PATH": path} | environment,
    )
    assert done.stderr == ""
    return done.stdout


@pytest.fixture(scope="module")
def completion(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What typer has bash do to complete the command's words."""
    return in_bash("jaxalloc --show-completion", XDG_CACHE_HOME=str(tmp_path_factory.mktemp("cache")))


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("jaxalloc ", ["allocate", "clusters", "study", "sweep", *HELD, "report", "bench", "doctor"]),
        ("jaxalloc sw", ["sweep"]),
        ("jaxalloc walk-forward --exec", ["--execution"]),
        ("jaxalloc study prices.csv --conf", ["--config"]),
        ("jaxalloc study --config none.toml --res", ["--resume"]),  # which is not read for that
        ("jaxalloc allocate --linkage ", ["average", "single", "complete", "ward"]),
        ("jaxalloc sweep --profile m", ["min_variance", "max_sharpe", "max_diversification"]),
    ],
)
def test_bash_completes_commands_flags_and_choices(
    words: str, wanted: list[str], completion: str, tmp_path: Path
) -> None:
    count = len(words.split()) - (not words.endswith(" "))
    script = f"""
{completion}
complete -p jaxalloc
COMP_WORDS=({words}{'""' if words.endswith(" ") else ""}) COMP_CWORD={count}
_jaxalloc_completion jaxalloc
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    completer, *found = in_bash(script, XDG_CACHE_HOME=str(tmp_path)).splitlines()
    assert completer.endswith("-F _jaxalloc_completion jaxalloc")
    assert found == wanted


def test_completion_is_installed_for_the_shell_that_asks(tmp_path: Path) -> None:
    out = in_bash("jaxalloc --install-completion", HOME=str(tmp_path), XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert "bash completion installed in " in out
    assert "jaxalloc.sh" in (tmp_path / ".bashrc").read_text()
    help_text = in_bash("jaxalloc --help", COLUMNS="200")
    assert "--install-completion" in help_text
    assert "--show-completion" in help_text


# ---- what is loaded and kept -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["allocate", "clusters", "study", "sweep", *HELD])
def test_choices_are_completed(command: str) -> None:
    group = typer.main.get_command(cli.app)
    context = group.make_context("jaxalloc", [command, "x"], resilient_parsing=True)
    _, loaded, _ = group.resolve_command(context, [command])
    parameters = {parameter.name: parameter for parameter in loaded.params}
    for name, wanted in (("profiles", tuple(PROFILES)), ("linkage", ("average", "single", "complete", "ward"))):
        found = [item.value for item in parameters[name].shell_complete(context, "")]
        assert found == list(wanted)


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"} | environment,
    )


@pytest.mark.parametrize("arguments", [["--help"], [], ["--version"], ["frobnicate"]])
def test_help_loads_neither_jax_nor_pandas(arguments: list[str]) -> None:
    code = f"import sys; from jaxalloc.cli import main; main({arguments}); print(sorted(sys.modules))"
    done = python(code)
    assert done.returncode == 0
    assert not {"'jax'", "'pandas'", "'numpy'"} & set(re.findall(r"'\w+'", done.stdout.splitlines()[-1]))


def test_version(run: Run) -> None:
    assert run("--version") == (f"jaxalloc {ja.__version__}\n", "")


def test_compiled_programs_are_kept_for_the_next_process(file: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", "jaxalloc", "allocate", str(file), "--quiet", "--json"]
    command += ["--profile", "equal_weight"]  # the fewest programs
    folders = "JAX_COMPILATION_CACHE_DIR", "JAXALLOC_PROGRAMS"
    environment = {k: v for k, v in os.environ.items() if k not in folders}
    environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    kept: list[dict[str, int]] = []

    def run_once() -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(command, capture_output=True, check=True, env=environment)
        programs = (tmp_path / "cache" / "jaxalloc" / "programs").iterdir()
        kept.append({path.name: path.stat().st_ino for path in programs})
        return done

    first, second = run_once(), run_once()
    assert first.stdout == second.stdout
    assert first.stderr == second.stderr == b""
    assert kept[0]
    assert kept[0] == kept[1]  # none was written again


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code = "import os; from jaxalloc import cli; cli.own_process(lambda: print(os.getenv('JAX_COMPILATION_CACHE_DIR')))"
    done = python(code, XDG_CACHE_HOME=str(tmp_path / "file"))
    assert (done.stdout, done.stderr) == ("None\n", "")
    done = python(code, JAX_COMPILATION_CACHE_DIR="mine", XDG_CACHE_HOME=str(tmp_path))
    assert (done.stdout, done.stderr) == ("mine\n", "")


def test_an_interrupted_process_ends_without_the_interpreters_shutdown() -> None:
    code = "import atexit; from jaxalloc import cli; atexit.register(print, 'shutdown'); cli.own_process({})"
    done = python(code.format("lambda: (_ for _ in ()).throw(KeyboardInterrupt)"))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "jaxalloc: interrupted\n")


def test_sigterm_is_said_and_ends_the_process_as_ctrl_c_does() -> None:
    code = "import os, signal; from jaxalloc import cli; cli.own_process(lambda: os.kill(os.getpid(), signal.SIGTERM))"
    done = python(code)
    assert (done.returncode, done.stdout, done.stderr) == (143, "", "jaxalloc: interrupted\n")


def test_nobody_else_s_handler_of_sigterm_is_replaced() -> None:
    code = (
        "import signal, threading; from jaxalloc import cli; seen = []\n"
        "ask = lambda: seen.append(signal.getsignal(signal.SIGTERM)) or 0\n"
        "cli.own_process(ask); assert seen[-1] is not signal.SIG_DFL; assert ask() or seen[-1] is signal.SIG_DFL\n"
        "thread = threading.Thread(target=lambda: cli.own_process(ask)); thread.start(); thread.join()\n"
        "assert seen[-1] is signal.SIG_DFL\n"
        "for own in (signal.SIG_IGN, lambda *_: None):\n"
        "    signal.signal(signal.SIGTERM, own); cli.own_process(ask); assert seen[-1] is own is signal.getsignal(15)\n"
    )
    done = python(code)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_study_ended_by_sigterm_has_kept_its_state(file: Path, tmp_path: Path) -> None:
    command = ["study", str(file), "--n", "2000000", "--out", str(tmp_path / "study"), "--keep", "summary"]
    command += ["--profile", "equal_weight", "--chunk-size", "512"]
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "jaxalloc", *command], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("study/state/*.parquet")):  # it has finished a chunk
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    last = err.splitlines()[-1]
    assert re.fullmatch(r"jaxalloc: interrupted; [\d,]+ of 2,000,000 universes are kept in .*; resume with: .*", last)
    state = read_manifest(tmp_path / "study")
    assert state is not None
    assert state.state is not None
    assert f"{state.state.count * 512:,} of" in last


def test_a_reader_that_leaves_is_no_error(file: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", "jaxalloc", "study", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
