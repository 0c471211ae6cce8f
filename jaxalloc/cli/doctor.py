"""`jaxalloc doctor`: what jaxalloc runs on, and whether compiled programs are kept from one process to the next."""

from __future__ import annotations

import os
import tempfile
import uuid
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import typer

from jaxalloc.arguments import private
from jaxalloc.arguments.words import counted, reason, unquoted
from jaxalloc.cli import machine, render
from jaxalloc.cli.documents import to_json
from jaxalloc.cli.options import Json, example, expand
from jaxalloc.engine import scalar
from jaxalloc.engine.kept import MOST_BYTES, folder_in_use, folder_of_jax, programs_kept_in
from jaxalloc.engine.making import Stage
from jaxalloc.engine.programs import Registry
from jaxalloc.engine.scheduler import compute_devices

app = typer.Typer(add_completion=False)
FORMAT = 1  # of the document; another number where a reader of this one would err
FAILED = 1
_ELSEWHERE = "name a folder of your own in JAXALLOC_PROGRAMS, or off to keep none"


@app.command(epilog=example("doctor"))
@expand
def doctor(as_json: Json = False) -> None:
    """Show versions, devices and kept programs, and test that a compiled program serves the next process.

    The test compiles a small program, keeps it on disk, loads it from there and compares the results. It fails, with
    exit status 1 and a line that says what to do, if every process has to compile all programs anew.
    """
    found = document()
    if as_json:
        typer.echo(to_json(found), nl=False)
    else:
        _print(found)
    if found["advice"] is not None:
        render.stderr().print(render.plain(f"jaxalloc: error: {found['advice']}"), soft_wrap=True)
        raise typer.Exit(FAILED)


def document() -> dict[str, Any]:
    """Return what there is, and how the test went, as plain values; ``advice`` is None if all is well."""
    folder = folder_in_use()
    kept: dict[str, Any] = {"folder": None, "entries": 0, "bytes": 0, "most_bytes": MOST_BYTES}
    advice = None
    if folder is not None:
        unsafe = folder.objection(make=True)
        sizes = [] if unsafe else folder.sizes()
        kept |= {"folder": str(folder.path), "entries": len(sizes), "bytes": sum(sizes)}
        if unsafe:
            advice = f"programs are not kept in {unquoted(folder.path)}: {unsafe}; {_ELSEWHERE}"
    objection = scalar.objection() if machine.devices()["platform"] == "cpu" else "the device is not a CPU"
    test, failure = _test(None if folder is None or advice is not None else folder.path)
    return {
        "format": FORMAT,
        "versions": machine.versions(),
        "machine": machine.machine(),
        "device": machine.devices(),
        "programs": kept,
        "scalar_kernels": {"used": objection is None, "objection": objection},
        "test": test,
        "advice": advice or failure or _advice_on_jax(),
    }


def _advice_on_jax() -> str | None:
    """What to do where the command line cannot have JAX keep its small programs."""
    objection = None if "JAX_COMPILATION_CACHE_DIR" in os.environ else private.objection(folder_of_jax())
    if objection is None:
        return None
    return (
        f"JAX's small programs are not kept in {unquoted(folder_of_jax())}: {objection}; name a folder "
        "of your own in JAX_COMPILATION_CACHE_DIR"
    )


def _small(x: jax.Array) -> jax.Array:
    return jnp.sin(x) * 2 + jnp.cumsum(x)


def _test(folder: Path | None) -> tuple[dict[str, float | None], str | None]:
    """Compile a program and load it in a second registry, by way of a new folder within the one where programs are.

    Returns:
        The seconds that both took, None for loading where nothing is kept; and what to do if it failed.
    """
    if folder is None:
        with programs_kept_in(None):
            seconds, _, _ = _compiled_and_loaded(loads=False)
        return seconds, None
    try:
        with tempfile.TemporaryDirectory(prefix=".test-", dir=folder) as own, programs_kept_in(own):
            seconds, is_loaded, is_same = _compiled_and_loaded(loads=True)
    except OSError as error:
        seconds, _, _ = _compiled_and_loaded(loads=False)
        return seconds, f"programs cannot be kept in {unquoted(folder)}: {reason(error)}; {_ELSEWHERE}"
    if not is_loaded:
        return seconds, (
            "a kept program does not load again, so that every process compiles all programs: check that jax and "
            f"jaxlib belong together, and that {unquoted(folder)} has room; {_ELSEWHERE}"
        )
    if not is_same:
        return seconds, "a kept program computes something else than when it was compiled: set JAXALLOC_PROGRAMS=off"
    return seconds, None


def _compiled_and_loaded(loads: bool) -> tuple[dict[str, float | None], bool, bool]:
    """Seconds to compile and to load; whether the program was loaded; and whether it then gave the same bits."""
    device, name = compute_devices()[0], f"test_{uuid.uuid4().hex}"  # a name that no cache of JAX's knows
    values, results, statistics = np.arange(64, dtype=np.float32), [], []
    for _ in range(1 + loads):
        registry = Registry()
        call = registry.program(Stage(name=name, function=_small), (values,), device)
        registry.settle()
        results.append(np.asarray(call(jax.device_put(values, device))))
        statistics.append(registry.statistics())
    first, last = statistics[0], statistics[-1]
    seconds = {"compile_seconds": first.compile_seconds, "load_seconds": last.load_seconds if last.loaded else None}
    return seconds, bool(last.loaded), bool(np.array_equal(results[0], results[-1]))


def _print(found: dict[str, Any]) -> None:
    console, test, kept = render.stdout(), found["test"], found["programs"]
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    device, host = found["device"], found["machine"]
    kind = "" if device["kind"] == device["platform"] else f" ({device['kind']})"
    folder = "nowhere, as JAXALLOC_PROGRAMS=off says"
    if kept["folder"] is not None:
        size = f"{kept['bytes'] / 2**20:,.1f} of at most {kept['most_bytes'] / 2**20:,.0f} MiB"
        folder = f"in {unquoted(kept['folder'])}: {counted(kept['entries'], 'program')}, {size}"
    refused = found["scalar_kernels"]["objection"]
    kernels = "scalar kernels, compiled by numba" if refused is None else f"no scalar kernels ({refused})"
    loaded = "not kept" if test["load_seconds"] is None else f"loaded again in {test['load_seconds']:.3f} s"
    for line in (
        versions,
        f"{host['processor']}, {counted(host['cores'], 'core')}, {host['system']}",
        f"{counted(device['count'], 'device')}: {device['platform']}{kind}",
        f"compiled programs are kept {folder}",
        f"many assets on a CPU: {kernels}",
        f"test: a small program compiled in {test['compile_seconds']:.3f} s, {loaded}",
        "all is well" if found["advice"] is None else "see the error",
    ):
        console.print(render.plain(line), soft_wrap=True)
