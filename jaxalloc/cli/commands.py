"""The commands by name, what ends them, and how typer says that a command line is wrong."""

from __future__ import annotations

import importlib
from typing import Any

import typer

EXIT_STATUS = "Exit status: 0 success; 1 failure while running; 2 error in the input; 130 or 143 interrupted."

# name of the command, and of its module with _ for - -> what `jaxalloc --help` says of it
COMMANDS = {
    "allocate": "Compute one portfolio of each profile for the assets of a file.",
    "clusters": "Choose into how many clusters to cut the tree of a file's assets.",
    "study": "Allocate to thousands of universes drawn from a file, and summarise the portfolios.",
    "sweep": "Allocate at every point of a grid of settings, and compare the points.",
    "walk-forward": "Backtest: decide portfolios on past rows, and hold them on the rows that follow.",
    "cross-validate": "Hold portfolios out of sample on many histories put together from splits of a file's rows.",
    "report": "Write the report of a finished study or walk-forward, one HTML page.",
    "bench": "Measure how many universes per second this machine allocates to.",
    "doctor": "Show versions, devices and kept programs, and test that compiled programs are kept.",
}
UsageError: type[Exception] = typer.BadParameter.__bases__[0]  # what typer raises for any bad command line


def module_of(command: str) -> Any:
    """Load the module of a command."""
    return importlib.import_module(f"jaxalloc.cli.{command.replace('-', '_')}")


def usage_message(error: Any) -> str:
    """What is wrong by a `UsageError`, without the option's name."""
    return without_pydantic(error.message)


def without_pydantic(message: str) -> str:
    """Return a message of typer's without what pydantic, which checks its values, puts around it."""
    return message.replace("Value error, ", "").rstrip(".")
