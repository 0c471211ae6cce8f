"""The command line: `jaxalloc allocate`, `study`, `sweep`, `walk-forward`, `cross-validate`, `report`, `bench` ...

Exit status: 0 success; 1 failure while running; 2 error in the input, whether an option, a file or its content; 130
interrupted by Ctrl-C; 143 by SIGTERM. An error is one line on stderr, ``jaxalloc: error: ...``. With
JAXALLOC_TRACEBACK=1 in the environment, the traceback stands above it.

Each command is a module of this package. It loads, and JAX and pandas with it, when it is called: `jaxalloc --help`
answers at once.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import typer
import typer.core

import jaxalloc
from jaxalloc.arguments import private
from jaxalloc.arguments.errors import AllocationWarning, InputError
from jaxalloc.cli.commands import COMMANDS, EXIT_STATUS, UsageError, module_of, without_pydantic
from jaxalloc.engine.kept import folder_of_jax

DONE, FAILED, BAD_INPUT, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143


class _Commands(typer.core.TyperGroup):
    """The commands: listed by the summaries above, loaded when called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that the arguments name, and load it."""
        name, command, rest = super().resolve_command(ctx, args)
        if name in COMMANDS:
            command = typer.main.get_command(module_of(name).app)
            command.name = name
        return name, command, rest

    def invoke(self, ctx: Any) -> Any:
        """Run the command; Ctrl-C ends it in one line."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            raise typer.Exit(_interrupted(interrupt)) from None


app = typer.Typer(
    cls=_Commands,
    help="Cluster-aware portfolio allocation for thousands of universes at once.",
    epilog=f"Example: jaxalloc allocate prices.csv\n\n{EXIT_STATUS}",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _name, _summary in COMMANDS.items():
    app.command(_name, help=_summary)(lambda: None)  # `_Commands.resolve_command` loads the command itself


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"jaxalloc {jaxalloc.__version__}")
        raise typer.Exit(DONE)


@app.callback(invoke_without_command=True)
def _jaxalloc(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), nl=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows the program's name. With None they are the process's own, and `own_process` runs the
            command.

    Returns:
        The exit status.
    """
    if arguments is None:
        return own_process(lambda: _run(sys.argv[1:]))
    return report_errors(lambda: _run(list(arguments)))


def _run(arguments: list[str]) -> int:
    try:
        command = typer.main.get_command(app)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AllocationWarning)  # the commands say it as a note or as an error
            status = command.main(arguments, prog_name="jaxalloc", standalone_mode=False, obj=tuple(arguments))
    except UsageError as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "jaxalloc"
        message = without_pydantic(error.format_message())  # type: ignore[attr-defined]
        return _say(f"error: {message}; see {path} --help", BAD_INPUT)
    return status if isinstance(status, int) else DONE


def report_errors(run: Callable[[], int]) -> int:
    """Call ``run``, which gives an exit status; an exception becomes one line on stderr and a status too."""
    try:
        return run()
    except InputError as error:
        return _say(f"error: {_in_flags(str(error))}", BAD_INPUT)
    except (KeyboardInterrupt, typer.Abort) as interrupt:
        return _interrupted(interrupt)
    except BrokenPipeError:  # whoever reads stdout has stopped, as in `jaxalloc ... | head`
        with contextlib.suppress(OSError):  # the rest of the buffer goes nowhere, or Python would raise at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        return _say(f"error: {type(error).__name__}: {_in_flags(str(error))[:500]}", FAILED)


def _in_flags(message: str) -> str:
    from jaxalloc.cli.options import in_flags  # late: it loads JAX, which a wrong word on the line does not need

    return in_flags(message)


def _interrupted(interrupt: BaseException) -> int:
    """Say that the run was interrupted, and what the exception says is kept."""
    return _say("; ".join(["interrupted", *map(str, interrupt.args)]), INTERRUPTED)


def _say(message: str, status: int) -> int:
    """Print one line on stderr that says how the command ended; return the status."""
    if os.environ.get("JAXALLOC_TRACEBACK") == "1" and sys.exception() is not None:
        traceback.print_exc()
    line = " ".join(message.split())
    print("jaxalloc:", "".join(c if c.isprintable() else "?" for c in line), file=sys.stderr)
    return status


def own_process(run: Callable[[], int]) -> int:
    """`report_errors` for a process of its own; call it before JAX is imported.

    JAX keeps on disk what it compiles besides the programs of `jaxalloc.engine.kept`: in the folder that
    JAX_COMPILATION_CACHE_DIR names, else in ``$XDG_CACHE_HOME/jaxalloc/xla`` (``~/.cache/jaxalloc/xla``), or nowhere if
    that cannot be written, or others can write to it. Characters that stdout's encoding lacks are escaped.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    _keep_compiled_programs()
    with _ended_by_sigterm() as ended:
        status = report_errors(run)
    if status == INTERRUPTED and ended:
        status = TERMINATED
    if status in (
        FAILED,
        INTERRUPTED,
        TERMINATED,
    ):  # XLA's threads may still run, and would crash the interpreter's shutdown
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[list[int]]:
    """Within it SIGTERM, by which `kill`, queues and service managers end a process, does what Ctrl-C does.

    Yields:
        The signals that came.
    """
    came: list[int] = []

    def interrupt(number: int, frame: object) -> None:
        came.append(number)
        raise KeyboardInterrupt

    # whoever started the process may have it ignore the signal; and only the main thread may say what signals do
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield came
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, before)


def _keep_compiled_programs() -> None:
    settings = os.environ  # where JAX reads them from
    settings.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    settings.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
    # a cache that cannot be read or written, on a full disk for instance, costs time only
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache")
    if "JAX_COMPILATION_CACHE_DIR" not in settings:
        folder = folder_of_jax()
        if private.objection(folder, make=True) is None:
            settings["JAX_COMPILATION_CACHE_DIR"] = str(folder)
