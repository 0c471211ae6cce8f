"""Published results, reproduced: a module each. ``benchmarks/reproduce.py`` runs them and writes their tables."""

import sys
from pathlib import Path

# oracles.py of the tests: the definitions in NumPy and SciPy, which import nothing of jaxalloc
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "oracle"))
