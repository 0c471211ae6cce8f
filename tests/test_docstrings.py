"""The examples in docstrings do what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import jaxalloc

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(jaxalloc.__path__, "jaxalloc.")
    if module.name not in ("jaxalloc.__main__", "jaxalloc.cli.demo")
)


@pytest.mark.parametrize("name", MODULES)
def test_doctests(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0
