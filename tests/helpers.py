"""What several test files share: tolerances, compiled kernels, a count of compilations, and walks through a jaxpr."""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.monitoring
import numpy as np
import oracles
import pandas as pd
import pytest

from jaxalloc.engine import programs
from jaxalloc.engine.calls import Calls
from jaxalloc.engine.problems import Problems
from jaxalloc.engine.scheduler import Engine
from jaxalloc.engine.solving import Batch, Solving
from jaxalloc.kernels.lanes.compiling import Emitter, compiler_options
from jaxalloc.portfolios.estimates import Estimates, Given, annual_estimates, observe, observe_shared
from jaxalloc.portfolios.profiles import PROFILES
from jaxalloc.portfolios.result import RESULT_FIELDS, Allocation
from jaxalloc.settings.config import AllocationConfig
from jaxalloc.settings.status import Status

Array = np.ndarray


@dataclass(frozen=True)
class Tolerance:
    """What a precision promises.

    Attributes:
        eps: unit in the last place of 1.
        gap: optimality gap of the accuracy table.
        total: error of a sum that should be 1.
        rtol: relative error of plain arithmetic on some hundred numbers.
        weights: error of a portfolio weight, where the optimum is unique and well conditioned.
    """

    eps: float
    gap: float
    total: float
    rtol: float
    weights: float


TOLERANCES = {
    np.float32: Tolerance(float(np.finfo(np.float32).eps), 1e-5, 1e-6, 2e-5, 2e-3),
    np.float64: Tolerance(float(np.finfo(np.float64).eps), 1e-9, 1e-12, 1e-11, 1e-6),
}
# what every command says of a file of business days, where it says nothing else
RETURNS_NOTE = "note: Took the numbers for returns: they have both signs and are small.\n"
DAYS_NOTE = RETURNS_NOTE + "note: Annualised by 252 rows a year: the dates are business days.\n"
ULPS = 4  # how far over a bound a weight may be


@dataclass
class Compilations:
    """How many programs were made inside a `count_compilations` block."""

    before: int = 0
    count: int = field(default=-1)


_COMPILED: list[str] = []
_SEEN: set[Any] = set()


def _listen(event: str, _duration: float, **_: Any) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        _COMPILED.append(event)


def _look(wanted: Any) -> Any:
    _SEEN.add(wanted.key)
    return _make(wanted)


jax.monitoring.register_event_duration_secs_listener(_listen)
_registry: Any = programs._OF_PROCESS
_make, _registry._make = _registry._make, _look


@contextmanager
def count_compilations() -> Iterator[Compilations]:
    """Count the programs compiled in the block, or loaded for the first time; read ``count`` after it.

    A program that was dropped, because there were too many, and is loaded once more does not count. What is still being
    made when the block begins belongs to what came before.
    """

    def made() -> int:
        programs.settle()
        return len(_COMPILED) + len(_SEEN) - programs.statistics().compiled

    seen = Compilations(made())
    yield seen
    seen.count = made() - seen.before


def make_every_step(dtype: Any, *sizes: int) -> None:
    """Make the programs of all steps of the solvers, for problems of these canonical sizes.

    Which steps a universe wants follows from its numbers. What tests count shall not depend on them.
    """
    with jax.enable_x64(dtype is np.float64):
        config = AllocationConfig(profiles=("min_variance", "risk_parity"))
        work = Engine((9, 8), config).works[0]
        calls = Calls(work.device, threading.Event())
        solutions: Any = None
        none = Problems(calls, work, 0)
        solving = Solving(calls, work, none, none, solutions, lambda _: None)
        one = np.zeros(1, np.int32)
        for size in sizes:
            for name in config.profiles:
                solver = PROFILES[name].solver
                assert solver is not None
                batch = Batch(solver=solver, size=size, over_assets=False, places=(0,), slot=one, profile=one, rows=one)
                for number in range(1, len(solver.steps(size)) + 1):
                    solving.prefetch(batch, number)
        programs.settle()


def compiled(kernel: Callable[..., Any], optimised: bool = False) -> Any:
    """``jit(kernel)`` with the options of XLA for the programs of most stages.

    Unless optimised, LLVM leaves out what takes most of the time to compile a kernel, and vectorises nothing. Kernels
    whose accuracy stands in a table are optimised, and those of whose bits a test says that they depend on nothing
    else.
    """
    level = {"xla_backend_optimization_level": 3 if optimised else 0} if jax.default_backend() == "cpu" else {}
    return jax.jit(kernel, compiler_options=compiler_options(Emitter.ELEMENTS) | level)


@functools.cache
def batched(kernel: Callable[..., Any], *, axes: Any = 0, optimised: bool = False, **static: Any) -> Callable[..., Any]:
    """``jit(vmap(kernel))`` with keywords fixed: one object for the same arguments, so that tests share programs."""
    mapped = jax.vmap(functools.partial(kernel, **static) if static else kernel, in_axes=axes)
    return compiled(mapped, optimised)


@functools.cache
def jitted(kernel: Callable[..., Any], *, optimised: bool = False, **static: Any) -> Callable[..., Any]:
    """``jit(kernel)`` with keywords fixed; the same object for the same arguments."""
    return compiled(functools.partial(kernel, **static) if static else kernel, optimised)


def annual(x: Any, config: Any, weights: Any, mask: Any, given: Given, shock: Any = None) -> Estimates:
    """Annual estimates of a universe with returns of its own, before it has clusters."""
    return annual_estimates(observe(x, config, weights, mask, given), config, given, shock)


def annual_shared(panel: Any, config: Any, weights: Any, mask: Any, shock: Any = None) -> Estimates:
    """Likewise of a universe of a shared panel."""
    return annual_estimates(observe_shared(panel, config, weights, mask), config, Given(), shock)


def host(tree: Any) -> Any:
    """Every leaf as a NumPy array."""
    return jax.tree.map(np.asarray, tree)


def cast(dtype: type[np.floating], *arrays: Any) -> tuple[Array, ...]:
    """The arrays in the precision of the test."""
    return tuple(np.asarray(array, dtype) for array in arrays)


def equations(jaxpr: Any) -> Iterator[Any]:
    """Every equation of a jaxpr, those inside loops, branches and calls too."""
    for equation in jaxpr.eqns:
        yield equation
        for parameter in equation.params.values():
            for inner in parameter if isinstance(parameter, (tuple, list)) else (parameter,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from equations(inner)


# ---------------------------------------------------------------------------------------------------------------------
# Whole portfolios, at the house shape: every other shape compiles for seconds
# ---------------------------------------------------------------------------------------------------------------------

T, N = 60, 12
# every choice another one than the default
OTHER_CHOICES = AllocationConfig(
    profiles=("barbell", "max_sharpe"), linkage="complete", criterion="maxclust", distance="absolute", max_clusters=6
)


def market(seed: Any, n_clusters: int, **settings: Any) -> Array:
    """Returns (T, N) that are the same numbers in both precisions."""
    x = oracles.random_market(np.random.default_rng(seed), T, N, n_clusters, **settings)
    return x.astype(np.float32).astype(np.float64)


def bootstrap_counts(rng: np.random.Generator) -> Array:
    return np.bincount(rng.integers(T, size=T), minlength=T).astype(float)


@functools.cache
def universes(count: int = 160) -> tuple[Array, Array, Array]:
    """(returns (B, T, N), weights (B, T), masks (B, N)): 1 to 12 clusters, counts, fractions, windows, masks.

    What is not in use is NaN. Among them are constant columns, falling markets, and INVALID universes of each kind.
    """
    returns, weights, masks = np.empty((count, T, N)), np.ones((count, T)), np.ones((count, N), bool)
    for i in range(count):
        rng = np.random.default_rng([31, i])
        inside, drift = rng.uniform(0.7, 0.9), -1.5 if i % 16 == 5 else 0.08
        returns[i] = market([32, i], 1 + i % 12, inside=inside, drift=drift)
        kind = i // 12 % 4
        if kind in (1, 3):
            weights[i] = bootstrap_counts(rng)
        elif kind == 2:
            weights[i] = np.round(rng.uniform(0, 2, T) * 64) / 64 * (rng.uniform(size=T) < 0.8)
        if i % 16 == 3:
            weights[i] = np.arange(T) >= 40  # a window of 20 rows
        if kind == 3:
            masks[i, rng.permutation(N)[: int(rng.integers(1, N))]] = False
        if i % 10 == 7:
            returns[i, :, int(rng.integers(N))] = np.float32(0.001)
        returns[i][weights[i] == 0] = np.nan
        returns[i][:, ~masks[i]] = np.nan
        if i % 32 == 30:
            spoil(i // 32 % 4, returns[i], weights[i], masks[i])
    return returns, weights, masks


def spoil(how: int, returns: Array, weights: Array, mask: Array) -> None:
    """Make a universe INVALID in place, in one of five ways; the oracle does not know the last."""
    row, column = int(np.argmax(weights > 0)), int(np.argmax(mask))
    if how == 0:
        returns[row, column] = np.inf
    elif how == 1:
        returns[row, column] = np.nan
    elif how == 2:
        weights[:] = 0
    elif how == 3:
        mask[:] = False
    else:
        weights[row] = -1


def one(batch: Allocation, i: int) -> Allocation:
    """Universe i of a batch."""
    return jax.tree.map(lambda leaf: leaf[i], batch)


def bits(status: Any) -> set[str]:
    """Names of the bits that are set."""
    return {str(bit.name) for bit in Status if int(status) & bit.value}


def assert_invalid(found: Allocation, where: str = "") -> None:
    """An INVALID universe: the number 1 alone as status, NaN, -1, 0."""
    assert (found.status == Status.INVALID.value).all(), where
    for name in ("weights", "cluster_weights", "antifragility", "volatility", "expected_return", "risk_contributions"):
        assert np.isnan(getattr(found, name)).all(), f"{where}: {name}"
    for name in ("asset_bound", "cluster_bound", "optimality_gap"):
        assert np.isnan(getattr(found, name)).all(), f"{where}: {name}"
    assert (found.cluster_labels == -1).all(), where
    assert (found.lead_assets == -1).all(), where
    assert found.n_clusters == 0, where
    assert not found.aggressors.any(), where


def assert_promises(found: Allocation, config: AllocationConfig, tol: Tolerance, where: str = "") -> None:
    """What holds for any valid universe, whatever its data; the bounds are the oracle's for the labels found."""
    for name in RESULT_FIELDS:
        assert np.isfinite(getattr(found, name)).all(), f"{where}: {name}"
    labels, n_clusters = found.cluster_labels, int(found.n_clusters)
    active = labels >= 0
    np.testing.assert_array_equal(labels[active], oracles.relabel(labels[active]), where)
    assert labels.max() + 1 == n_clusters >= 1, where
    sizes = np.bincount(labels[active], minlength=n_clusters)
    assert not (found.antifragility[~active]).any(), where
    for p, profile in enumerate(config.profiles):
        told = f"{where}: {profile}"
        flags, x, w = bits(found.status[p]), found.weights[p].astype(float), found.cluster_weights[p].astype(float)
        assert "INVALID" not in flags, told
        assert (x >= 0).all(), told
        assert not x[~active].any(), told
        assert abs(math.fsum(x) - 1) <= tol.total, f"{told}: sum {math.fsum(x)}"
        core, share = np.arange(n_clusters), 1.0
        if profile == "barbell" and found.aggressors.any():
            core = np.setdiff1d(core, labels[found.aggressors])
            share = 1 - float(config.aggressor_weight)
        caps = [float(getattr(config, name)) for name in ("cluster_cap", "asset_cap", "slack")]
        upper, beta, kappa, relaxed = oracles.bounds(sizes[core], int(sizes[core].sum()), *caps)
        assert found.asset_bound[p] == pytest.approx(share * beta, rel=tol.rtol), told
        assert found.cluster_bound[p] == pytest.approx(share * kappa, rel=tol.rtol), told
        over = 1 + ULPS * tol.eps
        members = np.isin(labels, core)
        assert (x[members] <= share * beta * over).all(), f"{told}: asset {x[members].max()} over {share * beta}"
        totals = np.array([math.fsum(x[labels == k]) for k in range(n_clusters)])
        assert (totals[core] <= share * upper * over).all(), f"{told}: clusters {totals[core] / (share * upper)}"
        np.testing.assert_allclose(w[:n_clusters], totals, atol=8 * tol.eps, err_msg=told)
        assert not w[n_clusters:].any(), told
        assert abs(found.risk_contributions[p].astype(float).sum() - 1) <= 100 * tol.total, told
        assert ("CLUSTER_CAP_RELAXED" in flags) == relaxed["cluster_cap_relaxed"], told
        held = oracles.bounds(sizes[core], int(sizes[core].sum()), *caps[:2], 1.0)[0].sum()
        if caps[2] > 1 or held > 1.001:  # with a slack of 1 a rounding decides whether the bounds sum to 1
            assert ("ASSET_BOUND_RAISED" in flags) == relaxed["asset_bound_raised"], told
        leads = found.lead_assets[p]
        assert (leads[n_clusters:] == -1).all(), told
        assert (labels[leads[:n_clusters]] == np.arange(n_clusters)).all(), told
        for k, lead in enumerate(leads[:n_clusters]):
            assert x[lead] == x[labels == k].max(), f"{told}: lead of cluster {k}"


def core_weights(found: Allocation, p: int, problem: oracles.Problem, config: AllocationConfig) -> Array:
    """The weights that solve Layer 1's problem: the cluster weights, those of a barbell's core as fractions of it."""
    w = found.cluster_weights[p].astype(float)[problem.clusters]
    sleeve = config.profiles[p] == "barbell" and found.aggressors.any()
    return w / (1 - float(config.aggressor_weight)) if sleeve else w


def assert_as_oracle(
    found: Allocation, expected: oracles.Allocation, config: AllocationConfig, tol: Tolerance, where: str = ""
) -> None:
    """Everything `allocate` returns, against the oracle's; weights by their gap and, in float64, to 1e-6."""
    if any("INVALID" in flags for flags in expected.status.values()):
        assert_invalid(found, where)
        return
    exact = tol.eps < 1e-10
    assert_promises(found, config, tol, where)
    np.testing.assert_array_equal(found.cluster_labels, expected.labels, where)
    np.testing.assert_array_equal(found.aggressors, expected.aggressors, where)
    np.testing.assert_allclose(found.antifragility, expected.antifragility, atol=1e3 * tol.rtol, err_msg=where)
    for p, profile in enumerate(config.profiles):
        told = f"{where}: {profile}"
        problem = expected.problems[profile]
        assert bits(found.status[p]) == expected.status[profile], told
        w, x = core_weights(found, p, problem, config), found.weights[p].astype(float)
        gap, floor = problem.gap(w, tol.eps), problem.floor(w, tol.eps)
        assert gap <= max(tol.gap, floor), f"{told}: gap {gap:.2e}, floor {floor:.2e}"
        assert abs(found.optimality_gap[p] - max(gap, 0)) <= max(tol.gap, 4 * floor), told
        tilted = problem.kind == "max_sharpe" or floor > 1e3 * tol.eps  # weights then follow from the data less firmly
        np.testing.assert_allclose(
            x, expected.weights[profile], atol=tol.weights * (1 if exact or not tilted else 20), err_msg=told
        )
        # Layer 2 given Layer 1's answer, whether or not that is unique
        of_core = np.zeros(expected.n_clusters)
        of_core[problem.clusters] = w
        shared = oracles.asset_weights(of_core, expected.v, expected.labels[expected.active], problem.beta)
        outside = ~np.isin(expected.labels[expected.active], problem.clusters)
        scale = 1.0 if not outside.any() else 1 - float(config.aggressor_weight)
        inside = expected.active[~outside]
        np.testing.assert_allclose(x[inside], scale * shared[~outside], atol=50 * tol.rtol, err_msg=told)
        variance = x[expected.active] @ expected.covariance @ x[expected.active]
        assert found.volatility[p] == pytest.approx(np.sqrt(max(variance, 0)), rel=1e2 * tol.rtol), told
        mean = expected.mean @ x[expected.active]
        assert found.expected_return[p] == pytest.approx(mean, abs=tol.rtol * np.abs(expected.mean).max()), told
        marginal = x[expected.active] * (expected.covariance @ x[expected.active])
        np.testing.assert_allclose(
            found.risk_contributions[p][expected.active], marginal / variance, atol=1e2 * tol.rtol, err_msg=told
        )
        leads = expected.lead_assets[profile]
        for k in range(expected.n_clusters):
            members = np.flatnonzero(expected.labels == k)
            rivals = np.sort(expected.weights[profile][members])[::-1]
            if len(rivals) == 1 or rivals[0] - rivals[1] > 50 * tol.rtol:
                assert found.lead_assets[p][k] == leads[k], f"{told}: lead of cluster {k}"
            elif not rivals[0]:  # of members without weight, the first; of aggressors' clusters, the aggressor
                assert found.lead_assets[p][k] == leads[k], f"{told}: lead of empty cluster {k}"


def pick(batch: Allocation, index: Any) -> Allocation:
    """Some universes of a batch."""
    return jax.tree.map(lambda leaf: leaf[index], batch)


def same_bits(a: Allocation, b: Allocation) -> list[str]:
    """Names of the fields that differ in any bit."""
    return [name for name in RESULT_FIELDS if getattr(a, name).tobytes() != getattr(b, name).tobytes()]


@functools.cache
def _caller(at: Any) -> Any:
    from numba import njit

    return njit(lambda address, arguments: at(address, arguments))


def call_kernel(kernel: Any, *arguments: Any) -> Any:
    """Call a separate kernel of numba, which has no way in from Python, with arguments of float64."""
    return _caller(kernel.at)(kernel.version(np.float64).address(), arguments)


def check_schema(found: Any, schema: Any, where: str = "document") -> None:
    """A dictionary has these keys in this order, a list any number of such items, a value one of its types."""
    if isinstance(schema, dict):
        assert list(found) == list(schema), where
        for key, part in schema.items():
            check_schema(found[key], part, f"{where}.{key}")
    elif isinstance(schema, list):
        for number, item in enumerate(found):
            check_schema(item, schema[0], f"{where}[{number}]")
    else:
        assert type(found) in (schema if isinstance(schema, tuple) else (schema,)), where


def market_on_a_terminal(market: pd.DataFrame, folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """Make the folder the current one, with the market as market.csv, on a terminal of 80 columns without colours."""
    patch.chdir(folder)
    patch.setenv("COLUMNS", "80")
    for name in ("FORCE_COLOR", "JAXALLOC_TRACEBACK"):
        patch.delenv(name, raising=False)
    path = folder / "market.csv"
    market.to_csv(path)
    return path


# Places where a study must not be written: each is made in an empty folder, and its path returned


def make_file(folder: Path) -> Path:
    (folder / "study").write_text("mine")
    return folder / "study"


def make_full_folder(folder: Path) -> Path:
    (folder / "study").mkdir()
    (folder / "study/mine").write_text("mine")
    return folder / "study"


def make_link(folder: Path) -> Path:
    (folder / "link").symlink_to(make_full_folder(folder))
    return folder / "link"


def make_file_with_line_break(folder: Path) -> Path:
    (folder / "a\nb\u2028").write_text("mine")
    return folder / "a\nb\u2028"


def make_path_through_file(folder: Path) -> Path:
    return make_file(folder) / "below"
