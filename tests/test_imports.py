"""What importing does and does not do, which way imports run, and what the kernels are made of."""

from __future__ import annotations

import ast
import functools
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import annual, annual_shared, equations
from jax import lax

import jaxalloc
from jaxalloc.kernels.clusters.linkage import linkage_matrix
from jaxalloc.kernels.lanes.backend import Backend
from jaxalloc.kernels.moments.panel import share_panel
from jaxalloc.kernels.moments.shock import Shock
from jaxalloc.portfolios.allocation import solve
from jaxalloc.portfolios.estimates import Given, estimate
from jaxalloc.portfolios.profiles import PROFILES
from jaxalloc.settings.config import COVARIANCES, LINKAGES, AllocationConfig, cast_config

PACKAGE = Path(jaxalloc.__file__).parent
ROOT = Path(__file__).parents[1]

# One way through: a room imports only from the rooms before it; those of a set do not know each other.
ORDER: tuple[frozenset[str], ...] = tuple(
    map(
        frozenset,
        (
            {"_version"},
            {"arguments"},
            {"settings"},
            {"markets", "storage"},
            {"kernels"},
            {"universes", "portfolios"},
            {"engine"},
            {"studies"},
            {"backtest"},
            {"figures"},
            {"report"},
            {"skfolio", "datasets"},
            {"cli"},
            {"__main__", "__init__"},
        ),
    )
)
# What an import inside a function may wait for: heavy libraries, and modules that are not there on every system
LATE = {
    *("pyarrow", "plotly", "jinja2", "scipy", "jaxopt", "filelock", "distributed", "arch", "skfolio", "sklearn"),
    *("openpyxl", "jaxlib.version", "resource"),
    "jaxalloc.kernels.scalar",  # numba
}
LATE_FOR_JAX = {"cli": {"jaxalloc.cli.options"}}  # the command line answers a wrong word without loading JAX

ARRAYS_ONLY = {"arguments", "settings", "kernels", "engine"}  # no pandas

IMPORTS = """
import json, sys
import jax, pandas
modules, values = set(sys.modules), dict(jax.config.values)
import jaxalloc
for name in jaxalloc.__all__:
    getattr(jaxalloc, name)
from jax._src import xla_bridge
print(json.dumps({
    "modules": sorted({name.split(".")[0] for name in set(sys.modules) - modules}),
    "settings": [name for name in values if values[name] != jax.config.values[name]],
    "backend": xla_bridge.backends_are_initialized(),
}))
"""


@pytest.fixture(scope="module")
def fresh_import() -> dict[str, Any]:
    """What a fresh interpreter, in which every warning is an error, has to say about importing everything public."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", IMPORTS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_importing_changes_no_jax_setting(fresh_import: dict[str, Any]) -> None:
    assert fresh_import["settings"] == []


def test_importing_touches_no_device(fresh_import: dict[str, Any]) -> None:
    assert fresh_import["backend"] is False


def test_importing_loads_no_heavy_library(fresh_import: dict[str, Any]) -> None:
    assert not set(fresh_import["modules"]) & {
        "jaxopt",
        "pyarrow",
        "plotly",
        "jinja2",
        "typer",
        "rich",
        "dask",
        "cvxpy",
        "sklearn",
        "numba",
        "distributed",
    }


def test_bare_import_loads_next_to_nothing() -> None:
    code = "import sys, jaxalloc; print(sorted(m for m in sys.modules if m.startswith(('jaxalloc', 'jax.', 'pandas'))))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    names = ("", "._version", ".arguments", ".arguments.errors", ".arguments.processes")  # no library among them
    assert done.stdout.strip() == str([f"jaxalloc{name}" for name in names])


def test_public_names_are_there_and_others_are_not() -> None:
    wanted = {"AllocationConfig", "Allocation", "Status", "InputError", "allocate", "allocate_batch", "read_returns"}
    assert wanted <= set(dir(jaxalloc)) == set(jaxalloc.__all__)
    with pytest.raises(AttributeError, match="no attribute 'alocate'"):
        _ = jaxalloc.alocate  # type: ignore[attr-defined]


# Which way imports run


def dotted(path: Path) -> str:
    """The name of a module within the package; a folder's own is called by the folder's name."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {dotted(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@functools.cache
def trees() -> dict[str, ast.Module]:
    """The parsed modules by dotted name; when they are asked for, as every worker collects the tests."""
    return {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def imported(tree: ast.AST) -> set[str]:
    """Full names of the modules imported anywhere in the tree, but for those that only a type checker sees."""
    names = set()
    nodes = [tree]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            nodes += node.orelse
            continue
        nodes += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names.add(str(node.module))
            if node.module == "jaxalloc":
                names |= {f"jaxalloc.{alias.name}" for alias in node.names}
    return names


def room(module: str) -> str:
    """The folder, or module beside the folders, that a dotted name within the package belongs to."""
    return module.split(".")[0]


def test_every_module_is_in_a_room() -> None:
    assert {room(name) for name in trees()} == set().union(*ORDER)


def test_imports_run_one_way() -> None:
    rank = {name: place for place, names in enumerate(ORDER) for name in names}
    wrong = []
    for name, tree in trees().items():
        for module in imported(tree):
            parts = module.split(".")
            if parts[0] != "jaxalloc" or len(parts) == 1 or parts[1] not in rank or parts[1] == room(name):
                continue
            if rank[parts[1]] >= rank[room(name)]:
                wrong.append(f"{name} imports {module}")
    assert wrong == []


def module_graph(modules: dict[str, ast.Module]) -> dict[str, set[str]]:
    """The modules of the package that each module names, those for a type checker too; not the package around it."""
    graph = {}
    for name, tree in modules.items():
        named = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                named |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                # a name may be a module; the folder that it is taken from is loaded too
                named |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
        graph[name] = {module.removeprefix("jaxalloc.") for module in named} & modules.keys() - {name}
    return graph


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """The groups of modules that name each other, directly or by way of others."""
    reached = {}
    for start in graph:
        seen, waiting = set(), [start]
        while waiting:
            new = graph[waiting.pop()] - seen
            seen |= new
            waiting += new
        reached[start] = seen
    groups = ({other for other in reached[name] if name in reached[other]} for name in graph if name in reached[name])
    return [set(group) for group in sorted({tuple(sorted(group)) for group in groups})]


def late_imports(tree: ast.Module) -> set[str]:
    """Modules that are imported inside functions."""
    inside = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    nodes = [node for function in inside for node in ast.walk(function)]
    named = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return named | {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}


def test_an_import_inside_a_function_is_of_a_heavy_library() -> None:
    for name, tree in trees().items():
        if name == "__init__":  # loads the public names where they are first used
            continue
        late = late_imports(tree) - LATE_FOR_JAX.get(name, set())
        assert {module for module in late if module.split(".")[0] not in LATE and module not in LATE} == set(), name
    assert late_imports(ast.parse("def f():\n    from jaxalloc.studies import tables\n")) == {"jaxalloc.studies"}


def test_no_modules_import_each_other() -> None:
    assert circles(module_graph(trees())) == []


def test_a_circle_would_be_seen() -> None:
    late = "def f():\n    from jaxalloc.b.c import x\n"
    typed = "if TYPE_CHECKING:\n    from jaxalloc import a\n"
    modules = {
        "a": ast.parse(late),
        "b.c": ast.parse("import jaxalloc.d"),
        "d": ast.parse(typed),
        "e": ast.parse(typed),
    }
    assert circles(module_graph(modules)) == [{"a", "b.c", "d"}]
    folder = {
        "f": ast.parse("from jaxalloc.f.g import x"),
        "f.g": ast.parse("from jaxalloc.f import h"),
        "f.h": ast.parse(""),
    }
    assert circles(module_graph(folder)) == [{"f", "f.g"}]


def test_an_import_against_the_order_would_be_seen() -> None:
    later = ast.parse("def f():\n    from jaxalloc.studies.tables import weights_frame\n")
    assert imported(later) == {"jaxalloc.studies.tables"}
    for_types = ast.parse("if TYPE_CHECKING:\n    import a\nelse:\n    import b\n")
    assert imported(for_types) == {"b"}


@pytest.mark.parametrize("name", [name for name in MODULES if room(name) in ARRAYS_ONLY])
def test_kernels_see_arrays_only(name: str) -> None:
    assert not {module.split(".")[0] for module in imported(trees()[name])} & {"pandas", "pyarrow", "scipy"}


def test_jaxopt_is_named_in_at_most_one_module() -> None:
    users = {name for name, tree in trees().items() if any(m.split(".")[0] == "jaxopt" for m in imported(tree))}
    assert len(users) <= 1


OUTSIDE = {path.stem for path in [*(ROOT / "benchmarks").iterdir(), *(ROOT / "tests" / "oracle").iterdir()]}


def test_the_package_knows_no_benchmark_no_rival_and_no_oracle() -> None:
    outside = {name for name in OUTSIDE if name.isidentifier()} | {"benchmarks", "tests"}
    assert {"rivals", "oracles", "panels"} <= outside
    for name, tree in trees().items():
        assert not {module.split(".")[0] for module in imported(tree)} & outside, name


# What the kernels are made of

LAPACK = ("cholesky", "lu", "eig", "svd", "qr", "triangular_solve", "householder", "schur", "tridiagonal", "hessenberg")


def kernels(backend: Backend) -> dict[str, Any]:
    """Jaxprs of the kernels, 60 assets in up to 60 clusters, so that no size takes a short cut."""
    n_rows, n = 30, 60
    returns, c, a = jnp.zeros((n_rows, n)), jnp.ones(n_rows), jnp.ones(n, bool)
    own = functools.partial(estimate, backend=backend)
    made = {}
    cuts = itertools.cycle(
        (("distance", "correlation", False), ("maxclust", "absolute", False), ("silhouette", "absolute", True))
    )
    for linkage, (criterion, distance, detone) in zip(LINKAGES, cuts, strict=False):
        config = AllocationConfig(linkage=linkage, criterion=criterion, distance=distance, detone=detone)
        config = cast_config(config, returns.dtype)
        made[f"estimate {linkage} {criterion}"] = jax.make_jaxpr(own)(returns, config, c, a, Given())
        made[f"linkage_matrix {linkage}"] = jax.make_jaxpr(lambda d, how=linkage: linkage_matrix(d, how))(
            jnp.zeros((n, n))
        )
    shock, axes = Shock(jnp.ones(n), jnp.float32(0.5), jnp.zeros(n)), (None, None, 0, 0, None)
    panels = {budget: share_panel(np.asarray(returns), budget) for budget in (0, 2**29)}
    for choice in COVARIANCES:
        chosen = config.replace(covariance=choice)
        for budget, panel in panels.items():
            made[f"observe_shared {budget} {choice}, shocked"] = jax.make_jaxpr(jax.vmap(annual_shared, axes))(
                panel, chosen, c[None, :], a[None, :], shock
            )
        made[f"observe {choice}, shocked"] = jax.make_jaxpr(annual)(returns, chosen, c, a, Given(), shock)
    shapes = jax.eval_shape(own, returns, config, c, a, Given())
    made["solve"] = jax.make_jaxpr(lambda e, s: solve(e, s, backend))(shapes, config)
    for linkage in LINKAGES:
        direct = config.replace(profiles=tuple(PROFILES) if linkage == "average" else ("hrp", "herc"), linkage=linkage)
        made[f"solve over assets {linkage}"] = jax.make_jaxpr(lambda e, s: solve(e, s, backend))(shapes, direct)
    return {f"{name}, {backend.value}": jaxpr for name, jaxpr in made.items()}


@pytest.fixture(scope="module")
def kernel_equations() -> dict[str, list[Any]]:
    made = {name: jaxpr for backend in Backend for name, jaxpr in kernels(backend).items()}
    return {name: list(equations(jaxpr.jaxpr)) for name, jaxpr in made.items()}


def test_no_kernel_calls_lapack(kernel_equations: dict[str, list[Any]]) -> None:
    for name, found in kernel_equations.items():
        primitives = {equation.primitive.name for equation in found}
        assert "mul" in primitives or name.startswith("linkage_matrix")
        guilty = {p for p in primitives if p.startswith(LAPACK)}
        assert not guilty | {p for p in primitives if "callback" in p or "custom_call" in p}, name


def test_every_product_names_its_precision(kernel_equations: dict[str, list[Any]]) -> None:
    products = 0
    for name, found in kernel_equations.items():
        for equation in found:
            if equation.primitive.name in ("dot_general", "conv_general_dilated"):
                precision = equation.params["precision"]
                products += 1
                assert precision in (lax.Precision.HIGHEST, (lax.Precision.HIGHEST,) * 2), f"{name}: {equation}"
    assert products > 10


def test_lapack_and_bare_products_would_be_seen() -> None:
    def guilty(x: jax.Array) -> jax.Array:
        return lax.fori_loop(0, 2, lambda _, y: jnp.linalg.solve(x, x @ y), x)

    names = {equation.primitive.name for equation in equations(jax.make_jaxpr(guilty)(jnp.eye(3)).jaxpr)}
    assert {"lu", "dot_general"} <= names
    bare = jax.make_jaxpr(lambda x: x @ x)(jnp.eye(3)).jaxpr.eqns[0]
    assert bare.params["precision"] not in (lax.Precision.HIGHEST, (lax.Precision.HIGHEST,) * 2)


def test_kernels_trace_with_int32_and_float32_alone(kernel_equations: dict[str, list[Any]]) -> None:
    for name, found in kernel_equations.items():
        kinds = {v.aval.dtype for e in found for v in e.outvars if hasattr(v.aval, "dtype")}
        assert {np.dtype(kind) for kind in kinds} <= {np.dtype(t) for t in ("float32", "int32", "bool", "uint32")}, name


def test_stages_have_names(kernel_equations: dict[str, list[Any]]) -> None:
    stacks = {str(e.source_info.name_stack) for found in kernel_equations.values() for e in found}
    names = {part for stack in stacks for part in stack.split("/")}
    assert {
        "moments",
        "clusters",
        "antifragility",
        "within_clusters",
        "asset_weights",
        "lead_assets",
        "statistics",
    } <= names
