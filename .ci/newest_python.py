#!/usr/bin/env python3
"""Prints the path of the newest Python, 3.11 or later, among the one that runs this, those on the PATH, and pyenv's.

Every candidate is asked. A prerelease does not count, nor a build without the global lock, nor a Python that cannot
make virtual environments. Of equally new ones the first in that order is printed.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

LOWEST = (3, 11)
# understood by Python 2 too, which fails at the import
QUESTION = """
import ensurepip, platform, sys, sysconfig, venv
assert platform.python_implementation() == "CPython" and sys.version_info[3] == "final"
assert not sysconfig.get_config_var("Py_GIL_DISABLED")
print(tuple(sys.version_info[:3]))
"""


def candidates() -> list[str]:
    """Executables that may be a Python."""
    folders = [Path(folder) for folder in os.get_exec_path() if Path(folder).is_dir()]
    names = [path for folder in folders for path in sorted(folder.glob("python3*"))]
    found = [str(path) for path in names if re.fullmatch(r"python3(\.\d+)?", path.name)]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    return [sys.executable, *found, *map(str, sorted(pyenv.glob("versions/*/bin/python")))]


def version(executable: str) -> tuple[int, ...]:
    """The version of a Python, () if it does not count."""
    try:
        asked = subprocess.run([executable, "-c", QUESTION], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return ast.literal_eval(asked.stdout)


found = {executable: version(executable) for executable in candidates()}
newest = max(found, key=lambda executable: found[executable])
if found[newest] < LOWEST:
    sys.exit("jaxalloc needs Python 3.11 or later, with its venv")
print(newest)
