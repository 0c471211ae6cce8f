"""What a derivative of `allocate` costs: gradients of a batch beside its values, and the programs' compilation.

    JAXALLOC_DATA=folder python benchmarks/gradients.py

takes some minutes on two cores, puts what it finds into benchmarks/results/gradients.json and makes gradients.md of it.
The values are the volatilities of four profiles, summed; the gradients are with respect to all returns of a universe.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import jax
import numpy as np
from panels import RESULTS, daily
from parts import run_parts

import jaxalloc as ja

ROWS = 252
BATCHES = {20: 256, 60: 64, 200: 16}  # universes of so many assets
PAIRS = 11


def measure(n_assets: int, n_universes: int, pairs: int = PAIRS, n_rows: int = ROWS) -> dict[str, Any]:
    """Compile values and gradients of resamples, and run them in turns.

    Returns:
        Seconds of compilation of each, milliseconds a universe (median), and the median over the pairs of their ratio.
    """
    panel, rng = daily(n_assets, n_rows), np.random.default_rng(0)
    returns = np.stack([panel[rng.integers(0, len(panel), len(panel))] for _ in range(n_universes)])

    def risk(returns: Any) -> Any:
        return ja.allocate(returns).volatility.sum()

    programs, found = {}, {}
    with jax.enable_x64(True):
        for name, function in (("value", risk), ("gradient", jax.grad(risk))):
            lowered = jax.jit(jax.vmap(function)).lower(returns)
            began = time.perf_counter()
            programs[name] = lowered.compile()
            found[f"{name}_compilation"] = time.perf_counter() - began
            jax.block_until_ready(programs[name](returns))
        seconds: dict[str, list[float]] = {name: [] for name in programs}
        for _ in range(pairs):
            for name, program in programs.items():
                began = time.perf_counter()
                jax.block_until_ready(program(returns))
                seconds[name].append(time.perf_counter() - began)
    ratios = [one / other for one, other in zip(seconds["gradient"], seconds["value"], strict=True)]
    found |= {f"{name}_ms": 1e3 * statistics.median(each) / n_universes for name, each in seconds.items()}
    return {"assets": n_assets, "universes": n_universes} | found | {"ratio": statistics.median(ratios)}


def cost() -> list[dict[str, Any]]:
    """All sizes."""
    rows = []
    for n_assets, n_universes in BATCHES.items():
        rows.append(measure(n_assets, n_universes))
        print(rows[-1], flush=True)
    return rows


def render(results: dict[str, Any]) -> str:
    """Return the Markdown of the results."""
    lines = [
        "# Gradients",
        "",
        f"Machine: {results['machine']}. Made by `python benchmarks/gradients.py`. Float64.",
        "",
        f"Bootstrap resamples (T = {ROWS}), four profiles, `jit(vmap(...))` of the value and of the gradient:",
        "",
        "| assets | universes | value (ms a universe) | gradient (ms) | ratio | compiling: value (s) | gradient (s) |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['assets']} | {row['universes']} | {row['value_ms']:.2f} | {row['gradient_ms']:.2f} | "
        f"{row['ratio']:.2f} | {row['value_compilation']:.0f} | {row['gradient_compilation']:.0f} |"
        for row in results["cost"]
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, and write the page."""
    run_parts(__doc__, {"cost": cost}, RESULTS / "gradients.json", render)


if __name__ == "__main__":
    main()
