"""The examples in docstrings do what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import jaxalloc
import jaxalloc.backtest

MODULES = sorted(
    module.name
    for package in (jaxalloc, jaxalloc.backtest)
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
    if module.name not in ("jaxalloc.__main__", "jaxalloc.demo")
)


@pytest.mark.parametrize("name", MODULES)
def test_doctests(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0
