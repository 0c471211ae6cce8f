"""`python -m jaxalloc.cli.demo`: runs the tour in the current directory, in a process of its own (`make demo`)."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from jaxalloc.cli import own_process

FOLDER = "jaxalloc-demo"


def main() -> int:
    """Run the tour; return an exit status as `jaxalloc.cli` does. JAX loads after `own_process` has set it up."""
    return own_process(lambda: importlib.import_module("jaxalloc.cli.tour").run(Path(FOLDER)))


if __name__ == "__main__":
    sys.exit(main())
