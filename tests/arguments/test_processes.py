"""A process forked after JAX has run is told to spawn; each case is a process of its own, with a limit of time."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")

SCRIPT = """
import multiprocessing, sys, warnings
warnings.simplefilter("ignore")  # JAX's own, that to fork is unwise
import numpy as np
import jaxalloc as ja

market = ja.datasets.synthetic_market(n_assets=4, n_observations=40)
config = ja.AllocationConfig(profiles=("equal_weight",))
entries = {
    "allocate": lambda: ja.allocate(market, config),
    "array": lambda: ja.allocate(market.to_numpy(), config),
    "allocate_batch": lambda: ja.allocate_batch(market, config, np.ones((1, 40))),
    "run_study": lambda: ja.run_study(market, config=config),
    "walk_forward": lambda: ja.walk_forward(market, config, window=20, step=10),
}

def child(name, answers):
    try:
        answers.put(f"{name}: {type(entries[name]()).__name__}")
    except Exception as error:
        answers.put(f"{name}: {type(error).__name__}: {error}")

if sys.argv[1] == "after":
    import jax.numpy as jnp
    jnp.ones(3).sum().block_until_ready()
context = multiprocessing.get_context("fork")
answers = context.Queue()
for name in entries if sys.argv[1] == "after" else ["array"]:
    process = context.Process(target=child, args=(name, answers), daemon=True)
    process.start()
    try:
        print(answers.get(timeout=float(sys.argv[2])), flush=True)
    except Exception as error:
        print(f"{name}: hangs", flush=True)
        process.kill()
"""


def run(when: str, seconds: int) -> list[str]:
    command = [sys.executable, "-c", SCRIPT, when, str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_after_jax_has_run_every_entry_says_spawn() -> None:
    lines = run("after", 30)
    assert [line.split(":")[0] for line in lines] == [
        "allocate",
        "array",
        "allocate_batch",
        "run_study",
        "walk_forward",
    ]
    for line in lines:
        assert "InputError: this process was forked after JAX had run" in line
        assert "multiprocessing.get_context('spawn')" in line


def test_before_jax_has_run_a_fork_allocates() -> None:
    assert run("before", 300) == ["array: Allocation"]
