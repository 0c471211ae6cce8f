"""How the package builds its records: with keywords, so that each value is named where it is given."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

import jaxalloc

PACKAGE = Path(jaxalloc.__file__).parent
FEW = 2  # fields that may be given by their place

TABLES = {"datasets.py"}  # records that are the rows of a table, written row by row below each other


PATHS = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


@functools.cache
def trees() -> dict[str, ast.Module]:
    """The parsed modules by path within the package; when they are asked for, as every worker collects the tests."""
    return {path: ast.parse((PACKAGE / path).read_text(encoding="utf-8")) for path in PATHS}


def is_record(node: ast.ClassDef) -> bool:
    """Whether a class is a NamedTuple or a dataclass."""
    named = [*node.bases, *(d.func if isinstance(d, ast.Call) else d for d in node.decorator_list)]
    return any(name_of(part) in ("NamedTuple", "dataclass") for part in named)


def name_of(node: ast.expr) -> str:
    """The last part of a dotted name; empty of anything else."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


@functools.cache
def records() -> frozenset[str]:
    """The names of the package's records."""
    classes = (node for tree in trees().values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    return frozenset(node.name for node in classes if is_record(node))


def calls(node: ast.AST, inside: str = "") -> Iterator[tuple[ast.Call, str]]:
    """Every call with the name of what is called; ``cls`` is the class around it, if that is a record."""
    if isinstance(node, ast.ClassDef):
        inside = node.name if is_record(node) else ""
    if isinstance(node, ast.Call):
        name = name_of(node.func)
        yield node, inside if name == "cls" else name
    for child in ast.iter_child_nodes(node):
        yield from calls(child, inside)


def is_packed(call: ast.Call) -> bool:
    """Whether a tuple or list that is written out is unpacked into the call: ``f(*(a, b))``."""
    return any(isinstance(a, ast.Starred) and isinstance(a.value, (ast.Tuple, ast.List)) for a in call.args)


def guilty(tree: ast.AST, names: frozenset[str]) -> list[int]:
    """Lines of the records that are built without naming their fields."""
    return [call.lineno for call, name in calls(tree) if name in names and (len(call.args) > FEW or is_packed(call))]


def packed(tree: ast.AST) -> list[int]:
    """Lines of the calls that a tuple is written out for and unpacked into, whatever is called."""
    return [call.lineno for call, _ in calls(tree) if is_packed(call)]


@functools.cache
def found() -> dict[str, list[int]]:
    """The guilty lines by module."""
    return {path: sorted({*guilty(tree, records()), *packed(tree)}) for path, tree in trees().items()}


@pytest.mark.parametrize("path", [path for path in PATHS if path not in TABLES])
def test_records_are_built_with_keywords(path: str) -> None:
    assert found()[path] == []


def test_positional_records_would_be_seen() -> None:
    code = """
class A(NamedTuple):
    x: int

    @classmethod
    def of(cls): return cls(1, 2, 3)

@dataclasses.dataclass(frozen=True)
class B: ...

A(1, 2); B(1, x=2); C(1, 2, 3); f(*rest)
module.A(1, 2, 3); B(*rest, 1, 2); A(*(1, 2)); f(*[1, 2])
"""
    tree = ast.parse(code)
    names = frozenset(n.name for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and is_record(n))
    assert names == {"A", "B"}
    assert guilty(tree, names) == [6, 12, 12, 12]
    assert packed(tree) == [12, 12]
    assert {"Study", "WalkForward", "History", "Counts", "AllocationConfig"} <= records()
