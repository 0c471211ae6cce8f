"""A benchmark of several parts: those named on the command line are run, and their results kept beside the others'."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax


def run_parts(
    about: str | None, parts: Mapping[str, Callable[[], Any]], path: Path, render: Callable[[dict[str, Any]], str]
) -> None:
    """Run the parts that the command line names, and write each one's results as soon as they are there.

    Args:
        about: the help text.
        parts: what measures each part.
        path: of the JSON file of results; the Markdown stands beside it.
        render: from all results to Markdown.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*parts, "all"], default="all")
    chosen = parser.parse_args().parts
    for part in list(parts) if "all" in chosen else chosen:
        found = parts[part]()
        results = json.loads(path.read_text()) if path.exists() else {}
        results["machine"] = f"{os.cpu_count()} cores, {jax.devices()[0].device_kind}, jax {jax.__version__}"
        results[part] = found
        path.write_text(json.dumps(results, indent=1) + "\n")
        path.with_suffix(".md").write_text(render(results))
        print(part, found, flush=True)
